//! What no peer may do, whatever it says: to a Primary with a good disk, whose users work on.

use rdb_engine::VolumeStatus;
use rdb_engine::state::{DiskState, Role};

/// Whether this volume is one that no peer can do anything to.
pub(crate) fn is_protected(volume: &VolumeStatus) -> bool {
    volume.state.role == Role::Primary && volume.state.disk == DiskState::UpToDate
}

/// Whether its data give way to the peer's, by an order that a peer's administrator may give: once the peer says that it begins.
pub(crate) fn gives_way(before: &VolumeStatus, after: &VolumeStatus) -> bool {
    use rdb_engine::state::ConnState::{PausedSyncT, SyncTarget};
    before.state.awaits_source() && matches!(after.state.conn, SyncTarget | PausedSyncT)
}

/// What is wrong with a protected volume after something that the peer did. `usable`: sectors that its own disk has.
pub(crate) fn harm(before: &VolumeStatus, after: &VolumeStatus, usable: u64) -> Option<String> {
    let (old, new) = (before.state, after.state);
    let what = if new.role != old.role {
        format!("its role is {}", new.role)
    } else if new.disk != old.disk && !gives_way(before, after) {
        format!("its disk is {}", new.disk)
    } else if new.is_suspended() && !old.is_suspended() {
        "its I/O is suspended".to_string()
    } else if after.size_sectors < before.size_sectors {
        let (old, new) = (before.size_sectors, after.size_sectors);
        format!("it shrank from {old} to {new} sectors")
    } else if after.size_sectors > before.size_sectors.max(usable) {
        format!("it has {} sectors, its disk {usable}", after.size_sectors)
    } else {
        return None;
    };
    Some(format!(
        "the peer did harm to a Primary with a good disk: {what}"
    ))
}
