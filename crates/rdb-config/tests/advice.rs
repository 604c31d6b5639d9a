//! What messages say beyond DRBD's words: the place, the option, what was meant; and what they must not say.

use rdb_config::{Loaded, WarningKind, load_bytes, load_str, printable};

const HOSTS: &str =
    "on alice { device /dev/drbd0; disk /dev/a; meta-disk internal; address 10.0.0.1:7789; }
on bob { device /dev/drbd0; disk /dev/a; meta-disk internal; address 10.0.0.2:7789; }";

fn error(text: &str) -> String {
    load_str("q.conf", text).expect_err(text).to_string()
}

fn with(body: &str) -> Loaded {
    load_str("q.conf", &format!("resource r0 {{\n{HOSTS}\n{body}\n}}\n"))
        .unwrap_or_else(|e| panic!("{body}: {e}"))
}

fn warnings(body: &str) -> Vec<String> {
    with(body)
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a mistake")]
fn every_mistake_has_its_place_and_a_way_out() {
    for (text, parts) in [
        (
            "resource r0 {\n net {\n  max-buffers -1;\n }\n}",
            &[
                "q.conf:3: max-buffers -1 => -1 out of range [32..131072].",
                "q.conf:3:15",
            ][..],
        ),
        (
            "resource r0 {\n disk {\n  resync-rate 33MB;\n }\n}",
            &[
                "33MB is not a valid number",
                "q.conf:3:15",
                "hint: resync-rate is a number from 1 to 4194304 KiB/s; suffixes are s, K, M and G: write 33M",
            ],
        ),
        (
            "resource r0 {\n net { timeout 3.5; }\n}",
            &[
                "3.5 is not a valid number",
                "q.conf:2:16",
                "timeout is a number from 1 to 600 0.1 s",
            ],
        ),
        (
            "resource r0 {\n net { max-bufers 8000; }\n}",
            &["q.conf:2: Parse error", "hint: did you mean 'max-buffers'?"],
        ),
        (
            "resource r0 {\n net { protocol C; after-sb-0pri discard-zero-change; }\n}",
            &[
                "is not valid",
                "q.conf:2:34",
                "hint: did you mean 'discard-zero-changes'?",
            ],
        ),
        (
            "ressource r0 {\n}",
            &["q.conf:1:", "hint: did you mean 'resource'?"],
        ),
        (
            "global { usage-cuont no; }",
            &["hint: did you mean 'usage-count'?"],
        ),
        (
            "global { minor-count 12x; }",
            &["minor-count is a number from 1 to 255"],
        ),
        (
            "resource r0 {\n devise /dev/drbd0;\n}",
            &["hint: did you mean 'device'?"],
        ),
        (
            "resource r0 {\n on a { adress 10.0.0.1:1; }\n}",
            &["hint: did you mean 'address'?"],
        ),
        (
            "resource r0 {\n md-flushes no;\n}",
            &["q.conf:2:2", "hint: 'md-flushes' belongs into disk {}"],
        ),
        (
            "resource r0 {\n on alice\n  device /dev/drbd0;\n}",
            &[
                "but got 'device'",
                "q.conf:3:3",
                "hint: is the '{' missing at the end of line 2?",
            ],
        ),
        (
            "resource r0: {\n}",
            &[
                "'{' expected",
                "hint: names and values with such characters must stand in double quotes",
            ],
        ),
        (
            "resource r0 {\n on alice { device /dev/drbd0; disk /dev/a; address 10.0.0.1:1; }\n}",
            &[
                "'meta-disk' keyword missing",
                "hint: 'meta-disk internal;' keeps it at the end of the disk",
            ],
        ),
        (
            "include \"gone.res\";",
            &[
                "Failed to open include file 'gone.res'",
                "q.conf:1:9",
                "hint: there is no /",
            ],
        ),
        (
            "resource r0\n net { }\n}",
            &[
                "'{' expected",
                "hint: is the '{' missing at the end of line 1?",
            ],
        ),
        (
            "resource r0 {\n net {\n  timeout 50;\n on alice { }\n}",
            &["but got 'on'", "hint: is a '}' missing before?"],
        ),
        (
            "resource r0 {\n on alice {\n  device /dev/drbd0;\n on bob { }\n}",
            &[
                "but got 'on'",
                "hint: is the '}' missing that ends 'on alice'?",
            ],
        ),
        (
            "resource r0 {\n resource r1 { }",
            &[
                "but got 'resource'",
                "hint: is the '}' missing that ends resource r0?",
            ],
        ),
        (
            "resource r0 {\n net {",
            &["hint: the file ends here; is a '}' missing?"],
        ),
        (
            "\u{feff}global { }",
            &[
                "q.conf:1:1",
                "byte order mark",
                "save it as UTF-8 without one",
            ],
        ),
        (
            "resource r0 {\n handlers { split-brain \u{201c}x y\u{201d}; }\n}",
            &["q.conf:2:25", "hint: strings stand in plain double quotes"],
        ),
    ] {
        let error = error(text);
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in\n{error}");
        }
    }
}

#[test]
fn a_missing_last_brace_is_said_and_forgiven() {
    let text = format!("resource r0 {{\n{HOSTS}\n");
    let loaded = load_str("q.conf", &text).expect("it is read");
    let texts: Vec<_> = loaded.warnings.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(texts, ["the '}' that ends resource r0 is missing"]);
    let loaded = load_str("q.conf", "common { net { protocol C; }\n").expect("it is read");
    assert_eq!(
        loaded.warnings[0].text,
        "the '}' that ends common is missing"
    );
}

#[test]
fn no_message_shows_a_secret() {
    let long = "x".repeat(300);
    for text in [
        "resource r0 { net { shared-secret \"hush hush\" timeout 5; } }".to_owned(),
        "resource r0 { net { shared-secret hush,hush; } }".to_owned(),
        "resource r0 { net { shared-secret\n  \"hush hush\" timeout 5; } }".to_owned(),
        "resource r0 { net { shared-secret # the word\n\n  hush,hush; } }".to_owned(),
        "resource r0 { net { shared-secret hush nonsense; timout 5; } }".to_owned(),
        format!("resource r0 {{ net {{ shared-secret\n \"hush{long}\"; }} }}"),
        format!("resource r0 {{ net {{ shared-secret hush{long}; }} }}"),
        "resource r0 { net { shared-secret \"hush\n; } }".to_owned(),
        format!(
            "resource r0 {{ net {{ shared-secret\n \"hush{}\"; }} }}",
            &long[..60]
        ),
    ] {
        let error = error(&text);
        assert!(
            !error.contains("hush") && !error.contains("xxx"),
            "{text}\n{error}"
        );
        assert!(error.contains("q.conf:"), "{error}");
    }
}

#[test]
fn a_secret_has_at_most_63_characters() {
    let secret = |len| {
        format!(
            "net {{ cram-hmac-alg sha1; shared-secret \"{}\"; }}",
            "s".repeat(len)
        )
    };
    with(&secret(63));
    let error = error(&format!("resource r0 {{\n{HOSTS}\n{}\n}}", secret(64)));
    assert!(
        error.contains(
            "q.conf:4: shared-secret is too long: 64 characters, at most 63 are possible"
        ),
        "{error}"
    );
}

#[test]
fn what_has_no_effect_or_cannot_be_meant_is_said() {
    for (body, warning) in [
        (
            "net { shared-secret abc; }",
            "q.conf:4: in resource r0: shared-secret has no effect without cram-hmac-alg: the peer need not know it",
        ),
        (
            "net { after-sb-0pri discard-node-zoe; }",
            "q.conf:4: in resource r0: after-sb-0pri discard-node-zoe: the resource has no host 'zoe', so each node would \
             discard the other's changes",
        ),
        (
            "disk { disk-barrier yes; }",
            "q.conf:4: disk option 'disk-barrier' has no effect: Linux has no barriers any more; disk-flushes does the work",
        ),
        (
            "net { fencing resource-only; }",
            "q.conf:4: in resource r0: fencing is resource-only and there is no handler fence-peer: without its peer the node \
             does not become Primary",
        ),
        (
            "disk { on-io-error call-local-io-error; } handlers { fence-peer x; }",
            "q.conf:4: in resource r0: on-io-error is call-local-io-error and there is no handler local-io-error: the disk \
             is given up, and nothing is called",
        ),
        (
            "net { rr-conflict retry-connect; }",
            "q.conf:4: net option 'rr-conflict retry-connect' is a word of DRBD 9 and is read as 'disconnect': the \
             connection is given up",
        ),
    ] {
        assert_eq!(warnings(body), [warning]);
    }
    for body in [
        "net { shared-secret abc; cram-hmac-alg sha1; }",
        "net { after-sb-0pri discard-node-bob; }",
        "disk { disk-barrier no; resync-rate 100M; }",
        "syncer { rate 10M; }",
        "net { after-sb-1pri call-pri-lost-after-sb; rr-conflict call-pri-lost; }",
        "disk { fencing resource-and-stonith; } handlers { fence-peer /bin/true; }",
    ] {
        assert_eq!(warnings(body), [""; 0], "{body}");
    }
    let loaded = load_str("q.conf", "global { dialog-refresh 5; }").expect("it is read");
    assert_eq!(loaded.warnings[0].kind, WarningKind::NoEffect);
}

#[test]
fn one_resource_that_cannot_run_leaves_the_others_alone() {
    for body in [
        "startup { become-primary-on both; }",
        "startup { become-primary-on zoe; }",
        "disk { al-updates no; }",
    ] {
        let loaded = with(body);
        let resource = &loaded.config.resources[0];
        resource.for_host("alice").expect_err(body);
        let described = resource.described_for("alice", None).expect(body);
        assert_eq!(described.peer.address.to_string(), "10.0.0.2:7789");
    }
    let other = HOSTS.replace("drbd0", "drbd1").replace("/dev/a", "/dev/b");
    let text = format!(
        "common {{ startup {{ become-primary-on both; }} }} resource up {{ stacked-on-top-of gone {{ device /dev/drbd9; \
         address 10.0.0.1:1; }} }} resource r1 {{ {other} net {{ allow-two-primaries no; }} }}"
    );
    let loaded = load_str("q.conf", &text).expect("a stacked resource on none stops nobody");
    assert!(
        loaded
            .warnings
            .iter()
            .any(|w| w.text == "in resource up, referenced resource 'gone' not defined.")
    );
    assert!(loaded.config.resources[1].for_host("alice").is_err());
}

#[test]
fn an_address_of_another_machine_is_told_from_ones_own() {
    let loaded = with("");
    let resource = &loaded.config.resources[0];
    let error = resource
        .address_not_here("alice")
        .expect("10.0.0.1 is not here");
    assert_eq!(error.exit_code(), 10);
    assert!(
        error.text().ends_with(
            "q.conf:2: in resource r0, on alice:\n\tIP 10.0.0.1 not found on this host."
        ),
        "{error}"
    );
    let text = format!(
        "resource r0 {{ {} }}",
        HOSTS.replace("10.0.0.1", "127.0.47.9")
    );
    let here = load_str("q.conf", &text).expect("it is read");
    assert_eq!(here.config.resources[0].address_not_here("alice"), None);
}

#[test]
fn nothing_in_a_message_acts_on_the_terminal() {
    let text =
        "resource r0 { net { after-sb-0pri \"\u{1b}[31mred\u{7}\u{202e}\"; } \"\u{1b}[2J\" }";
    let error = error(text);
    assert!(
        error
            .chars()
            .all(|c| !c.is_control() || matches!(c, '\n' | '\t')),
        "{error:?}"
    );
    assert!(error.contains("\\u{1b}[31mred\\u{7}\\u{202e}"), "{error}");
    let text = format!("resource \"r\u{e9}\" {{ {HOSTS} ignore-on x; }}");
    let loaded = load_str("q.conf", &text).expect("letters of any language are fine");
    assert!(loaded.warnings[0].to_string().contains("r\u{e9}"));
    assert_eq!(printable("a\tb\nc\r\u{9b}x"), "a\tb\nc\\u{d}\\u{9b}x");
}

#[test]
fn a_quoted_internal_is_the_word() {
    let text = format!(
        "resource r0 {{ {} }}",
        HOSTS.replace("internal", "\"internal\"")
    );
    let loaded = load_str("q.conf", &text).expect("it is read");
    let alice = loaded.config.resources[0]
        .for_host("alice")
        .expect("it runs");
    assert_eq!(alice.volumes[0].meta, rdb_config::MetaDisk::Internal);
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_mean_something() {
    for (bytes, message) in [
        (
            &b"resource r0 {\n  disk \"/tmp/\xff\xfe.img\";\n}\n"[..],
            "q.conf:2: this is not valid UTF-8\n  at FILE:2:14\n  | \u{20} disk \"/tmp/\u{fffd}\u{fffd}.img\";\n  |              ^\n  \
             hint: save the file as UTF-8; other bytes may stand in comments only",
        ),
        // A line with a secret is not shown.
        (
            b"common { net { shared-secret \"h\xfcsh\"; } }",
            "q.conf:1: this is not valid UTF-8\n  at FILE:1:32\n  hint: save",
        ),
        (
            b"resource r\xe4 { }",
            "q.conf:1: this is not valid UTF-8\n  at FILE:1:11\n",
        ),
        (
            b"# \xe4\nglobal { }\xe4",
            "q.conf:2: this is not valid UTF-8\n  at FILE:2:11\n",
        ),
        // Nor is the end of a string looked for behind it.
        (
            b"resource \"\xe4\n",
            "q.conf:1: this is not valid UTF-8\n  at FILE:1:11\n",
        ),
        (
            b"resource \"a\\\xe4\" { }",
            "q.conf:1: this is not valid UTF-8\n  at FILE:1:13\n",
        ),
    ] {
        let error = load_bytes("q.conf", bytes).expect_err(message);
        assert_eq!(error.exit_code(), 10);
        let path = std::path::absolute("q.conf").expect("a folder");
        let error = error
            .to_string()
            .replace(&path.display().to_string(), "FILE");
        assert!(
            error.starts_with(message),
            "{error}\n\nbut not\n\n{message}"
        );
    }
}

#[test]
fn comments_may_hold_any_bytes() {
    let text = b"# f\xfcr \xff\nglobal { } # \xe4\n#\xe4\nresource \"\xef\xbf\xbd\xc3\xa4\" { }";
    let loaded = load_bytes("q.conf", text).expect("it is read");
    let names: Vec<&str> = loaded
        .config
        .resources
        .iter()
        .map(|r| r.name.as_str())
        .collect();
    assert_eq!(names, ["\u{fffd}\u{e4}"]);
}

#[test]
fn numbers_out_of_range_end_with_10_and_words_that_are_none_with_20_as_in_drbd() {
    for (body, code) in [
        ("net { timeout 6000; }", 10),
        ("net { timeout 999999999999999999999; }", 10),
        ("net { timeout -999999999999999999999; }", 10),
        ("disk { resync-rate 999999999999999999999G; }", 10),
        ("net { timeout 0x10; }", 20),
        ("disk { resync-rate 10MB; }", 20),
    ] {
        let text = format!("resource r0 {{\n{HOSTS}\n{body}\n}}\n");
        let error = load_str("q.conf", &text).expect_err(body);
        assert_eq!(error.exit_code(), code, "{error}");
    }
}

/// `docs/spec/admin.md`, section 1.5: DRBD 8.4 hands both on, and the last one wins.
#[test]
fn of_an_option_written_twice_the_last_counts_in_every_section() {
    let body = "net {\n ko-count 3;\n ko-count 4;\n}
disk {\n al-extents 300;\n al-extents 400;\n}
options {\n cpu-mask 1;\n cpu-mask 2;\n}
startup {\n wfc-timeout 5;\n wfc-timeout 6;\n}";
    let counted = |loaded: &Loaded| {
        let r0 = loaded.config.resources[0]
            .for_host("alice")
            .expect("it resolves");
        (
            r0.net.ko_count,
            r0.volumes[0].disk_options.al_extents,
            r0.options.cpu_mask,
            r0.startup.wfc_timeout_s,
        )
    };
    let last = (4, 400, Some("2".to_owned()), 6);
    assert_eq!(counted(&with(body)), last);
    let twice = |name: &str, line: u32| {
        let before = line - 1;
        format!("q.conf:{line}: {name} is set twice: this counts, and not q.conf:{before}")
    };
    let told: Vec<_> = warnings(body)
        .into_iter()
        .filter(|w| w.contains("twice"))
        .collect();
    let expected = [
        twice("ko-count", 6),
        twice("al-extents", 10),
        twice("cpu-mask", 14),
        twice("wfc-timeout", 18),
    ];
    assert_eq!(told, expected);
    // The same where the resource has them from `common`, and where a volume has some of its own.
    let text = format!(
        "global {{\n cmd-timeout-short 7;\n cmd-timeout-short 8;\n}}\ncommon {{\n{body}\n}}\nresource r0 {{\n{HOSTS}\ndisk {{ c-max-rate 5M; }}\n}}\n"
    );
    let loaded = load_str("q.conf", &text).expect("it parses");
    assert_eq!(counted(&loaded), last);
    assert_eq!(loaded.config.global.options.cmd_timeout_short_s, 8);
    assert_eq!(
        loaded.warnings[0].to_string(),
        twice("cmd-timeout-short", 3)
    );
    // What says the same twice says nothing wrong, and no value is told: it may be a secret.
    assert_eq!(
        warnings("net { ko-count 3; ko-count 3; }"),
        Vec::<String>::new()
    );
    let secrets = warnings("net { shared-secret alpha; shared-secret omega; }").join("\n");
    assert!(secrets.contains("twice") && !secrets.contains("alpha") && !secrets.contains("omega"));
}

#[test]
fn a_statement_that_is_no_option_and_is_given_twice_is_told_of() {
    let of_hosts = |alices: &str| {
        format!(
            "on alice {{ address 10.0.0.1:7789;\n{alices}\n}}\non bob {{ address 10.0.0.2:7789; }}"
        )
    };
    let told = |of_resource: &str, alices: &str| {
        let hosts = of_hosts(alices);
        let text = format!("resource r0 {{\n{of_resource}\n{hosts}\n}}\n");
        let loaded = load_str("q.conf", &text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let twice = |warning: String| warning.contains("twice").then_some(warning);
        let warnings = loaded.warnings.iter().map(ToString::to_string);
        warnings.filter_map(twice).collect::<Vec<_>>()
    };
    let twice = |name: &str, line: u32| {
        format!("q.conf:{line}: {name} is set twice: this counts, and not what was said before")
    };
    let volume = "device /dev/drbd0; disk /dev/a;\nmeta-disk internal;";
    for (of_resource, alices, expected) in [
        (
            format!("{volume}\nmeta-disk /dev/md[0];"),
            "",
            vec![twice("meta-disk", 4)],
        ),
        (
            format!("volume 0 {{ {volume}\nmeta-disk /dev/md[0]; }}"),
            "",
            vec![twice("meta-disk", 4)],
        ),
        (format!("{volume}\nmeta-disk internal;"), "", vec![]),
        (
            volume.to_owned(),
            "node-id 0;\nnode-id 2;",
            vec![twice("node-id", 6)],
        ),
    ] {
        assert_eq!(
            told(&of_resource, alices),
            expected,
            "{of_resource} {alices}"
        );
    }
    let old = "resource r0 {\n protocol=C\n on alice {\n device=/dev/nb0\n disk=/dev/a\n address=10.0.0.1\n port=7788\n port=7789\n }\n\
               on bob {\n device=/dev/nb0\n disk=/dev/a\n address=10.0.0.2\n port=7789\n }\n}\n";
    let loaded = load_str("q.conf", old).unwrap_or_else(|e| panic!("{e}"));
    let warnings = loaded.warnings.iter().map(ToString::to_string);
    assert!(
        warnings
            .into_iter()
            .any(|warning| warning == twice("port", 8))
    );
}
