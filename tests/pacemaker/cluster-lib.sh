# Sourced: two hosts in one machine, node1 and node2, with Corosync, Pacemaker and rdbd of their own.
# Two links join them: `ring` for the cluster, `repl` for the data. $work: a directory of the caller's; $binaries: where rdbd and rdbadm
# are; $frontend: by what a node serves its device.
# The caller has a function `of_node`, which prints what a node needs beside that, for its shell.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../cluster/hosts.sh
. "$here/../cluster/hosts.sh"
tag=rdbpcmk$$
report() { # report NODE
    on "$1" rdbadm status
    on "$1" sh -c "tail -n 20 /run/rdbd.log /run/rdb/rdbd.log"
    on "$1" crm_mon -1
    on "$1" grep -aE " (warning|error|crit):" /var/log/pacemaker/pacemaker.log | tail -n 10
}

links_up() {
    local n link
    for n in 1 2; do
        ip netns add $tag-$n
        ip -n $tag-$n link set lo up
    done
    for link in ring repl; do
        ip link add $link netns $tag-1 type veth peer name $link netns $tag-2
        for n in 1 2; do
            ip -n $tag-$n addr add "$(net $link).$n/24" dev $link
            ip -n $tag-$n link set $link up
        done
    done
}
net() { case $1 in ring) echo 10.99.0 ;; repl) echo 10.98.0 ;; esac; }
cut_link() { ip -n $tag-1 link set "$1" down; }
heal_link() { ip -n $tag-1 link set "$1" up; }

corosync_conf() {
    local n
    cat <<EOF
totem {
    version: 2
    cluster_name: rdb
    transport: knet
    crypto_cipher: none
    crypto_hash: none
    token: 5000
}
quorum {
    provider: corosync_votequorum
    two_node: 1
    wait_for_all: 0
}
logging {
    to_stderr: no
    to_syslog: no
    to_logfile: yes
    logfile: /var/log/corosync.log
}
system {
    sched_rr: no
    move_to_root_cgroup: no
}
nodelist {
EOF
    for n in 1 2; do
        printf '    node {\n        ring0_addr: %s.%s\n        name: node%s\n        nodeid: %s\n    }\n' "$(net ring)" $n $n $n
    done
    echo '}'
}

boot() { # boot NODE
    local n=$1 d=$work/n$1
    mkdir -p "$d"/{log,pacemaker,corosync,etc}
    corosync_conf >"$d/etc/corosync.conf"
    printf '127.0.0.1 localhost\n%s.1 node1\n%s.2 node2\n' "$(net ring)" "$(net ring)" >"$d/hosts"
    cat >"$d/init" <<EOF
mount --make-rprivate /
hostname node$n
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /run/lock /run/crm /run/resource-agents
mount --bind $d/log /var/log
mkdir -p /var/log/pacemaker
chown hacluster:haclient /var/log/pacemaker /run/crm
chmod 770 /var/log/pacemaker
mount --bind $d/pacemaker /var/lib/pacemaker
mkdir -p /var/lib/pacemaker/{cib,pengine,blackbox,cores}
chown -R hacluster:haclient /var/lib/pacemaker
mount --bind $d/corosync /var/lib/corosync
mount --bind $d/etc /etc/corosync
mount --bind $d/hosts /etc/hosts
mount --bind $work/drbd.conf /etc/drbd.conf
export PATH=$work/bin:\$PATH RDB_FRONTEND=$frontend
$(of_node "$n")
ulimit -l unlimited
corosync -f >/var/log/corosync.err 2>&1 &
until corosync-quorumtool -s >/dev/null 2>&1; [ \$? -le 1 ]; do sleep 0.1; done
PCMK_logfile=/var/log/pacemaker/pacemaker.log PCMK_logfacility=none pacemakerd >/var/log/pacemakerd.err 2>&1 &
while :; do wait; sleep 1; done
EOF
    start_host "$n" "$tag-$n"
}
begin() {
    local n
    need corosync pacemakerd cibadmin crm_attribute crm_mon qemu-io ip nsenter unshare
    mkdir -p "$work/bin"
    cp "$binaries/rdbd" "$binaries/rdbadm" "$work/bin/"
    trap end EXIT
    links_up
    for n in 1 2; do boot $n; done
    await 60 both_online
}
both_online() { on 1 crm_mon -1 | grep -q 'Online: \[ node1 node2 \]'; }
end() {
    local n
    for n in 1 2; do
        power_off $n
        ip netns del $tag-$n 2>/dev/null
    done
    release_loops
}
