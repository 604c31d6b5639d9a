//! The offline tool's verbs, as `drbdmeta` has them (docs/spec/metadata.md, sections 7.3, 7.4, 8).
//!
//! A verb works on a [`Device`], talks through a [`Console`] and ends in an [`Exit`] or a
//! [`ToolError`], whose text goes to standard error and whose [`ToolError::exit`] is the code. It
//! writes in an order that leaves no crash point with metadata that looks good and is not.
//!
//! Not here: opening devices exclusively, the lock of a minor, asking a running daemon whether the
//! minor is attached, and reading the terminal. Those are the program's.

mod apply_al;
mod check_resize;
mod content;
mod convert;
mod create_md;
mod dump;
mod gi;
mod marks;
mod restore;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use apply_al::apply_al;
pub use check_resize::{LastKnown, LastKnownError, check_resize};
pub use content::Content;
pub use create_md::{BitmapInit, CreateOptions, PEER_MAX_BIO_SIZE_MAX, create_md};
pub use dump::{DumpHeader, dump_md};
pub use gi::{
    dstate, get_gi, invalidate, outdate, read_dev_uuid, set_gi, show_gi, wipe_md, write_dev_uuid,
};
pub use marks::{Marks, read_marks};
pub use restore::{Dump, ParseError, restore_md, verify_dump};

use crate::layout::{DEVICE_SECTORS_MAX, Layout, LayoutError, MetaKind};
use crate::superblock::{Superblock, SuperblockError};
use crate::{BLOCK_BYTES, BLOCK_SECTORS, Device, DeviceError, SECTOR_BYTES};

/// How a verb ended, apart from [`ToolError`]s. What there is to say has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Declined, or no valid metadata.
    Failed = 1,
    /// An inconsistent device cannot be outdated.
    OutdateRefused = 5,
    /// A bad value, an I/O or a parse error.
    Bad = 10,
    /// Not supported.
    Unsupported = 30,
    /// Refused to protect data.
    Refused = 40,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Where a verb's words go and its answers come from.
pub trait Console {
    /// Prints to standard output; the text has its line ends.
    fn out(&mut self, text: &str);
    /// Prints to standard error; the text has its line ends.
    fn err(&mut self, text: &str);
    /// Asks. The question is to be printed as [`Question`] displays it, and [`CONFIRM_PROMPT`] after
    /// it; only the word `yes` is a yes.
    fn confirm(&mut self, question: Question) -> bool;
    /// The size of the LVM physical volume on the device in sectors, as `pvs` says it; `None` if that
    /// is not to be had, and what is on the device stays protected.
    fn lvm_size_sectors(&mut self) -> Option<u64> {
        None
    }
}

/// Stands behind every question.
pub const CONFIRM_PROMPT: &str = "[need to type 'yes' to confirm] ";
/// Printed instead of a prompt if the tool was told to go ahead.
pub const CONFIRM_FORCED: &str = "*** confirmation forced via --force option ***";
/// Printed instead of a prompt if nobody is there to answer, which is a no.
pub const CONFIRM_NO_TTY: &str = "stdin not a TTY, not waiting for confirmation";

/// What the tool may ask. Displays as the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// There is something on the device that new metadata may destroy.
    Proceed,
    /// Internal metadata is in place.
    OverwriteInternal,
    /// External metadata is in place.
    OverwriteExternal,
    /// Metadata is in place whose activity log has another shape.
    StripesOnly,
    /// Metadata of another version is in place.
    Convert(&'static str),
    /// It is not to be converted, so would be lost.
    Replace(&'static str),
    /// Metadata is where the device ended when it was smaller.
    MoveLastKnown,
    /// `wipe-md` does what it says.
    Wipe,
    /// `set-gi` has shown what it would write.
    WriteGi,
    /// `restore-md` finds metadata in place.
    Restore,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proceed => f.write_str("Do you want to proceed?"),
            Self::OverwriteInternal => {
                f.write_str("Do you really want to overwrite the existing meta-data?")
            }
            Self::OverwriteExternal => f.write_str(
                "Valid meta data seems to be in place.\nDo you really want to overwrite?",
            ),
            Self::StripesOnly => {
                f.write_str("Do you want to change the activity log stripe settings *only*?")
            }
            Self::Convert(from) => write!(f, "Valid {from} meta-data found, convert to v08?"),
            Self::Replace(from) => write!(
                f,
                "So you want me to replace the {from} meta-data\n\
                 with newly initialized v08 meta-data?"
            ),
            Self::MoveLastKnown => f.write_str("Move internal meta data from last-known position?"),
            Self::Wipe => f.write_str("Do you really want to wipe out the DRBD meta data?"),
            Self::WriteGi => f.write_str("Write new GI to disk?"),
            Self::Restore => f.write_str("Valid meta-data in place, overwrite?"),
        }
    }
}

/// Why a verb could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Nothing valid where metadata of this kind would be.
    #[error("No valid meta data found")]
    NoMetadata(SuperblockError),
    /// The activity log has to be applied first.
    #[error("Found meta data is \"unclean\", please apply-al first")]
    Unclean,
    /// The device cannot carry such metadata.
    #[error("{0}")]
    TooSmall(String),
    /// No layout for these devices.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Below 32 KiB.
    #[error("invalid (too small) al-stripe* settings")]
    AlTooSmall,
    /// Above 32 MiB.
    #[error("invalid (too large) al-stripe* settings")]
    AlTooLarge,
    /// Above 1 MiB.
    #[error("peer-max-bio-size out of range (0...1M)")]
    PeerMaxBioSize,
    /// An argument is not what it should be.
    #[error("'{value}' is not {want}.")]
    Value {
        /// The argument.
        value: String,
        /// What it should have been.
        want: &'static str,
    },
    /// A dump cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The activity log cannot be read, and is needed.
    #[error(transparent)]
    Replay(#[from] crate::activity_log::ReplayError),
    /// What is asked for makes no sense here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The data does not fit any more.
    #[error(
        "the last agreed size of {la_size_sectors} sectors is more than the {usable_sectors} \
         usable ones"
    )]
    Shrunk {
        /// As the superblock says.
        la_size_sectors: u64,
        /// As the new layout says.
        usable_sectors: u64,
    },
    /// More memory than there is.
    #[error("{bytes} bytes do not fit into memory")]
    Memory {
        /// Bytes needed.
        bytes: u64,
    },
}

impl ToolError {
    /// The exit code that goes with the error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoMetadata(_) | Self::Unclean | Self::Replay(_) => Exit::Failed,
            Self::Unsupported(_) => Exit::Unsupported,
            Self::Shrunk { .. } => Exit::Refused,
            Self::Device(_)
            | Self::TooSmall(_)
            | Self::Layout(_)
            | Self::AlTooSmall
            | Self::AlTooLarge
            | Self::PeerMaxBioSize
            | Self::Value { .. }
            | Self::Parse(_)
            | Self::Memory { .. } => Exit::Bad,
        }
    }
}

/// Metadata found on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where it is.
    pub layout: Layout,
    /// What it says.
    pub superblock: Superblock,
}

impl Metadata {
    /// Reads and checks the superblock of metadata of `kind`, on `device`: the data device for
    /// internal metadata, else the metadata device. Internal metadata that is not where it belongs
    /// for the device's size counts as not there.
    ///
    /// # Errors
    /// [`ToolError::NoMetadata`] with the reason, or the device's failure.
    pub fn open(device: &mut dyn Device, kind: MetaKind) -> Result<Self, ToolError> {
        let size = device.size_sectors();
        let sector = kind.superblock_sector(size).map_err(SuperblockError::from);
        let sector = sector.map_err(ToolError::NoMetadata)?;
        let mut block = [0; BLOCK_BYTES];
        device.read_at(sector, &mut block)?;
        Self::from_block(&block, kind, size).map_err(ToolError::NoMetadata)
    }

    fn from_block(block: &[u8], kind: MetaKind, size: u64) -> Result<Self, SuperblockError> {
        let superblock = Superblock::parse(block)?;
        // The tool does not know the data device of external metadata; any size will do.
        let data = if kind.is_internal() {
            size
        } else {
            DEVICE_SECTORS_MAX
        };
        let layout = superblock.check(kind, data, size)?;
        if kind.is_internal() && layout.moved {
            return Err(SuperblockError::Offsets {
                what: "they are not those of a device of this size",
                md_size_sectors: superblock.md_size_sectors,
                al_offset: superblock.al_offset,
                bm_offset: superblock.bm_offset,
            });
        }
        Ok(Self { layout, superblock })
    }

    /// As [`Metadata::open`], for verbs that want the activity log applied.
    ///
    /// # Errors
    /// [`ToolError::Unclean`], or as [`Metadata::open`].
    pub fn open_clean(device: &mut dyn Device, kind: MetaKind) -> Result<Self, ToolError> {
        let metadata = Self::open(device, kind)?;
        if metadata.superblock.needs_apply_al() {
            Err(ToolError::Unclean)
        } else {
            Ok(metadata)
        }
    }

    /// Makes all that was written durable, then writes the superblock, durably.
    ///
    /// # Errors
    /// If the device fails.
    pub fn save(&self, device: &mut dyn Device) -> Result<(), DeviceError> {
        device.flush()?;
        device.write_at(self.layout.superblock_sector, &self.superblock.to_block())?;
        device.flush()
    }

    /// The last agreed size, cut to what the metadata can describe.
    fn size_sectors(&self) -> u64 {
        self.superblock
            .la_size_sectors
            .min(self.layout.usable_sectors)
    }

    /// Bytes of the bitmap that a dump holds: 4 KiB for each 128 MiB begun.
    fn dumped_bitmap_bytes(&self) -> u64 {
        bitmap_bytes(self.size_sectors()).min(self.layout.bitmap_sectors * SECTOR_BYTES as u64)
    }
}

/// Bytes of whole bitmap blocks for a device of `size_sectors`.
fn bitmap_bytes(size_sectors: u64) -> u64 {
    size_sectors.div_ceil(crate::bitmap::PAGE_BITS * BLOCK_SECTORS) * BLOCK_BYTES as u64
}

/// Takes the superblock away, durably, so that nothing written after it can be taken for what it
/// was about.
fn erase_superblock(device: &mut dyn Device, layout: &Layout) -> Result<(), DeviceError> {
    device.write_at(layout.superblock_sector, &[0; BLOCK_BYTES])?;
    device.flush()
}

/// Zeroes an area, but writes only where it is not zero yet: sparse images stay sparse.
fn zero_area(device: &mut dyn Device, sector: u64, sectors: u64) -> Result<(), DeviceError> {
    const CHUNK_SECTORS: u64 = 2048;
    let mut buffer = alloc::vec![0; CHUNK_SECTORS as usize * SECTOR_BYTES];
    let mut done = 0;
    while done < sectors {
        let now = CHUNK_SECTORS.min(sectors - done);
        let chunk = &mut buffer[..now as usize * SECTOR_BYTES];
        device.read_at(sector + done, chunk)?;
        if chunk.iter().any(|byte| *byte != 0) {
            chunk.fill(0);
            device.write_at(sector + done, chunk)?;
        }
        done += now;
    }
    Ok(())
}

/// Reads sectors whose number a disk told us: memory that cannot be had is an error.
fn read_area(device: &mut dyn Device, sector: u64, sectors: u64) -> Result<Vec<u8>, ToolError> {
    let bytes = sectors * SECTOR_BYTES as u64;
    let too_much = || ToolError::Memory { bytes };
    let len = usize::try_from(bytes).map_err(|_| too_much())?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| too_much())?;
    buffer.resize(len, 0);
    device.read_at(sector, &mut buffer)?;
    Ok(buffer)
}

/// A size in KiB as DRBD prints it: four digits, and the unit.
fn human_size(kib: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (kib, 0);
    while size >= 10_000 && unit + 1 < UNITS.len() {
        size = (size >> 10) + ((size >> 9) & 1);
        unit += 1;
    }
    alloc::format!("{size} {}", UNITS[unit])
}
