//! The daemon: control plane, status file, and a thread of the data plane for each resource.

#![deny(unsafe_code)]

mod check;
mod convert;
mod figures;
mod guard;
mod handover;
mod holders;
mod keep;
mod log;
mod man;
mod node;
mod ops;
mod proc_drbd;
mod questions;
mod reasons;
mod registry;
mod run_dir;
mod server;
mod settings;
mod stopped;
mod takeover;
mod target;
mod wait;

use std::cell::RefCell;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rdb_frontend::Frontend;
use rdb_frontend::links::DeviceLinks;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::guard::StatusFile;
use crate::handover::What;
use crate::node::Node;
use crate::run_dir::{Held, LOCK_FD};
use crate::server::{Access, Server};
use crate::settings::{DEFAULT_BUSY_POLL_US, DEFAULT_PATH, DEFAULT_RUN_DIR, Settings};

// (Cargo gives a feature to all who are built together: better no daemon than one with bugs on purpose.)
const _: () = assert!(
    !rdb_engine::PLANTED_BUGS,
    "the feature planted-bugs is for the simulator alone"
);

/// Secrets are among what is freed.
#[global_allocator]
static ALLOCATOR: rdb_runtime::WipingAllocator = rdb_runtime::WipingAllocator;

/// Serves replicated block devices. What it serves it is told by rdbadm or rdbsetup.
#[derive(Debug, Parser)]
#[command(name = "rdbd", version)]
struct Args {
    /// Settings file [default: /etc/rdb/rdbd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How devices are served: auto, ublk, nbd, fuse or socket
    #[arg(long, env = "RDB_FRONTEND", value_name = "NAME")]
    frontend: Option<String>,
    /// Directory of the control socket and the status file
    #[arg(long, env = "RDB_RUN_DIR", value_name = "DIR", default_value = DEFAULT_RUN_DIR)]
    run_dir: PathBuf,
    /// This node's name [default: the host name]
    #[arg(long, env = "RDB_NODE", value_name = "NAME")]
    node: Option<String>,
    /// Lead a session of its own: for whoever starts the daemon and goes
    #[arg(long)]
    background: bool,
    /// See whether a daemon with these options could run here, say what is wrong, and do nothing else
    #[arg(long)]
    check: bool,
    /// Write the manual page into a directory and do nothing else
    #[arg(long, value_name = "DIR", hide = true)]
    generate_man: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do about a closed standard error.
            let _ = writeln!(std::io::stderr(), "rdbd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    if let Some(directory) = args.generate_man {
        return man::write(&directory).with_context(|| directory.display().to_string());
    }
    let settings = Settings::load(args.config.as_deref())?;
    let frontend = args
        .frontend
        .as_deref()
        .or(settings.frontend.as_deref())
        .unwrap_or("auto");
    let frontend = Frontend::from_name(frontend)
        .and_then(Frontend::settle)
        .with_context(|| format!("frontend (from --frontend, RDB_FRONTEND or {DEFAULT_PATH})"))?;
    let Some(name) = args.node.or_else(host_name) else {
        bail!("can not find out this node's name; use --node");
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&args.run_dir)
        .with_context(|| format!("run directory {}", args.run_dir.display()))?;
    // Device nodes are looked up from other working directories.
    let run_dir = std::fs::canonicalize(&args.run_dir)
        .with_context(|| format!("run directory {}", args.run_dir.display()))?;
    run_dir::check(&run_dir)?;
    if args.check {
        settings.askers().group_id()?;
        return check::run(&run_dir, frontend);
    }
    let held = Rc::new(RefCell::new(Held::take(&run_dir)?));
    if args.background {
        session::lead();
    }
    let level = settings.log_level.unwrap_or(settings::LogLevel::Info);
    let log = log::Log::start(level.tracing()).context("starting the log")?;
    let core_dumps = settings.core_dumps.unwrap_or_default().runtime();
    for warning in rdb_runtime::harden_process(core_dumps) {
        tracing::warn!("{warning}");
    }
    let is_default_dir = run_dir == Path::new(DEFAULT_RUN_DIR);
    let links = settings
        .device_links
        .unwrap_or(is_default_dir)
        .then(|| DeviceLinks::new("/dev"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    let served = local.run_until(serve(name, frontend, settings, links, Rc::clone(&held)));
    let successor = runtime.block_on(served)?;
    let Some(program) = successor else {
        held.borrow().leave();
        return Ok(());
    };
    drop(local);
    // Whatever still waits on another thread ends with the program.
    runtime.shutdown_background();
    drop(log);
    Err(become_successor(&program, held.borrow().pid_file()))
}

/// Goes on as another program, in this process, with the lock; comes back with the reason if that is impossible.
fn become_successor(program: &Path, lock: &File) -> anyhow::Error {
    if let Err(error) = session::hand_on(lock) {
        return anyhow::Error::new(error).context("handing the lock on");
    }
    let start = |program: &Path| {
        std::process::Command::new(program)
            .args(handover::arguments())
            .env(LOCK_FD, lock.as_raw_fd().to_string())
            .exec()
    };
    let error = start(program);
    // The old program is better than none: devices wait for a server.
    let _ = writeln!(
        std::io::stderr(),
        "rdbd: {}: {error}; going on with the old program",
        program.display()
    );
    let error = start(Path::new("/proc/self/exe"));
    anyhow::Error::new(error).context("starting again")
}

async fn serve(
    name: String,
    frontend: Frontend,
    settings: Settings,
    links: Option<DeviceLinks>,
    held: Rc<RefCell<Held>>,
) -> Result<Option<PathBuf>> {
    let run_dir = held.borrow().path().to_owned();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let socket = run_dir.join(rdb_control::SOCKET_NAME);
    let server = Server::bind(&run_dir, Access::Administer)
        .with_context(|| format!("control socket {}", socket.display()))?;
    let questions = run_dir.join(rdb_control::QUESTIONS_NAME);
    // Without it the node serves as ever, and root can ask.
    let asked = Server::bind(&run_dir, Access::Ask(settings.askers()))
        .map_err(|error| tracing::error!("socket for questions {}: {error}", questions.display()))
        .ok();
    let busy_poll_us = settings.busy_poll_us.unwrap_or(DEFAULT_BUSY_POLL_US);
    let (node, devices, stopped) = Node::new(
        name,
        run_dir,
        frontend,
        Duration::from_micros(busy_poll_us.into()),
        settings.nbd_connections.unwrap_or_default().get(),
        settings.core_dumps.unwrap_or_default().runtime(),
    );
    let node = Rc::new(node);
    let status = StatusFile::default();
    status.serve(&node).await;
    tracing::info!(
        "rdbd {} on node {}, run directory {}, front end {}",
        env!("CARGO_PKG_VERSION"),
        node.name,
        node.run_dir.display(),
        node.frontend,
    );
    let (registry, changed) = (node.registry.clone(), node.changed.clone());
    tokio::task::spawn_local(node::follow_devices(devices, registry, changed, links));
    let guard = guard::follow(Rc::clone(&node), held, status.clone());
    let guarding = tokio::task::spawn_local(guard);
    // Clients wait until what ran before is there again.
    node.take_over().await;
    tokio::task::spawn_local(keep::follow(Rc::clone(&node)));
    tokio::task::spawn_local(stopped::follow(Rc::clone(&node), stopped));
    let mut serving = vec![tokio::task::spawn_local(server.run(Rc::clone(&node)))];
    serving.extend(asked.map(|asked| tokio::task::spawn_local(asked.run(Rc::clone(&node)))));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("terminated: going down"),
        _ = interrupt.recv() => tracing::info!("interrupted: going down"),
        () = node.end.notified() => {
            // The answer to who asked is written first.
            tokio::task::yield_now().await;
            tracing::info!("going down as asked");
        }
    }
    let successor = node.successor.borrow().clone();
    if successor.is_none() {
        node.hand_over(What::InUse).await;
    }
    serving.iter().for_each(tokio::task::JoinHandle::abort);
    guarding.abort();
    // No new client finds us; the status file goes with its service.
    for path in [&socket, &questions] {
        let _ = std::fs::remove_file(path);
    }
    status.end().await;
    tracing::info!("rdbd has ended");
    Ok(successor)
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// What the standard library has no functions for.
#[allow(unsafe_code)]
mod session {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, RawFd};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    /// Leaves a file open for the program that this process becomes.
    pub(super) fn hand_on(file: &File) -> io::Result<()> {
        set_descriptor_flags(file, 0)
    }

    /// The file at `path`, if the program that this process was before has left it open with this number.
    pub(super) fn adopt(fd: RawFd, path: &Path) -> Option<File> {
        let open = std::fs::metadata(format!("/proc/self/fd/{fd}")).ok()?;
        let wanted = std::fs::metadata(path).ok()?;
        if fd <= 2 || (open.dev(), open.ino()) != (wanted.dev(), wanted.ino()) {
            return None;
        }
        // SAFETY: the descriptor is open, as was just seen, and nothing of this program has opened that file yet: it
        // belongs to nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        set_descriptor_flags(&file, libc::FD_CLOEXEC).ok()?;
        Some(file)
    }

    fn set_descriptor_flags(file: &File, flags: libc::c_int) -> io::Result<()> {
        // SAFETY: the call takes integers; the descriptor is open.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, flags) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Who this process acts as.
    pub(super) fn user() -> u32 {
        // SAFETY: the call takes nothing and cannot fail.
        unsafe { libc::geteuid() }
    }

    /// Makes this process the leader of a new session without a terminal. One that leads a group already stays as it
    /// is.
    pub(super) fn lead() {
        // SAFETY: the call takes nothing and touches no memory.
        unsafe { libc::setsid() };
    }
}
