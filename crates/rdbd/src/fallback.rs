//! The way back from a replacement: until the new program serves, the old one can take everything back.
//!
//! The new program runs in this very process, so nothing of the old one is left in it. Two things lead back:
//!
//! - The file of the old program stays open. A new program that finds out that it cannot serve becomes the old one again,
//!   in the same process.
//! - A watcher, the old program in a process of its own, waits until the new one serves. If that fails first, or takes too
//!   long, the watcher becomes the daemon. For systemd it is the service's main process meanwhile, so that the service
//!   does not end with the program that failed.
//!
//! A signal that comes meanwhile is for whoever serves in the end ([`crate::signals`]).
//!
//! What is handed over stays open in both. `rdbadm restart` is told by the daemon that it meets
//! ([`TakeoverReport::returned`](rdb_control::TakeoverReport)).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdb_control::{Client, Limits};
use rdb_frontend::fuse::left::LeftSessions;
use serde::{Deserialize, Serialize};

use crate::run_dir::Held;
use crate::{session, sessions, signals, streams, systemd};

/// The descriptor of the old program's file, and how that was called with which arguments: a [`Left`].
const BEFORE: &str = "RDB_BEFORE";
/// Why the old program is back.
const RETURNED: &str = "RDB_RETURNED";
/// Which daemon a watcher waits for the end of, and which program follows it: `INSTANCE:PROGRAM`.
const WATCH: &str = "RDB_WATCH";

/// How long a new program may take to serve. What brings resources up keeps it waiting for less than half of it.
const SERVE_TIMEOUT: Duration = Duration::from_secs(45);
/// How long a program that was killed may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the watcher looks.
const POLL: Duration = Duration::from_millis(100);
/// How long an attempt to reach the new program may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the watcher stays after it has told systemd something: who is gone is not asked for its service.
const LINGER: Duration = Duration::from_secs(1);

/// What a program leaves of itself for the next one. Arguments in hexadecimal digits: they need not be text.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    descriptor: i32,
    words: Vec<String>,
}

/// The program before this one, as long as there is a way back to it.
#[derive(Debug)]
struct Before {
    file: File,
    words: Vec<OsString>,
}

static BEFORE_THIS: Mutex<Option<Before>> = Mutex::new(None);

fn before() -> std::sync::MutexGuard<'static, Option<Before>> {
    BEFORE_THIS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Called first of all: takes what the program before has left.
pub(crate) fn begin() {
    let text = std::env::var(BEFORE).unwrap_or_default();
    let left: Option<Left> = serde_json::from_str(&text).ok();
    *before() = left.and_then(|left| {
        let words: Option<Vec<_>> = left.words.iter().map(|word| from_hex(word)).collect();
        Some(Before {
            words: words.filter(|words| !words.is_empty())?,
            file: session::adopt_program(left.descriptor)?,
        })
    });
}

fn to_hex(word: &OsStr) -> String {
    word.as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn from_hex(word: &str) -> Option<OsString> {
    let bytes: Option<Vec<u8>> = (0..word.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(word.get(at..at + 2)?, 16).ok())
        .collect();
    bytes.map(OsString::from_vec)
}

/// This program serves: there is no way back any more.
pub(crate) fn serves() {
    if before().take().is_some() {
        systemd::notify(&format!("MAINPID={}", std::process::id()));
    }
}

/// Whether there is a program to go back to.
pub(crate) fn is_open() -> bool {
    before().is_some()
}

/// Why this program is back, if it is.
pub(crate) fn returned() -> Option<String> {
    std::env::var(RETURNED).ok()
}

/// Becomes the program before this one, which has what was handed over, because of `why`. Comes back only if there is none, or if
/// it cannot be started.
/// `taken`: the locks and the sessions, if this program has taken them.
pub(crate) fn go_back(why: &str, taken: Option<(&Held, &LeftSessions)>) {
    let Some(before) = before().take() else {
        return;
    };
    let _ = writeln!(
        io::stderr(),
        "rdbd: {why}; going back to the program before this one"
    );
    let program = format!("/proc/self/fd/{}", before.file.as_raw_fd());
    // What this process may not do any more, that one could not do either: then the watcher goes on, in its own.
    let looked = Command::new(&program)
        .arg0(&before.words[0])
        .args(&before.words[1..])
        .arg("--check")
        .stdin(Stdio::null())
        .status();
    if !looked.is_ok_and(|status| status.success()) {
        return;
    }
    let mut command = Command::new(program);
    if let Some((held, sessions)) = taken {
        let Ok(locks) = held.hand_on() else {
            return;
        };
        command.envs(locks);
        sessions::hand_on(&mut command, sessions);
    }
    let error = command
        .arg0(&before.words[0])
        .args(&before.words[1..])
        .env(RETURNED, why)
        .env_remove(BEFORE)
        .exec();
    let _ = writeln!(io::stderr(), "rdbd: the program before this one: {error}");
}

/// Becomes another program, in this process, with a way back. `instance`: which daemon this is. Comes back with the reason if
/// that is impossible, and then neither with nor without the new program anything goes on.
pub(crate) fn become_program(
    program: &Path,
    held: &Held,
    left: &LeftSessions,
    instance: u64,
) -> anyhow::Error {
    let locks = match held.hand_on() {
        Ok(locks) => locks,
        Err(error) => return anyhow::Error::new(error).context("handing the locks on"),
    };
    let prepared = watcher(program, &locks, left, instance)
        .and_then(|()| File::open("/proc/self/exe"))
        .and_then(|own| session::hand_on(&own).map(|()| own));
    let why = match prepared {
        Ok(own) => {
            let own = Left {
                descriptor: own.as_raw_fd(),
                words: std::env::args_os().map(|word| to_hex(&word)).collect(),
            };
            let before = serde_json::to_string(&own).unwrap_or_default();
            sessions::hand_on(&mut Command::new(program), left)
                .args(arguments())
                .envs(locks.clone())
                .env(BEFORE, before)
                .env_remove(RETURNED)
                .env_remove(WATCH)
                .exec()
        }
        // Without a way back nothing is given up.
        Err(error) => error,
    };
    let why = format!("{}: {why}", program.display());
    // The old program is better than none: devices wait for a server.
    let _ = writeln!(io::stderr(), "rdbd: {why}; going on with the old program");
    let error = sessions::hand_on(&mut Command::new("/proc/self/exe"), left)
        .arg0(called())
        .args(arguments())
        .envs(locks)
        .env(RETURNED, why)
        .env_remove(BEFORE)
        .env_remove(WATCH)
        .exec();
    anyhow::Error::new(error).context("starting again")
}

/// How this program was called: after an upgrade the same name leads to the new one.
fn called() -> OsString {
    std::env::args_os().next().unwrap_or_else(|| "rdbd".into())
}

/// Starts the watcher.
fn watcher(
    program: &Path,
    locks: &[(&'static str, String)],
    left: &LeftSessions,
    instance: u64,
) -> io::Result<()> {
    let mut what = OsString::from(format!("{instance}:"));
    what.push(program);
    let output = sessions::hand_on(&mut Command::new("/proc/self/exe"), left)
        .arg0(called())
        .args(arguments())
        .envs(locks.iter().cloned())
        .env(WATCH, what)
        .env_remove(BEFORE)
        .env_remove(RETURNED)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            // The watcher has left a line before this one ends; it goes on elsewhere, and keeps nothing of it.
            let mut said = String::new();
            if let Some(stdout) = child.stdout.take() {
                stdout.take(64).read_to_string(&mut said)?;
            }
            child.wait()?;
            Ok(said)
        })?;
    let pid: u32 = output
        .trim()
        .parse()
        .map_err(|_| io::Error::other(format!("its watcher says {output:?}")))?;
    systemd::notify(&format!("MAINPID={pid}"));
    Ok(())
}

/// What a watcher was told.
#[derive(Debug)]
pub(crate) struct Watch {
    instance: u64,
    program: PathBuf,
}

/// What this process is to watch, if it is a watcher.
pub(crate) fn asked_to_watch() -> Option<Watch> {
    let text = std::env::var_os(WATCH)?;
    let bytes = text.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    Some(Watch {
        instance: std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?,
        program: PathBuf::from(OsStr::from_bytes(&bytes[colon + 1..])),
    })
}

/// Waits in another process until the new program serves, and ends; or becomes the daemon.
///
/// # Errors
/// When nothing can be watched, or when the daemon cannot be started.
pub(crate) fn watch(watch: &Watch, run_dir: &Path) -> anyhow::Result<()> {
    let watched = session::parent();
    let process = session::pidfd(watched)?;
    // The daemon shall not have a child that it knows nothing of.
    if session::fork_away()? {
        return Ok(());
    }
    session::lead();
    say_pid()?;
    // What it was sent and has not read would end with it.
    let mut sent = Vec::new();
    let looked = wait(watch, run_dir, &process, || {
        sent = signals::waiting_for(watched);
    });
    let why = match looked {
        Watched::Serves => {
            // The new daemon alone has the lock and the sessions now: if it is killed, the next one is not kept from them.
            pass_signals_on(&process);
            std::mem::forget(process);
            streams::close_inherited();
            let process = session::pidfd(watched)?;
            systemd::notify(&format!("MAINPID={watched}"));
            std::thread::sleep(LINGER);
            pass_signals_on(&process);
            std::process::exit(0);
        }
        // It has served, for less time than this process takes to look again, and was told to end.
        Watched::Ended if has_ended_in_order(run_dir) => std::process::exit(0),
        Watched::Ended => "ended before it served".to_owned(),
        Watched::Hangs => {
            session::send(&process, libc::SIGKILL)?;
            if !session::has_ended(&process, END_TIMEOUT)? {
                anyhow::bail!("process {watched} does not end");
            }
            format!("did not serve within {} seconds", SERVE_TIMEOUT.as_secs())
        }
    };
    signals::send_to_self(&sent);
    let why = format!("{} {why}", watch.program.display());
    let _ = writeln!(
        io::stderr(),
        "rdbd: {why}; the program before it takes everything back"
    );
    let error = Command::new("/proc/self/exe")
        .arg0(called())
        .args(arguments())
        .env(RETURNED, why)
        .env_remove(WATCH)
        .exec();
    Err(anyhow::Error::new(error).context("starting again"))
}

/// Whether the program that has ended did so because it was to: it takes the pid file with it then, and one that fails leaves it.
fn has_ended_in_order(run_dir: &Path) -> bool {
    run_dir.is_dir() && !run_dir.join(rdb_control::PID_NAME).exists()
}

enum Watched {
    Serves,
    Ended,
    Hangs,
}

/// `look` is called as long as it is not clear.
fn wait(watch: &Watch, run_dir: &Path, process: &OwnedFd, mut look: impl FnMut()) -> Watched {
    let end = Instant::now() + SERVE_TIMEOUT;
    let limits = Limits {
        hello: ASK_TIMEOUT,
        ..Limits::default()
    };
    while Instant::now() < end {
        if session::has_ended(process, POLL).unwrap_or(false) {
            return Watched::Ended;
        }
        look();
        match Client::connect_within(run_dir, limits) {
            Ok(client) if client.hello().instance != watch.instance => return Watched::Serves,
            _ => {}
        }
    }
    Watched::Hangs
}

/// Whoever has sent this process a signal has meant the daemon.
fn pass_signals_on(process: &OwnedFd) {
    for number in signals::take_waiting() {
        if let Err(error) = session::send(process, number) {
            let _ = writeln!(io::stderr(), "rdbd: passing signal {number} on: {error}");
        }
    }
}

/// Tells the daemon which process it is, and lets go of the pipe.
fn say_pid() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", std::process::id())?;
    out.flush()?;
    session::stdout_to_stderr()
}

/// The words that this daemon was started with, for the next one.
pub(crate) fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_any_bytes_come_through() {
        for bytes in [&b""[..], b"--node", b"\xff\x00a b:"] {
            let word = OsStr::from_bytes(bytes);
            assert_eq!(from_hex(&to_hex(word)).as_deref(), Some(word));
        }
        for bad in ["0", "0g", "\u{e9}\u{e9}"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
