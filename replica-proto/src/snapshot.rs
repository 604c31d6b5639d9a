//! Snapshots of both nodes at one frozen moment: two packets of our own, which only nodes that have agreed on a feature of our own
//! send each other (`docs/wire-format.md`, "Snapshots").
//!
//! ```text
//!  P_RDB_SNAPSHOT         0       4       8                         72
//!                         +-------+-------+--------- ... -----------+
//!                         | step  | limit |  name, NULs behind it   |
//!                         +-------+-------+--------- ... -----------+
//!  P_RDB_SNAPSHOT_ANSWER  0       4       8
//!                         +-------+-------+
//!                         | what  | value |
//!                         +-------+-------+
//! ```
//!
//! Nothing in them is run: the name is the value of a variable of the environment, and its characters are checked here.

use core::fmt;

use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Longest name of a snapshot in bytes.
pub const SNAPSHOT_NAME_MAX: usize = 64;
/// The longest time that a snapshot may take: ten minutes.
pub const SNAPSHOT_LIMIT_MAX_MS: u32 = 600_000;

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawSnapshot {
    pub(crate) step: U32,
    pub(crate) limit_ms: U32,
    pub(crate) name: [u8; SNAPSHOT_NAME_MAX],
}
const _: () = assert!(size_of::<RawSnapshot>() == SnapshotOrder::WIRE_SIZE as usize);

/// The name of a snapshot: 1 to 64 bytes of `A` to `Z`, `a` to `z`, `0` to `9`, `.`, `_` and `-`, of which neither `.` nor `-` is the
/// first, so that it is neither an option nor a hidden file nor another folder where a script makes a name of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotName {
    len: u8,
    /// NULs behind the name.
    bytes: [u8; SNAPSHOT_NAME_MAX],
}

/// Why a text is no name of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a snapshot's name has 1 to {SNAPSHOT_NAME_MAX} characters of A-Z, a-z, 0-9, '.', '_' and '-', and begins with neither '.' nor '-'"
)]
pub struct BadSnapshotName;

impl SnapshotName {
    /// The name.
    ///
    /// # Errors
    /// If the text is none.
    pub fn new(text: &str) -> Result<SnapshotName, BadSnapshotName> {
        let text = text.as_bytes();
        let is_right =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let begins = text
            .first()
            .is_some_and(|byte| !matches!(byte, b'.' | b'-'));
        if !begins || text.len() > SNAPSHOT_NAME_MAX || !text.iter().all(is_right) {
            return Err(BadSnapshotName);
        }
        let mut bytes = [0; SNAPSHOT_NAME_MAX];
        bytes[..text.len()].copy_from_slice(text);
        let len = text.len() as u8; // at most 64
        Ok(SnapshotName { len, bytes })
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..usize::from(self.len)];
        core::str::from_utf8(bytes).expect("a name is made of ASCII alone")
    }

    pub(crate) fn to_field(self) -> [u8; SNAPSHOT_NAME_MAX] {
        self.bytes
    }

    /// The name in a field; nothing behind it is anything but NULs.
    pub(crate) fn from_field(field: &[u8; SNAPSHOT_NAME_MAX]) -> Option<SnapshotName> {
        let len = field.iter().position(|byte| *byte == 0);
        let (name, rest) = field.split_at(len.unwrap_or(SNAPSHOT_NAME_MAX));
        let is_padded = rest.iter().all(|byte| *byte == 0);
        let name = core::str::from_utf8(name).ok().filter(|_| is_padded)?;
        SnapshotName::new(name).ok()
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What the node that takes a snapshot wants of its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotStep {
    /// Run the own handler now: no write comes until it is over.
    Take,
    /// It is over: writes come again. A handler that still runs is ended.
    Over,
}

/// A snapshot begins or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotOrder {
    /// Which of both.
    pub step: SnapshotStep,
    /// How long it may take, 1 to [`SNAPSHOT_LIMIT_MAX_MS`].
    pub limit_ms: u32,
    /// What it is called.
    pub name: SnapshotName,
}

impl SnapshotOrder {
    /// Bytes on the wire.
    pub const WIRE_SIZE: u32 = 72;
}

impl SnapshotStep {
    pub(crate) fn code(self) -> u32 {
        match self {
            SnapshotStep::Take => 1,
            SnapshotStep::Over => 2,
        }
    }

    pub(crate) fn from_code(code: u32) -> Option<SnapshotStep> {
        [SnapshotStep::Take, SnapshotStep::Over]
            .into_iter()
            .find(|step| step.code() == code)
    }
}

/// Why a node does not take a snapshot for its peer, or has given it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotRefusal {
    /// It has no handler `snapshot`.
    NoHandler,
    /// One is under way there.
    Busy,
    /// The disks of a volume are not connected and UpToDate, or are not any more.
    Disks,
    /// It is Primary.
    Role,
    /// Writes that it was sent are not done.
    NotQuiet,
    /// Blocks are marked out of sync there.
    Marked,
    /// The time is over.
    TimeOver,
}

impl SnapshotRefusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [SnapshotRefusal; 7] = [
        SnapshotRefusal::NoHandler,
        SnapshotRefusal::Busy,
        SnapshotRefusal::Disks,
        SnapshotRefusal::Role,
        SnapshotRefusal::NotQuiet,
        SnapshotRefusal::Marked,
        SnapshotRefusal::TimeOver,
    ];

    pub(crate) fn code(self) -> u32 {
        self as u32 + 1
    }

    pub(crate) fn from_code(code: u32) -> Option<SnapshotRefusal> {
        SnapshotRefusal::ALL
            .into_iter()
            .find(|refusal| refusal.code() == code)
    }
}

impl fmt::Display for SnapshotRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SnapshotRefusal::NoHandler => "no handler 'snapshot' is configured",
            SnapshotRefusal::Busy => "a snapshot is under way",
            SnapshotRefusal::Disks => "its disks are not connected and UpToDate",
            SnapshotRefusal::Role => "it is Primary",
            SnapshotRefusal::NotQuiet => "it has not done all that it was sent",
            SnapshotRefusal::Marked => "blocks are marked out of sync there",
            SnapshotRefusal::TimeOver => "the time was over",
        })
    }
}

/// What a node says of the snapshot that its peer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotAnswer {
    /// Its handler runs.
    Begun,
    /// It has ended with this exit code.
    Ended(u8),
    /// It was not begun.
    Refused(SnapshotRefusal),
    /// It was begun, and is not worth anything.
    GivenUp(SnapshotRefusal),
}

impl SnapshotAnswer {
    pub(crate) fn to_codes(self) -> [u32; 2] {
        match self {
            SnapshotAnswer::Begun => [1, 0],
            SnapshotAnswer::Ended(exit) => [2, exit.into()],
            SnapshotAnswer::Refused(why) => [3, why.code()],
            SnapshotAnswer::GivenUp(why) => [4, why.code()],
        }
    }

    pub(crate) fn from_codes([what, value]: [u32; 2]) -> Option<SnapshotAnswer> {
        let why = SnapshotRefusal::from_code(value);
        match what {
            1 if value == 0 => Some(SnapshotAnswer::Begun),
            2 => u8::try_from(value).ok().map(SnapshotAnswer::Ended),
            3 => why.map(SnapshotAnswer::Refused),
            4 => why.map(SnapshotAnswer::GivenUp),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn a_name_has_no_character_that_a_shell_or_a_path_knows() {
        let long = "x".repeat(SNAPSHOT_NAME_MAX);
        for name in ["a", "Z9", "nightly_2026-11-29.1", "_x", &long] {
            let made = SnapshotName::new(name).expect("it is one");
            assert_eq!(made.as_str(), name);
            assert_eq!(SnapshotName::from_field(&made.to_field()), Some(made));
        }
        let longer = "x".repeat(SNAPSHOT_NAME_MAX + 1);
        for name in [
            "", ".", "..", ".x", "-x", "a b", "a/b", "a;b", "$x", "ä", "a\n", "a\0", &longer,
        ] {
            assert_eq!(SnapshotName::new(name), Err(BadSnapshotName), "{name:?}");
        }
        for byte in 0..=127_u8 {
            let name = String::from_utf8([b'x', byte].into()).unwrap();
            let is_right = byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            assert_eq!(SnapshotName::new(&name).is_ok(), is_right, "{name:?}");
        }
    }

    #[test]
    fn nothing_hides_behind_the_end_of_a_name() {
        let mut field = SnapshotName::new("daily").unwrap().to_field();
        field[20] = b'x';
        assert_eq!(SnapshotName::from_field(&field), None);
        assert_eq!(SnapshotName::from_field(&[0; SNAPSHOT_NAME_MAX]), None);
    }

    #[test]
    fn every_answer_has_numbers_of_its_own() {
        for what in 0..6 {
            for value in 0..300 {
                let codes = [what, value];
                if let Some(answer) = SnapshotAnswer::from_codes(codes) {
                    assert_eq!(answer.to_codes(), codes);
                }
            }
        }
        let all = SnapshotRefusal::ALL.map(SnapshotAnswer::GivenUp);
        for answer in all
            .into_iter()
            .chain([SnapshotAnswer::Ended(255), SnapshotAnswer::Begun])
        {
            assert_eq!(SnapshotAnswer::from_codes(answer.to_codes()), Some(answer));
        }
        assert_eq!(SnapshotAnswer::from_codes([2, 256]), None);
    }
}
