//! A handler is asked for, and ends.

use alloc::format;
use alloc::string::ToString;

use crate::effect::{Effect, Level};
use crate::event::{ConnTimer, Payload};
use crate::handler::Handler;
use crate::handling::{Run, Waits};
use crate::ids::{HandlerId, VolumeNr};
use crate::router::Resource;
use crate::rules::trouble::Trouble;
use crate::state::{ConnState, DiskState, Fencing};

impl<P: Payload> Resource<P> {
    /// Has a volume's handler run, if it is configured; nothing waits for it.
    pub(super) fn tell_handler(&mut self, handler: Handler, nr: VolumeNr) {
        self.run_handler(handler, Some(nr), Waits::Nothing);
    }

    /// Asks for a handler, if it is configured.
    pub(super) fn run_handler(
        &mut self,
        handler: Handler,
        volume: Option<VolumeNr>,
        waits: Waits,
    ) -> Option<HandlerId> {
        if !self.options.handlers.has(handler) {
            return None;
        }
        let (id, is_new) = self.handling.begin(Run {
            handler,
            volume,
            waits,
        });
        if is_new {
            self.emit(Effect::RunHandler {
                id,
                handler,
                volume,
                snapshot: None,
            });
        }
        Some(id)
    }

    pub(super) fn on_handler_done(&mut self, id: HandlerId, exit: i32) {
        let Some(run) = self.handling.end(id) else {
            return;
        };
        match run.waits {
            Waits::Nothing => {}
            Waits::Fence => self.peer_fenced(id, exit),
            Waits::Snapshot => self.snapshot_ran(id, exit),
            Waits::Target(nr, uuid, session) => {
                let waits = self.awaits_sync(nr, &[ConnState::WFSyncUUID, ConnState::Behind]);
                if waits && session == self.net.session && self.may_sync(nr, run.handler, exit) {
                    self.begin_target(nr, uuid);
                }
            }
            Waits::Source(nr, session) => {
                let waits = self.awaits_sync(nr, &[ConnState::WFBitMapS, ConnState::StartingSyncS]);
                if waits && session == self.net.session && self.may_sync(nr, run.handler, exit) {
                    self.begin_source(nr);
                }
            }
        }
    }

    fn awaits_sync(&self, nr: VolumeNr, states: &[ConnState]) -> bool {
        let volume = self.volumes.get(nr);
        volume.is_some_and(|v| states.contains(&v.state.conn))
    }

    /// Whether a resync may begin now: not while its handler runs, which is started if there is one.
    pub(super) fn before_resync(&mut self, nr: VolumeNr, handler: Handler, waits: Waits) -> bool {
        if self.run_handler(handler, Some(nr), waits).is_none() {
            return true;
        }
        self.clear_conn_timer(ConnTimer::SyncUuid(nr)); // what is awaited has come
        false
    }

    /// What the handler before a resync has decided. The connection is given up if it says no.
    fn may_sync(&mut self, nr: VolumeNr, handler: Handler, exit: i32) -> bool {
        if exit == 0 {
            return true;
        }
        if handler == Handler::BeforeResyncSource && exit == 3 {
            let text = "before-resync-source handler returned 3, ignoring. Old userland tools?";
            self.log_volume(Level::Info, nr, text);
            return true;
        }
        let text = format!("{handler} handler returned {exit}, dropping connection.");
        self.log_volume(Level::Error, nr, text.as_str());
        self.trouble(Trouble::NoAgreement, text.to_string());
        self.go_standalone();
        false
    }

    /// A resync from here has ended: the peer need not be fenced any more once it has everything.
    pub(super) fn unfence_peer(&mut self, nr: VolumeNr) {
        let fencing = self.context(nr).fencing;
        let is_good = |state: crate::state::VolumeState| {
            state.disk == DiskState::UpToDate && state.pdsk == DiskState::UpToDate
        };
        if fencing != Fencing::DontCare && self.volumes.iter().all(|v| is_good(v.state)) {
            self.run_handler(Handler::UnfencePeer, None, Waits::Nothing);
        }
    }
}
