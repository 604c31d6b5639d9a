//! Our messages against those of DRBD's tool (drbd-utils 9.22.0, the 8.4 flavour) for the same wrong files.
//!
//! `golden/errors.txt` holds for each case its name, the file `q.conf`, the tool's exit status and its messages, without
//! the internal token numbers. `DIR` stands for the folder of the file.

use rdb_config::load_str;

struct Case<'a> {
    name: &'a str,
    text: &'a str,
    exit_code: u8,
    messages: &'a str,
}

fn cases() -> Vec<Case<'static>> {
    include_str!("golden/errors.txt")
        .split("=== ")
        .skip(1)
        .map(|case| {
            let (name, rest) = case.split_once('\n').expect("a name");
            let (text, rest) = rest.split_once("\n--- ").expect("a file");
            let (exit_code, messages) = rest.split_once('\n').expect("a status");
            let exit_code = exit_code.parse().expect("a number");
            Case {
                name,
                text,
                exit_code,
                messages: messages.trim_end_matches('\n'),
            }
        })
        .collect()
}

#[test]
fn messages_are_those_of_drbd() {
    let folder = std::env::current_dir()
        .expect("a folder")
        .display()
        .to_string();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() > 80);
    for case in cases {
        // A `\n` at the end, as the files had.
        let loaded = load_str("q.conf", &format!("{}\n", case.text));
        // What is wrong with one resource alone is said when that one is to run; DRBD stops all of them.
        let first_refusal = |loaded: rdb_config::Loaded| {
            let resources = &loaded.config.resources;
            resources.iter().find_map(|r| r.for_host("alice").err())
        };
        let Some(error) = loaded.map_or_else(Some, first_refusal) else {
            wrong.push(format!(
                "{}: accepted; DRBD says\n{}",
                case.name, case.messages
            ));
            continue;
        };
        let text = error.text().replace(&folder, "DIR");
        // The tool stops at the first thing used twice; we name them all.
        let same = text == case.messages
            || (text.contains("conflicting use")
                && text.starts_with(&format!("{}\n", case.messages)));
        if !same || error.exit_code() != case.exit_code {
            wrong.push(format!(
                "{}: we say ({})\n{text}\nDRBD says ({})\n{}",
                case.name,
                error.exit_code(),
                case.exit_code,
                case.messages
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cases differ\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}
