//! Which node a volume has, by the front end that is configured, and what its coming and going entails.

use rdb_engine::{DeviceSpec, Level, VolumeNr};
use rdb_frontend::{Frontend, knbd, ublk};

use super::fuse::FusePlan;
use super::handover::Left;
use super::knbd::KnbdPlan;
use super::message::NodeReport;
use super::node::Outcome;
use super::ublk::UblkPlan;
use super::{Starved, device_info};
use crate::api::{Caller, Notice};
use crate::engine::Engine;
use crate::event_loop::EventLoop;

/// The kinds of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Fuse,
    Ublk,
    Knbd,
}

impl<E: Engine> EventLoop<E> {
    /// The volume has a device, or another size.
    pub(super) fn node_up(&mut self, nr: VolumeNr, spec: DeviceSpec) {
        let kind = match self.io.config.frontend {
            Frontend::Fuse => Kind::Fuse,
            Frontend::Ublk | Frontend::UblkAnyway => Kind::Ublk,
            Frontend::Nbd => Kind::Knbd,
            Frontend::Auto | Frontend::Socket => return self.announce_without_node(nr, spec),
        };
        let is_there = match kind {
            Kind::Fuse => self.front.fuse.device_up(&self.io, nr, spec),
            Kind::Ublk => self.front.ublk.device_up(&self.io, nr, spec),
            Kind::Knbd => self.front.knbd.device_up(&self.io, nr, spec),
        };
        if !is_there {
            self.start_node(kind, nr, spec);
        }
    }

    /// Begins to give a volume's node back; whether there is one.
    pub(super) fn node_down(&mut self, nr: VolumeNr) -> bool {
        let (io, stopping) = (&self.io, self.front.stopping);
        self.front.fuse.device_down(io, nr, stopping)
            || self.front.ublk.device_down(io, nr, stopping)
            || self.front.knbd.device_down(io, nr, stopping)
    }

    fn start_node(&mut self, kind: Kind, nr: VolumeNr, spec: DeviceSpec) {
        let id = (nr, self.front.next_generation());
        if kind == Kind::Fuse {
            let plan = FusePlan {
                target: self.fuse_target(nr),
                source: format!("{}/{nr}", self.io.config.name),
                block_size: spec.logical_block_bytes,
                left: self.take_left_session(nr),
            };
            return self.front.fuse.start(&self.io, id, spec, plan);
        }
        let minor = self.minor_of(nr);
        // Whatever is left afterwards is of this process.
        let volume = self.volume(nr);
        let may_take_over = volume.left == Left::Same;
        volume.left = Left::Foreign;
        let info = device_info(spec);
        let removals = self.removals_of_left_devices(nr);
        let config = &self.io.config;
        if kind == Kind::Ublk {
            let plan = UblkPlan {
                minor,
                identity: ublk::Identity::new(&config.run_dir, &config.name, nr.0.into()),
                info,
                may_take_over,
                removals,
            };
            return self.front.ublk.start(&self.io, id, spec, plan);
        }
        let plan = KnbdPlan {
            minor,
            identity: knbd::identity(&config.run_dir, &config.name, nr.0.into()),
            info,
            may_take_over,
            connections: config.nbd_connections,
            removals,
        };
        self.front.knbd.start(&self.io, id, spec, plan);
    }

    /// Takes what a helper thread reports of a node.
    pub(crate) fn on_node_report(&mut self, report: NodeReport) {
        let stopping = self.front.stopping;
        match report {
            NodeReport::Fuse(message) => {
                let (nr, generation) = (message.volume, message.generation);
                let wanted = self.volume(nr).device;
                match self
                    .front
                    .fuse
                    .on_message(&self.io, message, wanted, stopping)
                {
                    Outcome::Opened(mounted) => {
                        let copy = self.serve_fuse(nr, generation, mounted, wanted);
                        if let Some(copy) = copy {
                            self.announce_session(nr, Some(copy.into()));
                        }
                    }
                    Outcome::Nothing => {}
                    Outcome::Failed(error) => self.node_failed(Kind::Fuse, nr, &error),
                    Outcome::Gone { next } => self.node_gone(Kind::Fuse, nr, next),
                }
            }
            NodeReport::Ublk(message) => {
                let (nr, generation) = (message.volume, message.generation);
                let wanted = self.volume(nr).device;
                match self
                    .front
                    .ublk
                    .on_message(&self.io, message, wanted, stopping)
                {
                    Outcome::Opened(opened) => self.serve_ublk(nr, generation, opened),
                    Outcome::Nothing => {}
                    Outcome::Failed(error) => self.node_failed(Kind::Ublk, nr, &error),
                    Outcome::Gone { next } => self.node_gone(Kind::Ublk, nr, next),
                }
            }
            NodeReport::Knbd(message) => {
                let nr = message.volume;
                let wanted = self.volume(nr).device;
                match self
                    .front
                    .knbd
                    .on_message(&self.io, message, wanted, stopping)
                {
                    // While it is parked, the next process is the one to serve it.
                    Outcome::Opened(_) if self.front.knbd.is_parked(nr) => {}
                    Outcome::Opened(socket) => self.add_kernel_client(nr, socket),
                    Outcome::Nothing => {}
                    Outcome::Failed(error) => self.node_failed(Kind::Knbd, nr, &error),
                    Outcome::Gone { next } => self.node_gone(Kind::Knbd, nr, next),
                }
            }
        }
    }

    fn node_failed(&mut self, kind: Kind, volume: VolumeNr, error: &str) {
        self.forget_node(kind, volume);
        if kind != Kind::Fuse {
            // One that could not be taken over must not be later, when others have written by the NBD socket.
            self.left_device_is_foreign(volume);
        }
        let text = format!("no device node, only the NBD socket: {error}");
        self.io.log(Level::Error, Some(volume), text);
        let reason = error.to_owned();
        self.io.notify(Notice::NoDevice { volume, reason });
        match self.volume(volume).device {
            Some(spec) => self.announce_without_node(volume, spec),
            None => self.io.notify(Notice::DeviceDown { volume }),
        }
    }

    fn node_gone(&mut self, kind: Kind, volume: VolumeNr, next: Option<DeviceSpec>) {
        self.forget_node(kind, volume);
        if kind == Kind::Fuse {
            self.announce_session(volume, None);
        }
        self.io.notify(Notice::DeviceDown { volume });
        if let Some(spec) = next {
            self.start_node(kind, volume, spec);
        }
    }

    fn forget_node(&mut self, kind: Kind, volume: VolumeNr) {
        match kind {
            Kind::Fuse => self.front.forget_starved(Starved::Fuse { volume }),
            Kind::Ublk => self.front.forget_starved(Starved::Ublk { volume }),
            Kind::Knbd => self.close_kernel_client(volume),
        }
    }

    /// Serves no more requests of a device that is up: they wait for the next process. Whether there is one.
    pub(super) fn park_node(&mut self, nr: VolumeNr) -> bool {
        if self.front.fuse.park(nr) {
            return true;
        }
        if self.front.ublk.park(nr) {
            // What was not begun is asked again, of the next one.
            if let Some(node) = self.front.ublk.node(nr) {
                node.served.forget_waiting();
            }
            self.front.forget_starved(Starved::Ublk { volume: nr });
            return true;
        }
        let is_parked = self.front.knbd.park(nr);
        if is_parked {
            self.park_kernel_client(nr);
        }
        is_parked
    }

    /// Finds out whether somebody uses the device node, then goes on with the demotion.
    pub(crate) fn ask_who_holds(&mut self, volume: VolumeNr, reply: Caller) {
        let (front, io) = (&self.front, &self.io);
        let reply = front.fuse.ask_who_holds(io, volume, reply);
        let reply = reply.and_then(|reply| front.ublk.ask_who_holds(io, volume, reply));
        let reply = reply.and_then(|reply| front.knbd.ask_who_holds(io, volume, reply));
        if let Some(reply) = reply {
            self.secondary(volume, false, reply);
        }
    }
}
