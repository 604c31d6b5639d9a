//! What may happen next, and how it goes.

use rdb_engine::generation::PeerIds;
use rdb_engine::rules::peer_change::{Facts, Scope, makes_sense, recognise};
use rdb_engine::rules::serving::holds_first_state;
use rdb_engine::rules::write::{WriteWay, is_preparing, way};
use rdb_engine::state::{self, Change, ConnState, DiskState, Fencing, Role};

use rdb_meta::MdFlags;

use crate::fencing::Deed;
use crate::names::Name;
use crate::node::Step;
use crate::oracle::Finding;
use crate::rules::{Plant, Setting};
use crate::world::{BLOCKS, Kind, Msg, Node, World};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The user of node `.0` writes block `.1`. `.2`: if it is mirrored, the acknowledgement comes too.
    Write(u8, u8, bool),
    /// The link is cut; nobody knows yet.
    Cut,
    /// A node notices.
    Notice(u8),
    /// Both connect; `.0` discards its data if it is 0 or 1.
    Connect(u8),
    /// The oldest packet on its way to a node arrives.
    Deliver(u8),
    /// A node's superblock is on disk.
    Flush(u8),
    Promote(u8),
    Force(u8),
    Demote(u8),
    Crash(u8),
    /// Starts again and attaches.
    Restart(u8),
    /// The target `.0` gets block `.1`.
    Copy(u8, u8),
    /// The target has all blocks.
    Finish(u8),
    Detach(u8),
    Attach(u8),
    Invalidate(u8),
    /// The other node's data are to be replaced by those of `.0`.
    InvalidateRemote(u8),
    /// The disk fails, without a question.
    Fail(u8),
    /// It fails on a write of block `.1`, which the peer has acknowledged.
    FailWrite(u8, u8),
    /// A node whose disk has failed so has waited long enough for the peer's new generation.
    LossTimer(u8),
    /// The `fence-peer` of node `.0` does something to the other one, or sees what it is.
    Fence(u8, Deed),
    /// It ends, and says so.
    Answer(u8),
    Outdate(u8),
    Resume(u8),
    Part(u8),
    /// The same, and the peer's answer is lost with the connection.
    PartUnheard(u8),
}

impl Event {
    fn kind(self) -> Option<Kind> {
        Some(match self {
            Event::Write(..) => Kind::Write,
            Event::Cut => Kind::Cut,
            Event::Connect(0 | 1) => Kind::Discard,
            Event::Connect(_) => Kind::Connect,
            Event::Promote(_) => Kind::Promote,
            Event::Force(_) => Kind::Force,
            Event::Demote(_) => Kind::Demote,
            Event::Crash(_) => Kind::Crash,
            Event::Detach(_) => Kind::Detach,
            Event::Invalidate(_) => Kind::Invalidate,
            Event::InvalidateRemote(_) => Kind::InvalidateRemote,
            Event::Fail(_) | Event::FailWrite(..) => Kind::Fail,
            Event::Fence(_, Deed::Kill) => Kind::Kill,
            Event::Outdate(_) => Kind::Outdate,
            Event::Resume(_) => Kind::Resume,
            Event::Part(_) | Event::PartUnheard(_) => Kind::Part,
            Event::Fence(..)
            | Event::Answer(_)
            | Event::LossTimer(_)
            | Event::Notice(_)
            | Event::Deliver(_)
            | Event::Flush(_)
            | Event::Restart(_)
            | Event::Copy(..)
            | Event::Finish(_)
            | Event::Attach(_) => return None,
        })
    }
}

impl Event {
    /// The node whose administrator gives a command that waits for the one before.
    fn commands(self) -> Option<u8> {
        match self {
            Event::Promote(n)
            | Event::Force(n)
            | Event::Demote(n)
            | Event::Detach(n)
            | Event::Attach(n)
            | Event::Invalidate(n)
            | Event::InvalidateRemote(n)
            | Event::Outdate(n)
            | Event::Part(n)
            | Event::PartUnheard(n) => Some(n),
            _ => None,
        }
    }
}

/// The world after `event`, and what is to be said about it; `None` if the event cannot happen.
pub(crate) fn apply(
    world: &World,
    event: Event,
    setting: &Setting,
) -> Option<(World, Vec<Finding>)> {
    let limits = &setting.limits;
    let kind = event.kind();
    if kind.is_some_and(|kind| world.counts[kind as usize] >= limits[kind as usize]) {
        return None;
    }
    let mut world = *world;
    if let Some(kind) = kind {
        world.counts[kind as usize] += 1;
    }
    let left = |kind: Kind| world.counts[kind as usize] < limits[kind as usize];
    let kills = setting.fencing != Fencing::DontCare && left(Kind::Kill);
    let crashes = left(Kind::Crash) || kills;
    let before = world;
    let mut step = Step {
        world,
        setting,
        rules: &setting.rules,
        crashes,
        ordering: None,
        detaching: None,
        holding: false,
        held: Vec::new(),
        too_much: false,
        findings: Vec::new(),
    };
    step.event(event)?;
    for n in 0..2 {
        while step.poll_thaw(n) {}
        step.poll_source_end(n);
        step.release(n, false);
    }
    if !crashes {
        for n in 0..2 {
            step.maybe_flush(n);
        }
    }
    if step.too_much {
        assert!(setting.waits_for_room, "a search needs longer queues");
        return None;
    }
    step.judge_state();
    step.judge_frozen(&before);
    Some((step.world.canonical(), step.findings))
}

/// Every event that is worth a try.
pub(crate) fn candidates(world: &World, setting: &Setting, out: &mut Vec<Event>) {
    let may = |kind: Kind| setting.limits[kind as usize] > 0;
    out.clear();
    for n in 0..2_u8 {
        let node = &world.nodes[usize::from(n)];
        if !node.up {
            out.push(Event::Restart(n));
            continue;
        }
        let conn = node.state.conn;
        if !world.queues[usize::from(n)].is_empty() {
            out.push(Event::Deliver(n));
        }
        if !world.link && conn > ConnState::WFConnection {
            out.push(Event::Notice(n));
        }
        if node.attached && (node.disk.sb != node.disk.durable || !node.thens.is_empty()) {
            out.push(Event::Flush(n));
        }
        if conn == ConnState::SyncTarget && node.requesting {
            for block in 0..BLOCKS as u8 {
                if node.disk.bits >> block & 1 != 0 {
                    out.push(Event::Copy(n, block));
                }
            }
            out.push(Event::Finish(n));
        }
        out.push(Event::Crash(n));
        if node.state.role == Role::Primary {
            for block in 0..BLOCKS as u8 {
                out.push(Event::Write(n, block, true));
                out.push(Event::Write(n, block, false));
            }
            out.push(Event::Demote(n));
        } else {
            out.push(Event::Promote(n));
            out.push(Event::Force(n));
        }
        if let Some(run) = node.fence {
            match run.exit {
                Some(_) => out.push(Event::Answer(n)),
                None => out.extend(Deed::ALL.map(|deed| Event::Fence(n, deed))),
            }
        }
        if node.state.is_suspended() && may(Kind::Resume) {
            out.push(Event::Resume(n));
        }
        if node.state.is_connected() {
            if may(Kind::Part) {
                out.extend([Event::Part(n), Event::PartUnheard(n)]);
            }
        } else if node.attached && may(Kind::Outdate) {
            out.push(Event::Outdate(n));
        }
        if node.loss_unrecorded != Name::default() {
            out.push(Event::LossTimer(n));
        }
        if node.attached {
            out.push(Event::Detach(n));
            out.push(Event::Fail(n));
            if node.state.role == Role::Primary && may(Kind::Fail) {
                out.extend((0..BLOCKS as u8).map(|block| Event::FailWrite(n, block)));
            }
            out.push(Event::Invalidate(n));
            out.push(Event::InvalidateRemote(n));
        } else {
            out.push(Event::Attach(n));
        }
    }
    if world.link {
        out.push(Event::Cut);
    } else {
        out.extend([Event::Connect(2), Event::Connect(0), Event::Connect(1)]);
    }
}

impl Step<'_> {
    fn event(&mut self, event: Event) -> Option<()> {
        let at = usize::from;
        if event
            .commands()
            .is_some_and(|n| self.world.nodes[at(n)].promoting)
        {
            return None; // one command at a time
        }
        match event {
            Event::Write(n, block, settled) => self.write(at(n), at(block), settled),
            Event::Cut => self.world.link.then(|| {
                self.world.link = false;
                self.world.queues.iter_mut().for_each(|queue| queue.clear());
            }),
            Event::Notice(n) => {
                self.lose_connection(at(n));
                Some(())
            }
            Event::Connect(discards) => self.connect(at(discards)),
            Event::Deliver(n) => {
                let packet = self.world.queues[at(n)].pop()?;
                self.receive(at(n), packet);
                Some(())
            }
            Event::Flush(n) => {
                self.flush(at(n));
                Some(())
            }
            Event::Promote(n) => self.promote(at(n), false),
            Event::Force(n) => self.promote(at(n), true),
            Event::Demote(n) => self.demote(at(n)),
            Event::Crash(n) => {
                self.crash(at(n));
                Some(())
            }
            Event::Restart(n) => self.restart(at(n)),
            Event::Copy(n, block) => self.copy(at(n), at(block)),
            Event::Finish(n) => self.finish(at(n)),
            Event::Detach(n) => self.detach(at(n)),
            Event::Attach(n) => self.attach(at(n)),
            Event::Invalidate(n) => self.invalidate(at(n)),
            Event::InvalidateRemote(n) => self.invalidate_remote(at(n)),
            Event::Fail(n) => {
                self.note_lost_disk(at(n));
                self.change(at(n), Change::disk(DiskState::Failed), true)
                    .then_some(())
            }
            Event::FailWrite(n, block) => self.fail_write(at(n), at(block)),
            Event::LossTimer(n) => self.loss_timer(at(n)),
            Event::Fence(n, deed) => self.fence(at(n), deed),
            Event::Answer(n) => self.peer_fenced(at(n)),
            Event::Outdate(n) => self.outdate(at(n)),
            Event::Resume(n) => self.resume(at(n)),
            Event::Part(n) => self.part(at(n), true),
            Event::PartUnheard(n) => self.part(at(n), false),
        }
    }

    fn detach(&mut self, n: usize) -> Option<()> {
        self.note_lost_disk(n);
        self.detaching = Some(n);
        self.cluster_wide(n, Change::disk(DiskState::Failed))
    }

    pub(crate) fn peer_is_there(&self, n: usize) -> bool {
        let idle = |node: &Node| node.up && !node.state_sent && node.state.is_connected();
        self.world.link
            && self.world.queues.iter().all(|queue| queue.is_empty())
            && idle(&self.world.nodes[n])
            && idle(&self.world.nodes[1 - n])
    }

    /// A wish that the peer is asked about if the tables say so.
    pub(crate) fn cluster_wide(&mut self, n: usize, change: Change) -> Option<()> {
        let node = &self.world.nodes[n];
        let connected = node.state.conn >= ConnState::WFReportParams;
        if !self.allows(n, change) {
            return None;
        }
        let consents = |step: &mut Self| {
            let greeted =
                |node: &Node| node.up && !node.state_sent && node.state.conn > ConnState::Connected;
            // (A question about the role may come while bitmaps are exchanged.)
            let early =
                change.role.is_some() && step.world.link && step.world.nodes.iter().all(greeted);
            (early || step.peer_is_there(n))
                && step.makes_sense(1 - n, change)
                && step.change(1 - n, change.for_receiver(), false)
        };
        if connected && !consents(self) {
            return None;
        }
        self.change(n, change, false).then_some(())
    }

    /// Whether node `n` may be asked for this: the list and the sense of `rules/peer_change.rs`.
    fn makes_sense(&self, n: usize, change: Change) -> bool {
        let request = recognise(Scope::Volume, &change).expect("no right peer asks for that");
        let state = self.state(n);
        let facts = Facts {
            disk: state.disk,
            pdsk: state.pdsk,
            peer: state.peer,
            write_failed: false, // (a failed disk is told of with its write here)
        };
        makes_sense(request, &facts).is_ok()
    }

    fn write(&mut self, n: usize, block: usize, settled: bool) -> Option<()> {
        let link = self.world.link;
        let node = &self.world.nodes[n];
        let state = node.state;
        let up = state.conn >= ConnState::WFReportParams;
        let has_disk = node.attached && state.says_usable_disk();
        let WriteWay {
            here: local,
            there: replicate,
            tells_marks,
        } = way(state, has_disk, up)?;
        // (A full sync that is ordered begins with the order here; until its bits are on record writes are held.)
        let held = (ConnState::StartingSyncS..=ConnState::StartingSyncT).contains(&state.conn);
        if state.role != Role::Primary
            || node.thens.holds()
            || state.is_suspended()
            || is_preparing(&state)
            || held
        {
            return None;
        }
        if local && !node.disk.durable.flags.contains(MdFlags::PRIMARY_IND) {
            return None; // (I2) the log would not be applied
        }
        // Writes of one place do not overtake each other.
        let last = [node.logged[block], node.disk.data[block]];
        if last.iter().any(|number| node.open >> number & 1 != 0) {
            return None;
        }
        let bit = 1 << block;
        self.world.writes += 1;
        let number = self.world.writes;
        let write = 1_u16 << number;
        let mirrored = replicate && link;
        if !mirrored && (settled || (replicate && !local)) {
            // (Without a mirror the flag means nothing: one of the two events is enough.)
            return None;
        }
        if mirrored {
            self.mirror(n, block, number)?;
        }
        let node = self.node(n);
        if local {
            node.disk.data[block] = number;
            node.disk.seen |= write;
            node.disk.hot |= bit;
            if mirrored && settled && state.compares_blocks() {
                node.unmark(bit);
            }
            if !replicate {
                node.disk.bits |= bit;
            }
        } else {
            node.left_behind = node.exposed;
        }
        self.node(n).users |= write;
        if !replicate && self.doubts_target(n) {
            self.node(n).open |= write;
        } else if !replicate || settled {
            // (Of the one before in this place the barrier has come, or comes before anything that rests on this one.)
            self.confirmed(n, block);
            self.tell(n, write);
        } else if self.setting.protocol_a && local && state.disk == DiskState::UpToDate {
            self.log(n, block, number);
            self.acknowledge_tail(n, write);
        } else {
            self.log(n, block, number);
            self.node(n).open |= write;
        }
        if tells_marks {
            self.send(n, Msg::OutOfSync(bit));
        }
        Some(())
    }

    /// The own disk fails on a write that the peer has.
    fn fail_write(&mut self, n: usize, block: usize) -> Option<()> {
        let node = &self.world.nodes[n];
        let before = (node.disk.data, node.disk.seen);
        if node.state.disk != DiskState::UpToDate || node.open != 0 || !self.world.link {
            return None;
        }
        let told = (self.world.acknowledged, self.world.tail);
        self.write(n, block, false)?;
        let number = self.world.writes;
        if self.world.nodes[n].logged[block] != number {
            return None; // no peer has it
        }
        (self.world.acknowledged, self.world.tail) = told;
        self.confirmed(n, block);
        let node = self.node(n);
        (node.disk.data, node.disk.seen) = before;
        node.open |= 1 << number;
        self.note_lost_disk(n);
        self.change(n, Change::disk(DiskState::Failed), true)
            .then_some(())
    }

    /// The peer keeps its generation: it is there, has heard all, and has nothing to write.
    fn loss_timer(&mut self, n: usize) -> Option<()> {
        let waits = !self.peer_is_there(n) || !self.world.nodes[1 - n].thens.is_empty();
        if waits {
            return None;
        }
        self.node(n).loss_unrecorded = Name::default();
        Some(())
    }

    /// Write `number` of node `n` arrives at the other one.
    fn mirror(&mut self, n: usize, block: usize, number: u8) -> Option<()> {
        let (bit, write) = (1 << block, 1_u16 << number);
        let peer = &self.world.nodes[1 - n];
        if !self.world.queues[1 - n].is_empty()
            || !peer.up
            || !peer.attached
            || !peer.state.says_usable_disk()
            || !peer.state.is_connected()
        {
            return None;
        }
        // A Secondary logs the writes of a Diskless Primary, and the log comes behind the superblock.
        let diskless = !state::is_there(peer.state.pdsk);
        if diskless && peer.disk.sb != peer.disk.durable {
            return None;
        }
        let peer = self.node(1 - n);
        peer.disk.data[block] = number;
        peer.disk.seen |= write;
        if diskless {
            peer.disk.bits |= bit;
            peer.disk.hot |= bit;
        } else if peer.state.compares_blocks() {
            peer.unmark(bit);
        }
        Some(())
    }

    fn connect(&mut self, discards: usize) -> Option<()> {
        let ready = |node: &Node| {
            node.up
                && matches!(
                    node.state.conn,
                    ConnState::WFConnection | ConnState::StandAlone
                )
        };
        let refused = self
            .world
            .nodes
            .get(discards)
            .is_some_and(|node| node.state.role == Role::Primary);
        let recorded = |n: usize| {
            let node = &self.world.nodes[n];
            !self.rules[n].records_first || !node.attached || node.disk.durable == node.disk.sb
        };
        let ready = self.world.nodes.iter().all(ready) && (0..2).all(recorded);
        if self.world.link || refused || !ready {
            return None;
        }
        self.world.link = true;
        let counts_connected = self.setting.plant == Some(Plant::CountConnected);
        for n in 0..2 {
            self.fact(n, Change::conn(ConnState::Unconnected));
            self.fact(n, Change::conn(ConnState::WFConnection));
        }
        for n in 0..2 {
            if !counts_connected {
                self.doubt_outdated_peer(n);
            }
            let node = self.node(n);
            node.discard = discards == n;
            node.state_sent = true;
            if let Some(run) = &mut node.fence {
                // (L50) From now on the peer may be Connected, and as good as ever.
                run.stale |= !counts_connected;
            }
            node.told = None;
            self.send_uuids(n);
            let (state, peers) = (self.state(n), self.state(1 - n).disk);
            let at_once = self.setting.plant == Some(Plant::TellAtOnce);
            // (That the peer has no disk is told by the size of that, which comes before.)
            if holds_first_state(&state) && peers >= DiskState::Negotiating && !at_once {
                self.node(n).held_state = Some(state);
            } else {
                self.send_state(n);
            }
            self.fact(n, Change::conn(ConnState::WFReportParams));
        }
        Some(())
    }

    fn copy(&mut self, n: usize, block: usize) -> Option<()> {
        let source = self.world.nodes[1 - n];
        if !self.world.link
            || !source.up
            || !source.attached
            || source.state.conn != ConnState::SyncSource
        {
            return None;
        }
        let bit = 1 << block;
        self.node(1 - n).target_unproven = false;
        let disk = &mut self.node(n).disk;
        disk.data[block] = source.disk.data[block];
        disk.bits &= !bit;
        self.send(n, Msg::Acked(bit));
        Some(())
    }

    fn finish(&mut self, n: usize) -> Option<()> {
        let heard = self.world.queues[1 - n].is_empty();
        let source = &self.world.nodes[1 - n];
        if !self.world.link
            || self.world.nodes[n].disk.bits != 0
            || !heard
            || source.state.conn != ConnState::SyncSource
        {
            return None;
        }
        // The ping that goes before has brought the source every ack: of its own writes, too, but not the barriers'.
        let acked = self.world.nodes[1 - n].open & self.logged_writes(1 - n);
        let keeps = self.setting.plant == Some(Plant::KeepMark);
        let source = self.node(1 - n);
        source.unmark(if keeps { 0 } else { source.log });
        if source.state.is_suspended() {
            source.log = 0;
            source.logged = [0; BLOCKS];
        } else {
            source.open &= !acked;
            self.tell(1 - n, acked);
        }
        self.target_finish(n);
        Some(())
    }
}

const _: () = assert!(PeerIds::FLAG_CRASHED_PRIMARY < 256);
