//! The source of a resync: what it has sent, what it knows of its target, and when it believes that the target is done.

use crate::ids::Time;
use crate::resync::Resync;
use crate::rules::resync::{SourceEnd, is_all_sent, source_end};
use crate::span::Span;
use crate::state::ConnState;

impl<P> Resync<P> {
    /// A resync from here begins.
    pub(crate) fn begin_source(&mut self, now: Time, marked: u64) {
        self.begin(now, marked);
        self.all_sent = marked == 0;
        self.target_unproven = true;
    }

    /// (L48) A resync from here is being prepared: by its record the target is as good until it has shown otherwise.
    pub(crate) fn doubt_target(&mut self) {
        self.target_unproven = true;
    }

    /// The target has shown that it is one, or there is no resync.
    pub(crate) fn target_proven(&mut self) {
        self.target_unproven = false;
    }

    pub(crate) fn is_target_unproven(&self) -> bool {
        self.target_unproven
    }

    /// Whether the target may be at its end, which has not been seen here.
    pub(crate) fn target_may_be_done(&self) -> bool {
        self.all_sent
    }

    /// The target is sent these blocks.
    pub(crate) fn reply_sent(&mut self, span: Span, now: Time) {
        self.replied.insert(span, now);
    }

    /// The target answers for these blocks. Says whether it was sent them.
    pub(crate) fn reply_answered(&mut self, span: Span) -> bool {
        self.replied.contains(span) && self.replied.remove(span.sector)
    }

    /// So many blocks are marked by now. When none is left but those that could not be synced, the target may be at its end.
    pub(crate) fn marks_cleared(&mut self, conn: ConnState, marked: u64) {
        self.all_sent |= is_all_sent(conn, marked, self.failed);
    }

    /// The target says that it is done. Says whether it is the first time.
    pub(crate) fn target_says_done(&mut self) -> bool {
        let first = !core::mem::replace(&mut self.ending, true);
        if first {
            self.acks_seen = None;
        }
        first
    }

    /// What the target acknowledged before it said that it is done has been seen, while this epoch is open. Says whether it has
    /// said so.
    pub(crate) fn acks_seen(&mut self, epoch: u32) -> bool {
        if self.ending {
            self.acks_seen = Some(epoch);
        }
        self.ending
    }

    /// It is the source of no resync any more.
    pub(crate) fn forget_acks(&mut self) {
        self.acks_seen = None;
    }

    /// What becomes of a source with so many marks, if its target is done. `passed_on`: a write of ours has failed, whose mark stays,
    /// and makes this disk Inconsistent.
    pub(crate) fn source_end(
        &self,
        marked: u64,
        passed_on: bool,
        is_settled: impl FnOnce(u32) -> bool,
    ) -> SourceEnd {
        let left = marked.saturating_sub(self.failed);
        match self.acks_seen {
            None => SourceEnd::Waits,
            Some(epoch) => source_end(left, passed_on, || is_settled(epoch)),
        }
    }

    /// The resync from here is over.
    pub(crate) fn finish_source(&mut self) {
        self.ending = false;
        self.acks_seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(0);

    #[test]
    fn a_source_ends_when_its_marks_are_gone_and_parts_if_they_can_go_no_more() {
        let mut resync = Resync::<()>::default();
        resync.begin_source(NOW, 5);
        let end = |resync: &Resync<()>, marked| resync.source_end(marked, false, |epoch| epoch < 3);
        assert!(resync.target_says_done() && !resync.target_says_done());
        assert_eq!(end(&resync, 0), SourceEnd::Waits, "its acks");
        assert!(resync.acks_seen(3));
        assert_eq!(end(&resync, 5), SourceEnd::Waits, "users' writes");
        assert_eq!(end(&resync, 0), SourceEnd::Done);
        assert!(resync.acks_seen(2));
        assert_eq!(end(&resync, 5), SourceEnd::Differs { left: 5 });
        resync.block_failed(Span::between(0, 40));
        assert_eq!(end(&resync, 5), SourceEnd::Done);
        resync.check();
        resync.finish_source();
        resync.check();
        assert!(!resync.acks_seen(2));
    }

    #[test]
    fn a_target_is_doubted_until_it_shows_itself_and_when_all_is_sent() {
        let mut resync = Resync::<()>::default();
        resync.begin_source(NOW, 1);
        assert!(resync.is_target_unproven() && !resync.target_may_be_done());
        resync.target_proven();
        assert!(!resync.is_target_unproven());
        resync.marks_cleared(ConnState::SyncSource, 0);
        assert!(resync.target_may_be_done());
    }
}
