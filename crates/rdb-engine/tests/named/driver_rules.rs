//! Rules of the driver that can lose acknowledged writes, and are not followed here (`docs/ARCHITECTURE.md`): each test names the
//! number of one, and fails without what stands in the code under that number. The other numbers are in other files.

use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{Command, RequestKind};
use replica_proto::{
    BarrierNr, BlockId, DataHeader, DpFlags, Features, Packet, Socket, StateChange, StateWord,
    UuidFlags,
};

use crate::lone::{Lone, Sent, names};
use rdb_sim::scenario::code;
use rdb_sim::{Op, Pending, V, World};

fn detach(force: bool) -> Command {
    Command::Detach { volume: V, force }
}

/// A user's write of a block, which the peer has acknowledged and not flushed.
fn write_at_both(lone: &mut Lone) {
    let write = lone.w.write(0, 80, vec![3; 4096]);
    let sent = lone.pump();
    let header = sent.iter().find_map(Sent::data_header).expect("the write");
    let ack = lone.ack(&header, 4096);
    lone.give(Packet::WriteAck(ack));
    lone.pump();
    lone.w.wait_done(0, write).unwrap();
}

fn has(sent: &[Sent], name: &str) -> bool {
    names(sent).contains(&name)
}

/// L6. The disk is lost and attached again where nobody hears of it: what is written then has a name of its own.
#[test]
fn a_disk_attached_alone_under_its_primary_begins_a_generation() {
    let (mut w, [c, ..]) = World::settled(100);
    w.cut_silently();
    w.admin(0, detach(true)).unwrap();
    w.cut();
    w.node_is(0, "WFConnection P/? D/-");
    w.attach(0).unwrap();
    assert_ne!(w.gi(0)[0], c);
    w.write_blocks(0, [80], 3);
    w.heal();
    w.ends_well();
}

/// L10. A mirror without a disk does not say that it has received what it can write nowhere.
#[test]
fn a_mirror_without_a_disk_refuses_a_write_and_nothing_else() {
    let mut lone = Lone::secondary(101);
    lone.w.start_admin(0, detach(true));
    lone.pump();
    let seq_num = lone.next_seq();
    let header = DataHeader {
        sector: 80,
        block_id: BlockId::from_u64(5),
        seq_num,
        flags: DpFlags::SEND_RECEIVE_ACK,
    };
    lone.give_data(Packet::Data(header), vec![3; 4096]);
    let sent = lone.pump();
    assert!(has(&sent, "P_NEG_ACK"), "{:?}", names(&sent));
    assert!(!has(&sent, "P_RECV_ACK"), "{:?}", names(&sent));
}

/// L24. What the last flush made durable went with the disk, and the mirror had not flushed it when the link broke: the next
/// flush says so, once.
#[test]
fn a_flush_fails_after_what_was_flushed_went_with_the_disk() {
    let mut lone = Lone::primary(114);
    write_at_both(&mut lone);
    let flush = lone.w.submit(0, 0, 0, RequestKind::Flush);
    lone.pump();
    lone.w.wait_done(0, flush).unwrap();
    lone.w.start_admin(0, detach(true));
    lone.pump();
    lone.lose(Socket::Data, 104);
    lone.w.run_ms(2_000);
    lone.meet();
    assert_eq!(lone.is(), "Connected P/S D/U");
    let flush = lone.w.submit(0, 0, 0, RequestKind::Flush);
    lone.pump();
    assert!(lone.w.wait_done(0, flush).is_err());
    let flush = lone.w.submit(0, 0, 0, RequestKind::Flush);
    lone.pump();
    lone.w.wait_done(0, flush).unwrap();
}

/// L44. The peer began a generation when our disk was detached, and died before it could tell: it has all that users saw. As the
/// mirror of a Primary without a disk it may count as a crashed Primary. Another generation is refused.
#[test]
fn a_diskless_primary_takes_the_generation_that_its_own_loss_began() {
    for (flags, ours) in [
        (UuidFlags::empty(), true),
        (UuidFlags::CRASHED_PRIMARY, true),
        (UuidFlags::empty(), false),
    ] {
        let mut lone = Lone::primary(115);
        lone.w.start_admin(0, detach(true));
        lone.pump();
        lone.lose(Socket::Data, 104);
        lone.w.run_ms(2_000);
        let shared = if ours { lone.uuids[0] & !1 } else { 0x66_0000 };
        lone.uuids = [0x77_0000, shared, lone.uuids[2], lone.uuids[3]];
        lone.flags = flags;
        lone.meet();
        match ours {
            true => assert_eq!(lone.is(), "Connected P/S D/U"),
            false => assert!(lone.is().starts_with("StandAlone"), "{}", lone.is()),
        }
    }
}

/// L45. A disk that was detached beside a good one is Outdated where it is attached alone, and whole again beside the other.
#[test]
fn a_disk_detached_beside_a_good_one_is_outdated_until_they_meet() {
    for primary in [0, 1] {
        let (mut w, _) = World::settled(116);
        w.secondary(0).unwrap();
        w.primary(primary, false).unwrap();
        w.detach(0, false).unwrap();
        w.write_blocks(primary, [80], 3);
        w.secondary(primary).unwrap();
        w.quiet();
        w.cut();
        w.attach(0).unwrap();
        w.node_is(0, "WFConnection S/? O/-");
        assert!(w.primary(0, false).is_err());
        w.heal();
        w.ends_well();
        assert_eq!(w.nodes[0].disks[0].read(80, 4096), [3; 4096]);
    }
}

/// L46. A source that has lost its target names what it writes alone, and says so; beside a DRBD, which would sync all of a
/// target that has come to the end, it does as that does.
#[test]
fn a_source_alone_takes_a_new_generation_if_its_peer_knows_what_that_means() {
    for ours in [false, true] {
        let mut lone = Lone::new(117);
        lone.disk = DiskState::Inconsistent;
        if ours {
            lone.features.features |= Features::from_bits_retain(0x2000_0000);
        }
        lone.meet();
        lone.give_bitmap(&[80]);
        lone.pump();
        let lone = lone.promoted_source();
        let before = lone.w.gi(0);
        let mut lone = lone;
        lone.lose(Socket::Data, 104);
        lone.w.run_ms(2_000);
        lone.w.write_blocks(0, [160], 3);
        let after = lone.w.gi(0);
        let note = lone.w.nodes[0].durable_superblock().note;
        if ours {
            assert_eq!(after[1..], [before[1], before[2], before[0]]);
            assert_eq!(note, before[1] & !1 | 1);
        } else {
            assert_eq!((after, note), (before, 0));
        }
        assert_eq!(after[0] != before[0], ours);
        let sent = lone.meet();
        let told = sent.iter().find_map(|s| match &s.packet {
            Packet::Uuids(uuids) => Some(uuids.flags.bits()),
            _ => None,
        });
        assert_eq!(told, Some(if ours { 1 << 33 } else { 0 }));
    }
}

/// L2, L3. A node that dies at the end of a resync leaves no split brain, whichever node it is and whoever is Primary; and if the
/// other one was promoted meanwhile, that one's data are the newest.
#[test]
fn a_node_that_dies_at_the_end_of_a_resync_is_no_split_brain() {
    for (source_dies, primary_is_source, promoted) in [
        (true, true, false),
        (true, true, true),
        (true, false, false),
        (false, true, false),
        (false, false, false),
        (false, false, true),
    ] {
        let (mut w, _) = World::settled(118);
        if primary_is_source {
            w.cut();
            w.write_blocks(0, [80], 3);
            w.heal();
        } else {
            w.secondary(0).unwrap();
            w.primary(1, false).unwrap();
            w.detach(1, false).unwrap();
            w.write_blocks(1, [80], 3);
            w.attach(1).unwrap();
        }
        // Of the end the source knows nothing, and its disk has marks.
        w.until("the target's end on record", |w| {
            w.is(0).starts_with("SyncSource")
                && w.is(1).starts_with("Connected")
                && w.nodes[1].durable_gi()[0] & !1 == w.gi(0)[0] & !1
        });
        let (dead, alive) = if source_dies { (0, 1) } else { (1, 0) };
        w.kill(dead);
        w.quiet();
        if promoted {
            w.primary(alive, false).unwrap();
            w.write_blocks(alive, [160], 5);
        }
        w.boot(dead);
        w.connect(dead);
        w.ends_well();
        assert_eq!(w.nodes[1 - alive].disks[0].read(80, 4096), [3; 4096]);
    }
}

/// L11. The peer lacks blocks: it serves no user before another handshake.
#[test]
fn a_source_that_loses_its_disk_before_the_resync_leaves_its_peer() {
    let mut lone = Lone::new(102);
    lone.w.primary(0, false).unwrap();
    lone.w.write_blocks(0, [80], 3);
    lone.meet();
    assert!(lone.is().starts_with("WFBitMapS P/S U"), "{}", lone.is());
    lone.w.start_admin(0, detach(true));
    lone.pump();
    assert!(lone.conn() < ConnState::Connected, "{}", lone.is());
}

/// L18. What a lost Primary has sent goes to the disk before another one's users write there.
#[test]
fn a_promotion_waits_for_the_writes_of_a_lost_primary() {
    let mut lone = Lone::secondary(103);
    lone.w.nodes[0].hold_data = true;
    lone.mirror(80, 5, 3);
    lone.pump();
    lone.w.nodes[0].hold_data = false;
    let is_write = |pending: &Pending| matches!(pending.op, Op::Write { .. });
    let pending = &mut lone.w.nodes[0].pending;
    let write = pending.iter().position(is_write);
    let write = pending.remove(write.expect("the peer's write"));
    lone.lose(Socket::Data, 104);
    let force = false;
    let id = lone.w.start_admin(0, Command::Primary { volume: V, force });
    lone.w.run_ms(2_000);
    assert!(!lone.w.nodes[0].admin.contains_key(&id));
    lone.w.nodes[0].pending.push(write);
    lone.w.run_ms(2_000);
    assert_eq!(lone.w.nodes[0].admin.remove(&id), Some(Ok(())));
    assert_eq!(lone.w.nodes[0].disks[0].read(80, 4096), [3; 4096]);
}

/// L22. The disk whose detach we have consented to is there after all, and lacks what was written since.
#[test]
fn a_disk_that_was_not_given_up_after_all_is_compared_anew() {
    let mut lone = Lone::primary(104);
    let failed = StateChange {
        mask: StateWord(0x1e00),
        val: StateWord(0x400),
    };
    lone.give(Packet::StateChgReq(failed));
    lone.pump();
    assert_eq!(lone.w.nodes[0].state().pdsk, DiskState::Failed);
    let state = lone.state(ConnState::Connected, DiskState::UpToDate);
    lone.give(state);
    lone.pump();
    assert!(lone.conn() < ConnState::Connected, "{}", lone.is());
}

/// L23. While the source is asked for its consent to a detach it may have given it, and written alone since.
#[test]
fn a_target_does_not_finish_while_its_detach_is_asked_for() {
    let mut lone = Lone::target(105, &[80]);
    lone.start_sync();
    lone.w.run_ms(10);
    let sent = lone.pump();
    let block = sent.iter().find_map(Sent::resync_request);
    let block = block.expect("one block is marked");
    lone.w.start_admin(0, detach(false));
    lone.io();
    assert!(has(&lone.take(), "P_STATE_CHG_REQ"));
    lone.resync_reply(&block, 7);
    lone.io();
    let sent = lone.take();
    assert!(!has(&sent, "P_PING"), "the end begins with one");
    // (The answer to a ping that it did not send would be no end either.)
    lone.w.run_ms(100);
    lone.io();
    assert_eq!(lone.conn(), ConnState::SyncTarget);
}

/// L25. A generation whose writes only the peer has is remembered: the own disk bears its name, and lacks them.
#[test]
fn a_disk_that_lacks_what_only_the_peer_has_is_not_attached() {
    let mut lone = Lone::primary(106);
    lone.w.start_admin(0, detach(true));
    lone.pump();
    let write = lone.w.write(0, 80, vec![3; 4096]);
    let sent = lone.pump();
    let header = sent.iter().find_map(Sent::data_header).expect("the write");
    let ack = lone.ack(&header, 4096);
    lone.give(Packet::WriteAck(ack));
    // The peer, a driver of old, does not tell of a generation of its own.
    for _ in 0..100 {
        lone.w.run_ms(100);
        lone.pump();
    }
    assert_eq!(lone.w.wait_done(0, write).map(|_| ()), Ok(()));
    lone.lose(Socket::Data, 104);
    lone.w.run_ms(100);
    assert_eq!(code(lone.w.attach(0)), 150);
}

/// L28. What a mirror's disk had in its cache when it failed is not acknowledged by its barrier.
#[test]
fn a_mirror_whose_disk_fails_unflushed_leaves_the_writer() {
    let mut lone = Lone::secondary(107);
    lone.mirror(80, 5, 3);
    assert!(has(&lone.pump(), "P_WRITE_ACK"));
    lone.w.nodes[0].write_errors = true;
    lone.mirror(88, 6, 3);
    lone.pump();
    lone.give(Packet::Barrier(BarrierNr::from_u32(0)));
    let mut sent = lone.pump();
    lone.w.run_ms(100);
    sent.extend(lone.pump());
    assert!(!has(&sent, "P_BARRIER_ACK"), "{:?}", names(&sent));
    assert!(lone.conn() < ConnState::Connected, "{}", lone.is());
}

/// L32. A Primary gives its disk up for the peer's only when the peer has made durable what users have written.
#[test]
fn an_order_to_sync_a_primary_waits_for_the_barriers() {
    let mut lone = Lone::primary(108);
    write_at_both(&mut lone);
    let order = StateChange {
        mask: StateWord(0x1f0),
        val: StateWord(0xb0),
    };
    lone.give(Packet::StateChgReq(order));
    let mut sent = lone.pump();
    lone.w.run_ms(100);
    sent.extend(lone.pump());
    assert!(!has(&sent, "P_STATE_CHG_REPLY"), "{:?}", names(&sent));
    let barriers = sent.iter().filter_map(|s| match s.packet {
        Packet::Barrier(barrier) => Some(barrier),
        _ => None,
    });
    for barrier in barriers {
        lone.give(Packet::BarrierAck {
            barrier,
            set_size: 1,
        });
    }
    assert!(has(&lone.pump(), "P_STATE_CHG_REPLY"));
}

/// L35. A peer that hears of a Primary without a disk begins a generation; so it hears of it only when its data are taken.
#[test]
fn a_primary_without_a_disk_tells_its_state_when_it_has_taken_the_peers_data() {
    let mut lone = Lone::primary(109);
    lone.w.start_admin(0, detach(true));
    lone.pump();
    lone.lose(Socket::Data, 104);
    lone.greet();
    let sent = lone.pump();
    assert!(has(&sent, "P_SIZES"), "{:?}", names(&sent));
    assert!(!has(&sent, "P_STATE"), "{:?}", names(&sent));
    lone.introduce(0);
    assert!(has(&lone.pump(), "P_STATE"));
}

/// Whether the first of these happened at node `a`, and before the second.
fn before(w: &World, first: &str, second: &str) -> bool {
    let record = w.nodes[0].record.as_ref().expect("a record");
    let at = |wanted: &str| record.iter().position(|line| line.starts_with(wanted));
    let second = at(second).expect("it happens");
    at(first).is_some_and(|first| first < second)
}

/// L15. An extent leaves the activity log: what was written there is durable, since nothing else would tell of it.
#[test]
fn an_extent_leaves_the_log_when_its_data_are_durable() {
    let mut w = World::large_pair(110, 800_000, &NetOptions::default());
    w.write_blocks(0, (0..67).map(|extent| extent * 8192), 3);
    w.quiet();
    w.nodes[0].record = Some(Vec::new());
    w.write_blocks(0, [80 * 8192], 3);
    assert!(before(&w, "flushed", "meta log"));
}

/// L16. A block that the target has got is marked nowhere: so none is given away that is only in the source's cache.
#[test]
fn a_source_flushes_before_its_resync_begins() {
    let mut lone = Lone::new(111);
    lone.disk = DiskState::Inconsistent;
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapS S/S U/I");
    lone.w.nodes[0].record = Some(Vec::new());
    lone.give_bitmap(&[80]);
    lone.pump();
    assert!(before(&lone.w, "flushed", "send P_SYNC_UUID"));
}

/// L19. A write that is on a disk which was given up since is nowhere, whatever disk is there by now.
#[test]
fn a_write_on_a_disk_that_was_given_up_is_not_done() {
    let mut lone = Lone::primary(112);
    let write = lone.w.write(0, 80, vec![3; 4096]);
    lone.pump();
    lone.w.start_admin(0, detach(true));
    lone.pump();
    let attach = lone.w.attach_command(0, 0);
    lone.w.start_admin(0, attach);
    lone.pump();
    // (L26) The peer keeps its generation, and the attach waits for that to be known.
    lone.w.run_ms(6_100);
    lone.pump();
    lone.give(lone.sizes());
    lone.give(lone.uuids());
    lone.give(lone.state(ConnState::Connected, DiskState::Negotiating));
    lone.pump();
    assert_eq!(lone.w.nodes[0].state().disk, DiskState::UpToDate);
    assert!(!lone.w.nodes[0].completed.contains_key(&write));
    lone.lose(Socket::Data, 104);
    assert!(lone.w.wait_done(0, write).is_err());
}
