# Runs in the guest: packaging/rdbd.service with a loop device over FUSE. systemd's store of descriptors keeps its connection while
# no daemon is there. times: how often the daemon is replaced, and killed.
front=fuse device=''
. /usr/local/bin/systemd-lib.sh
times=${times:-3}

# another_runs_than PID: the main process is there, and another one.
another_runs_than() {
    local now
    now=$(main_pid)
    [ "$now" != 0 ] && [ "$now" != "$1" ]
}
taken_over_by_another_than() {
    await 20 another_runs_than "$1"
    await 30 is bob 'ro:Primary/'
    links_lead_to $device
}
restart_again_and_again() {
    local before i
    before=$(main_pid)
    for i in $(seq "$times"); do
        adm bob restart >$work/said 2>&1 || fail "restart $i: $? $(cat $work/said)"
        grep -qE "^r0/0: Primary again after a pause of [0-9]+ ms, $device\$" $work/said || fail "restart $i: $(cat $work/said)"
        sed -n 's/^r0/      r0/p' $work/said
        writes_on
    done
    [ "$(main_pid)" = "$before" ] || fail "another process"
    taken_over_times "$times"
}
it_is_replaced_again_and_again() {
    through restart_again_and_again
    [ "$(resynced bob)" = 0 ] || fail "$(resynced bob) KB were resynced"
}
kill_again_and_again() {
    local before i begun
    for i in $(seq "$times"); do
        before=$(main_pid) begun=${EPOCHREALTIME/./}
        must systemctl kill -s KILL --kill-whom=main rdbd
        taken_over_by_another_than "$before"
        echo "      Primary again $(((${EPOCHREALTIME/./} - begun) / 1000)) ms after kill $i"
        writes_on
    done
    taken_over_times "$times"
}
it_is_killed_again_and_again() {
    through kill_again_and_again
    since bob | grep -q 'Marked additional' || fail "the activity log was not applied"
}
# What was asked again is not answered yet, or nothing was asked again, when the next one dies.
kill_while_it_takes_over() {
    local before pause
    for pause in 0 0 0 0.3 0.6 0.9; do
        before=$(main_pid)
        must systemctl kill -s KILL --kill-whom=main rdbd
        await 20 another_runs_than "$before"
        sleep $pause
    done
    taken_over_by_another_than "$before"
    writes_on
}
it_is_killed_while_it_takes_over() { through kill_while_it_takes_over; }
no_loop_device_is_left() {
    nothing_is_left
    [ -z "$(losetup -a)" ] || fail "a loop device is left: $(losetup -a)"
    ! grep /run/rdb/fuse /proc/mounts || fail "a mount is left"
}
# Where nothing keeps the connection, whoever uses the device gets an error and does not wait.
without_a_store() {
    local before begun status=0
    printf '[Service]\nFileDescriptorStoreMax=0\n' >/usr/lib/systemd/system/rdbd.service.d/store.conf
    must systemctl daemon-reload
    must systemctl start rdbd
    must adm alice up r0
    await 30 settled
    must adm bob primary r0
    must mount -o ro /dev/drbd5 $work/mnt
    mark bob
    before=$(main_pid) begun=$SECONDS
    must systemctl kill -s KILL --kill-whom=main rdbd
    timeout 60 dd if=$device of=/dev/null bs=4k count=1 iflag=direct status=none 2>$work/said || status=$?
    [ $status = 1 ] || fail "status $status: $(cat $work/said)"
    [ $((SECONDS - begun)) -lt 30 ] || fail "it took $((SECONDS - begun)) s"
    must umount $work/mnt
    await 20 another_runs_than "$before"
    # The next one does not take it for one to be gone on with.
    await 30 is bob 'ro:Secondary/'
    await 30 settled
    must adm bob primary r0
    must mount /dev/drbd5 $work/mnt
    files_are_what_they_were
    no_loop_device_is_left
}

scenario "it is started with the machine, and the resource with it" it_is_started_with_the_machine
[ $failed = 0 ] || { cat $work/systemd.log; exit 1; }
device=$(readlink -f /dev/drbd5)
case $device in /dev/loop[0-9]*) ;; *) echo "not a loop device: $device"; exit 1 ;; esac
scenario "rdbadm restart, $times times" it_is_replaced_again_and_again
scenario "systemctl reload" it_is_reloaded
scenario "a killed daemon is started again, $times times" it_is_killed_again_and_again
scenario "daemons that are killed while they take over are followed, too" it_is_killed_while_it_takes_over
scenario "nothing is left" no_loop_device_is_left
scenario "without a store users get errors, and a new device" without_a_store
[ $failed = 0 ] || cat $work/systemd.log
result
