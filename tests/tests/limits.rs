//! What the system bounds: threads, files, room. A daemon at a limit says which, refuses what it can not do, and does it once it can.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::{run_tool, tool};
use rdb_tests::{Pair, wait_until};

/// Users who have no processes but a daemon, one a test: the limit of threads is a user's, and root has none.
const USERS: [u32; 2] = [54_321, 54_322];

/// Words that run a program as a user.
fn as_user(user: u32) -> Result<Vec<String>> {
    let user = &user.to_string();
    let setpriv = tool("setpriv")?.display().to_string();
    let mut words = vec![setpriv];
    let rights = ["--clear-groups", "--bounding-set=-all"];
    words.extend(["--reuid", user, "--regid", user].map(String::from));
    words.extend(rights.map(String::from));
    Ok(words)
}

/// A pair that is not up; alice's daemon is the user's.
fn pair_of_user(name: &str, user: u32) -> Result<Pair> {
    let mut pair = Pair::prepare(name, Plan::default())?;
    let owned = [pair.alice.run_dir.clone(), pair.disk(0, 0).clone()];
    for path in owned {
        std::os::unix::fs::chown(path, Some(user), Some(user))?;
    }
    run_tool(
        10,
        "chmod",
        &["755", &pair.scratch.path().to_string_lossy()],
    )?;
    pair.alice.under = as_user(user)?;
    Ok(pair)
}

/// How many threads and processes the user's daemon may have from now on.
fn limit_threads(pair: &Pair, to: &str) -> Result<()> {
    let pid = pair.alice.pid().context("it runs")?;
    let words = &pair.alice.under;
    let status = Command::new(&words[0])
        .args(&words[1..])
        .arg(tool("prlimit")?)
        .args(["--pid", &pid.to_string(), &format!("--nproc={to}:")])
        .status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn without_threads_a_daemon_refuses_in_words_and_goes_on_when_there_are_some() -> Result<()> {
    const NO_THREAD: &str = "the system gives rdbd no thread: Resource temporarily unavailable";
    let mut pair = pair_of_user("no-threads", USERS[0])?;
    pair.begin()?;
    limit_threads(&pair, "1")?;
    let refused = pair.alice.try_adm(&["up", "r0"])?.fails_with(20)?;
    ensure!(refused.contains(NO_THREAD), "{refused}");
    let status = pair.alice.adm(&["status"])?;
    ensure!(!status.contains("r0"), "{status}");
    limit_threads(&pair, "500")?;
    pair.up()?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    pair.settle(60)?;

    limit_threads(&pair, "1")?;
    pair.bob.adm(&["disconnect", "r0"])?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.alice.adm(&["detach", "r0"])?;
    let refused = pair.alice.try_adm(&["attach", "r0"])?.fails_with(10)?;
    ensure!(refused.contains(NO_THREAD), "{refused}");
    let refused = pair.alice.try_adm(&["restart"])?.fails_with(20)?;
    ensure!(refused.contains("can not take over"), "{refused}");
    let said = pair.alice.try_adm(&["split-brain", "r0"])?;
    ensure!(!said.stdout.is_empty(), "{said:?}");
    // What ends needs no thread.
    pair.alice.adm(&["down", "r0"])?;
    limit_threads(&pair, "500")?;
    pair.alice.adm(&["up", "r0"])?;
    pair.bob.adm(&["connect", "r0"])?;
    pair.settle(60)?;
    pair.alice.adm(&["primary", "r0"])?;
    limit_threads(&pair, "1")?;
    pair.are_well()?;
    ensure!(pair.alice.terminate()?.success());
    ensure!(!pair.alice.log().contains("panic"), "{}", pair.alice.log());
    pair.disks_equal()
}

/// How a daemon ends that may have so many threads and processes.
fn start_with(pair: &Pair, threads: u32) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(tool("prlimit")?);
    command.arg(format!("--nproc={threads}:{threads}"));
    let rdbd = pair.alice.command("rdbd", 0)?;
    for (name, value) in rdbd.get_envs() {
        command.env(name, value.context("it has a value")?);
    }
    let mut child = command
        .args(rdbd.get_args())
        .args(["--frontend", "socket"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // One that has all that it needs goes on.
    let ended = wait_until("its end", Duration::from_secs(3), || {
        Ok(child.try_wait()?.is_some())
    });
    if ended.is_err() {
        let _ = child.kill();
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), said))
}

#[test]
fn a_daemon_that_gets_no_threads_to_begin_with_says_so_and_ends() -> Result<()> {
    let pair = pair_of_user("no-threads-start", USERS[1])?;
    let mut refused = 0;
    for threads in 1..6 {
        let (code, said) = start_with(&pair, threads)?;
        ensure!(!said.contains("panic"), "{threads}: {said}");
        let Some(code) = code else {
            // It ran, and was killed.
            break;
        };
        let last = said.lines().last().unwrap_or_default();
        let is_clear = last.starts_with("rdbd: ") && last.contains("gives rdbd no thread");
        ensure!(code == 1 && is_clear, "{threads}: {code}: {said}");
        refused += 1;
    }
    ensure!(refused >= 2, "{refused}");
    Ok(())
}
