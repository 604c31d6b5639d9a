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

    /// A block waits for the peer. Says whether its timer is still to be set.
    pub(crate) fn begin_to_watch_blocks(&mut self) -> bool {
        !core::mem::replace(&mut self.blocks, true)
    }

    /// The timer for blocks has expired.
    pub(crate) fn blocks_timer_expired(&mut self) {
        self.blocks = false;
    }

    /// A request waits for the peer. Says whether its timer is still to be set.
    pub(crate) fn begin_to_watch_requests(&mut self) -> bool {
        !core::mem::replace(&mut self.requests, true)
    }

    /// The timer for requests has expired.
    pub(crate) fn requests_timer_expired(&mut self) {
        self.requests = false;
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
