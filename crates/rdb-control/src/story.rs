//! What a history tells of a volume: since when, and who was Primary when.

use serde::{Deserialize, Serialize};

use crate::history::{HistoryEvent, HistoryLine, Identifiers, Instant, SideSeen};

/// A time in which a node was Primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Primary {
    /// Since when; nothing if that was before the history begins.
    pub from: Option<Instant>,
    /// Until when; nothing if it is so still, or ended with a crash.
    pub to: Option<Instant>,
    /// The promotion was forced.
    pub forced: bool,
}

/// What the peer has told when both met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PeerSeen {
    /// When.
    pub at: Instant,
    /// What.
    pub told: SideSeen,
}

/// What the history says of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Story {
    /// When the current generation began, if it began here.
    pub since: Option<Instant>,
    /// When the two nodes were connected last; nothing if the history does not say, or they are connected.
    pub parted: Option<Instant>,
    /// When this node was Primary since then, ascending.
    pub primary: Vec<Primary>,
    /// What the peer told at the last split brain of this generation.
    pub seen_peer: Option<PeerSeen>,
    /// Lines of the volume since a little before they parted.
    pub first_line: usize,
}

impl Story {
    /// The story of a volume whose disk has these identifiers now.
    pub fn of(lines: &[HistoryLine], volume: u16, ids: Option<&Identifiers>) -> Story {
        let mut story = Story::default();
        let current = ids.map(|ids| ids.current);
        let (mut open, mut known) = (None::<Primary>, Vec::new());
        // The last line at which both were connected, while they are.
        let mut together = None;
        for (index, line) in lines.iter().enumerate() {
            if line.volume.is_some_and(|other| other != volume) {
                continue;
            }
            match &line.event {
                HistoryEvent::Role { from, to } => {
                    if to == PRIMARY {
                        close(&mut open, None, &mut known);
                        open = Some(Primary {
                            from: Some(line.at),
                            to: None,
                            forced: false,
                        });
                    } else if from == PRIMARY {
                        open.get_or_insert(Primary {
                            from: None,
                            to: None,
                            forced: false,
                        });
                        close(&mut open, Some(line.at), &mut known);
                    }
                }
                HistoryEvent::ForcedPromotion => {
                    if let Some(primary) = &mut open {
                        primary.forced = true;
                    }
                }
                // (It begins as Secondary: whatever it was before ended with the daemon.)
                HistoryEvent::Created => {
                    close(&mut open, None, &mut known);
                    if let Some(at) = together.take() {
                        story.parted = Some(at);
                        story.first_line = index;
                    }
                }
                HistoryEvent::Connection { from, to } => {
                    if is_together(to) {
                        story.parted = None;
                        together = Some(line.at);
                    } else if is_together(from) {
                        story.parted = Some(line.at);
                        story.first_line = index;
                        together = None;
                    }
                }
                HistoryEvent::Generation { new, .. }
                    if current.is_some_and(|current| new.current.is_same(current)) =>
                {
                    story.since = Some(line.at);
                }
                HistoryEvent::SplitBrain { own, peer, .. }
                    if current.is_some_and(|current| own.identifiers.current.is_same(current)) =>
                {
                    story.seen_peer = Some(PeerSeen {
                        at: line.at,
                        told: *peer,
                    });
                }
                _ => {}
            }
            together = together.map(|_| line.at);
        }
        known.extend(open);
        let parted = story.parted;
        known.retain(|primary: &Primary| primary.to.is_none_or(|to| Some(to) >= parted));
        story.primary = known;
        story
    }
}

/// DRBD's word.
const PRIMARY: &str = "Primary";

fn close(open: &mut Option<Primary>, to: Option<Instant>, known: &mut Vec<Primary>) {
    if let Some(mut primary) = open.take() {
        primary.to = to;
        known.push(primary);
    }
}

/// Whether a state of the connection, in DRBD's word, is one with a peer.
fn is_together(word: &str) -> bool {
    use replica_proto::state::ConnState;
    word.parse::<ConnState>()
        .is_ok_and(|state| state >= ConnState::Connected)
}

#[cfg(test)]
mod tests {
    use replica_proto::state::Role;

    use super::*;

    fn ids(current: u64) -> Identifiers {
        Identifiers::of([current, 0xB0, 0, 0])
    }

    fn line(at: u64, event: HistoryEvent) -> HistoryLine {
        HistoryLine {
            at: Instant(at),
            volume: Some(0),
            event,
        }
    }

    fn role(from: &str, to: &str) -> HistoryEvent {
        let (from, to) = (from.to_owned(), to.to_owned());
        HistoryEvent::Role { from, to }
    }

    fn connection(from: &str, to: &str) -> HistoryEvent {
        let (from, to) = (from.to_owned(), to.to_owned());
        HistoryEvent::Connection { from, to }
    }

    fn split(current: u64, blocks: u64) -> HistoryEvent {
        let side = |current, marked_blocks| SideSeen {
            identifiers: ids(current),
            marked_blocks,
            role: Role::Primary,
        };
        HistoryEvent::SplitBrain {
            own: side(current, 1),
            peer: side(0xFFFE, blocks),
            solved: false,
        }
    }

    #[test]
    fn a_split_brain_is_told_from_the_moment_at_which_both_parted() {
        let (old, new) = (ids(0xA0), ids(0xC1));
        let lines = [
            line(1, role("Secondary", "Primary")),
            line(2, role("Primary", "Secondary")),
            line(3, connection("WFReportParams", "Connected")),
            line(4, connection("Connected", "Timeout")),
            line(5, role("Secondary", "Primary")),
            line(5, HistoryEvent::ForcedPromotion),
            line(6, HistoryEvent::Generation { old, new }),
            HistoryLine {
                volume: Some(1),
                ..line(7, role("Primary", "Secondary"))
            },
            line(8, split(0xA0, 3)),
            line(9, split(0xC0, 4)),
            HistoryLine {
                volume: None,
                ..line(10, HistoryEvent::Created)
            },
            line(11, role("Secondary", "Primary")),
        ];
        // (Bit 0 goes with the role.)
        let story = Story::of(&lines, 0, Some(&ids(0xC0)));
        assert_eq!(story.since, Some(Instant(6)));
        assert_eq!(story.parted, Some(Instant(4)));
        assert_eq!(story.first_line, 3);
        let primary = |from, to, forced| Primary {
            from: Some(Instant(from)),
            to,
            forced,
        };
        assert_eq!(
            story.primary,
            [primary(5, None, true), primary(11, None, false)]
        );
        let seen = story.seen_peer.expect("both have met");
        assert_eq!((seen.at, seen.told.marked_blocks), (Instant(9), 4));
    }

    #[test]
    fn a_daemon_that_dies_while_connected_tells_no_end_and_the_next_begins_anew() {
        let lines = [
            line(1, connection("WFReportParams", "Connected")),
            line(2, role("Secondary", "Primary")),
            HistoryLine {
                volume: None,
                ..line(9, HistoryEvent::Created)
            },
            line(10, role("Secondary", "Primary")),
        ];
        let story = Story::of(&lines, 0, None);
        // (They were connected when it was promoted; how long after that nobody knows.)
        assert_eq!((story.parted, story.first_line), (Some(Instant(2)), 2));
        let primary = |from| Primary {
            from: Some(Instant(from)),
            to: None,
            forced: false,
        };
        assert_eq!(story.primary, [primary(2), primary(10)]);
    }

    #[test]
    fn a_history_that_begins_late_says_less_and_nothing_wrong() {
        let lines = [line(7, role("Primary", "Secondary"))];
        let story = Story::of(&lines, 0, None);
        assert_eq!(
            story.primary,
            [Primary {
                from: None,
                to: Some(Instant(7)),
                forced: false
            }]
        );
        assert_eq!(
            (story.since, story.parted, story.seen_peer),
            (None, None, None)
        );
        let lines = [
            line(1, connection("Connected", "Timeout")),
            line(2, connection("WFReportParams", "SyncSource")),
        ];
        assert_eq!(Story::of(&lines, 0, None).parted, None);
    }
}
