//! Handlers: the engine asks for them, and hears how they end.
//!
//! Each runs on a thread of its own, and nobody waits for it but what the engine has put off until its end. A resource that goes
//! down leaves its handlers alone. With the daemon they end, also when another program takes its place: their end would be told to
//! nobody, and the next daemon asks anew for what still matters then.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rdb_control::{HandlerReport, HandlerScene, HandlerVolume, HistoryEvent};
use rdb_engine::{Handler, HandlerId, VolumeNr};
use rdb_runtime::ResourceHandle;
use replica_proto::SNAPSHOT_LIMIT_MAX_MS;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::handler_run::{self, Call, Ended};
use crate::node::{HandlerNews, HandlerStep, Node, prefix};
use crate::registry::{Entry, Shared, Volume};
use crate::runs::{Asked, Key, Place};
use crate::settings::DEFAULT_RUN_DIR;

/// The program that the lines of the log name, as the kernel's driver does: what looks for them knows no other.
const HELPER: &str = "/sbin/drbdadm";

/// How long one may take that is run for a snapshot, whatever `handler-timeout` says: the engine ends it long before, unless its
/// resource has gone.
const SNAPSHOT_LIMIT: Duration = Duration::from_millis(SNAPSHOT_LIMIT_MAX_MS as u64);
/// What a run ends with that was not begun, as a shell says it.
const NOT_RUN: i32 = 126;

impl Node {
    fn on_handler_asked(&self, resource: &str, key: Key, asked: Asked) {
        let mut registry = self.registry.lock();
        // One that has gone hears nothing.
        let Some(entry) = registry.get_mut(resource) else {
            return;
        };
        if let (handler, Some(volume)) = key
            && handler.is_for_losers()
        {
            entry.losing.insert(volume.0);
        }
        match entry.runs.ask(key, &asked) {
            Place::Free => {
                drop(registry);
                self.start_handler(resource, key, asked);
            }
            Place::Waits => {}
            Place::Full => {
                entry.handle.handler_done(asked.id, NOT_RUN);
                drop(registry);
                tracing::warn!("drbd {resource}: {} is not run: too many of it wait", key.0);
            }
        }
    }

    fn on_handler_ended(self: &Rc<Node>, resource: &str, key: Key) {
        if let (handler, Some(volume)) = key
            && handler.is_for_losers()
        {
            let loser = Rc::clone(self).give_primary_up(resource.to_owned(), volume);
            tokio::task::spawn_local(loser);
        }
        let next = {
            let mut registry = self.registry.lock();
            let entry = registry.get_mut(resource);
            entry.and_then(|entry| entry.runs.next(key))
        };
        if let Some(asked) = next {
            self.start_handler(resource, key, asked);
        }
    }

    /// Nobody waits for this run any more: it is taken out of the row, or ended.
    fn on_handler_unwanted(&self, resource: &str, id: HandlerId) {
        let mut registry = self.registry.lock();
        if let Some(entry) = registry.get_mut(resource)
            && entry.runs.cancel(id)
        {
            entry.handle.handler_done(id, NOT_RUN);
            return;
        }
        drop(registry);
        let whose = (resource.to_owned(), id);
        let grace = self.handlers.end_one(&whose);
        let running = self.handlers.clone();
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            running.insist(&whose);
        });
    }

    fn start_handler(&self, resource: &str, key: Key, asked: Asked) {
        let (handler, volume) = key;
        let Asked { id, snapshot } = asked;
        let mut registry = self.registry.lock();
        let Some(entry) = registry.get_mut(resource) else {
            return;
        };
        let mut answer = Answer {
            handle: entry.handle.clone(),
            id,
            exit: NOT_RUN,
        };
        let volumes = volumes(entry, volume);
        let is_usual_dir = self.run_dir.as_os_str() == DEFAULT_RUN_DIR;
        let scene = HandlerScene {
            resource,
            volumes: &volumes,
            handlers: &entry.handlers,
            peer_address: entry.connection.as_ref().map(|c| c.peer.ip()),
            daemon: (!is_usual_dir).then_some((&self.run_dir, &self.name)),
            snapshot: snapshot.as_ref().map(|run| run.name.as_str()),
        };
        let configured = entry.handlers.commands.get(handler.name());
        let given = snapshot.as_ref().and_then(|run| run.command.as_ref());
        let Some(command) = given.or(configured) else {
            // As one that is not configured ends: taken out of the configuration meanwhile, or one for losers. (But nobody has a
            // snapshot then.)
            answer.exit = if snapshot.is_some() { NOT_RUN } else { 0 };
            drop(registry);
            return self.tell_of_end(resource, key);
        };
        let call = Call {
            whose: (resource.to_owned(), id),
            command: command.clone(),
            environment: scene.environment(),
            limit: match snapshot {
                Some(_) => Some(SNAPSHOT_LIMIT),
                None => self.serving.get().handler_timeout,
            },
        };
        let words = scene.call(handler.name());
        let begun = entry.runs.begin(key);
        drop(registry);
        let prefix = prefix(&self.registry, resource, volume);
        tracing::info!("{prefix} helper command: {HELPER} {words}");
        let whose = call.whose.clone();
        self.events.tell_handler(resource, key, None);
        self.handlers.announce(&whose);
        let (running, registry) = (self.handlers.clone(), self.registry.clone());
        let (changed, news) = (self.changed.clone(), self.handler_news.clone());
        let (history, events) = (self.history.clone(), self.events.clone());
        let name = resource.to_owned();
        let run = move || {
            let say = &mut |line: &str| tracing::info!("{prefix} {handler}: {line}");
            let ended = handler_run::run(&call, &running, say);
            log_end(&prefix, handler, &words, &ended);
            answer.exit = ended.exit.into();
            let event = HistoryEvent::Handler {
                name: handler.name().to_owned(),
                exit: ended.exit,
            };
            history.tell(&name, volume, event);
            events.tell_handler(&name, key, Some(ended.exit));
            remember(&registry, &name, key, begun, ended);
            drop(answer);
            changed.notify_waiters();
            // Nobody listens any more when the daemon ends.
            let what = HandlerStep::Ended(key);
            let _ = news.send(HandlerNews {
                resource: name,
                what,
            });
        };
        let thread = std::thread::Builder::new().name("rdbd-handler".into());
        if let Err(error) = thread.spawn(run) {
            // Its answer has gone with it.
            self.handlers.is_over(&whose);
            tracing::error!("drbd {resource}: no thread to run {handler}: {error}");
            let ended = Ended::not_run(&error);
            self.events.tell_handler(resource, key, Some(ended.exit));
            remember(&self.registry, resource, key, begun, ended);
            self.tell_of_end(resource, key);
        }
    }

    /// The next one may have its turn.
    fn tell_of_end(&self, resource: &str, key: Key) {
        let resource = resource.to_owned();
        let what = HandlerStep::Ended(key);
        // Nobody listens any more when the daemon ends.
        let _ = self.handler_news.send(HandlerNews { resource, what });
    }
}

/// Exactly one for each handler that is asked for: given when it is dropped.
struct Answer {
    handle: ResourceHandle,
    id: HandlerId,
    exit: i32,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.handle.handler_done(self.id, self.exit);
    }
}

/// The volumes that a handler is told of.
fn volumes(entry: &Entry, volume: Option<VolumeNr>) -> Vec<HandlerVolume> {
    let is_meant = |number: u16| volume.is_none_or(|volume| volume.0 == number);
    let meant = entry
        .volumes
        .iter()
        .filter(|(number, _)| is_meant(**number));
    let told = |(number, volume): (&u16, &Volume)| HandlerVolume {
        volume: *number,
        minor: volume.minor,
        disk: volume.disk.as_ref().map(|disk| disk.data.clone()),
    };
    meant.map(told).collect()
}

fn log_end(prefix: &str, handler: Handler, words: &str, ended: &Ended) {
    if let Some(note) = &ended.note {
        tracing::warn!("{prefix} {handler}: it {note}");
    }
    let exit = ended.exit;
    let line = format!(
        "{prefix} helper command: {HELPER} {words} exit code {exit} ({:#x})",
        u32::from(exit) << 8
    );
    match exit {
        0 => tracing::info!("{line}"),
        _ => tracing::warn!("{line}"),
    }
}

/// Puts the end of a run beside its beginning.
fn remember(registry: &Shared, resource: &str, key: Key, begun: Instant, ended: Ended) {
    let mut registry = registry.lock();
    let entry = registry.get_mut(resource);
    if let Some(entry) = entry {
        entry.runs.end(key, begun, ended);
    }
}

/// What `status` says of the handlers of a resource.
pub(crate) fn report(entry: &Entry) -> Vec<HandlerReport> {
    let runs = entry.runs.last();
    runs.map(|((handler, volume), run)| {
        let (ended, took) = match &run.ended {
            Some((ended, took)) => (Some(ended), *took),
            None => (None, run.begun.elapsed()),
        };
        HandlerReport {
            name: handler.name().to_owned(),
            volume: volume.map(|volume| volume.0),
            since_s: run.since.as_secs(),
            exit: ended.map(|ended| ended.exit),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            note: ended.and_then(|ended| ended.note.clone()),
        }
    })
    .collect()
}

/// Runs what is asked for. Ends with the node.
pub(crate) async fn follow(node: Rc<Node>, mut news: UnboundedReceiver<HandlerNews>) {
    while let Some(heard) = news.recv().await {
        let HandlerNews { resource, what } = heard;
        match what {
            HandlerStep::Asked(key, asked) => node.on_handler_asked(&resource, key, asked),
            HandlerStep::Unwanted(id) => node.on_handler_unwanted(&resource, id),
            HandlerStep::Ended(key) => node.on_handler_ended(&resource, key),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdb_config::Section;
    use rdb_config::options::{Served, find};

    use super::*;

    #[test]
    fn the_engines_handlers_are_those_of_the_configuration() {
        for handler in Handler::ALL {
            let option = find(Section::Handlers, handler.name()).expect("it is an option");
            assert_eq!(option.served, Served::Served);
            let is_of_resource = rdb_control::is_of_resource(handler.name());
            assert_eq!(is_of_resource, handler.is_of_resource());
        }
        let of_section = rdb_config::options::all().filter(|o| o.section == Section::Handlers);
        let served = of_section.filter(|option| option.served == Served::Served);
        assert_eq!(served.count(), Handler::ALL.len());
    }
}
