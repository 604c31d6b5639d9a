#!/bin/bash
# drbd-utils' own crm-fence-peer.sh and crm-unfence-peer.sh, unmodified, as handlers of rdb in a two-node Pacemaker cluster.
#   fencing.sh BINARIES WORK
binaries=$1 work=$2 frontend=socket
. "$(cd "$(dirname "$0")" && pwd)/cluster-lib.sh"
scripts=/usr/lib/drbd
for script in crm-fence-peer.sh crm-unfence-peer.sh; do
    [ -x $scripts/$script ] || {
        echo "$scripts/$script is missing: drbd-utils; run .ci/setup"
        exit 1
    }
done
show="unshare -m $here/shows-status"
cat >"$work/drbd.conf" <<EOF
global { usage-count no; disable-ip-verification; }
resource r0 {
    device /dev/drbd0;
    meta-disk internal;
    net { connect-int 1; ping-int 2; ping-timeout 20; timeout 15; }
    disk { fencing resource-and-stonith; }
    handlers {
        fence-peer "$show $scripts/crm-fence-peer.sh --timeout 10 --dc-timeout 30";
        unfence-peer "$show $scripts/crm-unfence-peer.sh";
    }
    on node1 { address $(net repl).1:7789; disk $work/disk1; }
    on node2 { address $(net repl).2:7789; disk $work/disk2; }
}
EOF
# Both nodes have this machine's /dev.
echo 'device-links = false' >"$work/rdbd.toml"
of_node() {
    echo 'mount -t tmpfs tmpfs /usr/lib/ocf/resource.d'
    echo 'mkdir -p /usr/lib/ocf/resource.d/rdbtest'
    echo "cp $here/agent /usr/lib/ocf/resource.d/rdbtest/drbd"
    echo "rdbd --config $work/rdbd.toml >/run/rdbd.log 2>&1 &"
}
constraint() { on 1 cibadmin -Q -o constraints | grep -q 'id="drbd-fence-by-handler-r0-ms_r0"'; }
no_constraint() { ! constraint; }
status() { on "$1" rdbadm status r0 | grep -qE "$2"; }
promoted() { on 1 crm_mon -1 | grep -qE "Promoted: \[ $1 \]"; }
# Writes a block by the NBD socket, and ends when it is written.
write() {
    on 1 qemu-io -f raw -c "write -P $1 0 4k" -c flush 'nbd+unix:///r0/0?socket=/run/rdb/nbd/r0.sock'
}
helper() { on 1 grep -a 'fence-peer r0 exit code' /run/rdbd.log | tail -n 1; }

begin
say "a cluster of two"
must on 1 crm_attribute -t crm_config -n stonith-enabled -v false
must on 1 crm_attribute -t crm_config -n no-quorum-policy -v ignore
must on 1 cibadmin -o resources -C -X '<clone id="ms_r0"><meta_attributes id="ms_r0-m"><nvpair id="ms_r0-m1"
    name="promotable" value="true"/></meta_attributes><primitive id="p_r0" class="ocf" provider="rdbtest" type="drbd">
    <instance_attributes id="p_r0-i"><nvpair id="p_r0-i1" name="drbd_resource" value="r0"/></instance_attributes>
    <operations><op id="p_r0-m1" name="monitor" interval="10s" role="Promoted"/><op id="p_r0-m2" name="monitor"
    interval="11s" role="Unpromoted"/></operations></primitive></clone>'
await 30 promoted node1
for n in 1 2; do
    truncate -s 32M "$work/disk$n"
    must on $n rdbadm create-md --force r0
    must on $n rdbadm up r0
done
must on 1 rdbadm primary --force r0
await 30 status 1 'replication:Established peer-disk:UpToDate'
await 10 no_constraint
must write 1
say "a pair, and no constraint"

cut_link repl
await 20 status 1 'connection:Connecting'
must write 2
await 10 constraint
helper | grep -q 'exit code 4 ' || fail "$(helper)"
status 1 'peer-disk:Outdated|peer.*Outdated' || on 1 grep -qE 'ds:UpToDate/Outdated' /run/rdb/status || fail "not outdated"
say "the link is cut: the constraint is placed, and then users go on"

heal_link repl
await 30 status 1 'replication:Established peer-disk:UpToDate'
await 20 no_constraint
say "the peer has everything again: the constraint is taken away"

power_off 2
await 40 status 1 'connection:Connecting'
must write 3
await 10 constraint
helper | grep -qE 'exit code (4|5|7) ' || fail "$(helper)"
say "the peer loses its power: it is fenced, and users go on"

boot 2
await 60 both_online
await 20 on 2 rdbadm proc
must on 2 rdbadm up r0
await 30 status 1 'replication:Established peer-disk:UpToDate'
await 20 no_constraint
say "it is back, synced and unfenced"
for n in 1 2; do must on $n rdbadm down r0; done
cmp -n $((16 << 20)) "$work/disk1" "$work/disk2" || fail "the disks differ"
say "the disks are equal"
