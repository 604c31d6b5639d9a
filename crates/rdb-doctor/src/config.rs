//! The configuration: whether it can be used, is for this node, and goes with what runs.

use rdb_config::HostKind;

use crate::finding::Finding;
use crate::machine::Machine;
use crate::patient::Patient;

const CONFIGURATION: &str = "configuration";
const NODE_NAME: &str = "node-name";
const SHARED_PORT: &str = "shared-port";

pub(crate) fn check(machine: &Machine<'_>, patient: &Patient<'_>) -> Vec<Finding> {
    let mut all = complaints(patient);
    all.extend(node_name(machine, patient));
    all.extend(shared_ports(patient));
    all
}

fn complaints(patient: &Patient<'_>) -> Vec<Finding> {
    let tell = |(about, text): &(Option<String>, String)| {
        let found = Finding::problem(CONFIGURATION, text.clone())
            .why("no command about these resources works until it is mended");
        match about {
            Some(about) => found.about(about),
            None => found,
        }
    };
    let mut all: Vec<Finding> = patient.complaints.iter().map(tell).collect();
    if let Some(fault) = &patient.settings_fault {
        let found = Finding::problem(CONFIGURATION, fault.clone())
            .why("rdbd does not start with settings that it cannot read")
            .advice("mend the file; this says what else is wrong with it")
            .command("rdbd --check");
        all.push(found);
    }
    if all.is_empty() {
        all.push(match patient.config {
            Some(config) => Finding::ok(CONFIGURATION, format!("{} can be read", config.path)),
            None => Finding::note(
                CONFIGURATION,
                "there is neither /etc/rdb.conf nor /etc/drbd.conf",
            )
            .why("what a resource needs could not be looked at"),
        });
    }
    all
}

/// Whether the configuration has something for a node of this name.
fn node_name(machine: &Machine<'_>, patient: &Patient<'_>) -> Option<Finding> {
    let config = patient.config?;
    let node = patient.node;
    let host = machine.word("/proc/sys/kernel/hostname");
    let is_here = config.resources_of(node).next().is_some();
    if !is_here && !config.resources.is_empty() {
        let mut names: Vec<&str> = config
            .resources
            .iter()
            .flat_map(|resource| &resource.hosts)
            .filter(|host| host.kind == HostKind::On)
            .flat_map(|host| host.names.iter().map(String::as_str))
            .collect();
        names.sort_unstable();
        names.dedup();
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let meant = names.iter().find(|name| short(name) == short(node));
        let advice = match meant {
            Some(meant) => format!(
                "the sections 'on {meant}' seem to be meant: call both the same, domain and all"
            ),
            None => "give the resources a section 'on' with this node's name".to_owned(),
        };
        let seen = format!(
            "no resource has a section for this node, '{node}'; there are sections for {}",
            names.join(", ")
        );
        return Some(
            Finding::problem(NODE_NAME, seen)
                .why("a node is found in the configuration by what 'uname -n' prints, letter by letter")
                .advice(advice),
        );
    }
    match host {
        Some(host) if host != node => Some(
            Finding::note(
                NODE_NAME,
                format!("this node is called '{node}' here, and the machine '{host}'"),
            )
            .why("commands without --node or RDB_NODE go by the machine's name"),
        ),
        _ => Some(Finding::ok(NODE_NAME, format!("'{node}'"))),
    }
}

/// What runs under the address that the configuration has for another resource. (Two in one configuration are refused when that is read.)
fn shared_ports(patient: &Patient<'_>) -> Vec<Finding> {
    let mut all = Vec::new();
    for resource in &patient.resources {
        let address = resource.me.address;
        let others = patient.running().iter().filter(|running| {
            running.name != resource.name && running.local.is_some_and(|local| local == address)
        });
        for other in others {
            let found = Finding::problem(
                SHARED_PORT,
                format!("{} runs at {address} already", other.name),
            )
            .about(&resource.name)
            .why("an address with its port is one resource's: a peer would meet the other one's data")
            .advice("give one of them another port, on both nodes; if that is done, have it take effect")
            .command("rdbadm adjust all");
            all.push(found);
        }
    }
    if all.is_empty() && !patient.resources.is_empty() {
        all.push(Finding::ok(
            SHARED_PORT,
            "each resource has an address of its own",
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::made_up::{MadeUp, Person};

    #[test]
    fn what_keeps_the_configuration_from_being_read_is_a_problem() {
        let mut person = Person::new();
        person.complaints = vec![(Some("r0".to_owned()), "it is stacked".to_owned())];
        person.settings_fault = Some("rdbd.toml: expected a value".to_owned());
        let found = complaints(&person.patient());
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|f| f.severity == Severity::Problem));
        assert_eq!(found[0].about.as_deref(), Some("r0"));
        let well = complaints(&Person::new().patient());
        assert_eq!(well[0].severity, Severity::Ok);
    }

    #[test]
    fn a_node_that_the_configuration_calls_otherwise_is_told_the_name_that_is_meant() {
        let machine = MadeUp::new();
        machine.file("/proc/sys/kernel/hostname", "alice\n");
        let mut person = Person::new();
        let found = node_name(&machine.machine(), &person.patient()).unwrap();
        assert_eq!(found.severity, Severity::Ok);
        machine.file("/proc/sys/kernel/hostname", "m7\n");
        let found = node_name(&machine.machine(), &person.patient()).unwrap();
        assert_eq!(found.severity, Severity::Note, "{found:?}");
        person.node = "alice.example.org".to_owned();
        let found = node_name(&machine.machine(), &person.patient()).unwrap();
        assert_eq!(found.severity, Severity::Problem);
        assert!(found.seen.contains("alice, bob"), "{found:?}");
        assert!(found.advice.unwrap().contains("'on alice'"));
    }

    #[test]
    fn a_resource_that_runs_at_anothers_address_is_named() {
        let mut person = Person::new();
        person.runs("r0", true);
        assert_eq!(shared_ports(&person.patient())[0].severity, Severity::Ok);
        person.runs("old", false);
        let found = shared_ports(&person.patient());
        assert_eq!(found[0].severity, Severity::Problem);
        assert!(found[0].seen.contains("old runs at 10.0.0.1:7789"));
    }
}
