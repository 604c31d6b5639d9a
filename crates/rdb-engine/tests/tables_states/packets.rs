//! Which packets a peer may send, over the whole universe: every packet, every connection state, both roles, and everything
//! that can have been in the connection.

use rdb_engine::rules::packets::{Facts, Past, Refusal, Snapshot, TABLE, admit};
use rdb_engine::state::{ConnState, Role};
use replica_proto::{Command, Socket};

fn universe() -> impl Iterator<Item = Facts> {
    let roles = [Role::Primary, Role::Secondary];
    let conns = ConnState::ALL.iter().copied();
    conns.flat_map(move |conn| {
        roles.into_iter().flat_map(move |role| {
            Role::ALL.iter().flat_map(move |&peer| {
                (0..=Past::all().bits()).flat_map(move |past| {
                    let asked = Snapshot::AGREED.union(Snapshot::ASKED);
                    let held = Snapshot::AGREED.union(Snapshot::HELD);
                    [
                        (false, Snapshot::empty()),
                        (false, Snapshot::AGREED),
                        (true, Snapshot::empty()),
                        (true, Snapshot::AGREED),
                        (true, asked),
                        (true, held),
                        (true, asked.union(held)),
                    ]
                    .map(|(greeted, snapshot)| Facts {
                        greeted,
                        role,
                        peer,
                        conn,
                        past: Past::from_bits_truncate(past),
                        snapshot,
                    })
                })
            })
        })
    })
}

#[test]
fn every_packet_has_exactly_one_row() {
    for command in Command::ALL {
        let rows = TABLE.iter().filter(|row| row.packet == *command).count();
        assert_eq!(rows, 1, "{command}");
    }
    assert_eq!(TABLE.len(), Command::ALL.len());
}

#[test]
fn before_the_settings_are_known_the_data_socket_brings_nothing_else() {
    for facts in universe().filter(|facts| !facts.greeted) {
        for &command in Command::ALL {
            if command == Command::Protocol {
                let speaks = facts.conn >= ConnState::WFReportParams;
                assert_eq!(admit(command, &facts).is_ok(), speaks, "{facts:?}");
            } else if command.socket() == Socket::Data {
                assert_eq!(admit(command, &facts), Err(Refusal::BeforeProtocol));
            }
        }
    }
}

#[test]
fn without_a_connection_nothing_is_allowed() {
    for facts in universe().filter(|facts| facts.conn < ConnState::WFReportParams) {
        for &command in Command::ALL {
            assert!(admit(command, &facts).is_err(), "{command} {facts:?}");
        }
    }
}

/// A write comes from a Primary, to a Secondary, when the volume's handshake is over; and then always, but for the time that the
/// peer's snapshot takes.
#[test]
fn writes_come_from_a_primary_to_a_secondary() {
    for facts in universe().filter(|facts| facts.greeted) {
        let right = facts.conn >= ConnState::Connected
            && facts.role == Role::Secondary
            && facts.peer == Role::Primary
            && !facts.snapshot.contains(Snapshot::HELD);
        for command in [Command::Data, Command::Trim, Command::Zeroes] {
            assert_eq!(admit(command, &facts).is_ok(), right, "{command} {facts:?}");
        }
        assert_eq!(admit(Command::WriteSame, &facts), Err(Refusal::Never));
    }
}

/// Resync, verify and bitmap packets: in the states of the other side's doing, or when those have been.
#[test]
fn resync_packets_come_in_a_resync_or_after_one() {
    use ConnState::*;
    let groups: [(&[Command], &[ConnState], Past); 8] = [
        (
            &[
                Command::RsDataRequest,
                Command::RsThinRequest,
                Command::CsumRsRequest,
            ],
            &[SyncSource, PausedSyncS],
            Past::SOURCE,
        ),
        (
            &[Command::RsDataReply, Command::RsIsInSync, Command::RsCancel],
            &[SyncTarget, PausedSyncT],
            Past::TARGET,
        ),
        (
            &[Command::NegRsDReply],
            &[SyncTarget, PausedSyncT, VerifyS],
            Past::TARGET.union(Past::DRIVER),
        ),
        (&[Command::OvReply], &[VerifyS], Past::DRIVER),
        (
            &[Command::OvRequest, Command::OvResult],
            &[VerifyT],
            Past::VERIFY,
        ),
        (
            &[Command::Bitmap, Command::CompressedBitmap],
            &[WFBitMapS, WFBitMapT],
            Past::SOURCE.union(Past::TARGET).union(Past::TOLD),
        ),
        (
            &[Command::SyncUuid],
            &[StartingSyncT, WFBitMapT, WFSyncUUID, Behind],
            Past::TARGET.union(Past::QUESTION).union(Past::TOLD),
        ),
        (
            &[Command::OutOfSync],
            &[WFBitMapT, WFSyncUUID, Behind],
            Past::TARGET.union(Past::TOLD),
        ),
    ];
    for facts in universe().filter(|facts| facts.greeted) {
        for (commands, conns, past) in groups {
            for &command in commands {
                let allowed = admit(command, &facts).is_ok();
                let own_state = conns.contains(&facts.conn);
                let was = facts.past.intersects(past) && facts.conn >= Connected;
                let marks = command == Command::OutOfSync;
                assert!(!allowed || own_state || was, "{command} {facts:?}");
                if own_state && (!marks || facts.peer == Role::Primary) {
                    assert!(allowed, "{command} {facts:?}");
                }
                if was && facts.conn == Connected && (!marks || facts.peer == Role::Primary) {
                    assert!(allowed, "{command} {facts:?}");
                }
                assert!(!allowed || !marks || facts.peer == Role::Primary);
            }
        }
    }
}

/// What has been can only allow more.
#[test]
fn what_has_been_forbids_nothing() {
    for facts in universe() {
        for &command in Command::ALL {
            if admit(command, &facts).is_ok() {
                let past = Past::all();
                assert!(admit(command, &Facts { past, ..facts }).is_ok());
            }
        }
    }
}

#[test]
fn what_this_node_never_asks_for_is_never_allowed() {
    for facts in universe().filter(|facts| facts.greeted) {
        for command in [
            Command::RsDeallocated,
            Command::Superseded,
            Command::RetryWrite,
            Command::AuthChallenge,
            Command::AuthResponse,
            Command::ConnectionFeatures,
            Command::InitialData,
            Command::InitialMeta,
        ] {
            assert_eq!(admit(command, &facts), Err(Refusal::Never), "{command}");
        }
        assert_eq!(admit(Command::Protocol, &facts), Err(Refusal::Twice));
    }
}

/// Parameters, states and pings come from the first words on; answers that are matched with what waits, once connected.
#[test]
fn a_right_peer_is_never_kept_from_speaking() {
    for facts in universe().filter(|f| f.greeted && f.conn >= ConnState::WFReportParams) {
        for command in [
            Command::SyncParam,
            Command::SyncParam89,
            Command::Sizes,
            Command::Uuids,
            Command::State,
            Command::StateChgReq,
            Command::StateChgReply,
            Command::ConnStChgReq,
            Command::ConnStChgReply,
            Command::ProtocolUpdate,
            Command::Ping,
            Command::PingAck,
            Command::Barrier,
            Command::BarrierAck,
            Command::UnplugRemote,
            Command::DelayProbe,
            Command::EnableReplication,
        ] {
            assert_eq!(admit(command, &facts), Ok(()), "{command} {facts:?}");
        }
        for command in [
            Command::DataRequest,
            Command::DataReply,
            Command::NegDReply,
            Command::RecvAck,
            Command::WriteAck,
            Command::RsWriteAck,
            Command::NegAck,
        ] {
            let connected = facts.conn >= ConnState::Connected;
            assert_eq!(admit(command, &facts).is_ok(), connected, "{command}");
        }
    }
}

/// Snapshots: between nodes that have agreed on them; an answer to what was asked alone. A write in the middle is named as such.
#[test]
fn snapshots_come_from_a_peer_that_has_agreed_on_them() {
    for facts in universe().filter(|facts| facts.greeted) {
        let speaks = facts.conn >= ConnState::WFReportParams;
        let agreed = facts.snapshot.contains(Snapshot::AGREED);
        let asked = facts.snapshot.contains(Snapshot::ASKED);
        let held = facts.snapshot.contains(Snapshot::HELD);
        let order = admit(Command::RdbSnapshot, &facts);
        assert_eq!(order.is_ok(), speaks && agreed, "{facts:?}");
        let answer = admit(Command::RdbSnapshotAnswer, &facts);
        assert_eq!(answer.is_ok(), speaks && agreed && asked, "{facts:?}");
        let write = admit(Command::Data, &facts);
        let mirrors = facts.role == Role::Secondary && facts.peer == Role::Primary;
        if held && mirrors && facts.conn >= ConnState::Connected {
            assert_eq!(write, Err(Refusal::Held), "{facts:?}");
        }
    }
}
