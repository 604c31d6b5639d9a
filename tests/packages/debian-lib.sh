# shellcheck shell=bash
# Sourced: the Debian that packages are tried on, made by debootstrap and kept for the next time.

# debian RELEASE FOLDER: it is in FOLDER/RELEASE, with systemd and nothing of ours.
debian() {
    local base=$2/$1
    [ ! -e "$base/.is-whole" ] || return 0
    rm -rf "$base"
    debootstrap --variant=minbase --include=systemd,init-system-helpers,kmod,e2fsprogs,procps "$1" "$base" \
        "${RDB_DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$2/debootstrap.log" ||
        { tail -n 20 "$2/debootstrap.log" >&2; return 1; }
    touch "$base/.is-whole"
}
# devices DEV: device nodes of a machine's own: links in its /dev are nobody else's.
devices() {
    local line name numbers mode n
    while read -r name numbers mode; do
        mknod -m "$mode" "$1/$name" c "${numbers%:*}" "${numbers#*:}"
    done <<'NODES'
null 1:3 666
zero 1:5 666
full 1:7 666
random 1:8 666
urandom 1:9 666
tty 5:0 666
fuse 10:229 600
loop-control 10:237 600
NODES
    for n in $(seq 0 127); do mknod -m 660 "$1/loop$n" b 7 "$n"; done
    mkdir "$1/pts" "$1/shm"
    ln -s /proc/self/fd "$1/fd"
}
# only_what_is_tried ROOT: no terminals, and no wait for a network that there is not.
only_what_is_tried() {
    rm -f "$1"/etc/systemd/system/getty.target.wants/* "$1"/etc/systemd/system/*.wants/systemd-networkd*
    mkdir -p "$1/etc/systemd/journald.conf.d"
    printf '[Journal]\nReadKMsg=no\n' >"$1/etc/systemd/journald.conf.d/try.conf"
}
