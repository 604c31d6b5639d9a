# shellcheck shell=bash disable=SC2154
# Sourced by `pair`: what docs/guide.md has a new user do, word for word, from bare machines to a fail-over and back. The page says what is
# typed where, and, below a command, what it prints.
page=$here/../../docs/guide.md

# section NAME: its indented lines, without the indent
section() { awk -v name="## $1" '/^## / { inside = $0 == name; next } inside && /^    / { print substr($0, 5); next } inside { print "" }' "$page"; }
# The progress of a resync is nobody's to foresee.
prints() { [ "$(typed "$1" "$2" | grep -v resync-progress)" = "$3" ]; }
# step HOST LINE OUTPUT: what is printed is awaited, for the page does not say how fast one types
step() {
    local node nodes_here=$1 said
    [ "$1" != both ] || nodes_here=$nodes
    for node in $nodes_here; do
        case $2 in
        *"/run/rdb/status"*) typed "$node" "$2" | grep -q 'cs:.* ro:Primary/Secondary' || fail "$node# $2: no line of a device" ;;
        *)
            if [ -n "$3" ]; then
                await 20 prints "$node" "$2" "$3"
            else
                said=$(typed "$node" "$2") || fail "$node# $2: status $?: $said"
            fi
            ;;
        esac
    done
    done_here=$((done_here + 1))
}
# page_says SECTION [exchanged]: all of it, in order; exchanged: alice for bob, and bob for alice
page_says() {
    local line host='' command='' output='' done_here=0
    while IFS= read -r -u 4 line; do
        case $line in
        "alice# "* | "bob# "* | "both# "* | "")
            [ -z "$command" ] || step "$host" "$command" "$output"
            command='' output=''
            [ -n "$line" ] || continue
            host=${line%%# *} command=${line#*# }
            [ "$host" = both ] || [ -z "${2:-}" ] || host=$(other "$host")
            ;;
        *) [ -z "$command" ] || output+=${output:+$'\n'}$line ;;
        esac
    done 4< <(section "$1"; echo)
    [ $done_here -gt 0 ] || fail "the page has no commands in '$1'"
    say "the page's '$1'${2:+, $2}: $done_here commands"
}
# The file that the page shows below this heading.
configuration() { section "The configuration" | awk 'NF { print; begun = 1; next } begun { exit }'; }
is_in_sync() { on "$1" rdbadm status --check r0; }
is_mounted() { on "$1" mountpoint -q /mnt; }

for node in $nodes; do
    boot "$node"
    deb=${debs[0]}
    on "$node" sh -c 'cat >rdb.deb' <"$deb"
done
say "two machines run, each with a bare Debian and one file, rdb.deb"
page_says Installation
for node in $nodes; do
    [ "$(on "$node" systemctl is-active rdbd)" = active ] || fail "no daemon on $node"
    configuration | on "$node" sh -c 'cat >/etc/drbd.conf'
done
page_says "The configuration"
page_says "First steps"
page_says "Switching over"
is_mounted bob && ! is_mounted alice || fail "bob has not taken over"
page_says "Switching over" exchanged
is_mounted alice || fail "alice has not taken over"
cut_power alice
say "alice has lost her power"
page_says "When a node is lost"
on bob sh -c 'echo more >>/mnt/greeting' || fail "it can not be written"
boot alice
await 30 is_in_sync alice
await 30 is_in_sync bob
say "alice is back, and in sync by herself"

# The end of a machine, with what was mounted by hand, and somebody who writes until the end.
on bob systemd-run --quiet sh -c 'while :; do date >>/mnt/dates || exit; sync /mnt/dates; done'
on bob sh -c 'dd if=/dev/urandom of=/mnt/last bs=64k count=64 status=none; sha256sum /mnt/last >/root/sum'
begun=$SECONDS
shut_down bob
[ $((SECONDS - begun)) -lt 60 ] || fail "it took $((SECONDS - begun)) s to shut bob down"
say "bob is shut down"
must on alice rdbadm primary r0
must on alice mount /dev/drbd0 /mnt
[ "$(on alice cat /mnt/greeting)" = $'hello\nmore' ] || fail "the greeting is $(on alice cat /mnt/greeting)"
[ "$(on alice sha256sum /mnt/last)" = "$(cat "$work/bob/upper/root/sum")" ] || fail "what was written last is not there"
say "alice has what bob wrote last"
boot bob
await 30 is_in_sync bob
ended=$(on bob journalctl -b -1 --no-pager -u rdbd)
! grep -qE 'SIGKILL|timed out|Failed with' <<<"$ended" || fail "bob's daemon did not end in order: $ended"
grep -q 'unmounted /mnt' <<<"$ended" || fail "nothing was unmounted before the daemon: $ended"
say "bob's daemon ended in order, when its device was unmounted"
