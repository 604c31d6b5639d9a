//! Serves a status file until standard input ends: `status_file PATH fuse|memfd`.
//!
//! The content is a number that grows with each making, and many lines with the same number.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use rdb_frontend::status_file::{Method, serve_by};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, method) = match &arguments[..] {
        [path, method] if method == "fuse" => (path, Method::Fuse),
        [path, method] if method == "memfd" => (path, Method::Memfd),
        _ => {
            eprintln!("usage: status_file PATH fuse|memfd");
            return ExitCode::from(2);
        }
    };
    let mut made = 0_u64;
    let content = move || {
        made += 1;
        format!("{made}\n").repeat(20_000)
    };
    let served = match serve_by(method, Path::new(path), content) {
        Ok(served) => served,
        Err(error) => {
            eprintln!("status_file: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", served.path().display());
    let ended = io::stdin().read_to_end(&mut Vec::new());
    drop(served);
    if ended.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
