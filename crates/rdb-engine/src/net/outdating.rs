//! A Primary that parts from us and has our disks outdated is answered when that is on record (L49).

/// The answer that is due, and how many disks have to say so on record before. Set by the peer's request, cleared by the answer and
/// with the connection. Without it the peer goes on alone beside a disk that is as good by its record.
#[derive(Debug, Default)]
pub(crate) struct Outdating(Option<(i32, usize)>);

impl Outdating {
    /// So many disks have to say so before the peer is given this answer.
    pub(crate) fn begin(&mut self, code: i32, disks: usize) {
        self.0 = (disks > 0).then_some((code, disks));
    }

    /// Whether the peer is about to go on alone.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// One more says so; gives back the answer if it was the last.
    pub(crate) fn recorded(&mut self) -> Option<i32> {
        let (code, left) = self.0.as_mut()?;
        *left -= 1;
        let code = (*left == 0).then_some(*code)?;
        self.0 = None;
        Some(code)
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }
}
