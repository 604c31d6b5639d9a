//! What a node that still runs knows better than the record of a disk that it gave up and gets back.
//!
//! A disk that fails cannot note any more that the resync of which it was the source has ended. Its record still names the
//! resync in the bitmap slot, with marks, which is also what a source leaves behind that wrote on alone after a target had come to its
//! end unseen: those writes must not be overwritten, and the comparison of generations calls that a split brain
//! (`docs/states.md`). The node that gave the disk up knows which of both it is, until it is restarted.

use rdb_meta::{MdFlags, Superblock};

use crate::generation::GenerationIds;

/// (L58) Whether `record`, read from a disk that is attached, is the one that was given up, `known`, with no other generation since.
pub fn is_the_same(record: &Superblock, known: &Superblock) -> bool {
    let current = |of: &Superblock| GenerationIds::from_bits(of.uuids).current;
    record.device_uuid == known.device_uuid && current(record) == current(known)
}

/// Whether `record`, read from a disk that is attached, lacks no more than the end of the resync that this node has seen:
/// `known` is what it knew of the disk when it gave it up.
pub fn lacks_resync_end(record: &Superblock, known: &Superblock) -> bool {
    let ids = GenerationIds::from_bits(record.uuids);
    let known_ids = GenerationIds::from_bits(known.uuids);
    // Whoever has it attached in between without the peer clears CONNECTED_IND.
    record.device_uuid == known.device_uuid
        && record.flags.contains(MdFlags::CONNECTED_IND)
        && ids.current == known_ids.current
        && !ids.bitmap.is_empty()
        && known_ids.bitmap.is_empty()
        && ids.bitmap == known_ids.history[0]
}
