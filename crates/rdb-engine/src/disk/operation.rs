//! What is written to the metadata, the I/O that it takes, and what follows when it is durable.

use alloc::vec::Vec;

use rdb_meta::MdFlags;

use crate::generation::Generation;
use crate::ids::{PeerKey, RequestKey};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MdKind {
    /// The superblock, with these flags set or cleared first.
    Superblock { set: MdFlags, clear: MdFlags },
    /// Every bitmap block that changed since it was written.
    ChangedPages,
    /// Set every bit, and write every bitmap block.
    SetAllPages,
    /// Clear every bit, and write every bitmap block: not before what is queued in front of it is durable.
    ClearAllPages,
    /// Write every bitmap block, of a bitmap that was cleared when this was asked for: what is marked since stays.
    AllPages,
    /// The activity-log transaction that is being collected.
    Transaction,
    /// Every block of the activity log, as holding nothing.
    InitialiseLog,
    /// Make the data disk's writes durable.
    FlushData,
}

impl MdKind {
    /// The superblock as it is.
    pub(crate) const SUPERBLOCK: MdKind = MdKind::Superblock {
        set: MdFlags::empty(),
        clear: MdFlags::empty(),
    };

    /// The superblock, with these flags set first.
    pub(crate) fn setting(set: MdFlags) -> MdKind {
        let clear = MdFlags::empty();
        MdKind::Superblock { set, clear }
    }

    /// The superblock, with these flags cleared first.
    pub(crate) fn clearing(clear: MdFlags) -> MdKind {
        let set = MdFlags::empty();
        MdKind::Superblock { set, clear }
    }

    pub(super) fn is_superblock(self) -> bool {
        matches!(self, MdKind::Superblock { .. })
    }
}

/// What follows a metadata operation. Each also says what follows when it fails: then the disk is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// The next step of an attach.
    Attach,
    /// Held completions may go, and the peer is told the identifiers. The completions go on failure too: a disk that
    /// is given up has its own bookkeeping.
    AnnounceGeneration,
    /// The sync UUID may be sent.
    SendSyncUuid(Generation),
    /// The target may ask for data.
    StartRequesting,
    /// The resync's data is durable: the target may call itself UpToDate.
    ResyncDataDurable,
    /// The target's new identifiers and flags are durable: tell the source.
    AnnounceResyncEnd,
    /// A Primary's disk is Inconsistent by its record too: what only the peer has may be called done.
    InconsistentRecorded,
    /// That the peer is fenced is on record: what users have written since it was lost may be called done.
    FencedRecorded,
    /// That this disk is Outdated is on record: the Primary that parts from us may go on alone.
    OutdatedRecorded,
    /// All bits are set for a full sync that an administrator wanted.
    FullSyncReady,
    /// All bits are set for a full sync that a handshake decided.
    HandshakeBitmapReady,
    /// The administrative command of this number waits for this.
    Admin(u32),
    /// The snapshot of the command of this number waits for this disk, whether it could be flushed or not: one that could not is
    /// given up, which ends the snapshot.
    SnapshotFlushed(u32),
    /// A mirrored write waits for what the superblock says of this node; without a disk it ends.
    Mirrored(PeerKey),
    /// A write of ours waits for the mark of a Primary.
    Application(RequestKey),
    /// The device's new size may be told.
    AnnounceDevice,
    /// The failed or detached disk has been flushed, if it could be.
    GivenUpFlushed,
    /// The failed or detached disk has nothing left to write.
    Detached,
}

/// Every block is marked on disk, in the order of `docs/spec/metadata.md`, section 5.4: a crash in between repeats it at the next
/// attach.
pub(crate) fn full_sync(then: Then) -> [(MdKind, Then); 3] {
    [
        (MdKind::setting(MdFlags::FULL_SYNC), Then::Nothing),
        (MdKind::SetAllPages, Then::Nothing),
        (MdKind::clearing(MdFlags::FULL_SYNC), then),
    ]
}

/// I/O of a metadata operation, each part of which is answered once.
#[derive(Debug, Default)]
pub(crate) struct MetaIo {
    pub writes: Vec<MetaWrite>,
    /// The data disk is flushed.
    pub flush_data: bool,
}

#[derive(Debug)]
pub(crate) struct MetaWrite {
    pub area: Area,
    pub sector: u64,
    pub data: Vec<u8>,
    pub preflush: bool,
    pub fua: bool,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    Superblock,
    Log,
    Bitmap,
}
