//! Handlers by their names, without a daemon: each runs what the configuration has for it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A configuration with handlers, of two volumes.
const CONFIG: &str = "resource r0 {
  handlers {
    fence-peer \"env; exit 7\";
    split-brain \"echo $DRBD_MINOR $DRBD_LL_DISK; exit $DRBD_VOLUME\";
    out-of-sync \"kill -9 $$\";
  }
  volume 0 { device /dev/drbd5; disk /dev/sda1; meta-disk internal; }
  volume 3 { device /dev/drbd6; disk none; }
  on alice { address 127.0.0.1:7789; }
  on bob bert { address 127.0.0.2:7789; }
}
";

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let node = Node {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::write(node.conf(), CONFIG).unwrap();
        node
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("rdb.conf")
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn run(&self, words: &str) -> Output {
        self.run_as("rdbadm", words)
    }

    fn run_as(&self, name: &str, words: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_rdbadm"))
            .arg0(name)
            .args(words.split_whitespace())
            .env("RDB_NODE", "alice")
            .env("RDB_CONF", self.conf())
            .env("RDB_RUN_DIR", self.run_dir())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

#[test]
fn a_handler_is_run_by_its_name_in_the_environment_that_the_daemon_would_give_it() {
    let node = Node::new();
    for command in ["fence-peer r0", "outdate-peer r0"] {
        let output = node.run(command);
        assert_eq!(output.status.code(), Some(7), "{command}");
        let said = String::from_utf8(output.stdout).unwrap();
        // (What the shell adds by itself does not count.)
        let of_shell = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
        let mut set: Vec<_> = said
            .lines()
            .filter(|line| !of_shell.iter().any(|name| line.starts_with(name)))
            .collect();
        set.sort_unstable();
        let conf = format!("DRBD_CONF={}", node.conf().display());
        let run_dir = format!("RDB_RUN_DIR={}", node.run_dir().display());
        assert_eq!(
            set,
            [
                conf.as_str(),
                "DRBD_LL_DISK=/dev/sda1 none",
                "DRBD_MINOR=5 6",
                "DRBD_PEER=bob",
                "DRBD_PEERS=bob bert",
                "DRBD_PEER_ADDRESS=127.0.0.2",
                "DRBD_PEER_AF=ipv4",
                "DRBD_RESOURCE=r0",
                "DRBD_VOLUME=0 3",
                "HOME=/",
                "PATH=/sbin:/usr/sbin:/bin:/usr/bin",
                "RDB_NODE=alice",
                run_dir.as_str(),
                "TERM=linux",
            ]
        );
    }
}

#[test]
fn a_handler_of_volumes_is_run_for_each_and_its_exit_code_is_the_commands() {
    let node = Node::new();
    for (command, code, said) in [
        ("split-brain --handler r0", 3, "5 /dev/sda1\n6 none\n"),
        ("split-brain --handler minor-5", 0, "5 /dev/sda1\n"),
        ("split-brain --handler r0/3", 3, "6 none\n"),
        ("out-of-sync minor-6", 137, ""),
        // Nothing is configured for it.
        ("before-resync-target minor-5", 0, ""),
    ] {
        let output = node.run(command);
        assert_eq!(output.status.code(), Some(code), "{command}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), said, "{command}");
    }
    let dry = node.run("-d split-brain --handler r0/3");
    assert_eq!(dry.status.code(), Some(0));
    let line = String::from_utf8(dry.stdout).unwrap();
    assert!(
        line.starts_with("env -i HOME=/ TERM=linux PATH=") && line.contains(" DRBD_MINOR=6 "),
        "{line}"
    );
    // It may be typed.
    let typed = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(typed.status.code(), Some(3));
    assert_eq!(typed.stdout, b"6 none\n");
}

/// The name is DRBD's for the handler, and ours for what was written apart.
#[test]
fn drbds_command_runs_the_handler_and_ours_the_evidence() {
    let node = Node::new();
    let drbd = node.run_as("drbdadm", "split-brain minor-5");
    assert_eq!(drbd.status.code(), Some(0));
    assert_eq!(drbd.stdout, b"5 /dev/sda1\n");
    for (name, words) in [
        ("rdbadm", "split-brain --json r0"),
        ("drbdadm", "split-brain --json r0"),
    ] {
        let output = node.run_as(name, words);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.starts_with("{\"format\":\"rdb-split-brain\""),
            "{said}"
        );
        // (/dev/sda1 is no disk of ours, and volume 3 has none.)
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("r0/0: nothing is known of its disk: "),
            "{said}"
        );
        assert!(
            said.contains("r0/3: nothing is known of its disk: this node has none for it"),
            "{said}"
        );
    }
    let text = node.run("split-brain r0");
    assert_eq!(text.status.code(), Some(0));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("nothing is known of its disk"), "{text}");
    let both = node.run("split-brain --handler --json r0");
    assert_eq!(both.status.code(), Some(1));
}

#[test]
fn io_is_suspended_and_resumed_step_by_step() {
    let node = Node::new();
    for name in ["suspend-io", "resume-io"] {
        let output = node.run(&format!("-d {name} r0"));
        let steps = format!("rdbsetup {name} 5\nrdbsetup {name} 6\n");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), steps);
    }
}
