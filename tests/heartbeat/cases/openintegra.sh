# shellcheck shell=bash disable=SC2034,SC2154
# A web and file server of 2004: DRBD 0.6's language, a device by its old name in /etc/fstab, and a panic when the disk fails.
name_1=node1 name_2=node2 home=1
lan_1=193.68.121.1/24 lan_2=193.68.121.2/24 hub=193.68.121.254/24
repl_1=10.0.0.1/24 repl_2=10.0.0.2/24
group 1 drbd0 /dev/nb0 /dev/sda2 10317828K+1M ext4 /data httpd 193.68.121.200
service_of_group 1 vsftpd
cat >"$work/drbd.conf" <<'END'
# drbd 0.6
resource drbd0 {
  protocol = C
  fsckcmd = /bin/true
  disk {
    do-panic
    disk-size = 10317828k
  }
  net {
    sync-nice = -18
    sync-min = 500k
    sync-max = 100M   # maximal average syncer bandwidth
    tl-size = 5000
    timeout = 60
    connect-int = 10
    ping-int = 10
    ko-count = 4
  }
  on node1 {
    device = /dev/nb0
    disk = /dev/sda2
    address = 10.0.0.1
    port = 7788
  }
  on node2 {
    device = /dev/nb0
    disk = /dev/sda2
    address = 10.0.0.2
    port = 7788
  }
}
END
cat >"$work/haresources" <<'END'
node1 193.68.121.200 datadisk::drbd0 httpd vsftpd
END
cat >"$work/fstab" <<'END'
/dev/nb0 /data ext4 noauto 0 0
END
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
