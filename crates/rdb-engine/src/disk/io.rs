//! What is asked of the disk.

use crate::ids::{PeerKey, RequestKey, Session, Time, VolumeNr};
use crate::peer_reads::BlockedRead;
use crate::span::Span;

/// What an I/O in flight is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Io {
    /// An application request's local part.
    Application { volume: VolumeNr, key: RequestKey },
    /// A mirrored write.
    Mirrored { volume: VolumeNr, key: PeerKey },
    /// A read that the peer asked for, as a user of our data or as sync target.
    PeerRead {
        volume: VolumeNr,
        read: BlockedRead,
        session: Session,
    },
    /// What this target has, for a request with its digest.
    ChecksumRead {
        volume: VolumeNr,
        span: Span,
        session: Session,
    },
    /// Resync data being written.
    ResyncWrite {
        volume: VolumeNr,
        span: Span,
        session: Session,
    },
    /// The flush that makes received epochs durable.
    EpochFlush { volume: VolumeNr, session: Session },
    /// A metadata write or read.
    Meta { volume: VolumeNr },
    /// A read of an attach.
    AttachRead { volume: VolumeNr },
    /// A flush of the data disk that metadata waits for.
    MetaFlushData { volume: VolumeNr },
    /// One that was given up with its disk, which has not answered.
    Abandoned { volume: VolumeNr },
}

/// An I/O in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    pub(crate) io: Io,
    /// When it was asked for.
    pub(crate) since: Time,
}

impl Io {
    pub(crate) fn volume(&self) -> VolumeNr {
        match *self {
            Io::Application { volume, .. }
            | Io::Mirrored { volume, .. }
            | Io::PeerRead { volume, .. }
            | Io::ChecksumRead { volume, .. }
            | Io::ResyncWrite { volume, .. }
            | Io::EpochFlush { volume, .. }
            | Io::Meta { volume }
            | Io::AttachRead { volume }
            | Io::MetaFlushData { volume }
            | Io::Abandoned { volume } => volume,
        }
    }
}
