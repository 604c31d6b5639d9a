//! A daemon that ends with the test.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdb_control::Client;

pub(crate) struct Daemon {
    pub(crate) child: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    pub(crate) fn start(more: &[&str]) -> Daemon {
        Daemon::start_by(&["env"], more)
    }

    /// `by`: a program that becomes the one that follows.
    pub(crate) fn start_by(by: &[&str], more: &[&str]) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rdbd.toml"), "log-level = \"info\"\n").unwrap();
        let run_dir = dir.path().join("run");
        std::fs::create_dir(&run_dir).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.path().join("log"))
            .unwrap();
        let child = Command::new(by[0])
            .args(&by[1..])
            .arg(env!("CARGO_BIN_EXE_rdbd"))
            .args(["--frontend", "socket", "--node", "alice", "--run-dir"])
            .arg(&run_dir)
            .arg("--config")
            .arg(dir.path().join("rdbd.toml"))
            .args(more)
            .env_remove("RDB_FRONTEND")
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Daemon { child, dir };
        within("it answers", || Client::connect(&run_dir).is_ok());
        daemon
    }

    /// A file of it: `rdbd.toml`, `log`, or its run directory, `run`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn within(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
