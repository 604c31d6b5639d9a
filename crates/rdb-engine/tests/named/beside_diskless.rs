//! (L54) Fencing, and a peer that is there without its disk: what it lacks may be newer than what this node has.

use rdb_engine::config::NetOptions;
use rdb_engine::state::{DiskState, Fencing, Role};
use rdb_engine::{Command, Handler};
use rdb_sim::{V, World};

/// Both were down: `a` is back without its disk, `b` with one that is Consistent only.
fn met(seed: u64, fencing: Fencing) -> World {
    let mut w = World::new(seed);
    w.disk_options.fencing = fencing;
    w.resource_options.handlers = [Handler::FencePeer].into_iter().collect();
    w.connect_fresh(&NetOptions::default());
    w.primary(0, true).unwrap();
    w.wait_synced();
    w.write_blocks(0, [0], 1);
    w.quiet();
    w.off(0);
    w.off(1);
    w.boot(0);
    w.detach(0, true).unwrap();
    w.boot(1);
    for i in 0..2 {
        w.connect(i);
    }
    w.until("the handshake", |w| {
        w.is(0).starts_with("Connected") && w.is(1).starts_with("Connected")
    });
    w.quiet();
    w
}

fn promote(w: &mut World, i: usize, force: bool) -> u64 {
    w.start_admin(i, Command::Primary { volume: V, force })
}

fn is_promoted(w: &mut World, i: usize, id: u64) -> bool {
    w.until("the answer", |w| w.nodes[i].admin.contains_key(&id));
    let answer = w.nodes[i].admin.remove(&id).unwrap();
    let is_primary = w.nodes[i].state().role == Role::Primary;
    assert_eq!(answer.is_ok(), is_primary, "{answer:?}");
    is_primary
}

#[test]
fn a_node_that_is_consistent_only_asks_before_it_goes_on() {
    for policy in [Fencing::ResourceOnly, Fencing::ResourceAndStonith] {
        for exit in 0..9 {
            let mut w = met(3, policy);
            assert_eq!(w.is(1), "Connected S/S C/D");
            assert_eq!(w.is(0), "Connected S/S D/C");
            let id = promote(&mut w, 1, false);
            w.until("the handler", |w| !w.nodes[1].asked.is_empty());
            w.end_handler(1, Handler::FencePeer, exit);
            let promoted = is_promoted(&mut w, 1, id);
            assert_eq!(promoted, matches!(exit, 3 | 4 | 7), "{exit}");
            assert!(w.nodes[1].asked.is_empty(), "it is asked once");
            if !promoted {
                assert_eq!(w.is(1), "Connected S/S C/D", "{exit}");
                continue;
            }
            assert_eq!(w.is(1), "Connected P/S U/D");
            w.write_blocks(1, [80], 2);
            w.quiet();
            assert_eq!(w.is(0), "Connected S/P D/U");
            w.attach(0).unwrap();
            w.node_is(1, "Connected P/S U/U");
            w.ends_well();
        }
    }
}

#[test]
fn without_fencing_it_goes_on_as_a_drbd_does() {
    let mut w = met(4, Fencing::DontCare);
    assert_eq!(w.is(1), "Connected S/S U/D");
    w.primary(1, false).unwrap();
}

#[test]
fn who_forces_it_is_not_asked() {
    let mut w = met(5, Fencing::ResourceAndStonith);
    let id = promote(&mut w, 1, true);
    assert!(is_promoted(&mut w, 1, id));
    assert!(w.nodes[1].asked.is_empty());
    assert_eq!(w.is(1), "Connected P/S U/D");
}

/// That the peer cannot be reached (5) is no reason, whatever another volume's disk is: what is concluded holds for all volumes.
#[test]
fn a_good_volume_makes_no_other_one_good() {
    let mut w = World::with_volumes(11, &[16_384, 16_384], &[16_384, 16_384]);
    w.disk_options.fencing = Fencing::ResourceOnly;
    w.resource_options.handlers = [Handler::FencePeer].into_iter().collect();
    w.connect_fresh(&NetOptions::default());
    w.skip_first_sync();
    w.quiet();
    let volume = rdb_engine::VolumeNr(1);
    let force = true;
    w.admin(0, Command::Detach { volume, force }).unwrap();
    w.quiet();
    w.cut();
    w.until("the loss", |w| w.is(1).starts_with("WFConnection"));
    w.admin(1, Command::Detach { volume, force }).unwrap();
    w.quiet();
    let attach = w.attach_command(1, 1);
    w.admin(1, attach).unwrap();
    w.heal();
    w.until("the handshake", |w| w.is(1).starts_with("Connected"));
    w.quiet();
    assert_eq!(w.nodes[1].state_of(0).disk, DiskState::UpToDate);
    assert_eq!(w.nodes[1].state_of(1).disk, DiskState::Consistent);
    let force = false;
    let id = w.start_admin(1, Command::Primary { volume, force });
    w.until("the handler", |w| !w.nodes[1].asked.is_empty());
    w.end_handler(1, Handler::FencePeer, 5);
    w.until("the answer", |w| w.nodes[1].admin.contains_key(&id));
    assert!(w.nodes[1].admin.remove(&id).unwrap().is_err());
    assert_eq!(w.nodes[1].state_of(1).disk, DiskState::Consistent);
}

/// Without fencing from now on it needs nobody's word, and the peer does not ask for one.
#[test]
fn who_gives_the_policy_up_goes_on() {
    let mut w = met(12, Fencing::ResourceAndStonith);
    let mut options = w.disk_options.clone();
    options.fencing = Fencing::DontCare;
    w.admin(1, Command::DiskOptions { volume: V, options })
        .unwrap();
    w.primary(1, false).unwrap();
    assert_eq!(w.is(1), "Connected P/S U/D");
}

/// A node without a disk has no policy of its own: the one whose disk it would use refuses.
#[test]
fn nor_can_the_peer_go_on_with_that_disk() {
    let mut w = met(6, Fencing::ResourceAndStonith);
    let id = promote(&mut w, 0, false);
    assert!(!is_promoted(&mut w, 0, id));
    assert_eq!(w.is(1), "Connected S/S C/D");
}

#[test]
fn the_peers_disk_is_word_enough() {
    let mut w = met(7, Fencing::ResourceAndStonith);
    w.attach(0).unwrap();
    w.node_is(1, "Connected S/S U/U");
    assert!(w.nodes[1].asked.is_empty());
    w.primary(1, false).unwrap();
    w.ends_well();
}

/// What the users of a peer that is Primary see is what it has seen itself.
#[test]
fn beside_a_primary_it_is_good() {
    let mut w = met(8, Fencing::DontCare);
    w.primary(0, false).unwrap();
    w.off(1);
    w.disk_options.fencing = Fencing::ResourceAndStonith;
    w.boot(1);
    w.connect(1);
    w.until("the handshake", |w| w.is(1).starts_with("Connected"));
    assert_eq!(w.is(1), "Connected S/P U/D");
}

/// The link goes while the handler runs: what it says then is of a peer that was there.
#[test]
fn an_answer_of_before_a_loss_is_ignored() {
    let mut w = met(9, Fencing::ResourceAndStonith);
    let id = promote(&mut w, 1, false);
    w.until("the handler", |w| !w.nodes[1].asked.is_empty());
    w.cut();
    w.until("the loss", |w| w.is(1).starts_with("WFConnection"));
    w.end_handler(1, Handler::FencePeer, 4);
    assert!(!is_promoted(&mut w, 1, id));
    assert_eq!(w.is(1), "WFConnection S/? C/-");
}

/// It can be called old, which the peer is told of.
#[test]
fn it_can_be_outdated() {
    let mut w = met(10, Fencing::ResourceAndStonith);
    let id = w.start_admin(1, Command::Outdate { volume: V });
    w.until("the answer", |w| w.nodes[1].admin.contains_key(&id));
    assert!(w.nodes[1].admin.remove(&id).unwrap().is_ok());
    w.node_is(1, "Connected S/S O/D");
    w.node_is(0, "Connected S/S D/O");
    let id = promote(&mut w, 1, false);
    assert!(!is_promoted(&mut w, 1, id));
    assert!(w.nodes[1].asked.is_empty());
}
