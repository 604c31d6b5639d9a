//! The generation identifiers of two nodes, searched to the end: every order of writes, cuts, promotions, crashes, detaches
//! and packets that the bounds of a search allow.
//!
//! What is real: the comparison and the decision (`generation`, `sync_decision`), the moves of the names
//! (`GenerationIds`, `Names`), the tables of states (`state`: which change is allowed, what it forces, what follows), and the
//! rules about data, names and peers (`rules`; when a write is done: `copies`). What is
//! a model: which of them is called at which event (`node.rs` and `events.rs`, read off `src/`), disks of two blocks,
//! packets in order, and metadata that a power cut may take back. `oracle.rs` knows what each disk truly holds.
//!
//! A search must find exactly the violations that its exemptions name: one more is a new hole, one fewer means that the
//! exemption is out of date. Random walks (`walk/`) go deeper, by chance. See "The generation model" in `docs/testing.md`.

mod admin;
mod events;
mod fenced;
mod fencing;
mod freeze;
mod losses;
mod names;
mod node;
mod oracle;
mod packets;
mod resync;
mod rules;
mod search;
mod tail;
mod walk;
mod world;

use std::collections::BTreeSet;

use names::{Ids, Name};
use oracle::{Cause, What};
use rules::{Rules, Setting};
use search::{Report, Search};
use world::{Counts, KINDS, Kind, World};

/// A violation that a search is known to reach.
struct Exemption {
    what: What,
    reason: &'static str,
}

const fn exempt(what: What, reason: &'static str) -> Exemption {
    Exemption { what, reason }
}

const BY_DRBD: &str = "DRBD empties the slot at once by rule 34, or writes under a name that the other disk has when it is promoted while the \
    bitmaps are exchanged: what it wrote is under no name of its own";
const CORRECTED_TOO_EARLY: &str = "rule 34 takes the bitmap UUID away at the handshake; if the resync of what was written \
    since comes to nothing and the node is Secondary then, its bits are under no name";
const SHARED_NAME: &str =
    "a source that did not hear of the resync's end writes on under a name that the target has too";
const UNTOLD: &str = "the marks of a source that missed the resync's end may be writes of its users, and DRBD does not say \
    that they are none";
const ORDERED: &str = "the marks of a full sync that was ordered and has not begun may as well be of the time before, and the target went on";
const INTERRUPTED: &str = "the marks of a crashed Primary whose resync was interrupted may be writes that only it has, and the target went on";
const FORGOTTEN_END: &str = "that a target has ended a resync is looked for in two slots of its history, which its own moves overwrite";
const MERGED: &str = "marks that the peer has told and that were merged may be writes of a node that has no note of what it wrote alone";
const TAIL_SEEN: &str = "a Diskless Primary shows its users the tail that the peer has on its disk alone; the peer goes before it has told its \
    new name, and the own disk, which has the old one, comes back";
const NEVER_RECORDED: &str = "two resyncs onto a target that came to record neither, and the write of a Primary after them: the name that it \
    still has is gone from the source's slots, and the nodes refuse each other";
const LONELY_ATTACH: &str =
    "a Diskless Primary attaches its disk alone and writes under a name that the peer has too";
const MARKS_LOST: &str = "the superblock ceases to say \"Primary\" before the marks of a Diskless Primary's writes are on \
    disk, and a power cut takes them";

fn in_sync() -> World {
    World::connected(Ids {
        current: Name::random(2),
        bitmap: Name::default(),
        history: [Name::random(3), Name::random(4)],
    })
}

fn limits(list: &[(Kind, u8)]) -> Counts {
    let mut counts = [0; KINDS];
    for (kind, limit) in list {
        counts[*kind as usize] = *limit;
    }
    counts
}

use Kind::{
    Connect, Crash, Cut, Demote, Detach, Discard, Fail, Force, Invalidate, InvalidateRemote,
    Promote, Write,
};

const LINKS: &[(Kind, u8)] = &[
    (Write, 2),
    (Cut, 2),
    (Connect, 2),
    (Promote, 2),
    (Demote, 1),
];
const MORE_LINKS: &[(Kind, u8)] = &[
    (Write, 1),
    (Cut, 3),
    (Connect, 3),
    (Promote, 2),
    (Demote, 1),
];
const CRASHES: &[(Kind, u8)] = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 2),
    (Promote, 2),
    (Demote, 1),
    (Crash, 1),
];
const FORCE_AND_DISCARD: &[(Kind, u8)] = &[
    (Write, 2),
    (Cut, 2),
    (Connect, 1),
    (Promote, 1),
    (Demote, 1),
    (Force, 1),
    (Discard, 1),
];
const DETACHES: &[(Kind, u8)] = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 1),
    (Promote, 1),
    (Demote, 1),
    (Detach, 2),
];
const DETACH_AND_CRASH: &[(Kind, u8)] = &[
    (Write, 1),
    (Connect, 1),
    (Promote, 2),
    (Demote, 1),
    (Detach, 1),
    (Crash, 1),
];
const FAILURES: &[(Kind, u8)] = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 2),
    (Promote, 2),
    (Demote, 1),
    (Fail, 1),
];
const FAILURE_AND_CRASH: &[(Kind, u8)] = &[
    (Write, 1),
    (Connect, 2),
    (Promote, 2),
    (Demote, 1),
    (Fail, 1),
    (Crash, 1),
];
const INVALIDATE: &[(Kind, u8)] = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 2),
    (Promote, 2),
    (Demote, 1),
    (Invalidate, 1),
];
const INVALIDATE_AND_CRASH: &[(Kind, u8)] = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 2),
    (Promote, 2),
    (Invalidate, 1),
    (Crash, 1),
];
const CUTS_AND_CRASH: &[(Kind, u8)] =
    &[(Write, 1), (Cut, 2), (Connect, 3), (Promote, 2), (Crash, 1)];
const TWO_CRASHES: &[(Kind, u8)] = &[(Write, 1), (Cut, 1), (Connect, 2), (Promote, 2), (Crash, 2)];
const INVALIDATE_REMOTE: &[(Kind, u8)] = &[
    (Write, 2),
    (Cut, 1),
    (Connect, 2),
    (Promote, 2),
    (Demote, 1),
    (InvalidateRemote, 1),
];
const INVALIDATE_REMOTE_AND_CRASH: &[(Kind, u8)] = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 2),
    (Promote, 2),
    (InvalidateRemote, 1),
    (Crash, 1),
];
const INVALIDATE_REMOTE_AND_FAILURE: &[(Kind, u8)] = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 2),
    (Promote, 2),
    (InvalidateRemote, 1),
    (Fail, 1),
];
const FIRST_USE: &[(Kind, u8)] = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 2),
    (Promote, 1),
    (Demote, 1),
    (Force, 2),
];

fn search(name: &'static str, start: World, bounds: &[(Kind, u8)], rules: [Rules; 2]) -> Report {
    let search = Search {
        name,
        start,
        setting: Setting::new(limits(bounds), rules),
    };
    let report = search.run();
    println!("{}", report.summary(&search));
    report
}

fn reaches_only(
    name: &'static str,
    start: World,
    bounds: &[(Kind, u8)],
    rules: [Rules; 2],
    exemptions: &[Exemption],
) -> Report {
    let report = search(name, start, bounds, rules);
    check(name, &report, exemptions);
    report
}

/// Whether exactly what is exempt has been found.
fn check(name: &str, report: &Report, exemptions: &[Exemption]) {
    let found: BTreeSet<What> = report
        .findings
        .keys()
        .map(|f| f.what)
        .filter(|w| w.is_violation())
        .collect();
    for exemption in exemptions {
        assert!(
            found.contains(&exemption.what),
            "{name}: {:?} is exempt ({}) and was not reached: take the exemption out",
            exemption.what,
            exemption.reason
        );
    }
    let named: BTreeSet<What> = exemptions.iter().map(|e| e.what).collect();
    assert_eq!(found, named, "{name}: violations that nobody has named");
}

fn counted(report: &Report, what: What) -> u64 {
    let all = report
        .findings
        .iter()
        .filter(|(finding, _)| finding.what == what);
    all.map(|(_, (count, _))| count).sum()
}

/// The engine: no violation at all.
mod engine {
    use super::*;

    const BOTH: [Rules; 2] = [Rules::ENGINE; 2];

    #[test]
    fn links() {
        let report = reaches_only("links", in_sync(), LINKS, BOTH, &[]);
        assert_eq!(counted(&report, What::NeedlessFull), 0);
        assert!(counted(&report, What::SplitBrain) > 0 && counted(&report, What::NoSync) > 0);
    }

    #[test]
    fn more_links() {
        reaches_only("more links", in_sync(), MORE_LINKS, BOTH, &[]);
    }

    #[test]
    fn crashes() {
        reaches_only("crashes", in_sync(), CRASHES, BOTH, &[]);
    }

    #[test]
    fn detaches() {
        reaches_only("detaches", in_sync(), DETACHES, BOTH, &[]);
    }

    #[test]
    fn detach_and_crash() {
        reaches_only("detach and crash", in_sync(), DETACH_AND_CRASH, BOTH, &[]);
    }

    #[test]
    fn force_and_discard() {
        let report = reaches_only("force", in_sync(), FORCE_AND_DISCARD, BOTH, &[]);
        let forced = |what| report.findings.keys().any(|f| f.what == what && f.forced);
        // What two forced promotions lose is lost with consent; before that it is always reported.
        assert!(forced(What::SplitBrain));
    }

    #[test]
    fn invalidate() {
        let exempt = [exempt(What::NeedlessSplitBrain(Cause::Ordered), ORDERED)];
        reaches_only("invalidate", in_sync(), INVALIDATE, BOTH, &exempt);
    }

    #[test]
    fn invalidate_and_crash() {
        let name = "invalidate and crash";
        let exempt = [
            exempt(What::NeedlessSplitBrain(Cause::Ordered), ORDERED),
            exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), FORGOTTEN_END),
        ];
        reaches_only(name, in_sync(), INVALIDATE_AND_CRASH, BOTH, &exempt);
    }

    #[test]
    fn cuts_and_crash() {
        reaches_only("cuts and crash", in_sync(), CUTS_AND_CRASH, BOTH, &[]);
    }

    #[test]
    fn two_crashes() {
        let exempt = [exempt(
            What::NeedlessSplitBrain(Cause::Interrupted),
            INTERRUPTED,
        )];
        reaches_only("two crashes", in_sync(), TWO_CRASHES, BOTH, &exempt);
    }

    /// A Primary whose data are to be replaced goes on with them if that does not begin.
    #[test]
    fn invalidate_remote() {
        let name = "invalidate remote";
        let exempt = [exempt(What::NeedlessSplitBrain(Cause::Ordered), ORDERED)];
        reaches_only(name, in_sync(), INVALIDATE_REMOTE, BOTH, &exempt);
    }

    #[test]
    fn invalidate_remote_and_crash() {
        let name = "invalidate remote and crash";
        let exempt = [
            exempt(What::NeedlessSplitBrain(Cause::Ordered), ORDERED),
            exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), FORGOTTEN_END),
        ];
        reaches_only(name, in_sync(), INVALIDATE_REMOTE_AND_CRASH, BOTH, &exempt);
    }

    #[test]
    fn invalidate_remote_and_failure() {
        let name = "invalidate remote and failure";
        let exempt = [
            exempt(What::NeedlessSplitBrain(Cause::Ordered), ORDERED),
            exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), FORGOTTEN_END),
        ];
        reaches_only(
            name,
            in_sync(),
            INVALIDATE_REMOTE_AND_FAILURE,
            BOTH,
            &exempt,
        );
    }

    #[test]
    fn first_use() {
        let report = reaches_only("first use", World::created(), FIRST_USE, BOTH, &[]);
        // The first sync is a full one.
        assert!(counted(&report, What::NeedlessFull) > 0);
    }

    #[test]
    fn failures() {
        reaches_only("failures", in_sync(), FAILURES, BOTH, &[]);
    }

    #[test]
    fn failures_and_crash() {
        reaches_only(
            "failures and crash",
            in_sync(),
            FAILURE_AND_CRASH,
            BOTH,
            &[],
        );
    }
}

/// DRBD's own rules, on both nodes or on one: what we cannot repair alone.
mod kernel {
    use super::*;

    const BOTH: [Rules; 2] = [Rules::KERNEL; 2];
    const MIXED: [Rules; 2] = [Rules::ENGINE, Rules::KERNEL];

    #[test]
    fn links() {
        let exempt = [exempt(What::Overwritten, SHARED_NAME)];
        reaches_only("links", in_sync(), LINKS, BOTH, &exempt);
    }

    #[test]
    fn detaches() {
        let exempt = [
            exempt(What::Overwritten, LONELY_ATTACH),
            exempt(What::LostByDrbd, CORRECTED_TOO_EARLY),
        ];
        reaches_only("detaches", in_sync(), DETACHES, BOTH, &exempt);
    }

    #[test]
    fn detach_and_crash() {
        let exempt = [
            exempt(What::UnmarkedBlock, MARKS_LOST),
            exempt(What::Overwritten, LONELY_ATTACH),
            exempt(What::SilentFork, LONELY_ATTACH),
            exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), UNTOLD),
        ];
        reaches_only(
            "detach and crash",
            in_sync(),
            DETACH_AND_CRASH,
            BOTH,
            &exempt,
        );
    }

    /// One node that refuses is enough.
    #[test]
    fn links_with_rdb() {
        let exempt = [exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), UNTOLD)];
        reaches_only("links, rdb and DRBD", in_sync(), LINKS, MIXED, &exempt);
    }

    #[test]
    fn crashes_with_rdb() {
        let exempt = [
            exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), UNTOLD),
            exempt(What::NeedlessSplitBrain(Cause::Interrupted), INTERRUPTED),
        ];
        reaches_only("crashes, rdb and DRBD", in_sync(), CRASHES, MIXED, &exempt);
    }

    #[test]
    fn more_links_with_rdb() {
        let exempt = [
            exempt(What::LostByDrbd, CORRECTED_TOO_EARLY),
            exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), UNTOLD),
        ];
        reaches_only(
            "more links, rdb and DRBD",
            in_sync(),
            MORE_LINKS,
            MIXED,
            &exempt,
        );
    }
}
