//! What the parts of the loop work with: the ring, the buffers, the timers and the clock.
//!
//! The event loop owns it and lends it to one part at a time. What a part has to tell the engine amid effects, when the engine
//! cannot be called, it leaves in `pending`; all else it returns.

use std::collections::VecDeque;
use std::rc::Rc;

use rdb_engine::{Event, Level, Time, VolumeNr};

use crate::api::{Notice, ResourceConfig};
use crate::helpers::{Waiting, no_thread, on_thread};
use crate::log_limit::{Line, LogLimit, SUM_MS};
use crate::mailbox::Mailbox;
use crate::op::Op;
use crate::pool::{Buf, Pool};
use crate::ring::Ring;
use crate::timers::{Slot, Timers};

/// After how many milliseconds what has found no thread is tried again.
const HELPERS_MS: u64 = 500;

/// Lent to the parts of the loop.
pub(crate) struct Io {
    /// How the resource was started.
    pub(crate) config: ResourceConfig,
    /// When the turn began: read from the clock by the event loop, once a turn.
    pub(crate) now: Time,
    pub(crate) ring: Ring<Op>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) timers: Timers,
    /// Events that follow from effects. The event loop raises them as soon as the engine can be called again.
    pub(crate) pending: VecDeque<Event<Buf>>,
    mailbox: Mailbox,
    notify: Box<dyn Fn(Notice)>,
    log_limit: LogLimit,
    waiting: Waiting,
}

impl Io {
    /// `notify` is called on this thread; `mailbox` is given to helper threads.
    pub(crate) fn new(
        config: ResourceConfig,
        now: Time,
        ring: Ring<Op>,
        pool: Rc<Pool>,
        mailbox: Mailbox,
        notify: Box<dyn Fn(Notice)>,
    ) -> Io {
        Io {
            config,
            now,
            ring,
            pool,
            timers: Timers::default(),
            pending: VecDeque::new(),
            mailbox,
            notify,
            log_limit: LogLimit::default(),
            waiting: Waiting::default(),
        }
    }

    pub(crate) fn notify(&self, notice: Notice) {
        (self.notify)(notice);
    }

    pub(crate) fn log(&self, level: Level, volume: Option<VolumeNr>, text: impl Into<String>) {
        self.notify(Notice::Log {
            level,
            volume,
            text: text.into(),
        });
    }

    /// Logs what others have brought about, unless they do so too often.
    pub(crate) fn log_others(
        &mut self,
        level: Level,
        volume: Option<VolumeNr>,
        text: impl Into<String>,
    ) {
        let text = text.into();
        let line = Line {
            level,
            volume,
            text,
        };
        if let Some(line) = self.log_limit.admit(self.now, line) {
            self.log(line.level, line.volume, line.text);
        } else if !self.timers.is_set(Slot::LogSums) {
            self.timers.set(Slot::LogSums, self.now.plus_ms(SUM_MS));
        }
    }

    /// Sums up what was left out of the log.
    pub(crate) fn say_log_sums(&mut self) {
        for line in self.log_limit.sums() {
            self.log(line.level, line.volume, line.text);
        }
    }

    /// Runs what waits on a thread of its own: later, if there is no thread now.
    pub(crate) fn help(&self, name: &str, work: impl FnOnce(Mailbox) + Send + 'static) {
        let mailbox = self.mailbox.clone();
        let work = Box::new(move || work(mailbox));
        if let Err(error) = self.waiting.begin(name, work) {
            let text = format!("no thread for {name}: {error}; it is tried again all the time");
            self.log(Level::Error, None, text);
        }
    }

    /// Runs what waits on a thread of its own; without one it is told so, here and now.
    pub(crate) fn help_or_not(
        &self,
        name: &str,
        work: impl FnOnce(Result<(), String>, Mailbox) + Send + 'static,
    ) {
        let mailbox = self.mailbox.clone();
        on_thread(name, move |thread| {
            work(thread.map_err(|error| no_thread(&error)), mailbox);
        });
    }

    /// Sees to it that what has found no thread is begun again.
    pub(crate) fn see_to_helpers(&mut self) {
        if !self.waiting.is_empty() && !self.timers.is_set(Slot::Helpers) {
            self.timers.set(Slot::Helpers, self.now.plus_ms(HELPERS_MS));
        }
    }

    /// Begins what has found no thread.
    pub(crate) fn begin_helpers_again(&self) {
        self.waiting.begin_again();
    }
}
