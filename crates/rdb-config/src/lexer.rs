//! Words, strings and punctuation: `docs/spec/admin.md`, section 1.2.

use crate::error::{Place, Problem, SourceFile};
use std::sync::Arc;

/// A bare word's greatest length, in characters.
const WORD_MAX: usize = 128;
/// A quoted string's greatest length, in bytes.
const STRING_MAX: usize = 255;
/// How much of a too long token a message shows, in characters.
const SHOWN: usize = 20;

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bare word: letters, digits and `/._-`.
    Word,
    /// A quoted string; its text is without quotes and backslashes.
    Quoted,
    /// One of `{ } ; [ ] : =` and, for the scope of an IPv6 address, `%`.
    Punct(char),
    /// A character that starts no token.
    Stray,
    /// A token that broke a rule; a problem only where a token is used.
    Broken(Problem),
    /// The end of the file.
    End,
}

/// One token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
    /// Whether it follows the token before without any blank between.
    pub(crate) glued: bool,
}

impl Token {
    pub(crate) fn place(&self, file: &Arc<SourceFile>) -> Place {
        Place {
            file: Arc::clone(file),
            line: self.line,
            column: self.column,
        }
    }

    pub(crate) fn is(&self, punct: char) -> bool {
        self.kind == Kind::Punct(punct)
    }

    /// Whether it is this bare word.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    /// Whether it can be a value: a bare word or a string.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Quoted)
    }
}

/// Cuts a text into tokens; the last is [`Kind::End`]. A token with one of the characters that stand, at these places in the
/// text, for bytes that are not UTF-8 is broken.
pub(crate) fn tokens(text: &str, replaced: &[usize]) -> Vec<Token> {
    Lexer {
        chars: text.chars().peekable(),
        replaced,
        offset: 0,
        not_utf8: None,
        line: 1,
        column: 1,
    }
    .run()
}

const fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-')
}

struct Lexer<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    /// What is still to come of the replaced characters.
    replaced: &'a [usize],
    /// The next character's place in the text.
    offset: usize,
    /// Line and column of the first character of this token that stands for something else.
    not_utf8: Option<(u32, u32)>,
    line: u32,
    column: u32,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        if let [first, rest @ ..] = self.replaced
            && *first == self.offset
        {
            self.replaced = rest;
            self.not_utf8.get_or_insert((self.line, self.column));
        }
        self.offset += c.len_utf8();
        if c == '\n' {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
        Some(c)
    }

    fn run(mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut glued = false;
        while let Some(&c) = self.chars.peek() {
            if matches!(c, ' ' | '\t' | '\r' | '\n') {
                self.next();
                glued = false;
                continue;
            }
            if c == '#' {
                while self.chars.peek().is_some_and(|&c| c != '\n') {
                    self.next();
                }
                self.not_utf8 = None;
                glued = false;
                continue;
            }
            let (line, column) = (self.line, self.column);
            let (kind, text) = if c == '"' {
                self.string()
            } else if is_word_char(c) {
                self.word()
            } else {
                self.next();
                let punct = matches!(c, '{' | '}' | ';' | '[' | ']' | ':' | '=' | '%');
                (
                    if punct { Kind::Punct(c) } else { Kind::Stray },
                    c.to_string(),
                )
            };
            let (kind, line, column) = match self.not_utf8.take() {
                Some((line, column)) => (Kind::Broken(Problem::NotUtf8), line, column),
                None => (kind, line, column),
            };
            tokens.push(Token {
                kind,
                text,
                line,
                column,
                glued,
            });
            glued = true;
        }
        let (line, column) = (self.line, self.column);
        tokens.push(Token {
            kind: Kind::End,
            text: String::new(),
            line,
            column,
            glued: false,
        });
        tokens
    }

    fn word(&mut self) -> (Kind, String) {
        let mut text = String::new();
        let mut len = 0;
        while let Some(&c) = self.chars.peek().filter(|&&c| is_word_char(c)) {
            self.next();
            len += 1;
            if len <= WORD_MAX {
                text.push(c);
            }
        }
        if len > WORD_MAX {
            text.truncate(SHOWN);
            return (
                Kind::Broken(Problem::TokenTooLong {
                    start: text.clone(),
                }),
                text,
            );
        }
        (Kind::Word, text)
    }

    fn string(&mut self) -> (Kind, String) {
        self.next();
        let mut text = String::new();
        let mut too_long = false;
        loop {
            let c = match self.chars.peek() {
                Some('"') => {
                    self.next();
                    break;
                }
                // The line's end stays for the line count; a comment would hide what follows.
                end @ (None | Some('\n')) => {
                    let end = end.copied();
                    return Self::unterminated(text, end);
                }
                Some('\\') => {
                    self.next();
                    match self.chars.peek() {
                        end @ (None | Some('\n')) => {
                            let end = end.copied();
                            return Self::unterminated(text, end);
                        }
                        Some(&c) => c,
                    }
                }
                Some(&c) => c,
            };
            self.next();
            too_long |= text.len() + c.len_utf8() > STRING_MAX;
            if !too_long {
                text.push(c);
            }
        }
        if too_long {
            let start: String = "\"".chars().chain(text.chars()).take(SHOWN).collect();
            return (
                Kind::Broken(Problem::StringTooLong {
                    start: start.clone(),
                }),
                start,
            );
        }
        (Kind::Quoted, text)
    }

    fn unterminated(text: String, end: Option<char>) -> (Kind, String) {
        let start = "\""
            .chars()
            .chain(text.chars())
            .chain(end)
            .take(SHOWN)
            .collect();
        (Kind::Broken(Problem::Unterminated { start }), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, String)> {
        tokens(text, &[])
            .into_iter()
            .map(|t| (t.kind, t.text))
            .collect()
    }

    #[test]
    fn comments_may_be_glued_to_a_token() {
        let words = kinds("foo;#bar \"\n\"a # b\"");
        let expected = vec![
            (Kind::Word, "foo".to_owned()),
            (Kind::Punct(';'), ";".to_owned()),
            (Kind::Quoted, "a # b".to_owned()),
            (Kind::End, String::new()),
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn backslash_makes_the_next_character_literal() {
        assert_eq!(
            kinds(r#""a\"b\\c\n""#)[0],
            (Kind::Quoted, r#"a"b\cn"#.to_owned())
        );
    }

    #[test]
    fn lengths_have_limits_at_their_edges() {
        assert_eq!(kinds(&"w".repeat(128))[0].0, Kind::Word);
        assert!(matches!(
            kinds(&"w".repeat(129))[0].0,
            Kind::Broken(Problem::TokenTooLong { .. })
        ));
        assert_eq!(
            kinds(&format!("\"{}\"", "s".repeat(255)))[0].0,
            Kind::Quoted
        );
        assert!(matches!(
            kinds(&format!("\"{}\"", "s".repeat(256)))[0].0,
            Kind::Broken(Problem::StringTooLong { .. })
        ));
    }

    #[test]
    fn a_string_ends_on_its_line() {
        let tokens = tokens("x \"foo\nbar", &[]);
        assert!(matches!(
            tokens[1].kind,
            Kind::Broken(Problem::Unterminated { .. })
        ));
        assert_eq!(
            (tokens[2].text.as_str(), tokens[2].line, tokens[2].column),
            ("bar", 2, 1)
        );
    }

    #[test]
    fn carriage_returns_are_blanks() {
        assert_eq!(kinds("a;\r\nb\r\n").len(), 4);
    }
}
