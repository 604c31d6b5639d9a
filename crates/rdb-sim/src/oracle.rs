//! What users were promised: which contents each sector may have.
//!
//! A write that was acknowledged replaces everything that had ended before it was submitted. Writes that were under way
//! together may win in either order, and one that never was acknowledged may or may not be there.

use rdb_engine::{RequestError, RequestKind};

use crate::disk::{Disk, word_of};
use crate::node::Data;
use crate::rng::NumberMap;

#[derive(Debug, Clone)]
struct Write {
    /// What the sector holds if this write is the last; 0 is zeroes.
    value: u64,
    submitted: u64,
    ended: Option<u64>,
    acked: bool,
    /// Durable by itself.
    durable: bool,
    /// Whoever acknowledges it may have lost power since.
    shaky: bool,
    id: u64,
}

#[derive(Debug)]
struct Open {
    node: usize,
    sector: u64,
    sectors: u64,
    kind: Kind,
    submitted: u64,
}

impl Open {
    /// A write of a sector has been superseded: a read that was there before it may find either.
    fn may_have_met(&mut self, sector: u64, write: &Write) {
        let Kind::Read(before) = &mut self.kind else {
            return;
        };
        let place = sector.checked_sub(self.sector);
        let place = place.and_then(|n| before.get_mut(usize::try_from(n).ok()?));
        if let Some(found) = place
            && write.submitted > self.submitted
        {
            found.push(Write {
                ended: None,
                acked: false,
                ..write.clone()
            });
        }
    }
}

#[derive(Debug)]
enum Kind {
    Write {
        fua: bool,
    },
    Flush,
    /// What each sector could hold when the read began.
    Read(Vec<Vec<Write>>),
}

/// A write that ended well, for whoever wants to look where it is.
pub(crate) struct Acked {
    pub(crate) sector: u64,
    pub(crate) sectors: u64,
}

/// The promises of one volume.
#[derive(Debug, Default)]
pub struct Model {
    sectors: NumberMap<Vec<Write>>,
    open: NumberMap<Open>,
    clock: u64,
    next_value: u64,
    /// Sectors of which more is promised than when somebody looked last; all of them if `all_doubtful`.
    doubtful: Vec<(u64, u64)>,
    all_doubtful: bool,
    /// When the last flush that succeeded was submitted: what was acknowledged before is durable.
    flushed_before: u64,
    /// Only what was flushed must survive a change of sides: protocols A and B.
    pub flushed_only: bool,
    /// Power cuts happen: what was not flushed may come back as it was.
    pub keep_unflushed: bool,
    /// Reads and disks are not judged: the administrator let the data fork.
    pub forked: bool,
    /// What was flushed is on no disk that is in use any more, since then: the next flush has to fail.
    untold: Option<u64>,
    /// The test does not write by this model's values.
    pub foreign: bool,
}

impl Model {
    /// Data for a write: every sector says which write it is of.
    pub fn data(&mut self, sectors: usize) -> Vec<u8> {
        self.next_value += 1;
        self.next_value.to_le_bytes().repeat(64 * sectors)
    }

    /// A request is about to be given to the engine.
    pub fn on_submit(
        &mut self,
        node: usize,
        id: u64,
        sector: u64,
        bytes: u32,
        kind: &RequestKind<Data>,
    ) {
        self.clock += 1;
        let submitted = self.clock;
        let sectors = u64::from(bytes / 512);
        if sectors > 1 << 20 || sector > 1 << 40 {
            return; // an impossible request
        }
        let value = match kind {
            RequestKind::Write { payload, .. } => {
                let first = payload.0.first_chunk::<8>();
                first.map(|word| u64::from_le_bytes(*word))
            }
            RequestKind::Read | RequestKind::Flush => None,
            RequestKind::Discard | RequestKind::WriteZeroes { .. } => Some(0),
        };
        let kind = match kind {
            RequestKind::Flush => Kind::Flush,
            RequestKind::Read => {
                let snapshot = (sector..sector + sectors)
                    .map(|s| self.sectors.get(&s).cloned().unwrap_or_default());
                Kind::Read(snapshot.collect())
            }
            RequestKind::Write { fua, .. } => Kind::Write { fua: *fua },
            _ => Kind::Write { fua: false },
        };
        if let (Kind::Write { .. }, Some(value)) = (&kind, value) {
            for s in sector..sector + sectors {
                self.sectors.entry(s).or_default().push(Write {
                    value,
                    submitted,
                    ended: None,
                    acked: false,
                    durable: false,
                    shaky: false,
                    id,
                });
            }
        }
        let open = Open {
            node,
            sector,
            sectors,
            kind,
            submitted,
        };
        self.open.insert(id, open);
    }

    /// A request has ended. Says what is wrong with its result.
    ///
    /// # Errors
    /// A read gave what it must not.
    pub fn on_complete(
        &mut self,
        node: usize,
        id: u64,
        result: &Result<Option<Data>, RequestError>,
    ) -> Result<(), String> {
        self.complete(node, id, result).map(|_| ())
    }

    pub(crate) fn complete(
        &mut self,
        _node: usize,
        id: u64,
        result: &Result<Option<Data>, RequestError>,
    ) -> Result<Option<Acked>, String> {
        self.clock += 1;
        let now = self.clock;
        let Some(open) = self.open.remove(&id) else {
            return Ok(None);
        };
        let (sector, sectors) = (open.sector, open.sectors);
        match open.kind {
            Kind::Write { fua } => {
                let refused = matches!(
                    result,
                    Err(RequestError::Inval) | Err(RequestError::NotPrimary)
                );
                for s in sector..sector + sectors {
                    let Some(writes) = self.sectors.get_mut(&s) else {
                        continue;
                    };
                    if refused {
                        writes.retain(|w| w.id != id);
                        continue;
                    }
                    for write in writes.iter_mut().filter(|w| w.id == id) {
                        write.ended = Some(now);
                        write.durable = result.is_ok() && fua;
                        write.acked = result.is_ok() && (fua || !write.shaky);
                    }
                    self.prune(s);
                }
                if result.is_ok() {
                    self.doubtful.push((sector, sectors));
                }
                Ok(result.is_ok().then_some(Acked { sector, sectors }))
            }
            Kind::Flush => {
                let untold = self.untold.is_some_and(|at| at < open.submitted);
                if untold && result.is_ok() {
                    return Err("a flush succeeds, though what the last one promised is lost with a disk and a cache".into());
                }
                if untold {
                    self.untold = None;
                }
                if result.is_ok() {
                    self.flushed_before = self.flushed_before.max(open.submitted);
                    self.all_doubtful |= self.flushed_only;
                } else if self.flushed_only || self.keep_unflushed {
                    // The user was told: what was not flushed before may be gone, and no later flush speaks of it.
                    self.forget_unflushed(open.submitted);
                }
                Ok(None)
            }
            Kind::Read(before) => {
                if let (Ok(Some(data)), false, false) = (result, self.forked, self.foreign) {
                    self.judge_read(sector, &before, data)?;
                }
                Ok(None)
            }
        }
    }

    fn judge_read(&self, sector: u64, before: &[Vec<Write>], data: &Data) -> Result<(), String> {
        for ((n, then), bytes) in before.iter().enumerate().zip(data.0.chunks_exact(512)) {
            let s = sector + n as u64;
            let value = word_of(bytes).ok_or_else(|| format!("sector {s} reads as a mixture"))?;
            let now = self.sectors.get(&s).map_or(&[][..], |w| w);
            if !now.iter().any(|w| w.may_be(value)) && !self.allows(then, value, self.flushed_only)
            {
                return Err(format!(
                    "a read of sector {s} gives {value}, which is not allowed: {then:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether a user of this node has asked for just this write.
    pub(crate) fn is_being_written(&self, node: usize, sector: u64, sectors: u64) -> bool {
        self.open.values().any(|open| {
            let same = (open.node, open.sector, open.sectors) == (node, sector, sectors);
            same && matches!(open.kind, Kind::Write { .. })
        })
    }

    /// What the node had not acknowledged never will be.
    pub fn on_death(&mut self, node: usize) {
        self.clock += 1;
        let now = self.clock;
        let dead = self.open.iter().filter(|(_, o)| o.node == node);
        let mut dead: Vec<u64> = dead.map(|(&id, _)| id).collect();
        dead.sort_unstable();
        for id in dead {
            let Some(open) = self.open.remove(&id) else {
                continue;
            };
            if let Kind::Write { .. } = open.kind {
                for s in open.sector..open.sector + open.sectors {
                    for write in self.sectors.get_mut(&s).into_iter().flatten() {
                        if write.id == id {
                            write.ended = Some(now);
                        }
                    }
                }
            }
        }
    }

    /// What was not flushed may be gone with the caches, and no later flush brings it back. An acknowledgement may still
    /// be on its way.
    pub fn on_power_cut(&mut self) {
        self.forget_unflushed(u64::MAX);
        let open = |w: &&mut Write| w.ended.is_none();
        for write in self.sectors.values_mut().flatten().filter(open) {
            write.shaky = true;
        }
    }

    /// The Primary's disk has been given up, and its mirror has lost with its power what was not flushed there: no disk in
    /// use has what users were promised. They hear of it by the next flush, unless the Primary's disk comes back first.
    pub(crate) fn on_loss_of_both(&mut self) {
        self.forked = true;
        self.untold = Some(self.clock);
    }

    /// The Primary's own disk is good again, or nobody is Primary any more who was promised anything.
    pub(crate) fn nothing_is_untold(&mut self) {
        self.untold = None;
    }

    /// What had ended before and was not flushed need not be there.
    fn forget_unflushed(&mut self, ended_before: u64) {
        let before = self.flushed_before;
        for write in self.sectors.values_mut().flatten() {
            let late = write.ended.is_none_or(|e| e >= ended_before);
            write.acked &= late || write.is_flushed(before);
        }
    }

    fn binds(&self, write: &Write, flushed_only: bool) -> bool {
        write.acked && (!flushed_only || write.is_flushed(self.flushed_before))
    }

    /// Forgets what cannot be there any more.
    fn prune(&mut self, sector: u64) {
        let (weak, before) = (
            self.flushed_only || self.keep_unflushed,
            self.flushed_before,
        );
        if let Some(writes) = self.sectors.get_mut(&sector)
            && writes.len() > 1
        {
            let sure = |w: &&Write| w.acked && (!weak || w.is_flushed(before));
            let last = writes.iter().filter(sure).map(|w| w.submitted).max();
            let Some(last) = last else {
                return;
            };
            for write in writes.extract_if(.., |w| w.ended.is_some_and(|e| e < last)) {
                // A read that was under way all the time may have met it.
                for open in self.open.values_mut() {
                    open.may_have_met(sector, &write);
                }
            }
        }
    }

    fn allows(&self, writes: &[Write], value: u64, flushed_only: bool) -> bool {
        let binding = writes.iter().filter(|w| self.binds(w, flushed_only));
        let last = binding.map(|w| w.submitted).max();
        match last {
            None if value == 0 => true,
            None => writes.iter().any(|w| w.may_be(value)),
            Some(last) => writes
                .iter()
                .any(|w| w.may_be(value) && w.ended.is_none_or(|e| e >= last)),
        }
    }

    /// The first of these sectors of the disk that holds what it must not.
    pub(crate) fn violation_in(&self, disk: &Disk, sector: u64, sectors: u64) -> Option<String> {
        let weak = self.flushed_only;
        (sector..sector + sectors)
            .find_map(|s| self.judge_sector(disk, s, self.sectors.get(&s)?, weak))
    }

    fn judge_sector(
        &self,
        disk: &Disk,
        s: u64,
        writes: &[Write],
        flushed_only: bool,
    ) -> Option<String> {
        let Some(value) = disk.word(s) else {
            return Some(format!("sector {s} holds a mixture"));
        };
        (!self.allows(writes, value, flushed_only))
            .then(|| format!("sector {s} holds {value}, promised is one of {writes:?}"))
    }

    /// The same of the sectors for which more is promised, or that were written, since the last call.
    pub(crate) fn new_violation(&mut self, disk: &Disk, written: &[u64]) -> Option<String> {
        let doubtful = std::mem::take(&mut self.doubtful);
        if std::mem::take(&mut self.all_doubtful) {
            return self.violation(disk);
        }
        let written = written.iter().map(|page| (page * 8, 8));
        let mut looked_at = doubtful.into_iter().chain(written);
        looked_at.find_map(|(sector, sectors)| self.violation_in(disk, sector, sectors))
    }

    /// The first sector of the disk that holds what it must not.
    pub fn violation(&self, disk: &Disk) -> Option<String> {
        self.violation_if(disk, self.flushed_only)
    }

    /// The same if every acknowledged write must be there, flushed or not.
    pub fn violation_of_acked(&self, disk: &Disk) -> Option<String> {
        self.violation_if(disk, false)
    }

    fn violation_if(&self, disk: &Disk, flushed_only: bool) -> Option<String> {
        if self.foreign {
            return None;
        }
        let judge = |(&s, writes): (&u64, &Vec<Write>)| {
            Some((s, self.judge_sector(disk, s, writes, flushed_only)?))
        };
        let broken = self.sectors.iter().filter_map(judge);
        broken.min_by_key(|(s, _)| *s).map(|(_, text)| text)
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// These sectors may hold anything from now on, until they are written.
    pub(crate) fn spoil(&mut self, sector: u64, sectors: u64) {
        self.clock += 1;
        let anything = Write {
            value: ANYTHING,
            submitted: self.clock,
            ended: Some(self.clock),
            acked: false,
            durable: false,
            shaky: false,
            id: 0,
        };
        for s in sector..sector + sectors {
            self.sectors.entry(s).or_default().push(anything.clone());
        }
    }

    /// What this disk holds is the truth from now on.
    ///
    /// # Panics
    /// If requests are under way, or the disk holds a mixture.
    pub fn reset(&mut self, disk: &Disk) {
        assert!(
            self.open.is_empty(),
            "the data is chosen while requests are open"
        );
        self.forked = false;
        self.all_doubtful = true;
        self.clock += 2;
        let clock = self.clock;
        for (&s, writes) in &mut self.sectors {
            let value = disk.word(s).expect("sectors are written whole");
            // In the cache, like every write: a power cut may bring back what was there before, whatever it was.
            let before = Write {
                value: ANYTHING,
                submitted: clock - 1,
                ended: Some(clock - 1),
                acked: false,
                durable: false,
                shaky: false,
                id: 0,
            };
            let now = Write {
                value,
                submitted: clock,
                ended: Some(clock),
                acked: true,
                durable: !self.keep_unflushed && !self.flushed_only,
                shaky: false,
                id: 0,
            };
            *writes = vec![before, now];
        }
    }
}

/// The value of a write that may have left anything.
const ANYTHING: u64 = u64::MAX;

impl Write {
    fn may_be(&self, value: u64) -> bool {
        self.value == value || self.value == ANYTHING
    }

    fn is_flushed(&self, flushed_before: u64) -> bool {
        self.durable || self.ended.is_some_and(|e| e < flushed_before)
    }
}
