# shellcheck shell=bash disable=SC2034,SC2154
# A VPN's server: DRBD 8.3, drbddisk and Filesystem, hosts with a domain. No address moves: clients ask both hosts.
name_1=hostA.fqdn.dom name_2=hostB.fqdn.dom home=2
lan_1=10.8.0.1/24 lan_2=10.8.0.2/24 hub=10.8.0.254/24
repl_1=192.168.1.2/16 repl_2=192.168.2.2/16
group 1 drbd1 /dev/drbd1 /dev/sda1 24M ext4 /finch finch
cat >"$work/drbd.conf" <<'END'
resource drbd1 {
    protocol C;
    syncer { rate 75K; al-extents 257; }
    on hostA.fqdn.dom {
        device /dev/drbd1;
        disk /dev/sda1;
        address 192.168.1.2:7789;
        meta-disk internal;
    }
    on hostB.fqdn.dom {
        device /dev/drbd1;
        disk /dev/sda1;
        address 192.168.2.2:7789;
        meta-disk internal;
    }
}
END
cat >"$work/haresources" <<'END'
hostB.fqdn.dom drbddisk::drbd1 Filesystem::/dev/drbd1::/finch::ext4 finch
END
