# Sourced by interop.sh: disks that travel between kernel and rdb, and the tools for their metadata.
# With META=external (see external_metadata) the metadata travel on a disk of their own.

# metadata kernel|rdb: how drbdmeta in the guest is told where the metadata of that disk are
metadata() {
    case ${META:-internal}.$1 in
    internal.kernel) echo /dev/vda internal ;;
    internal.rdb) echo /dev/vdb internal ;;
    external.kernel) echo /dev/vde flex-external ;;
    external.rdb) echo /dev/vdf flex-external ;;
    esac
}
kmeta() { guest 30 "drbdmeta ${3:-} 0 v08 $(metadata "$1") $2"; } # kmeta kernel|rdb VERB [--force]
rmeta() { # rmeta kernel|rdb VERB: the same with rdb's tool, on this side
    local place="$work/${1}0 internal"
    [ "${META:-internal}" = internal ] || place="$work/${1}m flex-external"
    # shellcheck disable=SC2086 # two words
    "$work/rdbmeta" --force - v08 $place "$2" 2>&1
}
# Without what names time and program, and the flags, which older drbdmeta print as 0
# (docs/spec/metadata.md, section 8.2); show-gi and get-gi show them.
essence() { grep -avE '^#|^ *flags 0x|^$|^ *device-size|^ *bm-byte-offset' | sed 's/[[:space:]]*$//'; }
same_words() { # same_words DISK VERB: both tools say the same, and something
    kmeta "$1" "$2" | essence >"$work/said.kernel"
    rmeta "$1" "$2" | essence >"$work/said.rdb"
    [ -s "$work/said.kernel" ] || fail "drbdmeta $2 says nothing of $1's disk"
    diff "$work/said.kernel" "$work/said.rdb" >"$work/differ" ||
        fail "drbdmeta and rdbmeta differ in $2 of $1's disk: $(tr '\n' '|' <"$work/differ")"
}
# tools_agree: both tools say the same of both disks, which nobody uses, and each applies the log of
# the other's disk. In use, a disk's metadata count as unclean, and after it until the log is applied.
tools_agree() {
    local disk verb
    flush_buffers
    for disk in kernel rdb; do for verb in dump-md get-gi show-gi dstate; do same_words $disk $verb; done; done
    must rmeta kernel apply-al
    flush_buffers
    must kmeta rdb apply-al
    must guest 20 sync
    flush_buffers
    for disk in kernel rdb; do
        for verb in dump-md get-gi show-gi dstate; do same_words $disk $verb; done
        must kmeta $disk dump-md
    done
}

# superblock kernel|rdb: the file and the byte at which that disk's superblock begins
superblock() {
    if [ "${META:-internal}" = internal ]; then echo "$work/${1}0" $((size - 4096)); else echo "$work/${1}m" 0; fi
}
# The eight bytes without a meaning in that disk's superblock, in hexadecimal.
reserved() {
    local file at
    read -r file at < <(superblock "$1")
    od -An -v -tx1 -j $((at + 48)) -N 8 "$file" | tr -d ' '
}
reserved_is() { # reserved_is BYTES WHEN: those of rdb's disk
    [ "$(reserved rdb)" = "$1" ] || fail "reserved bytes of rdb's disk $2: $(reserved rdb), not $1"
}

# ---- disks that travel

disks_travel() { # [UP]: both stop cleanly, the disks change sides; nothing is synced. UP is used for `up_both`
    both_secondary
    down_both
    configure 'protocol C;' '' rdb kernel
    tools_agree
    kmark
    "${@:-up_both}"
    quiet 40
    equal
    ksaid 'Began resync' && fail "a resync although nothing changed"
    writes kernel
    writes rdb
    down_both
    reserved_is 0000000000000000 "after the kernel has left it"
    configure 'protocol C;' ''
    kmark
    up_both
    quiet 40
    equal
    ksaid 'Began resync' && fail "a resync although nothing changed on the way back"
    return 0
}
# up_with_note: rdb's disk, whose log is applied, has something in the reserved bytes when the kernel
# attaches it. drbdmeta's apply-al finds nothing to do and leaves them alone, so that it is the
# driver's write that shows.
up_with_note() {
    local file at note=7264622d6e6f7465
    read -r file at < <(superblock rdb)
    printf rdb-note | dd of="$file" bs=1 seek=$((at + 48)) conv=notrunc status=none
    flush_buffers
    must kadm apply-al r0
    must guest 20 sync
    reserved_is $note "before the kernel attaches it"
    must kadm up r0
    reserved_is 0000000000000000 "when the kernel has attached it"
    must radm up r0
}
crashed_disk_travels() { # kernel|rdb: the crashed Primary, whose disk the other attaches
    if [ "$1" = rdb ]; then
        primary_rdb
        rload
        load_runs
        rdb_cut
        load_end
        kawait 'cs:WFConnection' 40
        must kadm down r0
        rdb_start
    else
        primary_kernel
        kload
        load_runs
        guest_cut
        load_end
        rawait 'cs:WFConnection' 40
        must radm down r0
        guest_start
    fi
    configure 'protocol C;' '' rdb kernel
    kmark
    # The log of rdb's disk is applied by drbdmeta, that of the kernel's by rdb when it attaches the disk.
    if [ "$1" = rdb ]; then
        must kmeta rdb apply-al
        must guest 20 sync
        tools_agree
    fi
    up_both
    quiet
    same
    local got
    got=$(kernel_resync)
    # What the log held is synced (extents of 4 MiB, also those of earlier writes), never the whole disk.
    [ "${got:-0}" -le $((40 * 1024)) ] || fail "resync of $got KiB after a crash"
    load_known kernel
    equal
    both_secondary
    down_both
    configure 'protocol C;' ''
    up_both
    quiet 40
    equal
}

# ---- more ways to travel

external_metadata() { META=external area=$size; }
# with_external_metadata FUNCTION...: new disks with external metadata, made by drbdmeta alone
with_external_metadata() {
    down_both
    external_metadata
    configure 'protocol C;' ''
    fresh
    first_sync kernel
    "$@"
    down_both
    META=internal
    area=$internal_area
    configure 'protocol C;' ''
    fresh
    first_sync rdb
}
made_by_drbdmeta() { # drbdmeta makes the metadata that rdb uses, and rdbmeta those that the kernel uses
    down_both
    rdb_cut
    must kmeta kernel wipe-md --force
    must kmeta rdb wipe-md --force
    must kmeta rdb create-md --force
    must guest 20 sync
    flush_buffers
    must rmeta kernel create-md
    flush_buffers
    tools_agree
    rdb_start
    up_both
    kawait 'cs:Connected.*ds:Inconsistent/Inconsistent' 40
    first_sync rdb
    writes kernel
    writes rdb
}
bits_travel() { # kernel|rdb, which wrote alone: the disks change sides with the bits set
    kmark
    if [ "$1" = kernel ]; then primary_kernel; else primary_rdb; fi
    must radm disconnect r0
    kawait 'cs:WFConnection' 20
    if [ "$1" = kernel ]; then
        kwrite 0 $((10 * 1048576)) 262144 "8${RANDOM}"
        kwrite 0 $((44 * 1048576 + 1024)) 512 "8${RANDOM}"
    else
        # Apart, the kernel must not be asked whether rdb may be Primary.
        rwrite 0 $((11 * 1048576)) 262144 "8${RANDOM}"
        rwrite 0 $((45 * 1048576 + 1024)) 512 "8${RANDOM}"
    fi
    must kadm secondary r0
    must radm secondary r0
    down_both
    tools_agree
    [ "$(rmeta "$1" dump-md | grep -acE 'bits-set [1-9]')" = 1 ] || fail "no bits are set in the dump of $1's disk"
    configure 'protocol C;' '' rdb kernel
    up_both
    quiet
    resync_of $((256 + 4))
    equal
    primary_rdb
    rwrite 0 $((12 * 1048576)) 65536 "8${RANDOM}"
    primary_kernel
    kwrite 0 $((13 * 1048576)) 65536 "8${RANDOM}"
    both_secondary
    down_both
    configure 'protocol C;' ''
    kmark
    up_both
    quiet 40
    equal
    ksaid 'Began resync' && fail "a resync although nothing changed on the way back"
    tools_of_disks_in_use
}
# A tool must not touch a disk in use: both say so.
tools_of_disks_in_use() {
    refused kmeta kernel create-md --force
    return 0
}
