# shellcheck shell=bash disable=SC2154,SC2016
# Sourced by `pair`'s jobs: two machines with the packages, a resource, and a service that writes to it.

# prepare NODE. A fence device says whether the peer is off: /var/peer-is-off is ours to write.
prepare() {
    local node=$1 deb
    boot "$node"
    for deb in "${debs[@]:0:2}"; do on "$node" sh -c "cat >'${deb##*/}'" <"$deb"; done
    must on "$node" apt-get install -y ./rdb.deb ./rdb-drbd-compat.deb
    on "$node" sh -c 'cat >/etc/drbd.d/r0.res' <<'CONF'
resource r0 {
    net { ping-timeout 20; timeout 40; connect-int 1; ping-int 2; }
    disk { fencing resource-and-stonith; resync-rate 100M; }
    handlers { fence-peer /usr/local/sbin/fence-peer; }
    startup { wfc-timeout 5; degr-wfc-timeout 5; outdated-wfc-timeout 5; }
    device /dev/drbd0; disk /dev/vg/data; meta-disk internal;
    on alice { address 10.0.0.1:7789; }
    on bob { address 10.0.0.2:7789; }
}
CONF
    on "$node" sh -c 'cat >/usr/local/sbin/fence-peer && chmod +x /usr/local/sbin/fence-peer' <<'SCRIPT'
#!/bin/sh
[ ! -e /var/peer-is-off ] || exit 7
exit 1
SCRIPT
    on "$node" sh -c 'cat >/etc/systemd/system/lines.service' <<'UNIT'
[Service]
ExecStart=/bin/sh -c 'n=$(wc -l </mnt/lines || echo 0); while :; do n=$((n + 1)); echo "line $n" | dd of=/mnt/lines oflag=append,sync conv=notrunc status=none || exit 1; sleep 0.05; done'
UNIT
    on "$node" systemctl daemon-reload
    must on "$node" rdbadm create-md r0
    must on "$node" rdbadm up r0
}
serves() { [ "$(on "$1" systemctl is-active lines)" = active ] && on "$1" mountpoint -q /mnt && ! uses "$(other "$1")"; }
uses() { alive "$1" && { on "$1" mountpoint -q /mnt || [ "$(on "$1" systemctl is-active lines)" = active ]; }; }
count() { on "$1" sh -c 'wc -l </mnt/lines'; }
grows() { local before; before=$(count "$1"); await 10 eval "[ \$(count $1) -gt $((before + 3)) ]"; }
# well NODE: the service is there and nowhere else, goes on, and has lost nothing
well() {
    await 40 serves "$1"
    grows "$1"
    # Numbered without a gap, but for the line that was being written.
    on "$1" awk '$2 != NR { bad = 1 } END { exit bad }' /mnt/lines || fail "lines are missing"
}
in_sync() { on "$1" rdbadm status r0 | grep -q 'replication:Established peer-disk:UpToDate'; }
both_in_sync() { await 40 in_sync alice; await 40 in_sync bob; }
return_of() { # return_of NODE
    boot "$1"
    on "$(other "$1")" rm -f /var/peer-is-off
    both_in_sync
}
# before NODE FIRST THEN: of the boot that has ended, in the journal
before() {
    local journal first then
    journal=$(on "$1" journalctl -b -1 --no-pager -o cat)
    first=$(grep -nE "$2" <<<"$journal" | tail -n 1 | cut -d : -f 1)
    then=$(grep -nE "$3" <<<"$journal" | tail -n 1 | cut -d : -f 1)
    [ -n "$first" ] && [ -n "$then" ] && [ "$first" -lt "$then" ] || { tail -n 80 <<<"$journal"; fail "$1: '$2' (line $first) is not before '$3' (line $then)"; }
}
daemon_ended_in_order() {
    local journal
    journal=$(on "$1" journalctl -b -1 --no-pager -u rdbd | awk '/Stopping rdbd.service/ { text = "" } { text = text "\n" $0 } END { print text }')
    ! grep -qE 'SIGKILL|timed out|Failed with' <<<"$journal" || fail "$1's daemon did not end in order: $(tail -n 20 <<<"$journal")"
}
main_pid() { on "$1" systemctl show -P MainPID "$2"; }
another_runs() { local now; now=$(main_pid "$1" "$2"); [ "$now" != 0 ] && [ "$now" != "$3" ]; }
is_primary() { [ "$(on "$1" rdbadm role r0 | cut -d / -f 1)" = Primary ]; }

for node in $nodes; do prepare "$node"; done
await 20 on alice rdbadm wait-connect r0
must on alice rdbadm primary --force r0
must on alice mkfs.ext4 -q /dev/drbd0
must on alice rdbadm secondary r0
both_in_sync
say "two machines, connected and in sync"
