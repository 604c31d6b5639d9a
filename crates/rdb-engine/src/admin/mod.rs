//! Administrative commands: one at a time a resource, each a little machine that is looked at after every event until
//! it has an answer (`docs/spec/behaviour.md`, section 12).

pub(crate) mod promotion;
mod stage;

pub(crate) use self::stage::Stage;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::mem;

use self::promotion::Promotion;
use self::stage::{kind, progress, volume_of};
use crate::event::Command;
use crate::ids::{AdminId, Session, VolumeNr};
use crate::rules::parting::Parting;
use crate::rules::withdrawal::{Fate, fate};
use crate::state::StateError;

/// The commands of a resource.
#[derive(Debug, Default)]
pub(crate) struct Admin {
    /// Those that wait for their turn.
    queue: VecDeque<(AdminId, Command)>,
    /// The command in progress. Set when its turn comes, taken when it is answered. Without it two of them would change one state.
    current: Option<Op>,
    /// A question to the peer, of the command in progress. Set when it goes out, cleared when the answer is taken, with the
    /// connection, and with the command. Without it the command goes on before the peer has agreed.
    ask: Option<Ask>,
    /// Questions of this connection whose command has come to its end without the answer, as a detach does when the disk
    /// fails meanwhile: so many answers come yet, before that to `ask`. Set by the end of the command, cleared by the answers
    /// and with the connection. Without it the late answer looks like a wrong peer's.
    owed: BTreeMap<Option<VolumeNr>, Owed>,
    /// Orders to resume I/O, which wait for no other command: what that waits for may be users' requests that are frozen. Until the
    /// exchange of parameters is over they wait, since a generation may begin and the peer decides by those that it was told of.
    resuming: Vec<AdminId>,
    /// Forced disconnects that took the connection from under other commands, until it is gone.
    leaving: Vec<AdminId>,
    /// Counts commands, so that metadata written for one is not taken for another's.
    begun: u32,
}

/// A command that has begun.
#[derive(Debug)]
pub(crate) struct Op {
    id: AdminId,
    command: Command,
    stage: Stage,
    /// What `stage` waits for has come. Set by that, cleared with the next stage.
    ready: bool,
    /// How the connection is left. Set before the peer is asked, so that the answer means that.
    parting: Parting,
    /// What has become of a promotion.
    promotion: Promotion,
}

impl Op {
    pub(crate) fn id(&self) -> AdminId {
        self.id
    }

    pub(crate) fn command(&self) -> &Command {
        &self.command
    }

    /// The volume that it is about.
    pub(crate) fn volume(&self) -> Option<VolumeNr> {
        volume_of(&self.command)
    }

    /// How far it is, and whether what that waits for has come.
    pub(crate) fn place(&self) -> (Stage, bool) {
        (self.stage, self.ready)
    }

    /// How the connection is left.
    pub(crate) fn parting(&self) -> Parting {
        self.parting
    }
}

#[derive(Debug)]
struct Ask {
    /// `None`: the connection.
    volume: Option<VolumeNr>,
    reply: Option<i32>,
    session: Session,
}

/// Answers that nobody waits for any more.
#[derive(Debug, Default, Clone, Copy)]
struct Owed {
    answers: u32,
    /// Whether one of the questions was for a detach. A peer that consents goes on alone at once.
    detach: bool,
}

/// What the peer has said to the question of the command in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It was not asked, or the connection has ended.
    NotAsked,
    Awaited,
    Come(i32),
}

/// What an answer of the peer's is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To the question of the command in progress, which takes it.
    Taken,
    /// To one that was given up. `detach`: one of these was for a detach.
    Late { detach: bool },
    /// To none.
    Unasked,
}

/// What became of a change that may need the peer.
pub(crate) enum Asked {
    /// Look again after the next event.
    Wait,
    Done(Result<i32, StateError>),
}

impl Admin {
    // ---- commands that wait, and the one in progress -------------------------------------------------------------

    /// A command has come, and waits for its turn.
    pub(crate) fn queue(&mut self, id: AdminId, command: Command) {
        self.queue.push_back((id, command));
    }

    /// Whether a command is in progress, or waits.
    pub(crate) fn is_busy(&self) -> bool {
        self.current.is_some() || !self.queue.is_empty()
    }

    /// Begins the next command, unless one is in progress. Says whether one is now.
    pub(crate) fn begin_next(&mut self) -> bool {
        if self.current.is_none()
            && let Some((id, command)) = self.queue.pop_front()
        {
            self.begun = self.begun.wrapping_add(1);
            self.current = Some(Op {
                id,
                command,
                stage: Stage::Start,
                ready: false,
                parting: Parting::default(),
                promotion: Promotion::default(),
            });
        }
        self.current.is_some()
    }

    /// The command in progress.
    pub(crate) fn current(&self) -> Option<&Op> {
        self.current.as_ref()
    }

    /// How far it is.
    pub(crate) fn place(&self) -> Option<(Stage, bool)> {
        self.current.as_ref().map(Op::place)
    }

    /// The number of the command that has begun last: what is written for it is known by that.
    pub(crate) fn number(&self) -> u32 {
        self.begun
    }

    /// Whether the command of this number is in progress: it may have been taken back.
    pub(crate) fn is_in_progress(&self, number: u32) -> bool {
        self.current.is_some() && self.begun == number
    }

    /// The command in progress goes on to this stage.
    pub(crate) fn enter(&mut self, stage: Stage) {
        if let Some(op) = &mut self.current {
            op.stage = stage;
            op.ready = false;
        }
    }

    /// What this stage waits for has come.
    pub(crate) fn ready(&mut self, stage: Stage) {
        if let Some(op) = &mut self.current {
            op.ready |= op.stage == stage;
        }
    }

    /// What has become of the promotion in progress.
    pub(crate) fn promotion_mut(&mut self) -> Option<&mut Promotion> {
        self.current.as_mut().map(|op| &mut op.promotion)
    }

    /// How the connection is left by the command in progress.
    pub(crate) fn parting(&self) -> Parting {
        self.current.as_ref().map(Op::parting).unwrap_or_default()
    }

    /// The peer is about to be asked to part in this way.
    pub(crate) fn will_part(&mut self, how: Parting) {
        if let Some(op) = &mut self.current {
            op.parting = how;
        }
    }

    /// The command in progress has come to its end: nobody waits for an answer of the peer's any more.
    pub(crate) fn finish(&mut self, session: Session) -> Option<Op> {
        let op = self.current.take()?;
        let is_open = |ask: &Ask| ask.reply.is_none() && ask.session == session;
        if let Some(ask) = self.ask.take().filter(is_open) {
            let owed = self.owed.entry(ask.volume).or_default();
            owed.answers += 1;
            owed.detach |= matches!(op.command, Command::Detach { .. });
        }
        Some(op)
    }

    // ---- what does not wait for its turn -------------------------------------------------------------------------

    /// An order to resume I/O.
    pub(crate) fn order_resume(&mut self, id: AdminId) {
        self.resuming.push(id);
    }

    /// Whether there are any.
    pub(crate) fn resumes(&self) -> bool {
        !self.resuming.is_empty()
    }

    /// They are carried out.
    pub(crate) fn take_resuming(&mut self) -> Vec<AdminId> {
        mem::take(&mut self.resuming)
    }

    /// This forced disconnect has taken the connection from under other commands.
    pub(crate) fn await_the_end(&mut self, id: AdminId) {
        self.leaving.push(id);
    }

    /// The connection is gone: who has waited for that.
    pub(crate) fn take_leaving(&mut self) -> Vec<AdminId> {
        mem::take(&mut self.leaving)
    }

    /// The caller of a command has gone. Says whether it is forgotten by that: it had not begun.
    pub(crate) fn withdraw(&mut self, id: AdminId) -> bool {
        let waits = |admin: &Admin| admin.queue.len() + admin.resuming.len();
        let before = waits(self);
        self.queue.retain(|(other, _)| *other != id);
        self.resuming.retain(|other| *other != id);
        waits(self) < before
    }

    /// What becomes of the command in progress if its caller has gone.
    pub(crate) fn fate(&self) -> Option<Fate> {
        let op = self.current.as_ref()?;
        let progress = progress(op.stage, self.has_asked());
        Some(fate(kind(&op.command), progress))
    }

    // ---- questions to the peer -----------------------------------------------------------------------------------

    /// The peer is asked about this volume, or (`None`) about the connection.
    pub(crate) fn ask(&mut self, volume: Option<VolumeNr>, session: Session) {
        self.ask = Some(Ask {
            volume,
            reply: None,
            session,
        });
    }

    /// Whether the command in progress has asked the peer, and has not taken its answer.
    pub(crate) fn has_asked(&self) -> bool {
        self.ask.is_some()
    }

    /// What the peer has said; the command takes it.
    pub(crate) fn take_reply(&mut self) -> Reply {
        match self.ask.as_ref().map(|ask| ask.reply) {
            None => Reply::NotAsked,
            Some(None) => Reply::Awaited,
            Some(Some(code)) => {
                self.ask = None;
                Reply::Come(code)
            }
        }
    }

    /// The peer has answered.
    pub(crate) fn answered(&mut self, volume: Option<VolumeNr>, code: i32) -> Answer {
        if let Some(owed) = self.owed.get_mut(&volume) {
            let detach = owed.detach;
            owed.answers -= 1;
            if owed.answers == 0 {
                self.owed.remove(&volume);
            }
            return Answer::Late { detach };
        }
        match &mut self.ask {
            Some(ask) if ask.volume == volume && ask.reply.is_none() => {
                ask.reply = Some(code);
                Answer::Taken
            }
            _ => Answer::Unasked,
        }
    }

    /// The connection is lost; `session` is the next. What was asked over it is decided without the peer.
    pub(crate) fn connection_lost(&mut self, session: Session) {
        self.ready(Stage::Ping);
        self.owed.clear();
        self.ask.take_if(|ask| ask.session != session);
    }

    /// Whether a change of ours waits for the peer's word in this life of the connection. The peer may have made it already.
    pub(crate) fn asks_peer(&self, session: Session) -> bool {
        let current = self.ask.as_ref().is_some_and(|ask| ask.session == session);
        current || !self.owed.is_empty()
    }

    /// Whether the peer has been asked about this volume (or connection) and has not answered.
    pub(crate) fn asks_about(&self, volume: Option<VolumeNr>) -> bool {
        let owed = self.owed.contains_key(&volume) || self.owed.contains_key(&None);
        owed || self.is_changing(volume)
    }

    /// Whether the command in progress has asked the peer about this volume (or connection), which has not answered: what it asks
    /// for is still wanted.
    fn is_changing(&self, volume: Option<VolumeNr>) -> bool {
        self.ask
            .as_ref()
            .is_some_and(|a| a.reply.is_none() && (a.volume == volume || a.volume.is_none()))
    }

    // ---- what the command in progress means for a volume ---------------------------------------------------------

    /// Whether the command in progress is one that meets this.
    fn orders(&self, is: impl FnOnce(&Command) -> bool) -> bool {
        self.current.as_ref().is_some_and(|op| is(&op.command))
    }

    /// Whether the command in progress has waited long enough for this volume's state to change.
    pub(crate) fn settled(&self, nr: VolumeNr) -> bool {
        let op = self.current.as_ref();
        op.is_some_and(|op| op.promotion.has_settled() && op.volume() == Some(nr))
    }

    /// Whether the front end says that the volume's device is in use, during a demotion.
    pub(crate) fn is_held_open(&self, nr: VolumeNr) -> bool {
        self.orders(|command| match *command {
            Command::Secondary { volume, held_open } => held_open && volume == nr,
            _ => false,
        })
    }

    /// Whether the volume's data may be given up before we know it: a command for that has begun, or the peer has been asked.
    /// What users want durable has to be durable at the peer too.
    pub(crate) fn copy_may_go(&self, nr: VolumeNr) -> bool {
        let given_up = |command: &Command| match *command {
            Command::Detach { volume, .. } | Command::Invalidate { volume } => volume == nr,
            _ => false,
        };
        self.asks_about(Some(nr)) || self.orders(given_up)
    }

    /// Whether the command in progress is that this volume's disk be synced from the peer's.
    pub(crate) fn orders_sync(&self, nr: VolumeNr) -> bool {
        self.orders(|command| matches!(*command, Command::Invalidate { volume } if volume == nr))
    }

    /// Whether the peer has been asked for that, and has not answered.
    pub(crate) fn asks_for_sync(&self, nr: VolumeNr) -> bool {
        self.orders_sync(nr) && self.is_changing(Some(nr))
    }

    /// Whether a disk is being attached to this volume: the command has begun, and is not answered.
    pub(crate) fn attaches(&self, nr: VolumeNr) -> bool {
        self.current.as_ref().is_some_and(|op| {
            let attach = matches!(op.command, Command::Attach { volume, .. } if volume == nr);
            attach && op.stage == Stage::Attaching
        })
    }

    /// # Panics
    /// If a question is nobody's, or an answer is owed that does not come.
    pub(crate) fn check(&self) {
        let asks = self.ask.is_none() || self.current.is_some();
        assert!(asks, "a question without a command");
        let owed = self.owed.values().all(|owed| owed.answers > 0);
        assert!(owed, "an answer that is owed and does not come");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnId;

    const V: VolumeNr = VolumeNr(0);
    const FIRST: Session = Session::first(ConnId::FIRST);

    /// A detach that has asked the peer.
    fn asking() -> Admin {
        let mut admin = Admin::default();
        let (volume, force) = (V, false);
        admin.queue(AdminId(1), Command::Detach { volume, force });
        assert!(admin.begin_next());
        admin.ask(Some(V), FIRST);
        admin
    }

    #[test]
    fn the_answer_to_a_question_is_taken_once() {
        let mut admin = asking();
        assert_eq!(admin.take_reply(), Reply::Awaited);
        assert_eq!(admin.answered(None, 1), Answer::Unasked);
        assert_eq!(admin.answered(Some(V), 1), Answer::Taken);
        assert_eq!(admin.answered(Some(V), 1), Answer::Unasked);
        assert!(admin.asks_peer(FIRST) && !admin.asks_about(Some(V)));
        assert_eq!(admin.take_reply(), Reply::Come(1));
        assert_eq!(admin.take_reply(), Reply::NotAsked);
    }

    #[test]
    fn an_answer_that_comes_late_is_not_taken_for_that_to_the_next_question() {
        let mut admin = asking();
        assert!(admin.finish(FIRST).is_some());
        assert!(admin.asks_peer(FIRST) && admin.asks_about(Some(V)));
        admin.check();
        admin.queue(AdminId(2), Command::Invalidate { volume: V });
        assert!(admin.begin_next());
        admin.ask(Some(V), FIRST);
        assert_eq!(admin.answered(Some(V), 1), Answer::Late { detach: true });
        assert_eq!(admin.answered(Some(V), 2), Answer::Taken);
        assert_eq!(admin.take_reply(), Reply::Come(2));
    }

    #[test]
    fn nothing_is_owed_over_a_connection_that_is_gone() {
        let mut admin = asking();
        admin.connection_lost(FIRST.next());
        assert_eq!(admin.take_reply(), Reply::NotAsked);
        assert!(admin.finish(FIRST.next()).is_some());
        assert!(!admin.asks_peer(FIRST.next()));
        // Nor when the command ends first.
        let mut admin = asking();
        admin.finish(FIRST);
        admin.connection_lost(FIRST.next());
        assert_eq!(admin.answered(Some(V), 1), Answer::Unasked);
    }

    #[test]
    fn only_what_has_not_begun_is_forgotten_with_its_caller() {
        let mut admin = asking();
        admin.queue(AdminId(2), Command::Outdate { volume: V });
        admin.order_resume(AdminId(3));
        assert!(!admin.withdraw(AdminId(1)));
        assert_eq!(admin.fate(), Some(Fate::Ends));
        assert!(admin.withdraw(AdminId(2)) && admin.withdraw(AdminId(3)));
        assert!(admin.finish(FIRST).is_some() && !admin.begin_next() && !admin.resumes());
    }
}
