# Sourced by interop.sh: fencing and frozen I/O between the kernel's node and rdb's. Each node's handlers are one script, which says
# in a file what it was called for and ends as another file says; what a fencing authority would do besides, the scenario does.

# fenced POLICY FUNCTION...: the function with this policy and the handlers on both nodes
fenced() {
    local policy=$1
    shift
    down_both
    HANDLERS="fence-peer \"/bin/sh $work/fence fence-peer\"; unfence-peer \"/bin/sh $work/fence unfence-peer\";" \
        configure 'protocol C; ping-timeout 10; timeout 30;' "fencing $policy;"
    echo 'echo $1 >>$0.calls; exit $(cat $0.exit)' >"$work/fence"
    must guest 10 "echo 'echo \$1 >>\$0.calls; exit \$(cat \$0.exit)' >/tmp/fence"
    fence_says kernel 1
    fence_says rdb 1
    up_both
    quiet 40
    calls_forgotten
    "$@"
    # As the others expect it.
    down_both
    configure 'protocol C;' ''
    up_both
    quiet 40
}
fence_says() { # NODE EXIT-CODE
    if [ "$1" = kernel ]; then must guest 10 "echo $2 >/tmp/fence.exit"; else echo "$2" >"$work/fence.exit"; fi
}
calls_forgotten() {
    rm -f "$work/fence.calls"
    must guest 10 'rm -f /tmp/fence.calls'
}
called() { # NODE HANDLER: it was called
    local end=$((SECONDS + 40))
    until if [ "$1" = kernel ]; then guest 10 "grep -qx $2 /tmp/fence.calls"; else grep -qsx "$2" "$work/fence.calls"; fi; do
        [ $SECONDS -lt $end ] || fail "$2 was not called by $1"
        sleep 0.2
    done
}
not_called() { # NODE HANDLER
    if [ "$1" = kernel ]; then guest 10 "grep -qx $2 /tmp/fence.calls"; else grep -qsx "$2" "$work/fence.calls"; fi &&
        fail "$2 was called by $1"
    return 0
}
other() { if [ "$1" = kernel ]; then echo rdb; else echo kernel; fi; }
adm() { local node=$1; shift; if [ "$node" = kernel ]; then must kadm "$*"; else must radm "$@"; fi; }
await() { local node=$1; shift; if [ "$node" = kernel ]; then kawait "$@"; else rawait "$@"; fi; }
promoted() { if [ "$1" = kernel ]; then primary_kernel; else primary_rdb; fi; }
# A write of 64 KiB in the background; its end is a line of $work/written.
late_write() { # NODE OFFSET SEED
    rm -f "$work/written"
    data "$3" 65536 | model 0 "$2"
    if [ "$1" = kernel ]; then
        (guest 90 "seq ${3}000000 ${3}999999 | head -c 65536 | dd of=/dev/drbd0 bs=65536 seek=${2}B count=1 iflag=fullblock oflag=direct conv=notrunc status=none" >/dev/null 2>&1 && echo done >"$work/written") &
    else
        data "$3" 65536 >"$work/late.data"
        (timeout 90 qemu-io -t none -f raw -c "write -q -s $work/late.data $2 65536" "$(uri 0)" >/dev/null 2>&1 && echo done >"$work/written") &
    fi
}
written() { # the late write has ended well
    local end=$((SECONDS + 30))
    until [ -s "$work/written" ]; do
        [ $SECONDS -lt $end ] || fail 'the write that was frozen does not end'
        sleep 0.2
    done
}
frozen() { # NODE: its I/O is frozen, and a write waits
    ip link set rdb0 down
    late_write "$1" $((12 * 1048576)) 661
    await "$1" 'cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C s' 60
    await "$(other "$1")" 'cs:WFConnection' 60
    called "$1" fence-peer
    sleep 1
    [ ! -s "$work/written" ] || fail 'a write has ended while frozen'
}
fenced_at_once() { # NODE: the peer is outdated before the handler says so
    # 8.4.11 sleeps where it may not, when it writes the new generation, and warns of itself.
    [ "$1" = rdb ] || touch "$work/warns"
    promoted "$1"
    fence_says "$1" 4
    ip link set rdb0 down
    late_write "$1" $((13 * 1048576)) 662
    await "$(other "$1")" 'cs:WFConnection' 60
    adm "$(other "$1")" outdate r0
    await "$1" 'cs:WFConnection ro:Primary/Unknown ds:UpToDate/Outdated C r' 60
    written
    called "$1" fence-peer
    calls_forgotten
    ip link set rdb0 up
    quiet 60
    called "$1" unfence-peer
    equal
    both_secondary
}
thawed_by_peer() { # NODE: frozen, and the peer comes back as it was: no resync
    promoted "$1"
    frozen "$1"
    kmark
    ip link set rdb0 up
    quiet 60
    written
    ksaid 'will sync [1-9]' && fail 'a resync of what was to be sent again'
    equal
    both_secondary
}
thawed_by_hand() { # NODE: frozen, resumed by its administrator
    promoted "$1"
    frozen "$1"
    adm "$1" resume-io r0
    written
    await "$1" 'ds:UpToDate/DUnknown C r' 10
    ip link set rdb0 up
    quiet 60
    equal
    both_secondary
}
shot() { # rdb's handler cuts the power of the kernel's machine, which could not be reached
    promoted rdb
    echo "echo \$1 >>\$0.calls
[ \$1 = fence-peer ] || exit 0
pid=\$(cat $work/qemu.pid)
kill -KILL \$pid
while kill -0 \$pid 2>/dev/null; do sleep 0.1; done
rm -f $work/qemu.pid
exit 7" >"$work/fence"
    ip link set rdb0 down
    late_write rdb $((13 * 1048576)) 665
    await rdb 'cs:WFConnection ro:Primary/Unknown ds:UpToDate/Outdated C r' 60
    written
    called rdb fence-peer
    [ ! -e "$work/qemu.pid" ] || fail 'the machine is still there'
    ip link set rdb0 up
    guest_start
    send_configuration
    must guest 10 "echo 'echo \$1 >>\$0.calls; exit 1' >/tmp/fence"
    must kadm up r0
    quiet 60
    called rdb unfence-peer
    equal
    both_secondary
}
goes_on_at_once() { # NODE: resource-only
    promoted "$1"
    fence_says "$1" 4
    ip link set rdb0 down
    late_write "$1" $((14 * 1048576)) 663
    written
    await "$(other "$1")" 'cs:WFConnection' 60
    adm "$(other "$1")" outdate r0
    called "$1" fence-peer
    await "$1" 'ds:UpToDate/Outdated C r' 60
    if [ "$1" = kernel ]; then refused radm primary r0; else refused kadm primary r0; fi
    ip link set rdb0 up
    quiet 60
    equal
    both_secondary
}
outdated_by_parting() { # NODE: the Primary; either of the two parts, and the other one's disk is Outdated
    local who
    promoted "$1"
    for who in kernel rdb; do
        adm "$who" disconnect r0
        await "$who" 'cs:StandAlone' 20
        await "$1" 'ro:Primary/Unknown ds:UpToDate/Outdated [C ] r' 20
        await "$(other "$1")" 'ds:Outdated/' 20
        not_called "$1" fence-peer
        adm "$who" connect r0
        quiet 40
    done
    equal
    both_secondary
}
consistent_only() { # NODE: both were down, one comes up alone
    local up=1
    promoted "$1"
    [ "$1" = rdb ] || up=0
    adm "$1" secondary r0 # or the first to go is Outdated
    down_both
    adm "$(other "$1")" up r0
    await "$(other "$1")" 'ds:Consistent/DUnknown' 20
    fence_says "$(other "$1")" 5
    if [ $up = 1 ]; then refused kadm primary r0; else refused radm primary r0; fi
    called "$(other "$1")" fence-peer
    adm "$1" up r0
    quiet 40
    both_secondary
}
without_its_disk() { # NODE: both were down, it comes up without its disk, the other one is Consistent only
    down_both
    adm "$1" up r0
    await "$1" 'ds:Consistent/DUnknown' 20
    adm "$1" detach r0
    await "$1" 'ds:Diskless' 20
    adm "$(other "$1")" up r0
    if [ "$1" = rdb ]; then
        # The driver takes its own disk for a good one.
        kawait 'cs:Connected ro:Secondary/Secondary ds:UpToDate/Diskless' 40
        rawait 'cs:Connected ro:Secondary/Secondary ds:Diskless/UpToDate' 20
    else
        rawait 'cs:Connected ro:Secondary/Secondary ds:Consistent/Diskless' 40
        refused radm primary r0
        called rdb fence-peer
        # Nor is that disk the driver's to go on with.
        refused kadm primary r0
        rawait 'cs:Connected ro:Secondary/Secondary ds:Consistent/Diskless' 10
        fence_says rdb 4
        must radm primary r0
        rawait 'cs:Connected ro:Primary/Secondary ds:UpToDate/Diskless' 20
        kawait 'cs:Connected ro:Secondary/Primary ds:Diskless/UpToDate' 20
        rwrite 0 $((31 * 1048576)) 65536 791
    fi
    adm "$1" attach r0
    quiet 60
    equal
    both_secondary
}
waits_for_data() { # rdb is Diskless and Primary, and loses its peer
    down_both
    OPTIONS='on-no-data-accessible suspend-io;' configure 'protocol C; ping-timeout 10; timeout 30;' ''
    up_both
    quiet 40
    primary_rdb
    must radm detach r0
    ip link set rdb0 down
    rawait 'cs:WFConnection ro:Primary/Unknown ds:Diskless/DUnknown C s' 60
    late_write rdb $((15 * 1048576)) 664
    sleep 2
    [ ! -s "$work/written" ] || fail 'a write has ended without data'
    ip link set rdb0 up
    written
    must radm attach r0
    quiet 60
    equal
    both_secondary
    down_both
    configure 'protocol C;' ''
    up_both
    quiet 40
}
primary_has_lost() { # NODE: is Primary and wrote nothing, the other one did; call-pri-lost-after-sb
    down_both
    HANDLERS="pri-lost-after-sb \"/bin/sh $work/fence pri-lost-after-sb\";" \
        configure 'protocol C; after-sb-0pri discard-zero-changes; after-sb-1pri call-pri-lost-after-sb;' ''
    echo 'echo $1 >>$0.calls' >"$work/fence"
    must guest 10 "echo 'echo \$1 >>\$0.calls' >/tmp/fence"
    calls_forgotten
    up_both
    quiet 40
    must radm disconnect r0
    kawait 'cs:WFConnection' 20
    must kadm disconnect r0
    must kadm primary r0
    must radm primary r0
    if [ "$1" = kernel ]; then rwrite 0 $((29 * 1048576)) 65536 781; else kwrite 0 $((30 * 1048576)) 65536 782; fi
    adm "$(other "$1")" secondary r0
    must kadm connect r0
    must radm connect r0
    called "$1" pri-lost-after-sb
    if [ "$1" = kernel ]; then
        # The driver leaves all else to the handler, which would end the machine.
        kawait 'cs:StandAlone ro:Primary' 20
        must kadm secondary r0
        must kadm connect r0
    fi
    quiet 60
    both_secondary
    equal
    down_both
    configure 'protocol C;' ''
    up_both
    quiet 40
}

fencing_scenarios() {
    local node
    for node in rdb kernel; do
        scenario 150 "resource-and-stonith, $node is primary: frozen, the peer comes back" both both C fenced resource-and-stonith thawed_by_peer $node
        scenario 150 "resource-and-stonith, $node is primary: the peer is fenced" both both C fenced resource-and-stonith fenced_at_once $node
        scenario 150 "resource-and-stonith, $node is primary: resumed by hand" both both C fenced resource-and-stonith thawed_by_hand $node
        scenario 150 "resource-only, $node is primary" both both C fenced resource-only goes_on_at_once $node
        scenario 150 "resource-only, $node is primary: either parts" both both C fenced resource-only outdated_by_parting $node
        scenario 150 "resource-only, $node was primary: the other is Consistent only" both both C fenced resource-only consistent_only $node
        scenario 150 "resource-only, $node has no disk: the other is Consistent only" both both C fenced resource-only without_its_disk $node
    done
    scenario 150 'resource-and-stonith, rdb shoots the kernel' secondary primary C fenced resource-and-stonith shot
    scenario 150 'call-pri-lost-after-sb, rdb has lost' target source C primary_has_lost rdb
    scenario 150 'call-pri-lost-after-sb, the kernel has lost' source target C primary_has_lost kernel
    scenario 150 'on-no-data-accessible suspend-io, rdb is Diskless' secondary primary C waits_for_data
}
