//! One mounted image: requests of the kernel become requests for the device.

use std::ops::Range;

use zerocopy::FromBytes;

use super::wire::{
    Attr, AttrOut, EntryOut, FallocateIn, InHeader, InitIn, OPEN_DIRECT_IO,
    OPEN_PARALLEL_DIRECT_WRITES, OpenIn, OpenOut, ROOT_ID, ReadIn, Reply, ReplyHeader, StatfsOut,
    WRITE_PAYLOAD_OFFSET, WriteIn, data_max, init_reply, opcode,
};
use crate::{DeviceInfo, Errno, Op, RangeError, Request};

/// What the root of the mount is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// A directory that holds the image under this name (at most 255 bytes). Mounted on a directory.
    Directory {
        /// The image's name.
        file_name: String,
    },
    /// The image itself. Mounted on a regular file.
    File,
}

/// What the caller does next.
#[derive(Debug)]
pub enum Step {
    /// Write this reply to `/dev/fuse`.
    Reply(Reply),
    /// The same; and one of those who had the image open has it no more, a loop device perhaps.
    Released(Reply),
    /// Pass this on to the device; answer with [`Session::reply_header`]. The tag is the message's number,
    /// which the kernel keeps unique.
    Request {
        /// What to do.
        request: Request,
        /// Where in the message the data of a write is; empty for everything else.
        payload: Range<usize>,
    },
    /// The message wants no answer.
    Nothing,
    /// The file system was unmounted: no message follows.
    Destroyed,
}

/// A message that makes no sense. The kernel sends none: the connection is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Fewer bytes than the message's header, or than its kind needs.
    #[error("a FUSE message of {got} bytes (opcode {opcode}) is too short")]
    Short {
        /// The kind, zero if it was not readable.
        opcode: u32,
        /// Bytes received.
        got: usize,
    },
    /// The length in the header is not that of the message.
    #[error("a FUSE message of {got} bytes claims {claimed}")]
    Length {
        /// Bytes, as the header says.
        claimed: u32,
        /// Bytes received.
        got: usize,
    },
}

/// One connection with the kernel. See the [module](super) for how it is driven.
#[derive(Debug)]
pub struct Session {
    info: DeviceInfo,
    root: Root,
    started: bool,
}

/// The image's number when the root is a directory.
const IMAGE_ID: u64 = 2;
const IMAGE_MODE: u32 = libc::S_IFREG | 0o600;
const DIRECTORY_MODE: u32 = libc::S_IFDIR | 0o700;

/// What a message leads to: a reply with a body, a request, or an error number of Linux.
type Outcome = Result<Step, i32>;

impl Session {
    /// A connection whose first message is still to come.
    pub fn new(info: DeviceInfo, root: Root) -> Self {
        Self {
            info,
            root,
            started: false,
        }
    }

    /// A connection that an earlier process has begun.
    pub fn resumed(info: DeviceInfo, root: Root) -> Self {
        Self {
            info,
            root,
            started: true,
        }
    }

    /// Replaces what is known of the device, after a resize. The kernel learns the new size at the next
    /// `stat` of the image; [`LoopDevice::set_capacity`](crate::loopdev::LoopDevice::set_capacity) does that.
    pub fn set_info(&mut self, info: DeviceInfo) {
        self.info = info;
    }

    /// Whether the kernel and we agreed on the protocol.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// Takes one whole message, as one `read` of `/dev/fuse` gave it.
    pub fn advance(&mut self, message: &[u8]) -> Result<Step, MessageError> {
        let Ok((header, body)) = InHeader::read_from_prefix(message) else {
            return Err(MessageError::Short {
                opcode: 0,
                got: message.len(),
            });
        };
        if header.len as usize != message.len() {
            return Err(MessageError::Length {
                claimed: header.len,
                got: message.len(),
            });
        }
        let short = MessageError::Short {
            opcode: header.opcode,
            got: message.len(),
        };
        let outcome = match header.opcode {
            opcode::READ => self.on_read(&header, parse(body).ok_or(short)?),
            opcode::WRITE => self.on_write(&header, parse(body).ok_or(short)?, message.len()),
            opcode::FSYNC => self.on_fsync(&header),
            opcode::FALLOCATE => self.on_fallocate(&header, &parse(body).ok_or(short)?),
            opcode::INIT => self.on_init(&header, &parse(body).ok_or(short)?),
            opcode::LOOKUP => self.on_lookup(&header, body),
            opcode::GETATTR => self.on_getattr(&header),
            opcode::OPEN => self.on_open(&header, &parse(body).ok_or(short)?),
            opcode::OPENDIR => self.on_opendir(&header),
            opcode::READDIR => self.on_readdir(&header, &parse(body).ok_or(short)?),
            opcode::STATFS => Ok(self.on_statfs(&header)),
            // The size is the device's; owner and mode are ours.
            opcode::SETATTR => Err(libc::EPERM),
            opcode::RELEASE => Ok(Step::Released(Reply::empty(header.unique))),
            opcode::ACCESS | opcode::RELEASEDIR | opcode::FSYNCDIR => {
                Ok(Step::Reply(Reply::empty(header.unique)))
            }
            // An interrupted request is answered when it is done, as always: disks do not stop half way.
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => Ok(Step::Nothing),
            opcode::DESTROY => Ok(Step::Destroyed),
            _ => Err(libc::ENOSYS),
        };
        Ok(outcome.unwrap_or_else(|errno| Step::Reply(Reply::error(header.unique, errno))))
    }

    /// The bytes that answer `request`: all of them, except that the data follows a successful read.
    pub fn reply_header(&self, request: &Request, result: Result<(), Errno>) -> ReplyHeader {
        ReplyHeader::new(request, result)
    }

    fn on_init(&mut self, header: &InHeader, init: &InitIn) -> Outcome {
        let (reply, started) = init_reply(header.unique, init, data_max(&self.info));
        self.started = started;
        Ok(Step::Reply(reply))
    }

    fn on_read(&self, header: &InHeader, read: ReadIn) -> Outcome {
        self.check_image(header)?;
        // Reading at and across the end is normal for files: as much as there is.
        let available = self.info.size_bytes.saturating_sub(read.offset);
        let length = u64::from(read.size).min(available) as u32;
        if length == 0 {
            return Ok(Step::Reply(Reply::empty(header.unique)));
        }
        self.check_data(read.offset, length)?;
        Ok(request(header, Op::Read, read.offset, length, 0..0))
    }

    fn on_write(&self, header: &InHeader, write: WriteIn, message_len: usize) -> Outcome {
        self.check_image(header)?;
        self.check_writable()?;
        if write.size as usize != message_len - WRITE_PAYLOAD_OFFSET {
            return Err(libc::EINVAL);
        }
        self.check_data(write.offset, write.size)?;
        let payload = WRITE_PAYLOAD_OFFSET..message_len;
        Ok(request(
            header,
            Op::Write,
            write.offset,
            write.size,
            payload,
        ))
    }

    fn on_fsync(&self, header: &InHeader) -> Outcome {
        self.check_image(header)?;
        Ok(request(header, Op::Flush, 0, 0, 0..0))
    }

    fn on_fallocate(&self, header: &InHeader, asked: &FallocateIn) -> Outcome {
        self.check_image(header)?;
        self.check_writable()?;
        let punch = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32;
        let zero = libc::FALLOC_FL_ZERO_RANGE as u32;
        let keep_size = libc::FALLOC_FL_KEEP_SIZE as u32;
        let may_unmap = match asked.mode {
            mode if mode == punch => true,
            mode if mode | keep_size == zero | keep_size => false,
            _ => return Err(libc::EOPNOTSUPP),
        };
        if !self.info.can_zero {
            return Err(libc::EOPNOTSUPP);
        }
        self.check_range(asked.offset, asked.length)?;
        let Ok(length) = u32::try_from(asked.length) else {
            return Err(libc::EFBIG);
        };
        Ok(request(
            header,
            Op::WriteZeroes { may_unmap },
            asked.offset,
            length,
            0..0,
        ))
    }

    fn on_lookup(&self, header: &InHeader, name: &[u8]) -> Outcome {
        match &self.root {
            Root::Directory { file_name } if header.nodeid == ROOT_ID => {
                if name.strip_suffix(&[0]) != Some(file_name.as_bytes()) {
                    return Err(libc::ENOENT);
                }
                let entry = EntryOut::new(self.attr_of_image());
                Ok(Step::Reply(Reply::with(header.unique, &entry)))
            }
            _ => Err(libc::ENOTDIR),
        }
    }

    fn on_getattr(&self, header: &InHeader) -> Outcome {
        let attr = if header.nodeid == self.image_id() {
            self.attr_of_image()
        } else if header.nodeid == ROOT_ID {
            Attr::new(ROOT_ID, DIRECTORY_MODE, 0, self.info.preferred_block)
        } else {
            return Err(libc::ENOENT);
        };
        Ok(Step::Reply(Reply::with(header.unique, &AttrOut::new(attr))))
    }

    fn on_open(&self, header: &InHeader, open: &OpenIn) -> Outcome {
        self.check_image(header)?;
        let writes = open.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32;
        if writes && self.info.read_only {
            return Err(libc::EROFS);
        }
        let open_flags = OPEN_DIRECT_IO | OPEN_PARALLEL_DIRECT_WRITES;
        let opened = OpenOut {
            fh: 0,
            open_flags,
            backing_id: 0,
        };
        Ok(Step::Reply(Reply::with(header.unique, &opened)))
    }

    fn on_opendir(&self, header: &InHeader) -> Outcome {
        self.check_directory(header)?;
        let opened = OpenOut {
            fh: 0,
            open_flags: 0,
            backing_id: 0,
        };
        Ok(Step::Reply(Reply::with(header.unique, &opened)))
    }

    fn on_readdir(&self, header: &InHeader, read: &ReadIn) -> Outcome {
        let file_name = self.check_directory(header)?;
        let directory = u32::from(libc::DT_DIR);
        let entries = [
            (ROOT_ID, directory, &b"."[..]),
            (ROOT_ID, directory, &b".."[..]),
            (IMAGE_ID, u32::from(libc::DT_REG), file_name.as_bytes()),
        ];
        let mut reply = Reply::empty(header.unique);
        for (index, (ino, kind, name)) in (1..).zip(entries) {
            let is_new = index > read.offset;
            if is_new && !reply.put_entry(read.size as usize, ino, index, kind, name) {
                break;
            }
        }
        Ok(Step::Reply(reply))
    }

    /// The loop driver takes the block size as the granularity of discards.
    fn on_statfs(&self, header: &InHeader) -> Step {
        let bsize = self.info.preferred_block;
        let body = StatfsOut {
            blocks: self.info.size_bytes / u64::from(bsize.max(1)),
            bfree: 0,
            bavail: 0,
            files: 1,
            ffree: 0,
            bsize,
            namelen: 255,
            frsize: bsize,
            padding: 0,
            spare: [0; 6],
        };
        Step::Reply(Reply::with(header.unique, &body))
    }

    fn image_id(&self) -> u64 {
        match self.root {
            Root::Directory { .. } => IMAGE_ID,
            Root::File => ROOT_ID,
        }
    }

    fn attr_of_image(&self) -> Attr {
        Attr::new(
            self.image_id(),
            IMAGE_MODE,
            self.info.size_bytes,
            self.info.preferred_block,
        )
    }

    fn check_image(&self, header: &InHeader) -> Result<(), i32> {
        if header.nodeid != self.image_id() {
            return Err(if header.nodeid == ROOT_ID {
                libc::EISDIR
            } else {
                libc::ENOENT
            });
        }
        Ok(())
    }

    fn check_directory(&self, header: &InHeader) -> Result<&str, i32> {
        match &self.root {
            Root::Directory { file_name } if header.nodeid == ROOT_ID => Ok(file_name),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn check_writable(&self) -> Result<(), i32> {
        if self.info.read_only {
            Err(libc::EROFS)
        } else {
            Ok(())
        }
    }

    fn check_data(&self, offset: u64, length: u32) -> Result<(), i32> {
        self.check_range(offset, u64::from(length))?;
        if length > data_max(&self.info) {
            Err(libc::EINVAL)
        } else {
            Ok(())
        }
    }

    fn check_range(&self, offset: u64, length: u64) -> Result<(), i32> {
        match self.info.check_range(offset, length) {
            Ok(()) => Ok(()),
            Err(RangeError::BeyondEnd) => Err(libc::ENOSPC),
            Err(RangeError::Empty | RangeError::Unaligned) => Err(libc::EINVAL),
        }
    }
}

fn parse<T: FromBytes>(body: &[u8]) -> Option<T> {
    T::read_from_prefix(body).ok().map(|(parsed, _)| parsed)
}

fn request(header: &InHeader, op: Op, offset: u64, length: u32, payload: Range<usize>) -> Step {
    let request = Request {
        tag: header.unique,
        op,
        offset,
        length,
        fua: false,
    };
    Step::Request { request, payload }
}
