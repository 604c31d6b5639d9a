//! Disks that are too small, damaged, or somebody else's; configurations with mistakes: an error
//! that names the thing and the place, and nothing touched.

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::scratch::Loop;
use rdb_tests::{Conf, Pair, disk};

/// Alice alone with metadata, her daemon running, not up.
fn alice(name: &str) -> Result<Pair> {
    let mut pair = Pair::prepare(name, Plan::default())?;
    pair.alice.adm(&["create-md", "--force", "r0"])?;
    disk::write(pair.disk(0, 0), 4096, b"the only copy")?;
    pair.alice.start()?;
    Ok(pair)
}

/// `up` fails with words, and the disk is as it was.
fn up_is_refused(pair: &mut Pair, words: &[&str]) -> Result<()> {
    let before = std::fs::read(pair.disk(0, 0))?;
    let out = pair.alice.try_adm(&["up", "r0"])?;
    let text = format!("{}{}", out.stdout, out.stderr);
    ensure!(out.code != 0, "up succeeded: {text}");
    ensure!(
        words.iter().all(|word| text.contains(word)),
        "{words:?} are not all in: {text}"
    );
    ensure!(
        std::fs::read(pair.disk(0, 0))? == before,
        "the refused command wrote to the disk"
    );
    pair.alice.is_well()?;
    pair.alice.adm(&["down", "r0"])?;
    Ok(())
}

#[test]
fn a_disk_without_metadata() -> Result<()> {
    let mut pair = alice("no-md")?;
    disk::write(pair.disk(0, 0), disk::superblock(64 << 20), &[0; 4096])?;
    up_is_refused(&mut pair, &["No valid meta"])
}

#[test]
fn a_corrupt_superblock() -> Result<()> {
    let mut pair = alice("bad-sb")?;
    let at = disk::superblock(64 << 20);
    let good = disk::read(pair.disk(0, 0), at, 4096)?;
    // docs/spec/metadata.md, section 2.1: magic, md_size_sect, al_offset, bm_offset,
    // bm_bytes_per_bit, al_stripes.
    for field in [60, 64, 68, 76, 80, 88] {
        let mut bad = good.clone();
        bad[field..field + 4].copy_from_slice(&[0x5a, 0xa5, 0x5a, 0xa5]);
        disk::write(pair.disk(0, 0), at, &bad)?;
        up_is_refused(&mut pair, &[]).with_context(|| format!("the field at {field}"))?;
    }
    disk::write(pair.disk(0, 0), at, &good)?;
    pair.alice.adm(&["up", "r0"])?;
    Ok(())
}

#[test]
fn random_damage_to_the_metadata_never_takes_the_daemon_down() -> Result<()> {
    let mut rng = rdb_tests::rng::Rng::from_env();
    let mut pair = alice("fuzz-md")?;
    let (start, end) = (disk::data_end(64 << 20), 64u64 << 20);
    let good = disk::read(pair.disk(0, 0), start, usize::try_from(end - start)?)?;
    for _ in 0..40 {
        let mut bad = good.clone();
        for _ in 0..=rng.below(20) {
            // Mostly the superblock, which is the last block.
            let span = if rng.below(3) == 0 { bad.len() } else { 128 };
            let base = if span == 128 { bad.len() - 4096 } else { 0 };
            let at = base + usize::try_from(rng.below(span as u64))?;
            bad[at] = u8::try_from(rng.below(256))?;
        }
        disk::write(pair.disk(0, 0), start, &bad)?;
        let before = disk::fingerprint(pair.disk(0, 0), start)?;
        let out = pair.alice.try_adm(&["up", "r0"])?;
        ensure!(
            out.code == 0 || !out.stderr.is_empty(),
            "a failure without a word: {out:?}"
        );
        ensure!(
            out.code != 101 && !out.stderr.contains("panicked"),
            "{out:?}"
        );
        for command in [&["dump-md", "r0"][..], &["get-gi", "r0"], &["dstate", "r0"]] {
            let out = pair.alice.try_adm(command)?;
            ensure!(
                out.code != 101 && !out.stderr.contains("panicked"),
                "{out:?}"
            );
        }
        pair.alice.is_well()?;
        pair.alice.adm(&["down", "r0"])?;
        ensure!(
            disk::fingerprint(pair.disk(0, 0), start)? == before,
            "data was touched"
        );
    }
    Ok(())
}

#[test]
fn a_corrupt_activity_log() -> Result<()> {
    let mut pair = alice("bad-al")?;
    pair.alice.adm(&["up", "r0"])?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    pair.alice.nbd(0)?.write(8 << 20, &[1; 4096])?;
    pair.alice.kill()?;
    // Every transaction loses its checksum: what was hot is not known any more.
    let log = disk::superblock(64 << 20) - 32768;
    for block in 0..8 {
        disk::write(pair.disk(0, 0), log + block * 4096 + 100, &[0x77; 64])?;
    }
    pair.alice.start()?;
    let before = disk::fingerprint(pair.disk(0, 0), disk::data_end(64 << 20))?;
    let out = pair.alice.try_adm(&["up", "r0"])?;
    ensure!(out.code != 0, "a lost activity log went unnoticed: {out:?}");
    let text = format!("{}{}", out.stdout, out.stderr).to_lowercase();
    ensure!(
        text.contains("activity log") || text.contains("apply-al"),
        "{text}"
    );
    ensure!(disk::fingerprint(pair.disk(0, 0), disk::data_end(64 << 20))? == before);
    pair.alice.is_well()
}

#[test]
fn too_small_disks() -> Result<()> {
    let mut pair = Pair::prepare(
        "small",
        Plan {
            disk_bytes: 64 << 10,
            ..Plan::default()
        },
    )?;
    let out = pair.alice.try_adm(&["create-md", "--force", "r0"])?;
    ensure!(
        out.code == 10 && out.stderr.contains("not enough"),
        "{out:?}"
    );
    ensure!(
        std::fs::read(pair.disk(0, 0))?
            .iter()
            .all(|byte| *byte == 0),
        "it was written to"
    );

    // Shrunk after create-md: the superblock is not where it was.
    disk::create(pair.disk(0, 0), 16 << 20)?;
    pair.alice.adm(&["create-md", "--force", "r0"])?;
    std::fs::File::options()
        .write(true)
        .open(pair.disk(0, 0))?
        .set_len(8 << 20)?;
    pair.alice.start()?;
    up_is_refused(&mut pair, &["meta"])?;

    // `size` wants more than there is.
    let mut pair = alice("small-size")?;
    pair.plan.conf.disk = "size 1G;".into();
    pair.write_conf()?;
    up_is_refused(
        &mut pair,
        &["(111)", "Low.dev. smaller than requested DRBD-dev. size."],
    )
}

#[test]
fn a_peer_with_a_smaller_disk_than_the_data_is_refused() -> Result<()> {
    let mut pair = Pair::synced("shrunk", Plan::default())?;
    pair.bob.adm(&["down", "r0"])?;
    disk::create(pair.disk(1, 0), 32 << 20)?;
    pair.bob.adm(&["create-md", "--force", "r0"])?;
    let before = disk::fingerprint(pair.disk(0, 0), pair.data_bytes())?;
    pair.bob.adm(&["up", "r0"])?;
    rdb_tests::wait_until("the refusal", std::time::Duration::from_secs(20), || {
        Ok(pair.alice.volume(0)?.cs == "StandAlone" || pair.bob.volume(0)?.cs == "StandAlone")
    })?;
    let logs = format!("{}{}", pair.alice.log(), pair.bob.log());
    ensure!(logs.contains("peer's disk size is too small!"), "{logs}");
    ensure!(disk::fingerprint(pair.disk(0, 0), pair.data_bytes())? == before);
    pair.are_well()
}

#[test]
fn a_disk_in_use() -> Result<()> {
    // The loop device is mounted: the kernel does not give it to anybody else.
    let mut pair = Pair::prepare("in-use", Plan::default())?;
    let device = Loop::new(pair.disk(0, 0))?;
    let mount = pair.scratch.join("mnt");
    std::fs::create_dir(&mount)?;
    for command in [
        vec!["mkfs.ext4", "-q", "-F", device.device(), "48M"],
        vec!["mount", device.device(), &mount.display().to_string()],
    ] {
        rdb_tests::programs::run_tool(60, command[0], &command[1..])?;
    }
    pair.hosts[0].data[0] = device.device().into();
    pair.write_conf()?;
    let out = pair.alice.try_adm(&["create-md", "--force", "r0"])?;
    if out.code == 0 {
        pair.alice.start()?;
        let out = pair.alice.try_adm(&["up", "r0"])?;
        ensure!(out.code == 1 && out.stderr.contains("(114)"), "{out:?}");
    } else {
        ensure!(out.stderr.contains(device.device()), "{out:?}");
    }
    rdb_tests::programs::run_tool(30, "umount", &[mount.display().to_string()])?;
    Ok(())
}

#[test]
fn mistakes_in_the_configuration_are_named_with_file_and_line() -> Result<()> {
    let pair = Pair::prepare(
        "mistakes",
        Plan {
            conf: Conf::default(),
            ..Plan::default()
        },
    )?;
    let good = pair.plan.conf.text(&pair.hosts);
    let cases: [(&str, &str, &[&str]); 9] = [
        (
            "connect-int 1;",
            "connect-int 1",
            &["drbd.conf:3:", "';' expected"],
        ),
        (
            "connect-int 1;",
            "conect-int 1;",
            &["drbd.conf:3:", "conect-int"],
        ),
        (
            "connect-int 1;",
            "connect-int 500;",
            &["drbd.conf:3:", "connect-int", "out of range [1..120]"],
        ),
        ("protocol C;", "protocol D;", &["protocol", "D"]),
        ("net {", "nett {", &["drbd.conf:3:", "nett"]),
        ("meta-disk internal;", "", &["meta-disk", "missing"]),
        (
            "on bob",
            "on alice",
            &["conflicting use of host section 'r0: on alice'"],
        ),
        (":7789;", ":77890;", &["77890", "out of range [1..65535]"]),
        (
            "resource r0 {",
            "resource \"r0 {",
            &["drbd.conf:2:", "quoted string"],
        ),
    ];
    for (from, to, words) in cases {
        std::fs::write(&pair.alice.conf, good.replacen(from, to, 1))?;
        let out = pair.alice.try_adm(&["up", "r0"])?;
        let text = format!("{}{}", out.stdout, out.stderr);
        ensure!(out.code == 10, "{to:?}: exit code {}: {text}", out.code);
        for word in words {
            ensure!(text.contains(word), "{to:?}: {word:?} is not in: {text}");
        }
    }
    // Not for this host, no such resource, no file, no such command.
    std::fs::write(&pair.alice.conf, &good)?;
    let out = pair.alice.try_adm(&["up", "r9"])?.fails_with(1)?;
    ensure!(
        out.contains("'r9' not defined in your config (for this host)."),
        "{out}"
    );
    let stranger = rdb_tests::Node::new(pair.scratch.path(), "carol", &pair.alice.conf)?;
    let out = stranger.try_adm(&["up", "all"])?.fails_with(1)?;
    ensure!(
        out.contains("no normal resources defined for this host (carol)"),
        "{out}"
    );
    let nowhere = rdb_tests::Node::new(pair.scratch.path(), "alice", &pair.scratch.join("none"))?;
    let out = nowhere.try_adm(&["up", "r0"])?.fails_with(10)?;
    ensure!(
        out.contains("none") && out.contains("No such file or directory"),
        "{out}"
    );
    let out = pair.alice.try_adm(&["promote", "r0"])?;
    ensure!(out.code == 1 && out.stderr.contains("promote"), "{out:?}");
    Ok(())
}
