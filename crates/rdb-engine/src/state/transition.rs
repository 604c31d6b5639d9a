//! Which moves are allowed, and how a change is processed (`docs/spec/behaviour.md`, sections 2.2, 2.3, 2.6, 2.7).

use super::{
    Change, ConnState, Context, DiskState, Fencing, Outcome, Role, StateError, StateResult,
    VolumeState, is_verify, sanitize, validate,
};

/// Steps 1 to 5 of a change: what becomes of `old` if `change` is asked for.
///
/// A `fact` (a broken disk, a broken link, a wish of the administrator that was forced) is only checked for moves that
/// are impossible; anything else must also lead to a valid state by an allowed transition. A rule that the old state
/// breaks already is not held against the new one.
pub fn request(
    old: VolumeState,
    change: Change,
    ctx: &Context,
    fact: bool,
) -> Result<Outcome, StateError> {
    process(old, change, ctx, fact, true)
}

/// As [`request`] for a wish, before the peer is asked: a rule that the old state breaks already is held against the
/// new one (step 7).
pub fn request_for_peer(
    old: VolumeState,
    change: Change,
    ctx: &Context,
) -> Result<Outcome, StateError> {
    process(old, change, ctx, false, false)
}

fn process(
    old: VolumeState,
    change: Change,
    ctx: &Context,
    fact: bool,
    tolerant: bool,
) -> Result<Outcome, StateError> {
    let sanitized = sanitize(old, old.apply(change), ctx);
    let new = sanitized.state;
    if new == old {
        return Ok(Outcome::NothingToDo);
    }
    hard_transition(old, new)?;
    if !fact {
        let ctx = ctx.in_effect(old.disk);
        if let Err(error) = validate(new, &ctx)
            && !(tolerant && validate(old, &ctx) == Err(error))
        {
            return Err(error);
        }
        soft_transition(old, new, &ctx)?;
        verify_needs_good_disks(old, new)?;
        role_raises_no_disk(old, new, change, &ctx)?;
    }
    Ok(Outcome::Changed(new, sanitized.notes))
}

/// A verify would raise both disks to UpToDate, whatever they hold (2.4, "Raising is dangerous"). The kernel's driver
/// lets that happen; we refuse, also when the peer asks.
fn verify_needs_good_disks(old: VolumeState, new: VolumeState) -> StateResult {
    let starts = is_verify(new.conn) && !is_verify(old.conn);
    if starts && (old.disk != DiskState::UpToDate || old.pdsk != DiskState::UpToDate) {
        return Err(StateError::NoUpToDateDisk);
    }
    Ok(())
}

/// (L54) To be promoted, or to consent to the peer's promotion, makes no disk good that has awaited somebody's word.
fn role_raises_no_disk(
    old: VolumeState,
    new: VolumeState,
    change: Change,
    ctx: &Context,
) -> StateResult {
    let raised = change.disk.is_none() && new.disk == DiskState::UpToDate;
    let fences = ctx.fencing != Fencing::DontCare;
    let own = fences && raised && old.awaits_word() && !super::is_there(new.pdsk);
    // (Of its own promotion the peer decides by its own policy.)
    let raises_peers = change.pdsk.is_none() && new.pdsk == DiskState::UpToDate;
    let peers = change.role.is_some()
        && raises_peers
        && old.peer_awaits_word()
        && !super::is_there(new.disk);
    if own || peers {
        return Err(StateError::NoUpToDateDisk);
    }
    Ok(())
}

/// Moves that are impossible even for facts.
pub fn hard_transition(old: VolumeState, new: VolumeState) -> StateResult {
    if new.disk == DiskState::Failed && old.disk == DiskState::Diskless {
        return Err(StateError::IsDiskless);
    }
    is_legal_move(old.conn, new.conn)
}

/// The connection states' part of [`hard_transition`].
pub fn is_legal_move(from: ConnState, to: ConnState) -> StateResult {
    use ConnState::{Connected, Disconnecting, StandAlone, Unconnected, WFReportParams};
    if from == to {
        return Ok(());
    }
    if from == StandAlone && to == Disconnecting {
        return Err(StateError::AlreadyStandAlone);
    }
    if from == StandAlone && to != Unconnected {
        return Err(StateError::NeedConnection);
    }
    if from < WFReportParams && to >= Connected {
        return Err(StateError::NeedConnection);
    }
    if is_teardown(from) && to != Unconnected && to != Disconnecting {
        return Err(StateError::InTransientState);
    }
    if from == Disconnecting && to != StandAlone {
        return Err(StateError::InTransientState);
    }
    Ok(())
}

/// Moves that a wish may not make. All rows are looked at, and the last that hits names the refusal.
pub fn soft_transition(old: VolumeState, new: VolumeState, ctx: &Context) -> StateResult {
    use ConnState::{
        Connected, Disconnecting, StandAlone, StartingSyncS, StartingSyncT, SyncSource, SyncTarget,
        Unconnected, WFConnection, WFReportParams, WFSyncUUID,
    };
    use DiskState::{Attaching, Diskless, Outdated, UpToDate};

    let starting = matches!(new.conn, StartingSyncS | StartingSyncT);
    let handshake = (old.conn == WFConnection && new.conn == WFReportParams)
        || (old.conn == WFReportParams && new.conn >= Connected);
    let promotion = old.role != Role::Primary && new.role == Role::Primary;
    let outdates_peer = new.conn == Disconnecting && new.pdsk == Outdated;
    // Row 8 waits for a resync to begin. After one that failed blocks in none may come: DRBD's command waits for ever then.
    let no_resync = ctx.settled && old.conn == Connected && new.conn == Connected;

    let rows: [(bool, StateError); 13] = [
        (starting && old.conn > Connected, StateError::ResyncRunning),
        (
            new.conn == Disconnecting && old.conn == StandAlone,
            StateError::AlreadyStandAlone,
        ),
        (
            new.disk > Attaching && old.disk == Diskless,
            StateError::IsDiskless,
        ),
        (
            new.conn == WFConnection && old.conn < Unconnected,
            StateError::NoNetConfig,
        ),
        (
            new.disk == Outdated && old.disk < Outdated && old.disk != Attaching,
            StateError::LowerThanOutdated,
        ),
        (
            new.conn == Disconnecting && old.conn == Unconnected,
            StateError::InTransientState,
        ),
        (ctx.state_sent && !handshake, StateError::InTransientState),
        (
            promotion
                && new.pdsk == UpToDate
                && !new.has_lasting_copy()
                && new.disk != Diskless
                && (new.conn <= WFSyncUUID || new.conn != old.conn)
                && !no_resync,
            StateError::InTransientState,
        ),
        (
            is_verify(new.conn) && old.conn < Connected,
            StateError::NeedConnection,
        ),
        (
            is_verify(new.conn) && old.conn > Connected && new.conn != old.conn,
            StateError::ResyncRunning,
        ),
        (starting && old.conn < Connected, StateError::NeedConnection),
        (
            matches!(new.conn, SyncSource | SyncTarget) && old.conn < WFReportParams,
            StateError::NeedConnection,
        ),
        (
            outdates_peer && old.conn < Connected && old.pdsk > Outdated,
            StateError::OutdateWithoutConnection,
        ),
    ];
    match rows.into_iter().rev().find(|(hit, _)| *hit) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Whether the move from `old` to `new`, both sanitized, needs the peer's consent.
pub fn is_cluster_wide(old: VolumeState, new: VolumeState) -> bool {
    use ConnState::{
        Connected, Disconnecting, StartingSyncS, StartingSyncT, VerifyS, WFReportParams,
    };
    let enters = |conn: ConnState| new.conn == conn && old.conn != conn;
    let stays_connected = old.conn >= Connected && new.conn >= Connected;
    let promotion = old.role != Role::Primary && new.role == Role::Primary;
    let detach = old.disk != DiskState::Failed && new.disk == DiskState::Failed;

    (stays_connected && (promotion || enters(StartingSyncT) || enters(StartingSyncS) || detach))
        || (old.conn >= Connected && new.conn == Disconnecting)
        || (old.conn == Connected && (new.conn == VerifyS || new.conn == WFReportParams))
}

/// Timeout to TearDown: the connection is on its way down.
pub(super) fn is_teardown(conn: ConnState) -> bool {
    conn >= ConnState::Timeout && conn <= ConnState::TearDown
}
