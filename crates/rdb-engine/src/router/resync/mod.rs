//! Resyncs: the source, the target, and the comparison by checksums.

mod checksum;
mod source;
mod target;
