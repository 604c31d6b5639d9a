//! What `split-brain` prints: for a tired administrator, at night.

use std::fmt::Write;
use std::path::Path;

use rdb_control::split_brain::{BothVolume, Files, Relation, Side, SideVolume, Source};
use rdb_control::{Blocks, ConnState, HistoryLine, KeptBy, Role, Uuid, shell_word};

use super::commands::{Party, commands};
use super::discard::kept;
use super::{amount, size};

/// How many ranges, files and lines of history are printed unless all are asked for.
const FEW: usize = 12;
const FEW_LINES: usize = 30;

/// What is printed of what is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Detail<'a> {
    /// All ranges, files and lines of history.
    pub(crate) all: bool,
    /// Where the own history is read if no daemon tells it.
    pub(crate) histories: &'a Path,
}

impl Detail<'_> {
    fn max(self) -> usize {
        match self.all {
            true => usize::MAX,
            false => FEW,
        }
    }
}

/// What one node knows alone.
pub(crate) fn alone(own: &Side, peer: &str, detail: Detail<'_>) -> String {
    let mut text = head(own, detail);
    for volume in &own.volumes {
        text += &volume_head(volume);
        text += &side(own, volume, detail);
        match &volume.seen_peer {
            Some(seen) => {
                let told = &seen.told;
                let ids = &told.identifiers;
                put(
                    &mut text,
                    1,
                    &format!(
                        "{peer} (as it told when both met at {})",
                        seen.at.to_seconds()
                    ),
                );
                put(&mut text, 2, &format!("it was {}", told.role));
                let (current, bitmap) = (ids.current, ids.bitmap);
                put(&mut text, 2, &format!("its data are generation {current}"));
                put(
                    &mut text,
                    2,
                    &format!("written apart from generation {bitmap} on"),
                );
                put(
                    &mut text,
                    2,
                    &format!("it announced {} marked", amount(told.marked_blocks)),
                );
            }
            None => {
                put(&mut text, 1, peer);
                put(
                    &mut text,
                    2,
                    "nothing is known here: this history has no split brain of this generation",
                );
            }
        }
        text.push('\n');
    }
    text += &history(own, None, detail);
    if own.is_together() {
        text += &connected(own);
        return text;
    }
    let resource = shell_word(&own.resource);
    put(
        &mut text,
        0,
        "Which blocks the other one has written, and which both have, it alone can tell:",
    );
    put(
        &mut text,
        1,
        &format!(
            "ssh {} {} | rdbadm split-brain --with-peer - {resource}",
            shell_word(peer),
            // (A shell reads it there, too.)
            far(&format!("rdbadm split-brain --json {resource}"))
        ),
    );
    text.push('\n');
    text += &choice_alone(own, peer);
    text
}

/// A command as an argument of `ssh`: plain words stay as they are.
fn far(command: &str) -> String {
    match command.contains('\'') {
        true => shell_word(command),
        false => command.to_owned(),
    }
}

/// What two nodes know together.
pub(crate) fn both(
    own: &Side,
    peer: &Side,
    volumes: &[BothVolume<'_>],
    detail: Detail<'_>,
) -> String {
    let mut text = head(own, detail);
    for volume in volumes {
        text += &volume_head(volume.own);
        text += &side(own, volume.own, detail);
        text += &side(peer, volume.peer, detail);
        text += &together(volume, detail);
        text.push('\n');
    }
    text += &history(own, Some(peer), detail);
    if own.is_together() {
        text += &connected(own);
        return text;
    }
    let is_split = volumes.iter().any(|v| v.relation == Relation::SplitBrain);
    if !is_split {
        put(
            &mut text,
            0,
            "There is no split brain to decide: 'rdbadm connect' lets the two come together.",
        );
        return text;
    }
    let of_peer = volumes.iter().map(|volume| volume.peer);
    text += &choice(peer, own, of_peer, volumes);
    let of_own = volumes.iter().map(|volume| volume.own);
    text += &choice(own, peer, of_own, volumes);
    text
}

pub(super) fn put(text: &mut String, depth: usize, line: &str) {
    let _ = writeln!(text, "{:indent$}{line}", "", indent = 2 * depth);
}

fn head(own: &Side, detail: Detail<'_>) -> String {
    let from = match (own.source, own.connection) {
        (Source::Daemon, Some(connection)) => format!("{connection}, as its daemon says"),
        _ => format!(
            "its resource is down: read from its disks, its history in {}",
            detail.histories.display()
        ),
    };
    format!(
        "{}: what was written apart, seen from {} at {} ({from})\n\n",
        own.resource,
        own.node,
        own.at.to_seconds()
    )
}

/// What there is to decide while both are connected.
fn connected(own: &Side) -> String {
    use ConnState::{
        Connected, PausedSyncS, PausedSyncT, SyncSource, SyncTarget, VerifyS, VerifyT,
    };
    // A disk is missing here; or blocks are marked, as they are beside a peer without a disk.
    let lacks = |volume: &SideVolume| volume.marked.as_ref().is_none_or(|m| m.count > 0);
    match own.connection {
        // (A verify marks what it finds as it goes.)
        Some(Connected | VerifyS | VerifyT) if own.volumes.iter().any(lacks) => {
            "The two nodes are connected. What is marked is on one of them alone, for a disk is missing, or a verify has found it to differ. \
             A disk that was refused for a split brain (its node's status says so) meets the other one anew after 'down' and 'up' there.\n"
        }
        Some(SyncSource | SyncTarget) => {
            "The two nodes are connected, and a resync runs: there is no split brain to decide.\n"
        }
        Some(state) if state > Connected && !matches!(state, PausedSyncS | PausedSyncT | VerifyS | VerifyT) => {
            "The two nodes are connected, and a resync is about to begin: there is no split brain to decide.\n"
        }
        Some(PausedSyncS | PausedSyncT) => {
            "The two nodes are connected, and a resync is paused: there is no split brain to decide.\n"
        }
        _ => "The two nodes are connected, and nothing is apart: there is no split brain to decide.\n",
    }
    .to_owned()
}

fn volume_head(volume: &SideVolume) -> String {
    let kib = volume.size_sectors / 2;
    format!(
        "volume {} (minor {}), {}\n",
        volume.volume,
        volume.minor,
        size(kib)
    )
}

/// One side's facts.
fn side(of: &Side, volume: &SideVolume, detail: Detail<'_>) -> String {
    let mut text = String::new();
    put(&mut text, 1, &of.node);
    let state = match (volume.role, volume.disk) {
        (Some(role), Some(disk)) => format!("it is {role}, its disk {disk}"),
        _ if volume.crashed_primary => {
            "it is down, and was Primary when it went down: it crashed".to_owned()
        }
        _ => "it is down".to_owned(),
    };
    put(&mut text, 2, &state);
    let Some(ids) = &volume.identifiers else {
        put(&mut text, 2, "nothing is known of its disk");
        return text;
    };
    let since = volume.since.map_or_else(
        || "since when is not in its history".to_owned(),
        |at| format!("since {}", at.to_seconds()),
    );
    put(
        &mut text,
        2,
        &format!("its data are generation {}, {since}", ids.current),
    );
    if !of.is_together() {
        put(
            &mut text,
            2,
            &format!("written apart from generation {} on", ids.bitmap),
        );
    }
    if let Some(at) = volume.parted {
        put(
            &mut text,
            2,
            &format!("both were connected last at {}", at.to_seconds()),
        );
    }
    put(&mut text, 2, &primary(volume));
    let Some(marked) = &volume.marked else {
        return text;
    };
    // While both are connected it is what a resync has to do yet, or a verify has found.
    let what = match of.is_together() {
        true => "out of sync",
        false => "written apart",
    };
    put(&mut text, 2, &format!("{what}: {}", amount(marked.count)));
    if volume.full_sync {
        put(
            &mut text,
            3,
            "(every block counts: a full sync was ordered)",
        );
    }
    if volume.log_blocks > 0 {
        let log = amount(volume.log_blocks);
        put(
            &mut text,
            3,
            &format!("of these {log} may have been written when it crashed, by its activity log"),
        );
    }
    if marked.merged {
        put(
            &mut text,
            3,
            "(there are too many ranges: neighbours are shown as one)",
        );
    }
    text += &ranges(&marked.ranges, detail);
    if let Some(files) = &volume.files {
        text += &self::files(files, detail);
    }
    text
}

fn primary(volume: &SideVolume) -> String {
    let span = |primary: &rdb_control::Primary| {
        let from = primary
            .from
            .map_or_else(|| "?".to_owned(), |at| at.to_seconds());
        let is_primary = volume.role == Some(Role::Primary);
        let to = match primary.to {
            Some(at) => at.to_seconds(),
            None if is_primary => "now".to_owned(),
            None => "its end".to_owned(),
        };
        let forced = if primary.forced { " (by force)" } else { "" };
        format!("{from} to {to}{forced}")
    };
    match volume.primary.as_slice() {
        [] => "Primary since both parted: not in its history".to_owned(),
        all => {
            let spans: Vec<String> = all.iter().rev().take(FEW).rev().map(span).collect();
            format!("Primary: {}", spans.join(", "))
        }
    }
}

/// Ranges as bytes of the device.
fn ranges(ranges: &Blocks, detail: Detail<'_>) -> String {
    const BYTES: u64 = 4096;
    let mut text = String::new();
    let runs = ranges.runs();
    for run in runs.iter().take(detail.max()) {
        let (first, end) = (run.first * BYTES, run.end() * BYTES);
        let plural = if run.len == 1 { "" } else { "s" };
        put(
            &mut text,
            3,
            &format!("bytes {first} to {} ({} block{plural})", end - 1, run.len),
        );
    }
    text += &more(3, runs.len(), detail, "ranges");
    text
}

fn more(depth: usize, there: usize, detail: Detail<'_>, what: &str) -> String {
    let mut text = String::new();
    if let Some(left) = there.checked_sub(detail.max()).filter(|left| *left > 0) {
        put(
            &mut text,
            depth,
            &format!("and {left} more {what} (-v prints all)"),
        );
    }
    text
}

fn files(files: &Files, detail: Detail<'_>) -> String {
    let mut text = String::new();
    put(
        &mut text,
        2,
        &format!("whose blocks these are (by {}):", files.by),
    );
    for entry in files.entries.iter().take(detail.max()) {
        let both = match entry.both {
            Some(both) if both > 0 => format!(", {both} of them written by both"),
            _ => String::new(),
        };
        put(
            &mut text,
            3,
            &format!("{} ({} blocks{both})", entry.path, entry.blocks),
        );
    }
    text += &more(3, files.entries.len(), detail, "files");
    for (blocks, what) in [
        (
            files.metadata_blocks,
            "the file system's own metadata (journal, inodes, maps)",
        ),
        (files.free_blocks, "no file's: free now"),
    ] {
        if blocks > 0 {
            put(&mut text, 3, &format!("{what} ({blocks} blocks)"));
        }
    }
    if let Some(unknown) = &files.unknown {
        put(
            &mut text,
            3,
            &format!("not known ({} blocks): {}", unknown.blocks, unknown.reason),
        );
    }
    text
}

fn together(volume: &BothVolume<'_>, detail: Detail<'_>) -> String {
    let mut text = String::new();
    put(&mut text, 1, "both");
    let relation = match volume.relation {
        Relation::Same => "both have the same generation: there is no split brain",
        Relation::PeerOlder => {
            "this node has all generations of the other one: that is no split brain"
        }
        Relation::PeerNewer => {
            "the other node has all generations of this one: that is no split brain"
        }
        Relation::SplitBrain => {
            "split brain: each has a generation that the other one does not know"
        }
        Relation::Unknown => {
            "one of the two has no disk to tell of: what they are to each other is not known"
        }
    };
    put(&mut text, 2, relation);
    if volume.relation != Relation::SplitBrain {
        return text;
    }
    if let Some(ids) = volume.own.identifiers.filter(|_| volume.one_beginning) {
        // (Bit 0 tells of a role, and may differ.)
        let common = Uuid(ids.bitmap.0 & !1);
        put(
            &mut text,
            2,
            &format!("both went on from generation {common}"),
        );
    } else {
        put(
            &mut text,
            2,
            "their bitmaps do not begin at one generation: more than is marked may differ, and the resync will be a full one",
        );
    }
    let most = if volume.exact { "" } else { "at most " };
    put(
        &mut text,
        2,
        &format!("written by both: {most}{}", amount(volume.both_blocks)),
    );
    text += &ranges(&volume.both, detail);
    text
}

/// What has happened since they parted, on both nodes in the order of their clocks.
fn history(own: &Side, peer: Option<&Side>, detail: Detail<'_>) -> String {
    let mut text = String::new();
    for side in std::iter::once(own).chain(peer) {
        if let Some(trouble) = &side.history_trouble {
            put(
                &mut text,
                0,
                &format!("The history of {}: {trouble}", side.node),
            );
        }
    }
    let mut lines: Vec<(&str, &HistoryLine)> = Vec::new();
    for side in std::iter::once(own).chain(peer) {
        lines.extend(side.history.iter().map(|line| (side.node.as_str(), line)));
    }
    lines.sort_by_key(|(_, line)| line.at);
    if lines.is_empty() {
        return text;
    }
    put(
        &mut text,
        0,
        "What has happened, by the clock of each node:",
    );
    let shown = match detail.all {
        true => 0,
        false => lines.len().saturating_sub(FEW_LINES),
    };
    if shown > 0 {
        put(
            &mut text,
            1,
            &format!("({shown} earlier lines; -v prints all)"),
        );
    }
    for (node, line) in &lines[shown..] {
        let volume = line
            .volume
            .map_or_else(String::new, |volume| format!("/{volume}"));
        let what = &line.event;
        put(
            &mut text,
            1,
            &format!("{} {node}{volume}: {what}", line.at.to_seconds()),
        );
    }
    text.push('\n');
    text
}

/// What giving one side's changes up means, and how it is done.
fn choice<'a>(
    loser: &Side,
    winner: &Side,
    lost: impl Iterator<Item = &'a SideVolume>,
    volumes: &[BothVolume<'_>],
) -> String {
    let lost: u64 = lost
        .filter_map(|volume| volume.marked.as_ref())
        .map(|marked| marked.count)
        .fold(0, u64::saturating_add);
    let both = volumes
        .iter()
        .map(|v| v.both_blocks)
        .fold(0, u64::saturating_add);
    let most = if volumes.iter().all(|v| v.exact) {
        ""
    } else {
        "at most "
    };
    let resource = loser.resource.clone();
    let mut text = String::new();
    put(
        &mut text,
        0,
        &format!(
            "To keep what {} has, and give up what {} has written apart:",
            winner.node, loser.node
        ),
    );
    put(
        &mut text,
        1,
        &format!(
            "lost are {}, of which {most}{both} were written by both",
            amount(lost)
        ),
    );
    put(&mut text, 1, &kept_line(loser));
    let (loser, winner) = (Party::of(loser), Party::of(winner));
    text += &commands(&resource, &loser, &winner);
    text.push('\n');
    text
}

fn kept_line(loser: &Side) -> String {
    match loser.kept_by {
        KeptBy::Nothing => format!("on {} {}", loser.node, kept(loser.kept_by)),
        _ => format!("on {}, {}", loser.node, kept(loser.kept_by)),
    }
}

/// The same as far as one node knows it.
fn choice_alone(own: &Side, peer: &str) -> String {
    let mut text = String::new();
    let lost = own
        .volumes
        .iter()
        .filter_map(|volume| volume.marked.as_ref());
    let lost = lost.map(|marked| marked.count).fold(0, u64::saturating_add);
    put(
        &mut text,
        0,
        &format!(
            "To keep what {peer} has, and give up what {} has written apart:",
            own.node
        ),
    );
    put(&mut text, 1, &format!("lost are {}", amount(lost)));
    put(&mut text, 1, &kept_line(own));
    let (own_party, peer_party) = (Party::of(own), Party::unknown(peer));
    text += &commands(&own.resource, &own_party, &peer_party);
    text.push('\n');
    let seen = own.volumes.iter().filter_map(|volume| volume.seen_peer);
    let told = seen
        .map(|seen| seen.told.marked_blocks)
        .reduce(u64::saturating_add);
    put(
        &mut text,
        0,
        &format!(
            "To keep what {} has, and give up what {peer} has written apart:",
            own.node
        ),
    );
    let lost = told.map_or_else(
        || "how much is lost is not known here".to_owned(),
        |blocks| {
            format!(
                "lost are {} by what it announced, or more by now",
                amount(blocks)
            )
        },
    );
    put(&mut text, 1, &lost);
    text += &commands(&own.resource, &peer_party, &own_party);
    text
}

#[cfg(test)]
mod tests {
    use rdb_control::split_brain::{FORMAT, VERSION};
    use rdb_control::{
        DiskState, HistoryEvent, Identifiers, Instant, MarkedBlocks, PeerSeen, Primary, SideSeen,
    };

    use super::*;

    fn detail(all: bool) -> Detail<'static> {
        let histories = Path::new("/var/lib/rdb");
        Detail { all, histories }
    }

    /// A node that has written two blocks, and has heard of five.
    fn own() -> Side {
        let ids = |current| Identifiers::of([current, 0xB0, 0, 0]);
        let at = Instant(1_795_877_530_250);
        let marked = Blocks::from_runs([(256, 1), (512, 1)]).expect("a set");
        let told = SideSeen {
            identifiers: ids(0xC1),
            marked_blocks: 5,
            role: Role::Secondary,
        };
        let volume = SideVolume {
            volume: 0,
            minor: 3,
            role: Some(Role::Primary),
            disk: Some(DiskState::UpToDate),
            size_sectors: 1 << 21,
            identifiers: Some(ids(0xA1)),
            crashed_primary: false,
            since: Some(at),
            parted: Some(at),
            primary: vec![Primary {
                from: None,
                to: None,
                forced: false,
            }],
            marked: Some(MarkedBlocks::of(marked)),
            log_blocks: 0,
            full_sync: false,
            seen_peer: Some(PeerSeen { at, told }),
            files: None,
        };
        Side {
            format: FORMAT.to_owned(),
            version: VERSION,
            node: "alice".to_owned(),
            resource: "r0".to_owned(),
            at,
            source: Source::Daemon,
            connection: Some(ConnState::StandAlone),
            kept_by: KeptBy::Snapshot,
            volumes: vec![volume],
            history: vec![HistoryLine {
                at,
                volume: Some(0),
                event: HistoryEvent::ForcedPromotion,
            }],
            history_trouble: None,
        }
    }

    #[test]
    fn while_both_are_connected_there_is_nothing_to_type() {
        for (connection, words) in [
            (ConnState::Connected, "and nothing is apart"),
            (ConnState::VerifyS, "and nothing is apart"),
            (ConnState::SyncSource, "and a resync runs"),
            (ConnState::PausedSyncT, "and a resync is paused"),
            (ConnState::WFBitMapS, "and a resync is about to begin"),
        ] {
            let mut own = own();
            own.connection = Some(connection);
            if matches!(connection, ConnState::Connected | ConnState::VerifyS) {
                assert!(connected(&own).contains("for a disk is missing"));
                own.volumes.clear();
            }
            let peer = Side {
                node: "bob".to_owned(),
                ..own.clone()
            };
            let volumes = rdb_control::split_brain::compare(&own, &peer).expect("two nodes");
            let detail = detail(false);
            for text in [
                alone(&own, "bob", detail),
                both(&own, &peer, &volumes, detail),
            ] {
                assert!(text.contains(words), "{text}");
                assert!(text.contains(&format!("({connection}, as its daemon says)")));
                assert!(
                    !text.contains("rdbadm ") && !text.contains("written apart: "),
                    "{text}"
                );
            }
        }
    }

    const ALONE: &str = "\
r0: what was written apart, seen from alice at 2026-11-28T14:52:10Z (StandAlone, as its daemon says)

volume 0 (minor 3), 1 GiB
  alice
    it is Primary, its disk UpToDate
    its data are generation 00000000000000A1, since 2026-11-28T14:52:10Z
    written apart from generation 00000000000000B0 on
    both were connected last at 2026-11-28T14:52:10Z
    Primary: ? to now
    written apart: 2 blocks of 4 KiB = 8 KiB
      bytes 1048576 to 1052671 (1 block)
      bytes 2097152 to 2101247 (1 block)
  bob (as it told when both met at 2026-11-28T14:52:10Z)
    it was Secondary
    its data are generation 00000000000000C1
    written apart from generation 00000000000000B0 on
    it announced 5 blocks of 4 KiB = 20 KiB marked

What has happened, by the clock of each node:
  2026-11-28T14:52:10Z alice/0: the promotion was forced

Which blocks the other one has written, and which both have, it alone can tell:
  ssh bob rdbadm split-brain --json r0 | rdbadm split-brain --with-peer - r0

To keep what bob has, and give up what alice has written apart:
  lost are 2 blocks of 4 KiB = 8 KiB
  on alice, before-resync-target takes a snapshot before they are overwritten: they are kept by that
    alice# rdbadm secondary r0
    alice# rdbadm connect --discard-my-data r0
    bob# rdbadm connect r0    # if it is StandAlone, too

To keep what alice has, and give up what bob has written apart:
  lost are 5 blocks of 4 KiB = 20 KiB by what it announced, or more by now
    bob# rdbadm secondary r0    # if it is down, ask it what to type
    bob# rdbadm disconnect r0    # unless it is StandAlone
    bob# rdbadm connect --discard-my-data r0
    alice# rdbadm connect r0    # if it is StandAlone, too
";

    #[test]
    fn one_node_alone_says_what_it_knows_and_what_to_type() {
        let detail = detail(false);
        assert_eq!(alone(&own(), "bob", detail), ALONE);
        let mut silent = own();
        silent.volumes[0].seen_peer = None;
        silent.volumes[0].primary.clear();
        silent.history_trouble = Some("there is none in /var/lib/rdb".to_owned());
        let text = alone(&silent, "bob", detail);
        for words in [
            "  bob\n    nothing is known here",
            "Primary since both parted: not in its history",
            "The history of alice: there is none in /var/lib/rdb\n",
            "  how much is lost is not known here\n",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
    }

    #[test]
    fn many_ranges_are_cut_unless_all_are_asked_for() {
        let mut own = own();
        let many = Blocks::from_runs((0..100).map(|n| (2 * n, 1))).expect("a set");
        own.volumes[0].marked = Some(MarkedBlocks::of(many));
        let lines = |all| {
            let text = alone(&own, "bob", detail(all));
            let ranges = text.lines().filter(|line| line.contains("bytes ")).count();
            (ranges, text.contains("and 88 more ranges (-v prints all)"))
        };
        assert_eq!(lines(false), (FEW, true));
        assert_eq!(lines(true), (100, false));
    }

    /// What a peer has told of numbers is printed, whatever it is.
    #[test]
    fn no_number_of_a_peer_is_too_large_to_be_printed() {
        let mut own = own();
        let seen = own.volumes[0].seen_peer.as_mut().expect("there is one");
        seen.told.marked_blocks = u64::MAX;
        let mut second = own.volumes[0].clone();
        second.volume = 1;
        own.volumes.push(second);
        let text = alone(&own, "bob", detail(true));
        assert!(text.contains("18446744073709551615 blocks"), "{text}");
    }
}
