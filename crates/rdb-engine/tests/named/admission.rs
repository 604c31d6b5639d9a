//! What a connected peer may send: what no right peer sends ends the connection, and nothing here has changed.

use rdb_engine::RequestKind;
use rdb_engine::state::{ConnState, DiskState, Role};
use replica_proto::{
    BarrierNr, BlockAck, BlockId, BlockRequest, DataHeader, DdsFlags, DpFlags, Packet, Sizes,
    Socket, StateChange, StateWord, WireProtocol,
};

use crate::lone::{Lone, block, names};

/// The engine has left the peer, and says why.
fn left(lone: &mut Lone, why: &str) {
    lone.pump();
    assert!(lone.conn() < ConnState::WFReportParams, "{}", lone.is());
    assert_eq!(lone.w.nodes[0].resource.refused(), 1);
    let log = &lone.w.nodes[0].log;
    assert!(log.iter().any(|line| line.contains(why)), "{log:?}");
}

fn data(lone: &Lone, sector: u64) -> Vec<u8> {
    lone.w.nodes[0].disks[0].read(sector, 4096)
}

fn header(sector: u64) -> DataHeader {
    DataHeader {
        sector,
        block_id: BlockId::from_u64(7),
        seq_num: 1,
        flags: DpFlags::SEND_WRITE_ACK,
    }
}

#[test]
fn a_secondary_writes_nothing() {
    for n in 0..3 {
        let mut lone = Lone::new(1);
        lone.meet();
        assert_eq!(lone.is(), "Connected S/S U/U");
        let before = data(&lone, 80);
        match n {
            0 => lone.give_data(Packet::Data(header(80)), vec![0xee; 4096]),
            1 => lone.give(Packet::Trim(header(80), 4096)),
            _ => lone.give(Packet::Zeroes(header(80), 4096)),
        }
        left(&mut lone, "no right peer sends that");
        assert_eq!(data(&lone, 80), before);
    }
}

#[test]
fn nobody_writes_onto_a_primary() {
    for role in [Role::Secondary, Role::Primary] {
        let mut lone = Lone::primary(1);
        lone.role = role;
        let before = data(&lone, 80);
        if role == Role::Primary {
            lone.give(lone.state(ConnState::Connected, DiskState::UpToDate));
        }
        lone.give_data(Packet::Data(header(80)), vec![0xee; 4096]);
        left(&mut lone, "");
        assert_eq!(data(&lone, 80), before);
        assert_eq!(lone.w.nodes[0].state().role, Role::Primary);
    }
}

/// The write that is on its way to the peer.
fn writing(lone: &mut Lone) -> (u64, DataHeader) {
    let id = lone.w.write(0, 80, vec![9; 4096]);
    let sent = lone.pump();
    let header = sent.iter().find_map(|one| one.data_header());
    (id, header.expect("the write"))
}

#[test]
fn an_ack_is_for_what_was_sent() {
    let wrong: [fn(&mut Lone, &DataHeader) -> Packet; 7] = [
        |lone, h| {
            let mut ack = lone.ack(h, 4096);
            ack.sector += 8;
            Packet::WriteAck(ack)
        },
        |lone, h| Packet::WriteAck(lone.ack(h, 8192)),
        |lone, h| Packet::WriteAck(lone.ack(h, 512)),
        |lone, h| {
            let mut ack = lone.ack(h, 4096);
            ack.block_id = BlockId::from_u64(ack.block_id.to_u64() + 1);
            Packet::WriteAck(ack)
        },
        // Protocol C asks for no P_RECV_ACK, and outside of a resync nothing may be called in sync.
        |lone, h| Packet::RecvAck(lone.ack(h, 4096)),
        |lone, h| Packet::RsWriteAck(lone.ack(h, 4096)),
        |lone, h| {
            let mut ack = lone.ack(h, 4096);
            ack.sector += 8;
            Packet::NegAck(ack)
        },
    ];
    for wrong in wrong {
        let mut lone = Lone::primary(1);
        let (id, header) = writing(&mut lone);
        let packet = wrong(&mut lone, &header);
        lone.give(packet);
        left(&mut lone, "unknown write");
        // The peer is lost; the write is done here, and marked.
        assert!(lone.w.wait_done(0, id).is_ok());
        assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
    }
}

#[test]
fn an_answer_has_a_question() {
    let ack = |block_id| BlockAck {
        sector: 80,
        block_id,
        bytes: 4096,
        seq_num: 1,
    };
    let syncer = ack(BlockId::SYNCER);
    let packets = [
        Packet::PingAck,
        Packet::StateChgReply(1),
        Packet::ConnStChgReply(1),
        Packet::BarrierAck {
            barrier: BarrierNr::from_u32(1),
            set_size: 1,
        },
        Packet::WriteAck(ack(BlockId::from_u64(1))),
        Packet::NegAck(ack(BlockId::from_u64(1))),
        Packet::NegDReply(ack(BlockId::from_u64(1))),
        Packet::RsWriteAck(syncer),
        Packet::NegAck(syncer),
        Packet::NegRsDReply(syncer),
        Packet::RsIsInSync(syncer),
        Packet::RsCancel(syncer),
        Packet::OvResult(ack(BlockId::OUT_OF_SYNC)),
        Packet::Superseded(ack(BlockId::from_u64(1))),
        Packet::RetryWrite(ack(BlockId::from_u64(1))),
    ];
    for packet in packets {
        let mut lone = Lone::primary(1);
        lone.give(packet.clone());
        left(&mut lone, "");
        assert_eq!(lone.w.nodes[0].out_of_sync(), 0, "{packet:?}");
    }
}

#[test]
fn resync_verify_and_bitmap_packets_come_in_their_states() {
    let request = BlockRequest {
        sector: 80,
        block_id: BlockId::SYNCER,
        bytes: 4096,
    };
    let packets = [
        Packet::OutOfSync(block(80)),
        Packet::RsDeallocated(block(80)),
        Packet::RsDataRequest(request),
        Packet::RsThinRequest(request),
        Packet::OvRequest(request),
        Packet::Bitmap(vec![0xff; 8]),
        Packet::CompressedBitmap(vec![2, 0x31]),
        Packet::SyncUuid(0x1234),
    ];
    for primary in [false, true] {
        for packet in packets.clone() {
            let mut lone = if primary {
                Lone::primary(1)
            } else {
                Lone::secondary(1)
            };
            lone.give(packet.clone());
            left(&mut lone, "no right peer sends that");
            assert_eq!(lone.w.nodes[0].out_of_sync(), 0, "{packet:?}");
            if lone.w.is_primary(0, 0) {
                let id = lone.w.submit(0, 80, 4096, RequestKind::Read);
                assert!(lone.w.wait_done(0, id).is_ok());
            }
        }
    }
}

/// A target's own request, acknowledged by the source as if it were the target, is not a block in sync.
#[test]
fn a_source_cannot_ack_what_it_has_not_sent() {
    let mut lone = Lone::target(1, &[80]);
    lone.start_sync();
    let sent = lone.pump();
    let request = sent.iter().find_map(|one| one.resync_request());
    let request = request.expect("the block is asked for");
    lone.give(Packet::RsWriteAck(BlockAck {
        sector: request.sector,
        block_id: BlockId::SYNCER,
        bytes: request.bytes,
        seq_num: 1,
    }));
    left(&mut lone, "not sent");
    assert_eq!(lone.w.nodes[0].out_of_sync(), 1);
    assert_eq!(lone.w.nodes[0].state().disk, DiskState::Inconsistent);
}

#[test]
fn a_peer_tells_its_settings_first_and_once() {
    let mut lone = Lone::new(1);
    lone.pair(false);
    lone.take();
    lone.give(Packet::ConnectionFeatures(lone.features));
    lone.give(Packet::SyncParam(lone.sync.clone()));
    left(&mut lone, "P_SYNC_PARAM89 before P_PROTOCOL");

    let mut lone = Lone::new(1);
    lone.meet();
    lone.give(Packet::Protocol(lone.protocol.clone()));
    left(&mut lone, "P_PROTOCOL a second time");
}

/// The resync is given up here while the peer's bitmap is on its way: it is read and forgotten, and the pair stays together.
#[test]
fn a_bitmap_that_nobody_wants_any_more_is_read_and_forgotten() {
    let mut lone = Lone::new(1);
    let [c, _, h, _] = lone.uuids;
    lone.role = Role::Primary;
    lone.uuids = [0x1234_5678_0000, c, h, 0];
    lone.bits = 2;
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapT S/P O/U");
    let detach = rdb_engine::Command::Detach {
        volume: rdb_sim::V,
        force: true,
    };
    lone.w.start_admin(0, detach);
    lone.pump();
    assert_eq!(lone.is(), "Connected S/P D/U");
    lone.give_bitmap(&[80, 800]);
    let sent = lone.pump();
    assert_eq!(names(&sent), [""; 0]);
    assert_eq!(lone.is(), "Connected S/P D/U");
    assert_eq!(lone.w.nodes[0].resource.refused(), 0);
}

/// DRBD 9.3 as a sync target tells of something that is its own.
#[test]
fn what_drbd_9_says_beside_is_ignored() {
    let mut lone = Lone::source(1, &[80]);
    lone.give(Packet::EnableReplication { enable: true });
    lone.give(Packet::DelayProbe {
        seq_num: 1,
        offset_us: 2,
    });
    lone.give(Packet::UnplugRemote);
    assert_eq!(names(&lone.pump()), [""; 0]);
    assert_eq!(lone.is(), "SyncSource S/S U/I");
    lone.lose(Socket::Data, 0);
    assert_eq!(lone.w.nodes[0].resource.refused(), 0);
}

// ---- sizes -------------------------------------------------------------------------------------------------------------

fn sizes(d_size: u64, u_size: u64, c_size: u64) -> Packet {
    Packet::Sizes(Sizes {
        d_size,
        u_size,
        c_size,
        max_bio_size: 1 << 20,
        queue_order_type: 0,
        dds_flags: DdsFlags::empty(),
        limits: None,
    })
}

/// The device, its superblock and its users' last block are as they were.
fn keeps_its_size(lone: &mut Lone, size: u64) {
    lone.io();
    assert_eq!(
        lone.w.nodes[0].resource.status(lone.w.now).volumes[0].size_sectors,
        size
    );
    if lone.w.is_primary(0, 0) {
        let last = (size / 8 - 1) * 8;
        let id = lone.w.submit(0, last, 4096, RequestKind::Read);
        assert!(lone.w.wait_done(0, id).is_ok());
    }
    lone.lose(Socket::Data, 0);
    lone.w.quiet();
    assert_eq!(lone.w.nodes[0].superblock().la_size_sectors, size);
}

#[test]
fn no_device_shrinks_under_a_primary() {
    let told: [fn(u64) -> Packet; 5] = [
        |_| sizes(2048, 0, 2048),
        |_| sizes(2048, 0, 0),
        |size| sizes(size, 2048, 2048),
        |size| sizes(size, 2048, 0),
        |_| sizes(1, 0, 1),
    ];
    for told in told {
        let mut lone = Lone::primary(1);
        let size = lone.size;
        lone.give(told(size));
        keeps_its_size(&mut lone, size);
    }
}

#[test]
fn a_resize_of_the_primarys_administrator_is_followed() {
    // As the driver does it: its own size, and 0 for the device's (a shrink here, which it may do online).
    let mut lone = Lone::secondary(1);
    let size = lone.size;
    lone.give(lone.uuids());
    lone.give(sizes(size - 800, 0, 0));
    let sent = lone.pump();
    assert_eq!(names(&sent), ["P_SIZES"]);
    let status = lone.w.nodes[0].resource.status(lone.w.now);
    assert_eq!(status.volumes[0].size_sectors, size - 800);
    // It comes to nobody's mind to ask for that without being Primary.
    let mut lone = Lone::new(1);
    lone.meet();
    lone.give(sizes(size - 800, 0, 0));
    left(&mut lone, "not agreed");
    // Without a resize the same words change nothing.
    let mut lone = Lone::secondary(1);
    lone.give(sizes(size - 800, 0, size - 800));
    assert_eq!(names(&lone.pump()), [""; 0]);
    assert_eq!(lone.is(), "Connected S/P U/U");
    keeps_its_size(&mut lone, size);
}

#[test]
fn a_size_that_no_device_has_is_not_believed() {
    for told in [
        sizes(1 << 54, 0, 1 << 54),
        sizes(u64::MAX, 0, u64::MAX),
        sizes(100_000, 1 << 60, 0),
    ] {
        let mut lone = Lone::new(1);
        let detach = rdb_engine::Command::Detach {
            volume: rdb_sim::V,
            force: true,
        };
        lone.w.start_admin(0, detach);
        lone.io();
        lone.greet();
        lone.give(Packet::SyncParam(lone.sync.clone()));
        lone.give(told);
        left(&mut lone, "beyond the");
        let status = lone.w.nodes[0].resource.status(lone.w.now);
        assert!(status.volumes[0].size_sectors <= lone.size);
    }
}

/// The administrator's own `size` option stays what it was, whatever the peer says of its own.
#[test]
fn a_peers_size_option_is_gone_with_it() {
    let mut lone = Lone::new(1);
    let size = lone.size;
    lone.greet();
    lone.give(Packet::SyncParam(lone.sync.clone()));
    lone.give(sizes(size, 2048, size));
    lone.pump();
    assert_eq!(lone.conn(), ConnState::StandAlone);
    assert!(lone.w.logged(0, "The peer's disk size is too small!"));
    lone.w.connect(0);
    lone.meet();
    assert_eq!(lone.is(), "Connected S/S U/U");
    keeps_its_size(&mut lone, size);
}

/// The bitmap goes out in batches, and the peer reads slowly. Whatever it says meanwhile, nothing stops here.
#[test]
fn sizes_told_while_the_bitmap_is_sent_break_nothing() {
    for n in 0..4 {
        // 2 M blocks: more plain packets than go out at a time.
        let sectors = 8 * 64 * 510 * 80;
        let mut lone = Lone::large(1, sectors);
        lone.disk = DiskState::Inconsistent;
        let options = rdb_engine::config::NetOptions {
            use_rle: false,
            ..Default::default()
        };
        lone.w
            .admin(0, rdb_engine::Command::NetOptions { options })
            .unwrap();
        lone.w.nodes[0].hold_data = true;
        lone.greet();
        lone.introduce(0);
        lone.io();
        assert_eq!(lone.is(), "WFBitMapS S/S U/I");
        let size = lone.size;
        match n {
            0 => lone.give(sizes(size / 2, 0, size / 2)),
            1 => lone.give(sizes(size / 2, 0, 0)),
            2 => {
                // Given up first, then another size: the peer's disk is gone and back.
                lone.disk = DiskState::Diskless;
                lone.give(lone.state(ConnState::Connected, DiskState::UpToDate));
                lone.give(sizes(size * 2, 0, 0));
                lone.give(sizes(size / 2, 0, 0));
            }
            _ => {
                let detach = rdb_engine::Command::Detach {
                    volume: rdb_sim::V,
                    force: true,
                };
                lone.w.start_admin(0, detach);
            }
        }
        lone.w.nodes[0].hold_data = false;
        lone.io();
        lone.pump();
        lone.lose(Socket::Data, 0);
        lone.w.quiet();
        assert_eq!(
            lone.w.nodes[0].resource.status(lone.w.now).volumes[0].size_sectors,
            size
        );
    }
}

// ---- requests ----------------------------------------------------------------------------------------------------------

fn ask(lone: &mut Lone, whole: bool, mask: u32, val: u32) -> Option<i32> {
    let change = StateChange {
        mask: StateWord(mask),
        val: StateWord(val),
    };
    lone.give(if whole {
        Packet::ConnStChgReq(change)
    } else {
        Packet::StateChgReq(change)
    });
    lone.pump().iter().find_map(|one| match one.packet {
        Packet::StateChgReply(code) | Packet::ConnStChgReply(code) => Some(code),
        _ => None,
    })
}

/// Our role, our suspension, our pauses, our disk, and states that nobody asks for: the peer is left, and nothing has changed.
#[test]
fn what_is_ours_is_not_for_a_peer_to_set() {
    let requests = [
        (0xc, 2 << 2),
        (0xc, 0),
        (0xf, 0x2),
        (0x1e000, 0),
        (0x1e000, 2 << 13),
        (0x1e000, 4 << 13),
        (0x1e000, 5 << 13),
        (0x1e000, 7 << 13),
        (1 << 17, 1 << 17),
        (1 << 18, 1 << 18),
        (1 << 19, 1 << 19),
        (1 << 20, 1 << 20),
        (1 << 21, 1 << 21),
        (1 << 22, 1 << 22),
        (0x3, 0),
        (0x1f0, 10 << 4),
        (0x1f0, 16 << 4),
        (0x1f0, 9 << 4),
        (0x1e00, 8 << 9),
    ];
    for (mask, val) in requests {
        for whole in [false, true] {
            let mut lone = Lone::primary(1);
            assert_eq!(ask(&mut lone, whole, mask, val), None, "{mask:#x} {val:#x}");
            left(&mut lone, "no right peer asks for that");
            let state = lone.w.nodes[0].state();
            assert_eq!(
                (state.role, state.disk),
                (Role::Primary, DiskState::UpToDate)
            );
            assert!(!state.is_suspended() && !state.is_resync_paused());
            let id = lone.w.write(0, 80, vec![9; 4096]);
            assert!(lone.w.wait_done(0, id).is_ok());
        }
    }
}

/// What is on the list is refused by the ordinary rules, with their code, as the driver does.
#[test]
fn a_request_that_does_not_fit_is_answered_with_the_rules_code() {
    let mut lone = Lone::primary(1);
    assert_eq!(ask(&mut lone, false, 0x3, 0x1), Some(-1)); // a second Primary
    assert_eq!(ask(&mut lone, true, 0x3, 0x1), Some(-1));
    assert_eq!(ask(&mut lone, true, 0x1e1f0, 0xa010), Some(-2)); // our copy, which our users are on
    assert_eq!(ask(&mut lone, false, 0x1f0, 0x120), Some(-14)); // no verify-alg
    assert_eq!(lone.is(), "Connected P/S U/U");
    assert_eq!(lone.w.nodes[0].resource.refused(), 0);
    // Nobody but a Primary with good data of its own has our copy outdated.
    let mut lone = Lone::new(1);
    lone.meet();
    assert_eq!(ask(&mut lone, true, 0x1e1f0, 0xa010), Some(-2));
    assert_eq!(lone.is(), "Connected S/S U/U");
    let mut lone = Lone::secondary(1);
    assert_eq!(ask(&mut lone, true, 0x1e1f0, 0xa010), Some(1));
    assert_eq!(lone.w.nodes[0].state().disk, DiskState::Outdated);
    // Nobody overwrites our copy with one that is not good.
    let mut lone = Lone::source(1, &[80]);
    assert_eq!(ask(&mut lone, false, 0x1f0, 0xb0), Some(-2));
    assert_eq!(lone.is(), "SyncSource S/S U/I");
}

/// DRBD 9.3 asks for its changes of role by the connection's packet, and to be Secondary, too.
#[test]
fn drbd_9_asks_for_its_role_by_the_connection() {
    let mut lone = Lone::new(1);
    lone.meet();
    assert_eq!(ask(&mut lone, true, 0x3, 0x1), Some(1));
    assert_eq!(lone.is(), "Connected S/P U/U");
    assert_eq!(ask(&mut lone, true, 0x3, 0x2), Some(1));
    assert_eq!(lone.is(), "Connected S/S U/U");
}

// ---- states and settings -----------------------------------------------------------------------------------------------

#[test]
fn a_peer_is_not_ahead_of_its_own_word() {
    let ahead = |lone: &mut Lone| {
        let packet = lone.state(ConnState::Ahead, DiskState::UpToDate);
        lone.give(packet);
    };
    // By protocol C nobody runs ahead, and a Secondary never does.
    let mut lone = Lone::secondary(1);
    ahead(&mut lone);
    left(&mut lone, "it is Ahead");
    assert_eq!(lone.w.nodes[0].state().disk, DiskState::UpToDate);
    let mut lone = Lone::primary(1);
    ahead(&mut lone);
    left(&mut lone, "it is Ahead");
    assert_eq!(lone.w.nodes[0].state().disk, DiskState::UpToDate);
    // A peer whose writes go by A may.
    let mut lone = Lone::secondary(1);
    let mut params = lone.protocol.clone();
    params.protocol = WireProtocol::A;
    lone.give(Packet::ProtocolUpdate(params));
    ahead(&mut lone);
    assert_eq!(lone.is(), "Behind S/P O/U");
}

#[test]
fn a_peer_knows_its_own_role_and_disk() {
    for word in [10 << 4 | 8 << 9, 0x2 | 10 << 4 | 6 << 9] {
        let mut lone = Lone::new(1);
        lone.meet();
        lone.give(Packet::State(StateWord(word)));
        left(&mut lone, "does not know");
    }
}

#[test]
fn no_disk_is_met_without_its_generations() {
    let mut lone = Lone::new(1);
    lone.greet();
    lone.give(Packet::SyncParam(lone.sync.clone()));
    lone.give(lone.sizes());
    lone.give(lone.state(ConnState::WFConnection, DiskState::DUnknown));
    left(&mut lone, "without P_UUIDS");
}

/// The protocol of our own writes is what our administrator has configured.
#[test]
fn a_peers_settings_are_its_own() {
    let mut lone = Lone::primary(1);
    let mut params = lone.protocol.clone();
    params.protocol = WireProtocol::A;
    params.two_primaries = true;
    lone.give(Packet::ProtocolUpdate(params));
    assert_eq!(lone.is(), "Connected P/S U/U");
    let status = lone.w.nodes[0].resource.status(lone.w.now);
    assert_eq!(
        status.connection.protocol,
        Some(rdb_engine::config::Protocol::C)
    );
    let (id, header) = writing(&mut lone);
    assert!(header.flags.contains(DpFlags::SEND_WRITE_ACK));
    assert!(!lone.w.nodes[0].completed.contains_key(&id));
    let ack = lone.ack(&header, 4096);
    lone.give(Packet::WriteAck(ack));
    assert!(lone.w.wait_done(0, id).is_ok());
}

// ---- time ---------------------------------------------------------------------------------------------------------------

/// What a resync or a verify has of the disk is kept from users until the peer has answered: no longer than any write may be
/// left unanswered.
#[test]
fn a_peer_that_does_not_answer_for_a_block_is_left() {
    let mut lone = Lone::source(1, &[80]).promoted_source();
    lone.give(Packet::RsDataRequest(BlockRequest {
        sector: 80,
        block_id: BlockId::SYNCER,
        bytes: 4096,
    }));
    assert_eq!(names(&lone.pump()), ["P_RS_DATA_REPLY"]);
    let id = lone.w.write(0, 80, vec![9; 4096]);
    // It answers pings, and nothing else.
    for _ in 0..600 {
        lone.w.run_ms(100);
        lone.pump();
        if lone.conn() < ConnState::Connected {
            break;
        }
    }
    assert!(lone.conn() < ConnState::Connected, "{}", lone.is());
    assert!(lone.w.logged(0, "has not answered for a block"));
    assert!(lone.w.wait_done(0, id).is_ok());
}

// ---- depth -------------------------------------------------------------------------------------------------------------

/// A peer may close an epoch with every write. When the disk goes under as many as may wait, they end one after the other.
#[test]
fn as_many_epochs_as_may_wait_end_with_the_disk() {
    for (count, blocks) in [(8_000_u32, 2_000), (2_000, 1)] {
        for barriers in [true, false] {
            let mut lone = Lone::secondary(1);
            lone.w.nodes[0].hold_data = true;
            for n in 0..count {
                lone.mirror(u64::from(n % blocks) * 8, u64::from(n) + 1, 1);
                if barriers {
                    lone.give(Packet::Barrier(BarrierNr::from_u32(n)));
                }
            }
            assert_eq!(lone.is(), "Connected S/P U/U");
            let detach = rdb_engine::Command::Detach {
                volume: rdb_sim::V,
                force: true,
            };
            lone.w.start_admin(0, detach);
            lone.w.nodes[0].hold_data = false;
            lone.io();
            let sent = lone.take();
            let acks = sent.iter().filter(|one| one.block_ack().is_some()).count();
            assert_eq!(acks, count as usize);
        }
    }
}

/// The same for blocks that the peer reads, behind a write that is long in coming.
#[test]
fn as_many_reads_as_may_wait_end_with_the_disk() {
    let mut lone = Lone::source(1, &[80]);
    lone.role = Role::Primary;
    lone.give(lone.state(ConnState::SyncTarget, DiskState::UpToDate));
    lone.w.nodes[0].hold_data = true;
    lone.mirror(80, 1, 1);
    for _ in 0..3_000 {
        lone.give(Packet::RsDataRequest(BlockRequest {
            sector: 80,
            block_id: BlockId::SYNCER,
            bytes: 4096,
        }));
    }
    assert_eq!(lone.conn(), ConnState::SyncSource);
    let detach = rdb_engine::Command::Detach {
        volume: rdb_sim::V,
        force: true,
    };
    lone.w.start_admin(0, detach);
    lone.w.nodes[0].hold_data = false;
    lone.io();
    let sent = lone.take();
    let refused = sent.iter().filter(|one| one.block_ack().is_some()).count();
    assert_eq!(refused, 3_001);
}
