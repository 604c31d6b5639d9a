//! What tests and administrators do to the nodes.

use std::rc::Rc;

use rdb_engine::config::{NetOptions, ResourceOptions};
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{
    AdminError, AdminId, Command, Event, Handler, Request, RequestError, RequestId, RequestKind,
    VolumeNr,
};

use crate::node::{Data, disk_info};
use crate::world::{V, World};

#[allow(missing_docs, reason = "the names say it")]
impl World {
    pub fn states(&self) -> String {
        let all = |i: usize| {
            let states = (0..self.models.len()).map(|v| self.nodes[i].state_of(v).to_string());
            states.collect::<Vec<_>>().join(", ")
        };
        format!("a: {} | b: {}", all(0), all(1))
    }

    /// Gives a command and waits for its answer.
    ///
    /// # Errors
    /// What the engine says.
    ///
    /// # Panics
    /// If no answer comes.
    pub fn admin(&mut self, i: usize, command: Command) -> Result<(), AdminError> {
        let id = self.start_admin(i, command);
        self.until("a command", |w| w.nodes[i].admin.contains_key(&id));
        self.nodes[i]
            .admin
            .remove(&id)
            .expect("the answer is there")
    }

    /// Gives a command; the answer will be in the node's `admin` under the number returned.
    pub fn start_admin(&mut self, i: usize, command: Command) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.tell(i, || format!("command {id} {command:?}"));
        self.note_consent(i, &command);
        self.nodes[i].admin_open.insert(id, command.clone());
        let event = Event::Admin {
            id: AdminId(id),
            command,
        };
        self.event(i, event);
        id
    }

    /// Whose data may be overwritten by this command's wish.
    fn note_consent(&mut self, i: usize, command: &Command) {
        // (What a verify finds is marked, too, and stays so.)
        if let Command::Invalidate { volume }
        | Command::InvalidateRemote { volume }
        | Command::Verify { volume, .. } = command
            && let Some(ordered) = self.full_syncs.get_mut(usize::from(volume.0))
        {
            *ordered = true;
        }
        match command {
            Command::Connect {
                discard_my_data: true,
                ..
            } => self.nodes[i].consent.fill(true),
            Command::Invalidate { volume } => {
                if let Some(consent) = self.nodes[i].consent.get_mut(usize::from(volume.0)) {
                    *consent = true;
                }
            }
            Command::InvalidateRemote { volume }
            | Command::Primary {
                volume,
                force: true,
            } => {
                let consent = self.nodes[1 - i].consent.get_mut(usize::from(volume.0));
                if let Some(consent) = consent {
                    *consent = true;
                }
            }
            _ => {}
        }
    }

    pub fn attach_command(&self, i: usize, volume: usize) -> Command {
        Command::Attach {
            volume: VolumeNr(volume as u16),
            disk: disk_info(&self.nodes[i].disks[volume]),
            options: self.disk_options.clone(),
        }
    }

    pub fn attach(&mut self, i: usize) -> Result<(), AdminError> {
        self.admin(i, self.attach_command(i, 0))
    }

    pub fn connect_with(&mut self, i: usize, options: NetOptions) {
        let connect = Command::Connect {
            options,
            discard_my_data: false,
            tentative: false,
        };
        self.admin(i, connect).expect("connecting is possible");
    }

    /// Tells a node that is brought up of the resource's options, if there is something to tell.
    pub fn tell_options(&mut self, i: usize) {
        let options = self.resource_options;
        if options != ResourceOptions::default() {
            let command = Command::ResourceOptions { options };
            self.admin(i, command).expect("there is nothing to refuse");
        }
    }

    /// A handler of the node ends.
    ///
    /// # Panics
    /// If it does not run.
    pub fn end_handler(&mut self, i: usize, handler: Handler, exit: i32) {
        let asked = &mut self.nodes[i].asked;
        let at = asked.iter().position(|asked| asked.handler == handler);
        let id = asked.remove(at.expect("the handler runs")).id;
        self.note_snapshot_end(i, id, exit);
        self.event(i, Event::HandlerDone { id, exit });
    }

    pub fn up(&mut self, i: usize, options: &NetOptions) {
        self.tell_options(i);
        for volume in 0..self.nodes[i].disks.len() {
            let new = Command::NewVolume {
                volume: VolumeNr(volume as u16),
                minor: volume as u32,
            };
            self.admin(i, new).expect("the volume is new");
            self.admin(i, self.attach_command(i, volume))
                .expect("the disk is good");
        }
        self.connect_with(i, options.clone());
    }

    /// Two fresh nodes, connected, `a` Primary, in sync.
    pub fn pair(seed: u64, options: &NetOptions) -> World {
        let mut world = World::new(seed);
        world.connect_fresh(options);
        world.primary(0, true).expect("a forced promotion");
        world.wait_synced();
        world
    }

    /// As [`World::pair`] on larger disks: the first sync is skipped.
    pub fn large_pair(seed: u64, sectors: u64, options: &NetOptions) -> World {
        let mut world = World::with_disks(seed, sectors, sectors);
        world.connect_fresh(options);
        world.skip_first_sync();
        world.primary(0, false).expect("the disks are in sync");
        world.quiet();
        world
    }

    /// Two fresh, connected nodes declare their disks equal.
    pub fn skip_first_sync(&mut self) {
        self.until("all volumes Connected", |w| {
            let up = |v| {
                w.nodes
                    .iter()
                    .all(|n| n.state_of(v).conn == ConnState::Connected)
            };
            (0..w.models.len()).all(up)
        });
        for volume in 0..self.models.len() {
            let skip = Command::NewCurrentUuid {
                volume: VolumeNr(volume as u16),
                clear_bitmap: true,
            };
            self.admin(0, skip).expect("the disks are fresh");
        }
        self.wait_synced();
    }

    pub fn connect_fresh(&mut self, options: &NetOptions) {
        self.options = options.clone();
        self.up(0, options);
        self.up(1, options);
        self.wait_conn(ConnState::Connected);
    }

    pub fn primary(&mut self, i: usize, force: bool) -> Result<(), AdminError> {
        self.admin(i, Command::Primary { volume: V, force })
    }

    pub fn secondary(&mut self, i: usize) -> Result<(), AdminError> {
        let command = Command::Secondary {
            volume: V,
            held_open: false,
        };
        self.admin(i, command)
    }

    pub fn wait_conn(&mut self, conn: ConnState) {
        self.until("a connection state", |w| {
            w.nodes.iter().all(|n| n.state().conn == conn)
        });
    }

    pub fn synced(&self, volume: usize) -> bool {
        self.nodes.iter().all(|n| {
            let s = n.state_of(volume);
            s.conn == ConnState::Connected
                && s.disk == DiskState::UpToDate
                && s.pdsk == DiskState::UpToDate
        })
    }

    pub fn wait_synced(&mut self) {
        self.until("both disks UpToDate", |w| {
            (0..w.models.len()).all(|v| w.synced(v))
        });
    }

    pub fn submit(&mut self, i: usize, sector: u64, bytes: u32, kind: RequestKind<Data>) -> u64 {
        self.submit_to(i, 0, sector, bytes, kind)
    }

    pub fn submit_to(
        &mut self,
        i: usize,
        volume: usize,
        sector: u64,
        bytes: u32,
        kind: RequestKind<Data>,
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.tell(i, || {
            let what = match &kind {
                RequestKind::Write { fua: true, .. } => "write with FUA",
                RequestKind::Write { .. } => "write",
                RequestKind::Read => "read",
                RequestKind::Flush => "flush",
                RequestKind::Discard => "discard",
                RequestKind::WriteZeroes { .. } => "zeroes",
            };
            format!("request {id} {what} {volume}:{sector}+{}", bytes / 512)
        });
        if volume < self.models.len() {
            self.models[volume].on_submit(i, id, sector, bytes, &kind);
            self.nodes[i].requests_open.insert(id, (volume, self.now));
        }
        let request = Request {
            id: RequestId(id),
            volume: VolumeNr(volume as u16),
            sector,
            bytes,
            kind,
        };
        self.event(i, Event::Request(request));
        id
    }

    pub fn write(&mut self, i: usize, sector: u64, data: Vec<u8>) -> u64 {
        let bytes = u32::try_from(data.len()).expect("no write is that long");
        let payload = Data(Rc::new(data));
        let kind = RequestKind::Write {
            payload,
            fua: false,
        };
        self.submit(i, sector, bytes, kind)
    }

    pub fn write_wait(&mut self, i: usize, sector: u64, data: Vec<u8>) -> bool {
        let id = self.write(i, sector, data);
        self.wait_done(i, id).is_ok()
    }

    pub fn read(&mut self, i: usize, sector: u64, bytes: u32) -> Result<Vec<u8>, RequestError> {
        let id = self.submit(i, sector, bytes, RequestKind::Read);
        let data = self.wait_done(i, id)?;
        Ok(data.expect("a read brings data").0.to_vec())
    }

    pub fn wait_done(&mut self, i: usize, id: u64) -> Result<Option<Data>, RequestError> {
        self.until("a request", |w| w.nodes[i].completed.contains_key(&id));
        let done = self.nodes[i].completed.remove(&id);
        done.expect("the completion is there")
    }

    pub fn differences(&self, volume: usize) -> Vec<u64> {
        let (a, b) = (&self.nodes[0].disks[volume], &self.nodes[1].disks[volume]);
        a.differences(b, a.data_sectors.min(b.data_sectors))
    }

    pub fn disks_equal(&self) -> bool {
        (0..self.models.len()).all(|v| self.differences(v).is_empty())
    }

    pub fn quiet(&mut self) {
        self.run_ms(300);
    }

    pub fn logged(&self, i: usize, text: &str) -> bool {
        self.nodes[i].log.iter().any(|line| line.contains(text))
    }

    pub fn is_primary(&self, i: usize, volume: usize) -> bool {
        self.nodes[i].alive && self.nodes[i].view[volume].role == Role::Primary
    }
}
