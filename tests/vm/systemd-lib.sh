# Sourced in the guest: packaging/rdbd.service, with a mounted file system on the device and a writer, under a systemd that is the
# first process of a PID namespace. bob is the node that it starts; alice runs beside it. front: the front end; device: its device
# node, or nothing where that is known only when it is there.
. /usr/local/bin/restart-lib.sh

if [ -z "${inside:-}" ]; then
    units=/usr/lib/systemd/system
    # bob's daemon has the places that an installed one has.
    hostname bob
    mkdir -p /etc/rdb /run/rdb /usr/sbin
    ln -sfn /run/rdb $work/run-bob
    printf 'frontend = "%s"\n' $front >>$work/rdbd.toml
    cp $work/rdbd.toml /etc/rdb/rdbd.toml
    cp $work/drbd.conf /etc/drbd.conf
    cp /usr/local/bin/rdbd /usr/local/bin/rdbadm /usr/sbin/
    mkdir -p $units/rdbd.service.d
    # There is no journal here.
    printf '[Service]\nStandardOutput=append:%s\nStandardError=append:%s\n' $work/bob.log $work/bob.log >$units/rdbd.service.d/log.conf
    : >$work/bob.log
    echo 'ID=guest' >/etc/os-release
    echo 0123456789abcdef0123456789abcdef >/etc/machine-id
    ln -sf multi-user.target $units/default.target
    mkdir -p $units/multi-user.target.wants
    ln -sf ../rdbd.service $units/multi-user.target.wants/rdbd.service
    must adm bob create-md --force r0
    mkdir -p /sys/fs/cgroup
    must mount -t cgroup2 none /sys/fs/cgroup
    container=guest setsid unshare --mount --pid --fork --mount-proc /lib/systemd/systemd --system --log-target=console --log-level=notice \
        --show-status=false </dev/null >$work/systemd.log 2>&1 &
    await 20 pidof systemd
    # Everything else is done where systemd's processes and the daemon's mounts are seen.
    exec nsenter -t "$(pidof systemd)" -m -p env inside=yes bash "$0"
fi

eval "beside_$(declare -f start)"
start() { if [ "$1" = bob ]; then systemctl start rdbd; else beside_start "$@"; fi; }

it_is_started_with_the_machine() {
    await 60 systemctl is-active rdbd || fail "$(cat $work/systemd.log)"
    # What is configured is brought up with it.
    await 20 is bob 'cs:WFConnection ro:Secondary'
    beside_start alice $front
    create_and_up alice
    skip_first_sync bob
    mount_with_files bob
}
taken_over() { taken_over_times 1; }
taken_over_times() { await 20 eval "[ \"\$(since bob | grep -c 'took $device over')\" = $1 ]"; }
main_pid() { systemctl show -P MainPID rdbd; }
reload() {
    local before
    before=$(main_pid)
    must systemctl reload rdbd
    [ "$(main_pid)" = "$before" ] || fail "another process"
    taken_over
}
it_is_reloaded() {
    through reload
    [ "$(resynced bob)" = 0 ] || fail "$(resynced bob) KB were resynced"
    [ "$(systemctl is-active rdbd)" = active ] || fail "$(systemctl status rdbd)"
}
killed() {
    must systemctl kill -s KILL --kill-whom=main rdbd
    taken_over
}
it_is_killed_and_started_again() {
    through killed
    await 10 systemctl is-active rdbd
}
nothing_is_left() {
    local size
    must umount $work/mnt
    must e2fsck -f -n /dev/drbd5
    size=$(blockdev --getsize64 /dev/drbd5)
    must adm bob secondary r0
    must adm alice down r0
    must systemctl stop rdbd
    [ "$(systemctl show -P Result rdbd)" = success ] || fail "$(systemctl status rdbd)"
    disks_are_equal "$size"
    did_not_panic bob
    no_device_is_left
}
