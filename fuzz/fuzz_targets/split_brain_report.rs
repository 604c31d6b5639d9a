//! Any bytes given to `rdbadm split-brain --with-peer`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rdb_control::split_brain::{Side, Two, compare};

/// This node's own report, as `rdbadm split-brain --json` prints it.
const OWN: &str = include_str!("../seeds/split_brain_report/alice.json");

static ALICE: LazyLock<Side> = LazyLock::new(|| Side::parse(OWN.as_bytes()).expect("our own"));

fuzz_target!(|data: &[u8]| {
    let Ok(peer) = Side::parse(data) else { return };
    let text = serde_json::to_vec(&peer).expect("what is read can be printed");
    assert_eq!(Side::parse(&text).as_ref(), Ok(&peer));
    if let Ok(both) = compare(&ALICE, &peer) {
        serde_json::to_vec(&Two::new(&ALICE, &peer, &both)).expect("it can be printed");
    }
});
