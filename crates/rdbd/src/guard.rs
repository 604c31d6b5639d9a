//! Looks after the files by which others find the daemon, and makes anew what was removed: the run directory, the pid file,
//! the status file and the record. (The control socket's server looks after that.)

use std::cell::RefCell;
use std::rc::Rc;

use rdb_frontend::status_file::{self, StatusFileHandle};

use crate::node::{self, Node};
use crate::run_dir::Held;
use crate::server::LOOK;

/// The status file, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusFile(Rc<RefCell<Option<StatusFileHandle>>>);

impl StatusFile {
    /// Serves it; what went wrong is logged.
    pub(crate) async fn serve(&self, node: &Node) {
        let registry = node.registry.clone();
        let path = node.run_dir.join(rdb_control::STATUS_NAME);
        let content = move || node::status_text(&registry);
        // What lies there may be a dead file system, and asking it takes time.
        let served = tokio::task::spawn_blocking(move || status_file::serve(&path, content)).await;
        match served {
            Ok(Ok(handle)) => *self.0.borrow_mut() = Some(handle),
            Ok(Err(error)) => tracing::error!("no status file: {error}"),
            Err(error) => tracing::error!("no status file: {error}"),
        }
    }

    /// Ends the service.
    pub(crate) async fn end(&self) {
        let handle = self.0.borrow_mut().take();
        if let Err(error) = tokio::task::spawn_blocking(move || drop(handle)).await {
            tracing::error!("the status file: {error}");
        }
    }

    async fn restore(&self, node: &Node) {
        let is_gone = self
            .0
            .borrow()
            .as_ref()
            .is_some_and(|file| !file.is_there());
        if is_gone {
            tracing::warn!("the status file was removed: made anew");
            self.end().await;
            self.serve(node).await;
        }
    }
}

/// Ends with the daemon.
pub(crate) async fn follow(node: Rc<Node>, held: Rc<RefCell<Held>>, status: StatusFile) {
    let mut look = tokio::time::interval(LOOK);
    let mut complained = false;
    loop {
        look.tick().await;
        let restored = held.borrow_mut().restore();
        match restored {
            Ok(made) => {
                for what in made {
                    tracing::warn!("the {what} was removed: made anew");
                }
                complained = false;
            }
            Err(error) if !complained => {
                tracing::error!("{error:#}");
                complained = true;
            }
            Err(_) => {}
        }
        status.restore(&node).await;
        node.keeper.restore();
    }
}
