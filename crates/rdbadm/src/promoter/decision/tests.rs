//! The decision by itself: a table of what follows from what, and two promoters over a modelled pair.

use rdb_control::{DiskState, Role};

use super::*;
use crate::promoter::facts::Link;
use crate::promoter::facts::tests::facts;
use DiskState::{DUnknown, Diskless, Outdated, UpToDate};
use Role::{Primary, Secondary, Unknown};

fn policy() -> Policy {
    Policy {
        services: 2,
        own_rank: 0,
        peer_rank: 0,
        factor: 1.0,
        accepts_split_brain: false,
        stops_on_exit: true,
        escalates: false,
        moves_on_disk_loss: true,
        peer_wait: 60_000,
        peer_lost_wait: 10_000,
        suspended_wait: 300_000,
        daemon_wait: 60_000,
    }
}

fn together(role: Role, peer: Role) -> World {
    World::Up(facts(Link::Connected, (role, peer), (UpToDate, UpToDate)))
}

fn alone(role: Role, peer_disk: DiskState, fences: bool) -> World {
    let mut facts = facts(Link::Awaited, (role, Unknown), (UpToDate, peer_disk));
    facts.fences = fences;
    World::Up(facts)
}

/// A machine, its clock, and what it has done.
struct One {
    machine: Machine,
    now: Ms,
    orders: Orders,
}

impl One {
    fn new(policy: Policy) -> One {
        One {
            machine: Machine::new(policy, Held::default(), true, 7),
            now: 1000,
            orders: Orders::default(),
        }
    }

    /// One whose services all run.
    fn running(policy: Policy) -> One {
        let mut one = One::new(policy);
        one.does(&together(Secondary, Secondary), Next::Promote);
        one.does(&together(Primary, Secondary), Next::Start(0));
        one.does(&together(Primary, Secondary), Next::Start(1));
        one.is(&together(Primary, Secondary), Next::Wait(Why::Runs));
        one
    }

    fn is(&mut self, world: &World, next: Next) {
        assert_eq!(
            self.machine.next(world, self.orders, self.now),
            next,
            "{world:?}"
        );
    }

    fn ends(&mut self, world: &World, next: Next, is_ok: bool) {
        self.is(world, next);
        self.machine.begin(next);
        self.now += 100;
        self.machine.done(next, is_ok, self.now);
    }

    fn does(&mut self, world: &World, next: Next) {
        self.ends(world, next, true);
    }

    fn later(&mut self, ms: Ms) -> &mut One {
        self.now += ms;
        self
    }

    /// Its services are stopped for this reason, and it is demoted where it is still Primary.
    fn gives_up(&mut self, world: &World, reason: Reason) {
        self.is(world, Next::Stop(1));
        assert_eq!(self.machine.gives_up(), Some(reason));
        self.does(world, Next::Stop(1));
        self.does(world, Next::Stop(0));
        let demotes = matches!(world, World::Up(facts) if facts.is_partly_primary());
        if demotes {
            self.does(world, Next::Demote);
        }
    }
}

#[test]
fn a_node_alone_goes_on_only_when_the_peer_cannot() {
    // Without fencing never.
    let mut one = One::new(policy());
    let blind = alone(Secondary, DUnknown, false);
    let not_fenced = Next::Wait(Why::Obstacle(Obstacle::NotFenced));
    one.is(&blind, not_fenced);
    one.later(1_000_000).is(&blind, not_fenced);
    // One that is known to be old is not waited for.
    one.is(&alone(Secondary, Outdated, false), Next::Promote);

    // With it, or where split brain is accepted, after a wait: a long one for a peer that was not there yet, a short one for one
    // that was.
    let accepts = Policy {
        accepts_split_brain: true,
        ..policy()
    };
    for (policy, world) in [
        (policy(), alone(Secondary, DUnknown, true)),
        (accepts, blind),
    ] {
        let mut one = One::new(policy);
        one.is(&world, Next::Wait(Why::AwaitsPeer));
        one.later(59_000).is(&world, Next::Wait(Why::AwaitsPeer));
        one.later(1000).is(&world, Next::Promote);
        one.is(
            &together(Secondary, Primary),
            Next::Wait(Why::Obstacle(Obstacle::PeerIsPrimary)),
        );
        one.is(&world, Next::Wait(Why::AwaitsPeer));
        one.later(10_000).is(&world, Next::Promote);
        // A daemon that was started anew has lost nobody.
        one.is(&World::NoDaemon, Next::Wait(Why::NoDaemon));
        one.later(100).is(&world, Next::Wait(Why::AwaitsPeer));
        one.later(10_000).is(&world, Next::Wait(Why::AwaitsPeer));
        one.later(50_000).is(&world, Next::Promote);
    }
}

#[test]
fn the_better_node_goes_first() {
    for (rank, link_disks, wait) in [
        (0, (UpToDate, UpToDate), 0),
        (1, (UpToDate, UpToDate), 2000),
        (0, (DiskState::Inconsistent, UpToDate), 3000),
        (2, (Diskless, UpToDate), 10_000),
    ] {
        let mut one = One::new(Policy {
            own_rank: rank,
            factor: 2.0,
            ..policy()
        });
        let world = World::Up(facts(Link::Connected, (Secondary, Secondary), link_disks));
        if wait > 0 {
            one.is(&world, Next::Wait(Why::AwaitsTurn));
            one.later(2 * wait - 1)
                .is(&world, Next::Wait(Why::AwaitsTurn));
            one.later(1);
        }
        one.is(&world, Next::Promote);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: what follows from what")]
fn what_runs_comes_down_for_each_of_these_reasons() {
    let primary = together(Primary, Secondary);
    let frozen = |returns: bool| {
        let mut facts = facts(Link::Awaited, (Primary, Unknown), (UpToDate, DUnknown));
        facts.is_frozen = !returns;
        facts.is_returning = returns;
        if returns {
            facts.volumes[0].role = Secondary;
        }
        World::Up(facts)
    };
    let no_disk =
        |peer_disk, link| World::Up(facts(link, (Primary, Secondary), (Diskless, peer_disk)));
    type Given = (World, Orders, Ms, Option<Reason>);
    let none = Orders::default();
    let cases: [Given; 17] = [
        (primary.clone(), none, 0, None),
        (alone(Primary, DUnknown, false), none, 1_000_000, None),
        (
            primary.clone(),
            Orders {
                is_ending: true,
                ..none
            },
            0,
            Some(Reason::Ending),
        ),
        (
            primary.clone(),
            Orders {
                is_evicted: true,
                ..none
            },
            0,
            Some(Reason::Evicted),
        ),
        (
            primary,
            Orders {
                failed: Some(1),
                ..none
            },
            0,
            Some(Reason::Failed(1)),
        ),
        (World::NoDaemon, none, 59_000, None),
        (World::NoDaemon, none, 60_000, Some(Reason::DaemonDied)),
        (World::NotUp, none, 0, Some(Reason::RoleLost)),
        (
            together(Secondary, Secondary),
            none,
            0,
            Some(Reason::RoleLost),
        ),
        (
            together(Secondary, Primary),
            none,
            0,
            Some(Reason::RoleLost),
        ),
        (frozen(false), none, 299_000, None),
        (frozen(false), none, 300_000, Some(Reason::Frozen)),
        (frozen(true), none, 299_000, None),
        (frozen(true), none, 300_000, Some(Reason::Frozen)),
        (
            no_disk(UpToDate, Link::Connected),
            none,
            0,
            Some(Reason::DiskLost),
        ),
        (
            no_disk(DUnknown, Link::Awaited),
            none,
            0,
            Some(Reason::NoData),
        ),
        (
            no_disk(DiskState::Inconsistent, Link::Connected),
            none,
            0,
            Some(Reason::NoData),
        ),
    ];
    for (world, orders, after, reason) in cases {
        let mut one = One::running(policy());
        one.machine.next(&world, none, one.now);
        one.later(after).orders = orders;
        let next = one.machine.next(&world, orders, one.now);
        let gives_up = one.machine.gives_up();
        assert_eq!(gives_up, reason, "{world:?} {orders:?} {after}");
        assert_eq!(next == Next::Stop(1), reason.is_some(), "{next:?}");
    }
}

#[test]
fn services_stop_in_reverse_before_the_role_is_given_up() {
    let mut one = One::running(policy());
    one.orders.is_evicted = true;
    let primary = together(Primary, Secondary);
    one.gives_up(&primary, Reason::Evicted);
    one.is(&together(Secondary, Secondary), Next::Wait(Why::Evicted));
    one.orders.is_evicted = false;
    // The peer has time to come.
    one.later(9000)
        .is(&together(Secondary, Secondary), Next::Wait(Why::Pauses));
    one.later(1100)
        .is(&together(Secondary, Secondary), Next::Promote);
    // Told to end it leaves all where it is, if it is to.
    let mut one = One::running(Policy {
        stops_on_exit: false,
        ..policy()
    });
    one.orders.is_ending = true;
    one.is(&primary, Next::End);
    let held = one.machine.held();
    let mut next = One::new(policy());
    next.machine = Machine::new(policy(), held, true, 9);
    next.is(&primary, Next::Wait(Why::Runs));
    // The next one stops what it is not to have started.
    next.machine = Machine::new(policy(), held, false, 9);
    next.gives_up(&primary, Reason::Changed);
    // And what has lost its device.
    next.machine = Machine::new(policy(), held, true, 9);
    next.gives_up(&together(Secondary, Primary), Reason::RoleLost);
}

#[test]
fn a_service_that_does_not_start_leaves_the_other_node_the_time_to_take_over() {
    let mut one = One::new(policy());
    let (secondary, primary) = (together(Secondary, Secondary), together(Primary, Secondary));
    let mut last = 0;
    for _ in 0..6 {
        one.does(&secondary, Next::Promote);
        one.does(&primary, Next::Start(0));
        one.ends(&primary, Next::Start(1), false);
        one.gives_up(&primary, Reason::Failed(1));
        one.is(&secondary, Next::Wait(Why::Pauses));
        let pause = (0..).find(|ms| {
            one.machine.next(&secondary, one.orders, one.now + 100 * ms) == Next::Promote
        });
        let pause = 100 * pause.unwrap();
        assert!(
            pause >= 2500 && (pause >= last / 3) && pause <= 90_000,
            "{pause}"
        );
        last = pause;
        one.later(pause);
    }
    assert!(last > 29_000, "{last}");
}

#[test]
fn a_promotion_that_is_refused_halfway_is_taken_back() {
    let mut one = One::new(policy());
    one.ends(&together(Secondary, Secondary), Next::Promote, false);
    let mut halfway = facts(Link::Connected, (Primary, Secondary), (UpToDate, UpToDate));
    halfway.volumes.push(
        facts(
            Link::Connected,
            (Secondary, Secondary),
            (UpToDate, UpToDate),
        )
        .volumes[0],
    );
    one.does(&World::Up(halfway), Next::Demote);
    one.is(&together(Secondary, Secondary), Next::Wait(Why::Pauses));
    one.later(1500)
        .is(&together(Secondary, Secondary), Next::Promote);
}

#[test]
fn a_peer_that_goes_during_the_promotion_is_not_written_without() {
    let mut one = One::new(policy());
    one.does(&together(Secondary, Secondary), Next::Promote);
    one.does(&alone(Primary, DUnknown, false), Next::Demote);
    assert_eq!(one.machine.gives_up(), Some(Reason::Unwarranted));
    // Once services run, the peer was there after the promotion: it is not Primary.
    let mut one = One::running(policy());
    one.is(&alone(Primary, DUnknown, false), Next::Wait(Why::Runs));
}

#[test]
fn who_gives_way_and_is_not_relieved_stays_then() {
    let preferred = Policy {
        own_rank: 1,
        ..policy()
    };
    let mut one = One::new(preferred.clone());
    let fenced = alone(Secondary, Outdated, false);
    one.is(&fenced, Next::Wait(Why::AwaitsTurn));
    one.later(2000).does(&fenced, Next::Promote);
    for number in [0, 1] {
        one.does(&alone(Primary, Outdated, false), Next::Start(number));
    }
    one.is(&alone(Primary, Outdated, false), Next::Wait(Why::Runs));
    let (primary, secondary) = (together(Primary, Secondary), together(Secondary, Secondary));
    one.gives_up(&primary, Reason::Preferred);
    one.is(&secondary, Next::Wait(Why::Pauses));
    one.later(10_000).does(&secondary, Next::Promote);
    one.does(&primary, Next::Start(0));
    one.does(&primary, Next::Start(1));
    one.later(1_000_000).is(&primary, Next::Wait(Why::Runs));
    // It was away: it gets another chance.
    one.is(&alone(Primary, DUnknown, false), Next::Wait(Why::Runs));
    one.gives_up(&primary, Reason::Preferred);

    let mut one = One::running(policy());
    let no_disk = |role| {
        World::Up(facts(
            Link::Connected,
            (role, Secondary),
            (Diskless, UpToDate),
        ))
    };
    one.gives_up(&no_disk(Primary), Reason::DiskLost);
    one.is(&no_disk(Secondary), Next::Wait(Why::Pauses));
    one.later(10_000).does(&no_disk(Secondary), Next::Promote);
    one.does(&no_disk(Primary), Next::Start(0));
    one.does(&no_disk(Primary), Next::Start(1));
    one.is(&no_disk(Primary), Next::Wait(Why::Runs));
}

#[test]
fn a_role_that_cannot_be_given_up_is_tried_on_and_told_once() {
    for escalates in [false, true] {
        let mut one = One::running(Policy {
            escalates,
            ..policy()
        });
        one.orders.is_evicted = true;
        let primary = together(Primary, Secondary);
        one.ends(&primary, Next::Stop(1), true);
        // What did not stop is stopped again before each demotion.
        for n in 1..=DEMOTIONS {
            one.ends(&primary, Next::Stop(0), false);
            one.ends(&primary, Next::Demote, false);
            if n < DEMOTIONS {
                one.is(&primary, Next::Wait(Why::DemotesAgain));
            }
            one.later(1000);
        }
        if escalates {
            one.does(&primary, Next::Escalate);
        }
        one.is(&primary, Next::Wait(Why::Stuck));
        one.later(10_000).ends(&primary, Next::Stop(0), false);
        one.ends(&primary, Next::Demote, false);
        one.later(1000).is(&primary, Next::Wait(Why::Stuck));
        one.later(10_000).does(&primary, Next::Stop(0));
        one.does(&primary, Next::Demote);
        one.is(&together(Secondary, Secondary), Next::Wait(Why::Evicted));
    }
}

#[test]
fn what_did_not_stop_under_a_promoter_that_died_is_stopped_by_the_next_one() {
    let mut one = One::running(policy());
    one.orders.is_evicted = true;
    let primary = together(Primary, Secondary);
    one.ends(&primary, Next::Stop(1), true);
    one.ends(&primary, Next::Stop(0), false);
    let held = one.machine.held();
    assert_eq!((held.begun, held.unstopped), (0, 1));
    // The record has it among what was begun with.
    let held = Held { begun: 1, ..held };
    one.machine = Machine::new(policy(), held, true, 7);
    one.does(&primary, Next::Stop(0));
    one.does(&primary, Next::Demote);
    one.is(&together(Secondary, Secondary), Next::Wait(Why::Evicted));
}

#[test]
fn a_daemon_that_comes_back_finds_its_services_where_its_device_has_waited() {
    let primary = together(Primary, Secondary);
    let mut one = One::running(policy());
    one.is(&World::NoDaemon, Next::Wait(Why::DaemonDied));
    one.later(59_000)
        .is(&World::NoDaemon, Next::Wait(Why::DaemonDied));
    one.is(&primary, Next::Wait(Why::Runs));
    // No device waits for a daemon that serves clients of a socket.
    let mut socket = facts(Link::Connected, (Primary, Secondary), (UpToDate, UpToDate));
    socket.has_device = false;
    one.is(&World::Up(socket), Next::Wait(Why::Runs));
    one.gives_up(&World::NoDaemon, Reason::DaemonDied);
    one.is(&World::NoDaemon, Next::Wait(Why::NoDaemon));
    one.later(100_000)
        .is(&World::NoDaemon, Next::Wait(Why::NoDaemon));
    // It comes back Primary, by itself: what was stopped starts again.
    one.does(&primary, Next::Start(0));
}

#[test]
fn a_resource_that_somebody_else_has_promoted_is_left_alone() {
    let mut one = One::new(policy());
    one.is(&together(Primary, Secondary), Next::Wait(Why::ByHand));
    one.orders.is_evicted = true;
    one.is(&together(Primary, Secondary), Next::Wait(Why::ByHand));
    one.orders = Orders::default();
    one.is(&together(Secondary, Secondary), Next::Promote);
}

mod pair;
