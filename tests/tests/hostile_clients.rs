//! Clients of the device that do what they must not: each gets the right error or a closed connection, and the others are
//! served on.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdb_tests::nbd::{Client, FUA};
use rdb_tests::pair::Plan;
use rdb_tests::watch::resident_kib;
use rdb_tests::{Pair, wait_until};

const READ: u16 = 0;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const CACHE: u16 = 5;
const ZEROES: u16 = 6;
const MIB: u32 = 1 << 20;

const NOSPC: u32 = 28;
/// `O_DIRECT` of x86-64.
const O_DIRECT: i32 = 0x4000;

/// Asks, with so many bytes of data; the error number.
fn ask(
    client: &mut Client,
    (command, flags): (u16, u16),
    offset: u64,
    length: u32,
    data: usize,
) -> Result<u32> {
    let handle = client.send(command, flags, offset, length, &vec![0x5a; data])?;
    let reply = client.reply()?;
    ensure!(reply.handle == handle, "a reply to {}", reply.handle);
    Ok(reply.error)
}

#[test]
fn each_bad_request_gets_its_error_and_the_connection_goes_on() -> Result<()> {
    let mut pair = Pair::synced("bad-requests", Plan::default())?;
    let mut client = pair.alice.nbd(0)?;
    let size = client.size();
    client.write(0, &[7; 8192])?;
    for (what, command, offset, length, data, error) in [
        ("an empty read", (READ, 0), 0, 0, 0, 22),
        ("an empty write", (WRITE, 0), 0, 0, 0, 22),
        ("an empty trim", (TRIM, 0), 0, 0, 0, 22),
        ("an empty write-zeroes", (ZEROES, 0), 0, 0, 0, 22),
        ("a flush with a range", (FLUSH, 0), 512, 512, 0, 22),
        ("a read at the end", (READ, 0), size, 512, 0, 22),
        ("a read across the end", (READ, 0), size - 512, 1024, 0, 22),
        (
            "a read of all that 64 bits reach",
            (READ, 0),
            u64::MAX - 511,
            512,
            0,
            22,
        ),
        ("a write at the end", (WRITE, 0), size, 512, 512, NOSPC),
        (
            "a write across the end",
            (WRITE, 0),
            size - 512,
            1024,
            1024,
            NOSPC,
        ),
        (
            "a write past 64 bits",
            (WRITE, 0),
            u64::MAX - 511,
            1024,
            1024,
            NOSPC,
        ),
        (
            "zeroes across the end",
            (ZEROES, 0),
            size - 512,
            1024,
            0,
            NOSPC,
        ),
        ("a trim across the end", (TRIM, 0), size - 512, 1024, 0, 22),
        ("an unaligned read", (READ, 0), 1, 512, 0, 22),
        ("a read of 513 bytes", (READ, 0), 0, 513, 0, 22),
        ("an unaligned write", (WRITE, 0), 511, 512, 512, 22),
        ("a write of 100 bytes", (WRITE, 0), 0, 100, 100, 22),
        ("an unaligned trim", (TRIM, 0), 3, 512, 0, 22),
        ("a read of more than 1 MiB", (READ, 0), 0, MIB + 512, 0, 22),
        ("a read of 4 GiB", (READ, 0), 0, u32::MAX - 511, 0, 22),
        (
            "a write of more than 1 MiB",
            (WRITE, 0),
            0,
            MIB + 512,
            MIB as usize + 512,
            22,
        ),
        ("a flag that nobody offered", (READ, 1 << 9), 0, 512, 0, 22),
        ("a command that nobody knows", (99, 0), 0, 512, 0, 22),
        ("a FUA flush is a flush", (FLUSH, FUA), 0, 0, 0, 0),
        ("a cache hint", (CACHE, 0), 0, 4096, 0, 0),
    ] {
        let got = ask(&mut client, command, offset, length, data).context(what)?;
        ensure!(got == error, "{what}: error {got} instead of {error}");
    }
    ensure!(client.read(0, 8192)? == [7; 8192], "something was written");
    drop(client);
    pair.are_well()?;
    pair.disks_equal()
}

/// Whether the server ends the connection within five seconds.
fn is_ended(stream: &mut UnixStream) -> Result<bool> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    })
}

/// A raw connection that has chosen the first export in the old way.
fn raw(socket: &Path) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.read_exact(&mut [0; 18])?;
    stream.write_all(&3_u32.to_be_bytes())?;
    stream.write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\0")?;
    stream.read_exact(&mut [0; 10])?;
    Ok(stream)
}

fn request(magic: u32, command: u16, length: u32) -> Vec<u8> {
    let mut bytes = magic.to_be_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend(command.to_be_bytes());
    bytes.extend([0; 16]);
    bytes.extend(length.to_be_bytes());
    bytes
}

#[test]
fn bytes_that_are_no_request_end_the_connection_and_only_that() -> Result<()> {
    let mut pair = Pair::synced("bad-bytes", Plan::default())?;
    let socket = pair.alice.nbd_socket();
    let mut good = pair.alice.nbd(0)?;
    good.write(0, &[5; 4096])?;

    let mut magic = raw(&socket)?;
    magic.write_all(&request(0x2560_9514, READ, 512))?;
    ensure!(is_ended(&mut magic)?, "a wrong magic number");

    let mut huge = raw(&socket)?;
    huge.write_all(&request(0x2560_9513, WRITE, u32::MAX))?;
    let _ = huge.write_all(&[0; 4096]);
    ensure!(is_ended(&mut huge)?, "a write of 4 GiB");

    let mut flags = UnixStream::connect(&socket)?;
    flags.read_exact(&mut [0; 18])?;
    flags.write_all(&0xffff_ffff_u32.to_be_bytes())?;
    ensure!(is_ended(&mut flags)?, "client flags that nobody knows");

    let mut option = UnixStream::connect(&socket)?;
    option.read_exact(&mut [0; 18])?;
    option.write_all(&3_u32.to_be_bytes())?;
    option.write_all(b"IHAVEOPX\0\0\0\x01\0\0\0\0")?;
    ensure!(
        is_ended(&mut option)?,
        "an option with a wrong magic number"
    );

    // Each byte of a request alone, with pauses: slow, but right.
    let mut slow = raw(&socket)?;
    for byte in request(0x2560_9513, READ, 512) {
        slow.write_all(&[byte])?;
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut answer = [0; 16 + 512];
    slow.read_exact(&mut answer)?;
    ensure!(answer[4..8] == [0; 4] && answer[16..] == [5; 512]);

    ensure!(
        good.read(0, 4096)? == [5; 4096],
        "the good client was served on"
    );
    drop(good);
    pair.are_well()
}

#[test]
fn a_crowd_is_turned_away_and_its_leaving_makes_room() -> Result<()> {
    let mut pair = Pair::synced("crowd", Plan::default())?;
    let mut crowd = Vec::new();
    while let Ok(client) = pair.alice.nbd(0) {
        crowd.push(client);
        ensure!(crowd.len() <= 64, "no bound on clients");
    }
    // 64 in all, of which one user gets not the last.
    ensure!(crowd.len() == 48, "{} clients", crowd.len());
    for (index, client) in crowd.iter_mut().enumerate() {
        client.write(4096 * index as u64, &[index as u8; 4096])?;
    }
    drop(crowd);
    wait_until("a place", Duration::from_secs(5), || {
        Ok(pair.alice.nbd(0).is_ok())
    })?;
    // In use until the last has left.
    pair.alice.adm(&["secondary", "r0"])?;
    pair.are_well()?;
    pair.disks_equal()
}

#[test]
fn a_demotion_is_refused_by_silent_clients_and_a_stop_ends_them() -> Result<()> {
    let mut pair = Pair::synced("silent", Plan::default())?;
    let socket = pair.alice.nbd_socket();
    // Half a request, half a write, many replies that nobody takes.
    let mut half_request = raw(&socket)?;
    half_request.write_all(&request(0x2560_9513, READ, 512)[..20])?;
    let mut half_write = raw(&socket)?;
    half_write.write_all(&request(0x2560_9513, WRITE, MIB))?;
    half_write.write_all(&[1; 1000])?;
    let mut deaf = raw(&socket)?;
    for _ in 0..32 {
        deaf.write_all(&request(0x2560_9513, READ, MIB))?;
    }
    let said = pair.alice.try_adm(&["secondary", "r0"])?.fails_with(11)?;
    ensure!(said.contains("Device is held open by someone"), "{said}");
    let mut good = pair.alice.nbd(0)?;
    good.write(8192, &[3; 4096])?;
    ensure!(good.read(8192, 4096)? == [3; 4096]);
    let start = Instant::now();
    let status = pair.alice.terminate()?;
    ensure!(status.success(), "{status}");
    ensure!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    ensure!(
        !pair.alice.log().contains("panicked"),
        "{}",
        pair.alice.log_tail(40)
    );
    for stream in [&mut half_request, &mut half_write, &mut deaf] {
        ensure!(is_ended(stream)?, "its connection is closed");
    }
    pair.alice.start()?;
    pair.alice.adm(&["up", "r0"])?;
    pair.settle(60)?;
    pair.disks_equal()
}

#[test]
fn clients_that_come_and_go_while_roles_change_leave_nothing_behind() -> Result<()> {
    let mut pair = Pair::synced("comings", Plan::default())?;
    let socket = pair.alice.nbd_socket();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for turn in 0..3_u64 {
            let (socket, stop) = (&socket, &stop);
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    if let Ok(mut client) = Client::connect(socket, "r0/0") {
                        let _ = client.send_write(turn << 20, &[9; 65536], 0);
                        let _ = client.send(READ, 0, turn << 20, MIB, &[]);
                        // Gone without a goodbye, or after one answer.
                        if turn > 0 {
                            let _ = client.reply();
                        }
                    }
                    std::thread::sleep(Duration::from_millis(3));
                }
            });
        }
        let changes = (0..10).try_for_each(|_| {
            wait_until("the demotion", Duration::from_secs(20), || {
                let out = pair.alice.try_adm(&["secondary", "r0"])?;
                ensure!(
                    out.code == 0
                        || out.stderr.contains("held open")
                        || out.stdout.contains("held open"),
                    "{out:?}"
                );
                Ok(out.code == 0)
            })?;
            pair.alice.adm(&["primary", "r0"]).map(drop)
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        changes
    })?;
    pair.alice.nbd(0)?.write(0, &[1; 4096])?;
    pair.are_well()?;
    pair.disks_equal()
}

fn errno(result: std::io::Result<usize>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}

#[test]
fn the_file_under_the_loop_device_refuses_what_a_device_refuses() -> Result<()> {
    let mut pair = Pair::synced(
        "fuse-file",
        Plan {
            frontend: "fuse",
            ..Plan::default()
        },
    )?;
    pair.alice.device(0)?;
    let path = pair.alice.run_dir.join("fuse/r0.0");
    let file = File::options().read(true).write(true).open(&path)?;
    let size = pair.data_bytes();
    ensure!(file.metadata()?.len() == size);
    let mut block = [0; 4096];
    ensure!(
        file.read_at(&mut [], 0)? == 0 && file.write_at(&[], 0)? == 0,
        "nothing is nothing"
    );
    ensure!(file.read_at(&mut block, size)? == 0, "the end is the end");
    ensure!(
        errno(file.read_at(&mut block[..100], 0)) == 22,
        "a read of 100 bytes"
    );
    ensure!(
        errno(file.read_at(&mut block, 1)) == 22,
        "an unaligned read"
    );
    ensure!(
        errno(file.write_at(&block[..100], 0)) == 22,
        "a write of 100 bytes"
    );
    ensure!(errno(file.write_at(&block, 7)) == 22, "an unaligned write");
    for offset in [size, 1 << 40, i64::MAX as u64 - 8191] {
        let error = errno(file.write_at(&block, offset));
        ensure!([27, 28].contains(&error), "a write at {offset}: {error}");
    }
    for wanted in [0, size / 2, size * 2] {
        ensure!(file.set_len(wanted).is_err(), "its size became {wanted}");
    }
    ensure!(
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .is_err()
            || file.metadata()?.len() == size
    );
    ensure!(file.metadata()?.len() == size, "its size changed");
    for name in ["other", "r0.0/below"] {
        let made = File::create(pair.alice.run_dir.join("fuse/r0.0").join(name));
        ensure!(made.is_err(), "{name} was made below it");
    }
    // Many at a time, and some that go away amid it.
    std::thread::scope(|scope| {
        for turn in 0..8_u64 {
            let path = &path;
            scope.spawn(move || -> Result<()> {
                let file = File::options()
                    .read(true)
                    .write(true)
                    .custom_flags(O_DIRECT)
                    .open(path)?;
                ensure!(file.as_raw_fd() >= 0);
                for index in 0..50 {
                    let _ = file.write_at(&[turn as u8; 512], (turn << 20) + index * 512);
                    let _ = file.read_at(&mut vec![0; 1 << 20], 0);
                }
                Ok(())
            });
        }
    });
    drop(file);
    pair.alice.adm(&["secondary", "r0"])?;
    pair.are_well()?;
    pair.disks_equal()
}

#[test]
fn clients_that_never_read_hold_nobody_up() -> Result<()> {
    let mut pair = Pair::synced("never-read", Plan::default())?;
    let mut bad = Vec::new();
    for _ in 0..40 {
        let mut client = pair.alice.nbd(0)?;
        for _ in 0..8 {
            client.send(READ, 0, 0, MIB, &[])?;
        }
        bad.push(client);
    }
    let mut good = pair.alice.nbd(0)?;
    for round in 0..50_u64 {
        good.read(round % 32 * u64::from(MIB), MIB as usize)?;
        good.write(0, &[round as u8; 4096])?;
    }
    // It did not have to wait until somebody was cut off.
    ensure!(
        pair.alice.logged("cut an NBD client off") == 0,
        "others were cut off meanwhile"
    );
    drop((bad, good));
    pair.are_well()
}

#[test]
fn half_sent_writes_hold_nobody_up() -> Result<()> {
    let mut pair = Pair::synced("half-sent", Plan::default())?;
    let pid = pair.alice.pid().context("alice runs")?;
    let mut good = pair.alice.nbd(0)?;
    let before = resident_kib(pid)?;
    let socket = pair.alice.nbd_socket();
    let mut bad = Vec::new();
    for index in 0..40 {
        let mut half = raw(&socket)?;
        half.write_all(&request(0x2560_9513, WRITE, MIB))?;
        // Little of it, or nearly all.
        let sent = if index % 2 == 0 {
            1000
        } else {
            MIB as usize - 1
        };
        half.write_all(&vec![1; sent])?;
        bad.push(half);
    }
    let start = Instant::now();
    for round in 0..20_u64 {
        good.write(round * u64::from(MIB), &vec![round as u8; MIB as usize])?;
        good.write(4096, &[round as u8; 4096])?;
    }
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(5), "writes took {took:?}");
    ensure!(
        pair.alice.logged("cut an NBD client off") == 0,
        "others were cut off meanwhile"
    );
    // A write of each, its share of replies, and what the good client has touched of the pool.
    let most = before + (40 << 10) + (40 << 10);
    let now = resident_kib(pid)?;
    ensure!(now <= most, "from {before} KiB to {now} KiB");
    // The rest of one comes: it is a write as any other.
    let last = bad.last_mut().context("the last")?;
    last.write_all(&[1])?;
    last.read_exact(&mut [0; 16])?;
    ensure!(good.read(0, MIB as usize)? == vec![1; MIB as usize]);
    drop((bad, good));
    pair.are_well()?;
    pair.disks_equal()
}
