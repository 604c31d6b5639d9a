//! The configurations of the tutorials people follow: `docs/spec/admin.md`, section 10.

use rdb_config::{
    AfterSb0p, AfterSb1p, AfterSb2p, Loaded, MetaDisk, OnIoError, Protocol, ResolvedResource,
    WarningKind, load,
};
use std::path::PathBuf;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn loaded(name: &str) -> Loaded {
    load(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn resolved(name: &str, resource: &str, node: &str) -> ResolvedResource {
    let config = loaded(name).config;
    let resource = config.resource(resource).expect("the resource is there");
    resource
        .for_host(node)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The whole message of a file that is wrong, with its name instead of its path.
fn message(name: &str) -> String {
    let error = load(&file(name)).expect_err("the file is wrong");
    assert_eq!(error.exit_code(), 10);
    error
        .to_string()
        .replace(&file(name).display().to_string(), name)
}

fn deprecations(loaded: &Loaded) -> Vec<&str> {
    loaded
        .warnings
        .iter()
        .filter(|w| w.kind == WarningKind::Deprecated)
        .map(|w| w.text.as_str())
        .collect()
}

#[test]
fn a2_finch_resolves() {
    let drbd1 = resolved("good/a2-finch.conf", "drbd1", "hostB.fqdn.dom");
    assert_eq!(drbd1.net.protocol, Protocol::C);
    assert_eq!(
        (drbd1.me.name.as_str(), drbd1.me.address.to_string()),
        ("hostB.fqdn.dom", "192.168.2.2:7789".to_owned())
    );
    assert_eq!(
        (drbd1.peer.name.as_str(), drbd1.peer.address.to_string()),
        ("hostA.fqdn.dom", "192.168.1.2:7789".to_owned())
    );
    let [volume] = &drbd1.volumes[..] else {
        panic!("one volume")
    };
    assert_eq!(
        (volume.volume, volume.minor, volume.device.to_str()),
        (0, 1, Some("/dev/drbd1"))
    );
    assert_eq!(volume.disk, Some(PathBuf::from("/dev/sda1")));
    assert_eq!(volume.meta, MetaDisk::Internal);
    assert_eq!(
        (
            volume.disk_options.resync_rate_kib,
            volume.disk_options.al_extents
        ),
        (75, 257)
    );
    assert_eq!(drbd1.defined_at.1, 1);
}

#[test]
fn a3_two_sections_for_one_host_are_an_error_with_both_lines() {
    assert_eq!(
        message("bad/a3-same-host.conf"),
        "bad/a3-same-host.conf:13: conflicting use of host section 'drbd1: on hostA.fqdn.dom' ...\n\
         bad/a3-same-host.conf:7: host section 'drbd1: on hostA.fqdn.dom' first used here.\n  \
         at bad/a3-same-host.conf:13:8\n  |     on hostA.fqdn.dom {\n  |        ^"
    );
}

#[test]
fn a4_an_assignment_is_accepted_with_a_warning() {
    let loaded = loaded("old/a4-assignment.conf");
    assert_eq!(
        deprecations(&loaded),
        ["'rate = ...' is the style of DRBD 0.6; write 'rate ...;'"]
    );
    let drbd1 = loaded.config.resources[0]
        .for_host("hostA.fqdn.dom")
        .expect("it resolves");
    assert_eq!(drbd1.volumes[0].disk_options.resync_rate_kib, 33 * 1024);
}

#[test]
fn b1_b4_linuxjournal_resolves() {
    let drbd0 = resolved("good/b1-b4-linuxjournal.conf", "drbd0", "server1");
    let net = &drbd0.net;
    assert_eq!(
        (net.timeout_ds, net.connect_int_s, net.ping_int_s),
        (120, 20, 20)
    );
    assert_eq!(
        (net.max_buffers, net.max_epoch_size, net.ko_count),
        (2048, 2048, 30)
    );
    assert_eq!(
        (net.cram_hmac_alg.as_deref(), net.shared_secret.as_deref()),
        (Some("sha1"), Some("FooFunFactory"))
    );
    assert_eq!(drbd0.startup.degr_wfc_timeout_s, 120);
    assert_eq!(drbd0.volumes[0].disk_options.on_io_error, OnIoError::Detach);
    assert_eq!(drbd0.volumes[0].disk_options.resync_rate_kib, 10 * 1024);
    // B4: the comment glued to the statement is no part of it.
    assert_eq!(
        drbd0.handlers.pri_on_incon_degr.as_deref(),
        Some("echo '!DRBD! pri on incon-degr' | wall ; sleep 60 ; halt -f")
    );
}

#[test]
fn b2_a_string_broken_over_two_lines_is_an_error() {
    let message = message("bad/b2-broken-string.conf");
    let drbd = "bad/b2-broken-string.conf:5: Unterminated double quoted string\n  we don't allow embedded newlines\n  \
                >>>\"echo '!DRBD! pri on...<<<\n";
    assert!(message.starts_with(drbd), "{message}");
    assert!(
        message.contains("  at bad/b2-broken-string.conf:5:27\n"),
        "{message}"
    );
}

#[test]
fn b3_a_missing_semicolon_is_shown_where_it_is_missing() {
    assert_eq!(
        message("bad/b3-missing-semicolon.conf"),
        "bad/b3-missing-semicolon.conf:31: Parse error: 'minor | ;' expected,\n\tbut got 'disk'\n  \
         at bad/b3-missing-semicolon.conf:31:9\n  |         disk /dev/sda3;\n  |         ^\n  \
         hint: is the ';' missing at the end of line 30?"
    );
}

#[test]
fn c1_c2_c3_pacemaker_resolves() {
    let r0 = resolved("good/c-pacemaker/drbd.conf", "r0", "drbd1");
    assert_eq!(r0.net.after_sb_0pri, AfterSb0p::DiscardZeroChanges);
    assert_eq!(r0.net.after_sb_1pri, AfterSb1p::DiscardSecondary);
    assert_eq!(r0.net.after_sb_2pri, AfterSb2p::Disconnect);
    assert_eq!(
        r0.volumes[0].meta,
        MetaDisk::Flexible("/dev/vg_drbd/lv_drbdmeta".into())
    );
    assert!(
        r0.defined_at.0.ends_with("drbd.d/r0.res"),
        "{}",
        r0.defined_at.0
    );
}

#[test]
fn c1_absolute_includes_work() {
    let dir = tempfile::tempdir().expect("a folder");
    let main = dir.path().join("drbd.conf");
    let included = file("good/c-pacemaker/drbd.d").display().to_string();
    let text =
        format!("include \"{included}/global_common.conf\";\ninclude \"{included}/*.res\";\n");
    std::fs::write(&main, text).expect("written");
    let config = load(&main).expect("it parses").config;
    assert_eq!(config.resources.len(), 1);
    assert_eq!(config.global.settings[0].value, "no");
}

#[test]
fn d1_openintegra_is_accepted_with_a_warning_for_each_old_key() {
    let loaded = loaded("old/d1-openintegra.conf");
    assert_eq!(
        deprecations(&loaded),
        [
            "'protocol = ...' is the style of DRBD 0.6; write 'protocol ...;'",
            "'fsckcmd' is an old option and has no effect",
            "'do-panic' is read as 'on-io-error call-local-io-error' with a handler that panics",
            "'sync-nice' is an old option and has no effect",
            "'tl-size' is an old option and has no effect",
            "/dev/nb0 is a name of DRBD 0.6; the device is /dev/drbd0, and has that name, too",
            "/dev/nb0 is a name of DRBD 0.6; the device is /dev/drbd0, and has that name, too",
            "in resource drbd0: a configuration of DRBD 0.6 has no 'meta-disk'; 'meta-disk internal' is assumed, \
             which needs room at the end of the disk",
        ]
    );
    let drbd0 = loaded.config.resources[0]
        .for_host("node2")
        .expect("it resolves");
    assert_eq!(
        drbd0.handlers.local_io_error.as_deref(),
        Some("echo b > /proc/sysrq-trigger")
    );
    let disk = &drbd0.volumes[0].disk_options;
    assert_eq!(disk.on_io_error, OnIoError::CallLocalIoError);
    assert_eq!(disk.size_sectors, Some(10_317_828 * 2));
    assert_eq!(
        (
            disk.resync_rate_kib,
            disk.c_plan_ahead_ds,
            disk.c_min_rate_kib
        ),
        (100 * 1024, 0, 500)
    );
    assert_eq!(
        (
            drbd0.net.timeout_ds,
            drbd0.net.connect_int_s,
            drbd0.net.ping_int_s,
            drbd0.net.ko_count
        ),
        (60, 10, 10, 4)
    );
    assert_eq!(
        (drbd0.me.address.to_string(), drbd0.volumes[0].minor),
        ("10.0.0.2:7788".to_owned(), 0)
    );
    assert_eq!(
        (drbd0.net.protocol, &drbd0.volumes[0].meta),
        (Protocol::C, &MetaDisk::Internal)
    );
}

#[test]
fn e1_the_slides_are_no_configuration_but_what_they_mean_is() {
    let outside = message("bad/e1-hosts-outside.conf");
    assert!(
        outside.starts_with(
            "bad/e1-hosts-outside.conf:8: Parse error: 'global | common | resource | skip | include' expected,\n\t\
             but got 'on'\n"
        ),
        "{outside}"
    );
    assert!(
        outside.ends_with("hint: an 'on' section belongs into the braces of its resource"),
        "{outside}"
    );
    let placeholder = message("bad/e1-placeholder.conf");
    assert!(
        placeholder.contains("expected,\n\tbut got '...'"),
        "{placeholder}"
    );
    let drbd0 = resolved("old/e1-suse-intended.conf", "drbd0", "node1");
    assert_eq!(
        (
            drbd0.startup.wfc_timeout_s,
            drbd0.volumes[0].disk_options.size_sectors
        ),
        (0, Some(4_194_304 * 2))
    );
}

#[test]
fn a_configuration_of_0_7_is_translated() {
    let loaded = loaded("old/drbd-07.conf");
    let a = &loaded.config.resources[0];
    for host in &a.hosts {
        assert_eq!(
            host.volumes[0].meta,
            Some(MetaDisk::Indexed("/dev/hdb".into(), 2))
        );
        assert_eq!(host.address.as_ref().map(|a| a.port), Some(7788));
    }
    let texts: Vec<&str> = loaded.warnings.iter().map(|w| w.text.as_str()).collect();
    for expected in [
        "'disable-io-hints' is an old option and has no effect",
        "'on-io-error panic' is read as 'on-io-error call-local-io-error' with a handler that panics",
        "al-extents 5 is out of range, 67 is used",
        "'skip-sync' is an old option and has no effect",
        "in resource b: 'group 2' of DRBD 0.7 has no effect: resyncs of several resources run at the same time",
    ] {
        assert!(texts.contains(&expected), "{expected} is not in {texts:#?}");
    }
    loaded.config.resources[1]
        .for_host("alf")
        .expect("the order of resyncs is no reason to refuse it");
}
