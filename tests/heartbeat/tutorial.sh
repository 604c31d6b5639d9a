#!/bin/bash
# A tutorial's cluster under heartbeat, its haresources line word for word, through what happens to a cluster.
#   tutorial.sh BINARIES WORK CASE [short|all]
# CASE is a file of cases/. `short` leaves out what takes longer.
binaries=$1 work=$2 frontend=fuse case=$3 extent=${4:-short}
mkdir -p "$work/services"
# shellcheck source=cluster-lib.sh
. "$(cd "$(dirname "$0")" && pwd)/cluster-lib.sh"

# Groups of resources, each with what it serves.
resource=() device=() disk=() size=() filesystem=() directory=() service=() services=() address=() mails=()
group() { # group NUMBER RESOURCE DEVICE DISK SIZE FILESYSTEM DIRECTORY SERVICE [ADDRESS]
    resource[$1]=$2 device[$1]=$3 disk[$1]=$4 size[$1]=$5 filesystem[$1]=$6 directory[$1]=$7 service[$1]=$8 address[$1]=${9-} mails[$1]=
    service_of_group "$1" "$8"
    echo "$7" >>"$work/mountpoints"
}
# Each service has a port of its own.
service_of_group() { # service_of_group GROUP SERVICE
    local port
    services[$1]+=" $2"
    port=$((25 + $(find "$work/services" -type f | wc -l)))
    printf 'directory=%s\nport=%s\n' "${directory[$1]}" $port >"$work/services/$2"
    eval "port_$2=$port"
}

is_mounted() { on "$1" mountpoint -q "${directory[$2]}"; }
serves() { # serves NODE [GROUP]: all of the group runs there, and nothing of it on the other node
    local g=${2:-1} other=$((3 - $1)) name
    is_mounted "$1" "$g" || return
    for name in ${services[g]}; do on "$1" "/etc/init.d/$name" status || return; done
    ! { alive $other && is_mounted $other "$g"; }
}
pair() { # pair NODE: every group's disks are equal, as the node sees it
    local g
    for g in "${!resource[@]}"; do
        on "$1" rdbadm status "${resource[g]}" | grep -q 'replication:Established peer-disk:UpToDate' || return
    done
}
sends() { # sends NODE GROUP WORDS: a client's mail is safe
    local to=${address[$2]:-} port=port_${service[$2]}
    [ -n "$to" ] || { to=$(of lan "$1") && to=${to%/*}; }
    must client "$here/mail" send "$to" "${!port}" "$3"
    mails[$2]+="$3
"
}
reads() { # reads NODE GROUP: everything that was acknowledged is there
    local found
    found=$(on "$1" cat "${directory[$2]}/mail/mailbox")
    [ "$found" = "${mails[$2]%$'\n'}" ] || fail "node$1 has '$found' and not '${mails[$2]}'"
}
# What heartbeat says that the node has: all, local (what belongs to it), foreign, none, or transition. A request that comes while
# it is still at another is forgotten.
holds() { [ "$(on "$1" cl_status rscstatus)" = "$2" ]; }
standby() { # standby NODE: it gives all groups to the other one
    must on "$1" /usr/share/heartbeat/hb_standby all
    taken_over $((3 - $1))
}
taken_over() { # taken_over NODE: it has everything, and heartbeat knows
    await 40 serves_all "$1"
    await 20 holds "$1" all
    ! alive $((3 - $1)) || await 20 holds $((3 - $1)) none
}
serves_all() { # serves_all NODE
    local g
    for g in "${!resource[@]}"; do serves "$1" "$g" || return; done
}
# Where each group belongs.
at_home() {
    local g
    for g in "${!resource[@]}"; do serves $(((home + g) % 2 + 1)) "$g" || return; done
}
come_home() {
    await 60 at_home
    for n in 1 2; do await 20 holds $n local; done
}
# The same, after ipfail has moved what belongs to the node: it gives that back, but forgets to when both nodes hear of the ping node at
# once.
fetched_home() { # fetched_home NODE
    local tries=0
    until at_home >/dev/null 2>&1; do
        sleep 1
        tries=$((tries + 1))
        [ $((tries % 20)) != 0 ] || on "$1" /usr/share/heartbeat/hb_takeover local
        [ $tries -lt 100 ] || break
    done
    come_home
}
# A mail to each group at a node; all that was sent before is there.
works() { # works NODE|home WORDS
    local g n
    for g in "${!resource[@]}"; do
        n=$1
        [ "$n" != home ] || n=$(((home + g) % 2 + 1))
        sends "$n" "$g" "$2"
        reads "$n" "$g"
    done
}

apart() { ! pair "$1"; }

# What an administrator does before heartbeat starts, and standby there and back: a case that has the words of a page has its own.
prepare() {
    local n g
    for n in 1 2; do
        for g in "${!resource[@]}"; do
            must on $n rdbadm create-md --force "${resource[g]}"
            must on $n rdbadm up "${resource[g]}"
        done
    done
    for g in "${!resource[@]}"; do
        must on $a rdbadm wait-connect "${resource[g]}"
        # Nothing is on either disk yet.
        must on $a rdbadm new-current-uuid --clear-bitmap "${resource[g]}/0"
        must on $a rdbadm primary "${resource[g]}"
        # (Few inodes, written at once: of what was written lately a power cut has everything synced.)
        must on $a "mkfs.${filesystem[g]}" -q -N 256 -E lazy_itable_init=0 "${device[g]}"
        must on $a rdbadm secondary "${resource[g]}"
    done
    pair 1 || fail "the disks are not equal"
    for n in 1 2; do must on $n rdbadm down all; done
    touch "$work/go"
    come_home
    works home "the first"
}
there_and_back() {
    standby $a
    works $b "node$a is in standby"
    standby $b
    works $a "node$b is in standby"
}
# shellcheck source=/dev/null
. "$here/cases/$case.sh"

begin
a=$home b=$((3 - home))
for g in "${!resource[@]}"; do
    for n in 1 2; do
        truncate -s "${size[g]%+*}" "$work/n$n/disk$g"
        # (Room for metadata.)
        [[ ${size[g]} != *+* ]] || truncate -s "+${size[g]#*+}" "$work/n$n/disk$g"
    done
done
prepare
say "heartbeat starts every group where it belongs"

there_and_back
say "standby: the other node takes everything, there and back"

cut_power $a
taken_over $b
works $b "node$a is without power"
boot $a
come_home
await 30 pair $a
works home "node$a is back"
say "a power cut: the other node takes over; the one that died comes back, and so do its groups"

kill_daemon $a
# What belongs to the other node is there already.
standby $a
works $b "the daemon of node$a was killed"
await 30 pair $b
say "the daemon of the node that serves is killed: the other one takes over at once, and has a mirror again"


if [ "$extent" = all ]; then
    kill_daemon $a
    standby $b
    works $a "node$b gives everything to a node whose daemon is dead"
    await 60 pair $b
    say "the daemon of the node that does not serve is killed: it is started when the node is to take over, and waits for its peer"

    cut_lan $a
    taken_over $b
    works $b "node$a is out of its clients' reach"
    pair $b || fail "the link between the disks was not that of the clients"
    heal_lan $a
    fetched_home $a
    works home "node$a is in its clients' reach"
    say "the link to the clients is cut: ipfail moves everything to the other node, and it comes back when the link is there again"

    cut_repl
    await 60 apart $a
    works home "the disks are apart"
    heal_repl
    await 60 pair $a
    come_home
    works home "the disks are equal again"
    say "the link between the disks is cut: nothing moves, and what was written meanwhile is synced"

    cut_power $b
    await 40 serves_all $a
    works $a "node$b has no power"
    boot $b
    come_home
    await 60 pair $a
    works home "node$b is back"
    say "a power cut of the other node: it gets back what belongs to it, with everything that was written"

    must on $a /usr/libexec/heartbeat/heartbeat -k
    await 40 serves_all $b
    works $b "node$a has stopped heartbeat"
    await 20 on $a test -e /run/heartbeat-has-ended
    pair $b || fail "a node whose heartbeat has ended is no mirror any more"
    must on $a rm /run/heartbeat-has-ended
    come_home
    works home "node$a has started heartbeat"
    say "heartbeat is stopped: the other node takes over, and has its mirror; it is started: what belongs to it comes back"

    cut_power $a
    cut_power $b
    for n in 1 2; do boot $n; done
    come_home
    await 60 pair $a
    works home "both have been without power"
    say "a power cut of both: everything comes back, with everything that was written"
    ! declare -F more >/dev/null || more
fi

nobody_rebooted
say "heartbeat never came near a reboot"
