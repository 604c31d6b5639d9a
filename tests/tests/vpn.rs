//! rdb over a slow line: `docs/vpn.md` by its own commands, in namespaces of this machine with a tunnel between them.

use anyhow::Result;
use rdb_tests::cluster::cluster;

#[test]
fn a_slow_line_makes_writers_wait_and_costs_nobody_his_peer() -> Result<()> {
    cluster("vpn/tutorial.sh", &[], &["mkfs.ext4", "python3"], 5)
}
