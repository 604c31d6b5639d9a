//! Random moments and places, from a seed that a failing test can print.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (xorshift64*); good enough to choose moments and blocks.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Seeded by `RDB_TEST_SEED`, else by the clock. Prints the seed, for a repetition.
    #[must_use]
    pub fn from_env() -> Self {
        let seed = std::env::var("RDB_TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |age| {
                    u64::from(age.subsec_nanos()) ^ (age.as_secs() << 20)
                })
        });
        eprintln!("RDB_TEST_SEED={seed}");
        Self::new(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}
