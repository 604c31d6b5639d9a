//! The commands rdbadm, rdbsetup, rdbmeta: one multi-call binary.
fn main() {}
