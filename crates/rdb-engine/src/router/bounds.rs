//! How long each queue of the engine can become, whatever a peer sends and however slowly it reads.
//!
//! | queue | bound | at the bound |
//! | --- | --- | --- |
//! | requests of the peer that wait for our answer: mirrored writes, reads, resync data being written | [`UNANSWERED_MAX`] a volume | the connection ends |
//! | mirrored writes, those of a lost connection included, that run or wait for a range, an epoch or the activity log | twice that | |
//! | ranges locked for blocks of a resync or verify that the peer has not acknowledged | [`HELD_MAX`] a volume, beside those of open writes | the connection ends |
//! | reads of the peer that wait for their turn or for an overlapping write | part of the first | |
//! | its reads that are under way | a quarter of `max-buffers` a volume, or one (`peer_reads.rs`) | the rest waits, and is forgotten with the connection |
//! | received epochs whose barrier is not answered | [`EPOCHS_MAX`] | the connection ends |
//! | answers that wait until a bitmap is sent | [`DEFERRED_ANSWERS_MAX`] | the connection ends |
//! | who waits for an answered ping | one of each kind, for each volume | an older wait becomes the newer one |
//! | writes that wait for the activity log, or for a slot in it | our requests and mirrored writes that are open | |
//! | writes that wait for space on a full disk | our I/O in flight | |
//! | metadata operations | [`METADATA_MAX`], and one for each open request and mirrored write | the connection ends |
//! | our users' requests, administrators' commands | the front ends' and the control socket's; no peer adds to them | |
//!
//! Answers leave the engine at once; the driver bounds what waits for the socket, and reads no more of a peer that does not
//! read. The bytes of payloads are the driver's buffers.

use crate::disk::queue::METADATA_MAX;
use crate::net::DEFERRED_ANSWERS_MAX;
use crate::peer_request::{HELD_MAX, UNANSWERED_MAX};
use crate::router::connection::Connection;
use crate::router::volume::Volume;
use crate::transfer_log::EPOCHS_MAX;

/// What one packet, or the end of a connection, adds to them at most.
const METADATA_MORE: usize = 32;

/// How many there are of what the whole resource has.
pub(super) struct Counts {
    /// Requests of our users.
    pub requests: usize,
    /// Mirrored writes.
    pub mirrored: usize,
    pub io_in_flight: usize,
    pub volumes: usize,
}

impl Counts {
    /// # Panics
    /// If a queue of the connection is longer than it can be.
    pub(super) fn check_net<P>(&self, net: &Connection<P>) {
        let &Counts {
            mirrored, volumes, ..
        } = self;
        bounded(
            "answers behind a bitmap",
            net.deferred.answers() as usize,
            DEFERRED_ANSWERS_MAX as usize,
        );
        bounded("received epochs", net.epochs.len(), EPOCHS_MAX);
        bounded(
            "mirrored writes",
            mirrored,
            2 * UNANSWERED_MAX as usize * volumes,
        );
        bounded(
            "mirrored writes behind an epoch",
            net.epochs.waiting(),
            mirrored,
        );
        net.log.check();
        net.epochs.check();
        let waiters = net.pings.waiting();
        bounded("waiters for a ping", waiters, 1 + 4 * volumes);
    }

    /// # Panics
    /// If a queue of a volume is longer than it can be.
    pub(super) fn check_volume<P>(&self, volume: &Volume<P>) {
        let &Counts {
            requests, mirrored, ..
        } = self;
        let open = requests + mirrored;
        let unacked = volume.peer.traffic.unacked() as usize;
        bounded("unanswered requests", unacked, UNANSWERED_MAX as usize);
        let reads = volume.peer.reads_blocked.len() + volume.peer.peer_reads.due();
        bounded("reads that wait", reads, unacked);
        volume.peer.peer_reads.check();
        bounded("locked ranges", volume.held.len(), HELD_MAX + open);
        let queued = volume.held.queued();
        let users = volume.held.users_queued();
        let blocked = volume.peer.resync.waiting();
        let others = mirrored + blocked;
        bounded("writes that wait for a range", queued, others + users);
        bounded("users' writes that wait for a range", users, requests);
        volume.held.check();
        volume.peer.resync.check();
        volume.peer.verify.check();
        let held = volume.users.untold();
        bounded("held completions", held, requests);
        let in_flight = self.io_in_flight;
        bounded("writes that wait for space", volume.space.len(), in_flight);
        if let Some(disk) = volume.disk.get() {
            let waiting = disk.writes_waiting();
            bounded("writes that wait for the activity log", waiting, open);
            let queued = disk.operations_waiting();
            let most = METADATA_MAX + METADATA_MORE + open;
            bounded("metadata operations", queued, most);
        }
    }
}

fn bounded(what: &str, len: usize, bound: usize) {
    assert!(len <= bound, "{len} {what}, and there may be {bound}");
}
