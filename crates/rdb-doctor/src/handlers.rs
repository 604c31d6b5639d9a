//! Handlers: whether they are there, go with `fencing`, and have the time that they need.

use rdb_config::{Fencing, Handlers, ResolvedResource};

use crate::finding::Finding;
use crate::machine::Machine;
use crate::patient::Patient;

const HANDLERS: &str = "handlers";
const FENCING: &str = "fencing-handlers";
const TIMEOUT: &str = "handler-timeout";

/// Where a handler's programs are looked for (`docs/handlers.md`, "With what").
const PATH: [&str; 4] = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];
/// `handler-timeout` if nothing is said, in seconds (`docs/handlers.md`).
const DEFAULT_TIMEOUT_S: u32 = 180;

pub(crate) fn check(
    machine: &Machine<'_>,
    patient: &Patient<'_>,
    resource: &ResolvedResource,
) -> Vec<Finding> {
    let mut all = programs(machine, &resource.handlers);
    all.extend(fencing(resource));
    all.extend(timeout(patient, resource));
    all.into_iter()
        .map(|found| found.about(&resource.name))
        .collect()
}

/// Whether the programs of each handler are there, and can be run.
fn programs(machine: &Machine<'_>, handlers: &Handlers) -> Vec<Finding> {
    let changed = handlers.changed();
    if changed.is_empty() {
        return vec![Finding::ok(HANDLERS, "none is configured")];
    }
    let mut all = Vec::new();
    for (option, command) in &changed {
        let name = option.name;
        for program in programs_of(command) {
            let fault = match fault_of(machine, &program) {
                Some(fault) => fault,
                None => continue,
            };
            let found = Finding::problem(HANDLERS, format!("{name}: {fault}"));
            let found = match name {
                "fence-peer" => found.why("the peer is not fenced: users of a frozen Primary wait until an administrator comes, and no promotion without the peer succeeds"),
                _ => found.why("nothing happens when it is called but a line in the log"),
            };
            all.push(found.advice("install what it is of, or mend its path"));
        }
    }
    if all.is_empty() {
        let names: Vec<&str> = changed.iter().map(|(option, _)| option.name).collect();
        all.push(Finding::ok(
            HANDLERS,
            format!("{}: their programs are here", names.join(", ")),
        ));
    }
    all
}

/// What keeps a program from being run.
fn fault_of(machine: &Machine<'_>, program: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;

    if !program.contains('/') {
        let found = PATH
            .iter()
            .any(|folder| machine.exists(format!("{folder}/{program}")));
        return (!found).then(|| format!("{program} is in none of {}", PATH.join(", ")));
    }
    let file = match std::fs::metadata(machine.at(program)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Some(format!("{program} is not there"));
        }
        Err(error) => return Some(format!("{program}: {error}")),
    };
    let is_program = file.is_file() && file.permissions().mode() & 0o111 != 0;
    (!is_program).then(|| format!("{program} can not be executed"))
}

/// The programs that a shell would start for a command, as far as they are written plainly: the first word of each of its parts.
fn programs_of(command: &str) -> Vec<String> {
    /// What a shell does itself, or where the program comes later.
    const OWN: &[&str] = &[
        ".", ":", "[", "break", "case", "cd", "command", "continue", "do", "done", "echo", "elif",
        "else", "esac", "eval", "exec", "exit", "export", "false", "fi", "for", "if", "in", "kill",
        "local", "printf", "pwd", "read", "return", "set", "shift", "test", "then", "trap", "true",
        "type", "ulimit", "umask", "unset", "until", "wait", "while", "{", "}", "!", "(",
    ];
    let mut programs = Vec::new();
    for part in parts(command) {
        let words = part.split_whitespace();
        // `NAME=VALUE program`
        let mut words = words.skip_while(|word| {
            word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            })
        });
        let Some(first) = words.next() else { continue };
        let first = match first {
            "exec" | "then" | "else" | "do" | "if" | "while" | "!" => {
                words.next().unwrap_or_default()
            }
            other => other,
        };
        let is_plain = first
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
        if !first.is_empty() && is_plain && !OWN.contains(&first) {
            programs.push(first.to_owned());
        }
    }
    programs
}

/// A command's parts, between `;`, `&`, `|` and newlines that stand outside of quotes.
fn parts(command: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quote, mut is_escaped) = (None, false);
    for c in command.chars() {
        let last = parts.last_mut().expect("there is one from the start");
        if is_escaped {
            is_escaped = false;
            last.push(c);
            continue;
        }
        match (c, quote) {
            ('\\', None | Some('"')) => {
                is_escaped = true;
                last.push(c);
            }
            ('\'' | '"', None) => {
                quote = Some(c);
                last.push(c);
            }
            (c, Some(open)) if c == open => {
                quote = None;
                last.push(c);
            }
            (';' | '&' | '|' | '\n', None) => parts.push(String::new()),
            ('#', None) if last.is_empty() || last.ends_with(char::is_whitespace) => break,
            _ => last.push(c),
        }
    }
    parts
}

/// Whether `fencing` and its handlers go together.
fn fencing(resource: &ResolvedResource) -> Vec<Finding> {
    let handlers = &resource.handlers;
    let wanted = resource.volumes.iter().map(|v| v.disk_options.fencing);
    let wanted = wanted.max_by_key(|fencing| match fencing {
        Fencing::DontCare => 0,
        Fencing::ResourceOnly => 1,
        Fencing::ResourceAndStonith => 2,
    });
    let wanted = wanted.unwrap_or(Fencing::DontCare);
    let docs = "name one (docs/handlers.md)";
    let mut all = Vec::new();
    match (wanted, &handlers.fence_peer) {
        (Fencing::DontCare, Some(_)) => all.push(
            Finding::warning(
                FENCING,
                "fence-peer is configured, and fencing is dont-care",
            )
            .why("the handler is never called")
            .advice("set fencing in disk {}, or take the handler out"),
        ),
        (Fencing::ResourceAndStonith, None) => all.push(
            Finding::problem(
                FENCING,
                "fencing is resource-and-stonith, and there is no handler fence-peer",
            )
            .why("when the peer is lost, users wait until an administrator resumes I/O")
            .advice(docs),
        ),
        (Fencing::ResourceOnly, None) => all.push(
            Finding::warning(
                FENCING,
                "fencing is resource-only, and there is no handler fence-peer",
            )
            .why("a node without its peer is not promoted, unless by force")
            .advice(docs),
        ),
        _ => {}
    }
    let takes_back =
        |handler: &Option<String>| handler.as_ref().is_some_and(|c| c.contains("unfence"));
    let is_crm = handlers
        .fence_peer
        .as_ref()
        .is_some_and(|c| c.contains("crm-fence-peer"));
    if wanted != Fencing::DontCare
        && is_crm
        && !takes_back(&handlers.unfence_peer)
        && !takes_back(&handlers.after_resync_target)
    {
        all.push(
            Finding::warning(
                FENCING,
                "crm-fence-peer.sh is called, and nothing takes its constraint back",
            )
            .why("after the first cut the peer is never promoted again")
            .advice("set unfence-peer to crm-unfence-peer.sh, of the same folder"),
        );
    }
    if all.is_empty() && wanted != Fencing::DontCare {
        all.push(Finding::ok(FENCING, "fencing has its handlers"));
    }
    all
}

/// Whether a script that fences may take as long as it has been told to.
fn timeout(patient: &Patient<'_>, resource: &ResolvedResource) -> Option<Finding> {
    let command = resource.handlers.fence_peer.as_ref()?;
    let limit = patient
        .settings
        .handler_timeout
        .unwrap_or(DEFAULT_TIMEOUT_S);
    let words: Vec<&str> = command.split_whitespace().collect();
    let given = words.windows(2).find(|pair| pair[0] == "--timeout")?;
    let needed: u32 = given[1].parse().ok()?;
    Some(if limit != 0 && limit <= needed {
        Finding::warning(
            TIMEOUT,
            format!("handler-timeout is {limit} s, and fence-peer may take {needed} s"),
        )
        .why("it is ended before it can say what became of the peer, which counts as not fenced")
        .advice(format!(
            "set handler-timeout in rdbd.toml to {} at least, or the script's --timeout to less",
            needed.saturating_add(30)
        ))
    } else {
        Finding::ok(TIMEOUT, "longer than fence-peer takes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::made_up::{MadeUp, Person};

    fn worst(machine: &MadeUp, person: &Person, name: &str) -> Option<Severity> {
        let patient = person.patient();
        let all = check(&machine.machine(), &patient, &patient.resources[0]);
        let of = all.iter().filter(|found| found.check == name);
        of.map(|found| found.severity).max()
    }

    #[test]
    fn programs_are_found_in_commands_as_a_shell_would() {
        for (command, programs) in [
            (
                "/usr/lib/drbd/notify.sh root",
                vec!["/usr/lib/drbd/notify.sh"],
            ),
            (
                "/a/b.sh; /c/d.sh && echo b > /proc/sysrq-trigger ; reboot -f",
                vec!["/a/b.sh", "/c/d.sh", "reboot"],
            ),
            (
                "X=1 exec /a/b 'x; /no/such' | logger -t \"a|b\"",
                vec!["/a/b", "logger"],
            ),
            ("if /a/b; then :; else /c; fi # /d", vec!["/a/b", "/c"]),
            ("\"$HOME/x\" $Y a", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(programs_of(command), programs, "{command}");
        }
    }

    #[test]
    fn a_handler_that_is_not_there_or_no_program_is_a_problem() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        assert_eq!(worst(&machine, &person, HANDLERS), Some(Severity::Ok));
        person.configure(
            "handlers { split-brain \"/usr/lib/drbd/notify.sh root\"; out-of-sync logger; }",
        );
        assert_eq!(worst(&machine, &person, HANDLERS), Some(Severity::Problem));
        machine.program("/usr/lib/drbd/notify.sh");
        assert_eq!(worst(&machine, &person, HANDLERS), Some(Severity::Problem));
        machine.program("/usr/bin/logger");
        assert_eq!(worst(&machine, &person, HANDLERS), Some(Severity::Ok));
        machine.file("/usr/lib/drbd/notify.sh", "not executable");
        machine.no_program("/usr/lib/drbd/notify.sh");
        assert_eq!(worst(&machine, &person, HANDLERS), Some(Severity::Problem));
    }

    #[test]
    fn fencing_and_its_handlers_go_together() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        assert_eq!(worst(&machine, &person, FENCING), None);
        for (written, severity) in [
            ("disk { fencing resource-only; }", Severity::Warning),
            ("disk { fencing resource-and-stonith; }", Severity::Problem),
            ("handlers { fence-peer /bin/f; }", Severity::Warning),
            (
                "disk { fencing resource-only; } handlers { fence-peer /bin/f; }",
                Severity::Ok,
            ),
            (
                "disk { fencing resource-only; } handlers { fence-peer /x/crm-fence-peer.sh; }",
                Severity::Warning,
            ),
            (
                "disk { fencing resource-only; } handlers { fence-peer /x/crm-fence-peer.sh; after-resync-target /x/crm-unfence-peer.sh; }",
                Severity::Ok,
            ),
        ] {
            person.configure(written);
            assert_eq!(
                worst(&machine, &person, FENCING),
                Some(severity),
                "{written}"
            );
        }
    }

    #[test]
    fn a_script_that_fences_needs_its_time() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        person.configure("handlers { fence-peer \"/x/crm-fence-peer.sh --timeout 120\"; }");
        assert_eq!(worst(&machine, &person, TIMEOUT), Some(Severity::Ok));
        for (limit, severity) in [
            (120, Severity::Warning),
            (0, Severity::Ok),
            (121, Severity::Ok),
        ] {
            person.settings.handler_timeout = Some(limit);
            assert_eq!(worst(&machine, &person, TIMEOUT), Some(severity), "{limit}");
        }
        person.configure("handlers { fence-peer \"/x/mine\"; }");
        assert_eq!(worst(&machine, &person, TIMEOUT), None);
    }
}
