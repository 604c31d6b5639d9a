//! The end of a connection, and the way to the next (`docs/spec/behaviour.md`, sections 7.6 and 7.7).

use alloc::format;
use alloc::string::String;

use replica_proto::Socket;

use crate::effect::{ConnEffect, Level};
use crate::event::{ConnTimer, LossCause, Payload};
use crate::net::link::HandshakeStep;
use crate::net::refusal::Refusal;
use crate::router::Resource;
use crate::state::{Change, ConnState};

impl<P: Payload> Resource<P> {
    pub(in crate::router) fn on_connection_lost(&mut self, socket: Socket, cause: LossCause) {
        if !self.net.link.has_sockets() {
            return;
        }
        if self.net.link.is_leaving() && matches!(cause, LossCause::Closed { .. }) {
            // The peer agreed to part, and was quicker to close than its answer to arrive (7.5).
            self.part_unanswered();
            return;
        }
        match (socket, cause) {
            (Socket::Data, LossCause::Closed { error }) => {
                let how = if error == 0 {
                    "closed by the peer"
                } else {
                    "failed"
                };
                let text = format!("sock was {how} (errno {error})");
                self.log(Level::Info, text);
                self.lose_connection(ConnState::BrokenPipe);
            }
            (Socket::Meta, LossCause::Closed { error }) => {
                if !self.net.link.is_leaving() {
                    let how = if error == 0 {
                        "closed by the peer"
                    } else {
                        "failed"
                    };
                    self.log(
                        Level::Info,
                        format!("meta connection {how} (errno {error})"),
                    );
                }
                self.lose_connection(ConnState::NetworkFailure);
            }
            (
                socket,
                LossCause::BadPacket {
                    error,
                    unknown_command,
                },
            ) => {
                let name = if socket == Socket::Data {
                    "data"
                } else {
                    "meta"
                };
                self.log(
                    Level::Error,
                    format!("bad packet on the {name} connection: {error}"),
                );
                if socket == Socket::Meta && unknown_command {
                    self.end_refused(Refusal::UnknownPacket);
                } else if self.net.link.step() == Some(HandshakeStep::Features) {
                    self.end_refused(Refusal::Dialect); // what is no feature packet comes from no DRBD
                } else {
                    let state = if socket == Socket::Data {
                        ConnState::ProtocolError
                    } else {
                        ConnState::NetworkFailure
                    };
                    self.lose_connection(state);
                }
            }
        }
    }

    /// A peer's packet broke a rule, which no right peer does: the connection ends and is tried again.
    pub(in crate::router) fn protocol_error(&mut self, text: impl Into<String>) {
        self.refused += 1;
        self.log(Level::Error, text);
        self.lose_connection(ConnState::ProtocolError);
    }

    /// Refused for good: no further attempt until the administrator connects again.
    pub(in crate::router) fn go_standalone(&mut self) {
        let change = Change::conn(ConnState::Disconnecting);
        if self.net.cstate != ConnState::Disconnecting
            && let Err(error) = self.change_connection(change, true)
        {
            self.log(Level::Error, format!("cannot disconnect: {error}"));
        }
        self.close_connection();
    }

    /// The connection broke: `teardown` says how. It will be tried again.
    pub(in crate::router) fn lose_connection(&mut self, teardown: ConnState) {
        self.trouble_of_loss(teardown);
        if self.net.cstate > ConnState::TearDown {
            let _ = self.change_connection(Change::conn(teardown), true);
        }
        self.close_connection();
    }

    /// Both sockets go; what was on its way is settled (`docs/spec/behaviour.md`, section 7.7).
    fn close_connection(&mut self) {
        if self.net.link.is_down() || self.net.link.is_draining() {
            self.net.link.drain();
            return;
        }
        self.doubt_targets();
        // The new data generation, if one is due, is under way before any write completes as not replicated.
        self.run_after();
        self.net.link.drain();
        self.net.session = self.net.session.next();
        self.net.outdating.end();
        self.net.told_of.clear();
        self.net.peer_settings = None;
        self.net.bitmap_in = None;
        self.net.bitmap_out = None;
        self.net.deferred.take();
        self.net.pings.end();
        self.emit_conn(ConnEffect::Close);
        self.net.patience.end();
        for timer in [
            ConnTimer::Handshake,
            ConnTimer::Keepalive,
            ConnTimer::RequestTimeout,
            ConnTimer::BlockTimeout,
        ] {
            self.clear_conn_timer(timer);
        }
        for nr in self.volume_numbers() {
            let volume = self.volume_mut(nr);
            volume.peer.connection_ended(&mut volume.held);
            self.clear_conn_timer(ConnTimer::ResyncStep(nr));
        }
        if self.awaits_the_peer() {
            self.freeze_transfer_log();
        } else {
            self.settle_transfer_log();
        }
        for nr in self.volume_numbers() {
            self.md(
                nr,
                crate::disk::MdKind::ChangedPages,
                crate::disk::Then::Nothing,
            );
            self.retry_blocked(nr);
        }
        self.admin.connection_lost(self.net.session);
        self.fence_lost_peer();
    }

    /// Whether the sockets are closed and something that came over them is unfinished.
    pub(in crate::router) fn is_draining(&self) -> bool {
        self.net.link.is_draining() && !self.peer_writes.is_empty()
    }

    /// Goes on once nothing that the lost peer sent is unfinished. Says whether something happened.
    pub(in crate::router) fn poll_net(&mut self) -> bool {
        if !self.net.link.is_draining() || !self.peer_writes.is_empty() {
            return false;
        }
        let for_good = self.net.cstate == ConnState::Disconnecting || self.net.options.is_none();
        let unrecorded = |nr| self.volume(nr).has_pending_record();
        if !for_good && self.volume_numbers().into_iter().any(unrecorded) {
            // (L7) A resync that begins under a generation that we told of and then forget, three times over, would take the
            // last one that both know from the peer's history.
            return false;
        }
        self.net.link.go_down();
        self.log(Level::Info, "Connection closed");
        if for_good {
            self.finish_standalone();
            return true;
        }
        if self
            .change_connection(Change::conn(ConnState::Unconnected), true)
            .is_err()
        {
            return true;
        }
        let connect_int = self.net.option(|o| o.connect_int_s, 10);
        if let Some((pause, refused)) = self.net.meetings.pause(self.now, connect_int) {
            if refused {
                let text = format!(
                    "Connecting again in {}.{} seconds",
                    pause / 1000,
                    pause % 1000 / 100
                );
                self.log(Level::Info, text);
            }
            let at = self.now.plus_ms(pause);
            self.set_conn_timer(ConnTimer::Reconnect, at);
        } else {
            self.open_connection();
        }
        true
    }

    pub(in crate::router) fn on_reconnect_timer(&mut self) {
        if self.net.cstate == ConnState::Unconnected && self.net.link.is_down() {
            self.open_connection();
        }
    }

    /// Disconnecting → StandAlone: the configuration is forgotten.
    fn finish_standalone(&mut self) {
        self.clear_conn_timer(ConnTimer::Reconnect);
        let _ = self.change_connection(Change::conn(ConnState::StandAlone), true);
        self.net.options = None;
        self.net.attempt.end();
    }

    /// Whether ordinary traffic is possible.
    pub(in crate::router) fn is_up(&self) -> bool {
        self.net.link.is_up()
    }
}
