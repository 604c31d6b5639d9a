//! The buffers of the data plane: one arena, of which a part is taken at start and the rest when it is needed (see
//! `growth`), registered with the ring.
//!
//! Five reserves share the arena, so that what waits in one of them never starves another: received writes of the
//! peer end by themselves (they wait for our disk only), front-end writes may wait for the peer, writes that are still
//! being sent wait for their client, reads wait for their reader, which is a user in one reserve and the peer in the
//! other. Each reserve is a buddy allocator over chunks of 1 MiB, the largest request.
//!
//! A [`Buf`] is a counted handle of one thread. Its bytes are changed only while it is the only handle.

mod growth;

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use rdb_engine::Payload;
use replica_proto::{Digest, DigestAlgorithm};

use growth::Chunks;
pub(crate) use growth::{Growth, Zeroes};

/// Smallest piece handed out, and the alignment of all of them, in bytes: what any disk wants for direct I/O.
pub const PAGE_BYTES: usize = crate::process::PAGE_BYTES;
/// Pages of a chunk, the largest piece: 1 MiB.
const CHUNK_PAGES: usize = 256;
/// Pieces are `PAGE_BYTES << order` long.
const ORDERS: usize = 9;
const _: () = assert!(1 << (ORDERS - 1) == CHUNK_PAGES);
/// Chunks for received payloads with the largest `max-buffers`, 131,072 pages (`docs/spec/admin.md`, section 2).
const CHUNKS_MAX: usize = 512;
/// Most chunks for our own writes, and for reads of our users.
const OWN_CHUNKS_MAX: usize = 64;
/// End of a free list.
const NIL: u32 = u32::MAX;

/// What a buffer is taken for; each has pages of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserve {
    /// Payloads that come from the peer.
    Receive = 0,
    /// Payloads of front-end writes.
    FrontEnd = 1,
    /// Payloads of writes that a client is still sending. They stay here when they are complete.
    Filling = 2,
    /// What users read from the disk.
    Read = 3,
    /// What is read from the disk for the peer.
    PeerRead = 4,
}

const RESERVES: usize = 5;

/// How large the reserves are, in chunks of 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Chunks for received payloads.
    pub receive: usize,
    /// Chunks for front-end writes.
    pub front_end: usize,
    /// Chunks for writes that a client is still sending.
    pub filling: usize,
    /// Chunks for reads of our users.
    pub read: usize,
    /// Chunks for reads of the peer.
    pub peer_read: usize,
}

impl PoolSize {
    /// The sizes for `max-buffers` (4 KiB pages): 7 MiB in all for the smallest, 28 MiB for DRBD's default, 672 MiB for
    /// the largest. What the peer sends gets all of it; writes and reads of our own beyond 64 MiB gain nothing, and what
    /// the peer reads leaves as fast as it takes it.
    pub fn for_max_buffers(max_buffers: u32) -> PoolSize {
        let chunks = (max_buffers as usize).div_ceil(CHUNK_PAGES);
        let chunks = chunks.next_power_of_two().clamp(2, CHUNKS_MAX);
        let own = chunks.min(OWN_CHUNKS_MAX);
        PoolSize {
            receive: chunks,
            front_end: own - own / 2,
            filling: own / 2,
            read: own,
            peer_read: own / 2,
        }
    }

    /// Of each reserve, in the order of their numbers.
    fn chunks(self) -> [usize; RESERVES] {
        [
            self.receive,
            self.front_end,
            self.filling,
            self.read,
            self.peer_read,
        ]
    }

    /// Bytes in all.
    pub fn bytes(self) -> usize {
        self.chunks().iter().sum::<usize>() * CHUNK_PAGES * PAGE_BYTES
    }
}

/// The arena with its allocator.
pub struct Pool {
    base: NonNull<u8>,
    bytes: usize,
    /// Handles of the piece that begins at this page.
    references: Box<[Cell<u32>]>,
    /// Bytes in use of the piece that begins at this page.
    lengths: Box<[Cell<u32>]>,
    /// Order of the piece that begins at this page.
    orders: Box<[Cell<u8>]>,
    lists: RefCell<Lists>,
    /// Something was given back to this reserve since it was last asked.
    released: [Cell<bool>; RESERVES],
    /// Pages of each reserve that are taken.
    in_use: [Cell<usize>; RESERVES],
    /// First page of each reserve; the end of the last one behind them.
    bounds: [usize; RESERVES + 1],
    size: PoolSize,
    chunks: Chunks,
}

struct Lists {
    heads: [[u32; ORDERS]; RESERVES],
    /// Free chunks, and the fewest since that was last asked.
    whole: [usize; RESERVES],
    least_whole: [usize; RESERVES],
    next: Box<[u32]>,
    prev: Box<[u32]>,
    /// Order plus one of the free piece that begins here, 0 if none does.
    free: Box<[u8]>,
}

impl Pool {
    /// Takes the memory that there is from the start: one chunk for each reserve. Fails if the system has none.
    pub fn new(size: PoolSize) -> io::Result<Rc<Pool>> {
        let mut bounds = [0; RESERVES + 1];
        for (index, chunks) in size.chunks().into_iter().enumerate() {
            bounds[index + 1] = bounds[index] + chunks * CHUNK_PAGES;
        }
        let pages = bounds[RESERVES];
        let bytes = pages * PAGE_BYTES;
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let lists = Lists {
            heads: [[NIL; ORDERS]; RESERVES],
            whole: [0; RESERVES],
            least_whole: [0; RESERVES],
            next: vec![NIL; pages].into(),
            prev: vec![NIL; pages].into(),
            free: vec![0; pages].into(),
        };
        let pool = Rc::new(Pool {
            base,
            bytes,
            references: (0..pages).map(|_| Cell::new(0)).collect(),
            lengths: (0..pages).map(|_| Cell::new(0)).collect(),
            orders: (0..pages).map(|_| Cell::new(0)).collect(),
            lists: RefCell::new(lists),
            // Whoever waits for a buffer of an arena before this one tries again.
            released: [const { Cell::new(true) }; RESERVES],
            in_use: [const { Cell::new(0) }; RESERVES],
            bounds,
            size,
            chunks: Chunks::new(pages / CHUNK_PAGES),
        });
        pool.populate_base()?;
        Ok(pool)
    }

    /// How large its reserves are.
    pub fn size(&self) -> PoolSize {
        self.size
    }

    /// Keeps the content out of core dumps.
    pub(crate) fn leave_out_of_dumps(&self) -> io::Result<()> {
        // SAFETY: the mapping made in `new`; the advice changes no content.
        let result =
            unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, libc::MADV_DONTDUMP) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// A buffer of `bytes` (1 to 1 MiB), or `None` while the reserve has none. Its content is arbitrary.
    pub fn take(self: &Rc<Self>, reserve: Reserve, bytes: u32) -> Option<Buf> {
        let pages = (bytes as usize).div_ceil(PAGE_BYTES).max(1);
        let order = pages.next_power_of_two().trailing_zeros() as usize;
        if order >= ORDERS {
            return None;
        }
        let page = self.lists.borrow_mut().take(reserve as usize, order);
        let Some(page) = page else {
            self.chunks.want(reserve as usize);
            return None;
        };
        let in_use = &self.in_use[reserve as usize];
        in_use.set(in_use.get() + (1 << order));
        self.references[page as usize].set(1);
        self.lengths[page as usize].set(bytes);
        self.orders[page as usize].set(order as u8);
        Some(Buf {
            pool: Rc::clone(self),
            page,
        })
    }

    /// A buffer for a whole write of a front end.
    pub(crate) fn take_for_write(self: &Rc<Self>, bytes: u32) -> Option<Buf> {
        let own = self.take(Reserve::FrontEnd, bytes);
        own.or_else(|| self.take(Reserve::Filling, bytes))
    }

    /// A buffer for a write that a client is still sending.
    pub(crate) fn take_filling(self: &Rc<Self>, bytes: u32) -> Option<Buf> {
        self.take_or_share(Reserve::Filling, Reserve::FrontEnd, bytes)
    }

    /// A buffer for what the peer reads.
    pub(crate) fn take_for_peer(self: &Rc<Self>, bytes: u32) -> Option<Buf> {
        self.take_or_share(Reserve::PeerRead, Reserve::Read, bytes)
    }

    /// As long as a reserve has no memory at all, it gets up to half of another one: it is asked for, and may not come.
    fn take_or_share(self: &Rc<Self>, own: Reserve, other: Reserve, bytes: u32) -> Option<Buf> {
        let taken = self.in_use[other as usize].get() * PAGE_BYTES;
        let leaves_half = taken + bytes as usize <= self.reserve_bytes(other) / 2;
        let shares = leaves_half && self.resident_bytes(own as usize) == 0;
        let buf = self.take(own, bytes);
        if buf.is_some() || !shares {
            return buf;
        }
        self.take(other, bytes)
    }

    /// Bytes of a reserve.
    pub(crate) fn reserve_bytes(&self, reserve: Reserve) -> usize {
        (self.bounds[reserve as usize + 1] - self.bounds[reserve as usize]) * PAGE_BYTES
    }

    /// Whether more than half of what is there of a reserve is taken.
    pub(crate) fn is_half_used(&self, reserve: Reserve) -> bool {
        let there = self.resident_bytes(reserve as usize);
        self.in_use[reserve as usize].get() * PAGE_BYTES > there / 2
    }

    /// Whether something was given back to `reserve` since the last call.
    pub fn take_released(&self, reserve: Reserve) -> bool {
        self.released[reserve as usize].replace(false)
    }

    fn give_back(&self, page: u32) {
        let ends = &self.bounds[1..RESERVES];
        let reserve = ends.partition_point(|&end| end <= page as usize);
        let order = usize::from(self.orders[page as usize].get());
        self.lists.borrow_mut().give_back(reserve, order, page);
        self.released[reserve].set(true);
        self.in_use[reserve].set(self.in_use[reserve].get() - (1 << order));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: `base` and `bytes` are the mapping made in `new`; every `Buf`, the only other user of it, holds a
        // reference to the pool, so none is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

impl Lists {
    fn push(&mut self, reserve: usize, order: usize, page: u32) {
        self.whole[reserve] += usize::from(order == ORDERS - 1);
        let head = self.heads[reserve][order];
        self.next[page as usize] = head;
        self.prev[page as usize] = NIL;
        if head != NIL {
            self.prev[head as usize] = page;
        }
        self.heads[reserve][order] = page;
        self.free[page as usize] = order as u8 + 1;
    }

    fn unlink(&mut self, reserve: usize, order: usize, page: u32) {
        if order == ORDERS - 1 {
            self.whole[reserve] -= 1;
            self.least_whole[reserve] = self.least_whole[reserve].min(self.whole[reserve]);
        }
        let (next, prev) = (self.next[page as usize], self.prev[page as usize]);
        match prev {
            NIL => self.heads[reserve][order] = next,
            prev => self.next[prev as usize] = next,
        }
        if next != NIL {
            self.prev[next as usize] = prev;
        }
        self.free[page as usize] = 0;
    }

    /// Chunks that were free all the time since [`Lists::note_whole`].
    fn least_whole(&self, reserve: usize) -> usize {
        self.least_whole[reserve]
    }

    fn note_whole(&mut self, reserve: usize) {
        self.least_whole[reserve] = self.whole[reserve];
    }

    /// Whether the chunk that begins here is free.
    fn is_whole(&self, page: u32) -> bool {
        usize::from(self.free[page as usize]) == ORDERS
    }

    fn take(&mut self, reserve: usize, order: usize) -> Option<u32> {
        let found = (order..ORDERS).find(|&o| self.heads[reserve][o] != NIL)?;
        let page = self.heads[reserve][found];
        self.unlink(reserve, found, page);
        for smaller in (order..found).rev() {
            self.push(reserve, smaller, page + (1 << smaller));
        }
        Some(page)
    }

    fn give_back(&mut self, reserve: usize, mut order: usize, mut page: u32) {
        // Reserves begin at multiples of a chunk, so that a buddy below the largest order lies in the same one.
        while order < ORDERS - 1 {
            let buddy = page ^ (1 << order);
            if self.free[buddy as usize] != order as u8 + 1 {
                break;
            }
            self.unlink(reserve, order, buddy);
            page = page.min(buddy);
            order += 1;
        }
        self.push(reserve, order, page);
    }
}

/// A counted handle of one buffer.
pub struct Buf {
    pool: Rc<Pool>,
    page: u32,
}

impl Buf {
    /// Bytes in use.
    pub fn len(&self) -> usize {
        self.pool.lengths[self.page as usize].get() as usize
    }

    /// Whether no byte is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the piece is ours while a handle lives, at least `len` bytes long and initialised (the mapping
        // starts as zeroes). It is written only through `as_mut_slice` of a sole handle and by the kernel on behalf
        // of an operation that owns the sole handle; neither can be while `self` is borrowed here.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// The bytes, to be changed; `None` if there is another handle.
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        if self.pool.references[self.page as usize].get() != 1 {
            return None;
        }
        // SAFETY: as in `as_slice`, and `&mut self` is the sole handle.
        Some(unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len()) })
    }

    /// Whether it came from the reserve for received payloads.
    pub(crate) fn is_received(&self) -> bool {
        (self.page as usize) < self.pool.bounds[1]
    }

    /// Where it begins, a multiple of [`PAGE_BYTES`].
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: `page` was given out by the allocator and lies inside the mapping.
        unsafe { self.pool.base.as_ptr().add(self.page as usize * PAGE_BYTES) }
    }
}

impl Clone for Buf {
    fn clone(&self) -> Self {
        let count = &self.pool.references[self.page as usize];
        count.set(count.get() + 1);
        Buf {
            pool: Rc::clone(&self.pool),
            page: self.page,
        }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        let count = &self.pool.references[self.page as usize];
        count.set(count.get() - 1);
        if count.get() == 0 {
            self.pool.give_back(self.page);
        }
    }
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buf({} bytes)", self.len())
    }
}

impl Payload for Buf {
    fn len_bytes(&self) -> u32 {
        self.pool.lengths[self.page as usize].get()
    }

    fn digest(&self, algorithm: DigestAlgorithm) -> Digest {
        algorithm.digest(self.as_slice())
    }
}

/// Page-aligned memory outside of the arena, for what is rare or small: metadata, bounces.
pub struct Aligned {
    base: NonNull<u8>,
    bytes: usize,
}

impl Aligned {
    /// Zeroed memory of `bytes`, rounded up to whole pages; at least one.
    pub fn zeroed(bytes: usize) -> Aligned {
        let bytes = bytes.div_ceil(PAGE_BYTES).max(1) * PAGE_BYTES;
        let layout = Self::layout(bytes);
        // SAFETY: the layout is not empty.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else {
            std::alloc::handle_alloc_error(layout)
        };
        Aligned { base, bytes }
    }

    fn layout(bytes: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(bytes, PAGE_BYTES)
            .expect("pages below the size of the address space")
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `base` points at `bytes` initialised bytes that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes) }
    }

    /// The bytes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) }
    }

    /// Where it begins.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Self::layout(self.bytes)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Rc<Pool> {
        let size = PoolSize {
            receive: 2,
            front_end: 1,
            filling: 1,
            read: 1,
            peer_read: 1,
        };
        let pool = Pool::new(size).expect("memory");
        pool.grow_whole();
        pool
    }

    #[test]
    fn reserves_do_not_starve_one_another() {
        let pool = pool();
        let held: Vec<_> = std::iter::from_fn(|| pool.take(Reserve::FrontEnd, 4096)).collect();
        assert_eq!(held.len(), 256);
        assert!(pool.take(Reserve::FrontEnd, 512).is_none());
        assert_eq!(
            pool.take(Reserve::Receive, 1 << 20).map(|b| b.len()),
            Some(1 << 20)
        );
        assert!(pool.take_released(Reserve::FrontEnd), "nobody asked before");
        assert!(!pool.take_released(Reserve::FrontEnd));
        assert!(pool.take_released(Reserve::Receive));
        drop(held);
        assert!(pool.take_released(Reserve::FrontEnd));
        assert!(
            pool.take(Reserve::FrontEnd, 1 << 20).is_some(),
            "pieces grow together again"
        );
    }

    #[test]
    fn sizes_follow_max_buffers_to_both_ends() {
        for (max_buffers, receive, own) in [
            (32, 2, 2),
            (2048, 8, 8),
            (2049, 16, 16),
            (8192, 32, 32),
            (131_072, 512, 64),
            (u32::MAX, 512, 64),
        ] {
            let size = PoolSize::for_max_buffers(max_buffers);
            assert_eq!(
                (size.receive, size.front_end + size.filling, size.read),
                (receive, own, own),
                "{max_buffers}"
            );
            assert_eq!((size.filling, size.peer_read), (own / 2, own / 2));
            let wanted = (max_buffers as usize).min(131_072) * PAGE_BYTES;
            assert!(size.receive << 20 >= wanted, "{max_buffers}");
        }
    }

    #[test]
    fn pieces_never_overlap_and_all_come_back() {
        let pool = pool();
        let mut held: Vec<Buf> = Vec::new();
        let mut seed = 12345_u32;
        for round in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bytes = 512 << ((seed >> 28) % 12);
            match pool.take(Reserve::Receive, bytes) {
                Some(mut buf) if seed & 0x100 == 0 => {
                    assert_eq!(buf.as_ptr() as usize % PAGE_BYTES, 0);
                    buf.as_mut_slice().expect("sole handle").fill(round as u8);
                    held.push(buf);
                }
                _ if !held.is_empty() => {
                    let buf = held.swap_remove(seed as usize % held.len());
                    let first = buf.as_slice()[0];
                    assert!(
                        buf.as_slice().iter().all(|&b| b == first),
                        "somebody wrote into it"
                    );
                }
                _ => {}
            }
        }
        held.clear();
        let whole: Vec<_> = std::iter::from_fn(|| pool.take(Reserve::Receive, 1 << 20)).collect();
        assert_eq!(whole.len(), 2);
    }

    #[test]
    fn buffers_can_be_left_out_of_core_dumps() {
        let pool = pool();
        let flags = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").expect("readable");
            let begin = format!("{:x}-", pool.base.as_ptr() as usize);
            let (_, mapping) = maps.split_once(&begin).expect("it is mapped");
            let line = mapping.lines().find(|line| line.starts_with("VmFlags:"));
            line.expect("flags").to_owned()
        };
        assert!(!flags().contains(" dd"), "{}", flags());
        pool.leave_out_of_dumps().expect("advice is taken");
        assert!(flags().contains(" dd"), "{}", flags());
    }

    #[test]
    fn a_shared_buffer_cannot_be_changed() {
        let pool = pool();
        let mut buf = pool.take(Reserve::Read, 512).expect("room");
        let other = buf.clone();
        assert!(buf.as_mut_slice().is_none());
        drop(other);
        assert!(buf.as_mut_slice().is_some());
        assert!(
            pool.take(Reserve::Read, (1 << 20) + 1).is_none(),
            "nothing is that large"
        );
    }
}
