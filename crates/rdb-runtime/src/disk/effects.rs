//! The engine's disk effects, and how their answers get back to it.

use std::collections::VecDeque;
use std::rc::Rc;

use rdb_engine::{DiscardKind, DiskError, Event, IoTag, ReadFor, VolumeNr};

use super::lane::Change;
use super::{Answer, DiskFile, DiskIo, Ended, Job, Memory, Step};
use crate::engine::Engine;
use crate::event_loop::{Disk, EventLoop, SplitJob, WaitingRead};
use crate::op::Op;
use crate::pool::{Aligned, Buf, Reserve};

/// What is said of I/O to a volume that has no disk.
const NO_DISK: DiskError = DiskError {
    errno: libc::ENODEV,
};
/// What is said of a range that no device has.
const BAD_RANGE: DiskError = DiskError {
    errno: libc::EINVAL,
};

impl<E: Engine> EventLoop<E> {
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

    pub(crate) fn read(&mut self, read: WaitingRead) {
        // Those that wait already come first, so that a large one gets its turn.
        let whose = read.whose;
        if !self.waiting(whose).is_empty() || !self.start_read(&read) {
            self.waiting(whose).push_back(read);
            if whose == ReadFor::User {
                self.watch_clients();
            }
        }
    }

    fn waiting(&mut self, whose: ReadFor) -> &mut VecDeque<WaitingRead> {
        match whose {
            ReadFor::User => &mut self.waiting_reads,
            ReadFor::Peer => &mut self.waiting_peer_reads,
        }
    }

    /// Retries reads that waited for a buffer; whether one was started.
    pub(crate) fn retry_reads(&mut self, whose: ReadFor) -> bool {
        let mut any = false;
        while let Some(read) = self.waiting(whose).pop_front() {
            if !self.start_read(&read) {
                self.waiting(whose).push_front(read);
                break;
            }
            any = true;
        }
        any
    }

    /// Whether it could be started, or has failed already.
    fn start_read(&mut self, read: &WaitingRead) -> bool {
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
                self.answer(answer, Err(error));
                return true;
            }
        };
        let buf = match whose {
            ReadFor::User => self.io.pool.take(Reserve::Read, bytes),
            ReadFor::Peer => self.io.pool.take_for_peer(bytes),
        };
        let Some(buf) = buf else {
            return false;
        };
        let io = if disk.data.is_aligned(offset, u64::from(bytes)) {
            DiskIo::new(
                volume,
                answer,
                &disk.data,
                Job::Read,
                (offset, bytes),
                Memory::Pool(buf),
            )
        } else {
            let block = u64::from(disk.data.open.block_bytes);
            let start = offset / block * block;
            let end = (offset + u64::from(bytes)).next_multiple_of(block);
            let job = Job::BounceRead {
                into: buf,
                skip: (offset - start) as u32,
            };
            let memory = Memory::Heap(Aligned::zeroed((end - start) as usize));
            DiskIo::new(
                volume,
                answer,
                &disk.data,
                job,
                (start, (end - start) as u32),
                memory,
            )
        };
        io.start(&mut self.io.ring);
        true
    }

    pub(crate) fn write(
        &mut self,
        volume: VolumeNr,
        answer: Answer,
        sector: u64,
        payload: Buf,
        fua: bool,
    ) {
        let len = payload.len() as u32;
        let (disk, offset) = match self.disk_range(volume, sector, u64::from(len)) {
            Ok(range) => range,
            Err(error) => return self.answer(answer, Err(error)),
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
            return self.advance_lane(volume);
        }
        let memory = Memory::Pool(payload);
        DiskIo::new(
            volume,
            answer,
            &disk.data,
            Job::Write { fua },
            (offset, len),
            memory,
        )
        .start(&mut self.io.ring);
    }

    pub(crate) fn flush(&mut self, volume: VolumeNr, tag: IoTag) {
        let answer = Answer::Engine(tag);
        let Some(disk) = self.disk(volume) else {
            return self.answer(answer, Err(NO_DISK));
        };
        if !DiskIo::flush_is_needed(&disk.data) {
            return self.answer(answer, Ok(None));
        }
        DiskIo::new(volume, answer, &disk.data, Job::Flush, (0, 0), Memory::None)
            .start(&mut self.io.ring);
    }

    pub(crate) fn discard(
        &mut self,
        volume: VolumeNr,
        tag: IoTag,
        (sector, bytes): (u64, u32),
        kind: DiscardKind,
    ) {
        let answer = Answer::Engine(tag);
        let (disk, offset) = match self.disk_range(volume, sector, u64::from(bytes)) {
            Ok(range) => range,
            Err(error) => return self.answer(answer, Err(error)),
        };
        let block = disk.data.open.block_bytes;
        let lane = &self.volume(volume).lane;
        if disk.data.is_aligned(offset, u64::from(bytes))
            && !lane.blocks(offset, u64::from(bytes), block)
        {
            self.deallocate(volume, &disk.data, answer, (offset, bytes), kind);
            return;
        }
        self.discard_in_parts(volume, &disk, answer, (offset, bytes), kind);
    }

    fn deallocate(
        &mut self,
        volume: VolumeNr,
        file: &Rc<DiskFile>,
        answer: Answer,
        range: (u64, u32),
        kind: DiscardKind,
    ) {
        let job = Job::Deallocate { kind };
        DiskIo::new(volume, answer, file, job, range, Memory::None).start(&mut self.io.ring);
    }

    /// Whole blocks are deallocated, what is left at the edges is zeroed in the lane; a range that has to wait
    /// behind the lane is zeroed there as a whole.
    fn discard_in_parts(
        &mut self,
        volume: VolumeNr,
        disk: &Disk,
        answer: Answer,
        (offset, bytes): (u64, u32),
        kind: DiscardKind,
    ) {
        let block_bytes = disk.data.open.block_bytes;
        let block = u64::from(block_bytes);
        let end = offset + u64::from(bytes);
        let (first, last) = (offset.next_multiple_of(block), end / block * block);
        let whole = first < last
            && !self
                .volume(volume)
                .lane
                .blocks(first, last - first, block_bytes);
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
            self.deallocate(
                volume,
                &disk.data,
                part,
                (first, (last - first) as u32),
                kind,
            );
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
        self.advance_lane(volume);
    }

    pub(crate) fn meta_read(&mut self, volume: VolumeNr, tag: IoTag, sector: u64, bytes: u32) {
        match self.meta_file(volume, sector, bytes as usize) {
            Ok(file) => {
                DiskIo::meta_read(volume, tag, &file, sector, bytes).start(&mut self.io.ring);
            }
            Err(error) => self.io.pending.push_back(Event::MetaDone {
                tag,
                result: Err(error),
            }),
        }
    }

    pub(crate) fn meta_write(
        &mut self,
        volume: VolumeNr,
        tag: IoTag,
        (sector, data): (u64, Vec<u8>),
        preflush: bool,
        fua: bool,
    ) {
        match self.meta_file(volume, sector, data.len()) {
            Ok(file) => {
                DiskIo::meta_write(volume, tag, &file, (sector, data), preflush, fua)
                    .start(&mut self.io.ring);
            }
            Err(error) => self.io.pending.push_back(Event::MetaDone {
                tag,
                result: Err(error),
            }),
        }
    }

    fn meta_file(
        &self,
        volume: VolumeNr,
        sector: u64,
        bytes: usize,
    ) -> Result<Rc<DiskFile>, DiskError> {
        let file = self.disk(volume).ok_or(NO_DISK)?.meta;
        offset_of(&file, sector, bytes as u64)
            .map(|_| file)
            .ok_or(BAD_RANGE)
    }

    /// Closes a volume's disk. What is in flight keeps its file open until it ends.
    pub(crate) fn close_disk(&mut self, nr: VolumeNr) {
        self.volume(nr).disk = None;
        // The engine has nothing outstanding; should it, then each is answered.
        for step in std::mem::take(&mut self.volume(nr).lane).steps {
            self.answer(step.answer, Err(NO_DISK));
        }
        self.retry_reads(ReadFor::User);
        self.retry_reads(ReadFor::Peer);
    }

    pub(crate) fn on_disk_end(&mut self, (volume, answer, ended): (VolumeNr, Answer, Ended)) {
        match (ended, answer) {
            (Ended::Meta(result), Answer::Engine(tag)) => {
                self.raise(Event::MetaDone { tag, result });
            }
            (Ended::Data(result), Answer::Lane) => self.on_lane_written(volume, result),
            (Ended::Bounce(result), Answer::Lane) => self.on_lane_read(volume, result),
            (Ended::Data(result), Answer::Engine(tag)) => {
                self.raise(Event::DiskDone { tag, result });
            }
            (Ended::Data(result), answer) => self.answer(answer, result),
            (Ended::Bounce(_) | Ended::Meta(_), _) => {}
        }
        self.advance_lane(volume);
    }

    /// Passes an answer on, through `pending`, for this may run amid effects.
    pub(super) fn answer(&mut self, answer: Answer, result: Result<Option<Buf>, DiskError>) {
        match answer {
            Answer::Engine(tag) => self.io.pending.push_back(Event::DiskDone { tag, result }),
            Answer::Lane => {}
            Answer::Part(key) => {
                let Some(split) = self.splits.get_mut(key) else {
                    return;
                };
                split.left -= 1;
                split.error = split.error.or(result.err());
                if split.left == 0 {
                    let SplitJob { answer, error, .. } = self.splits.remove(key);
                    self.answer(answer, error.map_or(Ok(None), Err));
                }
            }
        }
    }

    /// Starts the first step of a lane, if nothing is in its way.
    pub(super) fn advance_lane(&mut self, nr: VolumeNr) {
        let Some(disk) = self.disk(nr) else { return };
        let block_bytes = disk.data.open.block_bytes;
        let lane = &self.volume(nr).lane;
        let Some(step) = lane.steps.front().filter(|_| !lane.active) else {
            return;
        };
        let blocks = step.blocks(block_bytes);
        let aligned = disk.data.is_aligned(step.offset, u64::from(step.len));
        let in_the_way = self
            .io
            .ring
            .in_flight()
            .any(|op| matches!(op, Op::Disk(io) if io.writes_to(nr, &blocks)))
            || self.kept.writes_to(nr, &blocks);
        if in_the_way {
            // Looked at again when any I/O of the volume ends.
            return;
        }
        let len = (blocks.end - blocks.start) as u32;
        let memory = Memory::Heap(Aligned::zeroed(len as usize));
        self.volume(nr).lane.active = true;
        if aligned {
            // Nothing to keep: it is here only for the order.
            return self.write_lane(nr, &disk, memory);
        }
        DiskIo::new(
            nr,
            Answer::Lane,
            &disk.data,
            Job::Read,
            (blocks.start, len),
            memory,
        )
        .start(&mut self.io.ring);
    }

    fn write_lane(&mut self, nr: VolumeNr, disk: &Disk, memory: Memory) {
        let Memory::Heap(mut memory) = memory else {
            return;
        };
        let Some(step) = self.volume(nr).lane.steps.front() else {
            return;
        };
        let blocks = step.blocks(disk.data.open.block_bytes);
        step.apply(&blocks, &mut memory);
        let job = Job::Write { fua: step.fua };
        let range = (blocks.start, (blocks.end - blocks.start) as u32);
        DiskIo::new(
            nr,
            Answer::Lane,
            &disk.data,
            job,
            range,
            Memory::Heap(memory),
        )
        .start(&mut self.io.ring);
    }

    fn on_lane_read(&mut self, nr: VolumeNr, result: Result<Aligned, DiskError>) {
        match (result, self.disk(nr)) {
            (Ok(memory), Some(disk)) => self.write_lane(nr, &disk, Memory::Heap(memory)),
            (Ok(_), None) => self.on_lane_written(nr, Err(NO_DISK)),
            (Err(error), _) => self.on_lane_written(nr, Err(error)),
        }
    }

    pub(super) fn on_lane_written(&mut self, nr: VolumeNr, result: Result<Option<Buf>, DiskError>) {
        let lane = &mut self.volume(nr).lane;
        if !std::mem::take(&mut lane.active) {
            return;
        }
        if let Some(step) = lane.steps.pop_front() {
            self.answer(step.answer, result.map(|_| None));
        }
    }
}

/// The first byte of a range that is not empty and lies on the disk.
fn offset_of(file: &DiskFile, sector: u64, bytes: u64) -> Option<u64> {
    let offset = sector.checked_mul(512)?;
    let end = offset.checked_add(bytes)?;
    (bytes > 0 && end <= file.open.capacity_sectors * 512).then_some(offset)
}
