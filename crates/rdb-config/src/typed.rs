//! The types of options' values in the structures of the table.

use serde::{Deserialize, Serialize};

use crate::options::{Changed, OptionDef};
use crate::sections::Sections;
use crate::value::{self, Value};

/// A type that an option can have in a structure.
pub(crate) trait Typed: PartialEq + Sized {
    /// What a checked value means; `None` for a word that means nothing by itself.
    fn read(def: &OptionDef, value: Value) -> Option<Self>;

    /// How it stands in the configuration.
    fn word(&self) -> String;
}

impl Typed for u32 {
    fn read(_: &OptionDef, value: Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.try_into().ok(),
            Value::Bool(_) | Value::Text(_) => None,
        }
    }

    fn word(&self) -> String {
        self.to_string()
    }
}

impl Typed for bool {
    fn read(_: &OptionDef, value: Value) -> Option<Self> {
        match value {
            Value::Bool(is_set) => Some(is_set),
            Value::Number(_) | Value::Text(_) => None,
        }
    }

    fn word(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }
}

impl Typed for String {
    fn read(_: &OptionDef, value: Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Bool(_) => None,
        }
    }

    fn word(&self) -> String {
        self.clone()
    }
}

/// The default is `None`.
impl Typed for Option<String> {
    fn read(def: &OptionDef, value: Value) -> Option<Self> {
        let is_set = !value::is_default(def, &value);
        String::read(def, value).map(|text| is_set.then_some(text))
    }

    fn word(&self) -> String {
        self.clone().unwrap_or_default()
    }
}

/// The default, 0, is `None`.
impl Typed for Option<u64> {
    fn read(_: &OptionDef, value: Value) -> Option<Self> {
        match value {
            Value::Number(number) => Some(number.try_into().ok().filter(|&number| number > 0)),
            Value::Bool(_) | Value::Text(_) => None,
        }
    }

    fn word(&self) -> String {
        self.unwrap_or(0).to_string()
    }
}

/// What an option is set to; what is not set has its default.
pub(crate) fn read<T: Typed>(sections: &Sections, def: &OptionDef) -> T {
    let setting = sections.find(def.section, def.name);
    let value = setting.and_then(|setting| value::check(def, &setting.value).ok());
    value
        .and_then(|value| T::read(def, value))
        .unwrap_or_else(|| default(def))
}

/// An option's default.
pub(crate) fn default<T: Typed>(def: &OptionDef) -> T {
    T::read(def, value::default(def)).expect("the default of each option is one of its values")
}

/// Notes an option that is set to something else than its default.
pub(crate) fn note<T: Typed>(changed: &mut Changed, def: &'static OptionDef, value: &T) {
    if *value != default(def) {
        changed.push((def, value.word()));
    }
}

/// An option value that is one word of a fixed set; prints and parses DRBD's spelling.
macro_rules! word_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every word that stands for a value, in the order of the documentation.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word as it stands in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value a word of the configuration stands for.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Typed for $name {
            fn read(def: &OptionDef, value: Value) -> Option<Self> {
                Self::from_word(&String::read(def, value)?)
            }

            fn word(&self) -> String {
                self.to_string()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

word_enum! {
    /// When a write is complete towards the application (`protocol`).
    Protocol {
        /// Local disk and the send buffer.
        A = "A",
        /// Local disk and receipt by the peer.
        B = "B",
        /// Both disks.
        C = "C",
    }
}

word_enum! {
    /// Split brain found, neither node was primary (`after-sb-0pri`).
    AfterSb0p {
        /// Give up the connection.
        Disconnect = "disconnect",
        /// Discard the changes of the node that became primary last.
        DiscardYoungerPrimary = "discard-younger-primary",
        /// Discard the changes of the node that was primary first.
        DiscardOlderPrimary = "discard-older-primary",
        /// The node without changes takes over the other's.
        DiscardZeroChanges = "discard-zero-changes",
        /// The node with fewer changes takes over the other's.
        DiscardLeastChanges = "discard-least-changes",
        /// Discard this node's changes.
        DiscardLocal = "discard-local",
        /// Discard the peer's changes.
        DiscardRemote = "discard-remote",
    }
}

word_enum! {
    /// Split brain found, one node was primary (`after-sb-1pri`).
    AfterSb1p {
        /// Give up the connection.
        Disconnect = "disconnect",
        /// Follow the 0pri decision if it discards the secondary, else disconnect.
        Consensus = "consensus",
        /// Discard the secondary's changes.
        DiscardSecondary = "discard-secondary",
        /// Follow the 0pri decision; a primary that loses runs the pri-lost-after-sb handler.
        CallPriLostAfterSb = "call-pri-lost-after-sb",
        /// Follow the 0pri decision even if that changes data under a primary.
        ViolentlyAs0p = "violently-as0p",
    }
}

word_enum! {
    /// Split brain found, both nodes were primary (`after-sb-2pri`).
    AfterSb2p {
        /// Give up the connection.
        Disconnect = "disconnect",
        /// Follow the 0pri decision; the loser runs the pri-lost-after-sb handler.
        CallPriLostAfterSb = "call-pri-lost-after-sb",
        /// Follow the 0pri decision even if that changes data under a primary.
        ViolentlyAs0p = "violently-as0p",
    }
}

word_enum! {
    /// The resync direction contradicts the roles (`rr-conflict`).
    RrConflict {
        /// Give up the connection.
        Disconnect = "disconnect",
        /// Run the pri-lost handler on the primary that should become sync target.
        CallPriLost = "call-pri-lost",
        /// Sync to the primary.
        Violently = "violently",
    }
}

word_enum! {
    /// The lower disk reports an error (`on-io-error`).
    OnIoError {
        /// Report the error upward on the primary, ignore it on the secondary.
        PassOn = "pass_on",
        /// Run the local-io-error handler.
        CallLocalIoError = "call-local-io-error",
        /// Drop the disk and go on diskless.
        Detach = "detach",
    }
}

word_enum! {
    /// No up-to-date data is reachable (`on-no-data-accessible`).
    OnNoDataAccessible {
        /// Fail the requests.
        IoError = "io-error",
        /// Hold the requests until data is reachable again.
        SuspendIo = "suspend-io",
    }
}

word_enum! {
    /// What a primary does when it loses its peer (`fencing`).
    Fencing {
        /// Nothing.
        DontCare = "dont-care",
        /// Run the fence-peer handler.
        ResourceOnly = "resource-only",
        /// Suspend I/O and run the fence-peer handler.
        ResourceAndStonith = "resource-and-stonith",
    }
}

word_enum! {
    /// What happens when the send queue fills up (`on-congestion`).
    OnCongestion {
        /// Wait.
        Block = "block",
        /// Stop mirroring and resync later.
        PullAhead = "pull-ahead",
        /// Drop the connection.
        Disconnect = "disconnect",
    }
}
