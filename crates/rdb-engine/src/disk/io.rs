//! What is asked of the disk.

use slab::Slab;

use crate::ids::{IoTag, PeerKey, RequestKey, Session, Time, VolumeNr};
use crate::peer_reads::BlockedRead;
use crate::span::Span;

/// What an I/O in flight is for.
#[derive(Debug, Clone)]
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
#[derive(Debug)]
pub(crate) struct Started {
    pub io: Io,
    /// When it was asked for.
    pub since: Time,
}

/// All I/O in flight, each under the tag by which the driver answers it.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Slab<Started>);

impl InFlight {
    /// The tag of one that begins.
    pub(crate) fn begin(&mut self, io: Io, since: Time) -> IoTag {
        IoTag(self.0.insert(Started { io, since }) as u64)
    }

    /// It has ended: what it was for.
    pub(crate) fn end(&mut self, tag: IoTag) -> Option<Started> {
        self.0.try_remove(key(tag)?)
    }

    /// Whose it is.
    pub(crate) fn volume_of(&self, tag: IoTag) -> Option<VolumeNr> {
        Some(self.0.get(key(tag)?)?.io.volume())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What the disk of a volume that is in use owes, and since when.
    pub(crate) fn owed(&self, nr: VolumeNr) -> impl Iterator<Item = (IoTag, Time)> + '_ {
        let owed = self.0.iter().filter(move |(_, started)| {
            let counts = !matches!(started.io, Io::AttachRead { .. } | Io::Abandoned { .. });
            started.io.volume() == nr && counts
        });
        owed.map(|(key, started)| (IoTag(key as u64), started.since))
    }

    /// Nobody waits for it any more: what it was for. Its answer may still come.
    pub(crate) fn abandon(&mut self, tag: IoTag) -> Option<Io> {
        let started = self.0.get_mut(key(tag)?)?;
        let volume = started.io.volume();
        Some(core::mem::replace(
            &mut started.io,
            Io::Abandoned { volume },
        ))
    }
}

fn key(tag: IoTag) -> Option<usize> {
    usize::try_from(tag.0).ok()
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
