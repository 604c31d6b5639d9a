//! The process under a file system: it must make progress when memory is short.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = 4096;
/// `PR_SET_IO_FLUSHER` of `prctl(2)`, Linux 5.6.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// What a core dump of the process may hold. Users' data and shared secrets are in its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoreDumps {
    /// There are none, and no other process of the same user may look into this one.
    #[default]
    None,
    /// Everything but the buffers that hold users' data.
    WithoutData,
    /// Everything.
    Whole,
}

/// Prepares the process for its place below file systems that write back when memory is short: its memory stays
/// resident once touched, its own allocations do not wait for write-back that would wait for it, and the OOM killer
/// takes it last. What the system refuses comes back as warnings: rdb works without, less safely under memory
/// pressure. Call it once, early.
pub fn harden_process(core_dumps: CoreDumps) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            warnings.push(format!("{what}: {error}"));
        }
    };
    note("memory is not locked (mlockall)", lock_memory());
    // SAFETY: this prctl takes integers only and changes a flag of this process.
    let flusher = check(unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) });
    note(
        "allocations may wait for our own write-back (PR_SET_IO_FLUSHER)",
        flusher,
    );
    note(
        "the OOM killer may choose this process (oom_score_adj)",
        fs::write("/proc/self/oom_score_adj", "-1000"),
    );
    // Last: the files in /proc of a process that cannot be dumped belong to root.
    let dumpable = libc::c_ulong::from(core_dumps != CoreDumps::None);
    // SAFETY: this prctl takes integers only and changes a flag of this process.
    let dumpable = check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, dumpable, 0, 0, 0) });
    note("core dumps (PR_SET_DUMPABLE)", dumpable);
    warnings
}

/// Whether all memory is locked, what there is and what will be. Set once, by [`harden_process`].
static ALL_LOCKED: AtomicBool = AtomicBool::new(false);

/// Locks memory that writes cannot do without, where not all memory is locked: as much of it as the limit leaves. What is
/// not locked may be swapped out.
pub(crate) fn lock_essential(address: *const u8, bytes: usize) {
    if ALL_LOCKED.load(Ordering::Relaxed) {
        return;
    }
    let (mut from, mut piece) = (0, bytes);
    while from < bytes && piece >= PAGE_BYTES {
        let length = piece.min(bytes - from);
        // SAFETY: locking changes no content, and fails where nothing is mapped.
        let result = unsafe { libc::mlock(address.wrapping_add(from).cast(), length) };
        if result == 0 {
            from += length;
        } else {
            piece = (piece / 2).next_multiple_of(PAGE_BYTES);
            if piece == PAGE_BYTES && length == PAGE_BYTES {
                return;
            }
        }
    }
}

/// Locks pages as they are touched: `MCL_ONFAULT` keeps reserved but unused address space (thread stacks, arenas)
/// from becoming resident.
fn lock_memory() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // A limit that is too low for all future memory would turn later allocations into failures.
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer.
    check(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) })?;
    if limit.rlim_cur != libc::RLIM_INFINITY {
        let unlimited = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: `unlimited` is a valid limit that is only read.
        let raised = check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) });
        raised.map_err(|error| {
            let limit = limit.rlim_cur >> 10;
            let text =
                format!("only buffers are locked, up to RLIMIT_MEMLOCK, {limit} KiB: {error}");
            io::Error::new(error.kind(), text)
        })?;
    }
    // SAFETY: locking changes no memory content.
    check(unsafe { libc::mlockall(flags) })?;
    ALL_LOCKED.store(true, Ordering::Relaxed);
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// How many files this process may have open; nothing if that cannot be found out.
pub fn open_files_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (asked == 0).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_buffers_are_locked_as_far_as_the_limit_goes() {
        let limit = 16 * PAGE_BYTES as u64;
        // SAFETY: the child calls nothing but the system before it ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let few = libc::rlimit {
                rlim_cur: limit,
                rlim_max: limit,
            };
            // SAFETY: plain calls on memory of its own; the child ends here.
            unsafe {
                let base = libc::mmap(
                    std::ptr::null_mut(),
                    64 * PAGE_BYTES,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                );
                libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const few);
                // Who may lock anything is not held to the limit.
                libc::setuid(65534);
                lock_essential(base.cast(), 64 * PAGE_BYTES);
                // All of the limit is used up: not one page more, of another place.
                let last = base.cast::<u8>().add(63 * PAGE_BYTES);
                let is_full = libc::mlock(last.cast(), PAGE_BYTES) != 0;
                let is_locked = libc::munlock(base, 16 * PAGE_BYTES) == 0
                    && libc::mlock(last.cast(), PAGE_BYTES) == 0;
                libc::_exit(i32::from(!(is_full && is_locked)));
            }
        }
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "exit status {}", status >> 8);
    }

    #[test]
    fn hardening_never_fails_and_names_what_was_refused() {
        for core_dumps in [CoreDumps::None, CoreDumps::WithoutData, CoreDumps::Whole] {
            for warning in harden_process(core_dumps) {
                assert!(warning.contains('(') && warning.contains(": "), "{warning}");
            }
            // SAFETY: this prctl takes integers only.
            let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) };
            assert_eq!(dumpable != 0, core_dumps != CoreDumps::None);
        }
    }
}
