//! What an attached disk may be used for and what it is worth, row by row (`docs/spec/behaviour.md`, section 6.2).

use rdb_engine::generation::Generation;
use rdb_engine::rules::attach::{Fit, Older, RecordedWorth, Shown, fit, older, older_alone};
use rdb_engine::state::{Change, ConnState, DiskState, Fencing, Role, VolumeState};
use rdb_meta::MdFlags;

const OLD: Generation = Generation::new(0x10);
const NEW: Generation = Generation::new(0x21);

/// (L25) Nobody who is Primary is shown another generation than the one that users saw last, nor that one without its last writes.
#[test]
fn l25_users_are_shown_no_older_data() {
    use Role::{Primary, Secondary};
    let other = Some(Older::Generation(NEW));
    for (role, peer, holds, seen, left_behind, expected) in [
        (Primary, Secondary, OLD, NEW, false, other),
        (Secondary, Primary, OLD, NEW, false, other),
        (Primary, Secondary, OLD, NEW, true, other),
        // Nobody looks.
        (Secondary, Secondary, OLD, NEW, true, None),
        // Nobody has seen anything.
        (Primary, Secondary, OLD, Generation::NONE, false, None),
        // It is the one that they saw; the bit of a Primary is no part of the name.
        (Primary, Secondary, NEW, Generation::new(0x20), false, None),
        (Primary, Secondary, NEW, NEW, true, Some(Older::Writes)),
        (Secondary, Primary, NEW, NEW, true, None),
    ] {
        let state = VolumeState {
            role,
            peer,
            ..VolumeState::INITIAL
        };
        let shown = Shown {
            state,
            holds,
            seen,
            left_behind,
        };
        assert_eq!(older(&shown), expected, "{shown:?}");
        assert_eq!(older_alone(&shown), expected, "{shown:?}");
        // Beside a good disk the handshake compares.
        let beside = Shown {
            state: VolumeState {
                pdsk: DiskState::UpToDate,
                ..state
            },
            ..shown
        };
        assert_eq!(older_alone(&beside), None, "{beside:?}");
        assert_eq!(older(&beside), expected, "{beside:?}");
    }
}

#[test]
fn data_are_cut_off_only_as_the_option_says() {
    let (consistent, not) = (MdFlags::CONSISTENT, MdFlags::empty());
    for (size, last, option, flags, expected) in [
        (100, 100, 0, consistent, Fit::Whole),
        (200, 100, 0, consistent, Fit::Whole),
        (50, 100, 0, consistent, Fit::Refused),
        (50, 100, 50, consistent, Fit::Truncated),
        (40, 100, 50, consistent, Fit::Refused),
        (50, 100, 0, not, Fit::Whole),
    ] {
        let facts = (size, last, option, flags);
        let found = fit(size, last, option, flags);
        assert_eq!(found, expected, "{facts:?}");
        assert_eq!(found.words(size, last).is_none(), found == Fit::Whole);
    }
}

#[test]
fn a_record_says_what_the_disks_are_worth() {
    use DiskState::{Consistent, DUnknown, Diskless, Inconsistent, Outdated, UpToDate};
    use Fencing::{DontCare, ResourceAndStonith, ResourceOnly};
    let (none, bad) = (MdFlags::empty(), MdFlags::WAS_UP_TO_DATE);
    let (old, fenced) = (MdFlags::CONSISTENT, MdFlags::PEER_OUT_DATED);
    let good = old | MdFlags::WAS_UP_TO_DATE;
    let (alone, together) = (ConnState::StandAlone, ConnState::Connected);
    for (flags, conn, pdsk, fencing, own, peer) in [
        (none, alone, DUnknown, DontCare, Inconsistent, DUnknown),
        (bad, alone, DUnknown, DontCare, Inconsistent, DUnknown),
        (old, alone, DUnknown, DontCare, Outdated, DUnknown),
        (good, alone, DUnknown, DontCare, UpToDate, DUnknown),
        (good, alone, DUnknown, ResourceOnly, Consistent, DUnknown),
        (
            good,
            alone,
            DUnknown,
            ResourceAndStonith,
            Consistent,
            DUnknown,
        ),
        // Who has fenced the peer may go on.
        (good | fenced, alone, DUnknown, DontCare, UpToDate, Outdated),
        (
            good | fenced,
            alone,
            DUnknown,
            ResourceOnly,
            UpToDate,
            Outdated,
        ),
        (
            old | fenced,
            alone,
            DUnknown,
            ResourceOnly,
            Outdated,
            Outdated,
        ),
        // (L52) What was known of the peer without a disk does not count with fencing.
        (good, alone, Outdated, ResourceOnly, Consistent, DUnknown),
        (good, alone, Outdated, DontCare, UpToDate, Outdated),
        // The peer is there, and says itself what its disk is.
        (good, together, Diskless, ResourceOnly, Consistent, Diskless),
        (
            good | fenced,
            together,
            UpToDate,
            ResourceOnly,
            Consistent,
            UpToDate,
        ),
        (
            good | fenced,
            together,
            UpToDate,
            DontCare,
            UpToDate,
            UpToDate,
        ),
    ] {
        let state = VolumeState {
            conn,
            pdsk,
            ..VolumeState::INITIAL
        };
        let worth = RecordedWorth::of(flags, &state, fencing);
        let facts = (flags, conn, pdsk, fencing);
        assert_eq!(worth, RecordedWorth { own, peer }, "{facts:?}");
        let change = if conn == together {
            Change::disk(DiskState::Negotiating)
        } else {
            Change::disk(own).and_pdsk(peer)
        };
        assert_eq!(worth.change(&state), change, "{facts:?}");
    }
}
