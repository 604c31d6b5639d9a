//! A peer that sends anything at any time: no packet may make the engine panic, write outside the device's data, or
//! leave a request hanging.

mod lone;

use lone::Lone;
use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{Command, ConnEvent, ConnId, Event, RequestKind};
use rdb_sim::{Data, Rng, V, World};
use replica_proto::{
    BarrierNr, BlockAck, BlockDesc, BlockId, BlockRequest, DataHeader, DdsFlags, DpFlags, Packet,
    Sizes, StateChange, StateWord, UuidFlags, Uuids,
};
use std::rc::Rc;

fn number(rng: &mut Rng) -> u64 {
    match rng.below(6) {
        0 => 0,
        1 => rng.below(16),
        2 => rng.below(200_000),
        3 => u64::MAX - rng.below(3),
        4 => 1 << rng.below(64),
        _ => rng.next(),
    }
}

fn sector(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => number(rng) & ((1 << 54) - 1),
        _ => rng.below(1 << 15),
    }
}

fn bytes(rng: &mut Rng) -> u32 {
    match rng.below(4) {
        0 => (number(rng) as u32 & (128 << 20 | 0x7ff_ffff)) / 512 * 512,
        1 => 4096,
        _ => 512 * (1 + rng.below(64) as u32),
    }
}

fn block_id(rng: &mut Rng) -> BlockId {
    match rng.below(3) {
        0 => BlockId::SYNCER,
        1 => BlockId::from_u64((1 + rng.below(300)) << 32 | (1 + rng.below(40))),
        _ => BlockId::from_u64(rng.next()),
    }
}

fn state_word(rng: &mut Rng) -> u32 {
    let conn = rng.below(24) as u32;
    let role = rng.below(3) as u32 | (rng.below(3) as u32) << 2;
    let disks = (rng.below(9) as u32) << 9 | (rng.below(9) as u32) << 13;
    match rng.below(6) {
        0 => rng.next() as u32,
        1 => role | disks | conn << 4 | (rng.below(64) as u32) << 17,
        _ => role | disks | 10 << 4,
    }
}

#[expect(clippy::too_many_lines, reason = "a table: one arm a packet")]
fn any_packet(rng: &mut Rng, ids: [u64; 4]) -> (Packet, Option<usize>) {
    let data = DataHeader {
        sector: sector(rng),
        block_id: block_id(rng),
        seq_num: rng.next() as u32,
        flags: DpFlags::from_bits_retain(rng.next() as u32),
    };
    let ack = BlockAck {
        sector: sector(rng),
        block_id: block_id(rng),
        bytes: bytes(rng),
        seq_num: rng.next() as u32,
    };
    let request = BlockRequest {
        sector: sector(rng),
        block_id: block_id(rng),
        bytes: bytes(rng),
    };
    let desc = BlockDesc {
        sector: sector(rng),
        bytes: bytes(rng),
    };
    let change = StateChange {
        mask: StateWord(match rng.below(4) {
            0 => 0x1f0,
            1 => 0x3,
            2 => 0x1e00,
            _ => rng.next() as u32 & 0x7f_ffff,
        }),
        val: StateWord(state_word(rng)),
    };
    let change = StateChange {
        val: StateWord(change.val.0 & change.mask.0),
        ..change
    };
    let payload = Some(512 * (1 + rng.below(64) as usize));
    let barrier = BarrierNr::from_u32(number(rng) as u32);
    let slot = |rng: &mut Rng| match rng.below(3) {
        0 => ids[rng.below(4) as usize],
        1 => rng.next(),
        _ => [0, 4][rng.below(2) as usize],
    };
    let packet = match rng.below(34) {
        0 => Packet::Data(data),
        1 => Packet::DataReply(data),
        2 => Packet::RsDataReply(data),
        3 => Packet::Trim(data, bytes(rng)),
        4 => Packet::Zeroes(data, bytes(rng)),
        5 => Packet::Barrier(barrier),
        6 => Packet::BarrierAck {
            barrier,
            set_size: rng.below(5) as u32,
        },
        7 => Packet::Bitmap(vec![rng.next() as u8; 8 * rng.below(500) as usize]),
        8 => {
            let mut code: Vec<u8> = (0..rng.below(60)).map(|_| rng.next() as u8).collect();
            code.insert(
                0,
                [0x02, 0x82, 0x42, rng.next() as u8][rng.below(4) as usize],
            );
            Packet::CompressedBitmap(code)
        }
        9 => Packet::UnplugRemote,
        10 => Packet::DataRequest(request),
        11 => Packet::RsDataRequest(request),
        12 => Packet::RsThinRequest(request),
        13 => Packet::OvRequest(request),
        14 => Packet::Ping,
        15 => Packet::PingAck,
        16 => Packet::RecvAck(ack),
        17 => Packet::WriteAck(ack),
        18 => Packet::RsWriteAck(ack),
        19 => Packet::Superseded(ack),
        20 => Packet::NegAck(ack),
        21 => Packet::NegDReply(ack),
        22 => Packet::NegRsDReply(ack),
        23 => Packet::RsIsInSync(ack),
        24 => Packet::RsCancel(ack),
        25 => Packet::OutOfSync(desc),
        26 => Packet::RsDeallocated(desc),
        27 => Packet::Sizes(Sizes {
            d_size: number(rng) & ((1 << 54) - 1),
            u_size: [0, number(rng) & ((1 << 54) - 1)][rng.below(2) as usize],
            c_size: number(rng) & ((1 << 54) - 1),
            max_bio_size: rng.next() as u32,
            queue_order_type: rng.next() as u16,
            dds_flags: DdsFlags::from_bits_retain(rng.below(4) as u16),
            limits: None,
        }),
        28 => Packet::Uuids(Uuids {
            current: slot(rng),
            bitmap: slot(rng),
            history: [slot(rng), slot(rng)],
            bits: number(rng),
            flags: UuidFlags::from_bits_retain(rng.below(16)),
        }),
        29 => Packet::State(StateWord(state_word(rng))),
        30 => Packet::SyncUuid(slot(rng)),
        31 => Packet::StateChgReq(change),
        32 => Packet::ConnStChgReq(change),
        _ => Packet::StateChgReply(rng.below(30) as i32 - 25),
    };
    let has_data = matches!(
        packet,
        Packet::Data(_) | Packet::DataReply(_) | Packet::RsDataReply(_)
    );
    (packet, payload.filter(|_| has_data))
}

#[test]
fn whatever_a_peer_sends_nothing_panics_and_no_request_hangs() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|s: String| s.parse::<u64>().ok())
    };
    let first = number("RDB_SEED").unwrap_or(0);
    for seed in first..first + number("RDB_SEEDS").unwrap_or(60) {
        let mut w = World::with_disks(seed, 24_576, 24_576);
        let mut rng = Rng(seed ^ 0x5eed);
        let options = NetOptions::default();
        w.up(0, &options);
        w.up(1, &options);
        let me = rng.below(2) as usize;
        for model in &mut w.models {
            model.foreign = true; // the peer lies about the data, too
        }
        // Somewhere between the first packet and the end of the first sync.
        for _ in 0..rng.below(80) {
            w.tick();
        }
        if rng.one_in(2) {
            w.start_admin(
                0,
                Command::Primary {
                    volume: V,
                    force: true,
                },
            );
            for _ in 0..rng.below(400) {
                w.tick();
            }
        }
        let ids = w.nodes[me].ids();
        let mut requests = Vec::new();
        let pause = [4, 40, 200][rng.below(3) as usize];
        for _ in 0..120 {
            // A storm of packets, or one now and then, after which the nodes may have found together again.
            for _ in 0..rng.below(pause) {
                w.tick();
            }
            if rng.one_in(4) && w.is_primary(me, 0) {
                let data = vec![1; 4096];
                requests.push(w.write(me, rng.below(3000) * 8, data));
                requests.push(w.submit(me, rng.below(3000) * 8, 4096, RequestKind::Read));
            }
            let (packet, len) = any_packet(&mut rng, ids);
            let volume = if rng.one_in(20) { rng.next() as u16 } else { 0 };
            let payload = len.map(|n| Data(Rc::new(vec![0xaa; n])));
            if w.trace {
                println!("hostile > {} {packet:?}", w.nodes[me].name);
            }
            w.event(
                me,
                Event::Connection(
                    ConnId::FIRST,
                    ConnEvent::Received {
                        volume,
                        packet,
                        digest: None,
                        payload,
                    },
                ),
            );
        }
        // The end of it: the connection goes, and everything that was asked for is answered.
        w.cut();
        w.run_ms(60_000);
        let open = &w.nodes[me].requests_open;
        assert!(
            open.is_empty(),
            "seed {seed}: requests hang: {open:?} {}",
            w.states()
        );
        let conn = w.nodes[me].state().conn;
        let ended = [
            ConnState::StandAlone,
            ConnState::WFConnection,
            ConnState::Unconnected,
        ];
        assert!(ended.contains(&conn), "seed {seed}: {}", w.states());
    }
}

/// The write had left the log by then, and waited for an answer that nobody owed any more: its user waited for ever.
#[test]
fn a_barrier_acknowledged_before_its_write_leaves_no_request_behind() {
    let mut peer = Lone::primary(1);
    let write = peer.w.write(0, 8, vec![7; 4096]);
    let flush = peer.w.submit(0, 0, 0, RequestKind::Flush);
    let sent = peer.pump();
    let barrier = sent.iter().find_map(|sent| match sent.packet {
        Packet::Barrier(barrier) => Some(barrier),
        _ => None,
    });
    let barrier = barrier.expect("the flush closes the epoch");
    peer.give(Packet::BarrierAck {
        barrier,
        set_size: 1,
    });
    peer.io();
    assert!(peer.conn() < ConnState::Connected, "{}", peer.is());
    for id in [write, flush] {
        let done = peer.w.nodes[0].completed.get(&id);
        assert!(matches!(done, Some(Ok(_))), "{id}: {done:?}");
    }
}

/// With a peer there an Outdated disk is raised to UpToDate; a Failed one with I/O outstanding was, too.
#[test]
fn a_disk_that_has_failed_is_not_outdated() {
    let mut peer = Lone::secondary(1);
    peer.w.nodes[0].hold_data = true;
    peer.mirror(8, 1, 1);
    peer.mirror(64, 2, 2);
    peer.w.nodes[0].disks[0].fail_writes = 1;
    peer.w.nodes[0].hold_data = false;
    assert!(peer.w.step(), "one of the two writes fails");
    assert_eq!(peer.w.nodes[0].state().disk, DiskState::Failed);
    let id = peer.w.start_admin(0, Command::Outdate { volume: V });
    assert_eq!(peer.w.nodes[0].state().disk, DiskState::Failed);
    peer.io();
    assert_eq!(peer.w.nodes[0].state().disk, DiskState::Diskless);
    let answer = peer.w.nodes[0].admin.get(&id);
    assert!(matches!(answer, Some(Err(_))), "{answer:?}");
}
