//! Generation identifiers: which data a disk holds, and what two disks are to each other
//! (`docs/spec/behaviour.md`, sections 4 and 5.2; `docs/spec/wire.md`, sections 5.5 and 5.8).
//!
//! A disk carries the name of its data (`current`), the name of the data that the peer is believed to hold
//! (`bitmap`: the bitmap is the difference to it), and two older names. Bit 0 says "the node was Primary" and is
//! ignored by every comparison. 4 means "just created", 0 is an empty slot.
//!
//! Everything here is a function over values. [`compare`] is run on both nodes with the inputs exchanged; the results
//! must be mirror images, or the two nodes would both wait for the other to send.

mod alone;
mod comparison;
mod name;

use core::fmt;
use core::hash::{Hash, Hasher};

pub use alone::{Names, WroteAlone};
pub use comparison::{CompareInputs, Comparison, Verdict, compare};
pub use name::Generation;

/// The four slots of one disk.
///
/// Two are equal if they are to the last bit, the bits of a Primary included: so they stand on the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct GenerationIds {
    /// The generation on this disk.
    pub current: Generation,
    /// The generation that the peer is believed to have; none while the peer's data is the same.
    pub bitmap: Generation,
    /// Older generations, newest first.
    pub history: [Generation; 2],
}

impl GenerationIds {
    /// What create-md writes.
    pub const CREATED: GenerationIds = GenerationIds {
        current: Generation::JUST_CREATED,
        bitmap: Generation::NONE,
        history: [Generation::NONE; 2],
    };

    /// The slots in the order in which a superblock has them, to the bit.
    pub fn from_bits([current, bitmap, younger, older]: [u64; 4]) -> GenerationIds {
        GenerationIds {
            current: Generation::new(current),
            bitmap: Generation::new(bitmap),
            history: [Generation::new(younger), Generation::new(older)],
        }
    }

    /// What [`GenerationIds::from_bits`] takes.
    pub fn bits(&self) -> [u64; 4] {
        let [younger, older] = self.history;
        [self.current, self.bitmap, younger, older].map(Generation::bits)
    }

    /// NEWCUR: a new generation begins here and the peer stays at the old one.
    ///
    /// Returns the bitmap UUID that was set already, if any, for the warning `bm UUID was already set: X`. It is moved
    /// to the history. (The kernel's driver forgets it, and with it the common ancestor; section 4.3, "Trap".)
    pub fn new_current(&mut self, random: u64, is_primary: bool) -> Option<Generation> {
        let replaced = (!self.bitmap.is_empty()).then_some(self.bitmap);
        self.rotate_bitmap(self.current);
        self.set_current(Generation::fresh(random), is_primary);
        replaced
    }

    /// (L46) NEWCUR of a source without its target, which may have come to the end unseen and have the current UUID, or still have the
    /// bitmap UUID: that stays, and the oldest slot takes the current one ([`WroteAlone::UnderNewName`]).
    pub fn new_current_beside_target(&mut self, random: u64, is_primary: bool) {
        self.history[1] = self.current;
        self.replace_current(random, is_primary);
    }

    /// A new name for data that nobody else has under the old one.
    pub fn replace_current(&mut self, random: u64, is_primary: bool) {
        self.set_current(Generation::fresh(random), is_primary);
    }

    /// What the slots of [`WroteAlone::UnderNewName`] are when the target turns out to have the current UUID of before: as if the
    /// source had known. The next sync UUID can be told from it then, if that does not come through.
    #[must_use]
    pub fn of_ended_resync(&self) -> GenerationIds {
        GenerationIds {
            current: self.current,
            bitmap: self.history[1],
            history: [self.bitmap, self.history[0]],
        }
    }

    /// ROTSET of the bitmap slot: a value that is already there moves to the history.
    pub fn rotate_bitmap(&mut self, value: Generation) {
        if !self.bitmap.is_empty() {
            self.history = [self.bitmap, self.history[0]];
        }
        self.bitmap = value;
    }

    /// CLEARBM: the peer has our data again.
    pub fn clear_bitmap(&mut self) {
        self.rotate_bitmap(Generation::NONE);
    }

    /// SET of the current slot, bit 0 by role.
    pub fn set_current(&mut self, value: Generation, is_primary: bool) {
        self.current = value;
        self.set_primary_bit(is_primary);
    }

    /// Bit 0 of the current slot: set by a promotion, cleared by a demotion and at attach as Secondary.
    pub fn set_primary_bit(&mut self, is_primary: bool) {
        self.current = self.current.with_primary_bit(is_primary);
    }

    /// Start of a resync on the source: makes the sync UUID, stores it in the bitmap slot and returns it for the peer.
    /// `random` is used if the bitmap slot has nothing to derive it from.
    pub fn start_source(&mut self, random: u64) -> Generation {
        let uuid = if self.bitmap.is_named() && self.bitmap != Generation::JUST_CREATED {
            self.bitmap.sync_uuid()
        } else {
            Generation::fresh(random)
        };
        self.rotate_bitmap(uuid);
        uuid
    }

    /// Start of a resync on the target, on receipt of the sync UUID.
    pub fn start_target(&mut self, uuid: Generation, is_primary: bool) {
        self.set_current(uuid, is_primary);
        self.bitmap = Generation::NONE;
    }

    /// End of a resync without failed blocks, on the source.
    pub fn finish_source(&mut self) {
        self.clear_bitmap();
    }

    /// End of a resync without failed blocks, on the target; `peer` is what the last P_UUIDS said.
    pub fn finish_target(&mut self, peer: &GenerationIds, is_primary: bool) {
        let sync_uuid = self.current;
        self.bitmap = peer.bitmap;
        self.history = peer.history;
        self.rotate_bitmap(sync_uuid);
        self.set_current(peer.current, is_primary);
        self.clear_bitmap();
    }

    /// Skip of the initial sync, on the node that is told: takes the peer's name, and no history
    /// (`docs/spec/behaviour.md`, sections 4.5 and 12.12).
    pub fn skip_initial_sync(&mut self, peer_current: Generation, is_primary: bool) {
        self.set_current(peer_current, is_primary);
        self.bitmap = Generation::NONE;
    }
}

impl PartialEq for GenerationIds {
    fn eq(&self, other: &GenerationIds) -> bool {
        self.bits() == other.bits()
    }
}

impl Eq for GenerationIds {}

impl Hash for GenerationIds {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits().hash(state);
    }
}

impl fmt::Display for GenerationIds {
    /// `CURRENT:BITMAP:HIST0:HIST1`, 16 upper-case hex digits each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h0, h1] = self.history;
        write!(f, "{}:{}:{h0}:{h1}", self.current, self.bitmap)
    }
}

/// What the peer's last P_UUIDS said (`docs/spec/wire.md`, section 5.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerIds {
    /// Its slots.
    pub ids: GenerationIds,
    /// Number of bits set in its bitmap, one for 4 KiB.
    pub bits: u64,
    /// `FLAG_*`; unknown bits are kept and ignored.
    pub flags: u64,
}

impl PeerIds {
    /// The sender wants its data discarded.
    pub const FLAG_DISCARD: u64 = 1;
    /// The sender crashed as Primary.
    pub const FLAG_CRASHED_PRIMARY: u64 = 2;
    /// The sender's Negotiating disk will be Inconsistent.
    pub const FLAG_INCONSISTENT: u64 = 4;
    /// Skip the initial sync.
    pub const FLAG_SKIP_SYNC: u64 = 8;
    /// [`WroteAlone::Nothing`]. No DRBD's: only peers hear it that have agreed on it.
    pub const FLAG_NOTHING_ALONE: u64 = 1 << 32;
    /// [`WroteAlone::UnderNewName`]; so is this.
    pub const FLAG_ALONE_UNDER_NEW_NAME: u64 = 1 << 33;

    pub(crate) const FLAGS_OF_LONE_NAMES: u64 =
        PeerIds::FLAG_NOTHING_ALONE | PeerIds::FLAG_ALONE_UNDER_NEW_NAME;

    /// What it says of what its users wrote while it was alone.
    pub fn wrote_alone(&self) -> WroteAlone {
        if self.flags & PeerIds::FLAG_NOTHING_ALONE != 0 {
            WroteAlone::Nothing
        } else if self.flags & PeerIds::FLAG_ALONE_UNDER_NEW_NAME != 0 {
            WroteAlone::UnderNewName
        } else {
            WroteAlone::Unknown
        }
    }

    /// The sender wants its data discarded.
    pub fn discard_my_data(&self) -> bool {
        self.flags & PeerIds::FLAG_DISCARD != 0
    }

    /// The sender crashed as Primary.
    pub fn crashed_primary(&self) -> bool {
        self.flags & PeerIds::FLAG_CRASHED_PRIMARY != 0
    }

    /// The sender's Negotiating disk will be Inconsistent.
    pub fn inconsistent(&self) -> bool {
        self.flags & PeerIds::FLAG_INCONSISTENT != 0
    }

    /// Skip the initial sync.
    pub fn skip_initial_sync(&self) -> bool {
        self.flags & PeerIds::FLAG_SKIP_SYNC != 0
    }
}
