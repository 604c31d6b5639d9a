//! Every packet, right and wrong, with each header, in each state that a peer can bring a node to: after each the node is
//! Primary with a good disk, not suspended, and in the end as before. The order is drawn from a fixed seed (`RDB_TEST_SEED`
//! for another), and as much of it is done as fits into the time (`RDB_SWEEP_SECONDS` for more).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdb_tests::hostile::{Guise, HostilePeer, Line};
use rdb_tests::packets::{self, Code, SYNCER, Sizes, State};
use rdb_tests::rng::Rng;
use rdb_tests::watch::Limits;
use rdb_tests::wire::Header;
use rdb_tests::{Siege, siege};

/// How far the conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Both streams are named.
    Named,
    /// The protocol is agreed.
    Agreed,
    /// The peer has introduced itself but for identifiers and state.
    Halfway,
    /// In sync.
    InSync,
    /// The node has sent its bitmap, and waits for the peer's.
    Bitmap,
    /// A resync runs, with the node as its source.
    Source,
    /// The peer has no disk.
    Diskless,
}

const STAGES: [Stage; 7] = [
    Stage::Named,
    Stage::Agreed,
    Stage::Halfway,
    Stage::InSync,
    Stage::Bitmap,
    Stage::Source,
    Stage::Diskless,
];

/// What is done to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Right,
    Twice,
    WrongLine,
    OtherVolume,
    Empty,
    Short,
    Long,
    Zeroes,
    Ones,
    /// The header tells another length.
    Says(u32),
    /// Only so many bytes of a hundred, and then the end.
    Cut(u8),
    /// Byte by byte.
    Drip,
}

const SHAPES: [Shape; 20] = [
    Shape::Right,
    Shape::Twice,
    Shape::WrongLine,
    Shape::OtherVolume,
    Shape::Empty,
    Shape::Short,
    Shape::Long,
    Shape::Zeroes,
    Shape::Ones,
    Shape::Says(0),
    Shape::Says(1),
    Shape::Says(0x7fff_ffff),
    Shape::Says(0x8000_0001),
    Shape::Says(0xffff_ffff),
    Shape::Says(0x0010_0018),
    Shape::Says(0x0010_0019),
    Shape::Cut(10),
    Shape::Cut(50),
    Shape::Cut(99),
    Shape::Drip,
];

#[derive(Debug, Clone, Copy)]
struct Attack {
    stage: Stage,
    header: Header,
    code: Code,
    shape: Shape,
}

/// All attacks in an order that is drawn.
fn attacks(rng: &mut Rng) -> Result<Vec<Attack>> {
    let codes: Vec<Code> = packets::ALL
        .iter()
        .map(|known| known.0)
        .chain([0x25, 0x2e, 0x35, 0x44, 0x59, 0x7fff, 0xfffd])
        .collect();
    let mut all = Vec::new();
    for stage in STAGES {
        for code in &codes {
            for shape in SHAPES {
                for header in Header::ALL {
                    // What has not the agreed header is all alike: some of it is enough.
                    let is_agreed = (header == Header::H100) == (stage != Stage::Named);
                    if is_agreed || rng.below(30) == 0 {
                        all.push(Attack {
                            stage,
                            header,
                            code: *code,
                            shape,
                        });
                    }
                }
            }
        }
    }
    for last in (1..all.len()).rev() {
        all.swap(last, usize::try_from(rng.below(last as u64 + 1))?);
    }
    Ok(all)
}

/// A payload as a right peer might send it.
fn payload(code: Code, peer: &HostilePeer) -> Vec<u8> {
    let learned = &peer.learned;
    let id = *b"a handle";
    let data = |id, flags| {
        let mut payload = packets::data_header(2048, id, 1, flags);
        payload.extend([0xee; 4096]);
        payload
    };
    let sized = |flags| {
        let mut payload = packets::data_header(2048, id, 1, flags);
        payload.extend(4096u32.to_be_bytes());
        payload
    };
    let sectors = learned.sizes.map_or(32_688, |sizes| sizes[0]);
    let digest = |mut payload: Vec<u8>| {
        payload.extend([0xee; 20]);
        payload
    };
    match code {
        packets::DATA => data(id, 0x100),
        packets::DATA_REPLY => data(id, 0),
        packets::RS_DATA_REPLY => data(SYNCER, 0),
        packets::TRIM => sized(0x140),
        packets::ZEROES => sized(0x500),
        packets::WSAME => {
            let mut payload = sized(0x300);
            payload.extend([0xee; 512]);
            payload
        }
        packets::BARRIER | packets::BARRIER_ACK | packets::DELAY_PROBE => packets::words(&[1, 0]),
        packets::BITMAP => vec![0x55; 512],
        packets::COMPRESSED_BITMAP => vec![0x82, 0xff, 0x0f],
        packets::DATA_REQUEST => packets::block(2048, id, 4096, 0),
        packets::RS_DATA_REQUEST | packets::OV_REQUEST | packets::RS_THIN_REQ => {
            packets::block(2048, SYNCER, 4096, 0)
        }
        packets::OV_REPLY | packets::CSUM_RS_REQUEST => {
            digest(packets::block(2048, SYNCER, 4096, 0))
        }
        packets::PROTOCOL | packets::PROTOCOL_UPDATE => packets::protocol(3),
        packets::SYNC_PARAM | packets::SYNC_PARAM89 => packets::sync_param(),
        packets::SIZES => Sizes::of(sectors).payload(),
        packets::UUIDS => packets::longs(&learned.uuids.unwrap_or_default()),
        packets::STATE => {
            let mut state = State::meeting(8);
            (state.conn, state.pdsk, state.peer) = (10, 8, 1);
            state.payload()
        }
        packets::SYNC_UUID => packets::longs(&[0x1122_3344_5566_7788]),
        packets::AUTH_CHALLENGE => vec![0x5c; 64],
        packets::AUTH_RESPONSE => vec![0x5c; 20],
        packets::STATE_CHG_REQ => packets::change(3, 1),
        packets::CONN_ST_CHG_REQ => packets::change(0x1f0, 0x10),
        packets::STATE_CHG_REPLY | packets::CONN_ST_CHG_REPLY => packets::words(&[1]),
        packets::RECV_ACK
        | packets::WRITE_ACK
        | packets::SUPERSEDED
        | packets::NEG_ACK
        | packets::NEG_DREPLY
        | packets::RETRY_WRITE => packets::block(2048, id, 4096, 1),
        packets::RS_WRITE_ACK
        | packets::NEG_RS_DREPLY
        | packets::RS_IS_IN_SYNC
        | packets::RS_CANCEL => packets::block(2048, SYNCER, 4096, 1),
        packets::OV_RESULT => packets::block(2048, 4711u64.to_be_bytes(), 4096, 1),
        packets::OUT_OF_SYNC | packets::RS_DEALLOCATED => packets::extent(2048, 4096),
        packets::CONNECTION_FEATURES => packets::features(86, 101, packets::FEATURE_FLAGS),
        _ => Vec::new(),
    }
}

fn join(siege: &Siege, stage: Stage) -> Result<HostilePeer> {
    match stage {
        Stage::Named => HostilePeer::meet(&siege.place()),
        Stage::Agreed => {
            let mut peer = HostilePeer::agree(&siege.place())?;
            peer.pump(Duration::from_millis(20));
            Ok(peer)
        }
        Stage::Halfway => {
            let mut peer = HostilePeer::agree(&siege.place())?;
            peer.pump_until(Duration::from_secs(2), |peer| peer.learned.state.is_some());
            for (code, payload) in peer.introduction(&Guise::equal()) {
                if ![packets::UUIDS, packets::STATE].contains(&code) {
                    peer.say(code, &payload);
                }
            }
            Ok(peer)
        }
        Stage::InSync => siege.connected(),
        Stage::Bitmap => {
            let mut peer = siege.peer(&Guise::blank())?;
            peer.until_node(&siege.pair.alice, "a bitmap on its way", |volume| {
                volume.cs == "WFBitMapS"
            })?;
            Ok(peer)
        }
        Stage::Source => siege.syncing(),
        Stage::Diskless => siege.diskless(),
    }
}

fn strike(peer: &mut HostilePeer, attack: Attack) {
    let Attack {
        header,
        code,
        shape,
        ..
    } = attack;
    let is_meta = packets::ALL.iter().any(|known| known.0 == code && known.2);
    let is_meta = is_meta != (shape == Shape::WrongLine);
    let on = if is_meta { Line::Meta } else { Line::Data };
    let mut body = payload(code, peer);
    match shape {
        Shape::Empty => body.clear(),
        Shape::Short => body.truncate(body.len().saturating_sub(1)),
        Shape::Long => body.push(0),
        Shape::Zeroes => body.fill(0),
        Shape::Ones => body.fill(0xff),
        _ => {}
    }
    let volume = if shape == Shape::OtherVolume { 77 } else { 0 };
    let mut packet = header.packet(volume, code, &body);
    match shape {
        Shape::Says(length) => packet = header.lying(volume, code, length, &body),
        Shape::Twice => packet = packet.repeat(2),
        Shape::Cut(percent) => packet.truncate(packet.len() * usize::from(percent) / 100),
        _ => {}
    }
    if shape == Shape::Drip && packet.len() < 200 {
        peer.drip(on, &packet, Duration::from_millis(1));
    } else {
        peer.throw(on, &packet);
    }
    peer.pump(Duration::from_millis(30));
}

/// How many nodes are attacked at the same time; most of it is waiting for a node to listen again.
const NODES: u8 = 12;

/// So many attacks must have been made, on any machine.
const LEAST: usize = 200;

#[test]
fn every_packet_in_every_state() -> Result<()> {
    let seed = std::env::var("RDB_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut rng = Rng::new(seed.unwrap_or(20_260_101));
    let seconds = std::env::var("RDB_SWEEP_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(45));
    let attacks = attacks(&mut rng)?;
    let made: usize = siege::many(NODES, "sweep", |number, siege| {
        let own = attacks.iter().skip(usize::from(number));
        besiege(siege, own.step_by(usize::from(NODES)), deadline)
    })?
    .iter()
    .sum();
    eprintln!("{made} of {} attacks", attacks.len());
    ensure!(made >= LEAST, "only {made} attacks");
    Ok(())
}

/// Attacks one node until the time is over; how often.
fn besiege<'a>(
    siege: &mut Siege,
    attacks: impl Iterator<Item = &'a Attack>,
    deadline: Instant,
) -> Result<usize> {
    let limits = Limits {
        log_bytes: 64 << 20,
        kept_kib: 32 << 10,
        ..Limits::default()
    };
    let mut made = 0;
    siege.survives("the sweep", limits, |siege| {
        let mut last = None;
        for attack in attacks {
            if Instant::now() > deadline {
                break;
            }
            siege.await_listening()?;
            let mut peer = join(siege, attack.stage)
                .with_context(|| format!("{made} attacks, {attack:?} after {last:?}"))?;
            strike(&mut peer, *attack);
            let volume = siege.pair.alice.volume(0)?;
            ensure!(
                volume.ro.starts_with("Primary/")
                    && volume.ds.starts_with("UpToDate/")
                    && !volume.is_suspended(),
                "{attack:?}: {volume:?}"
            );
            drop(peer);
            siege
                .node()
                .is_well()
                .with_context(|| format!("{attack:?}"))?;
            (made, last) = (made + 1, Some(attack));
        }
        siege.await_listening()
    })?;
    Ok(made)
}
