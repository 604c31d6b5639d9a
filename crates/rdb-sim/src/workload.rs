//! What users ask of the devices.

use std::rc::Rc;

use rdb_engine::{RequestKind, Time};

use crate::job::{Ask, Job};
use crate::node::Data;
use crate::plan::Flavour;
use crate::rng::Rng;
use crate::world::World;

/// Requests that a device has open at most.
const OPEN_MAX: usize = 64;

impl World {
    /// Requests for whoever is Primary then, spread over the time from now on.
    pub(crate) fn plan_work(&mut self, volume: usize, requests: u32, over_us: u64, sub: u64) {
        let mut rng = Rng(sub);
        let size = self.nodes[0].disks[volume].data_sectors;
        let size = size.min(self.nodes[1].disks[volume].data_sectors);
        let requests = match self.flavour {
            Flavour::Wide | Flavour::Hot => 4 * requests,
            _ => requests,
        };
        for _ in 0..requests {
            let at = Time(self.now.0 + rng.below(over_us + 1) * 1000);
            let (ask, most) = match rng.below(24) {
                0 => (Ask::Discard, 4000),
                1 => {
                    let may_unmap = rng.one_in(2);
                    (Ask::WriteZeroes { may_unmap }, 2000)
                }
                2 | 3 => (Ask::Flush, 0),
                4..=6 => (Ask::Read, 100),
                _ => {
                    let fua = rng.one_in(8);
                    (Ask::Write { fua }, 200)
                }
            };
            let ask = match (self.flavour, ask) {
                (Flavour::Trims, Ask::Write { .. }) if rng.one_in(2) => Ask::Discard,
                // Flushes would make good what the activity log is for.
                (Flavour::Wide, Ask::Flush) if !rng.one_in(8) => Ask::Write { fua: false },
                (_, ask) => ask,
            };
            let ask = match (self.flavour, ask) {
                (Flavour::Hot, Ask::Flush | Ask::Read) if !rng.one_in(4) => {
                    Ask::Write { fua: false }
                }
                (_, ask) => ask,
            };
            let (sector, sectors) = match (ask, self.flavour) {
                (Ask::Flush, _) => (0, 0),
                (_, Flavour::Hot) => {
                    let sectors = 1 + (rng.below(512) >> rng.below(9));
                    (rng.below(1024), sectors)
                }
                (_, Flavour::Wide) => (rng.below(size / 64 - 1) * 64 + rng.below(8) * 4, 8),
                _ => range(&mut rng, size, most.max(8)),
            };
            let job = Job::Request {
                volume,
                sector,
                sectors,
                ask,
            };
            self.later(at, job);
        }
    }

    /// Hands a request to the node that is Primary; to both if both are.
    pub(crate) fn request(&mut self, volume: usize, sector: u64, sectors: u64, ask: Ask) {
        for i in 0..2 {
            let node = &self.nodes[i];
            let stopped = node.paused_until > self.now;
            if !self.is_primary(i, volume) || stopped || node.requests_open.len() >= OPEN_MAX {
                continue;
            }
            let bytes = (sectors * 512) as u32;
            let kind = match ask {
                Ask::Read => RequestKind::Read,
                Ask::Flush => RequestKind::Flush,
                Ask::Discard => RequestKind::Discard,
                Ask::WriteZeroes { may_unmap } => RequestKind::WriteZeroes { may_unmap },
                Ask::Write { fua } => {
                    let payload = Data(Rc::new(self.models[volume].data(sectors as usize)));
                    RequestKind::Write { payload, fua }
                }
            };
            self.submit_to(i, volume, sector, bytes, kind);
        }
    }

    /// A write of a new word.
    pub(crate) fn submit_word(&mut self, i: usize, volume: usize, sector: u64, sectors: u64) {
        let payload = Data(Rc::new(self.models[volume].data(sectors as usize)));
        let kind = RequestKind::Write {
            payload,
            fua: false,
        };
        self.submit_to(i, volume, sector, (sectors * 512) as u32, kind);
    }
}

/// Mostly few places, so that writes meet each other; sizes from a sector to hundreds.
fn range(rng: &mut Rng, size: u64, most: u64) -> (u64, u64) {
    let sectors = match rng.below(8) {
        0..=3 => 8,
        4 => 1 + rng.below(16),
        5 | 6 => 8 * (1 + rng.below(8)),
        _ => 1 + rng.below(most.min(size / 2)),
    };
    let sector = match rng.below(4) {
        0 => rng.below(size - sectors),
        1 => (rng.below(90) * 8192 + rng.below(4) * 8) % (size - sectors),
        _ => rng.below(64) * 4,
    };
    (sector, sectors)
}
