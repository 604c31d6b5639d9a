//! The resource agent of `packaging/ocf`, called as a cluster manager does: what it answers in which state, and with which score.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::shellcheck;
use rdb_tests::{Node, Pair, wait_until};

const SUCCESS: i32 = 0;
const ERR_GENERIC: i32 = 1;
const ERR_UNIMPLEMENTED: i32 = 3;
const ERR_INSTALLED: i32 = 5;
const ERR_CONFIGURED: i32 = 6;
const NOT_RUNNING: i32 = 7;
const RUNNING_PROMOTED: i32 = 8;

fn agent() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/ocf/drbd")
}

/// The agent of a node, in a cluster that writes scores into a file.
struct Agent<'a> {
    node: &'a Node,
    /// Of the cluster's commands.
    programs: PathBuf,
    scores: PathBuf,
}

impl<'a> Agent<'a> {
    fn new(node: &'a Node) -> Result<Self> {
        let programs = node.run_dir.join("programs");
        let scores = node.run_dir.join("scores");
        fs::create_dir_all(&programs)?;
        let fake = programs.join("crm_attribute");
        fs::write(
            &fake,
            format!("#!/bin/sh\necho \"$*\" >>{}\n", scores.display()),
        )?;
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            node,
            programs,
            scores,
        })
    }

    /// Exit status and what was said.
    fn call(&self, action: &str, variables: &[(&str, &str)]) -> Result<(i32, String)> {
        // The node's environment is that of its commands.
        let mut command: Command = self.node.command("rdbadm", 120)?;
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        command = Command::new("timeout");
        command
            .args(["-k", "5", "120"])
            .arg(agent())
            .arg(action)
            .envs(environment)
            .env("RDB_FRONTEND", &self.node.frontend)
            .env("OCF_RESOURCE_INSTANCE", "WebData:0")
            .env("OCF_RESKEY_drbd_resource", "r0")
            .env("OCF_RESKEY_wfc_timeout", "0")
            .env("OCF_RESKEY_CRM_meta_clone_max", "2")
            .env("OCF_RESKEY_CRM_meta_notify", "true")
            .env("OCF_RESKEY_CRM_meta_timeout", "15000")
            .envs(variables.iter().copied());
        let path = command
            .get_envs()
            .find(|(name, _)| *name == "PATH")
            .and_then(|(_, value)| value)
            .context("a node's commands have a path")?
            .to_owned();
        let path = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&path));
        let output = command.env("PATH", std::env::join_paths(path)?).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status.code().unwrap_or(-1), said))
    }

    fn answers(&self, action: &str, code: i32) -> Result<()> {
        self.answers_with(action, &[], code, "")
    }

    fn answers_with(
        &self,
        action: &str,
        variables: &[(&str, &str)],
        code: i32,
        words: &str,
    ) -> Result<()> {
        let (found, said) = self.call(action, variables)?;
        ensure!(
            found == code && said.contains(words),
            "{action} {variables:?}: {found} and not {code}; {said}\n{}",
            self.node.log_tail(10)
        );
        Ok(())
    }

    /// What a monitor makes of the score: a number, or none.
    fn score(&self, variables: &[(&str, &str)]) -> Result<Option<u32>> {
        let _ = fs::remove_file(&self.scores);
        self.call("monitor", variables)?;
        let told = fs::read_to_string(&self.scores)?;
        ensure!(told.contains("--lifetime reboot"), "{told}");
        Ok(match told.trim().rsplit_once("-v ") {
            Some((_, score)) => Some(score.parse()?),
            None => {
                ensure!(told.trim().ends_with("-D"), "{told}");
                None
            }
        })
    }
}

#[test]
fn the_agent_takes_a_resource_through_its_life_and_scores_what_it_sees() -> Result<()> {
    let pair = Pair::synced("ocf-life", Plan::default())?;
    let (alice, bob) = (Agent::new(&pair.alice)?, Agent::new(&pair.bob)?);
    pair.alice.adm(&["down", "r0"])?;
    pair.bob.adm(&["down", "r0"])?;
    alice.answers("monitor", NOT_RUNNING)?;
    alice.answers("stop", SUCCESS)?;
    alice.answers("demote", NOT_RUNNING)?;
    alice.answers("promote", NOT_RUNNING)?;

    alice.answers("start", SUCCESS)?;
    alice.answers("start", SUCCESS)?;
    alice.answers("monitor", SUCCESS)?;
    ensure!(alice.score(&[])? == Some(1000), "alone");
    let own = [("OCF_RESKEY_adjust_master_score", "1 2 3 4")];
    ensure!(alice.score(&own)? == Some(3));
    bob.answers("start", SUCCESS)?;
    pair.settle(30)?;
    ensure!(alice.score(&[])? == Some(10_000), "with its peer");
    alice.answers("promote", SUCCESS)?;
    alice.answers("promote", SUCCESS)?;
    alice.answers("monitor", RUNNING_PROMOTED)?;
    ensure!(bob.score(&[])? == Some(10_000));
    let removes = "OCF_RESKEY_remove_master_score_if_peer_primary";
    ensure!(bob.score(&[(removes, "true")])?.is_none());
    ensure!(alice.score(&[(removes, "true")])? == Some(10_000));
    let early = [("OCF_RESKEY_fail_promote_early_if_peer_primary", "true")];
    bob.answers_with("promote", &early, ERR_GENERIC, "Primary")?;

    pair.bob.adm(&["detach", "r0"])?;
    ensure!(bob.score(&[])? == Some(10), "without a disk of its own");
    ensure!(alice.score(&[])? == Some(10_000));
    bob.answers("stop", SUCCESS)?;
    ensure!(alice.score(&[])? == Some(10_000), "a Primary");
    alice.answers("demote", SUCCESS)?;
    alice.answers("monitor", SUCCESS)?;
    pair.alice.adm(&["outdate", "r0"])?;
    ensure!(alice.score(&[])?.is_none(), "Outdated");
    alice.answers_with("promote", &[], ERR_GENERIC, "UpToDate")?;
    alice.answers("stop", SUCCESS)?;
    alice.answers("monitor", NOT_RUNNING)
}

#[test]
fn a_dead_daemon_is_started_again_and_its_resource_is_not_called_stopped() -> Result<()> {
    let mut pair = Pair::synced("ocf-dead", Plan::default())?;
    for action in ["monitor", "stop", "promote", "notify"] {
        pair.alice.adm(&["adjust", "r0"])?;
        pair.alice.adm(&["primary", "r0"])?;
        pair.alice.kill()?;
        let agent = Agent::new(&pair.alice)?;
        let (code, said) = agent.call(action, &[])?;
        ensure!(said.contains("starting the daemon again"), "{said}");
        let stopped = [NOT_RUNNING].contains(&code) && action == "monitor";
        ensure!(!stopped, "{action}: {code}; {said}");
        let pid = fs::read_to_string(pair.alice.run_dir.join("rdbd.pid"))?;
        let pid = pid.trim();
        // What it was told is not handed on to the daemon's handlers.
        let environment = fs::read(format!("/proc/{pid}/environ"))?;
        let environment = String::from_utf8_lossy(&environment).into_owned();
        ensure!(environment.contains("RDB_RUN_DIR"), "{environment}");
        ensure!(!environment.contains("OCF_"), "{environment}");
        agent.answers("stop", SUCCESS)?;
        agent.answers("monitor", NOT_RUNNING)?;
        Command::new("kill").arg(pid).status()?;
        wait_until("the daemon to end", Duration::from_secs(20), || {
            Ok(!Path::new(&format!("/proc/{pid}")).exists())
        })?;
        pair.alice.start()?;
    }
    Ok(())
}

/// Action, the exit status, a word of what is said, and what the action is told: `NAME=VALUE`, without `OCF_RESKEY_`.
const WRONG: [(&str, i32, &str, &str); 15] = [
    ("start", ERR_CONFIGURED, "drbd_resource", "drbd_resource="),
    ("monitor", ERR_INSTALLED, "other", "drbd_resource=other"),
    ("start", ERR_INSTALLED, "/no", "drbdconf=/no"),
    ("start", ERR_CONFIGURED, "four", "adjust_master_score=1 2 3"),
    (
        "start",
        ERR_CONFIGURED,
        "four",
        "adjust_master_score=1 2 3 x",
    ),
    (
        "validate-all",
        ERR_INSTALLED,
        "8.4.11",
        "require_drbd_module_version_ge=9.0.0",
    ),
    (
        "validate-all",
        ERR_INSTALLED,
        "8.4.11",
        "require_drbd_module_version_lt=8.4.11",
    ),
    (
        "validate-all",
        ERR_CONFIGURED,
        "x.y.z",
        "require_drbd_module_version_lt=9",
    ),
    (
        "validate-all",
        SUCCESS,
        "",
        "require_drbd_module_version_lt=",
    ),
    (
        "start",
        ERR_CONFIGURED,
        "notify=true",
        "CRM_meta_notify=false",
    ),
    ("start", ERR_CONFIGURED, "clone-max", "CRM_meta_clone_max=3"),
    (
        "start",
        ERR_CONFIGURED,
        "clone-node-max",
        "CRM_meta_clone_node_max=2",
    ),
    (
        "start",
        ERR_CONFIGURED,
        "allow-two-primaries",
        "CRM_meta_promoted_max=2",
    ),
    (
        "start",
        ERR_CONFIGURED,
        "allow-two-primaries",
        "CRM_meta_master_max=2",
    ),
    ("dance", ERR_UNIMPLEMENTED, "usage", "drbd_resource=r0"),
];

#[test]
fn the_agent_names_what_is_wrong_by_its_exit_status() -> Result<()> {
    let pair = Pair::fresh("ocf-wrong", Plan::default())?;
    let agent = Agent::new(&pair.alice)?;
    for (action, code, words, told) in WRONG {
        let (name, value) = told.split_once('=').context("a name and a value")?;
        let name = format!("OCF_RESKEY_{name}");
        agent.answers_with(action, &[(&name, value)], code, words)?;
    }
    Ok(())
}

#[test]
fn the_agent_is_a_plain_shell_script_without_a_complaint_of_shellcheck() -> Result<()> {
    shellcheck(&[agent()])
}
