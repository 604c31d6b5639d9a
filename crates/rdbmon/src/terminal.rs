//! The loop: keys, news and the time go to the model, and what it has to show to the terminal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::DefaultTerminal;
use rustix::termios::tcgetattr;
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;

use crate::draw::{Look, draw};
use crate::model::{Input, Key, Model, Order};
use crate::runner::Runner;
use crate::view::view;
use crate::watcher::Watcher;

/// How long keys are waited for until news are looked at.
const SLICE: Duration = Duration::from_millis(100);
/// How often it is looked whether the terminal is still there, and how long the loop has for ending by itself.
const GRACE: Duration = Duration::from_secs(1);

/// Who does what the model orders.
pub(crate) struct Hands {
    pub(crate) watcher: Watcher,
    pub(crate) runner: Runner,
    pub(crate) news: Receiver<Input>,
}

/// Shows the model until somebody ends that. The terminal is as it was before then, whatever happens. A signal that ends the program
/// is the result.
pub(crate) fn run(model: &mut Model, hands: &Hands, look: Look) -> io::Result<Option<i32>> {
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        let value = usize::try_from(number).unwrap_or_default();
        signal_hook::flag::register_usize(number, Arc::clone(&signal), value)?;
    }
    let watched = Arc::clone(&signal);
    std::thread::Builder::new().spawn(move || end_if_stuck(&watched))?;
    let mut terminal = ratatui::try_init()?;
    let ended = attend(model, hands, look, &mut terminal, &signal);
    ratatui::try_restore().and(ended)?;
    let signal = i32::try_from(signal.load(Ordering::Acquire)).unwrap_or_default();
    Ok((signal != 0).then_some(signal))
}

/// Ends the program when the loop cannot: crossterm reads a terminal that is gone again and again, and returns to nobody; and who
/// writes to one that takes nothing waits for ever. Without it a monitor whose window was closed would keep a processor busy.
fn end_if_stuck(signal: &AtomicUsize) {
    let mut told = 0;
    loop {
        std::thread::sleep(GRACE);
        if tcgetattr(io::stdin()).is_err() {
            std::process::exit(1);
        }
        let now = signal.load(Ordering::Acquire);
        if now != 0 && now == told {
            let _ = ratatui::try_restore();
            let _ = emulate_default_handler(i32::try_from(now).unwrap_or_default());
        }
        told = now;
    }
}

fn attend(
    model: &mut Model,
    hands: &Hands,
    look: Look,
    terminal: &mut DefaultTerminal,
    signal: &AtomicUsize,
) -> io::Result<()> {
    let mut is_old = true;
    while signal.load(Ordering::Acquire) == 0 {
        let now_ms = now_ms();
        is_old |= now_ms / 1000 != model.now_s();
        model.handle(Input::Time(now_ms));
        let mut orders = Vec::new();
        for input in hands.news.try_iter() {
            orders.extend(model.handle(input));
            is_old = true;
        }
        if is_old {
            let mut fits = None;
            terminal.draw(|frame| {
                let area = frame.area();
                let shown = view(model, area.width.into(), area.height.into(), look.marks);
                draw(frame, &shown, look);
                fits = Some((shown.page, shown.scroll_max, shown.dialog_max));
            })?;
            if let Some((page, scroll_max, dialog_max)) = fits {
                model.fits(page, scroll_max, dialog_max);
            }
            is_old = false;
        }
        if event::poll(SLICE)? {
            match event::read()? {
                Event::Key(key) => {
                    if let Some(key) = meant(key) {
                        orders.extend(model.handle(Input::Key(key)));
                        is_old = true;
                    }
                }
                Event::Resize(..) => is_old = true,
                _ => {}
            }
        }
        for order in orders {
            match order {
                Order::Quit => {
                    hands.runner.interrupt();
                    return Ok(());
                }
                Order::LookAt(name) => hands.watcher.look_at(name),
                Order::Run(choice) => hands.runner.run(choice),
                Order::Interrupt => hands.runner.interrupt(),
            }
        }
    }
    hands.runner.interrupt();
    Ok(())
}

/// The key that was meant; none of those that mean nothing here.
fn meant(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let is_plain = (key.modifiers - KeyModifiers::SHIFT).is_empty();
    match key.code {
        KeyCode::Char('c' | 'C') if key.modifiers == KeyModifiers::CONTROL => Some(Key::Interrupt),
        KeyCode::Char(c) if is_plain => Some(Key::Char(c)),
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown => Some(Key::PageDown),
        KeyCode::Home => Some(Key::Home),
        KeyCode::End => Some(Key::End),
        KeyCode::Enter => Some(Key::Enter),
        KeyCode::Esc | KeyCode::Left => Some(Key::Back),
        KeyCode::Backspace => Some(Key::Backspace),
        _ => None,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_control_or_alt_are_not_those_without() {
        let key = |code, modifiers| meant(KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('q'), none), Some(Key::Char('q')));
        assert_eq!(
            key(KeyCode::Char('Y'), KeyModifiers::SHIFT),
            Some(Key::Char('Y'))
        );
        assert_eq!(
            key(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Some(Key::Interrupt)
        );
        assert_eq!(key(KeyCode::Char('y'), KeyModifiers::CONTROL), None);
        assert_eq!(key(KeyCode::Char('y'), KeyModifiers::ALT), None);
        assert_eq!(key(KeyCode::F(5), none), None);
        assert_eq!(key(KeyCode::Esc, none), Some(Key::Back));
    }
}
