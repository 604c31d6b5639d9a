//! I/O freezes, and goes on.

use alloc::format;
use alloc::vec::Vec;

use crate::config::OnNoData;
use crate::copies::There;
use crate::disk::al_gate::Writer;
use crate::disk::{Disk, MdKind, Then};
use crate::effect::Level;
use crate::event::Payload;
use crate::follow::Follow;
use crate::generation::Generation;
use crate::ids::{RequestKey, VolumeNr};
use crate::planted::Bug;
use crate::router::Resource;
use crate::router::volume::Volume;
use crate::rules::thaw::{Facts, MayLack, OwedName, Thaw, ThawWay, catches_up, owed, resume, thaw};
use crate::state::{self, Change, ConnState, Fencing, VolumeState};
use crate::write::AppRequest;

impl<P: Payload> Resource<P> {
    /// What one volume's change has suspended is suspended on all: the flags are the resource's.
    pub(super) fn share_suspension(&mut self) {
        let all = self
            .volumes
            .iter()
            .fold(VolumeState::INITIAL, |all, v| VolumeState {
                susp: all.susp || v.state.susp,
                susp_nod: all.susp_nod || v.state.susp_nod,
                susp_fen: all.susp_fen || v.state.susp_fen,
                ..all
            });
        if !all.is_suspended() {
            return;
        }
        let change = Change::default()
            .and_susp(all.susp)
            .and_susp_nod(all.susp_nod)
            .and_susp_fen(all.susp_fen);
        let mut is_new = false;
        for nr in self.volume_numbers() {
            let old = self.volume(nr).state;
            let new = old.apply(change);
            if new != old {
                self.commit_state(nr, new);
            }
            let now = self.now;
            is_new |= self.volume_mut(nr).frozen.begin(now);
        }
        if is_new {
            self.log(Level::Info, "susp( 0 -> 1 ) ");
        }
    }

    /// Whether what is lost with the peer is kept for its return, or until it is fenced.
    pub(super) fn awaits_the_peer(&self) -> bool {
        self.volumes.iter().any(|v| v.state.awaits_the_peer())
    }

    /// Whether the data of a write are kept until it is durable at the peer, to be sent again.
    pub(super) fn keeps_payloads(&self, nr: VolumeNr) -> bool {
        let fencing = self
            .volume(nr)
            .disk
            .get()
            .map(|disk| disk.options().fencing);
        self.options.on_no_data == OnNoData::SuspendIo
            || fencing == Some(Fencing::ResourceAndStonith)
    }

    /// The peer is lost while I/O is frozen: what it has not made durable stays in the log.
    pub(super) fn freeze_transfer_log(&mut self) {
        self.net.log.freeze();
        let keys: Vec<RequestKey> = self.net.log.keys().collect();
        for key in keys {
            if let Some(request) = self.requests.get_mut(key) {
                request.forget_there();
            }
        }
        // (L26) What our own disk has failed on, and users are not told of, is sent again though the peer has made it durable: no record
        // says that the peer's disk is the better one.
        let requests = self.requests.iter_mut().map(|(_, request)| request);
        for request in requests.filter(|r| !r.is_read() && !r.is_flush()) {
            if !request.is_completed() && request.has_failed_here() {
                request.forget_there();
            }
        }
        self.retry_reads_of_peer();
    }

    /// A write whose turn has come while I/O is suspended.
    pub(super) fn park(&mut self, key: RequestKey) {
        let nr = self.requests[key].volume();
        self.leave_gate(nr, Writer::Own(key));
        self.volume_mut(nr).frozen.park(key);
    }

    /// Lets I/O go on that was frozen for a reason which is no more. Says whether it did.
    pub(super) fn poll_thaw(&mut self) -> bool {
        let frozen = self.volumes.iter().any(|v| v.state.is_suspended());
        if !frozen || self.net.link.is_exchanging() {
            return false; // the peer decides by the generations that it has been told of
        }
        let facts = |v: &Volume<P>| Facts {
            state: v.state,
            target_unproven: v.peer.resync.is_target_unproven(),
        };
        let unfenced = self.planted(Bug::ThawUnfenced) && self.handling.decides();
        let unfenced = unfenced && self.volumes.iter().any(|v| v.state.susp_fen);
        let due = thaw(self.volumes.iter().map(facts));
        let Some(why) = due.or(unfenced.then_some(Thaw::Fenced)) else {
            return false;
        };
        match why.way(self.can_send_again()) {
            ThawWay::Alone => {
                self.record_fenced_peer();
                self.begin_owed_generations();
                self.settle_transfer_log();
            }
            ThawWay::Together => {
                self.drop_owed_generations();
                self.send_log_again();
            }
            ThawWay::Anew => {
                self.log(
                    Level::Warn,
                    "frozen writes cannot be sent again: connecting anew, to sync them",
                );
                self.peer_cannot_catch_up();
                return true;
            }
        }
        self.unsuspend(why.change());
        true
    }

    /// That the peer is fenced is on record before users hear of anything that it lacks: after a crash this node goes on by itself.
    pub(super) fn record_fenced_peer(&mut self) {
        for nr in self.volume_numbers() {
            if self.volume(nr).has_usable_disk() {
                self.volume_mut(nr).users.hold_completions();
                self.md(nr, MdKind::SUPERBLOCK, Then::FencedRecorded);
            }
        }
    }

    /// A resync begins while writes are frozen: they are marked, before the bitmap goes out, and are part of it.
    pub(super) fn settle_frozen(&mut self, nr: VolumeNr) {
        if !self.net.log.is_frozen() {
            return;
        }
        let requests = &self.requests;
        let of_volume = |key| requests.get(key).is_some_and(|r| r.volume() == nr);
        for key in self.net.log.take_those(of_volume) {
            let request = &mut self.requests[key];
            request.leave_log(There::Failed);
            let span = request.span();
            self.set_out_of_sync(nr, span);
            self.advance_write(key);
        }
        self.release_flushes();
    }

    /// (L48) Whether a write that only this node has waits for the target of the resync that is being prepared: until that is on
    /// record as one, `resource-and-stonith` promises that it is not told of.
    pub(super) fn waits_for_target(&self, key: RequestKey) -> bool {
        let request = &self.requests[key];
        self.volume(request.volume()).doubts_target()
            && !request.is_flush()
            && !request.is_on_both()
    }

    /// The target has shown that it is one, or there is no resync: what has waited for that goes on.
    pub(super) fn target_proven(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        let doubted = volume.doubts_target();
        volume.peer.resync.target_proven();
        if doubted {
            self.after.push_back(Follow::Thawed(nr));
        }
    }

    /// A write that is not told of yet: if only one copy has it, and the peer is not to be sent it again, it is marked, so that a
    /// resync that begins meanwhile brings it.
    pub(super) fn mark_untold(&mut self, key: RequestKey) {
        let request = &self.requests[key];
        if request.is_under_way() || request.is_flush() || request.is_on_both() {
            return;
        }
        let (nr, span) = (request.volume(), request.span());
        self.set_out_of_sync(nr, span);
    }

    /// Whether writes of the volume are under way whose marks are not known yet.
    pub(super) fn has_unmarked_writes(&self, nr: VolumeNr) -> bool {
        let volume = self.volume(nr);
        if !volume.state.is_suspended() && !volume.doubts_target() {
            return volume.users.writes_open() > 0;
        }
        let mut requests = self.requests.iter().map(|(_, request)| request);
        requests.any(|r| r.volume() == nr && !r.is_read() && r.is_under_way())
    }

    /// (L57) What of the volume the peer may lack, if it was down while I/O was frozen.
    pub(super) fn peer_may_lack(&self, nr: VolumeNr) -> MayLack {
        MayLack {
            under_way: self.has_unmarked_writes(nr),
            marked: self.volume(nr).bits_set() > 0,
        }
    }

    /// The peer is back, and may lack what it was sent before: it is marked, has a name of its own, and is synced when the nodes
    /// meet again.
    pub(super) fn peer_cannot_catch_up(&mut self) {
        self.begin_owed_generations();
        self.settle_transfer_log();
        self.lose_connection(ConnState::ProtocolError);
    }

    /// Clears flags of the suspension on all volumes, and lets go on what waited if none is left.
    pub(super) fn unsuspend(&mut self, change: Change) {
        let was = self.volumes.iter().any(|v| v.state.is_suspended());
        for nr in self.volume_numbers() {
            let old = self.volume(nr).state;
            let new = old.apply(change);
            if new != old {
                self.commit_state(nr, new);
            }
        }
        if !was || self.volumes.iter().any(|v| v.state.is_suspended()) {
            return;
        }
        self.log(Level::Info, "susp( 1 -> 0 ) ");
        for nr in self.volume_numbers() {
            self.volume_mut(nr).frozen.end();
            self.after.push_back(Follow::Thawed(nr));
        }
    }

    /// `resume-io`: everything goes on, whatever it waits for.
    pub(super) fn resume(&mut self) {
        if resume(self.is_up(), self.can_send_again()) == ThawWay::Together {
            self.drop_owed_generations();
            self.send_log_again();
        } else {
            self.begin_owed_generations();
            if self.net.log.is_frozen() {
                self.settle_transfer_log();
            }
        }
        let change = Change::default()
            .and_susp(false)
            .and_susp_nod(false)
            .and_susp_fen(false);
        self.unsuspend(change);
    }

    fn begin_owed_generations(&mut self) {
        for nr in self.volume_numbers() {
            let Some(without_peer) = self.volume_mut(nr).frozen.take_owed_generation() else {
                continue;
            };
            let may_share_name = |disk: &Disk| disk.record().may_share_name();
            let volume = self.volume(nr);
            let shares = volume.disk.get().is_some_and(may_share_name);
            match owed(volume.has_usable_disk(), shares) {
                OwedName::Begins => self.new_current_uuid(nr, without_peer),
                OwedName::Needless => {}
                OwedName::OfNoDisk => {
                    let random = self.random();
                    self.volume_mut(nr).exposed.show(Generation::new(random));
                    let text = "Resumed without access to data; please tear down before attempting to re-configure.";
                    self.log_volume(Level::Error, nr, text);
                }
            }
        }
    }

    /// The peer has what it had, or is being synced: but for volumes of which it has no disk.
    fn drop_owed_generations(&mut self) {
        for nr in self.volume_numbers() {
            if catches_up(self.volume(nr).state) {
                self.volume_mut(nr).frozen.owe_nothing();
            }
        }
        self.begin_owed_generations();
    }

    /// Whether every write in a frozen log that the peer is to get again is here.
    fn can_send_again(&self) -> bool {
        !self.net.log.is_frozen()
            || self.net.log.keys().all(|key| {
                self.requests.get(key).is_none_or(|request| {
                    let state = self.volume(request.volume()).state;
                    request.has_data() || !state::should_replicate(state)
                })
            })
    }

    /// What the peer has not made durable goes to it again, in its order.
    fn send_log_again(&mut self) {
        if !self.net.log.is_frozen() {
            return;
        }
        let keys = self.net.log.take();
        self.log(
            Level::Info,
            format!("{} writes that were frozen are sent again", keys.len()),
        );
        for key in keys {
            let Some(request) = self.requests.get_mut(key) else {
                continue;
            };
            request.leave_log(There::None);
            let (nr, span) = (request.volume(), request.span());
            let payload = request.data();
            if self.planted(Bug::ForgetFrozenLog) {
                continue;
            }
            if self.is_up() && state::should_replicate(self.volume(nr).state) {
                self.send_write(key, payload);
            } else {
                self.requests[key].failed_there();
                self.set_out_of_sync(nr, span);
            }
        }
        // (Those that users have been told of end no epoch any more.)
        self.close_epoch();
        self.send_barrier();
        self.release_flushes();
    }

    /// Lets the volume's requests go on.
    pub(super) fn release_frozen(&mut self, nr: VolumeNr) {
        if self.volume(nr).state.is_suspended() {
            return;
        }
        let (served, parked) = self.volume_mut(nr).frozen.release();
        self.tell_held(nr);
        for key in served {
            self.complete(key, true);
        }
        let open = self
            .requests
            .iter()
            .filter(|(_, r)| r.volume() == nr && !r.is_read() && r.has_started());
        let open: Vec<RequestKey> = open.map(|(key, _)| key).collect();
        for key in open {
            if self.is_lost(key) {
                self.start_again(key);
            } else {
                self.advance_write(key);
            }
        }
        for key in parked {
            self.activate(key);
        }
        self.retry_blocked(nr);
    }

    /// Whether neither copy of a frozen write has come to anything, and there is one now that could.
    fn is_lost(&self, key: RequestKey) -> bool {
        let request = self.requests.get(key);
        request.is_some_and(|request| request.is_lost(self.worth(request)))
    }

    fn start_again(&mut self, key: RequestKey) {
        let request = &mut self.requests[key];
        request.forget_copies();
        let nr = request.volume();
        self.leave_gate(nr, Writer::Own(key));
        self.activate(key);
    }

    /// Requests of users that have started and have not ended, or that the peer has not made durable.
    pub(super) fn is_in_flight(&self) -> bool {
        let mut requests = self.requests.iter().map(|(_, request)| request);
        requests.any(AppRequest::is_under_way)
    }
}
