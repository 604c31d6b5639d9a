//! The socket for questions: a user of its group may look, and only look; nobody else may.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::node::Out;
use rdb_tests::pair::Plan;
use rdb_tests::status::Volume;
use rdb_tests::{Conf, Pair, programs, wait_until};
use serde_json::{Value, json};

/// A user, and his group, that no machine has.
const MEMBER: u32 = 54_321;
const STRANGER: u32 = 54_322;
const SECRET: &str = "between-us-two";

struct Watched {
    pair: Pair,
    /// Commands that everybody may run.
    rdbadm: PathBuf,
}

impl Watched {
    /// Nothing has changed on alice.
    fn is_as(&self, before: &Volume) -> Result<()> {
        let after = self.pair.alice.volume(0)?;
        ensure!(
            (&before.cs, &before.ds) == (&after.cs, &after.ds),
            "{after:?}"
        );
        Ok(())
    }

    /// Alice runs, and lets the member's group ask.
    fn new(name: &str) -> Result<Watched> {
        let conf = Conf {
            net: format!("cram-hmac-alg sha1; shared-secret \"{SECRET}\";"),
            ..Conf::default()
        };
        let plan = Plan {
            conf,
            ..Plan::default()
        };
        let mut pair = Pair::prepare(name, plan)?;
        let settings = pair.scratch.join("rdbd.toml");
        std::fs::write(&settings, format!("questions-group = \"{MEMBER}\"\n"))?;
        pair.alice.settings = Some(settings);
        std::fs::set_permissions(pair.scratch.path(), Permissions::from_mode(0o755))?;
        let rdbadm = pair.scratch.join("rdbadm");
        std::fs::copy(programs::directory()?.join("rdbadm"), &rdbadm)?;
        pair.alice.start()?;
        pair.alice.adm(&["create-md", "--force", "r0"])?;
        pair.alice.adm(&["up", "r0"])?;
        Ok(Watched { pair, rdbadm })
    }

    /// One of our commands as another user; the first word is its personality.
    fn run_as(&self, user: u32, words: &[&str]) -> Result<Out> {
        let alice = &self.pair.alice;
        let output = Command::new(&self.rdbadm)
            .args(words)
            .uid(user)
            .gid(user)
            .current_dir("/")
            .env("RDB_NODE", "alice")
            .env("RDB_RUN_DIR", &alice.run_dir)
            .env("RDB_CONF", &alice.conf)
            .output()
            .context("as another user; this test needs root")?;
        Ok(Out {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            typed: format!("{user}$ {}", words.join(" ")),
        })
    }

    fn socket(&self) -> PathBuf {
        self.pair.alice.run_dir.join("questions.sock")
    }

    /// Sends requests over the socket for questions; the answers, as they come.
    fn ask(&self, requests: &[Value]) -> Result<Vec<String>> {
        let mut stream = BufReader::new(UnixStream::connect(self.socket())?);
        let hello = json!({"id": 0, "op": "hello", "args": {"protocol": 1}});
        let mut answers = Vec::new();
        for request in std::iter::once(&hello).chain(requests) {
            stream
                .get_mut()
                .write_all(format!("{request}\n").as_bytes())?;
            let mut answer = String::new();
            stream.read_line(&mut answer)?;
            answers.push(answer);
        }
        Ok(answers.split_off(1))
    }
}

#[test]
fn a_member_of_the_group_sees_what_runs_and_no_secret() -> Result<()> {
    let watched = Watched::new("questions")?;
    let made = std::fs::symlink_metadata(watched.socket())?;
    ensure!((made.mode() & 0o7777, made.gid()) == (0o660, MEMBER));
    let of_root = watched
        .pair
        .alice
        .run("rdbsetup", &["show", "r0"], None)?
        .ok()?;
    ensure!(of_root.contains(SECRET), "{of_root}");
    for (words, expected) in [
        (&["rdbadm", "status", "r0"][..], "r0"),
        (&["rdbadm", "status", "--json"], "\"r0\""),
        (&["rdbadm", "proc"], "cs:WFConnection"),
        (&["rdbadm", "overview"], "r0"),
        (&["rdbadm", "role", "r0"], "Secondary/Unknown"),
        (&["rdbadm", "cstate", "r0"], "WFConnection"),
        (&["rdbadm", "dstate", "r0"], "Inconsistent/DUnknown"),
        (&["rdbadm", "get-gi", "r0"], ":"),
        (&["rdbsetup", "role", "0"], "Secondary/Unknown"),
        (&["rdbsetup", "show", "r0"], "*****"),
    ] {
        let out = watched.run_as(MEMBER, words)?.ok()?;
        ensure!(out.contains(expected), "{words:?}: {out}");
        ensure!(!out.contains(SECRET), "{words:?}: {out}");
    }
    // A wait is a question.
    let wait = ["rdbsetup", "wait-connect", "0", "--wfc-timeout=1"];
    watched.run_as(MEMBER, &wait)?.fails_with(5)?;
    Ok(())
}

#[test]
fn a_member_changes_nothing_by_commands() -> Result<()> {
    let watched = Watched::new("questions-only")?;
    let before = watched.pair.alice.volume(0)?;
    for words in [
        &["rdbadm", "down", "r0"][..],
        &["rdbadm", "disconnect", "r0"],
        &["rdbadm", "primary", "--force", "r0"],
        &["rdbadm", "adjust", "r0"],
        &["rdbadm", "up", "r0"],
        &["rdbadm", "restart"],
        &["rdbsetup", "secondary", "0"],
        &["rdbsetup", "detach", "0"],
        &["rdbsetup", "new-resource", "r1"],
        &["rdbsetup", "del-resource", "r0"],
    ] {
        let said = watched.run_as(MEMBER, words)?.fails_with(20)?;
        ensure!(said.contains("permission denied"), "{words:?}: {said}");
        ensure!(!said.contains(SECRET), "{words:?}: {said}");
    }
    watched.is_as(&before)
}

#[test]
fn whatever_is_sent_over_the_socket_only_questions_are_answered() -> Result<()> {
    let watched = Watched::new("questions-raw")?;
    let minor = json!({"minor": 0});
    let resource = json!({"resource": "r0"});
    let forced = json!({"minor": 0, "force": true});
    let changes = [
        ("detach", forced.clone()),
        ("primary", forced),
        ("disconnect", json!({"resource": "r0", "force": true})),
        (
            "new-current-uuid",
            json!({"minor": 0, "clear_bitmap": true}),
        ),
        (
            "new-minor",
            json!({"resource": "r0", "volume": 1, "minor": 1}),
        ),
        ("secondary", minor.clone()),
        ("invalidate", minor.clone()),
        ("invalidate-remote", minor.clone()),
        ("verify", json!({"minor": 0, "part": {}})),
        ("outdate", minor.clone()),
        ("pause-sync", minor.clone()),
        ("resume-sync", minor.clone()),
        ("del-minor", minor.clone()),
        ("del-resource", resource.clone()),
        ("down", resource),
    ];
    let requests: Vec<Value> = changes
        .iter()
        .map(|(op, args)| json!({"id": 1, "op": op, "args": args}))
        .chain([
            json!({"id": 1, "op": "shutdown"}),
            json!({"id": 1, "op": "restart", "args": {"program": null, "force": true}}),
        ])
        .collect();
    let before = watched.pair.alice.volume(0)?;
    // Root, too: it is a matter of the socket.
    for (request, answer) in requests.iter().zip(watched.ask(&requests)?) {
        ensure!(answer.contains("changes something"), "{request}: {answer}");
    }
    let questions = [
        json!({"id": 2, "op": "show"}),
        json!({"id": 2, "op": "status"}),
        json!({"id": 2, "op": "get-gi", "args": minor}),
        json!({"id": 2, "op": "takeover"}),
    ];
    for (request, answer) in questions.iter().zip(watched.ask(&questions)?) {
        ensure!(
            answer.starts_with("{\"id\":2,\"ok\":"),
            "{request}: {answer}"
        );
        ensure!(!answer.contains(SECRET), "{request}: {answer}");
    }
    watched.is_as(&before)
}

#[test]
fn a_group_that_is_not_there_is_found_beforehand_and_lets_nobody_ask() -> Result<()> {
    let mut watched = Watched::new("questions-group")?;
    ensure!(watched.pair.alice.terminate()?.success());
    let settings = watched.pair.scratch.join("rdbd.toml");
    std::fs::write(&settings, "questions-group = \"no-such-group\"\n")?;
    let file = settings.display().to_string();
    let check = ["--check", "--frontend", "socket", "--config", &file];
    let said = watched
        .pair
        .alice
        .run("rdbd", &check, None)?
        .fails_with(1)?;
    ensure!(said.contains("there is no group 'no-such-group'"), "{said}");
    // The node serves all the same.
    watched.pair.alice.start()?;
    watched.pair.alice.adm(&["status"])?;
    let said = watched
        .run_as(MEMBER, &["rdbadm", "status"])?
        .fails_with(20)?;
    ensure!(said.contains("permission denied"), "{said}");
    ensure!(watched.pair.alice.logged("only root can ask") == 1);
    Ok(())
}

#[test]
fn a_stranger_is_told_nothing() -> Result<()> {
    let watched = Watched::new("questions-stranger")?;
    for words in [
        &["rdbadm", "status"][..],
        &["rdbadm", "role", "r0"],
        &["rdbsetup", "show"],
        &["rdbadm", "down", "r0"],
    ] {
        let said = watched.run_as(STRANGER, words)?.fails_with(20)?;
        ensure!(said.contains("permission denied"), "{words:?}: {said}");
    }
    Ok(())
}

#[test]
fn the_socket_comes_back_when_it_is_removed_and_goes_with_the_daemon() -> Result<()> {
    let mut watched = Watched::new("questions-gone")?;
    let socket = watched.socket();
    std::fs::remove_file(&socket)?;
    let there = || Ok(UnixStream::connect(&socket).is_ok());
    wait_until("the socket", Duration::from_secs(10), there)?;
    let status = ["rdbadm", "status"];
    watched.run_as(MEMBER, &status)?.ok()?;
    // A dead daemon is not an empty house.
    watched.pair.alice.kill()?;
    watched.run_as(MEMBER, &status)?.fails_with(30)?;
    watched.pair.alice.start()?;
    watched.pair.alice.adm(&["up", "r0"])?;
    let listed = watched.run_as(MEMBER, &status)?.ok()?;
    ensure!(listed.contains("r0"), "{listed}");
    // The next program has its own.
    watched.pair.alice.adm(&["restart"])?;
    wait_until("the successor's socket", Duration::from_secs(10), there)?;
    let listed = watched.run_as(MEMBER, &status)?.ok()?;
    ensure!(listed.contains("r0"), "{listed}");
    // As long as it is not sure that the new program serves, the old one comes back when that ends.
    std::thread::sleep(Duration::from_secs(3));
    ensure!(watched.pair.alice.terminate()?.success());
    for name in ["questions.sock", "control.sock", "rdbd.pid"] {
        let path = watched.pair.alice.run_dir.join(name);
        ensure!(!path.exists(), "{name} is left");
    }
    Ok(())
}
