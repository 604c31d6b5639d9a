//! A full sync that an administrator orders: what is given up, and when; and what becomes of users whose peer never begins.

use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, RequestKind};
use rdb_meta::MdFlags;
use replica_proto::{Packet, Socket, StateChange, StateWord};

use crate::lone::{Lone, names};
use rdb_sim::{V, World};

/// `ko-count` times `timeout`, by default.
const LIMIT_MS: u64 = 42_000;

/// The peer's administrator orders `invalidate-remote`.
fn ordered(lone: &mut Lone) {
    let change = StateChange {
        mask: StateWord(0x1f0),
        val: StateWord(0xb0),
    };
    lone.give(Packet::StateChgReq(change));
}

/// The same, and everything that the engine does for it is done.
fn awaiting(lone: &mut Lone) {
    ordered(lone);
    lone.pump();
    assert_eq!(lone.conn(), ConnState::WFSyncUUID);
}

/// Time passes, and the peer answers pings and nothing else.
fn answers_pings_for(lone: &mut Lone, ms: u64) {
    for _ in 0..ms / 100 {
        lone.w.run_ms(100);
        lone.pump();
    }
}

fn good() -> MdFlags {
    MdFlags::CONSISTENT | MdFlags::WAS_UP_TO_DATE
}

fn unanswered(lone: &Lone, id: u64) -> bool {
    !lone.w.nodes[0].completed.contains_key(&id)
}

#[test]
fn a_primary_keeps_its_data_until_the_source_begins() {
    let mut lone = Lone::primary(1);
    let before = lone.w.nodes[0].disks[0].read(80, 4096);
    awaiting(&mut lone);
    assert_eq!(lone.is(), "WFSyncUUID P/S U/U");
    // On record it is what it was, and every block is marked.
    let node = &lone.w.nodes[0];
    assert!(node.durable_flags().contains(good()));
    assert!(!node.durable_flags().contains(MdFlags::FULL_SYNC));
    assert_eq!(node.durable_bits().count_set(), node.out_of_sync());
    assert_eq!(node.out_of_sync(), 8182);
    // Users read here. What they write waits.
    assert_eq!(lone.w.read(0, 80, 4096).unwrap(), before);
    assert!(lone.take().is_empty(), "nothing is asked of the peer");
    let write = lone.w.write(0, 80, vec![9; 4096]);
    let flush = lone.w.submit(0, 0, 0, RequestKind::Flush);
    lone.pump();
    assert!(unanswered(&lone, write) && unanswered(&lone, flush));
    // It begins: the disk is given up on record before a block is asked for.
    lone.uuids[1] = 0x77_0000;
    lone.start_sync();
    assert_eq!(lone.is(), "SyncTarget P/S I/U");
    let asked = |lone: &mut Lone| lone.take().iter().any(|s| s.resync_request().is_some());
    while !asked(&mut lone) {
        assert!(lone.w.step());
    }
    assert!(!lone.w.nodes[0].durable_flags().intersects(good()));
}

#[test]
fn a_source_that_never_begins_is_left_and_users_go_on() {
    let mut lone = Lone::primary(2);
    awaiting(&mut lone);
    let write = lone.w.write(0, 80, vec![9; 4096]);
    answers_pings_for(&mut lone, LIMIT_MS - 200);
    assert!(unanswered(&lone, write));
    answers_pings_for(&mut lone, 400);
    assert_eq!(lone.w.wait_done(0, write).map(|_| ()), Ok(()));
    assert_eq!(lone.w.read(0, 80, 4096).unwrap(), [9; 4096]);
    assert!(lone.is().ends_with("P/? U/-"), "{}", lone.is());
    assert!(
        lone.w.logged(
            0,
            "has not begun the full sync that was ordered within 42000 ms"
        ) && lone.w.logged(0, "the disk here is what it was")
    );
    let trouble = lone.w.nodes[0]
        .resource
        .status(lone.w.now)
        .connection
        .trouble;
    let trouble = trouble.expect("a reason");
    assert!(trouble.text.contains("has not begun"), "{trouble:?}");
    assert_eq!(lone.w.nodes[0].resource.refused(), 0);
}

/// What was written since it was left is newer than what the peer has, who had not begun.
#[test]
fn the_next_connection_syncs_from_the_primary_that_went_on() {
    let mut lone = Lone::primary(3);
    let [c, ..] = lone.uuids;
    awaiting(&mut lone);
    answers_pings_for(&mut lone, LIMIT_MS + 200);
    assert!(lone.w.write_wait(0, 80, vec![9; 4096]));
    let [new, old, ..] = lone.w.gi(0);
    assert!(new != c && old == c);
    lone.bits = 8182;
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapS P/S U/C");
}

/// L2. One that had its part on record before it was lost looks as one that has written alone since: nothing is overwritten.
#[test]
fn a_source_that_had_begun_unheard_is_no_target_without_a_word() {
    let mut lone = Lone::primary(4);
    awaiting(&mut lone);
    answers_pings_for(&mut lone, LIMIT_MS + 200);
    assert!(lone.w.write_wait(0, 80, vec![9; 4096]));
    lone.uuids[1] = 0x77_0000;
    lone.bits = 8182;
    lone.meet();
    assert_eq!(lone.is(), "StandAlone P/? U/-");
    assert!(lone.w.logged(0, "Split-Brain detected"));
    // With a policy, or the peer's consent, the Primary's data are the ones that stay.
    lone.w.connect(0);
    lone.flags = replica_proto::UuidFlags::DISCARD_MY_DATA;
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapS P/S U/C");
}

#[test]
fn without_writes_the_same_order_is_carried_out_by_the_next_handshake() {
    // Both Secondary: the data are equal, and the source's record says that it is one.
    let mut lone = Lone::new(5);
    lone.meet();
    awaiting(&mut lone);
    assert_eq!(lone.is(), "WFSyncUUID S/S U/U");
    answers_pings_for(&mut lone, LIMIT_MS + 200);
    assert!(lone.is().ends_with("S/? U/-"), "{}", lone.is());
    lone.uuids[1] = 0x77_0000;
    lone.bits = 8182;
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapT S/S O/U");
}

#[test]
fn power_cuts_leave_the_disk_good_until_the_source_begins() {
    for writes in 0..40 {
        let mut lone = Lone::primary(6);
        ordered(&mut lone);
        for _ in 0..writes {
            lone.w.step();
        }
        lone.w.power_cut(0);
        lone.w.boot(0);
        assert_eq!(lone.is(), "StandAlone S/? U/-", "after {writes}");
        lone.w.primary(0, false).unwrap();
    }
}

#[test]
fn the_peer_hears_what_the_driver_says() {
    let mut lone = Lone::primary(7);
    awaiting(&mut lone);
    let id = lone.w.start_admin(0, Command::PauseSync { volume: V });
    let sent = lone.pump();
    assert_eq!(names(&sent), ["P_STATE"]);
    let told = sent[0].state().unwrap();
    assert_eq!(
        (told.conn, told.disk, told.pdsk),
        (
            ConnState::WFSyncUUID,
            DiskState::Outdated,
            DiskState::UpToDate
        )
    );
    assert_eq!(lone.w.nodes[0].admin.remove(&id), Some(Ok(())));
    // The beginning itself is not told.
    lone.uuids[1] = 0x77_0000;
    lone.start_sync();
    assert_eq!(lone.is(), "PausedSyncT P/S I/U");
    assert!(lone.pump().iter().all(|s| s.state().is_none()));
}

#[test]
fn a_secondary_is_not_promoted_into_it() {
    let mut lone = Lone::new(8);
    lone.meet();
    awaiting(&mut lone);
    let promote = Command::Primary {
        volume: V,
        force: false,
    };
    let id = lone.w.start_admin(0, promote);
    lone.pump();
    assert_eq!(lone.is(), "WFSyncUUID S/S U/U");
    assert_eq!(lone.w.nodes[0].admin.get(&id), None);
    // It waits no longer than the source may take.
    answers_pings_for(&mut lone, LIMIT_MS + 200);
    lone.w
        .until("the promotion", |w| w.nodes[0].admin.contains_key(&id));
    assert_eq!(lone.w.nodes[0].admin.remove(&id), Some(Ok(())));
    assert!(lone.is().ends_with("P/? U/-"), "{}", lone.is());
}

#[test]
fn a_secondary_beside_a_primary_or_by_its_own_order_gives_its_data_up_at_once() {
    for own_order in [false, true] {
        let mut lone = Lone::new(9);
        lone.role = if own_order {
            Role::Secondary
        } else {
            Role::Primary
        };
        lone.meet();
        if own_order {
            lone.w.start_admin(0, Command::Invalidate { volume: V });
            lone.pump();
        } else {
            awaiting(&mut lone);
        }
        assert!(lone.is().starts_with("WFSyncUUID S/"), "{}", lone.is());
        assert!(lone.is().ends_with("O/U"), "{}", lone.is());
        assert!(!lone.w.nodes[0].durable_flags().intersects(good()));
        answers_pings_for(&mut lone, LIMIT_MS + 200);
        assert!(lone.is().ends_with("S/? I/-"), "{}", lone.is());
        // The order is remembered: the peer's is the better disk.
        lone.meet();
        assert!(lone.is().starts_with("WFBitMapT"), "{}", lone.is());
    }
}

#[test]
fn a_primary_by_its_own_order_keeps_its_data_as_well() {
    let mut lone = Lone::primary(10);
    lone.w.start_admin(0, Command::Invalidate { volume: V });
    lone.pump();
    assert_eq!(lone.is(), "WFSyncUUID P/S U/U");
    let write = lone.w.write(0, 80, vec![9; 4096]);
    answers_pings_for(&mut lone, LIMIT_MS + 200);
    assert_eq!(lone.w.wait_done(0, write).map(|_| ()), Ok(()));
    assert!(lone.is().ends_with("P/? U/-"), "{}", lone.is());
}

/// L9. What is written here before the peer has agreed is not done for the sake of a disk that is about to be overwritten.
#[test]
fn a_write_that_is_under_way_at_the_own_order_waits_for_the_peer() {
    use rdb_engine::config::Protocol;
    let options = NetOptions {
        protocol: Protocol::A,
        ..NetOptions::default()
    };
    let mut lone = Lone::with(11, options);
    lone.protocol.protocol = replica_proto::WireProtocol::A;
    let mut lone = lone.promoted();
    lone.w.nodes[0].hold_data = true;
    lone.w.write(0, 160, vec![8; 4096]);
    lone.w.start_admin(0, Command::Invalidate { volume: V });
    let sent = lone.pump();
    let mut barriers = sent.iter().filter_map(|s| match s.packet {
        Packet::Barrier(barrier) => Some(barrier),
        _ => None,
    });
    let barrier = barriers.next_back().expect("the peer is to flush before");
    assert_eq!(lone.is(), "Connected P/S U/U");
    let write = lone.w.write(0, 80, vec![9; 4096]);
    let set_size = 1;
    lone.give(Packet::BarrierAck { barrier, set_size });
    lone.pump();
    assert_eq!(lone.is(), "WFSyncUUID P/S U/U");
    lone.w.nodes[0].hold_data = false;
    lone.pump();
    assert!(unanswered(&lone, write));
    // The link breaks: what is here is what counts.
    lone.lose(Socket::Data, 104);
    assert_eq!(lone.w.wait_done(0, write).map(|_| ()), Ok(()));
    assert!(lone.is().ends_with("P/? U/-"), "{}", lone.is());
}

#[test]
fn the_source_loses_its_disk_before_it_begins() {
    let mut lone = Lone::primary(12);
    let [c, ..] = lone.uuids;
    awaiting(&mut lone);
    let write = lone.w.write(0, 80, vec![9; 4096]);
    lone.disk = DiskState::Diskless;
    lone.give(lone.state(ConnState::Connected, DiskState::Inconsistent));
    // It is told that the disk here is good after all.
    let sent = lone.pump();
    let told: Vec<_> = sent.iter().filter_map(|s| s.state()).collect();
    let last = told.last().expect("a state");
    assert_eq!(
        (last.conn, last.disk),
        (ConnState::Connected, DiskState::UpToDate)
    );
    assert_eq!(lone.is(), "Connected P/S U/D");
    assert_eq!(lone.w.wait_done(0, write).map(|_| ()), Ok(()));
    assert!(lone.w.gi(0)[0] != c, "a generation of its own");
}

/// Who lets a peer take any time for writes lets it take any time for this.
#[test]
fn without_a_limit_for_writes_there_is_none() {
    let options = NetOptions {
        ko_count: 0,
        ..NetOptions::default()
    };
    let mut lone = Lone::with(13, options).promoted();
    awaiting(&mut lone);
    answers_pings_for(&mut lone, 4 * LIMIT_MS);
    assert_eq!(lone.is(), "WFSyncUUID P/S U/U");
}

/// Its users are on the peer's disk: to leave that would be no help to them.
#[test]
fn a_primary_without_good_data_of_its_own_waits() {
    let mut lone = Lone::primary(14);
    lone.w.nodes[0].write_errors = true;
    lone.w.disk_options.on_io_error = rdb_engine::config::OnIoError::PassOn;
    let options = lone.w.disk_options.clone();
    lone.w.nodes[0].write_errors = false;
    lone.w
        .admin(0, Command::DiskOptions { volume: V, options })
        .unwrap();
    lone.w.nodes[0].read_errors = true;
    let read = lone.w.submit(0, 80, 4096, RequestKind::Read);
    lone.pump();
    lone.w.nodes[0].read_errors = false;
    assert_eq!(lone.is(), "Connected P/S I/U");
    assert!(unanswered(&lone, read));
    lone.w.start_admin(0, Command::Invalidate { volume: V });
    lone.pump();
    assert_eq!(lone.is(), "WFSyncUUID P/S I/U");
    for _ in 0..3 {
        answers_pings_for(&mut lone, LIMIT_MS);
    }
    assert_eq!(lone.is(), "WFSyncUUID P/S I/U");
    assert!(lone.w.logged(0, "has the only good copy: waiting for it"));
}

#[test]
fn two_engines_carry_the_order_out() {
    for target in [0, 1] {
        let (mut w, [c, h, _]) = World::settled(20 + target as u64);
        w.copied(1 - target);
        w.forget();
        w.admin(1 - target, Command::InvalidateRemote { volume: V })
            .unwrap();
        w.both("Connected P/S U/U", "Connected S/P U/U");
        assert_eq!(
            w.path(target),
            "Connected StartingSyncT WFSyncUUID SyncTarget Connected"
        );
        assert_eq!(w.copied(1 - target), w.nodes[0].usable_bytes() as u64);
        w.ends_well();
        let s = w.gi(0)[2];
        assert_eq!((w.gi(0), w.gi(1)), ([c, 0, s, h], [c, 0, s, h]));
    }
}

/// L1. What it wrote alone, it wrote under the name that the target of the full sync has kept: when its disk is lost, that one is
/// no substitute.
#[test]
fn a_source_without_its_disk_does_not_take_the_one_that_it_was_to_sync() {
    let mut lone = Lone::new(15);
    lone.meet();
    lone.w
        .start_admin(0, Command::InvalidateRemote { volume: V });
    lone.pump();
    assert_eq!(lone.is(), "SyncSource S/S U/I");
    lone.lose(Socket::Data, 104);
    lone.w.primary(0, false).unwrap();
    assert!(lone.w.write_wait(0, 80, vec![9; 4096]));
    assert_eq!(lone.w.gi(0)[0], lone.uuids[0]);
    // It has not heard of the beginning.
    lone.bits = 8182;
    lone.meet();
    assert_eq!(lone.is(), "WFBitMapS P/S U/C");
    lone.w.start_admin(
        0,
        Command::Detach {
            volume: V,
            force: true,
        },
    );
    lone.w.until("the disk to go", |w| w.is(0).contains("D/"));
    lone.meet();
    assert_eq!(lone.is(), "StandAlone P/? D/O");
    assert!(lone.w.logged(0, "lacks writes that only our own disk has"));
}

/// The peer consents to a full sync and begins it, and what its state has begun here meanwhile forbids it.
#[test]
fn an_order_that_meets_the_begin_of_the_first_sync_leaves_no_node_waiting() {
    for seed in 0..20 {
        let mut w = World::new(seed);
        w.connect_fresh(&NetOptions::default());
        w.primary(0, true).unwrap();
        w.start_admin(1, Command::Invalidate { volume: V });
        w.wait_synced();
        w.ends_well();
    }
}
