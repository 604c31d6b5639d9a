//! The structures that pass through `/dev/fuse`, in the machine's byte order. `include/uapi/linux/fuse.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DeviceInfo, Errno, Op, Request};

/// Bytes before a write's data: the message's header and the write's own.
pub const WRITE_PAYLOAD_OFFSET: usize = size_of::<InHeader>() + size_of::<WriteIn>();
/// Bytes of data in one read or write: 256 pages of 4 KiB, the most that Linux takes without being told.
pub const REQUEST_DATA_MAX: u32 = 1 << 20;
/// Bytes that the buffer for one message must hold.
pub const MESSAGE_SIZE_MAX: usize = WRITE_PAYLOAD_OFFSET + REQUEST_DATA_MAX as usize;
const _: () = assert!(WRITE_PAYLOAD_OFFSET == 80);

/// The protocol's major number; the minor one we speak and the oldest kernel's that we serve (Linux 5.4).
pub(crate) const MAJOR: u32 = 7;
pub(crate) const MINOR: u32 = 38;
pub(crate) const MINOR_MIN: u32 = 31;
/// The root of the file system.
pub(crate) const ROOT_ID: u64 = 1;

/// Numbers of the requests that are told apart.
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
}

const INIT_ASYNC_READ: u32 = 1 << 0;
const INIT_BIG_WRITES: u32 = 1 << 5;
const INIT_ASYNC_DIO: u32 = 1 << 15;
const INIT_PARALLEL_DIROPS: u32 = 1 << 18;
const INIT_MAX_PAGES: u32 = 1 << 22;

pub(crate) const OPEN_DIRECT_IO: u32 = 1 << 0;
pub(crate) const OPEN_PARALLEL_DIRECT_WRITES: u32 = 1 << 6;

/// Asynchronous requests the kernel may have open, and where it begins to slow down.
const BACKGROUND_MAX: u16 = 256;
const CONGESTION: u16 = 192;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct InHeader {
    pub(crate) len: u32,
    pub(crate) opcode: u32,
    pub(crate) unique: u64,
    pub(crate) nodeid: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: u32,
    pub(crate) padding: u32,
}
const _: () = assert!(size_of::<InHeader>() == 40);

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct OutHeader {
    len: u32,
    error: i32,
    unique: u64,
}
const _: () = assert!(size_of::<OutHeader>() == 16);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct InitIn {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) max_readahead: u32,
    pub(crate) flags: u32,
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct InitOut {
    major: u32,
    minor: u32,
    max_readahead: u32,
    flags: u32,
    max_background: u16,
    congestion_threshold: u16,
    max_write: u32,
    time_gran: u32,
    max_pages: u16,
    map_alignment: u16,
    flags2: u32,
    unused: [u32; 7],
}
const _: () = assert!(size_of::<InitOut>() == 64);

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Attr {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    times: [u64; 3],
    times_ns: [u32; 3],
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    uid: u32,
    gid: u32,
    rdev: u32,
    pub(crate) blksize: u32,
    flags: u32,
}
const _: () = assert!(size_of::<Attr>() == 88);

impl Attr {
    pub(crate) fn new(ino: u64, mode: u32, size: u64, blksize: u32) -> Self {
        Self {
            ino,
            size,
            blocks: size / 512,
            times: [0; 3],
            times_ns: [0; 3],
            mode,
            nlink: if mode & libc::S_IFMT == libc::S_IFDIR {
                2
            } else {
                1
            },
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize,
            flags: 0,
        }
    }
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct EntryOut {
    nodeid: u64,
    generation: u64,
    entry_valid_s: u64,
    attr_valid_s: u64,
    entry_valid_ns: u32,
    attr_valid_ns: u32,
    attr: Attr,
}
const _: () = assert!(size_of::<EntryOut>() == 128);

impl EntryOut {
    /// The name never goes away while the mount lives; the attributes are asked for each time, because the
    /// size changes with the device.
    pub(crate) fn new(attr: Attr) -> Self {
        Self {
            nodeid: attr.ino,
            generation: 0,
            entry_valid_s: 3600,
            attr_valid_s: 0,
            entry_valid_ns: 0,
            attr_valid_ns: 0,
            attr,
        }
    }
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct AttrOut {
    attr_valid_s: u64,
    attr_valid_ns: u32,
    dummy: u32,
    attr: Attr,
}
const _: () = assert!(size_of::<AttrOut>() == 104);

impl AttrOut {
    pub(crate) fn new(attr: Attr) -> Self {
        Self {
            attr_valid_s: 0,
            attr_valid_ns: 0,
            dummy: 0,
            attr,
        }
    }
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct OpenIn {
    pub(crate) flags: u32,
    pub(crate) open_flags: u32,
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct OpenOut {
    pub(crate) fh: u64,
    pub(crate) open_flags: u32,
    pub(crate) backing_id: i32,
}

/// Reads and writes have the same layout. The names are a read's.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ReadIn {
    pub(crate) fh: u64,
    pub(crate) offset: u64,
    pub(crate) size: u32,
    pub(crate) read_flags: u32,
    pub(crate) lock_owner: u64,
    pub(crate) flags: u32,
    pub(crate) padding: u32,
}
pub(crate) type WriteIn = ReadIn;
const _: () = assert!(size_of::<ReadIn>() == 40);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ReleaseIn {
    pub(crate) fh: u64,
    pub(crate) flags: u32,
    pub(crate) release_flags: u32,
    pub(crate) lock_owner: u64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FallocateIn {
    pub(crate) fh: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) mode: u32,
    pub(crate) padding: u32,
}
const _: () = assert!(size_of::<FallocateIn>() == 32);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct StatfsOut {
    pub(crate) blocks: u64,
    pub(crate) bfree: u64,
    pub(crate) bavail: u64,
    pub(crate) files: u64,
    pub(crate) ffree: u64,
    pub(crate) bsize: u32,
    pub(crate) namelen: u32,
    pub(crate) frsize: u32,
    pub(crate) padding: u32,
    pub(crate) spare: [u32; 6],
}
const _: () = assert!(size_of::<StatfsOut>() == 80);

/// What follows a [`DirEntry`] is its name, padded to eight bytes.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct DirEntry {
    ino: u64,
    next: u64,
    name_len: u32,
    kind: u32,
}
const _: () = assert!(size_of::<DirEntry>() == 24);

/// A reply that is complete in itself: one `write` to `/dev/fuse`. None of these is on the path of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    bytes: Vec<u8>,
}

impl Reply {
    /// The bytes to write, with one call.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn empty(unique: u64) -> Self {
        Self::start(unique, 0)
    }

    /// A positive error number of Linux.
    pub(crate) fn error(unique: u64, errno: i32) -> Self {
        Self::start(unique, -errno)
    }

    pub(crate) fn with(unique: u64, body: &(impl IntoBytes + Immutable)) -> Self {
        Self::with_data(unique, body.as_bytes())
    }

    pub(crate) fn with_data(unique: u64, data: &[u8]) -> Self {
        let mut reply = Self::empty(unique);
        reply.put(data);
        reply
    }

    /// Adds a directory entry, unless the entries would exceed `room` bytes.
    pub(crate) fn put_entry(
        &mut self,
        room: usize,
        ino: u64,
        next: u64,
        kind: u32,
        name: &[u8],
    ) -> bool {
        let padded = name.len().next_multiple_of(8);
        let used = self.bytes.len() - size_of::<OutHeader>();
        if used + size_of::<DirEntry>() + padded > room {
            return false;
        }
        self.put(
            DirEntry {
                ino,
                next,
                name_len: name.len() as u32,
                kind,
            }
            .as_bytes(),
        );
        self.put(name);
        self.put(&[0; 8][..padded - name.len()]);
        true
    }

    fn start(unique: u64, error: i32) -> Self {
        let len = size_of::<OutHeader>() as u32;
        Self {
            bytes: OutHeader { len, error, unique }.as_bytes().to_vec(),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(length.as_bytes());
    }
}

/// What goes before a read's data, or is the whole answer to any other request of the device. Write it and
/// the data with one `writev`.
#[derive(Clone, Copy)]
pub struct ReplyHeader {
    bytes: [u8; 24],
    length: u8,
}

impl ReplyHeader {
    /// The bytes to write.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    pub(crate) fn new(request: &Request, result: Result<(), Errno>) -> Self {
        let (length, error, follows) = match result {
            Err(errno) => (16, -(errno.number() as i32), 0),
            Ok(()) => match request.op {
                Op::Read => (16, 0, request.length),
                Op::Write => (24, 0, 0),
                Op::Flush | Op::Trim | Op::WriteZeroes { .. } | Op::Cache => (16, 0, 0),
            },
        };
        let header = OutHeader {
            len: u32::from(length) + follows,
            error,
            unique: request.tag,
        };
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(header.as_bytes());
        if length == 24 {
            bytes[16..20].copy_from_slice(request.length.as_bytes());
        }
        Self { bytes, length }
    }
}

impl std::fmt::Debug for ReplyHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyHeader({:02x?})", self.as_bytes())
    }
}

/// The answer to the kernel's `INIT`: what both sides can do, and `true` if the connection may begin.
pub(crate) fn init_reply(unique: u64, init: &InitIn, max_write: u32) -> (Reply, bool) {
    if init.major < MAJOR || init.major == MAJOR && init.minor < MINOR_MIN {
        return (Reply::error(unique, libc::EPROTO), false);
    }
    // A newer major number is answered with ours, and the kernel asks again with that one.
    let newer = init.major > MAJOR;
    let wanted =
        INIT_ASYNC_READ | INIT_BIG_WRITES | INIT_ASYNC_DIO | INIT_PARALLEL_DIROPS | INIT_MAX_PAGES;
    let body = InitOut {
        major: MAJOR,
        minor: MINOR,
        max_readahead: init.max_readahead,
        flags: if newer { 0 } else { init.flags & wanted },
        max_background: BACKGROUND_MAX,
        congestion_threshold: CONGESTION,
        max_write,
        time_gran: 1,
        max_pages: (REQUEST_DATA_MAX / 4096) as u16,
        map_alignment: 0,
        flags2: 0,
        unused: [0; 7],
    };
    (Reply::with(unique, &body), !newer)
}

/// Bytes of data in one read or write of this device.
pub(crate) fn data_max(info: &DeviceInfo) -> u32 {
    info.maximum_request.clamp(4096, REQUEST_DATA_MAX)
}
