//! All resources, the worst first, and what has happened last.

use rdb_control::{ConnState, FAILED, ResourceReport, Role, VolumeReport};
use rdb_watch::{Level, connection_word};

use super::events;
use super::text::{Line, Tone, amount, bar, cut, fit, length, line, plain, span};
use crate::model::{Daemon, Model, Row};

/// Columns of the words of a state.
const CONNECTION: usize = 14;
const ROLE: usize = 19;
const DISK: usize = 21;
/// Columns before the name.
const LEVEL: usize = 11;

/// The lines of the body.
pub(super) fn lines(model: &Model, width: usize, height: usize) -> Vec<Line> {
    let events_height = match height {
        0..12 => 0,
        _ => (height / 3).min(8),
    };
    let room = height - events_height;
    let mut all = rows(model, width, room);
    if events_height > 0 {
        all.resize_with(room, Vec::new);
        all.push(line(Tone::Dim, "Events"));
        all.extend(events::lines(model, width, events_height - 1));
    }
    all
}

fn rows(model: &Model, width: usize, room: usize) -> Vec<Line> {
    if model.rows.is_empty() {
        let text = match &model.daemon {
            Daemon::Asked => "The daemon is asked ...".to_owned(),
            Daemon::There if !model.only.is_empty() => format!("Not up: {}", model.only.join(", ")),
            Daemon::There => {
                "No resource is up. 'a' offers to bring up what is configured.".to_owned()
            }
            Daemon::Gone { .. } => "'a' offers to start it.".to_owned(),
        };
        return vec![plain(cut(&text, width))];
    }
    let name_width = name_width(model, width);
    let mut head = vec![line(
        Tone::Dim,
        cut(
            &format!(
                "{}{} {} {} disk here/peer",
                " ".repeat(LEVEL),
                fit("resource", name_width),
                fit("connection", CONNECTION),
                fit("role here/peer", ROLE),
            ),
            width,
        ),
    )];
    let mut all = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for row in &model.rows {
        let is_marked = model.selected.as_ref() == Some(&row.resource.name);
        if is_marked {
            begin = all.len();
        }
        all.extend(of_row(model, row, is_marked, name_width, width));
        if is_marked {
            end = all.len();
        }
    }
    // As many as there is room for, the marked one among them.
    let room = room.saturating_sub(head.len());
    let first = end.saturating_sub(room).min(begin);
    let last = all.len().min(first + room);
    head.extend(all.drain(first..last));
    head
}

fn name_width(model: &Model, width: usize) -> usize {
    let names = model.rows.iter().map(|r| r.resource.name.chars().count());
    let longest = names.max().unwrap_or(0).max(8);
    let others = LEVEL + CONNECTION + ROLE + DISK + 3;
    longest.min(width.saturating_sub(others).max(8))
}

fn of_row(model: &Model, row: &Row, is_marked: bool, name_width: usize, width: usize) -> Vec<Line> {
    let resource = &row.resource;
    let mark = if is_marked { ">" } else { " " };
    let is_old = model.daemon != Daemon::There;
    let tone = match (is_marked, is_old) {
        (true, _) => Tone::Marked,
        (false, true) => Tone::Dim,
        (false, false) => Tone::Plain,
    };
    let level = match is_old {
        true => Tone::Dim,
        false => level_tone(row.level),
    };
    let (connection, role, disk) = states(resource);
    let rest = format!(
        " {} {} {} {disk}",
        fit(&resource.name, name_width),
        fit(&connection, CONNECTION),
        fit(&role, ROLE),
    );
    let mut all = vec![vec![
        span(tone, format!("{mark} ")),
        span(level, format!("{:<8}", level_word(row.level))),
        span(tone, cut(&rest, width.saturating_sub(LEVEL - 1))),
    ]];
    let indent = " ".repeat(LEVEL);
    let room = width.saturating_sub(LEVEL);
    if let Some(first) = row.findings.first() {
        let more = match row.findings.len() {
            1 => String::new(),
            number => format!(" (and {} more)", number - 1),
        };
        let text = cut(&first.text, room.saturating_sub(more.len()));
        all.push(line(Tone::Dim, format!("{indent}{text}{more}")));
    }
    for volume in &resource.volumes {
        if let Some(text) = sync(volume) {
            all.push(plain(format!("{indent}{}", cut(&text, room))));
        }
    }
    all
}

/// How far a resync or verify is, in a line.
fn sync(volume: &VolumeReport) -> Option<String> {
    let sync = volume.sync.as_ref()?;
    let (whole, tenth) = (sync.done_permille / 10, sync.done_permille % 10);
    Some(format!(
        "{} {whole}.{tenth} %, {}/s, {} to go",
        bar(sync.done_permille, 22),
        amount(sync.rate_kib as f64),
        length(sync.left_s),
    ))
}

/// The states of a resource in a word each: of the volume that is worst.
fn states(resource: &ResourceReport) -> (String, String, String) {
    if resource.failed.is_some() {
        return (FAILED.to_owned(), String::new(), String::new());
    }
    let connection = connection_of(resource);
    let role = |of: fn(&VolumeReport) -> Role| {
        let roles = resource.volumes.iter().map(of);
        let is = |wanted: Role| roles.clone().any(|role| role == wanted);
        match (is(Role::Primary), is(Role::Secondary)) {
            (true, _) => Role::Primary,
            (false, true) => Role::Secondary,
            (false, false) => Role::Unknown,
        }
    };
    let roles = format!("{}/{}", role(|v| v.role), role(|v| v.peer_role));
    let worst = resource
        .volumes
        .iter()
        .min_by_key(|v| (v.disk, v.peer_disk));
    let disks = worst.map_or("no volume".to_owned(), |v| {
        format!("{}/{}", v.disk, v.peer_disk)
    });
    let number = match resource.volumes.len() {
        0 | 1 => String::new(),
        number => format!(" ({number})"),
    };
    (connection, roles, disks + &number)
}

/// The word for a level, and how it stands out.
pub(super) fn level_word(level: Level) -> String {
    level.to_string()
}

pub(super) fn level_tone(level: Level) -> Tone {
    match level {
        Level::Ok => Tone::Good,
        Level::Warning => Tone::Warning,
        Level::Critical | Level::Unknown => Tone::Bad,
    }
}

/// The word for the connection: what is replicated, once both have met.
pub(super) fn connection_of(resource: &ResourceReport) -> String {
    let beyond = resource
        .volumes
        .iter()
        .filter_map(|v| v.cstate)
        .filter(|cstate| *cstate > ConnState::Connected)
        .max();
    match beyond {
        Some(cstate) => cstate.to_string(),
        None => connection_word(resource.connection).to_owned(),
    }
}
