//! The invariants of `docs/spec/metadata.md`, section 6, that the engine keeps by the order of what it asks for. Each test
//! looks at every step at what a power cut would leave, or at what was asked for before what.

use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{Command, RequestError, RequestKind};
use rdb_meta::{ExtentNr, Magic, MdFlags};
use replica_proto::{BarrierNr, Packet};

use crate::lone::Lone;
use rdb_sim::scenario::code;
use rdb_sim::watch::is_data;
use rdb_sim::{DISK_SECTORS, Node, V, World};

/// Extents of 4 MiB on disks that have more of them than the log has slots.
const LARGE: u64 = 80 * 8192;

fn large_pair(seed: u64) -> World {
    World::large_pair(seed, LARGE, &NetOptions::default())
}

#[test]
fn i01_unclean_is_durable_before_anything_is_logged_or_written() {
    for (seed, crashed) in [(1, false), (2, true), (3, true)] {
        let (mut w, _) = World::settled(seed);
        w.write_wait(0, 800, vec![3; 4096]);
        if crashed {
            w.power_cut(0);
        } else {
            w.secondary(0).unwrap();
            w.kill(0);
        }
        w.link = false;
        let new = Command::NewVolume {
            volume: V,
            minor: 0,
        };
        w.admin(0, new).unwrap();
        let attach = w.attach_command(0, 0);
        w.start_admin(0, attach);
        let mut seen = 0;
        let mut look = |w: &World, line: &str| {
            if line.starts_with("meta log") || line.starts_with("meta bitmap") || is_data(line) {
                let sb = w.nodes[0].durable_superblock();
                assert_eq!(sb.magic, Magic::V84Unclean, "{line}");
                assert!(!sb.flags.contains(MdFlags::AL_CLEAN), "{line}");
                seen += 1;
            }
        };
        w.watch_quiet(0, &mut look);
        w.start_admin(
            0,
            Command::Primary {
                volume: V,
                force: false,
            },
        );
        w.watch_quiet(0, &mut look);
        w.write(0, 1600, vec![4; 4096]);
        w.watch_quiet(0, &mut look);
        assert!(seen >= 2, "a transaction and a write");
    }
    // A disk that was never attached.
    let mut w = World::new(4);
    let new = Command::NewVolume {
        volume: V,
        minor: 0,
    };
    w.admin(0, new).unwrap();
    assert_eq!(w.nodes[0].durable_superblock().magic, Magic::V08);
    let attach = w.attach_command(0, 0);
    w.start_admin(0, attach);
    w.watch_quiet(0, |w, line| {
        if line.starts_with("meta bitmap") {
            assert_eq!(w.nodes[0].durable_superblock().magic, Magic::V84Unclean);
        }
    });
}

#[test]
fn i02_a_primarys_mark_is_durable_before_its_first_write() {
    for seed in 0..4 {
        let (mut w, _) = World::settled(seed);
        w.secondary(0).unwrap();
        w.quiet();
        assert!(!w.nodes[0].durable_flags().contains(MdFlags::PRIMARY_IND));
        let marked = |w: &World, line: &str| {
            if is_data(line) || line.starts_with("device Some") {
                let flags = w.nodes[0].durable_flags();
                assert!(flags.contains(MdFlags::PRIMARY_IND), "{line}");
            }
        };
        w.start_admin(
            0,
            Command::Primary {
                volume: V,
                force: false,
            },
        );
        // Users come when the device is there.
        w.watch(0, |w| w.nodes[0].device.is_some(), marked);
        w.nodes[0].record = Some(Vec::new());
        w.write(0, 1600, vec![1; 4096]);
        w.watch_quiet(0, marked);
    }
}

#[test]
fn i02_a_secondary_is_marked_before_it_takes_a_diskless_primarys_writes() {
    for seed in 0..6 {
        let (mut w, _) = World::settled(seed);
        diskless_primary_writes(&mut w);
        w.ends_well();
    }
}

#[test]
fn i02_a_secondary_is_marked_anew_each_time_the_primary_loses_its_disk() {
    for seed in 0..6 {
        let (mut w, _) = World::settled(seed);
        // The second time the extent is in the Secondary's log already.
        diskless_primary_writes(&mut w);
        diskless_primary_writes(&mut w);
        w.ends_well();
    }
}

/// The Primary's disk is given up with writes following close behind; later it comes back.
fn diskless_primary_writes(w: &mut World) {
    w.quiet();
    assert!(!w.nodes[1].durable_flags().contains(MdFlags::PRIMARY_IND));
    w.detach(0, true).unwrap();
    for n in 0..8 {
        w.write(0, n * 8, vec![7; 4096]);
    }
    let mut writes = 0;
    let mut failed = false;
    w.watch(
        1,
        |w| w.nodes[0].requests_open.is_empty(),
        |w, line| {
            failed |= w.nodes[1].state().pdsk < DiskState::Inconsistent;
            if failed && line.starts_with("write ") {
                let flags = w.nodes[1].durable_flags();
                assert!(flags.contains(MdFlags::PRIMARY_IND), "{line}");
                assert!(w.nodes[1].would_sync(Node::sector_of(line)), "{line}");
                writes += 1;
            }
        },
    );
    assert!(writes > 0, "the disk's end came after the writes");
    w.node_is(0, "Connected P/S D/U");
    w.attach(0).unwrap();
    w.both("Connected P/S U/U", "Connected S/P U/U");
}

#[test]
fn i03_the_log_names_an_extent_durably_before_anything_in_it_is_written_or_sent() {
    for (seed, diskless) in [(0, false), (1, false), (2, true), (3, true)] {
        let mut w = large_pair(seed);
        if diskless {
            w.detach(0, false).unwrap();
        }
        let watched = usize::from(diskless); // who logs
        for n in 0..200 {
            w.write(0, n * 53 % 80 * 8192 + 8, vec![1; 4096]);
        }
        w.submit(0, 4 * 8192 - 8, 8192, RequestKind::Discard); // over a border
        let mut seen = 0;
        w.watch(
            watched,
            |w| w.nodes[0].requests_open.is_empty(),
            |w, line| {
                if line.starts_with("write ") || line.starts_with("send P_DATA ") {
                    let extent = ExtentNr::of_sector(Node::sector_of(line));
                    assert!(w.nodes[watched].durable_hot().contains(&extent), "{line}");
                    seen += 1;
                }
                if line.starts_with("zero ") {
                    let hot = w.nodes[watched].durable_hot();
                    assert!([3, 4].iter().all(|&e| hot.contains(&ExtentNr(e))));
                }
            },
        );
        assert!(seen >= 200);
    }
}

#[test]
fn i04_bits_are_durable_before_the_log_forgets_their_extent() {
    let mut w = large_pair(5);
    w.cut();
    let mut written = Vec::new();
    for n in 0..300 {
        let sector = n * 37 % 80 * 8192 + n % 5 * 8;
        w.write(0, sector, vec![1; 4096]);
    }
    let mut evictions = 0;
    w.watch_quiet(0, |w, line| {
        if line.starts_with("written ") {
            written.push(Node::sector_of(line));
        } else if line.starts_with("done log") {
            let node = &w.nodes[0];
            let (hot, bits) = (node.durable_hot(), node.durable_bits());
            for &sector in &written {
                let logged = hot.contains(&ExtentNr::of_sector(sector));
                assert!(logged || bits.any_set(sector, 8), "{sector} is in neither");
                evictions += usize::from(!logged);
            }
        }
    });
    assert!(evictions > 0, "the log was never full");
}

#[test]
fn i05_a_slot_is_kept_until_the_barrier_is_acknowledged() {
    for lose in [false, true] {
        let mut lone = Lone::large(6, LARGE).promoted();
        let mut barriers = Vec::new();
        let mut count = 0;
        for n in 0..67 {
            lone.w.write(0, n * 8192, vec![1; 4096]);
            for one in lone.pump() {
                if let Some(header) = one.data_header() {
                    count += 1;
                    let ack = lone.ack(&header, 4096);
                    lone.give(Packet::WriteAck(ack));
                } else if let Packet::Barrier(nr) = one.packet {
                    barriers.push((nr, std::mem::take(&mut count)));
                }
            }
        }
        assert!(lone.w.nodes[0].requests_open.is_empty(), "all are complete");
        lone.w.nodes[0].record = Some(Vec::new());
        lone.w.write(0, 70 * 8192, vec![2; 4096]);
        lone.w.run_ms(1_000);
        for one in lone.pump() {
            assert!(one.data_header().is_none(), "no slot is free");
            if let Packet::Barrier(nr) = one.packet {
                barriers.push((nr, std::mem::take(&mut count)));
            }
        }
        let record = lone.w.nodes[0].record.clone().unwrap();
        assert!(
            !record
                .iter()
                .any(|l| is_data(l) || l.starts_with("meta log"))
        );
        if lose {
            lone.lose(replica_proto::Socket::Data, 0);
            lone.io();
            assert_eq!(
                lone.w.nodes[0].out_of_sync(),
                68,
                "marked, so the slots are free"
            );
        } else {
            let (barrier, set_size): (BarrierNr, u32) = barriers[0];
            lone.give(Packet::BarrierAck { barrier, set_size });
            let sent = lone.pump();
            assert!(
                sent.iter().any(|s| s.data_header().is_some()),
                "one slot is free"
            );
        }
        let record = lone.w.nodes[0].record.clone().unwrap();
        assert!(record.contains(&format!("write {}+8", 70 * 8192)));
    }
}

#[test]
fn i06_what_the_lost_peer_may_miss_is_marked_before_its_slot_is_given_up() {
    for seed in 0..5 {
        let mut w = large_pair(seed);
        w.nodes[1].hold_data = true; // the peer never gets any further
        for n in 0..67 {
            w.write(0, n * 8192 + seed * 8, vec![1; 4096]);
        }
        w.run_ms(50);
        w.nodes[1].hold_data = false;
        w.cut_raggedly();
        for n in 67..80 {
            w.write(0, n * 8192, vec![2; 4096]);
        }
        let mut written = Vec::new();
        let mut evicted = 0;
        w.watch_quiet(0, |w, line| {
            if line.starts_with("written ") {
                written.push(Node::sector_of(line));
            } else if line.starts_with("done ") {
                let (hot, bits) = (w.nodes[0].durable_hot(), w.nodes[0].durable_bits());
                for sector in (0..67)
                    .map(|n| n * 8192 + seed * 8)
                    .chain(written.iter().copied())
                {
                    let logged = hot.contains(&ExtentNr::of_sector(sector));
                    assert!(logged || bits.any_set(sector, 8), "{sector}");
                    evicted += usize::from(!logged);
                }
            }
        });
        assert!(evicted > 0, "the log was never full");
        w.heal();
        w.wait_synced();
        w.quiet();
        assert!(w.disks_equal());
    }
}

#[test]
fn i08_the_mark_is_taken_back_after_the_bits_are_durable_and_the_writes_over() {
    for seed in 0..4 {
        let (mut w, _) = World::settled(seed);
        w.cut();
        w.quiet();
        let sectors: Vec<u64> = (0..20).map(|n| n * 3000 / 8 * 8).collect();
        w.nodes[0].hold_data = true;
        for &sector in &sectors {
            w.write(0, sector, vec![5; 4096]);
        }
        w.start_admin(
            0,
            Command::Secondary {
                volume: V,
                held_open: false,
            },
        );
        w.run_ms(2_000);
        assert!(w.is_primary(0, 0), "writes are under way");
        w.nodes[0].hold_data = false;
        let mut cleared = false;
        w.watch_quiet(0, |w, _| {
            if !w.nodes[0].durable_flags().contains(MdFlags::PRIMARY_IND) {
                cleared = true;
                let bits = w.nodes[0].durable_bits();
                assert!(sectors.iter().all(|&s| bits.any_set(s, 8)));
                assert!(w.nodes[0].requests_open.is_empty());
            }
        });
        assert!(cleared);
    }
}

#[test]
fn i24_an_unlogged_write_needs_every_bit_durable_and_no_connection() {
    let mut w = World::new(7);
    w.link = false;
    w.up(0, &NetOptions::default());
    w.up(1, &NetOptions::default());
    w.primary(0, true).unwrap();
    let suspended = |w: &World| w.nodes[0].resource.status(w.now).volumes[0].al_suspended;
    assert!(suspended(&w));
    let mut unlogged = 0;
    let mut look = |w: &World, line: &str| {
        let node = &w.nodes[0];
        let logged = |l: &str| {
            node.durable_hot()
                .contains(&ExtentNr::of_sector(Node::sector_of(l)))
        };
        if line.starts_with("write ") && !logged(line) {
            assert_eq!(node.durable_bits().count_set(), node.durable_bits().bits());
            assert!(node.state().conn < ConnState::Connected);
            unlogged += 1;
        }
        if node.durable_bits().next_clear(0).is_some() {
            assert!(!suspended(w), "a bit was cleared under a suspended log");
        }
    };
    w.nodes[0].record = Some(Vec::new());
    for n in 0..10 {
        w.write(0, n * 4096, vec![1; 4096]);
    }
    w.watch_quiet(0, &mut look);
    w.heal();
    w.watch(
        0,
        |w| w.nodes[0].state().conn == ConnState::SyncSource,
        &mut look,
    );
    w.nodes[0].record = Some(Vec::new());
    for n in 0..10 {
        w.write(0, n * 4096 + 8, vec![2; 4096]);
    }
    w.watch(0, |w| w.synced(0), &mut look);
    assert_eq!(unlogged, 10, "the ten before the connection");
    assert!(w.logged(0, "Resumed AL updates"));
    w.ends_well();
}

#[test]
fn i14_a_crash_at_any_step_of_an_attach_leaves_no_fewer_marks() {
    let crashed = |seed: u64| {
        let (mut w, _) = World::settled(seed);
        w.link = false;
        for n in 0..6 {
            w.write(0, n * 8192, vec![9; 4096]);
        }
        w.run_ms(20);
        w.kill(0);
        w
    };
    for n in 0.. {
        let mut w = crashed(8);
        let wanted: Vec<u64> = (0..6).map(|n| n * 8192).collect();
        assert!(wanted.iter().all(|&s| w.nodes[0].would_sync(s)));
        let new = Command::NewVolume {
            volume: V,
            minor: 0,
        };
        w.admin(0, new).unwrap();
        let attach = w.attach_command(0, 0);
        let id = w.start_admin(0, attach);
        let mut steps = 0;
        while steps < n && !w.nodes[0].admin.contains_key(&id) {
            w.tick();
            steps += 1;
            for &sector in &wanted {
                assert!(w.nodes[0].would_sync(sector), "after step {steps}");
            }
        }
        let over = w.nodes[0].admin.contains_key(&id);
        w.power_cut(0);
        assert!(
            wanted.iter().all(|&s| w.nodes[0].would_sync(s)),
            "cut at {n}"
        );
        w.boot(0);
        assert!(w.nodes[0].out_of_sync() >= 6 * 1024, "cut at {n}");
        if over {
            assert!(n > 4);
            break;
        }
    }
}

#[test]
fn i15_a_primarys_disk_with_an_unreadable_log_is_refused_untouched() {
    let (mut w, _) = World::settled(9);
    w.link = false;
    w.write_wait(0, 800, vec![1; 4096]);
    w.kill(0);
    let layout = rdb_sim::layout_of(DISK_SECTORS);
    let bytes = layout.al.blocks() as usize * 4096;
    w.nodes[0].disks[0].write(layout.al_sector, &vec![0x5a; bytes], true);
    let new = Command::NewVolume {
        volume: V,
        minor: 0,
    };
    w.admin(0, new).unwrap();
    w.nodes[0].record = Some(Vec::new());
    assert_eq!(code(w.attach(0)), 165);
    let record = w.nodes[0].record.take().unwrap();
    assert!(
        !record.iter().any(|l| l.starts_with("meta") || is_data(l)),
        "{record:?}"
    );
    assert_eq!(w.nodes[0].state().disk, DiskState::Diskless);
}

#[test]
fn i16_a_transaction_that_failed_costs_the_disk_and_is_not_tried_again() {
    for seed in 0..6 {
        let (mut w, _) = World::settled(seed);
        w.quiet();
        w.write_wait(0, 8192, vec![1; 4096]);
        w.nodes[0].hold_meta = true;
        let id = w.write(0, 2 * 8192, vec![2; 4096]);
        w.run_ms(20);
        assert!(!w.nodes[0].completed.contains_key(&id));
        w.nodes[0].disks[0].fail_meta = 1;
        w.nodes[0].hold_meta = false;
        let mut transactions = 0;
        let mut local = 0;
        w.watch(
            0,
            |w| w.is(0) == "Connected P/S D/U" && w.nodes[0].requests_open.is_empty(),
            |_, line| {
                transactions += usize::from(line.starts_with("meta log"));
                local += usize::from(line.starts_with("write "));
            },
        );
        assert_eq!((transactions, local), (0, 0));
        assert_eq!(
            w.nodes[0].completed[&id].as_ref().err(),
            None,
            "the peer has it"
        );
        w.attach(0).unwrap();
        w.ends_well();
    }
}

#[test]
fn i18_a_log_found_on_a_disk_does_not_outvote_the_new_one() {
    for seed in 0..4 {
        let mut w = large_pair(seed);
        // A session of many transactions.
        for n in 0..400 {
            w.write_wait(0, n * 7 % 80 * 8192, vec![1; 4096]);
        }
        w.link = false;
        w.power_cut(0);
        w.boot(0);
        w.primary(0, false).unwrap();
        for extent in [3, 77] {
            w.write_wait(0, extent * 8192, vec![2; 4096]);
            let hot = w.nodes[0].durable_hot();
            assert!(hot.contains(&ExtentNr(extent as u32)), "{hot:?}");
        }
    }
}

#[test]
fn i25_requests_at_the_end_of_the_device_stay_inside() {
    let (mut w, _) = World::settled(10);
    let end = w.nodes[0].device.unwrap();
    assert_eq!(
        end, w.nodes[0].disks[0].data_sectors,
        "the metadata lies behind"
    );
    assert!(w.write_wait(0, end - 8, vec![1; 4096]));
    assert!(w.write_wait(0, end - 1, vec![2; 512]));
    for (sector, bytes) in [
        (end - 7, 4096),
        (end, 512),
        (u64::MAX - 7, 4096),
        (end - 1, 1024),
    ] {
        let id = w.submit(0, sector, bytes, RequestKind::Discard);
        assert_eq!(w.wait_done(0, id).unwrap_err(), RequestError::Inval);
        assert_eq!(w.read(0, sector, bytes).unwrap_err(), RequestError::Inval);
    }
    w.ends_well();
}

#[test]
fn i26_a_disk_with_a_metadata_error_serves_no_write_after_it() {
    for what in ["superblock", "log", "bitmap"] {
        for seed in 0..4 {
            let mut w = large_pair(seed);
            for n in 0..67 {
                w.write_wait(0, n * 8192, vec![1; 4096]);
            }
            if what == "bitmap" {
                w.cut();
                w.quiet();
                for n in 0..10 {
                    w.write_wait(0, n * 8192, vec![1; 4096]);
                }
                w.heal();
                w.node_is(0, "SyncSource P/S U/I");
            }
            w.nodes[0].hold_meta = true;
            // Each of these makes the engine write that part.
            match what {
                "superblock" => w.cut(),
                "log" => drop(w.write(0, 70 * 8192, vec![2; 4096])),
                _ => w.run_ms(3_000),
            }
            w.run_ms(100);
            w.nodes[0].disks[0].fail_meta = 100;
            w.nodes[0].hold_meta = false;
            w.until("the disk to be given up", |w| {
                w.nodes[0].state().disk <= DiskState::Failed
            });
            w.nodes[0].record = Some(Vec::new());
            let writes: Vec<u64> = (0..10)
                .map(|n| w.write(0, n * 8192 + 16, vec![3; 4096]))
                .collect();
            w.run_ms(1_000);
            let record = w.nodes[0].record.take().unwrap();
            assert!(
                !record.iter().any(|l| l.starts_with("write ")),
                "{what}: {record:?}"
            );
            // In sync, the peer has them; without a peer, or with one that is a sync target, nobody has.
            for id in writes {
                assert_eq!(w.wait_done(0, id).is_ok(), what == "log", "{what}");
            }
            assert_eq!(w.nodes[0].state().disk, DiskState::Diskless, "{what}");
        }
    }
}

#[test]
fn i28_a_disk_says_everything_by_itself() {
    let (mut w, _) = World::settled(11);
    w.cut();
    w.quiet();
    for n in 0..5 {
        w.write_wait(0, n * 80, vec![1; 4096]);
    }
    w.secondary(0).unwrap();
    w.disconnect(0).unwrap();
    let (ids, bits) = (w.gi(0), w.nodes[0].out_of_sync());
    let before = w.is(0);
    w.detach(0, false).unwrap();
    assert_eq!(w.nodes[0].durable_gi(), ids);
    // Another machine, the same disk: nothing else is known there.
    w.power_cut(0);
    w.boot(0);
    assert_eq!((w.gi(0), w.nodes[0].out_of_sync()), (ids, bits));
    assert_eq!(w.is(0), before);
}
