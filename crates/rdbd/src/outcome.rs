//! How an operation ends.

use rdb_control::{Refusal, code};

/// How an operation ends when it does not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// For DRBD's reasons.
    Refused(Refusal),
    /// For others.
    Error(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

pub(crate) type Outcome<T> = Result<T, Failure>;

/// The failure in words.
pub(crate) fn words(failure: &Failure) -> String {
    match failure {
        Failure::Refused(refusal) => refusal.to_string(),
        Failure::Error(text) => text.clone(),
    }
}

pub(crate) fn unknown_resource() -> Refusal {
    Refusal::failure(code::RES_NOT_KNOWN, "unknown resource")
}

pub(crate) fn unknown_minor() -> Refusal {
    Refusal::failure(code::MINOR_INVALID, "unknown minor")
}
