//! What one state of the model is: two nodes, their disks, what is on the wire, and what only the model knows.

use std::fmt;

use rdb_engine::generation::WroteAlone;
use rdb_engine::rules::attach::Shown;
use rdb_engine::rules::resync::is_all_sent;
use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};
use rdb_meta::MdFlags;

use crate::names::{Ids, Name};

pub(crate) const BLOCKS: usize = 2;
pub(crate) const ALL_BLOCKS: u8 = (1 << BLOCKS) - 1;

/// What a superblock says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Super {
    pub(crate) ids: Ids,
    pub(crate) flags: MdFlags,
    /// The note beside the bitmap UUID; another one has none.
    pub(crate) alone: WroteAlone,
}

/// Data and metadata of one disk. It outlives the process that uses it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) sb: Super,
    /// What a power cut leaves.
    pub(crate) durable: Super,
    pub(crate) bits: u8,
    /// Bits that a power cut leaves, without those of hot extents.
    pub(crate) durable_bits: u8,
    /// Blocks that the activity log on disk names.
    pub(crate) hot: u8,
    /// The write that each block holds.
    pub(crate) data: [u8; BLOCKS],
    /// Ghost: the writes that this disk's users may have seen, as a set.
    pub(crate) seen: u16,
    /// Ghost: a generation was begun here since the disks were last equal.
    pub(crate) named: bool,
    /// Ghost: somebody was told that this disk is Outdated, or it has failed under a Secondary beside a good one; and it has not been UpToDate
    /// beside a peer since.
    pub(crate) outdated: bool,
    pub(crate) marks: Marks,
}

/// Ghost: whence this disk's marks may be, other than from its users' writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Marks {
    /// A full sync was ordered.
    pub(crate) ordered: bool,
    /// The other disk came to the end of a resync from here, and that was not heard of.
    pub(crate) ended_unseen: bool,
    /// The other node told of some.
    pub(crate) merged: bool,
    /// They are under no name, or under one that the other disk has, by DRBD's rules: rule 34 has emptied the slot at once, or the
    /// node was promoted while the bitmaps are exchanged.
    pub(crate) by_drbd: bool,
}

/// What a durable superblock sets free.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Thens {
    pub(crate) announce_generation: bool,
    pub(crate) send_sync_uuid: Name,
    pub(crate) start_requesting: bool,
    pub(crate) announce_end: bool,
    /// That the peer is fenced is on its way to disk, and writes are not told of before.
    pub(crate) fenced_recorded: bool,
}

impl Thens {
    /// Whether users' writes are not told of before.
    pub(crate) fn holds(&self) -> bool {
        self.announce_generation || self.fenced_recorded
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Thens::default()
    }
}

/// The last P_UUIDS of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Told {
    pub(crate) ids: Ids,
    pub(crate) bits: u8,
    pub(crate) flags: u8,
    pub(crate) alone: WroteAlone,
}

/// The handler `fence-peer` runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Run {
    /// The peer has been there since it began: what it says is of no use.
    pub(crate) stale: bool,
    /// The peer was there when it began, without a disk (L54).
    pub(crate) beside_diskless: bool,
    /// What it has done, and will say: its exit code.
    pub(crate) exit: Option<u8>,
}

/// The handshake's result on one side, kept while the connection lasts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Decided {
    NoSync,
    Source(bool),
    Target(bool),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    /// The process runs.
    pub(crate) up: bool,
    pub(crate) state: VolumeState,
    pub(crate) attached: bool,
    pub(crate) disk: Disk,
    pub(crate) thens: Thens,
    pub(crate) crashed: bool,
    pub(crate) exposed: Name,
    pub(crate) left_behind: Name,
    pub(crate) told: Option<Told>,
    pub(crate) announced: u8,
    pub(crate) negotiated: Option<(DiskState, DiskState)>,
    pub(crate) consider_resync: bool,
    /// `connect --discard-my-data`.
    pub(crate) discard: bool,
    /// The judge's: the administrator has ordered a full sync onto this disk, and it has not become good again.
    pub(crate) given_up: bool,
    /// The data were given up for a full sync that has not begun.
    pub(crate) invalidated: bool,
    pub(crate) state_sent: bool,
    /// Target: blocks may be asked for.
    pub(crate) requesting: bool,
    pub(crate) early_uuid: Name,
    /// The resync's end is on its way to disk before the source hears of it.
    pub(crate) announce: bool,
    /// Blocks of writes in the transfer log: the peer has not confirmed them for good.
    pub(crate) log: u8,
    /// The last of these writes of each block, 0 for none.
    pub(crate) logged: [u8; BLOCKS],
    /// Blocks of the log whose data are not kept: they cannot be sent again.
    pub(crate) unkept: u8,
    /// The peer is lost, and the log waits for its return, or until it is fenced.
    pub(crate) log_frozen: bool,
    /// A generation is due when I/O goes on.
    pub(crate) owes: bool,
    /// Source: the target has not shown that it is Inconsistent on its record too (L48).
    pub(crate) target_unproven: bool,
    /// Source: the target has said that it is done.
    pub(crate) target_done: bool,
    /// The own disk is lost while Primary, and the peer has not said yet that a new generation is on its record: the name of both (L26).
    pub(crate) loss_unrecorded: Name,
    /// Users saw it when the own disk was lost beside a good one (L44).
    pub(crate) lost_beside: Name,
    /// The first P_STATE of this connection, which waits until the peer's data are known (L35).
    pub(crate) held_state: Option<VolumeState>,
    pub(crate) fence: Option<Run>,
    /// A promotion waits for that.
    pub(crate) promoting: bool,
    /// Writes that are not completed towards the user.
    pub(crate) open: u16,
    pub(crate) decided: Option<Decided>,
    /// Source: there was nothing left to send.
    pub(crate) all_sent: bool,
    /// Was Primary and source, and did not see the end.
    pub(crate) source_open: bool,
    /// Ghost: the writes that the users of this Primary have seen.
    pub(crate) users: u16,
}

/// A packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Msg {
    Uuids(Told),
    State(VolumeState),
    SyncUuid(Name),
    Bitmap(u8),
    /// The target has these blocks of the resync.
    Acked(u8),
    OutOfSync(u8),
    /// Write `.1` of block `.0`, sent again.
    Data(u8, u8),
    /// What has become of it.
    DataAck(u8, u8, bool),
}

/// One direction of the link, oldest packet first.
#[derive(Clone, Copy)]
pub(crate) struct Queue {
    packets: [Msg; Queue::MAX],
    len: u8,
}

impl Queue {
    const MAX: usize = 12;
    pub(crate) const EMPTY: Queue = Queue {
        packets: [Msg::Bitmap(0); Queue::MAX],
        len: 0,
    };

    /// Says whether there was room.
    #[must_use]
    pub(crate) fn push(&mut self, packet: Msg) -> bool {
        let place = self.packets.get_mut(usize::from(self.len));
        let has_room = place.is_some();
        if let Some(place) = place {
            *place = packet;
            self.len += 1;
        }
        has_room
    }

    pub(crate) fn pop(&mut self) -> Option<Msg> {
        let len = usize::from(self.len.checked_sub(1)?);
        let first = self.packets[0];
        self.packets.copy_within(1..=len, 0);
        self.len -= 1;
        Some(first)
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Msg> {
        self.packets[..usize::from(self.len)].iter()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Msg> {
        self.packets[..usize::from(self.len)].iter_mut()
    }
}

/// How often each kind of event has happened; the indices are [`Kind`].
pub(crate) const KINDS: usize = 16;
pub(crate) type Counts = [u8; KINDS];

/// Events that a search bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Write,
    Cut,
    Connect,
    Promote,
    Demote,
    Crash,
    Force,
    Detach,
    Discard,
    Invalidate,
    InvalidateRemote,
    Fail,
    /// `fence-peer` cuts the peer's power.
    Kill,
    /// The command `outdate`.
    Outdate,
    /// The command `resume-io`.
    Resume,
    /// The command `disconnect`, with the peer's consent.
    Part,
}

impl Kind {
    pub(crate) const ALL: [Kind; KINDS] = [
        Kind::Write,
        Kind::Cut,
        Kind::Connect,
        Kind::Promote,
        Kind::Demote,
        Kind::Crash,
        Kind::Force,
        Kind::Detach,
        Kind::Discard,
        Kind::Invalidate,
        Kind::InvalidateRemote,
        Kind::Fail,
        Kind::Kill,
        Kind::Outdate,
        Kind::Resume,
        Kind::Part,
    ];
}

#[derive(Clone, Copy)]
pub(crate) struct World {
    pub(crate) nodes: [Node; 2],
    /// The wire between two ends that may each not know yet that it is cut.
    pub(crate) link: bool,
    /// `queues[n]` is what is on its way to node `n`.
    pub(crate) queues: [Queue; 2],
    pub(crate) counts: Counts,
    pub(crate) writes: u8,
    /// Ghost: writes whose users were told that they are done.
    pub(crate) acknowledged: u16,
    /// Ghost: the tail of protocol A, see `tail.rs`.
    pub(crate) tail: u16,
    /// The node whose `fence-peer` has cut the other one's power. The arbiter says nothing of the kind to that one before both are in
    /// sync again: it does not know, when it is back, that it lacks something.
    pub(crate) winner: Option<u8>,
    /// Ghost: somebody goes on alone whom the arbiter has not allowed to, see `fenced.rs`.
    pub(crate) consent: bool,
}

impl World {
    /// Two disks in sync, connected, both Secondary; `ids` on both.
    pub(crate) fn connected(ids: Ids) -> World {
        let flags = MdFlags::CONSISTENT | MdFlags::CONNECTED_IND | MdFlags::WAS_UP_TO_DATE;
        let alone = WroteAlone::Unknown;
        let sb = Super { ids, flags, alone };
        let node = Node {
            up: true,
            state: VolumeState {
                peer: Role::Secondary,
                conn: ConnState::Connected,
                disk: DiskState::UpToDate,
                pdsk: DiskState::UpToDate,
                ..VolumeState::INITIAL
            },
            attached: true,
            disk: Disk {
                sb,
                durable: sb,
                bits: 0,
                durable_bits: 0,
                hot: 0,
                data: [0; BLOCKS],
                seen: 0,
                named: false,
                outdated: false,
                marks: Marks::default(),
            },
            thens: Thens::default(),
            crashed: false,
            exposed: ids.current,
            left_behind: Name::default(),
            told: Some(Told {
                ids,
                bits: 0,
                alone,
                flags: 0,
            }),
            announced: 0,
            negotiated: None,
            consider_resync: false,
            discard: false,
            given_up: false,
            invalidated: false,
            state_sent: false,
            requesting: false,
            early_uuid: Name::default(),
            announce: false,
            log: 0,
            logged: [0; BLOCKS],
            unkept: 0,
            log_frozen: false,
            owes: false,
            target_unproven: false,
            target_done: false,
            loss_unrecorded: Name::default(),
            lost_beside: Name::default(),
            held_state: None,
            fence: None,
            promoting: false,
            open: 0,
            decided: None,
            all_sent: false,
            source_open: false,
            users: 0,
        };
        World {
            nodes: [node; 2],
            link: true,
            queues: [Queue::EMPTY; 2],
            counts: [0; KINDS],
            writes: 0,
            acknowledged: 0,
            tail: 0,
            winner: None,
            consent: false,
        }
    }

    /// Two disks that were never used, attached and alone.
    pub(crate) fn created() -> World {
        let created = Ids {
            current: Name::random(1),
            ..Ids::default()
        };
        let mut world = World::connected(created);
        world.link = false;
        for node in &mut world.nodes {
            node.state = VolumeState {
                conn: ConnState::WFConnection,
                disk: DiskState::Inconsistent,
                ..VolumeState::INITIAL
            };
            node.told = None;
            node.exposed = Name::default();
            let disk = &mut node.disk;
            disk.sb.flags = MdFlags::empty();
            disk.durable = disk.sb;
            (disk.bits, disk.durable_bits) = (ALL_BLOCKS, ALL_BLOCKS);
        }
        world
    }

    pub(crate) fn fresh_name(&mut self) -> Name {
        let mut highest = 1;
        self.each_name(|name| highest = highest.max(name.base()));
        Name::random(highest + 1)
    }

    /// Numbers the random names in the order in which they are mentioned.
    pub(crate) fn canonical(mut self) -> World {
        let mut map = [0_u16; 64];
        let mut next = 2;
        self.each_name(|name| {
            if name.base() >= 2 {
                let place = &mut map[usize::from(name.base())];
                if *place == 0 {
                    *place = next;
                    next += 1;
                }
                *name = name.with_base(*place);
            }
        });
        self
    }

    fn each_name(&mut self, mut visit: impl FnMut(&mut Name)) {
        for node in &mut self.nodes {
            let supers = [&mut node.disk.sb, &mut node.disk.durable];
            for sb in supers {
                sb.ids.names().into_iter().for_each(&mut visit);
            }
            if let Some(told) = &mut node.told {
                told.ids.names().into_iter().for_each(&mut visit);
            }
            visit(&mut node.exposed);
            visit(&mut node.left_behind);
            visit(&mut node.loss_unrecorded);
            visit(&mut node.lost_beside);
            visit(&mut node.early_uuid);
            visit(&mut node.thens.send_sync_uuid);
        }
        for queue in &mut self.queues {
            for packet in queue.iter_mut() {
                match packet {
                    Msg::Uuids(told) => told.ids.names().into_iter().for_each(&mut visit),
                    Msg::SyncUuid(name) => visit(name),
                    Msg::State(_)
                    | Msg::Bitmap(_)
                    | Msg::Acked(_)
                    | Msg::OutOfSync(_)
                    | Msg::Data(..)
                    | Msg::DataAck(..) => {}
                }
            }
        }
    }

    /// Everything, in bytes: equal worlds and only those have equal bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        for node in &self.nodes {
            node.encode(out);
        }
        out.push(u8::from(self.link));
        for queue in &self.queues {
            out.push(queue.len);
            for packet in queue.iter() {
                match packet {
                    Msg::Uuids(told) => {
                        out.push(1);
                        put_told(told, out);
                    }
                    Msg::State(state) => {
                        out.push(2);
                        out.extend(state.to_word().to_le_bytes());
                    }
                    Msg::SyncUuid(name) => {
                        out.push(3);
                        put_name(*name, out);
                    }
                    Msg::Bitmap(bits) => out.extend([4, *bits]),
                    Msg::Acked(bits) => out.extend([5, *bits]),
                    Msg::OutOfSync(bits) => out.extend([6, *bits]),
                    Msg::Data(block, number) => out.extend([7, *block, *number]),
                    Msg::DataAck(block, number, ok) => {
                        out.extend([8 + u8::from(*ok), *block, *number]);
                    }
                }
            }
        }
        out.extend(self.counts);
        out.push(self.writes);
        out.extend(self.acknowledged.to_le_bytes());
        out.extend(self.tail.to_le_bytes());
        out.push(self.winner.map_or(0, |n| n + 1) | u8::from(self.consent) << 2);
    }
}

impl Node {
    /// `Volume::shown`.
    pub(crate) fn shown(&self, holds: Name) -> Shown {
        Shown {
            state: self.state,
            holds: holds.wide(),
            seen: self.exposed.wide(),
            left_behind: self.left_behind != Name::default() && self.left_behind.is_same(holds),
        }
    }

    /// Both disks have these blocks.
    pub(crate) fn unmark(&mut self, bits: u8) {
        self.disk.bits &= !bits;
        let left = u64::from(self.disk.bits.count_ones());
        self.all_sent |= is_all_sent(self.state.conn, left, 0);
    }

    #[expect(clippy::too_many_lines, reason = "a table: what a state is made of")]
    fn encode(&self, out: &mut Vec<u8>) {
        let flags = [
            self.up,
            self.attached,
            self.crashed,
            self.consider_resync,
            self.discard,
            self.state_sent,
            self.requesting,
            self.announce,
        ];
        out.extend([pack(&flags), u8::from(self.given_up)]);
        out.push(pack(&[
            self.told.is_some(),
            self.negotiated.is_some(),
            self.thens.announce_generation,
            self.thens.start_requesting,
            self.thens.announce_end,
            self.all_sent,
            self.source_open,
            self.invalidated,
        ]));
        out.extend(self.users.to_le_bytes());
        out.extend(self.state.to_word().to_le_bytes());
        for sb in [&self.disk.sb, &self.disk.durable] {
            put_ids(&sb.ids, out);
            out.extend(
                u16::try_from(sb.flags.bits())
                    .expect("nine bits")
                    .to_le_bytes(),
            );
            out.push(sb.alone as u8);
        }
        let disk = &self.disk;
        out.push(disk.bits | disk.durable_bits << 4);
        out.push(disk.hot | self.log << 4);
        out.push(pack(&[
            self.thens.fenced_recorded,
            self.log_frozen,
            self.owes,
            self.target_unproven,
            self.fence.is_some(),
            self.promoting,
            self.disk.outdated,
            self.target_done,
        ]));
        out.extend(self.logged);
        out.push(self.unkept);
        if let Some(run) = self.fence {
            let flags = u8::from(run.stale) | u8::from(run.beside_diskless) << 1;
            out.push(flags | run.exit.map_or(0, |exit| exit + 1) << 2);
        }
        out.extend(disk.data);
        out.extend(disk.seen.to_le_bytes());
        out.push(pack(&[
            disk.named,
            disk.marks.ordered,
            disk.marks.ended_unseen,
            disk.marks.merged,
            disk.marks.by_drbd,
        ]));
        out.extend(self.open.to_le_bytes());
        put_name(self.thens.send_sync_uuid, out);
        put_name(self.exposed, out);
        put_name(self.left_behind, out);
        put_name(self.loss_unrecorded, out);
        put_name(self.lost_beside, out);
        let held = self.held_state.map_or(u32::MAX, |state| state.to_word());
        out.extend(held.to_le_bytes());
        put_name(self.early_uuid, out);
        if let Some(told) = &self.told {
            put_told(told, out);
        }
        out.push(self.announced);
        if let Some((own, peer)) = self.negotiated {
            out.extend([own as u8, peer as u8]);
        }
        out.push(match self.decided {
            None => 0,
            Some(Decided::NoSync) => 1,
            Some(Decided::Source(full)) => 2 + u8::from(full),
            Some(Decided::Target(full)) => 4 + u8::from(full),
        });
    }
}

fn pack(flags: &[bool]) -> u8 {
    flags
        .iter()
        .enumerate()
        .fold(0, |all, (nr, set)| all | u8::from(*set) << nr)
}

fn put_name(name: Name, out: &mut Vec<u8>) {
    out.extend(name.0.to_le_bytes());
}

fn put_ids(ids: &Ids, out: &mut Vec<u8>) {
    let [younger, older] = ids.history;
    for name in [ids.current, ids.bitmap, younger, older] {
        put_name(name, out);
    }
}

fn put_told(told: &Told, out: &mut Vec<u8>) {
    out.push(told.alone as u8);
    put_ids(&told.ids, out);
    out.extend([told.bits, told.flags]);
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nr, node) in self.nodes.iter().enumerate() {
            let name = char::from(b'A' + u8::try_from(nr).expect("two nodes"));
            let disk = &node.disk;
            let power = if node.up { "" } else { " (off)" };
            let lag = if disk.sb == disk.durable {
                String::new()
            } else {
                format!(" (on disk {})", disk.durable.ids)
            };
            write!(
                f,
                "        {name}{power} {} ids {}{lag} bits {:b} data {:?}{}",
                node.state,
                disk.sb.ids,
                disk.bits,
                disk.data,
                if node.crashed { " crashed" } else { "" },
            )?;
            if let Some(run) = node.fence {
                write!(f, " fence-peer {:?}", run.exit)?;
            }
            for packet in self.queues[nr].iter() {
                match packet {
                    Msg::Uuids(told) => write!(f, " <- uuids {} {:b}", told.ids, told.bits)?,
                    Msg::State(state) => write!(f, " <- state {} {}", state.conn, state.disk)?,
                    Msg::SyncUuid(name) => write!(f, " <- sync uuid {name}")?,
                    Msg::Bitmap(bits) => write!(f, " <- bitmap {bits:b}")?,
                    Msg::Acked(bits) => write!(f, " <- acked {bits:b}")?,
                    Msg::OutOfSync(bits) => write!(f, " <- out of sync {bits:b}")?,
                    Msg::Data(block, nr) => write!(f, " <- write {nr} of block {block}")?,
                    Msg::DataAck(block, nr, ok) => {
                        write!(f, " <- write {nr} of block {block}: {ok}")?;
                    }
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
