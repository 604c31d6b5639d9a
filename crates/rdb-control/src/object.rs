//! What an operation is done to.

use crate::op::Op;

/// What an operation is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// A resource, by its name.
    Resource(&'a str),
    /// A volume, by its minor number.
    Minor(u32),
    /// No single one of them.
    Node,
}

impl Op {
    /// What it is done to.
    pub fn object(&self) -> Object<'_> {
        match self {
            Op::NewResource { resource, .. }
            | Op::NewMinor { resource, .. }
            | Op::Connect { resource, .. }
            | Op::Disconnect { resource, .. }
            | Op::Snapshot { resource, .. }
            | Op::NetOptions { resource, .. }
            | Op::ResourceOptions { resource, .. }
            | Op::DelResource { resource }
            | Op::Down { resource }
            | Op::StatusOf { resource }
            | Op::Evidence { resource } => Object::Resource(resource),
            Op::Attach { minor, .. }
            | Op::Detach { minor, .. }
            | Op::Primary { minor, .. }
            | Op::Secondary { minor }
            | Op::Invalidate { minor }
            | Op::InvalidateRemote { minor }
            | Op::Verify { minor, .. }
            | Op::Outdate { minor }
            | Op::NewCurrentUuid { minor, .. }
            | Op::PauseSync { minor }
            | Op::ResumeSync { minor }
            | Op::SuspendIo { minor }
            | Op::ResumeIo { minor }
            | Op::DiskOptions { minor, .. }
            | Op::DelMinor { minor }
            | Op::HasDisk { minor }
            | Op::GetGi { minor }
            | Op::WaitConnect { minor, .. }
            | Op::WaitSync { minor, .. } => Object::Minor(*minor),
            Op::Hello { .. }
            | Op::Status
            | Op::Events { .. }
            | Op::Show
            | Op::Shutdown
            | Op::Restart { .. }
            | Op::Takeover => Object::Node,
        }
    }
}
