//! Our metadata judged by the original's tool, and the original's read by ours, on loop devices,
//! in all four layouts (`docs/spec/metadata.md`).

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::programs::{run_tool, try_tool};
use rdb_tests::scratch::Loop;
use rdb_tests::{Conf, Meta, Node, Pair};

/// The words that name data and metadata for drbdmeta.
fn place<'a>(meta: Meta, data: &'a Loop, other: Option<&'a Loop>) -> Vec<&'a str> {
    let other = other.map_or("", Loop::device);
    match meta {
        Meta::Internal => vec!["0", "v08", data.device(), "internal"],
        Meta::External | Meta::Flexible => vec!["0", "v08", other, "flex-external"],
        Meta::Indexed => vec!["0", "v08", other, "1"],
    }
}

fn drbdmeta(place: &[&str], command: &[&str]) -> Result<String> {
    run_tool(30, "drbdmeta", &[place, command].concat())
}

/// A dump without the lines that name time and program, and without the flags, which drbdmeta up
/// to 9.32 prints as 0 (`docs/spec/metadata.md`, section 8.2); `get-gi` shows them.
fn essence(dump: &str) -> String {
    dump.lines()
        .filter(|line| !line.starts_with('#') && !line.trim_start().starts_with("flags 0x"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A node that is alone: its disks are loop devices.
struct Alone {
    node: Node,
    data: Loop,
    meta: Option<Loop>,
    pair: Pair,
}

fn alone(name: &str, meta: Meta) -> Result<Alone> {
    let conf = Conf {
        meta,
        ..Conf::default()
    };
    let mut pair = Pair::prepare(
        name,
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    let data = Loop::new(pair.disk(0, 0))?;
    pair.hosts[0].data[0] = data.device().into();
    let other = match pair.hosts[0].meta.first_mut() {
        Some(path) => {
            let device = Loop::new(path)?;
            *path = device.device().into();
            Some(device)
        }
        None => None,
    };
    pair.write_conf()?;
    let node = Node::new(pair.scratch.path(), "alice", &pair.alice.conf)?;
    Ok(Alone {
        node,
        data,
        meta: other,
        pair,
    })
}

/// Both tools dump the same; as drbdmeta does.
fn same_dump(node: &Node, place: &[&str]) -> Result<String> {
    let theirs = drbdmeta(place, &["dump-md"])?;
    let ours = node.adm(&["dump-md", "r0"])?;
    ensure!(
        essence(&ours) == essence(&theirs),
        "ours:\n{ours}\ndrbdmeta's:\n{theirs}"
    );
    Ok(theirs)
}

fn both_tools_agree(name: &str, meta: Meta) -> Result<()> {
    let Alone {
        mut node,
        data,
        meta: other,
        pair,
    } = alone(name, meta)?;
    let place = place(meta, &data, other.as_ref());

    // Fresh: created by us, read by the original.
    node.adm(&["create-md", "--force", "r0"])?;
    let fresh = same_dump(&node, &place).context("our fresh metadata")?;
    ensure!(
        fresh.contains("version \"v08\"") && fresh.contains("0x0000000000000004;"),
        "{fresh}"
    );
    ensure!(
        drbdmeta(&place, &["get-gi"])?.trim() == node.adm(&["get-gi", "r0"])?.trim(),
        "get-gi differs"
    );

    // Used: written alone as primary, then down. The original replays the log and reads the bitmap.
    node.start()?;
    node.adm(&["up", "r0"])?;
    node.adm(&["primary", "--force", "r0"])?;
    let mut client = node.nbd(0)?;
    for megabyte in [1u64, 9, 30, 55] {
        client.write(megabyte << 20, &[1; 12288])?;
    }
    drop(client);
    rdb_tests::wait_until(
        "the client to be gone",
        std::time::Duration::from_secs(10),
        || Ok(node.try_adm(&["secondary", "r0"])?.code == 0),
    )?;
    node.adm(&["down", "r0"])?;
    let unclean = try_tool(30, "drbdmeta", &[&place[..], &["dump-md"]].concat())?;
    let words = format!(
        "{}{}",
        String::from_utf8_lossy(&unclean.stdout),
        String::from_utf8_lossy(&unclean.stderr)
    );
    ensure!(
        words.contains("unclean"),
        "after use it is unclean, as the kernel leaves it: {words}"
    );
    drbdmeta(&place, &["apply-al"]).context("drbdmeta apply-al on our log")?;
    let used = same_dump(&node, &place).context("used metadata")?;
    ensure!(used.contains("la-size-sect"), "{used}");

    // Crashed: the log is replayed by the original as by us.
    node.adm(&["up", "r0"])?;
    node.adm(&["primary", "r0"])?;
    node.nbd(0)?.write(20 << 20, &[2; 4096])?;
    node.kill()?;
    let gi = drbdmeta(&place, &["get-gi"])?;
    ensure!(
        gi.trim().ends_with(":1:1:1:0:0:0:0") || gi.contains(":1:1:1:"),
        "{gi}"
    );
    drbdmeta(&place, &["apply-al"]).context("drbdmeta apply-al after a crash")?;
    same_dump(&node, &place).context("metadata after a crash")?;
    node.start()?;
    node.adm(&["up", "r0"])?;
    ensure!(
        node.volume(0)?.ds.starts_with("UpToDate/"),
        "{:?}",
        node.volume(0)?
    );
    node.adm(&["down", "r0"])?;

    // Created by the original, used by us.
    drbdmeta(&[&["--force"][..], &place].concat(), &["create-md"])?;
    same_dump(&node, &place).context("drbdmeta's fresh metadata")?;
    node.adm(&["up", "r0"])?;
    node.adm(&["primary", "--force", "r0"])?;
    node.nbd(0)?.write(0, &[3; 4096])?;
    node.is_well()?;
    drop(node);
    drop(pair);
    Ok(())
}

#[test]
fn internal() -> Result<()> {
    both_tools_agree("md-internal", Meta::Internal)
}

#[test]
fn external() -> Result<()> {
    both_tools_agree("md-external", Meta::External)
}

#[test]
fn flexible_external() -> Result<()> {
    both_tools_agree("md-flexible", Meta::Flexible)
}

#[test]
fn indexed_external() -> Result<()> {
    both_tools_agree("md-indexed", Meta::Indexed)
}

#[test]
fn a_pair_runs_with_each_layout() -> Result<()> {
    for meta in [Meta::External, Meta::Flexible, Meta::Indexed] {
        let conf = Conf {
            meta,
            ..Conf::default()
        };
        let pair = Pair::synced(
            "layouts",
            Plan {
                conf,
                ..Plan::default()
            },
        )
        .with_context(|| format!("{meta:?}"))?;
        let end = pair.data_bytes() - 4096;
        pair.alice.nbd(0)?.write(end, &[4; 4096])?;
        pair.disks_equal().with_context(|| format!("{meta:?}"))?;
    }
    Ok(())
}
