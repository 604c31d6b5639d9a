//! Machines and nodes for the tests of the checks.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rdb_config::Config;
use rdb_control::StatusReport;

use crate::machine::Machine;
use crate::patient::{Daemon, Patient};
use crate::probe::{Clock, Echo, Interface, Probe};
use crate::settings::Settings;

/// A machine with the files that a test gives it, on which nothing is wrong.
pub(crate) struct MadeUp {
    root: tempfile::TempDir,
    pub(crate) probe: Answers,
}

/// What its probe answers.
pub(crate) struct Answers {
    pub(crate) is_root: bool,
    pub(crate) is_synchronised: bool,
    pub(crate) addresses: Vec<(&'static str, IpAddr)>,
    pub(crate) mtu: Option<u32>,
    pub(crate) route: Result<u32, String>,
    pub(crate) small: Echo,
    pub(crate) large: Echo,
    pub(crate) ahead_ms: Option<i64>,
    pub(crate) claim: Option<io::ErrorKind>,
}

impl Probe for Answers {
    fn is_root(&self) -> bool {
        self.is_root
    }

    fn clock(&self) -> io::Result<Clock> {
        let is_synchronised = self.is_synchronised;
        Ok(Clock { is_synchronised })
    }

    fn addresses(&self) -> io::Result<Vec<Interface>> {
        let all = self.addresses.iter().map(|(name, address)| Interface {
            name: (*name).to_owned(),
            address: *address,
            mtu: self.mtu,
        });
        Ok(all.collect())
    }

    fn route_mtu(&self, _: IpAddr, _: IpAddr) -> io::Result<u32> {
        self.route.clone().map_err(io::Error::other)
    }

    fn echo(&self, _: IpAddr, _: IpAddr, bytes: u32) -> Echo {
        match bytes {
            0..1000 => self.small.clone(),
            _ => self.large.clone(),
        }
    }

    fn clock_ahead_ms(&self, _: IpAddr, _: IpAddr) -> io::Result<i64> {
        self.ahead_ms
            .ok_or_else(|| io::Error::other("it does not answer"))
    }

    fn claim(&self, _: &Path) -> io::Result<()> {
        self.claim.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl MadeUp {
    pub(crate) fn new() -> MadeUp {
        let machine = MadeUp {
            root: tempfile::tempdir().unwrap(),
            probe: Answers {
                is_root: true,
                is_synchronised: true,
                addresses: vec![
                    ("lo", [127, 0, 0, 1].into()),
                    ("eth0", [10, 0, 0, 1].into()),
                ],
                mtu: Some(1500),
                route: Ok(1500),
                small: Echo::Answered,
                large: Echo::Answered,
                ahead_ms: Some(0),
                claim: None,
            },
        };
        machine.file("/proc/sys/kernel/hostname", "alice\n");
        machine
    }

    pub(crate) fn machine(&self) -> Machine<'_> {
        Machine::new(self.root.path(), &self.probe)
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    pub(crate) fn size(&self, path: &str, bytes: u64) {
        fs::File::create(self.path(path))
            .unwrap()
            .set_len(bytes)
            .unwrap();
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        symlink(target, self.path(path)).unwrap();
    }

    pub(crate) fn program(&self, path: &str) {
        self.file(path, "#!/bin/sh\n");
        self.mode(path, 0o755);
    }

    pub(crate) fn no_program(&self, path: &str) {
        self.mode(path, 0o644);
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A block device.
    pub(crate) fn block(&self, name: &str, number: &str) {
        self.file(&format!("/dev/{name}"), "");
        self.file(&format!("/sys/class/block/{name}/dev"), number);
    }

    pub(crate) fn process(&self, pid: u32, name: &str) {
        self.file(&format!("/proc/{pid}/comm"), &format!("{name}\n"));
    }

    /// The one socket that listens, by an inode, and the process that has it.
    pub(crate) fn listener(&self, address: &str, inode: u64, owner: Option<(u32, &str)>) {
        let SocketAddr::V4(address) = address.parse().unwrap() else {
            panic!("{address} is not of IPv4");
        };
        let ip = address.ip().to_bits().to_be();
        let ip = if cfg!(target_endian = "little") {
            ip
        } else {
            ip.swap_bytes()
        };
        let line = format!(
            "   0: {ip:08X}:{:04X} 00000000:0000 0A 0:0 0:0 0 0 0 {inode} 1\n",
            address.port()
        );
        self.file("/proc/net/tcp", &format!("  sl  local_address\n{line}"));
        if let Some((pid, name)) = owner {
            self.process(pid, name);
            let link = self.path(&format!("/proc/{pid}/fd/3"));
            let _ = fs::remove_file(&link);
            symlink(format!("socket:[{inode}]"), link).unwrap();
        }
    }
}

/// A node with a resource `r0` on `/dev/sdb`.
pub(crate) struct Person {
    pub(crate) node: String,
    pub(crate) settings: Settings,
    pub(crate) settings_fault: Option<String>,
    pub(crate) daemon: Daemon,
    pub(crate) complaints: Vec<(Option<String>, String)>,
    pub(crate) disk: String,
    pub(crate) port: u16,
    config: Config,
}

impl Person {
    pub(crate) fn new() -> Person {
        let mut person = Person {
            node: "alice".to_owned(),
            settings: Settings::default(),
            settings_fault: None,
            daemon: Daemon::None,
            complaints: Vec::new(),
            disk: "/dev/sdb".to_owned(),
            port: 7789,
            config: rdb_config::load_str("none", "").unwrap().config,
        };
        person.configure("");
        person
    }

    /// Gives the resource these sections.
    pub(crate) fn configure(&mut self, sections: &str) {
        self.configure_all("", sections);
    }

    pub(crate) fn configure_all(&mut self, before: &str, sections: &str) {
        let (disk, port) = (&self.disk, self.port);
        let text = format!(
            "{before}\nresource r0 {{ {sections}\n device /dev/drbd0; disk {disk}; meta-disk internal;\n\
             on alice {{ address 10.0.0.1:{port}; }}\n on bob {{ address 10.0.0.2:{port}; }}\n}}\n"
        );
        self.config = rdb_config::load_str("made-up.conf", &text).unwrap().config;
    }

    /// A resource runs at alice's address, in process 77; or another beside it.
    pub(crate) fn runs(&mut self, name: &str, is_connected: bool) {
        let (connection, cstate) = match is_connected {
            true => ("WFReportParams", "Connected"),
            false => ("WFConnection", "WFConnection"),
        };
        let text = format!(
            r#"{{"node":"alice","resources":[{{"name":"{name}","connection":"{connection}","protocol":"C",
            "local":"10.0.0.1:{}","peer":"10.0.0.2:7789","epochs":0,"volumes":[{{"volume":0,"minor":0,
            "role":"Secondary","peer_role":"Unknown","cstate":"{cstate}","disk":"UpToDate","peer_disk":"DUnknown",
            "suspended":[],"resync_suspended":[],"flags":"r-----","device":null,"size_kib":8,"sent_kib":0,
            "received_kib":0,"written_kib":0,"read_kib":0,"al_writes":0,"bm_writes":0,"local_pending":0,
            "peer_pending":0,"unacked":0,"application_pending":0,"write_ordering":"f","al_suspended":false,
            "out_of_sync_kib":0,"no_space":null,"sync":null}}]}}]}}"#,
            self.port
        );
        let report: StatusReport = parse(&text);
        let pid = Some(77);
        self.daemon = Daemon::Runs { pid, report };
    }

    pub(crate) fn patient(&self) -> Patient<'_> {
        let resource = self.config.resource("r0").unwrap();
        Patient {
            node: &self.node,
            run_dir: Path::new("/run/rdb"),
            settings: self.settings.clone(),
            settings_fault: self.settings_fault.clone(),
            daemon: self.daemon.clone(),
            config: Some(&self.config),
            complaints: self.complaints.clone(),
            resources: vec![resource.for_host("alice").unwrap()],
        }
    }
}

fn parse(text: &str) -> StatusReport {
    serde_json::from_str(text).unwrap()
}
