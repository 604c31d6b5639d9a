//! The fence procedure and the arbiter: the order of the engine's `router/fencing.rs`, `router/admin/role.rs` and `connection.rs`, with its
//! table of what an exit code means (`rules/fencing.rs`).

use rdb_engine::rules::fencing::{policy, verdict};
use rdb_engine::state::{self, Change, ConnState, DiskState, Fencing, Role, StateError};

use crate::node::{CONSISTENT, Step, WAS_UP_TO_DATE};
use crate::rules::Plant;
use crate::world::{Run, Super};

/// What `fence-peer` does. It is the truth, and what it says of that comes at any later moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    /// The peer is there, is no Primary, and has confirmed that its disk is Outdated (4), or is on record as worse (3).
    Outdate,
    /// The peer's power is cut (7).
    Kill,
    /// The peer is off (7), or Primary (6).
    See,
    /// It does not come to anything (1).
    Break,
}

impl Deed {
    pub(crate) const ALL: [Deed; 4] = [Deed::Outdate, Deed::Kill, Deed::See, Deed::Break];
}

enum Fenced {
    Asked,
    No,
}

impl Super {
    /// Whether a disk of this record would be taken for a good one.
    pub(crate) fn is_good(&self) -> bool {
        let good = CONSISTENT | WAS_UP_TO_DATE;
        self.flags & good == good
    }
}

impl Step<'_> {
    // ---- the arbiter ---------------------------------------------------------------------------------------------

    /// The `fence-peer` that node `n` has asked for does its work.
    pub(crate) fn fence(&mut self, n: usize, deed: Deed) -> Option<()> {
        let peer = &self.world.nodes[1 - n];
        let lost = self
            .world
            .winner
            .is_some_and(|winner| usize::from(winner) != n);
        if lost && deed != Deed::Break {
            return None;
        }
        let exit = match deed {
            Deed::Break => 1,
            Deed::See if !peer.up => self.wins(n),
            Deed::See if peer.state.role == Role::Primary => 6,
            Deed::See => return None,
            Deed::Kill if !peer.up => return None,
            Deed::Kill => {
                self.crash(1 - n);
                self.wins(n)
            }
            Deed::Outdate if !peer.up || peer.promoting || peer.state.role == Role::Primary => {
                return None;
            }
            Deed::Outdate if peer.state.disk == DiskState::Inconsistent => {
                let bad = peer.disk.durable.flags & CONSISTENT == 0;
                // (One that is connected may be at the end of a resync.)
                if !bad || peer.state.is_connected() {
                    return None;
                }
                3
            }
            Deed::Outdate => {
                self.outdate(1 - n)?;
                4
            }
        };
        self.node(n).fence.as_mut()?.exit = Some(exit);
        Some(())
    }

    fn wins(&mut self, n: usize) -> u8 {
        if self.setting.plant == Some(Plant::ShotForOutdated) {
            return 4;
        }
        self.world.winner = u8::try_from(n).ok();
        7
    }

    /// `step_outdate`, to its end: it is on record.
    pub(crate) fn outdate(&mut self, n: usize) -> Option<()> {
        let disk = self.state(n).disk;
        let is_there = matches!(
            disk,
            DiskState::Outdated | DiskState::Consistent | DiskState::UpToDate
        );
        if !is_there {
            return None;
        }
        self.change(n, Change::disk(DiskState::Outdated), false);
        if self.state(n).disk != DiskState::Outdated {
            return None;
        }
        self.flush(n);
        self.node(n).disk.outdated = true;
        Some(())
    }

    // ---- the fence procedure -------------------------------------------------------------------------------------

    fn policy(&self, n: usize) -> Option<Fencing> {
        let node = &self.world.nodes[n];
        let of_disk = node
            .attached
            .then_some((node.state.disk, self.setting.fencing));
        policy(of_disk.into_iter())
    }

    fn is_peer_fenced(&self, n: usize) -> bool {
        self.state(n).pdsk <= DiskState::Outdated
    }

    pub(crate) fn fence_lost_peer(&mut self, n: usize) {
        let state = self.state(n);
        let wanted = self.policy(n).unwrap_or_default() != Fencing::DontCare || state.susp_fen;
        if state.role == Role::Primary && wanted && !self.is_peer_fenced(n) {
            self.fence_peer(n);
        }
    }

    /// (L50) The parameters are about to go out: a peer that is Outdated, and may have the same generation, is so no more when it has
    /// them.
    pub(crate) fn doubt_outdated_peer(&mut self, n: usize) {
        let node = &self.world.nodes[n];
        let may_be_good =
            node.attached && node.state.pdsk == DiskState::Outdated && self.may_share_name(n);
        if may_be_good && self.setting.fencing != Fencing::DontCare {
            self.fact(n, Change::default().and_pdsk(DiskState::DUnknown));
        }
    }

    /// Has the peer fenced, if the policy wants that. (Nobody calls it who needs not.)
    fn fence_peer(&mut self, n: usize) -> Fenced {
        if self.world.nodes[n].fence.is_some() {
            return Fenced::Asked;
        }
        let beside_diskless = self.state(n).awaits_word();
        if self.state(n).conn >= ConnState::WFReportParams && !beside_diskless {
            return Fenced::No;
        }
        if self.policy(n).is_none() {
            self.give_up_fencing(n);
            return Fenced::No;
        }
        self.node(n).fence = Some(Run {
            beside_diskless,
            ..Run::default()
        });
        Fenced::Asked
    }

    fn give_up_fencing(&mut self, n: usize) {
        let state = self.state(n);
        if !state.susp_fen {
            return;
        }
        if !state.susp_nod {
            self.settle_log(n);
        }
        self.unsuspend(n, Change::default().and_susp_fen(false));
    }

    /// `fence-peer` has ended.
    pub(crate) fn peer_fenced(&mut self, n: usize) -> Option<()> {
        let run = self.node(n).fence.take()?;
        self.take_verdict(n, run, i32::from(run.exit?));
        if self.world.nodes[n].promoting {
            self.node(n).promoting = false;
            self.promote_fenced(n);
        }
        Some(())
    }

    fn take_verdict(&mut self, n: usize, run: Run, exit: i32) {
        let exit = match exit {
            1 if self.setting.plant == Some(Plant::BrokenForOutdated) => 4,
            exit => exit,
        };
        let state = self.state(n);
        let policy = self.policy(n).unwrap_or_default();
        let verdict = verdict(exit, policy, state.disk);
        let meets = state.conn >= ConnState::WFReportParams;
        if run.beside_diskless && !run.stale {
            let fences = verdict.and_then(|verdict| verdict.change?.pdsk).is_some();
            if fences && state.awaits_word() {
                self.fact(n, Change::disk(DiskState::UpToDate));
                self.send_state(n);
            }
            return;
        }
        if run.stale || meets {
            if !meets {
                self.fence_lost_peer(n); // what it says is of the time before
            }
            return;
        }
        if let Some(change) = verdict.and_then(|verdict| verdict.change) {
            self.change(n, change, false);
            if exit == 6 && self.state(n).disk == DiskState::Outdated {
                self.flush(n);
            }
        }
    }

    // ---- commands ------------------------------------------------------------------------------------------------

    /// Whether a promotion asks for the peer to be fenced: alone it is refused.
    pub(crate) fn fences_for_promotion(&self, n: usize) -> bool {
        let state = self.state(n);
        let away = state.conn < ConnState::WFReportParams;
        if self.setting.fencing == Fencing::DontCare || !away && !state.awaits_word() {
            return false;
        }
        match state::request(state, Change::role(Role::Primary), &self.context(n), false) {
            Err(StateError::PrimaryNop) => true,
            Err(StateError::NoUpToDateDisk) => state.disk == DiskState::Consistent,
            _ => false,
        }
    }

    pub(crate) fn fence_for_promotion(&mut self, n: usize) -> Option<()> {
        match self.fence_peer(n) {
            Fenced::Asked => {
                self.node(n).promoting = true;
                Some(())
            }
            Fenced::No => self.promote_fenced(n),
        }
    }

    /// The fence procedure has come to its end.
    fn promote_fenced(&mut self, n: usize) -> Option<()> {
        let state = self.state(n);
        let mut change = Change::role(Role::Primary);
        if state.awaits_word() {
            return None; // refused
        }
        if state.conn < ConnState::WFReportParams {
            if !self.is_peer_fenced(n) {
                return None; // refused
            }
            if state.disk == DiskState::Consistent {
                change = change.and_disk(DiskState::UpToDate);
            }
        }
        self.cluster_wide(n, change)?;
        self.promoted(n, false);
        Some(())
    }

    /// `disconnect`, with the peer's consent: `router/admin/connection.rs`. What nobody answers is a cut.
    pub(crate) fn part(&mut self, n: usize) -> Option<()> {
        let quiet = self
            .world
            .nodes
            .iter()
            .all(|node| node.open == 0 && node.log == 0);
        if !self.peer_is_there(n) || !quiet || self.world.nodes[1 - n].promoting {
            return None;
        }
        let plainly = Change::conn(ConnState::Disconnecting);
        let asks = |step: &Self, change: Change| {
            state::request_for_peer(step.state(n), change, &step.context(n))
        };
        let consents = |step: &Self, change: Change| {
            let context = step.context(1 - n);
            state::request(step.state(1 - n), change.for_receiver(), &context, false).is_ok()
        };
        let change = match asks(self, plainly) {
            Ok(_) if consents(self, plainly) => plainly,
            Ok(_) => plainly.and_disk(DiskState::Outdated),
            Err(StateError::PrimaryNop) => plainly.and_pdsk(DiskState::Outdated),
            Err(_) => return None,
        };
        if change != plainly && (asks(self, change).is_err() || !consents(self, change)) {
            return None;
        }
        if change.disk.is_some() {
            // (L49) On record before the peer is asked, which goes on at once.
            self.node(n).disk.sb.flags &= !WAS_UP_TO_DATE;
            self.flush(n);
        }
        let mut theirs = change.for_receiver();
        if self.state(1 - n).disk < DiskState::Outdated {
            theirs.disk = None;
        }
        self.holding = true;
        self.change(1 - n, theirs, false);
        if theirs.disk.is_some() {
            self.flush(1 - n);
        }
        self.close_connection(1 - n);
        self.fact(1 - n, Change::conn(ConnState::Unconnected));
        self.fact(1 - n, Change::conn(ConnState::WFConnection));
        self.holding = true;
        self.fact(n, change);
        self.go_standalone(n);
        for node in &mut self.world.nodes {
            node.disk.outdated |= node.attached && node.state.disk == DiskState::Outdated;
        }
        Some(())
    }
}
