//! Administrative commands: one at a time a resource, each a little machine that is looked at after every event until
//! it has an answer (`docs/spec/behaviour.md`, section 12).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::event::Command;
use crate::ids::{AdminId, Session, Time, VolumeNr};
use crate::rules::parting::Parting;
use crate::state::{StateError, VolumeState};

/// The commands of a resource.
#[derive(Debug, Default)]
pub(crate) struct Admin {
    pub(crate) queue: VecDeque<(AdminId, Command)>,
    pub(crate) current: Option<Op>,
    /// A question to the peer.
    pub(crate) ask: Option<Ask>,
    /// Questions of this connection whose command has come to its end without the answer, as a detach does when the disk
    /// fails meanwhile: so many answers come yet, before that to `ask`. Set by the end of the command, cleared by the answers
    /// and with the connection. Without it the late answer looks like a wrong peer's.
    pub(crate) owed: BTreeMap<Option<VolumeNr>, Owed>,
    /// Orders to resume I/O, which wait for no other command: what that waits for may be users' requests that are frozen. Until the
    /// exchange of parameters is over they wait, since a generation may begin and the peer decides by those that it was told of.
    pub(crate) resuming: Vec<AdminId>,
    /// Forced disconnects that took the connection from under other commands, until it is gone.
    pub(crate) leaving: Vec<AdminId>,
    /// Counts commands, so that metadata written for one is not taken for another's.
    pub(crate) begun: u32,
    /// The volume whose device the front end says is in use, during a demotion.
    pub(crate) held_open: Option<VolumeNr>,
}

#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) id: AdminId,
    /// By [`Admin::begun`].
    pub(crate) nr: u32,
    pub(crate) command: Command,
    pub(crate) stage: Stage,
    /// What `stage` waits for has come.
    pub(crate) ready: bool,
    /// The local disk was declared UpToDate by force.
    pub(crate) forced: bool,
    pub(crate) retried: bool,
    /// The record that a promotion waits for to change, and the time when it has waited long enough.
    pub(crate) waits_since: Option<(VolumeState, Time)>,
    /// That time has come.
    pub(crate) settled: bool,
    /// How the connection is left.
    pub(crate) parting: Parting,
    /// What a promotion has asked the fence procedure for.
    pub(crate) fence: Fencing,
}

/// Where a promotion is with the fence procedure (`docs/spec/behaviour.md`, section 12.1). The handler is run once: a second answer
/// a moment later is worth no more than the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fencing {
    /// It has not been needed.
    #[default]
    NotAsked,
    /// It is under way, and what the promotion was refused with.
    Asked(StateError),
    /// The peer is fenced: a disk that was Consistent is UpToDate.
    Fenced,
    /// It is not, and the administrator has ordered to go on all the same.
    Forced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Start,
    /// The peer makes durable what users have written up to this epoch: their flushes may be done here alone, and what is done
    /// here is to be given up.
    Flush(u32),
    /// A ping shows that the peer is alive, or that it is not.
    Ping,
    /// Ask for the change, again after each event, until it is made or refused.
    Change,
    /// A pause before another try.
    Pause,
    /// The peer is being fenced.
    Fence,
    /// What users have asked for before the suspension comes to its end, in this life of the connection if there is one.
    Quiet(Option<Session>),
    /// A snapshot is taken.
    Taking,
    /// Requests must end before the role is given up.
    Drain,
    /// Bitmap blocks are written.
    Bitmap,
    /// The superblock is written.
    Durable,
    /// The disk is on its way to Diskless.
    Detaching,
    /// The connection is on its way to StandAlone.
    Leaving,
    /// The attach module ends it.
    Attaching,
}

#[derive(Debug)]
pub(crate) struct Ask {
    /// `None`: the connection.
    pub(crate) volume: Option<VolumeNr>,
    pub(crate) reply: Option<i32>,
    pub(crate) session: Session,
}

/// Answers that nobody waits for any more.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Owed {
    pub(crate) answers: u32,
    /// Whether one of the questions was for a detach. A peer that consents goes on alone at once.
    pub(crate) detach: bool,
}

impl Admin {
    /// Whether the command in progress has waited long enough for this volume's state to change.
    pub(crate) fn settled(&self, nr: VolumeNr) -> bool {
        let op = self.current.as_ref().filter(|op| op.settled);
        op.is_some_and(|op| command_volume(&op.command) == Some(nr))
    }

    /// Whether the peer has been asked about this volume (or connection) and has not answered.
    pub(crate) fn asks_about(&self, volume: Option<VolumeNr>) -> bool {
        let owed = self.owed.contains_key(&volume) || self.owed.contains_key(&None);
        owed || self.is_changing(volume)
    }

    /// Whether the volume's data may be given up before we know it: a command for that has begun, or the peer has been asked.
    /// What users want durable has to be durable at the peer too.
    pub(crate) fn copy_may_go(&self, nr: VolumeNr) -> bool {
        let given_up = |op: &Op| match op.command {
            Command::Detach { volume, .. } | Command::Invalidate { volume } => volume == nr,
            _ => false,
        };
        self.asks_about(Some(nr)) || self.current.as_ref().is_some_and(given_up)
    }

    /// Whether the command in progress has asked the peer about this volume (or connection), which has not answered: what it asks
    /// for is still wanted.
    pub(crate) fn is_changing(&self, volume: Option<VolumeNr>) -> bool {
        self.ask
            .as_ref()
            .is_some_and(|a| a.reply.is_none() && (a.volume == volume || a.volume.is_none()))
    }

    /// Whether the command in progress is that this volume's disk be synced from the peer's.
    pub(crate) fn orders_sync(&self, nr: VolumeNr) -> bool {
        let command = self.current.as_ref().map(|op| &op.command);
        matches!(command, Some(&Command::Invalidate { volume }) if volume == nr)
    }

    /// Whether a disk is being attached to this volume: the command has begun, and is not answered.
    pub(crate) fn attaches(&self, nr: VolumeNr) -> bool {
        self.current.as_ref().is_some_and(|op| {
            let attach = matches!(op.command, Command::Attach { volume, .. } if volume == nr);
            attach && op.stage == Stage::Attaching
        })
    }

    /// Whether the peer has been asked for that, and has not answered.
    pub(crate) fn asks_for_sync(&self, nr: VolumeNr) -> bool {
        self.orders_sync(nr) && self.is_changing(Some(nr))
    }

    /// If that answer is one to a question that was given up: what was owed.
    pub(crate) fn takes_owed(&mut self, volume: Option<VolumeNr>) -> Option<Owed> {
        let owed = self.owed.get_mut(&volume)?;
        let before = *owed;
        owed.answers -= 1;
        if owed.answers == 0 {
            self.owed.remove(&volume);
        }
        Some(before)
    }
}

/// What became of a change that may need the peer.
pub(crate) enum Asked {
    /// Look again after the next event.
    Wait,
    Done(Result<i32, StateError>),
}

/// The volume that a command is about.
pub(crate) fn command_volume(command: &Command) -> Option<VolumeNr> {
    match *command {
        Command::NewVolume { volume, .. }
        | Command::DelVolume { volume }
        | Command::Attach { volume, .. }
        | Command::Detach { volume, .. }
        | Command::Primary { volume, .. }
        | Command::Secondary { volume, .. }
        | Command::Invalidate { volume }
        | Command::InvalidateRemote { volume }
        | Command::Verify { volume, .. }
        | Command::Outdate { volume }
        | Command::NewCurrentUuid { volume, .. }
        | Command::PauseSync { volume }
        | Command::ResumeSync { volume }
        | Command::DiskOptions { volume, .. } => Some(volume),
        Command::SuspendIo { volume } | Command::ResumeIo { volume } => Some(volume),
        Command::Connect { .. }
        | Command::Disconnect { .. }
        | Command::NetOptions { .. }
        | Command::ResourceOptions { .. }
        | Command::Snapshot { .. } => None,
    }
}
