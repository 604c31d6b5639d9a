//! The commands that `split-brain` prints: what to type on which node, to give one side's changes up.

use rdb_control::split_brain::{Side, Source};
use rdb_control::{ConnState, shell_word};

use super::text::put;

/// A node to type commands on.
pub(super) struct Party<'a> {
    node: &'a str,
    link: Link,
}

/// What its resource does, as far as that decides what to type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// It is StandAlone.
    StandAlone,
    /// It is up, and has a connection, or waits for one.
    Connecting,
    /// It is down, or its daemon is.
    Down,
    /// Nobody has asked it.
    Unknown,
}

impl<'a> Party<'a> {
    /// One that has told of itself.
    pub(super) fn of(side: &'a Side) -> Party<'a> {
        let link = match (side.source, side.connection) {
            (Source::Disk, _) | (_, None) => Link::Down,
            (_, Some(ConnState::StandAlone)) => Link::StandAlone,
            (_, Some(_)) => Link::Connecting,
        };
        let node = &side.node;
        Party { node, link }
    }

    /// One of which only the name is known.
    pub(super) fn unknown(node: &'a str) -> Party<'a> {
        let link = Link::Unknown;
        Party { node, link }
    }
}

/// What to type, each line as it works in the state that is known. One that is down is not brought up by `up`: that would connect
/// it without `--discard-my-data`, and both would part again.
pub(super) fn commands(resource: &str, loser: &Party<'_>, winner: &Party<'_>) -> String {
    let mut text = String::new();
    let resource = shell_word(resource);
    let mut line = |node: &str, command: &str, comment: &str| {
        put(
            &mut text,
            2,
            &format!("{node}# rdbadm {command} {resource}{comment}"),
        );
    };
    let node = loser.node;
    match loser.link {
        Link::Down => {
            line(node, "new-resource", "    # rdbd has to run there");
            line(node, "new-minor", "");
            line(node, "attach", "");
        }
        Link::StandAlone => line(node, "secondary", ""),
        Link::Connecting => {
            line(node, "secondary", "");
            line(node, "disconnect", "");
        }
        Link::Unknown => {
            line(
                node,
                "secondary",
                "    # if it is down, ask it what to type",
            );
            line(node, "disconnect", "    # unless it is StandAlone");
        }
    }
    line(node, "connect --discard-my-data", "");
    match winner.link {
        Link::Down => line(winner.node, "up", "    # rdbd has to run there"),
        _ => line(winner.node, "connect", "    # if it is StandAlone, too"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_typed_goes_by_what_the_loser_does() {
        let typed = |loser, winner| {
            let (loser, winner) = (
                Party {
                    node: "a",
                    link: loser,
                },
                Party {
                    node: "b",
                    link: winner,
                },
            );
            commands("r0", &loser, &winner).replace("    ", "")
        };
        assert_eq!(
            typed(Link::Connecting, Link::Down),
            "a# rdbadm secondary r0\na# rdbadm disconnect r0\na# rdbadm connect --discard-my-data r0\n\
             b# rdbadm up r0# rdbd has to run there\n"
        );
        assert_eq!(
            typed(Link::Down, Link::StandAlone),
            "a# rdbadm new-resource r0# rdbd has to run there\na# rdbadm new-minor r0\na# rdbadm attach r0\n\
             a# rdbadm connect --discard-my-data r0\nb# rdbadm connect r0# if it is StandAlone, too\n"
        );
    }
}
