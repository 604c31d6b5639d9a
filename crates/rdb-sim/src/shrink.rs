//! From a plan that fails to a shorter one that fails in the same place.

use crate::plan::Plan;
use crate::run::Failure;

/// The shortest plan found, and its failure. `tries` bounds the runs.
pub fn shrink(plan: &Plan, failure: &Failure, tries: usize) -> (Plan, Failure) {
    let mut search = Search {
        best: plan.clone(),
        failure: failure.clone(),
        tries,
    };
    // Whole runs of steps first, then smaller ones, until no single step can be left out.
    let mut size = plan.steps.len().div_ceil(2).max(1);
    loop {
        let shorter = search.without_runs(size);
        if size > 1 {
            size = size.div_ceil(2);
        } else if !shorter || search.tries == 0 {
            break;
        }
    }
    search.shorter_pauses();
    (search.best, search.failure)
}

struct Search {
    best: Plan,
    failure: Failure,
    tries: usize,
}

impl Search {
    /// Tries to leave out each run of so many steps, the last first. Says whether one could go.
    fn without_runs(&mut self, size: usize) -> bool {
        let mut shorter = false;
        let mut end = self.best.steps.len();
        while end > 0 && self.tries > 0 {
            let start = end.saturating_sub(size);
            let mut plan = self.best.clone();
            plan.steps.drain(start..end);
            shorter |= self.keep_if_it_fails(plan);
            end = start.min(self.best.steps.len());
        }
        shorter
    }

    /// What happens at the same moment needs no explanation by time.
    fn shorter_pauses(&mut self) {
        for n in 0..self.best.steps.len() {
            if self.tries == 0 {
                return;
            }
            let mut plan = self.best.clone();
            plan.steps[n].pause_us = plan.steps[n].pause_us.min(1000);
            if plan.steps[n] != self.best.steps[n] {
                self.keep_if_it_fails(plan);
            }
        }
    }

    fn keep_if_it_fails(&mut self, plan: Plan) -> bool {
        self.tries = self.tries.saturating_sub(1);
        match plan.run(false).failure {
            Some(failure) if failure.place == self.failure.place => {
                self.best = plan;
                self.failure = failure;
                true
            }
            _ => false,
        }
    }
}
