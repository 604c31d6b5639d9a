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
scenario "a daemon shows its volumes as the kernel's driver does" a_daemon_shows_its_volumes_as_the_kernels_driver_does
scenario "what a killed daemon leaves cannot be read, and the next replaces it" \
    a_daemon_that_was_killed_leaves_a_file_that_cannot_be_read_and_the_next_replaces_it
scenario "one that is replaced goes on" one_that_is_replaced_goes_on
scenario "whoever takes it away finds it back" whoever_takes_it_away_finds_it_back
scenario "another daemon leaves it alone" another_daemon_leaves_it_alone
scenario "at its end the kernel's is there again" at_its_end_the_kernels_is_there_again
scenario "without the module there is a warning, until it is loaded" without_the_module_there_is_a_warning_until_it_is_loaded
result
