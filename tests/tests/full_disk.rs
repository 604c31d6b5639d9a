//! Backing disks that run full (`on-no-space`): sparse files on a small file system that something else fills, and
//! empties again.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::nbd::Client;
use rdb_tests::pair::Plan;
use rdb_tests::programs::run_tool;
use rdb_tests::{Conf, Node, Pair, wait_until};

const DISK_BYTES: u64 = 16 << 20;
const BLOCK: usize = 64 << 10;

/// A file system that can be filled. It is unmounted with the scratch directory that it is in.
struct Thin {
    mount: PathBuf,
}

impl Thin {
    fn new(mount: PathBuf) -> Result<Self> {
        std::fs::create_dir(&mount)?;
        // Room for the disk and its metadata, and for some of the ballast.
        let thin = Self::mounted(mount, "size=24m")?;
        rdb_tests::disk::create(&thin.mount.join("disk"), DISK_BYTES)?;
        Ok(thin)
    }

    fn mounted(mount: PathBuf, options: &str) -> Result<Self> {
        let path = mount.display().to_string();
        run_tool(
            30,
            "mount",
            &["-t", "tmpfs", "-o", options, "rdb-thin", &path],
        )?;
        Ok(Self { mount })
    }

    fn fill(&self) -> Result<()> {
        let mut ballast = std::fs::File::create(self.mount.join("ballast"))?;
        let block = [0x5a; 4096];
        loop {
            match ballast.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(28) => return Ok(()),
                Err(error) => return Err(error).context("filling the file system"),
            }
        }
    }

    fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.mount.join("ballast"))?)
    }
}

/// A synced pair on two such file systems. A range from 4 MiB to 12 MiB has no room of its own on either.
fn pair(name: &str, settings: &str, intervals: &str) -> Result<(Pair, [Thin; 2])> {
    let conf = Conf {
        intervals: format!("connect-int 1; ping-int 2; ping-timeout 20; {intervals}"),
        ..Conf::default()
    };
    let plan = Plan {
        conf,
        disk_bytes: DISK_BYTES,
        ..Plan::default()
    };
    let mut pair = Pair::prepare(name, plan)?;
    let thin = [
        Thin::new(pair.scratch.join("thin-alice"))?,
        Thin::new(pair.scratch.join("thin-bob"))?,
    ];
    for (host, thin) in pair.hosts.iter_mut().zip(&thin) {
        host.data[0] = thin.mount.join("disk");
    }
    pair.write_conf()?;
    if !settings.is_empty() {
        let file = pair.scratch.join("rdbd.toml");
        std::fs::write(&file, settings)?;
        for node in [&mut pair.alice, &mut pair.bob] {
            node.settings = Some(file.clone());
        }
    }
    pair.begin()?;
    pair.sync_from(&pair.alice)?;
    let mut client = pair.alice.nbd(0)?;
    client.write(0, &block(1))?;
    client.write(4 << 20, &vec![9; 8 << 20]).or_else(|_| {
        // (As much as a request may have.)
        (0..8).try_for_each(|n| client.write((4 + n) << 20, &vec![9; 1 << 20]))
    })?;
    client.trim(4 << 20, 8 << 20)?;
    client.flush()?;
    Ok((pair, thin))
}

fn block(fill: u8) -> Vec<u8> {
    vec![fill; BLOCK]
}

/// The place of the n-th block that has no room.
fn place(n: u64) -> u64 {
    (4 << 20) + n * BLOCK as u64
}

/// So many writes to places without room are on their way.
fn send(client: &mut Client, count: u64, fill: u8) -> Result<()> {
    for n in 0..count {
        client.send_write(place(n), &block(fill), 0)?;
    }
    Ok(())
}

/// All of them have ended well.
fn take_replies(client: &mut Client, count: u64) -> Result<()> {
    for n in 0..count {
        let reply = client.reply()?;
        ensure!(reply.error == 0, "reply {n}: error {}", reply.error);
    }
    Ok(())
}

/// The node says everywhere that it waits.
fn says_so(node: &Node) -> Result<()> {
    wait_until(
        "the node to say that it waits",
        Duration::from_secs(30),
        || Ok(node.adm(&["status", "r0"])?.contains("disk-full:")),
    )?;
    let text = node.adm(&["status", "r0"])?;
    ensure!(
        text.contains("writes wait for space, for ") && text.contains("disk:UpToDate"),
        "{text}"
    );
    let ills = node.try_adm(&["status", "--check"])?;
    let ill = "r0: volume 0: the disk is full: ";
    ensure!(ills.code == 1 && ills.stdout.contains(ill), "{ills:?}");
    let json = node.adm(&["status", "r0", "--json"])?;
    ensure!(json.contains("\"disk-full\": true"), "{json}");
    let file = node.status_text()?;
    ensure!(
        file.contains(" r---b-") && file.contains("disk full: "),
        "{file}"
    );
    ensure!(node.logged("no space left on the disk (errno 28)") > 0);
    Ok(())
}

fn says_nothing(node: &Node) -> Result<()> {
    wait_until("the node to go on", Duration::from_secs(30), || {
        Ok(!node.adm(&["status", "r0"])?.contains("disk-full:"))
    })?;
    let json = node.adm(&["status", "r0", "--json"])?;
    ensure!(!json.contains("disk-full"), "{json}");
    ensure!(node.logged("there is space on the disk again") > 0);
    Ok(())
}

fn ends_equal(pair: &mut Pair) -> Result<()> {
    pair.settle(60)?;
    pair.alice.nbd(0)?.flush()?;
    pair.disks_equal()?;
    pair.are_well()
}

#[test]
fn a_full_primary_waits_reads_on_and_goes_on() -> Result<()> {
    let (mut pair, thin) = pair("full-primary", "", "timeout 9;")?;
    let (mut writer, mut reader) = (pair.alice.nbd(0)?, pair.alice.nbd(0)?);
    thin[0].fill()?;
    send(&mut writer, 20, 2)?;
    says_so(&pair.alice)?;
    ensure!(reader.read(0, BLOCK)? == block(1), "reads go on");
    reader
        .write(0, &block(3))
        .context("and what needs no room")?;
    reader.flush()?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(pair.alice.volume(0)?.ds == "UpToDate/UpToDate");
    thin[0].make_room()?;
    take_replies(&mut writer, 20)?;
    says_nothing(&pair.alice)?;
    ensure!(reader.read(place(19), BLOCK)? == block(2));
    ends_equal(&mut pair)
}

#[test]
fn a_full_secondary_is_waited_for() -> Result<()> {
    let (mut pair, thin) = pair("full-secondary", "", "timeout 9; ko-count 0;")?;
    let mut client = pair.alice.nbd(0)?;
    thin[1].fill()?;
    send(&mut client, 20, 2)?;
    says_so(&pair.bob)?;
    ensure!(
        pair.alice.nbd(0)?.read(0, BLOCK)? == block(1),
        "reads go on"
    );
    std::thread::sleep(Duration::from_secs(3));
    ensure!(pair.bob.volume(0)?.is_settled(), "pings are answered");
    thin[1].make_room()?;
    take_replies(&mut client, 20)?;
    says_nothing(&pair.bob)?;
    ends_equal(&mut pair)
}

#[test]
fn a_full_secondary_is_left_after_ko_count_and_comes_back_by_itself() -> Result<()> {
    let (mut pair, thin) = pair("full-ko", "", "timeout 9; ko-count 2;")?;
    let mut client = pair.alice.nbd(0)?;
    thin[1].fill()?;
    send(&mut client, 20, 2)?;
    take_replies(&mut client, 20).context("alice goes on alone")?;
    ensure!(pair.alice.logged("ko-count (2)") > 0);
    says_so(&pair.bob)?;
    client
        .write(place(30), &block(3))
        .context("and is not held up again")?;
    thin[1].make_room()?;
    pair.settle(60)?;
    says_nothing(&pair.bob)?;
    ends_equal(&mut pair)
}

#[test]
fn both_full_lose_nothing() -> Result<()> {
    let (mut pair, thin) = pair(
        "full-both",
        "on-no-space = \"suspend\"\n",
        "timeout 9; ko-count 0;",
    )?;
    let mut client = pair.alice.nbd(0)?;
    for thin in &thin {
        thin.fill()?;
    }
    send(&mut client, 30, 2)?;
    says_so(&pair.alice)?;
    says_so(&pair.bob)?;
    thin[1].make_room()?;
    says_nothing(&pair.bob)?;
    thin[0].make_room()?;
    take_replies(&mut client, 30)?;
    says_nothing(&pair.alice)?;
    ends_equal(&mut pair)
}

#[test]
fn with_detach_the_peer_serves() -> Result<()> {
    let (mut pair, thin) = pair("full-detach", "on-no-space = \"detach\"\n", "timeout 9;")?;
    let mut client = pair.alice.nbd(0)?;
    thin[0].fill()?;
    client.write(place(0), &block(2)).context("bob has it")?;
    pair.alice
        .await_volume("Diskless", 20, |volume| volume.ds.starts_with("Diskless/"))?;
    ensure!(
        client.read(place(0), BLOCK)? == block(2),
        "read through bob"
    );
    drop(client);
    thin[0].make_room()?;
    pair.alice.adm(&["attach", "r0"])?;
    ends_equal(&mut pair)
}

#[test]
fn with_pass_on_the_user_hears_of_it_and_the_disk_stays() -> Result<()> {
    let (mut pair, thin) = pair("full-pass-on", "on-no-space = \"pass_on\"\n", "timeout 9;")?;
    pair.bob.adm(&["down", "r0"])?;
    let mut client = pair.alice.nbd(0)?;
    // What the log and the bitmap need of room they have.
    client.write(place(100), &block(1))?;
    thin[0].fill()?;
    ensure!(
        client.write(place(101), &block(2)).is_err(),
        "there is no room"
    );
    ensure!(pair.alice.volume(0)?.ds.starts_with("UpToDate/"));
    ensure!(client.read(0, BLOCK)? == block(1), "reads go on");
    client.write(0, &block(3)).context("that has room")?;
    thin[0].make_room()?;
    client.write(place(101), &block(4))?;
    drop(client);
    pair.bob.adm(&["up", "r0"])?;
    ends_equal(&mut pair)
}

#[test]
fn a_full_node_can_be_taken_down() -> Result<()> {
    let (mut pair, thin) = pair("full-down", "", "timeout 9; ko-count 0;")?;
    // The Secondary.
    let mut client = pair.alice.nbd(0)?;
    thin[1].fill()?;
    send(&mut client, 5, 2)?;
    says_so(&pair.bob)?;
    pair.bob.adm(&["disconnect", "r0"])?;
    take_replies(&mut client, 5).context("alice goes on alone")?;
    pair.bob.adm(&["down", "r0"])?;
    thin[1].make_room()?;
    pair.bob.adm(&["up", "r0"])?;
    pair.settle(60)?;
    // The Primary, by force: the peer has everything.
    thin[0].fill()?;
    for n in 0..5 {
        client.send_write(place(40 + n), &block(3), 0)?;
    }
    says_so(&pair.alice)?;
    pair.alice.adm(&["detach", "--force", "r0"])?;
    take_replies(&mut client, 5).context("bob has it")?;
    ensure!(client.read(place(40), BLOCK)? == block(3));
    thin[0].make_room()?;
    pair.alice.adm(&["attach", "r0"])?;
    pair.settle(60)?;
    // The Primary, alone, whose user has gone: what he was not told of is lost, and nothing else.
    // (The resync has written zeroes where nothing was.)
    client.trim(place(60), BLOCK as u32)?;
    pair.bob.adm(&["down", "r0"])?;
    thin[0].fill()?;
    client.send_write(place(60), &block(4), 0)?;
    says_so(&pair.alice)?;
    drop(client);
    wait_until("an unused device", Duration::from_secs(60), || {
        Ok(pair.alice.try_adm(&["down", "r0"])?.code == 0)
    })?;
    thin[0].make_room()?;
    for node in [&pair.alice, &pair.bob] {
        node.adm(&["up", "r0"])?;
    }
    pair.settle(60)?;
    pair.alice.adm(&["primary", "r0"])?;
    ensure!(pair.alice.nbd(0)?.read(place(40), BLOCK)? == block(3));
    ends_equal(&mut pair)
}

/// What runs is not on record then, and whoever looks hears of it.
#[test]
fn a_full_run_directory_is_told_and_written_to_as_soon_as_there_is_room() -> Result<()> {
    let mut pair = Pair::prepare("full-run-dir", Plan::default())?;
    let run_dir = Thin::mounted(pair.alice.run_dir.clone(), "size=1m,mode=755")?;
    pair.begin()?;
    pair.sync_from(&pair.alice)?;
    ensure!(pair.alice.try_adm(&["status", "--check"])?.code == 0);
    run_dir.fill()?;
    pair.bob.adm(&["disconnect", "r0"])?;
    pair.bob.adm(&["connect", "r0"])?;
    pair.settle(30)?;
    pair.alice.adm(&["secondary", "r0"])?;
    let ills = pair.alice.try_adm(&["status", "--check"])?;
    let ill = "r0: not on record: can not write ";
    ensure!(ills.code == 1 && ills.stdout.starts_with(ill), "{ills:?}");
    let status = pair.alice.adm(&["status"])?;
    ensure!(
        status.contains("  record-reason: stale since 2"),
        "{status}"
    );
    let json = pair.alice.adm(&["status", "--json"])?;
    ensure!(json.contains("\"not-on-record\""), "{json}");
    // No command is needed.
    run_dir.make_room()?;
    wait_until("the record", Duration::from_secs(20), || {
        Ok(pair.alice.try_adm(&["status", "--check"])?.code == 0)
    })?;
    ensure!(!pair.alice.adm(&["status"])?.contains("record-reason"));
    let record = std::fs::read_to_string(pair.alice.run_dir.join("rdbd.state"))?;
    ensure!(record.contains("\"primaries\":[]"), "{record}");
    pair.are_well()
}
