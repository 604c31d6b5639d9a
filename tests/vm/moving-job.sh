# Runs in both guests, behind a line that sets `node`: alice does what the page says, here and, by a port of bob's, there.
set -u
page=/page.md
hostname $node
mkdir -p /srv
# Where the kernel, and drbdsetup, look for it.
[ -e /sbin/modprobe ] || ln -s "$(command -v modprobe)" /sbin/modprobe
fail() {
    echo "FAIL  $*"
    for host in alice bob; do
        echo "--- $host"
        at $host 'cat /proc/drbd; rdbadm status; tail -n 20 /run/rdb/rdbd.log; dmesg | grep drbd | tail -n 20'
    done
    [ $node = bob ] || at bob 'touch /end'
    exit 1
}
. /page.sh
block_of /etc/drbd.conf >/etc/drbd.conf
grep -q 'resource r0' /etc/drbd.conf || fail "the page has no configuration"
if [ $node = bob ]; then
    cat >/serve <<'SERVE'
#!/usr/bin/bash
script=/tmp/script.$$
while IFS= read -r line && [ "$line" != '#end' ]; do printf '%s\n' "$line"; done >$script
# The server ignores SIGCHLD and so would its children; drbdadm waits for its own.
env --default-signal=CHLD bash $script </dev/null 2>&1
printf '\n#status %d\n' $?
rm -f $script
SERVE
    chmod 755 /serve
    busybox nc -ll -p 99 -e /serve &
    until [ -e /end ]; do sleep 0.5; done
    exit 0
fi

at() { # at HOST SCRIPT: its output, its status
    local answer status
    if [ "$1" = alice ]; then
        timeout 120 bash -c "$2" 2>&1
        return
    fi
    answer=$(timeout 120 bash -c 'exec 3<>/dev/tcp/10.7.0.2/99 && printf "%s\n#end\n" "$1" >&3 && cat <&3' - "$2" 2>/dev/null)
    status=$(sed -n 's/^#status //p' <<<"$answer" | tail -n 1)
    sed '/^#status [0-9]*$/d' <<<"$answer"
    return "${status:-125}"
}
must() { # must HOST SCRIPT
    local out status=0
    out=$(at "$@") || status=$?
    [ $status = 0 ] || fail "$1# $2: status $status: $(tail -n 5 <<<"$out")"
    [ -z "$out" ] || printf '%s\n' "$out"
}
await() { # await SECONDS HOST SCRIPT: four times as long at most, for the machine is emulated
    local end=$((SECONDS + 4 * $1))
    until at "$2" "$3" >/dev/null; do
        [ $SECONDS -lt $end ] || fail "never, on $2: $3"
        sleep 0.3
    done
}
page_does() { # page_does HOST COMMAND
    local out
    out=$(must "$@") || { echo "$out"; exit 1; }
    case $2 in
    *dadm\ dstate*) [ "$(grep -c UpToDate/UpToDate <<<"$out")" = 1 ] || fail "$1: $out" ;;
    *--check) ! grep -q . <<<"$out" || fail "$1: $out" ;;
    esac
}
# What users write: a file of four MiB, which is there from then on.
files=0
writes() { # writes HOST
    files=$((files + 1))
    must "$1" "head -c 4194304 /dev/urandom >/srv/file-$files && sync && sha256sum /srv/file-$files" >/tmp/sum
    grep . /tmp/sum >>/tmp/sums
}
reads() { # reads HOST: everything is there
    must "$1" "echo 3 >/proc/sys/vm/drop_caches; sha256sum -c <<'SUMS'
$(cat /tmp/sums)
SUMS" >/tmp/found
    [ "$(grep -c ': OK' /tmp/found)" = $files ] || fail "$1 reads: $(cat /tmp/found)"
}
kernel_says() { at "$1" "dmesg | grep -aoE 'will sync [0-9]+ KB' | tail -n 1 | grep -oE '[0-9]+'" | grep . || true; }
rdb_says() { at "$1" "grep -aoE 'will sync [0-9]+ KB' /run/rdb/rdbd.log | tail -n 1 | grep -oE '[0-9]+'" | grep . || true; }
forget() { for host in alice bob; do at $host 'dmesg -c >/dev/null; [ ! -e /run/rdb/rdbd.log ] || : >/run/rdb/rdbd.log'; done; }
# synced HOST kernel|rdb: the sync since the last `forget` was of one file and what a file system writes beside it, as that host's driver tells.
synced() {
    local got
    got=$("${2}_says" "$1")
    [ "${got:-0}" -ge 4096 ] && [ "$got" -le 12288 ] || fail "a sync of '$got' KiB, of 4096 that were written"
    echo "      $got KiB were synced"
}

await 60 bob true
for host in alice bob; do
    must $host 'drbdadm create-md --force r0 && drbdadm up r0' >/dev/null
done
await 30 alice "drbdadm cstate r0 | grep -q Connected"
must alice 'drbdadm new-current-uuid --clear-bitmap r0/0 && drbdadm primary r0 && mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/drbd0 && mount /dev/drbd0 /srv' >/dev/null
await 30 bob "drbdadm dstate r0 | grep -q UpToDate/UpToDate"
writes alice
echo "ok    a pair of the kernel's, with a file system"

page_begins alice bob
page_says rdbadm --dry-run up r0
forget
page_says drbdadm down r0
await 20 alice "drbdadm cstate r0 | grep -q WFConnection"
writes alice
page_says rdbadm status --check
synced alice kernel
writes alice
echo "ok    bob is rdb's: it got what was written while it was stopped"

page_says mount /dev/drbd0 /srv
reads bob
forget
writes bob
page_says drbdadm down r0
await 20 bob "rdbadm cstate r0 | grep -q WFConnection"
writes bob
page_says rdbadm status --check
synced bob rdb
writes bob
reads bob
for host in alice bob; do must $host '[ ! -e /proc/drbd ]' >/dev/null; done
echo "ok    users have moved to bob, and alice is rdb's, too: no node has the kernel's driver"

forget
page_says rdbadm down r0
await 20 bob "rdbadm cstate r0 | grep -q WFConnection"
writes bob
page_says drbdadm dstate r0
synced alice kernel
page_says mount /dev/drbd0 /srv
reads alice
echo "ok    back: alice is the kernel's, and users have moved to it"
forget
page_says rdbadm down r0
await 20 alice "drbdadm cstate r0 | grep -q WFConnection"
writes alice
page_says drbdadm dstate r0
synced alice kernel
reads alice
echo "ok    bob is the kernel's, too"

must alice 'umount /srv && drbdadm down r0' >/dev/null
must bob 'drbdadm down r0' >/dev/null
must bob 'touch /end' >/dev/null
