//! The limit of open files, named wherever it is met.
//!
//! Every part of the daemon opens files, and the system's words for the limit name neither it nor its value. They are completed where
//! texts leave the daemon: in the log, in answers, in reasons.

use std::borrow::Cow;

/// `EMFILE` and `ENFILE`, as the standard library has them.
const OF_PROCESS: &str = "Too many open files (os error 24)";
const OF_SYSTEM: &str = "Too many open files in system (os error 23)";

/// What helps against either.
pub(crate) const ADVICE: &str = "give rdbd more open files: LimitNOFILE of its systemd unit, 'ulimit -n' in a shell, or the system more: \
                                 fs.file-max; it goes on by itself then";

/// Whether a text is about such a limit.
pub(crate) fn are_short(text: &str) -> bool {
    text.contains("Too many open files")
}

/// The text, with the limits named.
pub(crate) fn named(text: &str) -> Cow<'_, str> {
    if !are_short(text) {
        return Cow::Borrowed(text);
    }
    let limit = rdb_runtime::open_files_limit().map_or("unknown".to_owned(), |n| n.to_string());
    let of_process = format!("Too many open files: the limit is {limit} (ulimit -n, LimitNOFILE)");
    let of_system = "Too many open files in the whole system: see fs.file-max";
    Cow::Owned(
        text.replace(OF_PROCESS, &of_process)
            .replace(OF_SYSTEM, of_system),
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_limit_is_named_where_the_system_names_none() {
        let own = named(&format!(
            "/a: {}",
            io::Error::from_raw_os_error(libc::EMFILE)
        ))
        .into_owned();
        let limit = rdb_runtime::open_files_limit().unwrap();
        assert_eq!(
            own,
            format!("/a: Too many open files: the limit is {limit} (ulimit -n, LimitNOFILE)")
        );
        let system = named(&io::Error::from_raw_os_error(libc::ENFILE).to_string()).into_owned();
        assert!(system.ends_with("see fs.file-max"), "{system}");
        assert_eq!(named("nothing of the kind"), "nothing of the kind");
    }
}
