//! A machine as the checks see it: files below a root directory, and what a probe says.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::probe::Probe;

/// The most that is read of a file, in bytes: far more than any of these has.
const FILE_MAX: u64 = 4 << 20;

/// A machine.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    root: &'a Path,
    probe: &'a dyn Probe,
}

/// Whether a module of the kernel can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Module {
    /// It is there.
    Loaded,
    /// `modprobe` would find it.
    Loadable,
    /// It is there, and this forbids to load it.
    Forbidden(String),
    /// The kernel does not have it.
    Absent,
}

impl<'a> Machine<'a> {
    /// The machine whose files are below `root`.
    pub fn new(root: &'a Path, probe: &'a dyn Probe) -> Machine<'a> {
        Machine { root, probe }
    }

    pub(crate) fn probe(&self) -> &'a dyn Probe {
        self.probe
    }

    /// Where a file of the machine is.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(crate) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).exists()
    }

    pub(crate) fn bytes(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let path = self.at(path);
        // Opening a pipe would wait for its other end.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn text(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let bytes = self.bytes(path)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file's text without blanks around it; nothing if it cannot be read.
    pub(crate) fn word(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = self.text(path).ok()?;
        Some(text.trim().to_owned())
    }

    pub(crate) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.word(path)?.parse().ok()
    }

    /// The names in a directory, sorted; none if it cannot be read.
    pub(crate) fn list(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub(crate) fn link(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        fs::read_link(self.at(path)).ok()
    }

    /// The path that all links on the way lead to.
    pub(crate) fn resolved(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let found = fs::canonicalize(self.at(path)).ok()?;
        let root = fs::canonicalize(self.root).ok()?;
        let below = found.strip_prefix(root).ok()?;
        Some(Path::new("/").join(below))
    }

    /// What `uname -r` prints.
    pub(crate) fn release(&self) -> String {
        self.word("/proc/sys/kernel/osrelease").unwrap_or_default()
    }

    /// The first two numbers of the kernel's version; nothing if it has none.
    pub(crate) fn kernel_version(&self) -> Option<(u32, u32)> {
        let release = self.release();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    pub(crate) fn module(&self, name: &str) -> Module {
        if self.exists(format!("/sys/module/{name}")) {
            return Module::Loaded;
        }
        let folder = Path::new("/lib/modules").join(self.release());
        let is_named = |path: &str| {
            let file = path.rsplit('/').next().unwrap_or_default();
            file.split('.').next() == Some(name)
        };
        let listed = |list: &str| {
            let text = self.text(folder.join(list)).unwrap_or_default();
            let mut paths = text.lines().filter_map(|line| line.split(':').next());
            paths.any(is_named)
        };
        if listed("modules.builtin") {
            return Module::Loaded;
        }
        if !listed("modules.dep") {
            return Module::Absent;
        }
        if self.number("/proc/sys/kernel/modules_disabled") == Some(1) {
            return Module::Forbidden("kernel.modules_disabled is 1".to_owned());
        }
        match self.forbidden_by(name) {
            Some(line) => Module::Forbidden(line),
            None => Module::Loadable,
        }
    }

    /// The line of `modprobe`'s configuration that has something else done than loading a module. (`blacklist` does not: it is for
    /// aliases alone.)
    fn forbidden_by(&self, name: &str) -> Option<String> {
        for folder in [
            "/etc/modprobe.d",
            "/run/modprobe.d",
            "/usr/lib/modprobe.d",
            "/lib/modprobe.d",
        ] {
            for file in self.list(folder) {
                let path = format!("{folder}/{file}");
                for line in self.text(&path).unwrap_or_default().lines() {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    if let ["install", module, program, ..] = words[..]
                        && module.replace('-', "_") == name
                        && matches!(
                            program.rsplit('/').next(),
                            Some("false" | "true" | "nologin")
                        )
                    {
                        return Some(format!("{path}: {}", line.trim()));
                    }
                }
            }
        }
        None
    }

    /// The processes, by number.
    fn processes(&self) -> Vec<u32> {
        let names = self.list("/proc");
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// The name of a process.
    pub(crate) fn process_name(&self, pid: u32) -> Option<String> {
        self.word(format!("/proc/{pid}/comm"))
    }

    /// The first process with this name, as `ps -o comm` has it.
    pub(crate) fn process(&self, name: &str) -> Option<u32> {
        let mut all = self.processes().into_iter();
        all.find(|pid| self.process_name(*pid).as_deref() == Some(name))
    }

    /// The words that a process was started with.
    pub(crate) fn arguments(&self, pid: u32) -> Vec<String> {
        self.strings(&format!("/proc/{pid}/cmdline"))
    }

    /// Its environment.
    pub(crate) fn environment(&self, pid: u32) -> Vec<String> {
        self.strings(&format!("/proc/{pid}/environ"))
    }

    /// Strings that end with a zero each.
    fn strings(&self, path: &str) -> Vec<String> {
        let bytes = self.bytes(path).unwrap_or_default();
        let words = bytes.split(|byte| *byte == 0).filter(|w| !w.is_empty());
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    /// The sockets that listen: their addresses, and the inodes by which processes have them.
    pub(crate) fn listeners(&self) -> Vec<(SocketAddr, u64)> {
        const LISTEN: &str = "0A";
        let mut all = Vec::new();
        for list in ["/proc/net/tcp", "/proc/net/tcp6"] {
            for line in self.text(list).unwrap_or_default().lines().skip(1) {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = words[..]
                    && let (Some(local), Ok(inode)) = (socket_address(local), inode.parse())
                {
                    all.push((local, inode));
                }
            }
        }
        all
    }

    /// Who has a socket. Nobody that can be seen: a process of somebody else's, or the kernel.
    pub(crate) fn owner_of_socket(&self, inode: u64) -> Option<u32> {
        let wanted = PathBuf::from(format!("socket:[{inode}]"));
        self.processes().into_iter().find(|pid| {
            let folder = format!("/proc/{pid}/fd");
            let mut descriptors = self.list(&folder).into_iter();
            descriptors.any(|fd| self.link(format!("{folder}/{fd}")).as_ref() == Some(&wanted))
        })
    }

    /// The name of a block device in `/sys/class/block`, whatever links lead to it; nothing if it is none.
    pub(crate) fn block_name(&self, device: &Path) -> Option<String> {
        let resolved = self.resolved(device)?;
        let name = resolved.strip_prefix("/dev").ok()?.to_str()?;
        let name = name.replace('/', "!");
        self.exists(format!("/sys/class/block/{name}"))
            .then_some(name)
    }
}

/// `0100007F:1E6D` of `/proc/net/tcp`: words of 32 bits in the machine's order, and the port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u32>> = (0..address.len() / 8)
        .map(|nr| u32::from_str_radix(address.get(nr * 8..nr * 8 + 8)?, 16).ok())
        .collect();
    // The kernel prints each word as a number of its own order; on a little-endian machine the first byte comes last.
    let bytes = |word: u32| match cfg!(target_endian = "little") {
        true => word.swap_bytes(),
        false => word,
    };
    let address = match words?[..] {
        [word] => IpAddr::V4(Ipv4Addr::from_bits(bytes(word))),
        [a, b, c, d] => {
            let high = (u128::from(bytes(a)) << 32) | u128::from(bytes(b));
            let low = (u128::from(bytes(c)) << 32) | u128::from(bytes(d));
            IpAddr::V6(Ipv6Addr::from_bits((high << 64) | low))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::MadeUp;

    #[test]
    fn modules_are_there_loadable_forbidden_or_absent() {
        let machine = MadeUp::new();
        machine.file("/proc/sys/kernel/osrelease", "6.12.5-amd64\n");
        machine.file("/sys/module/loop/initstate", "live\n");
        let lists = "/lib/modules/6.12.5-amd64";
        machine.file(
            &format!("{lists}/modules.builtin"),
            "kernel/fs/fuse/fuse.ko\n",
        );
        machine.file(
            &format!("{lists}/modules.dep"),
            "kernel/drivers/block/nbd.ko.xz:\nkernel/drivers/block/ublk_drv.ko: x.ko\n",
        );
        machine.file(
            "/etc/modprobe.d/hardening.conf",
            "# no\nblacklist nbd\ninstall ublk-drv /bin/false\n",
        );
        let seen = machine.machine();
        assert_eq!(seen.kernel_version(), Some((6, 12)));
        assert_eq!(seen.module("loop"), Module::Loaded);
        assert_eq!(seen.module("fuse"), Module::Loaded);
        assert_eq!(seen.module("nbd"), Module::Loadable);
        assert_eq!(seen.module("drbd"), Module::Absent);
        let line = "/etc/modprobe.d/hardening.conf: install ublk-drv /bin/false";
        assert_eq!(seen.module("ublk_drv"), Module::Forbidden(line.to_owned()));
        machine.file("/proc/sys/kernel/modules_disabled", "1\n");
        assert!(matches!(seen.module("nbd"), Module::Forbidden(_)));
    }

    #[test]
    fn sockets_that_listen_have_addresses_and_owners() {
        let machine = MadeUp::new();
        machine.listener("10.0.0.1:7789", 4711, Some((812, "nginx")));
        machine.file(
            "/proc/net/tcp6",
            "head\n 0: 0000000000000000FFFF00000100000A:1E6D 0:0 0A 0 0 0 0 0 99 1\n",
        );
        let seen = machine.machine();
        let address: SocketAddr = "10.0.0.1:7789".parse().unwrap();
        // One of IPv6 that stands for an address of IPv4 is told as that.
        assert_eq!(seen.listeners(), [(address, 4711), (address, 99)]);
        assert_eq!(seen.owner_of_socket(4711), Some(812));
        assert_eq!(seen.owner_of_socket(99), None);
        assert_eq!(seen.process("nginx"), Some(812));
        assert_eq!(
            socket_address("000080FE00000000FF005450B6AD1DFE:0050"),
            Some("[fe80::5054:ff:fe1d:adb6]:80".parse().unwrap())
        );
        for nonsense in ["", "0100007F", "0100007F:", "01:1", "é100007F:1E6D"] {
            assert_eq!(socket_address(nonsense), None, "{nonsense}");
        }
    }
}
