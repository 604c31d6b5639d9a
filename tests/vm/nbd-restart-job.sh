# Runs in the guest: a device of the kernel's NBD client and the daemons that come and go below it.
front=nbd device=/dev/nbd5
. /usr/local/bin/restart-lib.sh
echo 'nbd-connections = 2' >>$work/rdbd.toml

begin_with_two_connections() {
    begin
    has_queues nbd5 2
}
on_a_device_with_one_connection() {
    must umount $work/mnt
    must adm bob secondary r0
    await 10 test ! -e /sys/block/nbd5/pid
    sed -i 's/^nbd-connections.*/nbd-connections = 1/' $work/rdbd.toml
    must adm bob restart
    await 30 settled
    must adm bob primary r0
    must mount /dev/drbd5 $work/mnt
    has_queues nbd5 1
    [ "$(cat /sys/block/nbd5/queue/io_timeout)" = 3000 ] || fail "io_timeout is $(cat /sys/block/nbd5/queue/io_timeout)"
    a_daemon_is_replaced_by_another_program
    a_killed_daemon_is_followed_by_one_that_takes_over_by_itself
}

scenario "a mounted file system" begin_with_two_connections
[ $failed = 0 ] || exit 1
scenario "a daemon is replaced by another program" a_daemon_is_replaced_by_another_program
scenario "a killed daemon is followed by one that takes over by itself" a_killed_daemon_is_followed_by_one_that_takes_over_by_itself
scenario "a terminated daemon leaves a device in use to the next" a_terminated_daemon_leaves_a_device_in_use_to_the_next
scenario "what is frozen stays so under the next daemon" what_is_frozen_stays_so_under_the_next_daemon
scenario "the same on a device with one connection" on_a_device_with_one_connection
scenario "without the peer it goes on alone" without_the_peer_it_goes_on_alone
scenario "after all that the file system is clean and the disks are equal" after_all_that_the_file_system_is_clean_and_the_disks_are_equal
result
