//! The door to the disk: every I/O gets its tag here, and what became of it is counted here before anybody hears of it.

use alloc::vec::Vec;

use crate::disk::io::{Io, Started};
use crate::disk::slot::DataIo;
use crate::effect::{Effect, ReadFor};
use crate::event::{DiskError, Payload};
use crate::ids::{IoTag, VolumeNr};
use crate::router::Resource;
use crate::span::Span;

impl<P: Payload> Resource<P> {
    pub(in crate::router) fn on_disk_done(
        &mut self,
        tag: IoTag,
        result: Result<Option<P>, DiskError>,
    ) {
        let Some(Started { io, since }) = self.io.end(tag) else {
            return;
        };
        let nr = io.volume();
        if matches!(io, Io::Application { .. }) {
            self.own_disk_took(nr, since);
        }
        self.space_io_ended(nr, tag, result.is_ok());
        self.data_io_ended(io, result);
        self.disk_quiet(nr);
    }

    /// Data I/O has ended, or is given up: who waits for it hears of that.
    pub(in crate::router) fn data_io_ended(
        &mut self,
        io: Io,
        result: Result<Option<P>, DiskError>,
    ) {
        let nr = io.volume();
        let writes = match io {
            Io::Application { key, .. } => self.requests.get(key).is_some_and(|r| !r.is_read()),
            Io::Mirrored { .. } | Io::ResyncWrite { .. } => true,
            _ => false,
        };
        let kind = match io {
            Io::MetaFlushData { .. } => DataIo::FlushForMetadata,
            _ if writes => DataIo::Write,
            _ => DataIo::Read,
        };
        if let Some(volume) = self.volumes.get_mut(nr)
            && !matches!(io, Io::Abandoned { .. })
        {
            volume.disk.io_ended(kind, result.is_ok());
        }
        match io {
            Io::Application { key, .. } => self.on_application_io(nr, key, result),
            Io::Mirrored { key, .. } => self.on_mirrored_io(nr, key, result.map(|_| ())),
            Io::PeerRead { read, session, .. } => self.on_peer_read_io(nr, read, session, result),
            Io::ChecksumRead { span, session, .. } => {
                self.on_checksum_read_io(nr, span, session, result);
            }
            Io::ResyncWrite { span, session, .. } => {
                self.on_resync_write_io(nr, span, session, result.map(|_| ()));
            }
            Io::EpochFlush { session, .. } => {
                self.on_epoch_flush_io(nr, session, result.map(|_| ()))
            }
            Io::MetaFlushData { .. } => self.md_io_done(nr, result.map(|_| ())),
            Io::Abandoned { .. } => self.abandoned_io_ended(nr),
            Io::Meta { .. } | Io::AttachRead { .. } => {
                unreachable!("metadata I/O is answered by MetaDone, which the driver promises")
            }
        }
    }

    pub(in crate::router) fn on_meta_done(
        &mut self,
        tag: IoTag,
        result: Result<Vec<u8>, DiskError>,
    ) {
        let Some(Started { io, .. }) = self.io.end(tag) else {
            return;
        };
        let nr = io.volume();
        self.space_io_ended(nr, tag, result.is_ok());
        match io {
            Io::AttachRead { .. } => self.on_attach_read(nr, tag, result),
            Io::Abandoned { .. } => self.abandoned_io_ended(nr),
            _ => self.md_io_done(nr, result.map(|_| ())),
        }
        self.disk_quiet(nr);
    }

    /// The volume of an I/O in flight.
    pub(in crate::router) fn io_volume(&self, tag: IoTag) -> Option<VolumeNr> {
        let nr = self.io.volume_of(tag)?;
        self.volumes.contains(nr).then_some(nr)
    }

    /// Has a volume's disk read these sectors.
    pub(in crate::router) fn read_disk(&mut self, io: Io, span: Span, whose: ReadFor) {
        let volume = io.volume();
        let tag = self.start_data_io(io);
        self.emit(Effect::Read {
            volume,
            tag,
            sector: span.sector,
            bytes: span.bytes,
            whose,
        });
    }

    /// Has a volume's disk make durable what it was given.
    pub(in crate::router) fn flush_disk(&mut self, io: Io) {
        let volume = io.volume();
        let tag = self.start_data_io(io);
        self.emit(Effect::Flush { volume, tag });
    }

    /// A tag for data I/O on a volume, counted as in flight.
    pub(in crate::router) fn start_data_io(&mut self, io: Io) -> IoTag {
        self.volume_mut(io.volume()).disk.io_begins();
        self.start_io(io)
    }

    /// A tag for an I/O and what it was for.
    pub(in crate::router) fn start_io(&mut self, io: Io) -> IoTag {
        let nr = io.volume();
        let tag = self.io.begin(io, self.now);
        self.watch_disk(nr);
        tag
    }
}
