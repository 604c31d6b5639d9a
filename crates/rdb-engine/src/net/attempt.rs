//! What an administrator has ordered for one attempt to connect, and what the peer's has.

use replica_proto::ConnFlags;

/// `discard-my-data` and `tentative` (`docs/spec/behaviour.md`, section 5.6).
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// This node's data are to go in a split brain. Set by `connect`; cleared when it is told to the peer, by a promotion and by
    /// the end of the configuration. Without the last two an order of long ago would give up what users have written since.
    discard: bool,
    /// It was told in this connection. Set each time parameters are sent. Without it the handshake could not go by it.
    discards: bool,
    /// Nothing is to be changed. Set by `connect`, cleared by the end of the configuration.
    tentative: bool,
    /// The peer's nothing. Set by its parameters, cleared with each connection that is opened.
    peer_tentative: bool,
}

impl Attempt {
    /// An administrator connects.
    pub(crate) fn order(&mut self, discard: bool, tentative: bool) {
        self.discard = discard;
        self.tentative = tentative;
    }

    /// A connection is opened.
    pub(crate) fn begin(&mut self) {
        self.peer_tentative = false;
    }

    /// What the peer is told with our parameters. That data are to go is told once: it speaks for this connection.
    pub(crate) fn tell(&mut self) -> ConnFlags {
        self.discards = core::mem::take(&mut self.discard);
        let mut flags = ConnFlags::empty();
        flags.set(ConnFlags::DISCARD_MY_DATA, self.discards);
        flags.set(ConnFlags::DRY_RUN, self.tentative);
        flags
    }

    /// What the peer has told with its own. (Whether its data are to go it tells with each volume's identifiers.)
    pub(crate) fn told(&mut self, flags: ConnFlags) {
        self.peer_tentative |= flags.contains(ConnFlags::DRY_RUN);
    }

    /// Users are to write here: an order that is not told is taken back.
    pub(crate) fn keep_data(&mut self) {
        self.discard = false;
    }

    /// The configuration goes.
    pub(crate) fn end(&mut self) {
        self.discard = false;
        self.tentative = false;
    }

    /// Whether the peer was told that this node's data are to go.
    pub(crate) fn discards(&self) -> bool {
        self.discards
    }

    pub(crate) fn is_tentative(&self) -> bool {
        self.tentative
    }

    pub(crate) fn is_peer_tentative(&self) -> bool {
        self.peer_tentative
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_data_are_to_go_is_told_once() {
        let mut attempt = Attempt::default();
        attempt.order(true, false);
        assert!(!attempt.discards());
        assert_eq!(attempt.tell(), ConnFlags::DISCARD_MY_DATA);
        assert!(attempt.discards());
        assert_eq!(attempt.tell(), ConnFlags::empty());
        assert!(!attempt.discards());
    }

    #[test]
    fn a_promotion_takes_back_what_is_not_told() {
        let mut attempt = Attempt::default();
        attempt.order(true, true);
        attempt.keep_data();
        assert_eq!(attempt.tell(), ConnFlags::DRY_RUN);
    }
}
