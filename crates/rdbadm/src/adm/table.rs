//! The table of `rdbadm`'s commands: parser, help, manual page and completions all come from it.

use std::path::PathBuf;

use clap::builder::EnumValueParser;
use clap::{Arg, ArgAction, Command, value_parser};

/// A command of `rdbadm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    CreateMd,
    Up,
    Down,
    Attach,
    Detach,
    Connect,
    Disconnect,
    Primary,
    Secondary,
    Invalidate,
    InvalidateRemote,
    Outdate,
    PauseSync,
    ResumeSync,
    NewCurrentUuid,
    Adjust,
    DiskOptions,
    NetOptions,
    ResourceOptions,
    NewResource,
    NewMinor,
    Role,
    Cstate,
    Dstate,
    Status,
    Overview,
    Proc,
    Restart,
    GetGi,
    ShowGi,
    DumpMd,
    ApplyAl,
    WipeMd,
    WaitConnect,
    WaitSync,
    WaitConInt,
    Dump,
    DumpXml,
    ShNop,
    ShResources,
    ShResource,
    ShDev,
    ShMinor,
    ShLlDev,
    ShMdDev,
    ShMdIdx,
    ShIp,
    Completions,
    Man,
}

/// What a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nothing.
    None,
    /// Resources with all their volumes; `RES/VNR` is refused.
    Whole,
    /// Volumes: of whole resources, or `RES/VNR`.
    Volumes,
    /// Like `Whole`; without a name all of them.
    Optional,
}

/// An option of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    Force,
    /// `--force` of `primary`, which has two older names.
    ForcePrimary,
    DiscardMyData,
    Tentative,
    ClearBitmap,
    WaitTimes,
    Json,
    /// `--check` of `status`.
    Check,
    Statistics,
    Color,
    /// `--hide-secrets` of `dump`, and `--show-secrets`, which was needed once.
    Secrets,
    /// `--force` and `--program` of `restart`.
    Successor,
}

/// One row of the table.
pub(crate) struct Row {
    pub(crate) verb: Verb,
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) target: Target,
    pub(crate) flags: &'static [Flag],
    pub(crate) about: &'static str,
    pub(crate) hidden: bool,
}

const fn row(
    verb: Verb,
    name: &'static str,
    target: Target,
    flags: &'static [Flag],
    about: &'static str,
) -> Row {
    Row {
        verb,
        name,
        aliases: &[],
        target,
        flags,
        about,
        hidden: false,
    }
}

const fn hidden(verb: Verb, name: &'static str, target: Target, about: &'static str) -> Row {
    Row {
        verb,
        name,
        aliases: &[],
        target,
        flags: &[],
        about,
        hidden: true,
    }
}

use Flag as F;
use Target as T;
use Verb as V;

/// Every command.
pub(crate) const ROWS: &[Row] = &[
    row(
        V::CreateMd,
        "create-md",
        T::Volumes,
        &[F::Force],
        "Write fresh metadata on the backing devices",
    ),
    row(
        V::Up,
        "up",
        T::Volumes,
        &[],
        "Create, attach and connect resources",
    ),
    row(
        V::Down,
        "down",
        T::Whole,
        &[],
        "Demote, disconnect, detach and delete resources",
    ),
    row(
        V::Attach,
        "attach",
        T::Volumes,
        &[],
        "Attach the backing devices",
    ),
    row(
        V::Detach,
        "detach",
        T::Volumes,
        &[F::Force],
        "Detach the backing devices",
    ),
    row(
        V::Connect,
        "connect",
        T::Whole,
        &[F::DiscardMyData, F::Tentative],
        "Connect to the peer",
    ),
    row(
        V::Disconnect,
        "disconnect",
        T::Whole,
        &[F::Force],
        "Disconnect from the peer",
    ),
    row(
        V::Primary,
        "primary",
        T::Volumes,
        &[F::ForcePrimary],
        "Make the devices writable on this node",
    ),
    row(
        V::Secondary,
        "secondary",
        T::Volumes,
        &[],
        "Give the primary role up",
    ),
    row(
        V::Adjust,
        "adjust",
        T::Volumes,
        &[],
        "Make what runs agree with the configuration",
    ),
    row(
        V::Role,
        "role",
        T::Volumes,
        &[],
        "Print own and peer's role",
    ),
    row(
        V::Cstate,
        "cstate",
        T::Volumes,
        &[],
        "Print the connection state",
    ),
    row(
        V::Dstate,
        "dstate",
        T::Volumes,
        &[],
        "Print own and peer's disk state",
    ),
    row(
        V::Status,
        "status",
        T::Optional,
        &[F::Json, F::Check, F::Statistics, F::Color],
        "Print the state of resources",
    ),
    row(
        V::Overview,
        "overview",
        T::None,
        &[],
        "Print one line a device, as drbd-overview does",
    ),
    row(
        V::Proc,
        "proc",
        T::None,
        &[],
        "Print the status file, /proc/drbd of DRBD 8.4",
    ),
    row(
        V::Restart,
        "restart",
        T::None,
        &[F::Successor],
        "Replace the daemon, under the devices in use",
    ),
    row(
        V::Invalidate,
        "invalidate",
        T::Volumes,
        &[],
        "Declare the local data bad: full sync from the peer",
    ),
    row(
        V::InvalidateRemote,
        "invalidate-remote",
        T::Volumes,
        &[],
        "Declare the peer's data bad: full sync to the peer",
    ),
    row(
        V::Outdate,
        "outdate",
        T::Volumes,
        &[],
        "Mark the local data outdated",
    ),
    row(V::PauseSync, "pause-sync", T::Volumes, &[], "Pause resync"),
    row(
        V::ResumeSync,
        "resume-sync",
        T::Volumes,
        &[],
        "Take pause-sync back",
    ),
    row(
        V::NewCurrentUuid,
        "new-current-uuid",
        T::Volumes,
        &[F::ClearBitmap],
        "Start a new data generation",
    ),
    row(
        V::WaitConnect,
        "wait-connect",
        T::Volumes,
        &[F::WaitTimes],
        "Wait until connected to the peer",
    ),
    row(
        V::WaitSync,
        "wait-sync",
        T::Volumes,
        &[F::WaitTimes],
        "Wait until no resync is needed",
    ),
    row(
        V::WaitConInt,
        "wait-con-int",
        T::None,
        &[],
        "Wait for the peers of all resources; typing yes ends it",
    ),
    row(
        V::Dump,
        "dump",
        T::Optional,
        &[F::Secrets],
        "Print the configuration as understood",
    ),
    row(
        V::DumpXml,
        "dump-xml",
        T::Optional,
        &[],
        "Print the configuration as XML",
    ),
    row(V::DumpMd, "dump-md", T::Volumes, &[], "Print the metadata"),
    row(
        V::GetGi,
        "get-gi",
        T::Volumes,
        &[],
        "Print the generation identifiers",
    ),
    row(
        V::ShowGi,
        "show-gi",
        T::Volumes,
        &[],
        "Print the generation identifiers with explanations",
    ),
    row(
        V::ApplyAl,
        "apply-al",
        T::Volumes,
        &[],
        "Apply the activity log of a crashed node to its bitmap",
    ),
    row(
        V::WipeMd,
        "wipe-md",
        T::Volumes,
        &[F::Force],
        "Remove the metadata",
    ),
    row(
        V::DiskOptions,
        "disk-options",
        T::Volumes,
        &[],
        "Apply the configured disk options",
    ),
    row(
        V::NetOptions,
        "net-options",
        T::Whole,
        &[],
        "Apply the configured net options",
    ),
    row(
        V::ResourceOptions,
        "resource-options",
        T::Whole,
        &[],
        "Apply the configured resource options",
    ),
    row(
        V::NewResource,
        "new-resource",
        T::Whole,
        &[],
        "Create resources without volumes",
    ),
    Row {
        verb: V::NewMinor,
        name: "new-minor",
        aliases: &["sh-new-minor"],
        target: T::Volumes,
        flags: &[],
        about: "Create the volumes of resources",
        hidden: false,
    },
    Row {
        verb: V::Role,
        name: "state",
        aliases: &[],
        target: T::Volumes,
        flags: &[],
        about: "Old name of role",
        hidden: true,
    },
    hidden(V::ShNop, "sh-nop", T::None, "Check the configuration"),
    hidden(
        V::ShResources,
        "sh-resources",
        T::None,
        "Print the names of the resources",
    ),
    hidden(
        V::ShResource,
        "sh-resource",
        T::Volumes,
        "Print the resource's name",
    ),
    hidden(V::ShDev, "sh-dev", T::Volumes, "Print the device nodes"),
    hidden(
        V::ShMinor,
        "sh-minor",
        T::Volumes,
        "Print the minor numbers",
    ),
    hidden(
        V::ShLlDev,
        "sh-ll-dev",
        T::Volumes,
        "Print the backing devices",
    ),
    hidden(
        V::ShMdDev,
        "sh-md-dev",
        T::Volumes,
        "Print the metadata devices",
    ),
    hidden(
        V::ShMdIdx,
        "sh-md-idx",
        T::Volumes,
        "Print the metadata index",
    ),
    hidden(V::ShIp, "sh-ip", T::Volumes, "Print the own address"),
    row(
        V::Completions,
        "completions",
        T::None,
        &[],
        "Print a completion script for a shell",
    ),
    hidden(
        V::Man,
        "man",
        T::None,
        "Write the manual pages into a directory",
    ),
];

const ABOUT_RESTART: &str = "Replace the daemon, under the devices in use

The daemon brings its resources down, keeps the devices of the ublk front end for the new one, and becomes the new program; \
that brings everything up again and makes Primary what was. Whoever reads or writes meanwhile waits; the pause is printed for \
each volume. The peer sees the connection end and come back, and has nothing to resync but what was written at that time.

Before anything is touched, the new program is asked whether it can run here. The restart is refused while users have a device \
that can not wait: a loop device that is mounted or open, clients of an NBD socket (unless --force is given), or a device whose \
disk here is not UpToDate.

Exit status: 0 if all is as before; 11 if users have a device that can not wait, or if a volume is not Primary again; 20 if \
there is no daemon or the new one can not run.";

/// The row of a command as typed.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.name == name || row.aliases.contains(&name))
}

/// The parser of `rdbadm`, called `program` in its messages.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program.to_owned())
        .version(env!("CARGO_PKG_VERSION"))
        .about("Administer replicated block devices as the configuration describes them")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(globals());
    for row in ROWS {
        let mut sub = Command::new(row.name).about(row.about).hide(row.hidden);
        if row.verb == Verb::Restart {
            sub = sub.long_about(ABOUT_RESTART);
        }
        sub = sub.aliases(row.aliases);
        for flag in row.flags {
            sub = sub.args(flag_args(*flag));
        }
        sub = match row.target {
            Target::None => sub,
            Target::Whole => sub.arg(objects("RES", "A resource, or all")),
            Target::Volumes => {
                sub.arg(objects("OBJECT", "A resource, RES/VOLUME, minor-N, or all"))
            }
            Target::Optional => sub.arg(objects("RES", "A resource; without one, all")),
        };
        sub = match row.verb {
            Verb::Completions => sub.arg(
                Arg::new("shell")
                    .required(true)
                    .value_parser(EnumValueParser::<clap_complete::Shell>::new())
                    .help("The shell"),
            ),
            Verb::Man => sub.arg(
                Arg::new("dir")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("Where to write them"),
            ),
            _ => sub,
        };
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
        Arg::new("config-file")
            .short('c')
            .long("config-file")
            .global(true)
            .env("RDB_CONF")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Configuration file; - and /dev/stdin are standard input [default: /etc/rdb.conf, else /etc/drbd.conf]"),
        Arg::new("node")
            .long("node")
            .global(true)
            .env("RDB_NODE")
            .value_name("NAME")
            .help("This node's name [default: the host name]"),
        Arg::new("peer")
            .short('P')
            .long("peer")
            .global(true)
            .value_name("NAME")
            .help("The peer, where the configuration has several"),
        run_dir_arg(),
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

/// `--run-dir`, which all the commands have.
pub(crate) fn run_dir_arg() -> Arg {
    Arg::new("run-dir")
        .long("run-dir")
        .global(true)
        .env("RDB_RUN_DIR")
        .value_name("DIR")
        .default_value("/run/rdb")
        .value_parser(value_parser!(PathBuf))
        .help("Directory of the control socket and the status file")
}

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
        Flag::Json => vec![switch("json", "Print JSON")],
        Flag::Check => vec![switch(
            "check",
            "Print only what is not well, and end with 1 if there is something",
        )],
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

fn seconds(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("SECONDS")
        .value_parser(value_parser!(u32).range(0..=300_000))
        .help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_a_valid_parser() {
        command("rdbadm").debug_assert();
    }

    #[test]
    fn every_command_is_found_by_each_of_its_names() {
        for row in ROWS {
            assert_eq!(find(row.name).map(|r| r.verb), Some(row.verb));
            for alias in row.aliases {
                assert_eq!(find(alias).map(|r| r.verb), Some(row.verb));
            }
        }
        assert!(find("explode").is_none());
    }
}
