//! What `connect --discard-my-data` is about to throw away, said before it does.

use rdb_control::{ConnState, EvidenceReport, KeptBy};

use super::{amount, gather};
use crate::adm::plan::Item;
use crate::exec::Executor;
use crate::out;

/// Says it. What is not known is no reason to refuse: the command itself is what was asked for.
pub(crate) fn tell(executor: &mut Executor, item: &Item) {
    let name = &item.resource.name;
    let report = match executor.evidence(name) {
        Ok(Some(report)) if report.connection == ConnState::StandAlone => report,
        // Then it is not connected by this command, which says why.
        Ok(_) => return,
        Err(trouble) => {
            let text = &trouble.message;
            out::error(&format!(
                "{name}: how much --discard-my-data gives up is not known: {text}"
            ));
            return;
        }
    };
    let kept_by = gather::kept_by(Some(&report), item);
    for line in lines(name, &report, kept_by) {
        out::error(&line);
    }
}

fn lines(name: &str, report: &EvidenceReport, kept_by: KeptBy) -> Vec<String> {
    let of_volume = |volume: &rdb_control::VolumeEvidence| {
        let number = volume.volume;
        let named = match report.volumes.len() {
            1 => name.to_owned(),
            _ => format!("{name}/{number}"),
        };
        match &volume.marked {
            Some(marked) => format!(
                "{named}: --discard-my-data gives up what this node has written apart: {}",
                amount(marked.count)
            ),
            None => format!(
                "{named}: how much --discard-my-data gives up is not known: no disk is attached"
            ),
        }
    };
    let mut lines: Vec<String> = report.volumes.iter().map(of_volume).collect();
    lines.push(format!("{name}: {}", kept(kept_by)));
    lines
}

/// What becomes of the blocks of a target.
pub(crate) fn kept(kept_by: KeptBy) -> &'static str {
    match kept_by {
        KeptBy::Snapshot => {
            "before-resync-target takes a snapshot before they are overwritten: they are kept by that"
        }
        KeptBy::Handler => {
            "before-resync-target is called before they are overwritten; whether it keeps them, its author knows"
        }
        KeptBy::Nothing => {
            "nothing keeps these blocks: no before-resync-target is configured that takes a snapshot"
        }
    }
}

#[cfg(test)]
mod tests {
    use rdb_control::{DiskState, MarkedBlocks, Role, VolumeEvidence};

    use super::*;

    #[test]
    fn how_much_is_given_up_is_said_for_each_volume() {
        let volume = |volume, blocks: Option<u64>| VolumeEvidence {
            volume,
            minor: u32::from(volume),
            role: Role::Secondary,
            disk: DiskState::UpToDate,
            size_sectors: 8000,
            generation: None,
            marked: blocks.map(|count| MarkedBlocks {
                count,
                ..MarkedBlocks::default()
            }),
        };
        let mut report = EvidenceReport {
            connection: ConnState::StandAlone,
            volumes: vec![volume(0, Some(4))],
            history: Vec::new(),
            history_trouble: None,
            kept_by: KeptBy::Nothing,
        };
        assert_eq!(
            lines("r0", &report, KeptBy::Nothing),
            [
                "r0: --discard-my-data gives up what this node has written apart: 4 blocks of 4 KiB = 16 KiB",
                "r0: nothing keeps these blocks: no before-resync-target is configured that takes a snapshot",
            ]
        );
        report.volumes.push(volume(1, None));
        let lines = lines("r0", &report, KeptBy::Snapshot);
        assert!(lines[0].starts_with("r0/0: ") && lines[1].starts_with("r0/1: how much"));
        assert!(lines[2].contains("takes a snapshot"), "{lines:?}");
    }
}
