# Runs in the guest: what the ublk front end has to do, scenario by scenario.
. /usr/local/bin/pair-lib.sh

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
    # The new daemon brings the resource up by itself, for its device was left, and finds the peer Primary.
    start bob ublk
    await 30 grep -q 'removed the device' $work/bob.log
    await 30 grep -q 'was Primary and stays Secondary: the peer is Primary' $work/bob.log
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
    rm -rf /lib/modules/*/kernel/drivers/block/{ublk_drv,nbd}.ko
    timeout 10 rdbd --frontend ublk --node x --run-dir $work/run-x >$work/x.log 2>&1 && fail "it started"
    grep -q 'the module ublk_drv can not be loaded' $work/x.log || fail "$(cat $work/x.log)"
    timeout 10 rdbd --frontend nbd --node x --run-dir $work/run-x >$work/x.log 2>&1 && fail "it started with nbd"
    grep -q 'the module nbd can not be loaded' $work/x.log || fail "$(cat $work/x.log)"
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
scenario "after all that the file system is clean" after_all_that_the_file_system_is_clean
scenario "a device left by a daemon is not taken over when others wrote" a_device_left_by_a_daemon_is_not_taken_over_when_others_wrote
scenario "a device that cannot be made is said, and the socket serves" a_device_that_cannot_be_made_is_said_and_the_socket_serves
scenario "blocks of 4096 bytes are passed on" blocks_of_4096_bytes_are_passed_on
scenario "everything goes down and nothing is left" everything_goes_down_and_nothing_is_left
scenario "a machine without the driver is told so" a_machine_without_the_driver_is_told_so
echo "$passed scenarios passed, $failed failed"
[ $failed = 0 ]
