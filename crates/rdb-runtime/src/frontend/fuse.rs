//! The device node: a loop device over a file that this thread serves by FUSE.
//!
//! Mounting, attaching and giving back wait for answers of this very thread, so helper threads do them and report by
//! message. One device of a volume is given back completely before the next one is made.
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
use rdb_frontend::loopdev::{AttachOptions, LoopDevice};
use rdb_frontend::{Errno, Request};

use super::{Origin, Starved, device_info};
use crate::api::{Caller, Notice};
use crate::engine::Engine;
use crate::event_loop::EventLoop;
use crate::mailbox::{Mailbox, Message};
use crate::op::Op;
use crate::pool::{Aligned, PAGE_BYTES};

/// Messages taken from one device before others get their turn.
const MESSAGES_A_TURN: usize = 64;
/// How long a loop device that somebody still uses is asked for again.
const DETACH_MS: u64 = 10_000;

/// What helper threads report.
pub(crate) enum FuseMessage {
    /// Mounted: serve it.
    Mounted {
        volume: VolumeNr,
        generation: u32,
        fd: OwnedFd,
        /// An earlier process has begun it.
        is_resumed: bool,
    },
    /// The loop device is there.
    Up {
        volume: VolumeNr,
        generation: u32,
        device: LoopDevice,
        mount: Mount,
    },
    /// It could not be made.
    Failed {
        volume: VolumeNr,
        generation: u32,
        error: String,
    },
    /// It is given back; the words are a complaint.
    Gone {
        volume: VolumeNr,
        generation: u32,
        complaint: Option<String>,
    },
    /// The answer to `ask_who_holds`.
    Held {
        volume: VolumeNr,
        held: bool,
        reply: Caller,
    },
}

/// A volume's device node, in the making, there, or going.
pub(crate) struct FuseDevice {
    pub(super) volume: VolumeNr,
    generation: u32,
    pub(super) stage: Stage,
    pub(super) served: Option<Served>,
    /// The device it is to become once this one is given back.
    next: Option<DeviceSpec>,
    /// Nothing more is read: it is for the next process.
    pub(super) parked: bool,
}

pub(super) enum Stage {
    Starting { unwanted: bool },
    Up { device: LoopDevice, mount: Mount },
    Stopping,
}

/// The connection to the kernel's FUSE client.
pub(super) struct Served {
    pub(super) fd: Rc<OwnedFd>,
    session: Session,
    /// One message; a write's data begins at a page.
    memory: Aligned,
    /// A write in `memory` that waits for a buffer.
    pub(super) parked: Option<Request>,
    polling: bool,
}

const MESSAGE_START: usize = PAGE_BYTES - WRITE_PAYLOAD_OFFSET;

impl<E: Engine> EventLoop<E> {
    pub(super) fn fuse(&mut self, volume: VolumeNr) -> Option<&mut FuseDevice> {
        self.front
            .fuse
            .iter_mut()
            .find(|device| device.volume == volume)
    }

    fn fuse_of(&mut self, volume: VolumeNr, generation: u32) -> Option<&mut FuseDevice> {
        self.fuse(volume)
            .filter(|device| device.generation == generation)
    }

    pub(super) fn fuse_device_up(&mut self, nr: VolumeNr, spec: DeviceSpec) {
        let Some(device) = self.fuse(nr) else {
            return self.start_fuse(nr, spec);
        };
        match &mut device.stage {
            Stage::Up { device: node, .. } => {
                let node = node.clone();
                if let Some(served) = &mut device.served {
                    served.session.set_info(device_info(spec));
                }
                self.io.notify(Notice::DeviceUp {
                    volume: nr,
                    spec,
                    node: Some(node.path()),
                });
                self.io.help("rdb-resize", move |_| {
                    if let Err(error) = node.set_capacity() {
                        tracing::error!("{error}");
                    }
                });
            }
            Stage::Starting { .. } | Stage::Stopping => device.next = Some(spec),
        }
    }

    /// Begins to give a device node back; whether there is one.
    pub(super) fn fuse_device_down(&mut self, nr: VolumeNr) -> bool {
        let Some(device) = self.fuse(nr) else {
            return false;
        };
        if device.parked {
            return true;
        }
        device.next = None;
        let generation = device.generation;
        match std::mem::replace(&mut device.stage, Stage::Stopping) {
            Stage::Up {
                device: node,
                mount,
            } => {
                self.io.help("rdb-detach", move |mailbox| {
                    let complaint = give_back(node, mount);
                    let gone = FuseMessage::Gone {
                        volume: nr,
                        generation,
                        complaint,
                    };
                    mailbox.post(Message::Fuse(gone));
                });
            }
            Stage::Starting { .. } => device.stage = Stage::Starting { unwanted: true },
            Stage::Stopping => {}
        }
        true
    }

    fn start_fuse(&mut self, nr: VolumeNr, spec: DeviceSpec) {
        let generation = self.front.next_generation();
        self.front.fuse.push(FuseDevice {
            volume: nr,
            generation,
            stage: Stage::Starting { unwanted: false },
            served: None,
            next: Some(spec),
            parked: false,
        });
        let target = self.fuse_target(nr);
        let left = self.take_left_session(nr);
        let source = format!("{}/{nr}", self.io.config.name);
        let block_size = spec.logical_block_bytes;
        self.io.help("rdb-mount", move |mailbox| {
            let made = match left.map(|left| resume(&mailbox, nr, generation, &target, left)) {
                Some(Ok(made)) => Ok(made),
                resumed => {
                    if let Some(Err(error)) = resumed {
                        tracing::error!("{}: not taken over: {error}", target.display());
                    }
                    make(&mailbox, nr, generation, &target, &source, block_size)
                }
            };
            let message = match made {
                Ok((device, mount)) => FuseMessage::Up {
                    volume: nr,
                    generation,
                    device,
                    mount,
                },
                Err(error) => FuseMessage::Failed {
                    volume: nr,
                    generation,
                    error,
                },
            };
            mailbox.post(Message::Fuse(message));
        });
    }

    pub(crate) fn on_fuse_message(&mut self, message: FuseMessage) {
        match message {
            FuseMessage::Held {
                volume,
                held,
                reply,
            } => self.secondary(volume, held, reply),
            FuseMessage::Mounted {
                volume,
                generation,
                fd,
                is_resumed,
            } => {
                let spec = self.volume(volume).device;
                let Some(device) = self.fuse_of(volume, generation) else {
                    return;
                };
                let Some(spec) = spec.or(device.next) else {
                    return;
                };
                let begin = if is_resumed {
                    Session::resumed
                } else {
                    Session::new
                };
                let copy = fd.try_clone().ok().map(std::sync::Arc::new);
                device.served = Some(Served {
                    fd: Rc::new(fd),
                    session: begin(device_info(spec), Root::File),
                    memory: Aligned::zeroed(MESSAGE_SIZE_MAX + 2 * PAGE_BYTES),
                    parked: None,
                    polling: false,
                });
                if copy.is_some() {
                    self.announce_session(volume, copy);
                }
                self.poll_fuse(volume);
            }
            FuseMessage::Up {
                volume,
                generation,
                device: node,
                mount,
            } => {
                let spec = self.volume(volume).device;
                let Some(device) = self.fuse_of(volume, generation) else {
                    return;
                };
                let unwanted = matches!(device.stage, Stage::Starting { unwanted: true });
                let next = device.next.take();
                let path = node.path();
                device.stage = Stage::Up {
                    device: node,
                    mount,
                };
                match spec.filter(|_| !unwanted) {
                    None => {
                        self.fuse_device_down(volume);
                        if let Some(device) = self.fuse(volume) {
                            device.next = spec;
                        }
                    }
                    Some(spec) if next == Some(spec) => {
                        let node = Some(path);
                        self.io.notify(Notice::DeviceUp { volume, spec, node });
                    }
                    // It was resized while it was made.
                    Some(spec) => self.fuse_device_up(volume, spec),
                }
            }
            FuseMessage::Failed {
                volume,
                generation,
                error,
            } => {
                if self.fuse_of(volume, generation).is_none() {
                    return;
                }
                self.front.fuse.retain(|device| device.volume != volume);
                let text = format!("no device node, only the NBD socket: {error}");
                self.io.log(Level::Error, Some(volume), text);
                let reason = error.to_string();
                self.io.notify(Notice::NoDevice { volume, reason });
                match self.volume(volume).device {
                    Some(spec) => self.announce_without_node(volume, spec),
                    None => self.io.notify(Notice::DeviceDown { volume }),
                }
            }
            FuseMessage::Gone {
                volume,
                generation,
                complaint,
            } => {
                let Some(device) = self.fuse_of(volume, generation) else {
                    return;
                };
                let next = device.next.take();
                self.front.fuse.retain(|device| device.volume != volume);
                self.front
                    .starved
                    .retain(|other| *other != Starved::Fuse { volume });
                if let Some(complaint) = complaint {
                    self.io.log(Level::Error, Some(volume), complaint);
                }
                self.announce_session(volume, None);
                self.io.notify(Notice::DeviceDown { volume });
                if let Some(spec) = self.volume(volume).device.and(next) {
                    self.start_fuse(volume, spec);
                }
            }
        }
    }

    /// Finds out whether somebody uses the loop device, then goes on with the demotion; the reply comes back if there is
    /// none.
    pub(super) fn ask_who_holds_loop(&mut self, volume: VolumeNr, reply: Caller) -> Option<Caller> {
        let Some(node) = self.loop_device_up(volume) else {
            return Some(reply);
        };
        self.io.help("rdb-holders", move |mailbox| {
            let held = super::is_held(|| node.is_held(), || node.holders());
            let answer = FuseMessage::Held {
                volume,
                held,
                reply,
            };
            mailbox.post(Message::Fuse(answer));
        });
        None
    }

    /// The loop device of a volume that is up.
    pub(super) fn loop_device_up(&self, nr: VolumeNr) -> Option<LoopDevice> {
        let found = self.front.fuse.iter().find(|device| device.volume == nr)?;
        match &found.stage {
            Stage::Up { device, .. } => Some(device.clone()),
            Stage::Starting { .. } | Stage::Stopping => None,
        }
    }

    /// Asks the ring to say when the kernel has a request.
    fn poll_fuse(&mut self, volume: VolumeNr) {
        let Some(device) = self
            .front
            .fuse
            .iter_mut()
            .find(|device| device.volume == volume)
        else {
            return;
        };
        if device.parked {
            return;
        }
        let generation = device.generation;
        let Some(served) = device.served.as_mut().filter(|served| !served.polling) else {
            return;
        };
        served.polling = true;
        let fd = Rc::clone(&served.fd);
        self.io.ring.start(Op::FusePoll(volume, generation, fd));
    }

    pub(crate) fn on_fuse_ready(&mut self, volume: VolumeNr, generation: u32, result: i32) {
        let Some(served) = self
            .fuse_of(volume, generation)
            .and_then(|device| device.served.as_mut())
        else {
            return;
        };
        served.polling = false;
        if result < 0 || result & i32::from(libc::POLLERR) != 0 {
            // Unmounted, and nobody has the file open any more.
            return;
        }
        self.pump_fuse(volume);
    }

    /// Takes the kernel's messages until there are none.
    fn pump_fuse(&mut self, volume: VolumeNr) {
        for _ in 0..MESSAGES_A_TURN {
            if !self.unpark(volume) {
                return;
            }
            let Some(device) = self.fuse(volume).filter(|device| !device.parked) else {
                return;
            };
            let generation = device.generation;
            let Some(served) = &mut device.served else {
                return;
            };
            let room = &mut served.memory.as_mut_slice()[MESSAGE_START..];
            // SAFETY: the descriptor is open, `room` is writable memory of the length given. The descriptor is
            // non-blocking.
            let got =
                unsafe { libc::read(served.fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) };
            if got < 0 {
                match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINTR | libc::ENOENT) => continue,
                    Some(libc::EAGAIN) => break,
                    // ENODEV: unmounted.
                    _ => return,
                }
            }
            let message = &room[..got as usize];
            match served.session.advance(message) {
                Ok(Step::Reply(reply)) => write_all(&served.fd, reply.as_bytes(), &[]),
                Ok(Step::Request { request, payload }) if payload.is_empty() => {
                    let origin = Origin::Fuse { volume, generation };
                    self.submit(origin, volume, request, None);
                }
                Ok(Step::Request { request, .. }) => served.parked = Some(request),
                Ok(Step::Nothing) => {}
                Ok(Step::Destroyed) => return,
                Err(error) => {
                    self.io.log(
                        Level::Error,
                        Some(volume),
                        format!("from the kernel: {error}"),
                    );
                }
            }
        }
        if self.unpark(volume) {
            self.poll_fuse(volume);
        }
    }

    /// Submits a write that is parked; `false` if it has to wait for a buffer.
    fn unpark(&mut self, volume: VolumeNr) -> bool {
        let me = Starved::Fuse { volume };
        let first = self.front.starved.front().is_none_or(|first| *first == me);
        let Some(device) = self
            .front
            .fuse
            .iter_mut()
            .find(|device| device.volume == volume)
        else {
            return true;
        };
        let generation = device.generation;
        let Some(served) = &mut device.served else {
            return true;
        };
        let Some(request) = served.parked else {
            return true;
        };
        let buf = if first {
            self.io.pool.take_for_write(request.length)
        } else {
            None
        };
        let Some(mut buf) = buf else {
            if !self.front.starved.contains(&me) {
                self.front.starved.push_back(me);
            }
            self.watch_clients();
            return false;
        };
        self.front.starved.retain(|other| *other != me);
        if let Some(into) = buf.as_mut_slice() {
            let from = &served.memory.as_slice()[PAGE_BYTES..PAGE_BYTES + into.len()];
            into.copy_from_slice(from);
        }
        served.parked = None;
        self.submit(
            Origin::Fuse { volume, generation },
            volume,
            request,
            Some(buf),
        );
        true
    }

    pub(super) fn retry_fuse(&mut self, volume: VolumeNr) -> bool {
        let me = Starved::Fuse { volume };
        if self.fuse(volume).is_none() {
            self.front.starved.retain(|other| *other != me);
            return true;
        }
        self.pump_fuse(volume);
        self.front.starved.front() != Some(&me)
    }

    /// Answers the kernel. Runs amid effects.
    pub(super) fn reply_to_kernel(
        &mut self,
        volume: VolumeNr,
        generation: u32,
        request: &Request,
        result: Result<(), Errno>,
        payload: Option<crate::pool::Buf>,
    ) {
        let Some(served) = self
            .fuse_of(volume, generation)
            .and_then(|device| device.served.as_mut())
        else {
            return;
        };
        let header = served.session.reply_header(request, result);
        let data = payload
            .as_ref()
            .map_or(&[][..], |payload| payload.as_slice());
        write_all(&served.fd, header.as_bytes(), data);
    }
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

/// Makes the mount and the loop device. On a helper thread: the loop serves meanwhile.
fn make(
    mailbox: &Mailbox,
    volume: VolumeNr,
    generation: u32,
    target: &Path,
    source: &str,
    block_size: u32,
) -> Result<(LoopDevice, Mount), String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    prepare(target).map_err(|error| format!("{}: {error}", target.display()))?;
    let (fd, mount) = mount(target, Kind::File, source).map_err(|error| words(&error))?;
    if !mailbox.post(Message::Fuse(FuseMessage::Mounted {
        volume,
        generation,
        fd,
        is_resumed: false,
    })) {
        return Err("the resource is being stopped".to_owned());
    }
    let options = AttachOptions {
        block_size,
        read_only: false,
    };
    let device = LoopDevice::attach(target, options).map_err(|error| words(&error))?;
    Ok((device, mount))
}

/// Goes on with the mount and the loop device of an earlier process. On a helper thread, too.
fn resume(
    mailbox: &Mailbox,
    volume: VolumeNr,
    generation: u32,
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
    if !mailbox.post(Message::Fuse(FuseMessage::Mounted {
        volume,
        generation,
        fd: left.connection,
        is_resumed: true,
    })) {
        return Err("the resource is being stopped".to_owned());
    }
    let device = LoopDevice::serving(target)
        .map_err(|error| words(&error))?
        .ok_or("its loop device is gone")?;
    device.set_capacity().map_err(|error| words(&error))?;
    tracing::info!(
        "took {} over, with whoever has it open",
        device.path().display()
    );
    Ok((device, mount))
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

/// Gives both back. Words of complaint if the loop device stays.
fn give_back(device: LoopDevice, mount: Mount) -> Option<String> {
    let end = Instant::now() + Duration::from_millis(DETACH_MS);
    let mut complaint = None;
    loop {
        match device.clone().detach() {
            Ok(()) => break,
            Err(error) if Instant::now() < end => {
                tracing::debug!("{error}");
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => {
                complaint = Some(format!(
                    "{} stays, without a disk: {error}",
                    device.path().display()
                ));
                break;
            }
        }
    }
    if let Err(error) = mount.unmount() {
        complaint.get_or_insert(error.to_string());
    }
    complaint
}
