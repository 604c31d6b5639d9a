//! A blocking client.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::limits::Limits;
use crate::op::{Op, Reply, ReplyBody, Request};
use crate::presence::{self, Presence, presence};
use crate::refusal::Refusal;
use crate::report::{Hello, WaitReport};
use crate::{PROTOCOL, QUESTIONS_NAME, REPLY_LINE_MAX, SOCKET_NAME, TAKEN_BACK};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon is in that run directory, and none has left anything: nothing is configured.
    #[error("no rdbd runs in {}", run_dir.display())]
    NoDaemon {
        /// The run directory.
        run_dir: PathBuf,
    },
    /// No daemon is there, but one was, and what it served is on record.
    #[error(
        "no rdbd runs in {}, but the last one{} has left {}: what became of it is not known before an rdbd runs there again. \
         Start it ('systemctl start rdbd', or 'rdbadm up' of the resource)",
        run_dir.display(), of_pid(*pid), listed(resources)
    )]
    Left {
        /// The run directory.
        run_dir: PathBuf,
        /// The last daemon's process id.
        pid: Option<u32>,
        /// What it has left.
        resources: Vec<String>,
    },
    /// A daemon holds the run directory, and nobody answers at its socket.
    #[error(
        "rdbd{} runs in {}, but can not be reached there for {} s: {}",
        of_pid(*pid), run_dir.display(), waited.as_secs(), presence::process_words(*pid)
    )]
    Unreachable {
        /// The run directory.
        run_dir: PathBuf,
        /// Its process id.
        pid: Option<u32>,
        /// How long it was tried.
        waited: Duration,
    },
    /// The daemon gives no sign of life.
    #[error(
        "rdbd{} has given no sign of life for {} s: {}",
        of_pid(*pid), waited.as_secs(), presence::process_words(*pid)
    )]
    Stuck {
        /// Its process id.
        pid: Option<u32>,
        /// How long it was silent.
        waited: Duration,
    },
    /// The daemon lives, and the operation was not done in time: it is taken back.
    #[error("not done within {} s; rdbd{} is told to give it up", waited.as_secs(), of_pid(*pid))]
    TooLong {
        /// The daemon's process id.
        pid: Option<u32>,
        /// The limit.
        waited: Duration,
    },
    /// The daemon lives, and the operation was not done in time: it has been taken back.
    #[error("not done within {} s; rdbd{} has taken it back", waited.as_secs(), of_pid(*pid))]
    TakenBack {
        /// The daemon's process id.
        pid: Option<u32>,
        /// The limit.
        waited: Duration,
    },
    /// The socket is there and may not be used, nor may the one for questions.
    #[error(
        "can not use {}: permission denied; only root may, and whoever may open {QUESTIONS_NAME} gets answers",
        path.display()
    )]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// Only the socket for questions may be used, and this is none.
    #[error(
        "permission denied: '{op}' changes something, and only root may do that; others get answers"
    )]
    AsksOnly {
        /// The operation.
        op: &'static str,
    },
    /// The socket failed.
    #[error("control socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The daemon has closed the socket before it answered, and lives, or another one does.
    #[error("rdbd closed the control socket before it answered")]
    Closed,
    /// The daemon has ended before it answered, and has left nothing.
    #[error("rdbd{} has ended before it answered", of_pid(*pid))]
    Ended {
        /// Its process id.
        pid: Option<u32>,
    },
    /// The daemon answered something that is no reply.
    #[error("rdbd's answer is not understood: {reason}")]
    BadReply {
        /// Why.
        reason: String,
    },
    /// The daemon speaks another version of the protocol.
    #[error(
        "rdbd (pid {pid}) speaks control protocol {theirs}, this command speaks {PROTOCOL}; restart rdbd"
    )]
    Version {
        /// The daemon's version.
        theirs: u32,
        /// Its process id.
        pid: u32,
    },
    /// The daemon could not do what was asked, for a reason that DRBD has no number for.
    #[error("rdbd: {0}")]
    Error(String),
    /// The operation was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl ClientError {
    /// Whether it is not known what runs: a daemon is there, or was, and does not say.
    pub fn is_in_the_dark(&self) -> bool {
        matches!(
            self,
            ClientError::Left { .. } | ClientError::Unreachable { .. } | ClientError::Stuck { .. }
        )
    }
}

fn of_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "resources behind".to_owned(),
        _ => names.join(", "),
    }
}

/// How long the daemon may take to say what comes of what it is told to give up.
const TAKING_BACK: Duration = Duration::from_secs(5);
/// How often a socket that is not there is tried again while a daemon holds the directory.
const RETRY: Duration = Duration::from_millis(50);
/// How long a daemon that has closed the socket may take to be gone.
const ENDING: Duration = Duration::from_secs(2);
/// How long a daemon that replaces another one may take to serve.
const REPLACING: Duration = Duration::from_secs(90);
/// How often a daemon that takes its time is asked for a sign of life.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    run_dir: PathBuf,
    limits: Limits,
    path: PathBuf,
    stream: BufReader<UnixStream>,
    next_id: u64,
    hello: Hello,
    /// It is connected to the socket for questions.
    asks_only: bool,
}

impl Client {
    /// Connects to the daemon of a run directory, with the usual limits.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] if nothing is configured there; [`ClientError::Version`] if the daemon is of another build.
    pub fn connect(run_dir: &Path) -> Result<Client, ClientError> {
        Client::connect_within(run_dir, Limits::default())
    }

    /// The same, with these limits.
    ///
    /// A daemon whose socket is not there makes it anew, and one that is being replaced is back soon: it is waited for. Who may
    /// not open the control socket is connected to the one for questions.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_within(run_dir: &Path, limits: Limits) -> Result<Client, ClientError> {
        let begun = Instant::now();
        loop {
            match Client::try_connect(run_dir, limits) {
                Err(ClientError::NoDaemon { .. } | ClientError::Closed) => {}
                other => return other,
            }
            let pid = match presence(run_dir) {
                Presence::Nobody => {
                    let run_dir = run_dir.to_owned();
                    return Err(ClientError::NoDaemon { run_dir });
                }
                Presence::Left { pid, resources } => {
                    return Err(ClientError::Left {
                        run_dir: run_dir.to_owned(),
                        pid,
                        resources,
                    });
                }
                Presence::Runs { pid } => pid,
            };
            if begun.elapsed() >= limits.hello {
                // Who may only ask, and finds nobody to ask, is told that.
                let control = run_dir.join(SOCKET_NAME);
                if let Err(denied @ ClientError::Denied { .. }) =
                    connect(&control, run_dir, limits.hello)
                {
                    return Err(denied);
                }
                return Err(ClientError::Unreachable {
                    run_dir: run_dir.to_owned(),
                    pid,
                    waited: limits.hello,
                });
            }
            std::thread::sleep(RETRY);
        }
    }

    fn try_connect(run_dir: &Path, limits: Limits) -> Result<Client, ClientError> {
        let mut path = run_dir.join(SOCKET_NAME);
        let mut asks_only = false;
        let stream = match connect(&path, run_dir, limits.hello) {
            Err(denied @ ClientError::Denied { .. }) => {
                asks_only = true;
                let questions = run_dir.join(QUESTIONS_NAME);
                match connect(&questions, run_dir, limits.hello) {
                    Err(ClientError::Denied { .. }) => return Err(denied),
                    connected => {
                        path = questions;
                        connected?
                    }
                }
            }
            connected => connected?,
        };
        let unknown = Hello {
            protocol: 0,
            program: String::new(),
            version: String::new(),
            node: String::new(),
            pid: 0,
            instance: 0,
        };
        let mut client = Client {
            run_dir: run_dir.to_owned(),
            limits,
            path,
            stream: BufReader::new(stream),
            next_id: 0,
            hello: unknown,
            asks_only,
        };
        client.hello = client.call(Op::Hello { protocol: PROTOCOL })?;
        if client.hello.protocol != PROTOCOL {
            let Hello {
                protocol: theirs,
                pid,
                ..
            } = client.hello;
            return Err(ClientError::Version { theirs, pid });
        }
        Ok(client)
    }

    /// Whether it may only ask.
    pub fn asks_only(&self) -> bool {
        self.asks_only
    }

    /// Who answers.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Does one operation that has no report.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn run(&mut self, op: Op) -> Result<(), ClientError> {
        self.exchange(op).map(|_: Value| ())
    }

    /// Does one of the wait operations; false: the time was over. It goes on with a daemon that replaces this one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn wait(&mut self, mut op: Op) -> Result<bool, ClientError> {
        loop {
            let begun = Instant::now();
            match self.call::<WaitReport>(op.clone()) {
                Err(ClientError::Closed) => self.follow()?,
                done => return done.map(|report| report.reached),
            }
            op.has_waited(begun.elapsed());
        }
    }

    /// Connects to the daemon that replaces this one.
    pub(crate) fn follow(&mut self) -> Result<(), ClientError> {
        let begun = Instant::now();
        loop {
            match Client::connect_within(&self.run_dir, self.limits) {
                Ok(next) if next.hello.instance == self.hello.instance => {
                    return Err(ClientError::Closed);
                }
                Ok(next) => {
                    *self = next;
                    return Ok(());
                }
                // It has to bring up first what there was.
                Err(ClientError::Stuck { .. } | ClientError::Unreachable { .. })
                    if begun.elapsed() < REPLACING => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Does one operation and reads its report.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call<T: DeserializeOwned>(&mut self, op: Op) -> Result<T, ClientError> {
        let value = self.exchange(op)?;
        serde_json::from_value(value).map_err(|e| ClientError::BadReply {
            reason: e.to_string(),
        })
    }

    fn exchange(&mut self, op: Op) -> Result<Value, ClientError> {
        let is_hello = matches!(op, Op::Hello { .. });
        match self.try_exchange(op) {
            Err(ClientError::Closed) if !is_hello => Err(self.closed()),
            done => done,
        }
    }

    /// Why the socket was closed: whether there is a daemon still.
    fn closed(&self) -> ClientError {
        let begun = Instant::now();
        let limits = Limits {
            hello: RETRY,
            ..self.limits
        };
        let pid = self.pid();
        while begun.elapsed() < ENDING {
            match presence(&self.run_dir) {
                Presence::Nobody => return ClientError::Ended { pid },
                Presence::Left { pid, resources } => {
                    let run_dir = self.run_dir.clone();
                    return ClientError::Left {
                        run_dir,
                        pid,
                        resources,
                    };
                }
                // A process that is killed closes one thing after the other.
                Presence::Runs { .. } => {}
            }
            if Client::try_connect(&self.run_dir, limits).is_ok() {
                break;
            }
            std::thread::sleep(RETRY);
        }
        ClientError::Closed
    }

    fn try_exchange(&mut self, op: Op) -> Result<Value, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let is_hello = matches!(op, Op::Hello { .. });
        if self.asks_only && !is_hello && !op.is_question() {
            return Err(ClientError::AsksOnly { op: op.name() });
        }
        let limit = match is_hello {
            true => Some(self.limits.hello),
            false => self.limits.of(&op),
        };
        let begun = Instant::now();
        self.write(&Request { id, op })?;
        let mut line = Vec::new();
        while !self.read_some(&mut line, limit, begun)? {
            let waited = begun.elapsed();
            if is_hello {
                return Err(self.stuck(waited));
            }
            let is_over = limit.is_some_and(|limit| waited >= limit);
            let alive = Client::try_connect(&self.run_dir, self.limits);
            match alive {
                Err(ClientError::Stuck { waited, .. }) => return Err(self.stuck(waited)),
                // A daemon that is gone closes the socket, which is seen at once.
                _ if !is_over => {}
                _ => return self.give_up(id, line, limit.unwrap_or(waited)),
            }
        }
        Self::read_reply(id, &line)
    }

    fn write(&mut self, request: &Request) -> Result<(), ClientError> {
        let line = request.to_line();
        // What it does not take it will not answer either.
        let patience = Some(self.limits.hello.max(RETRY));
        let stream = self.stream.get_mut();
        let sent = stream
            .set_write_timeout(patience)
            .and_then(|()| stream.write_all(&line));
        match sent {
            Err(error) if is_timeout(&error) => Err(self.stuck(self.limits.hello)),
            other => other.map_err(|source| self.io(source)),
        }
    }

    /// Asks for a sign of life.
    pub(crate) fn is_alive(&self) -> Result<(), ClientError> {
        match Client::try_connect(&self.run_dir, self.limits) {
            Err(ClientError::Stuck { waited, .. }) => Err(self.stuck(waited)),
            // A daemon that is gone closes the socket, which is seen at once.
            _ => Ok(()),
        }
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    /// The lines that come.
    pub(crate) fn reader(&mut self) -> &mut BufReader<UnixStream> {
        &mut self.stream
    }

    /// The time is over: the daemon is told, and says what comes of that. What has been done meanwhile counts as done.
    fn give_up(
        &mut self,
        id: u64,
        mut line: Vec<u8>,
        waited: Duration,
    ) -> Result<Value, ClientError> {
        let pid = self.pid();
        let told = self.stream.get_ref().shutdown(Shutdown::Write).is_ok();
        let begun = Instant::now();
        let mut is_whole = false;
        while told && !is_whole && begun.elapsed() < TAKING_BACK {
            is_whole = self.read_some(&mut line, Some(TAKING_BACK), begun)?;
        }
        // This connection takes no more requests.
        if let Ok(fresh) = Client::try_connect(&self.run_dir, self.limits) {
            *self = fresh;
        }
        match Self::read_reply(id, &line) {
            Ok(value) => Ok(value),
            Err(ClientError::Error(text)) if text == TAKEN_BACK => {
                Err(ClientError::TakenBack { pid, waited })
            }
            Err(error @ (ClientError::Refused(_) | ClientError::Error(_))) => Err(error),
            Err(_) => Err(ClientError::TooLong { pid, waited }),
        }
    }

    /// Reads on until the line has its end, or the connection has. False: it is time to look whether the daemon lives.
    fn read_some(
        &mut self,
        line: &mut Vec<u8>,
        limit: Option<Duration>,
        begun: Instant,
    ) -> Result<bool, ClientError> {
        let rest = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
        let slice = rest.map_or(SIGN_OF_LIFE, |rest| rest.min(SIGN_OF_LIFE));
        // Zero would be for ever.
        let slice = Some(slice.max(Duration::from_millis(1)));
        let stream = self.stream.get_mut();
        stream
            .set_read_timeout(slice)
            .map_err(|source| self.io(source))?;
        let room = (REPLY_LINE_MAX as u64).saturating_sub(line.len() as u64);
        match (&mut self.stream).take(room).read_until(b'\n', line) {
            Ok(_) => Ok(true),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(source) => Err(self.io(source)),
        }
    }

    fn pid(&self) -> Option<u32> {
        match self.hello.pid {
            0 => presence::pid(&self.run_dir),
            pid => Some(pid),
        }
    }

    fn stuck(&self, waited: Duration) -> ClientError {
        ClientError::Stuck {
            pid: self.pid(),
            waited,
        }
    }

    /// What the daemon answers to a request.
    fn read_reply(id: u64, line: &[u8]) -> Result<Value, ClientError> {
        if line.is_empty() {
            return Err(ClientError::Closed);
        }
        if line.last() != Some(&b'\n') {
            return Err(ClientError::BadReply {
                reason: format!("{} bytes without a newline", line.len()),
            });
        }
        let reply: Reply = serde_json::from_slice(line).map_err(|e| ClientError::BadReply {
            reason: e.to_string(),
        })?;
        if reply.id != id {
            return Err(ClientError::BadReply {
                reason: format!("it answers request {}, not {id}", reply.id),
            });
        }
        match reply.body {
            ReplyBody::Ok(value) => Ok(value),
            ReplyBody::Refused(refusal) => Err(ClientError::Refused(refusal)),
            ReplyBody::Error(text) => Err(ClientError::Error(text)),
        }
    }

    pub(crate) fn io(&self, source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Closed,
            _ => ClientError::Io {
                path: self.path.clone(),
                source,
            },
        }
    }
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Connects to a socket. A stopped daemon that many have called already takes no more calls: who calls then would wait for
/// ever, so it is done on a thread of its own.
fn connect(path: &Path, run_dir: &Path, limit: Duration) -> Result<UnixStream, ClientError> {
    let (done, connected) = mpsc::channel();
    let at = path.to_owned();
    let called = std::thread::Builder::new()
        .name("connect".into())
        .spawn(move || _ = done.send(UnixStream::connect(at)));
    let answer = match called {
        Ok(_) => connected.recv_timeout(limit.max(RETRY)),
        Err(_) => Ok(UnixStream::connect(path)),
    };
    let Ok(stream) = answer else {
        return Err(ClientError::Stuck {
            pid: presence::pid(run_dir),
            waited: limit,
        });
    };
    stream.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon {
            run_dir: run_dir.to_owned(),
        },
        io::ErrorKind::PermissionDenied => ClientError::Denied {
            path: path.to_owned(),
        },
        _ => ClientError::Io {
            path: path.to_owned(),
            source,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A daemon that answers each line with the next of `answers`, then closes.
    fn daemon(answers: &'static [&'static str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream);
            for answer in answers {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                Request::parse(line.as_bytes()).unwrap();
                lines.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        dir
    }

    const HELLO: &str = "{\"id\":0,\"ok\":{\"protocol\":1,\"program\":\"rdbd\",\"version\":\"1\",\"node\":\"a\",\"pid\":1}}\n";

    #[test]
    fn a_missing_daemon_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Client::connect(dir.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no rdbd runs in {}", dir.path().display())
        );
    }

    /// Limits that a test waits for.
    fn short() -> Limits {
        Limits::default().with_timeout(1)
    }

    #[test]
    fn a_daemon_that_says_nothing_is_stuck_whatever_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
        std::fs::write(dir.path().join(presence::PID_NAME), "1\n").unwrap();
        let begun = Instant::now();
        let error = Client::connect_within(dir.path(), short()).unwrap_err();
        assert!(error.is_in_the_dark(), "{error}");
        let words = "rdbd (pid 1) has given no sign of life for 1 s: ";
        assert!(error.to_string().starts_with(words), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_daemon_that_lives_and_does_not_get_done_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut lines = BufReader::new(stream.unwrap());
                lines.read_line(&mut String::new()).unwrap();
                lines.get_mut().write_all(HELLO.as_bytes()).unwrap();
                kept.push(lines);
            }
        });
        let mut client = Client::connect_within(dir.path(), short()).unwrap();
        let error = client.run(Op::Status).unwrap_err();
        assert!(!error.is_in_the_dark(), "{error}");
        assert!(
            error
                .to_string()
                .contains("not done within 1 s; rdbd (pid 1)"),
            "{error}"
        );
    }

    #[test]
    fn a_daemon_without_its_socket_and_a_dead_one_are_no_empty_house() {
        let dir = tempfile::tempdir().unwrap();
        let holder = std::fs::File::open(dir.path()).unwrap();
        holder.try_lock().unwrap();
        let error = Client::connect_within(dir.path(), short()).unwrap_err();
        assert!(error.is_in_the_dark(), "{error}");
        assert!(error.to_string().contains("can not be reached"), "{error}");
        drop(holder);
        std::fs::write(dir.path().join(presence::RECORD_NAME), "torn").unwrap();
        let error = Client::connect_within(dir.path(), short()).unwrap_err();
        assert!(error.is_in_the_dark(), "{error}");
        assert!(error.to_string().contains("has left resources"), "{error}");
    }

    #[test]
    fn another_version_is_refused() {
        let dir = daemon(&[
            "{\"id\":0,\"ok\":{\"protocol\":9,\"program\":\"rdbd\",\"version\":\"9\",\"node\":\"a\",\"pid\":7}}\n",
        ]);
        let error = Client::connect(dir.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rdbd (pid 7) speaks control protocol 9, this command speaks 1; restart rdbd"
        );
    }

    #[test]
    fn a_refusal_arrives_with_number_and_words() {
        let dir = daemon(&[
            HELLO,
            "{\"id\":1,\"refused\":{\"code\":-2,\"text\":\"Need access to UpToDate data\"}}\n",
        ]);
        let mut client = Client::connect(dir.path()).unwrap();
        match client.run(Op::Primary {
            minor: 0,
            force: false,
        }) {
            Err(ClientError::Refused(refusal)) => assert_eq!(refusal, Refusal::state(-2)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_socket_that_is_closed_says_what_has_become_of_the_daemon() {
        let dir = daemon(&[HELLO]);
        std::fs::write(dir.path().join(presence::RECORD_NAME), "torn").unwrap();
        let mut client = Client::connect(dir.path()).unwrap();
        let error = client.run(Op::Status).unwrap_err();
        assert!(error.is_in_the_dark(), "{error}");
        assert!(error.to_string().contains("has left resources"), "{error}");

        let dir = daemon(&[HELLO]);
        let holder = std::fs::File::open(dir.path()).unwrap();
        holder.try_lock().unwrap();
        let mut client = Client::connect(dir.path()).unwrap();
        let error = client.run(Op::Status).unwrap_err();
        assert!(matches!(error, ClientError::Closed), "{error}");
    }

    #[test]
    fn a_daemon_that_dies_or_talks_nonsense_is_an_error() {
        for (answer, words) in [
            (&[HELLO][..], "has ended before it answered"),
            (&[HELLO, "{\"id\":1}\n"], "not understood"),
            (
                &[HELLO, "{\"id\":5,\"ok\":null}\n"],
                "it answers request 5, not 1",
            ),
            (&[HELLO, "{\"id\":1,\"ok\":nu"], "without a newline"),
        ] {
            let dir = daemon(answer);
            let mut client = Client::connect(dir.path()).unwrap();
            let error = client.run(Op::Status).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
