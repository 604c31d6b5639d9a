//! `explain`: a state, or a refusal, in sentences.

use rdb_control::{ResourceReport, read_history};

use super::Command;
use super::select::SelectError;
use crate::exec::Executor;
use crate::explain_code;
use crate::out;

/// Lines of history that are told, the newest.
const PAST_LINES: usize = 12;

impl Command<'_> {
    pub(super) fn explain(&self) -> u8 {
        let objects = self.objects();
        let codes: Option<Vec<i32>> = objects.iter().map(|word| word.parse().ok()).collect();
        match codes {
            Some(codes) if !codes.is_empty() => self.explain_codes(&codes),
            _ => self.explain_resources(&objects),
        }
    }

    fn explain_codes(&self, codes: &[i32]) -> u8 {
        let mut worst = 0;
        for code in codes {
            match explain_code::explain(*code) {
                Some(text) => out::print(&text),
                None => {
                    out::error(&format!(
                        "{}: there is no refusal with the number {code}; they are -1 to -21 and 101 to 170",
                        self.program
                    ));
                    worst = 1;
                }
            }
        }
        worst
    }

    fn explain_resources(&self, names: &[String]) -> u8 {
        let mut executor = self.executor();
        let report = match executor.status() {
            Ok(Some(report)) => report,
            Ok(None) => {
                out::print(
                    "rdbd does not run: no device of it is served here. 'rdbadm up all' starts it.\n",
                );
                return 0;
            }
            Err(trouble) => return trouble.tell(self.program),
        };
        let all = names.is_empty() || names.iter().any(|name| name == "all");
        if names.iter().any(|name| name.contains('/')) {
            let command = self.verb.name.to_owned();
            out::error(&SelectError::Whole { command }.to_string());
            return 1;
        }
        let unknown = |name: &&String| !report.resources.iter().any(|r| r.name == **name);
        if !all && let Some(name) = names.iter().find(unknown) {
            out::error(&format!(
                "{}: {name} is not up; 'rdbadm status' says what is, and 'rdbadm up {word}' brings it up",
                self.program,
                word = rdb_control::shell_word(name)
            ));
            return 10;
        }
        if report.resources.is_empty() {
            out::print(
                "rdbd runs, and no resource is up. 'rdbadm up all' brings up what is configured.\n",
            );
        }
        let wanted = |r: &&ResourceReport| all || names.contains(&r.name);
        for (nr, resource) in report.resources.iter().filter(wanted).enumerate() {
            if nr > 0 {
                out::print("\n");
            }
            let past = self.past(&mut executor, resource);
            out::print_written(&rdb_watch::explain(resource).text(&past));
        }
        0
    }

    /// What has happened to the resource; nothing where that can not be read.
    fn past(&self, executor: &mut Executor, resource: &ResourceReport) -> Vec<String> {
        let lines = match executor.evidence(&resource.name) {
            Ok(Some(known)) => known.history,
            _ => match read_history(&self.histories(), &resource.name) {
                Ok((lines, _)) => lines,
                Err(_) => Vec::new(),
            },
        };
        let newest = lines.iter().rev().take(PAST_LINES).rev();
        let line = |line: &rdb_control::HistoryLine| {
            let volume = line.volume.filter(|_| resource.volumes.len() > 1);
            let volume = volume.map_or(String::new(), |nr| format!(" volume {nr}:"));
            format!("{}{volume} {}", line.at.to_seconds(), line.event)
        };
        newest.map(line).collect()
    }
}
