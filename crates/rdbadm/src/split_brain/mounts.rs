//! Where a block device is mounted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The place where the whole file system of a device is mounted, of those in `/proc/self/mountinfo`.
pub(crate) fn mount_of(text: &[u8], major: u64, minor: u64) -> Option<PathBuf> {
    let device = format!("{major}:{minor}");
    let lines = text.split(|byte| *byte == b'\n');
    let mut found = lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (of, root, point) = (fields.nth(2)?, fields.next()?, fields.next()?);
        (of == device.as_bytes() && root == b"/").then(|| unescaped(point))
    });
    // One that was mounted later may hide an earlier one.
    found.next_back()
}

/// A field: blanks, tabs, ends of line and backslashes stand there as octal numbers.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Path::new(&OsString::from_vec(bytes)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_whole_device_is_found_whatever_its_name() {
        let text = b"23 30 0:22 / /sys rw - sysfs sysfs rw\n\
            40 30 7:3 /sub /bound rw - ext4 /dev/loop3 rw\n\
            41 30 7:3 / /mnt/a\\040b\\134 rw shared:1 - ext4 /dev/loop3 rw\n\
            42 30 7:31 / /other rw - ext4 /dev/loop31 rw\nbroken\n";
        assert_eq!(mount_of(text, 7, 3), Some("/mnt/a b\\".into()));
        assert_eq!(mount_of(text, 7, 4), None);
        assert_eq!(unescaped(b"\\9\\"), Path::new("\\9\\"));
    }
}
