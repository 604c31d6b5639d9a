//! The device node: a loop device over a file that this thread serves by FUSE.
//!
//! The FUSE descriptor is read and written directly, not through the ring: it never waits (it is non-blocking, and
//! the ring says when there is something), and the ring would need a worker thread for each reply.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rdb_engine::{DeviceSpec, Level, VolumeNr};
use rdb_frontend::fuse::left::{LeftSession, resend};
use rdb_frontend::fuse::mount::{Kind, Mount, clear_stale, mount};
use rdb_frontend::fuse::{MESSAGE_SIZE_MAX, Root, Session, Step, WRITE_PAYLOAD_OFFSET};
use rdb_frontend::loopdev::{AttachOptions, LoopDevice, LoopError};
use rdb_frontend::{Errno, Request};

use super::message::{Mounted, News, NodeReport};
use super::node::{Helper, MessageOf, Node, NodeKind, NodeLife};
use super::request::{Asked, Queue, Turn, Who, device_info};
use crate::ids::NodeId;
use crate::io::Io;
use crate::op::Op;
use crate::pool::{Aligned, Buf, PAGE_BYTES};

/// Messages taken from one device before others get their turn.
const MESSAGES_A_TURN: usize = 64;
/// How long a loop device that somebody still uses is asked for again.
const DETACH_MS: u64 = 10_000;

/// Nodes by FUSE and a loop device.
pub(crate) struct Fuse;

/// What has to be known to make one.
pub(crate) struct FusePlan {
    /// Where it is mounted.
    pub(super) target: PathBuf,
    /// What `/proc/mounts` shows as the device.
    pub(super) source: String,
    pub(super) block_size: u32,
    /// A session of an earlier process, to be gone on with.
    pub(super) left: Option<LeftSession>,
}

/// The connection to the kernel's FUSE client.
pub(crate) struct Served {
    pub(super) fd: Rc<OwnedFd>,
    session: Session,
    /// One message; a write's data begins at a page.
    memory: Aligned,
    /// A write in `memory` that waits for a buffer.
    pub(super) parked: Option<Request>,
    polling: bool,
}

const MESSAGE_START: usize = PAGE_BYTES - WRITE_PAYLOAD_OFFSET;

impl NodeKind for Fuse {
    type Device = LoopDevice;
    type Base = Mount;
    type Opened = Mounted;
    type Plan = FusePlan;
    type Served = Option<Served>;

    const MAKER: &'static str = "rdb-mount";
    const COMPLAINT: Level = Level::Error;

    fn report(message: MessageOf<Fuse>) -> NodeReport {
        NodeReport::Fuse(message)
    }

    fn make(
        mut plan: FusePlan,
        helper: &Helper<Fuse>,
    ) -> Result<(LoopDevice, Mount, bool), String> {
        match plan
            .left
            .take()
            .map(|left| resume(helper, &plan.target, left))
        {
            Some(Ok((device, mount))) => return Ok((device, mount, true)),
            Some(Err(error)) => {
                tracing::error!("{}: not taken over: {error}", plan.target.display());
            }
            None => {}
        }
        let (device, mount) = make(helper, &plan)?;
        Ok((device, mount, false))
    }

    /// Gives both back. Words of complaint if the loop device stays.
    fn give_back(
        device: LoopDevice,
        mount: Mount,
        _stopping: bool,
        _helper: &Helper<Fuse>,
    ) -> Option<String> {
        let end = Instant::now() + Duration::from_millis(DETACH_MS);
        let mut complaint = None;
        loop {
            match device.clone().detach() {
                Ok(()) => break,
                // Somebody else has detached it, and attached what is his.
                Err(LoopError::OtherFile { .. }) => break,
                Err(_) if device.is_lost() => break,
                Err(error) if Instant::now() < end => {
                    tracing::debug!("{error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => {
                    let path = device.path();
                    complaint = Some(format!("{} stays, without a disk: {error}", path.display()));
                    break;
                }
            }
        }
        if let Err(error) = mount.unmount() {
            complaint.get_or_insert(error.to_string());
        }
        complaint
    }

    fn resize(node: &mut Node<Fuse>, io: &Io, spec: DeviceSpec) {
        node.spec = spec;
        if let Some(served) = &mut node.served {
            served.session.set_info(device_info(spec));
        }
        if let Some(device) = node.device().cloned() {
            io.help("rdb-resize", move |_| {
                if let Err(error) = device.set_capacity() {
                    tracing::error!("{error}");
                }
            });
        }
    }
}

impl NodeLife<Fuse> {
    /// It is mounted: serves it. A copy of the connection, for whoever keeps such for the case that this process dies.
    pub(super) fn serve(
        &mut self,
        io: &mut Io,
        id: NodeId,
        mounted: Mounted,
        spec: Option<DeviceSpec>,
    ) -> Option<OwnedFd> {
        let node = self.node_of(id)?;
        let Mounted { fd, is_resumed } = mounted;
        // If nobody wants it any more it is served as it was to be, until it goes.
        node.spec = spec.unwrap_or(node.spec);
        let begin = if is_resumed {
            Session::resumed
        } else {
            Session::new
        };
        let copy = fd.try_clone().ok();
        node.served = Some(Served {
            fd: Rc::new(fd),
            session: begin(device_info(node.spec), Root::File),
            memory: Aligned::zeroed(MESSAGE_SIZE_MAX + 2 * PAGE_BYTES),
            parked: None,
            polling: false,
        });
        poll(io, node);
        copy
    }

    /// Whether something was read that was not begun.
    pub(super) fn has_unread(&self, volume: VolumeNr) -> bool {
        let mut nodes = self.nodes().filter(|node| node.id.volume == volume);
        nodes.any(|node| {
            let served = node.served.as_ref();
            served.is_some_and(|served| served.parked.is_some())
        })
    }

    /// The kernel has something to say; whether there is something to be taken.
    pub(super) fn on_ready(&mut self, id: NodeId, result: i32) -> bool {
        let node = self.node_of(id);
        let Some(served) = node.and_then(|node| node.served.as_mut()) else {
            return false;
        };
        served.polling = false;
        // An error: unmounted, and nobody has the file open any more.
        result >= 0 && result & i32::from(libc::POLLERR) == 0
    }

    /// Takes the kernel's messages until there is a request; if there are no more, asks the ring to say when there are.
    pub(super) fn pump(
        &mut self,
        io: &mut Io,
        queue: &mut Queue,
        turn: &mut Turn,
        id: NodeId,
    ) -> Option<Asked> {
        let node = self.node_of(id)?;
        let volume = id.volume;
        let asked = |request, payload| Asked {
            who: Who::Fuse(id),
            volume,
            request,
            payload,
        };
        loop {
            let served = node.served.as_mut()?;
            if let Some(request) = served.parked {
                let me = Who::Fuse(id);
                let mut buf = queue.take(io, me, request.length)?;
                queue.leave(me);
                if let Some(into) = buf.as_mut_slice() {
                    let from = &served.memory.as_slice()[PAGE_BYTES..PAGE_BYTES + into.len()];
                    into.copy_from_slice(from);
                }
                served.parked = None;
                return Some(asked(request, Some(buf)));
            }
            if turn.is_drained || turn.taken == MESSAGES_A_TURN {
                poll(io, node);
                return None;
            }
            if node.parked {
                return None;
            }
            turn.taken += 1;
            let room = &mut served.memory.as_mut_slice()[MESSAGE_START..];
            // SAFETY: the descriptor is open, `room` is writable memory of the length given. The descriptor is
            // non-blocking.
            let got =
                unsafe { libc::read(served.fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) };
            if got < 0 {
                match std::io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINTR | libc::ENOENT) => {}
                    Some(libc::EAGAIN) => turn.is_drained = true,
                    // ENODEV: unmounted.
                    _ => return None,
                }
                continue;
            }
            match served.session.advance(&room[..got as usize]) {
                Ok(Step::Reply(reply)) => write_all(&served.fd, reply.as_bytes(), &[]),
                Ok(Step::Released(reply)) => {
                    write_all(&served.fd, reply.as_bytes(), &[]);
                    look_after(io, node);
                }
                Ok(Step::Request { request, payload }) if payload.is_empty() => {
                    return Some(asked(request, None));
                }
                Ok(Step::Request { request, .. }) => served.parked = Some(request),
                Ok(Step::Nothing) => {}
                Ok(Step::Destroyed) => return None,
                Err(error) => {
                    let text = format!("from the kernel: {error}");
                    io.log(Level::Error, Some(volume), text);
                }
            }
        }
    }

    /// A device has just come: looks whether it is there still.
    pub(super) fn look_after(&mut self, io: &Io, id: NodeId) {
        if let Some(node) = self.node_of(id) {
            look_after(io, node);
        }
    }

    /// Answers the kernel. Runs amid effects.
    pub(super) fn reply(
        &mut self,
        id: NodeId,
        request: &Request,
        result: Result<(), Errno>,
        payload: Option<&Buf>,
    ) {
        let node = self.node_of(id);
        if let Some(served) = node.and_then(|node| node.served.as_mut()) {
            let header = served.session.reply_header(request, result);
            let data = payload.map_or(&[][..], Buf::as_slice);
            write_all(&served.fd, header.as_bytes(), data);
        }
    }
}

/// Finds out whether somebody else has detached the loop device: the kernel lets it go at the last close, and then the file.
fn look_after(io: &Io, node: &Node<Fuse>) {
    let Some(device) = node.device().cloned() else {
        return;
    };
    node.help(io, "rdb-look", move |helper| {
        if device.is_lost() {
            helper.report(News::Lost);
        }
    });
}

/// Asks the ring to say when the kernel has a request.
fn poll(io: &mut Io, node: &mut Node<Fuse>) {
    let id = node.id;
    let served = node.served.as_mut().filter(|served| !served.polling);
    if let Some(served) = served.filter(|_| !node.parked) {
        served.polling = true;
        let fd = Rc::clone(&served.fd);
        io.ring.start(Op::FusePoll(id, fd));
    }
}

/// Closes the connection of a node that was given up, which the wait for its next request keeps open. Somebody may have opened the
/// device in its last moment, and wait for a request that was under way: nobody will answer that, so the kernel has to fail it.
pub(super) fn close(io: &mut Io, id: NodeId) {
    io.ring
        .cancel_all(|op| matches!(op, Op::FusePoll(node, _) if *node == id));
}

/// One reply is one `writev`, which the kernel takes whole or not at all.
fn write_all(fd: &OwnedFd, header: &[u8], data: &[u8]) {
    let parts = [header, data].map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    let count = if data.is_empty() { 1 } else { 2 };
    loop {
        // SAFETY: the descriptor is open; the vectors describe borrowed memory that is only read.
        let result = unsafe { libc::writev(fd.as_raw_fd(), parts.as_ptr(), count) };
        if result >= 0 {
            return;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // ENOENT: whoever asked was interrupted. ENODEV: unmounted.
            Some(libc::ENOENT | libc::ENODEV) => return,
            _ => return tracing::error!("replying to the kernel's FUSE client: {error}"),
        }
    }
}

/// Makes the mount and the loop device. The loop serves meanwhile.
fn make(helper: &Helper<Fuse>, plan: &FusePlan) -> Result<(LoopDevice, Mount), String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let target = &plan.target;
    prepare(target).map_err(|error| format!("{}: {error}", target.display()))?;
    let (fd, mount) = mount(target, Kind::File, &plan.source).map_err(|error| words(&error))?;
    serve(helper, fd, false)?;
    let options = AttachOptions {
        block_size: plan.block_size,
        read_only: false,
    };
    let device = LoopDevice::attach(target, options).map_err(|error| words(&error))?;
    Ok((device, mount))
}

/// Goes on with the mount and the loop device of an earlier process.
fn resume(
    helper: &Helper<Fuse>,
    target: &Path,
    left: LeftSession,
) -> Result<(LoopDevice, Mount), String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    // Should this fail, the mount is undone.
    let mount = Mount::adopt(target).map_err(|error| words(&error))?;
    let is_asked_again = resend(left.connection.as_fd()).map_err(|error| words(&error))?;
    if !is_asked_again && !left.is_drained {
        return Err(
            "the kernel does not ask again for what a dead daemon left unanswered (Linux 6.9 does)"
                .to_owned(),
        );
    }
    serve(helper, left.connection, true)?;
    let device = LoopDevice::serving(target)
        .map_err(|error| words(&error))?
        .ok_or("its loop device is gone")?;
    device.set_capacity().map_err(|error| words(&error))?;
    Ok((device, mount))
}

/// Has the loop serve a connection.
fn serve(helper: &Helper<Fuse>, fd: OwnedFd, is_resumed: bool) -> Result<(), String> {
    match helper.report(News::Opened(Mounted { fd, is_resumed })) {
        true => Ok(()),
        false => Err("the resource is being stopped".to_owned()),
    }
}

/// An empty file to mount on, without what a dead daemon left there.
fn prepare(target: &Path) -> io::Result<()> {
    let directory: PathBuf = target.parent().unwrap_or(Path::new(".")).to_owned();
    std::fs::create_dir_all(&directory)?;
    for device in LoopDevice::attached_to(target).map_err(io::Error::other)? {
        // One that is still used has lost its disk for good. Its users do not keep others from a new one.
        if let Err(error) = device.detach() {
            tracing::warn!("left by a daemon that died, and without a disk: {error}");
        }
    }
    clear_stale(target).map_err(io::Error::other)?;
    if !target.exists() {
        // Nothing that has come there meanwhile is opened, and no link is followed.
        std::fs::File::create_new(target)?;
    }
    Ok(())
}
