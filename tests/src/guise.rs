//! What a peer that is made by hand makes itself out to be at the handshake.

use crate::packets::{Sizes, State, Uuids};

/// Which generation a peer claims to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// None: no `P_UUIDS`.
    Untold,
    /// A disk that was never used: it becomes the target of a full sync.
    Blank,
    /// The node's own identifiers, all of them: nothing to sync.
    Copy,
    /// The node's current one alone: it becomes the target of a resync of what the node has marked.
    Behind,
    /// One that the node's data come from: the node becomes the target.
    Ahead,
    /// These.
    These(Uuids),
}

/// What a peer makes itself out to be at the handshake.
#[derive(Debug, Clone)]
pub struct Guise {
    /// The state that it tells.
    pub state: State,
    /// The generation that it claims.
    pub generation: Generation,
    /// Its sizes, if not the node's.
    pub sizes: Option<Sizes>,
    /// `P_PROTOCOL`, if not the node's.
    pub protocol: Option<Vec<u8>>,
    /// `P_SYNC_PARAM89`, if not the node's.
    pub sync_param: Option<Vec<u8>>,
}

impl Guise {
    /// A node in this state of its disk with that generation.
    #[must_use]
    pub fn new(disk: u32, generation: Generation) -> Self {
        Self {
            state: State::meeting(disk),
            generation,
            sizes: None,
            protocol: None,
            sync_param: None,
        }
    }

    /// A disk that was never used.
    #[must_use]
    pub fn blank() -> Self {
        Self::new(4, Generation::Blank)
    }

    /// In sync.
    #[must_use]
    pub fn equal() -> Self {
        Self::new(8, Generation::Copy)
    }

    /// It missed what the node has marked.
    #[must_use]
    pub fn behind() -> Self {
        Self::new(8, Generation::Behind)
    }

    /// It has newer data than the node.
    #[must_use]
    pub fn ahead() -> Self {
        Self::new(8, Generation::Ahead)
    }

    /// No disk.
    #[must_use]
    pub fn diskless() -> Self {
        let mut guise = Self::new(0, Generation::Untold);
        guise.sizes = Some(Sizes {
            largest: 1 << 20,
            ..Sizes::of(0)
        });
        guise
    }
}
