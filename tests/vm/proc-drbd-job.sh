# Runs in the guest, behind pair-lib.sh: the status file in the place of /proc/drbd, which the kernel's module drbd makes.
. /usr/local/bin/pair-lib.sh
kernels() { grep -q srcversion /proc/drbd; }
ours() { grep -q 'rdb .* in userspace' /proc/drbd; }
mounts() { grep -c ' /proc/drbd ' /proc/mounts; }
cat >$work/drbd.conf <<CONF
resource r0 {
    on alice { volume 0 { device /dev/drbd5; disk $work/disk; meta-disk internal; } address 127.0.0.1:7789; }
    on bob { volume 0 { device /dev/drbd5; disk $work/disk; meta-disk internal; } address 127.0.0.2:7789; }
}
CONF
truncate -s 64M $work/disk
printf 'compat.proc-drbd = true\n' >$work/rdbd.toml

a_daemon_shows_its_volumes_as_the_kernels_driver_does() {
    await 5 kernels
    start alice socket
    ours || fail "$(cat /proc/drbd)"
    must adm alice create-md --force r0
    must adm alice up r0
    grep -q '^ 5: cs:WFConnection ro:Secondary/Unknown' /proc/drbd || fail "$(cat /proc/drbd)"
    [ "$(mounts)" = 1 ] || fail "$(cat /proc/mounts)"
}
a_daemon_that_was_killed_leaves_a_file_that_cannot_be_read_and_the_next_replaces_it() {
    end KILL alice
    ! cat /proc/drbd || fail "an old state is shown"
    start alice socket
    ours || fail "$(cat /proc/drbd)"
    [ "$(mounts)" = 1 ] || fail "$(cat /proc/mounts)"
}
one_that_is_replaced_goes_on() {
    must adm alice up r0
    must adm alice restart
    grep -q '^ 5: cs:WFConnection' /proc/drbd || fail "$(cat /proc/drbd)"
    [ "$(mounts)" = 1 ] || fail "$(cat /proc/mounts)"
}
whoever_takes_it_away_finds_it_back() {
    must umount /proc/drbd
    await 5 ours
}
another_daemon_leaves_it_alone() {
    start bob socket
    ours && [ "$(mounts)" = 1 ] || fail "$(cat /proc/mounts)"
    grep -q 'compat.proc-drbd: .*is served by another process' $work/bob.log || fail "nothing is said"
    end TERM bob
    grep -q '^ 5: ' /proc/drbd || fail "$(cat /proc/drbd)"
}
at_its_end_the_kernels_is_there_again() {
    end TERM alice
    kernels || fail "$(cat /proc/drbd)"
    [ "$(mounts)" = 0 ] || fail "$(cat /proc/mounts)"
}
without_the_module_there_is_a_warning_until_it_is_loaded() {
    must rmmod drbd
    start alice socket
    grep -q 'compat.proc-drbd: /proc/drbd does not exist' $work/alice.log || fail "nothing is said"
    must modprobe drbd
    await 5 ours
    end TERM alice
    kernels
}
# As on a Debian with rdb-drbd-compat: programs are in /bin and /sbin, and those of drbd-utils' names are ours.
as_installed() {
    local file name
    for file in /usr/local/bin/* /usr/bin/*; do
        [ -e "/bin/${file##*/}" ] || ln -s "$file" /bin/
    done
    [ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
    for name in drbdadm drbdsetup drbdmeta; do ln -sf /usr/local/bin/rdbadm /sbin/$name; done
    for name in modprobe rmmod; do [ -e /sbin/$name ] || ln -s /usr/bin/kmod /sbin/$name; done
}
# script VERB: drbd-utils' start script on alice; what it says is in $work/said
script() { RDB_NODE=alice RDB_RUN_DIR=$work/run-alice RDB_CONF=$work/drbd.conf timeout 240 /lib/drbd/scripts/drbd "$1" </dev/null >$work/said 2>&1; }
scripted() { script "$1" || fail "$1: status $?: $(cat $work/said)"; }
up_as_primary() { [ "$(adm alice role r0)" = Primary/Unknown ]; }
in_its_table() { script status && grep -qE "^5:r0 +WFConnection +Primary/Unknown +UpToDate/DUnknown +C" $work/said; }
drbd_utils_start_script_runs_through() {
    as_installed
    sed -i "s|^resource r0 {|& startup { wfc-timeout 2; degr-wfc-timeout 2; outdated-wfc-timeout 2; become-primary-on alice; }|" $work/drbd.conf
    printf 'compat.proc-drbd = true\ndevice-links = true\n' >$work/rdbd.toml
    modprobe ublk_drv
    start alice ublk
    await 5 ours
    for step in up "primary --force" secondary down; do must adm alice $step r0; done
    scripted start
    up_as_primary || fail "start: $(adm alice role r0) $(cat $work/said)"
    in_its_table || fail "status: $(cat $work/said)"
    must mkfs.ext4 -q -F /dev/drbd5
    must mount /dev/drbd5 $work/mnt
    # The link's device is what is mounted, so the table has no mount.
    in_its_table && ! grep -q ext4 $work/said || fail "mounted: $(cat $work/said)"
    # A device in use is kept: the script unmounts no link, and a demotion is refused. It says so, and ends with 0 as with DRBD.
    scripted stop
    grep -q 'Device is held open by someone' $work/said || fail "stop: $(cat $work/said)"
    up_as_primary || fail "stop took a device in use: $(adm alice role r0)"
    must umount $work/mnt
    # It has unloaded the module, without whose file it does nothing.
    scripted stop
    up_as_primary || fail "stop without the module: $(adm alice role r0)"
    must modprobe drbd
    await 5 ours
    scripted stop
    [ "$(adm alice role r0)" = Unconfigured ] || fail "stop: $(adm alice role r0) $(cat $work/said)"
    ! grep -q '^drbd ' /proc/modules || fail "the module is loaded"
    local status=0
    script status || status=$?
    [ $status = 3 ] || fail "status of nothing: $status: $(cat $work/said)"
    # It loads the module, over whose file the daemon shows its own again.
    scripted start
    await 5 ours
    await 5 in_its_table
    adm alice secondary r0
    scripted reload
    [ "$(adm alice role r0)" = Secondary/Unknown ] || fail "reload: $(adm alice role r0)"
    adm alice down r0
    scripted reload
    [ "$(adm alice role r0)" = Secondary/Unknown ] || fail "reload of what is down: $(adm alice role r0)"
    for verb in restart force-reload; do
        must adm alice down r0
        scripted $verb
        up_as_primary || fail "$verb: $(adm alice role r0) $(cat $work/said)"
        must adm alice secondary r0
    done
    scripted stop
    end TERM alice
}
scenario "a daemon shows its volumes as the kernel's driver does" a_daemon_shows_its_volumes_as_the_kernels_driver_does
scenario "what a killed daemon leaves cannot be read, and the next replaces it" \
    a_daemon_that_was_killed_leaves_a_file_that_cannot_be_read_and_the_next_replaces_it
scenario "one that is replaced goes on" one_that_is_replaced_goes_on
scenario "whoever takes it away finds it back" whoever_takes_it_away_finds_it_back
scenario "another daemon leaves it alone" another_daemon_leaves_it_alone
scenario "at its end the kernel's is there again" at_its_end_the_kernels_is_there_again
scenario "without the module there is a warning, until it is loaded" without_the_module_there_is_a_warning_until_it_is_loaded
scenario "drbd-utils' start script runs through" drbd_utils_start_script_runs_through
result
