//! What is shown of the model on a screen of some size, as lines of text; how they are drawn is another matter.

mod boxes;
mod details;
mod events;
mod list;
mod text;

use rdb_watch::Level;

use self::text::wrap;
pub(crate) use self::text::{Line, Marks, Tone};
use self::text::{clock, cut, line, span};
use crate::model::{Daemon, Dialog, Model, Place};

/// A screen.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The first line, the lines below it, and the last one.
    pub(crate) head: Line,
    pub(crate) body: Vec<Line>,
    pub(crate) foot: Line,
    /// What stands before them.
    pub(crate) boxed: Option<Boxed>,
    /// Lines of a page.
    pub(crate) page: usize,
    /// How far the text below can be moved, and that of the box.
    pub(crate) scroll_max: usize,
    pub(crate) dialog_max: usize,
}

/// A box in the middle of the screen.
#[derive(Debug)]
pub(crate) struct Boxed {
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
    /// Columns and lines within its frame.
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// Columns that a box has at most within its frame.
const BOX_WIDTH: usize = 72;

/// The screen of a model.
pub(crate) fn view(model: &Model, width: usize, height: usize, marks: Marks) -> View {
    let mut view = View {
        head: head(model, width),
        foot: line(Tone::Dim, cut(keys(model), width)),
        ..View::default()
    };
    let mut body = banner(model, width, height);
    let room = height.saturating_sub(2 + body.len());
    view.page = room.max(1);
    match model.place {
        Place::List => body.extend(list::lines(model, width, room)),
        Place::Details | Place::Events => {
            let all = match model.place {
                Place::Details => details::lines(model, width, marks),
                _ => events::lines(model, width, usize::MAX),
            };
            view.scroll_max = all.len().saturating_sub(room);
            let first = model.scroll.min(view.scroll_max);
            body.extend(all.into_iter().skip(first).take(room));
        }
    }
    body.truncate(height.saturating_sub(2));
    view.body = body;
    if let Some(dialog) = &model.dialog {
        put_box(model, dialog, width, height, &mut view);
    }
    view
}

fn put_box(model: &Model, dialog: &Dialog, width: usize, height: usize, view: &mut View) {
    let room = width.saturating_sub(4).min(BOX_WIDTH);
    let content = boxes::content(model, dialog, room);
    let lines = content.lines.len();
    let shown = lines.min(height.saturating_sub(4));
    view.dialog_max = lines - shown;
    view.page = shown.max(1);
    let first = match content.mark {
        Some(mark) => (mark + 1).saturating_sub(shown),
        None => model.dialog_scroll.min(view.dialog_max),
    };
    view.boxed = Some(Boxed {
        title: content.title,
        lines: content.lines.into_iter().skip(first).take(shown).collect(),
        width: room,
        height: shown,
    });
}

fn head(model: &Model, width: usize) -> Line {
    let number = |wanted: Level| model.rows.iter().filter(|row| row.level == wanted).count();
    let mut counts = Vec::new();
    for (level, tone) in [
        (Level::Critical, Tone::Bad),
        (Level::Warning, Tone::Warning),
        (Level::Ok, Tone::Good),
    ] {
        let number = number(level);
        if number > 0 && model.daemon == Daemon::There {
            let word = level.to_string().to_lowercase();
            counts.push(span(tone, format!("  {number} {word}")));
        }
    }
    let name = match model.node.is_empty() {
        true => "rdbmon".to_owned(),
        false => format!("rdbmon  {}", model.node),
    };
    let mut all = vec![span(Tone::Strong, name)];
    all.append(&mut counts);
    if model.asks_only {
        all.push(span(Tone::Dim, "  may only ask"));
    }
    let length: usize = all.iter().map(|part| part.text.chars().count()).sum();
    let time = clock(model.now_s());
    if length + time.len() < width {
        all.push(span(Tone::Plain, " ".repeat(width - length - time.len())));
        all.push(span(Tone::Plain, time));
    }
    all
}

/// That there is no daemon, and since when.
fn banner(model: &Model, width: usize, height: usize) -> Vec<Line> {
    let Daemon::Gone { since_s, why } = &model.daemon else {
        return Vec::new();
    };
    let mut text = format!("Since {}: {why}", clock(*since_s));
    if !model.rows.is_empty() {
        text += &format!("\nWhat is shown is as it was at {}.", clock(model.seen_s));
    }
    let lines = wrap(&text, width).into_iter();
    // Something is left for the rest.
    let most = (height / 3).max(1);
    lines.take(most).map(|text| line(Tone::Bad, text)).collect()
}

/// The keys that there are here.
fn keys(model: &Model) -> &'static str {
    match (&model.dialog, model.place) {
        (Some(Dialog::Help | Dialog::Said { .. }), _) => "Esc close  up/down move",
        (Some(Dialog::Menu { .. }), _) => "up/down mark  Enter choose  Esc leave",
        (Some(Dialog::Confirm { .. }), _) => "Esc leave",
        (Some(Dialog::Runs { .. }), _) => "Esc end the command",
        (None, Place::List) => "up/down mark  Enter details  a actions  e events  ? help  q quit",
        (None, Place::Details) => "up/down move  a actions  e events  Esc back  ? help  q quit",
        (None, Place::Events) => "up/down move  Esc back  ? help  q quit",
    }
}
