//! Which states a wish may lead to (`docs/spec/behaviour.md`, section 2.5).

use super::{ConnState, Context, DiskState, Fencing, Role, StateError, StateResult, VolumeState};

/// Checks `state` against the rows of the table; the first that hits names the refusal.
///
/// `ctx.fencing` must be the policy in effect: [`Context::in_effect`].
pub fn validate(state: VolumeState, ctx: &Context) -> StateResult {
    use ConnState::{
        Connected, PausedSyncS, StartingSyncS, StartingSyncT, SyncSource, VerifyS, VerifyT,
        WFBitMapS,
    };
    use DiskState::{DUnknown, Inconsistent, Outdated, UpToDate};

    let VolumeState {
        role,
        peer,
        conn,
        disk,
        pdsk,
        ..
    } = state;
    let primary = role == Role::Primary;
    let single_primary = ctx.net_configured && !ctx.two_primaries;
    let peer_primary_somewhere = peer == Role::Primary || ctx.peer_primary_on_other_volume;
    let verifying = matches!(conn, VerifyS | VerifyT);
    let source_side = matches!(conn, Connected | WFBitMapS | SyncSource | PausedSyncS);
    let no_data = disk < UpToDate && pdsk < UpToDate;

    let rows: [(bool, StateError); 15] = [
        (
            single_primary && primary && peer == Role::Primary,
            StateError::TwoPrimaries,
        ),
        (
            single_primary && primary && peer_primary_somewhere,
            StateError::OtherVolumePeerPrimary,
        ),
        (
            role == Role::Secondary && ctx.device_open,
            StateError::DeviceInUse,
        ),
        (
            primary && conn < Connected && disk < UpToDate,
            StateError::NoUpToDateDisk,
        ),
        (
            ctx.fencing >= Fencing::ResourceOnly && primary && conn < Connected && pdsk >= DUnknown,
            StateError::PrimaryNop,
        ),
        (
            primary && disk <= Inconsistent && pdsk <= Inconsistent,
            StateError::NoUpToDateDisk,
        ),
        (
            conn > Connected && disk < Inconsistent,
            StateError::NoLocalDisk,
        ),
        (
            conn > Connected && pdsk < Inconsistent,
            StateError::NoRemoteDisk,
        ),
        (conn > Connected && no_data, StateError::NoUpToDateDisk),
        (
            source_side && disk == Outdated && super::is_there(pdsk),
            StateError::ConnectedOutdates,
        ),
        (verifying && !ctx.verify_alg_set, StateError::NoVerifyAlg),
        (
            verifying && ctx.agreed_version < 88,
            StateError::NotSupported,
        ),
        (primary && no_data, StateError::NoUpToDateDisk),
        (
            matches!(conn, StartingSyncS | StartingSyncT) && pdsk == DUnknown,
            StateError::NeedConnection,
        ),
        (
            conn >= Connected && pdsk == DUnknown,
            StateError::ConnectedOutdates,
        ),
    ];
    match rows.into_iter().find(|(hit, _)| *hit) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
