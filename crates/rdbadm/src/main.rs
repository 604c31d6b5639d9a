//! The commands `rdbadm`, `rdbsetup`, `rdbmeta`: one program, which is told by its name or its first word which of them
//! it is. Links with DRBD's names (`drbdadm`, `drbdsetup`, `drbdmeta`) work, too, and `check_rdb`, which is `rdbadm check`.

#![forbid(unsafe_code)]

mod adm;
mod after_connect;
mod complete;
mod daemon;
mod disk;
mod dump_json;
mod events;
mod exec;
mod explain_code;
mod gi_json;
mod hints;
mod man;
mod meta;
mod monitor;
mod out;
mod promoter;
mod screen;
mod setup;
mod show_json;
mod shown;
mod split_brain;
mod status_json;
mod status_reasons;
mod status_text;
mod step;
mod threads;
mod verbs;
mod watchdog;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use step::Family;

/// Which command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Adm,
    Setup,
    Meta,
    Overview,
    Check,
}

fn main() -> ExitCode {
    // Where files may not grow any more (`ulimit -f`), a write fails and is told of; the signal would end the command without a word.
    let unused = Arc::new(AtomicBool::new(false));
    let _ = signal_hook::flag::register(libc::SIGXFSZ, unused);
    let mut argv = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = argv.next().unwrap_or_default();
    let mut words: Vec<String> = argv.collect();
    let mut name = basename(&called);
    if words.first().is_some_and(|first| first == complete::ASKED) {
        return ExitCode::from(complete::main(&words[1..]));
    }
    if let Some(first) = words.first()
        && role_of(first).is_some()
    {
        name = words.remove(0);
    }
    let (role, family) = role_of(&name).unwrap_or((Role::Adm, Family::Rdb));
    let code = match role {
        Role::Adm => adm::main(&name, family, words),
        Role::Setup => setup::main(&name, family, words),
        Role::Meta => meta::main(&name, family, words),
        Role::Overview => {
            words.insert(0, "overview".to_owned());
            adm::main(&name, family, words)
        }
        Role::Check => adm::check_rdb(words),
    };
    ExitCode::from(out::exit_code(code))
}

fn basename(path: &str) -> String {
    Path::new(path).file_name().map_or_else(
        || path.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The command of a program's name; a version as in `drbdadm-84` does not matter.
fn role_of(name: &str) -> Option<(Role, Family)> {
    let name = name.strip_suffix("-84").unwrap_or(name);
    if name == "drbd-overview" {
        return Some((Role::Overview, Family::Drbd));
    }
    if name == "check_rdb" {
        return Some((Role::Check, Family::Rdb));
    }
    let (family, rest) = match name.strip_prefix("drbd") {
        Some(rest) => (Family::Drbd, rest),
        None => (Family::Rdb, name.strip_prefix("rdb")?),
    };
    let role = match rest {
        "adm" => Role::Adm,
        "setup" => Role::Setup,
        "meta" => Role::Meta,
        _ => return None,
    };
    Some((role, family))
}

/// A variable of the environment. One that is set to nothing is not set, as scripts mean it.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The run directory that the environment names, or the usual one.
pub(crate) fn default_run_dir() -> PathBuf {
    variable("RDB_RUN_DIR").map_or_else(|| PathBuf::from("/run/rdb"), PathBuf::from)
}

/// The host's name, as `uname -n` prints it.
pub(crate) fn node_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_command() {
        for (name, role) in [
            ("rdbadm", Some((Role::Adm, Family::Rdb))),
            ("rdbsetup", Some((Role::Setup, Family::Rdb))),
            ("rdbmeta", Some((Role::Meta, Family::Rdb))),
            ("drbdadm", Some((Role::Adm, Family::Drbd))),
            ("drbdsetup-84", Some((Role::Setup, Family::Drbd))),
            ("drbd-overview", Some((Role::Overview, Family::Drbd))),
            ("check_rdb", Some((Role::Check, Family::Rdb))),
            ("up", None),
            ("rdbd", None),
        ] {
            assert_eq!(role_of(name), role, "{name}");
        }
    }
}
