//! The signals that have a meaning: SIGHUP, and four that end the daemon in order. They are blocked as long as this process lives, and read one by one. So they interrupt nothing, and what
//! has not been read goes with the process to the program that it becomes: a wish that the daemon ends which comes while it is
//! being replaced is the next program's, or this one's if it goes on. It is never lost, and kills no program that is just
//! starting. The standard library has no functions for this.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

use crate::course::Life;

/// The signals that end the daemon, in order, and what is said of them.
const ENDS: [(i32, &str); 4] = [
    (libc::SIGTERM, "terminated"),
    (libc::SIGINT, "interrupted"),
    (libc::SIGQUIT, "told to quit"),
    (libc::SIGPWR, "told of a power failure"),
];

/// All that have a meaning.
fn meant() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the first call makes a valid set of the memory, and the others add to it signals that there are.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGHUP);
        for (number, _) in ENDS {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        set.assume_init()
    }
}

/// What nothing is done for.
extern "C" fn go_on(_: libc::c_int) {}

/// Those that would end a program which does not know them, and mean nothing to this one.
pub(crate) fn useless() -> impl Iterator<Item = i32> {
    let named = [
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGSTKFLT,
        libc::SIGXCPU,
        libc::SIGXFSZ,
    ];
    named.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

/// Called first of all: they end nobody from now on, and later they are taken note of. Where files may not grow any more (`ulimit -f`)
/// a write fails and is told of, then, and the process is not ended in the middle of whatever it does. (By a function, for
/// what is ignored would be for the programs, too, that this one starts.)
pub(crate) fn begin() {
    for number in useless() {
        // SAFETY: the function does nothing, so it may be called at any time.
        unsafe { libc::signal(number, go_on as *const () as libc::sighandler_t) };
    }
}

/// Has them wait until they are read. Called before there is a second thread: every other one inherits it.
///
/// # Errors
/// If the system does not allow it.
pub(crate) fn block() -> io::Result<()> {
    let set = meant();
    // SAFETY: the set is valid, and nothing is asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// What a process that only watches has been sent meanwhile: each is taken once.
pub(crate) fn take_waiting() -> Vec<i32> {
    let set = meant();
    let at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let next = || {
        // SAFETY: the set and the time are valid, and nothing more is asked for.
        unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const at_once) }
    };
    std::iter::from_fn(|| Some(next()).filter(|number| *number > 0)).collect()
}

/// What another process has been sent and has not read yet, of what has a meaning.
pub(crate) fn waiting_for(pid: u32) -> Vec<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let waiting = waiting_in(&status);
    let numbers = ENDS.iter().map(|(number, _)| *number);
    numbers
        .chain([libc::SIGHUP])
        .filter(|number| waiting >> (number - 1) & 1 == 1)
        .collect()
}

/// The bits of what was sent to a whole process.
fn waiting_in(status: &str) -> u64 {
    let bits = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

/// Has signals wait in this process, or in the program that it becomes.
pub(crate) fn send_to_self(numbers: &[i32]) {
    for number in numbers {
        // SAFETY: the call takes integers; the signal is one of the blocked ones.
        unsafe { libc::kill(libc::getpid(), *number) };
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To read the settings again, and to begin the log anew.
    Reload,
    /// To end; why, in words.
    End(&'static str),
}

impl Asked {
    fn from_number(number: i32) -> Asked {
        let end = ENDS.iter().find(|(end, _)| *end == number);
        end.map_or(Asked::Reload, |(_, says)| Asked::End(says))
    }
}

/// The blocked signals, to be read.
#[derive(Debug)]
pub(crate) struct Signals(AsyncFd<OwnedFd>);

impl Signals {
    /// Reads what [`block`] blocks.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(crate) fn listen() -> io::Result<Signals> {
        let set = meant();
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        // SAFETY: the set is valid; the result is checked before it becomes an owned descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just made and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: it is owned, so it is open as long as the result is.
        let registered = unsafe { AsyncFd::register(fd) };
        Ok(Signals(registered?))
    }

    /// The next one. While the daemon is being replaced none is taken.
    pub(crate) async fn next(&self, life: &Life) -> io::Result<Asked> {
        loop {
            let mut ready = self.0.readable().await?;
            if life.is_being_replaced() {
                life.goes_on().await;
                continue;
            }
            match read(self.0.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                went => return went.map(Asked::from_number),
            }
        }
    }
}

fn read(signals: &OwnedFd) -> io::Result<i32> {
    let mut found = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the descriptor is open, and the memory is ours to write, as much as is said.
    let got = unsafe { libc::read(signals.as_raw_fd(), found.as_mut_ptr().cast(), size) };
    match usize::try_from(got) {
        // SAFETY: the kernel has written all of it.
        Ok(got) if got == size => Ok(unsafe { found.assume_init() }.ssi_signo as i32),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_process_is_read() {
        let status = "Name:\trdbd\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000004001\n";
        assert_eq!(waiting_in(status), 0x4001);
        assert_eq!(waiting_in(""), 0);
    }

    #[test]
    fn what_is_blocked_waits_and_is_taken_once() {
        // Of this test's thread alone, so that it comes to this and to no other test.
        block().unwrap();
        // SAFETY: the thread is this one, and the signal one that is blocked.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) };
        assert_eq!(take_waiting(), [libc::SIGTERM]);
        assert!(take_waiting().is_empty());
    }
}
