//! `promoter`: has a resource used on one of its two nodes, and moves its services to the other one when this one fails
//! (`docs/promoter.md`). What is decided stands in `decision.rs`, which touches nothing; `run.rs` is the loop around it.

pub(crate) mod decision;
pub(crate) mod facts;
pub(crate) mod files;
pub(crate) mod run;
pub(crate) mod settings;
mod task;
mod watch;
