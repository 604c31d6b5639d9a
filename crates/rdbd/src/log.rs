//! The log: lines on standard error, written by a thread of their own.
//!
//! Nobody waits for whoever reads the log. The threads of the data plane log too, and a pipe that nobody empties, or
//! that nobody reads any more, must not stop or end them: lines wait in a queue with a bound, those beyond it are
//! counted and left out, and an error of the write itself is nobody's concern.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::open_files;
use crate::rotate::Rotating;

/// Lines that may wait for the reader of the log.
const LINES_MAX: usize = 4096;
/// How long the end of the daemon waits for the last lines to be taken.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The way into the queue.
#[derive(Clone)]
struct Queue {
    lines: SyncSender<Line>,
    left_out: Arc<AtomicU64>,
    /// Each line begins with its priority, which the journal takes off and keeps.
    has_priorities: bool,
}

enum Line {
    Text(Vec<u8>),
    /// Answered when all before it is written.
    Flush(SyncSender<()>),
}

/// One line being made; it is queued when it is dropped.
struct Writer {
    queue: Queue,
    text: Vec<u8>,
}

/// The log, until it is dropped: that waits, not for long, until the last line is written.
pub(crate) struct Log(Queue);

impl Log {
    /// Starts the log of the process. The journal adds the time itself, and hears the priority of each line; a file of ours is
    /// kept small.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(level: Level, run_dir: &Path) -> io::Result<(Log, SetLevel)> {
        let is_journal = goes_to_journal();
        let queue = Queue::to(Rotating::stderr(run_dir), is_journal)?;
        let log = tracing_subscriber::fmt()
            .with_writer(queue.clone())
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            // It would tell standard error of errors of standard error, and panic when that fails too.
            .log_internal_errors(false);
        let set_level: SetLevel = if is_journal {
            let log = log.without_time().with_env_filter(filter(level));
            let log = log.with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |level| _ = handle.reload(filter(level)))
        } else {
            let log = log.with_env_filter(filter(level)).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |level| _ = handle.reload(filter(level)))
        };
        Ok((Log(queue), set_level))
    }
}

/// Changes how much is logged.
pub(crate) type SetLevel = Box<dyn Fn(Level)>;

fn filter(level: Level) -> EnvFilter {
    EnvFilter::new(level.as_str())
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        if self.0.lines.try_send(Line::Flush(done)).is_ok() {
            // If it takes longer, nobody reads.
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl Queue {
    fn to(out: impl Write + Send + 'static, has_priorities: bool) -> io::Result<Queue> {
        let (lines, queued) = sync_channel(LINES_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&left_out);
        std::thread::Builder::new()
            .name("rdbd-log".into())
            .spawn(move || write_lines(&queued, &counted, out))
            .map_err(|error| io::Error::other(rdb_runtime::no_thread(&error)))?;
        Ok(Queue {
            lines,
            left_out,
            has_priorities,
        })
    }
}

fn write_lines(queued: &Receiver<Line>, left_out: &AtomicU64, mut out: impl Write) {
    while let Ok(line) = queued.recv() {
        match line {
            // A line that cannot be written is lost: there is nobody to tell.
            Line::Text(text) => drop(out.write_all(&text)),
            Line::Flush(done) => drop(done.try_send(())),
        }
        let count = left_out.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = writeln!(
                out,
                "rdbd: the log was not read in time: {count} lines are left out"
            );
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        Writer {
            queue: self.clone(),
            text: Vec::with_capacity(160),
        }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Writer {
        let mut writer = self.make_writer();
        if self.has_priorities {
            writer.text.extend_from_slice(priority(*of.level()));
        }
        writer
    }
}

/// What syslog calls the level, as the journal reads it (`sd-daemon(3)`).
fn priority(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        _ => b"<7>",
    }
}

/// Whether standard error is the journal's stream, whose device and inode systemd tells: the variable alone says nothing of a
/// daemon whose output somebody has sent elsewhere.
fn goes_to_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let Ok(about) = stderr.and_then(|stderr| stderr.metadata()) else {
        return false;
    };
    stream.to_str() == Some(&format!("{}:{}", about.dev(), about.ino()))
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let text = on_one_line(std::mem::take(&mut self.text));
        let text = match std::str::from_utf8(&text) {
            Ok(words) if open_files::are_short(words) => {
                open_files::named(words).into_owned().into_bytes()
            }
            _ => text,
        };
        if !text.is_empty() && self.queue.lines.try_send(Line::Text(text)).is_err() {
            self.queue.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The text without ends of line but the last: what follows one would look like a line of its own, and part of the text may be
/// somebody else's.
fn on_one_line(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.len() - usize::from(text.ends_with(b"\n"));
    if !text[..end].iter().any(|byte| b"\r\n".contains(byte)) {
        return text;
    }
    let rest = text.split_off(end);
    let escape = |byte: u8| match byte {
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        other => vec![other],
    };
    let mut line: Vec<u8> = text.into_iter().flat_map(escape).collect();
    line.extend(rest);
    line
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Takes a byte string when it is told to.
    struct Slow(Receiver<()>, std::sync::mpsc::Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up_and_says_what_is_missing() {
        let (go, wait) = channel();
        let (out, said) = channel();
        let queue = Queue::to(Slow(wait, out), false).expect("a thread");
        for index in 0..LINES_MAX * 2 {
            writeln!(queue.make_writer(), "{index}").expect("it is queued or counted");
        }
        let missing = queue.left_out.load(Ordering::Relaxed);
        // One may be with the thread already.
        assert!(
            (LINES_MAX as u64 - 1..=LINES_MAX as u64).contains(&missing),
            "{missing}"
        );
        for _ in 0..LINES_MAX + 8 {
            go.send(()).expect("the thread lives");
        }
        let mut all = Vec::new();
        while let Ok(line) = said.recv_timeout(Duration::from_secs(5)) {
            all.extend(line);
            if all.windows(8).any(|seen| seen == b"left out") {
                break;
            }
        }
        let all = String::from_utf8(all).expect("text");
        assert!(all.starts_with("0\n"), "{}", &all[..20]);
        assert!(
            all.contains(&format!("{missing} lines are left out")),
            "it says how many"
        );
    }

    #[test]
    fn what_is_logged_at_once_is_one_line() {
        let line = |text: &[u8]| on_one_line(text.to_vec());
        assert_eq!(line(b""), b"");
        assert_eq!(line(b"a word\n"), b"a word\n");
        assert_eq!(line(b"\n"), b"\n");
        assert_eq!(line(b"a\nFAKE\r\n"), b"a\\nFAKE\\r\n");
        assert_eq!(line(b"a\nb"), b"a\\nb");
    }

    #[test]
    fn the_journal_hears_how_grave_a_line_is() {
        let (go, wait) = channel();
        let (out, said) = channel();
        let queue = Queue::to(Slow(wait, out), true).expect("a thread");
        let log = tracing_subscriber::fmt()
            .with_writer(queue)
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::error!("split brain");
            tracing::warn!("slow");
            tracing::info!("Connected");
        });
        for expected in [
            "<3>ERROR split brain\n",
            "<4> WARN slow\n",
            "<6> INFO Connected\n",
        ] {
            go.send(()).expect("the thread lives");
            let line = said.recv_timeout(Duration::from_secs(5)).expect("a line");
            assert_eq!(String::from_utf8(line).expect("text"), expected);
        }
    }

    #[test]
    fn a_log_that_cannot_be_written_goes_on() {
        let (go, wait) = channel::<()>();
        drop(go);
        let (out, _said) = channel();
        let queue = Queue::to(Slow(wait, out), false).expect("a thread");
        for _ in 0..10 {
            writeln!(queue.make_writer(), "lost").expect("queued");
        }
        drop(Log(queue));
    }
}
