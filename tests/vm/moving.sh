#!/usr/bin/env bash
# docs/moving.md, done as it says: two guests that begin with the kernel's DRBD, move to rdb one by one, and back.
#
#   moving.sh BINARIES
#
#   BINARIES    directory with rdbd and rdbadm
#
# Prints a line a step. Status 0 if all were as the page says, and both disks are equal at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binaries=${1:?usage: moving.sh BINARIES}
area=$(((256 << 20) - (1 << 20)))
work=$(mktemp -d "${TMPDIR:-/var/tmp}/rdb-moving.XXXXXX")
pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
# Two at once must not build the image at once.
"$here/build.sh" "${RDB_VM_DIR:-${CARGO_TARGET_DIR:-$here/../../target}/vm}"
for node in alice bob; do
    truncate -s 256M "$work/$node.disk"
    { echo "node=$node"; cat "$here/moving-job.sh"; } >"$work/$node.job"
    "$here/boot.sh" -t "${RDB_VM_LIMIT:-540}" -d "$work/$node.disk" -l "$work/link" -f "$binaries/rdbd" -f "$binaries/rdbadm" \
        -f "$here/../../docs/moving.md:/page.md" -f "$here/../cluster/page.sh:/page.sh" "$work/$node.job" >"$work/$node.out" 2>&1 &
    pids+=($!)
    for _ in $(seq 600); do [ ! -e "$work/link" ] || break; sleep 0.1; done
done
tail -f --pid="${pids[0]}" -n +1 "$work/alice.out" &
status=0
wait "${pids[0]}" || status=$?
[ $status = 0 ] || { echo "--- bob"; tail -n 40 "$work/bob.out"; exit $status; }
wait "${pids[1]}" || { echo "bob ended with $?"; cat "$work/bob.out"; exit 1; }
cmp -n $area "$work/alice.disk" "$work/bob.disk"
echo "ok    the disks are equal"
