//! A client's end of the stream of events.

use std::io::{self, BufRead, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::REPLY_LINE_MAX;
use crate::client::{Client, ClientError, SIGN_OF_LIFE, is_timeout};
use crate::events::Told;
use crate::op::{Op, Request};

/// What happens to resources, as the daemon tells it.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    op: Op,
    /// The line that is being read.
    line: Vec<u8>,
    /// When the daemon was heard of last.
    heard: Instant,
}

/// Asks for more of a stream than what happens.
#[derive(Debug)]
pub struct Asker {
    stream: UnixStream,
    request: Request,
}

impl Asker {
    /// Has everything told anew, behind what has happened until the daemon hears of it.
    ///
    /// # Errors
    /// When the daemon takes nothing any more.
    pub fn again(&mut self) -> io::Result<()> {
        // (Answers stand among the events, and are passed over whatever their number is.)
        self.stream.write_all(&self.request.to_line())
    }

    /// Has the stream end once all that was asked for is told.
    pub fn enough(&self) {
        // One that has ended needs no telling.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

impl EventStream {
    /// Begins to listen: to this resource, or to all; changes of state come with figures, or without.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn open(
        mut client: Client,
        resource: Option<String>,
        figures: bool,
    ) -> Result<EventStream, ClientError> {
        let op = Op::Events { resource, figures };
        client.run(op.clone())?;
        Ok(EventStream {
            client,
            op,
            line: Vec::new(),
            heard: Instant::now(),
        })
    }

    /// What asks on behalf of this stream, on another thread.
    ///
    /// # Errors
    /// If there is no file descriptor to be had.
    pub fn asker(&self) -> Result<Asker, ClientError> {
        let stream = self.client.stream().try_clone();
        Ok(Asker {
            stream: stream.map_err(|source| self.client.io(source))?,
            request: Request {
                id: 0,
                op: self.op.clone(),
            },
        })
    }

    /// What happens next; `None` if nothing does for so long.
    ///
    /// # Errors
    /// [`ClientError::Closed`] when the daemon ends, or is replaced; [`ClientError::Stuck`] when it gives no sign of life.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Told>, ClientError> {
        let begun = Instant::now();
        loop {
            let rest = patience.saturating_sub(begun.elapsed());
            // Zero would be for ever.
            let slice = rest.min(SIGN_OF_LIFE).max(Duration::from_millis(1));
            let stream = self.client.reader();
            let set = stream.get_ref().set_read_timeout(Some(slice));
            set.map_err(|source| self.client.io(source))?;
            let room = (REPLY_LINE_MAX as u64).saturating_sub(self.line.len() as u64);
            match self
                .client
                .reader()
                .take(room)
                .read_until(b'\n', &mut self.line)
            {
                Ok(_) if self.line.is_empty() => return Err(ClientError::Closed),
                Ok(_) => {
                    self.heard = Instant::now();
                    let line = std::mem::take(&mut self.line);
                    if let Some(told) = self.read(&line)? {
                        return Ok(Some(told));
                    }
                }
                Err(error) if is_timeout(&error) => {
                    self.look()?;
                    if begun.elapsed() >= patience {
                        return Ok(None);
                    }
                }
                Err(source) => return Err(self.client.io(source)),
            }
        }
    }

    /// An event; `None`: the answer to a request.
    fn read(&self, line: &[u8]) -> Result<Option<Told>, ClientError> {
        if line.last() != Some(&b'\n') {
            return Err(ClientError::Closed);
        }
        let not_understood = |error: serde_json::Error| ClientError::BadReply {
            reason: error.to_string(),
        };
        let value: serde_json::Value = serde_json::from_slice(line).map_err(not_understood)?;
        if value.get("id").is_some() {
            return Ok(None);
        }
        serde_json::from_value(value)
            .map(Some)
            .map_err(not_understood)
    }

    /// Whether a daemon that has said nothing for long is alive.
    fn look(&mut self) -> Result<(), ClientError> {
        if self.heard.elapsed() < SIGN_OF_LIFE {
            return Ok(());
        }
        self.client.is_alive()?;
        self.heard = Instant::now();
        Ok(())
    }

    /// Listens to the daemon that replaces this one.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Ended`] or [`ClientError::NoDaemon`] if none does.
    pub fn follow(self) -> Result<EventStream, ClientError> {
        let Op::Events { resource, figures } = self.op else {
            return Err(ClientError::Closed);
        };
        let mut client = self.client;
        client.follow()?;
        EventStream::open(client, resource, figures)
    }
}

impl Client {
    /// What happens to resources: to this one, or to all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn events(
        self,
        resource: Option<String>,
        figures: bool,
    ) -> Result<EventStream, ClientError> {
        EventStream::open(self, resource, figures)
    }
}
