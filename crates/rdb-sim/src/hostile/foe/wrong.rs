//! What it says that is wrong: any packet, with fields that are right or at a limit.

use rdb_engine::state::{Change, ConnState, DiskState, Role};
use replica_proto::{
    AfterSb, AlgorithmName, BarrierNr, BlockAck, BlockDesc, BlockId, BlockRequest, Command,
    ConnFlags, ConnectionFeatures, DataHeader, DdsFlags, Digest, DpFlags, Features, Packet,
    ProtocolParams, Sizes, SnapshotAnswer, SnapshotName, SnapshotOrder, SnapshotRefusal,
    SnapshotStep, StateChange, StateWord, SyncParam, WireProtocol,
};

use super::Foe;
use crate::hostile::{Draw, Say};

/// Numbers at which something begins or ends.
const LIMITS: [u64; 26] = [
    0,
    1,
    7,
    8,
    511,
    512,
    513,
    4095,
    4096,
    4097,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 512,
    4 << 20,
    128 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 31) + 1,
    u32::MAX as u64,
    (1 << 32) + 8,
    (1 << 53) - 8,
    (1 << 54) - 8,
    1 << 54,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

/// Packets that change what a volume is, while something of the node's is under way.
const CHANGING: &[Command] = &[
    Command::Sizes,
    Command::Sizes,
    Command::Uuids,
    Command::State,
    Command::StateChgReq,
    Command::ConnStChgReq,
    Command::SyncUuid,
];

impl Foe {
    /// What it said before, once more.
    pub(crate) fn again(&mut self, draw: &mut dyn Draw) -> Option<Say> {
        if self.said.is_empty() {
            return None;
        }
        let at = draw.below(self.said.len() as u64) as usize;
        self.said.get(at).cloned()
    }

    /// Any packet, with fields that are right or at a limit.
    pub(crate) fn anything(&mut self, draw: &mut dyn Draw) -> Say {
        let commands = match draw.below(6) {
            0 => CHANGING,
            _ => Command::ALL,
        };
        let command = commands[draw.below(commands.len() as u64) as usize];
        let count = self.volumes.len() as u64;
        let volume = match draw.below(16) {
            0 => number(draw) as u16,
            n => (n % count) as u16,
        };
        let say = self.say(command, volume, draw);
        self.keep(&say);
        say
    }

    #[expect(clippy::too_many_lines, reason = "a table: one arm a packet")]
    fn say(&mut self, command: Command, volume: u16, draw: &mut dyn Draw) -> Say {
        let size = self.volumes.get(usize::from(volume)).map_or(0, |v| v.size);
        let (sector, bytes) = (sector(size, draw), bytes(draw));
        let id = self.block_id(draw);
        let header = DataHeader {
            sector,
            block_id: id,
            seq_num: number(draw) as u32,
            flags: DpFlags::from_bits_retain(match draw.below(4) {
                0 => DpFlags::SEND_WRITE_ACK.bits(),
                1 => DpFlags::SEND_RECEIVE_ACK.bits(),
                _ => number(draw) as u32,
            }),
        };
        let request = BlockRequest {
            sector,
            block_id: id,
            bytes,
        };
        let ack = BlockAck {
            sector,
            block_id: id,
            bytes,
            seq_num: number(draw) as u32,
        };
        let digest = |draw: &mut dyn Draw| {
            let lens = [4, 32, 64, 1 + draw.below(64) as usize];
            let len = lens[draw.below(4) as usize];
            Digest::zeros(len)
                .or(Digest::zeros(4))
                .expect("four bytes are a digest")
        };
        let packet = match command {
            Command::InitialData => Packet::InitialData,
            Command::InitialMeta => Packet::InitialMeta,
            Command::ConnectionFeatures => Packet::ConnectionFeatures(ConnectionFeatures {
                min: number(draw) as u32,
                max: number(draw) as u32,
                features: Features::from_bits_retain(number(draw) as u32),
            }),
            Command::AuthChallenge => {
                Packet::AuthChallenge(vec![draw.below(256) as u8; 64 + draw.below(65) as usize])
            }
            Command::AuthResponse => {
                Packet::AuthResponse(vec![draw.below(256) as u8; 1 + draw.below(64) as usize])
            }
            Command::Protocol => Packet::Protocol(self.any_protocol(draw)),
            Command::ProtocolUpdate => Packet::ProtocolUpdate(self.any_protocol(draw)),
            Command::SyncParam | Command::SyncParam89 => Packet::SyncParam(self.any_pace(draw)),
            Command::Sizes => Packet::Sizes(self.any_sizes(volume, draw)),
            Command::Uuids => Packet::Uuids(self.uuids(volume, draw)),
            Command::State => Packet::State(self.any_state(volume, draw)),
            Command::SyncUuid => Packet::SyncUuid(number(draw)),
            Command::StateChgReq => Packet::StateChgReq(any_change(draw)),
            Command::ConnStChgReq => Packet::ConnStChgReq(any_change(draw)),
            Command::StateChgReply => Packet::StateChgReply(number(draw) as i32),
            Command::ConnStChgReply => Packet::ConnStChgReply(number(draw) as i32),
            Command::Data => return self.bulk(volume, Packet::Data(header), draw),
            Command::DataReply => return self.bulk(volume, Packet::DataReply(header), draw),
            Command::RsDataReply => return self.bulk(volume, Packet::RsDataReply(header), draw),
            Command::WriteSame => {
                return self.bulk(volume, Packet::WriteSame(header, bytes), draw);
            }
            Command::Trim => Packet::Trim(header, bytes),
            Command::Zeroes => Packet::Zeroes(header, bytes),
            Command::Barrier => Packet::Barrier(BarrierNr::from_u32(number(draw) as u32)),
            Command::BarrierAck => Packet::BarrierAck {
                barrier: BarrierNr::from_u32(number(draw) as u32),
                set_size: number(draw) as u32,
            },
            Command::Bitmap => {
                let words = draw.below(500) as usize;
                Packet::Bitmap(vec![draw.below(256) as u8; words * 8])
            }
            Command::CompressedBitmap => {
                let mut code = vec![draw.below(256) as u8; 2 + draw.below(60) as usize];
                code[0] = draw.below(256) as u8;
                Packet::CompressedBitmap(code)
            }
            Command::UnplugRemote => Packet::UnplugRemote,
            Command::DataRequest => Packet::DataRequest(request),
            Command::RsDataRequest => Packet::RsDataRequest(request),
            Command::RsThinRequest => Packet::RsThinRequest(request),
            Command::OvRequest => Packet::OvRequest(request),
            Command::OvReply => Packet::OvReply(request, digest(draw)),
            Command::CsumRsRequest => Packet::CsumRsRequest(request, digest(draw)),
            Command::Ping => Packet::Ping,
            Command::PingAck => Packet::PingAck,
            Command::RecvAck => Packet::RecvAck(ack),
            Command::WriteAck => Packet::WriteAck(ack),
            Command::RsWriteAck => Packet::RsWriteAck(ack),
            Command::Superseded => Packet::Superseded(ack),
            Command::NegAck => Packet::NegAck(ack),
            Command::NegDReply => Packet::NegDReply(ack),
            Command::NegRsDReply => Packet::NegRsDReply(ack),
            Command::RsIsInSync => Packet::RsIsInSync(ack),
            Command::RsCancel => Packet::RsCancel(ack),
            Command::RetryWrite => Packet::RetryWrite(ack),
            Command::OvResult => Packet::OvResult(ack),
            Command::OutOfSync => Packet::OutOfSync(BlockDesc { sector, bytes }),
            Command::RsDeallocated => Packet::RsDeallocated(BlockDesc { sector, bytes }),
            Command::EnableReplication => Packet::EnableReplication {
                enable: draw.one_in(2),
            },
            Command::RdbSnapshot => Packet::RdbSnapshot(any_snapshot(draw)),
            Command::RdbSnapshotAnswer => Packet::RdbSnapshotAnswer(any_snapshot_answer(draw)),
            Command::DelayProbe => Packet::DelayProbe {
                seq_num: number(draw) as u32,
                offset_us: number(draw) as u32,
            },
        };
        Say::of(volume, packet)
    }

    fn any_pace(&self, draw: &mut dyn Draw) -> SyncParam {
        let mut params = self.sync_param();
        params.resync_rate = number(draw) as u32;
        params.c_plan_ahead = number(draw) as u32;
        params.c_delay_target = number(draw) as u32;
        params.c_fill_target = number(draw) as u32;
        params.c_max_rate = number(draw) as u32;
        params
    }

    fn any_sizes(&self, volume: u16, draw: &mut dyn Draw) -> Sizes {
        let mut sizes = self.sizes(volume);
        let size = sizes.d_size;
        let near = [size, size / 2, size + 8, size.wrapping_sub(8), 0];
        let one = |draw: &mut dyn Draw| match draw.below(6) {
            5 => number(draw),
            n => near[n as usize],
        };
        sizes.d_size = one(draw);
        sizes.u_size = if draw.one_in(2) { 0 } else { one(draw) };
        sizes.c_size = one(draw);
        sizes.max_bio_size = number(draw) as u32;
        sizes.dds_flags = DdsFlags::from_bits_retain(draw.below(8) as u16);
        sizes
    }

    fn bulk(&self, volume: u16, packet: Packet, draw: &mut dyn Draw) -> Say {
        let bytes = match draw.below(12) {
            0 => 0,
            1 => 8,
            2 => 511,
            3 => 1 << 20,
            4 => (1 << 20) + 512,
            5 => 512,
            6 => 64 << 10,
            _ => 4096,
        };
        Say::with_data(volume, packet, bytes, draw.below(256) as u8)
    }

    fn any_protocol(&self, draw: &mut dyn Draw) -> ProtocolParams {
        let mut params = self.protocol();
        match draw.below(6) {
            0 => {
                params.protocol =
                    [WireProtocol::A, WireProtocol::B, WireProtocol::C][draw.below(3) as usize]
            }
            1 => params.after_sb_0p = AfterSb::ALL[draw.below(AfterSb::ALL.len() as u64) as usize],
            2 => params.conn_flags = ConnFlags::from_bits_retain(draw.below(4) as u32),
            3 => params.two_primaries = true,
            4 => {
                let names = ["", "crc32c", "sha1", "nonsense"];
                let name = names[draw.below(4) as usize];
                params.integrity_alg = AlgorithmName::new(name).unwrap_or_default();
            }
            _ => {}
        }
        params
    }

    fn any_state(&self, volume: u16, draw: &mut dyn Draw) -> StateWord {
        if draw.one_in(6) {
            return StateWord(number(draw) as u32);
        }
        let conns = ConnState::ALL;
        let mut state = self.state(draw, ConnState::Connected);
        if draw.one_in(2) {
            state.conn = conns[draw.below(conns.len() as u64) as usize];
        }
        if draw.one_in(2) {
            let disks = DiskState::ALL;
            state.disk = disks[draw.below(disks.len() as u64) as usize];
        }
        if let Some(known) = self.volumes.get(usize::from(volume)) {
            (state.peer, state.pdsk) = (known.state.role, known.state.disk);
        }
        let flags = draw.below(16);
        state.peer_isp = flags == 1;
        state.user_isp = flags == 2;
        state.aftr_isp = flags == 3;
        state.susp = flags == 4;
        state.susp_nod = flags == 5;
        state.susp_fen = flags == 6;
        StateWord(state.to_word())
    }

    fn block_id(&self, draw: &mut dyn Draw) -> BlockId {
        match draw.below(5) {
            0 => BlockId::SYNCER,
            1 => BlockId::IN_SYNC,
            2 => BlockId::from_u64(number(draw)),
            _ => {
                let ids = self
                    .asked
                    .iter()
                    .rev()
                    .find_map(|asked| match &asked.packet {
                        Packet::Data(h) | Packet::RsDataReply(h) => Some(h.block_id),
                        Packet::DataRequest(r) | Packet::RsDataRequest(r) => Some(r.block_id),
                        _ => None,
                    });
                ids.unwrap_or(BlockId::SYNCER)
            }
        }
    }
}

/// A number at a limit, a small one, or any.
pub(super) fn number(draw: &mut dyn Draw) -> u64 {
    match draw.below(40) {
        n @ 0..26 => LIMITS[n as usize],
        26..36 => draw.below(256),
        _ => draw.below(u64::MAX),
    }
}

/// Mostly inside the device.
fn sector(size: u64, draw: &mut dyn Draw) -> u64 {
    match draw.below(8) {
        0 => number(draw),
        1 => size.wrapping_sub(draw.below(16)),
        2 => draw.below(size.max(1)),
        _ => draw.below(32) * 8,
    }
}

fn bytes(draw: &mut dyn Draw) -> u32 {
    match draw.below(8) {
        0 => number(draw) as u32,
        1 => 512,
        2 => 1 << 20,
        3 => 64 << 10,
        _ => 4096,
    }
}

/// A request for any change of state.
fn any_change(draw: &mut dyn Draw) -> StateChange {
    if draw.one_in(5) {
        return StateChange {
            mask: StateWord(number(draw) as u32),
            val: StateWord(number(draw) as u32),
        };
    }
    let mut change = Change::default();
    for _ in 0..=draw.below(2) {
        let (roles, conns, disks) = (Role::ALL, ConnState::ALL, DiskState::ALL);
        let yes = !draw.one_in(4);
        match draw.below(11) {
            0 => change.role = Some(roles[draw.below(roles.len() as u64) as usize]),
            1 => change.peer = Some(roles[draw.below(roles.len() as u64) as usize]),
            2 | 3 => change.conn = Some(conns[draw.below(conns.len() as u64) as usize]),
            4 => change.disk = Some(disks[draw.below(disks.len() as u64) as usize]),
            5 => change.pdsk = Some(disks[draw.below(disks.len() as u64) as usize]),
            6 => change.susp = Some(yes),
            7 => change.susp_fen = Some(yes),
            8 => change.susp_nod = Some(yes),
            9 => change.user_isp = Some(yes),
            _ => change.peer_isp = Some(yes),
        }
    }
    let (mask, val) = change.to_mask_val();
    StateChange {
        mask: StateWord(mask),
        val: StateWord(val),
    }
}

fn any_snapshot(draw: &mut dyn Draw) -> SnapshotOrder {
    let names = ["a", "daily.1", "x-2026_11"];
    let name = names[draw.below(3) as usize];
    SnapshotOrder {
        step: match draw.one_in(2) {
            true => SnapshotStep::Take,
            false => SnapshotStep::Over,
        },
        limit_ms: 1 + draw.below(100_000) as u32,
        name: SnapshotName::new(name).expect("it is a name"),
    }
}

fn any_snapshot_answer(draw: &mut dyn Draw) -> SnapshotAnswer {
    let all = SnapshotRefusal::ALL;
    let why = all[draw.below(all.len() as u64) as usize];
    match draw.below(4) {
        0 => SnapshotAnswer::Begun,
        1 => SnapshotAnswer::Ended(draw.below(256) as u8),
        2 => SnapshotAnswer::Refused(why),
        _ => SnapshotAnswer::GivenUp(why),
    }
}
