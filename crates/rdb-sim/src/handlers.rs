//! Handlers run, and end: after any time, with any code, or not at all. `fence-peer` tells the truth when it says that the peer is
//! fenced, that it is Primary, or what its disk is; it may be broken at any time.

use rdb_engine::state::{DiskState, Fencing, Role};
use rdb_engine::{AdminId, Command, Event, Handler, HandlerId, SnapshotRun, VolumeNr};

use crate::arbiter::Course;
use crate::job::Job;
use crate::node::Asked;
use crate::world::World;

/// How long a handler takes, in simulated milliseconds.
const DURATIONS_MS: [u64; 8] = [1, 5, 20, 100, 400, 2_000, 8_000, 30_000];
/// What one says that is broken, killed, or not there.
const BROKEN: [i32; 6] = [0, 1, 2, 8, 127, 137];
/// How often `fence-peer` looks whether the peer has answered, and how many milliseconds it waits each time.
const TRIES: (u32, u64) = (16, 250);

impl World {
    /// A node has started a handler.
    pub(crate) fn handler_starts(
        &mut self,
        i: usize,
        id: HandlerId,
        handler: Handler,
        volume: Option<VolumeNr>,
        snapshot: Option<SnapshotRun>,
    ) {
        if let Some(run) = snapshot {
            self.note_snapshot(i, id, run.name);
        }
        self.tell(i, || format!("handler {handler}"));
        let course = self.course_of(handler);
        self.nodes[i].asked.push(Asked {
            id,
            handler,
            volume,
            course,
        });
    }

    fn course_of(&mut self, handler: Handler) -> Course {
        if !self.arbiter.is_on {
            return Course::ByHand;
        }
        self.coverage.hit(name_of(handler));
        let mut rng = self.arbiter.draw(self.seed);
        let calm = self.is_calm();
        if !calm && rng.one_in(16) {
            self.coverage.hit("handler: never ends");
            return Course::Hangs;
        }
        let ms = if calm {
            rng.below(50)
        } else {
            rng.pick(&DURATIONS_MS)
        };
        let at = self.now.plus_ms(ms);
        match handler {
            Handler::FencePeer => Course::Looks(at),
            Handler::BeforeResyncTarget | Handler::BeforeResyncSource => {
                let refuses = !calm && rng.one_in(10);
                let exit = if refuses { rng.pick(&[1, 3, 127]) } else { 0 };
                Course::Ends { at, exit }
            }
            _ => {
                let exit = rng.pick(&[0, 0, 1, 127]);
                Course::Ends { at, exit }
            }
        }
    }

    /// Nothing goes wrong: before the plan begins, and when it is over, or in all of it.
    fn is_calm(&self) -> bool {
        !self.judging || self.repairing || self.arbiter.is_good
    }

    /// A handler goes on.
    pub(crate) fn handler_goes_on(&mut self, i: usize, n: usize) {
        let asked = self.nodes[i].asked[n];
        let course = match asked.course {
            Course::ByHand | Course::Hangs => return,
            Course::Looks(_) => self.look_at_peer(i),
            Course::Outdates { first, tries, .. } => self.look_for_answers(i, first, tries),
            Course::Ends { exit, .. } => {
                self.nodes[i].asked.remove(n);
                self.tell(i, || format!("{} ends: {exit}", asked.handler));
                let id = asked.id;
                self.note_snapshot_end(i, id, exit);
                return self.event(i, Event::HandlerDone { id, exit });
            }
        };
        let mut running = self.nodes[i].asked.iter_mut();
        if let Some(running) = running.find(|running| running.id == asked.id) {
            running.course = course;
        }
    }

    /// Handlers that would not end do, and the arbiter forgets.
    pub(crate) fn end_handlers(&mut self) {
        self.arbiter.has_peace();
        self.arbiter.is_open = true;
        let at = self.now.plus_ms(20);
        for asked in self.nodes.iter_mut().flat_map(|node| &mut node.asked) {
            if asked.course != Course::ByHand {
                asked.course = match asked.handler {
                    Handler::FencePeer => Course::Looks(at),
                    _ => Course::Ends { at, exit: 0 },
                };
            }
        }
    }

    fn ends(&mut self, exit: i32, name: &'static str) -> Course {
        self.coverage.hit(name);
        let calm = self.is_calm();
        let mut rng = self.arbiter.draw(self.seed);
        let ms = if calm { 1 } else { rng.pick(&DURATIONS_MS) };
        let at = self.now.plus_ms(rng.below(ms + 1));
        Course::Ends { at, exit }
    }

    fn is_primary_of_any(&self, i: usize) -> bool {
        (0..self.models.len()).any(|v| self.is_primary(i, v))
    }

    fn all_disks(&self, i: usize, is: impl Fn(DiskState) -> bool) -> bool {
        self.nodes[i].view.iter().all(|state| is(state.disk))
    }

    fn wins(&mut self, i: usize, exit: i32, name: &'static str) -> Course {
        self.arbiter.winner = Some(i);
        self.ends(exit, name)
    }

    fn look_at_peer(&mut self, i: usize) -> Course {
        let (p, calm) = (1 - i, self.is_calm());
        let mut rng = self.arbiter.draw(self.seed);
        if !calm && rng.one_in(8) {
            let exit = rng.pick(&BROKEN);
            return self.ends(exit, "fence: the handler is broken");
        }
        if self.arbiter.winner == Some(p) {
            let exit = rng.pick(&[1, 6]);
            return self.ends(exit, "fence: the peer has won already");
        }
        if !self.nodes[p].alive {
            let assume = self.all_disks(i, |disk| disk == DiskState::UpToDate) && rng.one_in(2);
            let exit = if assume { 5 } else { 7 };
            return self.wins(i, exit, "fence: the peer is off");
        }
        let stands_still = self.nodes[p].paused_until > self.now;
        let policy = self.disk_options.fencing;
        let may_shoot = policy == Fencing::ResourceAndStonith && !calm;
        if may_shoot && (rng.one_in(3) || stands_still) {
            self.shoot(p);
            return self.wins(i, 7, "fence: the peer is shot");
        }
        if stands_still || !calm && rng.one_in(4) {
            if policy != Fencing::ResourceOnly {
                return self.ends(1, "fence: the peer does not answer");
            }
            // (Which lets two nodes go on, if this one was wrong. With this policy it may.)
            return self.ends(5, "fence: the peer is taken for dead");
        }
        if self.is_primary_of_any(p) {
            return self.ends(6, "fence: the peer is Primary");
        }
        let first = self.next_id;
        for volume in 0..self.models.len() {
            let volume = VolumeNr(volume as u16);
            self.start_admin(p, Command::Outdate { volume });
        }
        self.outdates(first, TRIES.0)
    }

    fn outdates(&self, first: u64, tries: u32) -> Course {
        let at = self.now.plus_ms(TRIES.1);
        Course::Outdates { first, at, tries }
    }

    /// The machine loses its power, and is there again some time later.
    fn shoot(&mut self, i: usize) {
        let mut rng = self.arbiter.draw(self.seed);
        self.die(i, true);
        let ms = rng.pick(&[10, 300, 2_000, 10_000, 40_000]);
        let job = Job::Start {
            node: i,
            connect_first: rng.one_in(3),
        };
        self.later(self.now.plus_ms(ms), job);
    }

    fn look_for_answers(&mut self, i: usize, first: u64, tries: u32) -> Course {
        let p = 1 - i;
        let ids = first..first + self.models.len() as u64;
        let open = |w: &World, id: &u64| w.nodes[p].admin_open.contains_key(id);
        if ids.clone().any(|id| open(self, &id)) {
            if tries > 0 {
                return self.outdates(first, tries - 1);
            }
            for id in ids {
                if open(self, &id) {
                    let id = AdminId(id);
                    self.event(p, Event::Withdraw { id });
                }
            }
            return self.ends(1, "fence: the peer does not answer");
        }
        if self.arbiter.winner == Some(p) {
            return self.ends(6, "fence: the peer has won already");
        }
        if !self.nodes[p].alive {
            return self.ends(1, "fence: the peer died meanwhile");
        }
        if self.is_primary_of_any(p) {
            return self.ends(6, "fence: the peer is Primary");
        }
        if self.all_disks(p, |disk| disk == DiskState::Inconsistent) {
            return self.wins(i, 3, "fence: the peer is Inconsistent");
        }
        let answers = |v: usize| {
            let answer = self.nodes[p].admin.get(&(first + v as u64));
            answer.is_some_and(Result::is_ok)
        };
        let confirmed = (0..self.models.len()).all(|v| {
            let state = self.nodes[p].view[v];
            state.disk == DiskState::Inconsistent || state.disk == DiskState::Outdated && answers(v)
        });
        if !confirmed {
            return self.ends(1, "fence: the peer refuses");
        }
        for v in 0..self.models.len() {
            assert!(
                !self.is_good_on_record(p, v),
                "node {}: outdate has ended well, and a power cut would undo it",
                self.nodes[p].name
            );
        }
        self.arbiter.outdated[p] = true;
        self.wins(i, 4, "fence: the peer is outdated")
    }

    /// Whether some volume of the node is, or will be by a promotion under way, used there.
    pub(crate) fn has_users(&self, i: usize) -> bool {
        self.nodes[i].view.iter().any(|s| s.role == Role::Primary)
    }
}

fn name_of(handler: Handler) -> &'static str {
    match handler {
        Handler::FencePeer => "handler: fence-peer",
        Handler::UnfencePeer => "handler: unfence-peer",
        Handler::Snapshot => "handler: snapshot",
        Handler::BeforeResyncTarget => "handler: before-resync-target",
        Handler::AfterResyncTarget => "handler: after-resync-target",
        Handler::BeforeResyncSource => "handler: before-resync-source",
        Handler::PriOnInconDegr => "handler: pri-on-incon-degr",
        _ => "handler: another one",
    }
}
