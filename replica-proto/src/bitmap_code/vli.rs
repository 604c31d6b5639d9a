//! The code of one run length: docs/spec/wire.md, section 9.5.
//!
//! | level | prefix value | prefix bits | data bits | smallest run |
//! |------:|-------------:|------------:|----------:|-------------:|
//! |     1 |       `0x00` |           1 |         1 |            1 |
//! |     2 |       `0x01` |           2 |         1 |            3 |
//! |     3 |       `0x03` |           3 |         2 |            5 |
//! |     4 |       `0x07` |           4 |         3 |            9 |
//! |     5 |       `0x0f` |           5 |         5 |           17 |
//! |     6 |       `0x1f` |           6 |         8 |           49 |
//! |     7 |       `0x3f` |           8 |        13 |          305 |
//! |     8 |       `0x7f` |           8 |        21 |         8497 |
//! |     9 |       `0xbf` |           8 |        34 |      2105649 |
//! |    10 |       `0xff` |           8 |        56 |  17181974833 |
//!
//! A code word is `(run - smallest) << prefix bits | prefix value`, sent least significant bit first.

struct Level {
    prefix: u64,
    prefix_bits: u32,
    data_bits: u32,
    smallest: u64,
}

impl Level {
    const fn total_bits(&self) -> u32 {
        self.prefix_bits + self.data_bits
    }
}

/// (prefix value, prefix bits, data bits) of each level; the smallest runs follow from them.
const SHAPES: [(u64, u32, u32); 10] = [
    (0x00, 1, 1),
    (0x01, 2, 1),
    (0x03, 3, 2),
    (0x07, 4, 3),
    (0x0f, 5, 5),
    (0x1f, 6, 8),
    (0x3f, 8, 13),
    (0x7f, 8, 21),
    (0xbf, 8, 34),
    (0xff, 8, 56),
];

const LEVELS: [Level; 10] = {
    let mut levels = [const {
        Level {
            prefix: 0,
            prefix_bits: 0,
            data_bits: 0,
            smallest: 0,
        }
    }; SHAPES.len()];
    let (mut i, mut smallest) = (0, 1);
    while i < SHAPES.len() {
        let (prefix, prefix_bits, data_bits) = SHAPES[i];
        levels[i] = Level {
            prefix,
            prefix_bits,
            data_bits,
            smallest,
        };
        smallest += 1 << data_bits;
        i += 1;
    }
    levels
};

/// The longest run that has a code.
pub const VLI_RUN_MAX: u64 = LEVELS[9].smallest + (1 << 56) - 1;
const _: () = assert!(VLI_RUN_MAX == 72_057_611_219_902_768);
const _: () = assert!(LEVELS[9].smallest == 17_181_974_833 && LEVELS[7].smallest == 8497);

/// Bits of the longest code word.
pub const VLI_CODE_BITS_MAX: u32 = LEVELS[9].total_bits();
const _: () = assert!(VLI_CODE_BITS_MAX == 64);

/// The code word of a run and its number of bits, the first one the least significant. `None` for runs of 0 or of
/// more than [`VLI_RUN_MAX`] bits, which have none.
#[must_use]
pub fn vli_encode(run: u64) -> Option<(u64, u32)> {
    if run == 0 || run > VLI_RUN_MAX {
        return None;
    }
    let level = LEVELS.iter().rev().find(|level| run >= level.smallest)?;
    Some((
        (run - level.smallest) << level.prefix_bits | level.prefix,
        level.total_bits(),
    ))
}

/// The run at the start of `bits`, of which `valid` are there and the others are zero, and the number of bits that
/// it took. `None` if the code word is cut off.
#[must_use]
pub fn vli_decode(bits: u64, valid: u32) -> Option<(u64, u32)> {
    let level = LEVELS.iter().find(|level| {
        let prefix_mask = (1 << level.prefix_bits) - 1;
        bits & prefix_mask == level.prefix
    })?;
    if level.total_bits() > valid {
        return None;
    }
    let data = bits >> level.prefix_bits & ((1 << level.data_bits) - 1);
    Some((level.smallest + data, level.total_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// (prefix in stream order, data bits, smallest run, largest run), as printed in the spec.
    const TABLE: [(&str, u32, u64, u64); 10] = [
        ("0", 1, 1, 2),
        ("10", 1, 3, 4),
        ("110", 2, 5, 8),
        ("1110", 3, 9, 16),
        ("11110", 5, 17, 48),
        ("111110", 8, 49, 304),
        ("11111100", 13, 305, 8496),
        ("11111110", 21, 8497, 2_105_648),
        ("11111101", 34, 2_105_649, 17_181_974_832),
        ("11111111", 56, 17_181_974_833, 72_057_611_219_902_768),
    ];

    /// A run's code bits, first bit left, made from the printed table alone.
    fn reference(run: u64) -> Option<String> {
        let (prefix, data_bits, smallest, _) = TABLE
            .iter()
            .find(|(_, _, smallest, largest)| (*smallest..=*largest).contains(&run))?;
        let data = run - smallest;
        let mut stream = String::from(*prefix);
        stream.extend((0..*data_bits).map(|i| if data >> i & 1 == 1 { '1' } else { '0' }));
        Some(stream)
    }

    fn stream((code, bits): (u64, u32)) -> String {
        (0..bits)
            .map(|i| if code >> i & 1 == 1 { '1' } else { '0' })
            .collect()
    }

    #[test]
    fn worked_example_of_the_spec() {
        for (run, bits, code, code_bits) in [
            (5, "11000", 0x3, 5),
            (3, "100", 0x1, 3),
            (1, "00", 0x0, 2),
            (2, "01", 0x2, 2),
            (16373, "11111110001000110111100000000", 0x1e_c47f, 29),
        ] {
            assert_eq!(vli_encode(run), Some((code, code_bits)), "{run}");
            assert_eq!(stream((code, code_bits)), bits);
            assert_eq!(vli_decode(code, code_bits), Some((run, code_bits)));
        }
    }

    #[test]
    fn ends_of_all_levels_agree_with_the_printed_table() {
        let runs: Vec<u64> = TABLE
            .iter()
            .flat_map(|(_, _, smallest, largest)| [*smallest, *largest])
            .collect();
        for run in runs.iter().copied().chain(1..20_000) {
            let code = vli_encode(run).unwrap();
            assert_eq!(Some(stream(code)), reference(run), "{run}");
            assert_eq!(vli_decode(code.0, code.1), Some((run, code.1)));
        }
    }

    #[test]
    fn runs_without_a_code() {
        for run in [0, VLI_RUN_MAX + 1, u64::MAX] {
            assert_eq!(vli_encode(run), None);
            assert_eq!(reference(run), None);
        }
    }

    proptest! {
        #[test]
        fn any_run_agrees_with_the_printed_table(run in 1..=VLI_RUN_MAX, shift in 0u32..56) {
            let run = (run >> shift).max(1);
            let (code, bits) = vli_encode(run).unwrap();
            prop_assert_eq!(Some(stream((code, bits))), reference(run));
            prop_assert_eq!(vli_decode(code, bits), Some((run, bits)));
            // What follows the code word does not matter; a missing bit does.
            let followed = code | u64::MAX.checked_shl(bits).unwrap_or(0);
            prop_assert_eq!(vli_decode(followed, 64), Some((run, bits)));
            prop_assert_eq!(vli_decode(code & ((1 << (bits - 1)) - 1), bits - 1).filter(|(_, b)| *b == bits), None);
        }

        #[test]
        fn any_bits_decode_to_a_run_that_encodes_to_them(bits in any::<u64>()) {
            let (run, used) = vli_decode(bits, 64).unwrap();
            let (code, code_bits) = vli_encode(run).unwrap();
            prop_assert_eq!(code_bits, used);
            prop_assert_eq!(code, if used == 64 { bits } else { bits & ((1 << used) - 1) });
        }
    }
}
