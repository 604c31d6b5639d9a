//! `events2`: what happens, told as it happens, in the lines of the kernel's driver.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::conf::Conf;
use rdb_tests::pair::Plan;
use rdb_tests::{Node, Pair, wait_until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A command whose lines are collected as they come.
struct Listener {
    child: Child,
    input: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    /// One that has told what there is.
    fn start(node: &Node, program: &str, words: &[&str]) -> Result<Listener> {
        let listener = Listener::begin(node, program, words)?;
        listener.until("exists -")?;
        Ok(listener)
    }

    fn begin(node: &Node, program: &str, words: &[&str]) -> Result<Listener> {
        let mut command = node.command(program, 0)?;
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its output")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut lines = collected.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(line);
            }
        });
        Ok(Listener {
            child,
            input,
            lines,
        })
    }

    fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }

    /// Waits for a line that has these words.
    fn until(&self, words: &str) -> Result<()> {
        wait_until(words, PATIENCE, || {
            Ok(self.lines().iter().any(|line| line.contains(words)))
        })
        .with_context(|| format!("of {:#?}", self.lines()))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input")?;
        Ok(input.write_all(text.as_bytes())?)
    }

    /// The end of its input; its exit status.
    fn finish(mut self) -> Result<Option<i32>> {
        drop(self.input.take());
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the driver of DRBD 8.4.11 tells of a fresh node that is brought up, connected, made Primary, synced, left and taken down, by its
/// own drbdsetup; without the lines of helpers, which call whatever is configured there, and without empty changes.
const OF_THE_DRIVER: &str = "\
create resource name:r0 role:Secondary suspended:no
create device name:r0 volume:0 minor:0 disk:Diskless
change device name:r0 volume:0 minor:0 disk:Attaching
change device name:r0 volume:0 minor:0 disk:Inconsistent
create connection name:r0 peer-node-id:0 conn-name:peer connection:StandAlone role:Unknown
create peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown resync-suspended:no
change connection name:r0 peer-node-id:0 conn-name:peer connection:Unconnected
change connection name:r0 peer-node-id:0 conn-name:peer connection:Connecting
change connection name:r0 peer-node-id:0 conn-name:peer connection:Connected
change connection name:r0 peer-node-id:0 conn-name:peer role:Secondary
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:Inconsistent
change resource name:r0 role:Primary
change device name:r0 volume:0 minor:0 disk:UpToDate
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:WFBitMapS
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:SyncSource
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:UpToDate
change resource name:r0 suspended:user
change resource name:r0 suspended:no
change resource name:r0 role:Secondary
change connection name:r0 peer-node-id:0 conn-name:peer connection:Disconnecting role:Unknown
change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown
change connection name:r0 peer-node-id:0 conn-name:peer connection:StandAlone
destroy peer-device name:r0 peer-node-id:0 conn-name:peer volume:0
destroy connection name:r0 peer-node-id:0 conn-name:peer
change device name:r0 volume:0 minor:0 disk:Failed
change device name:r0 volume:0 minor:0 disk:Diskless
destroy device name:r0 volume:0 minor:0
destroy resource name:r0";

#[test]
fn a_pairs_life_is_told_in_the_lines_of_the_kernels_driver() -> Result<()> {
    let mut pair = Pair::fresh("events-life", Plan::default())?;
    // What is told is the same, whichever command tells it; and nothing is configured yet, and no daemon need run.
    let plain = Listener::start(&pair.alice, "rdbsetup", &["events2"])?;
    let of_peer = Listener::start(&pair.bob, "rdbadm", &["events2", "--statistics", "r0"])?;
    let other = Listener::start(&pair.alice, "rdbadm", &["events2", "r1"])?;
    pair.alice.adm(&["up", "r0"])?;
    plain.until("connection:Connecting")?;
    pair.bob.adm(&["up", "r0"])?;
    plain.until("replication:Established peer-disk:Inconsistent")?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    plain.until("replication:Established peer-disk:UpToDate")?;
    pair.settle(60)?;
    pair.alice.adm(&["suspend-io", "r0"])?;
    pair.alice.adm(&["resume-io", "r0"])?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.alice.adm(&["down", "r0"])?;
    plain.until("destroy resource name:r0")?;
    let told: Vec<String> = plain.lines().into_iter().skip(1).collect();
    let expected: Vec<&str> = OF_THE_DRIVER.lines().collect();
    assert_eq!(told, expected);
    // The target's disk is written to, which its figures say.
    of_peer.until("disk:UpToDate size:")?;
    of_peer.until("replication:SyncTarget received:")?;
    of_peer.until("connection:TearDown role:Unknown")?;
    assert_eq!(other.lines(), ["exists -"]);
    pair.bob.adm(&["down", "r0"])?;
    pair.alice.is_well()
}

#[test]
fn an_n_on_standard_input_has_everything_looked_at_again() -> Result<()> {
    let mut pair = Pair::synced("events-poll", Plan::default())?;
    let words = ["events2", "--poll", "--statistics", "r0"];
    let mut polled = Listener::start(&pair.alice, "rdbsetup", &words)?;
    let begun = polled.lines().len();
    pair.alice.nbd(0)?.write(0, &[7; 4096])?;
    // Nothing happens by that: only who asks hears of it.
    polled.say("n\n")?;
    polled.until("change device name:r0 volume:0 minor:0 size:")?;
    let told = polled.lines();
    ensure!(
        told[begun..].iter().all(|line| line.starts_with("change ")),
        "{told:#?}"
    );
    ensure!(
        told.iter().any(|line| line.contains(" written:4 ")),
        "{told:#?}"
    );
    assert_eq!(polled.finish()?, Some(0));

    let words = ["events2", "--now", "--poll", "all"];
    let mut polled = Listener::start(&pair.alice, "rdbsetup", &words)?;
    // Each is answered, however fast one comes after the other.
    polled.say("nn")?;
    wait_until("three of everything", PATIENCE, || {
        let lines = polled.lines();
        Ok(lines.iter().filter(|line| *line == "exists -").count() == 3)
    })?;
    polled.say("q")?;
    assert_eq!(polled.child.wait()?.code(), Some(0));
    pair.alice.is_well()
}

#[test]
fn listening_goes_on_with_the_next_daemon() -> Result<()> {
    let mut pair = Pair::synced("events-restart", Plan::default())?;
    let listener = Listener::start(&pair.alice, "rdbsetup", &["events2", "--timestamps", "all"])?;
    pair.alice.adm(&["restart"])?;
    listener.until("connection:Connected")?;
    pair.bob.adm(&["disconnect", "r0"])?;
    listener.until("connection:TearDown")?;
    pair.alice.adm(&["down", "r0"])?;
    listener.until("destroy resource name:r0")?;
    pair.alice.terminate()?;
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    wait_until("what is made anew", PATIENCE, || {
        let lines = listener.lines();
        let gone = lines
            .iter()
            .rposition(|line| line.contains("destroy resource"));
        let made = lines
            .iter()
            .rposition(|line| line.contains("create resource"));
        Ok(made > gone)
    })?;
    Ok(())
}

#[test]
fn the_older_form_tells_states_and_handlers() -> Result<()> {
    let plan = Plan {
        conf: Conf {
            resource: "handlers { before-resync-source \"exit 3\"; }".to_owned(),
            ..Conf::default()
        },
        ..Plan::default()
    };
    let mut pair = Pair::fresh("events-older", plan)?;
    let listener = Listener::begin(&pair.alice, "rdbsetup", &["events", "all"])?;
    // (It says nothing when it begins to listen.)
    std::thread::sleep(Duration::from_secs(1));
    pair.sync_from(&pair.alice)?;
    for words in [
        " R - r0",
        " ST-prev 0,r0[0] { cs:StandAlone ro:Secondary/Unknown ds:Diskless/DUnknown r--- }",
        " ST-new 0,r0[0] { cs:WFConnection ro:Secondary/Unknown ds:Inconsistent/DUnknown r--- }",
        " UH 0,r0[0] before-resync-source",
        " UH-post 0,r0[0] before-resync-source 0x0300",
        " ST 0,r0[0] { cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent r--- }",
        " ST 0,r0[0] { cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r--- }",
    ] {
        listener.until(words)?;
    }
    pair.alice.is_well()
}

#[test]
fn a_daemon_that_is_killed_ends_it_with_30() -> Result<()> {
    let mut pair = Pair::synced("events-killed", Plan::default())?;
    let mut listener = Listener::start(&pair.alice, "rdbadm", &["events2"])?;
    pair.alice.kill()?;
    wait_until("its end", PATIENCE, || {
        Ok(listener.child.try_wait()?.is_some())
    })?;
    assert_eq!(listener.child.wait()?.code(), Some(30));
    Ok(())
}

/// Line by line, a connection to the control socket.
struct Raw(BufReader<UnixStream>);

impl Raw {
    fn connect(node: &Node) -> Result<Raw> {
        let mut raw = Raw(BufReader::new(UnixStream::connect(
            node.run_dir.join("control.sock"),
        )?));
        raw.0.get_ref().set_read_timeout(Some(PATIENCE))?;
        raw.ask(&json!({"id": 0, "op": "hello", "args": {"protocol": 1}}))?;
        raw.line()?;
        Ok(raw)
    }

    fn ask(&mut self, request: &Value) -> Result<()> {
        let line = format!("{request}\n");
        Ok(self.0.get_mut().write_all(line.as_bytes())?)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the daemon has closed");
        Ok(serde_json::from_str(&line)?)
    }
}

#[test]
fn who_does_not_read_holds_nobody_up_and_is_told_what_there_is() -> Result<()> {
    let mut pair = Pair::synced("events-slow", Plan::default())?;
    let mut slow = Raw::connect(&pair.alice)?;
    slow.ask(&json!({"id": 1, "op": "events", "args": {"resource": null, "figures": true}}))?;
    let mut worker = Raw::connect(&pair.alice)?;
    let dead = Raw::connect(&pair.alice)?;
    drop(dead);
    for id in 1..3500 {
        for op in ["pause-sync", "resume-sync"] {
            worker.ask(&json!({"id": id, "op": op, "args": {"minor": 0}}))?;
            let answer = worker.line()?;
            ensure!(answer.get("ok").is_some(), "{answer}");
        }
    }
    // More has happened than is kept for it. It is told so, and how things are.
    let mut seen = Vec::new();
    let skipped = loop {
        let line = slow.line()?;
        if line["event"] == "skipped" {
            break line["count"].as_u64();
        }
        seen.push(line);
    };
    ensure!(skipped > Some(2000), "{skipped:?}");
    let resource = slow.line()?;
    assert_eq!(resource["event"], "resource");
    assert_eq!(resource["resource"]["name"], "r0");
    assert_eq!(slow.line()?["event"], "complete");
    worker.ask(&json!({"id": 9, "op": "pause-sync", "args": {"minor": 0}}))?;
    let change = slow.line()?;
    assert_eq!(change["event"], "changed");
    assert_eq!(
        change["new"]["resync_suspended"],
        json!([true, false, false])
    );
    pair.alice.is_well()
}

#[test]
fn the_socket_for_questions_tells_what_happens_too() -> Result<()> {
    let mut pair = Pair::synced("events-questions", Plan::default())?;
    let socket = pair.alice.run_dir.join("questions.sock");
    let mut raw = Raw(BufReader::new(UnixStream::connect(socket)?));
    raw.0.get_ref().set_read_timeout(Some(PATIENCE))?;
    raw.ask(&json!({"id": 0, "op": "hello", "args": {"protocol": 1}}))?;
    raw.line()?;
    raw.ask(&json!({"id": 1, "op": "events", "args": {"resource": "r0", "figures": false}}))?;
    assert_eq!(raw.line()?["ok"], Value::Null);
    assert_eq!(raw.line()?["event"], "resource");
    assert_eq!(raw.line()?["event"], "complete");
    // Nothing else can be asked on it.
    raw.ask(&json!({"id": 2, "op": "down", "args": {"resource": "r0"}}))?;
    let mut rest = String::new();
    raw.0.read_to_string(&mut rest)?;
    assert_eq!(rest, "");
    pair.alice.is_well()
}

/// Whatever comes between its pieces, a line has an end that the daemon waits for no longer than for any.
#[test]
fn a_line_without_an_end_ends_the_stream() -> Result<()> {
    let mut pair = Pair::synced("events-endless", Plan::default())?;
    let mut raw = Raw::connect(&pair.alice)?;
    raw.ask(&json!({"id": 1, "op": "events", "args": {"resource": null, "figures": false}}))?;
    while raw.line()?["event"] != "complete" {}
    let piece = vec![b'x'; 200 << 10];
    raw.0.get_mut().write_all(&piece)?;
    pair.alice.adm(&["pause-sync", "r0"])?;
    assert_eq!(raw.line()?["event"], "changed");
    // It may be gone before it has all.
    let _ = raw.0.get_mut().write_all(&piece);
    let mut rest = Vec::new();
    let end = raw.0.read_to_end(&mut rest);
    ensure!(end.is_ok() || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    pair.alice.is_well()
}
