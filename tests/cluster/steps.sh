# shellcheck shell=bash disable=SC2154,SC2013
# Sourced by whoever has hosts or machines take steps: what each step is told, waited for and cleared away with.
#
# Before: $work, a directory of the caller's, where $work/loops has the loop devices that its hosts had. The caller has the function
# `fail WORDS`, which shows what a failure needs and ends the script.
say() { echo "ok    $*"; }
await() { # await SECONDS COMMAND...: four times as long at most, for the machine may be busy
    local end=$((SECONDS + 4 * $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "never: $*"
        sleep 0.2
    done
}
must() { local out; out=$("$@" 2>&1) || fail "'$*': status $?: $(tail -n 6 <<<"$out")"; }
release_loops() {
    local device file
    for device in $(sort -u "$work/loops" 2>/dev/null); do
        file=$(cat "/sys/block/${device##*/}/loop/backing_file" 2>/dev/null) || continue
        # (What is shown as the root has no daemon any more.)
        [ "$file" != / ] || losetup -d "$device" 2>/dev/null
    done
}
