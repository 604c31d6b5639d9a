//! A terminal whose whole screen shows one text that is drawn anew: the alternate screen, which leaves what was there before as it was.
//!
//! A signal that ends the program, or stops it, finds the terminal put in order first; a change of the window's size has the text drawn
//! anew.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::out;
use crate::threads;

/// To the alternate screen, without a cursor; what is longer than a line is cut off.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// The other way.
const END: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// How many lines there are if the terminal does not say.
const USUAL_LINES: usize = 24;
/// How long a signal waits for what is just being written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The screen. It is as it was before when this is dropped.
pub(crate) struct Screen {
    shown: Arc<Mutex<String>>,
}

impl Screen {
    /// Takes the screen over, if standard output is a terminal that can do that.
    pub(crate) fn begin() -> Option<io::Result<Screen>> {
        let is_dumb = crate::variable("TERM").is_none_or(|term| term == "dumb");
        (io::stdout().is_terminal() && !is_dumb).then(Screen::take)
    }

    fn take() -> io::Result<Screen> {
        let shown = Arc::new(Mutex::new(String::new()));
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH])?;
        let text = Arc::clone(&shown);
        threads::start(move || {
            for signal in &mut signals {
                on_signal(signal, &text);
            }
        })?;
        out::print(BEGIN);
        Ok(Screen { shown })
    }

    /// Shows this text, as much as there is room for.
    pub(crate) fn show(&self, text: &str) {
        let mut shown = lock(&self.shown);
        text.clone_into(&mut shown);
        out::print(&drawn(&shown, lines()));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _shown = lock(&self.shown);
        out::print(END);
    }
}

fn lock(shown: &Mutex<String>) -> MutexGuard<'_, String> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on_signal(signal: i32, text: &Mutex<String>) {
    // A terminal that takes nothing holds up whoever writes to it, and must not hold up the end of the program.
    let begun = Instant::now();
    let shown = loop {
        match text.try_lock() {
            Ok(shown) => break Some(shown),
            Err(_) if begun.elapsed() >= PATIENCE => break None,
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    if signal == SIGWINCH {
        if let Some(shown) = shown {
            out::print(&drawn(&shown, lines()));
        }
        return;
    }
    if shown.is_some() {
        out::print(END);
    }
    // It returns from a signal that stops alone, when the program goes on.
    let _ = emulate_default_handler(signal);
    if let Some(shown) = shown {
        out::print(BEGIN);
        out::print(&drawn(&shown, lines()));
    }
}

/// How many lines the terminal has.
fn lines() -> usize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 => size.ws_row.into(),
        _ => USUAL_LINES,
    }
}

/// The text from the first line of the screen on, and nothing else; the last line says what there is no room for.
fn drawn(text: &str, room: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let more = format!("({} more lines)", (all.len() + 1).saturating_sub(room));
    let mut fitting: Vec<&str> = all.iter().take(room).copied().collect();
    if all.len() > room
        && let Some(last) = fitting.last_mut()
    {
        *last = &more;
    }
    let lines: Vec<String> = fitting.iter().map(|line| format!("{line}\x1b[K")).collect();
    format!("\x1b[H{}\x1b[J", lines.join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted_on_the_last_line() {
        assert_eq!(drawn("a\nb\n", 3), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(
            drawn("a\nb\nc\n", 3),
            "\x1b[Ha\x1b[K\r\nb\x1b[K\r\nc\x1b[K\x1b[J"
        );
        assert_eq!(
            drawn("a\nb\nc\nd\n", 3),
            "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n(2 more lines)\x1b[K\x1b[J"
        );
        assert_eq!(drawn("a\nb\n", 1), "\x1b[H(2 more lines)\x1b[K\x1b[J");
        assert_eq!(drawn("", 5), "\x1b[H\x1b[J");
    }
}
