# Sourced by interop.sh: the two nodes and what can be done to them. Everything runs in a network
# namespace of its own; the kernel's node is a guest at the end of two TAP cables (10.9.0.0/24 for
# DRBD, 10.8.0.0/24 for commands), rdb's node is a daemon on this side. The guest has both nodes'
# disks (vda, vdb: volume 0 of kernel and rdb; vdc, vdd: volume 1; vde, vdf: external metadata of
# volume 0), so that disks can change sides.
# What must outlive a subshell (scenarios are subshells) is in files of $work.

size=67108864
# Room for the flexible external metadata of such a disk.
meta_size=1048576
# Internal metadata of a 64 MiB disk begins here (docs/spec/metadata.md, section 1.4).
internal_area=67067904 area=67067904
settled='cs:Connected ro:[A-Za-z]*/[A-Za-z]* ds:UpToDate/UpToDate'

fail() { echo "$*" >"$work/why"; exit 1; }
must() {
    local output status=0
    output=$("$@" 2>&1) || status=$?
    printf '# %s\n%s\n' "$*" "$output" >>"$work/trace"
    [ $status = 0 ] || fail "'$*': status $status: $(tail -n 2 <<<"$output" | tr '\n' ' ')"
}
refused() {
    local output
    output=$("$@" 2>&1) && fail "'$*' was not refused"
    printf '# %s (to be refused)\n%s\n' "$*" "$output" >>"$work/trace"
}

# ---- the kernel's node

guest_start() {
    local arguments disks='' index=0 disk
    arguments=(-nodefaults -no-user-config -machine "pc,usb=off,vmport=off" -m 640 -smp 1
        -accel "tcg,thread=single,tb-size=256" -cpu "${RDB_VM_CPU:-qemu64}" -display none -no-reboot
        -kernel "$image/vmlinuz" -initrd "$work/initrd" -serial "file:$work/console"
        -device virtio-rng-pci
        -netdev "tap,id=n0,ifname=rdb0,script=no,downscript=no"
        -device "virtio-net-pci,netdev=n0,mac=52:54:00:09:00:01,romfile="
        -netdev "tap,id=n1,ifname=rdb1,script=no,downscript=no"
        -device "virtio-net-pci,netdev=n1,mac=52:54:00:08:00:01,romfile=")
    [ -z "${RDB_VM_PCAP:-}" ] ||
        arguments+=(-object "filter-dump,id=f0,netdev=n0,maxlen=512,file=$RDB_VM_PCAP.$(date +%s)")
    for disk in kernel0 rdb0 kernel1 rdb1 kernelm rdbm; do
        arguments+=(-device "virtio-blk-pci,drive=d$index"
            -drive "file=$work/$disk,format=raw,if=none,id=d$index,discard=unmap,cache=writeback,file.locking=off")
        index=$((index + 1))
    done
    : >"$work/console"
    setsid qemu-system-x86_64 "${arguments[@]}" -append "console=ttyS0 quiet loglevel=3 panic=-1 \
mitigations=off nokaslr tsc=reliable no_timer_check nowatchdog audit=0 cryptomgr.notests \
random.trust_cpu=on rcupdate.rcu_expedited=1 rdinit=/init" </dev/null >"$work/qemu" 2>&1 &
    echo $! >"$work/qemu.pid"
    local end=$((SECONDS + 90))
    until [ "$(guest 3 'echo here' 2>/dev/null)" = here ]; do
        kill -0 "$(cat "$work/qemu.pid")" 2>/dev/null || fail "the guest died: $(tail -n 3 "$work/qemu" "$work/console" | tr '\n' ' ')"
        [ $SECONDS -lt $end ] || fail "the guest did not start in 90 s"
        sleep 0.3
    done
    [ ! -e "$work/drbd.conf" ] || send_configuration
}
# The kernel's node reads the same file; the disks have other names there.
send_configuration() {
    must guest 20 "cat >/etc/drbd.conf <<'CONF'
$(sed "s|$work/fence|/tmp/fence|g; s|$work/kernel0|/dev/vda|g; s|$work/rdb0|/dev/vdb|g; s|$work/kernel1|/dev/vdc|g; s|$work/rdb1|/dev/vdd|g; s|$work/kernelm|/dev/vde|g; s|$work/rdbm|/dev/vdf|g" "$work/drbd.conf")
CONF"
}
end_process() { # end_process SIGNAL PIDFILE: ends the process, if it runs, and waits until it is gone
    local pid
    pid=$(cat "$2" 2>/dev/null) || return 0
    kill "-$1" "$pid" 2>/dev/null
    for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
    rm -f "$2"
}
# Power is gone: nothing in the guest runs a moment longer.
guest_cut() { end_process KILL "$work/qemu.pid"; }
# guest SECONDS SCRIPT: runs it in the guest; its output, its status
guest() {
    local answer status
    answer=$(timeout "$1" bash -c 'exec 3<>/dev/tcp/10.8.0.1/99 && printf "%s\n#end\n" "$1" >&3 && cat <&3' - "$2" 2>/dev/null) || return 124
    status=$(sed -n 's/^#status //p' <<<"$answer" | tail -n 1)
    sed '/^#status [0-9]*$/d' <<<"$answer" | sed '${/^$/d}'
    return "${status:-125}"
}
kadm() { guest 60 "drbdadm $*"; }
kline() { guest 10 "grep -aE '^ *${1:-0}: cs:' /proc/drbd"; }

# ---- rdb's node

rdb_start() {
    mkdir -p "$work/run"
    # Beyond a limit of the size of files, writes fail and end nobody (`disk_lost_as_primary`).
    setsid env --ignore-signal=XFSZ "$binaries/rdbd" --frontend socket --node user --run-dir "$work/run" </dev/null >>"$work/rdbd.log" 2>&1 &
    echo $! >"$work/rdbd.pid"
    for _ in $(seq 100); do
        RDB_RUN_DIR=$work/run timeout 5 "$binaries/rdbadm" proc >/dev/null 2>&1 && [ -S "$work/run/control.sock" ] && return
        sleep 0.1
    done
    fail "rdbd did not start: $(tail -n 3 "$work/rdbd.log" | tr '\n' ' ')"
}
rdb_cut() { end_process KILL "$work/rdbd.pid"; }
radm() { RDB_NODE=user RDB_RUN_DIR=$work/run RDB_CONF=$work/drbd.conf timeout 60 "$binaries/rdbadm" "$@"; }
rline() { timeout 5 grep -aE "^ *${1:-0}: cs:" "$work/run/status"; }
uri() { echo "nbd+unix:///r0/$1?socket=$work/run/nbd/r0.sock"; }
# rio VOLUME COMMAND...: qemu-io's commands on rdb's device
rio() {
    local volume=$1 commands=() command output
    shift
    for command; do commands+=(-c "$command"); done
    output=$(timeout 60 qemu-io -t none -f raw "${commands[@]}" "$(uri "$volume")" 2>&1) || { echo "$output"; return 1; }
    if grep -qE 'failed|rror|Pattern' <<<"$output"; then echo "$output"; return 1; fi
}

# ---- both

# configuration NET-OPTIONS DISK-OPTIONS [KERNEL-DISK RDB-DISK]: the configuration of both, in use with the next `up`.
# With META=external the metadata of volume 0 are on a disk of their own; RATE is the resync's, OPTIONS and HANDLERS are the
# sections of those names.
configuration() {
    local net=$1 disk=$2 kernel=${3:-kernel} rdb=${4:-rdb} volumes='' volume
    for volume in $(seq 0 $((${VOLUMES:-1} - 1))); do
        volumes+="volume $volume { device /dev/drbd$volume; meta-disk META; disk DISK$volume; } "
    done
    cat >"$work/drbd.conf" <<CONF
global { usage-count no; disable-ip-verification; }
resource r0 {
    net { ping-timeout 30; timeout 60; connect-int 3; ping-int 5; $net }
    disk { resync-rate ${RATE:-400M}; c-plan-ahead 0; c-min-rate 0; $disk }
    options { ${OPTIONS:-} }
    handlers { ${HANDLERS:-} }
    on kernel { $(disks "$kernel" "$volumes") address 10.9.0.1:7789; }
    on user { $(disks "$rdb" "$volumes") address 10.9.0.2:7789; }
}
CONF
}
disks() { # disks NODE VOLUMES: with the node's disks
    local meta=internal
    [ "${META:-internal}" = internal ] || meta=$work/${1}m
    sed "s|DISK|$work/$1|g; s|META|$meta|g" <<<"$2"
}
configure() {
    configuration "$@"
    send_configuration
}
# kawait / rawait PATTERN [SECONDS [VOLUME]]: the node's device line comes to match
kawait() {
    guest "$((${2:-60} + 5))" "end=\$((SECONDS + ${2:-60}))
until grep -aE '^ *${3:-0}: cs:' /proc/drbd | grep -qE '$1'; do [ \$SECONDS -lt \$end ] || exit 1; sleep 0.1; done" ||
        fail "kernel not at '$1' in ${2:-60} s; kernel: $(kline "${3:-0}"); rdb: $(rline "${3:-0}")"
}
rawait() {
    local end=$((SECONDS + ${2:-60}))
    until rline "${3:-0}" 2>/dev/null | grep -qE "$1"; do
        [ $SECONDS -lt $end ] || fail "rdb not at '$1' in ${2:-60} s; kernel: $(kline "${3:-0}"); rdb: $(rline "${3:-0}")"
        sleep 0.1
    done
}
volumes() { seq 0 $((${VOLUMES:-1} - 1)); }
# Connected and in sync, both say so.
quiet() {
    local volume
    for volume in $(volumes); do
        kawait "$settled" "${1:-60}" "$volume"
        rawait "$settled" "${1:-60}" "$volume"
    done
}
primary_kernel() { must radm secondary r0; must kadm primary r0; }
primary_rdb() { must kadm secondary r0; must radm primary r0; }
up_both() { must kadm up r0; must radm up r0; }
down_both() { must radm down r0; must kadm down r0; }

# The guest looks at the disks anew, after somebody else wrote to them.
flush_buffers() { guest 20 'for disk in /dev/vd[a-f]; do blockdev --flushbufs $disk; done'; }

# fresh: new metadata on blank disks, both up and connected, nothing synced
fresh() {
    local volume
    guest 60 'drbdadm down all >/dev/null 2>&1; drbdsetup down r0 >/dev/null 2>&1' || true
    rdb_cut
    for volume in 0 1; do
        rm -f "$work/model$volume"
        truncate -s 0 "$work/kernel$volume" "$work/rdb$volume"
        truncate -s "$size" "$work/kernel$volume" "$work/rdb$volume" "$work/model$volume"
        # Each side's blank disk has marks of its own, so that a sync that does nothing is seen.
        seq 1000000 3000000 | head -c 8000000 | dd of="$work/kernel$volume" conv=notrunc status=none
        seq 5000000 7000000 | head -c 8000000 | dd of="$work/rdb$volume" conv=notrunc bs=64k seek=300 status=none
    done
    truncate -s 0 "$work/kernelm" "$work/rdbm"
    truncate -s "$meta_size" "$work/kernelm" "$work/rdbm"
    flush_buffers
    rdb_start
    must kadm create-md --force r0
    must radm create-md --force r0
    up_both
    kawait 'cs:Connected.*ds:Inconsistent/Inconsistent' 40
    rawait 'cs:Connected.*ds:Inconsistent/Inconsistent' 40
}
model_is() { local volume; for volume in $(volumes); do dd if="$work/$1$volume" of="$work/model$volume" bs=1M conv=notrunc status=none; done; }
# equal: both disks' data areas are the same and are what was written
equal() {
    local volume
    for volume in $(volumes); do
        must cmp -n "$area" "$work/kernel$volume" "$work/rdb$volume"
        must cmp -n "$area" "$work/model$volume" "$work/rdb$volume"
    done
}
same() { local volume; for volume in $(volumes); do must cmp -n "$area" "$work/kernel$volume" "$work/rdb$volume"; done; }

# ---- writes: data is a run of numbers from SEED, so that each place of each write is its own

data() { seq "${1}000000" "${1}999999" 2>/dev/null | head -c "$2"; }
model() { dd of="$work/model$1" bs=512 seek=$(($2 / 512)) conv=notrunc status=none; }
# kwrite / rwrite VOLUME OFFSET LENGTH SEED [FLAG]: dd's flag (dsync: FUA), qemu-io's (-f: FUA)
kwrite() {
    data "$4" "$3" | model "$1" "$2"
    must guest 60 "seq ${4}000000 ${4}999999 | head -c $3 | dd of=/dev/drbd$1 bs=$3 seek=${2}B count=1 iflag=fullblock oflag=direct${5:+,$5} conv=notrunc status=none"
}
rwrite() {
    data "$4" "$3" >"$work/data"
    model "$1" "$2" <"$work/data"
    must rio "$1" "write -q ${5:-} -s $work/data $2 $3"
}
kzero() { # kzero VOLUME OFFSET LENGTH [-z]: discard, or write zeroes
    head -c "$3" /dev/zero | model "$1" "$2"
    must guest 60 "blkdiscard ${4:-} -o $2 -l $3 /dev/drbd$1"
}
rzero() { # rzero VOLUME OFFSET LENGTH COMMAND: qemu-io's "discard", "write -z", "write -z -u"
    head -c "$3" /dev/zero | model "$1" "$2"
    must rio "$1" "$4 -q $2 $3"
}
# A load in the background, in the last 16 MiB. Write I is `load_at I`, `load_length I`, data I;
# the number of each that was acknowledged is a line of $work/load.acked. They begin behind
# $load_base, so that a second load does not write what the first did.
load_base=0
load_at='48 * 1048576 + i * 7919 % 3800 * 4096' load_length='4096 * (1 + i % 16)'
kload() {
    : >"$work/load.acked"
    setsid bash -c 'exec 3<>/dev/tcp/10.8.0.1/99 && printf "%s\n#end\n" "$1" >&3 && exec cat <&3' - "
: >/tmp/load
i=$load_base
while [ -e /tmp/load ]; do
    i=\$((i + 1))
    seq \${i}000000 \${i}999999 2>/dev/null | head -c \$(($load_length)) >/tmp/load.data
    dd if=/tmp/load.data of=/dev/drbd0 bs=64k seek=\$(($load_at))B oflag=direct conv=notrunc status=none || exit 1
    echo \$i
done" >"$work/load.acked" 2>/dev/null </dev/null &
    echo $! >"$work/load.pid"
}
rload() {
    (
        i=$load_base
        while :; do
            i=$((i + 1))
            data "$i" $((load_length)) >"$work/load.data"
            output=$(timeout 30 qemu-io -t none -f raw -c "write -q -s $work/load.data $((load_at)) $((load_length))" "$(uri 0)" 2>&1) && [ -z "$output" ] || break
            echo "$i"
        done
    ) >"$work/load.acked" </dev/null 2>/dev/null &
    echo $! >"$work/load.pid"
}
# load_runs: it has written something since it began
load_runs() {
    local end=$((SECONDS + 20))
    until [ "$(grep -c '^[0-9]' "$work/load.acked")" -ge 5 ]; do
        [ $SECONDS -lt $end ] || fail "the load does not write"
        sleep 0.2
    done
    sleep 1
}
load_end() {
    [ ! -e "$work/qemu.pid" ] || guest 5 'rm -f /tmp/load; sleep 1' >/dev/null 2>&1
    end_process TERM "$work/load.pid"
    sleep 0.3
}
# load_known NODE: what was acknowledged goes into the model. Of the last writes it is not known
# whether they were done (what was on its way when the node died): those places are as NODE has them.
load_known() {
    local i count=0 last=$load_base
    while read -r i; do
        case $i in '' | *[!0-9]*) continue ;; esac
        data "$i" $((load_length)) | model 0 $((load_at))
        count=$((count + 1)) last=$i
    done <"$work/load.acked"
    [ $count -ge 5 ] || fail "the load made $count writes only"
    for i in $((last + 1)) $((last + 2)) $((last + 3)); do
        dd if="$work/${1}0" of="$work/model0" bs=4096 skip=$(((load_at) / 4096)) seek=$(((load_at) / 4096)) count=$(((load_length) / 4096)) conv=notrunc status=none
    done
    echo "load: $count writes acknowledged"
}

# The last resync the kernel told of, in KiB (it says so on both sides of a resync).
kernel_resync() { guest 10 "dmesg | grep -aoE 'will sync [0-9]+ KB' | tail -n 1 | grep -oE '[0-9]+'"; }
# resync_of KIB: the last resync was of that much at most, and was one
resync_of() {
    local got
    got=$(kernel_resync)
    [ "${got:-0}" -gt 0 ] || fail "no resync was seen"
    [ "$got" -le "$1" ] || fail "resync of $got KiB; $1 KiB at most were written"
}
kmark() { guest 10 'echo interop-mark >/dev/kmsg'; }
ksaid() { guest 10 "dmesg | tac | sed '/interop-mark/q' | grep -aE '$1'"; }
# Neither complained of the other's packets since the scenario began.
clean_logs() {
    local found grave='|BUG:|WARNING:|Oops|Call Trace'
    if [ -e "$work/warns" ]; then grave='|BUG:|Oops'; rm "$work/warns"; fi
    found=$(tail -n +"$((log_at + 1))" "$work/rdbd.log" | grep -aE 'panicked|ProtocolError|ASSERT|[Uu]nexpected|BAD!') &&
        fail "rdb's log: $(head -n 1 <<<"$found")"
    found=$(ksaid "drbd.*(ProtocolError|ASSERT|[Uu]nexpected|BAD!|magic)$grave") &&
        fail "the kernel's log: $(head -n 1 <<<"$found")"
    return 0
}
