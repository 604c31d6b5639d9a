//! A peer that is none: it says any packet at any moment, right or wrong, and goes away again.
//!
//! [`Foe`] knows the protocol and what the node it attacks has told it, so that what it says is wrong in one place and
//! right in the others, which gets further than noise. It draws its choices from a [`Draw`]: a seed in the simulator
//! ([`attack`]), the input of the fuzzer in [`fuzz_engine`].

mod attack;
mod draw;
mod foe;
mod fuzz;
mod say;
mod watch;

pub(crate) use attack::Siege;
pub use attack::{Attack, Reading};
pub(crate) use draw::{Bytes, Draw};
pub(crate) use foe::Foe;
pub use fuzz::fuzz_engine;
pub(crate) use say::Say;
