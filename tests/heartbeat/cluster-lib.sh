# shellcheck shell=bash
# Sourced: two hosts in one machine with heartbeat and rdbd of their own, and a third for clients and for what heartbeat pings. Two
# links: `lan` (eth0), by which clients come, and `repl` (eth1) for the data; heartbeat goes over both. A host's root is this machine's,
# with a layer of its own over it: what is written there ends with its power. Its disks, its logs and what heartbeat keeps are in $work,
# and do not.
#
# heartbeat ends by rebooting the machine when a resource does not stop. These hosts can not: they have no right to reboot, the
# programs that do it write a file instead (so does the kernel's trigger), and the process that could be ended by it is the host's own
# first one.
#
# $work: a directory of the caller's; $binaries: where rdbd and rdbadm are; $frontend: by what a node serves its device. From the case:
# disks in the array `disk`; $name_1 and $name_2, the hosts' names; $lan_1 and $lan_2, $hub, $repl_1 and $repl_2, addresses with their
# prefix; the files $work/drbd.conf, $work/haresources, perhaps $work/fstab, $work/mountpoints and, for each service of a line,
# $work/services/NAME.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../cluster/hosts.sh
. "$here/../cluster/hosts.sh"
tag=rdbhb$$
report() { # report NODE
    on "$1" rdbadm status
    on "$1" tail -n 20 /run/rdb/rdbd.log
    on "$1" tail -n 25 /var/log/ha-log
    on "$1" tail -n 25 /var/log/ha-debug
}
of() { local variable=$1_$2; echo "${!variable}"; } # of name|lan|repl NODE

links_up() {
    local n
    ip netns add $tag-hub
    ip -n $tag-hub link add bridge type bridge forward_delay 0
    ip -n $tag-hub addr add "$hub" brd + dev bridge
    ip -n $tag-hub link set bridge up
    for n in 1 2; do
        ip netns add $tag-$n
        ip -n $tag-$n link set lo up
        ip link add eth0 netns $tag-$n type veth peer name lan$n netns $tag-hub
        ip -n $tag-hub link set lan$n master bridge up
    done
    ip link add eth1 netns $tag-1 type veth peer name eth1 netns $tag-2
}
# What a node's start does to its interfaces; and they lose every address with its power.
addresses_up() { # addresses_up NODE
    ip -n $tag-"$1" addr add "$(of lan "$1")" brd + dev eth0
    ip -n $tag-"$1" addr add "$(of repl "$1")" brd + dev eth1
    ip -n $tag-"$1" link set eth0 up
    ip -n $tag-"$1" link set eth1 up
}
addresses_down() { # addresses_down NODE
    local link
    for link in eth0 eth1; do
        ip -n $tag-"$1" link set $link down
        ip -n $tag-"$1" addr flush dev $link
    done
}
cut_lan() { ip -n $tag-hub link set "lan$1" down; }
heal_lan() { ip -n $tag-hub link set "lan$1" up; }
cut_repl() { ip -n $tag-1 link set eth1 down; }
heal_repl() { ip -n $tag-1 link set eth1 up; }
client() { ip netns exec $tag-hub "$@"; }

# In a host: what an administrator has installed and configured. It would do harm to the machine below.
install_all() { # install_all LAYER
    local name
    grep -q "^overlay / overlay .*upperdir=$1[, ]" /proc/mounts || {
        echo "this is not the root of a host"
        return 1
    }
    for name in rdbd rdbadm; do ln -sf "$work/bin/$name" "/usr/sbin/"; done
    for name in drbdadm drbdsetup rdbsetup; do ln -sf "$work/bin/rdbadm" "/usr/sbin/$name"; done
    mkdir -p "/usr/lib/rdb" "/usr/lib/rdb-test" "/etc/services.d"
    cp "$work"/parts/lib/* "/usr/lib/rdb/"
    cp "$work"/parts/etc/{drbddisk,datadisk} "/etc/ha.d/resource.d/"
    cp "$work/parts/heartbeat/mail" "/usr/lib/rdb-test/"
    cp "$work/haresources" "$work/ha.cf" "/etc/ha.d/"
    printf 'auth 1\n1 sha1 rdb\n' >"/etc/ha.d/authkeys"
    chmod 600 "/etc/ha.d/authkeys"
    cp "$work/fstab" "$work/drbd.conf" "$work/hosts" "/etc/"
    for name in "$work"/services/*; do
        cp "$name" "/etc/services.d/"
        # (Where heartbeat looks first: it has scripts of its own for some.)
        rm -f "/etc/ha.d/resource.d/${name##*/}"
        cp "$work/parts/heartbeat/service" "/etc/init.d/${name##*/}"
    done
    xargs mkdir -p <"$work/mountpoints"
    printf '#!/bin/sh\necho "$0 $*" >>/var/log/reboots\n' >"$work/reboot"
    chmod +x "$work/reboot"
    for name in reboot halt poweroff shutdown init telinit; do
        rm -f "/sbin/$name"
        cp "$work/reboot" "/sbin/$name"
    done
}
export -f install_all
export work

ha_cf() {
    cat <<END
debugfile /var/log/ha-debug
logfile /var/log/ha-log
logfacility none
keepalive 500ms
warntime 3
deadtime 5
initdead 10
udpport 694
bcast eth0 eth1
auto_failback on
node $name_1 $name_2
ping ${hub%/*}
deadping 5
respawn hacluster /usr/libexec/heartbeat/ipfail
apiauth ipfail gid=haclient uid=hacluster
crm off
realtime off
END
}

boot() { # boot NODE: its services start when $work/go is there
    local n=$1 d=$work/n$1
    mkdir -p "$d"/{log,heartbeat,rw}
    cat >"$d/init" <<END
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs $d/rw
mkdir -p $d/rw/{upper,work,root}
mount -t overlay -o lowerdir=/,upperdir=$d/rw/upper,workdir=$d/rw/work overlay $d/rw/root
cd $d/rw/root
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs tmpfs tmp
mkdir -p .$work old
mount --bind $work .$work
pivot_root . old
cd /
mount --rbind /old/dev /dev
mount -t tmpfs tmpfs /run
. $work/dev
$(for g in "${!disk[@]}"; do echo "ln -s $d/disk$g ${disk[g]}"; done)
umount -l /old
hostname $(of name "$n")
mount --bind $d/log /var/log
[ -e $d/heartbeat/cores ] || cp -a /var/lib/heartbeat/. $d/heartbeat/
mount --bind $d/heartbeat /var/lib/heartbeat
install -d -m 750 -o hacluster -g haclient /run/heartbeat{,/ccm,/crm,/dopd}
mkdir -p /run/lock /run/resource-agents /var/lib/rdb
touch /var/log/sysrq
[ ! -e /proc/sysrq-trigger ] || mount --bind /var/log/sysrq /proc/sysrq-trigger
install_all $d/rw/upper
export RDB_FRONTEND=$frontend PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec setpriv --bounding-set -sys_boot --inh-caps -sys_boot bash $d/services
END
    cat >"$d/services" <<END
until [ -e $work/go ]; do sleep 0.1; done
/usr/lib/rdb/startup start >/var/log/startup 2>&1
while :; do
    /usr/libexec/heartbeat/heartbeat -f >>/var/log/heartbeat.out 2>&1
    # An administrator has stopped it, and starts it again when he takes this away.
    touch /run/heartbeat-has-ended
    while [ -e /run/heartbeat-has-ended ]; do sleep 0.2; done
done
END
    addresses_up "$n"
    start_host "$n" "$tag-$n"
    # shellcheck disable=SC2016
    await 10 on "$n" test -e /etc/ha.d/authkeys -a -e /sbin/telinit
}
# The power of a node: nothing leaves it any more, then all dies. (The daemon first: of a namespace that ends, the kernel unmounts
# what is mounted there, and would wait for a daemon that is gone.)
cut_power() {
    addresses_down "$1"
    note_loops "$1"
    on "$1" sh -c 'read -r pid </run/rdb/rdbd.pid && kill -9 "$pid"'
    power_off "$1"
}
# No node may ever have come so far that heartbeat would reboot it.
nobody_rebooted() {
    local n
    for n in 1 2; do
        [ ! -s "$work/n$n/log/reboots" ] || fail "node$n was told to reboot: $(cat "$work/n$n/log/reboots")"
        ! grep -E 'reboot narrowly avoided|Reboot required|STOP failure|Retrying failed stop' "$work/n$n/log/ha-log" ||
            fail "node$n came near a reboot"
    done
}
begin() {
    local n
    need cl_status ip nsenter unshare setpriv pivot_root mkfs.ext4 fuser ping
    # (A host does not see where this lies.)
    mkdir -p "$work/bin" "$work/parts"
    cp -r "$here" "$here"/../../packaging/{lib,etc} "$work/parts/"
    cp "$binaries/rdbd" "$binaries/rdbadm" "$work/bin/"
    touch "$work/fstab"
    ha_cf >"$work/ha.cf"
    printf '127.0.0.1 localhost\n%s %s\n%s %s\n' "${repl_1%/*}" "$name_1" "${repl_2%/*}" "$name_2" >"$work/hosts"
    trap end EXIT
    links_up
    for n in 1 2; do boot $n; done
}
end() {
    local n
    for n in 1 2; do
        ! alive $n || cut_power $n
        ip netns del $tag-$n 2>/dev/null
    done
    ip netns del $tag-hub 2>/dev/null
    release_loops
}
