//! The memory of the buffers, as the loop sees it: how much there may be (`max-buffers`), when more is asked for, and when it
//! goes back to the system. What a buffer is, and how memory grows, is in `pool`.

use std::io;
use std::rc::Rc;

use rdb_engine::Level;

use crate::api::ResourceConfig;
use crate::io::Io;
use crate::mailbox::Message;
use crate::pool::{Growth, Pool, PoolSize};
use crate::process::CoreDumps;
use crate::timers::Slot;

/// Memory that nobody has used for this long, in milliseconds, goes back to the system; for twice as long at most.
const IDLE_MS: u64 = 10_000;

/// Buffers; in a core dump only if they may be.
pub(crate) fn new_pool(size: PoolSize, config: &ResourceConfig) -> io::Result<Rc<Pool>> {
    let pool = Pool::new(size)?;
    if config.core_dumps != CoreDumps::Whole {
        pool.leave_out_of_dumps()?;
    }
    Ok(pool)
}

impl Io {
    /// Takes more memory if `max-buffers` now asks for it. What is in use of the arena so far goes back to that one, which
    /// ends with its last buffer. Nothing is given back when `max-buffers` becomes smaller: the engine keeps to it.
    pub(crate) fn fit_pool(&mut self, max_buffers: u32) {
        let (size, have) = (PoolSize::for_max_buffers(max_buffers), self.pool.size());
        if size.receive <= have.receive {
            return;
        }
        match new_pool(size, &self.config) {
            Ok(pool) => {
                self.ring.adopt(Rc::clone(&pool));
                self.pool = pool;
                let text = format!(
                    "max-buffers {max_buffers}: {} MiB of buffers",
                    size.bytes() >> 20
                );
                self.log(Level::Info, None, text);
            }
            Err(error) => {
                let text = format!(
                    "no {} MiB of memory for max-buffers {max_buffers}, it stays at {} MiB: {error}",
                    size.bytes() >> 20,
                    have.bytes() >> 20,
                );
                self.log(Level::Warn, None, text);
            }
        }
    }

    /// Has more buffers made resident where somebody found none. That is done by a thread of its own, for the system may
    /// take its time when memory is short, and may be waiting for the very writes that this thread has to make.
    pub(crate) fn ask_for_buffers(&mut self) {
        while let Some(growth) = self.pool.growth() {
            self.help_or_not("rdb-memory", move |thread, mailbox| {
                let result = match thread {
                    Ok(()) => growth.populate(),
                    Err(no_thread) => Err(io::Error::other(no_thread)),
                };
                mailbox.post(Message::Grown(growth, result));
            });
        }
    }

    /// The answer to that.
    pub(crate) fn on_grown(&mut self, growth: &Growth, result: &io::Result<()>) {
        if let Err(error) = result {
            let text =
                format!("no memory for more buffers, it goes on with what there is: {error}");
            self.log_others(Level::Warn, None, text);
        }
        let chunks = self.pool.grown(growth, result);
        let pool = Rc::clone(&self.pool);
        self.ring.register(&pool, chunks);
        self.timers.set(Slot::Buffers, self.now.plus_ms(IDLE_MS));
    }

    pub(crate) fn give_idle_buffers_back(&mut self) {
        let pool = Rc::clone(&self.pool);
        for chunk in pool.take_idle() {
            self.ring.forget(&pool, chunk);
            pool.give_to_system(chunk);
        }
        if pool.has_grown() {
            self.timers.set(Slot::Buffers, self.now.plus_ms(IDLE_MS));
        }
    }
}
