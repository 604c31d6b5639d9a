//! Writes at the gate of the activity log: who goes on, and which transaction is written.

use rdb_meta::ExtentNr;

use crate::Bug;
use crate::disk::Disk;
use crate::disk::al_gate::{Entry, Writer};
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::router::Resource;

impl<P: Payload> Resource<P> {
    /// Whether a write may go on at once. Otherwise it is sent on when its extents are hot, or the disk has failed. The caller
    /// has seen that the disk is usable.
    pub(in crate::router) fn enter_gate(
        &mut self,
        nr: VolumeNr,
        who: Writer,
        extents: (ExtentNr, ExtentNr),
    ) -> bool {
        let entry = self.disk_mut(nr).enter_gate(who, extents);
        if entry == (Entry::Waits { queue: true }) {
            self.md_pump(nr);
        }
        entry == Entry::Open
            || self.planted(Bug::SkipActivityLogWait) && self.slips_through(nr, who)
    }

    /// A mistake on purpose: a user's write does not wait for the log.
    fn slips_through(&mut self, nr: VolumeNr, who: Writer) -> bool {
        matches!(who, Writer::Own(_)) && self.disk_mut(nr).gate_mut().pass_unlogged(who)
    }

    /// A write is over, or forgotten.
    pub(in crate::router) fn leave_gate(&mut self, nr: VolumeNr, who: Writer) {
        let disk = self.volume_mut(nr).disk.get_mut();
        if disk.is_some_and(|disk| disk.gate_mut().leave(who)) {
            self.retry_starved(nr);
        }
    }

    /// A transaction is durable: what waited for it goes on.
    pub(in crate::router) fn transaction_written(&mut self, nr: VolumeNr, transaction: u32) {
        for who in self.disk_mut(nr).gate_mut().commit(transaction) {
            self.pass_gate(who);
        }
        // (One of them may have had the disk closed: nothing is queued for it then.)
        let disk = self.volume_mut(nr).disk.open_mut();
        if disk.is_some_and(Disk::queue_collected) {
            self.md_pump(nr);
        }
        self.retry_starved(nr);
    }

    /// Slots may have become free.
    fn retry_starved(&mut self, nr: VolumeNr) {
        let Some(disk) = self.volume_mut(nr).disk.get_mut() else {
            return;
        };
        let mut starved = disk.gate_mut().take_starved();
        if starved.is_empty() {
            return;
        }
        while let Some(who) = starved.pop_front() {
            match who {
                Writer::Own(key) => self.activate(key),
                Writer::Mirrored(key) => self.activate_mirrored(key),
            }
            let disk = self.volume_mut(nr).disk.get_mut();
            if disk.is_some_and(|disk| !disk.gate_mut().tries_on()) {
                break;
            }
        }
        if let Some(disk) = self.volume_mut(nr).disk.get_mut() {
            disk.gate_mut().put_back(starved);
        }
    }

    /// The disk has failed: those that wait for its log go on without it.
    pub(in crate::router) fn give_up_gate(&mut self, nr: VolumeNr) {
        let Some(disk) = self.volume_mut(nr).disk.get_mut() else {
            return;
        };
        for who in disk.gate_mut().give_up() {
            self.pass_gate(who);
        }
    }

    fn pass_gate(&mut self, who: Writer) {
        match who {
            Writer::Own(key) => self.submit_write(key),
            Writer::Mirrored(key) => self.submit_mirrored(key),
        }
    }
}
