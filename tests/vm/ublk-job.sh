# Runs in the guest: what the ublk front end has to do, scenario by scenario.
. /usr/local/bin/pair-lib.sh

auto_loads_the_driver_and_takes_it() {
    lsmod | grep -q ublk_drv && fail "the driver was loaded before"
    start alice auto
    start bob ublk
    lsmod | grep -q ublk_drv || fail "the driver is not loaded"
    grep -q 'front end ublk' $work/alice.log || fail "auto did not choose ublk"
    for node in alice bob; do create_and_up $node; done
    must adm alice primary --force r0
    await 30 settled
}

the_device_is_what_it_says() {
    links_lead_to /dev/ublkb5
    queue_is ublkb5 <<ATTRIBUTES
logical_block_size 512
max_hw_sectors_kb 1024
write_cache write back
fua 1
discard_max_bytes 1073741824
write_zeroes_max_bytes 1073741824
ATTRIBUTES
    has_queues ublkb5 "$(nproc)"
}

reads_and_writes_of_all_kinds() {
    verify_sizes
    verify synced /dev/drbd5 --rw=randwrite --bs=4k --iodepth=4 --sync=dsync --offset=24M --size=2M
    verify two /dev/drbd5 --rw=randwrite --bs=8k --iodepth=16 --numjobs=2 --offset_increment=8M --offset=32M
    zeroes_and_discards
    # Beyond the end is refused by the block layer already; the device is as large as it says.
    local size
    size=$(blockdev --getsize64 /dev/drbd5)
    dd if=/dev/zero of=/dev/drbd5 bs=4k count=1 seek=$((size / 4096)) oflag=direct status=none 2>/dev/null && fail "past the end"
    [ "$(stat -c %s $work/alice.disk)" = 67108864 ] || fail "the disk grew"
    must sync
}

a_device_in_use_is_not_demoted() { use_file_system alice ext4 mkfs.ext4 -q -F; }

fail_over_brings_the_file_system_along() {
    sum >$work/before
    must adm alice secondary r0
    for node in /dev/ublkb5 /dev/ublkc5; do await 10 eval "[ ! -e $node ] && [ ! -L $node ]"; done
    await 10 eval "[ -b /dev/drbd5 ] && [ ! -L /dev/drbd5 ]"
    must adm bob primary r0
    sum | cmp - $work/before || fail "the content is another"
    must mount /dev/drbd5 $work/mnt
    files_are_what_they_were
}

after_all_that_the_file_system_is_clean() {
    must umount $work/mnt
    must e2fsck -f -n /dev/drbd5
    disks_are_equal
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
    disks_are_equal
}

who_asks_for_a_device_that_cannot_be_made_is_not_promised_one() {
    must adm bob secondary r0
    await 10 test ! -e /dev/ublkb5
    # Hidden, and the driver, which is loaded, does not make it again.
    mv /dev/ublk-control $work/hidden
    adm bob primary r0 >$work/said 2>&1
    local code=$?
    mv $work/hidden /dev/ublk-control
    [ $code = 20 ] && grep -q 'minor 5 has no device: .*ublk.*; it is Secondary again' $work/said || fail "$code: $(cat $work/said)"
    is bob 'ro:Secondary' || fail "$(state bob)"
    must adm bob primary r0
    [ -b /dev/ublkb5 ] || fail "no device afterwards"
}

blocks_of_4096_bytes_are_passed_on() {
    local a b
    truncate -s 32M $work/a4k $work/b4k
    a=$(losetup --show -f --sector-size 4096 $work/a4k)
    b=$(losetup --show -f --sector-size 4096 $work/b4k)
    add_resource r1 6 7002 $a $b
    for node in alice bob; do create_and_up $node r1; done
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

xfs_is_made_used_trimmed_and_fails_over() {
    truncate -s 320M $work/ax $work/bx
    add_resource r2 7 7003 $work/ax $work/bx
    for node in alice bob; do create_and_up $node r2; done
    await 30 eval "adm alice cstate r2 | grep -q Connected"
    must adm alice new-current-uuid --clear-bitmap r2
    must adm alice primary r2
    must modprobe xfs
    must mkfs.xfs -q -f /dev/drbd7
    must mount /dev/drbd7 $work/mnt
    verify file $work/mnt/verified --rw=randwrite --bs=4k --iodepth=16 --size=4M
    must fstrim -v $work/mnt
    note_sums
    must umount $work/mnt
    must adm alice secondary r2
    must adm bob primary r2
    must mount /dev/drbd7 $work/mnt
    files_are_what_they_were
    must umount $work/mnt
    must xfs_repair -n /dev/drbd7
    for node in alice bob; do must adm $node down r2; done
}

everything_goes_down_and_nothing_is_left() {
    down_and_end
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
scenario "both disks are equal" disks_are_equal
scenario "a device in use is not demoted" a_device_in_use_is_not_demoted
scenario "fail-over brings the file system along" fail_over_brings_the_file_system_along
scenario "after all that the file system is clean" after_all_that_the_file_system_is_clean
scenario "a device left by a daemon is not taken over when others wrote" a_device_left_by_a_daemon_is_not_taken_over_when_others_wrote
scenario "who asks for a device that cannot be made is not promised one" who_asks_for_a_device_that_cannot_be_made_is_not_promised_one
scenario "blocks of 4096 bytes are passed on" blocks_of_4096_bytes_are_passed_on
scenario "xfs is made, used, trimmed and fails over" xfs_is_made_used_trimmed_and_fails_over
scenario "everything goes down and nothing is left" everything_goes_down_and_nothing_is_left
scenario "a machine without the driver is told so" a_machine_without_the_driver_is_told_so
result
