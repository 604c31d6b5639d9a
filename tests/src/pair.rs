//! Two nodes with a resource `r0` between them.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::conf::{Conf, Host, Meta};
use crate::net::{Cable, loopback_pair};
use crate::node::Node;
use crate::scratch::Scratch;
use crate::{disk, programs};

/// Bytes of a data disk, unless a test asks for another size.
pub const DISK_BYTES: u64 = 64 << 20;

/// How a pair is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The configuration.
    pub conf: Conf,
    /// Bytes of each data disk.
    pub disk_bytes: u64,
    /// Each node in a network namespace of its own.
    pub cable: bool,
    /// The front end.
    pub frontend: &'static str,
    /// Which of the test's pairs it is, if it has several: each has addresses of its own.
    pub number: u8,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            conf: Conf::default(),
            disk_bytes: DISK_BYTES,
            cable: false,
            frontend: "socket",
            number: 0,
        }
    }
}

impl Plan {
    /// As [`Plan::default`], with so many volumes.
    #[must_use]
    pub fn with_volumes(volumes: usize) -> Self {
        let conf = Conf {
            volumes,
            ..Conf::default()
        };
        Self {
            conf,
            ..Self::default()
        }
    }
}

/// `alice` and `bob`. Fields are dropped in this order: daemons, then what they used.
#[derive(Debug)]
pub struct Pair {
    /// The first node.
    pub alice: Node,
    /// The second node.
    pub bob: Node,
    /// The link, if each has a namespace.
    pub cable: Option<Cable>,
    /// What the configuration says about the nodes.
    pub hosts: Vec<Host>,
    /// How it was made.
    pub plan: Plan,
    /// The files.
    pub scratch: Scratch,
}

impl Pair {
    /// Two nodes with empty disks and a configuration; no daemon runs.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn prepare(name: &str, plan: Plan) -> Result<Self> {
        programs::directory()?;
        let scratch = Scratch::new(name)?;
        let cable = if plan.cable {
            Some(Cable::new()?)
        } else {
            None
        };
        let loopback = loopback_pair(plan.number);
        let mut hosts = Vec::new();
        for (index, host) in ["alice", "bob"].into_iter().enumerate() {
            let (mut data, mut meta) = (Vec::new(), Vec::new());
            for volume in 0..plan.conf.volumes {
                let file = scratch.join(format!("{host}-{volume}.disk"));
                disk::create(&file, plan.disk_bytes)?;
                data.push(file);
                if plan.conf.meta != Meta::Internal {
                    let file = scratch.join(format!("{host}-{volume}.meta"));
                    let slots = if plan.conf.meta == Meta::Indexed {
                        2 * (128 << 20)
                    } else {
                        4 << 20
                    };
                    disk::create(&file, slots)?;
                    meta.push(file);
                }
            }
            let address = match &cable {
                Some(cable) => cable.address(index),
                None => loopback[index].clone(),
            };
            hosts.push(Host {
                name: host.to_owned(),
                address,
                data,
                meta,
            });
        }
        let conf = scratch.join("drbd.conf");
        let mut nodes = Vec::new();
        for (index, host) in hosts.iter().enumerate() {
            let mut node = Node::new(scratch.path(), &host.name, &conf)?;
            node.namespace = cable
                .as_ref()
                .map(|cable| cable.namespace(index).to_owned());
            plan.frontend.clone_into(&mut node.frontend);
            nodes.push(node);
        }
        let bob = nodes.pop().context("two nodes were made")?;
        let alice = nodes.pop().context("two nodes were made")?;
        let pair = Self {
            alice,
            bob,
            cable,
            hosts,
            plan,
            scratch,
        };
        pair.write_conf()?;
        Ok(pair)
    }

    /// Writes the configuration anew, as the plan has it now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_conf(&self) -> Result<()> {
        Ok(std::fs::write(
            &self.alice.conf,
            self.plan.conf.text(&self.hosts),
        )?)
    }

    /// Both daemons run, both have metadata.
    ///
    /// # Errors
    /// When a command fails.
    pub fn fresh(name: &str, plan: Plan) -> Result<Self> {
        let mut pair = Self::prepare(name, plan)?;
        pair.begin()?;
        Ok(pair)
    }

    /// Starts both daemons and makes metadata on all disks.
    ///
    /// # Errors
    /// When a command fails.
    pub fn begin(&mut self) -> Result<()> {
        for node in [&mut self.alice, &mut self.bob] {
            node.start()?;
            node.adm(&["create-md", "--force", "r0"])?;
        }
        Ok(())
    }

    /// Up, synced from alice, and alice primary.
    ///
    /// # Errors
    /// When a command fails or the sync does not end.
    pub fn synced(name: &str, plan: Plan) -> Result<Self> {
        let pair = Self::fresh(name, plan)?;
        pair.sync_from(&pair.alice)?;
        Ok(pair)
    }

    /// Brings both up and syncs them from a node, which is Primary from then on.
    ///
    /// # Errors
    /// When a command fails or the sync does not end.
    pub fn sync_from(&self, node: &Node) -> Result<()> {
        self.up()?;
        node.adm(&["primary", "--force", "r0"])?;
        self.settle(60)
    }

    /// Both up and connected.
    ///
    /// # Errors
    /// When a command fails or they do not meet.
    pub fn up(&self) -> Result<()> {
        for node in [&self.alice, &self.bob] {
            node.adm(&["up", "r0"])?;
        }
        for node in [&self.alice, &self.bob] {
            node.await_volume("a connection", 30, |volume| volume.cs == "Connected")?;
        }
        Ok(())
    }

    /// Waits until both are Connected and UpToDate in every volume.
    ///
    /// # Errors
    /// When they are not after so many seconds.
    pub fn settle(&self, seconds: u64) -> Result<()> {
        for node in [&self.alice, &self.bob] {
            for minor in 0..self.plan.conf.volumes {
                let minor = u32::try_from(minor)?;
                node.await_minor(minor, "UpToDate/UpToDate", seconds, |v| v.is_settled())?;
            }
        }
        Ok(())
    }

    /// Bytes of data on each disk.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        match self.plan.conf.meta {
            Meta::Internal => disk::data_end(self.plan.disk_bytes),
            Meta::External | Meta::Flexible | Meta::Indexed => self.plan.disk_bytes,
        }
    }

    /// A data disk.
    #[must_use]
    pub fn disk(&self, node: usize, volume: usize) -> &PathBuf {
        &self.hosts[node].data[volume]
    }

    /// Compares the data of both disks of every volume.
    ///
    /// # Errors
    /// When they differ.
    pub fn disks_equal(&self) -> Result<()> {
        for volume in 0..self.plan.conf.volumes {
            disk::compare(
                self.disk(0, volume),
                self.disk(1, volume),
                self.data_bytes(),
            )?;
        }
        Ok(())
    }

    /// Both daemons run, neither panicked.
    ///
    /// # Errors
    /// With the end of the log of the one that did not.
    pub fn are_well(&mut self) -> Result<()> {
        self.alice.is_well()?;
        self.bob.is_well()
    }
}
