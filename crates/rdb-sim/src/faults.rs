//! What disks do with what they are asked, and how nodes die.

use rdb_engine::generation::Generation;
use rdb_engine::state::{DiskState, Role};
use rdb_engine::{ConnEvent, ConnId, Event, IoTag, Time};
use rdb_meta::MdFlags;

use crate::crash::Then;
use crate::disk::Room;
use crate::node::{Node, Op, layout_of};
use crate::rng::{Rng, mix};
use crate::world::World;

impl World {
    pub(crate) fn carry_out(&mut self, i: usize, tag: Option<IoTag>, op: Op) {
        let Some(tag) = tag else {
            if let Op::Sent(tag) = op {
                self.event(i, Event::Connection(ConnId::FIRST, ConnEvent::Sent { tag }));
            }
            return;
        };
        if let Op::GivenUp(op) = &op {
            self.note_lost_name(i, op);
        } else if let Some(volume) = op.volume() {
            let now = self.now;
            let disk = &mut self.nodes[i].disks[volume];
            if disk.full_until <= now {
                disk.room = Room::All;
            }
            if op.meets_full(disk) {
                return self.keep_for_space(i, tag, op);
            }
        }
        if self.fails_now(i, &op) {
            self.coverage.hit(match op {
                Op::Read { .. } => "fault: failed read",
                Op::MetaRead { .. } | Op::MetaWrite { .. } => "fault: failed metadata",
                _ => "fault: failed write",
            });
            self.tell(i, || format!("I/O error: {}", brief(&op)));
            self.note_lost_name(i, &op);
            // A failed write may have reached the medium, or a part of it; a failed flush has not.
            self.ops += 1;
            let mut rng = Rng(mix(self.seed ^ 0xfa11, self.ops));
            if rng.one_in(2) {
                op.carry_out_partly(&mut self.nodes[i].disks, &mut rng);
            }
            return self.event(i, op.failed(tag));
        }
        let op = self.misdirected(i, op);
        let counts = !matches!(op, Op::Read { .. } | Op::MetaRead { .. });
        if counts && self.crashes_here(i) {
            return;
        }
        let node = &mut self.nodes[i];
        let event = op.carry_out(tag, &mut node.disks, &mut node.record);
        if counts && self.crashes_here(i) {
            return;
        }
        self.event(i, event);
    }

    /// One more place where the node could crash. Says whether it did.
    fn crashes_here(&mut self, i: usize) -> bool {
        if !self.judging || self.repairing {
            return false;
        }
        self.positions[i] += 1;
        let Some(crash) = self.crash else {
            return false;
        };
        let here = crash.node == i && crash.position == self.positions[i];
        if !here || self.crashed.is_some() {
            return false;
        }
        self.crashed = Some(self.nodes[i].disks[0].unflushed());
        self.die_keeping(i, true, Some(crash.variant));
        if crash.then == Then::Blackout {
            self.die_keeping(1 - i, true, Some(crash.variant / 2 % 3));
        }
        true
    }

    /// The other disk failed, and the superblock that should have said that this one alone goes on cannot be written:
    /// both disks failed at once, and what was acknowledged in between is given up (docs/testing.md).
    fn note_lost_name(&mut self, i: usize, op: &Op) {
        let Op::MetaWrite { volume, .. } = *op else {
            return;
        };
        let state = self.nodes[i].view[volume];
        let peer_disk = self.nodes[1 - i].view[volume].disk;
        let writes_here = state.role == Role::Primary;
        let alone = (writes_here || state.peer == Role::Primary)
            && state.pdsk < DiskState::Inconsistent
            && (!writes_here || peer_disk < DiskState::Inconsistent);
        if !alone || state.disk != DiskState::UpToDate {
            return;
        }
        let disk = &self.nodes[i].disks[volume];
        let block = disk.read(layout_of(disk.sectors).superblock_sector, 4096);
        let written = rdb_meta::Superblock::parse(&block).map(|s| Generation::new(s.uuids[0]));
        let status = self.nodes[i].resource.status(self.now);
        let ids = status.volumes.get(volume).and_then(|v| v.generation);
        if ids.is_some_and(|(ids, _)| ids.current != written.unwrap_or_default()) {
            self.coverage.hit("judge: both disks failed at once");
            self.nodes[i].consent[volume] = true;
            // A write may have been acknowledged for the sake of this disk before it was known that it is the only one.
            self.models[volume].forked |= writes_here;
        }
    }

    /// The operation as the disk carries it out.
    fn misdirected(&mut self, i: usize, mut op: Op) -> Op {
        let Some(volume) = op.volume() else {
            return op;
        };
        let meta = op.is_meta();
        let disk = &mut self.nodes[i].disks[volume];
        if disk.misdirect != Some(meta) {
            return op;
        }
        let area = if meta {
            disk.data_sectors..disk.sectors
        } else {
            0..disk.data_sectors
        };
        let place = match &mut op {
            Op::Read { sector, bytes, .. } => Some((sector, u64::from(*bytes) / 512)),
            Op::Write { sector, data, .. } => Some((sector, data.len() as u64 / 512)),
            Op::MetaWrite { sector, data, .. } => Some((sector, data.len() as u64 / 512)),
            _ => None,
        };
        let Some((sector, sectors)) = place else {
            return op;
        };
        disk.misdirect = None;
        self.ops += 1;
        let draw = mix(self.seed ^ 0x0717, self.ops);
        let room = (area.end - area.start - sectors) / 8 + 1;
        *sector = area.start + draw % room * 8;
        self.nodes[i].rotten[volume] = true;
        self.lied = true;
        self.models[volume].forked = true;
        self.coverage.hit(if meta {
            "fault: misdirected metadata"
        } else {
            "fault: misdirected data"
        });
        self.tell(i, || format!("misdirected: {}", brief(&op)));
        op
    }

    /// Whether a fault meets this operation.
    fn fails_now(&mut self, i: usize, op: &Op) -> bool {
        let node = &mut self.nodes[i];
        op.fails(&mut node.disks, node.read_errors, node.write_errors)
    }

    /// The process dies and is there again at once, without a configuration: every I/O under way may have happened or
    /// not, what was handed to TCP arrives.
    pub fn kill(&mut self, i: usize) {
        self.die(i, false);
        self.nodes[i].alive = true;
    }

    /// The node loses power: what was not flushed may be lost too. It is there again at once.
    pub fn power_cut(&mut self, i: usize) {
        self.die(i, true);
        self.nodes[i].alive = true;
    }

    /// The node is gone, with or without its power.
    pub fn die(&mut self, i: usize, power: bool) {
        self.die_keeping(i, power, None);
    }

    /// The same, with a choice of what is kept of unflushed writes: see [`crate::crash::variants`].
    fn die_keeping(&mut self, i: usize, power: bool, variant: Option<u64>) {
        self.tell(i, || if power { "POWER CUT" } else { "KILLED" }.into());
        let seed = self.rng.next();
        let mut rng = Rng(seed ^ 0xdead);
        let node = &mut self.nodes[i];
        node.kept.clear();
        for pending in std::mem::take(&mut node.pending) {
            let happened = match variant {
                Some(0) => false,
                Some(1) => true,
                _ => rng.one_in(2),
            };
            if happened {
                pending.op.carry_out_partly(&mut node.disks, &mut rng);
            }
        }
        for volume in 0..self.models.len() {
            self.models[volume].on_death(i);
            if self.is_primary(i, volume) {
                // (Its users hear of whatever is lost by its death.)
                self.models[volume].nothing_is_untold();
            }
            if power {
                if self.nodes[i].disks[volume].is_dirty() {
                    self.coverage.hit("fault: cache lost");
                    let mirrors = self.nodes[i].view[volume].role == Role::Secondary;
                    if mirrors && self.died_with_a_bad_disk(1 - i, volume) {
                        // Users' flushes are done when the Primary's own disk is. That one has failed since, and the Primary
                        // died, before the mirror's cache was flushed: three things within a moment.
                        self.models[volume].forked = true;
                    }
                }
                self.arbiter.lost_cache[i] |= self.nodes[i].disks[volume].has_unflushed_data();
                let disk = &mut self.nodes[i].disks[volume];
                match variant {
                    None => disk.power_cut(&mut rng),
                    Some(variant) => disk.power_cut_keeping(variant, &mut rng),
                }
                if !self.is_held_by_peer(i, volume) {
                    self.models[volume].on_power_cut();
                    if self.is_mirror_of_a_lost_disk(i, volume) && !self.holds(i, volume) {
                        self.models[volume].on_loss_of_both();
                    }
                } else if !self.holds(i, volume) {
                    self.nodes[i].forgetful[volume] = true;
                }
            }
        }
        let node = &mut self.nodes[i];
        node.resource = Node::engine(seed);
        node.plant(self.planted);
        node.timers.clear();
        node.asked.clear();
        node.taken = None;
        self.arbiter.suspended[i] = false;
        let node = &mut self.nodes[i];
        node.connecting = false;
        node.device = None;
        node.refused_impostors = 0;
        node.requests_open.clear();
        node.admin_open.clear();
        node.wire = replica_proto::WireContext::initial();
        node.view.fill(rdb_engine::state::VolumeState::INITIAL);
        node.alive = false;
        node.paused_until = Time(0);
        self.siege_breaks(i);
        let node = &mut self.nodes[i];
        let was = std::mem::take(&mut node.connected) || self.paired_due[i].take().is_some();
        self.hang_up(i, was, power, &mut rng);
        self.want_pair();
    }

    /// Whether the node is dead, and its disk was not UpToDate, as is on its record.
    fn died_with_a_bad_disk(&self, i: usize, volume: usize) -> bool {
        let good = MdFlags::CONSISTENT | MdFlags::WAS_UP_TO_DATE;
        let superblock = self.superblock(i, volume);
        let was_good = superblock.is_some_and(|s| s.flags.contains(good));
        !self.nodes[i].alive && !was_good
    }

    /// The node is the mirror of a Primary that has given its own disk up a moment ago: it has begun no generation on record
    /// since, so that it has not been asked to flush.
    fn is_mirror_of_a_lost_disk(&self, i: usize, volume: usize) -> bool {
        use rdb_engine::state::{DiskState, Role};
        let peer = &self.nodes[1 - i];
        let state = peer.view[volume];
        let gave_up = peer.alive && state.role == Role::Primary && state.disk <= DiskState::Failed;
        let generation = |n: usize| Some(self.superblock(n, volume)?.uuids[0] | 1);
        gave_up && generation(i) == generation(1 - i)
    }

    fn superblock(&self, i: usize, volume: usize) -> Option<rdb_meta::Superblock> {
        let disk = &self.nodes[i].disks[volume];
        let block = disk.read(layout_of(disk.sectors).superblock_sector, 4096);
        rdb_meta::Superblock::parse(&block).ok()
    }

    /// What a node that loses its power had is also where nothing of it can be lost: at a Primary with good data.
    fn is_held_by_peer(&self, i: usize, volume: usize) -> bool {
        use rdb_engine::state::{DiskState, Role};
        let peer = &self.nodes[1 - i];
        let state = peer.view[volume];
        peer.alive && state.role == Role::Primary && state.disk == DiskState::UpToDate
    }
}

pub(crate) fn brief(op: &Op) -> String {
    match op {
        Op::Write { sector, data, .. } => format!("write {sector}+{}", data.len() / 512),
        Op::MetaWrite { sector, data, .. } => format!("meta write {sector}+{}", data.len() / 512),
        other => format!("{other:?}"),
    }
}
