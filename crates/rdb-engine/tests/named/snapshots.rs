//! Snapshots of both nodes at one moment: what they wait for, what they are refused for, and that I/O goes on in any case.

use replica_proto::{
    Features, Packet, SnapshotAnswer, SnapshotName, SnapshotOrder, SnapshotRefusal, SnapshotStep,
};

use rdb_engine::config::NetOptions;
use rdb_engine::state::Role;
use rdb_engine::{AdminError, AdminId, Command, Event, Handler, Handlers, SnapshotWish};
use rdb_sim::{V, World};

use crate::lone::Lone;

const HAVE: fn() -> Handlers = || [Handler::Snapshot].into_iter().collect();

fn wish() -> SnapshotWish {
    SnapshotWish {
        name: SnapshotName::new("daily").unwrap(),
        command: None,
        limit_ms: 30_000,
        with_peer: true,
    }
}

fn order(w: &mut World, i: usize, wish: SnapshotWish) -> u64 {
    w.start_admin(i, Command::Snapshot { wish })
}

fn with_handlers(seed: u64, here: Handlers, there: Handlers) -> World {
    let mut w = World::new(seed);
    w.connect_fresh(&NetOptions::default());
    for (i, handlers) in [here, there].into_iter().enumerate() {
        let mut options = w.resource_options;
        options.handlers = handlers;
        w.admin(i, Command::ResourceOptions { options }).unwrap();
    }
    w.primary(0, true).unwrap();
    w.wait_synced();
    w.write_blocks(0, [0], 1);
    w.quiet();
    w
}

fn pair(seed: u64) -> World {
    with_handlers(seed, HAVE(), HAVE())
}

fn runs(w: &World, i: usize) -> bool {
    w.nodes[i]
        .asked
        .iter()
        .any(|asked| asked.handler == Handler::Snapshot)
}

fn answer(w: &mut World, i: usize, id: u64) -> Result<(), AdminError> {
    w.until("the answer", |w| w.nodes[i].admin.contains_key(&id));
    assert!(!w.nodes[i].state().is_suspended());
    w.nodes[i].admin.remove(&id).unwrap()
}

fn failure(result: Result<(), AdminError>) -> String {
    match result {
        Err(AdminError::Unnumbered { info }) => info,
        other => panic!("{other:?}"),
    }
}

/// Handlers that are to end have ended, and users are served.
fn goes_on(w: &mut World) {
    for i in 0..2 {
        while runs(w, i) {
            w.end_handler(i, Handler::Snapshot, 143);
        }
    }
    w.heal();
    w.write_blocks(0, [80], 9);
    w.quiet();
    w.ends_well();
}

#[test]
fn both_handlers_run_at_one_moment_and_users_wait_as_long() {
    for seed in 0..10 {
        let mut w = pair(seed);
        let before: Vec<u64> = (0..6)
            .map(|n| w.write(0, 80 + 8 * n, vec![2; 4096]))
            .collect();
        let id = order(&mut w, 0, wish());
        let after = w.write(0, 800, vec![3; 4096]);
        w.until("both handlers", |w| runs(w, 0) && runs(w, 1));
        for node in &w.nodes {
            assert!(!node.disks[0].has_unflushed_data(), "{}", node.name);
            assert!(node.disks[0].durable(80, 4096) == vec![2; 4096]);
        }
        assert!(w.disks_equal());
        w.run_ms(5_000);
        let status = |w: &World, i: usize| w.nodes[i].resource.status(w.now).snapshot;
        assert!(status(&w, 0).is_some_and(|s| s.is_own && s.name.as_str() == "daily"));
        assert!(status(&w, 1).is_some_and(|s| !s.is_own && s.for_ms >= 5_000));
        w.end_handler(1, Handler::Snapshot, 0);
        w.run_ms(5_000);
        assert!(
            !w.nodes[0].completed.contains_key(&after),
            "the own one runs"
        );
        w.end_handler(0, Handler::Snapshot, 0);
        assert_eq!(answer(&mut w, 0, id), Ok(()));
        for id in before.iter().chain([&after]) {
            assert!(w.wait_done(0, *id).is_ok());
        }
        assert_eq!((status(&w, 0), status(&w, 1)), (None, None));
        goes_on(&mut w);
    }
}

/// Both nodes Secondary: either takes one. And a second one follows at once.
#[test]
fn two_secondaries_take_one_too() {
    let mut w = pair(1);
    w.secondary(0).unwrap();
    for i in [0, 1, 1] {
        let id = order(&mut w, i, wish());
        w.until("both handlers", |w| runs(w, 0) && runs(w, 1));
        w.end_handler(0, Handler::Snapshot, 0);
        w.end_handler(1, Handler::Snapshot, 0);
        assert_eq!(answer(&mut w, i, id), Ok(()));
        w.quiet();
    }
    // At the same time one refuses the other, or both do.
    let ids = [0, 1].map(|i| order(&mut w, i, wish()));
    w.until("a refusal", |w| {
        w.nodes
            .iter()
            .zip(ids)
            .any(|(node, id)| node.admin.contains_key(&id))
    });
    let first = usize::from(!w.nodes[0].admin.contains_key(&ids[0]));
    let told = failure(answer(&mut w, first, ids[first]));
    assert!(told.contains("a snapshot is under way"), "{told}");
    let other = 1 - first;
    w.until("the other one's end", |w| {
        w.nodes[other].admin.contains_key(&ids[other]) || runs(w, 0) && runs(w, 1)
    });
    if runs(&w, 0) {
        w.end_handler(0, Handler::Snapshot, 0);
        w.end_handler(1, Handler::Snapshot, 0);
        assert_eq!(answer(&mut w, other, ids[other]), Ok(()));
    }
    w.quiet();
    w.primary(0, false).unwrap();
    goes_on(&mut w);
}

#[test]
fn a_handler_that_fails_fails_the_snapshot_and_the_other_ones_is_named() {
    for (here, there, words) in [
        (
            3,
            0,
            "here: exit 3; peer: exit 0; snapshot 'daily' exists on the peer alone, and parts of it may be here",
        ),
        (
            0,
            1,
            "here: exit 0; peer: exit 1; snapshot 'daily' exists here alone, and parts of it may be on the peer",
        ),
        (
            1,
            2,
            "here: exit 1; peer: exit 2; snapshot 'daily' is whole on neither node, and parts of it may be on both nodes",
        ),
    ] {
        let mut w = pair(2);
        let id = order(&mut w, 0, wish());
        w.until("both handlers", |w| runs(w, 0) && runs(w, 1));
        w.end_handler(0, Handler::Snapshot, here);
        w.end_handler(1, Handler::Snapshot, there);
        let told = failure(answer(&mut w, 0, id));
        assert!(told.contains(words), "{told}");
        goes_on(&mut w);
    }
}

#[test]
fn a_handler_that_hangs_is_ended_and_io_goes_on() {
    for (hangs, words) in [
        (
            0,
            "here: ended by force; peer: exit 0; snapshot 'daily' exists on the peer alone",
        ),
        (
            1,
            "here: exit 0; peer: had not ended; snapshot 'daily' exists here alone",
        ),
    ] {
        let mut w = pair(3);
        let id = order(&mut w, 0, wish());
        w.until("both handlers", |w| runs(w, 0) && runs(w, 1));
        let write = w.write(0, 80, vec![3; 4096]);
        w.end_handler(1 - hangs, Handler::Snapshot, 0);
        w.run_ms(29_000);
        assert!(!w.nodes[0].completed.contains_key(&write));
        let told = failure(answer(&mut w, 0, id));
        assert!(told.contains("it took longer than 30 s"), "{told}");
        assert!(told.contains(words), "{told}");
        assert!(w.wait_done(0, write).is_ok());
        // The node whose handler does not end takes no other one before.
        let id = order(&mut w, 0, wish());
        let told = failure(answer(&mut w, 0, id));
        assert!(
            told.contains("not ended") || told.contains("under way"),
            "{told}"
        );
        goes_on(&mut w);
    }
}

#[test]
fn whatever_ends_it_io_goes_on() {
    type Way = fn(&mut World, u64);
    let ways: [(&str, Way); 5] = [
        ("the connection was lost", |w, _| w.cut()),
        ("taken back", |w, id| {
            w.event(0, Event::Withdraw { id: AdminId(id) });
        }),
        ("I/O was resumed", |w, _| {
            w.admin(0, Command::ResumeIo { volume: V }).unwrap();
        }),
        ("the peer's disk is", |w, _| {
            w.detach(1, true).unwrap();
        }),
        ("this node's disk is", |w, _| {
            w.detach(0, true).unwrap();
        }),
    ];
    for (words, way) in ways {
        for seed in 0..4 {
            let mut w = pair(seed);
            let id = order(&mut w, 0, wish());
            w.until("both handlers", |w| runs(w, 0) && runs(w, 1));
            let write = w.write(0, 80, vec![3; 4096]);
            way(&mut w, id);
            let told = failure(answer(&mut w, 0, id));
            assert!(told.contains(words), "{told}");
            assert!(w.wait_done(0, write).is_ok());
            w.run_ms(1_000);
            for i in 0..2 {
                assert_eq!(w.nodes[i].resource.status(w.now).snapshot, None);
            }
        }
    }
}

#[test]
fn a_peer_that_is_promoted_ends_it() {
    let mut w = pair(5);
    w.secondary(0).unwrap();
    let id = order(&mut w, 0, wish());
    w.until("both handlers", |w| runs(w, 0) && runs(w, 1));
    w.primary(1, false).unwrap();
    let told = failure(answer(&mut w, 0, id));
    assert!(told.contains("the peer is Primary"), "{told}");
    assert_eq!(w.nodes[1].resource.refused(), 0);
}

#[test]
fn a_node_that_dies_amid_it_leaves_nothing_frozen() {
    for dies in 0..2 {
        let mut w = pair(6);
        order(&mut w, 0, wish());
        w.until("both handlers", |w| runs(w, 0) && runs(w, 1));
        w.kill(dies);
        w.run_ms(60_000);
        let left = &w.nodes[1 - dies];
        assert!(!left.state().is_suspended());
        assert_eq!(left.resource.status(w.now).snapshot, None);
    }
}

#[test]
fn it_is_refused_where_it_could_not_be_equal() {
    let refused = |w: &mut World, i: usize, wish: SnapshotWish| {
        let id = order(w, i, wish);
        let told = failure(answer(w, i, id));
        assert!(!runs(w, 0) && !runs(w, 1), "{told}");
        told
    };
    let mut w = with_handlers(1, HAVE(), Handlers::NONE);
    let told = refused(&mut w, 0, wish());
    assert_eq!(
        told,
        "the snapshot has failed: here: not run; peer: refused: no handler 'snapshot' is configured"
    );
    let mut w = with_handlers(1, Handlers::NONE, HAVE());
    let told = refused(&mut w, 0, wish());
    assert!(
        told.contains("no handler 'snapshot' is configured, and no command"),
        "{told}"
    );
    let mut w = pair(1);
    let told = refused(&mut w, 1, wish());
    assert!(told.contains("take the snapshot there"), "{told}");
    let alone = SnapshotWish {
        with_peer: false,
        ..wish()
    };
    let told = refused(&mut w, 1, alone.clone());
    assert!(told.contains("take the snapshot there"), "{told}");
    w.admin(0, Command::SuspendIo { volume: V }).unwrap();
    let id = order(&mut w, 0, wish());
    w.until("the answer", |w| w.nodes[0].admin.contains_key(&id));
    let told = failure(w.nodes[0].admin.remove(&id).unwrap());
    assert!(told.contains("suspended already"), "{told}");
    assert!(
        w.nodes[0].state().susp,
        "whose suspension that is not leaves it"
    );
    w.admin(0, Command::ResumeIo { volume: V }).unwrap();
    w.disconnect(1).unwrap();
    let told = refused(&mut w, 0, wish());
    assert!(told.contains("not connected"), "{told}");
    // Of this node's disk alone it can be taken.
    let id = order(&mut w, 0, alone);
    w.until("the handler", |w| runs(w, 0));
    w.end_handler(0, Handler::Snapshot, 0);
    assert_eq!(answer(&mut w, 0, id), Ok(()));
}

/// The command that an administrator gives is run here, and goes nowhere else.
#[test]
fn a_command_of_the_administrators_is_run_here_alone() {
    let mut w = with_handlers(1, Handlers::NONE, HAVE());
    let command = Some("anything".to_owned());
    let id = order(&mut w, 0, SnapshotWish { command, ..wish() });
    w.until("both handlers", |w| runs(w, 0) && runs(w, 1));
    w.end_handler(0, Handler::Snapshot, 0);
    w.end_handler(1, Handler::Snapshot, 0);
    assert_eq!(answer(&mut w, 0, id), Ok(()));
    goes_on(&mut w);
}

// ---- one engine, and a peer made by hand ---------------------------------------------------------------------------------

fn lone(seed: u64, agreed: bool) -> Lone {
    let mut lone = Lone::new(seed);
    if agreed {
        lone.features.features |= Features::from_bits_retain(0x1000_0000);
    }
    let mut options = lone.w.resource_options;
    options.handlers = HAVE();
    lone.w
        .admin(0, Command::ResourceOptions { options })
        .unwrap();
    lone.role = Role::Primary;
    lone.meet();
    lone.pump();
    lone
}

fn take(step: SnapshotStep) -> Packet {
    Packet::RdbSnapshot(SnapshotOrder {
        step,
        limit_ms: 1_000,
        name: SnapshotName::new("daily").unwrap(),
    })
}

fn answers(lone: &mut Lone) -> Vec<SnapshotAnswer> {
    let sent = lone.pump().into_iter();
    sent.filter_map(|sent| match sent.packet {
        Packet::RdbSnapshotAnswer(answer) => Some(answer),
        _ => None,
    })
    .collect()
}

fn is_refused(mut lone: Lone, packet: Packet, what: &str) {
    let before = lone.w.nodes[0].resource.refused();
    lone.give(packet);
    lone.pump();
    assert_eq!(lone.w.nodes[0].resource.refused(), before + 1, "{what}");
}

#[test]
fn the_peers_is_taken_and_said_how_it_ended() {
    let mut lone = lone(1, true);
    lone.give(take(SnapshotStep::Take));
    assert_eq!(answers(&mut lone), [SnapshotAnswer::Begun]);
    lone.w.end_handler(0, Handler::Snapshot, 7);
    assert_eq!(answers(&mut lone), [SnapshotAnswer::Ended(7)]);
    lone.give(take(SnapshotStep::Over));
    assert_eq!(answers(&mut lone), []);
    // One that is over before its handler has ended: that is ended, and the last word is said.
    lone.give(take(SnapshotStep::Take));
    assert_eq!(answers(&mut lone), [SnapshotAnswer::Begun]);
    lone.give(take(SnapshotStep::Over));
    let last = SnapshotAnswer::GivenUp(SnapshotRefusal::TimeOver);
    assert_eq!(answers(&mut lone), [last]);
    lone.give(take(SnapshotStep::Take));
    let busy = SnapshotAnswer::Refused(SnapshotRefusal::Busy);
    assert_eq!(answers(&mut lone), [busy]);
    lone.give(take(SnapshotStep::Over));
    lone.w.end_handler(0, Handler::Snapshot, 143);
    lone.give(take(SnapshotStep::Take));
    assert_eq!(answers(&mut lone), [SnapshotAnswer::Begun]);
    assert_eq!(lone.w.nodes[0].resource.refused(), 0);
}

#[test]
fn a_peer_that_never_says_that_it_is_over_has_the_handler_ended() {
    let mut lone = lone(2, true);
    lone.give(take(SnapshotStep::Take));
    assert_eq!(answers(&mut lone), [SnapshotAnswer::Begun]);
    lone.w.run_ms(7_000);
    let sent = lone.w.nodes[0].resource.status(lone.w.now).snapshot;
    assert!(sent.is_some(), "no write is taken before it says so");
    let last = SnapshotAnswer::GivenUp(SnapshotRefusal::TimeOver);
    assert!(answers(&mut lone).contains(&last));
}

#[test]
fn what_no_right_peer_says_of_snapshots_ends_the_connection() {
    for step in [SnapshotStep::Take, SnapshotStep::Over] {
        is_refused(lone(3, false), take(step), "it was not agreed on");
    }
    is_refused(lone(3, true), take(SnapshotStep::Over), "there is none");
    for answer in [SnapshotAnswer::Begun, SnapshotAnswer::Ended(0)] {
        is_refused(
            lone(3, true),
            Packet::RdbSnapshotAnswer(answer),
            "nothing was asked",
        );
    }
    let mut begun = lone(4, true);
    begun.give(take(SnapshotStep::Take));
    begun.pump();
    is_refused(begun, take(SnapshotStep::Take), "a second one");
    let mut begun = lone(4, true);
    begun.give(take(SnapshotStep::Take));
    begun.pump();
    let before = begun.w.nodes[0].resource.refused();
    begun.mirror(80, 1, 2);
    begun.pump();
    assert_eq!(
        begun.w.nodes[0].resource.refused(),
        before + 1,
        "a write amid it"
    );
    assert!(begun.w.logged(0, "while its snapshot is taken"));
}
