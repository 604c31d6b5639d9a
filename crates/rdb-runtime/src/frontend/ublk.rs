//! The device node by ublk: the driver's requests come through this thread's own ring.
//!
//! A device outlives its server. Whether the next one may take it over is decided in [`handover`](super::handover).

use std::collections::VecDeque;
use std::rc::Rc;

use rdb_engine::Level;
use rdb_frontend::ublk::{Channel, Identity, Opened, Preparing, Tag, Took, UblkDevice};
use rdb_frontend::{DeviceInfo, Errno, Op as FrontOp, Request};

use super::message::{News, NodeReport};
use super::node::{Helper, MessageOf, Node, NodeKind, NodeLife, Removals, stays};
use super::request::{Asked, Queue, Who, device_info};
use crate::ids::NodeId;
use crate::io::Io;
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
    /// Forgets the writes that were not begun.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }
}

/// What the end of a tag's command brings.
pub(super) enum TagEnd {
    Nothing,
    Asked(Asked),
    /// A write, whose data is to be taken when there is a buffer.
    Write,
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

impl NodeLife<Ublk> {
    /// There is a channel: serves it.
    pub(super) fn serve(&mut self, io: &mut Io, id: NodeId, opened: Opened) {
        let Some(node) = self.node_of(id) else {
            return;
        };
        let channel = Channel::from(opened);
        let (fd, tags) = (channel.fd(), channel.tags());
        node.served.channel = Some(channel);
        for tag in tags {
            io.ring.start(Op::Ublk(id, tag, None, Rc::clone(&fd)));
        }
    }

    /// The command of a tag has ended: there is a request, or there will be none any more.
    pub(super) fn on_tag(&mut self, io: &mut Io, id: NodeId, tag: Tag, result: i32) -> TagEnd {
        let node = self.node_of(id);
        let Some(node) = node.filter(|node| !node.parked) else {
            return TagEnd::Nothing;
        };
        // An error: the device is being stopped, or the driver has refused the command.
        if result != 0 {
            if result != -libc::ENODEV {
                let error = std::io::Error::from_raw_os_error(-result);
                let text = format!("the ublk driver refuses a command: {error}");
                io.log(Level::Error, Some(id.volume), text);
            }
            return TagEnd::Nothing;
        }
        let info = device_info(node.spec);
        let Some(channel) = &node.served.channel else {
            return TagEnd::Nothing;
        };
        match channel.request(tag, &info) {
            Ok(request) if request.op == FrontOp::Write => {
                node.served.waiting.push_back(request);
                TagEnd::Write
            }
            Ok(request) => TagEnd::Asked(Asked {
                who: Who::Ublk(id),
                volume: id.volume,
                request,
                payload: None,
            }),
            Err(errno) => {
                complete_tag(io, node, tag, -(errno.number() as i32));
                TagEnd::Nothing
            }
        }
    }

    /// The next write for which there is a buffer now.
    pub(super) fn next_write(
        &mut self,
        io: &mut Io,
        queue: &mut Queue,
        id: NodeId,
    ) -> Option<Asked> {
        let (me, volume) = (Who::Ublk(id), id.volume);
        let node = self.node_of(id)?;
        loop {
            let Some(&request) = node.served.waiting.front() else {
                queue.leave(me);
                return None;
            };
            let mut buf = queue.take(io, me, request.length)?;
            node.served.waiting.pop_front();
            let tag = Tag::from_u64(request.tag);
            let read = match (&node.served.channel, buf.as_mut_slice()) {
                (Some(channel), Some(into)) => channel.read_data(tag, into),
                _ => return None,
            };
            match read {
                Ok(()) => {
                    return Some(Asked {
                        who: Who::Ublk(id),
                        volume,
                        request,
                        payload: Some(buf),
                    });
                }
                Err(error) => {
                    let text = format!("the data of a write: {error}");
                    io.log(Level::Error, Some(id.volume), text);
                    complete_tag(io, node, tag, -libc::EIO);
                }
            }
        }
    }

    /// Answers the driver. Runs amid effects.
    pub(super) fn reply(
        &mut self,
        io: &mut Io,
        id: NodeId,
        request: &Request,
        result: Result<(), Errno>,
        payload: Option<&Buf>,
    ) {
        let tag = Tag::from_u64(request.tag);
        let Some(node) = self.node_of(id) else {
            return;
        };
        if node.parked && result == Err(Errno::Shutdown) {
            // The rest of a long discard came too late for this process: the next one is asked again.
            return;
        }
        let mut answer = match result {
            // A flush has no length; the driver wants to hear 0 of it.
            Ok(()) => request.length as i32,
            Err(errno) => -(errno.number() as i32),
        };
        if let (Some(payload), Some(channel)) = (payload, &node.served.channel)
            && let Err(error) = channel.write_data(tag, payload.as_slice())
        {
            let text = format!("the data of a read: {error}");
            io.log(Level::Error, Some(id.volume), text);
            answer = -libc::EIO;
        }
        complete_tag(io, node, tag, answer);
    }
}

/// Completes a tag's request and asks for its next one.
fn complete_tag(io: &mut Io, node: &Node<Ublk>, tag: Tag, result: i32) {
    if let Some(channel) = &node.served.channel {
        let op = Op::Ublk(node.id, tag, Some(result), channel.fd());
        io.ring.start(op);
    }
}
