//! What two nodes tell each other of a volume, and what follows: size, generations, state, and who syncs whom
//! (`docs/spec/behaviour.md`, sections 5 and 6.4 to 6.6; `docs/spec/wire.md`, section 5).

use alloc::format;
use alloc::string::{String, ToString};

use replica_proto::{DdsFlags, Packet, QueueLimits, Sizes, StateWord, UuidFlags, Uuids};

use crate::config::Protocol;
use crate::effect::{DeviceSpec, Effect, Level};
use crate::event::Payload;
use crate::generation::{CompareInputs, GenerationIds, PeerIds, same};
use crate::ids::VolumeNr;
use crate::metadata::{MdKind, Then};
use crate::resource::Resource;
use crate::rules::{
    self,
    packets::Past,
    peer_state::{Meaning, Told},
    sizes::{Occasion, Verdict},
    trouble::Trouble,
};
use crate::state::{self, Change, ConnState, DiskState, Role, StateError, VolumeState};
use crate::sync_decision::{self, DecisionInputs, FailEffect, Outcome};
use rdb_meta::MdFlags;

impl<P: Payload> Resource<P> {
    /// P_SIZES. `ask`: the peer is to answer with its own.
    pub(crate) fn send_sizes(&mut self, nr: VolumeNr, ask: bool) {
        let volume = self.volume(nr);
        let attached = volume
            .disk
            .as_ref()
            .filter(|_| volume.state.disk >= DiskState::Negotiating);
        let logical = attached.map_or(512, |d| d.info.logical_block_bytes);
        let sizes = Sizes {
            d_size: attached.map_or(0, |d| d.layout.usable_sectors),
            u_size: attached.map_or(0, |d| d.options.size_sectors),
            c_size: if ask { 0 } else { volume.size },
            max_bio_size: crate::REQUEST_MAX_BYTES,
            queue_order_type: 0,
            dds_flags: DdsFlags::empty(),
            limits: Some(QueueLimits {
                physical_block_size: logical,
                logical_block_size: logical,
                io_min: logical,
                discard_enabled: attached.is_some_and(|d| d.info.can_discard),
                ..QueueLimits::default()
            }),
        };
        self.send(nr, Packet::Sizes(sizes), None);
    }

    /// P_UUIDS, if there is a disk to speak of.
    pub(crate) fn send_uuids(&mut self, nr: VolumeNr) {
        self.send_uuids_with(nr, UuidFlags::empty());
    }

    pub(crate) fn send_uuids_with(&mut self, nr: VolumeNr, extra: UuidFlags) {
        let discard = self.net.discard_sent;
        let volume = self.volume_mut(nr);
        if volume.state.disk < DiskState::Negotiating {
            return;
        }
        let Some(disk) = volume.disk.as_deref() else {
            return;
        };
        let ids = disk.ids();
        let bits = disk.bitmap.count_set();
        let mut flags = extra;
        flags.set(UuidFlags::DISCARD_MY_DATA, discard);
        flags.set(UuidFlags::CRASHED_PRIMARY, volume.crashed_primary);
        let attaching_bad = volume.state.disk == DiskState::Negotiating
            && volume
                .negotiated
                .is_some_and(|(disk, _)| disk == DiskState::Inconsistent);
        flags.set(UuidFlags::INCONSISTENT, attaching_bad);
        volume.peer.bits_announced = bits;
        let uuids = Uuids {
            current: ids.current,
            bitmap: ids.bitmap,
            history: ids.history,
            bits,
            flags,
        };
        self.send(nr, Packet::Uuids(uuids), None);
    }

    /// P_STATE.
    pub(crate) fn send_state(&mut self, nr: VolumeNr) {
        if self.volume(nr).peer.state_held.is_some() {
            return; // the first one has to go before, and comes with it
        }
        let mut told = self.volume(nr).state;
        if told.awaits_source() && told.disk > DiskState::Outdated {
            told.disk = DiskState::Outdated; // as the driver says from its consent on
        }
        let word = told.to_word();
        self.send(nr, Packet::State(StateWord(word)), None);
    }

    /// (L35) The first state, if it was held back: the peer's data are those that our users have seen, or there are none.
    fn release_first_state(&mut self, nr: VolumeNr) {
        let Some(first) = self.volume_mut(nr).peer.state_held.take() else {
            return;
        };
        self.send(nr, Packet::State(first), None);
        if self.volume(nr).state.to_word() != first.0 {
            self.send_state(nr);
        }
    }

    // ---- sizes ---------------------------------------------------------------------------------------------------

    /// P_SIZES: what may follow from it is said by [`rules::sizes`].
    pub(crate) fn on_sizes(&mut self, nr: VolumeNr, sizes: &Sizes) {
        let volume = self.volume_mut(nr);
        let state = volume.state;
        volume.peer_sizes_seen = true;
        let old_size = volume.size;
        if sizes.d_size == 0 {
            self.release_first_state(nr);
        }
        let volume = self.volume(nr);
        let attached = volume
            .disk
            .as_deref()
            .filter(|_| state.disk >= DiskState::Negotiating);
        let (usable, own_user) = attached.map_or((None, 0), |disk| {
            (Some(disk.layout.usable_sectors), disk.options.size_sectors)
        });
        let facts = rules::sizes::Facts {
            state,
            worth: match (state.disk, volume.negotiated) {
                (DiskState::Negotiating, Some((disk, _))) => disk,
                (disk, _) => disk,
            },
            moving: volume.attach.is_some() && attached.is_none()
                || volume.disk.is_some() && attached.is_none(),
            usable,
            user: own_user,
            size: old_size,
            peer_disk: sizes.d_size,
            peer_user: sizes.u_size,
            peer_device: sizes.c_size,
        };
        let verdict = rules::sizes::decide(&facts);
        if let Verdict::Wrong(wrong) = verdict {
            self.protocol_error(format!("volume {nr}: P_SIZES: {wrong}"));
            return;
        }
        self.volume_mut(nr).peer.disk_size = sizes.d_size;
        if facts.moving {
            // A disk on its way in announces itself when it is there, one on its way out keeps the size it knows.
            return;
        }
        if let Some(usable) = usable
            && sizes.d_size != 0
            && sizes.d_size.abs_diff(usable) > usable / 8
        {
            let text = format!(
                "Considerable difference in lower level device sizes: {usable}s vs. {}s",
                sizes.d_size
            );
            self.log_volume(Level::Warn, nr, text);
        }
        match verdict {
            Verdict::TooSmall(size) => {
                let text = if usable.is_some() {
                    format!("The peer's disk size is too small! ({size} < {old_size} sectors)")
                } else {
                    format!(
                        "The peer's device size is too small! ({size} < {old_size} sectors); demote me first!"
                    )
                };
                self.stand_alone_for(Trouble::TooSmall, nr, text);
                return;
            }
            Verdict::Set(size) => {
                let new_marked = !sizes.dds_flags.contains(DdsFlags::NO_RESYNC);
                self.set_size(nr, size, usable.is_some() && new_marked);
            }
            Verdict::Keep | Verdict::Wrong(_) => {}
        }
        let user = rules::sizes::smaller_limit(own_user, sizes.u_size);
        let now = self.volume(nr).size;
        if usable.is_some() && user > now {
            let text = format!(
                "Requested disk size is too big ({} > {})",
                user / 2,
                now / 2
            );
            self.log_volume(Level::Error, nr, text);
        }
        let occasion = rules::sizes::occasion(&facts);
        if occasion == Occasion::Other {
            return; // nothing follows, no answer either: two nodes that differ would answer each other for ever
        }
        let size = self.volume(nr).size;
        if state.conn > ConnState::WFReportParams {
            if sizes.c_size != size {
                self.send_sizes(nr, false);
            }
            if size > old_size && state.conn == ConnState::Connected {
                if sizes.dds_flags.contains(DdsFlags::NO_RESYNC) {
                    self.log_volume(
                        Level::Info,
                        nr,
                        "Resync of new storage suppressed with --assume-clean",
                    );
                } else {
                    self.resync_after_growth(nr);
                }
            }
        }
    }

    /// Gives the device a new size; with a disk, its bitmap and superblock follow. `set_new`: new space is out of sync.
    pub(crate) fn set_size(&mut self, nr: VolumeNr, size: u64, set_new: bool) {
        let volume = self.volume_mut(nr);
        if volume.size == size {
            return;
        }
        let grows = size > volume.size;
        volume.size = size;
        let is_primary = volume.state.role == Role::Primary;
        if volume.disk.is_some() {
            let full = MdFlags::FULL_SYNC;
            self.disk_mut(nr).bitmap.resize(size, set_new);
            // At every instant the disk has a bitmap that is right, or says that everything is out of sync (I10).
            self.md(
                nr,
                MdKind::Superblock {
                    set: full,
                    clear: MdFlags::empty(),
                },
                Then::Nothing,
            );
            self.md(nr, MdKind::ChangedPages, Then::Nothing);
            self.md(
                nr,
                MdKind::Superblock {
                    set: MdFlags::empty(),
                    clear: full,
                },
                // Nobody sees more of the device than its disk has on record (I22).
                if grows {
                    Then::AnnounceDevice
                } else {
                    Then::Nothing
                },
            );
        }
        self.log_volume(Level::Info, nr, format!("size = {} KB", size / 2));
        if is_primary && !(grows && self.volume(nr).disk.is_some()) {
            self.announce_device(nr);
        }
    }

    /// The front end learns the device, or its new size.
    pub(crate) fn announce_device(&mut self, nr: VolumeNr) {
        let volume = self.volume(nr);
        let logical_block_bytes = volume
            .disk
            .as_ref()
            .map_or(512, |d| d.info.logical_block_bytes);
        let device = DeviceSpec {
            size_sectors: volume.size,
            logical_block_bytes,
        };
        self.emit(Effect::Device {
            volume: nr,
            device: Some(device),
        });
    }

    /// Both disks grew: the new area is synced from the Primary, or from the tie breaker (6.6).
    pub(crate) fn resync_after_growth(&mut self, nr: VolumeNr) {
        let state = self.volume(nr).state;
        if state.conn != ConnState::Connected
            || state.disk < DiskState::Inconsistent
            || state.pdsk < DiskState::Inconsistent
        {
            self.volume_mut(nr).grew_while_detached = true;
            return;
        }
        self.volume_mut(nr).grew_while_detached = false;
        self.log_volume(Level::Info, nr, "Resync of new storage after online grow");
        let source = if state.role == state.peer {
            self.net.resolve_conflicts
        } else {
            state.role == Role::Primary
        };
        if source {
            self.start_source(nr);
        } else {
            self.fact(nr, Change::conn(ConnState::WFSyncUUID));
            self.take_early_sync_uuid(nr);
        }
    }

    // ---- generations ---------------------------------------------------------------------------------------------

    pub(crate) fn on_uuids(&mut self, nr: VolumeNr, uuids: &Uuids) {
        let peer = PeerIds {
            ids: GenerationIds {
                current: uuids.current,
                bitmap: uuids.bitmap,
                history: uuids.history,
            },
            bits: uuids.bits,
            flags: uuids.flags.bits(),
        };
        let volume = self.volume_mut(nr);
        let state = volume.state;
        let exposed = volume.exposed_uuid;
        volume.peer.ids = Some(peer);
        let first_look = state.conn < ConnState::Connected || !state::is_there(state.pdsk);
        if state.role == Role::Primary
            && state.disk < DiskState::Inconsistent
            && first_look
            && !same(exposed, uuids.current)
        {
            let text = format!("Can only connect to data with current UUID={exposed:016X}");
            self.stand_alone_for(Trouble::LacksOurData, nr, text);
            return;
        }
        if state.role == Role::Primary
            && state.disk < DiskState::Inconsistent
            && first_look
            && self.volume(nr).source_open
        {
            let text = "the peer's disk lacks writes that only our own disk has";
            self.stand_alone_for(Trouble::LacksOurData, nr, text);
            return;
        }
        self.release_first_state(nr);
        if state.conn == ConnState::Connected && peer.skip_initial_sync() {
            let is_primary = state.role == Role::Primary;
            let Some(disk) = self.volume_mut(nr).usable_disk() else {
                return;
            };
            let mut ids = disk.ids();
            if ids.current & !1 != crate::generation::JUST_CREATED {
                return;
            }
            ids.skip_initial_sync(uuids.current, is_primary);
            disk.set_ids(ids);
            disk.al_suspended = false;
            self.log_volume(
                Level::Info,
                nr,
                "Accepted new current UUID, preparing to skip initial sync",
            );
            // (At once: a write of the peer's may be marked before it is our turn to write the bitmap. A crash before
            // that finds a disk that was just created, and syncs all of it.)
            self.disk_mut(nr).bitmap.clear_all();
            self.md(nr, MdKind::AllPages, Then::Nothing);
            let change = Change::disk(DiskState::UpToDate).and_pdsk(DiskState::UpToDate);
            self.fact(nr, change);
            // A state of ours that was on its way may have told the peer "Inconsistent" after it had decided.
            self.send_state(nr);
        } else if state.conn >= ConnState::Connected
            && state.disk < DiskState::Inconsistent
            && state.pdsk == DiskState::UpToDate
        {
            // (Users have seen nothing of a copy that is not UpToDate: its name would keep our own disk out.)
            self.volume_mut(nr).exposed_uuid = uuids.current;
            if exposed != uuids.current {
                let text = format!(
                    "receiver updated UUIDs to effective data uuid: {:016X}",
                    uuids.current
                );
                self.log_volume(Level::Info, nr, text);
            }
        }
        if state.conn == ConnState::Connected
            && state.disk == DiskState::UpToDate
            && state.pdsk == DiskState::UpToDate
        {
            let volume = self.volume_mut(nr);
            let own = volume.disk.as_deref().map(|disk| disk.ids().current);
            let other = own.is_some_and(|own| !same(own, uuids.current));
            volume.peer.moved_on = other.then_some(uuids.current);
        }
        let shared = self.volume(nr).loss_unrecorded;
        if shared.is_some_and(|shared| !same(shared, uuids.current)) {
            self.loss_settled(nr, true);
        }
    }

    /// A new data generation: the peer has missed what comes now. Writes do not complete before it is durable.
    pub(crate) fn new_current_uuid(&mut self, nr: VolumeNr) {
        if self.planted(crate::Bug::KeepGeneration) {
            return;
        }
        let random = self.random();
        let volume = self.volume_mut(nr);
        let is_primary = volume.state.role == Role::Primary;
        let Some(disk) = volume.disk.as_deref_mut() else {
            return;
        };
        let mut ids = disk.ids();
        if let Some(old) = ids.new_current(random, is_primary) {
            self.log_volume(
                Level::Warn,
                nr,
                format!("bm UUID was already set: {old:016X}"),
            );
        }
        let volume = self.volume_mut(nr);
        volume.exposed_uuid = ids.current;
        volume.completions_held += 1;
        let disk = self.disk_mut(nr);
        disk.set_ids(ids);
        if !is_primary {
            // (L31) What the peer's users flushed may be in the cache of this disk, which is about to outrank the peer's.
            disk.flush_before_superblock();
        }
        self.log_volume(Level::Info, nr, format!("new current UUID {ids}"));
        self.md(nr, MdKind::SUPERBLOCK, Then::AnnounceGeneration);
    }

    // ---- state ---------------------------------------------------------------------------------------------------

    /// P_STATE (`docs/spec/wire.md`, section 5.7).
    pub(crate) fn on_state(&mut self, nr: VolumeNr, word: StateWord) {
        let packet = match VolumeState::from_word(word.0) {
            Ok(packet) => packet,
            Err(error) => {
                self.protocol_error(format!("volume {nr}: P_STATE {:#010x}: {error}", word.0));
                return;
            }
        };
        let own = self.volume(nr).state;
        if own.conn <= ConnState::TearDown {
            return;
        }
        let peer_ids = self.volume(nr).peer.ids;
        let facts = rules::peer_state::Facts {
            own,
            told: packet,
            has_uuids: peer_ids.is_some(),
            protocol_a: self
                .net
                .peer_settings
                .as_ref()
                .is_some_and(|peer| peer.protocol() == Protocol::A),
        };
        if let Err(wrong) = rules::peer_state::check(&facts) {
            self.protocol_error(format!("volume {nr}: P_STATE {:#010x}: {wrong}", word.0));
            return;
        }
        let exchanges = matches!(packet.conn, ConnState::WFBitMapS | ConnState::WFBitMapT);
        if exchanges && own.disk < DiskState::Negotiating {
            // It has decided with a disk of ours that is gone meanwhile, and acts on it until it hears of that.
            self.volume_mut(nr).peer.past |= Past::TOLD;
        }
        self.release_first_state(nr);
        let mut effective = packet.disk;
        if packet.disk != DiskState::UpToDate {
            self.volume_mut(nr).peer.write_failed = false;
        }
        if packet.disk == DiskState::Negotiating {
            let Some(ids) = &peer_ids else {
                self.protocol_error(format!(
                    "volume {nr}: P_STATE of a disk in negotiation without P_UUIDS"
                ));
                return;
            };
            effective = sync_decision::effective_peer_disk(packet.disk, ids);
            self.log_volume(
                Level::Info,
                nr,
                format!("real peer disk state = {effective}"),
            );
        }
        if let Some(text) = rules::peer_state::contradiction(own, packet) {
            self.log_volume(Level::Warn, nr, format!("{text}: connecting anew"));
            self.lose_connection(ConnState::NetworkFailure);
            return;
        }
        let told = match rules::peer_state::meaning(own, packet, effective) {
            Meaning::VerifyEnded => {
                self.fact(nr, Change::peer(packet.role));
                self.verify_finish(nr);
                return;
            }
            Meaning::TargetDone => {
                // It may be demoted meanwhile.
                self.fact(nr, Change::peer(packet.role));
                self.source_target_done(nr);
                return;
            }
            Meaning::TargetEndedInconsistent => {
                self.fact(nr, Change::peer(packet.role));
                let inconsistent = DiskState::Inconsistent;
                self.fact(
                    nr,
                    Change::conn(ConnState::Connected).and_pdsk(inconsistent),
                );
                return;
            }
            Meaning::Told(told) => told,
        };
        self.take_over(nr, packet, peer_ids, told);
    }

    /// Compares generations if it is time, and takes the peer's state over.
    fn take_over(&mut self, nr: VolumeNr, packet: VolumeState, ids: Option<PeerIds>, told: Told) {
        let own = self.volume(nr).state;
        let due = self.volume(nr).consider_resync;
        let mut told = told;
        // Without a peer's disk there is nothing to compare; with one, its generations must have been looked at.
        let mut compared = packet.disk < DiskState::Negotiating;
        if let Some(ids) = ids
            && rules::peer_state::compares(own, packet, due)
        {
            self.volume_mut(nr).consider_resync = false;
            compared = true;
            let outcome = self.decide(nr, &ids, packet, told.pdsk);
            match self.on_decision(nr, packet, outcome) {
                None => return,
                Some(decided) => {
                    told.conn = decided.conn;
                    told.pdsk = decided.pdsk.unwrap_or(told.pdsk);
                }
            }
        }
        if compared && told.conn != ConnState::WFBitMapT && self.gives_up_older_disk(nr) {
            told.conn = ConnState::Connected;
        }
        let own = self.volume(nr).state;
        let negotiated = self.volume(nr).negotiated.filter(|_| compared);
        let change = rules::peer_state::change(own, packet, told, negotiated.map(|(disk, _)| disk));
        let establishes = own.conn < ConnState::Connected && told.conn >= ConnState::Connected;
        if let Err(error) = self.change(nr, change, !establishes) {
            self.cannot_take_over(nr, change, error, establishes);
            return;
        }
        let answer = rules::peer_state::answer(own, self.volume(nr).state, packet, told.conn);
        if answer.state {
            self.send_state(nr);
        }
        if answer.decision {
            self.send_uuids(nr);
            self.send_state(nr);
        }
    }

    fn cannot_take_over(
        &mut self,
        nr: VolumeNr,
        change: Change,
        error: StateError,
        establishes: bool,
    ) {
        if establishes {
            self.log_refusal(nr, error, change);
            self.trouble(Trouble::NoAgreement, error.to_string());
            self.go_standalone();
        } else {
            let text = format!("the peer's state cannot be taken over: {error}");
            self.log_volume(Level::Error, nr, text);
        }
    }

    /// Does what the comparison of the generations has decided. Nothing comes back if the connection is left.
    fn on_decision(
        &mut self,
        nr: VolumeNr,
        packet: VolumeState,
        outcome: Outcome,
    ) -> Option<Decided> {
        let own = self.volume(nr).state;
        // The peer decides the same, and sends its bitmap also if our disk is given up before we get that far.
        self.volume_mut(nr).peer.past |= match outcome {
            Outcome::Source { .. } => Past::SOURCE,
            Outcome::Target { .. } => Past::TARGET,
            Outcome::Fail(_) if own.disk == DiskState::Negotiating => Past::SOURCE | Past::TARGET,
            Outcome::Connected | Outcome::Fail(_) => Past::empty(),
        };
        let reason = match outcome {
            Outcome::Connected => return Some(Decided::conn(ConnState::Connected)),
            Outcome::Source { full } => {
                self.prepare_bitmap(nr, full);
                return Some(Decided::conn(ConnState::WFBitMapS));
            }
            Outcome::Target { full } => {
                self.prepare_bitmap(nr, full);
                return Some(Decided::conn(ConnState::WFBitMapT));
            }
            Outcome::Fail(reason) => reason,
        };
        match sync_decision::fail_effect(own.disk, packet.disk, self.net.peer_dry_run) {
            FailEffect::DetachOwn => {
                let text = format!("{reason}: giving the disk up");
                self.log_volume(Level::Error, nr, text);
                self.fact(nr, Change::disk(DiskState::Failed));
                Some(Decided::conn(ConnState::Connected))
            }
            FailEffect::PeerStaysDiskless => {
                let text = "Disk attach process on the peer node was aborted.";
                self.log_volume(Level::Error, nr, text);
                // It hears why, and gives its disk up: what we say of it does not change, so nothing else would tell, and
                // its users would wait for ever.
                self.send_uuids(nr);
                self.send_state(nr);
                Some(Decided {
                    conn: ConnState::Connected,
                    pdsk: Some(DiskState::Diskless),
                })
            }
            FailEffect::Retry => {
                self.lose_connection(ConnState::ProtocolError);
                None
            }
            FailEffect::StandAlone => {
                let text = format!("not connected: {reason}");
                self.stand_alone_for(reason.trouble(), nr, text);
                None
            }
        }
    }

    /// The connection ends for good, and the log says why and what there is to be done.
    fn stand_alone_for(&mut self, kind: Trouble, nr: VolumeNr, text: impl Into<String>) {
        let text = text.into();
        let line = match kind.advice() {
            Some(advice) => format!("{text}. To do: {advice}"),
            None => text.clone(),
        };
        self.log_volume(Level::Error, nr, line);
        self.trouble(kind, text);
        self.go_standalone();
    }

    /// (L25) The disk that our users are on has gone, or is worth less, while our own is negotiated: that is no substitute if it is
    /// older. Says whether it was given up.
    fn gives_up_older_disk(&mut self, nr: VolumeNr) -> bool {
        let volume = self.volume(nr);
        let state = volume.state;
        if state.disk != DiskState::Negotiating || state.role != Role::Primary {
            return false;
        }
        let current = volume.disk.as_deref().map(|disk| disk.ids().current);
        let older = current.and_then(|current| self.lacks_what_users_saw(nr, current));
        let Some(text) = older else {
            return false;
        };
        self.log_volume(Level::Error, nr, text);
        self.fact(nr, Change::disk(DiskState::Failed));
        true
    }

    /// Compares the generations and says who syncs whom; log lines and corrections included.
    fn decide(
        &mut self,
        nr: VolumeNr,
        peer: &PeerIds,
        packet: VolumeState,
        peer_disk: DiskState,
    ) -> Outcome {
        let volume = self.volume(nr);
        let Some(disk) = volume.disk.as_deref() else {
            return Outcome::Connected;
        };
        let options = self.net.options.clone().unwrap_or_default();
        let state = volume.state;
        let own_disk = match (state.disk, volume.negotiated) {
            (DiskState::Negotiating, Some((disk, _))) => disk,
            (disk, _) => disk,
        };
        let crashes = !self.planted(crate::Bug::NoRuleForCrashes);
        let inputs = DecisionInputs {
            own: disk.ids(),
            peer: *peer,
            compare: CompareInputs {
                own_crashed: crashes && volume.crashed_primary,
                peer_crashed: crashes && peer.crashed_primary(),
                own_primary: state.role == Role::Primary,
                peer_primary: packet.role == Role::Primary,
                resolve_conflicts: self.net.resolve_conflicts,
                version: self.net.wire.version.0,
                wsame: self
                    .net
                    .wire
                    .features
                    .contains(replica_proto::Features::WSAME),
                own_bits: volume.peer.bits_announced,
                peer_bits: peer.bits,
            },
            own_disk,
            own_real_disk: state.disk,
            peer_disk,
            peer_attaches: state.conn >= ConnState::Connected
                && packet.disk == DiskState::Negotiating,
            own_bits_sent: volume.peer.bits_announced,
            own_bits: disk.bitmap.count_set(),
            after_sb_0pri: options.after_sb_0pri,
            after_sb_1pri: options.after_sb_1pri,
            after_sb_2pri: options.after_sb_2pri,
            always_asbp: options.always_asbp,
            rr_conflict: options.rr_conflict,
            own_discard_my_data: self.net.discard_sent,
            can_demote: false,
            own_tentative: self.net.tentative,
            peer_dry_run: self.net.peer_dry_run,
        };
        let decision = sync_decision::decide(&inputs);
        for line in decision.log {
            self.log_volume(Level::Info, nr, line);
        }
        for handler in decision.handlers {
            self.log_volume(Level::Warn, nr, format!("event {handler}"));
        }
        if let Some(ids) = decision.own_correction {
            self.disk_mut(nr).set_ids(ids);
        }
        if let Some(ids) = decision.peer_correction
            && let Some(peer) = &mut self.volume_mut(nr).peer.ids
        {
            peer.ids = ids;
        }
        decision.outcome
    }
}

/// What the comparison comes to.
struct Decided {
    conn: ConnState,
    /// What the peer's disk is after all.
    pdsk: Option<DiskState>,
}

impl Decided {
    fn conn(conn: ConnState) -> Decided {
        Decided { conn, pdsk: None }
    }
}
