# Runs in the guest: packaging/rdbd.service with a ublk device.
front=ublk device=/dev/ublkb5
. /usr/local/bin/systemd-lib.sh

restart() {
    local before
    before=$(main_pid)
    must systemctl restart rdbd
    [ "$(main_pid)" != "$before" ] || fail "it was not restarted"
    taken_over
}
it_is_restarted() {
    through restart
    [ "$(resynced bob)" = 0 ] || fail "$(resynced bob) KB were resynced"
}
stop_and_start() {
    must systemctl stop rdbd
    [ "$(systemctl is-active rdbd)" = inactive ] || fail "$(systemctl status rdbd)"
    [ -b $device ] || fail "the device is gone"
    sleep 2
    must systemctl start rdbd
    taken_over
}
it_is_stopped_and_started() { through stop_and_start; }

scenario "it is started with the machine, and the resource with it" it_is_started_with_the_machine
[ $failed = 0 ] || { cat $work/systemd.log; exit 1; }
scenario "systemctl restart" it_is_restarted
scenario "systemctl reload" it_is_reloaded
scenario "a killed daemon is started again" it_is_killed_and_started_again
scenario "systemctl stop and start" it_is_stopped_and_started
scenario "nothing is left" nothing_is_left
[ $failed = 0 ] || cat $work/systemd.log
result
