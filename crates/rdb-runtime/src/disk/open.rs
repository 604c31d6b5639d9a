//! Opening and measuring disks. Blocking: done on helper threads, never on the loop.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdb_engine::{AdminError, DiskInfo};
use rdb_meta::MetaKind;

use super::left::{Identity, LeftDisk, is_left};
use crate::api::MetaLocation;

/// `Can not open backing device.` and its kin: `docs/spec/admin.md`, section 4.3.
pub(crate) const ERR_OPEN_DISK: u16 = 104;
const ERR_OPEN_MD_DISK: u16 = 105;
const ERR_MD_IDX_INVALID: u16 = 116;

/// `BLKSSZGET` and `BLKGETSIZE64` of `linux/fs.h`.
const BLKSSZGET: libc::Ioctl = 0x1268;
const BLKGETSIZE64: libc::Ioctl = 0x8008_1272_u32 as libc::Ioctl;

/// How long a disk that is in use is tried again, and how often. A daemon that was killed is gone before its disks are free:
/// the kernel first ends what `io_uring` had under way.
const IN_USE_WAIT: Duration = Duration::from_secs(3);
const IN_USE_POLL: Duration = Duration::from_millis(20);

/// Why a disk is in use that nobody else uses.
const LEFT: &str = "it does not answer: what it was asked for before the resource ended has not ended yet, and it is in use until then";

/// Metadata devices that are open in this process: an indexed one serves several volumes.
static SHARED: Mutex<Option<HashMap<Identity, Weak<OpenFile>>>> = Mutex::new(None);

/// A disk that is open and ours alone.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    /// Smallest unit of direct I/O in bytes, 512 or 4096; 512 if I/O goes through the page cache.
    pub(crate) block_bytes: u32,
    /// I/O goes to the disk itself, not through the page cache.
    pub(crate) direct: bool,
    pub(crate) capacity_sectors: u64,
    pub(crate) can_discard: bool,
    identity: Identity,
}

impl OpenFile {
    /// Says that I/O holds it, for as long as the answer lives.
    pub(crate) fn leave(&self) -> LeftDisk {
        LeftDisk::new(self.identity)
    }
}

#[cfg(test)]
impl OpenFile {
    /// Something that is no disk, for I/O that ends when the test wants it to.
    pub(crate) fn of(file: File) -> OpenFile {
        OpenFile {
            block_bytes: 512,
            direct: false,
            capacity_sectors: 8,
            can_discard: false,
            identity: Identity::of(&file.metadata().expect("an open file has some")),
            file,
        }
    }
}

/// What an attach needs.
#[derive(Debug)]
pub(crate) struct OpenedDisk {
    pub(crate) data: Arc<OpenFile>,
    /// The same as `data` if internal.
    pub(crate) meta: Arc<OpenFile>,
    pub(crate) info: DiskInfo,
}

/// Opens and measures a volume's disks. Refusals carry DRBD's numbers.
pub(crate) fn open_disks(data: &Path, meta: &MetaLocation) -> Result<OpenedDisk, AdminError> {
    let data = once_free(data, open)
        .map(Arc::new)
        .map_err(|error| refuse(ERR_OPEN_DISK, data, &error))?;
    let (kind, meta) = match meta {
        MetaLocation::Internal => (MetaKind::Internal, Arc::clone(&data)),
        MetaLocation::Flexible(path) => {
            distinct(&data, path)?;
            let file =
                once_free(path, open).map_err(|error| refuse(ERR_OPEN_MD_DISK, path, &error))?;
            (MetaKind::FlexibleExternal, Arc::new(file))
        }
        MetaLocation::Indexed(path, index) => {
            if *index > MetaKind::INDEX_MAX {
                let info = format!("index {index} of {}", path.display());
                return Err(AdminError::refused(ERR_MD_IDX_INVALID, info));
            }
            distinct(&data, path)?;
            let file = once_free(path, open_shared)
                .map_err(|error| refuse(ERR_OPEN_MD_DISK, path, &error))?;
            (MetaKind::Indexed(*index), file)
        }
    };
    let info = DiskInfo {
        kind,
        data_capacity_sectors: data.capacity_sectors,
        meta_capacity_sectors: meta.capacity_sectors,
        logical_block_bytes: data.block_bytes,
        can_discard: data.can_discard,
    };
    Ok(OpenedDisk { data, meta, info })
}

/// Opens again and again what is in use, for a while.
fn once_free<T>(path: &Path, open: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if begun.elapsed() < IN_USE_WAIT {
                    std::thread::sleep(IN_USE_POLL);
                } else if is_left(path) {
                    return Err(io::Error::new(error.kind(), LEFT));
                } else {
                    return Err(error);
                }
            }
            done => return done,
        }
    }
}

/// The data device cannot also be the external metadata device.
fn distinct(data: &OpenFile, meta: &Path) -> Result<(), AdminError> {
    let identity = std::fs::metadata(meta)
        .map(|found| Identity::of(&found))
        .map_err(|error| refuse(ERR_OPEN_MD_DISK, meta, &error))?;
    if identity == data.identity {
        let info = format!("{} is the data device itself", meta.display());
        return Err(AdminError::refused(ERR_MD_IDX_INVALID, info));
    }
    Ok(())
}

fn refuse(code: u16, path: &Path, error: &io::Error) -> AdminError {
    AdminError::refused(
        code,
        format!("open(\"{}\") failed: {error}", path.display()),
    )
}

/// An indexed metadata device, which other volumes of this process may have open.
fn open_shared(path: &Path) -> io::Result<Arc<OpenFile>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = shared.get_or_insert_with(HashMap::new);
    shared.retain(|_, file| file.strong_count() > 0);
    let identity = Identity::of(&std::fs::metadata(path)?);
    if let Some(file) = shared.get(&identity).and_then(Weak::upgrade) {
        // A write of a resource that has ended may be to the very slot that is asked for.
        if is_left(path) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        return Ok(file);
    }
    let file = Arc::new(open(path)?);
    shared.insert(file.identity, Arc::downgrade(&file));
    Ok(file)
}

fn open(path: &Path) -> io::Result<OpenFile> {
    // Opening a FIFO or a tape has effects of its own; look first, and again at what was opened.
    check_kind(&std::fs::metadata(path)?)?;
    let with = |flags: libc::c_int| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags | libc::O_CLOEXEC)
            .open(path)
    };
    let block = std::fs::metadata(path)?.file_type().is_block_device();
    // O_EXCL on a block device: nobody else has it mounted or claimed, and nobody can from now on.
    let claim = if block { libc::O_EXCL } else { 0 };
    let (mut file, mut direct) = match with(claim | libc::O_DIRECT) {
        Ok(file) => (file, true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (with(claim)?, false),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    check_kind(&metadata)?;
    if metadata.file_type().is_block_device() != block {
        return Err(io::Error::other(
            "it was replaced while it was being opened",
        ));
    }
    if !block {
        lock(&file)?;
    }
    let block_bytes = match direct_block_bytes(&file, block)? {
        Some(bytes @ (512 | 4096)) => bytes,
        Some(bytes) if bytes < 512 => 512,
        Some(bytes) => {
            return Err(io::Error::other(format!(
                "its logical blocks have {bytes} bytes; 512 and 4096 are supported"
            )));
        }
        None => {
            if direct && !block {
                // The flag was taken, but the file system has no direct I/O.
                let buffered = with(0)?;
                if Identity::of(&buffered.metadata()?) != Identity::of(&metadata) {
                    return Err(io::Error::other(
                        "it was replaced while it was being opened",
                    ));
                }
                drop(file);
                lock(&buffered)?;
                file = buffered;
                direct = false;
            }
            512
        }
    };
    let bytes = if block {
        block_device_bytes(&file)?
    } else {
        metadata.len()
    };
    let can_discard = can_discard(&file, &metadata, block);
    Ok(OpenFile {
        block_bytes: if direct { block_bytes } else { 512 },
        direct,
        capacity_sectors: bytes / 512,
        can_discard,
        identity: Identity::of(&metadata),
        file,
    })
}

fn check_kind(metadata: &std::fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_block_device() || kind.is_file() {
        Ok(())
    } else {
        Err(io::Error::other("it is neither a block device nor a file"))
    }
}

/// Keeps a second daemon away from a plain file.
fn lock(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open while `file` is borrowed.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EWOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "it is in use: somebody holds a lock on it",
        )),
        _ => Err(error),
    }
}

/// The unit of direct I/O, `None` if there is no direct I/O.
fn direct_block_bytes(file: &File, block: bool) -> io::Result<Option<u32>> {
    if block {
        let mut bytes: libc::c_int = 0;
        // SAFETY: BLKSSZGET stores an int at the address given.
        if unsafe { libc::ioctl(file.as_raw_fd(), BLKSSZGET, &raw mut bytes) } != 0 {
            return Err(io::Error::last_os_error());
        }
        return Ok(Some(bytes.unsigned_abs()));
    }
    // SAFETY: a buffer of zeroes is a valid statx.
    let mut stat = unsafe { std::mem::zeroed::<libc::statx>() };
    // SAFETY: the path is an empty C string (the descriptor itself is meant), `stat` takes the answer.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &raw mut stat,
        )
    };
    if result == 0 && stat.stx_mask & libc::STATX_DIOALIGN != 0 {
        let bytes = stat.stx_dio_offset_align;
        return Ok((bytes > 0).then_some(bytes));
    }
    // A kernel before 6.1, or a file system that does not say: try.
    Ok([512_u32, 4096].into_iter().find(|&bytes| {
        let mut probe = crate::pool::Aligned::zeroed(bytes as usize);
        // SAFETY: `probe` has room for `bytes` and lives during the call.
        let result = unsafe {
            libc::pread(
                file.as_raw_fd(),
                probe.as_mut_slice().as_mut_ptr().cast(),
                bytes as usize,
                i64::from(bytes),
            )
        };
        result >= 0
    }))
}

fn block_device_bytes(file: &File) -> io::Result<u64> {
    let mut bytes = 0_u64;
    // SAFETY: BLKGETSIZE64 stores 64 bits at the address given.
    if unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut bytes) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(bytes)
}

/// Whether space can be given back: asked of the queue of a block device, tried behind the end of a file.
fn can_discard(file: &File, metadata: &std::fs::Metadata, block: bool) -> bool {
    if !block {
        let end = i64::try_from(metadata.len().next_multiple_of(4096)).unwrap_or(i64::MAX - 4096);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is open; the range lies behind the end, so no content changes.
        return unsafe { libc::fallocate(file.as_raw_fd(), mode, end, 4096) } == 0;
    }
    let device = format!(
        "/sys/dev/block/{}:{}",
        libc::major(metadata.rdev()),
        libc::minor(metadata.rdev())
    );
    // A partition has the queue of its disk.
    ["queue", "../queue"].iter().any(|queue| {
        std::fs::read_to_string(format!("{device}/{queue}/discard_max_bytes"))
            .is_ok_and(|bytes| bytes.trim().parse::<u64>().is_ok_and(|bytes| bytes > 0))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn file(dir: &tempfile::TempDir, name: &str, bytes: u64) -> PathBuf {
        let path = dir.path().join(name);
        File::create(&path)
            .and_then(|file| file.set_len(bytes))
            .expect("a temporary file");
        path
    }

    fn code(result: Result<OpenedDisk, AdminError>) -> (u16, String) {
        match result {
            Err(AdminError::Refused { code, info }) => (code, info),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn a_file_is_measured_and_kept_from_a_second_user() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = file(&dir, "data", (1 << 20) + 700);
        let disk = open_disks(&data, &MetaLocation::Internal).expect("opens");
        assert_eq!(disk.info.data_capacity_sectors, 2049);
        assert_eq!(disk.info.kind, MetaKind::Internal);
        assert!(matches!(disk.info.logical_block_bytes, 512 | 4096));
        let (number, info) = code(open_disks(&data, &MetaLocation::Internal));
        assert_eq!(number, ERR_OPEN_DISK);
        assert!(info.contains("in use"), "{info}");
        drop(disk);
        open_disks(&data, &MetaLocation::Internal).expect("free again");
    }

    #[test]
    fn a_disk_that_is_about_to_be_free_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = file(&dir, "data", 1 << 20);
        let holder = open_disks(&data, &MetaLocation::Internal).expect("opens");
        let ending = std::thread::spawn(move || {
            std::thread::sleep(5 * IN_USE_POLL);
            drop(holder);
        });
        open_disks(&data, &MetaLocation::Internal).expect("free in the end");
        ending.join().expect("it ends");
    }

    #[test]
    fn refusals_carry_the_numbers_of_drbd() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = file(&dir, "data", 1 << 20);
        let gone = dir.path().join("gone");
        for (path, meta, number) in [
            (&gone, MetaLocation::Internal, ERR_OPEN_DISK),
            (
                &dir.path().to_owned(),
                MetaLocation::Internal,
                ERR_OPEN_DISK,
            ),
            (
                &data,
                MetaLocation::Flexible(gone.clone()),
                ERR_OPEN_MD_DISK,
            ),
            (
                &data,
                MetaLocation::Flexible(data.clone()),
                ERR_MD_IDX_INVALID,
            ),
            (
                &data,
                MetaLocation::Indexed(data.clone(), 0),
                ERR_MD_IDX_INVALID,
            ),
            (
                &data,
                MetaLocation::Indexed(gone.clone(), 256),
                ERR_MD_IDX_INVALID,
            ),
        ] {
            assert_eq!(code(open_disks(path, &meta)).0, number, "{path:?} {meta:?}");
        }
    }

    #[test]
    fn volumes_share_an_indexed_metadata_device() {
        let dir = tempfile::tempdir().expect("a directory");
        let meta = file(&dir, "meta", 1 << 20);
        let [a, b] = ["a", "b"].map(|name| file(&dir, name, 1 << 20));
        let first = open_disks(&a, &MetaLocation::Indexed(meta.clone(), 0)).expect("first");
        let second = open_disks(&b, &MetaLocation::Indexed(meta.clone(), 1)).expect("second");
        assert!(Arc::ptr_eq(&first.meta, &second.meta));
        let hanging = first.meta.leave();
        drop(second);
        let (number, info) = code(open_disks(&b, &MetaLocation::Indexed(meta.clone(), 1)));
        assert_eq!(number, ERR_OPEN_MD_DISK);
        assert!(info.contains("it does not answer"), "{info}");
        drop(hanging);
        let second = open_disks(&b, &MetaLocation::Indexed(meta.clone(), 1)).expect("again");
        drop((first, second));
        let c = file(&dir, "c", 1 << 20);
        open_disks(&c, &MetaLocation::Flexible(meta)).expect("free again");
    }
}
