//! `adjust` changes all of a resource or nothing, and the daemon of one node is not told what another one's configuration says.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Result, ensure};
use rdb_tests::pair::{DISK_BYTES, Plan};
use rdb_tests::writer::{Load, Model, Pace};
use rdb_tests::{Pair, disk};

/// Users write all the time.
#[test]
fn settings_of_both_nodes_change_while_they_are_connected() -> Result<()> {
    let mut pair = Pair::synced("adjust-net", Plan::default())?;
    let goes_by = |pair: &Pair, letters: [&str; 2]| -> Result<()> {
        for (node, letter) in [&pair.alice, &pair.bob].into_iter().zip(letters) {
            let volume = node.volume(0)?;
            ensure!(volume.cs == "Connected", "{}", volume.cs);
            ensure!(volume.protocol == letter, "protocol {}", volume.protocol);
        }
        Ok(())
    };
    goes_by(&pair, ["C", "C"])?;
    let model = Model::new(0, 4096);
    let socket = pair.alice.nbd_socket();
    let load = Load::start(&socket, "r0/0", &model, 11, Pace::default())?;
    load.progress(200)?;
    pair.plan.conf.protocol = 'A';
    pair.plan.conf.net =
        "data-integrity-alg crc32c; csums-alg md5; after-sb-0pri discard-zero-changes;".into();
    pair.write_conf()?;
    pair.alice.adm(&["adjust", "r0"])?;
    load.progress(500)?;
    goes_by(&pair, ["A", "C"])?;
    // One node has changed: both say what the next connection would come to.
    for node in [&pair.alice, &pair.bob] {
        let status = node.adm(&["status", "r0"])?;
        let said = status.contains("connection-reason: Connected since")
            && status.contains("protocol settings: here");
        ensure!(said, "{status}");
        node.try_adm(&["status", "--check", "r0"])?.fails_with(1)?;
    }
    pair.bob.adm(&["adjust", "r0"])?;
    load.progress(500)?;
    goes_by(&pair, ["A", "A"])?;
    load.stop()?;
    for node in [&pair.alice, &pair.bob] {
        let status = node.adm(&["status", "r0"])?;
        ensure!(!status.contains("reason"), "{status}");
        let shown = node.run("rdbsetup", &["show", "r0"], None)?.ok()?;
        let holds = shown.contains("crc32c") && shown.contains("discard-zero-changes");
        ensure!(holds, "{shown}");
        // Nothing is left to adjust.
        ensure!(node.adm(&["-d", "adjust", "r0"])?.is_empty());
    }
    pair.alice.nbd(0)?.flush()?;
    // They connect again by the same.
    pair.bob.adm(&["disconnect", "r0"])?;
    pair.bob.adm(&["connect", "r0"])?;
    pair.settle(60)?;
    goes_by(&pair, ["A", "A"])?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.disks_equal()?;
    pair.are_well()
}

/// Whatever a command takes from the configuration is for the node that is named there, and no other's daemon does it.
#[test]
fn another_nodes_daemon_is_not_asked() -> Result<()> {
    let mut pair = Pair::synced("anothers", Plan::default())?;
    let (before, shown) = (pair.alice.volume(0)?, pair.alice.adm(&["status"])?);
    for words in [
        "up",
        "down",
        "adjust",
        "attach",
        "detach",
        "connect",
        "disconnect",
        "primary",
        "secondary",
        "invalidate",
        "invalidate-remote",
        "outdate",
        "pause-sync",
        "resume-sync",
        "disk-options",
        "net-options",
        "resource-options",
        "new-resource",
        "new-minor",
        "new-current-uuid",
        "create-md",
        "wipe-md",
        "dump-md",
        "role",
        "cstate",
        "dstate",
        "get-gi",
        "show-gi",
        "wait-connect",
        "wait-sync",
    ] {
        let words = ["--node", "bob", words, "r0"];
        let refused = pair.alice.try_adm(&words)?.fails_with(20)?;
        ensure!(
            refused.contains("the daemon is that of node 'alice', the command is for node 'bob'"),
            "{words:?}: {refused}"
        );
    }
    for words in ["restart", "wait-con-int", "status"] {
        let words = ["--node", "bob", words];
        pair.alice.try_adm(&words)?.fails_with(20)?;
    }
    let now = pair.alice.volume(0)?;
    ensure!(
        (&before.ro, &before.ds, &before.cs) == (&now.ro, &now.ds, &now.cs),
        "{now:?}"
    );
    ensure!(pair.alice.adm(&["status"])? == shown);
    // What is in the configuration alone needs no daemon.
    ensure!(pair.alice.adm(&["--node", "bob", "sh-minor", "r0"])? == "0\n");
    pair.are_well()
}

/// A disk with metadata, which nobody uses.
fn new_disk(pair: &Pair, path: &Path, bytes: u64) -> Result<()> {
    disk::create(path, bytes)?;
    let words = ["--force", "-", "v08", path.to_str().unwrap_or_default()];
    let words = [&words[..], &["internal", "create-md"]].concat();
    pair.alice.run("rdbmeta", &words, None)?.ok()?;
    Ok(())
}

/// What alice's configuration says instead is looked at before what serves is given up.
#[test]
fn what_serves_is_not_given_up_for_what_does_not() -> Result<()> {
    let mut pair = Pair::synced("adjust-given-up", Plan::default())?;
    let (old_disk, old_address) = (pair.disk(0, 0).clone(), pair.hosts[0].address.clone());
    let [missing, blank, small, busy, good] =
        ["missing", "blank", "small", "busy", "good"].map(|name| pair.scratch.join(name));
    disk::create(&blank, DISK_BYTES)?;
    for (file, bytes) in [
        (&small, DISK_BYTES / 2),
        (&busy, DISK_BYTES),
        (&good, DISK_BYTES),
    ] {
        new_disk(&pair, file, bytes)?;
    }
    let lock = File::open(&busy)?;
    lock.lock()?;
    let directory = pair.scratch.path().to_owned();
    let before = pair.alice.volume(0)?;
    let refuses = |pair: &Pair, reason: &str| -> Result<()> {
        pair.write_conf()?;
        for words in [&["-d", "adjust", "r0"][..], &["adjust", "r0"]] {
            let said = pair.alice.try_adm(words)?.fails_with(10)?;
            let is_said = said.contains("nothing is adjusted") && said.contains(reason);
            ensure!(is_said, "{words:?}: {said}");
        }
        let now = pair.alice.volume(0)?;
        let states = [&before, &now].map(|v| (v.cs.clone(), v.ro.clone(), v.ds.clone()));
        ensure!(states[0] == states[1], "{states:?}");
        ensure!(pair.alice.adm(&["dstate", "r0"])? == "UpToDate/UpToDate\n");
        Ok(())
    };
    for (path, reason) in [
        (&missing, "No such file"),
        (&directory, "neither a block device nor a file"),
        (&blank, "no valid metadata"),
        (&small, "too small"),
        (&busy, "another program has locked it"),
    ] {
        pair.hosts[0].data[0].clone_from(path);
        refuses(&pair, reason)?;
    }
    pair.hosts[0].data[0].clone_from(&old_disk);
    let strangers = TcpListener::bind(old_address.replace(":7789", ":7790"))?;
    for (address, reason) in [
        (strangers.local_addr()?.to_string(), "can not listen"),
        (pair.hosts[1].address.clone(), "and the peer's"),
    ] {
        pair.hosts[0].address = address;
        refuses(&pair, reason)?;
    }
    drop(strangers);
    // What can serve takes the place.
    pair.hosts[0].address = old_address;
    pair.hosts[0].data[0] = good;
    pair.write_conf()?;
    pair.alice.adm(&["adjust", "r0"])?;
    pair.settle(60)?;
    pair.disks_equal()?;
    pair.are_well()
}

/// Two volumes are to have one disk: that shows when the second asks for it. And a digest that the daemon does not know.
#[test]
fn what_was_given_up_in_vain_is_put_back() -> Result<()> {
    let mut pair = Pair::synced("adjust-put-back", Plan::with_volumes(2))?;
    let new = pair.scratch.join("new");
    new_disk(&pair, &new, DISK_BYTES)?;
    let old = pair.hosts[0].data.clone();
    // The configuration sees two names.
    let alias = pair.scratch.join("alias");
    symlink(&new, &alias)?;
    pair.hosts[0].data = vec![new, alias];
    pair.write_conf()?;
    let said = pair.alice.try_adm(&["adjust", "r0"])?.fails_with(1)?;
    let back = format!(
        "r0: the old disk of volume 1 is attached again: {}",
        old[1].display()
    );
    ensure!(said.contains(&back), "{said}");
    pair.settle(60)?;
    pair.hosts[0].data[1].clone_from(&old[1]);
    pair.plan.conf.net = "cram-hmac-alg \"whirlpool\"; shared-secret \"a\";".to_owned();
    let old_address = pair.hosts[0].address.clone();
    pair.hosts[0].address = old_address.replace(":7789", ":7790");
    pair.write_conf()?;
    let said = pair.alice.try_adm(&["adjust", "r0"])?.fails_with(1)?;
    let back = format!("r0: it connects again from {old_address} to ");
    ensure!(said.contains(&back), "{said}");
    pair.settle(60)?;
    pair.are_well()
}

/// The configuration has a new disk: each command that refuses says what leads on.
#[test]
fn a_new_disk_in_the_configuration_takes_the_old_ones_place_by_what_the_hints_say() -> Result<()> {
    let mut pair = Pair::synced("adjust-new-disk", Plan::with_volumes(2))?;
    let new = pair.scratch.join("new");
    disk::create(&new, DISK_BYTES)?;
    let old = std::mem::replace(&mut pair.hosts[0].data[0], new);
    pair.write_conf()?;
    let said = pair.alice.try_adm(&["adjust", "r0"])?.fails_with(10)?;
    let way = [
        "'rdbadm detach r0/0'",
        "'rdbadm create-md r0/0'",
        "'rdbadm adjust r0'",
    ];
    for words in way {
        ensure!(said.contains(words), "{said}");
    }
    let said = pair.alice.try_adm(&["create-md", "r0/0"])?.fails_with(20)?;
    let named = format!("Hint: the disk that is attached is {}; ", old.display());
    ensure!(
        said.contains(&named) && said.contains(way[0]) && said.contains(way[2]),
        "{said}"
    );
    let said = pair.alice.try_adm(&["wipe-md", "--force", "r0/1"])?;
    let said = said.fails_with(20)?;
    ensure!(said.contains("'rdbadm detach r0/1' first"), "{said}");
    pair.alice.adm(&["detach", "r0/0"])?;
    pair.alice.adm(&["create-md", "--force", "r0/0"])?;
    pair.alice.adm(&["adjust", "r0"])?;
    pair.settle(60)?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.disks_equal()?;
    pair.are_well()
}

/// Its disk is gone, and so is its connection: what brings the users' data back must not wait for the disk.
#[test]
fn a_primary_without_a_disk_is_connected_though_its_disk_can_not_be_attached() -> Result<()> {
    let mut pair = Pair::synced("adjust-diskless", Plan::with_volumes(2))?;
    pair.alice.nbd(0)?.write(0, &[7; 4096])?;
    for words in [["detach", "r0", ""], ["disconnect", "--force", "r0"]] {
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        pair.alice.adm(&words)?;
    }
    let gone = &pair.hosts[0].data[0];
    let aside = gone.with_extension("aside");
    std::fs::rename(gone, &aside)?;
    for words in ["adjust", "adjust-with-progress"] {
        let said = pair.alice.try_adm(&[words, "r0"])?.fails_with(1)?;
        ensure!(said.contains(&*gone.to_string_lossy()), "{said}");
        let volume = pair
            .alice
            .await_volume("bob's data", 30, |v| v.ds == "Diskless/UpToDate")?;
        ensure!(volume.ro == "Primary/Secondary", "{volume:?}");
        ensure!(pair.alice.nbd(0)?.read(0, 4096)? == [7; 4096]);
        // Beside the peer it is known that the other volume's disk is good.
        pair.alice.try_adm(&["adjust", "r0"])?.fails_with(1)?;
        pair.alice
            .await_minor(1, "the other volume", 60, |v| v.is_settled())?;
        pair.alice.adm(&["detach", "r0/1"])?;
        pair.alice.adm(&["disconnect", "--force", "r0"])?;
    }
    pair.alice.adm(&["connect", "r0"])?;
    pair.alice
        .await_volume("bob's data", 30, |v| v.ds == "Diskless/UpToDate")?;
    std::fs::rename(&aside, gone)?;
    pair.alice.adm(&["adjust", "r0"])?;
    pair.settle(60)?;
    pair.are_well()
}

/// A resource that was not up at all comes as far as it can: its volumes are there, the good one with its disk, and it is connected.
#[test]
fn a_node_whose_disk_can_not_be_attached_is_connected_at_once() -> Result<()> {
    let mut pair = Pair::synced("adjust-new-diskless", Plan::with_volumes(2))?;
    let gone = pair.hosts[1].data[0].clone();
    let aside = gone.with_extension("aside");
    for words in ["adjust", "adjust-with-progress"] {
        pair.bob.adm(&["down", "r0"])?;
        std::fs::rename(&gone, &aside)?;
        let said = pair.bob.try_adm(&[words, "r0"])?.fails_with(1)?;
        ensure!(said.contains(&*gone.to_string_lossy()), "{said}");
        pair.bob
            .await_volume("alice's data", 30, |v| v.ds == "Diskless/UpToDate")?;
        pair.bob
            .await_minor(1, "the other volume", 60, |v| v.is_settled())?;
        std::fs::rename(&aside, &gone)?;
        pair.bob.adm(&["adjust", "r0"])?;
        pair.settle(60)?;
    }
    pair.are_well()
}

#[test]
fn progress_names_the_resources_of_each_kind_of_steps() -> Result<()> {
    let pair = Pair::fresh("adjust-progress", Plan::with_volumes(2))?;
    let said = pair.alice.adm(&["adjust-with-progress", "r0"])?;
    assert_eq!(
        said,
        "[\n     create res: r0\n   prepare disk: r0\n    adjust disk: r0\n     adjust net: r0\n]\n"
    );
    assert_eq!(pair.alice.adm(&["adjust-with-progress", "all"])?, "[\n]\n");
    pair.alice.adm(&["disconnect", "r0"])?;
    assert_eq!(
        pair.alice.adm(&["adjust-with-progress", "r0"])?,
        "[\n     adjust net: r0\n]\n"
    );
    pair.alice.adm(&["down", "r0"])?;
    std::fs::remove_file(&pair.hosts[0].data[1])?;
    let out = pair.alice.try_adm(&["adjust-with-progress", "r0"])?;
    let said = out.fails_with(1)?;
    assert!(said.contains("   prepare disk: r0:failed("), "{said}");
    // The minor that rdbsetup is asked for has to be there.
    let asked = |minor| pair.alice.run("rdbsetup", &["check-resize", minor], None);
    asked("0")?.ok()?;
    let said = asked("7")?.fails_with(10)?;
    assert!(
        said.starts_with("7: Failure: (127) Device minor not allocated"),
        "{said}"
    );
    Ok(())
}

/// As `drbdadm net-options --timeout=50 r0` does it: what is not named stays as it runs, whatever the file says meanwhile.
#[test]
fn options_of_the_command_line_are_set_and_no_others() -> Result<()> {
    let mut pair = Pair::synced("adjust-given", Plan::default())?;
    pair.plan.conf.net = "max-buffers 9000;".into();
    pair.write_conf()?;
    let drbdadm = |words: &[&str]| pair.alice.run("drbdadm", words, None);
    drbdadm(&["net-options", "--timeout=50", "r0"])?.ok()?;
    drbdadm(&["disk-options", "--c-max-rate", "7M", "r0/0"])?.ok()?;
    drbdadm(&[
        "resource-options",
        "--on-no-data-accessible=suspend-io",
        "r0",
    ])?
    .ok()?;
    let shown = pair.alice.run("drbdsetup", &["show", "r0"], None)?.ok()?;
    for words in [
        "timeout         \t50;",
        "c-max-rate      \t7168k;",
        "suspend-io;",
    ] {
        ensure!(shown.contains(words), "{words}: {shown}");
    }
    ensure!(!shown.contains("max-buffers"), "{shown}");
    drbdadm(&["disconnect", "r0"])?.ok()?;
    let refusal = drbdadm(&["net-options", "--timeout=60", "r0"])?;
    ensure!(refusal.code != 0, "{refusal:?}");
    // A connection has what is given beside what is configured.
    drbdadm(&["connect", "--ping-int=3", "r0"])?.ok()?;
    let shown = pair.alice.run("drbdsetup", &["show", "r0"], None)?.ok()?;
    ensure!(
        shown.contains("ping-int        \t3;") && shown.contains("max-buffers     \t9000;"),
        "{shown}"
    );
    pair.settle(30)
}
