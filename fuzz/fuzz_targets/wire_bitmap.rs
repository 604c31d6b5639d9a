//! Bitmap transfers: any packets to a receiver, and any bitmap through sender and receiver.
#![no_main]

use libfuzzer_sys::fuzz_target;
use replica_proto::bitmap_code::{
    BitmapProgress, BitmapReceiver, BitmapSender, WordSlice, words_of,
};
use replica_proto::{Features, Packet, ProtocolVersion, WireContext};

fuzz_target!(|input: &[u8]| {
    let [choice, low, high, rest @ ..] = input else {
        return;
    };
    let version = ProtocolVersion(if choice & 1 == 0 { 101 } else { 95 });
    let ctx = WireContext::agreed(version, Features::all());
    let bits = u64::from(u16::from_le_bytes([*low, *high]));
    receive_anything(&ctx, bits, rest);
    send_and_receive(&ctx, bits, choice & 2 == 0, rest);
});

/// The input is a row of payloads, each with its kind and its length before it.
fn receive_anything(ctx: &WireContext, bits: u64, mut input: &[u8]) {
    // One word more than the bitmap has, which nothing may touch.
    let mut words = vec![0; words_of(bits) as usize + 1];
    let mut receiver = BitmapReceiver::new(ctx, bits);
    while let [kind, low, high, rest @ ..] = input {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, after) = rest.split_at(len);
        let packet = match kind & 1 {
            0 => Packet::Bitmap(payload.to_vec()),
            _ => Packet::CompressedBitmap(payload.to_vec()),
        };
        let result = receiver.receive(&packet, &mut words[..]);
        assert!(receiver.bits_done() <= bits);
        assert_eq!(words.last(), Some(&0), "beyond the bitmap");
        if bits % 64 != 0 {
            assert_eq!(
                words[words.len() - 2] >> (bits % 64),
                0,
                "beyond the device"
            );
        }
        if result != Ok(BitmapProgress::More) {
            return;
        }
        input = after;
    }
}

/// The input is the bitmap, repeated where it is too short.
fn send_and_receive(ctx: &WireContext, bits: u64, use_rle: bool, input: &[u8]) {
    if input.is_empty() {
        return;
    }
    let mut bytes = input.iter().cycle();
    let mut words: Vec<u64> = (0..words_of(bits))
        .map(|_| u64::from_le_bytes(std::array::from_fn(|_| *bytes.next().unwrap_or(&0))))
        .collect();
    if let Some(last) = words.last_mut()
        && bits % 64 != 0
    {
        *last &= (1 << (bits % 64)) - 1;
    }
    let Some(source) = WordSlice::new(&words, bits) else {
        panic!("the number of words is right")
    };
    let mut received = vec![0; words.len()];
    let mut sender = BitmapSender::new(ctx, bits, use_rle);
    let mut receiver = BitmapReceiver::new(ctx, bits);
    while let Some(packet) = sender.next_packet(&source) {
        let progress = receiver
            .receive(&packet, &mut received[..])
            .expect("what we sent");
        assert_eq!(progress == BitmapProgress::Complete, sender.is_complete());
    }
    assert!(receiver.is_complete());
    assert_eq!(received, words);
}
