#!/usr/bin/env bash
# The kernel's DRBD 8.4.11 and rdb as each other's peer, in one guest: both directions of sync and
# of replication, resync after a cut, a file system, and equal disks at the end.
#
#   interop.sh [BINARIES]     directory with rdbd and rdbadm (default: target/debug)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binaries=${1:-${CARGO_TARGET_DIR:-$here/../../target}/debug}
for program in rdbd rdbadm; do
    [ -x "$binaries/$program" ] ||
        { echo "interop.sh: $binaries/$program is missing; run cargo build --bins" >&2; exit 1; }
done
disks=$(mktemp -d "${TMPDIR:-/var/tmp}/rdb-interop.XXXXXX")
trap 'rm -rf "$disks"' EXIT
size=67108864
truncate -s "$size" "$disks/kernel" "$disks/user"
# Without debug information they are a tenth of the size, and the guest has little memory.
for program in rdbd rdbadm; do strip -g -o "$disks/$program" "$binaries/$program"; done
"$here/boot.sh" -t "${RDB_VM_LIMIT:-420}" -d "$disks/kernel" -d "$disks/user" \
    -f "$disks/rdbd" -f "$disks/rdbadm" "$here/interop-job.sh"
# Internal metadata of a 64 MiB disk begins at 67067904 (docs/spec/metadata.md, section 1.4).
cmp -n 67067904 "$disks/kernel" "$disks/user"
echo "interop: both disks are equal over 67067904 bytes"
