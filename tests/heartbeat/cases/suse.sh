# shellcheck shell=bash disable=SC2034,SC2154
# Two groups, one at home on each node, in the language of DRBD 0.6 and 0.7, with devices by their names of then. (Linux has no reiserfs any more: it is ext4 here.)
name_1=node1 name_2=node2 home=1
lan_1=10.10.10.1/24 lan_2=10.10.10.2/24 hub=10.10.10.254/24
repl_1=10.0.0.1/24 repl_2=10.0.0.2/24
group 1 drbd0 /dev/nb0 /dev/sda5 32M ext4 /ha/apache apache 10.10.10.11
group 2 drbd1 /dev/nb1 /dev/sda6 32M ext4 /ha/mysql mysql 10.10.10.12
cat >"$work/drbd.conf" <<'END'
resource drbd0 {
  protocol = C
  fsckcmd = /bin/true
  inittimeout = 60
  disk {
    do-panic
    disk-size = 28672k
  }
  net {
    sync-max = 8M
    timeout = 60
    connect-int = 10
    ping-int = 10
  }
  on node1 {
    device = /dev/nb0
    disk = /dev/sda5
    address = 10.0.0.1
    port = 7788
  }
  on node2 {
    device = /dev/nb0
    disk = /dev/sda5
    address = 10.0.0.2
    port = 7788
  }
}
# The language of DRBD 0.7.
resource drbd1 {
  protocol C;
  incon-degr-cmd "halt -f";
  startup {
    wfc-timeout 60;
    degr-wfc-timeout 30;
  }
  disk {
    on-io-error panic;
  }
  net {
    timeout 60;
    connect-int 10;
    ping-int 10;
    on-disconnect reconnect;
  }
  syncer {
    rate 8M;
    group 1;
    al-extents 257;
  }
  on node1 {
    device /dev/nb1;
    disk /dev/sda6;
    address 10.0.0.1:7789;
    meta-disk internal;
  }
  on node2 {
    device /dev/nb1;
    disk /dev/sda6;
    address 10.0.0.2:7789;
    meta-disk internal;
  }
}
END
cat >"$work/haresources" <<'END'
node1 10.10.10.11 datadisk::drbd0 \
    Filesystem::/dev/nb0::/ha/apache::ext4 apache
node2 10.10.10.12 datadisk::drbd1 \
    Filesystem::/dev/nb1::/ha/mysql::ext4 mysql
END
