//! Reading files that people name: what is named by mistake neither hangs the reader nor fills its memory.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Reads a regular file; nothing else is read, and nothing is waited for: a FIFO that nobody writes to is an error at once. Of a
/// file that is larger than the limit there is one byte more than the limit in the result.
///
/// # Errors
/// The operating system's, that the file has nothing to read right now (as `/proc/kmsg` may), or what it is if it is no regular file.
pub fn read_regular(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    check_regular(&file)?;
    read_limited(file, limit)
}

/// Opens a file so that neither this nor reading it waits.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Reads up to one byte more than the limit, which shows that there is more.
///
/// # Errors
/// The reader's.
pub fn read_limited(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).map_or(u64::MAX, |limit| limit.saturating_add(1));
    reader.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The file that is open is looked at: its name may mean another one by now.
fn check_regular(file: &File) -> io::Result<()> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let text = format!("it is {}, not a regular file", words(kind));
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

fn words(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a pipe (FIFO)"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_block_device() {
        "a block device"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "something else"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.expect("mkfifo").success());
        for (path, words) in [
            (fifo.as_path(), "it is a pipe (FIFO), not a regular file"),
            (
                Path::new("/dev/zero"),
                "it is a character device, not a regular file",
            ),
            (dir.path(), "it is a directory, not a regular file"),
        ] {
            let error = read_regular(path, 10).expect_err(words);
            assert_eq!(error.to_string(), words);
        }
    }

    #[test]
    fn one_byte_more_than_the_limit_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        std::fs::write(&path, "12345").expect("written");
        for (limit, read) in [
            (3, "1234"),
            (4, "12345"),
            (5, "12345"),
            (usize::MAX, "12345"),
        ] {
            assert_eq!(read_regular(&path, limit).expect("read"), read.as_bytes());
        }
    }

    /// What `/proc/kmsg` needs, which is not read here: another reader would miss what this one got.
    #[test]
    fn reading_does_not_wait_for_more() {
        use std::os::fd::AsRawFd;

        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        std::fs::write(&path, "").expect("written");
        let file = open(&path).expect("open");
        let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
        let info = std::fs::read_to_string(info).expect("of this process");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.expect("flags").trim(), 8).expect("octal");
        assert_ne!(flags & libc::O_NONBLOCK, 0, "{info}");
    }
}
