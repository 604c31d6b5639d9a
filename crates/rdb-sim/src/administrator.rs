//! The administrators: what they do at any moment, and how they bring the pair together at the end.

use rdb_engine::config::ResourceOptions;
use rdb_engine::generation::Generation;
use rdb_engine::state::{ConnState, DiskState, VolumeState};
use rdb_engine::{AdminId, Command, Event, VolumeNr};

use crate::node::{Node, superblock_of};
use crate::plan::{Order, Weather};
use crate::world::World;

fn nr(volume: usize) -> VolumeNr {
    VolumeNr(volume as u16)
}

impl World {
    /// Does the node's own disk hold everything that was promised?
    pub(crate) fn holds(&self, i: usize, volume: usize) -> bool {
        self.models[volume]
            .violation(&self.nodes[i].disks[volume])
            .is_none()
    }

    fn promoting(&self, i: usize, volume: usize) -> bool {
        let mut open = self.nodes[i].admin_open.values();
        open.any(|c| matches!(c, Command::Primary { volume: v, .. } if usize::from(v.0) == volume))
    }

    /// The first node that is Primary of some volume: while it is, the other one cannot become Primary of any.
    fn primary_of_any(&self) -> Option<usize> {
        (0..2).find(|&i| (0..self.models.len()).any(|v| self.is_primary(i, v)))
    }

    fn demote(&mut self, i: usize, volume: usize) {
        let command = Command::Secondary {
            volume: nr(volume),
            held_open: false,
        };
        self.start_admin(i, command);
    }

    /// Promotes without force. Unless reckless the administrator sees to it that the other node is not Primary and that
    /// the data are the newest: nobody knows that in life, and who does not must expect a split brain.
    pub(crate) fn promote(&mut self, i: usize, volume: usize, reckless: bool) {
        let command = Command::Primary {
            volume: nr(volume),
            force: false,
        };
        if self.is_fenced(volume) {
            self.start_admin(i, command);
            return;
        }
        let state = self.nodes[i].view[volume];
        let other = 1 - i;
        let through_peer = state.conn >= ConnState::Connected && state.disk < DiskState::Outdated;
        let data = if through_peer { other } else { i };
        if !reckless {
            if self.is_primary(other, volume) || self.promoting(other, volume) {
                return;
            }
            if state.disk < DiskState::Inconsistent && !through_peer {
                return; // by the time the command is looked at it could be anybody's data
            }
            if !self.holds(data, volume) {
                return;
            }
        } else if !self.holds(data, volume)
            || self.is_primary(other, volume)
            || self.promoting(other, volume)
        {
            self.models[volume].forked = true;
        }
        let disk = &self.nodes[data].disks[volume];
        if self.models[volume].violation_of_acked(disk).is_some() {
            // This node goes on without what was acknowledged and not flushed: it is given up.
            self.models[volume].on_power_cut();
        }
        self.start_admin(i, command);
    }

    pub(crate) fn need_primary(&mut self, first: usize, volume: usize) {
        let busy = |i: usize| self.is_primary(i, volume) || self.promoting(i, volume);
        if busy(0) || busy(1) {
            return;
        }
        for i in [first, 1 - first] {
            if self.nodes[i].alive && !self.promoting(1 - i, volume) {
                self.promote(i, volume, false);
            }
        }
    }

    /// Brings the resource up on a node whose daemon has just started.
    pub(crate) fn start(&mut self, i: usize, connect_first: bool) {
        self.nodes[i].alive = true;
        let options = self.resource_options;
        if options != ResourceOptions::default() {
            self.start_admin(i, Command::ResourceOptions { options });
        }
        let late = self.nodes[i].late.clone();
        let here = |v: &usize| !late[*v];
        for v in (0..self.models.len()).filter(here) {
            self.new_volume(i, v);
        }
        if connect_first {
            self.start_connect(i, false);
        }
        for v in (0..self.models.len()).filter(here) {
            let attach = self.attach_command(i, v);
            self.start_admin(i, attach);
        }
        if !connect_first {
            self.start_connect(i, false);
        }
    }

    fn new_volume(&mut self, i: usize, volume: usize) {
        let new = Command::NewVolume {
            volume: nr(volume),
            minor: volume as u32,
        };
        self.start_admin(i, new);
    }

    /// Adds a volume that is missing on a node, with its disk. Says whether it was.
    fn add_missing(&mut self, i: usize, volume: usize) -> bool {
        self.nodes[i].late[volume] = false;
        if self.nodes[i].has_volume(volume) {
            return false;
        }
        self.coverage.hit("order: a volume is added on one side");
        self.new_volume(i, volume);
        let attach = self.attach_command(i, volume);
        self.start_admin(i, attach);
        true
    }

    /// The caller of the command that is open the longest has gone.
    fn interrupt(&mut self, i: usize) {
        let Some((&id, _)) = self.nodes[i].admin_open.iter().next() else {
            return;
        };
        self.tell(i, || format!("command {id} is interrupted"));
        let id = AdminId(id);
        self.event(i, Event::Withdraw { id });
    }

    pub(crate) fn start_connect(&mut self, i: usize, discard_my_data: bool) {
        let connect = Command::Connect {
            options: self.options.clone(),
            discard_my_data,
            tentative: false,
        };
        self.start_admin(i, connect);
    }

    /// Carries out an order, as the state at hand allows.
    pub(crate) fn order(&mut self, i: usize, volume: usize, order: Order, weather: Weather) {
        let passes = matches!(
            order,
            Order::Interrupt | Order::Detach { force: true } | Order::Disconnect { force: true }
        );
        if !self.nodes[i].alive || self.nodes[i].admin_open.len() > 3 && !passes {
            return;
        }
        let v = nr(volume);
        let standalone = self.nodes[i].view[volume].conn == ConnState::StandAlone;
        self.coverage.hit(name_of(order));
        let command = match order {
            Order::Promote => return self.promote(i, volume, weather.reckless),
            Order::ForcePromote => {
                self.models[volume].forked = true;
                Command::Primary {
                    volume: v,
                    force: true,
                }
            }
            Order::Demote => return self.demote(i, volume),
            Order::Disconnect { force } => Command::Disconnect { force },
            Order::Connect => return self.start_connect(i, false),
            Order::DiscardMyData => return self.start_connect(i, true),
            Order::Detach { force } => Command::Detach { volume: v, force },
            Order::Attach => self.attach_command(i, volume),
            // Without a connection an invalidated disk may be the last good one.
            Order::Invalidate | Order::InvalidateRemote if standalone => return,
            Order::Invalidate => Command::Invalidate { volume: v },
            Order::InvalidateRemote => Command::InvalidateRemote { volume: v },
            Order::Verify { start, stop } => Command::Verify {
                volume: v,
                start,
                stop,
            },
            Order::PauseSync => Command::PauseSync { volume: v },
            Order::ResumeSync => Command::ResumeSync { volume: v },
            Order::NewCurrentUuid => Command::NewCurrentUuid {
                volume: v,
                clear_bitmap: false,
            },
            Order::Outdate => Command::Outdate { volume: v },
            Order::SuspendIo => Command::SuspendIo { volume: v },
            Order::ResumeIo => {
                self.note_resumption(i);
                Command::ResumeIo { volume: v }
            }
            Order::Snapshot {
                limit_ms,
                with_peer,
            } => self.snapshot_command(i, limit_ms, with_peer),
            Order::Interrupt => return self.interrupt(i),
            Order::LateVolume => {
                self.nodes[i].late[volume] = !self.add_missing(i, volume);
                return;
            }
            Order::Down => {
                for volume in 0..self.models.len() {
                    self.demote(i, volume);
                }
                self.start_admin(i, Command::Disconnect { force: false });
                for volume in 0..self.models.len() {
                    let volume = nr(volume);
                    let force = false;
                    self.start_admin(i, Command::Detach { volume, force });
                }
                return;
            }
        };
        self.start_admin(i, command);
    }

    /// Disks are whole again, and are attached where they were lost. One that lied is replaced, if that is wanted.
    pub(crate) fn repair_disks(&mut self, i: usize, replace: bool) {
        self.begin_patience(i);
        for volume in 0..self.models.len() {
            self.nodes[i].disks[volume].repair();
            let diskless = self.nodes[i].view[volume].disk == DiskState::Diskless;
            if self.nodes[i].alive && diskless && self.nodes[i].admin_open.is_empty() {
                if replace && std::mem::take(&mut self.nodes[i].rotten[volume]) {
                    // (The same blocks, which is the worst that a new disk could hold.)
                    crate::node::create_md(&mut self.nodes[i].disks[volume]);
                    self.nodes[i].lonely[volume] = false;
                }
                let attach = self.attach_command(i, volume);
                self.start_admin(i, attach);
            }
        }
    }

    /// Every fault ends, and the administrator brings the pair together.
    ///
    /// # Panics
    /// If that does not succeed, or if what is then there breaks a promise.
    pub(crate) fn repair(&mut self, weather: Weather) {
        self.repairing = true;
        self.exacting = false;
        self.heal();
        self.wires.crossing = 0;
        self.wires.spoils = 0;
        // A disk that is attached from now on is synced as quickly as can be.
        self.disk_options.resync_rate_kib = self.disk_options.resync_rate_kib.max(100_000);
        self.disk_options.c_plan_ahead_ds = 0;
        self.wires.bytes_per_ms = 0;
        // (What an impostor may have spoiled is synced whole: with few buffers and a long way that takes longer than anybody waits.)
        let latency_max_us = if self.sieges == 0 { 5_000 } else { 200 };
        self.wires.latency_us = self.wires.latency_us.min(latency_max_us);
        self.jobs.clear();
        self.ambushes.clear();
        self.lift_siege();
        self.end_handlers();
        for i in 0..2 {
            self.begin_patience(i);
            self.nodes[i].paused_until = rdb_engine::Time(0);
            self.nodes[i].late.fill(false);
            if !self.nodes[i].alive {
                self.start(i, false);
            }
            for volume in 0..self.models.len() {
                self.add_missing(i, volume);
            }
        }
        // So is one that is attached already. (The pace that a node has been given it keeps, whatever the peer's is.)
        for i in 0..2 {
            for volume in 0..self.models.len() {
                let options = self.disk_options.clone();
                let volume = rdb_engine::VolumeNr(volume as u16);
                self.start_admin(i, Command::DiskOptions { volume, options });
            }
        }
        for round in 0..40 {
            for i in 0..2 {
                self.repair_disks(i, true);
                if self.resettled {
                    // (Refused, perhaps, as long as a resync goes by the old ones.)
                    self.adjust(i);
                }
            }
            self.quicken_resyncs(round);
            if self.comes_to_rest() {
                if self.give_up_rotten_disks()
                    || self.resume_all()
                    || self.sync_what_is_marked(round)
                {
                    continue;
                }
                break;
            }
            self.give_up_rotten_disks();
            self.judge_commands(round);
            self.tell(2, || format!("repair {round}"));
            self.repair_round(round, weather);
            assert!(
                round < 39,
                "the pair does not come together: {}",
                self.states()
            );
        }
        self.pass(5_000);
        self.books();
    }

    /// What an impostor may have spoiled is synced whole, which takes its time at the pace of a run.
    fn quicken_resyncs(&mut self, round: u64) {
        if self.sieges == 0 || !round.is_multiple_of(8) {
            return;
        }
        for i in 0..2 {
            for v in 0..self.models.len() {
                let options = self.disk_options.clone();
                let volume = nr(v);
                self.start_admin(i, Command::DiskOptions { volume, options });
            }
        }
    }

    /// Lets time pass, and judges when nothing is under way.
    fn pass(&mut self, ms: u64) {
        let job = self.advance(self.now.plus_ms(ms));
        assert!(job.is_none(), "repairs leave nothing for later");
    }

    /// Gives the pair half a minute to come together. Says whether it has.
    fn comes_to_rest(&mut self) -> bool {
        let marks = self.marks();
        for _ in 0..15 {
            self.pass(2_000);
            let all = (0..self.models.len()).all(|v| self.synced(v));
            // (A mirror may still be writing what protocols A and B have acknowledged.)
            let idle = |n: &crate::node::Node| {
                n.requests_open.is_empty() && n.admin_open.is_empty() && !n.has_io()
            };
            if all && self.nodes.iter().all(idle) {
                return true;
            }
        }
        self.judge_sides(&marks);
        false
    }

    /// Says whether there is any.
    fn give_up_rotten_disks(&mut self) -> bool {
        let mut any = false;
        for i in 0..2 {
            for v in 0..self.models.len() {
                if self.nodes[i].rotten[v] {
                    any = true;
                    self.demote(i, v);
                    let force = true;
                    let volume = nr(v);
                    self.start_admin(i, Command::Detach { volume, force });
                    self.pass(1_000);
                }
            }
        }
        any
    }

    /// What administrators have suspended goes on, and what is frozen. Says whether there was anything.
    fn resume_all(&mut self) -> bool {
        let mut any = false;
        for i in 0..2 {
            if self.nodes[i].view.iter().any(VolumeState::is_suspended) {
                any = true;
                self.start_admin(i, Command::ResumeIo { volume: nr(0) });
                self.pass(1_000);
            }
        }
        any
    }

    /// The source of a full sync by hand marks every block before its peer has begun. If that comes to nothing both are
    /// UpToDate, and equal, and the marks stay: `No resync, but N bits in bitmap!`. A new generation makes a resync of them.
    /// Says whether there was anything to do.
    fn sync_what_is_marked(&mut self, round: u64) -> bool {
        let marked = |w: &World, v: usize| (0..2).find(|&i| w.nodes[i].out_of_sync_of(v) > 0);
        let mut volumes = 0..self.models.len();
        let found = volumes.find_map(|v| {
            marked(self, v)
                .filter(|_| self.full_syncs[v])
                .map(|i| (i, v))
        });
        let Some((i, v)) = found.filter(|_| round < 30) else {
            return false;
        };
        let primary = self.primary_of_any().unwrap_or(i);
        if !self.is_primary(primary, v) {
            self.promote(primary, v, false);
            self.pass(1_000);
        }
        let secondary = 1 - primary;
        self.start_admin(secondary, Command::Disconnect { force: true });
        self.pass(3_000);
        self.start_connect(secondary, false);
        self.pass(20_000);
        self.coverage
            .hit("repair: marks of a full sync that came to nothing");
        true
    }

    fn judge_commands(&self, round: u64) {
        // A slow disk still has something to do, perhaps for the peer's users.
        if round < 8 && self.nodes.iter().any(Node::has_io) {
            return;
        }
        for node in &self.nodes {
            // A demotion waits for requests, and these for data that may be gone; other commands wait for it.
            let first = node.admin_open.values().next();
            let waits = matches!(first, Some(Command::Secondary { .. }));
            assert!(
                node.admin_open.is_empty() || waits && round < 5,
                "commands hang on node {}: {:?} {}",
                node.name,
                node.admin_open,
                self.states()
            );
        }
    }

    fn repair_round(&mut self, round: u64, weather: Weather) {
        for i in 0..2 {
            for v in 0..self.models.len() {
                let state = self.nodes[i].state_of(v);
                let lost = self.is_primary(i, v) && state.disk == DiskState::Diskless;
                if lost && round > 3 {
                    // A Primary without data takes no other data than it had: it has to give up its role.
                    self.demote(i, v);
                }
                if state.susp || round > 3 && state.is_suspended() {
                    self.start_admin(i, Command::ResumeIo { volume: nr(v) });
                }
                if state.user_isp {
                    self.start_admin(i, Command::ResumeSync { volume: nr(v) });
                }
            }
        }
        if self.lied && round % 10 == 9 {
            // What a disk lied about may have spread: one side begins anew.
            self.nodes[1].rotten.fill(true);
        }
        let alone: Vec<bool> = self
            .nodes
            .iter()
            .map(|n| n.state().conn == ConnState::StandAlone)
            .collect();
        let refused = |l: &String| {
            l.contains("Split-Brain detected but unresolved")
                || l.contains("I shall become SyncTarget, but I am primary!")
                || l.contains("Can only connect to data")
                || l.contains("Unrelated data")
                || l.contains("I shall become SyncSource, but I am inconsistent!")
                || l.contains("Multiple primaries not allowed by config")
        };
        let split = self.nodes.iter().any(|n| n.log.iter().any(refused));
        // After a refusal one node may be StandAlone, and the other still trying.
        if alone.contains(&true) && split {
            return self.consent(weather);
        }
        if alone.contains(&true) {
            for (i, alone) in alone.into_iter().enumerate() {
                if alone {
                    self.start_connect(i, false);
                }
            }
            return;
        }
        let bad = |n: &crate::node::Node, v: usize| {
            let s = n.state_of(v);
            s.conn == ConnState::Connected
                && s.disk < DiskState::UpToDate
                && s.disk >= DiskState::Inconsistent
                && s.pdsk < DiskState::UpToDate
        };
        let volumes = 0..self.models.len();
        let both_bad = volumes
            .into_iter()
            .find(|&v| self.nodes.iter().all(|n| bad(n, v)));
        if let Some(v) = both_bad {
            return self.declare_good(v);
        }
        if round % 3 == 2 {
            // Blocks failed, or a disk was refused: a new connection looks at everything afresh.
            for n in &mut self.nodes {
                n.log.clear();
            }
            let i = self.rng.below(2) as usize;
            self.start_admin(i, Command::Disconnect { force: true });
            self.pass(3_000);
        }
    }

    /// Neither copy is good by itself: one is declared good.
    fn declare_good(&mut self, v: usize) {
        let i = (0..2).find(|&i| self.holds(i, v)).unwrap_or(0);
        if !self.holds(i, v) {
            self.models[v].forked = true;
        }
        self.resume_all();
        // (All volumes: a node cannot become Primary while the other is, of another volume of the resource.)
        for volume in 0..self.models.len() {
            for node in 0..2 {
                self.demote(node, volume);
            }
        }
        self.pass(2_000);
        let command = Command::Primary {
            volume: nr(v),
            force: true,
        };
        self.start_admin(i, command);
        self.pass(20_000);
    }

    fn quiesce(&mut self) {
        self.resume_all();
        self.pass(60_000);
        for n in &self.nodes {
            assert!(
                n.requests_open.is_empty(),
                "requests hang on node {}: {:?}",
                n.name,
                n.requests_open
            );
        }
    }

    /// The data has forked: the administrator keeps the better copy.
    fn consent(&mut self, weather: Weather) {
        self.quiesce();
        let volumes = self.models.len();
        for v in 0..volumes {
            for i in 0..2 {
                self.demote(i, v);
            }
        }
        for i in 0..2 {
            self.start_admin(i, Command::Disconnect { force: true });
        }
        self.pass(5_000);
        // The newest data may be on a disk that was given up.
        for i in 0..2 {
            self.repair_disks(i, true);
        }
        self.pass(5_000);
        let good_disk =
            |w: &World, i: usize, v: usize| w.nodes[i].state_of(v).disk == DiskState::UpToDate;
        let up = |w: &World, i: usize| (0..volumes).all(|v| good_disk(w, i, v));
        let good = |w: &World, i: usize| up(w, i) && (0..volumes).all(|v| w.holds(i, v));
        let winner = (0..2).find(|&i| good(self, i));
        // A disk that passes its errors on is Inconsistent after one, and may be the only one that has what came last.
        // (So may a new disk by chance, but nobody would take that for the better one.)
        let attached = |w: &World, i: usize| {
            let name = |disk| Generation::new(superblock_of(disk).uuids[0]);
            let old = |disk| name(disk) != Generation::JUST_CREATED;
            let there = |v| w.nodes[i].state_of(v).disk >= DiskState::Inconsistent;
            (0..volumes).all(|v| there(v) && old(&w.nodes[i].disks[v]))
        };
        let whole = |w: &World, i: usize| attached(w, i) && (0..volumes).all(|v| w.holds(i, v));
        let winner = winner.or((0..2).find(|&i| whole(self, i)));
        let winner = winner.or((0..2).find(|&i| up(self, i))).unwrap_or(0);
        let loser = 1 - winner;
        for v in 0..volumes {
            if self.holds(winner, v) {
                continue;
            }
            // With several volumes each may have its newest data on another node.
            assert!(
                weather.reckless || volumes > 1 || self.models[v].forked || !up(self, winner),
                "no copy holds what was promised: {:?}\n{:?}",
                self.models[v].violation(&self.nodes[0].disks[v]),
                self.models[v].violation(&self.nodes[1].disks[v]),
            );
            self.models[v].forked = true;
        }
        for v in 0..volumes {
            if !good_disk(self, winner, v) {
                let command = Command::Primary {
                    volume: nr(v),
                    force: true,
                };
                self.start_admin(winner, command);
                self.pass(1_000);
            }
        }
        for n in &mut self.nodes {
            n.log.clear();
        }
        self.start_connect(loser, true);
        self.start_connect(winner, false);
        self.pass(20_000);
    }

    /// Both are in sync: equal, nothing marked, nothing promised is missing, and ready for work.
    fn books(&mut self) {
        for v in 0..self.models.len() {
            assert!(self.synced(v), "came apart again: {}", self.states());
            let bits = [0, 1].map(|i| self.nodes[i].out_of_sync_of(v));
            let different = self.differences(v);
            assert!(
                different.is_empty(),
                "volume {v} differs: blocks {different:?}, {bits:?} bits"
            );
            assert_eq!(
                bits,
                [0, 0],
                "bits are left in volume {v}: {}",
                self.states()
            );
            let broken = self.models[v].violation(&self.nodes[0].disks[v]);
            if let Some(text) = broken.filter(|_| !self.models[v].forked) {
                panic!("a promise is broken: {text}");
            }
        }
        for v in 0..self.models.len() {
            let of_this = (0..2).find(|&i| self.is_primary(i, v));
            let i = of_this.or_else(|| self.primary_of_any()).unwrap_or(1);
            if of_this.is_none() {
                let command = Command::Primary {
                    volume: nr(v),
                    force: false,
                };
                self.admin(i, command)
                    .expect("a node that is in sync can be promoted");
            }
            self.submit_word(i, v, 64, 8);
        }
        self.pass(1_000);
        let open = |n: &crate::node::Node| !n.requests_open.is_empty();
        assert!(!self.nodes.iter().any(open), "the last writes hang");
        assert!(self.disks_equal(), "the last writes are not on both disks");
    }
}

fn name_of(order: Order) -> &'static str {
    match order {
        Order::Promote => "order: promote",
        Order::ForcePromote => "order: force promote",
        Order::Demote => "order: demote",
        Order::Disconnect { .. } => "order: disconnect",
        Order::Connect => "order: connect",
        Order::DiscardMyData => "order: discard my data",
        Order::Detach { .. } => "order: detach",
        Order::Attach => "order: attach",
        Order::Invalidate => "order: invalidate",
        Order::InvalidateRemote => "order: invalidate remote",
        Order::Verify { .. } => "order: verify",
        Order::PauseSync => "order: pause sync",
        Order::ResumeSync => "order: resume sync",
        Order::NewCurrentUuid => "order: new current UUID",
        Order::Outdate => "order: outdate",
        Order::SuspendIo => "order: suspend I/O",
        Order::ResumeIo => "order: resume I/O",
        Order::Snapshot { .. } => "order: snapshot",
        Order::Down => "order: down",
        Order::Interrupt => "order: interrupt",
        Order::LateVolume => "order: a volume is left out, or added",
    }
}
