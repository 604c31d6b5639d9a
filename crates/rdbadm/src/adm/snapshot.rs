//! `snapshot`: what is asked for, and what is said when it is taken.

use std::time::{SystemTime, UNIX_EPOCH};

use rdb_control::{Op, utc};

use super::Command;
use super::plan::Item;
use crate::step::{Action, Step};

/// How long one may take when nothing else is said, in seconds.
const LIMIT_S: u32 = 30;

impl Command<'_> {
    /// One step a resource; all snapshots of one call have the same name.
    pub(super) fn snapshots(&self, items: &[Item]) -> Vec<Step> {
        let given = self.args.get_one::<String>("name").cloned();
        let name = given.unwrap_or_else(time_stamp);
        let exec = self.args.get_one::<String>("exec").cloned();
        let given = self.args.get_one::<u32>("timeout").copied();
        let limit_s = given.unwrap_or(LIMIT_S);
        let local_only = self.has("local-only");
        let step = |item: &Item| item.snapshot(&name, exec.as_deref(), limit_s, local_only);
        items.iter().map(step).collect()
    }
}

impl Item {
    /// `snapshot`.
    pub(crate) fn snapshot(
        &self,
        name: &str,
        exec: Option<&str>,
        limit_s: u32,
        local_only: bool,
    ) -> Step {
        let resource = self.resource.name.clone();
        let mut words = vec!["snapshot".to_owned(), resource.clone()];
        words.push(format!("--name={name}"));
        words.push(format!("--limit={limit_s}"));
        words.extend(local_only.then(|| "--local-only".to_owned()));
        words.extend(exec.map(|command| format!("--exec={command}")));
        let op = Op::Snapshot {
            resource: resource.clone(),
            name: name.to_owned(),
            exec: exec.map(str::to_owned),
            limit_s,
            local_only,
        };
        self.setup(words, resource, Action::Run(op))
    }
}

/// Now, as `20261129T165852Z`: the name of a snapshot that is given none.
fn time_stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = utc(now.map_or(0, |since| since.as_secs()));
    now.chars().filter(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_stamp_is_a_name_and_sorts_by_time() {
        let stamp = time_stamp();
        assert_eq!(stamp.len(), "20261129T165852Z".len());
        assert!(
            stamp.ends_with('Z') && stamp.as_str() > "20260101T000000Z",
            "{stamp}"
        );
    }
}
