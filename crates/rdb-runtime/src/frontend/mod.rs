//! The front ends of a resource: the NBD socket and device nodes, whose requests go to the engine.
//!
//! Requests are taken in turns ([`Turn`]): the event loop asks for the next event of one, raises it, and asks again. So the
//! engine has dealt with a request before the next one is looked at.

mod fuse;
mod handover;
mod knbd;
pub(crate) mod message;
mod nbd;
mod nbd_socket;
mod node;
mod nodes;
pub(crate) mod request;
mod ublk;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rdb_engine::state::VolumeState;
use rdb_engine::{DeviceSpec, Event, Level, RequestError, VolumeNr};
use rdb_frontend::ublk::Tag;
use rdb_frontend::{Errno, Op};

use self::message::NodeReport;
use self::nbd::{Nbd, Pumped};
use self::nodes::{Nodes, Told, Wanted};
use self::request::{Asked, Ended, FrontRequest, Going, Queue, Requests, Turn, Who};
use self::ublk::TagEnd;
use crate::api::{Caller, DeviceUse, Notice, ResourceConfig, UseReply};
use crate::ids::{ClientId, NodeId};
use crate::io::Io;
use crate::pool::{Buf, Reserve};
use crate::stream::Flight;

/// All front ends of a resource.
pub(crate) struct FrontEnds {
    nbd: Nbd,
    nodes: Nodes,
    requests: Requests,
    queue: Queue,
    /// The devices that the engine has, and volumes that have had one.
    volumes: BTreeMap<VolumeNr, Option<Wanted>>,
    /// Long discards whose parts have ended.
    parts: VecDeque<usize>,
    /// Volumes whose NBD clients are let go, whatever they do.
    let_go: Vec<VolumeNr>,
    /// Demotions that wait until the last request of a parked session is answered.
    draining: Vec<(VolumeNr, Caller)>,
}

/// Those whose turns are due without anything having come from them.
#[derive(Clone, Copy)]
pub(crate) enum Due {
    /// Long discards.
    Parts,
    /// Clients of the NBD socket.
    Clients,
}

impl FrontEnds {
    pub(crate) fn new(config: &ResourceConfig) -> FrontEnds {
        FrontEnds {
            nbd: Nbd::new(&config.name),
            nodes: Nodes::new(),
            requests: Requests::new(),
            queue: Queue::default(),
            volumes: BTreeMap::new(),
            parts: VecDeque::new(),
            let_go: Vec::new(),
            draining: Vec::new(),
        }
    }

    /// Whether a volume's device waits for the next process.
    pub(crate) fn is_parked(&self, nr: VolumeNr) -> bool {
        self.nodes.is_parked(nr)
    }

    /// Whether device nodes are still being given back.
    pub(crate) fn is_winding_down(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// Whether an NBD client uses a volume, and is to keep it.
    pub(crate) fn has_clients(&self, nr: VolumeNr) -> bool {
        self.nbd.users(nr) > 0 && !self.let_go.contains(&nr)
    }

    /// The engine has a device, has changed it, or has it no more. `minor`: the number that its node is to have.
    pub(crate) fn on_device(
        &mut self,
        io: &mut Io,
        nr: VolumeNr,
        device: Option<DeviceSpec>,
        minor: u32,
    ) {
        let wanted = device.map(|spec| Wanted { spec, minor });
        let old = self.volumes.insert(nr, wanted).flatten();
        match wanted {
            Some(wanted) => {
                let stopping = self.nodes.stopping;
                self.nbd.device_up(io, nr, wanted.spec, stopping);
                self.nodes.up(io, nr, wanted);
            }
            None if old.is_some() => {
                self.nbd.device_down(io, nr);
                if !self.nodes.down(io, nr) {
                    io.notify(Notice::DeviceDown { volume: nr });
                }
            }
            None => {}
        }
    }

    /// Gives all devices back, but those that are parked.
    pub(crate) fn stop(&mut self, io: &mut Io) {
        self.nodes.stopping = true;
        let volumes: Vec<VolumeNr> = self.volumes.keys().copied().collect();
        for nr in volumes {
            self.on_device(io, nr, None, 0);
        }
        let requests = &self.requests;
        self.nodes
            .leave_parked(io, |nr| !requests.askers().any(|who| is_fuse(who, nr)));
    }

    /// Parks the devices of these volumes that can outlive this process. NBD clients are let go once they are answered, and
    /// are no reason to refuse a demotion.
    pub(crate) fn park(&mut self, io: &mut Io, volumes: &[VolumeNr]) {
        for &nr in volumes {
            if self.volumes.get(&nr).is_some_and(Option::is_some) {
                self.nbd.device_down(io, nr);
                self.let_go.push(nr);
            }
            let told = self.nodes.park(nr);
            self.follow(io, nr, told);
        }
    }

    /// Takes what a helper thread reports of a node.
    pub(crate) fn on_node_report(&mut self, io: &mut Io, report: NodeReport) {
        let nr = report.id().volume;
        let wanted = self.volumes.get(&nr).copied().flatten();
        let told = self.nodes.on_report(io, report, wanted);
        self.follow(io, nr, told);
    }

    fn follow(&mut self, io: &mut Io, nr: VolumeNr, told: Told) {
        match told {
            Told::Nothing => {}
            Told::Serve(socket) => self.nbd.add_kernel(io, nr, socket),
            Told::Forget(starved) => self.queue.leave(starved),
            Told::LetKernelGo => self.nbd.close_kernel(nr),
            Told::ParkKernel => self.nbd.park_kernel(&mut self.queue, nr),
        }
    }

    /// Serves the kernel's end of a connection without the driver and its device.
    #[cfg(test)]
    pub(crate) fn serve_kernel(&mut self, io: &mut Io, nr: VolumeNr, socket: OwnedFd) {
        self.nbd.add_kernel(io, nr, socket);
    }

    /// A disk was attached, with this current generation identifier and these flags in its metadata.
    pub(crate) fn judge_left_device(&mut self, io: &Io, nr: VolumeNr, data: Option<(u64, u32)>) {
        self.nodes.left.judge(io, nr, data);
    }

    /// A volume has another state, by which a device that was left may have lost its future.
    pub(crate) fn watch_left_device(&mut self, io: &Io, nr: VolumeNr, new: &VolumeState) {
        self.nodes.left.watch(io, nr, new);
    }

    /// Says that a left device was removed.
    pub(crate) fn on_left_dropped(&self, io: &Io, volume: VolumeNr) {
        let text =
            "removed the device that an earlier process left: its users know an older content";
        io.log(Level::Warn, Some(volume), text);
    }

    /// Tells who uses the devices.
    pub(crate) fn report_use(&self, io: &Io, reply: UseReply) {
        let looks: Vec<_> = self
            .volumes
            .keys()
            .map(|&nr| {
                self.nodes.look(DeviceUse {
                    volume: nr,
                    clients: self.nbd.users(nr),
                    is_held: false,
                    outlives: false,
                    can_be_handed_over: false,
                })
            })
            .collect();
        io.help_or_not("rdb-holders", move |thread, _| match thread {
            Ok(()) => reply(looks.into_iter().map(|look| look(true)).collect()),
            Err(no_thread) => {
                tracing::error!("who uses the devices is not known: {no_thread}");
                reply(looks.into_iter().map(|look| look(false)).collect());
            }
        });
    }

    /// Finds out whether somebody uses the device node, then goes on with the demotion; the reply comes back if there is none to
    /// ask about.
    pub(crate) fn ask_who_holds(&self, io: &Io, nr: VolumeNr, reply: Caller) -> Option<Caller> {
        self.nodes.ask_who_holds(io, nr, reply)
    }

    /// Has the demotion of a volume whose device is parked wait until its last request is answered.
    pub(crate) fn drain(&mut self, nr: VolumeNr, reply: Caller) {
        self.draining.push((nr, reply));
    }

    /// A demotion to go on with, for all that was read of the volume's session is answered.
    pub(crate) fn next_drained(&mut self) -> Option<(VolumeNr, Caller)> {
        let is_drained = |nr| {
            let is_open = self.requests.askers().any(|who| is_fuse(who, nr));
            !is_open && !self.nodes.fuse.has_unread(nr)
        };
        let mut waiting = self.draining.iter();
        let index = waiting.position(|&(nr, _)| is_drained(nr))?;
        Some(self.draining.remove(index))
    }

    pub(crate) fn on_client_accepted(&mut self, io: &mut Io, generation: u32, result: i32) {
        self.nbd.on_accepted(io, generation, result);
    }

    /// Cuts clients of the NBD socket that are overdue. `reads_wait`: for buffers.
    pub(crate) fn on_clients_timer(&mut self, io: &mut Io, reads_wait: bool) {
        let shortage = reads_wait || !self.queue.is_empty();
        self.nbd.on_timer(io, shortage);
    }

    /// Makes the NBD socket anew if its file was removed.
    pub(crate) fn restore_socket(&mut self, io: &mut Io) {
        self.nbd.restore_socket(io);
    }

    /// Somebody waits for a buffer: clients that sit on some are looked for.
    pub(crate) fn watch_clients(&mut self, io: &mut Io) {
        self.nbd.watch(io);
    }

    /// Starts what was queued for clients in this turn of the loop.
    pub(crate) fn flush(&mut self, io: &mut Io) {
        self.nbd.flush(io);
    }

    /// A send or a receive of a client's socket has ended.
    pub(crate) fn on_stream(
        &mut self,
        io: &mut Io,
        client: ClientId,
        (fd, flight): (Rc<OwnedFd>, Flight),
        result: i32,
    ) -> Turn {
        let goes_on = self.nbd.on_stream(io, client, (fd, flight), result);
        Turn::of(goes_on.then_some(Who::Nbd(client)))
    }

    /// The kernel's FUSE client of a volume asks something.
    pub(crate) fn on_fuse_ready(&mut self, node: NodeId, result: i32) -> Turn {
        let goes_on = self.nodes.fuse.on_ready(node, result);
        Turn::of(goes_on.then_some(Who::Fuse(node)))
    }

    /// The command of a ublk device's tag has ended: there is a request, or there will be none any more.
    pub(crate) fn on_ublk_tag(&mut self, io: &mut Io, node: NodeId, tag: Tag, result: i32) -> Turn {
        match self.nodes.ublk.on_tag(io, node, tag, result) {
            TagEnd::Nothing => Turn::default(),
            TagEnd::Write => Turn::of(Some(Who::Ublk(node))),
            TagEnd::Asked(asked) => Turn {
                first: Some(asked),
                ..Turn::default()
            },
        }
    }

    /// How many turns are due.
    pub(crate) fn due(&self, due: Due) -> usize {
        match due {
            Due::Parts => self.parts.len(),
            Due::Clients => self.nbd.resumed(),
        }
    }

    /// The next turn that is due.
    pub(crate) fn next_due(&mut self, due: Due) -> Option<Turn> {
        match due {
            Due::Parts => Some(Turn {
                parts: Some(self.parts.pop_front()?),
                ..Turn::default()
            }),
            Due::Clients => Some(Turn::of(Some(Who::Nbd(self.nbd.next_resumed()?)))),
        }
    }

    /// Who waits first for a buffer.
    pub(crate) fn first_starved(&self) -> Option<Who> {
        self.queue.first()
    }

    /// Whether somebody who had his turn is still the first to wait for a buffer.
    pub(crate) fn still_starves(&mut self, who: Who) -> bool {
        let is_there = match who {
            Who::Nbd(client) => self.nbd.has(client),
            Who::Fuse(node) => self.nodes.fuse.node_of(node).is_some(),
            Who::Ublk(node) => self.nodes.ublk.node_of(node).is_some(),
        };
        if !is_there {
            self.queue.leave(who);
        }
        self.queue.first() == Some(who)
    }

    /// The next event of a turn: to be raised, and then asked for again.
    pub(crate) fn next(&mut self, io: &mut Io, turn: &mut Turn) -> Option<Event<Buf>> {
        loop {
            let going = match (turn.parts.take(), turn.first.take()) {
                (Some(key), first) => {
                    turn.first = first;
                    let going = self.requests.advance(key);
                    if matches!(going, Going::On(_)) {
                        turn.parts = Some(key);
                    }
                    going
                }
                (None, Some(asked)) => self.requests.submit(asked),
                (None, None) => {
                    let asked = self.take_request(io, turn)?;
                    self.requests.submit(asked)
                }
            };
            match going {
                Going::On(event) => return Some(event),
                Going::Waits => {}
                Going::Done(front) => self.reply(io, &front),
                Going::InParts(key) => turn.parts = Some(key),
            }
        }
    }

    /// Takes the next request of whoever has a turn.
    fn take_request(&mut self, io: &mut Io, turn: &mut Turn) -> Option<Asked> {
        let queue = &mut self.queue;
        let asked = match turn.who? {
            Who::Fuse(node) => self.nodes.fuse.pump(io, queue, turn, node),
            Who::Ublk(node) => self.nodes.ublk.next_write(io, queue, node),
            Who::Nbd(client) => {
                let is_begun = std::mem::replace(&mut turn.taken, 1) > 0;
                match self.nbd.pump(io, queue, client, is_begun) {
                    Pumped::Asked(asked) => Some(asked),
                    Pumped::Nothing => None,
                    Pumped::KernelGone(volume, goodbye) => {
                        self.nodes.knbd.connection_ended(io, volume, goodbye);
                        None
                    }
                }
            }
        };
        if asked.is_none() && !self.queue.is_empty() {
            self.nbd.watch(io);
        }
        asked
    }

    /// A request, or a part of one, has ended. Runs amid effects.
    pub(crate) fn complete_request(
        &mut self,
        io: &mut Io,
        key: usize,
        result: Result<Option<Buf>, RequestError>,
    ) {
        match self.requests.complete(key, result) {
            Some(Ended::Done(front)) => self.reply(io, &front),
            Some(Ended::InParts(key)) => self.parts.push_back(key),
            None => {}
        }
    }

    fn reply(&mut self, io: &mut Io, front: &FrontRequest) {
        let mut result = front.error.map_or(Ok(()), Err);
        let payload = match (front.request.op, &front.payload) {
            (Op::Read, Some(payload)) if payload.len() == front.request.length as usize => {
                Some(payload.clone())
            }
            (Op::Read, _) => {
                // Success without the data asked for would be a lie.
                result = result.and(Err(Errno::Io));
                None
            }
            _ => None,
        };
        let payload = payload
            .filter(|_| result.is_ok())
            .map(|payload| settle_payload(io, payload));
        let request = &front.request;
        match front.who {
            Who::Nbd(client) => self.nbd.reply(io, client, request, result, payload),
            Who::Fuse(node) => {
                let fuse = &mut self.nodes.fuse;
                fuse.reply(node, request, result, payload.as_ref());
            }
            Who::Ublk(node) => {
                let ublk = &mut self.nodes.ublk;
                ublk.reply(io, node, request, result, payload.as_ref());
            }
        }
    }
}

fn is_fuse(who: Who, nr: VolumeNr) -> bool {
    matches!(who, Who::Fuse(node) if node.volume == nr)
}

/// What the peer has read for us is copied out of the reserve for received payloads: a client may be slow to
/// take it, and the peer's writes must not wait for that. Without room for a copy it stays.
fn settle_payload(io: &Io, payload: Buf) -> Buf {
    if !payload.is_received() {
        return payload;
    }
    let copy = io.pool.take(Reserve::Read, payload.len() as u32);
    let Some(mut copy) = copy else { return payload };
    match copy.as_mut_slice() {
        Some(into) => {
            into.copy_from_slice(payload.as_slice());
            copy
        }
        None => payload,
    }
}
