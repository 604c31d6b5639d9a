//! How much others may make this node log.
//!
//! A stranger, a peer or a client can cause the same line as often as it likes. Of each kind of line some are said, then
//! one now and then, and the rest is counted and summed up. A kind is the text without its numbers. What this node does
//! by itself, changes of its own state, and errors of its own disks do not come here: they are always said.

use std::hash::{DefaultHasher, Hash, Hasher};

use rdb_engine::{Level, Time, VolumeNr};

/// Lines of one kind that are said at once.
const BURST: u32 = 20;
/// After how long another line of the kind may be said.
const REFILL_MS: u64 = 5000;
/// Kinds that are told apart; what is beyond them shares the last one.
const KINDS_MAX: usize = 32;
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
#[derive(Default)]
pub(crate) struct LogLimit {
    kinds: Vec<Kind>,
}

struct Kind {
    key: u64,
    tokens: u32,
    /// When the last token was added.
    refilled: Time,
    left_out: u64,
    /// The last one left out.
    last: Option<Line>,
}

impl Kind {
    fn refill(&mut self, now: Time) {
        let due = now.ms_since(self.refilled) / REFILL_MS;
        if self.tokens == BURST || due == 0 {
            if self.tokens == BURST {
                self.refilled = now;
            }
            return;
        }
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(due).min(BURST);
        self.refilled = now;
    }

    fn is_idle(&self) -> bool {
        self.tokens == BURST && self.left_out == 0
    }
}

impl LogLimit {
    /// The line, if it may be said now. Otherwise it is counted, and [`LogLimit::sums`] is to be asked in a while.
    pub(crate) fn admit(&mut self, now: Time, line: Line) -> Option<Line> {
        let key = key_of(&line);
        let kind = self.kind(now, key);
        kind.refill(now);
        if kind.tokens > 0 {
            kind.tokens -= 1;
            return Some(line);
        }
        kind.left_out += 1;
        kind.last = Some(line);
        None
    }

    fn kind(&mut self, now: Time, key: u64) -> &mut Kind {
        let known = self.kinds.iter().position(|kind| kind.key == key);
        let index = known.unwrap_or_else(|| {
            for kind in &mut self.kinds {
                kind.refill(now);
            }
            if self.kinds.len() < KINDS_MAX {
                self.kinds.push(Kind {
                    key,
                    tokens: BURST,
                    refilled: now,
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
        });
        &mut self.kinds[index]
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
        assert!(said <= KINDS_MAX * BURST as usize, "{said}");
        assert!(limit.kinds.len() <= KINDS_MAX);
        let counted: u64 = limit.kinds.iter().map(|kind| kind.left_out).sum();
        assert_eq!(said as u64 + counted, 100_000);
        // Later, what was once a flood makes room.
        let fresh = line("a new kind".into());
        limit.sums();
        assert!(limit.admit(at(10 * 60 * 1000), fresh).is_some());
    }
}
