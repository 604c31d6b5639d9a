//! rdb's device by the kernel's ublk driver, in a virtual machine: `vm/ublk.sh`.

use anyhow::{Result, bail};
use rdb_tests::programs;

#[test]
fn a_ublk_device_serves_fails_over_and_outlives_its_daemon_in_a_virtual_machine() -> Result<()> {
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
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/ublk.sh");
    let output = programs::bounded(560, "bash".as_ref())
        .arg(script)
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
