//! The disk of a volume: whether it is there, free, large enough and prepared, and what its cache may lose.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rdb_config::{MetaDisk, ResolvedResource, ResolvedVolume};
use rdb_meta::tool::{Metadata, ToolError};
use rdb_meta::{AlGeometry, Device, DeviceError, Layout, MetaKind, SECTOR_BYTES};

use crate::finding::Finding;
use crate::machine::Machine;
use crate::patient::{Patient, name_of};

const DISK: &str = "disk";
const IN_USE: &str = "disk-in-use";
const CACHE: &str = "disk-cache";
const METADATA: &str = "metadata";

pub(crate) fn check(
    machine: &Machine<'_>,
    patient: &Patient<'_>,
    resource: &ResolvedResource,
    volume: &ResolvedVolume,
) -> Vec<Finding> {
    let name = name_of(resource, volume);
    let Some(disk) = &volume.disk else {
        let found = Finding::ok(DISK, "none: the peer's is used, as configured");
        return vec![found.about(&name)];
    };
    let mut paths = vec![disk.as_path()];
    if let MetaDisk::Flexible(path) | MetaDisk::Indexed(path, _) = &volume.meta {
        paths.push(path);
    }
    let mut all = Vec::new();
    let mut are_there = true;
    for path in &paths {
        let found = there(machine, path);
        are_there &= found.severity < crate::finding::Severity::Problem;
        all.push(found);
    }
    if are_there {
        let is_attached = patient.has_disk(resource, volume);
        for path in &paths {
            // One metadata device may have slots of several volumes, some of which are attached.
            let is_shared = matches!(volume.meta, MetaDisk::Indexed(..)) && *path != disk;
            match is_attached || is_shared {
                true => all.push(Finding::ok(
                    IN_USE,
                    format!("{} is the volume's", path.display()),
                )),
                false => all.push(in_use(machine, path)),
            }
        }
        all.push(cache(machine, volume, disk));
        match is_attached {
            true => all.push(Finding::ok(METADATA, "attached")),
            false => all.push(metadata(machine, &name, disk, &volume.meta)),
        }
    }
    all.into_iter().map(|found| found.about(&name)).collect()
}

fn there(machine: &Machine<'_>, path: &Path) -> Finding {
    use std::os::unix::fs::FileTypeExt;

    let shown = path.display();
    let why = "the volume cannot be attached";
    match std::fs::metadata(machine.at(path)) {
        Ok(found) if found.is_file() || found.file_type().is_block_device() => {
            Finding::ok(DISK, format!("{shown} is there"))
        }
        Ok(_) => Finding::problem(
            DISK,
            format!("{shown} is neither a block device nor a file"),
        )
        .why(why)
        .advice("mend 'disk' or 'meta-disk'"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::problem(
            DISK,
            format!("{shown} is not there"),
        )
        .why(why)
        .advice(
            "create or activate it (vgchange -ay, if it is a logical volume), or mend the path",
        ),
        Err(error) => Finding::note(DISK, format!("{shown} could not be looked at: {error}")),
    }
}

fn in_use(machine: &Machine<'_>, path: &Path) -> Finding {
    let shown = path.display();
    match user_of(machine, path) {
        Some(user) => Finding::problem(IN_USE, format!("{shown} is in use: {user}"))
            .why("it cannot be attached; and who writes to it passes rdb by, so that the nodes' data part")
            .advice("have that let go of it, and use /dev/drbdN instead")
            .command(format!("lsblk {}", rdb_control::shell_word(&shown.to_string()))),
        None => match machine.probe().claim(&machine.at(path)) {
            Ok(()) => Finding::ok(IN_USE, format!("{shown} is free")),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                Finding::problem(IN_USE, format!("{shown} is in use by somebody who cannot be seen here"))
                    .why("it cannot be attached")
                    .advice("see who has it: another mount namespace, a container, DRBD's driver, md")
                    .command(format!("lsblk {}", rdb_control::shell_word(&shown.to_string())))
            }
            Err(error) => Finding::note(IN_USE, format!("whether {shown} is free could not be looked at: {error}")),
        },
    }
}

/// Who has a disk, as far as the system shows it.
fn user_of(machine: &Machine<'_>, path: &Path) -> Option<String> {
    let Some(name) = machine.block_name(path) else {
        let resolved = machine.resolved(path)?;
        let mut devices = machine.list("/sys/class/block").into_iter();
        let has = |device: &String| {
            let backing = machine.word(format!("/sys/class/block/{device}/loop/backing_file"));
            backing.is_some_and(|file| Path::new(&file) == resolved)
        };
        return devices
            .find(has)
            .map(|device| format!("it is the file of /dev/{device}"));
    };
    let holders = machine.list(format!("/sys/class/block/{name}/holders"));
    if let Some(holder) = holders.first() {
        let mapped = machine.word(format!("/sys/class/block/{name}/holders/{holder}/dm/name"));
        return Some(match mapped {
            Some(mapped) => format!("/dev/{holder} ({mapped}) lies on it"),
            None => format!("/dev/{holder} lies on it"),
        });
    }
    if let Some(number) = machine.word(format!("/sys/class/block/{name}/dev")) {
        let mounts = machine.text("/proc/self/mountinfo").unwrap_or_default();
        let mount = mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words.get(2) == Some(&number.as_str()))
                .then(|| words.get(4).copied().unwrap_or_default())
        });
        if let Some(mount) = mount {
            return Some(format!("it is mounted at {mount}"));
        }
    }
    let swaps = machine.text("/proc/swaps").unwrap_or_default();
    let mut swaps = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    let is_swap = swaps.any(|swap| machine.block_name(Path::new(swap)).as_ref() == Some(&name));
    is_swap.then(|| "it is swap space".to_owned())
}

/// The cache of the disk, which flushes empty.
fn cache(machine: &Machine<'_>, volume: &ResolvedVolume, disk: &Path) -> Finding {
    let options = &volume.disk_options;
    let off: Vec<&str> = [
        (!options.disk_flushes).then_some("disk-flushes"),
        (!options.md_flushes).then_some("md-flushes"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let why =
        "a power cut loses writes that users and the peer count as durable, and nothing marks them";
    let advice = format!(
        "take '{} no' out, unless the cache is kept by a battery",
        off.join(" no' and '")
    );
    let Some(kind) =
        queue(machine, disk).and_then(|queue| machine.word(format!("{queue}/write_cache")))
    else {
        return match off.is_empty() {
            true => Finding::ok(CACHE, "flushes are on"),
            false => Finding::warning(
                CACHE,
                format!(
                    "{} is off, and what is below {} is not known",
                    off.join(" and "),
                    disk.display()
                ),
            )
            .why(why)
            .advice(advice),
        };
    };
    match (kind.as_str(), off.is_empty()) {
        ("write back", false) => Finding::problem(
            CACHE,
            format!("{} has a volatile cache ('write back'), and {} is off", disk.display(), off.join(" and ")),
        )
        .why(why)
        .advice(advice),
        ("write back", true) => Finding::ok(CACHE, "it has a volatile cache, and flushes are on"),
        (_, false) => Finding::note(CACHE, format!("{} is off, and the kernel knows of no volatile cache", off.join(" and ")))
            .why("that holds as long as the disk tells the truth, and until somebody switches its cache on"),
        (_, true) => Finding::ok(CACHE, "the kernel knows of no volatile cache"),
    }
}

/// The folder of a block device's queue, which a partition has from its disk.
fn queue(machine: &Machine<'_>, disk: &Path) -> Option<String> {
    let name = machine.block_name(disk)?;
    let own = machine.resolved(format!("/sys/class/block/{name}"))?;
    [Some(own.as_path()), own.parent()]
        .into_iter()
        .flatten()
        .map(|folder| format!("{}/queue", folder.display()))
        .find(|queue| machine.exists(queue))
}

fn metadata(machine: &Machine<'_>, name: &str, disk: &Path, meta: &MetaDisk) -> Finding {
    let (kind, path) = match meta {
        MetaDisk::Internal => (MetaKind::Internal, disk),
        MetaDisk::Flexible(path) => (MetaKind::FlexibleExternal, path.as_path()),
        MetaDisk::Indexed(path, index) => (MetaKind::Indexed(*index), path.as_path()),
    };
    let opened = ReadOnly::open(&machine.at(disk))
        .and_then(|data| Ok((data, ReadOnly::open(&machine.at(path))?)));
    let (data, mut device) = match opened {
        Ok(both) => both,
        Err(error) => {
            return Finding::note(
                METADATA,
                format!("{} could not be read: {error}", path.display()),
            );
        }
    };
    let (data_sectors, meta_sectors) = (data.size_sectors(), device.size_sectors());
    let unusable = "the volume cannot be attached";
    if let Err(error) = Layout::compute(kind, data_sectors, meta_sectors, AlGeometry::DEFAULT) {
        return Finding::problem(
            METADATA,
            format!("{} has no room for metadata: {error}", path.display()),
        )
        .why(unusable)
        .advice("take a larger disk, or metadata on another one");
    }
    match Metadata::open(&mut device, kind) {
        Ok(found) => match found.superblock.check(kind, data_sectors, meta_sectors) {
            Ok(_) => Finding::ok(METADATA, format!("found on {}", path.display())),
            Err(error) => Finding::problem(METADATA, format!("that on {} does not go with the disk: {error}", path.display()))
                .why(unusable)
                .advice("give the disk its former size again"),
        },
        Err(ToolError::NoMetadata(reason)) => {
            Finding::problem(METADATA, format!("there is none on {}: {reason}", path.display()))
                .why(unusable)
                .advice("write it, if the disk is meant to be the resource's and is new, or has data that are to be kept here")
                .command(format!("rdbadm create-md {}", rdb_control::shell_word(name)))
        }
        Err(error) => Finding::note(METADATA, format!("{} could not be read: {error}", path.display())),
    }
}

/// A disk or a file that is only read.
struct ReadOnly {
    file: File,
    size_sectors: u64,
}

impl ReadOnly {
    fn open(path: &Path) -> io::Result<ReadOnly> {
        let mut file = File::open(path)?;
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok(ReadOnly {
            file,
            size_sectors: bytes / SECTOR_BYTES as u64,
        })
    }
}

impl Device for ReadOnly {
    fn size_sectors(&self) -> u64 {
        self.size_sectors
    }

    fn read_at(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let at = sector.saturating_mul(SECTOR_BYTES as u64);
        let read = self.file.read_exact_at(buffer, at);
        read.map_err(|error| DeviceError(format!("reading at sector {sector}: {error}")))
    }

    fn write_at(&mut self, _: u64, _: &[u8]) -> Result<(), DeviceError> {
        Err(DeviceError("it is opened for reading".to_owned()))
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
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

    fn with_disk() -> (MadeUp, Person) {
        let machine = MadeUp::new();
        machine.block("sdb", "8:16");
        (machine, Person::new())
    }

    #[test]
    fn a_disk_has_to_be_there() {
        let (machine, person) = (MadeUp::new(), Person::new());
        assert_eq!(one(&machine, &person, DISK).severity, Severity::Problem);
        machine.block("sdb", "8:16");
        assert_eq!(one(&machine, &person, DISK).severity, Severity::Ok);
        let (machine, person) = (MadeUp::new(), Person::new());
        machine.file("/dev/sdb/x", "a folder");
        assert_eq!(one(&machine, &person, DISK).severity, Severity::Problem);
    }

    #[test]
    fn whoever_has_the_disk_is_named() {
        let (machine, mut person) = with_disk();
        assert_eq!(one(&machine, &person, IN_USE).severity, Severity::Ok);
        machine.file("/proc/swaps", "Filename Type\n/dev/sdb partition 9 0 -2\n");
        assert!(
            one(&machine, &person, IN_USE)
                .seen
                .ends_with("it is swap space")
        );
        machine.file(
            "/proc/self/mountinfo",
            "22 1 8:16 / /srv/data rw - ext4 /dev/sdb rw\n",
        );
        assert!(
            one(&machine, &person, IN_USE)
                .seen
                .ends_with("it is mounted at /srv/data")
        );
        machine.file("/sys/class/block/sdb/holders/dm-3/dm/name", "vg-data\n");
        let found = one(&machine, &person, IN_USE);
        assert_eq!(found.severity, Severity::Problem);
        assert!(found.seen.contains("/dev/dm-3 (vg-data)"), "{found:?}");
        person.runs("r0", true);
        assert_eq!(
            one(&machine, &person, IN_USE).severity,
            Severity::Ok,
            "we have it"
        );
    }

    #[test]
    fn a_disk_that_cannot_be_had_alone_is_in_use() {
        let (mut machine, person) = with_disk();
        machine.probe.claim = Some(io::ErrorKind::ResourceBusy);
        assert_eq!(one(&machine, &person, IN_USE).severity, Severity::Problem);
        machine.probe.claim = Some(io::ErrorKind::PermissionDenied);
        assert_eq!(one(&machine, &person, IN_USE).severity, Severity::Note);
    }

    #[test]
    fn a_file_that_is_a_loop_devices_is_in_use() {
        let (machine, mut person) = (MadeUp::new(), Person::new());
        person.disk = "/srv/r0.img".to_owned();
        person.configure("");
        machine.file("/srv/r0.img", "data");
        assert_eq!(one(&machine, &person, IN_USE).severity, Severity::Ok);
        machine.file("/sys/class/block/loop4/loop/backing_file", "/srv/r0.img\n");
        assert!(one(&machine, &person, IN_USE).seen.contains("/dev/loop4"));
    }

    #[test]
    fn a_volatile_cache_without_flushes_is_a_problem() {
        let (machine, mut person) = with_disk();
        assert_eq!(one(&machine, &person, CACHE).severity, Severity::Ok);
        for (kind, written, severity) in [
            ("write back\n", "", Severity::Ok),
            ("write through\n", "", Severity::Ok),
            (
                "write through\n",
                "disk { disk-flushes no; }",
                Severity::Note,
            ),
            (
                "write back\n",
                "disk { disk-flushes no; }",
                Severity::Problem,
            ),
            ("write back\n", "disk { md-flushes no; }", Severity::Problem),
        ] {
            machine.file("/sys/class/block/sdb/queue/write_cache", kind);
            person.configure(written);
            assert_eq!(
                one(&machine, &person, CACHE).severity,
                severity,
                "{kind} {written}"
            );
        }
        // A file's disk is not known.
        person.disk = "/srv/r0.img".to_owned();
        machine.file("/srv/r0.img", "data");
        person.configure("disk { disk-flushes no; }");
        assert_eq!(one(&machine, &person, CACHE).severity, Severity::Warning);
    }

    #[test]
    fn metadata_has_to_be_there_and_to_fit() {
        let (machine, mut person) = with_disk();
        let found = one(&machine, &person, METADATA);
        assert!(found.seen.contains("no room"), "{found:?}");
        assert_eq!(found.severity, Severity::Problem);
        machine.size("/dev/sdb", 16 << 20);
        let found = one(&machine, &person, METADATA);
        assert!(found.seen.contains("there is none"), "{found:?}");
        assert_eq!(found.command.unwrap(), "rdbadm create-md r0");
        person.runs("r0", true);
        assert_eq!(one(&machine, &person, METADATA).severity, Severity::Ok);
    }
}
