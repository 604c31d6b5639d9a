//! What has happened, a line each, as the daemon has told it.

use std::collections::{BTreeMap, VecDeque};

use rdb_control::{Event, HistoryEvent, Pause, Suspension, Told, VolumeStates};

/// Lines that are kept.
const LINES_MAX: usize = 500;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When, in seconds since 1970.
    pub(crate) at_s: u64,
    /// What it is about: `r0`, `r0/1`; nothing for the node.
    pub(crate) about: String,
    /// The resource, if it is about one.
    pub(crate) resource: Option<String>,
    /// What has happened.
    pub(crate) text: String,
}

/// All lines, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Entry>,
    /// The state of each volume that was told last.
    states: BTreeMap<(String, u16), VolumeStates>,
}

impl Journal {
    /// The lines.
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Something about the node.
    pub(crate) fn note(&mut self, at_s: u64, text: &str) {
        self.put(at_s, None, None, text.to_owned());
    }

    /// Takes note of what the daemon tells.
    pub(crate) fn tell(&mut self, told: &Told) {
        let at_s = told.at_us / 1_000_000;
        match &told.event {
            Event::Resource { resource } => {
                for volume in &resource.volumes {
                    if let Some(new) = VolumeStates::of(volume) {
                        self.change(at_s, &resource.name, volume.volume, new);
                    }
                }
            }
            Event::Changed {
                resource,
                volume,
                new,
                ..
            } => self.change(at_s, resource, *volume, *new),
            Event::Complete => {}
            Event::Skipped { count } => {
                self.note(at_s, &format!("{count} events were too many to be told"));
            }
            Event::Created { resource } => {
                self.put(
                    at_s,
                    Some(resource),
                    None,
                    HistoryEvent::Created.to_string(),
                );
            }
            Event::Removed { resource } => {
                self.states.retain(|(name, _), _| name != resource);
                self.put(
                    at_s,
                    Some(resource),
                    None,
                    HistoryEvent::Removed.to_string(),
                );
            }
            Event::VolumeCreated {
                resource,
                volume,
                minor,
            } => {
                let text = format!("the volume is made, minor {minor}");
                self.put(at_s, Some(resource), Some(*volume), text);
            }
            Event::VolumeRemoved { resource, volume } => {
                self.states.remove(&(resource.clone(), *volume));
                let text = "the volume is removed".to_owned();
                self.put(at_s, Some(resource), Some(*volume), text);
            }
            Event::HandlerCalled(of) => {
                let text = format!("handler {} is called", of.handler);
                self.put(at_s, Some(&of.resource), of.volume, text);
            }
            Event::HandlerEnded { of, exit } => {
                let (name, exit) = (of.handler.clone(), *exit);
                let text = HistoryEvent::Handler { name, exit }.to_string();
                self.put(at_s, Some(&of.resource), of.volume, text);
            }
        }
    }

    fn change(&mut self, at_s: u64, resource: &str, volume: u16, new: VolumeStates) {
        let key = (resource.to_owned(), volume);
        let Some(old) = self.states.insert(key, new) else {
            return;
        };
        for text in differences(&old, &new) {
            self.put(at_s, Some(resource), Some(volume), text);
        }
    }

    fn put(&mut self, at_s: u64, resource: Option<&str>, volume: Option<u16>, text: String) {
        let about = match (resource, volume) {
            (None, _) => String::new(),
            (Some(name), None) => name.to_owned(),
            (Some(name), Some(nr)) => format!("{name}/{nr}"),
        };
        if self.entries.len() == LINES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            at_s,
            about,
            resource: resource.map(str::to_owned),
            text,
        });
    }
}

/// What is different, in the words of the histories.
fn differences(old: &VolumeStates, new: &VolumeStates) -> Vec<String> {
    let words = |old: &str, new: &str| {
        let is_other = old != new;
        is_other.then(|| (old.to_owned(), new.to_owned()))
    };
    let (from, to) = (old, new);
    let mut all: Vec<String> = [
        words(from.role.as_str(), to.role.as_str())
            .map(|(from, to)| HistoryEvent::Role { from, to }),
        words(from.cstate.as_str(), to.cstate.as_str())
            .map(|(from, to)| HistoryEvent::Connection { from, to }),
        words(from.disk.as_str(), to.disk.as_str())
            .map(|(from, to)| HistoryEvent::Disk { from, to }),
        words(from.peer_role.as_str(), to.peer_role.as_str())
            .map(|(from, to)| HistoryEvent::PeerRole { from, to }),
        words(from.peer_disk.as_str(), to.peer_disk.as_str())
            .map(|(from, to)| HistoryEvent::PeerDisk { from, to }),
    ]
    .into_iter()
    .flatten()
    .map(|event| event.to_string())
    .collect();
    if old.suspended != new.suspended {
        let waits = set(new.suspended, Suspension::ALL.map(Suspension::as_str));
        all.push(match waits.is_empty() {
            true => "users' requests go on".to_owned(),
            false => format!("users' requests wait ({waits})"),
        });
    }
    if old.resync_suspended != new.resync_suspended {
        let waits = set(new.resync_suspended, Pause::ALL.map(Pause::as_str));
        all.push(match waits.is_empty() {
            true => "resyncs may go on".to_owned(),
            false => format!("resyncs are paused ({waits})"),
        });
    }
    all
}

fn set(are_set: [bool; 3], words: [&str; 3]) -> String {
    let both = are_set.into_iter().zip(words);
    let words: Vec<&str> = both.filter_map(|(is_set, w)| is_set.then_some(w)).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use rdb_control::samples::{good_volume, resource};
    use rdb_control::{ConnState, DiskState, HandlerOf, Role};

    use super::*;

    fn told(at_s: u64, event: Event) -> Told {
        let at_us = at_s * 1_000_000;
        Told { at_us, event }
    }

    fn texts(journal: &Journal) -> Vec<String> {
        let line = |e: &Entry| format!("{} {}: {}", e.at_s, e.about, e.text);
        journal.entries().map(line).collect()
    }

    #[test]
    fn what_has_changed_is_told_in_the_words_of_the_histories() {
        let mut journal = Journal::default();
        let good = resource("r0", vec![good_volume()]);
        let states = VolumeStates::of(&good.volumes[0]).unwrap();
        let resource = Box::new(good);
        journal.tell(&told(1, Event::Resource { resource }));
        journal.tell(&told(1, Event::Complete));
        let new = VolumeStates {
            cstate: ConnState::NetworkFailure,
            peer_role: Role::Unknown,
            peer_disk: DiskState::DUnknown,
            suspended: [false, false, true],
            ..states
        };
        let changed = |new| Event::Changed {
            resource: "r0".to_owned(),
            volume: 0,
            new,
            figures: None,
        };
        journal.tell(&told(2, changed(new)));
        journal.tell(&told(2, changed(new)));
        journal.tell(&told(
            3,
            changed(VolumeStates {
                suspended: [false; 3],
                ..new
            }),
        ));
        let handler = HandlerOf {
            resource: "r0".to_owned(),
            volume: None,
            handler: "fence-peer".to_owned(),
        };
        journal.tell(&told(
            4,
            Event::HandlerEnded {
                of: handler,
                exit: 4,
            },
        ));
        assert_eq!(
            texts(&journal),
            [
                "2 r0/0: connection Connected -> NetworkFailure",
                "2 r0/0: the peer's role Secondary -> Unknown",
                "2 r0/0: the peer's disk UpToDate -> DUnknown",
                "2 r0/0: users' requests wait (fencing)",
                "3 r0/0: users' requests go on",
                "4 r0: handler fence-peer has ended with 4",
            ]
        );
    }

    #[test]
    fn the_oldest_lines_are_dropped() {
        let mut journal = Journal::default();
        for at in 0..=LINES_MAX as u64 {
            journal.note(at, "x");
        }
        assert_eq!(journal.entries().count(), LINES_MAX);
        assert_eq!(journal.entries().next().map(|e| e.at_s), Some(1));
    }
}
