//! The kernel: what the front end needs, `io_uring`, DRBD's own driver, and settings that hurt.

use rdb_config::{Fencing, OnNoDataAccessible};
use rdb_frontend::crashes_with_ublk;

use crate::finding::Finding;
use crate::machine::{Machine, Module};
use crate::patient::Patient;

const FRONTEND: &str = "frontend";
const IO_URING: &str = "io-uring";
const DRIVER: &str = "kernel-drbd";
const HUNG_TASKS: &str = "hung-tasks";
const BUFFERS: &str = "socket-buffers";

pub(crate) fn check(machine: &Machine<'_>, patient: &Patient<'_>) -> Vec<Finding> {
    let mut all = vec![frontend(machine, patient), io_uring(machine)];
    all.extend(driver(machine, patient));
    all.push(hung_tasks(machine, patient));
    all.extend(buffers(machine, patient));
    all
}

/// What keeps a kind of device from being made.
fn obstacles(machine: &Machine<'_>, kind: &str) -> Vec<String> {
    let release = machine.release();
    let mut all = Vec::new();
    let mut since = |version: (u32, u32)| {
        if machine.kernel_version().is_some_and(|own| own < version) {
            let (major, minor) = version;
            all.push(format!("it needs Linux {major}.{minor}, this is {release}"));
        }
    };
    let modules: &[&str] = match kind {
        "ublk" => {
            since((6, 5));
            if crashes_with_ublk(&release) {
                all.push(format!(
                    "the kernel {release} crashes when the first ublk device is added"
                ));
            }
            &["ublk_drv"]
        }
        "nbd" => {
            since((4, 12));
            &["nbd"]
        }
        _ => {
            since((5, 8));
            &["fuse", "loop"]
        }
    };
    for name in modules {
        match machine.module(name) {
            Module::Loaded | Module::Loadable => {}
            Module::Forbidden(line) => {
                all.push(format!("the module {name} may not be loaded: {line}"));
            }
            // Where others have the modules, as in a container, what they make is there.
            Module::Absent if *name == "fuse" && machine.exists("/dev/fuse") => {}
            Module::Absent if *name == "loop" && machine.exists("/dev/loop-control") => {}
            Module::Absent => all.push(format!("the kernel has no module {name}")),
        }
    }
    all
}

fn frontend(machine: &Machine<'_>, patient: &Patient<'_>) -> Finding {
    let name = patient.settings.frontend.as_deref().unwrap_or("auto");
    let why = "without a device node only programs that speak NBD can use a resource";
    match name {
        "socket" => Finding::ok(FRONTEND, "socket: NBD alone, which needs nothing"),
        "auto" => {
            let kinds = ["ublk", "nbd", "fuse"];
            let hindered = kinds.map(|kind| (kind, obstacles(machine, kind)));
            let first = hindered.iter().find(|(_, obstacles)| obstacles.is_empty());
            let passed = |all: &[(&str, Vec<String>)]| -> String {
                let told = all
                    .iter()
                    .map(|(kind, why)| format!("; not {kind}: {}", why.join(", ")));
                told.collect()
            };
            match first {
                Some((kind, _)) => {
                    let before = hindered.iter().position(|(k, _)| k == kind).unwrap_or(0);
                    let seen = format!("auto: {kind}{}", passed(&hindered[..before]));
                    Finding::ok(FRONTEND, seen)
                }
                None => {
                    let seen = format!("auto: the NBD socket alone{}", passed(&hindered));
                    Finding::warning(FRONTEND, seen).why(why).advice(
                        "install or allow one of the modules, or take a kernel that has them",
                    )
                }
            }
        }
        "ublk" | "nbd" | "fuse" | "ublk-anyway" => named(machine, name),
        other => Finding::problem(FRONTEND, format!("'{other}' is no front end"))
            .why("rdbd does not start with it")
            .advice("frontend in rdbd.toml is auto, ublk, nbd, fuse or socket"),
    }
}

/// One that is asked for by name: nothing else is taken in its place.
fn named(machine: &Machine<'_>, name: &str) -> Finding {
    let kind = name.trim_end_matches("-anyway");
    let found = obstacles(machine, kind);
    let is_crash = |text: &String| text.contains("crashes");
    if name == "ublk-anyway" && found.len() == 1 && found.iter().all(is_crash) {
        return Finding::warning(FRONTEND, format!("{name}: {}", found.join("; ")))
            .why("unless it was mended under the same name, it takes the machine with it")
            .advice("take frontend = \"nbd\" until the kernel is another");
    }
    if found.is_empty() {
        return Finding::ok(FRONTEND, format!("{name}: what it needs is here"));
    }
    Finding::problem(FRONTEND, format!("{name}: {}", found.join("; ")))
        .why("rdbd does not start: a front end that is named is not replaced by another")
        .advice("take another kernel or module, or frontend = \"auto\" in rdbd.toml")
}

fn io_uring(machine: &Machine<'_>) -> Finding {
    const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";
    match machine.number(SYSCTL) {
        Some(2) => Finding::problem(IO_URING, "kernel.io_uring_disabled is 2")
            .why("rdbd does all of its I/O by io_uring, and no resource runs without")
            .advice("allow it, and keep that in /etc/sysctl.d")
            .command("sysctl -w kernel.io_uring_disabled=0"),
        Some(1) => Finding::note(IO_URING, "kernel.io_uring_disabled is 1")
            .why("io_uring is for root and the group kernel.io_uring_group then: rdbd has to run as root, as its unit has it"),
        // Kernels before 6.6 do not have the setting.
        _ => Finding::ok(IO_URING, "allowed"),
    }
}

/// The kernel's own driver: it goes by the same configuration.
fn driver(machine: &Machine<'_>, patient: &Patient<'_>) -> Vec<Finding> {
    if !machine.exists("/sys/module/drbd") {
        return vec![Finding::ok(DRIVER, "DRBD's driver is not loaded")];
    }
    let mut all = Vec::new();
    for resource in &patient.resources {
        for volume in &resource.volumes {
            let minor = volume.minor;
            if machine.exists(format!("/sys/class/block/drbd{minor}")) {
                let found = Finding::problem(
                    DRIVER,
                    format!("DRBD's driver is loaded and has minor {minor}"),
                )
                .about(&resource.name)
                .why("the name /dev/drbdN, the disk and the port are its own then, and rdb gets none of them")
                .advice("take the resource down there, with drbd-utils' own drbdadm or drbdsetup")
                .command(format!("drbdsetup down {}", rdb_control::shell_word(&resource.name)));
                all.push(found);
            }
        }
    }
    if all.is_empty() {
        let found = Finding::note(
            DRIVER,
            "DRBD's driver is loaded, and has none of these minors",
        )
        .why("drbd-utils' commands would bring the same resources up in it");
        all.push(
            found
                .advice("unload it if nothing needs it")
                .command("rmmod drbd"),
        );
    }
    all
}

fn hung_tasks(machine: &Machine<'_>, patient: &Patient<'_>) -> Finding {
    let panics = machine.number("/proc/sys/kernel/hung_task_panic") == Some(1)
        && machine.number("/proc/sys/kernel/hung_task_timeout_secs") != Some(0);
    if !panics {
        return Finding::ok(HUNG_TASKS, "the kernel does not panic for tasks that wait");
    }
    let freezes = |resource: &&rdb_config::ResolvedResource| {
        let fences =
            |v: &rdb_config::ResolvedVolume| v.disk_options.fencing == Fencing::ResourceAndStonith;
        resource.volumes.iter().any(fences)
            || resource.options.on_no_data_accessible == OnNoDataAccessible::SuspendIo
    };
    let advice = "switch that off, and keep it in /etc/sysctl.d";
    let command = "sysctl -w kernel.hung_task_panic=0";
    match patient.resources.iter().find(freezes) {
        Some(resource) => Finding::warning(
            HUNG_TASKS,
            format!(
                "kernel.hung_task_panic is 1, and users of {} may be made to wait",
                resource.name
            ),
        )
        .why("writes that are frozen until the peer is fenced, or data are back, end in a panic of the machine")
        .advice(advice)
        .command(command),
        None => Finding::note(HUNG_TASKS, "kernel.hung_task_panic is 1")
            .why("users of a device who wait for long, while the daemon is away, end in a panic of the machine")
            .advice(advice)
            .command(command),
    }
}

/// Buffers that are asked for beyond what the system gives.
fn buffers(machine: &Machine<'_>, patient: &Patient<'_>) -> Vec<Finding> {
    let mut all = Vec::new();
    for resource in &patient.resources {
        let net = &resource.net;
        for (option, wanted, sysctl) in [
            ("sndbuf-size", net.sndbuf_bytes, "wmem_max"),
            ("rcvbuf-size", net.rcvbuf_bytes, "rmem_max"),
        ] {
            let Some(most) = machine.number(format!("/proc/sys/net/core/{sysctl}")) else {
                continue;
            };
            if u64::from(wanted) > most {
                let found = Finding::warning(
                    BUFFERS,
                    format!("{option} is {wanted}, and net.core.{sysctl} is {most}"),
                )
                .about(&resource.name)
                .why("the kernel gives no more than that, without an error: the line is filled less than was meant")
                .advice("raise it, and keep that in /etc/sysctl.d")
                .command(format!("sysctl -w net.core.{sysctl}={wanted}"));
                all.push(found);
            }
        }
    }
    if all.is_empty() && !patient.resources.is_empty() {
        all.push(Finding::ok(BUFFERS, "the system gives what is asked for"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::made_up::{MadeUp, Person};

    fn with_modules(release: &str, modules: &str) -> MadeUp {
        let machine = MadeUp::new();
        machine.file("/proc/sys/kernel/osrelease", release);
        let list: String = modules
            .split(' ')
            .map(|name| format!("kernel/{name}.ko.zst:\n"))
            .collect();
        machine.file(&format!("/lib/modules/{release}/modules.dep"), &list);
        machine
    }

    fn seen(machine: &MadeUp, name: &str) -> Finding {
        let mut person = Person::new();
        person.settings.frontend = Some(name.to_owned());
        frontend(&machine.machine(), &person.patient())
    }

    #[test]
    fn auto_takes_the_first_that_works_and_says_why_not_the_others() {
        let all = with_modules("6.12.0", "ublk_drv nbd fuse loop");
        assert_eq!(seen(&all, "auto").seen, "auto: ublk");
        let bad = with_modules("6.18.4", "ublk_drv nbd fuse loop");
        let found = seen(&bad, "auto");
        assert_eq!(found.severity, Severity::Ok);
        assert!(
            found
                .seen
                .starts_with("auto: nbd; not ublk: the kernel 6.18.4 crashes")
        );
        let old = with_modules("5.10.0", "ublk_drv fuse loop");
        assert!(
            seen(&old, "auto")
                .seen
                .starts_with("auto: fuse; not ublk: it needs Linux 6.5")
        );
        let none = with_modules("6.12.0", "ext4");
        assert_eq!(seen(&none, "auto").severity, Severity::Warning);
        // A container has the nodes, and no modules.
        none.file("/dev/fuse", "");
        none.file("/dev/loop-control", "");
        assert!(seen(&none, "auto").seen.starts_with("auto: fuse"));
    }

    #[test]
    fn a_front_end_that_is_named_has_to_work() {
        let bad = with_modules("6.18.4", "ublk_drv");
        assert_eq!(seen(&bad, "ublk").severity, Severity::Problem);
        assert_eq!(seen(&bad, "ublk-anyway").severity, Severity::Warning);
        assert_eq!(seen(&bad, "nbd").severity, Severity::Problem);
        assert_eq!(seen(&bad, "socket").severity, Severity::Ok);
        assert_eq!(seen(&bad, "floppy").severity, Severity::Problem);
        let good = with_modules("6.12.0", "ublk_drv");
        assert_eq!(seen(&good, "ublk").severity, Severity::Ok);
        good.file("/etc/modprobe.d/x.conf", "install ublk_drv /bin/true\n");
        let found = seen(&good, "ublk");
        assert_eq!(found.severity, Severity::Problem);
        assert!(found.seen.contains("/etc/modprobe.d/x.conf"));
    }

    #[test]
    fn io_uring_may_be_forbidden() {
        let machine = MadeUp::new();
        assert_eq!(io_uring(&machine.machine()).severity, Severity::Ok);
        for (value, severity) in [
            ("0\n", Severity::Ok),
            ("1\n", Severity::Note),
            ("2\n", Severity::Problem),
        ] {
            machine.file("/proc/sys/kernel/io_uring_disabled", value);
            assert_eq!(io_uring(&machine.machine()).severity, severity, "{value}");
        }
    }

    #[test]
    fn the_kernels_driver_may_have_a_minor() {
        let (machine, person) = (MadeUp::new(), Person::new());
        let worst = |machine: &MadeUp| driver(&machine.machine(), &person.patient())[0].severity;
        assert_eq!(worst(&machine), Severity::Ok);
        machine.file("/sys/module/drbd/version", "8.4.11\n");
        assert_eq!(worst(&machine), Severity::Note);
        machine.file("/sys/class/block/drbd3/size", "8\n");
        assert_eq!(worst(&machine), Severity::Note);
        machine.file("/sys/class/block/drbd0/size", "8\n");
        assert_eq!(worst(&machine), Severity::Problem);
    }

    #[test]
    fn a_panic_for_tasks_that_wait_goes_ill_with_frozen_users() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        let severity = |machine: &MadeUp, person: &Person| {
            hung_tasks(&machine.machine(), &person.patient()).severity
        };
        assert_eq!(severity(&machine, &person), Severity::Ok);
        machine.file("/proc/sys/kernel/hung_task_panic", "1\n");
        assert_eq!(severity(&machine, &person), Severity::Note);
        person.configure("disk { fencing resource-and-stonith; }");
        assert_eq!(severity(&machine, &person), Severity::Warning);
        machine.file("/proc/sys/kernel/hung_task_timeout_secs", "0\n");
        assert_eq!(severity(&machine, &person), Severity::Ok);
    }

    #[test]
    fn buffers_beyond_the_systems_are_named() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        machine.file("/proc/sys/net/core/wmem_max", "212992\n");
        machine.file("/proc/sys/net/core/rmem_max", "212992\n");
        let found = buffers(&machine.machine(), &person.patient());
        assert_eq!(found[0].severity, Severity::Ok);
        person.configure("net { sndbuf-size 1M; rcvbuf-size 100k; }");
        let found = buffers(&machine.machine(), &person.patient());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].severity, Severity::Warning);
        assert!(found[0].seen.starts_with("sndbuf-size is 1048576"));
    }
}
