//! The life of the connection: what it is at, and what is known of it there and nowhere else.
//!
//! ```text
//!          open            paired               parameters are sent
//!   Down ───────► Pairing ───────► Handshake ───────────────────────► Up
//!    ▲               │                 │                               │
//!    └─── Draining ◄─┴─────────────────┴───────────── lost, ended ◄────┘
//! ```

use alloc::vec::Vec;

/// How far the connection is.
#[derive(Debug)]
pub(crate) enum Link {
    /// No sockets, and none wanted before an administrator or a pause says so.
    Down,
    /// The driver pairs sockets.
    Pairing,
    /// There is a pair: who is it, and what does it speak?
    Handshake(Handshake),
    /// Ordinary traffic.
    Up(Up),
    /// The sockets are gone; volumes still finish what they received.
    Draining,
}

/// What is known of who is at the other end, as long as there are sockets.
#[derive(Debug, Clone, Copy)]
struct Other {
    /// This node accepted the meta socket: it decides ties (`docs/spec/behaviour.md`, section 7.3).
    resolve_conflicts: bool,
    /// It has answered our challenge.
    proven: bool,
}

/// A pair of sockets whose other end has not said enough.
#[derive(Debug)]
pub(crate) struct Handshake {
    step: Step,
    other: Other,
    /// This node accepted the data socket.
    called: bool,
    challenge: [u8; 64],
    /// The peer's challenge, not answered yet.
    peer_challenge: Vec<u8>,
}

/// What is awaited from the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its P_CONNECTION_FEATURES; ours is sent.
    Features,
    /// Its P_AUTH_CHALLENGE; ours is sent.
    Challenge,
    /// Its P_AUTH_RESPONSE; ours is sent, unless we were called.
    Response,
}

impl Handshake {
    pub(crate) fn new(resolve_conflicts: bool, called: bool, challenge: [u8; 64]) -> Handshake {
        Handshake {
            step: Step::Features,
            other: Other {
                resolve_conflicts,
                proven: false,
            },
            called,
            challenge,
            peer_challenge: Vec::new(),
        }
    }

    pub(crate) fn was_called(&self) -> bool {
        self.called
    }

    /// Our challenge.
    pub(crate) fn challenge(&self) -> &[u8; 64] {
        &self.challenge
    }

    /// Our challenge goes out: the peer's is awaited.
    pub(crate) fn begin_challenge(&mut self) {
        self.step = Step::Challenge;
    }

    /// The peer's challenge has come, and is answered now or when the peer has proved itself.
    pub(crate) fn take_challenge(&mut self, theirs: Vec<u8>) {
        self.peer_challenge = theirs;
        self.step = Step::Response;
    }

    /// The peer's challenge, to be answered once.
    pub(crate) fn answer_challenge(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.peer_challenge)
    }

    /// The peer has answered our challenge; says whether it waits for our answer, as it has called us.
    pub(crate) fn prove(&mut self) -> bool {
        self.other.proven = true;
        self.called
    }
}

/// A connection over which parameters and data go.
#[derive(Debug)]
pub(crate) struct Up {
    other: Other,
    /// Own parameters are sent, and not every volume has left WFReportParams. Until then changes of state wait.
    exchanging: bool,
    /// The peer's settings have come, and fit.
    greeted: bool,
    /// A volume was Connected.
    fruitful: bool,
    /// A graceful disconnect is asked for: end of file is expected.
    leaving: bool,
}

impl Link {
    /// Whether there are two sockets.
    pub(crate) fn has_sockets(&self) -> bool {
        matches!(self, Link::Handshake(_) | Link::Up(_))
    }

    /// Whether ordinary traffic is possible.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Link::Up(_))
    }

    /// What is awaited before that, if there are sockets.
    pub(crate) fn step(&self) -> Option<Step> {
        match self {
            Link::Handshake(handshake) => Some(handshake.step),
            Link::Down | Link::Pairing | Link::Up(_) | Link::Draining => None,
        }
    }

    pub(crate) fn handshake(&mut self) -> Option<&mut Handshake> {
        match self {
            Link::Handshake(handshake) => Some(handshake),
            Link::Down | Link::Pairing | Link::Up(_) | Link::Draining => None,
        }
    }

    fn up(&self) -> Option<&Up> {
        match self {
            Link::Up(up) => Some(up),
            Link::Down | Link::Pairing | Link::Handshake(_) | Link::Draining => None,
        }
    }

    fn up_mut(&mut self) -> Option<&mut Up> {
        match self {
            Link::Up(up) => Some(up),
            Link::Down | Link::Pairing | Link::Handshake(_) | Link::Draining => None,
        }
    }

    fn other(&self) -> Option<Other> {
        match self {
            Link::Handshake(Handshake { other, .. }) | Link::Up(Up { other, .. }) => Some(*other),
            Link::Down | Link::Pairing | Link::Draining => None,
        }
    }

    /// The handshake is over: our parameters go out.
    pub(crate) fn come_up(&mut self) {
        if let Some(other) = self.other() {
            *self = Link::Up(Up {
                other,
                exchanging: true,
                greeted: false,
                fruitful: false,
                leaving: false,
            });
        }
    }

    /// Whether this node decides ties.
    pub(crate) fn resolves_conflicts(&self) -> bool {
        self.other().is_some_and(|other| other.resolve_conflicts)
    }

    /// Whether the other end has answered our challenge.
    pub(crate) fn is_proven(&self) -> bool {
        self.other().is_some_and(|other| other.proven)
    }

    /// Whether own parameters are sent, and the peer has not told of every volume.
    pub(crate) fn is_exchanging(&self) -> bool {
        self.up().is_some_and(|up| up.exchanging)
    }

    /// The peer has told of every volume, or has had the time.
    pub(crate) fn end_exchange(&mut self) {
        if let Some(up) = self.up_mut() {
            up.exchanging = false;
        }
    }

    /// Whether the peer's settings have come, and fit.
    pub(crate) fn is_greeted(&self) -> bool {
        self.up().is_some_and(|up| up.greeted)
    }

    /// The peer's settings have come, and fit.
    pub(crate) fn greet(&mut self) {
        if let Some(up) = self.up_mut() {
            up.greeted = true;
        }
    }

    /// Whether a volume was Connected.
    pub(crate) fn is_fruitful(&self) -> bool {
        self.up().is_some_and(|up| up.fruitful)
    }

    /// A volume is Connected.
    pub(crate) fn bear_fruit(&mut self) {
        if let Some(up) = self.up_mut() {
            up.fruitful = true;
        }
    }

    /// Whether a graceful disconnect is asked for.
    pub(crate) fn is_leaving(&self) -> bool {
        self.up().is_some_and(|up| up.leaving)
    }

    /// A graceful disconnect is asked for, or not any more.
    pub(crate) fn leave(&mut self, leaving: bool) {
        if let Some(up) = self.up_mut() {
            up.leaving = leaving;
        }
    }
}
