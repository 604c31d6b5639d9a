//! Values: numbers with suffixes, words, lengths. `docs/spec/admin.md`, sections 1.3 and 2.

use crate::error::Problem;
use crate::options::{OptionDef, Served, Type, Unit};

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(i64),
    Bool(bool),
    Text(String),
}

/// The options whose numbers DRBD does not check but the driver forces into their range.
pub(crate) fn is_clamped(def: &OptionDef) -> bool {
    def.name == "al-extents"
}

/// Checks the text of an option against its type and range.
pub(crate) fn check(def: &OptionDef, text: &str) -> Result<Value, Problem> {
    match def.ty {
        Type::Number { min, max, unit, .. } => {
            let value = number(def.name, text, unit)?;
            let clamped = if is_clamped(def) && value >= 0 {
                value.clamp(min.into(), max.into())
            } else {
                value
            };
            match i64::try_from(clamped) {
                Ok(number) if (min..=max).contains(&number) => Ok(Value::Number(number)),
                _ => Err(Problem::Range {
                    name: def.name.to_owned(),
                    given: text.to_owned(),
                    value,
                    min,
                    max,
                    unit: unit.letter(),
                }),
            }
        }
        Type::Bool { .. } => match text {
            "" | "yes" => Ok(Value::Bool(true)),
            "no" => Ok(Value::Bool(false)),
            other => Err(Problem::Expected {
                expected: "yes | no | ;".to_owned(),
                got: other.to_owned(),
            }),
        },
        Type::Words { .. } if def.name == "protocol" => {
            let upper = text.to_ascii_uppercase();
            if ["A", "B", "C"].contains(&upper.as_str()) {
                Ok(Value::Text(upper))
            } else {
                Err(Problem::Protocol {
                    value: text.to_owned(),
                })
            }
        }
        Type::Words { words, .. } => {
            // A victim by name: which of the two words it is depends on the host.
            let by_host = def.name == "after-sb-0pri"
                && text
                    .strip_prefix("discard-node-")
                    .is_some_and(|h| !h.is_empty());
            if words.contains(&text) || by_host || is_word_of_9(def, text) {
                Ok(Value::Text(text.to_owned()))
            } else {
                Err(Problem::Value {
                    name: def.name.to_owned(),
                    value: text.to_owned(),
                    allowed: words.join(" | "),
                })
            }
        }
        Type::Text { max_len } => {
            if text.len() > max_len {
                return Err(Problem::TooLong {
                    name: def.name.to_owned(),
                    len: text.len(),
                    max: max_len,
                });
            }
            if def.name == "cpu-mask" && !text.chars().all(|c| c.is_ascii_hexdigit() || c == ',') {
                return Err(Problem::Value {
                    name: def.name.to_owned(),
                    value: text.to_owned(),
                    allowed: "hexadecimal digits and commas".to_owned(),
                });
            }
            Ok(Value::Text(text.to_owned()))
        }
        Type::Hosts | Type::ResourceRef | Type::Words9 => Ok(Value::Text(text.to_owned())),
    }
}

/// The words of `rr-conflict` that DRBD 9 has added: to go on by itself after a conflict.
fn is_word_of_9(def: &OptionDef, text: &str) -> bool {
    def.name == "rr-conflict" && matches!(text, "retry-connect" | "auto-discard")
}

/// A number with a unit in more letters than one, as it must be written: `33MB` is `33M`.
pub(crate) fn with_plain_suffix(text: &str) -> Option<String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let letter = unit.chars().next().filter(|c| "skmgSKMG".contains(*c))?;
    let rest = &unit[1..];
    let is_unit = matches!(
        rest.to_ascii_lowercase().as_str(),
        "b" | "ib" | "b/s" | "ib/s" | "/s"
    );
    (digits > 0 && is_unit).then(|| format!("{number}{letter}"))
}

/// What the options of DRBD 9 that rdb does not have are set to when they change nothing.
const DEFAULTS_OF_9: [(&str, &str); 6] = [
    ("transport", "tcp"),
    ("tls", "no"),
    ("quorum", "off"),
    ("bitmap", "yes"),
    ("bitmap", ""),
    ("block-size", "512"),
];

/// What an option has when it is not set.
pub(crate) fn default(def: &OptionDef) -> Value {
    match def.ty {
        Type::Number { default, .. } => Value::Number(default),
        Type::Bool { default } => Value::Bool(default),
        Type::Words { default, .. } => Value::Text(default.to_owned()),
        Type::ResourceRef => Value::Text("-1".to_owned()),
        Type::Text { .. } | Type::Hosts | Type::Words9 => Value::Text(String::new()),
    }
}

/// Whether a checked value is the option's default.
pub(crate) fn is_default(def: &OptionDef, value: &Value) -> bool {
    match (def.ty, value) {
        (Type::Words9, Value::Text(t)) => DEFAULTS_OF_9.contains(&(def.name, t.as_str())),
        _ => *value == default(def),
    }
}

/// Why rdb does not run with an option as it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The option's name, with its value where other values are served.
    pub what: String,
    /// Why, or nothing.
    pub reason: &'static str,
}

impl OptionDef {
    /// Whether rdb does not run with this value, as it was checked.
    #[must_use]
    pub fn refused(&self, value: &str) -> Option<Refused> {
        let refused = |what: String, reason| Some(Refused { what, reason });
        match self.served {
            Served::Refused(reason) => {
                let is_default = check(self, value).is_ok_and(|v| is_default(self, &v));
                (!is_default).then(|| refused(self.name.to_owned(), reason))?
            }
            Served::Served | Served::Harmless(_) | Served::ServedBut(_) => None,
        }
    }
}

/// A number in an option's own unit: digits and maybe one of the suffixes s, k, m, g. Rounds up when scaling down.
pub(crate) fn number(name: &str, text: &str, unit: Unit) -> Result<i128, Problem> {
    let invalid = || Problem::NotANumber {
        name: name.to_owned(),
        value: text.to_owned(),
    };
    // DRBD's tools read it as a number, too, and then say that it is out of range.
    if let Some(digits) = text.strip_prefix('-')
        && is_digits(digits)
    {
        return Ok(-i128::from(saturating(digits)));
    }
    let (digits, factor): (&str, Option<u128>) = match text.as_bytes().last() {
        Some(b's' | b'S') => (&text[..text.len() - 1], Some(512)),
        Some(b'k' | b'K') => (&text[..text.len() - 1], Some(1 << 10)),
        Some(b'm' | b'M') => (&text[..text.len() - 1], Some(1 << 20)),
        Some(b'g' | b'G') => (&text[..text.len() - 1], Some(1 << 30)),
        _ => (text, None),
    };
    if !is_digits(digits) {
        return Err(invalid());
    }
    // The product with the greatest suffix fits.
    let value = u128::from(saturating(digits));
    let scaled = factor.map_or(value, |factor| (value * factor).div_ceil(unit.scale()));
    i128::try_from(scaled).map_err(|_| invalid())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A number of any length; what has more than 64 bits is the greatest that has not, which is beyond the range of every option.
fn saturating(digits: &str) -> u64 {
    digits.parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Section;
    use crate::options::{all, find};

    #[test]
    fn suffixes_scale_to_the_options_unit_and_round_up() {
        for (text, unit, expected) in [
            ("33M", Unit::KibPerSecond, 33 * 1024),
            ("75K", Unit::KibPerSecond, 75),
            ("250", Unit::KibPerSecond, 250),
            ("5s", Unit::KibPerSecond, 3),
            ("1S", Unit::KibPerSecond, 1),
            ("10G", Unit::Sectors, 10 << 21),
            ("7s", Unit::Sectors, 7),
            ("8k", Unit::Count, 8192),
            ("512k", Unit::Bytes, 524_288),
            ("123456789012", Unit::Sectors, 123_456_789_012),
            ("-1", Unit::Count, -1),
        ] {
            assert_eq!(number("x", text, unit), Ok(expected), "{text}");
        }
        for text in ["10MB", "1.5M", "M", "", "-", "-1k", "0x10", "1 0"] {
            let message = number("x", text, Unit::Count).expect_err(text).to_string();
            assert_eq!(message, format!("{text} is not a valid number"));
        }
    }

    #[test]
    fn every_range_holds_at_its_edges() {
        for def in all() {
            let Type::Number {
                min, default, max, ..
            } = def.ty
            else {
                continue;
            };
            assert!((min..=max).contains(&default), "{}", def.name);
            for inside in [min, default, max] {
                assert_eq!(
                    check(def, &inside.to_string()),
                    Ok(Value::Number(inside)),
                    "{} {inside}",
                    def.name
                );
            }
            if is_clamped(def) {
                assert_eq!(check(def, "1"), Ok(Value::Number(min)));
                assert_eq!(check(def, "999999"), Ok(Value::Number(max)));
                continue;
            }
            let above = check(def, &(max + 1).to_string());
            assert!(
                matches!(above, Err(Problem::Range { .. })),
                "{} {above:?}",
                def.name
            );
            if min > 0 {
                let below = check(def, &(min - 1).to_string());
                assert!(
                    matches!(below, Err(Problem::Range { .. })),
                    "{} {below:?}",
                    def.name
                );
            }
        }
    }

    #[test]
    fn units_in_more_letters_than_one_are_told_how_to_be_written() {
        for (text, plain) in [
            ("33MB", Some("33M")),
            ("33MiB/s", Some("33M")),
            ("8kb", Some("8k")),
            ("33M", None),
            ("MB", None),
            ("33 MB", None),
            ("33Mx", None),
            ("3µB", None),
        ] {
            assert_eq!(with_plain_suffix(text).as_deref(), plain, "{text}");
        }
    }

    #[test]
    fn names_are_unique_in_their_section() {
        for def in all() {
            assert_eq!(find(def.section, def.name), Some(def), "{}", def.name);
            if let Type::Words { words, default } = def.ty {
                assert!(words.contains(&default), "{}", def.name);
            }
        }
    }

    #[test]
    fn range_messages_are_drbds() {
        for (section, name, text, message) in [
            (
                Section::Net,
                "timeout",
                "6000",
                "timeout 6000 => 6000 out of range [1..600].",
            ),
            (
                Section::Disk,
                "resync-rate",
                "100G",
                "resync-rate 100G => 104857600k out of range [1..4194304]k.",
            ),
            (
                Section::Disk,
                "c-fill-target",
                "1G",
                "c-fill-target 1G => 2097152s out of range [0..1048576]s.",
            ),
            (
                Section::Net,
                "sndbuf-size",
                "100G",
                "sndbuf-size 100G => 107374182400 out of range [0..10485760].",
            ),
            (
                Section::Net,
                "connect-int",
                "10s",
                "connect-int 10s => 5120 out of range [1..120].",
            ),
            // As many digits as there may be.
            (
                Section::Net,
                "timeout",
                "999999999999999999999",
                "timeout 999999999999999999999 => 18446744073709551615 out of range [1..600].",
            ),
            (
                Section::Net,
                "timeout",
                "-999999999999999999999",
                "timeout -999999999999999999999 => -18446744073709551615 out of range [1..600].",
            ),
            (
                Section::Disk,
                "resync-rate",
                "999999999999999999999G",
                "resync-rate 999999999999999999999G => 19342813113834066794250240k out of range [1..4194304]k.",
            ),
        ] {
            let def = find(section, name).expect(name);
            assert_eq!(check(def, text).expect_err(name).to_string(), message);
        }
    }
}
