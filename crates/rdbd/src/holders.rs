//! Who has a device open that is to be given up: a refusal names them.

use rdb_control::Refusal;

use crate::node::Node;
use crate::ops::Failure;
use crate::target::Target;

/// "Device is held open by someone" (`docs/spec/admin.md`, section 4.4).
pub(crate) const HELD_OPEN: i32 = -12;

impl Node {
    /// The same failure; if it is for users of the device, with their names.
    pub(crate) async fn with_holders(&self, target: &Target, failure: Failure) -> Failure {
        let Failure::Refused(refusal) = failure else {
            return failure;
        };
        if refusal.code != HELD_OPEN || !refusal.info.is_empty() {
            return refusal.into();
        }
        let node = self.look_at_volume(target, |volume| volume.node.clone());
        // Looks at every process.
        let look = move || node.flatten().map(|node| rdb_frontend::holders_of(&node));
        let holders = tokio::task::spawn_blocking(look).await;
        let names: Vec<String> = holders
            .ok()
            .flatten()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        let socket = self
            .run_dir
            .join("nbd")
            .join(format!("{}.sock", target.name));
        let info = if names.is_empty() {
            format!("held open by a client of {}", socket.display())
        } else {
            format!("held open by {}", names.join(", "))
        };
        Refusal { info, ..refusal }.into()
    }
}
