#!/usr/bin/python3
"""Measures what a dead peer, or a disk that hangs, costs a writer, beside what the settings say.

Two nodes in network namespaces, protocol C; the Primary's user writes 4 KiB after 4 KiB by the NBD socket. Then something fails
without a word, and the longest write is what it has cost. A disk that hangs is the device of a third daemon that is stopped.

  link      packets are dropped on the way to both
  process   the peer's daemon is stopped (SIGSTOP)
  power     the peer's link goes, and its daemon is killed
  peerdisk  the peer's disk hangs
  owndisk   the Primary's own disk hangs
"""
import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import nbd

FAILURES = ("link", "process", "power", "peerdisk", "owndisk")
# In the units of drbd.conf: seconds, tenths of a second.
SETTINGS = {
    "default": dict(ping_int=10, ping_timeout=5, timeout=60, ko_count=7, disk_timeout=0),
    "short": dict(ping_int=3, ping_timeout=5, timeout=20, ko_count=3, disk_timeout=50),
}


class Failure(Exception):
    pass


def promise(failure, s):
    """Seconds that a write may take at most, or None for ever."""
    if failure == "owndisk":
        return s["disk_timeout"] / 10 or None
    if failure == "peerdisk":
        return min(s["ko_count"] * s["timeout"], s["disk_timeout"] or 1 << 31) / 10
    return s["ping_int"] + s["ping_timeout"] / 10


def formula(failure):
    if failure == "owndisk":
        return "disk-timeout"
    if failure == "peerdisk":
        return "ko-count * timeout; or the peer's disk-timeout"
    return "ping-int + ping-timeout"


def run(words, **more):
    done = subprocess.run(words, capture_output=True, text=True, **more)
    if done.returncode:
        raise Failure(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait(what, seconds, condition, tell=str):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"waited {seconds} s for {what} {tell()}")
        time.sleep(0.05)


class Node:
    def __init__(self, scene, name, namespace, frontend, conf):
        self.scene, self.name, self.conf, self.namespace = scene, name, conf, namespace
        self.run_dir = scene.work / name
        self.run_dir.mkdir()
        words = [scene.binaries / "rdbd", "--frontend", frontend, "--node", name, "--run-dir", self.run_dir]
        if namespace:
            words = ["nsenter", f"--net=/run/netns/{namespace}", "--"] + words
        self.daemon = subprocess.Popen(words, stderr=open(scene.work / f"{name}.log", "w"))
        scene.nodes.append(self)
        wait(f"{name}'s daemon", 20, (self.run_dir / "control.sock").exists)

    def adm(self, *words):
        program = [self.scene.binaries / "rdbadm", "-c", self.conf]
        environment = dict(os.environ, RDB_NODE=self.name, RDB_RUN_DIR=str(self.run_dir))
        prefix = ["nsenter", f"--net=/run/netns/{self.namespace}", "--"] if self.namespace else []
        return run(prefix + program + list(words), env=environment, timeout=120)

    def is_synced(self):
        return "ds:UpToDate/UpToDate" in self.adm("proc") and "cs:Connected" in self.adm("proc")

    def kill(self, which=signal.SIGKILL):
        self.daemon.send_signal(which)


class Scene:
    """Two nodes, and a third daemon below one of them if a disk is to hang."""

    def __init__(self, binaries, failure, settings):
        self.binaries, self.failure, self.settings = binaries, failure, settings
        self.nodes, self.namespaces = [], []
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="rdb-patience.", dir="/var/tmp"))

    def __enter__(self):
        try:
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            for which in (signal.SIGCONT, signal.SIGKILL):
                if node.daemon.poll() is None:
                    node.kill(which)
            node.daemon.wait()
        for namespace in self.namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        for place in self.work.glob("*/fuse/*"):
            subprocess.run(["umount", "-l", place], capture_output=True, check=False)
        shutil.rmtree(self.work, ignore_errors=True)

    def begin(self):
        for index in "ab":
            namespace = f"rdb-patience-{index}-{os.getpid()}"
            run(["ip", "netns", "add", namespace])
            self.namespaces.append(namespace)
            run(["ip", "-n", namespace, "link", "set", "lo", "up"])
        a, b = self.namespaces
        run(["ip", "-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b])
        for number, namespace in enumerate(self.namespaces, 1):
            run(["ip", "-n", namespace, "addr", "add", f"10.77.1.{number}/24", "dev", "eth0"])
            run(["ip", "-n", namespace, "link", "set", "eth0", "up"])
        disks = {}
        for name in ("alice", "bob", "below"):
            disks[name] = self.work / f"{name}.img"
            with open(disks[name], "wb") as file:
                file.truncate(24 << 20)
        hangs = {"owndisk": "alice", "peerdisk": "bob"}.get(self.failure)
        if hangs:
            disks[hangs] = self.third(disks["below"])
        s = self.settings
        conf = self.work / "drbd.conf"
        conf.write_text(f"""global {{ usage-count no; disable-ip-verification; }}
resource r0 {{
    device minor 0; meta-disk internal;
    net {{ protocol C; connect-int 1; ping-int {s['ping_int']}; ping-timeout {s['ping_timeout']}; timeout {s['timeout']};
        ko-count {s['ko_count']}; }}
    disk {{ size 16M; disk-timeout {s['disk_timeout']}; }}
    on alice {{ address 10.77.1.1:7789; disk {disks['alice']}; }}
    on bob {{ address 10.77.1.2:7789; disk {disks['bob']}; }}
}}
""")
        self.alice, self.bob = (
            Node(self, name, namespace, "socket", conf) for name, namespace in (("alice", a), ("bob", b))
        )
        for node in (self.alice, self.bob):
            node.adm("create-md", "--force", "r0")
            node.adm("up", "r0")
        self.alice.adm("primary", "--force", "r0")
        wait("the first sync", 60, self.alice.is_synced, lambda: self.alice.adm("proc"))

    def third(self, image):
        conf = self.work / "below.conf"
        conf.write_text(f"""global {{ usage-count no; disable-ip-verification; }}
resource low {{
    device minor 9; meta-disk internal;
    on below {{ address 127.0.0.1:7799; disk {image}; }}
    on nobody {{ address 127.0.0.1:7800; disk /nowhere; }}
}}
""")
        self.below = Node(self, "below", None, "fuse", conf)
        self.below.adm("create-md", "--force", "low")
        self.below.adm("up", "low")
        self.below.adm("primary", "--force", "low")
        for line in run(["losetup", "-l", "-n", "-O", "NAME,BACK-FILE"]).splitlines():
            name, back = line.split(None, 1)
            if str(self.work) in back:
                return name
        raise Failure("the third daemon has no device")

    def fail(self):
        if self.failure in ("peerdisk", "owndisk"):
            self.below.kill(signal.SIGSTOP)
        elif self.failure == "process":
            self.bob.kill(signal.SIGSTOP)
        elif self.failure == "link":
            rules = "add table inet cut; add chain inet cut c { type filter hook input priority 0; }; add rule inet cut c iifname eth0 drop"
            for namespace in self.namespaces:
                run(["ip", "netns", "exec", namespace, "nft", rules])
        else:
            run(["ip", "-n", self.namespaces[1], "link", "set", "eth0", "down"])
            self.bob.kill()

    def longest_write(self, patience):
        """The longest write from before the failure until writes are quick again."""
        client = nbd.NBD()
        client.set_export_name("r0/0")
        client.connect_unix(str(self.alice.run_dir / "nbd" / "r0.sock"))
        longest, number, failed_at = 0.0, 0, None
        began = time.monotonic()
        while True:
            number += 1
            at = time.monotonic()
            client.pwrite(number.to_bytes(8, "little") * 512, number % 256 * 4096)
            now = time.monotonic()
            longest = max(longest, now - at)
            if failed_at is None and now - began > 1:
                self.fail()
                failed_at, longest = time.monotonic(), 0.0
            # (What is noticed in the background only is noticed by then.)
            if failed_at and now - failed_at > patience + 3:
                return longest
            time.sleep(0.01)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAILURES, action="append", help="this failure; may be given again")
    parser.add_argument("--settings", choices=SETTINGS, action="append", help="these settings; may be given again")
    words = parser.parse_args()
    binaries = pathlib.Path(os.environ["RDB_BIN_DIR"]).resolve()
    late = 0
    print("| failure | settings | configured | says | seen |\n| --- | --- | --- | --- | --- |")
    for name in words.settings or SETTINGS:
        settings = SETTINGS[name]
        for failure in words.only or FAILURES:
            limit = promise(failure, settings)
            if limit is None:
                print(f"| {failure} | {name} | {formula(failure)} | for ever | |", flush=True)
                continue
            with Scene(binaries, failure, settings) as scene:
                seen = scene.longest_write(limit)
            # A second for a timer's grain, and for a machine that does other things.
            late += seen > limit + 1
            print(f"| {failure} | {name} | {formula(failure)} | {limit:.1f} s | {seen:.1f} s |", flush=True)
    return bool(late)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(str(failure))
