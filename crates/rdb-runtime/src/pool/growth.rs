//! Which chunks of the arena are there. A reserve that others need begins with one, so that whatever the memory of the machine is like, one
//! piece of any size can be had, and what holds it ends by itself: that is why writes go on when memory is short. The others
//! are made resident by a helper thread when pieces are wanted that are not there, and go back to the system when no one has
//! used them for a while. The thread of the resource itself never waits for memory.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use crate::process::lock_essential;

use super::{Buf, CHUNK_PAGES, ORDERS, PAGE_BYTES, Pool, RESERVES};

/// Chunks that each reserve always has, in the order of their numbers. Those that have none share with another one until theirs
/// come.
const BASE_CHUNKS: [usize; RESERVES] = [1, 1, 0, 1, 0];
const BASE_IN_ALL: usize = 3;
/// After memory was refused, how long until it is asked for again.
const REFUSED: Duration = Duration::from_secs(1);
/// `MADV_POPULATE_WRITE` of madvise(2), Linux 5.14: makes pages resident without changing them.
const MADV_POPULATE_WRITE: libc::c_int = 23;
/// `MADV_DONTNEED_LOCKED` of madvise(2), Linux 5.18.
const MADV_DONTNEED_LOCKED: libc::c_int = 24;
const CHUNK_BYTES: usize = CHUNK_PAGES * PAGE_BYTES;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It has no memory.
    Absent,
    /// A helper makes it resident.
    Asked,
    /// It is resident, and its pieces are given out.
    Ready,
}

/// The chunks of an arena.
pub(super) struct Chunks {
    states: Box<[Cell<State>]>,
    /// Whether a chunk is registered with the ring, as the buffer `first_slot` and its own number.
    registered: Box<[Cell<bool>]>,
    first_slot: Cell<u16>,
    /// Somebody wanted a piece of this reserve and got none.
    wanted: [Cell<bool>; RESERVES],
    refused: Cell<Option<Instant>>,
}

impl Chunks {
    pub(super) fn new(count: usize) -> Chunks {
        Chunks {
            states: (0..count).map(|_| Cell::new(State::Absent)).collect(),
            registered: (0..count).map(|_| Cell::new(false)).collect(),
            first_slot: Cell::new(0),
            wanted: [const { Cell::new(false) }; RESERVES],
            refused: Cell::new(None),
        }
    }

    pub(super) fn want(&self, reserve: usize) {
        self.wanted[reserve].set(true);
    }

    pub(super) fn slot(&self, chunk: usize) -> Option<u16> {
        let first = self.first_slot.get();
        self.registered[chunk].get().then(|| first + chunk as u16)
    }
}

/// Chunks that are to be made resident; any thread can do it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// Where the arena begins, which also says which one is meant.
    arena: usize,
    reserve: usize,
    first: usize,
    count: usize,
}

impl Growth {
    /// Makes them resident, however long that takes. An arena that has ended meanwhile does no harm: no content is changed.
    pub(crate) fn populate(&self) -> io::Result<()> {
        populate(
            self.arena + self.first * CHUNK_BYTES,
            self.count * CHUNK_BYTES,
        )
    }
}

/// Makes mapped pages resident. Older kernels do it when a page is first used.
fn populate(address: usize, bytes: usize) -> io::Result<()> {
    // SAFETY: the advice changes no content of whatever is mapped there, and fails if nothing is.
    let result = unsafe { libc::madvise(address as *mut libc::c_void, bytes, MADV_POPULATE_WRITE) };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        error => Err(error),
    }
}

impl Pool {
    /// Chunks of all reserves together, there or not.
    pub(crate) fn chunk_count(&self) -> usize {
        self.chunks.states.len()
    }

    /// What of the reserve is there, in bytes.
    pub(super) fn resident_bytes(&self, reserve: usize) -> usize {
        let ready = |chunk: &usize| self.chunks.states[*chunk].get() == State::Ready;
        self.chunks_of(reserve).filter(ready).count() * CHUNK_BYTES
    }

    fn chunks_of(&self, reserve: usize) -> std::ops::Range<usize> {
        self.bounds[reserve] / CHUNK_PAGES..self.bounds[reserve + 1] / CHUNK_PAGES
    }

    /// Makes what every reserve begins with resident.
    pub(super) fn populate_base(&self) -> io::Result<()> {
        for (reserve, base) in BASE_CHUNKS.into_iter().enumerate() {
            for chunk in self.chunks_of(reserve).take(base) {
                populate(
                    self.base.as_ptr() as usize + chunk * CHUNK_BYTES,
                    CHUNK_BYTES,
                )?;
                lock_essential(self.chunk_address(chunk), CHUNK_BYTES);
                self.add(reserve, chunk);
            }
        }
        Ok(())
    }

    fn add(&self, reserve: usize, chunk: usize) {
        self.chunks.states[chunk].set(State::Ready);
        let page = (chunk * CHUNK_PAGES) as u32;
        self.lists.borrow_mut().push(reserve, ORDERS - 1, page);
    }

    /// The next chunks that somebody waits for: as many as the reserve has already, so that it grows quickly. They are asked
    /// for once; the caller passes what became of them to [`Pool::grown`].
    pub(crate) fn growth(&self) -> Option<Growth> {
        if let Some(since) = self.chunks.refused.get()
            && since.elapsed() < REFUSED
        {
            return None;
        }
        (0..RESERVES).find_map(|reserve| {
            let chunks = self.chunks_of(reserve);
            let state = |chunk: usize| self.chunks.states[chunk].get();
            let asked = chunks.clone().any(|chunk| state(chunk) == State::Asked);
            if asked || !self.chunks.wanted[reserve].replace(false) {
                return None;
            }
            let first = chunks
                .clone()
                .find(|&chunk| state(chunk) == State::Absent)?;
            let ready = chunks.clone().filter(|&chunk| state(chunk) == State::Ready);
            let absent = |chunk: &usize| state(*chunk) == State::Absent;
            let count = (first..chunks.end)
                .take(ready.count().max(1))
                .take_while(absent)
                .count();
            for chunk in first..first + count {
                self.chunks.states[chunk].set(State::Asked);
            }
            Some(Growth {
                arena: self.base.as_ptr() as usize,
                reserve,
                first,
                count,
            })
        })
    }

    /// Takes chunks into use, or notes that there is no memory for them. What is new.
    pub(crate) fn grown(&self, growth: &Growth, result: &io::Result<()>) -> std::ops::Range<usize> {
        let chunks = growth.first..growth.first + growth.count;
        if growth.arena != self.base.as_ptr() as usize {
            return 0..0; // of an arena before this one
        }
        if result.is_err() {
            for chunk in chunks {
                self.chunks.states[chunk].set(State::Absent);
            }
            self.chunks.refused.set(Some(Instant::now()));
            self.chunks.want(growth.reserve);
            return 0..0;
        }
        self.chunks.refused.set(None);
        for chunk in chunks.clone() {
            self.add(growth.reserve, chunk);
        }
        self.released[growth.reserve].set(true);
        chunks
    }

    /// Takes chunks out of use that nobody has needed since the last call, but never the first ones. The caller makes the
    /// ring forget them, and calls [`Pool::give_to_system`] for each.
    pub(crate) fn take_idle(&self) -> Vec<usize> {
        let mut idle = Vec::new();
        let mut lists = self.lists.borrow_mut();
        for (reserve, base) in BASE_CHUNKS.into_iter().enumerate() {
            let mut spare = lists.least_whole(reserve);
            let chunks = self.chunks_of(reserve);
            let base_end = chunks.start + base;
            for chunk in (base_end..chunks.end).rev() {
                if spare == 0 {
                    break;
                }
                let page = (chunk * CHUNK_PAGES) as u32;
                let is_ready = self.chunks.states[chunk].get() == State::Ready;
                if is_ready && lists.is_whole(page) {
                    lists.unlink(reserve, ORDERS - 1, page);
                    self.chunks.states[chunk].set(State::Asked);
                    idle.push(chunk);
                    spare -= 1;
                }
            }
            lists.note_whole(reserve);
        }
        idle
    }

    /// Gives the memory of a chunk that is out of use back to the system, or takes it into use again.
    pub(crate) fn give_to_system(&self, chunk: usize) {
        let address = self.chunk_address(chunk);
        // SAFETY: the chunk belongs to the mapping made in `new`, nobody has a piece of it, and its content is arbitrary.
        let advise = |advice| unsafe { libc::madvise(address.cast(), CHUNK_BYTES, advice) == 0 };
        if advise(MADV_DONTNEED_LOCKED) || advise(libc::MADV_DONTNEED) {
            self.chunks.states[chunk].set(State::Absent);
            return;
        }
        let of_it = |reserve: &usize| self.chunks_of(*reserve).contains(&chunk);
        if let Some(reserve) = (0..RESERVES).find(of_it) {
            self.add(reserve, chunk);
        }
    }

    /// Whether it has more than it began with.
    pub(crate) fn has_grown(&self) -> bool {
        let ready = |state: &&Cell<State>| state.get() == State::Ready;
        self.chunks.states.iter().filter(ready).count() > BASE_IN_ALL
    }

    fn chunk_address(&self, chunk: usize) -> *mut u8 {
        // SAFETY: chunks are numbered within the mapping.
        unsafe { self.base.as_ptr().add(chunk * CHUNK_BYTES) }
    }

    // ---- the ring's table of buffers ------------------------------------------------------------------------------------

    /// Takes note that its chunks have their places in the ring's table from here on.
    pub(crate) fn set_first_slot(&self, slot: u16) {
        self.chunks.first_slot.set(slot);
    }

    /// The chunks that are resident.
    pub(crate) fn resident(&self) -> impl Iterator<Item = usize> + '_ {
        let ready = |chunk: &usize| self.chunks.states[*chunk].get() == State::Ready;
        (0..self.chunk_count()).filter(ready)
    }

    /// A chunk, to be registered in the place that comes with it.
    pub(crate) fn as_iovec(&self, chunk: usize) -> (u16, libc::iovec) {
        let iovec = libc::iovec {
            iov_base: self.chunk_address(chunk).cast(),
            iov_len: CHUNK_BYTES,
        };
        (self.chunks.first_slot.get() + chunk as u16, iovec)
    }

    /// Takes note whether the ring has it registered.
    pub(crate) fn set_registered(&self, chunk: usize, is: bool) -> bool {
        self.chunks.registered[chunk].replace(is)
    }

    /// Everything at once, as a pool of a test that has no helper.
    #[cfg(test)]
    pub(crate) fn grow_whole(&self) {
        loop {
            for reserve in 0..RESERVES {
                self.chunks.want(reserve);
            }
            let Some(growth) = self.growth() else { return };
            self.grown(&growth, &growth.populate());
        }
    }
}

impl Buf {
    /// Which registered buffer of the ring it lies in, if it does.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.pool.chunks.slot(self.page as usize / CHUNK_PAGES)
    }
}

/// Zeroes to be written. They cost no memory: all pages of them are the system's one page of zeroes.
pub(crate) struct Zeroes {
    base: *mut u8,
}

impl Zeroes {
    /// Bytes of it: 1 MiB.
    pub(crate) const BYTES: usize = CHUNK_BYTES;

    /// Maps it.
    pub(crate) fn new() -> io::Result<Zeroes> {
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::BYTES,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Zeroes { base: base.cast() })
    }

    /// Where they begin. They can only be read.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.base
    }
}

impl Drop for Zeroes {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nobody else has.
        unsafe { libc::munmap(self.base.cast(), Self::BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PoolSize, Reserve};
    use super::*;

    fn pool() -> std::rc::Rc<Pool> {
        let size = PoolSize::for_max_buffers(2048);
        Pool::new(size).expect("memory")
    }

    /// Resident pages of the arena, by the kernel's word.
    fn resident(pool: &Pool) -> usize {
        let pages = pool.bytes / PAGE_BYTES;
        let mut of = vec![0_u8; pages];
        // SAFETY: `of` has a byte for each page of the mapping.
        let result =
            unsafe { libc::mincore(pool.base.as_ptr().cast(), pool.bytes, of.as_mut_ptr()) };
        assert_eq!(result, 0);
        of.iter().filter(|&&byte| byte & 1 == 1).count()
    }

    fn grow(pool: &Pool) -> usize {
        let Some(growth) = pool.growth() else {
            return 0;
        };
        pool.grown(&growth, &growth.populate()).len()
    }

    #[test]
    fn an_idle_arena_has_what_writes_and_reads_need() {
        let pool = pool();
        assert_eq!(resident(&pool), BASE_IN_ALL * CHUNK_PAGES);
        assert!(pool.growth().is_none(), "nobody wants more");
        assert!(!pool.has_grown());
        assert_eq!(pool.take_idle(), Vec::<usize>::new());
        assert_eq!(BASE_CHUNKS.iter().sum::<usize>(), BASE_IN_ALL);
    }

    #[test]
    fn a_reserve_without_memory_shares_until_it_has_some() {
        let pool = pool();
        let shared = pool.take_for_peer(1 << 20);
        assert!(shared.is_some(), "of what users read into");
        assert!(pool.take(Reserve::Read, 4096).is_none());
        assert!(pool.take_for_peer(4096).is_none(), "no more than that");
        while grow(&pool) > 0 {}
        let own: Vec<_> = std::iter::from_fn(|| pool.take_for_peer(1 << 20)).collect();
        assert!(!own.is_empty());
        let user = pool.take(Reserve::Read, 1 << 20);
        assert!(user.is_some(), "its own is full, theirs is not");
    }

    #[test]
    fn who_finds_nothing_gets_twice_as_much() {
        let pool = pool();
        let mut held = Vec::new();
        for grown in [1, 2, 4, 0] {
            held.extend(std::iter::from_fn(|| pool.take(Reserve::Receive, 1 << 20)));
            pool.take_released(Reserve::Receive);
            assert_eq!(grow(&pool), grown);
            assert_eq!(pool.take_released(Reserve::Receive), grown > 0);
        }
        assert_eq!(held.len(), 8);
        assert_eq!(resident(&pool), (8 + BASE_IN_ALL - 1) * CHUNK_PAGES);
    }

    #[test]
    fn what_nobody_needs_goes_back_and_comes_again() {
        let pool = pool();
        pool.grow_whole();
        assert_eq!(
            pool.take_idle(),
            Vec::<usize>::new(),
            "nobody has looked yet"
        );
        let held: Vec<_> = (0..3)
            .filter_map(|_| pool.take(Reserve::Read, 1 << 20))
            .collect();
        let all = pool.chunk_count();
        // Whatever was in use at some time since the last look stays.
        let idle = pool.take_idle();
        assert_eq!(idle.len(), all - BASE_IN_ALL - 3);
        for chunk in idle {
            pool.give_to_system(chunk);
        }
        drop(held);
        assert!(pool.has_grown());
        let (at_once, later) = (pool.take_idle(), pool.take_idle());
        // The three were in use until now, one besides was not.
        assert_eq!((at_once.len(), later.len()), (1, 2));
        for chunk in at_once.into_iter().chain(later) {
            pool.give_to_system(chunk);
        }
        assert_eq!(resident(&pool), BASE_IN_ALL * CHUNK_PAGES);
        assert!(!pool.has_grown());
        let held: Vec<_> = std::iter::from_fn(|| pool.take(Reserve::Read, 4096)).collect();
        assert_eq!(held.len(), CHUNK_PAGES);
        assert_eq!(grow(&pool), 1);
        assert!(pool.take(Reserve::Read, 1 << 20).is_some());
    }

    #[test]
    fn without_memory_it_goes_on_with_what_it_has() {
        let pool = pool();
        let one = pool.take(Reserve::FrontEnd, 1 << 20);
        assert!(one.is_some() && pool.take(Reserve::FrontEnd, 4096).is_none());
        let growth = pool.growth().expect("wanted");
        assert!(pool.growth().is_none(), "asked for once");
        let refused = Err(io::Error::from_raw_os_error(libc::ENOMEM));
        assert!(pool.grown(&growth, &refused).is_empty());
        assert!(pool.growth().is_none(), "not at once again");
        drop(one);
        assert!(pool.take(Reserve::FrontEnd, 1 << 20).is_some());
    }

    #[test]
    fn an_arena_that_has_ended_is_not_meant() {
        let (first, second) = (pool(), pool());
        first.chunks.want(0);
        let growth = first.growth().expect("wanted");
        assert!(second.grown(&growth, &growth.populate()).is_empty());
        drop(first);
        let _ = growth.populate(); // harmless
    }

    #[test]
    fn zeroes_are_zeroes_and_cost_nothing() {
        let zeroes = Zeroes::new().expect("mapped");
        // SAFETY: the mapping is that large.
        let bytes = unsafe { std::slice::from_raw_parts(zeroes.as_ptr(), Zeroes::BYTES) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }
}
