//! Whose rules a node follows. The moves of the names and the comparison are the engine's in any case; what is told here is
//! what the engine does around them, and what the kernel's driver or a proposal does in its place.

use rdb_engine::state::Fencing;

use crate::world::Counts;

/// What is the same in all states of a search or a walk.
#[derive(Clone)]
pub(crate) struct Setting {
    /// How often each kind of event may happen.
    pub(crate) limits: Counts,
    pub(crate) rules: [Rules; 2],
    /// Users hear that a write is done when it is on the own disk and on its way. Otherwise protocol C.
    pub(crate) protocol_a: bool,
    /// An event for whose packets there is no room cannot happen yet. A search, which is to see all, has room.
    pub(crate) waits_for_room: bool,
    pub(crate) fencing: Fencing,
    /// `on-no-data-accessible suspend-io`.
    pub(crate) suspends_without_data: bool,
    /// A mistake on purpose, that a search has to find.
    pub(crate) plant: Option<Plant>,
}

impl Setting {
    /// Protocol C, without fencing.
    pub(crate) fn new(limits: Counts, rules: [Rules; 2]) -> Setting {
        Setting {
            limits,
            rules,
            protocol_a: false,
            waits_for_room: false,
            fencing: Fencing::DontCare,
            suspends_without_data: false,
            plant: None,
        }
    }
}

/// Mistakes on purpose: of the engine, or of the arbiter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plant {
    /// Frozen I/O goes on as soon as `fence-peer` runs.
    ThawUnasked,
    /// That a disk is Outdated does not come to its record.
    OutdatedUnrecorded,
    /// The arbiter takes "shot" (7) for "Outdated" (4): it relies on the peer's record, and remembers nothing.
    ShotForOutdated,
    /// A handler that is broken (1) is taken for one that has outdated the peer (4).
    BrokenForOutdated,
    /// What is frozen is told of when the disk has it.
    AnswerFrozen,
    /// The generation that is owed is forgotten when the peer is fenced.
    ForgetGeneration,
    /// What was frozen is not sent again to the peer that has come back.
    ForgetFrozenLog,
    /// A peer that is back only Consistent, or without its disk, is taken for what it was (L47).
    TrustReturned,
    /// A peer that is back only Consistent is never taken for what it was, also if it lacks nothing (L57).
    DoubtAllReturned,
    /// A target counts as one before that is on its record (L48).
    TrustTarget,
    /// What `fence-peer` says, and that the peer is Outdated, counts until the node itself has been Connected (L50).
    CountConnected,
    /// The disk of a Secondary that has failed beside a good one is as good by its record as before (L58).
    KeepFailedDisk,
    /// A source keeps the mark of a block that is written amid its resync, though its target has it.
    KeepMark,
    /// A Primary whose disk fails tells of a write that only the peer has before that is on any record (L26).
    TrustUnrecorded,
    /// It is forgotten beside which generation a Primary has lost its disk (L44).
    ForgetLoss,
    /// A Primary without a disk says what it is before it has looked at the peer's data (L35).
    TellAtOnce,
    /// A frozen Primary that is demoted begins the generation that it owes.
    NameDemoted,
    /// The node goes on before it is on record that the peer is fenced.
    GoOnUnrecorded,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rules {
    /// NEWCUR moves a bitmap UUID that is there into the history; the kernel's driver forgets it.
    pub(crate) rotates: bool,
    /// The comparison notices that the older generation went on under its name.
    pub(crate) notices_writes: bool,
    /// A source that has lost its target names what it writes from then on, and tells a node that knows of it.
    pub(crate) names_lone_writes: bool,
    /// So does one that is promoted while the bitmaps are exchanged under one name.
    pub(crate) names_writes_amid_exchange: bool,
    /// A Primary serves its users no disk, of its own or of the peer's, that comes while the one they are on is lost, and is older.
    pub(crate) refuses_older_disks: bool,
    /// No connection is made while a superblock is to be written (L7).
    pub(crate) records_first: bool,
    /// A Primary whose disk comes while it is alone takes a new name.
    pub(crate) renames_at_lonely_attach: bool,
    /// So does one that is connected, to a peer without a disk.
    pub(crate) renames_at_attach_beside_diskless: bool,
    /// A Primary that loses a peer with an Inconsistent disk takes a new name.
    pub(crate) renames_without_bad_peer: bool,
    /// A Diskless Primary remembers that it was source when the link broke.
    pub(crate) remembers_open_source: bool,
    /// A Primary that loses its disk before a resync from it has begun leaves the peer, which lacks blocks.
    pub(crate) leaves_with_its_disk: bool,
    /// It connects anew when the peer's state and its own cannot go on together.
    pub(crate) leaves_contradictions: bool,
    /// Rule 34 takes the bitmap UUID away at once, before what its bits speak of is synced.
    pub(crate) corrects_at_once: bool,
    /// The bitmap is on disk before the superblock ceases to say "Primary", whatever the reason.
    pub(crate) marks_before_unprimary: bool,
    /// A disk that is detached beside a good one is Outdated on record (L45).
    pub(crate) outdates_detached: bool,
}

impl Rules {
    /// DRBD 8.4 (`docs/spec/behaviour.md`, sections 4 and 5).
    pub(crate) const KERNEL: Rules = Rules {
        rotates: false,
        notices_writes: false,
        names_lone_writes: false,
        names_writes_amid_exchange: false,
        refuses_older_disks: false,
        records_first: false,
        renames_at_lonely_attach: false,
        renames_at_attach_beside_diskless: false,
        renames_without_bad_peer: false,
        remembers_open_source: false,
        leaves_with_its_disk: false,
        leaves_contradictions: false,
        corrects_at_once: true,
        marks_before_unprimary: false,
        outdates_detached: false,
    };

    /// `src/`.
    pub(crate) const ENGINE: Rules = Rules {
        rotates: true,
        notices_writes: true,
        names_lone_writes: true,
        names_writes_amid_exchange: true,
        refuses_older_disks: true,
        records_first: true,
        renames_at_lonely_attach: true,
        renames_at_attach_beside_diskless: true,
        renames_without_bad_peer: true,
        remembers_open_source: true,
        leaves_with_its_disk: true,
        leaves_contradictions: true,
        corrects_at_once: false,
        marks_before_unprimary: true,
        outdates_detached: true,
    };
}
