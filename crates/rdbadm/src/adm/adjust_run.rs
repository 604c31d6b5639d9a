//! How `adjust` is carried out, and what is looked at before anything is.

use rdb_control::Op;

use super::plan::Item;
use super::{Command, adjust, adjust_check, adjust_given_up};
use crate::out;
use crate::step::{Action, Step};

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
        let code = self.staged(plans);
        if code != 0 && !self.has("dry-run") {
            for (item, running) in begun {
                adjust_given_up::put_back(&mut executor, item, running);
            }
        }
        code.max(refused)
    }
}

/// The exit status of a resource that is not adjusted: that of a step which is refused.
const REFUSED: u8 = 10;
