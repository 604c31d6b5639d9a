//! How far taking over from the daemon before is ([`crate::takeover`]).

use rdb_control::TakeoverOutcome;

use crate::record::{KeptPrimary, KeptResource};

/// A volume that was Primary under the daemon before.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) resource: String,
    pub(crate) kept: KeptPrimary,
    /// The nodes were connected.
    pub(crate) connected: bool,
    pub(crate) outcome: TakeoverOutcome,
    pub(crate) pause_ms: Option<u64>,
}

/// How far it is.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    pub(crate) volumes: Vec<Volume>,
    pub(crate) problems: Vec<String>,
    /// What could not even be created here.
    pub(crate) stranded: Vec<KeptResource>,
}

impl Volume {
    /// Whether it is still to become Primary.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.outcome, TakeoverOutcome::Waiting(_))
    }
}
