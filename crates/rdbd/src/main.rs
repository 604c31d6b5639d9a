//! The daemon: control plane, handlers, status file.
fn main() {}
