//! How much others may make this node log.
//!
//! A stranger, a peer or a client can cause the same line as often as it likes. Of each kind of line some are said, then
//! one now and then, and the rest is counted and summed up. A kind is the text without its numbers. All kinds together have
//! a limit, too, for a text may hold a name that somebody else has chosen. What an administrator's command brings about does
//! not come here: it is always said.

use std::hash::{DefaultHasher, Hash, Hasher};

use rdb_engine::{Level, Time, VolumeNr};

/// Lines of one kind that are said at once.
const BURST: u32 = 20;
/// After how long another line of the kind may be said.
const REFILL_MS: u64 = 5000;
/// Lines of any kind that are said at once: more than a resource of many volumes has to say when it connects.
const TOTAL_BURST: u32 = 1000;
/// After how long another line of any kind may be said.
const TOTAL_REFILL_MS: u64 = 100;
/// Kinds that are told apart; what is beyond them shares the last one.
const KINDS_MAX: usize = 256;
/// How long what is left out is counted before it is summed up.
pub(crate) const SUM_MS: u64 = 10_000;

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) volume: Option<VolumeNr>,
    pub(crate) text: String,
}

/// What is said of one resource on account of others.
pub(crate) struct LogLimit {
    total: Bucket,
    kinds: Vec<Kind>,
}

/// How many lines may be said.
struct Bucket {
    tokens: u32,
    most: u32,
    refill_ms: u64,
    /// When the last token was added.
    refilled: Time,
}

impl Bucket {
    fn full(most: u32, refill_ms: u64, now: Time) -> Bucket {
        Bucket {
            tokens: most,
            most,
            refill_ms,
            refilled: now,
        }
    }

    fn is_full(&self) -> bool {
        self.tokens == self.most
    }

    fn refill(&mut self, now: Time) {
        let due = now.ms_since(self.refilled) / self.refill_ms;
        if self.is_full() || due == 0 {
            if self.is_full() {
                self.refilled = now;
            }
            return;
        }
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(due).min(self.most);
        self.refilled = now;
    }
}

struct Kind {
    key: u64,
    bucket: Bucket,
    left_out: u64,
    /// The last one left out.
    last: Option<Line>,
}

impl Kind {
    fn is_idle(&self) -> bool {
        self.bucket.is_full() && self.left_out == 0
    }
}

impl Default for LogLimit {
    fn default() -> Self {
        LogLimit {
            total: Bucket::full(TOTAL_BURST, TOTAL_REFILL_MS, Time(0)),
            kinds: Vec::new(),
        }
    }
}

impl LogLimit {
    /// The line, if it may be said now. Otherwise it is counted, and [`LogLimit::sums`] is to be asked in a while.
    pub(crate) fn admit(&mut self, now: Time, line: Line) -> Option<Line> {
        let key = key_of(&line);
        self.total.refill(now);
        let index = self.kind(now, key);
        let (kind, total) = (&mut self.kinds[index], &mut self.total);
        kind.bucket.refill(now);
        if kind.bucket.tokens > 0 && total.tokens > 0 {
            kind.bucket.tokens -= 1;
            total.tokens -= 1;
            return Some(line);
        }
        kind.left_out += 1;
        kind.last = Some(line);
        None
    }

    /// Where a kind is counted.
    fn kind(&mut self, now: Time, key: u64) -> usize {
        let known = self.kinds.iter().position(|kind| kind.key == key);
        known.unwrap_or_else(|| {
            for kind in &mut self.kinds {
                kind.bucket.refill(now);
            }
            if self.kinds.len() < KINDS_MAX {
                self.kinds.push(Kind {
                    key,
                    bucket: Bucket::full(BURST, REFILL_MS, now),
                    left_out: 0,
                    last: None,
                });
                return self.kinds.len() - 1;
            }
            match self.kinds.iter().position(Kind::is_idle) {
                Some(index) => {
                    self.kinds[index].key = key;
                    index
                }
                None => KINDS_MAX - 1,
            }
        })
    }

    /// What was left out since the last time, a line a kind.
    pub(crate) fn sums(&mut self) -> Vec<Line> {
        let sum = |kind: &mut Kind| {
            let count = std::mem::take(&mut kind.left_out);
            let last = kind.last.take()?;
            let text = format!(
                "{count} more lines like this one were left out: {}",
                last.text
            );
            Some(Line { text, ..last })
        };
        self.kinds.iter_mut().filter_map(sum).collect()
    }
}

/// The same for lines that differ in numbers only, decimal or hexadecimal.
fn key_of(line: &Line) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.volume.hash(&mut hasher);
    let words = line.text.split(|c: char| !c.is_alphanumeric());
    for word in words.filter(|word| !word.is_empty() && !is_number(word)) {
        word.hash(&mut hasher);
    }
    hasher.finish()
}

fn is_number(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: String) -> Line {
        Line {
            level: Level::Warn,
            volume: None,
            text,
        }
    }

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn a_flood_of_one_kind_is_counted_and_others_are_said() {
        let mut limit = LogLimit::default();
        let said = (0..100_000_u32)
            .filter(|n| {
                let text = format!("closed a connection from 10.0.0.{n}:{}: no peer", n * 7);
                limit.admit(at(u64::from(*n) / 100), line(text)).is_some()
            })
            .count();
        assert_eq!(said, BURST as usize);
        assert!(
            limit
                .admit(at(1000), line("something else".into()))
                .is_some()
        );
        let sums = limit.sums();
        assert_eq!(sums.len(), 1);
        assert_eq!(
            sums[0].text,
            "99980 more lines like this one were left out: \
             closed a connection from 10.0.0.99999:699993: no peer"
        );
        assert_eq!(limit.sums(), []);
        let later = at(1000 + 2 * REFILL_MS);
        let said = (0..10).filter(|_| {
            let text = "closed a connection from 10.0.0.1:1: no peer";
            limit.admit(later, line(text.into())).is_some()
        });
        assert_eq!(said.count(), 2, "a line every five seconds");
    }

    #[test]
    fn any_number_of_kinds_is_bounded_too() {
        let mut limit = LogLimit::default();
        let name = |mut n: u32| {
            let mut name = String::from("alg ");
            while n > 0 {
                name.push(char::from(b'a' + (n % 26) as u8));
                n /= 26;
            }
            name
        };
        let said = (0..100_000)
            .filter(|&n| limit.admit(at(0), line(name(n))).is_some())
            .count();
        assert!(said <= KINDS_MAX + BURST as usize, "{said}");
        assert!(limit.kinds.len() <= KINDS_MAX);
        let counted: u64 = limit.kinds.iter().map(|kind| kind.left_out).sum();
        assert_eq!(said as u64 + counted, 100_000);
        // Known kinds that come again share a limit, too.
        let again = (0..KINDS_MAX as u32 * BURST)
            .filter(|&n| {
                let line = line(name(n % KINDS_MAX as u32));
                limit.admit(at(0), line).is_some()
            })
            .count();
        assert_eq!(said + again, TOTAL_BURST as usize);
        // Later, what was once a flood makes room.
        let fresh = line("a new kind".into());
        limit.sums();
        assert!(limit.admit(at(10 * 60 * 1000), fresh).is_some());
    }
}
