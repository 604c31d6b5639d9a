//! The daemon: control plane, status file, and a thread of the data plane for each resource.

#![deny(unsafe_code)]

mod caller;
mod check;
mod convert;
mod course;
mod down;
mod fallback;
mod figures;
mod guard;
mod handover;
mod holders;
mod keep;
mod late_disk;
mod log;
mod man;
mod node;
mod ops;
mod primary;
mod proc_drbd;
mod questions;
mod reasons;
mod registry;
mod reload;
mod rotate;
mod run_dir;
mod server;
mod sessions;
mod settings;
mod signals;
mod stopped;
mod streams;
mod systemd;
mod takeover;
mod target;
mod wait;

use std::cell::RefCell;
use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rdb_frontend::fuse::left::LeftSessions;
use rdb_frontend::links::DeviceLinks;
use tokio::task::LocalSet;

use crate::course::Course;
use crate::guard::StatusFile;
use crate::handover::What;
use crate::node::Node;
use crate::reload::{Reload, Serving};
use crate::run_dir::{Held, LOCK_FD};
use crate::server::{Access, Server};
use crate::settings::{DEFAULT_PATH, DEFAULT_RUN_DIR, Settings};
use crate::signals::Signals;

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
    fallback::begin();
    let args = match Args::try_parse() {
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
            let _ = writeln!(std::io::stderr(), "rdbd: {error:#}");
            if let Some(starter) = &mut starter {
                starter.tell(&format!("{error:#}"));
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
    let frontend = reload::frontend(args.frontend.as_deref(), &settings)
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
    signals::block().context("signals")?;
    if let Some(watch) = fallback::asked_to_watch() {
        return fallback::watch(&watch, &run_dir);
    }
    let held = Rc::new(RefCell::new(Held::take(&run_dir)?));
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
        .then(|| DeviceLinks::new("/dev"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
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
            fallback::go_back(&why, Some((held.borrow().pid_file(), &left_sessions)));
            Err(anyhow::Error::msg(why))
        }
        End::Replaced { program, instance } => {
            let held = held.borrow();
            Err(fallback::become_program(
                &program,
                held.pid_file(),
                &left_sessions,
                instance,
            ))
        }
    }
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
    // Without it the node serves as ever, and root can ask.
    let asked = Server::bind(&run_dir, Access::Ask(reload.settings.askers()))
        .map_err(|error| tracing::error!("socket for questions {}: {error}", questions.display()))
        .ok();
    let (node, devices, stopped) = Node::new(
        name,
        run_dir,
        serving,
        reload.settings.core_dumps.unwrap_or_default().runtime(),
        left_sessions,
    );
    let node = Rc::new(node);
    let status = StatusFile::default();
    status.serve(&node).await;
    tracing::info!(
        "rdbd {} on node {}, run directory {}, front end {}",
        env!("CARGO_PKG_VERSION"),
        node.name,
        node.run_dir.display(),
        serving.frontend,
    );
    let (registry, changed) = (node.registry.clone(), node.changed.clone());
    tokio::task::spawn_local(node::follow_devices(devices, registry, changed, links));
    let guard = guard::follow(Rc::clone(&node), held, status.clone());
    let guarding = tokio::task::spawn_local(guard);
    node.clear_leftovers().await;
    // Clients wait until what ran before is there again.
    let failed = node.take_over().await;
    if let Some(why) = failed.filter(|_| fallback::is_open()) {
        tracing::error!("{why}: the program before this one takes everything back");
        node.hand_back().await;
        guarding.abort();
        let _ = std::fs::remove_file(&socket);
        status.end().await;
        return Ok(End::Back(why));
    }
    fallback::serves();
    tokio::task::spawn_local(keep::follow(Rc::clone(&node)));
    tokio::task::spawn_local(stopped::follow(Rc::clone(&node), stopped));
    signals::follow(signals, reload, Rc::clone(&node));
    let mut servers = vec![tokio::task::spawn_local(server.run(Rc::clone(&node)))];
    servers.extend(asked.map(|asked| tokio::task::spawn_local(asked.run(Rc::clone(&node)))));
    let course = node.leaves().await;
    // The answer to who asked is written first.
    tokio::task::yield_now().await;
    let successor = match course {
        Course::Replaced { program, .. } => Some(program),
        _ => None,
    };
    if successor.is_none() {
        node.wait_for_users().await;
        node.hand_over(What::InUse).await;
    }
    servers.iter().for_each(tokio::task::JoinHandle::abort);
    guarding.abort();
    // No new client finds us; the status file goes with its service.
    for path in [&socket, &questions] {
        let _ = std::fs::remove_file(path);
    }
    status.end().await;
    tracing::info!("rdbd has ended");
    Ok(match successor {
        Some(program) => End::Replaced {
            program,
            instance: node.instance,
        },
        None => End::Gone,
    })
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
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::time::Duration;

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

    /// The program that the one before has left open with this number.
    pub(super) fn adopt_program(fd: RawFd) -> Option<File> {
        let open = std::fs::metadata(format!("/proc/self/fd/{fd}")).ok()?;
        if fd <= 2 || !open.is_file() || open.permissions().mode() & 0o111 == 0 {
            return None;
        }
        // SAFETY: the descriptor is open, as was just seen. This is called before anything of this program opens a file
        // that it keeps, so it belongs to nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        set_descriptor_flags(&file, libc::FD_CLOEXEC).ok()?;
        Some(file)
    }

    /// The process that has started this one.
    pub(super) fn parent() -> u32 {
        // SAFETY: the call takes nothing and cannot fail.
        unsafe { libc::getppid() }.unsigned_abs()
    }

    /// A handle of a process.
    pub(super) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
        // SAFETY: the call takes integers; the result is checked before it becomes an owned descriptor.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match RawFd::try_from(fd) {
            // SAFETY: it was just made and belongs to nobody else.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether a process ends within this time.
    pub(super) fn has_ended(process: &OwnedFd, within: Duration) -> io::Result<bool> {
        let mut polled = libc::pollfd {
            fd: process.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let milliseconds = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one initialised entry that outlives the call.
        match unsafe { libc::poll(&raw mut polled, 1, milliseconds) } {
            -1 => Err(io::Error::last_os_error()),
            count => Ok(count > 0),
        }
    }

    /// Sends a process a signal.
    pub(super) fn send(process: &OwnedFd, signal: i32) -> io::Result<()> {
        // SAFETY: no information is passed with the signal; the rest are integers.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                process.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Goes on in another process, which is no child of whoever has started this one; true in the one that is left.
    pub(super) fn fork_away() -> io::Result<bool> {
        // SAFETY: this process has one thread, as the caller has not started any yet, so the new one may do anything.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(pid != 0),
        }
    }

    /// Nothing more goes to standard output but what goes to standard error.
    pub(super) fn stdout_to_stderr() -> io::Result<()> {
        // SAFETY: the call takes integers.
        match unsafe { libc::dup2(2, 1) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Leaves a connection open for the program that this process becomes.
    pub(super) fn hand_on_connection(connection: &OwnedFd) -> io::Result<()> {
        set_descriptor_flags(connection, 0)
    }

    /// The connection to the kernel's FUSE client that somebody has left open with this number for this program.
    pub(super) fn adopt_connection(fd: RawFd) -> Option<OwnedFd> {
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        if fd <= 2 || target != Path::new("/dev/fuse") {
            return None;
        }
        // SAFETY: the descriptor is open, as was just seen. This is called before anything of this program opens that
        // device, so it belongs to nobody else.
        let connection = unsafe { OwnedFd::from_raw_fd(fd) };
        set_descriptor_flags(&connection, libc::FD_CLOEXEC).ok()?;
        Some(connection)
    }

    /// Sends a message with a descriptor, if there is one.
    pub(super) fn send_with(
        socket: &std::os::unix::net::UnixDatagram,
        text: &[u8],
        descriptor: Option<std::os::fd::BorrowedFd<'_>>,
    ) -> io::Result<()> {
        // Room for one descriptor, aligned as the header is.
        let mut control = [0_u64; 4];
        let mut part = libc::iovec {
            iov_base: text.as_ptr().cast_mut().cast(),
            iov_len: text.len(),
        };
        // SAFETY: all zeroes is a valid message without anything.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if let Some(descriptor) = descriptor {
            message.msg_control = control.as_mut_ptr().cast();
            // SAFETY: these only compute; the space for one descriptor fits the array above. The header that is written is
            // inside of it, as `msg_controllen` says.
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(4) as _;
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(4) as _;
                libc::CMSG_DATA(header)
                    .cast::<libc::c_int>()
                    .write_unaligned(descriptor.as_raw_fd());
            }
        }
        // SAFETY: the socket is open; the message points to memory that outlives the call and is only read.
        let sent =
            unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn set_descriptor_flags(file: &impl AsRawFd, flags: libc::c_int) -> io::Result<()> {
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
