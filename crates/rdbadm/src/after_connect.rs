//! What is said after `connect` has been accepted: that the node tries, and cannot.

use rdb_control::Op;

use crate::exec::Executor;
use crate::out;

/// The word of the reason.
const OWN_ADDRESS: &str = "own-address";

impl Executor {
    /// Tells of an address that cannot be used: the node tries on, and whoever has asked should know.
    pub(crate) fn warn_of_address(&mut self, op: &Op) {
        let Op::Connect { resource, .. } = op else {
            return;
        };
        // If that cannot be asked, the next command says why.
        let Ok(Some(report)) = self.status_of(resource) else {
            return;
        };
        let reason = report.link_reason.as_ref();
        let reason = reason.filter(|reason| reason.word == OWN_ADDRESS);
        if let Some(reason) = reason {
            out::error(&format!(
                "{resource}: warning: {}; it goes on trying",
                reason.text
            ));
        }
    }
}
