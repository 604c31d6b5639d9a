//! One step: what `rdbadm` plans, `rdbsetup` and `rdbmeta` are told, and both carry out alike.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rdb_control::{MetaDisk, Op};

/// The command family that the user called us by; its names appear in what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// `rdbadm`, `rdbsetup`, `rdbmeta`.
    Rdb,
    /// `drbdadm`, `drbdsetup`, `drbdmeta`: links with DRBD's names.
    Drbd,
}

impl Family {
    /// A program's name in this family; `role` is `adm`, `setup` or `meta`.
    pub(crate) fn program(self, role: &str) -> String {
        match self {
            Family::Rdb => format!("rdb{role}"),
            Family::Drbd => format!("drbd{role}"),
        }
    }
}

/// Which program does a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// The daemon, asked by `rdbsetup`.
    Setup,
    /// `rdbmeta`, which works on the disk.
    Meta,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// The resource it is for.
    pub(crate) resource: String,
    /// Who does it.
    pub(crate) tool: Tool,
    /// The words after the program's name.
    pub(crate) argv: Vec<String>,
    /// What messages name: a minor, a resource, an address pair.
    pub(crate) object: String,
    /// What it does.
    pub(crate) action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// The daemon does it.
    Run(Op),
    /// The daemon does it; when it does not know the minor, the metadata is changed on the disk.
    RunOrMeta(Op, MetaStep),
    /// The daemon waits.
    Wait(Op),
    /// A word or two of the state is printed.
    Query(Query, u32),
    /// As `Query`; when the daemon does not have the disk, it is read.
    QueryOrMeta(Query, u32, MetaStep),
    /// The metadata on a disk.
    Meta(MetaStep),
}

/// What is asked of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Query {
    /// `Primary/Secondary`.
    Role,
    /// `Connected`.
    Cstate,
    /// `UpToDate/UpToDate`.
    Dstate,
    /// Generation identifiers.
    GetGi,
    /// The same with explanations.
    ShowGi,
    /// The same as JSON.
    GiJson,
}

/// A command of `rdbmeta` on the metadata of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetaStep {
    /// The minor it is for; `None` for `-`, a disk of no volume.
    pub(crate) minor: Option<u32>,
    /// The data device.
    pub(crate) data: PathBuf,
    /// Where the metadata lies.
    pub(crate) meta: MetaDisk,
    /// What to do.
    pub(crate) command: MetaCommand,
    /// What `set-gi` writes: the fields that `get-gi` prints, empty ones for those that stay. The file of `restore-md` and
    /// `verify-dump`. No other command has it.
    pub(crate) operand: Option<String>,
}

/// What `rdbmeta` can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetaCommand {
    /// Write fresh metadata; `force` asks nothing.
    CreateMd { force: bool },
    /// Remove it.
    WipeMd { force: bool },
    /// Apply the activity log.
    ApplyAl,
    /// Print everything.
    DumpMd,
    /// Print the generation identifiers.
    GetGi,
    /// The same with explanations.
    ShowGi,
    /// The same as JSON.
    GiJson,
    /// Print the disk state.
    Dstate,
    /// Mark the data outdated.
    Outdate,
    /// Mark the data bad.
    Invalidate,
    /// Write generation identifiers and flags, which the step has.
    SetGi { force: bool },
    /// Write what `dump-md` has printed into a file, which the step names.
    RestoreMd { force: bool },
    /// Look whether `restore-md` would take it.
    VerifyDump,
}

impl MetaCommand {
    /// Every command, those that ask with or without `--force`.
    pub(crate) const fn all(force: bool) -> [MetaCommand; 13] {
        [
            MetaCommand::CreateMd { force },
            MetaCommand::WipeMd { force },
            MetaCommand::ApplyAl,
            MetaCommand::DumpMd,
            MetaCommand::GetGi,
            MetaCommand::ShowGi,
            MetaCommand::GiJson,
            MetaCommand::Dstate,
            MetaCommand::Outdate,
            MetaCommand::Invalidate,
            MetaCommand::SetGi { force },
            MetaCommand::RestoreMd { force },
            MetaCommand::VerifyDump,
        ]
    }

    /// Its name, whether it changes what is on the disk, and whether it asks before that unless it is forced.
    const fn facts(self) -> (&'static str, bool, Option<bool>) {
        match self {
            MetaCommand::CreateMd { force } => ("create-md", true, Some(force)),
            MetaCommand::WipeMd { force } => ("wipe-md", true, Some(force)),
            MetaCommand::ApplyAl => ("apply-al", true, None),
            MetaCommand::DumpMd => ("dump-md", false, None),
            MetaCommand::GetGi => ("get-gi", false, None),
            MetaCommand::ShowGi | MetaCommand::GiJson => ("show-gi", false, None),
            MetaCommand::Dstate => ("dstate", false, None),
            MetaCommand::Outdate => ("outdate", true, None),
            MetaCommand::Invalidate => ("invalidate", true, None),
            MetaCommand::SetGi { force } => ("set-gi", true, Some(force)),
            MetaCommand::RestoreMd { force } => ("restore-md", true, Some(force)),
            MetaCommand::VerifyDump => ("verify-dump", false, None),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.facts().0
    }

    /// Whether it changes what is on the disk.
    pub(crate) fn writes(self) -> bool {
        self.facts().1
    }

    /// Whether it asks before it does anything; if so, whether it is forced.
    pub(crate) fn force(self) -> Option<bool> {
        self.facts().2
    }

    /// The word that it needs behind it, if it does.
    pub(crate) fn operand(self) -> Option<&'static str> {
        match self {
            MetaCommand::SetGi { .. } => Some("GI"),
            MetaCommand::RestoreMd { .. } | MetaCommand::VerifyDump => Some("FILE"),
            _ => None,
        }
    }

    /// The words on the command line.
    fn words(self) -> Vec<String> {
        let force = self.force() == Some(true);
        let force = force.then(|| "--force".to_owned());
        let json = (self == MetaCommand::GiJson).then(|| "--json".to_owned());
        std::iter::once(self.name().to_owned())
            .chain(force)
            .chain(json)
            .collect()
    }
}

impl MetaStep {
    /// The words after `rdbmeta`.
    pub(crate) fn argv(&self) -> Vec<String> {
        let device = self
            .minor
            .map_or_else(|| "-".to_owned(), |minor| minor.to_string());
        let (path, index) = match &self.meta {
            MetaDisk::Internal => (&self.data, "internal".to_owned()),
            MetaDisk::Flexible(path) => (path, "flex-external".to_owned()),
            MetaDisk::Indexed(path, index) => (path, index.to_string()),
        };
        let mut argv = vec![device, "v08".to_owned(), path_word(path), index];
        argv.extend(self.command.words());
        argv.extend(self.operand.clone());
        argv
    }
}

/// A path as one word.
pub(crate) fn path_word(path: &Path) -> String {
    path.display().to_string()
}

/// An address as `drbdsetup` writes it.
pub(crate) fn address_word(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("ipv4:{v4}"),
        SocketAddr::V6(v6) => format!("ipv6:{v6}"),
    }
}

impl Step {
    /// The line that a dry run prints: what a shell would take back.
    #[cfg(test)]
    pub(crate) fn line(&self, family: Family) -> String {
        self.line_of(&self.program(family))
    }

    /// The same, with the program that does it.
    pub(crate) fn line_of(&self, program: &str) -> String {
        let mut line = program.to_owned();
        for word in &self.argv {
            line.push(' ');
            line.push_str(&escape(word));
        }
        line
    }

    /// The program that does it, by its name.
    pub(crate) fn program(&self, family: Family) -> String {
        family.program(match self.tool {
            Tool::Setup => "setup",
            Tool::Meta => "meta",
        })
    }

    /// The line as `Command '...' terminated` names it. Messages end up in logs: no secret is in it.
    pub(crate) fn plain(&self, program: &str) -> String {
        let mut line = program.to_owned();
        for word in &self.argv {
            line.push(' ');
            line.push_str(&without_secret(word));
        }
        line
    }
}

/// An argument with stars in the place of a secret; the command of a handler may have one among its words.
fn without_secret(word: &str) -> String {
    let name = match word.split_once('=') {
        Some((option @ "--shared-secret", _)) => option.to_owned(),
        Some((option @ "--handler", handler)) => {
            let name = handler.split('=').next().unwrap_or_default();
            format!("{option}={name}")
        }
        _ => return word.to_owned(),
    };
    format!("{name}=***")
}

/// Puts a backslash before what a shell would not leave alone.
pub(crate) fn escape(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-:=,@%+".contains(c);
    let mut escaped = String::with_capacity(word.len());
    if word.is_empty() {
        return "\"\"".to_owned();
    }
    for c in word.chars() {
        if !plain(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped_one_by_one() {
        assert_eq!(escape("ipv6:[fd00::1]:7789"), "ipv6:\\[fd00::1\\]:7789");
        assert_eq!(escape("--shared-secret=a b"), "--shared-secret=a\\ b");
        assert_eq!(escape("/dev/vg0/lv_data-1"), "/dev/vg0/lv_data-1");
    }

    #[test]
    fn what_may_be_secret_is_in_no_message() {
        for (word, shown) in [
            ("--shared-secret=a=b", "--shared-secret=***"),
            (
                "--handler=fence-peer=ipmi -P hush",
                "--handler=fence-peer=***",
            ),
            ("--protocol=C", "--protocol=C"),
            ("r0", "r0"),
        ] {
            assert_eq!(without_secret(word), shown);
        }
    }

    #[test]
    fn addresses_are_written_with_their_family() {
        assert_eq!(
            address_word(&"127.0.0.1:7790".parse().unwrap()),
            "ipv4:127.0.0.1:7790"
        );
        assert_eq!(
            address_word(&"[fd00::1]:7789".parse().unwrap()),
            "ipv6:[fd00::1]:7789"
        );
    }

    #[test]
    fn metadata_places_are_drbdmetas() {
        let step = |meta| MetaStep {
            minor: Some(1),
            data: "/dev/sda8".into(),
            meta,
            command: MetaCommand::ApplyAl,
            operand: None,
        };
        for (meta, words) in [
            (MetaDisk::Internal, "1 v08 /dev/sda8 internal apply-al"),
            (
                MetaDisk::Flexible("/dev/sdm".into()),
                "1 v08 /dev/sdm flex-external apply-al",
            ),
            (
                MetaDisk::Indexed("/dev/sdm".into(), 3),
                "1 v08 /dev/sdm 3 apply-al",
            ),
        ] {
            assert_eq!(step(meta).argv().join(" "), words);
        }
    }
}
