//! How far a resync is and how fast it goes: one reckoning, for the status file, `status`, its JSON and whoever asks else.
//! It is DRBD's (`docs/spec/admin.md`, section 5.3): the share done is coarse on purpose, the rate is that since a mark some
//! 18 seconds ago.

use rdb_engine::SyncProgress;

/// The figures of a resync or verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Blocks left.
    pub(crate) left_blocks: u64,
    /// How much is done, in thousandths.
    pub(crate) done_permille: u64,
    /// Seconds of the window that the rate is taken over.
    pub(crate) window_s: u64,
    /// KiB/s over the window.
    pub(crate) rate_kib: u64,
    /// KiB/s since the start, without pauses.
    pub(crate) average_kib: u64,
    /// Seconds to go, at the window's rate.
    pub(crate) left_s: u64,
}

impl Figures {
    /// The figures at one instant.
    pub(crate) fn of(sync: &SyncProgress) -> Figures {
        let (left_blocks, done_permille) = left_and_permille(sync);
        let window_s = (sync.window_ms / 1000).max(1);
        let elapsed_s = (sync.elapsed_ms / 1000).max(1);
        let done = sync.total_blocks.saturating_sub(left_blocks);
        Figures {
            left_blocks,
            done_permille,
            window_s,
            rate_kib: kib(sync.window_blocks / window_s),
            average_kib: kib(done / elapsed_s),
            left_s: finish_s(window_s, sync.window_blocks, left_blocks),
        }
    }
}

/// Blocks left, and how much is done in thousandths: deliberately coarse, in units of 4 MiB.
fn left_and_permille(sync: &SyncProgress) -> (u64, u64) {
    let total = sync.total_blocks;
    if sync.left_blocks > total {
        return (total, 0);
    }
    let shift = if total >= 1 << 32 { 16 } else { 10 };
    let left = sync.left_blocks >> shift;
    (
        sync.left_blocks,
        1000 - left * 1000 / (1 + (total >> shift)),
    )
}

/// Seconds to go, from the blocks done in a window.
fn finish_s(window_s: u64, window_blocks: u64, left: u64) -> u64 {
    window_s.saturating_mul(left / (window_blocks / 100 + 1)) / 100
}

/// KiB of 4 KiB blocks.
pub(crate) fn kib(blocks: u64) -> u64 {
    blocks.saturating_mul(4)
}
