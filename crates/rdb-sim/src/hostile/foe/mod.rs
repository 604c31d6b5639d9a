//! What a hostile peer knows, and what it makes of it.

use std::collections::VecDeque;

use rdb_engine::config::{NetOptions, Protocol, SplitBrainPolicy};
use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};
use replica_proto::bitmap_code::{BitSource, BitmapSender, Run};
use replica_proto::{
    AfterSb, AlgorithmName, BlockAck, BlockId, ConnFlags, ConnectionFeatures, DataHeader, DdsFlags,
    DigestAlgorithm, DpFlags, Features, Packet, ProtocolParams, QueueLimits, Sizes, StateWord,
    SyncParam, UuidFlags, Uuids, WireContext, WireProtocol,
};

mod habit;
mod wrong;

use self::wrong::number;
use super::{Draw, Say};

/// Something that the node has asked or said, and that a right peer would answer.
#[derive(Debug, Clone)]
struct Asked {
    volume: u16,
    packet: Packet,
    /// Bytes that it is about.
    bytes: u32,
}

/// What it knows of a volume.
#[derive(Debug, Clone)]
struct Volume {
    /// Sectors of the device.
    size: u64,
    uuids: Option<Uuids>,
    state: VolumeState,
}

/// A peer that knows the protocol, and what the node has told it.
#[derive(Debug)]
pub(crate) struct Foe {
    /// As the node decodes and encodes.
    pub(crate) wire: WireContext,
    pub(crate) options: NetOptions,
    pub(crate) knows_secret: bool,
    volumes: Vec<Volume>,
    challenge: Option<Vec<u8>>,
    asked: VecDeque<Asked>,
    said: VecDeque<Say>,
    epoch_writes: u32,
    /// It wants the node's data: it says that it has older ones.
    pub(crate) as_target: bool,
    /// It says that it is in sync, and orders full syncs from its disk that it never begins.
    pub(crate) orders_syncs: bool,
}

/// Bits in a pattern: none, all, or some.
struct Pattern {
    bits: u64,
    period: u64,
}

impl Pattern {
    fn is_set(&self, bit: u64) -> bool {
        match self.period {
            0 => false,
            period => bit.is_multiple_of(period),
        }
    }
}

impl BitSource for Pattern {
    fn bits(&self) -> u64 {
        self.bits
    }

    fn word(&self, index: u64) -> u64 {
        (0..64)
            .filter(|n| index * 64 + n < self.bits && self.is_set(index * 64 + n))
            .fold(0, |word, n| word | 1 << n)
    }

    fn run(&self, from: u64) -> Run {
        let set = self.is_set(from);
        let end = match (self.period, set) {
            (0 | 1, _) => self.bits,
            (_, true) => from + 1,
            (period, false) => from.next_multiple_of(period),
        };
        Run {
            set,
            len: end.min(self.bits) - from,
        }
    }
}

impl Foe {
    /// It has been told how the resource is configured, and how large its devices are.
    pub(crate) fn new(options: &NetOptions, sizes: &[u64]) -> Foe {
        let volume = |&size| Volume {
            size,
            uuids: None,
            state: VolumeState::INITIAL,
        };
        Foe {
            wire: WireContext::initial(),
            options: options.clone(),
            knows_secret: true,
            volumes: sizes.iter().map(volume).collect(),
            challenge: None,
            asked: VecDeque::new(),
            said: VecDeque::new(),
            epoch_writes: 0,
            as_target: false,
            orders_syncs: false,
        }
    }

    /// A new connection: what was asked over the last one is forgotten, what was learnt is not.
    pub(crate) fn begin(&mut self) {
        self.wire = WireContext::initial();
        self.challenge = None;
        self.asked.clear();
        self.epoch_writes = 0;
    }

    /// The node has said this.
    pub(crate) fn hear(&mut self, volume: u16, packet: &Packet, payload: u32) {
        let known = self.volumes.get_mut(usize::from(volume));
        let mut bytes = payload;
        match packet {
            Packet::AuthChallenge(bytes) => self.challenge = Some(bytes.clone()),
            Packet::Uuids(uuids) => {
                if let Some(known) = known {
                    known.uuids = Some(*uuids);
                }
                return;
            }
            Packet::Sizes(sizes) => {
                if let Some(known) = known.filter(|_| sizes.c_size != 0) {
                    known.size = sizes.c_size;
                }
                return;
            }
            Packet::State(word) => {
                if let (Some(known), Ok(state)) = (known, VolumeState::from_word(word.0)) {
                    known.state = state;
                }
                return;
            }
            Packet::Trim(_, size) | Packet::Zeroes(_, size) => {
                bytes = *size;
                self.epoch_writes += 1;
            }
            Packet::Data(_) => self.epoch_writes += 1,
            Packet::Barrier(_) => bytes = std::mem::take(&mut self.epoch_writes),
            Packet::DataRequest(r)
            | Packet::RsDataRequest(r)
            | Packet::CsumRsRequest(r, _)
            | Packet::OvReply(r, _) => bytes = r.bytes,
            Packet::RsDataReply(_)
            | Packet::Ping
            | Packet::StateChgReq(_)
            | Packet::ConnStChgReq(_)
            | Packet::SyncUuid(_)
            | Packet::Bitmap(_)
            | Packet::CompressedBitmap(_) => {}
            _ => return,
        }
        if self.asked.len() >= 512 {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked {
            volume,
            packet: packet.clone(),
            bytes,
        });
    }

    fn keep(&mut self, say: &Say) {
        if self.said.len() >= 24 {
            self.said.pop_front();
        }
        self.said.push_back(say.clone());
    }

    // ---- right ---------------------------------------------------------------------------------------------------

    fn features(&self, draw: &mut dyn Draw) -> Packet {
        let mut features = ConnectionFeatures::OURS;
        if draw.one_in(4) {
            features.features = Features::from_bits_retain(number(draw) as u32);
        }
        if draw.one_in(8) {
            features.max = 86 + draw.below(16) as u32;
            features.min = features.max.min(86 + draw.below(16) as u32);
        }
        Packet::ConnectionFeatures(features)
    }

    fn protocol(&self) -> ProtocolParams {
        let own = &self.options;
        let policy = |p: SplitBrainPolicy| {
            AfterSb::from_code(p as u32).map_or(AfterSb::Disconnect, AfterSb::convert_for_receiver)
        };
        ProtocolParams {
            protocol: match own.protocol {
                Protocol::A => WireProtocol::A,
                Protocol::B => WireProtocol::B,
                Protocol::C => WireProtocol::C,
            },
            after_sb_0p: policy(own.after_sb_0pri),
            after_sb_1p: policy(own.after_sb_1pri),
            after_sb_2p: policy(own.after_sb_2pri),
            conn_flags: ConnFlags::empty(),
            two_primaries: false,
            integrity_alg: name_of(own.integrity_alg),
        }
    }

    fn sync_param(&self) -> SyncParam {
        SyncParam {
            verify_alg: AlgorithmName::new(&self.options.verify_alg).unwrap_or_default(),
            csums_alg: name_of(self.options.csums_alg),
            ..SyncParam::default()
        }
    }

    fn sizes(&self, volume: u16) -> Sizes {
        let size = self.volumes.get(usize::from(volume)).map_or(0, |v| v.size);
        Sizes {
            d_size: size,
            u_size: 0,
            c_size: size,
            max_bio_size: 1 << 20,
            queue_order_type: 0,
            dds_flags: DdsFlags::empty(),
            limits: Some(QueueLimits::default()),
        }
    }

    /// Generations that fit the node's in one of the ways that there are.
    fn uuids(&self, volume: u16, draw: &mut dyn Draw) -> Uuids {
        let known = self.volumes.get(usize::from(volume));
        let own = known.and_then(|v| v.uuids);
        let own = own.unwrap_or(Uuids {
            current: 4,
            bitmap: 0,
            history: [0; 2],
            bits: 0,
            flags: UuidFlags::empty(),
        });
        if self.as_target && !draw.one_in(6) {
            let olds = [own.bitmap, own.history[0], 4];
            let current = olds.into_iter().find(|&uuid| uuid != 0).unwrap_or(4);
            return Uuids {
                current,
                bitmap: 0,
                bits: 0,
                flags: UuidFlags::empty(),
                ..own
            };
        }
        if self.orders_syncs {
            return Uuids {
                bitmap: 0,
                bits: 0,
                flags: UuidFlags::empty(),
                ..own
            };
        }
        let other = 0x0123_4567_89ab_cdee;
        let mut uuids = match draw.below(10) {
            0..=3 => Uuids { bitmap: 0, ..own },
            4 => Uuids {
                current: own.bitmap,
                bitmap: 0,
                ..own
            },
            5 => Uuids {
                current: other,
                bitmap: own.current,
                ..own
            },
            6 => Uuids {
                current: other,
                bitmap: 0,
                history: [own.current, own.bitmap],
                ..own
            },
            7 => Uuids { current: 4, ..own },
            8 => Uuids {
                current: own.history[0],
                bitmap: 0,
                history: [0; 2],
                ..own
            },
            _ => Uuids {
                current: other,
                bitmap: other + 2,
                ..own
            },
        };
        uuids.bits = if draw.one_in(3) { number(draw) } else { 0 };
        uuids.flags = UuidFlags::empty();
        if draw.one_in(4) {
            uuids.flags = UuidFlags::from_bits_retain(draw.below(32));
        }
        uuids
    }

    /// A state as a right peer might have.
    fn state(&self, draw: &mut dyn Draw, conn: ConnState) -> VolumeState {
        if self.as_target && !draw.one_in(6) {
            return VolumeState {
                role: Role::Secondary,
                conn,
                disk: DiskState::Inconsistent,
                ..VolumeState::INITIAL
            };
        }
        if self.orders_syncs {
            return VolumeState {
                role: Role::Secondary,
                conn,
                disk: DiskState::UpToDate,
                ..VolumeState::INITIAL
            };
        }
        let disk = match draw.below(8) {
            0..=4 => DiskState::UpToDate,
            5 => DiskState::Inconsistent,
            6 => DiskState::Diskless,
            _ => DiskState::Outdated,
        };
        VolumeState {
            role: if draw.one_in(3) {
                Role::Primary
            } else {
                Role::Secondary
            },
            conn,
            disk,
            ..VolumeState::INITIAL
        }
    }

    /// What a right peer says first, as far as this stage: 0 features, 1 authentication, 2 the connection's parameters,
    /// 3 those of each volume, 4 the states.
    pub(crate) fn greet(&mut self, stage: u64, draw: &mut dyn Draw) -> Vec<Say> {
        let mut out = Vec::new();
        match stage {
            0 => out.push(Say::of(0, self.features(draw))),
            1 => out.extend(self.authenticate(draw)),
            2 => {
                out.push(Say::of(0, Packet::Protocol(self.protocol())));
            }
            3 => {
                for volume in 0..self.volumes.len() as u16 {
                    out.push(Say::of(volume, Packet::SyncParam(self.sync_param())));
                    out.push(Say::of(volume, Packet::Sizes(self.sizes(volume))));
                    out.push(Say::of(volume, Packet::Uuids(self.uuids(volume, draw))));
                }
            }
            _ => {
                for volume in 0..self.volumes.len() as u16 {
                    let state = self.state(draw, ConnState::WFReportParams);
                    let word = StateWord(state.to_word());
                    out.push(Say::of(volume, Packet::State(word)));
                }
            }
        }
        out
    }

    /// Whether the node has asked who this is.
    pub(crate) fn is_challenged(&self) -> bool {
        self.challenge.is_some()
    }

    /// Whether this asks who the other is: nobody goes on without having heard it.
    pub(crate) fn is_question_of_identity(&self, packet: &Packet) -> bool {
        matches!(packet, Packet::AuthChallenge(_))
    }

    /// Whether it hands the node its own challenge back, which the driver notices.
    pub(crate) fn reflects(&self, packet: &Packet) -> bool {
        match (packet, &self.challenge) {
            (Packet::AuthChallenge(said), Some(own)) => said.starts_with(own),
            _ => false,
        }
    }

    fn authenticate(&mut self, draw: &mut dyn Draw) -> Vec<Say> {
        let Some(challenge) = &self.challenge else {
            return Vec::new();
        };
        let mine = vec![draw.below(256) as u8; 64];
        let response = match &self.options.authentication {
            Some(auth) if self.knows_secret => {
                auth.algorithm.respond(auth.secret.as_bytes(), challenge)
            }
            Some(auth) => auth.algorithm.respond(b"a guess", challenge),
            None => vec![0; 32],
        };
        // Its own challenge back: whoever answers that answers for a stranger.
        let mine = if draw.one_in(6) {
            challenge.clone()
        } else {
            mine
        };
        vec![
            Say::of(0, Packet::AuthChallenge(mine)),
            Say::of(0, Packet::AuthResponse(response)),
        ]
    }

    /// The whole bitmap, none set, all, or one of some.
    pub(crate) fn bitmap(&mut self, volume: u16, draw: &mut dyn Draw) -> Vec<Say> {
        let size = self.volumes.get(usize::from(volume)).map_or(0, |v| v.size);
        let period = [0, 1, 3, 1000][draw.below(4) as usize];
        let pattern = Pattern {
            bits: size.div_ceil(8),
            period,
        };
        let mut sender = BitmapSender::new(&self.wire, pattern.bits, self.options.use_rle);
        let mut out = Vec::new();
        while out.len() < 400 {
            let Some(packet) = sender.next_packet(&pattern) else {
                break;
            };
            out.push(Say::of(volume, packet));
        }
        out
    }

    /// An answer to one of the things that the node has asked, right but for now and then.
    pub(crate) fn answer(&mut self, draw: &mut dyn Draw) -> Option<Say> {
        if self.asked.is_empty() {
            return None;
        }
        let first = !draw.one_in(3);
        let at = match first {
            true => 0,
            false => draw.below(self.asked.len() as u64) as usize,
        };
        let asked = self.asked.remove(at)?;
        let well = !draw.one_in(6);
        let say = self.answer_to(&asked, well, draw)?;
        self.keep(&say);
        Some(say)
    }

    /// A right answer to what the node has asked first.
    pub(crate) fn answer_well(&mut self, draw: &mut dyn Draw) -> Option<Say> {
        let asked = self.asked.pop_front()?;
        self.answer_to(&asked, true, draw)
    }

    fn answer_to(&mut self, asked: &Asked, well: bool, draw: &mut dyn Draw) -> Option<Say> {
        let volume = asked.volume;
        let ack = |sector, block_id| BlockAck {
            sector,
            block_id,
            bytes: asked.bytes,
            seq_num: 0,
        };
        let packet = match &asked.packet {
            Packet::Data(h) | Packet::Trim(h, _) | Packet::Zeroes(h, _) => {
                let ack = ack(h.sector, h.block_id);
                if !well {
                    Packet::NegAck(ack)
                } else if h.flags.contains(DpFlags::SEND_RECEIVE_ACK) {
                    Packet::RecvAck(ack)
                } else if h.flags.contains(DpFlags::MAY_SET_IN_SYNC) {
                    Packet::RsWriteAck(ack)
                } else if h.flags.contains(DpFlags::SEND_WRITE_ACK) {
                    Packet::WriteAck(ack)
                } else {
                    return None;
                }
            }
            Packet::Barrier(barrier) => Packet::BarrierAck {
                barrier: *barrier,
                set_size: asked.bytes.wrapping_add(u32::from(!well)),
            },
            Packet::DataRequest(r) | Packet::RsDataRequest(r) => {
                let header = DataHeader {
                    sector: r.sector,
                    block_id: r.block_id,
                    seq_num: 0,
                    flags: DpFlags::empty(),
                };
                let application = matches!(asked.packet, Packet::DataRequest(_));
                let packet = match (application, well) {
                    (true, true) => Packet::DataReply(header),
                    (false, true) => Packet::RsDataReply(header),
                    (true, false) => Packet::NegDReply(ack(r.sector, r.block_id)),
                    (false, false) => Packet::NegRsDReply(ack(r.sector, r.block_id)),
                };
                if !well {
                    return Some(Say::of(volume, packet));
                }
                let bytes = r.bytes.min(1 << 20);
                return Some(Say::with_data(volume, packet, bytes, draw.below(256) as u8));
            }
            Packet::CsumRsRequest(r, _) => Packet::RsIsInSync(ack(r.sector, r.block_id)),
            Packet::OvReply(r, _) => {
                let id = if well {
                    BlockId::IN_SYNC
                } else {
                    BlockId::OUT_OF_SYNC
                };
                Packet::OvResult(ack(r.sector, id))
            }
            Packet::RsDataReply(h) => {
                let ack = ack(h.sector, BlockId::SYNCER);
                if well {
                    Packet::RsWriteAck(ack)
                } else {
                    Packet::NegAck(ack)
                }
            }
            Packet::Ping => Packet::PingAck,
            Packet::StateChgReq(_) => Packet::StateChgReply(if well { 1 } else { -10 }),
            Packet::ConnStChgReq(_) => Packet::ConnStChgReply(if well { 1 } else { -10 }),
            _ => return None,
        };
        Some(Say::of(volume, packet))
    }
}

fn name_of(algorithm: Option<DigestAlgorithm>) -> AlgorithmName {
    let name = algorithm.map_or("", DigestAlgorithm::name);
    AlgorithmName::new(name).unwrap_or_default()
}
