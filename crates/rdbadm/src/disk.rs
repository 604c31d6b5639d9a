//! The metadata of a disk, worked on offline: `rdbmeta`'s commands over files and block devices.

use std::fmt::Display;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, IsTerminal, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdb_control::{MarkedBlocks, MarkedCollector, MetaDisk};
use rdb_meta::layout::KERNEL_META_SECTORS_MIN;
use rdb_meta::tool::{
    self, BitmapInit, CONFIRM_FORCED, CONFIRM_PROMPT, Console, Content, CreateOptions, DumpHeader,
    Exit, Marks, Metadata, Question, ToolError,
};
use rdb_meta::{AlGeometry, Device, DeviceError, MetaKind, SECTOR_BYTES};

use crate::step::{MetaCommand, MetaStep};
use crate::{gi_json, out};

/// How long a disk that is in use is tried again, and how often. A daemon that was killed is gone before its disks are free:
/// the kernel first ends what `io_uring` had under way.
const IN_USE_WAIT: Duration = Duration::from_secs(3);
const IN_USE_POLL: Duration = Duration::from_millis(20);

/// Why a disk cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("open({}) failed: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is in use: {reason}", path.display())]
    InUse { path: PathBuf, reason: &'static str },
    #[error("'{}' is neither a block device nor a file!", path.display())]
    Kind { path: PathBuf },
    #[error("can not read {}: {source}", path.display())]
    Dump { path: PathBuf, source: io::Error },
    #[error("no random numbers for the device uuid: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Tool(#[from] ToolError),
}

impl DiskError {
    /// The exit status (`docs/spec/admin.md`, section 4.11).
    fn exit_code(&self) -> u8 {
        match self {
            DiskError::Tool(error) => error.exit().code(),
            _ => 20,
        }
    }
}

/// Does one command and prints what there is to say; the exit status is the result.
///
/// `shown` is the command line for the head of a dump, `advice` what to do if there is no metadata.
pub(crate) fn run(step: &MetaStep, shown: &str, advice: impl FnOnce() -> Option<String>) -> u8 {
    match try_run(step, shown) {
        Ok(exit) => exit.code(),
        Err(error) => {
            out::error(&error.to_string());
            if matches!(error, DiskError::Tool(ToolError::NoMetadata(_)))
                && let Some(advice) = advice()
            {
                out::error(&advice);
            }
            error.exit_code()
        }
    }
}

fn try_run(step: &MetaStep, shown: &str) -> Result<Exit, DiskError> {
    let (path, kind) = match &step.meta {
        MetaDisk::Internal => (&step.data, MetaKind::Internal),
        MetaDisk::Flexible(path) => (path, MetaKind::FlexibleExternal),
        MetaDisk::Indexed(path, index) => (path, MetaKind::Indexed(*index)),
    };
    let writes = step.command.writes();
    // Slots of one metadata device belong to several volumes, some of which may be attached.
    let shared = matches!(kind, MetaKind::Indexed(_));
    let mut device = FileDevice::open_once_free(path, writes, shared)?;
    let mut console = Terminal { force: false };
    let exit = match step.command {
        MetaCommand::CreateMd { force } => {
            console.force = force;
            create_md(&mut device, kind, path, &mut console)?
        }
        MetaCommand::WipeMd { force } => {
            console.force = force;
            tool::wipe_md(&mut device, kind, &mut console)?
        }
        MetaCommand::ApplyAl => tool::apply_al(&mut device, kind, &mut console)?,
        MetaCommand::Outdate => tool::outdate(&mut device, kind, &mut console)?,
        MetaCommand::Invalidate => tool::invalidate(&mut device, kind)?,
        MetaCommand::SetGi { force } => {
            console.force = force;
            let identifiers = step.operand.as_deref().unwrap_or_default();
            tool::set_gi(&mut device, kind, identifiers, &mut console)?
        }
        MetaCommand::RestoreMd { force } => {
            console.force = force;
            let text = dump_text(step)?;
            tool::restore_md(&mut device, kind, &text, None, false, &mut console)?
        }
        MetaCommand::VerifyDump => {
            tool::verify_dump(&mut device, kind, &dump_text(step)?, &mut console)?
        }
        MetaCommand::DumpMd => {
            let command = format!("{}> {shown}", host_name());
            let header = DumpHeader {
                date: &date(SystemTime::now()),
                command: &command,
                force: false,
            };
            tool::dump_md(&mut device, kind, &header, &mut console)?
        }
        MetaCommand::GetGi => {
            let metadata = Metadata::open(&mut device, kind)?;
            console.out(&format!("{}\n", tool::get_gi(&metadata.superblock)));
            Exit::Ok
        }
        MetaCommand::ShowGi => {
            let metadata = Metadata::open(&mut device, kind)?;
            console.out(&tool::show_gi(&metadata.superblock));
            Exit::Ok
        }
        MetaCommand::GiJson => {
            let metadata = Metadata::open(&mut device, kind)?;
            console.out(&gi_json::line(step.minor, &metadata.superblock));
            Exit::Ok
        }
        MetaCommand::Dstate => {
            let metadata = Metadata::open(&mut device, kind)?;
            console.out(&format!("{}\n", tool::dstate(&metadata.superblock)));
            Exit::Ok
        }
    };
    Ok(exit)
}

/// The text of a dump; `-` is standard input.
fn dump_text(step: &MetaStep) -> Result<String, DiskError> {
    let path = PathBuf::from(step.operand.as_deref().unwrap_or_default());
    let read = match path.as_os_str() == "-" {
        true => io::read_to_string(io::stdin()),
        false => std::fs::read_to_string(&path),
    };
    read.map_err(|source| DiskError::Dump { path, source })
}

/// What is marked on a disk that nobody has attached, and what else its metadata says. Nobody can attach it meanwhile.
pub(crate) fn marks(data: &Path, meta: &MetaDisk) -> Result<(Marks, MarkedBlocks), DiskError> {
    let mut collector = MarkedCollector::default();
    let mut read = |device: &mut FileDevice, kind| {
        tool::read_marks(device, kind, &mut |first, word| collector.word(first, word))
    };
    let mut data = FileDevice::open_alone(data)?;
    let marks = match meta {
        MetaDisk::Internal => read(&mut data, MetaKind::Internal)?,
        MetaDisk::Flexible(path) => read(
            &mut FileDevice::open_alone(path)?,
            MetaKind::FlexibleExternal,
        )?,
        // Other slots may be in use; that of an attached disk is told by its data device.
        MetaDisk::Indexed(path, index) => {
            let mut device = FileDevice::open(path, false, Claim::Shared)?;
            read(&mut device, MetaKind::Indexed(*index))?
        }
    };
    Ok((marks, collector.finish()))
}

/// A file system that a disk may have, as far as its files can be found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// ext2, ext3 or ext4.
    Ext,
    /// xfs.
    Xfs,
    /// Something else, in words.
    Other(String),
}

/// What file system there is on a device, which may be in use.
pub(crate) fn file_system(path: &Path) -> Result<FileSystem, DiskError> {
    let mut device = FileDevice::open(path, false, Claim::Shared)?;
    let content = Content::probe(&mut device).map_err(ToolError::from)?;
    Ok(match content {
        Content::FileSystem { name, .. } if name.starts_with("ext") => FileSystem::Ext,
        Content::FileSystem { name: "xfs", .. } => FileSystem::Xfs,
        Content::FileSystem { name, .. } => FileSystem::Other(name.to_owned()),
        Content::LvmPhysicalVolume => FileSystem::Other("a physical volume of LVM".to_owned()),
        Content::Swap => FileSystem::Other("swap space".to_owned()),
        Content::Nothing | Content::SomeData => FileSystem::Other("no file system".to_owned()),
    })
}

/// New metadata, with a random name for the disk if it has none.
fn create_md(
    device: &mut FileDevice,
    kind: MetaKind,
    path: &Path,
    console: &mut Terminal,
) -> Result<Exit, DiskError> {
    let name = path.display().to_string();
    let options = CreateOptions {
        device: &name,
        al: AlGeometry::DEFAULT,
        peer_max_bio_size: 0,
        bitmap: BitmapInit::Zero,
        ignore_sanity_checks: false,
        dry_run: false,
        last_known: None,
    };
    let exit = tool::create_md(device, kind, &options, console)?;
    if exit == Exit::Ok && Metadata::open(device, kind)?.superblock.device_uuid == 0 {
        let uuid = getrandom::u64().map_err(DiskError::Random)?;
        tool::write_dev_uuid(device, kind, &format!("{uuid:016X}"))?;
    }
    Ok(exit)
}

/// Why a disk cannot be attached, as far as that can be told without attaching it; an attach looks at the same.
///
/// `device_sectors` is what the users of the volume have now, `is_held` whether the daemon has the path in use for what is given
/// up, or shares it with other volumes: nobody else can have it then, and it cannot be claimed once more.
pub(crate) fn attachable(
    data: &Path,
    meta: &MetaDisk,
    size_sectors: u64,
    device_sectors: u64,
    is_held: impl Fn(&Path) -> bool,
) -> Result<(), NotAttachable> {
    let open = |path: &Path| {
        FileDevice::open_once_free(path, true, is_held(path)).map_err(|error| error.to_string())
    };
    let mut data_device = open(data)?;
    let data_sectors = data_device.size_sectors;
    let (kind, path) = match meta {
        MetaDisk::Internal => (MetaKind::Internal, data),
        MetaDisk::Flexible(path) => (MetaKind::FlexibleExternal, path.as_path()),
        MetaDisk::Indexed(path, index) => (MetaKind::Indexed(*index), path.as_path()),
    };
    let mut meta_device = None;
    if kind != MetaKind::Internal {
        if identity(path) == identity(data) {
            return Err(format!("{} is the data device itself", path.display()).into());
        }
        meta_device = Some(open(path)?);
    }
    let device = meta_device.as_mut().unwrap_or(&mut data_device);
    let sectors = device.size_sectors;
    let named = |error: &dyn Display| format!("{}: {error}", path.display());
    // The activity log is applied before the attach; that wants the metadata in its place, and does not know the data's size.
    let metadata = Metadata::open(device, kind).map_err(|error| match &error {
        ToolError::NoMetadata(why) => NotAttachable {
            why: named(&format!("no valid metadata: {why}")),
            has_metadata: false,
        },
        other => named(other).into(),
    })?;
    let layout = metadata.superblock.check(kind, data_sectors, sectors);
    let usable = layout.map_err(|error| named(&error))?.usable_sectors;
    if sectors < KERNEL_META_SECTORS_MIN {
        let text = format!("it has {sectors} sectors, {KERNEL_META_SECTORS_MIN} are needed");
        return Err(named(&text).into());
    }
    let needed = device_sectors.max(size_sectors);
    if usable < needed {
        return Err(format!(
            "{} is too small: the device has {needed} sectors, the disk has room for {usable}",
            data.display()
        )
        .into());
    }
    Ok(())
}

/// Why a disk can not be attached.
#[derive(Debug)]
pub(crate) struct NotAttachable {
    /// In words.
    pub(crate) why: String,
    /// False: it is there, and has no metadata, as a new disk.
    pub(crate) has_metadata: bool,
}

impl From<String> for NotAttachable {
    fn from(why: String) -> NotAttachable {
        NotAttachable {
            why,
            has_metadata: true,
        }
    }
}

/// Which file or device a path means, whatever name it has; `None` if there is none.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some(match found.file_type().is_block_device() {
        true => (found.rdev(), 0),
        false => (found.dev(), found.ino()),
    })
}

/// Whether others may have it meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Alone,
    Shared,
}

/// A block device or a plain file.
struct FileDevice {
    file: File,
    path: PathBuf,
    size_sectors: u64,
}

impl FileDevice {
    /// Opens it; if it is in use, again and again for a while.
    fn open_once_free(path: &Path, write: bool, shared: bool) -> Result<FileDevice, DiskError> {
        let claim = match write && !shared {
            true => Claim::Alone,
            false => Claim::Shared,
        };
        FileDevice::open_patiently(path, write, claim)
    }

    /// To be read, while nobody else has it, as a daemon has an attached disk.
    fn open_alone(path: &Path) -> Result<FileDevice, DiskError> {
        FileDevice::open_patiently(path, false, Claim::Alone)
    }

    fn open_patiently(path: &Path, write: bool, claim: Claim) -> Result<FileDevice, DiskError> {
        let begun = Instant::now();
        loop {
            match FileDevice::open(path, write, claim) {
                Err(DiskError::InUse { .. }) if begun.elapsed() < IN_USE_WAIT => {
                    std::thread::sleep(IN_USE_POLL);
                }
                done => return done,
            }
        }
    }

    fn open(path: &Path, write: bool, claim: Claim) -> Result<FileDevice, DiskError> {
        let failed = |source| DiskError::Open {
            path: path.to_owned(),
            source,
        };
        // Opening a FIFO would wait for its other end: look first.
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err(DiskError::Kind {
                path: path.to_owned(),
            });
        }
        let alone = claim == Claim::Alone;
        let claim = if kind.is_block_device() && alone {
            libc::O_EXCL
        } else {
            0
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(claim)
            .open(path)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EBUSY) => DiskError::InUse {
                    path: path.to_owned(),
                    reason: "it is mounted or attached",
                },
                _ => failed(source),
            })?;
        if alone && kind.is_file() {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(DiskError::InUse {
                        path: path.to_owned(),
                        reason: "another program has locked it",
                    });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(FileDevice {
            file,
            path: path.to_owned(),
            size_sectors: bytes / SECTOR_BYTES as u64,
        })
    }

    fn error(&self, doing: &str, sector: u64, source: &io::Error) -> DeviceError {
        DeviceError(format!(
            "{doing} {} at sector {sector}: {source}",
            self.path.display()
        ))
    }
}

impl Device for FileDevice {
    fn size_sectors(&self) -> u64 {
        self.size_sectors
    }

    fn read_at(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        self.file
            .read_exact_at(buffer, sector * SECTOR_BYTES as u64)
            .map_err(|source| self.error("reading", sector, &source))
    }

    fn write_at(&mut self, sector: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        // A plain file would grow, silently.
        let end = sector.saturating_add(bytes.len().div_ceil(SECTOR_BYTES) as u64);
        if end > self.size_sectors {
            return Err(self.error(
                "writing",
                sector,
                &io::Error::other("that is beyond its end"),
            ));
        }
        self.file
            .write_all_at(bytes, sector * SECTOR_BYTES as u64)
            .map_err(|source| self.error("writing", sector, &source))
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.file
            .sync_data()
            .map_err(|source| self.error("flushing", 0, &source))
    }
}

/// The user.
struct Terminal {
    force: bool,
}

impl Console for Terminal {
    fn out(&mut self, text: &str) {
        out::print(text);
    }

    fn err(&mut self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Reads the answer from standard input, which may be a pipe: `yes | rdbadm create-md r0` is in many scripts.
    fn confirm(&mut self, question: Question) -> bool {
        out::print(&format!("{question}\n{CONFIRM_PROMPT}"));
        if self.force {
            out::line(CONFIRM_FORCED);
            return true;
        }
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        if !io::stdin().is_terminal() {
            out::print("\n");
        }
        read.is_ok() && answer.trim() == "yes"
    }
}

fn host_name() -> String {
    crate::node_name().unwrap_or_else(|| "localhost".to_owned())
}

/// As in `2026-01-01 00:00:00 +0000 [1767225600]`, in UTC.
fn date(now: SystemTime) -> String {
    let unix = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Civil date from days since 1970: eras of 400 years, each beginning on a first of March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second % 3600 / 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 [{unix}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        for (unix, text) in [
            (0, "1970-01-01 00:00:00 +0000 [0]"),
            (951_782_399, "2000-02-28 23:59:59 +0000 [951782399]"),
            (951_782_400, "2000-02-29 00:00:00 +0000 [951782400]"),
            (1_767_225_600, "2026-01-01 00:00:00 +0000 [1767225600]"),
            (1_795_225_642, "2026-11-21 01:47:22 +0000 [1795225642]"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(unix)), text);
        }
    }
}
