//! The daemon: whether it answers, its limits, its directory, and what is left of it after a crash.

use std::os::unix::fs::MetadataExt;

use crate::finding::Finding;
use crate::machine::Machine;
use crate::patient::{Daemon, Patient};

const DAEMON: &str = "daemon";
const MEMORY: &str = "memory-lock";
const FILES: &str = "open-files";
const RUN_DIR: &str = "run-directory";
const CORES: &str = "core-dumps";

/// What every daemon has open, and what a resource and each of its volumes add to it without users; roughly, and rather too many.
const FILES_OF_DAEMON: u64 = 32;
const FILES_OF_RESOURCE: u64 = 12;
const FILES_OF_VOLUME: u64 = 8;
/// The most clients that a resource's NBD socket serves.
const NBD_CLIENTS: u64 = 64;

pub(crate) fn check(machine: &Machine<'_>, patient: &Patient<'_>) -> Vec<Finding> {
    let mut all = vec![answers(patient), run_directory(machine, patient)];
    all.push(memory(machine, patient));
    all.push(open_files(machine, patient));
    all.extend(core_dumps(machine, patient));
    all
}

fn answers(patient: &Patient<'_>) -> Finding {
    match &patient.daemon {
        Daemon::None => Finding::note(DAEMON, "no rdbd runs")
            .why("what only it can tell, such as connections, could not be looked at")
            .advice("'rdbadm up' starts one"),
        Daemon::Silent {
            reason,
            is_denied: true,
            ..
        } => Finding::note(DAEMON, format!("rdbd is not asked: {reason}"))
            .why("what only it can tell, such as connections, could not be looked at"),
        Daemon::Silent { reason, .. } => {
            Finding::problem(DAEMON, format!("rdbd is not asked: {reason}"))
                .why("nobody can say what runs, and nobody can change it")
        }
        Daemon::Runs { pid, .. } => Finding::ok(
            DAEMON,
            pid.map_or_else(
                || "it answers".to_owned(),
                |pid| format!("it answers (pid {pid})"),
            ),
        ),
    }
}

fn run_directory(machine: &Machine<'_>, patient: &Patient<'_>) -> Finding {
    let path = patient.run_dir.display();
    let why = "whoever may write there could put links and sockets of his own in the place of the daemon's, which does not start then";
    let found = match std::fs::metadata(machine.at(patient.run_dir)) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::ok(RUN_DIR, format!("{path} is not there: the daemon makes it"));
        }
        Err(error) => return Finding::note(RUN_DIR, format!("{path}: {error}")),
    };
    let word = rdb_control::shell_word(&path.to_string());
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Finding::problem(RUN_DIR, format!("the mode of {path} is {mode:04o}"))
            .why(why)
            .advice("take writing away from the others")
            .command(format!("chmod go-w {word}"));
    }
    let own = owner(machine, patient).unwrap_or(0);
    if found.uid() != own && found.uid() != 0 {
        return Finding::problem(RUN_DIR, format!("{path} belongs to user {}", found.uid()))
            .why(why)
            .advice("give it to the user whom rdbd runs as")
            .command(format!("chown {own} {word}"));
    }
    Finding::ok(RUN_DIR, format!("{path} is the daemon's alone"))
}

/// Who the daemon runs as: its effective user. (Its folder in `/proc` is root's, as it writes no core dumps.)
fn owner(machine: &Machine<'_>, patient: &Patient<'_>) -> Option<u32> {
    let pid = patient.pid()?;
    let status = machine.text(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// A line of a process's limits: the soft and the hard one, `None` for no limit. An error, if it cannot be read.
type Limits = Result<[Option<u64>; 2], String>;

/// The daemon's limits, or ours for those of a daemon that is started from here.
fn limits(machine: &Machine<'_>, patient: &Patient<'_>, name: &str) -> Limits {
    let who = patient
        .pid()
        .map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let path = format!("/proc/{who}/limits");
    let text = machine
        .text(&path)
        .map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let mut words = line.unwrap_or_default().split_whitespace();
    let mut next = || match words.next() {
        Some("unlimited") => Ok(None),
        Some(number) => number
            .parse()
            .map(Some)
            .map_err(|_| format!("{path} has no number for {name}")),
        None => Err(format!("{path} does not have {name}")),
    };
    Ok([next()?, next()?])
}

fn memory(machine: &Machine<'_>, patient: &Patient<'_>) -> Finding {
    let why = "a daemon whose memory is swapped out needs a disk to write to a disk, which may be its own: under pressure both wait for ever";
    match limits(machine, patient, "Max locked memory") {
        Err(reason) => Finding::note(MEMORY, format!("it could not be looked at: {reason}")),
        Ok([None, _]) => Finding::ok(MEMORY, "the daemon may lock its memory"),
        // Root raises it.
        Ok(_) if patient.pid().is_none() && machine.probe().is_root() => {
            Finding::ok(MEMORY, "root may lock what it wants")
        }
        Ok([Some(soft), _]) if patient.pid().is_none() => {
            let seen = format!(
                "a daemon of this user could lock {} KiB of memory",
                soft / 1024
            );
            Finding::note(MEMORY, seen)
                .why(why)
                .advice("run rdbd as root, as its unit does")
        }
        Ok([Some(soft), _]) => {
            let seen = format!("the daemon may lock {} KiB of memory", soft / 1024);
            let advice = match owner(machine, patient) {
                Some(0) => {
                    "it runs as root, and may not raise that itself (CAP_SYS_RESOURCE): end it and start it anew by its unit, which has \
                     LimitMEMLOCK=infinity, or after 'ulimit -l unlimited'"
                }
                _ => {
                    "run rdbd as root, or by its unit, which has LimitMEMLOCK=infinity: end it and start it anew"
                }
            };
            Finding::warning(MEMORY, seen).why(why).advice(advice)
        }
    }
}

fn open_files(machine: &Machine<'_>, patient: &Patient<'_>) -> Finding {
    let resources = patient.resources.iter();
    let (mut least, mut most) = (FILES_OF_DAEMON, FILES_OF_DAEMON);
    for resource in resources {
        let volumes = resource.volumes.len() as u64;
        least += FILES_OF_RESOURCE + FILES_OF_VOLUME * volumes;
        most += FILES_OF_RESOURCE + FILES_OF_VOLUME * volumes + NBD_CLIENTS;
    }
    let advice = "give rdbd.service a LimitNOFILE by 'systemctl edit rdbd', or raise 'ulimit -n' of who starts it";
    match limits(machine, patient, "Max open files") {
        Err(reason) => Finding::note(FILES, format!("it could not be looked at: {reason}")),
        Ok([Some(soft), _]) if soft < least => Finding::warning(
            FILES,
            format!("the daemon may have {soft} files open, and these resources take about {least}"),
        )
        .why("a resource that gets no descriptor has no socket, disk or device")
        .advice(advice),
        Ok([Some(soft), _]) if soft < most => Finding::note(
            FILES,
            format!("the daemon may have {soft} files open, and these resources take {most} if every NBD socket has all its clients"),
        )
        .advice(advice),
        Ok(_) => Finding::ok(FILES, "the daemon may have enough open"),
    }
}

fn core_dumps(machine: &Machine<'_>, patient: &Patient<'_>) -> Option<Finding> {
    let wanted = patient.settings.core_dumps.as_deref()?;
    if wanted == "none" {
        return None;
    }
    let pattern = machine.word("/proc/sys/kernel/core_pattern")?;
    let asked = format!("core-dumps is {wanted} in rdbd.toml");
    if let Ok([_, Some(0)]) = limits(machine, patient, "Max core file size") {
        return Some(
            Finding::warning(CORES, format!("{asked}, and the daemon may write none"))
                .why("a crash leaves nothing to find its cause by")
                .advice("give rdbd.service LimitCORE=infinity by 'systemctl edit rdbd'"),
        );
    }
    Some(match pattern.strip_prefix('|') {
        Some(program) => {
            let program = program.split_whitespace().next().unwrap_or_default();
            if machine.exists(program) {
                Finding::ok(CORES, format!("{asked}: {program} gets them"))
            } else {
                let seen = format!("{asked}, and kernel.core_pattern is '{pattern}'");
                Finding::warning(CORES, seen)
                    .why("that program is not there: a crash leaves nothing to find its cause by")
                    .advice("install it, or have the kernel write a file")
                    .command("sysctl -w kernel.core_pattern=/var/crash/core.%e.%p")
            }
        }
        None if pattern.is_empty() => {
            Finding::warning(CORES, format!("{asked}, and kernel.core_pattern is empty"))
                .why("a crash leaves nothing to find its cause by")
                .advice("say where they go")
                .command("sysctl -w kernel.core_pattern=/var/crash/core.%e.%p")
        }
        None => {
            let folder = match pattern.rsplit_once('/') {
                Some((folder, _)) if folder.starts_with('/') => folder,
                _ => "/",
            };
            if machine.exists(folder) {
                Finding::ok(CORES, format!("{asked}: they are written to {folder}"))
            } else {
                Finding::warning(CORES, format!("{asked}, and {folder} is not there"))
                    .why("a crash leaves nothing to find its cause by")
                    .advice("make the directory")
                    .command(format!("mkdir -p {}", rdb_control::shell_word(folder)))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::finding::Severity;
    use crate::made_up::{MadeUp, Person};

    fn limits_file(memory: &str, files: &str, cores: &str) -> String {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max core file size        0                    {cores}                    bytes\n\
             Max open files            {files}                 {files}                 files\n\
             Max locked memory         {memory}              {memory}              bytes\n"
        )
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_a_problem_and_none_is_a_note() {
        let mut person = Person::new();
        assert_eq!(answers(&person.patient()).severity, Severity::Note);
        person.runs("r0", true);
        assert_eq!(answers(&person.patient()).severity, Severity::Ok);
        for (is_denied, severity) in [(false, Severity::Problem), (true, Severity::Note)] {
            person.daemon = Daemon::Silent {
                pid: Some(7),
                reason: "it is stopped".to_owned(),
                is_denied,
            };
            assert_eq!(answers(&person.patient()).severity, severity);
        }
    }

    #[test]
    fn a_run_directory_that_others_may_write_is_a_problem() {
        let (machine, person) = (MadeUp::new(), Person::new());
        let found = |machine: &MadeUp| run_directory(&machine.machine(), &person.patient());
        assert!(found(&machine).seen.contains("not there"));
        machine.file("/run/rdb/x", "");
        let path = machine.machine().at("/run/rdb");
        for (mode, severity) in [
            (0o755, Severity::Ok),
            (0o775, Severity::Problem),
            (0o777, Severity::Problem),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            // (As a user the directory is that user's, whom no daemon runs as.)
            if mode != 0o755 || std::fs::metadata(&path).unwrap().uid() == 0 {
                assert_eq!(found(&machine).severity, severity, "{mode:o}");
            }
        }
    }

    #[test]
    fn a_daemon_that_may_not_lock_its_memory_is_warned_of() {
        let (mut machine, mut person) = (MadeUp::new(), Person::new());
        let severity = |machine: &MadeUp, person: &Person| {
            memory(&machine.machine(), &person.patient()).severity
        };
        assert_eq!(severity(&machine, &person), Severity::Note);
        machine.file(
            "/proc/self/limits",
            &limits_file("8388608", "1024", "unlimited"),
        );
        assert_eq!(severity(&machine, &person), Severity::Ok, "root");
        machine.probe.is_root = false;
        assert_eq!(severity(&machine, &person), Severity::Note);
        person.runs("r0", true);
        assert_eq!(severity(&machine, &person), Severity::Note, "of another");
        machine.file("/proc/77/limits", &limits_file("8388608", "1024", "0"));
        assert_eq!(severity(&machine, &person), Severity::Warning);
        for (uid, words) in [("0", "it runs as root"), ("1000", "run rdbd as root")] {
            machine.file(
                "/proc/77/status",
                &format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
            );
            let found = memory(&machine.machine(), &person.patient());
            let advice = found.advice.unwrap_or_default();
            assert!(advice.starts_with(words), "{advice}");
        }
        machine.file("/proc/77/limits", &limits_file("unlimited", "1024", "0"));
        assert_eq!(severity(&machine, &person), Severity::Ok);
    }

    #[test]
    fn too_few_descriptors_are_warned_of() {
        let (machine, person) = (MadeUp::new(), Person::new());
        let found = |files: &str| {
            machine.file("/proc/self/limits", &limits_file("1", files, "0"));
            open_files(&machine.machine(), &person.patient()).severity
        };
        assert_eq!(found("40"), Severity::Warning);
        assert_eq!(found("100"), Severity::Note);
        assert_eq!(found("1024"), Severity::Ok);
    }

    #[test]
    fn core_dumps_that_are_asked_for_have_to_go_somewhere() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        machine.file("/proc/self/limits", &limits_file("1", "9", "unlimited"));
        machine.file("/proc/sys/kernel/core_pattern", "core\n");
        let severity = |machine: &MadeUp, person: &Person| {
            core_dumps(&machine.machine(), &person.patient()).map(|found| found.severity)
        };
        assert_eq!(severity(&machine, &person), None);
        person.settings.core_dumps = Some("whole".to_owned());
        assert_eq!(severity(&machine, &person), Some(Severity::Ok));
        for pattern in ["|/usr/lib/gone %p\n", "\n", "/var/crash/core.%p\n"] {
            machine.file("/proc/sys/kernel/core_pattern", pattern);
            assert_eq!(
                severity(&machine, &person),
                Some(Severity::Warning),
                "{pattern}"
            );
        }
        machine.file("/var/crash/x", "");
        assert_eq!(severity(&machine, &person), Some(Severity::Ok));
        machine.file("/proc/self/limits", &limits_file("1", "9", "0"));
        assert_eq!(severity(&machine, &person), Some(Severity::Warning));
    }
}
