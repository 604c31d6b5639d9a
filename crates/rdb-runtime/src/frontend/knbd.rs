//! The device node by the kernel's NBD client, each connection of which is served as a client of the NBD server that needs no
//! negotiation.
//!
//! Making, taking over and giving back wait for answers of this very thread, so helper threads do them and report by
//! message, as with ublk. One device of a volume is given back completely before the next one is made. Like a ublk device it
//! outlives its server; see [`handover`](super::handover).

use std::os::fd::OwnedFd;

use rdb_engine::{DeviceSpec, Level, VolumeNr};
use rdb_frontend::knbd::{KnbdDevice, Preparing, identity};

use super::device_info;
use super::handover::Left;
use crate::api::{Caller, Notice};
use crate::engine::Engine;
use crate::event_loop::EventLoop;
use crate::mailbox::{Mailbox, Message};

/// What helper threads report.
pub(crate) enum KnbdMessage {
    /// There is a socket: serve it.
    Opened {
        volume: VolumeNr,
        generation: u32,
        socket: OwnedFd,
    },
    /// The device is there.
    Up {
        volume: VolumeNr,
        generation: u32,
        device: KnbdDevice,
        taken_over: bool,
    },
    /// One of its connections had ended, and it was tried to give it a new one.
    Reconnected {
        volume: VolumeNr,
        generation: u32,
        complaint: Option<String>,
    },
    /// It could not be made.
    Failed {
        volume: VolumeNr,
        generation: u32,
        error: String,
    },
    /// It is given back, or left for the next process; the words are for the log.
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

/// A volume's device, in the making, there, or going.
pub(crate) struct KnbdNode {
    pub(super) volume: VolumeNr,
    generation: u32,
    stage: Stage,
    /// The device it is to become once this one is given back.
    next: Option<DeviceSpec>,
    /// As the driver has it.
    spec: DeviceSpec,
    /// Its requests wait for the next process.
    pub(super) parked: bool,
}

impl KnbdNode {
    /// The device, if it is up.
    fn device(&self) -> Option<&KnbdDevice> {
        match &self.stage {
            Stage::Up { device } => Some(device),
            Stage::Starting { .. } | Stage::Stopping => None,
        }
    }
}

enum Stage {
    Starting { unwanted: bool },
    Up { device: KnbdDevice },
    Stopping,
}

impl<E: Engine> EventLoop<E> {
    fn knbd(&mut self, volume: VolumeNr) -> Option<&mut KnbdNode> {
        let mut nodes = self.front.knbd.iter_mut();
        nodes.find(|node| node.volume == volume)
    }

    fn knbd_of(&mut self, volume: VolumeNr, generation: u32) -> Option<&mut KnbdNode> {
        self.knbd(volume)
            .filter(|node| node.generation == generation)
    }

    /// Serves no more requests of a device that is up: they wait for the next process. Whether there is one.
    pub(super) fn park_knbd(&mut self, nr: VolumeNr) -> bool {
        match self.knbd(nr) {
            Some(node) if matches!(node.stage, Stage::Up { .. }) => node.parked = true,
            _ => return false,
        }
        self.park_kernel_client(nr);
        true
    }

    /// The device of a volume that is up.
    pub(super) fn knbd_up(&self, nr: VolumeNr) -> Option<KnbdDevice> {
        let node = self.front.knbd.iter().find(|node| node.volume == nr)?;
        node.device().cloned()
    }

    pub(super) fn knbd_device_up(&mut self, nr: VolumeNr, spec: DeviceSpec) {
        let Some(node) = self.knbd(nr) else {
            return self.start_knbd(nr, spec);
        };
        match &node.stage {
            Stage::Up { device } => {
                let (path, same) = (device.path(), node.spec == spec);
                if !same {
                    let text = format!(
                        "{} keeps its size until this node is Secondary again",
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
    pub(super) fn knbd_device_down(&mut self, nr: VolumeNr) -> bool {
        let stopping = self.front.stopping;
        let Some(node) = self.knbd(nr) else {
            return false;
        };
        if node.parked {
            return true;
        }
        node.next = None;
        let generation = node.generation;
        match std::mem::replace(&mut node.stage, Stage::Stopping) {
            Stage::Up { device } => self.io.help("rdb-detach", move |mailbox| {
                let gone = KnbdMessage::Gone {
                    volume: nr,
                    generation,
                    complaint: give_back(device, stopping),
                };
                post(&mailbox, gone);
            }),
            Stage::Starting { .. } => node.stage = Stage::Starting { unwanted: true },
            Stage::Stopping => {}
        }
        true
    }

    fn start_knbd(&mut self, nr: VolumeNr, spec: DeviceSpec) {
        let generation = self.front.next_generation();
        self.front.knbd.push(KnbdNode {
            volume: nr,
            generation,
            stage: Stage::Starting { unwanted: false },
            next: Some(spec),
            spec,
            parked: false,
        });
        let minor = self.minor_of(nr);
        let identity = identity(&self.io.config.run_dir, &self.io.config.name, nr.0.into());
        // Whatever is left afterwards is of this process.
        let volume = self.volume(nr);
        let may_take_over = volume.left == Left::Same;
        volume.left = Left::Foreign;
        let info = device_info(spec);
        let removals = self.removals_of_left_devices(nr);
        let connections = self.io.config.nbd_connections;
        self.io.help("rdb-nbd", move |mailbox| {
            for removal in removals {
                // It ends by closing, whatever came of it.
                let _ = removal.recv();
            }
            let made = Preparing::new(minor, identity, &info, may_take_over).and_then(|made| {
                let taken_over = made.takes_over();
                let serve = |socket| open(&mailbox, nr, generation, socket);
                made.finish(connections, serve)
                    .map(|device| (device, taken_over))
            });
            let message = match made {
                Ok((device, taken_over)) => KnbdMessage::Up {
                    volume: nr,
                    generation,
                    device,
                    taken_over,
                },
                Err(error) => KnbdMessage::Failed {
                    volume: nr,
                    generation,
                    error: error.to_string(),
                },
            };
            post(&mailbox, message);
        });
    }

    pub(crate) fn on_knbd_message(&mut self, message: KnbdMessage) {
        match message {
            KnbdMessage::Held {
                volume,
                held,
                reply,
            } => self.secondary(volume, held, reply),
            KnbdMessage::Opened {
                volume,
                generation,
                socket,
            } => {
                // While it is parked, the next process is the one to serve it.
                let node = self.knbd_of(volume, generation);
                if node.is_some_and(|node| !node.parked) {
                    self.add_kernel_client(volume, socket);
                }
            }
            KnbdMessage::Reconnected {
                volume,
                generation,
                complaint,
            } => {
                let node = self.knbd_of(volume, generation);
                let up = node
                    .filter(|node| !node.parked)
                    .and_then(|node| node.device());
                let Some(path) = up.map(KnbdDevice::path) else {
                    return;
                };
                let path = path.display();
                let (level, text) = match complaint {
                    None => (
                        Level::Info,
                        format!("{path} has lost a connection and has a new one"),
                    ),
                    Some(error) => (
                        Level::Warn,
                        format!("{path} has lost a connection: {error}"),
                    ),
                };
                self.io.log(level, Some(volume), text);
            }
            KnbdMessage::Up {
                volume,
                generation,
                device,
                taken_over,
            } => {
                let spec = self.volume(volume).device;
                let Some(node) = self.knbd_of(volume, generation) else {
                    return;
                };
                let unwanted = matches!(node.stage, Stage::Starting { unwanted: true });
                node.next = None;
                let path = device.path();
                node.stage = Stage::Up { device };
                if taken_over {
                    let text = format!("took {} over, with whoever has it open", path.display());
                    self.io.log(Level::Info, Some(volume), text);
                }
                match spec.filter(|_| !unwanted) {
                    Some(spec) => self.knbd_device_up(volume, spec),
                    None => {
                        self.knbd_device_down(volume);
                        if let Some(node) = self.knbd(volume) {
                            node.next = spec;
                        }
                    }
                }
            }
            KnbdMessage::Failed {
                volume,
                generation,
                error,
            } => {
                if self.knbd_of(volume, generation).is_none() {
                    return;
                }
                self.forget_knbd(volume);
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
            KnbdMessage::Gone {
                volume,
                generation,
                complaint,
            } => {
                let Some(node) = self.knbd_of(volume, generation) else {
                    return;
                };
                let next = node.next.take();
                self.forget_knbd(volume);
                if let Some(complaint) = complaint {
                    self.io.log(Level::Warn, Some(volume), complaint);
                }
                self.io.notify(Notice::DeviceDown { volume });
                if let Some(spec) = self.volume(volume).device.and(next) {
                    self.start_knbd(volume, spec);
                }
            }
        }
    }

    /// A connection of the device has ended, and what came by it is answered: unless the device goes, there is a new one.
    /// `goodbye`: the driver was told to let the device go.
    pub(super) fn kernel_connection_ended(&mut self, nr: VolumeNr, goodbye: bool) {
        let Some(node) = self.knbd(nr).filter(|node| !node.parked) else {
            return;
        };
        let generation = node.generation;
        let Some(device) = node.device().cloned() else {
            return;
        };
        if goodbye {
            let text = format!("{} was disconnected by somebody", device.path().display());
            return self.io.log(Level::Warn, Some(nr), text);
        }
        self.io.help("rdb-nbd", move |mailbox| {
            let made = device.reconnect(|socket| open(&mailbox, nr, generation, socket));
            let reconnected = KnbdMessage::Reconnected {
                volume: nr,
                generation,
                complaint: made.err().map(|error| error.to_string()),
            };
            post(&mailbox, reconnected);
        });
    }

    fn forget_knbd(&mut self, volume: VolumeNr) {
        self.front.knbd.retain(|node| node.volume != volume);
        self.close_kernel_client(volume);
    }

    /// Finds out whether somebody uses the device, then goes on with the demotion. `Some`: there is none to ask about.
    pub(super) fn ask_who_holds_knbd(&mut self, volume: VolumeNr, reply: Caller) -> Option<Caller> {
        let Some(device) = self.knbd_up(volume) else {
            return Some(reply);
        };
        self.io.help("rdb-holders", move |mailbox| {
            let held = super::is_held(|| device.is_held(), || device.holders());
            let answer = KnbdMessage::Held {
                volume,
                held,
                reply,
            };
            post(&mailbox, answer);
        });
        None
    }
}

/// Hands a socket to the loop; whether there is one.
fn open(mailbox: &Mailbox, volume: VolumeNr, generation: u32, socket: OwnedFd) -> bool {
    mailbox.post(Message::Knbd(KnbdMessage::Opened {
        volume,
        generation,
        socket,
    }))
}

fn post(mailbox: &Mailbox, message: KnbdMessage) {
    // Without a loop there is nobody to tell.
    mailbox.post(Message::Knbd(message));
}

/// Gives a device back; words for the log, if something is to be said. When the process ends, a device in use stays for the
/// next one to take over.
fn give_back(device: KnbdDevice, stopping: bool) -> Option<String> {
    let path = device.path();
    if stopping && device.is_held().unwrap_or(true) {
        return Some(format!(
            "{} is in use and stays: its requests wait until this node is Primary again",
            path.display()
        ));
    }
    device.give_back().err().map(|error| error.to_string())
}
