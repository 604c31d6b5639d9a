//! What a disk does with one I/O: it is carried out, whole or in part, or fails.

use std::rc::Rc;

use rdb_engine::{DiskError, Effect, Event, IoTag, Payload};

use crate::disk::Disk;
use crate::node::{Data, Node, Op, what_metadata};
use crate::rng::Rng;

const IO_ERROR: DiskError = DiskError { errno: 5 };

fn fails(left: &mut u32) -> bool {
    let fails = *left > 0;
    *left = left.saturating_sub(1);
    fails
}

impl Op {
    /// Whether it fails, by what these disks are to fail; `reads` and `writes` of data fail for the time being.
    pub fn fails(&self, disks: &mut [Disk], reads: bool, writes: bool) -> bool {
        let Some(volume) = self.volume() else {
            return false;
        };
        let disk = &mut disks[volume];
        if disk.dead {
            return true;
        }
        match *self {
            Op::Read { sector, bytes, .. } => {
                let bad = disk.is_bad(sector, u64::from(bytes / 512));
                bad || reads || fails(&mut disk.fail_reads)
            }
            Op::Write {
                sector, ref data, ..
            } => {
                let bad = disk.is_bad(sector, data.len() as u64 / 512);
                bad || writes || fails(&mut disk.fail_writes)
            }
            Op::Zero {
                sector, sectors, ..
            } => disk.is_bad(sector, sectors) || writes || fails(&mut disk.fail_writes),
            Op::Flush { .. } => writes || fails(&mut disk.fail_writes),
            Op::MetaRead { .. } | Op::MetaWrite { .. } => fails(&mut disk.fail_meta),
            Op::Sent(_) | Op::GivenUp(_) => false,
        }
    }

    /// What the engine hears of it when it has failed.
    pub fn failed(&self, tag: IoTag) -> Event<Data> {
        if self.is_meta() {
            let result = Err(IO_ERROR);
            Event::MetaDone { tag, result }
        } else {
            let result = Err(IO_ERROR);
            Event::DiskDone { tag, result }
        }
    }

    /// Carries it out, with a line in the record if there is one. What the engine hears of it.
    ///
    /// # Panics
    /// If it is none of a disk's.
    pub fn carry_out(
        self,
        tag: IoTag,
        disks: &mut [Disk],
        record: &mut Option<Vec<String>>,
    ) -> Event<Data> {
        let mut note = |text: &dyn Fn() -> String| {
            if let Some(record) = record {
                record.push(text());
            }
        };
        match self {
            Op::Read {
                volume,
                sector,
                bytes,
            } => {
                let data = disks[volume].read(sector, bytes as usize);
                let result = Ok(Some(Data(Rc::new(data))));
                Event::DiskDone { tag, result }
            }
            Op::Write {
                volume,
                sector,
                data,
                fua,
            } => {
                let disk = &mut disks[volume];
                disk.write(sector, &data, fua);
                disk.written_bytes += data.len() as u64;
                note(&|| format!("written {sector}"));
                let result = Ok(None);
                Event::DiskDone { tag, result }
            }
            Op::Zero {
                volume,
                sector,
                sectors,
            } => {
                let disk = &mut disks[volume];
                disk.zero(sector, sectors);
                disk.written_bytes += sectors * 512;
                note(&|| format!("written {sector}"));
                let result = Ok(None);
                Event::DiskDone { tag, result }
            }
            Op::Flush { volume, stamp } => {
                disks[volume].flush(stamp, false);
                note(&|| "flushed".into());
                let result = Ok(None);
                Event::DiskDone { tag, result }
            }
            Op::MetaRead {
                volume,
                sector,
                bytes,
            } => {
                let result = Ok(disks[volume].read(sector, bytes as usize));
                Event::MetaDone { tag, result }
            }
            Op::MetaWrite {
                volume,
                sector,
                data,
                preflush,
                fua,
            } => {
                let disk = &mut disks[volume];
                if let Some(stamp) = preflush {
                    disk.flush(stamp, true);
                }
                disk.write(sector, &data, fua);
                let what = what_metadata(disk, sector);
                note(&|| format!("done {what}"));
                let result = Ok(Vec::new());
                Event::MetaDone { tag, result }
            }
            Op::GivenUp(op) => op.given_up(tag),
            Op::Sent(_) => unreachable!("has no I/O tag"),
        }
    }

    /// Carries it out, or some sectors of it: nobody hears of it.
    pub fn carry_out_partly(&self, disks: &mut [Disk], rng: &mut Rng) {
        if let Op::MetaWrite {
            volume,
            preflush: Some(stamp),
            ..
        } = self
        {
            // Nothing of it is written before the flush that it asks for is done.
            disks[*volume].flush(*stamp, true);
        }
        let (volume, sector, data) = match self {
            Op::Write {
                volume,
                sector,
                data,
                ..
            } => (*volume, *sector, &data[..]),
            Op::MetaWrite {
                volume,
                sector,
                data,
                ..
            } => (*volume, *sector, &data[..]),
            Op::Zero {
                volume,
                sector,
                sectors,
            } => {
                let part = rng.below(sectors + 1);
                return disks[*volume].zero(*sector, part);
            }
            _ => return,
        };
        let all = rng.one_in(2);
        for (n, chunk) in data.chunks(512).enumerate() {
            if all || rng.one_in(2) {
                disks[volume].write(sector + n as u64, chunk, false);
            }
        }
    }
}

impl Op {
    /// What an effect asks of a disk.
    ///
    /// # Panics
    /// If it lies where it must not, or asks nothing of a disk.
    #[expect(clippy::too_many_lines, reason = "a table: one arm an effect")]
    pub(crate) fn of(effect: Effect<Data>, disks: &[Disk]) -> (IoTag, Op) {
        match effect {
            Effect::Read {
                tag,
                volume,
                sector,
                bytes,
                ..
            } => {
                let volume = usize::from(volume.0);
                assert_inside(&disks[volume], sector, bytes);
                let op = Op::Read {
                    volume,
                    sector,
                    bytes,
                };
                (tag, op)
            }
            Effect::Write {
                tag,
                volume,
                sector,
                payload,
                fua,
            } => {
                let volume = usize::from(volume.0);
                assert_inside(&disks[volume], sector, payload.len_bytes());
                let data = payload.0;
                let op = Op::Write {
                    volume,
                    sector,
                    data,
                    fua,
                };
                (tag, op)
            }
            Effect::Flush { tag, volume } => {
                let volume = usize::from(volume.0);
                let stamp = disks[volume].stamp();
                (tag, Op::Flush { volume, stamp })
            }
            Effect::Discard {
                tag,
                volume,
                sector,
                bytes,
                ..
            } => {
                let volume = usize::from(volume.0);
                assert_inside(&disks[volume], sector, bytes);
                let sectors = u64::from(bytes / 512);
                let op = Op::Zero {
                    volume,
                    sector,
                    sectors,
                };
                (tag, op)
            }
            Effect::MetaRead {
                tag,
                volume,
                sector,
                bytes,
            } => {
                let volume = usize::from(volume.0);
                let end = sector + u64::from(bytes / 512);
                let fits = end <= disks[volume].sectors;
                assert!(fits, "metadata read beyond the disk");
                let op = Op::MetaRead {
                    volume,
                    sector,
                    bytes,
                };
                (tag, op)
            }
            Effect::MetaWrite {
                tag,
                volume,
                sector,
                data,
                preflush,
                fua,
            } => {
                let volume = usize::from(volume.0);
                let disk = &disks[volume];
                let end = sector + data.len() as u64 / 512;
                let fits = sector >= disk.data_sectors && end <= disk.sectors;
                assert!(fits, "metadata is written outside of its place");
                let preflush = preflush.then(|| disk.stamp());
                let op = Op::MetaWrite {
                    volume,
                    sector,
                    data,
                    preflush,
                    fua,
                };
                (tag, op)
            }
            _ => unreachable!("the caller has looked"),
        }
    }

    /// The line of a record that says that it begins.
    fn begun(&self, disks: &[Disk]) -> Option<String> {
        Some(match self {
            Op::Write { sector, data, .. } => format!("write {sector}+{}", data.len() / 512),
            Op::Zero {
                sector, sectors, ..
            } => format!("zero {sector}+{sectors}"),
            Op::Flush { .. } => "flush".into(),
            Op::MetaWrite {
                volume,
                sector,
                fua,
                ..
            } => {
                let what = what_metadata(&disks[*volume], *sector);
                format!("meta {what}{}", if *fua { " fua" } else { "" })
            }
            Op::Read { .. } | Op::MetaRead { .. } | Op::Sent(_) | Op::GivenUp(_) => return None,
        })
    }
}

fn assert_inside(disk: &Disk, sector: u64, bytes: u32) {
    let end = sector.checked_add(u64::from(bytes / 512));
    let fits = end.is_some_and(|end| end <= disk.data_sectors);
    assert!(
        bytes > 0 && bytes.is_multiple_of(512) && fits,
        "I/O outside the data: {bytes} bytes at sector {sector}"
    );
}

impl Node {
    /// What an effect asks of a disk, with a line in the record.
    pub(crate) fn take_io(&mut self, effect: Effect<Data>) -> (IoTag, Op) {
        let (tag, op) = Op::of(effect, &self.disks);
        if let Some(record) = &mut self.record {
            record.extend(op.begun(&self.disks));
        }
        (tag, op)
    }
}
