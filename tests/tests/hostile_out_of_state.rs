//! Right packets at the wrong time: whatever belongs to a handshake, a bitmap's transfer, a resync or a verify that is
//! not under way ends the connection, or is answered and changes nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::hostile::HostilePeer;
use rdb_tests::packets::{self, Code, SYNCER, Sizes, State};
use rdb_tests::watch::{self, Limits};
use rdb_tests::{Siege, siege};

/// What ends a connection in sync: nothing of this kind is under way, or the peer has no business with it.
fn never() -> Vec<(Code, Vec<u8>)> {
    let mut all = vec![
        (packets::OUT_OF_SYNC, packets::extent(2048, 4096)),
        (packets::BITMAP, vec![0xff; 512]),
        (packets::BITMAP, Vec::new()),
        (packets::COMPRESSED_BITMAP, vec![0x82, 0xff, 0xff]),
        (packets::SYNC_UUID, packets::longs(&[0x1122_3344_5566_7788])),
        (packets::RS_DATA_REPLY, {
            let mut payload = packets::data_header(2048, SYNCER, 0, 0);
            payload.extend([0xee; 4096]);
            payload
        }),
        (packets::RS_DEALLOCATED, packets::extent(2048, 4096)),
        (packets::OV_REPLY, {
            let mut payload = packets::block(2048, SYNCER, 4096, 0);
            payload.extend([0xee; 20]);
            payload
        }),
        (packets::AUTH_CHALLENGE, vec![7; 64]),
        (packets::AUTH_RESPONSE, vec![7; 20]),
        (packets::PROTOCOL, packets::protocol(3)),
        (packets::CONNECTION_FEATURES, packets::features(86, 101, 15)),
        (packets::INITIAL_DATA, Vec::new()),
        (packets::INITIAL_META, Vec::new()),
        (packets::BECOME_SYNC_TARGET, Vec::new()),
        (packets::BECOME_SYNC_SOURCE, Vec::new()),
        // Numbers of later versions, and of none.
        (0x44, packets::longs(&[1, 2])),
        (0x2e, Vec::new()),
        (0x7fff, Vec::new()),
    ];
    // Longer than any block, or beyond the end, or of no bytes.
    for (code, sector, bytes) in [
        (packets::DATA_REQUEST, 0, 0),
        (packets::DATA_REQUEST, 0, 1),
        (packets::DATA_REQUEST, 1 << 40, 4096),
        (packets::DATA_REQUEST, u64::MAX, 4096),
        (packets::DATA_REQUEST, 0, 0x7fff_fe00),
        (packets::DATA_REQUEST, 0, 0x8000_0200),
        (packets::DATA_REQUEST, 0, u32::MAX),
        (packets::RS_DATA_REQUEST, 1 << 40, 4096),
        (packets::RS_DATA_REQUEST, 0, u32::MAX),
        (packets::RS_DATA_REQUEST, 0, 1 << 30),
    ] {
        all.push((code, packets::block(sector, SYNCER, bytes, 0)));
    }
    all
}

/// What a peer may say at any time that it is connected, however little it means.
fn harmless() -> Vec<(Code, Vec<u8>)> {
    vec![
        (packets::UNPLUG_REMOTE, Vec::new()),
        (packets::DELAY_PROBE, packets::words(&[1, 1])),
        (packets::PING, Vec::new()),
        (
            packets::DATA_REQUEST,
            packets::block(2048, *b"a handle", 4096, 0),
        ),
    ]
}

/// How many nodes are attacked at the same time.
const NODES: u8 = 10;

/// Those of all for the node with this number.
fn share<T>(number: u8, all: Vec<T>) -> impl Iterator<Item = T> {
    let from = all.into_iter().skip(usize::from(number));
    from.step_by(usize::from(NODES))
}

#[test]
fn in_sync_each_ends_the_connection() -> Result<()> {
    siege::many(NODES, "late", |number, siege| {
        siege.survives("packets out of their state", Limits::default(), |siege| {
            for (code, payload) in share(number, never()) {
                let what = format!("{} of {} bytes", packets::name(code), payload.len());
                let mut peer = siege
                    .connected()
                    .with_context(|| format!("before {what}"))?;
                peer.seen.clear();
                peer.say(code, &payload);
                ensure!(
                    peer.is_left_within(Duration::from_secs(5)),
                    "{what}: the connection goes on; {}",
                    peer.story()
                );
                drop(peer);
                watch::serves(siege.node()).context(what)?;
            }
            Ok(())
        })
    })
    .map(drop)
}

#[test]
fn what_is_harmless_is_taken() -> Result<()> {
    let mut siege = Siege::lay("harmless", "")?;
    siege.survives("harmless packets", Limits::default(), |siege| {
        let mut peer = siege.connected()?;
        for (code, payload) in harmless() {
            for _ in 0..20 {
                peer.say(code, &payload);
            }
            peer.pump(Duration::from_millis(200));
            ensure!(
                !peer.is_ended(),
                "{}: {}",
                packets::name(code),
                peer.story()
            );
        }
        for answer in [packets::PING_ACK, packets::DATA_REPLY] {
            let count = peer.all(answer).len();
            ensure!(count >= 20, "{count} of {}", packets::name(answer));
        }
        Ok(())
    })
}

/// Everything of a right introduction again, or with other words, in a connection that is long made.
fn again(learned: [u64; 6], size: u64) -> Vec<(Code, Vec<u8>)> {
    let mut all = vec![(packets::SYNC_PARAM89, packets::sync_param())];
    let [current, bitmap, first, second, ..] = learned;
    for uuids in [
        [current & !1, bitmap, first, second, 0, 0],
        [current & !1, 0, first, second, u64::MAX, 0xff],
        [4, 0, 0, 0, 0, 0],
        [0x1122_3344_5566_7788, 0, 0, 0, 0, 8],
        [0x1122_3344_5566_7788, current, 0, 0, 0, 8],
        [0; 6],
        [u64::MAX; 6],
    ] {
        all.push((packets::UUIDS, packets::longs(&uuids)));
    }
    for role in 0..4 {
        for conn in [0, 9, 10, 12, 16, 17, 22, 23, 31] {
            for disk in [0, 2, 3, 4, 8, 15] {
                let state = State {
                    role,
                    peer: 1,
                    conn,
                    disk,
                    pdsk: 8,
                    more: 0,
                };
                all.push((packets::STATE, state.payload()));
            }
        }
    }
    for word in [0, u32::MAX, 0x00ff_ffff, 0x0066_0000] {
        all.push((packets::STATE, packets::words(&[word])));
    }
    all.push((packets::SIZES, Sizes::of(size).payload()));
    all
}

/// Whatever it says of itself again, users are served and the data stay.
fn says_itself_again(
    name: &str,
    join: impl Fn(&Siege) -> Result<HostilePeer> + Sync,
) -> Result<()> {
    let limits = Limits {
        log_bytes: 256 << 10,
        ..Limits::default()
    };
    siege::many(NODES, name, |number, siege| {
        siege.survives("introductions again", limits, |siege| {
            let mut peer = join(siege)?;
            let learned = peer.learned.uuids.unwrap_or_default();
            let sectors = siege.pair.data_bytes() / 512;
            for (code, payload) in share(number, again(learned, sectors)) {
                let what = format!("{} {payload:02x?}", packets::name(code));
                if peer.is_ended() {
                    drop(peer);
                    siege.await_listening()?;
                    watch::serves(siege.node()).with_context(|| format!("before {what}"))?;
                    peer = join(siege).with_context(|| format!("before {what}"))?;
                }
                peer.say(code, &payload);
                peer.pump(Duration::from_millis(20));
                let volume = siege.pair.alice.volume(0)?;
                ensure!(
                    volume.ro.starts_with("Primary/")
                        && volume.ds.starts_with("UpToDate/")
                        && !volume.is_suspended(),
                    "{what}: {volume:?}\n{}",
                    siege.pair.alice.log_tail(10)
                );
            }
            drop(peer);
            siege.await_listening()
        })
    })
    .map(drop)
}

#[test]
fn introductions_again_in_sync() -> Result<()> {
    says_itself_again("again-in-sync", Siege::connected)
}

#[test]
fn introductions_again_in_a_resync() -> Result<()> {
    says_itself_again("again-resync", Siege::syncing)
}

#[test]
fn introductions_again_without_a_disk() -> Result<()> {
    says_itself_again("again-diskless", Siege::diskless)
}
