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

use core::fmt;

pub use alone::WroteAlone;
pub use comparison::{CompareInputs, Comparison, Verdict, compare};

/// `current` of a disk that was never used (`docs/spec/behaviour.md`, section 4.1).
pub const JUST_CREATED: u64 = 4;

/// What a sync UUID adds to the bitmap UUID (`docs/spec/behaviour.md`, section 5.2).
pub const SYNC_OFFSET: u64 = 0x0001_0000_0000_0000;

/// The four slots of one disk, bit 0 included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct GenerationIds {
    /// The generation on this disk.
    pub current: u64,
    /// The generation that the peer is believed to have; 0 while the peer's data is the same.
    pub bitmap: u64,
    /// Older generations, newest first.
    pub history: [u64; 2],
}

impl GenerationIds {
    /// What create-md writes.
    pub const CREATED: GenerationIds = GenerationIds {
        current: JUST_CREATED,
        bitmap: 0,
        history: [0; 2],
    };

    /// NEWCUR: a new generation begins here and the peer stays at the old one.
    ///
    /// Returns the bitmap UUID that was set already, if any, for the warning `bm UUID was already set: X`. It is moved
    /// to the history. (The kernel's driver forgets it, and with it the common ancestor; section 4.3, "Trap".)
    pub fn new_current(&mut self, random: u64, is_primary: bool) -> Option<u64> {
        let replaced = (self.bitmap != 0).then_some(self.bitmap);
        self.rotate_bitmap(self.current);
        self.set_current(fresh(random), is_primary);
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
        self.set_current(fresh(random), is_primary);
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
    pub fn rotate_bitmap(&mut self, value: u64) {
        if self.bitmap != 0 {
            self.history = [self.bitmap, self.history[0]];
        }
        self.bitmap = value;
    }

    /// CLEARBM: the peer has our data again.
    pub fn clear_bitmap(&mut self) {
        self.rotate_bitmap(0);
    }

    /// SET of the current slot, bit 0 by role.
    pub fn set_current(&mut self, value: u64, is_primary: bool) {
        self.current = value;
        self.set_primary_bit(is_primary);
    }

    /// Bit 0 of the current slot: set by a promotion, cleared by a demotion and at attach as Secondary.
    pub fn set_primary_bit(&mut self, is_primary: bool) {
        self.current = (self.current & !1) | u64::from(is_primary);
    }

    /// Start of a resync on the source: makes the sync UUID, stores it in the bitmap slot and returns it for the peer.
    /// `random` is used if the bitmap slot has nothing to derive it from.
    pub fn start_source(&mut self, random: u64) -> u64 {
        let uuid = match self.bitmap & !1 {
            0 | JUST_CREATED => fresh(random),
            _ => self.bitmap.wrapping_add(SYNC_OFFSET),
        };
        self.rotate_bitmap(uuid);
        uuid
    }

    /// Start of a resync on the target, on receipt of the sync UUID.
    pub fn start_target(&mut self, uuid: u64, is_primary: bool) {
        self.set_current(uuid, is_primary);
        self.bitmap = 0;
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
    pub fn skip_initial_sync(&mut self, peer_current: u64, is_primary: bool) {
        self.set_current(peer_current, is_primary);
        self.bitmap = 0;
    }
}

impl fmt::Display for GenerationIds {
    /// `CURRENT:BITMAP:HIST0:HIST1`, 16 upper-case hex digits each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h0, h1] = self.history;
        write!(
            f,
            "{:016X}:{:016X}:{:016X}:{:016X}",
            self.current, self.bitmap, h0, h1
        )
    }
}

/// A random value as a UUID. The two values that mean something else are taken out of the way: a current UUID of 0
/// would make both nodes wait for ever (`docs/spec/behaviour.md`, section 5.2, "Edge cases").
fn fresh(random: u64) -> u64 {
    match random & !1 {
        0 | JUST_CREATED => random | 1 << 63,
        _ => random,
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

/// A UUID without its primary bit.
fn name(uuid: u64) -> u64 {
    uuid & !1
}

/// Whether two UUIDs name one generation: bit 0 of a current one only tells a role.
pub(crate) fn same(a: u64, b: u64) -> bool {
    name(a) == name(b)
}
