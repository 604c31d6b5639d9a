//! Pitfalls of `docs/spec/wire.md`, section 14, of writes, reads and resync data: who is told what, and when. A peer made
//! by hand watches every packet.

use rdb_engine::config::{NetOptions, Protocol};
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, RequestKind};
use replica_proto::{
    BarrierNr, BlockId, BlockRequest, DataHeader, DpFlags, Features, Packet, Socket, WireProtocol,
};

use crate::lone::{Lone, Sent, block, names};
use rdb_sim::V;

#[test]
fn pitfall_01_a_target_pings_before_it_says_that_it_is_done() {
    let mut lone = Lone::target(1, &[80, 160]);
    lone.start_sync();
    lone.w.nodes[0].record = Some(Vec::new());
    let asked = lone.pump();
    let requests: Vec<_> = asked.iter().filter_map(Sent::resync_request).collect();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        lone.resync_reply(request, 9);
    }
    // The acks and the ping go out; nothing else until the ping is answered, whatever time it takes.
    lone.io();
    let sent = lone.take();
    assert_eq!(names(&sent), ["P_RS_WRITE_ACK", "P_RS_WRITE_ACK", "P_PING"]);
    lone.w.run_ms(300);
    assert_eq!(names(&lone.take()), [""; 0]);
    assert_eq!(lone.is(), "SyncTarget S/P I/U");
    lone.give(Packet::PingAck);
    let end = lone.pump();
    let state = end.iter().find_map(Sent::state).expect("a P_STATE");
    assert_eq!(
        (state.conn, state.disk),
        (ConnState::Connected, DiskState::UpToDate)
    );
    assert_eq!(lone.is(), "Connected S/P U/U");
}

#[test]
fn pitfall_01_a_source_never_ends_a_resync_by_itself() {
    let mut lone = Lone::source(2, &[80, 160]);
    for sector in [80, 160] {
        lone.give(Packet::RsDataRequest(request_read(sector, 4096)));
        lone.pump();
        let ack = lone.ack(
            &DataHeader {
                sector,
                block_id: BlockId::SYNCER,
                ..DataHeader::default()
            },
            4096,
        );
        lone.give(Packet::RsWriteAck(ack));
    }
    assert_eq!(lone.w.nodes[0].out_of_sync(), 0);
    lone.w.run_ms(3_000);
    assert_eq!(names(&lone.pump()), [""; 0]);
    assert_eq!(
        lone.is(),
        "SyncSource S/S U/I",
        "the target has not said so"
    );
    lone.disk = DiskState::UpToDate;
    lone.give(lone.state(ConnState::Connected, DiskState::UpToDate));
    assert_eq!(
        names(&lone.pump()),
        ["P_PING"],
        "and no P_STATE, no P_UUIDS"
    );
    assert_eq!(lone.is(), "Connected S/S U/U");
}

#[test]
fn pitfall_02_a_mirror_counts_every_write_of_every_volume_and_echoes_the_barrier() {
    for seed in 0..4 {
        let mut lone = Lone::new(seed);
        let one = Command::NewVolume {
            volume: rdb_engine::VolumeNr(1),
            minor: 1,
        };
        lone.w.admin(0, one).unwrap(); // diskless: what is written there is refused, and counts
        lone.role = Role::Primary;
        lone.greet();
        lone.introduce(0);
        lone.introduce(1);
        lone.pump();
        let header = |lone: &mut Lone, sector| match lone.data(sector, BlockId::from_u64(sector)) {
            Packet::Data(header) => header,
            _ => unreachable!(),
        };
        lone.mirror(0, 7, 1);
        let trim = header(&mut lone, 8);
        lone.give(Packet::Trim(trim, 4096));
        let data = lone.data(16, BlockId::from_u64(9));
        lone.give_data_to(1, data, vec![1; 512]);
        let zeroes = header(&mut lone, 32);
        lone.give(Packet::Zeroes(zeroes, 8192));
        let odd = BarrierNr([0x01, 0xfe, 0x80, 0x7f]);
        lone.give(Packet::Barrier(odd));
        // The second epoch is done in any order of the disk, and still acknowledged second.
        lone.mirror(48, 10, 2);
        lone.give(Packet::Barrier(BarrierNr([9, 9, 9, 9])));
        let mut acks = lone.pump();
        lone.w.run_ms(1_000);
        acks.extend(lone.pump());
        let acks: Vec<_> = acks
            .iter()
            .filter_map(|s| match s.packet {
                Packet::BarrierAck { barrier, set_size } => Some((barrier, set_size)),
                _ => None,
            })
            .collect();
        assert_eq!(acks, [(odd, 4), (BarrierNr([9, 9, 9, 9]), 1)]);
    }
}

#[test]
fn pitfall_02_a_barrier_ack_that_is_not_exact_ends_the_connection() {
    for (number, count, ends) in [(0, 0, false), (1, 0, true), (0, 1, true), (0, -1, true)] {
        let mut lone = Lone::primary(3);
        let (mut writes, mut barrier) = (0, None);
        for sector in [0, 8] {
            lone.w.write(0, sector, vec![5; 4096]);
        }
        lone.io();
        let sent = lone.take();
        for one in sent.iter().filter_map(Sent::data_header) {
            let ack = lone.ack(&one, 4096);
            lone.give(Packet::WriteAck(ack));
            writes += 1;
        }
        lone.w.run_ms(1_000);
        for one in lone.pump() {
            if let Packet::Barrier(nr) = one.packet {
                barrier = Some(nr);
            }
        }
        let mut nr = barrier.expect("an idle connection sends the barrier of a closed epoch");
        nr.0[0] ^= number;
        lone.give(Packet::BarrierAck {
            barrier: nr,
            set_size: u32::try_from(writes + count).unwrap(),
        });
        lone.io();
        let lost = lone.w.logged(0, "conn( Connected -> ProtocolError )");
        assert_eq!(lost, ends, "number off by {number}, count by {count}");
        assert_eq!(lone.is().starts_with("Connected"), !ends);
    }
}

#[test]
fn pitfall_03_handles_are_echoed_as_bytes() {
    let mut lone = Lone::secondary(4);
    let id = BlockId([0x80, 1, 2, 0xff, 4, 5, 6, 0x7f]);
    let packet = lone.data(24, id);
    lone.give_data(packet, vec![3; 4096]);
    let ack = lone.pump()[0].block_ack().unwrap();
    assert_eq!(ack.block_id, id);
    lone.give(Packet::DataRequest(BlockRequest {
        sector: 24,
        block_id: id,
        bytes: 512,
    }));
    let sent = lone.pump();
    let Packet::DataReply(reply) = sent[0].packet else {
        panic!("{sent:?}")
    };
    assert_eq!(
        (reply.block_id, sent[0].payload.clone()),
        (id, vec![3; 512])
    );
}

#[test]
fn pitfall_08_a_ping_is_answered_whatever_the_disks_do() {
    let mut lone = Lone::secondary(10);
    (lone.w.nodes[0].hold_data, lone.w.nodes[0].hold_meta) = (true, true);
    for n in 0..40 {
        lone.mirror(n * 8, n + 1, 1);
    }
    lone.take();
    lone.give(Packet::Ping);
    assert_eq!(names(&lone.take()), ["P_PING_ACK"]);
}

#[test]
fn pitfall_08_a_peer_that_answers_no_ping_is_lost_after_the_ping_timeout() {
    let mut lone = Lone::secondary(11);
    let start = lone.w.now;
    lone.w
        .until("a ping", |w| !w.net[1][Socket::Meta as usize].is_empty());
    let idle = lone.w.now.ms_since(start);
    assert!((9_000..=10_100).contains(&idle), "{idle} ms"); // ping-int
    let asked = lone.w.now;
    lone.w.until("the loss", |w| {
        w.logged(0, "PingAck did not arrive in time.")
    });
    let waited = lone.w.now.ms_since(asked);
    assert!((400..=600).contains(&waited), "{waited} ms"); // ping-timeout
    assert!(lone.w.logged(0, "conn( Connected -> NetworkFailure )"));
}

#[test]
fn pitfall_10_zero_outs_go_to_peers_that_know_them_and_wsame_to_none() {
    for (features, expected) in [
        (Features::all(), "P_ZEROES"),
        (Features::all() & !Features::WZEROES, "P_TRIM"),
    ] {
        let mut lone = Lone::new(15);
        lone.features.features = features;
        let mut lone = lone.promoted();
        let kind = RequestKind::WriteZeroes { may_unmap: false };
        lone.w.submit(0, 0, 8192, kind);
        assert_eq!(names(&lone.pump()), [expected]);
    }
    let mut lone = Lone::new(16);
    for one in lone.meet() {
        if let Packet::Sizes(sizes) = one.packet {
            assert!(!sizes.limits.unwrap().write_same_capable);
        }
    }
}

#[test]
fn pitfall_11_large_writes_and_discards_are_taken_whatever_was_announced() {
    let mut lone = Lone::large(17, 300_000);
    lone.role = Role::Primary;
    lone.meet();
    lone.w.nodes[0].record = Some(Vec::new());
    let data = lone.data(8, BlockId::from_u64(1));
    lone.give_data(data, vec![1; 1 << 20]);
    let Packet::Data(header) = lone.data(4096, BlockId::from_u64(2)) else {
        unreachable!()
    };
    lone.w.nodes[0].hold_data = true;
    lone.give(Packet::Trim(header, 128 << 20));
    assert_eq!(lone.is(), "Connected S/P U/U");
    let record = lone.w.nodes[0].record.take().unwrap();
    assert!(record.contains(&"write 8+2048".to_string()), "{record:?}");
    assert!(
        record.contains(&"zero 4096+262144".to_string()),
        "{record:?}"
    );
}

#[test]
fn pitfall_19_the_id_of_resync_data_is_never_an_applications() {
    let mut lone = Lone::primary(28);
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..600 {
        lone.w.write(0, n % 200 * 8, vec![1; 512]);
        for header in lone.pump().iter().filter_map(Sent::data_header) {
            assert_ne!(header.block_id, BlockId::SYNCER);
            assert_ne!(header.block_id, BlockId([0; 8]), "allowed, but unwise");
            assert!(seen.insert(header.block_id), "used twice");
            let ack = lone.ack(&header, 512);
            lone.give(Packet::WriteAck(ack));
        }
    }
    assert_eq!(seen.len(), 600);
    let mut lone = Lone::target(29, &[80, 800]);
    lone.start_sync();
    let requests: Vec<_> = lone
        .pump()
        .iter()
        .filter_map(Sent::resync_request)
        .collect();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.block_id, BlockId::SYNCER);
        lone.resync_reply(&request, 1);
        let sent = lone.pump();
        assert_eq!(sent[0].block_ack().unwrap().block_id, BlockId::SYNCER);
    }
}

#[test]
fn pitfall_20_acks_name_volume_sector_and_handle() {
    let mut lone = Lone::secondary(30);
    let packet = lone.data(40, BlockId::from_u64(99));
    lone.give_data(packet, vec![1; 1536]);
    let sent = lone.pump();
    assert_eq!(names(&sent), ["P_WRITE_ACK"]);
    let ack = sent[0].block_ack().unwrap();
    assert_eq!(
        (sent[0].socket, sent[0].volume, ack.sector, ack.bytes),
        (Socket::Meta, 0, 40, 1536)
    );
    assert_eq!(ack.block_id, BlockId::from_u64(99));
}

#[test]
fn pitfall_20_an_ack_for_nothing_ends_the_connection() {
    type Spoil = fn(&mut replica_proto::BlockAck);
    let spoils: [Spoil; 2] = [|a| a.sector += 8, |a| a.block_id.0[4] ^= 0x10];
    for spoil in spoils {
        let mut lone = Lone::primary(31);
        lone.w.write(0, 64, vec![1; 4096]);
        lone.io();
        let header = lone.take().iter().find_map(Sent::data_header).unwrap();
        let mut ack = lone.ack(&header, 4096);
        spoil(&mut ack);
        lone.give(Packet::WriteAck(ack));
        assert!(lone.w.logged(0, "conn( Connected -> NetworkFailure )"));
        // The write is not replicated, and is not lost.
        lone.io();
        assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
    }
}

#[test]
fn pitfall_21_one_sequence_for_writes_and_acks_of_a_volume() {
    let mut lone = Lone::secondary(32);
    let mut numbers = Vec::new();
    for n in 0..3 {
        lone.mirror(n * 8, n + 1, 1);
        numbers.extend(
            lone.pump()
                .iter()
                .filter_map(Sent::block_ack)
                .map(|a| a.seq_num),
        );
    }
    lone.role = Role::Secondary;
    lone.give(lone.state(ConnState::Connected, DiskState::UpToDate));
    let primary = Command::Primary {
        volume: V,
        force: false,
    };
    lone.w.start_admin(0, primary);
    lone.pump();
    for n in 0..2 {
        lone.w.write(0, n * 8, vec![2; 4096]);
        let sent = lone.pump();
        let header = sent.iter().find_map(Sent::data_header).unwrap();
        numbers.push(header.seq_num);
        let ack = lone.ack(&header, 4096);
        lone.give(Packet::WriteAck(ack));
    }
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    // It begins anew with every connection.
    lone.lose(Socket::Meta, 0);
    lone.disk = DiskState::UpToDate;
    lone.meet();
    lone.lose(Socket::Meta, 0);
    let mut lone = Lone::secondary(33);
    lone.lose(Socket::Meta, 0);
    lone.meet();
    lone.mirror(0, 1, 1);
    assert_eq!(lone.pump()[0].block_ack().unwrap().seq_num, 1);
}

#[test]
fn pitfall_27_a_target_has_a_bounded_amount_in_flight_and_goes_on_reading() {
    let all: Vec<u64> = (0..60_000).step_by(8).collect();
    let mut lone = Lone::target(44, &all);
    // As fast as it likes.
    let mut options = lone.w.disk_options.clone();
    options.resync_rate_kib = 4_000_000;
    let command = Command::DiskOptions { volume: V, options };
    lone.w.start_admin(0, command);
    lone.start_sync();
    let mut asked = 0;
    for _ in 0..30 {
        lone.w.run_ms(100);
        let sent = lone.pump();
        asked += sent
            .iter()
            .filter_map(Sent::resync_request)
            .map(|r| r.bytes)
            .sum::<u32>();
        lone.give(Packet::Ping);
        assert!(names(&lone.take()).contains(&"P_PING_ACK"));
    }
    assert!(asked > 1 << 20, "{asked}");
    assert!(asked <= 4 << 20, "{asked} bytes in flight");
    lone.mirror(61_000, 1, 1);
    assert_eq!(
        names(&lone.pump()),
        ["P_WRITE_ACK"],
        "the application is served"
    );
}

#[test]
fn pitfall_28_writes_and_marks_come_at_any_stage_and_writes_land_last() {
    let mut lone = Lone::new(45);
    let [c, _, h, _] = lone.uuids;
    lone.role = Role::Primary;
    lone.uuids = [0x77_0000, c, h, 0];
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapT S/P O/U");
    lone.mirror(0, 1, 0xa1);
    lone.give(Packet::OutOfSync(block(400)));
    assert_eq!(names(&lone.pump()), ["P_WRITE_ACK"]);
    lone.give_bitmap(&[80]);
    lone.pump();
    assert_eq!(lone.is(), "WFSyncUUID S/P O/U");
    lone.mirror(8, 2, 0xa2);
    lone.give(Packet::OutOfSync(block(480)));
    assert_eq!(names(&lone.pump()), ["P_WRITE_ACK"]);
    lone.start_sync();
    let requests: Vec<_> = lone
        .pump()
        .iter()
        .filter_map(Sent::resync_request)
        .collect();
    let sectors: Vec<_> = requests.iter().map(|r| r.sector).collect();
    assert_eq!(sectors, [80, 400, 480]);
    // The resync's block is on its way to the disk when the application's comes.
    lone.w.nodes[0].hold_data = true;
    lone.resync_reply(&requests[0], 0x11);
    lone.mirror(80, 3, 0xa3);
    lone.w.nodes[0].hold_data = false;
    lone.pump();
    assert_eq!(lone.w.nodes[0].disks[0].read(80, 4096), [0xa3; 4096]);
    // And the other way round: what the source read before must not come after.
    lone.w.nodes[0].hold_data = true;
    lone.mirror(400, 4, 0xa4);
    lone.w.nodes[0].hold_data = false;
    lone.pump();
    lone.resync_reply(&requests[2], 0x12);
    lone.pump();
    assert_eq!(lone.w.nodes[0].disks[0].read(400, 4096), [0xa4; 4096]);
}

#[test]
fn pitfall_32_every_resync_and_read_request_has_one_answer() {
    for errors in [0, 1, 3] {
        let mut lone = Lone::source(49, &[80, 160, 240]);
        lone.w.nodes[0].disks[0].fail_reads = errors;
        let mut answers = Vec::new();
        for sector in [80, 160, 240] {
            lone.give(Packet::RsDataRequest(request_read(sector, 4096)));
        }
        for n in 1..=2 {
            lone.give(Packet::DataRequest(BlockRequest {
                sector: 800,
                block_id: BlockId::from_u64(n),
                bytes: 4096,
            }));
        }
        for one in lone.pump() {
            match one.packet {
                Packet::RsDataReply(h) => answers.push((h.sector, true)),
                Packet::NegRsDReply(a) => answers.push((a.sector, true)),
                Packet::DataReply(h) => answers.push((h.block_id.to_u64(), false)),
                Packet::NegDReply(a) => answers.push((a.block_id.to_u64(), false)),
                _ => {}
            }
        }
        answers.sort_unstable();
        let expected = [(1, false), (2, false), (80, true), (160, true), (240, true)];
        assert_eq!(answers, expected, "{errors} errors");
    }
}

#[test]
fn pitfall_34_neighbours_are_acknowledged_one_by_one() {
    let mut lone = Lone::secondary(53);
    lone.w.nodes[0].hold_data = true;
    for n in 0..8 {
        lone.mirror(n * 8, 100 + n, 1);
    }
    lone.w.nodes[0].hold_data = false;
    let mut acks: Vec<_> = lone
        .pump()
        .iter()
        .filter_map(Sent::block_ack)
        .map(|a| (a.sector, a.block_id.to_u64(), a.bytes))
        .collect();
    acks.sort_unstable();
    let expected: Vec<_> = (0..8).map(|n| (n * 8, 100 + n, 4096)).collect();
    assert_eq!(acks, expected);
}

#[test]
fn acks_of_each_protocol_are_those_that_were_asked_for() {
    for (protocol, flags) in [
        (Protocol::A, DpFlags::empty()),
        (Protocol::B, DpFlags::SEND_RECEIVE_ACK),
        (Protocol::C, DpFlags::SEND_WRITE_ACK),
    ] {
        let options = NetOptions {
            protocol,
            ..NetOptions::default()
        };
        let mut lone = Lone::with(54, options);
        lone.protocol.protocol = WireProtocol::from_code(protocol as u32).unwrap();
        let mut lone = lone.promoted();
        lone.w.write(0, 0, vec![1; 4096]);
        let header = lone.pump().iter().find_map(Sent::data_header).unwrap();
        let asked = DpFlags::SEND_RECEIVE_ACK | DpFlags::SEND_WRITE_ACK;
        assert_eq!(header.flags & asked, flags);
        let done = lone.w.nodes[0].completed.len();
        assert_eq!(done == 1, protocol == Protocol::A);
    }
}

fn request_read(sector: u64, bytes: u32) -> BlockRequest {
    BlockRequest {
        sector,
        block_id: BlockId::SYNCER,
        bytes,
    }
}
