//! `rdbd --check`: whether a daemon could run here. Everything that a daemon needs before it serves is done once and taken
//! back, so that whoever is to give a working daemon up for this one knows it before.

use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result};
use rdb_frontend::Frontend;

use crate::control_runtime;
use crate::ops::MAX_BUFFERS;
use crate::record;

/// The settings were read and the front end was settled; this is the rest.
///
/// # Errors
/// What a daemon would fail at.
pub(crate) fn run(run_dir: &Path, frontend: Frontend) -> Result<()> {
    record::check(run_dir)?;
    check_sockets(run_dir)?;
    rdb_runtime::check(MAX_BUFFERS).context("no resource could run")?;
    frontend.check_devices(run_dir)?;
    control_runtime::build()?;
    Ok(())
}

/// The control socket is made anew by every daemon; a name of the same length stands for it.
fn check_sockets(run_dir: &Path) -> Result<()> {
    let name: String = format!("check-{}", std::process::id());
    let name: String = name.chars().take(rdb_control::SOCKET_NAME.len()).collect();
    let path = run_dir.join(name);
    let bound = UnixListener::bind(&path);
    if bound.is_ok() {
        std::fs::remove_file(&path)?;
    }
    bound
        .map(drop)
        .with_context(|| format!("a socket in {}", run_dir.display()))
}
