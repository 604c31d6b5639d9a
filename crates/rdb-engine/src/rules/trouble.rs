//! Why there is no connection, in words for the administrator, and which of two reasons is worth keeping.
//!
//! One attempt to connect follows the other, and each may end in another way: the peer, which has refused us because the
//! settings differ, does not listen for a while; then it closes the connection before we can see what it says. The reason
//! that tells most is kept until a connection comes to something.

/// Makes the enum, the list of its members, and their words, from one list.
macro_rules! troubles {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What is in the way of the connection.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Trouble {
            $($(#[$doc])* $name,)*
        }

        impl Trouble {
            /// All there are.
            pub const ALL: &[Trouble] = &[$(Trouble::$name,)*];

            /// A word for programs, which stays the same.
            pub fn word(self) -> &'static str {
                match self {
                    $(Trouble::$name => $word,)*
                }
            }
        }
    };
}

troubles! {
    /// The administrator of this node has disconnected.
    Disconnected = "disconnected",
    /// The administrator of the peer has disconnected.
    DisconnectedByPeer = "disconnected-by-peer",
    /// Both nodes have data that the other one lacks, and no policy says whose are to go.
    SplitBrain = "split-brain",
    /// The disks have never been copies of each other.
    UnrelatedData = "unrelated-data",
    /// Data of the peer that this node must not take, or that must not be overwritten.
    NoAgreement = "no-agreement",
    /// Data that users of this node have seen is not on the peer's disk.
    LacksOurData = "peer-lacks-data",
    /// The peer's disk is too small.
    TooSmall = "peer-too-small",
    /// Settings that must agree and do not.
    Settings = "settings-differ",
    /// The peer has not proved that it knows the secret.
    Secret = "wrong-secret",
    /// What the peer speaks is not understood.
    Dialect = "no-common-protocol",
    /// The peer broke a rule of the protocol.
    Broken = "protocol-broken",
    /// This node cannot listen at, or call from, its own address.
    OwnAddress = "own-address",
    /// The peer ended the connection before it came to something.
    RefusedByPeer = "refused-by-peer",
    /// A connection was there, and broke.
    Lost = "connection-lost",
    /// Nobody answers at the peer's address.
    NoAnswer = "no-answer",
}

impl Trouble {
    /// What there is to be done, with `RES` for the name of the resource.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Trouble::Disconnected => "'rdbadm connect RES'",
            Trouble::DisconnectedByPeer => "on the peer: 'rdbadm connect RES'",
            Trouble::SplitBrain => {
                "'rdbadm split-brain RES' says what each node has written; decide on which the changes are to be thrown away; there: 'rdbadm secondary RES', 'rdbadm disconnect RES' unless it is StandAlone, and 'rdbadm connect --discard-my-data RES'; on the other node, if it is StandAlone: 'rdbadm connect RES'"
            }
            Trouble::UnrelatedData => {
                "check that both nodes mean the same resource; to copy one disk over the other, on the node to be overwritten: 'rdbadm down RES', 'rdbadm create-md RES' and 'rdbadm up RES'; on the other node, if it is StandAlone: 'rdbadm connect RES'"
            }
            Trouble::NoAgreement => {
                "look at 'rdbadm show-gi RES' on both nodes; then, where the worse copy is: 'rdbadm secondary RES', 'rdbadm invalidate RES' and 'rdbadm connect RES'"
            }
            Trouble::LacksOurData => {
                "connect or attach the disk that holds what the users have seen, or demote this node: 'rdbadm secondary RES'; then, if it is StandAlone: 'rdbadm connect RES'"
            }
            Trouble::TooSmall => {
                "make the peer's disk as large as the device; then 'rdbadm connect RES', on the peer too if it is StandAlone"
            }
            Trouble::Settings => {
                "make the configuration the same on both nodes, and 'rdbadm adjust RES' on both"
            }
            Trouble::Secret => {
                "make cram-hmac-alg and shared-secret the same on both nodes, and 'rdbadm adjust RES' on both"
            }
            Trouble::OwnAddress => {
                "bring the address up, or see with 'ss -tlnp' who has the port; no command is needed then"
            }
            Trouble::RefusedByPeer => "the peer's own 'rdbadm status' or log says why",
            Trouble::Dialect | Trouble::Broken | Trouble::Lost | Trouble::NoAnswer => return None,
        })
    }

    /// Whether it says no more than that there is no connection.
    fn is_vague(self) -> bool {
        matches!(
            self,
            Trouble::RefusedByPeer | Trouble::Lost | Trouble::NoAnswer
        )
    }

    /// Whether the nodes have met, and their data or users stand between them. Nothing that happens without the peer changes that.
    pub fn is_conflict(self) -> bool {
        matches!(
            self,
            Trouble::SplitBrain
                | Trouble::UnrelatedData
                | Trouble::NoAgreement
                | Trouble::LacksOurData
                | Trouble::TooSmall
        )
    }

    /// Whether a conflict that was found before says more: that nobody answers now, or that somebody has disconnected since, solves
    /// none.
    pub fn is_told_after_conflict(self) -> bool {
        self.is_vague() || matches!(self, Trouble::Disconnected | Trouble::DisconnectedByPeer)
    }

    /// Whether it is to be told in the place of `old`. Who has a connection that is lost hears since when, whatever the next
    /// attempts come to.
    pub fn replaces(self, old: Option<Trouble>) -> bool {
        match old {
            None => true,
            Some(old) if old == self => true,
            Some(Trouble::Disconnected | Trouble::DisconnectedByPeer) => self != Trouble::Lost,
            Some(old) if self.is_vague() => {
                old == Trouble::NoAnswer || old == Trouble::Lost && self == Trouble::RefusedByPeer
            }
            Some(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Trouble::{self, *};

    #[test]
    fn what_says_less_does_not_hide_what_says_more() {
        for &new in Trouble::ALL {
            assert!(new.replaces(None) && new.replaces(Some(new)), "{new:?}");
            for &old in Trouble::ALL.iter().filter(|&&old| old != new) {
                let expected = match (new, old) {
                    (Lost, Disconnected | DisconnectedByPeer) => false,
                    (_, Disconnected | DisconnectedByPeer | NoAnswer) => true,
                    (RefusedByPeer, Lost) => true,
                    (RefusedByPeer | Lost | NoAnswer, _) => false,
                    _ => true,
                };
                assert_eq!(new.replaces(Some(old)), expected, "{new:?} after {old:?}");
            }
        }
    }

    #[test]
    fn a_conflict_of_data_is_told_until_a_handshake_has_ended_well() {
        let conflicts = [
            SplitBrain,
            UnrelatedData,
            NoAgreement,
            LacksOurData,
            TooSmall,
        ];
        for &trouble in Trouble::ALL {
            assert_eq!(trouble.is_conflict(), conflicts.contains(&trouble));
            let expected = matches!(
                trouble,
                Disconnected | DisconnectedByPeer | RefusedByPeer | Lost | NoAnswer
            );
            assert_eq!(trouble.is_told_after_conflict(), expected, "{trouble:?}");
        }
    }

    /// They end with StandAlone, and nobody tries to connect then.
    #[test]
    fn the_advice_for_a_conflict_of_data_ends_with_a_connection() {
        for &trouble in Trouble::ALL.iter().filter(|trouble| trouble.is_conflict()) {
            let advice = trouble.advice().expect("there is something to be done");
            assert!(
                advice.contains("'rdbadm connect RES'"),
                "{trouble:?}: {advice}"
            );
        }
    }

    #[test]
    fn each_has_a_word_of_its_own() {
        let words: alloc::collections::BTreeSet<_> =
            Trouble::ALL.iter().map(|t| t.word()).collect();
        assert_eq!(words.len(), Trouble::ALL.len());
    }
}
