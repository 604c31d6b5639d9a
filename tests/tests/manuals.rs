//! The manual pages as readers of them read them: mandoc finds nothing to warn of, and each has the sections that one looks for.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rdb_tests::programs::{ours, tool};
use rdb_tests::scratch::Scratch;

/// What every page has, and what those of programs have as well.
const SECTIONS: [&str; 4] = ["NAME", "DESCRIPTION", "EXAMPLES", "FILES"];
const OF_PROGRAMS: [&str; 3] = ["SYNOPSIS", "OPTIONS", "EXIT STATUS"];

#[test]
fn the_manual_pages_are_complete_and_without_warnings() -> Result<()> {
    let scratch = Scratch::new("manuals")?;
    let folder = scratch.join("man");
    let mut written = Command::new(ours("rdbadm")?)
        .arg("man")
        .arg(&folder)
        .output()?;
    ensure!(written.status.success(), "{written:?}");
    written = Command::new(ours("rdbd")?)
        .arg("--generate-man")
        .arg(&folder)
        .output()?;
    ensure!(written.status.success(), "{written:?}");
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let out = Command::new(tool("mandoc")?)
            .args(["-Tlint", "-Wwarning"])
            .arg(&path)
            .output()?;
        let said = String::from_utf8_lossy(&out.stdout);
        ensure!(out.status.success() && said.is_empty(), "{said}");
        let name = path
            .file_name()
            .context("a file")?
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path)?;
        if !name.starts_with("rdbadm-") {
            for section in SECTIONS {
                ensure!(has(&text, section), "{name} has no {section}");
            }
            for section in OF_PROGRAMS.iter().filter(|_| name.ends_with(".8")) {
                ensure!(has(&text, section), "{name} has no {section}");
            }
            pages.push(name);
        }
    }
    pages.sort();
    let expected = [
        "rdb.conf.5",
        "rdbadm.8",
        "rdbd.8",
        "rdbd.toml.5",
        "rdbmeta.8",
        "rdbmon.8",
        "rdbsetup.8",
    ];
    ensure!(pages == expected, "{pages:?}");
    Ok(())
}

/// The options and keys of another program are in its page, and the options are offered by completion.
#[test]
fn the_page_and_the_completion_of_the_monitor_have_what_its_help_has() -> Result<()> {
    let scratch = Scratch::new("manual-monitor")?;
    let said = |command: &mut Command| -> Result<String> {
        let out = command.output()?;
        ensure!(out.status.success(), "{out:?}");
        Ok(String::from_utf8(out.stdout)?)
    };
    let rdbadm = ours("rdbadm")?;
    said(Command::new(&rdbadm).arg("man").arg(scratch.path()))?;
    let page = std::fs::read_to_string(scratch.join("rdbmon.8"))?.replace('\\', "");
    let offered = said(Command::new(&rdbadm).args(["--complete", "rdbmon", "--"]))?;
    let help = said(Command::new(ours("rdbmon")?).arg("--help"))?;
    let (options, keys) = help.split_once("Keys:").context("the keys")?;
    let words = options.split_whitespace();
    let options: Vec<&str> = words.filter(|word| word.starts_with("--")).collect();
    ensure!(
        options.len() == offered.lines().count(),
        "{options:?} {offered}"
    );
    for option in options {
        ensure!(page.contains(&format!("fB{option}fR")), "{option}: {page}");
        let is_offered = offered
            .lines()
            .any(|line| line.split('\t').next() == Some(option));
        ensure!(is_offered, "{option}: {offered}");
    }
    let keys: Vec<&str> = keys
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    ensure!(keys.len() > 5, "{keys:?}");
    for line in keys {
        let (key, what) = line.trim().split_once("  ").context("a key")?;
        let shown = format!("fB{key}fR\n{}", what.trim());
        ensure!(page.contains(&shown), "{shown}: {page}");
    }
    Ok(())
}

fn has(text: &str, section: &str) -> bool {
    let quoted = format!(".SH \"{section}\"");
    let plain = format!(".SH {section}");
    text.lines().any(|line| line == quoted || line == plain)
}
