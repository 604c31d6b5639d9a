//! What was written apart is told before anybody's writes are given up: by each node, by both together, from one whose daemon is
//! stopped, and with the files that lie in the blocks.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::net::Cut;
use rdb_tests::pair::Plan;
use rdb_tests::programs::run_tool;
use rdb_tests::{Conf, Node, Pair, wait_until};
use serde_json::Value;

const BLOCK: usize = 4096;

/// A synced pair whose nodes do not see each other any more; alice is Primary.
fn parted(name: &str, plan: Plan) -> Result<Pair> {
    let pair = Pair::synced(
        name,
        Plan {
            cable: true,
            ..plan
        },
    )?;
    cut(&pair)?;
    Ok(pair)
}

fn cut(pair: &Pair) -> Result<()> {
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    cable.cut(Cut::LinkDown)?;
    for node in [&pair.alice, &pair.bob] {
        node.await_volume("the cut", 30, |volume| volume.cs == "WFConnection")?;
    }
    Ok(())
}

/// They meet again, and part for good: who has found the split brain is StandAlone, the other one as well once it is told.
fn meet(pair: &Pair) -> Result<()> {
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    cable.heal()?;
    wait_until("StandAlone", Duration::from_secs(60), || {
        Ok(pair.alice.volume(0)?.cs == "StandAlone" || pair.bob.volume(0)?.cs == "StandAlone")
    })?;
    for node in [&pair.alice, &pair.bob] {
        if node.volume(0)?.cs != "StandAlone" {
            // It may have become so meanwhile.
            node.adm(&["disconnect", "r0"])
                .or_else(|_| node.adm(&["cstate", "r0"]))?;
        }
        node.await_volume("StandAlone", 30, |volume| volume.cs == "StandAlone")?;
    }
    Ok(())
}

/// Alice wrote blocks 256 and 257, bob blocks 512 to 515, and both block 768.
fn written_apart(name: &str, conf: Conf) -> Result<Pair> {
    let pair = parted(
        name,
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    pair.alice.nbd(0)?.write(1 << 20, &[0xaa; 2 * BLOCK])?;
    pair.alice.nbd(0)?.write(3 << 20, &[0xaa; BLOCK])?;
    pair.bob.adm(&["primary", "r0"])?;
    pair.bob.nbd(0)?.write(2 << 20, &[0xbb; 4 * BLOCK])?;
    pair.bob.nbd(0)?.write(3 << 20, &[0xbb; 512])?;
    Ok(pair)
}

fn json(node: &Node, words: &[&str]) -> Result<Value> {
    let words = [&["split-brain", "--json"], words].concat();
    let text = node.adm(&words)?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// The count, the ranges, and the current UUID of volume 0, but for its last digit, which goes with the role.
fn facts(side: &Value) -> (u64, Value, String) {
    let volume = &side["volumes"][0];
    let current = volume["identifiers"]["current"].as_str();
    (
        volume["marked"]["count"].as_u64().unwrap_or(u64::MAX),
        volume["marked"]["ranges"].clone(),
        current
            .and_then(|uuid| uuid.get(..15))
            .unwrap_or_default()
            .to_owned(),
    )
}

#[test]
fn each_node_tells_what_it_wrote_and_both_what_both_wrote() -> Result<()> {
    let mut pair = written_apart("evidence", Conf::default())?;
    meet(&pair)?;
    let alice = json(&pair.alice, &["r0"])?;
    let bob = json(&pair.bob, &["r0"])?;
    let (count, ranges, alices) = facts(&alice);
    ensure!(
        count == 3 && ranges == serde_json::json!([[256, 2], [768, 1]]),
        "{alice}"
    );
    let (count, ranges, bobs) = facts(&bob);
    ensure!(
        count == 5 && ranges == serde_json::json!([[512, 4], [768, 1]]),
        "{bob}"
    );
    ensure!(
        alice["connection"] == "StandAlone" && alice["source"] == "daemon",
        "{alice}"
    );
    ensure!(alice["volumes"][0]["role"] == "Primary", "{alice}");

    // Since when, and who was Primary: by force from the beginning, and since the cut.
    for side in [&alice, &bob] {
        let volume = &side["volumes"][0];
        ensure!(
            volume["since"].is_string() && volume["parted"].is_string(),
            "{side}"
        );
        let primary = &volume["primary"];
        ensure!(
            primary[0]["from"].is_string() && primary[0]["to"].is_null(),
            "{side}"
        );
        ensure!(
            primary.as_array().is_some_and(|all| all.len() == 1),
            "{side}"
        );
        let forced = side["node"] == "alice";
        ensure!(primary[0]["forced"] == forced, "{side}");
        ensure!(
            volume["parted"].as_str() <= volume["since"].as_str(),
            "{side}"
        );
    }

    knows_what_was_announced(&pair, (&alice, &alices), (&bob, &bobs))?;
    tells_what_both_wrote(&pair, &bob)?;
    refuses_bad_reports(&pair, &alice, &bob)?;
    tells_the_same_when_down(&mut pair, &alice, &bob)
}

/// Who has found the split brain knows what the other one has announced.
fn knows_what_was_announced(
    pair: &Pair,
    (alice, alices): (&Value, &str),
    (bob, bobs): (&Value, &str),
) -> Result<()> {
    let mut found = 0;
    for (node, side, current, blocks, other) in [
        (&pair.alice, alice, bobs, 5, "bob"),
        (&pair.bob, bob, alices, 3, "alice"),
    ] {
        let text = node.adm(&["split-brain", "r0"])?;
        ensure!(
            text.contains(&format!(
                "ssh {other} rdbadm split-brain --json r0 | rdbadm split-brain --with-peer - r0"
            )),
            "{text}"
        );
        ensure!(text.contains("connect --discard-my-data r0"), "{text}");
        let seen = &side["volumes"][0]["seen-peer"];
        if seen.is_null() {
            continue;
        }
        found += 1;
        let told = &seen["told"];
        let told_current = told["identifiers"]["current"].as_str().unwrap_or_default();
        ensure!(told_current.starts_with(current), "{side}");
        ensure!(
            told["marked-blocks"] == blocks && told["role"] == "Primary",
            "{side}"
        );
        let words = format!(
            "it announced {blocks} blocks of 4 KiB = {} KiB marked",
            blocks * 4
        );
        ensure!(text.contains(&words) && text.contains(current), "{text}");
        let mut lines = side["history"].as_array().into_iter().flatten();
        let line = lines.rfind(|line| line["event"] == "split-brain");
        ensure!(line.is_some_and(|line| line["solved"] == false), "{side}");
    }
    ensure!(found > 0, "{alice}\n{bob}");
    Ok(())
}

/// With the other one's report: from a file, and by a pipe.
fn tells_what_both_wrote(pair: &Pair, bob: &Value) -> Result<()> {
    let file = pair.scratch.join("bob.json");
    std::fs::write(&file, bob.to_string())?;
    let file = file.display().to_string();
    let both = json(&pair.alice, &["--with-peer", &file, "r0"])?;
    ensure!(both["format"] == "rdb-split-brain-both", "{both}");
    let volume = &both["both"][0];
    ensure!(
        volume["relation"] == "split-brain" && volume["one-beginning"] == true,
        "{both}"
    );
    ensure!(
        volume["both-blocks"] == 1 && volume["exact"] == true,
        "{both}"
    );
    ensure!(volume["both"] == serde_json::json!([[768, 1]]), "{both}");
    let piped = pair.alice.run(
        "rdbadm",
        &["split-brain", "--with-peer", "-", "r0"],
        Some(&bob.to_string()),
    )?;
    let text = piped.ok()?;
    for words in [
        "  alice\n    it is Primary, its disk UpToDate\n",
        "    written apart: 3 blocks of 4 KiB = 12 KiB\n      bytes 1048576 to 1056767 (2 blocks)\n",
        "    written apart: 5 blocks of 4 KiB = 20 KiB\n      bytes 2097152 to 2113535 (4 blocks)\n",
        "    written by both: 1 block of 4 KiB = 4 KiB\n      bytes 3145728 to 3149823 (1 block)\n",
        "To keep what alice has, and give up what bob has written apart:\n  lost are 5 blocks of 4 KiB = 20 KiB, of which 1 were written by both\n  on bob nothing keeps these blocks",
        "To keep what bob has, and give up what alice has written apart:\n  lost are 3 blocks of 4 KiB = 12 KiB, of which 1 were written by both\n",
        "    bob# rdbadm secondary r0\n    bob# rdbadm connect --discard-my-data r0\n    alice# rdbadm connect r0 ",
        "alice/0: connection Connected -> ",
        "split brain, unresolved",
    ] {
        ensure!(text.contains(words), "{words}\n{text}");
    }
    ensure!(text.contains(" to now (by force)\n"), "{text}");
    Ok(())
}

/// What is no report of the other node is refused with what is wrong with it, and nothing is printed.
fn refuses_bad_reports(pair: &Pair, alice: &Value, bob: &Value) -> Result<()> {
    let good = bob.to_string();
    let huge = "x".repeat(65 << 20);
    for (text, words) in [
        (String::new(), "it is empty"),
        (
            good[..good.len() / 2].to_owned(),
            "it is not what 'rdbadm split-brain --json' prints: EOF",
        ),
        (
            good.replace("\"resource\":\"r0\"", "\"resource\":\"r1\""),
            "it is of resource r1, not of r0",
        ),
        (
            good.replace("\"version\":1", "\"version\":9"),
            "it is version 9 of the format",
        ),
        (
            good.replace("[768,1]", "[768,99999999]"),
            "a range ends at block 100000767",
        ),
        (
            good.replace("\"count\":5", "\"count\":18446744073709551615"),
            "it says 18446744073709551615 blocks",
        ),
        (alice.to_string(), "it is of node alice, which is this one"),
        (
            good.replace("\"node\":\"bob\"", "\"node\":\"$(touch x); rm -rf\""),
            "the name of its node, \"$(touch x); rm -rf\", can not be one",
        ),
        (
            good.replace("\"node\":\"bob\"", "\"node\":\"carol\""),
            "it is of node carol, and the configuration has bob for the peer of r0",
        ),
        (huge, "it is longer than"),
    ] {
        let out = pair.alice.run(
            "rdbadm",
            &["split-brain", "--with-peer", "-", "r0"],
            Some(&text),
        )?;
        ensure!(
            out.stdout.is_empty() && !out.stderr.contains("panicked"),
            "{out:?}"
        );
        ensure!(out.stderr.len() < 1000, "{}", out.stderr.len());
        let said = out.fails_with(1)?;
        ensure!(said.contains(words), "{words}: {said}");
    }
    let missing = ["split-brain", "--with-peer", "/nonexistent", "r0"];
    let said = pair.alice.try_adm(&missing)?.fails_with(1)?;
    ensure!(said.contains("/nonexistent: No such file"), "{said}");
    Ok(())
}

/// Without the daemon the disks tell the same; then the order to discard says what it costs.
fn tells_the_same_when_down(pair: &mut Pair, alice: &Value, bob: &Value) -> Result<()> {
    for (node, before) in [(&mut pair.alice, alice), (&mut pair.bob, bob)] {
        node.adm(&["secondary", "r0"])?;
        node.adm(&["down", "r0"])?;
        node.terminate()?;
        let after = json(node, &["r0"])?;
        ensure!(facts(&after) == facts(before), "{after}\n{before}");
        ensure!(
            after["source"] == "disk" && after["connection"].is_null(),
            "{after}"
        );
        let (then, now) = (&before["volumes"][0], &after["volumes"][0]);
        ensure!(
            now["since"] == then["since"] && now["seen-peer"] == then["seen-peer"],
            "{after}"
        );
        ensure!(now["primary"][0]["to"].is_string(), "{after}");
        ensure!(
            now["crashed-primary"] == false && now["log-blocks"] == 0,
            "{after}"
        );
        let text = node.adm(&["split-brain", "r0"])?;
        ensure!(
            text.contains("its resource is down: read from its disks"),
            "{text}"
        );
        node.start()?;
        node.adm(&["up", "r0"])?;
    }
    // They have met again, and found the same.
    meet(pair)?;
    pair.alice.adm(&["primary", "r0"])?;
    let refused = pair
        .bob
        .try_adm(&["--", "--discard-my-data", "connect", "r1"])?;
    ensure!(
        refused.code == 1 && !refused.stderr.contains("gives up"),
        "{refused:?}"
    );
    let out = pair
        .bob
        .try_adm(&["--", "--discard-my-data", "connect", "r0"])?;
    ensure!(out.code == 0, "{out:?}");
    for words in [
        "r0: --discard-my-data gives up what this node has written apart: 5 blocks of 4 KiB = 20 KiB\n",
        "r0: nothing keeps these blocks: no before-resync-target is configured that takes a snapshot\n",
    ] {
        ensure!(out.stderr.contains(words), "{out:?}");
    }
    // One that is refused gives nothing up, and ends as ever.
    let again = pair.bob.try_adm(&["connect", "--discard-my-data", "r0"])?;
    ensure!(
        again.code == 10 && !again.stderr.contains("gives up"),
        "{again:?}"
    );
    pair.alice.adm(&["connect", "r0"])?;
    pair.settle(60)?;
    pair.disks_equal()?;
    let alice = json(&pair.alice, &["r0"])?;
    let events: Vec<&str> = alice["history"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|line| line["event"].as_str())
        .collect();
    ensure!(alice["volumes"][0]["marked"]["count"] == 0, "{alice}");
    ensure!(alice["volumes"][0]["parted"].is_null(), "{alice}");
    let history = std::fs::read_to_string(pair.alice.run_dir.join("state/history/r0.jsonl"))?;
    ensure!(
        history.contains("\"resync-ended\",\"source\":true,\"complete\":true"),
        "{events:?}\n{history}"
    );
    pair.are_well()
}

#[test]
fn nothing_is_to_be_typed_while_both_are_connected() -> Result<()> {
    let mut pair = Pair::synced("evidence-together", Plan::default())?;
    let bob = json(&pair.bob, &["r0"])?;
    ensure!(bob["connection"] == "Connected", "{bob}");
    let bob = bob.to_string();
    for (words, input) in [
        (&["split-brain", "r0"][..], None),
        (&["split-brain", "--with-peer", "-", "r0"], Some(&*bob)),
    ] {
        let text = pair.alice.run("rdbadm", words, input)?.ok()?;
        for words in [
            "(Connected, as its daemon says)",
            "The two nodes are connected, and nothing is apart",
        ] {
            ensure!(text.contains(words), "{words}\n{text}");
        }
        ensure!(!text.contains("# rdbadm "), "{text}");
    }
    pair.are_well()
}

/// The commands that are printed to give up what bob has, without what is said beside them.
fn printed(pair: &Pair, on: &Node, of_both: bool) -> Result<Vec<(String, String)>> {
    let other = match on.name == "alice" {
        true => &pair.bob,
        false => &pair.alice,
    };
    let report = json(other, &["r0"])?.to_string();
    let text = match of_both {
        true => on.run(
            "rdbadm",
            &["split-brain", "--with-peer", "-", "r0"],
            Some(&report),
        )?,
        false => on.try_adm(&["split-brain", "r0"])?,
    };
    let text = text.ok()?;
    let lines = text.lines();
    let lines = lines
        .skip_while(|line| !line.starts_with("To keep what alice has"))
        .take_while(|line| !line.is_empty());
    let commands = lines.filter_map(|line| line.trim().split_once("# rdbadm "));
    Ok(commands
        .map(|(node, words)| {
            let words = words.split("  #").next().unwrap_or_default();
            (node.to_owned(), words.trim().to_owned())
        })
        .collect())
}

/// Types them on bob, who is to lose; each has to succeed. Alice's one is for a StandAlone node, and may not be needed.
fn type_them(pair: &Pair, commands: &[(String, String)]) -> Result<()> {
    ensure!(commands.len() > 2, "{commands:?}");
    for (node, words) in commands {
        let words: Vec<&str> = words.split(' ').collect();
        match node.as_str() {
            "bob" => drop(pair.bob.adm(&words)?),
            _ => ensure!(node == "alice" && words == ["connect", "r0"], "{node}"),
        }
    }
    Ok(())
}

/// Bob is Primary and waits for the connection, as alice does: nobody has seen the split brain yet.
#[test]
fn the_commands_for_a_loser_that_waits_work_as_printed() -> Result<()> {
    let mut pair = written_apart("evidence-waits", Conf::default())?;
    type_them(&pair, &printed(&pair, &pair.bob, true)?)?;
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    cable.heal()?;
    pair.settle(60)?;
    pair.disks_equal()?;
    pair.are_well()
}

/// Bob's daemon has been killed; once there is one again, what bob has printed brings it up without meeting alice too early.
#[test]
fn the_commands_for_a_loser_that_is_down_work_as_printed() -> Result<()> {
    let mut pair = written_apart("evidence-down", Conf::default())?;
    pair.bob.kill()?;
    let commands = printed(&pair, &pair.bob, false)?;
    ensure!(
        commands == printed(&pair, &pair.alice, true)?,
        "{commands:?}"
    );
    pair.bob.start()?;
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    cable.heal()?;
    type_them(&pair, &commands)?;
    pair.settle(60)?;
    pair.disks_equal()?;
    pair.are_well()
}

#[test]
fn a_crashed_primary_counts_what_its_activity_log_names() -> Result<()> {
    let mut pair = written_apart("evidence-crash", Conf::default())?;
    pair.alice.kill()?;
    let alice = json(&pair.alice, &["r0"])?;
    let volume = &alice["volumes"][0];
    // The first MiBs lie in one extent of 1024 blocks, which was hot.
    ensure!(volume["crashed-primary"] == true, "{alice}");
    ensure!(
        volume["marked"]["ranges"] == serde_json::json!([[0, 1024]]),
        "{alice}"
    );
    let count = |of: &str| volume[of].as_u64().unwrap_or(0);
    ensure!(count("log-blocks") > 1000, "{alice}");
    ensure!(volume["marked"]["count"] == 1024, "{alice}");
    let text = pair.alice.adm(&["split-brain", "r0"])?;
    ensure!(
        text.contains("was Primary when it went down: it crashed"),
        "{text}"
    );
    ensure!(
        text.contains("may have been written when it crashed, by its activity log"),
        "{text}"
    );
    // A disk that somebody has is not looked at behind his back.
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    let run_dir = pair.scratch.join("elsewhere").display().to_string();
    let out = pair
        .alice
        .try_adm(&["--run-dir", &run_dir, "split-brain", "r0"])?;
    ensure!(
        out.stderr
            .contains("is in use: another program has locked it"),
        "{out:?}"
    );
    // Attached, it has these blocks in its bitmap.
    let up = json(&pair.alice, &["r0"])?;
    ensure!(up["volumes"][0]["marked"]["count"] == 1024, "{up}");
    ensure!(up["volumes"][0]["crashed-primary"] == true, "{up}");
    pair.are_well()
}

#[test]
fn every_volume_is_told_and_one_if_it_is_named() -> Result<()> {
    let mut pair = parted("evidence-volumes", Plan::with_volumes(2))?;
    // (Not before: the first sync would wait for it.)
    "handlers { before-resync-target \"/usr/lib/rdb/snapshot-resync-target\"; }"
        .clone_into(&mut pair.plan.conf.resource);
    pair.write_conf()?;
    pair.alice.adm(&["adjust", "r0"])?;
    pair.alice.nbd(0)?.write(0, &[1; BLOCK])?;
    pair.alice.nbd(1)?.write(1 << 20, &[1; 3 * BLOCK])?;
    let alice = json(&pair.alice, &["r0"])?;
    let counts: Vec<_> = [0, 1]
        .map(|v| alice["volumes"][v]["marked"]["count"].as_u64())
        .into();
    ensure!(counts == [Some(1), Some(3)], "{alice}");
    ensure!(alice["kept-by"] == "snapshot", "{alice}");
    let one = json(&pair.alice, &["r0/1"])?;
    ensure!(
        one["volumes"].as_array().is_some_and(|all| all.len() == 1),
        "{one}"
    );
    ensure!(one["volumes"][0]["volume"] == 1, "{one}");
    let bob = json(&pair.bob, &["r0"])?;
    let file = pair.scratch.join("bob.json");
    std::fs::write(&file, bob.to_string())?;
    let file = file.display().to_string();
    // Bob has written nothing: that is no split brain.
    let text = pair
        .alice
        .adm(&["split-brain", "--with-peer", &file, "r0/1"])?;
    ensure!(
        text.contains("this node has all generations of the other one"),
        "{text}"
    );
    ensure!(text.contains("There is no split brain to decide"), "{text}");
    pair.are_well()
}

/// More than one piece of the bitmap is asked for.
#[test]
fn blocks_of_a_large_device_are_found_wherever_they_lie() -> Result<()> {
    let mut pair = Pair::fresh(
        "evidence-large",
        Plan {
            cable: true,
            disk_bytes: 20 << 30,
            ..Plan::default()
        },
    )?;
    pair.up()?;
    // Both are empty: nothing has to be synced.
    pair.alice
        .adm(&["--", "--clear-bitmap", "new-current-uuid", "r0"])?;
    pair.settle(60)?;
    pair.alice.adm(&["primary", "r0"])?;
    cut(&pair)?;
    for gib in [0, 9, 19] {
        pair.alice.nbd(0)?.write(gib << 30, &[7; BLOCK])?;
    }
    let expected = serde_json::json!([[0, 1], [9 << 18, 1], [19 << 18, 1]]);
    let alice = json(&pair.alice, &["r0"])?;
    let (count, ranges, _) = facts(&alice);
    ensure!(count == 3 && ranges == expected, "{alice}");
    pair.alice.adm(&["secondary", "r0"])?;
    pair.alice.adm(&["down", "r0"])?;
    let alice = json(&pair.alice, &["r0"])?;
    let (count, ranges, _) = facts(&alice);
    ensure!(count == 3 && ranges == expected, "{alice}");
    pair.are_well()
}

/// Makes what is to be written durable, and on the mirror's way.
fn sync(place: &Path) -> Result<()> {
    run_tool(60, "sync", &["-f", &place.display().to_string()]).map(drop)
}

fn mount(node: &Node, pair: &Pair) -> Result<PathBuf> {
    let device = node.device(0)?.display().to_string();
    let place = pair.scratch.join(format!("mnt-{}", node.name));
    std::fs::create_dir_all(&place)?;
    run_tool(60, "mount", &[&device, &place.display().to_string()])?;
    Ok(place)
}

fn umount(place: &Path) -> Result<()> {
    run_tool(60, "umount", &[place.display().to_string()]).map(drop)
}

/// Writes over blocks that a file has already.
fn overwrite(file: &Path, first: u64, blocks: usize) -> Result<()> {
    let file = std::fs::File::options().write(true).open(file)?;
    Ok(file.write_all_at(&vec![9; blocks * BLOCK], first * BLOCK as u64)?)
}

/// The blocks of a file among the marked ones.
fn blocks_of(side: &Value, path: &str) -> Option<u64> {
    let entries = side["volumes"][0]["files"]["entries"].as_array();
    let mut entries = entries.into_iter().flatten();
    entries.find(|entry| entry["path"] == path)?["blocks"].as_u64()
}

#[test]
fn the_files_in_the_blocks_are_named_mounted_or_not() -> Result<()> {
    let mut pair = Pair::synced(
        "evidence-files",
        Plan {
            frontend: "fuse",
            cable: true,
            ..Plan::default()
        },
    )?;
    let device = pair.alice.device(0)?.display().to_string();
    run_tool(60, "mkfs.ext4", &["-q", "-F", "-b", "4096", &device])?;
    let place = mount(&pair.alice, &pair)?;
    std::fs::create_dir(place.join("sub"))?;
    std::fs::write(place.join("before"), vec![1; 10 * BLOCK])?;
    sync(&place)?;
    pair.settle(60)?;
    cut(&pair)?;
    std::fs::write(place.join("sub/of alice"), vec![2; 7 * BLOCK])?;
    overwrite(&place.join("before"), 0, 3)?;
    sync(&place)?;
    pair.bob.adm(&["primary", "r0"])?;
    let bobs = mount(&pair.bob, &pair)?;
    std::fs::write(bobs.join("of-bob"), vec![3; 5 * BLOCK])?;
    overwrite(&bobs.join("before"), 1, 3)?;
    sync(&bobs)?;

    // Mounted: the files are walked over.
    let alice = json(&pair.alice, &["--files", "r0"])?;
    ensure!(blocks_of(&alice, "/sub/of alice") == Some(7), "{alice}");
    ensure!(blocks_of(&alice, "/before") == Some(3), "{alice}");
    let files = &alice["volumes"][0]["files"];
    ensure!(
        files["by"]
            .as_str()
            .is_some_and(|by| by.starts_with("filefrag, where it is mounted")),
        "{alice}"
    );
    // The file system's own blocks are no file's.
    let known = files["unknown"]["blocks"].as_u64().unwrap_or(0) + 10;
    ensure!(
        alice["volumes"][0]["marked"]["count"] == known && known > 10,
        "{alice}"
    );

    // With the other one's report it is told which both have written.
    umount(&bobs)?;
    meet(&pair)?;
    let bob = json(&pair.bob, &["r0"])?;
    let file = pair.scratch.join("bob.json");
    std::fs::write(&file, bob.to_string())?;
    let file = file.display().to_string();
    let text = pair
        .alice
        .adm(&["-v", "split-brain", "--with-peer", &file, "--files", "r0"])?;
    ensure!(text.contains("/sub/of alice (7 blocks"), "{text}");
    ensure!(
        text.contains("/before (3 blocks, 2 of them written by both)"),
        "{text}"
    );

    names_files_of_what_is_not_mounted(&pair)?;
    umount(&place)?;
    pair.are_well()
}

/// A disk that is not mounted, or a snapshot of it: debugfs.
fn names_files_of_what_is_not_mounted(pair: &Pair) -> Result<()> {
    pair.bob.adm(&["secondary", "r0"])?;
    let refused = pair
        .bob
        .try_adm(&["split-brain", "--files", "r0"])?
        .fails_with(1)?;
    ensure!(
        refused.contains("the volume is not mounted here"),
        "{refused}"
    );
    ensure!(
        refused.contains("written apart: "),
        "what is known is told all the same: {refused}"
    );
    let snapshot = pair.scratch.join("snapshot");
    std::fs::copy(pair.disk(1, 0), &snapshot)?;
    let on = format!("--files={}", snapshot.display());
    let bob = json(&pair.bob, &[&on, "r0"])?;
    ensure!(blocks_of(&bob, "/of-bob") == Some(5), "{bob}");
    let files = &bob["volumes"][0]["files"];
    ensure!(files["metadata-blocks"].as_u64() > Some(0), "{bob}");
    let entries = files["entries"].as_array().into_iter().flatten();
    let of_files: u64 = entries.filter_map(|entry| entry["blocks"].as_u64()).sum();
    let all = of_files
        + files["metadata-blocks"].as_u64().unwrap_or(0)
        + files["free-blocks"].as_u64().unwrap_or(0);
    ensure!(bob["volumes"][0]["marked"]["count"] == all, "{bob}");
    let text = pair.bob.adm(&["split-brain", &on, "r0"])?;
    ensure!(text.contains("/of-bob (5 blocks)"), "{text}");
    ensure!(text.contains("the file system's own metadata"), "{text}");
    let empty = pair.scratch.join("empty");
    std::fs::write(&empty, vec![0; 1 << 20])?;
    let on = format!("--files={}", empty.display());
    let refused = pair
        .bob
        .try_adm(&["split-brain", &on, "r0"])?
        .fails_with(1)?;
    ensure!(refused.contains("it has no file system"), "{refused}");
    Ok(())
}

#[test]
fn the_files_of_an_xfs_are_named_too() -> Result<()> {
    let mut pair = Pair::synced(
        "evidence-xfs",
        Plan {
            frontend: "fuse",
            cable: true,
            disk_bytes: 320 << 20,
            ..Plan::default()
        },
    )?;
    let device = pair.alice.device(0)?.display().to_string();
    run_tool(60, "mkfs.xfs", &["-q", "-f", &device])?;
    let files = pair.scratch.join("image");
    cut(&pair)?;
    // (Not every machine that runs this has xfs in its kernel; the file system is made with the file in it.)
    let content = pair.scratch.join("content");
    std::fs::write(&content, vec![5; 6 * BLOCK])?;
    let proto = pair.scratch.join("proto");
    let words = format!(
        "/\n0 0\nd--755 0 0\none ---644 0 0 {}\n$\n",
        content.display()
    );
    std::fs::write(&proto, words)?;
    let proto = proto.display().to_string();
    run_tool(60, "mkfs.xfs", &["-q", "-f", "-p", &proto, &device])?;
    std::fs::copy(pair.disk(0, 0), &files)?;
    let on = format!("--files={}", files.display());
    let alice = json(&pair.alice, &[&on, "r0"])?;
    ensure!(blocks_of(&alice, "/one") == Some(6), "{alice}");
    let found = &alice["volumes"][0]["files"];
    ensure!(
        found["by"]
            .as_str()
            .is_some_and(|by| by.starts_with("xfs_db of ")),
        "{alice}"
    );
    ensure!(found["metadata-blocks"].as_u64() > Some(0), "{alice}");
    pair.are_well()
}

#[test]
fn a_history_that_cannot_be_kept_costs_a_line_of_the_log() -> Result<()> {
    let mut pair = Pair::prepare("evidence-full", Plan::default())?;
    let in_the_way = pair.scratch.join("in-the-way");
    std::fs::write(&in_the_way, "a file")?;
    let settings = pair.scratch.join("rdbd.toml");
    std::fs::write(
        &settings,
        format!("state-dir = \"{}\"\n", in_the_way.display()),
    )?;
    pair.alice.settings = Some(settings);
    pair.begin()?;
    pair.sync_from(&pair.alice)?;
    wait_until("a line of the log", Duration::from_secs(10), || {
        Ok(pair.alice.logged("the history is not kept: ") > 0)
    })?;
    ensure!(
        pair.alice.logged("the history is not kept: ") == 1,
        "{}",
        pair.alice.log_tail(40)
    );
    let text = pair.alice.adm(&["split-brain", "r0"])?;
    ensure!(text.contains("since when is not in its history"), "{text}");
    pair.disks_equal()?;
    pair.are_well()
}
