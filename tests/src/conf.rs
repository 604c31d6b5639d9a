//! Writing drbd.conf for two nodes.

use std::fmt::Write as _;
use std::path::PathBuf;

/// Where the metadata lies (`docs/spec/metadata.md`, section 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// At the end of the data's own disk.
    Internal,
    /// On a device of its own, `meta-disk PATH`.
    External,
    /// The older word for the same, `flexible-meta-disk PATH`.
    Flexible,
    /// In a slot of 128 MiB, `meta-disk PATH [1]`.
    Indexed,
}

/// A resource `r0` on two nodes. The defaults suit tests: protocol C, resync as fast as it goes,
/// short intervals, so that a lost peer is noticed and found again within a second or two.
#[derive(Debug, Clone)]
pub struct Conf {
    /// Put into `net {}` beside the protocol and the intervals.
    pub net: String,
    /// Put into `disk {}` beside the rate.
    pub disk: String,
    /// Put into the resource.
    pub resource: String,
    /// `A`, `B` or `C`.
    pub protocol: char,
    /// Where the metadata lies.
    pub meta: Meta,
    /// How many volumes.
    pub volumes: usize,
    /// Intervals and timeouts of `net {}`.
    pub intervals: String,
    /// Resync rate and controller of `disk {}`.
    pub rate: String,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            net: String::new(),
            disk: String::new(),
            resource: String::new(),
            protocol: 'C',
            meta: Meta::Internal,
            volumes: 1,
            intervals: "connect-int 1; ping-int 2; ping-timeout 20; timeout 9;".into(),
            // c-min-rate 0: a resync is not held back while the application writes.
            rate: "resync-rate 4G; c-plan-ahead 0; c-min-rate 0;".into(),
        }
    }
}

/// What the configuration says about one node.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// `address:port`.
    pub address: String,
    /// Data disks, one a volume.
    pub data: Vec<PathBuf>,
    /// Metadata devices, one a volume, unless internal.
    pub meta: Vec<PathBuf>,
}

impl Conf {
    /// The file.
    #[must_use]
    pub fn text(&self, hosts: &[Host]) -> String {
        let mut text = format!(
            "global {{ usage-count no; disable-ip-verification; }}\n\
             resource r0 {{\n    net {{ protocol {}; {} {} }}\n    disk {{ {} {} }}\n    {}\n",
            self.protocol, self.intervals, self.net, self.rate, self.disk, self.resource
        );
        for host in hosts {
            let _ = writeln!(
                text,
                "    on {} {{\n        address {};",
                host.name, host.address
            );
            for volume in 0..self.volumes {
                let meta = match self.meta {
                    Meta::Internal => "meta-disk internal;".to_owned(),
                    Meta::External => format!("meta-disk {};", host.meta[volume].display()),
                    Meta::Flexible => {
                        format!("flexible-meta-disk {};", host.meta[volume].display())
                    }
                    Meta::Indexed => format!("meta-disk {} [1];", host.meta[volume].display()),
                };
                let _ = writeln!(
                    text,
                    "        volume {volume} {{ device /dev/drbd{volume} minor {volume}; \
                     disk {}; {meta} }}",
                    host.data[volume].display()
                );
            }
            text.push_str("    }\n");
        }
        text.push_str("}\n");
        text
    }
}
