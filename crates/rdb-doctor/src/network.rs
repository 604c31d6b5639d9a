//! The addresses of a resource: ours, its port, the way to the peer, and the peer.
//!
//! Nobody is called at the resource's port: a daemon or a driver there would take who calls for its peer, and be kept from the right one for
//! a moment. A peer that is connected is there; of another one an echo is asked.

use rdb_config::ResolvedResource;

use crate::finding::Finding;
use crate::machine::Machine;
use crate::patient::Patient;
use crate::probe::{Echo, Interface};

const ADDRESS: &str = "address";
const PORT: &str = "port";
const EPHEMERAL: &str = "ephemeral-port";
const PATH: &str = "path-mtu";
const INTERFACE: &str = "mtu";
const PEER: &str = "peer";
const FIREWALL: &str = "firewall";

/// What every path carries in one piece: by IPv6's rules, and in practice by IPv4, too.
const MTU_MIN: u32 = 1280;
/// What Ethernet carries.
const MTU_USUAL: u32 = 1500;
/// A packet that every path carries, for asking whether somebody is there.
const SMALL: u32 = 96;

pub(crate) fn check(
    machine: &Machine<'_>,
    patient: &Patient<'_>,
    resource: &ResolvedResource,
) -> Vec<Finding> {
    let (own, peer) = (resource.me.address, resource.peer.address);
    if own.ip().is_unspecified() {
        return Vec::new();
    }
    let (address, interface) = address(machine, patient, resource);
    let mut all = vec![address, port(machine, patient, resource)];
    all.extend(ephemeral(machine, resource));
    if let Some(interface) = interface {
        all.push(mtu_of(&interface));
        if !peer.ip().is_unspecified() {
            all.extend(way(machine, patient, resource, &interface));
        }
    }
    if !patient.is_connected(&resource.name) {
        all.extend(firewall(machine, resource));
    }
    all.into_iter()
        .map(|found| found.about(&resource.name))
        .collect()
}

/// Whether the resource's address is this machine's; and the interface that has it.
fn address(
    machine: &Machine<'_>,
    patient: &Patient<'_>,
    resource: &ResolvedResource,
) -> (Finding, Option<Interface>) {
    let own = resource.me.address.ip();
    let all = match machine.probe().addresses() {
        Ok(all) => all,
        Err(error) => {
            let found = Finding::note(
                ADDRESS,
                format!("this machine's addresses are not known: {error}"),
            );
            return (found, None);
        }
    };
    if let Some(interface) = all.iter().find(|interface| interface.address == own) {
        let found = Finding::ok(ADDRESS, format!("{own} is on {}", interface.name));
        return (found, Some(interface.clone()));
    }
    let others = all.iter().filter(|i| !i.address.is_loopback());
    let others: Vec<String> = others
        .map(|i| format!("{} ({})", i.address, i.name))
        .collect();
    let seen = format!(
        "{own} is no address of this machine; it has {}",
        match others.is_empty() {
            true => "none but the loopback's".to_owned(),
            false => others.join(", "),
        }
    );
    let config = patient.config;
    let may_come = config.is_some_and(|config| config.global.options.disable_ip_verification);
    let found = if may_come {
        Finding::note(ADDRESS, seen)
            .why("the resource waits until the address is here; disable-ip-verification says that this is meant")
    } else {
        Finding::problem(ADDRESS, seen)
            .why("the node can neither listen there nor call from there: 'up' and 'adjust' refuse")
            .advice(format!(
                "mend 'address' in the section for {}, or give the address to an interface",
                resource.me.name
            ))
    };
    (found, None)
}

fn port(machine: &Machine<'_>, patient: &Patient<'_>, resource: &ResolvedResource) -> Finding {
    let own = resource.me.address;
    let report = patient.report(&resource.name);
    let is_ours = report.is_some_and(|r| r.local == Some(own));
    let listens = machine.listeners().into_iter().filter(|(address, _)| {
        address.port() == own.port() && (address.ip() == own.ip() || address.ip().is_unspecified())
    });
    let mut listens = listens.collect::<Vec<_>>().into_iter();
    let Some((address, inode)) = listens.next() else {
        return Finding::ok(
            PORT,
            match is_ours {
                true => format!("{own} is the resource's"),
                false => format!("{own} is free"),
            },
        );
    };
    let owner = machine.owner_of_socket(inode);
    if (owner.is_some() && owner == patient.pid()) || (owner.is_none() && is_ours) {
        return Finding::ok(PORT, format!("{own}: rdbd listens"));
    }
    let who = match owner {
        Some(pid) => {
            let name = machine.process_name(pid).unwrap_or_default();
            format!("process {pid} ({name}) listens at {address}")
        }
        None if machine.probe().is_root() => {
            format!("the kernel, or a process that cannot be seen from here, listens at {address}")
        }
        // It may well be the daemon, which does not tell this user.
        None => {
            return Finding::note(
                PORT,
                format!("somebody listens at {address}; who it is only root can see"),
            );
        }
    };
    Finding::problem(PORT, who)
        .why("the daemon cannot listen there, and 'connect' is refused")
        .advice("end that program, or give the resource another port on both nodes")
        .command(format!("ss -ltnp 'sport = :{}'", own.port()))
}

/// Whether the port may be taken by an outgoing connection of anybody's.
fn ephemeral(machine: &Machine<'_>, resource: &ResolvedResource) -> Option<Finding> {
    let port = u64::from(resource.me.address.port());
    let range = machine.word("/proc/sys/net/ipv4/ip_local_port_range")?;
    let numbers: Vec<u64> = range
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let [first, last] = numbers[..] else {
        return None;
    };
    if !(first..=last).contains(&port) {
        return Some(Finding::ok(
            EPHEMERAL,
            format!("{port} is not given to outgoing connections"),
        ));
    }
    let reserved = machine
        .word("/proc/sys/net/ipv4/ip_local_reserved_ports")
        .unwrap_or_default();
    let is_reserved = reserved.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let numbers = (first.trim().parse::<u64>(), last.trim().parse::<u64>());
        matches!(numbers, (Ok(first), Ok(last)) if (first..=last).contains(&port))
    });
    Some(match is_reserved {
        true => Finding::ok(EPHEMERAL, format!("{port} is reserved")),
        false => Finding::warning(
            EPHEMERAL,
            format!("{port} is among the ports {first} to {last}, which outgoing connections get"),
        )
        .why(
            "after a restart some program's connection may have it, and the resource cannot listen",
        )
        .advice("reserve it, and keep that in /etc/sysctl.d; or take a port below that range")
        .command(match reserved.is_empty() {
            true => format!("sysctl -w net.ipv4.ip_local_reserved_ports={port}"),
            false => format!("sysctl -w net.ipv4.ip_local_reserved_ports={reserved},{port}"),
        }),
    })
}

fn mtu_of(interface: &Interface) -> Finding {
    let name = &interface.name;
    match interface.mtu {
        None => Finding::note(INTERFACE, format!("that of {name} is not known")),
        Some(mtu) if !interface.address.is_loopback() && mtu < MTU_MIN => {
            let word = rdb_control::shell_word(name);
            Finding::warning(INTERFACE, format!("{name} carries {mtu} bytes in a packet"))
                .why("most of what is mirrored is headers then")
                .advice(format!("give it {MTU_USUAL}, if the line carries that"))
                .command(format!("ip link set dev {word} mtu {MTU_USUAL}"))
        }
        Some(mtu) => Finding::ok(INTERFACE, format!("{name} carries {mtu} bytes in a packet")),
    }
}

/// The peer, and what the path to it carries in one piece.
fn way(
    machine: &Machine<'_>,
    patient: &Patient<'_>,
    resource: &ResolvedResource,
    interface: &Interface,
) -> Vec<Finding> {
    let (from, to) = (resource.me.address.ip(), resource.peer.address.ip());
    let is_connected = patient.is_connected(&resource.name);
    let mtu = match machine.probe().route_mtu(from, to) {
        Ok(mtu) => mtu,
        Err(error) => {
            let found = Finding::problem(
                PEER,
                format!("there is no way from {from} to {to}: {error}"),
            )
            .why("the nodes cannot connect")
            .advice("see the routes")
            .command(format!("ip route get {to} from {from}"));
            return vec![found];
        }
    };
    let small = machine.probe().echo(from, to, SMALL);
    let peer = match (&small, is_connected) {
        (_, true) => Finding::ok(PEER, format!("{to} is connected")),
        (Echo::Answered, false) => Finding::ok(PEER, format!("{to} answers to ping")),
        (Echo::Silent | Echo::TooLarge, false) => {
            Finding::warning(PEER, format!("{to} does not answer to ping"))
                .why("it is off or cut off, or a firewall drops such packets")
                .advice("look at it there; the port itself is not called, to disturb nobody")
                .command(format!("ping -c 3 -I {from} {to}"))
        }
        (Echo::Impossible(reason), false) => Finding::note(
            PEER,
            format!("whether {to} is there was not looked at: {reason}"),
        ),
    };
    vec![peer, path(machine, resource, interface, mtu, &small)]
}

fn path(
    machine: &Machine<'_>,
    resource: &ResolvedResource,
    interface: &Interface,
    mtu: u32,
    small: &Echo,
) -> Finding {
    let (from, to) = (resource.me.address.ip(), resource.peer.address.ip());
    if *small != Echo::Answered {
        return Finding::note(
            PATH,
            format!(
                "the kernel would send {mtu} bytes in a packet to {to}; whether they arrive is not known"
            ),
        );
    }
    let own = interface.mtu;
    match machine.probe().echo(from, to, mtu) {
        Echo::Answered => Finding::ok(PATH, format!("packets of {mtu} bytes come to {to} and back")),
        Echo::TooLarge => Finding::note(
            PATH,
            format!("packets of {mtu} bytes are too large for the path to {to}, and the kernel is told so"),
        )
        .why("the path carries less than its first line; connections find that out by themselves, as long as routers say so"),
        Echo::Silent => Finding::problem(
            PATH,
            format!("{to} answers to small packets, and not to those of {mtu} bytes"),
        )
        .why("the nodes would connect, and hang with the first block that is mirrored: the peer or a switch has a smaller MTU, or a firewall drops what tells of it")
        .advice(format!(
            "give both interfaces and what is between them the same MTU ({} has {})",
            interface.name,
            own.map_or_else(|| "another".to_owned(), |own| own.to_string())
        ))
        .command(format!("ping -c 3 -M do -s {} {to}", mtu.saturating_sub(if to.is_ipv4() { 28 } else { 48 }))),
        Echo::Impossible(reason) => Finding::note(PATH, format!("packets of {mtu} bytes could not be tried: {reason}")),
    }
}

/// What of a firewall can be seen: that one of the usual ones runs, and whether its files name the port.
fn firewall(machine: &Machine<'_>, resource: &ResolvedResource) -> Option<Finding> {
    let (port, peer) = (resource.me.address.port(), resource.peer.address.ip());
    let why = "both nodes call each other, and each has to let the other one in";
    let is_enabled = |text: String| {
        text.lines()
            .any(|line| line.trim().eq_ignore_ascii_case("enabled=yes"))
    };
    if machine.text("/etc/ufw/ufw.conf").is_ok_and(is_enabled) {
        let rules = ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"];
        return Some(match names_port(machine, &rules, port) {
            true => Finding::ok(FIREWALL, format!("ufw has a rule for port {port}")),
            false => Finding::note(
                FIREWALL,
                format!("ufw is on, and no rule of it that can be read names port {port}"),
            )
            .why(why)
            .advice("let the peer in")
            .command(format!(
                "ufw allow proto tcp from {peer} to any port {port}"
            )),
        });
    }
    if machine.process("firewalld").is_some() {
        let zones = machine.list("/etc/firewalld/zones");
        let zones: Vec<String> = zones
            .iter()
            .map(|zone| format!("/etc/firewalld/zones/{zone}"))
            .collect();
        let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
        return Some(match names_port(machine, &zones, port) {
            true => Finding::ok(FIREWALL, format!("a zone of firewalld names port {port}")),
            false => Finding::note(
                FIREWALL,
                format!("firewalld runs, and no zone of it that can be read names port {port}"),
            )
            .why(why)
            .advice("let the peer in, and reload")
            .command(format!(
                "firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload"
            )),
        });
    }
    let filters = |path: &str| {
        machine
            .word(path)
            .is_some_and(|text| text.lines().any(|line| line == "filter"))
    };
    if filters("/proc/net/ip_tables_names")
        || filters("/proc/net/ip6_tables_names")
        || machine.exists("/sys/module/nf_tables")
    {
        return Some(
            Finding::note(
                FIREWALL,
                format!(
                    "the kernel filters packets; by which rules cannot be seen here (port {port})"
                ),
            )
            .why(why)
            .advice("look whether the port is open to the peer")
            .command("nft list ruleset; iptables -S"),
        );
    }
    Some(Finding::ok(FIREWALL, "none that can be seen"))
}

/// Whether one of these files has the port as a number of its own, or in a range.
fn names_port(machine: &Machine<'_>, files: &[&str], port: u16) -> bool {
    let has = |text: String| {
        let is_part = |c: char| c.is_ascii_digit() || c == '-' || c == ':';
        text.split(|c: char| !is_part(c)).any(|word| {
            let (first, last) = word.split_once(['-', ':']).unwrap_or((word, word));
            let numbers = (first.parse::<u16>(), last.parse::<u16>());
            matches!(numbers, (Ok(first), Ok(last)) if (first..=last).contains(&port))
        })
    };
    files.iter().any(|file| machine.text(file).is_ok_and(has))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::made_up::{MadeUp, Person};

    fn one(machine: &MadeUp, person: &Person, name: &str) -> Finding {
        let patient = person.patient();
        let all = check(&machine.machine(), &patient, &patient.resources[0]);
        let mut of = all.into_iter().filter(|found| found.check == name);
        let found = of.next().unwrap_or_else(|| panic!("no finding of {name}"));
        assert_eq!(found.about.as_deref(), Some("r0"));
        found
    }

    #[test]
    fn an_address_has_to_be_this_machines() {
        let (mut machine, mut person) = (MadeUp::new(), Person::new());
        let found = one(&machine, &person, ADDRESS);
        assert_eq!(found.seen, "10.0.0.1 is on eth0");
        machine.probe.addresses = vec![("eth0", "10.0.0.9".parse().unwrap())];
        let found = one(&machine, &person, ADDRESS);
        assert_eq!(found.severity, Severity::Problem);
        assert!(found.seen.ends_with("it has 10.0.0.9 (eth0)"), "{found:?}");
        person.configure_all("global { disable-ip-verification; }", "");
        assert_eq!(one(&machine, &person, ADDRESS).severity, Severity::Note);
    }

    #[test]
    fn a_port_is_free_ours_or_anothers() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        assert_eq!(one(&machine, &person, PORT).severity, Severity::Ok);
        for address in ["10.0.0.2:7789", "10.0.0.1:7790"] {
            machine.listener(address, 1, Some((812, "nginx")));
            assert_eq!(
                one(&machine, &person, PORT).severity,
                Severity::Ok,
                "{address}"
            );
        }
        for address in ["10.0.0.1:7789", "0.0.0.0:7789"] {
            machine.listener(address, 2, Some((812, "nginx")));
            let found = one(&machine, &person, PORT);
            assert_eq!(found.severity, Severity::Problem, "{address}");
            assert!(found.seen.contains("812 (nginx)"), "{found:?}");
        }
        machine.listener("10.0.0.1:7789", 3, None);
        let of_nobody = one(&machine, &person, PORT).severity;
        assert_eq!(of_nobody, Severity::Problem, "root sees whose a socket is");
        // The daemon is that of process 77.
        person.runs("r0", false);
        machine.listener("10.0.0.1:7789", 4, Some((77, "rdbd")));
        assert_eq!(one(&machine, &person, PORT).severity, Severity::Ok);
        machine.listener("10.0.0.1:7789", 5, Some((78, "rdbd")));
        assert_eq!(one(&machine, &person, PORT).severity, Severity::Problem);
    }

    #[test]
    fn who_cannot_see_whose_a_socket_is_is_told_of_no_problem() {
        let (mut machine, person) = (MadeUp::new(), Person::new());
        machine.probe.is_root = false;
        machine.listener("10.0.0.1:7789", 3, None);
        assert_eq!(one(&machine, &person, PORT).severity, Severity::Note);
    }

    #[test]
    fn a_port_that_anybodys_connection_may_get_is_warned_of() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        machine.file("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
        assert_eq!(one(&machine, &person, EPHEMERAL).severity, Severity::Ok);
        person.port = 40_000;
        person.configure("");
        assert_eq!(
            one(&machine, &person, EPHEMERAL).severity,
            Severity::Warning
        );
        machine.file(
            "/proc/sys/net/ipv4/ip_local_reserved_ports",
            "80,39000-41000\n",
        );
        assert_eq!(one(&machine, &person, EPHEMERAL).severity, Severity::Ok);
        machine.file("/proc/sys/net/ipv4/ip_local_reserved_ports", "80\n");
        let command = one(&machine, &person, EPHEMERAL).command.unwrap();
        assert!(command.ends_with("ports=80,40000"), "{command}");
    }

    #[test]
    fn large_packets_that_vanish_are_a_problem() {
        let (mut machine, person) = (MadeUp::new(), Person::new());
        assert_eq!(one(&machine, &person, PATH).severity, Severity::Ok);
        assert_eq!(one(&machine, &person, PEER).severity, Severity::Ok);
        machine.probe.large = Echo::Silent;
        let found = one(&machine, &person, PATH);
        assert_eq!(found.severity, Severity::Problem);
        assert_eq!(found.command.unwrap(), "ping -c 3 -M do -s 1472 10.0.0.2");
        machine.probe.large = Echo::TooLarge;
        assert_eq!(one(&machine, &person, PATH).severity, Severity::Note);
    }

    #[test]
    fn a_peer_that_does_not_answer_is_warned_of_unless_it_is_connected() {
        let (mut machine, mut person) = (MadeUp::new(), Person::new());
        machine.probe.small = Echo::Silent;
        assert_eq!(one(&machine, &person, PEER).severity, Severity::Warning);
        assert_eq!(one(&machine, &person, PATH).severity, Severity::Note);
        person.runs("r0", true);
        assert_eq!(one(&machine, &person, PEER).severity, Severity::Ok);
        person.runs("r0", false);
        machine.probe.small = Echo::Impossible("only root may".to_owned());
        assert_eq!(one(&machine, &person, PEER).severity, Severity::Note);
        machine.probe.route = Err("Network is unreachable".to_owned());
        assert_eq!(one(&machine, &person, PEER).severity, Severity::Problem);
    }

    #[test]
    fn a_small_mtu_is_warned_of() {
        let (mut machine, person) = (MadeUp::new(), Person::new());
        assert_eq!(one(&machine, &person, INTERFACE).severity, Severity::Ok);
        machine.probe.mtu = Some(576);
        assert_eq!(
            one(&machine, &person, INTERFACE).severity,
            Severity::Warning
        );
        machine.probe.mtu = None;
        assert_eq!(one(&machine, &person, INTERFACE).severity, Severity::Note);
    }

    #[test]
    fn firewalls_that_can_be_seen_are_told_with_the_command_that_opens_them() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        let severity = |machine: &MadeUp, person: &Person| one(machine, person, FIREWALL).severity;
        assert_eq!(severity(&machine, &person), Severity::Ok);
        machine.file("/sys/module/nf_tables/refcnt", "9\n");
        assert_eq!(severity(&machine, &person), Severity::Note);
        machine.process(6, "firewalld");
        let found = one(&machine, &person, FIREWALL);
        assert!(found.command.unwrap().contains("--add-port=7789/tcp"));
        machine.file(
            "/etc/firewalld/zones/public.xml",
            "<port protocol=\"tcp\" port=\"7788-7799\"/>",
        );
        assert_eq!(severity(&machine, &person), Severity::Ok);
        machine.file("/etc/ufw/ufw.conf", "ENABLED=yes\n");
        let found = one(&machine, &person, FIREWALL);
        assert_eq!(
            found.command.unwrap(),
            "ufw allow proto tcp from 10.0.0.2 to any port 7789"
        );
        machine.file(
            "/etc/ufw/user.rules",
            "-A ufw-user-input -p tcp --dport 7789 -j ACCEPT\n",
        );
        assert_eq!(severity(&machine, &person), Severity::Ok);
        person.runs("r0", true);
        let patient = person.patient();
        let all = check(&machine.machine(), &patient, &patient.resources[0]);
        assert!(
            all.iter().all(|found| found.check != FIREWALL),
            "it is through"
        );
    }
}
