//! The numbers L1 and so on of `docs/ARCHITECTURE.md`, "Where the driver's rules can lose acknowledged writes": each stands in the
//! code where its rule does, and in a test or a seed that fails without it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const SECTION: &str = "### Where the driver's rules can lose acknowledged writes";

/// The numbers that a text names.
fn numbers_in(text: &str) -> BTreeSet<u32> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_word(c));
    let numbers = words.filter_map(|word| word.strip_prefix('L'));
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// The lines of a program that are comments, since names of types may look like numbers.
fn comments(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            files_below(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}

/// The numbers that comments below these folders name.
fn numbers_below(folders: &[&str]) -> BTreeSet<u32> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in folders {
        files_below(&crates.join(folder), &mut files);
    }
    let this = Path::new(file!()).file_name();
    files.retain(|path| path.file_name() != this);
    let read = |path: &PathBuf| fs::read_to_string(path).expect("a file of the sources");
    let texts = files.iter().map(read);
    texts
        .flat_map(|text| numbers_in(&comments(&text)))
        .collect()
}

#[test]
fn the_rules_that_the_driver_lacks_stand_in_the_code_and_in_a_test() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(crates.join("../docs/ARCHITECTURE.md")).expect("the page");
    let (_, section) = page.split_once(SECTION).expect("the section");
    let section = section.split("\n#").next().expect("its text");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| L"));
    let rows = rows.filter_map(|row| row.split(' ').next()?.parse::<u32>().ok());
    let rows: Vec<u32> = rows.collect();
    let all: BTreeSet<u32> = (1..=58).collect();
    assert_eq!(
        rows,
        all.iter().copied().collect::<Vec<_>>(),
        "in their order"
    );
    assert_eq!(numbers_below(&["rdb-engine/src"]), all, "in the code");
    let mut tests = numbers_below(&["rdb-engine/tests", "rdb-sim/tests"]);
    let seeds = fs::read_to_string(crates.join("rdb-sim/regressions.txt")).expect("the seeds");
    tests.extend(numbers_in(&seeds));
    assert_eq!(tests, all, "in a test");
}
