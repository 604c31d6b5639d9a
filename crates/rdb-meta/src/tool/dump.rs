//! `dump-md`: metadata as text (docs/spec/metadata.md, section 8.2).

use alloc::format;
use alloc::string::String;

use super::{Console, Exit, Metadata, ToolError};
use crate::{Device, DeviceError, MetaKind, SECTOR_BYTES};

/// Words of a bitmap line.
const LINE_WORDS: u64 = 4;
/// Equal words that are worth a `times`.
const RUN_WORDS_MIN: u64 = 8;
/// A line that begins at a multiple of this many words says where: 8 MiB.
const COMMENT_WORDS: u64 = 32;
/// KiB of data a word stands for.
const WORD_KIB: u64 = 256;

/// What the first lines of a dump say, and what to do with an unclean one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpHeader<'a> {
    /// As in `2026-01-01 00:00:00 +0000 [1767225600]`.
    pub date: &'a str,
    /// The host and the command as it was given, as in `host> drbdmeta 20 v08 DEV internal dump-md`.
    pub command: &'a str,
    /// Dump unclean metadata too, in a form that cannot be restored.
    pub force: bool,
}

/// Prints the metadata as text that [`restore_md`](super::restore_md) and `drbdmeta` read. Of the
/// bitmap never more than a piece is in memory.
///
/// # Errors
/// No valid metadata; unclean metadata without `force`; a device that fails.
pub fn dump_md(
    device: &mut dyn Device,
    kind: MetaKind,
    header: &DumpHeader<'_>,
    console: &mut dyn Console,
) -> Result<Exit, ToolError> {
    let metadata = if header.force {
        Metadata::open(device, kind)
    } else {
        Metadata::open_clean(device, kind)
    }?;
    let Metadata { layout, superblock } = &metadata;
    let bytes = |sector: u64| sector * SECTOR_BYTES as u64;
    let DumpHeader { date, command, .. } = header;

    let mut text =
        format!("# DRBD meta data dump\n# {date}\n# {command}\n#\n\nversion \"v08\";\n\n");
    if superblock.needs_apply_al() {
        text.push_str(
            "This_is_an_unclean_meta_data_dump._Don't_trust_the_bitmap.\n\
             # You should \"apply-al\" first, if you plan to restore this.\n\n",
        );
    }
    text.push_str(&format!(
        "# md_size_sect {}\n# md_offset {}\n# al_offset {}\n# bm_offset {}\n\n",
        superblock.md_size_sectors,
        bytes(layout.superblock_sector),
        bytes(layout.al_sector),
        bytes(layout.bitmap_sector)
    ));
    let [current, bitmap, younger, older] = superblock.uuids;
    text.push_str(&format!(
        "uuid {{\n    0x{current:016X}; 0x{bitmap:016X}; 0x{younger:016X}; 0x{older:016X};\n    \
         flags 0x{:08X};\n}}\n",
        superblock.flags.bits()
    ));
    text.push_str(&format!("# al-extents {};\n", superblock.al_nr_extents));
    if superblock.la_size_sectors > layout.usable_sectors {
        text.push_str(&too_big(superblock.la_size_sectors, layout.usable_sectors));
    }
    text.push_str(&format!(
        "la-size-sect {};\nbm-byte-per-bit {};\ndevice-uuid 0x{:016X};\nla-peer-max-bio-size {};\n\
         al-stripes {};\nal-stripe-size-4k {};\n# bm-bytes {};\nbm {{\n",
        metadata.size_sectors(),
        superblock.bm_bytes_per_bit,
        superblock.device_uuid,
        superblock.la_peer_max_bio_size,
        layout.al.stripes,
        layout.al.stripe_size_4k,
        metadata.dumped_bitmap_bytes()
    ));
    console.out(&text);
    let set = dump_bitmap(device, &metadata, console)?;
    console.out(&format!("}}\n# bits-set {set};\n"));
    Ok(Exit::Ok)
}

pub(super) fn too_big(la_size_sectors: u64, usable_sectors: u64) -> String {
    format!("# la-size-sect was too big ({la_size_sectors}), truncated ({usable_sectors})!\n")
}

/// Returns how many bits are set.
fn dump_bitmap(
    device: &mut dyn Device,
    metadata: &Metadata,
    console: &mut dyn Console,
) -> Result<u64, DeviceError> {
    const CHUNK_SECTORS: u64 = 256;
    let sectors = metadata.dumped_bitmap_bytes() / SECTOR_BYTES as u64;
    let mut lines = Lines {
        console,
        next: 0,
        run: None,
    };
    let mut buffer = alloc::vec![0; CHUNK_SECTORS as usize * SECTOR_BYTES];
    let (mut sector, mut set) = (0, 0);
    while sector < sectors {
        let now = CHUNK_SECTORS.min(sectors - sector);
        let chunk = &mut buffer[..now as usize * SECTOR_BYTES];
        device.read_at(metadata.layout.bitmap_sector + sector, chunk)?;
        for line in chunk.as_chunks::<32>().0 {
            let words = core::array::from_fn(|i| {
                u64::from_le_bytes(core::array::from_fn(|byte| line[i * 8 + byte]))
            });
            set += words
                .iter()
                .map(|word| u64::from(word.count_ones()))
                .sum::<u64>();
            lines.push(words);
        }
        sector += now;
    }
    lines.flush();
    Ok(set)
}

/// Turns groups of four words into lines. Runs begin and end at such groups.
struct Lines<'a> {
    console: &'a mut dyn Console,
    /// The word the next line begins at.
    next: u64,
    /// A word and how often it came, a multiple of four.
    run: Option<(u64, u64)>,
}

impl Lines<'_> {
    fn push(&mut self, words: [u64; 4]) {
        let uniform = words.iter().all(|word| *word == words[0]);
        match &mut self.run {
            Some((word, len)) if uniform && *word == words[0] => *len += LINE_WORDS,
            _ => {
                self.flush();
                if uniform {
                    self.run = Some((words[0], LINE_WORDS));
                } else {
                    self.line(LINE_WORDS, &plain(words));
                }
            }
        }
    }

    fn flush(&mut self) {
        match self.run.take() {
            None => {}
            Some((word, len)) if len >= RUN_WORDS_MIN => {
                self.line(len, &format!("    {len} times 0x{word:016X};\n"));
            }
            Some((word, len)) => self.line(len, &plain([word; 4])),
        }
    }

    fn line(&mut self, words: u64, text: &str) {
        if self.next.is_multiple_of(COMMENT_WORDS) {
            self.console
                .out(&format!("   # at {}kB\n", self.next * WORD_KIB));
        }
        self.console.out(text);
        self.next += words;
    }
}

fn plain([a, b, c, d]: [u64; 4]) -> String {
    format!("    0x{a:016X}; 0x{b:016X}; 0x{c:016X}; 0x{d:016X};\n")
}
