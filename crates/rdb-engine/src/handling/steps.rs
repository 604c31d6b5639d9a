//! A handler is asked for, and ends.

use alloc::format;

use super::Run;
use crate::effect::{Effect, Level};
use crate::event::Payload;
use crate::handler::Handler;
use crate::ids::{HandlerId, VolumeNr};
use crate::resource::Resource;

impl<P: Payload> Resource<P> {
    /// Asks for a handler, if it is configured.
    pub(crate) fn run_handler(
        &mut self,
        handler: Handler,
        volume: Option<VolumeNr>,
    ) -> Option<HandlerId> {
        if !self.options.handlers.has(handler) {
            return None;
        }
        let volume = volume.filter(|_| !handler.is_of_resource());
        let id = self.handling.begin(Run { handler, volume });
        self.emit(Effect::RunHandler {
            id,
            handler,
            volume,
        });
        Some(id)
    }

    pub(crate) fn on_handler_done(&mut self, id: HandlerId, exit: i32) {
        let Some(run) = self.handling.end(id) else {
            return;
        };
        let handler = run.handler;
        self.log(Level::Info, format!("handler {handler} ended with {exit}"));
    }
}
