# shellcheck shell=bash disable=SC2034,SC2154
# A mail server: DRBD 8.0's language, datadisk that mounts by /etc/fstab, an address, sendmail.
name_1=server1 name_2=server2 home=1
lan_1=192.168.1.3/24 lan_2=192.168.1.4/24 hub=192.168.1.254/24
repl_1=10.0.0.1/24 repl_2=10.0.0.2/24
group 1 drbd0 /dev/drbd0 /dev/sda3 64M ext3 /replicated sendmail 192.168.1.5

# Its files and commands are those of the page.
page=$here/../../docs/heartbeat.md
# shellcheck source=../../cluster/page.sh
. "$here/../cluster/page.sh"
for file in /etc/drbd.conf /etc/fstab /etc/ha.d/haresources; do
    block_of $file >"$work/${file##*/}"
    [ -s "$work/${file##*/}" ] || fail "the page has no $file"
done
ha_cf() {
    block_of /etc/ha.d/ha.cf
    echo "realtime off"
}
page_does() { # page_does HOST COMMAND
    local n=1
    [ "$1" = "$name_1" ] || n=2
    case $2 in
    # There is no systemd here.
    "systemctl start heartbeat") touch "$work/go" ;;
    *) must on $n sh -c "$2" ;;
    esac
}
page_begins "$name_1" "$name_2"
prepare() {
    page_says systemctl start heartbeat
    come_home
    page_says mountpoint /replicated
    works home "the first"
}
there_and_back() {
    page_says /usr/share/heartbeat/hb_standby all
    taken_over 2
    works 2 "server1 is in standby"
    page_says /usr/share/heartbeat/hb_takeover all
    taken_over 1
    works 1 "server1 has it back"
}
