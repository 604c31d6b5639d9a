//! What must be installed: the list is `.ci/packages`, the installer `.ci/setup`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// Installs every package of the list that is missing, and cargo-nextest.
pub(crate) fn install() -> Result<()> {
    run::must(&mut Command::new(run::root().join(".ci/setup")))
}

/// Installs what is missing if anything is.
pub(crate) fn ensure() -> Result<()> {
    if missing(None).is_empty() && has_nextest() {
        Ok(())
    } else {
        install()
    }
}

/// Fails, naming the packages, unless all these programs are installed.
pub(crate) fn need(programs: &[&str]) -> Result<()> {
    let missing = missing(Some(programs));
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing
        .iter()
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect();
    let packages: Vec<&str> = missing
        .iter()
        .map(|(_, package)| package.as_str())
        .collect();
    bail!(
        "missing: {}\ninstall: apt-get install {}",
        list.join(", "),
        packages.join(" ")
    )
}

/// The programs that are not in the search path, each with its package.
fn missing(wanted: Option<&[&str]>) -> Vec<(String, String)> {
    let list = include_str!("../../.ci/packages");
    let mut missing = Vec::new();
    for line in list
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""))
    {
        let mut words = line.split_whitespace();
        let Some(package) = words.next() else {
            continue;
        };
        for program in words {
            if wanted.is_none_or(|wanted| wanted.contains(&program)) && find(program).is_none() {
                missing.push((program.to_owned(), package.to_owned()));
            }
        }
    }
    missing
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

fn has_nextest() -> bool {
    run::cargo(&["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
