//! Any text given to restore-md, and any file of the last known size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rdb_meta::tool::{Dump, LastKnown};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Ok(dump) = Dump::parse(text) {
        assert!(dump.bitmap.len() <= text.len());
    }
    if let Ok(last_known) = text.parse::<LastKnown>() {
        assert_eq!(last_known.to_string().parse(), Ok(last_known));
    }
});
