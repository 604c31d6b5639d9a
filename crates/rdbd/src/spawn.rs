//! Starting a shell that has nothing of the daemon. The standard library has no functions for this.
//!
//! The child is not made by `fork`: that would copy the page tables of everything that the data plane has locked in memory, and
//! each page that it writes next would be copied as well.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::session;

/// The shell.
const SHELL: &CStr = c"/bin/sh";
/// `CLOSE_RANGE_CLOEXEC`.
const CLOEXEC: u32 = 4;

/// A shell that runs, and leads a session of its own. Whoever has it reaps it, or nobody does.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    process: OwnedFd,
}

/// What has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Came {
    /// The child has ended.
    pub(crate) ended: bool,
    /// There is something to be read, or nothing will be any more.
    pub(crate) readable: bool,
}

/// Starts `/bin/sh -c COMMAND` in `/`, with this environment and no other: standard input is empty, both outputs go to `output`, no other
/// descriptor is open, every signal is as a program expects it.
///
/// # Errors
/// When that is impossible.
pub(crate) fn shell(
    command: &str,
    environment: &[(&str, String)],
    output: &OwnedFd,
) -> io::Result<Child> {
    let text = |text: &str| CString::new(text).map_err(io::Error::other);
    let words = [SHELL.to_owned(), c"-c".to_owned(), text(command)?];
    let variables = environment
        .iter()
        .map(|(name, value)| text(&format!("{name}={value}")))
        .collect::<io::Result<Vec<_>>>()?;
    let words = pointers(&words);
    let variables = pointers(&variables);
    // Ours have the flag already; what somebody else has opened has it from now on.
    // SAFETY: the call takes integers, and closes nothing before another program is run.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOEXEC) };
    let (actions, attributes) = (Actions::new(output)?, Attributes::new()?);
    let mut pid = 0;
    // SAFETY: the pointers lead to what outlives the call; both arrays end with a null pointer.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            SHELL.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            words.as_ptr().cast(),
            variables.as_ptr().cast(),
        )
    };
    check(error)?;
    no_exception(pid);
    match session::pidfd(pid.unsigned_abs()) {
        Ok(process) => Ok(Child { pid, process }),
        Err(error) => {
            signal_group(pid, libc::SIGKILL);
            let _ = reap(pid);
            Err(error)
        }
    }
}

impl Child {
    pub(crate) fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Waits until it has ended or has written something, but not longer than this.
    pub(crate) fn wait(
        &self,
        output: Option<BorrowedFd<'_>>,
        within: Option<Duration>,
    ) -> io::Result<Came> {
        let polled = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // One with a negative number is not looked at.
        let output = output.map_or(-1, |output| output.as_raw_fd());
        let mut both = [polled(self.process.as_raw_fd()), polled(output)];
        let milliseconds = within.map_or(-1, |within| {
            // Rounded up: it is not asked for again before the time is over.
            i32::try_from(within.as_millis() + 1).unwrap_or(i32::MAX)
        });
        // SAFETY: initialised entries that outlive the call.
        if unsafe { libc::poll(both.as_mut_ptr(), 2, milliseconds) } < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::Interrupted => Ok(Came::default()),
                _ => Err(error),
            };
        }
        let [process, output] = both.map(|polled| polled.revents != 0);
        Ok(Came {
            ended: process,
            readable: output,
        })
    }

    /// Waits for its end, if need be, and takes it away. Its number may be another's from then on.
    pub(crate) fn reap(self) -> io::Result<ExitStatus> {
        reap(self.pid)
    }
}

/// A daemon that is never killed for want of memory has children that may be.
fn no_exception(pid: libc::pid_t) {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj");
    if own.is_ok_and(|own| own.starts_with('-')) {
        // One that has ended needs it no more; who may not change it had none.
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0");
    }
}

/// Sends a signal to a child that has not been reaped, and to whatever it has started in its group.
pub(crate) fn signal_group(pid: libc::pid_t, signal: i32) {
    // SAFETY: the call takes integers. The number is the child's as long as it has not been reaped.
    unsafe { libc::kill(-pid, signal) };
}

/// Whether something of the group of a child that has ended, and has not been reaped, still runs.
pub(crate) fn group_runs(pid: libc::pid_t) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    let stats = processes
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.into_iter().any(|stat| {
        // "PID (NAME) STATE PARENT GROUP …"; the name may have anything in it.
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            return false;
        };
        let mut words = rest.split(' ');
        let state = words.next().unwrap_or("Z");
        let group = words.nth(1).and_then(|group| group.parse().ok());
        group == Some(pid) && !matches!(state, "Z" | "X")
    })
}

fn reap(pid: libc::pid_t) -> io::Result<ExitStatus> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the answer.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            return Ok(ExitStatus::from_raw(status));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A pipe; its first end does not wait for what is not there yet.
pub(crate) fn pipe() -> io::Result<(io::PipeReader, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: the calls take integers; the descriptor is open.
    if unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((reader, writer.into()))
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    let all = texts.iter().map(|text| text.as_ptr());
    all.chain([std::ptr::null()]).collect()
}

fn check(error: libc::c_int) -> io::Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Where it stands, and what becomes of the standard streams.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(output: &OwnedFd) -> io::Result<Actions> {
        let mut made = MaybeUninit::uninit();
        // SAFETY: the call makes a valid value of the memory, or says that it does not.
        check(unsafe { libc::posix_spawn_file_actions_init(made.as_mut_ptr()) })?;
        // SAFETY: it was made, as was just seen.
        let mut actions = Actions(unsafe { made.assume_init() });
        let (list, output) = (&raw mut actions.0, output.as_raw_fd());
        // SAFETY: the list is valid, and the paths are copied.
        unsafe {
            check(libc::posix_spawn_file_actions_addchdir_np(
                list,
                c"/".as_ptr(),
            ))?;
            let path = c"/dev/null".as_ptr();
            let read = libc::O_RDONLY;
            check(libc::posix_spawn_file_actions_addopen(
                list, 0, path, read, 0,
            ))?;
            check(libc::posix_spawn_file_actions_adddup2(list, output, 1))?;
            check(libc::posix_spawn_file_actions_adddup2(list, output, 2))?;
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: it was made by `init`, and is not used any more.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// A session of its own, no signal blocked, none ignored.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Attributes> {
        let mut made = MaybeUninit::uninit();
        // SAFETY: the call makes a valid value of the memory, or says that it does not.
        check(unsafe { libc::posix_spawnattr_init(made.as_mut_ptr()) })?;
        // SAFETY: it was made, as was just seen.
        let mut attributes = Attributes(unsafe { made.assume_init() });
        let list = &raw mut attributes.0;
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = flags | libc::c_int::from(libc::POSIX_SPAWN_SETSID);
        let flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
        let (mut none, mut all) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the list is valid; the sets are made before they are read.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigfillset(all.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(list, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(list, all.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(list, flags))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: it was made by `init`, and is not used any more.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}
