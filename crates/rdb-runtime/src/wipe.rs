//! Memory that is given back is empty.

#![allow(clippy::inline_always)]

use std::alloc::{GlobalAlloc, Layout, System};

/// An allocator that overwrites what is given back.
///
/// A shared secret goes through many hands: the line of the control socket, the parser's pieces of it, the options of
/// two crates, the record for the next daemon, the reply to a question. Each of them is freed in time; with this
/// allocator that is enough, whoever held it, libraries included. The data plane does not allocate while it works, so
/// it costs the control plane a few microseconds.
pub struct WipingAllocator;

// SAFETY: every call is passed on to the system's allocator with the layout it came with; only memory that is about to
// be given back, and that its owner must not use any more, is written to.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory is the caller's until the second call, and as long as the layout says. Unlike a plain
        // write, this one is not left out because nobody reads it.
        unsafe {
            libc::explicit_bzero(memory.cast(), layout.size());
            System.dealloc(memory, layout);
        }
    }

    // `realloc` is the trait's own: it takes new memory, copies, and gives the old one back to `dealloc`. The system's
    // would leave a copy behind wherever it moves.
}
