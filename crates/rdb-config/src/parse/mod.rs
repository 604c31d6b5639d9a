//! The grammar: `docs/spec/admin.md`, sections 1.4 to 1.9.
//!
//! One pass over the tokens builds the model and translates old styles on the way. A syntax error ends the parse; what
//! is wrong with a value or a missing statement is collected, and the parse goes on.

mod address;
mod connection;
mod resource;
mod section;
mod volume;

use crate::error::{
    Diagnostic, Errors, Place, Problem, SourceFile, Warning, WarningKind, system_words,
};
use crate::file::read_regular;
use crate::lexer::{Kind, Token, tokens};
use crate::model::{Resource, Sections, Setting};
use crate::suggest;
use crate::text::Text;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The greatest size of one file, in bytes.
pub const FILE_MAX: usize = 4 << 20;
/// The greatest number of files of one configuration.
pub(crate) const FILES_MAX: usize = 4096;
/// The greatest size of all files together, in bytes.
pub(crate) const TOTAL_MAX: usize = 64 << 20;
/// How deep includes may nest.
pub(crate) const INCLUDE_DEPTH_MAX: usize = 32;

/// How many options one section may set: many times what there are.
pub(crate) const SETTINGS_MAX: usize = 1024;

/// How many warnings are kept and told; later ones are counted.
pub(crate) const WARNINGS_MAX: usize = 1000;
/// How many volumes all hosts of all resources have: 65,536 volumes on four hosts. A host that has several names counts
/// once for each.
pub(crate) const VOLUMES_MAX: usize = 1 << 18;
/// How many options these volumes have from templates.
pub(crate) const VOLUME_SETTINGS_MAX: usize = 1 << 20;

/// The parse cannot go on; why is in the parser's errors.
pub(crate) struct Stop;

/// The result of a step of the parse.
pub(crate) type Step<T> = Result<T, Stop>;

/// What a parse leaves behind.
#[derive(Default)]
pub(crate) struct Parsed {
    /// The main file's absolute path.
    pub(crate) path: String,
    pub(crate) global: Vec<Setting>,
    pub(crate) common: Sections,
    pub(crate) has_common: bool,
    pub(crate) resources: Vec<Resource>,
    pub(crate) errors: Errors,
    pub(crate) warnings: Vec<Warning>,
    /// How many warnings there are beyond them.
    pub(crate) more_warnings: usize,
    /// The 0.7 resync groups: resource and group number.
    pub(crate) groups: Vec<(String, i64)>,
    /// Whether a syntax error ended the parse.
    pub(crate) stopped: bool,
}

/// The parser of one configuration.
pub(crate) struct Parser {
    pub(crate) out: Parsed,
    file: Arc<SourceFile>,
    /// The folder that relative includes start from.
    folder: PathBuf,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    total: usize,
    /// How many volumes the hosts of the resources read so far have, and how many options of them.
    volumes: usize,
    volume_settings: usize,
    /// The real paths of the files read so far.
    seen: BTreeSet<PathBuf>,
    /// First uses of what may be there only once: kind and name.
    firsts: BTreeMap<(String, String), Place>,
    /// Names of files that were told of their `=` already.
    assigned_in: BTreeSet<String>,
}

impl Parser {
    /// Parses the main file's text.
    pub(crate) fn run(name: &str, path: &Path, text: &Text) -> Parsed {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let source = Arc::new(SourceFile {
            name: name.to_owned(),
            path: if name == "STDIN" {
                name.to_owned()
            } else {
                absolute.display().to_string()
            },
            text: text.text.clone(),
        });
        let mut parser = Self {
            out: Parsed::default(),
            file: Arc::clone(&source),
            folder: absolute.parent().unwrap_or(Path::new("/")).to_owned(),
            tokens: Vec::new(),
            at: 0,
            depth: 0,
            total: 0,
            volumes: 0,
            volume_settings: 0,
            seen: BTreeSet::new(),
            firsts: BTreeMap::new(),
            assigned_in: BTreeSet::new(),
        };
        if let Ok(real) = std::fs::canonicalize(path) {
            parser.seen.insert(real);
        }
        parser.out.path = source.path.clone();
        parser.out.stopped = parser.source(source, text).is_err();
        parser.out
    }

    fn source(&mut self, file: Arc<SourceFile>, text: &Text) -> Step<()> {
        self.total += text.size;
        if text.size > FILE_MAX || self.total > TOTAL_MAX {
            let (what, limit) = if text.size > FILE_MAX {
                ("bytes in one configuration file", FILE_MAX)
            } else {
                ("bytes in all configuration files", TOTAL_MAX)
            };
            let place = Place {
                file,
                line: 1,
                column: 1,
            };
            return self.stop(Some(place), Problem::TooMuch { what, limit });
        }
        self.file = file;
        self.tokens = tokens(&text.text, &text.replaced);
        self.at = 0;
        while self.top_level()? {}
        Ok(())
    }

    /// One statement of the top level; false at the end of the file.
    fn top_level(&mut self) -> Step<bool> {
        let token = self.next()?;
        match (&token.kind, token.text.as_str()) {
            (Kind::End, _) => return Ok(false),
            (Kind::Punct(';'), _) => self.stray_semicolon(&token),
            (Kind::Word, "global") => self.global(&token)?,
            (Kind::Word, "common") => self.common(&token)?,
            (Kind::Word, "resource") => self.resource()?,
            (Kind::Word, "skip") => self.skip(&token)?,
            (Kind::Word, "include") => self.include(&token)?,
            (Kind::Word, word) if word.starts_with("require-drbd-module-version-") => {
                self.text()?;
                self.end_of_statement(false)?;
                self.warn(
                    WarningKind::NoEffect,
                    &token,
                    format!("{word} has no effect: there is no kernel module"),
                );
            }
            _ => {
                let hint = match token.text.as_str() {
                    "on" => "an 'on' section belongs into the braces of its resource",
                    "net" | "disk" | "syncer" | "startup" | "handlers" | "options" | "protocol" => {
                        "this belongs into the braces of a resource, or of common"
                    }
                    "}" => "a '}' too many, or is a '{' missing before?",
                    word => match suggest::nearest(word, TOP_LEVEL) {
                        Some(near) => &format!("did you mean '{near}'?"),
                        None => "",
                    },
                };
                return self.expected("global | common | resource | skip | include", &token, hint);
            }
        }
        Ok(true)
    }

    fn global(&mut self, keyword: &Token) -> Step<()> {
        let place = self.place(keyword);
        if !self.out.resources.is_empty() {
            let text =
                "You should put the global {} section\n\tin front of any resource {} section";
            self.warn(WarningKind::Advice, keyword, text.to_owned());
        }
        self.only_once("global section", "global", place);
        self.open()?;
        self.global_options()
    }

    fn common(&mut self, keyword: &Token) -> Step<()> {
        let place = self.place(keyword);
        self.only_once("resource section", "common", place.clone());
        self.open()?;
        self.out.has_common = true;
        let mut common = self.common_body(&place)?;
        self.out.common.append(&mut common);
        Ok(())
    }

    fn skip(&mut self, keyword: &Token) -> Step<()> {
        // Any words may stand before the brace: what is skipped is often a whole resource.
        loop {
            let token = self.peek_raw().clone();
            match token.kind {
                Kind::Punct('{') => return self.skip_braces(keyword),
                Kind::End | Kind::Punct('}' | ';') => {
                    return self.expected("[ some_text ] {", &token, "");
                }
                _ => self.at += 1,
            }
        }
    }

    /// Passes over `{ ... }` whatever is in it.
    fn skip_braces(&mut self, keyword: &Token) -> Step<()> {
        let mut depth = 0_usize;
        loop {
            let token = self.peek_raw().clone();
            match token.kind {
                Kind::Punct('{') => depth += 1,
                Kind::Punct('}') => depth = depth.saturating_sub(1),
                Kind::End => return self.stop(Some(self.place(keyword)), Problem::SkipEof),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn include(&mut self, keyword: &Token) -> Step<()> {
        let name = self.text()?;
        self.end_of_statement(false)?;
        if self.depth >= INCLUDE_DEPTH_MAX {
            let problem = Problem::TooMuch {
                what: "nested includes",
                limit: INCLUDE_DEPTH_MAX,
            };
            return self.stop(Some(self.place(keyword)), problem);
        }
        let is_pattern = name.text.contains(['*', '?', '[']);
        // Of the files that a pattern finds the one that fails is named, as it is written otherwise.
        let failed = |parser: &mut Self, path: &Path, reason: String| {
            let shown = match path.strip_prefix(&parser.folder) {
                Ok(relative) if !name.text.starts_with('/') => relative,
                _ => path,
            };
            let name_of_file = if is_pattern {
                shown.display().to_string()
            } else {
                name.text.clone()
            };
            let hint = match std::fs::read_link(path) {
                Ok(target) if !path.exists() => {
                    format!("it is a link to {}, which is not there", target.display())
                }
                _ if !path.exists() => format!("there is no {}", path.display()),
                _ => reason,
            };
            let problem = Problem::Include { name: name_of_file };
            parser.stop_with(Some(parser.place(&name)), problem, hint)
        };
        // The folder's own name may hold characters that are special in patterns.
        let folder = glob::Pattern::escape(&self.folder.to_string_lossy());
        let pattern = if name.text.starts_with('/') {
            name.text.clone()
        } else {
            format!("{folder}/{}", name.text)
        };
        let paths: Vec<PathBuf> = if is_pattern {
            let options = glob::MatchOptions {
                case_sensitive: true,
                require_literal_separator: true,
                require_literal_leading_dot: true,
            };
            let Ok(found) = glob::glob_with(&pattern, options) else {
                return failed(self, Path::new(&name.text), String::new());
            };
            let mut found: Vec<PathBuf> =
                found.filter_map(Result::ok).take(FILES_MAX + 1).collect();
            found.sort();
            found
        } else {
            vec![self.folder.join(&name.text)]
        };
        for path in paths {
            let real = match std::fs::canonicalize(&path) {
                Ok(real) => real,
                Err(error) => return failed(self, &path, system_words(&error)),
            };
            if is_pattern && real.is_dir() {
                continue;
            }
            if !self.seen.insert(real) {
                continue;
            }
            if self.seen.len() > FILES_MAX {
                let problem = Problem::TooMuch {
                    what: "configuration files",
                    limit: FILES_MAX,
                };
                return self.stop(Some(self.place(keyword)), problem);
            }
            let text = match read_regular(&path, FILE_MAX) {
                Ok(bytes) => Text::from(bytes.as_slice()),
                Err(error) => return failed(self, &path, system_words(&error)),
            };
            self.nested(&name.text, &path, &text)?;
        }
        Ok(())
    }

    /// Parses an included file, then comes back to this one.
    fn nested(&mut self, pattern: &str, path: &Path, text: &Text) -> Step<()> {
        let shown = match path.strip_prefix(&self.folder) {
            Ok(relative) if !pattern.starts_with('/') => relative,
            _ => path,
        };
        let file = Arc::new(SourceFile {
            name: shown.display().to_string(),
            path: path.display().to_string(),
            text: text.text.clone(),
        });
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let outer_file = Arc::clone(&self.file);
        let outer_folder = std::mem::replace(&mut self.folder, folder);
        let outer_tokens = std::mem::take(&mut self.tokens);
        let outer_at = self.at;
        self.depth += 1;
        self.source(file, text)?;
        self.depth -= 1;
        self.file = outer_file;
        self.folder = outer_folder;
        self.tokens = outer_tokens;
        self.at = outer_at;
        Ok(())
    }

    // ---- tokens

    /// The next token, broken or not; the last is the end of the file, again and again.
    fn peek_raw(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    /// The token after the next.
    fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)]
    }

    /// Takes the next token; a broken one ends the parse.
    fn next(&mut self) -> Step<Token> {
        let token = self.peek_raw().clone();
        if let Kind::Broken(mut problem) = token.kind {
            // The beginning of a secret is no less secret.
            if self.follows_secret(self.at)
                && let Problem::StringTooLong { start }
                | Problem::Unterminated { start }
                | Problem::TokenTooLong { start } = &mut problem
            {
                *start = "*****".to_owned();
            }
            let place = Place {
                file: Arc::clone(&self.file),
                line: token.line,
                column: token.column,
            };
            let hint = hint_for_broken(&problem);
            return self.stop_with(Some(place), problem, hint.to_owned());
        }
        self.at += 1;
        Ok(token)
    }

    /// Whether the token at this position is the value of `shared-secret`.
    fn follows_secret(&self, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.is_some_and(|token| token.is_word("shared-secret"))
    }

    /// Takes the next token if it is this punctuation.
    fn accept(&mut self, punct: char) -> bool {
        let found = self.peek_raw().is(punct);
        self.at += usize::from(found);
        found
    }

    /// Takes the next token if it is this word.
    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.peek_raw().is_word(word);
        self.at += usize::from(found);
        found
    }

    /// Takes a word or a string.
    fn text(&mut self) -> Step<Token> {
        let token = self.next()?;
        if token.is_text() {
            Ok(token)
        } else {
            self.expected("TK_STRING", &token, "")
        }
    }

    /// Takes a name: a string, or a bare word that is neither a keyword nor a number.
    fn name(&mut self) -> Step<Token> {
        let token = self.next()?;
        let bare = token.kind == Kind::Word;
        if !token.is_text() || (bare && (is_keyword(&token.text) || is_number_token(&token.text))) {
            let hint = if bare {
                "names like this one must be quoted"
            } else {
                ""
            };
            return self.expected("TK_STRING", &token, hint);
        }
        Ok(token)
    }

    fn open(&mut self) -> Step<()> {
        let before = self.at.checked_sub(1).map(|at| self.tokens[at].clone());
        let token = self.next()?;
        if token.is('{') {
            return Ok(());
        }
        let hint = match before {
            _ if matches!(
                token.kind,
                Kind::Punct(':' | '=' | '%' | '[' | ']') | Kind::Stray
            ) =>
            {
                QUOTE_IT.to_owned()
            }
            Some(before) if before.line < token.line => {
                format!("is the '{{' missing at the end of line {}?", before.line)
            }
            Some(before) => format!("is the '{{' missing after '{}'?", before.text),
            None => String::new(),
        };
        self.expected("{", &token, &hint)
    }

    /// Ends a statement: `;`, or the end of the line when it was a 0.6-style assignment.
    fn end_of_statement(&mut self, by_line: bool) -> Step<()> {
        let before = self.at.checked_sub(1).map(|at| self.tokens[at].clone());
        let token = self.peek_raw().clone();
        let on_next_line = before.as_ref().is_none_or(|b| b.line < token.line);
        if token.is(';') {
            self.at += 1;
            return Ok(());
        }
        if by_line && (on_next_line || token.is('}') || token.kind == Kind::End) {
            return Ok(());
        }
        self.missing_semicolon(";", before.as_ref())
    }

    /// The error of a statement that goes on where it should end.
    fn missing_semicolon<T>(&mut self, expected: &str, before: Option<&Token>) -> Step<T> {
        let is_secret = self
            .at
            .checked_sub(1)
            .is_some_and(|at| self.follows_secret(at));
        let token = self.next()?;
        let hint = match before {
            Some(before) if before.line < token.line => {
                format!("is the ';' missing at the end of line {}?", before.line)
            }
            Some(_) if is_secret => {
                "a secret with other characters than letters, digits, '/', '.', '_' and '-' must be quoted"
                    .to_owned()
            }
            Some(before) => format!("is the ';' missing after '{}'?", before.text),
            None => String::new(),
        };
        self.expected(expected, &token, &hint)
    }

    /// Takes the `=` of a 0.6-style assignment, and says once a file that it is old.
    fn assignment(&mut self, key: &Token) -> bool {
        if !self.accept('=') {
            return false;
        }
        if self.assigned_in.insert(self.file.path.clone()) {
            let text = format!(
                "'{} = ...' is the style of DRBD 0.6; write '{} ...;'",
                key.text, key.text
            );
            self.warn(WarningKind::Deprecated, key, text);
        }
        true
    }

    // ---- messages

    fn place(&self, token: &Token) -> Place {
        token.place(&self.file)
    }

    fn stop<T>(&mut self, place: Option<Place>, problem: Problem) -> Step<T> {
        self.stop_with(place, problem, String::new())
    }

    fn stop_with<T>(&mut self, place: Option<Place>, problem: Problem, hint: String) -> Step<T> {
        self.out.errors.push_last(Diagnostic {
            place,
            problem,
            hint: (!hint.is_empty()).then_some(hint),
        });
        Err(Stop)
    }

    /// A problem that does not end the parse.
    fn wrong(&mut self, place: Place, problem: Problem) {
        self.wrong_with(place, problem, String::new());
    }

    /// The same, with what may help.
    fn wrong_with(&mut self, place: Place, problem: Problem, hint: String) {
        self.out.errors.push(Diagnostic {
            place: Some(place),
            problem,
            hint: (!hint.is_empty()).then_some(hint),
        });
    }

    fn expected<T>(&mut self, expected: &str, got: &Token, hint: &str) -> Step<T> {
        let problem = Problem::Expected {
            expected: expected.to_owned(),
            got: got.text.clone(),
        };
        let hint = if hint.is_empty() {
            hint_for_token(got)
        } else {
            hint
        };
        self.stop_with(Some(self.place(got)), problem, hint.to_owned())
    }

    fn warn(&mut self, kind: WarningKind, at: &Token, text: String) {
        if self.out.warnings.len() >= WARNINGS_MAX {
            self.out.more_warnings += 1;
            return;
        }
        let place = Some(self.place(at));
        self.out.warnings.push(Warning { kind, place, text });
    }

    fn stray_semicolon(&mut self, token: &Token) {
        self.warn(
            WarningKind::Advice,
            token,
            "a ';' too many; DRBD's tools reject it".to_owned(),
        );
    }

    /// Notes the first use of something and complains about the second.
    fn only_once(&mut self, what: &str, key: &str, place: Place) {
        self.only_once_in("", what, key, place);
    }

    /// The same within one resource or host. `owner` tells it from another of the same name, which is an error
    /// itself and not one for each of its statements. True for the first.
    fn only_once_in(&mut self, owner: &str, what: &str, key: &str, place: Place) -> bool {
        let id = (what.to_owned(), format!("{owner} {key}"));
        if let Some(first) = self.firsts.get(&id) {
            let problem = Problem::Conflict {
                what: what.to_owned(),
                key: key.to_owned(),
                first: first.to_string(),
            };
            self.wrong(place, problem);
            return false;
        }
        self.firsts.insert(id, place);
        true
    }
}

/// The words that begin a statement of the top level.
const TOP_LEVEL: [&str; 5] = ["global", "common", "resource", "skip", "include"];

/// What helps with characters that are not those of a bare word.
const QUOTE_IT: &str = "names and values with such characters must stand in double quotes";

/// What may help with a token that can stand nowhere.
fn hint_for_token(token: &Token) -> &'static str {
    match (&token.kind, token.text.as_str()) {
        (Kind::End, _) => "the file ends here; is a '}' missing?",
        (Kind::Stray, "\u{feff}") => {
            "the file begins with a byte order mark; save it as UTF-8 without one"
        }
        (Kind::Stray, "\u{201c}" | "\u{201d}" | "\u{201e}" | "\u{2018}" | "\u{2019}" | "'") => {
            "strings stand in plain double quotes: \""
        }
        (Kind::Stray | Kind::Punct('%'), _) => QUOTE_IT,
        _ => "",
    }
}

/// What may help with a token that broke a rule.
fn hint_for_broken(problem: &Problem) -> &'static str {
    match problem {
        Problem::NotUtf8 => "save the file as UTF-8; other bytes may stand in comments only",
        _ => "",
    }
}

/// Words that cannot be names unless they are quoted.
fn is_keyword(word: &str) -> bool {
    const KEYWORDS: &[&str] = &[
        "global",
        "common",
        "resource",
        "on",
        "net",
        "disk",
        "syncer",
        "startup",
        "handlers",
        "options",
        "protocol",
        "device",
        "minor",
        "address",
        "alternate-link-address",
        "meta-disk",
        "flexible-meta-disk",
        "volume",
        "skip",
        "include",
        "floating",
        "stacked-on-top-of",
        "ignore-on",
        "proxy",
        "inside",
        "outside",
    ];
    KEYWORDS.contains(&word)
}

/// Whether DRBD reads the word as a number: at most 8 digits and maybe a suffix.
fn is_number_token(word: &str) -> bool {
    let digits = word.strip_suffix(['M', 'K', 'G', 's']).unwrap_or(word);
    (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}
