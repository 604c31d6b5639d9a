#!/usr/bin/env bash
# A pair of kernel resources beside a pair of rdb's nodes, each pair over the loopback of one guest,
# on ram disks, with the same settings: what rdb over ublk reaches of the kernel's speed.
#
#   speed.sh [-r ROUNDS] [-s SECONDS] BINARIES
#
#   -r ROUNDS   how often each job runs on each pair, in turn (default 3; the medians are compared)
#   -s SECONDS  how long one job writes (default 8)
#   BINARIES    directory with rdbd and rdbadm (built with --release)
#
# Emulation makes absolute figures meaningless: look at the ratios.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rounds=3 seconds=8
while getopts r:s: option; do
    case $option in
    r) rounds=$OPTARG ;;
    s) seconds=$OPTARG ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
binaries=${1:?usage: speed.sh [-r ROUNDS] [-s SECONDS] BINARIES}
fio=$(command -v fio) || { echo "speed.sh: fio is missing; run .ci/setup" >&2; exit 125; }
files=(-f "$binaries/rdbd" -f "$binaries/rdbadm" -f "$fio")
for library in $(ldd "$fio" | grep -oE '/[^ ]+'); do files+=(-f "$library:$library"); done
work=$(mktemp -d "${TMPDIR:-/tmp}/rdb-speed.XXXXXX")
trap 'rm -rf "$work"' EXIT
{
    echo "rounds=$rounds seconds=$seconds"
    cat "$here/speed-job.sh"
} >"$work/job"
status=0
"$here/boot.sh" -t $((120 + rounds * (seconds * 8 + 60))) "${files[@]}" "$work/job" || status=$?
exit $status
