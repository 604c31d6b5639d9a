//! What can be wrong with a configuration, and where.
//!
//! The first line of each message is DRBD's own (`docs/spec/admin.md`, section 1.12): people search for it. A second
//! part, ours, shows the source line with a caret under the column.

use std::fmt;
use std::sync::Arc;

/// One configuration file's name and text, kept so that messages can show the line they speak of.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// The name as DRBD's messages print it: as given for the main file, relative to the including file's folder for
    /// an included one.
    pub name: String,
    /// The absolute path; the name where there is no file (`STDIN`).
    pub path: String,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Whether a character only shows itself: control characters move a terminal's cursor or change its colours, and the
/// marks of writing direction reorder what stands around them.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text as it may be shown on a terminal: what would act on it is written as an escape, except the ends of lines and
/// tabs.
#[must_use]
pub fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    let is_fine = |c: char| is_printable(c) || matches!(c, '\n' | '\t');
    if text.chars().all(is_fine) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_fine(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown.into()
}

/// What the operating system says, without Rust's "(os error 2)".
pub(crate) fn system_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A place in a configuration file.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// The text of the line, for messages; `None` when it must not be shown because it holds the shared secret, whose
    /// name may stand at the end of a line before.
    fn source_line(&self) -> Option<&str> {
        let at = self.line.checked_sub(1)? as usize;
        let before = self.file.text.lines().take(at);
        let ends_in_name = before
            .map(|line| line.split('#').next().unwrap_or_default().trim_end())
            .filter(|line| !line.is_empty())
            .last()
            .is_some_and(|line| line.ends_with("shared-secret"));
        let line = self.file.text.lines().nth(at)?;
        (!line.contains("shared-secret") && !ends_in_name).then_some(line)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.name, self.line, self.column)
    }
}

impl fmt::Display for Place {
    /// `FILE:LINE`, as DRBD's messages begin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.name, self.line)
    }
}

/// What is wrong. The text of each is DRBD's where DRBD knows the case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The main file cannot be read.
    #[error("Can not open '{name}': {reason}")]
    Open {
        /// The file's name.
        name: String,
        /// The operating system's text.
        reason: String,
    },
    /// An `include` of a plain name that does not exist or cannot be read.
    #[error("Failed to open include file '{name}'.")]
    Include {
        /// The name as written.
        name: String,
    },
    /// A file, or a nesting of files, beyond what is reasonable.
    #[error("{what}: more than {limit}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Another word was expected.
    #[error("Parse error: '{expected}' expected,\n\tbut got '{got}'")]
    Expected {
        /// The words that could stand here.
        expected: String,
        /// The word that does.
        got: String,
    },
    /// A bare word beyond 128 characters.
    #[error("Token too long >>>{start}...<<<")]
    TokenTooLong {
        /// The first 20 characters.
        start: String,
    },
    /// A quoted string beyond 255 bytes.
    #[error("Double quoted string too long >>>{start}...<<<")]
    StringTooLong {
        /// The first 20 characters, the quote included.
        start: String,
    },
    /// A quoted string that does not end on its line.
    #[error(
        "Unterminated double quoted string\n  we don't allow embedded newlines\n  >>>{start}...<<<"
    )]
    Unterminated {
        /// Its first 20 characters, the quote and the line's end included.
        start: String,
    },
    /// Bytes that are not UTF-8, outside of comments.
    #[error("this is not valid UTF-8")]
    NotUtf8,
    /// A value that should be a number.
    #[error("{value} is not a valid number")]
    NotANumber {
        /// The option's name.
        name: String,
        /// The word.
        value: String,
    },
    /// A number outside its range.
    #[error("{name} {given} => {value}{unit} out of range [{min}..{max}]{unit}.")]
    Range {
        /// The option's name.
        name: String,
        /// The word as written.
        given: String,
        /// The number in the option's own unit.
        value: i128,
        /// The smallest allowed.
        min: i64,
        /// The greatest allowed.
        max: i64,
        /// The unit's letter: `k`, `s` or nothing.
        unit: &'static str,
    },
    /// A protocol other than A, B and C.
    #[error("unknown protocol '{value}', should be one of A,B,C")]
    Protocol {
        /// The word.
        value: String,
    },
    /// A value that is not one of the option's words.
    #[error("{name} '{value}' is not valid.\n\tAllowed values are: {allowed}")]
    Value {
        /// The option's name.
        name: String,
        /// The word.
        value: String,
        /// What may stand there.
        allowed: String,
    },
    /// A text that is too long for its option.
    #[error("{name} is too long: {len} characters, at most {max} are possible")]
    TooLong {
        /// The option's name.
        name: String,
        /// Its length.
        len: usize,
        /// The greatest length.
        max: usize,
    },
    /// Something that may be there once is there twice.
    #[error("conflicting use of {what} '{key}' ...\n{first}: {what} '{key}' first used here.")]
    Conflict {
        /// The kind of thing.
        what: String,
        /// Its name.
        key: String,
        /// `FILE:LINE` of the first.
        first: String,
    },
    /// A host without one of its statements.
    #[error("in resource {resource}, {section} {{ ... }}: '{keyword}' keyword missing.")]
    Missing {
        /// The resource.
        resource: String,
        /// The host section, as `on alice`.
        section: String,
        /// The keyword.
        keyword: &'static str,
    },
    /// A device name that is not DRBD's.
    #[error("device name must start with /dev/drbd\n\t(/dev/ is optional, but drbd is required)")]
    DeviceName,
    /// A device without a minor number.
    #[error("no minor given nor device name contains a minor number")]
    NoMinor,
    /// A device name and a minor number that differ.
    #[error(
        "explicit minor number must match with device name\n\tTry \"device /dev/drbd{minor} minor {minor};\",\n\t\
         or leave off either device name or explicit minor.\n\t\
         Arbitrary device names must start with /dev/drbd_\n\tmind the '_'! (/dev/ is optional, but drbd_ is required)"
    )]
    MinorMismatch {
        /// The explicit minor.
        minor: u32,
    },
    /// A host section within `common`.
    #[error("in the common section, there are no host sections allowed.")]
    HostInCommon,
    /// The file ends within a `skip` block.
    #[error("reached eof while parsing this skip block.")]
    SkipEof,
    /// The hosts of a resource have different volumes.
    #[error("in resource {resource}, {of}: {text}")]
    Volumes {
        /// The resource.
        resource: String,
        /// The host sections.
        of: String,
        /// The rest of the message.
        text: String,
    },
    /// A stacked resource on top of nothing.
    #[error("in resource {resource}, referenced resource '{lower}' not defined.")]
    NoLowerResource {
        /// The resource.
        resource: String,
        /// The one it should lie on.
        lower: String,
    },
    /// A problem of a resource as a whole: DRBD's `in resource R:` messages.
    #[error("in resource {resource}{of}:{text}", of = if of.is_empty() { String::new() } else { format!(", {of}") })]
    Resource {
        /// The resource.
        resource: String,
        /// The host sections, or nothing.
        of: String,
        /// The rest of the message.
        text: String,
    },
    /// A named device that does not begin as DRBD's do.
    #[error(
        "arbitrary device name must start with /dev/drbd_\n\tmind the '_'! (/dev/ is optional, but drbd_ is required)"
    )]
    ArbitraryDeviceName,
    /// An option or statement that rdb does not serve yet, set to something that matters.
    #[error("{resource}: {what} is not served by rdb yet{reason}", reason = if reason.is_empty() { String::new() } else { format!(": {reason}") })]
    NotServed {
        /// The resource.
        resource: String,
        /// `net option 'allow-two-primaries'`.
        what: String,
        /// Why, or nothing.
        reason: String,
    },
    /// The resource has no section for this host.
    #[error(
        "'{resource}' not defined in your config (for this host).\n\t\
         This host is called '{node}'; the resource names {hosts}."
    )]
    NoSuchHost {
        /// The resource.
        resource: String,
        /// This node's name.
        node: String,
        /// The names it has sections for.
        hosts: String,
    },
    /// No resource of that name.
    #[error("'{name}' not defined in your config (for this host).")]
    NoSuchResource {
        /// The name asked for.
        name: String,
    },
}

/// One message: what is wrong, and where if it has a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where, if at a place in a file.
    pub place: Option<Place>,
    /// What.
    pub problem: Problem,
    /// What may help, in a line of its own.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// The message without the source line: exactly DRBD's text where DRBD knows the case.
    #[must_use]
    pub fn text(&self) -> String {
        match (&self.place, &self.problem) {
            // DRBD prints these two without a place; the place is in the line below.
            (_, Problem::NotANumber { .. } | Problem::Protocol { .. }) | (None, _) => {
                self.problem.to_string()
            }
            // Checks that run after all is parsed name the file absolutely.
            (
                Some(place),
                problem @ (Problem::Resource { .. }
                | Problem::NoLowerResource { .. }
                | Problem::NotServed { .. }
                | Problem::NoSuchHost { .. }),
            ) => {
                format!("{}:{}: {problem}", place.file.path, place.line)
            }
            (Some(place), problem) => format!("{place}: {problem}"),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.text()))?;
        if let Some(place) = &self.place {
            let label = format!("{}:{}:{}", place.file.path, place.line, place.column);
            let label = printable(&label).into_owned();
            match place.source_line() {
                Some(line) => {
                    let column = place.column;
                    write!(
                        f,
                        "\n{}",
                        Snippet {
                            line,
                            column,
                            label
                        }
                    )?;
                }
                None => write!(f, "\n  at {label}")?,
            }
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

/// A source line with a caret under one column.
struct Snippet<'a> {
    line: &'a str,
    column: u32,
    label: String,
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Long lines are cut around the caret, so that it stays under its word.
        const WIDTH: usize = 100;
        let column = (self.column as usize).saturating_sub(1);
        let skip = column.saturating_sub(WIDTH / 2);
        let shown: Vec<char> = self.line.chars().skip(skip).take(WIDTH).collect();
        let clean = |c: &char| if is_printable(*c) { *c } else { ' ' };
        let text: String = shown.iter().map(clean).collect();
        write!(
            f,
            "  at {}\n  | {}\n  | {}^",
            self.label,
            text.trim_end(),
            " ".repeat(column - skip)
        )
    }
}

/// How many errors are kept and shown; later ones are rarely news.
pub(crate) const ERRORS_MAX: usize = 50;

/// What is found wrong: the first errors, and how many there are beyond them.
#[derive(Default)]
pub(crate) struct Errors {
    kept: Vec<Diagnostic>,
    more: usize,
    has_conflict: bool,
}

impl Errors {
    /// Keeps an error, or counts it if there are many already.
    pub(crate) fn push(&mut self, error: Diagnostic) {
        self.has_conflict |= matches!(error.problem, Problem::Conflict { .. });
        if self.kept.len() < ERRORS_MAX {
            self.kept.push(error);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Keeps the error that is the last because it ends the search for more.
    pub(crate) fn push_last(&mut self, error: Diagnostic) {
        self.kept.push(error);
    }

    /// Whether anything is there twice.
    pub(crate) fn has_conflict(&self) -> bool {
        self.has_conflict
    }

    /// Fails if there are any.
    pub(crate) fn result(self) -> Result<(), ConfigError> {
        if self.kept.is_empty() {
            return Ok(());
        }
        Err(ConfigError {
            diagnostics: self.kept,
            more: self.more,
        })
    }
}

impl Extend<Diagnostic> for Errors {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, errors: I) {
        errors.into_iter().for_each(|error| self.push(error));
    }
}

/// The configuration cannot be used: what was found wrong, in the order found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one message.
    pub diagnostics: Vec<Diagnostic>,
    /// How many more errors there are that are not among them.
    pub more: usize,
}

impl ConfigError {
    /// An error of one message.
    pub(crate) fn one(place: Option<Place>, problem: Problem) -> Self {
        Self {
            diagnostics: vec![Diagnostic {
                place,
                problem,
                hint: None,
            }],
            more: 0,
        }
    }

    /// The messages without source lines, one after the other: DRBD's text.
    #[must_use]
    pub fn text(&self) -> String {
        self.diagnostics
            .iter()
            .map(Diagnostic::text)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The exit status the commands end with: `docs/spec/admin.md`, section 3.10.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.diagnostics.first().map(|d| &d.problem) {
            Some(Problem::NoSuchHost { .. } | Problem::NoSuchResource { .. }) => 1,
            Some(Problem::NotANumber { .. }) => 20,
            _ => 10,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        match self.more {
            0 => Ok(()),
            1 => f.write_str("\nand 1 more error"),
            more => write!(f, "\nand {more} more errors"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What a warning is about, for callers that show only some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningKind {
    /// An old style that was translated, or an old option that no longer means anything.
    Deprecated,
    /// An option that is understood and has no effect in rdb.
    NoEffect,
    /// Something that works but is probably not what was meant.
    Advice,
}

/// Something to tell the user that does not stop the configuration from being used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// Where, if at a place in a file.
    pub place: Option<Place>,
    /// The text, without the place.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match &self.place {
            Some(place) => format!("{place}: {}", self.text),
            None => self.text.clone(),
        };
        f.write_str(&printable(&text))
    }
}
