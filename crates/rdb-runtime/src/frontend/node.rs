//! The life of a device node, the same for every kind of them: in the making, there, going.
//!
//! ```text
//!              wanted                    made                  not wanted
//! (no node) ----------> Starting ------------------> Up ----------------------> Stopping ---+
//!     ^                    |  made, not wanted any more                            ^        |
//!     |                    +-------------------------------------------------------+        |
//!     +------- it could not be made, or is given back; made anew if it is wanted again -----+
//! ```
//!
//! Making, taking over and giving back wait for answers of the thread that serves the node, so helper threads do them and
//! report by message. One device of a volume is given back completely before the next one is made.
//!
//! A node that is up can be parked: it is served no more, for its requests wait for the next process, and it is not given back.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rdb_engine::{AdminError, DeviceSpec, Level, VolumeNr};
use rdb_frontend::knbd::KnbdDevice;
use rdb_frontend::loopdev::{Holder, LoopDevice};
use rdb_frontend::ublk::UblkDevice;

use super::message::{News, NodeMessage, NodeReport};
use crate::api::{Caller, Notice};
use crate::ids::NodeId;
use crate::io::Io;
use crate::mailbox::{Mailbox, Message};

/// A transient user of a block device (udev looks at new ones) is waited for this long.
const HOLDER_MS: u64 = 2_000;
/// The same, if it is to be seen that a process has it open: one that probes it, or is just ending.
const PROCESS_MS: u64 = 700;
/// How long the names of a device may take to go, before it is given back all the same.
const NAMES_TIMEOUT: Duration = Duration::from_secs(3);

/// A block device of the kernel's that this process serves. A clone means the same one.
pub(crate) trait BlockDevice: Clone + Send + 'static {
    fn path(&self) -> PathBuf;
    /// Whether somebody has it open; words if that cannot be said.
    fn is_open(&self) -> Result<bool, String>;
    fn holders(&self) -> Vec<Holder>;
}

macro_rules! block_devices {
    ($($device:ty),*) => {$(
        impl BlockDevice for $device {
            fn path(&self) -> PathBuf {
                <$device>::path(self)
            }

            fn is_open(&self) -> Result<bool, String> {
                self.is_held().map_err(|error| error.to_string())
            }

            fn holders(&self) -> Vec<Holder> {
                <$device>::holders(self)
            }
        }
    )*};
}
block_devices!(LoopDevice, UblkDevice, KnbdDevice);

/// A kind of device node: how one is made and given back. Both are done by helper threads.
pub(crate) trait NodeKind: Sized + Send + 'static {
    type Device: BlockDevice;
    /// What the device stands on, which goes with it.
    type Base: Send + 'static;
    /// What is to be served, from before the device is there.
    type Opened: Send + 'static;
    /// All that has to be known to make one.
    type Plan: Send + 'static;
    /// What the thread that serves it has of it.
    type Served: Default;

    /// How the thread is called that makes one.
    const MAKER: &'static str;
    /// How bad it is when something is to be said of its end.
    const COMPLAINT: Level;

    fn report(message: MessageOf<Self>) -> NodeReport;

    /// Makes one, or takes one over; whether it took it over.
    fn make(
        plan: Self::Plan,
        helper: &Helper<Self>,
    ) -> Result<(Self::Device, Self::Base, bool), String>;

    /// Gives one back; words for the log, if something is to be said. `stopping`: the process may be about to end.
    fn give_back(
        device: Self::Device,
        base: Self::Base,
        stopping: bool,
        helper: &Helper<Self>,
    ) -> Option<String>;

    /// The volume has another size than the device that is up. Where a device cannot follow, it is only said.
    fn resize(node: &mut Node<Self>, io: &Io, _spec: DeviceSpec) {
        if let Some(device) = node.device() {
            let text = format!(
                "{} keeps its size until this node is Secondary again",
                device.path().display()
            );
            io.log(Level::Warn, Some(node.id.volume), text);
        }
    }
}

pub(crate) type MessageOf<K> =
    NodeMessage<<K as NodeKind>::Opened, <K as NodeKind>::Device, <K as NodeKind>::Base>;
type NewsOf<K> = News<<K as NodeKind>::Opened, <K as NodeKind>::Device, <K as NodeKind>::Base>;

/// How a helper thread reports.
pub(crate) struct Helper<K> {
    mailbox: Mailbox,
    id: NodeId,
    kind: PhantomData<K>,
}

impl<K: NodeKind> Helper<K> {
    /// Whether there is still a thread to tell.
    pub(super) fn report(&self, news: NewsOf<K>) -> bool {
        self.mailbox
            .post(Message::Node(K::report(NodeMessage { id: self.id, news })))
    }
}

/// A volume's device node.
pub(crate) struct Node<K: NodeKind> {
    pub(super) id: NodeId,
    stage: Stage<K>,
    /// The device it is to become once this one is given back. Set when the volume's device comes while this one is being made or
    /// given back, cleared when the volume's device goes.
    next: Option<DeviceSpec>,
    /// As the kernel has it.
    pub(super) spec: DeviceSpec,
    /// It is for the next process. Set by [`NodeLife::park`], never cleared.
    pub(super) parked: bool,
    pub(super) served: K::Served,
}

enum Stage<K: NodeKind> {
    Starting { unwanted: bool },
    Up { device: K::Device, base: K::Base },
    Stopping,
}

impl<K: NodeKind> Node<K> {
    /// The device, if it is up.
    pub(super) fn device(&self) -> Option<&K::Device> {
        match &self.stage {
            Stage::Up { device, .. } => Some(device),
            Stage::Starting { .. } | Stage::Stopping => None,
        }
    }

    /// What the device stands on, for one that is let go without being given back.
    pub(super) fn into_base(self) -> Option<K::Base> {
        match self.stage {
            Stage::Up { base, .. } => Some(base),
            Stage::Starting { .. } | Stage::Stopping => None,
        }
    }

    /// Runs something for this node on a thread of its own.
    pub(super) fn help(&self, io: &Io, name: &str, work: impl FnOnce(Helper<K>) + Send + 'static) {
        let id = self.id;
        io.help(name, move |mailbox| {
            work(Helper {
                mailbox,
                id,
                kind: PhantomData,
            });
        });
    }
}

/// The end of a node.
pub(super) enum End {
    /// It could not be made.
    Failed(String),
    /// It is given back. `again`: another one is to be made.
    Gone { again: bool },
}

/// The nodes of one kind, one a volume at most.
pub(crate) struct NodeLife<K: NodeKind> {
    nodes: Vec<Node<K>>,
}

impl<K: NodeKind> NodeLife<K> {
    pub(super) fn new() -> NodeLife<K> {
        NodeLife { nodes: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn node(&mut self, volume: VolumeNr) -> Option<&mut Node<K>> {
        self.nodes.iter_mut().find(|node| node.id.volume == volume)
    }

    pub(super) fn node_of(&mut self, id: NodeId) -> Option<&mut Node<K>> {
        self.nodes.iter_mut().find(|node| node.id == id)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node<K>> {
        self.nodes.iter()
    }

    /// The device of a volume, if it is up.
    pub(super) fn device(&self, volume: VolumeNr) -> Option<&K::Device> {
        self.nodes
            .iter()
            .find(|node| node.id.volume == volume)?
            .device()
    }

    /// Whether a volume's node waits for the next process.
    pub(super) fn is_parked(&self, volume: VolumeNr) -> bool {
        self.nodes
            .iter()
            .any(|node| node.id.volume == volume && node.parked)
    }

    /// Serves no more requests of a device that is up: they wait for the next process. The node, if there is one.
    pub(super) fn park(&mut self, volume: VolumeNr) -> Option<&mut Node<K>> {
        let node = self.node(volume).filter(|node| node.device().is_some())?;
        node.parked = true;
        Some(node)
    }

    /// Takes the parked nodes out, without giving them back.
    pub(super) fn take_parked(&mut self) -> Vec<Node<K>> {
        self.nodes.extract_if(.., |node| node.parked).collect()
    }

    /// The volume has a device, or another size; `false`: there is no node, and one is to be started.
    pub(super) fn device_up(&mut self, io: &Io, volume: VolumeNr, spec: DeviceSpec) -> bool {
        let Some(node) = self.node(volume) else {
            return false;
        };
        let Some(path) = node.device().map(BlockDevice::path) else {
            node.next = Some(spec);
            return true;
        };
        if node.spec != spec {
            K::resize(node, io, spec);
        }
        io.notify(Notice::DeviceUp {
            volume,
            spec,
            node: Some(path),
        });
        true
    }

    /// Begins to give a node back; whether there is one.
    pub(super) fn device_down(&mut self, io: &Io, volume: VolumeNr, stopping: bool) -> bool {
        let Some(node) = self.node(volume) else {
            return false;
        };
        if node.parked {
            return true;
        }
        node.next = None;
        match std::mem::replace(&mut node.stage, Stage::Stopping) {
            Stage::Up { device, base } => {
                let (unnamed, names) = channel::<()>();
                io.notify(Notice::DeviceGoing { volume, unnamed });
                node.help(io, "rdb-detach", move |helper| {
                    // Nothing is sent: it ends with the sender.
                    let _ = names.recv_timeout(NAMES_TIMEOUT);
                    let complaint = K::give_back(device, base, stopping, &helper);
                    helper.report(News::Gone(complaint));
                });
            }
            Stage::Starting { .. } => node.stage = Stage::Starting { unwanted: true },
            Stage::Stopping => {}
        }
        true
    }

    /// Begins to make a node for a volume that has none.
    pub(super) fn start(&mut self, io: &Io, id: NodeId, spec: DeviceSpec, plan: K::Plan) {
        let node = Node {
            id,
            stage: Stage::Starting { unwanted: false },
            next: Some(spec),
            spec,
            parked: false,
            served: K::Served::default(),
        };
        node.help(io, K::MAKER, move |helper| {
            let news = match K::make(plan, &helper) {
                Ok((device, base, taken_over)) => News::Up {
                    device,
                    base,
                    taken_over,
                },
                Err(error) => News::Failed(error),
            };
            helper.report(news);
        });
        self.nodes.push(node);
    }

    /// Takes a report: what is to be served, and the node's end. `wanted`: the volume's device as it is now.
    pub(super) fn on_message(
        &mut self,
        io: &Io,
        message: MessageOf<K>,
        wanted: Option<DeviceSpec>,
        stopping: bool,
    ) -> (Option<K::Opened>, Option<End>) {
        let NodeMessage { id, news } = message;
        let volume = id.volume;
        let Some(node) = self.node_of(id) else {
            return (None, None);
        };
        match news {
            News::Opened(opened) => return (Some(opened), None),
            News::Up {
                device,
                base,
                taken_over,
            } => {
                let unwanted = matches!(node.stage, Stage::Starting { unwanted: true });
                node.next = None;
                if taken_over {
                    let path = device.path();
                    let text = format!("took {} over, with whoever has it open", path.display());
                    io.log(Level::Info, Some(volume), text);
                }
                node.stage = Stage::Up { device, base };
                match wanted.filter(|_| !unwanted) {
                    Some(spec) => {
                        self.device_up(io, volume, spec);
                    }
                    None => {
                        self.device_down(io, volume, stopping);
                        if let Some(node) = self.node(volume) {
                            node.next = wanted;
                        }
                    }
                }
            }
            News::Failed(error) => {
                self.nodes.retain(|node| node.id.volume != volume);
                return (None, Some(End::Failed(error)));
            }
            News::Stopped => node.served = K::Served::default(),
            News::Lost => self.on_lost(io, volume, wanted, stopping),
            News::Reconnected(complaint) => {
                let up = node.device().filter(|_| !node.parked);
                let Some(path) = up.map(BlockDevice::path) else {
                    return (None, None);
                };
                let text = format!("{} has lost a connection", path.display());
                match complaint {
                    None => {
                        io.log(
                            Level::Info,
                            Some(volume),
                            format!("{text} and has a new one"),
                        );
                    }
                    Some(error) => io.log(Level::Warn, Some(volume), format!("{text}: {error}")),
                }
            }
            News::Gone(complaint) => {
                let next = node.next.take();
                self.nodes.retain(|node| node.id.volume != volume);
                if let Some(complaint) = complaint {
                    io.log(K::COMPLAINT, Some(volume), complaint);
                }
                let again = wanted.and(next).is_some();
                return (None, Some(End::Gone { again }));
            }
        }
        (None, None)
    }

    /// Somebody else has taken a device away: what is left of it is given back, and another one is made.
    fn on_lost(&mut self, io: &Io, volume: VolumeNr, wanted: Option<DeviceSpec>, stopping: bool) {
        let up = self.node(volume).filter(|node| !node.parked);
        let Some(path) = up.and_then(|node| node.device().map(BlockDevice::path)) else {
            return;
        };
        let text = format!(
            "{} was detached by somebody else: the device is made anew",
            path.display()
        );
        io.log(Level::Warn, Some(volume), text);
        self.device_down(io, volume, stopping);
        if let Some(node) = self.node(volume) {
            node.next = wanted;
        }
    }

    /// Finds out whether somebody uses the device, then goes on with the demotion; the reply comes back if there is none to ask
    /// about.
    pub(super) fn ask_who_holds(&self, io: &Io, volume: VolumeNr, reply: Caller) -> Option<Caller> {
        let Some(device) = self.device(volume).cloned() else {
            return Some(reply);
        };
        io.help_or_not("rdb-holders", move |thread, mailbox| {
            if let Err(no_thread) = thread {
                return (reply.reply)(Err(AdminError::unnumbered(no_thread)));
            }
            let held = is_held(&device);
            if held {
                log_holders(&device);
            }
            mailbox.post(Message::Held(volume, held, reply));
        });
        None
    }
}

/// The removals of devices that an earlier process left, each of which drops its sender when it is over.
pub(crate) struct Removals(pub(super) Vec<Receiver<()>>);

impl Removals {
    /// Waits until all are over, whatever came of them.
    pub(super) fn wait(self) {
        for removal in self.0 {
            let _ = removal.recv();
        }
    }
}

/// Why a device is not given back when the process may be about to end: it is in use, and stays for the next one to take over.
pub(super) fn stays(device: &impl BlockDevice, stopping: bool) -> Option<String> {
    (stopping && device.is_open().unwrap_or(true)).then(|| {
        format!(
            "{} is in use and stays: its requests wait until this node is Primary again",
            device.path().display()
        )
    })
}

/// Says who uses a block device.
fn log_holders(device: &impl BlockDevice) {
    let words: Vec<String> = device.holders().iter().map(Holder::to_string).collect();
    if !words.is_empty() {
        tracing::info!("a device is held open: {}", words.join(", "));
    }
}

/// Whether somebody uses a block device, and not just for a moment. Blocking.
pub(super) fn is_held(device: &impl BlockDevice) -> bool {
    let begun = Instant::now();
    let may_go = |holders: &[Holder]| {
        let is_process = |holder: &Holder| matches!(holder, Holder::Process { .. });
        let limit_ms = match holders {
            [] => HOLDER_MS,
            users if users.iter().all(is_process) => PROCESS_MS,
            _ => 0,
        };
        begun.elapsed() < Duration::from_millis(limit_ms)
    };
    loop {
        match device.is_open() {
            Ok(false) => return false,
            Ok(true) if may_go(&device.holders()) => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(true) => return true,
            Err(error) => {
                // Without an answer, assume the worse.
                tracing::warn!("{error}");
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::mpsc::channel;

    use rdb_engine::Time;
    use rdb_frontend::Frontend;

    use super::*;
    use crate::api::ResourceConfig;
    use crate::pool::{Pool, PoolSize};
    use crate::process::CoreDumps;
    use crate::ring::Ring;

    /// A kind whose helper threads do nothing until the test is over: it reports itself.
    struct Fake;

    #[derive(Clone, Debug)]
    struct FakeDevice;

    impl BlockDevice for FakeDevice {
        fn path(&self) -> PathBuf {
            PathBuf::from("/dev/fake")
        }

        fn is_open(&self) -> Result<bool, String> {
            Ok(false)
        }

        fn holders(&self) -> Vec<Holder> {
            Vec::new()
        }
    }

    impl NodeKind for Fake {
        type Device = FakeDevice;
        /// Told when the device is given back.
        type Base = std::sync::mpsc::Sender<()>;
        type Opened = ();
        type Plan = Receiver<()>;
        type Served = ();

        const MAKER: &'static str = "fake";
        const COMPLAINT: Level = Level::Warn;

        fn report(message: MessageOf<Fake>) -> NodeReport {
            let (id, news) = (message.id, News::Stopped);
            NodeReport::Knbd(NodeMessage { id, news })
        }

        fn make(
            plan: Receiver<()>,
            _helper: &Helper<Fake>,
        ) -> Result<(FakeDevice, Self::Base, bool), String> {
            let _ = plan.recv();
            Err("the test is over".to_owned())
        }

        fn give_back(
            _device: FakeDevice,
            base: Self::Base,
            _stopping: bool,
            _helper: &Helper<Fake>,
        ) -> Option<String> {
            base.send(()).expect("the test waits");
            None
        }
    }

    const VOLUME: VolumeNr = VolumeNr(3);
    const ID: NodeId = NodeId {
        volume: VOLUME,
        generation: 7,
    };

    fn spec(size_sectors: u64) -> DeviceSpec {
        DeviceSpec {
            size_sectors,
            logical_block_bytes: 512,
        }
    }

    /// A node that is being made, and what is said of it.
    struct Scene {
        io: Io,
        life: NodeLife<Fake>,
        said: Rc<RefCell<Vec<String>>>,
        base: std::sync::mpsc::Sender<()>,
        given_back: Receiver<()>,
        _over: std::sync::mpsc::Sender<()>,
    }

    impl Scene {
        fn new() -> Scene {
            let size = PoolSize {
                receive: 1,
                front_end: 1,
                filling: 1,
                read: 1,
                peer_read: 1,
            };
            let pool = Pool::new(size).expect("memory");
            let ring = Ring::new(Rc::clone(&pool), Duration::ZERO).expect("io_uring");
            let (mailbox, _) = Mailbox::new().expect("an eventfd");
            let config = ResourceConfig {
                name: "r0".to_owned(),
                run_dir: PathBuf::new(),
                frontend: Frontend::Socket,
                max_buffers: 32,
                busy_poll: Duration::ZERO,
                nbd_connections: 1,
                inherited: Vec::new(),
                left_sessions: Default::default(),
                challenges: Default::default(),
                core_dumps: CoreDumps::None,
            };
            let said = Rc::new(RefCell::new(Vec::new()));
            let saying = Rc::clone(&said);
            let notify = move |notice| {
                saying.borrow_mut().push(match notice {
                    Notice::Log { text, .. } => text,
                    Notice::DeviceUp { spec, .. } => format!("up: {}", spec.size_sectors),
                    Notice::DeviceGoing { .. } => "going".to_owned(),
                    other => format!("{other:?}"),
                });
            };
            let io = Io::new(config, Time(0), ring, pool, mailbox, Box::new(notify));
            let ((base, given_back), (over, plan)) = (channel(), channel());
            let mut life = NodeLife::new();
            assert!(!life.device_up(&io, VOLUME, spec(8)), "it is to be started");
            life.start(&io, ID, spec(8), plan);
            Scene {
                io,
                life,
                said,
                base,
                given_back,
                _over: over,
            }
        }

        fn tell(&mut self, news: NewsOf<Fake>, wanted: Option<DeviceSpec>) -> Option<End> {
            let message = NodeMessage { id: ID, news };
            self.life.on_message(&self.io, message, wanted, false).1
        }

        fn is_made(&mut self, wanted: Option<DeviceSpec>) {
            let (device, base) = (FakeDevice, self.base.clone());
            let news = News::Up {
                device,
                base,
                taken_over: false,
            };
            assert!(self.tell(news, wanted).is_none());
        }

        fn said(&self) -> Vec<String> {
            self.said.borrow_mut().drain(..).collect()
        }
    }

    #[test]
    fn a_node_comes_and_goes() {
        let mut scene = Scene::new();
        scene.is_made(Some(spec(8)));
        assert_eq!(scene.said(), ["up: 8"]);
        assert!(scene.life.device_down(&scene.io, VOLUME, false));
        scene.given_back.recv().expect("it is given back");
        assert!(scene.life.device(VOLUME).is_none() && !scene.life.is_empty());
        let end = scene.tell(News::Gone(Some("a complaint".to_owned())), None);
        assert!(matches!(end, Some(End::Gone { again: false })));
        assert_eq!(scene.said(), ["going", "a complaint"]);
        assert!(scene.life.is_empty());
    }

    #[test]
    fn one_that_is_wanted_again_while_it_goes_is_made_again() {
        let mut scene = Scene::new();
        scene.is_made(Some(spec(8)));
        scene.life.device_down(&scene.io, VOLUME, false);
        assert!(scene.life.device_up(&scene.io, VOLUME, spec(16)));
        let end = scene.tell(News::Gone(None), Some(spec(16)));
        assert!(matches!(end, Some(End::Gone { again: true })));
    }

    #[test]
    fn one_that_nobody_wants_any_more_is_given_back_when_it_is_made() {
        for wanted in [None, Some(spec(16))] {
            let mut scene = Scene::new();
            scene.life.device_down(&scene.io, VOLUME, false);
            if let Some(spec) = wanted {
                scene.life.device_up(&scene.io, VOLUME, spec);
            }
            scene.is_made(wanted);
            scene.given_back.recv().expect("it is given back");
            assert_eq!(scene.said(), ["going"], "nobody was told that it was up");
            let again = matches!(
                scene.tell(News::Gone(None), wanted),
                Some(End::Gone { again: true })
            );
            assert_eq!(again, wanted.is_some());
        }
    }

    #[test]
    fn one_that_somebody_else_takes_away_is_made_again() {
        let mut scene = Scene::new();
        assert!(scene.tell(News::Lost, Some(spec(8))).is_none());
        assert_eq!(scene.said(), [""; 0], "it is not up yet");
        scene.is_made(Some(spec(8)));
        assert!(scene.tell(News::Lost, Some(spec(8))).is_none());
        scene.given_back.recv().expect("what is left of it");
        let said = scene.said();
        assert!(said[1].contains("was detached"), "{said:?}");
        assert!(scene.tell(News::Lost, Some(spec(8))).is_none(), "once");
        let end = scene.tell(News::Gone(None), Some(spec(8)));
        assert!(matches!(end, Some(End::Gone { again: true })));
    }

    #[test]
    fn a_size_that_changes_while_it_is_made_is_passed_on() {
        let mut scene = Scene::new();
        scene.life.device_up(&scene.io, VOLUME, spec(16));
        scene.is_made(Some(spec(16)));
        let said = scene.said();
        assert!(said[0].contains("keeps its size"), "{said:?}");
        assert_eq!(said[1..], ["up: 16"]);
    }

    #[test]
    fn a_parked_node_stays_and_reports_of_others_are_dropped() {
        let mut scene = Scene::new();
        assert!(scene.life.park(VOLUME).is_none(), "it is not up yet");
        scene.is_made(Some(spec(8)));
        assert!(scene.life.park(VOLUME).is_some());
        assert!(scene.life.device_down(&scene.io, VOLUME, true));
        assert!(scene.life.device(VOLUME).is_some(), "not given back");
        let id = NodeId {
            generation: 6,
            ..ID
        };
        let news = News::Failed("of an older one".to_owned());
        let message = NodeMessage { id, news };
        let (_, end) = scene.life.on_message(&scene.io, message, None, false);
        assert!(end.is_none() && scene.life.is_parked(VOLUME));
        assert_eq!(scene.life.take_parked().len(), 1);
        assert!(scene.life.is_empty() && scene.given_back.try_recv().is_err());
    }
}
