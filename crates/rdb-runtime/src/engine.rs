//! The engine, as the loop drives it.

use rdb_engine::{Effect, Event, Marks, Resource, ResourceStatus, Time, VolumeNr};

use crate::pool::Buf;

/// What the loop needs of an engine; tests have one that follows a script.
pub(crate) trait Engine: 'static {
    fn handle(&mut self, now: Time, event: Event<Buf>, effects: &mut Vec<Effect<Buf>>);
    fn status(&self, now: Time) -> ResourceStatus;
    fn marks(&self, volume: VolumeNr, from: usize, max: usize) -> Option<Marks>;
}

impl Engine for Resource<Buf> {
    fn handle(&mut self, now: Time, event: Event<Buf>, effects: &mut Vec<Effect<Buf>>) {
        Resource::handle(self, now, event, effects);
    }

    fn status(&self, now: Time) -> ResourceStatus {
        Resource::status(self, now)
    }

    fn marks(&self, volume: VolumeNr, from: usize, max: usize) -> Option<Marks> {
        Resource::marks(self, volume, from, max)
    }
}
