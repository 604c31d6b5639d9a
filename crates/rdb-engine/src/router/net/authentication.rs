//! Who proves himself to whom, and in which order (`docs/spec/wire.md`, section 4).
//!
//! Both sides send a challenge and answer the other's. DRBD answers at once. Here the side that was called, which does
//! not know by whom, answers only after it has verified: a stranger who calls gets no answer that he could use
//! elsewhere. The side that has called answers first, as the driver does, so that one of two always does; a driver that
//! was called does, too.
//!
//! A challenge that this process has outstanding itself is never answered ([`ConnEvent::ChallengeReflected`]): who hands it
//! back, over the same or over another connection, wants us to prove ourselves in his place.
//!
//! [`ConnEvent::ChallengeReflected`]: crate::ConnEvent::ChallengeReflected

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use replica_proto::Packet;

use crate::config::Authentication;
use crate::effect::Level;
use crate::event::Payload;
use crate::ids::VolumeNr;
use crate::net::link::{Handshake, HandshakeStep};
use crate::net::refusal::{Ending, Refusal, ending};
use crate::router::Resource;
use crate::state::ConnState;

impl<P: Payload> Resource<P> {
    fn authentication(&self) -> Option<&Authentication> {
        self.net.options.as_ref()?.authentication.as_ref()
    }

    /// Sends our challenge if the peer is to prove itself; says whether it is.
    pub(super) fn begin_authentication(&mut self) -> bool {
        if self.authentication().is_none() {
            return false;
        }
        let Some(handshake) = self.net.link.handshake() else {
            return false;
        };
        let challenge = handshake.begin_challenge().to_vec();
        self.send(VolumeNr(0), Packet::AuthChallenge(challenge), None);
        true
    }

    pub(super) fn on_challenge(&mut self, challenge: Vec<u8>) {
        if challenge.len() < 64 {
            self.authentication_failed("its challenge is too short");
            return;
        }
        let Some(handshake) = self.net.link.handshake() else {
            return;
        };
        if challenge[..64] == *handshake.challenge() {
            self.on_challenge_reflected();
            return;
        }
        if handshake.take_challenge(challenge) {
            self.answer_challenge();
        }
    }

    /// The peer asks for a proof that nobody here can give, as no secret is configured; if so, the connection ends.
    pub(in crate::router) fn lacks_secret_for(&mut self, packet: &Packet) -> bool {
        let is_asked = matches!(packet, Packet::AuthChallenge(_)) && !self.net.link.is_greeted();
        let lacks = is_asked && self.authentication().is_none();
        if lacks {
            let text =
                "the peer asks for a shared secret (cram-hmac-alg), and none is configured here";
            self.refuse(Refusal::Authentication, text);
        }
        lacks
    }

    /// The peer sent a challenge of our own.
    pub(in crate::router) fn on_challenge_reflected(&mut self) {
        if matches!(
            self.net.link.step(),
            Some(HandshakeStep::Challenge | HandshakeStep::Response)
        ) {
            self.authentication_failed(
                "it sent a challenge of our own, as one does who does not know the secret",
            );
        }
    }

    fn answer_challenge(&mut self) {
        let Some(handshake) = self.net.link.handshake() else {
            return;
        };
        let challenge = handshake.answer_challenge();
        let Some(auth) = self.authentication() else {
            return;
        };
        let response = auth.algorithm.respond(auth.secret.as_bytes(), &challenge);
        self.send(VolumeNr(0), Packet::AuthResponse(response), None);
    }

    pub(super) fn on_response(&mut self, response: &[u8]) {
        let Some(challenge) = self.net.link.handshake().map(|h| *h.challenge()) else {
            return;
        };
        let Some(auth) = self.authentication() else {
            return;
        };
        let algorithm = auth.algorithm;
        if !algorithm.verify(auth.secret.as_bytes(), &challenge, response) {
            self.authentication_failed("its answer to our challenge is wrong");
            return;
        }
        if self.net.link.handshake().is_some_and(Handshake::prove) {
            self.answer_challenge();
        }
        let text = format!("Peer authenticated using {} HMAC", algorithm.name());
        self.log(Level::Info, text);
        self.send_parameters();
    }

    pub(super) fn authentication_failed(&mut self, why: impl Into<String>) {
        let text = format!("Authentication of peer failed: {}", why.into());
        self.refuse(Refusal::Authentication, text);
    }

    /// Ends the connection to a peer that cannot be worked with, for good or until the next attempt, and says why.
    pub(in crate::router) fn refuse(&mut self, refusal: Refusal, text: impl Into<String>) {
        let text = text.into();
        self.trouble(refusal.trouble(), text.clone());
        self.log(Level::Error, text);
        self.end_refused(refusal);
    }

    /// The same, for a reason that is a volume's.
    pub(in crate::router) fn refuse_volume(
        &mut self,
        refusal: Refusal,
        nr: VolumeNr,
        text: impl Into<String>,
    ) {
        let text = text.into();
        self.trouble(refusal.trouble(), text.clone());
        self.log_volume(Level::Error, nr, text);
        self.end_refused(refusal);
    }

    pub(super) fn end_refused(&mut self, refusal: Refusal) {
        match ending(refusal, self.net.link.is_proven()) {
            Ending::StandAlone => {
                self.log(Level::Error, "Discarding network configuration.");
                self.go_standalone();
            }
            Ending::Retry => {
                self.net.meetings.refuse();
                self.lose_connection(ConnState::NetworkFailure);
            }
        }
    }
}
