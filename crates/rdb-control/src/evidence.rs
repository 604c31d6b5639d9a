//! What a node knows of what was written apart: the daemon's answer, before anybody makes something of it.

use replica_proto::state::{ConnState, DiskState, Role};
use serde::{Deserialize, Serialize};

use crate::blocks::MarkedBlocks;
use crate::handler::HandlersShown;
use crate::history::HistoryLine;
use crate::report::{GiReport, word};

/// What the daemon knows of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidenceReport {
    /// The connection's state: the highest that a volume has.
    #[serde(with = "word")]
    pub connection: ConnState,
    /// Its volumes, ascending.
    pub volumes: Vec<VolumeEvidence>,
    /// The newest lines of its history, in their order.
    pub history: Vec<HistoryLine>,
    /// Why the history is not there, or not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_trouble: Option<String>,
    /// Whether something keeps the blocks of this node when it becomes the target of a resync.
    pub kept_by: KeptBy,
}

/// What the daemon knows of a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeEvidence {
    /// Volume number.
    pub volume: u16,
    /// Minor number.
    pub minor: u32,
    /// Own role.
    #[serde(with = "word")]
    pub role: Role,
    /// Own disk state.
    #[serde(with = "word")]
    pub disk: DiskState,
    /// Size of the device in sectors.
    pub size_sectors: u64,
    /// Identifiers and flags; nothing without a disk.
    pub generation: Option<GiReport>,
    /// The marked blocks; nothing without a disk.
    pub marked: Option<MarkedBlocks>,
}

/// What keeps the blocks of a resync's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeptBy {
    /// `before-resync-target` takes a snapshot.
    Snapshot,
    /// `before-resync-target` is a command of somebody else's: it knows.
    Handler,
    /// Nothing.
    Nothing,
}

impl KeptBy {
    /// What these handlers do.
    pub fn of(handlers: &HandlersShown) -> KeptBy {
        // DRBD's own script for LVM has the same beginning.
        const SNAPSHOT: &str = "snapshot-resync-target";
        let Some(command) = handlers.commands.get("before-resync-target") else {
            return KeptBy::Nothing;
        };
        let is_snapshot = |word: &str| {
            let name = word.rsplit('/').next().unwrap_or(word);
            name.starts_with(SNAPSHOT)
        };
        match command.split_whitespace().any(is_snapshot) {
            true => KeptBy::Snapshot,
            false => KeptBy::Handler,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_the_blocks_is_told_by_the_handler() {
        let with = |command: &str| {
            let mut handlers = HandlersShown::default();
            let name = "before-resync-target".to_owned();
            handlers.commands.insert(name, command.to_owned());
            KeptBy::of(&handlers)
        };
        assert_eq!(KeptBy::of(&HandlersShown::default()), KeptBy::Nothing);
        for (command, kept_by) in [
            ("/usr/lib/rdb/snapshot-resync-target", KeptBy::Snapshot),
            (
                "/usr/lib/rdb/snapshot-resync-target --percent 20",
                KeptBy::Snapshot,
            ),
            (
                "nice /usr/lib/drbd/snapshot-resync-target-lvm.sh -p 15",
                KeptBy::Snapshot,
            ),
            ("/usr/local/sbin/unsnapshot-resync-target", KeptBy::Handler),
            ("echo begins", KeptBy::Handler),
        ] {
            assert_eq!(with(command), kept_by, "{command}");
        }
    }
}
