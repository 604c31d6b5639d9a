# Runs in the guest, behind pair-lib.sh: a pair of the kernel's driver and a pair of rdb live through the same, and at each stage every
# command that tells a state is asked of both. What they print has to be the same, line by line and field by field, but for what `same`
# masks, which is what cannot be equal.
. /usr/local/bin/pair-lib.sh
export DRBD_DONT_WARN_ON_VERSION_MISMATCH=1

# Volumes 0 and 1 of each node; the kernel has both nodes, so they have minors and names of their own.
for who in k r; do
    for disk in 1 2 3 4; do
        truncate -s 64M $work/$who$disk
        ln -sf "$(losetup --show -f $work/$who$disk)" /dev/$who-$disk
    done
done
conf() { # conf FILE RESOURCE OWN PEER MINOR PREFIX PORT FIRST-DISK
    cat >"$1" <<CONF
global { usage-count no; disable-ip-verification; }
resource $2 {
    net { verify-alg md5; max-buffers 4000; after-sb-0pri discard-zero-changes; }
    options { on-no-data-accessible suspend-io; }
    disk { c-plan-ahead 0; resync-rate ${rate:-60M}; on-io-error detach; }
    on $3 { volume 0 { device minor $5; disk /dev/$6-$8; meta-disk internal; } volume 1 { device minor $(($5 + 1)); disk /dev/$6-$(($8 + 1)); meta-disk internal; } address 127.0.0.$9:$7; }
    on $4 { volume 0 { device minor 0; disk /dev/none; meta-disk internal; } volume 1 { device minor 100; disk /dev/none2; meta-disk internal; } address 127.0.0.$((3 - $9)):$7; }
}
CONF
}
conf $work/k-alice.conf ra kernel other 1 k 7100 1 1
conf $work/k-bob.conf rb kernel other 3 k 7100 3 2
conf $work/r-alice.conf ra kernel other 1 r 7101 1 1
conf $work/r-bob.conf rb kernel other 3 r 7101 3 2
printf 'device-links = false\n' >$work/rdbd.toml

# kernel NODE PROGRAM WORDS..., rdb NODE PROGRAM WORDS...
kernel() { local node=$1 program=$2; shift 2; if [ "$program" = drbdadm ]; then drbdadm -c $work/k-"$node".conf "$@"; else "$program" "$@"; fi; }
rdb() { local node=$1 program=$2; shift 2; RDB_NODE=kernel RDB_RUN_DIR=$work/run-$node RDB_CONF=$work/r-$node.conf timeout 60 rdbadm "$program" "$@"; }
both() { # both NODE WORDS...: drbdadm of each pair does it
    must kernel "$1" drbdadm "${@:2}"
    must rdb "$1" drbdadm "${@:2}"
}
minors() { [ "$1" = alice ] && echo 1 2 || echo 3 4; }
name() { [ "$1" = alice ] && echo ra || echo rb; }
# Figures of what was read and written depend on how each does it, and identifiers are random. rdb adds lines with reasons and advice; it
# breaks no line of figures after 80 columns; it names no program of its own as a command that has failed; and it says in `_flags_susp`
# that requests are suspended by hand, too.
same() {
    sed -E -e 's#/dev/[kr]-#/dev/x-#g; s/:710[01]\b/:7100/g; s#/tmp/rdb/[kr]-#/tmp/rdb/x-#g' \
        -e "s/\\b(read|written|received|sent|al-writes|bm-writes):[0-9]+/\\1:N/g; s/\\b(ns|nr|dw|dr|al|bm):[0-9]+/\\1:N/g" \
        -e 's/[0-9A-F]{16}/X/g; s/^_drbd_version=.*/_drbd_version=X/' \
        -e '/^ *[a-z]+-(reason|advice): /d; /^Command .* terminated with exit code/d; s/^(_flags_susp=).*/\1N/' \
        -e "${mask:-}" |
        awk '/^ +(upper|lower)-pending:/ { sub(/^ +/, " "); line = line $0; next } NR > 1 { print line } { line = $0 } END { print line }'
}
ask() { # ask PAIR NODE: everything that tells a state, each behind its command
    local pair=$1 node=$2 minor resource
    resource=$(name "$node")
    say() { echo "\$ $*"; "$pair" "$node" "$@" 2>&1; echo "=> $?"; }
    for minor in $(minors "$node"); do
        # Of a volume that there is not rdb's `role` and `cstate` say Unconfigured, as DRBD 8.3 does.
        if [ -n "${has_volumes:-}" ]; then for verb in role cstate; do say drbdsetup $verb "$minor"; done; fi
        # Of one without a disk they refuse in other words.
        if grep -E "^ *$minor: cs:" /proc/drbd | grep -qvE 'ds:Diskless|Unconfigured'; then for verb in get-gi show-gi; do say drbdsetup $verb "$minor"; done; fi
        for verb in dstate sh-status; do say drbdsetup $verb "$minor"; done
    done
    say drbdsetup status "$resource"
    say drbdsetup status "$resource" --verbose --statistics
    say drbdsetup events2 --now "$resource"
    say drbdsetup events2 --now --statistics "$resource"
    # Of a resource without volumes the kernel's tool shows no options, and of none it complains of a netlink reply.
    if [ -n "${has_volumes:-}" ]; then
        say drbdsetup show "$resource"
        say drbdsetup sh-status "$resource"
        for verb in role cstate; do say drbdadm $verb "$resource"; done
    fi
    for verb in dstate get-gi status sh-status; do say drbdadm $verb "$resource"; done
    say drbdadm sh-dev "$resource"
    echo '$ /proc/drbd'
    { if [ "$pair" = kernel ]; then cat /proc/drbd; else cat $work/run-"$node"/status; fi; } | awk -v "want=$(minors "$node")" \
        'BEGIN { split(want, w); for (i in w) wanted[w[i] ":"] = 1 } /^ *[0-9]+:/ { on = ($1 in wanted) } on && NF'
}
told() { # told STAGE: both nodes of both pairs, asked once what is seen is steady
    local node has_volumes
    for node in alice bob; do
        has_volumes=$(grep -E "^ *$(minors $node | sed 's/ .*//'): cs:" /proc/drbd) || true
        ask kernel $node | same >"$work/kernel.told"
        ask rdb $node | same >"$work/rdb.told"
        [ "$(wc -l <"$work/rdb.told")" -gt 25 ] || fail "$1: nothing is told: $(cat "$work/rdb.told")"
        if diff -U2 "$work/kernel.told" "$work/rdb.told" >"$work/differs"; then
            echo "same  $node: $1 ($(wc -l <"$work/rdb.told") lines)"
        else
            echo "      $node, '$1': the kernel's (-) and rdb's (+)"
            sed 's/^/      /' "$work/differs"
            differ=$((differ + 1))
        fi
    done
}
steady() { # steady NODE PATTERN: volumes of both pairs are so
    local minor
    for minor in $(minors "$1"); do
        await 20 sh -c "grep -qE '^ *$minor: .*$2' /proc/drbd"
        await 20 sh -c "grep -qE '^ *$minor: .*$2' $work/run-$1/status"
    done
}
write() { # write VOLUME MIB: the same onto both primaries
    dd if=/dev/urandom of=$work/data bs=1M count="$2" status=none
    must dd if=$work/data of=/dev/drbd$(($1 + 1)) bs=1M oflag=direct conv=fsync
    must fio --name=w --ioengine=nbd --uri="nbd+unix:///ra/$1?socket=$work/run-alice/nbd/ra.sock" --rw=write --bs=1M --size="$2"M --end_fsync=1
}

the_same_is_told_at_every_stage() {
    local differ=0 mask='' of_peer
    for node in alice bob; do
        mkdir -p "$work/run-$node"
        RDB_CONF=$work/r-$node.conf setsid rdbd --frontend socket --node kernel --run-dir "$work/run-$node" --config $work/rdbd.toml </dev/null >>"$work/$node.log" 2>&1 &
        await 20 rdb $node drbdadm proc
        both $node create-md --force "$(name $node)"
    done
    told 'nothing is configured'
    both alice new-resource ra
    told 'a resource without volumes'
    both alice new-minor ra
    told 'volumes without disks'
    both alice attach ra
    told 'disks attached'
    both alice connect ra
    steady alice WFConnection
    told 'waiting for the peer'
    both bob up rb
    steady alice Connected
    steady bob Connected
    told 'new disks'
    for volume in 0 1; do both alice new-current-uuid --clear-bitmap ra/$volume; done
    steady bob 'Connected .*UpToDate/UpToDate'
    told 'equal disks'
    both alice primary ra
    steady bob 'Secondary/Primary'
    told 'one is Primary'
    write 0 4
    told 'written'
    both bob disconnect rb
    steady alice WFConnection
    told 'the peer has left'
    write 0 8
    write 1 2
    told 'written alone'
    both bob connect rb
    steady bob 'Connected .*UpToDate/UpToDate'
    steady alice 'Connected .*UpToDate/UpToDate'
    told 'resynced'
    both alice suspend-io ra
    told 'requests suspended'
    both alice resume-io ra
    both alice pause-sync ra
    told 'sync paused'
    both alice resume-sync ra
    both bob detach rb/1
    steady alice 'Connected'
    # A disk that is given up beside a peer that goes on is Outdated on rdb's record: the third flag but one.
    mask='s/^(X:X:X:X:1):[01]:/\1:N:/'
    told 'a disk detached'
    mask=
    both bob attach rb/1
    steady bob 'Connected .*UpToDate/UpToDate'
    # A resync that takes long: what it has done differs. The kernel's driver takes the peer's resync-rate over when they connect.
    both bob disconnect rb
    write 0 24
    rate=300K conf $work/k-bob.conf rb kernel other 3 k 7100 3 2
    rate=300K conf $work/r-bob.conf rb kernel other 3 r 7101 3 2
    both bob adjust rb
    steady bob 'SyncTarget|Connected'
    sleep 4
    of_peer='s/(resync-rate     \t)[0-9]+k/\1N/'
    mask=$of_peer'; s/done:[0-9.]+/done:N/; s/(oos|out-of-sync|lo|pe|ua|ap|ep|pending|unacked|lower-pending|upper-pending):[0-9]+/\1:N/g; s/^(_resynced_percent=).*/\1N/; s/\[[=>.]+\]|[0-9.]+%|\([0-9]+\/[0-9]+\)K|[0-9]+:[0-9]{2}:[0-9]{2}|[0-9,]+ \([0-9,]+\) K\/sec|want: [0-9,]+/N/g; s/sync.ed: *N/synced: N/'
    told 'a resync'
    both bob pause-sync rb
    told 'a resync paused by its target'
    both bob down rb
    steady alice WFConnection
    mask=$of_peer'; s/(oos|out-of-sync|lo|pe|ua|ap|ep):[0-9]+/\1:N/g'
    told 'the peer is down'
    both alice secondary ra
    both alice detach ra
    told 'diskless and alone'
    both alice down ra
    told 'nothing is left'
    [ $differ = 0 ] || fail "$differ stages differ"
}
scenario "the same is told at every stage" the_same_is_told_at_every_stage
result
