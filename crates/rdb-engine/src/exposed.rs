//! What users of a volume have seen last: the generation whose data they read and wrote, wherever these are
//! (`docs/spec/behaviour.md`, section 2.1).
//!
//! A disk that holds another generation is not shown to them while a node is Primary. Two things that no name tells are remembered
//! beside it: that users wrote on, at the peer alone, under the name that a disk of ours still has; and that the peer has begun the
//! next generation because our disk was lost, whether it has come to tell or not.

use crate::generation::Generation;

/// What users have seen last.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Exposed {
    /// The generation.
    current: Generation,
    /// Users have written beyond it on the peer's disk alone: one that holds it is not what they saw last.
    left_behind: Generation,
    /// Users saw it when our disk was lost beside a good one: what both disks had, or, of a target's, its source's.
    lost_beside: Generation,
}

impl Exposed {
    /// The generation; [`Generation::NONE`] while users have seen none.
    pub(crate) fn current(&self) -> Generation {
        self.current
    }

    /// Users see this generation from now on.
    pub(crate) fn show(&mut self, generation: Generation) {
        self.current = generation;
    }

    /// A write is done that only the peer's disk has.
    pub(crate) fn leave_behind(&mut self) {
        self.left_behind = self.current;
    }

    /// No disk lacks what users have written.
    pub(crate) fn caught_up(&mut self) {
        self.left_behind = Generation::NONE;
    }

    /// Our disk is lost beside the peer's good one, which has this generation.
    pub(crate) fn lose_disk_beside(&mut self, shared: Option<Generation>) {
        self.lost_beside = shared.unwrap_or_default();
    }

    /// Whether a disk that holds this generation lacks what users wrote at the peer.
    pub(crate) fn is_left_behind(&self, generation: Generation) -> bool {
        !self.left_behind.is_empty() && self.left_behind == generation
    }

    /// What users saw when our disk was lost beside a good one; [`Generation::NONE`] if it was not.
    pub(crate) fn lost_beside(&self) -> Generation {
        self.lost_beside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Generation = Generation::new(0x10);
    const NEW: Generation = Generation::new(0x20);

    #[test]
    fn the_primary_bit_names_no_other_data() {
        let mut exposed = Exposed::default();
        exposed.show(OLD.with_primary_bit(true));
        assert!(exposed.current() == OLD && exposed.current() != NEW);
        exposed.leave_behind();
        assert!(exposed.is_left_behind(OLD));
    }

    #[test]
    fn a_disk_stays_behind_until_it_has_caught_up() {
        let mut exposed = Exposed::default();
        assert!(!exposed.is_left_behind(Generation::NONE), "none is behind");
        exposed.show(OLD);
        exposed.leave_behind();
        exposed.show(NEW);
        assert!(exposed.is_left_behind(OLD) && !exposed.is_left_behind(NEW));
        exposed.caught_up();
        assert!(!exposed.is_left_behind(OLD));
    }
}
