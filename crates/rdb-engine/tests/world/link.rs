//! The link between the nodes: how it breaks, and how each node finds out.

use rdb_engine::{ConnEvent, ConnId, Event, LossCause};
use replica_proto::Socket;

use super::World;

impl World {
    /// Node `i` closed its sockets: what it sent before still arrives; then the peer sees the end of each.
    pub fn close(&mut self, i: usize) {
        self.nodes[i].connected = false;
        self.net[i] = Default::default();
        if self.nodes[1 - i].connected && !self.silent {
            self.net[1 - i].iter_mut().for_each(|q| q.push_back(None));
        }
    }

    /// Both nodes find out at once, and what was on its way is lost.
    pub fn cut(&mut self) {
        self.link = false;
        self.net = Default::default();
        for i in 0..2 {
            if self.nodes[i].connected {
                self.nodes[i].connected = false;
                self.lose(i, Socket::Meta, 110);
            }
        }
    }

    pub fn lose(&mut self, i: usize, socket: Socket, error: i32) {
        let cause = LossCause::Closed { error };
        self.event(
            i,
            Event::Connection(ConnId::FIRST, ConnEvent::Lost { socket, cause }),
        );
    }

    /// Some of what is on its way arrives, different amounts each way and on each socket, and the nodes find out at
    /// different times, by different sockets.
    pub fn cut_raggedly(&mut self) {
        self.link = false;
        self.severed = true;
        for i in 0..2 {
            if self.nodes[i].connected {
                for s in 0..2 {
                    let keep = self.rng.below(self.net[i][s].len() as u64 + 1) as usize;
                    self.net[i][s].truncate(keep);
                    self.net[i][s].push_back(None);
                }
            }
        }
        self.mend_severed();
    }

    /// A new connection is not cut by what happened to the old.
    pub fn mend_severed(&mut self) {
        if self.severed && self.nodes.iter().all(|n| !n.connected) {
            self.severed = false;
        }
    }

    /// Everything sent vanishes from now on, and nobody is told.
    pub fn cut_silently(&mut self) {
        self.link = false;
        self.silent = true;
        self.net = Default::default();
    }

    pub fn heal(&mut self) {
        if std::mem::take(&mut self.silent) {
            // TCP loses nothing in between: a connection that outlived this is broken.
            self.severed = true;
            for i in 0..2 {
                if self.nodes[i].connected {
                    self.net[i].iter_mut().for_each(|q| q.push_back(None));
                }
            }
            self.mend_severed();
        }
        self.link = true;
    }
}
