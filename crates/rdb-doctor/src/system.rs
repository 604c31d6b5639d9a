//! The machine that this runs on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::probe::{Clock, Echo, Interface, Probe};

/// How long an answer is waited for, and how often it is asked for.
const ANSWER: Duration = Duration::from_secs(1);
const TRIES: u16 = 2;
/// Milliseconds of a day: an ICMP timestamp counts from midnight.
const DAY_MS: i64 = 86_400_000;

/// Types of ICMP messages, by the address' family.
const ECHO_REQUEST: [u8; 2] = [8, 128];
const ECHO_REPLY: [u8; 2] = [0, 129];
const TIMESTAMP_REQUEST: u8 = 13;
const TIMESTAMP_REPLY: u8 = 14;

/// The machine that this runs on.
#[derive(Debug, Default)]
pub struct System {
    /// What became of echoes: resources that share a way ask once.
    echoes: RefCell<HashMap<(IpAddr, IpAddr, u32), Echo>>,
}

impl Probe for System {
    fn is_root(&self) -> bool {
        // SAFETY: it takes nothing and cannot fail.
        unsafe { libc::geteuid() == 0 }
    }

    fn clock(&self) -> io::Result<Clock> {
        // SAFETY: all of its fields are numbers, for which zero is a value.
        let mut timex: libc::timex = unsafe { mem::zeroed() };
        // SAFETY: the structure is ours; with no `modes` nothing is changed.
        let state = unsafe { libc::adjtimex(&raw mut timex) };
        if state < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Clock {
            is_synchronised: timex.status & libc::STA_UNSYNC == 0,
        })
    }

    fn addresses(&self) -> io::Result<Vec<Interface>> {
        // Not by `/sys`, which may be that of another network namespace.
        let asking = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok();
        let mut first = std::ptr::null_mut();
        // SAFETY: it writes a list that is ours until it is freed.
        if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut all = Vec::new();
        let mut next = first;
        while !next.is_null() {
            // SAFETY: it is an entry of the list.
            let entry = unsafe { &*next };
            if let Some(address) = ip_of(entry.ifa_addr) {
                // SAFETY: the name of an entry is a string that ends with a zero.
                let name = unsafe { CStr::from_ptr(entry.ifa_name) };
                all.push(Interface {
                    name: name.to_string_lossy().into_owned(),
                    address,
                    mtu: asking.as_ref().and_then(|socket| mtu_of(socket, name)),
                });
            }
            next = entry.ifa_next;
        }
        // SAFETY: it is the list from above; nothing of it is used any more.
        unsafe { libc::freeifaddrs(first) };
        Ok(all)
    }

    fn route_mtu(&self, from: IpAddr, to: IpAddr) -> io::Result<u32> {
        // To "connect" a UDP socket finds the way, and sends nothing.
        let socket = UdpSocket::bind((from, 0))?;
        dont_cut(&socket, to)?;
        socket.connect((to, 9))?;
        let option = match to {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        let (mut mtu, mut length) = (0_i32, mem::size_of::<i32>() as libc::socklen_t);
        // SAFETY: the socket is open, and the value and its length are ours.
        let got = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                option.0,
                option.1,
                (&raw mut mtu).cast(),
                &raw mut length,
            )
        };
        match got {
            0 => Ok(mtu.unsigned_abs()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn echo(&self, from: IpAddr, to: IpAddr, bytes: u32) -> Echo {
        let mut known = self.echoes.borrow_mut();
        let echo = known.entry((from, to, bytes));
        echo.or_insert_with(|| ask_for_echo(from, to, bytes))
            .clone()
    }

    fn clock_ahead_ms(&self, from: IpAddr, to: IpAddr) -> io::Result<i64> {
        if to.is_ipv6() {
            return Err(io::Error::other(
                "IPv6 has no message that asks for the time",
            ));
        }
        let socket = Icmp::open(from, to, false).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => io::Error::other("only root may ask for it"),
            _ => error,
        })?;
        let mut message = vec![0; 20];
        message[0] = TIMESTAMP_REQUEST;
        let sent = now_ms();
        message[8..12].copy_from_slice(&u32::try_from(sent).unwrap_or(0).to_be_bytes());
        let answer = socket.ask(&mut message, 1, TIMESTAMP_REPLY)?;
        let got = now_ms();
        let answer = answer.ok_or_else(|| io::Error::other("it does not answer"))?;
        let at = |from: usize| {
            let bytes = answer
                .get(from..from + 4)
                .and_then(|bytes| bytes.try_into().ok());
            bytes
                .map(u32::from_be_bytes)
                .filter(|time| i64::from(*time) < DAY_MS)
        };
        match (at(12), at(16)) {
            (Some(received), Some(answered)) => {
                Ok(ahead(sent, i64::from(received), i64::from(answered), got))
            }
            _ => Err(io::Error::other("it answers with no time of the day")),
        }
    }

    fn claim(&self, disk: &Path) -> io::Result<()> {
        let kind = std::fs::metadata(disk)?.file_type();
        if !kind.is_block_device() {
            return Ok(());
        }
        std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(disk)
            .map(drop)
    }
}

/// See [`Probe::echo`].
fn ask_for_echo(from: IpAddr, to: IpAddr, bytes: u32) -> Echo {
    let headers = if to.is_ipv4() { 20 } else { 40 };
    let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(65_535);
    let Some(length) = length.checked_sub(headers).filter(|length| *length >= 8) else {
        return Echo::Impossible(format!("{bytes} bytes are too few for a packet"));
    };
    let family = usize::from(to.is_ipv6());
    let socket = match Icmp::open(from, to, true) {
        Ok(socket) => socket,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Echo::Impossible("only root may ask for an echo here".to_owned());
        }
        Err(error) => return Echo::Impossible(error.to_string()),
    };
    for number in 1..=TRIES {
        let mut message = vec![0; length];
        message[0] = ECHO_REQUEST[family];
        match socket.ask(&mut message, number, ECHO_REPLY[family]) {
            Ok(Some(_)) => return Echo::Answered,
            Ok(None) => {}
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                return Echo::TooLarge;
            }
            Err(error) => return Echo::Impossible(error.to_string()),
        }
    }
    Echo::Silent
}

/// By how much a clock is ahead: the middle of its two times against the middle of ours; midnight may lie between them.
fn ahead(sent: i64, received: i64, answered: i64, got: i64) -> i64 {
    let twice = (received - sent) + (answered - got);
    let ahead = (twice / 2).rem_euclid(DAY_MS);
    if ahead > DAY_MS / 2 {
        ahead - DAY_MS
    } else {
        ahead
    }
}

/// Milliseconds since midnight, UTC.
fn now_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis() % DAY_MS.unsigned_abs() as u128).unwrap_or(0)
}

/// The MTU of an interface of the network namespace that the socket is in.
fn mtu_of(socket: &UdpSocket, name: &CStr) -> Option<u32> {
    // SAFETY: all zeroes are a value of it.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let place = request.ifr_name.iter_mut();
    // (The last byte stays zero.)
    for (to, from) in place.zip(name.to_bytes().iter().take(libc::IFNAMSIZ - 1)) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the socket is open, and the request, which is ours, has a name that ends with a zero.
    let asked = unsafe {
        // (musl has another type for it.)
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFMTU as libc::Ioctl,
            &raw mut request,
        )
    };
    // SAFETY: after this question the kernel has written a number there; before it there were zeroes.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    (asked == 0).then(|| mtu.unsigned_abs())
}

fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: every address begins with its family.
    let family = i32::from(unsafe { (*address).sa_family });
    match family {
        libc::AF_INET => {
            // SAFETY: an address of this family is such a structure; it may lie anywhere.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::V4(u32::from_be(address.sin_addr.s_addr).into()))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::V6(address.sin6_addr.s6_addr.into()))
        }
        _ => None,
    }
}

/// Has the kernel send packets in one piece or not at all.
fn dont_cut(socket: &impl AsRawFd, to: IpAddr) -> io::Result<()> {
    let (level, option, value) = match to {
        IpAddr::V4(_) => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DO,
        ),
        IpAddr::V6(_) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DO,
        ),
    };
    set(socket, level, option, &value)
}

fn set<T>(socket: &impl AsRawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the socket is open, and the value is as long as is said.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A socket for ICMP messages to one address.
struct Icmp {
    socket: UdpSocket,
    /// Messages come with the header of IPv4 before them, and everybody's.
    is_raw: bool,
    is_ipv4: bool,
    id: u16,
}

impl Icmp {
    /// The kernel's own for echoes, which some users may have; else a raw one, which root may.
    fn open(from: IpAddr, to: IpAddr, is_echo: bool) -> io::Result<Icmp> {
        let (family, protocol) = match to {
            IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP),
            IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
        };
        let open = |kind: i32| -> io::Result<UdpSocket> {
            // SAFETY: it takes numbers; what it returns is looked at.
            let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: it is open, and nobody else's. (`UdpSocket` is used for any socket of datagrams.)
            Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
        };
        let by_kernel = is_echo.then(|| open(libc::SOCK_DGRAM));
        let (socket, is_raw) = match by_kernel {
            Some(Ok(socket)) => (socket, false),
            _ => (open(libc::SOCK_RAW)?, true),
        };
        dont_cut(&socket, to)?;
        bind(&socket, from)?;
        socket.connect(SocketAddr::new(to, 0))?;
        Ok(Icmp {
            socket,
            is_raw,
            is_ipv4: to.is_ipv4(),
            id: (std::process::id() & 0xFFFF) as u16,
        })
    }

    /// Sends a message and waits for its answer; `None` if none comes.
    fn ask(&self, message: &mut [u8], number: u16, wanted: u8) -> io::Result<Option<Vec<u8>>> {
        message[4..6].copy_from_slice(&self.id.to_be_bytes());
        message[6..8].copy_from_slice(&number.to_be_bytes());
        // (That of IPv6, which is over addresses too, the kernel makes.)
        let sum = checksum(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.socket.send(message)?;
        let until = Instant::now() + ANSWER;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let read = match self.socket.recv(&mut buffer) {
                Ok(read) => read,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                // What the network says of an earlier packet: that it was too large, or that nobody is there.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Err(error),
                Err(_) => return Ok(None),
            };
            let mut answer = &buffer[..read];
            if self.is_raw && self.is_ipv4 {
                let header = usize::from(answer.first().copied().unwrap_or(0) & 0xF) * 4;
                answer = answer.get(header..).unwrap_or_default();
            }
            let is_ours = !self.is_raw || answer.get(4..6) == Some(&self.id.to_be_bytes()[..]);
            if answer.first() == Some(&wanted)
                && is_ours
                && answer.get(6..8) == Some(&number.to_be_bytes()[..])
            {
                return Ok(Some(answer.to_vec()));
            }
        }
    }
}

fn bind(socket: &UdpSocket, from: IpAddr) -> io::Result<()> {
    let mut storage = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let length = match from {
        IpAddr::V4(ip) => {
            // SAFETY: all zeroes are a value of it.
            let mut address: libc::sockaddr_in = unsafe { mem::zeroed() };
            address.sin_family = libc::AF_INET as libc::sa_family_t;
            address.sin_addr.s_addr = ip.to_bits().to_be();
            // SAFETY: the storage is larger, and ours.
            unsafe {
                storage
                    .as_mut_ptr()
                    .cast::<libc::sockaddr_in>()
                    .write(address)
            };
            mem::size_of::<libc::sockaddr_in>()
        }
        IpAddr::V6(ip) => {
            // SAFETY: all zeroes are a value of it.
            let mut address: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            address.sin6_addr.s6_addr = ip.octets();
            storage.write(address);
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: the socket is open, and so many bytes of the storage are an address.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            storage.as_ptr().cast(),
            length as libc::socklen_t,
        )
    };
    match bound {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The internet checksum of a message whose own field is zero.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_and_a_way_to_it() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let system = System::default();
        let all = system.addresses().unwrap();
        assert!(
            all.iter()
                .any(|i| i.name == "lo" && i.address == here && i.mtu >= Some(1280)),
            "{all:?}"
        );
        assert!(system.route_mtu(here, here).unwrap() >= 1280);
        system.clock().unwrap();
        let echo = system.echo(here, here, 96);
        assert!(
            matches!(echo, Echo::Answered | Echo::Impossible(_)),
            "{echo:?}"
        );
        assert!(matches!(system.echo(here, here, 20), Echo::Impossible(_)));
        if system.is_root() {
            assert_eq!(system.echo(here, here, 1500), Echo::Answered);
            assert_eq!(system.clock_ahead_ms(here, here).unwrap().abs() / 1000, 0);
        }
    }

    #[test]
    fn clocks_are_compared_across_midnight() {
        assert_eq!(ahead(1000, 1500, 1600, 1100), 500);
        assert_eq!(ahead(DAY_MS - 10, 40, 40, DAY_MS - 10), 50);
        assert_eq!(ahead(40, DAY_MS - 10, DAY_MS - 10, 40), -50);
        assert_eq!(ahead(0, 10, 10, 20), 0);
    }

    #[test]
    fn checksums_are_the_internets() {
        assert_eq!(checksum(&[8, 0, 0, 0, 0x12, 0x34, 0, 1]), 0xE5CA);
        assert_eq!(checksum(&[0xFF, 0xFF, 0xFF]), 0x00FF);
    }
}
