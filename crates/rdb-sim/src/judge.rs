//! The judge: what must hold whenever something happens, and what must hold when nothing is under way.

use rdb_engine::RequestError;
use rdb_engine::config::{OnIoError, OnNoSpace, Protocol};
use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};

use crate::node::Data;
use crate::oracle::Acked;
use crate::plan::Trigger;
use crate::world::World;

/// Both sides of a resync, running or paused, see the target as one of these.
fn is_target(conn: ConnState) -> bool {
    matches!(conn, ConnState::SyncTarget | ConnState::PausedSyncT)
}

/// It is decided that this node's data will be overwritten. (A disk that is kept until the source begins is not given up.)
fn will_be_target(state: VolumeState) -> bool {
    is_target(state.conn)
        || state.conn == ConnState::WFBitMapT
        || state.awaits_source() && state.disk != DiskState::UpToDate
}

/// The state of the other side of this one, where there is one that can last.
fn seen_from_there(conn: ConnState) -> ConnState {
    use ConnState::{PausedSyncS, PausedSyncT, SyncSource, SyncTarget, VerifyS, VerifyT};
    match conn {
        SyncSource => SyncTarget,
        SyncTarget => SyncSource,
        PausedSyncS => PausedSyncT,
        PausedSyncT => PausedSyncS,
        VerifyS => VerifyT,
        VerifyT => VerifyS,
        other => other,
    }
}

impl World {
    /// A write was acknowledged by node `i`: it is where the acknowledgement says.
    pub(crate) fn judge_ack(&mut self, i: usize, volume: usize, acked: &Acked) {
        self.unjudged = true;
        let model = &self.models[volume];
        let (sector, sectors) = (acked.sector, acked.sectors);
        let state = self.nodes[i].view[volume];
        let peer = 1 - i;
        let connected = state.conn >= ConnState::Connected;
        let judged = !model.forked && !model.foreign;
        let broken = |n: usize| model.violation_in(&self.nodes[n].disks[volume], sector, sectors);
        if judged
            && state.disk == DiskState::UpToDate
            && let Some(text) = broken(i)
        {
            panic!("acknowledged, and not on the own disk: {text}");
        }
        let mirrored = connected && state.pdsk == DiskState::UpToDate;
        let alive = self.nodes[peer].alive && self.nodes[peer].connected;
        let good = self.nodes[peer].view[volume].disk == DiskState::UpToDate;
        if judged
            && mirrored
            && alive
            && good
            && !self.promises_less()
            && let Some(text) = broken(peer)
        {
            panic!("acknowledged, and not on the peer's disk: {text}");
        }
        // Who has it alone? A disk that was given up in between may still have taken it.
        let given_up = state.disk == DiskState::Failed
            || state.disk == DiskState::Inconsistent && self.nodes[i].consent[volume];
        // (With both given up it is the one that has it.)
        let holds = state.disk == DiskState::UpToDate || given_up && broken(peer).is_some();
        let unsent = matches!(state.conn, ConnState::WFBitMapS | ConnState::StartingSyncS);
        if holds && (!connected || unsent || state.pdsk < DiskState::Inconsistent) {
            self.judge_lone_write(i, volume);
            self.nodes[i].lonely[volume] = true;
        } else if mirrored && state.disk < DiskState::Inconsistent && broken(peer).is_none() {
            // (Under A what was acknowledged may never arrive there.)
            self.note_lost_disk(i, volume);
            self.nodes[peer].lonely[volume] = true;
        }
    }

    /// What two right engines send each other is what right peers send: a table that refuses any of it is too strict.
    pub(crate) fn judge_refusals(&self, i: usize, refused: u64) {
        let node = &self.nodes[i];
        assert!(
            refused == 0,
            "node {} refused its peer, which is right: {}",
            node.name,
            node.log[node.log.len().saturating_sub(8)..].join("; ")
        );
    }

    /// A request has ended. One thing has failed at most, so there is a copy to serve it.
    pub(crate) fn judge_availability(&self, i: usize, result: &Result<Option<Data>, RequestError>) {
        assert!(
            !self.exacting || !matches!(result, Err(RequestError::Io)),
            "availability: a request failed on node {}, though only one thing has: {}; {}",
            self.nodes[i].name,
            self.states(),
            self.last_words(i)
        );
    }

    fn last_words(&self, i: usize) -> String {
        let log = &self.nodes[i].log;
        log[log.len().saturating_sub(8)..].join("; ")
    }

    /// Both nodes are in sync, nothing is marked, and nothing is under way.
    pub(crate) fn is_together(&self) -> bool {
        let volumes = 0..self.models.len();
        let clean = |v: usize| self.nodes.iter().all(|n| n.out_of_sync_of(v) == 0);
        let idle = |n: &crate::node::Node| {
            n.alive && n.requests_open.is_empty() && n.admin_open.is_empty() && !n.has_io()
        };
        volumes.into_iter().all(|v| self.synced(v) && clean(v)) && self.nodes.iter().all(idle)
    }

    /// Blocks marked, by volume and node.
    pub(crate) fn marks(&self) -> Vec<[u64; 2]> {
        let volumes = 0..self.models.len();
        let of = |v: usize| [0, 1].map(|i| self.nodes[i].out_of_sync_of(v));
        volumes.map(of).collect()
    }

    /// After half a minute of quiet: if the nodes are connected and nothing is under way, each is in the state in which the
    /// other one sees it, and a resync has made progress since `marks` were taken. What only one side is in, it is in for ever.
    pub(crate) fn judge_sides(&mut self, marks: &[[u64; 2]]) {
        let commands = |n: &crate::node::Node| !n.admin_open.is_empty();
        if !self.is_idle() || self.nodes.iter().any(commands) {
            return;
        }
        let marks_now = self.marks();
        for v in 0..self.models.len() {
            let [a, b] = [0, 1].map(|i| self.nodes[i].state_of(v));
            if a.conn < ConnState::Connected || b.conn < ConnState::Connected {
                continue;
            }
            let agrees = |own: VolumeState, other: VolumeState| {
                (own.peer, own.pdsk, own.conn)
                    == (other.role, other.disk, seen_from_there(other.conn))
            };
            assert!(
                agrees(a, b) && agrees(b, a),
                "volume {v}: the nodes are in states that do not fit, and nothing is under way: {}",
                self.why_apart()
            );
            let stands = marks.get(v) == marks_now.get(v);
            assert!(
                !matches!(a.conn, ConnState::SyncSource | ConnState::SyncTarget) || !stands,
                "volume {v}: the resync stands still: {}",
                self.why_apart()
            );
        }
        self.coverage.hit("judge: states of both sides fit");
    }

    /// For whoever wonders why they are not.
    pub(crate) fn why_apart(&self) -> String {
        let of = |i: usize| {
            let n = &self.nodes[i];
            let marks: Vec<u64> = (0..self.models.len())
                .map(|v| n.out_of_sync_of(v))
                .collect();
            format!(
                "node {}: alive {}, marks {marks:?}, {} requests, {} commands, {} I/Os; {}",
                n.name,
                n.alive,
                n.requests_open.len(),
                n.admin_open.len(),
                n.pending.len() + n.kept.len(),
                self.last_words(i)
            )
        };
        format!("{}\n{}\n{}", self.states(), of(0), of(1))
    }

    /// Whether disks keep on with errors behind them.
    pub(crate) fn passes_errors_on(&self) -> bool {
        let options = &self.disk_options;
        options.on_io_error == OnIoError::PassOn || options.on_no_space == OnNoSpace::PassOn
    }

    /// A volume's state changed.
    pub(crate) fn judge_transition(
        &mut self,
        i: usize,
        volume: usize,
        old: VolumeState,
        new: VolumeState,
    ) {
        self.unjudged = true;
        assert!(
            !self.exacting || new.conn != ConnState::StandAlone || old.conn == new.conn,
            "availability: node {} gives its peer up for good, though only one thing has failed: {}",
            self.nodes[i].name,
            self.last_words(i)
        );
        self.look_for_ambushes(i, old, new);
        if will_be_target(new) && !will_be_target(old) {
            self.judge_target(i, volume);
        }
        // An I/O error that is passed on makes a disk Inconsistent, and disk states override everything else when it
        // is decided who is the target (docs/spec/behaviour.md, section 5.3): such a disk has given up its data.
        if old.disk == DiskState::UpToDate
            && new.disk == DiskState::Inconsistent
            && self.passes_errors_on()
        {
            self.nodes[i].consent[volume] = true;
        }
        // Under A and B the writer's disk may be the only one that has what was acknowledged, even flushed.
        if old.role == Role::Primary
            && old.disk == DiskState::UpToDate
            && matches!(new.disk, DiskState::Failed | DiskState::Inconsistent)
            && self.promises_less()
        {
            self.models[volume].forked = true;
        }
        // The other copy was lost with the mirror's power, unflushed, before the disk was given up: no node has it any more.
        let gives_up = old.disk > DiskState::Failed && new.disk == DiskState::Failed;
        if gives_up && old.role == Role::Primary && self.nodes[1 - i].forgetful[volume] {
            self.models[volume].on_power_cut();
            if !self.holds(1 - i, volume) {
                self.models[volume].on_loss_of_both();
            }
        }
        let served = new.role == Role::Primary && new.disk != DiskState::UpToDate;
        if old.role == Role::Primary && !served {
            self.models[volume].nothing_is_untold();
        }
        // (An order that was given while they were connected may be carried out when they are not any more.)
        self.judge_fencing(i, volume, old, new);
        let promoted = old.role != Role::Primary && new.role == Role::Primary;
        let stale = new.conn < ConnState::Connected && self.nodes[1 - i].lonely[volume];
        // (Under A and B the node that has died meanwhile may have been the only one to have what was acknowledged.)
        let only_there =
            new.conn < ConnState::Connected && self.promises_less() && !self.holds(i, volume);
        if promoted && (stale || only_there || self.is_primary(1 - i, volume)) {
            self.models[volume].forked = true;
        }
        // (A source that knows already that the link is gone has gone on alone, while what it sent before still arrives.)
        let source = &self.nodes[1 - i];
        let alone = source.alive && source.view[volume].conn < ConnState::Connected;
        let connected = old.conn >= ConnState::Connected;
        let ends = is_target(old.conn) && new.disk == DiskState::UpToDate && connected;
        if ends && !alone {
            self.judge_synced(i, volume);
        } else if ends {
            let touched = self.touched(volume);
            self.nodes[1 - i].lonely[volume] &= !self.differing_of(volume, &touched).is_empty();
        }
    }

    fn look_for_ambushes(&mut self, i: usize, old: VolumeState, new: VolumeState) {
        let up = |s: VolumeState| s.conn >= ConnState::Connected;
        let ill = |s: VolumeState| s.disk < DiskState::Attaching || s.disk == DiskState::Failed;
        let syncs =
            |s: VolumeState| (ConnState::SyncSource..=ConnState::PausedSyncT).contains(&s.conn);
        let coming = matches!(old.disk, DiskState::Attaching | DiskState::Negotiating);
        let triggers = [
            (!up(old) && up(new), Trigger::Connected),
            (up(old) && !up(new), Trigger::PeerLost),
            (!syncs(old) && syncs(new), Trigger::ResyncBegins),
            (syncs(old) && !syncs(new), Trigger::ResyncEnds),
            (
                old.role != new.role && new.role == Role::Primary,
                Trigger::Promoted,
            ),
            (!ill(old) && ill(new), Trigger::DiskLost),
            (
                coming && new.disk >= DiskState::Inconsistent,
                Trigger::Attached,
            ),
        ];
        for (is, trigger) in triggers {
            if is {
                self.meets(i, trigger);
            }
        }
    }

    /// The node's data are about to be overwritten.
    fn judge_target(&mut self, i: usize, volume: usize) {
        let solved = |n: usize| {
            let mut log = self.nodes[n].log.iter().rev();
            log.any(|line| line.contains("Split-Brain detected"))
        };
        let policy = self.has_split_brain_policy() && (solved(0) || solved(1));
        let consent = self.nodes[i].consent[volume];
        let given_up = consent || policy;
        // Under A and B what was acknowledged may not have left for the peer when the administrator gives this copy up;
        // and the peer may have lost what was in its disk's cache.
        let may_lack =
            consent && self.promises_less() || given_up && self.nodes[1 - i].forgetful[volume];
        if may_lack && !self.holds(1 - i, volume) {
            self.models[volume].forked = true;
        }
        if !self.nodes[i].lonely[volume] || self.is_rotten(volume) {
            return;
        }
        assert!(
            given_up || self.models[volume].foreign,
            "node {}: writes that were acknowledged are here alone, and are about to be overwritten without consent",
            self.nodes[i].name
        );
        // What was promised is given up; the next time both are equal says what holds from then on.
        self.models[volume].forked = true;
        self.nodes[i].lonely[volume] = false;
        self.coverage.hit("judge: data given up by consent");
    }

    /// Whether an acknowledged write may be on its way yet, or may have been acknowledged while it was.
    fn promises_less(&self) -> bool {
        self.promises_less || self.options.protocol != Protocol::C
    }

    /// A disk has lied: nothing is promised until it is replaced.
    pub(crate) fn is_rotten(&self, volume: usize) -> bool {
        self.nodes.iter().any(|n| n.rotten[volume])
    }

    fn has_split_brain_policy(&self) -> bool {
        use rdb_engine::config::SplitBrainPolicy::Disconnect;
        let o = &self.options;
        [o.after_sb_0pri, o.after_sb_1pri, o.after_sb_2pri] != [Disconnect; 3]
    }

    /// The node has become UpToDate by a resync.
    fn judge_synced(&mut self, i: usize, volume: usize) {
        self.nodes[1 - i].lonely[volume] = false;
        self.nodes[i].forgetful[volume] = false;
        let model = &self.models[volume];
        // Under A and B an acknowledged write may still be on its way.
        if model.forked || model.foreign || self.promises_less() {
            return;
        }
        if let Some(text) = model.violation(&self.nodes[i].disks[volume]) {
            panic!(
                "node {} is UpToDate by a resync, without what was promised: {text}",
                self.nodes[i].name
            );
        }
        self.coverage.hit("judge: resync brought everything");
    }

    /// Whether nothing is under way: no I/O, no packet, no request.
    pub fn is_idle(&self) -> bool {
        self.nodes
            .iter()
            .all(|n| n.pending.is_empty() && n.kept.is_empty() && n.requests_open.is_empty())
            && self.net.iter().flatten().all(|s| s.is_empty())
            && self.paired_due == [None; 2]
    }

    /// In sync by the nodes' last words.
    pub(crate) fn seems_synced(&self, volume: usize) -> bool {
        self.nodes.iter().all(|n| {
            let s = n.view[volume];
            s.conn == ConnState::Connected
                && s.disk == DiskState::UpToDate
                && s.pdsk == DiskState::UpToDate
        })
    }

    /// Blocks of the data area that differ. Looks only at what was written since it was last found equal.
    pub fn differing(&mut self, volume: usize) -> Vec<u64> {
        let touched = self.touched(volume);
        self.differing_of(volume, &touched)
    }

    /// Data pages of either disk that were written since the last call.
    fn touched(&mut self, volume: usize) -> Vec<u64> {
        let mut touched = self.nodes[0].disks[volume].take_touched();
        touched.extend(self.nodes[1].disks[volume].take_touched());
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    fn differing_of(&mut self, volume: usize, touched: &[u64]) -> Vec<u64> {
        let [a, b] = &self.nodes;
        let (a, b) = (&a.disks[volume], &b.disks[volume]);
        let suspects = &mut self.suspects[volume];
        suspects.extend(touched);
        suspects.retain(|&nr| !a.same_page(b, nr));
        suspects.iter().copied().collect()
    }

    /// If nothing is under way: nodes that are in sync are equal.
    ///
    /// # Panics
    /// If they are not.
    pub fn judge_quiet(&mut self) {
        if self.silent || !self.is_idle() {
            return;
        }
        self.unjudged = false;
        let mut equal = 0;
        for volume in 0..self.models.len() {
            if self.is_rotten(volume)
                || self.spoiled[volume]
                || !self.seems_synced(volume)
                || self.nodes.iter().any(|n| n.out_of_sync_of(volume) > 0)
            {
                continue;
            }
            let status = self.nodes.iter().map(|n| n.resource.status(self.now));
            let calm = |v: &rdb_engine::VolumeStatus| v.peer.unacked == 0 && v.peer.pending == 0;
            if !status.into_iter().all(|s| s.volumes.iter().all(calm)) {
                continue;
            }
            let touched = self.touched(volume);
            let different = self.differing_of(volume, &touched);
            assert!(
                different.is_empty(),
                "volume {volume} is in sync and differs: blocks {different:?}"
            );
            self.coverage.hit("judge: in sync and equal");
            equal += 1;
            for node in &mut self.nodes {
                node.lonely[volume] = false;
                node.forgetful[volume] = false;
                node.consent[volume] = false;
            }
            let disk = &self.nodes[0].disks[volume];
            let model = &mut self.models[volume];
            if model.foreign {
                continue;
            }
            if model.forked && model.is_idle() {
                model.reset(disk);
            } else if !model.forked
                && let Some(text) = model.new_violation(disk, &touched)
            {
                panic!("both disks are in sync, without what was promised: {text}");
            }
        }
        if equal == self.models.len() && !self.repairing {
            self.arbiter.has_peace();
            self.arbiter.is_open = false;
        }
    }
}
