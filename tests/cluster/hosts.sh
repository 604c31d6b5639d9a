# shellcheck shell=bash
# Sourced: two hosts in one machine, each a set of namespaces of its own: network, mounts, processes, host name, shared memory.
# A cluster manager's harness sources this, and makes of it what it needs.
#
# Before: $work, a directory of the caller's, and $binaries, where rdbd and rdbadm are. The harness has the functions `report NODE`,
# which shows what a failure needs, and `end`, which takes everything down.
set -uo pipefail
export PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/steps.sh"
fail() {
    echo "FAIL  $*"
    for n in 1 2; do
        alive $n || continue
        echo "--- node$n"
        report $n
    done
    exit 1
}
alive() { [ -s "$work/n$1/pid" ] && kill -0 "$(cat "$work/n$1/pid")" 2>/dev/null; }
on() { # on NODE COMMAND...
    local pid
    pid=$(cat "$work/n$1/pid") || return
    shift
    nsenter -t "$pid" -m -u -i -n -p -- env PATH="$work/bin:$PATH" "$@"
}
need() { # need PROGRAM...
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || {
            echo "$program is missing; run .ci/setup"
            exit 1
        }
    done
}

# A host: its first process is a shell that runs $work/nNODE/init, in the network namespace of that name.
start_host() { # start_host NODE NETNS
    local d=$work/n$1 unshared pid=
    setsid ip netns exec "$2" unshare --mount --pid --uts --ipc --fork --mount-proc bash "$d/init" </dev/null >"$d/init.log" 2>&1 &
    unshared=$!
    for _ in $(seq 100); do
        pid=$(pgrep -P $unshared 2>/dev/null | head -n 1)
        [ -z "$pid" ] || break
        sleep 0.1
    done
    [ -n "$pid" ] || fail "node$1 does not start: $(cat "$d/init.log")"
    echo "$pid" >"$d/pid"
}
power_off() { # power_off NODE: everything in it dies at once
    alive "$1" || return 0
    local pid
    note_loops "$1"
    pid=$(cat "$work/n$1/pid")
    kill -KILL "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    rm -f "$work/n$1/pid"
}
kill_daemon() { # kill_daemon NODE: rdbd alone
    local pid
    note_loops "$1"
    pid=$(on "$1" cat /run/rdb/rdbd.pid)
    must on "$1" kill -9 "$pid"
    # shellcheck disable=SC2016
    await 5 on "$1" sh -c '! kill -0 "$1" 2>/dev/null' - "$pid"
}
# A loop device outlives a daemon that is killed, and the host: the end of a test releases those that its hosts had.
# (Of a host with names of its own: in the machine's /dev are those of other tests.)
note_loops() {
    on "$1" sh -c '[ ! -d /run/dev ] || find /dev/drbd* -maxdepth 0 -type l -exec readlink {} +' >>"$work/loops" 2>/dev/null
}

# To be sourced by the init of a host that has device names of its own: both nodes have a /dev/drbd1, say.
cat >"$work/dev" <<'EOF2'
mkdir -p /run/dev/shm /run/dev/pts
for name in null zero full random urandom tty fuse loop-control; do cp -a /dev/$name /run/dev/; done
for number in $(seq 0 127); do mknod -m 600 /run/dev/loop$number b 7 "$number"; done
ln -s /proc/self/fd /run/dev/fd
for number in 0 1 2; do ln -s /proc/self/fd/$number "/run/dev/$(echo stdin stdout stderr | cut -d' ' -f$((number + 1)))"; done
mount --bind /run/dev /dev
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
EOF2
