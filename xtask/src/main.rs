//! The project's menu: check, test, bench, fuzz.
fn main() {}
