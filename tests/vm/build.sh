#!/usr/bin/env bash
# Builds what a guest with the kernel's own DRBD boots from: a Debian kernel of the 6.12 line
# (in it DRBD 8.4.11) and an initramfs with busybox, drbd-utils and a few real tools.
#
#   build.sh DIR      writes DIR/vmlinuz and DIR/initrd; does nothing if both are there
#
# The kernel package and drbd-utils are fetched by apt-get and unpacked, not installed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: build.sh DIR}
export PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$out/debs"
out=$(cd "$out" && pwd)
# Two at a time would unpack into each other's files; whoever comes second finds the work done.
exec 9>"$out/lock"
flock 9
stamp=$(cat "$here/build.sh" "$here/init" | sha256sum | cut -d' ' -f1)
if [ -e "$out/initrd" ] && [ -e "$out/vmlinuz" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi
say() { echo "vm image: $*" >&2; }
for tool in busybox cpio depmod modprobe xz ip dpkg-deb apt-get; do
    command -v "$tool" >/dev/null || { say "$tool is missing; run .ci/setup"; exit 1; }
done

# unpack PACKAGE: its files below $out/PACKAGE
unpack() {
    if [ ! -e "$out/$1/.unpacked" ]; then
        say "fetching $1"
        (cd "$out/debs" && rm -f "$1"_*.deb && apt-get download -qq -o Acquire::Retries=5 -o APT::Sandbox::User=root "$1" >&2)
        rm -rf "${out:?}/$1"
        mkdir -p "$out/$1"
        dpkg-deb -x "$out/debs/$1"_*.deb "$out/$1"
        : >"$out/$1/.unpacked"
    fi
}
newest_kernel() {
    apt-cache search --names-only '^linux-image-6\.12\.[0-9]+\+deb[0-9]+-amd64$' |
        awk '{ print $1 }' | sort -V | tail -n 1
}
kernel_package=$(newest_kernel)
if [ -z "$kernel_package" ]; then
    # A machine that has every program may still never have asked for lists of packages.
    [ "$(id -u)" != 0 ] || apt-get update -qq -o Acquire::Retries=5 || true
    kernel_package=$(newest_kernel)
fi
if [ -z "$kernel_package" ]; then
    say "apt knows no linux-image-6.12 package: Debian 12 has it in bookworm-security, Debian 13 in trixie"
    exit 1
fi
unpack "$kernel_package"
unpack drbd-utils
kernel=$out/$kernel_package
version=$(ls "$kernel/lib/modules")

root=$out/root
rm -rf "$root"
mkdir -p "$root"/{bin,sbin,etc,proc,sys,dev,run,tmp,mnt,lib,lib64,usr/bin,usr/sbin,var/lib/drbd,var/lock,var/run}

# put PROGRAM...: real programs with their shared libraries
put() {
    local program path library
    for program; do
        path=$(command -v "$program") || { say "no program $program; run .ci/setup"; exit 1; }
        case $program in /*) ;; *) cp -L "$path" "$root/usr/bin/" ;; esac
        for library in $(ldd "$path" 2>/dev/null | grep -oE '/[^ ]+' || true); do
            [ -e "$root$library" ] && continue
            mkdir -p "$root$(dirname "$library")"
            cp -L "$library" "$root$library"
        done
    done
}
put bash env dd cmp stat truncate ip losetup mount umount blockdev blkdiscard sync mkfs.ext4 e2fsck mkfs.xfs xfs_repair kmod
# What rdb's own programs link to, so that they can be added later without their libraries.
for library in libc.so.6 libm.so.6 libgcc_s.so.1; do
    path=$(ldconfig -p | awk -v l="$library" '$1 == l && /x86-64/ && !found { print $NF; found = 1 }')
    mkdir -p "$root$(dirname "$path")"
    [ -e "$root$path" ] || cp -L "$path" "$root$path"
done
cp "$out"/drbd-utils/sbin/drbd{adm,setup,meta} "$root/sbin/"
mkdir -p "$root/lib/drbd"
cp "$out"/drbd-utils/lib/drbd/drbd*-84 "$root/lib/drbd/"
put "$root"/sbin/drbd{adm,setup,meta} "$root"/lib/drbd/*
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $(busybox --list); do
    [ -e "$root/usr/bin/$applet" ] || [ -e "$root/bin/$applet" ] || ln -sf busybox "$root/bin/$applet"
done
for link in modprobe insmod; do ln -sf kmod "$root/usr/bin/$link"; done
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
ln -s /proc/mounts "$root/etc/mtab"
install -m 755 "$here/init" "$root/init"

# Modules with all they depend on, decompressed (the guest's insmod is faster that way).
mkdir -p "$root/lib/modules/$version"
depmod -b "$kernel" "$version"
for module in virtio_blk virtio_net ext4 xfs loop brd fuse drbd ublk_drv nbd dm_snapshot dm_thin_pool veth crc32c_generic sha1_generic sha256_generic sha512_generic md5 crc32_generic hmac; do
    modprobe -d "$kernel" -S "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
done | sort -u | while read -r file; do
    target=$root/lib/modules/$version/${file##*/modules/"$version"/}
    mkdir -p "$(dirname "$target")"
    case $file in
    *.xz) xz -dc "$file" >"${target%.xz}" ;;
    *.zst) zstd -qdc "$file" >"${target%.zst}" ;;
    *) cp "$file" "$target" ;;
    esac
done
cp "$kernel/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
depmod -b "$root" "$version"

(cd "$root" && find . -print0 | cpio -0 -o -H newc --quiet -R 0:0) >"$out/initrd.new"
mv "$out/initrd.new" "$out/initrd"
cp "$kernel"/boot/vmlinuz-* "$out/vmlinuz"
echo "$stamp" >"$out/stamp"
say "kernel $version, initrd $(du -h "$out/initrd" | cut -f1), in $out"
