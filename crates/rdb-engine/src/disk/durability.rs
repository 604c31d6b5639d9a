//! How much of what the data disk has taken a power cut may take back.

/// Data writes by their number, in the order in which they ended.
#[derive(Debug)]
pub(crate) struct Durability {
    /// How many have ended.
    written: u64,
    /// How many of them had when the flush that metadata waits for began.
    flushing: u64,
    /// How many had when the last such flush that went well began.
    durable: u64,
}

impl Durability {
    /// A disk that is attached: what it took before may still be in its cache.
    pub(crate) fn new() -> Durability {
        Durability {
            written: 1,
            flushing: 0,
            durable: 0,
        }
    }

    /// A data write, or a flush of users', has ended.
    pub(crate) fn write_ended(&mut self) {
        self.written += 1;
    }

    pub(crate) fn flush_begins(&mut self) {
        self.flushing = self.written;
    }

    /// The flush that began last went well.
    pub(crate) fn flushed(&mut self) {
        self.durable = self.flushing;
    }

    /// Whether a data write has ended that a power cut may take back.
    pub(crate) fn is_volatile(&self) -> bool {
        self.written > self.durable
    }

    /// # Panics
    /// If more is durable than was flushed, or more flushed than written.
    pub(crate) fn check(&self) {
        assert!(
            self.durable <= self.flushing && self.flushing <= self.written,
            "{self:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_ends_during_a_flush_is_not_durable_by_it() {
        let mut durability = Durability::new();
        assert!(durability.is_volatile(), "of the time before the attach");
        durability.flush_begins();
        durability.flushed();
        assert!(!durability.is_volatile());
        durability.write_ended();
        durability.flush_begins();
        durability.write_ended();
        durability.flushed();
        assert!(durability.is_volatile());
        durability.check();
    }

    #[test]
    fn a_flush_that_fails_makes_nothing_durable() {
        let mut durability = Durability::new();
        durability.flush_begins();
        assert!(durability.is_volatile());
        durability.check();
    }
}
