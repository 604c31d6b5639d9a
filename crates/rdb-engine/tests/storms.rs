//! Seeded storms: every fault at any moment, then repair, then the books are checked.
//!
//! `RDB_SEEDS` says how many seeds each test takes, `RDB_SEED` runs one alone, `RDB_TRACE` tells what happens.

mod world;

use rdb_engine::config::{NetOptions, Protocol};
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{Command, RequestKind, Time, VolumeNr};
use std::rc::Rc;
use world::{Data, World};

/// What may go wrong in a storm.
#[derive(Clone, Copy, Debug)]
struct Weather {
    kills: bool,
    power: bool,
    errors: bool,
    cuts: bool,
    /// Roles and disks change, resyncs are ordered and paused.
    admin: bool,
    /// The administrator promotes nodes without looking.
    reckless: bool,
    volumes: usize,
    sectors: u64,
    /// Start with the first sync skipped.
    skip_sync: bool,
    steps: u64,
}

const CALM: Weather = Weather {
    kills: false,
    power: false,
    errors: false,
    cuts: false,
    admin: false,
    reckless: false,
    volumes: 1,
    sectors: 12_288 * 2,
    skip_sync: false,
    steps: 4_000,
};

struct Storm {
    w: World,
    weather: Weather,
    seed: u64,
}

fn nr(volume: usize) -> VolumeNr {
    VolumeNr(volume as u16)
}

impl Storm {
    fn new(seed: u64, weather: Weather) -> Storm {
        let sizes = vec![weather.sectors; weather.volumes];
        let mut w = World::with_volumes(seed, &sizes, &sizes);
        let protocol = match w.rng.below(4) {
            0 => Protocol::A,
            1 => Protocol::B,
            _ => Protocol::C,
        };
        let options = NetOptions {
            protocol,
            ping_int_s: 1,
            max_buffers: [32, 2048][w.rng.below(2) as usize],
            max_epoch_size: [4, 2048][w.rng.below(2) as usize],
            ..NetOptions::default()
        };
        w.options = options.clone();
        if w.trace {
            println!("protocol {protocol:?}, {weather:?}");
        }
        w.connect_fresh(&options);
        if weather.skip_sync {
            for v in 0..weather.volumes {
                let skip = Command::NewCurrentUuid {
                    volume: nr(v),
                    clear_bitmap: true,
                };
                w.admin(0, skip).unwrap();
            }
            w.wait_synced();
        }
        for v in 0..weather.volumes {
            let force = !weather.skip_sync;
            w.admin(
                0,
                Command::Primary {
                    volume: nr(v),
                    force,
                },
            )
            .unwrap();
        }
        // Under A and B a lost Primary takes acknowledged writes along; so does a power cut with what was not flushed.
        for model in &mut w.models {
            model.flushed_only = weather.power || protocol != Protocol::C;
        }
        if w.rng.one_in(2) {
            w.wait_synced();
        }
        w.eager_timers = true;
        Storm { w, weather, seed }
    }

    fn volume(&mut self) -> usize {
        self.w.rng.below(self.weather.volumes as u64) as usize
    }

    fn range(&mut self, volume: usize, most: u64) -> (u64, u64) {
        let size = self.w.nodes[0].disks[volume].data_sectors;
        let sectors = match self.w.rng.below(4) {
            0 => 8,
            1 => 1 + self.w.rng.below(16),
            2 => 8 * (1 + self.w.rng.below(8)),
            _ => 1 + self.w.rng.below(most),
        };
        // Mostly few places, so that writes meet each other.
        let sector = match self.w.rng.below(4) {
            0 => self.w.rng.below(size - sectors),
            1 => self.w.rng.below(40) * 8192 % (size - sectors),
            _ => self.w.rng.below(64) * 4,
        };
        (sector, sectors)
    }

    fn submit(&mut self, i: usize, volume: usize) {
        if self.w.nodes[i].requests_open.len() > 60 {
            return;
        }
        let kind = self.w.rng.below(20);
        let (sector, sectors) = self.range(volume, if kind < 3 { 8192 } else { 300 });
        let bytes = (sectors * 512) as u32;
        let (sector, bytes, kind) = match kind {
            0 => (sector, bytes, RequestKind::Discard),
            1 => (
                sector,
                bytes,
                RequestKind::WriteZeroes {
                    may_unmap: sector % 8 == 0,
                },
            ),
            2 => (0, 0, RequestKind::Flush),
            3..=5 => (sector, bytes, RequestKind::Read),
            _ => {
                let data = self.w.models[volume].data(sectors as usize);
                let fua = self.w.rng.one_in(8);
                let payload = Data(Rc::new(data));
                (sector, bytes, RequestKind::Write { payload, fua })
            }
        };
        self.w.submit_to(i, volume, sector, bytes, kind);
    }

    /// Does the node's own disk hold everything that was promised?
    fn holds(&self, i: usize, volume: usize) -> bool {
        self.w.models[volume]
            .violation(&self.w.nodes[i].disks[volume])
            .is_none()
    }

    fn promoting(&self, i: usize, volume: usize) -> bool {
        self.w.nodes[i]
            .admin_open
            .values()
            .any(|c| matches!(c, Command::Primary { volume: v, .. } if usize::from(v.0) == volume))
    }

    fn promote(&mut self, i: usize, volume: usize) {
        let state = self.w.nodes[i].state_of(volume);
        if !self.weather.reckless {
            let other = 1 - i;
            if self.w.is_primary(other, volume) || self.promoting(other, volume) {
                return;
            }
            let through_peer =
                state.conn >= ConnState::Connected && state.disk < DiskState::Outdated;
            if state.disk < DiskState::Inconsistent && !through_peer {
                return; // by the time the command is looked at it could be anybody's data
            }
            let data = if through_peer { other } else { i };
            if !self.holds(data, volume) {
                return;
            }
            let model = &mut self.w.models[volume];
            if model
                .violation_of_acked(&self.w.nodes[data].disks[volume])
                .is_some()
            {
                // This node goes on without what was acknowledged and not flushed: it is given up.
                model.on_power_cut();
            }
        } else if !self.holds(i, volume) || self.w.is_primary(1 - i, volume) {
            self.w.models[volume].forked = true;
        }
        self.w.start_admin(
            i,
            Command::Primary {
                volume: nr(volume),
                force: false,
            },
        );
    }

    fn start(&mut self, i: usize) {
        for v in 0..self.weather.volumes {
            self.w.start_admin(
                i,
                Command::NewVolume {
                    volume: nr(v),
                    minor: v as u32,
                },
            );
        }
        let connect_first = self.w.rng.one_in(3);
        if connect_first {
            self.connect(i, false);
        }
        for v in 0..self.weather.volumes {
            let attach = self.w.attach_command(i, v);
            self.w.start_admin(i, attach);
        }
        if !connect_first {
            self.connect(i, false);
        }
    }

    fn connect(&mut self, i: usize, discard_my_data: bool) {
        let options = self.w.options.clone();
        self.w.start_admin(
            i,
            Command::Connect {
                options,
                discard_my_data,
                tentative: false,
            },
        );
    }

    fn command(&mut self, i: usize) {
        if self.w.nodes[i].admin_open.len() > 3 {
            return;
        }
        let volume = self.volume();
        let v = nr(volume);
        let command = match self.w.rng.below(24) {
            0..=5 => return self.promote(i, volume),
            6..=8 => Command::Secondary {
                volume: v,
                held_open: false,
            },
            9 | 10 => Command::Disconnect {
                force: self.w.rng.one_in(2),
            },
            11..=13 => return self.connect(i, false),
            14 | 15 => Command::Detach {
                volume: v,
                force: self.w.rng.one_in(4),
            },
            16 | 17 => self.w.attach_command(i, volume),
            18 if self.w.nodes[i].state_of(volume).conn > ConnState::StandAlone => {
                Command::Invalidate { volume: v }
            }
            19 if self.w.nodes[i].state_of(volume).conn > ConnState::StandAlone => {
                Command::InvalidateRemote { volume: v }
            }
            20 => Command::PauseSync { volume: v },
            21 | 22 => Command::ResumeSync { volume: v },
            _ => return,
        };
        self.w.start_admin(i, command);
    }

    fn act(&mut self) {
        let weather = self.weather;
        let i = self.w.rng.below(2) as usize;
        match self.w.rng.below(1000) {
            0..=140 => {
                let volume = self.volume();
                for i in 0..2 {
                    if self.w.is_primary(i, volume) {
                        self.submit(i, volume);
                    }
                }
            }
            141..=146 if weather.cuts && self.w.link => match self.w.rng.below(5) {
                0 => self.w.cut(),
                1 => self.w.cut_silently(),
                _ => self.w.cut_raggedly(),
            },
            147..=158 if !self.w.link => self.w.heal(),
            159..=160 if weather.kills => {
                self.w.kill(i);
                self.start(i);
            }
            161..=162 if weather.power => {
                self.w.power_cut(i);
                if self.w.rng.one_in(4) {
                    self.w.power_cut(1 - i);
                    self.start(1 - i);
                }
                self.start(i);
            }
            163..=166 if weather.errors => {
                let volume = self.volume();
                let disk = &mut self.w.nodes[i].disks[volume];
                match self.w.rng.below(4) {
                    0 => disk.fail_reads += 1,
                    1 => disk.fail_meta += 1,
                    _ => disk.fail_writes += 1,
                }
            }
            167..=170 if weather.errors => self.repair_disks(i),
            171..=190 if weather.admin => self.command(i),
            171..=174 => {
                // Somebody ought to be Primary, and nodes ought to be up.
                let volume = self.volume();
                if (0..2).all(|i| !self.w.is_primary(i, volume) && !self.promoting(i, volume)) {
                    self.promote(i, volume);
                }
            }
            _ => {
                self.w.tick();
                self.check_promoted();
            }
        }
    }

    fn repair_disks(&mut self, i: usize) {
        for volume in 0..self.weather.volumes {
            let disk = &mut self.w.nodes[i].disks[volume];
            (disk.fail_reads, disk.fail_writes, disk.fail_meta) = (0, 0, 0);
            let diskless = self.w.nodes[i].state_of(volume).disk == DiskState::Diskless;
            if diskless && self.w.nodes[i].admin_open.is_empty() {
                let attach = self.w.attach_command(i, volume);
                self.w.start_admin(i, attach);
            }
        }
    }

    /// In sync means equal, as far as nothing is under way.
    fn check_promoted(&mut self) {
        for volume in 0..self.weather.volumes {
            let quiet = self.w.nodes.iter().all(|n| {
                let status = n.resource.status(self.w.now);
                let calm = |v: &rdb_engine::VolumeStatus| {
                    v.unacked == 0 && v.peer_pending == 0 && v.out_of_sync_blocks == 0
                };
                n.pending.is_empty()
                    && n.requests_open.is_empty()
                    && status.volumes.iter().all(calm)
            });
            let silence = self.w.net.iter().flatten().all(|q| q.is_empty());
            if quiet && silence && !self.w.silent && self.w.synced(volume) {
                let different = self.w.differences(volume);
                assert!(different.is_empty(), "in sync and different: {different:?}");
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..self.weather.steps {
            self.act();
        }
        self.repair();
    }

    /// Every fault ends, and the administrator brings the pair together.
    fn repair(&mut self) {
        self.w.heal();
        for round in 0..40 {
            for i in 0..2 {
                self.repair_disks(i);
            }
            self.w.run_ms(30_000);
            let weather = self.weather;
            for i in 0..2 {
                let open = self.w.nodes[i].admin_open.clone();
                let waits = open
                    .values()
                    .all(|c| matches!(c, Command::Secondary { .. }));
                assert!(
                    open.is_empty() || waits && round < 5,
                    "commands hang: {open:?} {}",
                    self.w.states()
                );
            }
            let all = (0..weather.volumes).all(|v| self.w.synced(v));
            if all && self.w.nodes.iter().all(|n| n.requests_open.is_empty()) {
                break;
            }
            if std::env::var_os("RDB_TRACE").is_some() {
                println!("---- repair {round}: {}", self.w.states());
            }
            self.repair_round(round);
            assert!(
                round < 39,
                "the pair does not come together: {}",
                self.w.states()
            );
        }
        self.w.run_ms(5_000);
        self.books();
    }

    fn repair_round(&mut self, round: u64) {
        let weather = self.weather;
        for i in 0..2 {
            for v in 0..weather.volumes {
                let state = self.w.nodes[i].state_of(v);
                let lost = self.w.is_primary(i, v) && state.disk == DiskState::Diskless;
                if lost && round > 3 {
                    // A Primary without data takes no other data than it had: it has to give up its role.
                    let secondary = Command::Secondary {
                        volume: nr(v),
                        held_open: false,
                    };
                    self.w.start_admin(i, secondary);
                }
                if state.user_isp {
                    self.w.start_admin(i, Command::ResumeSync { volume: nr(v) });
                }
            }
        }
        let alone: Vec<bool> = self
            .w
            .nodes
            .iter()
            .map(|n| n.state().conn == ConnState::StandAlone)
            .collect();
        let split = self.w.nodes.iter().any(|n| {
            n.log.iter().any(|l| {
                l.contains("Split-Brain detected but unresolved")
                    || l.contains("I shall become SyncTarget, but I am primary!")
                    || l.contains("Can only connect to data")
                    || l.contains("Unrelated data")
            })
        });
        if alone == [true, true] && split {
            return self.consent();
        }
        if alone.contains(&true) {
            for (i, alone) in alone.into_iter().enumerate() {
                if alone {
                    self.connect(i, false);
                }
            }
            return;
        }
        let both_bad = (0..weather.volumes).find(|&v| {
            self.w.nodes.iter().all(|n| {
                let s = n.state_of(v);
                s.conn == ConnState::Connected
                    && s.disk == DiskState::Inconsistent
                    && s.pdsk == DiskState::Inconsistent
            })
        });
        if let Some(v) = both_bad {
            // Neither copy is good by itself: one is declared good.
            let i = (0..2).find(|&i| self.holds(i, v)).unwrap_or(0);
            let id = self.w.start_admin(
                i,
                Command::Primary {
                    volume: nr(v),
                    force: true,
                },
            );
            self.w.run_ms(20_000);
            if matches!(self.w.nodes[i].admin.get(&id), Some(Ok(()))) && !self.holds(i, v) {
                self.quiesce(v);
                let disk = &self.w.nodes[i].disks[v];
                self.w.models[v].reset(disk);
            }
            return;
        }
        if round % 3 == 2 {
            // Blocks failed, or a disk was refused: a new connection looks at everything afresh.
            for n in &mut self.w.nodes {
                n.log.clear();
            }
            let i = self.w.rng.below(2) as usize;
            self.w.start_admin(i, Command::Disconnect { force: true });
            self.w.run_ms(3_000);
        }
    }

    fn quiesce(&mut self, volume: usize) {
        let _ = volume;
        self.w.run_ms(60_000);
        for n in &self.w.nodes {
            assert!(
                n.requests_open.is_empty(),
                "requests hang: {:?}",
                n.requests_open
            );
        }
    }

    /// The data has forked: the administrator keeps the better copy.
    fn consent(&mut self) {
        self.quiesce(0);
        let volumes = self.weather.volumes;
        let good = |s: &Storm, i: usize| {
            (0..volumes)
                .all(|v| s.holds(i, v) && s.w.nodes[i].state_of(v).disk == DiskState::UpToDate)
        };
        let up = |s: &Storm, i: usize| {
            (0..volumes).all(|v| s.w.nodes[i].state_of(v).disk == DiskState::UpToDate)
        };
        let winner = (0..2)
            .find(|&i| good(self, i))
            .or((0..2).find(|&i| up(self, i)))
            .unwrap_or(0);
        let loser = 1 - winner;
        for v in 0..volumes {
            for i in 0..2 {
                self.w.start_admin(
                    i,
                    Command::Secondary {
                        volume: nr(v),
                        held_open: false,
                    },
                );
            }
        }
        self.w.run_ms(5_000);
        if !(0..volumes).all(|v| self.holds(winner, v)) {
            let reckless = self.weather.reckless;
            assert!(
                reckless || volumes > 1 || !up(self, winner),
                "no copy holds what was promised: {:?}\n{:?}",
                self.w.models[0].violation(&self.w.nodes[0].disks[0]),
                self.w.models[0].violation(&self.w.nodes[1].disks[0]),
            );
            for v in 0..volumes {
                let disk = &self.w.nodes[winner].disks[v];
                self.w.models[v].reset(disk);
            }
        }
        for n in &mut self.w.nodes {
            n.log.clear();
        }
        self.connect(loser, true);
        self.connect(winner, false);
        self.w.run_ms(20_000);
    }

    /// Both are in sync: equal, nothing marked, nothing promised is missing.
    fn books(&mut self) {
        for v in 0..self.weather.volumes {
            assert!(self.w.synced(v), "came apart again: {}", self.w.states());
            let bits = [0, 1].map(|i| self.w.nodes[i].out_of_sync_of(v));
            let different = self.w.differences(v);
            assert!(
                different.is_empty(),
                "volume {v} differs: blocks {different:?}, {bits:?} bits"
            );
            let broken = self.w.models[v].violation(&self.w.nodes[0].disks[v]);
            if let Some(text) = broken.filter(|_| !self.w.models[v].forked) {
                panic!("a promise is broken: {text}");
            }
            let volumes = self.weather.volumes;
            let i = (0..2).find(|&i| self.w.is_primary(i, v)).or_else(|| {
                // One node cannot be Primary while the other is, of another volume of the resource.
                let i = (0..2).find(|&i| (0..volumes).any(|v| self.w.is_primary(i, v)))?;
                let primary = Command::Primary {
                    volume: nr(v),
                    force: false,
                };
                self.w.admin(i, primary).unwrap();
                Some(i)
            });
            let i = i.unwrap_or_else(|| {
                let primary = Command::Primary {
                    volume: nr(v),
                    force: false,
                };
                self.w.admin(1, primary).unwrap();
                1
            });
            let data = self.w.models[v].data(8);
            let payload = Data(Rc::new(data));
            let kind = RequestKind::Write {
                payload,
                fua: false,
            };
            let id = self.w.submit_to(i, v, 64, 4096, kind);
            self.w.wait_done(i, id).unwrap();
            assert_eq!(self.w.nodes[i].state_of(v).role, Role::Primary);
        }
        let _ = (self.seed, Time(0));
    }
}

fn seeds(default: u64) -> Vec<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|s: String| s.parse().ok())
    };
    match number("RDB_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("RDB_SEEDS").unwrap_or(default)).collect(),
    }
}

/// Runs the seeds; with `RDB_KEEP_GOING` all of them, and says at the end which failed.
fn storm(default: u64, weather: impl Fn(u64) -> Weather) {
    let keep_going = std::env::var_os("RDB_KEEP_GOING").is_some();
    let mut failed = Vec::new();
    for seed in seeds(default) {
        let run = std::panic::AssertUnwindSafe(|| Storm::new(seed, weather(seed)).run());
        if let Err(payload) = std::panic::catch_unwind(run) {
            let text = payload
                .downcast_ref::<String>()
                .cloned()
                .or(payload.downcast_ref::<&str>().map(|s| (*s).to_string()))
                .unwrap_or_default();
            let text: String = text.chars().take(400).collect();
            println!("seed {seed}: {text}");
            assert!(keep_going, "seed {seed}: {text}");
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}

#[test]
fn link_cuts() {
    storm(7, |_| Weather { cuts: true, ..CALM });
}

#[test]
fn killed_processes_and_link_cuts() {
    storm(7, |_| Weather {
        cuts: true,
        kills: true,
        ..CALM
    });
}

#[test]
fn power_cuts() {
    storm(7, |seed| Weather {
        cuts: seed % 2 == 0,
        power: true,
        ..CALM
    });
}

#[test]
fn failing_disks() {
    storm(7, |seed| Weather {
        cuts: seed % 2 == 0,
        errors: true,
        ..CALM
    });
}

#[test]
fn administrators_at_random() {
    storm(7, |seed| Weather {
        cuts: seed % 2 == 0,
        kills: seed % 3 == 0,
        admin: true,
        ..CALM
    });
}

#[test]
fn two_volumes_in_everything() {
    storm(5, |seed| Weather {
        cuts: true,
        kills: true,
        power: seed % 2 == 0,
        errors: seed % 3 == 0,
        admin: true,
        volumes: 2,
        ..CALM
    });
}

#[test]
fn reckless_administrators() {
    storm(7, |seed| Weather {
        cuts: true,
        kills: true,
        power: seed % 2 == 0,
        errors: seed % 3 == 0,
        admin: true,
        reckless: true,
        ..CALM
    });
}

#[test]
fn large_disks_that_use_up_the_activity_log() {
    storm(2, |seed| Weather {
        cuts: true,
        kills: true,
        power: seed % 2 == 0,
        admin: seed % 3 == 0,
        sectors: 1_600_000, // 195 extents
        skip_sync: true,
        ..CALM
    });
}
