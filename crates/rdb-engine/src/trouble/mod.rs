//! What is remembered of what went wrong, for those who ask later: why there is no connection, and what became of a disk.

use alloc::string::String;

use crate::ids::Time;
use crate::rules::disk_reason::Lost;
use crate::rules::trouble::Trouble;
use crate::status::LinkTrouble;

/// What is, or was, in the way of the connection.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// Why there is no connection. Cleared by one that comes to something, and by an administrator who connects.
    last: Option<Troubled>,
    /// The last conflict of the nodes' data, or users, that a handshake came to. Set by it, cleared by one that ends well: a new
    /// attempt of one node's administrator solves none. Without it `status` forgets a split brain as soon as nobody answers.
    conflict: Option<Troubled>,
}

#[derive(Debug, Clone)]
struct Troubled {
    kind: Trouble,
    text: String,
    /// When it was first of this kind, whatever was said of it since.
    since: Time,
}

impl Troubles {
    /// This is in the way now, if nothing is known that says more.
    pub(crate) fn note(&mut self, kind: Trouble, text: String, now: Time) {
        if !kind.replaces(self.last.as_ref().map(|last| last.kind)) {
            return;
        }
        let same = self.last.as_ref().filter(|last| last.kind == kind);
        let since = same.map_or(now, |last| last.since);
        let trouble = Troubled { kind, text, since };
        if kind.is_conflict() {
            self.conflict = Some(trouble.clone());
        }
        self.last = Some(trouble);
    }

    /// An administrator connects: what was in the way of the last connection need not be in that of this one.
    pub(crate) fn forget_last(&mut self) {
        self.last = None;
    }

    /// The connection has come to something.
    pub(crate) fn clear(&mut self) {
        *self = Troubles::default();
    }

    /// This is not in the way any more. Says whether it was.
    pub(crate) fn end(&mut self, kind: Trouble) -> bool {
        self.last.take_if(|last| last.kind == kind).is_some()
    }

    /// Whether that was said last, of this kind.
    pub(crate) fn says(&self, kind: Trouble, text: &str) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|last| last.kind == kind && last.text == text)
    }

    /// What operators are told, of the last trouble and the last conflict.
    pub(crate) fn told(&self, now: Time) -> Option<LinkTrouble> {
        let told = match &self.last {
            Some(last) if !last.kind.is_told_after_conflict() => last,
            last => self.conflict.as_ref().or(last.as_ref())?,
        };
        Some(LinkTrouble {
            kind: told.kind,
            text: told.text.clone(),
            for_ms: now.ms_since(told.since),
        })
    }
}

/// What became of a disk.
#[derive(Debug, Clone)]
pub(crate) struct DiskLost {
    what: Option<Lost>,
    /// Why an attach was refused since then, though nothing is wrong with the disk. Goes with the next attach that is not.
    older: Option<String>,
    since: Time,
}

impl DiskLost {
    pub(crate) fn new(what: Lost, since: Time) -> DiskLost {
        DiskLost {
            what: Some(what),
            older: None,
            since,
        }
    }

    /// The disk of which `known` was known was refused now, for no more than being older than what users have seen.
    pub(crate) fn refused_as_older(known: Option<DiskLost>, why: String, now: Time) -> DiskLost {
        let (what, since) = known.map_or((None, now), |known| (known.what, known.since));
        DiskLost {
            what,
            older: Some(why),
            since,
        }
    }

    /// What became of it, unless it has only been refused as older.
    pub(crate) fn what(&self) -> Option<&Lost> {
        self.what.as_ref()
    }

    /// Why it was refused as older since then.
    pub(crate) fn older(&self) -> Option<&String> {
        self.older.as_ref()
    }

    /// Since when.
    pub(crate) fn since(&self) -> Time {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told at the twentieth millisecond after these, each with its time.
    fn told(noted: &[(Trouble, u64)]) -> Option<(Trouble, u64)> {
        let mut troubles = Troubles::default();
        for &(kind, at) in noted {
            troubles.note(kind, "".into(), Time(0).plus_ms(at));
        }
        let told = troubles.told(Time(0).plus_ms(20));
        told.map(|told| (told.kind, told.for_ms))
    }

    #[test]
    fn trouble_of_one_kind_lasts_from_its_first_word_on() {
        use Trouble::{Lost, NoAnswer, Secret};
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[(Lost, 10), (Lost, 15)]), Some((Lost, 10)));
        assert_eq!(told(&[(Lost, 10), (NoAnswer, 15)]), Some((Lost, 10)));
        assert_eq!(told(&[(Lost, 10), (Secret, 15)]), Some((Secret, 5)));
    }

    #[test]
    fn a_conflict_is_told_before_what_says_less_until_the_nodes_have_met() {
        use Trouble::{Lost, Secret, SplitBrain};
        let mut troubles = Troubles::default();
        let kind = |troubles: &Troubles| troubles.told(Time(0)).map(|told| told.kind);
        troubles.note(SplitBrain, "".into(), Time(0));
        troubles.forget_last();
        assert_eq!(kind(&troubles), Some(SplitBrain));
        troubles.note(Lost, "".into(), Time(0));
        assert_eq!(kind(&troubles), Some(SplitBrain));
        troubles.note(Secret, "".into(), Time(0));
        assert_eq!(kind(&troubles), Some(Secret));
        troubles.clear();
        assert_eq!(kind(&troubles), None);
    }

    #[test]
    fn what_ends_was_said_last() {
        let (kind, mut troubles) = (Trouble::OwnAddress, Troubles::default());
        assert!(!troubles.end(kind));
        troubles.note(kind, "no such address".into(), Time(0));
        assert!(troubles.says(kind, "no such address") && !troubles.says(kind, "in use"));
        assert!(!troubles.end(Trouble::Lost) && troubles.end(kind));
        assert!(!troubles.says(kind, "no such address"));
    }

    #[test]
    fn a_disk_refused_as_older_is_lost_as_before() {
        let lost = DiskLost::new(Lost::Detached, Time(1));
        let older = DiskLost::refused_as_older(Some(lost), "older".into(), Time(2));
        assert_eq!(older.what(), Some(&Lost::Detached));
        assert_eq!((older.older().is_some(), older.since()), (true, Time(1)));
        let unknown = DiskLost::refused_as_older(None, "older".into(), Time(2));
        assert_eq!((unknown.what(), unknown.since()), (None, Time(2)));
    }
}
