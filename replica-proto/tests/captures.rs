//! What two kernels said to each other, to the last byte.

mod common;

use std::collections::BTreeSet;

use common::{Seen, Told, capture, captures, connections, conversation, packet_list};
use replica_proto::auth::HmacAlgorithm;
use replica_proto::bitmap_code::{
    BitmapProgress, BitmapReceiver, BitmapSender, WordSlice, words_of,
};
use replica_proto::{
    AfterSb, BlockId, Command, DigestAlgorithm, DpFlags, Features, Packet, ProtocolVersion, Socket,
    StateWord, WireProtocol,
};

/// The streams reassemble as the lists say, and decode to the packets that the lists name.
#[test]
fn every_stream_decodes_to_the_packets_listed_beside_it() {
    let mut packets = 0;
    for path in captures() {
        let told = conversation(&path);
        let streams: Vec<_> = connections(&path).into_iter().flatten().collect();
        let list = packet_list(&path);
        assert_eq!(streams.len(), list.len(), "{}", path.display());
        for (stream, (from, to, bytes, names)) in streams.iter().zip(list) {
            assert_eq!(
                (&stream.from, &stream.to, stream.bytes.len()),
                (&from, &to, bytes),
                "{}",
                path.display()
            );
            let decoded: Vec<String> = told
                .iter()
                .flatten()
                .find(|told| told.from == from && told.to == to)
                .map(|told| &told.packets[..])
                .unwrap_or_default()
                .iter()
                .map(|seen| {
                    seen.frame
                        .packet
                        .name()
                        .trim_start_matches("P_")
                        .to_string()
                })
                .collect();
            assert_eq!(decoded, names, "{} {from} -> {to}", path.display());
            packets += decoded.len();
        }
    }
    assert_eq!(packets, 1768);
}

/// Bytes of a packet that K does not initialise: docs/spec/wire.md, section 6.2. The pad of block requests, and that of
/// `P_OUT_OF_SYNC`. Offsets from the end of the header.
fn uninitialised(command: Command) -> std::ops::Range<usize> {
    match command {
        Command::DataRequest
        | Command::RsDataRequest
        | Command::RsThinRequest
        | Command::OvRequest
        | Command::OvReply
        | Command::CsumRsRequest => 20..24,
        Command::OutOfSync => 12..16,
        _ => 0..0,
    }
}

#[test]
fn every_packet_encodes_to_the_bytes_it_was_decoded_from() {
    let mut with_garbage = BTreeSet::new();
    for path in captures() {
        for told in conversation(&path).iter().flatten() {
            for Seen {
                ctx, frame, bytes, ..
            } in &told.packets
            {
                let mut encoded = Vec::new();
                frame.packet.encode(
                    ctx,
                    frame.volume,
                    frame.digest.as_ref(),
                    frame.payload_len,
                    &mut encoded,
                );
                let mut expected = bytes.clone();
                let command = frame.packet.command();
                let pad = uninitialised(command);
                let pad = ctx.version.header_len() + pad.start..ctx.version.header_len() + pad.end;
                if expected[pad.clone()].iter().any(|byte| *byte != 0) {
                    with_garbage.insert(command);
                    expected[pad].fill(0);
                }
                assert_eq!(encoded, expected, "{} {command}", path.display());
            }
        }
    }
    // If this set grows, the list above has found more of what K sends uninitialised.
    let known = BTreeSet::from([
        Command::DataRequest,
        Command::RsDataRequest,
        Command::OvRequest,
        Command::OvReply,
        Command::CsumRsRequest,
    ]);
    assert!(with_garbage.is_subset(&known), "{with_garbage:?}");
    assert!(!with_garbage.is_empty());
}

fn data_streams(number: &str) -> Vec<Told> {
    conversation(&capture(number))
        .into_iter()
        .flatten()
        .filter(|told| told.socket == Socket::Data)
        .collect()
}

fn packets(number: &str) -> Vec<Seen> {
    conversation(&capture(number))
        .into_iter()
        .flatten()
        .flat_map(|told| told.packets)
        .collect()
}

#[test]
fn both_kernels_announce_and_agree_on_101_and_all_features() {
    let mut announcements = 0;
    for path in captures() {
        for seen in conversation(&path)
            .iter()
            .flatten()
            .flat_map(|told| &told.packets)
        {
            if let Packet::ConnectionFeatures(features) = seen.frame.packet {
                assert_eq!(features, replica_proto::ConnectionFeatures::OURS);
                announcements += 1;
            } else if !seen.frame.packet.command().is_initial() {
                assert_eq!(seen.ctx.version, ProtocolVersion(101));
                assert_eq!(seen.ctx.features, Features::all());
            }
        }
    }
    assert_eq!(announcements, 52);
}

#[test]
fn parameters_of_a_fresh_connection() {
    let told = &data_streams("01")[0];
    let mut seen = told.packets.iter().map(|seen| &seen.frame.packet);
    assert_eq!(seen.next(), Some(&Packet::InitialData));
    assert!(matches!(seen.next(), Some(Packet::ConnectionFeatures(_))));
    let Some(Packet::Protocol(params)) = seen.next() else {
        panic!("P_PROTOCOL")
    };
    assert_eq!(params.protocol, WireProtocol::C);
    assert_eq!(
        [params.after_sb_0p, params.after_sb_1p, params.after_sb_2p],
        [AfterSb::Disconnect; 3]
    );
    assert!(!params.two_primaries && params.integrity_alg.is_empty());
    let Some(Packet::SyncParam(param)) = seen.next() else {
        panic!("P_SYNC_PARAM89")
    };
    assert_eq!(param.resync_rate, 102_400); // resync-rate 100M
    assert_eq!(
        (
            param.c_plan_ahead,
            param.c_delay_target,
            param.c_fill_target
        ),
        (20, 10, 100)
    );
    let Some(Packet::Sizes(sizes)) = seen.next() else {
        panic!("P_SIZES")
    };
    assert_eq!(sizes.d_size, 32688); // 16 MiB less 40 KiB of metadata
    assert_eq!(sizes.max_bio_size, 1 << 20);
    let limits = sizes.limits.expect("the feature WSAME is agreed");
    assert_eq!(
        (limits.logical_block_size, limits.physical_block_size),
        (512, 512)
    );
    assert!(!limits.write_same_capable);
    let Some(Packet::Uuids(uuids)) = seen.next() else {
        panic!("P_UUIDS")
    };
    assert_eq!(uuids.current, replica_proto::UUID_JUST_CREATED);
    assert_eq!(uuids.bits, 4086);
    assert_eq!(seen.next(), Some(&Packet::State(StateWord(0x0000_C882))));
    assert_eq!(seen.next(), Some(&Packet::State(StateWord(0x0000_88AA))));
    assert_eq!(seen.next(), None);
}

#[test]
fn responses_answer_the_challenges_only_under_the_right_secret() {
    let sha1 = HmacAlgorithm::from_name("sha1").unwrap();
    let auth = |told: &Told| -> (Vec<u8>, Vec<u8>) {
        let mut packets = told.packets.iter().map(|seen| seen.frame.packet.clone());
        let challenge = packets.find_map(|packet| match packet {
            Packet::AuthChallenge(bytes) => Some(bytes),
            _ => None,
        });
        let response = packets.find_map(|packet| match packet {
            Packet::AuthResponse(bytes) => Some(bytes),
            _ => None,
        });
        (challenge.unwrap(), response.unwrap())
    };
    for (number, secret_of_nodea) in [("02", "lab-secret-1"), ("03", "lab-secret-2")] {
        for pair in data_streams(number).chunks(2) {
            // nodeb, 10.9.0.2, opens the data connection in both captures.
            let [from_nodeb, from_nodea] = pair else {
                panic!("a connection has two ends")
            };
            assert!(from_nodeb.from.starts_with("10.9.0.2:"));
            let (challenge_b, response_b) = auth(from_nodeb);
            let (challenge_a, response_a) = auth(from_nodea);
            assert_eq!(sha1.respond(b"lab-secret-1", &challenge_a), response_b);
            assert_eq!(
                sha1.respond(secret_of_nodea.as_bytes(), &challenge_b),
                response_a
            );
            let accepted = sha1.verify(b"lab-secret-1", &challenge_b, &response_a);
            assert_eq!(accepted, secret_of_nodea == "lab-secret-1");
        }
    }
}

/// Our sender says the same in the same packets. Gives whether they are compressed.
fn send_again(transfer: &[&Seen], words: &[u64], bits: u64) -> bool {
    let rle = matches!(transfer[0].frame.packet, Packet::CompressedBitmap(_));
    let mut sender = BitmapSender::new(&transfer[0].ctx, bits, rle);
    let source = WordSlice::new(words, bits).unwrap();
    for seen in transfer {
        assert_eq!(
            sender.next_packet(&source).as_ref(),
            Some(&seen.frame.packet)
        );
    }
    assert_eq!(sender.next_packet(&source), None);
    rle
}

fn ones(words: &[u64]) -> Vec<u64> {
    (0..words.len() as u64 * 64)
        .filter(|bit| words[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
        .collect()
}

/// The bits of each bitmap that was sent: its sender, whether it was compressed, the set bits.
fn bitmaps(number: &str) -> Vec<(String, bool, Vec<u64>)> {
    let mut found = Vec::new();
    for pair in data_streams(number).chunks(2) {
        // The device is as large as the smaller disk, or as the limit that the administrator set.
        let bits = pair
            .iter()
            .flat_map(|told| &told.packets)
            .filter_map(|seen| match &seen.frame.packet {
                Packet::Sizes(sizes) if sizes.u_size != 0 => Some(sizes.u_size.min(sizes.d_size)),
                Packet::Sizes(sizes) if sizes.d_size != 0 => Some(sizes.d_size),
                _ => None,
            })
            .min()
            .map_or(0, |sectors| sectors.div_ceil(8));
        for told in pair {
            // A stream has one transfer for each bitmap exchange; where one ends, the receiver knows.
            let mut transfer: Vec<&Seen> = Vec::new();
            let mut words = vec![0; words_of(bits) as usize];
            let mut receiver = None;
            for seen in &told.packets {
                let packet = &seen.frame.packet;
                if !matches!(packet, Packet::Bitmap(_) | Packet::CompressedBitmap(_)) {
                    assert!(transfer.is_empty(), "a transfer without its end");
                    continue;
                }
                transfer.push(seen);
                let progress = receiver
                    .get_or_insert_with(|| BitmapReceiver::new(&seen.ctx, bits))
                    .receive(packet, &mut words[..])
                    .unwrap();
                if progress == BitmapProgress::Complete {
                    found.push((
                        told.from.clone(),
                        send_again(&transfer, &words, bits),
                        ones(&words),
                    ));
                    transfer.clear();
                    words.fill(0);
                    receiver = None;
                }
            }
            assert!(transfer.is_empty(), "a transfer without its end");
        }
    }
    found
}

#[test]
fn bitmaps_hold_the_blocks_that_were_written() {
    let written = vec![1, 5, 6, 7, 100, 1000, 1001, 1002, 2047, 3000];
    for (number, expected_rle) in [("11", false), ("12", true)] {
        let bitmaps = bitmaps(number);
        assert_eq!(bitmaps.len(), 2); // the source's, and the merged one back
        for (from, rle, set) in bitmaps {
            assert_eq!(rle, expected_rle);
            assert_eq!(set, written, "{number} {from}");
        }
    }
    let (_, _, set) = &bitmaps("04")[0];
    assert_eq!(*set, (0..54).collect::<Vec<u64>>()); // 216 KiB, all of it
}

#[test]
fn every_bitmap_of_every_capture_can_be_received_and_sent_again() {
    let mut transfers = 0;
    for path in captures() {
        let number = &path.file_name().unwrap().to_str().unwrap()[..2];
        transfers += bitmaps(number).len();
    }
    assert_eq!(transfers, 44);
}

#[test]
fn data_integrity_digests_are_right() {
    let mut checked = 0;
    for seen in packets("17") {
        if let (Packet::Data(_), Some(digest)) = (&seen.frame.packet, seen.frame.digest) {
            assert_eq!(digest, DigestAlgorithm::Crc32c.digest(&seen.payload));
            checked += 1;
        }
    }
    assert_eq!(checked, 3);
}

#[test]
fn verify_compares_digests_and_finds_the_three_blocks() {
    let sha1_of_zeros = DigestAlgorithm::Sha1.digest(&[0; 4096]);
    let (mut not_zero, mut results) = (Vec::new(), Vec::new());
    for seen in packets("14") {
        match seen.frame.packet {
            Packet::OvReply(request, digest) if digest != sha1_of_zeros => {
                not_zero.push(request.sector / 8);
            }
            Packet::OvResult(ack) if ack.block_id == BlockId::OUT_OF_SYNC => {
                results.push(ack.sector / 8);
            }
            Packet::OvResult(ack) => assert_eq!(ack.block_id, BlockId::IN_SYNC),
            _ => {}
        }
    }
    not_zero.sort_unstable();
    results.sort_unstable();
    assert_eq!(not_zero, [40, 41, 100]);
    assert_eq!(results, [40, 41, 100]);
}

#[test]
fn discards_and_zero_outs_have_their_sizes() {
    let mut found = Vec::new();
    for seen in packets("10") {
        match seen.frame.packet {
            Packet::Trim(data, bytes) => {
                assert!(data.flags.contains(DpFlags::DISCARD));
                found.push(("trim", data.sector, bytes));
            }
            Packet::Zeroes(data, bytes) => {
                assert!(data.flags.contains(DpFlags::ZEROES));
                found.push(("zeroes", data.sector, bytes));
            }
            _ => {}
        }
    }
    let total = |kind| {
        found
            .iter()
            .filter(|(k, ..)| *k == kind)
            .map(|(_, _, b)| *b)
            .sum::<u32>()
    };
    assert_eq!(
        found.first().map(|(kind, sector, _)| (*kind, *sector)),
        Some(("trim", 2048))
    );
    assert_eq!(total("trim"), (2 << 20) + (12 << 10));
    assert_eq!(total("zeroes"), 1 << 20);
}

/// The initial sync of 216 KiB carries the backing disk: `pat` in the first 192 KiB, zeros behind.
#[test]
fn resync_data_is_what_was_on_the_disk() {
    let mut disk = vec![0xee; 216 << 10];
    for seen in packets("04") {
        if let Packet::RsDataReply(data) = seen.frame.packet {
            assert_eq!(data.block_id, BlockId::SYNCER);
            let at = data.sector as usize * 512;
            disk[at..at + seen.payload.len()].copy_from_slice(&seen.payload);
        }
    }
    let pat: Vec<u8> = (0..12_288)
        .flat_map(|n| format!("{n:015}\n").into_bytes())
        .collect();
    assert!(disk[..192 << 10] == pat[..], "the first 48 blocks are pat");
    assert!(
        disk[192 << 10..].iter().all(|byte| *byte == 0),
        "the rest is zeros"
    );
}

/// Each `P_BARRIER` of a writer is answered with its own bytes and the number of writes since the last one.
#[test]
fn pitfall_02_barrier_acks_echo_and_count() {
    let (mut sent, mut acked, mut writes) = (Vec::new(), Vec::new(), 0);
    for seen in packets("07") {
        match seen.frame.packet {
            Packet::Data(_) => writes += 1,
            Packet::Barrier(barrier) => {
                sent.push((barrier, writes));
                writes = 0;
            }
            Packet::BarrierAck { barrier, set_size } => acked.push((barrier, set_size)),
            _ => {}
        }
    }
    assert_eq!(sent.len(), 8);
    assert_eq!(sent, acked);
}
