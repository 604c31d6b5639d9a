//! How `adjust` is carried out, and what is looked at before anything is.

use rdb_control::Op;

use super::plan::Item;
use super::run::{Extent, Run};
use super::{Command, adjust, adjust_check, adjust_given_up};
use crate::out;
use crate::step::{Action, Step};
use crate::verbs::Own;

impl Command<'_> {
    /// `may_wait`: nodes may wait for addresses of theirs that are not there yet.
    pub(super) fn adjust(&self, items: &[Item], may_wait: bool) -> u8 {
        let mut executor = self.executor();
        let shown = match executor.start_and_show() {
            Ok(shown) => shown,
            Err(trouble) => return trouble.tell(self.program),
        };
        let report = match executor.status() {
            Ok(report) => report,
            Err(trouble) => return trouble.tell(self.program),
        };
        let reports = report.map(|report| report.resources).unwrap_or_default();
        let mut refused = 0;
        let mut plans: Vec<[Vec<Step>; 3]> = Vec::new();
        let mut begun = Vec::new();
        for item in items {
            let name = &item.resource.name;
            let report = reports.iter().find(|r| r.name == *name);
            let mut obstacles = adjust_check::obstacles(item, &shown, report);
            if obstacles.is_empty() {
                obstacles = adjust_given_up::obstacles(item, &shown, report, may_wait);
            }
            for obstacle in &obstacles {
                out::error(&format!("{name}: nothing is adjusted: {obstacle}"));
            }
            if !obstacles.is_empty() {
                refused = REFUSED;
            }
            if obstacles.is_empty() || self.has("dry-run") {
                let running = shown.iter().find(|r| r.name == *name);
                for option in adjust::for_next_connection(item, running) {
                    out::error(&format!(
                        "{name}: {option} holds from the next connection on: it must be the same on the peer by then"
                    ));
                }
                plans.push(adjust::adjust(item, running));
                begun.extend(running.map(|running| (item, running)));
            }
        }
        // As drbdadm does it, all new resources come before anything else.
        let is_new = |step: &Step| matches!(step.action, Action::Run(Op::NewResource { .. }));
        let mut first = Vec::new();
        for [create, ..] in &mut plans {
            let (new, rest) = std::mem::take(create).into_iter().partition(is_new);
            *create = rest;
            first.extend::<Vec<Step>>(new);
        }
        plans.insert(0, [first, Vec::new(), Vec::new()]);
        let shows_progress = self.verb.is(Own::AdjustWithProgress) && !self.has("dry-run");
        let code = match shows_progress {
            true => self.staged_with_progress(plans),
            false => self.staged(plans, Extent::Volume),
        };
        if code != 0 && !self.has("dry-run") {
            for (item, running) in begun {
                adjust_given_up::put_back(&mut executor, item, running);
            }
        }
        code.max(refused)
    }
}

impl Command<'_> {
    /// As [`Command::staged`], with a line for each kind of steps that names the resources that have some, as boot scripts show it.
    fn staged_with_progress(&self, plans: Vec<[Vec<Step>; 3]>) -> u8 {
        let mut executor = self.executor();
        let mut run = Run::new(Extent::Volume);
        out::work_has_begun();
        out::print("[");
        'stages: for stage in 0..3 {
            let mut steps: Vec<Step> = plans.iter().flat_map(|plan| plan[stage].clone()).collect();
            steps.sort_by_key(|step| kind(step).0);
            let mut shown: Option<(&str, String)> = None;
            for step in &steps {
                let label = kind(step).1;
                let name = &step.resource;
                let is_new = shown.as_ref().is_none_or(|(last, _)| *last != label);
                if is_new {
                    out::print(&format!("\n{label:>15}:"));
                }
                if is_new || shown.as_ref().is_some_and(|(_, last)| last != name) {
                    out::print(&format!(" {name}"));
                }
                shown = Some((label, name.clone()));
                let before = std::mem::take(&mut run.worst);
                let goes_on = run.steps(&mut executor, std::slice::from_ref(step));
                if run.worst != 0 {
                    out::print(&format!(":failed({}:{})", step.argv[0], run.worst));
                }
                run.worst = run.worst.max(before);
                if !goes_on {
                    break 'stages;
                }
            }
        }
        out::print("\n]\n");
        match run.worst {
            0 => 0,
            _ => executor.own_code.max(1),
        }
    }
}

/// What a step is for, as the progress names it, and its turn among others of its stage.
fn kind(step: &Step) -> (u8, &'static str) {
    match &step.action {
        Action::Run(Op::NewResource { .. }) => (0, "create res"),
        Action::Run(Op::ResourceOptions { .. }) => (1, "adjust res"),
        Action::Run(Op::NewMinor { .. }) => (3, "create res"),
        Action::Run(Op::Detach { .. } | Op::DelMinor { .. }) => (2, "prepare disk"),
        Action::Meta(_) => (2, "prepare disk"),
        Action::Run(Op::Attach { .. } | Op::DiskOptions { .. }) => (4, "adjust disk"),
        Action::Run(Op::Disconnect { .. }) => (5, "prepare net"),
        _ => (6, "adjust net"),
    }
}

/// The exit status of a resource that is not adjusted: that of a step which is refused.
const REFUSED: u8 = 10;
