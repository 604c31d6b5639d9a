use proptest::prelude::*;

use super::*;

const SIZE: u64 = 8 * 1000;

fn volume(current: u64, runs: &[(u64, u64)]) -> SideVolume {
    let ranges = Blocks::from_runs(runs.iter().copied()).unwrap();
    SideVolume {
        volume: 0,
        minor: 3,
        role: Some(Role::Primary),
        disk: Some(DiskState::UpToDate),
        size_sectors: SIZE,
        identifiers: Some(Identifiers::of([current, 0xB000, 0, 0])),
        crashed_primary: false,
        since: Some(Instant(1_795_877_530_250)),
        parted: None,
        primary: vec![Primary {
            from: Some(Instant(1)),
            to: None,
            forced: true,
        }],
        marked: Some(MarkedBlocks::of(ranges)),
        log_blocks: 0,
        full_sync: false,
        seen_peer: None,
        files: None,
    }
}

fn side(node: &str, volume: SideVolume) -> Side {
    Side {
        format: FORMAT.to_owned(),
        version: VERSION,
        node: node.to_owned(),
        resource: "r0".to_owned(),
        at: Instant(1_795_877_530_250),
        source: Source::Daemon,
        connection: Some(ConnState::StandAlone),
        kept_by: KeptBy::Nothing,
        volumes: vec![volume],
        history: Vec::new(),
        history_trouble: None,
    }
}

fn text(side: &Side) -> String {
    serde_json::to_string(side).unwrap()
}

fn alice() -> Side {
    side("alice", volume(0xA001, &[(10, 4), (100, 2)]))
}

fn bob() -> Side {
    side("bob", volume(0xC001, &[(12, 8), (101, 1), (500, 1)]))
}

/// The names stand in commands that are meant for pasting.
#[test]
fn a_name_that_a_shell_would_take_for_more_is_refused() {
    for good in ["bob", "b-2.example.org", "B_0", &"x".repeat(255)] {
        let parsed = Side::parse(text(&side(good, volume(0xC001, &[]))).as_bytes());
        assert_eq!(parsed.map(|side| side.node), Ok(good.to_owned()));
    }
    let long = "x".repeat(256);
    for bad in [
        "",
        "$(touch x); rm -rf",
        "a b",
        "-oProxyCommand",
        "a\nb",
        "bj\u{f6}rn",
        "a'b",
        &long,
    ] {
        let mut of_node = side(bad, volume(0xC001, &[]));
        let error = Side::parse(text(&of_node).as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("the name of its node, \""), "{error}");
        assert!(error.len() < 600, "{error}");
        "bob".clone_into(&mut of_node.node);
        bad.clone_into(&mut of_node.resource);
        let error = Side::parse(text(&of_node).as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("the name of its resource, \""), "{error}");
    }
}

#[test]
fn a_document_survives_its_text_in_the_form_that_is_described() {
    let side = alice();
    let text = text(&side);
    assert_eq!(Side::parse(text.as_bytes()), Ok(side));
    for words in [
        "\"format\":\"rdb-split-brain\",\"version\":1,\"node\":\"alice\",\"resource\":\"r0\"",
        "\"source\":\"daemon\",\"connection\":\"StandAlone\",\"kept-by\":\"nothing\"",
        "\"role\":\"Primary\",\"disk\":\"UpToDate\",\"size-sectors\":8000",
        "\"identifiers\":{\"current\":\"000000000000A001\",\"bitmap\":\"000000000000B000\"",
        "\"marked\":{\"count\":6,\"ranges\":[[10,4],[100,2]],\"merged\":false}",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let mut down = alice();
    down.source = Source::Disk;
    (down.connection, down.volumes[0].role, down.volumes[0].disk) = (None, None, None);
    assert_eq!(Side::parse(self::text(&down).as_bytes()), Ok(down));
}

#[test]
fn two_documents_tell_what_both_have_written() {
    let (alice, bob) = (alice(), bob());
    let both = compare(&alice, &bob).unwrap();
    let volume = &both[0];
    assert_eq!(volume.relation, Relation::SplitBrain);
    assert!(volume.one_beginning && volume.exact);
    assert_eq!(volume.both_blocks, 3);
    assert_eq!(volume.both, Blocks::from_runs([(12, 2), (101, 1)]).unwrap());
    let two = serde_json::to_string(&Two::new(&alice, &bob, &both)).unwrap();
    assert!(
        two.contains("\"both-blocks\":3,\"exact\":true,\"both\":[[12,2],[101,1]]"),
        "{two}"
    );
    assert_eq!(Side::parse(two.as_bytes()), Err(BadDocument::Two));
}

#[test]
fn who_is_older_is_no_split_brain() {
    let ids = |slots| Some(Identifiers::of(slots));
    for (own, peer, relation) in [
        ([0xA1, 0, 0, 0], [0xA0, 0xB0, 0, 0], Relation::Same),
        ([0xA1, 0xC0, 0, 0], [0xC1, 0, 0, 0], Relation::PeerOlder),
        ([0xA1, 0xD0, 0xC0, 0], [0xC1, 0, 0, 0], Relation::PeerOlder),
        ([0xC1, 0, 0, 0], [0xA1, 0xC0, 0, 0], Relation::PeerNewer),
        ([0xA1, 0xC0, 0, 0], [0xB1, 0xC0, 0, 0], Relation::SplitBrain),
        (
            [0xA1, 0xC0, 0, 0],
            [0xB1, 0xD0, 0xC0, 0],
            Relation::SplitBrain,
        ),
    ] {
        let (mut alice, mut bob) = (alice(), bob());
        alice.volumes[0].identifiers = ids(own);
        bob.volumes[0].identifiers = ids(peer);
        let both = compare(&alice, &bob).unwrap();
        assert_eq!(both[0].relation, relation, "{own:x?} {peer:x?}");
        let one = own[1] != 0 && own[1] & !1 == peer[1] & !1;
        assert_eq!(both[0].one_beginning, one, "{own:x?} {peer:x?}");
    }
    let (mut alice, bob) = (self::alice(), self::bob());
    alice.volumes[0].identifiers = None;
    alice.volumes[0].marked = None;
    assert_eq!(
        compare(&alice, &bob).unwrap()[0].relation,
        Relation::Unknown
    );
}

#[test]
fn what_does_not_belong_together_is_refused_with_what_differs() {
    let refused = |change: fn(&mut Side)| {
        let mut bob = bob();
        change(&mut bob);
        compare(&alice(), &bob).unwrap_err().to_string()
    };
    for (change, words) in [
        (
            (|bob| bob.resource = "r1".to_owned()) as fn(&mut Side),
            "of resource r1, not of r0",
        ),
        (
            |bob| bob.node = "alice".to_owned(),
            "of node alice, which is this one",
        ),
        (|bob| bob.volumes.clear(), "it has no volume 0"),
        (
            |bob| bob.volumes[0].size_sectors = 9000,
            "9000 sectors there and 8000 here",
        ),
        (
            |bob| bob.volumes[0].identifiers = Some(Identifiers::of([0xE0, 0xE2, 4, 0])),
            "no generation is known to both",
        ),
    ] {
        let text = refused(change);
        assert!(text.contains(words), "{text}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a mistake")]
fn what_cannot_be_is_refused_with_the_place() {
    let good = text(&alice());
    for (from, to, words) in [
        (
            "\"rdb-split-brain\"",
            "\"rdb-other\"",
            "its 'format' is not rdb-split-brain",
        ),
        (
            "\"version\":1",
            "\"version\":2",
            "it is version 2 of the format",
        ),
        ("\"version\":1", "\"version\":-1", "-1"),
        (
            "\"node\":\"alice\"",
            "\"node\":\"a\\u001bb\"",
            "the name of its node",
        ),
        (
            "\"node\":\"alice\"",
            "\"node\":\"\"",
            "the name of its node",
        ),
        (
            "\"resource\":\"r0\"",
            "\"extra\":1",
            "unknown field `extra`",
        ),
        ("\"volume\":0", "\"volume\":70000", "70000"),
        (
            "\"role\":\"Primary\"",
            "\"role\":\"King\"",
            "no role has this name",
        ),
        (
            "000000000000A001",
            "A001",
            "'A001' is not 16 hexadecimal digits",
        ),
        (
            "\"size-sectors\":8000",
            "\"size-sectors\":2199023255553",
            "more than any device has",
        ),
        (
            "\"size-sectors\":8000",
            "\"size-sectors\":800",
            "a range ends at block 102, and it has 100 blocks",
        ),
        (
            "[100,2]",
            "[13,2]",
            "the range at block 13 does not come behind",
        ),
        ("[100,2]", "[100,0]", "the range at block 100 is empty"),
        (
            "[100,2]",
            "[18446744073709551615,9]",
            "beyond the largest device",
        ),
        (
            "\"count\":6",
            "\"count\":7",
            "it says 7 blocks, and its ranges have 6",
        ),
        (
            "\"count\":6",
            "\"count\":5",
            "it says 5 blocks, and its ranges have 6",
        ),
        (
            "\"log-blocks\":0",
            "\"log-blocks\":7",
            "more blocks for its activity log",
        ),
        ("\"at\":\"2026", "\"at\":\"x026", "is no time like"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let error = Side::parse(text.as_bytes()).expect_err(to).to_string();
        assert!(error.contains(words), "{to}: {error}");
        assert!(error.len() < 500, "{error}");
    }
    let mut twice = alice();
    twice.volumes.push(twice.volumes[0].clone());
    let error = Side::parse(text(&twice).as_bytes())
        .unwrap_err()
        .to_string();
    assert!(error.contains("ascending order"), "{error}");
    for end in 0..good.len() {
        assert!(Side::parse(&good.as_bytes()[..end]).is_err(), "{end}");
    }
    assert_eq!(
        Side::parse(&vec![b' '; DOCUMENT_MAX + 1]),
        Err(BadDocument::Long)
    );
    let deep = "[".repeat(1 << 20);
    assert!(Side::parse(deep.as_bytes()).is_err());
    let name = good.replacen("alice", &"x".repeat(1 << 20), 1);
    assert!(Side::parse(name.as_bytes()).unwrap_err().to_string().len() < 500);
}

/// JSON values of all kinds, numbers at the edges among them.
fn any_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![
            any::<u64>(),
            Just(0),
            Just(u64::MAX),
            Just(1 << 38),
            Just((1 << 41) + 1)
        ]
        .prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z-]{1,12}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Puts a value in the place of one of a document, which `at` chooses.
fn put(into: &mut serde_json::Value, at: &[usize], value: &serde_json::Value) {
    use serde_json::Value;
    let (Some(first), rest) = (at.first(), at.get(1..).unwrap_or_default()) else {
        *into = value.clone();
        return;
    };
    match into {
        Value::Array(items) if !items.is_empty() => {
            let index = first % items.len();
            put(&mut items[index], rest, value);
        }
        Value::Object(members) if !members.is_empty() => {
            let index = first % members.len();
            let inner = members.values_mut().nth(index).expect("there are so many");
            put(inner, rest, value);
        }
        other => *other = value.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is read is either refused, or can be compared and printed.
    #[test]
    fn no_document_panics(at in prop::collection::vec(0..40_usize, 1..6), value in any_value()) {
        let mut bob = bob();
        bob.volumes[0].files = Some(Files {
            entries: vec![FileEntry { path: "/etc/motd".to_owned(), blocks: 1, both: None }],
            ..Files::default()
        });
        let mut document = serde_json::to_value(&bob).unwrap();
        put(&mut document, &at, &value);
        if let Ok(side) = Side::parse(document.to_string().as_bytes()) {
            let alice = alice();
            if let Ok(both) = compare(&alice, &side) {
                for volume in &both {
                    prop_assert!(volume.both_blocks <= 6);
                }
                serde_json::to_string(&Two::new(&alice, &side, &both)).unwrap();
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), flip in any::<(usize, u8)>()) {
        let _ = Side::parse(&bytes);
        let mut text = text(&bob()).into_bytes();
        let at = flip.0 % text.len();
        text[at] ^= flip.1;
        if let Ok(side) = Side::parse(&text) {
            let _ = compare(&alice(), &side);
        }
    }
}
