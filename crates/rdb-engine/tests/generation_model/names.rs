//! UUIDs in two bytes, so that a state is small and equal situations have equal states.
//!
//! A random UUID is a number, counted in the order in which the state mentions it; what a sync UUID adds to its base is
//! kept apart. The engine's functions get the 64 bits they are made for.

use rdb_engine::generation::{Generation, GenerationIds};

/// Bit 0: the primary bit. Bits 1 to 5: how often [`Generation::sync_uuid`] was added. The rest: 0 empty, 1 just created, others
/// random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) u16);

const BASE_SHIFT: u32 = 6;
const OFFSETS: u16 = 31;
/// The base of "just created".
const CREATED: u16 = 1;
/// Its 64 bits.
const JUST_CREATED: u64 = Generation::JUST_CREATED.bits();
/// What a sync UUID adds.
const SYNC_OFFSET: u64 = Generation::NONE.sync_uuid().bits();

impl Name {
    pub(crate) fn random(base: u16) -> Name {
        Name(base << BASE_SHIFT)
    }

    pub(crate) fn base(self) -> u16 {
        self.0 >> BASE_SHIFT
    }

    pub(crate) fn with_base(self, base: u16) -> Name {
        Name(base << BASE_SHIFT | self.0 & ((1 << BASE_SHIFT) - 1))
    }

    pub(crate) fn wide(self) -> Generation {
        let root = match self.base() {
            0 => 0,
            CREATED => JUST_CREATED,
            base => u64::from(base) << 16,
        };
        let offsets = u64::from(self.0 >> 1 & OFFSETS);
        Generation::new(root + offsets * SYNC_OFFSET + u64::from(self.0 & 1))
    }

    pub(crate) fn narrow(wide: Generation) -> Name {
        let wide = wide.bits();
        let offsets = u16::try_from(wide / SYNC_OFFSET).expect("sixteen bits are left");
        assert!(offsets <= OFFSETS, "too many resyncs from one name");
        let root = (wide % SYNC_OFFSET) & !1;
        let base = match root {
            0 => 0,
            JUST_CREATED => CREATED,
            root => u16::try_from(root >> 16).expect("made by `wide`"),
        };
        Name(base << BASE_SHIFT | offsets << 1 | u16::from(wide & 1 != 0))
    }

    pub(crate) fn is_same(self, other: Name) -> bool {
        (self.0 ^ other.0) & !1 == 0
    }
}

/// The four slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Ids {
    pub(crate) current: Name,
    pub(crate) bitmap: Name,
    pub(crate) history: [Name; 2],
}

impl Ids {
    pub(crate) fn wide(self) -> GenerationIds {
        GenerationIds {
            current: self.current.wide(),
            bitmap: self.bitmap.wide(),
            history: self.history.map(Name::wide),
        }
    }

    pub(crate) fn narrow(wide: &GenerationIds) -> Ids {
        Ids {
            current: Name::narrow(wide.current),
            bitmap: Name::narrow(wide.bitmap),
            history: wide.history.map(Name::narrow),
        }
    }

    pub(crate) fn names(&mut self) -> [&mut Name; 4] {
        let [younger, older] = &mut self.history;
        [&mut self.current, &mut self.bitmap, younger, older]
    }
}

/// Letters for a trace: `C'` has the primary bit, `C+2` two offsets.
impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.base() {
            0 => write!(f, "0")?,
            CREATED => write!(f, "4")?,
            base => write!(
                f,
                "{}",
                char::from(b'A' + u8::try_from(base - 2).unwrap_or(25))
            )?,
        }
        match self.0 >> 1 & OFFSETS {
            0 => {}
            1 => write!(f, "+")?,
            n => write!(f, "+{n}")?,
        }
        if self.0 & 1 != 0 {
            write!(f, "'")
        } else {
            Ok(())
        }
    }
}

impl core::fmt::Display for Ids {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [younger, older] = self.history;
        write!(f, "{}:{}:{younger}:{older}", self.current, self.bitmap)
    }
}
