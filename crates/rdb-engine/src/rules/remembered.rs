//! What a node that still runs knows better than the record of a disk that it gave up and gets back.
//!
//! A disk that fails cannot note any more that the resync of which it was the source has ended. Its record still names the
//! resync in the bitmap slot, with marks, which is also what a source leaves behind that wrote on alone after a target had come to its
//! end unseen: those writes must not be overwritten, and the comparison of generations calls that a split brain
//! (`docs/states.md`). The node that gave the disk up knows which of both it is, until it is restarted.

use rdb_meta::{MdFlags, Superblock};

use crate::generation::same;

/// Whether `record`, read from a disk that is attached, lacks no more than the end of the resync that this node has seen:
/// `known` is what it knew of the disk when it gave it up.
pub fn lacks_resync_end(record: &Superblock, known: &Superblock) -> bool {
    let [current, bitmap, ..] = record.uuids;
    let [known_current, known_bitmap, known_history, _] = known.uuids;
    // Whoever has it attached in between without the peer clears CONNECTED_IND.
    record.device_uuid == known.device_uuid
        && record.flags.contains(MdFlags::CONNECTED_IND)
        && same(current, known_current)
        && bitmap != 0
        && known_bitmap == 0
        && same(bitmap, known_history)
}
