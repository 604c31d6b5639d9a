//! Result codes of a state change and their texts (`docs/spec/behaviour.md`, section 2.8).

use super::{SanitizeNotes, VolumeState};

/// Whether a rule lets a state or a transition pass.
pub type StateResult = Result<(), StateError>;

/// What [`super::request`] made of an acceptable change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing differs after sanitizing; result 2.
    NothingToDo,
    /// The record to put in the place of the old one, and what was forced on the way; result 1.
    Changed(VolumeState, SanitizeNotes),
}

impl Outcome {
    /// The number reported for it: 1 or 2.
    pub fn code(&self) -> i32 {
        match self {
            Outcome::NothingToDo => StateSuccess::NothingToDo as i32,
            Outcome::Changed(..) => StateSuccess::Success as i32,
        }
    }
}

/// Results above zero, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateSuccess {
    /// The change was made.
    Success = 1,
    /// Nothing differs from what is.
    NothingToDo = 2,
    /// The peer agreed.
    ClusterWideSuccess = 3,
    /// The peer need not be asked.
    ClusterWideNoNeed = 4,
}

/// Whether a result code, also one received from the peer, is a success: 1 and above.
pub fn is_success(code: i32) -> bool {
    code >= StateSuccess::Success as i32
}

/// Why a change of state is refused. `Display` prints the text that operators know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[repr(i32)]
pub enum StateError {
    /// -1.
    #[error("Multiple primaries not allowed by config")]
    TwoPrimaries = -1,
    /// -2.
    #[error("Need access to UpToDate data")]
    NoUpToDateDisk = -2,
    /// -4.
    #[error("Can not resync without local disk")]
    NoLocalDisk = -4,
    /// -5.
    #[error("Can not resync without remote disk")]
    NoRemoteDisk = -5,
    /// -6.
    #[error("Refusing to be Outdated while Connected")]
    ConnectedOutdates = -6,
    /// -7.
    #[error("Refusing to be Primary while peer is not outdated")]
    PrimaryNop = -7,
    /// -8.
    #[error("Can not start OV/resync since it is already active")]
    ResyncRunning = -8,
    /// -9.
    #[error("Can not disconnect a StandAlone device")]
    AlreadyStandAlone = -9,
    /// -10.
    #[error("State change was refused by peer node")]
    FailedByPeer = -10,
    /// -11.
    #[error("Device is diskless, the requested operation requires a disk")]
    IsDiskless = -11,
    /// -12.
    #[error("Device is held open by someone")]
    DeviceInUse = -12,
    /// -13.
    #[error("Have no net/connection configuration")]
    NoNetConfig = -13,
    /// -14.
    #[error("Need a verify algorithm to start online verify")]
    NoVerifyAlg = -14,
    /// -15.
    #[error("Need a connection to start verify or resync")]
    NeedConnection = -15,
    /// -16.
    #[error("Disk state is lower than outdated")]
    LowerThanOutdated = -16,
    /// -17.
    #[error("Peer does not support protocol")]
    NotSupported = -17,
    /// -18; a blocking request waits for the next state change and starts over instead of reporting it.
    #[error("In transient state, retry after next state change")]
    InTransientState = -18,
    /// -19.
    #[error("Concurrent state changes detected and aborted")]
    ConcurrentChange = -19,
    /// -20.
    #[error("Other vol primary on peer not allowed by config")]
    OtherVolumePeerPrimary = -20,
    /// -21.
    #[error("Need a connection for a graceful disconnect/outdate peer")]
    OutdateWithoutConnection = -21,
}

impl StateError {
    /// Every refusal.
    pub const ALL: [StateError; 20] = [
        StateError::TwoPrimaries,
        StateError::NoUpToDateDisk,
        StateError::NoLocalDisk,
        StateError::NoRemoteDisk,
        StateError::ConnectedOutdates,
        StateError::PrimaryNop,
        StateError::ResyncRunning,
        StateError::AlreadyStandAlone,
        StateError::FailedByPeer,
        StateError::IsDiskless,
        StateError::DeviceInUse,
        StateError::NoNetConfig,
        StateError::NoVerifyAlg,
        StateError::NeedConnection,
        StateError::LowerThanOutdated,
        StateError::NotSupported,
        StateError::InTransientState,
        StateError::ConcurrentChange,
        StateError::OtherVolumePeerPrimary,
        StateError::OutdateWithoutConnection,
    ];

    /// The number on the wire and on the command line, -21..=-1.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The refusal with this number, if there is one.
    pub fn from_code(code: i32) -> Option<StateError> {
        StateError::ALL
            .into_iter()
            .find(|error| error.code() == code)
    }
}
