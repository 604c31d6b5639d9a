//! The kernel's DRBD 8.4.11 as the peer, in a virtual machine: the short form of `vm/interop.sh`.

use anyhow::{Result, bail};
use rdb_tests::programs;

#[test]
fn the_kernels_driver_and_rdb_sync_each_other_in_a_virtual_machine() -> Result<()> {
    for program in ["qemu-system-x86_64", "busybox", "cpio", "depmod", "xz"] {
        programs::tool(program)?;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/interop.sh");
    let output = programs::bounded(840, "bash".as_ref())
        .args([script, "-q"])
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
