//! Is the peer alive? Pings, and sends that do not get through (`docs/spec/wire.md`, section 12).

use alloc::format;

use replica_proto::{Packet, Socket};

use crate::admin::Stage;
use crate::effect::{Cause, Level};
use crate::event::{ConnTimer, Payload};
use crate::ids::{Time, VolumeNr};
use crate::net::pings::{Due, PingWaiter};
use crate::router::Resource;
use crate::rules::expulsion;
use crate::state::{ConnState, Role};

/// After how long blocks are looked at again that are late and keep nobody waiting, in milliseconds.
const RECHECK_MS: u64 = 1000;

impl<P: Payload> Resource<P> {
    /// Sends a ping now; `waiter` is told when it is answered.
    pub(in crate::router) fn ping(&mut self, waiter: Option<PingWaiter>) {
        let first = self.net.pings.send(waiter, self.now);
        self.send(VolumeNr(0), Packet::Ping, None);
        if first {
            let at = self.now.plus_ms(self.net.ping_timeout_ms());
            self.set_conn_timer(ConnTimer::Keepalive, at);
        }
    }

    pub(in crate::router) fn on_ping_ack(&mut self) {
        let Some(due) = self.net.pings.answer() else {
            self.protocol_error("P_PING_ACK without a ping: no right peer sends that");
            return;
        };
        if self.net.pings.are_answered() {
            let at = self.now.plus_ms(self.net.ping_interval_ms());
            self.set_conn_timer(ConnTimer::Keepalive, at);
        }
        for waiter in due {
            match waiter {
                PingWaiter::Admin => self.admin.ready(Stage::Ping),
                PingWaiter::ResyncSource(nr) => self.source_acks_seen(nr),
                PingWaiter::ResyncTarget(nr) => self.target_acks_arrived(nr),
                PingWaiter::Verify(nr) => self.verify_finish(nr),
                PingWaiter::LossUnrecorded(nr) => self.peer_keeps_its_generation(nr),
                PingWaiter::Negotiation(nr) => self.peer_ignores_the_attach(nr),
            }
        }
    }

    pub(in crate::router) fn on_keepalive_timer(&mut self) {
        if !self.is_up() {
            return;
        }
        let (interval, limit) = (self.net.ping_interval_ms(), self.net.ping_timeout_ms());
        match self.net.pings.due(self.now, interval, limit) {
            Due::Dead => {
                self.log(Level::Error, "PingAck did not arrive in time.");
                self.lose_connection(ConnState::NetworkFailure);
            }
            Due::Ping => self.ping(None),
            Due::At(at) => self.set_conn_timer(ConnTimer::Keepalive, at),
        }
    }

    /// A block of a resync or verify waits for the peer from now on.
    ///
    /// Nothing that the peer does later moves the timer: one that always has blocks open, each for a moment, and keeps the
    /// connection busy otherwise is found out all the same.
    pub(in crate::router) fn watch_blocks(&mut self) {
        let limit = self.net.request_limit_ms();
        if limit > 0 && self.net.patience.begin_to_watch_blocks() {
            let at = self.now.plus_ms(limit);
            self.set_conn_timer(ConnTimer::BlockTimeout, at);
        }
    }

    /// Whether users may have to wait for a block that the peer has left unanswered as long as it may leave a write.
    pub(in crate::router) fn on_block_timer(&mut self) {
        self.net.patience.blocks_timer_expired();
        let limit = self.net.request_limit_ms();
        if limit == 0 || !self.is_up() {
            return;
        }
        let now = self.now;
        let mut next = None;
        let mut late = None;
        for volume in self.volumes.iter() {
            let Some(since) = volume.peer.oldest_awaited() else {
                continue;
            };
            // (Who is not Primary now may be soon.)
            let mut at = since.plus_ms(limit);
            if at <= now && volume.state.role == Role::Primary {
                late = late.or(Some(volume.nr));
            }
            at = at.max(now.plus_ms(RECHECK_MS));
            next = Some(next.map_or(at, |next: Time| next.min(at)));
        }
        if let Some(nr) = late {
            if self.is_peer_needed() {
                self.log_waiting_for_peer();
                next = Some(now.plus_ms(limit));
            } else {
                let text = format!(
                    "the peer has not answered for a block of a resync or verify within {limit} ms (ko-count * timeout), and our users' requests wait for it"
                );
                self.log_volume(Level::Warn, nr, text);
                self.lose_connection(ConnState::Timeout);
                return;
            }
        }
        if let Some(at) = next {
            self.net.patience.begin_to_watch_blocks();
            self.set_conn_timer(ConnTimer::BlockTimeout, at);
        }
    }

    /// Whether the peer is not left for being slow.
    pub(in crate::router) fn is_peer_needed(&self) -> bool {
        expulsion::is_needed(self.volumes.iter().map(|v| v.state))
    }

    pub(in crate::router) fn log_waiting_for_peer(&mut self) {
        let text = "the peer takes long, and has the only good copy: waiting for it";
        self.log_line(Level::Warn, None, text.into(), Cause::Others);
    }

    /// A socket took nothing for a whole timeout.
    pub(in crate::router) fn on_send_stalled(&mut self, socket: Socket) {
        if !self.is_up() {
            return;
        }
        if socket == Socket::Meta {
            self.log(Level::Error, "meta connection: send timed out");
            self.lose_connection(ConnState::Timeout);
            return;
        }
        if self.net.option(|o| o.ko_count, 7) == 0 {
            self.ping(None);
            return;
        }
        let left = self.net.patience.stall();
        self.log(
            Level::Error,
            format!("sock_sendmsg time expired, ko = {left}"),
        );
        if left == 0 && self.is_peer_needed() {
            self.net.patience.bear();
            self.log_waiting_for_peer();
            self.ping(None);
        } else if left == 0 {
            self.lose_connection(ConnState::Timeout);
        } else {
            self.ping(None);
        }
    }
}
