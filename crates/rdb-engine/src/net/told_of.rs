//! Volumes of which the peer has told in this connection, and that were not there.

use alloc::collections::BTreeSet;

use crate::ids::VolumeNr;

/// So many are told apart; of more any could be meant.
const TOLD_MAX: usize = 256;

/// Filled by what the peer tells, emptied with the connection. Without it a volume that is added later stays in WFReportParams.
#[derive(Debug, Default)]
pub(crate) struct ToldOf(BTreeSet<VolumeNr>);

impl ToldOf {
    pub(crate) fn note(&mut self, nr: VolumeNr) {
        if self.0.len() < TOLD_MAX {
            self.0.insert(nr);
        }
    }

    /// Whether the peer may have told of it.
    pub(crate) fn may_have(&self, nr: VolumeNr) -> bool {
        self.0.contains(&nr) || self.0.len() >= TOLD_MAX
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_any_may_be_meant() {
        let mut told = ToldOf::default();
        told.note(VolumeNr(7));
        assert!(told.may_have(VolumeNr(7)) && !told.may_have(VolumeNr(8)));
        for nr in 0..1000 {
            told.note(VolumeNr(nr));
        }
        assert_eq!(told.0.len(), TOLD_MAX);
        assert!(told.may_have(VolumeNr(5000)));
        told.clear();
        assert!(!told.may_have(VolumeNr(7)));
    }
}
