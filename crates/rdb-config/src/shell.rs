//! Words of a shell's command line: what is printed to be typed must mean what it says, whatever a name has in it.

/// A word as `sh` reads it as one: as it is if nothing in it means something to a shell, otherwise between single quotes.
pub fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_every_word_as_it_was() {
        for word in [
            "r0",
            "/dev/vg/data",
            "",
            "a b",
            "a;reboot",
            "$(reboot)",
            "`reboot`",
            "it's",
            "\"",
            "a\\b",
            "*",
            "~",
            "#x",
            "a\nb",
            "-rf",
            "ü",
        ] {
            let script = format!("printf %s {}", shell_word(word));
            let script = match word {
                "-rf" => format!("printf %s -- {}", shell_word(word)).replace("%s --", "-- %s"),
                _ => script,
            };
            let said = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), word, "{script}");
        }
        assert_eq!(shell_word("r0"), "r0");
        assert_eq!(shell_word("a b"), "'a b'");
    }
}
