//! Whatever the text, there is an answer: no panic, and errors whose places are in the text.

use proptest::prelude::*;
use rdb_config::{DumpStyle, load, load_bytes, load_str};

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
                                    hide_secrets: true,
                                    always_global: inherited,
                                }
                            )
                            .starts_with("# ")
                    );
                }
                let _ = config.by_minor(node, 0);
            }
            assert!(
                config
                    .dump_xml(DumpStyle::default())
                    .ends_with("</config>\n")
            );
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

/// A text of about a MiB: a line again and again, with its number in place of each `#`.
fn lines(line: &str, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + line.len() + 16);
    for number in 1.. {
        if text.len() >= bytes {
            break;
        }
        text += &line.replace('#', &number.to_string());
    }
    text
}

/// What the lines of a file are multiplied with each other is bounded before it is made: two thousand volumes on two thousand
/// hosts are 4 million.
#[test]
fn templates_do_not_make_a_large_model_of_a_small_file() {
    const VOLUMES: &str = "more than 262144\n";
    let volumes = |count: usize| -> String {
        (1..=count)
            .map(|n| {
                format!("volume {n} {{ device minor {n}; disk /d{n}; meta-disk internal; }}\n")
            })
            .collect()
    };
    let hosts = |count: usize| -> String {
        (1..=count)
            .map(|n| {
                format!(
                    "on h{n} {{ address 10.0.{}.{}:1; }}\n",
                    n / 250,
                    n % 250 + 1
                )
            })
            .collect()
    };
    let options = "md-flushes yes; ".repeat(1000);
    for (text, line, what) in [
        (
            format!("resource r {{\n{}{}}}\n", volumes(2000), hosts(2000)),
            1,
            "resource r has 2000 volumes on 2000 hosts",
        ),
        // One section for many hosts.
        (
            format!(
                "# two lines\nresource r {{\n on {} {{ address 10.0.0.1:1; {} }} }}\n",
                lines("h# ", 12_000),
                volumes(500)
            ),
            2,
            "resource r has 500 volumes on ",
        ),
        // All resources together.
        (
            (1..=6)
                .map(|n| format!("resource r{n} {{\n{}{}}}\n", volumes(500), hosts(100)))
                .collect(),
            1 + 5 * 602,
            "resource r6 has 500 volumes on 100 hosts",
        ),
        // Volumes of one host alone, which the others lack.
        (
            format!(
                "resource r {{ on alice {{ address 10.1.0.1:1; {} }} {} }}",
                volumes(2000),
                hosts(2000)
            ),
            1,
            "resource r has 2000 volumes on 2001 hosts",
        ),
    ] {
        let error = load_str("q.conf", &text).expect_err("too many").to_string();
        let begins = format!("q.conf:{line}: volumes on all hosts of all resources: {VOLUMES}");
        assert!(
            error.starts_with(&begins) && error.contains(what),
            "{error}"
        );
    }
    let text = format!(
        "resource r {{\nvolume 1 {{ device minor 1; disk /d; meta-disk internal; disk {{ {options} }} }}\n{} }}",
        hosts(2000)
    );
    let error = load_str("q.conf", &text).expect_err("too many").to_string();
    let begins =
        "q.conf:1: disk options of volumes on all hosts of all resources: more than 1048576\n";
    assert!(error.starts_with(begins), "{error}");
}

#[test]
fn a_thousand_warnings_are_told() {
    let warnings = load_str("q.conf", &";".repeat(3000))
        .expect("they do no harm")
        .warnings;
    assert_eq!(warnings.len(), 1001);
    assert_eq!(warnings[1000].to_string(), "and 2000 more warnings");
}

#[test]
fn as_many_volumes_as_there_can_be_are_read_and_resolved() {
    let volumes: String = (0..65_535)
        .map(|n| format!("volume {n}{{device minor {n};disk {n};meta-disk internal;}}"))
        .collect();
    let text = format!(
        "resource r {{ disk {{ al-extents 127; }}\n{volumes} on alice {{ address 10.0.0.1:1; }} on bob {{ address 10.0.0.2:1; }} }}"
    );
    let config = load_str("q.conf", &text)
        .expect("it has all it needs")
        .config;
    let resolved = config.resources[0].for_host("alice").expect("a pair");
    assert_eq!(resolved.volumes.len(), 65_535);

    // The same number, each of a resource of its own, in as many files as that takes.
    let dir = tempfile::tempdir().expect("a folder");
    for file in 0..4 {
        let resources: String = (file * 16_384..(file + 1) * 16_384)
            .map(|n| {
                let (a, b) = (n / 250, n % 250 + 1);
                format!(
                    "resource r{n} {{ device minor {n}; disk /dev/vg/lv{n}; meta-disk internal;\n \
                     on alice {{ address 10.{}.{}.{b}:1; }} on bob {{ address 10.{}.{}.{b}:1; }} }}\n",
                    a / 250,
                    a % 250,
                    a / 250 + 100,
                    a % 250
                )
            })
            .collect();
        std::fs::write(dir.path().join(format!("{file}.res")), resources).expect("written");
    }
    let main = dir.path().join("q.conf");
    std::fs::write(&main, "include \"*.res\";\n").expect("written");
    let loaded = load(&main).expect("they have all they need");
    assert_eq!(loaded.config.resources_of("bob").count(), 65_536);
}

/// Each of these took seconds to minutes, or gigabytes, when something was looked for from the beginning again and again.
#[test]
fn a_mebibyte_of_anything_is_read_in_no_time() {
    let mib = 1_000_000;
    let begun = std::time::Instant::now();
    let set = "timeout 60; ".repeat(1000);
    for (what, text) in [
        (
            "resync-after",
            format!(
                "common {{ disk {{ resync-after x/1; }} net {{ {set} }} }}\n{}",
                lines("resource r# { disk { resync-after r1/#; } }\n", mib)
            ),
        ),
        (
            "stacked",
            lines(
                "resource r# { stacked-on-top-of s# { address 10.0.0.1:1; } }\n",
                mib,
            ),
        ),
        (
            "connection",
            format!(
                "resource r {{ connection-mesh {{ hosts {}; }} {} }}",
                lines("g# ", mib / 2),
                lines("on h# { address 10.0.0.1:1; } ", mib / 2)
            ),
        ),
        (
            "volumes of a connection",
            format!(
                "resource r {{ {} on a {{ address 10.0.0.1:1; }} on b {{ address 10.0.0.2:1; }} connection {{ {} }} }}",
                lines("volume # { }\n", mib / 2),
                lines("volume # { }\n", mib / 2),
            ),
        ),
        (
            "become-primary-on",
            format!(
                "resource r {{ startup {{ become-primary-on {}; }} {} }}",
                lines("h# ", mib / 2),
                lines("on h# { address 10.0.0.1:1; } ", mib / 2)
            ),
        ),
        (
            "groups",
            lines("resource r# { syncer { group #; } }\n", mib),
        ),
        ("semicolons", ";".repeat(mib)),
        ("braces", "{".repeat(mib)),
        ("resources", lines("resource r# { }\n", mib)),
        (
            "options",
            format!("common {{ net {{ {} }} }}", lines("timeout #; ", mib)),
        ),
    ] {
        let one = std::time::Instant::now();
        match load_str("q.conf", &text) {
            Ok(loaded) => {
                if let Some(first) = loaded.config.resources.first() {
                    let _ = first.for_host("h1").map_err(|error| error.to_string());
                }
                let told: usize = loaded.warnings.iter().map(|w| w.to_string().len()).sum();
                println!("{what}: {told} bytes of warnings");
            }
            Err(error) => println!("{what}: {} bytes of errors", error.to_string().len()),
        }
        println!("{what}: {:?}", one.elapsed());
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}
