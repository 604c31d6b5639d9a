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
#[derive(Debug, Default)]
pub(crate) struct Link {
    life: Life,
}

#[derive(Debug, Default)]
enum Life {
    /// No sockets, and none wanted before an administrator or a pause says so.
    #[default]
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
    step: HandshakeStep,
    other: Other,
    /// This node accepted the data socket.
    called: bool,
    challenge: [u8; 64],
    /// The peer's challenge, not answered yet.
    peer_challenge: Vec<u8>,
}

/// What is awaited from the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeStep {
    /// Its P_CONNECTION_FEATURES; ours is sent.
    Features,
    /// Its P_AUTH_CHALLENGE; ours is sent.
    Challenge,
    /// Its P_AUTH_RESPONSE; ours is sent, unless we were called.
    Response,
}

impl Handshake {
    fn new(resolve_conflicts: bool, called: bool, challenge: [u8; 64]) -> Handshake {
        Handshake {
            step: HandshakeStep::Features,
            other: Other {
                resolve_conflicts,
                proven: false,
            },
            called,
            challenge,
            peer_challenge: Vec::new(),
        }
    }

    /// Our challenge.
    pub(crate) fn challenge(&self) -> &[u8; 64] {
        &self.challenge
    }

    /// Our challenge, which goes out now: the peer's is awaited.
    pub(crate) fn begin_challenge(&mut self) -> &[u8; 64] {
        self.step = HandshakeStep::Challenge;
        &self.challenge
    }

    /// The peer's challenge has come. Says whether it is answered now: who was called answers when the peer has proved itself.
    pub(crate) fn take_challenge(&mut self, theirs: Vec<u8>) -> bool {
        self.peer_challenge = theirs;
        self.step = HandshakeStep::Response;
        !self.called
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
struct Up {
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
    /// The driver is asked for sockets.
    pub(crate) fn open(&mut self) {
        debug_assert!(self.is_down(), "opened as {:?}", self.life);
        self.life = Life::Pairing;
    }

    /// There is a pair. `resolve_conflicts`: this node accepted the meta socket; `called`: the data socket.
    pub(crate) fn pair(&mut self, resolve_conflicts: bool, called: bool, challenge: [u8; 64]) {
        debug_assert!(self.is_pairing(), "paired as {:?}", self.life);
        self.life = Life::Handshake(Handshake::new(resolve_conflicts, called, challenge));
    }

    /// The sockets go, if there are any.
    pub(crate) fn drain(&mut self) {
        self.life = Life::Draining;
    }

    /// Nothing that came over them is unfinished any more.
    pub(crate) fn go_down(&mut self) {
        debug_assert!(self.is_draining(), "down from {:?}", self.life);
        self.life = Life::Down;
    }

    /// Whether there are no sockets, and none wanted.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.life, Life::Down)
    }

    /// Whether the driver pairs sockets.
    pub(crate) fn is_pairing(&self) -> bool {
        matches!(self.life, Life::Pairing)
    }

    /// Whether the sockets are gone, and volumes may still finish what they received.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.life, Life::Draining)
    }

    /// Whether there are two sockets.
    pub(crate) fn has_sockets(&self) -> bool {
        matches!(self.life, Life::Handshake(_) | Life::Up(_))
    }

    /// Whether ordinary traffic is possible.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.life, Life::Up(_))
    }

    /// What is awaited before that, if there are sockets.
    pub(crate) fn step(&self) -> Option<HandshakeStep> {
        match &self.life {
            Life::Handshake(handshake) => Some(handshake.step),
            Life::Down | Life::Pairing | Life::Up(_) | Life::Draining => None,
        }
    }

    pub(crate) fn handshake(&mut self) -> Option<&mut Handshake> {
        match &mut self.life {
            Life::Handshake(handshake) => Some(handshake),
            Life::Down | Life::Pairing | Life::Up(_) | Life::Draining => None,
        }
    }

    fn up(&self) -> Option<&Up> {
        match &self.life {
            Life::Up(up) => Some(up),
            Life::Down | Life::Pairing | Life::Handshake(_) | Life::Draining => None,
        }
    }

    fn up_mut(&mut self) -> Option<&mut Up> {
        match &mut self.life {
            Life::Up(up) => Some(up),
            Life::Down | Life::Pairing | Life::Handshake(_) | Life::Draining => None,
        }
    }

    fn other(&self) -> Option<Other> {
        match &self.life {
            Life::Handshake(Handshake { other, .. }) | Life::Up(Up { other, .. }) => Some(*other),
            Life::Down | Life::Pairing | Life::Draining => None,
        }
    }

    /// The handshake is over: our parameters go out.
    pub(crate) fn come_up(&mut self) {
        if let Some(other) = self.other() {
            self.life = Life::Up(Up {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(called: bool) -> Link {
        let mut link = Link::default();
        link.open();
        link.pair(true, called, [7; 64]);
        link
    }

    #[test]
    fn who_was_called_answers_when_the_peer_has_proved_itself() {
        for called in [false, true] {
            let mut link = paired(called);
            assert_eq!(link.step(), Some(HandshakeStep::Features));
            let handshake = link.handshake().unwrap();
            assert_eq!(handshake.begin_challenge(), &[7; 64]);
            assert_eq!(handshake.take_challenge(Vec::from([1])), !called);
            assert_eq!(handshake.prove(), called);
            assert_eq!(handshake.answer_challenge(), [1]);
            assert_eq!(link.step(), Some(HandshakeStep::Response));
            link.come_up();
            assert!(link.is_proven() && link.resolves_conflicts() && link.is_exchanging());
        }
    }

    #[test]
    fn what_is_known_of_the_peer_goes_with_the_sockets() {
        let mut link = paired(false);
        link.come_up();
        link.greet();
        link.end_exchange();
        link.leave(true);
        assert!(link.has_sockets() && link.is_greeted() && link.is_leaving());
        link.drain();
        assert!(!link.has_sockets() && !link.is_greeted() && !link.is_leaving());
        link.go_down();
        link.come_up();
        assert!(link.is_down(), "nothing comes up without sockets");
    }
}
