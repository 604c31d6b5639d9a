//! Threads, which a system does not always give: then there is an error that says so, in words.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts one.
///
/// # Errors
/// If the system gives none.
pub(crate) fn start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().spawn(work).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("the system gives no thread: {error} (ulimit -u bounds them)"),
        )
    })
}
