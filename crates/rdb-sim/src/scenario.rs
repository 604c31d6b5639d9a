//! The words in which `docs/spec/behaviour.md`, section 13, tells its scenarios.

use rdb_engine::config::NetOptions;
use rdb_engine::state::{DiskState, Role, VolumeState};
use rdb_engine::{AdminError, Command};

use crate::node::Node;
use crate::world::{V, World};

/// Distance of a sync UUID from the generation it was made of: `X+` is `X + PLUS`.
pub const PLUS: u64 = 0x0001_0000_0000_0000;

/// `Connected P/S U/U`.
pub fn shown(state: VolumeState) -> String {
    let role = |role| match role {
        Role::Primary => 'P',
        Role::Secondary => 'S',
        Role::Unknown => '?',
    };
    let disk = |disk| match disk {
        DiskState::Diskless => 'D',
        DiskState::Attaching => 'A',
        DiskState::Failed => 'F',
        DiskState::Negotiating => 'N',
        DiskState::Inconsistent => 'I',
        DiskState::Outdated => 'O',
        DiskState::DUnknown => '-',
        DiskState::Consistent => 'C',
        DiskState::UpToDate => 'U',
    };
    format!(
        "{} {}/{} {}/{}",
        state.conn,
        role(state.role),
        role(state.peer),
        disk(state.disk),
        disk(state.pdsk)
    )
}

/// The number of DRBD's refusal.
pub fn code(result: Result<(), AdminError>) -> i32 {
    match result.expect_err("a refusal") {
        AdminError::State(error) => error.code(),
        AdminError::Refused { code, .. } => i32::from(code),
        AdminError::Unnumbered { info } => panic!("it has no number: {info}"),
        AdminError::Withdrawn => panic!("nobody took it back"),
    }
}

#[allow(missing_docs, reason = "the names say it")]
impl World {
    /// Node `i` as the scenarios write it.
    pub fn is(&self, i: usize) -> String {
        shown(self.nodes[i].state())
    }

    /// Waits until both nodes are in these states, and says what they are in if they never get there.
    pub fn both(&mut self, a: &str, b: &str) {
        let what = format!("a to be {a} and b to be {b}");
        self.until(&what, |w| w.is(0) == a && w.is(1) == b);
    }

    /// Waits until a node is in this state.
    pub fn node_is(&mut self, i: usize, wanted: &str) {
        let what = format!("{} to be {wanted}", self.nodes[i].name);
        self.until(&what, |w| w.is(i) == wanted);
    }

    /// Generations of a node: current, bitmap and two of the history; bit 0 is left out.
    pub fn gi(&self, i: usize) -> [u64; 4] {
        self.nodes[i].ids()
    }

    /// A pair in sync, `a` Primary, whose history has no empty slot: `C:0:H:G` on both.
    pub fn settled(seed: u64) -> (World, [u64; 3]) {
        World::settled_with(seed, &NetOptions::default())
    }

    pub fn settled_with(seed: u64, options: &NetOptions) -> (World, [u64; 3]) {
        let mut w = World::pair(seed, options);
        w.write_wait(0, 0, vec![1; 4096]);
        // One outage fills the history.
        w.cut();
        w.write_wait(0, 8, vec![2; 4096]);
        w.heal();
        w.both("Connected P/S U/U", "Connected S/P U/U");
        w.quiet();
        let [c, none, h, g] = w.gi(0);
        assert_eq!((none, w.gi(1)), (0, [c, 0, h, g]));
        assert!(c != 0 && h != 0 && g != 0);
        (w, [c, h, g])
    }

    /// The end of a story: both disks in sync, equal, and as promised.
    pub fn ends_well(&mut self) {
        self.wait_synced();
        self.quiet();
        assert!(self.synced(0), "{}", self.states());
        assert!(
            self.disks_equal(),
            "the disks differ: {:?}",
            self.differences(0)
        );
        assert_eq!(self.nodes.each_ref().map(Node::out_of_sync), [0, 0]);
        let promised = self.models[0].violation(&self.nodes[0].disks[0]);
        assert_eq!(promised, None);
    }

    /// The administrator ends it, or makes the end that a refusal left open certain.
    pub fn disconnect(&mut self, i: usize) -> Result<(), AdminError> {
        self.admin(i, Command::Disconnect { force: false })
    }

    pub fn detach(&mut self, i: usize, force: bool) -> Result<(), AdminError> {
        self.admin(i, Command::Detach { volume: V, force })
    }

    pub fn connect(&mut self, i: usize) {
        self.connect_with(i, self.options.clone());
    }

    pub fn discard_my_data(&mut self, i: usize) -> Result<(), AdminError> {
        let command = Command::Connect {
            options: self.options.clone(),
            discard_my_data: true,
            tentative: false,
        };
        self.admin(i, command)
    }

    /// A node loses power and stays off.
    pub fn off(&mut self, i: usize) {
        self.die(i, true);
    }

    /// The machine runs again: volume and disk, and no connection yet.
    pub fn boot(&mut self, i: usize) {
        self.nodes[i].alive = true;
        self.tell_options(i);
        let new = Command::NewVolume {
            volume: V,
            minor: 0,
        };
        self.admin(i, new).unwrap();
        self.attach(i).unwrap();
    }
}

#[allow(missing_docs, reason = "the names say it")]
impl World {
    /// The connection states a node has been in since its log was last forgotten, the first one included.
    pub fn path(&self, i: usize) -> String {
        let mut path = String::new();
        for line in &self.nodes[i].log {
            if let Some((_, change)) = line.split_once("conn( ") {
                let (from, rest) = change.split_once(" -> ").unwrap();
                if path.is_empty() {
                    path.push_str(from);
                }
                path.push(' ');
                path.push_str(rest.split_once(" )").unwrap().0);
            }
        }
        path
    }

    /// What has been logged so far is of no interest any more.
    pub fn forget(&mut self) {
        self.nodes.iter_mut().for_each(|n| n.log.clear());
    }

    /// Bytes of resync data that node `i` has sent since the last time.
    pub fn copied(&mut self, i: usize) -> u64 {
        std::mem::take(&mut self.nodes[i].resync_bytes)
    }

    pub fn rule(&self, i: usize, verdict: i32, rule: u32) -> bool {
        self.logged(i, &format!("uuid_compare()={verdict} by rule {rule}"))
    }

    /// Writes one block of 4 KiB a sector.
    pub fn write_blocks(&mut self, i: usize, sectors: impl IntoIterator<Item = u64>, value: u8) {
        for sector in sectors {
            assert!(self.write_wait(i, sector, vec![value; 4096]), "{sector}");
        }
    }

    /// Everything acknowledged so far survives a power cut from now on.
    pub fn flush(&mut self, i: usize) {
        let id = self.submit(i, 0, 0, rdb_engine::RequestKind::Flush);
        self.wait_done(i, id).unwrap();
    }

    /// Waits for a refusal. Who refuses ends StandAlone; the other one too, unless it hears the end of the connection
    /// before it has looked at what came with it (`docs/spec/behaviour.md`, section 5.7): then it is disconnected here.
    pub fn refused(&mut self) {
        self.until("a refusal", |w| {
            (0..2).any(|i| w.is(i).starts_with("StandAlone"))
        });
        self.run_ms(1_000);
        for i in 0..2 {
            if !self.is(i).starts_with("StandAlone") {
                assert!(!self.is(i).starts_with("Connected"), "{}", self.states());
                self.disconnect(i).unwrap();
            }
        }
    }
}
