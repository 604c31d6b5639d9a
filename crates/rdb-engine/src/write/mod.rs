//! Application requests: the way of a write to both copies.
//!
//! A write goes: admitted (no overlapping write is open, `router/admission.rs`) → its extents are hot on disk → local write and packet to the
//! peer in one turn → completed when both answered as the protocol wants → finished when its epoch's barrier is
//! acknowledged, or the peer is lost and its blocks are marked. `docs/spec/behaviour.md`, section 8.

mod sending;
pub(crate) use self::sending::Sending;

use replica_proto::{BlockId, DpFlags, Packet};

use crate::config::Protocol;
use crate::copies::{self, AckKind, Copies, Here, Safety, There, Worth};
use crate::effect::{DiscardKind, Effect, RequestError};
use crate::event::{Request, RequestKind};
use crate::ids::{IoTag, RequestId, RequestKey, SendTag, Time, VolumeNr};
use crate::latency::{Latencies, Times};
use crate::span::Span;
use crate::transfer_log::Debt;

/// One request of a front end.
#[derive(Debug)]
pub(crate) struct AppRequest<P> {
    id: RequestId,
    volume: VolumeNr,
    generation: u32,
    span: Span,
    kind: RequestKind<()>,
    /// What a write carries, until it is submitted, or while it may have to be sent again; what a read got, until it is completed.
    payload: Option<P>,
    /// What became of it here and at the peer.
    copies: Copies,
    /// The epoch in which it is in the transfer log. Set when it is sent, cleared when the barrier is acknowledged or the peer
    /// lost. Without it a write would be forgotten that the peer has not made durable.
    logged: Option<u32>,
    /// The mirror says that the block is in sync now.
    in_sync: bool,
    /// Which answers were asked for when it was sent to the peer.
    answers: DpFlags,
    /// The protocol that it was sent by, which says when it is done at the peer. Where our own disk is no copy to rely on that
    /// is C, whatever is configured.
    protocol: Protocol,
    /// Our disk was UpToDate, and no full sync onto it agreed on, when the write went there; or a resync has brought it since.
    good_here: bool,
    /// Its user has been told, or is told with the generation that is being written. Set once, by the end of a write.
    completed: bool,
    times: Times,
}

impl<P: Clone> AppRequest<P> {
    /// A request that has come `now` and has not started.
    pub(crate) fn new(now: Time, generation: u32, request: Request<P>) -> Self {
        let (kind, payload) = request.kind.split();
        AppRequest {
            id: request.id,
            volume: request.volume,
            generation,
            span: Span {
                sector: request.sector,
                bytes: request.bytes,
            },
            kind,
            payload,
            copies: Copies::NONE,
            logged: None,
            in_sync: false,
            answers: DpFlags::empty(),
            protocol: Protocol::C,
            good_here: false,
            completed: false,
            times: Times::new(now),
        }
    }

    // ---- what it is ----------------------------------------------------------------------------------------------

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    pub(crate) fn volume(&self) -> VolumeNr {
        self.volume
    }

    pub(crate) fn span(&self) -> Span {
        self.span
    }

    pub(crate) fn is_read(&self) -> bool {
        matches!(self.kind, RequestKind::Read)
    }

    pub(crate) fn is_flush(&self) -> bool {
        matches!(self.kind, RequestKind::Flush)
    }

    /// What the peer echoes, and what tells the driver's `Sent`.
    pub(crate) fn block_id(&self, key: RequestKey) -> BlockId {
        BlockId::from_u64(u64::from(self.generation) << 32 | (key as u64 + 1))
    }

    /// By which the driver tells that TCP has taken all of it, if protocol A goes by that.
    pub(crate) fn send_tag(&self, key: RequestKey) -> Option<SendTag> {
        (self.protocol == Protocol::A).then(|| SendTag(self.block_id(key).to_u64()))
    }

    // ---- where it stands -----------------------------------------------------------------------------------------

    /// Whether a copy has been asked for.
    pub(crate) fn has_started(&self) -> bool {
        self.copies != Copies::NONE
    }

    /// Whether it is not acknowledged by a barrier, or something is still to be heard of a copy.
    pub(crate) fn is_under_way(&self) -> bool {
        self.is_in_log() || self.copies.is_open(self.protocol)
    }

    /// Whether its epoch's barrier is not acknowledged.
    pub(crate) fn is_in_log(&self) -> bool {
        self.logged.is_some()
    }

    /// Whether it is in the transfer log, in this epoch.
    pub(crate) fn is_in_epoch(&self, epoch: u32) -> bool {
        self.logged == Some(epoch)
    }

    /// Whether a write has ended for its user.
    pub(crate) fn is_completed(&self) -> bool {
        self.completed
    }

    /// Whether nothing more is to be heard of a completed write.
    pub(crate) fn is_finished(&self) -> bool {
        self.completed && !self.is_in_log() && self.copies.here != Here::Pending
    }

    /// Whether both copies have it.
    pub(crate) fn is_on_both(&self) -> bool {
        self.copies.are_both(self.protocol)
    }

    /// Whether our own copy has it.
    pub(crate) fn is_here(&self) -> bool {
        self.copies.here == Here::Done
    }

    /// Whether the peer's copy counts as done.
    pub(crate) fn has_come_there(&self) -> bool {
        self.copies.there.has_come(self.protocol)
    }

    pub(crate) fn has_failed_here(&self) -> bool {
        self.copies.here == Here::Failed
    }

    pub(crate) fn has_failed_there(&self) -> bool {
        self.copies.there == There::Failed
    }

    /// Whether nothing is known of what was sent to the peer.
    pub(crate) fn is_unheard(&self) -> bool {
        self.copies.there == There::Sent
    }

    /// Whether a write's data have not come to the peer's memory, as far as is known.
    pub(crate) fn is_on_its_way(&self) -> bool {
        matches!(self.copies.there, There::Sent | There::Handed)
            && matches!(self.kind, RequestKind::Write { .. })
    }

    /// What the user of a write or a flush may be told.
    pub(crate) fn safety(&self, worth: Worth) -> Safety {
        if self.is_flush() {
            copies::is_flushed(&self.copies, worth)
        } else {
            copies::is_safe(&self.copies, self.protocol, worth)
        }
    }

    /// Whether a copy has it that is one to rely on now.
    pub(crate) fn has_good_copy(&self, worth: Worth) -> bool {
        copies::has_good_copy(&self.copies, self.protocol, worth)
    }

    /// Whether both nodes know that the blocks are in sync by it.
    pub(crate) fn is_in_sync(&self) -> bool {
        self.in_sync && self.is_on_both()
    }

    /// Whether the mirror says so of a write that has ended for its user: its range may have been written again.
    pub(crate) fn is_in_sync_after_completion(&self) -> bool {
        self.completed && self.in_sync && self.is_here()
    }

    /// Whether its blocks are marked, since only one copy has it.
    pub(crate) fn has_left_a_mark(&self) -> bool {
        self.completed && !self.is_on_both() || self.has_failed_there()
    }

    /// Whether its user was told by the word of the peer, which is lost: our own copy, durable or not, is none to rely on.
    pub(crate) fn was_told_by_peer(&self, has_lasting_copy: bool) -> bool {
        self.completed && !(self.good_here && has_lasting_copy)
    }

    /// Whether it could be sent again.
    pub(crate) fn has_data(&self) -> bool {
        self.payload.is_some() || !matches!(self.kind, RequestKind::Write { .. })
    }

    /// Whether neither copy of a frozen write has come to anything, and it may be tried again.
    pub(crate) fn is_lost(&self, worth: Worth) -> bool {
        let open = self.copies.here == Here::Pending || self.is_in_log();
        let told = self.completed || self.is_flush();
        !told && !open && self.has_data() && !self.has_good_copy(worth)
    }

    /// What the peer owes for a write in the transfer log.
    pub(crate) fn debt(&self) -> Debt {
        // (By protocol A the barrier is the only answer, and the driver may not have told yet that TCP took the write.)
        let is_open = self.copies.there >= There::Sent && !self.has_come_there();
        match self.protocol {
            Protocol::B | Protocol::C if is_open => Debt::Owed,
            _ => Debt::Paid(self.times.answered),
        }
    }

    // ---- what becomes of it here ---------------------------------------------------------------------------------

    /// A write goes to its copies, one or both, and here come its data. `good_here`: ours is one to rely on. `keeps`: it may have to
    /// be sent again.
    pub(crate) fn submit(&mut self, good_here: bool, keeps: bool) -> Option<P> {
        self.good_here = good_here;
        match keeps {
            true => self.payload.clone(),
            false => self.payload.take(),
        }
    }

    /// The data that are kept of a write, to send it again.
    pub(crate) fn data(&self) -> Option<P> {
        self.payload.clone()
    }

    /// There is no copy that a write could go to.
    pub(crate) fn refuse(&mut self) {
        self.copies.here = Here::Failed;
        self.payload = None;
    }

    /// Our own disk is asked.
    pub(crate) fn begin_here(&mut self) {
        self.copies.here = Here::Pending;
    }

    /// A write goes to our own disk: what it is for that.
    pub(crate) fn for_disk(&mut self, tag: IoTag, payload: Option<P>) -> Effect<P> {
        self.begin_here();
        let volume = self.volume;
        let Span { sector, bytes } = self.span;
        let kind = match (self.kind, payload) {
            (RequestKind::Write { fua, .. }, Some(payload)) => {
                return Effect::Write {
                    volume,
                    tag,
                    sector,
                    payload,
                    fua,
                };
            }
            (RequestKind::WriteZeroes { may_unmap: true }, _) => DiscardKind::ZeroesMayUnmap,
            (RequestKind::WriteZeroes { may_unmap: false }, _) => DiscardKind::Zeroes,
            _ => DiscardKind::Discard,
        };
        Effect::Discard {
            volume,
            tag,
            sector,
            bytes,
            kind,
        }
    }

    /// Our own disk has done what it was asked, or not.
    pub(crate) fn disk_answered(&mut self, ok: bool) {
        self.copies.here = if ok { Here::Done } else { Here::Failed };
    }

    /// Our own disk is given up (L19): whoever relied on this copy alone must not call a write done. A flush that waits for the peer's
    /// barriers besides, as during a detach, rests on them alone from now on.
    pub(crate) fn disk_given_up(&mut self, peer_is_good: bool) {
        if self.is_read() || !self.is_here() {
            return;
        }
        self.copies.here = if peer_is_good && self.is_flush() && !self.has_failed_there() {
            Here::None
        } else {
            Here::Failed
        };
    }

    /// The peer's copy is the one to rely on, whatever becomes of ours.
    pub(crate) fn forget_here(&mut self) {
        self.copies.here = Here::None;
    }

    /// A resync has made our disk good, and durably so: it has brought what this write has left.
    pub(crate) fn resync_made_good(&mut self) {
        self.good_here |= !self.has_failed_here();
    }

    // ---- what becomes of it at the peer --------------------------------------------------------------------------

    /// A write is sent to the peer: the packet.
    pub(crate) fn send(&mut self, now: Time, key: RequestKey, how: Sending) -> Packet {
        self.protocol = how.protocol_for(self.kind, self.good_here);
        self.answers = how.answers(self.protocol);
        self.copies.there = There::Sent;
        self.times.sent = now;
        self.logged = Some(how.epoch);
        how.packet(self.kind, self.span, self.block_id(key), self.answers)
    }

    /// A read is sent to the peer: its request.
    pub(crate) fn send_read(&mut self, now: Time, key: RequestKey) -> Packet {
        self.copies.there = There::Sent;
        self.times.sent = now;
        Packet::DataRequest(self.span.request(self.block_id(key)))
    }

    /// Since when a read waits for the peer's data.
    pub(crate) fn awaits_data_since(&self) -> Option<Time> {
        (self.is_read() && self.is_unheard()).then_some(self.times.sent)
    }

    /// Whether an answer of the peer can be for this read.
    pub(crate) fn awaits_data(&self, nr: VolumeNr, sector: u64) -> bool {
        self.volume == nr && self.span.sector == sector && self.awaits_data_since().is_some()
    }

    /// A read has its data.
    pub(crate) fn serve(&mut self, payload: Option<P>) {
        self.payload = payload;
    }

    /// TCP has the whole packet: protocol A is content. Since when that was waited for, if it was.
    pub(crate) fn handed_to_tcp(&mut self, now: Time) -> Option<Time> {
        if !self.is_unheard() || self.protocol != Protocol::A {
            return None;
        }
        self.copies.there = There::Handed;
        Some(self.heard(now))
    }

    /// Whether the peer may acknowledge this write so.
    pub(crate) fn expects(&self, kind: AckKind, nr: VolumeNr, span: Span) -> bool {
        let is_it = self.volume == nr && self.span == span && self.is_in_log();
        is_it && self.answers.contains(kind.is_asked_by())
    }

    /// The peer acknowledges a write. Since when that was waited for, if it was.
    pub(crate) fn acknowledged(&mut self, kind: AckKind, now: Time) -> Option<Time> {
        self.in_sync |= kind == AckKind::InSync;
        let waited = self.is_unheard();
        if self.copies.there >= There::Sent {
            self.copies.there = self.copies.there.max(kind.comes_to());
        }
        waited.then(|| self.heard(now))
    }

    fn heard(&mut self, now: Time) -> Time {
        self.times.answered = now;
        self.times.sent
    }

    /// The peer could not do it, or is lost. Says whether its answer was waited for.
    pub(crate) fn failed_there(&mut self) -> bool {
        let waited = self.is_unheard();
        self.copies.there = There::Failed;
        waited
    }

    /// The peer's copy counts no more: our own is the one to rely on, if it has it.
    pub(crate) fn peer_counts_no_more(&mut self) {
        if !self.is_here() {
            self.copies.there = There::Failed;
        }
    }

    /// Nothing is known any more of the peer's copy: it may be asked again.
    pub(crate) fn forget_there(&mut self) {
        self.copies.there = There::None;
    }

    /// The barrier behind a write is acknowledged. Says whether its own answer was waited for: the driver has not come to tell that
    /// TCP took it.
    pub(crate) fn barrier_acked(&mut self) -> bool {
        let waited = self.is_unheard();
        self.leave_log(match self.copies.there {
            There::None | There::Failed => self.copies.there,
            _ => There::Durable,
        });
        waited
    }

    /// A write is taken from the transfer log, and that is what has become of the peer's copy.
    pub(crate) fn leave_log(&mut self, there: There) {
        self.logged = None;
        self.copies.there = there;
    }

    /// The good copy of a flush is the peer's: it is durable when what is in the transfer log now has left it, if there is anything.
    pub(crate) fn await_barrier(&mut self, waits: bool) {
        self.copies.there = if waits { There::Sent } else { There::Durable };
    }

    /// What a flush waits for has left the transfer log: acknowledged, or with the peer.
    pub(crate) fn barrier_gone(&mut self, lost: bool) {
        self.copies.there = if lost { There::Failed } else { There::Durable };
    }

    // ---- how long it takes ---------------------------------------------------------------------------------------

    /// A read or a write goes to its copies.
    pub(crate) fn count_wait(&self, in_what: &mut Latencies, now: Time) {
        in_what.waiting.add(self.times.asked, now);
    }

    /// Its user is told.
    pub(crate) fn count_end(&self, in_what: &mut Latencies, now: Time) {
        in_what.ended(self.kind, self.times.asked, now);
    }

    // ---- its end -------------------------------------------------------------------------------------------------

    /// It starts anew, or has been served and is not told of yet: no copy has been asked for.
    pub(crate) fn forget_copies(&mut self) {
        self.copies = Copies::NONE;
    }

    /// A write has ended for its user.
    pub(crate) fn complete(&mut self) {
        self.completed = true;
    }

    /// A read or a flush has ended: what its user is told.
    pub(crate) fn into_result(self, ok: bool) -> Result<Option<P>, RequestError> {
        ok.then_some(self.payload).ok_or(RequestError::Io)
    }

    /// # Panics
    /// If what is in the transfer log, or done for its user, is no write.
    pub(crate) fn check(&self) {
        let write = !self.is_read() && !self.is_flush();
        assert!(write || !self.is_in_log() && !self.completed);
    }
}

/// The key in a block id that a request gave the peer, or the driver; whether it is still that request is to be seen.
pub(crate) fn key_of(block_id: BlockId) -> Option<RequestKey> {
    let key = usize::try_from(block_id.to_u64() & 0xffff_ffff).ok()?;
    key.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::sending::tests::HOW;
    use super::*;

    const NR: VolumeNr = VolumeNr(0);
    const GOOD: Worth = Worth {
        here: true,
        there: true,
        loss_unrecorded: false,
    };

    fn request(kind: RequestKind<&'static str>) -> AppRequest<&'static str> {
        let request = Request {
            id: RequestId(1),
            volume: NR,
            sector: 8,
            bytes: 4096,
            kind,
        };
        AppRequest::new(Time(5), 1, request)
    }

    /// A write that has gone to both disks.
    fn write(protocol: Protocol) -> AppRequest<&'static str> {
        let fua = false;
        let mut write = request(RequestKind::Write { payload: "", fua });
        assert!(!write.has_started() && write.submit(true, false).is_some());
        let how = Sending { protocol, ..HOW };
        write.send(Time(10), 0, how);
        write.begin_here();
        write
    }

    #[test]
    fn a_write_ends_when_its_protocol_has_both_copies() {
        let mut by_a = write(Protocol::A);
        let span = by_a.span();
        assert!(
            !by_a.expects(AckKind::Written, NR, span),
            "it asks for none"
        );
        assert_eq!(by_a.handed_to_tcp(Time(12)), Some(Time(10)));
        assert_eq!(by_a.handed_to_tcp(Time(13)), None, "once");
        assert_eq!(by_a.safety(GOOD), Safety::Open);
        by_a.disk_answered(true);
        assert_eq!(by_a.safety(GOOD), Safety::Safe);
        by_a.complete();
        assert!(!by_a.is_finished(), "its barrier is not acknowledged");
        assert!(!by_a.barrier_acked() && by_a.is_finished());

        let mut by_c = write(Protocol::C);
        assert_eq!(by_c.handed_to_tcp(Time(12)), None);
        assert_eq!(by_c.debt(), Debt::Owed);
        assert!(!by_c.expects(AckKind::InSync, NR, span), "no resync runs");
        assert!(by_c.expects(AckKind::Written, NR, span));
        let waited = by_c.acknowledged(AckKind::Written, Time(20));
        assert_eq!(waited, Some(Time(10)));
        assert_eq!(by_c.debt(), Debt::Paid(Time(20)));
        by_c.check();
    }

    #[test]
    fn a_copy_that_has_failed_is_not_acknowledged_any_more() {
        let mut write = write(Protocol::C);
        assert!(write.failed_there());
        assert_eq!(write.acknowledged(AckKind::Written, Time(20)), None);
        assert!(!write.barrier_acked() && write.has_failed_there());
        assert!(write.has_left_a_mark());
    }

    #[test]
    fn a_flush_rests_on_the_peer_where_our_disk_is_given_up() {
        let mut flush = request(RequestKind::Flush);
        flush.begin_here();
        flush.await_barrier(true);
        assert!(flush.is_unheard(), "it waits");
        flush.disk_answered(true);
        flush.disk_given_up(true);
        flush.check();
        assert_eq!(flush.safety(GOOD), Safety::Open);
        flush.barrier_gone(false);
        assert_eq!(flush.safety(GOOD), Safety::Safe);
        let mut write = write(Protocol::C);
        write.disk_answered(true);
        write.disk_given_up(true);
        assert!(
            write.has_failed_here(),
            "it was told by our own disk's word"
        );
    }

    #[test]
    fn a_frozen_write_is_lost_only_when_nothing_is_open_and_its_data_are_there() {
        let mut write = write(Protocol::C);
        write.disk_answered(false);
        assert!(!write.is_lost(GOOD), "it is in the log");
        write.leave_log(There::Failed);
        assert!(!write.is_lost(GOOD), "its data are gone");
        write.serve(Some(""));
        assert!(write.is_lost(GOOD));
        write.forget_copies();
        assert!(!write.has_started());
        write.complete();
        assert!(!write.is_lost(GOOD), "its user was told");
    }

    #[test]
    fn a_block_id_leads_back_to_its_request() {
        let request = request(RequestKind::Read);
        let id = request.block_id(41);
        assert_eq!(key_of(id), Some(41));
        assert_eq!(key_of(BlockId::from_u64(1 << 32)), None);
    }
}
