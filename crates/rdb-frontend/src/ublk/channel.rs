//! What the data plane has of a device: the character device and the descriptors of its requests.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use io_uring::{opcode, squeue, types};

use super::uapi::{self, IoDesc};
use crate::device::{DeviceInfo, Errno, Op, Request};

/// A place for one request at a time: queue and number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// The queue.
    pub queue: u16,
    /// The place in it.
    pub number: u16,
}

impl Tag {
    /// As [`Request::tag`].
    pub fn to_u64(self) -> u64 {
        u64::from(self.queue) << 16 | u64::from(self.number)
    }

    /// From [`Request::tag`].
    pub fn from_u64(tag: u64) -> Tag {
        Tag {
            queue: (tag >> 16) as u16,
            number: tag as u16,
        }
    }
}

/// The character device of a ublk device, for the thread that serves it. All entries must be submitted by one thread.
pub struct Channel {
    fd: std::rc::Rc<OwnedFd>,
    queues: Vec<Descriptors>,
    depth: u16,
}

/// A channel that may go to another thread.
pub struct Opened {
    pub(super) file: File,
    pub(super) queues: Vec<Descriptors>,
    pub(super) depth: u16,
}

/// The mapped descriptors of one queue.
pub(super) struct Descriptors {
    base: NonNull<IoDesc>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the value alone, and is not tied to a thread.
unsafe impl Send for Descriptors {}

impl Descriptors {
    pub(super) fn map(file: &File, queue: u16, depth: u16) -> io::Result<Descriptors> {
        let bytes = usize::from(depth) * size_of::<IoDesc>();
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                uapi::descriptors_offset(queue) as libc::off_t,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base =
            NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Descriptors { base, bytes })
    }

    fn get(&self, number: u16) -> Option<IoDesc> {
        let index = usize::from(number);
        if (index + 1) * size_of::<IoDesc>() > self.bytes {
            return None;
        }
        // SAFETY: the index lies in the mapping. The driver writes a descriptor before it ends the command of the tag,
        // and not again before the next one; should it break that, any bytes are a valid value.
        Some(unsafe { self.base.as_ptr().add(index).read_volatile() })
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `map` and nobody else knows it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

impl From<Opened> for Channel {
    fn from(opened: Opened) -> Channel {
        Channel {
            fd: std::rc::Rc::new(opened.file.into()),
            queues: opened.queues,
            depth: opened.depth,
        }
    }
}

impl Channel {
    /// Its descriptor, to be held by every operation in flight.
    pub fn fd(&self) -> std::rc::Rc<OwnedFd> {
        std::rc::Rc::clone(&self.fd)
    }

    /// All tags.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + use<> {
        let (queues, depth) = (self.queues.len() as u16, self.depth);
        (0..queues).flat_map(move |queue| (0..depth).map(move |number| Tag { queue, number }))
    }

    /// An entry that ends when the tag has a request (0), or when the device is being stopped (an error).
    pub fn fetch(fd: &OwnedFd, tag: Tag) -> squeue::Entry {
        opcode::UringCmd16::new(types::Fd(fd.as_raw_fd()), uapi::FETCH_REQ)
            .cmd(uapi::io_cmd(tag.queue, tag.number, 0))
            .build()
    }

    /// An entry that completes the tag's request, with bytes done or a negative error number, and goes on like
    /// [`Channel::fetch`].
    pub fn commit_and_fetch(fd: &OwnedFd, tag: Tag, result: i32) -> squeue::Entry {
        opcode::UringCmd16::new(types::Fd(fd.as_raw_fd()), uapi::COMMIT_AND_FETCH_REQ)
            .cmd(uapi::io_cmd(tag.queue, tag.number, result))
            .build()
    }

    /// The request of a tag whose command has ended with 0.
    ///
    /// # Errors
    /// What the driver is to be answered if the request makes no sense.
    pub fn request(&self, tag: Tag, info: &DeviceInfo) -> Result<Request, Errno> {
        // The command's end is the driver's sign that the descriptor is complete.
        fence(Ordering::Acquire);
        let descriptor = self
            .queues
            .get(usize::from(tag.queue))
            .and_then(|queue| queue.get(tag.number))
            .ok_or(Errno::Inval)?;
        decode(descriptor, tag, info)
    }

    /// Copies the data of the tag's write into `into`.
    ///
    /// # Errors
    /// When the kernel does not give all of it.
    pub fn read_data(&self, tag: Tag, into: &mut [u8]) -> io::Result<()> {
        let offset = uapi::data_offset(tag.queue, tag.number) as libc::off_t;
        loop {
            // SAFETY: the descriptor is open, `into` is writable memory of the length given.
            let got = unsafe {
                libc::pread(
                    self.fd.as_raw_fd(),
                    into.as_mut_ptr().cast(),
                    into.len(),
                    offset,
                )
            };
            match all(got, into.len()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Copies `from` to where the tag's read wants it.
    ///
    /// # Errors
    /// When the kernel does not take all of it.
    pub fn write_data(&self, tag: Tag, from: &[u8]) -> io::Result<()> {
        let offset = uapi::data_offset(tag.queue, tag.number) as libc::off_t;
        loop {
            // SAFETY: the descriptor is open, `from` is readable memory of the length given.
            let taken = unsafe {
                libc::pwrite(
                    self.fd.as_raw_fd(),
                    from.as_ptr().cast(),
                    from.len(),
                    offset,
                )
            };
            match all(taken, from.len()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

fn all(done: isize, wanted: usize) -> io::Result<()> {
    match usize::try_from(done) {
        Ok(done) if done == wanted => Ok(()),
        Ok(done) => Err(io::Error::other(format!("{done} of {wanted} bytes"))),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

fn decode(descriptor: IoDesc, tag: Tag, info: &DeviceInfo) -> Result<Request, Errno> {
    let fua = descriptor.op_flags & uapi::IO_FUA != 0;
    let op = match descriptor.op_flags & 0xff {
        uapi::OP_READ => Op::Read,
        uapi::OP_WRITE => Op::Write,
        uapi::OP_FLUSH => Op::Flush,
        uapi::OP_DISCARD => Op::Trim,
        uapi::OP_WRITE_ZEROES => Op::WriteZeroes {
            may_unmap: descriptor.op_flags & uapi::IO_NOUNMAP == 0,
        },
        _ => return Err(Errno::NotSupported),
    };
    if op == Op::Flush {
        return Ok(Request {
            tag: tag.to_u64(),
            op,
            offset: 0,
            length: 0,
            fua: false,
        });
    }
    let length = u64::from(descriptor.nr_sectors) * 512;
    let offset = descriptor
        .start_sector
        .checked_mul(512)
        .ok_or(Errno::Inval)?;
    info.check_range(offset, length).map_err(|_| Errno::Inval)?;
    if matches!(op, Op::Read | Op::Write) && length > u64::from(info.maximum_request) {
        return Err(Errno::Inval);
    }
    Ok(Request {
        tag: tag.to_u64(),
        op,
        offset,
        length: u32::try_from(length).map_err(|_| Errno::Inval)?,
        fua: fua && op.is_write(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: DeviceInfo = DeviceInfo {
        size_bytes: 1 << 30,
        minimum_block: 4096,
        preferred_block: 4096,
        maximum_request: 1 << 20,
        can_trim: true,
        can_zero: true,
        read_only: false,
    };
    const TAG: Tag = Tag {
        queue: 3,
        number: 127,
    };

    fn decoded(
        op_flags: u32,
        start_sector: u64,
        nr_sectors: u32,
    ) -> Result<(Op, u64, u32, bool), Errno> {
        let descriptor = IoDesc {
            op_flags,
            nr_sectors,
            start_sector,
            addr: 0,
        };
        decode(descriptor, TAG, &INFO).map(|r| {
            assert_eq!(Tag::from_u64(r.tag), TAG);
            (r.op, r.offset, r.length, r.fua)
        })
    }

    #[test]
    fn descriptors_become_requests() {
        assert_eq!(decoded(0, 8, 8), Ok((Op::Read, 4096, 4096, false)));
        assert_eq!(
            decoded(1 | 1 << 8, 0, 2048),
            Ok((Op::Write, 0, 1 << 20, false))
        );
        assert_eq!(decoded(1 | 1 << 13, 0, 8), Ok((Op::Write, 0, 4096, true)));
        assert_eq!(decoded(2, 77, 3), Ok((Op::Flush, 0, 0, false)));
        assert_eq!(decoded(3, 8, 1 << 20), Ok((Op::Trim, 4096, 1 << 29, false)));
        for (flag, may_unmap) in [(0, true), (1 << 15, false)] {
            let zeroes = Op::WriteZeroes { may_unmap };
            assert_eq!(decoded(5 | flag, 16, 8), Ok((zeroes, 8192, 4096, false)));
        }
        assert_eq!(decoded(1 << 13, 8, 8), Ok((Op::Read, 4096, 4096, false)));
    }

    #[test]
    fn descriptors_that_make_no_sense_are_refused() {
        for (op_flags, start, sectors) in [
            (0, 0, 0),
            (0, 1, 8),
            (1, 8, 7),
            (1, 0, 2056),
            (1, u64::MAX, 8),
            (0, u64::MAX / 512, 8),
            (3, (1 << 21) - 8, 16),
        ] {
            assert_eq!(
                decoded(op_flags, start, sectors),
                Err(Errno::Inval),
                "{op_flags} {start} {sectors}"
            );
        }
        for op in [4, 6, 10, 255] {
            assert_eq!(decoded(op, 0, 8), Err(Errno::NotSupported), "{op}");
        }
    }
}
