//! How everything is: what `status` and the stream of events tell.

use std::time::Duration;

use rdb_control::{ResourceReport, StatusReport};
use rdb_engine::ResourceStatus;
use rdb_engine::state::{ConnState, DiskState, Role};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::convert;
use crate::handlers;
use crate::node::Node;
use crate::reasons;
use crate::target::Target;

/// How long all resources together may take to say how they are.
pub(crate) const OVERVIEW_TIMEOUT: Duration = Duration::from_secs(3);

impl Node {
    /// How all resources are.
    pub(crate) async fn all_status(&self) -> Vec<(Target, Option<ResourceStatus>)> {
        self.status_of(self.all()).await
    }

    /// How these resources are, asked at once; `None`: it does not answer.
    pub(crate) async fn status_of(
        &self,
        targets: Vec<Target>,
    ) -> Vec<(Target, Option<ResourceStatus>)> {
        let asked: Vec<_> = targets
            .into_iter()
            .map(|target| {
                let (reply, answer) = oneshot::channel();
                target
                    .handle
                    .status(Box::new(move |status| _ = reply.send(status)));
                (target, answer)
            })
            .collect();
        let deadline = Instant::now() + OVERVIEW_TIMEOUT;
        let mut all = Vec::new();
        for (target, answer) in asked {
            let status = timeout_at(deadline, answer).await;
            all.push((target, status.ok().and_then(Result::ok)));
        }
        all
    }

    /// Everything; what does not answer stands there as failed.
    pub(crate) async fn status(&self) -> StatusReport {
        self.report_of(self.all()).await
    }

    /// The same of these.
    pub(crate) async fn report_of(&self, targets: Vec<Target>) -> StatusReport {
        let mut resources = Vec::new();
        for (target, status) in self.status_of(targets).await {
            resources.extend(match status {
                Some(status) => Some(self.report(&target.name, &status)),
                None => self.failed(&target),
            });
        }
        let mut report = StatusReport {
            node: self.name.clone(),
            resources,
        };
        self.explain_late_disks(&mut report);
        report
    }

    /// A resource that answers, with what is known of it beside its own status.
    pub(crate) fn report(&self, name: &str, status: &ResourceStatus) -> ResourceReport {
        let mut report = convert::report(name, status);
        report.failed = self.restarts.report(name);
        let volumes = report.volumes.len();
        if let Some(entry) = self.registry.lock().get(name) {
            report.handlers = handlers::report(entry);
            reasons::complete(&mut report, &entry.losing);
            if status.connection.state != ConnState::StandAlone {
                report.local = entry.connection.as_ref().map(|c| c.local);
                report.peer = entry.connection.as_ref().map(|c| c.peer);
            }
            for volume in &mut report.volumes {
                let configured = entry.volumes.get(&volume.volume);
                volume.device = configured.and_then(|v| v.node.clone());
                let no_device = configured.and_then(|v| v.no_device.as_deref());
                if let Some(why) = no_device.filter(|_| volume.role == Role::Primary) {
                    let volume_name = reasons::volume_name(name, volume.volume, volumes);
                    volume.device_reason = Some(reasons::device(&volume_name, why));
                }
                if volume.disk != DiskState::Diskless {
                    let disk = configured.and_then(|v| v.disk.as_ref());
                    volume.backing = disk.map(|disk| disk.data.clone());
                }
            }
        }
        self.add_reasons(&mut report);
        reasons::name_limits(&mut report);
        report
    }

    /// One that does not answer.
    pub(crate) fn failed(&self, target: &Target) -> Option<ResourceReport> {
        let mut report = self.failed_report(target)?;
        self.add_reasons(&mut report);
        Some(report)
    }

    /// What the daemon knows of itself, and has not to do with the resource's own state.
    fn add_reasons(&self, report: &mut ResourceReport) {
        report.record_reason = self.keeper.trouble();
        report.daemon_reason = self.life.ending();
        if report.io_reason.is_none() {
            report.io_reason = self.waits_for_takeover(&report.name);
        }
    }
}
