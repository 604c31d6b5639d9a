//! The questions that a client asks, and what it makes of the answers.

use crate::client::{Client, ClientError};
use crate::evidence::EvidenceReport;
use crate::op::Op;
use crate::report::{GiReport, ResourceReport, ResourceShown, StatusReport};

impl Client {
    /// What there is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<StatusReport, ClientError> {
        self.call(Op::Status)
    }

    /// What there is of one resource; nothing if it is not there. A daemon of before there was the question is asked for all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status_of(&mut self, resource: &str) -> Result<Option<ResourceReport>, ClientError> {
        let op = Op::StatusOf {
            resource: resource.to_owned(),
        };
        let report: StatusReport = match self.call(op) {
            Err(ClientError::Error(text)) if text.contains("unknown operation") => self.status()?,
            answer => answer?,
        };
        let mut resources = report.resources.into_iter();
        Ok(resources.find(|found| found.name == resource))
    }

    /// How it is configured.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn show(&mut self) -> Result<Vec<ResourceShown>, ClientError> {
        self.call(Op::Show)
    }

    /// Whether a volume has a disk. A daemon of before there was the question is asked how everything is configured.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn has_disk(&mut self, minor: u32) -> Result<bool, ClientError> {
        match self.call(Op::HasDisk { minor }) {
            Err(ClientError::Error(text)) if text.contains("unknown operation") => {}
            answer => return answer,
        }
        let shown = self.show()?;
        let mut volumes = shown.iter().flat_map(|resource| &resource.volumes);
        Ok(volumes.any(|volume| volume.minor == minor && volume.disk.is_some()))
    }

    /// Generation identifiers of an attached volume.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn generation(&mut self, minor: u32) -> Result<GiReport, ClientError> {
        self.call(Op::GetGi { minor })
    }

    /// What the daemon knows of what was written apart.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn evidence(&mut self, resource: &str) -> Result<EvidenceReport, ClientError> {
        let resource = resource.to_owned();
        self.call(Op::Evidence { resource })
    }
}
