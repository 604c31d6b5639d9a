//! The loop around the decisions: it looks how the resource is, has the machine decide, runs what that wants, and keeps the record.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdb_control::Limits;

use super::decision::{Held, Machine, Ms, Next, Orders, Policy, Why};
use super::facts::World;
use super::files::{Files, Record};
use super::settings::{Escalation, Service, Settings};
use super::task::{Left, Order, Task};
use super::watch::Watch;
use crate::out;

/// How long the loop waits for something to happen; and while a command runs.
const PATIENCE: Duration = Duration::from_millis(500);
const PATIENCE_BUSY: Duration = Duration::from_millis(50);
/// How long a promotion or a demotion may take, beyond what `rdbadm` itself lets it.
const ROLE_LIMIT: Duration = Duration::from_secs(600);
/// How long a look at a service may take.
const CHECK_LIMIT: Duration = Duration::from_secs(30);
const ESCALATION_LIMIT: Duration = Duration::from_secs(90);

/// What a promoter is for, and where.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) resource: String,
    pub(crate) minors: Vec<u32>,
    pub(crate) node: String,
    pub(crate) peer: String,
    pub(crate) settings: Settings,
    pub(crate) run_dir: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) files: Files,
    /// `rdbadm` with its options, before the command.
    pub(crate) rdbadm: Vec<String>,
}

/// Why a promoter can not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("another promoter has this resource here{}", by_process(*.0))]
    Taken(Option<u32>),
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: std::io::Error,
    },
}

fn by_process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl Post {
    fn policy(&self) -> Policy {
        Policy::of(&self.settings, &self.node, &self.peer)
    }

    fn watch(&self) -> Watch {
        Watch::new(&self.run_dir, self.limits, &self.node, &self.resource)
    }

    /// What it would do now, as a sentence.
    pub(crate) fn would_do(&self) -> String {
        let record = self.files.read().unwrap_or_default();
        let mut machine = Machine::new(self.policy(), record.held, true, 1);
        let mut watch = self.watch();
        watch.wait(PATIENCE);
        let orders = Orders {
            is_evicted: self.files.is_evicted(),
            ..Orders::default()
        };
        let next = machine.next(watch.world(), orders, 0);
        let why = machine.gives_up().map(|reason| format!(", for {reason}"));
        format!(
            "{}{}",
            self.words(next, &record.services),
            why.unwrap_or_default()
        )
    }

    /// What is done next, in words. `begun`: the services that were begun with.
    fn words(&self, next: Next, begun: &[Service]) -> String {
        let name = |services: &[Service], number: usize| {
            services
                .get(number)
                .map_or_else(String::new, |service| service.name().to_owned())
        };
        match next {
            Next::Wait(Why::Runs) => Why::Runs.to_string(),
            Next::Wait(why) => format!("waits: {why}"),
            Next::Promote => "promotes".to_owned(),
            Next::Start(number) => format!("starts {}", name(&self.settings.start, number)),
            Next::Stop(number) => format!("stops {}", name(begun, number)),
            Next::Demote => "gives the role up".to_owned(),
            Next::Escalate => {
                "the role can not be given up: does what on-drbd-demote-failure says".to_owned()
            }
            Next::End => "ends".to_owned(),
        }
    }

    fn adm(&self, verb: &str) -> Order {
        let words = self.rdbadm.iter().map(String::as_str);
        Order::words(&words.chain([verb, &self.resource]).collect::<Vec<_>>())
    }
}

/// A promoter at work.
struct Promoter<'a> {
    post: &'a Post,
    watch: Watch,
    machine: Machine,
    /// The services that were begun with.
    services: Vec<Service>,
    /// What is done just now; a look at a service counts as waiting.
    task: Option<(Next, Task)>,
    /// The service that is looked at, or the next one, and when.
    looks_at: usize,
    look_due: Instant,
    failed: Option<usize>,
    begun: Instant,
    ends: Arc<AtomicBool>,
    /// What was said and recorded last.
    doing: String,
    recorded: Option<Record>,
    has_no_record: bool,
}

/// Runs a promoter until it is told to end; whether it has left nothing behind that it was to take down.
///
/// # Errors
/// When there is another one, or it cannot be known.
pub(crate) fn run(post: &Post) -> Result<bool, RunError> {
    let locked = post.files.lock().map_err(|source| RunError::Io {
        what: "can not lock the resource",
        source,
    })?;
    let record = post.files.read();
    let Some(_lock) = locked else {
        return Err(RunError::Taken(record.map(|record| record.pid)));
    };
    let ends = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGHUP,
    ] {
        let registered = signal_hook::flag::register(signal, Arc::clone(&ends));
        registered.map_err(|source| RunError::Io {
            what: "can not listen to signals",
            source,
        })?;
    }
    let mut seed = [0; 8];
    // Without random bits two promoters may meet a few times more.
    let _ = getrandom::fill(&mut seed);
    let record = record.unwrap_or_default();
    if let Some(command) = record.command {
        command.settle(ROLE_LIMIT);
    }
    let Record { held, services, .. } = record;
    let held = Held {
        begun: services.len(),
        started: held.started.min(services.len()),
        ..held
    };
    let is_same = post.settings.start.starts_with(&services);
    let now = Instant::now();
    Promoter {
        post,
        watch: post.watch(),
        machine: Machine::new(post.policy(), held, is_same, u64::from_le_bytes(seed)),
        services,
        task: None,
        looks_at: 0,
        look_due: now,
        failed: None,
        begun: now,
        ends,
        doing: String::new(),
        recorded: None,
        has_no_record: false,
    }
    .run()
}

impl Promoter<'_> {
    fn run(mut self) -> Result<bool, RunError> {
        self.say(&format!("the promoter begins, on {}", self.post.node));
        loop {
            let busy = self.task.is_some();
            self.watch.wait(if busy { PATIENCE_BUSY } else { PATIENCE });
            if let Some(complaint) = self.watch.complaint() {
                self.say(&complaint);
            }
            if self.is_busy() {
                continue;
            }
            let (orders, now) = (self.orders(), self.now());
            let next = self.machine.next(self.watch.world(), orders, now);
            self.tell(next);
            match next {
                Next::Wait(Why::Runs) => self.look(),
                Next::Wait(_) => {}
                Next::End => return Ok(self.leaves_nothing()),
                _ => self.begin(next),
            }
        }
    }

    fn now(&self) -> Ms {
        Ms::try_from(self.begun.elapsed().as_millis()).unwrap_or(Ms::MAX)
    }

    fn orders(&self) -> Orders {
        Orders {
            is_ending: self.ends.load(Ordering::Acquire),
            is_evicted: self.post.files.is_evicted(),
            failed: self.failed,
        }
    }

    fn leaves_nothing(&self) -> bool {
        !self.post.settings.stop_services_on_exit || !self.machine.held().promoted
    }

    /// Whether a command is under way; what has ended is taken note of.
    fn is_busy(&mut self) -> bool {
        let (orders, now) = (self.orders(), self.now());
        let Some((doing, task)) = &mut self.task else {
            return false;
        };
        let doing = *doing;
        match task.poll() {
            None => {
                if self
                    .machine
                    .breaks_off(doing, self.watch.world(), orders, now)
                {
                    task.tell_to_end();
                }
                true
            }
            Some(result) => {
                self.task = None;
                self.ended(doing, result);
                // What is decided next is decided by what that has made of it.
                self.watch.read();
                false
            }
        }
    }

    fn ended(&mut self, doing: Next, result: Result<(), String>) {
        if let Next::Wait(_) = doing {
            return self.looked(result);
        }
        let words = self.post.words(doing, &self.services);
        if let Err(why) = &result {
            self.say(&format!("{words}: failed: {why}"));
        }
        let now = self.now();
        self.machine.done(doing, result.is_ok(), now);
        self.forget_stopped();
        if self.machine.gives_up().is_some() {
            self.failed = None;
        }
    }

    /// Services that have stopped are none any more; those whose stop has failed are.
    fn forget_stopped(&mut self) {
        let held = self.machine.held();
        self.services.truncate(held.begun.max(held.unstopped));
    }

    fn begin(&mut self, next: Next) {
        let (order, limit) = match next {
            Next::Promote => (Some(self.post.adm("primary")), ROLE_LIMIT),
            Next::Demote => (Some(self.post.adm("secondary")), ROLE_LIMIT),
            Next::Start(number) => {
                let service = &self.post.settings.start[number];
                self.services.truncate(number);
                self.services.push(service.clone());
                (
                    Some(Order::start(service)),
                    seconds(self.post.settings.start_timeout),
                )
            }
            Next::Stop(number) => {
                let order = self.services.get(number).and_then(Order::stop);
                (order, seconds(self.post.settings.stop_timeout))
            }
            Next::Escalate => match &self.post.settings.on_drbd_demote_failure {
                Escalation::Nothing => (None, ESCALATION_LIMIT),
                Escalation::Run(words) => {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    (Some(Order::words(&words)), ESCALATION_LIMIT)
                }
            },
            Next::Wait(_) | Next::End => return,
        };
        self.machine.begin(next);
        // Before it is done: who comes after a promoter that dies now has to undo it.
        self.record();
        match order {
            Some(order) => self.order(next, &order, limit),
            None => self.ended(next, Ok(())),
        }
    }

    fn order(&mut self, next: Next, order: &Order, limit: Duration) {
        let minors = self.post.minors.iter().map(u32::to_string);
        let environment = [
            ("DRBD_RESOURCE", self.post.resource.clone()),
            ("DRBD_MINOR", minors.collect::<Vec<_>>().join(" ")),
        ];
        match Task::begin(order, &environment, limit) {
            Ok(task) => {
                self.task = Some((next, task));
                self.record();
            }
            Err(error) => {
                let program = order.words.first().map_or("", String::as_str);
                self.ended(next, Err(format!("{program}: {error}")));
            }
        }
    }

    /// Looks at the next service, if it is time.
    fn look(&mut self) {
        if Instant::now() < self.look_due {
            return;
        }
        let Some(service) = self.services.get(self.looks_at) else {
            self.looks_at = 0;
            self.look_due = Instant::now() + seconds(self.post.settings.monitor_interval);
            return;
        };
        match Order::check(service) {
            Some(order) => self.order(Next::Wait(Why::Runs), &order, CHECK_LIMIT),
            None => self.looks_at += 1,
        }
    }

    fn looked(&mut self, result: Result<(), String>) {
        let number = self.looks_at;
        self.looks_at += 1;
        let Err(why) = result else { return };
        // Where users wait nothing can be looked at; and who is told to stop does not look.
        let serves = matches!(self.watch.world(), World::Up(facts) if !facts.is_frozen && !facts.is_returning);
        if serves && self.machine.is_up() {
            let name = self.services.get(number).map_or("", Service::name);
            self.say(&format!("{name} does not run: {why}"));
            self.failed = Some(number);
        }
    }

    /// Says and records what is done, if that is new.
    fn tell(&mut self, next: Next) {
        let mut words = self.post.words(next, &self.services);
        if let Some(reason) = self.machine.gives_up() {
            words += &format!(", for {reason}");
            self.failed = None;
        }
        if words != self.doing {
            self.say(&words);
            self.doing = words;
        }
        self.forget_stopped();
        self.record();
    }

    /// The command that the next promoter has to settle, should this one die.
    fn left(&self) -> Option<Left> {
        let (doing, task) = self.task.as_ref()?;
        match doing {
            Next::Promote | Next::Demote => task.left(true),
            Next::Start(_) | Next::Stop(_) => task.left(false),
            Next::Wait(_) | Next::Escalate | Next::End => None,
        }
    }

    fn record(&mut self) {
        let record = Record {
            pid: std::process::id(),
            doing: self.doing.clone(),
            held: self.machine.held(),
            services: self.services.clone(),
            command: self.left(),
        };
        if self.recorded.as_ref() == Some(&record) {
            return;
        }
        match self.post.files.write(&record) {
            Ok(()) => {
                self.recorded = Some(record);
                self.has_no_record = false;
            }
            Err(error) if !self.has_no_record => {
                self.has_no_record = true;
                self.say(&format!("can not keep a record: {error}"));
            }
            Err(_) => {}
        }
    }

    fn say(&self, words: &str) {
        out::error(&format!("{}: {words}", self.post.resource));
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}
