//! Disks that hang when their resource is started again.
//!
//! I/O of a disk may take longer than a resource that has stopped waits for it. Until it ends the disk is in use by this very
//! process ([`rdb_runtime::is_left`]). The resource is started again without the disk then, which is attached when it has
//! answered.

use std::rc::Rc;
use std::time::Duration;

use rdb_control::{DiskShown, DiskState, MetaDisk, ReasonReport, ResourceShown, StatusReport};
use rdb_engine::ResourceStatus;

use crate::node::Node;
use crate::outcome::words;
use crate::target::Target;
use crate::threads;

/// How often it is looked whether a disk has answered.
const DISK_POLL: Duration = Duration::from_millis(500);

impl Node {
    /// Attaches a disk that hangs as soon as it has answered, in the background.
    pub(crate) fn attach_late(self: &Rc<Node>, minor: u32, disk: DiskShown) {
        let Ok(target) = self.target(minor) else {
            return;
        };
        tracing::warn!(
            "drbd {}/{} drbd{minor}: its disk {} does not answer; it is attached when it does",
            target.name,
            target.number,
            disk.data.display()
        );
        self.update_volume(&target, |volume| volume.awaits_disk = true);
        let node = Rc::clone(self);
        tokio::task::spawn_local(async move { node.await_disk(&target, minor, disk).await });
    }

    async fn await_disk(&self, target: &Target, minor: u32, disk: DiskShown) {
        while hangs(&disk).await {
            tokio::time::sleep(DISK_POLL).await;
            if !self.awaits_disk(target) {
                return;
            }
        }
        if !self.awaits_disk(target) {
            return;
        }
        let attached = self.attach(minor, disk).await;
        self.forget_late_disk(minor);
        // What goes wrong is logged.
        let _ = self.keep().await;
        let (name, number) = (&target.name, target.number);
        match attached {
            Ok(()) => tracing::info!(
                "drbd {name}/{number} drbd{minor}: its disk has answered and is attached"
            ),
            Err(failure) => tracing::error!(
                "drbd {name}/{number} drbd{minor}: its disk has answered and can not be attached: {}",
                words(&failure)
            ),
        }
    }

    /// Whether the disk is still to be attached: nobody has said anything else, and this process is not about to end.
    fn awaits_disk(&self, target: &Target) -> bool {
        !self.keeper.is_over()
            && !self.life.is_being_replaced()
            && self.is_there(target)
            && self.look_at_volume(target, |volume| volume.awaits_disk) == Some(true)
    }

    /// The disk of this volume is not to be attached by itself any more.
    pub(crate) fn forget_late_disk(&self, minor: u32) {
        if let Ok(target) = self.target(minor) {
            self.update_volume(&target, |volume| volume.awaits_disk = false);
        }
    }

    /// How a resource is configured that goes on record: as far as that is in effect, and with the disks that are waited for.
    pub(crate) fn on_record(
        &self,
        target: &Target,
        status: Option<&ResourceStatus>,
    ) -> Option<ResourceShown> {
        let mut shown = self.shown(target, status)?;
        let registry = self.registry.lock();
        let entry = registry.get(&target.name)?;
        for volume in shown.volumes.iter_mut().filter(|v| v.disk.is_none()) {
            let found = entry.volumes.get(&volume.volume);
            let waits = found.filter(|found| found.awaits_disk);
            volume.disk = waits.and_then(|found| found.disk.clone());
        }
        Some(shown)
    }

    /// Says of volumes without a disk that theirs is waited for.
    pub(crate) fn explain_late_disks(&self, report: &mut StatusReport) {
        let registry = self.registry.lock();
        for resource in &mut report.resources {
            let Some(entry) = registry.get(&resource.name) else {
                continue;
            };
            for volume in &mut resource.volumes {
                let awaits = entry.volumes.get(&volume.volume);
                if volume.disk == DiskState::Diskless
                    && awaits.is_some_and(|found| found.awaits_disk)
                {
                    volume.disk_reason = Some(ReasonReport {
                        word: "disk-hangs".to_owned(),
                        text: "it does not answer: what it was asked for before the resource was started again has not ended; \
                               it is attached by itself when that ends"
                            .to_owned(),
                        advice: Some("check the disk".to_owned()),
                        since_s: None,
                    });
                }
            }
        }
    }
}

/// Whether I/O of a resource that has ended is under way on a volume's disk or on its metadata's.
pub(crate) async fn hangs(disk: &DiskShown) -> bool {
    let data = disk.data.clone();
    let meta = match &disk.meta {
        MetaDisk::Internal => None,
        MetaDisk::Flexible(path) | MetaDisk::Indexed(path, _) => Some(path.clone()),
    };
    let look = move || {
        let mut paths = [Some(data), meta].into_iter().flatten();
        paths.any(|path| rdb_runtime::is_left(&path))
    };
    let looked = threads::run("looking whether a disk hangs", look).await;
    looked.unwrap_or_else(|error| {
        tracing::warn!("{error}");
        // It is attached late, then, and not never.
        true
    })
}
