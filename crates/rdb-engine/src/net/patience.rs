//! How long a peer may leave unanswered what it owes: which timers look at that, and how many sends may still stall.

/// The patience with the peer of a connection (`docs/spec/wire.md`, section 12).
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// The timer is set that looks at blocks which wait for the peer. Set when one is asked for, cleared when the timer expires and
    /// with the connection.
    blocks: bool,
    /// The timer is set that looks at the oldest request which the peer has not answered. Set when one is sent, cleared when
    /// the timer expires and with the connection: without it whatever is sent later would put the timer off.
    requests: bool,
    /// How many sends may stall before the peer is given up. Set with each pair.
    ko_left: u32,
}

impl Patience {
    /// There is a pair of sockets.
    pub(crate) fn begin(&mut self, ko_count: u32) {
        self.ko_left = ko_count;
    }

    /// The connection is gone, and its timers.
    pub(crate) fn end(&mut self) {
        self.blocks = false;
        self.requests = false;
    }

    /// Whether the timer for blocks is still to be set.
    pub(crate) fn awaits_blocks(&self) -> bool {
        !self.blocks
    }

    /// It is set, or has expired.
    pub(crate) fn watch_blocks(&mut self, set: bool) {
        self.blocks = set;
    }

    /// Whether the timer for requests is still to be set.
    pub(crate) fn awaits_requests(&self) -> bool {
        !self.requests
    }

    /// It is set, or has expired.
    pub(crate) fn watch_requests(&mut self, set: bool) {
        self.requests = set;
    }

    /// A send has stalled for a whole timeout; says how many more may.
    pub(crate) fn stall(&mut self) -> u32 {
        self.ko_left = self.ko_left.saturating_sub(1);
        self.ko_left
    }

    /// The peer is needed: it is not given up for the next one either.
    pub(crate) fn bear(&mut self) {
        self.ko_left = 1;
    }
}
