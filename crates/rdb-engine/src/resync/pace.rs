//! How much a resync or a verify may ask for in each tenth of a second.

use alloc::collections::VecDeque;

use crate::config::DiskOptions;

/// The controller of `docs/spec/behaviour.md`, section 9.2. Amounts are sectors.
///
/// That one comes to speed within a minute: it adds a little to what has arrived. Where no application writes, nobody is to be
/// spared. Twice what the best step of the last second brought is asked for there, up to `c-max-rate`, as long as no more
/// than that is under way. It is the best step and not the last one that counts, for a link or a disk that takes longer than a
/// step, or pauses for one, would have what is asked for stay as low as what came in the pause. Who has set `c-fill-target`
/// wants no more than that in the pipe, and gets the controller alone.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    plan: VecDeque<i64>,
    plan_sum: i64,
    in_flight: i64,
    arrived: i64,
    /// What arrived in each of the last steps, the youngest at the end.
    arrivals: [i64; BEST_OF_STEPS],
    want_kib: u32,
    /// Steps since an application wrote.
    quiet_steps: u32,
    /// Application sectors at the last step.
    application_sectors: u64,
    /// The last step was left out for the sake of application I/O.
    gave_way: bool,
}

/// Steps of which the best says what can be carried: a second.
const BEST_OF_STEPS: usize = 10;
/// Steps without application writes after which nobody is spared.
const QUIET_STEPS: u32 = 3;
/// Sectors of application writes within a step that do not count.
const APPLICATION_MIN: u64 = 64;

/// Time between two steps.
pub(crate) const STEP_MS: u64 = 100;

impl Pace {
    /// Units of 4 KiB for the step that begins. Application I/O comes first: above the minimum rate, a step is left out while
    /// there is some (9.4). `application_sectors`: what applications have written; `recent_kib`: what is done, KiB/s.
    pub(crate) fn allowed(
        &mut self,
        options: &DiskOptions,
        application_sectors: u64,
        recent_kib: u64,
    ) -> u64 {
        let application = application_sectors - self.application_sectors;
        self.application_sectors = application_sectors;
        let units = self.step(options, application);
        self.gave_way = options.c_min_rate_kib != 0
            && application > APPLICATION_MIN
            && recent_kib > u64::from(options.c_min_rate_kib);
        if self.gave_way { 0 } else { units }
    }

    /// Sectors were asked for.
    pub(crate) fn requested(&mut self, sectors: u64) {
        self.in_flight += i64::try_from(sectors).unwrap_or(0);
    }

    /// An answer for so many sectors has come.
    pub(crate) fn arrived(&mut self, sectors: u64) {
        self.arrived += i64::try_from(sectors).unwrap_or(0);
    }

    /// Whether the last step was left out for the sake of application I/O.
    pub(crate) fn gave_way(&self) -> bool {
        self.gave_way
    }

    /// What was asked for in the last step, KiB/s.
    pub(crate) fn want_kib(&self) -> u32 {
        self.want_kib
    }

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

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
