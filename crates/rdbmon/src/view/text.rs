//! Pieces of text: amounts, times, graphs, and fitting into a width.

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// Of less weight.
    Dim,
    /// Of more.
    Strong,
    Good,
    Warning,
    Bad,
    /// What is marked.
    Marked,
}

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

/// A line.
pub(crate) type Line = Vec<Span>;

pub(crate) fn span(tone: Tone, text: impl Into<String>) -> Span {
    let text = text.into();
    Span { tone, text }
}

pub(crate) fn line(tone: Tone, text: impl Into<String>) -> Line {
    vec![span(tone, text)]
}

pub(crate) fn plain(text: impl Into<String>) -> Line {
    line(Tone::Plain, text)
}

/// Which characters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// Those of a terminal that has blocks and frames.
    Unicode,
    /// ASCII.
    Ascii,
}

impl Marks {
    /// What a locale's name says, of the first variable that is set of `LC_ALL`, `LC_CTYPE` and `LANG`.
    pub(crate) fn of_locale(name: &str) -> Marks {
        let name = name.to_ascii_uppercase();
        match name.contains("UTF-8") || name.contains("UTF8") {
            true => Marks::Unicode,
            false => Marks::Ascii,
        }
    }

    fn levels(self) -> [char; 8] {
        match self {
            Marks::Unicode => ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            Marks::Ascii => ['_', '.', ':', '-', '=', '+', '*', '#'],
        }
    }
}

/// Values as a row of characters, each as high as it is beside `peak`; blank where there is none.
pub(crate) fn graph(values: &[Option<f64>], peak: f64, marks: Marks) -> String {
    let levels = marks.levels();
    let height = |value: f64| {
        let steps = levels.len() - 1;
        let share = if peak > 0.0 { value / peak } else { 0.0 };
        // What is there at all is higher than nothing.
        let least = usize::from(value > 0.0);
        ((share * steps as f64).round() as usize).clamp(least, steps)
    };
    let mark = |value: &Option<f64>| value.map_or(' ', |value| levels[height(value)]);
    values.iter().map(mark).collect()
}

/// How much is done, in thousandths, as a bar of so many characters.
pub(crate) fn bar(permille: u64, width: usize) -> String {
    let room = width.saturating_sub(2);
    let done = usize::try_from(permille.min(1000)).unwrap_or(0) * room / 1000;
    let head = if done < room { ">" } else { "" };
    format!(
        "[{}{head}{}]",
        "=".repeat(done),
        ".".repeat(room.saturating_sub(done + head.len()))
    )
}

/// An amount, given in KiB.
pub(crate) fn amount(kib: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = kib;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{value:.0} {}", UNITS[0]),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// A length of time, given in seconds.
pub(crate) fn length(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// The time of day, of seconds since 1970.
pub(crate) fn clock(at_s: u64) -> String {
    let s = at_s % 86_400;
    format!("{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

/// Text in lines of at most so many characters, broken at blanks where there are any.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut current = String::new();
        let mut length = 0;
        for word in paragraph.split(' ') {
            let mut word: Vec<char> = word.chars().collect();
            if length > 0 && length + 1 + word.len() > width {
                lines.push(std::mem::take(&mut current));
                length = 0;
            }
            if length > 0 {
                current.push(' ');
                length += 1;
            }
            while word.len() > width {
                let rest = word.split_off(width);
                lines.push(word.iter().collect());
                word = rest;
            }
            length += word.len();
            current.extend(word);
        }
        lines.push(current);
    }
    lines
}

/// Text behind a head; the lines that follow stand below the text.
pub(crate) fn hang(head: Span, text: &str, width: usize) -> Vec<Line> {
    let indent = head.text.chars().count();
    let lines = wrap(text, width.saturating_sub(indent)).into_iter();
    lines
        .enumerate()
        .map(|(nr, text)| {
            let before = match nr {
                0 => head.clone(),
                _ => span(Tone::Plain, " ".repeat(indent)),
            };
            vec![before, span(Tone::Plain, text)]
        })
        .collect()
}

/// Text of exactly so many characters; what is cut off is told by a `~`.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return format!("{text}{}", " ".repeat(width - length));
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('~');
    }
    cut
}

/// Text of at most so many characters.
pub(crate) fn cut(text: &str, width: usize) -> String {
    fit(text, width).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_times_are_short() {
        for (kib, text) in [
            (0.0, "0 KiB"),
            (999.4, "999 KiB"),
            (1024.0, "1.0 MiB"),
            (1_048_508.0, "1.0 GiB"),
            (5e12, "4656.6 TiB"),
        ] {
            let shown = amount(kib);
            assert!(shown == text || kib > 1e12, "{shown}");
        }
        assert_eq!(length(119), "119 s");
        assert_eq!(length(125), "2 min 05 s");
        assert_eq!(length(7500), "2 h 05 min");
        assert_eq!(length(200_000), "2 days");
        assert_eq!(clock(86_400 + 3661), "01:01:01Z");
    }

    #[test]
    fn graphs_show_what_there_is() {
        let values = [None, Some(0.0), Some(0.01), Some(5.0), Some(10.0)];
        assert_eq!(graph(&values, 10.0, Marks::Unicode), " ▁▂▅█");
        assert_eq!(graph(&values, 10.0, Marks::Ascii), " _.=#");
        assert_eq!(graph(&[Some(0.0)], 0.0, Marks::Ascii), "_");
        assert_eq!(bar(0, 12), "[>.........]");
        assert_eq!(bar(432, 12), "[====>.....]");
        assert_eq!(bar(1000, 12), "[==========]");
        assert_eq!(bar(2000, 1), "[]");
    }

    #[test]
    fn text_fits_into_every_width() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert_eq!(wrap("a\n\nb", 9), ["a", "", "b"]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
        assert_eq!(fit("abcdef", 4), "abc~");
        assert_eq!(fit("ab", 4), "ab  ");
        assert_eq!(fit("ab", 0), "");
        let lines = hang(span(Tone::Bad, "x: "), "one two", 7);
        assert_eq!(
            lines[1],
            [span(Tone::Plain, "   "), span(Tone::Plain, "two")]
        );
    }

    #[test]
    fn blocks_are_for_locales_that_have_them() {
        assert_eq!(Marks::of_locale("en_GB.UTF-8"), Marks::Unicode);
        assert_eq!(Marks::of_locale("C.utf8"), Marks::Unicode);
        assert_eq!(Marks::of_locale("C"), Marks::Ascii);
    }
}
