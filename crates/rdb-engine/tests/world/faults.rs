//! I/O that is carried out, fails, or is under way when a node dies.

use rdb_engine::{ConnEvent, ConnId, Event, IoTag};

use super::{Node, Op, World};

impl World {
    /// The process dies and is there again at once, without a configuration: every I/O under way may have happened or
    /// not, what was handed to TCP arrives.
    pub fn kill(&mut self, i: usize) {
        self.die(i, false);
        self.nodes[i].alive = true;
    }

    /// The node loses power: what was not flushed may be lost too.
    pub fn power_cut(&mut self, i: usize) {
        self.die(i, true);
        self.nodes[i].alive = true;
    }

    /// As [`World::kill`]: nothing of the disk is lost.
    pub fn crash(&mut self, i: usize) {
        self.kill(i);
    }

    pub fn die(&mut self, i: usize, power: bool) {
        if self.trace {
            let what = if power { "loses power" } else { "is killed" };
            println!("{:>12} {} {what}", self.now.0 / 1000, self.nodes[i].name);
        }
        let seed = self.rng.next();
        for pending in std::mem::take(&mut self.nodes[i].pending) {
            if self.rng.one_in(2) {
                pending
                    .op
                    .carry_out_partly(&mut self.nodes[i].disks, &mut self.rng);
            }
        }
        if power {
            for disk in &mut self.nodes[i].disks {
                disk.power_cut(&mut self.rng);
            }
        }
        for model in &mut self.models {
            model.on_death(i);
            if power {
                model.on_power_cut();
            }
        }
        let node = &mut self.nodes[i];
        node.resource = Node::engine(seed);
        node.timers.clear();
        node.connecting = false;
        node.device = None;
        node.requests_open.clear();
        node.admin_open.clear();
        node.alive = false;
        let was = std::mem::take(&mut node.connected);
        self.net[i] = Default::default();
        if was && self.nodes[1 - i].connected && !self.silent {
            for s in 0..2 {
                if power {
                    let keep = self.rng.below(self.net[1 - i][s].len() as u64 + 1) as usize;
                    self.net[1 - i][s].truncate(keep);
                }
                self.net[1 - i][s].push_back(None);
            }
        }
        self.mend_severed();
    }

    pub fn carry_out(&mut self, i: usize, tag: Option<IoTag>, op: Op) {
        let Some(tag) = tag else {
            let Op::Sent(tag) = op else { unreachable!() };
            return self.event(i, Event::Connection(ConnId::FIRST, ConnEvent::Sent { tag }));
        };
        let node = &mut self.nodes[i];
        let event = if op.fails(&mut node.disks, node.read_errors, node.write_errors) {
            // A failed write may have reached the medium, or a part of it.
            if self.rng.one_in(2) {
                op.carry_out_partly(&mut node.disks, &mut self.rng);
            }
            op.failed(tag)
        } else {
            op.carry_out(tag, &mut node.disks, &mut node.record)
        };
        self.event(i, event);
    }
}
