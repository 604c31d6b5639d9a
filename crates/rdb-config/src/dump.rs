//! `dump` and `dump-xml`: the configuration in its normal form, byte for byte as DRBD's tool prints it.
//! `docs/spec/admin.md`, section 3.7.

use crate::model::{
    Address, Config, Disk, Host, HostKind, MetaDisk, Resource, Section, Sections, Setting, Volume,
};
use std::fmt::Write;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpStyle {
    /// Print in each resource and volume also what it inherits, as DRBD does with `-d` and `-v`.
    pub inherited: bool,
    /// Print `shared-secret` as asterisks.
    pub hide_secrets: bool,
    /// Print the section `global` although the file has none, as DRBD does with `-v`.
    pub always_global: bool,
}

/// A name or value as it must be written: quoted when it is not a bare word.
pub(crate) fn escape(text: &str) -> String {
    let bare = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    if bare {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Config {
    /// The whole configuration: what `dump` prints without a resource's name.
    #[must_use]
    pub fn dump(&self, node_name: &str, style: DumpStyle) -> String {
        let mut printer = Printer {
            out: String::new(),
            style,
        };
        printer.line(0, &format!("# {}", self.path));
        printer.global(self);
        if self.has_common {
            printer.line(0, "common {");
            printer.sections(4, &self.common);
            printer.line(0, "}\n");
        }
        for resource in &self.resources {
            printer.resource(resource, node_name, &self.resources);
        }
        printer.out
    }

    /// One resource of the configuration: what `dump RES` prints.
    #[must_use]
    pub fn dump_resource(&self, resource: &Resource, node_name: &str, style: DumpStyle) -> String {
        let mut printer = Printer {
            out: String::new(),
            style,
        };
        printer.resource(resource, node_name, &self.resources);
        printer.out
    }
}

struct Printer {
    out: String,
    style: DumpStyle,
}

impl Printer {
    fn line(&mut self, indent: usize, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{:indent$}{text}", "");
    }

    /// `name value;` in columns: the value begins at column 25, however deep the line is.
    fn item(&mut self, indent: usize, name: &str, value: &str) {
        let width = 24_usize.saturating_sub(indent);
        self.line(indent, &format!("{name:width$} {value:>3};"));
    }

    fn wide_item(&mut self, indent: usize, name: &str, value: &str) {
        self.line(indent, &format!("{name:16} {value:>3};"));
    }

    fn global(&mut self, config: &Config) {
        let global = &config.global;
        if global.settings.is_empty() && !self.style.always_global {
            return;
        }
        let find = |name: &str| {
            global
                .settings
                .iter()
                .rev()
                .find(|s| s.name == name)
                .map(|s| s.value.as_str())
        };
        self.line(0, "global {");
        if global.options.disable_ip_verification {
            self.line(4, "disable-ip-verification;");
        }
        for name in ["minor-count", "dialog-refresh"] {
            if let Some(value) = find(name) {
                self.line(4, &format!("{name} {value};"));
            }
        }
        if let Some(value) = find("usage-count").filter(|&v| v != "ask") {
            self.line(4, &format!("usage-count {value};"));
        }
        // The second value is where the tool really starts from, the third what it takes for the default.
        for (name, start, default) in [
            ("cmd-timeout-short", "5", "5"),
            ("cmd-timeout-medium", "600", "121"),
            ("cmd-timeout-long", "0", "600"),
        ] {
            let value = find(name).unwrap_or(start);
            if value != default {
                self.line(4, &format!("{name} {value};"));
            }
        }
        self.line(0, "}\n");
    }

    fn sections(&mut self, indent: usize, sections: &Sections) {
        for section in Section::IN_RESOURCE {
            let settings = sections.get(section);
            if !settings.is_empty() {
                self.section(indent, section, section.as_str(), settings);
            }
        }
    }

    fn section(&mut self, indent: usize, section: Section, name: &str, settings: &[Setting]) {
        self.line(indent, &format!("{name} {{"));
        let last = |s: &&Setting| s.name == "become-primary-on";
        let plugin = |s: &&Setting| section == Section::Proxy && s.name == "plugin";
        for setting in settings.iter().filter(|s| !last(s) && !plugin(s)) {
            let hidden = self.style.hide_secrets && setting.name == "shared-secret";
            let value = if hidden {
                "*****".to_owned()
            } else {
                printed(section, setting)
            };
            if value.is_empty() {
                self.line(indent + 4, &format!("{};", setting.name));
            } else {
                self.item(indent + 4, &setting.name, &value);
            }
        }
        if settings.iter().any(|s| plugin(&s)) {
            self.line(indent + 4, "plugin {");
            for setting in settings.iter().filter(plugin) {
                self.line(indent + 8, &format!("{};", setting.value));
            }
            self.line(indent + 4, "}");
        }
        if let Some(setting) = settings.iter().rev().find(last) {
            self.item(indent + 4, &setting.name, &printed(section, setting));
        }
        self.line(indent, "}");
    }

    fn resource(&mut self, resource: &Resource, node_name: &str, all: &[Resource]) {
        let name = escape(&resource.name);
        let ignored = is_ignored(resource, node_name, all);
        let not = |flag: bool| if flag { "" } else { "not " };
        self.line(
            0,
            &format!(
                "# resource {name} on {node_name}: {}ignored, {}stacked",
                not(ignored),
                not(resource.is_stacked())
            ),
        );
        self.line(
            0,
            &format!(
                "# defined at {}:{}",
                resource.place.file.path, resource.place.line
            ),
        );
        self.line(0, &format!("resource {name} {{"));
        let sections = if self.style.inherited {
            resource.inherited()
        } else {
            resource.sections.clone()
        };
        for host in &resource.hosts {
            self.host(host, &sections, all);
        }
        for (what, _) in resource
            .unserved
            .iter()
            .filter(|(what, _)| what.contains("DRBD 9"))
        {
            self.line(4, &format!("# not served by rdb yet: {what}"));
        }
        self.sections(4, &sections);
        self.line(0, "}\n");
    }

    fn host(&mut self, host: &Host, sections: &Sections, all: &[Resource]) {
        let names: Vec<String> = host.names.iter().map(|n| escape(n)).collect();
        match host.kind {
            HostKind::On => self.line(4, &format!("on {} {{", names.join(" "))),
            HostKind::Stacked => {
                self.line(4, &format!("stacked-on-top-of {} {{", names.join(" ")));
                let lower = all.iter().find(|r| host.names.contains(&r.name));
                let hosts: Vec<&str> = lower
                    .iter()
                    .flat_map(|r| &r.hosts)
                    .flat_map(|h| &h.names)
                    .map(String::as_str)
                    .collect();
                self.line(8, &format!("# on {} ", hosts.join(" ")));
            }
            HostKind::Floating => {
                let address = host.address.as_ref().map(with_family).unwrap_or_default();
                self.line(4, &format!("floating {address} {{"));
            }
        }
        if let Some(id) = host.node_id {
            self.line(8, &format!("node-id {id};"));
        }
        self.sections(8, &host.sections);
        for volume in &host.volumes {
            self.volume(volume, host.kind, sections);
        }
        if let (Some(address), true) = (&host.address, host.kind != HostKind::Floating) {
            self.item(8, "address", &with_family(address));
        }
        if let Some(address) = &host.alternate_address {
            self.item(8, "alternate-link-address", &with_family(address));
        }
        if let Some(proxy) = &host.proxy {
            let names: Vec<String> = proxy.names.iter().map(|n| escape(n)).collect();
            self.line(8, &format!("proxy on {} {{", names.join(" ")));
            for (keyword, address) in [("inside", &proxy.inside), ("outside", &proxy.outside)] {
                if let Some(address) = address {
                    // The tool does not narrow this column, nor that of an external meta-disk.
                    self.wide_item(12, keyword, &with_family(address));
                }
            }
            let options = sections.get(Section::Proxy);
            if self.style.inherited && !options.is_empty() {
                self.section(12, Section::Proxy, "options", options);
            }
            self.line(8, "}");
        }
        self.line(4, "}");
    }

    fn volume(&mut self, volume: &Volume, kind: HostKind, sections: &Sections) {
        let indent = if volume.implicit { 8 } else { 12 };
        if !volume.implicit {
            self.line(8, &format!("volume {} {{", volume.number));
        }
        let mut own = Sections::clone(&volume.sections);
        if self.style.inherited {
            own.inherit_section(Section::Disk, sections.get(Section::Disk));
        }
        self.sections(indent, &own);
        if let Some(device) = &volume.device {
            let minor = format!("minor {}", device.minor);
            let text = match &device.path {
                Some(path) => format!("{} {minor}", escape(&path.to_string_lossy())),
                // DRBD completes the name in the pass that inherits.
                None if self.style.inherited => format!("/dev/drbd{} {minor}", device.minor),
                None => minor,
            };
            self.item(indent, "device", &text);
        }
        match &volume.disk {
            Some(Disk::Path(path)) => self.item(indent, "disk", &escape(&path.to_string_lossy())),
            Some(Disk::None) => self.item(indent, "disk", "none"),
            None => {}
        }
        if let (Some(meta), true) = (&volume.meta, kind != HostKind::Stacked) {
            match meta {
                MetaDisk::Internal => self.item(indent, "meta-disk", "internal"),
                MetaDisk::Flexible(path) => {
                    self.wide_item(indent, "meta-disk", &escape(&path.to_string_lossy()));
                }
                MetaDisk::Indexed(path, index) => {
                    let text = format!("{} [{index}]", escape(&path.to_string_lossy()));
                    self.wide_item(indent, "meta-disk", &text);
                }
            }
        }
        if !volume.implicit {
            self.line(8, "}");
        }
    }
}

/// A stacked resource belongs to a host when its lower resource does.
pub(crate) fn is_ignored(resource: &Resource, node_name: &str, all: &[Resource]) -> bool {
    let lower_is_here = |host: &Host| {
        host.kind == HostKind::Stacked
            && all.iter().any(|r| {
                host.names.contains(&r.name) && !r.is_stacked() && !r.is_ignored(node_name)
            })
    };
    resource.is_ignored(node_name) && !resource.hosts.iter().any(lower_is_here)
}

/// A value as it must be written; host lists are several words.
fn printed(section: Section, setting: &Setting) -> String {
    if setting.name == "become-primary-on" {
        return setting
            .value
            .split(' ')
            .map(escape)
            .collect::<Vec<_>>()
            .join(" ");
    }
    if section == Section::Proxy && setting.name == "read-loops" {
        return String::new();
    }
    escape(&setting.value)
}

fn with_family(address: &Address) -> String {
    format!("{} {address}", address.family.as_str())
}
