//! The verbs that show and change generation identifiers and flags (docs/spec/metadata.md,
//! sections 8.1 and 8.3).

use alloc::format;
use alloc::string::{String, ToString};

use super::{Console, Exit, Metadata, Question, ToolError, erase_superblock, human_size};
use crate::{Device, MdFlags, MetaKind, Superblock};

/// The flags of a generation identifier line, in its order.
const FLAGS: [MdFlags; 7] = [
    MdFlags::CONSISTENT,
    MdFlags::WAS_UP_TO_DATE,
    MdFlags::PRIMARY_IND,
    MdFlags::CONNECTED_IND,
    MdFlags::FULL_SYNC,
    MdFlags::PEER_OUT_DATED,
    MdFlags::CRASHED_PRIMARY,
];

const ABOVE: &str = "
       +--<  Current data generation UUID  >-
       |               +--<  Bitmap's base data generation UUID  >-
       |               |                 +--<  younger history UUID  >-
       |               |                 |         +-<  older history  >-
       V               V                 V         V
";

const BELOW: &str =
    "                                                                    ^ ^ ^ ^ ^ ^ ^
                                      -<  Data consistency flag  >--+ | | | | | |
                             -<  Data was/is currently up-to-date  >--+ | | | | |
                                  -<  Node was/is currently primary  >--+ | | | |
                                  -<  Node was/is currently connected  >--+ | | |
         -<  Node was in the progress of setting all bits in the bitmap  >--+ | |
                        -<  The peer's disk was out-dated or inconsistent  >--+ |
      -<  This node was a crashed primary, and has not seen its peer since   >--+
";

/// `current:bitmap:younger:older:c:u:p:n:f:o:x`, without a line end.
pub fn get_gi(superblock: &Superblock) -> String {
    let mut line = String::new();
    for uuid in superblock.uuids {
        line.push_str(&format!("{uuid:016X}:"));
    }
    let flags = FLAGS.map(|flag| {
        if superblock.flags.contains(flag) {
            "1"
        } else {
            "0"
        }
    });
    line.push_str(&flags.join(":"));
    line
}

/// The same as a drawing, with the state in words.
pub fn show_gi(superblock: &Superblock) -> String {
    let has = |flag| superblock.flags.contains(flag);
    let mut text = format!("{ABOVE}{}\n{BELOW}\nflags:", get_gi(superblock));
    if has(MdFlags::CRASHED_PRIMARY) {
        text.push_str(" crashed");
    }
    text.push_str(if has(MdFlags::PRIMARY_IND) {
        " Primary"
    } else {
        " Secondary"
    });
    text.push_str(if has(MdFlags::CONNECTED_IND) {
        ", Connected"
    } else {
        ", StandAlone"
    });
    text.push_str(
        match (has(MdFlags::CONSISTENT), has(MdFlags::WAS_UP_TO_DATE)) {
            (true, true) => ", UpToDate",
            (true, false) => ", Outdated",
            (false, _) => ", Inconsistent",
        },
    );
    if has(MdFlags::FULL_SYNC) {
        text.push_str(", need full sync");
    }
    if has(MdFlags::PEER_OUT_DATED) {
        text.push_str(", peer Outdated");
    }
    let clean = if superblock.needs_apply_al() {
        "need apply-al"
    } else {
        "clean"
    };
    text.push_str(&format!("\nmeta-data: {clean}\n"));
    match superblock.la_size_sectors {
        0 => text.push_str("zero size device -- never seen peer yet?\n"),
        sectors => text.push_str(&format!(
            "last agreed size: {} ({sectors} sectors)\nlast agreed max bio size: {} Byte\n",
            human_size(sectors / 2),
            superblock.la_peer_max_bio_size
        )),
    }
    text
}

/// The disk state the flags stand for, by themselves.
pub fn dstate(superblock: &Superblock) -> &'static str {
    let has = |flag| superblock.flags.contains(flag);
    match (
        has(MdFlags::CONSISTENT),
        has(MdFlags::WAS_UP_TO_DATE),
        has(MdFlags::PEER_OUT_DATED),
    ) {
        (false, _, _) => "Inconsistent",
        (true, false, _) => "Outdated",
        (true, true, false) => "Consistent",
        (true, true, true) => "UpToDate",
    }
}

/// Changes what the specification names: the fields of [`get_gi`], an empty or missing one stays.
/// A refusal is [`Exit::Ok`] (trap T18).
///
/// # Errors
/// No valid metadata, a field that is no number or flag, a device that fails.
pub fn set_gi(
    device: &mut dyn Device,
    kind: MetaKind,
    specification: &str,
    console: &mut dyn Console,
) -> Result<Exit, ToolError> {
    let mut metadata = Metadata::open(device, kind)?;
    let before = get_gi(&metadata.superblock);
    change(&mut metadata.superblock, specification)?;
    let after = get_gi(&metadata.superblock);
    console.out(&format!("previously {before}\nset GI to  {after}\n"));
    if console.confirm(Question::WriteGi) {
        metadata.save(device)?;
    } else {
        console.out("Operation canceled.\n");
    }
    Ok(Exit::Ok)
}

fn change(superblock: &mut Superblock, specification: &str) -> Result<(), ToolError> {
    let bad = |value: &str, want| ToolError::Value {
        value: value.to_string(),
        want,
    };
    superblock.note = 0; // (it may not be true of the identifiers that come)
    let mut fields = specification.trim().split(':').map(str::trim);
    for (uuid, field) in superblock.uuids.iter_mut().zip(&mut fields) {
        if !field.is_empty() {
            *uuid = parse_uuid(field)?;
        }
    }
    // Not zipped, which would take one field too many when the flags are through.
    for flag in FLAGS {
        match fields.next() {
            None | Some("") => {}
            Some("0") => superblock.flags.remove(flag),
            Some("1") => superblock.flags.insert(flag),
            Some(other) => return Err(bad(other, "0 or 1")),
        }
    }
    match fields.next() {
        None => Ok(()),
        Some(more) => Err(bad(more, "one of the eleven fields")),
    }
}

fn parse_uuid(text: &str) -> Result<u64, ToolError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let right = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let number = if right {
        u64::from_str_radix(digits, 16).ok()
    } else {
        None
    };
    number.ok_or_else(|| ToolError::Value {
        value: text.to_string(),
        want: "a number of up to 16 hexadecimal digits",
    })
}

/// The data here is known to be old; durable when this returns (invariant I21).
///
/// # Errors
/// No valid metadata, or a device that fails.
pub fn outdate(
    device: &mut dyn Device,
    kind: MetaKind,
    console: &mut dyn Console,
) -> Result<Exit, ToolError> {
    let mut metadata = Metadata::open(device, kind)?;
    if !metadata.superblock.flags.contains(MdFlags::CONSISTENT) {
        console.err("Device is inconsistent.\n");
        return Ok(Exit::OutdateRefused);
    }
    metadata.superblock.flags.remove(MdFlags::WAS_UP_TO_DATE);
    metadata.save(device)?;
    Ok(Exit::Ok)
}

/// The data here is not to be used, and to be fetched from the peer as a whole.
///
/// # Errors
/// No valid metadata, or a device that fails.
pub fn invalidate(device: &mut dyn Device, kind: MetaKind) -> Result<Exit, ToolError> {
    let mut metadata = Metadata::open(device, kind)?;
    metadata
        .superblock
        .flags
        .remove(MdFlags::CONSISTENT | MdFlags::WAS_UP_TO_DATE);
    metadata.superblock.flags.insert(MdFlags::FULL_SYNC);
    metadata.save(device)?;
    Ok(Exit::Ok)
}

/// Takes the superblock away. None there is no failure. The program then removes the file of the
/// last known position.
///
/// # Errors
/// If the device fails.
pub fn wipe_md(
    device: &mut dyn Device,
    kind: MetaKind,
    console: &mut dyn Console,
) -> Result<Exit, ToolError> {
    let metadata = match Metadata::open(device, kind) {
        Ok(metadata) => metadata,
        Err(ToolError::NoMetadata(_)) => {
            console.err("There appears to be no drbd meta data to wipe out?\n");
            return Ok(Exit::Ok);
        }
        Err(error) => return Err(error),
    };
    if !console.confirm(Question::Wipe) {
        console.out("Operation canceled.\n");
        return Ok(Exit::Failed);
    }
    console.out("Wiping meta data...\n");
    erase_superblock(device, &metadata.layout)?;
    console.out("DRBD meta data block successfully wiped out.\n");
    Ok(Exit::Ok)
}

/// The disk's name: 16 hexadecimal digits, without a line end.
pub fn read_dev_uuid(superblock: &Superblock) -> String {
    format!("{:016X}", superblock.device_uuid)
}

/// Gives the disk a name, in hexadecimal.
///
/// # Errors
/// No valid metadata, no hexadecimal number, a device that fails.
pub fn write_dev_uuid(
    device: &mut dyn Device,
    kind: MetaKind,
    uuid: &str,
) -> Result<Exit, ToolError> {
    let mut metadata = Metadata::open(device, kind)?;
    metadata.superblock.device_uuid = parse_uuid(uuid)?;
    metadata.save(device)?;
    Ok(Exit::Ok)
}
