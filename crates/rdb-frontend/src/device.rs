//! The interface between front ends and the device: requests, errors, limits.

/// One request of a client, already checked against the device's [`DeviceInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Opaque to the device, echoed in the completion. Not unique: a client may use one tag twice at a time.
    pub tag: u64,
    /// What to do.
    pub op: Op,
    /// First byte. A multiple of [`DeviceInfo::minimum_block`]; zero for [`Op::Flush`].
    pub offset: u64,
    /// Bytes. At most [`DeviceInfo::maximum_request`] for reads and writes; up to 4 GiB less one block for
    /// [`Op::Trim`], [`Op::WriteZeroes`] and [`Op::Cache`], which carry no data; zero for [`Op::Flush`].
    pub length: u32,
    /// The completion must mean that this request's own change is durable. Only with writes, trims, zeroes.
    pub fua: bool,
}

/// What a [`Request`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Read `length` bytes.
    Read,
    /// Write `length` bytes.
    Write,
    /// Make every write that was completed before this request durable, whichever client sent it.
    Flush,
    /// The content is no longer needed: what a read gives afterwards is undefined, and nothing need happen.
    Trim,
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// The range may lose its space on the disk, as long as it reads as zeroes.
        may_unmap: bool,
    },
    /// The range will be read soon. A hint: doing nothing is right.
    Cache,
}

impl Op {
    /// Whether the request changes the device's content.
    pub fn is_write(self) -> bool {
        matches!(self, Op::Write | Op::Trim | Op::WriteZeroes { .. })
    }
}

/// Why a request failed. Every front end maps these to its protocol's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Errno {
    /// The disk, or the last of all disks, failed.
    #[error("Input/output error")]
    Io,
    /// The request makes no sense: range, alignment, flags.
    #[error("Invalid argument")]
    Inval,
    /// A write beyond the end of the device.
    #[error("No space left on device")]
    NoSpace,
    /// A write to a read-only device.
    #[error("Operation not permitted")]
    NotPermitted,
    /// Memory is short.
    #[error("Cannot allocate memory")]
    NoMem,
    /// Longer than the device takes in one request.
    #[error("Value too large")]
    Overflow,
    /// The device is going away.
    #[error("The device is shutting down")]
    Shutdown,
    /// The device cannot do this.
    #[error("Operation not supported")]
    NotSupported,
}

impl Errno {
    /// Linux's number. The NBD protocol and FUSE use the same ones.
    pub const fn number(self) -> u32 {
        match self {
            Errno::NotPermitted => 1,
            Errno::Io => 5,
            Errno::NoMem => 12,
            Errno::Inval => 22,
            Errno::NoSpace => 28,
            Errno::Overflow => 75,
            Errno::NotSupported => 95,
            Errno::Shutdown => 108,
        }
    }

    /// What the error means, for people.
    pub const fn message(self) -> &'static str {
        match self {
            Errno::NotPermitted => "Operation not permitted",
            Errno::Io => "Input/output error",
            Errno::NoMem => "Cannot allocate memory",
            Errno::Inval => "Invalid argument",
            Errno::NoSpace => "No space left on device",
            Errno::Overflow => "Value too large",
            Errno::NotSupported => "Operation not supported",
            Errno::Shutdown => "The device is shutting down",
        }
    }
}

/// What a front end must know of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Bytes; a multiple of `minimum_block`.
    pub size_bytes: u64,
    /// Bytes; every offset and length is a multiple of it. 512, or the backing disk's logical block. A power of two.
    pub minimum_block: u32,
    /// Bytes; what is fastest, 4096. A power of two, at least `minimum_block`.
    pub preferred_block: u32,
    /// Bytes of data that one read or write may carry. A multiple of `minimum_block`.
    pub maximum_request: u32,
    /// Whether [`Op::Trim`] is served.
    pub can_trim: bool,
    /// Whether [`Op::WriteZeroes`] is served.
    pub can_zero: bool,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// Why a range does not fit a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Nothing to do.
    #[error("the length is zero")]
    Empty,
    /// The range ends beyond the device, or beyond what 64 bits count.
    #[error("the range ends beyond the device")]
    BeyondEnd,
    /// The offset or the length is no multiple of the minimum block.
    #[error("the offset or the length is not a multiple of the minimum block size")]
    Unaligned,
}

impl DeviceInfo {
    /// Whether `length` bytes at `offset` are a range of the device that it can work on.
    pub fn check_range(&self, offset: u64, length: u64) -> Result<(), RangeError> {
        if length == 0 {
            return Err(RangeError::Empty);
        }
        match offset.checked_add(length) {
            Some(end) if end <= self.size_bytes => {}
            _ => return Err(RangeError::BeyondEnd),
        }
        let mask = u64::from(self.minimum_block.max(1)) - 1;
        if (offset | length) & mask != 0 {
            return Err(RangeError::Unaligned);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_judged_at_their_edges() {
        let info = DeviceInfo {
            size_bytes: 8192,
            minimum_block: 512,
            preferred_block: 4096,
            maximum_request: 1 << 20,
            can_trim: true,
            can_zero: true,
            read_only: false,
        };
        for (offset, length, verdict) in [
            (0, 512, Ok(())),
            (0, 8192, Ok(())),
            (7680, 512, Ok(())),
            (0, 0, Err(RangeError::Empty)),
            (8192, 0, Err(RangeError::Empty)),
            (8192, 512, Err(RangeError::BeyondEnd)),
            (7680, 1024, Err(RangeError::BeyondEnd)),
            (u64::MAX - 511, 512, Err(RangeError::BeyondEnd)),
            (u64::MAX, u64::MAX, Err(RangeError::BeyondEnd)),
            (1, 512, Err(RangeError::Unaligned)),
            (512, 513, Err(RangeError::Unaligned)),
        ] {
            assert_eq!(
                info.check_range(offset, length),
                verdict,
                "{length} bytes at {offset}"
            );
        }
    }

    #[test]
    fn errors_carry_linux_numbers_and_their_message() {
        for (errno, number) in [
            (Errno::NotPermitted, libc::EPERM),
            (Errno::Io, libc::EIO),
            (Errno::NoMem, libc::ENOMEM),
            (Errno::Inval, libc::EINVAL),
            (Errno::NoSpace, libc::ENOSPC),
            (Errno::Overflow, libc::EOVERFLOW),
            (Errno::NotSupported, libc::EOPNOTSUPP),
            (Errno::Shutdown, libc::ESHUTDOWN),
        ] {
            assert_eq!(i64::from(errno.number()), i64::from(number), "{errno:?}");
            assert_eq!(errno.to_string(), errno.message());
        }
    }
}
