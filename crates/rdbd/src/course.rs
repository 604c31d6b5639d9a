//! What becomes of the daemon: it serves, is to end, or is being replaced. These exclude each other.

use std::path::PathBuf;

use rdb_control::{BEING_REPLACED, ReasonReport, Refusal};
use tokio::sync::watch;

use crate::outcome::{Failure, Outcome};

/// "Device is held open by someone" (`docs/spec/admin.md`, section 4.4).
pub(crate) const HELD_OPEN: i32 = -12;
/// "In transient state, retry after next state change" (`docs/spec/admin.md`, section 4.4).
const IN_TRANSIENT_STATE: i32 = -18;

/// What becomes of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Course {
    /// It serves.
    #[default]
    Serves,
    /// It is to end: a signal or `shutdown` wants that. It does so when nobody would be cut off. There is no way back.
    Ends {
        /// Who has said so, in words.
        says: &'static str,
        /// Whom it waits for; empty while that is not known, and when it is nobody.
        waits_for: String,
    },
    /// Another program goes on in this process. Back to serving if what runs can not be put on record.
    Replaced {
        /// The program.
        program: PathBuf,
        /// Everything has been handed over.
        is_ready: bool,
    },
}

/// Why what only a daemon that serves does is refused, if it is.
fn refusal(course: &Course) -> Option<Failure> {
    match course {
        Course::Serves => None,
        Course::Ends { waits_for, .. } if waits_for.is_empty() => {
            let mut refusal = Refusal::state(IN_TRANSIENT_STATE);
            "it is ending".clone_into(&mut refusal.info);
            Some(refusal.into())
        }
        Course::Ends { waits_for, .. } => {
            let mut refusal = Refusal::state(HELD_OPEN);
            refusal.info = format!("it is ending: {waits_for}");
            Some(refusal.into())
        }
        Course::Replaced { .. } => Some(Failure::Error(format!("{BEING_REPLACED} already"))),
    }
}

/// The course, watched by whoever depends on it.
#[derive(Debug, Default)]
pub(crate) struct Life(watch::Sender<Course>);

impl Life {
    pub(crate) fn course(&self) -> Course {
        self.0.borrow().clone()
    }

    /// The daemon is to end; it is told once.
    pub(crate) fn is_told_to_end(&self, says: &'static str) {
        let is_new = self.0.send_if_modified(|course| {
            let serves = *course == Course::Serves;
            if serves {
                let waits_for = String::new();
                *course = Course::Ends { says, waits_for };
            }
            serves
        });
        match is_new {
            true => tracing::info!("{says}: going down"),
            false => tracing::info!("{says}: it is ending already"),
        }
    }

    /// Says whom the end waits for.
    pub(crate) fn waits_for(&self, users: &str) {
        self.0.send_modify(|course| {
            if let Course::Ends { waits_for, .. } = course {
                users.clone_into(waits_for);
            }
        });
    }

    /// What `status` says of a daemon that is to end.
    pub(crate) fn ending(&self) -> Option<ReasonReport> {
        let Course::Ends { says, waits_for } = self.course() else {
            return None;
        };
        let waits = match waits_for.is_empty() {
            true => String::new(),
            false => format!(", as soon as nobody is cut off by that: {waits_for}"),
        };
        Some(ReasonReport {
            word: "ending".to_owned(),
            text: format!("rdbd was {says} and is ending{waits}"),
            advice: Some(
                "end what uses the devices; then start rdbd again if it is to serve".to_owned(),
            ),
            since_s: None,
        })
    }

    /// Refuses what only a daemon that serves does.
    pub(crate) fn check_serves(&self) -> Outcome<()> {
        refusal(&self.0.borrow()).map_or(Ok(()), Err)
    }

    /// Comes with that refusal when the daemon does not serve, or not any more.
    pub(crate) async fn serves_no_more(&self) -> Failure {
        let mut watched = self.0.subscribe();
        let mut found = None;
        let is_over = |course: &Course| {
            found = refusal(course);
            found.is_some()
        };
        let _ = watched.wait_for(is_over).await;
        match found {
            Some(failure) => failure,
            // The sender lives as long as the node.
            None => std::future::pending().await,
        }
    }

    /// From now on this program goes on.
    ///
    /// # Errors
    /// If the daemon is ending, or another one does so already.
    pub(crate) fn begin_replacement(&self, program: PathBuf) -> Outcome<()> {
        self.check_serves()?;
        let is_ready = false;
        let course = Course::Replaced { program, is_ready };
        self.0.send_replace(course);
        Ok(())
    }

    /// It does not, and nothing has been touched.
    pub(crate) fn cancel_replacement(&self) {
        self.0.send_replace(Course::Serves);
    }

    /// Everything has been handed over.
    pub(crate) fn finish_replacement(&self) {
        self.0.send_modify(|course| {
            if let Course::Replaced { is_ready, .. } = course {
                *is_ready = true;
            }
        });
    }

    pub(crate) fn is_being_replaced(&self) -> bool {
        matches!(*self.0.borrow(), Course::Replaced { .. })
    }

    /// Comes when the daemon is not being replaced, or not any more.
    pub(crate) async fn goes_on(&self) {
        let mut watched = self.0.subscribe();
        let is_over = |course: &Course| !matches!(course, Course::Replaced { .. });
        if watched.wait_for(is_over).await.is_err() {
            // Its sender lives as long as the node.
            std::future::pending().await
        }
    }

    /// Comes when the daemon is to end, or can be replaced.
    pub(crate) async fn leaves(&self) -> Course {
        let mut watched = self.0.subscribe();
        let leaves = |course: &Course| match course {
            Course::Serves => false,
            Course::Ends { .. } => true,
            Course::Replaced { is_ready, .. } => *is_ready,
        };
        let found = watched.wait_for(leaves).await.map(|course| course.clone());
        match found {
            Ok(course) => course,
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_is_to_end_says_whom_it_waits_for() {
        let life = Life::default();
        assert_eq!(life.ending(), None);
        life.is_told_to_end("terminated");
        let ending = life.ending().expect("it is");
        assert_eq!(ending.text, "rdbd was terminated and is ending");
        life.waits_for("r0/0 is held open by a mount on /mnt");
        let ending = life.ending().expect("it is");
        assert!(
            ending
                .text
                .ends_with(": r0/0 is held open by a mount on /mnt")
        );
        let replaced = Life::default();
        replaced.begin_replacement(PathBuf::new()).unwrap();
        assert_eq!(replaced.ending(), None);
    }
}
