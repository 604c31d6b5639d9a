//! From a seed to a plan. The seeds of the other kinds of plans begin further up (`seeds.rs`).

use rdb_engine::config::{
    Authentication, DiskOptions, NetOptions, OnIoError, Protocol, ResourceOptions, SplitBrainPolicy,
};
use replica_proto::auth::HmacAlgorithm;

use crate::net::Link;
use crate::plan::{
    Action, Cut, DiskFault, Flavour, Order, Plan, Setup, Step, Strike, Trigger, Weather,
};
use crate::rng::{Rng, mix};

impl Plan {
    /// The ordinary plan of a seed, in which anything meets anything.
    pub(crate) fn ordinary_of_seed(seed: u64) -> Plan {
        let mut plan = Plan::plain_of_seed(seed);
        let mut rng = Rng(mix(seed, 2));
        plan.plain = false;
        plan.setup.make_rare(&mut rng);
        if mix(seed, 3).is_multiple_of(8) {
            let algorithm = HmacAlgorithm::from_name("sha256").ok();
            let secret = "known to both".into();
            plan.setup.net.authentication =
                algorithm.map(|algorithm| Authentication { algorithm, secret });
        }
        let crc32c = || replica_proto::DigestAlgorithm::from_name("crc32c").ok();
        if mix(seed, 4).is_multiple_of(8) {
            plan.setup.net.integrity_alg = crc32c();
            plan.setup.link.spoils = [0, 100, 400][mix(seed, 7) as usize % 3];
        }
        if mix(seed, 5).is_multiple_of(6) {
            plan.setup.net.csums_alg = crc32c();
            plan.setup.net.csums_after_crash_only = mix(seed, 6).is_multiple_of(4);
        }
        if plan.setup.rare {
            for step in &mut plan.steps {
                if rng.one_in(4) {
                    step.action = Action::draw_rare(&mut rng, &plan.setup);
                }
            }
        }
        plan
    }

    /// The plan of a seed as it was before there were rare kinds of steps: what many regressions are about.
    pub fn plain_of_seed(seed: u64) -> Plan {
        let mut rng = Rng(mix(seed, 1));
        let setup = Setup::draw(&mut rng);
        let count = rng.between(10, 40) as usize;
        let steps = (0..count).map(|nr| {
            let sub = mix(seed, 1000 + nr as u64);
            Step::draw(nr, sub, &setup)
        });
        let steps = steps.collect();
        Plan {
            seed,
            plain: true,
            hostile: false,
            setup,
            steps,
            planted: None,
            crash: None,
        }
    }
}

impl Setup {
    pub(crate) fn draw(rng: &mut Rng) -> Setup {
        let protocol = rng.pick(&[
            Protocol::A,
            Protocol::B,
            Protocol::C,
            Protocol::C,
            Protocol::C,
        ]);
        let large = rng.one_in(6);
        let volumes = if rng.one_in(5) { 2 } else { 1 };
        let resources = if rng.one_in(8) { 2 } else { 1 };
        let sectors = if large {
            rng.pick(&[200_000, 700_000]) // more extents than the activity log has slots, in the second
        } else {
            rng.pick(&[10_240, 24_576, 40_960])
        };
        let skip_sync = large || rng.one_in(2);
        let net = draw_net(protocol, rng);
        let disk = DiskOptions {
            on_io_error: if rng.one_in(4) {
                OnIoError::PassOn
            } else {
                OnIoError::Detach
            },
            al_extents: rng.pick(&[67, 67, 1237]),
            c_plan_ahead_ds: rng.pick(&[0, 0, 20]),
            resync_rate_kib: rng.pick(&[100_000, 100_000, 4_000, 1_000]),
            c_min_rate_kib: rng.pick(&[250, 0, 100_000]),
            ..DiskOptions::default()
        };
        let link = Link {
            latency_us: rng.pick(&[20, 100, 500, 5000]),
            jitter_us: rng.pick(&[50, 400, 3000]),
            bytes_per_ms: rng.pick(&[0, 0, 100_000, 20_000]),
            buffer_bytes: rng.pick(&[4 << 20, 256 << 10, 32 << 10]),
            crossing: rng.pick(&[0, 8, 3]),
            ..Link::default()
        };
        let weather = match rng.below(8) {
            0 => Weather::calm().cuts(),
            1 => Weather::calm().cuts().kills(),
            2 => Weather::calm().cuts().power(),
            3 => Weather::calm().cuts().disks(),
            4 => Weather::calm().cuts().kills().admin(),
            5 => Weather {
                reckless: true,
                ..Weather::all()
            },
            _ => Weather::all(),
        };
        Setup {
            resources,
            volumes,
            sectors,
            skip_sync,
            wait_sync: rng.one_in(2),
            net,
            disk,
            resource: ResourceOptions::default(),
            good_handlers: false,
            link,
            disk_us: rng.pick(&[4, 10, 60]),
            stray: rng.pick(&[0, 60, 500]),
            weather,
            flavour: Flavour::Mixed,
            rare: false,
        }
    }

    /// What was added since plans were first drawn, from numbers of its own.
    fn make_rare(&mut self, rng: &mut Rng) {
        self.rare = rng.one_in(2);
        match rng.below(16) {
            0 | 1 => {
                self.flavour = Flavour::Wide;
                self.sectors = 1_000_000;
                self.disk.al_extents = 67;
                self.skip_sync = true;
            }
            2 => self.flavour = Flavour::Trims,
            _ => {}
        }
    }
}

fn draw_net(protocol: Protocol, rng: &mut Rng) -> NetOptions {
    let mut net = NetOptions {
        protocol,
        ping_int_s: rng.pick(&[1, 2, 10]) as u32,
        timeout_ds: rng.pick(&[10, 30, 60]),
        connect_int_s: rng.pick(&[1, 3, 10]),
        ko_count: rng.pick(&[0, 2, 7]),
        max_buffers: rng.pick(&[32, 128, 2048]),
        max_epoch_size: rng.pick(&[4, 30, 2048]),
        use_rle: !rng.one_in(4),
        ..NetOptions::default()
    };
    if rng.one_in(6) {
        use SplitBrainPolicy as P;
        net.after_sb_0pri = rng.pick(&[
            P::DiscardZeroChanges,
            P::DiscardLeastChanges,
            P::DiscardYoungerPrimary,
            P::DiscardOlderPrimary,
        ]);
        net.after_sb_1pri = rng.pick(&[P::Disconnect, P::DiscardSecondary, P::Consensus]);
    }
    net
}

impl Weather {
    pub(crate) fn calm() -> Weather {
        Weather {
            cuts: false,
            kills: false,
            power: false,
            disks: false,
            pauses: false,
            admin: false,
            reckless: false,
        }
    }

    pub(crate) fn power_only() -> Weather {
        Weather::calm().power()
    }

    fn all() -> Weather {
        let mut all = Weather::calm().cuts().kills().power().disks().admin();
        all.pauses = true;
        all
    }

    fn cuts(mut self) -> Self {
        self.cuts = true;
        self
    }

    fn kills(mut self) -> Self {
        self.kills = true;
        self.pauses = true;
        self
    }

    fn power(mut self) -> Self {
        self.power = true;
        self
    }

    fn disks(mut self) -> Self {
        self.disks = true;
        self
    }

    fn admin(mut self) -> Self {
        self.admin = true;
        self
    }
}

impl Step {
    fn draw(nr: usize, sub: u64, setup: &Setup) -> Step {
        let mut rng = Rng(sub);
        let pause_us = match rng.below(8) {
            0 | 1 => rng.between(20, 3_000),
            2 | 3 => rng.between(1_000, 40_000),
            4 | 5 => rng.between(20_000, 400_000),
            6 => rng.between(300_000, 2_000_000),
            _ => rng.between(1_000_000, 8_000_000),
        };
        let action = Action::draw(&mut rng, setup);
        let sub = rng.next();
        Step {
            nr,
            pause_us,
            sub,
            action,
        }
    }
}

fn down_us(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 | 1 => rng.between(0, 20_000),
        2 => rng.between(10_000, 1_500_000),
        _ => rng.between(1_000_000, 12_000_000),
    }
}

impl Action {
    fn draw(rng: &mut Rng, setup: &Setup) -> Action {
        let weather = setup.weather;
        let node = rng.below(2) as usize;
        let resource = rng.below(setup.resources as u64) as usize;
        let volume = rng.below(setup.volumes as u64) as usize;
        // Kinds that the weather does not have make room for more of the others.
        loop {
            return match rng.below(100) {
                0..=29 => Action::Work {
                    resource,
                    volume,
                    requests: rng.between(3, 60) as u32,
                    over_us: rng.pick(&[500, 20_000, 300_000, 3_000_000]),
                },
                30..=40 if weather.cuts => Action::Cut(match rng.below(8) {
                    0 => Cut::Clean,
                    1 => Cut::Silent,
                    2 => Cut::HalfOpen(node),
                    3 | 4 => Cut::Socket(node, rng.below(2) as usize),
                    _ => Cut::Ragged,
                }),
                41..=52 if weather.cuts => Action::Heal,
                53 | 54 if weather.cuts => Action::Wires {
                    latency_us: rng.pick(&[20, 300, 3_000, 40_000]),
                    bytes_per_ms: rng.pick(&[0, 0, 100_000, 5_000]),
                    buffer_bytes: rng.pick(&[4 << 20, 256 << 10, 32 << 10]),
                },
                55..=58 if weather.kills => Action::Kill {
                    node,
                    down_us: down_us(rng),
                },
                59..=61 if weather.power => Action::PowerCut {
                    node,
                    down_us: down_us(rng),
                },
                62 if weather.power => Action::Blackout {
                    down_us: down_us(rng),
                },
                63..=67 if weather.disks => Action::Disk {
                    node,
                    resource,
                    volume,
                    fault: match rng.below(8) {
                        0 | 1 => DiskFault::Writes(1 + rng.below(2) as u32),
                        2 => DiskFault::Reads(1 + rng.below(2) as u32),
                        3 => DiskFault::Meta(1),
                        4 => DiskFault::BadSectors,
                        5 | 6 => DiskFault::Slow(rng.pick(&[20, 300])),
                        _ => DiskFault::Stuck(rng.pick(&[50, 3_000, 20_000])),
                    },
                },
                68..=71 if weather.disks => Action::RepairDisks { node },
                72 | 73 if weather.pauses => Action::Pause {
                    node,
                    us: rng.pick(&[5_000, 200_000, 900_000, 5_000_000, 20_000_000]),
                },
                74..=89 if weather.admin => Action::Order {
                    node,
                    resource,
                    volume,
                    order: Order::draw(rng, weather.reckless),
                },
                90..=94 => Action::NeedPrimary {
                    resource,
                    volume,
                    node,
                },
                95 => Action::Wait,
                _ => continue,
            };
        }
    }
}

impl Action {
    fn draw_rare(rng: &mut Rng, setup: &Setup) -> Action {
        let weather = setup.weather;
        let node = rng.below(2) as usize;
        let resource = rng.below(setup.resources as u64) as usize;
        let volume = rng.below(setup.volumes as u64) as usize;
        if weather.disks && weather.reckless && setup.volumes == 1 && rng.one_in(6) {
            let fault = DiskFault::Misdirected {
                meta: rng.one_in(2),
            };
            return Action::Disk {
                node,
                resource,
                volume,
                fault,
            };
        }
        let trigger = rng.pick(&[
            Trigger::Connected,
            Trigger::PeerLost,
            Trigger::ResyncBegins,
            Trigger::ResyncEnds,
            Trigger::ResyncEnds,
            Trigger::Promoted,
            Trigger::DiskLost,
            Trigger::Attached,
            Trigger::NewGeneration,
            Trigger::Superblock,
            Trigger::Log,
            Trigger::Bitmap,
            Trigger::BarrierAck,
        ]);
        let nth = 1 + (rng.below(64) >> rng.below(7)) as u32;
        let late_us = rng.below(20_000) >> rng.below(16);
        let other = rng.one_in(2);
        let down_us = down_us(rng);
        // (Weather without any of these at least has cuts.)
        let strike = loop {
            break match rng.below(8) {
                0 if weather.kills => Strike::Kill { other, down_us },
                1 | 2 if weather.power => Strike::PowerCut { other, down_us },
                3 if weather.power => Strike::Blackout { down_us },
                4 if weather.disks => Strike::DiskFails {
                    other,
                    meta: rng.one_in(2),
                },
                5 => Strike::Cut(Cut::Ragged),
                6 => Strike::Cut(Cut::Socket(node, rng.below(2) as usize)),
                7 => Strike::Cut(rng.pick(&[Cut::Silent, Cut::HalfOpen(node), Cut::Clean])),
                _ => continue,
            };
        };
        Action::Ambush {
            resource,
            at: None,
            trigger,
            nth,
            late_us,
            strike,
        }
    }
}

impl Order {
    fn draw(rng: &mut Rng, reckless: bool) -> Order {
        match rng.below(28) {
            0..=5 => Order::Promote,
            6..=9 => Order::Demote,
            10 | 11 => Order::Disconnect {
                force: rng.one_in(2),
            },
            12..=15 => Order::Connect,
            16 | 17 => Order::Detach {
                force: rng.one_in(4),
            },
            18 | 19 => Order::Attach,
            20 => Order::Invalidate,
            21 => Order::InvalidateRemote,
            22 => Order::PauseSync,
            23 | 24 => Order::ResumeSync,
            25 if reckless => rng.pick(&[Order::ForcePromote, Order::DiscardMyData]),
            26 if reckless => rng.pick(&[Order::NewCurrentUuid, Order::Outdate]),
            25 => Order::Interrupt,
            26 => Order::LateVolume,
            27 => Order::Down,
            _ => Order::Promote,
        }
    }
}
