//! What is written of `rdbmon`, another program: its options, for its manual page and for completion.

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
