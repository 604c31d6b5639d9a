//! Those who use the nodes: administrators and applications, and what they see.

use std::rc::Rc;

use rdb_engine::config::NetOptions;
use rdb_engine::state::{ConnState, DiskState, Role};
use rdb_engine::{
    AdminError, AdminId, Command, Event, Request, RequestError, RequestId, RequestKind, VolumeNr,
};

use super::{Data, V, World, disk_info};

impl World {
    pub fn admin(&mut self, i: usize, command: Command) -> Result<(), AdminError> {
        let id = self.start_admin(i, command);
        self.until("a command", |w| w.nodes[i].admin.contains_key(&id));
        self.nodes[i].admin.remove(&id).unwrap()
    }

    pub fn start_admin(&mut self, i: usize, command: Command) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if self.trace {
            println!(
                "{:>12} {} command {id} {command:?}",
                self.now.0 / 1000,
                self.nodes[i].name
            );
        }
        self.nodes[i].admin_open.insert(id, command.clone());
        self.event(
            i,
            Event::Admin {
                id: AdminId(id),
                command,
            },
        );
        id
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
        self.admin(i, connect).unwrap();
    }

    pub fn up(&mut self, i: usize, options: &NetOptions) {
        for volume in 0..self.nodes[i].disks.len() {
            let nr = VolumeNr(volume as u16);
            let minor = volume as u32;
            self.admin(i, Command::NewVolume { volume: nr, minor })
                .unwrap();
            self.admin(i, self.attach_command(i, volume)).unwrap();
        }
        self.connect_with(i, options.clone());
    }

    /// Two fresh nodes, connected, `a` Primary, in sync.
    pub fn pair(seed: u64, options: &NetOptions) -> World {
        let mut world = World::new(seed);
        world.connect_fresh(options);
        world.primary(0, true).unwrap();
        world.wait_synced();
        world
    }

    /// As [`World::pair`] on larger disks: the first sync is skipped.
    pub fn large_pair(seed: u64, sectors: u64, options: &NetOptions) -> World {
        let mut world = World::with_disks(seed, sectors, sectors);
        world.connect_fresh(options);
        let skip = Command::NewCurrentUuid {
            volume: V,
            clear_bitmap: true,
        };
        world.admin(0, skip).unwrap();
        world.wait_synced();
        world.primary(0, false).unwrap();
        world.quiet();
        world
    }

    pub fn connect_fresh(&mut self, options: &NetOptions) {
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
        if volume < self.models.len() {
            self.models[volume].on_submit(i, id, sector, bytes, &kind);
            self.nodes[i].requests_open.insert(id, (volume, self.now));
        }
        if self.trace {
            let what = match &kind {
                RequestKind::Write { payload, fua } => {
                    format!("write {} fua {fua}", payload.0.first().unwrap_or(&0))
                }
                other => format!("{other:?}").chars().take(40).collect(),
            };
            let (name, end) = (self.nodes[i].name, sector + u64::from(bytes / 512));
            println!(
                "{:>12} {name} submit {id} {sector}..{end} {what}",
                self.now.0 / 1000
            );
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
        let bytes = u32::try_from(data.len()).unwrap();
        let payload = Data(Rc::new(data));
        self.submit(
            i,
            sector,
            bytes,
            RequestKind::Write {
                payload,
                fua: false,
            },
        )
    }

    pub fn write_wait(&mut self, i: usize, sector: u64, data: Vec<u8>) -> bool {
        let id = self.write(i, sector, data);
        self.wait_done(i, id).is_ok()
    }

    pub fn read(&mut self, i: usize, sector: u64, bytes: u32) -> Result<Vec<u8>, RequestError> {
        let id = self.submit(i, sector, bytes, RequestKind::Read);
        self.wait_done(i, id).map(|d| d.unwrap().0.to_vec())
    }

    pub fn wait_done(&mut self, i: usize, id: u64) -> Result<Option<Data>, RequestError> {
        self.until("a request", |w| w.nodes[i].completed.contains_key(&id));
        self.nodes[i].completed.remove(&id).unwrap()
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
        self.nodes[i].alive && self.nodes[i].state_of(volume).role == Role::Primary
    }
}
