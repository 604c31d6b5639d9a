# Sourced in the guest by the jobs: two nodes in one machine, alice and bob, with a resource r0.
set -u
export PATH=/usr/local/bin:$PATH
work=/tmp/rdb
mkdir -p $work $work/mnt
passed=0 failed=0
log() { for node in alice bob; do echo "--- $node"; tail -n "${1:-25}" $work/$node.log; done; }
fail() { echo "      $*"; exit 1; }
must() { local out; out=$("$@" 2>&1) || fail "'$*': status $?: $(tail -n 4 <<<"$out")"; }
# scenario NAME FUNCTION: in a subshell, so that a failure ends it alone
scenario() {
    local start=$SECONDS
    if (set -u; "$2"); then
        echo "ok    $1 ($((SECONDS - start)) s)"
        passed=$((passed + 1))
    else
        echo "FAIL  $1"
        log
        dmesg | tail -n 15
        failed=$((failed + 1))
    fi
}
# The machine is emulated, and perhaps by a busy one: patience costs nothing where all is well.
await() { # await SECONDS COMMAND...: four times as long at most
    local end=$((SECONDS + 4 * $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "never: $*"
        sleep 0.1
    done
}
adm() { # adm NODE WORDS...
    local node=$1
    shift
    RDB_NODE=$node RDB_RUN_DIR=$work/run-$node RDB_CONF=$work/drbd.conf timeout 120 rdbadm "$@"
}
state() { grep -aE "^ *${2:-5}: cs:" "$work/run-$1/status"; }
is() { state "$1" | grep -qE "$2"; }
settled() { is alice 'cs:Connected .*ds:UpToDate/UpToDate' && is bob 'cs:Connected .*ds:UpToDate/UpToDate'; }
start() { # start NODE [FRONTEND]
    mkdir -p "$work/run-$1"
    setsid rdbd --frontend "${2:-auto}" --node "$1" --run-dir "$work/run-$1" --config $work/rdbd.toml </dev/null >>"$work/$1.log" 2>&1 &
    await 20 adm "$1" proc
}
pid() { cat "$work/run-$1/rdbd.pid"; }
gone() { ! kill -0 "$1" 2>/dev/null; }
end() { # end SIGNAL NODE
    local pid
    pid=$(pid "$2")
    kill "-$1" "$pid"
    await 30 gone "$pid"
}
sum() { dd if=/dev/drbd5 bs=1M iflag=direct status=none | sha256sum; }
drop_caches() { echo 3 >/proc/sys/vm/drop_caches; }
verify() { # verify NAME FILE MORE...: writes with checksums and reads them back
    local name=$1 file=$2
    shift 2
    must timeout 240 fio --name="$name" --filename="$file" --ioengine=libaio --direct=1 --verify=crc32c --do_verify=1 \
        --verify_fatal=1 --verify_state_save=0 --aux-path=/tmp --size=8M "$@"
}

cat >$work/drbd.conf <<CONF
global { usage-count no; }
resource r0 {
    net { ping-timeout 30; timeout 60; connect-int 1; ping-int 2; }
    disk { resync-rate 400M; c-plan-ahead 0; c-min-rate 0; }
    on alice { volume 0 { device /dev/drbd5; disk $work/alice.disk; meta-disk internal; } address 127.0.0.1:7001; }
    on bob { volume 0 { device /dev/drbd5; disk $work/bob.disk; meta-disk internal; } address 127.0.0.2:7001; }
}
CONF
echo 'device-links = true' >$work/rdbd.toml
for node in alice bob; do truncate -s ${disk_size:-64M} $work/$node.disk; done
