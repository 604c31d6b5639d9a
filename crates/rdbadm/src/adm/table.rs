//! The parser of `rdbadm`: help, manual pages and completions come from it, and it from the table of commands.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, Command, value_parser};

use crate::verbs::{Flag, Own, Target, VERBS, Verb};

const ABOUT_RESTART: &str = "Replace the daemon, under the devices in use

The daemon brings its resources down, keeps the devices that are in use for the new one, and becomes the new program; \
that brings everything up again and makes Primary what was. Whoever reads or writes meanwhile waits; the pause is printed for \
each volume. The peer sees the connection end and come back, and has nothing to resync but what was written at that time.

Before anything is touched, the new program is asked whether it can run here. The restart is refused while users have a device \
that can not wait: clients of an NBD socket (unless --force is given), or a device whose disk here is not UpToDate; while users \
of the peer have no other UpToDate data than this node's (unless --force is given); and by a daemon that is ending.

Exit status: 0 if all is as before; 11 if it is refused, or if a volume is not Primary again; 20 if there is no daemon or the \
new one can not run; 30 if the daemon has ended meanwhile, or does not say what runs.";

const ABOUT_SPLIT_BRAIN: &str = "Print what each node has written apart, before anybody's writes are given up

For each volume: the generation of the data and since when it is there, when this node was Primary, how many blocks it has written \
without the other one and where, and what the other one has announced. With --with-peer, and what the other node prints with --json, \
also which blocks both have written. Then what each choice throws away, and the commands for it. Nothing is changed.

    ssh bob rdbadm split-brain --json r0 | rdbadm split-brain --with-peer - r0

It works with the daemon stopped, too: then the metadata of the disks and the history in the state directory are read. --files uses \
filefrag, debugfs or xfs_db, which only read.

Exit status: 0 if it is told; 1 if the other node's report can not be used, or the files can not be found; 20 or 30 if the daemon \
can not be asked.";
const ABOUT_SNAPSHOT: &str = "Take a snapshot of the disks of both nodes at one moment, by handlers

Users' requests wait. When all that they have asked for before is done and durable on both nodes, the handler 'snapshot' is run on \
the peer, and the same or COMMAND here: each takes a snapshot of its node's backing disks, by the name in RDB_SNAPSHOT. When both have \
ended, users' requests go on. They go on in any case after 30 seconds, or those of --timeout (at most 600), and when the connection is \
lost or the command is interrupted: what still runs is ended, and the command fails.

It is refused, and nothing is run, unless the peer is an rdb with a handler 'snapshot', all disks are connected and UpToDate, and \
the peer is not Primary; with --local-only what the peer is does not matter, unless it is Primary.

Exit status: 0 if the snapshot is there on all nodes that take part; 10 if not, which says what exists and may be removed.";

const ABOUT_DOCTOR: &str = "Look what is wrong with this machine, and say what to change

Kernel, modules and front end, io_uring, limits, clock, addresses, ports and MTU of each resource, the way to its peer, its disks with their caches and metadata, what LVM and multipath would do with them, handlers and fencing, and cluster managers beside rdb. Each finding says what was seen, why it matters, and what to do; with -v what is well is told, too. Nothing is changed, no module is loaded, and the peer's port is not called: an echo is asked of a peer that is not connected.

It works without a daemon, without a configuration, and for users who may not look at everything: what could not be looked at is a note.

Exit status: 0 if there is nothing worse than a note; 1 for a warning; 2 for a problem; 3 if there is no such resource.";

const ABOUT_PROMOTER: &str = "Keep a resource in use on one of its nodes: promote it, and start what needs it

It runs on both nodes, for one resource, until it is told to end (SIGTERM), as rdb-promoter@RES.service. Where the resource may be \
promoted and the peer is not Primary, it promotes it and starts the services of its file in order. It stops them in reverse and \
demotes when one of them fails, when the data or the role are lost, when this node is evicted, and when it is told to end; then \
the other node takes over. A node without its peer asks fence-peer, as primary does, and is not promoted where no fencing is configured.

With --status it says what the promoter of each resource does, with --check-config what the file means; with --dry-run what would be \
done now.

Exit status: 0 if it has ended as it should; 1 if the resource is still Primary although it was to be demoted; 3 from --status if no \
promoter runs; 10 if the file has a mistake; 20 if another promoter has the resource.";

/// The parser of `rdbadm`, called `program` in its messages.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program.to_owned())
        .version(env!("CARGO_PKG_VERSION"))
        .about("Administer replicated block devices as the configuration describes them")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(globals());
    for verb in VERBS {
        let Verb { name, aliases, .. } = *verb;
        let Some(adm) = verb.adm else { continue };
        let mut sub = Command::new(name)
            .about(adm.about)
            .hide(adm.is_hidden)
            .aliases(aliases);
        for flag in adm.flags {
            sub = sub.args(flag_args(*flag));
        }
        sub = match adm.target {
            Target::None => sub,
            Target::All => sub.arg(objects("RES", "Ignored: it is about all").hide(true)),
            Target::Whole => sub.arg(objects("RES", "A resource, or all")),
            Target::Volumes if verb.is(Own::SetGi) => sub.arg(objects(
                "GI OBJECT",
                "What get-gi prints, empty fields for what stays; then a resource, RES/VOLUME, minor-N, or all",
            )),
            Target::Volumes => {
                sub.arg(objects("OBJECT", "A resource, RES/VOLUME, minor-N, or all"))
            }
            // Numbers of refusals are below zero, too.
            Target::Optional if verb.is(Own::Explain) => sub.arg(
                objects(
                    "RES|CODE",
                    "A resource, or the number of a refusal; without one, all resources",
                )
                .allow_negative_numbers(true),
            ),
            Target::Optional => sub.arg(objects("RES", "A resource; without one, all")),
        };
        if verb.is(Own::Restart) {
            sub = sub.long_about(ABOUT_RESTART);
        } else if verb.is(Own::Doctor) {
            sub = sub.long_about(ABOUT_DOCTOR);
        } else if verb.is(Own::SplitBrain) {
            sub = sub.long_about(ABOUT_SPLIT_BRAIN);
        } else if verb.is(Own::Snapshot) {
            sub = sub.long_about(ABOUT_SNAPSHOT);
        } else if verb.is(Own::Promoter) {
            sub = sub.long_about(ABOUT_PROMOTER);
        } else if verb.is(Own::Completions) {
            sub = sub.arg(
                Arg::new("shell")
                    .required(true)
                    .value_parser(crate::complete::SHELLS.map(|(name, _)| name))
                    .help("The shell"),
            );
        } else if verb.is(Own::Man) {
            sub = sub.arg(
                Arg::new("dir")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("Where to write them"),
            );
        }
        command = command.subcommand(sub);
    }
    command
}

fn objects(name: &'static str, help: &'static str) -> Arg {
    // Not `required`: without a name DRBD's own message is printed.
    Arg::new("objects")
        .value_name(name)
        .num_args(0..)
        .help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// An option that a variable of the environment stands for, unless that is set to nothing.
fn from_env(arg: Arg, variable: &'static str) -> Arg {
    let is_empty = std::env::var_os(variable).is_some_and(|value| value.is_empty());
    if is_empty { arg } else { arg.env(variable) }
}

fn globals() -> Vec<Arg> {
    vec![
        Arg::new("dry-run")
            .short('d')
            .long("dry-run")
            .global(true)
            .action(ArgAction::SetTrue)
            .help("Print what would be done"),
        Arg::new("verbose")
            .short('v')
            .long("verbose")
            .global(true)
            .action(ArgAction::SetTrue)
            .help("Print what is done; more of the status"),
        from_env(Arg::new("config-file"), "RDB_CONF")
            .short('c')
            .long("config-file")
            .global(true)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Configuration file; - and /dev/stdin are standard input [default: /etc/rdb.conf, else /etc/drbd.conf]"),
        from_env(Arg::new("node"), "RDB_NODE")
            .long("node")
            .global(true)
            .value_name("NAME")
            .help("This node's name [default: the host name]"),
        Arg::new("peer")
            .short('P')
            .long("peer")
            .global(true)
            .value_name("NAME")
            .help("The peer, where the configuration has several"),
        run_dir_arg(),
        Arg::new("stacked")
            .long("stacked")
            .global(true)
            .action(ArgAction::SetTrue)
            .help("Work on stacked resources, which are not served: names the others as DRBD does [also: -S]"),
        Arg::new("config-to-test")
            .short('t')
            .long("config-to-test")
            .global(true)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Check this file, too, beside the configuration; for dump and sh-nop"),
        program_arg("drbdsetup", "Have this program do the steps of the daemon [also: -s]"),
        program_arg("drbdmeta", "Have this program work on metadata").short('m'),
        program_arg("drbd-proxy-ctl", "Must exist, as with drbdadm; no command of rdb's calls it").short('p'),
        Arg::new("sh-varname")
            .short('n')
            .long("sh-varname")
            .global(true)
            .hide(true)
            .value_name("NAME")
            .help("Taken, as by drbdadm 8.4, which prints plain values all the same"),
        Arg::new("timeout")
            .long("timeout")
            .global(true)
            .value_name("SECONDS")
            .value_parser(value_parser!(u32))
            .help("Give the command up after so long; 0 is never [default: cmd-timeout-* of the configuration]"),
        Arg::new("setup-option")
            .short('W')
            .long("setup-option")
            .global(true)
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .value_name("OPTION")
            .help("Append an option to the step, as after --"),
    ]
}

/// The path of a program.
fn program_arg(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .global(true)
        .value_name("PROGRAM")
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

/// `--run-dir`, which all the commands have.
pub(crate) fn run_dir_arg() -> Arg {
    from_env(Arg::new("run-dir"), "RDB_RUN_DIR")
        .long("run-dir")
        .global(true)
        .value_name("DIR")
        .default_value("/run/rdb")
        .value_parser(value_parser!(PathBuf))
        .help("Directory of the control socket and the status file")
}

#[expect(clippy::too_many_lines, reason = "a table: one arm a flag")]
fn flag_args(flag: Flag) -> Vec<Arg> {
    match flag {
        Flag::Force => vec![switch("force", "Do it without asking or waiting").short('f')],
        Flag::ForcePrimary => vec![
            switch(
                "force",
                "Consider the local data as UpToDate, whatever the peer has",
            )
            .short('f')
            .short_alias('o')
            .alias("overwrite-data-of-peer"),
            switch(
                "yes-lose-newer-data",
                "Do not ask, although this disk is known to be older than another",
            )
            .requires("force"),
        ],
        Flag::DiscardMyData => {
            vec![switch(
                "discard-my-data",
                "This node's changes are given up after a split brain",
            )]
        }
        // The global --dry-run has taken the option's second name.
        Flag::Tentative => vec![switch(
            "tentative",
            "Shake hands, log what would happen, disconnect",
        )],
        Flag::ClearBitmap => {
            vec![switch(
                "clear-bitmap",
                "Consider both disks equal: skips the first sync",
            )]
        }
        Flag::WaitTimes => vec![
            seconds("wfc-timeout", "Wait so long; 0 is for ever"),
            seconds(
                "degr-wfc-timeout",
                "Wait so long if the cluster was degraded",
            ),
            seconds(
                "outdated-wfc-timeout",
                "Wait so long if the peer was outdated",
            ),
            Arg::new("wait-after-sb")
                .long("wait-after-sb")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("yes")
                .value_parser(["yes", "no"])
                .help("Wait on although a split brain was found"),
        ],
        Flag::Part => vec![
            sectors(
                "start",
                "Begin at this sector [default: where the last verify ended]",
            )
            .short('s'),
            sectors(
                "stop",
                "Stop before this sector [default: the device's end]",
            )
            .short('S'),
        ],
        Flag::Snapshot => vec![
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .help("What it is called on both nodes, in RDB_SNAPSHOT [default: the time]"),
            Arg::new("exec")
                .long("exec")
                .value_name("COMMAND")
                .help("Run this here instead of the handler 'snapshot', by /bin/sh -c"),
            switch(
                "local-only",
                "Of this node's disks alone, whatever the peer is",
            ),
        ],
        Flag::Json => vec![switch("json", "Print JSON")],
        Flag::Events => vec![
            switch("now", "End when what there is has been printed"),
            switch(
                "poll",
                "Look again for each n on standard input; anything else there but a newline ends it",
            ),
            switch(
                "full",
                "Print all words with each line, those of DRBD 9 too; with --statistics",
            ),
            switch("timestamps", "Begin each line with the time"),
            switch("diff", "Print old and new values of what has changed"),
        ],
        Flag::Check => vec![switch(
            "check",
            "Print only what is not well, and end with 1 if there is something",
        )],
        Flag::Watch => vec![
            Arg::new("watch")
                .long("watch")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("2")
                .value_name("SECONDS")
                .value_parser(value_parser!(u32).range(1..=86_400))
                .help("Print it again whenever something has changed; figures are looked at so often [default: 2]"),
        ],
        Flag::Statistics => vec![switch("statistics", "Print the counters too").short('s')],
        Flag::Color => vec![
            Arg::new("color")
                .long("color")
                .num_args(0..=1)
                .require_equals(true)
                .default_value("auto")
                .default_missing_value("always")
                .value_parser(["auto", "always", "never"])
                .help("Colour the states"),
        ],
        Flag::Secrets => vec![
            switch("hide-secrets", "Print asterisks instead of shared secrets"),
            switch("show-secrets", "Print shared secrets, as is the default")
                .hide(true)
                .conflicts_with("hide-secrets"),
        ],
        Flag::Evidence => vec![
            path_arg(
                "with-peer",
                "FILE",
                "What the other node's 'split-brain --json' has printed; - is standard input",
            ),
            path_arg(
                "files",
                "PATH",
                "Name the files in these blocks: where it is mounted, or in a device, a snapshot or a folder",
            )
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(""),
            path_arg(
                "state-dir",
                "DIR",
                "Where the histories are, if no daemon runs [default: where the last one kept them]",
            ),
            switch(
                "handler",
                "Run the handler of this name, as drbdadm's command does",
            )
            .conflicts_with_all(["json", "with-peer", "files"]),
        ],
        Flag::Promoter => {
            let ways = ["status", "check-config", "evict", "unevict"];
            let way = |name, help| {
                let others = ways.into_iter().filter(move |other| *other != name);
                switch(name, help).conflicts_with_all(others)
            };
            vec![
                path_arg("file", "FILE", "What it starts [default: /etc/rdb/promoter.toml]"),
                path_arg(
                    "state-dir",
                    "DIR",
                    "Where it is noted that a node is evicted [default: state-dir of rdbd.toml, else /var/lib/rdb]",
                ),
                way("status", "Say what the promoter does, and why"),
                way("check-config", "Read the file, and say what it means"),
                way("evict", "Keep this node from having the resource, until --unevict; what runs here is stopped"),
                way("unevict", "Let this node have it again"),
            ]
        }
        Flag::Successor => vec![
            switch("force", "Do it although clients of NBD sockets are cut off").short('f'),
            Arg::new("program")
                .long("program")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The new daemon [default: the file that the old one was started from]"),
        ],
    }
}

fn path_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .value_parser(clap::builder::OsStringValueParser::new().map(PathBuf::from))
        .help(help)
}

fn seconds(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("SECONDS")
        .value_parser(value_parser!(u32).range(0..=300_000))
        .help(help)
}

fn sectors(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("SECTOR")
        .value_parser(value_parser!(u64).range(..=SECTORS_MAX))
        .help(help)
}

/// The size of the largest device (`docs/spec/admin.md`, section 2.8).
const SECTORS_MAX: u64 = 2_199_023_255_552;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_a_valid_parser() {
        command("rdbadm").debug_assert();
    }

    /// What is offered in whatever state are commands that there are.
    #[test]
    fn what_can_be_done_in_a_state_is_understood() {
        use rdb_control::{ConnState, DiskState, samples};
        let parser = command("rdbadm");
        let mut offered = vec![rdb_watch::up_all()];
        for cstate in ConnState::ALL {
            for disk in DiskState::ALL {
                for role in ["Primary", "Secondary"] {
                    let roles = (role, "Secondary");
                    let volume =
                        samples::volume(cstate.as_str(), roles, (disk.as_str(), "UpToDate"));
                    let mut resource = samples::resource("r0", vec![volume]);
                    offered.extend(rdb_watch::actions(&resource));
                    resource.link_reason = Some(samples::reason("split-brain", "both wrote"));
                    offered.extend(rdb_watch::actions(&resource));
                }
            }
        }
        for words in offered.iter().flat_map(|choice| &choice.lines) {
            let argv = std::iter::once("rdbadm").chain(words.iter().map(String::as_str));
            let parsed = parser.clone().try_get_matches_from(argv);
            assert!(parsed.is_ok(), "{words:?}: {parsed:?}");
        }
    }
}
