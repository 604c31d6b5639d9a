//! What was typed nearly right, or to mislead a terminal, and variables that are set to nothing.

use std::path::PathBuf;
use std::process::{Command, Output};

fn rdbadm(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdbadm"));
    command.args(words.split_whitespace());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A resource r0 of this machine, and the directory that its file is in.
fn configuration() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let conf = dir.path().join("rdb.conf");
    let text = format!(
        "resource r0 {{ device /dev/drbd0; disk /dev/sda; meta-disk internal;\n\
         on {} {{ address 127.0.0.1:7789; }} on other {{ address 127.0.0.2:7789; }} }}",
        host.trim()
    );
    std::fs::write(&conf, text).unwrap();
    (dir, conf)
}

#[test]
fn the_nearest_word_is_suggested() {
    for (words, near) in [
        ("statu", "status"),
        ("stauts", "status"),
        // An old name of another command is not meant by the beginning of a word.
        ("stat", "status"),
        ("primry r0", "primary"),
        ("conect r0", "connect"),
        ("primary --frce r0", "--force"),
        ("--frce primary r0", "--force"),
        ("status --jsn", "--json"),
        ("connect --discard-my-dat r0", "--discard-my-data"),
    ] {
        let output = rdbadm(words).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{words}: {text}");
        let hint = format!("\nDid you mean '{near}'?\n");
        assert!(text.ends_with(&hint), "{words}: {text}");
    }
    // What is near nothing is not guessed at.
    let text = said(&rdbadm("primary --xyz r0").output().unwrap());
    assert!(text.ends_with("\ntry 'rdbadm help'\n"), "{text}");
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let (_dir, conf) = configuration();
    // The configuration that is read if none is named is the machine's.
    let mut command = rdbadm("sh-minor r0 -c");
    let output = command.arg(&conf).env("RDB_NODE", "").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{output:?}");
    let call = |conf: Option<&str>, run_dir: Option<&str>| {
        let mut command = rdbadm("-d role r0");
        for (name, value) in [("RDB_CONF", conf), ("RDB_RUN_DIR", run_dir)] {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        said(&command.output().unwrap())
    };
    assert_eq!(call(Some(""), Some("")), call(None, None));
}

#[test]
fn escapes_in_names_are_not_echoed() {
    let (_dir, conf) = configuration();
    let output = rdbadm("-c")
        .arg(&conf)
        .args(["up", "\u{1b}[31mr0"])
        .output();
    let text = said(&output.unwrap());
    assert!(text.starts_with("'\\u{1b}[31mr0' not defined"), "{text:?}");
}
