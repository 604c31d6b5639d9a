//! What each command does to a resource, as steps (`docs/spec/admin.md`, section 3.3).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rdb_config::{ResolvedResource, ResolvedVolume};
use rdb_control::{HandlersShown, MetaDisk, Op, ResourceShown, VerifyPart, WaitTimes};

use crate::step::{Action, MetaCommand, MetaStep, Query, Step, Tool, address_word, path_word};

/// A resource as a command was told to work on it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    /// What it means on this host.
    pub(crate) resource: ResolvedResource,
    /// Its handlers, and what is to be in their environment.
    pub(crate) handlers: HandlersShown,
    /// Its options as written.
    pub(crate) written: Written,
    /// The one volume asked for; `None` for all.
    pub(crate) volume: Option<u16>,
}

/// The options as written, as arguments of steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Written {
    /// Of the connection.
    pub(crate) net: Vec<String>,
    /// Of the resource.
    pub(crate) options: Vec<String>,
    /// Of waiting.
    pub(crate) startup: Vec<String>,
    /// Of each volume's disk.
    pub(crate) disks: BTreeMap<u16, Vec<String>>,
}

impl Item {
    /// The volumes asked for.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = &ResolvedVolume> {
        self.resource
            .volumes
            .iter()
            .filter(|v| self.is_asked_for(v.volume))
    }

    /// Minors that run for the resource, and that the configuration has not any more; none if one volume is asked for.
    pub(crate) fn left_minors<'a>(
        &'a self,
        running: &'a [ResourceShown],
    ) -> impl Iterator<Item = u32> + 'a {
        let own = |r: &&ResourceShown| r.name == self.resource.name && self.volume.is_none();
        let minors = running.iter().filter(own).flat_map(|r| &r.volumes);
        minors
            .map(|volume| volume.minor)
            .filter(|minor| self.resource.volumes.iter().all(|v| v.minor != *minor))
    }

    /// Whether the volume of this number was asked for.
    pub(crate) fn is_asked_for(&self, volume: u16) -> bool {
        self.volume.is_none_or(|only| volume == only)
    }

    /// Whether the one volume asked for is to join a resource that runs without it.
    pub(crate) fn joins(&self, running: &ResourceShown) -> bool {
        self.volume
            .is_some_and(|only| running.volumes.iter().all(|v| v.volume != only))
    }

    /// A step of the daemon.
    pub(super) fn setup(&self, words: Vec<String>, object: String, action: Action) -> Step {
        let resource = self.resource.name.clone();
        Step {
            resource,
            tool: Tool::Setup,
            argv: words,
            object,
            action,
        }
    }

    /// A step of the daemon on one volume: a verb, a minor, and maybe the verb's switch.
    pub(crate) fn on_minor(
        &self,
        verb: &str,
        minor: u32,
        switch: Option<&str>,
        op: fn(u32, bool) -> Op,
    ) -> Step {
        let mut words = vec![verb.to_owned(), minor.to_string()];
        words.extend(switch.map(|switch| format!("--{switch}")));
        let action = Action::Run(op(minor, switch.is_some()));
        self.setup(words, minor.to_string(), action)
    }

    /// `new-resource`.
    pub(crate) fn new_resource(&self) -> Step {
        let name = self.resource.name.clone();
        let mut words = vec!["new-resource".to_owned(), name.clone()];
        words.extend(self.written.options.iter().cloned());
        words.extend(self.handler_words());
        let options = self.resource.options.clone();
        let handlers = self.handlers.clone();
        self.setup(
            words,
            name.clone(),
            Action::Run(Op::NewResource {
                resource: name,
                options,
                handlers,
            }),
        )
    }

    /// `resource-options`.
    pub(crate) fn resource_options(&self, set_defaults: bool) -> Step {
        let name = self.resource.name.clone();
        let mut words = vec!["resource-options".to_owned(), name.clone()];
        words.extend(set_defaults.then(|| "--set-defaults".to_owned()));
        words.extend(self.written.options.iter().cloned());
        words.extend(self.handler_words());
        let options = self.resource.options.clone();
        let handlers = self.handlers.clone();
        self.setup(
            words,
            name.clone(),
            Action::Run(Op::ResourceOptions {
                resource: name,
                options,
                handlers,
            }),
        )
    }

    /// The handlers as arguments.
    fn handler_words(&self) -> Vec<String> {
        let HandlersShown {
            commands,
            conf,
            peers,
        } = &self.handlers;
        let commands = commands.iter();
        let mut words: Vec<_> = commands
            .map(|(name, command)| format!("--handler={name}={command}"))
            .collect();
        let conf = conf.iter();
        words.extend(conf.map(|path| format!("--drbd-conf={}", path_word(path))));
        words.extend((!peers.is_empty()).then(|| format!("--drbd-peers={}", peers.join(" "))));
        words
    }

    /// `new-minor`.
    pub(crate) fn new_minor(&self, volume: &ResolvedVolume) -> Step {
        let resource = self.resource.name.clone();
        let minor = volume.minor;
        let words = vec![
            "new-minor".to_owned(),
            resource.clone(),
            minor.to_string(),
            volume.volume.to_string(),
        ];
        let op = Op::NewMinor {
            resource,
            volume: volume.volume,
            minor,
            implicit: volume.implicit,
            old_name: volume.old_name,
        };
        self.setup(words, minor.to_string(), Action::Run(op))
    }

    /// A command of `rdbmeta`; none for a volume without a disk.
    pub(crate) fn meta(&self, volume: &ResolvedVolume, command: MetaCommand) -> Option<Step> {
        let meta = self.meta_step(volume, command)?;
        Some(Step {
            resource: self.resource.name.clone(),
            tool: Tool::Meta,
            argv: meta.argv(),
            object: volume.minor.to_string(),
            action: Action::Meta(meta),
        })
    }

    /// `set-gi`.
    pub(crate) fn set_gi(&self, volume: &ResolvedVolume, gi: &str, force: bool) -> Option<Step> {
        let mut step = self.meta(volume, MetaCommand::SetGi { force })?;
        if let Action::Meta(meta) = &mut step.action {
            meta.operand = Some(gi.to_owned());
            step.argv = meta.argv();
        }
        Some(step)
    }

    /// Makes the volume writable here.
    pub(crate) fn primary(&self, volume: &ResolvedVolume) -> Step {
        self.on_minor("primary", volume.minor, None, |minor, _| Op::Primary {
            minor,
            force: false,
        })
    }

    fn meta_step(&self, volume: &ResolvedVolume, command: MetaCommand) -> Option<MetaStep> {
        let data = volume.disk.clone()?;
        Some(MetaStep {
            minor: Some(volume.minor),
            data,
            meta: volume.meta.clone(),
            command,
            operand: None,
        })
    }

    /// `apply-al` and `attach`; nothing for a volume without a disk.
    pub(crate) fn attach(&self, volume: &ResolvedVolume) -> Vec<Step> {
        let Some(data) = volume.disk.clone() else {
            return Vec::new();
        };
        let minor = volume.minor;
        let (meta_path, index) = match &volume.meta {
            MetaDisk::Internal => (&data, "internal".to_owned()),
            MetaDisk::Flexible(path) => (path, "flexible".to_owned()),
            MetaDisk::Indexed(path, index) => (path, index.to_string()),
        };
        let mut words = vec![
            "attach".to_owned(),
            minor.to_string(),
            path_word(&data),
            path_word(meta_path),
            index,
        ];
        words.extend(self.written_disk(volume));
        let op = Op::Attach {
            minor,
            data,
            meta: volume.meta.clone(),
            options: volume.disk_options.clone(),
        };
        let attach = self.setup(words, minor.to_string(), Action::Run(op));
        self.meta(volume, MetaCommand::ApplyAl)
            .into_iter()
            .chain([attach])
            .collect()
    }

    fn written_disk(&self, volume: &ResolvedVolume) -> Vec<String> {
        self.written
            .disks
            .get(&volume.volume)
            .cloned()
            .unwrap_or_default()
    }

    /// `disk-options`.
    pub(crate) fn disk_options(&self, volume: &ResolvedVolume, set_defaults: bool) -> Step {
        let minor = volume.minor;
        let mut words = vec!["disk-options".to_owned(), minor.to_string()];
        words.extend(set_defaults.then(|| "--set-defaults".to_owned()));
        // The size is not changed this way: `size` is for attach and resize.
        words.extend(
            self.written_disk(volume)
                .into_iter()
                .filter(|w| !w.starts_with("--size=")),
        );
        let op = Op::DiskOptions {
            minor,
            options: volume.disk_options.clone(),
        };
        self.setup(words, minor.to_string(), Action::Run(op))
    }

    fn addresses(&self) -> [String; 2] {
        [
            address_word(&self.resource.me.address),
            address_word(&self.resource.peer.address),
        ]
    }

    /// `connect`.
    pub(crate) fn connect(&self, discard_my_data: bool, tentative: bool) -> Step {
        let resource = self.resource.name.clone();
        let mut words = vec!["connect".to_owned(), resource.clone()];
        words.extend(self.addresses());
        words.extend(self.written.net.iter().cloned());
        words.extend(discard_my_data.then(|| "--discard-my-data".to_owned()));
        words.extend(tentative.then(|| "--tentative".to_owned()));
        let op = Op::Connect {
            resource: resource.clone(),
            local: self.resource.me.address,
            peer: self.resource.peer.address,
            options: self.resource.net.clone(),
            discard_my_data,
            tentative,
        };
        self.setup(words, resource, Action::Run(op))
    }

    /// `net-options`.
    pub(crate) fn net_options(&self, set_defaults: bool) -> Step {
        let resource = self.resource.name.clone();
        let mut words = vec!["net-options".to_owned()];
        words.extend(self.addresses());
        words.extend(set_defaults.then(|| "--set-defaults".to_owned()));
        words.extend(self.written.net.iter().cloned());
        let op = Op::NetOptions {
            resource: resource.clone(),
            options: self.resource.net.clone(),
        };
        self.setup(words, resource, Action::Run(op))
    }

    /// `disconnect`.
    pub(crate) fn disconnect(&self, force: bool) -> Step {
        let addresses = [self.resource.me.address, self.resource.peer.address];
        self.disconnect_from(addresses, force)
    }

    /// `disconnect` of a connection that has other addresses than the configuration says: own and peer's.
    pub(crate) fn disconnect_from(&self, addresses: [SocketAddr; 2], force: bool) -> Step {
        let mut words = vec!["disconnect".to_owned()];
        words.extend(addresses.iter().map(address_word));
        words.extend(force.then(|| "--force".to_owned()));
        let resource = self.resource.name.clone();
        let op = Op::Disconnect {
            resource: resource.clone(),
            force,
        };
        self.setup(words, resource, Action::Run(op))
    }

    /// `del-minor`, for a volume that runs and is not in the configuration any more.
    pub(crate) fn del_minor(&self, minor: u32) -> Step {
        self.on_minor("del-minor", minor, None, |minor, _| Op::DelMinor { minor })
    }

    /// `detach`, not forced.
    pub(crate) fn detach(&self, minor: u32) -> Step {
        self.on_minor("detach", minor, None, |minor, force| Op::Detach {
            minor,
            force,
        })
    }

    /// `outdate`, `invalidate`: on the disk if the device is not configured.
    pub(crate) fn or_meta(
        &self,
        verb: &str,
        volume: &ResolvedVolume,
        op: fn(u32, bool) -> Op,
        command: MetaCommand,
    ) -> Step {
        let mut step = self.on_minor(verb, volume.minor, None, op);
        if let (Some(meta), Action::Run(op)) = (self.meta_step(volume, command), &step.action) {
            step.action = Action::RunOrMeta(op.clone(), meta);
        }
        step
    }

    /// `role`, `cstate`, `dstate`, `get-gi`, `show-gi`.
    pub(crate) fn query(&self, verb: &str, volume: &ResolvedVolume, query: Query) -> Step {
        let fallback = match query {
            Query::Role | Query::Cstate => None,
            Query::Dstate => Some(MetaCommand::Dstate),
            Query::GetGi => Some(MetaCommand::GetGi),
            Query::ShowGi => Some(MetaCommand::ShowGi),
            Query::GiJson => Some(MetaCommand::GiJson),
        };
        let minor = volume.minor;
        let action = match fallback.and_then(|command| self.meta_step(volume, command)) {
            Some(meta) => Action::QueryOrMeta(query, minor, meta),
            None => Action::Query(query, minor),
        };
        let mut words = vec![verb.to_owned(), minor.to_string()];
        words.extend((query == Query::GiJson).then(|| "--json".to_owned()));
        self.setup(words, minor.to_string(), action)
    }

    /// `wait-connect`, `wait-sync`. `given`: what the command line says instead of the configuration.
    pub(crate) fn wait(&self, sync: bool, volume: &ResolvedVolume, given: &WaitGiven) -> Step {
        let verb = if sync { "wait-sync" } else { "wait-connect" };
        let minor = volume.minor;
        let startup = &self.resource.startup;
        let times = WaitTimes {
            wfc_s: given.wfc_s.unwrap_or(startup.wfc_timeout_s),
            degr_wfc_s: given.degr_wfc_s.unwrap_or(startup.degr_wfc_timeout_s),
            outdated_wfc_s: given
                .outdated_wfc_s
                .unwrap_or(startup.outdated_wfc_timeout_s),
            wait_after_sb: given.wait_after_sb.unwrap_or(startup.wait_after_sb),
        };
        let mut words = vec![verb.to_owned(), minor.to_string()];
        words.extend(
            self.written
                .startup
                .iter()
                .filter(|w| !given.replaces(w))
                .cloned(),
        );
        words.extend(given.words());
        let op = match sync {
            true => Op::WaitSync { minor, times },
            false => Op::WaitConnect { minor, times },
        };
        self.setup(words, minor.to_string(), Action::Wait(op))
    }

    /// `verify`.
    pub(crate) fn verify(&self, volume: &ResolvedVolume, part: VerifyPart) -> Step {
        let minor = volume.minor;
        let word = |name: &str, sector: Option<u64>| sector.map(|s| format!("--{name}={s}"));
        let words = ["verify".to_owned(), minor.to_string()].into_iter();
        let given = [word("start", part.start), word("stop", part.stop)];
        let words = words.chain(given.into_iter().flatten()).collect();
        let action = Action::Run(Op::Verify { minor, part });
        self.setup(words, minor.to_string(), action)
    }

    /// Everything that brings the resource, or the one volume asked for, up, in three stages: create, attach, connect.
    pub(crate) fn up(&self) -> [Vec<Step>; 3] {
        let create = [self.new_resource()]
            .into_iter()
            .chain(self.volumes().map(|v| self.new_minor(v)))
            .collect();
        let attach = self.volumes().flat_map(|v| self.attach(v)).collect();
        [create, attach, vec![self.connect(false, false)]]
    }
}

/// Wait options given on the command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WaitGiven {
    /// `--wfc-timeout`.
    pub(crate) wfc_s: Option<u32>,
    /// `--degr-wfc-timeout`.
    pub(crate) degr_wfc_s: Option<u32>,
    /// `--outdated-wfc-timeout`.
    pub(crate) outdated_wfc_s: Option<u32>,
    /// `--wait-after-sb`.
    pub(crate) wait_after_sb: Option<bool>,
}

impl WaitGiven {
    fn words(&self) -> Vec<String> {
        let seconds = |name: &str, value: Option<u32>| value.map(|v| format!("--{name}={v}"));
        let yes_no = |v| if v { "yes" } else { "no" };
        [
            self.wait_after_sb
                .map(|v| format!("--wait-after-sb={}", yes_no(v))),
            seconds("outdated-wfc-timeout", self.outdated_wfc_s),
            seconds("degr-wfc-timeout", self.degr_wfc_s),
            seconds("wfc-timeout", self.wfc_s),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn replaces(&self, word: &str) -> bool {
        let name = |w: &str| w.split('=').next().map(str::to_owned);
        self.words().iter().any(|own| name(own) == name(word))
    }
}
