#!/bin/bash
# docs/vpn.md, done as it says: two hosts, hostA and hostB, with a slow tunnel between them.
#   tutorial.sh BINARIES WORK
binaries=$1 work=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../cluster/hosts.sh
. "$here/../cluster/hosts.sh"
page=$here/../../docs/vpn.md
# shellcheck source=../cluster/page.sh
. "$here/../cluster/page.sh"
tag=rdbvpn$$
name_1=hostA name_2=hostB
name() { local variable=name_$1; echo "${!variable}"; }
report() { # report NODE
    on "$1" rdbadm status
    on "$1" tail -n 30 /run/rdb/rdbd.log
}
tunnels=()
tunnel_up() {
    local n end
    for n in 1 2; do
        ip netns add $tag-$n
        ip -n $tag-$n link set lo up
        setsid ip netns exec $tag-$n "$here/tunnel" tun0 "$work/end$n" "$work/end$((3 - n))" 102400 50 131072 >"$work/tunnel$n" 2>&1 &
        tunnels+=($!)
        end=$((SECONDS + 60))
        until grep -q ready "$work/tunnel$n"; do
            [ $SECONDS -lt $end ] || fail "the tunnel does not come up: $(cat "$work/tunnel$n")"
            sleep 0.1
        done
        ip -n $tag-$n addr add 10.8.0.$n/24 dev tun0
        ip -n $tag-$n link set tun0 up
    done
}
boot() { # boot NODE
    local d=$work/n$1
    mkdir -p "$d"
    truncate -s 16M "$d/disk"
    cat >"$d/init" <<END
mount --make-rprivate /
hostname $(name "$1")
mount -t tmpfs tmpfs /run
. $work/dev
ln -s $d/disk /dev/sda1
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/root /mnt/lib
mount --bind /mnt/lib /var/lib
mount --bind $work/drbd.conf /etc/drbd.conf
touch /run/ready
while :; do sleep 1000; done
END
    start_host "$1" "$tag-$1"
    await 10 on "$1" test -e /run/ready
}
end() {
    local n pid
    for n in 1 2; do
        alive $n && {
            on $n umount /finch 2>/dev/null
            note_loops $n
            # shellcheck disable=SC2016
            on $n sh -c 'read -r pid </run/rdb/rdbd.pid && kill -9 "$pid"' 2>/dev/null
            power_off $n
        }
    done
    for pid in "${tunnels[@]}"; do kill -KILL "$pid" 2>/dev/null; done
    for n in 1 2; do ip netns del $tag-$n 2>/dev/null; done
    release_loops
}
page_does() { # page_does HOST COMMAND
    local n=1
    [ "$1" = $name_1 ] || n=2
    must on $n env RDB_FRONTEND=fuse sh -c "$2"
}
pair() { on "$1" rdbadm status drbd1 | grep -q 'replication:Established peer-disk:UpToDate'; }
alone() { on "$1" rdbadm cstate drbd1 | grep -q WFConnection; }
messages=
writes() { # writes NODE MESSAGE
    must on "$1" sh -c "echo '$2' >>/finch/messages && sync /finch/messages"
    messages="$messages$2
"
}
reads() { # reads NODE
    local found
    found=$(on "$1" cat /finch/messages)
    [ "$found" = "${messages%$'\n'}" ] || fail "$(name "$1") has '$found' and not '$messages'"
}
lost() { on "$1" grep -acE 'NetworkFailure|PingAck did not arrive|-> Timeout' /run/rdb/rdbd.log; }

need ip nsenter unshare mkfs.ext4 python3
[ -e /dev/net/tun ] || {
    echo "/dev/net/tun is missing: modprobe tun"
    exit 1
}
mkdir -p "$work/bin"
cp "$binaries/rdbd" "$binaries/rdbadm" "$work/bin/"
block_of /etc/drbd.conf >"$work/drbd.conf"
trap end EXIT
tunnel_up
for n in 1 2; do boot $n; done
[ -s "$work/drbd.conf" ] || fail "the page has no configuration"
page_begins $name_1 $name_2
page_says rdbadm status drbd1
await 20 pair 2
writes 2 "hello"
say "the page's commands: a file system on a pair, and no first sync"

must on 2 sh -c 'head -c 524288 /dev/urandom >/finch/picture && sync /finch/picture'
writes 2 "a picture"
for n in 1 2; do [ "$(lost $n)" = 0 ] || fail "a full line was taken for a dead peer"; done
pair 2 || fail "a full line has cost the peer"
say "more is written than the line takes within the timeout: writers wait, and the peer stays"

for pid in "${tunnels[@]}"; do kill -STOP "$pid"; done
writes 2 "is anybody there?"
await 30 alone 2
writes 2 "nobody"
for pid in "${tunnels[@]}"; do kill -CONT "$pid"; done
await 60 pair 2
await 60 pair 1
synced=$(on 2 grep -aoE 'will sync [0-9]+ KB' /run/rdb/rdbd.log | tail -n 1 | grep -oE '[0-9]+')
[ "${synced:-0}" -gt 0 ] && [ "$synced" -le 1024 ] || fail "a sync of '$synced' KiB"
writes 2 "you are back"
say "the tunnel stands still: users go on alone after a while; it goes on: what was written meanwhile is synced"

page_says mount /dev/drbd1 /finch
reads 1
writes 1 "moved"
say "the messenger moves to the other house"
must on 1 umount /finch
for n in 1 2; do must on $n rdbadm down drbd1; done
cmp -n $((15 << 20)) "$work/n1/disk" "$work/n2/disk" || fail "the disks differ"
say "the disks are equal"
