//! Two threads with the engine itself: metadata, handshake, resync and mirrored writes over real sockets and files.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rdb_engine::config::DiskOptions;
use rdb_engine::{Command, ResourceStatus};
use rdb_frontend::Frontend;
use rdb_meta::{AlGeometry, Layout, MetaKind, Superblock};
use replica_proto::{ConnState, DiskState};

use super::nbd_client::{self as nbd, Client};
use super::{PATIENCE, VOLUME, addresses, request};
use crate::{AttachRequest, MetaLocation, Notice, ResourceConfig, ResourceHandle, spawn};

/// A file with fresh internal metadata.
pub(super) fn disk_file(path: &Path, bytes: u64) -> Layout {
    let file = std::fs::File::create(path).expect("a file");
    file.set_len(bytes).expect("its size");
    let sectors = bytes / 512;
    let layout = Layout::compute(MetaKind::Internal, sectors, sectors, AlGeometry::DEFAULT)
        .expect("room for metadata");
    let block = Superblock::new(&layout).to_block();
    file.write_all_at(&block, layout.superblock_sector * 512)
        .expect("written");
    let ring = rdb_meta::activity_log::initialised_ring(layout.al);
    file.write_all_at(&ring, layout.al_sector * 512)
        .expect("written");
    layout
}

pub(super) fn status(handle: &ResourceHandle) -> ResourceStatus {
    let (reply, wait) = channel();
    handle.status(Box::new(move |status| drop(reply.send(status))));
    wait.recv_timeout(PATIENCE).expect("a status")
}

fn admin(handle: &ResourceHandle, command: Command) {
    let (reply, wait) = channel();
    let what = format!("{command:?}");
    handle.admin(command, Box::new(move |result| drop(reply.send(result))));
    if let Err(error) = wait.recv_timeout(PATIENCE).expect("an answer") {
        panic!("{what}: {error}");
    }
}

pub(super) fn start(dir: &Path, name: &str) -> ResourceHandle {
    let run_dir = dir.join(name);
    let config = ResourceConfig {
        name: "r0".into(),
        run_dir: run_dir.clone(),
        frontend: Frontend::Socket,
        max_buffers: 2048,
        busy_poll: std::time::Duration::ZERO,
        nbd_connections: 1,
        inherited: Vec::new(),
        left_sessions: Default::default(),
        challenges: crate::Challenges::default(),
        core_dumps: crate::CoreDumps::None,
    };
    let who = name.to_owned();
    let handle = spawn(config, move |notice| {
        if let Notice::Log { text, .. } = notice {
            eprintln!("{who}: {text}");
        }
    })
    .expect("a thread");
    admin(
        &handle,
        Command::NewVolume {
            volume: VOLUME,
            minor: 0,
        },
    );
    let (reply, wait) = channel();
    let attach = AttachRequest {
        volume: VOLUME,
        data_path: run_dir.join("disk"),
        meta: MetaLocation::Internal,
        options: DiskOptions {
            resync_rate_kib: 1 << 20,
            c_plan_ahead_ds: 0,
            ..DiskOptions::default()
        },
    };
    handle.attach(attach, Box::new(move |result| drop(reply.send(result))));
    wait.recv_timeout(PATIENCE)
        .expect("an answer")
        .expect("attached");
    handle
}

fn wait_until(handle: &ResourceHandle, what: &str, is: impl Fn(&ResourceStatus) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let status = status(handle);
        if is(&status) {
            return;
        }
        assert!(Instant::now() < end, "not {what}: {status:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_in_sync(status: &ResourceStatus) -> bool {
    status.volumes.iter().all(|volume| {
        let state = volume.state;
        state.conn == ConnState::Connected
            && state.disk == DiskState::UpToDate
            && state.pdsk == DiskState::UpToDate
    })
}

#[test]
fn two_engines_sync_and_mirror_and_their_disks_are_equal() {
    let dir = tempfile::tempdir().expect("a directory");
    let layouts = ["a", "b"].map(|name| {
        std::fs::create_dir(dir.path().join(name)).expect("made");
        disk_file(&dir.path().join(name).join("disk"), 32 << 20)
    });
    let nodes = ["a", "b"].map(|name| start(dir.path(), name));
    let ends = addresses();
    for (node, (local, peer)) in nodes.iter().zip([(ends[0], ends[1]), (ends[1], ends[0])]) {
        let (reply, wait) = channel();
        node.connect(
            request(local, peer),
            Box::new(move |result| drop(reply.send(result))),
        );
        wait.recv_timeout(PATIENCE)
            .expect("an answer")
            .expect("connecting");
    }
    wait_until(&nodes[0], "connected", |status| {
        status.volumes[0].state.conn == ConnState::Connected
    });
    admin(
        &nodes[0],
        Command::Primary {
            volume: VOLUME,
            force: true,
        },
    );
    wait_until(&nodes[0], "in sync", is_in_sync);
    let mut client = Client::connect(&dir.path().join("a/nbd/r0.sock")).expect("served");
    let mut expected = vec![0_u8; client.size as usize];
    let mut seed = 1_u32;
    for round in 0..40 {
        let mut sent = 0;
        for _ in 0..24 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = 512_usize << ((seed >> 24) % 12);
            let offset = (seed as usize % (expected.len() - size)) / 512 * 512;
            if round % 4 == 3 && size > 4096 {
                client.send((0, nbd::ZEROES), offset as u64, size as u32, &[]);
                expected[offset..offset + size].fill(0);
            } else {
                let bytes = vec![(seed >> 16) as u8; size];
                client.send((0, nbd::WRITE), offset as u64, size as u32, &bytes);
                expected[offset..offset + size].copy_from_slice(&bytes);
            }
            sent += 1;
            // Overlapping writes in flight have no order; wait now and then.
            let (error, _) = client.reply();
            sent -= 1;
            assert_eq!(error, 0);
        }
        assert_eq!(sent, 0);
        assert_eq!(client.ask((0, nbd::FLUSH), 0, 0, &[]), 0);
    }
    drop(client);
    for node in &nodes {
        node.stop();
        node.join();
    }
    for (name, layout) in ["a", "b"].into_iter().zip(layouts) {
        let disk = std::fs::read(dir.path().join(name).join("disk")).expect("the disk");
        let data = &disk[..layout.usable_sectors as usize * 512];
        assert!(data == expected, "the disk of {name} is wrong");
    }
}
