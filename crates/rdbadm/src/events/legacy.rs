//! `events` of drbdsetup 8.4: a line for each change of a volume's state, each handler, each step of a resync
//! (`docs/spec/admin.md`, section 4.9, "Legacy `events`").

use std::time::{Duration, Instant};

use rdb_control::{
    ClientError, ConnState, Event, EventStream, HandlerOf, ResourceReport, Told, VolumeReport,
};

use crate::exec::{Executor, Trouble};
use crate::out;

/// How often it is looked how far a resync is.
const STEP: Duration = Duration::from_secs(3);
/// How long a look for a daemon that is not there waits for the next one.
const NOBODY: Duration = Duration::from_millis(500);

/// Prints what happens to a resource, to the volume of a minor, or to all. The result is the exit status.
pub(crate) fn run(executor: &Executor, only: Only) -> u8 {
    let mut log = Log::new(only);
    loop {
        match super::connected(&executor.run_dir, executor.limits) {
            Ok(None) => {}
            Ok(Some(client)) => {
                if let Err(trouble) = executor.is_meant(&client) {
                    return trouble.tell(&executor.program);
                }
                let listened = client.events(None, false).and_then(|s| log.listen(s));
                match listened {
                    // It was told to end, and has left nothing.
                    Ok(()) | Err(ClientError::NoDaemon { .. } | ClientError::Ended { .. }) => {}
                    Err(error) => return Trouble::from(error).tell(&executor.program),
                }
            }
            Err(error) => return Trouble::from(error).tell(&executor.program),
        }
        std::thread::sleep(NOBODY);
    }
}

/// What is of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Only {
    All,
    Resource(String),
    Minor(u32),
}

struct Log {
    only: Only,
    resources: Vec<ResourceReport>,
    /// The number of the last line.
    number: u64,
    /// The states as they were when listening began are printed.
    is_begun: bool,
}

impl Log {
    fn new(only: Only) -> Log {
        Log {
            only,
            resources: Vec::new(),
            number: 0,
            is_begun: false,
        }
    }

    fn listen(&mut self, mut stream: EventStream) -> Result<(), ClientError> {
        let mut asker = stream.asker()?;
        let mut looked = Instant::now();
        loop {
            match stream.next(STEP) {
                Ok(Some(Told { event, .. })) => out::print(&self.apply(event)),
                Ok(None) => {}
                Err(ClientError::Closed) => {
                    stream = stream.follow()?;
                    asker = stream.asker()?;
                }
                Err(error) => return Err(error),
            }
            if self.is_syncing() && looked.elapsed() >= STEP {
                looked = Instant::now();
                // A daemon that has gone is noticed by the stream.
                let _ = asker.again();
            }
        }
    }

    fn is_syncing(&self) -> bool {
        let mut volumes = self.resources.iter().flat_map(|r| &r.volumes);
        volumes.any(is_syncing)
    }

    /// The lines that an event makes.
    fn apply(&mut self, event: Event) -> String {
        match event {
            Event::Resource { resource } => self.tell(*resource),
            Event::Complete => {
                self.is_begun = true;
                String::new()
            }
            Event::Skipped { .. } => String::new(),
            Event::Created { resource } | Event::VolumeRemoved { resource, .. } => {
                self.reconfigured(&resource)
            }
            Event::Removed { resource } => {
                let line = self.reconfigured(&resource);
                self.resources.retain(|known| known.name != resource);
                line
            }
            Event::VolumeCreated {
                resource,
                volume,
                minor,
            } => {
                self.add(&resource, volume, minor);
                self.reconfigured(&resource)
            }
            Event::Changed {
                resource,
                volume,
                new,
                ..
            } => {
                let Some(known) = self.find(&resource, volume) else {
                    return String::new();
                };
                let before = known.clone();
                new.put_into(known);
                let after = known.clone();
                self.changed(&resource, &before, &after)
            }
            Event::HandlerCalled(of) => self.helper(&of, None),
            Event::HandlerEnded { of, exit } => self.helper(&of, Some(exit)),
        }
    }

    fn find(&mut self, resource: &str, volume: u16) -> Option<&mut VolumeReport> {
        let known = self.resources.iter_mut().find(|r| r.name == resource)?;
        known.volumes.iter_mut().find(|v| v.volume == volume)
    }

    fn add(&mut self, resource: &str, volume: u16, minor: u32) {
        let at = match self.resources.iter().position(|r| r.name == resource) {
            Some(at) => at,
            None => {
                self.resources
                    .push(super::model::new_resource(resource.to_owned()));
                self.resources.len() - 1
            }
        };
        let known = &mut self.resources[at];
        if known.volumes.iter().all(|v| v.volume != volume) {
            let made = super::model::new_volume(volume, minor, known.connection);
            known.volumes.push(made);
        }
    }

    /// How a resource is: its volumes at the beginning, how far their resyncs are after that, and what has changed unheard.
    fn tell(&mut self, report: ResourceReport) -> String {
        let at = self.resources.iter().position(|r| r.name == report.name);
        let before = at.map(|at| self.resources.remove(at));
        let mut text = String::new();
        for volume in &report.volumes {
            let mut old = before.iter().flat_map(|r| &r.volumes);
            match old.find(|old| old.volume == volume.volume) {
                Some(old) if states(old) != states(volume) => {
                    text += &self.changed(&report.name, old, volume);
                }
                Some(_) => text += &self.progress(&report.name, volume),
                None if !self.is_begun => {
                    text += &self.line("ST", &report.name, volume, &states(volume));
                }
                None => {}
            }
        }
        self.resources.push(report);
        text
    }

    fn is_wanted(&self, resource: &str, minor: Option<u32>) -> bool {
        match &self.only {
            Only::All => true,
            Only::Resource(name) => name == resource,
            Only::Minor(only) => minor == Some(*only),
        }
    }

    fn changed(&mut self, resource: &str, old: &VolumeReport, new: &VolumeReport) -> String {
        self.number += 1;
        let (before, after) = (states(old), states(new));
        [("ST-prev", &before), ("ST-new", &after), ("ST", &after)]
            .map(|(what, states)| self.line(what, resource, new, states))
            .concat()
    }

    fn progress(&mut self, resource: &str, volume: &VolumeReport) -> String {
        let Some(sync) = volume.sync.as_ref().filter(|_| is_syncing(volume)) else {
            return String::new();
        };
        self.number += 1;
        let permille = sync.done_permille;
        let share = format!("{}.{}", permille / 10, permille % 10);
        self.line("SP", resource, volume, &share)
    }

    fn helper(&mut self, of: &HandlerOf, exit: Option<u8>) -> String {
        // Of a handler of the resource drbdsetup says nothing.
        let volume = of.volume.and_then(|volume| self.find(&of.resource, volume));
        let Some(volume) = volume.cloned() else {
            return String::new();
        };
        self.number += 1;
        match exit {
            None => self.line("UH", &of.resource, &volume, &of.handler),
            Some(exit) => {
                let words = format!("{} {:#06x}", of.handler, u32::from(exit) << 8);
                self.line("UH-post", &of.resource, &volume, &words)
            }
        }
    }

    fn reconfigured(&mut self, resource: &str) -> String {
        if !self.is_wanted(resource, None) {
            return String::new();
        }
        self.number += 1;
        format!("{} R - {resource}\n", self.number)
    }

    fn line(&self, what: &str, resource: &str, volume: &VolumeReport, words: &str) -> String {
        if !self.is_wanted(resource, Some(volume.minor)) {
            return String::new();
        }
        let (number, minor) = (self.number, volume.minor);
        format!(
            "{number} {what} {minor},{resource}[{}] {words}\n",
            volume.volume
        )
    }
}

fn is_syncing(volume: &VolumeReport) -> bool {
    matches!(
        volume.cstate,
        Some(
            ConnState::SyncSource | ConnState::SyncTarget | ConnState::VerifyS | ConnState::VerifyT
        )
    )
}

/// The states of a volume, with the first four flags of the status file.
fn states(volume: &VolumeReport) -> String {
    use rdb_control::Pause;

    let paused = |pause, letter| match volume.resync_suspended.contains(&pause) {
        true => letter,
        false => '-',
    };
    format!(
        "{{ cs:{} ro:{}/{} ds:{}/{} {}{}{}{} }}",
        volume.cstate_word(),
        volume.role,
        volume.peer_role,
        volume.disk,
        volume.peer_disk,
        if volume.suspended.is_empty() {
            'r'
        } else {
            's'
        },
        paused(Pause::Dependency, 'a'),
        paused(Pause::Peer, 'p'),
        paused(Pause::User, 'u'),
    )
}

#[cfg(test)]
mod tests {
    use rdb_control::{SyncReport, VolumeStates};

    use super::*;
    use crate::status_text::tests::{resource, volume};

    fn source(cstate: &str) -> Event {
        let mut volume = volume(
            cstate,
            ("Primary", "Secondary"),
            ("UpToDate", "Inconsistent"),
        );
        volume.minor = 1;
        volume.sync = Some(SyncReport {
            total_kib: 16,
            left_kib: 11,
            failed_kib: 0,
            window_ms: 1,
            window_kib: 5,
            recent_ms: 1,
            recent_kib: 5,
            elapsed_ms: 1,
            paused_ms: 0,
            equal_kib: 0,
            want_kib: None,
            done_permille: 313,
            rate_kib: 1,
            average_kib: 1,
            left_s: 1,
            verify: None,
        });
        let resource = Box::new(resource("WFReportParams", vec![volume]));
        Event::Resource { resource }
    }

    /// Lines of drbdsetup 8.4 (drbd-utils 9.22) with the kernel's driver, but for the numbers.
    #[test]
    fn states_handlers_and_steps_are_told_as_drbdsetup_does() {
        let mut log = Log::new(Only::All);
        assert_eq!(
            log.apply(source("WFBitMapS")),
            "0 ST 1,r0[0] { cs:WFBitMapS ro:Primary/Secondary ds:UpToDate/Inconsistent r--- }\n"
        );
        log.apply(Event::Complete);
        let of = HandlerOf {
            resource: "r0".to_owned(),
            volume: Some(0),
            handler: "before-resync-source".to_owned(),
        };
        assert_eq!(
            log.apply(Event::HandlerCalled(of.clone())),
            "1 UH 1,r0[0] before-resync-source\n"
        );
        assert_eq!(
            log.apply(Event::HandlerEnded { of, exit: 1 }),
            "2 UH-post 1,r0[0] before-resync-source 0x0100\n"
        );
        let Event::Resource { resource } = source("SyncSource") else {
            unreachable!("it is one");
        };
        let mut new = VolumeStates::of(&resource.volumes[0]).unwrap();
        new.resync_suspended = [true, false, false];
        let changed = Event::Changed {
            resource: "r0".to_owned(),
            volume: 0,
            new,
            figures: None,
        };
        assert_eq!(
            log.apply(changed),
            "3 ST-prev 1,r0[0] { cs:WFBitMapS ro:Primary/Secondary ds:UpToDate/Inconsistent r--- }\n\
             3 ST-new 1,r0[0] { cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent r--u }\n\
             3 ST 1,r0[0] { cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent r--u }\n"
        );
        assert!(log.is_syncing());
        log.apply(source("SyncSource"));
        assert_eq!(log.apply(source("SyncSource")), "5 SP 1,r0[0] 31.3\n");
        let removed = Event::Removed {
            resource: "r0".to_owned(),
        };
        assert_eq!(log.apply(removed), "6 R - r0\n");
    }

    #[test]
    fn others_are_left_out() {
        for (only, count) in [
            (Only::Minor(1), 1),
            (Only::Minor(2), 0),
            (Only::Resource("r0".to_owned()), 1),
            (Only::Resource("r1".to_owned()), 0),
        ] {
            let mut log = Log::new(only);
            assert_eq!(log.apply(source("SyncSource")).lines().count(), count);
        }
    }
}
