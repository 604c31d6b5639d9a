//! The node: what runs on it, and what its resources tell of themselves.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdb_control::HistoryEvent;
use rdb_engine::{HandlerId, Level, ResourceStatus, VolumeNr};
use rdb_frontend::fuse::left::LeftSessions;
use rdb_runtime::{Challenges, CoreDumps, Notice, ResourceHandle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::course::Life;
use crate::events::Events;
use crate::handler_run::Running;
use crate::history::History;
use crate::names::Names;
use crate::proc_drbd::{self, FailedLine};
use crate::record::Keeper;
use crate::registry::{Shared, Volume};
use crate::restarts::Restarts;
use crate::runs::{Asked, Key};
use crate::serving::Serving;
use crate::systemd;
use crate::takeover_state::Takeover;
use crate::touched::Touched;

/// How long the status file waits for all resources together. One that does not answer stands there as failed.
const STATUS_FILE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the end of the daemon waits for the names of devices.
const HEARD_TIMEOUT: Duration = Duration::from_secs(5);

/// The node.
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Where its sockets and files are.
    pub(crate) run_dir: PathBuf,
    /// What happens to its resources is kept there.
    pub(crate) history: History,
    /// Who listens to what happens to them.
    pub(crate) events: Events,
    /// What resources are started with.
    pub(crate) serving: Cell<Serving>,
    /// `core-dumps`.
    pub(crate) core_dumps: CoreDumps,
    /// The challenges that its resources have given to peers.
    pub(crate) challenges: Challenges,
    /// What runs.
    pub(crate) registry: Shared,
    /// Told of every change of state and every device that comes or goes.
    pub(crate) changed: Arc<Notify>,
    /// Whose state has changed since they were put on record.
    pub(crate) touched: Touched,
    /// FUSE sessions that nobody serves.
    pub(crate) left_sessions: LeftSessions,
    /// What becomes of the daemon.
    pub(crate) life: Life,
    /// When it was started, in nanoseconds since 1970: which daemon it is.
    pub(crate) instance: u64,
    /// The program that it was started from.
    pub(crate) program: PathBuf,
    /// Puts what runs on record.
    pub(crate) keeper: Keeper,
    /// How far taking over from the daemon before is.
    pub(crate) takeover: RefCell<Takeover>,
    /// What has stopped on its own and was started again.
    pub(crate) restarts: Restarts,
    /// The handlers that run.
    pub(crate) handlers: Running,
    /// The names of its devices.
    pub(crate) names: Names,
    devices: UnboundedSender<DeviceNotice>,
    stopped: UnboundedSender<String>,
    pub(crate) handler_news: UnboundedSender<HandlerNews>,
}

/// What its resources tell, for those who follow it.
pub(crate) struct Told {
    /// For [`follow_devices`].
    pub(crate) devices: UnboundedReceiver<DeviceNotice>,
    /// Resources that have stopped on their own, for [`crate::stopped::follow`].
    pub(crate) stopped: UnboundedReceiver<String>,
    /// For [`crate::handlers::follow`].
    pub(crate) handler_news: UnboundedReceiver<HandlerNews>,
}

/// What there is to hear of a handler of a resource.
pub(crate) struct HandlerNews {
    pub(crate) resource: String,
    pub(crate) what: HandlerStep,
}

/// What has become of it.
pub(crate) enum HandlerStep {
    /// The resource asks for it.
    Asked(Key, Asked),
    /// Nobody waits for this run any more.
    Unwanted(HandlerId),
    /// A run has ended.
    Ended(Key),
}

/// What there is to hear of devices.
pub(crate) enum DeviceNotice {
    /// A device came (`node`, if it has one) or went.
    Changed {
        resource: String,
        number: u16,
        /// `Err`: its front end could not make it, and why.
        is_up: Result<bool, String>,
        node: Option<PathBuf>,
    },
    /// A device is to be given back, when this is dropped: its names go first.
    Going {
        resource: String,
        number: u16,
        unnamed: mpsc::Sender<()>,
    },
    /// Everything before this has been heard: an answer for who asked.
    Heard(oneshot::Sender<()>),
}

impl Node {
    /// A node without resources.
    pub(crate) fn new(
        name: String,
        run_dir: PathBuf,
        history: History,
        serving: Serving,
        core_dumps: CoreDumps,
        left_sessions: LeftSessions,
        names: Names,
    ) -> (Node, Told) {
        let (devices, device_notices) = unbounded_channel();
        let (stopped, stopped_names) = unbounded_channel();
        let (handler_news, of_handlers) = unbounded_channel();
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        let node = Node {
            name,
            instance: started.map_or(0, |since| since.as_nanos() as u64),
            program: program(),
            keeper: Keeper::new(&run_dir),
            takeover: RefCell::default(),
            run_dir,
            history,
            events: Events::default(),
            serving: Cell::new(serving),
            core_dumps,
            challenges: Challenges::default(),
            registry: Shared::default(),
            changed: Arc::default(),
            touched: Touched::default(),
            left_sessions,
            life: Life::default(),
            restarts: Restarts::default(),
            handlers: Running::default(),
            names,
            devices,
            stopped,
            handler_news,
        };
        let told = Told {
            devices: device_notices,
            stopped: stopped_names,
            handler_news: of_handlers,
        };
        (node, told)
    }

    /// Waits until all that has been told of devices is done, their names included.
    pub(crate) async fn devices_are_heard(&self) {
        let (answer, heard) = oneshot::channel();
        // Nobody listens any more when the daemon ends.
        let _ = self.devices.send(DeviceNotice::Heard(answer));
        // A device that answers nobody does not hold the end up.
        let _ = timeout(HEARD_TIMEOUT, heard).await;
    }

    /// Changes what is known of a volume, if it is there.
    fn change_volume(&self, resource: &str, number: u16, change: impl FnOnce(&mut Volume)) {
        let mut registry = self.registry.lock();
        let entry = registry.get_mut(resource);
        if let Some(volume) = entry.and_then(|entry| entry.volumes.get_mut(&number)) {
            change(volume);
        }
    }

    /// Takes what a resource tells, on its thread.
    pub(crate) fn notices(&self, resource: &str) -> impl Fn(Notice) + Send + 'static {
        let resource = resource.to_owned();
        let registry = self.registry.clone();
        let changed = Arc::clone(&self.changed);
        let touched = self.touched.clone();
        let devices = self.devices.clone();
        let stopped = self.stopped.clone();
        let handler_news = self.handler_news.clone();
        let history = self.history.clone();
        let events = self.events.clone();
        let of_devices = (resource.clone(), devices.clone());
        let tell_device = move |volume: VolumeNr, is_up, node| {
            let (resource, devices) = &of_devices;
            // Nobody listens any more when the daemon ends.
            let _ = devices.send(DeviceNotice::Changed {
                resource: resource.clone(),
                number: volume.0,
                is_up,
                node,
            });
        };
        move |notice| match notice {
            Notice::Log {
                level,
                volume,
                text,
            } => {
                log(level, &prefix(&registry, &resource, volume), &text);
            }
            Notice::RunHandler {
                id,
                handler,
                volume,
                snapshot,
            } => {
                let resource = resource.clone();
                let asked = Asked { id, snapshot };
                let what = HandlerStep::Asked((handler, volume), asked);
                // Nobody listens any more when the daemon ends.
                let _ = handler_news.send(HandlerNews { resource, what });
            }
            Notice::EndHandler { id } => {
                let resource = resource.clone();
                let what = HandlerStep::Unwanted(id);
                // Nobody listens any more when the daemon ends.
                let _ = handler_news.send(HandlerNews { resource, what });
            }
            // The engine has logged it.
            Notice::StateChanged { volume, old, new } => {
                history.tell_change(&resource, volume, &old, &new);
                events.tell_change(&resource, volume, &new);
                touched.put(&resource);
                changed.notify_waiters();
            }
            Notice::Milestone { volume, what } => history.tell_milestone(&resource, volume, what),
            Notice::DeviceUp { volume, node, .. } => tell_device(volume, Ok(true), node),
            Notice::NoDevice { volume, reason } => tell_device(volume, Err(reason), None),
            Notice::DeviceGoing { volume, unnamed } => {
                let resource = resource.clone();
                let number = volume.0;
                // Nobody listens any more when the daemon ends.
                let _ = devices.send(DeviceNotice::Going {
                    resource,
                    number,
                    unnamed,
                });
            }
            Notice::DeviceDown { volume } => tell_device(volume, Ok(false), None),
            Notice::Session {
                identity,
                connection,
            } => systemd::keep(&identity, connection.as_deref().map(AsFd::as_fd)),
            Notice::Stopped { failure } => {
                if let Some(failure) = failure {
                    let reason = shortened(&failure);
                    history.tell(&resource, None, HistoryEvent::Stopped { reason });
                    note_failure(&registry, &resource, failure);
                    events.tell_stop(&resource);
                    // Nobody listens any more when the daemon ends.
                    let _ = stopped.send(resource.clone());
                }
                touched.put(&resource);
                changed.notify_waiters();
            }
        }
    }
}

/// A resource's thread has ended by itself, for this reason.
fn note_failure(registry: &Shared, resource: &str, failure: String) {
    tracing::error!(
        "drbd {resource}: stopped: {failure}. Its data is as the last completed write left it."
    );
    if let Some(entry) = registry.lock().get_mut(resource) {
        entry.failure = Some(failure);
    }
}

/// What a line of the history has of a text.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 500;
    text.chars().take(CHARS_MAX).collect()
}

/// The program as it was called: after an upgrade the same path leads to the new one. Resolved links would lead to the old
/// one for ever.
fn program() -> PathBuf {
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.filter(|path| path.components().nth(1).is_some());
    match called.map(std::path::absolute) {
        Some(Ok(path)) if path.is_file() => path,
        _ => std::env::current_exe().unwrap_or_else(|_| Path::new("rdbd").to_owned()),
    }
}

/// Keeps device names and the registry as the devices are. Ends with the node.
pub(crate) async fn follow_devices(node: Rc<Node>, mut notices: UnboundedReceiver<DeviceNotice>) {
    while let Some(notice) = notices.recv().await {
        let (resource, number, is_up, device) = match notice {
            DeviceNotice::Changed {
                resource,
                number,
                is_up,
                node,
            } => (resource, number, is_up, node),
            DeviceNotice::Going {
                resource,
                number,
                unnamed,
            } => {
                node.change_volume(&resource, number, |volume| {
                    volume.is_up = false;
                    volume.is_going = true;
                    volume.node = None;
                });
                node.name_device(&resource, number, None).await;
                drop(unnamed);
                node.changed.notify_waiters();
                continue;
            }
            DeviceNotice::Heard(answer) => {
                // Nobody waits any more.
                let _ = answer.send(());
                continue;
            }
        };
        match is_up {
            Err(reason) => node.change_volume(&resource, number, |volume| {
                volume.no_device = Some(reason);
            }),
            Ok(is_up) => {
                // The names are there before anybody is told that the device is.
                let shown = device.clone().filter(|_| is_up);
                node.name_device(&resource, number, shown).await;
                node.change_volume(&resource, number, |volume| {
                    volume.is_up = is_up;
                    volume.is_going = false;
                    if !is_up || device.is_some() {
                        volume.no_device = None;
                    }
                    volume.node = device;
                });
            }
        }
        node.changed.notify_waiters();
    }
}

/// `drbd RES:` or `drbd RES/VOL drbdMINOR:`, as the kernel's driver begins its lines.
pub(crate) fn prefix(registry: &Shared, resource: &str, volume: Option<VolumeNr>) -> String {
    let Some(number) = volume else {
        return format!("drbd {resource}:");
    };
    let registry = registry.lock();
    let minor = registry
        .get(resource)
        .and_then(|entry| entry.volumes.get(&number.0))
        .map(|v| v.minor);
    match minor {
        Some(minor) => format!("drbd {resource}/{number} drbd{minor}:"),
        None => format!("drbd {resource}/{number}:"),
    }
}

fn log(level: Level, prefix: &str, text: &str) {
    match level {
        Level::Info => tracing::info!("{prefix} {text}"),
        Level::Warn => tracing::warn!("{prefix} {text}"),
        Level::Error => tracing::error!("{prefix} {text}"),
    }
}

/// The text of the status file, now. Called on a thread of its own.
pub(crate) fn status_text(registry: &Shared) -> String {
    let handles: Vec<(String, ResourceHandle)> = registry
        .lock()
        .resources()
        .iter()
        .map(|entry| (entry.name.clone(), entry.handle.clone()))
        .collect();
    let (reply, answers) = mpsc::channel();
    for (index, (_, handle)) in handles.iter().enumerate() {
        let reply = reply.clone();
        handle.status(Box::new(move |status| _ = reply.send((index, status))));
    }
    drop(reply);
    let deadline = Instant::now() + STATUS_FILE_TIMEOUT;
    let mut resources = BTreeMap::new();
    while resources.len() < handles.len() {
        match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((index, status)) => _ = resources.insert(index, status),
            Err(_) => break,
        }
    }
    let mut failed = Vec::new();
    for (index, (name, _)) in handles.iter().enumerate() {
        if !resources.contains_key(&index)
            && let Some(entry) = registry.lock().get(name)
        {
            failed.extend(FailedLine::of(entry));
        }
    }
    let resources: Vec<ResourceStatus> = resources.into_values().collect();
    proc_drbd::render(&resources, &failed)
}
