//! Any bytes on either socket, at any version: packets, or errors, and never a panic.
//!
//! The first three bytes choose the context; the rest is the stream. What is decoded must encode to a packet that decodes
//! to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use replica_proto::{Features, Packet, ProtocolVersion, Socket, WireContext, decode, needed};

fuzz_target!(|input: &[u8]| {
    let [choice, features, digest, stream @ ..] = input else {
        return;
    };
    let mut stream = stream;
    let digest_len = usize::from(digest % 65);
    let mut ctx = WireContext {
        version: ProtocolVersion(80 + u32::from(choice >> 1) % 22),
        features: Features::from_bits_retain(u32::from(*features)),
        peer_digest_len: digest_len,
        own_digest_len: digest_len,
    };
    let socket = if choice & 1 == 0 {
        Socket::Data
    } else {
        Socket::Meta
    };

    loop {
        let need = needed(&ctx, socket, stream);
        let frame = match decode(&ctx, socket, stream) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                assert!(need.is_ok_and(|need| need > stream.len() && need <= 4096));
                return;
            }
            Err(error) => {
                let _ = error.to_string();
                return;
            }
        };
        assert_eq!(need, Ok(frame.consumed));
        assert!(frame.consumed <= 4096 && frame.payload_len <= ctx.version.max_bio_size());

        let mut again = Vec::new();
        let (packet, digest) = (&frame.packet, frame.digest.as_ref());
        packet.encode(&ctx, frame.volume, digest, frame.payload_len, &mut again);
        let decoded = decode(&ctx, socket, &again)
            .expect("our own packet")
            .expect("all of it");
        assert_eq!(decoded.packet, frame.packet);
        assert_eq!(
            (decoded.digest, decoded.payload_len),
            (frame.digest, frame.payload_len)
        );

        // The stream goes on as the packet says.
        if let Packet::ConnectionFeatures(peer) = &frame.packet
            && let Ok((version, features)) = replica_proto::ConnectionFeatures::OURS.agree(peer)
        {
            (ctx.version, ctx.features) = (version, features);
        }
        let taken = (frame.consumed + frame.payload_len as usize).min(stream.len());
        stream = &stream[taken..];
    }
});
