//! rdb below a two-node cluster of Corosync and Pacemaker, in namespaces of this machine.

use std::path::Path;

use anyhow::{Result, ensure};
use rdb_tests::programs::{bounded, directory, tool};
use rdb_tests::scratch::Scratch;

/// Runs a script of `tests/pacemaker` with these words, which says `ok` so many times.
fn cluster(name: &str, words: &[&str], programs: &[&str], oks: usize) -> Result<()> {
    for program in ["corosync", "pacemakerd", "nsenter", "ip"]
        .iter()
        .chain(programs)
    {
        tool(program)?;
    }
    let scratch = Scratch::new(&format!("pacemaker-{name}"))?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("pacemaker/{name}.sh"));
    let output = bounded(280, "bash".as_ref())
        .arg(script)
        .arg(directory()?)
        .arg(scratch.path())
        .args(words)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(text.matches("ok    ").count() == oks, "{text}");
    Ok(())
}

#[test]
fn drbd_utils_own_scripts_fence_and_unfence_the_peer_in_pacemaker() -> Result<()> {
    cluster("fencing", &[], &["qemu-io"], 7)
}

#[test]
fn a_tutorials_cluster_starts_fails_over_and_survives_its_incidents() -> Result<()> {
    cluster("tutorial", &[], &["crm", "ocf-tester", "xmllint"], 9)
}

#[test]
fn a_web_server_under_pacemaker_comes_up_by_the_words_of_the_guide() -> Result<()> {
    cluster("tutorial", &["first", "page"], &["crm", "python3"], 5)
}

#[test]
fn the_tutorials_cluster_works_with_drbd_utils_own_agent_too() -> Result<()> {
    let words = ["short", "linbit"];
    cluster("tutorial", &words, &["crm", "ocf-tester", "xmllint"], 9)
}
