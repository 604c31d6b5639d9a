//! Whether a resource could run here.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::api::SpawnError;
use crate::mailbox::eventfd;
use crate::op::Op;
use crate::pool::{Pool, PoolSize};
use crate::ring::Ring;

/// How long the ring may take to bring what is there already.
const ANSWER: Duration = Duration::from_secs(5);

/// Makes what the thread of a resource begins with, buffers and a ring, has the ring do something, and gives all back.
///
/// # Errors
/// [`SpawnError::Io`] with what [`spawn`](crate::spawn) would fail with.
pub fn check(max_buffers: u32) -> Result<(), SpawnError> {
    try_ring(max_buffers).map_err(|error| SpawnError::Io {
        what: "io_uring and its buffers",
        error,
    })
}

fn try_ring(max_buffers: u32) -> io::Result<()> {
    let pool = Pool::new(PoolSize::for_max_buffers(max_buffers))?;
    let mut ring = Ring::<Op>::new(pool, Duration::ZERO)?;
    let bell = Rc::new(eventfd(1)?);
    ring.start(Op::Wake(Box::new([0; 8]), bell));
    ring.turn(true, Some(ANSWER))?;
    ring.gather();
    match ring.next_completed() {
        Some((_, 8)) => Ok(()),
        Some((_, result)) if result < 0 => Err(io::Error::from_raw_os_error(-result)),
        _ => Err(io::Error::other("the ring does not work")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_resource_can_run_where_the_tests_do() {
        super::check(32).expect("io_uring works here");
    }
}
