//! `rdbmeta`: the metadata of one disk (`docs/spec/admin.md`, section 4.11).

use std::path::PathBuf;

use rdb_control::MetaDisk;

use crate::exec::Executor;
use crate::out;
use crate::step::{Action, Family, MetaCommand, MetaStep, Step, Tool};

/// What can be typed, and the commands.
fn usage(program: &str) -> String {
    let mut usage = format!(
        "USAGE: {program} [--force] {{N|/dev/drbdN|-}} v08 DEVICE {{internal|flex-external|INDEX}} COMMAND\n\nCommands:\n"
    );
    for command in MetaCommand::all(false) {
        if command == MetaCommand::GiJson {
            usage += "  show-gi --json\n";
            continue;
        }
        let force = command.force().map_or("", |_| " [--force]");
        let operand = command.operand().map(|word| format!(" {word}"));
        let operand = operand.unwrap_or_default();
        usage += &format!("  {}{force}{operand}\n", command.name());
    }
    usage
}

/// Runs `rdbmeta` with the words after its name; the result is the exit status.
pub(crate) fn main(program: &str, family: Family, words: Vec<String>) -> u8 {
    if words.iter().any(|word| word == "--version" || word == "-V") {
        out::line(&format!("{program} {}", env!("CARGO_PKG_VERSION")));
        return 0;
    }
    let meta = match parse(&words) {
        Ok(meta) => meta,
        Err(message) => {
            if let Some(message) = message {
                out::error(&format!("{program}: {message}"));
            }
            out::error(&usage(program));
            return 1;
        }
    };
    let mut executor = Executor::new(program.to_owned(), family, crate::default_run_dir());
    executor.is_setup = true;
    executor.run(&Step {
        resource: String::new(),
        tool: Tool::Meta,
        argv: meta.argv(),
        object: meta
            .minor
            .map_or_else(|| "-".to_owned(), |minor| minor.to_string()),
        action: Action::Meta(meta),
    })
}

/// Reads the words; what is wrong with them, or nothing if there are too few to say.
fn parse(words: &[String]) -> Result<MetaStep, Option<String>> {
    let (mut force, mut json) = (false, false);
    let mut plain = Vec::new();
    for word in words {
        match word.as_str() {
            "--force" | "-f" => force = true,
            "--json" => json = true,
            "-" => plain.push(word.as_str()),
            _ if word.starts_with('-') => {
                return Err(Some(format!("unrecognized option '{word}'")));
            }
            _ => plain.push(word.as_str()),
        }
    }
    let (device, version, path, index, command, operand) = match plain[..] {
        [device, version, path, index, command] => (device, version, path, index, command, None),
        [device, version, path, index, command, word] => {
            (device, version, path, index, command, Some(word.to_owned()))
        }
        _ => return Err(None),
    };
    let digits = device
        .strip_prefix("minor-")
        .or_else(|| device.strip_prefix("/dev/drbd"));
    let minor = match device {
        "-" => None,
        _ => Some(
            digits
                .unwrap_or(device)
                .parse()
                .map_err(|_| Some(format!("'{device}' is not a minor number")))?,
        ),
    };
    if version != "v08" {
        return Err(Some(format!("'{version}' is not served: only v08")));
    }
    let data = PathBuf::from(path);
    let meta = match index {
        "internal" | "flex-internal" => MetaDisk::Internal,
        "flex-external" | "flexible" => MetaDisk::Flexible(data.clone()),
        number => MetaDisk::Indexed(
            data.clone(),
            number.parse().map_err(|_| {
                Some(format!(
                    "'{number}' is not internal, flex-external or an index"
                ))
            })?,
        ),
    };
    let known = MetaCommand::all(force);
    let found = known.into_iter().find(|known| known.name() == command);
    let command = found.ok_or_else(|| Some(format!("Unknown command '{command}'")))?;
    let command = match (command, json) {
        (MetaCommand::ShowGi, true) => MetaCommand::GiJson,
        (_, false) => command,
        (_, true) => {
            return Err(Some(format!(
                "{}: unrecognized option '--json'",
                command.name()
            )));
        }
    };
    match (command.operand(), &operand) {
        (Some(wanted), None) => {
            return Err(Some(format!("{}: {wanted} is missing", command.name())));
        }
        (None, Some(word)) => {
            let name = command.name();
            return Err(Some(format!("{name}: '{word}' is one word too many")));
        }
        _ => {}
    }
    Ok(MetaStep {
        minor,
        data,
        meta,
        command,
        operand,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_says_is_what_is_understood() {
        for meta in [
            MetaDisk::Internal,
            MetaDisk::Flexible("/dev/sdm".into()),
            MetaDisk::Indexed("/dev/sdm".into(), 7),
        ] {
            let data = if meta == MetaDisk::Internal {
                "/dev/sda8"
            } else {
                "/dev/sdm"
            };
            for command in [true, false].into_iter().flat_map(MetaCommand::all) {
                let step = MetaStep {
                    minor: Some(1),
                    data: data.into(),
                    meta: meta.clone(),
                    command,
                    operand: command.operand().map(|_| "A:B::1".to_owned()),
                };
                assert_eq!(parse(&step.argv()), Ok(step));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, message) in [
            ("", None),
            ("0 v08 /dev/a internal", None),
            (
                "x v08 /dev/a internal dump-md",
                Some("'x' is not a minor number"),
            ),
            (
                "0 v09 /dev/a internal dump-md",
                Some("'v09' is not served: only v08"),
            ),
            (
                "0 v08 /dev/a middle dump-md",
                Some("'middle' is not internal, flex-external or an index"),
            ),
            (
                "0 v08 /dev/a internal explode",
                Some("Unknown command 'explode'"),
            ),
            (
                "0 v08 /dev/a internal restore-md",
                Some("restore-md: FILE is missing"),
            ),
            (
                "0 v08 /dev/a internal --hard",
                Some("unrecognized option '--hard'"),
            ),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(parse(&words), Err(message.map(str::to_owned)), "{line}");
        }
    }
}
