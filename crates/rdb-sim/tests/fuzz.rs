//! The engine's fuzz target, without a fuzzer: some inputs that are drawn, and those that once failed.

use rdb_sim::{Rng, fuzz_engine};

/// What this number draws.
fn drawn(number: u64) -> Vec<u8> {
    let mut rng = Rng(number);
    let bytes = 40 + rng.below(2000);
    (0..bytes).map(|_| rng.next() as u8).collect()
}

#[test]
fn drawn_inputs_do_no_harm() {
    for number in 0..2000 {
        let input = drawn(number);
        let failed = std::panic::catch_unwind(|| fuzz_engine(&input)).is_err();
        assert!(!failed, "input {number} fails");
    }
}

/// An acknowledged barrier before the acknowledgements of its writes ended the connection, and left one of the writes
/// waiting for an answer that nobody owed any more: its user waited for ever.
#[test]
fn a_barrier_ack_before_the_acks_leaves_no_write_behind() {
    for number in [15_888, 19_035, 68_791, 71_157] {
        fuzz_engine(&drawn(number));
    }
}

/// `outdate` of a disk that had just failed called it UpToDate while a peer was there.
#[test]
fn a_failed_disk_is_not_outdated() {
    for number in [32_607, 60_540, 61_787] {
        fuzz_engine(&drawn(number));
    }
}
