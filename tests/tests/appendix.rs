//! The table of the tutorials' rows in `docs/testing.md`: it has each of them, and the tests that it names are there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The rows of a table that begin with a letter and a number: that, and all of the row.
fn rows(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let id = line.strip_prefix("| ")?.split(' ').next()?;
        let (letter, number) = id.split_at_checked(1)?;
        let is_row = "ABCDE".contains(letter) && number.parse::<u8>().is_ok();
        is_row.then_some((id, line))
    })
}

#[test]
fn each_row_of_the_tutorials_has_a_test_that_is_there() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    let (admin, testing) = (read("docs/spec/admin.md")?, read("docs/testing.md")?);
    let (_, appendix) = admin
        .split_once("\n# 10. Appendix")
        .context("no appendix")?;
    let (_, table) = testing
        .split_once("\n## The tutorials' rows")
        .context("no table")?;
    let wanted: Vec<&str> = rows(appendix).map(|(id, _)| id).collect();
    ensure!(wanted.len() > 30, "{wanted:?}");
    let has: Vec<&str> = rows(table).map(|(id, _)| id).collect();
    ensure!(has == wanted, "{has:?} instead of {wanted:?}");
    for (id, row) in rows(table) {
        let mut words = row.split('`').skip(1).step_by(2).peekable();
        ensure!(words.peek().is_some(), "{id} names no test");
        let mut text = String::new();
        for word in words {
            if word.starts_with("tests/") || word.starts_with("crates/") {
                text = read(word)?;
            } else {
                ensure!(text.contains(word), "{id}: no {word} in the file before it");
            }
        }
    }
    Ok(())
}
