//! LVM's configuration, as far as it says which devices LVM opens.

use regex::Regex;

/// The patterns of `global_filter` and `filter`.
#[derive(Debug, Default)]
pub(crate) struct Filters(Vec<Vec<Pattern>>);

#[derive(Debug)]
struct Pattern {
    accepts: bool,
    name: Regex,
}

impl Filters {
    /// Those of `lvm.conf`.
    ///
    /// # Errors
    /// A pattern that is not understood here.
    pub(crate) fn parse(conf: &str) -> Result<Filters, String> {
        let lists = ["global_filter", "filter"].map(|key| words_of(conf, key));
        let lists = lists
            .into_iter()
            .map(|words| words.iter().map(|word| pattern(word)).collect());
        Ok(Filters(lists.collect::<Result<_, String>>()?))
    }

    /// Whether LVM leaves a device with these names alone. In each list the first pattern that fits a name decides about that; a
    /// device is left if a name is refused and none accepted.
    pub(crate) fn refuse(&self, names: &[String]) -> bool {
        self.0.iter().any(|list| {
            let verdict = |name: &String| {
                list.iter()
                    .find(|p| p.name.is_match(name))
                    .map(|p| p.accepts)
            };
            let verdicts: Vec<bool> = names.iter().filter_map(verdict).collect();
            !verdicts.is_empty() && verdicts.iter().all(|accepts| !accepts)
        })
    }
}

/// `a|^/dev/sd|`: `a` or `r`, and an expression between two of the same character.
fn pattern(word: &str) -> Result<Pattern, String> {
    let fault = || format!("'{word}' is no pattern of a filter");
    let mut chars = word.chars();
    let accepts = match chars.next() {
        Some('a') => true,
        Some('r') => false,
        _ => return Err(fault()),
    };
    let mark = chars.next().ok_or_else(fault)?;
    let end = match mark {
        '(' => ')',
        '[' => ']',
        '{' => '}',
        mark => mark,
    };
    let text = chars.as_str().strip_suffix(end).ok_or_else(fault)?;
    let name = Regex::new(text).map_err(|_| fault())?;
    Ok(Pattern { accepts, name })
}

/// The strings of a setting: of the last line that has it, as LVM takes it.
fn words_of(conf: &str, key: &str) -> Vec<String> {
    let text: String = conf
        .lines()
        .map(|line| without_comment(line).to_owned() + "\n")
        .collect();
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(key) {
        let before = rest[..at].chars().next_back();
        let after = rest[at + key.len()..].trim_start();
        rest = &rest[at + key.len()..];
        let is_whole = before.is_none_or(|c| c.is_whitespace() || matches!(c, '/' | '{' | '}'));
        if let Some(value) = after.strip_prefix('=').filter(|_| is_whole) {
            let value = value.trim_start();
            let list = match value.strip_prefix('[') {
                Some(list) => list,
                None => value.lines().next().unwrap_or_default(),
            };
            found = strings(list);
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    let mut is_quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '#' if !is_quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

/// The strings up to a bracket that closes the list.
fn strings(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (nr, part) in list.split('"').enumerate() {
        if nr % 2 == 1 {
            words.push(part.to_owned());
        } else if part.contains(']') {
            break;
        }
    }
    words
}

/// A number of `lvm.conf`, as `use_devicesfile`.
pub(crate) fn number_of(conf: &str, key: &str) -> Option<u32> {
    let mut lines = conf.lines().rev().map(|line| without_comment(line).trim());
    lines.find_map(|line| {
        let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?;
        value.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(conf: &str, names: &[&str]) -> bool {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Filters::parse(conf).unwrap().refuse(&names)
    }

    #[test]
    fn the_first_pattern_that_fits_decides() {
        for (conf, names, refused) in [
            ("", vec!["/dev/sdb"], false),
            (
                "devices { filter = [ \"r|^/dev/sdb$|\" ] }",
                vec!["/dev/sdb"],
                true,
            ),
            (
                "devices {\n filter=[\"a|.*|\", \"r|/dev/sdb|\"]\n}",
                vec!["/dev/sdb"],
                false,
            ),
            (
                "global_filter = [ \"r|/dev/sdb|\" ]\nfilter = [ \"a|.*|\" ]",
                vec!["/dev/sdb"],
                true,
            ),
            ("# filter = [ \"r|.*|\" ]", vec!["/dev/sdb"], false),
            (
                "filter = [ \"a/drbd/\", # ]\n \"r/.*/\" ]",
                vec!["/dev/sdb"],
                true,
            ),
            (
                "filter = [ \"a/drbd/\",\n \"r/.*/\" ]",
                vec!["/dev/drbd0"],
                false,
            ),
            ("filter = \"r(sdb)\"", vec!["/dev/sdb"], true),
            // One name that is accepted is enough.
            (
                "filter = [ \"a|/vg/|\", \"r|.*|\" ]",
                vec!["/dev/dm-3", "/dev/vg/data"],
                false,
            ),
            ("my_filter = [ \"r|.*|\" ]", vec!["/dev/sdb"], false),
            ("devices/filter = [ \"r|.*|\" ]", vec!["/dev/sdb"], true),
        ] {
            assert_eq!(refuses(conf, &names), refused, "{conf}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for conf in [
            "filter = [ \"x|a|\" ]",
            "filter = [ \"r|(|\" ]",
            "filter = [ \"r\" ]",
            "filter = [ \"\" ]",
        ] {
            assert!(Filters::parse(conf).is_err(), "{conf}");
        }
    }

    #[test]
    fn numbers_are_read_from_the_last_line_that_has_them() {
        let conf = "use_devicesfile = 1\n# use_devicesfile = 0\n\tuse_devicesfile=0 # off\n";
        assert_eq!(number_of(conf, "use_devicesfile"), Some(0));
        assert_eq!(number_of("", "use_devicesfile"), None);
    }
}
