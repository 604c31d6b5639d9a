//! How far a command is, and what it is about.

use crate::event::Command;
use crate::ids::{Session, VolumeNr};
use crate::rules::withdrawal::{Kind, Progress};

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
    /// The attach ends it (`router/disk/attach.rs`).
    Attaching,
}

/// The volume that a command is about.
pub(super) fn volume_of(command: &Command) -> Option<VolumeNr> {
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

/// What it does, as far as it matters when it is taken back.
pub(super) fn kind(command: &Command) -> Kind {
    match command {
        Command::Attach { .. } => Kind::Attach,
        Command::Primary { .. } => Kind::Promote,
        Command::Invalidate { .. } | Command::InvalidateRemote { .. } => Kind::FullSync,
        Command::NewCurrentUuid { .. } => Kind::NewGeneration,
        Command::Disconnect { .. } => Kind::Disconnect,
        Command::NewVolume { .. }
        | Command::DelVolume { .. }
        | Command::Detach { .. }
        | Command::Connect { .. }
        | Command::Secondary { .. }
        | Command::Verify { .. }
        | Command::Outdate { .. }
        | Command::PauseSync { .. }
        | Command::ResumeSync { .. }
        | Command::DiskOptions { .. }
        | Command::NetOptions { .. }
        | Command::ResourceOptions { .. }
        | Command::SuspendIo { .. }
        | Command::ResumeIo { .. }
        | Command::Snapshot { .. } => Kind::Other,
    }
}

/// How far it is. `asks`: the peer has been asked.
pub(super) fn progress(stage: Stage, asks: bool) -> Progress {
    match stage {
        Stage::Durable | Stage::Detaching | Stage::Leaving | Stage::Attaching => Progress::Decided,
        _ if asks => Progress::Asked,
        // The bitmap is written before a role is given up, and may be written without.
        Stage::Start
        | Stage::Flush(_)
        | Stage::Ping
        | Stage::Change
        | Stage::Pause
        | Stage::Fence
        | Stage::Quiet(_)
        | Stage::Taking
        | Stage::Drain
        | Stage::Bitmap => Progress::Undecided,
    }
}
