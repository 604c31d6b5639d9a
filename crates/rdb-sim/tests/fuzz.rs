//! The engine's fuzz target, without a fuzzer: some inputs that are drawn.

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
