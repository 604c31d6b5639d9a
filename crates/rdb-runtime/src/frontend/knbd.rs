//! The device node by the kernel's NBD client, each connection of which is served as a client of the NBD server that needs no
//! negotiation.
//!
//! Like a ublk device it outlives its server; see [`handover`](super::handover).

use std::os::fd::OwnedFd;

use rdb_engine::{Level, VolumeNr};
use rdb_frontend::DeviceInfo;
use rdb_frontend::knbd::{KnbdDevice, Preparing};

use super::message::{News, NodeReport};
use super::node::{Helper, MessageOf, NodeKind, NodeLife, Removals, stays};
use crate::io::Io;

/// Nodes by the kernel's NBD client.
pub(crate) struct Knbd;

/// What has to be known to make one.
pub(crate) struct KnbdPlan {
    pub(super) minor: u32,
    pub(super) identity: String,
    pub(super) info: DeviceInfo,
    pub(super) may_take_over: bool,
    /// End when devices that were left are removed.
    pub(super) removals: Removals,
    pub(super) connections: u32,
}

impl NodeKind for Knbd {
    type Device = KnbdDevice;
    type Base = ();
    type Opened = OwnedFd;
    type Plan = KnbdPlan;
    type Served = ();

    const MAKER: &'static str = "rdb-nbd";
    const COMPLAINT: Level = Level::Warn;

    fn report(message: MessageOf<Knbd>) -> NodeReport {
        NodeReport::Knbd(message)
    }

    fn make(plan: KnbdPlan, helper: &Helper<Knbd>) -> Result<(KnbdDevice, (), bool), String> {
        let KnbdPlan {
            minor,
            identity,
            info,
            may_take_over,
            connections,
            removals,
        } = plan;
        removals.wait();
        let made = Preparing::new(minor, identity, &info, may_take_over).and_then(|made| {
            let taken_over = made.takes_over();
            let device = made.finish(connections, |socket| helper.report(News::Opened(socket)))?;
            Ok((device, (), taken_over))
        });
        made.map_err(|error| error.to_string())
    }

    fn give_back(
        device: KnbdDevice,
        (): (),
        stopping: bool,
        _helper: &Helper<Knbd>,
    ) -> Option<String> {
        stays(&device, stopping).or_else(|| device.give_back().err().map(|error| error.to_string()))
    }
}

impl NodeLife<Knbd> {
    /// A connection of the device has ended, and what came by it is answered: unless the device goes, there is a new one.
    /// `goodbye`: the driver was told to let the device go.
    pub(super) fn connection_ended(&mut self, io: &Io, volume: VolumeNr, goodbye: bool) {
        let Some(node) = self.node(volume).filter(|node| !node.parked) else {
            return;
        };
        let Some(device) = node.device().cloned() else {
            return;
        };
        if goodbye {
            let text = format!("{} was disconnected by somebody", device.path().display());
            return io.log(Level::Warn, Some(volume), text);
        }
        node.help(io, "rdb-nbd", move |helper| {
            let made = device.reconnect(|socket| helper.report(News::Opened(socket)));
            let complaint = made.err().map(|error| error.to_string());
            helper.report(News::Reconnected(complaint));
        });
    }
}
