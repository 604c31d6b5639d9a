//! Older spellings of the command line, rewritten into the present one.
//!
//! DRBD 8.3 and the tutorials write `drbdadm -- --overwrite-data-of-peer primary r0`; 8.4 permutes options freely and has
//! `-W OPTION` (`docs/spec/admin.md`, section 3.1). All of them become `primary --overwrite-data-of-peer r0`, where the
//! parser finds an option that the command has and refuses one that it has not.
//!
//! Options of the section that a command works on (`connect --timeout=50 r0`) are for its step; they become `--setup-option`, and
//! `given.rs` has them.

use rdb_config::options::{self, OptionDef, Type};

use crate::verbs;

/// The global options that take a value in the next word.
const WITH_VALUE: [&str; 18] = [
    "-c",
    "--config-file",
    "--node",
    "--run-dir",
    "-P",
    "--peer",
    "--timeout",
    "-W",
    "--setup-option",
    "-t",
    "--config-to-test",
    "--drbdsetup",
    "-m",
    "--drbdmeta",
    "-p",
    "--drbd-proxy-ctl",
    "-n",
    "--sh-varname",
];

/// The global options without a value, or with it behind `=`.
const GLOBAL: [&str; 9] = [
    "-d",
    "--dry-run",
    "-v",
    "--verbose",
    "-h",
    "--help",
    "-V",
    "--version",
    "--stacked",
];

/// The older name of `--force` that the words have.
pub(super) fn old_force(words: &[String]) -> Option<&'static str> {
    let old = "--overwrite-data-of-peer";
    words.iter().any(|word| word == old).then_some(old)
}

/// Rewrites the words after the program's name.
pub(crate) fn modern(words: Vec<String>) -> Vec<String> {
    let mut globals = Vec::new();
    let mut appended = Vec::new();
    let mut command = None;
    let mut rest = Vec::new();
    let mut is_step = false;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if let Some(option) = command.as_deref().and_then(|name| of_section(name, &word)) {
            let is_open = !word.contains('=') && !matches!(option.ty, Type::Bool { .. });
            let value = if is_open { words.next() } else { None };
            rest.push(value.map_or_else(|| word.clone(), |value| format!("{word}={value}")));
        } else if let Some(option) = word.strip_prefix("--setup-option=") {
            appended.push(option.to_owned());
        } else if word == "-W" || word == "--setup-option" {
            appended.extend(words.next());
        } else if let Some(option) = word.strip_prefix("-W") {
            appended.push(option.to_owned());
        } else if word == "-s" && !has_own(&command, &["verify", "status", "events2"]) {
            globals.push("--drbdsetup".to_owned());
            globals.extend(words.next());
        } else if word == "-S" && !has_own(&command, &["verify"]) {
            globals.push("--stacked".to_owned());
        } else if word == "--" && command.is_none() {
            // What follows belongs to the step. Options are told by their dashes, and generation identifiers by their colons.
            is_step = true;
        } else if word == "--" {
        } else if is_step && command.is_none() && word.starts_with("--timeout=") {
            // (Before `--` it is the command's limit.)
            appended.push(word);
        } else if WITH_VALUE.contains(&word.as_str()) {
            globals.push(word);
            globals.extend(words.next());
        } else if is_global(&word) && command.is_none() {
            globals.push(word);
        } else if command.is_none() && belongs_to_step(&word, is_step) {
            appended.push(word);
        } else if command.is_none() {
            command = Some(word);
        } else {
            rest.push(word);
        }
    }
    let of_step = |word: String| match command.as_deref().and_then(|name| of_section(name, &word)) {
        Some(_) => format!("--setup-option={word}"),
        None => word,
    };
    let behind: Vec<String> = appended.into_iter().chain(rest).map(of_step).collect();
    globals.extend(command);
    globals.extend(behind);
    globals
}

/// The option that a word sets, if it is one of the section that the command works on.
fn of_section(command: &str, word: &str) -> Option<&'static OptionDef> {
    let name = word.strip_prefix("--")?.split('=').next()?;
    let section = verbs::of_adm(command)?.setup?.section?;
    options::find(section, name)
}

/// Whether a word before the command is for its step: an option, or behind `--` generation identifiers.
fn belongs_to_step(word: &str, is_step: bool) -> bool {
    word.starts_with('-') && word.len() > 1 || is_step && word.contains(':')
}

/// Whether the letter is an option of the command's own: one of these.
fn has_own(command: &Option<String>, commands: &[&str]) -> bool {
    command
        .as_deref()
        .is_some_and(|command| commands.contains(&command))
}

fn is_global(word: &str) -> bool {
    GLOBAL.contains(&word)
        || WITH_VALUE.iter().any(|option| {
            let rest = word.strip_prefix(option);
            match option.starts_with("--") {
                true => rest.is_some_and(|rest| rest.starts_with('=')),
                false => rest.is_some(),
            }
        })
        || (word.starts_with('-') && word.len() > 2 && word[1..].chars().all(|c| "dv".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_becomes_the_present_one() {
        for (old, new) in [
            (
                "-- --overwrite-data-of-peer primary r0",
                "primary --overwrite-data-of-peer r0",
            ),
            (
                "-- --discard-my-data connect r0",
                "connect --discard-my-data r0",
            ),
            (
                "-- --clear-bitmap new-current-uuid r0/0",
                "new-current-uuid --clear-bitmap r0/0",
            ),
            ("-- --start=8 verify r0", "verify --start=8 r0"),
            ("-d -- --force primary r0", "-d primary --force r0"),
            ("-W--force primary r0", "primary --force r0"),
            ("-W --force primary r0", "primary --force r0"),
            ("--setup-option=--force primary r0", "primary --force r0"),
            ("primary r0 --force", "primary r0 --force"),
            ("primary --force r0", "primary --force r0"),
            ("primary r0 -- --force", "primary r0 --force"),
            ("--force create-md r0", "create-md --force r0"),
            ("-c /tmp/r0.conf up r0", "-c /tmp/r0.conf up r0"),
            ("-c/tmp/r0.conf up r0", "-c/tmp/r0.conf up r0"),
            ("up r0 -c /tmp/r0.conf", "-c /tmp/r0.conf up r0"),
            ("--node=alice -dv up all", "--node=alice -dv up all"),
            ("-c - up all", "-c - up all"),
            ("up r0 -d", "up r0 -d"),
            ("-- A:B set-gi r0", "set-gi A:B r0"),
            ("-d -W A:B set-gi r0", "-d set-gi A:B r0"),
            (
                "-s /x/setup -m /x/meta up r0",
                "--drbdsetup /x/setup -m /x/meta up r0",
            ),
            ("verify -s 8 r0", "verify -s 8 r0"),
            ("-S -t /tmp/x dump", "--stacked -t /tmp/x dump"),
            ("role -S r0", "--stacked role r0"),
            (
                "connect --timeout=50 r0",
                "connect --setup-option=--timeout=50 r0",
            ),
            (
                "net-options r0 --timeout 50",
                "net-options r0 --setup-option=--timeout=50",
            ),
            (
                "-- --timeout=50 connect r0",
                "connect --setup-option=--timeout=50 r0",
            ),
            (
                "-W --allow-two-primaries net-options r0",
                "net-options --setup-option=--allow-two-primaries r0",
            ),
            ("--timeout 50 connect r0", "--timeout 50 connect r0"),
            ("attach --timeout 50 r0", "--timeout 50 attach r0"),
            ("attach r0 --size 5M", "attach r0 --setup-option=--size=5M"),
        ] {
            let words = old.split(' ').map(str::to_owned).collect();
            assert_eq!(modern(words).join(" "), new, "{old}");
        }
    }
}
