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
is_mounted() { grep -q " $work/mnt " /proc/mounts; }
# The role and the mount are units', in the way that installing.md has it.
a_unit_uses_the_device() {
    must umount $work/mnt
    must adm bob secondary r0
    printf '[Unit]\nRequires=drbd-promote@r0.service\nAfter=drbd-promote@r0.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n%s\n%s\n' \
        "ExecStart=$(command -v mount) $device $work/mnt" "ExecStop=$(command -v umount) $work/mnt" >/usr/lib/systemd/system/data.service
    must systemctl daemon-reload
    must systemctl start data.service
    is_mounted || fail "not mounted"
    invocation=$(systemctl show -P InvocationID data.service)
    must systemctl kill -s KILL --kill-whom=main rdbd
    await 20 eval '[ "$(systemctl is-active rdbd)" = active ] && [ -z "$(systemctl list-jobs --no-legend)" ]'
    [ "$(systemctl show -P InvocationID data.service)" = "$invocation" ] || fail "it was started anew: $(systemctl status data.service drbd-promote@r0)"
    is_mounted || fail "unmounted"
    echo written >$work/mnt/after-the-kill || fail "it can not be written"
    must systemctl restart rdbd
    [ "$(systemctl show -P InvocationID data.service)" = "$invocation" ] || fail "it was restarted with the daemon"
    echo written >$work/mnt/after-the-restart || fail "it can not be written"
    must systemctl stop drbd@r0.target
    ! is_mounted || fail "still mounted"
    must systemctl start data.service
    is_mounted || fail "not mounted again"
    await 20 is bob 'cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate'
}

# What packaging/hardened.conf takes away.
restarted_reloaded_and_killed() {
    restart
    state bob || fail "the status file: $(ls -l /run/rdb/status)"
    mark bob
    reload
    state bob || fail "the status file: $(ls -l /run/rdb/status)"
    mark bob
    killed
}
it_is_hardened() {
    local confined=/usr/lib/systemd/system/rdbd.service.d/hardened.conf
    cp /usr/local/share/hardened.conf $confined
    must systemctl daemon-reload
    # As systemd has it where it does not think that it is in a container: what is unmounted is unmounted for the daemon, too.
    must mount --make-rshared /
    through restarted_reloaded_and_killed
    await 10 systemctl is-active rdbd
    [ "$(readlink "/proc/$(main_pid)/ns/mnt")" != "$(readlink /proc/1/ns/mnt)" ] || fail "it has the machine's mounts"
    grep -q '^NoNewPrivs:.*1' "/proc/$(main_pid)/status" || fail "new privileges"
    must umount $work/mnt
    must adm bob secondary r0
    must adm bob primary r0
    must mount /dev/drbd5 $work/mnt
    rm $confined
    must systemctl daemon-reload
    mark bob
    restart
    await 30 settled
}

scenario "it is started with the machine, and the resource with it" it_is_started_with_the_machine
[ $failed = 0 ] || { cat $work/systemd.log; exit 1; }
scenario "systemctl restart" it_is_restarted
scenario "systemctl reload" it_is_reloaded
scenario "a killed daemon is started again" it_is_killed_and_started_again
scenario "systemctl stop and start" it_is_stopped_and_started
scenario "it does all that with what hardened.conf takes away" it_is_hardened
scenario "what is mounted by a unit stays when the daemon is killed or restarted, and goes before the role does" a_unit_uses_the_device
scenario "nothing is left" nothing_is_left
[ $failed = 0 ] || cat $work/systemd.log
result
