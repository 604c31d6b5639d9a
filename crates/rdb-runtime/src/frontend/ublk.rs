//! The device node by ublk: the driver's requests come through this thread's own ring.
//!
//! A device outlives its server. Whether the next one may take it over is decided in [`handover`](super::handover).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rdb_engine::{Level, VolumeNr};
use rdb_frontend::ublk::{Channel, Identity, Opened, Preparing, Tag, Took, UblkDevice};
use rdb_frontend::{DeviceInfo, Errno, Op as FrontOp, Request};

use super::message::{News, NodeReport};
use super::node::{Helper, MessageOf, NodeKind, Removals, stays};
use super::{Origin, Starved, device_info};
use crate::engine::Engine;
use crate::event_loop::EventLoop;
use crate::op::Op;
use crate::pool::Buf;

/// Nodes by ublk.
pub(crate) struct Ublk;

/// What has to be known to make one.
pub(crate) struct UblkPlan {
    pub(super) minor: u32,
    pub(super) identity: Identity,
    pub(super) info: DeviceInfo,
    pub(super) may_take_over: bool,
    /// End when devices that were left are removed.
    pub(super) removals: Removals,
}

/// How a device is served.
#[derive(Default)]
pub(crate) struct Served {
    channel: Option<Channel>,
    /// Writes for which there is no buffer.
    waiting: VecDeque<Request>,
}

impl Served {
    /// Forgets what was not begun.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }
}

impl NodeKind for Ublk {
    type Device = UblkDevice;
    type Base = ();
    type Opened = Opened;
    type Plan = UblkPlan;
    type Served = Served;

    const MAKER: &'static str = "rdb-ublk";
    const COMPLAINT: Level = Level::Warn;

    fn report(message: MessageOf<Ublk>) -> NodeReport {
        NodeReport::Ublk(message)
    }

    fn make(plan: UblkPlan, helper: &Helper<Ublk>) -> Result<(UblkDevice, (), bool), String> {
        let UblkPlan {
            minor,
            identity,
            info,
            may_take_over,
            removals,
        } = plan;
        removals.wait();
        let mut preparing = Preparing::new(minor, identity, &info, may_take_over)
            .map_err(|error| error.to_string())?;
        let took = preparing.took();
        let opened = preparing.take_channel().ok_or("it has no channel")?;
        if !helper.report(News::Opened(opened)) {
            preparing.abandon();
            return Err("the resource is being stopped".to_owned());
        }
        let device = preparing.finish().map_err(|error| error.to_string())?;
        Ok((device, (), took == Took::Over))
    }

    fn give_back(
        device: UblkDevice,
        (): (),
        stopping: bool,
        helper: &Helper<Ublk>,
    ) -> Option<String> {
        let stopped = || {
            helper.report(News::Stopped);
        };
        stays(&device, stopping).or_else(|| {
            let given = device.give_back(stopped);
            given.err().map(|error| error.to_string())
        })
    }
}

impl<E: Engine> EventLoop<E> {
    /// There is a channel: serves it.
    pub(super) fn serve_ublk(&mut self, volume: VolumeNr, generation: u32, opened: Opened) {
        let Some(node) = self.front.ublk.node_of(volume, generation) else {
            return;
        };
        let channel = Channel::from(opened);
        let (fd, tags) = (channel.fd(), channel.tags());
        node.served.channel = Some(channel);
        for tag in tags {
            self.start_tag(volume, generation, &fd, tag, None);
        }
    }

    /// Asks for a tag's next request; `result` completes the one before.
    fn start_tag(
        &mut self,
        volume: VolumeNr,
        generation: u32,
        fd: &Rc<OwnedFd>,
        tag: Tag,
        result: Option<i32>,
    ) {
        self.io
            .ring
            .start(Op::Ublk(volume, generation, tag, result, Rc::clone(fd)));
    }

    /// The command of a tag has ended: there is a request, or there will be none any more.
    pub(crate) fn on_ublk_tag(&mut self, volume: VolumeNr, generation: u32, tag: Tag, result: i32) {
        let spec = match self.front.ublk.node_of(volume, generation) {
            Some(node) if !node.parked => node.spec,
            _ => return,
        };
        // An error: the device is being stopped, or the driver has refused the command.
        if result != 0 {
            if result != -libc::ENODEV {
                let error = std::io::Error::from_raw_os_error(-result);
                let text = format!("the ublk driver refuses a command: {error}");
                self.io.log(Level::Error, Some(volume), text);
            }
            return;
        }
        let info = device_info(spec);
        let Some(channel) = self
            .front
            .ublk
            .node_of(volume, generation)
            .and_then(|node| node.served.channel.as_ref())
        else {
            return;
        };
        match channel.request(tag, &info) {
            Ok(request) if request.op == FrontOp::Write => {
                if let Some(node) = self.front.ublk.node_of(volume, generation) {
                    node.served.waiting.push_back(request);
                }
                self.start_ublk_writes(volume);
            }
            Ok(request) => self.submit(Origin::Ublk { volume, generation }, volume, request, None),
            Err(errno) => self.complete_tag(volume, generation, tag, -(errno.number() as i32)),
        }
    }

    /// Starts writes for which there are buffers now; `false` if some have to wait.
    fn start_ublk_writes(&mut self, volume: VolumeNr) -> bool {
        let me = Starved::Ublk { volume };
        loop {
            let first = self.front.starved.front().is_none_or(|first| *first == me);
            let Some(node) = self.front.ublk.node(volume) else {
                return true;
            };
            let generation = node.generation;
            let Some(&request) = node.served.waiting.front() else {
                self.front.starved.retain(|other| *other != me);
                return true;
            };
            let buf = match first {
                true => self.io.pool.take_for_write(request.length),
                false => None,
            };
            let Some(mut buf) = buf else {
                if !self.front.starved.contains(&me) {
                    self.front.starved.push_back(me);
                }
                self.watch_clients();
                return false;
            };
            node.served.waiting.pop_front();
            let tag = Tag::from_u64(request.tag);
            let read = match (&node.served.channel, buf.as_mut_slice()) {
                (Some(channel), Some(into)) => channel.read_data(tag, into),
                _ => return true,
            };
            match read {
                Ok(()) => {
                    let origin = Origin::Ublk { volume, generation };
                    self.submit(origin, volume, request, Some(buf));
                }
                Err(error) => {
                    let text = format!("the data of a write: {error}");
                    self.io.log(Level::Error, Some(volume), text);
                    self.complete_tag(volume, generation, tag, -libc::EIO);
                }
            }
        }
    }

    pub(super) fn retry_ublk(&mut self, volume: VolumeNr) -> bool {
        let me = Starved::Ublk { volume };
        self.start_ublk_writes(volume);
        if self.front.ublk.node(volume).is_none() {
            self.front.starved.retain(|other| *other != me);
        }
        self.front.starved.front() != Some(&me)
    }

    fn complete_tag(&mut self, volume: VolumeNr, generation: u32, tag: Tag, result: i32) {
        let fd = self
            .front
            .ublk
            .node_of(volume, generation)
            .and_then(|node| node.served.channel.as_ref())
            .map(Channel::fd);
        if let Some(fd) = fd {
            self.start_tag(volume, generation, &fd, tag, Some(result));
        }
    }

    /// Answers the driver. Runs amid effects.
    pub(super) fn reply_to_driver(
        &mut self,
        volume: VolumeNr,
        generation: u32,
        request: &Request,
        result: Result<(), Errno>,
        payload: Option<Buf>,
    ) {
        let tag = Tag::from_u64(request.tag);
        let is_parked = self
            .front
            .ublk
            .node_of(volume, generation)
            .is_some_and(|node| node.parked);
        if is_parked && result == Err(Errno::Shutdown) {
            // The rest of a long discard came too late for this process: the next one is asked again.
            return;
        }
        let mut answer = match result {
            // A flush has no length; the driver wants to hear 0 of it.
            Ok(()) => request.length as i32,
            Err(errno) => -(errno.number() as i32),
        };
        if let Some(payload) = payload {
            let Some(channel) = self
                .front
                .ublk
                .node_of(volume, generation)
                .and_then(|node| node.served.channel.as_ref())
            else {
                return;
            };
            if let Err(error) = channel.write_data(tag, payload.as_slice()) {
                let text = format!("the data of a read: {error}");
                self.io.log(Level::Error, Some(volume), text);
                answer = -libc::EIO;
            }
        }
        self.complete_tag(volume, generation, tag, answer);
    }
}
