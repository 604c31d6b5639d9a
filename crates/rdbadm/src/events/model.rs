//! What is known of the resources from what the daemon has told, and the lines that each event makes of it.

use rdb_control::{
    ConnState, DiskState, Event, HandlerOf, ResourceReport, Role, VolumeReport, VolumeStates,
};

use super::lines::{self, Line, Style};
use super::objects::{self, Kind, Object};

/// What is known.
pub(super) struct Model {
    style: Style,
    /// `--poll`: figures alone are a change where everything is told anew.
    polls: bool,
    resources: Vec<Known>,
}

/// A resource.
struct Known {
    report: ResourceReport,
    /// Its connection is there. It stays while it is StandAlone for a moment, before it is used and after.
    is_linked: bool,
    /// It was told of since the last that is complete.
    is_told: bool,
}

impl Known {
    /// What is there of it, but for a connection that is not.
    fn objects(&self, style: &Style) -> Vec<Object> {
        let mut all = objects::own_side(&self.report, style.view);
        if self.is_linked {
            all.extend(objects::peer_side(&self.report, style.view, true));
        }
        all
    }

    /// All of it, as the first lines have it: they show a connection that is not there as StandAlone.
    fn shown(&self, style: &Style) -> Vec<Object> {
        let mut all = objects::own_side(&self.report, style.view);
        all.extend(objects::peer_side(&self.report, style.view, self.is_linked));
        all.sort_by_key(|object| object.kind);
        all
    }
}

impl Model {
    pub(super) fn new(style: Style, polls: bool) -> Model {
        Model {
            style,
            polls,
            resources: Vec::new(),
        }
    }

    /// The lines of everything that there is.
    pub(super) fn dump(&self) -> Vec<Line> {
        let objects = self
            .resources
            .iter()
            .flat_map(|known| known.shown(&self.style));
        objects
            .map(|object| self.style.whole("exists", &object))
            .collect()
    }

    /// The lines that an event makes.
    pub(super) fn apply(&mut self, event: Event) -> Vec<Line> {
        match event {
            Event::Resource { resource } => self.tell(*resource),
            Event::Complete => self.complete(),
            Event::Skipped { .. } => {
                self.begin_anew();
                Vec::new()
            }
            Event::Created { resource } => self.tell(new_resource(resource)),
            Event::Removed { resource } => self.remove(&resource),
            Event::VolumeCreated {
                resource,
                volume,
                minor,
            } => self.change(&resource, |report| {
                if report.volumes.iter().all(|v| v.volume != volume) {
                    report
                        .volumes
                        .push(new_volume(volume, minor, report.connection));
                    report.volumes.sort_by_key(|v| v.volume);
                }
            }),
            Event::VolumeRemoved { resource, volume } => self.change(&resource, |report| {
                report.volumes.retain(|v| v.volume != volume);
            }),
            Event::Changed {
                resource,
                volume,
                new,
                figures,
            } => self.change(&resource, |report| {
                if let Some(figures) = figures {
                    take_figures(report, *figures);
                }
                if let Some(found) = report.volumes.iter_mut().find(|v| v.volume == volume) {
                    new.put_into(found);
                }
                report.connection = connection_of(report);
            }),
            Event::HandlerCalled(of) => vec![self.helper(&of, None)],
            Event::HandlerEnded { of, exit } => vec![self.helper(&of, Some(exit))],
        }
    }

    /// Everything is told anew: what is not told of then has gone.
    pub(super) fn begin_anew(&mut self) {
        self.resources
            .iter_mut()
            .for_each(|known| known.is_told = false);
    }

    fn complete(&mut self) -> Vec<Line> {
        let gone: Vec<String> = self
            .resources
            .iter()
            .filter(|known| !known.is_told)
            .map(|known| known.report.name.clone())
            .collect();
        let lines = gone.iter().flat_map(|name| self.remove(name)).collect();
        self.begin_anew();
        lines
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.resources
            .iter()
            .position(|known| known.report.name == name)
    }

    /// How a resource is.
    fn tell(&mut self, report: ResourceReport) -> Vec<Line> {
        let is_linked = report.connection != ConnState::StandAlone;
        let known = Known {
            report,
            is_linked,
            is_told: true,
        };
        let new = known.objects(&self.style);
        let old = match self.position(&known.report.name) {
            Some(at) => {
                let before = std::mem::replace(&mut self.resources[at], known);
                before.objects(&self.style)
            }
            None => {
                self.resources.push(known);
                Vec::new()
            }
        };
        self.style.between(&old, &new, self.polls)
    }

    fn remove(&mut self, name: &str) -> Vec<Line> {
        let Some(at) = self.position(name) else {
            return Vec::new();
        };
        let known = self.resources.remove(at);
        self.style.between(&known.objects(&self.style), &[], false)
    }

    /// A change of a resource. A connection is made before it changes from StandAlone, and goes after it has become that.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut ResourceReport)) -> Vec<Line> {
        let Some(at) = self.position(name) else {
            return Vec::new();
        };
        let style = self.style;
        let known = &mut self.resources[at];
        let mut lines = Vec::new();
        let mut old = known.objects(&style);
        let mut report = known.report.clone();
        change(&mut report);
        let is_linked = report.connection != ConnState::StandAlone;
        if is_linked && !known.is_linked {
            (known.report.local, known.report.peer) = (report.local, report.peer);
            known.is_linked = true;
            let made = known.objects(&style);
            lines.extend(style.between(&old, &made, false));
            old = made;
        }
        let of_lone_peers = match known.is_linked {
            true => Vec::new(),
            false => alone(&style, &known.report, &report),
        };
        known.report = report;
        let new = known.objects(&style);
        lines.extend(style.between(&old, &new, false));
        lines.extend(of_lone_peers);
        if !is_linked && known.is_linked {
            known.is_linked = false;
            lines.extend(style.between(&new, &known.objects(&style), false));
        }
        lines
    }

    fn helper(&self, of: &HandlerOf, exit: Option<u8>) -> Line {
        let mut names = objects::named_connection(&of.resource);
        let known = self.position(&of.resource).map(|at| &self.resources[at]);
        let volumes = known.map(|known| known.report.volumes.as_slice());
        let volume = of.volume.and_then(|number| {
            let mut volumes = volumes.unwrap_or_default().iter();
            volumes.find(|v| v.volume == number)
        });
        names.extend(volume.into_iter().flat_map(objects::named_volume));
        lines::helper(names, &of.handler, exit)
    }
}

/// What changes of peers' disks while there is no connection: DRBD 8.4 tells all words then, and no connection's name.
fn alone(style: &Style, old: &ResourceReport, new: &ResourceReport) -> Vec<Line> {
    let of_peers = |report: &ResourceReport| {
        let objects = objects::peer_side(report, style.view, false);
        let devices = objects.into_iter().filter(|o| o.kind == Kind::PeerDevice);
        devices.collect::<Vec<_>>()
    };
    let states = |object: &Object| {
        let words = object.words.iter();
        let states = words.filter(|word| word.told == objects::Told::State);
        states.cloned().collect::<Vec<_>>()
    };
    let before = of_peers(old);
    let changed = |object: &Object| {
        let found = before.iter().find(|old| old.names == object.names);
        found.is_some_and(|old| states(old) != states(object))
    };
    of_peers(new)
        .iter()
        .filter(|object| changed(object))
        .map(|object| style.whole("change", object))
        .collect()
}

/// The connection's state as its volumes have it: while some have lost it and others have not heard of that, it is there.
fn connection_of(report: &ResourceReport) -> ConnState {
    let states = report.volumes.iter().filter_map(|v| v.cstate);
    let highest = states.max().unwrap_or(report.connection);
    highest.min(ConnState::WFReportParams)
}

/// The figures of a later report beside the states that are known.
fn take_figures(report: &mut ResourceReport, mut later: ResourceReport) {
    (report.local, report.peer) = (later.local.or(report.local), later.peer.or(report.peer));
    for volume in &mut report.volumes {
        let number = volume.volume;
        let Some(at) = later.volumes.iter().position(|v| v.volume == number) else {
            continue;
        };
        let Some(states) = VolumeStates::of(volume) else {
            continue;
        };
        *volume = later.volumes.swap_remove(at);
        states.put_into(volume);
    }
}

/// A resource as it is made.
pub(super) fn new_resource(name: String) -> ResourceReport {
    ResourceReport {
        name,
        connection: ConnState::StandAlone,
        protocol: None,
        local: None,
        peer: None,
        epochs: 1,
        owed_ms: 0,
        volumes: Vec::new(),
        link_reason: None,
        record_reason: None,
        daemon_reason: None,
        io_reason: None,
        handlers: Vec::new(),
        failed: None,
    }
}

/// A volume as it is made, with a connection in this state.
pub(super) fn new_volume(volume: u16, minor: u32, connection: ConnState) -> VolumeReport {
    VolumeReport {
        role: Role::Secondary,
        cstate: Some(connection),
        disk: DiskState::Diskless,
        flags: "r-----".to_owned(),
        write_ordering: 'f',
        ..VolumeReport::unknown(volume, minor)
    }
}
