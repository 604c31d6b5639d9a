//! What was written apart: bitmap, identifiers and history of a resource, for `rdbadm split-brain`.

use rdb_control::{
    ConnState, EvidenceReport, GiReport, KeptBy, MarkedBlocks, MarkedCollector, VolumeEvidence,
    read_history, runs_max,
};
use rdb_engine::{Marks, ResourceStatus, VolumeNr, VolumeStatus};
use rdb_runtime::MARKS_WORDS;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::node::Node;
use crate::ops::STATUS_TIMEOUT;
use crate::outcome::{Failure, Outcome};
use crate::target::Target;
use crate::threads;

/// Blocks that a word of a bitmap stands for.
const WORD_BLOCKS: u64 = 64;

impl Node {
    /// All that is known of a resource. The bitmap is read piece by piece, while users go on: what they write meanwhile may be
    /// in it or not.
    pub(crate) async fn evidence(&self, name: &str) -> Outcome<EvidenceReport> {
        let target = self.resource(name)?;
        let status = self.resource_status(&target).await?;
        let mut volumes = Vec::new();
        let runs_max = runs_max(status.volumes.len());
        for volume in &status.volumes {
            let marked = match volume.generation {
                Some(_) => self.marked(&target, volume.volume, runs_max).await?,
                None => None,
            };
            volumes.push(of_volume(volume, marked));
        }
        let (history, resource) = (self.history.clone(), name.to_owned());
        let read = move || {
            history.flush();
            read_history(history.state_dir(), &resource)
        };
        let read = threads::run("reading the history", read).await;
        let (history, history_trouble) = match read.map_err(|error| error.to_string()) {
            Ok(Ok((lines, 0))) => (lines, None),
            Ok(Ok((lines, bad))) => (lines, Some(format!("{bad} lines of it can not be read"))),
            Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
            Err(error) => (Vec::new(), Some(error)),
        };
        let handlers = self.registry.lock().get(name).map(|e| e.handlers.clone());
        Ok(EvidenceReport {
            connection: connection(&status),
            volumes,
            history,
            history_trouble,
            kept_by: KeptBy::of(&handlers.unwrap_or_default()),
        })
    }

    /// The marked blocks of a volume; nothing if its disk has gone meanwhile.
    async fn marked(
        &self,
        target: &Target,
        volume: VolumeNr,
        runs_max: usize,
    ) -> Outcome<Option<MarkedBlocks>> {
        let mut collector = MarkedCollector::new(runs_max);
        let mut from = 0;
        loop {
            let (reply, answer) = oneshot::channel();
            let reply = Box::new(move |marks| _ = reply.send(marks));
            target.handle.marks(volume, from, reply);
            let piece = match timeout(STATUS_TIMEOUT, answer).await {
                Ok(Ok(piece)) => piece,
                Ok(Err(_)) => return Err(self.ended(target)),
                Err(_) => {
                    let text = format!("{}: its thread does not answer", target.name);
                    return Err(Failure::Error(text));
                }
            };
            let Some(Marks { words, .. }) = piece else {
                return Ok(None);
            };
            let is_last = words.len() < MARKS_WORDS;
            let first = from as u64 * WORD_BLOCKS;
            from += words.len();
            let collect = move || {
                for (index, word) in (0..).zip(words) {
                    collector.word(first + index * WORD_BLOCKS, word);
                }
                collector
            };
            let collected = threads::run("reading the bitmap", collect).await;
            collector = collected.map_err(|error| Failure::Error(error.to_string()))?;
            if is_last {
                return Ok(Some(collector.finish()));
            }
        }
    }
}

/// The connection's state as its volumes have it: the connection itself knows none above WFReportParams. Of several it is the
/// highest, so that a resync of one is seen beside others that have nothing to do.
fn connection(status: &ResourceStatus) -> ConnState {
    let of_volumes = status.volumes.iter().map(|volume| volume.state.conn);
    of_volumes.max().unwrap_or(status.connection.state)
}

fn of_volume(volume: &VolumeStatus, marked: Option<MarkedBlocks>) -> VolumeEvidence {
    VolumeEvidence {
        volume: volume.volume.0,
        minor: volume.minor,
        role: volume.state.role,
        disk: volume.state.disk,
        size_sectors: volume.size_sectors,
        generation: volume.generation.map(|(ids, flags)| GiReport {
            uuids: ids.bits(),
            flags,
        }),
        marked,
    }
}
