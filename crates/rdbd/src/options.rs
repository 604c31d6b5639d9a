//! New options of what runs, and the options that only go together.

use rdb_config::{Fencing, Protocol};
use rdb_control::{
    DiskOptions, DiskShown, HandlersShown, NetOptions, Refusal, ResourceOptions, ResourceShown,
    code,
};
use rdb_engine::Command;

use crate::convert;
use crate::node::Node;
use crate::outcome::{Outcome, unknown_resource};
use crate::target::Target;

impl Node {
    /// The engine's options of a disk, what only `rdbd.toml` knows among them.
    pub(crate) fn engine_disk(
        &self,
        options: &DiskOptions,
    ) -> Result<rdb_engine::config::DiskOptions, Refusal> {
        Ok(rdb_engine::config::DiskOptions {
            on_no_space: self.serving.get().on_no_space,
            ..convert::disk(options)?
        })
    }

    pub(crate) async fn disk_options(&self, minor: u32, options: DiskOptions) -> Outcome<()> {
        let target = self.target(minor)?;
        let _turn = self.turn(&target).await?;
        let with = options.clone();
        self.check_fencing(&target, |shown| {
            let mut volumes = shown.volumes.iter_mut();
            let volume = volumes.find(|volume| volume.volume == target.number);
            if let Some(disk) = volume.and_then(|volume| volume.disk.as_mut()) {
                disk.options = with;
            }
        })
        .await?;
        let command = Command::DiskOptions {
            volume: target.volume(),
            options: self.engine_disk(&options)?,
        };
        self.command(&target, command).await?;
        self.update_volume(&target, |volume| {
            if let Some(disk) = &mut volume.disk {
                disk.options = options;
            }
        });
        Ok(())
    }

    pub(crate) async fn net_options(&self, name: &str, options: NetOptions) -> Outcome<()> {
        let target = self.resource(name)?;
        let _turn = self.turn(&target).await?;
        let with = options.clone();
        self.check_fencing(&target, |shown| {
            if let Some(connection) = &mut shown.connection {
                connection.net = with;
            }
        })
        .await?;
        let command = Command::NetOptions {
            options: convert::net(&options)?,
        };
        self.command(&target, command).await?;
        if let Some(connection) = self
            .registry
            .lock()
            .get_mut(name)
            .and_then(|entry| entry.connection.as_mut())
        {
            connection.net = options;
        }
        Ok(())
    }

    pub(crate) async fn resource_options(
        &self,
        name: &str,
        options: ResourceOptions,
        handlers: HandlersShown,
    ) -> Outcome<()> {
        let target = self.resource(name)?;
        let _turn = self.turn(&target).await?;
        let command = Command::ResourceOptions {
            options: convert::resource(&options, &handlers)?,
        };
        self.command(&target, command).await?;
        let mut registry = self.registry.lock();
        let entry = registry.get_mut(name).ok_or_else(unknown_resource)?;
        entry.options = options;
        entry.handlers = handlers;
        Ok(())
    }

    /// Refuses what fences by a handler while writes are done before the peer has them: who goes on there would not know them.
    ///
    /// # Errors
    /// 154, if a `change` of what is in effect leads there.
    pub(crate) async fn check_fencing(
        &self,
        target: &Target,
        change: impl FnOnce(&mut ResourceShown),
    ) -> Outcome<()> {
        let status = self.resource_status(target).await?;
        let Some(mut shown) = self.shown(target, Some(&status)) else {
            return Ok(());
        };
        change(&mut shown);
        let connection = shown.connection.as_ref();
        let is_a = connection.is_some_and(|connection| connection.net.protocol == Protocol::A);
        let mut disks = shown
            .volumes
            .iter()
            .filter_map(|volume| volume.disk.as_ref());
        if is_a && disks.any(|disk| disk.options.fencing == Fencing::ResourceAndStonith) {
            return Err(Refusal::failure(code::STONITH_AND_PROT_A, "").into());
        }
        Ok(())
    }
}

/// Shows a volume with this disk.
pub(crate) fn give_disk(shown: &mut ResourceShown, number: u16, disk: DiskShown) {
    let mut volumes = shown.volumes.iter_mut();
    if let Some(volume) = volumes.find(|volume| volume.volume == number) {
        volume.disk = Some(disk);
    }
}
