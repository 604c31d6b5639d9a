//! Any ring of the activity log. Each record of the input is one block: sound, or with a byte changed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rdb_meta::activity_log::{FREE, Transaction, initialised_ring, replay, replay_legacy};
use rdb_meta::{AlGeometry, ExtentNr};

fuzz_target!(|data: &[u8]| {
    let _ = replay_legacy(data);
    let geometry = AlGeometry { stripes: 3, stripe_size_4k: 4 };
    let mut ring = initialised_ring(geometry);
    for (block, record) in ring.chunks_exact_mut(4096).zip(data.chunks(24)) {
        let mut fields = [0; 24];
        fields[..record.len()].copy_from_slice(record);
        let word = |at: usize| u32::from_be_bytes(core::array::from_fn(|i| fields[at + i]));
        let half = |at: usize| u16::from_be_bytes([fields[at], fields[at + 1]]);
        let mut transaction = Transaction::new(word(0), half(4), half(6));
        transaction.push_update(half(8), Some(ExtentNr(word(10))));
        transaction.n_updates = half(14);
        transaction.context[usize::from(half(16)) % 919] = word(18);
        block.copy_from_slice(&transaction.encode());
        assert_eq!(Transaction::parse(block).as_ref(), Ok(&transaction));
        if fields[22] > 127 {
            block[usize::from(half(22)) % 4096] ^= fields[23];
        }
    }
    if let Ok(found) = replay(geometry, &ring) {
        assert!(!found.hot.contains(&ExtentNr(FREE)));
        assert_eq!(replay(geometry, &ring), Ok(found));
    }
});
