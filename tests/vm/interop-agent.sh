# Runs in the guest in the job's place: puts the kernel's node on the network and does what the
# host sends it over the second cable, a script a connection, ended by a line `#end`. The answer
# is the script's output and a last line with its status.
ip addr add 10.9.0.1/24 dev eth0
ip link set eth0 up
ip addr add 10.8.0.1/24 dev eth1
ip link set eth1 up
cat >/serve <<'SERVE'
#!/usr/bin/bash
script=/tmp/script.$$
while IFS= read -r line && [ "$line" != '#end' ]; do printf '%s\n' "$line"; done >$script
# The server ignores SIGCHLD and so would its children; drbdadm waits for its own.
env --default-signal=CHLD bash $script </dev/null 2>&1
printf '\n#status %d\n' $?
rm -f $script
SERVE
chmod 755 /serve
echo "guest: ready"
while :; do busybox nc -ll -p 99 -e /serve; sleep 0.1; done
