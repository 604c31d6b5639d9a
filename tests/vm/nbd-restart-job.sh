# Runs in the guest: a device of the kernel's NBD client and the daemons that come and go below it.
front=nbd device=/dev/nbd5
. /usr/local/bin/restart-lib.sh

scenario "a mounted file system" begin
[ $failed = 0 ] || exit 1
scenario "a daemon is replaced by another program" a_daemon_is_replaced_by_another_program
scenario "a killed daemon is followed by one that takes over by itself" a_killed_daemon_is_followed_by_one_that_takes_over_by_itself
scenario "a terminated daemon leaves a device in use to the next" a_terminated_daemon_leaves_a_device_in_use_to_the_next
scenario "without the peer it goes on alone" without_the_peer_it_goes_on_alone
scenario "after all that the file system is clean and the disks are equal" after_all_that_the_file_system_is_clean_and_the_disks_are_equal
echo "$passed scenarios passed, $failed failed"
[ $failed = 0 ]
