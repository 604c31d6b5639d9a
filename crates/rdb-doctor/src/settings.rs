//! The keys of `rdbd.toml` that checks go by. What is wrong with the file the daemon says (`rdbd --check`); here it is named.

use serde::Deserialize;

use crate::machine::Machine;

/// Where the daemon's settings are when nothing else is said.
const DEFAULT_PATH: &str = "/etc/rdb/rdbd.toml";

/// Some keys of `rdbd.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// Which front end serves devices; `auto` if nothing is said.
    pub frontend: Option<String>,
    /// What is left of a daemon that crashes: `none`, `without-data` or `whole`.
    pub core_dumps: Option<String>,
    /// Seconds that a handler may take; 0 is for ever.
    pub handler_timeout: Option<u32>,
}

impl Settings {
    /// Those of a file's text.
    ///
    /// # Errors
    /// In words, if it cannot be understood.
    pub fn parse(text: &str) -> Result<Settings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    /// Those of the daemon with this process, as its command line and environment say, or of one that is started with neither; and
    /// what is wrong with the file.
    pub fn of_daemon(machine: &Machine<'_>, pid: Option<u32>) -> (Settings, Option<String>) {
        let words = pid.map_or_else(Vec::new, |pid| machine.arguments(pid));
        let variables = pid.map_or_else(Vec::new, |pid| machine.environment(pid));
        let path = value_of(&words, "--config");
        let named = path.is_some();
        let path = path.unwrap_or_else(|| DEFAULT_PATH.to_owned());
        let (mut settings, fault) = match machine.text(&path) {
            Ok(text) => match Settings::parse(&text) {
                Ok(settings) => (settings, None),
                Err(error) => (Settings::default(), Some(format!("{path}: {error}"))),
            },
            Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => {
                (Settings::default(), None)
            }
            Err(error) => (Settings::default(), Some(format!("{path}: {error}"))),
        };
        let variable = variables
            .iter()
            .find_map(|variable| variable.strip_prefix("RDB_FRONTEND="))
            .filter(|value| !value.is_empty());
        let given = value_of(&words, "--frontend").or_else(|| variable.map(str::to_owned));
        settings.frontend = given.or(settings.frontend);
        (settings, fault)
    }
}

/// The value of an option among words, `--name VALUE` or `--name=VALUE`.
fn value_of(words: &[String], name: &str) -> Option<String> {
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == name {
            return rest.next().cloned();
        }
        if let Some(value) = word
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('='))
        {
            return Some(value.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::MadeUp;

    #[test]
    fn the_keys_of_others_are_passed_over() {
        let text = "frontend = \"nbd\"\nlog-level = \"debug\"\nhandler-timeout = 5\n[compat]\nproc-drbd = true\n";
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.frontend.as_deref(), Some("nbd"));
        assert_eq!(settings.handler_timeout, Some(5));
        assert!(Settings::parse("frontend = ").is_err());
    }

    #[test]
    fn the_daemons_command_line_goes_before_its_file() {
        let machine = MadeUp::new();
        let seen = |pid| Settings::of_daemon(&machine.machine(), pid);
        assert_eq!(seen(None), (Settings::default(), None));
        machine.file("/etc/rdb/rdbd.toml", "frontend = \"fuse\"\n");
        assert_eq!(seen(None).0.frontend.as_deref(), Some("fuse"));
        machine.file("/proc/7/environ", "A=b\0RDB_FRONTEND=nbd\0");
        assert_eq!(seen(Some(7)).0.frontend.as_deref(), Some("nbd"));
        machine.file(
            "/proc/7/cmdline",
            "rdbd\0--frontend\0socket\0--config=/x.toml\0",
        );
        let (settings, fault) = seen(Some(7));
        assert_eq!(settings.frontend.as_deref(), Some("socket"));
        assert!(fault.unwrap().starts_with("/x.toml: "));
        machine.file("/x.toml", "handler-timeout = many\n");
        assert!(seen(Some(7)).1.is_some());
        machine.file("/x.toml", "handler-timeout = 9\n");
        assert_eq!(seen(Some(7)).0.handler_timeout, Some(9));
    }
}
