//! A writer that remembers what was acknowledged, and checks it afterwards.
//!
//! Every 512-byte sector of a written block names its block and the sequence number of the write.
//! Two writes to one block are never in flight together. So after a crash each block must hold the
//! last acknowledged write, or, sector by sector, that one or the later write that was in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::nbd::Client;
use crate::rng::Rng;

/// Bytes of a block.
pub const BLOCK: usize = 4096;
const SECTOR: usize = 512;

/// What is known of one block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Block {
    /// The last acknowledged write; 0: none, the block is as it was found, zeroes.
    acked: u32,
    /// The last write sent; above `acked` while it is not acknowledged.
    sent: u32,
}

/// What was written to a range of blocks, by one writer after the other.
#[derive(Debug)]
pub struct Model {
    first_block: u64,
    blocks: Vec<Block>,
    /// Blocks in flight at the last mark, or sent since.
    touched: BTreeSet<u64>,
    sequence: u32,
    acknowledged: u64,
}

impl Model {
    /// A range of blocks that hold zeroes.
    #[must_use]
    pub fn new(first_block: u64, count: usize) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            first_block,
            blocks: vec![Block::default(); count],
            touched: BTreeSet::new(),
            sequence: 0,
            acknowledged: 0,
        }))
    }

    /// Forgets which blocks were touched, but for those in flight.
    pub fn mark(&mut self) {
        let first = self.first_block;
        self.touched = (first..)
            .zip(&self.blocks)
            .filter(|(_, block)| block.sent > block.acked)
            .map(|(number, _)| number)
            .collect();
    }

    /// Blocks in flight at the last mark, or sent since.
    #[must_use]
    pub fn touched(&self) -> u64 {
        self.touched.len() as u64
    }

    /// Writes acknowledged in all.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Reads the whole range through a client and checks it.
    ///
    /// # Errors
    /// Names the first block that lost an acknowledged write, or holds something never written.
    pub fn verify(&mut self, client: &mut Client) -> Result<()> {
        const PART: usize = 64;
        let count = self.blocks.len();
        for start in (0..count).step_by(PART) {
            let length = PART.min(count - start);
            let offset = (self.first_block + start as u64) * BLOCK as u64;
            let data = client.read(offset, length * BLOCK)?;
            for (index, bytes) in data.chunks(BLOCK).enumerate() {
                self.check(start + index, bytes)?;
            }
        }
        Ok(())
    }

    fn check(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        let number = self.first_block + index as u64;
        let block = &mut self.blocks[index];
        let mut seen = BTreeSet::new();
        for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
            let Some(sequence) = sequence_of(number, sector, bytes) else {
                bail!(
                    "block {number}, sector {sector} holds something never written there \
                     ({:02x?}...); acknowledged {}, sent {}",
                    &bytes[..24],
                    block.acked,
                    block.sent
                );
            };
            if sequence != block.acked && sequence != block.sent {
                bail!(
                    "block {number}, sector {sector} holds write {sequence}; acknowledged was \
                     {}, in flight {}",
                    block.acked,
                    block.sent
                );
            }
            seen.insert(sequence);
        }
        // What has been read back whole is what the block holds from now on.
        if let (1, Some(&sequence)) = (seen.len(), seen.first()) {
            *block = Block {
                acked: sequence,
                sent: sequence,
            };
        }
        Ok(())
    }
}

/// The content of a sector that write `sequence` leaves; write 0 is the empty disk.
fn fill(number: u64, sector: usize, sequence: u32, bytes: &mut [u8]) {
    if sequence == 0 {
        bytes.fill(0);
        return;
    }
    let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(sequence) << 20;
    let mut rng = Rng::new(seed ^ sector as u64);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&rng.next_u64().to_be_bytes());
    }
    bytes[..8].copy_from_slice(b"rdb-test");
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    bytes[16..20].copy_from_slice(&sequence.to_be_bytes());
}

/// Which write of this block a sector holds, if it is one, whole.
fn sequence_of(number: u64, sector: usize, bytes: &[u8]) -> Option<u32> {
    let sequence = if bytes.starts_with(b"rdb-test") {
        u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]])
    } else {
        0
    };
    let mut expected = [0; SECTOR];
    fill(number, sector, sequence, &mut expected);
    (bytes == expected).then_some(sequence)
}

/// How a load writes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Requests in flight.
    pub depth: usize,
    /// Blocks in one request, at most.
    pub blocks_max: usize,
    /// Pause after each acknowledgement.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            depth: 8,
            blocks_max: 4,
            pause: Duration::ZERO,
        }
    }
}

/// A writer at work in a thread of its own.
#[derive(Debug)]
pub struct Load {
    model: Arc<Mutex<Model>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts to write random blocks of the model through the socket.
    ///
    /// # Errors
    /// When the connection cannot be made.
    pub fn start(
        socket: &Path,
        export: &str,
        model: &Arc<Mutex<Model>>,
        seed: u64,
        pace: Pace,
    ) -> Result<Self> {
        let client = Client::connect(socket, export)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, flag) = (Arc::clone(model), Arc::clone(&stop));
        let thread = std::thread::spawn(move || write_until(client, &shared, &flag, seed, pace));
        Ok(Self {
            model: Arc::clone(model),
            stop,
            thread: Some(thread),
        })
    }

    /// The model, shared with the thread.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    /// Waits until so many more writes are acknowledged.
    ///
    /// # Errors
    /// When they are not within a minute, or the writer ended.
    pub fn progress(&self, writes: u64) -> Result<()> {
        let (from, start) = (self.model().acknowledged, Instant::now());
        while self.model().acknowledged < from + writes {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                bail!("the writer ended");
            }
            if start.elapsed() > Duration::from_secs(60) {
                bail!("{writes} writes were not acknowledged within a minute");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends it after the requests in flight.
    ///
    /// # Errors
    /// When a request was refused or the connection lost.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits for the end that the loss of the server brings.
    ///
    /// # Errors
    /// When the writer ended without losing the connection: a request was refused, for example.
    pub fn lost(mut self) -> Result<()> {
        match self.join() {
            Ok(()) => bail!("the writer was not cut off"),
            Err(error) if error.downcast_ref::<std::io::Error>().is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn join(&mut self) -> Result<()> {
        let thread = self.thread.take().context("the writer was joined before")?;
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write_until(
    mut client: Client,
    shared: &Mutex<Model>,
    stop: &AtomicBool,
    seed: u64,
    pace: Pace,
) -> Result<()> {
    let mut rng = Rng::new(seed);
    // handle -> first index, count, sequence
    let mut flying: BTreeMap<u64, (usize, usize, u32)> = BTreeMap::new();
    loop {
        while flying.len() < pace.depth && !stop.load(Ordering::Relaxed) {
            let Some((index, count, sequence, offset, data)) =
                next_write(&mut lock(shared), &mut rng, pace, &flying)
            else {
                break;
            };
            let handle = client.send_write(offset, &data, 0)?;
            flying.insert(handle, (index, count, sequence));
        }
        if flying.is_empty() {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            continue;
        }
        let reply = client.reply()?;
        let (index, count, sequence) = flying
            .remove(&reply.handle)
            .context("a reply to nothing that was asked")?;
        if reply.error != 0 {
            bail!("a write was refused with NBD error {}", reply.error);
        }
        let mut model = lock(shared);
        for block in &mut model.blocks[index..index + count] {
            block.acked = sequence;
        }
        model.acknowledged += 1;
        drop(model);
        if !pace.pause.is_zero() {
            std::thread::sleep(pace.pause);
        }
    }
}

type NextWrite = (usize, usize, u32, u64, Vec<u8>);

/// Chooses blocks that are not in flight and enters the write into the model.
fn next_write(
    model: &mut Model,
    rng: &mut Rng,
    pace: Pace,
    flying: &BTreeMap<u64, (usize, usize, u32)>,
) -> Option<NextWrite> {
    let total = model.blocks.len();
    let count = (1 + usize::try_from(rng.below(pace.blocks_max as u64)).ok()?).min(total);
    let index = usize::try_from(rng.below((total - count + 1) as u64)).ok()?;
    if flying
        .values()
        .any(|&(other, length, _)| index < other + length && other < index + count)
    {
        return None;
    }
    model.sequence += 1;
    let sequence = model.sequence;
    let first = model.first_block + index as u64;
    let mut data = vec![0; count * BLOCK];
    for (number, block) in (first..).zip(data.chunks_mut(BLOCK)) {
        for (sector, bytes) in block.chunks_mut(SECTOR).enumerate() {
            fill(number, sector, sequence, bytes);
        }
    }
    for (number, block) in (first..).zip(&mut model.blocks[index..index + count]) {
        block.sent = sequence;
        model.touched.insert(number);
    }
    Some((index, count, sequence, first * BLOCK as u64, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, sequence: u32) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK];
        for (sector, bytes) in bytes.chunks_mut(SECTOR).enumerate() {
            fill(number, sector, sequence, bytes);
        }
        bytes
    }

    #[test]
    fn only_what_was_acknowledged_or_in_flight_is_accepted() -> Result<()> {
        let shared = Model::new(10, 2);
        let mut model = lock(&shared);
        model.check(0, &block(10, 0))?;
        model.blocks[0] = Block { acked: 3, sent: 5 };
        model.check(0, &[&block(10, 3)[..2048], &block(10, 5)[2048..]].concat())?;
        assert!(
            model.check(0, &block(10, 4)).is_err(),
            "an old or foreign write"
        );
        assert!(
            model.check(0, &block(10, 0)).is_err(),
            "an acknowledged write is lost"
        );
        assert!(
            model.check(0, &block(11, 3)).is_err(),
            "another block's content"
        );
        let mut damaged = block(10, 3);
        damaged[700] ^= 1;
        assert!(model.check(0, &damaged).is_err(), "a flipped bit");
        model.check(0, &block(10, 5))?;
        assert!(
            model.check(0, &block(10, 3)).is_err(),
            "what was read once must stay"
        );
        Ok(())
    }
}
