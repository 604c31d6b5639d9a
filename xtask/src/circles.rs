//! Looks for circles among the files of a crate: a file that uses another by `use crate::` must not be used by that one, directly or
//! through others. What stands in a circle can only be understood, tested and moved as a whole.
//!
//! In the engine there is one rule more: what works on the whole resource is below `router`, nothing outside uses it, and no such file
//! uses another. So the parts that own the state, and the rules, cannot reach for the resource, and are tested by themselves. And outside
//! `router` a structure is either a part, whose fields are all private, or a value, whose fields are all public: a station cannot change a
//! part but by what the part says can be done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};

/// The crates without a circle.
const CRATES: [&str; 12] = [
    "rdb-config",
    "rdb-control",
    "rdb-doctor",
    "rdb-engine",
    "rdb-frontend",
    "rdb-meta",
    "rdb-runtime",
    "rdb-sim",
    "rdb-watch",
    "rdbadm",
    "rdbd",
    "rdbmon",
];

/// Each file, by the path of its module, and the files that it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Fails with the path of the first circle.
pub(crate) fn check() -> Result<()> {
    for name in CRATES {
        let source = crate::run::root().join("crates").join(name).join("src");
        if let Some(circle) = circle(&uses(&source)?) {
            bail!(
                "the files of {name} use each other: {}",
                circle.join(" -> ")
            );
        }
    }
    let source = crate::run::root().join("crates/rdb-engine/src");
    if let Some((file, used)) = part_with_the_whole(&all_uses(&source)?) {
        bail!("rdb-engine: {file} uses {used}, which has to do with the whole resource");
    }
    let mut texts = BTreeMap::new();
    read(&source, "", &mut texts)?;
    texts.retain(|file, _| !is_below_whole(file));
    for (file, text) in &texts {
        if let Some(name) = neither_part_nor_value(text) {
            bail!(
                "rdb-engine: {file}: {name} has private fields and others: it is neither a part nor a value"
            );
        }
        if file != "lib" && text.contains("impl<P: Payload> Resource<P>") {
            bail!("rdb-engine: {file} has methods of the resource, which belong below {WHOLE}");
        }
    }
    Ok(())
}

/// A structure that is neither a part nor a value: its fields are not all private, and not all public.
fn neither_part_nor_value(text: &str) -> Option<&str> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let words = line
            .split_whitespace()
            .skip_while(|word| word.starts_with("pub"));
        let is_structure =
            !line.starts_with(' ') && line.ends_with('{') && words.clone().next() == Some("struct");
        if !is_structure {
            continue;
        }
        let fields = lines.by_ref().take_while(|line| *line != "}");
        let fields = fields.filter(|line| line.starts_with("    ") && !line.starts_with("     "));
        let fields = fields
            .map(str::trim)
            .filter(|field| field.starts_with(|c: char| c == '_' || c.is_ascii_lowercase()));
        let (public, others): (Vec<_>, Vec<_>) =
            fields.partition(|field| field.starts_with("pub "));
        let hidden = others
            .iter()
            .filter(|field| !field.starts_with("pub("))
            .count();
        if hidden < others.len() || !public.is_empty() && hidden > 0 {
            return words.map(|word| word.trim_end_matches('{')).nth(1);
        }
    }
    None
}

/// Where the engine's resource is, and below it what works on the whole of it.
const WHOLE: &str = "router";

fn is_below_whole(file: &str) -> bool {
    file.strip_prefix(WHOLE)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A file, and one that it uses though that one works on the whole resource, or is the resource and it is no station of it.
fn part_with_the_whole(uses: &Uses) -> Option<(&str, &str)> {
    let is_station = |file: &str| uses.get(file).is_some_and(|used| used.contains(WHOLE));
    uses.iter().find_map(|(file, used)| {
        let is_wrong = |used: &&String| match is_below_whole(file) {
            true => is_station(used),
            false => is_below_whole(used),
        };
        Some((file.as_str(), used.iter().find(is_wrong)?.as_str()))
    })
}

/// What is named from the root of the crate.
fn uses(source: &Path) -> Result<Uses> {
    found(source, |_, text| paths("use crate::", text).collect())
}

/// The same, and what is named from the module above. (What a module gives out of those below it makes no circle.)
fn all_uses(source: &Path) -> Result<Uses> {
    found(source, |file, text| {
        let above = file.rsplit_once("::").map_or("", |(above, _)| above);
        let from_above = paths("use super::", text).map(|path| format!("{above}::{path}"));
        paths("use crate::", text).chain(from_above).collect()
    })
}

fn found(source: &Path, paths: impl Fn(&str, &str) -> Vec<String>) -> Result<Uses> {
    let mut texts = BTreeMap::new();
    read(source, "", &mut texts)?;
    let files: BTreeSet<String> = texts.keys().cloned().collect();
    let of_file = |(file, text): (String, String)| {
        let used = paths(&file, &text).into_iter();
        let used = used.filter_map(|path| file_of(path.trim_start_matches("::"), &files));
        let others = used.filter(|used| *used != file).collect();
        (file, others)
    };
    Ok(texts.into_iter().map(of_file).collect())
}

/// The texts of all files below a directory, by the paths of their modules.
fn read(directory: &Path, above: &str, texts: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let module = match name.as_ref() {
            "mod" => above.to_owned(),
            _ if above.is_empty() => name.into_owned(),
            _ => format!("{above}::{name}"),
        };
        if path.is_dir() {
            read(&path, &module, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.insert(module, std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// What a text uses of its own crate, behind these words; its tests may use whatever they like.
fn paths(words: &str, text: &str) -> impl Iterator<Item = String> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut paths = Vec::new();
    for used in text.split(words).skip(1) {
        let tree = used.split(';').next().unwrap_or_default();
        leaves("", &tree.split_whitespace().collect::<String>(), &mut paths);
    }
    paths.into_iter()
}

/// The paths of a tree such as `a::{b, c::{d}}`.
fn leaves(above: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        paths.push(format!("{above}{tree}"));
        return;
    };
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let above = format!("{above}{head}");
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                leaves(&above, &inner[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    leaves(&above, &inner[start..], paths);
}

/// The file that has what a path leads to.
fn file_of(path: &str, files: &BTreeSet<String>) -> Option<String> {
    let mut path = path;
    loop {
        if files.contains(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// The files of a circle, the first one once more at the end.
fn circle(uses: &Uses) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    uses.keys()
        .find_map(|file| walk(file, uses, &mut Vec::new(), &mut done))
}

fn walk(
    file: &str,
    uses: &Uses,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(at) = way.iter().position(|before| before == file) {
        way.push(file.to_owned());
        return Some(way.split_off(at));
    }
    if !done.insert(file.to_owned()) {
        return None;
    }
    way.push(file.to_owned());
    let found = uses.get(file).into_iter().flatten();
    let found = found
        .into_iter()
        .find_map(|used| walk(used, uses, way, done));
    way.pop();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        write("a.rs", "use crate::b::{\n    c::Thing,\n    Other,\n};\n");
        write("b/mod.rs", "pub struct Other;\n");
        write(
            "b/c.rs",
            "pub struct Thing;\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n",
        );
        write("d.rs", "use crate::{a, b};\n");
        let found = uses(dir.path()).unwrap();
        let of_a: Vec<_> = found["a"].iter().map(String::as_str).collect();
        assert_eq!(of_a, ["b", "b::c"]);
        assert_eq!(circle(&found), None);
        write("b/c.rs", "use crate::d;\n");
        let found = circle(&uses(dir.path()).unwrap()).unwrap();
        assert_eq!(found, ["a", "b::c", "d", "a"]);
    }

    #[test]
    fn what_has_to_do_with_the_whole_is_used_by_none() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let found = || {
            let found = all_uses(dir.path()).unwrap();
            part_with_the_whole(&found).map(|(file, used)| (file.to_owned(), used.to_owned()))
        };
        let wrong = |file: &str, used: &str| Some((file.to_owned(), used.to_owned()));
        std::fs::create_dir(dir.path().join("router")).unwrap();
        write("part.rs", "pub struct Part;\n");
        write("router/mod.rs", "use crate::part::Part;\n");
        write(
            "router/read.rs",
            "use crate::part::Part;\nuse crate::router::Resource;\n",
        );
        write("router/limits.rs", "pub const LIMIT: u32 = 1;\n");
        write("lib.rs", "mod router;\npub use router::Resource;\n");
        assert_eq!(found(), None);
        for (used, module) in [
            ("router::Resource", "router"),
            ("router::limits::LIMIT", "router::limits"),
        ] {
            write("part.rs", &format!("use crate::{used};\n"));
            assert_eq!(found(), wrong("part", module));
        }
        write("part.rs", "pub struct Part;\n");
        for path in ["crate::router", "super"] {
            write(
                "router/write.rs",
                &format!("use crate::router::Resource;\nuse {path}::read::Read;\n"),
            );
            assert_eq!(found(), wrong("router::write", "router::read"));
        }
        write(
            "router/write.rs",
            "use crate::router::Resource;\nuse crate::router::limits::LIMIT;\n",
        );
        assert_eq!(found(), None);
    }

    #[test]
    fn a_structure_is_a_part_or_a_value() {
        for right in [
            "pub(crate) struct Part {\n    /// pub this\n    own: u32,\n    more: Map<\n        u32,\n    >,\n}\n",
            "pub struct Value<P> {\n    pub what: u32,\n    pub r#where: P,\n}\n",
            "pub(crate) struct Unit;\npub(crate) struct Id(pub(crate) u32);\n",
        ] {
            assert_eq!(neither_part_nor_value(right), None);
        }
        for fields in [
            "pub what: u32,\n    own: u32",
            "pub(crate) what: u32",
            "own: u32,\n    pub(super) what: u32",
        ] {
            let text = format!(
                "struct Right {{\n    own: u32,\n}}\n\npub(crate) struct Wrong {{\n    {fields},\n}}\n"
            );
            assert_eq!(neither_part_nor_value(&text), Some("Wrong"), "{fields}");
        }
    }

    #[test]
    fn the_crates_have_none() {
        check().unwrap();
    }
}
