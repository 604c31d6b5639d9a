//! `create-md`: new metadata, and every reason not to (docs/spec/metadata.md, section 7.4).

use alloc::format;

use super::content::PROBE_BYTES;
use super::{
    Console, Content, Exit, LastKnown, Metadata, Question, ToolError, check_resize, convert,
    erase_superblock, zero_area,
};
use crate::activity_log::initialised_ring;
use crate::layout::{AL_BLOCKS_INTEROPERABLE_MAX, AL_BLOCKS_MIN, DEVICE_SECTORS_MAX};
use crate::superblock::{Superblock, SuperblockError};
use crate::{AlGeometry, BLOCK_BYTES, BLOCK_SECTORS, Device, DeviceError, Layout, MetaKind};
use crate::{SECTOR_BYTES, layout::INDEXED_SLOT_SECTORS};

/// Largest request size that may be noted for a peer not seen yet, in bytes.
pub const PEER_MAX_BIO_SIZE_MAX: u32 = 1 << 20;

/// What the new bitmap is to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BitmapInit {
    /// Nothing set. A first attach sets every bit anyway.
    #[default]
    Zero,
    /// Everything set.
    SetAll,
    /// Whatever is on the device.
    Skip,
}

/// The options of `create-md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateOptions<'a> {
    /// The device's name, for messages.
    pub device: &'a str,
    /// The shape of the activity log.
    pub al: AlGeometry,
    /// Bytes; 0 if nothing is known of the peer.
    pub peer_max_bio_size: u32,
    /// What the bitmap begins with.
    pub bitmap: BitmapInit,
    /// Go on where only a guess says that data would be destroyed.
    pub ignore_sanity_checks: bool,
    /// Say everything, ask everything, write nothing.
    pub dry_run: bool,
    /// Where internal metadata was when it was last seen.
    pub last_known: Option<&'a LastKnown>,
}

impl Default for CreateOptions<'_> {
    fn default() -> Self {
        Self {
            device: "device",
            al: AlGeometry::DEFAULT,
            peer_max_bio_size: 0,
            bitmap: BitmapInit::Zero,
            ignore_sanity_checks: false,
            dry_run: false,
            last_known: None,
        }
    }
}

/// Makes new metadata of `kind` on `device`, which is the data device for internal metadata and else
/// the metadata device.
///
/// The old superblock goes first and the new one comes last, each durably, so a crash in between
/// leaves no metadata and never an old superblock over a new bitmap.
///
/// # Errors
/// For options out of range, devices that are too small, and devices that fail.
pub fn create_md(
    device: &mut dyn Device,
    kind: MetaKind,
    options: &CreateOptions<'_>,
    console: &mut dyn Console,
) -> Result<Exit, ToolError> {
    let layout = new_layout(device, kind, options)?;
    if options.peer_max_bio_size > PEER_MAX_BIO_SIZE_MAX {
        return Err(ToolError::PeerMaxBioSize);
    }
    let found = find_existing(device, kind, &layout)?;
    if found.is_none() && kind.is_internal() {
        let old = options
            .last_known
            .filter(|old| old.is_on(device).unwrap_or(false));
        if let Some(old) = old
            && console.confirm(Question::MoveLastKnown)
        {
            return check_resize(device, kind, Some(old), console);
        }
    }
    let mut superblock = Superblock::new(&layout);
    superblock.la_peer_max_bio_size = options.peer_max_bio_size;
    let mut keep_bitmap = options.bitmap == BitmapInit::Skip;
    match found {
        None => {}
        Some(Existing::V08(old)) => {
            if let Some(exit) = ask_overwrite(&old, &layout, options, console) {
                return Ok(exit);
            }
        }
        Some(Existing::V09) => {
            if console.confirm(Question::Convert("v09")) {
                superblock = convert::v09_to_v08(device, &layout)?;
                keep_bitmap = true;
            } else if !console.confirm(Question::Replace("v09")) {
                return Ok(cancelled(console));
            }
        }
        // Its area is of another size, so converting would mean to move it; drbdmeta can.
        Some(Existing::V07) if !console.confirm(Question::Replace("v07")) => {
            return Ok(cancelled(console));
        }
        Some(Existing::V07) => {}
    }
    if let Some(exit) = ask_about_content(device, &layout, options.ignore_sanity_checks, console)? {
        return Ok(exit);
    }
    if options.dry_run {
        return Ok(Exit::Ok);
    }

    erase_superblock(device, &layout)?;
    console.out("initializing activity log\n");
    device.write_at(layout.al_sector, &initialised_ring(layout.al))?;
    if !keep_bitmap {
        let kib = layout.bitmap_sectors / 2;
        let value = if options.bitmap == BitmapInit::SetAll {
            "one"
        } else {
            "zero"
        };
        console.err(&format!("initializing bitmap ({kib} KB) to all {value}\n"));
        initialise_bitmap(device, &layout, options.bitmap)?;
    }
    console.out("Writing meta data...\n");
    Metadata { layout, superblock }.save(device)?;
    console.out("New drbd meta data block successfully created.\n");
    Ok(Exit::Ok)
}

fn cancelled(console: &mut dyn Console) -> Exit {
    console.out("Operation cancelled.\n");
    Exit::Failed
}

fn new_layout(
    device: &mut dyn Device,
    kind: MetaKind,
    options: &CreateOptions<'_>,
) -> Result<Layout, ToolError> {
    let name = options.device;
    let size = device.size_sectors();
    let bytes = size.saturating_mul(SECTOR_BYTES as u64);
    if bytes < PROBE_BYTES as u64 {
        return Err(ToolError::TooSmall(format!(
            "{name} is only {bytes} bytes. That's not enough."
        )));
    }
    if let MetaKind::Indexed(index) = kind
        && size < kind.meta_device_sectors_min()
    {
        let offset = u64::from(index) * INDEXED_SLOT_SECTORS * SECTOR_BYTES as u64;
        return Err(ToolError::TooSmall(format!(
            "Device too small: expecting meta data block at\n\
             byte offset {offset}, but {name} is only {bytes} bytes."
        )));
    }
    match options.al.blocks() {
        blocks if blocks < AL_BLOCKS_MIN => return Err(ToolError::AlTooSmall),
        blocks if blocks > AL_BLOCKS_INTEROPERABLE_MAX => return Err(ToolError::AlTooLarge),
        _ => {}
    }
    let data = if kind.is_internal() {
        size
    } else {
        DEVICE_SECTORS_MAX
    };
    Ok(Layout::compute(kind, data, size, options.al)?)
}

enum Existing {
    V08(Metadata),
    V07,
    V09,
}

fn find_existing(
    device: &mut dyn Device,
    kind: MetaKind,
    layout: &Layout,
) -> Result<Option<Existing>, ToolError> {
    match Metadata::open(device, kind) {
        Ok(metadata) => return Ok(Some(Existing::V08(metadata))),
        Err(ToolError::NoMetadata(SuperblockError::V09)) => return Ok(Some(Existing::V09)),
        Err(ToolError::NoMetadata(SuperblockError::V07)) => return Ok(Some(Existing::V07)),
        Err(ToolError::NoMetadata(_)) => {}
        Err(other) => return Err(other),
    }
    // The 0.7 format has a fixed area of 128 MiB with the superblock in front (appendix B).
    let old = (layout.superblock_sector + BLOCK_SECTORS).checked_sub(INDEXED_SLOT_SECTORS);
    if let (MetaKind::Internal, Some(sector)) = (kind, old) {
        let mut block = [0; BLOCK_BYTES];
        device.read_at(sector, &mut block)?;
        if Superblock::parse(&block) == Err(SuperblockError::V07) {
            return Ok(Some(Existing::V07));
        }
    }
    Ok(None)
}

/// `Some` if that is the end of it.
fn ask_overwrite(
    old: &Metadata,
    layout: &Layout,
    options: &CreateOptions<'_>,
    console: &mut dyn Console,
) -> Option<Exit> {
    let internal = layout.kind.is_internal();
    if internal {
        console.err(&format!(
            "You want me to create a v08 style flexible-size internal meta data block.\n\
             There appears to be a v08 flexible-size internal meta data block\n\
             already in place on {} at byte offset {}\n",
            options.device,
            old.layout.superblock_sector * SECTOR_BYTES as u64
        ));
    }
    if old.layout.al != layout.al && console.confirm(Question::StripesOnly) {
        console.err(
            "Sorry, not yet fully implemented\n\
             Try dump-md > dump.txt; restore-md -s x -z y dump.txt\n",
        );
        return Some(Exit::Unsupported);
    }
    let question = if internal {
        Question::OverwriteInternal
    } else {
        Question::OverwriteExternal
    };
    if console.confirm(question) {
        None
    } else {
        Some(cancelled(console))
    }
}

/// `Some` if what is on the device is in the way. Also asked before a restore.
pub(super) fn ask_about_content(
    device: &mut dyn Device,
    layout: &Layout,
    ignore_sanity_checks: bool,
    console: &mut dyn Console,
) -> Result<Option<Exit>, DeviceError> {
    let content = Content::probe(device)?;
    if content == Content::Nothing {
        return Ok(None);
    }
    let byte = SECTOR_BYTES as u64;
    console.out(&format!(
        "md_offset {}\nal_offset {}\nbm_offset {}\n\n",
        layout.superblock_sector * byte,
        layout.al_sector * byte,
        layout.bitmap_sector * byte
    ));
    let (found, used_bytes) = match content {
        Content::Nothing | Content::SomeData => {
            console.out("Found some data\n\n ==> This might destroy existing data! <==\n");
            return Ok(ask_proceed(console));
        }
        Content::Swap => ("swap space signature".into(), None),
        Content::LvmPhysicalVolume => {
            let size = console.lvm_size_sectors();
            (
                "LVM2 physical volume signature".into(),
                size.map(|size| size.saturating_mul(byte)),
            )
        }
        Content::FileSystem { name, bytes } => (format!("{name} filesystem"), Some(bytes)),
    };
    console.out(&format!("Found {found}\n"));
    if !layout.kind.is_internal() {
        console.out("\nThis would corrupt existing data.\n");
        return Ok(refuse_unless_ignored(ignore_sanity_checks, console));
    }

    let left_kib = layout.usable_sectors / 2;
    let Some(used_bytes) = used_bytes else {
        console.out(&format!(
            "{left_kib:12} kB left usable by current configuration\n"
        ));
        if content == Content::LvmPhysicalVolume {
            console.out("Could not determine the size of the actually used data area.\n\n");
        }
        console.out(TRUNCATED);
        return Ok(refuse_unless_ignored(ignore_sanity_checks, console));
    };
    console.out(&format!(
        "{:12} kB data area apparently used\n{left_kib:12} kB left usable by current configuration\n\n",
        used_bytes.div_ceil(1024)
    ));
    if used_bytes > layout.usable_sectors * byte {
        console.out(TRUNCATED);
        console.out(
            "You need to either\n   * use external meta data (recommended)\n   \
             * shrink that filesystem first\n   \
             * zero out the device (destroy the filesystem)\nOperation refused.\n\n",
        );
        return Ok(Some(Exit::Refused));
    }
    console.out(
        "Even though it looks like this would place the new meta data into\n\
         unused space, you still need to confirm, as this is only a guess.\n",
    );
    Ok(ask_proceed(console))
}

const TRUNCATED: &str = "Device size would be truncated, which\nwould corrupt data and result in\n\
                         'access beyond end of device' errors.\n";

fn ask_proceed(console: &mut dyn Console) -> Option<Exit> {
    if console.confirm(Question::Proceed) {
        return None;
    }
    console.out("Operation canceled.\n");
    Some(Exit::Failed)
}

fn refuse_unless_ignored(ignore: bool, console: &mut dyn Console) -> Option<Exit> {
    if ignore {
        console.out("\nIgnoring sanity check on user request.\n\n");
        return None;
    }
    console.out(
        "If you want me to do this, you need to zero out the first part\n\
         of the device (destroy the content).\n\
         You should be very sure that you mean it.\nOperation refused.\n\n",
    );
    Some(Exit::Refused)
}

fn initialise_bitmap(
    device: &mut dyn Device,
    layout: &Layout,
    init: BitmapInit,
) -> Result<(), DeviceError> {
    if init != BitmapInit::SetAll {
        return zero_area(device, layout.bitmap_sector, layout.bitmap_sectors);
    }
    const CHUNK_SECTORS: u64 = 2048;
    let ones = alloc::vec![0xff; CHUNK_SECTORS as usize * SECTOR_BYTES];
    let end = layout.bitmap_sector + layout.bitmap_sectors;
    let mut sector = layout.bitmap_sector;
    while sector < end {
        let now = CHUNK_SECTORS.min(end - sector);
        device.write_at(sector, &ones[..now as usize * SECTOR_BYTES])?;
        sector += now;
    }
    Ok(())
}
