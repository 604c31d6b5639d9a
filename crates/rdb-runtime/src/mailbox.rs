//! What the thread of a resource is told by others, and how.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rdb_engine::{AdminError, Command, HandlerId, VolumeNr};

use crate::api::{
    AttachRequest, Caller, ConnectRequest, MarksReply, StatusReply, Ticket, UseReply,
};
use crate::disk::open::OpenedDisk;
use crate::frontend::message::NodeReport;
use crate::pool::Growth;

/// `ERR_INVALID_REQUEST`, for a thread that is gone (`docs/spec/admin.md`, section 4.3).
const ERR_INVALID_REQUEST: u16 = 162;

/// What the thread is told.
pub(crate) enum Message {
    Attach(AttachRequest, Result<OpenedDisk, AdminError>, Caller),
    Admin(Command, Caller),
    Connect(Box<ConnectRequest>, Caller),
    Withdraw(Ticket),
    /// How a handler ended that the engine asked for.
    HandlerDone(HandlerId, i32),
    Status(StatusReply),
    /// A piece of a volume's bitmap, from this word on.
    Marks(VolumeNr, usize, MarksReply),
    /// What has become of a device node.
    Node(NodeReport),
    /// A device that a dead process left was removed.
    LeftDropped(VolumeNr),
    /// Whether somebody uses a volume's device, for a demotion that waits for it.
    Held(VolumeNr, bool, Caller),
    Use(UseReply),
    /// More buffers are there, or are not to be had.
    Grown(Growth, io::Result<()>),
    Park(Vec<VolumeNr>),
    /// The server's end of a connection of the kernel's NBD client, without the driver and its device.
    #[cfg(test)]
    KernelClient(VolumeNr, OwnedFd),
    Stop,
}

/// Where a thread finds its messages.
pub(crate) struct Inbox {
    pub(crate) messages: Receiver<Message>,
    /// An eventfd, which rings when there are some.
    pub(crate) bell: OwnedFd,
}

/// A new one, with this count.
pub(crate) fn eventfd(count: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers; the result is checked before it becomes an owned descriptor.
    let fd = unsafe { libc::eventfd(count, libc::EFD_CLOEXEC) };
    match fd {
        // SAFETY: it was just made and belongs to nobody else.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Posts messages and wakes the thread.
#[derive(Clone)]
pub(crate) struct Mailbox {
    sender: Sender<Message>,
    bell: Arc<OwnedFd>,
}

impl Mailbox {
    /// A mailbox, and what the thread takes its messages from.
    pub(crate) fn new() -> io::Result<(Mailbox, Inbox)> {
        let bell = Arc::new(eventfd(0)?);
        let (sender, messages) = channel();
        let inbox = Inbox {
            messages,
            bell: bell.try_clone()?,
        };
        Ok((Mailbox { sender, bell }, inbox))
    }

    /// Whether the thread still takes messages.
    pub(crate) fn post(&self, message: Message) -> bool {
        if self.sender.send(message).is_err() {
            return false;
        }
        self.ring_bell();
        true
    }

    /// Posts a message that carries a reply, which is answered in any case.
    pub(crate) fn post_command(&self, message: Message) {
        let Err(lost) = self.sender.send(message) else {
            self.ring_bell();
            return;
        };
        if let Message::Attach(_, _, caller)
        | Message::Admin(_, caller)
        | Message::Connect(_, caller) = lost.0
        {
            (caller.reply)(Err(AdminError::refused(
                ERR_INVALID_REQUEST,
                "the resource is being stopped",
            )));
        }
    }

    fn ring_bell(&self) {
        // SAFETY: the descriptor is open. It cannot fail but by a counter near its end, which rings as well.
        unsafe { libc::eventfd_write(self.bell.as_raw_fd(), 1) };
    }
}
