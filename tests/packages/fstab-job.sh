# shellcheck shell=bash disable=SC2154,SC2016
# Sourced by `pair`: a line of /etc/fstab for the device, on alice; bob is her mirror.
# shellcheck source=service-lib.sh
. "$here/service-lib.sh"

on alice sh -c 'mkdir -p /etc/systemd/system/drbd-wait-promotable@r0.service.d && cat >/etc/systemd/system/drbd-wait-promotable@r0.service.d/time.conf' <<'UNIT'
[Service]
TimeoutStartSec=15
UNIT
on alice sh -c 'mkdir -p /etc/systemd/system/lines.service.d && cat >/etc/systemd/system/lines.service.d/data.conf' <<'UNIT'
[Unit]
RequiresMountsFor=/mnt
[Install]
WantedBy=multi-user.target
UNIT
on alice sh -c 'echo "/dev/drbd0 /mnt ext4 nofail,x-systemd.requires=drbd-promote@r0.service 0 0" >>/etc/fstab'
on alice systemctl daemon-reload
must on alice systemctl enable lines drbd@r0.target drbd-wait-promotable@r0
must on alice systemctl start lines
well alice
is_primary alice || fail "not promoted"
say "a line of /etc/fstab mounts the device, and promotes before"

daemon=$(main_pid alice rdbd) invocation=$(on alice systemctl show -P InvocationID lines)
must on alice systemctl kill -s KILL --kill-whom=main rdbd
await 20 another_runs alice rdbd "$daemon"
well alice
[ "$(on alice systemctl show -P InvocationID lines)" = "$invocation" ] || fail "the service was started anew"
both_in_sync
say "a killed daemon unmounts nothing"

shut_down alice
boot alice
well alice
both_in_sync
before alice 'Stopped lines.service' 'Unmounted mnt.mount'
before alice 'Unmounted mnt.mount' 'role\( Primary -> Secondary \)'
before alice 'role\( Primary -> Secondary \)' 'Stopped rdbd.service'
daemon_ended_in_order alice
say "it is there after a boot, and ended in order before: service, mount, role, daemon"

shut_down alice
must on bob rdbadm primary r0 --force
boot alice
# (Of units that wait for one another systemd leaves some out, such as local-fs.target.)
for unit in local-fs.target remote-fs.target multi-user.target; do
    [ "$(on alice systemctl is-active $unit)" = active ] || fail "the machine came up without $unit"
done
! uses alice || fail "two nodes use the device"
! is_primary alice || fail "two nodes are Primary"
on alice journalctl -b --no-pager -o cat | grep -q 'Dependency failed for mnt.mount' || fail "it does not say why"
both_in_sync
say "while the peer is Primary the machine comes up without it"
must on bob rdbadm secondary r0
must on alice systemctl start lines
well alice
say "and has it by hand when the peer has given the role up"

