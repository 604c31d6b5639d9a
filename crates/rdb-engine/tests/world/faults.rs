//! I/O that is carried out, fails, or is under way when a node dies.

use std::rc::Rc;

use rdb_engine::{DiskError, Event, IoTag};

use super::{Data, Node, Op, World, what_metadata};

impl World {
    /// The process dies and is there again at once, without a configuration: every I/O under way may have happened or
    /// not, what was handed to TCP arrives.
    pub fn kill(&mut self, i: usize) {
        self.die(i, false);
        self.nodes[i].alive = true;
    }

    /// The node loses power: what was not flushed may be lost too.
    pub fn power_cut(&mut self, i: usize) {
        self.die(i, true);
        self.nodes[i].alive = true;
    }

    /// As [`World::kill`]: nothing of the disk is lost.
    pub fn crash(&mut self, i: usize) {
        self.kill(i);
    }

    pub fn die(&mut self, i: usize, power: bool) {
        if self.trace {
            let what = if power { "loses power" } else { "is killed" };
            println!("{:>12} {} {what}", self.now.0 / 1000, self.nodes[i].name);
        }
        let seed = self.rng.next();
        for (_, op) in std::mem::take(&mut self.nodes[i].pending) {
            if self.rng.one_in(2) {
                self.carry_out_partly(i, op);
            }
        }
        if power {
            for disk in &mut self.nodes[i].disks {
                disk.power_cut(&mut self.rng);
            }
        }
        for model in &mut self.models {
            model.on_death(i);
            if power {
                model.on_power_cut();
            }
        }
        let node = &mut self.nodes[i];
        node.resource = Node::engine(seed);
        node.timers.clear();
        node.connecting = false;
        node.device = None;
        node.requests_open.clear();
        node.admin_open.clear();
        node.alive = false;
        let was = std::mem::take(&mut node.connected);
        self.net[i] = Default::default();
        if was && self.nodes[1 - i].connected && !self.silent {
            for s in 0..2 {
                if power {
                    let keep = self.rng.below(self.net[1 - i][s].len() as u64 + 1) as usize;
                    self.net[1 - i][s].truncate(keep);
                }
                self.net[1 - i][s].push_back(None);
            }
        }
        self.mend_severed();
    }

    /// One I/O, or some sectors of it.
    pub fn carry_out_partly(&mut self, i: usize, op: Op) {
        let disks = &mut self.nodes[i].disks;
        if let Op::MetaWrite {
            volume,
            preflush: Some(stamp),
            ..
        } = op
        {
            disks[volume].flush(stamp, true); // no sector of it is there before what had to be durable first
        }
        let (volume, sector, data) = match &op {
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
            _ => return,
        };
        let all = self.rng.one_in(2);
        for (n, chunk) in data.chunks(512).enumerate() {
            if all || self.rng.one_in(2) {
                disks[volume].write(sector + n as u64, chunk, false);
            }
        }
    }

    pub fn carry_out(&mut self, i: usize, tag: Option<IoTag>, op: Op) {
        let io_error = DiskError { errno: 5 };
        let node = &mut self.nodes[i];
        let Some(tag) = tag else {
            let Op::Sent(tag) = op else { unreachable!() };
            return self.event(i, Event::Sent { tag });
        };
        let fails = |left: &mut u32| {
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            fails
        };
        let event = match op {
            Op::Read {
                volume,
                sector,
                bytes,
            } => {
                let disk = &mut node.disks[volume];
                let result = if node.read_errors || fails(&mut disk.fail_reads) {
                    Err(io_error)
                } else {
                    Ok(Some(Data(Rc::new(disk.read(sector, bytes as usize)))))
                };
                Event::DiskDone { tag, result }
            }
            Op::Write {
                volume,
                sector,
                data,
                fua,
            } => {
                let disk = &mut node.disks[volume];
                let result = if node.write_errors || fails(&mut disk.fail_writes) {
                    let op = Op::Write {
                        volume,
                        sector,
                        data,
                        fua,
                    };
                    if self.rng.one_in(2) {
                        self.carry_out_partly(i, op);
                    }
                    Err(io_error)
                } else {
                    disk.write(sector, &data, fua);
                    disk.written_bytes += data.len() as u64;
                    node.note(|| format!("written {sector}"));
                    Ok(None)
                };
                Event::DiskDone { tag, result }
            }
            Op::Zero {
                volume,
                sector,
                sectors,
            } => {
                let disk = &mut node.disks[volume];
                let result = if node.write_errors || fails(&mut disk.fail_writes) {
                    Err(io_error)
                } else {
                    disk.zero(sector, sectors);
                    disk.written_bytes += sectors * 512;
                    node.note(|| format!("written {sector}"));
                    Ok(None)
                };
                Event::DiskDone { tag, result }
            }
            Op::Flush { volume, stamp } => {
                let disk = &mut node.disks[volume];
                let result = if node.write_errors || fails(&mut disk.fail_writes) {
                    Err(io_error)
                } else {
                    disk.flush(stamp, false);
                    node.note(|| "flushed".into());
                    Ok(None)
                };
                Event::DiskDone { tag, result }
            }
            Op::MetaRead {
                volume,
                sector,
                bytes,
            } => {
                let disk = &mut node.disks[volume];
                let result = if fails(&mut disk.fail_meta) {
                    Err(io_error)
                } else {
                    Ok(disk.read(sector, bytes as usize))
                };
                Event::MetaDone { tag, result }
            }
            Op::MetaWrite {
                volume,
                sector,
                data,
                preflush,
                fua,
            } => {
                let disk = &mut node.disks[volume];
                let result = if fails(&mut disk.fail_meta) {
                    if self.rng.one_in(2) {
                        let op = Op::MetaWrite {
                            volume,
                            sector,
                            data,
                            preflush,
                            fua,
                        };
                        self.carry_out_partly(i, op);
                    }
                    Err(io_error)
                } else {
                    if let Some(stamp) = preflush {
                        disk.flush(stamp, true);
                    }
                    disk.write(sector, &data, fua);
                    let what = what_metadata(disk, sector);
                    node.note(|| format!("done {what}"));
                    Ok(Vec::new())
                };
                Event::MetaDone { tag, result }
            }
            Op::Sent(_) => unreachable!("has no I/O tag"),
        };
        self.event(i, event);
    }
}
