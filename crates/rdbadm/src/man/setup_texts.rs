//! What the commands of `rdbsetup` do that `rdbadm` has not, or has with a wider meaning.

/// By the command's name.
pub(super) const TEXTS: [(&str, &str); 5] = [
    ("del-resource", "Delete a resource that has no volumes."),
    ("del-minor", "Delete a volume that has no disk."),
    (
        "show",
        "Print what runs, in the words of the configuration.",
    ),
    ("shutdown", "Bring all resources down and end the daemon."),
    ("down", "Demote, disconnect, detach and delete a resource."),
];
