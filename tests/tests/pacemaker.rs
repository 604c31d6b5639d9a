//! rdb below a two-node cluster of Corosync and Pacemaker, in namespaces of this machine.

use anyhow::Result;

/// Runs a script of `tests/pacemaker` with these words, which says `ok` so many times.
fn cluster(name: &str, words: &[&str], programs: &[&str], oks: usize) -> Result<()> {
    let programs = [&["corosync", "pacemakerd"], programs].concat();
    rdb_tests::cluster::cluster(&format!("pacemaker/{name}.sh"), words, &programs, oks)
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
