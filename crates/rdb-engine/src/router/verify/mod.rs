//! What both sides of a verify do.

mod answer;
mod drive;

use alloc::format;

use crate::Bug;
use crate::effect::Level;
use crate::event::{ConnTimer, Payload};
use crate::handler::Handler;
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::span::Span;
use crate::state::{Change, ConnState, is_verify};
use crate::verify::Differing;

impl<P: Payload> Resource<P> {
    /// The result of a block, which is the same on both sides.
    pub(super) fn verify_block_done(&mut self, nr: VolumeNr, span: Span, equal: bool) {
        let now = self.now;
        let verify = &mut self.volume_mut(nr).peer.verify;
        let differing = verify.block_done(span, equal, now);
        self.tell_of_difference(nr, differing);
        if !equal && !self.planted(Bug::VerifyUnmarked) {
            self.set_out_of_sync(nr, span);
        }
    }

    fn tell_of_difference(&mut self, nr: VolumeNr, differing: Option<Differing>) {
        if let Some((first, sectors)) = differing {
            let text = format!("Out of sync: start={first}, size={sectors} (sectors)");
            self.log_volume(Level::Error, nr, text);
        }
    }

    /// The end, after the last result or because the driver says so.
    pub(in crate::router) fn verify_finish(&mut self, nr: VolumeNr) {
        let now = self.now;
        if !(self.volumes.get(nr)).is_some_and(|volume| is_verify(volume.state.conn)) {
            return;
        }
        let differing = self.volume_mut(nr).peer.verify.take_differing();
        self.tell_of_difference(nr, differing);
        for (level, text) in self.volume(nr).peer.verify.summary(now) {
            self.log_volume(level, nr, text);
        }
        let found = self.volume(nr).bits_set();
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
        let differing = self.volume_mut(nr).peer.verify.take_differing();
        self.tell_of_difference(nr, differing);
        let volume = self.volume_mut(nr);
        let over = volume.peer.verify.end_here(&mut volume.held);
        for _ in 0..over.unanswered {
            volume.peer.answered();
        }
        if over.drove {
            self.clear_conn_timer(ConnTimer::ResyncStep(nr));
        }
        if let Some(sector) = over.reached {
            let text = format!("Online Verify reached sector {sector}");
            self.log_volume(Level::Info, nr, text);
        }
        self.retry_blocked(nr);
    }
}
