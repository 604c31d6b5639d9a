//! What helper threads report of device nodes to the thread that serves them: plain data.

use std::os::fd::OwnedFd;

use rdb_frontend::fuse::mount::Mount;
use rdb_frontend::knbd::KnbdDevice;
use rdb_frontend::loopdev::LoopDevice;
use rdb_frontend::ublk::{Opened, UblkDevice};

use crate::ids::NodeId;

/// A report, by the kind of the node.
pub(crate) enum NodeReport {
    Fuse(NodeMessage<Mounted, LoopDevice, Mount>),
    Ublk(NodeMessage<Opened, UblkDevice, ()>),
    Knbd(NodeMessage<OwnedFd, KnbdDevice, ()>),
}

impl NodeReport {
    pub(crate) fn id(&self) -> NodeId {
        match self {
            NodeReport::Fuse(message) => message.id,
            NodeReport::Ublk(message) => message.id,
            NodeReport::Knbd(message) => message.id,
        }
    }
}

/// What is told of one device node.
pub(crate) struct NodeMessage<O, D, B> {
    pub(crate) id: NodeId,
    pub(crate) news: News<O, D, B>,
}

/// What has become of it.
pub(crate) enum News<O, D, B> {
    /// There is something to serve.
    Opened(O),
    /// The device is there.
    Up {
        device: D,
        base: B,
        /// An earlier process has made it.
        taken_over: bool,
    },
    /// It could not be made.
    Failed(String),
    /// No more requests come: what serves them can go.
    Stopped,
    /// Somebody else has taken the device away.
    Lost,
    /// One of its connections had ended, and it was tried to give it a new one; the words are a complaint.
    Reconnected(Option<String>),
    /// It is given back, or left for the next process; the words are for the log.
    Gone(Option<String>),
}

/// A connection to the kernel's FUSE client.
pub(crate) struct Mounted {
    pub(crate) fd: OwnedFd,
    /// An earlier process has begun the session.
    pub(crate) is_resumed: bool,
}
