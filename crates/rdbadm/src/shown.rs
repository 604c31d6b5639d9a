//! Typed options as the words of the configuration: for `show`, and to change a few of them.

use rdb_config::options::{self, Type, Unit};
use rdb_config::{Section, WarningKind};
use rdb_control::{
    ConnectionShown, DiskOptions, DiskShown, MetaDisk, NetOptions, ResourceOptions, ResourceShown,
};

/// Names and values of options that differ from their defaults.
pub(crate) type Settings = Vec<(&'static str, String)>;

/// Collects what differs from the default.
struct Different(Settings);

impl Different {
    fn add<T: PartialEq>(
        &mut self,
        name: &'static str,
        value: &T,
        default: &T,
        word: impl Fn(&T) -> String,
    ) {
        if value != default {
            self.0.push((name, word(value)));
        }
    }

    fn number<T: PartialEq + ToString>(&mut self, name: &'static str, value: &T, default: &T) {
        self.add(name, value, default, ToString::to_string);
    }

    fn flag(&mut self, name: &'static str, value: bool, default: bool) {
        self.add(name, &value, &default, |v| {
            if *v { "yes" } else { "no" }.to_owned()
        });
    }

    fn text(&mut self, name: &'static str, value: &Option<String>) {
        if let Some(value) = value {
            self.0.push((name, value.clone()));
        }
    }
}

/// The net options that differ from their defaults.
pub(crate) fn net(net: &NetOptions) -> Settings {
    let default = NetOptions::default();
    let mut d = Different(Vec::new());
    d.add(
        "protocol",
        &net.protocol,
        &default.protocol,
        ToString::to_string,
    );
    d.number("timeout", &net.timeout_ds, &default.timeout_ds);
    d.number(
        "max-epoch-size",
        &net.max_epoch_size,
        &default.max_epoch_size,
    );
    d.number("max-buffers", &net.max_buffers, &default.max_buffers);
    d.number("connect-int", &net.connect_int_s, &default.connect_int_s);
    d.number("ping-int", &net.ping_int_s, &default.ping_int_s);
    d.number("sndbuf-size", &net.sndbuf_bytes, &default.sndbuf_bytes);
    d.number("rcvbuf-size", &net.rcvbuf_bytes, &default.rcvbuf_bytes);
    d.number("ko-count", &net.ko_count, &default.ko_count);
    d.flag(
        "allow-two-primaries",
        net.allow_two_primaries,
        default.allow_two_primaries,
    );
    d.text("cram-hmac-alg", &net.cram_hmac_alg);
    d.text("shared-secret", &net.shared_secret);
    d.add(
        "after-sb-0pri",
        &net.after_sb_0pri,
        &default.after_sb_0pri,
        ToString::to_string,
    );
    d.add(
        "after-sb-1pri",
        &net.after_sb_1pri,
        &default.after_sb_1pri,
        ToString::to_string,
    );
    d.add(
        "after-sb-2pri",
        &net.after_sb_2pri,
        &default.after_sb_2pri,
        ToString::to_string,
    );
    d.flag("always-asbp", net.always_asbp, default.always_asbp);
    d.add(
        "rr-conflict",
        &net.rr_conflict,
        &default.rr_conflict,
        ToString::to_string,
    );
    d.number(
        "ping-timeout",
        &net.ping_timeout_ds,
        &default.ping_timeout_ds,
    );
    d.text("data-integrity-alg", &net.data_integrity_alg);
    d.flag("tcp-cork", net.tcp_cork, default.tcp_cork);
    d.add(
        "on-congestion",
        &net.on_congestion,
        &default.on_congestion,
        ToString::to_string,
    );
    d.number(
        "congestion-fill",
        &net.congestion_fill_sectors,
        &default.congestion_fill_sectors,
    );
    d.number(
        "congestion-extents",
        &net.congestion_extents,
        &default.congestion_extents,
    );
    d.text("csums-alg", &net.csums_alg);
    d.flag(
        "csums-after-crash-only",
        net.csums_after_crash_only,
        default.csums_after_crash_only,
    );
    d.text("verify-alg", &net.verify_alg);
    d.flag("use-rle", net.use_rle, default.use_rle);
    d.number(
        "socket-check-timeout",
        &net.socket_check_timeout_ds,
        &default.socket_check_timeout_ds,
    );
    d.0
}

/// The disk options that differ from their defaults.
pub(crate) fn disk(disk: &DiskOptions) -> Settings {
    let default = DiskOptions::default();
    let mut d = Different(Vec::new());
    d.number("size", &disk.size_sectors.unwrap_or(0), &0);
    d.add(
        "on-io-error",
        &disk.on_io_error,
        &default.on_io_error,
        ToString::to_string,
    );
    d.add(
        "fencing",
        &disk.fencing,
        &default.fencing,
        ToString::to_string,
    );
    d.flag("disk-barrier", disk.disk_barrier, default.disk_barrier);
    d.flag("disk-flushes", disk.disk_flushes, default.disk_flushes);
    d.flag("disk-drain", disk.disk_drain, default.disk_drain);
    d.flag("md-flushes", disk.md_flushes, default.md_flushes);
    d.number(
        "resync-rate",
        &disk.resync_rate_kib,
        &default.resync_rate_kib,
    );
    d.text("resync-after", &disk.resync_after);
    d.number("al-extents", &disk.al_extents, &default.al_extents);
    d.flag("al-updates", disk.al_updates, default.al_updates);
    let zeroes = disk.discard_zeroes_if_aligned;
    d.flag(
        "discard-zeroes-if-aligned",
        zeroes,
        default.discard_zeroes_if_aligned,
    );
    let granularity = disk.rs_discard_granularity_bytes;
    d.number(
        "rs-discard-granularity",
        &granularity,
        &default.rs_discard_granularity_bytes,
    );
    d.number(
        "c-plan-ahead",
        &disk.c_plan_ahead_ds,
        &default.c_plan_ahead_ds,
    );
    d.number(
        "c-delay-target",
        &disk.c_delay_target_ds,
        &default.c_delay_target_ds,
    );
    d.number(
        "c-fill-target",
        &disk.c_fill_target_sectors,
        &default.c_fill_target_sectors,
    );
    d.number("c-max-rate", &disk.c_max_rate_kib, &default.c_max_rate_kib);
    d.number("c-min-rate", &disk.c_min_rate_kib, &default.c_min_rate_kib);
    d.number(
        "disk-timeout",
        &disk.disk_timeout_ds,
        &default.disk_timeout_ds,
    );
    d.number(
        "read-balancing",
        &disk.read_balancing,
        &default.read_balancing,
    );
    d.0
}

/// The resource options that differ from their defaults.
pub(crate) fn resource(options: &ResourceOptions) -> Settings {
    let default = ResourceOptions::default();
    let mut d = Different(Vec::new());
    d.text("cpu-mask", &options.cpu_mask);
    let reaction = &options.on_no_data_accessible;
    d.add(
        "on-no-data-accessible",
        reaction,
        &default.on_no_data_accessible,
        ToString::to_string,
    );
    d.0
}

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
            Type::Text { .. } => {
                format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
            }
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
    /// Options without effect.
    pub(crate) warnings: Vec<String>,
}

fn is_word(value: &str) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-,".contains(c))
}

/// `show`: how a resource runs, in the language of the configuration (`docs/spec/admin.md`, section 4.5).
pub(crate) fn show(shown: &ResourceShown) -> String {
    let mut text = format!("resource {} {{\n    options {{\n", shown.name);
    lines(&mut text, 8, Section::Options, &resource(&shown.options));
    text += "    }\n";
    if let Some(ConnectionShown {
        net: options, peer, ..
    }) = &shown.connection
    {
        text += "    net {\n";
        lines(&mut text, 8, Section::Net, &net(options));
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
            let options = disk(options);
            if !options.is_empty() {
                text += "            disk {\n";
                lines(&mut text, 16, Section::Disk, &options);
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

fn lines(text: &mut String, indent: usize, section: Section, settings: &Settings) {
    for (name, value) in settings {
        let (value, comment) = match options::find(section, name).map(|option| option.ty) {
            Some(Type::Number { unit, .. }) => match unit {
                Unit::Count => (value.clone(), ""),
                Unit::Seconds => (value.clone(), " # seconds"),
                Unit::Deciseconds => (value.clone(), " # 1/10 seconds"),
                Unit::Bytes => (value.clone(), " # bytes"),
                Unit::KibPerSecond => (format!("{value}k"), " # bytes/second"),
                Unit::Sectors => (format!("{value}s"), " # bytes"),
            },
            Some(Type::Text { .. }) => (
                format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
                "",
            ),
            _ => (value.clone(), ""),
        };
        *text += &format!("{:indent$}{name:<16}\t{value};{comment}\n", "");
    }
}

#[cfg(test)]
mod tests {
    use rdb_control::VolumeShown;

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
            connection: Some(ConnectionShown {
                local: "10.9.0.1:7789".parse().unwrap(),
                peer: "10.9.0.2:7789".parse().unwrap(),
                net,
            }),
            volumes: vec![VolumeShown {
                volume: 0,
                minor: 0,
                implicit: true,
                disk: Some(DiskShown {
                    data: "/dev/vdb".into(),
                    meta: MetaDisk::Internal,
                    options: disk,
                }),
            }],
        };
        assert_eq!(
            show(&shown),
            "resource r0 {\n    options {\n    }\n    net {\n        ping-timeout    \t30; # 1/10 seconds\n        \
             verify-alg      \t\"sha1\";\n    }\n    _remote_host {\n        address\t\t\tipv4 10.9.0.2:7789;\n    \
             }\n    _this_host {\n        address\t\t\tipv4 10.9.0.1:7789;\n        volume 0 {\n            \
             device\t\t\tminor 0;\n            disk\t\t\t\"/dev/vdb\";\n            meta-disk\t\t\tinternal;\n            \
             disk {\n                resync-rate     \t40960k; # bytes/second\n                \
             c-plan-ahead    \t0; # 1/10 seconds\n            }\n        }\n    }\n}\n"
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
        let again: Vec<_> = net(&parsed)
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v))
            .collect();
        assert_eq!(again.len(), settings.len());
        assert_eq!(parse(Section::Net, &again).unwrap().net, parsed);
        assert!(net(&NetOptions::default()).is_empty());
        assert!(disk(&DiskOptions::default()).is_empty());
        assert!(resource(&ResourceOptions::default()).is_empty());
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
