# Runs in the guest: the kernel's DRBD as node `kernel` in the first network namespace on /dev/vda,
# rdb as node `user` in a namespace of its own on /dev/vdb, one cable between them.
set -uo pipefail
step() { echo; echo "=== $*"; }
fail() {
    echo "FAILED: $*"
    echo "--- kernel's status"; cat /proc/drbd
    echo "--- rdb's status"; cat /run/rdb/status
    echo "--- kernel's messages"; dmesg | grep -a drbd | tail -n 60
    echo "--- rdb's log"; tail -n 80 /tmp/rdbd.log
    exit 1
}
must() { "$@" || fail "'$*' gave status $?"; }

cat >/etc/drbd.conf <<'CONF'
global { usage-count no; disable-ip-verification; }
resource r0 {
    net {
        protocol C;
        cram-hmac-alg sha1;
        shared-secret "first-meeting";
        ping-timeout 50;
        timeout 100;
        connect-int 11;
        ping-int 11;
    }
    disk { resync-rate 200M; c-plan-ahead 0; }
    meta-disk internal;
    on kernel { device /dev/drbd0; disk /dev/vda; address 10.9.0.1:7789; }
    on user   { device /dev/drbd1; disk /dev/vdb; address 10.9.0.2:7789; }
}
CONF
ip netns add user
ip link add k0 type veth peer name u0 netns user
ip addr add 10.9.0.1/24 dev k0
ip link set k0 up
ip -n user addr add 10.9.0.2/24 dev u0
ip -n user link set u0 up
ip -n user link set lo up

export RDB_NODE=user RDB_RUN_DIR=/run/rdb RDB_CONF=/etc/drbd.conf RUST_BACKTRACE=1
mkdir -p /run/rdb
kernel() { echo "kernel# drbdadm $*"; drbdadm "$@" 2>&1; }
user() { echo "user# rdbadm $*"; ip netns exec user rdbadm "$@" 2>&1; }
line() { grep -aE '^ *[0-9]+: cs:' "$1"; }
both() {
    echo "kernel: $(line /proc/drbd)"
    echo "user:   $(line /run/rdb/status)"
}
# await FILE PATTERN [SECONDS]: the device line of a status file matches
await() {
    local end=$((SECONDS + ${3:-90}))
    until line "$1" 2>/dev/null | grep -qE "$2"; do
        [ $SECONDS -lt $end ] || fail "$1 did not come to '$2'"
        sleep 0.1
    done
}
settled='cs:Connected.*ds:UpToDate/UpToDate'
quiet() { await /proc/drbd "$settled"; await /run/rdb/status "$settled"; both; }
counter() { grep -a -A1 -E '^ *[0-9]+: cs:' "$1" | grep -oE "$2:[0-9]+" | cut -d: -f2; }
pattern() { head -c "$2" /dev/urandom >"$1"; }
# write DEVICE FILE OFFSET(in 4k), read it back with sum DEVICE COUNT OFFSET
write() { must dd if="$2" of="$1" bs=4k seek="$3" oflag=direct conv=notrunc,fsync status=none; }
sum() { dd if="$1" bs=4k count="$2" skip="$3" iflag=direct status=none | md5sum | cut -d' ' -f1; }

step "metadata, and both up"
must kernel create-md --force r0
must user create-md --force r0
ip netns exec user rdbd --frontend fuse >/tmp/rdbd.log 2>&1 &
for _ in $(seq 100); do [ -S /run/rdb/control.sock ] && break; sleep 0.1; done
must kernel up r0
must user up r0
await /proc/drbd 'cs:Connected.*ds:Inconsistent/Inconsistent'
await /run/rdb/status 'cs:Connected.*ds:Inconsistent/Inconsistent'
both
dmesg | grep -a 'Agreed network protocol version' | tail -n 1
dmesg | grep -aq 'Agreed network protocol version 101' || fail "not protocol 101"

step "the kernel is synced to rdb"
must kernel primary --force r0
quiet

step "writes on the kernel arrive at rdb"
pattern /tmp/p1 1048576
write /dev/drbd0 /tmp/p1 300
[ "$(sum /dev/drbd0 256 300)" = "$(md5sum </tmp/p1 | cut -d' ' -f1)" ] || fail "the kernel lost its write"
must kernel secondary r0
must user primary r0
DEV=$(readlink -f /dev/drbd1)
[ -b "$DEV" ] || fail "/dev/drbd1 is no block device"
[ "$(sum "$DEV" 256 300)" = "$(md5sum </tmp/p1 | cut -d' ' -f1)" ] || fail "rdb does not have the kernel's write"
quiet

step "writes on rdb arrive at the kernel"
pattern /tmp/p2 2097152
write "$DEV" /tmp/p2 2000
must user secondary r0
must kernel primary r0
[ "$(sum /dev/drbd0 512 2000)" = "$(md5sum </tmp/p2 | cut -d' ' -f1)" ] || fail "the kernel does not have rdb's write"
quiet

step "written at the kernel while apart: only that is synced to rdb"
must user disconnect r0
await /proc/drbd 'cs:WFConnection'
pattern /tmp/p3 262144
write /dev/drbd0 /tmp/p3 5000
before=$(counter /run/rdb/status nr)
must user connect r0
quiet
echo "rdb received $(($(counter /run/rdb/status nr) - before)) KiB of resync"
must kernel secondary r0

step "written at rdb while apart: only that is synced to the kernel"
must user primary r0
DEV=$(readlink -f /dev/drbd1)
[ "$(sum "$DEV" 64 5000)" = "$(md5sum </tmp/p3 | cut -d' ' -f1)" ] || fail "the resync did not bring the kernel's write"
must kernel disconnect r0
await /run/rdb/status 'cs:WFConnection'
pattern /tmp/p4 524288
write "$DEV" /tmp/p4 7000
must kernel connect r0
quiet
dmesg | grep -a 'Began resync as SyncTarget' | tail -n 1

step "full sync from rdb to the kernel"
must kernel invalidate r0
sleep 1
quiet
step "full sync from the kernel to rdb"
must user invalidate r0
sleep 1
quiet

step "a file system written on rdb, read on the kernel"
must mkfs.ext4 -q -F "$DEV"
must mount "$DEV" /mnt
must dd if=/dev/urandom of=/mnt/file bs=64k count=64 status=none
want=$(md5sum </mnt/file)
must umount /mnt
must user secondary r0
must kernel primary r0
must mount /dev/drbd0 /mnt
[ "$(md5sum </mnt/file)" = "$want" ] || fail "the file differs on the kernel"
must umount /mnt
must kernel secondary r0
quiet

step "both down; the original's tools read both disks"
must user down r0
must kernel down r0
for disk in vda vdb; do
    must drbdmeta 0 v08 /dev/$disk internal apply-al
    drbdmeta 0 v08 /dev/$disk internal dump-md | grep -aE 'version|0x|la-size|flags|bits-set|times'
done
grep -a -i panicked /tmp/rdbd.log && fail "rdbd panicked"
echo
echo "interop: all steps passed"
exit 0
