//! The name of one generation of data.

use core::fmt;
use core::hash::{Hash, Hasher};

/// What a sync UUID adds to the bitmap UUID (`docs/spec/behaviour.md`, section 5.2).
const SYNC_OFFSET: u64 = 0x0001_0000_0000_0000;

/// The bit that says "the node was Primary".
const PRIMARY: u64 = 1;

/// A generation identifier (a "UUID" of DRBD's): the name of one state of a disk's data.
///
/// Bit 0 tells a role and is no part of the name: two that differ in it alone are equal. Whoever wants the value as it stands
/// in a superblock or a packet asks for its [`Generation::bits`].
#[derive(Clone, Copy, Default)]
pub struct Generation(u64);

impl Generation {
    /// An empty slot.
    pub const NONE: Generation = Generation(0);

    /// Of a disk that was never used (`docs/spec/behaviour.md`, section 4.1).
    pub const JUST_CREATED: Generation = Generation(4);

    /// What stands in a superblock or a packet.
    pub const fn new(bits: u64) -> Generation {
        Generation(bits)
    }

    /// A random value as the name of a generation that begins. The two values that mean something else are taken out of the
    /// way: a current UUID of 0 would make both nodes wait for ever (`docs/spec/behaviour.md`, section 5.2, "Edge cases").
    pub(crate) fn fresh(random: u64) -> Generation {
        match Generation(random).name() {
            0 | 4 => Generation(random | 1 << 63),
            _ => Generation(random),
        }
    }

    /// All 64 bits, that of a Primary included.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The slot is empty. That is a matter of all 64 bits, as for DRBD: a set bit of a Primary alone makes it non-empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// It names data: a slot that is not empty, and holds more than the bit of a Primary.
    pub const fn is_named(self) -> bool {
        self.name() != 0
    }

    /// The bit that says "the node was Primary" is set.
    pub const fn has_primary_bit(self) -> bool {
        self.0 & PRIMARY != 0
    }

    /// The generation of the target of a resync that ends what differs from this one.
    #[must_use]
    pub const fn sync_uuid(self) -> Generation {
        Generation(self.0.wrapping_add(SYNC_OFFSET))
    }

    /// The same name, with the bit that tells the role.
    #[must_use]
    pub fn with_primary_bit(self, is_primary: bool) -> Generation {
        Generation(self.name() | u64::from(is_primary))
    }

    pub(super) const fn name(self) -> u64 {
        self.0 & !PRIMARY
    }
}

impl PartialEq for Generation {
    fn eq(&self, other: &Generation) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Generation {}

impl Hash for Generation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Display for Generation {
    /// 16 upper-case hex digits, the bit of a Primary included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
