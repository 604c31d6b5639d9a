//! A cluster manager beside rdb: who brings resources up and promotes them, and who fences.

use rdb_config::{Fencing, ResolvedResource, Section};

use crate::finding::Finding;
use crate::machine::Machine;
use crate::patient::Patient;

const MANAGER: &str = "cluster-manager";
const FENCING: &str = "fencing";
const UNITS: &str = "units";
/// Cluster managers by the process that decides, as `ps -o comm` has it.
const MANAGERS: [(&str, &str); 3] = [
    ("pacemakerd", "Pacemaker"),
    ("heartbeat", "heartbeat"),
    ("rgmanager", "rgmanager"),
];

pub(crate) fn check(machine: &Machine<'_>, patient: &Patient<'_>) -> Vec<Finding> {
    let Some(manager) = manager(machine) else {
        return vec![Finding::ok(MANAGER, "none runs here")];
    };
    let mut all = vec![units(machine, manager)];
    for resource in &patient.resources {
        all.push(fencing(resource, manager));
        all.extend(promoted_by_both(patient, resource, manager));
    }
    all
}

/// The cluster manager that runs here.
fn manager(machine: &Machine<'_>) -> Option<&'static str> {
    let runs = |(process, _): &&(&str, &str)| machine.process(process).is_some();
    MANAGERS.iter().find(runs).map(|(_, name)| *name)
}

/// Units that systemd starts by itself, and that bring resources up or promote them.
fn units(machine: &Machine<'_>, manager: &str) -> Finding {
    let is_ours = |name: &str| {
        matches!(name, "rdb.service" | "drbd.service")
            || name.starts_with("drbd@")
            || name.starts_with("drbd-promote@")
    };
    let mut enabled = Vec::new();
    for folder in machine.list("/etc/systemd/system") {
        if folder.ends_with(".wants") || folder.ends_with(".requires") {
            let names = machine.list(format!("/etc/systemd/system/{folder}"));
            enabled.extend(names.into_iter().filter(|name| is_ours(name)));
        }
    }
    enabled.sort();
    enabled.dedup();
    if !enabled.is_empty() {
        let words: Vec<String> = enabled
            .iter()
            .map(|name| rdb_control::shell_word(name))
            .collect();
        return Finding::warning(
            UNITS,
            format!("{manager} runs, and systemd starts {}", enabled.join(", ")),
        )
        .why("two would bring resources up, wait for peers and take them down, against each other")
        .advice("leave that to the cluster manager (docs/installing.md, \"Units\")")
        .command(format!("systemctl disable {}", words.join(" ")));
    }
    let unit = [
        "/etc/systemd/system",
        "/lib/systemd/system",
        "/usr/lib/systemd/system",
    ]
    .iter()
    .find_map(|folder| machine.text(format!("{folder}/rdbd.service")).ok());
    let drop_ins = machine.list("/etc/systemd/system/rdbd.service.d");
    let drop_ins: Vec<String> = drop_ins
        .iter()
        .filter_map(|name| {
            machine
                .text(format!("/etc/systemd/system/rdbd.service.d/{name}"))
                .ok()
        })
        .collect();
    let brings_up = unit
        .is_some_and(|unit| unit.lines().any(|line| line.starts_with("ExecStartPost=")))
        && !drop_ins
            .iter()
            .any(|text| text.lines().any(|line| line.trim() == "ExecStartPost="));
    match brings_up {
        true => Finding::note(UNITS, format!("{manager} runs, and rdbd.service brings all resources up"))
            .why("a resource that is up before the cluster manager has started it looks to that as if it ran where it should not")
            .advice("empty the line ExecStartPost= of the unit (docs/installing.md, \"Units\")")
            .command("systemctl edit rdbd"),
        false => Finding::ok(UNITS, format!("resources are left to {manager}")),
    }
}

fn fencing(resource: &ResolvedResource, manager: &str) -> Finding {
    let is_off = |v: &rdb_config::ResolvedVolume| v.disk_options.fencing == Fencing::DontCare;
    let found = if resource.volumes.iter().any(is_off) {
        Finding::warning(FENCING, format!("{manager} runs, and fencing is dont-care"))
            .why("when the line between the nodes is cut, the cluster manager may promote the other node with old data: a split brain")
            .advice("in the resource: disk { fencing resource-and-stonith; } and the handlers fence-peer and unfence-peer (docs/handlers.md, \"With Pacemaker\")")
    } else if resource.handlers.fence_peer.is_none() {
        // What follows from fencing without a handler is said with the handlers.
        Finding::ok(FENCING, "it is asked for")
    } else {
        Finding::ok(FENCING, "it is asked for, with a handler")
    };
    found.about(&resource.name)
}

/// `become-primary-on` beside a cluster manager.
fn promoted_by_both(
    patient: &Patient<'_>,
    resource: &ResolvedResource,
    manager: &str,
) -> Option<Finding> {
    let written = patient.config?.resource(&resource.name).ok()?;
    let sections = written.inherited();
    sections.find(Section::Startup, "become-primary-on")?;
    let found = Finding::warning(
        MANAGER,
        format!("{manager} runs, and become-primary-on is set"),
    )
    .about(&resource.name)
    .why("the start script would promote the resource, and so would the cluster manager, maybe on the other node")
    .advice("take become-primary-on out of startup {}");
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::made_up::{MadeUp, Person};

    fn worst(machine: &MadeUp, person: &Person, check_name: &str) -> Option<Severity> {
        let all = check(&machine.machine(), &person.patient());
        let of = all.iter().filter(|found| found.check == check_name);
        of.map(|found| found.severity).max()
    }

    #[test]
    fn without_a_cluster_manager_nothing_is_asked_of_anybody() {
        let (machine, person) = (MadeUp::new(), Person::new());
        assert_eq!(worst(&machine, &person, MANAGER), Some(Severity::Ok));
        assert_eq!(worst(&machine, &person, FENCING), None);
    }

    #[test]
    fn a_cluster_manager_needs_fencing() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        machine.process(5, "pacemakerd");
        assert_eq!(worst(&machine, &person, FENCING), Some(Severity::Warning));
        person.configure("disk { fencing resource-only; } handlers { fence-peer \"/bin/true\"; }");
        assert_eq!(worst(&machine, &person, FENCING), Some(Severity::Ok));
    }

    #[test]
    fn two_who_promote_are_one_too_many() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        machine.process(5, "pacemakerd");
        assert_eq!(worst(&machine, &person, MANAGER), None);
        person.configure("startup { become-primary-on alice; }");
        assert_eq!(worst(&machine, &person, MANAGER), Some(Severity::Warning));
    }

    #[test]
    fn units_that_bring_resources_up_are_named() {
        let (machine, person) = (MadeUp::new(), Person::new());
        machine.process(5, "pacemakerd");
        assert_eq!(worst(&machine, &person, UNITS), Some(Severity::Ok));
        machine.file(
            "/lib/systemd/system/rdbd.service",
            "[Service]\nExecStartPost=-rdbadm up all\n",
        );
        assert_eq!(worst(&machine, &person, UNITS), Some(Severity::Note));
        machine.file(
            "/etc/systemd/system/rdbd.service.d/override.conf",
            "[Service]\nExecStartPost=\n",
        );
        assert_eq!(worst(&machine, &person, UNITS), Some(Severity::Ok));
        machine.file(
            "/etc/systemd/system/multi-user.target.wants/drbd.service",
            "",
        );
        assert_eq!(worst(&machine, &person, UNITS), Some(Severity::Warning));
    }
}
