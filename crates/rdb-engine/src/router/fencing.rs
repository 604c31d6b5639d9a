//! The peer is fenced.

use alloc::format;

use crate::effect::Level;
use crate::event::Payload;
use crate::fencing::{Fenced, Running};
use crate::handler::Handler;
use crate::handling::Waits;
use crate::ids::HandlerId;
use crate::planted::Bug;
use crate::router::Resource;
use crate::rules::fencing::{policy, verdict};
use crate::state::{Change, ConnState, DiskState, Fencing, Role};

impl<P: Payload> Resource<P> {
    /// The connection is lost: a Primary has the peer fenced that may go on by itself.
    pub(super) fn fence_lost_peer(&mut self) {
        let is_primary = self.volumes.values().any(|v| v.state.role == Role::Primary);
        let is_frozen = self.volumes.values().any(|v| v.state.susp_fen);
        let wanted = self.fence_policy().unwrap_or_default() != Fencing::DontCare || is_frozen;
        if is_primary && wanted && !self.is_peer_fenced() {
            self.fence_peer();
        }
    }

    /// (L48) The connection of a source is lost whose target may be as good as ours by its record: it could go on.
    pub(super) fn doubt_targets(&mut self) {
        for nr in self.volume_numbers() {
            let fences = self.context(nr).fencing != Fencing::DontCare;
            let volume = self.volume(nr);
            let doubtful = match volume.state.pdsk {
                DiskState::Inconsistent => volume.peer.resync.target_may_be_good(),
                DiskState::Outdated => volume.peer.resync.is_target_unproven(),
                _ => false,
            };
            if fences && doubtful {
                self.fact(nr, Change::default().and_pdsk(DiskState::DUnknown));
            }
        }
    }

    /// (L50) Our parameters are about to go out: a peer that is Outdated and may have our generation is UpToDate as soon as it
    /// has them, whether we hear of that or not.
    pub(super) fn doubt_outdated_peer(&mut self) {
        for nr in self.volume_numbers() {
            let fences = self.context(nr).fencing != Fencing::DontCare;
            let volume = self.volume(nr);
            let may_be_good = volume.state.pdsk == DiskState::Outdated
                && volume
                    .disk
                    .get()
                    .is_some_and(|disk| disk.record().may_share_name());
            if fences && may_be_good {
                self.fact(nr, Change::default().and_pdsk(DiskState::DUnknown));
            }
        }
    }

    /// Has the peer fenced, if the policy wants that.
    pub(super) fn fence_peer(&mut self) -> Fenced {
        if self.net.fence.running.is_some() {
            return Fenced::Asked;
        }
        let beside_diskless = self.volumes.values().any(|v| v.state.awaits_word());
        if self.net.cstate >= ConnState::WFReportParams && !beside_diskless {
            return Fenced::No;
        }
        match self.fence_policy() {
            None => {
                let text = "Not fencing peer, I'm not even Consistent myself.";
                self.log(Level::Error, text);
                self.give_up_fencing();
                return Fenced::No;
            }
            Some(Fencing::DontCare) => return Fenced::Yes,
            Some(_) => {}
        }
        let Some(id) = self.run_handler(Handler::FencePeer, None, Waits::Fence) else {
            let text = "no fence-peer handler is configured: nothing keeps the peer from going on by itself";
            self.log(Level::Error, text);
            return Fenced::No;
        };
        let connects = self.net.connects;
        self.net.fence.running = Some(Running {
            id,
            connects,
            beside_diskless,
        });
        Fenced::Asked
    }

    /// There is nothing here that the peer could be fenced for.
    fn give_up_fencing(&mut self) {
        if !self.volumes.values().any(|v| v.state.susp_fen) {
            return;
        }
        if !self.volumes.values().any(|v| v.state.susp_nod) {
            self.settle_transfer_log();
        }
        self.unsuspend(Change::default().and_susp_fen(false));
    }

    /// Whether the peer's disks are all too bad to go on with.
    pub(super) fn is_peer_fenced(&self) -> bool {
        let mut volumes = self.volumes.values();
        volumes.all(|v| v.state.pdsk <= DiskState::Outdated)
    }

    fn fence_policy(&self) -> Option<Fencing> {
        let volumes = self.volumes.values();
        policy(volumes.filter_map(|v| Some((v.state.disk, v.disk.get()?.options().fencing))))
    }

    /// `fence-peer` has ended.
    pub(super) fn peer_fenced(&mut self, id: HandlerId, exit: i32) {
        let Some(running) = self.net.fence.running.take_if(|running| running.id == id) else {
            return;
        };
        self.take_fence_verdict(running, exit);
        if running.connects != self.net.connects && !self.may_meet() {
            self.fence_lost_peer(); // what it has said is of the loss before
        }
        self.admin_fenced();
    }

    /// Whether the peer is there, or may be.
    fn may_meet(&self) -> bool {
        self.net.cstate >= ConnState::WFReportParams || self.net.link.is_exchanging()
    }

    fn take_fence_verdict(&mut self, running: Running, exit: i32) {
        let exit = match exit {
            1 if self.planted(Bug::BelieveBrokenHandler) => 4,
            exit => exit,
        };
        let policy = self.fence_policy().unwrap_or_default();
        // What is concluded holds for all volumes: the worst of the disks that could go on counts. (DRBD looks at the best.)
        let disks = self.volumes.values().map(|v| v.state.disk);
        let worst = disks.filter(|disk| *disk >= DiskState::Consistent).min();
        let worst = worst.unwrap_or(DiskState::Diskless);
        let Some(verdict) = verdict(exit, policy, worst) else {
            let text = format!("fence-peer helper broken, returned {exit}");
            self.log(Level::Error, text);
            return;
        };
        let words = verdict.words;
        self.log(
            Level::Info,
            format!("fence-peer helper returned {exit} ({words})"),
        );
        if let Some(warning) = verdict.warning {
            self.log(Level::Warn, warning);
        }
        if running.beside_diskless && running.connects == self.net.connects {
            let fences = verdict.change.is_some_and(|change| change.pdsk.is_some());
            self.take_word(fences);
            return;
        }
        if running.connects != self.net.connects || self.may_meet() {
            self.log(Level::Info, "Ignoring fence-peer exit code");
            return;
        }
        if let Some(change) = verdict.change
            && let Err(error) = self.change_connection(change, false)
        {
            self.log(Level::Error, format!("State change failed: {error}"));
        }
    }

    /// (L54) What has become of the peer that has no disk: if it cannot go on with that, the disks here are as good as any.
    fn take_word(&mut self, fences: bool) {
        for nr in self.volume_numbers() {
            if fences && self.volume(nr).state.awaits_word() {
                self.fact(nr, Change::disk(DiskState::UpToDate));
                self.send_state(nr);
            }
        }
    }
}
