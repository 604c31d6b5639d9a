//! Which function handles which packet.

use alloc::format;

use replica_proto::{BlockId, Digest, Packet, StateChange};

use crate::copies::AckKind;
use crate::disk::queue::METADATA_MAX;
use crate::disk::{MdKind, Then};
use crate::effect::Level;
use crate::event::Payload;
use crate::follow::Follow;
use crate::generation::Generation;
use crate::ids::VolumeNr;
use crate::peer_reads::Purpose;
use crate::peer_request::MirrorKind;
use crate::router::Resource;
use crate::rules::{
    self,
    packets::{Facts, Past, Refusal},
    peer_change::{Request, Scope},
};
use crate::span::Span;
use crate::state::{Change, ConnState, DiskState, StateError, VolumeState};

impl<P: Payload> Resource<P> {
    /// A packet has come. Of one whose data did not come as they were sent nothing is used: the connection is left.
    pub(super) fn on_received(
        &mut self,
        nr: VolumeNr,
        packet: Packet,
        digest: Option<Digest>,
        payload: Option<P>,
    ) {
        let integrity = self.net.integrity;
        if let Some(data) = &payload
            && !integrity.is_intact(digest, data)
        {
            let sector = match packet {
                Packet::Data(header) | Packet::DataReply(header) | Packet::RsDataReply(header) => {
                    header.sector
                }
                _ => 0,
            };
            // (The wire's mistake, not the peer's.)
            let text = format!(
                "volume {nr}: {}: Digest integrity check FAILED: {sector}s +{}",
                packet.name(),
                data.len_bytes()
            );
            self.log(Level::Error, text);
            self.lose_connection(ConnState::ProtocolError);
            return;
        }
        self.on_packet(nr, packet, payload);
    }

    pub(super) fn on_packet(&mut self, nr: VolumeNr, packet: Packet, payload: Option<P>) {
        self.net.pings.hear(self.now);
        if let Some(step) = self.net.link.step() {
            self.on_handshake_packet(step, packet);
            return;
        }
        if !self.is_up() {
            return;
        }
        if self.is_parting() {
            // Sent before it has heard that it goes on alone: what it has written it will mark.
            if matches!(packet, Packet::Ping) {
                self.send(VolumeNr(0), Packet::PingAck, None);
            }
            return;
        }
        if !self.admits(nr, &packet) {
            return;
        }
        let is_bitmap = matches!(packet, Packet::Bitmap(_) | Packet::CompressedBitmap(_));
        if self.net.bitmap_in.is_some()
            && !is_bitmap
            && packet.socket() == replica_proto::Socket::Data
        {
            self.protocol_error(format!("{} in the middle of a bitmap", packet.name()));
            return;
        }
        match packet {
            Packet::Ping => self.send(VolumeNr(0), Packet::PingAck, None),
            Packet::PingAck => self.on_ping_ack(),
            Packet::Protocol(params) => self.on_protocol(&params),
            Packet::ProtocolUpdate(params) => self.on_protocol_update(&params),
            Packet::Barrier(barrier) => self.on_barrier(barrier),
            Packet::BarrierAck { barrier, set_size } => self.on_barrier_ack(barrier, set_size),
            Packet::ConnStChgReq(change) => self.on_connection_change_request(change),
            Packet::ConnStChgReply(code) => self.admin_reply(None, code),
            Packet::RdbSnapshot(order) => self.on_snapshot_order(order),
            Packet::RdbSnapshotAnswer(answer) => self.on_snapshot_answer(answer),
            Packet::UnplugRemote | Packet::DelayProbe { .. } | Packet::EnableReplication { .. } => {
            }
            packet => {
                if !self.volumes.contains(nr) {
                    self.on_unknown_volume(nr, &packet);
                    return;
                }
                if !self.is_told_late(nr, &packet) && !self.has_disk_write_too_much(nr) {
                    self.on_volume_packet(nr, packet, payload);
                }
            }
        }
    }

    /// Whether the peer may send this packet in our state ([`rules::packets`]); if not, the connection ends.
    fn admits(&mut self, nr: VolumeNr, packet: &Packet) -> bool {
        let command = packet.command();
        let wide = command.is_connection_wide()
            || matches!(
                packet,
                Packet::UnplugRemote | Packet::DelayProbe { .. } | Packet::EnableReplication { .. }
            );
        let volume = self.volumes.get(nr).filter(|_| !wide);
        let asked = self.admin.asks_about(Some(nr));
        let (state, past) = volume.map_or((VolumeState::INITIAL, Past::empty()), |volume| {
            (volume.state, volume.peer.past)
        });
        let mut facts = Facts {
            greeted: self.net.link.is_greeted(),
            role: state.role,
            peer: state.peer,
            conn: state.conn,
            past,
            snapshot: self.snapshots.facts(self.net.agreed.takes_snapshots()),
        };
        facts.past.set(Past::QUESTION, asked);
        if volume.is_none() {
            facts.conn = self.net.cstate;
        }
        let unknown = volume.is_none() && !wide;
        let verdict = match rules::packets::admit(command, &facts) {
            Err(Refusal::State { .. }) if unknown => Ok(()), // see below
            verdict => verdict,
        };
        let Err(refusal) = verdict else { return true };
        if self.lacks_secret_for(packet) {
            return false;
        }
        let name = packet.name();
        if past.contains(Past::GIVEN_UP) {
            let text = format!(
                "{name} answers for a disk that was given up while it was attached: connecting anew"
            );
            self.log_volume(Level::Warn, nr, text);
            self.lose_connection(ConnState::NetworkFailure);
            return false;
        }
        self.protocol_error(if wide {
            format!("{name} {refusal}: no right peer sends that")
        } else {
            format!("volume {nr}: {name} {refusal}: no right peer sends that")
        });
        false
    }

    /// Ends the connection to a peer that has the disk write more of its metadata than it can, as by a disk that comes and goes.
    fn has_disk_write_too_much(&mut self, nr: VolumeNr) -> bool {
        let open = self.requests.len() + self.peer_writes.len();
        let disk = self.volume(nr).disk.get();
        let too_much = disk.is_some_and(|disk| disk.operations_waiting() >= METADATA_MAX + open);
        if too_much {
            self.protocol_error(format!(
                "volume {nr}: {METADATA_MAX} writes of metadata wait for the disk, and the peer gives cause for more"
            ));
        }
        too_much
    }

    /// The peer may know a volume that we do not (`docs/spec/wire.md`, section 2.3).
    fn on_unknown_volume(&mut self, nr: VolumeNr, packet: &Packet) {
        match packet {
            Packet::SyncParam(_) | Packet::Sizes(_) | Packet::Uuids(_) | Packet::State(_) => {
                let text = format!(
                    "{} packet received for volume {nr}, which is not configured locally",
                    packet.name()
                );
                self.note_unknown_volume(nr);
                self.log(Level::Warn, text);
            }
            _ => self.protocol_error(format!(
                "{} for volume {nr}, which is not configured locally",
                packet.name()
            )),
        }
    }

    fn on_volume_packet(&mut self, nr: VolumeNr, packet: Packet, payload: Option<P>) {
        match packet {
            Packet::Data(header) => match payload {
                Some(payload) => {
                    let bytes = payload.len_bytes();
                    self.on_mirror_write(nr, &header, bytes, MirrorKind::Write, Some(payload));
                }
                None => self.protocol_error(format!("volume {nr}: P_DATA without data")),
            },
            Packet::Trim(header, bytes) => {
                let kind = self.mirror_kind(header.flags, true);
                self.on_mirror_write(nr, &header, bytes, kind, None);
            }
            Packet::Zeroes(header, bytes) => {
                let kind = self.mirror_kind(header.flags, false);
                self.on_mirror_write(nr, &header, bytes, kind, None);
            }
            Packet::DataRequest(request) => {
                self.on_read_request(nr, &request, Purpose::Application);
            }
            Packet::RsDataRequest(request) | Packet::RsThinRequest(request) => {
                self.on_read_request(nr, &request, Purpose::Resync);
            }
            Packet::CsumRsRequest(request, digest) => {
                self.on_checksum_request(nr, &request, digest);
            }
            Packet::RsIsInSync(ack) => self.on_in_sync(nr, &ack),
            Packet::OvRequest(request) => self.on_verify_request(nr, &request),
            Packet::OvReply(reply, digest) => self.on_verify_reply(nr, &reply, digest),
            Packet::OvResult(result) => self.on_verify_result(nr, &result),
            Packet::DataReply(header) => match payload {
                Some(payload) => self.on_data_reply(nr, &header, payload),
                None => self.protocol_error(format!("volume {nr}: P_DATA_REPLY without data")),
            },
            Packet::RsDataReply(header) => match payload {
                Some(payload) => self.on_resync_data(nr, &header, payload),
                None => self.protocol_error(format!("volume {nr}: P_RS_DATA_REPLY without data")),
            },
            Packet::RecvAck(ack) => self.application_ack(nr, &ack, AckKind::Received),
            Packet::WriteAck(ack) => self.application_ack(nr, &ack, AckKind::Written),
            Packet::RsWriteAck(ack) if ack.block_id == BlockId::SYNCER => {
                self.on_resync_ack(nr, &ack, true)
            }
            Packet::RsWriteAck(ack) => self.application_ack(nr, &ack, AckKind::InSync),
            Packet::NegAck(ack) if ack.block_id == BlockId::SYNCER => {
                self.on_resync_ack(nr, &ack, false)
            }
            Packet::NegAck(ack) => self.on_neg_ack(nr, &ack),
            Packet::NegDReply(ack) => self.on_neg_data_reply(nr, &ack),
            Packet::NegRsDReply(ack) => self.on_resync_refused(nr, &ack, true),
            Packet::RsCancel(ack) => self.on_resync_refused(nr, &ack, false),
            Packet::OutOfSync(desc) => {
                let sectors = u64::from(desc.bytes.div_ceil(512));
                self.mark(nr, desc.sector, desc.sector.saturating_add(sectors));
            }
            Packet::SyncParam(params) => self.on_sync_param(nr, &params),
            Packet::Sizes(sizes) => self.on_sizes(nr, &sizes),
            Packet::Uuids(uuids) => self.on_uuids(nr, &uuids),
            Packet::State(word) => self.on_state(nr, word),
            Packet::SyncUuid(uuid) => self.on_sync_uuid(nr, Generation::new(uuid)),
            Packet::StateChgReq(change) => self.on_state_change_request(nr, change),
            Packet::StateChgReply(code) => self.admin_reply(Some(nr), code),
            packet @ (Packet::Bitmap(_) | Packet::CompressedBitmap(_)) => {
                self.on_bitmap_packet(nr, &packet)
            }
            other => {
                // What this node never asked for or agreed to: thin replies, two primaries.
                self.protocol_error(format!("volume {nr}: unexpected {}", other.name()));
            }
        }
    }

    fn application_ack(&mut self, nr: VolumeNr, ack: &replica_proto::BlockAck, kind: AckKind) {
        if !self.on_write_ack(nr, ack, kind) {
            let span = Span::from(ack);
            let text = format!("volume {nr}: an ack for an unknown write, sector {span}");
            self.protocol_error(text);
        }
    }

    /// What the peer asks for, if a right peer can; else it is left.
    fn recognise(
        &mut self,
        scope: Scope,
        nr: VolumeNr,
        wanted: StateChange,
    ) -> Option<(Request, Change)> {
        let (mask, val) = (wanted.mask.0, wanted.val.0);
        let whose = match scope {
            Scope::Volume => format!("volume {nr}: P_STATE_CHG_REQ"),
            Scope::Connection => "P_CONN_ST_CHG_REQ".into(),
        };
        let change = match Change::from_mask_val(mask, val) {
            Ok(change) => change,
            Err(error) => {
                self.protocol_error(format!("{whose}: {error}"));
                return None;
            }
        };
        let Some(request) = rules::peer_change::recognise(scope, &change) else {
            self.protocol_error(format!(
                "{whose} with mask {mask:#x} and value {val:#x}: no right peer asks for that"
            ));
            return None;
        };
        Some((request, change.for_receiver()))
    }

    /// P_STATE_CHG_REQ: the peer wants our consent (`docs/spec/behaviour.md`, section 2.7).
    fn on_state_change_request(&mut self, nr: VolumeNr, wanted: StateChange) {
        let Some((request, change)) = self.recognise(Scope::Volume, nr, wanted) else {
            return;
        };
        if request == Request::InvalidateRemote && self.volume(nr).users.writes_open() > 0 {
            // (L32) Our users' flushes look at our disk alone. Before it is given up the peer must have made durable all that
            // they have written, which its barriers tell.
            self.volume_mut(nr).peer.wants_us_as_target = true;
            self.close_epoch();
            return;
        }
        self.decide_state_change(nr, request, change);
    }

    /// Answers a request that waited for our users' writes. Says whether there was one.
    pub(super) fn poll_wanted_as_target(&mut self, nr: VolumeNr) -> bool {
        let volume = self.volume(nr);
        if volume.users.writes_open() > 0 || !volume.peer.wants_us_as_target {
            return false;
        }
        let change = Change::conn(ConnState::StartingSyncT);
        self.decide_state_change(nr, Request::InvalidateRemote, change);
        self.volume_mut(nr).peer.wants_us_as_target = false;
        self.after.push_back(Follow::RetryWaiting(nr)); // (a full sync holds them on)
        true
    }

    /// What is looked at beside the ordinary rules of a change.
    fn facts_of_request(&self, nr: VolumeNr) -> rules::peer_change::Facts {
        let volume = self.volume(nr);
        rules::peer_change::Facts {
            disk: volume.state.disk,
            pdsk: volume.state.pdsk,
            peer: volume.state.peer,
            write_failed: volume.peer.write_failed,
        }
    }

    /// `change` is in our terms.
    fn decide_state_change(&mut self, nr: VolumeNr, request: Request, change: Change) {
        let code = if self.net.link.resolves_conflicts() && self.admin.asks_about(Some(nr)) {
            StateError::ConcurrentChange.code()
        } else {
            let facts = self.facts_of_request(nr);
            let done = rules::peer_change::makes_sense(request, &facts)
                .and_then(|()| self.change(nr, change, false));
            match done {
                Ok(code) => code,
                Err(error) => {
                    self.log_refusal(nr, error, change);
                    error.code()
                }
            }
        };
        self.send(nr, Packet::StateChgReply(code), None);
    }

    /// P_CONN_ST_CHG_REQ: the same for the whole connection; in practice the peer's graceful disconnect, and with DRBD 9 its
    /// changes of role.
    fn on_connection_change_request(&mut self, wanted: StateChange) {
        let scope = Scope::Connection;
        let Some((request, mut change)) = self.recognise(scope, VolumeNr(0), wanted) else {
            return;
        };
        let code = if self.net.link.resolves_conflicts() && self.admin.asks_about(None) {
            StateError::ConcurrentChange.code()
        } else {
            let volumes = self.volumes.iter();
            if change.disk.is_some() && volumes.clone().any(|v| v.state.disk < DiskState::Outdated)
            {
                change.disk = None; // such a disk is worse than Outdated already
            }
            let numbers = self.volume_numbers();
            let sense = numbers.into_iter().try_for_each(|nr| {
                rules::peer_change::makes_sense(request, &self.facts_of_request(nr))
            });
            match sense.and_then(|()| self.change_connection(change, false)) {
                Ok(code) => code,
                Err(error) => {
                    self.log(Level::Error, format!("State change failed: {error}"));
                    error.code()
                }
            }
        };
        if request == Request::DisconnectOutdatingUs && code >= 1 && self.record_outdated(code) {
            return;
        }
        self.answer_parting(code);
    }

    fn answer_parting(&mut self, code: i32) {
        self.send(VolumeNr(0), Packet::ConnStChgReply(code), None);
        if code >= 1 && self.net.cstate == ConnState::TearDown {
            self.lose_connection(ConnState::TearDown);
        }
    }

    /// (L49) The peer goes on alone with our answer: that our disks are Outdated is on record before. Says whether there are any.
    fn record_outdated(&mut self, code: i32) -> bool {
        let mut volumes = self.volume_numbers();
        volumes.retain(|nr| self.volume(*nr).has_pending_record());
        self.net.outdating.begin(code, volumes.len());
        for &nr in &volumes {
            self.md(nr, MdKind::SUPERBLOCK, Then::OutdatedRecorded);
        }
        !volumes.is_empty()
    }

    /// Whether the peer is about to go on alone.
    fn is_parting(&self) -> bool {
        self.net.outdating.is_under_way()
    }

    /// A disk is Outdated on record, or failed.
    pub(super) fn outdated_recorded(&mut self, ok: bool) {
        if !self.net.outdating.is_under_way() {
            return;
        }
        if !ok {
            self.lose_connection(ConnState::NetworkFailure);
        } else if let Some(code) = self.net.outdating.recorded() {
            self.answer_parting(code);
        }
    }
}
