//! What DRBD 9.3.3 and rdb said to each other, to the last byte: `captures/drbd9`.

mod common;

use common::drbd9::{self, Told, name};
use common::{Seen, Stream, captures_in, connections_of_part, packet_list};
use replica_proto::bitmap_code::{
    BitmapProgress, BitmapReceiver, BitmapSender, WordSlice, words_of,
};
use replica_proto::{
    BlockId, ConnectionFeatures, DigestAlgorithm, DpFlags, Features, Packet, ProtocolVersion,
    Socket, StateChange, WireProtocol,
};

const CAPTURES: &str = "tests/captures/drbd9";

fn all() -> Vec<Told> {
    drbd9::all(CAPTURES)
}

/// What the driver said in the captures whose number this is, on one socket.
fn of_drbd(number: &str, socket: Socket) -> Vec<Seen> {
    said(number, socket, true)
}

fn said(number: &str, socket: Socket, by_drbd: bool) -> Vec<Seen> {
    all()
        .into_iter()
        .filter(|told| told.capture.starts_with(number))
        .filter(|told| told.socket == socket && told.is_of_drbd == by_drbd)
        .flat_map(|told| told.packets)
        .collect()
}

fn names(packets: &[Seen]) -> Vec<&'static str> {
    packets
        .iter()
        .map(|seen| seen.frame.packet.name().trim_start_matches("P_"))
        .collect()
}

#[test]
fn every_stream_decodes_to_the_packets_listed_beside_it() {
    let told = all();
    let mut packets = 0;
    for path in captures_in(CAPTURES) {
        let streams: Vec<Stream> = connections_of_part(&path).into_iter().flatten().collect();
        let list = packet_list(&path);
        assert_eq!(streams.len(), list.len(), "{}", path.display());
        for (from, to, bytes, listed) in list {
            let stream = streams.iter().find(|s| s.from == from && s.to == to);
            assert_eq!(stream.map(|stream| stream.bytes.len()), Some(bytes));
            let decoded = told
                .iter()
                .find(|told| told.capture == name(&path) && told.from == from && told.to == to)
                .map(|told| names(&told.packets))
                .unwrap_or_default();
            // The list was made by a program that knows the packets of 8.4.
            let listed: Vec<&str> = listed
                .iter()
                .map(|name| match name.as_str() {
                    "0x59" => "ENABLE_REPLICATION",
                    name => name,
                })
                .collect();
            assert_eq!(decoded, listed, "{} {from} -> {to}", path.display());
            packets += decoded.len();
        }
    }
    assert_eq!(packets, 12_547);
}

/// What the driver's packets have where we write zeros: it numbers the volume of a packet that concerns the whole
/// connection with -1, and says its node id and ours where 8.4 has a pad. Offsets and bytes.
fn of_9_alone(packet: &Packet) -> (usize, &'static [u8]) {
    match packet {
        Packet::ConnectionFeatures(_) => (8 + 12, &[0, 0, 0, 0, 0, 0, 0, 1]),
        packet if packet.command().is_initial() => (0, &[]),
        packet if packet.command().is_connection_wide() => (4, &[0xff, 0xff]),
        _ => (0, &[]),
    }
}

#[test]
fn every_packet_encodes_to_the_bytes_it_was_decoded_from() {
    for told in all() {
        for Seen {
            ctx, frame, bytes, ..
        } in &told.packets
        {
            let mut encoded = Vec::new();
            let (digest, len) = (frame.digest.as_ref(), frame.payload_len);
            frame
                .packet
                .encode(ctx, frame.volume, digest, len, &mut encoded);
            if told.is_of_drbd {
                let (at, own) = of_9_alone(&frame.packet);
                encoded[at..at + own.len()].copy_from_slice(own);
            }
            let what = frame.packet.name();
            assert_eq!(encoded, *bytes, "{} {what}", told.capture);
        }
    }
}

#[test]
fn the_driver_announces_what_leads_to_101_and_all_features() {
    let mut announced = 0;
    for told in all() {
        for seen in &told.packets {
            if let Packet::ConnectionFeatures(features) = seen.frame.packet
                && told.is_of_drbd
            {
                assert_eq!((features.min, features.max), (86, 124));
                assert_eq!(features.features.bits(), 0x3ff);
                let agreed = ConnectionFeatures::OURS.agree(&features);
                assert_eq!(agreed, Ok((ProtocolVersion(101), Features::all())));
                announced += 1;
            }
        }
    }
    assert_eq!(announced, 5);
}

/// Of its own packets 9 sends one to a peer of 101: once, as a target whose resync has begun.
#[test]
fn nothing_of_9_alone_is_sent_but_enable_replication() {
    let own: Vec<(String, Packet)> = all()
        .into_iter()
        .filter(|told| told.is_of_drbd)
        .flat_map(|told| {
            let capture = told.capture;
            told.packets
                .into_iter()
                .map(move |seen| (capture.clone(), seen.frame.packet))
        })
        .filter(|(_, packet)| packet.command().code() >= 0x40 && !packet.command().is_initial())
        .collect();
    let once = Packet::EnableReplication { enable: true };
    assert_eq!(own, [("36-reconnect-as-target.pcap".to_owned(), once)]);
}

/// What is asked for, as its mask and value.
fn asked(number: &str) -> Vec<(&'static str, u32, u32)> {
    let mut asked = Vec::new();
    for seen in of_drbd(number, Socket::Data) {
        match seen.frame.packet {
            Packet::StateChgReq(StateChange { mask, val }) => {
                asked.push(("STATE_CHG_REQ", mask.0, val.0));
            }
            Packet::ConnStChgReq(StateChange { mask, val }) => {
                asked.push(("CONN_ST_CHG_REQ", mask.0, val.0));
            }
            _ => {}
        }
    }
    asked
}

/// Roles too, for the whole connection; 8.4 asks by P_STATE_CHG_REQ to become Primary, and tells the rest.
#[test]
fn the_driver_asks_for_roles_and_departures_on_the_connection_and_for_a_verify_on_the_volume() {
    assert_eq!(asked("32"), [("CONN_ST_CHG_REQ", 0x3, 0x1)]);
    assert_eq!(asked("33"), [("CONN_ST_CHG_REQ", 0x1f0, 0x10)]);
    assert_eq!(asked("34"), [("CONN_ST_CHG_REQ", 0x3, 0x2)]);
    assert_eq!(asked("36"), [("CONN_ST_CHG_REQ", 0x1f0, 0x10)]);
    assert_eq!(asked("37"), [("STATE_CHG_REQ", 0x1f0, 0x120)]);
    assert_eq!(asked("39"), [("CONN_ST_CHG_REQ", 0x1f0, 0x10)]);
    let replies = of_drbd("34", Socket::Meta);
    let granted = |seen: &Seen| seen.frame.packet == Packet::StateChgReply(1);
    assert!(replies.iter().any(granted), "our promotion is granted");
}

#[test]
fn bitmaps_of_either_side_hold_the_five_blocks_that_were_written() {
    let mut transfers = 0;
    for told in all() {
        for seen in told.packets {
            if !matches!(seen.frame.packet, Packet::CompressedBitmap(_)) {
                continue;
            }
            let mut words = vec![0u64; words_of(4086) as usize];
            let progress =
                BitmapReceiver::new(&seen.ctx, 4086).receive(&seen.frame.packet, &mut words[..]);
            assert_eq!(progress, Ok(BitmapProgress::Complete));
            let set: Vec<u64> = (0..4086)
                .filter(|bit| words[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
                .collect();
            assert_eq!(set, [50, 51, 52, 53, 54], "{} {}", told.capture, told.from);
            let source = WordSlice::new(&words, 4086).expect("words of that many bits");
            let mut sender = BitmapSender::new(&seen.ctx, 4086, true);
            assert_eq!(sender.next_packet(&source), Some(seen.frame.packet));
            transfers += 1;
        }
    }
    // The resync of 33, that of 36 which came to nothing, and the next one there, two each.
    assert_eq!(transfers, 6);
}

/// The digests of what each side holds, by sector, as the target asks with them.
#[test]
fn a_source_answers_checksums_that_differ_with_its_data() {
    for (number, target_is_drbd) in [("33", false), ("36", true)] {
        let mut requests = said(number, Socket::Data, target_is_drbd);
        let mut replies = said(number, Socket::Data, !target_is_drbd);
        replies.retain(|seen| matches!(seen.frame.packet, Packet::RsDataReply(_)));
        requests.retain(|seen| matches!(seen.frame.packet, Packet::CsumRsRequest(..)));
        // The last two of each: the requests of the connection that 0x59 ended were not answered.
        let requests = &requests[requests.len() - 2..];
        assert_eq!(replies.len(), 2);
        for (request, reply) in requests.iter().zip(&replies) {
            let (Packet::CsumRsRequest(request, digest), Packet::RsDataReply(data)) =
                (&request.frame.packet, &reply.frame.packet)
            else {
                panic!("other packets were left out");
            };
            assert_eq!(data.sector, request.sector);
            assert_eq!(data.block_id, request.block_id);
            assert_eq!(reply.payload.len(), request.bytes as usize);
            assert_ne!(*digest, DigestAlgorithm::Crc32c.digest(&reply.payload));
        }
    }
}

/// The driver's writes are acknowledged under its numbers, and its acknowledgements of ours have our numbers.
#[test]
fn every_write_and_barrier_is_acknowledged_once() {
    for (number, writer_is_drbd) in [("32", true), ("35", false), ("40", true)] {
        let (mut writes, mut barriers, mut last) = (Vec::new(), Vec::new(), 0);
        for seen in said(number, Socket::Data, writer_is_drbd) {
            let (header, bytes) = match seen.frame.packet {
                Packet::Data(header) => (header, seen.frame.payload_len),
                Packet::Trim(header, bytes) | Packet::Zeroes(header, bytes) => (header, bytes),
                Packet::Barrier(barrier) => {
                    barriers.push((barrier, last));
                    last = 0;
                    continue;
                }
                _ => continue,
            };
            last += 1;
            if header.flags.contains(DpFlags::SEND_WRITE_ACK) {
                writes.push((header.sector, header.block_id, bytes));
            }
        }
        let (mut acked, mut closed) = (Vec::new(), Vec::new());
        for seen in said(number, Socket::Meta, !writer_is_drbd) {
            match seen.frame.packet {
                Packet::WriteAck(ack) => acked.push((ack.sector, ack.block_id, ack.bytes)),
                Packet::BarrierAck { barrier, set_size } => closed.push((barrier, set_size)),
                _ => {}
            }
        }
        assert_eq!(acked, writes, "{number}");
        assert_eq!(closed, barriers, "{number}");
        // Protocol A asks for no acknowledgement of a write.
        let expected = if number == "40" { (0, 3) } else { (11, 11) };
        assert_eq!((acked.len(), closed.len()), expected, "{number}");
    }
}

#[test]
fn a_verify_asks_for_every_block_and_finds_none_that_differs() {
    let asked: Vec<u64> = of_drbd("37", Socket::Data)
        .iter()
        .filter_map(|seen| match seen.frame.packet {
            Packet::OvRequest(request) => Some(request.sector),
            _ => None,
        })
        .collect();
    assert_eq!(asked, (0..4086).map(|block| block * 8).collect::<Vec<_>>());
    let mut results = 0;
    for seen in of_drbd("37", Socket::Meta) {
        if let Packet::OvResult(ack) = seen.frame.packet {
            assert_eq!(ack.block_id, BlockId::IN_SYNC);
            results += 1;
        }
    }
    assert_eq!(results, 4086);
}

#[test]
fn digests_of_protocol_a_with_md5_are_right() {
    let mut digests = 0;
    for seen in of_drbd("40", Socket::Data) {
        match seen.frame.packet {
            Packet::Protocol(params) => {
                assert_eq!(params.protocol, WireProtocol::A);
                assert_eq!(params.integrity_alg.as_str(), "md5");
            }
            Packet::Data(_) => {
                let digest = DigestAlgorithm::Md5.digest(&seen.payload);
                assert_eq!(seen.frame.digest, Some(digest));
                digests += 1;
            }
            _ => {}
        }
    }
    assert_eq!(digests, 3);
}
