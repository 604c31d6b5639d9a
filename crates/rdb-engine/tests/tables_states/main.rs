//! The decision tables of `docs/spec/behaviour.md`, walked row by row and, where the universe is small, exhaustively.

mod attach;
mod consequences;
mod decision;
mod docs;
mod generation;
mod immediate;
mod lives;
mod numbers;
mod packets;
mod peer_requests;
mod sanitize;
mod scenarios;
mod sizes;
mod split_brain;
mod transition;
mod universe;
mod wire;
