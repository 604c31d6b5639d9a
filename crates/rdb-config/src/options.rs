//! What the table of options says of each: where it stands, its type, unit, range and default, and whether rdb serves it.

mod old;
mod table;

pub(crate) use old::{Old, OldSection, old};
pub use table::{
    AL_EXTENTS_MIN, DiskOptions, GlobalOptions, Handlers, NetOptions, ResourceOptions,
    StartupOptions,
};

use crate::sections::Section;

/// What a value counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number; a suffix multiplies it.
    Count,
    /// Seconds.
    Seconds,
    /// Tenths of a second.
    Deciseconds,
    /// Bytes.
    Bytes,
    /// KiB per second.
    KibPerSecond,
    /// 512-byte sectors.
    Sectors,
}

impl Unit {
    /// How many bytes one is, for numbers with a suffix; 1 where the suffix multiplies.
    #[must_use]
    pub const fn scale(self) -> u128 {
        match self {
            Self::Count | Self::Seconds | Self::Deciseconds | Self::Bytes => 1,
            Self::KibPerSecond => 1024,
            Self::Sectors => 512,
        }
    }

    /// The letter in range messages.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Count | Self::Seconds | Self::Deciseconds | Self::Bytes => "",
            Self::KibPerSecond => "k",
            Self::Sectors => "s",
        }
    }

    /// The name in the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "s",
            Self::Deciseconds => "0.1 s",
            Self::Bytes => "bytes",
            Self::KibPerSecond => "KiB/s",
            Self::Sectors => "sectors",
        }
    }
}

/// The type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number, `min` to `max` in `unit`.
    Number {
        /// The smallest.
        min: i64,
        /// When not set.
        default: i64,
        /// The greatest.
        max: i64,
        /// What it counts in.
        unit: Unit,
    },
    /// `yes` or `no`; the bare name is `yes`.
    Bool {
        /// When not set.
        default: bool,
    },
    /// One of some words; `default` is one of them.
    Words {
        /// The words.
        words: &'static [&'static str],
        /// When not set.
        default: &'static str,
    },
    /// Any text up to a length; empty by default.
    Text {
        /// The greatest length, in bytes.
        max_len: usize,
    },
    /// Any number of host names.
    Hosts,
    /// A minor number or the name of a resource or volume.
    ResourceRef,
    /// A DRBD 9 option whose value rdb does not look at.
    Words9,
}

/// What rdb does with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It has its effect.
    Served,
    /// It is checked and has no effect, and none is missed; the reason. The user is warned once.
    Harmless(&'static str),
    /// rdb refuses to run a resource that sets it to anything but its default; the reason, or nothing.
    Refused(&'static str),
    /// It has its effect, but the listed words do not mean all that they say: the user is told what.
    ServedBut(&'static [(&'static str, &'static str)]),
}

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionDef {
    /// The section it stands in.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// Its type, range and default.
    pub ty: Type,
    /// Whether rdb serves it.
    pub served: Served,
}

/// Options that are set to something else than their default, and to what, in the words of the configuration.
pub type Changed = Vec<(&'static OptionDef, String)>;

/// Every option, by section, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static OptionDef> {
    std::iter::once(Section::Global)
        .chain(Section::IN_RESOURCE)
        .flat_map(table::of)
}

/// The option of this name in this section.
#[must_use]
pub fn find(section: Section, name: &str) -> Option<&'static OptionDef> {
    table::of(section).iter().find(|o| o.name == name)
}

const fn num(
    section: Section,
    name: &'static str,
    (min, default, max): (i64, i64, i64),
    unit: Unit,
    served: Served,
) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Number {
            min,
            default,
            max,
            unit,
        },
        served,
    }
}

const fn flag(section: Section, name: &'static str, default: bool, served: Served) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Bool { default },
        served,
    }
}

const fn words(
    section: Section,
    name: &'static str,
    words: &'static [&'static str],
    default: &'static str,
    served: Served,
) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Words { words, default },
        served,
    }
}

const fn text(section: Section, name: &'static str, max_len: usize, served: Served) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Text { max_len },
        served,
    }
}

const fn any(section: Section, name: &'static str, ty: Type, served: Served) -> OptionDef {
    OptionDef {
        section,
        name,
        ty,
        served,
    }
}

/// A DRBD 9 option that changes only speed or convenience.
const fn tuning9(section: Section, name: &'static str) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Words9,
        served: Served::Harmless("it is an option of DRBD 9"),
    }
}

/// A DRBD 9 option that a user relies on.
const fn refused9(section: Section, name: &'static str) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Words9,
        served: Served::Refused("it is an option of DRBD 9"),
    }
}
