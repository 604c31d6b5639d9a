//! `restart`: another daemon takes over from the one that runs, under the devices in use.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdb_control::{
    BEING_REPLACED, Client, ClientError, Hello, Limits, Op, TakeoverOutcome, TakeoverReport,
};

use crate::exec::{EXIT_IN_THE_DARK, Trouble};
use crate::out::{self, EXIT_COMMUNICATION};

/// How long the new daemon may take to answer, or the old one to be back.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long its volumes may take to be Primary again before the command says what it waits for, and ends.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(50);
/// The exit status if not everything is as before.
const EXIT_INCOMPLETE: u8 = 11;

/// Replaces the daemon of a run directory; the exit status.
pub(crate) fn run(
    program: &str,
    run_dir: &Path,
    limits: Limits,
    successor: Option<PathBuf>,
    force: bool,
) -> u8 {
    let complain = |message: &str| {
        out::error(&format!("{program}: {message}"));
        EXIT_COMMUNICATION
    };
    // The daemon has another working directory.
    let successor = match successor.map(std::path::absolute).transpose() {
        Ok(successor) => successor,
        Err(error) => return complain(&error.to_string()),
    };
    let mut client = match Client::connect_within(run_dir, limits) {
        Ok(client) => client,
        Err(error @ ClientError::NoDaemon { .. }) => {
            return complain(&format!("{error}: there is nothing to replace"));
        }
        Err(error) => return Trouble::from(error).tell(program),
    };
    let old = client.hello().clone();
    let begun = Instant::now();
    let op = Op::Restart {
        program: successor,
        force,
    };
    match client.run(op) {
        // (It becomes the new one as soon as it has answered.)
        Ok(()) | Err(ClientError::Closed) => {}
        Err(ClientError::Refused(refusal)) => {
            out::error(&refusal.message("restart"));
            return refusal.exit_code();
        }
        Err(ClientError::Error(text)) if text.contains("unknown operation") => {
            return complain(&format!(
                "rdbd {} can not be replaced while it runs: bring its resources down, end it, and start the new one",
                old.version
            ));
        }
        Err(error) => return Trouble::from(error).tell(program),
    }
    drop(client);
    let mut before = old.clone();
    let (new, report) = loop {
        let mut client = match successor_of(run_dir, &before) {
            Ok(client) => client,
            Err(trouble) => return trouble.tell(program),
        };
        let new = client.hello().clone();
        match taken_over(&mut client) {
            Ok(report) => break (new, report),
            // Somebody has the new one replaced in turn: the one that follows tells what became of all.
            Err(error) if is_being_replaced(&error) => before = new,
            Err(error) => return Trouble::from(error).tell(program),
        }
    };
    if let Some(why) = &report.returned {
        tell(&report);
        return complain(&format!(
            "rdbd is not replaced: {why}; the old one has taken everything back (pid {})",
            new.pid
        ));
    }
    out::line(&format!(
        "rdbd {} is replaced by {} (pid {}) after {:.1} s",
        old.version,
        new.version,
        new.pid,
        begun.elapsed().as_secs_f64()
    ));
    tell(&report)
}

/// Whether a daemon does not answer because another one takes its place.
fn is_being_replaced(error: &ClientError) -> bool {
    match error {
        ClientError::Closed => true,
        ClientError::Error(text) => text.starts_with(BEING_REPLACED),
        _ => false,
    }
}

/// Waits for the daemon that follows.
fn successor_of(run_dir: &Path, old: &Hello) -> Result<Client, Trouble> {
    let end = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let last = match Client::connect(run_dir) {
            Ok(client) if client.hello().instance != old.instance => return Ok(client),
            Ok(_) => "the old one is still there".to_owned(),
            // One hands its locks on to the other: if nobody has them, both are gone.
            Err(error @ (ClientError::NoDaemon { .. } | ClientError::Left { .. })) => {
                return Err(Trouble {
                    message: format!("it has ended while it was being replaced: {error}"),
                    code: EXIT_IN_THE_DARK,
                });
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() >= end {
            return Err(Trouble::new(format!(
                "the new rdbd does not answer within {} seconds ({last}); see its log. Devices in use wait for a daemon",
                ANSWER_TIMEOUT.as_secs()
            )));
        }
        std::thread::sleep(POLL);
    }
}

/// Waits until the volumes are Primary again, or will not be.
fn taken_over(client: &mut Client) -> Result<TakeoverReport, ClientError> {
    let end = Instant::now() + TAKEOVER_TIMEOUT;
    let mut told = !std::io::stderr().is_terminal();
    loop {
        let report: TakeoverReport = client.call(Op::Takeover)?;
        if report.done || Instant::now() >= end {
            return Ok(report);
        }
        if !std::mem::replace(&mut told, true) {
            out::error("Waiting until what was Primary is so again");
        }
        std::thread::sleep(POLL);
    }
}

fn tell(report: &TakeoverReport) -> u8 {
    let mut code = 0;
    for volume in &report.volumes {
        let name = format!("{}/{}", volume.resource, volume.volume);
        match &volume.outcome {
            TakeoverOutcome::Primary => {
                let device = volume
                    .device
                    .as_ref()
                    .map_or_else(String::new, |path| format!(", {}", path.display()));
                let pause = volume
                    .pause_ms
                    .map_or_else(String::new, |ms| format!(" after a pause of {ms} ms"));
                out::line(&format!("{name}: Primary again{pause}{device}"));
            }
            TakeoverOutcome::Waiting(why) => {
                let why = why.as_deref().unwrap_or("the peer is waited for");
                out::error(&format!(
                    "{name}: not Primary again yet, requests wait: {why}"
                ));
                code = EXIT_INCOMPLETE;
            }
            TakeoverOutcome::GivenUp(why) => {
                out::error(&format!("{name}: was Primary and is Secondary now: {why}"));
                code = EXIT_INCOMPLETE;
            }
        }
    }
    for problem in &report.problems {
        out::error(problem);
        code = EXIT_INCOMPLETE;
    }
    code
}
