//! Signals: SIGHUP opens the log anew and reads the settings again, no other that is not for the end ends the daemon, and what
//! ends it does so in order. And a daemon in the background keeps nothing of who started it.

mod daemon;

use std::process::Command;
use std::time::{Duration, Instant};

use daemon::{Daemon, within};
use rdb_control::{Client, SOCKET_NAME};

impl Daemon {
    fn kill(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(told.unwrap().success(), "{signal}");
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn ends(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_hangup_opens_the_log_anew_and_reads_the_settings_again() {
    let daemon = Daemon::start(&[]);
    std::fs::rename(daemon.path("log"), daemon.path("log.1")).unwrap();
    daemon.kill("HUP");
    within("a new log", || {
        daemon.log("log").contains("the log begins anew")
    });
    within("the settings", || {
        daemon.log("log").contains("the settings are as they were")
    });

    std::fs::write(
        daemon.path("rdbd.toml"),
        "log-level = \"warn\"\nbusy-poll-us = 7\n",
    )
    .unwrap();
    daemon.kill("HUP");
    // What is said at the level info is not said any more.
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(daemon.path("rdbd.toml"), "log-level = 5\n").unwrap();
    daemon.kill("HUP");
    within("a mistake", || daemon.log("log").contains("rdbd.toml:1: "));
    let log = daemon.log("log");
    assert!(log.contains("the settings stay as they were"), "{log}");
    assert!(!log.contains("busy-poll-us 7"), "said at info: {log}");
    // The first may be in either file, as the log is written on the side; the third is not said.
    let both = daemon.log("log.1") + &log;
    assert_eq!(both.matches("SIGHUP").count(), 2, "{both}");
}

#[test]
fn a_hangup_waits_for_no_pipe_and_reads_nothing_endless() {
    let daemon = Daemon::start(&[]);
    let settings = daemon.path("rdbd.toml");
    std::fs::remove_file(&settings).unwrap();
    let made = Command::new("mkfifo").arg(&settings).status();
    assert!(made.unwrap().success());
    daemon.kill("HUP");
    within("a pipe", || daemon.log("log").contains("it is a pipe"));
    assert!(Client::connect(&daemon.path("run")).is_ok());

    std::fs::remove_file(&settings).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &settings).unwrap();
    daemon.kill("HUP");
    within("a device", || {
        daemon.log("log").contains("it is a character device")
    });

    std::fs::remove_file(&settings).unwrap();
    std::fs::write(&settings, "\n".repeat((1 << 20) + 1)).unwrap();
    daemon.kill("HUP");
    within("a large file", || {
        daemon.log("log").contains("is larger than 1048576 bytes")
    });
    let log = daemon.log("log");
    let kept = log.matches("the settings stay as they were").count();
    assert_eq!(kept, 3, "{log}");
    assert!(Client::connect(&daemon.path("run")).is_ok());
}

#[test]
fn signals_that_mean_nothing_end_nothing() {
    let daemon = Daemon::start(&[]);
    for signal in [
        "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "XCPU", "XFSZ", "PIPE", "40",
    ] {
        daemon.kill(signal);
    }
    within("a word", || {
        daemon.log("log").contains("signal 10 has no meaning")
    });
    assert!(Client::connect(&daemon.path("run")).is_ok());
}

#[test]
fn what_ends_the_daemon_does_so_in_order() {
    for signal in ["TERM", "INT", "QUIT", "PWR"] {
        let mut daemon = Daemon::start(&[]);
        daemon.kill(signal);
        assert_eq!(daemon.ends(), Some(0), "{signal}");
        assert!(daemon.log("log").contains("rdbd has ended"), "{signal}");
        assert!(!daemon.path("run").join(SOCKET_NAME).exists(), "{signal}");
    }
}

#[test]
fn a_daemon_in_the_background_keeps_no_descriptor_of_its_caller() {
    // A careless caller: one that is not closed when it becomes another program.
    let file = tempfile::NamedTempFile::new().unwrap();
    let daemon = Daemon::start_by(
        &[
            "sh",
            "-c",
            "exec 9<\"$0\"; exec \"$@\"",
            &file.path().display().to_string(),
        ],
        &["--background"],
    );
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).unwrap() {
        seen.push(std::fs::read_link(entry.unwrap().path()).unwrap_or_default());
    }
    assert!(seen.len() > 3, "{seen:?}");
    assert!(!seen.iter().any(|open| open == file.path()), "{seen:?}");
}
