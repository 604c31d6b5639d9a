//! The ring: what is in flight, and what it owns.
//!
//! An operation's memory and file descriptors belong to the [`Operation`] in the slab until the kernel says that it has
//! ended, whatever becomes of what it was for. That is what makes the pushes sound.
//!
//! A ring that ends gives what is under way a few seconds. What takes longer, I/O of a disk that hangs, leaves [`Remains`]: they
//! keep memory and disks for the kernel until it has answered, on the thread of the ring, for nobody else may enter it.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, squeue};
use slab::Slab;

use crate::pool::Pool;

/// Entries of the submission queue. It is flushed whenever it is full, so this bounds nothing but batches.
const SUBMISSION_ENTRIES: u32 = 512;
/// Chunks of the arenas of one ring. Each that follows has at least twice the buffers of the one before, from 2 chunks to 512,
/// and 64 chunks at most in each of the other reserves.
const SLOTS: usize = 2048;
/// Entries of the completion queue; beyond, the kernel keeps completions in a list.
const COMPLETION_ENTRIES: u32 = 4096;
/// How long an ending ring waits for what it has cancelled, before whoever waits for its end is told of it all the same.
pub(crate) const TEARDOWN_MS: u64 = 5000;

/// What a ring has to know of an operation that it keeps in flight.
///
/// # Safety
/// Pointers in the submission go to memory that the operation owns, at the same address wherever the operation itself is
/// moved, and file descriptors are ones that it holds.
pub(crate) unsafe trait Operation: Sized {
    /// What is taken note of when the operation does not end with its ring.
    type Held;

    /// One that asks for the end of the operation in that place.
    fn cancel(key: usize) -> Self;

    /// Its submission.
    fn entry(&mut self) -> squeue::Entry;

    /// What becomes of it when the ring ends.
    fn at_end(&self) -> AtEnd;

    /// What it keeps in use.
    fn held(&self) -> Option<Self::Held>;
}

/// What becomes of an operation when its ring ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AtEnd {
    /// It is cancelled and awaited.
    Cancelled,
    /// It is let run and awaited.
    Awaited,
    /// It ends with the ring itself, and uses nothing of ours: nobody waits for it. Most of the time it waits for somebody to
    /// speak.
    Dropped,
}

/// Without work for this long, the thread sleeps at once.
const LULL: Duration = Duration::from_millis(2);
/// With more operations in flight than this, completions come often enough for sleeping to cost little. Some five of them
/// only wait for somebody to speak.
const FEW_OPS: usize = 8;
/// `IORING_ENTER_GETEVENTS` of io_uring_enter(2).
const ENTER_GETEVENTS: u32 = 1;

/// The ring of one resource.
pub(crate) struct Ring<O: Operation> {
    uring: mem::ManuallyDrop<IoUring>,
    ops: mem::ManuallyDrop<Slab<O>>,
    /// The arenas that the ring has registered.
    pools: mem::ManuallyDrop<Vec<Rc<Pool>>>,
    /// How many chunks can be registered, and how many places are taken.
    slots: usize,
    slots_used: usize,
    /// How many of `ops` end with the ring itself.
    dropped: usize,
    /// Completions taken from the ring and not yet handed out. They stay here, whatever becomes of the handler of the one before:
    /// an operation whose completion were lost would be awaited for ever.
    completed: VecDeque<(u64, i32)>,
    /// How long to look for completions before sleeping.
    busy_poll: Duration,
    last_work: Instant,
}

impl<O: Operation> Ring<O> {
    /// Makes the ring on the thread that will use it.
    pub(crate) fn new(pool: Rc<Pool>, busy_poll: Duration) -> io::Result<Ring<O>> {
        let uring = IoUring::builder()
            .setup_cqsize(COMPLETION_ENTRIES)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .build(SUBMISSION_ENTRIES)
            // Older kernels (before 6.1) lack the last three.
            .or_else(|_| {
                IoUring::builder()
                    .setup_cqsize(COMPLETION_ENTRIES)
                    .build(SUBMISSION_ENTRIES)
            })?;
        if !uring.params().is_feature_ext_arg() || !uring.params().is_feature_nodrop() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel's io_uring is too old: 5.11 or later is needed",
            ));
        }
        // A table with room for larger arenas to come; kernels before 5.19 have tables that are full from the start.
        let slots = match uring.submitter().register_buffers_sparse(SLOTS as u32) {
            Ok(()) => SLOTS,
            Err(_) => 0,
        };
        let mut ring = Ring {
            uring: mem::ManuallyDrop::new(uring),
            ops: mem::ManuallyDrop::new(Slab::with_capacity(1024)),
            dropped: 0,
            pools: mem::ManuallyDrop::new(Vec::new()),
            slots,
            slots_used: 0,
            completed: VecDeque::with_capacity(COMPLETION_ENTRIES as usize),
            busy_poll,
            last_work: Instant::now(),
        };
        ring.adopt(pool);
        Ok(ring)
    }

    /// Gives an arena its places in the ring's table, so that its pages need not be looked up for each operation. Without
    /// places its buffers work as well, a little slower.
    pub(crate) fn adopt(&mut self, pool: Rc<Pool>) {
        let end = self.slots_used + pool.chunk_count();
        if end > self.slots {
            return;
        }
        pool.set_first_slot(self.slots_used as u16);
        self.slots_used = end;
        self.pools.push(Rc::clone(&pool));
        self.register(&pool, pool.resident());
    }

    /// Registers chunks of an arena that has places. What the system refuses works as well, a little slower.
    pub(crate) fn register(&self, pool: &Rc<Pool>, chunks: impl IntoIterator<Item = usize>) {
        if !self.has_places(pool) {
            return;
        }
        for chunk in chunks {
            let (slot, iovec) = pool.as_iovec(chunk);
            // SAFETY: the arena stays mapped until after the ring has ended: it is held in `pools`, and is leaked together
            // with the operations if some of them do not end.
            let registered = unsafe {
                let submitter = self.uring.submitter();
                submitter.register_buffers_update(u32::from(slot), &[iovec], None)
            };
            pool.set_registered(chunk, registered.is_ok());
        }
    }

    /// Takes a chunk out of the table. Nothing in flight may be using it.
    pub(crate) fn forget(&self, pool: &Rc<Pool>, chunk: usize) {
        if !pool.set_registered(chunk, false) {
            return;
        }
        let (slot, _) = pool.as_iovec(chunk);
        let nothing = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: no memory is registered by this.
        let result = unsafe {
            let submitter = self.uring.submitter();
            submitter.register_buffers_update(u32::from(slot), &[nothing], None)
        };
        if let Err(error) = result {
            tracing::warn!("a buffer stays registered: {error}");
        }
    }

    fn has_places(&self, pool: &Rc<Pool>) -> bool {
        self.pools.iter().any(|other| Rc::ptr_eq(other, pool))
    }

    /// Starts an operation; where it is in flight.
    pub(crate) fn start(&mut self, op: impl Into<O>) -> usize {
        let op = op.into();
        self.dropped += usize::from(op.at_end() == AtEnd::Dropped);
        let key = self.ops.insert(op);
        let entry = self.ops[key].entry().user_data(key as u64);
        // SAFETY: by the rule of `Operation` the entry refers only to what the operation owns, which stays in the slab
        // until its completion is taken; see also `drop`.
        while unsafe { self.uring.submission().push(&entry) }.is_err() {
            // The queue is full: hand it over.
            match self.uring.submit() {
                Ok(_) => {}
                // Kernels before 5.19 take no more before the completions that did not fit are made room for; this may
                // run amid the handling of a completion, so they are handed out by the next turn.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => drop(self.gather()),
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    tracing::error!("io_uring takes no submissions: {error}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        key
    }

    /// Asks for the end of an operation; its completion comes all the same.
    pub(crate) fn cancel(&mut self, key: usize) {
        self.start(O::cancel(key));
    }

    /// Asks for the end of all operations that are meant.
    pub(crate) fn cancel_all(&mut self, is_meant: impl Fn(&O) -> bool) {
        let meant = self.ops.iter().filter(|(_, op)| is_meant(op));
        let keys: Vec<usize> = meant.map(|(key, _)| key).collect();
        for key in keys {
            self.cancel(key);
        }
    }

    /// What is in flight.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = &O> {
        self.ops.iter().map(|(_, op)| op)
    }

    /// Submits what is queued. `wait`: until something completes, at most for this long (`None`: for ever).
    pub(crate) fn turn(&mut self, wait: bool, timeout: Option<Duration>) -> io::Result<()> {
        let have = {
            let mut completions = self.uring.completion();
            completions.sync();
            !completions.is_empty() || !self.completed.is_empty()
        };
        let result = if !have && wait && self.busy_poll(timeout) {
            Ok(0)
        } else if have || !wait {
            // With deferred task work, an enter with nothing to wait for still reaps what is ready.
            self.uring.submit_and_wait(0)
        } else {
            match timeout {
                None => self.uring.submit_and_wait(1),
                Some(timeout) => {
                    let timespec = Timespec::new()
                        .sec(timeout.as_secs())
                        .nsec(timeout.subsec_nanos());
                    let args = SubmitArgs::new().timespec(&timespec);
                    self.uring.submitter().submit_with_args(1, &args)
                }
            }
        };
        if !self.uring.completion().is_empty() {
            self.last_work = Instant::now();
        }
        match result {
            Ok(_) => Ok(()),
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks for completions for a while instead of sleeping, if there was work a moment ago: what a wake-up costs is
    /// most of a small write's time. Whether there are some now.
    fn busy_poll(&mut self, timeout: Option<Duration>) -> bool {
        let start = Instant::now();
        if self.busy_poll.is_zero()
            || self.ops.len() - self.dropped > FEW_OPS
            || start.duration_since(self.last_work) > LULL
        {
            return false;
        }
        let budget = self.busy_poll.min(timeout.unwrap_or(Duration::MAX));
        if self.uring.submit().is_err() {
            return false; // the ordinary way says what is wrong
        }
        while start.elapsed() < budget {
            // SAFETY: no argument is passed; the call only lets the kernel post what is complete.
            let posted = unsafe {
                self.uring
                    .submitter()
                    .enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None)
            };
            if posted.is_err() {
                return false;
            }
            if !self.uring.completion().is_empty() {
                return true;
            }
            // Whoever has something to do goes first.
            std::thread::yield_now();
        }
        false
    }

    /// Takes what has completed from the kernel; how many completions there are to hand out.
    pub(crate) fn gather(&mut self) -> usize {
        let completions = self.uring.completion();
        self.completed
            .extend(completions.map(|entry| (entry.user_data(), entry.result())));
        self.completed.len()
    }

    /// Hands out the first operation that has completed, with what became of it.
    pub(crate) fn next_completed(&mut self) -> Option<(O, i32)> {
        // The kernel answers nothing that was not asked.
        loop {
            let (user_data, result) = self.completed.pop_front()?;
            if let Some(op) = self.ops.try_remove(user_data as usize) {
                self.dropped -= usize::from(op.at_end() == AtEnd::Dropped);
                return Some((op, result));
            }
        }
    }

    /// Lets operations go that have completed.
    fn drop_completed(&mut self) {
        self.gather();
        while self.next_completed().is_some() {}
    }

    /// Ends the ring: cancels what can be cancelled, and waits for the rest, a few seconds. What does not end in time is left.
    pub(crate) fn end(mut self) -> Option<Remains<O>> {
        if self.quiesce() {
            return None;
        }
        let held = self.in_flight().filter_map(O::held).collect();
        Some(Remains { ring: self, held })
    }

    /// Cancels everything and waits; whether all has ended. Bounded.
    fn quiesce(&mut self) -> bool {
        let end = Instant::now() + Duration::from_millis(TEARDOWN_MS);
        self.cancel_all(|op| op.at_end() == AtEnd::Cancelled);
        while self.ops.len() > self.dropped {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.turn(true, Some(left)).is_err() {
                return false;
            }
            self.drop_completed();
        }
        true
    }
}

/// A ring that has ended but for operations that the kernel has not answered.
pub(crate) struct Remains<O: Operation> {
    // Closed before it is said that what was held is free.
    ring: Ring<O>,
    held: Vec<O::Held>,
}

impl<O: Operation> Remains<O> {
    /// How many operations there are.
    pub(crate) fn count(&self) -> usize {
        self.ring.ops.len() - self.ring.dropped
    }

    /// How many of them keep something in use.
    pub(crate) fn held_count(&self) -> usize {
        self.held.len()
    }

    /// Waits until the last one is answered, however long that takes, and gives everything back.
    ///
    /// # Errors
    /// The ring does not work any more. What is in flight keeps its memory and files for ever.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        while self.count() > 0 {
            self.ring.turn(true, None)?;
            self.ring.drop_completed();
        }
        Ok(())
    }
}

impl<O: Operation> Drop for Ring<O> {
    fn drop(&mut self) {
        if !self.quiesce() {
            // The kernel may still write into the buffers. They are leaked, and so is the ring.
            tracing::error!(
                "{} operations do not end; their memory is left to them",
                self.ops.len()
            );
            return;
        }
        // SAFETY: this is `drop`, nothing uses the fields afterwards; nothing is in flight. The ring goes first, for
        // it has the arena registered.
        unsafe {
            mem::ManuallyDrop::drop(&mut self.uring);
            mem::ManuallyDrop::drop(&mut self.ops);
            mem::ManuallyDrop::drop(&mut self.pools);
        }
    }
}

/// Errors of `io_uring_enter` after which one simply goes on: a signal, the end of the wait, too many completions.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY)
    )
}
