//! The demonstration: a replicated disk on this one machine, and what it is good for.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::{self, run_tool};
use rdb_tests::scratch::release_below;
use rdb_tests::status::Volume;
use rdb_tests::{Conf, Node, Pair};

use crate::{setup, test};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Size of each node's disk in MiB
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(64..=65536))]
    size: u32,
    /// Go on without the short pauses that give time to read
    #[arg(long)]
    fast: bool,
}

/// Builds the programs and runs the demonstration; everything is cleaned up at the end, also
/// after an error or Ctrl-C.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::need(&["mkfs.ext4", "mount", "umount", "losetup"])?;
    let id = run_tool(10, "id", &["-u"])?;
    ensure!(
        id.trim() == "0",
        "the demonstration mounts a file system: run it as root"
    );
    ensure!(
        Path::new("/dev/fuse").exists(),
        "/dev/fuse is missing: run `modprobe fuse`"
    );
    println!("Building the programs; the first time that takes some minutes.");
    programs::use_directory(&test::binaries(false)?);
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let demo = Demo::new(options, interrupted)?;
    let result = demo.play();
    let place = demo.place();
    result.with_context(|| format!("the demonstration in {place} failed (all of it is removed)"))
}

struct Demo {
    pair: std::cell::RefCell<Pair>,
    mount: PathBuf,
    interrupted: Arc<AtomicBool>,
    fast: bool,
    colour: bool,
}

impl Demo {
    fn new(options: &Options, interrupted: Arc<AtomicBool>) -> Result<Self> {
        let conf = Conf {
            // Slow enough to be watched.
            rate: "resync-rate 120M; c-plan-ahead 0;".into(),
            intervals: "connect-int 1; ping-int 2; ping-timeout 20; timeout 9;".into(),
            ..Conf::default()
        };
        let disk_bytes = u64::from(options.size) << 20;
        let plan = Plan {
            conf,
            disk_bytes,
            frontend: "auto",
            ..Plan::default()
        };
        let pair = Pair::prepare("demo", plan)?;
        let mount = pair.scratch.join("mnt");
        std::fs::create_dir(&mount)?;
        Ok(Self {
            pair: pair.into(),
            mount,
            interrupted,
            fast: options.fast,
            colour: std::io::stdout().is_terminal(),
        })
    }

    fn place(&self) -> String {
        self.pair.borrow().scratch.path().display().to_string()
    }

    fn play(&self) -> Result<()> {
        let started = Instant::now();
        self.say(
            "Two nodes, alice and bob, both on this machine: each has a daemon of its own, a",
        )?;
        self.say("disk (a plain file) and an address. What one writes, the other has too.")?;
        println!("    in {}", self.place());
        self.meet()?;
        let letter = self.make_letter()?;
        self.lose_power()?;
        let postscript = self.take_over(&letter)?;
        self.come_back()?;
        self.hand_over(&postscript)?;
        println!(
            "\nDone in {} seconds; everything is removed.",
            started.elapsed().as_secs()
        );
        Ok(())
    }

    fn meet(&self) -> Result<()> {
        self.step("Metadata on both disks, both nodes up")?;
        for name in ["alice", "bob"] {
            self.node_mut(name, Node::start)?;
            self.adm(name, &["create-md", "--force", "r0"])?;
        }
        for name in ["alice", "bob"] {
            self.adm(name, &["up", "r0"])?;
        }
        for name in ["alice", "bob"] {
            self.until(name, "a connection", |volume| volume.cs == "Connected")?;
        }
        self.show_states()?;
        self.say("They have met. Neither disk holds data yet, so both are Inconsistent.")?;

        self.step("alice is told that her (empty) disk is the good one: the first sync")?;
        self.adm("alice", &["primary", "--force", "r0"])?;
        self.watch_sync("bob")?;
        self.show_states()
    }

    /// The file's checksum is the result.
    fn make_letter(&self) -> Result<String> {
        self.step("A file system on the replicated device, and a file on it")?;
        let device = self.device("alice")?;
        // Discarding the whole device would make every extent of it hot, and so copied after a crash.
        self.shell("mkfs.ext4", &["-q", "-F", "-E", "nodiscard", &device])?;
        self.shell("mount", &[&device, &self.mount_text()])?;
        let megabytes = 32.min(self.disk_mib() / 4);
        let sum = self.make_file("letter", megabytes)?;
        println!(
            "    {megabytes} MiB of noise in {}/letter",
            self.mount.display()
        );
        println!("    its checksum:    {sum}");
        Ok(sum)
    }

    fn lose_power(&self) -> Result<()> {
        self.step("alice loses her power (her daemon is killed with SIGKILL)")?;
        let pid = self.node("alice", |node| node.pid().context("alice's daemon runs"))?;
        println!("    kill -9 {pid}");
        self.node_mut("alice", |node| node.kill().map(drop))?;
        let run_dir = self.node("alice", |node| Ok(node.run_dir.clone()))?;
        run_tool(30, "umount", &["-l", &self.mount_text()])?;
        release_below(&run_dir);
        self.until("bob", "the loss of alice", |volume| {
            volume.cs == "WFConnection"
        })?;
        self.show_states()
    }

    /// The checksum of what bob writes is the result.
    fn take_over(&self, letter: &str) -> Result<String> {
        self.step("bob takes over")?;
        self.adm("bob", &["primary", "r0"])?;
        let device = self.device("bob")?;
        self.shell("mount", &[&device, &self.mount_text()])?;
        let found = self.checksum("letter")?;
        println!("    checksum at bob: {found}");
        ensure!(
            found == letter,
            "the file is not what alice wrote: {found} instead of {letter}"
        );
        self.good("The same file, to the bit.")?;
        let sum = self.make_file("postscript", 4)?;
        println!("    bob adds a file of 4 MiB while alice is away");
        Ok(sum)
    }

    fn come_back(&self) -> Result<()> {
        self.step("alice comes back: only what changed is copied to her")?;
        self.node_mut("alice", Node::start)?;
        let before = self.node("alice", |node| Ok(node.resyncs_kib().len()))?;
        self.adm("alice", &["up", "r0"])?;
        self.watch_sync("alice")?;
        let resyncs = self.node("alice", |node| Ok(node.resyncs_kib()))?;
        let counters = self.node("alice", |node| node.volume(0))?;
        self.show_states()?;
        let whole = self.pair.borrow().data_bytes() / 1024;
        let copied: u64 = resyncs.iter().skip(before).sum();
        println!(
            "    alice received {} KiB; the whole disk is {whole} KiB",
            counters.nr
        );
        ensure!(
            copied < whole / 2,
            "{copied} KiB were copied, far more than what changed"
        );
        self.good(&format!("{copied} KiB of {whole} KiB had to be synced."))
    }

    fn hand_over(&self, postscript: &str) -> Result<()> {
        self.step("And back: bob hands over to alice, in peace")?;
        run_tool(60, "umount", &[self.mount_text()])?;
        self.adm("bob", &["secondary", "r0"])?;
        self.adm("alice", &["primary", "r0"])?;
        let device = self.device("alice")?;
        self.shell("mount", &[&device, &self.mount_text()])?;
        let found = self.checksum("postscript")?;
        ensure!(found == postscript, "alice does not have what bob wrote");
        self.good("alice has what bob wrote while she was away.")?;
        run_tool(60, "umount", &[self.mount_text()])?;
        for name in ["alice", "bob"] {
            self.adm(name, &["down", "r0"])?;
        }
        self.pair.borrow().disks_equal()?;
        self.good("Both disks are equal, byte for byte.")
    }

    /// The next part, after a moment to read the last one.
    fn step(&self, title: &str) -> Result<()> {
        self.pause(Duration::from_millis(1200))?;
        let (on, off) = if self.colour {
            ("\x1b[1;36m", "\x1b[0m")
        } else {
            ("", "")
        };
        println!("\n{on}== {title}{off}");
        self.pause(Duration::from_millis(400))
    }

    fn say(&self, words: &str) -> Result<()> {
        println!("{words}");
        self.alive()
    }

    fn good(&self, words: &str) -> Result<()> {
        let (on, off) = if self.colour {
            ("\x1b[1;32m", "\x1b[0m")
        } else {
            ("", "")
        };
        println!("    {on}{words}{off}");
        self.alive()
    }

    fn alive(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    fn pause(&self, length: Duration) -> Result<()> {
        let end = Instant::now() + if self.fast { Duration::ZERO } else { length };
        while Instant::now() < end {
            self.alive()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        self.alive()
    }

    fn node<T>(&self, name: &str, ask: impl FnOnce(&Node) -> Result<T>) -> Result<T> {
        let pair = self.pair.borrow();
        ask(if name == "alice" {
            &pair.alice
        } else {
            &pair.bob
        })
    }

    fn node_mut(&self, name: &str, change: impl FnOnce(&mut Node) -> Result<()>) -> Result<()> {
        let mut pair = self.pair.borrow_mut();
        change(if name == "alice" {
            &mut pair.alice
        } else {
            &mut pair.bob
        })
    }

    /// One of our commands, shown as it is typed.
    fn adm(&self, name: &str, words: &[&str]) -> Result<()> {
        self.alive()?;
        println!("    {name}# rdbadm {}", words.join(" "));
        self.node(name, |node| node.adm(words).map(drop))
    }

    /// A command of the system, shown as it is typed.
    fn shell(&self, program: &str, words: &[&str]) -> Result<()> {
        self.alive()?;
        println!("    # {program} {}", words.join(" "));
        run_tool(120, program, words).map(drop)
    }

    fn device(&self, name: &str) -> Result<String> {
        Ok(self
            .node(name, |node| node.device(0))?
            .display()
            .to_string())
    }

    fn until(&self, name: &str, what: &str, is: impl Fn(&Volume) -> bool) -> Result<()> {
        let interrupted = Arc::clone(&self.interrupted);
        self.node(name, |node| {
            let found = node.await_volume(what, 60, |volume| {
                interrupted.load(Ordering::Relaxed) || is(volume)
            });
            found.map(drop)
        })?;
        self.alive()
    }

    /// Shows the sync of a node as it goes, from its status file: on a terminal in place, else a line a second.
    fn watch_sync(&self, name: &str) -> Result<()> {
        let start = Instant::now();
        let mut drawn: Option<Instant> = None;
        loop {
            self.alive()?;
            let volume = self.node(name, |node| node.volume(0))?;
            if let Some(bar) = &volume.bar {
                let finish = volume.finish.as_deref().unwrap_or("");
                let is_due = drawn.is_none_or(|at| at.elapsed() >= Duration::from_secs(1));
                if self.colour {
                    print!("\r    {bar}  {finish}\x1b[K");
                    std::io::stdout().flush()?;
                } else if is_due {
                    println!("    {bar}  {finish}");
                }
                if is_due {
                    drawn = Some(Instant::now());
                }
            }
            if volume.is_settled() {
                let (over, off) = match (self.colour, drawn) {
                    (true, Some(_)) => ("\r", "\x1b[K"),
                    _ => ("", ""),
                };
                let seconds = start.elapsed().as_secs_f32();
                println!(
                    "{over}    [====================] sync'ed:100.0% after {seconds:.1} s{off}"
                );
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(120) {
                bail!("the sync did not end: {volume:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The device lines of both status files.
    fn show_states(&self) -> Result<()> {
        for name in ["alice", "bob"] {
            let running = self.node(name, |node| Ok(node.pid().is_some()))?;
            if !running {
                println!("    {name:5}  (dead)");
                continue;
            }
            let volume = self.node(name, |node| node.volume(0))?;
            println!(
                "    {name:5}  cs:{} ro:{} ds:{}",
                volume.cs, volume.ro, volume.ds
            );
        }
        self.alive()
    }

    fn mount_text(&self) -> String {
        self.mount.display().to_string()
    }

    fn disk_mib(&self) -> u64 {
        self.pair.borrow().plan.disk_bytes >> 20
    }

    fn make_file(&self, name: &str, megabytes: u64) -> Result<String> {
        let file = self.mount.join(name).display().to_string();
        let words = [
            "if=/dev/urandom",
            &format!("of={file}"),
            "bs=1M",
            "conv=fsync",
            "status=none",
        ];
        run_tool(
            120,
            "dd",
            &[&words[..], &[&format!("count={megabytes}")]].concat(),
        )?;
        self.checksum(name)
    }

    fn checksum(&self, name: &str) -> Result<String> {
        self.alive()?;
        let line = run_tool(
            60,
            "sha256sum",
            &[self.mount.join(name).display().to_string()],
        )?;
        Ok(line.split(' ').next().unwrap_or_default().to_owned())
    }
}
