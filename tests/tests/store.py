"""Stands for systemd: starts a daemon, keeps the descriptors that it is told to keep, and starts the daemon again with them
when that is killed. Ends with the daemon's orderly end.

usage: store.py SOCKET PIDFILE PROGRAM ARGUMENT..."""
import array
import os
import select
import socket
import sys

path, pid_file, *command = sys.argv[1:]
notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notices.bind(path)
os.environ["NOTIFY_SOCKET"] = path
kept = {}


def start():
    pid = os.fork()
    if pid:
        with open(pid_file + ".new", "w") as file:
            file.write(str(pid))
        os.rename(pid_file + ".new", pid_file)
        return pid
    # Above all numbers that are wanted, then down to 3 and what follows.
    copies = [os.dup2(fd, 500 + at) for at, fd in enumerate(kept.values())]
    for at, fd in enumerate(copies):
        os.dup2(fd, 3 + at, inheritable=True)
        os.close(fd)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(kept))
    os.environ["LISTEN_FDNAMES"] = ":".join(kept)
    os.execv(command[0], command)


def take_notices():
    while select.select([notices], [], [], 0.05)[0]:
        text, extra, _, _ = notices.recvmsg(4096, socket.CMSG_SPACE(4))
        fields = dict(line.split("=", 1) for line in text.decode().split("\n"))
        if "FDSTORE" in fields:
            fds = array.array("i")
            for _, _, data in extra:
                fds.frombytes(data[:4])
            kept[fields["FDNAME"]] = fds[0]
        elif "FDSTOREREMOVE" in fields and fields["FDNAME"] in kept:
            os.close(kept.pop(fields["FDNAME"]))


daemon = start()
while True:
    take_notices()
    ended, status = os.waitpid(daemon, os.WNOHANG)
    if not ended:
        continue
    take_notices()
    if not os.WIFSIGNALED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    daemon = start()
