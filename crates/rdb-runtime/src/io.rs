//! What the parts of the loop work with: the ring, the buffers, the timers and the clock.
//!
//! The event loop owns it and lends it to one part at a time. What a part has to tell the engine amid effects, when the engine
//! cannot be called, it leaves in `pending`; all else it returns.

use std::collections::VecDeque;
use std::rc::Rc;

use rdb_engine::{Event, Level, Time, VolumeNr};

use crate::api::{Notice, ResourceConfig};
use crate::log_limit::{Line, LogLimit, SUM_MS};
use crate::mailbox::Mailbox;
use crate::op::Op;
use crate::pool::{Buf, Pool};
use crate::ring::Ring;
use crate::timers::{Slot, Timers};

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

    /// Runs what waits on a thread of its own.
    pub(crate) fn help(&self, name: &str, work: impl FnOnce(Mailbox) + Send + 'static) {
        self.try_help(name, work);
    }

    /// The same; whether there is a thread for it.
    pub(crate) fn try_help(&self, name: &str, work: impl FnOnce(Mailbox) + Send + 'static) -> bool {
        let mailbox = self.mailbox.clone();
        let spawned = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(mailbox));
        if let Err(error) = &spawned {
            self.log(Level::Error, None, format!("no thread for {name}: {error}"));
        }
        spawned.is_ok()
    }
}
