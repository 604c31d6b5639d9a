//! The fence procedure and the arbiter: the order of the engine's `router/fencing.rs`, `router/admin/role.rs` and `connection.rs`, with its
//! table of what an exit code means (`rules/fencing.rs`).

use rdb_engine::rules::fencing::{
    FenceWay, Heed, Since, fences_again, fences_lost_peer, heed, is_fenced, is_outdated_doubtful,
    policy, verdict, way,
};
use rdb_engine::rules::parting::{Next, Parting};
use rdb_engine::rules::promotion::{self, Means, after_fencing, fences_first, wish};
use rdb_engine::state::{self, Change, ConnState, DiskState, Fencing, Role};

use rdb_meta::MdFlags;

use crate::node::Step;
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
        let good = MdFlags::CONSISTENT | MdFlags::WAS_UP_TO_DATE;
        self.flags.contains(good)
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
                let bad = !peer.disk.durable.flags.contains(MdFlags::CONSISTENT);
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

    pub(crate) fn fence_lost_peer(&mut self, n: usize) {
        let volumes = [self.state(n)];
        if fences_lost_peer(volumes.into_iter(), self.policy(n)) {
            self.fence_peer(n);
        }
    }

    /// `doubt_outdated_peer`.
    pub(crate) fn doubt_outdated_peer(&mut self, n: usize) {
        let (pdsk, shares) = (self.state(n).pdsk, self.may_share_name(n));
        if is_outdated_doubtful(self.fencing(n), pdsk, shares) {
            self.fact(n, Change::default().and_pdsk(DiskState::DUnknown));
        }
    }

    /// Has the peer fenced, if the policy wants that.
    fn fence_peer(&mut self, n: usize) -> Fenced {
        if self.world.nodes[n].fence.is_some() {
            return Fenced::Asked;
        }
        let state = self.state(n);
        let beside_diskless = state.awaits_word();
        match way(state.conn, beside_diskless, self.policy(n)) {
            FenceWay::PeerIsThere | FenceWay::NotWanted => Fenced::No,
            FenceWay::NothingHere => {
                self.give_up_fencing(n);
                Fenced::No
            }
            FenceWay::Handler => {
                self.node(n).fence = Some(Run {
                    beside_diskless,
                    ..Run::default()
                });
                Fenced::Asked
            }
        }
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
        let since = Since {
            met: run.stale,
            beside_diskless: run.beside_diskless,
            may_meet: state.conn >= ConnState::WFReportParams,
        };
        match heed(&since, verdict.and_then(|verdict| verdict.change)) {
            Heed::Word(fences) => {
                if fences && state.awaits_word() {
                    self.fact(n, Change::disk(DiskState::UpToDate));
                    self.send_state(n);
                }
            }
            Heed::Stale | Heed::Taken(None) => {}
            Heed::Taken(Some(change)) => {
                self.change(n, change, false);
                if exit == 6 && self.state(n).disk == DiskState::Outdated {
                    self.flush(n);
                }
            }
        }
        if fences_again(&since) {
            self.fence_lost_peer(n);
        }
    }

    // ---- commands ------------------------------------------------------------------------------------------------

    /// Whether a promotion asks for the peer to be fenced: alone it is refused.
    pub(crate) fn fences_for_promotion(&self, n: usize) -> bool {
        let state = self.state(n);
        let refused = state::request(state, Change::role(Role::Primary), &self.context(n), false);
        self.setting.fencing != Fencing::DontCare
            && refused.is_err_and(|error| fences_first(error, &state, self.is_away(n)))
    }

    fn is_away(&self, n: usize) -> bool {
        self.state(n).conn < ConnState::WFReportParams
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
        let fenced = match after_fencing(&state, self.is_away(n), is_fenced(state.pdsk), false) {
            promotion::AfterFencing::Refused => return None,
            // (Once more: that the peer is fenced anew is another event.)
            promotion::AfterFencing::AsksAgain => false,
            promotion::AfterFencing::GoesOn => true,
            promotion::AfterFencing::ByForce => unreachable!("force does not ask"),
        };
        let means = Means {
            fenced,
            ..Means::default()
        };
        let change = wish(state.disk, means);
        self.cluster_wide(n, change)?;
        self.promoted(n, false);
        Some(())
    }

    /// `disconnect`, with the peer's consent: `router/admin/connection.rs`. `heard`: the answer comes, and not the end of the connection.
    /// (What the peer never hears of is a cut.)
    pub(crate) fn part(&mut self, n: usize, heard: bool) -> Option<()> {
        let quiet = self
            .world
            .nodes
            .iter()
            .all(|node| node.open == 0 && node.log == 0);
        if !self.peer_is_there(n) || !quiet || self.world.nodes[1 - n].promoting {
            return None;
        }
        let consents = |how: Parting| {
            let (change, context) = (how.change().for_receiver(), self.context(1 - n));
            state::request(self.state(1 - n), change, &context, false).is_ok()
        };
        let mut how = Parting::Plainly;
        loop {
            let (own, change) = (self.state(n), how.change());
            let next = match state::request_for_peer(own, change, &self.context(n)) {
                Ok(_) if consents(how) => break,
                Ok(_) => how.refused_there(),
                Err(error) => how.refused_here(error),
            };
            match next {
                Next::Instead(other) => how = other,
                Next::Waits | Next::Leaves | Next::Refused => return None,
            }
        }
        let change = how.change();
        if change.disk.is_some() {
            // (L49) On record before the peer is asked, which goes on at once.
            self.node(n).disk.sb.flags -= MdFlags::WAS_UP_TO_DATE;
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
        let made = if heard { how } else { how.unanswered() };
        if !heard {
            self.lose_connection(n);
        }
        self.holding = true;
        if made != Parting::Plainly {
            self.fact(n, made.change());
        }
        self.go_standalone(n);
        for node in &mut self.world.nodes {
            node.disk.outdated |= node.attached && node.state.disk == DiskState::Outdated;
        }
        Some(())
    }
}
