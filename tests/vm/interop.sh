#!/usr/bin/env bash
# The kernel's DRBD 8.4.11 and rdb as each other's peer: a table of scenarios, each of which ends
# with both disks' data areas compared byte for byte, with each other and with what was written.
#
#   interop.sh [-q] [-o PATTERN] [-s NUMBER] [-m MINUTES] [-k DIR] [BINARIES]
#
#   -q          the short form: the first meeting, writes, resync, crashes, for protocol C alone
#   -s NUMBER   begin with the scenario of this number (the first two are always run)
#   -m MINUTES  how long the mixed load with role switches goes on (default 3; a sixth with -q)
#   -o PATTERN  only scenarios whose name matches (an extended regular expression)
#   -k DIR      keep what explains a failure there (default: ${TMPDIR:-/var/tmp}/rdb-interop.failed)
#   BINARIES    directory with rdbd and rdbadm (default: target/debug)
#
# The kernel runs in a guest under emulation, rdb on this side, in a network namespace of their
# own. Needs root. RDB_VM_PCAP=FILE records the frames of DRBD's cable. Status 1: a scenario failed.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=${RDB_VM_DIR:-${CARGO_TARGET_DIR:-$here/../../target}/vm}
if [ -z "${RDB_INTEROP_WORK:-}" ]; then
    # The guest's packages are fetched from out here; the network inside leads nowhere.
    "$here/build.sh" "$image" || exit 2
    # Network, mounts and processes of our own. However this script ends, all of them end with it.
    RDB_INTEROP_WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/rdb-interop.XXXXXX")
    export RDB_INTEROP_WORK
    setpriv --pdeathsig KILL unshare --net --mount --pid --mount-proc --fork --kill-child \
        "${BASH_SOURCE[0]}" "$@" </dev/null &
    inside=$!
    trap 'kill -KILL $inside; wait $inside 2>/dev/null; rm -rf "$RDB_INTEROP_WORK"; exit 130' INT TERM
    status=0
    wait $inside || status=$?
    rm -rf "$RDB_INTEROP_WORK"
    exit $status
fi
work=$RDB_INTEROP_WORK
quick='' only=. first=1 minutes=3 keep=${TMPDIR:-/var/tmp}/rdb-interop.failed
while getopts qo:s:m:k: option; do
    case $option in
    q) quick=yes ;;
    o) only=$OPTARG ;;
    s) first=$OPTARG ;;
    m) minutes=$OPTARG ;;
    k) keep=$OPTARG ;;
    *) sed -n '2,17s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
binaries=$(realpath "${1:-${CARGO_TARGET_DIR:-$here/../../target}/debug}")
for program in "$binaries/rdbd" "$binaries/rdbadm" qemu-system-x86_64 qemu-io cmp ip cpio; do
    command -v "$program" >/dev/null || { echo "interop.sh: $program is missing (cargo build --bins; .ci/setup)" >&2; exit 2; }
done
# shellcheck source=tests/vm/interop-lib.sh
. "$here/interop-lib.sh"
# shellcheck source=tests/vm/interop-scenarios.sh
. "$here/interop-scenarios.sh"
# shellcheck source=tests/vm/interop-cuts.sh
. "$here/interop-cuts.sh"
# shellcheck source=tests/vm/interop-travel.sh
. "$here/interop-travel.sh"
# shellcheck source=tests/vm/interop-fencing.sh
. "$here/interop-fencing.sh"

ip link set lo up
for cable in 0 1; do
    ip tuntap add "rdb$cable" mode tap || exit 2
    ip link set "rdb$cable" up
done
ip addr add 10.9.0.2/24 dev rdb0
ip addr add 10.8.0.2/24 dev rdb1
mkdir -p "$work/add"
cp "$here/interop-agent.sh" "$work/add/job"
cp "$image/initrd" "$work/initrd"
(cd "$work/add" && find . -print0 | cpio -0 -o -H newc --quiet -R 0:0) >>"$work/initrd"
truncate -s "$size" "$work/"{kernel,rdb,model}{0,1}
truncate -s "$meta_size" "$work/"{kernel,rdb}m
ln -s "$binaries/rdbadm" "$work/rdbmeta"

# What is known when a scenario failed goes to $keep/NUMBER.
evidence() {
    local to=$keep/$1
    rm -rf "$to"
    mkdir -p "$to"
    cp "$work/why" "$work/trace" "$work/drbd.conf" "$to/" 2>/dev/null
    tail -n +"$((log_at + 1))" "$work/rdbd.log" >"$to/rdbd.log" 2>/dev/null
    timeout 5 cat "$work/run/status" >"$to/rdb.status" 2>/dev/null
    guest 20 'cat /proc/drbd; dmesg | tail -n 300' >"$to/kernel" || tail -n 40 "$work/console" >>"$to/kernel"
}
number=0 passed=0 failed=0
printf '%-3s %-62s %-12s %-12s %-8s %s\n' no scenario 'kernel as' 'rdb as' protocol result
# scenario LIMIT NAME KERNEL-AS RDB-AS PROTOCOL FUNCTION [ARGUMENT...]
scenario() {
    local limit=$1 name=$2 begun status pid
    number=$((number + 1))
    [[ $number -ge $first && $name =~ $only ]] || [ -n "${always:-}" ] || return 0
    begun=$SECONDS
    log_at=$(wc -l <"$work/rdbd.log" 2>/dev/null || echo 0)
    rm -f "$work/why"
    : >"$work/trace"
    kmark
    (shift 5; "$@") >>"$work/trace" 2>&1 &
    pid=$!
    (sleep "$limit" && kill -TERM "$pid") 2>/dev/null &
    local watch=$!
    status=0
    wait "$pid" 2>/dev/null || status=$?
    kill "$watch" 2>/dev/null
    if [ $status = 0 ]; then (clean_logs) >>"$work/trace" 2>&1 || status=1; fi
    if [ $status = 0 ]; then
        passed=$((passed + 1))
        printf '%-3s %-62s %-12s %-12s %-8s %s\n' "$number" "$name" "$3" "$4" "$5" "ok ($((SECONDS - begun)) s)"
        return 0
    fi
    failed=$((failed + 1))
    [ -s "$work/why" ] || echo "not done in $limit s (status $status): $(tail -n 1 "$work/trace")" >"$work/why"
    printf '%-3s %-62s %-12s %-12s %-8s %s\n' "$number" "$name" "$3" "$4" "$5" "FAILED ($((SECONDS - begun)) s): $(cat "$work/why")"
    evidence "$number"
    load_end 2>/dev/null
    (start_over) >>"$work/trace" 2>&1 || { echo "interop: the pair does not come up again: $(cat "$work/why")"; exit 1; }
}

touch "$work/rdbd.log"
(guest_start) || { echo "interop: $(cat "$work/why")" >&2; exit 2; }
if [ -n "$quick" ]; then short; else short; long; fi
echo "interop: $passed scenarios passed, $failed failed"
if [ $failed = 0 ]; then
    echo "interop: both disks are equal over $area bytes after each"
    exit 0
fi
echo "interop: the evidence is in $keep"
exit 1
