//! One run of a handler: its shell, its output, its time limit, and how it ends.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdb_config::printable;
use rdb_engine::HandlerId;

use crate::spawn::{self, Child};

/// How long a handler that was told to end by SIGTERM may take, before SIGKILL; and how long that may take.
const GRACE: Duration = Duration::from_secs(5);
/// The same when the daemon ends.
const LAST_GRACE: Duration = Duration::from_secs(2);
/// How often is looked whether the rest of a run that is ended has ended.
const GROUP_POLL: Duration = Duration::from_millis(100);
/// The same as [`GRACE`] when nobody waits for it any more.
const UNWANTED_GRACE: Duration = Duration::from_secs(2);
/// Lines of a run that are logged; the others are counted.
const LINES_MAX: u64 = 100;
/// Bytes of a line that are logged.
const LINE_MAX: usize = 500;
/// Reads of what is left in the pipe when the handler has ended. Others may hold its other end and go on writing.
const LAST_READS: u32 = 32;
/// What a shell says of what it does not find, and of what it can not run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;
/// What a shell adds to a signal's number.
const SIGNALLED: i32 = 128;

/// Whose run it is: the resource, and the engine's number. By it a run is ended that nobody waits for.
pub(crate) type Whose = (String, HandlerId);

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Call {
    /// Whose it is.
    pub(crate) whose: Whose,
    /// For `/bin/sh -c`.
    pub(crate) command: String,
    /// The whole environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// How long it may take.
    pub(crate) limit: Option<Duration>,
}

/// How it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// As a shell says it.
    pub(crate) exit: u8,
    /// What else there is to say.
    pub(crate) note: Option<String>,
}

impl Ended {
    /// It was not started, or nobody saw its end.
    pub(crate) fn not_run(error: &io::Error) -> Ended {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_RUN,
        };
        Ended {
            exit,
            note: Some(format!("could not be run: {error}")),
        }
    }
}

/// The handlers that run, so that they can be ended with the daemon.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Rung when one has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// None is started any more.
    is_over: bool,
    /// Whose they are, and the leaders of those that may be sent signals: none of them has been reaped.
    groups: Vec<(Whose, libc::pid_t)>,
    /// Runs that are about to begin, or have, and whether nobody waits for them any more. Set before their threads are made, cleared
    /// with their end. Without it one whose shell is just being started would go on.
    runs: Vec<(Whose, bool)>,
    /// How many have not been reaped.
    count: usize,
}

impl Running {
    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked while it looked has changed nothing by halves.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one, unless the daemon ends.
    fn start(&self, call: &Call, output: &OwnedFd) -> io::Result<Child> {
        let mut state = self.state();
        if state.is_over {
            return Err(io::Error::other("rdbd is ending"));
        }
        if state.runs.contains(&(call.whose.clone(), true)) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        let child = spawn::shell(&call.command, &call.environment, output)?;
        state.groups.push((call.whose.clone(), child.pid()));
        state.count += 1;
        Ok(child)
    }

    fn reap(&self, child: Child) -> io::Result<std::process::ExitStatus> {
        let pid = child.pid();
        // From then on its number may be another's.
        self.state().groups.retain(|(_, group)| *group != pid);
        let status = child.reap();
        self.state().count -= 1;
        self.0.ended.notify_all();
        status
    }

    fn signal(&self, signal: i32) {
        for (_, group) in &self.state().groups {
            spawn::signal_group(*group, signal);
        }
    }

    /// Nobody waits for this run: it is sent SIGTERM now, and is not begun if it was about to be. What it has to be sent later if
    /// that does not help, by [`Running::insist`], and when.
    pub(crate) fn end_one(&self, whose: &Whose) -> Duration {
        for (of, is_unwanted) in &mut self.state().runs {
            *is_unwanted |= of == whose;
        }
        self.signal_one(whose, libc::SIGTERM);
        UNWANTED_GRACE
    }

    /// A run that nobody waits for has not ended by itself.
    pub(crate) fn insist(&self, whose: &Whose) {
        self.signal_one(whose, libc::SIGKILL);
    }

    fn signal_one(&self, whose: &Whose, signal: i32) {
        let state = self.state();
        let own = state.groups.iter().filter(|(of, _)| of == whose);
        own.for_each(|(_, group)| spawn::signal_group(*group, signal));
    }

    fn is_unwanted(&self, whose: &Whose) -> bool {
        self.state().runs.contains(&(whose.clone(), true))
    }

    /// A run is about to begin: from now on it can be ended.
    pub(crate) fn announce(&self, whose: &Whose) {
        self.state().runs.push((whose.clone(), false));
    }

    /// It is over, or does not come to begin. Says whether it was to be ended.
    pub(crate) fn is_over(&self, whose: &Whose) -> bool {
        let mut state = self.state();
        let was_unwanted = state.runs.contains(&(whose.clone(), true));
        state.runs.retain(|(of, _)| of != whose);
        was_unwanted
    }

    /// Whether all have ended, within this time.
    fn all_ended(&self, within: Duration) -> bool {
        let wait = |state: &mut State| state.count > 0;
        let waited = self.0.ended.wait_timeout_while(self.state(), within, wait);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.count == 0
    }

    /// Ends all of them, and starts none any more: nobody is left who would hear of their end. Waits for it, not for long.
    pub(crate) fn end(&self) {
        self.state().is_over = true;
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            self.signal(signal);
            if self.all_ended(LAST_GRACE) {
                return;
            }
        }
        tracing::error!("a handler does not end, and is left");
    }
}

/// Runs a handler and waits for its end. `say` is told of its output, line by line.
pub(crate) fn run(call: &Call, running: &Running, say: &mut dyn FnMut(&str)) -> Ended {
    let mut ended = run_to_its_end(call, running, say);
    if running.is_over(&call.whose) {
        let unwanted = "was ended, since nobody waited for it any more";
        ended.note = match ended.note.take() {
            Some(note) => Some(format!("{unwanted}; {note}")),
            None => Some(unwanted.to_owned()),
        };
    }
    ended
}

fn run_to_its_end(call: &Call, running: &Running, say: &mut dyn FnMut(&str)) -> Ended {
    let started = spawn::pipe().and_then(|(reader, writer)| {
        let child = running.start(call, &writer)?;
        Ok((child, reader))
    });
    let (child, reader) = match started {
        Ok(started) => started,
        Err(error) => return Ended::not_run(&error),
    };
    let mut output = Output::new(reader, say);
    let mut limit = TimeLimit::new(call.limit);
    loop {
        let came = match child.wait(output.descriptor(), limit.left()) {
            Ok(came) => came,
            Err(error) => {
                spawn::signal_group(child.pid(), libc::SIGKILL);
                leave(child, running);
                return Ended::not_run(&error);
            }
        };
        if came.readable {
            output.read();
        }
        if came.ended {
            break;
        }
        if limit.left() == Some(Duration::ZERO) {
            match limit.next() {
                Some(signal) => spawn::signal_group(child.pid(), signal),
                None => {
                    leave(child, running);
                    output.finish();
                    return Ended {
                        exit: (SIGNALLED + libc::SIGKILL) as u8,
                        note: Some("does not end although it was killed; it is left".to_owned()),
                    };
                }
            }
        }
    }
    if limit.sent > 0 || running.is_unwanted(&call.whose) {
        end_group(child.pid());
    }
    for _ in 0..LAST_READS {
        output.read();
    }
    output.finish();
    match running.reap(child) {
        Ok(status) => ended(status, limit.note()),
        Err(error) => Ended::not_run(&error),
    }
}

/// What the leader of a run that is ended has left running has its time, too, and is killed then.
fn end_group(pid: libc::pid_t) {
    let end = Instant::now() + GRACE;
    while spawn::group_runs(pid) {
        if Instant::now() >= end {
            spawn::signal_group(pid, libc::SIGKILL);
            return;
        }
        std::thread::sleep(GROUP_POLL);
    }
}

/// It is reaped when it ends, if it ever does.
fn leave(child: Child, running: &Running) {
    let running = running.clone();
    let reap = move || drop(running.reap(child));
    let thread = std::thread::Builder::new().name("rdbd-handler".into());
    if let Err(error) = thread.spawn(reap) {
        tracing::error!("no thread to wait for a handler that does not end: {error}");
    }
}

fn ended(status: std::process::ExitStatus, note: Option<String>) -> Ended {
    let signal = status.signal();
    let exit = status.code().or(signal.map(|signal| SIGNALLED + signal));
    let killed = signal.map(|signal| format!("was killed by signal {signal}"));
    let note = match (note, killed) {
        (Some(note), Some(killed)) => Some(format!("{note}, and {killed}")),
        (note, killed) => note.or(killed),
    };
    Ended {
        exit: exit
            .and_then(|exit| exit.try_into().ok())
            .unwrap_or(NOT_RUN),
        note,
    }
}

/// How far a handler is beyond its time.
struct TimeLimit {
    limit: Option<Duration>,
    /// When something is to be done next.
    at: Option<Instant>,
    /// How many signals it was sent.
    sent: usize,
}

impl TimeLimit {
    fn new(limit: Option<Duration>) -> TimeLimit {
        TimeLimit {
            limit,
            at: limit.and_then(|limit| Instant::now().checked_add(limit)),
            sent: 0,
        }
    }

    fn left(&self) -> Option<Duration> {
        let now = Instant::now();
        self.at.map(|at| at.saturating_duration_since(now))
    }

    /// What it is sent now; nothing if all that has not helped.
    fn next(&mut self) -> Option<i32> {
        let signal = [libc::SIGTERM, libc::SIGKILL].get(self.sent).copied();
        self.sent += 1;
        self.at = Some(Instant::now() + GRACE);
        signal
    }

    fn note(&self) -> Option<String> {
        let limit = self.limit.filter(|_| self.sent > 0)?;
        Some(format!(
            "did not end within {} s (handler-timeout)",
            limit.as_secs()
        ))
    }
}

/// What a handler writes, line by line and not without end.
struct Output<'a> {
    /// Until it has ended.
    reader: Option<io::PipeReader>,
    say: &'a mut dyn FnMut(&str),
    line: Vec<u8>,
    /// The line is longer than what is kept of it.
    is_cut: bool,
    lines: u64,
    left_out: u64,
}

impl<'a> Output<'a> {
    fn new(reader: io::PipeReader, say: &'a mut dyn FnMut(&str)) -> Output<'a> {
        Output {
            reader: Some(reader),
            say,
            line: Vec::new(),
            is_cut: false,
            lines: 0,
            left_out: 0,
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.reader.as_ref().map(AsFd::as_fd)
    }

    /// Takes what there is, if it is not too much.
    fn read(&mut self) {
        let Some(reader) = &mut self.reader else {
            return;
        };
        let mut bytes = [0; 16 * 1024];
        match reader.read(&mut bytes) {
            Ok(count) if count > 0 => self.take(&bytes[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            // It has ended.
            _ => self.reader = None,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ if self.line.len() < LINE_MAX => self.line.push(*byte),
                _ => self.is_cut = true,
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.is_cut);
        if line.trim_ascii().is_empty() {
            return;
        }
        if self.lines >= LINES_MAX {
            self.left_out += 1;
            return;
        }
        self.lines += 1;
        let text = String::from_utf8_lossy(&line);
        let more = if is_cut { " ..." } else { "" };
        (self.say)(&format!("{}{more}", printable(text.trim_end())));
    }

    fn finish(mut self) {
        self.end_line();
        if self.left_out > 0 {
            let count = self.left_out;
            (self.say)(&format!("... and {count} more lines"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: &str) -> Call {
        Call {
            whose: ("r0".to_owned(), HandlerId(1)),
            command: command.to_owned(),
            environment: vec![("PATH", "/usr/bin:/bin".to_owned())],
            limit: None,
        }
    }

    fn run_all(call: &Call, running: &Running) -> (Ended, Vec<String>) {
        let mut lines = Vec::new();
        let ended = run(call, running, &mut |line| lines.push(line.to_owned()));
        (ended, lines)
    }

    fn run_one(command: &str) -> (Ended, Vec<String>) {
        run_all(&call(command), &Running::default())
    }

    fn limited(command: &str, milliseconds: u64) -> Call {
        Call {
            limit: Some(Duration::from_millis(milliseconds)),
            ..call(command)
        }
    }

    #[test]
    fn every_exit_code_comes_back_and_nothing_is_left_of_a_run() {
        let open = || {
            std::fs::read_dir("/proc/self/fd")
                .expect("it is there")
                .count()
        };
        let before = open();
        for exit in 0..=255 {
            let (ended, lines) = run_one(&format!("exit {exit}"));
            assert_eq!((ended.exit, ended.note), (exit, None));
            assert!(lines.is_empty());
        }
        assert_eq!(open(), before);
        let children = std::fs::read_to_string("/proc/thread-self/children");
        assert_eq!(children.expect("it is there"), "");
    }

    #[test]
    fn what_is_not_there_and_what_cannot_be_run_say_so() {
        let (ended, lines) = run_one("/nonexistent/handler");
        assert_eq!(ended.exit, 127);
        assert!(lines[0].contains("not found"), "{lines:?}");
        assert_eq!(run_one("/dev/null").0.exit, 126);
        let (ended, _) = run_one("true\0");
        assert_eq!(ended.exit, 126);
        assert!(ended.note.is_some_and(|note| note.starts_with("could not")));
    }

    #[test]
    fn one_that_is_killed_has_its_signal_in_its_exit_code() {
        let (ended, _) = run_one("kill -9 $$");
        assert_eq!(ended.exit, 137);
        assert_eq!(ended.note.as_deref(), Some("was killed by signal 9"));
    }

    #[test]
    fn it_finds_the_environment_and_the_descriptors_of_nobody() {
        // What somebody has left open without the flag.
        let (kept, _writer) = io::pipe().unwrap();
        let kept = crate::session::hand_on_connection(&kept.into());
        kept.unwrap();
        let (_, lines) =
            run_one("env -u PWD -u SHLVL -u _; ls /proc/self/fd; cat; echo to-stderr >&2");
        // (The directory that is listed is open as well.)
        assert_eq!(
            lines,
            ["PATH=/usr/bin:/bin", "0", "1", "2", "3", "to-stderr"]
        );
    }

    #[test]
    fn it_stands_where_it_is_told_and_may_be_killed_for_want_of_memory() {
        // (Not everybody may say so of himself.)
        let _ = std::fs::write("/proc/self/oom_score_adj", "-500");
        let (_, lines) = run_one("pwd; sleep 0.3; cat /proc/self/oom_score_adj");
        assert_eq!(lines, ["/", "0"]);
    }

    #[test]
    fn it_leads_a_session_and_hears_every_signal() {
        crate::signals::block().unwrap();
        let command = "grep -E 'Sig(Blk|Ign)' /proc/self/status; read a b c d e session rest < /proc/self/stat; \
                       [ $session != 0 ] && read p q r s pgrp rest < /proc/$$/stat && [ $pgrp = $$ ] && echo leads";
        let (_, lines) = run_one(command);
        let [blocked, ignored, leads] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert_eq!(blocked, "SigBlk:\t0000000000000000");
        let ignored = ignored.strip_prefix("SigIgn:\t").expect("they are told");
        let ignored = u64::from_str_radix(ignored, 16).expect("a mask");
        // (32 and 33 are the C library's own, and a program that needs them has handlers of its own for them.)
        assert_eq!(ignored & !(3 << 31), 0, "{ignored:x}");
        assert_eq!(leads, "leads");
    }

    #[test]
    fn a_flood_is_summed_up_and_ends() {
        let (ended, lines) = run_one("seq 1 200000; exit 3");
        assert_eq!(ended.exit, 3);
        assert_eq!(lines.len() as u64, LINES_MAX + 1);
        assert_eq!((lines[0].as_str(), lines[99].as_str()), ("1", "100"));
        assert_eq!(lines[100], "... and 199900 more lines");
        let (_, lines) = run_one(
            "head -c 1000000 /dev/zero | tr '\\0' x; echo; printf 'a\\033[2J\\n\\n'; printf end",
        );
        assert_eq!(lines[0].len(), LINE_MAX + 4);
        assert!(lines[0].ends_with("xxx ..."));
        assert_eq!(lines[1..], ["a\\u{1b}[2J", "end"]);
    }

    #[test]
    fn one_that_takes_too_long_is_ended_with_its_children() {
        let begun = Instant::now();
        let (ended, lines) = run_all(
            &limited("echo begun; sleep 1000 & wait", 300),
            &Running::default(),
        );
        assert_eq!(ended.exit, 143);
        let note = "did not end within 0 s (handler-timeout), and was killed by signal 15";
        assert_eq!(ended.note.as_deref(), Some(note));
        assert_eq!(lines, ["begun"]);
        assert!(begun.elapsed() < GRACE);
    }

    #[test]
    fn what_outlives_its_shell_is_killed_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        // The shell ends by SIGTERM, what it has started does not.
        let command = format!(
            "(trap '' TERM; sh -c 'echo $PPID' >{0}.new; mv {0}.new {0}; while :; do sleep 0.1; done) & wait",
            file.display()
        );
        let (ended, _) = run_all(&limited(&command, 500), &Running::default());
        assert!(ended.note.is_some(), "{ended:?}");
        let pid = std::fs::read_to_string(&file).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        let end = Instant::now() + GRACE;
        while stat().is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < end, "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn children_that_do_not_listen_are_killed() {
        let command =
            "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done'; echo never";
        let (ended, lines) = run_all(&limited(command, 300), &Running::default());
        assert_eq!(ended.exit, 137);
        let [child] = &lines[..] else {
            panic!("{lines:?}");
        };
        let end = Instant::now() + GRACE;
        while std::path::Path::new(&format!("/proc/{child}")).exists() {
            let status = std::fs::read_to_string(format!("/proc/{child}/status"));
            if status.is_ok_and(|status| status.contains("State:\tZ")) {
                break;
            }
            assert!(Instant::now() < end, "it lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_it_leaves_in_the_background_is_not_waited_for() {
        let begun = Instant::now();
        let (ended, lines) = run_one("sleep 20 & echo done; exit 4");
        assert_eq!((ended.exit, lines), (4, vec!["done".to_owned()]));
        assert!(begun.elapsed() < Duration::from_secs(10));
        // Nor is one that goes on writing.
        let (ended, _) = run_one("timeout 20 yes & exit 5");
        assert_eq!(ended.exit, 5);
        assert!(begun.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_run_that_nobody_waits_for_is_ended_also_before_it_has_begun() {
        let running = Running::default();
        let whose = call("").whose;
        // It is not known.
        running.end_one(&whose);
        running.announce(&whose);
        let (ended, _) = run_all(&call("exit 3"), &running);
        assert_eq!((ended.exit, ended.note), (3, None));
        running.announce(&whose);
        running.end_one(&whose);
        let (ended, lines) = run_all(&call("echo it runs"), &running);
        assert_eq!((ended.exit, lines.len()), (NOT_RUN, 0));

        running.announce(&whose);
        let (other, own) = (running.clone(), whose.clone());
        let thread = std::thread::spawn(move || {
            while other.state().count == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            // The shell has to have come to its trap.
            std::thread::sleep(Duration::from_millis(300));
            other.end_one(&own);
            std::thread::sleep(Duration::from_millis(300));
            other.insist(&own);
        });
        let (ended, _) = run_all(&call("trap '' TERM; while :; do sleep 1; done"), &running);
        thread.join().unwrap();
        let note = "was ended, since nobody waited for it any more; was killed by signal 9";
        assert_eq!((ended.exit, ended.note.as_deref()), (137, Some(note)));
        assert!(running.state().runs.is_empty() && running.state().groups.is_empty());
    }

    #[test]
    fn with_the_daemon_all_are_ended_and_none_is_started_any_more() {
        let running = Running::default();
        let runs: Vec<_> = ["sleep 1000", "trap '' TERM; while :; do sleep 1; done"]
            .map(|command| {
                let running = running.clone();
                std::thread::spawn(move || run_all(&call(command), &running).0.exit)
            })
            .into();
        while running.state().count < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The shell has to have come to its trap.
        std::thread::sleep(Duration::from_millis(300));
        running.end();
        let exits: Vec<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        assert_eq!(exits, [143, 137]);
        assert_eq!(running.state().count, 0);
        let (ended, _) = run_all(&call("exit 0"), &running);
        assert_eq!(
            ended.note.as_deref(),
            Some("could not be run: rdbd is ending")
        );
    }
}
