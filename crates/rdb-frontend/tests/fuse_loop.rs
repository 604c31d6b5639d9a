//! A real file system on a loop device over the memory-backed FUSE example. Needs root.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Server, example, run, run_failing, tool, write_noise};
use rdb_frontend::fuse::mount;
use rdb_frontend::loopdev::{AttachOptions, Holder, LoopDevice, LoopError};

const OPTIONS: AttachOptions = AttachOptions {
    block_size: 512,
    read_only: false,
};

/// A loop device over a memory disk of 64 MiB, in another process.
fn start(directory: &Path) -> (Server, LoopDevice) {
    let mut server = Server::start(Command::new(example("fuse_mem")).arg(directory));
    let path = server.line();
    let mut attached = LoopDevice::attached_to(&directory.join("image")).expect("listed");
    assert_eq!(attached.len(), 1, "{attached:?}");
    let device = attached.remove(0);
    assert_eq!(device.path(), Path::new(&path));
    (server, device)
}

fn sys(device: &LoopDevice, name: &str) -> String {
    let path = format!("/sys/block/loop{}/{name}", device.number());
    std::fs::read_to_string(&path)
        .expect(&path)
        .trim()
        .to_owned()
}

#[test]
fn ext4_lives_on_the_device() {
    let dir = tempfile::tempdir().expect("a directory");
    let (image_dir, mount_point) = (dir.path().join("fuse"), dir.path().join("mnt"));
    std::fs::create_dir(&image_dir).expect("a directory");
    std::fs::create_dir(&mount_point).expect("a directory");
    let (server, device) = start(&image_dir);
    assert_eq!(sys(&device, "loop/dio"), "1", "direct I/O");
    assert_eq!(sys(&device, "queue/logical_block_size"), "512");
    assert_eq!(sys(&device, "queue/discard_granularity"), "4096");
    assert_eq!(sys(&device, "size"), "131072");
    assert!(!device.is_held().expect("known"));

    run(tool("mkfs.ext4", "e2fsprogs")
        .args(["-q", "-F"])
        .arg(device.path()));
    run(tool("mount", "mount").arg(device.path()).arg(&mount_point));
    let mounted = Unmount(&mount_point);
    let noise = write_noise(&mount_point.join("file"), 24 << 20);
    run(&mut tool("sync", "coreutils"));

    // Held by the mount, so it stays.
    assert!(device.is_held().expect("known"));
    assert!(device.holders().contains(&Holder::Mount {
        target: mount_point.clone()
    }));
    match device.clone().detach() {
        Err(LoopError::Held { path, holders }) => {
            assert_eq!(path, device.path());
            assert!(!holders.is_empty());
        }
        other => panic!("{other:?}"),
    }

    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("root may");
    assert!(
        std::fs::read(mount_point.join("file")).expect("readable") == noise,
        "read back"
    );
    std::fs::remove_file(mount_point.join("file")).expect("removed");
    run(tool("sync", "coreutils").arg("-f").arg(&mount_point));
    let trimmed = run(tool("fstrim", "util-linux").arg("-v").arg(&mount_point));
    assert!(trimmed.contains("MiB"), "{trimmed}");
    drop(mounted);
    run(tool("fsck.ext4", "e2fsprogs")
        .args(["-f", "-n"])
        .arg(device.path()));

    let path = device.path();
    let rest = server.finish();
    let numbers: Vec<u64> = rest
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [trimmed, flushed] = numbers[..] else {
        panic!("{rest}")
    };
    assert!(trimmed > 24 << 20, "{rest}");
    assert!(flushed > 0, "{rest}");
    assert!(
        LoopDevice::attached_to(&image_dir.join("image"))
            .expect("listed")
            .is_empty()
    );
    assert!(!run(&mut tool("losetup", "mount")).contains(&format!("{} ", path.display())));
    device.detach().expect("nothing left to do");
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        run(tool("umount", "mount").arg(self.0));
    }
}

/// The kernel tells "write zeroes" from "discard" only above the loop driver; below, both punch holes.
#[test]
fn zeroed_ranges_read_as_zeroes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, device) = start(dir.path());
    let path = device.path();
    let noise = write_noise(&dir.path().with_extension("noise"), 1 << 20);
    std::fs::remove_file(dir.path().with_extension("noise")).expect("removed");
    let mut dd = tool("dd", "coreutils");
    dd.arg(format!("of={}", path.display()))
        .args(["if=/dev/urandom", "bs=1M", "count=4"]);
    run(dd.args(["oflag=direct", "conv=notrunc,fsync"]));
    for extra in [&["--zeroout"][..], &[]] {
        let mut discard = tool("blkdiscard", "util-linux");
        run(discard
            .args(extra)
            .args(["-f", "-o", "65536", "-l", "1048576"])
            .arg(&path));
        let mut check = tool("cmp", "diffutils");
        run(check
            .args(["-n", "1048576", "-i", "65536:0"])
            .arg(&path)
            .arg("/dev/zero"));
    }
    assert!(noise.iter().any(|&byte| byte != 0));
    server.finish();
}

#[test]
fn an_open_device_names_its_holder() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, device) = start(dir.path());
    let open = std::fs::File::open(device.path()).expect("opens");
    assert!(device.is_held().expect("known"));
    let mine = |holder: &Holder| matches!(holder, Holder::Process { pid, .. } if *pid == std::process::id());
    let holder = device
        .holders()
        .into_iter()
        .find(mine)
        .expect("this process");
    assert!(
        holder
            .to_string()
            .starts_with(&format!("process {} (", std::process::id()))
    );
    drop(open);
    assert!(!device.is_held().expect("known"));
    server.finish();
}

#[test]
fn what_a_dead_server_left_is_cleared_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut server, device) = start(dir.path());
    match mount::clear_stale(dir.path()) {
        Err(mount::MountError::InUse { path }) => {
            assert!(dir.path().ends_with(path.file_name().expect("a name")))
        }
        other => panic!("{other:?}"),
    }
    server.kill();
    let error = std::fs::metadata(dir.path()).expect_err("the server is dead");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    run_failing(
        tool("dd", "coreutils")
            .arg(format!("if={}", device.path().display()))
            .args(["of=/dev/null", "bs=4096", "count=1", "iflag=direct"]),
    );
    let left = LoopDevice::attached_to(&dir.path().join("image")).expect("listed");
    assert_eq!(left, [device], "found by the path of the dead mount");
    for device in left {
        device.detach().expect("detached");
    }
    mount::clear_stale(dir.path()).expect("cleared");
    assert_eq!(
        std::fs::read_dir(dir.path())
            .expect("an empty directory")
            .count(),
        0
    );
    mount::clear_stale(dir.path()).expect("nothing to do");
    mount::clear_stale(&dir.path().join("missing/too")).expect("nothing to do");
    assert!(
        LoopDevice::attached_to(&dir.path().join("image"))
            .expect("listed")
            .is_empty()
    );
}

#[test]
fn mounts_of_others_stay() {
    match mount::clear_stale(Path::new("/proc")) {
        Err(mount::MountError::Foreign { path, fs_type }) => {
            assert_eq!(
                (path.as_path(), fs_type.as_str()),
                (Path::new("/proc"), "proc")
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn plain_files_attach_grow_and_detach() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().canonicalize().expect("a path").join("disk");
    std::fs::write(&file, vec![0; 1 << 20]).expect("written");
    let device = LoopDevice::attach(&file, OPTIONS).expect("attached");
    assert_eq!(sys(&device, "size"), "2048");
    let grown = std::fs::File::options()
        .write(true)
        .open(&file)
        .expect("opens");
    grown.set_len(2 << 20).expect("grown");
    device.set_capacity().expect("resized");
    assert_eq!(sys(&device, "size"), "4096");
    let attached = LoopDevice::attached_to(&file).expect("listed");
    assert_eq!(attached, std::slice::from_ref(&device));
    let stale = device.clone();
    device.detach().expect("detached");
    stale.detach().expect("nothing to do");

    let read_only = AttachOptions {
        read_only: true,
        ..OPTIONS
    };
    let device = LoopDevice::attach(&file, read_only).expect("attached");
    assert_eq!(sys(&device, "ro"), "1");
    device.detach().expect("detached");
    let missing = LoopDevice::attach(&dir.path().join("missing"), OPTIONS);
    assert!(
        missing
            .expect_err("missing")
            .to_string()
            .contains("missing")
    );
    let odd = AttachOptions {
        block_size: 513,
        ..OPTIONS
    };
    assert!(LoopDevice::attach(&file, odd).is_err());
}
