//! Packets that wait until a bitmap is sent: its own must not be interleaved with others on the data socket.

use alloc::collections::VecDeque;

use replica_proto::Packet;

use crate::ids::{SendTag, VolumeNr};

/// Answers without a payload that may wait. A right peer asks for some ten: sizes and states.
pub(crate) const DEFERRED_ANSWERS_MAX: u32 = 1024;

/// A packet that waits, with its payload.
#[derive(Debug)]
pub(crate) struct Delayed<P> {
    pub volume: VolumeNr,
    pub packet: Packet,
    pub payload: Option<P>,
    pub notify: Option<SendTag>,
}

/// What waits, in order. Filled while a bitmap is on its way, emptied when it is sent and with the connection.
#[derive(Debug)]
pub(crate) struct Deferred<P> {
    waiting: VecDeque<Delayed<P>>,
    /// How many of them the peer has asked for that hold no buffer, which the driver would bound.
    answers: u32,
}

impl<P> Default for Deferred<P> {
    fn default() -> Self {
        Deferred {
            waiting: VecDeque::new(),
            answers: 0,
        }
    }
}

impl<P> Deferred<P> {
    /// One more waits; `asked`: the peer has asked for it.
    pub(crate) fn push(&mut self, delayed: Delayed<P>, asked: bool) {
        if asked && delayed.payload.is_none() {
            self.answers += 1;
        }
        self.waiting.push_back(delayed);
    }

    /// Whether more answers wait than a right peer asks for.
    pub(crate) fn is_too_much(&self) -> bool {
        self.answers > DEFERRED_ANSWERS_MAX
    }

    /// Takes all that waits, in order.
    pub(crate) fn take(&mut self) -> VecDeque<Delayed<P>> {
        self.answers = 0;
        core::mem::take(&mut self.waiting)
    }

    /// How many answers wait.
    pub(crate) fn answers(&self) -> u32 {
        self.answers
    }
}
