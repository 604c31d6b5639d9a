//! Commands that the engine has not answered.

use std::collections::VecDeque;

use rdb_engine::config::NetOptions;
use rdb_engine::{AdminError, AdminId, Command, Event, VolumeNr};
use slab::Slab;

use crate::api::{Caller, ConnectRequest, Reply, Ticket};
use crate::pool::Buf;

/// Commands taken back before they have come to the engine that are remembered: so many may be on their way at most.
const WITHDRAWN_MAX: usize = 64;

/// What else the end of a command changes.
pub(crate) enum OnEnd {
    Nothing,
    /// A refused attach has no use for the disk.
    CloseDiskIfRefused(VolumeNr),
    /// A refused connect leaves the addresses as they were.
    RestoreNetIfRefused(Box<Option<ConnectRequest>>),
    /// Options that were taken count for the sockets too.
    TakeNetOptions(Box<NetOptions>),
}

/// A command that the engine has not answered.
struct Pending {
    ticket: Ticket,
    /// `None` once it has been called: the command was taken back and goes on alone.
    reply: Option<Reply>,
    on_end: OnEnd,
}

/// What is left to do for a command that has ended.
pub(crate) struct Ended {
    pub(crate) reply: Option<Reply>,
    pub(crate) on_end: OnEnd,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Commands {
    pending: Slab<Pending>,
    /// Those taken back before they have come here.
    withdrawn: VecDeque<Ticket>,
}

impl Commands {
    /// Takes a command on: what the engine is to be told; or its end, if it was taken back before.
    pub(crate) fn begin(
        &mut self,
        command: Command,
        caller: Caller,
        on_end: OnEnd,
    ) -> Result<Event<Buf>, Ended> {
        let Caller { ticket, reply } = caller;
        let reply = Some(reply);
        if let Some(at) = self.withdrawn.iter().position(|other| *other == ticket) {
            self.withdrawn.remove(at);
            return Err(Ended { reply, on_end });
        }
        let id = AdminId(self.pending.insert(Pending {
            ticket,
            reply,
            on_end,
        }) as u64);
        Ok(Event::Admin { id, command })
    }

    /// Takes a command back and answers it; what the engine is to be told, if it has the command.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> Option<Event<Buf>> {
        let found = self.pending.iter_mut().find(|(_, p)| p.ticket == ticket);
        let Some((key, pending)) = found else {
            // Its disk is being opened, or who uses its device is being found out; or it is done.
            if self.withdrawn.len() >= WITHDRAWN_MAX {
                self.withdrawn.pop_front();
            }
            self.withdrawn.push_back(ticket);
            return None;
        };
        if let Some(reply) = pending.reply.take() {
            reply(Err(AdminError::Withdrawn));
        }
        let id = AdminId(key as u64);
        Some(Event::Withdraw { id })
    }

    /// The engine has answered a command; `None`: it was not asked.
    pub(crate) fn end(&mut self, id: AdminId) -> Option<Ended> {
        let Pending { reply, on_end, .. } = self.pending.try_remove(id.0 as usize)?;
        Some(Ended { reply, on_end })
    }
}
