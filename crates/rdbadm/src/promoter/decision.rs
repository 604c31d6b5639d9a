//! What a promoter does next: one machine for one resource on one node. It touches nothing: time, the state of the resource and random
//! bits are handed in, and what it wants done is returned. `done` is told how that ended.
//!
//! ```text
//!   Idle ──promote──► Up ──start 0, 1, …──► all runs
//!    ▲                 │ a reason to give up
//!    └──demoted── Down ◄┘ stop …, 1, 0, then demote
//!                  │ ▲
//!         refused  ▼ │ after a pause
//!                 Stuck
//! ```

use std::fmt;

use super::facts::{Facts, Obstacle, World};
use super::settings::{Escalation, OnDiskLoss, Settings};

/// Milliseconds of a clock that never goes back.
pub(crate) type Ms = u64;

/// How many times a demotion is tried, a second apart, before it counts as impossible.
const DEMOTIONS: u32 = 10;
const DEMOTION_PAUSE: Ms = 1000;
/// How long it is left alone then.
const STUCK_PAUSE: Ms = 10_000;
/// What a place further down in `preferred-nodes` waits longer.
const RANK_PAUSE: Ms = 2000;
/// How long a node that gives way to the other one leaves it the chance.
const YIELD_PAUSE: Ms = 10_000;
/// The first pause after a promotion that was refused, and after services that have failed; they double.
const REFUSED_PAUSE: Ms = 1000;
const FAILED_PAUSE: Ms = 5000;
/// The longest of them.
const LONGEST_PAUSE: Ms = 60_000;
/// Services that have run for so long have not failed at once.
const STABLE: Ms = 60_000;

/// What has to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, for this reason.
    Wait(Why),
    Promote,
    /// The service of this number is started.
    Start(usize),
    /// It is stopped.
    Stop(usize),
    Demote,
    /// The role could not be given up: what the settings say is done.
    Escalate,
    /// The promoter ends.
    End,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Runs,
    NoDaemon,
    NotUp,
    /// It is Primary, and not by this promoter.
    ByHand,
    Evicted,
    Obstacle(Obstacle),
    /// The peer is not there yet, or is lost, and may come.
    AwaitsPeer,
    /// The other node is better, and goes first.
    AwaitsTurn,
    /// Something has failed.
    Pauses,
    Frozen,
    DaemonDied,
    DemotesAgain,
    Stuck,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Runs => "all runs here",
            Why::NoDaemon => "rdbd does not run",
            Why::NotUp => "the resource is not up",
            Why::ByHand => "the resource was made Primary by somebody else, and is left alone",
            Why::Evicted => "this node is evicted",
            Why::Obstacle(obstacle) => return obstacle.fmt(f),
            Why::AwaitsPeer => "the peer is not connected, and waited for",
            Why::AwaitsTurn => "the other node may go first",
            Why::Pauses => "it was given up or refused here, and is tried again after a pause",
            Why::Frozen => "I/O is suspended; services are left as they are",
            Why::DaemonDied => {
                "rdbd has died; services are left as they are, for their device waits"
            }
            Why::DemotesAgain => "the role could not be given up; it is tried again",
            Why::Stuck => "the role can not be given up: something has the device open",
        })
    }
}

/// Why services are stopped and the role is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Ending,
    Evicted,
    /// The service of this number did not start, or runs no more.
    Failed(usize),
    Refused,
    DaemonDied,
    RoleLost,
    Frozen,
    NoData,
    /// It was promoted while the peer went away, and nobody knows what that is now.
    Unwarranted,
    DiskLost,
    /// The other node is preferred, and can have it.
    Preferred,
    /// What a promoter before has started is not what is to be started.
    Changed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Ending => "the promoter was told to end",
            Reason::Evicted => "this node is evicted",
            Reason::Failed(_) => "a service has failed",
            Reason::Refused => "the promotion has failed",
            Reason::DaemonDied => "rdbd has died, and nothing came in its place",
            Reason::RoleLost => "the resource is not Primary any more",
            Reason::Frozen => "I/O is suspended for too long",
            Reason::NoData => "no UpToDate data can be reached",
            Reason::Unwarranted => {
                "the peer has gone while the resource was promoted, and may be Primary"
            }
            Reason::DiskLost => "the disk of this node is lost, and the peer has the data",
            Reason::Preferred => "the peer is preferred, and has all data",
            Reason::Changed => "other services are to be started than those that were",
        })
    }
}

/// What the administrator wants, and what was seen of the services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// The promoter is told to end.
    pub(crate) is_ending: bool,
    /// This node is not to have the resource.
    pub(crate) is_evicted: bool,
    /// A service that was started and does not run.
    pub(crate) failed: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Up,
    Down(Reason),
    Stuck(Reason, Ms),
}

/// What the settings say, as far as decisions go by it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    /// How many services there are.
    pub(crate) services: usize,
    /// The places of both nodes among the preferred ones.
    pub(crate) own_rank: u32,
    pub(crate) peer_rank: u32,
    pub(crate) factor: f64,
    pub(crate) accepts_split_brain: bool,
    pub(crate) stops_on_exit: bool,
    pub(crate) escalates: bool,
    pub(crate) moves_on_disk_loss: bool,
    pub(crate) peer_wait: Ms,
    pub(crate) peer_lost_wait: Ms,
    /// 0 is for ever.
    pub(crate) suspended_wait: Ms,
    pub(crate) daemon_wait: Ms,
}

impl Policy {
    pub(crate) fn of(settings: &Settings, node: &str, peer: &str) -> Policy {
        let ms = |seconds: u32| Ms::from(seconds) * 1000;
        Policy {
            services: settings.start.len(),
            own_rank: settings.rank(node),
            peer_rank: settings.rank(peer),
            factor: settings.sleep_before_promote_factor,
            accepts_split_brain: settings.accepts_split_brain(),
            stops_on_exit: settings.stop_services_on_exit,
            escalates: settings.on_drbd_demote_failure != Escalation::Nothing,
            moves_on_disk_loss: settings.on_disk_loss == OnDiskLoss::Move,
            peer_wait: ms(settings.peer_wait),
            peer_lost_wait: ms(settings.peer_lost_wait),
            suspended_wait: ms(settings.suspended_wait),
            daemon_wait: ms(settings.daemon_wait),
        }
    }
}

/// What outlives the promoter's process: what has been done, so that the next one goes on with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Held {
    /// This promoter has made the resource Primary, or was about to.
    pub(crate) promoted: bool,
    /// So many services were begun with, and not stopped.
    pub(crate) begun: usize,
    /// So many of them have started.
    pub(crate) started: usize,
    /// The services up to here have to be stopped again, for a stop has failed.
    #[serde(default)]
    pub(crate) unstopped: usize,
    /// The peer could have had it, and has not taken it.
    pub(crate) peer_had_chance: bool,
    /// There was no disk here when it was promoted.
    pub(crate) had_no_disk: bool,
    /// Users have a device, which waits for the next daemon.
    pub(crate) has_device: bool,
}

/// The machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    policy: Policy,
    stage: Stage,
    held: Held,
    /// How it was when it was looked at last.
    since: Since,
    /// Nothing is tried before: services have failed.
    not_before: Ms,
    /// Nor before this, unless the peer has been Primary since: it has had its chance.
    peers_until: Ms,
    /// Failures in a row: of promotions, and of services.
    refusals: u32,
    failures: u32,
    /// Since when all runs.
    running_since: Option<Ms>,
    demotions: u32,
    demote_not_before: Ms,
    has_escalated: bool,
    random: u64,
}

/// Since when something is as it is.
#[derive(Debug, Clone, Copy, Default)]
struct Since {
    /// It may be promoted.
    clear: Option<Ms>,
    /// The peer is away; and whether it was there before, under this daemon.
    alone: Option<Ms>,
    has_met: bool,
    frozen: Option<Ms>,
    no_daemon: Option<Ms>,
    peer_is_good: bool,
    has_lost_disk: bool,
}

impl Machine {
    /// One that goes on with what was held. `same_services`: what was started is the beginning of what is to be. `random`: any number.
    pub(crate) fn new(policy: Policy, held: Held, same_services: bool, random: u64) -> Machine {
        let stage = match same_services {
            true => Stage::Idle,
            false => Stage::Down(Reason::Changed),
        };
        Machine {
            policy,
            stage,
            held,
            since: Since::default(),
            not_before: 0,
            peers_until: 0,
            refusals: 0,
            failures: 0,
            running_since: None,
            demotions: 0,
            demote_not_before: 0,
            has_escalated: false,
            random: random | 1,
        }
    }

    pub(crate) fn held(&self) -> Held {
        self.held
    }

    /// Why it gives up what it has, while it does.
    pub(crate) fn gives_up(&self) -> Option<Reason> {
        match self.stage {
            Stage::Down(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether services are up that are to be looked at.
    pub(crate) fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// What is to be done.
    pub(crate) fn next(&mut self, world: &World, orders: Orders, now: Ms) -> Next {
        self.look(world, now);
        if self.stage == Stage::Idle {
            self.resume(world);
        }
        if self.stage == Stage::Up
            && let Some(reason) = self.reason_to_stop(world, orders, now)
        {
            self.give_up(reason);
        }
        match self.stage {
            Stage::Idle => self.idle(world, orders, now),
            Stage::Up => self.up(world, orders, now),
            Stage::Down(reason) => self.down(reason, world, orders, now),
            Stage::Stuck(..) if orders.is_ending => Next::End,
            Stage::Stuck(_, until) if now < until => Next::Wait(Why::Stuck),
            Stage::Stuck(reason, _) => {
                self.stop_again();
                self.demotions = DEMOTIONS - 1;
                self.stage = Stage::Down(reason);
                self.down(reason, world, orders, now)
            }
        }
    }

    /// Whether what is under way is to be broken off.
    pub(crate) fn breaks_off(
        &mut self,
        doing: Next,
        world: &World,
        orders: Orders,
        now: Ms,
    ) -> bool {
        self.look(world, now);
        match doing {
            Next::Start(_) | Next::Wait(_) => {
                self.stage == Stage::Up && self.reason_to_stop(world, orders, now).is_some()
            }
            Next::Promote => orders.is_ending || orders.is_evicted,
            Next::Stop(_) | Next::Demote | Next::Escalate | Next::End => false,
        }
    }

    /// It is about to be done.
    pub(crate) fn begin(&mut self, doing: Next) {
        match doing {
            Next::Promote => {
                self.held = Held {
                    promoted: true,
                    peer_had_chance: self.since.peer_is_good,
                    had_no_disk: self.since.has_lost_disk,
                    has_device: self.held.has_device,
                    ..Held::default()
                };
            }
            Next::Start(number) => self.held.begun = number + 1,
            _ => {}
        }
    }

    /// How that has ended.
    pub(crate) fn done(&mut self, doing: Next, is_ok: bool, now: Ms) {
        match (doing, is_ok) {
            (Next::Promote, true) => {
                self.refusals = 0;
                self.stage = Stage::Up;
            }
            (Next::Promote, false) => self.give_up(Reason::Refused),
            (Next::Start(number), true) => self.held.started = number + 1,
            (Next::Start(number), false) => self.give_up(Reason::Failed(number)),
            (Next::Stop(number), is_ok) => {
                self.held.begun = number;
                self.held.started = self.held.started.min(number);
                if !is_ok {
                    self.held.unstopped = self.held.unstopped.max(number + 1);
                }
            }
            (Next::Demote, true) => self.demotions = 0,
            (Next::Demote, false) => {
                self.demotions += 1;
                self.demote_not_before = now + DEMOTION_PAUSE;
                if self.demotions < DEMOTIONS {
                    self.stop_again();
                }
            }
            (Next::Escalate, _) => {
                self.has_escalated = true;
                if let Stage::Down(reason) = self.stage {
                    self.stage = Stage::Stuck(reason, now + STUCK_PAUSE);
                }
            }
            (Next::Wait(_) | Next::End, _) => {}
        }
    }

    fn give_up(&mut self, reason: Reason) {
        self.stage = Stage::Down(reason);
        self.running_since = None;
        self.demotions = 0;
        self.demote_not_before = 0;
        self.held.unstopped = 0;
    }

    /// What has not stopped may be what has the device open.
    fn stop_again(&mut self) {
        self.held.begun = self.held.begun.max(self.held.unstopped);
        self.held.unstopped = 0;
    }

    /// Goes on with what a promoter before has left, or a daemon that has died.
    fn resume(&mut self, world: &World) {
        let has_services = self.held.begun > 0;
        let is_held = match world {
            World::Up(facts) => is_held(facts),
            World::NoDaemon => has_services,
            World::NotUp => false,
        };
        if self.held.promoted && is_held {
            self.stage = Stage::Up;
        } else if has_services {
            self.stage = Stage::Down(Reason::RoleLost);
        }
    }

    /// Notes since when things are as they are.
    fn look(&mut self, world: &World, now: Ms) {
        let since = &mut self.since;
        let keep = |held: &mut Option<Ms>, is: bool| {
            *held = is.then(|| held.unwrap_or(now));
        };
        keep(&mut since.no_daemon, *world == World::NoDaemon);
        let World::Up(facts) = world else {
            // A peer that the next daemon has not met yet is not one that it has lost.
            since.clear = None;
            since.alone = None;
            since.has_met = false;
            since.peer_is_good = false;
            keep(&mut since.frozen, false);
            return;
        };
        let obstacle = facts.obstacle(self.policy.accepts_split_brain);
        keep(&mut since.clear, obstacle.is_none());
        keep(&mut since.alone, !facts.is_connected());
        keep(&mut since.frozen, facts.is_frozen || facts.is_returning);
        since.has_met |= facts.is_connected();
        if obstacle == Some(Obstacle::PeerIsPrimary) {
            self.peers_until = now;
            self.refusals = 0;
        }
        self.held.has_device = facts.has_device;
        since.peer_is_good = facts.is_peer_good();
        since.has_lost_disk = facts.has_lost_disk();
        self.held.peer_had_chance &= facts.is_peer_good();
    }

    /// Why what is up has to come down.
    fn reason_to_stop(&self, world: &World, orders: Orders, now: Ms) -> Option<Reason> {
        let policy = &self.policy;
        let is_over = |since: Option<Ms>, wait: Ms| since.is_some_and(|since| now >= since + wait);
        if orders.is_ending && policy.stops_on_exit {
            return Some(Reason::Ending);
        }
        if orders.is_evicted {
            return Some(Reason::Evicted);
        }
        let facts = match world {
            World::NoDaemon => {
                let wait = if self.held.has_device {
                    policy.daemon_wait
                } else {
                    0
                };
                return is_over(self.since.no_daemon, wait).then_some(Reason::DaemonDied);
            }
            World::NotUp => return Some(Reason::RoleLost),
            World::Up(facts) => facts,
        };
        if !facts.is_primary() && !facts.is_returning {
            return Some(Reason::RoleLost);
        }
        if self.since.frozen.is_some() {
            let is_too_long =
                policy.suspended_wait > 0 && is_over(self.since.frozen, policy.suspended_wait);
            return is_too_long.then_some(Reason::Frozen);
        }
        if !facts.has_data() {
            return Some(Reason::NoData);
        }
        if self.held.begun == 0
            && policy.services > 0
            && facts.is_unwarranted(policy.accepts_split_brain)
        {
            return Some(Reason::Unwarranted);
        }
        if let Some(number) = orders.failed {
            return Some(Reason::Failed(number));
        }
        self.reason_to_move(facts)
    }

    /// Why the peer had better have it, if so.
    fn reason_to_move(&self, facts: &Facts) -> Option<Reason> {
        let policy = &self.policy;
        if !facts.is_peer_good() {
            return None;
        }
        if policy.moves_on_disk_loss && facts.has_lost_disk() && !self.held.had_no_disk {
            return Some(Reason::DiskLost);
        }
        let is_preferred = policy.peer_rank < policy.own_rank;
        (is_preferred && !self.held.peer_had_chance).then_some(Reason::Preferred)
    }

    fn idle(&mut self, world: &World, orders: Orders, now: Ms) -> Next {
        if orders.is_ending {
            return Next::End;
        }
        let facts = match world {
            World::NoDaemon => return Next::Wait(Why::NoDaemon),
            World::NotUp => return Next::Wait(Why::NotUp),
            World::Up(facts) => facts,
        };
        self.held = Held::default();
        let policy = &self.policy;
        Next::Wait(if facts.is_partly_primary() {
            Why::ByHand
        } else if orders.is_evicted {
            Why::Evicted
        } else if let Some(obstacle) = facts.obstacle(policy.accepts_split_brain) {
            Why::Obstacle(obstacle)
        } else if self.awaits_peer(facts, now) {
            Why::AwaitsPeer
        } else if now < self.not_before.max(self.peers_until) {
            Why::Pauses
        } else if now < self.since.clear.unwrap_or(now) + self.handicap(facts) {
            Why::AwaitsTurn
        } else {
            return Next::Promote;
        })
    }

    /// Whether a peer that is not there may still come.
    fn awaits_peer(&self, facts: &Facts, now: Ms) -> bool {
        let wait = match self.since.has_met {
            true => self.policy.peer_lost_wait,
            false => self.policy.peer_wait,
        };
        !facts.is_peer_fenced() && self.since.alone.is_some_and(|since| now < since + wait)
    }

    /// How long others may go first.
    fn handicap(&self, facts: &Facts) -> Ms {
        let of_rank = Ms::from(self.policy.own_rank).saturating_mul(RANK_PAUSE);
        let sum = facts.handicap_ms().saturating_add(of_rank);
        (sum as f64 * self.policy.factor) as Ms
    }

    fn up(&mut self, world: &World, orders: Orders, now: Ms) -> Next {
        if orders.is_ending {
            return Next::End;
        }
        let World::Up(_) = world else {
            return Next::Wait(Why::DaemonDied);
        };
        if self.since.frozen.is_some() {
            return Next::Wait(Why::Frozen);
        }
        if self.held.started < self.policy.services {
            return Next::Start(self.held.started);
        }
        let since = *self.running_since.get_or_insert(now);
        if now >= since + STABLE {
            self.failures = 0;
        }
        Next::Wait(Why::Runs)
    }

    fn down(&mut self, reason: Reason, world: &World, orders: Orders, now: Ms) -> Next {
        if self.held.begun > 0 {
            return match now < self.demote_not_before {
                true => Next::Wait(Why::DemotesAgain),
                false => Next::Stop(self.held.begun - 1),
            };
        }
        let is_demoted = match world {
            World::Up(facts) => !is_held(facts),
            // There is nobody to tell; the next daemon may come back Primary, and then it is found here.
            World::NoDaemon | World::NotUp => true,
        };
        if is_demoted {
            if *world != World::NoDaemon {
                self.held = Held::default();
            }
            self.rest(reason, now);
            return self.idle(world, orders, now);
        }
        if self.demotions < DEMOTIONS {
            return match now < self.demote_not_before {
                true => Next::Wait(Why::DemotesAgain),
                false => Next::Demote,
            };
        }
        if self.policy.escalates && !self.has_escalated {
            return Next::Escalate;
        }
        self.stage = Stage::Stuck(reason, now + STUCK_PAUSE);
        match orders.is_ending {
            true => Next::End,
            false => Next::Wait(Why::Stuck),
        }
    }

    /// All is down. What failed is not tried again at once, and who gives way leaves the other one the time to come.
    fn rest(&mut self, reason: Reason, now: Ms) {
        self.stage = Stage::Idle;
        self.has_escalated = false;
        match reason {
            Reason::Failed(_) => {
                self.failures += 1;
                self.not_before = now + self.pause(FAILED_PAUSE, self.failures);
            }
            Reason::Refused => {
                self.refusals += 1;
                self.peers_until = now + self.pause(REFUSED_PAUSE, self.refusals);
            }
            Reason::DiskLost | Reason::Preferred | Reason::Evicted => {
                self.peers_until = now + YIELD_PAUSE;
            }
            Reason::DaemonDied
            | Reason::RoleLost
            | Reason::Frozen
            | Reason::NoData
            | Reason::Unwarranted => self.peers_until = now + self.pause(REFUSED_PAUSE, 1),
            Reason::Ending | Reason::Changed => {}
        }
    }

    /// Half to one and a half of what doubles with each time: two that meet do not meet again.
    fn pause(&mut self, first: Ms, times: u32) -> Ms {
        let pause = (first << times.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        pause / 2 + self.random % pause
    }
}

/// Whether a resource is Primary here, or comes back so.
fn is_held(facts: &Facts) -> bool {
    facts.is_partly_primary() || facts.is_returning
}

#[cfg(test)]
mod tests;
