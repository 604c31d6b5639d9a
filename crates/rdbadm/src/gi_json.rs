//! The JSON of `show-gi`.

use rdb_meta::{MdFlags, Superblock};
use serde_json::json;

/// Identifiers and flags of a disk, on one line. `minor`: its volume's, if it has one.
pub(crate) fn line(minor: Option<u32>, superblock: &Superblock) -> String {
    let [current, bitmap, younger, older] = superblock.uuids.map(|uuid| format!("{uuid:016X}"));
    let has = |flag| superblock.flags.contains(flag);
    let value = json!({
        "minor": minor,
        "current": current,
        "bitmap": bitmap,
        "history": [younger, older],
        "consistent": has(MdFlags::CONSISTENT),
        "was-up-to-date": has(MdFlags::WAS_UP_TO_DATE),
        "primary": has(MdFlags::PRIMARY_IND),
        "connected": has(MdFlags::CONNECTED_IND),
        "full-sync": has(MdFlags::FULL_SYNC),
        "peer-outdated": has(MdFlags::PEER_OUT_DATED),
        "crashed-primary": has(MdFlags::CRASHED_PRIMARY),
        "needs-apply-al": superblock.needs_apply_al(),
    });
    format!("{value}\n")
}
