//! A blocking client.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::op::{Op, Reply, ReplyBody, Request};
use crate::refusal::Refusal;
use crate::report::{GiReport, Hello, ResourceShown, StatusReport, WaitReport};
use crate::{PROTOCOL, REPLY_LINE_MAX, SOCKET_NAME};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens in that run directory.
    #[error("no rdbd runs in {}", run_dir.display())]
    NoDaemon {
        /// The run directory.
        run_dir: PathBuf,
    },
    /// The socket is there and may not be used.
    #[error("can not use {}: permission denied; only root may", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The socket failed.
    #[error("control socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The daemon went away before it answered.
    #[error("rdbd closed the control socket before it answered")]
    Closed,
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

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    next_id: u64,
    hello: Hello,
}

impl Client {
    /// Connects to the daemon of a run directory.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] if none listens there; [`ClientError::Version`] if it is of another build.
    pub fn connect(run_dir: &Path) -> Result<Client, ClientError> {
        let path = run_dir.join(SOCKET_NAME);
        let stream = UnixStream::connect(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon {
                run_dir: run_dir.to_owned(),
            },
            io::ErrorKind::PermissionDenied => ClientError::Denied { path: path.clone() },
            _ => ClientError::Io {
                path: path.clone(),
                source,
            },
        })?;
        let unknown = Hello {
            protocol: 0,
            program: String::new(),
            version: String::new(),
            node: String::new(),
            pid: 0,
            instance: 0,
        };
        let mut client = Client {
            path,
            stream: BufReader::new(stream),
            next_id: 0,
            hello: unknown,
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

    /// What there is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<StatusReport, ClientError> {
        self.call(Op::Status)
    }

    /// How it is configured.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn show(&mut self) -> Result<Vec<ResourceShown>, ClientError> {
        self.call(Op::Show)
    }

    /// Generation identifiers of an attached volume.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn generation(&mut self, minor: u32) -> Result<GiReport, ClientError> {
        self.call(Op::GetGi { minor })
    }

    /// Does one of the wait operations; false: the time was over.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn wait(&mut self, op: Op) -> Result<bool, ClientError> {
        self.call::<WaitReport>(op).map(|report| report.reached)
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
        let id = self.next_id;
        self.next_id += 1;
        let line = Request { id, op }.to_line();
        self.stream
            .get_mut()
            .write_all(&line)
            .map_err(|source| self.io(source))?;
        let mut line = Vec::new();
        (&mut self.stream)
            .take(REPLY_LINE_MAX as u64)
            .read_until(b'\n', &mut line)
            .map_err(|source| self.io(source))?;
        if line.is_empty() {
            return Err(ClientError::Closed);
        }
        if line.last() != Some(&b'\n') {
            return Err(ClientError::BadReply {
                reason: format!("{} bytes without a newline", line.len()),
            });
        }
        let reply: Reply = serde_json::from_slice(&line).map_err(|e| ClientError::BadReply {
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

    fn io(&self, source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Closed,
            _ => ClientError::Io {
                path: self.path.clone(),
                source,
            },
        }
    }
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
    fn a_daemon_that_dies_or_talks_nonsense_is_an_error() {
        for (answer, words) in [
            (&[HELLO][..], "closed the control socket"),
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
