//! `docs/states.md` is what the tables print. `UPDATE_DOCS=1 cargo test -p rdb-engine` writes it.

use std::fmt::Write;
use std::path::Path;

use rdb_engine::state::{
    ConnState, DiskState, Role, StateError, VolumeState, Window, is_cluster_wide, is_legal_move,
    should_replicate, should_send_out_of_sync, validate,
};

use crate::generation::QUIET;
use crate::universe::{contexts, settled_records};

const INTRODUCTION: &str = "\
# States

Printed from the tables in `crates/rdb-engine/src/state` by its tests: `UPDATE_DOCS=1 cargo test -p rdb-engine` writes
this page anew, and without it the tests fail when the page and the code differ. What the states mean is told in
`spec/behaviour.md`, section 1; how they change, in its section 2. The words are in `glossary.md`.

";

#[test]
fn states_md_is_what_the_tables_print() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/states.md");
    let printed = page().expect("writing to a string does not fail");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &printed).expect("docs/states.md can be written");
    }
    let stored = std::fs::read_to_string(&path).expect("docs/states.md can be read");
    assert!(
        stored == printed,
        "docs/states.md is not what the tables print; run with UPDATE_DOCS=1 and look at the difference"
    );
}

fn page() -> Result<String, std::fmt::Error> {
    let mut out = String::from(INTRODUCTION);
    disk_states(&mut out)?;
    connection_states(&mut out)?;
    legal_moves(&mut out)?;
    records(&mut out)?;
    refusals(&mut out)?;
    Ok(out)
}

fn disk_states(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## Roles and disk states\n")?;
    writeln!(out, "| number | role | disk state |")?;
    writeln!(out, "| ---: | --- | --- |")?;
    for (number, disk) in DiskState::ALL.iter().enumerate() {
        let role = Role::ALL.get(number).map_or("", |role| role.as_str());
        writeln!(out, "| {number} | {role} | {disk} |")?;
    }
    writeln!(out)
}

/// One row for each connection state: the window of its disks, and where a write of a Primary goes.
fn connection_states(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## Connection states\n")?;
    writeln!(
        out,
        "A disk state outside of the window is moved to its nearest end. \"Write\" tells what the peer gets of an\n\
         application's write: the data, a note that the block is out of sync, or nothing; two answers depend on the\n\
         peer's disk, worst first.\n"
    )?;
    writeln!(out, "| number | state | own disk | peer's disk | write |")?;
    writeln!(out, "| ---: | --- | --- | --- | --- |")?;
    for &conn in ConnState::ALL {
        let window = Window::of(conn);
        let range = |(low, high): (DiskState, DiskState)| {
            if low == high {
                low.to_string()
            } else {
                format!("{low} to {high}")
            }
        };
        let mut writes: Vec<&str> = DiskState::ALL
            .iter()
            .filter(|pdsk| (window.pdsk.0..=window.pdsk.1).contains(pdsk))
            .map(|&pdsk| {
                let state = VolumeState {
                    conn,
                    pdsk,
                    ..VolumeState::INITIAL
                };
                if should_replicate(state) {
                    "data"
                } else if should_send_out_of_sync(state) {
                    "note"
                } else {
                    "nothing"
                }
            })
            .collect();
        writes.dedup();
        writeln!(
            out,
            "| {} | {conn} | {} | {} | {} |",
            conn as u8,
            range(window.disk),
            range(window.pdsk),
            writes.join(" or ")
        )?;
    }
    writeln!(out)
}

/// Section 2.3 as a matrix.
fn legal_moves(out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "## Moves of the connection state that are possible at all\n"
    )?;
    writeln!(
        out,
        "Rows: from; columns: to, by number. `+` possible, also as a fact; a number is the result that refuses the\n\
         move (see the last table); `.` no move. Wishes are checked further: `soft_transition`.\n"
    )?;
    write!(out, "| from |")?;
    for conn in 0..ConnState::ALL.len() {
        write!(out, " {conn} |")?;
    }
    write!(out, "\n| --- |")?;
    for _ in ConnState::ALL {
        write!(out, " ---: |")?;
    }
    writeln!(out)?;
    for &from in ConnState::ALL {
        write!(out, "| {} {from} |", from as u8)?;
        for &to in ConnState::ALL {
            match is_legal_move(from, to) {
                _ if from == to => write!(out, " . |")?,
                Ok(()) => write!(out, " + |")?,
                Err(error) => write!(out, " {} |", error.code())?,
            }
        }
        writeln!(out)?;
    }
    writeln!(out)
}

/// The disk states that a settled pair can show, for each connection state that needs a peer.
fn records(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## What a connected volume can show\n")?;
    writeln!(
        out,
        "Own disk/peer's disk of every record that sanitizing leaves as it is and that is valid, by own role, without\n\
         fencing and with a Secondary peer.\n"
    )?;
    writeln!(out, "| state | as Primary | as Secondary |")?;
    writeln!(out, "| --- | --- | --- |")?;
    let mut ctx = contexts()[0];
    ctx.verify_alg_set = true;
    ctx.agreed_version = QUIET.version;
    let settled = settled_records();
    for &conn in ConnState::ALL
        .iter()
        .filter(|conn| **conn >= ConnState::Connected)
    {
        write!(out, "| {conn} |")?;
        for role in [Role::Primary, Role::Secondary] {
            let pairs: Vec<String> = settled
                .iter()
                .filter(|state| (state.conn, state.role) == (conn, role))
                .filter(|state| state.peer == Role::Secondary && validate(**state, &ctx).is_ok())
                .map(|state| format!("{}/{}", state.disk, state.pdsk))
                .collect();
            write!(out, " {} |", pairs.join(", "))?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "The peer is asked before these moves of the connection state:\n"
    )?;
    for &from in ConnState::ALL {
        let asked: Vec<&str> = ConnState::ALL
            .iter()
            .filter(|&&to| {
                let record = |conn| VolumeState {
                    conn,
                    ..VolumeState::INITIAL
                };
                is_cluster_wide(record(from), record(to))
            })
            .map(|to| to.as_str())
            .collect();
        if !asked.is_empty() {
            writeln!(out, "- {from} to {}", asked.join(", "))?;
        }
    }
    writeln!(out)
}

fn refusals(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## Results that refuse a change\n")?;
    writeln!(out, "| number | text |")?;
    writeln!(out, "| ---: | --- |")?;
    for error in StateError::ALL {
        writeln!(out, "| {} | {error} |", error.code())?;
    }
    Ok(())
}
