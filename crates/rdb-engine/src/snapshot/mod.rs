//! Snapshots of both nodes at one frozen moment: what is under way, and what two nodes owe each other.
//!
//! ```text
//!   here: users' I/O is suspended, all is done and durable on both        the peer
//!        P_RDB_SNAPSHOT take ─────────────────────────────────────────►  refuses, or runs its handler
//!        ◄────────────────────────────────── P_RDB_SNAPSHOT_ANSWER begun
//!        the own command runs
//!        ◄────────────────────────────────── P_RDB_SNAPSHOT_ANSWER ended, refused, given up: the last word
//!        P_RDB_SNAPSHOT over ─────────────────────────────────────────►  writes come again
//!   users' I/O goes on
//! ```
//!
//! Each "take" has exactly one "over" and exactly one last word, unless the connection ends, which ends all of it. So neither node
//! has to guess what a late packet belongs to.

use alloc::format;
use alloc::string::String;

use replica_proto::{SnapshotAnswer, SnapshotName, SnapshotRefusal};

use crate::ids::{HandlerId, Session, Time};
use crate::rules::packets::Snapshot;

/// The snapshots of a resource.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// The one that this node's administrator takes.
    own: Option<Own>,
    /// The peer was told to take part. Set by that, cleared by its last word and with the connection. Without it a late answer
    /// would count for the next snapshot.
    asked: Option<Asked>,
    /// The peer takes one, and was answered. Set by its order, cleared when it says that it is over, and with the connection. Without
    /// it writes would be taken while the handler here runs.
    held: Option<Held>,
}

/// One that is taken from here.
#[derive(Debug)]
pub(crate) struct Own {
    name: SnapshotName,
    /// Since when.
    since: Time,
    here: OwnPart,
    there: PeersPart,
    /// The life of the connection in which the peer takes part; nothing if it does not.
    with: Option<Session>,
    /// Disks whose flush has not ended.
    flushes: u32,
}

/// How far it is on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnPart {
    Waits,
    Runs(HandlerId),
    Ended(i32),
}

/// How far it is on the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeersPart {
    Waits,
    Asked,
    Runs,
    Ended(u8),
    Refused(SnapshotRefusal),
    GivenUp(SnapshotRefusal),
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    session: Session,
    begun: bool,
}

/// The peer's.
#[derive(Debug)]
struct Held {
    name: SnapshotName,
    since: Time,
    session: Session,
    /// The handler, unless the last word has been said.
    runs: Option<HandlerId>,
}

/// What is to be done next for the one that is taken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The peer is to be told.
    Ask,
    /// The command is to be run here.
    Run,
    /// Somebody has not ended.
    Wait,
    /// All who take part have ended, or the peer does not.
    Over,
}

impl Snapshots {
    /// One is taken from here.
    pub(crate) fn begin(&mut self, name: SnapshotName, since: Time, with: Option<Session>) {
        self.own = Some(Own {
            name,
            since,
            here: OwnPart::Waits,
            there: PeersPart::Waits,
            with,
            flushes: 0,
        });
    }

    /// The one that is taken from here.
    pub(crate) fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }

    /// It is over.
    pub(crate) fn end(&mut self) -> Option<Own> {
        self.own.take()
    }

    /// Why none can be begun from here, by what is under way.
    pub(crate) fn busy(&self) -> Option<&'static str> {
        if self.own.is_some() {
            Some("a snapshot is under way")
        } else if self.held.is_some() {
            Some("the peer takes a snapshot")
        } else if self.asked.is_some() {
            Some("the peer has not said how the last snapshot ended there")
        } else {
            None
        }
    }

    pub(crate) fn flush_begins(&mut self) {
        if let Some(own) = &mut self.own {
            own.flushes += 1;
        }
    }

    pub(crate) fn flush_ended(&mut self) {
        if let Some(own) = &mut self.own {
            own.flushes = own.flushes.saturating_sub(1);
        }
    }

    /// The peer was told.
    pub(crate) fn ask(&mut self, session: Session) {
        let begun = false;
        self.asked = Some(Asked { session, begun });
        if let Some(own) = &mut self.own {
            own.there = PeersPart::Asked;
        }
    }

    /// The command runs here.
    pub(crate) fn runs(&mut self, id: HandlerId) {
        if let Some(own) = &mut self.own {
            own.here = OwnPart::Runs(id);
        }
    }

    /// The peer takes one, in this life of the connection; `runs` for it here, unless it was refused.
    pub(crate) fn hold(
        &mut self,
        name: SnapshotName,
        since: Time,
        session: Session,
        runs: Option<HandlerId>,
    ) {
        self.held = Some(Held {
            name,
            since,
            session,
            runs,
        });
    }

    /// Whether the peer takes one, and has not said that it is over.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// What the peer wants is given up: the handler that runs for it, if it has not ended.
    pub(crate) fn give_up_held(&mut self) -> Option<HandlerId> {
        self.held.as_mut()?.runs.take()
    }

    /// The peer has said that its snapshot is over.
    pub(crate) fn let_go(&mut self) {
        self.held = None;
    }

    /// This handler has ended. Says what the peer is to be told, if it was run for the peer and is waited for.
    pub(crate) fn ran(&mut self, id: HandlerId, exit: i32) -> Option<SnapshotAnswer> {
        let own = self.own.as_mut();
        if let Some(own) = own.filter(|own| own.here == OwnPart::Runs(id)) {
            own.here = OwnPart::Ended(exit);
            return None;
        }
        let held = self.held.as_mut();
        held.and_then(|held| held.runs.take_if(|runs| *runs == id))?;
        Some(SnapshotAnswer::Ended(u8::try_from(exit).unwrap_or(u8::MAX)))
    }

    /// What the peer says. `None` if a right one says no such thing now.
    pub(crate) fn answered(&mut self, answer: SnapshotAnswer) -> Option<()> {
        let asked = self.asked.as_mut()?;
        let there = match (answer, asked.begun) {
            (SnapshotAnswer::Begun, false) => PeersPart::Runs,
            (SnapshotAnswer::Ended(exit), true) => PeersPart::Ended(exit),
            (SnapshotAnswer::Refused(why), false) => PeersPart::Refused(why),
            (SnapshotAnswer::GivenUp(why), true) => PeersPart::GivenUp(why),
            _ => return None,
        };
        asked.begun = true;
        let session = asked.session;
        if there != PeersPart::Runs {
            self.asked = None;
        }
        // (It may be about one that was given up here.)
        let own = self.own.as_mut();
        if let Some(own) = own.filter(|own| own.with == Some(session)) {
            own.there = there;
        }
        Some(())
    }

    /// What the table of packets looks at.
    pub(crate) fn facts(&self, agreed: bool) -> Snapshot {
        let mut facts = Snapshot::empty();
        facts.set(Snapshot::AGREED, agreed);
        facts.set(Snapshot::ASKED, self.asked.is_some());
        facts.set(Snapshot::HELD, self.held.is_some());
        facts
    }

    /// What of the peer's belongs to another life of the connection is nothing any more. A handler that still runs for it.
    pub(crate) fn forget_others(&mut self, session: Session) -> Option<HandlerId> {
        self.asked = self.asked.filter(|asked| asked.session == session);
        let held = self.held.take_if(|held| held.session != session);
        held.and_then(|held| held.runs)
    }

    /// What is under way: its name, whether it is taken from here, since when.
    pub(crate) fn status(&self) -> Option<(SnapshotName, bool, Time)> {
        let own = self.own.as_ref().map(|own| (own.name, true, own.since));
        let held = self.held.as_ref();
        own.or_else(|| held.map(|held| (held.name, false, held.since)))
    }

    /// # Panics
    /// If one waits for a handler that does not run: users would wait until its time is over.
    pub(crate) fn check(&self, runs: impl Fn(HandlerId) -> bool) {
        let own = self.own.as_ref().and_then(Own::running);
        let held = self.held.as_ref().and_then(|held| held.runs);
        let comes = own.into_iter().chain(held).all(runs);
        assert!(comes, "a snapshot waits for no handler");
    }
}

impl Own {
    /// What comes next; the own users' I/O is done and durable.
    pub(crate) fn next(&self) -> Next {
        if self.flushes > 0 {
            return Next::Wait;
        }
        let alone = self.with.is_none();
        match (self.there, self.here) {
            (PeersPart::Refused(_), _) => Next::Over,
            (PeersPart::GivenUp(_) | PeersPart::Ended(_), OwnPart::Ended(_)) => Next::Over,
            (PeersPart::Waits, OwnPart::Ended(_)) if alone => Next::Over,
            (PeersPart::Waits, OwnPart::Waits) if alone => Next::Run,
            (PeersPart::Waits, OwnPart::Waits) => Next::Ask,
            (PeersPart::Runs | PeersPart::Ended(_), OwnPart::Waits) => Next::Run,
            // Nothing is begun here that the peer has not.
            (PeersPart::GivenUp(_), OwnPart::Waits) => Next::Over,
            _ => Next::Wait,
        }
    }

    /// The connection in which the peer takes part, if it does.
    pub(crate) fn with(&self) -> Option<Session> {
        self.with
    }

    /// The command that runs here.
    pub(crate) fn running(&self) -> Option<HandlerId> {
        match self.here {
            OwnPart::Runs(id) => Some(id),
            OwnPart::Waits | OwnPart::Ended(_) => None,
        }
    }

    /// Whether every node that takes part has it.
    pub(crate) fn is_good(&self) -> bool {
        let there = self.with.is_none() || self.there == PeersPart::Ended(0);
        self.here == OwnPart::Ended(0) && there
    }

    /// Whether the peer was told that it begins, and has to be told that it is over.
    pub(crate) fn is_told(&self) -> bool {
        self.there != PeersPart::Waits
    }

    /// What became of it on each node, and what it may have left behind.
    pub(crate) fn account(&self) -> String {
        let here = match self.here {
            OwnPart::Waits => "here: not run".into(),
            OwnPart::Runs(_) => "here: ended by force".into(),
            OwnPart::Ended(exit) => format!("here: exit {exit}"),
        };
        if self.with.is_none() {
            return format!("{here}{}", self.remains());
        }
        let there = match self.there {
            PeersPart::Waits => "peer: not asked".into(),
            PeersPart::Asked => "peer: no answer".into(),
            PeersPart::Runs => "peer: had not ended".into(),
            PeersPart::Ended(exit) => format!("peer: exit {exit}"),
            PeersPart::Refused(why) => format!("peer: refused: {why}"),
            PeersPart::GivenUp(why) => format!("peer: given up: {why}"),
        };
        format!("{here}; {there}{}", self.remains())
    }

    fn remains(&self) -> String {
        let name = &self.name;
        let part = |node: &str| format!(", and parts of it may {node}");
        let here_part = matches!(self.here, OwnPart::Runs(_) | OwnPart::Ended(1..));
        let there_part = match self.there {
            PeersPart::Asked | PeersPart::Runs | PeersPart::GivenUp(_) | PeersPart::Ended(1..) => {
                true
            }
            PeersPart::Waits | PeersPart::Ended(0) | PeersPart::Refused(_) => false,
        };
        let whole = match (
            self.here == OwnPart::Ended(0),
            self.there == PeersPart::Ended(0),
        ) {
            (true, true) => "exists on both nodes",
            (true, false) => "exists here alone",
            (false, true) => "exists on the peer alone",
            (false, false) if here_part || there_part => "is whole on neither node",
            (false, false) => return String::new(),
        };
        let parts = match (here_part, there_part) {
            (true, true) => part("be on both nodes"),
            (true, false) => part("be here"),
            (false, true) => part("be on the peer"),
            (false, false) => String::new(),
        };
        format!("; snapshot '{name}' {whole}{parts}: remove it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnId;

    fn session(nr: usize) -> Session {
        let first = Session::first(ConnId::FIRST);
        (0..nr).fold(first, |session, _| session.next())
    }

    fn begun(with: Option<Session>) -> Snapshots {
        let mut all = Snapshots::default();
        all.begin(SnapshotName::new("s").unwrap(), Time(0), with);
        all
    }

    fn next(all: &Snapshots) -> Next {
        all.own().expect("one is under way").next()
    }

    #[test]
    fn nothing_is_run_here_before_the_peer_has_begun() {
        let mut all = begun(Some(session(1)));
        all.flush_begins();
        assert_eq!(next(&all), Next::Wait);
        all.flush_ended();
        assert_eq!(next(&all), Next::Ask);
        all.ask(session(1));
        all.answered(SnapshotAnswer::Begun).unwrap();
        assert_eq!(next(&all), Next::Run);
        all.runs(HandlerId(1));
        all.answered(SnapshotAnswer::Ended(0)).unwrap();
        assert_eq!(next(&all), Next::Wait);
        assert_eq!(all.ran(HandlerId(1), 0), None);
        assert_eq!(
            (next(&all), all.own().unwrap().is_good()),
            (Next::Over, true)
        );
    }

    #[test]
    fn of_the_peers_words_each_has_its_place() {
        let why = SnapshotRefusal::Busy;
        let words = [
            SnapshotAnswer::Begun,
            SnapshotAnswer::Ended(0),
            SnapshotAnswer::Refused(why),
            SnapshotAnswer::GivenUp(why),
        ];
        for first in words {
            let mut all = begun(Some(session(1)));
            assert_eq!(all.answered(first), None, "it was not asked");
            all.ask(session(1));
            let opens = matches!(first, SnapshotAnswer::Begun | SnapshotAnswer::Refused(_));
            assert_eq!(all.answered(first).is_some(), opens, "{first:?}");
            if first != SnapshotAnswer::Begun {
                continue;
            }
            for second in words {
                let mut all = begun(Some(session(1)));
                all.ask(session(1));
                all.answered(first).unwrap();
                let ends = matches!(
                    second,
                    SnapshotAnswer::Ended(_) | SnapshotAnswer::GivenUp(_)
                );
                assert_eq!(all.answered(second).is_some(), ends, "{second:?}");
                assert_eq!(all.answered(second), None, "that was the last word");
            }
        }
    }

    #[test]
    fn a_late_last_word_is_not_taken_for_the_next_ones() {
        let mut all = begun(Some(session(1)));
        all.ask(session(1));
        all.answered(SnapshotAnswer::Begun).unwrap();
        all.end();
        assert!(all.busy().is_some());
        all.answered(SnapshotAnswer::Ended(0)).unwrap();
        assert_eq!(all.busy(), None);
        // Or the connection ends.
        all.ask(session(1));
        all.forget_others(session(2));
        assert_eq!(all.busy(), None);
    }

    #[test]
    fn the_peer_hears_once_how_its_snapshot_ended_here() {
        let mut all = Snapshots::default();
        let name = SnapshotName::new("s").unwrap();
        let hold = |all: &mut Snapshots| all.hold(name, Time(0), session(1), Some(HandlerId(1)));
        hold(&mut all);
        assert_eq!(all.ran(HandlerId(2), 0), None, "it was run for nobody");
        let ended = Some(SnapshotAnswer::Ended(u8::MAX));
        assert_eq!(all.ran(HandlerId(1), 1000), ended);
        assert_eq!(all.give_up_held(), None, "it has ended");
        assert!(all.is_held(), "until the peer says that it is over");
        all.let_go();
        hold(&mut all);
        assert_eq!(all.give_up_held(), Some(HandlerId(1)));
        assert_eq!(all.ran(HandlerId(1), 0), None, "it was given up");
    }

    #[test]
    fn an_account_says_what_is_left() {
        let all = |here, there, with| {
            let mut all = begun(with);
            let own = all.own.as_mut().unwrap();
            own.here = here;
            own.there = there;
            own.account()
        };
        let with = Some(session(1));
        assert_eq!(
            all(OwnPart::Ended(0), PeersPart::Ended(3), with),
            "here: exit 0; peer: exit 3; snapshot 's' exists here alone, and parts of it may be on the peer: remove it"
        );
        assert_eq!(
            all(
                OwnPart::Waits,
                PeersPart::Refused(SnapshotRefusal::NoHandler),
                with
            ),
            "here: not run; peer: refused: no handler 'snapshot' is configured"
        );
        assert_eq!(
            all(OwnPart::Runs(HandlerId(1)), PeersPart::Runs, with),
            "here: ended by force; peer: had not ended; snapshot 's' is whole on neither node, and parts of it may be on both nodes: remove it"
        );
        assert_eq!(
            all(OwnPart::Ended(1), PeersPart::Waits, None),
            "here: exit 1; snapshot 's' is whole on neither node, and parts of it may be here: remove it"
        );
    }
}
