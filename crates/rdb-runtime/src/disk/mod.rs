//! The disks of a resource's volumes: the engine's disk effects, and how their answers get back to it.

pub(crate) mod io;
mod lane;
pub(crate) mod left;
pub(crate) mod open;
mod space;

use std::collections::VecDeque;
use std::io::Result as IoResult;
use std::rc::Rc;
use std::sync::Arc;

use rdb_engine::{DiscardKind, DiskError, Event, IoTag, ReadFor, VolumeNr};
use slab::Slab;

use self::io::{Answer, DiskFile, DiskIo, Ended, Job, Memory, Progress};
use self::lane::{Change, Lane, Step};
use self::open::OpenFile;
use self::space::Kept;
use crate::io::Io;
use crate::op::Op;
use crate::pool::{Aligned, Buf, Reserve, Zeroes};

/// What is said of I/O to a volume that has no disk.
const NO_DISK: DiskError = DiskError {
    errno: libc::ENODEV,
};
/// What is said of a range that no device has.
const BAD_RANGE: DiskError = DiskError {
    errno: libc::EINVAL,
};

/// The disks of all volumes, and what waits to be done on them.
pub(crate) struct Disks {
    volumes: Vec<Volume>,
    /// Reads of our users that wait for a buffer.
    waiting_reads: VecDeque<WaitingRead>,
    /// Reads for the peer that do; the engine has only so many under way.
    waiting_peer_reads: VecDeque<WaitingRead>,
    splits: Slab<SplitJob>,
    /// Writes that have met a full disk.
    kept: Kept,
    zeroes: Rc<Zeroes>,
}

/// What a volume has of disks. There is one for each volume that was ever asked for.
struct Volume {
    nr: VolumeNr,
    /// From the attach until the engine has it closed.
    disk: Option<Disk>,
    lane: Lane,
}

/// A volume's open files; the same one twice if the metadata is internal.
#[derive(Clone)]
struct Disk {
    data: Rc<DiskFile>,
    meta: Rc<DiskFile>,
}

/// A job of the engine that is done in parts.
struct SplitJob {
    answer: Answer,
    left: u32,
    error: Option<DiskError>,
}

/// A read of the disk that has no buffer yet.
struct WaitingRead {
    volume: VolumeNr,
    answer: Answer,
    sector: u64,
    bytes: u32,
    whose: ReadFor,
}

impl Disks {
    pub(crate) fn new() -> IoResult<Disks> {
        Ok(Disks {
            volumes: Vec::new(),
            waiting_reads: VecDeque::new(),
            waiting_peer_reads: VecDeque::new(),
            splits: Slab::new(),
            kept: Kept::default(),
            zeroes: Rc::new(Zeroes::new()?),
        })
    }

    /// Whether a read of our users waits for a buffer.
    pub(crate) fn has_waiting_reads(&self) -> bool {
        !self.waiting_reads.is_empty()
    }

    /// Gives a volume its disk; `false`: it has one.
    pub(crate) fn attach(
        &mut self,
        nr: VolumeNr,
        data: Arc<OpenFile>,
        meta: Arc<OpenFile>,
    ) -> bool {
        let volume = self.volume(nr);
        if volume.disk.is_some() {
            return false;
        }
        let is_internal = Arc::ptr_eq(&data, &meta);
        let data = DiskFile::new(data);
        let meta = match is_internal {
            true => Rc::clone(&data),
            false => DiskFile::new(meta),
        };
        volume.disk = Some(Disk { data, meta });
        true
    }

    fn volume(&mut self, nr: VolumeNr) -> &mut Volume {
        let found = self.volumes.iter().position(|volume| volume.nr == nr);
        let index = found.unwrap_or_else(|| {
            self.volumes.push(Volume {
                nr,
                disk: None,
                lane: Lane::default(),
            });
            self.volumes.len() - 1
        });
        &mut self.volumes[index]
    }

    fn disk(&self, nr: VolumeNr) -> Option<Disk> {
        self.volumes
            .iter()
            .find(|volume| volume.nr == nr)?
            .disk
            .clone()
    }

    /// The disk and the first byte of a range that lies on it. A write behind the end would let a file grow.
    fn disk_range(&self, nr: VolumeNr, sector: u64, bytes: u64) -> Result<(Disk, u64), DiskError> {
        let disk = self.disk(nr).ok_or(NO_DISK)?;
        let offset = offset_of(&disk.data, sector, bytes).ok_or(BAD_RANGE)?;
        Ok((disk, offset))
    }

    /// Reads, as soon as there is a buffer; whether it has to wait for one.
    pub(crate) fn read(
        &mut self,
        io: &mut Io,
        (volume, tag): (VolumeNr, IoTag),
        (sector, bytes): (u64, u32),
        whose: ReadFor,
    ) -> bool {
        let read = WaitingRead {
            volume,
            answer: Answer::Engine(tag),
            sector,
            bytes,
            whose,
        };
        // Those that wait already come first, so that a large one gets its turn.
        let waits = !self.waiting(whose).is_empty() || !self.start_read(io, &read);
        if waits {
            self.waiting(whose).push_back(read);
        }
        waits
    }

    fn waiting(&mut self, whose: ReadFor) -> &mut VecDeque<WaitingRead> {
        match whose {
            ReadFor::User => &mut self.waiting_reads,
            ReadFor::Peer => &mut self.waiting_peer_reads,
        }
    }

    /// Retries reads that waited for a buffer; whether one was started.
    pub(crate) fn retry_reads(&mut self, io: &mut Io, whose: ReadFor) -> bool {
        let mut any = false;
        while let Some(read) = self.waiting(whose).pop_front() {
            if !self.start_read(io, &read) {
                self.waiting(whose).push_front(read);
                break;
            }
            any = true;
        }
        any
    }

    /// Whether it could be started, or has failed already.
    fn start_read(&mut self, io: &mut Io, read: &WaitingRead) -> bool {
        let &WaitingRead {
            volume,
            answer,
            sector,
            bytes,
            whose,
        } = read;
        let range = match bytes {
            ..=rdb_engine::REQUEST_MAX_BYTES => self.disk_range(volume, sector, u64::from(bytes)),
            _ => Err(BAD_RANGE),
        };
        let (disk, offset) = match range {
            Ok(range) => range,
            Err(error) => {
                self.answer(io, answer, Err(error));
                return true;
            }
        };
        let buf = match whose {
            ReadFor::User => io.pool.take(Reserve::Read, bytes),
            ReadFor::Peer => io.pool.take_for_peer(bytes),
        };
        let Some(buf) = buf else {
            return false;
        };
        let who = (volume, answer);
        let read = if disk.data.is_aligned(offset, u64::from(bytes)) {
            let memory = Memory::Pool(buf);
            DiskIo::new(who, &disk.data, Job::Read, (offset, bytes), memory)
        } else {
            let block = u64::from(disk.data.open.block_bytes);
            let start = offset / block * block;
            let end = (offset + u64::from(bytes)).next_multiple_of(block);
            let (skip, into) = ((offset - start) as u32, buf);
            let job = Job::BounceRead { into, skip };
            let memory = Memory::Heap(Aligned::zeroed((end - start) as usize));
            DiskIo::new(who, &disk.data, job, (start, (end - start) as u32), memory)
        };
        read.start(&mut io.ring);
        true
    }

    pub(crate) fn write(
        &mut self,
        io: &mut Io,
        (volume, tag): (VolumeNr, IoTag),
        sector: u64,
        payload: Buf,
        fua: bool,
    ) {
        let answer = Answer::Engine(tag);
        let len = payload.len() as u32;
        let (disk, offset) = match self.disk_range(volume, sector, u64::from(len)) {
            Ok(range) => range,
            Err(error) => return self.answer(io, answer, Err(error)),
        };
        let block = disk.data.open.block_bytes;
        let aligned = disk.data.is_aligned(offset, u64::from(len));
        let lane = &mut self.volume(volume).lane;
        if !aligned || lane.blocks(offset, u64::from(len), block) {
            let change = Change::Payload(payload);
            lane.steps.push_back(Step {
                answer,
                change,
                offset,
                len,
                fua,
            });
            return self.advance_lane(io, volume);
        }
        let (job, memory) = (Job::Write { fua }, Memory::Pool(payload));
        let who = (volume, answer);
        DiskIo::new(who, &disk.data, job, (offset, len), memory).start(&mut io.ring);
    }

    pub(crate) fn flush(&mut self, io: &mut Io, (volume, tag): (VolumeNr, IoTag)) {
        let answer = Answer::Engine(tag);
        let Some(disk) = self.disk(volume) else {
            return self.answer(io, answer, Err(NO_DISK));
        };
        if !DiskIo::flush_is_needed(&disk.data) {
            return self.answer(io, answer, Ok(None));
        }
        let (who, memory) = ((volume, answer), Memory::None);
        DiskIo::new(who, &disk.data, Job::Flush, (0, 0), memory).start(&mut io.ring);
    }

    pub(crate) fn discard(
        &mut self,
        io: &mut Io,
        (volume, tag): (VolumeNr, IoTag),
        (sector, bytes): (u64, u32),
        kind: DiscardKind,
    ) {
        let answer = Answer::Engine(tag);
        let (disk, offset) = match self.disk_range(volume, sector, u64::from(bytes)) {
            Ok(range) => range,
            Err(error) => return self.answer(io, answer, Err(error)),
        };
        let (block, len) = (disk.data.open.block_bytes, u64::from(bytes));
        let waits = self.volume(volume).lane.blocks(offset, len, block);
        let range = (offset, bytes);
        if disk.data.is_aligned(offset, len) && !waits {
            deallocate(io, (volume, answer), &disk.data, range, kind);
        } else {
            self.discard_in_parts(io, (volume, answer), &disk, range, kind);
        }
    }

    /// Whole blocks are deallocated, what is left at the edges is zeroed in the lane; a range that has to wait
    /// behind the lane is zeroed there as a whole.
    fn discard_in_parts(
        &mut self,
        io: &mut Io,
        (volume, answer): (VolumeNr, Answer),
        disk: &Disk,
        (offset, bytes): (u64, u32),
        kind: DiscardKind,
    ) {
        let block_bytes = disk.data.open.block_bytes;
        let block = u64::from(block_bytes);
        let end = offset + u64::from(bytes);
        let (first, last) = (offset.next_multiple_of(block), end / block * block);
        let lane = &self.volume(volume).lane;
        let whole = first < last && !lane.blocks(first, last - first, block_bytes);
        let edges: Vec<(u64, u64)> = if whole {
            vec![(offset, first), (last, end)]
        } else {
            // In pieces that a bounce buffer holds.
            (0..u64::from(bytes).div_ceil(1 << 20))
                .map(|piece| {
                    let start = offset + (piece << 20);
                    (start, end.min(start + (1 << 20)))
                })
                .collect()
        };
        let edges: Vec<_> = edges
            .into_iter()
            .filter(|(start, end)| start < end)
            .collect();
        let left = edges.len() as u32 + u32::from(whole);
        let part = Answer::Part(self.splits.insert(SplitJob {
            answer,
            left,
            error: None,
        }));
        if whole {
            let range = (first, (last - first) as u32);
            deallocate(io, (volume, part), &disk.data, range, kind);
        }
        for (start, end) in edges {
            let len = (end - start) as u32;
            let step = Step {
                answer: part,
                change: Change::Zeroes,
                offset: start,
                len,
                fua: false,
            };
            self.volume(volume).lane.steps.push_back(step);
        }
        self.advance_lane(io, volume);
    }

    pub(crate) fn meta_read(
        &mut self,
        io: &mut Io,
        id: (VolumeNr, IoTag),
        sector: u64,
        bytes: u32,
    ) {
        let place = self.meta_place(id.0, sector, bytes as usize);
        let made = place.map(|(file, offset)| DiskIo::meta_read(id, &file, offset, bytes));
        start_meta(io, id.1, made);
    }

    pub(crate) fn meta_write(
        &mut self,
        io: &mut Io,
        id: (VolumeNr, IoTag),
        (sector, data): (u64, Vec<u8>),
        preflush: bool,
        fua: bool,
    ) {
        let place = self.meta_place(id.0, sector, data.len());
        let made = place
            .map(|(file, offset)| DiskIo::meta_write(id, &file, (offset, data), preflush, fua));
        start_meta(io, id.1, made);
    }

    /// The file of the metadata and the first byte of a range that lies in it.
    fn meta_place(
        &self,
        volume: VolumeNr,
        sector: u64,
        bytes: usize,
    ) -> Result<(Rc<DiskFile>, u64), DiskError> {
        let file = self.disk(volume).ok_or(NO_DISK)?.meta;
        let offset = offset_of(&file, sector, bytes as u64).ok_or(BAD_RANGE)?;
        Ok((file, offset))
    }

    /// Closes a volume's disk. What is in flight keeps its file open until it ends.
    pub(crate) fn close(&mut self, io: &mut Io, nr: VolumeNr) {
        self.volume(nr).disk = None;
        // The engine has nothing outstanding; should it, then each is answered.
        for step in std::mem::take(&mut self.volume(nr).lane).steps {
            self.answer(io, step.answer, Err(NO_DISK));
        }
        self.retry_reads(io, ReadFor::User);
        self.retry_reads(io, ReadFor::Peer);
    }

    /// Handles a completion: the event to be raised, and the volume whose lane may go on after that.
    pub(crate) fn on_completion(
        &mut self,
        io: &mut Io,
        disk_io: DiskIo,
        result: i32,
    ) -> (Option<Event<Buf>>, Option<VolumeNr>) {
        let ended = match disk_io.on_completion(result, &mut io.ring, &self.zeroes) {
            Progress::GoesOn => return (None, None),
            Progress::Ended(ended) => ended,
            Progress::Full(full, error) => match self.tag_of(full.volume, full.answer) {
                Some(tag) => {
                    self.kept.keep(tag, *full, error);
                    return (Some(Event::NoSpace { tag, error }), None);
                }
                None => full.end(Err(error)),
            },
        };
        let (volume, answer, ended) = ended;
        let event = match (ended, answer) {
            (Ended::Meta(result), Answer::Engine(tag)) => Some(Event::MetaDone { tag, result }),
            (Ended::Data(result), Answer::Engine(tag)) => Some(Event::DiskDone { tag, result }),
            (Ended::Bounce(result), Answer::Lane) => {
                self.on_lane_read(io, volume, result);
                None
            }
            (ended, answer) => {
                self.on_end(io, volume, answer, ended);
                None
            }
        };
        (event, Some(volume))
    }

    /// Passes an end on, through `pending`, for this may run amid effects.
    fn on_end(&mut self, io: &mut Io, volume: VolumeNr, answer: Answer, ended: Ended) {
        match (ended, answer) {
            (Ended::Meta(result), Answer::Engine(tag)) => {
                io.pending.push_back(Event::MetaDone { tag, result });
            }
            (Ended::Data(result), Answer::Lane) => self.on_lane_written(io, volume, result),
            (Ended::Data(result), answer) => self.answer(io, answer, result),
            (Ended::Bounce(_) | Ended::Meta(_), _) => {}
        }
    }

    /// What the engine calls the operation that this answer is for.
    fn tag_of(&self, nr: VolumeNr, mut answer: Answer) -> Option<IoTag> {
        loop {
            answer = match answer {
                Answer::Engine(tag) => return Some(tag),
                Answer::Part(key) => self.splits.get(key)?.answer,
                Answer::Lane => {
                    let volume = self.volumes.iter().find(|volume| volume.nr == nr)?;
                    volume.lane.steps.front()?.answer
                }
            }
        }
    }

    /// Tries again what was kept for this operation.
    pub(crate) fn retry_io(&mut self, io: &mut Io, tag: IoTag) {
        for (kept, _) in self.kept.take(tag) {
            kept.start_again(&mut io.ring);
        }
    }

    /// What was kept for this operation ends with the error that it has met.
    pub(crate) fn give_up_io(&mut self, io: &mut Io, tag: IoTag) {
        for (kept, error) in self.kept.take(tag) {
            let (volume, answer, ended) = kept.end(Err(error));
            self.on_end(io, volume, answer, ended);
            self.advance_lane(io, volume);
        }
    }

    /// Passes an answer on, through `pending`, for this may run amid effects.
    fn answer(&mut self, io: &mut Io, answer: Answer, result: Result<Option<Buf>, DiskError>) {
        match answer {
            Answer::Engine(tag) => io.pending.push_back(Event::DiskDone { tag, result }),
            Answer::Lane => {}
            Answer::Part(key) => {
                let Some(split) = self.splits.get_mut(key) else {
                    return;
                };
                split.left -= 1;
                split.error = split.error.or(result.err());
                if split.left == 0 {
                    let SplitJob { answer, error, .. } = self.splits.remove(key);
                    self.answer(io, answer, error.map_or(Ok(None), Err));
                }
            }
        }
    }

    /// Starts the first step of a lane, if nothing is in its way.
    pub(crate) fn advance_lane(&mut self, io: &mut Io, nr: VolumeNr) {
        let Some(disk) = self.disk(nr) else { return };
        let block_bytes = disk.data.open.block_bytes;
        let lane = &self.volume(nr).lane;
        let Some(step) = lane.steps.front().filter(|_| !lane.active) else {
            return;
        };
        let blocks = step.blocks(block_bytes);
        let aligned = disk.data.is_aligned(step.offset, u64::from(step.len));
        let in_the_way = io
            .ring
            .in_flight()
            .any(|op| matches!(op, Op::Disk(other) if other.writes_to(nr, &blocks)))
            || self.kept.writes_to(nr, &blocks);
        if in_the_way {
            // Looked at again when any I/O of the volume ends.
            return;
        }
        let len = (blocks.end - blocks.start) as u32;
        let memory = Aligned::zeroed(len as usize);
        self.volume(nr).lane.active = true;
        if aligned {
            // Nothing to keep: it is here only for the order.
            return self.write_lane(io, nr, &disk, memory);
        }
        let (who, range) = ((nr, Answer::Lane), (blocks.start, len));
        let memory = Memory::Heap(memory);
        DiskIo::new(who, &disk.data, Job::Read, range, memory).start(&mut io.ring);
    }

    fn write_lane(&mut self, io: &mut Io, nr: VolumeNr, disk: &Disk, mut memory: Aligned) {
        let Some(step) = self.volume(nr).lane.steps.front() else {
            return;
        };
        let blocks = step.blocks(disk.data.open.block_bytes);
        step.apply(&blocks, &mut memory);
        let job = Job::Write { fua: step.fua };
        let range = (blocks.start, (blocks.end - blocks.start) as u32);
        let (who, memory) = ((nr, Answer::Lane), Memory::Heap(memory));
        DiskIo::new(who, &disk.data, job, range, memory).start(&mut io.ring);
    }

    fn on_lane_read(&mut self, io: &mut Io, nr: VolumeNr, result: Result<Aligned, DiskError>) {
        match (result, self.disk(nr)) {
            (Ok(memory), Some(disk)) => self.write_lane(io, nr, &disk, memory),
            (Ok(_), None) => self.on_lane_written(io, nr, Err(NO_DISK)),
            (Err(error), _) => self.on_lane_written(io, nr, Err(error)),
        }
    }

    fn on_lane_written(
        &mut self,
        io: &mut Io,
        nr: VolumeNr,
        result: Result<Option<Buf>, DiskError>,
    ) {
        let lane = &mut self.volume(nr).lane;
        if !std::mem::take(&mut lane.active) {
            return;
        }
        if let Some(step) = lane.steps.pop_front() {
            self.answer(io, step.answer, result.map(|_| None));
        }
    }
}

fn deallocate(
    io: &mut Io,
    who: (VolumeNr, Answer),
    file: &Rc<DiskFile>,
    range: (u64, u32),
    kind: DiscardKind,
) {
    let job = Job::Deallocate { kind };
    DiskIo::new(who, file, job, range, Memory::None).start(&mut io.ring);
}

fn start_meta(io: &mut Io, tag: IoTag, made: Result<DiskIo, DiskError>) {
    match made {
        Ok(made) => made.start(&mut io.ring),
        Err(error) => {
            let result = Err(error);
            io.pending.push_back(Event::MetaDone { tag, result });
        }
    }
}

/// The first byte of a range that is not empty and lies on the disk.
fn offset_of(file: &DiskFile, sector: u64, bytes: u64) -> Option<u64> {
    let offset = sector.checked_mul(512)?;
    let end = offset.checked_add(bytes)?;
    (bytes > 0 && end <= file.open.capacity_sectors * 512).then_some(offset)
}
