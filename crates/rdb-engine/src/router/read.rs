//! Application reads: which copy serves them, and what happens when it cannot.

use alloc::format;

use replica_proto::{BlockAck, DataHeader};

use crate::disk::io::Io;
use crate::effect::{Level, ReadFor};
use crate::event::Payload;
use crate::ids::{RequestKey, VolumeNr};
use crate::router::Resource;
use crate::state::DiskState;

impl<P: Payload> Resource<P> {
    /// Local if the blocks are good here, else from the peer, else an error (`docs/spec/behaviour.md`, section 8.4).
    pub(super) fn start_read(&mut self, key: RequestKey) {
        let request = &self.requests[key];
        let (nr, span) = (request.volume(), request.span());
        let failed_here = request.has_failed_here();
        let volume = self.volume(nr);
        let state = volume.state;
        // A read that fails marks its blocks: until they are written again, or another disk is there, it is not tried again.
        let good_here = volume.has_usable_disk()
            && volume.disk.get().is_some_and(|d| match state.disk {
                DiskState::UpToDate => !failed_here || !d.is_marked(span),
                DiskState::Inconsistent => d.is_good_unmarked(span),
                _ => false,
            });
        self.has_started(key);
        if good_here {
            self.requests[key].begin_here();
            let io = Io::Application { volume: nr, key };
            self.read_disk(io, span, ReadFor::User);
        } else if state.pdsk == DiskState::UpToDate
            && self.is_up()
            && !self.requests[key].has_failed_there()
        {
            let packet = self.requests[key].send_read(self.now, key);
            self.volume_mut(nr).peer.traffic.ask();
            // What was written before is told to be an epoch of its own before the read (docs/spec/wire.md, 7.3).
            self.send_barrier();
            self.send(nr, packet, None);
            self.watch_requests();
        } else {
            let text = format!("IO ERROR: neither local nor remote data, sector {span}");
            self.log_volume(Level::Error, nr, text);
            self.complete(key, false);
        }
    }

    /// One copy failed: try what is left.
    pub(super) fn retry_read(&mut self, key: RequestKey) {
        let nr = self.requests[key].volume();
        if self.volume(nr).state.is_suspended() {
            // It is tried with what there is when I/O goes on.
            self.requests[key].forget_there();
            self.volume_mut(nr).users.wait(key);
            return;
        }
        self.start_read(key);
    }

    /// P_DATA_REPLY: the peer's answer to a read of ours.
    pub(super) fn on_data_reply(&mut self, nr: VolumeNr, header: &DataHeader, payload: P) {
        let known = self.request_of(header.block_id);
        let known = known.filter(|&key| self.requests[key].awaits_data(nr, header.sector));
        let Some(key) = known.filter(|&key| self.requests[key].span().bytes == payload.len_bytes())
        else {
            let text = format!("P_DATA_REPLY for an unknown read, sector {}", header.sector);
            self.protocol_error(text);
            return;
        };
        let request = &mut self.requests[key];
        let sectors = request.span().sectors();
        request.serve(Some(payload));
        let peer = &mut self.volume_mut(nr).peer;
        peer.answered();
        peer.traffic.receive(sectors);
        self.complete(key, true);
    }

    /// P_NEG_DREPLY: the peer could not read.
    pub(super) fn on_neg_data_reply(&mut self, nr: VolumeNr, ack: &BlockAck) {
        let known = self.request_of(ack.block_id);
        let known = known.filter(|&key| self.requests[key].awaits_data(nr, ack.sector));
        let Some(key) = known else {
            let text = format!("P_NEG_DREPLY for an unknown read, sector {}", ack.sector);
            self.protocol_error(text);
            return;
        };
        let volume = self.volume_mut(nr);
        volume.peer.answered();
        self.requests[key].failed_there();
        self.retry_read(key);
    }
}
