//! The control plane's runtime.

use std::io;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

/// Pairs of sockets that are made to see that there are as many open files to be had as the runtime takes.
const PAIRS: usize = 4;

/// Makes it. tokio panics where it gets no files for signals, so that is tried first.
///
/// # Errors
/// What the system says.
pub(crate) fn build() -> Result<Runtime> {
    let pairs: io::Result<Vec<_>> = (0..PAIRS).map(|_| UnixStream::pair()).collect();
    drop(pairs.context("control plane")?);
    let built = Builder::new_current_thread().enable_all().build();
    built.context("control plane")
}
