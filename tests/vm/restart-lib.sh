# Sourced in the guest: the daemon is replaced, ends or dies under a mounted file system and a writer that checks what it
# wrote. front: the front end; device: its device node.
disk_size=32M
. /usr/local/bin/pair-lib.sh

# In front of the daemon's log as it is now.
mark() { wc -l <$work/"$1".log >$work/mark-"$1"; }
since() { tail -n +"$(($(cat $work/mark-"$1") + 1))" $work/"$1".log; }
# The current generation without the bit of the role.
generation() { printf '%x' $((0x$(adm "$1" get-gi r0 | cut -d: -f1) & ~1)); }
instance() { stat -c %Y-%i "$work/run-$1/control.sock"; }

begin() {
    start_both $front
    skip_first_sync bob
    mount_with_files bob
}

# Writes and reads back what it wrote, again and again until it is enough.
writer() {
    until [ -e $work/enough ]; do
        timeout 300 fio --name=through --filename=$work/mnt/through --ioengine=libaio --direct=1 --rw=randwrite --bs=4k \
            --iodepth=8 --size=4M --rate=1500k --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0 \
            --aux-path=/tmp >$work/writer 2>&1 || return
    done
}
begin_writing() {
    rm -f $work/enough
    trap 'touch $work/enough' EXIT
    writer &
    writing=$!
    sleep 2
}
# The writer writes a block that it had not yet written when it was asked.
writes_on() {
    local before
    before=$(written)
    await 20 eval "[ \"\$(written)\" != $before ]"
}
# Sectors that the device's users have written.
written() { awk '{ print $7 }' "/sys/block/${device##*/}/stat"; }
end_writing() {
    touch $work/enough
    wait $writing || fail "the writer failed: $(cat $work/writer)"
}
# through COMMAND...: while somebody writes; what must be true afterwards however the daemon was changed
through() {
    local before
    mark alice
    mark bob
    before=$(generation bob)
    dmesg -c >/dev/null
    begin_writing
    "$@"
    await 20 is bob 'ro:Primary/'
    end_writing
    dmesg | grep -qE 'I/O error, dev|EXT4-fs error|Buffer I/O' && fail "there were errors: $(dmesg | tail -n 3)"
    await 30 settled
    [ "$(generation bob)" = "$before" ] || fail "another generation: $before became $(generation bob)"
    [ "$(generation alice)" = "$before" ] || fail "the peer has generation $(generation alice), not $before"
    drop_caches
    files_are_what_they_were
    links_lead_to $device
}
resynced() { since "$1" | grep -aoE 'will sync [0-9]+ KB' | awk '{ kb += $3 } END { print kb + 0 }'; }

replace() {
    local pid
    pid=$(pid bob)
    must cp /usr/local/bin/rdbd $work/rdbd-new
    adm bob restart --program $work/rdbd-new >$work/said 2>&1 || fail "restart: $? $(cat $work/said)"
    sed 's/^/      /' $work/said
    grep -qE "^r0/0: Primary again after a pause of [0-9]+ ms, $device\$" $work/said || fail "$(cat $work/said)"
    [ "$(pid bob)" = "$pid" ] || fail "another process"
    [ "$(readlink /proc/"$pid"/exe)" = $work/rdbd-new ] || fail "it is still $(readlink /proc/"$pid"/exe)"
}
a_daemon_is_replaced_by_another_program() {
    through replace
    # Everything was answered, so there is nothing that could differ.
    [ "$(resynced bob)" = 0 ] || fail "$(resynced bob) KB were resynced"
    since bob | grep -q 'Marked additional' && fail "the activity log was applied"
    since alice | grep -qE 'conn\( Connected -> ' || fail "the peer has seen nothing: $(since alice)"
    true
}

the_peers_daemon_is_replaced() {
    begin_writing
    adm alice restart >$work/said 2>&1 || fail "restart: $? $(cat $work/said)"
    end_writing
    await 30 settled
    is bob 'ro:Primary/Secondary' || fail "$(state bob)"
}

kill_and_start() {
    end KILL bob
    sleep 1
    start bob $front
    await 10 eval "since bob | grep -q 'took $device over'"
}
a_killed_daemon_is_followed_by_one_that_takes_over_by_itself() {
    through kill_and_start
    # As after every crash of a Primary, its hot extents.
    since bob | grep -q 'Marked additional' || fail "the activity log was not applied"
}

terminate_and_start() {
    end TERM bob
    since bob | grep -q 'panicked' && fail "$(since bob)"
    [ -b $device ] || fail "the device is gone"
    sleep 1
    start bob $front
    await 10 eval "since bob | grep -q 'took $device over'"
}
a_terminated_daemon_leaves_a_device_in_use_to_the_next() {
    through terminate_and_start
    [ "$(resynced bob)" = 0 ] || fail "$(resynced bob) KB were resynced"
}

under_a_freeze() {
    must adm bob suspend-io r0
    sleep 1
    local before
    before=$(written)
    must adm bob restart
    status_says bob 'suspended:user'
    end KILL bob
    start bob $front
    await 20 eval "since bob | grep -q 'took $device over'"
    status_says bob 'suspended:user'
    [ "$(written)" = "$before" ] || fail "somebody wrote through a device that is frozen"
    must adm bob resume-io r0
    writes_on
}
status_says() { adm "$1" status r0 | grep -q "$2" || fail "not $2: $(adm "$1" status r0)"; }
what_is_frozen_stays_so_under_the_next_daemon() { through under_a_freeze; }

twice_in_a_row() {
    must adm bob restart
    end KILL bob
    start bob $front
    await 20 eval "since bob | grep -q 'took $device over'"
    must adm bob restart
}
restarts_and_a_crash_one_after_the_other() { through twice_in_a_row; }

die_amid() {
    local pause asking
    for pause in 0.2 0.5 0.9; do
        adm bob restart >$work/said 2>&1 &
        asking=$!
        sleep $pause
        end KILL bob
        start bob $front
        wait $asking
        await 30 is bob 'cs:Connected ro:Primary/'
    done
}
a_daemon_that_dies_while_it_is_replaced_is_followed_too() { through die_amid; }

without_the_peer_it_goes_on_alone() {
    end KILL alice
    await 30 is bob 'cs:WFConnection ro:Primary'
    echo alone >$work/mnt/word
    must sync
    local start=$SECONDS
    must adm bob restart
    # It was alone before: nothing is waited for.
    [ $((SECONDS - start)) -lt 10 ] || fail "it took $((SECONDS - start)) s"
    end KILL bob
    start bob $front
    await 20 is bob 'ro:Primary/Unknown'
    echo again >$work/mnt/word2
    must sync
    start alice $front
    # Nobody has a device there: it is for others to bring it up.
    sleep 1
    adm alice role r0 2>/dev/null | grep -q Unconfigured || fail "alice came up by herself"
    must adm alice up r0
    await 30 settled
}

what_can_not_take_over_is_refused_and_nothing_is_touched() {
    local pid before
    mark bob
    before=$(instance bob)
    for program in /bin/false $work/none $work/drbd.conf; do
        adm bob restart --program $program >$work/said 2>&1
        [ $? = 20 ] && grep -q "$program can not take over: " $work/said || fail "$program: $(cat $work/said)"
    done
    cp $work/rdbd.toml $work/rdbd.toml.good
    echo 'frontent = "ublk"' >>$work/rdbd.toml
    adm bob restart >$work/said 2>&1 && fail "with bad settings: $(cat $work/said)"
    grep -q 'unknown field' $work/said || fail "$(cat $work/said)"
    mv $work/rdbd.toml.good $work/rdbd.toml
    [ "$(instance bob)" = "$before" ] && is bob 'cs:Connected ro:Primary' || fail "it was touched: $(state bob)"
    rm -rf $work/run-none
    RDB_RUN_DIR=$work/run-none rdbadm restart >$work/said 2>&1
    [ $? = 20 ] && grep -q 'there is nothing to replace' $work/said || fail "no daemon: $(cat $work/said)"
}

fail_to_replace() {
    printf '#!/bin/sh\ncase "$*" in *--check*) ;; *) %s ;; esac\nexec rdbd "$@"\n' "$1" >$work/rdbd-bad
    chmod +x $work/rdbd-bad
    adm bob restart --program $work/rdbd-bad >$work/said 2>&1
    [ $? = 20 ] && grep -q 'rdbd is not replaced: ' $work/said || fail "$1: $(cat $work/said)"
}
fail_in_two_ways() {
    # It finds out itself, and the process stays.
    local pid
    pid=$(pid bob)
    fail_to_replace 'set -- --config /none'
    [ "$(pid bob)" = "$pid" ] || fail "another process"
    # It ends, and the old program goes on in another one.
    fail_to_replace 'exit 3'
    [ "$(pid bob)" != "$pid" ] || fail "which process is it?"
}
a_program_that_fails_before_it_serves_leads_back() {
    through fail_in_two_ways
    [ "$(resynced bob)" = 0 ] || fail "$(resynced bob) KB were resynced"
}

after_all_that_the_file_system_is_clean_and_the_disks_are_equal() {
    must umount $work/mnt
    must e2fsck -f -n /dev/drbd5
    must adm bob restart
    is bob 'ro:Primary' || fail "a Primary that nobody uses: $(state bob)"
    local size
    size=$(blockdev --getsize64 /dev/drbd5)
    must adm bob secondary r0
    for node in alice bob; do must adm $node down r0; done
    disks_are_equal "$size"
    for node in alice bob; do did_not_panic $node; done
    no_device_is_left
    for node in alice bob; do end TERM $node; done
    ls $work/run-*/rdbd.state 2>/dev/null && fail "a record is left"
    true
}

a_loop_device_in_use_waits() {
    start alice fuse
    must adm alice up r0
    must adm alice primary r0
    must mount /dev/drbd5 $work/mnt
    must adm alice restart
    is alice 'ro:Primary' || fail "$(state alice)"
    files_are_what_they_were
    must umount $work/mnt
    must adm alice restart
    is alice 'ro:Primary' || fail "$(state alice)"
    must mount /dev/drbd5 $work/mnt
    files_are_what_they_were
    must umount $work/mnt
    end TERM alice
}
