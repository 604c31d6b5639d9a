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
        "rdbsetup.8",
    ];
    ensure!(pages == expected, "{pages:?}");
    Ok(())
}

fn has(text: &str, section: &str) -> bool {
    let quoted = format!(".SH \"{section}\"");
    let plain = format!(".SH {section}");
    text.lines().any(|line| line == quoted || line == plain)
}
