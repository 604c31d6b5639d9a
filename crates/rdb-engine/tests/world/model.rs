//! What users were promised: which contents each sector may have.
//!
//! A write that was acknowledged replaces everything that had ended before it was submitted. Writes that were under way
//! together may win in either order, and one that never was acknowledged may or may not be there.

use std::collections::HashMap;

use rdb_engine::{RequestError, RequestKind};

use super::{Data, disk::Disk};

#[derive(Debug, Clone)]
struct Write {
    /// What the sector holds if this write is the last; 0 is zeroes.
    value: u64,
    submitted: u64,
    ended: Option<u64>,
    acked: bool,
    /// Durable by a flush or by itself.
    flushed: bool,
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

#[derive(Debug)]
enum Kind {
    Write {
        fua: bool,
    },
    Flush,
    /// What each sector could hold when the read began.
    Read(Vec<Vec<Write>>),
}

/// The promises of one volume.
#[derive(Debug, Default)]
pub struct Model {
    sectors: HashMap<u64, Vec<Write>>,
    open: HashMap<u64, Open>,
    clock: u64,
    next_value: u64,
    /// Only what was flushed must survive: power cuts happen.
    pub flushed_only: bool,
    /// Reads are not judged: the administrator let the data fork.
    pub forked: bool,
    /// The test does not write by this model's values.
    pub foreign: bool,
}

impl Model {
    /// Data for a write: every sector says which write it is of.
    pub fn data(&mut self, sectors: usize) -> Vec<u8> {
        self.next_value += 1;
        self.next_value.to_le_bytes().repeat(64 * sectors)
    }

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
            RequestKind::Write { payload, .. } if payload.0.len() >= 8 => {
                Some(u64::from_le_bytes(payload.0[..8].try_into().unwrap()))
            }
            RequestKind::Write { .. } | RequestKind::Read | RequestKind::Flush => None,
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
                    flushed: false,
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

    pub fn on_complete(
        &mut self,
        _node: usize,
        id: u64,
        result: &Result<Option<Data>, RequestError>,
    ) -> Result<(), String> {
        self.clock += 1;
        let now = self.clock;
        let Some(open) = self.open.remove(&id) else {
            return Ok(());
        };
        match open.kind {
            Kind::Write { fua } => {
                let refused = matches!(
                    result,
                    Err(RequestError::Inval) | Err(RequestError::NotPrimary)
                );
                for s in open.sector..open.sector + open.sectors {
                    let Some(writes) = self.sectors.get_mut(&s) else {
                        continue;
                    };
                    if refused {
                        writes.retain(|w| w.id != id);
                        continue;
                    }
                    for write in writes.iter_mut().filter(|w| w.id == id) {
                        write.ended = Some(now);
                        write.acked = result.is_ok();
                        write.flushed = result.is_ok() && fua;
                    }
                    self.prune(s);
                }
            }
            Kind::Flush if result.is_ok() => {
                let touched: Vec<u64> = self.sectors.keys().copied().collect();
                for s in touched {
                    for write in self.sectors.get_mut(&s).into_iter().flatten() {
                        if write.acked && write.ended.is_some_and(|e| e < open.submitted) {
                            write.flushed = true;
                        }
                    }
                    self.prune(s);
                }
            }
            Kind::Flush => {
                // The application was told: what it had not flushed before may be gone, and no later flush speaks of it.
                for write in self.sectors.values_mut().flatten() {
                    let before = write.ended.is_some_and(|e| e < open.submitted);
                    write.acked &= write.flushed || !before || !self.flushed_only;
                }
            }
            Kind::Read(before) => {
                if let (Ok(Some(data)), false, false) = (result, self.forked, self.foreign) {
                    for (n, then) in before.iter().enumerate() {
                        let s = open.sector + n as u64;
                        let bytes = &data.0[n * 512..(n + 1) * 512];
                        let value = value_of(bytes)
                            .ok_or_else(|| format!("sector {s} reads as a mixture"))?;
                        let now = self.sectors.get(&s).map_or(&[][..], |w| w);
                        let known = now.iter().any(|w| w.value == value);
                        if !known && !Self::allows(then, value, self.flushed_only) {
                            return Err(format!(
                                "a read of sector {s} gives {value}, which is not allowed: {then:?}"
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// What the node had not acknowledged never will be.
    pub fn on_death(&mut self, node: usize) {
        self.clock += 1;
        let now = self.clock;
        let dead: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, o)| o.node == node)
            .map(|(&id, _)| id)
            .collect();
        for id in dead {
            let open = self.open.remove(&id).unwrap();
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

    /// What was not flushed may be gone with the caches, and no later flush brings it back.
    pub fn on_power_cut(&mut self) {
        for write in self.sectors.values_mut().flatten() {
            write.acked &= write.flushed;
        }
    }

    /// Forgets what cannot be there any more.
    fn prune(&mut self, sector: u64) {
        let weak = self.flushed_only;
        if let Some(writes) = self.sectors.get_mut(&sector) {
            let last = writes
                .iter()
                .filter(|w| w.acked && (w.flushed || !weak))
                .map(|w| w.submitted)
                .max();
            if let Some(last) = last {
                writes.retain(|w| w.ended.is_none_or(|e| e >= last));
            }
        }
    }

    fn allows(writes: &[Write], value: u64, flushed_only: bool) -> bool {
        let last = writes
            .iter()
            .filter(|w| w.acked && (w.flushed || !flushed_only))
            .map(|w| w.submitted)
            .max();
        match last {
            None if value == 0 => true,
            None => writes.iter().any(|w| w.value == value),
            Some(last) => writes
                .iter()
                .any(|w| w.value == value && w.ended.is_none_or(|e| e >= last)),
        }
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
        let mut touched: Vec<_> = self.sectors.iter().collect();
        touched.sort_unstable_by_key(|(s, _)| **s);
        for (&s, writes) in touched {
            let Some(value) = value_of(&disk.read(s, 512)) else {
                return Some(format!("sector {s} holds a mixture"));
            };
            if !Self::allows(writes, value, flushed_only) {
                return Some(format!(
                    "sector {s} holds {value}, promised is one of {writes:?}"
                ));
            }
        }
        None
    }

    /// The administrator has chosen: what this disk holds is the truth from now on.
    pub fn reset(&mut self, disk: &Disk) {
        assert!(
            self.open.is_empty(),
            "the data is chosen while requests are open"
        );
        self.forked = false;
        let clock = self.clock;
        for (&s, writes) in &mut self.sectors {
            let value = value_of(&disk.read(s, 512)).expect("sectors are written whole");
            *writes = vec![Write {
                value,
                submitted: clock,
                ended: Some(clock),
                acked: true,
                flushed: true,
                id: 0,
            }];
        }
    }
}

/// The write a sector's content is of.
fn value_of(bytes: &[u8]) -> Option<u64> {
    let value: [u8; 8] = bytes[..8].try_into().unwrap();
    bytes
        .chunks_exact(8)
        .all(|c| c == value)
        .then(|| u64::from_le_bytes(value))
}
