//! One resource: what is wrong with it, the states of both sides, what it does, its generations, what comes next, what has been.

use std::net::SocketAddr;

use rdb_control::{ResourceReport, SyncReport, VolumeReport};
use rdb_meta::MdFlags;
use rdb_watch::{Figure, Finding, SAMPLES, Series, explain};

use super::events;
use super::list::{connection_of, level_tone, level_word};
use super::text::{
    Line, Marks, Tone, amount, bar, clock, cut, fit, graph, hang, length, line, plain, span, wrap,
};
use crate::model::{Model, Row};

/// Columns of the words before a value, and of a value before its graph.
const WORD: usize = 14;
const VALUE: usize = 14;
/// Columns behind a graph.
const PEAK: usize = 16;
/// Lines of the history that are shown.
const PAST_LINES: usize = 12;
/// How long the graphs are back.
const GRAPH_MINUTES: usize = SAMPLES / 60;

/// All lines.
pub(super) fn lines(model: &Model, width: usize, marks: Marks) -> Vec<Line> {
    let Some(row) = model.selected_row() else {
        let name = model.selected.as_deref().unwrap_or_default();
        return vec![plain(format!("{name} is not up any more."))];
    };
    let Row {
        resource, level, ..
    } = row;
    let explained = explain(resource);
    let head = span(level_tone(*level), format!("{} ", level_word(*level)));
    let mut all = hang(head, &explained.headline, width);
    for Finding { level, text } in &row.findings {
        let head = span(level_tone(*level), format!("  {:<9}", level_word(*level)));
        all.extend(hang(head, text, width));
    }
    all.extend(connection(resource, width));
    for volume in &resource.volumes {
        all.push(Vec::new());
        all.extend(of_volume(model, volume, width, marks));
    }
    let mut section = |title: &str, lines: Vec<Line>| {
        if !lines.is_empty() {
            all.push(Vec::new());
            all.push(line(Tone::Strong, title));
            all.extend(lines);
        }
    };
    let sentences = |texts: &[String]| {
        let wrapped = texts.iter().flat_map(|t| wrap(t, width.saturating_sub(2)));
        wrapped.map(|text| plain(format!("  {text}"))).collect()
    };
    section("What is", sentences(&explained.now));
    section("What happens next by itself", sentences(&explained.next));
    section("What has happened", past(model, resource, width));
    all
}

fn connection(resource: &ResourceReport, width: usize) -> Vec<Line> {
    if resource.failed.is_some() {
        return Vec::new();
    }
    let address = |address: Option<SocketAddr>| address.map_or("-".to_owned(), |a| a.to_string());
    let mut text = connection_of(resource);
    if let Some(protocol) = resource.protocol {
        let (local, peer) = (address(resource.local), address(resource.peer));
        text += &format!(", protocol {protocol}, {local} - {peer}");
    }
    word_line("connection", &text, width)
}

/// A word, and what there is to say of it.
fn word_line(word: &str, text: &str, width: usize) -> Vec<Line> {
    hang(
        span(Tone::Dim, fit(&format!("  {word}"), WORD)),
        text,
        width,
    )
}

fn of_volume(model: &Model, v: &VolumeReport, width: usize, marks: Marks) -> Vec<Line> {
    let device = v.device.as_ref().map(|path| path.display().to_string());
    let backing = v
        .backing
        .as_ref()
        .map(|path| format!("on {}", path.display()));
    let size = (v.size_kib > 0).then(|| amount(v.size_kib as f64));
    let more: Vec<String> = [device, backing, size].into_iter().flatten().collect();
    let title = format!("Volume {}, minor {}", v.volume, v.minor);
    let mut all = vec![vec![
        span(Tone::Strong, title),
        span(Tone::Plain, format!("  {}", more.join(", "))),
    ]];
    let sides = |here: &str, peer: &str| format!("{} {peer}", fit(here, 18));
    all.extend(word_line("", &sides("here", "peer"), width));
    let (role, peer_role) = (v.role.as_str(), v.peer_role.as_str());
    all.extend(word_line("role", &sides(role, peer_role), width));
    let (disk, peer_disk) = (v.disk.as_str(), v.peer_disk.as_str());
    all.extend(word_line("disk", &sides(disk, peer_disk), width));
    all.extend(sync(model, v, width));
    if v.out_of_sync_kib > 0 {
        let text = format!(
            "{}, {:.2} % are in sync",
            amount(v.out_of_sync_kib as f64),
            v.in_sync_percent()
        );
        all.extend(word_line("out of sync", &text, width));
    }
    if let Some(full) = v.no_space {
        let (writes, time) = (full.writes, length(full.for_ms / 1000));
        let text = format!("{writes} writes wait for space, for {time}");
        all.extend(word_line("full disk", &text, width));
    }
    all.extend(figures(model, v, width, marks));
    all.extend(requests(v, width));
    all.extend(generations(model, v, width));
    all
}

fn sync(model: &Model, v: &VolumeReport, width: usize) -> Vec<Line> {
    let Some(sync) = &v.sync else {
        return Vec::new();
    };
    let (whole, tenth) = (sync.done_permille / 10, sync.done_permille % 10);
    let end = match sync.rate_kib {
        0 => "no end in sight".to_owned(),
        _ => format!(
            "{} to go, until {}",
            length(sync.left_s),
            clock(model.now_s() + sync.left_s)
        ),
    };
    let mut text = format!("{} {whole}.{tenth} %, {end}", bar(sync.done_permille, 22));
    text += &format!(
        "\n{} of {} left; {}/s, on average {}/s",
        amount(sync.left_kib as f64),
        amount(sync.total_kib as f64),
        amount(sync.rate_kib as f64),
        amount(sync.average_kib as f64),
    );
    if let Some(want) = sync.want_kib {
        text += &format!(", {}/s are wanted", amount(f64::from(want)));
    }
    if sync.failed_kib > 0 {
        text += &format!("; {} failed", amount(sync.failed_kib as f64));
    }
    word_line(sync_word(sync), &text, width)
}

fn sync_word(sync: &SyncReport) -> &'static str {
    match sync.verify {
        Some(_) => "verify",
        None => "resync",
    }
}

/// What it does, each with a graph.
fn figures(model: &Model, v: &VolumeReport, width: usize, marks: Marks) -> Vec<Line> {
    let Some(series) = model.courses.of(v.minor) else {
        return Vec::new();
    };
    let rate = |kib: f64| format!("{}/s", amount(kib));
    let number = |value: f64| format!("{value:.0}");
    let per_second = |value: f64| format!("{value:.1}/s");
    let time = |ms: f64| match ms {
        0.0 => "-".to_owned(),
        ms if ms < 100.0 => format!("{ms:.2} ms"),
        ms => format!("{ms:.0} ms"),
    };
    type Shown<'a> = (&'a str, Figure, &'a dyn Fn(f64) -> String);
    let mut shown: Vec<Shown<'_>> = Vec::new();
    if let Some(sync) = &v.sync {
        shown.push((sync_word(sync), Figure::Sync, &rate));
    }
    shown.extend::<[Shown<'_>; 9]>([
        ("sent", Figure::Sent, &rate),
        ("received", Figure::Received, &rate),
        ("written", Figure::Written, &rate),
        ("read", Figure::Read, &rate),
        ("requests", Figure::Requests, &number),
        ("AL writes", Figure::ActivityLog, &per_second),
        ("waiting", Figure::Waiting, &time),
        ("own disk", Figure::OwnDisk, &time),
        ("peer", Figure::Peer, &time),
    ]);
    let head = fit("", WORD) + &fit("now", VALUE);
    let span = format!("the last {GRAPH_MINUTES} min");
    let columns = graph_columns(width);
    let head = format!("{head}{} peak", fit(&span, columns));
    let mut all = vec![line(Tone::Dim, cut(&head, width))];
    for (word, figure, print) in shown {
        all.push(figure_line(series, (word, figure, print), columns, marks));
    }
    all
}

fn graph_columns(width: usize) -> usize {
    width.saturating_sub(WORD + VALUE + PEAK)
}

fn figure_line(
    series: &Series,
    (word, figure, print): (&str, Figure, &dyn Fn(f64) -> String),
    columns: usize,
    marks: Marks,
) -> Line {
    let now = series.now(figure).map_or("-".to_owned(), print);
    let peak = series.peak(figure);
    let values = series.columns(figure, columns);
    vec![
        span(Tone::Dim, fit(&format!("  {word}"), WORD)),
        span(Tone::Plain, fit(&now, VALUE)),
        span(Tone::Good, graph(&values, peak, marks)),
        span(Tone::Plain, format!(" {}", print(peak))),
    ]
}

fn requests(v: &VolumeReport, width: usize) -> Vec<Line> {
    let text = format!(
        "{} of users and {} of a resync on the way; {} wait for the disk here, {} for the peer, the peer for {}",
        amount(v.ap_in_flight_kib as f64),
        amount(v.rs_in_flight_kib as f64),
        v.local_pending,
        v.peer_pending,
        v.unacked,
    );
    let mut all = word_line("in flight", &text, width);
    let suspended = if v.al_suspended { ", suspended" } else { "" };
    let text = format!(
        "activity log {}{suspended}, bitmap {}",
        v.al_writes, v.bm_writes
    );
    all.extend(word_line("meta writes", &text, width));
    all
}

/// What `show-gi` tells, in short.
fn generations(model: &Model, v: &VolumeReport, width: usize) -> Vec<Line> {
    let Some(report) = model.generations.get(&v.minor) else {
        return Vec::new();
    };
    let [current, bitmap, younger, older] = report.uuids.map(|uuid| format!("{uuid:016X}"));
    let mut all = word_line("generation", &format!("{current}, bitmap {bitmap}"), width);
    all.extend(word_line("history", &format!("{younger}, {older}"), width));
    let flags = MdFlags::from_bits_retain(report.flags);
    let words: Vec<&str> = FLAGS
        .into_iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, word)| word)
        .collect();
    all.extend(word_line("flags", &words.join(", "), width));
    all
}

/// The flags of the metadata, in the words of `show-gi --json`.
const FLAGS: [(MdFlags, &str); 7] = [
    (MdFlags::CONSISTENT, "consistent"),
    (MdFlags::WAS_UP_TO_DATE, "was-up-to-date"),
    (MdFlags::PRIMARY_IND, "primary"),
    (MdFlags::CONNECTED_IND, "connected"),
    (MdFlags::FULL_SYNC, "full-sync"),
    (MdFlags::PEER_OUT_DATED, "peer-outdated"),
    (MdFlags::CRASHED_PRIMARY, "crashed-primary"),
];

/// The history of before, and what has happened since.
fn past(model: &Model, resource: &ResourceReport, width: usize) -> Vec<Line> {
    let is_own = |name: &Option<String>| name.as_ref() == Some(&resource.name);
    let since = events::newest(model, PAST_LINES, |entry| is_own(&entry.resource));
    let begun = since.first().map_or(u64::MAX, |entry| entry.at_s);
    let before = model.histories.get(&resource.name);
    let before = before.into_iter().flatten();
    let before: Vec<_> = before.filter(|l| l.at.0 / 1000 < begun).collect();
    let left = PAST_LINES.saturating_sub(since.len());
    let newest = before.into_iter().rev().take(left).rev();
    let mut all: Vec<Line> = newest
        .map(|past| {
            let volume = past.volume.filter(|_| resource.volumes.len() > 1);
            let volume = volume.map_or(String::new(), |nr| format!(" volume {nr}:"));
            let text = format!("  {}{volume} {}", past.at.to_seconds(), past.event);
            plain(cut(&text, width))
        })
        .collect();
    let indent = |entry| {
        let mut line = events::line(entry, width.saturating_sub(2));
        line.insert(0, span(Tone::Plain, "  "));
        line
    };
    all.extend(since.into_iter().map(indent));
    all
}
