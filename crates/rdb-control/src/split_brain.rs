//! What two nodes have written apart: the document that one gives to the other, and what the two say together
//! (`docs/split-brain.md`).

use replica_proto::state::{ConnState, DiskState, Role};
use serde::{Deserialize, Serialize};

use crate::blocks::{Blocks, MarkedBlocks};
use crate::evidence::KeptBy;
use crate::history::{HistoryLine, Identifiers, Instant};
use crate::report::word;
use crate::story::{PeerSeen, Primary};

/// What the document is.
pub const FORMAT: &str = "rdb-split-brain";

/// The version of its form. A document of another one is refused.
pub const VERSION: u32 = 1;

/// Longest document that is read, in bytes.
pub const DOCUMENT_MAX: usize = 64 * 1024 * 1024;

/// Most lines of the history in it.
pub const LINES_MAX: usize = 200;

/// Most files that are named for a volume.
pub const FILES_MAX: usize = 10_000;

/// Most bytes of a name in it: nodes and resources have shorter ones.
const NAME_MAX: usize = 255;

/// The largest device, in sectors (`docs/spec/metadata.md`, section 1.4).
const SECTORS_MAX: u64 = 1 << 41;

/// Sectors of a block.
const BLOCK_SECTORS: u64 = 8;

/// What one node knows of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Side {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The node.
    pub node: String,
    /// The resource.
    pub resource: String,
    /// When it was asked.
    pub at: Instant,
    /// Where it is from.
    pub source: Source,
    /// The connection's state, if a daemon runs: the highest that a volume has.
    #[serde(with = "maybe_word")]
    pub connection: Option<ConnState>,
    /// Whether something keeps this node's blocks when it becomes the target of a resync.
    pub kept_by: KeptBy,
    /// Its volumes, ascending.
    pub volumes: Vec<SideVolume>,
    /// What has happened since both parted, at most [`LINES_MAX`] lines.
    pub history: Vec<HistoryLine>,
    /// Why the history is not there, or not all of it.
    pub history_trouble: Option<String>,
}

/// Where it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The daemon.
    Daemon,
    /// The metadata on the disks of a resource that is down.
    Disk,
}

/// What one node knows of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SideVolume {
    /// Volume number.
    pub volume: u16,
    /// Minor number.
    pub minor: u32,
    /// Its role, if a daemon runs.
    #[serde(with = "maybe_word")]
    pub role: Option<Role>,
    /// Its disk, if a daemon runs.
    #[serde(with = "maybe_word")]
    pub disk: Option<DiskState>,
    /// Size of the device in sectors.
    pub size_sectors: u64,
    /// Its identifiers; nothing without a disk.
    pub identifiers: Option<Identifiers>,
    /// It went down as Primary, without saying so.
    pub crashed_primary: bool,
    /// When the current generation began, if it began here and the history knows.
    pub since: Option<Instant>,
    /// When both were connected last.
    pub parted: Option<Instant>,
    /// When it was Primary since then.
    pub primary: Vec<Primary>,
    /// The blocks that the other one may lack; nothing without a disk.
    pub marked: Option<MarkedBlocks>,
    /// How many of these are marked for the activity log alone: what a Primary wrote to when it crashed.
    pub log_blocks: u64,
    /// Every block counts as marked.
    pub full_sync: bool,
    /// What the other one has told when both met.
    pub seen_peer: Option<PeerSeen>,
    /// The files that lie in the marked blocks, if they were asked for.
    pub files: Option<Files>,
}

/// Which files lie in marked blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Files {
    /// How it was found out.
    pub by: String,
    /// The files, those with most of the blocks first; at most [`FILES_MAX`].
    pub entries: Vec<FileEntry>,
    /// Marked blocks of the file system's own: journal, inodes, directories, maps.
    pub metadata_blocks: u64,
    /// Marked blocks that no file has now.
    pub free_blocks: u64,
    /// Marked blocks of which that is not known, and why not.
    pub unknown: Option<UnknownBlocks>,
}

/// Blocks of which it is not known whose they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UnknownBlocks {
    /// How many.
    pub blocks: u64,
    /// Why.
    pub reason: String,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileEntry {
    /// Its path in the file system.
    pub path: String,
    /// How many marked blocks it has.
    pub blocks: u64,
    /// How many of these both nodes have written; nothing as long as only one has told.
    pub both: Option<u64>,
}

/// Why a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDocument {
    /// Longer than [`DOCUMENT_MAX`].
    #[error("it is longer than {DOCUMENT_MAX} bytes")]
    Long,
    /// Not of the form.
    #[error("it is not what 'rdbadm split-brain --json' prints: {0}")]
    Form(String),
    /// Another version.
    #[error(
        "it is version {0} of the format, and this program reads version {VERSION}: both nodes need the same rdbadm"
    )]
    Version(u64),
    /// It is what two nodes have said already.
    #[error("it is the report of two nodes; the other node's own is needed, without --with-peer")]
    Two,
    /// A value that cannot be.
    #[error("volume {volume}: {what}")]
    Volume {
        /// Which.
        volume: u16,
        /// What is wrong with it.
        what: String,
    },
    /// A name that cannot be.
    #[error("{0}")]
    Other(String),
}

impl Side {
    /// Both nodes are connected: what one writes the other one gets, and nothing is to be decided.
    pub fn is_together(&self) -> bool {
        self.connection >= Some(ConnState::Connected)
    }

    /// Reads what another node has printed.
    ///
    /// # Errors
    /// [`BadDocument`] says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Side, BadDocument> {
        /// What tells whether the rest can be read.
        #[derive(Deserialize)]
        struct Head {
            format: Option<String>,
            version: Option<u64>,
        }
        if bytes.len() > DOCUMENT_MAX {
            return Err(BadDocument::Long);
        }
        let form = |error: serde_json::Error| BadDocument::Form(shown(&error.to_string()));
        let head: Head = serde_json::from_slice(bytes).map_err(form)?;
        match (head.format.as_deref(), head.version) {
            (Some(FORMAT), Some(version)) if version == u64::from(VERSION) => {}
            (Some(FORMAT), Some(version)) => return Err(BadDocument::Version(version)),
            (Some(FORMAT_OF_TWO), _) => return Err(BadDocument::Two),
            _ => {
                let text = format!("its 'format' is not {FORMAT}");
                return Err(BadDocument::Form(text));
            }
        }
        let side: Side = serde_json::from_slice(bytes).map_err(form)?;
        side.check()?;
        Ok(side)
    }

    fn check(&self) -> Result<(), BadDocument> {
        for (what, name) in [("node", &self.node), ("resource", &self.resource)] {
            if !is_name(name) {
                let name = shown(&format!("{name:?}"));
                let text = format!(
                    "the name of its {what}, {name}, can not be one: letters, digits, '.', '_' and '-' are allowed, \
                     no '-' at its beginning, and {NAME_MAX} characters at most"
                );
                return Err(BadDocument::Other(text));
            }
        }
        if self.history.len() > LINES_MAX {
            let text = format!("it has more than {LINES_MAX} lines of history");
            return Err(BadDocument::Other(text));
        }
        let mut before = None;
        for volume in &self.volumes {
            if before >= Some(volume.volume) {
                let text = "its volumes are not in ascending order".to_owned();
                return Err(BadDocument::Other(text));
            }
            before = Some(volume.volume);
            volume.check().map_err(|what| BadDocument::Volume {
                volume: volume.volume,
                what,
            })?;
        }
        Ok(())
    }
}

impl SideVolume {
    /// Blocks of the device.
    pub fn blocks(&self) -> u64 {
        self.size_sectors.div_ceil(BLOCK_SECTORS)
    }

    fn check(&self) -> Result<(), String> {
        if self.size_sectors > SECTORS_MAX {
            let size = self.size_sectors;
            return Err(format!(
                "its size of {size} sectors is more than any device has"
            ));
        }
        let blocks = self.blocks();
        if let Some(marked) = &self.marked {
            let MarkedBlocks {
                count,
                ranges,
                merged,
            } = marked;
            if ranges.end() > blocks {
                let end = ranges.end();
                return Err(format!(
                    "a range ends at block {end}, and it has {blocks} blocks"
                ));
            }
            let covered = ranges.count();
            if *count > covered || (!merged && *count != covered) {
                return Err(format!(
                    "it says {count} blocks, and its ranges have {covered}"
                ));
            }
        }
        if self.log_blocks > self.marked.as_ref().map_or(0, |marked| marked.count) {
            return Err("more blocks for its activity log than there are".to_owned());
        }
        if self.marked.is_some() != self.identifiers.is_some() {
            return Err("identifiers and marked blocks are of one disk".to_owned());
        }
        let files = self.files.as_ref().map_or(0, |files| files.entries.len());
        if files > FILES_MAX {
            return Err(format!("it names more than {FILES_MAX} files"));
        }
        Ok(())
    }
}

/// Whether a name can stand in a command that somebody pastes into a shell: no shell and no program takes it for anything else.
fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(is_allowed)
}

/// A message that may repeat what a document holds, without its middle if it is long.
fn shown(message: &str) -> String {
    const SHOWN: usize = 120;
    let count = message.chars().count();
    if count <= 2 * SHOWN {
        return message.to_owned();
    }
    let start: String = message.chars().take(SHOWN).collect();
    let end: String = message.chars().skip(count - SHOWN).collect();
    format!("{start} ... {end}")
}

/// Why two documents do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Of one node.
    #[error("it is of node {0}, which is this one; the other node's is needed")]
    Node(String),
    /// Of another resource.
    #[error("it is of resource {theirs}, not of {ours}")]
    Resource {
        /// Here.
        ours: String,
        /// There.
        theirs: String,
    },
    /// A volume that the other one has not.
    #[error("it has no volume {0}")]
    NoVolume(u16),
    /// Two sizes.
    #[error(
        "volume {volume}: it has {theirs} sectors there and {ours} here: these are not two copies of one device"
    )]
    Size {
        /// Which.
        volume: u16,
        /// Here.
        ours: u64,
        /// There.
        theirs: u64,
    },
    /// Nothing in common.
    #[error("volume {0}: no generation is known to both: these are not two copies of one device")]
    Unrelated(u16),
}

/// What two nodes' data are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// One generation.
    Same,
    /// The other one's generation is known here as an older one.
    PeerOlder,
    /// The other way round.
    PeerNewer,
    /// Both have a generation that the other one does not know.
    SplitBrain,
    /// One of them has no disk to tell of.
    Unknown,
}

/// The same volume on both nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct BothVolume<'a> {
    /// Here.
    pub own: &'a SideVolume,
    /// There.
    pub peer: &'a SideVolume,
    /// What the two are to each other.
    pub relation: Relation,
    /// Both bitmaps begin at one generation. If not, they do not hold all that was written apart, and the resync is a full one.
    pub one_beginning: bool,
    /// Which blocks both have written; what can be, if ranges were put together.
    pub both: Blocks,
    /// How many.
    pub both_blocks: u64,
    /// That is exact, and not the most that it can be.
    pub exact: bool,
}

/// Puts two nodes' documents side by side, for the volumes of the first.
///
/// # Errors
/// [`Mismatch`]: they do not belong together.
pub fn compare<'a>(own: &'a Side, peer: &'a Side) -> Result<Vec<BothVolume<'a>>, Mismatch> {
    if own.resource != peer.resource {
        return Err(Mismatch::Resource {
            ours: own.resource.clone(),
            theirs: peer.resource.clone(),
        });
    }
    if own.node == peer.node {
        return Err(Mismatch::Node(own.node.clone()));
    }
    let of_volume = |ours: &'a SideVolume| {
        let volume = ours.volume;
        let found = peer.volumes.iter().find(|theirs| theirs.volume == volume);
        let theirs = found.ok_or(Mismatch::NoVolume(volume))?;
        compare_volume(ours, theirs)
    };
    own.volumes.iter().map(of_volume).collect()
}

fn compare_volume<'a>(
    own: &'a SideVolume,
    peer: &'a SideVolume,
) -> Result<BothVolume<'a>, Mismatch> {
    let volume = own.volume;
    let mut compared = BothVolume {
        own,
        peer,
        relation: Relation::Unknown,
        one_beginning: false,
        both: Blocks::default(),
        both_blocks: 0,
        exact: false,
    };
    let (Some(ids), Some(peer_ids)) = (&own.identifiers, &peer.identifiers) else {
        return Ok(compared);
    };
    if own.size_sectors != peer.size_sectors {
        return Err(Mismatch::Size {
            volume,
            ours: own.size_sectors,
            theirs: peer.size_sectors,
        });
    }
    let knows = |ids: &Identifiers, uuid: crate::history::Uuid| {
        !uuid.is_nothing() && ids.slots()[1..].iter().any(|slot| slot.is_same(uuid))
    };
    let is_related = ids.slots().iter().any(|uuid| {
        !uuid.is_nothing() && peer_ids.slots().iter().any(|other| other.is_same(*uuid))
    });
    if !is_related {
        return Err(Mismatch::Unrelated(volume));
    }
    compared.relation = if ids.current.is_same(peer_ids.current) {
        Relation::Same
    } else if knows(ids, peer_ids.current) {
        Relation::PeerOlder
    } else if knows(peer_ids, ids.current) {
        Relation::PeerNewer
    } else {
        Relation::SplitBrain
    };
    compared.one_beginning = !ids.bitmap.is_nothing() && ids.bitmap.is_same(peer_ids.bitmap);
    if let (Some(marked), Some(peer_marked)) = (&own.marked, &peer.marked) {
        (compared.both, compared.both_blocks, compared.exact) = marked.both(peer_marked);
    }
    Ok(compared)
}

/// What the report of two nodes is called.
pub const FORMAT_OF_TWO: &str = "rdb-split-brain-both";

/// Both nodes' documents, and what they say together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Two<'a> {
    /// [`FORMAT_OF_TWO`].
    pub format: &'static str,
    /// [`VERSION`].
    pub version: u32,
    /// Here.
    pub own: &'a Side,
    /// There.
    pub peer: &'a Side,
    /// Each volume.
    pub both: Vec<TwoVolume<'a>>,
}

/// A volume of both.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TwoVolume<'a> {
    /// Its number.
    pub volume: u16,
    /// What the two are to each other.
    pub relation: Relation,
    /// Both bitmaps begin at one generation.
    pub one_beginning: bool,
    /// How many blocks both have written.
    pub both_blocks: u64,
    /// That is exact.
    pub exact: bool,
    /// Where.
    pub both: &'a Blocks,
}

impl<'a> Two<'a> {
    /// The report.
    pub fn new(own: &'a Side, peer: &'a Side, compared: &'a [BothVolume<'a>]) -> Two<'a> {
        let of_volume = |both: &'a BothVolume<'a>| TwoVolume {
            volume: both.own.volume,
            relation: both.relation,
            one_beginning: both.one_beginning,
            both_blocks: both.both_blocks,
            exact: both.exact,
            both: &both.both,
        };
        Two {
            format: FORMAT_OF_TWO,
            version: VERSION,
            own,
            peer,
            both: compared.iter().map(of_volume).collect(),
        }
    }
}

/// A state in DRBD's word, or null.
mod maybe_word {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::word;

    pub(super) fn serialize<T: Display, S: Serializer>(
        state: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        state.as_ref().map(T::to_string).serialize(to)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        #[derive(Deserialize)]
        struct Word<T: FromStr<Err: Display>>(#[serde(with = "word")] T);
        Ok(Option::<Word<T>>::deserialize(from)?.map(|word| word.0))
    }
}

#[cfg(test)]
mod tests;
