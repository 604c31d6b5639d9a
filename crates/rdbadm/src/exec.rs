//! Carrying steps out: printing, asking the daemon, messages and exit codes as `drbdadm` and `drbdsetup` have them.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process;

use rdb_control::{
    Client, ClientError, EvidenceReport, GiReport, Limits, Op, Presence, Refusal, ResourceReport,
    ResourceShown, StatusReport, VolumeReport, WaitTimes, code, presence,
};
use rdb_meta::{Layout, MdFlags, MetaKind, Superblock, tool};

use crate::daemon::{self, StartError};
use crate::out::EXIT_COMMUNICATION;
use crate::step::{Action, Family, MetaCommand, MetaStep, Query, Step, Tool};
use crate::watchdog::Watchdog;
use crate::{disk, gi_json, out, status_text};

/// Exit status where a daemon is there, or was, and does not say what runs (`drbdsetup`: no control socket).
pub(crate) const EXIT_IN_THE_DARK: u8 = 30;

/// Why the daemon could not be asked, and the exit status for that.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) message: String,
    pub(crate) code: u8,
}

impl Trouble {
    /// Communication failed.
    pub(crate) fn new(message: String) -> Trouble {
        let code = EXIT_COMMUNICATION;
        Trouble { message, code }
    }

    /// Says so; the exit status.
    pub(crate) fn tell(&self, program: &str) -> u8 {
        out::error(&format!("{program}: {}", self.message));
        self.code
    }
}

impl From<String> for Trouble {
    fn from(message: String) -> Trouble {
        Trouble::new(message)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        let code = match error.is_in_the_dark() {
            true => EXIT_IN_THE_DARK,
            false => EXIT_COMMUNICATION,
        };
        let message = error.to_string();
        Trouble { message, code }
    }
}

impl From<StartError> for Trouble {
    fn from(error: StartError) -> Trouble {
        match error {
            StartError::Client(error) => error.into(),
            other => Trouble::new(other.to_string()),
        }
    }
}

/// Programs that do steps instead of this one.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// Steps of the daemon.
    pub(crate) setup: Option<PathBuf>,
    /// Steps on metadata.
    pub(crate) meta: Option<PathBuf>,
}

impl Others {
    fn of(&self, tool: Tool) -> Option<&Path> {
        match tool {
            Tool::Setup => self.setup.as_deref(),
            Tool::Meta => self.meta.as_deref(),
        }
    }
}

/// Carries steps out.
pub(crate) struct Executor {
    pub(crate) program: String,
    pub(crate) family: Family,
    pub(crate) run_dir: PathBuf,
    /// Handed to a daemon that is started.
    pub(crate) node: Option<String>,
    /// The node whose daemon is meant: another one is asked nothing. `None`: whoever answers.
    pub(crate) meant: Option<String>,
    /// Print steps only.
    pub(crate) dry_run: bool,
    /// Print steps, too.
    pub(crate) verbose: bool,
    /// `rdbsetup` is not told about its own exit code.
    pub(crate) is_setup: bool,
    /// Programs that do steps instead of this one: `--drbdsetup`, `--drbdmeta`.
    pub(crate) others: Others,
    /// How long commands may take.
    pub(crate) limits: Limits,
    /// The daemon could not be asked: for other resources it is no different.
    pub(crate) is_unasked: bool,
    /// The worst exit status for what DRBD's tools do not know: no answer in time, nowhere to listen, no device.
    pub(crate) own_code: u8,
    client: Option<Client>,
}

/// The daemon cannot be asked.
#[derive(Debug)]
enum Asked {
    /// None runs: nothing is configured.
    Nobody,
    /// It refused.
    Refused(Refusal),
    /// It could not be asked.
    Failed(Trouble),
}

impl Executor {
    /// An executor for a run directory.
    pub(crate) fn new(program: String, family: Family, run_dir: PathBuf) -> Executor {
        Executor {
            program,
            family,
            run_dir,
            node: None,
            meant: None,
            dry_run: false,
            verbose: false,
            is_setup: false,
            others: Others::default(),
            limits: Limits::default(),
            is_unasked: false,
            own_code: 0,
            client: None,
        }
    }

    /// Does one step; the result is its exit status, and everything to say has been said.
    pub(crate) fn run(&mut self, step: &Step) -> u8 {
        if self.dry_run || self.verbose {
            out::print_written(&(step.line_of(&self.program_of(step)) + "\n"));
        }
        if self.dry_run {
            // What is done where the daemon does not know the volume is printed, too, as drbdadm does.
            if let Action::RunOrMeta(_, meta) | Action::QueryOrMeta(_, _, meta) = &step.action {
                let fallback = Step {
                    tool: Tool::Meta,
                    argv: meta.argv(),
                    action: Action::Meta(meta.clone()),
                    ..step.clone()
                };
                let line = fallback.line_of(&self.program_of(&fallback));
                out::print_written(&(line + "\n"));
            }
            return 0;
        }
        let code = self.perform(step);
        if code >= 10 && !self.is_setup {
            out::error(&format!(
                "Command '{}' terminated with exit code {code}",
                step.plain(&self.program_of(step))
            ));
        }
        code
    }

    /// The program that does a step, as it is shown.
    fn program_of(&self, step: &Step) -> String {
        match self.others.of(step.tool) {
            Some(path) => path.display().to_string(),
            None => step.program(self.family),
        }
    }

    fn perform(&mut self, step: &Step) -> u8 {
        if let Some(program) = self.others.of(step.tool) {
            return self.perform_by(program, step);
        }
        match &step.action {
            Action::Run(op) => match self.ask(op.clone()) {
                Ok(()) => {
                    self.warn_of_address(op);
                    say_of_snapshot(op);
                    0
                }
                Err(asked) => self.complain(step, asked),
            },
            Action::RunOrMeta(op, meta) => match self.ask(op.clone()) {
                Ok(()) => 0,
                Err(asked) if is_unconfigured(&asked) => self.meta(step, meta),
                Err(asked) => self.complain(step, asked),
            },
            Action::Wait(op) => match self.wait(op.clone()) {
                Ok(true) => 0,
                Ok(false) => 5,
                Err(asked) => self.complain(step, asked),
            },
            Action::Query(query, minor) => match self.query(*query, *minor) {
                Ok(text) => {
                    out::print(&text);
                    0
                }
                Err(asked)
                    if is_unconfigured(&asked) && matches!(query, Query::Role | Query::Cstate) =>
                {
                    out::line("Unconfigured");
                    0
                }
                Err(asked) => self.complain(step, asked),
            },
            Action::QueryOrMeta(query, minor, meta) => match self.query(*query, *minor) {
                Ok(text) => {
                    out::print(&text);
                    0
                }
                Err(asked) if is_unconfigured(&asked) => self.meta(step, meta),
                Err(asked) => self.complain(step, asked),
            },
            Action::Meta(meta) => self.meta(step, meta),
        }
    }

    /// Another program does it: its exit status is the step's.
    fn perform_by(&self, program: &Path, step: &Step) -> u8 {
        let mut command = process::Command::new(program);
        command.args(&step.argv).env("RDB_RUN_DIR", &self.run_dir);
        if let Some(node) = self.meant.as_ref().or(self.node.as_ref()) {
            command.env("RDB_NODE", node);
        }
        match command.status() {
            Ok(status) => u8::try_from(status.code().unwrap_or(EXIT_COMMUNICATION.into()))
                .unwrap_or(EXIT_COMMUNICATION),
            Err(error) => {
                let words = format!(
                    "{}: can not run {}: {error}",
                    self.program,
                    program.display()
                );
                out::error(&words);
                EXIT_COMMUNICATION
            }
        }
    }

    /// Says what went wrong, with advice where a beginner needs it.
    fn complain(&mut self, step: &Step, asked: Asked) -> u8 {
        let refusal = match asked {
            Asked::Nobody => match &step.action {
                Action::Run(Op::Down { .. }) => return 0,
                Action::Run(Op::Disconnect { .. } | Op::NetOptions { .. }) => {
                    Refusal::failure(code::INVALID_REQUEST, "unknown connection")
                }
                Action::Run(
                    Op::Connect { .. } | Op::ResourceOptions { .. } | Op::DelResource { .. },
                ) => Refusal::failure(code::RES_NOT_KNOWN, "unknown resource"),
                _ => Refusal::failure(code::MINOR_INVALID, "unknown minor"),
            },
            Asked::Refused(refusal) => refusal,
            Asked::Failed(trouble) => return self.not_asked(&trouble),
        };
        out::error(&refusal.message(&step.object));
        if !self.is_setup
            && let Some(advice) = self.advice(step, &refusal)
        {
            out::error(&advice);
        }
        let code = refusal.exit_code();
        if refusal.code == 0 {
            self.own_code = self.own_code.max(code);
        }
        code
    }

    fn not_asked(&mut self, trouble: &Trouble) -> u8 {
        self.is_unasked = true;
        self.own_code = self.own_code.max(trouble.code);
        trouble.tell(&self.program)
    }

    fn meta(&mut self, step: &Step, meta: &MetaStep) -> u8 {
        let changes = meta.command.writes();
        if let Some(minor) = meta.minor
            && (changes || meta.command == MetaCommand::DumpMd)
        {
            match self.has_disk(minor) {
                Ok(false) => {}
                Ok(true) if changes => {
                    out::error(&format!("Device '/dev/drbd{minor}' is configured!"));
                    if let Some(advice) = self.advice_for_meta(step, meta, true) {
                        out::error(&advice);
                    }
                    return EXIT_COMMUNICATION;
                }
                // While it is attached the activity log is open.
                Ok(true) => {
                    out::error("Found meta data is \"unclean\", please apply-al first");
                    return 1;
                }
                // The disk of a daemon that is dead is nobody's; what a crash has left in its metadata can be looked at and
                // put in order. To change what it is worth waits until the next daemon has said what runs.
                Err(_)
                    if matches!(meta.command, MetaCommand::DumpMd | MetaCommand::ApplyAl)
                        && matches!(presence(&self.run_dir), Presence::Left { .. }) => {}
                Err(trouble) => return self.not_asked(&trouble),
            }
        }
        let shown = format!("{} {}", self.family.program("meta"), meta.argv().join(" "));
        // Who is asked a question at a terminal takes his time, and can interrupt what takes too long.
        let limit = self.limits.long.filter(|_| !io::stdin().is_terminal());
        let _watchdog = Watchdog::start(limit, &shown);
        let code = disk::run(meta, &shown, || self.advice_for_meta(step, meta, false));
        if code != 0
            && let Some(hint) = meta.minor.and_then(|minor| self.disk_that_hangs(minor))
        {
            out::error(&hint);
        }
        code
    }

    /// Whether a disk is attached to the minor.
    fn has_disk(&mut self, minor: u32) -> Result<bool, Trouble> {
        match self.with_client(false, |client| client.has_disk(minor)) {
            Ok(has) => Ok(has),
            Err(Asked::Nobody) => Ok(false),
            Err(Asked::Refused(refusal)) => Err(Trouble::new(refusal.to_string())),
            Err(Asked::Failed(trouble)) => Err(trouble),
        }
    }

    /// How everything is configured; nothing if no daemon runs.
    pub(crate) fn show(&mut self) -> Result<Vec<ResourceShown>, Trouble> {
        self.shown_by(false, Client::show)
    }

    /// The same, with the secrets, of a daemon that is started if none runs: it may bring up by itself what one before has
    /// left.
    pub(crate) fn start_and_show(&mut self) -> Result<Vec<ResourceShown>, Trouble> {
        self.shown_by(!self.dry_run, |client| {
            if client.asks_only() {
                let op = "adjust";
                return Err(ClientError::AsksOnly { op });
            }
            client.show()
        })
    }

    fn shown_by(
        &mut self,
        start: bool,
        show: impl FnOnce(&mut Client) -> Result<Vec<ResourceShown>, ClientError>,
    ) -> Result<Vec<ResourceShown>, Trouble> {
        match self.with_client(start, show) {
            Ok(shown) => Ok(shown),
            Err(Asked::Nobody) => Ok(Vec::new()),
            Err(Asked::Refused(refusal)) => Err(Trouble::new(refusal.to_string())),
            Err(Asked::Failed(trouble)) => Err(trouble),
        }
    }

    /// What there is; `None` if no daemon runs.
    pub(crate) fn status(&mut self) -> Result<Option<StatusReport>, Trouble> {
        match self.with_client(false, Client::status) {
            Ok(report) => Ok(Some(report)),
            Err(Asked::Nobody) => Ok(None),
            Err(Asked::Refused(refusal)) => Err(Trouble::new(refusal.to_string())),
            Err(Asked::Failed(trouble)) => Err(trouble),
        }
    }

    /// What there is of one resource; `None` if it is not there, or no daemon runs.
    pub(crate) fn status_of(&mut self, resource: &str) -> Result<Option<ResourceReport>, Trouble> {
        match self.with_client(false, |client| client.status_of(resource)) {
            Ok(report) => Ok(report),
            Err(Asked::Nobody) => Ok(None),
            Err(Asked::Refused(refusal)) => Err(Trouble::new(refusal.to_string())),
            Err(Asked::Failed(trouble)) => Err(trouble),
        }
    }

    /// What the daemon knows of what was written apart; `None` if none runs, or it does not know the resource: the disks tell then.
    pub(crate) fn evidence(&mut self, resource: &str) -> Result<Option<EvidenceReport>, Trouble> {
        match self.with_client(false, |client| client.evidence(resource)) {
            Ok(report) => Ok(Some(report)),
            Err(asked) if is_unconfigured(&asked) => Ok(None),
            Err(Asked::Refused(refusal)) if refusal.code == code::RES_NOT_KNOWN => Ok(None),
            Err(Asked::Refused(refusal)) => Err(Trouble::new(refusal.to_string())),
            // The disks of a daemon that is dead are nobody's.
            Err(Asked::Failed(_)) if matches!(presence(&self.run_dir), Presence::Left { .. }) => {
                Ok(None)
            }
            Err(Asked::Failed(trouble)) => Err(trouble),
            Err(Asked::Nobody) => Ok(None),
        }
    }

    fn ask(&mut self, op: Op) -> Result<(), Asked> {
        // Everything else works on what a running daemon already has.
        let start = matches!(op, Op::NewResource { .. });
        self.with_client(start, |client| client.run(op))
    }

    fn wait(&mut self, mut op: Op) -> Result<bool, Asked> {
        if let Op::WaitConnect { times, .. } | Op::WaitSync { times, .. } = &mut op {
            for message in clamp(times) {
                out::error(&message);
            }
        }
        self.with_client(false, |client| client.wait(op))
    }

    fn query(&mut self, query: Query, minor: u32) -> Result<String, Asked> {
        if matches!(query, Query::GetGi | Query::ShowGi | Query::GiJson) {
            let report = self.with_client(false, |client| client.generation(minor))?;
            return gi_text(query, minor, &report)
                .map_err(|text| Asked::Failed(Trouble::new(text)));
        }
        let report = self.with_client(false, Client::status)?;
        let (resource, volume) = find(&report, minor).ok_or_else(|| {
            Asked::Refused(Refusal::failure(code::MINOR_INVALID, "unknown minor"))
        })?;
        if let Some(failed) = &resource.failed {
            return Err(Asked::Failed(Trouble::new(format!(
                "{}: stopped: {}; {}",
                resource.name, failed.reason, failed.advice
            ))));
        }
        let unconfigured = status_text::is_unconfigured(volume);
        Ok(match query {
            Query::Role | Query::Cstate | Query::Dstate if unconfigured => {
                "Unconfigured\n".to_owned()
            }
            Query::Role => format!("{}/{}\n", volume.role, volume.peer_role),
            Query::Cstate => format!("{}\n", volume.cstate_word()),
            _ if unconfigured => {
                return Err(Asked::Refused(Refusal::failure(
                    code::MINOR_INVALID,
                    "unknown minor",
                )));
            }
            Query::Dstate | Query::GetGi | Query::ShowGi | Query::GiJson => {
                format!("{}/{}\n", volume.disk, volume.peer_disk)
            }
        })
    }

    /// Whether the daemon is that of the node which is meant.
    /// Refuses the daemon of another node than the command is for.
    pub(crate) fn is_meant(&self, client: &Client) -> Result<(), Trouble> {
        let node = &client.hello().node;
        match &self.meant {
            Some(meant) if meant != node => Err(Trouble::new(format!(
                "the daemon is that of node '{node}', the command is for node '{meant}' (see --node)"
            ))),
            _ => Ok(()),
        }
    }

    /// Why a daemon that answers is not to be asked: it is another node's.
    pub(crate) fn anothers_daemon(&self) -> Option<Trouble> {
        self.meant.as_ref()?;
        // If it cannot be asked, the command itself says why.
        let client = Client::connect_within(&self.run_dir, self.limits).ok()?;
        self.is_meant(&client).err()
    }

    fn with_client<T>(
        &mut self,
        start: bool,
        call: impl FnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, Asked> {
        let client = match &mut self.client {
            Some(client) => client,
            None => {
                let connected = if start {
                    daemon::connect_or_start(&self.run_dir, self.node.as_deref(), self.limits)
                } else {
                    Client::connect_within(&self.run_dir, self.limits).map_err(StartError::from)
                };
                match connected {
                    Ok(client) => {
                        self.is_meant(&client).map_err(Asked::Failed)?;
                        self.client.insert(client)
                    }
                    Err(StartError::Client(ClientError::NoDaemon { .. })) => {
                        return Err(Asked::Nobody);
                    }
                    Err(error) => return Err(Asked::Failed(error.into())),
                }
            }
        };
        call(client).map_err(|error| match error {
            ClientError::Refused(refusal) => Asked::Refused(refusal),
            other => {
                self.client = None;
                Asked::Failed(other.into())
            }
        })
    }
}

/// What a snapshot has come to: every node that takes part has ended well.
fn say_of_snapshot(op: &Op) {
    if let Op::Snapshot {
        resource,
        name,
        local_only,
        ..
    } = op
    {
        let peer = if *local_only { "" } else { "; peer: exit 0" };
        out::line(&format!(
            "{resource}: snapshot '{name}' is taken: here: exit 0{peer}"
        ));
    }
}

/// Makes the time limits sensible as `drbdsetup` does (`docs/spec/behaviour.md`, section 11.1); the result is what to
/// tell the user. 0 is for ever.
fn clamp(times: &mut WaitTimes) -> Vec<String> {
    let mut messages = Vec::new();
    let is_shorter = |limit: u32, than: u32| limit > 0 && (limit < than || than == 0);
    if is_shorter(times.wfc_s, times.degr_wfc_s) {
        times.degr_wfc_s = times.wfc_s;
        messages.push(format!(
            "degr-wfc-timeout has to be shorter than wfc-timeout\n\
             degr-wfc-timeout implicitly set to wfc-timeout ({}s)",
            times.wfc_s
        ));
    }
    if is_shorter(times.degr_wfc_s, times.outdated_wfc_s) {
        times.outdated_wfc_s = times.wfc_s;
        messages.push(format!(
            "outdated-wfc-timeout has to be shorter than degr-wfc-timeout\n\
             outdated-wfc-timeout implicitly set to degr-wfc-timeout ({}s)",
            times.degr_wfc_s
        ));
    }
    messages
}

/// The daemon does not have the minor, or no disk of it: the metadata on the disk is the truth.
fn is_unconfigured(asked: &Asked) -> bool {
    match asked {
        Asked::Nobody => true,
        Asked::Refused(refusal) => matches!(refusal.code, code::MINOR_INVALID | code::NO_DISK),
        Asked::Failed(_) => false,
    }
}

/// The volume of a minor.
pub(crate) fn find(report: &StatusReport, minor: u32) -> Option<(&ResourceReport, &VolumeReport)> {
    report
        .resources
        .iter()
        .find_map(|r| r.volumes.iter().find(|v| v.minor == minor).map(|v| (r, v)))
}

/// Identifiers of a running volume, in the form that the disk's have.
fn gi_text(query: Query, minor: u32, report: &GiReport) -> Result<String, String> {
    // Only identifiers and flags are printed of it; any layout will do.
    const ANY_SECTORS: u64 = 1 << 21;
    let layout = Layout::compute(
        MetaKind::FlexibleExternal,
        ANY_SECTORS,
        ANY_SECTORS,
        rdb_meta::AlGeometry::DEFAULT,
    )
    .map_err(|error| error.to_string())?;
    let mut superblock = Superblock::new(&layout);
    superblock.uuids = report.uuids;
    superblock.flags = MdFlags::from_bits_retain(report.flags);
    if query == Query::GetGi {
        return Ok(format!("{}\n", tool::get_gi(&superblock)));
    }
    if query == Query::GiJson {
        return Ok(gi_json::line(Some(minor), &superblock));
    }
    let text = tool::show_gi(&superblock);
    // The driver knows nothing of the last agreed size: its tool ends with the line about the metadata.
    let end = text.find("\nmeta-data:").map_or(text.len(), |at| {
        text[at + 1..]
            .find('\n')
            .map_or(text.len(), |length| at + 1 + length + 1)
    });
    Ok(text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_times_are_made_sensible() {
        let times = |wfc_s, degr_wfc_s, outdated_wfc_s| WaitTimes {
            wfc_s,
            degr_wfc_s,
            outdated_wfc_s,
            wait_after_sb: false,
        };
        for (given, clamped, messages) in [
            (times(0, 0, 0), times(0, 0, 0), 0),
            (times(120, 60, 30), times(120, 60, 30), 0),
            // For ever is longer than any limit.
            (times(5, 0, 0), times(5, 5, 5), 2),
            (times(5, 60, 3), times(5, 5, 3), 1),
            (times(0, 60, 0), times(0, 60, 0), 1),
            (times(120, 60, 90), times(120, 60, 120), 1),
        ] {
            let mut times = given;
            assert_eq!(clamp(&mut times).len(), messages, "{given:?}");
            assert_eq!(times, clamped, "{given:?}");
        }
    }

    #[test]
    fn running_identifiers_read_as_the_drivers_tool_prints_them() {
        // From captures/transcripts/10-down.
        let report = GiReport {
            uuids: [
                0x39CB_A091_085A_E48B,
                0,
                0x0906_B3EA_13A5_C95D,
                0x114B_0176_46F8_146D,
            ],
            flags: (MdFlags::CONSISTENT
                | MdFlags::WAS_UP_TO_DATE
                | MdFlags::PRIMARY_IND
                | MdFlags::CONNECTED_IND)
                .bits(),
        };
        let line =
            "39CBA091085AE48B:0000000000000000:0906B3EA13A5C95D:114B017646F8146D:1:1:1:1:0:0:0";
        assert_eq!(
            gi_text(Query::GetGi, 0, &report).unwrap(),
            format!("{line}\n")
        );
        let json = gi_text(Query::GiJson, 7, &report).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "minor": 7, "current": "39CBA091085AE48B", "bitmap": "0000000000000000",
                "history": ["0906B3EA13A5C95D", "114B017646F8146D"], "consistent": true, "was-up-to-date": true,
                "primary": true, "connected": true, "full-sync": false, "peer-outdated": false,
                "crashed-primary": false, "needs-apply-al": true,
            })
        );
        let text = gi_text(Query::ShowGi, 7, &report).unwrap();
        assert!(text.contains(line), "{text}");
        assert!(
            text.ends_with("\n\nflags: Primary, Connected, UpToDate\nmeta-data: need apply-al\n"),
            "{text}"
        );
    }
}
