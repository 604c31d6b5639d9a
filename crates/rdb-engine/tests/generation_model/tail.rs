//! Ghost: what protocol A promises its users, and what not.
//!
//! Users hear that a write is done when it is on the Primary's disk and on its way to the mirror. Such a write is of the tail
//! until its writer knows that the link is lost, and has what the mirror may lack marked under a name. Until then a mirror that
//! is promoted alone does not know of it: the tail is given up by who takes over, and what becomes of it afterwards is no
//! loss. So long as nobody takes over, the tail is as good as any acknowledged write; and what its writer still has when it
//! has marked it is so from then on, whoever took over meanwhile. (There are two generations then, and that is reported.)

use crate::node::Step;
use crate::world::World;

impl World {
    /// Writes that node `n` has and the other has not, given up or not: reason enough to call two disks diverged.
    pub(crate) fn has_alone(&self, n: usize) -> u16 {
        let counted = self.acknowledged | self.tail;
        self.nodes[n].disk.seen & counted & !self.nodes[1 - n].disk.seen
    }
}

impl Step<'_> {
    /// The users of node `n` hear under protocol A that a write is done.
    pub(crate) fn acknowledge_tail(&mut self, n: usize, write: u16) {
        let other = &self.world.nodes[1 - n].disk;
        let (taken_over, mirrored) = (other.named, other.seen & write != 0);
        if mirrored || !taken_over {
            self.world.acknowledged |= write;
        }
        self.world.tail |= write;
    }

    /// Node `n` is promoted, and cannot ask the other one.
    pub(crate) fn give_up_tail(&mut self, n: usize) {
        let lacking = self.world.tail & !self.world.nodes[n].disk.seen;
        self.world.acknowledged &= !lacking;
    }

    /// Node `n` knows that the link is lost, and what the mirror may lack is marked under a name.
    pub(crate) fn keep_tail(&mut self, n: usize) {
        let kept = self.world.tail & self.world.nodes[n].disk.seen;
        self.world.acknowledged |= kept;
        self.world.tail &= !kept;
    }
}
