//! DRBD 8.4's on-disk metadata: layout, superblock, activity log, bitmap.
