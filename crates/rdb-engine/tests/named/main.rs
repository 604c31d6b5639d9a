//! Each numbered pitfall, invariant and scenario of the specification that concerns the engine, as a test that names it.
//! Two engines in the simulator's world, or one of them and a peer made by hand (`tests/lone`). `docs/testing.md` lists which
//! is where.

#[path = "../lone/mod.rs"]
mod lone;

mod admission;
mod beside_diskless;
mod commands_end;
mod crash_points;
mod disks_given_up;
mod driver_rules;
mod ends_unseen;
mod fencing;
mod fencing_returns;
mod freezing;
mod full_syncs_ordered;
mod handlers;
mod hung_disks;
mod invariants;
mod invariants_states;
mod invariants_sync;
mod late_marks;
mod late_reads;
mod latencies;
mod newer_data;
mod pitfalls_connect;
mod pitfalls_io;
mod scenarios;
mod scenarios_disks;
mod slow_lines;
mod snapshots;
mod stories;
mod strangers;
