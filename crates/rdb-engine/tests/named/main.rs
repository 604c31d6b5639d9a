//! Each numbered pitfall, invariant and scenario of the specification that concerns the engine, as a test that names it.
//! Two engines, or one engine and a peer made by hand, in the world of `tests/world`. `docs/testing.md` lists which is where.

#[path = "../world/mod.rs"]
mod world;

mod admission;
mod commands_end;
mod crash_points;
mod disks_given_up;
mod driver_rules;
mod full_syncs_ordered;
mod invariants;
mod invariants_states;
mod invariants_sync;
mod late_reads;
mod pitfalls_connect;
mod pitfalls_io;
mod scenarios;
mod scenarios_disks;
mod stories;
mod strangers;
