#!/usr/bin/env bash
# rdb's device by a driver of the kernel, in a virtual machine: two nodes in one guest.
#
#   pair.sh JOB DIRECTORY-OF-RDBD-AND-RDBADM [NAME=VALUE]...
#
# JOB is ublk, nbd, restart, nbd-restart, systemd, systemd-fuse, lvm, lvm-nbd, proc-drbd, statuses or nbd-speed: JOB-job.sh beside this file, behind
# lines that set what is given (systemd-fuse: times; nbd-speed: rounds, seconds). lvm-nbd is lvm with the front end nbd.
# Prints a line a scenario and, at the end, how many passed. Status 0 if all did.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ "${1:-}" != lvm-nbd ] || exec "$0" lvm "${@:2}" frontend=nbd
job=$here/${1:?usage: pair.sh JOB DIRECTORY}-job.sh
binaries=${2:?usage: pair.sh JOB DIRECTORY}
[ -e "$job" ] || { echo "pair.sh: no job $job" >&2; exit 2; }
files=(-f "$binaries/rdbd" -f "$binaries/rdbadm" -f "$here/pair-lib.sh" -f "$here/restart-lib.sh" -f "$here/systemd-lib.sh")
# with_libraries PROGRAM...: programs that are not in the image, which other guests share, and what they link to
with_libraries() {
    local library
    for library in $(ldd "$@" | grep -oE '/[^ :]+' | sort -u); do
        if [ -f "$library" ]; then files+=(-f "$library:$library"); fi
    done
}
fio=$(command -v fio) || { echo "pair.sh: fio is missing; run .ci/setup" >&2; exit 125; }
files+=(-f "$fio")
with_libraries "$fio"
if [[ $1 = systemd* ]]; then
    systemd=/lib/systemd/systemd
    [ -x $systemd ] || { echo "pair.sh: systemd is missing; run .ci/setup" >&2; exit 125; }
    control=$(command -v systemctl)
    files+=(-f "$systemd:$systemd" -f "$control" -f "$here/../../packaging/rdbd.service:/usr/lib/systemd/system/rdbd.service"
        -f "$here/../../packaging/hardened.conf:/usr/local/share/hardened.conf")
    for unit in "$here"/../../packaging/units/*; do files+=(-f "$unit:/usr/lib/systemd/system/${unit##*/}"); done
    for program in executor shutdown; do
        [ ! -x /lib/systemd/systemd-$program ] || files+=(-f "/lib/systemd/systemd-$program:/lib/systemd/systemd-$program")
    done
    with_libraries "$systemd" "$control"
    for unit in sysinit basic sockets paths slices timers local-fs local-fs-pre network network-pre network-online remote-fs remote-fs-pre \
        multi-user shutdown umount final swap exit; do
        files+=(-f "/lib/systemd/system/$unit.target:/usr/lib/systemd/system/$unit.target")
    done
fi
if [ "$1" = lvm ]; then
    export PATH=$PATH:/usr/sbin:/sbin
    lvm=$(command -v lvm) || { echo "pair.sh: lvm is missing; run .ci/setup" >&2; exit 125; }
    for name in lvm lvs lvcreate lvremove lvmconfig; do files+=(-f "$lvm:/sbin/$name"); done
    for name in snapshot snapshot-resync-target snapshot-lib.sh; do
        files+=(-f "$here/../../packaging/lib/$name:/usr/lib/rdb/$name")
    done
    files+=(-f "$here/lvm.conf:/etc/lvm/lvm.conf")
    with_libraries "$lvm"
fi
if [ "$1" = proc-drbd ]; then
    # drbd-utils' own start script, unmodified, and what it makes its table with.
    script=/lib/drbd/scripts/drbd
    [ -x $script ] || { echo "pair.sh: $script is missing (package drbd-utils); run .ci/setup" >&2; exit 125; }
    files+=(-f "$script:$script")
    for program in column join paste sort; do
        path=$(command -v $program) || { echo "pair.sh: $program is missing; run .ci/setup" >&2; exit 125; }
        files+=(-f "$path:/bin/$program")
        with_libraries "$path"
    done
fi
if [ $# -gt 2 ]; then
    work=$(mktemp -d "${TMPDIR:-/tmp}/rdb-pair.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    printf '%s\n' "${@:3}" | cat - "$job" >"$work/job"
    job=$work/job
fi
"$here/boot.sh" -t "${RDB_VM_LIMIT:-600}" "${files[@]}" "$job"
