//! The table of commands. A row is all that is known of one: its names, what it works on, its options, what it does, and its line of
//! help. The parser, help, manual pages and completions of `rdbadm` come from here, and so do the commands of `rdbsetup`, whose steps
//! `rdbadm` plans; `docs/commands.md` is checked against it.

use rdb_config::{ResolvedVolume, Section};
use rdb_control::Op;

use crate::adm::facts;
use crate::adm::plan::Item;
use crate::step::{MetaCommand, Query};

/// One row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    /// Older names.
    pub(crate) aliases: &'static [&'static str],
    /// How `rdbadm` has it, if it does.
    pub(crate) adm: Option<Adm>,
    /// How `rdbsetup` has it, if it does.
    pub(crate) setup: Option<Setup>,
    /// What it does.
    pub(crate) does: Does,
}

/// A command of `rdbadm`.
#[derive(Clone, Copy)]
pub(crate) struct Adm {
    pub(crate) target: Target,
    pub(crate) flags: &'static [Flag],
    pub(crate) marks: &'static [Mark],
    pub(crate) about: &'static str,
    pub(crate) is_hidden: bool,
}

/// A command of `rdbsetup`.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// What follows it.
    pub(crate) args: &'static str,
    /// The section whose options it takes.
    pub(crate) section: Option<Section>,
    /// Its own options.
    pub(crate) own: &'static [&'static str],
}

/// What a command does.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    /// The daemon does it to a volume, by its minor and whether the command's switch is set.
    Op(fn(u32, bool) -> Op),
    /// The same; for a volume that is not configured it is done to its disk.
    OpOrMeta(fn(u32, bool) -> Op, MetaCommand),
    /// It works on the metadata of a disk, by whether `--force` is given.
    Meta(fn(bool) -> MetaCommand),
    /// It prints a part of a volume's state.
    Query(Query),
    /// It prints what the configuration says of a volume.
    Fact(fn(&Item, &ResolvedVolume) -> String),
    /// It runs the configured handler of its name, here and now.
    Handler,
    /// What no other command does.
    Own(Own),
}

/// The commands that have code of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    Up,
    Down,
    Attach,
    Connect,
    Disconnect,
    Adjust,
    AdjustWithProgress,
    CheckResize,
    SetGi,
    HiddenCommands,
    ShBPri,
    DiskOptions,
    NetOptions,
    ResourceOptions,
    NewResource,
    NewMinor,
    DelResource,
    Status,
    Events,
    Events2,
    Show,
    ShStatus,
    SplitBrain,
    Overview,
    Metrics,
    Check,
    Explain,
    Doctor,
    Proc,
    Restart,
    Shutdown,
    WaitConnect,
    WaitSync,
    WaitConInt,
    Verify,
    Snapshot,
    Promoter,
    Dump,
    DumpXml,
    ShNop,
    ShResources,
    ShResource,
    ShUdev,
    ShModParms,
    ShLrOf,
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
    /// All of them, whatever is named; DRBD's command says so.
    All,
}

impl Target {
    /// Whether no name means all resources.
    pub(crate) fn is_all_unnamed(self) -> bool {
        matches!(self, Target::Optional | Target::All)
    }
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
    /// `--start` and `--stop` of `verify`.
    Part,
    /// `--name`, `--exec` and `--local-only` of `snapshot`.
    Snapshot,
    Json,
    /// `--now` and the other options of `events2`.
    Events,
    /// `--check` of `status`.
    Check,
    /// `--watch` of `status`.
    Watch,
    Statistics,
    Color,
    /// `--hide-secrets` of `dump`, and `--show-secrets`, which was needed once.
    Secrets,
    /// `--force` and `--program` of `restart`.
    Successor,
    /// `--with-peer`, `--files`, `--state-dir` and `--handler` of `split-brain`.
    Evidence,
    /// `--file`, `--status` and the other options of `promoter`.
    Promoter,
}

/// What holds for a command of `rdbadm` beside what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Options take effect, or are looked at: the warnings about them are told.
    Warns,
    /// It only takes down: it works on a resource that can not run as it is configured. So does what only asks.
    TakesDown,
    /// The node listens at its address then.
    Listens,
}

impl Verb {
    const fn flags(mut self, flags: &'static [Flag]) -> Verb {
        if let Some(adm) = &mut self.adm {
            adm.flags = flags;
        }
        self
    }

    const fn marks(mut self, marks: &'static [Mark]) -> Verb {
        if let Some(adm) = &mut self.adm {
            adm.marks = marks;
        }
        self
    }

    const fn hidden(mut self) -> Verb {
        if let Some(adm) = &mut self.adm {
            adm.is_hidden = true;
        }
        self
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Verb {
        self.aliases = aliases;
        self
    }

    /// It is one of `rdbsetup`'s, too, with these arguments.
    const fn setup(self, args: &'static str) -> Verb {
        self.setup_with(args, None, &[])
    }

    const fn setup_with(
        mut self,
        args: &'static str,
        section: Option<Section>,
        own: &'static [&'static str],
    ) -> Verb {
        self.setup = Some(Setup { args, section, own });
        self
    }

    /// The one option that changes what the daemon is asked for.
    pub(crate) fn switch(&self) -> Option<&'static str> {
        self.setup.and_then(|setup| setup.own.first().copied())
    }

    /// Whether it only asks, or takes down.
    pub(crate) fn is_harmless(&self) -> bool {
        let is_question = match self.does {
            Does::Query(_) | Does::Fact(_) | Does::Handler => true,
            Does::Own(
                O::ShResource
                | O::CheckResize
                | O::ShUdev
                | O::ShStatus
                | O::ShLrOf
                | O::Promoter
                | O::SplitBrain,
            ) => true,
            Does::Meta(command) => !command(false).writes(),
            Does::Op(_) | Does::OpOrMeta(..) | Does::Own(_) => false,
        };
        is_question || self.is_marked(Mark::TakesDown)
    }

    /// Whether it works on resources of a configuration. Then the daemon has to be that of the node which the configuration is read
    /// for: what it has for one node must not be done to another, and says nothing of another.
    pub(crate) fn is_configured(&self) -> bool {
        let is_without = matches!(
            self.does,
            Does::Own(
                Own::Status
                    | Own::Events2
                    | Own::HiddenCommands
                    | Own::Overview
                    | Own::Metrics
                    | Own::Check
                    | Own::Explain
                    | Own::Proc
                    | Own::Restart
            )
        );
        !is_without
    }

    pub(crate) fn is_marked(&self, mark: Mark) -> bool {
        self.adm.is_some_and(|adm| adm.marks.contains(&mark))
    }

    /// Whether it is the command with this code of its own.
    pub(crate) fn is(&self, own: Own) -> bool {
        matches!(self.does, Does::Own(does) if does == own)
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// Whether a word is an old name of a command of another name.
pub(crate) fn is_alias(name: &str) -> bool {
    VERBS.iter().any(|verb| verb.aliases.contains(&name))
}

const fn verb(name: &'static str, target: Target, does: Does, about: &'static str) -> Verb {
    let adm = Adm {
        target,
        flags: &[],
        marks: &[],
        about,
        is_hidden: false,
    };
    Verb {
        name,
        aliases: &[],
        adm: Some(adm),
        setup: None,
        does,
    }
}

/// A command of `rdbsetup` alone.
const fn step(name: &'static str, does: Does) -> Verb {
    Verb {
        name,
        aliases: &[],
        adm: None,
        setup: None,
        does,
    }
}

/// `rdbadm`'s command of this name.
pub(crate) fn of_adm(name: &str) -> Option<&'static Verb> {
    VERBS
        .iter()
        .find(|verb| verb.adm.is_some() && verb.is_called(name))
}

/// `rdbsetup`'s command of this name.
pub(crate) fn of_setup(name: &str) -> Option<&'static Verb> {
    VERBS
        .iter()
        .find(|verb| verb.setup.is_some() && verb.is_called(name))
}

use Does::{Fact, Meta, OpOrMeta};
use Mark::{Listens, TakesDown, Warns};
use Own as O;
use Target as T;

/// The options that the waits take from `startup {}`.
const WAIT: &[&str] = &[
    "wfc-timeout",
    "degr-wfc-timeout",
    "outdated-wfc-timeout",
    "wait-after-sb",
];
const NET: Option<Section> = Some(Section::Net);
const DISK: Option<Section> = Some(Section::Disk);
const OPTIONS: Option<Section> = Some(Section::Options);
const DEFAULTS: &[&str] = &["set-defaults"];
const FORCE: &[&str] = &["force"];
/// What is done to a volume, or as DRBD 9's drbdsetup has it to a resource: all its volumes.
pub(crate) const BY_RESOURCE: &str = "{RES|MINOR}";
const EVENTS: &[&str] = &[
    "now",
    "poll",
    "full",
    "timestamps",
    "statistics",
    "diff",
    "json",
    "color",
];
/// The handlers of a resource, each as NAME=COMMAND, and what is to be in their environment.
const HANDLERS: &[&str] = &["handler", "drbd-conf", "drbd-peers"];
const OF_RESOURCE: &[&str] = &["set-defaults", "handler", "drbd-conf", "drbd-peers"];

/// Every command, in the order of `rdbadm help`.
#[rustfmt::skip]
pub(crate) const VERBS: &[Verb] = &[
    verb("create-md", T::Volumes, Meta(|force| MetaCommand::CreateMd { force }), "Write fresh metadata on the backing devices")
        .flags(&[Flag::Force]),
    verb("up", T::Volumes, Does::Own(O::Up), "Create, attach and connect resources")
        .marks(&[Warns, Listens]),
    verb("down", T::Whole, Does::Own(O::Down), "Demote, disconnect, detach and delete resources")
        .setup("{RES|MINOR}"),
    verb("attach", T::Volumes, Does::Own(O::Attach), "Attach the backing devices")
        .marks(&[Warns])
        .setup_with("MINOR LOWER META {internal|flexible|INDEX}", DISK, &[]),
    verb("detach", T::Volumes, Does::Op(|minor, force| Op::Detach { minor, force }), "Detach the backing devices")
        .flags(&[Flag::Force])
        .marks(&[TakesDown])
        .setup_with("MINOR", None, FORCE),
    verb("connect", T::Whole, Does::Own(O::Connect), "Connect to the peer")
        .flags(&[Flag::DiscardMyData, Flag::Tentative])
        .marks(&[Warns, Listens])
        .setup_with("RES LOCAL PEER", NET, &["discard-my-data", "tentative"]),
    verb("disconnect", T::Whole, Does::Own(O::Disconnect), "Disconnect from the peer")
        .flags(&[Flag::Force])
        .marks(&[TakesDown])
        .setup_with("LOCAL PEER", None, FORCE),
    verb("primary", T::Volumes, Does::Op(|minor, force| Op::Primary { minor, force }), "Make the devices writable on this node")
        .flags(&[Flag::ForcePrimary])
        .setup_with(BY_RESOURCE, None, FORCE),
    verb("secondary", T::Volumes, Does::Op(|minor, _| Op::Secondary { minor }), "Give the primary role up")
        .marks(&[TakesDown])
        .setup(BY_RESOURCE),
    verb("adjust", T::Whole, Does::Own(O::Adjust), "Make what runs agree with the configuration")
        .marks(&[Warns, Listens]),
    verb("adjust-with-progress", T::Whole, Does::Own(O::AdjustWithProgress), "The same, with a line for each kind of steps")
        .marks(&[Warns, Listens]),
    verb("role", T::Volumes, Does::Query(Query::Role), "Print own and peer's role")
        .aliases(&["state"])
        .setup(BY_RESOURCE),
    verb("cstate", T::Volumes, Does::Query(Query::Cstate), "Print the connection state")
        .setup("MINOR"),
    verb("dstate", T::Volumes, Does::Query(Query::Dstate), "Print own and peer's disk state")
        .setup("MINOR"),
    verb("status", T::Optional, Does::Own(O::Status), "Print the state of resources")
        .flags(&[Flag::Json, Flag::Check, Flag::Watch, Flag::Statistics, Flag::Color])
        .setup_with("[RES|all]", None, &["verbose", "statistics", "json", "color"]),
    verb("events2", T::Optional, Does::Own(O::Events2), "Print what there is, then what happens to it, line by line")
        .flags(&[Flag::Events, Flag::Json, Flag::Statistics, Flag::Color])
        .setup_with("[RES|all]", None, EVENTS),
    verb("split-brain", T::Volumes, Does::Own(O::SplitBrain), "Print what each node has written apart, before anybody's writes are given up")
        .flags(&[Flag::Json, Flag::Evidence]),
    verb("overview", T::None, Does::Own(O::Overview), "Print one line a device, as drbd-overview does"),
    verb("explain", T::Optional, Does::Own(O::Explain), "Say in sentences what a state, or the number of a refusal, means"),
    verb("doctor", T::Optional, Does::Own(O::Doctor), "Look what is wrong with this machine, and say what to change")
        .flags(&[Flag::Json]),
    verb("check", T::Optional, Does::Own(O::Check), "Say in a line whether all is well, as Nagios and Icinga read it"),
    verb("metrics", T::None, Does::Own(O::Metrics), "Print the state as OpenMetrics, for Prometheus"),
    verb("proc", T::None, Does::Own(O::Proc), "Print the status file, /proc/drbd of DRBD 8.4"),
    verb("restart", T::None, Does::Own(O::Restart), "Replace the daemon, under the devices in use")
        .flags(&[Flag::Successor]),
    verb("invalidate", T::Volumes, OpOrMeta(|minor, _| Op::Invalidate { minor }, MetaCommand::Invalidate), "Declare the local data bad: full sync from the peer")
        .setup("MINOR"),
    verb("invalidate-remote", T::Volumes, Does::Op(|minor, _| Op::InvalidateRemote { minor }), "Declare the peer's data bad: full sync to the peer")
        .setup("MINOR"),
    verb("verify", T::Volumes, Does::Own(O::Verify), "Compare both copies; what differs is marked and not repaired")
        .flags(&[Flag::Part])
        .setup_with("MINOR", None, &["start", "stop"]),
    verb("outdate", T::Volumes, OpOrMeta(|minor, _| Op::Outdate { minor }, MetaCommand::Outdate), "Mark the local data outdated")
        .setup("MINOR"),
    verb("pause-sync", T::Volumes, Does::Op(|minor, _| Op::PauseSync { minor }), "Pause resync")
        .setup("MINOR"),
    verb("resume-sync", T::Volumes, Does::Op(|minor, _| Op::ResumeSync { minor }), "Take pause-sync back")
        .setup("MINOR"),
    verb("suspend-io", T::Volumes, Does::Op(|minor, _| Op::SuspendIo { minor }), "Have users' requests wait, once those under way are done")
        .setup("MINOR"),
    verb("resume-io", T::Volumes, Does::Op(|minor, _| Op::ResumeIo { minor }), "Have users' requests go on, for whatever reason they wait")
        .setup("MINOR"),
    verb("snapshot", T::Whole, Does::Own(O::Snapshot), "Take a snapshot of the disks of both nodes at one moment, by handlers")
        .flags(&[Flag::Snapshot])
        .setup_with("RES", None, &["name", "limit", "local-only", "exec"]),
    verb("promoter", T::Optional, Does::Own(O::Promoter), "Keep a resource in use on one of its nodes: promote it, and start what needs it")
        .flags(&[Flag::Promoter]),
    verb("new-current-uuid", T::Volumes, Does::Op(|minor, clear_bitmap| Op::NewCurrentUuid { minor, clear_bitmap }), "Start a new data generation")
        .flags(&[Flag::ClearBitmap])
        .setup_with("MINOR", None, &["clear-bitmap"]),
    verb("wait-connect", T::Volumes, Does::Own(O::WaitConnect), "Wait until connected to the peer")
        .flags(&[Flag::WaitTimes])
        .setup_with("MINOR", None, WAIT),
    verb("wait-sync", T::Volumes, Does::Own(O::WaitSync), "Wait until no resync is needed")
        .flags(&[Flag::WaitTimes])
        .setup_with("MINOR", None, WAIT),
    verb("wait-con-int", T::All, Does::Own(O::WaitConInt), "Wait for the peers of all resources; typing yes ends it"),
    verb("dump", T::Optional, Does::Own(O::Dump), "Print the configuration as understood")
        .flags(&[Flag::Secrets, Flag::Json])
        .marks(&[Warns]),
    verb("dump-xml", T::Optional, Does::Own(O::DumpXml), "Print the configuration as XML")
        .flags(&[Flag::Secrets])
        .marks(&[Warns]),
    verb("dump-md", T::Volumes, Meta(|_| MetaCommand::DumpMd), "Print the metadata"),
    verb("get-gi", T::Volumes, Does::Query(Query::GetGi), "Print the generation identifiers")
        .setup("MINOR"),
    verb("show-gi", T::Volumes, Does::Query(Query::ShowGi), "Print the generation identifiers with explanations")
        .flags(&[Flag::Json])
        .setup_with("MINOR", None, &["json"]),
    verb("apply-al", T::Volumes, Meta(|_| MetaCommand::ApplyAl), "Apply the activity log of a crashed node to its bitmap"),
    verb("wipe-md", T::Volumes, Meta(|force| MetaCommand::WipeMd { force }), "Remove the metadata")
        .flags(&[Flag::Force]),
    verb("set-gi", T::Volumes, Does::Own(O::SetGi), "Write generation identifiers into the metadata of the backing devices")
        .flags(&[Flag::Force])
        .hidden(),
    verb("check-resize", T::Volumes, Does::Own(O::CheckResize), "Look what is to be done after a resize: nothing, for devices are not resized yet")
        .setup("MINOR")
        .hidden(),
    verb("disk-options", T::Volumes, Does::Own(O::DiskOptions), "Apply the configured disk options")
        .marks(&[Warns])
        .setup_with("MINOR", DISK, DEFAULTS),
    verb("net-options", T::Whole, Does::Own(O::NetOptions), "Apply the configured net options")
        .marks(&[Warns])
        .setup_with("LOCAL PEER", NET, DEFAULTS),
    verb("resource-options", T::Whole, Does::Own(O::ResourceOptions), "Apply the configured resource options")
        .marks(&[Warns])
        .setup_with("RES", OPTIONS, OF_RESOURCE),
    verb("new-resource", T::Whole, Does::Own(O::NewResource), "Create resources without volumes")
        .setup_with("RES", OPTIONS, HANDLERS),
    verb("new-minor", T::Volumes, Does::Own(O::NewMinor), "Create the volumes of resources")
        .aliases(&["sh-new-minor"])
        .setup("RES MINOR VNR"),
    verb("pri-on-incon-degr", T::Volumes, Does::Handler, "Run the handler for a Primary without usable data").hidden(),
    verb("pri-lost-after-sb", T::Volumes, Does::Handler, "Run the handler for a Primary that has lost a split brain").hidden(),
    verb("pri-lost", T::Volumes, Does::Handler, "Run the handler for a Primary that should become target").hidden(),
    verb("fence-peer", T::Whole, Does::Handler, "Run the handler that keeps the peer from going on").hidden()
        .aliases(&["outdate-peer"]),
    verb("unfence-peer", T::Whole, Does::Handler, "Run the handler that takes fence-peer back").hidden(),
    verb("local-io-error", T::Volumes, Does::Handler, "Run the handler for a disk that has failed").hidden(),
    verb("initial-split-brain", T::Volumes, Does::Handler, "Run the handler for a split brain that was found").hidden(),
    verb("before-resync-target", T::Volumes, Does::Handler, "Run the handler before a resync of the local disk").hidden(),
    verb("after-resync-target", T::Volumes, Does::Handler, "Run the handler after a resync of the local disk").hidden(),
    verb("before-resync-source", T::Volumes, Does::Handler, "Run the handler before a resync of the peer's disk").hidden(),
    verb("out-of-sync", T::Volumes, Does::Handler, "Run the handler for a verify that has found differences").hidden(),
    step("events", Does::Own(O::Events)).setup("{RES|MINOR|all}"),
    step("del-resource", Does::Own(O::DelResource)).setup("RES"),
    step("del-minor", Does::Op(|minor, _| Op::DelMinor { minor })).setup("MINOR"),
    step("show", Does::Own(O::Show)).setup_with("[RES|MINOR|all]", None, &["json", "show-defaults"]),
    verb("sh-status", T::All, Does::Own(O::ShStatus), "Print the state of every volume for a shell").hidden()
        .setup("[RES|MINOR|all]"),
    step("shutdown", Does::Own(O::Shutdown)).setup(""),
    verb("sh-nop", T::All, Does::Own(O::ShNop), "Check the configuration").marks(&[Warns]).hidden(),
    verb("sh-resources", T::All, Does::Own(O::ShResources), "Print the names of the resources").hidden(),
    verb("sh-resource", T::Whole, Does::Own(O::ShResource), "Print the resource's name").hidden(),
    verb("sh-dev", T::Volumes, Fact(facts::device), "Print the device nodes").hidden(),
    verb("sh-minor", T::Volumes, Fact(facts::minor), "Print the minor numbers").hidden(),
    verb("sh-ll-dev", T::Volumes, Fact(facts::disk), "Print the backing devices").hidden(),
    verb("sh-md-dev", T::Volumes, Fact(facts::meta_disk), "Print the metadata devices").hidden(),
    verb("sh-md-idx", T::Volumes, Fact(facts::meta_index), "Print the metadata index").hidden(),
    verb("sh-ip", T::Volumes, Fact(facts::address), "Print the own address").hidden(),
    verb("sh-udev", T::Volumes, Does::Own(O::ShUdev), "Print the names of a volume's device for udev").hidden(),
    verb("sh-b-pri", T::Volumes, Does::Own(O::ShBPri), "Make the devices writable on the node that become-primary-on names").hidden(),
    verb("hidden-commands", T::None, Does::Own(O::HiddenCommands), "Print the commands that help does not list").hidden(),
    verb("sh-mod-parms", T::All, Does::Own(O::ShModParms), "Print the parameters of DRBD's module").hidden(),
    verb("sh-lr-of", T::Volumes, Does::Own(O::ShLrOf), "Print the lower resource of a stacked one").hidden(),
    verb("completions", T::None, Does::Own(O::Completions), "Print a completion script for a shell"),
    verb("man", T::None, Does::Own(O::Man), "Write the manual pages into a directory").hidden(),
];

/// Commands of DRBD's that rdb does not serve yet.
const NOT_SERVED: &[&str] = &[
    "del-path",
    "del-peer",
    "forget-peer",
    "new-path",
    "new-peer",
    "peer-device-options",
    "proxy-down",
    "proxy-up",
    "rename-resource",
    "repair-md",
    "resize",
    "syncer",
    "wait-connect-connection",
    "wait-connect-resource",
    "wait-connect-volume",
    "wait-sync-connection",
    "wait-sync-resource",
    "wait-sync-volume",
];

/// Whether DRBD has such a command, which is not served here.
pub(crate) fn is_not_served(name: &str) -> bool {
    NOT_SERVED.contains(&name)
}

#[cfg(test)]
mod tests {
    use rdb_control::Limit;

    use super::*;

    #[test]
    fn every_command_is_found_by_each_of_its_names_and_by_no_other() {
        for (i, verb) in VERBS.iter().enumerate() {
            for name in verb.aliases.iter().chain([&verb.name]) {
                assert!(!is_not_served(name) || verb.adm.is_none(), "{name}");
                assert_eq!(VERBS.iter().position(|verb| verb.is_called(name)), Some(i));
                assert_eq!(of_adm(name).is_some(), verb.adm.is_some(), "{name}");
                assert_eq!(of_setup(name).is_some(), verb.setup.is_some(), "{name}");
            }
        }
        assert!(of_adm("explode").is_none() && of_adm("shutdown").is_none());
    }

    /// The limits that `docs/commands.md` promises are those that the commands have.
    #[test]
    fn the_reference_has_each_command_at_its_limit() {
        let text = include_str!("../../../docs/commands.md");
        for verb in VERBS
            .iter()
            .filter(|verb| verb.adm.is_some_and(|adm| !adm.is_hidden))
        {
            let limit = match verb.does {
                Does::Op(op) | Does::OpOrMeta(op, _) => op(0, false).limit(),
                Does::Query(_) => Limit::Short,
                Does::Meta(_) => {
                    assert!(
                        is_promised(text, verb.name, "cmd-timeout-long"),
                        "{}",
                        verb.name
                    );
                    continue;
                }
                Does::Fact(_) | Does::Handler | Does::Own(_) => continue,
            };
            let option = match limit {
                Limit::Short => "cmd-timeout-short",
                Limit::Medium => "cmd-timeout-medium",
                Limit::Own => "startup",
            };
            assert!(
                is_promised(text, verb.name, option),
                "{} {option}",
                verb.name
            );
        }
    }

    /// Each command is in the table that says beside what it was tried.
    #[test]
    fn the_reference_says_of_each_command_what_was_tried() {
        let text = include_str!("../../../docs/commands.md");
        let table = text.split("\n## What was tried beside DRBD's own").nth(1);
        let table = table.and_then(|rest| rest.split("\n## ").next()).unwrap();
        for name in VERBS.iter().map(|verb| verb.name) {
            let is_there = table.contains(&format!("`{name}`"));
            assert!(is_there || table.contains(&format!("`{name} --")), "{name}");
        }
    }

    fn is_promised(text: &str, name: &str, option: &str) -> bool {
        let name = format!("`{name}`");
        let rows = text
            .lines()
            .filter(|line| line.starts_with('|') && line.contains(&name));
        let limits = rows.filter_map(|line| line.split('|').nth(2));
        limits
            .into_iter()
            .next()
            .is_some_and(|limit| limit.contains(option))
    }
}
