//! `dump-xml`: `docs/spec/admin.md`, section 3.7.

use crate::model::{
    Address, Config, Disk, Host, HostKind, MetaDisk, Resource, Section, Sections, Volume,
};
use std::fmt::Write;

impl Config {
    /// The whole configuration as XML.
    #[must_use]
    pub fn dump_xml(&self) -> String {
        let mut xml = Xml(String::new());
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
        xml.0
    }

    /// One resource as XML.
    #[must_use]
    pub fn dump_xml_resource(&self, resource: &Resource) -> String {
        let mut xml = Xml(String::new());
        xml.resource(0, resource, &self.resources);
        xml.0
    }
}

struct Xml(String);

impl Xml {
    fn line(&mut self, indent: usize, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{:indent$}{text}", "");
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
            let settings = sections.get(section);
            if settings.is_empty() {
                continue;
            }
            self.line(indent, &format!("<section name=\"{}\">", section.as_str()));
            let is_plugin = |name: &str| section == Section::Proxy && name == "plugin";
            // The list of hosts comes last, as in `dump`.
            let is_hosts = |name: &str| name == "become-primary-on";
            let first = settings
                .iter()
                .filter(|s| !is_plugin(&s.name) && !is_hosts(&s.name));
            let last = settings.iter().rfind(|s| is_hosts(&s.name));
            for setting in first.chain(last) {
                let (name, value) = (escape(&setting.name), escape(&setting.value));
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
        for host in &resource.hosts {
            self.host(indent + 4, host, all);
        }
        self.sections(indent + 4, &resource.sections);
        self.line(indent, "</resource>");
    }

    fn host(&mut self, indent: usize, host: &Host, all: &[Resource]) {
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
                    self.volume(indent + 4, &volume);
                }
                None => self.volume(indent + 4, volume),
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

    fn volume(&mut self, indent: usize, volume: &Volume) {
        self.line(indent, &format!("<volume vnr=\"{}\">", volume.number));
        self.sections(indent + 4, &volume.sections);
        if let Some(device) = &volume.device {
            let path = device
                .path
                .as_ref()
                .map(|p| escape(&p.to_string_lossy()))
                .unwrap_or_default();
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
