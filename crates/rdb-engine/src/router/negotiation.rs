//! The limit on the time that an attached disk may be negotiated with a peer that is silent.

use crate::effect::Level;
use crate::event::{ConnTimer, Payload};
use crate::ids::VolumeNr;
use crate::net::PingWaiter;
use crate::router::Resource;
use crate::state::{Change, DiskState};

impl<P: Payload> Resource<P> {
    /// The peer has been told of our disk, and says what it is worth by its own words: users wait meanwhile, who had its
    /// disk before. One that is silent is asked by a ping `timeout` later.
    pub(super) fn limit_negotiation(&mut self, nr: VolumeNr) {
        let timeout_ds = self.net.options.as_ref().map_or(60, |o| o.timeout_ds);
        self.set_conn_timer(
            ConnTimer::Negotiation(nr),
            self.now.plus_ms(u64::from(timeout_ds) * 100),
        );
    }

    pub(super) fn on_negotiation_timer(&mut self, nr: VolumeNr) {
        if self.is_negotiating(nr) && self.is_up() {
            self.ping(Some(PingWaiter::Negotiation(nr)));
        }
    }

    /// It is there, and has had the time: it has given our attach up without a word.
    pub(super) fn peer_ignores_the_attach(&mut self, nr: VolumeNr) {
        if self.is_negotiating(nr) {
            let text = "the peer does not say what our disk is worth: giving the disk up";
            self.log_volume(Level::Error, nr, text);
            self.fact(nr, Change::disk(DiskState::Failed));
        }
    }

    fn is_negotiating(&self, nr: VolumeNr) -> bool {
        let volume = self.volumes.get(nr);
        volume.is_some_and(|v| v.state.disk == DiskState::Negotiating)
    }
}
