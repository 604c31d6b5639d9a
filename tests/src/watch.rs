//! Watching a node that is under attack: what it served and used before, and that it is the same
//! afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::nbd::Client;
use crate::node::Node;
use crate::{disk, wait_until};

/// What a node uses, and what its disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Of the watched part of its data.
    pub fingerprint: u64,
    /// Bytes of its device.
    pub size: u64,
    /// KiB of memory that are resident.
    pub resident_kib: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Bytes of its log.
    pub log_bytes: usize,
}

/// KiB of a process's memory that are resident.
///
/// # Errors
/// When the process is gone.
pub fn resident_kib(pid: u32) -> Result<u64> {
    status_number(pid, "VmRSS:")
}

/// A number of `/proc/PID/status`.
fn status_number(pid: u32, key: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("no {key}"))?.parse()?)
}

/// What the attack may have done at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest that a user's read took while it went on.
    pub answer: Duration,
    /// KiB that the node may keep of what it took.
    pub kept_kib: u64,
    /// Bytes that it may have logged.
    pub log_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(5),
            kept_kib: 8 << 10,
            log_bytes: 64 << 10,
        }
    }
}

/// Watches a node that is Primary.
#[derive(Debug)]
pub struct Watch {
    before: Facts,
    disk: PathBuf,
    bytes: u64,
    probe: Probe,
}

impl Watch {
    /// Takes the node's facts and sends a user to read a block again and again; `disk` is the file of its
    /// volume 0, of which the first `bytes` are compared.
    ///
    /// # Errors
    /// When the node does not serve.
    pub fn begin(node: &Node, disk: &Path, bytes: u64) -> Result<Self> {
        Ok(Self {
            before: facts(node, disk, bytes)?,
            disk: disk.to_owned(),
            bytes,
            probe: Probe::start(node.nbd(0)?, false)?,
        })
    }

    /// What was found when it began.
    #[must_use]
    pub fn before(&self) -> &Facts {
        &self.before
    }

    /// After the attack, with the peer gone: the node waits for its peer again, users write, nothing has changed,
    /// nothing is suspended, and what the attack made it take has been given back.
    ///
    /// # Errors
    /// With whatever is not so.
    pub fn end(self, node: &mut Node, limits: Limits) -> Result<()> {
        let longest = self.probe.stop()?;
        ensure!(
            longest <= limits.answer,
            "a user's read took {longest:?}\n{}",
            node.log_tail(30)
        );
        serves(node)?;
        let (before, mut last) = (&self.before, String::new());
        wait_until("the node to be as before", Duration::from_secs(15), || {
            let now = facts(node, &self.disk, self.bytes)?;
            ensure!(
                now.fingerprint == before.fingerprint && now.size == before.size,
                "the data changed: {before:?}, now {now:?}"
            );
            last = format!("before {before:?}, now {now:?}");
            Ok(now.resident_kib <= before.resident_kib + limits.kept_kib
                // A dial of the node's own may be under way, and a worker of its runtime.
                && now.descriptors <= before.descriptors + 4
                && now.threads <= before.threads + 2)
        })
        .with_context(|| format!("{last}\n{}", node.log_tail(30)))?;
        let logged = node.log().len() - before.log_bytes;
        ensure!(
            logged <= limits.log_bytes,
            "{logged} bytes were logged\n{}",
            node.log_tail(30)
        );
        node.is_well()
    }
}

/// The block that users read and write.
const PROBE_AT: u64 = 1 << 20;

/// Without its peer the node is Primary, with a good disk, waits for the peer, is not suspended, and a user writes
/// what the block already holds.
///
/// # Errors
/// With the status and the log, when it is not so within 20 seconds.
pub fn serves(node: &mut Node) -> Result<()> {
    node.is_well()?;
    node.await_volume("a Primary that waits for its peer", 20, |volume| {
        volume.cs == "WFConnection"
            && volume.ro.starts_with("Primary/")
            && volume.ds.starts_with("UpToDate/")
            && !volume.is_suspended()
    })?;
    let mut client = node.nbd(0)?;
    let block = client.read(PROBE_AT, 4096)?;
    client.write(PROBE_AT, &block)?;
    client.flush()?;
    node.is_well()
}

fn facts(node: &Node, disk: &Path, bytes: u64) -> Result<Facts> {
    let pid = node.pid().context("no daemon runs")?;
    let threads = status_number(pid, "Threads:")?;
    Ok(Facts {
        fingerprint: disk::fingerprint(disk, bytes)?,
        size: node.nbd(0)?.size(),
        resident_kib: resident_kib(pid)?,
        descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: usize::try_from(threads)?,
        log_bytes: node.log().len(),
    })
}

/// A user in the background, who notes the longest answer.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Duration>>>,
}

impl Probe {
    /// Reads a block every 20 ms; with `writes` it writes what it read back, too.
    ///
    /// # Errors
    /// When the first read fails.
    pub fn start(mut client: Client, writes: bool) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let block = client.read(PROBE_AT, 4096)?;
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !told.load(Ordering::Relaxed) {
                let start = Instant::now();
                ensure!(
                    client.read(PROBE_AT, 4096)? == block,
                    "a user reads something else"
                );
                if writes {
                    client.write(PROBE_AT, &block)?;
                }
                longest = longest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(longest)
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Bids it to stop, and says whether it has: the last turn may wait for a peer that the caller plays.
    pub fn is_done(&self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The longest that one turn took.
    ///
    /// # Errors
    /// When a request failed, or read something else.
    pub fn stop(mut self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it is stopped once")?;
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("the probe panicked"))?
            .context("a user in the background")
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
