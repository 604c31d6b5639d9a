//! The operations: what may be done is checked here as far as it is about names, minors and addresses; everything about
//! the state of a resource is decided by its engine.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rdb_config::resource_name_fault;
use rdb_control::{
    BEING_REPLACED, ConnectionShown, DiskShown, GiReport, HandlersShown, HistoryEvent, Object, Op,
    Refusal, ResourceOptions, ResourceShown, VerifyPart, VolumeShown, code,
};
use rdb_engine::state::{ConnState, DiskState};
use rdb_engine::{AdminError, Command, ResourceStatus, SnapshotWish, VolumeNr, VolumeStatus};
use rdb_runtime::{AttachRequest, ConnectRequest, ResourceConfig, Ticket};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::caller;
use crate::convert;
use crate::node::Node;
use crate::options::give_disk;
use crate::outcome::{Failure, Outcome, unknown_minor, unknown_resource};
use crate::registry::{Entry, Volume};
use crate::target::Target;
use crate::threads;

/// How long the thread of a resource may take to say how it is.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a command that was taken back may take to say so; one whose disk is being opened takes longer.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an address that somebody has is tried.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a wait looks, beside every change of state.
pub(crate) const WAIT_POLL: Duration = Duration::from_millis(500);
/// `max-buffers`, for which a resource's memory is taken at its start: DRBD's default. More is taken when a connection is
/// configured that has more of them.
pub(crate) const MAX_BUFFERS: u32 = 2048;

impl Node {
    /// Does one operation. What it changes is on record for the next daemon before it is answered.
    pub(crate) async fn perform(&self, op: Op) -> Outcome<Value> {
        if op.is_wait() {
            // The next program is asked as soon as this one closes the connection.
            tokio::select! {
                () = self.life.goes_on() => {}
                () = caller::gone() => return Err(caller::taken_back()),
            }
        }
        if self.life.is_being_replaced() {
            return Err(Failure::Error(format!(
                "{BEING_REPLACED}; try again in a moment"
            )));
        }
        self.withdraw_takeover(&op);
        self.withdraw_losers(&op);
        if op.is_question() {
            return self.operate(op).await;
        }
        // (Of a volume that it deletes nobody knows afterwards whose it was.)
        let about = match op.object() {
            Object::Resource(name) => Some(name.to_owned()),
            Object::Minor(minor) => self.target(minor).ok().map(|target| target.name),
            Object::Node => None,
        };
        let done = self.operate(op).await;
        self.name_volumes().await;
        // It is done. That it is not on record is logged, and refuses a restart.
        let _ = match about {
            Some(resource) => self.keep_of(BTreeSet::from([resource])).await,
            None => self.keep().await,
        };
        done
    }

    #[expect(clippy::too_many_lines, reason = "a table: one arm an operation")]
    async fn operate(&self, op: Op) -> Outcome<Value> {
        match op {
            Op::Hello { .. } => {
                return Err(Failure::Error("hello comes once, and first".to_owned()));
            }
            Op::NewResource {
                resource,
                options,
                handlers,
            } => self.new_resource(&resource, options, handlers, Vec::new())?,
            Op::NewMinor {
                resource,
                volume,
                minor,
                implicit,
                old_name,
            } => {
                let new = Volume {
                    minor,
                    implicit,
                    old_name,
                    ..Volume::default()
                };
                self.new_minor(&resource, volume, new).await?;
            }
            Op::Attach {
                minor,
                data,
                meta,
                options,
            } => {
                let disk = DiskShown {
                    data,
                    meta,
                    options,
                };
                self.attach(minor, disk).await?;
            }
            Op::Detach { minor, force } => self.detach(minor, force).await?,
            Op::Connect {
                resource,
                local,
                peer,
                options,
                discard_my_data,
                tentative,
            } => {
                let connection = ConnectionShown {
                    local,
                    peer,
                    net: options,
                };
                self.connect(&resource, connection, discard_my_data, tentative)
                    .await?;
            }
            Op::Disconnect { resource, force } => self.disconnect(&resource, force).await?,
            Op::Primary { minor, force } => self.primary_by_order(minor, force).await?,
            Op::Secondary { minor } => self.secondary(minor).await?,
            Op::Invalidate { minor } => {
                let command = |volume| Command::Invalidate { volume };
                self.admin(minor, command).await?;
            }
            Op::InvalidateRemote { minor } => {
                let command = |volume| Command::InvalidateRemote { volume };
                self.admin(minor, command).await?;
            }
            Op::Verify { minor, part } => self.verify(minor, part).await?,
            Op::Outdate { minor } => {
                let command = |volume| Command::Outdate { volume };
                self.admin(minor, command).await?;
            }
            Op::NewCurrentUuid {
                minor,
                clear_bitmap,
            } => {
                let command = |volume| Command::NewCurrentUuid {
                    volume,
                    clear_bitmap,
                };
                self.admin(minor, command).await?;
            }
            Op::PauseSync { minor } => {
                let command = |volume| Command::PauseSync { volume };
                self.admin(minor, command).await?;
            }
            Op::ResumeSync { minor } => {
                let command = |volume| Command::ResumeSync { volume };
                self.admin(minor, command).await?;
            }
            Op::SuspendIo { minor } => {
                let command = |volume| Command::SuspendIo { volume };
                self.admin(minor, command).await?;
            }
            Op::ResumeIo { minor } => {
                self.check_resumable(minor).await?;
                let command = |volume| Command::ResumeIo { volume };
                // What holds its turn may wait for just this.
                self.passing(minor, command).await?;
            }
            Op::Snapshot {
                resource,
                name,
                exec,
                limit_s,
                local_only,
            } => {
                let wish = convert::snapshot(&name, exec, limit_s, !local_only)?;
                self.snapshot(&resource, wish).await?;
            }
            Op::DiskOptions { minor, options } => self.disk_options(minor, options).await?,
            Op::NetOptions { resource, options } => self.net_options(&resource, options).await?,
            Op::ResourceOptions {
                resource,
                options,
                handlers,
            } => self.resource_options(&resource, options, handlers).await?,
            Op::DelMinor { minor } => self.del_minor(minor).await?,
            Op::DelResource { resource } => self.del_resource(&resource).await?,
            Op::Down { resource } => _ = self.down(&resource).await?,
            // The server has a stream for it.
            Op::Events { .. } => return Err(Failure::Error("not here".to_owned())),
            Op::Status => return Ok(to_value(&self.status().await)),
            Op::StatusOf { resource } => {
                let targets = self.resource(&resource).into_iter().collect();
                return Ok(to_value(&self.report_of(targets).await));
            }
            Op::Show => return Ok(to_value(&self.show().await)),
            Op::HasDisk { minor } => return Ok(to_value(&self.has_disk(minor).await?)),
            Op::GetGi { minor } => return Ok(to_value(&self.generation(minor).await?)),
            Op::Evidence { resource } => return Ok(to_value(&self.evidence(&resource).await?)),
            Op::WaitConnect { minor, times } => {
                return Ok(to_value(&self.wait(minor, times, false).await?));
            }
            Op::WaitSync { minor, times } => {
                return Ok(to_value(&self.wait(minor, times, true).await?));
            }
            Op::Shutdown => self.shutdown()?,
            // It needs more than this; the server passes it on.
            Op::Restart { .. } => return Err(Failure::Error("not here".to_owned())),
            Op::Takeover => return Ok(to_value(&self.takeover_report())),
        }
        Ok(Value::Null)
    }

    /// `inherited`: what the daemon before handed over of it.
    pub(crate) fn new_resource(
        &self,
        name: &str,
        options: ResourceOptions,
        handlers: HandlersShown,
        inherited: Vec<(VolumeNr, u64)>,
    ) -> Outcome<()> {
        if resource_name_fault(name).is_some() {
            return Err(Refusal::failure(code::INVALID_REQUEST, "invalid resource name").into());
        }
        let known = self
            .registry
            .lock()
            .get(name)
            .map(|entry| entry.failure.is_some());
        if known == Some(false) {
            return Ok(());
        }
        let for_engine = convert::resource(&options, &handlers)?;
        if known == Some(true) {
            // It has stopped on its own, and somebody wants it to begin anew.
            self.registry.lock().remove(name);
            self.events.tell_removed(name);
            self.restarts.forget(name);
        }
        let serving = self.serving.get();
        let config = ResourceConfig {
            name: name.to_owned(),
            run_dir: self.run_dir.clone(),
            frontend: serving.frontend,
            max_buffers: MAX_BUFFERS,
            busy_poll: serving.busy_poll,
            nbd_connections: serving.nbd_connections,
            challenges: self.challenges.clone(),
            core_dumps: self.core_dumps,
            inherited,
            left_sessions: self.left_sessions.clone(),
        };
        let handle = rdb_runtime::spawn(config, self.notices(name))
            .map_err(|error| Failure::Error(format!("{name}: {error}")))?;
        self.events.tell_created(name);
        // The first that it hears: whatever comes later goes by it.
        let command = Command::ResourceOptions {
            options: for_engine,
        };
        handle.admin(command, Box::new(|_| {}));
        self.registry.lock().add(Entry {
            name: name.to_owned(),
            options,
            handlers,
            runs: Default::default(),
            handle,
            volumes: Default::default(),
            connection: None,
            failure: None,
            is_going: false,
            is_on_its_way_down: false,
            losing: BTreeSet::new(),
            turn: Default::default(),
        });
        self.history.tell(name, None, HistoryEvent::Created);
        tracing::info!("drbd {name}: created");
        Ok(())
    }

    /// `new`: its minor, and what the configuration says of its names.
    pub(crate) async fn new_minor(&self, name: &str, number: u16, new: Volume) -> Outcome<()> {
        let minor = new.minor;
        let target = self.resource(name)?;
        let _turn = self.turn(&target).await?;
        {
            let mut registry = self.registry.lock();
            if registry.check_new_minor(name, number, minor)? {
                return Ok(());
            }
            // Taken before the engine is asked, so that no other resource takes the minor meanwhile.
            let entry = registry.get_mut(name).ok_or_else(unknown_resource)?;
            entry.volumes.insert(number, new);
        }
        let added = self
            .command(
                &target,
                Command::NewVolume {
                    volume: VolumeNr(number),
                    minor,
                },
            )
            .await;
        // (One that was taken back may have been made all the same; then it stays, as it does for who asks again.)
        if added.is_err()
            && !self.has_volume(&target, VolumeNr(number)).await
            && let Some(entry) = self.registry.lock().get_mut(name)
        {
            entry.volumes.remove(&number);
        } else {
            self.events.tell_volume_created(name, number, minor);
        }
        added
    }

    async fn has_volume(&self, target: &Target, volume: VolumeNr) -> bool {
        let status = self.resource_status(target).await;
        status.is_ok_and(|status| status.volumes.iter().any(|v| v.volume == volume))
    }

    pub(crate) async fn attach(&self, minor: u32, disk: DiskShown) -> Outcome<()> {
        let target = self.target(minor)?;
        let _turn = self.turn(&target).await?;
        let options = self.engine_disk(&disk.options)?;
        let with = disk.clone();
        self.check_fencing(&target, |shown| give_disk(shown, target.number, with))
            .await?;
        if self.volume_status(&target).await?.state.disk != DiskState::Diskless {
            return Err(Refusal::failure(code::DISK_CONFIGURED, "").into());
        }
        let request = AttachRequest {
            volume: target.volume(),
            data_path: disk.data.clone(),
            meta: convert::meta(&disk.meta),
            options,
        };
        // It counts while a disk is attached. One whose caller goes may get there all the same.
        self.update_volume(&target, |volume| volume.disk = Some(disk));
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |result| _ = reply.send(result));
        let ticket = target.handle.attach(request, reply);
        self.settle(&target, ticket, answer).await
    }

    pub(crate) async fn connect(
        &self,
        name: &str,
        connection: ConnectionShown,
        discard_my_data: bool,
        tentative: bool,
    ) -> Outcome<()> {
        let target = self.resource(name)?;
        let _turn = self.turn(&target).await?;
        let options = convert::net(&connection.net)?;
        let with = connection.clone();
        self.check_fencing(&target, |shown| shown.connection = Some(with))
            .await?;
        for (other, used) in self.connections_at(&connection).await {
            if used.local == connection.local {
                return Err(Refusal::failure(code::LOCAL_ADDR, format!("used by {other}")).into());
            }
            if used.peer == connection.peer {
                return Err(Refusal::failure(code::PEER_ADDR, format!("used by {other}")).into());
            }
        }
        let is_mixed = connection.local.is_ipv4() != connection.peer.is_ipv4();
        if is_mixed || connection.local == connection.peer {
            let info = format!(
                "can not connect {} to {}",
                connection.local, connection.peer
            );
            return Err(Refusal::failure(code::INVALID_REQUEST, info).into());
        }
        let request = ConnectRequest {
            local: connection.local,
            peer: connection.peer,
            options,
            discard_my_data,
            tentative,
            sndbuf_bytes: connection.net.sndbuf_bytes,
            rcvbuf_bytes: connection.net.rcvbuf_bytes,
            socket_check_timeout_ds: connection.net.socket_check_timeout_ds,
            tcp_cork: connection.net.tcp_cork,
        };
        if self.resource_status(&target).await?.connection.state != ConnState::StandAlone {
            let info = "the connection is configured already";
            return Err(Refusal::failure(code::NET_CONFIGURED, info).into());
        }
        if caller::is_there() {
            listen_check(connection.local).await?;
        }
        // It counts while there is a connection. One whose caller goes may get there all the same.
        if let Some(entry) = self.registry.lock().get_mut(name) {
            entry.connection = Some(connection);
        }
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |result| _ = reply.send(result));
        let ticket = target.handle.connect(request, reply);
        self.settle(&target, ticket, answer).await
    }

    async fn detach(&self, minor: u32, force: bool) -> Outcome<()> {
        let command = |volume| Command::Detach { volume, force };
        match force {
            true => self.passing(minor, command).await,
            false => self.admin(minor, command).await,
        }
    }

    async fn verify(&self, minor: u32, part: VerifyPart) -> Outcome<()> {
        let VerifyPart { start, stop } = part;
        let command = |volume| Command::Verify {
            volume,
            start,
            stop,
        };
        self.admin(minor, command).await
    }

    async fn snapshot(&self, name: &str, wish: SnapshotWish) -> Outcome<()> {
        let target = self.resource(name)?;
        let _turn = self.turn(&target).await?;
        self.command(&target, Command::Snapshot { wish }).await
    }

    async fn disconnect(&self, name: &str, force: bool) -> Outcome<()> {
        let unknown_connection = || {
            Failure::from(Refusal::failure(
                code::INVALID_REQUEST,
                "unknown connection",
            ))
        };
        let target = self.resource(name).map_err(|_| unknown_connection())?;
        // What is forced waits for nobody.
        let _turn = match force {
            true => None,
            false => Some(self.turn(&target).await?),
        };
        if self.resource_status(&target).await?.connection.state == ConnState::StandAlone {
            return Err(unknown_connection());
        }
        self.command(&target, Command::Disconnect { force }).await
    }

    async fn del_minor(&self, minor: u32) -> Outcome<()> {
        let target = self.target(minor)?;
        let _turn = self.turn(&target).await?;
        self.del_volume(&target).await
    }

    fn shutdown(&self) -> Outcome<()> {
        if !self.registry.lock().resources().is_empty() {
            return Err(Refusal::failure(code::RES_IN_USE, "").into());
        }
        self.life.is_told_to_end("shutdown");
        Ok(())
    }

    pub(crate) async fn del_volume(&self, target: &Target) -> Outcome<()> {
        self.command(
            target,
            Command::DelVolume {
                volume: target.volume(),
            },
        )
        .await?;
        if let Some(entry) = self.registry.lock().get_mut(&target.name) {
            entry.volumes.remove(&target.number);
        }
        self.events.tell_volume_removed(&target.name, target.number);
        Ok(())
    }

    async fn del_resource(&self, name: &str) -> Outcome<()> {
        let target = self.resource(name)?;
        let _turn = self.turn(&target).await?;
        if !target.numbers.is_empty() {
            return Err(Refusal::failure(code::RES_IN_USE, "").into());
        }
        if self.resource_status(&target).await?.connection.state != ConnState::StandAlone {
            return Err(Refusal::failure(code::NET_CONFIGURED, "").into());
        }
        self.end_thread(&target).await;
        Ok(())
    }

    /// Stops the thread, waits for its end, and forgets the resource.
    pub(crate) async fn end_thread(&self, target: &Target) {
        // Whoever waits for an answer of the thread, or for his turn, is told why there is none.
        if let Some(entry) = self.registry.lock().get_mut(&target.name) {
            entry.is_going = true;
        }
        target.handle.stop();
        threads::end_of(&target.handle).await;
        // The names of its devices are gone.
        self.devices_are_heard().await;
        self.registry.lock().remove(&target.name);
        self.events.tell_removed(&target.name);
        self.restarts.forget(&target.name);
        self.history.tell(&target.name, None, HistoryEvent::Removed);
        tracing::info!("drbd {}: removed", target.name);
    }

    /// How everything is configured, as far as it is in effect.
    async fn show(&self) -> Vec<ResourceShown> {
        let mut shown = Vec::new();
        for (target, status) in self.all_status().await {
            shown.extend(self.shown(&target, status.as_ref()));
        }
        shown
    }

    /// Whether a volume has a disk, or one that is on its way.
    async fn has_disk(&self, minor: u32) -> Outcome<bool> {
        let Ok(target) = self.target(minor) else {
            return Ok(false);
        };
        // (The thread of one that has failed has let go of its disks.)
        if target.failure.is_some() {
            return Ok(false);
        }
        let status = self.volume_status(&target).await?;
        Ok(status.state.disk != DiskState::Diskless)
    }

    /// How a resource is configured, as far as that is in effect by its `status`.
    pub(crate) fn shown(
        &self,
        target: &Target,
        status: Option<&ResourceStatus>,
    ) -> Option<ResourceShown> {
        let is_connected = status.is_some_and(|s| s.connection.state != ConnState::StandAlone);
        let has_disk = |number: u16| {
            let mut volumes = status?.volumes.iter();
            let volume = volumes.find(|v| v.volume.0 == number)?;
            (volume.state.disk != DiskState::Diskless).then_some(())
        };
        let registry = self.registry.lock();
        let entry = registry.get(&target.name)?;
        Some(ResourceShown {
            name: target.name.clone(),
            options: entry.options.clone(),
            handlers: entry.handlers.clone(),
            connection: entry.connection.clone().filter(|_| is_connected),
            volumes: entry
                .volumes
                .iter()
                .map(|(number, volume)| VolumeShown {
                    volume: *number,
                    minor: volume.minor,
                    implicit: volume.implicit,
                    old_name: volume.old_name,
                    disk: has_disk(*number).and_then(|()| volume.disk.clone()),
                })
                .collect(),
        })
    }

    /// The connections in use that have an address of this one, with their resources' names.
    async fn connections_at(&self, new: &ConnectionShown) -> Vec<(String, ConnectionShown)> {
        let mut found = Vec::new();
        for target in self.all() {
            let known = {
                let registry = self.registry.lock();
                let entry = registry.get(&target.name);
                entry.and_then(|entry| entry.connection.clone())
            };
            let known = known.filter(|known| known.local == new.local || known.peer == new.peer);
            let Some(known) = known else {
                continue;
            };
            // It may be there no more.
            let status = self.resource_status(&target).await;
            if status.is_ok_and(|status| status.connection.state != ConnState::StandAlone) {
                found.push((target.name, known));
            }
        }
        found
    }

    async fn generation(&self, minor: u32) -> Outcome<GiReport> {
        let target = self.target(minor)?;
        match self.volume_status(&target).await?.generation {
            Some((ids, flags)) => Ok(GiReport {
                uuids: ids.bits(),
                flags,
            }),
            None => Err(Refusal::failure(code::NO_DISK, "Device has no disk").into()),
        }
    }

    /// A command on one volume.
    async fn admin(&self, minor: u32, command: impl FnOnce(VolumeNr) -> Command) -> Outcome<()> {
        let target = self.target(minor)?;
        let _turn = self.turn(&target).await?;
        self.command(&target, command(target.volume())).await
    }

    /// The same of one that is forced: it waits for no other.
    async fn passing(&self, minor: u32, command: impl FnOnce(VolumeNr) -> Command) -> Outcome<()> {
        let target = self.target(minor)?;
        self.command(&target, command(target.volume())).await
    }

    pub(crate) async fn command(&self, target: &Target, command: Command) -> Outcome<()> {
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |result| _ = reply.send(result));
        let ticket = target.handle.admin(command, reply);
        self.settle(target, ticket, answer).await
    }

    /// Waits for the answer to a command; it may take as long as the peer takes, or the disk. If the caller goes it is taken
    /// back.
    async fn settle(
        &self,
        target: &Target,
        ticket: Ticket,
        mut answer: oneshot::Receiver<Result<(), AdminError>>,
    ) -> Outcome<()> {
        let answered = tokio::select! {
            answered = &mut answer => answered,
            () = caller::gone() => {
                target.handle.withdraw(ticket);
                match timeout(WITHDRAW_TIMEOUT, answer).await {
                    Ok(answered) => answered,
                    Err(_) => return Err(caller::goes_on()),
                }
            }
        };
        match answered {
            Ok(Ok(())) => Ok(()),
            Ok(Err(AdminError::Withdrawn)) => {
                tracing::info!(
                    "drbd {}: a command was taken back: its caller has gone",
                    target.name
                );
                Err(caller::taken_back())
            }
            // It is gone, and its mailbox has said so.
            Ok(Err(_)) if self.has_ended(target) => Err(self.ended(target)),
            Ok(Err(error)) => Err(convert::refusal(error).into()),
            Err(_) => Err(self.ended(target)),
        }
    }

    pub(crate) async fn resource_status(&self, target: &Target) -> Outcome<ResourceStatus> {
        let (reply, answer) = oneshot::channel();
        target
            .handle
            .status(Box::new(move |status| _ = reply.send(status)));
        match timeout(STATUS_TIMEOUT, answer).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(_)) => Err(self.ended(target)),
            Err(_) => Err(Failure::Error(format!(
                "{}: its thread has not answered for {} seconds",
                target.name,
                STATUS_TIMEOUT.as_secs()
            ))),
        }
    }

    pub(crate) async fn volume_status(&self, target: &Target) -> Outcome<VolumeStatus> {
        let status = self.resource_status(target).await?;
        let volume = status
            .volumes
            .into_iter()
            .find(|v| v.volume.0 == target.number);
        volume.ok_or_else(|| unknown_minor().into())
    }

    /// The resource of this name.
    pub(crate) fn resource(&self, name: &str) -> Result<Target, Refusal> {
        self.registry
            .lock()
            .get(name)
            .map(|entry| Target::new(entry, 0))
            .ok_or_else(unknown_resource)
    }

    /// The volume of this minor.
    pub(crate) fn target(&self, minor: u32) -> Result<Target, Refusal> {
        let registry = self.registry.lock();
        let (entry, number) = registry.by_minor(minor).ok_or_else(unknown_minor)?;
        Ok(Target::new(entry, number))
    }

    /// All resources.
    pub(crate) fn all(&self) -> Vec<Target> {
        self.registry
            .lock()
            .resources()
            .iter()
            .map(|entry| Target::new(entry, 0))
            .collect()
    }

    pub(crate) fn update_volume(&self, target: &Target, change: impl FnOnce(&mut Volume)) {
        let mut registry = self.registry.lock();
        if let Some(volume) = registry
            .get_mut(&target.name)
            .and_then(|entry| entry.volumes.get_mut(&target.number))
        {
            change(volume);
        }
    }

    pub(crate) fn look_at_volume<T>(
        &self,
        target: &Target,
        look: impl FnOnce(&Volume) -> T,
    ) -> Option<T> {
        let registry = self.registry.lock();
        registry
            .get(&target.name)?
            .volumes
            .get(&target.number)
            .map(look)
    }
}

/// Whether anybody can be listened to at an address: who asks for a connection is told at once if somebody else has it. (An
/// address that is not there yet is waited for.)
async fn listen_check(local: SocketAddr) -> Outcome<()> {
    let end = Instant::now() + LISTEN_TIMEOUT;
    loop {
        match TcpListener::bind(local) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
                ) =>
            {
                // The listener of a connection that has just ended may be about to go.
                if Instant::now() >= end || error.kind() == io::ErrorKind::PermissionDenied {
                    return Err(Failure::Error(format!(
                        "can not listen at {local}: {error}"
                    )));
                }
            }
            _ => return Ok(()),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn to_value(report: &impl serde::Serialize) -> Value {
    serde_json::to_value(report).expect("reports are plain values with string keys")
}
