//! The clock, and how far the peer's is from it.

use crate::finding::Finding;
use crate::machine::Machine;
use crate::patient::Patient;

const CLOCK: &str = "clock";
const PEER_CLOCK: &str = "peer-clock";
/// The time services that there are, as `ps -o comm` has them.
const SERVICES: [&str; 5] = ["chronyd", "ntpd", "systemd-timesyn", "openntpd", "ptp4l"];
/// A difference that lets two histories be read side by side.
const AHEAD_MAX_MS: i64 = 2000;

pub(crate) fn check(machine: &Machine<'_>, patient: &Patient<'_>) -> Vec<Finding> {
    let mut all = vec![own(machine)];
    let mut asked = Vec::new();
    for resource in &patient.resources {
        let ends = (resource.me.address.ip(), resource.peer.address.ip());
        if !asked.contains(&ends) && !ends.1.is_unspecified() {
            asked.push(ends);
            let name = resource.peer.names.first();
            let name = name.map_or_else(|| ends.1.to_string(), Clone::clone);
            all.push(of_peer(machine, &name, ends));
        }
    }
    all
}

const WHY: &str = "histories, logs and what each node has written apart are compared by their times; one that is off misleads";

fn own(machine: &Machine<'_>) -> Finding {
    match machine.probe().clock() {
        Err(error) => Finding::note(CLOCK, format!("the system does not say: {error}")),
        Ok(clock) if clock.is_synchronised => Finding::ok(CLOCK, "it is synchronised"),
        Ok(_) => {
            let service = SERVICES.iter().find(|name| machine.process(name).is_some());
            match service {
                Some(service) => Finding::note(
                    CLOCK,
                    format!("it is not synchronised yet, and {service} runs"),
                )
                .why(WHY)
                .advice("see whether it reaches its servers")
                .command("timedatectl timesync-status"),
                None => Finding::warning(CLOCK, "it is not synchronised")
                    .why(WHY)
                    .advice("install a time service (systemd-timesyncd, chrony) on both nodes, and start it")
                    .command("timedatectl set-ntp true"),
            }
        }
    }
}

fn of_peer(
    machine: &Machine<'_>,
    name: &str,
    ends: (std::net::IpAddr, std::net::IpAddr),
) -> Finding {
    match machine.probe().clock_ahead_ms(ends.0, ends.1) {
        Err(error) => Finding::note(PEER_CLOCK, format!("that of {name} is not known: {error}"))
            .advice("compare what both nodes say")
            .command("date -u +%FT%T.%N"),
        Ok(ahead) if ahead.abs() <= AHEAD_MAX_MS => Finding::ok(
            PEER_CLOCK,
            format!("that of {name} is within {} ms", ahead.abs()),
        ),
        Ok(ahead) => {
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            Finding::warning(
                PEER_CLOCK,
                format!("that of {name} is {} ms {side} this one", ahead.abs()),
            )
            .why(WHY)
            .advice("have a time service keep both")
            .command("timedatectl set-ntp true")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::made_up::{MadeUp, Person};

    #[test]
    fn a_clock_that_nobody_keeps_is_warned_of() {
        let mut machine = MadeUp::new();
        assert_eq!(own(&machine.machine()).severity, Severity::Ok);
        machine.probe.is_synchronised = false;
        assert_eq!(own(&machine.machine()).severity, Severity::Warning);
        machine.process(9, "systemd-timesyn");
        assert_eq!(own(&machine.machine()).severity, Severity::Note);
    }

    #[test]
    fn a_peer_whose_clock_is_off_is_named() {
        let (mut machine, person) = (MadeUp::new(), Person::new());
        let last = |machine: &MadeUp| check(&machine.machine(), &person.patient()).pop().unwrap();
        assert_eq!(last(&machine).severity, Severity::Ok);
        machine.probe.ahead_ms = Some(-90_000);
        let found = last(&machine);
        assert_eq!(found.severity, Severity::Warning);
        assert_eq!(found.seen, "that of bob is 90000 ms behind this one");
        machine.probe.ahead_ms = None;
        assert_eq!(last(&machine).severity, Severity::Note);
    }
}
