//! Sending and receiving whole bitmaps (`docs/spec/wire.md`, section 9): the future source first, then the target its
//! merged one. The packets of one bitmap are contiguous on the data socket.

use alloc::vec::Vec;

use rdb_meta::Bitmap;
use replica_proto::bitmap_code::{
    BitSink, BitSource, BitmapError, BitmapProgress, BitmapReceiver, BitmapSender, Run,
};
use replica_proto::{Packet, WireContext};

use crate::ids::VolumeNr;

/// Where the duty to send the bitmap stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BitmapDue {
    No,
    /// As future source, once application writes have ended.
    Source,
    /// As future target, merged with the source's.
    Target,
}

/// A bitmap on its way out. Ordinary packets of the data socket wait until it is sent.
#[derive(Debug)]
pub(crate) struct BitmapOut {
    volume: VolumeNr,
    sender: BitmapSender,
}

/// Packets handed over at a time: 256 KiB, so that a large bitmap is never held twice in memory.
const PACKETS_PER_BATCH: usize = 64;

impl BitmapOut {
    pub(crate) fn begin(
        volume: VolumeNr,
        wire: &WireContext,
        bitmap: &Bitmap,
        use_rle: bool,
    ) -> Self {
        let sender = BitmapSender::new(wire, bitmap.bits(), use_rle);
        BitmapOut { volume, sender }
    }

    pub(crate) fn volume(&self) -> VolumeNr {
        self.volume
    }

    /// The packets that come next. `None` if the bitmap has another size by now: what has begun cannot be sent to its end.
    pub(crate) fn next_batch(&mut self, bitmap: &Bitmap) -> Option<Vec<Packet>> {
        if bitmap.bits() != self.sender.bits() {
            return None;
        }
        let packets = core::iter::from_fn(|| self.sender.next_packet(&Source(bitmap)));
        Some(packets.take(PACKETS_PER_BATCH).collect())
    }

    /// Whether all of it has been handed over.
    pub(crate) fn is_complete(&self) -> bool {
        self.sender.is_complete()
    }
}

/// A bitmap on its way in.
#[derive(Debug)]
pub(crate) struct BitmapIn {
    volume: VolumeNr,
    bits: u64,
    receiver: BitmapReceiver,
}

impl BitmapIn {
    /// One of so many bits.
    pub(crate) fn begin(volume: VolumeNr, wire: &WireContext, bits: u64) -> Self {
        let receiver = BitmapReceiver::new(wire, bits);
        BitmapIn {
            volume,
            bits,
            receiver,
        }
    }

    pub(crate) fn volume(&self) -> VolumeNr {
        self.volume
    }

    /// A packet of it, which is merged into our own bitmap, if there is one that it is for. It is looked at all the same if
    /// nobody wants it any more, or if the device has another size by now.
    pub(crate) fn receive(
        &mut self,
        packet: &Packet,
        into: Option<&mut Bitmap>,
    ) -> Result<BitmapProgress, BitmapError> {
        match into.filter(|bitmap| bitmap.bits() == self.bits) {
            Some(bitmap) => self.receiver.receive(packet, &mut Sink(bitmap)),
            None => self.receiver.receive(packet, &mut Nowhere),
        }
    }
}

struct Source<'a>(&'a Bitmap);

impl BitSource for Source<'_> {
    fn bits(&self) -> u64 {
        self.0.bits()
    }

    fn word(&self, index: u64) -> u64 {
        usize::try_from(index)
            .ok()
            .and_then(|i| self.0.words().get(i))
            .copied()
            .unwrap_or(0)
    }

    fn run(&self, from: u64) -> Run {
        let set = self.0.test_bit(from);
        let end = if set {
            self.0.next_clear(from)
        } else {
            self.0.next_set(from)
        };
        Run {
            set,
            len: end.unwrap_or(self.0.bits()) - from,
        }
    }
}

struct Sink<'a>(&'a mut Bitmap);

impl BitSink for Sink<'_> {
    fn or_words(&mut self, word_index: u64, words: &[u64]) {
        if let Ok(index) = usize::try_from(word_index) {
            self.0.or_words(index, words);
        }
    }

    fn set_run(&mut self, first_bit: u64, len: u64) {
        self.0.set_run(first_bit, len);
    }
}

/// A bitmap that nobody wants any more.
struct Nowhere;

impl BitSink for Nowhere {
    fn or_words(&mut self, _word_index: u64, _words: &[u64]) {}

    fn set_run(&mut self, _first_bit: u64, _len: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(out: &mut BitmapOut, bitmap: &Bitmap) -> Vec<Packet> {
        out.next_batch(bitmap).expect("it has its size")
    }

    #[test]
    fn a_bitmap_goes_batch_by_batch_and_is_merged() {
        let wire = WireContext::initial();
        let (size, nr) = ((1 << 22) * 8, VolumeNr(0));
        let (mut own, mut peers) = (Bitmap::new(size, false), Bitmap::new(size, false));
        own.set_sectors(0, 8);
        peers.set_sectors(size - 8, 8);
        let mut out = BitmapOut::begin(nr, &wire, &peers, false);
        let mut incoming = BitmapIn::begin(nr, &wire, own.bits());
        let mut batches = 0;
        while !out.is_complete() {
            batches += 1;
            let packets = sent(&mut out, &peers);
            assert!(packets.len() <= PACKETS_PER_BATCH);
            for packet in &packets {
                incoming.receive(packet, Some(&mut own)).expect("in order");
            }
        }
        assert!(batches > 1, "or nothing is shown");
        assert_eq!(own.count_set(), 2);
        assert!(sent(&mut out, &peers).is_empty());
    }

    #[test]
    fn a_device_of_another_size_ends_what_is_sent_and_takes_nothing() {
        let (wire, nr) = (WireContext::initial(), VolumeNr(0));
        let (large, mut small) = (Bitmap::new(800, true), Bitmap::new(80, false));
        let mut out = BitmapOut::begin(nr, &wire, &large, false);
        assert!(out.next_batch(&small).is_none());
        let mut incoming = BitmapIn::begin(nr, &wire, large.bits());
        for packet in sent(&mut out, &large) {
            incoming
                .receive(&packet, Some(&mut small))
                .expect("a right one");
        }
        assert_eq!(small.count_set(), 0);
    }
}
