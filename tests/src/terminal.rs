//! A program in a pseudo-terminal: what is on its screen, keys that are typed, and whether it leaves the terminal as it was.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::programs::tool;
use crate::wait_until;

/// How long a screen is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The terminal. Its program is killed when it is dropped.
pub struct Terminal {
    child: Child,
    /// The end of who types and sees.
    master: File,
    /// The end of the program.
    slave: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
    before: Termios,
}

impl Terminal {
    /// Starts a program in a terminal of this size.
    ///
    /// # Errors
    /// When there is no terminal to be had, or the program cannot be started.
    pub fn start(command: &Command, lines: u16, columns: u16) -> Result<Terminal> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&*name, flags, Mode::empty())?;
        tcsetwinsize(&master, size(lines, columns))?;
        let before = tcgetattr(&slave)?;
        let end = || -> Result<Stdio> { Ok(slave.try_clone()?.into()) };
        let mut started = Command::new(tool("setsid")?);
        started.arg("--ctty").arg(command.get_program());
        started.args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => started.env(variable, value),
                None => started.env_remove(variable),
            };
        }
        let child = started
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .stdin(end()?)
            .stdout(end()?)
            .stderr(end()?)
            .spawn()?;
        let master = File::from(master);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            shown(lines),
            shown(columns),
            0,
        )));
        let (mut reader, seen) = (master.try_clone()?, Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with the last end of the program.
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                lock(&seen).process(&bytes[..read]);
            }
        });
        Ok(Terminal {
            child,
            master,
            slave,
            screen,
            before,
        })
    }

    /// What is on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Waits until these words are on the screen.
    ///
    /// # Errors
    /// With the screen, when they do not come, or the program ends.
    pub fn until(&mut self, words: &str) -> Result<()> {
        self.until_it(words, |screen| screen.contains(words))
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Errors
    /// With the screen, when it is not to be, or the program ends.
    pub fn until_it(&mut self, what: &str, is: impl Fn(&str) -> bool) -> Result<()> {
        let screen = Arc::clone(&self.screen);
        wait_until(what, PATIENCE, || {
            if is(&lock(&screen).screen().contents()) {
                return Ok(true);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it has ended: {status}");
            }
            Ok(false)
        })
        .with_context(|| format!("the screen:\n{}", self.screen()))
    }

    /// Waits until the program uses the alternate screen, or does not.
    ///
    /// # Errors
    /// When it is not to be.
    pub fn until_used(&self, is_used: bool) -> Result<()> {
        wait_until("the other screen", PATIENCE, || {
            Ok(lock(&self.screen).screen().alternate_screen() == is_used)
        })
    }

    /// Types something.
    ///
    /// # Errors
    /// When the terminal does not take it.
    pub fn type_in(&mut self, keys: &str) -> Result<()> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Gives the terminal another size, and shows it so.
    ///
    /// # Errors
    /// When it cannot have one.
    pub fn resize(&mut self, lines: u16, columns: u16) -> Result<()> {
        tcsetwinsize(&self.master, size(lines, columns))?;
        let mut parser = lock(&self.screen);
        parser.screen_mut().set_size(shown(lines), shown(columns));
        Ok(())
    }

    /// The program's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the program has ended.
    ///
    /// # Errors
    /// With how it has ended, and the screen.
    pub fn is_well(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it has ended: {status}\n{}", self.screen()),
            None => Ok(()),
        }
    }

    /// Waits for the program's end, after which the terminal has to be as it was: its settings, the screen before, a cursor.
    ///
    /// # Errors
    /// When it does not end, or leaves the terminal otherwise.
    pub fn ended(mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_until("the program to end", PATIENCE, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })
        .with_context(|| format!("the screen:\n{}", self.screen()))?;
        let now = tcgetattr(&self.slave)?;
        let modes = |t: &Termios| {
            (
                t.local_modes,
                t.input_modes,
                t.output_modes,
                t.control_modes,
            )
        };
        ensure!(
            modes(&now) == modes(&self.before),
            "{now:?}\n{:?}",
            self.before
        );
        // What it has written last is on its way.
        wait_until("the screen of before", PATIENCE, || {
            let parser = lock(&self.screen);
            let screen = parser.screen();
            Ok(!screen.alternate_screen() && !screen.hide_cursor())
        })?;
        status.context("it has ended")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock(screen: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What shows nothing shows one.
fn shown(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap_or(NonZero::<u16>::MIN)
}

fn size(lines: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
