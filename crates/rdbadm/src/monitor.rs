//! What is written of `rdbmon`, another program: its options and keys, for its manual page and for completion.

/// Its options, what follows each, and what they do.
pub(crate) const OPTIONS: [(&str, &str, &str); 5] = [
    (
        "--config-file",
        "FILE",
        "Configuration file of the commands that are run, as rdbadm's [also: -c]",
    ),
    ("--node", "NAME", "This node's name, as rdbadm's"),
    (
        "--run-dir",
        "DIR",
        "Directory of the control socket [default: /run/rdb]",
    ),
    ("--help", "", "Print help [also: -h]"),
    ("--version", "", "Print the version [also: -V]"),
];

/// Its keys, as its help has them.
pub(crate) const KEYS: [(&str, &str); 11] = [
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
