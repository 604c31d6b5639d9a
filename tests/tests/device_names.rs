//! The names of a device in `/dev`: there as long as the volume is, a block device all the time, and never somebody else's.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::programs::{ours, tool};
use rdb_tests::scratch::Scratch;
use rdb_tests::{Node, wait_until};

/// A node with a resource whose names are in this machine's `/dev`: no other test has the minor. Fields are dropped in this order.
struct Place {
    node: Node,
    minor: u32,
    resource: String,
    scratch: Scratch,
}

impl Place {
    fn new(minor: u32) -> Result<Self> {
        Self::with(minor, &format!("names-{minor}"), 20_000 + minor)
    }

    fn with(minor: u32, resource: &str, port: u32) -> Result<Self> {
        let scratch = Scratch::new("names")?;
        let resource = resource.to_owned();
        let conf = scratch.join("drbd.conf");
        fs::write(
            &conf,
            format!(
                "resource {resource} {{\n device /dev/drbd{minor};\n disk {disk};\n meta-disk internal;\n \
                 on alice {{ address 127.0.0.1:{port}; }}\n on bob {{ address 127.0.0.2:{port}; }}\n}}\n",
                disk = scratch.join("disk").display(),
            ),
        )?;
        fs::File::create(scratch.join("disk"))?.set_len(16 << 20)?;
        let mut node = Node::new(scratch.path(), "alice", &conf)?;
        let settings = scratch.join("rdbd.toml");
        fs::write(&settings, "device-links = true\n")?;
        node.settings = Some(settings);
        node.frontend = "fuse".to_owned();
        node.start()?;
        node.adm(&["create-md", "--force", &resource])?;
        Ok(Self {
            node,
            minor,
            resource,
            scratch,
        })
    }

    fn adm(&self, verb: &str) -> Result<String> {
        self.node.adm(&[verb, &self.resource])
    }

    fn by_minor(&self) -> PathBuf {
        format!("/dev/drbd{}", self.minor).into()
    }

    fn by_resource(&self) -> PathBuf {
        Path::new("/dev/drbd/by-res").join(&self.resource)
    }

    fn by_disk(&self) -> PathBuf {
        let disk = self.scratch.join("disk");
        Path::new("/dev/drbd/by-disk").join(disk.strip_prefix("/").unwrap_or(&disk))
    }

    /// Each name is a block device; whether it can be opened.
    fn can_be_opened(&self) -> Result<bool> {
        let mut opened = Vec::new();
        for name in [self.by_minor(), self.by_resource(), self.by_disk()] {
            let kind = fs::metadata(&name)
                .with_context(|| name.display().to_string())?
                .file_type();
            ensure!(kind.is_block_device(), "{}: {kind:?}", name.display());
            opened.push(fs::File::open(&name).is_ok());
        }
        ensure!(opened.iter().all(|is| *is == opened[0]), "{opened:?}");
        Ok(opened[0])
    }

    fn has_none(&self) -> bool {
        let names = [self.by_minor(), self.by_resource(), self.by_disk()];
        names.iter().all(|name| name.symlink_metadata().is_err())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Of a test that has failed.
        for name in [self.by_minor(), self.by_resource(), self.by_disk()] {
            let _ = fs::remove_file(name);
        }
    }
}

#[test]
fn a_volume_has_its_names_for_life_and_they_open_while_it_is_primary() -> Result<()> {
    let mut place = Place::new(7077)?;
    ensure!(place.has_none());
    place.adm("up")?;
    ensure!(!place.can_be_opened()?);
    place.node.adm(&["primary", "--force", &place.resource])?;
    ensure!(place.can_be_opened()?);
    // Whoever looks while the roles change finds a block device.
    let name = place.by_resource();
    let watching = std::thread::spawn(move || -> Result<u32> {
        let begun = std::time::Instant::now();
        let mut looks = 0;
        while begun.elapsed() < Duration::from_secs(3) {
            let kind = fs::metadata(&name)
                .context("a name is missing")?
                .file_type();
            ensure!(kind.is_block_device());
            looks += 1;
        }
        Ok(looks)
    });
    for _ in 0..4 {
        place.adm("secondary")?;
        // Its number may be somebody else's the next moment.
        ensure!(!place.can_be_opened()?, "a name leads to the device still");
        place.adm("primary")?;
        ensure!(place.can_be_opened()?);
    }
    ensure!(watching.join().expect("no panic")? > 0);
    place.adm("down")?;
    ensure!(place.has_none());

    // The end of the daemon is theirs.
    place.adm("up")?;
    ensure!(!place.can_be_opened()?);
    place.node.terminate()?;
    ensure!(place.has_none());

    // What a killed one leaves, the next removes or replaces.
    for role in ["secondary", "primary"] {
        place.node.start()?;
        ensure!(place.has_none());
        place.adm("up")?;
        place.adm(role)?;
        place.node.kill()?;
        ensure!(!place.has_none());
    }
    place.node.start()?;
    place.adm("up")?;
    ensure!(!place.can_be_opened()?);
    place.adm("primary")?;
    let outcome = place.node.adm(&["restart"])?;
    ensure!(place.can_be_opened()?, "{outcome}");
    place.adm("down")?;
    ensure!(place.has_none());
    Ok(())
}

#[test]
fn a_name_that_somebody_else_has_stays_his() -> Result<()> {
    let place = Place::new(7078)?;
    // A device node of the kernel's driver, as far as anybody can tell.
    let minor = place.minor.to_string();
    let node = place.by_minor();
    let status = Command::new(tool("mknod")?)
        .arg(&node)
        .args(["b", "147", &minor])
        .status()?;
    ensure!(status.success());
    place.adm("up")?;
    // Whoever promotes means the device by that name.
    let said = place
        .node
        .try_adm(&["primary", "--force", &place.resource])?
        .fails_with(20)?;
    ensure!(said.contains("not replaced; it is not promoted"), "{said}");
    ensure!(place.adm("role")?.trim() == "Secondary/Unknown");
    place.adm("down")?;
    let there = fs::symlink_metadata(&node)?;
    ensure!(there.file_type().is_block_device() && libc_major(there.rdev()) == 147);
    ensure!(place.by_resource().symlink_metadata().is_err());
    ensure!(place.node.logged("not replaced") > 0);
    fs::remove_file(&node)?;

    // udev's link.
    fs::create_dir_all("/dev/drbd/by-res")?;
    symlink("../../drbd7078", place.by_resource())?;
    place.adm("up")?;
    place.adm("down")?;
    let target = fs::read_link(place.by_resource())?;
    ensure!(
        target == Path::new("../../drbd7078"),
        "{}",
        target.display()
    );
    ensure!(node.symlink_metadata().is_err());
    fs::remove_file(place.by_resource())?;
    Ok(())
}

#[test]
fn the_name_by_a_disk_is_that_of_the_disk_there_is() -> Result<()> {
    let place = Place::new(7080)?;
    place.adm("up")?;
    ensure!(place.by_disk().is_symlink());
    place.adm("detach")?;
    // The configuration has another one.
    let conf = fs::read_to_string(&place.node.conf)?;
    let other = place.scratch.join("other");
    fs::File::create(&other)?.set_len(16 << 20)?;
    let (old, new) = (place.scratch.join("disk"), other.display().to_string());
    fs::write(
        &place.node.conf,
        conf.replace(&old.display().to_string(), &new),
    )?;
    place.node.adm(&["create-md", "--force", &place.resource])?;
    place.adm("attach")?;
    let by_disk = Path::new("/dev/drbd/by-disk").join(other.strip_prefix("/").unwrap_or(&other));
    ensure!(by_disk.is_symlink(), "{}", by_disk.display());
    ensure!(
        place.by_disk().symlink_metadata().is_err(),
        "that of the old disk is still there"
    );
    place.adm("down")?;
    ensure!(by_disk.symlink_metadata().is_err());
    Ok(())
}

/// A daemon is killed, its loop device goes, and somebody else gets the same one.
#[test]
fn a_name_never_leads_to_a_loop_device_that_somebody_has_taken_since() -> Result<()> {
    let mut place = Place::new(7081)?;
    place.adm("up")?;
    place.node.adm(&["primary", "--force", &place.resource])?;
    let device = fs::read_link(place.by_minor())?;
    place.node.kill()?;
    let losetup = tool("losetup")?;
    let file = place.scratch.join("foreign");
    fs::write(&file, vec![0x5A; 1 << 20])?;
    Command::new(&losetup).arg("-d").arg(&device).status()?;
    let name = device
        .file_name()
        .and_then(|name| name.to_str())
        .context("a name")?;
    let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
    wait_until("the loop device to go", Duration::from_secs(20), || {
        Ok(!backing.exists())
    })?;
    let taken = Command::new(&losetup).arg(&device).arg(&file).status()?;
    let looked = (|| -> Result<()> {
        // If it is not we who have it now, somebody else was faster, who is as foreign.
        place.node.start()?;
        place.adm("up")?;
        wait_until("the name to lead nowhere", Duration::from_secs(20), || {
            Ok(place.by_minor().read_link().is_err())
        })?;
        ensure!(!place.can_be_opened()?);
        place.adm("primary")?;
        ensure!(fs::read_link(place.by_minor())? != device);
        ensure!(fs::read(&file)? == vec![0x5A; 1 << 20]);
        place.adm("down")?;
        Ok(())
    })();
    if taken.success() {
        Command::new(&losetup).arg("-d").arg(&device).status()?;
    }
    looked
}

#[test]
fn of_two_daemons_with_one_minor_the_first_keeps_the_name() -> Result<()> {
    let first = Place::new(7082)?;
    let second = Place::with(7082, "names-other", 27_083)?;
    let promote = ["primary", "--force"];
    let force = |place: &Place| {
        let words = [&promote[..], &[place.resource.as_str()]].concat();
        place.node.try_adm(&words)
    };
    first.adm("up")?;
    second.adm("up")?;
    force(&first)?.ok()?;
    let device = fs::read_link(first.by_minor())?;
    let said = force(&second)?.fails_with(20)?;
    ensure!(said.contains("which another rdbd serves"), "{said}");
    ensure!(fs::read_link(first.by_minor())? == device);
    first.adm("secondary")?;
    force(&second)?.ok()?;
    ensure!(fs::read_link(first.by_minor())? != device || fs::read_link(second.by_minor()).is_ok());
    let said = first.node.try_adm(&["primary", &first.resource])?;
    said.fails_with(20)?;
    second.adm("down")?;
    first.adm("primary")?;
    first.adm("down")?;
    Ok(())
}

/// The major number of a device, as the kernel's user interface has it.
fn libc_major(device: u64) -> u64 {
    (device >> 8) & 0xfff
}

#[test]
fn where_nodes_cannot_be_made_a_volume_has_names_while_it_has_a_device() -> Result<()> {
    let mut place = Place::new(7079)?;
    place.node.terminate()?;
    let log = fs::File::create(place.scratch.join("without.log"))?;
    let mut command = Command::new(tool("setpriv")?);
    command
        .args(["--bounding-set", "-mknod", "--inh-caps", "-mknod"])
        .arg(ours("rdbd")?)
        .args(["--frontend", "fuse", "--node", "alice", "--run-dir"])
        .arg(&place.node.run_dir)
        .arg("--config")
        .arg(place.scratch.join("rdbd.toml"));
    let mut daemon = command.stdout(log.try_clone()?).stderr(log).spawn()?;
    wait_until("rdbd to answer", Duration::from_secs(20), || {
        Ok(place.node.answers())
    })?;
    let walk = || -> Result<()> {
        place.adm("up")?;
        ensure!(place.has_none());
        place.node.adm(&["primary", "--force", &place.resource])?;
        ensure!(place.can_be_opened()?);
        place.adm("secondary")?;
        wait_until("the names to go", Duration::from_secs(20), || {
            Ok(place.has_none())
        })?;
        place.adm("down")?;
        let log = fs::read_to_string(place.scratch.join("without.log"))?;
        let told = log.matches("does not let rdbd make device nodes").count();
        ensure!(told == 1, "{log}");
        Ok(())
    };
    let walked = walk();
    daemon.kill()?;
    daemon.wait()?;
    walked
}
