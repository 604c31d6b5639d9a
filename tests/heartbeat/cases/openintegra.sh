# shellcheck shell=bash disable=SC2034,SC2154
# A web and file server of 2004: DRBD 0.6's language, a device by its old name in /etc/fstab, and a panic when the disk fails.
name_1=node1 name_2=node2 home=1
lan_1=193.68.121.1/24 lan_2=193.68.121.2/24 hub=193.68.121.254/24
repl_1=10.0.0.1/24 repl_2=10.0.0.2/24
group 1 drbd0 /dev/nb0 /dev/sda2 10317828K+1M ext4 /data httpd 193.68.121.200
service_of_group 1 vsftpd
# Its files and commands are those of the page.
page=$here/../../docs/old-files.md
# shellcheck source=../../cluster/page.sh
. "$here/../cluster/page.sh"
for file in /etc/drbd.conf /etc/fstab /etc/ha.d/haresources; do
    block_of $file >"$work/${file##*/}"
    [ -s "$work/${file##*/}" ] || fail "the page has no $file"
done
page_does() { # page_does HOST COMMAND
    case $2 in
    # There is no systemd here.
    "systemctl start heartbeat") touch "$work/go" ;;
    # It sees the file system, and asks.
    "rdbadm create-md "*) must on "${1#node}" sh -c "yes yes | $2" ;;
    *) must on "${1#node}" sh -c "$2" ;;
    esac
}
page_begins "$name_1" "$name_2"
prepare() {
    # What DRBD 0.6 has left: a file system as large as it says, the same on both disks.
    must mkfs.ext4 -q -N 256 -E lazy_itable_init=0 "$work/n1/disk1" 10317828K
    must cp --sparse=always "$work/n1/disk1" "$work/n2/disk1"
    page_says systemctl start heartbeat
    come_home
    pair 1 || fail "the disks are not equal"
    works home "the first"
}
more() {
    # The disk ends in the middle: what is read behind that fails. The kernel's trigger is a file here, where there is one at all.
    truncate -s 1M "$work/n$a/disk1"
    on $a dd if=/dev/nb0 of=/dev/null bs=4k count=1 skip=1M iflag=skip_bytes,direct >/dev/null 2>&1
    on $a dd if=/dev/nb0 of=/dev/null bs=4k count=1 skip=64M iflag=skip_bytes,direct >/dev/null 2>&1
    await 20 on $a grep -q 'local-io-error' /run/rdb/rdbd.log
    ! on $a test -e /proc/sysrq-trigger || await 20 on $a grep -q b /proc/sysrq-trigger
    cut_power $a
    taken_over $b
    works $b "the disk of node$a has failed"
    say "a disk fails: do-panic has the node die, and the other one takes over"
}
