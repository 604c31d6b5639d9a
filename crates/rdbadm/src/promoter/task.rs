//! A command that a promoter runs: in a process group of its own, for a limited time.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde::{Deserialize, Serialize};

use super::settings::Service;

/// How long one that was told to end may take until it is made to.
const GRACE: Duration = Duration::from_secs(5);
/// How much of what it prints is looked at, in bytes.
const SAID_MAX: u64 = 256;
/// The words of `systemctl is-active` for a unit that runs, or is about to.
const ACTIVE: [&str; 4] = ["active", "activating", "reloading", "refreshing"];

/// What a command says of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Its exit code.
    Code,
    /// The word that it prints.
    IsActive,
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Task {
    child: Child,
    asks: Asks,
    begun: Instant,
    limit: Duration,
    /// When it was told to end.
    told: Option<Instant>,
    /// How it has ended, while something that it has started and that was told to end, too, is still there.
    status: Option<ExitStatus>,
}

/// A command that a promoter has left behind: its process, and when that began, by which it is told from another one of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Left {
    pid: u32,
    /// Clock ticks since the boot.
    began: u64,
    /// It changes the role: the daemon goes on with that, whatever becomes of the command.
    of_role: bool,
}

impl Left {
    /// Whether it still runs.
    fn lives(self) -> bool {
        began(self.pid) == Some(self.began)
    }

    /// Waits for a change of the role, at most this long; has anything else ended. Without it what was started by half would come up on a
    /// node that has given the role up since, and a promotion that succeeds would be taken for somebody else's.
    pub(crate) fn settle(self, limit: Duration) {
        let begun = Instant::now();
        let limit = if self.of_role { limit } else { 2 * GRACE };
        if !self.lives() {
            return;
        }
        // The group's number is nobody else's as long as one of it is there.
        while (self.lives() || !self.of_role && is_group(self.pid)) && begun.elapsed() < limit {
            let is_told = begun.elapsed() < GRACE;
            let signal = if is_told { Signal::TERM } else { Signal::KILL };
            if !self.of_role {
                signal_group(self.pid, signal);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// When a process began, in clock ticks since the boot; `None`: there is none, or it has ended and is only not waited for.
fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may have anything in it.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    if rest.next()? == "Z" {
        return None;
    }
    rest.nth(18)?.parse().ok()
}

fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = group(pid) {
        // It may just have ended.
        let _ = kill_process_group(pid, signal);
    }
}

/// Whether a process of this group is there.
fn is_group(pid: u32) -> bool {
    group(pid).is_some_and(|pid| test_kill_process_group(pid).is_ok())
}

fn group(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) words: Vec<String>,
    asks: Asks,
}

impl Order {
    pub(crate) fn words(words: &[&str]) -> Order {
        Order {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            asks: Asks::Code,
        }
    }

    fn shell(command: &str) -> Order {
        Order::words(&["/bin/sh", "-c", command])
    }

    /// Starts a service.
    pub(crate) fn start(service: &Service) -> Order {
        match service {
            Service::Unit(name) => Order::words(&["systemctl", "start", "--", name]),
            Service::Commands(commands) => Order::shell(&commands.command),
        }
    }

    /// Stops it; `None`: there is nothing to be done for that.
    pub(crate) fn stop(service: &Service) -> Option<Order> {
        match service {
            Service::Unit(name) => Some(Order::words(&["systemctl", "stop", "--", name])),
            Service::Commands(commands) => commands.stop.as_deref().map(Order::shell),
        }
    }

    /// Looks whether it runs; `None`: nobody can tell.
    pub(crate) fn check(service: &Service) -> Option<Order> {
        match service {
            Service::Unit(name) => Some(Order {
                asks: Asks::IsActive,
                ..Order::words(&["systemctl", "is-active", "--", name])
            }),
            Service::Commands(commands) => commands.check.as_deref().map(Order::shell),
        }
    }
}

impl Task {
    /// Begins; what it prints goes where the promoter's own words go.
    ///
    /// # Errors
    /// When it can not be run.
    pub(crate) fn begin(
        order: &Order,
        environment: &[(&str, String)],
        limit: Duration,
    ) -> std::io::Result<Task> {
        let (program, words) = order.words.split_first().expect("an order has a program");
        let mut command = Command::new(program);
        command
            .args(words)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .process_group(0);
        if order.asks == Asks::IsActive {
            command.stdout(Stdio::piped());
        }
        Ok(Task {
            child: command.spawn()?,
            asks: order.asks,
            begun: Instant::now(),
            limit,
            told: None,
            status: None,
        })
    }

    /// Whether it has ended, and well. One that takes too long is told to end, and then made to, with all that it has started: of what
    /// was broken off nothing may come about later, when the role was given up.
    pub(crate) fn poll(&mut self) -> Option<Result<(), String>> {
        if self.status.is_none() {
            match self.child.try_wait() {
                Ok(status) => self.status = status,
                Err(error) => return Some(Err(error.to_string())),
            }
        }
        if let Some(status) = self.status
            && (self.told.is_none() || !is_group(self.child.id()))
        {
            return Some(self.ended(status));
        }
        match self.told {
            None if self.begun.elapsed() >= self.limit => self.tell_to_end(),
            Some(told) if told.elapsed() >= GRACE => self.signal(Signal::KILL),
            _ => {}
        }
        // Nothing ends a process that waits in the kernel; it is left behind.
        let is_left = self.told.is_some_and(|told| told.elapsed() >= 2 * GRACE);
        is_left.then(|| Err("it can not be ended".to_owned()))
    }

    /// Tells it to end before its time.
    pub(crate) fn tell_to_end(&mut self) {
        if self.told.is_none() {
            self.told = Some(Instant::now());
            self.signal(Signal::TERM);
        }
    }

    fn signal(&self, signal: Signal) {
        signal_group(self.child.id(), signal);
    }

    /// What the next promoter has to know of it, should this one die. `of_role`: it changes the role.
    pub(crate) fn left(&self, of_role: bool) -> Option<Left> {
        let pid = self.child.id();
        began(pid).map(|began| Left {
            pid,
            began,
            of_role,
        })
    }

    fn ended(&mut self, status: ExitStatus) -> Result<(), String> {
        if self.told.is_some() {
            let over = self.begun.elapsed() >= self.limit;
            let why = if over {
                "it took too long"
            } else {
                "it was broken off"
            };
            return Err(why.to_owned());
        }
        if self.asks == Asks::IsActive {
            let mut said = String::new();
            if let Some(pipe) = self.child.stdout.take() {
                // What is no text is no word of systemctl's.
                let _ = pipe.take(SAID_MAX).read_to_string(&mut said);
            }
            let word = said.trim();
            return match ACTIVE.contains(&word) {
                true => Ok(()),
                false => Err(format!("it is '{word}'")),
            };
        }
        match status.success() {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(order: &Order, limit_ms: u64) -> Result<(), String> {
        let environment = [("WORD", "told".to_owned())];
        let mut task = Task::begin(order, &environment, Duration::from_millis(limit_ms)).unwrap();
        loop {
            if let Some(done) = task.poll() {
                return done;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_command_ends_by_its_code_or_its_limit_with_all_that_it_has_started() {
        assert_eq!(ends(&Order::shell("test $WORD = told"), 60_000), Ok(()));
        assert_eq!(
            ends(&Order::shell("exit 3"), 60_000),
            Err("exit status: 3".to_owned())
        );
        let began = Instant::now();
        // (The shell waits for a program of its own, which is in its group.)
        let slow = ends(&Order::shell("sleep 100; true"), 50);
        assert_eq!(slow, Err("it took too long".to_owned()));
        assert!(began.elapsed() < Duration::from_secs(50));
        // One that has ended well may leave something, such as a daemon.
        let began = Instant::now();
        assert_eq!(
            ends(&Order::shell("sleep 3 >/dev/null 2>&1 &"), 60_000),
            Ok(())
        );
        assert!(began.elapsed() < Duration::from_secs(3));
        assert!(Task::begin(&Order::words(&["/no/such"]), &[], GRACE).is_err());
    }

    #[test]
    fn what_was_left_behind_is_ended_and_a_change_of_the_role_waited_for() {
        let of_nobody = Left {
            pid: std::process::id(),
            began: 1,
            of_role: false,
        };
        of_nobody.settle(GRACE); // or this test would end here
        let begin = |command| Task::begin(&Order::shell(command), &[], GRACE).unwrap();
        let mut service = begin("sleep 100; true");
        let left = service.left(false).unwrap();
        assert!(left.lives());
        // (Whoever has ended belongs to its group until somebody has waited for it.)
        let waits = std::thread::spawn(move || service.child.wait());
        left.settle(Duration::ZERO);
        assert!(!left.lives() && !is_group(left.pid));
        waits.join().unwrap().unwrap();
        let mut promotion = begin("sleep 1");
        promotion.left(true).unwrap().settle(GRACE);
        assert!(promotion.child.wait().unwrap().success());
    }

    #[test]
    fn a_unit_runs_by_the_word_of_systemctl() {
        for (word, is_ok) in [
            ("active", true),
            ("activating", true),
            ("failed", false),
            ("inactive", false),
            ("", false),
        ] {
            let order = Order {
                asks: Asks::IsActive,
                ..Order::shell(&format!("echo {word}; exit 3"))
            };
            assert_eq!(ends(&order, 60_000).is_ok(), is_ok, "{word}");
        }
        let unit = Service::Unit("a.mount".to_owned());
        assert_eq!(
            Order::check(&unit).unwrap().words,
            ["systemctl", "is-active", "--", "a.mount"]
        );
    }
}
