//! Generations: P_UUIDS, and a new one (`docs/spec/behaviour.md`, sections 4 and 6.4).

use alloc::format;
use alloc::string::ToString;

use replica_proto::Uuids;

use crate::disk::{MdKind, Then};
use crate::effect::{Effect, Level, Milestone};
use crate::event::Payload;
use crate::generation::{Generation, GenerationIds, PeerIds, WroteAlone};
use crate::ids::VolumeNr;
use crate::router::Resource;
use crate::rules::resync::is_shown;
use crate::rules::serving;
use crate::rules::trouble::Trouble;
use crate::state::{Change, ConnState, DiskState, Role};

impl<P: Payload> Resource<P> {
    pub(in crate::router) fn on_uuids(&mut self, nr: VolumeNr, uuids: &Uuids) {
        let [younger, older] = uuids.history;
        let ids = GenerationIds::from_bits([uuids.current, uuids.bitmap, younger, older]);
        let peer = PeerIds {
            ids,
            bits: uuids.bits,
            flags: match self.net.agreed.tells_lone_names() {
                true => uuids.flags.bits(),
                false => uuids.flags.bits() & !PeerIds::FLAGS_OF_LONE_NAMES,
            },
        };
        let volume = self.volume_mut(nr);
        let state = volume.state;
        let exposed = volume.exposed.current();
        volume.peer.ids = Some(peer);
        let looked_at = serving::has_users_without_disk(&state) && serving::is_first_look(&state);
        if looked_at && !self.may_serve_our_users(nr, &peer) {
            return;
        }
        self.release_first_state(nr);
        if state.conn == ConnState::Connected && peer.skip_initial_sync() {
            if !self.skip_initial_sync(nr, ids.current) {
                return;
            }
        } else if serving::shows_peers(&state) {
            self.volume_mut(nr).exposed.show(ids.current);
            if exposed.bits() != ids.current.bits() {
                let text = format!(
                    "receiver updated UUIDs to effective data uuid: {}",
                    ids.current
                );
                self.log_volume(Level::Info, nr, text);
            }
        }
        if serving::may_have_moved_on(&state) {
            let volume = self.volume_mut(nr);
            let own = volume.disk.get().map(|disk| disk.record().ids().current);
            let other = own.is_some_and(|own| own != ids.current);
            volume.peer.moved_on = other.then_some(ids.current);
        }
        let disk = self.volume(nr).disk.get();
        let bitmap = disk.map(|disk| disk.record().ids().bitmap);
        if bitmap.is_some_and(|bitmap| is_shown(state.conn, bitmap, ids.current)) {
            self.target_proven(nr);
        }
        let shared = self.volume(nr).peer.loss_unrecorded;
        if shared.is_some_and(|shared| shared != ids.current) {
            self.loss_settled(nr, true);
        }
    }

    /// Whether our users, who have no disk here, can be served with the peer's: it has what they saw last. If it has not, the
    /// connection is left.
    pub(super) fn may_serve_our_users(&mut self, nr: VolumeNr, peer: &PeerIds) -> bool {
        let exposed = self.volume(nr).exposed.current();
        let lacking = if self.began_for_our_loss(nr, &peer.ids) {
            let text = format!(
                "the peer has begun {} when our disk was lost, and did not come to tell",
                peer.ids.current
            );
            self.log_volume(Level::Warn, nr, text);
            None
        } else {
            serving::lacking(exposed, peer.ids.current, self.volume(nr).peer.source_open)
        };
        if let Some(lacking) = lacking {
            self.stand_alone_for(Trouble::LacksOurData, nr, lacking.to_string());
            return false;
        }
        true
    }

    /// (L44) The peer has begun its generation because our disk was lost.
    fn began_for_our_loss(&self, nr: VolumeNr, uuids: &GenerationIds) -> bool {
        let volume = self.volume(nr);
        let alone = volume.peer.ids.map(|peer| peer.wrote_alone());
        serving::began_for_loss(
            volume.exposed.current(),
            volume.exposed.lost_beside(),
            uuids,
            alone.unwrap_or(WroteAlone::Unknown),
            volume.peer.source_open,
        )
    }

    /// The peer declares both disks equal, which were just created. Says whether ours was.
    fn skip_initial_sync(&mut self, nr: VolumeNr, current: Generation) -> bool {
        let is_primary = self.volume(nr).state.role == Role::Primary;
        let Some(disk) = self.volume_mut(nr).usable_disk() else {
            return false;
        };
        if !disk.skip_initial_sync(current, is_primary) {
            return false;
        }
        self.log_volume(
            Level::Info,
            nr,
            "Accepted new current UUID, preparing to skip initial sync",
        );
        self.md(nr, MdKind::AllPages, Then::Nothing);
        let change = Change::disk(DiskState::UpToDate).and_pdsk(DiskState::UpToDate);
        self.fact(nr, change);
        // A state of ours that was on its way may have told the peer "Inconsistent" after it had decided.
        self.send_state(nr);
        true
    }

    /// A new data generation: the peer has missed what comes now. Writes do not complete before it is durable.
    /// `without_peer`: the peer's data are not there, and it may have our name.
    pub(in crate::router) fn new_current_uuid(&mut self, nr: VolumeNr, without_peer: bool) {
        if self.planted(crate::Bug::KeepGeneration) {
            return;
        }
        let random = self.random();
        let without_peer = without_peer && !self.target_has_our_name(nr);
        let volume = self.volume_mut(nr);
        let is_primary = volume.state.role == Role::Primary;
        let Some(disk) = volume.disk.get_mut() else {
            return;
        };
        let old = disk.record().ids();
        let replaced = disk
            .record_mut()
            .new_current(random, is_primary, without_peer);
        let ids = disk.record().ids();
        if let Some(old) = replaced {
            self.log_volume(Level::Warn, nr, format!("bm UUID was already set: {old}"));
        }
        let volume = self.volume_mut(nr);
        volume.exposed.show(ids.current);
        volume.users.hold_completions();
        let state = volume.state;
        self.note_flags(nr, state); // (L50) a peer that is Outdated has another one now
        let disk = self.disk_mut(nr);
        if !is_primary {
            // (L31) What the peer's users flushed may be in the cache of this disk, which is about to outrank the peer's.
            disk.record_mut().flush_before();
        }
        self.tell_generation(nr, old, ids);
        self.md(nr, MdKind::SUPERBLOCK, Then::AnnounceGeneration);
    }

    /// Whether the peer is to be the target of a resync that has not begun, and has just told that its data have the name of ours: it
    /// has ended its last resync unseen from here. Without it the generation that begins now leaves in its slots both names
    /// that a target may have of which nobody knows, and the resync, when it begins, drops the one that this one has: "unrelated
    /// data", if it breaks off.
    fn target_has_our_name(&self, nr: VolumeNr) -> bool {
        let volume = self.volume(nr);
        let (own, told) = (volume.disk.get(), volume.peer.ids.as_ref());
        let both = own.zip(told);
        volume.state.conn == ConnState::WFBitMapS
            && both.is_some_and(|(own, peer)| own.record().ids().current == peer.ids.current)
    }

    /// A generation begins: the log says so, and the history.
    pub(in crate::router) fn tell_generation(
        &mut self,
        nr: VolumeNr,
        old: GenerationIds,
        new: GenerationIds,
    ) {
        self.log_volume(Level::Info, nr, format!("new current UUID {new}"));
        self.emit(Effect::Milestone {
            volume: nr,
            what: Milestone::Generation { old, new },
        });
    }
}
