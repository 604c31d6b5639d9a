//! Writes of a lost connection whose turn comes when their writer is gone, and the marks that they leave (L56).

use rdb_engine::config::{NetOptions, OnIoError, Protocol};
use rdb_engine::state::{ConnState, DiskState, Fencing, Role};
use rdb_sim::World;
use replica_proto::{BlockId, DpFlags, Packet, Socket, StateChange, StateWord};

use crate::lone::Lone;

/// Writes of several epochs are under way, of which the mirror's disk has taken none, when the link is lost; then it takes
/// them, and marks those that had to wait for an earlier epoch.
fn late(seed: u64) -> World {
    let mut w = World::new(seed);
    w.disk_options.fencing = Fencing::ResourceAndStonith;
    let options = NetOptions {
        protocol: Protocol::B,
        ..NetOptions::default()
    };
    w.connect_fresh(&options);
    w.primary(0, true).unwrap();
    w.wait_synced();
    w.write_blocks(0, [0], 1);
    w.quiet();
    w.nodes[1].hold_data = true;
    for (value, sector) in [(2, 80), (3, 96), (4, 112), (5, 98)] {
        assert!(w.write_wait(0, sector, vec![value; 1536]));
        w.flush(0);
    }
    w.cut();
    w.until("the mirror to notice", |w| w.is(1).contains("S/? U/-"));
    w.nodes[1].hold_data = false;
    w.run_ms(3_000);
    assert_eq!(w.is(0), "WFConnection P/? U/-");
    assert!(w.nodes[0].state().susp_fen);
    assert_eq!([0, 1].map(|i| w.nodes[i].out_of_sync()), [0, 2]);
    w
}

#[test]
fn a_frozen_primary_that_is_back_leaves_no_mark_at_its_mirror() {
    for seed in 0..6 {
        let mut w = late(seed);
        w.forget();
        w.copied(0);
        w.heal();
        w.both("Connected P/S U/U", "Connected S/P U/U");
        assert!(w.rule(1, 0, 40) && w.logged(1, "No resync, but 2 bits in bitmap!"));
        w.quiet();
        assert_eq!(w.copied(0), 0, "nothing is synced");
        w.ends_well();
    }
}

/// The engine is Secondary, and a peer made by hand its Primary. Of two writes to block 10 one waits for the other when the link is lost.
fn left_late(seed: u64) -> Lone {
    let mut lone = Lone::secondary(seed);
    lose_amid_writes(&mut lone);
    assert_eq!(marks(&lone), 1);
    lone
}

fn lose_amid_writes(lone: &mut Lone) {
    lone.w.nodes[0].hold_data = true;
    lone.mirror(80, 1, 1);
    lone.mirror(80, 2, 2);
    lone.pump();
    lone.lose(Socket::Data, 104);
    lone.w.nodes[0].hold_data = false;
    lone.pump();
}

fn marks(lone: &Lone) -> u64 {
    lone.w.nodes[0].out_of_sync()
}

/// The Primary is back as it was: nothing is synced.
fn is_back(lone: &mut Lone) {
    lone.meet();
    assert_eq!(lone.is(), "Connected S/P U/U");
    assert!(lone.w.rule(0, 0, 40));
}

/// It writes these sectors.
fn writes(lone: &mut Lone, sector: u64, sectors: u64) {
    let packet = lone.data(sector, BlockId::from_u64(sector + 7));
    lone.give_data(packet, vec![9; sectors as usize * 512]);
    lone.pump();
}

/// Its disk goes, and what it writes to block 10 is here alone.
fn writes_without_a_disk(lone: &mut Lone) {
    lone.disk = DiskState::Diskless;
    let diskless = lone.state(ConnState::Connected, DiskState::UpToDate);
    lone.give(diskless);
    lone.pump();
    assert_eq!(lone.is(), "Connected S/P U/D");
    writes(lone, 80, 1);
}

/// It is back with its disk, which has our generation.
fn is_back_with_its_disk(lone: &mut Lone) {
    lone.uuids = lone.w.gi(0);
    lone.disk = DiskState::UpToDate;
    is_back(lone);
}

#[test]
fn a_mark_goes_when_every_sector_of_it_was_written_again() {
    let mut lone = left_late(1);
    is_back(&mut lone);
    assert_eq!(marks(&lone), 1, "the handshake proves nothing");
    writes(&mut lone, 72, 8);
    writes(&mut lone, 88, 8);
    writes(&mut lone, 80, 3);
    writes(&mut lone, 84, 4);
    assert_eq!(marks(&lone), 1, "sector 83 may differ");
    writes(&mut lone, 83, 1);
    assert_eq!(marks(&lone), 0);
}

#[test]
fn a_link_that_is_lost_again_leaves_the_mark_for_the_next_time() {
    let mut lone = left_late(2);
    for _ in 0..2 {
        is_back(&mut lone);
        writes(&mut lone, 80, 3);
        lose_amid_writes(&mut lone);
        assert_eq!(marks(&lone), 1);
    }
    is_back(&mut lone);
    writes(&mut lone, 80, 7);
    assert_eq!(
        marks(&lone),
        1,
        "what came late again is to be written again"
    );
    writes(&mut lone, 87, 1);
    assert_eq!(marks(&lone), 0);
}

/// Written again when the link is lost, and of no use then: nobody is told that it was written.
#[test]
fn what_is_written_again_late_proves_nothing() {
    let mut lone = left_late(3);
    is_back(&mut lone);
    lose_amid_writes(&mut lone);
    assert_eq!(marks(&lone), 1);
}

/// While a verify runs the writer says with each write that it may be called in sync, which goes by whole blocks.
#[test]
fn parts_of_a_block_that_are_written_again_during_a_verify_clear_its_mark() {
    let options = NetOptions {
        verify_alg: "md5".to_owned(),
        ..NetOptions::default()
    };
    let mut lone = Lone::with(7, options);
    lone.sync.verify_alg = "md5".parse().unwrap();
    lone.role = Role::Primary;
    is_back(&mut lone);
    lose_amid_writes(&mut lone);
    is_back(&mut lone);
    let (conn, verify_s) = (4, 18); // the field of the connection in a state word, and VerifyS
    lone.give(Packet::StateChgReq(StateChange {
        mask: StateWord(0x1f << conn),
        val: StateWord(verify_s << conn),
    }));
    lone.pump();
    assert_eq!(lone.conn(), ConnState::VerifyT);
    for (sector, sectors, left) in [(80, 3, 1), (83, 5, 0)] {
        let Packet::Data(mut header) = lone.data(sector, BlockId::from_u64(sector)) else {
            panic!("a write")
        };
        header.flags |= DpFlags::MAY_SET_IN_SYNC;
        lone.give_data(Packet::Data(header), vec![9; sectors * 512]);
        lone.pump();
        assert_eq!(marks(&lone), left);
    }
}

/// Marked once more while it is marked as late: the peer's bitmap has it, too.
#[test]
fn a_mark_that_another_reason_is_found_for_stays() {
    let mut lone = left_late(8);
    is_back(&mut lone);
    writes_without_a_disk(&mut lone);
    lone.lose(Socket::Data, 104);
    lone.pump();
    is_back_with_its_disk(&mut lone);
    writes(&mut lone, 80, 8);
    assert_eq!(marks(&lone), 1, "it is not ours to clear");
}

#[test]
fn a_mark_of_another_reason_stays() {
    // It was there before: the Primary had no disk.
    let mut lone = Lone::secondary(4);
    writes_without_a_disk(&mut lone);
    assert_eq!(marks(&lone), 1);
    lose_amid_writes(&mut lone);
    assert_eq!(marks(&lone), 1);
    is_back_with_its_disk(&mut lone);
    writes(&mut lone, 80, 8);
    assert_eq!(marks(&lone), 1, "it is not ours to clear");
}

/// A Primary that has no good disk writes to this one alone.
#[test]
fn a_primary_without_a_good_disk_clears_nothing() {
    for disk in [DiskState::Diskless, DiskState::Failed] {
        let mut lone = left_late(5);
        is_back(&mut lone);
        lone.disk = disk;
        let state = lone.state(ConnState::Connected, DiskState::UpToDate);
        lone.give(state);
        lone.pump();
        writes(&mut lone, 80, 8);
        assert_eq!(marks(&lone), 1, "{disk}");
    }
}

#[test]
fn a_write_that_fails_clears_nothing() {
    let mut w = World::new(6);
    w.disk_options.on_io_error = OnIoError::PassOn;
    w.connect_fresh(&NetOptions::default());
    w.primary(0, true).unwrap();
    w.wait_synced();
    w.secondary(0).unwrap();
    w.quiet();
    let mut lone = Lone::take_over(w);
    lone.role = Role::Primary;
    is_back(&mut lone);
    lose_amid_writes(&mut lone);
    is_back(&mut lone);
    lone.w.nodes[0].disks[0].fail_writes = 1;
    writes(&mut lone, 80, 8);
    assert_eq!((lone.is().as_str(), marks(&lone)), ("Connected S/P I/U", 1));
}
