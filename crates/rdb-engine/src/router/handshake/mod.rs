//! What two nodes tell each other of a volume, and what follows: size, generations, state, and who syncs whom
//! (`docs/spec/behaviour.md`, sections 5 and 6.4 to 6.6; `docs/spec/wire.md`, section 5).

mod generations;
mod peer_state;
mod sizes;

use alloc::format;
use alloc::string::String;

use replica_proto::{DdsFlags, Packet, QueueLimits, Sizes, StateWord, UuidFlags, Uuids};

use crate::effect::Level;
use crate::event::Payload;
use crate::generation::WroteAlone;
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::rules::{self, trouble::Trouble};
use crate::state::DiskState;

impl<P: Payload> Resource<P> {
    /// P_SIZES. `ask`: the peer is to answer with its own.
    pub(in crate::router) fn send_sizes(&mut self, nr: VolumeNr, ask: bool) {
        let volume = self.volume(nr);
        let attached = volume
            .disk
            .get()
            .filter(|_| volume.state.disk >= DiskState::Negotiating);
        let logical = attached.map_or(512, |d| d.logical_block_bytes());
        let sizes = Sizes {
            d_size: attached.map_or(0, |d| d.usable_sectors()),
            u_size: attached.map_or(0, |d| d.options().size_sectors),
            c_size: if ask { 0 } else { volume.size },
            max_bio_size: crate::REQUEST_MAX_BYTES,
            queue_order_type: 0,
            dds_flags: DdsFlags::empty(),
            limits: Some(QueueLimits {
                physical_block_size: logical,
                logical_block_size: logical,
                io_min: logical,
                discard_enabled: attached.is_some_and(|d| d.can_discard()),
                ..QueueLimits::default()
            }),
        };
        self.send(nr, Packet::Sizes(sizes), None);
    }

    /// P_UUIDS, if there is a disk to speak of.
    pub(in crate::router) fn send_uuids(&mut self, nr: VolumeNr) {
        self.send_uuids_with(nr, UuidFlags::empty());
    }

    pub(in crate::router) fn send_uuids_with(&mut self, nr: VolumeNr, extra: UuidFlags) {
        let discard = self.net.attempt.discards();
        let alone = self.told_alone(nr);
        let volume = self.volume_mut(nr);
        if volume.state.disk < DiskState::Negotiating {
            return;
        }
        let Some(disk) = volume.disk.get() else {
            return;
        };
        let ids = disk.record().ids();
        let bits = disk.marked();
        let mut flags = extra;
        flags.set(UuidFlags::DISCARD_MY_DATA, discard);
        flags.set(UuidFlags::CRASHED_PRIMARY, volume.crashed_primary);
        let attaching_bad = volume.state.disk == DiskState::Negotiating
            && volume.worth() == DiskState::Inconsistent;
        flags.set(UuidFlags::INCONSISTENT, attaching_bad);
        flags |= UuidFlags::from_bits_retain(alone.to_flags());
        volume.peer.bits_announced = bits;
        let [current, bitmap, younger, older] = ids.bits();
        let uuids = Uuids {
            current,
            bitmap,
            history: [younger, older],
            bits,
            flags,
        };
        self.send(nr, Packet::Uuids(uuids), None);
    }

    /// What this peer is told of what users wrote here while we were alone.
    pub(in crate::router) fn told_alone(&self, nr: VolumeNr) -> WroteAlone {
        let disk = self.volume(nr).disk.get();
        match disk.filter(|_| self.net.agreed.tells_lone_names()) {
            Some(disk) => disk.record().wrote_alone(),
            None => WroteAlone::Unknown,
        }
    }

    /// P_STATE.
    pub(in crate::router) fn send_state(&mut self, nr: VolumeNr) {
        if self.volume(nr).peer.state_held.is_some() {
            return; // the first one has to go before, and comes with it
        }
        let word = self.volume(nr).state.as_told().to_word();
        self.send(nr, Packet::State(StateWord(word)), None);
    }

    /// (L35) The first state, if it was held back: the peer's data are those that our users have seen, or there are none.
    fn release_first_state(&mut self, nr: VolumeNr) {
        let Some(first) = self.volume_mut(nr).peer.state_held.take() else {
            return;
        };
        self.send(nr, Packet::State(first), None);
        if self.volume(nr).state.to_word() != first.0 {
            self.send_state(nr);
        }
    }

    /// The connection ends for good, and the log says why and what there is to be done.
    fn stand_alone_for(&mut self, kind: Trouble, nr: VolumeNr, text: impl Into<String>) {
        let text = text.into();
        let line = match kind.advice() {
            Some(advice) => {
                let advice = rules::advice_for(advice, &self.name);
                format!("{text}. To do: {advice}")
            }
            None => text.clone(),
        };
        self.log_volume(Level::Error, nr, line);
        self.trouble(kind, text);
        self.go_standalone();
    }
}
