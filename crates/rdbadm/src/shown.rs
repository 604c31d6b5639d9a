//! Options as the words of the configuration: what `show` prints, and what `rdbsetup` is told.

use rdb_config::options::{self, Changed, OptionDef, Type, Unit};
use rdb_config::{Section, WarningKind};
use rdb_control::{
    ConnectionShown, DiskOptions, DiskShown, Handlers, MetaDisk, NetOptions, ResourceOptions,
    ResourceShown,
};

/// Reads options through the configuration's own parser, so that the command line takes what the file takes.
///
/// # Errors
/// The messages, without places.
pub(crate) fn parse(section: Section, settings: &[(String, String)]) -> Result<Parsed, String> {
    let mut body = String::new();
    for (name, value) in settings {
        let option = options::find(section, name)
            .ok_or_else(|| format!("unrecognized option '--{name}'"))?;
        if value.contains(['\n', '\0']) {
            return Err(format!("{name}: a value has one line"));
        }
        let value = match option.ty {
            Type::Text { .. } => quoted(value),
            _ if is_word(value) => value.clone(),
            _ => return Err(format!("{value} is not a valid value for {name}")),
        };
        // A disk's size is in sectors; the file's is, too.
        body += &format!("{name} {value};\n");
    }
    let host = "device minor 0; disk /dev/none; meta-disk internal;";
    let text = format!(
        "resource option {{ {} {{\n{body}}} on here {{ {host} address 127.0.0.1:1; }} \
         on there {{ {host} address 127.0.0.1:2; }} }}",
        section.as_str()
    );
    let words = |error: rdb_config::ConfigError| {
        error
            .diagnostics
            .iter()
            .map(|d| d.problem.to_string())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let loaded = rdb_config::load_str("option", &text).map_err(words)?;
    let resource = loaded.config.resource("option").map_err(words)?;
    let mut resolved = resource.for_host("here").map_err(words)?;
    Ok(Parsed {
        net: resolved.net,
        disk: resolved
            .volumes
            .pop()
            .map(|v| v.disk_options)
            .unwrap_or_default(),
        resource: resolved.options,
        handlers: resolved.handlers,
        warnings: loaded
            .warnings
            .into_iter()
            .filter(|w| w.kind == WarningKind::NoEffect)
            .map(|w| w.text)
            .collect(),
    })
}

/// What [`parse`] read.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) net: NetOptions,
    pub(crate) disk: DiskOptions,
    pub(crate) resource: ResourceOptions,
    pub(crate) handlers: Handlers,
    /// Options without effect.
    pub(crate) warnings: Vec<String>,
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn is_word(value: &str) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-,".contains(c))
}

/// An option as it is shown: its value in the words of the configuration, and whether that is its default.
pub(crate) struct Shown {
    pub(crate) option: &'static OptionDef,
    pub(crate) value: String,
    pub(crate) is_default: bool,
}

/// The options of a section that are not at their default; with `defaults` all that rdb goes by or knows the default of.
pub(crate) fn options_of(section: Section, changed: Changed, defaults: bool) -> Vec<Shown> {
    let set = |(option, value)| Shown {
        option,
        value,
        is_default: false,
    };
    if !defaults {
        return changed.into_iter().map(set).collect();
    }
    let rows = options::all().filter(|option| option.section == section);
    let shown = rows.filter_map(|option| {
        let found = changed.iter().find(|(set, _)| set.name == option.name);
        if let Some((option, value)) = found {
            return Some(set((*option, value.clone())));
        }
        let value = match option.ty {
            Type::Number { default, .. } => default.to_string(),
            Type::Bool { default } => if default { "yes" } else { "no" }.to_owned(),
            Type::Words { default, .. } => default.to_owned(),
            Type::Text { .. } => String::new(),
            Type::Hosts | Type::ResourceRef | Type::Words9 => return None,
        };
        // What has no effect is not as it is set, so that nothing is said of it.
        let is_known = !matches!(option.served, options::Served::Harmless(_));
        is_known.then_some(Shown {
            option,
            value,
            is_default: true,
        })
    });
    shown.collect()
}

/// `show`: how a resource runs, in the language of the configuration (`docs/spec/admin.md`, section 4.5).
pub(crate) fn show(shown: &ResourceShown, defaults: bool) -> String {
    let lines = |text: &mut String, indent, section, changed| {
        lines(text, indent, &options_of(section, changed, defaults));
    };
    let mut text = format!("resource {} {{\n    options {{\n", shown.name);
    lines(&mut text, 8, Section::Options, shown.options.changed());
    text += "    }\n";
    let commands = &shown.handlers.commands;
    if !commands.is_empty() {
        text += "    handlers {\n";
        for (name, command) in commands {
            text += &format!("        {name:<16}\t{};\n", quoted(command));
        }
        text += "    }\n";
    }
    if let Some(ConnectionShown {
        net: options, peer, ..
    }) = &shown.connection
    {
        text += "    net {\n";
        lines(&mut text, 8, Section::Net, options.changed());
        text += &format!(
            "    }}\n    _remote_host {{\n        address\t\t\t{};\n    }}\n",
            address(peer)
        );
    }
    text += "    _this_host {\n";
    if let Some(ConnectionShown { local, .. }) = &shown.connection {
        text += &format!("        address\t\t\t{};\n", address(local));
    }
    for volume in &shown.volumes {
        text += &format!(
            "        volume {} {{\n            device\t\t\tminor {};\n",
            volume.volume, volume.minor
        );
        if let Some(DiskShown {
            data,
            meta,
            options,
        }) = &volume.disk
        {
            text += &format!("            disk\t\t\t\"{}\";\n", data.display());
            let meta = match meta {
                MetaDisk::Internal => "internal".to_owned(),
                MetaDisk::Flexible(path) => format!("\"{}\"", path.display()),
                MetaDisk::Indexed(path, index) => format!("\"{}\" [ {index} ]", path.display()),
            };
            text += &format!("            meta-disk\t\t\t{meta};\n");
            let options = options.changed();
            if !options.is_empty() || defaults {
                text += "            disk {\n";
                lines(&mut text, 16, Section::Disk, options);
                text += "            }\n";
            }
        }
        text += "        }\n";
    }
    text += "    }\n}\n";
    text
}

fn address(address: &std::net::SocketAddr) -> String {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    format!("{family} {address}")
}

fn lines(text: &mut String, indent: usize, shown: &[Shown]) {
    for shown in shown {
        let (value, unit) = shown.with_unit();
        let value = match shown.option.ty {
            Type::Text { .. } => quoted(&value),
            _ => value,
        };
        let notes: Vec<&str> = unit
            .into_iter()
            .chain(shown.is_default.then_some("default"))
            .collect();
        let comment = match notes.is_empty() {
            true => String::new(),
            false => format!(" # {}", notes.join(", ")),
        };
        let name = shown.option.name;
        *text += &format!("{:indent$}{name:<16}\t{value};{comment}\n", "");
    }
}

impl Shown {
    /// The value with its suffix, and what it counts in.
    pub(crate) fn with_unit(&self) -> (String, Option<&'static str>) {
        let value = self.value.clone();
        let Type::Number { unit, .. } = self.option.ty else {
            return (value, None);
        };
        match unit {
            Unit::Count => (value, None),
            Unit::Seconds => (value, Some("seconds")),
            Unit::Deciseconds => (value, Some("1/10 seconds")),
            Unit::Bytes => (value, Some("bytes")),
            Unit::KibPerSecond => (format!("{value}k"), Some("bytes/second")),
            Unit::Sectors => (format!("{value}s"), Some("bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdb_control::{HandlersShown, VolumeShown};

    use super::*;

    fn given(section: Section, settings: &[(&str, &str)]) -> Result<Parsed, String> {
        let settings: Vec<_> = settings
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        parse(section, &settings)
    }

    /// From the kernel's tool (captures/transcripts/01-bring-up), but for what rdb does not serve yet.
    #[test]
    fn show_is_drbds() {
        let net = given(
            Section::Net,
            &[("ping-timeout", "30"), ("verify-alg", "sha1")],
        )
        .unwrap()
        .net;
        let disk = given(
            Section::Disk,
            &[("resync-rate", "40M"), ("c-plan-ahead", "0")],
        )
        .unwrap()
        .disk;
        let shown = ResourceShown {
            name: "r0".to_owned(),
            options: ResourceOptions::default(),
            handlers: HandlersShown::default(),
            connection: Some(ConnectionShown {
                local: "10.9.0.1:7789".parse().unwrap(),
                peer: "10.9.0.2:7789".parse().unwrap(),
                net,
            }),
            volumes: vec![VolumeShown {
                volume: 0,
                minor: 0,
                implicit: true,
                old_name: false,
                disk: Some(DiskShown {
                    data: "/dev/vdb".into(),
                    meta: MetaDisk::Internal,
                    options: disk,
                }),
            }],
        };
        assert_eq!(
            show(&shown, false),
            "resource r0 {\n    options {\n    }\n    net {\n        ping-timeout    \t30; # 1/10 seconds\n        \
             verify-alg      \t\"sha1\";\n    }\n    _remote_host {\n        address\t\t\tipv4 10.9.0.2:7789;\n    \
             }\n    _this_host {\n        address\t\t\tipv4 10.9.0.1:7789;\n        volume 0 {\n            \
             device\t\t\tminor 0;\n            disk\t\t\t\"/dev/vdb\";\n            meta-disk\t\t\tinternal;\n            \
             disk {\n                resync-rate     \t40960k; # bytes/second\n                \
             c-plan-ahead    \t0; # 1/10 seconds\n            }\n        }\n    }\n}\n"
        );
    }

    /// From the kernel's tool: `drbdsetup show --show-defaults`.
    #[test]
    fn with_defaults_each_option_says_whether_it_is_at_its_own() {
        let net = given(Section::Net, &[("verify-alg", "md5")]).unwrap().net;
        let shown = ResourceShown {
            name: "r0".to_owned(),
            options: ResourceOptions::default(),
            handlers: HandlersShown::default(),
            connection: Some(ConnectionShown {
                local: "10.9.0.1:7789".parse().unwrap(),
                peer: "10.9.0.2:7789".parse().unwrap(),
                net,
            }),
            volumes: Vec::new(),
        };
        let text = show(&shown, true);
        for line in [
            "        on-no-data-accessible\tio-error; # default",
            "        protocol        \tC; # default",
            "        timeout         \t60; # 1/10 seconds, default",
            "        connect-int     \t10; # seconds, default",
            "        verify-alg      \t\"md5\";",
            "        use-rle         \tyes; # default",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn handlers_are_shown_as_they_are_configured() {
        let shown = ResourceShown {
            name: "r0".to_owned(),
            options: ResourceOptions::default(),
            handlers: HandlersShown {
                commands: [("fence-peer".to_owned(), "/bin/fence \"now\"".to_owned())].into(),
                ..HandlersShown::default()
            },
            connection: None,
            volumes: Vec::new(),
        };
        assert_eq!(
            show(&shown, false),
            "resource r0 {\n    options {\n    }\n    handlers {\n        \
             fence-peer      \t\"/bin/fence \\\"now\\\"\";\n    }\n    _this_host {\n    }\n}\n"
        );
    }

    #[test]
    fn options_survive_being_shown_and_parsed() {
        let settings = [
            ("protocol", "A"),
            ("timeout", "70"),
            ("shared-secret", "a \"b\" \\ c"),
            ("cram-hmac-alg", "sha1"),
            ("after-sb-0pri", "discard-zero-changes"),
            ("after-sb-1pri", "discard-secondary"),
            ("use-rle", "no"),
            ("max-buffers", "8k"),
        ];
        let parsed = given(Section::Net, &settings).unwrap().net;
        assert_eq!(parsed.max_buffers, 8192);
        let again = parsed.changed().into_iter();
        let again: Vec<_> = again.map(|(o, v)| (o.name.to_owned(), v)).collect();
        assert_eq!(again.len(), settings.len());
        assert_eq!(parse(Section::Net, &again).unwrap().net, parsed);
        assert!(NetOptions::default().changed().is_empty());
        assert!(DiskOptions::default().changed().is_empty());
        assert!(ResourceOptions::default().changed().is_empty());
    }

    #[test]
    fn bad_options_are_named() {
        for (name, value, words) in [
            ("tiemout", "1", "unrecognized option '--tiemout'"),
            (
                "timeout",
                "6000",
                "timeout 6000 => 6000 out of range [1..600].",
            ),
            ("timeout", "10MB", "10MB is not a valid number"),
            ("protocol", "D", "unknown protocol 'D'"),
            ("timeout", "1; } evil {", "not a valid value for timeout"),
            ("timeout", "", "not a valid value for timeout"),
            ("verify-alg", "a\nb", "one line"),
        ] {
            let error = given(Section::Net, &[(name, value)]).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
