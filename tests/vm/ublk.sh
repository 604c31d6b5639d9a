#!/usr/bin/env bash
# rdb's device by the kernel's ublk driver, in a virtual machine: two nodes in one guest.
#
#   ublk.sh DIRECTORY-OF-RDBD-AND-RDBADM
#
# Prints a line a scenario and, at the end, how many passed. Status 0 if all did.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binaries=${1:?usage: ublk.sh DIRECTORY}
files=(-f "$binaries/rdbd" -f "$binaries/rdbadm")
# fio with its libraries: it is not in the image, which other guests share.
fio=$(command -v fio) || { echo "ublk.sh: fio is missing; run .ci/setup" >&2; exit 125; }
files+=(-f "$fio")
for library in $(ldd "$fio" | grep -oE '/[^ ]+'); do files+=(-f "$library:$library"); done
exec "$here/boot.sh" -t "${RDB_VM_LIMIT:-420}" "${files[@]}" "$here/ublk-job.sh"
