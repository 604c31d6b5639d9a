//! rdb's device by drivers of the kernel, in a virtual machine: `vm/pair.sh` with its jobs.

use anyhow::{Result, bail};
use rdb_tests::programs;

fn run(job: &str) -> Result<()> {
    for program in [
        "qemu-system-x86_64",
        "busybox",
        "cpio",
        "depmod",
        "xz",
        "fio",
    ] {
        programs::tool(program)?;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/pair.sh");
    let output = programs::bounded(560, "bash".as_ref())
        .arg(script)
        .arg(job)
        .arg(programs::directory()?)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{}\n{text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    eprintln!("{text}");
    Ok(())
}

#[test]
fn a_ublk_device_serves_and_fails_over_in_a_virtual_machine() -> Result<()> {
    run("ublk")
}

#[test]
fn a_daemon_is_replaced_and_killed_under_a_ublk_device_in_a_virtual_machine() -> Result<()> {
    run("restart")
}

#[test]
fn an_nbd_device_serves_and_fails_over_in_a_virtual_machine() -> Result<()> {
    run("nbd")
}

#[test]
fn a_daemon_is_replaced_and_killed_under_an_nbd_device_in_a_virtual_machine() -> Result<()> {
    run("nbd-restart")
}
