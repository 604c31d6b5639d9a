//! The challenges that this process has given and that nobody has answered.
//!
//! Resources may share a secret. If one of them answered a challenge that another one has given, a stranger could carry
//! it from the one to the other and be let in without knowing the secret. So every thread looks here first. What lies
//! outside of this process is not seen: another daemon of this machine, or the other node, whose answers a stranger
//! between the two may pass on (`docs/security.md`).

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const CHALLENGE_BYTES: usize = 64;

/// All of them; clones mean the same ones. One for the whole process, handed to each resource.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<Mutex<HashSet<[u8; CHALLENGE_BYTES]>>>);

/// A challenge that counts as outstanding until it is dropped.
#[derive(Debug)]
pub(crate) struct Challenge {
    bytes: [u8; CHALLENGE_BYTES],
    all: Challenges,
}

impl Challenges {
    fn lock(&self) -> MutexGuard<'_, HashSet<[u8; CHALLENGE_BYTES]>> {
        // Inserting and removing change nothing by halves.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh one. It is on record before anybody can know it.
    pub(crate) fn draw(&self) -> io::Result<Challenge> {
        let mut bytes = [0; CHALLENGE_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        self.lock().insert(bytes);
        Ok(Challenge {
            bytes,
            all: self.clone(),
        })
    }

    /// Whether what somebody sent begins with a challenge of ours.
    pub(crate) fn contain(&self, challenge: &[u8]) -> bool {
        challenge
            .first_chunk()
            .is_some_and(|bytes| self.lock().contains(bytes))
    }
}

impl Challenge {
    pub(crate) fn bytes(&self) -> &[u8; CHALLENGE_BYTES] {
        &self.bytes
    }
}

impl Drop for Challenge {
    fn drop(&mut self) {
        self.all.lock().remove(&self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_ours_on_every_thread_as_long_as_it_is_outstanding() {
        let all = Challenges::default();
        let challenge = all.draw().expect("random bytes");
        let bytes = *challenge.bytes();
        let longer = [&bytes[..], &[0; 64]].concat();
        let elsewhere = all.clone();
        std::thread::spawn(move || {
            assert!(elsewhere.contain(&bytes) && elsewhere.contain(&longer));
            assert!(!elsewhere.contain(&bytes[..63]) && !elsewhere.contain(&[0; 64]));
        })
        .join()
        .expect("no panic");
        drop(challenge);
        assert!(!all.contain(&bytes));
    }
}
