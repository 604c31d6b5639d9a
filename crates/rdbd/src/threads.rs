//! Work that may wait for disks, devices or programs is done on threads of its own, so that the control plane goes on meanwhile.
//!
//! tokio's `spawn_blocking` panics if the system gives no thread (the limit of a user or of a control group is reached, or memory is
//! short). Here that is an error, and who asked says what it comes to.

use std::io;
use std::time::Duration;

use rdb_runtime::ResourceHandle;
use tokio::sync::oneshot;

/// How often it is looked whether a resource's thread has ended: at first, and in the end.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(32);

/// Why work was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// Nothing of it was begun.
    #[error("{what}: {}", rdb_runtime::no_thread(.error))]
    NoThread {
        what: &'static str,
        error: io::Error,
    },
    /// What it was in the middle of is in the log.
    #[error("{what}: it has panicked, see the log")]
    Panicked { what: &'static str },
}

/// What `work` comes to. It goes on if nobody waits for it any more.
///
/// # Errors
/// If there is no thread for it, or it panics.
pub(crate) async fn run<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NotDone> {
    let (done, result) = oneshot::channel();
    rdb_runtime::on_thread("rdbd-work", move |thread| {
        // Nobody may be waiting any more.
        let _ = done.send(thread.map(|()| work()));
    });
    match result.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(NotDone::NoThread { what, error }),
        Err(_) => Err(NotDone::Panicked { what }),
    }
}

/// The same for work that is better done late than not at all: without a thread of its own it is done here and now, and everybody
/// waits for it.
///
/// # Errors
/// If it panics.
pub(crate) async fn run_in_any_case<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NotDone> {
    let (done, result) = oneshot::channel();
    rdb_runtime::on_thread("rdbd-work", move |thread| {
        if let Err(error) = thread {
            tracing::warn!("{what}: {}", rdb_runtime::no_thread(&error));
        }
        // Nobody may be waiting any more.
        let _ = done.send(work());
    });
    result.await.map_err(|_| NotDone::Panicked { what })
}

/// Waits until a resource's thread has ended, which was stopped, or has told of its end.
pub(crate) async fn end_of(handle: &ResourceHandle) {
    let mut pause = FIRST_LOOK;
    while !handle.has_ended() {
        tokio::time::sleep(pause).await;
        pause = LAST_LOOK.min(pause * 2);
    }
}
