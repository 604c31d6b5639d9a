//! What both sides of a verify do.

mod answer;
mod drive;

use alloc::format;

use crate::Bug;
use crate::effect::Level;
use crate::event::{ConnTimer, Payload};
use crate::handler::Handler;
use crate::ids::VolumeNr;
use crate::range_locks::Holder;
use crate::router::Resource;
use crate::span::Span;
use crate::state::{Change, ConnState};
use crate::verify::Verify;

impl<P: Payload> Resource<P> {
    /// The result of a block, which is the same on both sides.
    pub(super) fn verify_block_done(&mut self, nr: VolumeNr, span: Span, equal: bool) {
        let now = self.now;
        let verify = &mut self.volume_mut(nr).peer.verify;
        verify.open.remove(&span.sector);
        verify.walk.settle(span.sectors());
        verify.left = verify.left.saturating_sub(1);
        verify.course.mark(now, verify.left);
        if equal {
            self.tell_of_difference(nr);
            return;
        }
        if let Some((first, _)) = verify.differs.filter(|&(_, last)| last == span.sector) {
            verify.differs = Some((first, span.end()));
        } else {
            self.tell_of_difference(nr);
            self.volume_mut(nr).peer.verify.differs = Some((span.sector, span.end()));
        }
        if !self.planted(Bug::VerifyUnmarked) {
            self.set_out_of_sync(nr, span);
        }
    }

    fn tell_of_difference(&mut self, nr: VolumeNr) {
        if let Some((first, end)) = self.volume_mut(nr).peer.verify.differs.take() {
            let text = format!("Out of sync: start={first}, size={} (sectors)", end - first);
            self.log_volume(Level::Error, nr, text);
        }
    }

    /// The end, after the last result or because the driver says so.
    pub(in crate::router) fn verify_finish(&mut self, nr: VolumeNr) {
        let now = self.now;
        let verifies = |conn| matches!(conn, ConnState::VerifyS | ConnState::VerifyT);
        if !(self.volumes.get(&nr)).is_some_and(|volume| verifies(volume.state.conn)) {
            return;
        }
        self.tell_of_difference(nr);
        let volume = self.volume(nr);
        let verify = &volume.peer.verify;
        let done = verify.course.total() - verify.left;
        let text = format!("Online verify done {}", verify.course.summary(now, done));
        let (found, skipped) = (volume.bits_set(), verify.skipped);
        self.log_volume(Level::Info, nr, text);
        if skipped > 0 {
            let text = format!("Online verify: the peer has not served {skipped} blocks");
            self.log_volume(Level::Warn, nr, text);
        }
        if found > 0 {
            let text = format!("Online verify found {found} 4k block out of sync!");
            self.log_volume(Level::Error, nr, text);
            self.tell_handler(Handler::OutOfSync, nr);
        }
        let disk = self.disk_at_the_end(nr);
        self.fact(nr, Change::conn(ConnState::Connected).and_disk(disk));
    }

    /// The state is VerifyS or VerifyT no more: nothing of the verify is waited for.
    pub(in crate::router) fn verify_over(&mut self, nr: VolumeNr) {
        self.tell_of_difference(nr);
        let volume = self.volume_mut(nr);
        let verify = &mut volume.peer.verify;
        let next_start = match (verify.begun, verify.left) {
            (false, _) => verify.next_start,
            (true, 0) => 0,
            (true, _) => verify.reached(),
        };
        let asked = core::mem::take(&mut verify.asked);
        let unfinished = verify.begun && verify.left > 0;
        let fresh = Verify {
            next_start,
            asked,
            ..Verify::default()
        };
        let last = core::mem::replace(verify, fresh);
        for span in last.answered.iter() {
            if volume.held.holder_at(span.sector) == Some(Holder::Verify) {
                volume.held.remove(span.sector);
            }
            volume.peer.answered();
        }
        if last.drives {
            self.clear_conn_timer(ConnTimer::ResyncStep(nr));
        }
        if unfinished {
            let text = format!("Online Verify reached sector {next_start}");
            self.log_volume(Level::Info, nr, text);
        }
        self.retry_blocked(nr);
    }
}
