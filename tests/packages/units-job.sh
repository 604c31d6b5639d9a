# shellcheck shell=bash disable=SC2154,SC2016
# Sourced by `pair`: the units with drbd-utils' names, on alice; bob is her mirror.
# shellcheck source=service-lib.sh
. "$here/service-lib.sh"

on alice sh -c 'cat >/etc/systemd/system/data.service' <<'UNIT'
[Unit]
Requires=drbd-promote@r0.service
After=drbd-promote@r0.service
PartOf=drbd-services@r0.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount /dev/drbd0 /mnt
ExecStop=/bin/umount /mnt
[Install]
WantedBy=drbd-services@r0.target
UNIT
on alice sh -c 'mkdir -p /etc/systemd/system/lines.service.d && cat >/etc/systemd/system/lines.service.d/data.conf' <<'UNIT'
[Unit]
Requires=data.service
After=data.service
PartOf=drbd-services@r0.target
[Install]
WantedBy=drbd-services@r0.target
UNIT
units="drbd@r0.service drbd-lvchange@r0.service drbd-wait-promotable@r0.service drbd@r0.target drbd-demote-or-escalate@r0.service
    drbd-reconfigure-suspend-or-error@r0.service drbd-promote@r0.service data.service lines.service drbd-services@r0.target"
are() { # are STATE UNIT...
    local state=$1 unit
    shift
    for unit; do [ "$(on alice systemctl is-active "$unit")" = "$state" ] || { echo "      $unit is $(on alice systemctl is-active "$unit")"; return 1; }; done
}
# (The one that waits has ended when there is nothing more to wait for.)
all_run() { are active ${units/drbd-wait-promotable@r0.service/}; }
is_down() { [ "$(on alice rdbadm role r0)" = Unconfigured ]; }
on alice systemctl daemon-reload
must on alice systemctl enable data lines drbd@r0.target drbd-lvchange@r0 drbd-wait-promotable@r0
must on alice systemctl start drbd-demote-or-escalate@r0 drbd-reconfigure-suspend-or-error@r0 drbd-services@r0.target
all_run || fail "not all units run"
at=alice
well alice
on alice rdbsetup show r0 | grep -q 'on-no-data-accessible[[:space:]]*suspend-io' || fail "users do not wait for data: $(on alice rdbsetup show r0)"
say "drbd-services@r0.target starts all below it"

daemon=$(main_pid alice rdbd) invocation=$(on alice systemctl show -P InvocationID lines)
must on alice systemctl kill -s KILL --kill-whom=main rdbd
await 20 another_runs alice rdbd "$daemon"
well alice
all_run || fail "not all units run"
[ "$(on alice systemctl show -P InvocationID lines)" = "$invocation" ] || fail "the service was started anew"
both_in_sync
say "a killed daemon ends none of them"

must on alice systemctl stop drbd-services@r0.target
await 20 are inactive data.service lines.service
must on alice systemctl stop drbd-promote@r0
! is_primary alice || fail "still Primary"
must on alice systemctl stop drbd-demote-or-escalate@r0 drbd-reconfigure-suspend-or-error@r0
! on alice rdbsetup show r0 | grep -q 'on-no-data-accessible[[:space:]]*suspend-io' || fail "users would still wait for data"
must on alice systemctl stop drbd@r0.target
await 20 is_down
say "stopped one by one, they undo what they did"

must on alice systemctl add-wants multi-user.target drbd-demote-or-escalate@r0.service drbd-reconfigure-suspend-or-error@r0.service drbd-services@r0.target
shut_down alice
boot alice
await 60 all_run
well alice
both_in_sync
say "they start with the machine"
shut_down alice
must on bob rdbadm primary r0 --force
must on bob rdbadm secondary r0
boot alice
before alice 'Stopped lines.service' 'Stopped data.service'
before alice 'Stopped data.service' 'role\( Primary -> Secondary \)'
before alice 'role\( Primary -> Secondary \)' 'Stopped rdbd.service'
daemon_ended_in_order alice
await 60 all_run
well alice
both_in_sync
say "and end with it, in order: service, mount, role, daemon"

# Somebody does not let go: what the drop-in says follows.
on alice sh -c 'mkdir -p /etc/systemd/system/drbd-demote-or-escalate@.service.d && cat >/etc/systemd/system/drbd-demote-or-escalate@.service.d/escalate.conf' <<'UNIT'
[Unit]
FailureAction=poweroff-force
UNIT
on alice systemctl daemon-reload
must on alice systemctl stop drbd-services@r0.target
await 20 are inactive data.service lines.service
on alice sh -c 'setsid sleep 1000 </dev/drbd0 >/dev/null 2>&1 &'
pid=$(cat "$work/alice/pid")
# (systemctl itself ends with 0 then.)
on alice systemctl stop drbd-promote@r0
are failed drbd-promote@r0.service && is_primary alice || fail "a device that is open was demoted"
on alice systemctl stop --no-block drbd-demote-or-escalate@r0
await 40 is_off "$pid"
rm -f "$work/alice/pid"
await 20 eval 'on bob rdbadm cstate r0 | grep -q WFConnection'
say "a user who does not let go costs the machine its power, when drbd-demote-or-escalate@ says so"
boot alice
on bob rm -f /var/peer-is-off
await 60 all_run
well alice
