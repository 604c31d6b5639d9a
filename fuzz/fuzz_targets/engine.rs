//! The whole engine: a node with disks, users and an administrator, and a peer that says anything at any moment.
//!
//! What the bytes mean, and what must hold, is told in `rdb_sim::fuzz_engine`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| rdb_sim::fuzz_engine(input));
