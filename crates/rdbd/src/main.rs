//! The daemon: control plane, status file, and a thread of the data plane for each resource.

#![deny(unsafe_code)]

mod args;
mod askers;
mod caller;
mod check;
mod control_runtime;
mod convert;
mod course;
mod down;
mod event_stream;
mod events;
mod evidence;
mod fallback;
mod figures;
mod guard;
mod handler_run;
mod handlers;
mod handover;
mod history;
mod holders;
mod http;
mod keep;
mod late_disk;
mod locks;
mod log;
mod man;
mod names;
mod naming;
mod node;
mod open_files;
mod ops;
mod options;
mod outcome;
mod pri_lost;
mod primary;
mod proc_drbd;
mod questions;
mod reasons;
mod record;
mod registry;
mod reload;
mod restarts;
mod rotate;
mod run_dir;
mod runs;
mod server;
mod serving;
mod session;
mod sessions;
mod settings;
mod signals;
mod spawn;
mod stack;
mod state_dir;
mod status;
mod stopped;
mod streams;
mod systemd;
mod takeover;
mod takeover_state;
mod target;
mod threads;
mod touched;
mod wait;

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use rdb_frontend::fuse::left::LeftSessions;
use rdb_frontend::links::DeviceLinks;
use tokio::task::LocalSet;

use crate::args::Args;
use crate::askers::Askers;
use crate::course::Course;
use crate::guard::StatusFile;
use crate::handover::What;
use crate::history::History;
use crate::node::Node;
use crate::reload::Reload;
use crate::run_dir::{Held, LOCK_FD};
use crate::server::{Access, Server};
use crate::serving::Serving;
use crate::settings::{DEFAULT_PATH, DEFAULT_RUN_DIR, Settings};
use crate::signals::Signals;
use crate::state_dir::StateLock;

// (Cargo gives a feature to all who are built together: better no daemon than one with bugs on purpose.)
const _: () = assert!(
    !rdb_engine::PLANTED_BUGS,
    "the feature planted-bugs is for the simulator alone"
);

/// Secrets are among what is freed.
#[global_allocator]
static ALLOCATOR: rdb_runtime::WipingAllocator = rdb_runtime::WipingAllocator;

fn main() -> ExitCode {
    fallback::begin();
    signals::begin();
    let args = match Args::of_command_line() {
        Ok(args) => args,
        Err(error) => {
            fallback::go_back(&error.to_string(), None);
            error.exit();
        }
    };
    let mut starter = None;
    // (A program that follows another one is handed what it needs.)
    if args.background && std::env::var_os(LOCK_FD).is_none() {
        streams::close_inherited();
        starter = streams::Starter::take();
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fallback::go_back(&format!("{error:#}"), None);
            // Nothing is left to do about a closed standard error.
            let text = format!("{error:#}");
            let text = open_files::named(&text);
            let _ = writeln!(std::io::stderr(), "rdbd: {text}");
            if let Some(starter) = &mut starter {
                starter.tell(&text);
            }
            match error.is::<run_dir::Taken>() {
                true => ExitCode::from(rdb_control::EXIT_TAKEN),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn run(args: Args) -> Result<()> {
    if let Some(directory) = args.generate_man {
        return man::write(&directory).with_context(|| directory.display().to_string());
    }
    let settings = Settings::load(args.config.as_deref())?;
    let frontend = serving::frontend(args.frontend.as_deref(), &settings)
        .with_context(|| format!("frontend (from --frontend, RDB_FRONTEND or {DEFAULT_PATH})"))?;
    let Some(name) = args.node.or_else(host_name) else {
        bail!("can not find out this node's name; use --node");
    };
    let run_dir = run_dir::prepare(&args.run_dir)?;
    if args.check {
        settings.askers().group_id()?;
        return check::run(&run_dir, frontend);
    }
    stack::check()?;
    signals::block().context("signals")?;
    if let Some(watch) = fallback::asked_to_watch() {
        return fallback::watch(&watch, &run_dir);
    }
    let held = Rc::new(RefCell::new(hold(&run_dir, &settings)?));
    if args.background {
        session::lead();
    }
    let level = settings.log_level.unwrap_or(settings::LogLevel::Info);
    let log_file = streams::log_file();
    let (log, set_level) =
        log::Log::start(level.tracing(), &run_dir).context("starting the log")?;
    let core_dumps = settings.core_dumps.unwrap_or_default().runtime();
    for warning in rdb_runtime::harden_process(core_dumps) {
        tracing::warn!("{warning}");
    }
    let is_default_dir = run_dir == Path::new(DEFAULT_RUN_DIR);
    let links = settings
        .device_links
        .unwrap_or(is_default_dir)
        .then(|| DeviceLinks::new("/dev", &run_dir));
    let runtime = control_runtime::build()?;
    let local = LocalSet::new();
    let left_sessions = sessions::taken();
    let serving = Serving::of(&settings, frontend);
    let reload = Reload {
        config: args.config,
        frontend: args.frontend,
        settings,
        set_level,
        log_file,
    };
    let served = local.run_until(serve(
        name,
        serving,
        links,
        Rc::clone(&held),
        reload,
        left_sessions.clone(),
    ));
    let end = runtime.block_on(served)?;
    drop(local);
    // Whatever still waits on another thread ends with the program.
    runtime.shutdown_background();
    drop(log);
    match end {
        End::Gone => {
            held.borrow().leave();
            Ok(())
        }
        End::Back(why) => {
            fallback::go_back(&why, Some((&held.borrow(), &left_sessions)));
            Err(anyhow::Error::msg(why))
        }
        End::Replaced { program, instance } => {
            let held = held.borrow();
            Err(fallback::become_program(
                &program,
                &held,
                &left_sessions,
                instance,
            ))
        }
    }
}

/// Takes the run directory, and the state directory: where another daemon has the usual one, one in the run directory.
fn hold(run_dir: &Path, settings: &Settings) -> Result<Held> {
    let state_dir = settings.state_dir_or_usual(run_dir);
    let own = run_dir.join("state");
    let instead = Some(&*own).filter(|own| settings.state_dir.is_none() && **own != *state_dir);
    Held::take(run_dir, &state_dir, instead)
}

/// How the daemon has ended.
enum End {
    /// For good.
    Gone,
    /// The program before this one takes everything back, for this reason.
    Back(String),
    /// Another program goes on.
    Replaced { program: PathBuf, instance: u64 },
}

/// Histories are written from now on; the log says it if that is not where they are usually.
fn start_history(place: &StateLock) -> Result<History> {
    let dir = place.dir();
    if let Some(why) = place.avoids() {
        tracing::warn!("{why}; its own are in {}", dir.display());
    }
    History::start(dir).context("the history")
}

/// The socket for questions alone. Without it the node serves as ever, and root can ask.
fn bind_questions(run_dir: &Path, socket: &Path, askers: Askers) -> Option<Server> {
    Server::bind(run_dir, Access::Ask(askers))
        .map_err(|error| tracing::error!("socket for questions {}: {error}", socket.display()))
        .ok()
}

async fn serve(
    name: String,
    serving: Serving,
    links: Option<DeviceLinks>,
    held: Rc<RefCell<Held>>,
    reload: Reload,
    left_sessions: LeftSessions,
) -> Result<End> {
    let run_dir = held.borrow().path().to_owned();
    let signals = Signals::listen().context("signals")?;
    let socket = run_dir.join(rdb_control::SOCKET_NAME);
    let server = Server::bind(&run_dir, Access::Administer)
        .with_context(|| format!("control socket {}", socket.display()))?;
    let questions = run_dir.join(rdb_control::QUESTIONS_NAME);
    let asked = bind_questions(&run_dir, &questions, reload.settings.askers());
    let history = start_history(held.borrow().state())?;
    let (node, told) = Node::new(
        name,
        run_dir,
        history.clone(),
        serving,
        reload.settings.core_dumps.unwrap_or_default().runtime(),
        left_sessions,
        names::Names::new(links),
    );
    let node = Rc::new(node);
    let status = StatusFile::new(reload.settings.compat.proc_drbd.path());
    status.serve(&node).await;
    tracing::info!(
        "rdbd {} on node {}, run directory {}, front end {}",
        env!("CARGO_PKG_VERSION"),
        node.name,
        node.run_dir.display(),
        serving.frontend,
    );
    tokio::task::spawn_local(node::follow_devices(Rc::clone(&node), told.devices));
    tokio::task::spawn_local(handlers::follow(Rc::clone(&node), told.handler_news));
    let guard = guard::follow(Rc::clone(&node), held, status.clone());
    let guarding = tokio::task::spawn_local(guard);
    node.clear_leftovers().await;
    // Clients wait until what ran before is there again.
    let failed = node.take_over().await;
    if let Some(why) = failed.filter(|_| fallback::is_open()) {
        tracing::error!("{why}: the program before this one takes everything back");
        node.hand_back().await;
        guarding.abort();
        end_handlers(&node).await;
        let _ = std::fs::remove_file(&socket);
        status.end().await;
        return Ok(End::Back(why));
    }
    fallback::serves();
    tokio::task::spawn_local(stopped::follow(Rc::clone(&node), told.stopped));
    look_after(&node, signals, reload);
    let mut servers = vec![tokio::task::spawn_local(server.run(Rc::clone(&node)))];
    servers.extend(asked.map(|asked| tokio::task::spawn_local(asked.run(Rc::clone(&node)))));
    systemd::serves();
    tokio::task::spawn_local(systemd::show_life());
    let course = node.life.leaves().await;
    // The answer to who asked is written first.
    tokio::task::yield_now().await;
    let successor = match course {
        Course::Replaced { program, .. } => Some(program),
        _ => None,
    };
    if successor.is_none() {
        systemd::ends();
        node.wait_for_users().await;
        node.hand_over(What::InUse).await;
        node.devices_are_heard().await;
        node.names.end().await;
    }
    servers.iter().for_each(tokio::task::JoinHandle::abort);
    guarding.abort();
    end_handlers(&node).await;
    // No new client finds us; the status file goes with its service.
    for path in [&socket, &questions] {
        let _ = std::fs::remove_file(path);
    }
    status.end().await;
    history.flush();
    tracing::info!("rdbd has ended");
    Ok(match successor {
        Some(program) => End::Replaced {
            program,
            instance: node.instance,
        },
        None => End::Gone,
    })
}

/// What is done beside serving commands, from the time on when they are served.
fn look_after(node: &Rc<Node>, signals: Signals, reload: Reload) {
    tokio::task::spawn_local(keep::follow(Rc::clone(node)));
    if let Some(address) = reload.settings.http {
        tokio::task::spawn_local(http::serve(Rc::clone(node), address));
    }
    reload::follow(signals, reload, Rc::clone(node));
}

/// Nobody is left who would hear of their end, and another program would not know them as children of its own.
async fn end_handlers(node: &Node) {
    let handlers = node.handlers.clone();
    // What goes wrong is logged.
    let _ = threads::run_in_any_case("the end of handlers", move || handlers.end()).await;
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}
