//! What a volume and its peer have sent each other, and which answers they owe.

/// The traffic with the peer of a volume.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Sectors sent, for the status file. An attach and `connect` begin anew.
    sent: u64,
    /// Sectors received, likewise.
    received: u64,
    /// Answers awaited from the peer; a lost connection forgets them.
    pending: u32,
    /// Answers owed to the peer; a lost connection forgets them.
    unacked: u32,
}

impl Traffic {
    /// An attach, or an administrator who connects: sectors are counted anew.
    pub(crate) fn begin_anew(&mut self) {
        self.sent = 0;
        self.received = 0;
    }

    /// The connection is gone: nobody answers any more.
    pub(crate) fn connection_ended(&mut self) {
        self.pending = 0;
        self.unacked = 0;
    }

    /// Data were sent.
    pub(crate) fn send(&mut self, sectors: u64) {
        self.sent += sectors;
    }

    /// Data have come.
    pub(crate) fn receive(&mut self, sectors: u64) {
        self.received += sectors;
    }

    /// The peer is to answer something.
    pub(crate) fn ask(&mut self) {
        self.pending += 1;
    }

    /// It has.
    pub(crate) fn answered(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    /// The peer is to be answered.
    pub(crate) fn owe(&mut self) {
        self.unacked += 1;
    }

    /// It is, or does not wait for it any more.
    pub(crate) fn answer(&mut self) {
        self.unacked = self.unacked.saturating_sub(1);
    }

    /// Sectors sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sectors received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Answers awaited from the peer.
    pub(crate) fn pending(&self) -> u32 {
        self.pending
    }

    /// Answers owed to it.
    pub(crate) fn unacked(&self) -> u32 {
        self.unacked
    }
}
