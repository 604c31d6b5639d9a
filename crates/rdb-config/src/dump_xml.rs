//! `dump-xml`: `docs/spec/admin.md`, section 3.7.

use crate::dump::DumpStyle;
use crate::model::{
    Address, Config, Disk, Host, HostKind, MetaDisk, Resource, Section, Sections, Setting, Volume,
};
use std::fmt::Write;

impl Config {
    /// The whole configuration as XML.
    #[must_use]
    pub fn dump_xml(&self, style: DumpStyle) -> String {
        let mut xml = Xml {
            out: String::new(),
            style,
        };
        xml.line(0, &format!("<config file=\"{}\">", escape(&self.path)));
        xml.global(self);
        if self.has_common {
            xml.line(4, "<common>");
            xml.sections(8, &self.common);
            xml.line(4, "</common>");
        }
        for resource in &self.resources {
            xml.resource(4, resource, &self.resources);
        }
        xml.line(0, "</config>");
        xml.out
    }

    /// One resource as XML.
    #[must_use]
    pub fn dump_xml_resource(&self, resource: &Resource, style: DumpStyle) -> String {
        let mut xml = Xml {
            out: String::new(),
            style,
        };
        xml.resource(0, resource, &self.resources);
        xml.out
    }
}

struct Xml {
    out: String,
    style: DumpStyle,
}

impl Xml {
    fn line(&mut self, indent: usize, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{:indent$}{text}", "");
    }

    fn global(&mut self, config: &Config) {
        let find = |name: &str| config.global.settings.iter().rev().find(|s| s.name == name);
        let flag = config.global.options.disable_ip_verification;
        let (count, refresh) = (find("minor-count"), find("dialog-refresh"));
        // Only these three are known to the XML.
        if !flag && count.is_none() && refresh.is_none() {
            return;
        }
        self.line(4, "<global>");
        if flag {
            self.line(8, "<disable-ip-verification/>");
        }
        if let Some(count) = count {
            self.line(
                8,
                &format!("<minor-count count=\"{}\"/>", escape(&count.value)),
            );
        }
        if let Some(refresh) = refresh {
            self.line(
                8,
                &format!("<dialog-refresh refresh=\"{}\"/>", escape(&refresh.value)),
            );
        }
        self.line(4, "</global>");
    }

    fn sections(&mut self, indent: usize, sections: &Sections) {
        for section in Section::IN_RESOURCE {
            self.section(indent, section, section.as_str(), sections.get(section));
        }
    }

    /// What a proxy inherits of `proxy {}`.
    fn proxy_options(&mut self, indent: usize, settings: &[Setting]) {
        self.section(indent, Section::Proxy, "options", settings);
    }

    fn section(&mut self, indent: usize, section: Section, name: &str, settings: &[Setting]) {
        if settings.is_empty() {
            return;
        }
        self.line(indent, &format!("<section name=\"{name}\">"));
        let is_plugin = |name: &str| section == Section::Proxy && name == "plugin";
        // The list of hosts comes last, as in `dump`.
        let is_hosts = |name: &str| name == "become-primary-on";
        let first = settings
            .iter()
            .filter(|s| !is_plugin(&s.name) && !is_hosts(&s.name));
        let last = settings.iter().rfind(|s| is_hosts(&s.name));
        for setting in first.chain(last) {
            let is_hidden = self.style.hide_secrets && setting.name == "shared-secret";
            let value = if is_hidden { "*****" } else { &setting.value };
            let (name, value) = (escape(&setting.name), escape(value));
            self.line(
                indent + 4,
                &format!("<option name=\"{name}\" value=\"{value}\"/>"),
            );
        }
        if settings.iter().any(|s| is_plugin(&s.name)) {
            self.line(indent + 4, "<section name=\"plugin\">");
            for setting in settings.iter().filter(|s| is_plugin(&s.name)) {
                self.line(
                    indent + 8,
                    &format!("<option name=\"{}\"/>", escape(&setting.value)),
                );
            }
            self.line(indent + 4, "</section>");
        }
        self.line(indent, "</section>");
    }

    fn resource(&mut self, indent: usize, resource: &Resource, all: &[Resource]) {
        let place = &resource.place;
        self.line(
            indent,
            &format!(
                "<resource name=\"{}\" conf-file-line=\"{}:{}\">",
                escape(&resource.name),
                escape(&place.file.path),
                place.line
            ),
        );
        let sections = if self.style.inherited {
            resource.inherited()
        } else {
            resource.sections.clone()
        };
        for host in &resource.hosts {
            self.host(indent + 4, host, &sections, all);
        }
        self.sections(indent + 4, &sections);
        self.line(indent, "</resource>");
    }

    fn host(&mut self, indent: usize, host: &Host, sections: &Sections, all: &[Resource]) {
        // A stacked host is printed as the hosts of the resource below, its disks as that one's devices.
        let lower = all
            .iter()
            .find(|r| host.kind == HostKind::Stacked && host.names.contains(&r.name));
        let names: Vec<&str> = match lower {
            Some(lower) => lower
                .hosts
                .iter()
                .flat_map(|h| &h.names)
                .map(String::as_str)
                .collect(),
            None => host.names.iter().map(String::as_str).collect(),
        };
        if host.kind == HostKind::Floating {
            self.line(indent, "<host floating=\"1\">");
        } else {
            self.line(
                indent,
                &format!("<host name=\"{}\">", escape(&names.join(" "))),
            );
        }
        for volume in &host.volumes {
            let below = lower.and_then(|r| r.hosts.first()).and_then(|h| {
                let device = h
                    .volumes
                    .iter()
                    .find(|v| v.number == volume.number)?
                    .device
                    .as_ref()?;
                Some(
                    device
                        .path
                        .clone()
                        .unwrap_or_else(|| format!("/dev/drbd{}", device.minor).into()),
                )
            });
            match below {
                Some(path) => {
                    let volume = Volume {
                        disk: Some(Disk::Path(path)),
                        meta: Some(MetaDisk::Internal),
                        ..volume.clone()
                    };
                    self.volume(indent + 4, &volume, sections);
                }
                None => self.volume(indent + 4, volume, sections),
            }
        }
        if let Some(address) = &host.address {
            self.address(indent + 4, "address", address);
        }
        if let Some(proxy) = &host.proxy {
            self.line(
                indent + 4,
                &format!("<proxy hostname=\"{}\">", escape(&proxy.names.join(" "))),
            );
            for (keyword, address) in [("inside", &proxy.inside), ("outside", &proxy.outside)] {
                if let Some(address) = address {
                    self.address(indent + 8, keyword, address);
                }
            }
            if self.style.inherited {
                self.proxy_options(indent + 8, sections.get(Section::Proxy));
            }
            self.line(indent + 4, "</proxy>");
        }
        self.line(indent, "</host>");
    }

    fn address(&mut self, indent: usize, keyword: &str, address: &Address) {
        let scope = address
            .scope
            .as_ref()
            .map(|s| format!("%{s}"))
            .unwrap_or_default();
        self.line(
            indent,
            &format!(
                "<{keyword} family=\"{}\" port=\"{}\">{}{}</{keyword}>",
                address.family.as_str(),
                address.port,
                address.ip,
                escape(&scope)
            ),
        );
    }

    fn volume(&mut self, indent: usize, volume: &Volume, sections: &Sections) {
        self.line(indent, &format!("<volume vnr=\"{}\">", volume.number));
        let mut own = Sections::clone(&volume.sections);
        if self.style.inherited {
            own.inherit_section(Section::Disk, sections.get(Section::Disk));
        }
        self.sections(indent + 4, &own);
        if let Some(device) = &volume.device {
            let path = match &device.path {
                Some(path) => escape(&path.to_string_lossy()),
                // DRBD completes the name in the pass that inherits.
                None if self.style.inherited => format!("/dev/drbd{}", device.minor),
                None => String::new(),
            };
            self.line(
                indent + 4,
                &format!("<device minor=\"{}\">{path}</device>", device.minor),
            );
        }
        if let Some(Disk::Path(path)) = &volume.disk {
            self.line(
                indent + 4,
                &format!("<disk>{}</disk>", escape(&path.to_string_lossy())),
            );
        }
        if let Some(meta) = &volume.meta {
            let text = match meta {
                MetaDisk::Internal => "<meta-disk>internal</meta-disk>".to_owned(),
                MetaDisk::Flexible(path) => {
                    format!("<meta-disk>{}</meta-disk>", escape(&path.to_string_lossy()))
                }
                MetaDisk::Indexed(path, index) => {
                    format!(
                        "<meta-disk index=\"{index}\">{}</meta-disk>",
                        escape(&path.to_string_lossy())
                    )
                }
            };
            self.line(indent + 4, &text);
        }
        self.line(indent, "</volume>");
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}
