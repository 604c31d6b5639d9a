//! What both sides of a resync do.

use alloc::format;

use crate::effect::Level;
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::resource::Resource;

impl<P: Payload> Resource<P> {
    pub(super) fn log_resync_began(&mut self, nr: VolumeNr, side: &str) {
        let bits = self.volume(nr).bits_set();
        let text = format!(
            "Began resync as {side} (will sync {} KB [{bits} bits set]).",
            bits * 4
        );
        self.log_volume(Level::Info, nr, text);
    }

    pub(super) fn log_resync_done(&mut self, nr: VolumeNr) {
        let now = self.now;
        let resync = &self.volume(nr).peer.resync;
        let (total, failed) = (resync.course.total(), resync.failed);
        let equal = resync.equal_blocks;
        let text = format!("Resync done {}", resync.course.summary(now, total));
        self.log_volume(Level::Info, nr, text);
        if equal > 0 {
            let text = format!(
                "{} % had equal checksums, eliminated: {}K; transferred {}K total {}K",
                equal * 100 / total.max(1),
                equal * 4,
                total.saturating_sub(equal) * 4,
                total * 4
            );
            self.log_volume(Level::Info, nr, text);
        }
        if failed > 0 {
            self.log_volume(
                Level::Error,
                nr,
                format!("            {failed} failed blocks"),
            );
        }
    }
}
