//! The files by which the daemon is found: what is removed while it runs comes back, and what a dead daemon leaves is not
//! taken for nothing.

mod daemon;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use daemon::{Daemon, within};
use rdb_control::{Client, ClientError, Op, PID_NAME, RECORD_NAME, SOCKET_NAME, STATUS_NAME};

impl Daemon {
    fn run_dir(&self) -> PathBuf {
        self.path("run")
    }
}

fn r0() -> Op {
    Op::NewResource {
        resource: "r0".to_owned(),
        options: Default::default(),
        handlers: Default::default(),
    }
}

#[test]
fn what_is_removed_is_made_anew() {
    let daemon = Daemon::start(&[]);
    Client::connect(&daemon.run_dir())
        .unwrap()
        .run(r0())
        .unwrap();
    for name in [SOCKET_NAME, PID_NAME, RECORD_NAME] {
        let path = daemon.run_dir().join(name);
        within(name, || path.exists());
        std::fs::remove_file(&path).unwrap();
        // A command that comes amid that finds it all the same.
        let report = Client::connect(&daemon.run_dir())
            .unwrap()
            .status()
            .unwrap();
        assert_eq!(report.resources.len(), 1, "without {name}");
        within(name, || path.exists());
    }
    let pid = std::fs::read_to_string(daemon.run_dir().join(PID_NAME)).unwrap();
    assert_eq!(pid.trim(), daemon.child.id().to_string());
}

#[test]
fn a_status_file_that_is_unmounted_or_removed_is_made_anew() {
    let daemon = Daemon::start(&[]);
    let status = daemon.run_dir().join(STATUS_NAME);
    let read = || std::fs::read_to_string(&status).is_ok_and(|text| text.starts_with("version: "));
    within("the status", read);
    let unmounted = Command::new("umount")
        .arg("-l")
        .arg(&status)
        .stderr(Stdio::null())
        .status();
    if !unmounted.is_ok_and(|status| status.success()) {
        // It is a link.
        std::fs::remove_file(&status).unwrap();
    }
    within("the status again", read);
}

#[test]
fn a_daemon_whose_directory_is_gone_makes_it_anew() {
    let daemon = Daemon::start(&[]);
    Client::connect(&daemon.run_dir())
        .unwrap()
        .run(r0())
        .unwrap();
    let entries = std::fs::read_dir(daemon.run_dir()).unwrap();
    for entry in entries {
        let entry = entry.unwrap();
        // The status file may be a mount, which nobody can remove so.
        if entry.file_name() != STATUS_NAME {
            let path = entry.path();
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
    }
    let report = Client::connect(&daemon.run_dir())
        .unwrap()
        .status()
        .unwrap();
    assert_eq!(report.resources.len(), 1);
}

#[test]
fn a_killed_daemon_has_left_something() {
    let mut daemon = Daemon::start(&[]);
    Client::connect(&daemon.run_dir())
        .unwrap()
        .run(r0())
        .unwrap();
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let error = Client::connect(&daemon.run_dir()).unwrap_err();
    let ClientError::Left { pid, resources, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*pid, Some(daemon.child.id()));
    assert_eq!(*resources, ["r0"]);
    assert!(error.is_in_the_dark());
}
