//! Disk I/O: one operation of the engine becomes one or more of the ring.
//!
//! Durability: a write that need not be durable makes its file dirty, a successful flush that began afterwards makes
//! it clean, and a flush of a clean file has nothing to do. Writes with FUA are durable by themselves
//! (`RWF_DSYNC`). Through the page cache that is a write and then a flush, so that it is known which of the two has failed:
//! a write that meets a full disk is tried again (`space.rs`), a flush that fails has lost what it should have kept.

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use rdb_engine::{DiscardKind, DiskError, IoTag, VolumeNr};

use super::open::OpenFile;
use crate::pool::{Aligned, Buf, Zeroes};
use crate::ring::{Operation, Ring};

/// Metadata is transferred in pieces of at most this many bytes.
const META_PIECE_BYTES: usize = 1 << 20;
/// Zeroes are written in pieces of this many bytes.
const ZERO_PIECE_BYTES: u32 = Zeroes::BYTES as u32;

/// An open disk as the loop sees it.
pub(crate) struct DiskFile {
    pub(crate) open: Arc<OpenFile>,
    /// Counts writes that have ended and were not durable by themselves.
    written: Cell<u64>,
    /// Those that a flush has made durable.
    flushed: Cell<u64>,
}

impl DiskFile {
    pub(crate) fn new(open: Arc<OpenFile>) -> Rc<DiskFile> {
        // What an earlier process left in the disk's cache is not known to be durable: begin dirty.
        Rc::new(DiskFile {
            open,
            written: Cell::new(1),
            flushed: Cell::new(0),
        })
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.open.file.as_raw_fd())
    }

    /// Whether a range of bytes can be transferred directly.
    pub(crate) fn is_aligned(&self, offset: u64, bytes: u64) -> bool {
        (offset | bytes).is_multiple_of(u64::from(self.open.block_bytes))
    }

    fn is_clean(&self) -> bool {
        self.written.get() == self.flushed.get()
    }

    fn note_write(&self) {
        self.written.set(self.written.get() + 1);
    }
}

/// Who is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The engine.
    Engine(IoTag),
    /// A part of a job that is split.
    Part(usize),
    /// The volume's lane.
    Lane,
}

/// The memory of an I/O.
pub(crate) enum Memory {
    None,
    Pool(Buf),
    Heap(Aligned),
    Zeroes(Rc<Zeroes>),
}

impl Memory {
    /// Which registered buffer of the ring it lies in, if it does.
    fn slot(&self) -> Option<u16> {
        match self {
            Memory::Pool(buf) => buf.slot(),
            Memory::None | Memory::Heap(_) | Memory::Zeroes(_) => None,
        }
    }

    fn as_ptr(&self) -> *mut u8 {
        match self {
            Memory::None => std::ptr::null_mut(),
            Memory::Pool(buf) => buf.as_ptr(),
            Memory::Heap(memory) => memory.as_ptr(),
            Memory::Zeroes(memory) => memory.as_ptr(),
        }
    }
}

/// What an I/O does.
pub(crate) enum Job {
    Read,
    /// A read of whole blocks, of which the payload gets the part that begins at this byte.
    BounceRead {
        into: Buf,
        skip: u32,
    },
    Write {
        fua: bool,
    },
    Flush,
    /// Deallocates or zeroes; what to try next stands in the kind.
    Deallocate {
        kind: DiscardKind,
    },
    /// Writes zeroes.
    Zero,
    MetaRead {
        bytes: Vec<u8>,
        total: u32,
    },
    /// The flush before a metadata write.
    MetaPreflush {
        data: Vec<u8>,
        fua: bool,
    },
    /// The piece of `data` from `from` on.
    MetaWrite {
        data: Vec<u8>,
        from: usize,
        fua: bool,
    },
}

/// One I/O in flight.
pub(crate) struct DiskIo {
    pub(crate) volume: VolumeNr,
    pub(crate) answer: Answer,
    pub(crate) file: Rc<DiskFile>,
    pub(crate) job: Job,
    pub(crate) memory: Memory,
    /// First byte on the disk.
    pub(crate) offset: u64,
    /// Bytes in all, and how many are done.
    pub(crate) len: u32,
    pub(crate) done: u32,
    /// What the count of writes was when a flush began.
    flushing: u64,
    /// It is written, and is being made durable.
    syncing: bool,
}

/// What became of an I/O.
pub(crate) enum Progress {
    /// It goes on.
    GoesOn,
    Ended((VolumeNr, Answer, Ended)),
    /// There is no space for what is left of it.
    Full(Box<DiskIo>, DiskError),
}

/// What an I/O ended with.
pub(crate) enum Ended {
    /// Data I/O; a read brings its payload.
    Data(Result<Option<Buf>, DiskError>),
    /// A bounce of the lane, to go on with.
    Bounce(Result<Aligned, DiskError>),
    /// Metadata I/O.
    Meta(Result<Vec<u8>, DiskError>),
}

impl DiskIo {
    pub(crate) fn new(
        (volume, answer): (VolumeNr, Answer),
        file: &Rc<DiskFile>,
        job: Job,
        (offset, len): (u64, u32),
        memory: Memory,
    ) -> DiskIo {
        let file = Rc::clone(file);
        DiskIo {
            volume,
            answer,
            file,
            job,
            memory,
            offset,
            len,
            done: 0,
            flushing: 0,
            syncing: false,
        }
    }

    /// A metadata read.
    pub(super) fn meta_read(
        (volume, tag): (VolumeNr, IoTag),
        file: &Rc<DiskFile>,
        offset: u64,
        total: u32,
    ) -> DiskIo {
        let piece = (total as usize).min(META_PIECE_BYTES);
        let bytes = Vec::with_capacity(total as usize);
        let memory = Memory::Heap(Aligned::zeroed(piece));
        let (who, job) = (
            (volume, Answer::Engine(tag)),
            Job::MetaRead { bytes, total },
        );
        DiskIo::new(who, file, job, (offset, piece as u32), memory)
    }

    /// A metadata write; `preflush` begins with a flush unless nothing is to be flushed.
    pub(super) fn meta_write(
        (volume, tag): (VolumeNr, IoTag),
        file: &Rc<DiskFile>,
        (offset, data): (u64, Vec<u8>),
        preflush: bool,
        fua: bool,
    ) -> DiskIo {
        let job = match preflush && !file.is_clean() {
            true => Job::MetaPreflush { data, fua },
            false => Job::MetaWrite { data, from: 0, fua },
        };
        let who = (volume, Answer::Engine(tag));
        let mut io = DiskIo::new(who, file, job, (offset, 0), Memory::None);
        io.stage_meta_write();
        io
    }

    /// Copies the next piece of a metadata write to where it can be transferred from.
    fn stage_meta_write(&mut self) {
        let Job::MetaWrite { data, from, .. } = &self.job else {
            return;
        };
        let piece = &data[*from..(*from + META_PIECE_BYTES).min(data.len())];
        let mut memory = match std::mem::replace(&mut self.memory, Memory::None) {
            Memory::Heap(memory) if memory.as_slice().len() >= piece.len() => memory,
            _ => Aligned::zeroed(piece.len()),
        };
        memory.as_mut_slice()[..piece.len()].copy_from_slice(piece);
        (self.len, self.done) = (piece.len() as u32, 0);
        self.memory = Memory::Heap(memory);
    }

    /// Whether it changes bytes of this range.
    pub(crate) fn writes_to(&self, volume: VolumeNr, range: &std::ops::Range<u64>) -> bool {
        let writes = matches!(
            self.job,
            Job::Write { .. } | Job::Deallocate { .. } | Job::Zero
        );
        writes
            && self.volume == volume
            && self.offset < range.end
            && range.start < self.offset + u64::from(self.len)
    }

    /// Hands it to the ring once more, from the block where it stopped.
    pub(crate) fn start_again(mut self, ring: &mut Ring<impl Operation + From<DiskIo>>) {
        self.done -= self.done % self.file.open.block_bytes;
        self.start(ring);
    }

    /// Hands it to the ring.
    pub(crate) fn start(self, ring: &mut Ring<impl Operation + From<DiskIo>>) {
        ring.start(self);
    }

    /// Whether it has to be durable when it ends.
    fn is_durable(&self) -> bool {
        matches!(
            self.job,
            Job::Write { fua: true } | Job::MetaWrite { fua: true, .. }
        )
    }

    /// Whether it can be tried again when it has met a full disk.
    fn may_wait(&self) -> bool {
        let writes = matches!(
            self.job,
            Job::Write { .. } | Job::Deallocate { .. } | Job::Zero | Job::MetaWrite { .. }
        );
        writes && !self.syncing
    }

    /// Its next submission.
    pub(crate) fn entry(&mut self) -> squeue::Entry {
        let fd = self.file.fd();
        if self.syncing {
            return opcode::Fsync::new(fd)
                .flags(types::FsyncFlags::DATASYNC)
                .build();
        }
        let offset = self.offset + u64::from(self.done);
        let left = self.len - self.done;
        let at = self.memory.as_ptr().wrapping_add(self.done as usize);
        match &self.job {
            Job::Read | Job::BounceRead { .. } | Job::MetaRead { .. } => match self.memory.slot() {
                Some(slot) => opcode::ReadFixed::new(fd, at, left, slot)
                    .offset(offset)
                    .build(),
                None => opcode::Read::new(fd, at, left).offset(offset).build(),
            },
            Job::Write { .. } | Job::MetaWrite { .. } => {
                let dsync = self.is_durable() && self.file.open.direct;
                let flags = if dsync { libc::RWF_DSYNC } else { 0 };
                match self.memory.slot() {
                    Some(slot) => opcode::WriteFixed::new(fd, at, left, slot)
                        .offset(offset)
                        .rw_flags(flags)
                        .build(),
                    None => opcode::Write::new(fd, at, left)
                        .offset(offset)
                        .rw_flags(flags)
                        .build(),
                }
            }
            Job::Zero => {
                let piece = left.min(ZERO_PIECE_BYTES);
                opcode::Write::new(fd, self.memory.as_ptr(), piece)
                    .offset(offset)
                    .build()
            }
            Job::Flush | Job::MetaPreflush { .. } => {
                self.flushing = self.file.written.get();
                opcode::Fsync::new(fd)
                    .flags(types::FsyncFlags::DATASYNC)
                    .build()
            }
            Job::Deallocate { kind } => {
                let mode = match kind {
                    // On a block device this is a write of zeroes that may unmap, never a discard that may leave
                    // anything behind.
                    DiscardKind::Discard | DiscardKind::ZeroesMayUnmap => {
                        libc::FALLOC_FL_PUNCH_HOLE
                    }
                    DiscardKind::Zeroes => libc::FALLOC_FL_ZERO_RANGE,
                };
                opcode::Fallocate::new(fd, u64::from(left))
                    .offset(offset)
                    .mode(mode | libc::FALLOC_FL_KEEP_SIZE)
                    .build()
            }
        }
    }

    /// Handles its completion.
    pub(crate) fn on_completion(
        mut self,
        result: i32,
        ring: &mut Ring<impl Operation + From<DiskIo>>,
        zeroes: &Rc<Zeroes>,
    ) -> Progress {
        if result == -libc::EINTR || result == -libc::EAGAIN {
            self.start(ring);
            return Progress::GoesOn;
        }
        if let Job::Deallocate { kind } = &mut self.job
            && matches!(-result, libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS)
        {
            // What the disk cannot do is done by hand: the range must end up as asked.
            match kind {
                DiscardKind::Discard | DiscardKind::ZeroesMayUnmap => *kind = DiscardKind::Zeroes,
                DiscardKind::Zeroes => {
                    self.job = Job::Zero;
                    self.memory = Memory::Zeroes(Rc::clone(zeroes));
                }
            }
            self.start(ring);
            return Progress::GoesOn;
        }
        if result < 0 {
            let error = DiskError { errno: -result };
            if error.is_no_space() && self.may_wait() {
                return Progress::Full(Box::new(self), error);
            }
            return self.ended(Err(error));
        }
        self.on_success(result as u32, ring)
    }

    /// The operation of the ring has done what it could: so many bytes, if it transfers any.
    fn on_success(
        mut self,
        transferred: u32,
        ring: &mut Ring<impl Operation + From<DiskIo>>,
    ) -> Progress {
        let synced = std::mem::take(&mut self.syncing);
        match &mut self.job {
            Job::Flush => {
                self.file
                    .flushed
                    .set(self.file.flushed.get().max(self.flushing));
                return self.ended(Ok(()));
            }
            Job::MetaPreflush { data, fua } => {
                self.file
                    .flushed
                    .set(self.file.flushed.get().max(self.flushing));
                self.job = Job::MetaWrite {
                    data: std::mem::take(data),
                    from: 0,
                    fua: *fua,
                };
                self.stage_meta_write();
                self.start(ring);
                return Progress::GoesOn;
            }
            Job::Deallocate { .. } => {
                self.file.note_write();
                return self.ended(Ok(()));
            }
            _ => {}
        }
        if !synced {
            if transferred == 0 && self.len > self.done {
                // The end of the file where there should be more.
                return self.ended(Err(DiskError { errno: 0 }));
            }
            self.done = self.len.min(self.done + transferred);
            if self.done < self.len {
                self.start(ring);
                return Progress::GoesOn;
            }
            if self.is_durable() && !self.file.open.direct {
                self.syncing = true;
                self.start(ring);
                return Progress::GoesOn;
            }
        }
        match &mut self.job {
            Job::Write { fua: false } | Job::MetaWrite { fua: false, .. } | Job::Zero => {
                self.file.note_write();
            }
            _ => {}
        }
        match &mut self.job {
            Job::MetaRead { bytes, total } => {
                if let Memory::Heap(memory) = &self.memory {
                    bytes.extend_from_slice(&memory.as_slice()[..self.len as usize]);
                }
                let left = *total as usize - bytes.len();
                if left > 0 {
                    self.offset += u64::from(self.len);
                    (self.len, self.done) = (left.min(META_PIECE_BYTES) as u32, 0);
                    self.start(ring);
                    return Progress::GoesOn;
                }
            }
            Job::MetaWrite { data, from, .. } => {
                *from += self.len as usize;
                if *from < data.len() {
                    self.offset += u64::from(self.len);
                    self.stage_meta_write();
                    self.start(ring);
                    return Progress::GoesOn;
                }
            }
            _ => {}
        }
        self.ended(Ok(()))
    }

    fn ended(self, result: Result<(), DiskError>) -> Progress {
        Progress::Ended(self.end(result))
    }

    pub(crate) fn end(self, result: Result<(), DiskError>) -> (VolumeNr, Answer, Ended) {
        let ended = match self.job {
            Job::MetaRead { bytes, .. } => Ended::Meta(result.map(|()| bytes)),
            Job::MetaPreflush { .. } | Job::MetaWrite { .. } => {
                Ended::Meta(result.map(|()| Vec::new()))
            }
            Job::BounceRead { mut into, skip } => Ended::Data(result.map(|()| {
                if let (Memory::Heap(memory), Some(bytes)) = (&self.memory, into.as_mut_slice()) {
                    let from = skip as usize;
                    bytes.copy_from_slice(&memory.as_slice()[from..from + bytes.len()]);
                }
                Some(into)
            })),
            Job::Read => match self.memory {
                Memory::Heap(memory) => Ended::Bounce(result.map(|()| memory)),
                Memory::Pool(buf) => Ended::Data(result.map(|()| Some(buf))),
                Memory::None | Memory::Zeroes(_) => Ended::Data(result.map(|()| None)),
            },
            Job::Write { .. } | Job::Flush | Job::Deallocate { .. } | Job::Zero => {
                Ended::Data(result.map(|()| None))
            }
        };
        (self.volume, self.answer, ended)
    }

    /// Whether a flush of this file has anything to do.
    pub(crate) fn flush_is_needed(file: &DiskFile) -> bool {
        !file.is_clean()
    }
}
