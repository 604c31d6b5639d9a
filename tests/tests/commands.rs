//! All commands in the situations in which it is hard to tell the truth: each ends within its limit, and none ends with 0
//! without having done its work (`docs/commands.md`).

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::run_tool;
use rdb_tests::wait::wait_until;
use rdb_tests::{Node, Pair};

/// Questions about a resource.
const QUESTIONS: &[&str] = &[
    "status r0",
    "status",
    "overview",
    "role r0",
    "cstate r0",
    "dstate r0",
    "get-gi r0",
    "show-gi r0",
    "wait-connect --wfc-timeout=2 r0",
    "wait-sync --wfc-timeout=2 r0",
];

/// What changes a resource that runs, in an order in which one does not need the other.
const CHANGES: &[&str] = &[
    "disk-options r0",
    "net-options r0",
    "resource-options r0",
    "pause-sync r0",
    "resume-sync r0",
    "outdate r0",
    "invalidate r0",
    "invalidate-remote r0",
    "verify r0",
    "new-current-uuid r0",
    "primary r0",
    "primary --force r0",
    "secondary r0",
    "new-minor r0",
    "attach r0",
    "connect r0",
    "disconnect r0",
    "disconnect --force r0",
    "detach r0",
    "detach --force r0",
    "down r0",
    "restart",
];

/// How long a command may take here, whatever happens.
const LIMIT: Duration = Duration::from_secs(60);

fn run(node: &Node, line: &str) -> Result<(i32, String)> {
    let words: Vec<&str> = line.split(' ').collect();
    let begun = Instant::now();
    let out = node.try_adm(&words)?;
    ensure!(begun.elapsed() < LIMIT, "{line}: {:?}", begun.elapsed());
    Ok((out.code, format!("{}{}", out.stdout, out.stderr)))
}

/// Runs all at once, as none of them changes anything; `judge` gets the line, the exit code, and what was said.
fn all(node: &Node, lines: &[&str], judge: impl Fn(&str, i32, &str) -> bool + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = lines
            .iter()
            .map(|line| scope.spawn(|| (*line, run(node, line))))
            .collect();
        for done in runs {
            let (line, went) = done.join().expect("it does not panic");
            let (code, said) = went?;
            ensure!(judge(line, code, &said), "{line}: exit code {code}\n{said}");
        }
        Ok(())
    })
}

/// `alice` with metadata on her disk.
fn prepared(name: &str) -> Result<Pair> {
    let pair = Pair::prepare(name, Plan::default())?;
    pair.alice.adm(&["create-md", "--force", "r0"])?;
    Ok(pair)
}

fn signal(node: &Node, name: &str) -> Result<()> {
    let pid = node.pid().context("a daemon")?.to_string();
    ensure!(
        Command::new("kill")
            .args(["-s", name, &pid])
            .status()?
            .success()
    );
    Ok(())
}

#[test]
fn without_a_daemon_nothing_is_configured_and_nothing_is_done() -> Result<()> {
    let pair = prepared("commands-nobody")?;
    all(&pair.alice, QUESTIONS, |line, code, said| match line {
        "status" | "overview" => code == 0 && said.is_empty(),
        "status r0" => code == 10,
        "role r0" | "cstate r0" => code == 0 && said == "Unconfigured\n",
        // The disk says it.
        "dstate r0" | "get-gi r0" | "show-gi r0" => code == 0 && !said.is_empty(),
        _ => code == 10,
    })?;
    for line in CHANGES {
        let (code, said) = run(&pair.alice, line)?;
        let is_right = match *line {
            // They work on the metadata of the disk.
            "outdate r0" | "invalidate r0" => code == 0 || code == 5,
            "down r0" => code == 0,
            "restart" => code == 20,
            _ => code == 10,
        };
        ensure!(is_right, "{line}: exit code {code}\n{said}");
    }
    ensure!(run(&pair.alice, "proc")?.0 == 20);
    Ok(())
}

#[test]
fn a_dead_daemon_is_not_nothing() -> Result<()> {
    let mut pair = prepared("commands-dead")?;
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    pair.alice.kill()?;
    let is_dark = |_: &str, code, said: &str| code == 30 && said.contains("has left r0");
    all(&pair.alice, QUESTIONS, is_dark)?;
    all(&pair.alice, CHANGES, is_dark)?;
    all(
        &pair.alice,
        &["wipe-md --force r0", "wait-con-int"],
        is_dark,
    )?;
    all(&pair.alice, &["proc"], is_dark)?;
    // The next one makes an end of that.
    pair.alice.start()?;
    ensure!(run(&pair.alice, "down r0")?.0 == 0);
    ensure!(run(&pair.alice, "role r0")? == (0, "Unconfigured\n".to_owned()));
    Ok(())
}

#[test]
fn a_stopped_daemon_is_named_with_what_helps() -> Result<()> {
    let mut pair = prepared("commands-stopped")?;
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    signal(&pair.alice, "STOP")?;
    let pid = pair.alice.pid().context("a daemon")?;
    let helps = format!("kill -CONT {pid}");
    let limited = |lines: &[&str]| -> Vec<String> {
        lines
            .iter()
            .map(|line| format!("--timeout 2 {line}"))
            .collect()
    };
    let is_dark = |_: &str, code, said: &str| code == 30 && said.contains(&helps);
    for lines in [
        QUESTIONS,
        CHANGES,
        &["up r0", "adjust r0", "dump-md r0", "wait-con-int"],
    ] {
        let lines = limited(lines);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        all(&pair.alice, &lines, is_dark)?;
    }
    // With the limits that hold when nothing is said, too.
    let lines = ["role r0", "primary r0", "down r0", "proc"];
    all(&pair.alice, &lines, is_dark)?;
    all(&pair.alice, &["--timeout 2 proc"], is_dark)?;
    signal(&pair.alice, "CONT")?;
    // Nothing of all that is done now: who asked has gone.
    pair.alice
        .await_volume("it goes on", 30, |v| v.ro == "Secondary/Unknown")?;
    pair.alice.adm(&["down", "r0"])?;
    pair.alice.is_well()
}

#[test]
fn without_its_socket_the_daemon_is_found_again() -> Result<()> {
    let mut pair = prepared("commands-socket")?;
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    let remove = || std::fs::remove_file(pair.alice.run_dir.join("control.sock"));
    for (line, words) in [
        ("role r0", "Secondary/Unknown"),
        ("status", "r0 role:Secondary"),
        ("primary --force r0", ""),
        ("role r0", "Primary/Unknown"),
        ("down r0", ""),
        ("role r0", "Unconfigured"),
    ] {
        remove()?;
        let (code, said) = run(&pair.alice, line)?;
        ensure!(
            code == 0 && said.contains(words),
            "{line}: exit code {code}\n{said}"
        );
    }
    Ok(())
}

/// A run directory that can be filled.
struct Small<'a>(&'a Node);

impl Small<'_> {
    fn mount(node: &Node) -> Result<Small<'_>> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k,mode=0755", "tmpfs"])
            .arg(&node.run_dir)
            .status()?;
        ensure!(mounted.success(), "mounting needs root");
        Ok(Small(node))
    }

    fn fill(&self) {
        // The last write fails, which is what is wanted.
        let _ = std::fs::write(self.0.run_dir.join("filler"), vec![1; 1 << 20]);
    }

    fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.run_dir.join("filler"))?)
    }
}

#[test]
fn a_full_run_directory_stops_no_work_and_no_lie_is_told() -> Result<()> {
    let mut pair = prepared("commands-full")?;
    Small::mount(&pair.alice)?;
    let run_dir = pair.alice.run_dir.clone();
    let went = full(&mut pair);
    let _ = pair.alice.kill();
    let _ = Command::new("umount").arg("-l").arg(run_dir).status();
    went
}

#[test]
fn up_says_why_no_daemon_can_start_even_if_the_log_can_not() -> Result<()> {
    let pair = prepared("commands-full-start")?;
    let small = Small::mount(&pair.alice)?;
    small.fill();
    let went = run(&pair.alice, "up r0");
    let _ = Command::new("umount")
        .arg("-l")
        .arg(&pair.alice.run_dir)
        .status();
    let (code, said) = went?;
    ensure!(code == 20, "exit code {code}: {said}");
    ensure!(said.contains("rdbd ended at once"), "{said}");
    ensure!(said.contains("rdbd.pid: No space left on device"), "{said}");
    Ok(())
}

fn full(pair: &mut Pair) -> Result<()> {
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    let small = Small(&pair.alice);
    small.fill();
    all(&pair.alice, QUESTIONS, |line, code, said| match line {
        "wait-connect --wfc-timeout=2 r0" | "wait-sync --wfc-timeout=2 r0" => code == 5,
        _ => code == 0 && !said.is_empty(),
    })?;
    ensure!(run(&pair.alice, "primary --force r0")?.0 == 0);
    ensure!(run(&pair.alice, "role r0")?.1 == "Primary/Unknown\n");
    pair.alice.nbd(0)?;
    ensure!(pair.alice.logged("will not know what runs") > 0);
    let (code, said) = run(&pair.alice, "restart")?;
    ensure!(code != 0, "{said}");
    ensure!(
        run(&pair.alice, "role r0")?.1 == "Primary/Unknown\n",
        "the old one goes on"
    );
    ensure!(run(&pair.alice, "down r0")?.0 == 0);
    ensure!(run(&pair.alice, "role r0")?.1 == "Unconfigured\n");
    small.make_room()
}

#[test]
fn what_is_not_configured_is_not_done() -> Result<()> {
    let mut pair = prepared("commands-unconfigured")?;
    pair.alice.start()?;
    for line in CHANGES {
        let (code, said) = run(&pair.alice, line)?;
        let is_right = match *line {
            "outdate r0" | "invalidate r0" => code == 0 || code == 5,
            // There is nothing of it, and the daemon is replaced by itself.
            "down r0" | "restart" => code == 0,
            _ => code == 10,
        };
        ensure!(is_right, "{line}: exit code {code}\n{said}");
    }
    let unknown: Vec<String> = CHANGES
        .iter()
        .filter(|line| **line != "restart")
        .map(|line| line.replace("r0", "nobody"))
        .collect();
    let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
    all(&pair.alice, &unknown, |_, code, _| code == 1)
}

#[test]
fn a_connection_that_has_ended_is_not_ended_again() -> Result<()> {
    let mut pair = prepared("commands-standalone")?;
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    for first in ["disconnect r0", "disconnect --force r0"] {
        ensure!(run(&pair.alice, first)?.0 == 0, "{first}");
        ensure!(run(&pair.alice, "cstate r0")?.1 == "StandAlone\n");
        for again in ["disconnect r0", "disconnect --force r0", "net-options r0"] {
            let (code, said) = run(&pair.alice, again)?;
            let is_told = said.starts_with("r0: Failure: (162) ")
                && said.contains("\nunknown connection\nHint: r0 is StandAlone already:");
            ensure!(code == 10 && is_told, "{again}: exit code {code}\n{said}");
        }
        pair.alice.adm(&["connect", "r0"])?;
    }
    // One that is not up is said to be just that.
    pair.alice.adm(&["down", "r0"])?;
    let (code, said) = run(&pair.alice, "disconnect r0")?;
    ensure!(
        code == 10 && said.contains("Hint: resource r0 is not up"),
        "exit code {code}\n{said}"
    );
    Ok(())
}

#[test]
fn an_interrupted_command_holds_nobody_up() -> Result<()> {
    let mut pair = prepared("commands-interrupted")?;
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    let mut wait = pair.alice.command("rdbadm", 0)?;
    let mut wait = wait.args(["wait-connect", "r0"]).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    wait.kill()?;
    wait.wait()?;
    let begun = Instant::now();
    pair.alice.adm(&["primary", "--force", "r0"])?;
    pair.alice.adm(&["down", "r0"])?;
    ensure!(begun.elapsed() < Duration::from_secs(20));
    Ok(())
}

#[test]
fn primary_without_a_device_is_taken_back() -> Result<()> {
    let mut pair = prepared("commands-no-device")?;
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    // No socket can be made where a file is in the way.
    std::fs::write(pair.alice.run_dir.join("nbd"), "in the way")?;
    let out = pair.alice.try_adm(&["primary", "--force", "r0"])?;
    let said = out.fails_with(20)?;
    ensure!(said.contains("no NBD socket at"), "{said}");
    ensure!(said.contains("it is Secondary again"), "{said}");
    ensure!(pair.alice.adm(&["role", "r0"])? == "Secondary/Unknown\n");
    std::fs::remove_file(pair.alice.run_dir.join("nbd"))?;
    pair.alice.adm(&["primary", "r0"])?;
    pair.alice.nbd(0)?;
    Ok(())
}

#[test]
fn up_says_that_it_can_not_listen() -> Result<()> {
    let mut pair = prepared("commands-listen")?;
    pair.alice.start()?;
    let address = pair.hosts[0].address.clone();
    let taken = std::net::TcpListener::bind(&address)?;
    let said = pair.alice.try_adm(&["up", "r0"])?.fails_with(20)?;
    ensure!(said.contains("can not listen at"), "{said}");
    drop(taken);
    wait_until("up again", Duration::from_secs(20), || {
        Ok(pair.alice.try_adm(&["adjust", "r0"])?.code == 0)
    })?;
    ensure!(pair.alice.adm(&["cstate", "r0"])? == "WFConnection\n");
    Ok(())
}

/// r1 beside r0 in alice's configuration, with disks and a port of its own.
fn with_a_second_resource(pair: &Pair) -> Result<()> {
    let mut hosts = pair.hosts.clone();
    for host in &mut hosts {
        host.address = host.address.replace(":7789", ":7790");
        host.data[0] = pair.scratch.join(format!("{}-r1.disk", host.name));
        rdb_tests::disk::create(&host.data[0], 16 << 20)?;
    }
    let text = |hosts: &[rdb_tests::conf::Host]| pair.plan.conf.text(hosts);
    let second = text(&hosts);
    let second = second.split_once('\n').context("a global section")?.1;
    let second = second
        .replace("resource r0", "resource r1")
        .replace("/dev/drbd0 minor 0", "/dev/drbd1 minor 1");
    let both = format!("{}{second}", text(&pair.hosts));
    std::fs::write(&pair.alice.conf, both)?;
    Ok(())
}

#[test]
fn a_resource_that_can_not_come_up_keeps_no_other_from_it() -> Result<()> {
    let mut pair = prepared("commands-up-all")?;
    with_a_second_resource(&pair)?;
    pair.alice.adm(&["create-md", "--force", "r1"])?;
    pair.alice.start()?;
    let r1_is_up = || -> Result<()> {
        ensure!(pair.alice.adm(&["cstate", "r1"])? == "WFConnection\n");
        pair.alice.adm(&["down", "all"])?;
        Ok(())
    };
    // It is up already: not what was asked for, and the rest is done, as with DRBD.
    pair.alice.adm(&["up", "r0"])?;
    let said = pair.alice.try_adm(&["up", "all"])?.fails_with(1)?;
    ensure!(said.contains("'rdbadm adjust r0' applies"), "{said}");
    r1_is_up()?;
    // Its disk is not there.
    std::fs::rename(pair.disk(0, 0), pair.scratch.join("away"))?;
    for command in ["up", "adjust"] {
        let said = pair.alice.try_adm(&[command, "all"])?.fails_with(1)?;
        ensure!(said.contains("No such file"), "{command}: {said}");
        r1_is_up()?;
    }
    Ok(())
}

#[test]
fn what_is_connected_already_is_said_to_be() -> Result<()> {
    let mut pair = prepared("commands-connect-twice")?;
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    let said = pair.alice.try_adm(&["connect", "r0"])?.fails_with(10)?;
    ensure!(said.contains("'rdbadm adjust r0' applies"), "{said}");
    Ok(())
}

/// What agents `eval`, and what they ask for.
const EVALUATED: &str = r#"
_sh_status_process() { echo "$_conf_res_name/$_conf_volume $_minor $_cstate $_role/$_peer $_disk/$_pdsk $_known"; }
eval "$(cat)"
"#;

#[test]
fn a_shell_reads_what_cluster_managers_ask_for() -> Result<()> {
    let mut pair = Pair::synced("shell-status", Plan::default())?;
    let told = pair.alice.adm(&["sh-status"])?;
    let read = |text: &str| -> Result<String> {
        let file = pair.scratch.join("sh-status");
        std::fs::write(&file, text)?;
        run_tool(
            10,
            "sh",
            &["-c", &format!("exec <{}; {EVALUATED}", file.display())],
        )
    };
    ensure!(told.starts_with("_drbd_version="), "{told}");
    let connected = "r0/0 0 Connected Primary/Secondary UpToDate/UpToDate Configured\n";
    ensure!(read(&told)? == connected, "{told}");
    // Names make no difference, and that is said.
    let named = pair.alice.try_adm(&["sh-status", "r9"])?;
    ensure!(named.code == 0 && named.stdout == told, "{named:?}");
    ensure!(named.stderr == "This command will ignore resource names!\n");
    pair.bob.adm(&["down", "r0"])?;
    let told = pair.bob.adm(&["sh-status"])?;
    ensure!(
        told.contains("_conf_res_name=r0\n") && told.contains("\n_known=NA #"),
        "{told}"
    );

    let alice = &pair.alice;
    ensure!(alice.adm(&["sh-mod-parms"])? == "minor_count=32\n");
    let lower = alice.try_adm(&["sh-lr-of", "r0"])?.fails_with(1)?;
    ensure!(lower.contains("only available in stacked mode"), "{lower}");
    let names = alice.adm(&["sh-udev", "minor-0"])?;
    let disk = pair.disk(0, 0).display().to_string();
    ensure!(
        names == format!("RESOURCE=r0/0\nDEVICE=drbd0\nDISK={disk}\n"),
        "{names}"
    );
    ensure!(alice.adm(&["sh-udev", "r0/0"])? == names);
    let whole = alice.try_adm(&["sh-udev", "r0"])?.fails_with(1)?;
    ensure!(whole.contains("requires a specific volume id"), "{whole}");
    pair.are_well()
}
