//! Searches for what a Primary remembers of a disk that it has lost beside a peer (L26, L35, L44), and for a source whose target is done
//! while marks are left; with mistakes on purpose, that they find.

use rdb_engine::state::Fencing;

use crate::events::{Event, apply};
use crate::oracle::{Finding, What};
use crate::rules::{Plant, Rules, Setting};
use crate::search::{Report, Search};
use crate::world::{Kind, World};
use crate::{TAIL_SEEN, check, counted, in_sync, limits};

use Kind::{Connect, Crash, Cut, Fail, Invalidate, Promote, Write};

fn setting(bounds: &[(Kind, u8)]) -> Setting {
    Setting::new(limits(bounds), [Rules::ENGINE; 2])
}

fn planted(plant: Plant, setting: &Setting) -> Setting {
    Setting {
        plant: Some(plant),
        ..setting.clone()
    }
}

/// What a pair in sync has come to by these events.
fn after(events: &[Event], setting: &Setting) -> World {
    events.iter().fold(in_sync().canonical(), |world, &event| {
        let (next, found) = apply(&world, event, setting).expect("it is possible");
        let wrong = found.iter().any(|finding| finding.what.is_violation());
        assert!(!wrong, "{event:?}: {found:?}");
        next
    })
}

fn run(name: &'static str, start: World, setting: Setting) -> Report {
    let search = Search {
        name,
        start,
        setting,
    };
    let report = search.run();
    println!("{}", report.summary(&search));
    report
}

/// The disk of a Primary fails on a write that the peer has, and both lose their power before any record says so.
const FAILED_WRITE: &[(Kind, u8)] = &[(Connect, 1), (Promote, 1), (Fail, 1), (Crash, 2)];

#[test]
fn a_write_that_failed_is_told_of_when_that_is_on_record() {
    let setting = setting(FAILED_WRITE);
    let name = "a write that failed";
    check(name, &run(name, in_sync(), setting.clone()), &[]);
    let planted = run(name, in_sync(), planted(Plant::TrustUnrecorded, &setting));
    assert!(counted(&planted, What::Overwritten) > 0, "{name}");
}

/// The same at the end of a resync to the peer, of which the Primary has not heard: it waits for data, and is told that they are there.
const FAILED_AT_THE_END: &[(Kind, u8)] = &[
    (Write, 2),
    (Invalidate, 1),
    (Connect, 1),
    (Promote, 1),
    (Fail, 1),
    (Crash, 2),
];
const ENDED_UNSEEN: &[Event] = &[
    Event::Invalidate(1),
    Event::Flush(0),
    Event::Deliver(1),
    Event::Promote(0),
    Event::Deliver(1),
    Event::Flush(1),
    Event::Write(0, 0, false),
    Event::Write(0, 1, false),
    Event::Finish(1),
    Event::FailWrite(0, 1),
];

#[test]
fn so_is_one_that_failed_at_the_end_of_a_resync() {
    let setting = Setting {
        suspends_without_data: true,
        ..setting(FAILED_AT_THE_END)
    };
    let name = "a write that failed at a resync's end";
    let start = after(ENDED_UNSEEN, &setting);
    check(name, &run(name, start, setting.clone()), &[]);
    let planted = run(name, start, planted(Plant::TrustUnrecorded, &setting));
    assert!(counted(&planted, What::Overwritten) > 0, "{name}");
}

/// The same of a Primary that was the target: its source hears of the lost disk and of the end at once, and begins a generation.
const TARGET_AT_THE_END: &[(Kind, u8)] = &[
    (Invalidate, 1),
    (Connect, 1),
    (Promote, 1),
    (Fail, 1),
    (Crash, 2),
];
const ENDED_UNTOLD: &[Event] = &[
    Event::Invalidate(1),
    Event::Flush(0),
    Event::Deliver(1),
    Event::Flush(1),
    Event::Copy(1, 0),
    Event::Copy(1, 1),
    Event::Deliver(0),
    Event::Deliver(0),
    Event::Promote(1),
    Event::Deliver(0),
    Event::Finish(1),
    Event::FailWrite(1, 0),
];

#[test]
fn and_one_of_a_target_at_its_end() {
    let setting = setting(TARGET_AT_THE_END);
    let name = "a target's write that failed";
    let start = after(ENDED_UNTOLD, &setting);
    check(name, &run(name, start, setting.clone()), &[]);
    let planted = run(name, start, planted(Plant::TrustUnrecorded, &setting));
    assert!(counted(&planted, What::Overwritten) > 0, "{name}");
}

/// (L44) The peer begins a generation because the Primary's disk is lost, and does not come to tell.
#[test]
fn data_that_users_have_seen_are_shown_to_them_again() {
    let setting = setting(&[(Connect, 1), (Promote, 1), (Fail, 1), (Cut, 1)]);
    let name = "a disk that is lost";
    let report = run(name, in_sync(), setting.clone());
    check(name, &report, &[]);
    let rightly = counted(&report, What::RefusedView);
    let planted = run(name, in_sync(), planted(Plant::ForgetLoss, &setting));
    assert!(counted(&planted, What::RefusedView) > rightly, "{name}");
}

/// (L35) A Primary without a disk refuses the peer's, which lacks what its users have written, and its own is back.
#[test]
fn a_peer_that_is_refused_begins_no_generation() {
    let setting = setting(&[(Write, 1), (Connect, 2), (Promote, 1), (Fail, 1), (Cut, 1)]);
    let events = [
        Event::Promote(0),
        Event::Cut,
        Event::Notice(0),
        Event::Notice(1),
        Event::Write(0, 0, false),
        Event::Fail(0),
    ];
    let name = "a peer that is refused";
    let start = after(&events, &setting);
    let report = run(name, start, setting.clone());
    check(name, &report, &[]);
    assert!(counted(&report, What::Resync) > 0);
    assert_eq!(counted(&report, What::FalseSplitBrain), 0);
    let planted = run(name, start, planted(Plant::TellAtOnce, &setting));
    assert!(counted(&planted, What::FalseSplitBrain) > 0, "{name}");
}

/// Marks are left at a source whose target is done: the nodes connect anew, and sync them.
#[test]
fn a_source_that_keeps_a_mark_is_none_for_ever() {
    let setting = setting(&[(Write, 3), (Connect, 2), (Promote, 1), (Cut, 1)]);
    let name = "a mark that is kept";
    let report = run(name, in_sync(), planted(Plant::KeepMark, &setting));
    check(name, &report, &[]);
    assert!(counted(&report, What::Resync) > 0);
}

/// (L3) A Primary target has had a resync's end, unseen by its source, and its own resync to that one came to nothing: both have a bitmap
/// UUID, neither has crashed, and what the Primary has written since has no name of its own. Found by a walk.
const BEGUN_AND_INTERRUPTED: &[Event] = &[
    Event::Crash(0),
    Event::Notice(1),
    Event::Detach(1),
    Event::Attach(1),
    Event::Restart(0),
    Event::Connect(2),
    Event::Deliver(1),
    Event::Deliver(0),
    Event::Deliver(1),
    Event::Deliver(0),
    Event::Deliver(0),
    Event::Deliver(1),
    Event::Invalidate(0),
    Event::Flush(1),
    Event::Deliver(0),
    Event::Flush(0),
    Event::Copy(0, 0),
    Event::Deliver(1),
    Event::Copy(0, 1),
    Event::Deliver(1),
    Event::Promote(0),
    Event::Deliver(1),
    Event::Finish(0),
    Event::Cut,
    Event::Write(0, 0, false),
    Event::Notice(0),
    Event::Notice(1),
    Event::Flush(1),
    Event::Flush(0),
    Event::Connect(2),
    Event::Deliver(0),
    Event::Deliver(0),
    Event::Deliver(1),
    Event::Deliver(1),
    Event::Deliver(1),
    Event::Deliver(0),
    Event::Deliver(1),
    Event::Deliver(0),
    Event::Cut,
    Event::Notice(1),
    Event::Flush(1),
    Event::Notice(0),
    Event::Flush(0),
    Event::Connect(2),
];

#[test]
fn a_resync_that_came_to_nothing_after_one_that_ended_unseen_is_gone_on_with() {
    let setting = Setting {
        fencing: Fencing::ResourceAndStonith,
        suspends_without_data: true,
        ..setting(&[
            (Write, 1),
            (Connect, 3),
            (Promote, 1),
            (Cut, 2),
            (Crash, 1),
            (Kind::Detach, 1),
            (Invalidate, 1),
        ])
    };
    let search = run(
        "a resync that came to nothing",
        after(BEGUN_AND_INTERRUPTED, &setting),
        setting,
    );
    check("a resync that came to nothing", &search, &[]);
    assert!(counted(&search, What::Resync) > 0);
}

/// What is left of protocol A: the way to the view that walks name. If this does not lead there any more, their exemption goes.
const TAIL_IS_SEEN: &[Event] = &[
    Event::Promote(0),
    Event::Crash(1),
    Event::Write(0, 1, false),
    Event::Restart(1),
    Event::Crash(0),
    Event::Restart(0),
    Event::Connect(2),
    Event::Deliver(0),
    Event::Fail(1),
    Event::Deliver(1),
    Event::Deliver(1),
    Event::Deliver(0),
    Event::Deliver(1),
    Event::Deliver(1),
    Event::Notice(0),
    Event::Connect(2),
    Event::Deliver(1),
    Event::Deliver(1),
    Event::Deliver(0),
    Event::Deliver(0),
    Event::Deliver(1),
    Event::Promote(1),
    Event::Cut,
    Event::Notice(1),
];

#[test]
fn a_tail_that_only_the_peer_has_is_seen_and_not_seen_again() {
    let setting = Setting {
        protocol_a: true,
        ..setting(&[
            (Write, 1),
            (Connect, 2),
            (Promote, 2),
            (Cut, 1),
            (Crash, 2),
            (Fail, 1),
        ])
    };
    let world = after(TAIL_IS_SEEN, &setting);
    let (_, found) = apply(&world, Event::Attach(1), &setting).expect("it is possible");
    let seen = |finding: &Finding| finding.what == What::StaleTail;
    assert!(
        found.iter().any(seen),
        "{TAIL_SEEN}: take the exemption out"
    );
}
