//! `crm-fence-peer` and `crm-unfence-peer` of `packaging/lib`, with programs in the place of Pacemaker's: what is placed, and which exit code says
//! so. (With the real ones they are in the cluster of `docs/pacemaker.md`, `cargo xtask cluster pacemaker`.)

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use rdb_tests::programs::shellcheck;
use rdb_tests::scratch::Scratch;

const FENCED: i32 = 4;
const COUNTS_AS_DEAD: i32 = 5;
const SHOT: i32 = 7;
const STAYS: i32 = 1;

const ONLINE: &str = "online=\"true\" standby=\"false\" unclean=\"false\"";
const UNCLEAN: &str = "online=\"false\" standby=\"false\" unclean=\"true\"";
const OFFLINE: &str = "online=\"false\" standby=\"false\" unclean=\"false\"";

/// What the scripts find: the programs that they call, and the constraint that is there.
struct Place(Scratch);

impl Place {
    fn new() -> Result<Self> {
        let place = Self(Scratch::new("fencing-scripts")?);
        place.program(
            "cibadmin",
            "case \"$*\" in\n\
             *nvpair*) cat clones ;;\n\
             -C*) [ ! -e constraint ] || exit 76; for word; do :; done; echo \"$word\" >constraint ;;\n\
             *expression*) cat constraint ;;\n\
             -D*) rm constraint ;;\n\
             *) cat constraint ;;\n\
             esac",
        )?;
        place.program("crm_mon", "cat nodes")?;
        place.program("crm_attribute", "cat stonith")?;
        place.program("rdbadm", "[ \"$*\" = 'dstate r0' ] && cat disks")?;
        fs::write(place.0.join("clones"), "<clone id=\"ms_r0\">\n</clone>\n")?;
        Ok(place)
    }

    fn program(&self, name: &str, body: &str) -> Result<()> {
        let path = self.0.join(name);
        let text = format!("#!/bin/sh\ncd '{}'\n{body}\n", self.0.path().display());
        fs::write(&path, text)?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(0o755),
        )?)
    }

    /// Exit status of a script as a handler, for these disks, this peer, and with or without stonith.
    fn call(&self, name: &str, disks: &str, peer: &str, stonith: &str) -> Result<i32> {
        let nodes = format!(
            "<node name=\"here\" id=\"1\" {ONLINE}/>\n<node name=\"bob\" id=\"2\" {peer}/>\n"
        );
        for (file, text) in [("disks", disks), ("nodes", &nodes), ("stonith", stonith)] {
            fs::write(self.0.join(file), text)?;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/lib");
        let status = Command::new(script.join(name))
            .args(["--timeout", "1"])
            .env("PATH", format!("{}:/usr/bin:/bin", self.0.path().display()))
            .env("DRBD_RESOURCE", "r0")
            .env("DRBD_PEER", "bob")
            .output()?
            .status;
        Ok(status.code().unwrap_or(-1))
    }

    fn constraint(&self) -> String {
        fs::read_to_string(self.0.join("constraint")).unwrap_or_default()
    }
}

#[test]
fn what_becomes_of_the_peer_decides_the_exit_code() -> Result<()> {
    let (good, unsure) = ("UpToDate/DUnknown\n", "Consistent/DUnknown\n");
    let table = [
        (good, ONLINE, "true", FENCED, true),
        (good, ONLINE, "false", FENCED, true),
        (good, OFFLINE, "true", SHOT, true),
        (good, UNCLEAN, "true", STAYS, true),
        (good, UNCLEAN, "false", COUNTS_AS_DEAD, true),
        (unsure, OFFLINE, "true", STAYS, false),
        (unsure, ONLINE, "true", STAYS, false),
        (unsure, OFFLINE, "false", STAYS, false),
        (
            "UpToDate/DUnknown\nInconsistent/DUnknown\n",
            ONLINE,
            "true",
            STAYS,
            false,
        ),
        ("Outdated/DUnknown\n", OFFLINE, "true", STAYS, false),
        ("", ONLINE, "true", STAYS, false),
    ];
    for (disks, peer, stonith, code, is_placed) in table {
        let place = Place::new()?;
        let found = place.call("crm-fence-peer", disks, peer, stonith)?;
        ensure!(found == code, "{disks} {peer} {stonith}: {found}");
        let constraint = place.constraint();
        ensure!(
            constraint.is_empty() != is_placed,
            "{disks} {peer} {stonith}: {constraint}"
        );
    }
    Ok(())
}

#[test]
fn the_constraint_is_drbd_utils_own_and_goes_again() -> Result<()> {
    let place = Place::new()?;
    let good = "UpToDate/DUnknown\n";
    for _ in 0..2 {
        // The second time it is there already.
        ensure!(place.call("crm-fence-peer", good, ONLINE, "true")? == FENCED);
    }
    let constraint = place.constraint();
    ensure!(
        constraint.contains("rsc=\"ms_r0\" id=\"drbd-fence-by-handler-r0-ms_r0\""),
        "{constraint}"
    );
    ensure!(place.call("crm-unfence-peer", good, ONLINE, "true")? == 0);
    ensure!(place.constraint().is_empty());
    ensure!(place.call("crm-unfence-peer", good, ONLINE, "true")? == 0);
    // The peer's constraint is not ours to ignore.
    fs::write(
        place.0.join("constraint"),
        "<expression attribute=\"#uname\" operation=\"ne\" value=\"bob\" id=\"e\"/>\n",
    )?;
    ensure!(place.call("crm-fence-peer", good, ONLINE, "true")? == STAYS);
    // Nothing that Pacemaker knows.
    fs::remove_file(place.0.join("constraint"))?;
    fs::write(place.0.join("clones"), "")?;
    ensure!(place.call("crm-fence-peer", good, ONLINE, "true")? == STAYS);
    ensure!(place.constraint().is_empty());
    Ok(())
}

#[test]
fn the_scripts_for_fencing_are_plain_shell_without_a_complaint_of_shellcheck() -> Result<()> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/lib");
    shellcheck(&[lib.join("crm-fence-peer"), lib.join("crm-unfence-peer")])
}
