//! The loop device over a FUSE file, and users that nobody sees.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rdb_engine::Command;
use rdb_frontend::Frontend;

use super::mirror::Seen;
use super::{Node, PATIENCE, VOLUME};
use crate::Notice;

/// Longer than a device in use is asked for again.
const GIVING_BACK: Duration = Duration::from_secs(40);

/// The next device that is up.
fn device_up(node: &Node) -> PathBuf {
    loop {
        let notice = node.notices.recv_timeout(PATIENCE).expect("a device");
        if let Notice::DeviceUp { node, .. } = notice {
            return node.expect("a device node");
        }
    }
}

/// Waits until the device is given back.
fn device_down(node: &Node) {
    loop {
        let notice = node.notices.recv_timeout(GIVING_BACK).expect("it goes");
        if matches!(notice, Notice::DeviceDown { .. }) {
            return;
        }
    }
}

/// Another node of a device than the one below `/dev`: whoever looks for users does not see those who open this one, as he does not see one
/// in another container, or who comes right after he has looked.
fn unseen(device: &Path, dir: &Path) -> PathBuf {
    let number = std::fs::metadata(device).expect("the device").rdev();
    let node = dir.join("unseen");
    let (major, minor) = (libc::major(number), libc::minor(number));
    let made = std::process::Command::new("mknod")
        .arg(&node)
        .args(["b", &major.to_string(), &minor.to_string()])
        .status();
    assert!(made.expect("mknod").success());
    node
}

/// How a program ends, that should end soon.
fn end_of(program: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = program.try_wait().expect("a child") {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it hangs");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Goal: whoever opens the device as it is given up gets errors, also for a request that is under way, and does not hang.
/// Method: a user that is not seen, and a write that the engine never ends.
#[test]
fn a_user_of_a_device_that_is_given_up_gets_errors() {
    Frontend::Fuse.settle().expect("FUSE and loop devices");
    let a = Node::with(Frontend::Fuse, 2048, |mirror| {
        mirror.swallow_writes = true;
        mirror.tell_writes = true;
    });
    a.attach(&a.file("data", 16 << 20)).expect("attached");
    a.primary();
    let device = unseen(&device_up(&a), a.dir.path());
    // (A process of its own: one whose thread hangs in a request to itself never ends.)
    let mut user = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", "count=1", "oflag=direct"])
        .arg(format!("of={}", device.display()))
        .spawn()
        .expect("dd");
    while !matches!(a.next(), Seen::Write(..)) {}
    a.admin(Command::Secondary {
        volume: VOLUME,
        held_open: false,
    })
    .expect("nobody is seen to hold it");
    device_down(&a);
    assert!(!end_of(&mut user).success(), "nobody has written it");
    a.stop();
}
