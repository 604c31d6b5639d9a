//! The engine as the peer of DRBD 9.3.3: it is given, in their order, the packets that the driver was recorded with, and
//! answers as the rdb of the recording did, or, where that was wrong, as it should have.

#[path = "../../../replica-proto/tests/common/mod.rs"]
mod captures;
mod lone;

use std::collections::BTreeMap;
use std::rc::Rc;

use captures::Seen;
use captures::drbd9::{self, Told};
use lone::{Lone, Sent};
use rdb_engine::config::{NetOptions, Protocol};
use rdb_engine::{Command, ConnEvent, ConnId, Event, RequestKind};
use rdb_sim::{Content, Data, V, World};
use replica_proto::{
    BlockAck, Digest, DigestAlgorithm, Features, Packet, ProtocolVersion, Socket, WireContext,
    decode,
};

/// 16 MiB, as the recording's disks.
const SECTORS: u64 = 32_768;

/// The engine and what is said to it.
struct Replay {
    lone: Lone,
    told: Vec<Told>,
}

impl Replay {
    /// Fresh disks, and the recording's options.
    fn new() -> Replay {
        let options = NetOptions {
            verify_alg: "crc32c".to_owned(),
            csums_alg: Some(DigestAlgorithm::Crc32c),
            ..NetOptions::default()
        };
        let mut w = World::with_disks(1, SECTORS, SECTORS);
        w.link = false;
        w.up(0, &options);
        w.up(1, &options);
        Replay::of(w)
    }

    fn of(w: World) -> Replay {
        Replay {
            lone: Lone::take_over(w),
            told: drbd9::all("../../replica-proto/tests/captures/drbd9"),
        }
    }

    /// What one side said in a capture: a list for each connection of that socket.
    fn said(&self, capture: &str, socket: Socket, by_driver: bool) -> Vec<Vec<Seen>> {
        let is_meant = |told: &&Told| {
            told.capture.starts_with(capture)
                && told.socket == socket
                && told.is_of_drbd == by_driver
        };
        let meant = self.told.iter().filter(is_meant);
        meant.map(|told| told.packets.clone()).collect()
    }

    /// The packets of one side that `is_meant`, of all connections.
    fn those(
        &self,
        (capture, socket, by_driver): (&str, Socket, bool),
        is_meant: fn(&Packet) -> bool,
    ) -> Vec<Seen> {
        let mut said = self.said(capture, socket, by_driver).concat();
        said.retain(|seen| is_meant(&seen.frame.packet));
        said
    }

    fn data(&self, capture: &str) -> Vec<Vec<Seen>> {
        self.said(capture, Socket::Data, true)
    }

    /// Gives one packet; what the engine says to it.
    fn give(&mut self, seen: &Seen) -> Vec<Sent> {
        let bulk = seen.frame.payload_len > 0;
        let event = Event::Connection(
            ConnId::FIRST,
            ConnEvent::Received {
                volume: seen.frame.volume,
                packet: seen.frame.packet.clone(),
                digest: seen.frame.digest.clone(),
                payload: bulk.then(|| Data(Rc::new(seen.payload.clone()))),
            },
        );
        self.lone.w.event(0, event);
        let sent = self.lone.pump();
        assert_eq!(self.refused(), 0, "{:?}", self.lone.w.nodes[0].log);
        sent
    }

    fn give_all(&mut self, packets: &[Seen]) -> Vec<Sent> {
        packets.iter().flat_map(|seen| self.give(seen)).collect()
    }

    fn refused(&self) -> u64 {
        self.lone.w.nodes[0].resource.refused()
    }

    /// A new pair of sockets; the engine's first packets are not looked at.
    fn pair(&mut self) {
        self.lone.pair(false);
        self.lone.take();
    }

    fn is(&self, state: &str) {
        assert_eq!(self.lone.is(), state, "{:?}", self.lone.w.nodes[0].log);
    }

    fn holds(&self, sector: u64, data: &[u8]) {
        let disk = self.lone.w.nodes[0].disks[0].read(sector, data.len());
        assert!(disk == data, "other data at sector {sector}");
    }

    /// The driver asks to go; it may, and does.
    fn driver_leaves(&mut self, capture: &str) {
        let asked = self.those((capture, Socket::Data, true), |packet| {
            matches!(packet, Packet::ConnStChgReq(_))
        });
        self.lone.give(asked[0].frame.packet.clone());
        self.lone.io();
        // The engine may have left by itself: what it has sent before is decoded as it was then.
        let wire = WireContext::agreed(ProtocolVersion(101), Features::all());
        let mut sent = std::iter::from_fn(|| self.lone.w.take_next(1, Socket::Meta));
        let consents = sent.any(|content| {
            let Content::Packet(bytes, _) = content else {
                return false;
            };
            let frame = decode(&wire, Socket::Meta, &bytes).unwrap().unwrap();
            frame.packet == Packet::ConnStChgReply(1)
        });
        self.lone.w.net = Default::default();
        assert!(consents, "{:?}", self.lone.w.nodes[0].log);
        if self.lone.w.nodes[0].connected {
            self.lone.lose(Socket::Data, 0);
        }
        assert_eq!(self.refused(), 0);
    }

    fn admin(&mut self, command: Command) {
        let id = self.lone.w.start_admin(0, command);
        self.lone.pump();
        assert_eq!(self.lone.w.nodes[0].admin.remove(&id), Some(Ok(())));
    }

    fn connect(&mut self) {
        self.pair();
        let met = self.data("30").concat();
        self.give_all(&met);
        self.is("Connected S/S I/I");
    }

    fn skip_the_first_sync(&mut self) {
        let said = self.data("31").concat();
        self.give_all(&said);
        self.is("Connected S/S U/U");
        let Packet::Uuids(uuids) = &said[0].frame.packet else {
            panic!("another packet")
        };
        assert_eq!(self.lone.w.gi(0), [uuids.current & !1, 0, 0, 0]);
    }

    fn is_mirror(&mut self) {
        let said = self.data("32").concat();
        let (mut sent, mut written) = (Vec::new(), 0);
        for seen in said {
            sent.extend(self.give(&seen));
            // What is discarded and zeroed afterwards has been there, too.
            if let Packet::Data(header) = seen.frame.packet {
                self.holds(header.sector, &seen.payload);
                written += 1;
            }
        }
        assert_eq!(written, 9);
        assert!(has(&sent, &Packet::ConnStChgReply(1)), "the promotion");
        self.is("Connected S/P U/U");
        let acks = self.those(("32", Socket::Meta, false), is_ack);
        let mut told: Vec<Packet> = sent.into_iter().map(|one| one.packet).collect();
        told.retain(is_ack);
        let acks: Vec<Packet> = acks.into_iter().map(|seen| seen.frame.packet).collect();
        assert_eq!(told, acks);
    }

    fn is_target(&mut self) {
        self.driver_leaves("33");
        self.pair();
        let said = self.data("33").remove(1);
        let is_reply = |seen: &&Seen| matches!(seen.frame.packet, Packet::RsDataReply(_));
        let replies: Vec<Seen> = said.iter().filter(is_reply).cloned().collect();
        let before = &said[..said.len() - replies.len()];
        let mut sent = self.give_all(before);
        self.is("SyncTarget S/P I/U");
        self.lone.w.run_ms(300);
        sent.extend(self.lone.pump());
        sent.extend(self.give_all(&replies));
        self.is("Connected S/P U/U");
        let expected = self.those(("33", Socket::Data, false), |packet| {
            matches!(
                packet,
                Packet::CompressedBitmap(_) | Packet::CsumRsRequest(..)
            )
        });
        assert_eq!(expected.len(), 3);
        for seen in expected {
            assert!(has(&sent, &seen.frame.packet), "{:?}", seen.frame.packet);
        }
        for seen in replies {
            let Packet::RsDataReply(header) = seen.frame.packet else {
                continue;
            };
            self.holds(header.sector, &seen.payload);
        }
    }

    fn roles_change(&mut self) {
        let said = self.data("34").concat();
        let sent = self.give(&said[0]);
        assert!(has(&sent, &Packet::ConnStChgReply(1)), "the demotion");
        self.give(&said[1]);
        self.is("Connected S/S U/U");
        self.admin(Command::Primary {
            volume: V,
            force: false,
        });
        self.give_all(&said[2..]);
        self.is("Connected P/S U/U");
    }

    fn is_mirrored(&mut self) {
        let writes = self.those(("35", Socket::Data, false), |packet| {
            !matches!(packet, Packet::Barrier(_))
        });
        let mut acks = self.those(("35", Socket::Meta, true), is_ack).into_iter();
        let mut ids = Vec::new();
        for seen in &writes {
            let (sector, bytes, kind) = match seen.frame.packet {
                Packet::Data(header) => {
                    let payload = Data(Rc::new(seen.payload.clone()));
                    let fua = false;
                    let bytes = seen.payload.len() as u32;
                    (header.sector, bytes, RequestKind::Write { payload, fua })
                }
                Packet::Trim(header, bytes) => (header.sector, bytes, RequestKind::Discard),
                Packet::Zeroes(header, bytes) => (
                    header.sector,
                    bytes,
                    RequestKind::WriteZeroes { may_unmap: false },
                ),
                ref other => panic!("{other:?}"),
            };
            ids.push(self.lone.w.submit(0, sector, bytes, kind));
            let mut sent = self.lone.pump();
            let header = sent.iter().find_map(Sent::data_header).expect("the write");
            let Some(Packet::WriteAck(ack)) = acks.next().map(|seen| seen.frame.packet) else {
                panic!("the write's acknowledgement comes first")
            };
            assert_eq!((ack.sector, ack.bytes), (sector, bytes));
            // Each of the two runs has handles of its own.
            self.lone.give(Packet::WriteAck(BlockAck {
                block_id: header.block_id,
                ..ack
            }));
            // The barrier waits a moment for a packet to go out with.
            self.lone.w.run_ms(20);
            sent.extend(self.lone.pump());
            let Some(Packet::BarrierAck { barrier, set_size }) =
                acks.next().map(|seen| seen.frame.packet)
            else {
                panic!("then that of its epoch")
            };
            let barrier_sent = sent.iter().find_map(|one| match one.packet {
                Packet::Barrier(barrier) => Some(barrier),
                _ => None,
            });
            assert_eq!((barrier_sent, set_size), (Some(barrier), 1));
            self.lone.give(Packet::BarrierAck { barrier, set_size });
            self.lone.pump();
        }
        assert_eq!((ids.len(), acks.next().is_none()), (11, true));
        for id in ids {
            let done = self.lone.w.nodes[0].completed.remove(&id);
            assert!(matches!(done, Some(Ok(_))), "{done:?}");
        }
        assert_eq!(self.refused(), 0);
    }

    fn is_source(&mut self) {
        self.driver_leaves("36");
        let replies = self.those(("36", Socket::Data, false), |packet| {
            matches!(packet, Packet::RsDataReply(_))
        });
        assert_eq!(replies.len(), 2);
        for seen in &replies {
            if let Packet::RsDataReply(header) = seen.frame.packet {
                self.lone.w.write(0, header.sector, seen.payload.clone());
            }
        }
        self.lone.pump();
        self.pair();
        let said = self.data("36");
        // The connection in which P_ENABLE_REPLICATION comes.
        let enable = Packet::EnableReplication { enable: true };
        assert!(said[1].iter().any(|seen| seen.frame.packet == enable));
        let sent = self.give_all(&said[1]);
        self.is("SyncSource P/S U/I");
        let answers: Vec<&Sent> = sent
            .iter()
            .filter(|one| matches!(one.packet, Packet::RsDataReply(_)))
            .collect();
        assert_eq!(answers.len(), 2);
        for (answer, seen) in answers.into_iter().zip(&replies) {
            assert_eq!(answer.payload, seen.payload);
        }
        // The rest as it was recorded after the connection that the rdb of that day made anew.
        let acks = self.those(("36", Socket::Meta, true), |packet| {
            matches!(packet, Packet::RsWriteAck(_))
        });
        self.give_all(&acks);
        let states: Vec<Seen> = said[2][said[2].len() - 2..].to_vec();
        self.give_all(&states);
        self.is("Connected P/S U/U");
    }

    fn is_verified(&mut self) {
        let said = self.data("37").concat();
        let mut sent = self.give(&said[0]);
        assert!(has(&sent, &Packet::StateChgReply(1)), "{sent:?}");
        sent = self.give_all(&said[1..said.len() - 1]);
        // By their sectors: a disk finishes its reads in an order of its own.
        let digests = digests_of(sent.into_iter().map(|one| one.packet));
        let expected = self.those(("37", Socket::Data, false), |_| true);
        let expected = digests_of(expected.into_iter().map(|seen| seen.frame.packet));
        assert_eq!(digests.len(), 4086);
        for (sector, digest) in &expected {
            assert_eq!(digests.get(sector), Some(digest), "at sector {sector}");
        }
        assert_eq!(expected.len(), 4086);
        let results = self.those(("37", Socket::Meta, true), |packet| {
            matches!(packet, Packet::OvResult(_))
        });
        self.give_all(&results);
        self.give(&said[said.len() - 1]);
        self.is("Connected P/S U/U");
        assert_eq!(self.lone.w.nodes[0].out_of_sync(), 0);
    }

    fn is_left(&mut self) {
        self.admin(Command::Secondary {
            volume: V,
            held_open: false,
        });
        self.driver_leaves("39");
        self.lone
            .w
            .until("it dials again", |w| w.nodes[0].connecting);
        self.is("WFConnection S/? U/-");
    }
}

fn has(sent: &[Sent], packet: &Packet) -> bool {
    sent.iter().any(|one| one.packet == *packet)
}

fn digests_of(packets: impl Iterator<Item = Packet>) -> BTreeMap<u64, Digest> {
    let digests = packets.filter_map(|packet| match packet {
        Packet::OvReply(request, digest) => Some((request.sector, digest)),
        _ => None,
    });
    digests.collect()
}

fn is_ack(packet: &Packet) -> bool {
    matches!(packet, Packet::WriteAck(_) | Packet::BarrierAck { .. })
}

#[test]
fn the_recorded_run_is_lived_through_again() {
    let mut replay = Replay::new();
    replay.connect();
    replay.skip_the_first_sync();
    replay.is_mirror();
    replay.is_target();
    replay.roles_change();
    replay.is_mirrored();
    replay.is_source();
    replay.is_verified();
    replay.is_left();
}

/// The run with a secret, which is not in the recording: what comes after the proof, to disks of one generation.
#[test]
fn the_recorded_writes_of_protocol_a_arrive_with_their_digests() {
    let options = NetOptions {
        protocol: Protocol::A,
        integrity_alg: Some(DigestAlgorithm::Md5),
        ..NetOptions::default()
    };
    let mut w = World::large_pair(1, SECTORS, &options);
    w.secondary(0).unwrap();
    w.quiet();
    let mut replay = Replay::of(w);
    replay.pair();
    let (mut sent, mut written) = (Vec::new(), 0);
    for mut seen in replay.data("40").concat() {
        match seen.frame.packet {
            Packet::AuthChallenge(_) | Packet::AuthResponse(_) => continue,
            Packet::Uuids(_) => seen.frame.packet = replay.lone.uuids(),
            _ => {}
        }
        sent.extend(replay.give(&seen));
        if let Packet::Data(header) = seen.frame.packet {
            assert!(seen.frame.digest.is_some());
            replay.holds(header.sector, &seen.payload);
            written += 1;
        }
    }
    replay.is("Connected S/P U/U");
    assert_eq!(written, 3);
    let acks = replay.those(("40", Socket::Meta, false), is_ack);
    let mut told: Vec<Packet> = sent.into_iter().map(|one| one.packet).collect();
    told.retain(is_ack);
    let acks: Vec<Packet> = acks.into_iter().map(|seen| seen.frame.packet).collect();
    assert_eq!(told, acks);
}
