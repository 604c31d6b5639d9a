//! The control socket and the one for questions: who may ask, and lines in and out.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rdb_control::{
    BadRequest, Hello, Op, PROTOCOL, QUESTIONS_NAME, REQUEST_LINE_MAX, Reply, ReplyBody, Request,
    SOCKET_NAME,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::askers::{self, Askers};
use crate::caller::Caller;
use crate::event_stream::Stream;
use crate::node::Node;
use crate::open_files;
use crate::outcome::{Failure, Outcome};
use crate::questions;

/// Connections of one user; for one more, that one ends which has been idle the longest.
const USER_CONNECTIONS_MAX: usize = 64;
/// Connections of all users of one socket; for one more, that one ends which has been idle the longest.
const CONNECTIONS_MAX: usize = 256;
/// Streams of events of one user, and of all: they last, and take nobody's turn who asks.
const USER_STREAMS_MAX: usize = 32;
const STREAMS_MAX: usize = 128;
/// How long a client may take for its next request.
const IDLE: Duration = Duration::from_secs(300);
/// How long a client may take to accept an answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// How often it is looked whether a client that waits is still there.
const HUNG_UP_LOOK: Duration = Duration::from_millis(50);
/// How often the daemon looks whether its files are there.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Who is connected.
#[derive(Debug, Default)]
struct Clients {
    all: RefCell<Vec<Rc<Client>>>,
}

/// A connection.
#[derive(Debug)]
struct Client {
    user: u32,
    /// Since when it has asked nothing; `None` while it is served.
    idle: Cell<Option<Instant>>,
    /// It is told what happens, until it goes: it counts among the streams alone. Its `idle` says since when it takes nothing.
    is_stream: Cell<bool>,
    /// Told when it has to make room.
    go: Notify,
}

impl Clients {
    /// Takes a new one in. `None`: all of this user's connections, or all of everybody's, are being served.
    fn enter(&self, user: u32) -> Option<Rc<Client>> {
        let mut all = self.all.borrow_mut();
        let asking = all.iter().filter(|client| !client.is_stream.get());
        let is_full = asking.clone().count() >= CONNECTIONS_MAX;
        let of_user = asking.filter(|client| is_full || client.user == user);
        if of_user.clone().count() >= USER_CONNECTIONS_MAX {
            let idle = of_user.filter(|client| client.idle.get().is_some());
            let oldest = idle.min_by_key(|client| client.idle.get()).cloned()?;
            oldest.go.notify_one();
            all.retain(|client| !Rc::ptr_eq(client, &oldest));
        }
        let client = Rc::new(Client {
            user,
            idle: Cell::new(Some(Instant::now())),
            is_stream: Cell::new(false),
            go: Notify::new(),
        });
        all.push(Rc::clone(&client));
        Some(client)
    }

    /// Makes a client one that is told what happens; false if there are as many as may be. One that takes nothing makes room.
    fn begin_stream(&self, client: &Client) -> bool {
        let all = self.all.borrow();
        let streams = all.iter().filter(|other| other.is_stream.get());
        let is_full = streams.clone().count() >= STREAMS_MAX;
        let of_user = streams.filter(|other| is_full || other.user == client.user);
        if is_full || of_user.clone().count() >= USER_STREAMS_MAX {
            let stalled = of_user.filter(|other| other.idle.get().is_some());
            let Some(oldest) = stalled.min_by_key(|other| other.idle.get()) else {
                return false;
            };
            oldest.go.notify_one();
        }
        client.is_stream.set(true);
        true
    }

    fn leave(&self, client: &Rc<Client>) {
        self.all
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(client, other));
    }
}

/// What a socket is for.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Everything; for the owner and root.
    Administer,
    /// Questions; for these.
    Ask(Askers),
}

impl Access {
    fn name(&self) -> &'static str {
        match self {
            Access::Administer => SOCKET_NAME,
            Access::Ask(_) => QUESTIONS_NAME,
        }
    }
}

/// A socket, bound, and closed to all but those that it is for.
#[derive(Debug)]
pub(crate) struct Server {
    access: Access,
    path: PathBuf,
    listener: UnixListener,
    owner: u32,
    /// The socket's file: device and inode.
    file: (u64, u64),
}

impl Server {
    /// Binds the socket of a run directory whose lock is held: what lies there is a dead daemon's.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub(crate) fn bind(run_dir: &Path, access: Access) -> io::Result<Server> {
        let path = run_dir.join(access.name());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        match &access {
            Access::Administer => {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            }
            Access::Ask(askers) => askers::open(&listener, &path, askers)?,
        }
        let made = std::fs::symlink_metadata(&path)?;
        Ok(Server {
            access,
            path,
            listener: UnixListener::from_std(listener)?,
            // It is ours, so this is who we are.
            owner: made.uid(),
            file: (made.dev(), made.ino()),
        })
    }

    /// Makes the socket anew if its file is not there any more: without it nobody finds us.
    fn restore(&mut self) {
        let there = std::fs::symlink_metadata(&self.path);
        if there.is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            return;
        }
        let Some(run_dir) = self.path.parent() else {
            return;
        };
        // A directory that is gone is made anew by its guard, and then it is tried again.
        if let Ok(new) = Server::bind(run_dir, self.access.clone()) {
            tracing::warn!("{} was removed: made anew", self.path.display());
            *self = new;
        }
    }

    /// The user who calls, if he may.
    fn user(&self, stream: &UnixStream) -> Option<u32> {
        match stream.peer_cred() {
            // The kernel has let nobody else in.
            Ok(peer) if matches!(self.access, Access::Ask(_)) => Some(peer.uid()),
            Ok(peer) if peer.uid() == 0 || peer.uid() == self.owner => Some(peer.uid()),
            Ok(peer) => {
                tracing::warn!("control socket: user {} is refused", peer.uid());
                None
            }
            Err(error) => {
                tracing::warn!("{}: who is it? {error}", self.access.name());
                None
            }
        }
    }

    /// Serves clients for ever.
    pub(crate) async fn run(mut self, node: Rc<Node>) {
        let name = self.access.name();
        let asks_only = matches!(self.access, Access::Ask(_));
        let clients = Rc::new(Clients::default());
        let mut look = tokio::time::interval(LOOK);
        // It has been logged that nobody can be heard.
        let mut is_deaf = false;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = look.tick() => {
                    self.restore();
                    continue;
                }
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if !std::mem::replace(&mut is_deaf, true) {
                        tracing::warn!("{name}: clients have to wait: {error}");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if std::mem::take(&mut is_deaf) {
                tracing::info!("{name}: clients are heard again");
            }
            let Some(user) = self.user(&stream) else {
                continue;
            };
            let Some(client) = clients.enter(user) else {
                tracing::debug!("{name}: too many requests are under way, of user {user}");
                continue;
            };
            let (node, clients) = (Rc::clone(&node), Rc::clone(&clients));
            tokio::task::spawn_local(async move {
                if let Err(error) = serve(stream, &client, &clients, &node, asks_only).await {
                    tracing::debug!("{name}: {error}");
                }
                clients.leave(&client);
            });
        }
    }
}

/// One client, until it goes.
async fn serve(
    stream: UnixStream,
    client: &Client,
    clients: &Clients,
    node: &Rc<Node>,
    asks_only: bool,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut greeted = false;
    loop {
        let mut line = Vec::new();
        client.idle.set(Some(Instant::now()));
        let mut limited = (&mut stream).take(REQUEST_LINE_MAX as u64);
        tokio::select! {
            read = limited.read_until(b'\n', &mut line) => {
                read?;
            }
            () = client.go.notified() => return Ok(()),
            () = tokio::time::sleep(IDLE) => return Ok(()),
        }
        client.idle.set(None);
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            let text = format!("a request is a line of at most {REQUEST_LINE_MAX} bytes");
            return answer(&mut stream, &refusal(0, text)).await;
        }
        let reply = match Request::parse(&line) {
            Err(error) => bad_request(&error),
            Ok(Request {
                id,
                op: Op::Hello { protocol },
            }) => {
                greeted = protocol == PROTOCOL;
                Reply {
                    id,
                    body: ReplyBody::Ok(hello(node)),
                }
            }
            Ok(Request { id, .. }) if !greeted => {
                let text = format!("say hello first, with protocol {PROTOCOL}");
                refusal(id, text)
            }
            Ok(Request {
                id,
                op: Op::Events { resource, figures },
            }) => {
                if !clients.begin_stream(client) {
                    return answer(&mut stream, &too_many_streams(id)).await;
                }
                let events = Stream::new(node, resource, figures);
                let stalls = |stalls: bool| client.idle.set(stalls.then(Instant::now));
                return tokio::select! {
                    done = events.run(&mut stream, id, &stalls) => done,
                    () = client.go.notified() => Ok(()),
                };
            }
            Ok(Request { id, op }) => {
                let work = async {
                    match op {
                        op if asks_only => questions::answer(node, op).await,
                        // What has begun to be handed over can not be taken back.
                        Op::Restart { program, force } => node.restart(program, force).await,
                        op => node.perform(op).await,
                    }
                };
                let caller = Rc::new(Caller::default());
                let mut work = std::pin::pin!(Rc::clone(&caller).served(work));
                let done = tokio::select! {
                    done = &mut work => done,
                    () = hung_up(stream.get_ref()) => {
                        // It is taken back as far as it can be. A client that has run out of patience still hears of that.
                        caller.leave();
                        let done = work.await;
                        return answer(&mut stream, &reply_to(id, done)).await;
                    }
                };
                reply_to(id, done)
            }
        };
        answer(&mut stream, &reply).await?;
    }
}

/// The request is none that can be done.
fn refusal(id: u64, text: String) -> Reply {
    let body = ReplyBody::Error(text);
    Reply { id, body }
}

fn too_many_streams(id: u64) -> Reply {
    let text = format!(
        "{USER_STREAMS_MAX} streams of events of this user, or {STREAMS_MAX} of all, are under way"
    );
    refusal(id, text)
}

fn reply_to(id: u64, done: Outcome<serde_json::Value>) -> Reply {
    let body = match done {
        Ok(value) => ReplyBody::Ok(value),
        Err(Failure::Refused(mut refusal)) => {
            refusal.info = open_files::named(&refusal.info).into_owned();
            ReplyBody::Refused(refusal)
        }
        Err(Failure::Error(text)) => ReplyBody::Error(open_files::named(&text).into_owned()),
    };
    Reply { id, body }
}

/// Writes an answer to a client that may take it or not.
async fn answer(stream: &mut BufReader<UnixStream>, reply: &Reply) -> io::Result<()> {
    let line = reply.to_line();
    let written = timeout(ANSWER, stream.get_mut().write_all(&line)).await;
    written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn bad_request(error: &BadRequest) -> Reply {
    refusal(error.id(), error.to_string())
}

fn hello(node: &Node) -> serde_json::Value {
    let hello = Hello {
        protocol: PROTOCOL,
        program: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: node.name.clone(),
        pid: std::process::id(),
        instance: node.instance,
    };
    serde_json::to_value(hello).expect("plain values")
}

/// Ends when the client has closed its end, or has ended.
async fn hung_up(stream: &UnixStream) {
    loop {
        match stream.ready(Interest::READABLE | Interest::WRITABLE).await {
            Ok(ready) if ready.is_read_closed() || ready.is_write_closed() => return,
            Err(_) => return,
            // It is there, and may have sent its next request already.
            Ok(_) => tokio::time::sleep(HUNG_UP_LOOK).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_more_puts_the_idlest_out_of_the_user_and_in_the_end_of_all() {
        let clients = Clients::default();
        let first = clients.enter(1).expect("there is room");
        for _ in 1..USER_CONNECTIONS_MAX {
            clients.enter(1).expect("there is room");
        }
        // The user's own one goes, not somebody else's.
        let other = clients.enter(2).expect("there is room");
        clients.enter(1).expect("an idle one makes room");
        first.go.notified().await;
        for user in 3.. {
            if clients.all.borrow().len() == CONNECTIONS_MAX {
                break;
            }
            clients.enter(user).expect("there is room");
        }
        for client in &*clients.all.borrow() {
            client.idle.set(None);
        }
        assert!(clients.enter(9_999).is_none(), "all are being served");
        other.idle.set(Some(Instant::now()));
        clients.enter(9_999).expect("an idle one makes room");
        other.go.notified().await;
        assert_eq!(clients.all.borrow().len(), CONNECTIONS_MAX);
    }

    #[tokio::test]
    async fn streams_take_nobodys_turn_and_one_that_stalls_makes_room() {
        let clients = Clients::default();
        let stream = |user| {
            let client = clients.enter(user).expect("there is room");
            client.idle.set(None);
            clients.begin_stream(&client).then_some(client)
        };
        let first = stream(1).expect("there is room");
        for _ in 1..USER_STREAMS_MAX {
            stream(1).expect("there is room");
        }
        assert!(stream(1).is_none(), "as many as may be");
        stream(2).expect("another user's");
        first.idle.set(Some(Instant::now()));
        stream(1).expect("one that takes nothing makes room");
        first.go.notified().await;
        // Whoever asks has as much room as ever.
        for _ in 0..USER_CONNECTIONS_MAX {
            clients.enter(1).expect("there is room");
        }
    }
}
