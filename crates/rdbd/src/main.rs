//! The daemon: control plane, handlers, status file.

mod proc_drbd;
mod settings;
fn main() {}
