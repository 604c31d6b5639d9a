//! Finding the daemon, and starting one if none runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rdb_control::{Client, ClientError, EXIT_TAKEN, Limits};

/// How long a new daemon may take until its socket answers.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the socket is tried meanwhile.
const START_POLL: Duration = Duration::from_millis(20);
/// How much of the log is shown when the daemon did not start, in bytes.
const LOG_TAIL: u64 = 2048;

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("can not start rdbd: it is neither beside this program nor in PATH")]
    NotFound,
    #[error("can not start {}: {source}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("can not use the run directory {}: {source}", path.display())]
    RunDir { path: PathBuf, source: io::Error },
    #[error("rdbd ended at once ({status}): {reason}")]
    Failed { status: String, reason: String },
    #[error("rdbd ended at once ({status}); the end of {}:\n{log}", path.display())]
    Ended {
        status: String,
        path: PathBuf,
        log: String,
    },
    #[error("rdbd did not answer within {} seconds; see {}", START_TIMEOUT.as_secs(), log.display())]
    Silent { log: PathBuf },
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Connects to the daemon of a run directory; starts one if none runs.
pub(crate) fn connect_or_start(
    run_dir: &Path,
    node: Option<&str>,
    limits: Limits,
) -> Result<Client, StartError> {
    match Client::connect_within(run_dir, limits) {
        Err(ClientError::NoDaemon { .. } | ClientError::Left { .. }) => {
            start(run_dir, node, limits)
        }
        other => Ok(other?),
    }
}

fn start(run_dir: &Path, node: Option<&str>, limits: Limits) -> Result<Client, StartError> {
    let program = find().ok_or(StartError::NotFound)?;
    let unusable = |source| StartError::RunDir {
        path: run_dir.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(run_dir)
        .map_err(unusable)?;
    let log_path = run_dir.join("rdbd.log");
    let mut log = OpenOptions::new()
        .append(true)
        .read(true)
        .create(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(unusable)?;
    let log_start = log.seek(SeekFrom::End(0)).map_err(unusable)?;
    let mut command = Command::new(&program);
    command.arg("--background").arg("--run-dir").arg(run_dir);
    if let Some(node) = node {
        command.arg("--node").arg(node);
    }
    // The reason why it can not start comes by the pipe, for there may be no room for it in the log.
    let output = log.try_clone().map_err(unusable)?;
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::piped());
    let child = command
        .spawn()
        .map_err(|source| StartError::Spawn { program, source })?;
    wait_for_answer(run_dir, limits, child, log, log_start, &log_path)
}

fn wait_for_answer(
    run_dir: &Path,
    limits: Limits,
    mut child: Child,
    mut log: File,
    log_start: u64,
    log_path: &Path,
) -> Result<Client, StartError> {
    let begun = Instant::now();
    let mut ended: Option<ExitStatus> = None;
    loop {
        match Client::connect_within(run_dir, limits) {
            // It is on its way: it takes the directory first, and then what the one before has left.
            Err(
                ClientError::NoDaemon { .. }
                | ClientError::Left { .. }
                | ClientError::Unreachable { .. }
                | ClientError::Stuck { .. },
            ) => {}
            other => return Ok(other?),
        }
        if let Some(status) = &ended {
            // Another command has started a daemon in the same moment: that one will answer.
            if status.code() != Some(EXIT_TAKEN.into()) {
                let status = status.to_string();
                return Err(match reason(&mut child) {
                    Some(reason) => StartError::Failed { status, reason },
                    None => StartError::Ended {
                        status,
                        path: log_path.to_owned(),
                        log: tail(&mut log, log_start),
                    },
                });
            }
        }
        if begun.elapsed() > START_TIMEOUT {
            return Err(StartError::Silent {
                log: log_path.to_owned(),
            });
        }
        if ended.is_none()
            && let Ok(Some(status)) = child.try_wait()
        {
            ended = Some(status);
        }
        thread::sleep(START_POLL);
    }
}

/// What a daemon that has ended said of it.
fn reason(child: &mut Child) -> Option<String> {
    let mut said = Vec::new();
    let pipe = child.stderr.take()?;
    // What cannot be read is in the log.
    let _ = pipe.take(LOG_TAIL).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    (!said.is_empty()).then_some(said)
}

/// The end of what was logged since `start`.
fn tail(log: &mut File, start: u64) -> String {
    let end = log.seek(SeekFrom::End(0)).unwrap_or(start);
    let from = start.max(end.saturating_sub(LOG_TAIL));
    let mut tail = Vec::new();
    // What cannot be read is not shown; the file is named beside it.
    if log.seek(SeekFrom::Start(from)).is_ok() {
        let _ = log.take(LOG_TAIL).read_to_end(&mut tail);
    }
    String::from_utf8_lossy(&tail).trim_end().to_owned()
}

/// `rdbd` beside this program, else in `PATH`.
fn find() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("rdbd")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path).map(|dir| dir.join("rdbd")))
        .find(|candidate| candidate.is_file())
}
