//! rdb below a two-node cluster of Corosync and Pacemaker, in namespaces of this machine.

use std::path::Path;

use anyhow::{Result, ensure};
use rdb_tests::programs::{bounded, directory, tool};
use rdb_tests::scratch::Scratch;

#[test]
fn drbd_utils_own_scripts_fence_and_unfence_the_peer_in_pacemaker() -> Result<()> {
    for program in ["corosync", "pacemakerd", "qemu-io", "nsenter", "ip"] {
        tool(program)?;
    }
    let scratch = Scratch::new("pacemaker")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("pacemaker/fencing.sh");
    let output = bounded(280, "bash".as_ref())
        .arg(script)
        .arg(directory()?)
        .arg(scratch.path())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(text.matches("ok    ").count() == 7, "{text}");
    Ok(())
}
