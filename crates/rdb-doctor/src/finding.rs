//! What a check has found, and how it is told.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It is as it should be.
    Ok,
    /// Worth knowing, or it could not be looked at.
    Note,
    /// It works, and will not some day.
    Warning,
    /// It does not work, or costs data.
    Problem,
}

impl Severity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Problem => "problem",
        }
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The name of the check, which stays the same.
    pub check: &'static str,
    /// The resource, or the volume as `RES/NUMBER`; nothing if it is the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// What was seen.
    pub seen: String,
    /// Why it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// A command for that, for `sh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Finding {
    fn new(severity: Severity, check: &'static str, seen: impl Into<String>) -> Finding {
        Finding {
            severity,
            check,
            about: None,
            seen: seen.into(),
            why: None,
            advice: None,
            command: None,
        }
    }

    pub(crate) fn ok(check: &'static str, seen: impl Into<String>) -> Finding {
        Finding::new(Severity::Ok, check, seen)
    }

    pub(crate) fn note(check: &'static str, seen: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, check, seen)
    }

    pub(crate) fn warning(check: &'static str, seen: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, check, seen)
    }

    pub(crate) fn problem(check: &'static str, seen: impl Into<String>) -> Finding {
        Finding::new(Severity::Problem, check, seen)
    }

    pub(crate) fn about(mut self, what: &str) -> Finding {
        self.about = Some(what.to_owned());
        self
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Finding {
        self.why = Some(why.into());
        self
    }

    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Finding {
        self.advice = Some(advice.into());
        self
    }

    pub(crate) fn command(mut self, command: impl Into<String>) -> Finding {
        self.command = Some(command.into());
        self
    }
}

/// The exit status for these: 0 if there is nothing worse than a note, 1 for a warning, 2 for a problem.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.severity).max() {
        None | Some(Severity::Ok | Severity::Note) => 0,
        Some(Severity::Warning) => 1,
        Some(Severity::Problem) => 2,
    }
}

/// The findings for a reader: the worst first, what is well only if `all`; then how many there are of each kind.
pub fn text(findings: &[Finding], all: bool) -> String {
    const MARGIN: &str = "         ";
    let mut text = String::new();
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    // Those of one kind stay in their order.
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in sorted {
        if finding.severity == Severity::Ok && !all {
            continue;
        }
        let about = finding.about.as_ref();
        let about = about.map_or_else(String::new, |about| format!("{about}: "));
        text += &format!(
            "{:<8} {about}{}: {}\n",
            finding.severity.as_str(),
            finding.check,
            finding.seen
        );
        for (head, line) in [
            ("why:", &finding.why),
            ("do: ", &finding.advice),
            ("run:", &finding.command),
        ] {
            if let Some(line) = line {
                text += &format!("{MARGIN}{head} {line}\n");
            }
        }
    }
    text + &counts(findings)
}

fn counts(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let several = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    };
    let bad = [
        several(count(Severity::Problem), "problem"),
        several(count(Severity::Warning), "warning"),
        several(count(Severity::Note), "note"),
    ];
    format!("{}; {} ok\n", bad.join(", "), count(Severity::Ok))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_exit_status() {
        let one = |severity| Finding::new(severity, "clock", "seen");
        for (severities, code) in [
            (vec![], 0),
            (vec![Severity::Ok, Severity::Note], 0),
            (vec![Severity::Warning, Severity::Ok], 1),
            (
                vec![Severity::Note, Severity::Problem, Severity::Warning],
                2,
            ),
        ] {
            let findings: Vec<Finding> = severities.into_iter().map(one).collect();
            assert_eq!(exit_code(&findings), code, "{findings:?}");
        }
    }

    #[test]
    fn the_worst_is_told_first_and_what_is_well_only_when_asked_for() {
        let findings = [
            Finding::ok("clock", "synchronised"),
            Finding::note("sysctl", "odd"),
            Finding::problem("port", "taken")
                .about("r0")
                .why("it must listen")
                .advice("free it")
                .command("ss -ltnp"),
        ];
        assert_eq!(
            text(&findings, false),
            "problem  r0: port: taken\n         why: it must listen\n         do:  free it\n         run: ss -ltnp\n\
             note     sysctl: odd\n1 problem, 0 warnings, 1 note; 1 ok\n"
        );
        assert!(text(&findings, true).contains("ok       clock: synchronised\n"));
    }
}
