# Runs in the guest: snapshots of backing disks that are logical volumes, by the scripts of packaging/lib, below a device in use, ublk's if not `frontend` says otherwise.
. /usr/local/bin/pair-lib.sh
scripts=/usr/lib/rdb
ln -s rdbadm /usr/local/bin/rdbsetup
ln -s snapshot-resync-target $scripts/unsnapshot-resync-target
chmod +x $scripts/snapshot*

there_are_logical_volumes() {
    local node device
    modprobe dm-snapshot && modprobe dm-thin-pool || fail "the kernel has no device-mapper"
    for node in alice bob; do
        truncate -s 400M $work/$node.pv
        device=$(losetup -f --show $work/$node.pv)
        must lvm pvcreate -q "$device"
        must lvm vgcreate -q vg-$node "$device"
        # The one is a thick volume, the other one a thin one.
        [ $node = bob ] || must lvm lvcreate -q -L 64M -n data vg-$node </dev/null
    done
    must lvm lvcreate -q --type thin-pool -L 200M -n pool vg-bob
    must lvm lvcreate -q -V 64M --thinpool pool -n data vg-bob
    [ "$(lvs --noheadings -o segtype vg-bob/data | tr -d ' ')" = thin ] || fail "it is not thin"
    cat >$work/drbd.conf <<CONF
global { usage-count no; disable-ip-verification; }
resource r0 {
    net { protocol C; ping-timeout 30; }
    disk { resync-rate 2M; c-plan-ahead 0; }
    handlers {
        snapshot "$scripts/snapshot -v -- -y";
        before-resync-target "RDBADM=/usr/local/bin/rdbadm $scripts/snapshot-resync-target -d -v";
        after-resync-target "RDBSETUP=/usr/local/bin/rdbsetup $scripts/unsnapshot-resync-target -v";
    }
    on alice { volume 0 { device /dev/drbd5; disk /dev/vg-alice/data; meta-disk internal; } address 127.0.0.1:7789; }
    on bob { volume 0 { device /dev/drbd5; disk /dev/vg-bob/data; meta-disk internal; } address 127.0.0.2:7789; }
}
CONF
    start_both "${frontend:-ublk}"
    skip_first_sync alice
    must adm alice primary r0
}

size() { blockdev --getsize64 /dev/drbd5; }
sum_of() { dd if="$1" bs=1M count="$(size)" iflag=direct,count_bytes status=none | sha256sum; }

snapshots_below_a_writer_are_equal() {
    local n a b
    while [ ! -e $work/enough ]; do
        timeout 240 fio --name=writer --filename=/dev/drbd5 --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=16 --size=8M \
            --aux-path=/tmp >$work/fio 2>&1 || exit 1
    done &
    sleep 3
    for n in 1 2; do
        must adm alice snapshot r0 --name s$n --timeout 90
        a=$(sum_of /dev/vg-alice/data-s$n) b=$(sum_of /dev/vg-bob/data-s$n)
        [ "$a" = "$b" ] || fail "snapshot s$n differs: $a $b"
        must env DRBD_LL_DISK=/dev/vg-alice/data $scripts/snapshot --remove s$n
        must env DRBD_LL_DISK=/dev/vg-bob/data $scripts/snapshot --remove s$n
        [ ! -e /dev/vg-alice/data-s$n ] || fail "snapshot s$n is still there"
    done
    : >$work/enough
    wait $! || fail "the writer has seen an error: $(tail -n 5 $work/fio)"
}

a_name_that_is_there_fails_on_both() {
    local out
    must adm alice snapshot r0 --name twice --timeout 90
    out=$(adm alice snapshot r0 --name twice --timeout 90 2>&1) && fail "it succeeded: $out"
    grep -q 'here: exit 1; peer: exit 1' <<<"$out" || fail "$out"
    for node in alice bob; do must env DRBD_LL_DISK=/dev/vg-$node/data $scripts/snapshot --remove twice; done
}

a_target_keeps_its_old_data_until_the_resync_has_ended() {
    local before kept=/dev/vg-bob/data-+before-resync
    must adm bob disconnect r0
    must dd if=/dev/urandom of=/dev/drbd5 bs=1M count=24 oflag=direct status=none
    before=$(sum_of /dev/vg-bob/data)
    must adm bob connect r0
    await 30 is bob 'cs:SyncTarget'
    [ "$(sum_of $kept)" = "$before" ] || fail "the snapshot is not the old data"
    await 60 settled
    await 30 [ ! -e $kept ]
    # And where the target is the thick one.
    must adm alice secondary r0
    must adm bob primary r0
    kept=/dev/vg-alice/data-+before-resync
    must adm alice disconnect r0
    must dd if=/dev/urandom of=/dev/drbd5 bs=1M count=24 oflag=direct status=none
    before=$(sum_of /dev/vg-alice/data)
    must adm alice connect r0
    await 30 is alice 'cs:SyncTarget'
    # 24 MiB are out of sync, 10 are added, and a tenth of the volume: 6.4.
    lvs --noheadings --units m -o lv_size $kept | grep -qE ' (40|44)[.,]00m' || fail "its size is $(lvs --noheadings --units m -o lv_size $kept)"
    [ "$(sum_of $kept)" = "$before" ] || fail "the snapshot is not the old data"
    await 60 settled
    await 30 [ ! -e $kept ]
}

scenario "there are logical volumes" there_are_logical_volumes
[ $failed = 0 ] || exit 1
scenario "snapshots below a writer are equal" snapshots_below_a_writer_are_equal
scenario "a name that is there fails on both" a_name_that_is_there_fails_on_both
scenario "a target keeps its old data until the resync has ended" a_target_keeps_its_old_data_until_the_resync_has_ended
result
