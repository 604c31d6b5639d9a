//! Plans in which only one thing fails at a time, and users and administrators may expect that everything goes on.
//!
//! The plans of [`Plan::plain_of_seed`] let anything meet anything; what they find unavailable may be so for good reasons,
//! and the administrator at their end mends what hangs. Here nobody mends anything: between two incidents the pair has to
//! come together by itself ([`Action::Settle`]), and while one thing has failed, users' requests end well and no node gives
//! its peer up for good (`judge.rs`, "availability").
//!
//! Their seeds begin at [`DIRECTED`], so that those of the other plans keep their numbers.

use rdb_engine::config::{OnIoError, OnNoSpace, Protocol};

use crate::disk::Room;
use crate::plan::{
    Action, Cut, DiskFault, Flavour, Order, Plan, Setup, Step, Strike, Trigger, Weather,
};
use crate::rng::{Rng, mix};

/// The first seed of this kind.
pub const DIRECTED: u64 = 1 << 40;

/// What happens between two times of quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Incident {
    /// The Primary is killed, or loses its power, and the other node takes over.
    FailOver { power: bool },
    /// The roles change sides in good order.
    SwitchOver,
    /// The Secondary is killed, or loses its power.
    SecondaryDown { power: bool },
    /// The link breaks and is mended.
    Cut,
    /// All of a node's disk fails until it is repaired.
    DiskDies { primary: bool },
    /// A few operations of a node's disk fail.
    DiskErrs { primary: bool },
    /// The Secondary is synced anew.
    Invalidate,
    /// A node's disk is full for a while, or both disks are.
    Full { nodes: [bool; 2] },
    /// The Primary works without its disk, and its peer's keeps reads to itself until after the Primary has its own again.
    KeptReads,
    /// A disk fails as a resync comes to its end: what it knows of that may not have come to its record.
    DiskDiesAtEnd,
    /// A node dies as a resync comes to its end: of that, one node's record may say nothing.
    NodeDiesAtEnd,
    /// A node without which there is a good copy is struck at some moment of an administrator's order or a resync.
    StruckAmid,
}

/// What a node is struck amid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amid {
    /// The link was cut, and is mended: the Secondary is the target of a resync.
    Resync,
    /// A disk is detached and attached again. The Primary's node has users that read at the peer meanwhile.
    Attach { primary: bool },
    /// The Secondary is synced anew.
    Invalidate,
    /// The roles change sides in good order.
    SwitchOver,
}

impl Plan {
    /// The plan of a seed from [`DIRECTED`] on.
    pub(crate) fn directed_of_seed(seed: u64) -> Plan {
        Plan::directed(seed, Incident::draw)
    }

    /// A plan of this kind in which disks run full and writes wait for space, between other things.
    pub(crate) fn directed_with_full_disks(seed: u64) -> Plan {
        let mut plan = Plan::directed(seed, |rng| match rng.below(4) {
            0 => Incident::draw(rng),
            1 => Incident::Full {
                nodes: [true, true],
            },
            n => Incident::Full {
                nodes: [n == 2, n == 3],
            },
        });
        plan.setup.disk.on_no_space = OnNoSpace::Suspend;
        plan
    }

    /// A plan of this kind in which a disk keeps reads to itself, between other things.
    pub(crate) fn directed_with_kept_reads(seed: u64) -> Plan {
        Plan::directed(seed, |rng| match rng.below(3) {
            0 => Incident::draw(rng),
            _ => Incident::KeptReads,
        })
    }

    /// A plan of this kind with fencing, and handlers that are quick and do what they are for.
    pub(crate) fn directed_with_fencing(seed: u64) -> Plan {
        Plan::directed(seed, Incident::draw)
    }

    fn directed(seed: u64, draw: impl Fn(&mut Rng) -> Incident) -> Plan {
        let mut rng = Rng(mix(seed, 1));
        let mut setup = Setup::draw(&mut rng);
        setup.resources = 1;
        setup.sectors = rng.pick(&[10_240, 24_576]);
        setup.wait_sync = true;
        // (A disk that passes its errors on needs an administrator.)
        setup.disk.on_io_error = OnIoError::Detach;
        setup.flavour = if rng.one_in(2) {
            Flavour::Hot
        } else {
            Flavour::Mixed
        };
        if setup.flavour == Flavour::Hot {
            setup.net.protocol = rng.pick(&[Protocol::A, Protocol::A, Protocol::B, Protocol::C]);
        }
        let mut script = Script {
            seed,
            primary: 0,
            steps: Vec::new(),
        };
        script.step(0, Action::Settle);
        for _ in 0..rng.between(2, 5) {
            let incident = draw(&mut rng);
            script.play(incident, &setup, &mut rng);
        }
        // From numbers of its own, so that the plans before stay what they were.
        let mut rng = Rng(mix(seed, 2));
        // (Beside one volume that has come to its end another one may not have, and lose its only good copy.)
        if setup.volumes == 1 && rng.one_in(4) {
            script.play(Incident::DiskDiesAtEnd, &setup, &mut rng);
        }
        let mut rng = Rng(mix(seed, 3));
        let dies = setup.volumes == 1 && rng.one_in(3);
        if dies {
            for _ in 0..rng.between(1, 2) {
                script.play(Incident::NodeDiesAtEnd, &setup, &mut rng);
            }
        }
        // (Not after a node has died at a moment that may have changed who is Primary.)
        let mut rng = Rng(mix(seed, 4));
        if setup.volumes == 1 && !dies && rng.one_in(2) {
            script.play(Incident::StruckAmid, &setup, &mut rng);
        }
        setup.weather = Weather::power_only();
        Plan {
            seed,
            hostile: false,
            plain: false,
            setup,
            steps: script.steps,
            planted: None,
            crash: None,
        }
    }
}

impl Amid {
    /// Something that happens meanwhile.
    fn trigger(self, rng: &mut Rng) -> Trigger {
        let some = match self {
            Amid::Resync => [Trigger::Connected, Trigger::NewGeneration],
            Amid::Attach { .. } => [Trigger::DiskLost, Trigger::Attached],
            Amid::Invalidate => [Trigger::ResyncBegins, Trigger::ResyncEnds],
            Amid::SwitchOver => [Trigger::Promoted, Trigger::Promoted],
        };
        match rng.below(6) {
            0 | 1 => rng.pick(&some),
            2 => Trigger::Superblock,
            3 => Trigger::Bitmap,
            4 => rng.pick(&[Trigger::Log, Trigger::BarrierAck]),
            _ if self == Amid::SwitchOver => Trigger::Superblock,
            _ => rng.pick(&[Trigger::ResyncBegins, Trigger::ResyncEnds]),
        }
    }

    /// A strike that leaves users a good copy; `other`: not at the node where the ambush is laid.
    fn strike(self, other: bool, down_us: u64, rng: &mut Rng) -> Strike {
        // (With the link, users that read at the peer lose everything; and who promotes a node while it is cut makes two Primaries.)
        let kinds = match self {
            Amid::Attach { primary: true } | Amid::SwitchOver => 2,
            _ => 4,
        };
        match rng.below(kinds) {
            0 => Strike::Kill { other, down_us },
            1 => Strike::PowerCut { other, down_us },
            2 => Strike::Cut(rng.pick(&[Cut::Ragged, Cut::Silent, Cut::Clean])),
            _ => Strike::DiskFails {
                other,
                meta: rng.one_in(2),
            },
        }
    }
}

impl Incident {
    fn draw(rng: &mut Rng) -> Incident {
        let coin = rng.one_in(2);
        match rng.below(12) {
            0..=2 => Incident::FailOver { power: coin },
            3 => Incident::SwitchOver,
            4 => Incident::SecondaryDown { power: coin },
            5 | 6 => Incident::Cut,
            7..=9 => Incident::DiskDies {
                primary: !rng.one_in(4),
            },
            10 => Incident::DiskErrs { primary: coin },
            _ => Incident::Invalidate,
        }
    }
}

/// Steps in the making, and who is Primary when they have been carried out.
struct Script {
    seed: u64,
    primary: usize,
    steps: Vec<Step>,
}

impl Script {
    fn step(&mut self, pause_us: u64, action: Action) {
        let nr = self.steps.len();
        let sub = mix(self.seed, 1000 + nr as u64);
        self.steps.push(Step {
            nr,
            pause_us,
            sub,
            action,
        });
    }

    fn work(&mut self, setup: &Setup, rng: &mut Rng) {
        for volume in 0..setup.volumes {
            let pause_us = rng.below(3_000);
            let action = Action::Work {
                resource: 0,
                volume,
                requests: rng.between(10, 60) as u32,
                over_us: rng.pick(&[2_000, 40_000, 600_000, 3_000_000]),
            };
            self.step(pause_us, action);
        }
    }

    fn order(&mut self, node: usize, pause_us: u64, setup: &Setup, order: Order) {
        for volume in 0..setup.volumes {
            let action = Action::Order {
                node,
                resource: 0,
                volume,
                order,
            };
            self.step(pause_us, action);
        }
    }

    /// A node goes, for a while.
    fn lose_node(&mut self, pause_us: u64, node: usize, power: bool, down_us: u64) {
        let action = if power {
            Action::PowerCut { node, down_us }
        } else {
            Action::Kill { node, down_us }
        };
        self.step(pause_us, action);
    }

    /// The peer of a node that is gone is promoted; it may take some time until it has noticed.
    fn take_over(&mut self, setup: &Setup) {
        self.primary = 1 - self.primary;
        for pause_us in [50_000, 2_000_000, 8_000_000, 12_000_000] {
            for volume in 0..setup.volumes {
                let action = Action::NeedPrimary {
                    resource: 0,
                    volume,
                    node: self.primary,
                };
                self.step(pause_us / setup.volumes as u64, action);
            }
        }
    }

    fn fault(&mut self, pause_us: u64, (node, volume): (usize, usize), fault: DiskFault) {
        let action = Action::Disk {
            node,
            resource: 0,
            volume,
            fault,
        };
        self.step(pause_us, action);
    }

    /// Once for each volume, as administrators give one command at a time.
    fn repair(&mut self, node: usize, setup: &Setup) {
        self.step(8_000_000, Action::RepairDisks { node });
        for _ in 1..setup.volumes {
            self.step(2_000_000, Action::RepairDisks { node });
        }
    }

    fn play(&mut self, incident: Incident, setup: &Setup, rng: &mut Rng) {
        self.work(setup, rng);
        let pause_us = rng.pick(&[0, 500, 5_000, 100_000, 1_000_000]);
        let node = |primary: bool, script: &Script| {
            if primary {
                script.primary
            } else {
                1 - script.primary
            }
        };
        match incident {
            Incident::FailOver { power } => {
                let node = self.primary;
                let down_us = rng.pick(&[25_000_000, 40_000_000]);
                self.lose_node(pause_us, node, power, down_us);
                self.take_over(setup);
                self.work(setup, rng);
            }
            Incident::SwitchOver => {
                self.step(5_000_000, Action::Wait);
                self.order(self.primary, 2_000, setup, Order::Demote);
                self.primary = 1 - self.primary;
                self.step(3_000_000, Action::Wait);
                self.order(self.primary, 2_000, setup, Order::Promote);
                self.step(1_000_000, Action::Wait);
            }
            Incident::SecondaryDown { power } => {
                let node = 1 - self.primary;
                let down_us = rng.between(10_000, 15_000_000);
                self.lose_node(pause_us, node, power, down_us);
                self.work(setup, rng);
                self.step(down_us, Action::Wait);
            }
            Incident::Cut => self.cut(pause_us, setup, rng),
            Incident::DiskDies { primary } => {
                let node = node(primary, self);
                for volume in 0..setup.volumes {
                    self.fault(pause_us, (node, volume), DiskFault::Dead);
                    self.work(setup, rng);
                }
                self.step(rng.pick(&[100_000, 4_000_000]), Action::Wait);
                self.work(setup, rng);
                self.repair(node, setup);
            }
            Incident::DiskErrs { primary } => {
                self.disk_errs(node(primary, self), pause_us, setup, rng);
            }
            Incident::Full { nodes } => self.fill_disks(nodes, pause_us, setup, rng),
            Incident::KeptReads => self.keep_reads(pause_us, setup, rng),
            Incident::DiskDiesAtEnd => self.lose_disk_at_end(pause_us, setup, rng),
            Incident::NodeDiesAtEnd => self.die_at_end(pause_us, setup, rng),
            Incident::StruckAmid => self.strike_amid(pause_us, setup, rng),
            Incident::Invalidate => {
                let order = if rng.one_in(2) {
                    (1 - self.primary, Order::Invalidate)
                } else {
                    (self.primary, Order::InvalidateRemote)
                };
                self.order(order.0, pause_us, setup, order.1);
                self.work(setup, rng);
                self.work(setup, rng);
            }
        }
        self.work(setup, rng);
        self.step(rng.pick(&[0, 4_000_000]), Action::Settle);
    }

    /// The link is cut, one way or another, and is whole again some time later.
    fn cut(&mut self, pause_us: u64, setup: &Setup, rng: &mut Rng) {
        let cut = match rng.below(5) {
            0 => Cut::Clean,
            1 => Cut::Silent,
            2 => Cut::HalfOpen(rng.below(2) as usize),
            3 => Cut::Socket(rng.below(2) as usize, rng.below(2) as usize),
            _ => Cut::Ragged,
        };
        self.step(pause_us, Action::Cut(cut));
        self.work(setup, rng);
        self.step(rng.pick(&[1_000, 300_000, 20_000_000]), Action::Heal);
    }

    /// Disks of these nodes are full for a while, under load.
    fn fill_disks(&mut self, nodes: [bool; 2], pause_us: u64, setup: &Setup, rng: &mut Rng) {
        let fault = DiskFault::Full {
            room: rng.pick(&[Room::None, Room::Written]),
            ms: rng.pick(&[300, 2_000, 8_000, 20_000, 60_000]),
        };
        for node in (0..2).filter(|&node| nodes[node]) {
            for volume in 0..setup.volumes {
                self.fault(pause_us, (node, volume), fault);
            }
        }
        self.work(setup, rng);
        self.step(rng.pick(&[100_000, 4_000_000, 30_000_000]), Action::Wait);
        self.work(setup, rng);
    }

    /// The Primary works without its disk, over a peer whose disk keeps some reads to itself.
    fn keep_reads(&mut self, pause_us: u64, setup: &Setup, rng: &mut Rng) {
        let detach = Order::Detach { force: false };
        self.order(self.primary, pause_us, setup, detach);
        self.step(1_000_000, Action::Wait);
        let fault = DiskFault::KeepsReads {
            reads: 1 + rng.below(4) as u32,
            ms: rng.pick(&[2_000, 20_000, 80_000]),
        };
        for volume in 0..setup.volumes {
            self.fault(0, (1 - self.primary, volume), fault);
        }
        self.work(setup, rng);
        let pause_us = rng.pick(&[10_000, 500_000, 4_000_000]);
        self.order(self.primary, pause_us, setup, Order::Attach);
        self.work(setup, rng);
    }

    /// A disk fails about the end of a resync.
    fn lose_disk_at_end(&mut self, pause_us: u64, setup: &Setup, rng: &mut Rng) {
        for volume in 0..setup.volumes {
            let fault = DiskFault::Slow(rng.pick(&[2, 20]));
            self.fault(pause_us, (self.primary, volume), fault);
        }
        let strike = Strike::DiskFails {
            other: rng.one_in(4),
            meta: rng.one_in(2),
        };
        let ambush = Action::Ambush {
            resource: 0,
            at: None,
            trigger: Trigger::ResyncEnds,
            // (The target's end comes first, and the source's disk may be the only good one until it knows.)
            nth: 2,
            late_us: rng.pick(&[0, 8_000, 30_000, 80_000]),
            strike,
        };
        self.step(0, ambush);
        self.step(pause_us, Action::Cut(Cut::Clean));
        self.work(setup, rng);
        self.step(1_000_000, Action::Heal);
        self.step(20_000_000, Action::Wait);
        self.work(setup, rng);
        self.repair(self.primary, setup);
        self.repair(1 - self.primary, setup);
    }

    /// Some I/O of a disk fails.
    fn disk_errs(&mut self, node: usize, pause_us: u64, setup: &Setup, rng: &mut Rng) {
        let fault = match rng.below(4) {
            0 => DiskFault::Reads(1 + rng.below(2) as u32),
            1 => DiskFault::BadSectors,
            2 => DiskFault::Meta(1),
            _ => DiskFault::Writes(1 + rng.below(2) as u32),
        };
        let volume = rng.below(setup.volumes as u64) as usize;
        self.fault(pause_us, (node, volume), fault);
        self.work(setup, rng);
        self.repair(node, setup);
    }

    /// The Primary is the source of a resync, or its target after its disk was away, and a node dies at the end.
    fn die_at_end(&mut self, pause_us: u64, setup: &Setup, rng: &mut Rng) {
        let (target_first, primary_is_source) = (rng.one_in(2), rng.one_in(2));
        // (The target's end comes first. Before it, the source's data are the only good ones.)
        let nth = if target_first { 1 } else { 2 };
        let source_dies = rng.one_in(2);
        let primary_dies = source_dies == primary_is_source;
        let other = source_dies == target_first;
        let down_us = match primary_dies {
            true => rng.pick(&[100_000, 25_000_000, 40_000_000]),
            false => rng.between(10_000, 15_000_000),
        };
        let strike = if rng.one_in(3) {
            Strike::PowerCut { other, down_us }
        } else {
            Strike::Kill { other, down_us }
        };
        let ambush = Action::Ambush {
            resource: 0,
            at: None,
            trigger: Trigger::ResyncEnds,
            nth,
            late_us: rng.pick(&[0, 0, 100, 400, 2_000, 8_000, 30_000]),
            strike,
        };
        if primary_is_source {
            self.step(pause_us, Action::Cut(Cut::Clean));
            self.work(setup, rng);
            self.step(1_000_000, ambush);
            self.step(0, Action::Heal);
        } else {
            self.order(
                self.primary,
                pause_us,
                setup,
                Order::Detach { force: false },
            );
            self.work(setup, rng);
            self.step(1_000_000, ambush);
            self.order(self.primary, 0, setup, Order::Attach);
        }
        let mut own = Rng(mix(self.seed, 5));
        self.cut_at_next_begin(&mut own);
        self.work(setup, rng);
        if primary_dies {
            self.take_over(setup);
        } else {
            self.step(20_000_000, Action::Wait);
        }
        self.work(setup, rng);
        self.step(5_000_000, Action::Heal);
    }

    /// Perhaps the link breaks as the resync after the next one begins, which a Primary is the source of: what the target then
    /// has on record is of the one before.
    fn cut_at_next_begin(&mut self, rng: &mut Rng) {
        if rng.one_in(2) {
            let ambush = Action::Ambush {
                resource: 0,
                at: None,
                trigger: Trigger::ResyncBegins,
                nth: rng.between(3, 4) as u32,
                late_us: rng.pick(&[0, 0, 100, 1_000]),
                strike: Strike::Cut(rng.pick(&[Cut::Clean, Cut::Ragged])),
            };
            self.step(0, ambush);
        }
    }

    /// Only at the end of a plan: who is Primary then depends on the moment.
    fn strike_amid(&mut self, pause_us: u64, setup: &Setup, rng: &mut Rng) {
        let amid = rng.pick(&[
            Amid::Resync,
            Amid::Attach { primary: true },
            Amid::Attach { primary: false },
            Amid::Invalidate,
            Amid::SwitchOver,
        ]);
        let secondary = 1 - self.primary;
        let victim = match amid {
            Amid::Resync | Amid::Attach { primary: false } | Amid::Invalidate => secondary,
            // (Who promotes a node that has just come back, while the other is demoted alone, makes two Primaries.)
            Amid::Attach { primary: true } | Amid::SwitchOver => self.primary,
        };
        let at = rng.below(2) as usize;
        let trigger = amid.trigger(rng);
        let nth = 1 + (rng.below(8) >> rng.below(6)) as u32;
        let late_us = rng.pick(&[0, 0, 100, 400, 2_000, 8_000, 30_000]);
        let down_us = rng.pick(&[100_000, 3_000_000, 25_000_000]);
        let ambush = Action::Ambush {
            resource: 0,
            at: Some(at),
            trigger,
            nth,
            late_us,
            strike: amid.strike(at != victim, down_us, rng),
        };
        let detach = Order::Detach { force: false };
        self.step(pause_us, ambush);
        if amid != (Amid::Attach { primary: true }) {
            self.cut_at_next_begin(rng);
        }
        match amid {
            Amid::Resync => {
                self.step(0, Action::Cut(Cut::Clean));
                self.work(setup, rng);
                self.step(1_000_000, Action::Heal);
            }
            Amid::Attach { .. } => {
                self.order(victim, 0, setup, detach);
                self.work(setup, rng);
                self.order(victim, 1_000_000, setup, Order::Attach);
            }
            Amid::Invalidate => self.order(secondary, 0, setup, Order::Invalidate),
            Amid::SwitchOver => {
                self.order(self.primary, 0, setup, Order::Demote);
                self.step(3_000_000, Action::Wait);
                self.order(secondary, 0, setup, Order::Promote);
            }
        }
        self.work(setup, rng);
        self.take_over(setup);
        self.step(20_000_000, Action::Heal);
        self.work(setup, rng);
        self.repair(0, setup);
        self.repair(1, setup);
        self.step(50_000, Action::Heal);
    }
}
