//! The kernel's DRBD 8.4.11 as the peer, in a virtual machine: the short form of `vm/interop.sh`.

use anyhow::Result;
use rdb_tests::programs;

#[test]
fn the_kernels_driver_and_rdb_sync_each_other_in_a_virtual_machine() -> Result<()> {
    programs::in_virtual_machine(840, "interop.sh", &["-q"])
}
