//! `docs/states.md` is what the tables print. `UPDATE_DOCS=1 cargo test -p rdb-engine` writes it.

use std::fmt::Write;
use std::path::Path;

use rdb_engine::rules::consequences::CONSEQUENCES;
use rdb_engine::state::{
    ConnState, Context, DiskState, Role, StateError, VolumeState, Window, is_cluster_wide,
    is_legal_move, sanitize, should_replicate, should_send_out_of_sync, validate,
};

use crate::universe::own_disks;

const INTRODUCTION: &str = "\
# States

Printed from the tables in `crates/rdb-engine/src/state` and `rules` by its tests: `UPDATE_DOCS=1 cargo test -p rdb-engine` writes
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
    consequences(&mut out)?;
    packets(&mut out)?;
    requests(&mut out)?;
    refusals(&mut out)?;
    Ok(out)
}

fn consequences(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## What follows from a change\n")?;
    writeln!(
        out,
        "In this order (`rules/consequences.rs`). Rows with a number are those of `spec/behaviour.md`, section 3.\n"
    )?;
    writeln!(out, "| row | when | what |")?;
    writeln!(out, "| --- | --- | --- |")?;
    for row in CONSEQUENCES {
        writeln!(out, "| {} | {} | {:?} |", row.number, row.words, row.act)?;
    }
    writeln!(out)
}

fn disk_states(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## Roles and disk states\n")?;
    writeln!(out, "By number; rules compare the numbers.\n")?;
    let numbered = |name: (usize, &'static str)| format!("{} {}", name.0, name.1);
    let roles: Vec<String> = Role::ALL
        .iter()
        .map(|role| role.as_str())
        .enumerate()
        .map(numbered)
        .collect();
    let disks: Vec<String> = DiskState::ALL
        .iter()
        .map(|disk| disk.as_str())
        .enumerate()
        .map(numbered)
        .collect();
    writeln!(out, "- Role: {}", roles.join(", "))?;
    writeln!(out, "- Disk state: {}\n", disks.join(", "))
}

/// One row for each connection state: the window of its disks, and where a write of a Primary goes.
fn connection_states(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## Connection states\n")?;
    writeln!(
        out,
        "A disk state outside of the window is moved to its nearest end. \"Write\" tells what the peer gets of an\n\
         application's write: the data, a note that the block is out of sync, or nothing; two answers depend on the\n\
         peer's disk, worst first.\n\n\
         A full sync that an administrator orders gives an UpToDate disk up when its source says that it begins: until then the\n\
         disk stays UpToDate in StartingSyncT, and in WFSyncUUID after that, and the peer is told Outdated. A Secondary gives its\n\
         disk up at once if the order is its own administrator's, or if the peer is Primary.\n"
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

/// When a peer may send what.
fn packets(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## What a peer may send\n")?;
    writeln!(
        out,
        "Whatever is not allowed ends the connection, with a word in the log, and changes nothing. The state is our own;\n\
         \"connected\" is any state from Connected on; \"was\" means at some time in this connection. Before P_PROTOCOL\n\
         nothing else is taken from the data socket. The last column is looked at by the handler of the packet.\n"
    )?;
    writeln!(out, "| packet | allowed | and |")?;
    writeln!(out, "| --- | --- | --- |")?;
    for row in rdb_engine::rules::packets::TABLE {
        let cases: Vec<String> = row.cases.iter().map(ToString::to_string).collect();
        let cases = if cases.is_empty() {
            "never".to_string()
        } else {
            cases.join("<br>")
        };
        writeln!(out, "| {} | {cases} | {} |", row.packet, row.also)?;
    }
    writeln!(out)
}

/// What a peer may ask for.
fn requests(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## What a peer may ask for\n")?;
    writeln!(
        out,
        "P_STATE_CHG_REQ asks of a volume, P_CONN_ST_CHG_REQ of the connection. Mask and value are in the sender's terms.\n\
         Any other request ends the connection. These go on to the rules above, and are answered with the result.\n"
    )?;
    writeln!(out, "| mask | value | asked of | what |")?;
    writeln!(out, "| ---: | ---: | --- | --- |")?;
    for row in rdb_engine::rules::peer_change::REQUESTS {
        let (mask, val) = row.change.to_mask_val();
        let asked = match (row.volume, row.connection) {
            (true, true) => "both",
            (true, false) => "volume",
            _ => "connection",
        };
        writeln!(out, "| {mask:#x} | {val:#x} | {asked} | {} |", row.words)?;
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
        "Own disks / peer's disks of every record that sanitizing leaves as it is and that is valid, by own role,\n\
         without fencing, with a Secondary peer.\n"
    )?;
    writeln!(out, "| state | as Primary | as Secondary |")?;
    writeln!(out, "| --- | --- | --- |")?;
    for &conn in ConnState::ALL
        .iter()
        .filter(|conn| **conn >= ConnState::Connected)
    {
        let [primary, secondary] = [Role::Primary, Role::Secondary].map(|role| shown(conn, role));
        writeln!(out, "| {conn} | {primary} | {secondary} |")?;
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

/// `own disks / peer's disks`, own disks with the same peer's disks together.
fn shown(conn: ConnState, role: Role) -> String {
    let ctx = Context {
        verify_alg_set: true,
        agreed_version: 101,
        ..Context::DEFAULT
    };
    let user_isp = matches!(conn, ConnState::PausedSyncS | ConnState::PausedSyncT);
    let stays = |disk: DiskState, pdsk: DiskState| {
        let peer = Role::Secondary;
        let state = VolumeState {
            role,
            peer,
            conn,
            disk,
            pdsk,
            user_isp,
            ..VolumeState::INITIAL
        };
        sanitize(state, state, &ctx).state == state && validate(state, &ctx).is_ok()
    };
    let mut groups: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for disk in own_disks() {
        let peers: Vec<&str> = DiskState::ALL
            .iter()
            .filter(|pdsk| stays(disk, **pdsk))
            .map(|pdsk| pdsk.as_str())
            .collect();
        match groups.last_mut() {
            _ if peers.is_empty() => {}
            Some((owns, same)) if *same == peers => owns.push(disk.as_str()),
            _ => groups.push((vec![disk.as_str()], peers)),
        }
    }
    let cells: Vec<String> = groups
        .iter()
        .map(|(owns, peers)| format!("{} / {}", owns.join(", "), peers.join(", ")))
        .collect();
    cells.join("; ")
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
