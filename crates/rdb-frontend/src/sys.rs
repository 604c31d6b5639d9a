//! What the blocking parts share: system calls and `/proc`.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The result of a system call that reports errors as -1.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A path for the kernel. The error is that of a path with a zero byte inside.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Makes a block device node that its owner alone may open.
pub(crate) fn make_block_node(path: &Path, major: u32, minor: u32) -> io::Result<()> {
    let path = c_path(path)?;
    let mode = libc::S_IFBLK | 0o600;
    // SAFETY: the path is a string with a zero byte at its end that outlives the call.
    check(unsafe { libc::mknod(path.as_ptr(), mode, libc::makedev(major, minor)) }).map(drop)
}

/// Waits until one of `fds` can be read (or has failed). Returns which.
pub(crate) fn wait_readable<const N: usize>(fds: [BorrowedFd<'_>; N]) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        // SAFETY: `polled` is an array of N initialised entries that outlives the call.
        match check(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, -1) }) {
            Ok(_) => return Ok(polled.map(|entry| entry.revents != 0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `path` with everything but its last part resolved. The last part may be a dead mount, which cannot be
/// looked at.
pub(crate) fn resolve_parent(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path has no file name",
        ));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok(parent.canonicalize()?.join(name))
}

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// Major and minor number of the device.
    pub(crate) device: (u32, u32),
    pub(crate) target: PathBuf,
    pub(crate) fs_type: String,
}

/// All mounts this process sees, in the order in which they cover each other.
pub(crate) fn mounts() -> io::Result<Vec<MountEntry>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text
        .split(|&byte| byte == b'\n')
        .filter_map(parse_mount)
        .collect())
}

/// `ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS [OPTIONAL …] - TYPE SOURCE SUPER`; proc(5).
fn parse_mount(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let target = unescape(fields.nth(1)?);
    fields.find(|&field| field == b"-")?;
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(MountEntry {
        device: (major.parse().ok()?, minor.parse().ok()?),
        target,
        fs_type,
    })
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                tail @ ..,
            ] => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_lines_are_read_and_unescaped() {
        let line =
            br"36 35 0:42 / /run/a\040b\134c rw,nosuid shared:1 master:2 - fuse.rdb rdb:r0/0 rw";
        let entry = parse_mount(line).expect("a well-formed line");
        assert_eq!(entry.device, (0, 42));
        assert_eq!(entry.target, Path::new(r"/run/a b\c"));
        assert_eq!(entry.fs_type, "fuse.rdb");
        for end in 0..line.len() - 23 {
            assert_eq!(parse_mount(&line[..end]), None, "{end} bytes");
        }
    }

    #[test]
    fn the_root_is_mounted() {
        let mounts = mounts().expect("mountinfo is readable");
        assert!(
            mounts.iter().any(|entry| entry.target == Path::new("/")),
            "{mounts:?}"
        );
    }

    #[test]
    fn only_the_last_part_of_a_path_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("real")).expect("a directory");
        std::os::unix::fs::symlink("real", dir.path().join("link")).expect("a link");
        let resolved = resolve_parent(&dir.path().join("link/missing")).expect("resolves");
        assert!(resolved.ends_with("real/missing"), "{resolved:?}");
        assert!(resolve_parent(Path::new("/")).is_err());
        assert!(resolve_parent(Path::new("bare")).is_ok());
    }
}
