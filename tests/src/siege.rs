//! A node alone with a hostile peer: alice is Primary with data, and bob's place is free.

use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::conf::Conf;
use crate::hostile::{Guise, HostilePeer, Place};
use crate::node::Node;
use crate::pair::{Pair, Plan};
use crate::watch::{Limits, Watch};

/// Alice, and where bob would be.
#[derive(Debug)]
pub struct Siege {
    /// Both nodes; only alice runs.
    pub pair: Pair,
}

/// Bytes of the disks.
const DISK_BYTES: u64 = 16 << 20;

impl Siege {
    /// Alice Primary and alone, with 64 KiB of data at 1 MiB and the rest empty. `net` goes into the
    /// configuration's section of that name.
    ///
    /// # Errors
    /// When a command fails.
    pub fn lay(name: &str, net: &str) -> Result<Self> {
        Self::lay_around(
            name,
            Plan {
                conf: Conf {
                    net: net.to_owned(),
                    ..Conf::default()
                },
                disk_bytes: DISK_BYTES,
                ..Plan::default()
            },
        )
    }

    /// Files and a configuration with short intervals; nothing runs.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn prepare(name: &str, mut plan: Plan) -> Result<Self> {
        plan.conf.intervals =
            "socket-check-timeout 1; connect-int 1; ping-int 2; ping-timeout 10; timeout 20;"
                .into();
        let pair = Pair::prepare(name, plan)?;
        Ok(Self { pair })
    }

    /// As [`Self::lay`], with a plan of one's own; its intervals are replaced by short ones.
    ///
    /// # Errors
    /// When a command fails.
    pub fn lay_around(name: &str, plan: Plan) -> Result<Self> {
        let Self { mut pair } = Self::prepare(name, plan)?;
        pair.alice.adm(&["create-md", "--force", "r0"])?;
        pair.alice.start()?;
        pair.alice.adm(&["up", "r0"])?;
        pair.alice.adm(&["primary", "--force", "r0"])?;
        let mut client = pair.alice.nbd(0)?;
        client.write(1 << 20, &[0xda; 65536])?;
        client.flush()?;
        Ok(Self { pair })
    }

    /// Alice.
    pub fn node(&mut self) -> &mut Node {
        &mut self.pair.alice
    }

    /// Bob's place.
    #[must_use]
    pub fn place(&self) -> Place {
        let address = |node: usize| self.pair.hosts[node].address.clone();
        Place {
            from: address(1).split(':').next().unwrap_or_default().to_owned(),
            to: address(0),
            receive: None,
        }
    }

    /// A peer that has introduced itself in this guise.
    ///
    /// # Errors
    /// When alice does not talk to it.
    pub fn peer(&self, guise: &Guise) -> Result<HostilePeer> {
        HostilePeer::join(&self.place(), guise).with_context(|| self.pair.alice.log_tail(20))
    }

    /// A peer that is in sync, and Connected.
    ///
    /// # Errors
    /// When alice does not become so.
    pub fn connected(&self) -> Result<HostilePeer> {
        let mut peer = self.peer(&Guise::equal())?;
        peer.until_node(&self.pair.alice, "both in sync", |volume| {
            volume.cs == "Connected" && volume.ds == "UpToDate/UpToDate"
        })?;
        Ok(peer)
    }

    /// A peer without a disk, that reads and writes ours.
    ///
    /// # Errors
    /// When alice does not see it so.
    pub fn diskless(&self) -> Result<HostilePeer> {
        let mut peer = self.peer(&Guise::diskless())?;
        peer.until_node(&self.pair.alice, "Diskless", |volume| {
            volume.ds == "UpToDate/Diskless"
        })?;
        Ok(peer)
    }

    /// A peer whose resync has begun: alice is SyncSource.
    ///
    /// # Errors
    /// When alice does not become so.
    pub fn syncing(&self) -> Result<HostilePeer> {
        let mut peer = self.peer(&Guise::blank())?;
        peer.return_bitmap()?;
        peer.until_node(&self.pair.alice, "a source", |volume| {
            volume.cs == "SyncSource" && volume.ds == "UpToDate/Inconsistent"
        })?;
        Ok(peer)
    }

    /// Begins to watch alice.
    ///
    /// # Errors
    /// When she does not serve.
    pub fn watch(&self) -> Result<Watch> {
        let bytes = self.pair.data_bytes().min(64 << 20);
        Watch::begin(&self.pair.alice, self.pair.disk(0, 0), bytes)
    }

    /// Watches alice during an attack; see [`Watch::end`].
    ///
    /// # Errors
    /// When the attack could not be made, or has had consequences.
    pub fn survives(
        &mut self,
        what: &str,
        limits: Limits,
        attack: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let watch = self.watch().with_context(|| format!("before {what}"))?;
        let attacked = attack(self);
        attacked.with_context(|| format!("{what}: {}", self.pair.alice.log_tail(20)))?;
        watch
            .end(&mut self.pair.alice, limits)
            .with_context(|| what.to_owned())
    }

    /// The true bob comes and both are in sync within so many seconds; nobody helps.
    ///
    /// # Errors
    /// When they are not.
    pub fn relieve(&mut self, seconds: u64) -> Result<()> {
        self.start_bob()?;
        self.pair.settle(seconds)?;
        self.pair.are_well()?;
        self.pair.disks_equal()
    }

    /// The true bob's daemon runs, and wants to connect.
    ///
    /// # Errors
    /// When a command fails.
    pub fn start_bob(&mut self) -> Result<()> {
        self.pair.bob.start()?;
        self.pair.bob.adm(&["create-md", "--force", "r0"])?;
        self.pair.bob.adm(&["up", "r0"])?;
        Ok(())
    }

    /// As [`await_listening`] of alice.
    ///
    /// # Errors
    /// When she does not listen within 20 seconds.
    pub fn await_listening(&self) -> Result<()> {
        await_listening(&self.pair.alice)
    }
}

/// Lays so many sieges at the same time, each with addresses of its own, and does something in all of them; returns what
/// each gave. For attacks after which a node waits for a second before it listens again: most of it is waiting.
///
/// # Errors
/// The first error of any.
pub fn many<T: Send>(
    count: u8,
    name: &str,
    each: impl Fn(u8, &mut Siege) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let each = &each;
        let threads: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn(move || {
                    let plan = Plan {
                        disk_bytes: DISK_BYTES,
                        number,
                        ..Plan::default()
                    };
                    let mut siege = Siege::lay_around(&format!("{name}-{number}"), plan)?;
                    each(number, &mut siege)
                })
            })
            .collect();
        let ended: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
        ended
            .into_iter()
            .map(|end| end.map_err(|_| anyhow::anyhow!("a thread panicked"))?)
            .collect()
    })
}

/// A node waits for its peer; if something has happened after which an administrator has to decide, it is told to.
///
/// # Errors
/// When it does not within 20 seconds.
pub fn await_listening(node: &Node) -> Result<()> {
    crate::wait_until("a node that listens", Duration::from_secs(20), || {
        let volume = node.volume(0)?;
        if volume.cs == "StandAlone" {
            node.adm(&["connect", "r0"])?;
        }
        Ok(volume.cs == "WFConnection")
    })
    .with_context(|| node.log_tail(20))
}
