//! The log file that a daemon started by `rdbadm` writes, `RUN/rdbd.log`: it is ours, so it is kept small. What goes elsewhere, to the
//! journal or to a file that somebody has named, is for others to keep.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::streams;

/// Its name in the run directory.
const NAME: &str = "rdbd.log";
/// Bytes of the file at which it becomes `rdbd.log.1`, in the place of the one before, and a new one begins.
const LIMIT: u64 = 16 << 20;

/// Standard error, which is the log file if there is one of ours.
pub(crate) struct Rotating<W> {
    out: W,
    /// The file, if it is ours.
    file: Option<PathBuf>,
    /// Its bytes, as far as they are known.
    length: u64,
    limit: u64,
    /// Makes `out` write to a new file of this name.
    begin: fn(&Path) -> io::Result<()>,
}

impl Rotating<io::Stderr> {
    /// Standard error of a daemon with this run directory.
    pub(crate) fn stderr(run_dir: &Path) -> Self {
        let ours = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name == NAME)
                && path.parent().and_then(|parent| parent.canonicalize().ok())
                    == run_dir.canonicalize().ok()
        };
        let file = streams::log_file().filter(ours);
        let length = file.as_deref().map_or(0, length_of);
        Rotating {
            out: io::stderr(),
            file,
            length,
            limit: LIMIT,
            begin: streams::log_to,
        }
    }
}

impl<W: Write> Rotating<W> {
    /// Puts the file aside. One that cannot be goes on to grow, and is tried again after as much again.
    fn rotate(&mut self, path: &Path) {
        let mut old = path.as_os_str().to_owned();
        old.push(".1");
        let done = std::fs::rename(path, &old).and_then(|()| (self.begin)(path));
        if let Err(error) = done {
            let _ = writeln!(
                self.out,
                "rdbd: {} is not put aside: {error}",
                path.display()
            );
        }
        self.length = 0;
    }
}

fn length_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |about| about.len())
}

impl<W: Write> Write for Rotating<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.length += written as u64;
        if self.length > self.limit
            && bytes
                .get(..written)
                .is_some_and(|text| text.ends_with(b"\n"))
            && let Some(path) = self.file.clone()
        {
            self.rotate(&path);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    /// Writes to whatever file has the name now, as a descriptor that is replaced does.
    struct ByName(PathBuf);

    impl Write for ByName {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut options = OpenOptions::new();
            options.append(true).open(&self.0)?.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_log_file_is_put_aside_when_it_is_long_and_no_line_is_lost() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(NAME);
        std::fs::write(&path, "").expect("written");
        let mut log = Rotating {
            out: ByName(path.clone()),
            file: Some(path.clone()),
            length: 0,
            limit: 100,
            begin: |path| std::fs::write(path, ""),
        };
        let line = |n: u32| format!("line {n:04} of the log\n");
        for n in 0..15 {
            log.write_all(line(n).as_bytes()).expect("written");
        }
        let read = |path: &Path| std::fs::read_to_string(path).expect("readable");
        let old = read(&dir.path().join("rdbd.log.1"));
        let all = old.clone() + &read(&path);
        assert!(old.len() <= 100 + line(0).len(), "{old}");
        let last: String = (15 - all.lines().count() as u32..15).map(line).collect();
        assert_eq!(all, last, "the last lines, in order");
        assert!(all.len() > 100);
    }

    #[test]
    fn a_file_of_others_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("theirs");
        std::fs::write(&path, "").expect("written");
        let mut log = Rotating {
            out: ByName(path.clone()),
            file: None,
            length: 0,
            limit: 10,
            begin: |_| panic!("nothing begins"),
        };
        for _ in 0..5 {
            log.write_all(b"a line of the log\n").expect("written");
        }
        assert_eq!(length_of(&path), 90);
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1);
    }
}
