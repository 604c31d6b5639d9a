//! What the daemon tells systemd: when it serves, that it is alive, and that it ends.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A daemon that is told to end with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// The next thing that is told, without what is kept.
fn told(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    loop {
        let size = socket.recv(&mut bytes).expect("something is told");
        let text = String::from_utf8_lossy(&bytes[..size]).into_owned();
        if !text.starts_with("FDSTORE") {
            return text;
        }
    }
}

#[test]
fn systemd_is_told_that_the_daemon_serves_lives_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let run_dir = dir.path().join("run");
    let child = Command::new(env!("CARGO_BIN_EXE_rdbd"))
        .args(["--frontend", "socket", "--node", "alice", "--run-dir"])
        .arg(&run_dir)
        .env_remove("RDB_FRONTEND")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000")
        // That of another process: who takes over is one.
        .env("WATCHDOG_PID", "1")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let daemon = Daemon(child);
    assert!(told(&socket).starts_with("READY=1\n"));
    // It serves when it says so.
    rdb_control::Client::connect(&run_dir).expect("it serves");
    for _ in 0..5 {
        assert_eq!(told(&socket), "WATCHDOG=1");
    }
    let killed = Command::new("kill").arg(daemon.0.id().to_string()).status();
    assert!(killed.unwrap().success());
    while !told(&socket).starts_with("STOPPING=1\n") {}
}
