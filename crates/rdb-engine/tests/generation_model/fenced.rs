//! Searches with fencing, and with I/O that freezes. What is promised stands in `oracle.rs`, what is real and what is modelled in
//! "Fencing and frozen I/O" of `docs/testing.md`.

use std::collections::BTreeSet;

use rdb_engine::state::Fencing;

use crate::events::{Event, apply};
use crate::fencing::Deed;
use crate::oracle::{Cause, What};
use crate::rules::{Plant, Rules, Setting};
use crate::search::{Report, Search};
use crate::world::Kind;
use crate::{Exemption, FORGOTTEN_END, ORDERED, check, counted, exempt, in_sync, limits};

use Kind::{
    Connect, Crash, Cut, Demote, Detach, Fail, Force, Invalidate, Kill, Outdate, Part, Promote,
    Resume, Write,
};

const BOTH: [Rules; 2] = [Rules::ENGINE; 2];

type Bounds = [(Kind, u8)];

fn with(fencing: Fencing, bounds: &Bounds) -> Setting {
    Setting {
        fencing,
        ..Setting::new(limits(bounds), BOTH)
    }
}

fn stonith(bounds: &Bounds) -> Setting {
    with(Fencing::ResourceAndStonith, bounds)
}

fn resource_only(bounds: &Bounds) -> Setting {
    with(Fencing::ResourceOnly, bounds)
}

fn suspending(setting: Setting) -> Setting {
    Setting {
        suspends_without_data: true,
        ..setting
    }
}

fn search(name: &'static str, setting: Setting) -> (Report, Search) {
    let search = Search {
        name,
        start: in_sync(),
        setting,
    };
    (search.run(), search)
}

fn reaches_only(name: &'static str, setting: Setting, exemptions: &[Exemption]) -> Report {
    let (report, search) = search(name, setting);
    println!("{}", report.summary(&search));
    check(name, &report, exemptions);
    report
}

/// No violation, and no split brain of any kind: nobody has to decide between two generations.
fn never_forks(name: &'static str, setting: Setting) {
    let report = reaches_only(name, setting, &[]);
    for what in [What::SplitBrain, What::FalseSplitBrain] {
        assert_eq!(counted(&report, what), 0, "{name}: {what:?}");
    }
    // (It has seen something.)
    assert!(counted(&report, What::Resync) > 0 && counted(&report, What::NoSync) > 0);
}

const LINKS: &Bounds = &[(Write, 2), (Cut, 2), (Connect, 1), (Promote, 2), (Kill, 1)];
const SWITCHES: &Bounds = &[
    (Write, 1),
    (Cut, 2),
    (Connect, 1),
    (Promote, 2),
    (Demote, 1),
    (Kill, 1),
];
const CRASHES: &Bounds = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 1),
    (Promote, 2),
    (Crash, 1),
    (Kill, 1),
];
const RECONNECTS: &Bounds = &[(Write, 1), (Cut, 2), (Connect, 2), (Promote, 2)];
const PARTINGS: &Bounds = &[
    (Write, 1),
    (Connect, 1),
    (Promote, 2),
    (Demote, 1),
    (Part, 1),
    (Crash, 1),
];
const DETACHES: &Bounds = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 1),
    (Promote, 1),
    (Detach, 1),
    (Kill, 1),
];
const FAILURES: &Bounds = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 1),
    (Promote, 2),
    (Fail, 1),
    (Kill, 1),
];
const RESUMES: &Bounds = &[
    (Write, 2),
    (Cut, 1),
    (Connect, 1),
    (Promote, 2),
    (Kill, 1),
    (Resume, 1),
];
const FORCES: &Bounds = &[(Write, 2), (Cut, 1), (Connect, 1), (Promote, 2), (Force, 1)];
const OUTDATES: &Bounds = &[
    (Write, 1),
    (Cut, 2),
    (Connect, 1),
    (Promote, 2),
    (Demote, 1),
    (Outdate, 1),
];
const INVALIDATES: &Bounds = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 1),
    (Promote, 2),
    (Invalidate, 1),
    (Kill, 1),
];
const RETURNS: &Bounds = &[
    (Write, 1),
    (Connect, 2),
    (Promote, 2),
    (Demote, 1),
    (Crash, 1),
];
const OUTDATES_AND_CRASH: &Bounds = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 1),
    (Promote, 2),
    (Crash, 1),
    (Outdate, 1),
];
const DATA_GONE: &Bounds = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 1),
    (Promote, 1),
    (Detach, 1),
    (Fail, 1),
];

/// What begins with a node that has gone on alone, and lost its disk, beside the one that it has had shot, which is back.
const DISKLESS: &Bounds = &[
    (Write, 1),
    (Cut, 1),
    (Connect, 2),
    (Promote, 3),
    (Crash, 1),
    (Demote, 1),
    (Fail, 1),
    (Kill, 2),
];
const LOST_ITS_DISK: &[Event] = &[
    Event::Cut,
    Event::Notice(0),
    Event::Promote(0),
    Event::Fence(0, Deed::Kill),
    Event::Answer(0),
    Event::Restart(1),
    Event::Fail(0),
    Event::Demote(0),
];

const UNSEEN: Exemption = exempt(What::NeedlessSplitBrain(Cause::EndedUnseen), FORGOTTEN_END);

/// `resource-and-stonith`, and an arbiter that says the truth.
mod with_stonith {
    use super::*;

    #[test]
    fn links() {
        never_forks("stonith, links", stonith(LINKS));
    }

    #[test]
    fn switches() {
        never_forks("stonith, switches", stonith(SWITCHES));
    }

    #[test]
    fn crashes() {
        never_forks("stonith, crashes", stonith(CRASHES));
    }

    #[test]
    fn reconnects() {
        never_forks("stonith, reconnects", stonith(RECONNECTS));
    }

    /// A peer that was down comes back, and the Primary is demoted before it has written anything.
    #[test]
    fn returns() {
        never_forks("stonith, returns", stonith(RETURNS));
    }

    #[test]
    fn partings() {
        reaches_only("stonith, partings", stonith(PARTINGS), &[]);
    }

    #[test]
    fn detaches() {
        reaches_only("stonith, detaches", stonith(DETACHES), &[]);
    }

    #[test]
    fn failures() {
        reaches_only("stonith, failures", stonith(FAILURES), &[]);
    }

    /// What the peer has had on the disk that it lacks may be newer, whatever it says of itself.
    #[test]
    fn without_the_peers_disk() {
        let setting = stonith(DISKLESS);
        let mut start = in_sync();
        for &event in LOST_ITS_DISK {
            let (next, found) = apply(&start, event, &setting).expect("it is possible");
            assert!(found.is_empty(), "{event:?}: {found:?}");
            start = next;
        }
        let search = Search {
            name: "stonith, without the peer's disk",
            start,
            setting,
        };
        let report = search.run();
        println!("{}", report.summary(&search));
        check(search.name, &report, &[]);
    }

    #[test]
    fn outdates() {
        never_forks("stonith, outdates", stonith(OUTDATES));
    }

    #[test]
    fn invalidates() {
        let exempt = [exempt(What::NeedlessSplitBrain(Cause::Ordered), ORDERED)];
        reaches_only("stonith, invalidates", stonith(INVALIDATES), &exempt);
    }

    /// What an administrator resumes, or forces, may be lost: a split brain, which is always reported.
    #[test]
    fn resumes() {
        let report = reaches_only("stonith, resumes", stonith(RESUMES), &[]);
        assert!(counted(&report, What::SplitBrain) > 0);
    }

    #[test]
    fn forces() {
        let report = reaches_only("stonith, forces", stonith(FORCES), &[]);
        assert!(counted(&report, What::SplitBrain) > 0);
    }

    /// Frozen for both reasons.
    #[test]
    fn without_data() {
        let setting = suspending(stonith(DATA_GONE));
        reaches_only("stonith, without data", setting, &[UNSEEN]);
    }
}

/// `resource-only`: users go on at once, and two nodes may do so. Then that is reported.
mod with_resource_only {
    use super::*;

    #[test]
    fn outdates() {
        reaches_only("resource-only, outdates", resource_only(OUTDATES), &[]);
    }

    #[test]
    fn crashes() {
        reaches_only(
            "resource-only, crashes",
            resource_only(OUTDATES_AND_CRASH),
            &[],
        );
    }

    #[test]
    fn partings() {
        reaches_only("resource-only, partings", resource_only(PARTINGS), &[]);
    }
}

/// `on-no-data-accessible suspend-io`, without fencing.
#[test]
fn without_data() {
    let setting = suspending(with(Fencing::DontCare, DATA_GONE));
    reaches_only("without data", setting, &[UNSEEN]);
}

/// Mistakes on purpose, each of which a search finds.
mod plants {
    use super::*;

    fn finds(plant: Plant, setting: Setting, expected: &[What]) {
        let (report, search) = search(
            "planted",
            Setting {
                plant: Some(plant),
                ..setting
            },
        );
        let found: BTreeSet<What> = report.findings.keys().map(|f| f.what).collect();
        let missing: Vec<_> = expected
            .iter()
            .filter(|what| !found.contains(what))
            .collect();
        assert!(
            missing.is_empty(),
            "{plant:?}: {missing:?} not found\n{}",
            report.summary(&search)
        );
        for (finding, (count, way)) in &report.findings {
            if finding.what.is_violation() || expected.contains(&finding.what) {
                println!(
                    "{plant:?}: {:?}: {count}, first after {} events",
                    finding.what,
                    way.len()
                );
            }
        }
    }

    #[test]
    fn a_thaw_before_the_answer() {
        finds(Plant::ThawUnasked, stonith(LINKS), &[What::Unfenced]);
    }

    #[test]
    fn outdated_that_is_not_recorded() {
        finds(
            Plant::OutdatedUnrecorded,
            stonith(CRASHES),
            &[What::Unfenced],
        );
    }

    #[test]
    fn shot_that_is_taken_for_outdated() {
        finds(Plant::ShotForOutdated, stonith(CRASHES), &[What::Unfenced]);
    }

    #[test]
    fn a_broken_handler_that_is_believed() {
        finds(Plant::BrokenForOutdated, stonith(LINKS), &[What::Unfenced]);
    }

    #[test]
    fn frozen_writes_that_are_told() {
        finds(Plant::AnswerFrozen, stonith(LINKS), &[What::ToldFrozen]);
    }

    #[test]
    fn a_generation_that_is_forgotten() {
        finds(Plant::ForgetGeneration, stonith(LINKS), &[What::SilentFork]);
    }

    #[test]
    fn a_frozen_log_that_is_forgotten() {
        finds(Plant::ForgetFrozenLog, stonith(LINKS), &[What::SilentFork]);
    }

    #[test]
    fn a_returned_peer_that_is_trusted() {
        finds(Plant::TrustReturned, stonith(DETACHES), &[What::SilentFork]);
    }

    #[test]
    fn a_returned_peer_that_lacks_nothing_and_is_doubted() {
        finds(
            Plant::DoubtAllReturned,
            stonith(RETURNS),
            &[What::FalseSplitBrain],
        );
    }

    #[test]
    fn a_target_that_is_trusted() {
        finds(Plant::TrustTarget, stonith(RECONNECTS), &[What::Unfenced]);
    }

    #[test]
    fn connections_that_are_counted_late() {
        finds(Plant::CountConnected, stonith(LINKS), &[What::Unfenced]);
    }

    #[test]
    fn a_failed_disk_that_is_as_good_as_before() {
        finds(
            Plant::KeepFailedDisk,
            stonith(FAILURES),
            &[What::PromotedOutdated],
        );
    }

    #[test]
    fn a_demoted_node_that_begins_a_generation() {
        finds(
            Plant::NameDemoted,
            stonith(SWITCHES),
            &[What::FalseSplitBrain],
        );
    }

    #[test]
    fn going_on_before_that_is_recorded() {
        finds(
            Plant::GoOnUnrecorded,
            stonith(CRASHES),
            &[What::FencedUnrecorded],
        );
    }
}
