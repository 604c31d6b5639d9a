# Sourced by interop.sh: the scenarios. `short` and `long` list them; each is a function that
# begins with a pair in sync (or makes one) and leaves a pair in sync, both Secondary.

start_over() {
    guest_cut
    VOLUMES=1 META=internal RATE='' area=$internal_area
    configuration 'protocol C;' ''
    guest_start
    fresh
    must radm primary --force r0
    quiet
    model_is rdb
    must radm secondary r0
}
both_secondary() {
    must kadm secondary r0
    must radm secondary r0
    quiet
}

# ---- meeting and first sync

first_meeting() { # NET DISK
    configure "$1" "$2"
    fresh
    guest 10 'dmesg' | grep -a 'Agreed network protocol version' | tail -n 1 | grep -aq 'version 101' || fail "the kernel did not agree on protocol 101"
    # What they have in common: trim, thin resync, write-same, write-zeroes.
    guest 10 'dmesg' | grep -a 'Feature flags enabled on protocol level' | tail -n 1 | grep -aq ': 0xf ' || fail "the kernel agreed on other features: $(guest 10 dmesg | grep -a 'Feature flags' | tail -n 1)"
    both_lines
}
both_lines() { echo "kernel: $(kline)"; echo "rdb: $(rline)"; }
first_sync() { # rdb|kernel
    local volume
    if [ "$1" = rdb ]; then must radm primary --force r0; else must kadm primary --force r0; fi
    quiet
    model_is "$1"
    equal
    both_secondary
    for volume in $(volumes); do
        [ "$(guest 10 "drbdadm show-gi r0/$volume >/dev/null 2>&1; drbdadm get-gi r0/$volume" | tail -n 1 | cut -d: -f1-4)" = \
            "$(radm get-gi "r0/$volume" | tail -n 1 | cut -d: -f1-4)" ] ||
            echo "note: get-gi differ: $(guest 10 "drbdadm get-gi r0/$volume") and $(radm get-gi "r0/$volume")"
    done
}
other_first_sync() { # rdb|kernel NET DISK
    first_meeting "$2" "$3"
    first_sync "$1"
}

# ---- writes

kernel_writes() {
    local at=1048576 length seed=$1
    for length in 512 1024 4096 8192 12288 65536 131072 524288 1048576; do
        seed=$((seed + 1))
        kwrite 0 $at "$length" "$seed"
        at=$((at + length + 512 * (seed % 7)))
    done
    kwrite 0 $((at + 4096)) 16384 $((seed + 1)) dsync
    must guest 20 'sync /dev/drbd0'
    kwrite 0 $((20 * 1048576 + 512)) 3584 $((seed + 2)) dsync
    kzero 0 $((2 * 1048576)) 524288
    kzero 0 $((3 * 1048576 + 4096)) 65536 -z
    kwrite 0 $((3 * 1048576 + 8192)) 512 $((seed + 3))
    kwrite 0 $((area / 4096 * 4096 - 4096)) 4096 $((seed + 4))
}
rdb_writes() {
    local at=5242880 length seed=$1
    for length in 512 1024 4096 8192 12288 65536 131072 524288 1048576; do
        seed=$((seed + 1))
        rwrite 0 $at "$length" "$seed"
        at=$((at + length + 512 * (seed % 7)))
    done
    rwrite 0 $((at + 4096)) 16384 $((seed + 1)) -f
    must rio 0 flush
    rwrite 0 $((21 * 1048576 + 512)) 3584 $((seed + 2)) -f
    rzero 0 $((6 * 1048576)) 524288 discard
    rzero 0 $((7 * 1048576 + 4096)) 65536 'write -z'
    rzero 0 $((7 * 1048576 + 262144)) 131072 'write -z -u'
    rwrite 0 $((7 * 1048576 + 8192)) 512 $((seed + 3))
    rwrite 0 $((area / 4096 * 4096 - 8192)) 4096 $((seed + 4))
}
writes() { # kernel|rdb
    if [ "$1" = kernel ]; then
        primary_kernel
        kernel_writes 100
    else
        primary_rdb
        rdb_writes 300
        must rio 0 "read -q $((7 * 1048576 + 262144)) 131072"
    fi
    both_secondary
    equal
}
switches() {
    local turn
    for turn in 1 2 3; do
        primary_kernel
        kwrite 0 $((turn * 40960)) 4096 "90$turn"
        primary_rdb
        rwrite 0 $((turn * 40960 + 8192)) 4096 "91$turn"
    done
    refused kadm primary r0
    both_secondary
    equal
}
many_writes() { # kernel|rdb: several in flight
    if [ "$1" = kernel ]; then
        primary_kernel
        must guest 120 'for j in 1 2 3 4; do (for i in $(seq 40); do dd if=/dev/urandom of=/dev/drbd0 bs=$((512 * (1 + (i * j) % 60))) count=1 seek=$((j * 8388608 + i * 65536))B oflag=direct conv=notrunc status=none || exit 1; done) & done; wait'
    else
        primary_rdb
        local commands=() i
        for i in $(seq 150); do commands+=("aio_write -q -P $((i % 250 + 1)) $((33554432 + i * 40960)) $((512 * (1 + i % 70)))"); done
        must rio 0 "${commands[@]}" aio_flush flush
    fi
    both_secondary
    same
    model_is kernel
}

# ---- apart and together again

apart() { # WRITER: kernel|rdb, LEAVER: kernel|rdb
    kmark
    if [ "$1" = kernel ]; then primary_kernel; else primary_rdb; fi
    if [ "$2" = kernel ]; then
        must kadm disconnect r0
        rawait 'cs:WFConnection' 20
    else
        must radm disconnect r0
        kawait 'cs:WFConnection' 20
    fi
    if [ "$1" = kernel ]; then
        kwrite 0 $((10 * 1048576)) 262144 501
        kwrite 0 $((30 * 1048576 + 4096)) 4096 502
        kwrite 0 $((44 * 1048576 + 1024)) 512 503
    else
        rwrite 0 $((11 * 1048576)) 262144 511
        rwrite 0 $((31 * 1048576 + 4096)) 4096 512
        rwrite 0 $((45 * 1048576 + 1024)) 512 513
    fi
    if [ "$2" = kernel ]; then must kadm connect r0; else must radm connect r0; fi
    quiet
    equal
    resync_of $((256 + 4 + 4))
    both_secondary
}
apart_both_wrote_bits() { # many scattered bits, so that the bitmap takes several packets and both codings
    primary_rdb
    must kadm disconnect r0
    rawait 'cs:WFConnection' 20
    local commands=() i
    for i in $(seq 0 2 700); do commands+=("write -q -P $((i % 200 + 5)) $((i * 65536 + i % 5 * 4096)) 4096"); done
    must rio 0 "${commands[@]}"
    must kadm connect r0
    quiet
    same
    resync_of $((351 * 4))
    model_is rdb
    primary_kernel
    must radm disconnect r0
    kawait 'cs:WFConnection' 20
    must guest 120 'for i in $(seq 0 2 500); do echo $((i * 98304 + i % 3 * 4096)); done | while read -r at; do dd if=/dev/urandom of=/dev/drbd0 bs=4k count=1 seek=${at}B oflag=direct conv=notrunc status=none || exit 1; done'
    must radm connect r0
    quiet
    same
    resync_of $((251 * 4))
    model_is kernel
    both_secondary
}
reconfigured() { # NET DISK FUNCTION...: the function with another configuration
    down_both
    configure "$1" "$2"
    up_both
    quiet 40
    shift 2
    "$@"
}
link_cut() { # WRITER
    if [ "$1" = kernel ]; then primary_kernel; else primary_rdb; fi
    ip link set rdb0 down
    if [ "$1" = kernel ]; then
        kawait 'cs:WFConnection' 60
        kwrite 0 $((12 * 1048576)) 65536 521
    else
        rawait 'cs:WFConnection' 60
        rwrite 0 $((13 * 1048576)) 65536 522
    fi
    ip link set rdb0 up
    quiet
    equal
    both_secondary
}

# ---- crashes

rdb_killed_as_secondary() {
    primary_kernel
    kload
    load_runs
    rdb_cut
    kawait 'cs:WFConnection' 40
    kwrite 0 $((14 * 1048576)) 131072 601
    rdb_start
    must radm up r0
    quiet
    load_end
    sleep 0.5
    quiet
    load_known kernel
    equal
    both_secondary
}
rdb_killed_as_primary() { # rdb|kernel: who goes on
    primary_rdb
    rwrite 0 $((15 * 1048576)) 65536 611
    rload
    load_runs
    rdb_cut
    load_end
    kawait 'cs:WFConnection' 40
    if [ "$1" = kernel ]; then
        must kadm primary r0
        kwrite 0 $((16 * 1048576)) 65536 612
    fi
    rdb_start
    must radm up r0
    quiet
    resync_of $((40 * 1024))
    load_known kernel
    equal
    both_secondary
}
kernel_cut_as_secondary() {
    primary_rdb
    rload
    load_runs
    guest_cut
    rawait 'cs:WFConnection' 40
    rwrite 0 $((17 * 1048576)) 65536 621
    guest_start
    must kadm up r0
    quiet
    load_end
    quiet
    resync_of $((40 * 1024))
    load_known rdb
    equal
    both_secondary
}
kernel_cut_as_primary() { # kernel|rdb: who goes on
    primary_kernel
    kwrite 0 $((18 * 1048576)) 65536 631
    kload
    load_runs
    if [ "$1" = rdb ]; then
        guest 2 'echo b >/proc/sysrq-trigger'
        sleep 1
    fi
    guest_cut
    load_end
    rawait 'cs:WFConnection' 40
    if [ "$1" = rdb ]; then
        must radm primary r0
        rwrite 0 $((19 * 1048576)) 65536 632
    fi
    guest_start
    must kadm up r0
    quiet
    resync_of $((40 * 1024))
    load_known rdb
    equal
    both_secondary
}

# ---- authentication

wrong_secret() {
    down_both
    configure 'protocol C; cram-hmac-alg sha1; shared-secret "right";' ''
    must kadm up r0
    sed -i 's/"right"/"wrong"/' "$work/drbd.conf"
    radm up r0
    kawait 'cs:StandAlone' 30
    rawait 'cs:(StandAlone|WFConnection)' 30
    radm disconnect r0
    must radm down r0
    must kadm down r0
    configure 'protocol C;' ''
    up_both
    quiet
    equal
}

# ---- diskless, invalidate, split brain

diskless() { # kernel|rdb, which is Primary without a disk
    if [ "$1" = kernel ]; then
        primary_kernel
        must kadm detach r0
        kawait 'ds:Diskless/UpToDate' 20
        rawait 'ds:UpToDate/Diskless' 20
        kwrite 0 $((22 * 1048576)) 65536 701
        kwrite 0 $((22 * 1048576 + 131072)) 512 702 dsync
        kzero 0 $((22 * 1048576 + 16384)) 8192
        [ "$(guest 20 "dd if=/dev/drbd0 bs=64k skip=$((22 * 1048576))B count=1 iflag=direct status=none | md5sum")" = \
            "$(dd if="$work/model0" bs=64k skip=$((22 * 1048576))B count=1 status=none | md5sum)" ] || fail "the diskless kernel reads something else"
        must kadm attach r0
    else
        primary_rdb
        must radm detach r0
        rawait 'ds:Diskless/UpToDate' 20
        kawait 'ds:UpToDate/Diskless' 20
        rwrite 0 $((23 * 1048576)) 65536 711
        rwrite 0 $((23 * 1048576 + 131072)) 512 712 -f
        rzero 0 $((23 * 1048576 + 16384)) 8192 discard
        must rio 0 "read -q $((23 * 1048576)) 1048576"
        timeout 30 qemu-img dd -f raw -O raw bs=64k skip=$((23 * 16)) count=$((23 * 16 + 1)) "if=$(uri 0)" "of=$work/data" >/dev/null 2>&1
        cmp -n 65536 "$work/data" <(tail -c +$((23 * 1048576 + 1)) "$work/model0" | head -c 65536) || fail "the diskless rdb reads something else"
        must radm attach r0
    fi
    quiet
    equal
    both_secondary
}
diskless_secondary() { # kernel|rdb, which is Secondary without a disk
    if [ "$1" = kernel ]; then
        primary_rdb
        must kadm detach r0
        rawait 'ds:UpToDate/Diskless' 20
        rwrite 0 $((24 * 1048576)) 65536 721
        must kadm attach r0
    else
        primary_kernel
        must radm detach r0
        kawait 'ds:UpToDate/Diskless' 20
        kwrite 0 $((25 * 1048576)) 65536 731
        must radm attach r0
    fi
    quiet
    equal
    resync_of 64
    both_secondary
}
invalidated() { # kernel|rdb [-remote]: who asks
    # A spot that only a full sync repairs: written below the loser's DRBD.
    local loser=$1
    if [ -n "${2:-}" ]; then if [ "$1" = kernel ]; then loser=rdb; else loser=kernel; fi; fi
    data 741 65536 | dd of="$work/${loser}0" bs=4096 seek=$((26 * 256)) conv=notrunc status=none
    if [ "$1" = kernel ]; then must kadm "invalidate$2" r0; else must radm "invalidate$2" r0; fi
    sleep 1
    quiet
    equal
    both_secondary
}
invalidate_while_primary() { # the other side is Primary and writes during the sync
    primary_kernel
    kload
    must radm invalidate r0
    load_runs
    load_end
    quiet
    load_known kernel
    equal
    primary_rdb
    rload
    must kadm invalidate r0
    load_runs
    load_end
    quiet
    load_known rdb
    equal
    both_secondary
}
split_brain() { # kernel|rdb: whose data is thrown away
    must radm disconnect r0
    kawait 'cs:WFConnection' 20
    must kadm disconnect r0
    kmark
    must kadm primary r0
    must radm primary r0
    if [ "$1" = kernel ]; then
        must guest 20 'dd if=/dev/urandom of=/dev/drbd0 bs=64k count=1 seek=27262976B oflag=direct conv=notrunc status=none'
        rwrite 0 $((28 * 1048576)) 65536 752
    else
        kwrite 0 $((26 * 1048576)) 65536 751
        must rio 0 "write -q -P 7 $((27 * 1048576)) 65536"
    fi
    must kadm secondary r0
    must radm secondary r0
    must kadm connect r0
    must radm connect r0
    kawait 'cs:(StandAlone|WFConnection)' 30
    rawait 'cs:(StandAlone|WFConnection)' 30
    local end=$((SECONDS + 30))
    until ksaid 'Split-Brain detected but unresolved, dropping connection' && tail -n +"$((log_at + 1))" "$work/rdbd.log" | grep -a 'Split-Brain detected but unresolved, dropping connection'; do
        [ $SECONDS -lt $end ] || fail "not both said that it is a split brain; kernel: $(kline); rdb: $(rline)"
        sleep 0.5
    done
    cmp -s -n "$area" "$work/kernel0" "$work/rdb0" && fail "something was overwritten"
    kadm disconnect r0
    radm disconnect r0
    if [ "$1" = kernel ]; then
        must radm connect r0
        must kadm connect --discard-my-data r0
    else
        must kadm connect r0
        must radm connect --discard-my-data r0
    fi
    quiet
    equal
    both_secondary
}
leaves() { # kernel|rdb: disconnects gracefully, several times, in both roles
    local turn
    for turn in 1 2; do
        if [ "$turn" = 1 ]; then primary_kernel; else primary_rdb; fi
        if [ "$1" = kernel ]; then
            must kadm disconnect r0
            kawait 'cs:StandAlone' 10
            rawait 'cs:WFConnection' 10
            must kadm connect r0
        else
            must radm disconnect r0
            rawait 'cs:StandAlone' 10
            kawait 'cs:WFConnection' 10
            must radm connect r0
        fi
        quiet
    done
    equal
    both_secondary
}
goes_down() { # kernel|rdb: down and up again, the other is Primary and writes
    if [ "$1" = kernel ]; then
        primary_rdb
        must kadm down r0
        rawait 'cs:WFConnection' 20
        rwrite 0 $((29 * 1048576)) 8192 761
        must kadm up r0
    else
        primary_kernel
        must radm down r0
        kawait 'cs:WFConnection' 20
        kwrite 0 $((29 * 1048576 + 65536)) 8192 762
        must radm up r0
    fi
    quiet
    equal
    resync_of 8
    both_secondary
}

# ---- two volumes

two_volumes() {
    down_both
    VOLUMES=2
    first_meeting 'protocol C;' ''
    must radm primary --force r0
    quiet
    model_is rdb
    equal
    rwrite 0 1048576 65536 801
    rwrite 1 2097152 131072 802
    primary_kernel
    kwrite 0 3145728 4096 803
    kwrite 1 4194304 65536 804
    kzero 1 4194304 8192
    must radm disconnect r0
    kawait 'cs:WFConnection' 20
    kwrite 0 5242880 65536 805
    kwrite 1 6291456 131072 806
    must radm connect r0
    quiet
    equal
    primary_rdb
    must kadm disconnect r0
    rawait 'cs:WFConnection' 20
    rwrite 1 7340032 65536 807
    must kadm connect r0
    quiet
    equal
    both_secondary
    down_both
    VOLUMES=1
    configure 'protocol C;' ''
    fresh
    first_sync rdb
}

# ---- settings

# What both have to know changes while they are connected and users write: each time one node adjusts first, then the other.
settings_change() { # PRIMARY: kernel|rdb, FIRST: kernel|rdb
    local step net letter other=rdb
    [ "$2" = kernel ] || other=kernel
    kmark
    if [ "$1" = kernel ]; then primary_kernel; kload; else primary_rdb; rload; fi
    load_runs
    for step in 'A|' 'B|after-sb-0pri discard-zero-changes; after-sb-1pri consensus;' 'A|csums-alg sha1;' \
        'C|csums-alg crc32c; verify-alg md5;'; do
        letter=${step%%|*} net="protocol ${step%%|*}; ${step#*|}"
        configure "$net" ''
        load_continues
        adjusted "$2" "$letter"
        load_continues
        adjusted "$other" "$letter"
        load_continues
        # The driver takes over what it hears; and neither has left the other.
        kawait "$settled $letter r" 5
        rawait "$settled $letter r" 5
    done
    ksaid 'drbd r0: (conn|peer)\(.*(Connected|NetworkFailure|BrokenPipe|TearDown)' && fail "the connection was left"
    load_end
    quiet
    load_known "$1"
    equal
    both_secondary
    # They connect again by the same, resync by the new digests, and verify by them.
    apart kernel rdb
    apart rdb kernel
    must kadm verify r0
    kawait "$settled" 60
    [ -z "$(ksaid 'Out of sync')" ] || fail "the verify found differences"
    configure 'protocol C;' ''
    adjusted "$2" C
    adjusted "$other" C
    quiet
    equal
}
adjusted() { # NODE LETTER
    if [ "$1" = kernel ]; then
        must kadm adjust r0
        kawait " $2 r" 5
    else
        must radm adjust r0
        rawait " $2 r" 5
    fi
}
# load_continues: it goes on writing
load_continues() {
    local end=$((SECONDS + 20)) acked
    acked=$(wc -l <"$work/load.acked")
    until [ "$(wc -l <"$work/load.acked")" -ge $((acked + 3)) ]; do
        [ $SECONDS -lt $end ] || fail "the load does not write any more"
        sleep 0.2
    done
}
# Digests of data cannot begin where the driver would want them in packets that have no place for them.
digests_begin() {
    configure 'protocol C; data-integrity-alg crc32c;' ''
    refused radm adjust r0
    quiet
    must radm disconnect r0
    kawait 'cs:WFConnection' 20
    must kadm adjust r0
    must radm adjust r0
    quiet
    integrity_of_writes
    # They can end, and change.
    configure 'protocol C; data-integrity-alg sha1;' ''
    must radm adjust r0
    must kadm adjust r0
    quiet
    writes kernel
    writes rdb
    configure 'protocol C;' ''
    must kadm adjust r0
    must radm adjust r0
    quiet
    writes kernel
    writes rdb
}

# ---- the lists

short() {
    always=yes scenario 60 'fresh disks meet at protocol 101' secondary secondary C first_meeting 'protocol C;' ''
    always=yes scenario 60 'first sync, rdb to kernel' target source C first_sync rdb
    scenario 90 'new disks, first sync, kernel to rdb' source target C other_first_sync kernel 'protocol C;' ''
    core C
    scenario 90 'rdb killed (-9) as secondary under load' primary secondary C rdb_killed_as_secondary
    scenario 90 'rdb killed (-9) as primary under load, comes back' secondary primary C rdb_killed_as_primary rdb
    scenario 90 'rdb killed (-9) as primary, kernel takes over' secondary primary C rdb_killed_as_primary kernel
    scenario 120 'kernel loses power as secondary under load' secondary primary C kernel_cut_as_secondary
    scenario 120 'kernel loses power (sysrq b) as primary, rdb takes over' primary secondary C kernel_cut_as_primary rdb
    scenario 120 'disks change sides, and back' both both C disks_travel
    scenario 120 'data-integrity-alg crc32c: writes, trim, zeroes' both both C reconfigured 'protocol C; data-integrity-alg crc32c;' '' integrity_of_writes
    [ -z "$quick" ] ||
        scenario $((minutes * 10 + 180)) 'mixed load with role switches, the short form' both both C mixed $((minutes * 10))
}
core() { # PROTOCOL
    scenario 90 'writes on the kernel: 512 B to 1 MiB, flush, FUA, trim, zeroes' primary secondary "$1" writes kernel
    scenario 90 'writes on rdb: 512 B to 1 MiB, flush, FUA, trim, zeroes' secondary primary "$1" writes rdb
    scenario 90 'role switches while connected' both both "$1" switches
    scenario 120 'many writes in flight on the kernel' primary secondary "$1" many_writes kernel
    scenario 60 'many writes in flight on rdb' secondary primary "$1" many_writes rdb
    scenario 60 'kernel disconnects, kernel writes, bitmap resync' source target "$1" apart kernel kernel
    scenario 60 'rdb disconnects, kernel writes, bitmap resync' source target "$1" apart kernel rdb
    scenario 60 'kernel disconnects, rdb writes, bitmap resync' target source "$1" apart rdb kernel
    scenario 60 'rdb disconnects, rdb writes, bitmap resync' target source "$1" apart rdb rdb
}
long() {
    local protocol algorithm
    scenario 60 'new configuration: protocol C' secondary secondary C reconfigured 'protocol C;' '' equal
    scenario 120 'kernel loses power as primary under load, comes back' primary secondary C kernel_cut_as_primary kernel
    scenario 120 'rdb killed (-9) as target in mid sync, under load' source target C cut_in_sync rdb target
    scenario 120 'rdb killed (-9) as source in mid sync, under load' target source C cut_in_sync rdb source
    scenario 150 'kernel loses power as target in mid sync, under load' target source C cut_in_sync kernel target
    scenario 150 'kernel loses power as source in mid sync, under load' source target C cut_in_sync kernel source
    scenario 120 'link cut in mid sync, goes on' source target C link_cut_in_sync kernel
    scenario 120 'link cut in mid sync, goes on' target source C link_cut_in_sync rdb
    scenario 120 'rdb killed (-9) while connecting, ten times' primary secondary C rdb_killed_connecting
    scenario 180 'kernel loses power while connecting, three times' secondary primary C kernel_cut_connecting
    scenario 120 'sync paused and resumed by either side' source target C paused_sync
    scenario 120 'state changes refused' both both C requests
    scenario 120 'both ask to be primary at once' both both C both_ask_at_once
    scenario 150 'scattered writes apart, both ways, use-rle yes' both both C reconfigured 'protocol C; use-rle yes;' '' apart_both_wrote_bits
    scenario 150 'scattered writes apart, both ways, use-rle no' both both C reconfigured 'protocol C; use-rle no;' '' apart_both_wrote_bits
    scenario 90 'link cut, kernel writes' source target C link_cut kernel
    scenario 90 'link cut, rdb writes' target source C link_cut rdb
    for protocol in A B; do
        scenario 60 "new configuration: protocol $protocol" secondary secondary $protocol reconfigured "protocol $protocol;" '' equal
        core $protocol
        scenario 90 'rdb killed (-9) as secondary under load' primary secondary $protocol rdb_killed_as_secondary
        scenario 120 'kernel loses power as secondary under load' secondary primary $protocol kernel_cut_as_secondary
        scenario 90 'rdb detached as primary under load' secondary primary $protocol disk_lost_as_primary detach
        scenario 90 "rdb's disk fails as primary under load" secondary primary $protocol disk_lost_as_primary errors
    done
    scenario 90 'first sync at protocol A, rdb to kernel' target source A other_first_sync rdb 'protocol A;' ''
    for algorithm in md5 sha224 sha384 sha512; do
        scenario 60 "cram-hmac-alg $algorithm" both both C reconfigured "protocol C; cram-hmac-alg $algorithm; shared-secret \"first-meeting\";" '' switches
    done
    scenario 240 'data-integrity-alg sha1: also resync and diskless' both both C reconfigured 'protocol C; data-integrity-alg sha1;' '' integrity
    scenario 90 'data-integrity-alg sha256' both both A reconfigured 'protocol A; data-integrity-alg sha256;' '' integrity_of_writes
    for algorithm in md5 crc32 sha512; do
        scenario 90 "data-integrity-alg $algorithm" both both C reconfigured "protocol C; data-integrity-alg $algorithm;" '' integrity_of_writes
    done
    for algorithm in crc32c sha1; do
        scenario 150 "csums-alg $algorithm: full syncs of almost equal disks" both both C reconfigured "protocol C; csums-alg $algorithm;" '' checksums
    done
    scenario 150 'verify, driven by the kernel; rdb is primary' secondary primary C reconfigured 'protocol C; verify-alg sha1;' '' verified rdb kernel
    scenario 150 'verify, driven by rdb; rdb is primary' secondary primary C reconfigured 'protocol C; verify-alg sha1;' '' verified rdb rdb
    scenario 150 'verify, driven by the kernel; the kernel is primary' primary secondary C reconfigured 'protocol C; verify-alg crc32c;' '' verified kernel kernel
    scenario 150 'verify, driven by rdb; the kernel is primary' primary secondary C reconfigured 'protocol C; verify-alg crc32c;' '' verified kernel rdb
    scenario 150 'verify of parts, and from where the last one ended' secondary primary C reconfigured 'protocol C; verify-alg md5;' '' verified_in_parts
    scenario 150 'verify that a lost connection ends' secondary secondary C reconfigured 'protocol C; verify-alg sha256;' '' verify_cut_off
    scenario 150 'settings change while rdb is primary, rdb first' secondary primary C reconfigured 'protocol C;' '' settings_change rdb rdb
    scenario 150 'settings change while rdb is primary, the kernel first' secondary primary C settings_change rdb kernel
    scenario 150 'settings change while the kernel is primary, rdb first' primary secondary C settings_change kernel rdb
    scenario 150 'settings change while the kernel is primary, it first' primary secondary C settings_change kernel kernel
    scenario 180 'data-integrity-alg begins, changes and ends' both both C digests_begin
    scenario 90 'cram-hmac-alg sha1' both both C reconfigured 'protocol C; cram-hmac-alg sha1; shared-secret "first-meeting";' '' apart rdb kernel
    scenario 90 'cram-hmac-alg sha256' both both C reconfigured 'protocol C; cram-hmac-alg sha256; shared-secret "second meeting, a longer secret than the other";' '' apart kernel rdb
    scenario 120 'different secrets: refused' secondary secondary C wrong_secret
    scenario 90 'kernel diskless' primary secondary C diskless kernel
    scenario 90 'rdb diskless' secondary primary C diskless rdb
    scenario 90 'rdb detached as primary under load' secondary primary C disk_lost_as_primary detach
    scenario 90 "rdb's disk fails as primary under load" secondary primary C disk_lost_as_primary errors
    scenario 60 'kernel diskless' secondary primary C diskless_secondary kernel
    scenario 60 'rdb diskless' primary secondary C diskless_secondary rdb
    scenario 90 'invalidate on the kernel' target source C invalidated kernel ''
    scenario 90 'invalidate on rdb' source target C invalidated rdb ''
    scenario 90 'invalidate-remote on the kernel' source target C invalidated kernel -remote
    scenario 90 'invalidate-remote on rdb' target source C invalidated rdb -remote
    scenario 150 'invalidate, both in turn, while the other side writes' both both C invalidate_while_primary
    scenario 90 "split brain, kernel's data thrown away" target source C split_brain kernel
    scenario 90 "split brain, rdb's data thrown away" source target C split_brain rdb
    scenario 90 'split brain, resolved: the kernel has no changes' target source C split_brain_resolved kernel
    scenario 90 'split brain, resolved: rdb has no changes' source target C split_brain_resolved rdb
    scenario 60 'kernel leaves and comes, as secondary and primary' both both C leaves kernel
    scenario 60 'rdb leaves and comes, as secondary and primary' both both C leaves rdb
    scenario 60 'kernel down and up' target source C goes_down kernel
    scenario 60 'rdb down and up' source target C goes_down rdb
    fencing_scenarios
    scenario 180 'two volumes: sync, writes, resync, both ways' both both C two_volumes
    scenario 150 "rdb's disk after a crash, attached by the kernel" both both C crashed_disk_travels rdb
    scenario 150 "kernel's disk after a crash, attached by rdb" both both C crashed_disk_travels kernel
    scenario 120 "metadata made by the other's tool" both both C made_by_drbdmeta
    scenario 120 "rdb's disk with reserved bytes set, attached by the kernel" both both C disks_travel up_with_note
    scenario 120 'disks change sides with bits set by the kernel' both both C bits_travel kernel
    scenario 120 'disks change sides with bits set by rdb' both both C bits_travel rdb
    scenario 180 'external metadata: disks change sides, and back' both both C with_external_metadata disks_travel
    scenario 180 'external metadata: bits set by rdb travel' both both C with_external_metadata bits_travel rdb
    scenario 180 'external metadata: bits set by the kernel travel' both both C with_external_metadata bits_travel kernel
    scenario 240 "external metadata: rdb's disk after a crash" both both C with_external_metadata crashed_disk_travels rdb
    scenario 240 "external metadata: kernel's disk after a crash" both both C with_external_metadata crashed_disk_travels kernel
    scenario 180 "external metadata made by the other's tool" both both C with_external_metadata made_by_drbdmeta
    scenario $((minutes * 60 + 240)) "mixed load with role switches, $minutes minutes" both both C mixed $((minutes * 60))
}
