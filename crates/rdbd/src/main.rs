//! The daemon: control plane, status file, and a thread of the data plane for each resource.

#![deny(unsafe_code)]

mod convert;
mod handover;
mod keep;
mod log;
mod man;
mod node;
mod ops;
mod proc_drbd;
mod registry;
mod server;
mod settings;
mod stopped;
mod takeover;
mod target;
mod wait;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rdb_frontend::links::DeviceLinks;
use rdb_frontend::{Frontend, status_file};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::handover::What;
use crate::node::Node;
use crate::server::Server;
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
    check_run_dir(&run_dir)?;
    if args.check {
        keep::read(&run_dir)?;
        return Ok(());
    }
    let lock = lock(&run_dir)?;
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
    let busy_poll_us = settings.busy_poll_us.unwrap_or(DEFAULT_BUSY_POLL_US);
    let busy_poll = Duration::from_micros(busy_poll_us.into());
    let connections = settings.nbd_connections.unwrap_or_default().get();
    let served = local.run_until(serve(
        name,
        run_dir,
        frontend,
        busy_poll,
        connections,
        core_dumps,
        links,
    ));
    let successor = runtime.block_on(served)?;
    let Some(program) = successor else {
        return Ok(());
    };
    drop(local);
    // Whatever still waits on another thread ends with the program.
    runtime.shutdown_background();
    drop(log);
    Err(become_successor(&program, &lock))
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
    run_dir: PathBuf,
    frontend: Frontend,
    busy_poll: Duration,
    nbd_connections: u32,
    core_dumps: rdb_runtime::CoreDumps,
    links: Option<DeviceLinks>,
) -> Result<Option<PathBuf>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let socket = run_dir.join(rdb_control::SOCKET_NAME);
    let server =
        Server::bind(&run_dir).with_context(|| format!("control socket {}", socket.display()))?;
    let (node, devices, stopped) = Node::new(
        name,
        run_dir,
        frontend,
        busy_poll,
        nbd_connections,
        core_dumps,
    );
    let node = Rc::new(node);
    let registry = node.registry.clone();
    let status_path = node.run_dir.join(rdb_control::STATUS_NAME);
    let content = move || node::status_text(&registry);
    let served =
        tokio::task::spawn_blocking(move || status_file::serve(&status_path, content)).await?;
    let status = served
        .map_err(|error| tracing::error!("no status file: {error}"))
        .ok();
    tracing::info!(
        "rdbd {} on node {}, run directory {}, front end {}",
        env!("CARGO_PKG_VERSION"),
        node.name,
        node.run_dir.display(),
        node.frontend,
    );
    let (registry, changed) = (node.registry.clone(), node.changed.clone());
    tokio::task::spawn_local(node::follow_devices(devices, registry, changed, links));
    // Clients wait until what ran before is there again.
    node.take_over().await;
    tokio::task::spawn_local(keep::follow(Rc::clone(&node)));
    tokio::task::spawn_local(stopped::follow(Rc::clone(&node), stopped));
    let serving = tokio::task::spawn_local(server.run(Rc::clone(&node)));
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
    serving.abort();
    // No new client finds us; the status file goes with its service.
    let _ = std::fs::remove_file(&socket);
    tokio::task::spawn_blocking(move || drop(status)).await?;
    tracing::info!("rdbd has ended");
    Ok(successor)
}

/// Whoever may write the run directory could put links and sockets of his own in the place of ours.
fn check_run_dir(run_dir: &Path) -> Result<()> {
    let found = std::fs::metadata(run_dir)
        .with_context(|| format!("run directory {}", run_dir.display()))?;
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if owner != 0 && owner != session::user() {
        bail!(
            "run directory {}: it belongs to user {owner}, who could replace the files in it; it must be ours or root's",
            run_dir.display()
        );
    }
    if mode & 0o022 != 0 {
        bail!(
            "run directory {}: its mode {mode:04o} lets others write it; take that away (chmod go-w)",
            run_dir.display()
        );
    }
    Ok(())
}

/// The number of the descriptor by which the program before has handed its lock on.
const LOCK_FD: &str = "RDB_LOCK_FD";

/// Holds the run directory for this process; the system lets go of it when the process ends, however that happens.
fn lock(run_dir: &Path) -> Result<File> {
    let path = run_dir.join("rdbd.pid");
    let handed = std::env::var(LOCK_FD).ok().and_then(|fd| fd.parse().ok());
    if let Some(file) = handed.and_then(|fd| session::adopt(fd, &path)) {
        return Ok(file);
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NOFOLLOW)
        .mode(0o644)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            bail!(
                "another rdbd (pid {}) serves {}",
                pid.trim(),
                run_dir.display()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| path.display().to_string());
        }
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
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
