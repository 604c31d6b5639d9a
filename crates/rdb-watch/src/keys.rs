//! What a monitor for the terminal is told with. (Here, where the monitor and who writes of it can both read it.)

/// The keys of `rdbmon`, and what they do: its help and its manual page have them.
pub const MONITOR_KEYS: [(&str, &str); 11] = [
    (
        "up, down, k, j",
        "mark the resource before or behind; move through a text",
    ),
    ("PgUp, PgDn, Home, End", "the same, farther"),
    ("Enter", "the details of the resource that is marked"),
    (
        "a",
        "what can be done about it, with what it does and costs",
    ),
    ("e", "what has happened since the monitor was started"),
    ("Esc, left", "back; leaves what is shown, and does nothing"),
    (
        "y, n",
        "do, or leave, what can be taken back by another command",
    ),
    ("yes and Enter", "do what may lose data"),
    ("?", "this help"),
    ("q", "end"),
    (
        "Ctrl-C",
        "end, whatever is shown; a command that runs is taken back",
    ),
];
