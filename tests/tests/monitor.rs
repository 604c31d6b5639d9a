//! `rdbmon` and `rdbadm status --watch`, each with a real pair and at a real terminal.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::{ours, tool};
use rdb_tests::terminal::Terminal;
use rdb_tests::{Node, Pair, wait_until};
use serde_json::Value;

const ESC: &str = "\x1b";
const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
const UP: &str = "\x1b[A";
const DOWN: &str = "\x1b[B";
/// A user, and his group, that no machine has.
const MEMBER: u32 = 54_321;

fn small_pair(name: &str) -> Result<Pair> {
    Pair::synced(
        name,
        Plan {
            disk_bytes: 16 << 20,
            ..Plan::default()
        },
    )
}

/// A command that prints into a pipe, and all its lines.
struct Printer {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Printer {
    fn start(node: &Node, words: &[&str]) -> Result<Printer> {
        let mut command = node.command("rdbadm", 0)?;
        let mut child = command.args(words).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("its output")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut lines = collected.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(line);
            }
        });
        Ok(Printer { child, lines })
    }

    fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }

    /// Waits until the last lines have these words.
    fn until(&self, words: &str) -> Result<()> {
        wait_until(words, Duration::from_secs(60), || {
            let lines = self.lines();
            let head = lines.iter().rposition(|line| line.starts_with("---"));
            let report = &lines[head.unwrap_or(lines.len().saturating_sub(1))..];
            Ok(report.iter().any(|line| line.contains(words)))
        })
        .with_context(|| format!("of {:#?}", self.lines()))
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        // One that has ended is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_status_that_is_watched_is_told_again_when_it_changes() -> Result<()> {
    let mut pair = small_pair("watch-status")?;
    let text = Printer::start(&pair.alice, &["status", "--watch=1", "r0", "r9"])?;
    let json = Printer::start(&pair.alice, &["status", "--watch", "--json"])?;
    let mut command = pair.alice.command("rdbadm", 0)?;
    command.args(["status", "--watch"]);
    let mut screen = Terminal::start(&command, 24, 80)?;
    text.until("r0 role:Primary")?;
    text.until("r9: No such resource")?;
    json.until("\"role\":\"Primary\"")?;
    screen.until("r0 role:Primary")?;
    pair.alice.adm(&["secondary", "r0"])?;
    text.until("r0 role:Secondary")?;
    json.until("\"role\":\"Secondary\"")?;
    screen.until("r0 role:Secondary")?;
    pair.alice.kill()?;
    text.until("no rdbd runs in")?;
    screen.until("no rdbd runs in")?;
    pair.alice.start()?;
    text.until("r0: No such resource")?;
    pair.alice.adm(&["up", "r0"])?;
    text.until("r0 role:Secondary")?;
    screen.until("r0 role:Secondary")?;
    // A report that is the same is not told again, and each has a head.
    let lines = text.lines();
    let heads = lines
        .iter()
        .filter(|l| l.starts_with("--- alice, "))
        .count();
    let reports = lines.iter().filter(|l| l.starts_with("r0")).count();
    ensure!(heads == reports, "{lines:#?}");
    for line in json.lines() {
        let value: Value = serde_json::from_str(&line).context(line)?;
        let is_none = value == Value::Array(Vec::new());
        ensure!(is_none || value[0]["name"] == "r0", "{value}");
    }
    // What stops it finds the screen of before, and what lets it go on takes it again.
    screen.type_in(CTRL_Z)?;
    screen.until_used(false)?;
    let pid = screen.pid().to_string();
    ensure!(
        Command::new("kill")
            .args(["-CONT", &pid])
            .status()?
            .success()
    );
    screen.until_used(true)?;
    screen.until("r0 role:Secondary")?;
    screen.resize(3, 80)?;
    screen.until("more lines)")?;
    screen.type_in(CTRL_C)?;
    let ended = screen.ended()?;
    ensure!(ended.signal() == Some(2), "{ended}");
    Ok(())
}

#[test]
fn what_nobody_can_read_is_not_told_for_ever() -> Result<()> {
    let mut pair = small_pair("watch-closed")?;
    pair.bob.terminate()?;
    for words in ["status --watch", "status --watch --json", "events2"] {
        let rdbadm = pair.alice.command("rdbadm", 0)?;
        let mut shell = Command::new("timeout");
        shell.args(["30", "sh", "-c", &format!("exec \"$@\" {words} >&-"), "sh"]);
        shell.arg(rdbadm.get_program()).args(rdbadm.get_args());
        for (name, value) in rdbadm.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        let output = shell.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1),
            "{words}: {:?}: {said}",
            output.status
        );
        ensure!(
            said.contains("standard output is closed"),
            "{words}: {said}"
        );
    }
    Ok(())
}

#[test]
fn a_status_that_is_watched_waits_for_no_daemon_that_is_not_meant() -> Result<()> {
    let pair = small_pair("watch-other")?;
    let words = ["--node", "carol", "status", "--watch"];
    let refused = pair.alice.try_adm(&words)?.fails_with(20)?;
    ensure!(refused.contains("is that of node 'alice'"), "{refused}");
    let wrong = pair
        .alice
        .try_adm(&["status", "--watch=0"])?
        .fails_with(1)?;
    ensure!(wrong.contains("--watch"), "{wrong}");
    Ok(())
}

fn monitor(node: &Node, words: &[&str]) -> Result<Terminal> {
    let mut command = node.command("rdbmon", 0)?;
    command.args(words);
    Terminal::start(&command, 24, 80)
}

/// Marks this action in the menu and chooses it.
fn choose(screen: &mut Terminal, action: &str) -> Result<()> {
    screen.until("Enter choose")?;
    let marked = format!("> {action} ");
    for _ in 0..20 {
        if screen.screen().contains(&marked) {
            break;
        }
        let before = screen.screen();
        screen.type_in(DOWN)?;
        screen.until_it("the mark to move", |now| now != before)?;
    }
    screen.until(&marked)?;
    screen.type_in("\r")
}

#[test]
fn the_monitor_shows_a_pair_does_what_is_confirmed_and_says_when_the_daemon_is_gone() -> Result<()>
{
    let mut pair = small_pair("monitor")?;
    let mut screen = monitor(&pair.alice, &[])?;
    screen.until("> OK       r0       Connected      Primary/Secondary   UpToDate/UpToDate")?;
    screen.type_in("\r")?;
    screen.until("r0 is well: both nodes have the same data.")?;
    // The generations, and what has happened before.
    let gi = pair.alice.adm(&["get-gi", "r0"])?;
    screen.until(gi.get(..16).context("an identifier")?)?;
    screen.type_in("G")?;
    screen.until("the promotion was forced")?;
    // What is not confirmed is not done.
    screen.type_in("a")?;
    choose(&mut screen, "rdbadm disconnect r0")?;
    screen.until("y: do it")?;
    screen.type_in("n")?;
    screen.until("e events")?;
    ensure!(pair.alice.volume(0)?.cs == "Connected");
    screen.type_in("a")?;
    choose(&mut screen, "rdbadm disconnect r0")?;
    screen.until("y: do it")?;
    screen.type_in("y")?;
    screen.until("┌ done ")?;
    screen.type_in(ESC)?;
    screen.until("Esc back")?;
    screen.type_in("g")?;
    screen.until("r0: StandAlone:")?;
    screen.type_in(ESC)?;
    screen.until("r0/0: connection Connected -> ")?;
    // A refusal, in rdbadm's words: the peer has good data, and so has this node; its users hold the device.
    let client = pair.alice.nbd(0)?;
    screen.type_in("a")?;
    choose(&mut screen, "rdbadm secondary r0")?;
    screen.type_in("y")?;
    screen.until("State change failed: (-12) Device is held open by someone")?;
    screen.type_in(ESC)?;
    drop(client);
    pair.alice.kill()?;
    screen.until("no rdbd runs in")?;
    screen.until("What is shown is as it was at")?;
    pair.alice.start()?;
    screen.until("rdbd is there again")?;
    screen.until_it("no banner", |text| !text.contains("no rdbd runs in"))?;
    screen.type_in("q")?;
    let ended = screen.ended()?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

#[test]
fn the_monitor_lives_through_every_size_and_odd_keys_and_ends_by_a_signal_in_order() -> Result<()> {
    let mut pair = Pair::prepare("monitor-odd", Plan::default())?;
    pair.begin()?;
    let mut screen = monitor(&pair.alice, &["r0"])?;
    screen.until("Not up: r0")?;
    for size in [
        (0, 0),
        (1, 1),
        (5, 20),
        (0, 80),
        (24, 0),
        (2, 3),
        (200, 300),
    ] {
        screen.resize(size.0, size.1)?;
        screen.type_in("?")?;
        screen.type_in(&format!(
            "{UP}{DOWN}\x1b[5~\x1b[6~\x1b[H\x1b[F\x1bOP\x1b[200~paste\x1b[201~\x00\x01é\u{7f}\t"
        ))?;
        screen.type_in("\x1b[<0;10;10M\x1b[999;999R\x1b]0;title\x07")?;
        std::thread::sleep(Duration::from_millis(200));
        screen.is_well()?;
        screen.type_in(ESC)?;
    }
    screen.resize(24, 80)?;
    screen.until("rdbmon  alice")?;
    let killed = Command::new("kill")
        .arg(screen.pid().to_string())
        .status()?;
    ensure!(killed.success());
    let ended = screen.ended()?;
    ensure!(ended.signal() == Some(15), "{ended}");
    // Without a terminal it says what else there is.
    let out = pair.alice.run("rdbmon", &[], None)?.fails_with(1)?;
    ensure!(out.contains("rdbadm status --watch"), "{out}");
    Ok(())
}

#[test]
fn who_may_only_ask_sees_everything_and_is_refused_with_the_reason() -> Result<()> {
    let mut pair = Pair::prepare("monitor-asks", Plan::default())?;
    let settings = pair.scratch.join("rdbd.toml");
    std::fs::write(&settings, format!("questions-group = \"{MEMBER}\"\n"))?;
    pair.alice.settings = Some(settings);
    std::fs::set_permissions(pair.scratch.path(), Permissions::from_mode(0o755))?;
    for program in ["rdbadm", "rdbmon"] {
        std::fs::copy(ours(program)?, pair.scratch.join(program))?;
    }
    pair.alice.start()?;
    pair.alice.adm(&["create-md", "--force", "r0"])?;
    pair.alice.adm(&["up", "r0"])?;
    let user = MEMBER.to_string();
    let mut command = Command::new(tool("setpriv")?);
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .arg(pair.scratch.join("rdbmon"))
        .env("RDB_NODE", "alice")
        .env("RDB_RUN_DIR", &pair.alice.run_dir)
        .env("RDB_CONF", &pair.alice.conf);
    let mut screen = Terminal::start(&command, 24, 80)?;
    screen.until("may only ask")?;
    screen.until("r0       Connecting")?;
    screen.type_in("a")?;
    choose(&mut screen, "rdbadm disconnect r0")?;
    screen.type_in("y")?;
    screen.until("permission denied: 'disconnect' changes something")?;
    ensure!(pair.alice.volume(0)?.cs == "WFConnection");
    // It ends whatever is shown.
    screen.type_in(CTRL_C)?;
    let ended = screen.ended()?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

/// Who is started by this one, and not by anybody else.
fn children(of: u32) -> Result<Vec<u32>> {
    let told = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"))?;
    told.split_whitespace()
        .map(|pid| pid.parse().context("a process id"))
        .collect()
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_monitor_whose_terminal_goes_away_ends() -> Result<()> {
    let pair = small_pair("monitor-gone")?;
    for words in [vec!["rdbmon"], vec!["rdbadm", "status", "--watch"]] {
        let seen = pair.scratch.join(words[0]);
        let program = ours(words[0])?.display().to_string();
        let typed = [&[program.as_str()], &words[1..]].concat();
        // A terminal that another program has, and that dies with it.
        let command = pair.alice.command(words[0], 0)?;
        let mut script = Command::new(tool("script")?);
        script
            .args([
                "--quiet",
                "--flush",
                "--command",
                &format!("stty rows 24 cols 80; exec {}", typed.join(" ")),
            ])
            .arg(&seen)
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut script = Killed(script.spawn()?);
        let shown = || std::fs::read(&seen).unwrap_or_default();
        wait_until("the monitor to show r0", Duration::from_secs(20), || {
            let shown = shown();
            Ok(shown.windows(2).any(|two| two == b"r0"))
        })?;
        let monitors = children(script.0.id())?;
        ensure!(!monitors.is_empty(), "no child of script");
        script.0.kill()?;
        script.0.wait()?;
        wait_until("the monitor to end", Duration::from_secs(20), || {
            let lives = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
            Ok(!monitors.iter().any(lives))
        })
        .with_context(|| format!("{words:?}"))?;
    }
    Ok(())
}
