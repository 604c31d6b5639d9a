//! NBD clients that others wrote, against the memory-backed example server.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Server, example, run, run_failing, tool, wait_for, write_noise};

const SIZE_MIB: usize = 64;

struct Nbd {
    dir: tempfile::TempDir,
    _server: Server,
}

impl Nbd {
    fn start(extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("socket");
        let mut command = Command::new(example("nbd_mem"));
        command.arg(&socket).arg(SIZE_MIB.to_string()).args(extra);
        let server = Server::start(&mut command);
        wait_for("the socket", || socket.exists());
        Self {
            dir,
            _server: server,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn uri(&self) -> String {
        self.uri_of("mem/0")
    }

    fn uri_of(&self, export: &str) -> String {
        format!(
            "nbd+unix:///{export}?socket={}",
            self.path("socket").display()
        )
    }
}

fn nbdinfo() -> Command {
    tool("nbdinfo", "libnbd-bin")
}

/// `nbdsh`, with the system's Python: its module is not to be found by another one that is first in `PATH`.
fn python() -> Command {
    tool("nbdsh", "python3-libnbd");
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-m", "nbd"]);
    command
}

/// Runs Python with `h` connected.
fn nbdsh(uri: &str, script: &str) -> Command {
    let mut command = python();
    let connected = format!("h.connect_uri('{uri}')\n{script}");
    // Contexts and strict mode are set before connecting.
    command.args([
        "-c",
        "h.add_meta_context('base:allocation')",
        "-c",
        &connected,
    ]);
    command
}

fn same(a: &Path, b: &[u8]) {
    let a = std::fs::read(a).expect("readable");
    assert_eq!(a.len(), b.len());
    assert!(a == b, "the contents differ");
}

#[test]
fn nbdinfo_sees_what_is_offered() {
    let nbd = Nbd::start(&[]);
    assert_eq!(
        run(nbdinfo().args(["--size", &nbd.uri()])).trim(),
        (SIZE_MIB << 20).to_string()
    );
    for can in [
        "cache",
        "df",
        "flush",
        "fua",
        "multi-conn",
        "trim",
        "zero",
        "structured-reply",
    ] {
        run(nbdinfo().args(["--can", can, &nbd.uri()]));
    }
    run_failing(nbdinfo().args(["--can", "fast-zero", &nbd.uri()]));
    run_failing(nbdinfo().args(["--is", "read-only", &nbd.uri()]));
    let all = run(nbdinfo().arg(nbd.uri()));
    for line in [
        "block_size_minimum: 512",
        "block_size_preferred: 4096",
        "block_size_maximum: 1048576",
        "base:allocation",
        "resource mem, volume 0",
    ] {
        assert!(all.contains(line), "{line} in {all}");
    }
    let list = run(nbdinfo().args(["--list", &nbd.uri_of("")]));
    assert!(list.contains("export=\"mem/0\""), "{list}");
    let map = run(nbdinfo().args(["--map", &nbd.uri()]));
    assert_eq!(
        map.split_whitespace().collect::<Vec<_>>(),
        ["0", "67108864", "0", "data"]
    );
}

#[test]
fn every_spelling_of_a_volume_works_and_no_other() {
    let nbd = Nbd::start(&[]);
    for name in ["", "0", "mem", "mem/0"] {
        run(nbdinfo().args(["--size", &nbd.uri_of(name)]));
    }
    for name in ["1", "mem/1", "other", "mem/"] {
        let text = run_failing(nbdinfo().args(["--size", &nbd.uri_of(name)]));
        assert!(text.contains("no export named"), "{name}: {text}");
    }
}

#[test]
fn nbdcopy_there_and_back() {
    let nbd = Nbd::start(&[]);
    let original = write_noise(&nbd.path("original"), SIZE_MIB << 20);
    let nbdcopy = || tool("nbdcopy", "libnbd-bin");
    let mut there = nbdcopy();
    there.args(["--connections=4", "--requests=64", "--flush"]);
    run(there.arg(nbd.path("original")).arg(nbd.uri()));
    run(nbdcopy()
        .arg("--connections=4")
        .arg(nbd.uri())
        .arg(nbd.path("copy")));
    same(&nbd.path("copy"), &original);
    run(nbdcopy()
        .args(["--synchronous", &nbd.uri()])
        .arg(nbd.path("again")));
    same(&nbd.path("again"), &original);
}

#[test]
fn nbdsh_hostile_requests_get_errors_and_do_no_harm() {
    let nbd = Nbd::start(&[]);
    let script = r#"
import errno, nbd
h.set_strict_mode(0)
size = h.get_size()
h.pwrite(b'x' * 4096, 0, nbd.CMD_FLAG_FUA)

def refused(expected, call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        assert error.errno == errno.errorcode[expected], (error.errno, expected, args)
    else:
        raise Exception('not refused: %r' % (args,))

block = b'y' * 512
refused(errno.EINVAL, h.pread, 512, size)
refused(errno.EINVAL, h.pread, 1024, size - 512)
refused(errno.EINVAL, h.pread, 512, 1)
refused(errno.EINVAL, h.pread, 0, 0)
refused(errno.EINVAL, h.pread, 2 << 20, 0)
refused(errno.EOVERFLOW, h.pread, 2 << 20, 0, nbd.CMD_FLAG_DF)
refused(errno.ENOSPC, h.pwrite, block, size)
refused(errno.ENOSPC, h.pwrite, block * 2, size - 512)
refused(errno.EINVAL, h.pwrite, b'', 0)
refused(errno.EINVAL, h.pwrite, block, 3)
refused(errno.EINVAL, h.pwrite, b'z' * 100, 0)
refused(errno.EINVAL, h.pwrite, b'z' * (2 << 20), 0)
refused(errno.EINVAL, h.pwrite, block, 0, nbd.CMD_FLAG_NO_HOLE)
refused(errno.EINVAL, h.pwrite, block, 0, nbd.CMD_FLAG_REQ_ONE)
refused(errno.ENOSPC, h.zero, 512, size)
refused(errno.EINVAL, h.zero, 512, 0, nbd.CMD_FLAG_FAST_ZERO)
refused(errno.EINVAL, h.trim, 512, size)
refused(errno.EINVAL, h.trim, 0, 0)
refused(errno.EINVAL, h.cache, 512, 1)
refused(errno.EINVAL, h.block_status, 0, 0, lambda *args: 0)
refused(errno.EINVAL, h.block_status, 512, size, lambda *args: 0)
refused(errno.EINVAL, h.flush, 1 << 10)

extents = []
h.block_status(size, 0, lambda context, offset, entries, error: extents.append((context, offset, list(entries))))
assert extents == [('base:allocation', 0, [size, 0])], extents
assert h.pread(4096, 0) == b'x' * 4096, 'nothing was changed'
h.zero(4096, 0)
assert h.pread(4096, 0) == bytes(4096)
h.zero(4096, 4096, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(4096, 8192, nbd.CMD_FLAG_FUA)
h.cache(4096, 0)
h.flush()
h.shutdown()
"#;
    run(&mut nbdsh(&nbd.uri(), script));
}

#[test]
fn nbdsh_works_without_structured_replies() {
    let nbd = Nbd::start(&[]);
    let script = format!(
        r#"
import nbd
h = nbd.NBD()
h.set_request_structured_replies(False)
h.connect_uri('{}')
assert not h.get_structured_replies_negotiated()
assert not h.can_df()
h.pwrite(b'a' * 65536, 65536)
assert h.pread(131072, 0) == bytes(65536) + b'a' * 65536
h.set_strict_mode(0)
try:
    h.pread(512, 1)
    raise Exception('not refused')
except nbd.Error as error:
    assert error.errno == 'EINVAL'
h.shutdown()
"#,
        nbd.uri()
    );
    run(python().args(["-c", &script]));
}

#[test]
fn connections_see_each_others_writes() {
    let nbd = Nbd::start(&[]);
    let script = format!(
        r#"
import nbd
others = [nbd.NBD() for _ in range(8)]
for other in others:
    other.connect_uri('{}')
for index, other in enumerate(others):
    other.pwrite(bytes([index + 1]) * 4096, index * 4096)
others[0].flush()
expected = b''.join(bytes([index + 1]) * 4096 for index in range(8))
for other in others:
    assert other.pread(8 * 4096, 0) == expected
    other.shutdown()
"#,
        nbd.uri()
    );
    run(python().args(["-c", &script]));
}

#[test]
fn read_only_exports_refuse_writes() {
    let nbd = Nbd::start(&["read-only"]);
    run(nbdinfo().args(["--is", "read-only", &nbd.uri()]));
    let script = r#"
import nbd
h.set_strict_mode(0)
for call, args in [(h.pwrite, (b'x' * 512, 0)), (h.trim, (512, 0)), (h.zero, (512, 0))]:
    try:
        call(*args)
        raise Exception('not refused')
    except nbd.Error as error:
        assert error.errno == 'EPERM', error.errno
assert h.pread(512, 0) == bytes(512)
h.flush()
"#;
    run(&mut nbdsh(&nbd.uri(), script));
}

#[test]
fn qemu_img_converts_and_compares() {
    let nbd = Nbd::start(&[]);
    let qemu_img = || tool("qemu-img", "qemu-utils");
    let raw = nbd.path("raw");
    // Data, and a hole behind it.
    write_noise(&raw, 20 << 20);
    std::fs::File::options()
        .write(true)
        .open(&raw)
        .and_then(|file| file.set_len((SIZE_MIB as u64) << 20))
        .expect("extended");
    let (raw, uri) = (raw.to_str().expect("text").to_owned(), nbd.uri());
    run(qemu_img().args([
        "convert", "-n", "-f", "raw", "-O", "raw", "-W", "-m", "8", &raw, &uri,
    ]));
    let same = run(qemu_img().args(["compare", "-f", "raw", "-F", "raw", &raw, &uri]));
    assert!(same.contains("Images are identical"), "{same}");
    let information = run(qemu_img().args(["info", &uri]));
    assert!(information.contains("64 MiB"), "{information}");
    let back = nbd.path("back.qcow2");
    run(qemu_img()
        .args(["convert", "-f", "raw", "-O", "qcow2", &uri])
        .arg(&back));
    let same = run(qemu_img()
        .args(["compare", "-f", "raw", "-F", "qcow2", &raw])
        .arg(&back));
    assert!(same.contains("Images are identical"), "{same}");
    run(qemu_img().args([
        "bench", "-f", "raw", "-w", "-c", "2000", "-d", "32", "-s", "4096", &uri,
    ]));
}

#[test]
fn qemu_io_patterns_fua_discard_and_zeroes() {
    let nbd = Nbd::start(&[]);
    let mut command = tool("qemu-io", "qemu-utils");
    command.args(["-f", "raw", "-d", "unmap"]);
    for step in [
        "write -P 0xaa 0 1M",
        "write -f -P 0xbb 1M 64k",
        "aio_write -P 0xcc 2M 4M",
        "aio_flush",
        "write -P 0xdd 513 1000",
        "flush",
        "discard 8M 1M",
        "write -z 64k 64k",
        "write -z -u 128k 64k",
        "read -P 0xaa 4k 60k",
        "read -P 0xdd 513 1000",
        "read -P 0xaa 0 513",
        "read -P 0 64k 128k",
        "read -P 0xaa 192k 832k",
        "read -P 0xbb 1M 64k",
        "read -P 0xcc 2M 4M",
    ] {
        command.args(["-c", step]);
    }
    let text = run(command.arg(nbd.uri()));
    assert!(!text.contains("Pattern verification failed"), "{text}");
}

#[test]
fn fio_verifies() {
    let nbd = Nbd::start(&[]);
    for (name, extra) in [
        ("random", &["--rw=randwrite", "--bs=4k", "--iodepth=32"][..]),
        (
            "mixed",
            &[
                "--rw=randrw",
                "--bsrange=512-64k",
                "--iodepth=16",
                "--fsync=16",
            ],
        ),
        ("large", &["--rw=write", "--bs=1M", "--iodepth=4"]),
        ("trim", &["--rw=randtrimwrite", "--bs=4k", "--iodepth=8"]),
    ] {
        let mut fio = tool("fio", "fio");
        fio.current_dir(nbd.dir.path()).args(extra);
        fio.args([
            "--ioengine=nbd",
            "--size=32M",
            "--verify=crc32c",
            "--verify_fatal=1",
        ]);
        fio.arg(format!("--name={name}"))
            .arg(format!("--uri={}", nbd.uri()));
        if name == "trim" {
            // The example fills trimmed blocks with a pattern; what was written after it is verified by
            // the other jobs.
            fio.arg("--do_verify=0");
        }
        run(&mut fio);
    }
}
