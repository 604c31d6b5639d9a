//! The resource: what it consists of, how an event gets to the function that handles it, and what is looked at after each event.

mod admin;
mod admission;
mod after;
mod answers;
mod bitmap_exchange;
mod bounds;
mod changes;
mod completion;
mod connection;
mod disk;
mod fencing;
mod freeze;
mod handling;
mod handshake;
mod negotiation;
mod net;
mod packets;
mod peer_device;
mod peer_request;
mod peer_volumes;
mod read;
mod report;
mod resync;
mod serve_reads;
mod snapshot;
mod transfer_log;
mod trouble;
mod verify;
mod volume;
mod volumes;
mod write;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use replica_proto::{BlockId, Packet};
use slab::Slab;

use crate::admin::{Admin, Stage};
use crate::config::ResourceOptions;
use crate::disk::Disk;
use crate::disk::io::InFlight;
use crate::effect::{Cause, ConnEffect, Effect, Level};
use crate::event::{ConnEvent, ConnTimer, Event, Payload, Timer};
use crate::follow::Follow;
use crate::handling::Handling;
use crate::ids::{ConnId, RequestKey, SendTag, Time, VolumeNr};
use crate::peer_request::PeerWrite;
use crate::planted::{Bug, Planted};
use crate::router::connection::Connection;
use crate::router::volume::Volume;
use crate::router::volumes::Volumes;
use crate::snapshot::Snapshots;
use crate::write::{AppRequest, key_of};

/// Every decision of one resource, and no I/O.
///
/// The driver promises: `now` never goes back; the effects of one event are started in order before the next event;
/// an effect that carries a tag is answered by exactly one event with that tag.
///
/// Invariants ([`Resource::check`], run after every event in tests and simulation):
/// - a write is submitted only while its extent is hot *on disk*;
/// - an out-of-sync bit is cleared only once both copies of the block are known to be written (at a mirror once its own is: for the
///   writer's there are the writer's marks, its transfer log or its activity log);
/// - an epoch leaves the transfer log when its barrier is acked, or, marked out of sync, when the peer is lost;
/// - a front-end request is completed exactly once, and not as done while the consequences of a state change wait.
pub struct Resource<P> {
    name: String,
    random: Box<dyn FnMut() -> u64 + Send>,
    now: Time,
    /// Who has brought about what is being handled.
    cause: Cause,
    /// The same for the log: whether an administrator has, who does not repeat it without end.
    log_cause: Cause,
    /// The first error that was logged in this event, else the first warning.
    said: Option<(Level, String)>,
    fx: Vec<Effect<P>>,
    volumes: Volumes<P>,
    net: Connection<P>,
    admin: Admin,
    /// `options` of the configuration.
    options: ResourceOptions,
    /// Handlers that run.
    handling: Handling,
    /// Snapshots of both nodes.
    snapshots: Snapshots,
    io: InFlight,
    /// Application requests.
    requests: Slab<AppRequest<P>>,
    /// Makes block ids of requests unique over the reuse of slab keys.
    request_generation: u32,
    /// Mirrored writes.
    peer_writes: Slab<PeerWrite<P>>,
    /// What is still to follow from what has happened.
    after: VecDeque<Follow>,
    /// Packets and requests that were refused as what no right peer sends.
    refused: u64,
    planted: Planted,
}

impl<P: Payload> Resource<P> {
    /// A resource without volumes and without a connection. `random` gives the bits of new generation identifiers.
    pub fn new(name: &str, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Resource {
            name: name.to_string(),
            random,
            now: Time(0),
            cause: Cause::Own,
            log_cause: Cause::Own,
            said: None,
            fx: Vec::new(),
            volumes: Volumes::new(),
            net: Connection::new(ConnId::FIRST),
            admin: Admin::default(),
            options: ResourceOptions::default(),
            handling: Handling::default(),
            snapshots: Snapshots::default(),
            io: InFlight::default(),
            requests: Slab::new(),
            request_generation: 1,
            peer_writes: Slab::new(),
            after: VecDeque::new(),
            refused: 0,
            planted: Planted::default(),
        }
    }

    /// How often a peer sent what no right peer sends. Two right engines never count anything here.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The resource's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Handles one event and appends what follows from it to `effects`.
    pub fn handle(&mut self, now: Time, event: Event<P>, effects: &mut Vec<Effect<P>>) {
        debug_assert!(now >= self.now, "time went back");
        self.now = now;
        self.cause = cause_of(&event);
        self.log_cause = log_cause_of(&event);
        self.said = None;
        core::mem::swap(&mut self.fx, effects);
        match event {
            Event::Request(request) => self.on_request(request),
            Event::DiskDone { tag, result } => self.on_disk_done(tag, result),
            Event::MetaDone { tag, result } => self.on_meta_done(tag, result),
            Event::NoSpace { tag, error } => self.on_no_space(tag, error),
            Event::Connection(of, event) => self.on_connection_event(of, event),
            Event::Timer(timer) => self.on_timer(timer),
            Event::Admin { id, command } => self.on_admin(id, command),
            Event::HandlerDone { id, exit } => self.on_handler_done(id, exit),
            Event::Withdraw { id } => self.on_withdraw(id),
        }
        self.check_deferred();
        self.settle();
        core::mem::swap(&mut self.fx, effects);
    }

    fn on_connection_event(&mut self, of: ConnId, event: ConnEvent<P>) {
        if !self.is_known(of) {
            return;
        }
        match event {
            ConnEvent::Paired {
                resolve_conflicts,
                called,
                challenge,
            } => self.on_paired(resolve_conflicts, called, challenge),
            ConnEvent::ChallengeReflected => self.on_challenge_reflected(),
            ConnEvent::PairingHindered(hindrance) => self.on_pairing_hindered(hindrance),
            ConnEvent::Received {
                volume,
                packet,
                digest,
                payload,
            } => {
                let nr = VolumeNr(volume);
                self.on_received(nr, packet, digest, payload);
            }
            ConnEvent::Lost { socket, cause } => self.on_connection_lost(socket, cause),
            ConnEvent::Sent { tag } => self.on_sent(tag),
            ConnEvent::SendStalled { socket } => self.on_send_stalled(socket),
        }
    }

    /// Whether there is such a connection; the driver, which has been given its id, makes a mistake otherwise.
    fn is_known(&self, id: ConnId) -> bool {
        let known = id == self.net.session.of();
        debug_assert!(known, "there is no connection {}", id.0);
        known
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Connection(of, timer) => self.on_conn_timer(of, timer),
            Timer::MetadataSync(nr) => self.on_metadata_timer(nr),
            Timer::Admin => self.admin.ready(Stage::Pause),
            Timer::NoSpace(nr) => self.on_space_timer(nr),
            Timer::DiskTimeout(nr) => self.on_disk_timer(nr),
            Timer::Snapshot => self.on_snapshot_timer(),
        }
    }

    fn on_conn_timer(&mut self, of: ConnId, timer: ConnTimer) {
        if !self.is_known(of) {
            return;
        }
        match timer {
            ConnTimer::Reconnect => self.on_reconnect_timer(),
            ConnTimer::Handshake => self.on_handshake_timer(),
            ConnTimer::Keepalive => self.on_keepalive_timer(),
            ConnTimer::RequestTimeout => self.on_request_timer(),
            ConnTimer::BlockTimeout => self.on_block_timer(),
            ConnTimer::Barrier => self.on_barrier_timer(),
            ConnTimer::EpochFlush => self.on_epoch_flush_timer(),
            ConnTimer::ResyncStep(nr) => self.on_resync_timer(nr),
            ConnTimer::LossUnrecorded(nr) => self.on_loss_timer(nr),
            ConnTimer::Negotiation(nr) => self.on_negotiation_timer(nr),
            ConnTimer::SyncUuid(nr) => self.on_sync_uuid_timer(nr),
        }
    }

    /// Lets everything follow that follows from what has happened.
    fn settle(&mut self) {
        loop {
            self.run_after();
            self.poll_held_snapshot();
            let mut more = self.poll_net();
            more |= self.poll_thaw();
            more |= self.poll_admin();
            let mut next = self.volumes.next_nr(None);
            while let Some(nr) = next {
                next = self.volumes.next_nr(Some(nr));
                self.run_after(); // the peer hears what has become of a disk before it is sent what waited
                self.poll_bitmap_due(nr);
                more |= self.poll_wanted_as_target(nr);
                self.poll_source_end(nr);
                more |= self.poll_attach(nr);
                self.run_after(); // marks that go are written before the superblock that takes their name away
                self.md_sync_if_dirty(nr);
            }
            // (A volume that comes later may have changed what is known of an earlier one, as by leaving the connection.)
            let unrecorded = |v: &Volume<P>| v.disk.is_record_unqueued();
            if !more && self.after.is_empty() && !self.volumes.iter().any(unrecorded) {
                return;
            }
        }
    }

    fn emit(&mut self, effect: Effect<P>) {
        self.fx.push(effect);
    }

    /// For the connection.
    fn emit_conn(&mut self, effect: ConnEffect<P>) {
        self.emit(Effect::Connection(self.net.session.of(), effect));
    }

    fn set_timer(&mut self, timer: Timer, at: Time) {
        self.emit(Effect::SetTimer { timer, at });
    }

    fn clear_timer(&mut self, timer: Timer) {
        self.emit(Effect::ClearTimer { timer });
    }

    fn set_conn_timer(&mut self, timer: ConnTimer, at: Time) {
        self.set_timer(Timer::Connection(self.net.session.of(), timer), at);
    }

    fn clear_conn_timer(&mut self, timer: ConnTimer) {
        self.clear_timer(Timer::Connection(self.net.session.of(), timer));
    }

    /// Whether what is being handled is what somebody else did, who may repeat it.
    fn is_others_doing(&self) -> bool {
        self.cause == Cause::Others
    }

    /// Makes this mistake from now on.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: Bug) {
        self.planted = Planted::only(bug);
    }

    fn planted(&self, bug: Bug) -> bool {
        self.planted.has(bug)
    }

    fn random(&mut self) -> u64 {
        (self.random)()
    }

    /// The volume, which the caller knows to exist.
    fn volume(&self, nr: VolumeNr) -> &Volume<P> {
        self.volumes
            .get(nr)
            .expect("the caller has looked the volume up")
    }

    /// The volume, which the caller knows to exist.
    fn volume_mut(&mut self, nr: VolumeNr) -> &mut Volume<P> {
        self.volumes
            .get_mut(nr)
            .expect("the caller has looked the volume up")
    }

    /// The volume's disk, which the caller knows to be attached.
    fn disk_mut(&mut self, nr: VolumeNr) -> &mut Disk {
        self.volume_mut(nr)
            .disk
            .get_mut()
            .expect("the caller has seen the disk")
    }

    /// The volume's disk, if it is attached.
    fn disk_if_attached(&self, nr: VolumeNr) -> Option<&Disk> {
        self.volumes.get(nr)?.disk.get()
    }

    fn volume_numbers(&self) -> Vec<VolumeNr> {
        self.volumes.iter().map(|v| v.nr).collect()
    }

    fn send(&mut self, volume: VolumeNr, packet: Packet, payload: Option<P>) {
        self.send_notify(volume, packet, payload, None);
    }

    fn log(&mut self, level: Level, text: impl Into<String>) {
        self.log_line(level, None, text.into(), self.log_cause);
    }

    fn log_volume(&mut self, level: Level, nr: VolumeNr, text: impl Into<String>) {
        self.log_line(level, Some(nr), text.into(), self.log_cause);
    }

    /// As [`Resource::log_volume`], of what may come again and again: many of a kind may be summed up.
    fn log_often(&mut self, level: Level, nr: VolumeNr, text: impl Into<String>) {
        self.log_line(level, Some(nr), text.into(), Cause::Others);
    }

    fn log_line(&mut self, level: Level, volume: Option<VolumeNr>, text: String, cause: Cause) {
        let louder = match self.said {
            None => level != Level::Info,
            Some((said, _)) => said == Level::Warn && level == Level::Error,
        };
        if louder {
            self.said = Some((level, text.clone()));
        }
        self.emit(Effect::Log {
            level,
            volume,
            text,
            cause,
        });
    }

    fn log_volume_error(&mut self, nr: VolumeNr, text: impl Into<String>) {
        self.log_volume(Level::Error, nr, text);
    }

    /// The key of a request from the block id we gave it, if it is still the same request.
    fn request_of(&self, block_id: BlockId) -> Option<RequestKey> {
        let key = key_of(block_id)?;
        let request = self.requests.get(key)?;
        (request.block_id(key) == block_id).then_some(key)
    }

    fn on_sent(&mut self, tag: SendTag) {
        match tag.0 {
            BITMAP_SENT => self.bitmap_chunk_sent(),
            value => {
                if let Some(key) = self.request_of(BlockId::from_u64(value)) {
                    self.on_handed_to_tcp(key);
                }
            }
        }
    }
}

/// Whether it is the doing of others, who may repeat it.
fn cause_of<P>(event: &Event<P>) -> Cause {
    match event {
        Event::Connection(_, ConnEvent::PairingHindered(_) | ConnEvent::Sent { .. }) => Cause::Own,
        Event::Connection(..) => Cause::Others,
        Event::Request(_)
        | Event::DiskDone { .. }
        | Event::MetaDone { .. }
        | Event::NoSpace { .. }
        | Event::Timer(_)
        | Event::Admin { .. }
        | Event::HandlerDone { .. }
        | Event::Withdraw { .. } => Cause::Own,
    }
}

/// Whose doing a line of the log counts as. A peer can bring about what this node's own disk and timers end, as a state that
/// changes to and fro; users and failing disks can repeat theirs, too. Only an administrator's commands are always told.
fn log_cause_of<P>(event: &Event<P>) -> Cause {
    match event {
        Event::Admin { .. } | Event::Withdraw { .. } => Cause::Own,
        _ => Cause::Others,
    }
}

/// The send tag of bitmap chunks; requests' tags are their block ids, which are never all ones.
const BITMAP_SENT: u64 = u64::MAX;
