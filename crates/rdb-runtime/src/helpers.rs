//! Threads for what waits: disks that are opened, devices that are made, users that are looked for.
//!
//! A system gives no thread when the limit of its user or of its control group is reached, or when memory is short. Nobody may be
//! left waiting for work that went with the thread that was not there.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Calls `work` once: on a thread of its own, with `Ok`; or, if there is none, on this one, with the reason.
pub fn on_thread(name: &str, work: impl FnOnce(io::Result<()>) + Send + 'static) {
    if let Err((work, error)) = start(name, work, |work| work(Ok(()))) {
        work(Err(error));
    }
}

/// What is said if that has come to nothing, and what bounds the threads.
pub fn no_thread(error: &io::Error) -> String {
    format!(
        "the system gives rdbd no thread: {error} (ulimit -u, and TasksMax of a systemd unit, bound them)"
    )
}

/// Runs `work` on a thread of its own; it comes back if there is none.
fn start<W: Send + 'static>(name: &str, work: W, run: fn(W)) -> Result<(), (W, io::Error)> {
    // (What a thread is given is gone if it can not be started, unless somebody else holds it.)
    let kept = Arc::new(Mutex::new(Some(work)));
    let given = Arc::clone(&kept);
    let started = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Some(work) = take(&given) {
                run(work);
            }
        });
    match started {
        Ok(_) => Ok(()),
        Err(error) => Err((take(&kept).expect("no thread has taken it"), error)),
    }
}

fn take<W>(from: &Mutex<Option<W>>) -> Option<W> {
    from.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What a thread does.
type Work = Box<dyn FnOnce() + Send>;

/// Work that has found no thread, in its order, with the thread's name.
#[derive(Default)]
pub(crate) struct Waiting(RefCell<VecDeque<(String, Work)>>);

impl Waiting {
    /// Whether there is some.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Begins it, unless there is no thread: then it waits for [`begin_again`](Waiting::begin_again), and why is the error.
    pub(crate) fn begin(&self, name: &str, work: Work) -> io::Result<()> {
        start(name, work, |work| work()).map_err(|(work, error)| {
            self.0.borrow_mut().push_back((name.to_owned(), work));
            error
        })
    }

    /// Begins what waits, until there is no thread.
    pub(crate) fn begin_again(&self) {
        let mut waiting = self.0.borrow_mut();
        while let Some((name, work)) = waiting.pop_front() {
            if let Err((work, _)) = start(&name, work, |work| work()) {
                waiting.push_front((name, work));
                break;
            }
        }
    }
}
