//! How a manual page is written down: `man(7)`'s macros, by the crate `roff`, which escapes what has to be.

use roff::{Inline, Roff, bold, roman};

/// A page that is being written. In texts, what stands between back quotes is printed bold.
pub(crate) struct Page {
    roff: Roff,
    /// A section has just begun: its first paragraph is one without being told.
    is_new: bool,
}

/// When the texts of the pages were last looked through.
pub(crate) const DATE: &str = "2026-11-29";

impl Page {
    /// A page with its title and its section NAME.
    pub(crate) fn new(name: &str, section: &str, about: &str) -> Page {
        let version = concat!("rdb ", env!("CARGO_PKG_VERSION"));
        let mut page = Page::bare();
        page.roff
            .control("TH", [name, section, DATE, version, "rdb"]);
        page.section("NAME");
        page.roff.text([roman(format!("{name} - {about}"))]);
        page
    }

    /// What follows a part that is written otherwise.
    pub(crate) fn bare() -> Page {
        Page {
            roff: Roff::new(),
            is_new: false,
        }
    }

    pub(crate) fn section(&mut self, title: &str) -> &mut Page {
        self.roff.control("SH", [title]);
        self.is_new = true;
        self
    }

    /// A paragraph.
    pub(crate) fn text(&mut self, text: &str) -> &mut Page {
        self.paragraph();
        self.roff.text(inline(text));
        self
    }

    /// A word and what it means.
    pub(crate) fn item(&mut self, word: &str, text: &str) -> &mut Page {
        self.is_new = false;
        self.roff
            .control("TP", [])
            .text(inline(word))
            .text(inline(text));
        self
    }

    /// Lines as they are typed.
    pub(crate) fn example(&mut self, lines: &str) -> &mut Page {
        self.paragraph();
        self.roff.control("RS", ["4"]).control("nf", []);
        for line in lines.lines() {
            self.roff.text([roman(line)]);
        }
        self.roff.control("fi", []).control("RE", []);
        self
    }

    fn paragraph(&mut self) {
        if !std::mem::take(&mut self.is_new) {
            self.roff.control("PP", []);
        }
    }

    /// Other pages, each with its section: `rdbd(8)`.
    pub(crate) fn see_also(&mut self, pages: &[&str]) -> &mut Page {
        self.section("SEE ALSO");
        let names = pages.iter().enumerate().flat_map(|(i, page)| {
            let (name, section) = page.split_once('(').unwrap_or((page, ""));
            let end = if i + 1 < pages.len() { ", " } else { "" };
            [bold(name), roman(format!("({section}{end}"))]
        });
        let names: Vec<Inline> = names.collect();
        self.roff.text(names);
        self
    }

    /// The page's source.
    pub(crate) fn source(&self) -> String {
        self.roff.render()
    }
}

fn inline(text: &str) -> Vec<Inline> {
    text.split('`')
        .enumerate()
        .filter(|(_, part)| !part.is_empty())
        .map(|(i, part)| match i % 2 {
            0 => roman(part),
            _ => bold(part),
        })
        .collect()
}
