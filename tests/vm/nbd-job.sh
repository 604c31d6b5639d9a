# Runs in the guest: what the front end of the kernel's NBD client has to do, scenario by scenario.
disk_size=384M file_size=4M
. /usr/local/bin/pair-lib.sh
echo 'nbd-connections = 2' >>$work/rdbd.toml

the_driver_is_loaded_and_serves() {
    lsmod | grep -q '^nbd ' && fail "the driver was loaded before"
    start_both nbd
    lsmod | grep -q '^nbd ' || fail "the driver is not loaded"
    skip_first_sync alice
    must adm alice primary r0
    links_lead_to /dev/nbd5
    [ "$(cat /sys/block/nbd5/backend)" = "rdb $work/run-alice r0/0" ] || fail "it belongs to $(cat /sys/block/nbd5/backend)"
    queue_is nbd5 <<ATTRIBUTES
logical_block_size 512
max_sectors_kb 1024
write_cache write back
fua 1
io_timeout 5000
ATTRIBUTES
    has_queues nbd5 2
    [ "$(cat /sys/block/nbd5/queue/discard_max_bytes)" -gt 0 ] || fail "no discard"
}

reads_and_writes_of_all_kinds() {
    verify_sizes
    verify synced /dev/drbd5 --rw=randwrite --bs=4k --iodepth=4 --sync=dsync --offset=24M --size=1M
    verify jobs /dev/drbd5 --rw=randwrite --bs=4k --iodepth=8 --numjobs=4 --offset_increment=32M --io_size=16M
    zeroes_and_discards
    dmesg | grep -qE 'I/O error, dev nbd|Buffer I/O' && fail "there were errors: $(dmesg | grep nbd | tail -n 3)"
    true
}

# stands_still WHO: this daemon does, for more than twice the time after which the driver takes a connection for dead; four
# writers, who write everything several times, notice nothing but the pause
stands_still() {
    local writers lost status=0
    lost=$(grep -c 'has lost a connection and has a new one' $work/alice.log)
    dmesg -c >/dev/null
    timeout 240 fio --name=still --filename=/dev/drbd5 --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=16 --numjobs=4 \
        --offset_increment=32M --size=4M --loops=3 --serialize_overlap=1 --rate=1000k --verify=crc32c --do_verify=1 \
        --verify_fatal=1 --verify_state_save=0 --aux-path=/tmp >$work/writers 2>&1 &
    writers=$!
    sleep 3
    kill -STOP "$(pid "$1")"
    sleep 12
    kill -0 $writers 2>/dev/null || fail "the writers did not wait: $(cat $work/writers)"
    kill -CONT "$(pid "$1")"
    wait $writers || status=$?
    [ $status = 0 ] || fail "the writers failed: $(cat $work/writers)"
    dmesg | grep -q 'Connection timed out, retrying' || fail "no connection timed out"
    dmesg | grep -qE 'I/O error, dev nbd|Buffer I/O' && fail "there were errors: $(dmesg | grep nbd | tail -n 3)"
    await 20 eval "[ \$(grep -c 'has lost a connection and has a new one' $work/alice.log) -gt $lost ]"
    await 60 settled
}
a_daemon_that_stands_still() { stands_still alice; }
patience() { # patience NET-OPTIONS: those of both nodes
    sed -i "s/net {.*}/net { $1 }/" $work/drbd.conf
    for node in alice bob; do must adm $node adjust r0; done
    await 30 settled
}
a_peer_that_stands_still() {
    # Nobody gives it up for that: requests take as long as it stands.
    patience 'ping-timeout 300; timeout 600; connect-int 120; ping-int 120;'
    stands_still bob
    patience 'ping-timeout 30; timeout 60; connect-int 1; ping-int 2;'
}

fail_over() { # FROM TO: the file system is there as it was
    must adm "$1" secondary r0
    await 10 test ! -e /sys/block/nbd5/pid
    await 10 test ! -L /dev/drbd5
    must adm "$2" primary r0
    must mount /dev/drbd5 $work/mnt
    files_are_what_they_were
    must umount $work/mnt
}
ext4_here_and_there() {
    use_file_system alice ext4 mkfs.ext4 -q -F
    fail_over alice bob
    must e2fsck -f -n /dev/drbd5
}
xfs_here_and_there() {
    must modprobe xfs
    use_file_system bob xfs mkfs.xfs -q -f
    fail_over bob alice
    must xfs_repair -n /dev/drbd5
}

a_number_that_is_taken_is_somebody_elses() {
    # A device of another server, made by hand.
    must adm alice secondary r0
    await 10 test ! -e /sys/block/nbd5/pid
    must adm bob primary r0
    [ -e /sys/block/nbd5/pid ] || fail "bob has no nbd5"
    add_resource r1 6 7002 $work/a1 $work/b1
    truncate -s 16M $work/a1 $work/b1
    for node in alice bob; do
        create_and_up $node r1
        must adm $node disconnect r1
        must adm $node primary --force r1
    done
    # Two nodes in one machine, split: each has a device for the same minor.
    [ "$(ls -d /sys/block/nbd*/pid | wc -l)" = 3 ] || fail "$(ls -d /sys/block/nbd*/pid)"
    for node in alice bob; do must adm $node down r1; done
    [ "$(ls -d /sys/block/nbd*/pid | wc -l)" = 1 ] || fail "$(ls -d /sys/block/nbd*/pid)"
}

a_left_device_is_not_taken_over_when_others_wrote() {
    local start=$SECONDS
    end KILL bob
    await 30 is alice 'cs:WFConnection'
    [ -e /sys/block/nbd5/pid ] || fail "the device went with the daemon"
    must adm alice primary r0
    local device
    device=/dev/$(basename "$(dirname "$(ls /sys/block/nbd*/pid | grep -v nbd5/)")")
    verify other "$device" --rw=randwrite --bs=4k --size=1M
    start bob nbd
    await 30 grep -q 'removed the device' $work/bob.log
    await 30 grep -q 'was Primary and stays Secondary: the peer is Primary' $work/bob.log
    await 10 test ! -e /sys/block/nbd5/pid
    await 30 settled
    must adm alice secondary r0
}

everything_goes_down_and_nothing_is_left() {
    down_and_end
    must modprobe -r nbd
}

scenario "the driver is loaded and serves" the_driver_is_loaded_and_serves
[ $failed = 0 ] || exit 1
scenario "reads and writes of all kinds" reads_and_writes_of_all_kinds
scenario "a daemon that stands still" a_daemon_that_stands_still
scenario "a peer that stands still" a_peer_that_stands_still
scenario "ext4, here and there" ext4_here_and_there
scenario "xfs, here and there" xfs_here_and_there
scenario "both disks are equal" disks_are_equal
scenario "a number that is taken is somebody else's" a_number_that_is_taken_is_somebody_elses
scenario "a left device is not taken over when others wrote" a_left_device_is_not_taken_over_when_others_wrote
scenario "everything goes down and nothing is left" everything_goes_down_and_nothing_is_left
result
