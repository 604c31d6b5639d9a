//! The bitmap exchange against an obvious implementation of docs/spec/wire.md, section 9.

use hex_literal::hex;
use proptest::collection::vec;
use proptest::prelude::*;
use replica_proto::bitmap_code::{
    BitSource, BitmapError, BitmapProgress, BitmapReceiver, BitmapSender, RleDecoder, Run,
    WordSlice, encode_runs, vli_encode, words_of,
};
use replica_proto::{Features, Packet, ProtocolVersion, WireContext};

fn at(version: u32) -> WireContext {
    WireContext::agreed(ProtocolVersion(version), Features::all())
}

fn words(bits: &[bool]) -> Vec<u64> {
    let mut words = vec![0; bits.len().div_ceil(64)];
    for (n, _) in bits.iter().enumerate().filter(|(_, set)| **set) {
        words[n / 64] |= 1 << (n % 64);
    }
    words
}

/// All packets of a transfer.
fn send(ctx: &WireContext, words: &[u64], bits: u64, use_rle: bool) -> Vec<Packet> {
    let source = WordSlice::new(words, bits).unwrap();
    let mut sender = BitmapSender::new(ctx, bits, use_rle);
    let mut packets = Vec::new();
    while let Some(packet) = sender.next_packet(&source) {
        packets.push(packet);
    }
    assert!(sender.is_complete() && sender.bits_done() == bits);
    packets
}

fn receive(ctx: &WireContext, bits: u64, packets: &[Packet]) -> Result<Vec<u64>, BitmapError> {
    let mut words = vec![0; words_of(bits) as usize];
    let mut receiver = BitmapReceiver::new(ctx, bits);
    for (i, packet) in packets.iter().enumerate() {
        let progress = receiver.receive(packet, &mut words[..])?;
        assert_eq!(progress == BitmapProgress::Complete, i + 1 == packets.len());
        assert_eq!(receiver.is_complete(), i + 1 == packets.len());
    }
    assert_eq!(receiver.bits_done(), bits);
    Ok(words)
}

/// The sender of the spec, bit by bit and with strings for streams.
fn reference_send(bits: &[bool], payload_max: usize, use_rle: bool) -> Vec<Packet> {
    let mut packets = Vec::new();
    let (mut bit, mut word) = (0, 0);
    let total_words = bits.len().div_ceil(64);
    loop {
        if use_rle && bit < bits.len() {
            let (mut position, mut stream) = (bit, String::new());
            while position < bits.len() {
                let set = bits[position];
                let run = bits[position..].iter().take_while(|b| **b == set).count();
                let (code, count) = vli_encode(run as u64).unwrap();
                if stream.len() + count as usize > (payload_max - 1) * 8 {
                    break;
                }
                stream.extend((0..count).map(|i| if code >> i & 1 == 1 { '1' } else { '0' }));
                position += run;
            }
            let code_bytes = stream.len().div_ceil(8);
            if position - bit >= code_bytes * 8 {
                let pad = code_bytes * 8 - stream.len();
                let mut payload = vec![2 | (pad << 4) as u8 | u8::from(bits[bit]) << 7];
                for byte in stream.as_bytes().chunks(8) {
                    let set = byte.iter().enumerate().filter(|(_, bit)| **bit == b'1');
                    payload.push(set.map(|(i, _)| 1 << i).sum());
                }
                packets.push(Packet::CompressedBitmap(payload));
                (bit, word) = (position, position / 64);
                if bit == bits.len() {
                    return packets;
                }
                continue;
            }
        }
        let count = (payload_max / 8).min(total_words - word);
        let bytes = (word * 8..(word + count) * 8).map(|byte| {
            (0..8)
                .filter(|i| bits.get(byte * 8 + i) == Some(&true))
                .map(|i| 1 << i)
                .sum()
        });
        packets.push(Packet::Bitmap(bytes.collect()));
        if count == 0 {
            return packets;
        }
        word += count;
        bit = (word * 64).min(bits.len());
    }
}

#[test]
fn worked_example_of_the_spec() {
    let mut bits = vec![false; 16384];
    for n in [5, 6, 7, 9, 10] {
        bits[n] = true;
    }
    let some = Packet::CompressedBitmap(hex!("72 23f847ec0100").to_vec());
    let some = [some];
    assert_eq!(send(&at(101), &words(&bits), 16384, true), some);
    assert_eq!(receive(&at(101), 16384, &some), Ok(words(&bits)));
    let all = Packet::CompressedBitmap(hex!("b2 7fcf1e00").to_vec());
    let all = [all];
    assert_eq!(send(&at(101), &[u64::MAX; 256], 16384, true), all);
    assert_eq!(receive(&at(101), 16384, &all), Ok(vec![u64::MAX; 256]));
}

#[test]
fn plain_example_of_the_spec() {
    let mut bits = vec![false; 300];
    for n in [0, 9, 64, 299] {
        bits[n] = true;
    }
    let payload = hex!(
        "01020000 00000000 01000000 00000000 00000000 00000000 00000000 00000000"
        "00000000 00080000"
    );
    let packets = [Packet::Bitmap(payload.to_vec()), Packet::Bitmap(Vec::new())];
    assert_eq!(send(&at(101), &words(&bits), 300, false), packets);
    assert_eq!(receive(&at(101), 300, &packets), Ok(words(&bits)));
}

/// Exact chunk sizes, a terminator of no bytes after plain data and none after compressed data, OR and not assignment.
#[test]
fn pitfall_07_bitmap_framing() {
    let lengths = |ctx: &WireContext, bits: u64| -> Vec<usize> {
        let packets = send(ctx, &vec![u64::MAX; words_of(bits) as usize], bits, false);
        let len = |packet: &Packet| match packet {
            Packet::Bitmap(payload) => payload.len(),
            other => panic!("{}", other.name()),
        };
        packets.iter().map(len).collect()
    };
    let gigabyte = [4080, 4080, 4080, 4080, 4080, 4080, 4080, 4080, 128, 0];
    assert_eq!(lengths(&at(101), 262_144), gigabyte);
    assert_eq!(
        lengths(&at(99), 262_144),
        [4088, 4088, 4088, 4088, 4088, 4088, 4088, 4088, 64, 0]
    );
    assert_eq!(lengths(&at(101), 510 * 64), [4080, 0]);
    assert_eq!(lengths(&at(101), 1), [8, 0]);
    assert_eq!(lengths(&at(101), 0), [0]);

    let mut own = [0b1000];
    let mut receiver = BitmapReceiver::new(&at(101), 64);
    let packet = Packet::Bitmap(vec![1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        receiver.receive(&packet, &mut own[..]),
        Ok(BitmapProgress::More)
    );
    assert_eq!(own, [0b1001]);
    // Anything but a bitmap in between is an error, and so is a packet after the end.
    let error = receiver
        .receive(&Packet::UnplugRemote, &mut own[..])
        .unwrap_err();
    assert_eq!(
        error,
        BitmapError::Unexpected {
            name: "P_UNPLUG_REMOTE",
            complete: false
        }
    );
    let end = Packet::Bitmap(Vec::new());
    assert_eq!(
        receiver.receive(&end, &mut own[..]),
        Ok(BitmapProgress::Complete)
    );
    let error = receiver.receive(&end, &mut own[..]).unwrap_err();
    assert_eq!(
        error,
        BitmapError::Unexpected {
            name: "P_BITMAP",
            complete: true
        }
    );
}

#[test]
fn compressed_packets_need_version_90() {
    for (version, compressed) in [(89, false), (90, true)] {
        let packets = send(&at(version), &[0; 100], 6400, true);
        assert_eq!(
            matches!(packets[0], Packet::CompressedBitmap(_)),
            compressed
        );
    }
}

#[test]
fn chunks_of_another_length_are_refused() {
    for (bits, len, expected) in [
        (300, 32, 40),
        (300, 48, 40),
        (300, 0, 40),
        (64 * 511, 4088, 4080),
        (0, 8, 0),
    ] {
        let mut words = vec![0; 600];
        let error = BitmapReceiver::new(&at(101), bits)
            .receive(&Packet::Bitmap(vec![0; len]), &mut words[..])
            .unwrap_err();
        assert_eq!(
            error,
            BitmapError::Length {
                found: len,
                expected
            }
        );
    }
}

#[test]
fn bits_beyond_the_device_are_dropped() {
    let mut words = [0; 2];
    let mut receiver = BitmapReceiver::new(&at(101), 70);
    receiver
        .receive(&Packet::Bitmap(vec![0xff; 16]), &mut words[..])
        .unwrap();
    assert_eq!(words, [u64::MAX, 0x3f]);
    let sent = send(&at(101), &[u64::MAX; 2], 70, false);
    let mut expected = vec![0xff; 8];
    expected.extend_from_slice(&0x3fu64.to_le_bytes());
    assert_eq!(sent[0], Packet::Bitmap(expected));
}

/// A compressed packet of these runs, alternating.
fn runs(first_set: bool, runs: &[u64]) -> Vec<u8> {
    let mut stream = String::new();
    for run in runs {
        let (code, count) = vli_encode(*run).unwrap();
        stream.extend((0..count).map(|i| if code >> i & 1 == 1 { '1' } else { '0' }));
    }
    let pad = (8 - stream.len() % 8) % 8;
    let mut payload = vec![2 | (pad << 4) as u8 | u8::from(first_set) << 7];
    for byte in stream.as_bytes().chunks(8) {
        let set = byte.iter().enumerate().filter(|(_, bit)| **bit == b'1');
        payload.push(set.map(|(i, _)| 1 << i).sum());
    }
    payload
}

#[test]
fn damaged_code_is_refused() {
    let error_of = |payload: Vec<u8>, bits| {
        let mut words = vec![0; 100];
        let mut receiver = BitmapReceiver::new(&at(101), bits);
        receiver
            .receive(&Packet::CompressedBitmap(payload), &mut words[..])
            .unwrap_err()
    };
    for encoding in [0x00, 0x01, 0x03, 0x82 | 0x04, 0x0f] {
        let error = error_of(vec![encoding, 0], 64);
        assert_eq!(error, BitmapError::Encoding { found: encoding });
    }
    assert_eq!(
        error_of(vec![2], 64),
        BitmapError::Length {
            found: 1,
            expected: 2
        }
    );
    assert_eq!(
        error_of(Vec::new(), 64),
        BitmapError::Length {
            found: 0,
            expected: 2
        }
    );
    // A run that passes the end, set or clear.
    for first_set in [false, true] {
        let error = error_of(runs(first_set, &[10, 55]), 64);
        assert_eq!(
            error,
            BitmapError::PastEnd {
                position: 10,
                len: 55,
                bits: 64
            }
        );
    }
    // 16373 has a code word of 29 bits: without the last of them.
    let mut cut = runs(true, &[16373]);
    cut.pop();
    assert_eq!(error_of(cut, 16384), BitmapError::CutOff { bit: 0 });
    let mut padded = runs(true, &[16373]);
    padded[0] = padded[0] & 0x8f | 4 << 4;
    assert_eq!(error_of(padded, 16384), BitmapError::CutOff { bit: 0 });
    // The longest of all runs, and a receiver at the end already.
    let longest = runs(false, &[replica_proto::bitmap_code::VLI_RUN_MAX]);
    assert!(matches!(error_of(longest, 64), BitmapError::PastEnd { .. }));
    let mut words = [0];
    let mut receiver = BitmapReceiver::new(&at(101), 64);
    receiver
        .receive(&Packet::Bitmap(vec![0; 8]), &mut words[..])
        .unwrap();
    let packet = Packet::CompressedBitmap(runs(false, &[1]));
    let error = receiver.receive(&packet, &mut words[..]).unwrap_err();
    assert_eq!(
        error,
        BitmapError::PastEnd {
            position: 64,
            len: 1,
            bits: 64
        }
    );
}

/// A plain packet after a compressed one begins at the word that the position is in, so some bits come twice.
#[test]
fn plain_after_compressed_starts_at_the_word() {
    let mut words = [0; 4];
    let mut receiver = BitmapReceiver::new(&at(101), 250);
    let compressed = Packet::CompressedBitmap(runs(true, &[3, 97]));
    assert_eq!(
        receiver.receive(&compressed, &mut words[..]),
        Ok(BitmapProgress::More)
    );
    assert_eq!(receiver.bits_done(), 100);
    let plain = Packet::Bitmap(vec![0xff; 24]);
    assert_eq!(
        receiver.receive(&plain, &mut words[..]),
        Ok(BitmapProgress::More)
    );
    assert_eq!(words, [7, u64::MAX, u64::MAX, (1 << 58) - 1]);
    let end = Packet::Bitmap(Vec::new());
    assert_eq!(
        receiver.receive(&end, &mut words[..]),
        Ok(BitmapProgress::Complete)
    );
}

/// Bits that change between two packets, as writes do while a bitmap is sent, cost nothing but a packet.
#[test]
fn a_bitmap_may_change_while_it_is_sent() {
    let bits = 64 * 2000;
    let mut own: Vec<u64> = (0..2000)
        .map(|n| 0x5555_5555_5555_5555 << (n % 2))
        .collect();
    let mut sender = BitmapSender::new(&at(101), bits, true);
    let mut received = vec![0; 2000];
    let mut receiver = BitmapReceiver::new(&at(101), bits);
    let mut count = 0;
    while let Some(packet) = sender.next_packet(&WordSlice::new(&own, bits).unwrap()) {
        receiver.receive(&packet, &mut received[..]).unwrap();
        count += 1;
        own[500 * count..].fill(u64::MAX);
        if 500 * count == 2000 {
            break;
        }
    }
    while let Some(packet) = sender.next_packet(&WordSlice::new(&own, bits).unwrap()) {
        receiver.receive(&packet, &mut received[..]).unwrap();
    }
    assert!(sender.is_complete() && receiver.is_complete());
    assert!(received[1999] == u64::MAX);
}

/// A source that is given run by run, the way a bitmap with a summary would do it.
struct Runs(Vec<(bool, u64)>);

impl BitSource for Runs {
    fn bits(&self) -> u64 {
        self.0.iter().map(|(_, len)| len).sum()
    }

    fn word(&self, index: u64) -> u64 {
        (0..64)
            .map(|i| u64::from(self.bit(index * 64 + i)) << i)
            .fold(0, |a, b| a | b)
    }

    fn run(&self, from: u64) -> Run {
        let mut at = 0;
        for (set, len) in &self.0 {
            if from < at + len {
                return Run {
                    set: *set,
                    len: at + len - from,
                };
            }
            at += len;
        }
        panic!("the caller stays within the bitmap")
    }
}

impl Runs {
    fn bit(&self, n: u64) -> bool {
        let mut at = 0;
        self.0.iter().any(|(set, len)| {
            let here = (at..at + len).contains(&n);
            at += len;
            here && *set
        })
    }
}

/// A device of 1 PiB is 2^38 bits; nothing in a transfer of it counts in less than 64 bits.
#[test]
fn the_largest_device() {
    let bits = 1 << 38;
    let source = Runs(vec![
        (false, (1 << 37) + 3),
        (true, 1),
        (false, bits - (1 << 37) - 4),
    ]);
    let mut sender = BitmapSender::new(&at(101), bits, true);
    let packet = sender.next_packet(&source).unwrap();
    assert_eq!(sender.next_packet(&source), None);
    let Packet::CompressedBitmap(payload) = &packet else {
        panic!("{}", packet.name())
    };
    assert_eq!(payload.len(), 1 + 17); // 64, 2 and 64 bits
    let mut runs = RleDecoder::new(payload).unwrap();
    for (set, len) in &source.0 {
        assert_eq!(
            runs.next_run(),
            Ok(Some(Run {
                set: *set,
                len: *len
            }))
        );
    }
    assert_eq!(runs.next_run(), Ok(None));
}

#[test]
fn nothing_is_coded_where_plain_words_are_shorter() {
    let dense = [0x5555_5555_5555_5555; 10];
    let source = WordSlice::new(&dense, 640).unwrap();
    assert_eq!(encode_runs(&source, 0, 4080), None);
    assert_eq!(encode_runs(&source, 640, 4080), None);
    let sparse = [1 << 40, 0];
    let source = WordSlice::new(&sparse, 128).unwrap();
    let (payload, end) = encode_runs(&source, 0, 4080).unwrap();
    assert_eq!((payload[0] & 0x8f, end), (2, 128));
    // From the middle of the set bit on, the first run is set.
    let (payload, _) = encode_runs(&source, 40, 4080).unwrap();
    assert_eq!(payload[0] & 0x8f, 0x82);
}

/// Bitmaps with runs of all lengths.
fn bitmap() -> impl Strategy<Value = Vec<bool>> {
    let run = prop_oneof![
        4 => 1..4usize,
        2 => 1..100usize,
        1 => 1..20_000usize,
    ];
    let mixed = (any::<bool>(), vec(run, 0..300)).prop_map(|(first, runs)| {
        runs.into_iter()
            .enumerate()
            .flat_map(|(i, len)| vec![first ^ (i % 2 == 1); len])
            .collect()
    });
    prop_oneof![mixed, vec(any::<bool>(), 0..3000)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bitmap_is_sent_as_the_spec_says_and_received_as_it_is(
        bits in bitmap(),
        version in prop::sample::select(vec![90u32, 101]),
        use_rle in any::<bool>(),
    ) {
        let ctx = at(version);
        let count = bits.len() as u64;
        let packets = send(&ctx, &words(&bits), count, use_rle);
        prop_assert_eq!(&packets, &reference_send(&bits, 4096 - ctx.version.header_len(), use_rle));
        prop_assert_eq!(receive(&ctx, count, &packets), Ok(words(&bits)));
    }

    #[test]
    fn runs_found_word_by_word_are_those_found_bit_by_bit(bits in bitmap(), from in any::<prop::sample::Index>()) {
        prop_assume!(!bits.is_empty());
        let from = from.index(bits.len());
        let len = bits[from..].iter().take_while(|bit| **bit == bits[from]).count() as u64;
        let own = words(&bits);
        let source = WordSlice::new(&own, bits.len() as u64).unwrap();
        prop_assert_eq!(source.run(from as u64), Run { set: bits[from], len });
    }

    /// A small payload makes many packets, so that each possible end of a packet is met.
    #[test]
    fn packets_of_any_size_follow_each_other(bits in bitmap(), payload_max in 9..40usize) {
        let own = words(&bits);
        let source = WordSlice::new(&own, bits.len() as u64).unwrap();
        let mut at = 0;
        while let Some((payload, end)) = encode_runs(&source, at, payload_max) {
            prop_assert!(payload.len() <= payload_max && end > at);
            let mut runs = RleDecoder::new(&payload).unwrap();
            while let Some(run) = runs.next_run().unwrap() {
                prop_assert!(bits[at as usize..(at + run.len) as usize].iter().all(|bit| *bit == run.set));
                at += run.len;
            }
            prop_assert_eq!(at, end);
        }
    }
}
