//! `rdbadm --dry-run`: every command prints what it would do, and does nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rdb_tests::Pair;
use rdb_tests::pair::Plan;

/// The commands, as `help` and `hidden-commands` list them.
fn commands(pair: &Pair) -> Result<Vec<String>> {
    let help = pair.alice.adm(&["help"])?;
    let (_, listed) = help.split_once("Commands:").context("no commands")?;
    let listed = listed
        .split_once("\nOptions:")
        .map_or(listed, |(list, _)| list);
    let hidden = pair.alice.adm(&["hidden-commands"])?;
    // What goes on in a further line is set off more.
    let first = |line: &str| {
        let line = line.strip_prefix("  ")?;
        let name = line.split(' ').next()?;
        (!name.is_empty()).then(|| name.to_owned())
    };
    let mut all: Vec<String> = listed.lines().filter_map(first).collect();
    let is_command = |word: &String| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let lists = hidden.lines().filter(|line| line.starts_with(' '));
    let words = lists.flat_map(str::split_whitespace).map(str::to_owned);
    all.extend(words.filter(is_command));
    all.retain(|name| name != "help");
    all.sort();
    all.dedup();
    ensure!(all.len() > 60, "{all:?}");
    Ok(all)
}

/// All files of the test, with what is in them.
fn files(pair: &Pair) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![pair.scratch.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                all.insert(path.clone(), fs::read(&path)?);
            } else {
                all.insert(path, Vec::new());
            }
        }
    }
    Ok(all)
}

#[test]
fn no_command_does_anything_when_it_is_only_to_say_what_it_would() -> Result<()> {
    let mut plan = Plan {
        disk_bytes: 8 << 20,
        ..Plan::default()
    };
    plan.conf.resource = "startup { become-primary-on alice; }\n\
        handlers { fence-peer \"touch fenced\"; snapshot \"touch taken\"; }"
        .into();
    let pair = Pair::prepare("dry-run", plan)?;
    let services = pair.scratch.join("promoter.toml");
    fs::write(
        &services,
        "[resources.r0]\nstart = [{ command = \"touch started\", stop = \"true\" }]\n",
    )?;
    let services = services.display().to_string();
    let before = files(&pair)?;
    let pages = pair.scratch.join("pages").display().to_string();
    for command in commands(&pair)? {
        let words: Vec<&str> = match command.as_str() {
            "restart" | "overview" | "metrics" | "hidden-commands" | "wait-con-int" | "sh-nop"
            | "sh-resources" | "sh-mod-parms" => vec![],
            "completions" => vec!["bash"],
            "man" => vec![&pages],
            "set-gi" => vec!["1:2:3:4", "r0"],
            "sh-udev" => vec!["r0/0"],
            "snapshot" => vec!["--name", "one", "r0"],
            "promoter" => vec!["--file", &services, "r0"],
            "create-md" | "wipe-md" | "primary" | "detach" | "disconnect" => vec!["--force", "r0"],
            // Without a daemon these have nothing to ask, dry or not.
            "proc" | "check" | "explain" => continue,
            // There is no such resource, as with drbdadm.
            "sh-lr-of" => continue,
            _ => vec!["r0"],
        };
        let words = [&["-d", &command], &words[..]].concat();
        let out = pair.alice.try_adm(&words)?;
        // (What the doctor finds on a pair without metadata is a problem.)
        let is_well = out.code == 0 || command == "doctor" && out.code == 2;
        ensure!(
            is_well,
            "{}: {}\n{}{}",
            out.typed,
            out.code,
            out.stdout,
            out.stderr
        );
        let after = files(&pair)?;
        let changed: Vec<_> = after
            .iter()
            .filter(|(path, bytes)| before.get(*path) != Some(*bytes))
            .collect();
        let changed: Vec<_> = changed.iter().map(|(path, _)| path).collect();
        ensure!(
            changed.is_empty() && after.len() == before.len(),
            "{}: {changed:?}",
            out.typed
        );
    }
    Ok(())
}

/// What changes something says it as steps; each names the tool that would do it.
#[test]
fn what_would_be_done_is_printed_as_steps() -> Result<()> {
    let pair = Pair::prepare("dry-run-steps", Plan::default())?;
    let pages = pair.scratch.join("pages").display().to_string();
    for (words, expected) in [
        (vec!["up", "r0/0"], "rdbsetup new-resource r0"),
        (
            vec!["primary", "--force", "r0"],
            "rdbsetup primary 0 --force",
        ),
        (vec!["create-md", "r0"], "internal create-md"),
        (vec!["down", "r0"], "rdbsetup down r0"),
        (
            vec!["snapshot", "--name", "one", "r0"],
            "rdbsetup snapshot r0 --name=one",
        ),
        (vec!["restart", "--force"], "rdbadm restart --force"),
        (vec!["man", &pages], "rdbadm-doctor.8"),
        (vec!["verify", "r0"], "rdbsetup verify 0"),
    ] {
        let words = [&["-d"], &words[..]].concat();
        let printed = pair.alice.adm(&words)?;
        ensure!(printed.contains(expected), "{words:?}: {printed}");
    }
    Ok(())
}
