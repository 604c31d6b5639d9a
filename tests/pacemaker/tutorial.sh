#!/bin/bash
# A tutorial's cluster, word for word: a promotable clone of a resource, and a file system on the device of whoever is promoted.
#   tutorial.sh BINARIES WORK [first|short|all [ours|linbit|page]]
# `first` ends when each node has served once. `all` does what takes longer, too: every incident on the other node as well. `linbit` takes drbd-utils' own agent, unmodified, which finds
# the daemon's status file as /proc/drbd. `page` is not the tutorial but docs/pacemaker.md, by its own files and commands.
binaries=$1 work=$2 frontend=fuse extent=${3:-short} whose=${4:-ours}
# shellcheck source=cluster-lib.sh
. "$(cd "$(dirname "$0")" && pwd)/cluster-lib.sh"
agent=$here/../../packaging/ocf/drbd
need crm ocf-tester xmllint mkfs.ext4
if [ "$whose" = page ]; then
    page=$here/../../docs/pacemaker.md
    # shellcheck source=../cluster/page.sh
    . "$here/../cluster/page.sh"
    for file in /etc/drbd.conf web.crm; do
        block_of $file >"$work/${file##*/}"
        [ -s "$work/${file##*/}" ] || fail "the page has no $file"
    done
else
cat >"$work/drbd.conf" <<EOF2
global { usage-count no; disable-ip-verification; }
common {
    net {
        protocol C;
        after-sb-0pri discard-zero-changes;
        after-sb-1pri discard-secondary;
        after-sb-2pri disconnect;
        connect-int 1; ping-int 2; ping-timeout 20; timeout 15;
    }
}
resource wwwdata {
    meta-disk internal;
    device /dev/drbd1;
    on node1 { disk $work/disk1; address $(net repl).1:7789; }
    on node2 { disk $work/disk2; address $(net repl).2:7789; }
}
EOF2
fi
mkdir -p "$work/ocf/rdb" "$work/ocf/linbit"
cp -r /usr/lib/ocf/resource.d/heartbeat /usr/lib/ocf/resource.d/pacemaker "$work/ocf/"
cp "$agent" "$work/ocf/rdb/drbd"
case $whose in
page)
    # A web server that every machine has, under the name of the one on the page.
    cp "$here/apache" "$work/ocf/heartbeat/apache"
    ;;
ours) cp "$agent" "$work/ocf/linbit/drbd" ;;
linbit)
    [ -x /usr/lib/ocf/resource.d/linbit/drbd ] || {
        echo "drbd-utils' agent is missing; run .ci/setup"
        exit 1
    }
    cp -r /usr/lib/ocf/resource.d/linbit "$work/ocf/drbd-utils"
    cp /usr/lib/ocf/resource.d/linbit/drbd.shellfuncs.sh "$work/ocf/linbit/"
    printf '#!/bin/sh\nSTATUS=/run/proc-drbd exec unshare -m %s /usr/lib/ocf/resource.d/drbd-utils/drbd "$@"\n' \
        "$here/shows-status" >"$work/ocf/linbit/drbd"
    chmod +x "$work/ocf/linbit/drbd"
    printf 'frontend = "fuse"\ncompat.proc-drbd = "/run/proc-drbd"\n' >"$work/rdbd.toml"
    ;;
esac
of_node() {
    echo ". $work/dev"
    echo 'mkdir -p /var/www/html /var/lib/rdb /var/log/crmsh'
    for directory in /var/lib/rdb /var/www/html; do echo "mount -t tmpfs tmpfs $directory"; done
    echo "mount --bind $work/ocf /usr/lib/ocf/resource.d"
    if [ "$whose" = page ]; then
        echo "ln -s $work/disk$1 /dev/sdb1"
        # What a handler finds, whose search path is the system's.
        echo "mkdir -p /usr/lib/rdb && mount -t tmpfs tmpfs /usr/lib/rdb && cp $here/../../packaging/lib/crm-*fence-peer /usr/lib/rdb/"
        echo "for name in drbdadm drbdsetup; do mount --bind $work/bin/rdbadm /usr/sbin/\$name; done"
        echo "cp $work/web.crm /run/"
    fi
    if [ "$whose" = linbit ]; then
        # DRBD's names, and a service manager's daemon: one that the agent started would have the agent's view of the world.
        [ ! -e "$work/bin/rdbd" ] || { mkdir -p "$work/daemon" && mv "$work/bin/rdbd" "$work/daemon/"; }
        echo "for name in drbdadm drbdsetup; do mount --bind $work/bin/rdbadm /usr/sbin/\$name; done"
        echo 'echo "the kernel" >/run/proc-drbd'
        echo "while :; do $work/daemon/rdbd --config $work/rdbd.toml >>/run/rdbd.log 2>&1; sleep 1; done &"
    fi
}
crm_of() { # crm_of NODE: its standard input is what is typed
    local out
    out=$(on "$1" crm -F 2>&1) || fail "crm: $out"
}
promoted() { on "$1" crm_mon -1 | grep -qE "(Promoted|Masters): \[ node$2 \]"; }
mounted() { on "$1" grep -q ' /var/www/html ext4 ' /proc/mounts; }
unmounted() { ! mounted "$1"; }
down() { ! on "$1" rdbadm status | grep -q .; }
serves() { promoted "$1" "$1" && mounted "$1"; }
pair() { on "$1" rdbadm status wwwdata | grep -q 'replication:Established peer-disk:UpToDate'; }
both_up() { on "$1" crm_mon -1 | grep -qE '(Unpromoted|Slaves): \[ node[12] \]'; }
fenced() { on "$1" cibadmin -Q -o constraints | grep -q 'id="drbd-fence-by-handler-wwwdata-WebDataClone"'; }
settled() { pair "$1" && both_up "$1" && ! fenced "$1"; }
site() { on "$1" bash -c 'exec 3<>/dev/tcp/10.99.0.80/80 && printf "GET /index.html HTTP/1.0\r\n\r\n" >&3 && cat <&3'; }
page_does() { # page_does HOST COMMAND
    must on "${1#node}" sh -c "cd /run && $2"
}
where() { serves 1 && echo 1 || { serves 2 && echo 2; }; }
# Sets $a, where it is promoted and mounted, and $b, the other node.
found() { a=$(where) && [ -n "$a" ] && b=$((3 - a)); }
writes() { # writes NODE WORDS: a line more, safe on the disk
    must on "$1" sh -c "echo '$2' >>/var/www/html/index.html && sync /var/www/html/index.html"
    lines="$lines$2
"
}
reads() { # reads NODE: everything that was written is there
    local found
    found=$(on "$1" cat /var/www/html/index.html)
    [ "$found" = "${lines%$'\n'}" ] || fail "node$1 has '$found' and not '$lines'"
}
# The power of a node: nothing leaves it any more, then all dies. (The daemon first: of a namespace that ends, the kernel unmounts
# what is mounted there, and would wait for a daemon that is gone.)
cut_power() {
    cut_link ring
    cut_link repl
    kill_daemon "$1"
    power_off "$1"
    heal_link ring
    heal_link repl
}

# What only the page has: a fence, and a limit for a disk.
more() {
    await 60 found
    await 60 settled "$a"
    cut_link repl
    await 60 fenced "$a"
    writes "$a" "the cable is cut"
    # The mirror may not be promoted, whatever is asked.
    must on "$a" crm node standby "node$a"
    await 60 unmounted "$a"
    sleep 5
    ! promoted "$b" "$b" || fail "the mirror was promoted, which lacks something"
    must on "$a" crm node online "node$a"
    await 60 serves "$a"
    reads "$a"
    heal_link repl
    await 60 settled "$a"
    say "the cable between the disks is cut: users go on, the mirror is fenced, and free again when it has everything"

    must fsfreeze -f "$work/slow$a"
    writes "$a" "the disk hangs"
    await 60 serves "$b"
    must fsfreeze -u "$work/slow$a"
    reads "$b"
    writes "$b" "node$b has a good disk"
    await 30 on "$a" rdbadm attach wwwdata
    await 60 settled "$b"
    say "the disk of the node that serves hangs: its users go on, and move to the node whose disk is good"
}

lines=
for n in 1 2; do
    if [ "$whose.$extent" = page.all ]; then
        # On a file system of its own, that can be frozen: then a disk hangs.
        truncate -s 128M "$work/image$n"
        mkfs.ext4 -q "$work/image$n"
        mkdir -p "$work/slow$n"
        mount -o loop "$work/image$n" "$work/slow$n"
        ln -s "$work/slow$n/disk" "$work/disk$n"
    fi
    truncate -s 64M "$work/disk$n"
done
begin
trap 'end; umount "$work"/slow* 2>/dev/null' EXIT
say "a cluster of two"
if [ "$whose" = page ]; then
    page_begins node1 node2
    page_says rdbadm down wwwdata
else
    for n in 1 2; do
        [ "$whose" = ours ] || await 20 on $n rdbadm proc
        must on $n rdbadm create-md --force wwwdata
        must on $n rdbadm up wwwdata
    done
    must on 1 rdbadm primary --force wwwdata
    must on 1 mkfs.ext4 -q /dev/drbd1
    await 30 pair 1
    for n in 1 2; do must on $n rdbadm down wwwdata; done
fi
say "a resource with a file system"
if [ "$whose" = ours ]; then
    must on 1 ocf-tester -n WebData -o drbd_resource=wwwdata -o wfc_timeout=0 -o ignore_missing_notifications=true \
        /usr/lib/ocf/resource.d/rdb/drbd
    say "ocf-tester has nothing to say of the agent"
elif [ "$whose" = linbit ]; then
    for n in 1 2; do on $n cat /run/proc-drbd | grep -q '^version: 8.4' || fail "/run/proc-drbd: $(on $n cat /run/proc-drbd)"; done
    say "the status file is shown where the agent looks"
fi

if [ "$whose" = page ]; then
    page_says crm_mon -1
else
    crm_of 1 <<'EOF2'
configure
property stonith-enabled=false
property no-quorum-policy=ignore
rsc_defaults resource-stickiness=100
primitive WebData ocf:linbit:drbd params drbd_resource=wwwdata op monitor interval=60s
ms WebDataClone WebData meta master-max=1 master-node-max=1 clone-max=2 clone-node-max=1 notify=true
primitive WebFS ocf:heartbeat:Filesystem params device="/dev/drbd/by-res/wwwdata" directory="/var/www/html" fstype="ext4"
colocation fs_on_drbd inf: WebFS WebDataClone:Master
order WebFS-after-WebData inf: WebDataClone:promote WebFS:start
commit
EOF2
fi
await 60 found
await 30 settled "$a"
writes "$a" "My Test Site"
if [ "$whose" = page ]; then
    for n in 1 2; do await 20 site $n; done
    site 2 | grep -q 'My Test Site' || fail "the site: $(site 2)"
fi
say "the configuration: promoted and mounted on one node, up on the other"

standby() { # standby FROM TO
    must on "$1" crm node standby "node$1"
    await 60 serves "$2"
    reads "$2"
    writes "$2" "node$1 was in standby"
    must on "$1" crm node online "node$1"
    await 60 settled "$2"
}
if [ "$whose" = page ]; then
    page_says crm node standby node1
    await 60 serves 2
    page_says crm node online node1
    await 60 settled 2
    await 60 found
else
    standby "$a" "$b"
fi
say "standby: the other node takes over, and this one comes back as its mirror"

power_cut() { # power_cut NODE OTHER
    cut_power "$1"
    await 60 serves "$2"
    reads "$2"
    writes "$2" "node$1 was without power"
    boot "$1"
    await 60 both_online
    await 60 settled "$2"
}
# drbd-utils' agent gives a node up for good when it is to start the resource in the very second in which no daemon runs.
settled_again() { # settled_again NODE
    settled "$1" && return
    [ "$whose" != linbit ] || ! on "$1" crm_mon -1 | grep -q "'not installed'" || on "$1" crm resource cleanup WebData
    return 1
}
daemon_dies() { # daemon_dies NODE: it is found out, and the service goes on, here or there
    kill_daemon "$1"
    # shellcheck disable=SC2016
    await 30 on "$1" sh -c 'kill -0 "$(cat /run/rdb/rdbd.pid)"'
    # (What the cluster says is old until it has heard of it: the nodes are a pair again only after that.)
    await 60 settled_again "$1"
    await 60 found
    await 60 settled_again "$a"
    reads "$a"
    writes "$a" "the daemon of node$1 was killed"
}
if [ "$extent" != first ]; then
    power_cut "$b" "$a"
    say "a power cut: the other node takes over; the one that died comes back, is synced, and leaves the device where it is"

    # A monitor without a role is one of instances that are not promoted.
    [ "$whose" = page ] || crm_of "$a" <<<"configure
monitor WebData:Master 5s:20s
commit"
    daemon_dies "$a"
    say "the daemon alone is killed: it is started again, and the file system is mounted on a device that works"

    standby "$a" "$b"
    say "back again"
fi
if [ "$extent" = all ]; then
    power_cut "$b" "$a"
    standby "$a" "$b"
    daemon_dies "$a"
    standby "$a" "$b"
    await 60 found
    daemon_dies "$a"
    say "every incident on the other node, too"
    [ "$whose" != page ] || more
fi
await 60 found
reads "$a"
must on "$a" crm resource stop WebFS
await 60 unmounted "$a"
must on "$a" crm resource stop WebDataClone
for n in 1 2; do await 60 down $n; done
cmp -n $((32 << 20)) "$work/disk1" "$work/disk2" || fail "the disks differ"
say "all is stopped: nothing runs, and the disks are equal"
