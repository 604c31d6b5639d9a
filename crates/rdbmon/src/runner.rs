//! Runs commands of `rdbadm`: the program itself, so that what it does and says is what it does and says elsewhere.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rdb_watch::Choice;
use rustix::process::{Pid, Signal, kill_process};

use crate::model::{Input, Outcome};

/// How much of what a command says is kept, in bytes.
const SAID_MAX: u64 = 256 * 1024;

/// What is known of the command that runs.
#[derive(Debug, Default)]
struct Running {
    /// Its process.
    pid: Option<Pid>,
    /// It, and what would follow it, is to end.
    is_interrupted: bool,
}

/// Who runs them, one at a time.
#[derive(Debug)]
pub(crate) struct Runner {
    /// The options of each command.
    globals: Vec<OsString>,
    inputs: Sender<Input>,
    running: Arc<Mutex<Running>>,
}

impl Runner {
    /// One that gives each command these options.
    pub(crate) fn new(globals: Vec<OsString>, inputs: Sender<Input>) -> Runner {
        Runner {
            globals,
            inputs,
            running: Arc::default(),
        }
    }

    /// Runs what was chosen; the outcome is an input.
    pub(crate) fn run(&self, choice: Choice) {
        let (globals, inputs) = (self.globals.clone(), self.inputs.clone());
        let running = Arc::clone(&self.running);
        *lock(&running) = Running::default();
        let (command, listener) = (choice.command.clone(), self.inputs.clone());
        let started = thread::Builder::new().spawn(move || {
            let mut said = String::new();
            let mut end = String::new();
            for words in &choice.lines {
                let ended = run_one(&globals, words, &running, &mut said);
                let is_good = ended.as_ref().is_ok_and(ExitStatus::success);
                end = match ended {
                    Ok(status) => in_words(status),
                    Err(error) => format!("can not run rdbadm: {error}"),
                };
                if !is_good || lock(&running).is_interrupted {
                    break;
                }
            }
            let command = choice.command;
            // Who has ended listens no more.
            let _ = inputs.send(Input::Done(Outcome { command, end, said }));
        });
        if let Err(error) = started {
            let end = format!("can not run rdbadm: the system gives no thread: {error}");
            let said = String::new();
            // Who has ended listens no more.
            let _ = listener.send(Input::Done(Outcome { command, end, said }));
        }
    }

    /// Ends what runs: the daemon takes it back.
    pub(crate) fn interrupt(&self) {
        let mut running = lock(&self.running);
        running.is_interrupted = true;
        if let Some(pid) = running.pid {
            // One that has just ended needs no telling.
            let _ = kill_process(pid, Signal::INT);
        }
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(
    globals: &[OsString],
    words: &[String],
    running: &Mutex<Running>,
    said: &mut String,
) -> io::Result<ExitStatus> {
    let (mut reader, writer) = io::pipe()?;
    let mut command = Command::new(find());
    command
        .args(globals)
        .args(words)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = {
        let mut running = lock(running);
        let child = command.spawn()?;
        running.pid = Pid::from_raw(child.id().cast_signed());
        if running.is_interrupted {
            let _ = running.pid.map(|pid| kill_process(pid, Signal::INT));
        }
        child
    };
    // The ends that only the child is to have.
    drop(command);
    let mut bytes = Vec::new();
    let read = (&mut reader).take(SAID_MAX).read_to_end(&mut bytes);
    // What is too much is not kept; a command must not wait for its reader.
    let rest = read.and_then(|_| io::copy(&mut reader, &mut io::sink()));
    said.push_str(&String::from_utf8_lossy(&bytes));
    if let Ok(1..) = rest {
        said.push_str("\n(there was more)\n");
    }
    // Its number may be another process's as soon as it has been waited for.
    let status = {
        let wait = child.wait();
        lock(running).pid = None;
        wait?
    };
    Ok(status)
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "done".to_owned(),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// `rdbadm` beside this program, else in the search path.
fn find() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("rdbadm")));
    match beside {
        Some(path) if path.is_file() => path,
        _ => PathBuf::from("rdbadm"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_said_in_words() {
        assert_eq!(in_words(ExitStatus::from_raw(0)), "done");
        assert_eq!(in_words(ExitStatus::from_raw(17 << 8)), "exit code 17");
        assert_eq!(in_words(ExitStatus::from_raw(2)), "ended by signal 2");
    }
}
