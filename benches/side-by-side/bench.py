#!/usr/bin/env python3
"""Measures rdb beside a synchronous mirror made of QEMU's parts and beside one unreplicated copy.

Contestants, all with an NBD front end on a unix socket, all over preallocated files opened with
direct I/O, the two-copy ones replicating over TCP on loopback:

  single   qemu-nbd over one file (no replication: what a copy less costs)
  quorum   qemu-storage-daemon: quorum over a local file and an NBD client to a second qemu-nbd,
           both votes wanted, reads local (the mirror a user could have without rdb)
  rdb-A, rdb-B, rdb-C   a pair of rdbd, protocol A, B, C
  other-A, other-B, other-C   the same of another build, whose programs are in --other: what a change costs

Workloads (fio, ioengine=nbd): w1, w32 4k random writes at depth 1 and 32; w8 at depth 8 (its p99
shows a Nagle stall); rw32 4k random, 70 % reads, depth 32; s1m sequential 1 MiB writes, depth 8;
sync 4k random writes with a flush after each, depth 1.

Within a round all contestants run one after another on the same workload and the order rotates,
so that a slow minute of the machine meets all. Ratios are medians of the rounds' own ratios.
CPU is user and system time of the contestant's processes, both nodes, for one request.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

WORKLOADS = {
    "w1": dict(rw="randwrite", bs="4k", iodepth=1),
    "w8": dict(rw="randwrite", bs="4k", iodepth=8),
    "w32": dict(rw="randwrite", bs="4k", iodepth=32),
    "rw32": dict(rw="randrw", rwmixread=70, bs="4k", iodepth=32),
    "s1m": dict(rw="write", bs="1M", iodepth=8),
    "sync": dict(rw="randwrite", bs="4k", iodepth=1, fsync=1),
}
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Failure(Exception):
    pass


def size_of(text):
    match = re.fullmatch(r"(\d+)([KMGT]?)", text.upper())
    if not match:
        raise argparse.ArgumentTypeError(f"no size: {text}")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2]]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * PAGE


def run(words, **more):
    done = subprocess.run(words, capture_output=True, text=True, **more)
    if done.returncode:
        raise Failure(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def preallocated(path, size):
    """A file whose blocks are written, so that no file system has extents to convert later."""
    zeroes = bytes(1 << 20)
    with open(path, "wb") as file:
        for _ in range(0, size, len(zeroes)):
            file.write(zeroes)
        file.flush()
        os.fsync(file.fileno())


def until(what, seconds, ask):
    end = time.monotonic() + seconds
    while True:
        try:
            if ask():
                return
        except (OSError, Failure):
            pass
        if time.monotonic() > end:
            raise Failure(f"waited {seconds} s for {what}")
        time.sleep(0.05)


class Contestant:
    def __init__(self, name, place, size, qemu):
        self.name, self.size, self.qemu = name, size, qemu
        self.place = os.path.join(place, name)
        os.makedirs(self.place)
        self.processes = []

    def path(self, name):
        return os.path.join(self.place, name)

    def spawn(self, words, environment=None):
        log = open(self.path(f"log-{len(self.processes)}"), "wb")
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, **(environment or {})})
        self.processes.append(process)
        return process

    def pids(self):
        return [process.pid for process in self.processes]

    def check_alive(self):
        for process in self.processes:
            if process.poll() is not None:
                raise Failure(f"{self.name}: a server ended with {process.returncode}; see {self.place}")

    def serves(self, uri):
        self.check_alive()
        return subprocess.run(["nbdinfo", "--size", uri], capture_output=True).returncode == 0

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []

    def equal(self):
        return None


class Single(Contestant):
    def start(self):
        preallocated(self.path("disk"), self.size)
        self.uri = f"nbd+unix:///e?socket={self.path('s')}"
        self.spawn([self.qemu + "qemu-nbd", "-t", "-f", "raw", "--cache=none", "--aio=io_uring",
                    "-x", "e", "-e", "8", "-k", self.path("s"), self.path("disk")])
        until("qemu-nbd", 20, lambda: self.serves(self.uri))


class Quorum(Contestant):
    def start(self):
        for name in ("local", "remote"):
            preallocated(self.path(name), self.size)
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        self.spawn([self.qemu + "qemu-nbd", "-t", "-f", "raw", "--cache=none", "--aio=io_uring",
                    "-x", "e", "-e", "8", "-b", "127.0.0.1", "-p", str(port), self.path("remote")])
        until("the remote qemu-nbd", 20, lambda: self.serves(f"nbd://127.0.0.1:{port}/e"))
        self.spawn([
            self.qemu + "qemu-storage-daemon",
            "--blockdev", f"driver=file,node-name=l,filename={self.path('local')},cache.direct=on,aio=io_uring",
            "--blockdev", f"driver=nbd,node-name=r,server.type=inet,server.host=127.0.0.1,server.port={port},export=e",
            "--blockdev", "driver=quorum,node-name=q,children.0=l,children.1=r,vote-threshold=2,read-pattern=fifo",
            "--nbd-server", f"addr.type=unix,addr.path={self.path('s')},max-connections=8",
            "--export", "type=nbd,id=x,node-name=q,name=e,writable=on"])
        self.uri = f"nbd+unix:///e?socket={self.path('s')}"
        until("qemu-storage-daemon", 20, lambda: self.serves(self.uri))

    def equal(self):
        return ["cmp", self.path("local"), self.path("remote")]


class Rdb(Contestant):
    """Two rdbd with file-backed disks; the NBD socket of the primary is measured."""

    addresses = 0

    binaries = os.environ.get("RDB_BIN_DIR")

    def __init__(self, name, place, size, qemu, sparse=False):
        super().__init__(name, place, size, qemu)
        self.protocol = name[-1] if name[-1] in "ABC" else "C"
        self.sparse = sparse
        if not self.binaries:
            raise Failure("RDB_BIN_DIR is not set: run `cargo xtask bench`")

    def environment(self, node):
        return dict(RDB_NODE=node, RDB_RUN_DIR=self.path(node), RDB_CONF=self.path("drbd.conf"),
                    PATH=self.binaries + ":" + os.environ["PATH"])

    def adm(self, node, *words):
        return run([os.path.join(self.binaries, "rdbadm"), *words],
                   env={**os.environ, **self.environment(node)}, timeout=600)

    def line(self, node):
        with open(os.path.join(self.path(node), "status")) as file:
            text = file.read()
        match = re.search(r"^ *0: (.*)\n +(ns:.*)$", text, re.M)
        if not match:
            raise Failure(f"{node}: no device in {text!r}")
        return match[1], dict(word.split(":") for word in match[2].split())

    def settled(self):
        return all("cs:Connected" in self.line(node)[0] and "ds:UpToDate/UpToDate" in self.line(node)[0]
                   for node in ("alice", "bob"))

    def prepare(self):
        Rdb.addresses += 1
        host = f"127.{100 + os.getpid() % 100}.{Rdb.addresses}"
        with open(self.path("drbd.conf"), "w") as file:
            file.write(f"""global {{ usage-count no; disable-ip-verification; }}
resource r0 {{
    net {{ protocol {self.protocol}; max-buffers 8192; max-epoch-size 8192; }}
    disk {{ resync-rate 4G; c-plan-ahead 0; al-extents 6007; }}
    device /dev/drbd0; meta-disk internal;
    on alice {{ disk {self.path('alice.disk')}; address {host}.1:7789; }}
    on bob {{ disk {self.path('bob.disk')}; address {host}.2:7789; }}
}}
""")
        # Internal metadata comes on top of what is measured.
        whole = self.size + (self.size >> 13) + (4 << 20)
        for node in ("alice", "bob"):
            os.makedirs(self.path(node))
            if self.sparse:
                with open(self.path(node + ".disk"), "wb") as file:
                    file.truncate(whole)
            else:
                preallocated(self.path(node + ".disk"), -(-whole >> 20) << 20)
            self.adm(node, "create-md", "--force", "r0")
            self.spawn([os.path.join(self.binaries, "rdbd"), "--frontend", "socket"], self.environment(node))
            until("rdbd", 20, lambda: os.path.exists(os.path.join(self.path(node), "control.sock")))
            self.adm(node, "up", "r0")
        until("the connection", 30, lambda: "cs:Connected" in self.line("alice")[0])
        self.uri = f"nbd+unix:///r0/0?socket={self.path('alice')}/nbd/r0.sock"

    def start(self):
        self.prepare()
        self.adm("alice", "primary", "--force", "r0")
        until("the first sync", 600, self.settled)
        until("the NBD socket", 20, lambda: self.serves(self.uri))

    def stop(self):
        if self.processes and self.processes[0].poll() is None:
            for node in ("alice", "bob"):
                try:
                    self.adm(node, "down", "r0")
                except (Failure, subprocess.TimeoutExpired) as error:
                    print(f"{self.name}: {error}", file=sys.stderr)
        super().stop()

    def equal(self):
        return ["cmp", "-n", str(self.size), self.path("alice.disk"), self.path("bob.disk")]


class Other(Rdb):
    """The same of another build."""

    binaries = None


def measure(contestant, workload, seconds, size):
    out = contestant.path("fio.json")
    words = ["fio", "--name=x", "--ioengine=nbd", "--uri=" + contestant.uri, f"--size={size}",
             "--time_based", f"--runtime={seconds}", "--randrepeat=0", "--norandommap",
             "--output-format=json", "--output=" + out]
    words += [f"--{key}={value}" for key, value in WORKLOADS[workload].items()]
    contestant.check_alive()
    before = sum(map(cpu_seconds, contestant.pids()))
    run(words, timeout=seconds + 120)
    contestant.check_alive()
    spent = sum(map(cpu_seconds, contestant.pids())) - before
    with open(out) as file:
        text = file.read()
    job = json.loads(text[text.index("{"):])["jobs"][0]
    count = job["read"]["total_ios"] + job["write"]["total_ios"]
    if job.get("error") or not count:
        raise Failure(f"{contestant.name}/{workload}: fio error {job.get('error')}, {count} requests")
    took = job["job_runtime"] / 1000
    percentiles = job["write"]["clat_ns"]["percentile"]
    key = "sync" if workload == "sync" and job.get("sync", {}).get("lat_ns", {}).get("percentile") else None
    if key:
        percentiles = job["sync"]["lat_ns"]["percentile"]
    return dict(iops=count / took,
                mbs=(job["read"]["io_bytes"] + job["write"]["io_bytes"]) / took / 1e6,
                p50=percentiles["50.000000"] / 1e3, p99=percentiles["99.000000"] / 1e3,
                cpu=spent / count * 1e6)


def table(head, rows):
    widths = [max(len(str(row[column])) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(width) if column < 2 else str(cell).rjust(width)
                                for column, (cell, width) in enumerate(zip(row, widths))) + " |")


def median(values):
    return statistics.median(values)


def speed(options, place, qemu):
    kinds = {"single": Single, "quorum": Quorum, "rdb-A": Rdb, "rdb-B": Rdb, "rdb-C": Rdb,
             "other-A": Other, "other-B": Other, "other-C": Other}
    Other.binaries = options.other
    contestants, results = [], {}
    try:
        for name in options.contestants.split(","):
            if name not in kinds:
                raise Failure(f"no contestant {name}; there are {', '.join(kinds)}")
            if kinds[name] is Other and not options.other:
                raise Failure(f"{name}: --other does not say where its programs are")
            print(f"starting {name}", file=sys.stderr)
            contestant = kinds[name](name, place, options.size, qemu)
            contestants.append(contestant)
            contestant.start()
        for workload in options.workloads.split(","):
            for contestant in contestants:
                measure(contestant, workload, options.warmup, options.size)
            for turn in range(options.rounds):
                order = contestants[turn % len(contestants):] + contestants[:turn % len(contestants)]
                for contestant in order:
                    result = measure(contestant, workload, options.seconds, options.size)
                    results.setdefault((workload, contestant.name), []).append(result)
                    print(f"{workload:5} round {turn + 1} {contestant.name:7} {result['iops']:8.0f} IOPS "
                          f"p99 {result['p99']:7.0f} us {result['cpu']:6.1f} us CPU", file=sys.stderr)
        rows = []
        for workload in options.workloads.split(","):
            for contestant in contestants:
                runs = results[workload, contestant.name]
                row = [workload, contestant.name, f"{median([r['iops'] for r in runs]):.0f}",
                       f"{median([r['mbs'] for r in runs]):.0f}", f"{median([r['p50'] for r in runs]):.0f}",
                       f"{median([r['p99'] for r in runs]):.0f}", f"{median([r['cpu'] for r in runs]):.1f}"]
                base = results.get((workload, "quorum"))
                if base and contestant.name != "quorum":
                    row += [f"{median([r['iops'] / b['iops'] for r, b in zip(runs, base)]):.2f}",
                            f"{median([r['cpu'] / b['cpu'] for r, b in zip(runs, base) if b['cpu']] or [0]):.2f}"]
                else:
                    row += ["", ""]
                rows.append(row)
        table(["job", "who", "IOPS", "MB/s", "p50 us", "p99 us", "CPU us/op", "IOPS/quorum", "CPU/quorum"], rows)
        for contestant in contestants:
            compare = contestant.equal()
            contestant.stop()
            if compare:
                same = subprocess.run(compare, capture_output=True, text=True)
                print(f"{contestant.name}: copies " + ("are equal" if same.returncode == 0 else
                                                       "DIFFER: " + same.stdout + same.stderr))
                if same.returncode:
                    raise Failure(f"{contestant.name}: the copies differ")
    finally:
        for contestant in contestants:
            contestant.stop()
    return {f"{workload}/{name}": runs for (workload, name), runs in results.items()}


def resync(options, place):
    """First sync of a pair of written files beside dd of one of them, through TCP on loopback."""
    pair = Rdb("sync-C", place, options.size, "")
    try:
        pair.prepare()
        rates = {}
        begun = time.monotonic()
        pair.adm("alice", "primary", "--force", "r0")
        until("the first sync", 900, pair.settled)
        rates["rdb"] = options.size / (time.monotonic() - begun) / 1e6
    finally:
        pair.stop()
    receive = ("import os,socket,sys,mmap\n"
               "s=socket.socket();s.bind(('127.0.0.1',0));s.listen(1)\n"
               "print(s.getsockname()[1],flush=True)\nc,_=s.accept()\n"
               "d=subprocess.Popen(['dd','of='+sys.argv[1],'bs=1M','iflag=fullblock','oflag=direct',"
               "'conv=notrunc,fsync','status=none'],stdin=c)\nsys.exit(d.wait())\n")
    receiver = subprocess.Popen([sys.executable, "-c", "import subprocess\n" + receive, pair.path("bob.disk")],
                                stdout=subprocess.PIPE, text=True)
    port = int(receiver.stdout.readline())
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        sender = subprocess.Popen(["dd", "if=" + pair.path("alice.disk"), "bs=1M", "iflag=direct",
                                   f"count={options.size >> 20}", "status=none"], stdout=connection)
        sender.wait()
    receiver.wait()
    rates["dd"] = options.size / (time.monotonic() - begun) / 1e6
    print(f"first sync: rdb {rates['rdb']:.0f} MB/s, dd over loopback {rates['dd']:.0f} MB/s, "
          f"ratio {rates['rdb'] / rates['dd']:.2f}")
    return rates


def footprint(place):
    """Resident memory with a device of 1 TiB, and the CPU time of an idle pair."""
    pair = Rdb("tera-C", place, 1 << 40, "", sparse=True)
    try:
        pair.prepare()
        pair.adm("alice", "new-current-uuid", "--clear-bitmap", "r0/0")
        until("both UpToDate", 60, pair.settled)
        pair.adm("alice", "primary", "r0")
        until("the NBD socket", 20, lambda: pair.serves(pair.uri))
        measure(pair, "w32", 5, 1 << 40)
        memory = [resident(pid) / (1 << 20) for pid in pair.pids()]
        before = [cpu_seconds(pid) for pid in pair.pids()]
        time.sleep(20)
        idle = [(cpu_seconds(pid) - past) / 20 * 100 for pid, past in zip(pair.pids(), before)]
        print(f"1 TiB: resident {memory[0]:.0f} MiB primary, {memory[1]:.0f} MiB secondary (bitmap: 32 MiB); "
              f"idle {idle[0]:.2f} % and {idle[1]:.2f} % of a core")
        return dict(memory_mib=memory, idle_percent=idle)
    finally:
        pair.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contestants", default="single,quorum,rdb-A,rdb-B,rdb-C")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--warmup", type=int, default=2, help="seconds before the first round (default %(default)s)")
    parser.add_argument("--size", type=size_of, default=size_of("1G"), help="of each copy (default 1G)")
    parser.add_argument("--dir", default="/var/tmp", help="where the disks lie (default %(default)s)")
    parser.add_argument("--parts", default="speed,resync,footprint", help="default %(default)s")
    parser.add_argument("--other", metavar="DIR", help="programs of another build, for other-A, other-B, other-C")
    parser.add_argument("--json", help="write all numbers there")
    options = parser.parse_args()
    qemu = os.environ.get("QEMU_DIR", "")
    qemu = qemu + "/" if qemu else ""
    for program in ("fio", "nbdinfo"):
        if not shutil.which(program):
            raise SystemExit(f"bench: {program} is missing; run cargo xtask setup")
    place = tempfile.mkdtemp(prefix="rdb-bench.", dir=options.dir)

    def interrupted(number, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    everything = {}
    try:
        version = run([qemu + "qemu-nbd", "--version"]).split("\n")[0]
        fio = run(["fio", "--version"]).strip()
        print(f"{os.cpu_count()} CPUs, Linux {os.uname().release}, {version}, {fio}; {options.size >> 20} MiB, "
              f"{options.rounds} rounds of {options.seconds} s")
        parts = options.parts.split(",")
        if "speed" in parts:
            everything["speed"] = speed(options, place, qemu)
        if "resync" in parts:
            everything["resync"] = resync(options, place)
        if "footprint" in parts:
            everything["footprint"] = footprint(place)
        if options.json:
            with open(options.json, "w") as file:
                json.dump(everything, file, indent=1)
    except Failure as error:
        raise SystemExit(f"bench: {error}")
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
