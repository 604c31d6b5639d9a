//! `split-brain`: what was written apart, before anybody's writes are given up (`docs/split-brain.md`).
//!
//! `gather` asks the daemon, or the disks of a resource that is down; `files` finds whose the marked blocks are; `text` says it, and `commands` what to type.

mod commands;
pub(crate) mod discard;
pub(crate) mod files;
pub(crate) mod gather;
mod mounts;
pub(crate) mod text;

/// How an amount of blocks of 4 KiB reads.
pub(crate) fn amount(blocks: u64) -> String {
    const KIB: u64 = 4;
    let kib = blocks.saturating_mul(KIB);
    let plural = if blocks == 1 { "" } else { "s" };
    format!("{blocks} block{plural} of 4 KiB = {}", size(kib))
}

/// A size of so many KiB, to three digits or so.
pub(crate) fn size(kib: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (kib as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let whole = value.fract() == 0.0 || value >= 100.0;
    match whole {
        true => format!("{value:.0} {}", UNITS[unit]),
        false => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_say_them() {
        for (blocks, text) in [
            (0, "0 blocks of 4 KiB = 0 KiB"),
            (1, "1 block of 4 KiB = 4 KiB"),
            (250, "250 blocks of 4 KiB = 1000 KiB"),
            (384, "384 blocks of 4 KiB = 1.5 MiB"),
            (1 << 28, "268435456 blocks of 4 KiB = 1 TiB"),
        ] {
            assert_eq!(amount(blocks), text);
        }
        assert!(amount(u64::MAX).starts_with("18446744073709551615 blocks of 4 KiB = "));
    }
}
