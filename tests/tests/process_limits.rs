//! Limits that a process inherits from whoever starts it: none of them ends it without a word.

use std::process::Command;

use anyhow::{Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::{Node, Pair};

/// Words before a program's, which have a shell do this first.
fn first(what: &str) -> Vec<String> {
    let script = format!("{what}; exec \"$@\"");
    ["sh", "-c", &script, "sh"].map(str::to_owned).into()
}

/// `rdbadm` of a node, after a shell has done this. The exit code, and what it says on standard error.
fn adm_after(node: &Node, what: &str, words: &[&str]) -> Result<(i32, String)> {
    let command = node.command("rdbadm", 60)?;
    let under = first(what);
    let mut wrapped = Command::new(&under[0]);
    wrapped.args(&under[1..]).arg(command.get_program());
    wrapped.args(command.get_args()).args(words);
    let set = |(name, value): (_, Option<_>)| Some((name, value?));
    wrapped.envs(command.get_envs().filter_map(set));
    let out = wrapped.output()?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    Ok((out.status.code().unwrap_or(-1), said))
}

#[test]
fn a_file_that_may_not_grow_is_named() -> Result<()> {
    let mut pair = Pair::prepare("limit-files", Plan::default())?;
    let alice = &mut pair.alice;
    let none = "ulimit -f 0";
    alice.under = first(none);
    let said = alice.try_start()?.fails_with(1)?;
    ensure!(said.contains("rdbd.pid: File too large"), "{said}");
    // The daemon that a command starts has the limit, too.
    let (code, said) = adm_after(alice, none, &["up", "r0"])?;
    ensure!(code == 20, "{code}: {said}");
    ensure!(said.contains("rdbd.pid: File too large"), "{said}");
    let disk = pair.hosts[0].data[0].display().to_string();
    let words = ["create-md", "--force", "r0"];
    let (code, said) = adm_after(&pair.alice, none, &words)?;
    ensure!(code == 10, "{code}: {said}");
    ensure!(
        said.contains(&format!("writing {disk}")) && said.contains("File too large"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_stack_that_is_too_small_is_told_before_anything_is_begun() -> Result<()> {
    let mut pair = Pair::prepare("limit-stack", Plan::default())?;
    let alice = &mut pair.alice;
    // Who may do so raises it.
    let may_not = ["setpriv", "--bounding-set=-sys_resource"];
    alice.under = may_not.map(str::to_owned).into();
    alice.under.extend(first("ulimit -s 64"));
    let said = alice.try_start()?.fails_with(1)?;
    ensure!(
        said.contains("the stack may not be larger than 64 KiB (ulimit -s"),
        "{said}"
    );
    alice.under = first("ulimit -S -s 64");
    alice.start()?;
    alice.adm(&["create-md", "--force", "r0"])?;
    alice.adm(&["up", "r0"])?;
    alice.is_well()
}
