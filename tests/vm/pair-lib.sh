# Sourced in the guest by the jobs: two nodes in one machine, alice and bob, with a resource r0.
set -u
export PATH=/usr/local/bin:$PATH
work=/tmp/rdb
mkdir -p $work $work/mnt
passed=0 failed=0
log() { for node in alice bob; do echo "--- $node"; tail -n "${1:-25}" $work/$node.log; done; }
fail() { echo "      $*"; exit 1; }
must() { local out; out=$("$@" 2>&1) || fail "'$*': status $?: $(tail -n 4 <<<"$out")"; }
# scenario NAME FUNCTION: in a subshell, so that a failure ends it alone
scenario() {
    local start=$SECONDS
    if (set -u; "$2"); then
        echo "ok    $1 ($((SECONDS - start)) s)"
        passed=$((passed + 1))
    else
        echo "FAIL  $1"
        log
        dmesg | tail -n 15
        failed=$((failed + 1))
    fi
}
# The machine is emulated, and perhaps by a busy one: patience costs nothing where all is well.
await() { # await SECONDS COMMAND...: four times as long at most
    local end=$((SECONDS + 4 * $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "never: $*"
        sleep 0.1
    done
}
adm() { # adm NODE WORDS...
    local node=$1
    shift
    RDB_NODE=$node RDB_RUN_DIR=$work/run-$node RDB_CONF=$work/drbd.conf timeout 120 rdbadm "$@"
}
state() { grep -aE "^ *${2:-5}: cs:" "$work/run-$1/status"; }
is() { state "$1" | grep -qE "$2"; }
settled() { is alice 'cs:Connected .*ds:UpToDate/UpToDate' && is bob 'cs:Connected .*ds:UpToDate/UpToDate'; }
start() { # start NODE [FRONTEND]
    mkdir -p "$work/run-$1"
    setsid rdbd --frontend "${2:-auto}" --node "$1" --run-dir "$work/run-$1" --config $work/rdbd.toml </dev/null >>"$work/$1.log" 2>&1 &
    await 20 adm "$1" proc
}
pid() { cat "$work/run-$1/rdbd.pid"; }
gone() { ! kill -0 "$1" 2>/dev/null; }
end() { # end SIGNAL NODE
    local pid
    pid=$(pid "$2")
    kill "-$1" "$pid"
    await 30 gone "$pid"
}
sum() { dd if=/dev/drbd5 bs=1M iflag=direct status=none | sha256sum; }
drop_caches() { echo 3 >/proc/sys/vm/drop_caches; }
# The last line of a job, and its status.
result() {
    echo "$passed scenarios passed, $failed failed"
    [ $failed = 0 ]
}
verify() { # verify NAME FILE MORE...: writes with checksums and reads them back
    local name=$1 file=$2
    shift 2
    must timeout 240 fio --name="$name" --filename="$file" --ioengine=libaio --direct=1 --verify=crc32c --do_verify=1 \
        --verify_fatal=1 --verify_state_save=0 --aux-path=/tmp --size=8M "$@"
}

# create_and_up NODE [RESOURCE]: it has new metadata and comes up.
create_and_up() {
    must adm "$1" create-md --force "${2:-r0}"
    must adm "$1" up "${2:-r0}"
}
# start_both FRONTEND: both nodes run, and r0 is up with new metadata.
start_both() {
    local node
    for node in alice bob; do
        start $node "$1"
        create_and_up $node
    done
}
# skip_first_sync NODE: the new disks are equal; once the peer is there, this node says so.
skip_first_sync() {
    await 30 is "$1" cs:Connected
    must adm "$1" new-current-uuid --clear-bitmap r0
    await 30 settled
}
# add_resource NAME MINOR PORT ALICE'S-DISK BOB'S-DISK: one more in the configuration.
add_resource() {
    cat >>$work/drbd.conf <<CONF
resource $1 {
    on alice { volume 0 { device /dev/drbd$2; disk $4; meta-disk internal; } address 127.0.0.1:$3; }
    on bob { volume 0 { device /dev/drbd$2; disk $5; meta-disk internal; } address 127.0.0.2:$3; }
}
CONF
}

# links_lead_to DEVICE: those of r0.
links_lead_to() {
    local link
    for link in /dev/drbd5 /dev/drbd/by-res/r0/0; do
        [ "$(readlink -f $link)" = "$1" ] || fail "$link leads to $(readlink -f $link)"
    done
}
# queue_is DISK: the attributes of its queue are as standard input says, `NAME VALUE` a line.
queue_is() {
    local name value found
    while read -r name value; do
        found=$(cat "/sys/block/$1/queue/$name")
        [ "$found" = "$value" ] || fail "$name is $found, not $value"
    done
}
# has_queues DISK COUNT: a device of the NBD client has one for each connection.
has_queues() { [ "$(ls "/sys/block/$1/mq" | wc -l)" = "$2" ] || fail "not $2 queues: $(ls "/sys/block/$1/mq")"; }
# Requests of all sizes, at places of all kinds, within the first 24 MiB.
verify_sizes() {
    verify small /dev/drbd5 --rw=randwrite --bs=4k --iodepth=32
    verify blocks /dev/drbd5 --rw=randwrite --bsrange=512-256k --bs_unaligned=0 --blockalign=512 --iodepth=16 --offset=8M
    verify large /dev/drbd5 --rw=write --bs=1M --iodepth=8 --offset=16M
}
# What was zeroed reads as zeroes; a discard is done.
zeroes_and_discards() {
    local rest
    must blkdiscard -z -o 1M -l 2M /dev/drbd5
    drop_caches
    rest=$(dd if=/dev/drbd5 bs=1M skip=1 count=2 iflag=direct status=none | tr -d '\0' | wc -c)
    [ "$rest" = 0 ] || fail "$rest bytes are not zero"
    must blkdiscard -o 8M -l 8M /dev/drbd5
}
# disks_are_equal [SIZE]: the two below the device, which has that many bytes if it is gone meanwhile.
disks_are_equal() {
    local size
    size=${1:-$(blockdev --getsize64 /dev/drbd5)}
    must sync
    cmp -n "$size" $work/alice.disk $work/bob.disk || fail "the disks differ"
}

# Twenty files in the mounted file system.
write_files() {
    local i
    for i in $(seq 20); do head -c 30000 /dev/urandom >$work/mnt/file-$i; done
}
# The sums of all files of the mounted file system, for files_are_what_they_were.
note_sums() {
    (cd $work/mnt && for file in *; do [ ! -f "$file" ] || sha256sum "$file"; done) >$work/sums
    [ -s $work/sums ] || fail "there are no files"
}
# Nothing that note_sums has noted is missing or different.
files_are_what_they_were() { (cd $work/mnt && sha256sum -c $work/sums >/dev/null 2>&1) || fail "files are not what they were"; }
# mount_with_files NODE: it becomes Primary, and a new file system is mounted, with files in it.
mount_with_files() {
    must adm "$1" primary r0
    must mkfs.ext4 -q -F /dev/drbd5
    must mount /dev/drbd5 $work/mnt
    write_files
    note_sums
    must sync
}
# demotion_is_refused NODE HOW: for the device is in use, which it is in this way.
demotion_is_refused() {
    local said status=0
    said=$(adm "$1" secondary r0 2>&1) || status=$?
    [ $status = 11 ] && grep -q 'Device is held open by someone' <<<"$said" || fail "$2: status $status: $said"
}
# use_file_system NODE KIND MKFS...: made, mounted, written with checksums, trimmed; a demotion is refused meanwhile.
use_file_system() {
    local node=$1 kind=$2
    shift 2
    must "$@" /dev/drbd5
    must mount -t "$kind" -o discard /dev/drbd5 $work/mnt
    demotion_is_refused "$node" mounted
    verify file $work/mnt/verified --rw=randwrite --bs=4k --iodepth=16 --size=${file_size:-8M}
    write_files
    rm $work/mnt/file-1
    must fstrim -v $work/mnt
    note_sums
    must umount $work/mnt
    exec 9</dev/drbd5
    demotion_is_refused "$node" open
    exec 9<&-
}

# did_not_panic NODE: its daemons, as far as the log goes back.
did_not_panic() { ! grep -q panicked "$work/$1.log" || fail "$1 panicked: $(grep -A3 panicked "$work/$1.log")"; }
# No driver has a device of a daemon any more.
no_device_is_left() {
    ! ls /dev | grep -E 'ublk[bc][0-9]' || fail "devices are left"
    ! ls /sys/block/nbd*/pid 2>/dev/null || fail "devices are left"
}
# down_and_end: r0, then both daemons, of which nothing is left.
down_and_end() {
    local node
    for node in alice bob; do must adm $node down r0; done
    for node in alice bob; do
        end TERM $node
        did_not_panic $node
    done
    no_device_is_left
}

cat >$work/drbd.conf <<CONF
global { usage-count no; }
resource r0 {
    net { ping-timeout 30; timeout 60; connect-int 1; ping-int 2; }
    disk { resync-rate 400M; c-plan-ahead 0; c-min-rate 0; }
    on alice { volume 0 { device /dev/drbd5; disk $work/alice.disk; meta-disk internal; } address 127.0.0.1:7001; }
    on bob { volume 0 { device /dev/drbd5; disk $work/bob.disk; meta-disk internal; } address 127.0.0.2:7001; }
}
CONF
echo 'device-links = true' >$work/rdbd.toml
for node in alice bob; do truncate -s ${disk_size:-64M} $work/$node.disk; done
