# Runs in the guest, behind a line that sets `rounds` and `seconds`: see speed.sh.
set -u
export PATH=/usr/local/bin:$PATH
work=/tmp/speed
mkdir -p $work
fail() { echo "speed: $*"; dmesg | tail -n 5; tail -n 5 $work/*.log 2>/dev/null; exit 1; }
must() { local out; out=$("$@" 2>&1) || fail "'$*': status $?: $(tail -n 4 <<<"$out")"; }
modprobe brd rd_nr=4 rd_size=131072 || fail "no ram disks"
modprobe ublk_drv || fail "no ublk driver"
# A wait that starts no process, which emulation makes dear.
mkfifo $work/never
exec 8<>$work/never
nap() { read -r -t "$1" -u 8 || true; }

options='net { protocol C; max-buffers 8000; max-epoch-size 8000; } disk { resync-rate 4000M; c-plan-ahead 0; c-min-rate 0; }'
# Two resources of one kernel are each other's peer: each has a file in which this host is one side.
cat >$work/ka.conf <<CONF
global { usage-count no; disable-ip-verification; }
resource ka { $options
    on kernel { volume 0 { device /dev/drbd1; disk /dev/ram0; meta-disk internal; } address 127.0.0.1:7100; }
    on other { volume 0 { device /dev/drbd2; disk /dev/ram1; meta-disk internal; } address 127.0.0.2:7100; }
}
CONF
sed 's/resource ka/resource kb/; s/on kernel/on X/; s/on other/on kernel/; s/on X/on other/' $work/ka.conf >$work/kb.conf
cat >$work/rdb.conf <<CONF
global { usage-count no; }
resource r0 { $options
    on alice { volume 0 { device /dev/drbd5; disk /dev/ram2; meta-disk internal; } address 127.0.0.1:7200; }
    on bob { volume 0 { device /dev/drbd6; disk /dev/ram3; meta-disk internal; } address 127.0.0.2:7200; }
}
CONF
echo 'device-links = true' >$work/rdbd.toml
kadm() { drbdadm -c "$work/$1.conf" "${@:2}" "$1"; }
adm() { RDB_NODE=$1 RDB_RUN_DIR=$work/run-$1 RDB_CONF=$work/rdb.conf timeout 60 rdbadm "${@:2}"; }

# line WHO: the device's line of ka, kb, alice or bob, without a process
line() {
    local file=/proc/drbd wanted text=''
    case $1 in ka) wanted=1 ;; kb) wanted=2 ;; alice) wanted=5 file=$work/run-alice/status ;; bob) wanted=6 file=$work/run-bob/status ;; esac
    while IFS= read -r text; do
        [[ $text =~ ^\ *$wanted:\ cs: ]] && { REPLY=$text; return 0; }
    done 2>/dev/null <"$file"
    REPLY=
}
await() { # await SECONDS WHO PATTERN
    local end=$((SECONDS + $1))
    until line "$2" && [[ $REPLY =~ $3 ]]; do
        [ $SECONDS -lt $end ] || fail "$2 is not at $3: $REPLY"
        nap 0.05
    done
}
settled='cs:Connected .*ds:UpToDate/UpToDate'

for r in ka kb; do
    must kadm $r create-md --force
    must kadm $r up
done
must kadm ka primary --force
await 60 ka "$settled"
for node in alice bob; do
    frontend=socket
    [ $node = bob ] || frontend=ublk
    mkdir -p $work/run-$node
    setsid rdbd --frontend $frontend --node $node --run-dir $work/run-$node --config $work/rdbd.toml </dev/null >>$work/$node.log 2>&1 &
    until adm $node proc >/dev/null 2>&1; do [ $SECONDS -lt 200 ] || fail "no daemon"; nap 0.1; done
    must adm $node create-md --force r0
    must adm $node up r0
done
must adm alice primary --force r0
await 60 alice "$settled"
[ -b /dev/ublkb5 ] || fail "no ublk device"

device() { if [ "$1" = kernel ]; then echo /dev/drbd1; else echo /dev/ublkb5; fi; }
# ticks of 10 ms: user and system of the whole machine, and context switches
machine() { awk '/^cpu /{print $2+$3, $4, $7+$8} /^ctxt/{print $2}' /proc/stat | tr '\n' ' '; }
# ticks of one daemon: user, system
daemon() { sed 's/.*) //' "/proc/$(cat $work/run-$1/rdbd.pid)/stat" | cut -d' ' -f12,13; }
# job PAIR NAME OPTIONS...: a line `NAME PAIR IOPS KIB/S` into $work/results, costs into $work/costs
job() {
    local pair=$1 name=$2 out before after a0='' a1='' b0='' b1=''
    shift 2
    before=$(machine)
    [ "$pair" = kernel ] || { a0=$(daemon alice); b0=$(daemon bob); }
    out=$(timeout $((seconds * 3 + 30)) fio --name=job --filename="$(device "$pair")" --ioengine=libaio --direct=1 --time_based \
        --runtime=$seconds --size=100% --minimal --terse-version=3 "$@" 2>&1 | grep '^3;') || fail "fio: $out"
    after=$(machine)
    [ "$pair" = kernel ] || { a1=$(daemon alice); b1=$(daemon bob); }
    echo "$name $pair $(cut -d';' -f49 <<<"$out") $(cut -d';' -f48 <<<"$out")" >>$work/results
    echo "$name $pair $(cut -d';' -f47 <<<"$out") $before $after $a0 $a1 $b0 $b1" >>$work/costs
    tail -n 1 $work/results
}
# resync PAIR: everything once more to the other side; KiB a second by the clock
resync() {
    local begun ended kib
    if [ "$1" = kernel ]; then
        must kadm kb invalidate
        begun=${EPOCHREALTIME/./}
        await 120 ka "$settled"
    else
        must adm bob invalidate r0
        begun=${EPOCHREALTIME/./}
        await 120 alice "$settled"
    fi
    ended=${EPOCHREALTIME/./}
    kib=$(($(blockdev --getsize64 "$(device "$1")") / 1024))
    echo "resync $1 0 $((kib * 1000000 / (ended - begun)))" >>$work/results
    tail -n 1 $work/results
}
for round in $(seq "$rounds"); do
    pairs='kernel rdb'
    [ $((round % 2)) = 1 ] || pairs='rdb kernel'
    for pair in $pairs; do job "$pair" 4k-random-32 --rw=randwrite --bs=4k --iodepth=32 --norandommap --randrepeat=0; done
    for pair in $pairs; do job "$pair" 1M-sequential-8 --rw=write --bs=1M --iodepth=8; done
    for pair in $pairs; do job "$pair" 4k-random-1 --rw=randwrite --bs=4k --iodepth=1 --norandommap --randrepeat=0; done
    for pair in $pairs; do resync "$pair"; done
done
sync
# What was measured must have been replicated.
size=$(blockdev --getsize64 /dev/drbd1)
await 60 ka "$settled"
await 60 alice "$settled"
must cmp -n "$size" /dev/ram0 /dev/ram1
must cmp -n "$(blockdev --getsize64 /dev/ublkb5)" /dev/ram2 /dev/ram3

median() { sort -n | awk '{v[NR]=$1} END {print (NR % 2) ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2}'; }
value() { awk -v n="$1" -v p="$2" -v c="$3" '$1 == n && $2 == p {print $c}' $work/results | median; }
echo
printf '| %-16s | %12s | %12s | %5s | %6s |\n' job kernel rdb ratio wanted
echo '| ---------------- | -----------: | -----------: | ----: | -----: |'
row() { # row JOB COLUMN UNIT WANTED
    local k r
    k=$(value "$1" kernel "$2") r=$(value "$1" rdb "$2")
    awk -v j="$1" -v k="$k" -v r="$r" -v u="$3" -v w="$4" 'BEGIN {printf "| %-16s | %6d %5s | %6d %5s | %5.2f | %6s |\n", j, k, u, r, u, r / k, w}'
}
row 4k-random-32 3 IOPS 0.60
row 4k-random-1 3 IOPS ''
row 1M-sequential-8 4 KiB/s 0.80
row resync 4 KiB/s 0.80
echo
echo 'Costs: microseconds of CPU and context switches a request, by the last round'
awk '{
    bytes = ($1 ~ /^1M/) ? 1024 : 4; n = $3 / bytes; if (n == 0) next
    user = ($8 - $4) * 10000 / n; sys = ($9 - $5) * 10000 / n; irq = ($10 - $6) * 10000 / n; ctx = ($11 - $7) / n
    line = sprintf("%-16s %-6s whole machine: user %7.0f system %7.0f interrupts %6.0f, %5.1f switches", $1, $2, user, sys, irq, ctx)
    if (NF > 11) line = line sprintf("; daemons: primary user %.0f system %.0f, secondary user %.0f system %.0f",
        ($14 - $12) * 10000 / n, ($15 - $13) * 10000 / n, ($18 - $16) * 10000 / n, ($19 - $17) * 10000 / n)
    last[$1 " " $2] = line
} END { for (k in last) print last[k] }' $work/costs | sort
for node in alice bob; do kill "$(cat $work/run-$node/rdbd.pid)"; done
exit 0
