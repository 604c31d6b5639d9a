//! Where the run of a crash point ends, and how (`crash_points.rs`).

/// Where a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashAt {
    /// Whose disk is counted.
    pub node: usize,
    /// Before its n-th write or flush if odd (2n - 1), right after it if even.
    pub position: u64,
    /// What of the unflushed writes is kept: see [`variants`].
    pub variant: u64,
    /// What happens beside.
    pub then: Then,
}

/// What happens beside the crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The node comes back.
    Back,
    /// The other node takes over and writes, then the node comes back.
    TakeOver,
    /// The other node loses its power as well.
    Blackout,
}

impl Then {
    pub(crate) const ALL: [Then; 3] = [Then::Back, Then::TakeOver, Then::Blackout];
}

/// How many ways of losing what so many pages hold unflushed are tried: the first loses everything, the second nothing.
/// Up to three pages every subset is tried, with more of them each of six pages alone, and four mixtures of sectors.
pub fn variants(pages: usize) -> u64 {
    match pages {
        0 => 1,
        1..=3 => 1 << pages,
        _ => 2 + 6 + 4,
    }
}
