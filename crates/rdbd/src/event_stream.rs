//! The stream of what happens, to one client (`rdb_control::Event`).

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rdb_control::{Event, Op, REQUEST_LINE_MAX, Reply, ReplyBody, Request, Told};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use crate::events::{Listener, Waiting, What, now_us};
use crate::node::Node;
use crate::status::OVERVIEW_TIMEOUT;

/// A stream: what its client has asked for, and what it is still to be told of what there is.
pub(crate) struct Stream {
    node: Rc<Node>,
    listener: Arc<Listener>,
    has_figures: bool,
    /// Resources that have been asked how they are and have not said so.
    asked: BTreeSet<String>,
    /// When those that have not said so are taken for such that do not answer. `None`: all has been told.
    deadline: Option<Instant>,
    /// The client asks for nothing more: it goes when it has been told what it has asked for.
    is_leaving: bool,
}

impl Stream {
    /// A stream of this resource, or of all.
    pub(crate) fn new(node: &Rc<Node>, only: Option<String>, has_figures: bool) -> Stream {
        Stream {
            listener: node.events.listen(only),
            node: Rc::clone(node),
            has_figures,
            asked: BTreeSet::new(),
            deadline: None,
            is_leaving: false,
        }
    }

    /// Tells what there is, then what happens, until the client goes. `stalls` is told when the client takes nothing of what it is
    /// sent, and when it does again.
    pub(crate) async fn run(
        mut self,
        stream: &mut BufReader<UnixStream>,
        id: u64,
        stalls: &dyn Fn(bool),
    ) -> io::Result<()> {
        answer(stream, id, stalls).await?;
        self.begin();
        let mut request = Vec::new();
        loop {
            self.tell_what_waits(stream, stalls).await?;
            let deadline = self.deadline;
            if self.is_leaving && deadline.is_none() {
                return Ok(());
            }
            let room = REQUEST_LINE_MAX.saturating_sub(request.len());
            let mut limited = (&mut *stream).take(room as u64);
            tokio::select! {
                () = self.listener.woken.notified() => {}
                () = async {
                    match deadline {
                        Some(deadline) => sleep_until(deadline).await,
                        None => std::future::pending().await,
                    }
                } => self.give_up_on_silent(stream, stalls).await?,
                // What was read before something else came is kept, and counts for the longest line. The next request has its turn when all has been
                // told that the one before it has asked for.
                read = limited.read_until(b'\n', &mut request), if !self.is_leaving && deadline.is_none() => {
                    read?;
                    let line = std::mem::take(&mut request);
                    match Request::parse(&line) {
                        Ok(Request { id, op: Op::Events { .. } }) => {
                            self.tell_what_waits(stream, stalls).await?;
                            answer(stream, id, stalls).await?;
                            self.begin();
                        }
                        _ if line.is_empty() => self.is_leaving = true,
                        // Whoever wants something else connects anew for that.
                        _ => return Ok(()),
                    }
                }
            }
        }
    }

    /// Asks all resources how they are.
    fn begin(&mut self) -> u64 {
        let lost = self.listener.begin();
        self.asked.clear();
        for target in self.node.all() {
            if !self.listener.wants(&target.name) {
                continue;
            }
            let (listener, name) = (Arc::clone(&self.listener), target.name.clone());
            target
                .handle
                .status(Box::new(move |status| listener.push_status(&name, status)));
            self.asked.insert(target.name);
        }
        self.deadline = Some(Instant::now() + OVERVIEW_TIMEOUT);
        lost
    }

    async fn tell_what_waits(
        &mut self,
        stream: &mut BufReader<UnixStream>,
        stalls: &dyn Fn(bool),
    ) -> io::Result<()> {
        loop {
            if self.listener.is_overrun() {
                let count = self.begin();
                let skipped = Event::Skipped { count };
                write(stream, now_us(), skipped, stalls).await?;
            }
            if self.asked.is_empty() && self.deadline.take().is_some() {
                write(stream, now_us(), Event::Complete, stalls).await?;
            }
            let Some(Waiting { at_us, what }) = self.listener.pop() else {
                // (Something may have been lost just now.)
                if self.listener.is_overrun() {
                    continue;
                }
                return Ok(());
            };
            if let Some(event) = self.event(what).await {
                write(stream, at_us, event, stalls).await?;
            }
        }
    }

    async fn event(&mut self, what: What) -> Option<Event> {
        match what {
            What::Status(name, status) => {
                self.asked.remove(&name);
                let resource = Box::new(self.node.report(&name, &status));
                Some(Event::Resource { resource })
            }
            What::Stopped(name) => self.failed(&name),
            What::Event(mut event) => {
                match &mut event {
                    Event::Removed { resource } => _ = self.asked.remove(resource),
                    Event::Changed {
                        resource, figures, ..
                    } if self.has_figures => *figures = self.figures(resource).await,
                    _ => {}
                }
                Some(event)
            }
        }
    }

    /// How a resource is by now.
    async fn figures(&self, name: &str) -> Option<Box<rdb_control::ResourceReport>> {
        let target = self.node.resource(name).ok()?;
        let (reply, answer) = oneshot::channel();
        target
            .handle
            .status(Box::new(move |status| _ = reply.send(status)));
        let status = timeout(OVERVIEW_TIMEOUT, answer).await.ok()?.ok()?;
        Some(Box::new(self.node.report(name, &status)))
    }

    fn failed(&self, name: &str) -> Option<Event> {
        let target = self.node.resource(name).ok()?;
        let resource = Box::new(self.node.failed(&target)?);
        Some(Event::Resource { resource })
    }

    /// Those that have not said how they are.
    async fn give_up_on_silent(
        &mut self,
        stream: &mut BufReader<UnixStream>,
        stalls: &dyn Fn(bool),
    ) -> io::Result<()> {
        for name in std::mem::take(&mut self.asked) {
            if let Some(event) = self.failed(&name) {
                write(stream, now_us(), event, stalls).await?;
            }
        }
        Ok(())
    }
}

async fn answer(
    stream: &mut BufReader<UnixStream>,
    id: u64,
    stalls: &dyn Fn(bool),
) -> io::Result<()> {
    let body = ReplyBody::Ok(serde_json::Value::Null);
    write_line(stream, &Reply { id, body }.to_line(), stalls).await
}

async fn write(
    stream: &mut BufReader<UnixStream>,
    at_us: u64,
    event: Event,
    stalls: &dyn Fn(bool),
) -> io::Result<()> {
    let told = Told { at_us, event };
    let mut line = serde_json::to_vec(&told).expect("values with string keys");
    line.push(b'\n');
    write_line(stream, &line, stalls).await
}

/// Writes a line, however long the client takes to accept it: what waits for it has a bound. One that takes nothing has to make room
/// when others come.
async fn write_line(
    stream: &mut BufReader<UnixStream>,
    line: &[u8],
    stalls: &dyn Fn(bool),
) -> io::Result<()> {
    let mut written = std::pin::pin!(stream.get_mut().write_all(line));
    match timeout(crate::server::ANSWER, written.as_mut()).await {
        Ok(written) => written,
        Err(_) => {
            stalls(true);
            let written = written.await;
            stalls(false);
            written
        }
    }
}
