# Runs in the guest: what the ublk front end has to do, scenario by scenario.
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
await() { # await SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "never: $*"
        sleep 0.1
    done
}
adm() { # adm NODE WORDS...
    local node=$1
    shift
    RDB_NODE=$node RDB_RUN_DIR=$work/run-$node RDB_CONF=$work/drbd.conf timeout 60 rdbadm "$@"
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
verify() { # verify NAME FILE MORE...: writes with checksums and reads them back
    local name=$1 file=$2
    shift 2
    must timeout 120 fio --name="$name" --filename="$file" --ioengine=libaio --direct=1 --verify=crc32c --do_verify=1 \
        --verify_fatal=1 --verify_state_save=0 --aux-path=/tmp --size=8M "$@"
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
for node in alice bob; do truncate -s 64M $work/$node.disk; done

auto_loads_the_driver_and_takes_it() {
    lsmod | grep -q ublk_drv && fail "the driver was loaded before"
    start alice auto
    start bob ublk
    lsmod | grep -q ublk_drv || fail "the driver is not loaded"
    grep -q 'front end ublk' $work/alice.log || fail "auto did not choose ublk"
    for node in alice bob; do
        must adm $node create-md --force r0
        must adm $node up r0
    done
    must adm alice primary --force r0
    await 30 settled
}

the_device_is_what_it_says() {
    [ "$(readlink -f /dev/drbd5)" = /dev/ublkb5 ] || fail "/dev/drbd5 leads to $(readlink -f /dev/drbd5)"
    [ "$(readlink -f /dev/drbd/by-res/r0/0)" = /dev/ublkb5 ] || fail "by-res leads elsewhere"
    local queue=/sys/block/ublkb5/queue name value
    while read -r name value; do
        [ "$(cat $queue/$name)" = "$value" ] || fail "$name is $(cat $queue/$name), not $value"
    done <<ATTRIBUTES
logical_block_size 512
max_hw_sectors_kb 1024
write_cache write back
fua 1
discard_max_bytes 1073741824
write_zeroes_max_bytes 1073741824
ATTRIBUTES
    [ "$(ls /sys/block/ublkb5/mq | wc -l)" = "$(nproc)" ] || fail "queues: $(ls /sys/block/ublkb5/mq)"
}

reads_and_writes_of_all_kinds() {
    verify small /dev/drbd5 --rw=randwrite --bs=4k --iodepth=32
    verify blocks /dev/drbd5 --rw=randwrite --bsrange=512-256k --bs_unaligned=0 --blockalign=512 --iodepth=16 --offset=8M
    verify large /dev/drbd5 --rw=write --bs=1M --iodepth=8 --offset=16M
    verify synced /dev/drbd5 --rw=randwrite --bs=4k --iodepth=4 --sync=dsync --offset=24M --size=2M
    verify two /dev/drbd5 --rw=randwrite --bs=8k --iodepth=16 --numjobs=2 --offset_increment=8M --offset=32M
    must blkdiscard -z -o 1M -l 2M /dev/drbd5
    drop_caches
    local rest
    rest=$(dd if=/dev/drbd5 bs=1M skip=1 count=2 iflag=direct status=none | tr -d '\0' | wc -c)
    [ "$rest" = 0 ] || fail "$rest bytes are not zero"
    must blkdiscard -o 8M -l 8M /dev/drbd5
    # Beyond the end is refused by the block layer already; the device is as large as it says.
    local size
    size=$(blockdev --getsize64 /dev/drbd5)
    dd if=/dev/zero of=/dev/drbd5 bs=4k count=1 seek=$((size / 4096)) oflag=direct status=none 2>/dev/null && fail "past the end"
    [ "$(stat -c %s $work/alice.disk)" = 67108864 ] || fail "the disk grew"
    must sync
}

both_disks_are_equal() {
    local size
    size=$(blockdev --getsize64 /dev/drbd5)
    sync
    cmp -n "$size" $work/alice.disk $work/bob.disk || fail "the disks differ"
}

a_device_in_use_is_not_demoted() {
    must mkfs.ext4 -q -F /dev/drbd5
    must mount -o discard /dev/drbd5 $work/mnt
    local said
    said=$(adm alice secondary r0 2>&1)
    [ $? = 11 ] && grep -q 'Device is held open by someone' <<<"$said" || fail "mounted: $said"
    verify file $work/mnt/verified --rw=randwrite --bs=4k --iodepth=16
    for i in $(seq 20); do head -c 30000 /dev/urandom >$work/mnt/file-$i; done
    rm $work/mnt/file-1
    must fstrim -v $work/mnt
    (cd $work/mnt && sha256sum file-* verified) >$work/sums
    must umount $work/mnt
    exec 9</dev/drbd5
    said=$(adm alice secondary r0 2>&1)
    [ $? = 11 ] && grep -q 'Device is held open by someone' <<<"$said" || fail "open: $said"
    exec 9<&-
}

fail_over_brings_the_file_system_along() {
    sum >$work/before
    must adm alice secondary r0
    for node in /dev/ublkb5 /dev/ublkc5 /dev/drbd5; do await 10 eval "[ ! -e $node ] && [ ! -L $node ]"; done
    must adm bob primary r0
    sum | cmp - $work/before || fail "the content is another"
    must mount /dev/drbd5 $work/mnt
    (cd $work/mnt && sha256sum -c $work/sums >/dev/null 2>&1) || fail "files are not what they were"
}

# A writer that checks what it wrote, across whatever happens to the daemon.
writer() {
    timeout 200 fio --name=through --filename=$work/mnt/through --ioengine=libaio --direct=1 --rw=randwrite --bs=4k \
        --iodepth=8 --size=4M --time_based=0 --io_size=12M --rate=1500k --verify=crc32c --do_verify=1 --verify_fatal=1 \
        --verify_state_save=0 --aux-path=/tmp >$work/writer 2>&1
}
through() { # through SIGNAL: ends bob's daemon below the mounted file system, and starts it again
    local writing
    writer &
    writing=$!
    sleep 3
    kill -0 $writing 2>/dev/null || fail "the writer ended early: $(cat $work/writer)"
    end "$1" bob
    sleep 1
    kill -0 $writing 2>/dev/null || fail "the writer did not wait: $(cat $work/writer)"
    start bob ublk
    must adm bob up r0
    must adm bob primary r0
    await 5 eval "tail -n 30 $work/bob.log | grep -q 'took /dev/ublkb5 over'"
    wait $writing || fail "the writer failed: $(cat $work/writer)"
    dmesg | grep -qE 'I/O error, dev ublkb5|EXT4-fs error' && fail "there were errors: $(dmesg | tail -n 3)"
    await 30 settled
    (cd $work/mnt && sha256sum -c $work/sums >/dev/null 2>&1) || fail "files are not what they were"
}
a_killed_daemon_is_followed_by_one_that_takes_the_device_over() { through KILL; }
a_terminated_daemon_leaves_a_device_in_use_to_the_next() { through TERM; }

after_all_that_the_file_system_is_clean() {
    must umount $work/mnt
    must e2fsck -f -n /dev/drbd5
    both_disks_are_equal
}

a_device_left_by_a_daemon_is_not_taken_over_when_others_wrote() {
    must mount /dev/drbd5 $work/mnt
    echo old >$work/mnt/word
    sync
    end KILL bob
    await 30 is alice 'cs:WFConnection'
    # The machines have different files here, but one /dev: alice gets another number.
    must adm alice primary r0
    local device
    device=/dev/$(basename "$(ls -d /dev/ublkb* | grep -v ublkb5)")
    mkdir -p $work/other
    must mount $device $work/other
    echo new >$work/other/word
    must umount $work/other
    start bob ublk
    must adm bob up r0
    await 30 grep -q 'removed the ublk device' $work/bob.log
    drop_caches
    cat $work/mnt/word 2>/dev/null | grep -q new && fail "the old mount reads on"
    umount $work/mnt || umount -l $work/mnt
    await 30 settled
    must adm alice secondary r0
    must adm bob primary r0
    must mount /dev/drbd5 $work/mnt
    [ "$(cat $work/mnt/word)" = new ] || fail "the content is old"
    must umount $work/mnt
    both_disks_are_equal
}

a_device_that_cannot_be_made_is_said_and_the_socket_serves() {
    must adm bob secondary r0
    await 10 test ! -e /dev/ublkb5
    # Hidden, and the driver, which is loaded, does not make it again.
    mv /dev/ublk-control $work/hidden
    adm bob primary r0 >$work/said 2>&1 || { mv $work/hidden /dev/ublk-control; fail "not primary: $(cat $work/said)"; }
    mv $work/hidden /dev/ublk-control
    await 5 grep -q 'no device node, only the NBD socket: .*ublk' $work/bob.log
    [ -S $work/run-bob/nbd/r0.sock ] || fail "there is no socket"
    must adm bob secondary r0
    must adm bob primary r0
    [ -b /dev/ublkb5 ] || fail "no device afterwards"
}

blocks_of_4096_bytes_are_passed_on() {
    local a b
    truncate -s 32M $work/a4k $work/b4k
    a=$(losetup --show -f --sector-size 4096 $work/a4k)
    b=$(losetup --show -f --sector-size 4096 $work/b4k)
    cat >>$work/drbd.conf <<CONF
resource r1 {
    on alice { volume 0 { device /dev/drbd6; disk $a; meta-disk internal; } address 127.0.0.1:7002; }
    on bob { volume 0 { device /dev/drbd6; disk $b; meta-disk internal; } address 127.0.0.2:7002; }
}
CONF
    for node in alice bob; do
        must adm $node create-md --force r1
        must adm $node up r1
    done
    must adm alice primary --force r1
    [ "$(blockdev --getss /dev/drbd6)" = 4096 ] || fail "blocks of $(blockdev --getss /dev/drbd6)"
    verify 4k /dev/drbd6 --rw=randwrite --bsrange=4k-64k --blockalign=4k --iodepth=8
    must mkfs.ext4 -q -F /dev/drbd6
    must mount /dev/drbd6 $work/mnt
    must umount $work/mnt
    must adm alice down r1
    must adm bob down r1
    losetup -d $a $b
}

everything_goes_down_and_nothing_is_left() {
    for node in alice bob; do must adm $node down r0; done
    for node in alice bob; do
        end TERM $node
        grep -q panicked $work/$node.log && fail "$node panicked: $(grep -A3 panicked $work/$node.log)"
    done
    ls /dev | grep -E 'ublk[bc][0-9]' && fail "devices are left"
    must modprobe -r ublk_drv
}

a_machine_without_the_driver_is_told_so() {
    rm -rf /lib/modules/*/kernel/drivers/block/ublk_drv.ko
    timeout 10 rdbd --frontend ublk --node x --run-dir $work/run-x >$work/x.log 2>&1 && fail "it started"
    grep -q 'the module ublk_drv can not be loaded' $work/x.log || fail "$(cat $work/x.log)"
    start alice auto
    grep -q 'front end fuse' $work/alice.log || fail "auto did not go on to fuse"
    end TERM alice
}

scenario "auto loads the driver and takes it" auto_loads_the_driver_and_takes_it
scenario "the device is what it says" the_device_is_what_it_says
scenario "reads and writes of all kinds" reads_and_writes_of_all_kinds
scenario "both disks are equal" both_disks_are_equal
scenario "a device in use is not demoted" a_device_in_use_is_not_demoted
scenario "fail-over brings the file system along" fail_over_brings_the_file_system_along
scenario "a killed daemon is followed by one that takes the device over" a_killed_daemon_is_followed_by_one_that_takes_the_device_over
scenario "a terminated daemon leaves a device in use to the next" a_terminated_daemon_leaves_a_device_in_use_to_the_next
scenario "after all that the file system is clean" after_all_that_the_file_system_is_clean
scenario "a device left by a daemon is not taken over when others wrote" a_device_left_by_a_daemon_is_not_taken_over_when_others_wrote
scenario "a device that cannot be made is said, and the socket serves" a_device_that_cannot_be_made_is_said_and_the_socket_serves
scenario "blocks of 4096 bytes are passed on" blocks_of_4096_bytes_are_passed_on
scenario "everything goes down and nothing is left" everything_goes_down_and_nothing_is_left
scenario "a machine without the driver is told so" a_machine_without_the_driver_is_told_so
echo "$passed scenarios passed, $failed failed"
[ $failed = 0 ]
