//! Whatever the text, there is an answer: no panic, and errors whose places are in the text.

use proptest::prelude::*;
use rdb_config::{DumpStyle, load_bytes, load_str};

const SAMPLES: &[&str] = &[
    include_str!("golden/good/all-sections.conf"),
    include_str!("golden/good/b1-b4-linuxjournal.conf"),
    include_str!("golden/good/syncer-83.conf"),
    include_str!("golden/good/proxy.conf"),
    include_str!("golden/old/d1-openintegra.conf"),
    include_str!("golden/old/drbd-07.conf"),
    include_str!("golden/errors.txt"),
];

/// Words of the language, in an order that makes no sense.
const WORDS: &[&str] = &[
    "resource",
    "common",
    "global",
    "r0",
    "on",
    "alice",
    "{",
    "}",
    ";",
    "net",
    "disk",
    "syncer",
    "volume",
    "0",
    "1",
    "device",
    "/dev/drbd1",
    "minor",
    "address",
    "10.0.0.1",
    ":",
    "7789",
    "meta-disk",
    "internal",
    "[",
    "]",
    "=",
    "\n",
    "floating",
    "ipv6",
    "fd00::1",
    "%",
    "stacked-on-top-of",
    "proxy",
    "plugin",
    "inside",
    "handlers",
    "pri-lost",
    "\"x\"",
    "\"",
    "timeout",
    "60",
    "group",
    "rate",
    "33M",
    "skip",
    "include",
    "protocol",
    "C",
    "do-panic",
    "port",
    "meta-index",
    "#",
    "\\",
    "-1",
    "99999999999999999999",
    "become-primary-on",
    "both",
    "resync-after",
    "r0/0",
    "after-sb-0pri",
    "discard-node-",
    "inittimeout",
    "connection",
    "ignore-on",
    "on-disconnect",
    "freeze_io",
];

fn try_everything(text: &str) {
    // Includes would make the result depend on the machine's files.
    let text = text.replace("include", "Include");
    let lines = u32::try_from(text.lines().count()).expect("short texts") + 1;
    match load_str("q.conf", &text) {
        Ok(loaded) => {
            let config = loaded.config;
            for node in ["alice", "bob", "server1", "node1", ""] {
                for resource in &config.resources {
                    // Either a result or an error: that there is one is the test.
                    let _ = resource.for_host(node).map_err(|e| e.to_string());
                }
                for inherited in [false, true] {
                    assert!(
                        config
                            .dump(
                                node,
                                DumpStyle {
                                    inherited,
                                    hide_secrets: true
                                }
                            )
                            .starts_with("# ")
                    );
                }
                let _ = config.by_minor(node, 0);
            }
            assert!(config.dump_xml().ends_with("</config>\n"));
            for warning in loaded.warnings {
                assert!(!warning.to_string().is_empty());
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            for diagnostic in &error.diagnostics {
                if let Some(place) = &diagnostic.place {
                    assert!((1..=lines).contains(&place.line), "{place:?} of {lines}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        try_everything(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn bytes_that_are_no_text_are_never_accepted_outside_of_comments(
        sample in proptest::sample::select(SAMPLES),
        at in any::<prop::sample::Index>(),
        byte in 0x80_u8..,
    ) {
        // Neither comments nor includes nor what is skipped.
        let text = sample.replace('#', " ").replace("include", "Include").replace("skip", "Skip");
        let mut bytes = text.into_bytes();
        bytes.insert(at.index(bytes.len()), byte);
        if std::str::from_utf8(&bytes).is_err() {
            prop_assert!(load_bytes("q.conf", &bytes).is_err());
        }
    }

    #[test]
    fn arbitrary_words_are_survived(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60)) {
        try_everything(&words.join(" "));
        try_everything(&words.concat());
    }

    #[test]
    fn mutated_samples_are_survived(
        sample in proptest::sample::select(SAMPLES),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, proptest::sample::select(WORDS)), 1..5),
    ) {
        let mut chars: Vec<char> = sample.chars().collect();
        for (at, removed, word) in cuts {
            let at = at.index(chars.len());
            let end = (at + removed).min(chars.len());
            chars.splice(at..end, word.chars());
        }
        try_everything(&chars.into_iter().collect::<String>());
    }
}

#[test]
fn every_prefix_of_the_samples_is_survived() {
    // Without the last, which is a list of short files.
    for sample in &SAMPLES[..SAMPLES.len() - 1] {
        for (end, _) in sample.char_indices() {
            try_everything(&sample[..end]);
        }
    }
}

#[test]
fn huge_sections_and_error_lists_have_limits() {
    let many = "timeout 60; ".repeat(100_000);
    let error =
        load_str("q.conf", &format!("common {{ net {{ {many} }} }}")).expect_err("too many");
    assert!(
        error
            .text()
            .contains("options in one section: more than 1024"),
        "{}",
        error.diagnostics.len()
    );
    assert_eq!(error.diagnostics.len(), 50);
    assert!(error.to_string().ends_with("\nand 98926 more errors"));
    let wrong = "timeout 0;\n".repeat(100_000);
    let error =
        load_str("q.conf", &format!("common {{ net {{ {wrong} }} }}")).expect_err("all wrong");
    assert_eq!((error.diagnostics.len(), error.more), (50, 99_950));
}

/// What takes the square of its length takes minutes here.
#[test]
fn many_errors_take_no_longer_than_many_lines() {
    use std::fmt::Write;

    let begun = std::time::Instant::now();
    let mut shared = String::new();
    for i in 0..10_000 {
        let (a, b) = (i / 250, i % 250 + 1);
        let host = |name, net| {
            format!(
                "on {name} {{ device minor {i}; disk /dev/a; meta-disk internal; address 10.{net}.{a}.{b}:7789; }}"
            )
        };
        let (alice, bob) = (host("alice", 0), host("bob", 1));
        writeln!(shared, "resource r{i} {{ {alice} {bob} }}").expect("a text");
    }
    let volumes = |numbers: &mut dyn Iterator<Item = u32>| -> String {
        numbers.map(|n| format!("volume {n} {{ }}")).collect()
    };
    let downwards = volumes(&mut (0..65_536).rev());
    let again = volumes(&mut (0..65_536).map(|_| 7));
    let (address, bobs) = ("address 10.0.0.1:1;", "address 10.0.0.2:1;");
    for (text, more) in [
        (shared, 2 * 9_999 - 50),
        (
            format!("resource r {{ on alice {{ {address} {again} }} }}"),
            65_535 + 4 - 50,
        ),
        // Four words are missing in each volume of each host.
        (
            format!(
                "resource r {{ {downwards} on alice {{ {address} }} on bob {{ {bobs} {downwards} }} }}"
            ),
            2 * 4 * 65_536 - 50,
        ),
        // A volume that is on one host alone.
        (
            format!("resource r {{ on alice {{ {address} {downwards} }} on bob {{ {bobs} }} }}"),
            4 * 65_536 + 65_536 - 50,
        ),
    ] {
        let error = load_str("q.conf", &text).expect_err("much is wrong");
        assert_eq!((error.diagnostics.len(), error.more), (50, more));
        assert!(error.to_string().len() < 100_000);
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}
