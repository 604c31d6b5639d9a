//! Many resources on a node: what is done to one does not cost the more, the more others there are.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use rdb_tests::scratch::Scratch;
use rdb_tests::{Node, disk};

/// How many resources come and go beside the one that is counted at.
const OTHERS: usize = 24;

/// Whoever looks at all resources for each step of each takes a time that grows with their square. A resource that nobody is
/// interested in is left asleep: its thread is not asked at every step of the others.
#[test]
fn a_resource_is_left_alone_while_others_are_brought_up_and_down() -> Result<()> {
    let scratch = Scratch::new("many")?;
    let mut text = "global { usage-count no; }\n".to_owned();
    for nr in 0..OTHERS {
        let file = scratch.join(format!("{nr}.disk"));
        disk::create(&file, 4 << 20)?;
        let (port, file) = (21_000 + nr, file.display());
        write!(
            text,
            "resource o{nr} {{ device minor {nr}; disk {file}; meta-disk internal;\n\
             on alice {{ address 127.0.48.1:{port}; }}\non bob {{ address 127.0.48.2:{port}; }} }}\n"
        )?;
    }
    let conf = scratch.join("drbd.conf");
    std::fs::write(&conf, text)?;
    let mut alice = Node::new(scratch.path(), "alice", &conf)?;
    alice.start()?;
    alice
        .run("rdbsetup", &["new-resource", "still"], None)?
        .ok()?;
    alice.adm(&["create-md", "--force", "all"])?;
    let before = woken(&alice, "rdb-still")?;
    alice.adm(&["up", "all"])?;
    alice
        .adm(&["dump-md", "all"])
        .expect_err("their disks are attached");
    alice.adm(&["down", "all"])?;
    let woken = woken(&alice, "rdb-still")? - before;
    ensure!(woken < OTHERS, "it was woken {woken} times");
    alice.is_well()
}

/// How often a thread of the daemon has begun to wait, and so was woken.
fn woken(node: &Node, thread: &str) -> Result<usize> {
    let pid = node.pid().context("a daemon runs")?;
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = std::fs::read_to_string(entry?.path().join("status"))?;
        let line = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name));
            found.map(str::trim)
        };
        if line("Name:") == Some(thread) {
            let count = line("voluntary_ctxt_switches:").context("a count")?;
            return Ok(count.parse()?);
        }
    }
    anyhow::bail!("no thread of the daemon is called {thread}")
}
