//! The daemon as its clients see it: one instance a run directory, the control socket's manners, DRBD's refusals for
//! names, minors and addresses, and what is left when it goes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdb_control::{
    Client, ClientError, NetOptions, Op, ResourceOptions, SOCKET_NAME, STATUS_NAME, WaitTimes,
};

/// A daemon that ends with the test.
struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

fn command(run_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdbd"));
    command
        .args(["--frontend", "socket", "--node", "alice", "--run-dir"])
        .arg(run_dir)
        .env_remove("RDB_FRONTEND");
    command
}

impl Daemon {
    fn start() -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let child = command(dir.path()).stderr(Stdio::null()).spawn().unwrap();
        let daemon = Daemon { child, dir };
        let begun = Instant::now();
        while Client::connect(daemon.dir.path()).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "it does not answer"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    fn client(&self) -> Client {
        Client::connect(self.dir.path()).unwrap()
    }

    /// Sends lines as they are; the answers.
    fn talk(&self, lines: &[&str]) -> Vec<String> {
        let mut stream =
            BufReader::new(UnixStream::connect(self.dir.path().join(SOCKET_NAME)).unwrap());
        lines
            .iter()
            .map(|line| {
                stream
                    .get_mut()
                    .write_all(format!("{line}\n").as_bytes())
                    .unwrap();
                let mut answer = String::new();
                stream.read_line(&mut answer).unwrap();
                answer.trim_end().to_owned()
            })
            .collect()
    }

    fn terminate(&mut self) -> Option<i32> {
        let killed = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(killed.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
        }
    }
}

#[track_caller]
fn refused(result: Result<(), ClientError>) -> (i32, String) {
    match result {
        Err(ClientError::Refused(refusal)) => (refusal.code, refusal.info),
        other => panic!("{other:?}"),
    }
}

fn new_resource(name: &str) -> Op {
    Op::NewResource {
        resource: name.to_owned(),
        options: ResourceOptions::default(),
        handlers: rdb_control::HandlersShown::default(),
    }
}

fn new_minor(name: &str, volume: u16, minor: u32) -> Op {
    Op::NewMinor {
        resource: name.to_owned(),
        volume,
        minor,
        implicit: false,
        old_name: false,
    }
}

fn connect(name: &str, local: u16, peer: u16) -> Op {
    Op::Connect {
        resource: name.to_owned(),
        local: ([127, 0, 0, 1], local).into(),
        peer: ([127, 0, 0, 1], peer).into(),
        options: NetOptions::default(),
        discard_my_data: false,
        tentative: false,
    }
}

/// Goal: who waits for his turn on a resource that is taken down meanwhile is told just that. Method: `connect` to an address
/// that somebody has holds the resource for a second; `down` waits for that, and everything else for `down`.
#[test]
fn a_command_that_waited_is_told_that_the_resource_was_taken_down() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.run(new_resource("r0")).unwrap();
    client.run(new_minor("r0", 0, 0)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let down = || Op::Down {
        resource: "r0".to_owned(),
    };
    let resource = || "r0".to_owned();
    let force = false;
    let queued = [
        Op::Primary { minor: 0, force },
        Op::Secondary { minor: 0 },
        Op::Detach { minor: 0, force },
        Op::DelMinor { minor: 0 },
        Op::Disconnect {
            resource: resource(),
            force,
        },
        Op::NetOptions {
            resource: resource(),
            options: NetOptions::default(),
        },
        Op::DelResource {
            resource: resource(),
        },
        new_minor("r0", 1, 1),
        connect("r0", 7001, 7002),
    ];
    std::thread::scope(|scope| {
        let ask = |op: Op| {
            let mut client = daemon.client();
            let asked = scope.spawn(move || client.run(op));
            // They come in this order.
            std::thread::sleep(Duration::from_millis(50));
            asked
        };
        let holding = ask(connect("r0", port, 7002));
        let first = ask(down());
        let waiting: Vec<_> = queued.map(ask).into();
        let second = ask(down());
        assert!(matches!(holding.join(), Ok(Err(_))), "the address is taken");
        assert!(matches!(first.join(), Ok(Ok(()))));
        for asked in waiting {
            let (code, info) = refused(asked.join().unwrap());
            assert_eq!(
                (code, info.as_str()),
                (158, "the resource was taken down while the command waited")
            );
        }
        assert!(matches!(second.join(), Ok(Ok(()))), "it is down already");
    });
    assert!(client.status().unwrap().resources.is_empty());
}

#[test]
fn the_socket_is_for_its_owner_and_wants_a_hello_of_its_version() {
    let daemon = Daemon::start();
    let mode = std::fs::metadata(daemon.dir.path().join(SOCKET_NAME))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let answers = daemon.talk(&[
        "{\"id\":1,\"op\":\"status\"}",
        "{\"id\":2,\"op\":\"hello\",\"args\":{\"protocol\":99}}",
        "{\"id\":3,\"op\":\"status\"}",
        "{\"id\":4,\"op\":\"hello\",\"args\":{\"protocol\":1}}",
        "{\"id\":5,\"op\":\"explode\"}",
        "nonsense",
        "{\"id\":6,\"op\":\"primary\",\"args\":{\"minor\":0}}",
        "{\"id\":7,\"op\":\"status\"}",
    ]);
    assert_eq!(
        answers[0],
        "{\"id\":1,\"error\":\"say hello first, with protocol 1\"}"
    );
    assert!(answers[1].contains("\"protocol\":1"), "{}", answers[1]);
    assert_eq!(
        answers[2],
        "{\"id\":3,\"error\":\"say hello first, with protocol 1\"}"
    );
    assert!(answers[3].contains("\"node\":\"alice\""), "{}", answers[3]);
    assert_eq!(
        answers[4],
        "{\"id\":5,\"error\":\"unknown operation 'explode'\"}"
    );
    assert!(
        answers[5].starts_with("{\"id\":0,\"error\":\"the request is not a JSON object"),
        "{}",
        answers[5]
    );
    assert!(
        answers[6].contains("missing field `force`"),
        "{}",
        answers[6]
    );
    assert_eq!(
        answers[7],
        "{\"id\":7,\"ok\":{\"node\":\"alice\",\"resources\":[]}}"
    );
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let daemon = Daemon::start();
    let mut stream =
        BufReader::new(UnixStream::connect(daemon.dir.path().join(SOCKET_NAME)).unwrap());
    stream
        .get_mut()
        .write_all(&vec![b'x'; rdb_control::REQUEST_LINE_MAX])
        .unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    assert_eq!(
        answer,
        "{\"id\":0,\"error\":\"a request is a line of at most 262144 bytes\"}\n"
    );
    assert!(daemon.client().status().is_ok(), "others are served");
}

#[test]
fn a_run_directory_has_one_daemon() {
    let daemon = Daemon::start();
    let second = command(daemon.dir.path()).output().unwrap();
    // By which a command that has started it knows that the first one will answer.
    assert_eq!(second.status.code(), Some(rdb_control::EXIT_TAKEN.into()));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(
        text.contains(&format!("another rdbd (pid {})", daemon.child.id())),
        "{text}"
    );
    assert!(daemon.client().status().is_ok(), "the first goes on");
}

#[test]
fn idle_clients_lock_nobody_out() {
    let daemon = Daemon::start();
    let mut busy = daemon.client();
    let path = daemon.dir.path().join(SOCKET_NAME);
    let idle: Vec<UnixStream> = (0..300)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    for _ in 0..10 {
        daemon.client().status().expect("a new client gets in");
    }
    // Those that were idle the longest made room; the last ones are there.
    let mut gone = BufReader::new(&idle[0]);
    assert_eq!(gone.read_line(&mut String::new()).unwrap_or(0), 0);
    let mut last = BufReader::new(&idle[299]);
    (&idle[299]).write_all(b"nonsense\n").unwrap();
    let mut answer = String::new();
    last.read_line(&mut answer).unwrap();
    assert!(answer.contains("error"), "{answer}");
    // One that was pushed out connects again, and is answered.
    if busy.status().is_err() {
        busy = daemon.client();
        busy.status().unwrap();
    }
}

#[test]
fn a_run_directory_that_others_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, is_fine) in [
        (0o777, false),
        (0o1777, false),
        (0o770, false),
        (0o755, true),
    ] {
        let open = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let output = command(dir.path()).arg("--check").output().unwrap();
        assert_eq!(output.status.success(), is_fine, "{mode:o}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.contains("lets others write it"), !is_fine, "{text}");
    }
}

#[test]
fn names_and_minors_are_refused_as_drbd_does() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for name in ["", "a/b", "..", "all", "a b"] {
        assert_eq!(
            refused(client.run(new_resource(name))),
            (162, "invalid resource name".to_owned()),
            "{name}"
        );
    }
    client.run(new_resource("r0")).unwrap();
    client.run(new_resource("r0")).expect("once more is fine");
    client.run(new_resource("r1")).unwrap();
    client.run(new_minor("r0", 0, 5)).unwrap();
    client
        .run(new_minor("r0", 0, 5))
        .expect("once more is fine");
    let force = false;
    let primary = |minor| Op::Primary { minor, force };
    for (op, code, info) in [
        (new_minor("r9", 0, 1), 158, "unknown resource"),
        (
            new_minor("r1", 0, 5),
            162,
            "minor exists in different resource",
        ),
        (
            new_minor("r0", 1, 5),
            162,
            "minor exists as different volume",
        ),
        (new_minor("r0", 0, 6), 161, ""),
        (
            new_minor("r0", 1, 1 << 20),
            162,
            "requested minor out of range",
        ),
        (
            new_minor("r0", 65_535, 6),
            162,
            "requested volume id out of range",
        ),
        (primary(9), 127, "unknown minor"),
        (Op::GetGi { minor: 5 }, 138, "Device has no disk"),
        (
            Op::Disconnect {
                resource: "r0".to_owned(),
                force: false,
            },
            162,
            "unknown connection",
        ),
        (
            Op::DelResource {
                resource: "r0".to_owned(),
            },
            159,
            "",
        ),
        (Op::Shutdown, 159, ""),
    ] {
        assert_eq!(
            refused(client.run(op.clone())),
            (code, info.to_owned()),
            "{op:?}"
        );
    }
    let (code, _) = refused(client.run(primary(5)));
    assert_eq!(code, -2, "a volume without a disk");
    client
        .run(Op::Down {
            resource: "nosuch".to_owned(),
        })
        .expect("an unknown resource is down");
}

#[test]
fn an_address_serves_one_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for name in ["r0", "r1"] {
        client.run(new_resource(name)).unwrap();
    }
    client.run(connect("r0", 17_811, 17_812)).unwrap();
    for (op, code) in [
        (connect("r0", 17_811, 17_812), 102),
        (connect("r1", 17_811, 17_813), 102),
        (connect("r1", 17_814, 17_812), 103),
        (connect("r1", 17_815, 17_815), 162),
        (connect("r9", 17_816, 17_817), 158),
        (
            Op::DelResource {
                resource: "r0".to_owned(),
            },
            125,
        ),
    ] {
        assert_eq!(refused(client.run(op.clone())).0, code, "{op:?}");
    }
}

#[test]
fn a_wait_ends_by_time_and_when_nothing_will_come() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.run(new_resource("r0")).unwrap();
    client.run(new_minor("r0", 0, 0)).unwrap();
    let times = WaitTimes {
        wfc_s: 1,
        ..WaitTimes::default()
    };
    // StandAlone: at once, and not as if it had come.
    for op in [
        Op::WaitConnect { minor: 0, times },
        Op::WaitSync { minor: 0, times },
    ] {
        match client.wait(op) {
            Err(ClientError::Refused(refusal)) => {
                assert!(refusal.info.contains("r0 is StandAlone"), "{refusal}");
            }
            other => panic!("{other:?}"),
        }
    }
    let patient = WaitTimes {
        wait_after_sb: true,
        ..times
    };
    let begun = Instant::now();
    assert!(
        !client
            .wait(Op::WaitSync {
                minor: 0,
                times: patient
            })
            .unwrap()
    );
    assert!(begun.elapsed() >= Duration::from_millis(900));
}

#[test]
fn the_status_file_is_fresh_and_goes_with_the_daemon() {
    let mut daemon = Daemon::start();
    let path = daemon.dir.path().join(STATUS_NAME);
    let read = || std::fs::read_to_string(&path);
    assert!(
        read()
            .unwrap()
            .starts_with("version: 8.4.11 (api:1/proto:86-101)\nsrcversion: rdb ")
    );
    let mut client = daemon.client();
    client.run(new_resource("r0")).unwrap();
    client.run(new_minor("r0", 0, 3)).unwrap();
    // Where FUSE is not to be had, the file is made anew four times a second.
    let begun = Instant::now();
    while !read().unwrap().ends_with("\n\n 3: cs:Unconfigured\n") {
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", read());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(daemon.terminate(), Some(0));
    assert!(read().is_err(), "nobody serves it any more");
    assert!(!daemon.dir.path().join(SOCKET_NAME).exists());
}

#[test]
fn a_killed_daemon_lies_to_no_monitor_and_is_replaced() {
    let mut daemon = Daemon::start();
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert!(std::fs::read_to_string(daemon.dir.path().join(STATUS_NAME)).is_err());
    assert!(matches!(
        Client::connect(daemon.dir.path()),
        Err(ClientError::NoDaemon { .. })
    ));
    daemon.child = command(daemon.dir.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while Client::connect(daemon.dir.path()).is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it does not answer"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(std::fs::read_to_string(daemon.dir.path().join(STATUS_NAME)).is_ok());
}

#[test]
fn mistakes_in_settings_and_options_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("rdbd.toml");
    std::fs::write(&settings, "log-level = \"info\"\nfrontent = \"fuse\"\n").unwrap();
    let output = command(dir.path())
        .arg("--config")
        .arg(&settings)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains(&format!(
            "{}:2: unknown field `frontent`",
            settings.display()
        )),
        "{text}"
    );
    // The same mistakes are found by whoever asks beforehand, and nothing else happens.
    let run_dir = dir.path().join("run");
    for (words, code) in [
        (&["--check"][..], 0),
        (&["--check", "--config", "/none"], 1),
    ] {
        let output = command(&run_dir).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(!run_dir.join("rdbd.pid").exists());
    }
    std::fs::write(run_dir.join("rdbd.state"), "{\"format\":99}").unwrap();
    let output = command(&run_dir).arg("--check").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("has format 99; this rdbd reads format 1"),
        "{text}"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_rdbd"))
        .args(["--frontend", "floppy", "--run-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("unknown front end \"floppy\": choose auto, ublk, nbd, fuse or socket"),
        "{text}"
    );
}

#[test]
fn settings_that_are_no_file_are_said_once_and_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let latin = dir.path().join("latin");
    std::fs::write(&latin, b"# one\n# \xe4\n").unwrap();
    let none = dir.path().join("none");
    for (path, words) in [
        (&fifo, "it is a pipe (FIFO), not a regular file"),
        (&"/dev/zero".into(), "it is a character device"),
        (&latin, "latin:2: this is not valid UTF-8"),
        (&none, "No such file or directory"),
    ] {
        let output = command(&dir.path().join("run"))
            .args(["--check", "--config"])
            .arg(path)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(text.matches(words).count(), 1, "{text}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }
}

/// Whatever takes its place: the next daemon may be started without that.
#[test]
fn a_front_end_in_the_settings_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("rdbd.toml");
    for (name, code) in [("x", 1), ("socket", 0)] {
        std::fs::write(&settings, format!("frontend = \"{name}\"\n")).unwrap();
        let output = command(&dir.path().join("run"))
            .args(["--check", "--config"])
            .arg(&settings)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(
            text.contains("unknown front end \"x\""),
            code == 1,
            "{text}"
        );
    }
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("rdbd.toml");
    std::fs::write(&settings, "frontend = \"socket\"\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rdbd"))
        .args(["--check", "--run-dir"])
        .arg(dir.path().join("run"))
        .arg("--config")
        .arg(&settings)
        .env("RDB_FRONTEND", "")
        .env("RDB_NODE", "")
        .env("RDB_RUN_DIR", "")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Every place where these bytes stand in the memory that a daemon may write to, but for the stacks of its threads.
fn places_in_memory(pid: u32, needle: &[u8]) -> Vec<String> {
    use std::os::unix::fs::FileExt;

    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut places = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let range = fields
            .next()
            .and_then(|range| range.split_once('-'))
            .unwrap();
        let writable = fields.next().is_some_and(|flags| flags.starts_with("rw"));
        if !writable || line.contains("[stack") {
            continue;
        }
        let [start, end] =
            [range.0, range.1].map(|number| u64::from_str_radix(number, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        // Some mappings of devices cannot be read.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            let found = bytes.windows(needle.len()).filter(|part| *part == needle);
            places.extend(found.map(|_| line.to_owned()));
        }
    }
    places
}

#[test]
fn no_secret_stays_in_the_memory_of_a_daemon_that_does_not_need_it() {
    const SECRET: &str = "a-quite-remarkable-secret";
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.run(new_resource("r0")).unwrap();
    let options = NetOptions {
        cram_hmac_alg: Some("sha256".to_owned()),
        shared_secret: Some(SECRET.to_owned()),
        ..NetOptions::default()
    };
    let Op::Connect {
        resource,
        local,
        peer,
        discard_my_data,
        tentative,
        ..
    } = connect("r0", 7951, 7952)
    else {
        unreachable!("a connect")
    };
    let op = Op::Connect {
        resource,
        local,
        peer,
        options: options.clone(),
        discard_my_data,
        tentative,
    };
    client.run(op).unwrap();
    let resource = "r0".to_owned();
    client
        .run(Op::NetOptions {
            resource: resource.clone(),
            options,
        })
        .unwrap();
    drop(client);
    let pid = daemon.child.id();
    assert_ne!(places_in_memory(pid, SECRET.as_bytes()).len(), 0);
    let mut client = daemon.client();
    client.show().unwrap();
    client.run(Op::Down { resource }).unwrap();
    drop(client);
    let begun = Instant::now();
    loop {
        let places = places_in_memory(pid, SECRET.as_bytes());
        if places.is_empty() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{places:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Its check of the program is not done when another restart begins.
#[test]
fn a_restart_that_is_overtaken_by_another_one_is_told_so() {
    let daemon = Daemon::start();
    let run_dir = daemon.dir.path().to_owned();
    let (slow, asked) = (run_dir.join("slow"), run_dir.join("asked"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--check*) touch {}; sleep 20;; esac\nexec {} \"$@\"\n",
        asked.display(),
        env!("CARGO_BIN_EXE_rdbd")
    );
    std::fs::write(&slow, script).unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    let restart = |run_dir: &Path, program| {
        let force = false;
        Client::connect(run_dir)
            .unwrap()
            .run(Op::Restart { program, force })
    };
    let there = run_dir.clone();
    let overtaken = std::thread::spawn(move || restart(&there, Some(slow)));
    let begun = Instant::now();
    while !asked.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is checked");
        std::thread::sleep(Duration::from_millis(10));
    }
    let instance = || {
        let socket = run_dir.join(SOCKET_NAME).symlink_metadata();
        socket.map_or((0, 0, 0), |is| (is.ino(), is.ctime(), is.ctime_nsec()))
    };
    let before = instance();
    restart(&run_dir, None).unwrap();
    let error = overtaken.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "rdbd: it is being replaced already");
    // Until the new one serves, which makes a socket of its own, the old program watches, and would go on in its place when that
    // is ended. The answer to `restart` comes before all that.
    let is_replaced = || ![before, (0, 0, 0)].contains(&instance());
    let begun = Instant::now();
    while !is_replaced() || watchers(&run_dir) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it watches on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How many processes serve the run directory, or may come to do so, beside one.
fn watchers(run_dir: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let of_it = processes.filter(|entry| {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        let is_daemon = words
            .next()
            .is_some_and(|program| program.ends_with(b"rdbd"));
        is_daemon && words.any(|word| word == run_dir.as_os_str().as_encoded_bytes())
    });
    of_it.count().saturating_sub(1)
}
