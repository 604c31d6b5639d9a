//! The device nodes of a resource: which kind a volume has, by the front end that is configured, and what their coming and going
//! entails.

use std::os::fd::OwnedFd;

use rdb_engine::{DeviceSpec, Level, VolumeNr};
use rdb_frontend::fuse::left::LeftSession;
use rdb_frontend::{Frontend, knbd, ublk};

use super::fuse::{self, Fuse, FusePlan};
use super::handover::{LeftDevices, announce_session, end_session, fuse_target, session_identity};
use super::knbd::{Knbd, KnbdPlan};
use super::message::{News, NodeReport};
use super::node::{End, NodeLife, is_held};
use super::request::{Who, device_info};
use super::ublk::{Ublk, UblkPlan};
use crate::api::{Caller, DeviceUse, Notice};
use crate::ids::NodeId;
use crate::io::Io;

/// The kinds of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Fuse,
    Ublk,
    Knbd,
}

/// A volume's device that the engine has, as its front ends are to show it.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) spec: DeviceSpec,
    /// The number that its node has, if that can be chosen.
    pub(super) minor: u32,
}

/// What the other front ends have to do about a node.
pub(super) enum Told {
    Nothing,
    /// Serve the kernel by this socket.
    Serve(OwnedFd),
    /// Nobody waits for buffers for it any more.
    Forget(Who),
    /// Let go of the kernel as a client.
    LetKernelGo,
    /// Take nothing more from the kernel as a client.
    ParkKernel,
}

/// All nodes, and what earlier processes have left of such.
pub(super) struct Nodes {
    pub(super) fuse: NodeLife<Fuse>,
    pub(super) ublk: NodeLife<Ublk>,
    pub(super) knbd: NodeLife<Knbd>,
    pub(super) left: LeftDevices,
    /// Counts the nodes: reports of old ones are dropped.
    generation: u32,
    /// The resource is being stopped: from now on a device in use that can outlive the process is not given back. Set by
    /// `FrontEnds::stop`, never cleared.
    pub(super) stopping: bool,
}

impl Nodes {
    pub(super) fn new() -> Nodes {
        Nodes {
            fuse: NodeLife::new(),
            ublk: NodeLife::new(),
            knbd: NodeLife::new(),
            left: LeftDevices::default(),
            generation: 0,
            stopping: false,
        }
    }

    /// Whether nodes are there, or still being given back.
    pub(super) fn is_empty(&self) -> bool {
        self.fuse.is_empty() && self.ublk.is_empty() && self.knbd.is_empty()
    }

    /// Whether a volume's node waits for the next process.
    pub(super) fn is_parked(&self, nr: VolumeNr) -> bool {
        self.fuse.is_parked(nr) || self.ublk.is_parked(nr) || self.knbd.is_parked(nr)
    }

    /// The volume has a device, or another size.
    pub(super) fn up(&mut self, io: &Io, nr: VolumeNr, wanted: Wanted) {
        let spec = wanted.spec;
        let kind = match io.config.frontend {
            Frontend::Fuse => Some(Kind::Fuse),
            Frontend::Ublk | Frontend::UblkAnyway => Some(Kind::Ublk),
            Frontend::Nbd => Some(Kind::Knbd),
            Frontend::Auto | Frontend::Socket => None,
        };
        let is_there = match kind {
            Some(Kind::Fuse) => self.fuse.device_up(io, nr, spec),
            Some(Kind::Ublk) => self.ublk.device_up(io, nr, spec),
            Some(Kind::Knbd) => self.knbd.device_up(io, nr, spec),
            None => {
                announce_without_node(io, nr, spec);
                true
            }
        };
        if let Some(kind) = kind.filter(|_| !is_there) {
            self.start(io, kind, nr, wanted);
        }
        if kind != Some(Kind::Fuse) {
            end_session(io, nr);
        }
        if !matches!(kind, Some(Kind::Ublk | Kind::Knbd)) {
            // Its users do not see what is written from now on.
            self.left.nobody_takes_over(io, nr);
        }
    }

    /// Begins to give a volume's node back; whether there is one.
    pub(super) fn down(&mut self, io: &Io, nr: VolumeNr) -> bool {
        let stopping = self.stopping;
        self.fuse.device_down(io, nr, stopping)
            || self.ublk.device_down(io, nr, stopping)
            || self.knbd.device_down(io, nr, stopping)
    }

    fn start(&mut self, io: &Io, kind: Kind, nr: VolumeNr, wanted: Wanted) {
        let Wanted { spec, minor } = wanted;
        self.generation += 1;
        let id = NodeId {
            volume: nr,
            generation: self.generation,
        };
        let config = &io.config;
        if kind == Kind::Fuse {
            let plan = FusePlan {
                target: fuse_target(config, nr),
                source: format!("{}/{nr}", config.name),
                block_size: spec.logical_block_bytes,
                left: self.left.take_session(io, nr),
            };
            return self.fuse.start(io, id, spec, plan);
        }
        let info = device_info(spec);
        let may_take_over = self.left.take_over(nr);
        let removals = self.left.removals(nr);
        if kind == Kind::Ublk {
            let plan = UblkPlan {
                minor,
                identity: ublk::Identity::new(&config.run_dir, &config.name, nr.0.into()),
                info,
                may_take_over,
                removals,
            };
            return self.ublk.start(io, id, spec, plan);
        }
        let plan = KnbdPlan {
            minor,
            identity: knbd::identity(&config.run_dir, &config.name, nr.0.into()),
            info,
            may_take_over,
            connections: config.nbd_connections,
            removals,
        };
        self.knbd.start(io, id, spec, plan);
    }

    /// Takes what a helper thread reports of a node. `wanted`: what its volume's device is now.
    pub(super) fn on_report(
        &mut self,
        io: &mut Io,
        report: NodeReport,
        wanted: Option<Wanted>,
    ) -> Told {
        let (spec, stopping) = (wanted.map(|wanted| wanted.spec), self.stopping);
        let id = report.id();
        let nr = id.volume;
        let (kind, end) = match report {
            NodeReport::Fuse(message) => {
                let is_up = matches!(message.news, News::Up { .. });
                let (opened, end) = self.fuse.on_message(io, message, spec, stopping);
                let copy = opened.and_then(|opened| self.fuse.serve(io, id, opened, spec));
                if let Some(copy) = copy {
                    announce_session(io, nr, Some(copy.into()));
                }
                if is_up {
                    self.fuse.look_after(io, id);
                }
                (Kind::Fuse, end)
            }
            NodeReport::Ublk(message) => {
                let (opened, end) = self.ublk.on_message(io, message, spec, stopping);
                if let Some(opened) = opened {
                    self.ublk.serve(io, id, opened);
                }
                (Kind::Ublk, end)
            }
            NodeReport::Knbd(message) => {
                let (opened, end) = self.knbd.on_message(io, message, spec, stopping);
                // While it is parked, the next process is the one to serve it.
                if let Some(socket) = opened.filter(|_| !self.knbd.is_parked(nr)) {
                    return Told::Serve(socket);
                }
                (Kind::Knbd, end)
            }
        };
        if kind == Kind::Fuse && end.is_some() {
            fuse::close(io, id);
        }
        match end {
            None => return Told::Nothing,
            Some(End::Failed(error)) => {
                if kind != Kind::Fuse {
                    // One that could not be taken over must not be later, when others have written by the NBD socket.
                    self.left.give_up(io, nr);
                }
                failed(io, nr, spec, error);
            }
            Some(End::Gone { again }) => {
                if kind == Kind::Fuse {
                    announce_session(io, nr, None);
                }
                io.notify(Notice::DeviceDown { volume: nr });
                if let Some(wanted) = wanted.filter(|_| again) {
                    self.start(io, kind, nr, wanted);
                }
            }
        }
        match kind {
            Kind::Fuse => Told::Forget(Who::Fuse(id)),
            Kind::Ublk => Told::Forget(Who::Ublk(id)),
            Kind::Knbd => Told::LetKernelGo,
        }
    }

    /// Serves no more requests of a device that is up: they wait for the next process. Where there is none, one that an earlier
    /// process left is left again.
    pub(super) fn park(&mut self, nr: VolumeNr) -> Told {
        if self.fuse.park(nr).is_some() {
            Told::Nothing
        } else if let Some(node) = self.ublk.park(nr) {
            // What was not begun is asked again, of the next process.
            node.served.forget_waiting();
            Told::Forget(Who::Ublk(node.id))
        } else if self.knbd.park(nr).is_some() {
            Told::ParkKernel
        } else {
            self.left.leave_again(nr);
            Told::Nothing
        }
    }

    /// Lets go of parked nodes without giving them back. `is_drained`: all that was read of a volume's session is answered.
    pub(super) fn leave_parked(&mut self, io: &Io, is_drained: impl Fn(VolumeNr) -> bool) {
        for node in self.fuse.take_parked() {
            let Some(served) = &node.served else {
                continue;
            };
            match served.fd.try_clone() {
                Ok(connection) => io.config.left_sessions.put(LeftSession {
                    identity: session_identity(&io.config, node.id.volume),
                    connection,
                    is_drained: served.parked.is_none() && is_drained(node.id.volume),
                }),
                Err(error) => {
                    tracing::error!("a FUSE session can not be handed over: {error}");
                    continue;
                }
            }
            if let Some(mount) = node.into_base() {
                mount.leave();
            }
        }
        self.ublk.take_parked();
        self.knbd.take_parked();
    }

    /// Finds out whether somebody uses the device node, then goes on with the demotion; the reply comes back if there is none to
    /// ask about.
    pub(super) fn ask_who_holds(&self, io: &Io, nr: VolumeNr, reply: Caller) -> Option<Caller> {
        let reply = self.fuse.ask_who_holds(io, nr, reply);
        let reply = reply.and_then(|reply| self.ublk.ask_who_holds(io, nr, reply));
        reply.and_then(|reply| self.knbd.ask_who_holds(io, nr, reply))
    }

    /// What finds out, on another thread, who uses the node of a volume. A node that it may not look at is taken for one in use:
    /// so nobody loses it.
    pub(super) fn look(&self, found: DeviceUse) -> impl FnOnce(bool) -> DeviceUse + Send + use<> {
        let loop_device = self.fuse.device(found.volume).cloned();
        let ublk_device = self.ublk.device(found.volume).cloned();
        let nbd_device = self.knbd.device(found.volume).cloned();
        move |may_look| {
            let of_loop = loop_device.map(|device| !may_look || is_held(&device));
            let of_ublk = ublk_device.map(|device| !may_look || is_held(&device));
            let of_nbd = nbd_device.map(|device| !may_look || is_held(&device));
            DeviceUse {
                is_held: of_loop.or(of_ublk).or(of_nbd).unwrap_or(false),
                outlives: of_ublk.or(of_nbd).is_some(),
                can_be_handed_over: of_loop.or(of_ublk).or(of_nbd).is_some(),
                ..found
            }
        }
    }
}

/// There is no node for a volume that is to have one.
fn failed(io: &Io, volume: VolumeNr, spec: Option<DeviceSpec>, error: String) {
    let text = format!("no device node, only the NBD socket: {error}");
    io.log(Level::Error, Some(volume), text);
    let reason = error;
    io.notify(Notice::NoDevice { volume, reason });
    match spec {
        Some(spec) => announce_without_node(io, volume, spec),
        None => io.notify(Notice::DeviceDown { volume }),
    }
}

/// Says that a device is there without a node.
fn announce_without_node(io: &Io, volume: VolumeNr, spec: DeviceSpec) {
    io.notify(Notice::DeviceUp {
        volume,
        spec,
        node: None,
    });
}
