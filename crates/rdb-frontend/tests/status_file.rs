//! The status file, as monitors read it. Needs root.

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use common::{Server, example, run, run_failing, tool, wait_for};
use rdb_frontend::fuse::mount::MountError;
use rdb_frontend::status_file::{Method, Over, OverError, StatusFileError, serve, serve_by};

const METHODS: [Method; 2] = [Method::Fuse, Method::Memfd];

fn command(method: Method, path: &Path) -> Command {
    let word = match method {
        Method::Fuse => "fuse",
        Method::Memfd => "memfd",
    };
    let mut command = Command::new(example("status_file"));
    command.arg(path).arg(word);
    command
}

fn start(method: Method, path: &Path) -> Server {
    let mut server = Server::start(&mut command(method, path));
    server.line();
    server
}

/// The number that all lines must share.
fn number(content: &str) -> u64 {
    let lines: BTreeSet<_> = content.lines().collect();
    assert_eq!(lines.len(), 1, "one snapshot: {lines:?}");
    lines.first().expect("a line").parse().expect("a number")
}

fn read(path: &Path) -> u64 {
    number(&std::fs::read_to_string(path).expect("readable"))
}

#[test]
fn content_is_fresh_and_each_reading_is_one_snapshot() {
    for method in METHODS {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("status");
        let server = start(method, &path);
        let first = read(&path);
        let mut open = File::open(&path).expect("opens");
        let mut half = vec![0; 4096];
        open.read_exact(&mut half).expect("read");
        wait_for("news", || read(&path) > first);
        let mut whole = String::from_utf8(half).expect("text");
        open.read_to_string(&mut whole).expect("read");
        let seen = number(&whole);
        assert!(seen >= first && read(&path) > seen, "{method:?}");
        let text = run(tool("cat", "coreutils").arg(&path));
        assert!(number(&text) > seen);
        drop(open);
        server.finish();
        assert!(
            path.symlink_metadata().is_err(),
            "{method:?}: the file is gone"
        );
    }
}

#[test]
fn over_fuse_every_reading_from_the_start_is_news() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("status");
    let server = start(Method::Fuse, &path);
    let mut open = File::open(&path).expect("opens");
    let mut seen = 0;
    for _ in 0..3 {
        let mut text = String::new();
        open.rewind().expect("rewinds");
        open.read_to_string(&mut text).expect("read");
        assert!(number(&text) > seen, "{} after {seen}", number(&text));
        seen = number(&text);
    }
    assert!(read(&path) > seen);
    let denied = File::options()
        .write(true)
        .open(&path)
        .expect_err("not writable");
    assert_eq!(denied.raw_os_error(), Some(libc::EACCES));
    drop(open);
    server.finish();
}

/// Copies a file without reading it, as `cp`, web servers and busybox's `cat` do.
fn copied(path: &Path, copy: impl Fn(libc::c_int, libc::c_int) -> isize) -> String {
    let from = File::open(path).expect("opens");
    let (mut out, into) = std::io::pipe().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).expect("read");
        text
    });
    loop {
        match copy(from.as_raw_fd(), into.as_raw_fd()) {
            0 => break,
            moved => assert!(moved > 0, "{}", std::io::Error::last_os_error()),
        }
    }
    drop(into);
    reader.join().expect("the reader lives")
}

#[test]
fn it_reads_by_sendfile_and_splice_as_any_file() {
    for method in METHODS {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("status");
        let server = start(method, &path);
        let mut seen = read(&path);
        for _ in 0..3 {
            // SAFETY: both descriptors are open; a null offset means the file's own.
            let sent = copied(&path, |from, into| unsafe {
                libc::sendfile(into, from, std::ptr::null_mut(), 1 << 20)
            });
            let null = std::ptr::null_mut;
            // SAFETY: both descriptors are open; null offsets mean the files' own.
            let spliced = copied(&path, |from, into| unsafe {
                libc::splice(from, null(), into, null(), 1 << 20, 0)
            });
            for text in [sent, spliced] {
                let is_news = match method {
                    Method::Fuse => number(&text) > seen,
                    Method::Memfd => number(&text) >= seen,
                };
                assert!(is_news, "{method:?}: {} after {seen}", number(&text));
                seen = number(&text);
            }
        }
        let text = run(tool("cat", "coreutils").arg(&path));
        assert_eq!(text.lines().count(), 20_000);
        server.finish();
    }
}

#[test]
fn a_reader_that_stays_does_not_keep_the_service() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("status");
    let served = serve(&path, || "alive\n".to_owned()).expect("served");
    assert_eq!(
        served.method(),
        Method::Fuse,
        "FUSE is there, so it is used"
    );
    let mut open = File::open(&path).expect("opens");
    drop(served);
    let error = open.read(&mut [0; 16]).expect_err("the service ended");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    assert!(path.symlink_metadata().is_err());
}

#[test]
fn nobody_reads_the_state_of_a_dead_daemon() {
    for method in METHODS {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("status");
        let mut server = start(method, &path);
        read(&path);
        server.kill();
        let error = std::fs::read(&path).expect_err("the daemon is dead");
        let expected = match method {
            Method::Fuse => libc::ENOTCONN,
            Method::Memfd => libc::ENOENT,
        };
        assert_eq!(error.raw_os_error(), Some(expected), "{method:?}");
        run_failing(tool("cat", "coreutils").arg(&path));

        // The next daemon takes over, whichever way it serves.
        for next in METHODS {
            let mut server = start(next, &path);
            read(&path);
            server.kill();
        }
        start(Method::Memfd, &path).finish();
        assert!(path.symlink_metadata().is_err(), "{method:?}");
    }
}

#[test]
fn a_living_daemons_file_is_not_taken() {
    for method in METHODS {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("status");
        let server = start(method, &path);
        for other in METHODS {
            let taken = serve_by(other, &path, String::new);
            assert!(
                matches!(taken, Err(StatusFileError::Mount(MountError::InUse { .. }))),
                "{method:?} then {other:?}: {taken:?}"
            );
        }
        read(&path);
        server.finish();
    }
}

#[test]
fn files_of_others_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").expect("written");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/proc/1/root", &link).expect("linked");
    for path in [&file, &link, &dir.path().to_owned()] {
        for method in METHODS {
            let taken = serve_by(method, path, String::new);
            assert!(
                matches!(taken, Err(StatusFileError::NotOurs { .. })),
                "{path:?}: {taken:?}"
            );
        }
    }
    assert_eq!(std::fs::read(&file).expect("there"), b"precious");
    assert_eq!(
        std::fs::read_link(&link).expect("there"),
        Path::new("/proc/1/root")
    );
}

#[test]
fn it_takes_another_files_place_and_gives_it_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, target) = (dir.path().join("status"), dir.path().join("proc-drbd"));
    let served = serve_by(Method::Fuse, &path, || "ours\n".to_owned()).expect("served");
    let show = |target: &Path| Over::show(&path, served.method(), target);
    let text = || std::fs::read_to_string(&target).expect("readable");

    let missing = show(&target);
    assert!(
        matches!(missing, Err(OverError::Missing { .. })),
        "{missing:?}"
    );
    let directory = show(dir.path());
    assert!(
        matches!(directory, Err(OverError::NoFile { .. })),
        "{directory:?}"
    );
    std::fs::write(&target, "the kernel's\n").expect("written");
    let without = Over::show(&path, Method::Memfd, &target);
    assert!(
        matches!(without, Err(OverError::WithoutFuse { .. })),
        "{without:?}"
    );
    assert_eq!(text(), "the kernel's\n");

    let over = show(&target).expect("shown");
    assert_eq!(text(), "ours\n");
    assert!(over.is_there());
    // Another daemon finds it taken.
    let again = show(&target);
    assert!(
        matches!(again, Err(OverError::Mount(MountError::InUse { .. }))),
        "{again:?}"
    );
    assert_eq!(text(), "ours\n");
    // Somebody takes it away, and it can be shown again.
    run(tool("umount", "mount").arg(&target));
    assert!(!over.is_there());
    drop(over);
    assert_eq!(text(), "the kernel's\n");
    let over = show(&target).expect("shown");
    assert_eq!(text(), "ours\n");
    drop(over);
    assert_eq!(text(), "the kernel's\n");

    // A daemon that is killed leaves one that cannot be read, and the next takes that away.
    let other = dir.path().join("other");
    let mut killed = start(Method::Fuse, &other);
    let left = Over::show(&other, Method::Fuse, &target).expect("shown");
    std::mem::forget(left);
    killed.kill();
    std::fs::read_to_string(&target).expect_err("nobody serves it");
    let over = show(&target).expect("shown");
    assert_eq!(text(), "ours\n");
    drop(over);
    assert_eq!(text(), "the kernel's\n");
    rdb_frontend::fuse::mount::clear_stale(&other).expect("cleared");
}
