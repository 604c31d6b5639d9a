//! One engine, and a peer made by hand, packet by packet.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::rc::Rc;

use rdb_engine::Command;
use rdb_engine::config::{Authentication, NetOptions};
use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};
use rdb_engine::{ConnEvent, ConnId, Event};
use replica_proto::{
    AfterSb, AlgorithmName, BlockAck, BlockDesc, BlockId, BlockRequest, ConnFlags,
    ConnectionFeatures, DataHeader, DdsFlags, Digest, DpFlags, Packet, ProtocolParams, Sizes,
    Socket, StateWord, SyncParam, UuidFlags, Uuids, WireProtocol, decode,
};

use replica_proto::auth::HmacAlgorithm;

use rdb_sim::scenario::PLUS;
use rdb_sim::{Content, Data, V, World};

/// What the engine sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub socket: Socket,
    pub volume: u16,
    pub packet: Packet,
    pub digest: Option<Digest>,
    pub payload: Vec<u8>,
    /// As it went over the wire.
    pub bytes: Vec<u8>,
}

/// Options by which the peer must know a secret.
pub fn with_secret() -> NetOptions {
    NetOptions {
        authentication: Some(Authentication {
            algorithm: HmacAlgorithm::from_name("sha256").unwrap(),
            secret: SECRET.into(),
        }),
        ..NetOptions::default()
    }
}

/// What one who knows it answers to a challenge.
pub fn answer(challenge: &[u8]) -> Vec<u8> {
    let algorithm = HmacAlgorithm::from_name("sha256").unwrap();
    algorithm.respond(SECRET.as_bytes(), challenge)
}

const SECRET: &str = "known to both";

/// Node `a` of the world is the engine; this is its peer.
pub struct Lone {
    pub w: World,
    /// What the peer says of itself.
    pub role: Role,
    pub disk: DiskState,
    pub uuids: [u64; 4],
    pub bits: u64,
    pub flags: UuidFlags,
    pub size: u64,
    /// What it offers.
    pub features: ConnectionFeatures,
    pub protocol: ProtocolParams,
    pub sync: SyncParam,
    /// Both nodes' sequence numbers.
    pub seq: u32,
}

impl Lone {
    /// The engine's disk is UpToDate, in the generation `C:0:H:G` of its peer; it is Secondary, and dials.
    pub fn new(seed: u64) -> Lone {
        Lone::with(seed, NetOptions::default())
    }

    pub fn with(seed: u64, options: NetOptions) -> Lone {
        let (mut w, _) = World::settled_with(seed, &options);
        w.secondary(0).unwrap();
        w.quiet();
        Lone::take_over(w)
    }

    /// As [`Lone::new`] on larger disks, all zeroes, in the generation `C:0:0:0`.
    pub fn large(seed: u64, sectors: u64) -> Lone {
        let mut w = World::large_pair(seed, sectors, &NetOptions::default());
        w.secondary(0).unwrap();
        w.quiet();
        Lone::take_over(w)
    }

    /// Node `b` of a pair goes away for good; from now on its part is played by hand.
    pub fn take_over(mut w: World) -> Lone {
        let uuids = w.gi(1);
        let disk = w.nodes[1].state().disk;
        let size = w.nodes[1].disks[0].data_sectors;
        if w.nodes[1].state().conn > ConnState::StandAlone {
            w.admin(1, Command::Disconnect { force: false }).unwrap();
        }
        w.until("the engine dials", |w| {
            w.nodes[0].state().conn == ConnState::WFConnection
        });
        w.quiet();
        w.nodes[1].alive = false;
        w.nodes[1].timers.clear();
        w.wires.buffer_bytes = u64::MAX; // what is sent is taken when a test wants it
        for model in &mut w.models {
            model.foreign = true; // the peer's data is whatever a test says
        }
        Lone {
            w,
            role: Role::Secondary,
            disk,
            uuids,
            bits: 0,
            flags: UuidFlags::empty(),
            size,
            features: ConnectionFeatures::OURS,
            protocol: ProtocolParams {
                protocol: WireProtocol::C,
                after_sb_0p: AfterSb::Disconnect,
                after_sb_1p: AfterSb::Disconnect,
                after_sb_2p: AfterSb::Disconnect,
                conn_flags: ConnFlags::empty(),
                two_primaries: false,
                integrity_alg: AlgorithmName::default(),
            },
            sync: SyncParam::default(),
            seq: 0,
        }
    }

    /// Two fresh disks: the engine's, and the peer's, which nobody has met.
    pub fn fresh(seed: u64, options: &NetOptions) -> Lone {
        let mut w = World::new(seed);
        w.link = false;
        w.up(0, options);
        w.up(1, options);
        Lone::take_over(w)
    }

    /// The engine's state.
    pub fn is(&self) -> String {
        self.w.is(0)
    }

    pub fn conn(&self) -> ConnState {
        self.w.nodes[0].state().conn
    }

    /// Every I/O of the engine that is not held back is carried out.
    pub fn io(&mut self) {
        while self.w.step() {}
    }

    /// What was sent since the last look, the data socket first.
    pub fn take(&mut self) -> Vec<Sent> {
        let mut wire = self.w.nodes[0].wire;
        wire.peer_digest_len = wire.own_digest_len; // it is the peer who takes this apart
        let mut sent = Vec::new();
        for socket in [Socket::Data, Socket::Meta] {
            while let Some(next) = self.w.take_next(1, socket) {
                let Content::Packet(mut bytes, payload) = next else {
                    continue;
                };
                if let Some(payload) = payload {
                    bytes.extend_from_slice(&payload.0);
                }
                let frame = decode(&wire, socket, &bytes).unwrap().unwrap();
                sent.push(Sent {
                    socket,
                    volume: frame.volume,
                    packet: frame.packet,
                    digest: frame.digest,
                    payload: bytes[frame.consumed..].to_vec(),
                    bytes,
                });
            }
        }
        sent
    }

    /// Lets the engine work, answers pings and consents to whatever is asked, until nothing more comes.
    pub fn pump(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        loop {
            self.io();
            let sent = self.take();
            if sent.is_empty() {
                return all;
            }
            for one in &sent {
                match one.packet {
                    Packet::Ping => self.give(Packet::PingAck),
                    Packet::StateChgReq(_) => self.give_to(one.volume, Packet::StateChgReply(1)),
                    Packet::ConnStChgReq(_) => self.give(Packet::ConnStChgReply(1)),
                    _ => {}
                }
            }
            all.extend(sent);
        }
    }

    pub fn give(&mut self, packet: Packet) {
        self.give_to(0, packet);
    }

    pub fn give_to(&mut self, volume: u16, packet: Packet) {
        let event = Event::Connection(
            ConnId::FIRST,
            ConnEvent::Received {
                volume,
                packet,
                digest: None,
                payload: None,
            },
        );
        self.w.event(0, event);
    }

    pub fn give_data(&mut self, packet: Packet, data: Vec<u8>) {
        self.give_data_to(0, packet, data);
    }

    pub fn give_data_to(&mut self, volume: u16, packet: Packet, data: Vec<u8>) {
        let event = Event::Connection(
            ConnId::FIRST,
            ConnEvent::Received {
                volume,
                packet,
                digest: None,
                payload: Some(Data(Rc::new(data))),
            },
        );
        self.w.event(0, event);
    }

    /// The sockets are paired. The engine's first packet is left to be looked at.
    pub fn pair(&mut self, resolve_conflicts: bool) {
        self.w.until("the engine dials", |w| w.nodes[0].connecting);
        self.seq = 0;
        self.w.nodes[0].connecting = false;
        self.w.nodes[0].connected = true;
        self.w.net = Default::default();
        let event = Event::Connection(
            ConnId::FIRST,
            ConnEvent::Paired {
                resolve_conflicts,
                called: resolve_conflicts,
                challenge: [7; 64],
            },
        );
        self.w.event(0, event);
    }

    /// Features, and the proof that the peer knows the secret of [`with_secret`]; `called`: the engine accepted the data
    /// socket.
    pub fn prove(&mut self, called: bool) -> Vec<Sent> {
        self.pair(called);
        self.take();
        self.give(Packet::ConnectionFeatures(self.features));
        self.give(Packet::AuthChallenge([9; 64].to_vec()));
        let sent = self.take();
        self.give(Packet::AuthResponse(answer(&[7; 64])));
        sent
    }

    /// Features and settings, in K's order; what follows is volume by volume.
    pub fn greet(&mut self) {
        self.pair(false);
        self.take();
        self.give(Packet::ConnectionFeatures(self.features));
        self.give(Packet::Protocol(self.protocol.clone()));
    }

    /// As [`Lone::meet`], if need be after the peer has proved itself.
    pub fn meet_on(&mut self) -> Vec<Sent> {
        if !self.w.nodes[0].connected {
            return self.meet();
        }
        self.give(Packet::Protocol(self.protocol.clone()));
        self.introduce(0);
        self.pump()
    }

    pub fn sizes(&self) -> Packet {
        Packet::Sizes(Sizes {
            d_size: self.size,
            u_size: 0,
            c_size: self.size,
            max_bio_size: 1 << 20,
            queue_order_type: 0,
            dds_flags: DdsFlags::empty(),
            limits: None,
        })
    }

    pub fn uuids(&self) -> Packet {
        let [current, bitmap, h0, h1] = self.uuids;
        Packet::Uuids(Uuids {
            current,
            bitmap,
            history: [h0, h1],
            bits: self.bits,
            flags: self.flags,
        })
    }

    /// P_STATE with this connection state, and what the peer thinks of the engine's disk.
    pub fn state(&self, conn: ConnState, pdsk: DiskState) -> Packet {
        let engine = self.w.nodes[0].state();
        let state = VolumeState {
            role: self.role,
            peer: engine.role,
            conn,
            disk: self.disk,
            pdsk,
            ..VolumeState::INITIAL
        };
        Packet::State(StateWord(state.to_word()))
    }

    /// What the peer says of one volume.
    pub fn introduce(&mut self, volume: u16) {
        self.give_to(volume, Packet::SyncParam(self.sync.clone()));
        self.give_to(volume, self.sizes());
        if self.disk >= DiskState::Negotiating {
            self.give_to(volume, self.uuids());
        }
        let state = self.state(ConnState::WFConnection, DiskState::DUnknown);
        self.give_to(volume, state);
    }

    /// The whole handshake, up to the engine's verdict; what it sent meanwhile.
    pub fn meet(&mut self) -> Vec<Sent> {
        self.greet();
        self.introduce(0);
        self.pump()
    }

    /// Connected, and the engine is Primary.
    pub fn primary(seed: u64) -> Lone {
        Lone::new(seed).promoted()
    }

    pub fn promoted(mut self) -> Lone {
        self.meet();
        self.promoted_again()
    }

    /// Connected already, and Primary from now on.
    pub fn promoted_again(mut self) -> Lone {
        let command = Command::Primary {
            volume: V,
            force: false,
        };
        let id = self.w.start_admin(0, command);
        self.pump();
        assert_eq!(self.w.nodes[0].admin.remove(&id), Some(Ok(())));
        assert_eq!(self.is(), "Connected P/S U/U");
        self
    }

    /// Connected, and the peer is Primary.
    pub fn secondary(seed: u64) -> Lone {
        let mut lone = Lone::new(seed);
        lone.role = Role::Primary;
        lone.meet();
        assert_eq!(lone.is(), "Connected S/P U/U");
        lone
    }

    /// The engine is target of a resync of the blocks at these sectors; it has asked for nothing yet if `before` is set.
    pub fn target(seed: u64, sectors: &[u64]) -> Lone {
        let mut lone = Lone::new(seed);
        let [c, _, h, _] = lone.uuids;
        lone.role = Role::Primary;
        lone.uuids = [0x1234_5678_0000, c, h, 0];
        lone.bits = sectors.len() as u64;
        lone.meet();
        assert_eq!(lone.is(), "WFBitMapT S/P O/U");
        lone.give_bitmap(sectors);
        lone.pump();
        assert_eq!(lone.is(), "WFSyncUUID S/P O/U");
        lone
    }

    /// The engine is SyncSource of these blocks, and both are Secondary.
    pub fn source(seed: u64, sectors: &[u64]) -> Lone {
        let mut lone = Lone::new(seed);
        lone.disk = DiskState::Inconsistent;
        lone.meet();
        assert_eq!(lone.is(), "WFBitMapS S/S U/I");
        lone.give_bitmap(sectors);
        let sent = lone.pump();
        assert_eq!(names(&sent), ["P_SYNC_UUID"]);
        assert_eq!(lone.is(), "SyncSource S/S U/I");
        lone
    }

    /// Source of a resync already, and Primary from now on.
    pub fn promoted_source(mut self) -> Lone {
        let command = Command::Primary {
            volume: V,
            force: false,
        };
        let id = self.w.start_admin(0, command);
        self.pump();
        assert_eq!(self.w.nodes[0].admin.remove(&id), Some(Ok(())));
        assert_eq!(self.is(), "SyncSource P/S U/I");
        self
    }

    /// The bitmap with these sectors' blocks, as words, and its end.
    pub fn give_bitmap(&mut self, sectors: &[u64]) {
        let words = self.size.div_ceil(8).div_ceil(64) as usize;
        let mut bytes = vec![0_u8; words * 8];
        for sector in sectors {
            let bit = (sector / 8) as usize;
            bytes[bit / 8] |= 1 << (bit % 8);
        }
        for chunk in bytes.chunks(4096 - 16) {
            self.give(Packet::Bitmap(chunk.to_vec()));
        }
        self.give(Packet::Bitmap(Vec::new()));
    }

    pub fn start_sync(&mut self) -> u64 {
        let uuid = self.uuids[1] + PLUS;
        self.give(Packet::SyncUuid(uuid));
        uuid
    }

    pub fn next_seq(&mut self) -> u32 {
        self.seq += 1;
        self.seq
    }

    /// P_DATA with this handle.
    pub fn data(&mut self, sector: u64, block_id: BlockId) -> Packet {
        Packet::Data(DataHeader {
            sector,
            block_id,
            seq_num: self.next_seq(),
            flags: DpFlags::SEND_WRITE_ACK,
        })
    }

    /// An application write of the peer, 4 KiB.
    pub fn mirror(&mut self, sector: u64, handle: u64, value: u8) {
        let packet = self.data(sector, BlockId::from_u64(handle));
        self.give_data(packet, vec![value; 4096]);
    }

    pub fn resync_reply(&mut self, request: &BlockRequest, value: u8) {
        let header = DataHeader {
            sector: request.sector,
            block_id: request.block_id,
            ..DataHeader::default()
        };
        self.give_data(
            Packet::RsDataReply(header),
            vec![value; request.bytes as usize],
        );
    }

    /// The answer to one of the engine's writes.
    pub fn ack(&mut self, header: &DataHeader, bytes: u32) -> BlockAck {
        BlockAck {
            sector: header.sector,
            block_id: header.block_id,
            bytes,
            seq_num: self.next_seq(),
        }
    }

    pub fn lose(&mut self, socket: Socket, error: i32) {
        self.w.nodes[0].connected = false;
        let cause = rdb_engine::LossCause::Closed { error };
        self.w.event(
            0,
            Event::Connection(ConnId::FIRST, ConnEvent::Lost { socket, cause }),
        );
    }
}

/// The packets' names, to be read at a glance.
pub fn names(sent: &[Sent]) -> Vec<&'static str> {
    sent.iter().map(|s| s.packet.name()).collect()
}

impl Sent {
    pub fn data_header(&self) -> Option<DataHeader> {
        match self.packet {
            Packet::Data(h) | Packet::Trim(h, _) | Packet::Zeroes(h, _) => Some(h),
            _ => None,
        }
    }

    pub fn resync_request(&self) -> Option<BlockRequest> {
        match self.packet {
            Packet::RsDataRequest(r) => Some(r),
            _ => None,
        }
    }

    /// The acks of blocks, whatever they say.
    pub fn block_ack(&self) -> Option<BlockAck> {
        match self.packet {
            Packet::RecvAck(a)
            | Packet::WriteAck(a)
            | Packet::RsWriteAck(a)
            | Packet::NegAck(a)
            | Packet::NegDReply(a)
            | Packet::NegRsDReply(a) => Some(a),
            _ => None,
        }
    }

    pub fn state(&self) -> Option<VolumeState> {
        match self.packet {
            Packet::State(word) => VolumeState::from_word(word.0).ok(),
            _ => None,
        }
    }
}

/// A block's description, for packets that have nothing else.
pub fn block(sector: u64) -> BlockDesc {
    BlockDesc {
        sector,
        bytes: 4096,
    }
}
