//! What this node knows of a resource: asked of the daemon, or read from the disks and the history of one that is down.

use std::path::Path;

use rdb_config::ResolvedVolume;
use rdb_control::split_brain::{FORMAT, LINES_MAX, Side, SideVolume, Source, VERSION};
use rdb_control::{
    EvidenceReport, HistoryLine, Identifiers, Instant, KeptBy, MarkedBlocks, Story, VolumeEvidence,
    read_history,
};
use rdb_meta::MdFlags;

use crate::adm::plan::Item;
use crate::disk;
use crate::exec::{Executor, Trouble};
use crate::out;

/// All that this node knows. What a disk does not say is told on standard error, and missing.
pub(crate) fn gather(
    executor: &mut Executor,
    item: &Item,
    node: &str,
    state_dir: &Path,
) -> Result<Side, Trouble> {
    let resource = &item.resource.name;
    let report = executor.evidence(resource)?;
    let (history, history_trouble) = match &report {
        Some(report) => (report.history.clone(), report.history_trouble.clone()),
        None => match read_history(state_dir, resource) {
            Ok((lines, 0)) if lines.is_empty() => {
                let text = format!("there is none in {}", state_dir.display());
                (lines, Some(text))
            }
            Ok((lines, 0)) => (lines, None),
            Ok((lines, bad)) => (lines, Some(format!("{bad} lines of it can not be read"))),
            Err(error) => (Vec::new(), Some(error.to_string())),
        },
    };
    let mut stories = Vec::new();
    let mut volumes = Vec::new();
    for volume in item.volumes() {
        let evidence = report.as_ref().and_then(|report| {
            let of_volume = |evidence: &&VolumeEvidence| evidence.volume == volume.volume;
            report.volumes.iter().find(of_volume)
        });
        let mut told = told_of(volume, evidence);
        if told.identifiers.is_none()
            && let Err(error) = read_disk(volume, &mut told)
        {
            let number = volume.volume;
            out::error(&format!(
                "{resource}/{number}: nothing is known of its disk: {error}"
            ));
        }
        let story = Story::of(&history, volume.volume, told.identifiers.as_ref());
        told.since = story.since;
        told.parted = story.parted;
        told.primary.clone_from(&story.primary);
        told.seen_peer = story.seen_peer;
        stories.push(story.first_line);
        volumes.push(told);
    }
    let first = stories.into_iter().min().unwrap_or(0);
    Ok(Side {
        format: FORMAT.to_owned(),
        version: VERSION,
        node: node.to_owned(),
        resource: resource.clone(),
        at: Instant::now(),
        source: match report {
            Some(_) => Source::Daemon,
            None => Source::Disk,
        },
        connection: report.as_ref().map(|report| report.connection),
        kept_by: kept_by(report.as_ref(), item),
        volumes,
        history: since(history, first),
        history_trouble,
    })
}

/// What keeps the blocks: the daemon goes by the handlers that it has been told, and one that is started by the configuration.
pub(crate) fn kept_by(report: Option<&EvidenceReport>, item: &Item) -> KeptBy {
    report.map_or_else(|| KeptBy::of(&item.handlers), |report| report.kept_by)
}

/// The lines from one on, the newest if they are too many.
fn since(mut history: Vec<HistoryLine>, first: usize) -> Vec<HistoryLine> {
    let first = first.max(history.len().saturating_sub(LINES_MAX));
    history.drain(..first.min(history.len()));
    history
}

fn told_of(volume: &ResolvedVolume, evidence: Option<&VolumeEvidence>) -> SideVolume {
    let generation = evidence.and_then(|evidence| evidence.generation.as_ref());
    let marked = evidence.and_then(|evidence| evidence.marked.clone());
    // (Either could have gone with the disk while the other one was asked for.)
    let disk = generation.zip(marked);
    let flags = generation.map_or(MdFlags::empty(), |g| MdFlags::from_bits_retain(g.flags));
    SideVolume {
        volume: volume.volume,
        minor: volume.minor,
        role: evidence.map(|evidence| evidence.role),
        disk: evidence.map(|evidence| evidence.disk),
        size_sectors: evidence.map_or(0, |evidence| evidence.size_sectors),
        identifiers: disk.as_ref().map(|(g, _)| Identifiers::of(g.uuids)),
        crashed_primary: flags.contains(MdFlags::CRASHED_PRIMARY),
        since: None,
        parted: None,
        primary: Vec::new(),
        marked: disk.map(|(_, marked)| marked),
        log_blocks: 0,
        full_sync: flags.contains(MdFlags::FULL_SYNC),
        seen_peer: None,
        files: None,
    }
}

/// What the disk says of a volume that has none attached.
fn read_disk(volume: &ResolvedVolume, told: &mut SideVolume) -> Result<(), String> {
    const EXTENT_BLOCKS: u64 = 1024;
    let Some(data) = &volume.disk else {
        return Err("this node has none for it".to_owned());
    };
    let (marks, mut marked) = disk::marks(data, &volume.meta).map_err(|e| e.to_string())?;
    let blocks = marks.size_sectors.div_ceil(rdb_meta::BLOCK_SECTORS);
    let before = marked.count;
    let mut hot = rdb_control::Blocks::default();
    for extent in &marks.hot {
        let first = u64::from(extent.0) * EXTENT_BLOCKS;
        let len = blocks.saturating_sub(first).min(EXTENT_BLOCKS);
        if len > 0 {
            hot.push(first, len);
        }
    }
    marked.add(&hot);
    if let Some(error) = marks.log_error {
        return Err(format!("its activity log can not be read: {error}"));
    }
    if marks.is_full_sync() {
        let mut all = rdb_control::Blocks::default();
        all.push(0, blocks);
        marked = MarkedBlocks::of(all);
    }
    told.size_sectors = marks.size_sectors;
    told.identifiers = Some(Identifiers::of(marks.superblock.uuids));
    told.crashed_primary = marks.superblock.flags.contains(MdFlags::PRIMARY_IND);
    told.log_blocks = match marks.is_full_sync() {
        true => 0,
        false => marked.count - before,
    };
    told.full_sync = marks.is_full_sync();
    told.marked = Some(marked);
    Ok(())
}
