//! Who asked for the operation that is being done, and whether he still waits for it.
//!
//! A command whose caller has gone is taken back: it would hold its resource against every later one, for nobody. What the
//! daemon does by itself has no caller, and goes on until it is done.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::sync::OwnedMutexGuard;

use crate::outcome::{Failure, Outcome};
use crate::target::Target;

/// A caller.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    has_gone: Cell<bool>,
    told: Notify,
}

tokio::task_local! {
    static CALLER: Rc<Caller>;
}

impl Caller {
    /// He has gone, or will not wait any more.
    pub(crate) fn leave(&self) {
        self.has_gone.set(true);
        self.told.notify_waiters();
    }

    /// Does `work` for him.
    pub(crate) async fn served<T>(self: Rc<Caller>, work: impl Future<Output = T>) -> T {
        CALLER.scope(self, work).await
    }
}

/// Whether somebody has asked for this operation; what the daemon does by itself nobody has.
pub(crate) fn is_there() -> bool {
    CALLER.try_with(|_| ()).is_ok()
}

/// Comes when the caller of this operation has gone; never if it has none.
pub(crate) async fn gone() {
    let Ok(caller) = CALLER.try_with(Rc::clone) else {
        return std::future::pending().await;
    };
    let mut told = std::pin::pin!(caller.told.notified());
    told.as_mut().enable();
    if !caller.has_gone.get() {
        told.await;
    }
}

/// How an operation ends whose caller has gone.
pub(crate) fn taken_back() -> Failure {
    Failure::Error(rdb_control::TAKEN_BACK.to_owned())
}

/// How one ends that can not be taken back any more.
pub(crate) fn goes_on() -> Failure {
    Failure::Error("not done in time, and it can not be taken back any more: it goes on".to_owned())
}

/// Waits for the turn of a command that changes a resource.
pub(crate) async fn turn(target: &Target) -> Outcome<OwnedMutexGuard<()>> {
    tokio::select! {
        turn = std::sync::Arc::clone(&target.turn).lock_owned() => Ok(turn),
        () = gone() => Err(taken_back()),
    }
}
