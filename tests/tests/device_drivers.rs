//! rdb's device by drivers of the kernel, in a virtual machine: `vm/pair.sh` with its jobs.

use anyhow::Result;
use rdb_tests::programs;

fn run(job: &str) -> Result<()> {
    programs::in_virtual_machine(560, "pair.sh", &[job])
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

#[test]
fn a_daemon_is_restarted_by_systemd_in_a_virtual_machine() -> Result<()> {
    run("systemd")
}

#[test]
fn a_fuse_device_goes_from_daemon_to_daemon_by_systemd_in_a_virtual_machine() -> Result<()> {
    run("systemd-fuse")
}

#[test]
fn the_status_file_takes_the_place_of_the_kernels_in_a_virtual_machine() -> Result<()> {
    run("proc-drbd")
}

#[test]
fn logical_volumes_below_a_device_are_snapshot_in_a_virtual_machine() -> Result<()> {
    programs::tool("lvm")?;
    run("lvm")
}
