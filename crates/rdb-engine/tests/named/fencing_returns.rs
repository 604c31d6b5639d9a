//! A peer that comes back to a frozen Primary, was down, and lacks nothing (L57); and one that parted, and did not hear the answer (L49).

use rdb_engine::state::{DiskState, Fencing};
use rdb_engine::{Command, Handler};
use rdb_sim::{V, World};

use crate::fencing::pair;

/// The Primary is frozen, and its peer, which has all of its data, was down meanwhile and knows nothing of the Primary's.
fn with_nothing_frozen(seed: u64) -> World {
    let mut w = pair(seed, Fencing::ResourceAndStonith);
    w.quiet();
    w.off(1);
    w.until("the handler", |w| w.nodes[0].state().susp_fen);
    w.end_handler(0, Handler::FencePeer, 1);
    w.boot(1);
    assert_eq!(w.is(1), "StandAlone S/? C/-");
    w
}

/// (L57) A peer that was down lacks nothing if nothing is frozen: it gets no generation, which would be a fork of what the peer goes
/// on with when this node is demoted, and has written nothing.
#[test]
fn a_peer_that_was_down_and_lacks_nothing_is_taken_for_what_it_was() {
    let mut w = with_nothing_frozen(17);
    let before = w.gi(0);
    let write = w.write(0, 800, vec![3; 4096]);
    w.copied(0);
    w.connect(1);
    w.both("Connected P/S U/U", "Connected S/P U/U");
    assert!(w.wait_done(0, write).is_ok());
    assert_eq!(w.gi(0), before);
    assert_eq!(w.copied(0), 0, "nothing is synced");
    assert!(!w.logged(0, "Aborting Connect"));
    w.ends_well();
}

/// (L57) The same, and the link breaks again before users go on, or after.
#[test]
fn who_was_frozen_beside_a_peer_that_lacks_nothing_can_be_taken_over_from() {
    for steps in 0..60 {
        let mut w = with_nothing_frozen(18);
        w.connect(1);
        w.until("the handshake", |w| w.is(0).starts_with("WFReportParams"));
        for _ in 0..steps {
            w.step();
        }
        w.cut();
        w.until("the loss", |w| w.is(0).starts_with("WFConnection"));
        w.secondary(0).unwrap();
        let force = false;
        let id = w.start_admin(1, Command::Primary { volume: V, force });
        w.until("its handler", |w| !w.nodes[1].asked.is_empty());
        w.admin(0, Command::Outdate { volume: V }).unwrap();
        w.end_handler(1, Handler::FencePeer, 4);
        w.until("the answer", |w| w.nodes[1].admin.contains_key(&id));
        assert_eq!(w.is(1), "WFConnection P/? U/O", "{steps}");
        w.write_blocks(1, [80], 2);
        w.heal();
        w.ends_well();
    }
}

/// (L49) A Secondary that parts and hears no answer may have been answered: the Primary goes on as beside a disk that is Outdated.
#[test]
fn who_parts_and_hears_no_answer_stays_outdated() {
    for seed in 0..6 {
        let mut w = pair(seed, Fencing::ResourceAndStonith);
        let id = w.start_admin(1, Command::Disconnect { force: false });
        w.until("the consent", |w| {
            w.nodes[0].state().pdsk == DiskState::Outdated
        });
        match seed % 2 {
            0 => w.cut_silently(),
            _ => w.cut(),
        }
        w.until("the end", |w| w.nodes[1].admin.contains_key(&id));
        assert_eq!(w.is(1), "StandAlone S/? O/-", "{seed}");
        w.write_blocks(0, [80], 2);
        w.heal();
        w.connect(1);
        w.ends_well();
    }
}
