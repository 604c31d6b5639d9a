//! Who may open the backing disk of a volume behind rdb's back, LVM and multipath, and who must not use the device: swap.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rdb_config::{ResolvedResource, ResolvedVolume};

use crate::finding::Finding;
use crate::lvm::{Filters, number_of};
use crate::machine::Machine;
use crate::patient::{Patient, name_of};

const LVM: &str = "lvm-filter";
const MULTIPATH: &str = "multipath";
const SWAP: &str = "swap";

pub(crate) fn check(
    machine: &Machine<'_>,
    patient: &Patient<'_>,
    resource: &ResolvedResource,
    volume: &ResolvedVolume,
) -> Vec<Finding> {
    let name = name_of(resource, volume);
    let mut all = vec![swap(machine, patient, resource, volume)];
    if let Some(disk) = volume.disk.as_deref().filter(|disk| machine.exists(disk)) {
        all.push(lvm(machine, disk));
        all.push(multipath(machine, disk));
    }
    all.into_iter().map(|found| found.about(&name)).collect()
}

/// LVM looks at every block device for its physical volumes. One that lies on the replicated device is on the backing disk as well.
fn lvm(machine: &Machine<'_>, disk: &Path) -> Finding {
    let shown = disk.display();
    let Some(block) = machine.block_name(disk) else {
        return Finding::ok(
            LVM,
            format!("{shown} is a file, which LVM does not look at"),
        );
    };
    let programs = ["/sbin/lvm", "/usr/sbin/lvm"];
    if !programs.iter().any(|program| machine.exists(program)) {
        return Finding::ok(LVM, "LVM is not installed");
    }
    match has_label(machine, disk) {
        Err(error) => {
            return Finding::note(
                LVM,
                format!("whether {shown} has a physical volume could not be looked at: {error}"),
            );
        }
        Ok(false) => return Finding::ok(LVM, format!("no physical volume is on {shown}")),
        Ok(true) => {}
    }
    let conf = machine.text("/etc/lvm/lvm.conf").unwrap_or_default();
    let mut names = vec![disk.display().to_string(), format!("/dev/{block}")];
    if let Some(mapped) = machine.word(format!("/sys/class/block/{block}/dm/name")) {
        names.push(format!("/dev/mapper/{mapped}"));
    }
    let list = machine.text("/etc/lvm/devices/system.devices");
    let is_left = match &list {
        Ok(list) if number_of(&conf, "use_devicesfile") != Some(0) => {
            let is_named = |word: &str| {
                let value = word.split_once('=').map(|(_, value)| value);
                value.is_some_and(|value| names.iter().any(|name| name == value))
            };
            !list
                .lines()
                .filter(|line| !line.starts_with('#'))
                .any(|line| line.split_whitespace().any(is_named))
        }
        _ => match Filters::parse(&conf) {
            Ok(filters) => filters.refuse(&names),
            Err(reason) => {
                return Finding::note(
                    LVM,
                    format!("/etc/lvm/lvm.conf: {reason}; {shown} has a physical volume"),
                );
            }
        },
    };
    if is_left {
        return Finding::ok(
            LVM,
            format!("{shown} has a physical volume, and LVM leaves it alone"),
        );
    }
    let pattern: String = names
        .iter()
        .map(|name| format!("\"r|^{}$|\", ", escaped(name)))
        .collect();
    Finding::warning(LVM, format!("{shown} has a physical volume, and LVM may open it there"))
        .why("LVM then activates volumes on the backing disk itself: it cannot be attached, or is written behind rdb's back, and the nodes' data part")
        .advice(format!(
            "in /etc/lvm/lvm.conf: devices {{ global_filter = [ {pattern}\"a|.*|\" ] }}; then make the initial ram disk anew"
        ))
        .command("update-initramfs -u || dracut -f")
}

/// Whether LVM's label is in one of the first four sectors.
fn has_label(machine: &Machine<'_>, disk: &Path) -> std::io::Result<bool> {
    const SECTOR: usize = 512;
    let mut head = Vec::new();
    File::open(machine.at(disk))?
        .take(4 * SECTOR as u64)
        .read_to_end(&mut head)?;
    Ok(head
        .chunks(SECTOR)
        .any(|sector| sector.starts_with(b"LABELONE")))
}

fn escaped(name: &str) -> String {
    name.replace('.', "[.]").replace('+', "[+]")
}

fn multipath(machine: &Machine<'_>, disk: &Path) -> Finding {
    let shown = disk.display();
    let Some(block) = machine.block_name(disk) else {
        return Finding::ok(MULTIPATH, format!("{shown} is a file"));
    };
    for holder in machine.list(format!("/sys/class/block/{block}/holders")) {
        let folder = format!("/sys/class/block/{block}/holders/{holder}/dm");
        let uuid = machine.word(format!("{folder}/uuid")).unwrap_or_default();
        if uuid.starts_with("mpath-") {
            let mapped = machine.word(format!("{folder}/name")).unwrap_or(holder);
            return Finding::problem(MULTIPATH, format!("{shown} is one path of {mapped}"))
                .why("it cannot be attached while multipath has it, and one path alone fails with its line")
                .advice(format!("use /dev/mapper/{mapped} for 'disk'; or, if it has one path only, put its wwid on the blacklist"))
                .command(format!("multipath -ll {}", rdb_control::shell_word(&mapped)));
        }
    }
    let conf = machine.text("/etc/multipath.conf").unwrap_or_default();
    let is_greedy = conf.lines().any(|line| {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        matches!(words[..], ["find_multipaths", word, ..] if matches!(word.trim_matches('"'), "no" | "off" | "greedy"))
    });
    let is_asked = ["sd", "nvme", "dasd"]
        .iter()
        .any(|kind| block.starts_with(kind));
    if is_greedy && is_asked && machine.process("multipathd").is_some() && !conf.contains(&block) {
        return Finding::note(
            MULTIPATH,
            format!(
                "multipathd takes every disk (find_multipaths), {shown} too if it is found again"
            ),
        )
        .why("a disk that it has cannot be attached")
        .advice("put the disk's wwid on the blacklist in /etc/multipath.conf")
        .command(format!(
            "/lib/udev/scsi_id -g -u {}",
            rdb_control::shell_word(&shown.to_string())
        ));
    }
    Finding::ok(MULTIPATH, format!("{shown} is not taken"))
}

/// Swap space on the replicated device.
fn swap(
    machine: &Machine<'_>,
    patient: &Patient<'_>,
    resource: &ResolvedResource,
    volume: &ResolvedVolume,
) -> Finding {
    let report = patient.report(&resource.name);
    let device = report
        .and_then(|r| r.volumes.iter().find(|v| v.minor == volume.minor))
        .and_then(|v| v.device.clone());
    let mut names = vec![
        volume.device.clone(),
        format!("/dev/drbd{}", volume.minor).into(),
    ];
    names.extend(device);
    let resolved: Vec<_> = names
        .iter()
        .filter_map(|name| machine.resolved(name))
        .collect();
    let swaps = machine.text("/proc/swaps").unwrap_or_default();
    let mut swaps = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    let found = swaps.find(|swap| {
        let path = Path::new(swap);
        names.iter().any(|name| name == path)
            || machine
                .resolved(path)
                .is_some_and(|path| resolved.contains(&path))
    });
    match found {
        Some(swap) => Finding::problem(SWAP, format!("the machine swaps to {swap}, the volume's device"))
            .why("when memory is short, the daemon that would write the swapped pages needs memory to do it: both wait for ever")
            .advice("swap to another disk")
            .command(format!("swapoff {}", rdb_control::shell_word(swap))),
        None => Finding::ok(SWAP, "nothing swaps to the device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::made_up::{MadeUp, Person};

    fn one(machine: &MadeUp, person: &Person, name: &str) -> Finding {
        let patient = person.patient();
        let resource = &patient.resources[0];
        let all = check(&machine.machine(), &patient, resource, &resource.volumes[0]);
        let mut of = all.into_iter().filter(|found| found.check == name);
        of.next().unwrap_or_else(|| panic!("no finding of {name}"))
    }

    #[test]
    fn a_physical_volume_on_the_disk_has_to_be_filtered() {
        let (machine, person) = (MadeUp::new(), Person::new());
        machine.block("sdb", "8:16");
        machine.program("/usr/sbin/lvm");
        assert_eq!(one(&machine, &person, LVM).severity, Severity::Ok);
        let label = format!("{}LABELONE", "\0".repeat(512));
        machine.file("/dev/sdb", &label);
        let found = one(&machine, &person, LVM);
        assert_eq!(found.severity, Severity::Warning);
        let advice = found.advice.unwrap();
        assert!(advice.contains("\"r|^/dev/sdb$|\""), "{advice}");
        machine.file(
            "/etc/lvm/lvm.conf",
            "devices {\n global_filter = [ \"r|^/dev/sdb$|\", \"a|.*|\" ]\n}\n",
        );
        assert_eq!(one(&machine, &person, LVM).severity, Severity::Ok);
        machine.file("/etc/lvm/lvm.conf", "devices {\n filter = [ \"r\" ]\n}\n");
        assert_eq!(one(&machine, &person, LVM).severity, Severity::Note);
        machine.file(
            "/etc/lvm/devices/system.devices",
            "IDTYPE=devname IDNAME=/dev/sda DEVNAME=/dev/sda\n",
        );
        assert_eq!(one(&machine, &person, LVM).severity, Severity::Ok);
        machine.file(
            "/etc/lvm/devices/system.devices",
            "IDTYPE=devname IDNAME=/dev/sdb DEVNAME=/dev/sdb\n",
        );
        assert_eq!(one(&machine, &person, LVM).severity, Severity::Warning);
    }

    #[test]
    fn a_path_of_a_multipath_device_is_no_disk() {
        let (machine, person) = (MadeUp::new(), Person::new());
        machine.block("sdb", "8:16");
        machine.process(6, "multipathd");
        assert_eq!(one(&machine, &person, MULTIPATH).severity, Severity::Ok);
        machine.file(
            "/etc/multipath.conf",
            "defaults {\n find_multipaths \"greedy\"\n}\n",
        );
        assert_eq!(one(&machine, &person, MULTIPATH).severity, Severity::Note);
        machine.file("/sys/class/block/sdb/holders/dm-0/dm/uuid", "LVM-xyz\n");
        assert_eq!(one(&machine, &person, MULTIPATH).severity, Severity::Note);
        machine.file("/sys/class/block/sdb/holders/dm-0/dm/uuid", "mpath-3600\n");
        machine.file("/sys/class/block/sdb/holders/dm-0/dm/name", "mpatha\n");
        let found = one(&machine, &person, MULTIPATH);
        assert_eq!(found.severity, Severity::Problem);
        assert!(found.advice.unwrap().contains("/dev/mapper/mpatha"));
    }

    #[test]
    fn swap_on_the_replicated_device_is_a_problem() {
        let (machine, person) = (MadeUp::new(), Person::new());
        machine.file("/proc/swaps", "Filename Type\n/dev/sda2 partition 9 0 -2\n");
        assert_eq!(one(&machine, &person, SWAP).severity, Severity::Ok);
        machine.file(
            "/proc/swaps",
            "Filename Type\n/dev/ublkb0 partition 9 0 -2\n",
        );
        assert_eq!(one(&machine, &person, SWAP).severity, Severity::Ok);
        machine.block("ublkb0", "259:0");
        machine.link("/dev/drbd0", "ublkb0");
        assert_eq!(one(&machine, &person, SWAP).severity, Severity::Problem);
    }
}
