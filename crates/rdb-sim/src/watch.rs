//! Looking over the engine's shoulder: what it asks for and hears, line by line. (What would be left of its disk if the power
//! went at that moment the node says.)

use crate::world::World;

/// Is this line a write of the application or the resync, on its way to the disk or to the peer?
pub fn is_data(line: &str) -> bool {
    [
        "write ",
        "zero ",
        "send P_DATA ",
        "send P_TRIM",
        "send P_ZEROES",
    ]
    .iter()
    .any(|what| line.starts_with(what))
}

impl World {
    /// Lets things happen until `done`, and shows `look` each line of node `i`'s record when it has just been written.
    pub fn watch(
        &mut self,
        i: usize,
        mut done: impl FnMut(&World) -> bool,
        mut look: impl FnMut(&World, &str),
    ) {
        for _ in 0..2_000_000 {
            let lines = self.nodes[i].record.replace(Vec::new()).unwrap_or_default();
            for line in lines {
                look(self, &line);
            }
            if done(self) {
                self.nodes[i].record = None;
                return;
            }
            assert!(self.tick(), "nothing happens any more: {}", self.states());
        }
        panic!("watched too long: {}", self.states());
    }

    /// As [`World::watch`], until requests and commands of node `i` are answered and nothing is under way there.
    pub fn watch_quiet(&mut self, i: usize, look: impl FnMut(&World, &str)) {
        let idle = |w: &World| {
            let node = &w.nodes[i];
            node.requests_open.is_empty() && node.admin_open.is_empty() && node.pending.is_empty()
        };
        self.watch(i, idle, look);
    }
}
