//! Lines of text, drawn on a terminal.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::view::{self, Boxed, Marks, Tone, View};

/// How it looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Whether there are colours.
    pub(crate) color: bool,
    /// Which characters there are.
    pub(crate) marks: Marks,
}

/// A frame of ASCII.
const ASCII_FRAME: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// Draws a screen. What has no room is not drawn.
pub(crate) fn draw(frame: &mut Frame<'_>, view: &View, look: Look) {
    let area = frame.area();
    let row = |at: u16, height: u16| Rect::new(area.x, area.y + at, area.width, height);
    if area.height == 0 || area.width == 0 {
        return;
    }
    frame.render_widget(Paragraph::new(drawn(&view.head, look)), row(0, 1));
    if area.height > 2 {
        let lines: Vec<Line<'_>> = view.body.iter().map(|line| drawn(line, look)).collect();
        frame.render_widget(Paragraph::new(lines), row(1, area.height - 2));
    }
    if area.height > 1 {
        let foot = Paragraph::new(drawn(&view.foot, look));
        frame.render_widget(foot, row(area.height - 1, 1));
    }
    if let Some(boxed) = &view.boxed {
        draw_box(frame, area, boxed, look);
    }
}

fn draw_box(frame: &mut Frame<'_>, area: Rect, boxed: &Boxed, look: Look) {
    let size = |inner: usize, room: u16| u16::try_from(inner + 2).unwrap_or(room).min(room);
    let (width, height) = (
        size(boxed.width, area.width),
        size(boxed.height, area.height),
    );
    let place = Rect::new(
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
        width,
        height,
    );
    let frame_set = match look.marks {
        Marks::Unicode => border::PLAIN,
        Marks::Ascii => ASCII_FRAME,
    };
    let block = Block::bordered()
        .border_set(frame_set)
        .title(format!(" {} ", boxed.title));
    let lines: Vec<Line<'_>> = boxed.lines.iter().map(|line| drawn(line, look)).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

fn drawn(line: &view::Line, look: Look) -> Line<'_> {
    let spans = line
        .iter()
        .map(|part| Span::styled(part.text.as_str(), style(part.tone, look.color)));
    spans.collect()
}

/// Without colours what matters stands out all the same.
fn style(tone: Tone, color: bool) -> Style {
    let plain = Style::new();
    match tone {
        Tone::Plain => plain,
        Tone::Dim if color => plain.fg(Color::DarkGray),
        Tone::Dim => plain,
        Tone::Strong => plain.add_modifier(Modifier::BOLD),
        Tone::Good if color => plain.fg(Color::Green),
        Tone::Good => plain,
        Tone::Warning if color => plain.fg(Color::Yellow),
        Tone::Warning => plain.add_modifier(Modifier::BOLD),
        Tone::Bad if color => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Bad => plain.add_modifier(Modifier::BOLD),
        Tone::Marked => plain.add_modifier(Modifier::REVERSED),
    }
}
