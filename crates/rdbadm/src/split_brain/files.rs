//! Which files lie in the marked blocks, found out by the file system's own tools, which only read.
//!
//! A mounted one is walked, and `filefrag` asked where each file lies: ext4, xfs, and whatever else tells. The device or the snapshot
//! of one that is not mounted is looked at by `debugfs` (ext2 to ext4) or `xfs_db`. The offsets in the file system are those in the
//! volume's device and, as metadata lies behind the data, in the backing disk and its snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirEntry;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rdb_control::Blocks;
use rdb_control::split_brain::{FILES_MAX, FileEntry, Files, UnknownBlocks};

use super::mounts;
use crate::disk::{self, FileSystem};
use crate::threads;

/// Bytes of a marked block.
const BLOCK_BYTES: u64 = 4096;
/// Most marked blocks that are looked up one by one in a file system that is not mounted: 1 GiB.
const LOOKED_UP_MAX: u64 = 262_144;
/// Block numbers in one command of `debugfs`: each takes a walk over all inodes, and the command line has a bound.
const BATCH: usize = 4096;
/// Files in one call of `filefrag`: as many of the longest paths as a command line takes.
const WALK_BATCH: usize = 200;
/// Most files that are walked over.
const WALKED_MAX: usize = 2_000_000;
/// Inodes of ext4's own: below the first that a file can have, but for the root directory.
const EXT_FIRST_INODE: u64 = 11;
const EXT_ROOT_INODE: u64 = 2;

/// Whose blocks they are: for each owner, which of the marked blocks.
#[derive(Default)]
struct Owners {
    files: BTreeMap<String, Blocks>,
    metadata: Blocks,
    free: Blocks,
    unknown: Option<UnknownBlocks>,
}

/// The tools, and until when they may work.
pub(crate) struct Tools {
    /// No time is set if it is none.
    pub(crate) deadline: Option<Instant>,
}

/// Where the file system can be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is mounted there.
    Mounted(PathBuf),
    /// It lies there, and is not mounted.
    Device(PathBuf),
}

/// Where the files of a volume can be looked for: where somebody has said, or where one of its devices is mounted.
///
/// # Errors
/// There is no such place, in words.
pub(crate) fn place(given: Option<&Path>, devices: &[PathBuf]) -> Result<Place, String> {
    let mounts = std::fs::read("/proc/self/mountinfo").map_err(|e| format!("mountinfo: {e}"))?;
    let mounted = |device: &Path| {
        let found = std::fs::metadata(device).ok()?;
        let rdev = found.file_type().is_block_device().then(|| found.rdev())?;
        let (major, minor) = (libc::major(rdev), libc::minor(rdev));
        mounts::mount_of(&mounts, major.into(), minor.into())
    };
    if let Some(given) = given {
        let found = std::fs::metadata(given).map_err(|e| format!("{}: {e}", given.display()))?;
        let place = match mounted(given) {
            Some(point) => Place::Mounted(point),
            None if found.is_dir() => Place::Mounted(given.to_owned()),
            None => Place::Device(given.to_owned()),
        };
        return Ok(place);
    }
    let found = devices.iter().find_map(|device| mounted(device));
    found.map(Place::Mounted).ok_or_else(|| {
        "the volume is not mounted here; name a device or a snapshot of it: --files=PATH".to_owned()
    })
}

/// Finds out whose the marked blocks are. `both`: those that both nodes have written, if that is known.
///
/// # Errors
/// Why that is impossible, in words.
pub(crate) fn find(
    place: &Place,
    marked: &Blocks,
    both: Option<&Blocks>,
    tools: &Tools,
) -> Result<Files, String> {
    let (by, owners) = match place {
        Place::Mounted(point) => {
            let by = format!("filefrag, where it is mounted: {}", point.display());
            (by, walk(point, marked, tools)?)
        }
        Place::Device(device) => {
            let shown = device.display();
            match disk::file_system(device).map_err(|e| e.to_string())? {
                FileSystem::Ext => (
                    format!("debugfs of {shown}"),
                    by_debugfs(device, marked, tools)?,
                ),
                FileSystem::Xfs => (
                    format!("xfs_db of {shown}"),
                    by_xfs_db(device, marked, tools)?,
                ),
                FileSystem::Other(what) => {
                    return Err(format!(
                        "{shown}: it has {what}, and ext2 to ext4 and xfs are known"
                    ));
                }
            }
        }
    };
    Ok(report(by, owners, both))
}

fn report(by: String, owners: Owners, both: Option<&Blocks>) -> Files {
    let entry = |(path, blocks): (String, Blocks)| FileEntry {
        path,
        blocks: blocks.count(),
        both: both.map(|both| blocks.intersection(both).count()),
    };
    let mut entries: Vec<FileEntry> = owners.files.into_iter().map(entry).collect();
    entries.sort_by(|a, b| b.blocks.cmp(&a.blocks).then_with(|| a.path.cmp(&b.path)));
    let mut unknown = owners.unknown;
    if entries.len() > FILES_MAX {
        let left = entries.split_off(FILES_MAX);
        let blocks = left.iter().map(|entry| entry.blocks).sum();
        let reason = format!("{} more files are not named", left.len());
        add_unknown(&mut unknown, blocks, &reason);
    }
    Files {
        by,
        entries,
        metadata_blocks: owners.metadata.count(),
        free_blocks: owners.free.count(),
        unknown,
    }
}

fn add_unknown(unknown: &mut Option<UnknownBlocks>, blocks: u64, reason: &str) {
    let added = unknown.get_or_insert(UnknownBlocks {
        blocks: 0,
        reason: String::new(),
    });
    added.blocks += blocks;
    if !added.reason.is_empty() {
        added.reason.push_str("; ");
    }
    added.reason.push_str(reason);
}

impl Tools {
    /// What a tool prints that only reads, given `input`. What it says on standard error is part of the error if it fails.
    fn ask(
        &self,
        program: &str,
        arguments: &[&str],
        last: &[&Path],
        input: &str,
    ) -> Result<String, String> {
        let named = |error: &dyn std::fmt::Display| format!("{program}: {error}");
        let mut child = Command::new(program)
            .args(arguments)
            .args(last)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| named(&error))?;
        let read = |from: Option<Box<dyn Read + Send>>| {
            threads::start(move || {
                let mut bytes = Vec::new();
                // What comes before an error is what there is.
                let _ = from.map(|mut from| from.read_to_end(&mut bytes));
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let out = child.stdout.take().map(|out| Box::new(out) as Box<_>);
        let errors = child.stderr.take().map(|errors| Box::new(errors) as Box<_>);
        let (stdin, input) = (child.stdin.take(), input.to_owned());
        // One that does not read to the end says why.
        let write = || threads::start(move || stdin.map(|mut to| to.write_all(input.as_bytes())));
        let all = read(out).and_then(|out| Ok((out, read(errors)?, write()?)));
        let (out, errors, write) = match all {
            Ok(all) => all,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(named(&error));
            }
        };
        let status = loop {
            match child.try_wait().map_err(|error| named(&error))? {
                Some(status) => break status,
                None if self.is_late() => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(named(&"it did not end in time (cmd-timeout-long)"));
                }
                None => thread::sleep(POLL),
            }
        };
        let _ = write.join();
        let said = out.join().unwrap_or_default();
        if !status.success() && said.is_empty() {
            let errors = errors.join().unwrap_or_default();
            return Err(named(&errors.trim().lines().last().unwrap_or_default()));
        }
        Ok(said)
    }

    fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() > deadline)
    }
}

/// How often it is looked whether a tool has ended.
const POLL: Duration = Duration::from_millis(5);

/// The first marked blocks, as many as are looked up one by one; and how many more there are.
fn looked_up(marked: &Blocks) -> (Vec<u64>, u64) {
    let runs = marked.runs().iter();
    let blocks = runs.flat_map(|run| run.first..run.end());
    let first: Vec<u64> = blocks.take(LOOKED_UP_MAX as usize).collect();
    let left = marked.count() - first.len() as u64;
    (first, left)
}

fn unknown_beyond(left: u64) -> Option<UnknownBlocks> {
    (left > 0).then(|| UnknownBlocks {
        blocks: left,
        reason: format!("only the first {LOOKED_UP_MAX} marked blocks are looked up"),
    })
}

// ---- ext2 to ext4, not mounted -------------------------------------------------------------------------------------

fn by_debugfs(device: &Path, marked: &Blocks, tools: &Tools) -> Result<Owners, String> {
    let debugfs = |request: &str| tools.ask("debugfs", &["-R", request], &[device], "");
    let block_bytes = debugfs("stats -h")?
        .lines()
        .find_map(|line| line.strip_prefix("Block size:")?.trim().parse::<u64>().ok())
        .filter(|bytes| bytes.is_power_of_two() && (1024..=65_536).contains(bytes))
        .ok_or_else(|| {
            format!(
                "debugfs does not know the block size of {}",
                device.display()
            )
        })?;
    let (blocks, left) = looked_up(marked);
    let mut owners = Owners {
        unknown: unknown_beyond(left),
        ..Owners::default()
    };
    // Blocks of the file system, and which marked ones lie in each.
    let mut wanted: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for block in blocks {
        let first = block * BLOCK_BYTES / block_bytes;
        let last = ((block + 1) * BLOCK_BYTES - 1) / block_bytes;
        for number in first..=last {
            wanted.entry(number).or_default().push(block);
        }
    }
    let numbers: Vec<u64> = wanted.keys().copied().collect();
    let mut inodes: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut of_none = Vec::new();
    for batch in numbers.chunks(BATCH) {
        let words: Vec<String> = batch.iter().map(u64::to_string).collect();
        let said = debugfs(&format!("icheck {}", words.join(" ")))?;
        for (number, inode) in icheck(&said) {
            let Some(blocks) = wanted.get(&number) else {
                continue;
            };
            match inode {
                Some(inode) => inodes.entry(inode).or_default().extend(blocks),
                None => of_none.push(number),
            }
        }
    }
    let in_use = in_use(&of_none, debugfs)?;
    let (mut metadata, mut free) = (BTreeSet::new(), BTreeSet::new());
    for number in of_none {
        let blocks = wanted.get(&number).into_iter().flatten();
        match in_use.contains(&number) {
            true => metadata.extend(blocks),
            false => free.extend(blocks),
        }
    }
    let is_file = |inode: u64| inode >= EXT_FIRST_INODE || inode == EXT_ROOT_INODE;
    let (files, own): (BTreeMap<_, _>, BTreeMap<_, _>) =
        inodes.into_iter().partition(|(inode, _)| is_file(*inode));
    metadata.extend(own.into_values().flatten());
    // A block of several small ones counts as free only if all of them are.
    free.retain(|block| !metadata.contains(block) && files.values().all(|f| !f.contains(block)));
    (owners.metadata, owners.free) = (set(metadata), set(free));
    name_inodes(files, &mut owners, debugfs)?;
    Ok(owners)
}

fn set(blocks: BTreeSet<u64>) -> Blocks {
    let mut set = Blocks::default();
    blocks.into_iter().for_each(|block| set.push(block, 1));
    set
}

/// Blocks and their inodes, as `icheck` prints them.
fn icheck(said: &str) -> impl Iterator<Item = (u64, Option<u64>)> {
    said.lines().filter_map(|line| {
        let (block, inode) = line.split_once('\t')?;
        Some((block.trim().parse().ok()?, inode.trim().parse().ok()))
    })
}

/// Which of these blocks, which no inode has, are in use.
fn in_use(
    numbers: &[u64],
    debugfs: impl Fn(&str) -> Result<String, String>,
) -> Result<BTreeSet<u64>, String> {
    let mut runs = Blocks::default();
    numbers.iter().for_each(|number| runs.push(*number, 1));
    let mut used = BTreeSet::new();
    for run in runs.runs() {
        let said = debugfs(&format!("testb {} {}", run.first, run.len))?;
        used.extend(said.lines().filter_map(|line| {
            let number = line
                .strip_prefix("Block ")?
                .strip_suffix(" marked in use")?;
            number.parse::<u64>().ok()
        }));
    }
    Ok(used)
}

/// Gives the inodes their names.
fn name_inodes(
    files: BTreeMap<u64, BTreeSet<u64>>,
    owners: &mut Owners,
    debugfs: impl Fn(&str) -> Result<String, String>,
) -> Result<(), String> {
    let numbers: Vec<u64> = files.keys().copied().collect();
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    names.insert(EXT_ROOT_INODE, "/".to_owned());
    for batch in numbers.chunks(BATCH) {
        let words: Vec<String> = batch.iter().map(u64::to_string).collect();
        let said = debugfs(&format!("ncheck {}", words.join(" ")))?;
        for line in said.lines() {
            let Some((inode, path)) = line.split_once('\t') else {
                continue;
            };
            let Ok(inode) = inode.trim().parse() else {
                continue;
            };
            // (A file of several links has several lines.)
            let path = format!("/{}", path.trim_start_matches('/'));
            names.entry(inode).or_insert(path);
        }
    }
    for (inode, blocks) in files {
        let nameless = || format!("inode {inode}, which has no name");
        let name = names.get(&inode).cloned().unwrap_or_else(nameless);
        owners.files.insert(name, set(blocks));
    }
    Ok(())
}

// ---- xfs, not mounted ----------------------------------------------------------------------------------------------

fn by_xfs_db(device: &Path, marked: &Blocks, tools: &Tools) -> Result<Owners, String> {
    const SECTOR_BYTES: u64 = 512;
    let mut flags = vec!["-r"];
    if std::fs::metadata(device).is_ok_and(|found| found.is_file()) {
        flags.push("-f");
    }
    let (blocks, left) = looked_up(marked);
    let mut owners = Owners {
        unknown: unknown_beyond(left),
        ..Owners::default()
    };
    let mut commands = "blockget -n\n".to_owned();
    for block in &blocks {
        let sector = block * BLOCK_BYTES / SECTOR_BYTES;
        commands += &format!("daddr {sector}\nblockuse -n\n");
    }
    let said = tools.ask("xfs_db", &flags, &[device], &commands)?;
    let is_use = |line: &&str| line.starts_with("block ");
    let uses: Vec<&str> = said.lines().filter(is_use).collect();
    if uses.len() != blocks.len() {
        let text = "it does not say whose each block is; a file system with a log that is not clean has to be mounted once";
        return Err(format!("xfs_db of {}: {text}", device.display()));
    }
    // (The blocks come in ascending order.)
    for (block, line) in blocks.iter().zip(uses) {
        put_xfs_use(&mut owners, *block, line);
    }
    Ok(owners)
}

/// Puts a block where a line of `blockuse` says that it belongs: `block 24 (0/24) type data inode 131 sub/two`.
fn put_xfs_use(owners: &mut Owners, block: u64, line: &str) {
    let said = line.split_once(" type ").map_or("", |(_, said)| said);
    let kind = said.split(' ').next().unwrap_or_default();
    let of_inode = said.split_once(" inode ").map(|(_, rest)| rest);
    match (kind, of_inode) {
        ("free1" | "free2" | "free3" | "free4", _) => owners.free.push(block, 1),
        ("data" | "dir" | "rtdata" | "symlink", Some(rest)) => {
            let name = match rest.split_once(' ') {
                Some((_, path)) => format!("/{}", path.trim_start_matches('/')),
                None => format!("inode {rest}, which has no name"),
            };
            owners.files.entry(name).or_default().push(block, 1);
        }
        _ => owners.metadata.push(block, 1),
    }
}

// ---- mounted -------------------------------------------------------------------------------------------------------

/// Walks over all files of a mounted file system.
fn walk(point: &Path, marked: &Blocks, tools: &Tools) -> Result<Owners, String> {
    let about = std::fs::metadata(point).map_err(|e| format!("{}: {e}", point.display()))?;
    let mut owners = Owners::default();
    let (mut folders, mut files) = (vec![point.to_owned()], Vec::new());
    let (mut walked, mut seen) = (0, BTreeSet::new());
    let mut cut = None;
    while let Some(folder) = folders.pop() {
        if walked > WALKED_MAX {
            cut = Some(format!("only the first {WALKED_MAX} files were looked at"));
        } else if tools.is_late() {
            cut = Some("there was no time to look at all files".to_owned());
        }
        if cut.is_some() {
            break;
        }
        // (What goes meanwhile, or can not be read, is among what is not known in the end.)
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries {
            let Some((path, is_folder)) = of_interest(&entry, about.dev(), &mut seen) else {
                continue;
            };
            match is_folder {
                true => folders.push(path),
                false => files.push(path),
            }
            walked += 1;
        }
        while files.len() >= WALK_BATCH || (folders.is_empty() && !files.is_empty()) {
            let batch = files.split_off(files.len().saturating_sub(WALK_BATCH));
            ask_filefrag(point, &batch, marked, &mut owners, tools)?;
        }
    }
    let known = Blocks::union_of(owners.files.values());
    let left = marked.count() - known.count();
    if left > 0 {
        let usual = "no file has them now: they are the file system's own (journal, inodes, directories), or freed since";
        let reason = cut.as_deref().unwrap_or(usual);
        add_unknown(&mut owners.unknown, left, reason);
    }
    Ok(owners)
}

/// A folder or a file of the file system that was not met before, whatever its name.
fn of_interest(entry: &DirEntry, device: u64, seen: &mut BTreeSet<u64>) -> Option<(PathBuf, bool)> {
    // (Of the link itself, if it is one.)
    let about = entry.metadata().ok()?;
    if about.dev() != device {
        return None;
    }
    if about.is_dir() {
        return Some((entry.path(), true));
    }
    let is_new = about.nlink() == 1 || seen.insert(about.ino());
    (about.is_file() && is_new).then(|| (entry.path(), false))
}

fn ask_filefrag(
    point: &Path,
    batch: &[PathBuf],
    marked: &Blocks,
    owners: &mut Owners,
    tools: &Tools,
) -> Result<(), String> {
    // One whose name has an end of line in it would make lines of its own.
    let named: Vec<&Path> = batch
        .iter()
        .map(PathBuf::as_path)
        .filter(|path| !path.as_os_str().as_encoded_bytes().contains(&b'\n'))
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    let said = tools.ask("filefrag", &["-e", "-b512"], &named, "")?;
    let mut extents: BTreeMap<String, Vec<Blocks>> = BTreeMap::new();
    for (path, first, sectors) in filefrag(&said) {
        let start = first / 8;
        let end = (first + sectors).div_ceil(8);
        let mut extent = Blocks::default();
        extent.push(start, end - start);
        let hit = extent.intersection(marked);
        if !hit.is_empty() {
            extents.entry(path).or_default().push(hit);
        }
    }
    for (path, hits) in extents {
        let hit = Blocks::union_of(&hits);
        let inside = Path::new(&path)
            .strip_prefix(point)
            .unwrap_or(Path::new(&path));
        let shown = format!("/{}", inside.display());
        owners.files.insert(shown, hit);
    }
    Ok(())
}

/// Files and their extents in sectors, as `filefrag -e -b512` prints them: first sector and how many.
fn filefrag(said: &str) -> Vec<(String, u64, u64)> {
    let mut found = Vec::new();
    let mut path: Option<&str> = None;
    for line in said.lines() {
        if let Some(rest) = line.strip_prefix("File size of ") {
            path = rest.rfind(" is ").map(|end| &rest[..end]);
            continue;
        }
        let fields: Vec<&str> = line.split(':').collect();
        let (Some(path), [_, _, physical, length, rest @ ..]) = (path, fields.as_slice()) else {
            continue;
        };
        let first = physical
            .split("..")
            .next()
            .unwrap_or_default()
            .trim()
            .parse();
        let (Ok(first), Ok(sectors)) = (first, length.trim().parse()) else {
            continue;
        };
        // What is not on the disk yet has no place there.
        let has = |flag: &str| rest.iter().any(|field| field.contains(flag));
        if has("unknown_loc") || has("inline") || sectors == 0 {
            continue;
        }
        found.push((path.to_owned(), first, sectors));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_filefrag_prints_is_understood_whatever_a_file_is_called() {
        let said = "Filesystem type is: ef53\n\
            File size of /mnt/a is b is 20000 (40 blocks of 512 bytes)\n \
            ext:     logical_offset:        physical_offset: length:   expected: flags:\n   \
            0:        0..      23:      66304..     66327:     24:            \n   \
            1:       24..      39:      70000..     70015:     16:      66328: last,eof\n\
            /mnt/a is b: 2 extents found\n\
            File size of /mnt/new is 6 (8 block of 512 bytes)\n \
            ext:     logical_offset:        physical_offset: length:   expected: flags:\n   \
            0:        0..       7:          0..         0:      0:             last,unknown_loc,delalloc,eof\n\
            /mnt/new: 1 extent found\n";
        let path = "/mnt/a is b".to_owned();
        assert_eq!(
            filefrag(said),
            [(path.clone(), 66_304, 24), (path, 70_000, 16)]
        );
        assert_eq!(filefrag("0: 1: 2: 3: 4: 5\n"), []);
    }

    #[test]
    fn what_icheck_prints_is_understood() {
        let said = "Block\tInode number\n1\t<block not found>\n9000\t8\nnonsense\n";
        let found: Vec<_> = icheck(said).collect();
        assert_eq!(found, [(1, None), (9000, Some(8))]);
    }

    #[test]
    fn what_blockuse_prints_is_understood() {
        let mut owners = Owners::default();
        for (block, line) in [
            (1, "block 0 (0/0) type sb"),
            (2, "block 24 (0/24) type free2"),
            (3, "block 30 (0/30) type data inode 131 sub/two words"),
            (4, "block 31 (0/31) type data inode 132"),
            (5, "block 32 (0/32) type dir inode 14 sub"),
            (6, "block 33 (0/33) type log"),
            (7, "block 34"),
        ] {
            put_xfs_use(&mut owners, block, line);
        }
        let files: Vec<&str> = owners.files.keys().map(String::as_str).collect();
        assert_eq!(
            files,
            ["/sub", "/sub/two words", "inode 132, which has no name"]
        );
        assert_eq!(owners.metadata, set([1, 6, 7].into()));
        assert_eq!(owners.free, set([2].into()));
    }

    #[test]
    fn the_files_with_most_come_first_and_too_many_are_counted() {
        let mut owners = Owners::default();
        for number in 0..FILES_MAX as u64 + 3 {
            let blocks = if number == 7 {
                vec![1, 2, 3]
            } else {
                vec![100 + number]
            };
            let path = format!("/{number:06}");
            owners.files.insert(path, set(blocks.into_iter().collect()));
        }
        let both = Blocks::from_runs([(2, 2)]).expect("a set");
        let files = report("a test".to_owned(), owners, Some(&both));
        assert_eq!(files.entries.len(), FILES_MAX);
        assert_eq!(files.entries[0].path, "/000007");
        assert_eq!(
            (files.entries[0].blocks, files.entries[0].both),
            (3, Some(2))
        );
        let unknown = files.unknown.expect("some are not named");
        assert_eq!(unknown.blocks, 3);
        assert_eq!(unknown.reason, "3 more files are not named");
    }

    #[test]
    fn a_tool_that_fails_says_why_and_one_that_hangs_is_ended() {
        let tools = Tools { deadline: None };
        let said = tools.ask("cat", &[], &[], "a line\n");
        assert_eq!(said.as_deref(), Ok("a line\n"));
        let error = tools.ask("cat", &["/nonexistent"], &[], "");
        assert!(error.expect_err("it fails").contains("/nonexistent"));
        let error = tools.ask("no-such-tool", &[], &[], "");
        assert!(error.expect_err("it fails").starts_with("no-such-tool: "));
        let late = Tools {
            deadline: Some(Instant::now()),
        };
        let error = late.ask("sleep", &["1000"], &[], "");
        assert!(error.expect_err("it hangs").contains("in time"));
    }

    #[test]
    fn a_place_that_is_named_is_a_folder_or_a_device() {
        let dir = tempfile::tempdir().expect("a directory");
        let mounted = Place::Mounted(dir.path().to_owned());
        assert_eq!(place(Some(dir.path()), &[]), Ok(mounted));
        let image = dir.path().join("image");
        assert!(place(Some(&image), &[]).is_err());
        std::fs::write(&image, "").expect("written");
        assert_eq!(place(Some(&image), &[]), Ok(Place::Device(image.clone())));
        let error = place(None, &[image]).expect_err("nothing is mounted");
        assert!(error.contains("--files=PATH"), "{error}");
    }
}
