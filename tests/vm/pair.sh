#!/usr/bin/env bash
# rdb's device by a driver of the kernel, in a virtual machine: two nodes in one guest.
#
#   pair.sh JOB DIRECTORY-OF-RDBD-AND-RDBADM
#
# JOB is ublk, nbd, restart or nbd-restart: JOB-job.sh beside this file.
# Prints a line a scenario and, at the end, how many passed. Status 0 if all did.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
job=$here/${1:?usage: pair.sh JOB DIRECTORY}-job.sh
binaries=${2:?usage: pair.sh JOB DIRECTORY}
[ -e "$job" ] || { echo "pair.sh: no job $job" >&2; exit 2; }
files=(-f "$binaries/rdbd" -f "$binaries/rdbadm" -f "$here/pair-lib.sh" -f "$here/restart-lib.sh")
# fio with its libraries: it is not in the image, which other guests share.
fio=$(command -v fio) || { echo "pair.sh: fio is missing; run .ci/setup" >&2; exit 125; }
files+=(-f "$fio")
for library in $(ldd "$fio" | grep -oE '/[^ ]+'); do files+=(-f "$library:$library"); done
exec "$here/boot.sh" -t "${RDB_VM_LIMIT:-420}" "${files[@]}" "$job"
