//! The state directory is one daemon's.

use anyhow::{Result, ensure};
use rdb_tests::Pair;
use rdb_tests::pair::Plan;

#[test]
fn two_daemons_do_not_keep_their_histories_in_one_directory() -> Result<()> {
    let mut pair = Pair::prepare("state-dir", Plan::default())?;
    let (settings, dir) = (pair.scratch.join("rdbd.toml"), pair.scratch.join("state"));
    std::fs::write(&settings, format!("state-dir = \"{}\"\n", dir.display()))?;
    pair.alice.settings = Some(settings.clone());
    pair.bob.settings = Some(settings);
    pair.alice.start()?;
    let is_refused = |pair: &Pair| -> Result<()> {
        let said = pair.bob.try_start()?.fails_with(1)?;
        let words = format!(
            "rdbd: state directory {}: another rdbd (pid ",
            dir.display()
        );
        ensure!(
            said.lines().count() == 1 && said.starts_with(&words),
            "{said}"
        );
        Ok(())
    };
    is_refused(&pair)?;
    // The lock goes on with the program that follows.
    pair.alice.adm(&["restart"])?;
    is_refused(&pair)?;
    let status = pair.alice.terminate()?;
    ensure!(status.success(), "{status}");
    pair.bob.start()?;
    pair.bob.is_well()
}

/// A stopped node's history is read where its last daemon kept it, which the settings that commands read do not say.
#[test]
fn the_history_of_a_stopped_daemon_is_found_where_it_was_kept() -> Result<()> {
    let mut pair = Pair::prepare("state-dir-left", Plan::default())?;
    let (settings, dir) = (pair.scratch.join("rdbd.toml"), pair.scratch.join("state"));
    std::fs::write(&settings, format!("state-dir = \"{}\"\n", dir.display()))?;
    let alice = &mut pair.alice;
    alice.settings = Some(settings);
    alice.start()?;
    alice.adm(&["create-md", "--force", "r0"])?;
    alice.adm(&["up", "r0"])?;
    let status = alice.terminate()?;
    ensure!(status.success(), "{status}");
    let said = alice.adm(&["split-brain", "r0"])?;
    let place = format!("its history in {}", dir.display());
    ensure!(
        said.contains(&place) && !said.contains("The history of alice"),
        "{said}"
    );
    let json = alice.try_adm(&["split-brain", "--json", "r0"])?;
    ensure!(
        json.code == 0 && json.stderr.contains(&dir.display().to_string()),
        "{json:?}"
    );
    // Who names another place means it.
    let other = pair.scratch.join("other").display().to_string();
    let said = pair
        .alice
        .adm(&["split-brain", "--state-dir", &other, "r0"])?;
    ensure!(
        said.contains(&format!("The history of alice: there is none in {other}")),
        "{said}"
    );
    Ok(())
}

/// Two nodes that see run directories of their own as `/run/rdb`, and one `/var/lib/rdb`: another program has its lock here, as
/// another daemon would.
#[test]
fn the_history_is_found_where_another_daemon_had_the_usual_place() -> Result<()> {
    let pair = Pair::prepare("state-dir-shared", Plan::default())?;
    let settings = pair.scratch.join("rdbd.toml");
    std::fs::write(&settings, "device-links = false\n")?;
    let script = r#"
        set -eu
        mount -t tmpfs run /run
        mount -t tmpfs lib /var/lib
        mkdir -p /var/lib/rdb/history
        printf 'not ours\n' > /var/lib/rdb/history/r0.jsonl
        exec 9> /var/lib/rdb/rdbd.lock
        flock 9
        serve() {
            rdbd --frontend socket --config "$1" 9>&- &
            daemon=$!
            # (A command would start another one before this one is there.)
            until [ -e /run/rdb/status ]; do sleep 0.05; done
            rdbadm up r0
        }
        leave() {
            kill "$daemon"
            wait "$daemon"
            [ ! -e /run/rdb/status ]
            rdbadm split-brain r0
        }
        rdbadm create-md --force r0
        serve "$1"
        leave
        exec 9>&-
        serve "$1"
        leave
    "#;
    let mut command = pair.alice.command("rdbd", 60)?;
    let program = command.get_program().to_owned();
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command = std::process::Command::new(program);
    let out = command
        .envs(environment)
        .env_remove("RDB_RUN_DIR")
        .args([
            "timeout", "60", "unshare", "--mount", "sh", "-c", script, "sh",
        ])
        .arg(&settings)
        .output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    ensure!(out.status.success(), "{said}");
    // The second daemon could have had the usual place, and goes on with the one before.
    ensure!(
        said.matches("its history in /run/rdb/state)").count() == 2
            && !said.contains("The history of alice"),
        "{said}"
    );
    Ok(())
}
