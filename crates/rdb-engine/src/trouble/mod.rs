//! What is remembered of what went wrong, for those who ask later: why there is no connection, and what became of a disk.

use alloc::string::String;

use crate::ids::Time;
use crate::rules::disk_reason::Lost;
use crate::rules::trouble::Trouble;
use crate::status::LinkTrouble;

/// What is in the way of the connection.
#[derive(Debug, Clone)]
pub(crate) struct Troubled {
    kind: Trouble,
    text: String,
    /// When it was first of this kind, whatever was said of it since.
    since: Time,
}

impl Troubled {
    /// This is in the way now. Nothing if `known` says more.
    pub(crate) fn after(
        known: Option<&Troubled>,
        kind: Trouble,
        text: String,
        now: Time,
    ) -> Option<Troubled> {
        let old = known.map(|known| known.kind);
        let same = known.filter(|known| known.kind == kind);
        let since = same.map_or(now, |known| known.since);
        kind.replaces(old).then_some(Troubled { kind, text, since })
    }

    /// What of the last trouble and the last conflict is told.
    pub(crate) fn told<'a>(
        trouble: Option<&'a Troubled>,
        conflict: Option<&'a Troubled>,
    ) -> Option<&'a Troubled> {
        match trouble {
            Some(trouble) if !trouble.kind.is_told_after_conflict() => Some(trouble),
            trouble => conflict.or(trouble),
        }
    }

    /// Whether it is of this kind.
    pub(crate) fn is(&self, kind: Trouble) -> bool {
        self.kind == kind
    }

    /// Whether that was said of it last.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.text == text
    }

    /// As operators see it.
    pub(crate) fn status(&self, now: Time) -> LinkTrouble {
        LinkTrouble {
            kind: self.kind,
            text: self.text.clone(),
            for_ms: now.ms_since(self.since),
        }
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

    fn after(known: Option<&Troubled>, kind: Trouble, at: u64) -> Option<Troubled> {
        Troubled::after(known, kind, "".into(), Time(0).plus_ms(at))
    }

    #[test]
    fn trouble_of_one_kind_lasts_from_its_first_word_on() {
        let first = after(None, Trouble::Lost, 1);
        let again = after(first.as_ref(), Trouble::Lost, 5).unwrap();
        let now = Time(0).plus_ms(11);
        assert_eq!(again.status(now).for_ms, 10);
        assert!(after(Some(&again), Trouble::NoAnswer, 6).is_none());
        let other = after(Some(&again), Trouble::Secret, 6).unwrap();
        assert_eq!(other.status(now).for_ms, 5);
    }

    #[test]
    fn a_conflict_is_told_before_what_says_less() {
        let conflict = after(None, Trouble::SplitBrain, 0);
        let (lost, secret) = (
            after(None, Trouble::Lost, 1),
            after(None, Trouble::Secret, 1),
        );
        let told = |trouble: &Option<Troubled>| {
            let told = Troubled::told(trouble.as_ref(), conflict.as_ref());
            told.map(|told| told.kind)
        };
        assert_eq!(told(&None), Some(Trouble::SplitBrain));
        assert_eq!(told(&lost), Some(Trouble::SplitBrain));
        assert_eq!(told(&secret), Some(Trouble::Secret));
        assert!(Troubled::told(lost.as_ref(), None).is_some_and(|told| told.is(Trouble::Lost)));
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
