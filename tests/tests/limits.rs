//! What the system bounds: threads, files, room. A daemon at a limit says which, refuses what it can not do, and does it once it can.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rdb_tests::Pair;
use rdb_tests::pair::Plan;
use rdb_tests::programs::{run_tool, tool};

/// What [`Node::try_start`](rdb_tests::Node::try_start) ends with if the daemon serves.
const SERVED: i32 = 124;

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

#[test]
fn a_daemon_that_gets_no_threads_to_begin_with_says_so_and_ends() -> Result<()> {
    let mut pair = pair_of_user("no-threads-start", USERS[1])?;
    let under = pair.alice.under.clone();
    let prlimit = tool("prlimit")?.display().to_string();
    let mut refused = 0;
    for threads in 1..6 {
        pair.alice.under.clone_from(&under);
        let limit = [prlimit.clone(), format!("--nproc={threads}:{threads}")];
        pair.alice.under.extend(limit);
        let out = pair.alice.try_start()?;
        let (code, said) = (out.code, out.stderr);
        ensure!(!said.contains("panic"), "{threads}: {said}");
        if code == SERVED {
            break;
        }
        let last = said.lines().last().unwrap_or_default();
        let is_clear = last.starts_with("rdbd: ") && last.contains("gives rdbd no thread");
        ensure!(code == 1 && is_clear, "{threads}: {code}: {said}");
        refused += 1;
    }
    ensure!(refused >= 2, "{refused}");
    Ok(())
}

/// A daemon with so few files that it can not listen for its peer, nor have a device: it names the limit, and what else it says of
/// the reason is true.
#[test]
fn too_few_open_files_are_named_with_their_limit() -> Result<()> {
    let mut pair = Pair::prepare("few-files", Plan::default())?;
    pair.alice.frontend = "fuse".to_owned();
    let prlimit = tool("prlimit")?.display().to_string();
    let mut refused = 0;
    for limit in (8..24_u32).step_by(2) {
        pair.alice.under = vec![prlimit.clone(), format!("--nofile={limit}:64")];
        let out = pair.alice.try_start()?;
        if out.code == SERVED {
            break;
        }
        let last = out.stderr.lines().last().unwrap_or_default();
        let words = format!("Too many open files: the limit is {limit} (");
        let is_clear = last.starts_with("rdbd: ") && last.contains(&words);
        ensure!(is_clear, "{limit}: {}", out.stderr);
        refused += 1;
    }
    ensure!(refused > 0, "it serves with the fewest");
    for limit in [26, 30, 64] {
        pair.alice.under = vec![prlimit.clone(), format!("--nofile={limit}:64")];
        pair.alice.start()?;
        pair.alice.adm(&["create-md", "--force", "r0"])?;
        let (up, primary) = (
            pair.alice.try_adm(&["up", "r0"])?,
            pair.alice.try_adm(&["primary", "--force", "r0"])?,
        );
        let status = pair.alice.adm(&["status"])?;
        let said = format!(
            "{}{}{}{status}",
            up.stderr,
            primary.stderr,
            pair.alice.log()
        );
        ensure!(!said.contains("(os error 24)"), "{limit}: {said}");
        ensure!(!said.contains("was removed"), "{limit}: {said}");
        ensure!(!said.contains("who has the port"), "{limit}: {said}");
        ensure!(!said.contains("panic"), "{limit}: {said}");
        pair.alice.try_adm(&["down", "r0"])?;
        ensure!(pair.alice.terminate()?.success());
        ensure!(limit < 64 || up.code == 0 && primary.code == 0, "{said}");
    }
    Ok(())
}

/// Whatever a command has to say, who cannot take it is told so by the exit code, and nothing panics.
#[test]
fn a_standard_output_that_takes_nothing_is_an_error_of_every_command() -> Result<()> {
    let pair = Pair::synced("full-output", Plan::default())?;
    let commands: [&[&str]; 26] = [
        &["status"],
        &["status", "--json"],
        &["status", "--watch"],
        &["doctor"],
        &["overview"],
        &["explain", "r0"],
        &["metrics"],
        &["proc"],
        &["events2", "--now"],
        &["events2"],
        &["role", "r0"],
        &["cstate", "r0"],
        &["dstate", "r0"],
        &["get-gi", "r0"],
        &["show-gi", "r0"],
        &["dump"],
        &["dump-xml"],
        &["sh-resources"],
        &["sh-status"],
        &["sh-dev", "r0"],
        &["split-brain", "r0"],
        &["help"],
        &["--version"],
        &["completions", "bash"],
        &["-d", "adjust", "--help"],
        &["-d", "down", "r0"],
    ];
    for words in commands {
        let full = std::fs::File::options().write(true).open("/dev/full")?;
        let output = pair
            .alice
            .command("rdbadm", 20)?
            .args(words)
            .stdout(full)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let is_told = said.contains("can not write to standard output: No space left on device");
        ensure!(
            output.status.code() == Some(1) && is_told,
            "{words:?}: {}: {said}",
            output.status
        );
        let closed = pair.alice.command("rdbadm", 4)?;
        let mut shell = Command::new("sh");
        for (name, value) in closed.get_envs() {
            shell.env(name, value.context("it has a value")?);
        }
        let output = shell
            .args(["-c", "exec \"$@\" >&-", "sh"])
            .args(closed.get_args())
            .args(words)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && said.contains("is closed"),
            "{words:?}: {}: {said}",
            output.status
        );
    }
    // What changes something is done to its end, and then it is told that nobody heard of it.
    for words in [
        &["-v", "disconnect", "r0"][..],
        &["adjust-with-progress", "r0"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full")?;
        let mut command = pair.alice.command("rdbadm", 60)?;
        let status = command.args(words).stdout(full).status()?;
        ensure!(status.code() == Some(1), "{words:?}: {status}");
        let is_connected = words[0] != "-v";
        let state = pair.alice.volume(0)?.cs;
        ensure!(
            (state != "StandAlone") == is_connected,
            "{words:?}: {state}"
        );
    }
    Ok(())
}
