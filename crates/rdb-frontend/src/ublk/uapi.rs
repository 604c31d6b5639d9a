//! What the ublk driver and its server say to each other. Facts are from Linux's `include/uapi/linux/ublk_cmd.h`, 6.12.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// An ioctl-style command number: direction (1 write, 2 read), size of the argument, type `u`, number.
const fn command(direction: u32, size: usize, number: u32) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'u' as u32) << 8 | number
}
const fn read(number: u32) -> u32 {
    command(2, size_of::<CtrlCmd>(), number)
}
const fn both(number: u32) -> u32 {
    command(3, size_of::<CtrlCmd>(), number)
}

pub(super) const GET_DEV_INFO: u32 = read(0x02);
pub(super) const ADD_DEV: u32 = both(0x04);
pub(super) const DEL_DEV: u32 = both(0x05);
pub(super) const START_DEV: u32 = both(0x06);
pub(super) const STOP_DEV: u32 = both(0x07);
pub(super) const SET_PARAMS: u32 = both(0x08);
pub(super) const GET_PARAMS: u32 = read(0x09);
pub(super) const START_USER_RECOVERY: u32 = both(0x10);
pub(super) const END_USER_RECOVERY: u32 = both(0x11);
/// Linux 6.5.
pub(super) const GET_FEATURES: u32 = read(0x13);
/// Deletes without waiting for who has the device open; Linux 6.9.
pub(super) const DEL_DEV_ASYNC: u32 = read(0x14);

/// Asks for the next request of a tag.
pub(super) const FETCH_REQ: u32 = command(3, 16, 0x20);
/// Completes the request of a tag and asks for its next one.
pub(super) const COMMIT_AND_FETCH_REQ: u32 = command(3, 16, 0x21);

pub(super) const F_USER_RECOVERY: u64 = 1 << 3;
pub(super) const F_USER_RECOVERY_REISSUE: u64 = 1 << 4;
pub(super) const F_CMD_IOCTL_ENCODE: u64 = 1 << 6;
pub(super) const F_USER_COPY: u64 = 1 << 7;

pub(super) const STATE_LIVE: u16 = 1;
pub(super) const STATE_QUIESCED: u16 = 2;

pub(super) const OP_READ: u32 = 0;
pub(super) const OP_WRITE: u32 = 1;
pub(super) const OP_FLUSH: u32 = 2;
pub(super) const OP_DISCARD: u32 = 3;
pub(super) const OP_WRITE_ZEROES: u32 = 5;
pub(super) const IO_FUA: u32 = 1 << 13;
pub(super) const IO_NOUNMAP: u32 = 1 << 15;

pub(super) const ATTR_VOLATILE_CACHE: u32 = 1 << 2;
pub(super) const ATTR_FUA: u32 = 1 << 3;
pub(super) const PARAM_BASIC: u32 = 1 << 0;
pub(super) const PARAM_DISCARD: u32 = 1 << 1;

/// Where the data of requests begins in the character device.
const IO_BUF_OFFSET: u64 = 0x8000_0000;
/// Bits of an offset into one request's data, and of a tag.
const IO_BUF_BITS: u32 = 25;
const TAG_BITS: u32 = 16;
/// Greatest depth of a queue: the descriptors of queue N begin at N times that many.
const QUEUE_DEPTH_MAX: u64 = 4096;

/// `struct ublksrv_ctrl_cmd`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct CtrlCmd {
    pub(super) dev_id: u32,
    pub(super) queue_id: u16,
    pub(super) len: u16,
    pub(super) addr: u64,
    pub(super) data: u64,
    pub(super) dev_path_len: u16,
    pub(super) pad: u16,
    pub(super) reserved: u32,
}
const _: () = assert!(size_of::<CtrlCmd>() == 32);

/// `struct ublksrv_ctrl_dev_info`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct DevInfo {
    pub(super) nr_hw_queues: u16,
    pub(super) queue_depth: u16,
    pub(super) state: u16,
    pub(super) pad0: u16,
    pub(super) max_io_buf_bytes: u32,
    pub(super) dev_id: u32,
    pub(super) ublksrv_pid: i32,
    pub(super) pad1: u32,
    pub(super) flags: u64,
    /// The driver keeps it and does not look at it.
    pub(super) ublksrv_flags: u64,
    pub(super) owner_uid: u32,
    pub(super) owner_gid: u32,
    pub(super) reserved: [u64; 2],
}
const _: () = assert!(size_of::<DevInfo>() == 64);

/// `struct ublk_params` as far as it is used here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Params {
    pub(super) len: u32,
    pub(super) types: u32,
    pub(super) attrs: u32,
    pub(super) logical_bs_shift: u8,
    pub(super) physical_bs_shift: u8,
    pub(super) io_opt_shift: u8,
    pub(super) io_min_shift: u8,
    pub(super) max_sectors: u32,
    pub(super) chunk_sectors: u32,
    pub(super) dev_sectors: u64,
    pub(super) virt_boundary_mask: u64,
    pub(super) discard_alignment: u32,
    pub(super) discard_granularity: u32,
    pub(super) max_discard_sectors: u32,
    pub(super) max_write_zeroes_sectors: u32,
    pub(super) max_discard_segments: u16,
    pub(super) reserved: [u16; 3],
}
const _: () = assert!(size_of::<Params>() == 64);

/// `struct ublksrv_io_desc`: one request, in memory that the driver writes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct IoDesc {
    pub(super) op_flags: u32,
    pub(super) nr_sectors: u32,
    pub(super) start_sector: u64,
    pub(super) addr: u64,
}
const _: () = assert!(size_of::<IoDesc>() == 24);

/// `struct ublksrv_io_cmd`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct IoCmd {
    queue: u16,
    tag: u16,
    result: i32,
    addr: u64,
}

/// What is asked for a tag; with user copy there is no address.
pub(super) fn io_cmd(queue: u16, tag: u16, result: i32) -> [u8; 16] {
    zerocopy::transmute!(IoCmd {
        queue,
        tag,
        result,
        addr: 0,
    })
}

/// Where the data of a tag's request lies in the character device.
pub(super) fn data_offset(queue: u16, tag: u16) -> u64 {
    IO_BUF_OFFSET + (u64::from(queue) << (IO_BUF_BITS + TAG_BITS)) + (u64::from(tag) << IO_BUF_BITS)
}

/// Where the descriptors of a queue lie in the character device.
pub(super) fn descriptors_offset(queue: u16) -> u64 {
    u64::from(queue) * QUEUE_DEPTH_MAX * size_of::<IoDesc>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_header() {
        // As a C compiler computes them from ublk_cmd.h.
        assert_eq!(GET_DEV_INFO, 0x8020_7502);
        assert_eq!(ADD_DEV, 0xc020_7504);
        assert_eq!(GET_FEATURES, 0x8020_7513);
        assert_eq!(FETCH_REQ, 0xc010_7520);
        assert_eq!(COMMIT_AND_FETCH_REQ, 0xc010_7521);
        assert_eq!(data_offset(0, 0), 0x8000_0000);
        assert_eq!(data_offset(1, 2), 0x8000_0000 + (1 << 41) + (2 << 25));
        assert_eq!(descriptors_offset(2), 2 * 4096 * 24);
        let cmd = io_cmd(1, 2, -5);
        assert_eq!(cmd[..8], [1, 0, 2, 0, 0xfb, 0xff, 0xff, 0xff]);
    }
}
