//! The peer is fenced.

use alloc::format;

use crate::admin::Stage;
use crate::effect::Level;
use crate::event::Payload;
use crate::fencing::{Fenced, Running};
use crate::handler::Handler;
use crate::handling::Waits;
use crate::ids::HandlerId;
use crate::planted::Bug;
use crate::router::Resource;
use crate::rules::fencing::{
    FenceWay, Heed, Since, fences_again, fences_lost_peer, heed, is_fenced, is_outdated_doubtful,
    is_target_doubtful, policy, verdict, way,
};
use crate::state::{Change, ConnState, DiskState, Fencing};

impl<P: Payload> Resource<P> {
    /// The connection is lost: a Primary has the peer fenced that may go on by itself.
    pub(super) fn fence_lost_peer(&mut self) {
        let volumes = self.volumes.iter().map(|v| v.state);
        if fences_lost_peer(volumes, self.fence_policy()) {
            self.fence_peer();
        }
    }

    /// (L48) The connection of a source is lost whose target may be as good as ours by its record: it could go on.
    pub(super) fn doubt_targets(&mut self) {
        for nr in self.volume_numbers() {
            let fencing = self.context(nr).fencing;
            let volume = self.volume(nr);
            let resync = &volume.peer.resync;
            let all_sent = resync.target_may_be_done();
            if is_target_doubtful(
                fencing,
                volume.state.pdsk,
                resync.is_target_unproven(),
                all_sent,
            ) {
                self.fact(nr, Change::default().and_pdsk(DiskState::DUnknown));
            }
        }
    }

    /// (L50) Our parameters are about to go out: a peer that may be UpToDate with them is not known to be Outdated any more.
    pub(super) fn doubt_outdated_peer(&mut self) {
        for nr in self.volume_numbers() {
            let fencing = self.context(nr).fencing;
            let volume = self.volume(nr);
            let disk = volume.disk.get();
            let may_share_name = disk.is_some_and(|disk| disk.record().may_share_name());
            if is_outdated_doubtful(fencing, volume.state.pdsk, may_share_name) {
                self.fact(nr, Change::default().and_pdsk(DiskState::DUnknown));
            }
        }
    }

    /// Has the peer fenced, if the policy wants that.
    pub(super) fn fence_peer(&mut self) -> Fenced {
        if self.net.fence.is_running() {
            return Fenced::Asked;
        }
        let beside_diskless = self.volumes.iter().any(|v| v.state.awaits_word());
        match way(self.net.cstate, beside_diskless, self.fence_policy()) {
            FenceWay::PeerIsThere => return Fenced::No,
            FenceWay::NothingHere => {
                let text = "Not fencing peer, I'm not even Consistent myself.";
                self.log(Level::Error, text);
                self.give_up_fencing();
                return Fenced::No;
            }
            FenceWay::NotWanted => return Fenced::Yes,
            FenceWay::Handler => {}
        }
        let Some(id) = self.run_handler(Handler::FencePeer, None, Waits::Fence) else {
            let text = "no fence-peer handler is configured: nothing keeps the peer from going on by itself";
            self.log(Level::Error, text);
            return Fenced::No;
        };
        let connects = self.net.meetings.count();
        self.net.fence.begin(id, connects, beside_diskless);
        Fenced::Asked
    }

    /// There is nothing here that the peer could be fenced for.
    fn give_up_fencing(&mut self) {
        if !self.volumes.iter().any(|v| v.state.susp_fen) {
            return;
        }
        if !self.volumes.iter().any(|v| v.state.susp_nod) {
            self.settle_transfer_log();
        }
        self.unsuspend(Change::default().and_susp_fen(false));
    }

    /// Whether the peer's disks are all too bad to go on with.
    pub(super) fn is_peer_fenced(&self) -> bool {
        let mut volumes = self.volumes.iter();
        volumes.all(|v| is_fenced(v.state.pdsk))
    }

    fn fence_policy(&self) -> Option<Fencing> {
        let volumes = self.volumes.iter();
        policy(volumes.filter_map(|v| Some((v.state.disk, v.disk.get()?.options().fencing))))
    }

    /// `fence-peer` has ended.
    pub(super) fn peer_fenced(&mut self, id: HandlerId, exit: i32) {
        let Some(running) = self.net.fence.end(id) else {
            return;
        };
        self.take_fence_verdict(running, exit);
        if fences_again(&self.since(running)) {
            self.fence_lost_peer();
        }
        self.admin.ready(Stage::Fence);
    }

    /// Whether the peer is there, or may be.
    fn may_meet(&self) -> bool {
        self.net.cstate >= ConnState::WFReportParams || self.net.link.is_exchanging()
    }

    fn since(&self, running: Running) -> Since {
        Since {
            met: running.met_since(self.net.meetings.count()),
            beside_diskless: running.is_beside_diskless(),
            may_meet: self.may_meet(),
        }
    }

    fn take_fence_verdict(&mut self, running: Running, exit: i32) {
        let exit = match exit {
            1 if self.planted(Bug::BelieveBrokenHandler) => 4,
            exit => exit,
        };
        let policy = self.fence_policy().unwrap_or_default();
        // What is concluded holds for all volumes: the worst of the disks that could go on counts. (DRBD looks at the best.)
        let disks = self.volumes.iter().map(|v| v.state.disk);
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
        match heed(&self.since(running), verdict.change) {
            Heed::Word(fences) => self.take_word(fences),
            Heed::Stale => self.log(Level::Info, "Ignoring fence-peer exit code"),
            Heed::Taken(None) => {}
            Heed::Taken(Some(change)) => {
                if let Err(error) = self.change_connection(change, false) {
                    self.log(Level::Error, format!("State change failed: {error}"));
                }
            }
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
