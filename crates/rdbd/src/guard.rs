//! Looks after the files by which others find the daemon, and makes anew what was removed: the run directory, the pid file,
//! the status file (in the place of `/proc/drbd` too, if that is wanted) and the record. (The control socket's server looks after that.)

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use rdb_frontend::status_file::{self, Over, StatusFileHandle};

use crate::node::{self, Node};
use crate::run_dir::Held;
use crate::server::LOOK;
use crate::threads;

/// The status file, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusFile {
    served: Rc<RefCell<Option<StatusFileHandle>>>,
    over: Rc<RefCell<ShownOver>>,
}

/// The file in whose place it is shown, too.
#[derive(Debug, Default)]
struct ShownOver {
    /// `compat.proc-drbd`.
    target: Option<PathBuf>,
    shown: Option<Over>,
    /// It has been logged that it cannot be. Cleared when it can: the next time is told again.
    complained: bool,
}

impl StatusFile {
    /// One that is shown in the place of another file, too, if one is given.
    pub(crate) fn new(over: Option<PathBuf>) -> StatusFile {
        let over = ShownOver {
            target: over,
            ..ShownOver::default()
        };
        StatusFile {
            served: Rc::default(),
            over: Rc::new(RefCell::new(over)),
        }
    }

    /// Serves it; what went wrong is logged.
    pub(crate) async fn serve(&self, node: &Node) {
        let registry = node.registry.clone();
        let path = node.run_dir.join(rdb_control::STATUS_NAME);
        let content = move || node::status_text(&registry);
        // What lies there may be a dead file system, and asking it takes time.
        let served = threads::run("serving it", move || status_file::serve(&path, content)).await;
        match served {
            Ok(Ok(handle)) => *self.served.borrow_mut() = Some(handle),
            Ok(Err(error)) => tracing::error!("no status file: {error}"),
            Err(error) => tracing::error!("no status file: {error}"),
        }
        self.show_over().await;
    }

    /// Shows it in the other file's place, unless it is there already; what goes wrong is logged, once.
    async fn show_over(&self) {
        let Some(target) = self.over.borrow().target.clone() else {
            return;
        };
        let is_shown = |over: &Over| over.is_there();
        if self.over.borrow().shown.as_ref().is_some_and(is_shown) {
            return;
        }
        let place = |file: &StatusFileHandle| (file.path().to_owned(), file.method());
        let served = self.served.borrow().as_ref().map(place);
        let Some((path, method)) = served else {
            return;
        };
        // (Nothing is there that it could take away: the next would be.)
        self.over.borrow_mut().shown = None;
        // What is mounted there may be a dead file system, or another daemon's.
        let shown = threads::run("showing it", {
            let target = target.clone();
            move || Over::show(&path, method, &target).map_err(|error| error.to_string())
        });
        let shown = shown.await.unwrap_or_else(|error| Err(error.to_string()));
        let mut over = self.over.borrow_mut();
        match shown {
            Ok(shown) => {
                tracing::info!("the status file is shown as {}, too", target.display());
                over.shown = Some(shown);
                over.complained = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut over.complained, true) {
                    tracing::warn!("compat.proc-drbd: {error}; it is tried again all the time");
                }
            }
        }
    }

    /// Ends the service.
    pub(crate) async fn end(&self) {
        let over = self.over.borrow_mut().shown.take();
        let handle = self.served.borrow_mut().take();
        // Nobody finds the other file dead.
        let end = move || drop((over, handle));
        if let Err(error) = threads::run_in_any_case("the end of the status file", end).await {
            tracing::error!("{error}");
        }
    }

    async fn restore(&self, node: &Node) {
        let is_gone = self
            .served
            .borrow()
            .as_ref()
            .is_some_and(|file| !file.is_there());
        if is_gone {
            tracing::warn!("the status file was removed: made anew");
            self.end().await;
            self.serve(node).await;
        } else {
            self.show_over().await;
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
