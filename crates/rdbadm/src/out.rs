//! Standard output. A reader that went away is no error: the program ends quietly. One that cannot take what is told, such as a full
//! disk, or none at all, is an error; but what has begun to be done is done to its end first.
//!
//! Texts of other people, such as a configuration's, must not act on the terminal that they are shown on.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit status for usage and communication errors of `drbdsetup`.
pub(crate) const EXIT_COMMUNICATION: u8 = 20;

/// Something is being done that must not end half way because nobody can be told of it. Set by [`work_has_begun`], never cleared.
static AT_WORK: AtomicBool = AtomicBool::new(false);
/// Something could not be told meanwhile. Set by [`print()`]; [`exit_code`] makes the exit status of it.
static UNTOLD: AtomicBool = AtomicBool::new(false);
/// Nobody reads any more. Set by [`print()`]; whatever follows is not written.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// From now on a standard output that takes nothing does not end the program: steps would be left undone.
pub(crate) fn work_has_begun() {
    AT_WORK.store(true, Ordering::Relaxed);
}

/// The exit status of a program whose work has come to this.
pub(crate) fn exit_code(code: u8) -> u8 {
    code.max(UNTOLD.load(Ordering::Relaxed).into())
}

/// Prints text as it is.
pub(crate) fn print(text: &str) {
    if text.is_empty() || UNREAD.load(Ordering::Relaxed) {
        return;
    }
    let mut stdout = io::stdout().lock();
    let written = match is_closed() {
        true => Err("it is closed".to_owned()),
        false => match stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error.to_string()),
            Ok(()) => Ok(true),
        },
    };
    let code = match written {
        Ok(true) => return,
        Ok(false) => 0,
        // A script that has half an answer must not take it for the whole.
        Err(reason) => {
            let reason = reason.split(" (os error").next().unwrap_or_default();
            self::error(&format!("can not write to standard output: {reason}"));
            UNTOLD.store(true, Ordering::Relaxed);
            1
        }
    };
    if !AT_WORK.load(Ordering::Relaxed) {
        std::process::exit(code);
    }
    UNREAD.store(true, Ordering::Relaxed);
}

/// Ends the program if nobody can read what it is about to tell for ever.
pub(crate) fn must_be_open(program: &str) {
    if is_closed() {
        error(&format!("{program}: standard output is closed"));
        std::process::exit(1);
    }
}

/// Whether standard output was closed when the program began: it is the null device since, as the runtime opens it for that.
fn is_closed() -> bool {
    let Ok(found) = rustix::fs::fstat(io::stdout()) else {
        return false;
    };
    let is_null = (found.st_mode & S_IFMT, found.st_rdev) == (S_IFCHR, NULL_DEVICE);
    // (Who sends it there opens that for writing alone.)
    let is_ours = rustix::fs::fcntl_getfl(io::stdout())
        .is_ok_and(|flags| flags.contains(rustix::fs::OFlags::RDWR));
    is_null && is_ours
}

/// The kind of a file among the bits of its mode, and that of a character device.
const S_IFMT: u32 = 0o170_000;
const S_IFCHR: u32 = 0o020_000;
/// The number of `/dev/null`.
const NULL_DEVICE: u64 = 0x103;

/// Prints text that other people have written: as it is into a file or a pipe, and harmless on a terminal.
pub(crate) fn print_written(text: &str) {
    if io::stdout().is_terminal() {
        print(&rdb_config::printable(text));
    } else {
        print(text);
    }
}

/// Whether standard output shows colours: a terminal that can, and nobody who has asked for none
/// (<https://no-color.org>).
pub(crate) fn has_color() -> bool {
    wants_color(
        std::env::var_os("NO_COLOR").as_deref(),
        std::env::var_os("TERM").as_deref(),
    ) && io::stdout().is_terminal()
}

fn wants_color(no_color: Option<&std::ffi::OsStr>, term: Option<&std::ffi::OsStr>) -> bool {
    no_color.is_none_or(std::ffi::OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// Prints one line.
pub(crate) fn line(text: &str) {
    print(&format!("{text}\n"));
}

/// Prints one line to standard error; who does not listen misses it.
pub(crate) fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", rdb_config::printable(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_have_them_and_users_who_want_them() {
        for (no_color, term, wants) in [
            (None, Some("xterm"), true),
            (None, None, true),
            (Some(""), Some("xterm"), true),
            (Some("1"), Some("xterm"), false),
            (None, Some("dumb"), false),
        ] {
            let os = |word: Option<&'static str>| word.map(std::ffi::OsStr::new);
            assert_eq!(
                wants_color(os(no_color), os(term)),
                wants,
                "{no_color:?} {term:?}"
            );
        }
    }
}
