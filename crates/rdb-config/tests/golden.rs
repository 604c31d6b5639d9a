//! What `dump` and `dump-xml` print, against the outputs of DRBD's tool (drbd-utils 9.22.0, the 8.4 flavour) for the
//! same files. `DIR` stands for the folder of the files.

use rdb_config::{Config, DumpStyle, load};
use std::path::PathBuf;

const INHERITED: DumpStyle = DumpStyle {
    inherited: true,
    hide_secrets: false,
    always_global: false,
};

fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/good")
}

fn config(file: &str) -> Config {
    match load(&golden_dir().join(file)) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{file}: {error}"),
    }
}

fn check(golden: &str, printed: &str) {
    let expected =
        std::fs::read_to_string(golden_dir().join(golden)).expect("the golden file is there");
    let dir = golden_dir().display().to_string();
    similar(golden, &printed.replace(&dir, "DIR"), &expected);
}

/// Compares line by line, so that a failure shows the place.
fn similar(what: &str, ours: &str, theirs: &str) {
    for (i, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "{what}, line {}", i + 1);
    }
    assert_eq!(ours, theirs, "{what}");
}

#[test]
fn whole_configurations_print_as_drbd_prints_them() {
    for (file, stem, node) in [
        ("all-sections.conf", "all-sections", "alice"),
        ("syncer-83.conf", "syncer-83", "bob"),
        ("proxy.conf", "proxy", "alice"),
        ("spare.conf", "spare", "alice"),
    ] {
        let config = config(file);
        check(
            &format!("{stem}.dump"),
            &config.dump(node, DumpStyle::default()),
        );
        check(
            &format!("{stem}.dump-xml"),
            &config.dump_xml(DumpStyle::default()),
        );
    }
}

#[test]
fn inherited_options_print_as_drbd_prints_them() {
    for (file, stem, node) in [
        ("a2-finch.conf", "a2-finch", "hostA.fqdn.dom"),
        ("b1-b4-linuxjournal.conf", "b1-b4-linuxjournal", "server2"),
        ("c-pacemaker/drbd.conf", "c-pacemaker-drbd", "drbd1"),
        ("all-sections.conf", "all-sections", "alice"),
        ("syncer-83.conf", "syncer-83", "bob"),
        ("spare.conf", "spare", "alice"),
        ("inherit.conf", "inherit", "alice"),
    ] {
        check(
            &format!("{stem}.dump-inherited"),
            &config(file).dump(node, INHERITED),
        );
    }
}

#[test]
fn inherited_options_are_in_the_xml_too() {
    let config = config("inherit.conf");
    check("inherit.dump-xml-inherited", &config.dump_xml(INHERITED));
    check("inherit.dump-xml", &config.dump_xml(DumpStyle::default()));
    check("inherit.dump", &config.dump("alice", DumpStyle::default()));
    let hidden = DumpStyle {
        hide_secrets: true,
        ..INHERITED
    };
    let printed = config.dump_xml(hidden);
    assert!(
        printed.contains("\"*****\"") && !printed.contains("se&lt;cr"),
        "{printed}"
    );
}

#[test]
fn what_the_tool_takes_for_set_is_printed_without_a_global_section() {
    let text = "resource r0 { device minor 0; disk /dev/a; meta-disk internal; on a { address 10.0.0.1:1; } on b { address 10.0.0.2:1; } }";
    let config = rdb_config::load_str("r0.conf", text)
        .expect("it is right")
        .config;
    let verbose = DumpStyle {
        always_global: true,
        ..INHERITED
    };
    let global = "global {\n    cmd-timeout-medium 600;\n    cmd-timeout-long 0;\n}\n\n";
    assert!(config.dump("a", verbose).contains(global));
    assert!(!config.dump("a", INHERITED).contains("global"));
}

#[test]
fn single_resources_print_as_drbd_prints_them() {
    for (file, stem, node, name) in [
        ("a2-finch.conf", "a2-finch", "hostA.fqdn.dom", "drbd1"),
        (
            "b1-b4-linuxjournal.conf",
            "b1-b4-linuxjournal",
            "server2",
            "drbd0",
        ),
        ("c-pacemaker/drbd.conf", "c-pacemaker-drbd", "drbd1", "r0"),
        ("all-sections.conf", "all-sections", "alice", "r 1"),
        ("syncer-83.conf", "syncer-83", "bob", "r0"),
    ] {
        let config = config(file);
        let resource = config.resource(name).expect(name);
        let printed = config.dump_resource(resource, node, DumpStyle::default());
        check(&format!("{stem}.dump-resource"), &printed);
        check(
            &format!("{stem}.dump-xml-resource"),
            &config.dump_xml_resource(resource, DumpStyle::default()),
        );
    }
}

#[test]
fn what_dump_prints_is_read_back_the_same() {
    // Not all-sections.conf: DRBD prints its resource "disk" without the quotes that reading it needs.
    for (file, node) in [
        ("b1-b4-linuxjournal.conf", "server1"),
        ("syncer-83.conf", "bob"),
    ] {
        for style in [DumpStyle::default(), INHERITED] {
            let printed = config(file).dump(node, style);
            let again = rdb_config::load_str("again.conf", &printed)
                .unwrap_or_else(|e| panic!("{file}: {e}"));
            let without_places = |text: &str| -> String {
                text.lines()
                    .filter(|l| !l.starts_with("# "))
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            similar(
                file,
                &without_places(&again.config.dump(node, style)),
                &without_places(&printed),
            );
        }
    }
}

#[test]
fn secrets_are_hidden_on_request() {
    let style = DumpStyle {
        hide_secrets: true,
        ..DumpStyle::default()
    };
    let printed = config("b1-b4-linuxjournal.conf").dump("server1", style);
    assert!(
        printed.contains("shared-secret    *****;") && !printed.contains("FooFunFactory"),
        "{printed}"
    );
}
