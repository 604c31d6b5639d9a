//! What happens to resources, for those who listen to it (`rdb_control::Event`, `event_stream.rs`).
//!
//! It is told on the threads where it happens, which wait for nobody: each listener has a queue with a bound, and one that is full is
//! emptied, with a count of what was lost. How a resource is comes into the same queue, from the thread that also tells its changes: so
//! what was told before it is in it, and what comes after it is not.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use rdb_control::{Event, HandlerOf, VolumeStates};
use rdb_engine::state::VolumeState;
use rdb_engine::{ResourceStatus, VolumeNr};
use tokio::sync::Notify;

use crate::runs::Key;

/// How much may wait for one listener. A resource with many volumes tells some dozen things of each when it comes up.
const WAITING_MAX: usize = 4096;

/// Everybody who listens. Clones mean the same.
#[derive(Clone, Default)]
pub(crate) struct Events {
    listeners: Arc<Mutex<Vec<Weak<Listener>>>>,
    /// Whether there is anybody: otherwise nothing is made for them.
    has_some: Arc<AtomicBool>,
}

/// What waits for one.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// When it happened, in microseconds since 1970.
    pub(crate) at_us: u64,
    pub(crate) what: What,
}

/// What has happened.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Event(Event),
    /// How a resource is, because it was asked.
    Status(String, Arc<ResourceStatus>),
    /// A resource has stopped on its own.
    Stopped(String),
}

/// One who listens.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The resource that is of interest; `None`: all are.
    only: Option<String>,
    queue: Mutex<Queue>,
    /// Told when there is something.
    pub(crate) woken: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Resources whose status is in the queue or was taken out of it. Of others nothing is told: their status is still to come.
    known: BTreeSet<String>,
    /// How much was lost since somebody has looked.
    lost: u64,
    /// Something was lost: nothing counts before it is begun anew.
    is_overrun: bool,
}

impl Events {
    fn listeners(&self) -> MutexGuard<'_, Vec<Weak<Listener>>> {
        // Whoever panicked there has changed nothing by halves.
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A new listener, to whom nothing is told before it has [begun](Listener::begin). Who drops it does not listen any more.
    pub(crate) fn listen(&self, only: Option<String>) -> Arc<Listener> {
        let listener = Arc::new(Listener {
            only,
            queue: Mutex::default(),
            woken: Notify::new(),
        });
        self.listeners().push(Arc::downgrade(&listener));
        self.has_some.store(true, Ordering::Release);
        listener
    }

    /// Tells everybody. Called on any thread; what is told is made only if somebody listens.
    fn tell(&self, resource: &str, what: impl FnOnce() -> What) {
        if !self.has_some.load(Ordering::Acquire) {
            return;
        }
        let mut listeners = self.listeners();
        listeners.retain(|listener| listener.strong_count() > 0);
        self.has_some
            .store(!listeners.is_empty(), Ordering::Release);
        if listeners.is_empty() {
            return;
        }
        let (at_us, what) = (now_us(), what());
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.push(resource, at_us, what.clone());
        }
    }

    fn tell_event(&self, resource: &str, event: impl FnOnce() -> Event) {
        self.tell(resource, || What::Event(event()));
    }

    pub(crate) fn tell_created(&self, resource: &str) {
        self.tell_event(resource, || Event::Created {
            resource: resource.to_owned(),
        });
    }

    pub(crate) fn tell_removed(&self, resource: &str) {
        self.tell_event(resource, || Event::Removed {
            resource: resource.to_owned(),
        });
    }

    pub(crate) fn tell_volume_created(&self, resource: &str, volume: u16, minor: u32) {
        self.tell_event(resource, || Event::VolumeCreated {
            resource: resource.to_owned(),
            volume,
            minor,
        });
    }

    pub(crate) fn tell_volume_removed(&self, resource: &str, volume: u16) {
        self.tell_event(resource, || Event::VolumeRemoved {
            resource: resource.to_owned(),
            volume,
        });
    }

    pub(crate) fn tell_change(&self, resource: &str, volume: VolumeNr, new: &VolumeState) {
        self.tell_event(resource, || Event::Changed {
            resource: resource.to_owned(),
            volume: volume.0,
            new: states(new),
            figures: None,
        });
    }

    /// A handler is called, or has ended with this exit code.
    pub(crate) fn tell_handler(&self, resource: &str, (handler, volume): Key, exit: Option<u8>) {
        self.tell_event(resource, || {
            let of = HandlerOf {
                resource: resource.to_owned(),
                volume: volume.map(|volume| volume.0),
                handler: handler.name().to_owned(),
            };
            match exit {
                None => Event::HandlerCalled(of),
                Some(exit) => Event::HandlerEnded { of, exit },
            }
        });
    }

    pub(crate) fn tell_stop(&self, resource: &str) {
        self.tell(resource, || What::Stopped(resource.to_owned()));
    }
}

impl Listener {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the resource is of interest.
    pub(crate) fn wants(&self, resource: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == resource)
    }

    fn push(&self, resource: &str, at_us: u64, what: What) {
        if !self.wants(resource) {
            return;
        }
        let mut queue = self.queue();
        match what {
            What::Event(Event::Created { .. }) | What::Status(..) => {
                queue.known.insert(resource.to_owned());
            }
            What::Event(_) | What::Stopped(_) if !queue.known.contains(resource) => return,
            What::Event(_) | What::Stopped(_) => {}
        }
        if queue.is_overrun {
            queue.lost += 1;
        } else if queue.waiting.len() >= WAITING_MAX {
            queue.lost += queue.waiting.len() as u64 + 1;
            queue.waiting.clear();
            queue.is_overrun = true;
        } else {
            queue.waiting.push_back(Waiting { at_us, what });
        }
        drop(queue);
        self.woken.notify_one();
    }

    /// How a resource is. Called on the resource's thread, where its changes are told as well.
    pub(crate) fn push_status(&self, resource: &str, status: ResourceStatus) {
        let what = What::Status(resource.to_owned(), Arc::new(status));
        self.push(resource, now_us(), what);
    }

    /// What was told first of all that waits; `None` if nothing does, or if something was lost.
    pub(crate) fn pop(&self) -> Option<Waiting> {
        self.queue().waiting.pop_front()
    }

    /// Whether something was lost, so that all has to be told anew.
    pub(crate) fn is_overrun(&self) -> bool {
        self.queue().is_overrun
    }

    /// Begins anew: of resources is told again from their status on, which is to be asked for after this. How much was lost.
    pub(crate) fn begin(&self) -> u64 {
        let mut queue = self.queue();
        let lost = queue.lost;
        *queue = Queue::default();
        lost
    }
}

fn states(state: &VolumeState) -> VolumeStates {
    VolumeStates {
        role: state.role,
        peer_role: state.peer,
        cstate: state.conn,
        disk: state.disk,
        peer_disk: state.pdsk,
        suspended: [state.susp, state.susp_nod, state.susp_fen],
        resync_suspended: [state.user_isp, state.peer_isp, state.aftr_isp],
    }
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(events: &Events, resource: &str) {
        events.tell_change(resource, VolumeNr(0), &VolumeState::INITIAL);
    }

    fn status() -> ResourceStatus {
        crate::proc_drbd::tests::connection(rdb_engine::state::ConnState::StandAlone, None)
    }

    #[test]
    fn of_a_resource_nothing_is_told_before_how_it_is() {
        let events = Events::default();
        let listener = events.listen(None);
        change(&events, "r0");
        assert!(listener.pop().is_none(), "its status has it");
        listener.push_status("r0", status());
        change(&events, "r0");
        assert!(matches!(listener.pop().unwrap().what, What::Status(..)));
        assert!(matches!(listener.pop().unwrap().what, What::Event(_)));
        // One that is made meanwhile is known from its beginning.
        events.tell_created("r1");
        change(&events, "r1");
        assert!(listener.pop().is_some() && listener.pop().is_some());
    }

    #[test]
    fn who_does_not_read_loses_all_is_told_how_much_and_begins_anew() {
        let events = Events::default();
        let (slow, quick) = (events.listen(None), events.listen(None));
        for listener in [&slow, &quick] {
            listener.push_status("r0", status());
        }
        for _ in 0..WAITING_MAX + 10 {
            change(&events, "r0");
            while quick.pop().is_some() {}
        }
        assert!(slow.is_overrun() && !quick.is_overrun());
        assert!(slow.pop().is_none(), "what is old counts no more");
        assert_eq!(slow.begin(), WAITING_MAX as u64 + 11);
        assert_eq!((slow.is_overrun(), slow.begin()), (false, 0));
    }

    #[test]
    fn a_listener_hears_of_its_own_resource_alone_and_one_that_went_is_forgotten() {
        let events = Events::default();
        let listener = events.listen(Some("r0".to_owned()));
        events.tell_created("r1");
        assert!(listener.pop().is_none());
        events.tell_created("r0");
        assert!(listener.pop().is_some());
        drop(listener);
        change(&events, "r0");
        assert!(!events.has_some.load(Ordering::Acquire));
        assert!(events.listeners().is_empty());
    }
}
