#!/usr/bin/env bash
# Boots one guest, runs a script in it as root, passes its output on, returns its exit status.
#
#   boot.sh [-t SECONDS] [-d DISK]... [-f FILE[:GUESTPATH]]... [-o DIR] [-l SOCKET] JOB
#
#   -d DISK   a raw file that is /dev/vda, /dev/vdb, ... in the guest, in this order
#   -f FILE   a file to be in the guest, at GUESTPATH (default: /usr/local/bin/NAME)
#   -o DIR    what the script leaves in /out comes back into DIR (64 MiB at most)
#   -l SOCKET a network between two guests through this socket: the first to name it is 10.7.0.1,
#             the second 10.7.0.2. Remove the socket afterwards.
#   JOB       the bash script to run
#
# Status: that of the script; 124 when the time (default 300 seconds) is over; 125 when the
# guest died before the script ended. The image is built in $RDB_VM_DIR when it is not there.
# RDB_VM_CPU is the guest's processor, as `qemu -cpu` wants it (default: max); RDB_VM_APPEND goes to its kernel's command line.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=${RDB_VM_DIR:-${CARGO_TARGET_DIR:-$here/../../target}/vm}
limit=300 disks=() files=() out='' link=''
while getopts t:d:f:o:l: option; do
    case $option in
    t) limit=$OPTARG ;;
    d) disks+=("$OPTARG") ;;
    f) files+=("$OPTARG") ;;
    o) out=$OPTARG ;;
    l) link=$OPTARG ;;
    *) sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
job=${1:?boot.sh: no job given}
command -v qemu-system-x86_64 >/dev/null ||
    { echo "boot.sh: qemu-system-x86_64 is missing; install qemu-system-x86 (.ci/setup)" >&2; exit 125; }
"$here/build.sh" "$image"

work=$(mktemp -d "${TMPDIR:-/tmp}/rdb-vm.XXXXXX")
qemu=
cleanup() {
    [ -n "$qemu" ] && kill "$qemu" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# A second archive behind the first: what is particular to this run.
mkdir -p "$work/add"
cp "$job" "$work/add/job"
for file in "${files[@]}"; do
    from=${file%%:*} to=/usr/local/bin/${file##*/}
    case $file in *:*) to=${file#*:} ;; esac
    mkdir -p "$work/add$(dirname "$to")"
    cp -L "$from" "$work/add$to"
done
cp "$image/initrd" "$work/initrd"
(cd "$work/add" && find . -print0 | cpio -0 -o -H newc --quiet -R 0:0) >>"$work/initrd"

arguments=(-nodefaults -no-user-config -machine "pc,usb=off,vmport=off" -m 1536 -smp 2
    -accel "tcg,thread=multi,tb-size=512" -cpu "${RDB_VM_CPU:-max}" -display none -no-reboot
    -kernel "$image/vmlinuz" -initrd "$work/initrd" -serial "file:$work/console"
    -device virtio-rng-pci)
index=0
for disk in "${disks[@]}"; do
    arguments+=(-drive "file=$disk,format=raw,if=none,id=d$index,discard=unmap,cache=writeback"
        -device "virtio-blk-pci,drive=d$index")
    index=$((index + 1))
done
if [ -n "$out" ]; then
    truncate -s 64M "$work/out"
    arguments+=(-drive "file=$work/out,format=raw,if=none,id=out"
        -device "virtio-blk-pci,drive=out,serial=rdb-out")
fi
number=
if [ -n "$link" ]; then
    number=1 server=on
    [ ! -e "$link" ] || number=2 server=off
    arguments+=(-netdev "stream,id=link,server=$server,addr.type=unix,addr.path=$link"
        -device "virtio-net-pci,netdev=link,mac=52:54:00:07:00:0$number,romfile=")
fi
: >"$work/console"
qemu-system-x86_64 "${arguments[@]}" -append "console=ttyS0 quiet loglevel=3 panic=-1 \
mitigations=off nokaslr tsc=reliable no_timer_check nowatchdog audit=0 cryptomgr.notests \
random.trust_cpu=on ${RDB_VM_APPEND:-} ${number:+rdb.link=$number} rdinit=/init" </dev/null >"$work/qemu" 2>&1 &
qemu=$!
tail -f --pid="$qemu" -n +1 "$work/console" 2>/dev/null | tr -d '\r' | sed -u '/^job-status: /d' &
printer=$!
end=$((SECONDS + limit))
late=
while kill -0 "$qemu" 2>/dev/null; do
    if [ $SECONDS -ge $end ]; then
        late=yes
        kill "$qemu" 2>/dev/null || true
        break
    fi
    sleep 0.2
done
wait "$qemu" 2>/dev/null || true
qemu=
wait "$printer" 2>/dev/null || true
if [ -n "$out" ]; then
    mkdir -p "$out"
    # No archive there: the guest did not come to its end.
    tar -x -f "$work/out" -C "$out" 2>/dev/null || true
fi
status=$(tr -d '\r' <"$work/console" | sed -n 's/^job-status: //p' | tail -n 1)
if [ -n "$status" ]; then exit "$status"; fi
cat "$work/qemu" >&2
if [ -n "$late" ]; then
    echo "boot.sh: the guest was not done after $limit seconds" >&2
    exit 124
fi
echo "boot.sh: the guest ended before its job did" >&2
exit 125
