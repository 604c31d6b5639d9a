//! The judge of fencing and of frozen I/O: that never two nodes go on alone, that no request ends while I/O is suspended, and that
//! what `suspend-io` has suspended is the same on both disks.

use rdb_engine::state::{ConnState, DiskState, Fencing, Role, VolumeState};
use rdb_engine::{Command, Handler, RequestError};
use rdb_meta::{MdFlags, Superblock};

use crate::node::{Data, layout_of};
use crate::world::World;

impl World {
    /// Whether a node may go on alone only if the arbiter says so: then no two ever do.
    pub(crate) fn is_fenced(&self, volume: usize) -> bool {
        self.arbiter.is_on
            && self.judging
            && !self.arbiter.is_open
            && self.disk_options.fencing == Fencing::ResourceAndStonith
            && self.resource_options.handlers.has(Handler::FencePeer)
            && !self.models[volume].forked
    }

    fn flags_on_record(&self, i: usize, volume: usize) -> MdFlags {
        let disk = &self.nodes[i].disks[volume];
        let block = disk.durable(layout_of(disk.sectors).superblock_sector, 4096);
        Superblock::parse(&block).map_or(MdFlags::empty(), |s| s.flags)
    }

    /// Whether the disk would be taken for a good one after a power cut now.
    pub(crate) fn is_good_on_record(&self, i: usize, volume: usize) -> bool {
        let good = MdFlags::CONSISTENT | MdFlags::WAS_UP_TO_DATE;
        self.flags_on_record(i, volume).contains(good)
    }

    /// A write was acknowledged that is here alone, as far as this node knows.
    pub(crate) fn judge_lone_write(&mut self, i: usize, volume: usize) {
        let (state, p) = (self.nodes[i].view[volume], 1 - i);
        let mayhem = self.arbiter.is_on && self.nodes[p].lonely[volume];
        if !self.is_fenced(volume) {
            self.models[volume].forked |= mayhem;
            return;
        }
        let allowed = self.arbiter.winner == Some(i) || !self.is_good_on_record(p, volume);
        let lost_disk = state.conn >= ConnState::Connected && state.pdsk < DiskState::Inconsistent
            || self.passes_errors_on() && state.pdsk == DiskState::Inconsistent;
        // (An administrator gives the peer's data up, which does not know it yet.)
        let given_up = state.conn == ConnState::StartingSyncS;
        if (lost_disk || given_up) && !allowed {
            self.arbiter.is_open = true; // as in `note_lost_disk`, of the peer's
            return;
        }
        let alone = state.conn < ConnState::Connected;
        let words = || {
            format!(
                "fencing: node {} acknowledges a write alone, and nothing keeps its peer from going on: {}",
                self.nodes[i].name,
                self.states()
            )
        };
        assert!(allowed || alone, "{}", words());
        assert!(
            allowed || state.pdsk != DiskState::Outdated,
            "{}, who was to be Outdated",
            words()
        );
        assert!(allowed, "{}, who was bad", words());
        assert!(
            !mayhem,
            "fencing: both nodes have acknowledged writes that the other lacks: {}",
            self.states()
        );
        assert!(
            state.conn >= ConnState::Connected
                || state.pdsk != DiskState::Outdated
                || self
                    .flags_on_record(i, volume)
                    .contains(MdFlags::PEER_OUT_DATED),
            "fencing: node {} goes on without a peer that is Outdated, which is not on record",
            self.nodes[i].name
        );
        self.coverage.hit("judge: a node goes on alone, fenced");
    }

    /// What was acknowledged is at the peer alone. The disk here is gone, and could not say so on record: back in another life,
    /// nobody knows that it lacks this.
    pub(crate) fn note_lost_disk(&mut self, i: usize, volume: usize) {
        let knows = self.arbiter.winner == Some(1 - i) || !self.is_good_on_record(i, volume);
        self.arbiter.is_open |= self.arbiter.is_on && !knows;
    }

    /// A volume has become Primary, or anything else.
    pub(crate) fn judge_fencing(
        &mut self,
        i: usize,
        volume: usize,
        old: VolumeState,
        new: VolumeState,
    ) {
        if !self.arbiter.is_on {
            return;
        }
        if new.conn >= ConnState::Connected && new.disk == DiskState::UpToDate {
            // The other one was no better.
            self.arbiter.outdated[i] = false;
        }
        let in_sync = (0..self.models.len()).all(|v| self.seems_synced(v));
        if in_sync {
            self.arbiter.has_peace();
        }
        let mut open = self.nodes[i].admin_open.values();
        let resumes = open.any(|c| matches!(c, Command::ResumeIo { .. }));
        if old.is_suspended() && !new.is_suspended() {
            self.arbiter.is_open |= resumes;
            self.begin_patience(i);
            if new.conn >= ConnState::Connected && new.pdsk < DiskState::Inconsistent {
                self.note_lost_disk(1 - i, volume);
            }
        }
        if self.arbiter.suspended[i] && (!new.susp || new.role != Role::Primary) {
            self.judge_suspended(i);
            self.arbiter.suspended[i] = false;
        }
        if old.role == Role::Primary || new.role != Role::Primary {
            return;
        }
        self.arbiter.suspended[1 - i] = false;
        let alone = new.conn < ConnState::Connected;
        let mut commands = self.nodes[i].admin_open.values();
        let forced = commands.any(|c| matches!(c, Command::Primary { force: true, .. }));
        let outdated = old.disk == DiskState::Outdated || self.arbiter.outdated[i];
        assert!(
            !alone || forced || !outdated,
            "fencing: node {} is Outdated, and promoted without force: {}",
            self.nodes[i].name,
            self.states()
        );
        if !alone || !self.is_fenced(volume) {
            return;
        }
        let mut lacks = self.models[volume].violation(&self.nodes[i].disks[volume]);
        if lacks.is_some() && self.arbiter.lost_cache[i] {
            // It was there, and is where the other one is, which is off.
            self.models[volume].forked = true;
            lacks = None;
        }
        // (One that has no data to go on with may have that role.)
        let other = self.nodes[1 - i].view[volume].disk >= DiskState::Consistent;
        let both = other && self.is_primary(1 - i, volume);
        let lonely = self.nodes[1 - i].lonely[volume];
        assert!(
            !both && !lonely && lacks.is_none(),
            "fencing: node {} is promoted alone; the other one is Primary: {both}, has more: {lonely}, and this lacks: {lacks:?}",
            self.nodes[i].name,
        );
        self.coverage.hit("judge: promoted alone, fenced");
    }

    /// (V11) A request of a user has ended.
    pub(crate) fn judge_frozen(&self, i: usize, result: &Result<Option<Data>, RequestError>) {
        // (What cannot be asked is refused at once.)
        let refused = matches!(
            result,
            Err(RequestError::Inval) | Err(RequestError::NotPrimary)
        );
        assert!(
            refused || !self.nodes[i].view.iter().any(VolumeState::is_suspended),
            "V11: a request ends on node {} while I/O is suspended: {}",
            self.nodes[i].name,
            self.states()
        );
    }

    /// A command has ended.
    pub(crate) fn judge_answer(&mut self, i: usize, command: &Command, is_ok: bool) {
        if let (Command::Snapshot { wish }, true) = (command, is_ok) {
            self.judge_snapshot(i, wish);
        }
        let suspends = matches!(command, Command::SuspendIo { .. }) && is_ok;
        if !self.arbiter.is_on || !suspends || !self.has_users(i) || self.has_users(1 - i) {
            return;
        }
        let marked = |w: &World, v: usize| w.nodes.iter().any(|n| n.out_of_sync_of(v) > 0);
        let in_sync = (0..self.models.len()).all(|v| self.seems_synced(v) && !marked(self, v));
        if !in_sync || !self.nodes[i].view[0].susp {
            return;
        }
        self.arbiter.suspended[i] = true;
        self.judge_suspended(i);
        let cached = self.nodes[1 - i]
            .disks
            .iter()
            .any(|d| d.has_unflushed_data());
        assert!(
            !cached,
            "suspend-io has ended on node {}, and the peer has writes in its disk's cache",
            self.nodes[i].name
        );
        self.coverage.hit("judge: suspended and equal");
    }

    /// Both disks are the same as long as nobody writes.
    pub(crate) fn judge_suspended(&mut self, i: usize) {
        for volume in 0..self.models.len() {
            let different = self.differing(volume);
            assert!(
                different.is_empty(),
                "I/O is suspended on node {}, and volume {volume} differs: blocks {different:?}",
                self.nodes[i].name
            );
        }
    }

    /// An administrator resumes: frozen I/O goes on whatever the peer does.
    pub(crate) fn note_resumption(&mut self, i: usize) {
        let frozen = |s: &VolumeState| s.susp_fen || s.susp_nod;
        let node = &self.nodes[i];
        self.arbiter.is_open |= !node.admin_open.is_empty() || node.view.iter().any(frozen);
    }
}
