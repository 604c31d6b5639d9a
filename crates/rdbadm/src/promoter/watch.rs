//! How the resource is: the daemon's events say when to look, and its answers how it is.

use std::time::{Duration, Instant};

use rdb_control::{Client, ClientError, EventStream, Limits};

use super::facts::{Facts, World};

/// How long what was read counts if nothing is told: a device, or a takeover, changes without an event.
const FRESH: Duration = Duration::from_secs(2);
/// Events of one moment that are answered by one look.
const BURST: u32 = 100;
const AT_ONCE: Duration = Duration::from_millis(1);

/// A resource that is watched.
#[derive(Debug)]
pub(crate) struct Watch {
    run_dir: std::path::PathBuf,
    limits: Limits,
    /// The node whose daemon it has to be.
    node: String,
    resource: String,
    stream: Option<EventStream>,
    client: Option<Client>,
    world: World,
    read_at: Option<Instant>,
    /// What was said of the daemon last, so that it is not said twice.
    said: Option<String>,
}

impl Watch {
    pub(crate) fn new(
        run_dir: &std::path::Path,
        limits: Limits,
        node: &str,
        resource: &str,
    ) -> Watch {
        Watch {
            run_dir: run_dir.to_owned(),
            limits,
            node: node.to_owned(),
            resource: resource.to_owned(),
            stream: None,
            client: None,
            world: World::NoDaemon,
            read_at: None,
            said: None,
        }
    }

    /// How the resource was when it was looked at last.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// What is wrong with the daemon, if that is new.
    pub(crate) fn complaint(&mut self) -> Option<String> {
        self.said
            .take_if(|said| !said.is_empty())
            .inspect(|_| self.said = Some(String::new()))
    }

    /// Waits until something happens, and no longer than that; then it is known how the resource is.
    pub(crate) fn wait(&mut self, patience: Duration) {
        let Some(stream) = &mut self.stream else {
            self.open();
            if self.stream.is_none() {
                std::thread::sleep(patience);
            }
            return;
        };
        match stream.next(patience) {
            Ok(None) => {
                if self.read_at.is_none_or(|at| at.elapsed() >= FRESH) {
                    self.read();
                }
            }
            Ok(Some(_)) => {
                // What belongs together comes together.
                let mut more = (0..BURST).map(|_| stream.next(AT_ONCE));
                if more.by_ref().any(|next| !matches!(next, Ok(Some(_)))) {
                    self.read();
                }
            }
            Err(ClientError::Closed) => {
                self.client = None;
                // A daemon that takes the place of this one has the same resources; until it answers nothing has changed.
                self.stream = self.stream.take().and_then(|stream| stream.follow().ok());
                self.read();
            }
            Err(error) => {
                self.lost(&error);
                std::thread::sleep(patience);
            }
        }
    }

    /// Looks how the resource is.
    pub(crate) fn read(&mut self) {
        match self.ask() {
            Ok(world) => {
                self.world = world;
                self.read_at = Some(Instant::now());
            }
            Err(error) => self.lost(&error),
        }
    }

    fn open(&mut self) {
        let opened = Client::connect_within(&self.run_dir, self.limits)
            .and_then(|client| self.meant(client))
            .and_then(|client| client.events(None, false));
        match opened {
            Ok(stream) => {
                self.stream = Some(stream);
                self.said = None;
                self.read();
            }
            Err(error) => self.lost(&error),
        }
    }

    /// The daemon of another node says nothing of this one.
    fn meant(&self, client: Client) -> Result<Client, ClientError> {
        let node = &client.hello().node;
        if *node == self.node {
            return Ok(client);
        }
        let reason = format!(
            "it is the daemon of node '{node}', and not of '{}'",
            self.node
        );
        Err(ClientError::BadReply { reason })
    }

    fn ask(&mut self) -> Result<World, ClientError> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.meant(Client::connect_within(&self.run_dir, self.limits)?)?,
        };
        let report = client.status()?;
        let shown = client.show()?;
        self.client = Some(client);
        let report = report.resources.iter().find(|r| r.name == self.resource);
        let shown = shown.iter().find(|r| r.name == self.resource);
        Ok(match report {
            Some(report) if report.failed.is_none() => World::Up(Facts::of(report, shown)),
            _ => World::NotUp,
        })
    }

    /// No daemon serves, as far as can be known.
    fn lost(&mut self, error: &ClientError) {
        self.stream = None;
        self.client = None;
        self.world = World::NoDaemon;
        self.read_at = None;
        if self.said.is_none() {
            self.said = Some(error.to_string());
        }
    }
}
