# shellcheck shell=sh
# Sourced by the scripts beside it: how a snapshot of a backing disk is taken and removed. It is a logical volume, a file on a file system
# that shares blocks between copies (xfs, btrfs), a loop device over such a file, or what a command of the administrator's makes of it.

me=${0##*/}
# The name of the snapshot before a resync. As all that the scripts name for themselves it has a `+`, which no administrator's name can have:
# else the end of a resync would remove a snapshot of his.
# shellcheck disable=SC2034 # it is for the scripts
own_name=+before-resync
# What is told of a size that is not known, and of each step.
verbose=0
# Space of a snapshot of a thick logical volume: so many KiB more than is known to change, and so many hundredths of its size.
additional_kib=10240
percent=10
# A command that takes and removes snapshots in our place.
command=
# The folder of copies of files; by default that of the file.
folder=
# A file may be copied whole where its blocks can not be shared.
whole=0
# For lvcreate.
lvcreate_words=

say() { echo "$me: $*"; }
note() { [ "$verbose" = 0 ] || say "$*"; }

# Ends the script for a mistake of whoever has called it.
misused() {
    say "$*"
    exit 64
}

is_number() {
    case $1 in
    '' | *[!0-9]*) return 1 ;;
    esac
    [ ${#1} -le 15 ]
}

# shellcheck disable=SC2034 # `taken` is for the caller
# The options that all scripts have. Sets `taken` to how many words the first one has; 0 if it is none of them.
option() {
    taken=2
    case $1 in
    -v | --verbose) verbose=1 taken=1 ;;
    --copy) whole=1 taken=1 ;;
    -p | --percent)
        is_number "${2-}" || misused "$1 wants a number, of hundredths of the volume's size"
        percent=$2
        ;;
    -a | --additional)
        is_number "${2-}" || misused "$1 wants a number, of KiB"
        additional_kib=$2
        ;;
    --exec)
        [ -n "${2-}" ] || misused "$1 wants a command"
        command=$2
        ;;
    --dir)
        [ -d "${2-}" ] || misused "$1 wants a folder that is there"
        folder=$2
        ;;
    *) taken=0 ;;
    esac
}

# The file that a disk is, or that a loop device is over from its beginning to its end; nothing if it is neither.
file_of() {
    if [ -f "$1" ]; then
        readlink -f "$1"
        return
    fi
    loop=$(readlink -f "$1")
    loop=/sys/block/${loop##*/}/loop
    [ -r "$loop/backing_file" ] || return 0
    if [ "$(cat "$loop/offset") $(cat "$loop/sizelimit")" = "0 0" ]; then
        cat "$loop/backing_file"
    fi
}

# Takes a snapshot of disk $1 by the name $2, where $3 KiB of it are known to change.
take() {
    if [ -n "$command" ]; then
        SNAPSHOT_ACTION=take SNAPSHOT_DISK=$1 SNAPSHOT_NAME=$2 SNAPSHOT_KIB=$3 sh -c "$command"
        return
    fi
    file=$(file_of "$1")
    if [ -n "$file" ]; then
        # Until it is whole it has another name.
        copy=$(copy_of "$file" "$2")
        [ ! -e "$copy" ] || { say "$copy exists already"; return 1; }
        share=always
        [ "$whole" = 0 ] || share=auto
        if ! cp --reflink=$share --sparse=auto --preserve=mode "$file" "$copy+new"; then
            rm -f "$copy+new"
            say "$file can not be copied by sharing its blocks"
            return 1
        fi
        sync "$copy+new" && mv "$copy+new" "$copy" || return 1
        note "$copy is the snapshot of $1"
        return
    fi
    volume=$(volume_of "$1") || return 1
    if [ "$(field segtype "$1")" = thin ]; then
        # shellcheck disable=SC2086 # they are words
        lvm lvcreate -q -s -kn -n "${volume##*/}-$2" $lvcreate_words "$volume" </dev/null || return 1
    else
        size=$(field lv_size "$1")
        size=${size%%.*}
        kib=$(($3 + additional_kib + size * percent / 100))
        # shellcheck disable=SC2086 # they are words
        lvm lvcreate -q -s -L "${kib}k" -n "${volume##*/}-$2" $lvcreate_words "$volume" </dev/null || return 1
    fi
    note "$volume-$2 is the snapshot of $1"
}

# Whether there is a snapshot of disk $1 by the name $2. Of one that a command has made only that command knows.
exists() {
    if [ -n "$command" ]; then
        SNAPSHOT_ACTION=exists SNAPSHOT_DISK=$1 SNAPSHOT_NAME=$2 SNAPSHOT_KIB=0 sh -c "$command"
        return
    fi
    file=$(file_of "$1")
    if [ -n "$file" ]; then
        [ -e "$(copy_of "$file" "$2")" ]
        return
    fi
    volume=$(volume_of "$1") && lvm lvs "$volume-$2" >/dev/null 2>&1
}

# Whether a copy of disk $1 by the name $2 was begun and not ended: what made it was killed.
is_begun() {
    [ -z "$command" ] || return 1
    file=$(file_of "$1")
    [ -n "$file" ] && [ -e "$(copy_of "$file" "$2")+new" ]
}

# Removes the snapshot of disk $1 by the name $2.
remove() {
    if [ -n "$command" ]; then
        SNAPSHOT_ACTION=remove SNAPSHOT_DISK=$1 SNAPSHOT_NAME=$2 SNAPSHOT_KIB=0 sh -c "$command"
        return
    fi
    file=$(file_of "$1")
    if [ -n "$file" ]; then
        copy=$(copy_of "$file" "$2")
        rm -f "$copy" "$copy+new" && note "$copy is removed"
        return
    fi
    volume=$(volume_of "$1") || return 1
    lvm lvremove -q -f "$volume-$2" </dev/null && note "$volume-$2 is removed"
}

# Where the copy of file $1 by the name $2 is. In a folder for all of them it has the whole path of the file in its name: by the last part
# alone, two volumes would have one copy, and the end of one's resync would remove the other's.
copy_of() {
    if [ -n "$folder" ]; then
        printf '%s/%s.%s\n' "$folder" "$(printf '%s\n' "$1" | sed 's|%|%25|g; s|^/||; s|/|%2F|g')" "$2"
    else
        printf '%s.%s\n' "$1" "$2"
    fi
}

# LVM looks at every device for volumes of its own, at those whose users' requests wait, too: it would wait for itself. So those of rdb
# are taken out of what it looks at, beside whatever its configuration takes out.
lvm() {
    verb=$1
    shift
    "$verb" --config "devices { global_filter = [ $(lvm_filter) ] }" "$@"
}
lvm_filter() {
    printf '"r|^/dev/drbd|", "r|^/dev/ublkb|"'
    for link in /dev/drbd[0-9]*; do
        node=$(readlink -f "$link")
        [ ! -b "$node" ] || printf ', "r|^%s$|"' "$node"
    done
    lvmconfig devices/global_filter 2>/dev/null | sed -n 's/^global_filter=\[*\([^]]*\)\]*$/, \1/p' | tr -d '\n'
}

# What LVM says of a disk: one field, sizes in KiB.
field() { lvm lvs --noheadings --nosuffix --units k -o "$1" "$2" 2>/dev/null | tr -d ' '; }

# The logical volume that a disk is, as GROUP/VOLUME.
volume_of() {
    volume=$(field lv_full_name "$1")
    if [ -z "$volume" ]; then
        say "$1 is no logical volume, no file, and no loop device over a whole file; see --exec" >&2
        return 1
    fi
    echo "$volume"
}
