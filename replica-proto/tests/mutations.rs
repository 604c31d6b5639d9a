//! The decoder on damaged captures: tens of thousands of streams with a few bytes wrong, lost or added.
//!
//! It always does the same. What it looks for are panics, and packets that do not keep the decoder's promises.

mod common;

use common::{Seen, all_packets, check_decoder};
use replica_proto::bitmap_code::BitmapReceiver;
use replica_proto::{Packet, Socket};

/// A small generator (xorshift), so that each run is the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A byte, more often one of those at which something changes.
    fn byte(&mut self) -> u8 {
        match self.below(4) {
            0 => 0,
            1 => 0xff,
            2 => 1 << self.below(8),
            _ => self.next() as u8,
        }
    }
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.byte()),
            2 => {
                bytes.remove(at);
            }
            3 => {
                let from = random.below(bytes.len());
                let len = bytes.len();
                bytes.copy_within(from..(from + 8).min(len), at.min(len.saturating_sub(8)));
            }
            4 => bytes[at] ^= 1 << random.below(8),
            _ => bytes[at] = random.byte(),
        }
        if bytes.is_empty() {
            return;
        }
    }
}

#[test]
fn damaged_captures_are_packets_or_errors() {
    let packets = all_packets();
    let mut random = Random(0x5eed_1234_5678_9abc);
    let (mut decoded, mut refused) = (0, 0);
    for _ in 0..60_000 {
        let first = random.below(packets.len());
        let ctx = packets[first].ctx;
        let socket = packets[first].socket;
        // A few packets in a row, with little of their bulk, so that the damage hits what the decoder reads.
        let mut bytes: Vec<u8> = packets[first..]
            .iter()
            .take(1 + random.below(4))
            .flat_map(|seen| seen.bytes.iter().chain(seen.payload.iter().take(16)))
            .copied()
            .collect();
        damage(&mut random, &mut bytes);
        let mut rest = &bytes[..];
        while let Some(taken) = check_decoder(&ctx, socket, rest) {
            decoded += 1;
            rest = rest.get(taken.min(rest.len())..).unwrap_or_default();
        }
        refused += usize::from(!rest.is_empty());
        // On the other socket nothing but an error or a wait can come of it, but never a panic.
        let other = if socket == Socket::Data {
            Socket::Meta
        } else {
            Socket::Data
        };
        check_decoder(&ctx, other, &bytes);
    }
    // Both happen all the time, or this would test nothing.
    assert!(decoded > 10_000, "{decoded}");
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn damaged_bitmaps_stay_within_the_device() {
    let transfers: Vec<Seen> = all_packets()
        .into_iter()
        .filter(|seen| {
            matches!(
                seen.frame.packet,
                Packet::Bitmap(_) | Packet::CompressedBitmap(_)
            )
        })
        .collect();
    let mut random = Random(0xb17b_17b1_7b17_b17b);
    let mut errors = 0;
    for _ in 0..20_000 {
        let bits = 1 + random.below(5000) as u64;
        // One word more than the bitmap has, which nothing may touch.
        let mut words = vec![0; bits.div_ceil(64) as usize + 1];
        let mut receiver = BitmapReceiver::new(&transfers[0].ctx, bits);
        for _ in 0..4 {
            let mut packet = transfers[random.below(transfers.len())]
                .frame
                .packet
                .clone();
            let (Packet::Bitmap(payload) | Packet::CompressedBitmap(payload)) = &mut packet else {
                unreachable!("only bitmaps were kept")
            };
            if !payload.is_empty() {
                damage(&mut random, payload);
            }
            errors += usize::from(receiver.receive(&packet, &mut words[..]).is_err());
            let last = words.len() - 1;
            assert_eq!(words[last], 0);
            if !bits.is_multiple_of(64) {
                assert_eq!(words[last - 1] >> (bits % 64), 0, "bits beyond the device");
            }
            assert!(receiver.bits_done() <= bits);
        }
    }
    assert!(errors > 1000, "{errors}");
}
