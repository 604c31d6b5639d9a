//! Online verify, answered: the peer drives it (VerifyS) and asks block by block for digests; this node is VerifyT
//! (`docs/spec/wire.md`, section 10.7; `docs/spec/behaviour.md`, section 9.9).
//!
//! From the read to the peer's result a range is held against writes of ours, as in a resync: both nodes' blocks are
//! looked at while neither changes. A block that differs is marked out of sync on both nodes; nothing is repaired.
//! Driving a verify is deliberately absent.

use alloc::format;

use replica_proto::{BlockAck, BlockId, BlockRequest, Digest, Packet};

use crate::effect::Level;
use crate::event::{DiskError, Payload};
use crate::ids::{Time, VolumeNr};
use crate::interval::Awaited;
use crate::net::PingWaiter;
use crate::peer_reads::{BlockedRead, Purpose};
use crate::range_locks::Holder;
use crate::resource::Resource;
use crate::state::{Change, ConnState};

/// A verify of one volume that is being answered.
#[derive(Debug, Default)]
pub(crate) struct Verify {
    /// Blocks from the first request to the device's end, and those of them without a result: known from the first
    /// request on.
    total: Option<u64>,
    left: u64,
    started: Time,
    /// Digests sent and results not yet come, with their bytes.
    pub(crate) answered: Awaited,
    /// Differing sectors next to each other, told of when they end: first and last + 1.
    differs: Option<(u64, u64)>,
    /// The last result has come; a ping is on its way.
    ending: bool,
}

impl<P: Payload> Resource<P> {
    /// P_OV_REQUEST.
    pub(crate) fn on_verify_request(&mut self, nr: VolumeNr, request: &BlockRequest) {
        let now = self.now;
        let volume = self.volume_mut(nr);
        if volume.state.conn == ConnState::VerifyT && volume.peer.verify.total.is_none() {
            let blocks = volume.size.div_ceil(8);
            let left = blocks.saturating_sub(request.sector / 8);
            volume.peer.verify.total = Some(left);
            volume.peer.verify.left = left;
            volume.peer.verify.started = now;
            let text = format!("Online Verify start sector: {}", request.sector);
            self.log_volume(Level::Info, nr, text);
        }
        self.on_read_request(nr, request, Purpose::Verify);
    }

    /// The block was read, or could not be.
    pub(crate) fn on_verify_read_io(
        &mut self,
        nr: VolumeNr,
        read: BlockedRead,
        current: bool,
        result: Result<Option<P>, DiskError>,
    ) {
        let BlockedRead { sector, bytes, .. } = read;
        let now = self.now;
        let error = result.as_ref().err().copied();
        let algorithm = self.net.comparison.peer.verify;
        let digest = match (result, algorithm) {
            (Ok(Some(payload)), Some(algorithm)) => Some(payload.digest(algorithm)),
            // What no block has: the driver counts it as different.
            (Err(_), Some(algorithm)) => Digest::zeros(algorithm.len()),
            _ => None,
        };
        let volume = self.volume_mut(nr);
        match digest {
            Some(digest) if current && volume.state.conn == ConnState::VerifyT => {
                let sectors = u64::from(bytes / 512);
                volume.counters.read += sectors;
                volume.peer.answer_given();
                volume.peer.pending += 1;
                volume
                    .peer
                    .verify
                    .answered
                    .insert(sector, sector + sectors, bytes, now);
                self.watch_blocks();
                let request = BlockRequest {
                    sector,
                    block_id: BlockId::SYNCER,
                    bytes,
                };
                self.send(nr, Packet::OvReply(request, digest), None);
            }
            _ => {
                // The verify ended meanwhile.
                volume.held.remove(sector);
                if current {
                    self.refuse_read(nr, read);
                }
                self.retry_blocked(nr);
            }
        }
        if let Some(error) = error {
            let text = format!(
                "local READ IO error sector {sector}+{} (errno {})",
                bytes / 512,
                error.errno
            );
            self.log_volume_error(nr, text);
            self.local_io_error(nr, false);
        }
    }

    /// P_OV_RESULT: the peer compared.
    pub(crate) fn on_verify_result(&mut self, nr: VolumeNr, result: &BlockAck) {
        let volume = self.volume_mut(nr);
        if volume.state.conn != ConnState::VerifyT {
            return; // of a verify that was given up here
        }
        let sector = result.sector;
        if volume.peer.verify.answered.holder_at(sector) != Some(result.bytes) {
            self.protocol_error(format!(
                "volume {nr}: a verify result for a block that was not asked for, sector {sector}"
            ));
            return;
        }
        volume.peer.verify.answered.remove(sector);
        volume.held.remove(sector);
        volume.peer.answered();
        volume.peer.verify.left = volume.peer.verify.left.saturating_sub(1);
        let end = sector + u64::from(result.bytes / 512);
        if result.block_id == BlockId::OUT_OF_SYNC {
            let run = volume.peer.verify.differs;
            if let Some((first, _)) = run.filter(|&(_, last)| last == sector) {
                volume.peer.verify.differs = Some((first, end));
            } else {
                self.tell_of_difference(nr);
                self.volume_mut(nr).peer.verify.differs = Some((sector, end));
            }
            self.set_out_of_sync(nr, sector, end - sector);
        } else {
            self.tell_of_difference(nr);
        }
        self.retry_blocked(nr);
        let verify = &mut self.volume_mut(nr).peer.verify;
        if verify.left == 0 && !verify.ending {
            verify.ending = true;
            self.ping(Some(PingWaiter::Verify(nr)));
        }
    }

    fn tell_of_difference(&mut self, nr: VolumeNr) {
        if let Some((first, end)) = self.volume_mut(nr).peer.verify.differs.take() {
            let text = format!("Out of sync: start={first}, size={} (sectors)", end - first);
            self.log_volume(Level::Error, nr, text);
        }
    }

    /// The end, after the last result or because the driver says so.
    pub(crate) fn verify_finish(&mut self, nr: VolumeNr) {
        let now = self.now;
        if self
            .volumes
            .get(&nr)
            .is_none_or(|volume| volume.state.conn != ConnState::VerifyT)
        {
            return;
        }
        self.tell_of_difference(nr);
        let volume = self.volume(nr);
        let elapsed_s = (now.ms_since(volume.peer.verify.started) / 1000).max(1);
        let done = volume.peer.verify.total.unwrap_or(0) - volume.peer.verify.left;
        let text = format!(
            "Online verify done (total {elapsed_s} sec; paused 0 sec; {} K/sec)",
            done * 4 / elapsed_s
        );
        let found = volume.bits_set();
        self.log_volume(Level::Info, nr, text);
        if found > 0 {
            let text = format!("Online verify found {found} 4k block out of sync!");
            self.log_volume(Level::Error, nr, text);
        }
        let disk = self.disk_at_the_end(nr);
        self.fact(nr, Change::conn(ConnState::Connected).and_disk(disk));
    }

    /// The state became or ceased to be VerifyT: nothing of the last verify is waited for any more.
    pub(crate) fn verify_came_or_went(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        let last = core::mem::take(&mut volume.peer.verify);
        for (sector, _) in last.answered.iter() {
            if volume.held.holder_at(sector) == Some(Holder::Verify) {
                volume.held.remove(sector);
            }
            volume.peer.answered();
        }
        self.retry_blocked(nr);
    }
}
