//! `check-resize`: internal metadata follows the end of a device that was resized while detached
//! (docs/spec/metadata.md, section 7.3).

use alloc::string::{String, ToString};
use core::str::FromStr;

use super::{Console, Exit, Metadata, ToolError, read_area};
use crate::superblock::SuperblockError;
use crate::{BLOCK_BYTES, BLOCK_SECTORS, Device, Layout, Magic, MdFlags, MetaKind, SECTOR_BYTES};

/// The content of the file that says how large a minor's device was when it was last seen. A
/// convenience, never needed for correctness (invariant I28); it is kept by minor, not by device
/// (trap T29).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastKnown {
    /// The device's size in bytes.
    pub size_bytes: u64,
    /// The device's name.
    pub device: String,
    /// The disk's name, if it has one.
    pub device_uuid: Option<u64>,
}

/// The text is not what [`LastKnown`] displays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the last known size is not {want}")]
pub struct LastKnownError {
    /// Counted from 1.
    pub line: usize,
    /// What it should be.
    pub want: &'static str,
}

impl LastKnown {
    /// What is to be noted for this metadata on this device.
    pub fn note(metadata: &Metadata, size_sectors: u64, device: &str) -> Self {
        let uuid = metadata.superblock.device_uuid;
        Self {
            size_bytes: size_sectors * SECTOR_BYTES as u64,
            device: device.to_string(),
            device_uuid: (uuid != 0).then_some(uuid),
        }
    }

    /// Is there valid metadata where the device ended then, and not now?
    ///
    /// # Errors
    /// If the device fails.
    pub fn is_on(&self, device: &mut dyn Device) -> Result<bool, ToolError> {
        match self.open(device) {
            Ok(_) => Ok(true),
            Err(ToolError::NoMetadata(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open(&self, device: &mut dyn Device) -> Result<Metadata, ToolError> {
        let size = self.size_bytes / SECTOR_BYTES as u64;
        let sector = MetaKind::Internal
            .superblock_sector(size)
            .map_err(SuperblockError::from);
        let sector = sector.map_err(ToolError::NoMetadata)?;
        if size == device.size_sectors() || sector + BLOCK_SECTORS > device.size_sectors() {
            return Err(ToolError::NoMetadata(SuperblockError::Magic { found: 0 }));
        }
        let mut block = [0; BLOCK_BYTES];
        device.read_at(sector, &mut block)?;
        let found = Metadata::from_block(&block, MetaKind::Internal, size);
        let found = found.map_err(ToolError::NoMetadata)?;
        match self.device_uuid {
            Some(uuid) if uuid != found.superblock.device_uuid => Err(ToolError::Unsupported(
                "the disk at the last-known position is another one",
            )),
            _ => Ok(found),
        }
    }
}

impl core::fmt::Display for LastKnown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "{}\t{}", self.size_bytes, self.device)?;
        match self.device_uuid {
            Some(uuid) => writeln!(f, "uuid:\t{uuid:016X}"),
            None => Ok(()),
        }
    }
}

impl FromStr for LastKnown {
    type Err = LastKnownError;

    fn from_str(text: &str) -> Result<Self, LastKnownError> {
        let mut lines = text.split('\n');
        let first = lines.next().and_then(|line| line.split_once('\t'));
        let (size, device) = first.ok_or(LastKnownError {
            line: 1,
            want: "a size, a tab and a name",
        })?;
        let size_bytes = size.parse().map_err(|_| LastKnownError {
            line: 1,
            want: "a size in bytes",
        })?;
        let device_uuid = match lines.next() {
            None | Some("") => None,
            Some(line) => {
                let uuid = line.strip_prefix("uuid:").map(str::trim);
                let uuid = uuid.and_then(|uuid| u64::from_str_radix(uuid, 16).ok());
                Some(uuid.ok_or(LastKnownError {
                    line: 2,
                    want: "'uuid:' and a number",
                })?)
            }
        };
        Ok(Self {
            size_bytes,
            device: device.to_string(),
            device_uuid,
        })
    }
}

/// Moves internal metadata from where the device ended when it was last seen to where it ends now.
/// The program notes the size afterwards if this ends well. The size of the data stays; the device
/// grows when it is attached and told to.
///
/// The first write is a superblock at the new place that asks for a full resync, the last one takes
/// that back: at every instant there is one superblock that is found, and it is right or cautious
/// (invariant I10). The old area is zeroed afterwards, as far as it is not the new one.
///
/// # Errors
/// External metadata; data that would not fit any more; a device that fails.
pub fn check_resize(
    device: &mut dyn Device,
    kind: MetaKind,
    last_known: Option<&LastKnown>,
    console: &mut dyn Console,
) -> Result<Exit, ToolError> {
    if !kind.is_internal() {
        return Err(ToolError::Unsupported(
            "Operation only supported for >= v8 internal meta data",
        ));
    }
    match Metadata::open(device, kind) {
        Ok(_) => return Ok(Exit::Ok),
        Err(ToolError::NoMetadata(_)) => {}
        Err(error) => return Err(error),
    }
    let old = match last_known.map(|last_known| last_known.open(device)) {
        Some(Ok(old)) => old,
        Some(Err(error @ (ToolError::Device(_) | ToolError::Unsupported(_)))) => return Err(error),
        _ => {
            console.err("no suitable meta data found :(\n");
            return Ok(Exit::Failed);
        }
    };
    console.out("Moving the internal meta data to its proper location\n");
    move_metadata(device, &old)?;
    console.out("Internal drbd meta data successfully moved.\nOld meta data region zeroed.\n");
    Ok(Exit::Ok)
}

fn move_metadata(device: &mut dyn Device, old: &Metadata) -> Result<(), ToolError> {
    let size = device.size_sectors();
    let layout = Layout::compute(MetaKind::Internal, size, size, old.layout.al)?;
    if old.superblock.la_size_sectors > layout.usable_sectors {
        return Err(ToolError::Shrunk {
            la_size_sectors: old.superblock.la_size_sectors,
            usable_sectors: layout.usable_sectors,
        });
    }
    let ring = read_area(device, old.layout.al_sector, old.layout.al.sectors())?;
    let mut bitmap = read_area(device, old.layout.bitmap_sector, old.layout.bitmap_sectors)?;
    bitmap.resize(layout.bitmap_sectors as usize * SECTOR_BYTES, 0);

    let mut superblock = old.superblock.clone();
    superblock.place(&layout);
    let mut cautious = superblock.clone();
    cautious.flags |= MdFlags::FULL_SYNC | MdFlags::AL_CLEAN;
    cautious.magic = Magic::V08;
    Metadata {
        layout,
        superblock: cautious,
    }
    .save(device)?;
    device.write_at(layout.al_sector, &ring)?;
    device.write_at(layout.bitmap_sector, &bitmap)?;
    Metadata { layout, superblock }.save(device)?;

    let zeros = [0; BLOCK_BYTES];
    let old_end = old.layout.superblock_sector + BLOCK_SECTORS;
    for sector in (old.layout.bitmap_sector..old_end).step_by(BLOCK_SECTORS as usize) {
        if !layout.contains(sector, BLOCK_SECTORS) {
            device.write_at(sector, &zeros)?;
        }
    }
    device.flush()?;
    Ok(())
}
