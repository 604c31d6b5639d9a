//! The device node by ublk: the driver's requests come through this thread's own ring.
//!
//! Making, taking over and giving back wait for answers of this very thread, so helper threads do them and report by
//! message, as with FUSE. One device of a volume is given back completely before the next one is made.
//!
//! A device outlives its server. Whether the next one may take it over is decided in [`handover`](super::handover).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rdb_engine::{DeviceSpec, Level, VolumeNr};
use rdb_frontend::ublk::{Channel, Opened, Preparing, Tag, Took, UblkDevice};
use rdb_frontend::{Errno, Op as FrontOp, Request};

use super::handover::Left;
use super::{Origin, Starved, device_info};
use crate::api::{Caller, Notice};
use crate::engine::Engine;
use crate::event_loop::EventLoop;
use crate::mailbox::{Mailbox, Message};
use crate::op::Op;
use crate::pool::Buf;

/// What helper threads report.
pub(crate) enum UblkMessage {
    /// There is a channel: serve it.
    Opened {
        volume: VolumeNr,
        generation: u32,
        opened: Opened,
    },
    /// The device is there.
    Up {
        volume: VolumeNr,
        generation: u32,
        device: UblkDevice,
        took: Took,
    },
    /// It could not be made.
    Failed {
        volume: VolumeNr,
        generation: u32,
        error: String,
    },
    /// No more requests come: the channel can go.
    Stopped { volume: VolumeNr, generation: u32 },
    /// It is given back, or left for the next process; the words are for the log.
    Gone {
        volume: VolumeNr,
        generation: u32,
        complaint: Option<String>,
    },
    /// A device that a dead process left was removed.
    Dropped { volume: VolumeNr },
    /// The answer to `ask_who_holds`.
    Held {
        volume: VolumeNr,
        held: bool,
        reply: Caller,
    },
}

/// A volume's device, in the making, there, or going.
pub(crate) struct UblkNode {
    volume: VolumeNr,
    generation: u32,
    stage: Stage,
    channel: Option<Channel>,
    /// Writes for which there is no buffer.
    waiting: VecDeque<Request>,
    /// The device it is to become once this one is given back.
    next: Option<DeviceSpec>,
    /// As the driver has it.
    spec: DeviceSpec,
    /// Its requests wait for the next process.
    parked: bool,
}

impl UblkNode {
    pub(super) fn is_parked(&self, nr: VolumeNr) -> bool {
        self.volume == nr && self.parked
    }
}

enum Stage {
    Starting { unwanted: bool },
    Up { device: UblkDevice },
    Stopping,
}

impl<E: Engine> EventLoop<E> {
    fn ublk(&mut self, volume: VolumeNr) -> Option<&mut UblkNode> {
        self.front
            .ublk
            .iter_mut()
            .find(|node| node.volume == volume)
    }

    fn ublk_of(&mut self, volume: VolumeNr, generation: u32) -> Option<&mut UblkNode> {
        self.ublk(volume)
            .filter(|node| node.generation == generation)
    }

    /// Serves no more requests of a device that is up: they wait for the next process. Whether there is one.
    pub(super) fn park_ublk(&mut self, nr: VolumeNr) -> bool {
        let Some(node) = self.ublk(nr) else {
            return false;
        };
        if !matches!(node.stage, Stage::Up { .. }) {
            return false;
        }
        node.parked = true;
        // What was not begun is asked again, of the next one.
        node.waiting.clear();
        self.front
            .starved
            .retain(|other| *other != Starved::Ublk { volume: nr });
        true
    }

    /// Lets go of parked devices without giving them back.
    pub(super) fn leave_parked_ublk(&mut self) {
        self.front.ublk.retain(|node| !node.parked);
    }

    /// The device of a volume that is up.
    pub(super) fn ublk_up(&self, nr: VolumeNr) -> Option<UblkDevice> {
        let node = self.front.ublk.iter().find(|node| node.volume == nr)?;
        match &node.stage {
            Stage::Up { device } => Some(device.clone()),
            Stage::Starting { .. } | Stage::Stopping => None,
        }
    }

    pub(super) fn ublk_device_up(&mut self, nr: VolumeNr, spec: DeviceSpec) {
        let Some(node) = self.ublk(nr) else {
            return self.start_ublk(nr, spec);
        };
        match &node.stage {
            Stage::Up { device } => {
                let (path, same) = (device.path(), node.spec == spec);
                if !same {
                    let text = format!(
                        "{} keeps its size until this node is Secondary again: the driver cannot change it",
                        path.display()
                    );
                    self.io.log(Level::Warn, Some(nr), text);
                }
                self.io.notify(Notice::DeviceUp {
                    volume: nr,
                    spec,
                    node: Some(path),
                });
            }
            Stage::Starting { .. } | Stage::Stopping => node.next = Some(spec),
        }
    }

    /// Begins to give a device back; whether there is one.
    pub(super) fn ublk_device_down(&mut self, nr: VolumeNr) -> bool {
        let stopping = self.front.stopping;
        let Some(node) = self.ublk(nr) else {
            return false;
        };
        if node.parked {
            return true;
        }
        node.next = None;
        let generation = node.generation;
        match std::mem::replace(&mut node.stage, Stage::Stopping) {
            Stage::Up { device } => self.io.help("rdb-detach", move |mailbox| {
                let complaint = give_back(device, stopping, &mailbox, nr, generation);
                post(
                    &mailbox,
                    UblkMessage::Gone {
                        volume: nr,
                        generation,
                        complaint,
                    },
                );
            }),
            Stage::Starting { .. } => node.stage = Stage::Starting { unwanted: true },
            Stage::Stopping => {}
        }
        true
    }

    fn start_ublk(&mut self, nr: VolumeNr, spec: DeviceSpec) {
        let generation = self.front.next_generation();
        self.front.ublk.push(UblkNode {
            volume: nr,
            generation,
            stage: Stage::Starting { unwanted: false },
            channel: None,
            waiting: VecDeque::new(),
            next: Some(spec),
            spec,
            parked: false,
        });
        let minor = self.minor_of(nr);
        let identity = self.ublk_identity(nr);
        // Whatever is left afterwards is of this process.
        let volume = self.volume(nr);
        let may_take_over = volume.left == Left::Same;
        volume.left = Left::Foreign;
        let info = device_info(spec);
        let removals = self.removals_of_left_devices(nr);
        self.io.help("rdb-ublk", move |mailbox| {
            for removal in removals {
                // It ends by closing, whatever came of it.
                let _ = removal.recv();
            }
            let made = Preparing::new(minor, identity, &info, may_take_over)
                .map_err(|error| error.to_string())
                .and_then(|mut preparing| {
                    let took = preparing.took();
                    let Some(opened) = preparing.take_channel() else {
                        return Err("it has no channel".to_owned());
                    };
                    let opened = UblkMessage::Opened {
                        volume: nr,
                        generation,
                        opened,
                    };
                    if !mailbox.post(Message::Ublk(opened)) {
                        preparing.abandon();
                        return Err("the resource is being stopped".to_owned());
                    }
                    let device = preparing.finish().map_err(|error| error.to_string())?;
                    Ok((device, took))
                });
            let message = match made {
                Ok((device, took)) => UblkMessage::Up {
                    volume: nr,
                    generation,
                    device,
                    took,
                },
                Err(error) => UblkMessage::Failed {
                    volume: nr,
                    generation,
                    error,
                },
            };
            post(&mailbox, message);
        });
    }

    pub(crate) fn on_ublk_message(&mut self, message: UblkMessage) {
        match message {
            UblkMessage::Held {
                volume,
                held,
                reply,
            } => self.secondary(volume, held, reply),
            UblkMessage::Opened {
                volume,
                generation,
                opened,
            } => {
                let Some(node) = self.ublk_of(volume, generation) else {
                    return;
                };
                let channel = Channel::from(opened);
                let (fd, tags) = (channel.fd(), channel.tags());
                node.channel = Some(channel);
                for tag in tags {
                    self.start_tag(volume, generation, &fd, tag, None);
                }
            }
            UblkMessage::Up {
                volume,
                generation,
                device,
                took,
            } => {
                let spec = self.volume(volume).device;
                let Some(node) = self.ublk_of(volume, generation) else {
                    return;
                };
                let unwanted = matches!(node.stage, Stage::Starting { unwanted: true });
                node.next = None;
                let path = device.path();
                node.stage = Stage::Up { device };
                if took == Took::Over {
                    let text = format!("took {} over, with whoever has it open", path.display());
                    self.io.log(Level::Info, Some(volume), text);
                }
                match spec.filter(|_| !unwanted) {
                    Some(spec) => self.ublk_device_up(volume, spec),
                    None => {
                        self.ublk_device_down(volume);
                        if let Some(node) = self.ublk(volume) {
                            node.next = spec;
                        }
                    }
                }
            }
            UblkMessage::Failed {
                volume,
                generation,
                error,
            } => {
                if self.ublk_of(volume, generation).is_none() {
                    return;
                }
                self.forget_ublk(volume);
                // One that could not be taken over must not be later, when others have written by the NBD socket.
                self.left_device_is_foreign(volume);
                let text = format!("no device node, only the NBD socket: {error}");
                self.io.log(Level::Error, Some(volume), text);
                let reason = error.to_string();
                self.io.notify(Notice::NoDevice { volume, reason });
                match self.volume(volume).device {
                    Some(spec) => self.announce_without_node(volume, spec),
                    None => self.io.notify(Notice::DeviceDown { volume }),
                }
            }
            UblkMessage::Stopped { volume, generation } => {
                if let Some(node) = self.ublk_of(volume, generation) {
                    node.channel = None;
                }
            }
            UblkMessage::Gone {
                volume,
                generation,
                complaint,
            } => {
                let Some(node) = self.ublk_of(volume, generation) else {
                    return;
                };
                let next = node.next.take();
                self.forget_ublk(volume);
                if let Some(complaint) = complaint {
                    self.io.log(Level::Warn, Some(volume), complaint);
                }
                self.io.notify(Notice::DeviceDown { volume });
                if let Some(spec) = self.volume(volume).device.and(next) {
                    self.start_ublk(volume, spec);
                }
            }
            UblkMessage::Dropped { volume } => self.left_device_dropped(volume),
        }
    }

    fn forget_ublk(&mut self, volume: VolumeNr) {
        self.front.ublk.retain(|node| node.volume != volume);
        self.front
            .starved
            .retain(|other| *other != Starved::Ublk { volume });
    }

    /// Finds out whether somebody uses the device, then goes on with the demotion. `false`: there is none to ask about.
    pub(super) fn ask_who_holds_ublk(&mut self, volume: VolumeNr, reply: Caller) -> Option<Caller> {
        let Some(device) = self.ublk_up(volume) else {
            return Some(reply);
        };
        self.io.help("rdb-holders", move |mailbox| {
            let held = super::is_held(|| device.is_held(), || device.holders());
            post(
                &mailbox,
                UblkMessage::Held {
                    volume,
                    held,
                    reply,
                },
            );
        });
        None
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
        let spec = match self.ublk_of(volume, generation) {
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
            .ublk_of(volume, generation)
            .and_then(|node| node.channel.as_ref())
        else {
            return;
        };
        match channel.request(tag, &info) {
            Ok(request) if request.op == FrontOp::Write => {
                if let Some(node) = self.ublk_of(volume, generation) {
                    node.waiting.push_back(request);
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
            let Some(node) = self
                .front
                .ublk
                .iter_mut()
                .find(|node| node.volume == volume)
            else {
                return true;
            };
            let generation = node.generation;
            let Some(&request) = node.waiting.front() else {
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
            node.waiting.pop_front();
            let tag = Tag::from_u64(request.tag);
            let read = match (&node.channel, buf.as_mut_slice()) {
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
        if self.ublk(volume).is_none() {
            self.front.starved.retain(|other| *other != me);
        }
        self.front.starved.front() != Some(&me)
    }

    fn complete_tag(&mut self, volume: VolumeNr, generation: u32, tag: Tag, result: i32) {
        let fd = self
            .ublk_of(volume, generation)
            .and_then(|node| node.channel.as_ref())
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
            .ublk_of(volume, generation)
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
                .ublk_of(volume, generation)
                .and_then(|node| node.channel.as_ref())
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

fn post(mailbox: &Mailbox, message: UblkMessage) {
    // Without a loop there is nobody to tell.
    mailbox.post(Message::Ublk(message));
}

/// Gives a device back; words for the log, if something is to be said. When the process ends, a device in use stays for the
/// next one to take over.
fn give_back(
    device: UblkDevice,
    stopping: bool,
    mailbox: &Mailbox,
    volume: VolumeNr,
    generation: u32,
) -> Option<String> {
    let path = device.path();
    if stopping && device.is_held().unwrap_or(true) {
        return Some(format!(
            "{} is in use and stays: its requests wait until this node is Primary again",
            path.display()
        ));
    }
    let stopped = || post(mailbox, UblkMessage::Stopped { volume, generation });
    device
        .give_back(stopped)
        .err()
        .map(|error| error.to_string())
}
