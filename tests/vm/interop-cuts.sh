# Sourced by interop.sh: what is interrupted in the middle (a sync, a connect), what both ask of
# each other, and a mixed load with all of that.

# ---- a node dies in the middle of a sync

# slowly: both nodes sync at 3 MB/s from now on, 20 seconds for the whole disk
slowly() {
    RATE=3M configuration 'protocol C;' ''
    send_configuration
    must kadm adjust r0
    must radm adjust r0
}
# The configuration of the others, which is read with the next start of the dead node.
briskly() { configuration 'protocol C;' ''; }
# spoil NODE OFFSET: a spot of its disk that only a full sync repairs, written below its DRBD
spoil() { data 741 65536 | dd of="$work/${1}0" bs=4096 seek=$(($2 / 4096)) conv=notrunc status=none; }
# cut_in_sync VICTIM ROLE: the victim dies as source or target of a full sync, the source being Primary and written to
cut_in_sync() {
    local victim=$1 other=kernel target source
    [ "$1" = rdb ] || other=rdb
    if [ "$2" = target ]; then target=$victim source=$other; else target=$other source=$victim; fi
    slowly
    if [ $source = kernel ]; then primary_kernel; else primary_rdb; fi
    spoil $target $((2 * 1048576))
    spoil $target $((61 * 1048576))
    kmark
    if [ $target = kernel ]; then must kadm invalidate r0; else must radm invalidate r0; fi
    rawait 'cs:Sync(Source|Target)' 20
    kawait 'cs:Sync(Source|Target)' 20
    if [ $source = kernel ]; then kload; else rload; fi
    load_runs
    sleep 2
    rawait 'cs:Sync(Source|Target)' 1
    briskly
    if [ "$victim" = kernel ]; then guest_cut; else rdb_cut; fi
    load_end
    if [ "$victim" = kernel ]; then
        rawait 'cs:WFConnection' 40
        guest_start
        must kadm up r0
        must radm adjust r0
    else
        kawait 'cs:WFConnection' 40
        send_configuration
        rdb_start
        must radm up r0
        must kadm adjust r0
    fi
    quiet 90
    load_known $source
    equal
    both_secondary
}
# A sync goes on where it was when only the connection went.
link_cut_in_sync() { # kernel|rdb: the source
    slowly
    if [ "$1" = kernel ]; then spoil rdb $((61 * 1048576)); must radm invalidate r0; else spoil kernel $((61 * 1048576)); must kadm invalidate r0; fi
    rawait 'cs:Sync(Source|Target)' 20
    sleep 3
    kmark
    ip link set rdb0 down
    rawait 'cs:WFConnection' 60
    kawait 'cs:WFConnection' 60
    briskly
    send_configuration
    must kadm adjust r0
    must radm adjust r0
    ip link set rdb0 up
    quiet 60
    equal
    resync_of $((62 * 1024))
    both_secondary
}
paused_sync() { # either side pauses and resumes; the other sees it
    slowly
    spoil rdb $((61 * 1048576))
    must radm invalidate r0
    kawait 'cs:SyncSource' 20
    must kadm pause-sync r0
    rawait 'cs:PausedSync(S|T)' 20
    kawait 'cs:PausedSyncS' 20
    must radm pause-sync r0
    must kadm resume-sync r0
    sleep 1
    kawait 'cs:PausedSyncS' 5
    rawait 'cs:PausedSyncT' 5
    must radm resume-sync r0
    kawait 'cs:SyncSource' 20
    rawait 'cs:SyncTarget' 20
    briskly
    send_configuration
    must kadm adjust r0
    must radm adjust r0
    quiet 60
    equal
}

# ---- a node dies while it connects

# The survivor has written, so that each meeting begins with an exchange of bitmaps and a sync.
rdb_killed_connecting() {
    local turn
    primary_kernel
    for turn in 0 1 2 3 4 5 6 7 8 9; do
        rdb_cut
        kawait 'cs:WFConnection' 40
        kwrite 0 $(((4 + turn * 5) * 1048576)) 65536 "65$turn"
        rdb_start
        must radm up r0
        # At another moment each time, from before the sockets stand until the sync runs.
        sleep "0.$((turn * 7 % 10))$((RANDOM % 10))"
    done
    rdb_cut
    rdb_start
    must radm up r0
    quiet
    equal
    both_secondary
}
kernel_cut_connecting() {
    local turn
    primary_rdb
    for turn in 1 2 3; do
        guest_cut
        rawait 'cs:WFConnection' 40
        rwrite 0 $(((5 + turn * 6) * 1048576)) 65536 "66$turn"
        guest_start
        guest 60 'drbdadm up r0 >/dev/null 2>&1 &' || true
        sleep "$turn.$((RANDOM % 10))"
    done
    guest_cut
    guest_start
    must kadm up r0
    quiet
    equal
    both_secondary
}

# ---- a Primary's disk is lost under load, and the peer's goes on

# The peer must tell of its new generation at once: until then no write is acknowledged.
disk_lost_as_primary() { # detach|errors
    local daemon before
    daemon=$(cat "$work/rdbd.pid")
    kmark
    primary_rdb
    rload
    load_runs
    if [ "$1" = detach ]; then
        must radm detach r0
    else
        # From here on every write to where the load writes fails, and to the metadata behind that.
        must prlimit --pid "$daemon" --fsize=$((48 * 1048576)):
    fi
    rawait 'ds:Diskless/UpToDate' 20
    before=$(grep -c '^[0-9]' "$work/load.acked")
    kawait 'ds:UpToDate/Diskless' 20
    local end=$((SECONDS + 20))
    until [ "$(grep -c '^[0-9]' "$work/load.acked")" -ge $((before + 10)) ]; do
        [ $SECONDS -lt $end ] || fail "the load does not go on without the disk"
        sleep 0.2
    done
    ksaid 'new current UUID' || fail "the kernel has no new generation"
    if tail -n +"$((log_at + 1))" "$work/rdbd.log" | grep -a 'did not tell of a new generation'; then
        fail "the kernel did not tell rdb of its new generation"
    fi
    load_end
    must prlimit --pid "$daemon" --fsize=unlimited:
    must radm attach r0
    quiet
    load_known kernel
    equal
    both_secondary
}

# ---- what is asked, refused and granted

requests() {
    # One Primary at a time; the words are the same on both sides.
    primary_kernel
    refused radm primary r0
    tail -n 3 "$work/trace" | grep -q 'Multiple primaries not allowed by config' || fail "rdb refuses in other words"
    primary_rdb
    refused kadm primary r0
    tail -n 3 "$work/trace" | grep -q 'Multiple primaries not allowed by config' || fail "the kernel refuses in other words"
    # Outdating a connected node does nothing (docs/spec/behaviour.md, section 2.3). The kernel says nothing of that, rdb does.
    must kadm outdate r0
    refused radm outdate r0
    tail -n 3 "$work/trace" | grep -q 'Refusing to be Outdated while Connected' || fail "rdb refuses in other words"
    quiet 5
    # Taking the last good disk away.
    must kadm detach r0
    rawait 'ds:UpToDate/Diskless' 20
    refused radm detach r0
    must kadm attach r0
    quiet
    primary_kernel
    must radm detach r0
    kawait 'ds:UpToDate/Diskless' 20
    refused kadm detach r0
    must radm attach r0
    quiet
    both_secondary
    equal
}
# Both ask at once, again and again: never are both Primary, and at least one has its way.
both_ask_at_once() {
    local turn one two pid
    for turn in 1 2 3 4 5 6; do
        (kadm primary r0) >"$work/asked.kernel" 2>&1 &
        pid=$!
        [ $((turn % 2)) = 0 ] || sleep 0.1
        one=0 two=0
        radm primary r0 >"$work/asked.rdb" 2>&1 || one=$?
        wait $pid || two=$?
        # The clients ask again for a while when a request was crossed by another.
        kline | grep -q 'ro:Primary/Primary' && fail "both are Primary"
        rline | grep -q 'ro:Primary/Primary' && fail "both are Primary"
        [ $one = 0 ] && [ $two = 0 ] && fail "both were told that they are Primary"
        echo "turn $turn: rdb $one, kernel $two"
        both_secondary
    done
    equal
}
# Split brain that the configuration may resolve: one side was Primary and changed nothing.
split_brain_resolved() { # kernel|rdb: the side without changes
    down_both
    configure 'protocol C; after-sb-0pri discard-zero-changes;' ''
    up_both
    quiet
    must radm disconnect r0
    kawait 'cs:WFConnection' 20
    must kadm disconnect r0
    must kadm primary r0
    must radm primary r0
    if [ "$1" = kernel ]; then rwrite 0 $((28 * 1048576)) 65536 772; else kwrite 0 $((26 * 1048576)) 65536 771; fi
    must kadm secondary r0
    must radm secondary r0
    must kadm connect r0
    must radm connect r0
    quiet
    equal
    down_both
    configure 'protocol C;' ''
    up_both
    quiet
}

# ---- digests: of data on the wire, and of blocks compared

integrity() { # every kind of packet that carries a digest, both ways
    writes kernel
    writes rdb
    apart kernel rdb
    apart rdb kernel
    diskless kernel
    diskless rdb
}
integrity_of_writes() {
    writes kernel
    writes rdb
}
# A full sync of disks that are the same but for one spot, each way: only that is sent.
checksums() {
    local target
    for target in rdb kernel; do
        kmark
        spoil $target $((26 * 1048576))
        if [ $target = rdb ]; then must radm invalidate r0; else must kadm invalidate r0; fi
        sleep 1
        quiet
        equal
        # The target says how much was the same.
        if [ $target = rdb ]; then
            tail -n +"$((log_at + 1))" "$work/rdbd.log" | grep -qaE 'equal checksums, eliminated: 6[0-9]{4}K; transferred [0-9]{1,4}K' || fail "rdb as target did not spare what is the same"
        else
            ksaid 'equal checksums, eliminated: 6[0-9]{4}K; transferred [0-9]{1,4}K' || fail "the kernel as target did not spare what is the same"
        fi
    done
    # And under a load of the source.
    primary_kernel
    kload
    load_runs
    must radm invalidate r0
    sleep 3
    load_end
    quiet
    load_known kernel
    equal
    load_base=5000
    primary_rdb
    rload
    load_runs
    must kadm invalidate r0
    sleep 3
    load_end
    quiet
    load_known rdb
    equal
    apart rdb kernel
}
rsaid() { tail -n +"$((log_at + 1))" "$work/rdbd.log" | tac | sed '/interop-mark/q' | grep -aE "$1"; }
verify_done() { # verify_done DRIVER [ARGUMENT...]: the driver verifies, to the end, and both say so
    local driver=$1 end=$((SECONDS + 60))
    shift
    kmark
    echo interop-mark >>"$work/rdbd.log"
    if [ "$driver" = rdb ]; then must radm verify "$@" r0
    elif [ $# = 0 ]; then must kadm verify r0
    else must kadm -- "$@" verify r0; fi
    until ksaid 'Online verify done' && rsaid 'Online verify done'; do
        [ $SECONDS -lt $end ] || fail "no end of the verify; kernel: $(kline); rdb: $(rline)"
        sleep 0.5
    done
    quiet 20
}
marked() { # marked KIB: both have marked so much
    local found
    found=$(timeout 5 grep -aoE 'oos:[0-9]+' "$work/run/status" | head -n 1)
    [ "$found" = "oos:$1" ] || fail "rdb marked $found, not $1 KiB"
    found=$(guest 10 "grep -aoE 'oos:[0-9]+' /proc/drbd | head -n 1")
    [ "$found" = "oos:$1" ] || fail "the kernel marked $found, not $1 KiB"
}
found() { # found BLOCKS: both have told of so many
    ksaid "Online verify found $1 4k block out of sync" || fail "the kernel did not find what differs"
    rsaid "Online verify found $1 4k block out of sync" || fail "rdb did not find what differs"
}
verify_repairs() { # verify_repairs KIB: what is marked is synced from the Primary by the next connection
    must kadm disconnect r0
    rawait 'cs:WFConnection' 20
    must kadm connect r0
    quiet
    resync_of "$1"
    equal
}
# One node drives a verify, the other answers it. What differs is found, marked by both, and repaired by
# the next resync.
verified() { # kernel|rdb, which is Primary; kernel|rdb, which drives
    local bad=rdb
    if [ "$1" = kernel ]; then
        primary_kernel
        kload
    else
        bad=kernel
        primary_rdb
        rload
    fi
    load_runs
    verify_done "$2"
    load_end
    load_known "$1"
    # Writes meanwhile are no differences.
    ksaid 'Online verify found' && fail "a difference was found where there is none"
    equal
    spoil $bad $((26 * 1048576))
    spoil $bad $((30 * 1048576))
    verify_done "$2"
    found 32
    marked 128
    verify_repairs 128
    both_secondary
}
# rdb verifies parts: what lies beside is not looked at, and the next verify begins where the last one ended; the kernel's, too, which
# has answered it.
verified_in_parts() {
    local mib=$((1048576 / 512))
    primary_rdb
    spoil kernel $((8 * 1048576))
    spoil kernel $((24 * 1048576))
    spoil kernel $((40 * 1048576))
    verify_done rdb --start=$((16 * mib)) --stop=$((32 * mib))
    found 16
    marked 64
    rsaid "Online Verify reached sector $((32 * mib))" || fail "rdb does not say where it stopped"
    ksaid "Online Verify reached sector $((32 * mib))" || fail "the kernel has not stopped there: $(ksaid 'Online Verify')"
    verify_done rdb
    found 32
    marked 128
    rsaid "Starting Online Verify from sector $((32 * mib))" || fail "rdb does not go on where it stopped"
    verify_done kernel --start=0 --stop=$((16 * mib))
    found 48
    marked 192
    # (The kernel may have asked for one block more when it notices.)
    local reached
    reached=$(ksaid 'Online Verify reached sector' | grep -oE '[0-9]+$')
    [ $((16 * mib)) -le "$reached" ] && [ "$reached" -le $((16 * mib + 256)) ] || fail "the kernel stopped at $reached"
    rsaid "Online Verify reached sector $reached" || fail "rdb does not know where the kernel stopped"
    verify_done rdb
    rsaid "Starting Online Verify from sector $reached" || fail "rdb does not go on where the kernel stopped"
    verify_repairs 192
    both_secondary
}
# A verify ends with the link; the next goes on there. While it runs nothing else begins, and a pause is none.
verify_cut_off() {
    local net='protocol C; verify-alg sha256;'
    RATE=3M configure "$net" ''
    must kadm adjust r0
    must radm adjust r0
    must radm verify r0
    kawait 'cs:VerifyT' 20
    refused radm invalidate r0
    refused kadm invalidate r0
    refused kadm verify r0
    must radm pause-sync r0
    sleep 1
    rawait 'cs:VerifyS' 5
    must radm resume-sync r0
    grep -qa 'verified:' "$work/run/status" || fail "the status file does not tell how far it is"
    guest 10 'cat /proc/drbd'
    must kadm disconnect r0
    rawait 'cs:WFConnection' 20
    tail -n +"$((log_at + 1))" "$work/rdbd.log" | grep -qa 'Online Verify reached sector' || fail "rdb does not say where it was"
    must kadm connect r0
    quiet
    configure "$net" ''
    must kadm adjust r0
    must radm adjust r0
    verify_done rdb
    rsaid 'Starting Online Verify from sector 0' && fail "rdb has begun anew"
    equal
}

# ---- mixed load

# mixed SECONDS: writes on the Primary all the time, by turns the kernel and rdb, while something
# happens to the other; every turn ends with all acknowledged writes looked for on both disks
mixed() {
    local end=$((SECONDS + $1)) turn=0 primary
    while [ $SECONDS -lt "$end" ] || [ $turn -lt 4 ]; do
        turn=$((turn + 1))
        load_base=$((turn * 10000))
        if [ $((turn % 2)) = 1 ]; then
            primary=kernel
            primary_kernel
            kload
        else
            primary=rdb
            primary_rdb
            rload
        fi
        load_runs
        case $((turn % 12)) in
        1 | 8) # connected all the time, with writes of another kind beside
            "mixed_writes_$primary" "$turn" ;;
        2 | 9)
            must kadm disconnect r0
            sleep 1
            must kadm connect r0 ;;
        3 | 10)
            must radm disconnect r0
            sleep 1
            must radm connect r0 ;;
        4 | 11)
            if [ $primary = kernel ]; then must radm detach r0; sleep 1; must radm attach r0; else must kadm detach r0; sleep 1; must kadm attach r0; fi ;;
        5 | 0)
            if [ $primary = kernel ]; then must radm invalidate r0; else must kadm invalidate r0; fi ;;
        6)
            if [ $primary = kernel ]; then must kadm detach r0; sleep 1; must kadm attach r0; else must radm detach r0; sleep 1; must radm attach r0; fi ;;
        7)
            ip link set rdb0 down
            sleep 2
            ip link set rdb0 up ;;
        esac
        sleep 1
        load_end
        quiet 90
        load_known $primary
        equal
        echo "turn $turn done, $((end - SECONDS)) s left"
    done
    both_secondary
}
mixed_writes_kernel() {
    kwrite 0 $((1048576 + $1 % 16 * 1048576)) 1048576 "93$1"
    kwrite 0 $((33 * 1048576 + $1 % 64 * 512)) 512 "94$1" dsync
    kzero 0 $((40 * 1048576 + $1 % 8 * 65536)) 65536
}
mixed_writes_rdb() {
    rwrite 0 $((1048576 + $1 % 16 * 1048576)) 1048576 "95$1"
    rwrite 0 $((33 * 1048576 + $1 % 64 * 512)) 512 "96$1" -f
    rzero 0 $((40 * 1048576 + $1 % 8 * 65536)) 65536 discard
}
