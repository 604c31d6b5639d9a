//! Partitions of a loop device that somebody has made visible: they must not outlive the device.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::sys;

const BLKPG: u64 = 0x1269;
const DELETE: i32 = 2;

/// `struct blkpg_partition`.
#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}
const _: () = assert!(size_of::<Partition>() == 152);

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument {
    operation: i32,
    flags: i32,
    length: i32,
    data: *mut Partition,
}

/// Takes the partitions of an open disk away. One that is used stays, and is an error. `number`: N of `/dev/loopN`.
pub(crate) fn remove_all(disk: &File, number: u32) -> io::Result<()> {
    let mut first = Ok(());
    for partition in numbers(number) {
        if let Err(error) = remove(disk, partition)
            && first.is_ok()
        {
            first = Err(error);
        }
    }
    first
}

/// The partitions that the kernel shows of a loop device.
fn numbers(number: u32) -> Vec<i32> {
    let directory = format!("/sys/block/loop{number}");
    let entries = std::fs::read_dir(Path::new(&directory));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let text = std::fs::read_to_string(entry.path().join("partition")).ok()?;
            text.trim().parse().ok()
        })
        .collect()
}

fn remove(disk: &File, number: i32) -> io::Result<()> {
    let mut partition = Partition {
        start: 0,
        length: 0,
        number,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = Argument {
        operation: DELETE,
        flags: 0,
        length: size_of::<Partition>() as i32,
        data: &raw mut partition,
    };
    // SAFETY: the kernel reads the argument and the partition it points to; both outlive the call and have the sizes that
    // are asserted and given.
    let result =
        unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as libc::Ioctl, &raw const argument) };
    match sys::check(result) {
        // Somebody was faster.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        other => other.map(drop),
    }
}
