//! What stands before the rest of the screen: help, a choice of actions, a confirmation, what a command says.

use rdb_watch::{Choice, Stake};

use super::key::Key;

/// What is shown, and waits for keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialog {
    /// The keys, and what they do.
    Help,
    /// What can be done.
    Menu {
        /// The resource, or nothing for the node.
        about: Option<String>,
        /// The actions; at least one.
        choices: Vec<Choice>,
        /// Which of them is marked.
        at: usize,
    },
    /// Whether it is meant.
    Confirm {
        /// The resource, or nothing for the node.
        about: Option<String>,
        /// The action.
        choice: Choice,
        /// What has been typed of `yes`.
        typed: String,
    },
    /// A command runs.
    Runs {
        /// As it is typed.
        command: String,
        /// Since when, in seconds since 1970.
        since_s: u64,
        /// It was told to end.
        is_interrupted: bool,
    },
    /// What a command has said, or a message.
    Said {
        /// What it is.
        title: String,
        /// The text.
        lines: Vec<String>,
    },
}

/// What comes of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is shown on.
    Stay,
    /// Another one takes its place.
    Show(Dialog),
    /// It goes.
    Close,
    /// The command is run.
    Run(Choice),
    /// The command that runs is to end.
    Interrupt,
    /// The key moves through the text.
    Scroll,
}

/// The word that is typed where data may be lost.
const YES: &str = "yes";

impl Dialog {
    /// What a key does.
    pub(super) fn on_key(&mut self, key: Key) -> Then {
        match self {
            Dialog::Help | Dialog::Said { .. } => match key {
                Key::Back | Key::Enter | Key::Backspace | Key::Char('q' | '?') => Then::Close,
                _ => Then::Scroll,
            },
            Dialog::Menu { about, choices, at } => match key {
                Key::Up | Key::Char('k') => moved(at, at.saturating_sub(1), choices.len()),
                Key::Down | Key::Char('j') => moved(at, *at + 1, choices.len()),
                Key::Home | Key::PageUp => moved(at, 0, choices.len()),
                Key::End | Key::PageDown => moved(at, usize::MAX, choices.len()),
                Key::Enter => match choices.get(*at) {
                    Some(choice) => chosen(about.clone(), choice.clone()),
                    None => Then::Close,
                },
                Key::Back | Key::Backspace | Key::Char('q' | 'a') => Then::Close,
                _ => Then::Stay,
            },
            Dialog::Confirm { choice, typed, .. } => match choice.stake {
                Stake::Data => typing(choice, typed, key),
                Stake::Service | Stake::Nothing => match key {
                    Key::Char('y' | 'Y') => Then::Run(choice.clone()),
                    Key::Back | Key::Backspace | Key::Char('n' | 'N' | 'q') => Then::Close,
                    _ => Then::Stay,
                },
            },
            Dialog::Runs { is_interrupted, .. } => match key {
                Key::Back if !*is_interrupted => {
                    *is_interrupted = true;
                    Then::Interrupt
                }
                _ => Then::Stay,
            },
        }
    }
}

fn moved(at: &mut usize, to: usize, number: usize) -> Then {
    *at = to.min(number.saturating_sub(1));
    Then::Stay
}

/// What only tells is done at once.
fn chosen(about: Option<String>, choice: Choice) -> Then {
    match choice.stake {
        Stake::Nothing => Then::Run(choice),
        Stake::Service | Stake::Data => Then::Show(Dialog::Confirm {
            about,
            choice,
            typed: String::new(),
        }),
    }
}

/// The whole word, and Enter: nothing else does it.
fn typing(choice: &Choice, typed: &mut String, key: Key) -> Then {
    match key {
        Key::Enter if typed == YES => return Then::Run(choice.clone()),
        Key::Enter => typed.clear(),
        Key::Back => return Then::Close,
        Key::Backspace => drop(typed.pop()),
        Key::Char(c) if typed.len() < YES.len() => typed.push(c),
        // Whoever goes on typing means something else.
        Key::Char(_) => typed.clear(),
        _ => {}
    }
    Then::Stay
}

#[cfg(test)]
mod tests {
    use rdb_control::samples::{good_volume, resource};

    use super::*;

    fn confirm(command: &str) -> Dialog {
        let all = rdb_watch::actions(&resource("r0", vec![good_volume()]));
        let found = all.into_iter().find(|choice| choice.command == command);
        Dialog::Confirm {
            about: Some("r0".to_owned()),
            choice: found.expect("it is offered"),
            typed: String::new(),
        }
    }

    fn type_in(dialog: &mut Dialog, text: &str) -> Then {
        text.chars()
            .map(|c| dialog.on_key(Key::Char(c)))
            .last()
            .unwrap_or(Then::Stay)
    }

    #[test]
    fn what_throws_data_away_is_done_for_the_whole_word_alone() {
        for (typed, is_done) in [
            ("yes", true),
            ("y", false),
            ("", false),
            ("ye", false),
            ("YES", false),
            ("yess", false),
            ("no", false),
        ] {
            let mut dialog = confirm("rdbadm invalidate r0");
            assert_eq!(type_in(&mut dialog, typed), Then::Stay, "{typed}");
            let then = dialog.on_key(Key::Enter);
            assert_eq!(matches!(then, Then::Run(_)), is_done, "{typed}");
        }
        let mut dialog = confirm("rdbadm invalidate r0");
        type_in(&mut dialog, "yex");
        dialog.on_key(Key::Backspace);
        type_in(&mut dialog, "s");
        assert!(matches!(dialog.on_key(Key::Enter), Then::Run(_)));
        assert_eq!(dialog.on_key(Key::Back), Then::Close);
    }

    #[test]
    fn what_can_be_taken_back_is_done_for_a_y_and_for_nothing_else() {
        let mut dialog = confirm("rdbadm disconnect r0");
        for key in [Key::Enter, Key::Char('x'), Key::Up, Key::Char(' ')] {
            assert_eq!(dialog.on_key(key), Then::Stay, "{key:?}");
        }
        for key in [Key::Char('n'), Key::Back, Key::Backspace] {
            assert_eq!(dialog.on_key(key), Then::Close, "{key:?}");
        }
        assert!(matches!(dialog.on_key(Key::Char('y')), Then::Run(_)));
    }

    #[test]
    fn a_command_is_interrupted_once() {
        let mut dialog = Dialog::Runs {
            command: "rdbadm verify r0".to_owned(),
            since_s: 0,
            is_interrupted: false,
        };
        assert_eq!(dialog.on_key(Key::Char('q')), Then::Stay);
        assert_eq!(dialog.on_key(Key::Back), Then::Interrupt);
        assert_eq!(dialog.on_key(Key::Back), Then::Stay);
    }
}
