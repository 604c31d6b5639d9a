//! Which options rdb serves, refuses and ignores; inheritance; hosts and peers.

use rdb_config::options::{OptionDef, Served, Type, all};
use rdb_config::{
    AfterSb0p, Config, ConfigError, DiskOptions, Handlers, Loaded, NetOptions, ResolvedResource,
    ResourceOptions, Section, WarningKind, load_str,
};

const HOSTS: &str =
    "on alice { device /dev/drbd0; disk /dev/a; meta-disk internal; address 10.0.0.1:7789; }
on bob { device /dev/drbd0; disk /dev/a; meta-disk internal; address 10.0.0.2:7789; }";

fn with(body: &str) -> Loaded {
    load_str("q.conf", &format!("resource r0 {{\n{HOSTS}\n{body}\n}}\n"))
        .unwrap_or_else(|e| panic!("{body}: {e}"))
}

fn on_alice(config: &Config) -> Result<ResolvedResource, ConfigError> {
    config.resources[0].for_host("alice")
}

/// A value that is not the option's default.
fn other_value(def: &OptionDef) -> String {
    match def.ty {
        Type::Number { max, .. } => max.to_string(),
        Type::Bool { default } => if default { "no" } else { "yes" }.to_owned(),
        Type::Words { words, default } => {
            let word = words.iter().find(|w| **w != default);
            (*word.expect("there are two words")).to_owned()
        }
        Type::Text { .. } => "f".to_owned(),
        Type::Hosts => "alice".to_owned(),
        Type::ResourceRef => "r0".to_owned(),
        Type::Words9 => "1".to_owned(),
    }
}

fn body(def: &OptionDef, value: &str) -> String {
    format!("{} {{ {} {value}; }}", def.section.as_str(), def.name)
}

#[test]
fn every_option_is_served_refused_or_warned_about() {
    for def in all().filter(|o| o.section != Section::Global) {
        let loaded = with(&body(def, &other_value(def)));
        let warned = loaded.warnings.iter().any(|w| {
            w.kind == WarningKind::NoEffect
                && w.text.contains(&format!("'{}' has no effect", def.name))
        });
        let resolved = on_alice(&loaded.config);
        match def.served {
            Served::Served | Served::ServedBut(_) => {
                let resolved = resolved.unwrap_or_else(|e| panic!("{}: {e}", def.name));
                assert!(!warned, "{}", def.name);
                // It is for the start script, which asks `dump`.
                if def.name == "become-primary-on" {
                    assert!(
                        loaded
                            .config
                            .dump("alice", rdb_config::DumpStyle::default())
                            .contains("become-primary-on")
                    );
                    continue;
                }
                let volume = &resolved.volumes[0].disk_options;
                let changed = match def.section {
                    Section::Net => resolved.net != NetOptions::default(),
                    Section::Disk => *volume != DiskOptions::default(),
                    Section::Startup => resolved.startup != rdb_config::StartupOptions::default(),
                    Section::Options => resolved.options != ResourceOptions::default(),
                    Section::Handlers => resolved.handlers != Handlers::default(),
                    _ => panic!("{} is served, and no structure has it", def.name),
                };
                assert!(changed, "{} has no effect", def.name);
            }
            Served::Harmless(_) => {
                assert!(warned, "{}", def.name);
                assert!(resolved.is_ok(), "{}", def.name);
            }
            Served::Refused(_) => {
                let message = resolved.expect_err(def.name).text();
                let what = format!(
                    "r0: {} option '{}' is not served by rdb yet",
                    def.section.as_str(),
                    def.name
                );
                assert!(message.contains(&what), "{message}");
            }
        }
    }
}

#[test]
fn defaults_written_out_are_never_refused() {
    for def in all().filter(|o| o.section != Section::Global) {
        let default = match def.ty {
            Type::Number { default, .. } => default.to_string(),
            Type::Bool { default } => if default { "yes" } else { "no" }.to_owned(),
            Type::Words { default, .. } => default.to_owned(),
            Type::Text { .. } => "\"\"".to_owned(),
            Type::ResourceRef => "-1".to_owned(),
            Type::Hosts | Type::Words9 => continue,
        };
        let config = with(&body(def, &default)).config;
        let resolved = on_alice(&config).unwrap_or_else(|e| panic!("{}: {e}", def.name));
        assert_eq!(resolved.net, NetOptions::default(), "{}", def.name);
        assert_eq!(
            resolved.volumes[0].disk_options,
            DiskOptions::default(),
            "{}",
            def.name
        );
    }
}

#[test]
fn words_that_are_not_an_options_are_refused() {
    let text = format!("resource r0 {{\n{HOSTS}\nnet {{ rr-conflict foo; }}\n}}\n");
    let error = load_str("q.conf", &text).expect_err("it is wrong");
    let expected = "q.conf:4: rr-conflict 'foo' is not valid.\n\t\
                    Allowed values are: disconnect | call-pri-lost | violently";
    assert_eq!(error.text(), expected);
}

#[test]
fn an_option_in_the_wrong_section_gets_a_hint() {
    let text = format!("resource r0 {{\n{HOSTS}\nnet {{ resync-rate 3M; }}\n}}\n");
    let error = load_str("q.conf", &text)
        .expect_err("it is wrong")
        .to_string();
    assert!(
        error.ends_with("hint: 'resync-rate' belongs into disk {}"),
        "{error}"
    );
}

#[test]
fn the_resource_wins_over_common_and_the_volume_over_the_resource() {
    let text = "common { protocol A; net { timeout 30; ping-int 3; } disk { resync-rate 1M; c-plan-ahead 0; al-extents 300; } }
        resource r0 {
            net { protocol B; timeout 40; }
            disk { resync-rate 2M; c-max-rate 5M; }
            volume 0 { device minor 0; disk /dev/a; meta-disk internal; disk { c-max-rate 6M; } }
            volume 7 { device minor 1; disk /dev/b; meta-disk internal; disk { c-max-rate 6M; c-min-rate 0; } }
            on alice { address 10.0.0.1:1; volume 0 { disk { resync-rate 3M; } } volume 7 { disk /dev/bb; } }
            on bob { address 10.0.0.2:1; }
        }";
    let config = load_str("q.conf", text).expect("it parses").config;
    let r0 = on_alice(&config).expect("it resolves");
    assert_eq!(
        (
            r0.net.protocol.as_str(),
            r0.net.timeout_ds,
            r0.net.ping_int_s
        ),
        ("B", 40, 3)
    );
    let rates = |v: usize| {
        let disk = &r0.volumes[v].disk_options;
        (
            disk.resync_rate_kib >> 10,
            disk.c_max_rate_kib >> 10,
            disk.c_plan_ahead_ds,
            disk.al_extents,
            disk.c_min_rate_kib,
        )
    };
    assert_eq!(rates(0), (3, 6, 0, 300, 250));
    assert_eq!(rates(1), (2, 6, 0, 300, 0));
    assert_eq!((r0.volumes[1].volume, r0.volumes[1].minor), (7, 1));
    assert_eq!(r0.volumes[1].disk, Some("/dev/bb".into()));
    assert_eq!(r0.volumes[1].device.to_str(), Some("/dev/drbd1"));
}

#[test]
fn a_victim_by_name_is_local_on_that_host_and_remote_on_the_other() {
    let config = with("net { after-sb-0pri discard-node-alice; }").config;
    let of = |host: &str| {
        config.resources[0]
            .for_host(host)
            .expect("it resolves")
            .net
            .after_sb_0pri
    };
    assert_eq!(
        (of("alice"), of("bob")),
        (AfterSb0p::DiscardLocal, AfterSb0p::DiscardRemote)
    );
}

#[test]
fn unknown_hosts_and_missing_peers_are_named() {
    let config = with("").config;
    let error = config.resources[0]
        .for_host("alice.example.org")
        .expect_err("no such host");
    assert_eq!(error.exit_code(), 1);
    assert!(
        error.text().ends_with(
            "'r0' not defined in your config (for this host).\n\t\
             This host is called 'alice.example.org'; the resource names 'alice', 'bob'."
        ),
        "{error}"
    );
    let alone = "resource r0 { on alice { device minor 1; disk /dev/a; meta-disk internal; address 10.0.0.1:1; } }";
    let config = load_str("q.conf", alone).expect("it parses").config;
    let error = on_alice(&config).expect_err("no peer");
    assert!(
        error
            .text()
            .ends_with("q.conf:1: in resource r0:\n\tMissing section 'on <PEER> { ... }'."),
        "{error}"
    );
    let three = format!(
        "{HOSTS} on carl {{ device minor 0; disk /dev/a; meta-disk internal; address 10.0.0.3:1; }}"
    );
    let config = load_str("q.conf", &format!("resource r0 {{ {three} }}"))
        .expect("it parses")
        .config;
    let error = on_alice(&config).expect_err("two peers");
    assert!(
        error
            .text()
            .contains("There are multiple host sections for the peer node."),
        "{error}"
    );
    let with_carl = config.resources[0]
        .for_host_with_peer("alice", Some("carl"))
        .expect("it resolves");
    assert_eq!(with_carl.peer.name, "carl");
}

#[test]
fn alternatives_and_floating_hosts_are_found() {
    let text = "resource r0 {
        on alice alice2 { device minor 0; disk /dev/a; meta-disk internal; address ipv6 [fe80::1%7]:1; }
        on bob { device minor 0; disk /dev/a; meta-disk internal; address ipv6 [fd00::2]:1; }
    }
    resource fl {
        floating 127.0.0.1:7791 { device /dev/drbd2; disk /dev/b; meta-disk internal; }
        floating 203.0.113.7:7791 { device /dev/drbd2; disk /dev/b; meta-disk internal; }
    }";
    let config = load_str("q.conf", text).expect("it parses").config;
    let r0 = config.resources[0].for_host("alice2").expect("it resolves");
    assert_eq!(
        (r0.me.name.as_str(), r0.me.address.to_string()),
        ("alice2", "[fe80::1%7]:1".to_owned())
    );
    // Every machine has 127.0.0.1, none has an address of the documentation range.
    let floating = config.resources[1]
        .for_host("anything")
        .expect("it resolves");
    assert_eq!(
        (floating.me.name.as_str(), floating.peer.name.as_str()),
        ("127.0.0.1:7791", "203.0.113.7:7791")
    );
    // A node that is called by the address is that one, whatever addresses the machine has.
    let other = config.resources[1]
        .for_host("203.0.113.7:7791")
        .expect("it resolves");
    assert_eq!(other.me.name, "203.0.113.7:7791");
    assert_eq!(
        config
            .by_minor("alice", 0)
            .map(|(r, v)| (r.name.as_str(), v)),
        Some(("r0", 0))
    );
}

#[test]
fn what_rdb_does_not_serve_is_refused_by_name() {
    for (body, expected) in [
        (
            "net { allow-two-primaries; }",
            "q.conf:4: r0: net option 'allow-two-primaries' is not served by rdb yet",
        ),
        (
            "connection { path { host alice; host bob; } path { host alice; host bob; } }",
            "q.conf:4: r0: more than one 'path' of a 'connection' (DRBD 9) is not served by rdb yet",
        ),
        (
            "options { quorum majority; }",
            "q.conf:4: r0: options option 'quorum' is not served by rdb yet: it is an option of DRBD 9",
        ),
        (
            "disk { al-updates no; }",
            "q.conf:4: r0: disk option 'al-updates' is not served by rdb yet",
        ),
    ] {
        let error = on_alice(&with(body).config).expect_err(body).text();
        assert!(error.ends_with(expected), "{error}");
    }
    let sdp = HOSTS.replace("address 10.0.0.1", "address sdp 10.0.0.1");
    let config = load_str("q.conf", &format!("resource r0 {{\n{sdp}\n}}"))
        .expect("it parses")
        .config;
    let error = on_alice(&config).expect_err("sdp").text();
    assert!(
        error.ends_with("r0: address family 'sdp' is not served by rdb yet"),
        "{error}"
    );
}

#[test]
fn one_disk_for_two_volumes_is_an_error() {
    // DRBD 8.4 does not see it: docs/spec/admin.md, section 1.11, check 6.
    let second = HOSTS.replace("drbd0", "drbd1").replace("7789", "7790");
    let text = format!("resource r0 {{\n{HOSTS}\n}}\nresource r1 {{\n{second}\n}}\n");
    let error = load_str("q.conf", &text).expect_err("it is wrong").text();
    assert!(
        error.starts_with(
            "q.conf:6: conflicting use of disk 'disk:alice:/dev/a' ...\n\
             q.conf:2: disk 'disk:alice:/dev/a' first used here."
        ),
        "{error}"
    );
}

#[test]
fn warnings_name_what_has_no_effect_once() {
    let text = format!(
        "global {{ usage-count yes; }} common {{ handlers {{ quorum-lost x; }} }}\n\
         resource r0 {{ {HOSTS} handlers {{ quorum-lost y; }} ; syncer {{ verify-alg sha1; rate 3M; }} \
         net {{ unplug-watermark 5; }} ignore-on x; }}\n\
         resource r1 {{ }} global {{ }}"
    );
    // A second global section is an error; without it the first one warns.
    assert!(
        load_str("q.conf", &text)
            .expect_err("twice")
            .text()
            .contains("global section 'global'")
    );
    let loaded = load_str("q.conf", &text.replace("global { }", "")).expect("it parses");
    let texts: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "q.conf:3: a ';' too many; DRBD's tools reject it",
            "q.conf:3: in resource r0, WARN: The 'ignore-on' keyword is deprecated.",
            "q.conf:1: global option 'usage-count' has no effect: rdb never contacts a usage counter",
            "q.conf:1: handlers option 'quorum-lost' has no effect: it is a handler of DRBD 9, and nothing calls it",
            "q.conf:3: net option 'unplug-watermark' has no effect: it tunes a mechanism that rdb does not have",
        ]
    );
    let uncounted = load_str("q.conf", "global { usage-count no; }").expect("it parses");
    assert!(uncounted.warnings.is_empty(), "{:?}", uncounted.warnings);
    let late = load_str("q.conf", "resource r0 { } global { }").expect("it parses");
    let expected =
        "q.conf:1: You should put the global {} section\n\tin front of any resource {} section";
    assert_eq!(late.warnings[0].to_string(), expected);
}

#[test]
fn resync_after_nothing_is_dropped_with_drbds_message() {
    let loaded = with("disk { resync-after nosuch; }");
    let text = &loaded.warnings[0].text;
    assert_eq!(
        text,
        "in resource r0:\n\tresource 'nosuch' mentioned in 'resync-after' option is not known."
    );
    assert_eq!(
        on_alice(&loaded.config).expect("it resolves").volumes[0]
            .disk_options
            .resync_after,
        None
    );
}

#[test]
fn secrets_are_not_shown_in_messages() {
    let text = format!("resource r0 {{\n{HOSTS}\nnet {{ shared-secret geheim; timeout 0; }}\n}}");
    let error = load_str("q.conf", &text)
        .expect_err("out of range")
        .to_string();
    assert!(!error.contains("geheim"), "{error}");
}

/// A name is a part of paths and a word of command lines. The file as a whole can be read, as with drbdadm.
#[test]
fn a_resource_whose_name_is_of_no_use_is_refused_where_it_is_to_run() {
    let load = |name: &str| {
        let text = format!(
            "resource \"{name}\" {{ device minor 0; disk /dev/a; meta-disk internal; on a {{ address 10.0.0.1:1; }} on b {{ address 10.0.0.2:1; }} }}"
        );
        rdb_config::load_str("n.conf", &text)
    };
    for (name, reason) in [
        ("a b", "blanks"),
        ("all", "every resource"),
        ("-x", "begins with"),
        (&"x".repeat(128), "127 bytes"),
    ] {
        let config = load(name).expect("it can be read").config;
        let resource = &config.resources[0];
        let error = resource.for_host("a").expect_err(name).to_string();
        assert!(
            error.contains("its name") && error.contains(reason),
            "{error}"
        );
        resource
            .described_for("a", None)
            .expect("it can be asked of, and taken down");
    }
    for name in ["..x", ".x", "a/b", ""] {
        let error = load(name).expect_err(name).to_string();
        assert!(error.contains("resource name"), "{error}");
    }
    for name in ["r0", "a;b", "a.b", "ü", "r-0"] {
        let config = load(name).expect(name).config;
        config.resources[0].for_host("a").expect(name);
        assert_eq!(rdb_config::resource_name_fault(name), None);
    }
}
