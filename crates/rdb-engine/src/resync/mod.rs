//! Resync: what both sides count, and its pace.

mod checksum;
mod source;
mod target;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;

use crate::config::DiskOptions;
use crate::effect::{Effect, Level};
use crate::event::{Payload, Timer};
use crate::ids::{Time, VolumeNr};
use crate::interval::Awaited;
use crate::range_locks::Ticket;
use crate::resource::Resource;
use crate::status::SyncProgress;
use crate::volume::Holder;

/// A resync of one volume, running or over.
#[derive(Debug)]
pub(crate) struct Resync<P> {
    /// Blocks of 4 KiB at the start.
    pub(crate) total: u64,
    /// Blocks that could not be read or written.
    pub(crate) failed: u64,
    started: Time,
    paused_at: Option<Time>,
    paused_ms: u64,
    /// Blocks left at times at least 3 s apart, newest last.
    marks: VecDeque<(Time, u64)>,

    /// Target: ranges asked for and without a reply, with their bytes.
    pub(crate) awaited: Awaited,
    /// Source: ranges sent and without an ack, with their bytes; they are held meanwhile.
    pub(crate) replied: Awaited,
    /// Target: data that came and waits for an overlapping write to end: first sector, data, connection.
    pub(crate) blocked: BTreeMap<Ticket, (u64, P, u32)>,
    /// Target: the superblock that says so is durable, so blocks may be asked for.
    requesting: bool,
    /// Target: next bit to look at.
    position: u64,
    /// Target: a block was passed over because something held it.
    passed_over: bool,
    /// Target: sectors asked for and not yet on disk.
    outstanding: u64,
    /// Target: the last step was left out for the sake of application I/O.
    pub(crate) gave_way: bool,
    /// Target: 4 KiB units that may still be asked for in this step.
    budget: u64,
    pace: Pace,
    /// An end that waits for an answered ping, a flush or the superblock.
    pub(crate) ending: bool,
    /// Source: the target is done, and all its acks of before have been seen; the epoch that was open then.
    acks_seen: Option<u32>,
    /// Target: a sync UUID that came before we were ready for it.
    early_uuid: Option<u64>,
    /// Target: the end is durable before the source hears of it.
    pub(crate) announce: bool,
    /// Application sectors at the last step.
    application_sectors: u64,
    /// Target: blocks that the source found equal by their digest.
    equal_blocks: u64,
    /// Target: requests with a digest whose range could not be written since: what the source finds equal is not here.
    spoiled: Vec<u64>,
    /// Source: there was nothing left to send, so that the target may have come to the end.
    all_sent: bool,
}

/// The controller of `docs/spec/behaviour.md`, section 9.2. Amounts are sectors.
///
/// That one comes to speed within a minute: it adds a little to what has arrived. Where no application writes, nobody is to be
/// spared. Twice what the best step of the last second brought is asked for there, up to `c-max-rate`, as long as no more
/// than that is under way. It is the best step and not the last one that counts, for a link or a disk that takes longer than a
/// step, or pauses for one, would have what is asked for stay as low as what came in the pause. Who has set `c-fill-target`
/// wants no more than that in the pipe, and gets the controller alone.
#[derive(Debug, Default)]
struct Pace {
    plan: VecDeque<i64>,
    plan_sum: i64,
    in_flight: i64,
    arrived: i64,
    /// What arrived in each of the last steps, the youngest at the end.
    arrivals: [i64; BEST_OF_STEPS],
    want_kib: u32,
    /// Steps since an application wrote.
    quiet_steps: u32,
}

/// Steps of which the best says what can be carried: a second.
const BEST_OF_STEPS: usize = 10;
/// Steps without application writes after which nobody is spared.
const QUIET_STEPS: u32 = 3;
/// Sectors of application writes within a step that do not count.
const APPLICATION_MIN: u64 = 64;

/// Time between two steps.
const STEP_MS: u64 = 100;
/// Time between two marks, and how many are kept.
const MARK_MS: u64 = 3_000;
const MARKS: usize = 8;

impl Pace {
    /// Units of 4 KiB for this step. `application`: sectors that applications wrote since the last one.
    fn step(&mut self, options: &DiskOptions, application: u64) -> u64 {
        self.quiet_steps = match application > APPLICATION_MIN {
            true => 0,
            false => self.quiet_steps.saturating_add(1),
        };
        let arrived = core::mem::take(&mut self.arrived);
        self.in_flight = (self.in_flight - arrived).max(0);
        self.arrivals.rotate_left(1);
        self.arrivals[BEST_OF_STEPS - 1] = arrived;
        let slots = i64::from(options.c_plan_ahead_ds);
        let units = if slots == 0 {
            self.want_kib = options.resync_rate_kib;
            i64::from(options.resync_rate_kib) / 40
        } else {
            let slots_len = usize::try_from(slots).unwrap_or(1);
            if self.plan.len() != slots_len {
                self.plan = core::iter::repeat_n(0, slots_len).collect();
                self.plan_sum = 0;
            }
            let want = if self.in_flight + arrived == 0 {
                i64::from(options.resync_rate_kib) * 2 / 10 * slots
            } else if options.c_fill_target_sectors != 0 {
                i64::from(options.c_fill_target_sectors)
            } else {
                arrived * i64::from(options.c_delay_target_ds)
            };
            let correction = want - self.in_flight - self.plan_sum;
            let share = correction / slots;
            for slot in &mut self.plan {
                *slot += share;
            }
            self.plan_sum += share * slots;
            let current = self.plan.pop_front().unwrap_or(0);
            self.plan.push_back(0);
            self.plan_sum -= current;
            let by_itself = DiskOptions::default().c_fill_target_sectors;
            let opens = self.quiet_steps >= QUIET_STEPS
                && [0, by_itself].contains(&options.c_fill_target_sectors);
            let best = self.arrivals.into_iter().max().unwrap_or(0);
            let plain = arrived + current;
            let request = if !opens {
                plain
            } else if self.in_flight <= best * 2 {
                plain.max(best * 2)
            } else {
                plain.max(arrived)
            };
            let request = request.clamp(0, i64::from(options.c_max_rate_kib) * 2 / 10);
            let units = request >> 3;
            self.want_kib = u32::try_from(units * 40).unwrap_or(u32::MAX);
            units
        };
        u64::try_from(units).unwrap_or(0)
    }

    fn requested(&mut self, sectors: u64) {
        self.in_flight += i64::try_from(sectors).unwrap_or(0);
    }
}

impl<P> Default for Resync<P> {
    fn default() -> Self {
        Resync {
            total: 0,
            failed: 0,
            started: Time(0),
            paused_at: None,
            paused_ms: 0,
            marks: VecDeque::new(),
            awaited: Awaited::default(),
            replied: Awaited::default(),
            blocked: BTreeMap::new(),
            requesting: false,
            position: 0,
            passed_over: false,
            outstanding: 0,
            gave_way: false,
            budget: 0,
            pace: Pace::default(),
            ending: false,
            acks_seen: None,
            early_uuid: None,
            announce: false,
            application_sectors: 0,
            equal_blocks: 0,
            spoiled: Vec::new(),
            all_sent: false,
        }
    }
}

impl<P> Resync<P> {
    fn begin(&mut self, now: Time, total: u64) {
        let awaited = core::mem::take(&mut self.awaited);
        let replied = core::mem::take(&mut self.replied);
        let blocked = core::mem::take(&mut self.blocked);
        let (early_uuid, outstanding) = (self.early_uuid.take(), self.outstanding);
        *self = Resync {
            total,
            started: now,
            awaited,
            replied,
            blocked,
            early_uuid,
            outstanding,
            ..Resync::default()
        };
        self.marks.push_back((now, total));
    }

    /// The sync UUID that came early was of a resync that is given up.
    pub(crate) fn forget_early_uuid(&mut self) {
        self.early_uuid = None;
    }

    pub(crate) fn pause(&mut self, now: Time) {
        self.paused_at = Some(now);
    }

    pub(crate) fn resume(&mut self, now: Time) {
        if let Some(at) = self.paused_at.take() {
            self.paused_ms += now.ms_since(at);
        }
    }

    fn mark(&mut self, now: Time, left: u64) {
        let due = self
            .marks
            .back()
            .is_none_or(|(at, _)| now.ms_since(*at) >= MARK_MS);
        if due {
            self.marks.push_back((now, left));
            if self.marks.len() > MARKS {
                self.marks.pop_front();
            }
        }
    }

    /// What was asked for in the last step, KiB/s.
    pub(crate) fn want_kib(&self) -> u32 {
        self.pace.want_kib
    }

    fn elapsed_ms(&self, now: Time) -> u64 {
        let paused = self.paused_ms + self.paused_at.map_or(0, |at| now.ms_since(at));
        now.ms_since(self.started).saturating_sub(paused)
    }

    /// KiB/s since the second youngest mark.
    pub(crate) fn recent_kib(&self, now: Time, left: u64) -> u64 {
        let mark = self.marks.iter().rev().nth(1).or(self.marks.front());
        let Some(&(at, then)) = mark else { return 0 };
        then.saturating_sub(left) * 4 * 1000 / now.ms_since(at).max(1)
    }

    pub(crate) fn progress(&self, now: Time, bits_set: u64, target: bool) -> SyncProgress {
        let left = bits_set.saturating_sub(self.failed);
        let (mark_at, mark_left) = self
            .marks
            .front()
            .copied()
            .unwrap_or((self.started, self.total));
        SyncProgress {
            total_blocks: self.total,
            left_blocks: left,
            failed_blocks: self.failed,
            window_ms: now.ms_since(mark_at),
            window_blocks: mark_left.saturating_sub(left),
            elapsed_ms: self.elapsed_ms(now),
            want_kib: target.then_some(self.pace.want_kib),
            limit: None,
        }
    }
}

impl<P: Payload> Resource<P> {
    fn log_resync_began(&mut self, nr: VolumeNr, side: &str) {
        let bits = self.volume(nr).bits_set();
        let text = format!(
            "Began resync as {side} (will sync {} KB [{bits} bits set]).",
            bits * 4
        );
        self.log_volume(Level::Info, nr, text);
    }

    fn log_resync_done(&mut self, nr: VolumeNr) {
        let now = self.now;
        let resync = &self.volume(nr).peer.resync;
        let elapsed_s = (resync.elapsed_ms(now) / 1000).max(1);
        let paused_s = resync.paused_ms / 1000;
        let (total, failed, equal) = (resync.total, resync.failed, resync.equal_blocks);
        let rate = total * 4 / elapsed_s;
        let text =
            format!("Resync done (total {elapsed_s} sec; paused {paused_s} sec; {rate} K/sec)");
        self.log_volume(Level::Info, nr, text);
        if equal > 0 {
            let text = format!(
                "{} % had equal checksums, eliminated: {}K; transferred {}K total {}K",
                equal * 100 / total.max(1),
                equal * 4,
                total.saturating_sub(equal) * 4,
                total * 4
            );
            self.log_volume(Level::Info, nr, text);
        }
        if failed > 0 {
            self.log_volume(
                Level::Error,
                nr,
                format!("            {failed} failed blocks"),
            );
        }
    }

    /// The connection is gone: what waited for the peer waits no more.
    pub(crate) fn resync_connection_lost(&mut self, nr: VolumeNr) {
        let volume = self.volume_mut(nr);
        volume.peer.resync.awaited = Awaited::default();
        for (sector, _) in core::mem::take(&mut volume.peer.resync.replied).iter() {
            if volume.held.holder_at(sector) == Some(Holder::Resync) {
                volume.held.remove(sector);
            }
        }
        for ticket in core::mem::take(&mut volume.peer.resync.blocked).into_keys() {
            volume.held.leave(ticket);
        }
        volume.peer.resync.spoiled.clear();
        volume.peer.resync.requesting = false;
        volume.peer.resync.ending = false;
        volume.peer.resync.acks_seen = None;
        volume.peer.resync.early_uuid = None;
        volume.peer.resync.outstanding = 0;
        volume.peer.bitmap_due = crate::bitmap_exchange::BitmapDue::No;
        self.emit(Effect::ClearTimer {
            timer: Timer::ResyncStep(nr),
        });
        self.retry_blocked(nr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_rate_is_shared_among_steps() {
        let options = DiskOptions {
            c_plan_ahead_ds: 0,
            resync_rate_kib: 4_000,
            ..DiskOptions::default()
        };
        assert_eq!(Pace::default().step(&options, 0), 100); // 400 KiB each 0.1 s
    }

    /// What is asked for in each tenth of a second, in KiB, over a link that carries so many in that time.
    fn asked_for(link: i64, steps: usize, application: impl Fn(usize) -> u64) -> Vec<i64> {
        let options = DiskOptions::default();
        let mut pace = Pace::default();
        let mut in_pipe = 0;
        let step = |n| {
            let sectors = pace.step(&options, application(n)) * 8;
            pace.requested(sectors);
            in_pipe += i64::try_from(sectors).unwrap();
            pace.arrived = in_pipe.min(link * 2);
            in_pipe -= pace.arrived;
            i64::try_from(sectors / 2).unwrap()
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn an_idle_link_is_full_within_two_seconds_and_not_more_than_full() {
        let most = i64::from(DiskOptions::default().c_max_rate_kib) / 10;
        let asked = asked_for(1 << 30, 20, |_| 0);
        assert!(asked[19] >= most * 8 / 10, "{asked:?}");
        assert!(asked.iter().all(|&kib| kib <= most), "{asked:?}");
        let link = 1200;
        let asked = asked_for(link, 100, |_| 0);
        let late = &asked[20..];
        assert!(late.iter().sum::<i64>() >= 79 * link, "{asked:?}");
        assert!(late.iter().all(|&kib| kib <= 2 * link), "{asked:?}");
    }

    #[test]
    fn a_link_that_takes_longer_than_a_step_or_pauses_comes_to_speed() {
        let link = 6_000;
        // What was asked for comes two steps later.
        let options = DiskOptions::default();
        let (mut pace, mut came) = (Pace::default(), 0);
        let (mut on_its_way, mut queue) = ([0; 2], 0);
        for n in 0..60 {
            let sectors = i64::try_from(pace.step(&options, 0) * 8).unwrap();
            pace.in_flight += sectors;
            queue += on_its_way[n % 2];
            on_its_way[n % 2] = sectors;
            pace.arrived = queue.min(link * 2);
            queue -= pace.arrived;
            came += if n < 30 { 0 } else { pace.arrived / 2 };
        }
        assert!(came >= 29 * link, "{came} KiB in three seconds");
        // Nothing comes in every other step.
        let (mut pace, mut came, mut in_pipe) = (Pace::default(), 0, 0);
        for n in 0..60 {
            let sectors = i64::try_from(pace.step(&options, 0) * 8).unwrap();
            pace.in_flight += sectors;
            in_pipe += sectors;
            pace.arrived = if n % 2 == 0 { 0 } else { in_pipe.min(link * 2) };
            in_pipe -= pace.arrived;
            came += if n < 30 { 0 } else { pace.arrived / 2 };
            assert!(in_pipe <= link * 2 * 5, "{in_pipe} sectors in the pipe");
        }
        assert!(came >= 14 * link, "{came} KiB in three seconds");
    }

    #[test]
    fn applications_are_spared_as_the_driver_spares_them() {
        let asked = asked_for(1 << 30, 20, |_| 1000);
        assert!(asked[19] < 1000, "{asked:?}");
        let asked = asked_for(1 << 30, 20, |n| if n % 3 == 0 { 1000 } else { 0 });
        assert!(asked[19] < 1000, "{asked:?}");
    }

    #[test]
    fn the_controller_fills_the_pipe_and_keeps_it_there() {
        let options = DiskOptions {
            c_fill_target_sectors: 800,
            ..DiskOptions::default()
        };
        let mut pace = Pace::default();
        let mut in_pipe = 0_u64;
        for _ in 0..400 {
            let sectors = pace.step(&options, 0) * 8;
            pace.requested(sectors);
            in_pipe += sectors;
            let arrives = in_pipe / 2;
            in_pipe -= arrives;
            pace.arrived += i64::try_from(arrives).unwrap();
        }
        assert!(
            in_pipe > 200 && in_pipe < 1600,
            "{in_pipe} sectors in the pipe"
        );
    }
}
