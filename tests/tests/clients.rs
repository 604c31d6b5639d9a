//! NBD clients that others wrote, against the socket: with the peer up, cut, and resyncing.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rdb_tests::net::Cut;
use rdb_tests::pair::Plan;
use rdb_tests::programs::{run_tool, tool, try_tool};
use rdb_tests::{Conf, Pair};

/// Every client does its work once; `turn` makes the places and patterns differ.
fn all_clients(uri: &str, files: &Path, size: u64, turn: u64) -> Result<()> {
    nbdinfo(uri, size)?;
    qemu_io(uri, turn)?;
    nbdsh(uri, size, turn)?;
    copies(uri, files)?;
    fio(uri, files, "randwrite", "4k")?;
    fio(uri, files, "write", "128k")
}

fn nbdinfo(uri: &str, size: u64) -> Result<()> {
    let info = run_tool(30, "nbdinfo", &["--json", uri])?;
    let info: serde_json::Value = serde_json::from_str(&info)?;
    let export = &info["exports"][0];
    ensure!(export["export-size"] == size, "{export}");
    for (flag, wanted) in [
        ("is_read_only", false),
        ("can_flush", true),
        ("can_fua", true),
        ("can_trim", true),
        ("can_zero", true),
        ("can_multi_conn", true),
    ] {
        ensure!(
            export[flag] == wanted,
            "{flag} is {} in {export}",
            export[flag]
        );
    }
    Ok(())
}

/// Patterns, FUA, zeroes, discard.
fn qemu_io(uri: &str, turn: u64) -> Result<()> {
    let pattern = 0x40 + turn;
    let commands = [
        format!("write -P {pattern} 1M 256k"),
        format!("write -f -P {} 2M 64k", pattern + 1),
        "write -z -u 1088k 64k".to_owned(),
        "discard 4M 1M".to_owned(),
        "flush".to_owned(),
        format!("read -P {pattern} 1M 64k"),
        "read -P 0 1088k 64k".to_owned(),
        format!("read -P {pattern} 1152k 128k"),
        format!("read -P {} 2M 64k", pattern + 1),
        // Not aligned to anything.
        format!("write -P {} 3000001 12345", pattern + 2),
        format!("read -P {} 3000001 12345", pattern + 2),
    ];
    let mut words = vec!["-f", "raw"];
    for command in &commands {
        words.extend(["-c", command]);
    }
    words.push(uri);
    let said = run_tool(60, "qemu-io", &words)?;
    ensure!(!said.contains("failed"), "{said}");
    Ok(())
}

/// The strict client of libnbd, on two connections.
fn nbdsh(uri: &str, size: u64, turn: u64) -> Result<()> {
    let script = format!(
        "assert h.get_size() == {size}\n\
         import nbd\n\
         k = nbd.NBD()\n\
         k.connect_uri('{uri}')\n\
         h.pwrite(b'{turn}' * 4096, 8 << 20, nbd.CMD_FLAG_FUA)\n\
         assert k.pread(4096, 8 << 20) == b'{turn}' * 4096\n\
         h.zero(65536, 9 << 20)\n\
         h.flush()\n\
         k.shutdown()\n\
         try:\n    h.set_strict_mode(0)\n    h.pwrite(b'x' * 512, {size})\n    raise SystemExit('a write past the end was taken')\n\
         except nbd.Error as e:\n    assert e.errno in ('ENOSPC', 'EINVAL'), e.errno\n\
         try:\n    h.pread(512, {size})\n    raise SystemExit('a read past the end was taken')\n\
         except nbd.Error as e:\n    assert e.errno == 'EINVAL', e.errno\n\
         assert len(h.pread(512, {size} - 512)) == 512\n"
    );
    // Debian's Python holds the module, whatever other Python comes first in the search path.
    tool("nbdsh")?;
    let words = ["-m", "nbd", "-u", uri, "-c", &script];
    run_tool(60, "/usr/bin/python3", &words)?;
    Ok(())
}

/// nbdcopy out, in and out again: the same bytes, over several connections. qemu-img: as raw image, compared with the copy.
fn copies(uri: &str, files: &Path) -> Result<()> {
    let (one, two) = (
        files.join("one").display().to_string(),
        files.join("two").display().to_string(),
    );
    run_tool(120, "nbdcopy", &[uri, &one])?;
    run_tool(120, "nbdcopy", &["--destination-is-zero", &one, "null:"])?;
    run_tool(120, "nbdcopy", &[&one, uri])?;
    run_tool(120, "nbdcopy", &[uri, &two])?;
    run_tool(60, "cmp", &[&one, &two])?;

    let compare = ["compare", "-f", "raw", "-F", "raw", uri, &one];
    run_tool(120, "qemu-img", &compare)?;
    let bench = [
        "bench", "-f", "raw", "-w", "-c", "500", "-d", "16", "-o", "16M", uri,
    ];
    run_tool(120, "qemu-img", &bench)?;
    Ok(())
}

/// Writes with checksums, and reads them back.
fn fio(uri: &str, files: &Path, rw: &str, block: &str) -> Result<()> {
    let words = [
        "--name=x",
        "--ioengine=nbd",
        "--size=16M",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--iodepth=16",
        "--output=/dev/null",
    ];
    let more = [
        format!("--uri={uri}"),
        format!("--rw={rw}"),
        format!("--bs={block}"),
        // What fio remembers of a verify goes there, not where the tests were started.
        format!("--aux-path={}", files.display()),
    ];
    let mut words: Vec<&str> = words.to_vec();
    words.extend(more.iter().map(String::as_str));
    run_tool(120, "fio", &words)?;
    Ok(())
}

#[test]
fn with_the_peer_up_cut_and_resyncing() -> Result<()> {
    let conf = Conf {
        rate: "resync-rate 8M; c-plan-ahead 0;".into(),
        ..Conf::default()
    };
    let pair = Pair::fresh(
        "clients",
        Plan {
            conf,
            cable: true,
            ..Plan::default()
        },
    )?;
    let cable = pair.cable.as_ref().context("the pair has a cable")?;
    pair.up()?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    let (uri, size) = (pair.alice.nbd_uri(0), pair.data_bytes());
    pair.alice
        .await_volume("the sync", 10, |volume| volume.cs == "SyncSource")?;
    all_clients(&uri, pair.scratch.path(), size, 1).context("while resyncing")?;

    pair.settle(60)?;
    all_clients(&uri, pair.scratch.path(), size, 2).context("with the peer up")?;
    pair.disks_equal()?;

    cable.cut(Cut::LinkDown)?;
    pair.alice
        .await_volume("the cut", 30, |volume| volume.cs != "Connected")?;
    all_clients(&uri, pair.scratch.path(), size, 3).context("with the peer cut off")?;
    cable.heal()?;
    pair.settle(60)?;
    pair.disks_equal()
}

#[test]
fn a_secondary_serves_nobody() -> Result<()> {
    let pair = Pair::synced("secondary", Plan::default())?;
    let out = try_tool(20, "nbdinfo", &[pair.bob.nbd_uri(0)])?;
    ensure!(!out.status.success(), "a secondary answered nbdinfo");
    // After a demotion the same is true of alice; and bob serves.
    pair.alice.adm(&["secondary", "r0"])?;
    let out = try_tool(20, "nbdinfo", &[pair.alice.nbd_uri(0)])?;
    ensure!(!out.status.success(), "a demoted node answered nbdinfo");
    pair.bob.adm(&["primary", "r0"])?;
    run_tool(20, "nbdinfo", &[pair.bob.nbd_uri(0)])?;
    Ok(())
}

#[test]
fn an_export_that_is_not_there_is_refused_and_the_lowest_is_the_default() -> Result<()> {
    let conf = Conf {
        volumes: 2,
        ..Conf::default()
    };
    let pair = Pair::fresh(
        "exports",
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    pair.alice.adm(&["up", "r0"])?;
    pair.alice.adm(&["primary", "--force", "r0"])?;
    let socket = pair.alice.nbd_socket().display().to_string();
    let list = run_tool(
        20,
        "nbdinfo",
        &["--list", &format!("nbd+unix:///?socket={socket}")],
    )?;
    ensure!(list.contains("r0/0") && list.contains("r0/1"), "{list}");
    run_tool(20, "nbdinfo", &[format!("nbd+unix:///?socket={socket}")])?;
    let out = try_tool(
        20,
        "nbdinfo",
        &[format!("nbd+unix:///r0/2?socket={socket}")],
    )?;
    ensure!(!out.status.success(), "r0/2 is not there");
    Ok(())
}

#[test]
fn hostile_clients_are_dropped_and_others_served() -> Result<()> {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let mut pair = Pair::synced("hostile", Plan::default())?;
    let socket = pair.alice.nbd_socket();
    let mut good = pair.alice.nbd(0)?;
    good.write(0, &[5; 4096])?;
    let mut rng = rdb_tests::rng::Rng::from_env();
    for _ in 0..200 {
        let mut stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(std::time::Duration::from_millis(200)))?;
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        let mut noise = vec![0; usize::try_from(rng.below(300))?];
        for byte in &mut noise {
            *byte = u8::try_from(rng.below(256))?;
        }
        let mut bytes = 3u32.to_be_bytes().to_vec();
        if rng.below(2) == 0 {
            bytes.extend(b"IHAVEOPT");
            bytes.extend(u32::try_from(rng.below(12))?.to_be_bytes());
            let length = if rng.below(3) == 0 {
                u32::MAX
            } else {
                u32::try_from(noise.len())?
            };
            bytes.extend(length.to_be_bytes());
        }
        bytes.extend(noise);
        let _ = stream.write_all(&bytes);
        let _ = stream.read(&mut [0; 64]);
    }
    // Requests that lie about their length, after a proper start.
    for length in [u32::MAX, (64 << 20) + 1, 0] {
        let mut client = pair.alice.nbd(0)?;
        for command in [0, 1, 3, 4, 6, 99] {
            if client
                .send(command, 0xffff, u64::MAX - 7, length, &[])
                .is_err()
            {
                break;
            }
        }
    }
    ensure!(
        good.read(0, 4096)? == [5; 4096],
        "the good client was served on"
    );
    drop(good);
    pair.are_well()?;
    pair.disks_equal()
}
