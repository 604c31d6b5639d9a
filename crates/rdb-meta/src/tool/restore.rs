//! `restore-md` and `verify-dump`: metadata from text (docs/spec/metadata.md, section 8.2).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::create_md::ask_about_content;
use super::dump::too_big;
use super::{
    Console, Exit, Metadata, Question, ToolError, bitmap_bytes, erase_superblock, zero_area,
};
use crate::activity_log::initialised_ring;
use crate::layout::{AL_BLOCKS_INTEROPERABLE_MAX, AL_BLOCKS_MIN, DEVICE_SECTORS_MAX};
use crate::superblock::BM_BYTES_PER_BIT;
use crate::{AlGeometry, Device, DeviceError, Layout, MdFlags, MetaKind, SECTOR_BYTES, Superblock};

/// Why a text is no dump we can restore.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Something else stands there.
    #[error("Parse error in line {line}: {expected} expected, found {found}")]
    Expected {
        /// Counted from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Not version 08.
    #[error("dump is '{found}' you requested 'v08'.")]
    Version {
        /// The dump's version.
        found: String,
    },
    /// A value that version 08 cannot have.
    #[error("Parse error in line {line}: {what} is {value}, {want}")]
    Range {
        /// Counted from 1.
        line: usize,
        /// The field.
        what: &'static str,
        /// Its value.
        value: i64,
        /// What it may be.
        want: &'static str,
    },
}

/// What a dump says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Current, bitmap, younger history, older history.
    pub uuids: [u64; 4],
    /// The superblock's flags. Old versions of `drbdmeta` dump 0.
    pub flags: MdFlags,
    /// The last agreed size in sectors.
    pub la_size_sectors: u64,
    /// The disk's name.
    pub device_uuid: u64,
    /// In bytes.
    pub la_peer_max_bio_size: u32,
    /// The shape of the activity log.
    pub al: AlGeometry,
    /// The bitmap: how often, and which word.
    pub bitmap: Vec<(u64, u64)>,
}

impl Dump {
    /// Reads a dump. What it takes in memory is in proportion to the text.
    ///
    /// # Errors
    /// The first thing that is not as it should be, with its line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut tokens = Tokens {
            rest: text,
            line: 1,
        };
        tokens.keyword("version", "keyword 'version'")?;
        let version = tokens.string()?;
        if version != "v08" {
            return Err(ParseError::Version {
                found: version.into(),
            });
        }
        tokens.punctuation(";")?;

        tokens.keyword("uuid", "keyword 'uuid'")?;
        tokens.punctuation("{")?;
        let mut uuids = [0; 4];
        for uuid in &mut uuids {
            *uuid = tokens.hex(16, "U64")?;
            tokens.punctuation(";")?;
        }
        tokens.keyword("flags", "keyword 'flags'")?;
        let flags = tokens.hex(8, "U32")? as u32;
        tokens.punctuation(";")?;
        tokens.punctuation("}")?;

        let la_size = tokens.field("la-size-sect", "keyword 'la-size-sect'", 0..=i64::MAX)?;
        let only = i64::from(BM_BYTES_PER_BIT);
        tokens.field("bm-byte-per-bit", "keyword 'bm-byte-per-bit'", only..=only)?;
        tokens.keyword("device-uuid", "keyword 'device-uuid'")?;
        let device_uuid = tokens.hex(16, "U64")?;
        tokens.punctuation(";")?;
        let word = 0..=i64::from(u32::MAX);
        let bio = tokens.field(
            "la-peer-max-bio-size",
            "keyword 'la-peer-max-bio-size'",
            word.clone(),
        )?;
        let stripes = tokens.field("al-stripes", "keyword 'al-stripes'", word.clone())?;
        let size = tokens.field("al-stripe-size-4k", "keyword 'al-stripe-size-4k'", word)?;

        tokens.keyword("bm", "keyword 'bm'")?;
        tokens.punctuation("{")?;
        let bitmap = tokens.bitmap()?;
        match tokens.next() {
            "" => {}
            found => return Err(tokens.expected("end of file", found)),
        }
        Ok(Self {
            uuids,
            flags: MdFlags::from_bits_retain(flags),
            la_size_sectors: la_size.cast_unsigned(),
            device_uuid,
            la_peer_max_bio_size: bio as u32,
            al: AlGeometry {
                stripes: stripes as u32,
                stripe_size_4k: size as u32,
            },
            bitmap,
        })
    }
}

/// Writes the metadata of a dump. `al` overrides the shape of its activity log: the only way to
/// change it offline.
///
/// The activity log is initialised too, though `drbdmeta` leaves it: else its old transactions would
/// be trusted at the next crash (trap T6). The order of writes is that of
/// [`create_md`](super::create_md()).
///
/// # Errors
/// A dump that cannot be read, a device that it does not fit, a device that fails.
pub fn restore_md(
    device: &mut dyn Device,
    kind: MetaKind,
    text: &str,
    al: Option<AlGeometry>,
    ignore_sanity_checks: bool,
    console: &mut dyn Console,
) -> Result<Exit, ToolError> {
    match Metadata::open(device, kind) {
        Ok(_) if !console.confirm(Question::Restore) => {
            console.out("Operation canceled.\n");
            return Ok(Exit::Failed);
        }
        Ok(_) | Err(ToolError::NoMetadata(_)) => {}
        Err(error) => return Err(error),
    }
    let dump = Dump::parse(text)?;
    if al.is_some() {
        console.err("override activity log striping from commandline\n");
    }
    let (layout, superblock) = place(&dump, device.size_sectors(), kind, al, console)?;
    console.err("reinitializing\n");
    if let Some(exit) = ask_about_content(device, &layout, ignore_sanity_checks, console)? {
        return Ok(exit);
    }
    erase_superblock(device, &layout)?;
    device.write_at(layout.al_sector, &initialised_ring(layout.al))?;
    write_bitmap(device, &layout, &dump.bitmap, console)?;
    Metadata { layout, superblock }.save(device)?;
    console.out("Successfully restored meta data\n");
    Ok(Exit::Ok)
}

/// Reads a dump as [`restore_md`] would, and writes nothing.
///
/// # Errors
/// As [`restore_md`].
pub fn verify_dump(
    device: &mut dyn Device,
    kind: MetaKind,
    text: &str,
    console: &mut dyn Console,
) -> Result<Exit, ToolError> {
    let dump = Dump::parse(text)?;
    place(&dump, device.size_sectors(), kind, None, console)?;
    console.out("input file parsed ok\n");
    Ok(Exit::Ok)
}

fn place(
    dump: &Dump,
    size: u64,
    kind: MetaKind,
    al: Option<AlGeometry>,
    console: &mut dyn Console,
) -> Result<(Layout, Superblock), ToolError> {
    let al = al.unwrap_or(dump.al);
    match al.blocks() {
        blocks if blocks < AL_BLOCKS_MIN => return Err(ToolError::AlTooSmall),
        blocks if blocks > AL_BLOCKS_INTEROPERABLE_MAX => return Err(ToolError::AlTooLarge),
        _ => {}
    }
    let data = if kind.is_internal() {
        size
    } else {
        DEVICE_SECTORS_MAX
    };
    let layout = Layout::compute(kind, data, size, al)?;
    let mut superblock = Superblock::new(&layout);
    superblock.uuids = dump.uuids;
    superblock.flags = dump.flags;
    superblock.device_uuid = dump.device_uuid;
    superblock.la_peer_max_bio_size = dump.la_peer_max_bio_size;
    superblock.la_size_sectors = dump.la_size_sectors.min(layout.usable_sectors);
    if dump.la_size_sectors > layout.usable_sectors {
        console.out(&too_big(dump.la_size_sectors, layout.usable_sectors));
    }
    Ok((layout, superblock))
}

fn write_bitmap(
    device: &mut dyn Device,
    layout: &Layout,
    runs: &[(u64, u64)],
    console: &mut dyn Console,
) -> Result<(), DeviceError> {
    const CHUNK_WORDS: usize = 32_768;
    zero_area(device, layout.bitmap_sector, layout.bitmap_sectors)?;
    // The area is whole words; a last, partial block of it is cut in whole sectors.
    let room = (layout.bitmap_sectors * SECTOR_BYTES as u64 / 8)
        .min(bitmap_bytes(layout.usable_sectors) / 8);
    let (mut at, mut chunk) = (0, Vec::with_capacity(CHUNK_WORDS * 8));
    let mut sector = layout.bitmap_sector;
    for &(times, word) in runs {
        if times > room - at {
            console.err("Bitmap info too large, truncated!\n");
        }
        let times = times.min(room - at);
        for _ in 0..times {
            chunk.extend_from_slice(&word.to_le_bytes());
            if chunk.len() == CHUNK_WORDS * 8 {
                device.write_at(sector, &chunk)?;
                sector += (chunk.len() / SECTOR_BYTES) as u64;
                chunk.clear();
            }
        }
        at += times;
        if at == room {
            break;
        }
    }
    chunk.resize(chunk.len().next_multiple_of(SECTOR_BYTES), 0);
    device.write_at(sector, &chunk)
}

/// Splits a dump into words, numbers, strings and punctuation; `#` begins a comment.
struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Tokens<'a> {
    /// The next token; empty at the end.
    fn next(&mut self) -> &'a str {
        loop {
            let trimmed = self.rest.trim_start();
            self.line += self.rest[..self.rest.len() - trimmed.len()]
                .matches('\n')
                .count();
            self.rest = trimmed;
            if !self.rest.starts_with('#') {
                break;
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
        let len = match self.rest.chars().next() {
            None => 0,
            Some('"') => {
                let inside = &self.rest[1..];
                inside.find(['"', '\n']).map_or(self.rest.len(), |end| {
                    if inside[end..].starts_with('"') {
                        end + 2
                    } else {
                        end + 1
                    }
                })
            }
            Some(';' | '{' | '}') => 1,
            Some(_) => self
                .rest
                .find(|c: char| c.is_whitespace() || ";{}\"#".contains(c))
                .unwrap_or(self.rest.len()),
        };
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        token
    }

    fn expected(&self, expected: &'static str, found: &str) -> ParseError {
        let found = match found {
            "" => "the end of the file".into(),
            found => format!("'{}'", found.chars().take(40).collect::<String>()),
        };
        ParseError::Expected {
            line: self.line,
            expected,
            found,
        }
    }

    fn keyword(&mut self, keyword: &str, expected: &'static str) -> Result<(), ParseError> {
        match self.next() {
            found if found == keyword => Ok(()),
            found => Err(self.expected(expected, found)),
        }
    }

    fn punctuation(&mut self, what: &'static str) -> Result<(), ParseError> {
        let expected = match what {
            ";" => "';'",
            "{" => "'{'",
            _ => "'}'",
        };
        self.keyword(what, expected)
    }

    fn string(&mut self) -> Result<&'a str, ParseError> {
        let token = self.next();
        token
            .strip_prefix('"')
            .and_then(|token| token.strip_suffix('"'))
            .filter(|text| (1..=20).contains(&text.len()))
            .ok_or_else(|| self.expected("string", token))
    }

    fn hex(&mut self, digits: usize, expected: &'static str) -> Result<u64, ParseError> {
        let token = self.next();
        parse_hex(token, digits).ok_or_else(|| self.expected(expected, token))
    }

    fn field(
        &mut self,
        name: &'static str,
        expected: &'static str,
        range: core::ops::RangeInclusive<i64>,
    ) -> Result<i64, ParseError> {
        self.keyword(name, expected)?;
        let token = self.next();
        let value = parse_number(token).ok_or_else(|| self.expected("number", token))?;
        if !range.contains(&value) {
            let want = match name {
                "bm-byte-per-bit" => "version 08 has 4096",
                _ => "which is out of range",
            };
            return Err(ParseError::Range {
                line: self.line,
                what: name,
                value,
                want,
            });
        }
        self.punctuation(";")?;
        Ok(value)
    }

    fn bitmap(&mut self) -> Result<Vec<(u64, u64)>, ParseError> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        loop {
            let token = self.next();
            let (times, word) = if token == "}" {
                return Ok(runs);
            } else if let Some(word) = parse_hex(token, 16) {
                (1, word)
            } else if let Some(times @ 0..) = parse_number(token) {
                self.keyword("times", "keyword 'times'")?;
                (times.cast_unsigned(), self.hex(16, "U64")?)
            } else {
                return Err(self.expected("U64 or number or '}'", token));
            };
            self.punctuation(";")?;
            match runs.last_mut() {
                Some((before, last)) if *last == word => *before = before.saturating_add(times),
                _ => runs.push((times, word)),
            }
        }
    }
}

fn parse_hex(token: &str, digits: usize) -> Option<u64> {
    let hex = token.strip_prefix("0x")?;
    let right = hex.len() == digits && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if right {
        u64::from_str_radix(hex, 16).ok()
    } else {
        None
    }
}

fn parse_number(token: &str) -> Option<i64> {
    let digits = token.strip_prefix('-').unwrap_or(token);
    let right =
        (1..=19).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if right { token.parse().ok() } else { None }
}
