//! What is typed.

/// A key, or keys together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    /// Esc, and the left arrow.
    Back,
    Backspace,
    /// Ctrl and C.
    Interrupt,
    Char(char),
}
