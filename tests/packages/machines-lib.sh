# shellcheck shell=bash
# Sourced by `pair`: two machines, alice and bob, a network between them (10.0.0.1 and 10.0.0.2), and in each an empty disk /dev/vg/data.
#
# $here, $work, $base (the root of a bare Debian), and $debs, the packages.
nodes="alice bob"
log() { # log NODE
    echo "--- $1"
    cat "$work/$1/console"
    on "$1" rdbadm status
    on "$1" journalctl --no-pager -n 30 2>/dev/null
}
fail() {
    local node
    echo "FAIL  $*"
    for node in $nodes; do [ ! -s "$work/$node/pid" ] || log "$node"; done
    exit 1
}
# shellcheck source=../cluster/steps.sh
. "$here/../cluster/steps.sh"
alive() { [ -s "$work/$1/pid" ] && kill -0 "$(cat "$work/$1/pid")" 2>/dev/null; }
on() { # on NODE COMMAND...: as root, who has just logged in
    local pid
    pid=$(cat "$work/$1/pid") || return
    shift
    nsenter -t "$pid" -m -u -i -n -p -C -- env -i HOME=/root LC_ALL=C.UTF-8 TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        sh -c 'cd && exec "$@"' - "$@"
}
typed() { # typed NODE LINE: at a terminal, where programs may ask
    on "$1" script -qec "$2" /dev/null </dev/null | tr -d '\r'
    return "${PIPESTATUS[0]}"
}

address() { case $1 in alice) echo 10.0.0.1/24 ;; bob) echo 10.0.0.2/24 ;; esac; }
other() { case $1 in alice) echo bob ;; bob) echo alice ;; esac; }
cut_link() { ip -n alice link set eth0 down; }
heal_link() { ip -n alice link set eth0 up; }

# `degraded` is what a machine without a terminal may well be.
booted() {
    local state
    state=$(on "$1" systemctl is-system-running)
    [ "$state" = running ] || [ "$state" = degraded ]
}
boot() { # boot NODE: to the end of its start
    local d=$work/$1 unshared pid=
    ip -n "$1" link set eth0 up
    ip -n "$1" addr replace "$(address "$1")" dev eth0
    (
        [ -z "$group" ] || echo "$BASHPID" >"$group/$1/cgroup.procs"
        exec setsid ip netns exec "$1" unshare --mount --pid --fork --uts --ipc --cgroup bash "$here/machine" "$1" "$base" "$d"
    ) </dev/null >>"$d/console" 2>&1 &
    unshared=$!
    for _ in $(seq 100); do
        pid=$(pgrep -P $unshared 2>/dev/null | head -n 1)
        [ -z "$pid" ] || break
        sleep 0.1
    done
    [ -n "$pid" ] || fail "$1 does not start: $(cat "$d/console")"
    echo "$pid" >"$d/pid"
    await 10 eval "[ \$(readlink /proc/$pid/exe) = /usr/lib/systemd/systemd ]"
    await 60 booted "$1"
}
# A loop device outlives the machine that it was made in: the end of a trial releases those that the machines had.
note_loops() { on "$1" sh -c 'readlink -f /dev/drbd[0-9]*' 2>/dev/null | grep '^/dev/loop' >>"$work/loops" || true; }
is_off() { ! kill -0 "$1" 2>/dev/null; }
cut_power() { # cut_power NODE: nothing leaves it any more, then all dies
    local pid
    pid=$(cat "$work/$1/pid")
    ip -n "$1" link set eth0 down
    note_loops "$1"
    # The daemon first: of a namespace that ends, the kernel unmounts what is mounted there, and would wait for a daemon that is gone.
    on "$1" sh -c 'pid=$(systemctl show -P MainPID rdbd); [ "$pid" = 0 ] || kill -9 "$pid"' 2>/dev/null
    kill -KILL "$pid"
    await 20 is_off "$pid"
    rm -f "$work/$1/pid"
}
shut_down() { # shut_down NODE: in order
    local pid
    pid=$(cat "$work/$1/pid")
    note_loops "$1"
    on "$1" systemctl poweroff 2>/dev/null
    await 90 is_off "$pid"
    rm -f "$work/$1/pid"
}
end() {
    local node
    for node in $nodes; do
        ! alive "$node" || cut_power "$node"
        [ ! -s "$work/$node/disk-device" ] || losetup -d "$(cat "$work/$node/disk-device")"
    done
    release_loops
    [ -z "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    umount -l "$work"
    rmdir "$work"
}

group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[ -z "$group" ] || group=$group/${work##*/}
trap end EXIT
mount -t tmpfs tmpfs "$work"
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
for node in $nodes; do
    mkdir "$work/$node"
    [ -z "$group" ] || mkdir -p "$group/$node"
    ip netns add "$node"
    ip -n "$node" link set lo up
    truncate -s "${disk_size:-64M}" "$work/$node/disk"
    losetup --show -f "$work/$node/disk" >"$work/$node/disk-device"
done
ip link add eth0 netns alice type veth peer name eth0 netns bob
