//! rdb over a slow line: `docs/vpn.md` by its own commands, in namespaces of this machine with a tunnel between them.

use std::path::Path;

use anyhow::{Result, ensure};
use rdb_tests::programs::{bounded, directory, tool};
use rdb_tests::scratch::Scratch;

#[test]
fn a_slow_line_makes_writers_wait_and_costs_nobody_his_peer() -> Result<()> {
    for program in ["ip", "nsenter", "unshare", "mkfs.ext4", "python3"] {
        tool(program)?;
    }
    let scratch = Scratch::new("vpn")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("vpn/tutorial.sh");
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
    ensure!(text.matches("ok    ").count() == 5, "{text}");
    Ok(())
}
