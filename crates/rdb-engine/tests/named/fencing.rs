//! Fencing: a Primary that has lost its peer, a node that is to become one, and a pair that parts (`docs/spec/behaviour.md`,
//! sections 10 and 13: S18 to S20).

use rdb_engine::config::NetOptions;
use rdb_engine::state::{DiskState, Fencing};
use rdb_engine::{Command, Handler};
use rdb_sim::scenario::code;
use rdb_sim::{V, World};

/// A pair in sync, `a` Primary, with this policy and a `fence-peer` on both nodes.
pub(crate) fn pair(seed: u64, fencing: Fencing) -> World {
    let mut w = World::new(seed);
    w.disk_options.fencing = fencing;
    w.resource_options.handlers = [Handler::FencePeer, Handler::UnfencePeer]
        .into_iter()
        .collect();
    w.connect_fresh(&NetOptions::default());
    w.primary(0, true).unwrap();
    w.wait_synced();
    w.write_blocks(0, [0], 1);
    w.quiet();
    for i in 0..2 {
        while let Some(asked) = w.nodes[i].asked.first().copied() {
            w.end_handler(i, asked.handler, 0);
        }
    }
    w
}

/// The link is cut while writes are on their way, and one comes after it; they do not end.
fn frozen(seed: u64) -> (World, Vec<u64>) {
    let mut w = pair(seed, Fencing::ResourceAndStonith);
    let mut writes: Vec<u64> = (0..4)
        .map(|n| w.write(0, 80 + 8 * n, vec![2; 4096]))
        .collect();
    w.run_ms(seed % 3);
    w.cut();
    writes.retain(|id| !w.nodes[0].completed.contains_key(id));
    w.until("the fence handler", |w| !w.nodes[0].asked.is_empty());
    writes.push(w.write(0, 800, vec![3; 4096]));
    w.run_ms(3_000);
    assert_eq!(w.is(0), "WFConnection P/? U/-");
    assert!(w.nodes[0].state().susp_fen);
    assert!(!done(&w, &writes), "a write has ended while frozen");
    (w, writes)
}

fn done(w: &World, writes: &[u64]) -> bool {
    writes
        .iter()
        .any(|id| w.nodes[0].completed.contains_key(id))
}

fn all_end(w: &mut World, writes: Vec<u64>) {
    for id in writes {
        assert!(w.wait_done(0, id).is_ok());
    }
}

#[test]
fn s20_frozen_until_the_peer_is_fenced() {
    for exit in [4, 5, 7] {
        for seed in 0..6 {
            let (mut w, writes) = frozen(seed);
            let before = w.gi(0)[0];
            w.end_handler(0, Handler::FencePeer, exit);
            all_end(&mut w, writes);
            assert_eq!(w.is(0), "WFConnection P/? U/O");
            assert!(!w.nodes[0].state().is_suspended());
            let [current, bitmap, ..] = w.gi(0);
            assert!(
                current != before && bitmap == before,
                "no generation of its own"
            );
            w.heal();
            w.ends_well();
            w.until("to be unfenced", |w| {
                let mut asked = w.nodes[0].asked.iter();
                asked.any(|asked| asked.handler == Handler::UnfencePeer)
            });
        }
    }
}

#[test]
fn s20_a_broken_handler_leaves_it_frozen_and_the_peer_thaws_it() {
    for exit in [0_i32, 1, 2, 8, 127, 137] {
        let (mut w, writes) = frozen(u64::from(exit.unsigned_abs()));
        let before = w.gi(0);
        w.end_handler(0, Handler::FencePeer, exit);
        w.run_ms(1_000);
        assert!(w.nodes[0].state().susp_fen && !done(&w, &writes), "{exit}");
        w.forget();
        w.copied(0);
        w.heal();
        w.both("Connected P/S U/U", "Connected S/P U/U");
        all_end(&mut w, writes);
        assert_eq!(w.gi(0), before, "it came back as it was");
        assert_eq!(w.copied(0), 0, "nothing is synced that is sent again");
        w.ends_well();
    }
}

#[test]
fn s20_an_answer_that_comes_after_the_peer_is_ignored() {
    let (mut w, writes) = frozen(1);
    w.heal();
    w.both("Connected P/S U/U", "Connected S/P U/U");
    all_end(&mut w, writes);
    w.end_handler(0, Handler::FencePeer, 4);
    w.run_ms(100);
    assert_eq!(w.is(0), "Connected P/S U/U");
    assert!(w.logged(0, "Ignoring fence-peer exit code"));
    w.ends_well();
}

#[test]
fn s20_a_peer_that_was_down_is_synced() {
    for seed in 0..6 {
        let (mut w, writes) = frozen(seed);
        w.off(1);
        w.heal();
        w.boot(1);
        assert_eq!(w.is(1), "StandAlone S/? C/-");
        w.connect(1);
        w.until("the attempt to be given up", |w| {
            w.logged(
                0,
                "Aborting Connect, can not thaw IO with an only Consistent peer",
            )
        });
        all_end(&mut w, writes);
        w.ends_well();
    }
}

#[test]
fn s20_the_administrator_thaws_it() {
    for seed in 0..6 {
        let (mut w, writes) = frozen(seed);
        let before = w.gi(0)[0];
        w.admin(0, Command::ResumeIo { volume: V }).unwrap();
        all_end(&mut w, writes);
        assert!(w.gi(0)[0] != before && w.gi(0)[1] == before);
        assert_eq!(w.is(0), "WFConnection P/? U/-");
        w.heal();
        w.ends_well();
    }
}

#[test]
fn s20_it_is_lost_again_before_it_has_what_was_frozen() {
    for seed in 0..20 {
        let (mut w, writes) = frozen(seed);
        w.end_handler(0, Handler::FencePeer, 1);
        w.heal();
        w.until("Connected", |w| w.is(0) == "Connected P/S U/U");
        w.run_ms(seed % 2);
        w.cut();
        w.until("the next handler", |w| !w.nodes[0].asked.is_empty());
        w.end_handler(0, Handler::FencePeer, 7);
        all_end(&mut w, writes);
        w.heal();
        w.ends_well();
    }
}

#[test]
fn resource_only_goes_on_at_once() {
    let mut w = pair(7, Fencing::ResourceOnly);
    let before = w.gi(0)[0];
    w.cut();
    w.write_blocks(0, [80], 2);
    assert_ne!(w.gi(0)[0], before);
    w.until("the handler", |w| !w.nodes[0].asked.is_empty());
    assert_eq!(w.nodes[0].asked.len(), 1);
    w.end_handler(0, Handler::FencePeer, 4);
    assert_eq!(w.is(0), "WFConnection P/? U/O");
    assert!(w.nodes[1].asked.is_empty(), "the Secondary fences nobody");
    w.quiet();
    // On record: after a power cut it goes on alone without asking.
    w.off(0);
    w.boot(0);
    assert_eq!(w.is(0), "StandAlone S/? U/O");
    w.primary(0, false).unwrap();
    w.heal();
    w.connect(0);
    w.ends_well();
}

#[test]
fn s19_a_node_that_is_consistent_only_has_the_peer_fenced_first() {
    for (exit, becomes) in [
        (4, "StandAlone P/? U/O"),
        (7, "StandAlone P/? U/O"),
        (3, "StandAlone P/? U/I"),
        (5, "StandAlone S/? C/-"),
        (6, "StandAlone S/? O/-"),
        (0, "StandAlone S/? C/-"),
        (1, "StandAlone S/? C/-"),
    ] {
        let mut w = pair(8, Fencing::ResourceOnly);
        w.off(0);
        w.off(1);
        w.boot(1);
        assert_eq!(w.is(1), "StandAlone S/? C/-");
        let id = w.start_admin(
            1,
            Command::Primary {
                volume: V,
                force: false,
            },
        );
        w.until("the handler", |w| !w.nodes[1].asked.is_empty());
        w.end_handler(1, Handler::FencePeer, exit);
        w.until("the answer", |w| w.nodes[1].admin.contains_key(&id));
        let answer = w.nodes[1].admin.remove(&id).unwrap();
        assert_eq!(w.is(1), becomes, "{exit}");
        assert_eq!(
            answer.is_ok(),
            w.nodes[1].state().role == rdb_engine::state::Role::Primary
        );
        assert!(w.nodes[1].asked.is_empty(), "it is asked once");
    }
}

#[test]
fn s19_two_that_were_down_need_nobody_fenced() {
    let mut w = pair(9, Fencing::ResourceOnly);
    w.off(0);
    w.off(1);
    for i in 0..2 {
        w.boot(i);
        w.connect(i);
    }
    w.until("both", |w| w.synced(0));
    let asked = |w: &World| {
        w.nodes
            .iter()
            .any(|n| n.asked.iter().any(|a| a.handler == Handler::FencePeer))
    };
    assert!(!asked(&w));
    w.primary(1, false).unwrap();
    w.ends_well();
}

#[test]
fn a_promotion_without_a_handler_is_refused() {
    let mut w = pair(10, Fencing::ResourceOnly);
    w.cut();
    w.quiet();
    let none = Command::ResourceOptions {
        options: Default::default(),
    };
    w.admin(1, none).unwrap();
    assert_eq!(code(w.primary(1, false)), -7);
    w.primary(1, true).unwrap();
    assert!(w.logged(1, "Forced into split brain situation!"));
    assert_eq!(w.is(1), "WFConnection P/? U/O");
}

#[test]
fn s18_who_parts_is_outdated() {
    // The Secondary goes: it outdates itself.
    let mut w = pair(11, Fencing::ResourceOnly);
    w.disconnect(1).unwrap();
    w.both("WFConnection P/? U/O", "StandAlone S/? O/-");
    assert!(
        w.nodes[0].asked.is_empty(),
        "nobody is fenced who says good-bye"
    );
    assert_eq!(code(w.primary(1, false)), -2);
    w.write_blocks(0, [80], 2);
    w.connect(1);
    w.ends_well();

    // The Primary goes: it has the peer outdated.
    let mut w = pair(12, Fencing::ResourceAndStonith);
    w.disconnect(0).unwrap();
    w.both("StandAlone P/? U/O", "WFConnection S/? O/-");
    assert!(!w.nodes[0].state().is_suspended() && w.nodes[0].asked.is_empty());
    w.write_blocks(0, [80], 2);
    w.connect(0);
    w.ends_well();

    // Nothing of that without fencing.
    let mut w = pair(13, Fencing::DontCare);
    w.disconnect(1).unwrap();
    w.both("WFConnection P/? U/-", "StandAlone S/? U/-");
}

#[test]
fn a_node_that_is_fenced_does_not_acknowledge_what_the_other_lacks() {
    for seed in 0..10 {
        let (mut w, writes) = frozen(seed);
        w.end_handler(0, Handler::FencePeer, 6);
        // The other one takes over: it has `a` fenced, truthfully.
        let id = w.start_admin(
            1,
            Command::Primary {
                volume: V,
                force: false,
            },
        );
        w.until("its handler", |w| !w.nodes[1].asked.is_empty());
        w.off(0);
        w.end_handler(1, Handler::FencePeer, 7);
        w.until("the answer", |w| w.nodes[1].admin.contains_key(&id));
        assert_eq!(w.is(1), "WFConnection P/? U/O");
        w.write_blocks(1, [1600], 5);
        w.heal();
        w.boot(0);
        w.connect(0);
        w.until("both", |w| w.synced(0));
        assert!(!done(&w, &writes));
        w.quiet();
        assert!(w.disks_equal());
    }
}

#[test]
fn the_peer_is_on_record_as_outdated_before_io_goes_on() {
    for seed in 0..6 {
        let (mut w, writes) = frozen(seed);
        w.end_handler(0, Handler::FencePeer, 4);
        all_end(&mut w, writes);
        w.off(0);
        w.boot(0);
        assert_eq!(w.nodes[0].state().pdsk, DiskState::Outdated);
        w.primary(0, false).unwrap();
    }
}

/// (L47) It comes back without the disk that has the name of ours, and lacks what was frozen.
#[test]
fn a_peer_that_comes_back_without_its_disk_is_not_taken_for_what_it_was() {
    for seed in 0..10 {
        let (mut w, writes) = frozen(seed);
        w.detach(1, true).unwrap();
        let before = w.gi(0)[0];
        w.heal();
        w.until("the peer", |w| w.is(0) == "Connected P/S U/D");
        all_end(&mut w, writes);
        assert_ne!(w.gi(0)[0], before);
        w.attach(1).unwrap();
        w.ends_well();
    }
}

#[test]
fn what_one_volume_freezes_is_frozen_on_all() {
    let mut w = World::with_volumes(14, &[16_384, 16_384], &[16_384, 16_384]);
    w.disk_options.fencing = Fencing::ResourceAndStonith;
    w.resource_options.handlers = [Handler::FencePeer].into_iter().collect();
    w.connect_fresh(&NetOptions::default());
    w.skip_first_sync();
    for volume in [0, 1] {
        let volume = rdb_engine::VolumeNr(volume);
        let force = false;
        w.admin(0, Command::Primary { volume, force }).unwrap();
    }
    w.quiet();
    let write = |w: &mut World, volume, sector: u64| {
        let payload = rdb_sim::Data(vec![7; 4096].into());
        let kind = rdb_engine::RequestKind::Write {
            payload,
            fua: false,
        };
        w.submit_to(0, volume, sector, 4096, kind)
    };
    for end in 0..2 {
        let sector = 80 + 80 * end;
        let mut writes: Vec<u64> = (0..2).map(|volume| write(&mut w, volume, sector)).collect();
        w.cut();
        writes.retain(|id| !w.nodes[0].completed.contains_key(id));
        writes.extend((0..2).map(|volume| write(&mut w, volume, sector + 8)));
        w.run_ms(2_000);
        assert!((0..2).all(|volume| w.nodes[0].state_of(volume).susp_fen));
        assert!(!done(&w, &writes));
        w.end_handler(0, Handler::FencePeer, if end == 0 { 7 } else { 1 });
        if end == 1 {
            w.heal();
        }
        all_end(&mut w, writes);
        w.heal();
        w.wait_synced();
    }
    w.ends_well();
}

/// (L48) What is acknowledged while the target of a resync is not on record as such would be lost with this node.
#[test]
fn a_source_goes_on_when_its_target_is_on_record_as_one() {
    for seed in 0..10 {
        let (mut w, writes) = frozen(seed);
        w.admin(0, Command::ResumeIo { volume: V }).unwrap();
        all_end(&mut w, writes);
        // Frozen again, as the source of a resync whose target cannot write its record.
        w.heal();
        w.nodes[1].hold_meta = true;
        w.until("the resync", |w| w.is(0).starts_with("SyncSource"));
        w.cut();
        w.run_ms(2_000);
        assert_eq!(w.is(0), "WFConnection P/? U/-");
        let write = w.write(0, 2_400, vec![6; 4096]);
        w.heal();
        w.run_ms(2_000);
        assert!(!w.nodes[0].completed.contains_key(&write), "{}", w.states());
        w.nodes[1].hold_meta = false;
        assert!(w.wait_done(0, write).is_ok());
        w.ends_well();
    }
}

#[test]
fn a_resume_passes_a_demotion_that_waits_for_what_is_frozen() {
    let (mut w, writes) = frozen(2);
    let held_open = false;
    let id = w.start_admin(
        0,
        Command::Secondary {
            volume: V,
            held_open,
        },
    );
    w.run_ms(1_000);
    assert!(!w.nodes[0].admin.contains_key(&id));
    w.admin(0, Command::ResumeIo { volume: V }).unwrap();
    all_end(&mut w, writes);
    w.until("the demotion", |w| w.nodes[0].admin.contains_key(&id));
}

/// (L49) Whoever goes on alone after a graceful parting knows that the other is Outdated on its record.
#[test]
fn who_parts_is_outdated_on_record_before_the_other_goes_on() {
    for who in [0, 1] {
        let mut went_on = 0;
        for seed in 0..20 {
            let mut w = pair(seed, Fencing::ResourceAndStonith);
            w.start_admin(who, Command::Disconnect { force: false });
            let goes_on = |w: &World| w.nodes[0].state().pdsk == DiskState::Outdated;
            // (An answer that is overtaken by the end of the connection is none.)
            w.until("the parting", |w| goes_on(w) || w.nodes[0].state().susp_fen);
            if !goes_on(&w) {
                continue;
            }
            w.off(1);
            w.boot(1);
            assert_eq!(w.nodes[1].state().disk, DiskState::Outdated);
            went_on += 1;
        }
        assert!(went_on > 0);
    }
}

/// (L49) A Primary that parts and hears no answer has a peer that may go on.
#[test]
fn an_end_without_an_answer_is_a_lost_peer() {
    let mut w = pair(15, Fencing::ResourceAndStonith);
    w.hold_net = true;
    let id = w.start_admin(0, Command::Disconnect { force: false });
    w.run_ms(1);
    w.cut();
    w.hold_net = false;
    w.until("the end", |w| w.nodes[0].admin.contains_key(&id));
    assert_eq!(w.is(0), "StandAlone P/? U/-");
    assert!(w.nodes[0].state().susp_fen);
    w.end_handler(0, Handler::FencePeer, 4);
    assert_eq!(w.is(0), "StandAlone P/? U/O");
}

/// (L48) The target of a full sync keeps its data until its source begins, which may die before.
#[test]
fn a_target_that_keeps_its_data_is_no_fenced_peer() {
    let met = (0..40).any(|seed| {
        let mut w = pair(seed, Fencing::ResourceAndStonith);
        w.start_admin(0, Command::Invalidate { volume: V });
        w.until("the order", |w| w.is(1).starts_with("StartingSyncS"));
        for _ in 0..seed {
            w.step();
        }
        let kept = w.nodes[0].state().disk == DiskState::UpToDate;
        w.off(1);
        w.run_ms(2_000);
        w.boot(1);
        let (own, other) = (w.nodes[0].state(), w.nodes[1].state());
        let goes_on = own.disk == DiskState::UpToDate;
        assert!(
            !goes_on || other.pdsk != DiskState::Outdated,
            "seed {seed}: {}",
            w.states()
        );
        kept && goes_on
    });
    assert!(met);
}

/// Both connect, and the connection breaks when `b` has finished the handshake and `a` has not. Says whether it came to that.
fn half_connected(w: &mut World) -> bool {
    w.heal();
    w.until("the handshake of b", |w| w.is(1).starts_with("Connected"));
    let half = w.is(0).starts_with("WFReportParams");
    w.cut();
    w.until("the loss", |w| w.is(0).starts_with("WFConnection"));
    half
}

/// (L50) The peer may have finished a handshake that this node has not: it is as good as it ever was.
#[test]
fn an_answer_of_before_half_a_handshake_is_ignored_and_asked_for_anew() {
    let mut met = 0;
    for seed in 0..20 {
        let (mut w, writes) = frozen(seed);
        w.admin(1, Command::Outdate { volume: V }).unwrap();
        if !half_connected(&mut w) {
            continue;
        }
        assert_eq!(w.nodes[1].state().disk, DiskState::UpToDate);
        w.end_handler(0, Handler::FencePeer, 4);
        w.run_ms(1_000);
        assert!(w.nodes[0].state().susp_fen, "{}", w.states());
        assert!(!done(&w, &writes));
        assert_eq!(w.nodes[0].asked.len(), 1, "it is asked again");
        w.end_handler(0, Handler::FencePeer, 7);
        all_end(&mut w, writes);
        w.heal();
        w.ends_well();
        met += 1;
    }
    assert!(met > 0);
}

/// An answer is of the loss before: the peer has been there since, and is lost again.
#[test]
fn s20_a_peer_that_is_lost_again_is_fenced_again() {
    let (mut w, writes) = frozen(3);
    w.heal();
    w.both("Connected P/S U/U", "Connected S/P U/U");
    all_end(&mut w, writes);
    w.cut();
    w.until("the loss", |w| w.nodes[0].state().susp_fen);
    w.end_handler(0, Handler::FencePeer, 4);
    w.run_ms(100);
    assert!(w.logged(0, "Ignoring fence-peer exit code"));
    assert!(w.nodes[0].state().susp_fen);
    w.end_handler(0, Handler::FencePeer, 4);
    w.until("to go on", |w| !w.nodes[0].state().is_suspended());
    w.heal();
    w.ends_well();
}

/// (L50) A peer that is Outdated, and has finished a handshake that this node has not, is Outdated no more.
#[test]
fn a_peer_that_is_outdated_is_so_until_it_may_have_met_us() {
    let mut met = 0;
    for seed in 0..20 {
        let mut w = pair(seed, Fencing::ResourceAndStonith);
        w.cut();
        w.until("the handler", |w| !w.nodes[0].asked.is_empty());
        w.secondary(0).unwrap();
        w.admin(1, Command::Outdate { volume: V }).unwrap();
        w.end_handler(0, Handler::FencePeer, 4);
        assert_eq!(w.is(0), "WFConnection S/? U/O");
        if !half_connected(&mut w) {
            continue;
        }
        assert_eq!(w.nodes[1].state().disk, DiskState::UpToDate);
        assert_eq!(w.is(0), "WFConnection S/? U/-", "seed {seed}");
        met += 1;
    }
    assert!(met > 0);
}

/// Whoever is demoted while frozen has written nothing, and no generation of its own.
#[test]
fn a_frozen_primary_that_is_demoted_can_be_taken_over_from() {
    let mut w = pair(16, Fencing::ResourceAndStonith);
    w.quiet();
    let before = w.gi(0)[0] & !1;
    w.cut();
    w.until("the handler", |w| w.nodes[0].state().susp_fen);
    w.secondary(0).unwrap();
    w.quiet();
    assert_eq!(w.gi(0)[0] & !1, before, "a generation of nothing");
    let force = false;
    let id = w.start_admin(1, Command::Primary { volume: V, force });
    w.until("its handler", |w| !w.nodes[1].asked.is_empty());
    w.admin(0, Command::Outdate { volume: V }).unwrap();
    w.end_handler(1, Handler::FencePeer, 4);
    w.until("the answer", |w| w.nodes[1].admin.contains_key(&id));
    w.write_blocks(1, [80], 2);
    w.heal();
    w.ends_well();
}

/// The second node attaches its disk, and the link goes while that is negotiated.
fn negotiation_breaks_off(w: &mut World) {
    w.hold_net = true;
    let attach = w.attach_command(1, 0);
    w.start_admin(1, attach);
    let negotiates = |w: &World| w.nodes[1].state().disk == DiskState::Negotiating;
    w.until("the negotiation", negotiates);
    w.cut();
    w.hold_net = false;
}

/// (L51) Of a peer that had no disk here nobody knows what its disk is.
#[test]
fn a_peer_without_a_disk_is_no_fenced_one_when_a_negotiation_breaks_off() {
    for seed in 0..10 {
        let mut w = pair(seed, Fencing::ResourceAndStonith);
        w.secondary(0).unwrap();
        w.quiet();
        for i in [1, 0] {
            w.detach(i, true).unwrap();
            w.quiet();
        }
        negotiation_breaks_off(&mut w);
        w.node_is(1, "WFConnection S/? C/-");
    }
}

/// (L51) One that was Outdated is UpToDate as soon as it has met the disk that is attached.
#[test]
fn a_peer_that_was_outdated_is_no_fenced_one_when_a_negotiation_breaks_off() {
    for seed in 0..10 {
        let mut w = pair(seed, Fencing::ResourceAndStonith);
        w.secondary(0).unwrap();
        w.quiet();
        // The disk of `a` comes while that of `b` goes: it stays as it was on record.
        w.detach(0, false).unwrap();
        w.quiet();
        w.detach(1, true).unwrap();
        w.quiet();
        w.attach(0).unwrap();
        w.node_is(1, "Connected S/S D/O");
        negotiation_breaks_off(&mut w);
        w.node_is(1, "WFConnection S/? C/-");
    }
}

/// (L52) What was known of the peer while this node had no disk tells nothing of whether it can go on.
#[test]
fn a_disk_that_comes_back_alone_knows_nothing_of_the_peer() {
    let mut met = 0;
    for seed in 0..20 {
        let mut w = pair(seed, Fencing::ResourceAndStonith);
        w.cut();
        w.until("the handler", |w| !w.nodes[0].asked.is_empty());
        w.end_handler(0, Handler::FencePeer, 7);
        w.write_blocks(0, [80], 2);
        w.secondary(0).unwrap();
        w.quiet();
        w.heal();
        w.until("the bitmaps", |w| w.is(0).starts_with("WFBitMapS"));
        w.detach(0, true).unwrap();
        if w.nodes[0].state().pdsk != DiskState::Outdated {
            continue;
        }
        w.cut();
        w.until("the loss", |w| w.is(0).starts_with("WFConnection"));
        w.attach(0).unwrap();
        assert_eq!(w.is(0), "WFConnection S/? C/-", "seed {seed}");
        met += 1;
    }
    assert!(met > 0);
}

/// The command ends when that is on record, also if the disk was Outdated before, and nobody has written that down.
#[test]
fn a_disk_that_is_outdated_already_is_so_on_record_before_the_command_ends() {
    let mut met = 0;
    for seed in 0..10 {
        let mut w = pair(seed, Fencing::ResourceAndStonith);
        w.cut();
        w.until("the handler", |w| !w.nodes[0].asked.is_empty());
        w.end_handler(0, Handler::FencePeer, 7);
        w.write_blocks(0, [80], 2);
        w.quiet();
        w.heal();
        w.until("the handshake", |w| w.is(1).starts_with("WFReportParams"));
        w.nodes[1].hold_meta = true;
        w.until("the bitmaps", |w| w.is(1).starts_with("WFBitMapT"));
        w.cut();
        assert_eq!(w.nodes[1].state().disk, DiskState::Outdated);
        let id = w.start_admin(1, Command::Outdate { volume: V });
        w.run_ms(1_000);
        assert!(!w.nodes[1].admin.contains_key(&id), "it is not on record");
        w.nodes[1].hold_meta = false;
        w.until("the answer", |w| w.nodes[1].admin.contains_key(&id));
        w.off(1);
        w.boot(1);
        assert_eq!(w.nodes[1].state().disk, DiskState::Outdated);
        met += 1;
    }
    assert!(met > 0);
}

/// (L53) The disk of a Primary that came while it was alone is good by the word of a peer that is away again: what is written since is
/// on no other disk, and has a name of its own.
#[test]
fn what_a_primary_writes_before_its_peer_has_begun_to_sync_is_not_lost() {
    let mut met = 0;
    for seed in 0..30 {
        let mut w = pair(seed, Fencing::ResourceOnly);
        w.cut_silently();
        w.detach(0, true).unwrap();
        w.off(1);
        w.until("the loss", |w| w.is(0).starts_with("WFConnection"));
        w.attach(0).unwrap();
        assert_eq!(w.is(0), "WFConnection P/? C/-");
        w.boot(1);
        w.heal();
        w.connect(1);
        w.until("the handshake", |w| w.is(0).starts_with("WFBitMapS"));
        if !w.is(1).starts_with("WFReportParams") {
            continue;
        }
        w.cut_silently();
        let write = w.write(0, 80, vec![7; 4096]);
        w.run_ms(20);
        if !w.nodes[0].completed.contains_key(&write) {
            continue;
        }
        assert!(w.wait_done(0, write).is_ok());
        w.flush(0);
        w.off(0);
        w.off(1);
        w.boot(1);
        let force = false;
        let id = w.start_admin(1, Command::Primary { volume: V, force });
        w.until("its handler", |w| !w.nodes[1].asked.is_empty());
        w.end_handler(1, Handler::FencePeer, 7);
        w.until("the answer", |w| w.nodes[1].admin.contains_key(&id));
        w.boot(0);
        w.heal();
        w.connect(0);
        w.connect(1);
        // Both have a generation of their own, and an administrator decides.
        let splits = |w: &World, i| w.logged(i, "Split-Brain detected but unresolved");
        w.until("the refusal", |w| splits(w, 0) || splits(w, 1));
        assert!(w.nodes[0].disks[0].read(80, 4096) == vec![7; 4096]);
        met += 1;
    }
    assert!(met > 0);
}

/// (L55) The peer's disk was detached, and is as good by its record as when it was: nobody has outdated it.
#[test]
fn a_primary_does_not_part_by_itself_from_a_peer_without_a_disk() {
    for policy in [Fencing::ResourceOnly, Fencing::ResourceAndStonith] {
        let mut w = pair(5, policy);
        w.detach(1, true).unwrap();
        w.both("Connected P/S U/D", "Connected S/P D/U");
        w.quiet();
        let part = |force| Command::Disconnect { force };
        assert_eq!(code(w.admin(0, part(false))), -7);
        assert_eq!(w.is(0), "Connected P/S U/D");
        // Whoever forces it has the peer fenced, as when it is lost.
        w.admin(0, part(true)).unwrap();
        assert_eq!(w.is(0), "StandAlone P/? U/-");
        let freezes = policy == Fencing::ResourceAndStonith;
        assert_eq!(w.nodes[0].state().susp_fen, freezes);
        w.until("the fence handler", |w| !w.nodes[0].asked.is_empty());
        w.end_handler(0, Handler::FencePeer, 7);
        w.until("the peer's end", |w| w.is(0) == "StandAlone P/? U/O");
        w.write_blocks(0, [7], 3);
    }
}

/// A resync that is paused before it begins does not keep users waiting for as long as the pause lasts.
#[test]
fn a_target_that_is_paused_from_the_start_tells_that_it_is_one() {
    let mut w = pair(6, Fencing::ResourceAndStonith);
    w.cut();
    w.until("the fence handler", |w| !w.nodes[0].asked.is_empty());
    w.end_handler(0, Handler::FencePeer, 7);
    w.until("the peer's end", |w| w.is(0) == "WFConnection P/? U/O");
    w.write_blocks(0, [9], 3);
    w.heal();
    w.until("the resync's begin", |w| w.is(0).starts_with("WFBitMapS"));
    w.admin(0, Command::PauseSync { volume: V }).unwrap();
    w.both("PausedSyncS P/S U/I", "PausedSyncT S/P I/U");
    w.write_blocks(0, [11], 4);
    w.run_ms(3_000);
    assert_eq!(w.is(0), "PausedSyncS P/S U/I");
    w.admin(0, Command::ResumeSync { volume: V }).unwrap();
    w.ends_well();
}
