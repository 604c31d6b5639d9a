# shellcheck shell=bash disable=SC2154,SC2016
# Sourced by `pair`: the promoter, under systemd on two machines, and what may happen to it.
# shellcheck source=service-lib.sh
. "$here/service-lib.sh"

for node in $nodes; do
    on "$node" sh -c 'cat >/etc/rdb/promoter.toml' <<'TOML'
[resources.r0]
start = [
    { name = "data", command = "mount /dev/drbd0 /mnt", stop = "! mountpoint -q /mnt || umount /mnt", check = "mountpoint -q /mnt" },
    "lines.service",
]
peer-lost-wait = 3
peer-wait = 20
monitor-interval = 1
TOML
done
for node in $nodes; do must on "$node" systemctl enable --now rdb-promoter@r0; done
await 30 eval 'serves alice || serves bob'
at=alice
serves alice || at=bob
well $at
say "one of two promoters has the services: $at"

before=$(count $at)
cut_power $at
at=$(other $at)
on $at touch /var/peer-is-off
well $at
[ "$(count $at)" -ge "$before" ] || fail "lines are missing"
say "the power of that one is cut: $at has them, with every line"
return_of "$(other $at)"
well $at
say "it returns, is synced, and leaves them there"

daemon=$(main_pid $at rdbd) invocation=$(on $at systemctl show -P InvocationID lines)
must on $at systemctl kill -s KILL --kill-whom=main rdbd
await 20 another_runs $at rdbd "$daemon"
well $at
[ "$(on $at systemctl show -P InvocationID lines)" = "$invocation" ] || fail "the service was started anew"
both_in_sync
say "a killed daemon is followed by another, and the service notices a pause"

promoter=$(main_pid $at rdb-promoter@r0)
must on $at systemctl kill -s KILL --kill-whom=main rdb-promoter@r0
await 20 another_runs $at rdb-promoter@r0 "$promoter"
well $at
[ "$(on $at systemctl show -P InvocationID lines)" = "$invocation" ] || fail "the service was started anew"
say "so is a killed promoter, and the service goes on"

must on $at systemctl kill -s KILL lines
at=$(other $at)
well $at
both_in_sync
say "a service that dies moves to $at"

must on $at systemctl stop rdb-promoter@r0
! uses $at && ! is_primary $at || fail "a stopped promoter leaves something"
at=$(other $at)
well $at
must on "$(other $at)" systemctl start rdb-promoter@r0
say "a promoter that is stopped gives them away, to $at"

begun=$SECONDS
shut_down $at
[ $((SECONDS - begun)) -lt 60 ] || fail "it took $((SECONDS - begun)) s to shut $at down"
at=$(other $at)
on $at touch /var/peer-is-off
well $at
return_of "$(other $at)"
down=$(other $at)
before "$down" 'Stopped lines.service' 'mnt.mount: Deactivated|Unmounted mnt.mount'
before "$down" 'mnt.mount: Deactivated|Unmounted mnt.mount' 'role\( Primary -> Secondary \)'
before "$down" 'Stopped rdb-promoter@r0' 'Stopped rdbd.service'
daemon_ended_in_order "$down"
say "so does a machine that is shut down, in order: service, mount, role, promoter, daemon"

for node in $nodes; do shut_down "$node" & done
wait
for node in $nodes; do rm -f "$work/$node/pid"; done
for node in $nodes; do boot "$node"; done
for node in $nodes; do on "$node" rm -f /var/peer-is-off; done
await 60 eval 'serves alice || serves bob'
at=alice
serves alice || at=bob
well $at
both_in_sync
say "both are shut down at once, and started: $at has them"
