//! What becomes of a command whose caller has gone: interrupted, out of patience, or dead.
//!
//! A command that has decided nothing ends as if it had not been given. One that has is not undone by forgetting it: either
//! what follows goes on by itself (a disk that has been given up, a superblock on its way), or there is a last step that
//! only the command does, and it does that without its caller.

/// What a command does, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `attach`.
    Attach,
    /// `primary`.
    Promote,
    /// `invalidate` and `invalidate-remote`.
    FullSync,
    /// `new-current-uuid`.
    NewGeneration,
    /// `disconnect`.
    Disconnect,
    /// Everything else.
    Other,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It waits for its turn.
    Queued,
    /// It waits, and nothing has changed.
    Undecided,
    /// The peer has been asked, and may have made the change already.
    Asked,
    /// The change is made; the command waits until that is on record, or has come to its end.
    Decided,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It ends now.
    Ends,
    /// It goes on without its caller.
    GoesOn,
}

/// The table.
pub fn fate(kind: Kind, progress: Progress) -> Fate {
    use Fate::{Ends, GoesOn};

    match (progress, kind) {
        (Progress::Queued | Progress::Undecided, _) => Ends,
        // A peer that consents to a full sync has begun it. Other changes it takes back when it hears of our state; but one
        // that consents to parting waits for our end of the connection, and one that consents to a detach has gone on
        // alone: with these the connection is made anew.
        (Progress::Asked, Kind::FullSync) => GoesOn,
        (Progress::Asked, _) => Ends,
        // The device is announced, the peer is told the generation, and the attach has steps to go.
        (Progress::Decided, Kind::Promote | Kind::NewGeneration | Kind::Attach) => GoesOn,
        (Progress::Decided, _) => Ends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_decided_nothing_ends() {
        for kind in [
            Kind::Attach,
            Kind::Promote,
            Kind::FullSync,
            Kind::NewGeneration,
            Kind::Disconnect,
            Kind::Other,
        ] {
            assert_eq!(fate(kind, Progress::Queued), Fate::Ends);
            assert_eq!(fate(kind, Progress::Undecided), Fate::Ends);
        }
    }

    #[test]
    fn only_a_full_sync_outlives_a_question_that_nobody_answers() {
        for kind in [
            Kind::Attach,
            Kind::Promote,
            Kind::NewGeneration,
            Kind::Disconnect,
            Kind::Other,
        ] {
            assert_eq!(fate(kind, Progress::Asked), Fate::Ends);
        }
        assert_eq!(fate(Kind::FullSync, Progress::Asked), Fate::GoesOn);
    }
}
