//! `rdbmon(8)`.

use super::page::Page;
use crate::monitor::OPTIONS;

/// The page.
pub(super) fn page() -> Page {
    let mut page = Page::new(
        "rdbmon",
        "8",
        "watch replicated block devices at a terminal",
    );
    page.section("SYNOPSIS")
        .text("`rdbmon` [`--run-dir` DIR] [`--config-file` FILE] [`--node` NAME] [RES...]");
    page.section("DESCRIPTION").text(
        "rdbmon shows the resources of this node, or those that are named, what is wrong first: each with the verdict that `rdbadm check` \
         gives, the states of both sides, and how far a resync is. Behind Enter are the details of one: its volumes, what they do with \
         graphs of the last three minutes, their generation identifiers, what happens next by itself, and what has happened. The state is \
         asked for every second, and what happens is told at once.",
    );
    page.text(
        "`a` offers what can be done about a resource in its state, with what it does and what it costs. It is done by `rdbadm`, which is \
         run as if it were typed, and what it says is shown. What another command takes back is confirmed with `y`; for what may lose \
         data, or requests of users, the word `yes` has to be typed. If the state changes meanwhile so that it is not offered any more, \
         it is not done.",
    );
    page.text(
        "If the daemon is gone that is said, with what was known last, until one is there again. Who may only ask (see `rdbadm`(8), WHO \
         MAY) sees the same; what would change something is refused, with the reason.",
    );
    page.section("OPTIONS");
    for (name, value, text) in OPTIONS {
        let name = format!("`{name}` {value}");
        page.item(name.trim_end(), &format!("{text}."));
    }
    page.section("KEYS");
    for (keys, text) in rdb_watch::MONITOR_KEYS {
        page.item(&format!("`{keys}`"), text);
    }
    page.section("EXIT STATUS");
    page.item("0", "It was ended by a key.");
    page.item(
        "1",
        "The command line is wrong, there is no terminal, or it has failed.",
    );
    page.section("EXAMPLES");
    page.text("Everything on this node; two resources; the daemon of a test:");
    page.example("rdbmon\nrdbmon mail web\nrdbmon --run-dir /tmp/alice --node alice");
    page.section("ENVIRONMENT");
    page.item("RDB_RUN_DIR", "The run directory, as `--run-dir`.");
    page.item(
        "RDB_CONF, RDB_NODE",
        "For the commands that are run, as rdbadm has them.",
    );
    page.item("NO_COLOR", "If it is set, there are no colours.");
    page.item(
        "LC_ALL, LC_CTYPE, LANG",
        "Without UTF-8 in the first that is set, graphs and frames are ASCII.",
    );
    page.section("FILES");
    page.item("/run/rdb/control.sock", "How the daemon is asked.");
    page.item(
        "/run/rdb/questions.sock",
        "How it is asked by members of the group `rdb`, who may change nothing.",
    );
    page.see_also(&["rdbadm(8)", "rdbd(8)"]);
    page
}
