//! Who may ask over the socket for questions: the mode and the group of its file say so, and everybody else is kept out by the
//! kernel.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rdb_control::QUESTIONS_NAME;
use serde::Deserialize;

/// Whose socket it is where nothing else is said, if there is such a group.
const DEFAULT_GROUP: &str = "rdb";
/// The mode when nothing else is said: the owner and the group.
const DEFAULT_MODE: u32 = 0o660;
/// The mode while it is not clear whose the socket is.
const CLOSED: u32 = 0o600;

/// Who may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Askers {
    /// A group's name or number; none for [`DEFAULT_GROUP`], and the daemon's own where that is not known.
    pub(crate) group: Option<String>,
    /// The file's mode.
    pub(crate) mode: Mode,
}

/// `questions-mode`: octal digits, as `chmod` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Mode(u32);

impl Default for Mode {
    fn default() -> Mode {
        Mode(DEFAULT_MODE)
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Mode, String> {
        let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        match u32::from_str_radix(&text, 8) {
            // To ask, one needs both to read and to write; the owner is the daemon, and root may in any case.
            Ok(mode) if is_octal && matches!(mode, 0o600 | 0o660 | 0o666) => Ok(Mode(mode)),
            _ => Err(format!(
                "questions-mode is \"0600\", \"0660\" or \"0666\", not \"{text}\""
            )),
        }
    }
}

/// Why nobody but the owner can ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskersError {
    #[error("questions-group: there is no group '{0}'")]
    NoGroup(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl Askers {
    /// The number of the group; none if the daemon's own has to do.
    ///
    /// # Errors
    /// If the group that was asked for by name is not there.
    pub(crate) fn group_id(&self) -> Result<Option<u32>, AskersError> {
        match &self.group {
            None => Ok(group::number(DEFAULT_GROUP)),
            Some(name) => match group::number(name).or_else(|| name.parse().ok()) {
                Some(id) => Ok(Some(id)),
                None => Err(AskersError::NoGroup(name.clone())),
            },
        }
    }
}

/// Opens the socket that has just been bound to those who may ask, and to them alone. If that is impossible it is the owner's.
///
/// # Errors
/// If the socket does not work.
pub(crate) fn open(listener: &UnixListener, path: &Path, askers: &Askers) -> io::Result<()> {
    set_mode(path, CLOSED)?;
    if let Err(error) = open_to(path, askers) {
        tracing::error!("{QUESTIONS_NAME}: only root can ask: {error}");
    }
    // Whoever has called before the mode was set may be anybody.
    loop {
        match listener.accept() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn open_to(path: &Path, askers: &Askers) -> Result<(), AskersError> {
    let failed = |source| AskersError::File {
        path: path.to_owned(),
        source,
    };
    if let Some(id) = askers.group_id()? {
        std::os::unix::fs::chown(path, None, Some(id)).map_err(failed)?;
    }
    set_mode(path, askers.mode.0).map_err(failed)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// What the standard library has no functions for.
#[allow(unsafe_code)]
mod group {
    use std::ffi::CString;
    use std::mem::MaybeUninit;
    use std::ptr;

    /// Room for a group's entry, with all its members' names.
    const ROOM: usize = 1 << 20;

    /// The number of the group of this name.
    pub(super) fn number(name: &str) -> Option<u32> {
        let name = CString::new(name).ok()?;
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut room = vec![0; ROOM];
        let mut found = ptr::null_mut();
        // SAFETY: the name ends with a zero byte; entry, room and found are ours to write, and the room's length is given.
        let error = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                room.as_mut_ptr(),
                room.len(),
                &mut found,
            )
        };
        if error != 0 || found.is_null() {
            return None;
        }
        // SAFETY: found is not null, so the entry was filled in.
        Some(unsafe { entry.assume_init() }.gr_gid)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_group_is_a_name_or_a_number_or_the_usual_one() {
        let of = |name: &str| Askers {
            group: Some(name.to_owned()),
            ..Askers::default()
        };
        assert_eq!(of("root").group_id().unwrap(), Some(0));
        assert_eq!(of("54321").group_id().unwrap(), Some(54321));
        let error = of("no-such-group").group_id().unwrap_err().to_string();
        assert_eq!(error, "questions-group: there is no group 'no-such-group'");
        assert_eq!(
            Askers::default().group_id().unwrap(),
            group::number(DEFAULT_GROUP)
        );
    }

    #[test]
    fn a_mode_is_for_the_owner_the_group_or_all() {
        for (text, mode) in [("0600", 0o600), ("0660", 0o660), ("666", 0o666)] {
            assert_eq!(Mode::try_from(text.to_owned()), Ok(Mode(mode)));
        }
        for text in [
            "", "0", "rw", "0777", "0640", "4660", "00660", "+660", "0800",
        ] {
            let error = Mode::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("0660"), "{text}: {error}");
        }
    }

    #[test]
    fn the_socket_has_its_mode_and_a_group_that_is_not_there_opens_it_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(QUESTIONS_NAME);
        let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let _early = UnixStream::connect(&path).unwrap();
        open(&listener, &path, &Askers::default()).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert!(listener.accept().is_err(), "who was too early is out");
        let _client = UnixStream::connect(&path).unwrap();
        assert!(listener.accept().is_ok());
        let nobody = Askers {
            group: Some("no-such-group".to_owned()),
            ..Askers::default()
        };
        open(&listener, &path, &nobody).unwrap();
        assert_eq!(mode(&path), 0o600);
    }
}
