# Runs in the guest: a ublk device and the daemons that come and go below it.
front=ublk device=/dev/ublkb5
. /usr/local/bin/restart-lib.sh

scenario "a mounted file system" begin
[ $failed = 0 ] || exit 1
scenario "a daemon is replaced by another program" a_daemon_is_replaced_by_another_program
scenario "the peer's daemon is replaced" the_peers_daemon_is_replaced
scenario "a killed daemon is followed by one that takes over by itself" a_killed_daemon_is_followed_by_one_that_takes_over_by_itself
scenario "a terminated daemon leaves a device in use to the next" a_terminated_daemon_leaves_a_device_in_use_to_the_next
scenario "what is frozen stays so under the next daemon" what_is_frozen_stays_so_under_the_next_daemon
scenario "restarts and a crash one after the other" restarts_and_a_crash_one_after_the_other
scenario "a daemon that dies while it is replaced is followed, too" a_daemon_that_dies_while_it_is_replaced_is_followed_too
scenario "without the peer it goes on alone" without_the_peer_it_goes_on_alone
scenario "a program that fails before it serves leads back to the old one" a_program_that_fails_before_it_serves_leads_back
scenario "what can not take over is refused, and nothing is touched" what_can_not_take_over_is_refused_and_nothing_is_touched
scenario "after all that the file system is clean and the disks are equal" after_all_that_the_file_system_is_clean_and_the_disks_are_equal
scenario "a loop device in use waits" a_loop_device_in_use_waits
result
