//! What becomes of a split brain by each policy, with real programs (`docs/spec/behaviour.md`, sections 5.4 and 5.5, S16).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::net::Cut;
use rdb_tests::pair::Plan;
use rdb_tests::{Conf, Node, Pair, disk, wait_until};

/// Where each node writes; they do so apart.
const PLACES: [u64; 2] = [1 << 20, 2 << 20];
const BLOCK: u64 = 4096;

/// Whose data stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stays {
    Alices,
    Bobs,
    /// Nobody's go: both nodes have what they had.
    Both,
}

/// A way to meet again. alice was the Primary when they parted, and bob became one later.
struct Row {
    net: &'static str,
    /// alice is Primary still.
    alice_primary: bool,
    /// How many blocks each has written.
    wrote: [u64; 2],
    stays: Stays,
}

const fn row(net: &'static str, alice_primary: bool, wrote: [u64; 2], stays: Stays) -> Row {
    Row {
        net,
        alice_primary,
        wrote,
        stays,
    }
}

const ROWS: [Row; 20] = [
    row("after-sb-0pri disconnect;", false, [1, 2], Stays::Both),
    row(
        "after-sb-0pri discard-younger-primary;",
        false,
        [1, 2],
        Stays::Alices,
    ),
    row(
        "after-sb-0pri discard-older-primary;",
        false,
        [2, 1],
        Stays::Bobs,
    ),
    row(
        "after-sb-0pri discard-zero-changes;",
        false,
        [0, 2],
        Stays::Bobs,
    ),
    row(
        "after-sb-0pri discard-zero-changes;",
        false,
        [2, 0],
        Stays::Alices,
    ),
    row(
        "after-sb-0pri discard-zero-changes;",
        false,
        [1, 2],
        Stays::Both,
    ),
    row(
        "after-sb-0pri discard-least-changes;",
        false,
        [1, 2],
        Stays::Bobs,
    ),
    row(
        "after-sb-0pri discard-least-changes;",
        false,
        [2, 1],
        Stays::Alices,
    ),
    row(
        "after-sb-0pri discard-node-alice;",
        false,
        [2, 1],
        Stays::Bobs,
    ),
    row(
        "after-sb-0pri discard-node-bob;",
        false,
        [1, 2],
        Stays::Alices,
    ),
    row(
        "after-sb-0pri discard-least-changes;",
        true,
        [1, 2],
        Stays::Both,
    ),
    row(
        "after-sb-0pri discard-least-changes; after-sb-1pri consensus;",
        true,
        [1, 2],
        Stays::Both,
    ),
    row(
        "after-sb-0pri discard-least-changes; after-sb-1pri consensus;",
        true,
        [3, 2],
        Stays::Alices,
    ),
    row(
        "after-sb-1pri discard-secondary;",
        true,
        [1, 2],
        Stays::Alices,
    ),
    row(
        "after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p;",
        true,
        [3, 2],
        Stays::Alices,
    ),
    row(
        "after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p;",
        true,
        [1, 2],
        Stays::Both,
    ),
    row(
        "after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p; rr-conflict violently;",
        true,
        [1, 2],
        Stays::Bobs,
    ),
    row(
        "after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p; rr-conflict call-pri-lost;",
        true,
        [1, 2],
        Stays::Bobs,
    ),
    row(
        "after-sb-0pri discard-least-changes; after-sb-1pri call-pri-lost-after-sb;",
        true,
        [1, 2],
        Stays::Bobs,
    ),
    row(
        "after-sb-0pri discard-least-changes; after-sb-1pri call-pri-lost-after-sb;",
        true,
        [2, 1],
        Stays::Alices,
    ),
];

/// Both nodes have written apart and are to meet, with alice Primary or not.
fn part(pair: &Pair, row: &Row, fill: u8) -> Result<()> {
    // (What the peer has not confirmed to be durable counts as written alone.)
    for command in ["suspend-io", "resume-io"] {
        pair.alice.adm(&[command, "r0"])?;
    }
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    cable.cut(Cut::LinkDown)?;
    for node in [&pair.alice, &pair.bob] {
        node.await_volume("the cut", 30, |volume| volume.cs == "WFConnection")?;
    }
    write(&pair.alice, 0, row, fill)?;
    if !row.alice_primary {
        pair.alice.adm(&["secondary", "r0"])?;
    }
    pair.bob.adm(&["primary", "r0"])?;
    write(&pair.bob, 1, row, fill)?;
    pair.bob.adm(&["secondary", "r0"])?;
    Ok(())
}

fn write(node: &Node, index: usize, row: &Row, fill: u8) -> Result<()> {
    let bytes = usize::try_from(row.wrote[index] * BLOCK)?;
    if bytes > 0 {
        node.nbd(0)?.write(PLACES[index], &vec![fill; bytes])?;
    }
    Ok(())
}

fn heal(pair: &Pair) -> Result<()> {
    pair.cable
        .as_ref()
        .context("the pair has a cable")?
        .heal()
        .map(drop)
}

/// What stands at the place of a node's writes, on both disks.
fn found(pair: &Pair, place: u64) -> Result<[u8; 2]> {
    let byte = |node| -> Result<u8> { Ok(disk::read(pair.disk(node, 0), place, 512)?[0]) };
    Ok([byte(0)?, byte(1)?])
}

fn reconfigure(pair: &mut Pair, net: &str, resource: &str) -> Result<()> {
    pair.plan.conf.net = net.to_owned();
    pair.plan.conf.resource = resource.to_owned();
    pair.write_conf()?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["adjust", "r0"])?;
    }
    pair.settle(30)
}

fn begin(name: &str) -> Result<Pair> {
    Pair::synced(
        name,
        Plan {
            conf: Conf::default(),
            cable: true,
            ..Plan::default()
        },
    )
}

fn both_are_settled(pair: &Pair, words: &str) -> Result<()> {
    let refused = |node: &Node| Ok::<_, anyhow::Error>(node.volume(0)?.cs == "StandAlone");
    wait_until(words, Duration::from_secs(30), || {
        Ok(refused(&pair.alice)? || refused(&pair.bob)?)
    })
}

/// The administrator throws bob's away, so that the next row may begin. (A policy that decides would count more than he.)
fn settle_by_hand(pair: &mut Pair) -> Result<()> {
    pair.plan.conf.net = String::new();
    pair.write_conf()?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["down", "r0"])?;
    }
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["up", "r0"])?;
    }
    both_are_settled(pair, "the refusal by no policy")?;
    let _ = pair.bob.try_adm(&["disconnect", "r0"])?;
    pair.bob.adm(&["connect", "--discard-my-data", "r0"])?;
    if pair.alice.volume(0)?.cs == "StandAlone" {
        pair.alice.adm(&["connect", "r0"])?;
    }
    pair.settle(60)
}

fn about(pair: &Pair, row: &Row) -> String {
    let role = match row.alice_primary {
        true => "Primary",
        false => "Secondary",
    };
    format!(
        "{} alice {role} wrote {:?}: {:?}\nalice:\n{}\nbob:\n{}",
        row.net,
        row.wrote,
        row.stays,
        pair.alice.log_tail(25),
        pair.bob.log_tail(25)
    )
}

fn come_to(pair: &Pair, row: &Row, fill: u8, before: [u8; 2]) -> Result<()> {
    // What each disk has at alice's place, and at bob's.
    let alices = if row.wrote[0] > 0 { fill } else { before[0] };
    let bobs = if row.wrote[1] > 0 { fill } else { before[1] };
    let expected = match row.stays {
        Stays::Alices => [[alices; 2], [before[1]; 2]],
        Stays::Bobs => [[before[0]; 2], [bobs; 2]],
        Stays::Both => [[alices, before[0]], [before[1], bobs]],
    };
    if row.stays == Stays::Both {
        both_are_settled(pair, "the refusal")?;
    } else {
        pair.settle(60)?;
    }
    for (place, expected) in PLACES.into_iter().zip(expected) {
        let found = found(pair, place)?;
        ensure!(found == expected, "at {place}: {found:x?}");
    }
    Ok(())
}

#[test]
fn every_policy_keeps_whose_data_it_says() -> Result<()> {
    let mut pair = begin("policies")?;
    let mut fill = 0x10;
    for row in ROWS {
        let (was, now) = (fill, fill + 1);
        fill += 2;
        reconfigure(&mut pair, row.net, "")?;
        if pair.alice.volume(0)?.ro.starts_with("Secondary") {
            pair.alice.adm(&["primary", "r0"])?;
        }
        // (All that a row may write is the same on both nodes before.)
        let mut client = pair.alice.nbd(0)?;
        for place in PLACES {
            client.write(place, &[was; 4 * 4096])?;
        }
        drop(client);
        part(&pair, &row, now).with_context(|| about(&pair, &row))?;
        heal(&pair)?;
        come_to(&pair, &row, now, [was; 2]).with_context(|| about(&pair, &row))?;
        if row.stays == Stays::Both {
            settle_by_hand(&mut pair).with_context(|| about(&pair, &row))?;
        }
    }
    pair.disks_equal()?;
    pair.are_well()
}

#[test]
fn a_primary_that_has_lost_calls_its_handler_and_then_gives_up() -> Result<()> {
    let mut pair = begin("pri-lost")?;
    let here = pair.scratch.path().display().to_string();
    let handler =
        |name: &str| format!("{name} \"echo {name} >> {here}/$RDB_NODE.calls; sleep 1\";");
    let handlers = format!(
        "handlers {{ {} {} }}",
        handler("pri-lost-after-sb"),
        handler("pri-lost")
    );
    let row = row(
        "after-sb-0pri discard-least-changes; after-sb-1pri call-pri-lost-after-sb;",
        true,
        [1, 2],
        Stays::Bobs,
    );
    reconfigure(&mut pair, row.net, &handlers)?;
    part(&pair, &row, 0x33)?;
    // Somebody uses the device: it stays Primary until he has gone.
    let user = pair.alice.nbd(0)?;
    heal(&pair)?;
    wait_until("the word", Duration::from_secs(30), || {
        Ok(pair
            .alice
            .logged("it has lost and is to give up its data, and stays Primary")
            == 1)
    })
    .with_context(|| pair.alice.log_tail(30))?;
    let volume = pair.alice.volume(0)?;
    ensure!(
        volume.ro.starts_with("Primary") && volume.cs == "StandAlone",
        "{volume:?}"
    );
    drop(user);
    come_to(&pair, &row, 0x33, [0, 0])?;
    let calls = std::fs::read_to_string(pair.scratch.join("alice.calls"))?;
    ensure!(calls == "pri-lost-after-sb\n", "{calls}");
    ensure!(pair.alice.logged("it has lost, and is Secondary now") == 1);
    pair.disks_equal()?;
    pair.are_well()
}

#[test]
fn a_command_of_the_administrator_ends_what_a_loser_would_do() -> Result<()> {
    let mut pair = begin("pri-lost-kept")?;
    let row = row(
        "after-sb-0pri discard-least-changes; after-sb-1pri call-pri-lost-after-sb;",
        true,
        [1, 2],
        Stays::Bobs,
    );
    reconfigure(&mut pair, row.net, "")?;
    part(&pair, &row, 0x44)?;
    let user = pair.alice.nbd(0)?;
    heal(&pair)?;
    wait_until("the word", Duration::from_secs(30), || {
        Ok(pair.alice.logged("stays Primary: somebody uses its device") == 1)
    })
    .with_context(|| pair.alice.log_tail(30))?;
    let about_to = "becomes Secondary as soon as nobody uses its device";
    let status = pair.alice.adm(&["status"])?;
    ensure!(status.contains(about_to), "{status}");
    // Refused, for it is StandAlone already; but it says what is wanted.
    let refused = pair.alice.try_adm(&["disconnect", "r0"])?;
    ensure!(refused.code != 0, "{refused:?}");
    drop(user);
    // Longer than it would have taken.
    std::thread::sleep(Duration::from_secs(4));
    let status = pair.alice.adm(&["status"])?;
    ensure!(!status.contains(about_to), "{status}");
    let volume = pair.alice.volume(0)?;
    ensure!(
        volume.cs == "StandAlone" && volume.ro.starts_with("Primary"),
        "{volume:?}"
    );
    ensure!(found(&pair, PLACES[0])? == [0x44, 0], "something has gone");
    pair.are_well()
}
