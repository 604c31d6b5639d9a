//! Mistakes on purpose, to see that the simulator finds them (`docs/testing.md`, "Mutation check").
//!
//! They exist only with the feature `planted-bugs`, which no program has: `rdbd` refuses to be built with it. Without
//! the feature every question here is answered "no" when the engine is compiled.

/// Whether this engine can be told to make mistakes.
pub const PLANTED_BUGS: bool = cfg!(feature = "planted-bugs");

/// A mistake that an engine can be told to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A write does not wait until the activity log says on disk that its extent is hot.
    SkipActivityLogWait,
    /// A write whose acknowledgement was lost with the connection leaves no mark.
    ForgetLostAck,
    /// A write that the peer acknowledged is forgotten without waiting for its barrier.
    SkipBarrier,
    /// The mirror acknowledges a barrier without having flushed.
    SkipFlushBeforeBarrierAck,
    /// A resync block counts as in sync when it arrives, whether it comes to be written or not.
    ClearBitsEarly,
    /// Metadata that says what is on the data disk is written before that is durable: the target of a resync calls itself
    /// UpToDate too soon.
    UpToDateBeforeFlush,
    /// Disks of one generation are taken for equal, though a node crashed as Primary.
    NoRuleForCrashes,
    /// No new generation begins when the peer is lost, or on a promotion without it.
    KeepGeneration,
    /// A resync block may be overtaken by writes of users on its way.
    ResyncUnlocked,
    /// An extent leaves the activity log before what was written there is durable.
    EvictWithoutFlush,
    /// An extent leaves the activity log before its marks are on disk.
    EvictWithoutMarks,
    /// The superblock does not say that the node was Primary.
    ForgetPrimary,
    /// A block that a verify finds different is not marked.
    VerifyUnmarked,
    /// Frozen I/O goes on as soon as `fence-peer` runs, whatever it will say.
    ThawUnfenced,
    /// That the peer is Outdated, or worse, is not on record.
    ForgetPeerOutdated,
    /// A `fence-peer` that has failed is taken for one that has fenced the peer.
    BelieveBrokenHandler,
    /// Writes are acknowledged while I/O is suspended.
    AnswerWhileFrozen,
    /// `suspend-io` ends while writes are on their way, to the disk, to the peer or in its cache.
    SuspendTooSoon,
    /// What was frozen is not sent again to the peer that has come back.
    ForgetFrozenLog,
    /// Snapshots are taken while writes are on their way, to the disk, to the peer or in its cache.
    SnapshotTooSoon,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 20] = [
        Bug::SkipActivityLogWait,
        Bug::ForgetLostAck,
        Bug::SkipBarrier,
        Bug::SkipFlushBeforeBarrierAck,
        Bug::ClearBitsEarly,
        Bug::UpToDateBeforeFlush,
        Bug::NoRuleForCrashes,
        Bug::KeepGeneration,
        Bug::ResyncUnlocked,
        Bug::EvictWithoutFlush,
        Bug::EvictWithoutMarks,
        Bug::ForgetPrimary,
        Bug::VerifyUnmarked,
        Bug::ThawUnfenced,
        Bug::ForgetPeerOutdated,
        Bug::BelieveBrokenHandler,
        Bug::AnswerWhileFrozen,
        Bug::SuspendTooSoon,
        Bug::ForgetFrozenLog,
        Bug::SnapshotTooSoon,
    ];
}

/// The mistake that an engine makes, if it makes one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<Bug>,
}

impl Planted {
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn only(bug: Bug) -> Planted {
        Planted { bug: Some(bug) }
    }

    #[cfg(feature = "planted-bugs")]
    pub(crate) fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) const fn has(self, _: Bug) -> bool {
        false
    }
}
