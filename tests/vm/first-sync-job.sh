# Runs in the guest, behind a line that sets `seconds` and `options`: see first-sync.sh.
set -u
export PATH=/usr/local/bin:$PATH
work=/tmp/first-sync
mkdir -p $work
fail() { echo "first-sync: $*"; dmesg | tail -n 5; tail -n 5 $work/*.log 2>/dev/null; exit 1; }
must() { local out; out=$("$@" 2>&1) || fail "'$*': status $?: $(tail -n 4 <<<"$out")"; }
# A wait that starts no process, which emulation makes dear.
mkfifo $work/never
exec 8<>$work/never
nap() { read -r -t "$1" -u 8 || true; }

# Two resources of one kernel are each other's peer: each has a file in which this host is one side.
cat >$work/source.conf <<CONF
global { usage-count no; disable-ip-verification; }
resource source { $options
    on kernel { volume 0 { device /dev/drbd1; disk /dev/vda; meta-disk internal; } address 127.0.0.1:7100; }
    on other { volume 0 { device /dev/drbd2; disk /dev/vdb; meta-disk internal; } address 127.0.0.2:7100; }
}
CONF
sed 's/resource source/resource target/; s/on kernel/on X/; s/on other/on kernel/; s/on X/on other/' $work/source.conf >$work/target.conf
cat >$work/rdb.conf <<CONF
global { usage-count no; }
resource r0 { $options
    on alice { volume 0 { device /dev/drbd5; disk /dev/vdc; meta-disk internal; } address 127.0.0.1:7200; }
    on bob { volume 0 { device /dev/drbd5; disk /dev/vdd; meta-disk internal; } address 127.0.0.2:7200; }
}
CONF
kadm() { drbdadm -c "$work/$1.conf" "${@:2}" "$1"; }
adm() { RDB_NODE=$1 RDB_RUN_DIR=$work/run-$1 RDB_CONF=$work/rdb.conf timeout 60 rdbadm "${@:2}"; }

# left PAIR: KiB out of sync at the source, and the state, into `kib` and `state`; no process is started
left() {
    local file=/proc/drbd text wanted=1
    [ "$1" = kernel ] || { file=$work/run-alice/status wanted=5; }
    state='' kib=''
    while IFS= read -r text; do
        if [[ $text =~ ^\ *$wanted:\ cs:([A-Za-z]+) ]]; then
            state=${BASH_REMATCH[1]}
        elif [ -n "$state" ] && [[ $text =~ \ oos:([0-9]+) ]]; then
            kib=${BASH_REMATCH[1]}
            return
        fi
    done 2>/dev/null <$file
}
now_ms() { now=$((${EPOCHREALTIME/./} / 1000)); }
# watch PAIR: KiB that came across in each second, as an array of its name
watch() {
    local -n rates=$1
    local start before after at rest
    until left "$1"; [ "$state" = SyncSource ]; do nap 0.02; done
    now_ms
    start=$now before=$kib
    for ((at = 1; at <= seconds; at++)); do
        now_ms
        rest=$((start + at * 1000 - now))
        [ $rest -le 0 ] || nap "$(printf '%d.%03d' $((rest / 1000)) $((rest % 1000)))"
        left "$1"
        after=${kib:-0}
        rates[at]=$((before - after))
        before=$after
        [ "$state" = SyncSource ] || break
    done
    [ "${#rates[@]}" -gt 0 ] || fail "$1: no sync"
}
kernel=() rdb=()

for resource in source target; do
    must kadm $resource create-md --force
    must kadm $resource up
done
until left kernel; [ "$state" = Connected ]; do nap 0.1; done
must kadm source primary --force
watch kernel
for resource in source target; do must kadm $resource down; done
sync

for node in alice bob; do
    mkdir -p $work/run-$node
    setsid rdbd --frontend socket --node $node --run-dir $work/run-$node </dev/null >>$work/$node.log 2>&1 &
    until adm $node proc >/dev/null 2>&1; do [ $SECONDS -lt 200 ] || fail "no daemon"; nap 0.1; done
    must adm $node create-md --force r0
    must adm $node up r0
done
until left rdb; [ "$state" = Connected ]; do nap 0.1; done
must adm alice primary --force r0
watch rdb

echo "MiB that came across in each second, and until then (options: ${options:-none})"
echo
printf '| second | kernel | rdb | kernel, sum | rdb, sum |\n| ---: | ---: | ---: | ---: | ---: |\n'
slower=0 sums=(0 0)
mib() { printf ' %s |' "$(awk -v k="$1" 'BEGIN { if (k != "") printf "%.1f", k / 1024 }')"; }
for ((at = 1; at <= seconds; at++)); do
    a=${kernel[at]:-} b=${rdb[at]:-}
    sums=($((sums[0] + ${a:-0})) $((sums[1] + ${b:-0})))
    # Who has come to the end is not slow.
    [ -z "$a" ] || [ -z "$b" ] || [ "$b" -ge "$a" ] || slower=$((slower + 1))
    printf '| %d |%s%s%s%s\n' $at "$(mib "$a")" "$(mib "$b")" "$(mib ${sums[0]})" "$(mib ${sums[1]})"
done
echo
echo "rdb was slower in $slower of $seconds seconds"
for node in alice bob; do kill "$(cat $work/run-$node/rdbd.pid)"; done
[ $slower = 0 ]
