//! Option sections, and what became of old options: `docs/spec/admin.md`, section 1.9.

use super::{Parser, SETTINGS_MAX, Step};
use crate::error::{Problem, WarningKind};
use crate::lexer::{Kind, Token};
use crate::model::{Section, Sections, Setting};
use crate::options::{self, Old, OldSection, OptionDef, Type};
use crate::suggest;
use crate::value::{self, is_clamped};

/// The command for a kernel panic, as `on-io-error panic` meant it.
const PANIC: &str = "echo b > /proc/sysrq-trigger";

impl Parser {
    /// The body of `global {}` after its brace.
    pub(super) fn global_options(&mut self) -> Step<()> {
        let mut sections = Sections::default();
        loop {
            let token = self.next()?;
            if token.is('}') {
                let settings = sections.get(Section::Global);
                self.out.global.extend_from_slice(settings);
                return Ok(());
            }
            if token.is(';') {
                self.stray_semicolon(&token);
                continue;
            }
            let known = token.kind == Kind::Word;
            if known
                && options::old(OldSection::Now(Section::Global), &token.text) == Some(Old::Ignored)
            {
                self.ignored(&token)?;
                continue;
            }
            let def = if known {
                options::find(Section::Global, &token.text)
            } else {
                None
            };
            let Some(def) = def else {
                let hint = hint_for(OldSection::Now(Section::Global), &token.text);
                return self.expected(
                    "dialog-refresh | minor-count | disable-ip-verification",
                    &token,
                    &hint,
                );
            };
            self.known_option(def, &token, &mut sections)?;
        }
    }

    /// The body of an option section after its brace. `key` is the resource (or `common`) the section belongs to.
    pub(super) fn option_section(
        &mut self,
        section: OldSection,
        key: &str,
        into: &mut Sections,
    ) -> Step<()> {
        loop {
            let token = self.next()?;
            if token.is('}') {
                return Ok(());
            }
            if token.is(';') {
                self.stray_semicolon(&token);
                continue;
            }
            self.option(section, &token, key, into)?;
        }
    }

    /// One option after its name.
    pub(super) fn option(
        &mut self,
        section: OldSection,
        token: &Token,
        key: &str,
        into: &mut Sections,
    ) -> Step<()> {
        let word = if token.kind == Kind::Word {
            token.text.as_str()
        } else {
            ""
        };
        if section == OldSection::Now(Section::Proxy) && word == "plugin" {
            return self.plugin(token, into);
        }
        if let OldSection::Now(now) = section
            && let Some(def) = options::find(now, word)
        {
            return self.known_option(def, token, into);
        }
        match options::old(section, word) {
            Some(old) => self.old_option(old, token, key, into),
            None => {
                let expected = match (section, &token.kind) {
                    (OldSection::Syncer, _) => "a syncer option keyword",
                    (OldSection::Now(_), Kind::End) => "an option",
                    (OldSection::Now(_), _) => "an option keyword",
                };
                self.expected(expected, token, &hint_for(section, word))
            }
        }
    }

    fn old_option(&mut self, old: Old, token: &Token, key: &str, into: &mut Sections) -> Step<()> {
        let known = |section, name| options::find(section, name);
        match old {
            Old::Moved(section) => match known(section, &token.text) {
                Some(def) => self.known_option(def, token, into),
                None => self.expected("a syncer option keyword", token, ""),
            },
            Old::Renamed(section, name) => match known(section, name) {
                Some(def) => self.known_option(def, token, into),
                None => self.expected("an option keyword", token, ""),
            },
            Old::Negated(section, name) => {
                self.end_of_statement(false)?;
                self.set(into, section, name, "no", token);
                Ok(())
            }
            Old::Ignored => self.ignored(token),
            Old::FixedRate => {
                let Some(def) = known(Section::Disk, "resync-rate") else {
                    return Ok(());
                };
                self.known_option(def, token, into)?;
                if into.find(Section::Disk, "c-plan-ahead").is_none() {
                    self.set(into, Section::Disk, "c-plan-ahead", "0", token);
                }
                Ok(())
            }
            Old::SizeKib => {
                let assigned = self.assignment(token);
                let value = self.value()?;
                self.end_of_statement(assigned)?;
                let mut text = value.text.clone();
                if text.bytes().all(|b| b.is_ascii_digit()) {
                    text.push('k');
                }
                if let Some(def) = known(Section::Disk, "size") {
                    self.check_and_set(def, &Token { text, ..value }, token, into);
                }
                Ok(())
            }
            Old::Panic => {
                self.end_of_statement(true)?;
                self.panic_on_io_error(token, into);
                Ok(())
            }
            Old::OnDisconnect => self.on_disconnect(token, into),
            Old::Group => {
                let assigned = self.assignment(token);
                let group = self.integer_within("group", 0, 1000)?;
                self.end_of_statement(assigned)?;
                self.out.groups.push((key.to_owned(), group));
                Ok(())
            }
        }
    }

    /// 0.7's reaction to a lost peer; only one has a present counterpart.
    fn on_disconnect(&mut self, token: &Token, into: &mut Sections) -> Step<()> {
        let assigned = self.assignment(token);
        let value = self.value()?;
        self.end_of_statement(assigned)?;
        match value.text.as_str() {
            "reconnect" => {}
            "stand_alone" => self.warn(
                WarningKind::Deprecated,
                token,
                "'on-disconnect stand_alone' has no counterpart; the connection is tried again"
                    .to_owned(),
            ),
            "freeze_io" => {
                self.warn(
                    WarningKind::Deprecated,
                    token,
                    "'on-disconnect freeze_io' is read as 'fencing resource-and-stonith'"
                        .to_owned(),
                );
                self.set(
                    into,
                    Section::Disk,
                    "fencing",
                    "resource-and-stonith",
                    token,
                );
            }
            other => {
                let problem = Problem::Value {
                    name: "on-disconnect".to_owned(),
                    value: other.to_owned(),
                    allowed: "reconnect | stand_alone | freeze_io".to_owned(),
                };
                self.wrong(self.place(&value), problem);
            }
        }
        Ok(())
    }

    fn panic_on_io_error(&mut self, token: &Token, into: &mut Sections) {
        self.warn(
            WarningKind::Deprecated,
            token,
            format!(
                "'{}' is read as 'on-io-error call-local-io-error' with a handler that panics",
                token.text
            ),
        );
        self.set(
            into,
            Section::Disk,
            "on-io-error",
            "call-local-io-error",
            token,
        );
        self.set(into, Section::Handlers, "local-io-error", PANIC, token);
    }

    /// An option that no longer means anything: its words are taken, up to the end of the statement.
    pub(super) fn ignored(&mut self, token: &Token) -> Step<()> {
        self.assignment(token);
        while self.peek_raw().is_text() && self.peek_raw().line == token.line {
            self.at += 1;
        }
        self.end_of_statement(true)?;
        let text = format!("'{}' is an old option and has no effect", token.text);
        self.warn(WarningKind::Deprecated, token, text);
        Ok(())
    }

    /// An option of the table, after its name.
    pub(super) fn known_option(
        &mut self,
        def: &OptionDef,
        token: &Token,
        into: &mut Sections,
    ) -> Step<()> {
        let assigned = self.assignment(token);
        let value = match def.ty {
            Type::Bool { .. } => {
                let next = self.peek_raw().clone();
                let none = next.is(';') || (next.line > token.line && assigned);
                if none {
                    Token {
                        kind: Kind::Word,
                        text: "yes".to_owned(),
                        ..token.clone()
                    }
                } else if next.is_text() && matches!(next.text.as_str(), "yes" | "no") {
                    self.next()?
                } else {
                    let next = self.next()?;
                    let mut hint = missing_before(token, &next);
                    if hint.is_empty() {
                        hint = suggest::hint(&next.text, ["yes", "no"]);
                    }
                    return self.expected("yes | no | ;", &next, &hint);
                }
            }
            Type::Words { words, .. } if def.section == Section::Global => {
                let value = self.next()?;
                if !value.is_text() || !words.contains(&value.text.as_str()) {
                    let hint = suggest::hint(&value.text, words.iter().copied());
                    return self.expected(&words.join(" | "), &value, &hint);
                }
                value
            }
            Type::Number { .. } if def.section == Section::Global => {
                let value = self.next()?;
                if value.kind != Kind::Word || !value.text.bytes().all(|b| b.is_ascii_digit()) {
                    let hint = hint_for_value(def, &value.text);
                    return self.expected("TK_INTEGER", &value, &hint);
                }
                value
            }
            Type::Hosts => self.words(token, true)?,
            Type::Words9 => self.words(token, false)?,
            Type::Words { .. } if def.name == "protocol" => self.text()?,
            Type::Number { .. } | Type::Words { .. } | Type::Text { .. } | Type::ResourceRef => {
                self.value()?
            }
        };
        // Printed after a value by `drbdsetup show` up to 8.3.
        self.accept_word("_is_default");
        self.end_of_statement(assigned)?;
        if def.name == "on-io-error" && value.text == "panic" {
            self.panic_on_io_error(
                &Token {
                    text: "on-io-error panic".to_owned(),
                    ..token.clone()
                },
                into,
            );
        } else {
            self.check_and_set(def, &value, token, into);
        }
        Ok(())
    }

    /// All words up to the `;`, with single blanks between.
    fn words(&mut self, token: &Token, at_least_one: bool) -> Step<Token> {
        let mut text = String::new();
        let mut value = token.clone();
        while self.peek_raw().is_text() {
            value = self.next()?;
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&value.text);
        }
        if at_least_one && text.is_empty() {
            let token = self.next()?;
            return self.expected("TK_STRING", &token, "");
        }
        Ok(Token { text, ..value })
    }

    /// The value of an option.
    pub(super) fn value(&mut self) -> Step<Token> {
        let token = self.next()?;
        if token.is_text() {
            Ok(token)
        } else {
            self.expected("TK_STRING | TK_INTEGER", &token, "")
        }
    }

    /// Checks a value and sets the option; a wrong value is noted and the option left unset.
    pub(super) fn check_and_set(
        &mut self,
        def: &OptionDef,
        value: &Token,
        name: &Token,
        into: &mut Sections,
    ) {
        match value::check(def, &value.text) {
            Err(problem) => {
                let hint = hint_for_value(def, &value.text);
                self.wrong_with(self.place(value), problem, hint);
            }
            Ok(checked) => {
                let text = match (&checked, def.ty) {
                    (value::Value::Text(text), Type::Words { .. }) => text.clone(),
                    _ => value.text.clone(),
                };
                if let (true, value::Value::Number(number), Type::Number { unit, .. }) =
                    (is_clamped(def), &checked, def.ty)
                    && value::number(def.name, &value.text, unit) != Ok((*number).into())
                {
                    let text = format!(
                        "{} {} is out of range, {number} is used",
                        def.name, value.text
                    );
                    self.warn(WarningKind::Advice, name, text);
                }
                self.set(into, def.section, def.name, &text, name);
            }
        }
    }

    pub(super) fn set(
        &mut self,
        into: &mut Sections,
        section: Section,
        name: &str,
        value: &str,
        at: &Token,
    ) {
        if into.get(section).len() >= SETTINGS_MAX {
            let problem = Problem::TooMuch {
                what: "options in one section",
                limit: SETTINGS_MAX,
            };
            self.wrong(self.place(at), problem);
            return;
        }
        if let Some(before) = into.find(section, name)
            && before.value != value
        {
            // (A value may be a secret.)
            let text = format!("{name} is set twice: this counts, and not {}", before.place);
            self.warn(WarningKind::Advice, at, text);
        }
        let place = self.place(at);
        into.push(
            section,
            Setting {
                name: name.to_owned(),
                value: value.to_owned(),
                place,
            },
        );
    }

    /// The same for what is no option: the last counts, and another one before it is told of.
    pub(super) fn set_again<T: PartialEq>(
        &mut self,
        keyword: &Token,
        into: &mut Option<T>,
        value: T,
    ) {
        if into.as_ref().is_some_and(|before| *before != value) {
            let name = &keyword.text;
            let text = format!("{name} is set twice: this counts, and not what was said before");
            self.warn(WarningKind::Advice, keyword, text);
        }
        *into = Some(value);
    }

    /// `plugin { zlib level 9; }`: one setting of name `plugin` for each statement.
    fn plugin(&mut self, keyword: &Token, into: &mut Sections) -> Step<()> {
        self.open()?;
        loop {
            let token = self.next()?;
            if token.is('}') {
                return Ok(());
            }
            if !token.is_text() {
                return self.expected("an option keyword", &token, "");
            }
            let rest = self.words(&token, false)?;
            self.end_of_statement(false)?;
            let value = if rest.text.is_empty() {
                token.text.clone()
            } else {
                format!("{} {}", token.text, rest.text)
            };
            let place = self.place(keyword);
            into.push(
                Section::Proxy,
                Setting {
                    name: "plugin".to_owned(),
                    value,
                    place,
                },
            );
        }
    }
}

/// Suggests the missing `;` when a flag's next word stands on a later line.
fn missing_before(token: &Token, next: &Token) -> String {
    if token.line < next.line {
        format!("is the ';' missing at the end of line {}?", token.line)
    } else {
        String::new()
    }
}

/// Every option that may stand in a section.
fn names_in(section: OldSection) -> impl Iterator<Item = &'static str> {
    options::all()
        .filter(move |def| match section {
            OldSection::Now(now) => def.section == now,
            OldSection::Syncer => options::old(section, def.name).is_some(),
        })
        .map(|def| def.name)
        .chain((section == OldSection::Syncer).then_some("rate"))
}

/// Whether a word begins a statement of a resource or of the top level: then a section before is not closed.
fn is_statement(word: &str) -> bool {
    matches!(
        word,
        "on" | "net"
            | "disk"
            | "syncer"
            | "startup"
            | "handlers"
            | "options"
            | "protocol"
            | "volume"
            | "device"
            | "meta-disk"
            | "resource"
            | "common"
            | "global"
            | "floating"
            | "connection"
            | "connection-mesh"
    )
}

/// What may help with a value that its option does not take.
fn hint_for_value(def: &OptionDef, text: &str) -> String {
    match def.ty {
        Type::Number { min, max, unit, .. } => {
            let unit = match unit {
                options::Unit::Count => String::new(),
                unit => format!(" {}", unit.name()),
            };
            let range = format!("{} is a number from {min} to {max}{unit}", def.name);
            match value::with_plain_suffix(text) {
                Some(plain) => format!("{range}; suffixes are s, K, M and G: write {plain}"),
                None => range,
            }
        }
        Type::Words { words, .. } => suggest::hint(text, words.iter().copied()),
        _ => String::new(),
    }
}

/// Where an option of this name does belong.
fn hint_for(section: OldSection, word: &str) -> String {
    let sections: Vec<&str> = Section::IN_RESOURCE
        .into_iter()
        .filter(|&s| section != OldSection::Now(s))
        .filter(|&s| {
            options::find(s, word).is_some() || options::old(OldSection::Now(s), word).is_some()
        })
        .map(Section::as_str)
        .collect();
    match sections.as_slice() {
        [] if options::old(OldSection::Syncer, word).is_some() => {
            format!("'{word}' belongs into syncer {{}}")
        }
        [] => {
            let hint = suggest::hint(word, names_in(section));
            if hint.is_empty() && is_statement(word) {
                return "is a '}' missing before?".to_owned();
            }
            hint
        }
        found => format!("'{word}' belongs into {} {{}}", found.join(" {} or ")),
    }
}
