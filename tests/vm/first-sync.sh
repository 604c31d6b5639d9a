#!/usr/bin/env bash
# The first sync of a pair of kernel resources and of a pair of rdb's nodes with default options, one after the other in one guest:
# what came across in each second.
#
#   first-sync.sh [-s SECONDS] [-g GIGABYTES] [-o OPTIONS] BINARIES
#
#   -s SECONDS    how long each is watched (default 30)
#   -g GIGABYTES  size of the sparse disks (default 4); the machine needs twice as much room, in ${TMPDIR:-/var/tmp}
#   -o OPTIONS    options for both pairs, for instance 'disk { c-max-rate 20M; }' (default: none)
#   BINARIES      directory with rdbd and rdbadm (built with --release)
#
# Status 1: rdb was slower than the kernel's driver in one of the seconds. The machine is emulated: what it carries at most is shown
# by -o 'disk { c-plan-ahead 0; resync-rate 400M; }'.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=30 size=4 options=''
while getopts s:g:o: option; do
    case $option in
    s) seconds=$OPTARG ;;
    g) size=$OPTARG ;;
    o) options=$OPTARG ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
binaries=${1:?usage: first-sync.sh [-s SECONDS] [-g GIGABYTES] [-o OPTIONS] BINARIES}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/rdb-first-sync.XXXXXX")
trap 'rm -rf "$work"' EXIT
disks=()
for disk in kernel-source kernel-target rdb-source rdb-target; do
    truncate -s "${size}G" "$work/$disk"
    disks+=(-d "$work/$disk")
done
{
    printf 'seconds=%q options=%q\n' "$seconds" "$options"
    cat "$here/first-sync-job.sh"
} >"$work/job"
"$here/boot.sh" -t $((300 + seconds * 4)) "${disks[@]}" -f "$binaries/rdbd" -f "$binaries/rdbadm" "$work/job"
