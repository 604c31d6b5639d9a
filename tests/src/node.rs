//! One node: its daemon, its commands, its files.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::nbd::Client;
use crate::status::{self, Volume};
use crate::{programs, wait_until};

/// What a command said, and its exit code.
#[derive(Debug, Clone)]
pub struct Out {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The command as typed, for messages.
    pub typed: String,
}

impl Out {
    /// The output of a command that must have succeeded.
    ///
    /// # Errors
    /// When its exit code is not 0, with all it said.
    pub fn ok(self) -> Result<String> {
        if self.code != 0 {
            bail!(
                "{}: exit code {}\n{}{}",
                self.typed,
                self.code,
                self.stdout,
                self.stderr
            );
        }
        Ok(self.stdout)
    }

    /// The output of a command that must have failed with this code.
    ///
    /// # Errors
    /// When its exit code is another.
    pub fn fails_with(self, code: i32) -> Result<String> {
        if self.code != code {
            bail!(
                "{}: exit code {} instead of {code}\n{}{}",
                self.typed,
                self.code,
                self.stdout,
                self.stderr
            );
        }
        Ok(format!("{}{}", self.stdout, self.stderr))
    }
}

/// A node. Its daemon is killed when it is dropped.
#[derive(Debug)]
pub struct Node {
    /// Its name, as in the configuration.
    pub name: String,
    /// Run directory.
    pub run_dir: PathBuf,
    /// The configuration.
    pub conf: PathBuf,
    /// The network namespace it runs in.
    pub namespace: Option<String>,
    /// Which front end the daemon gets.
    pub frontend: String,
    /// The daemon's settings file; none for the usual one.
    pub settings: Option<PathBuf>,
    /// Words before the daemon's own, which change how it runs: `setpriv --reuid 7`.
    pub under: Vec<String>,
    daemon: Option<Child>,
    log: PathBuf,
}

impl Node {
    /// A node with its files below `directory`. Nothing runs yet.
    ///
    /// # Errors
    /// When the run directory cannot be made.
    pub fn new(directory: &Path, name: &str, conf: &Path) -> Result<Self> {
        let run_dir = directory.join(format!("run-{name}"));
        std::fs::create_dir_all(&run_dir)?;
        Ok(Self {
            name: name.to_owned(),
            log: directory.join(format!("{name}.log")),
            run_dir,
            conf: conf.to_owned(),
            namespace: None,
            frontend: "socket".to_owned(),
            settings: None,
            under: Vec::new(),
            daemon: None,
        })
    }

    /// One of our programs, run as this node; `name` chooses the personality of the commands'
    /// binary (`rdbadm`, `rdbsetup`, `rdbmeta`, `drbdadm`).
    ///
    /// # Errors
    /// When the programs are not built.
    pub fn command(&self, name: &str, seconds: u32) -> Result<Command> {
        let directory = programs::directory()?;
        let file = match name {
            "rdbd" | "rdbmon" => programs::ours(name)?,
            _ => directory.join("rdbadm"),
        };
        let mut command = match &self.namespace {
            Some(namespace) => {
                // Not `ip netns exec`: that makes a mount namespace too, and what a daemon mounts
                // in it nobody else sees.
                let mut command = Command::new(programs::tool("nsenter")?);
                command.arg(format!("--net=/run/netns/{namespace}"));
                command
            }
            None => Command::new("env"),
        };
        if seconds > 0 {
            command.args(["timeout", "-k", "5", &seconds.to_string()]);
        }
        if name == "rdbd" {
            command.args(&self.under);
        }
        if matches!(name, "rdbd" | "rdbadm" | "rdbmon") {
            command.arg(&file);
        } else {
            // The personality is the base name of the first argument.
            command
                .args(["bash", "-c", "exec -a \"$0\" \"$@\"", name])
                .arg(&file);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(directory).chain(std::env::split_paths(&path));
        command
            .env("PATH", std::env::join_paths(path)?)
            .env("RDB_NODE", &self.name)
            .env("RDB_RUN_DIR", &self.run_dir)
            .env("RDB_CONF", &self.conf)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command of ours, with an optional text on standard input.
    ///
    /// # Errors
    /// When it cannot be run; not when it fails.
    pub fn run(&self, name: &str, arguments: &[&str], input: Option<&str>) -> Result<Out> {
        let mut command = self.command(name, 120)?;
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            // A command that does not read its input to the end is no failure of ours.
            let _ = stdin.write_all(text.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Out {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            typed: format!("{}# {name} {}", self.name, arguments.join(" ")),
        })
    }

    /// `rdbadm` with these words.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn try_adm(&self, arguments: &[&str]) -> Result<Out> {
        self.run("rdbadm", arguments, None)
    }

    /// `rdbadm` with these words, which must succeed. Returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn adm(&self, arguments: &[&str]) -> Result<String> {
        self.try_adm(arguments)?.ok()
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it ends, or does not answer within twenty seconds; with its log.
    pub fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command("rdbd", 0)?;
        command.args(["--frontend", &self.frontend]);
        if let Some(settings) = &self.settings {
            command.arg("--config").arg(settings);
        }
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("cannot start rdbd")?;
        let started = wait_until("rdbd to answer", Duration::from_secs(20), || {
            if let Some(status) = child.try_wait()? {
                bail!("it ended: {status}");
            }
            Ok(self.answers())
        });
        self.daemon = Some(child);
        started.with_context(|| format!("log of {}:\n{}", self.name, self.log_tail(30)))
    }

    /// Starts a daemon that is expected to end at once. One that serves is ended after two seconds, with exit code 124.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn try_start(&self) -> Result<Out> {
        let mut command = self.command("rdbd", 2)?;
        command.args(["--frontend", &self.frontend]);
        if let Some(settings) = &self.settings {
            command.arg("--config").arg(settings);
        }
        let output = command.output()?;
        Ok(Out {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            typed: format!("{}# rdbd", self.name),
        })
    }

    /// Cuts the daemon's power: SIGKILL.
    ///
    /// # Errors
    /// When it runs no more.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        let mut child = self.daemon.take().context("no daemon runs")?;
        if let Some(status) = child.try_wait()? {
            bail!(
                "rdbd of {} had ended: {status}\n{}",
                self.name,
                self.log_tail(30)
            );
        }
        child.kill()?;
        Ok(child.wait()?)
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it does not end within 20 seconds.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let mut child = self.daemon.take().context("no daemon runs")?;
        Command::new("kill").arg(child.id().to_string()).status()?;
        let mut status = None;
        let ended = wait_until("rdbd to end", Duration::from_secs(20), || {
            status = child.try_wait()?;
            Ok(status.is_some())
        });
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        ended.with_context(|| self.log_tail(30))?;
        status.context("it ended")
    }

    /// The daemon's process id, if this value started it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// All processes that serve the run directory, or may come to do so: while the daemon is replaced another one watches.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let mark = format!("RDB_RUN_DIR={}", self.run_dir.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(pid) = name.and_then(|name| name.parse().ok()) else {
                continue;
            };
            let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let program = words.split(|byte| *byte == 0).next().unwrap_or_default();
            let environment = std::fs::read(path.join("environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            if program.ends_with(b"rdbd") && variables.any(|v| v == mark.as_bytes()) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Fails unless the daemon still runs and its log is free of panics.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn is_well(&mut self) -> Result<()> {
        if let Some(child) = &mut self.daemon
            && let Some(status) = child.try_wait()?
        {
            bail!(
                "rdbd of {} ended: {status}\n{}",
                self.name,
                self.log_tail(40)
            );
        }
        if self.log().contains("panicked") {
            bail!("rdbd of {} panicked:\n{}", self.name, self.log_tail(60));
        }
        Ok(())
    }

    /// All that the daemon logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// How often the log says this.
    #[must_use]
    pub fn logged(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// The numbers behind `will sync ` in the log: KiB of each resync that began.
    #[must_use]
    pub fn resyncs_kib(&self) -> Vec<u64> {
        self.log()
            .split("(will sync ")
            .skip(1)
            .filter_map(|rest| rest.split(' ').next()?.parse().ok())
            .collect()
    }

    /// The status file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn status_text(&self) -> Result<String> {
        let file = self.run_dir.join("status");
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    /// All volumes of the status file.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        status::parse(&self.status_text()?)
    }

    /// One volume of the status file.
    ///
    /// # Errors
    /// When it is not there.
    pub fn volume(&self, minor: u32) -> Result<Volume> {
        let volumes = self.volumes()?;
        let found = volumes.into_iter().find(|volume| volume.minor == minor);
        found.with_context(|| format!("no minor {minor} in the status of {}", self.name))
    }

    /// Waits until volume 0 is as wanted.
    ///
    /// # Errors
    /// After `seconds`, with the status file and the end of the log.
    pub fn await_volume(
        &self,
        what: &str,
        seconds: u64,
        is: impl Fn(&Volume) -> bool,
    ) -> Result<Volume> {
        self.await_minor(0, what, seconds, is)
    }

    /// Waits until a volume is as wanted.
    ///
    /// # Errors
    /// After `seconds`, with the status file and the end of the log.
    pub fn await_minor(
        &self,
        minor: u32,
        what: &str,
        seconds: u64,
        is: impl Fn(&Volume) -> bool,
    ) -> Result<Volume> {
        let mut found = None;
        wait_until(
            &format!("{what} on {}", self.name),
            Duration::from_secs(seconds),
            || {
                let volume = self.volume(minor)?;
                let yes = is(&volume);
                found = Some(volume);
                Ok(yes)
            },
        )
        .with_context(|| {
            let status = self.status_text().unwrap_or_default();
            format!(
                "status of {}:\n{status}\nlog:\n{}",
                self.name,
                self.log_tail(40)
            )
        })?;
        found.context("a volume was found")
    }

    /// The NBD socket of `r0`.
    #[must_use]
    pub fn nbd_socket(&self) -> PathBuf {
        self.run_dir.join("nbd/r0.sock")
    }

    /// The NBD address of a volume of `r0`, as clients take it.
    #[must_use]
    pub fn nbd_uri(&self, volume: usize) -> String {
        format!(
            "nbd+unix:///r0/{volume}?socket={}",
            self.nbd_socket().display()
        )
    }

    /// Connects to a volume of `r0`.
    ///
    /// # Errors
    /// When the node is not primary, for example.
    pub fn nbd(&self, volume: usize) -> Result<Client> {
        Client::connect(&self.nbd_socket(), &format!("r0/{volume}"))
    }

    /// Whether the daemon answers on its control socket. That takes connections as soon as it has its name, long before
    /// the status file is there and what ran before is taken over: only an answer says that.
    pub fn answers(&self) -> bool {
        let hello = serde_json::json!({"op": "hello", "args": {"protocol": 1}});
        self.control(&hello).is_ok()
    }

    /// The daemon's answer to one operation on the control socket.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn control(&self, op: &serde_json::Value) -> Result<serde_json::Value> {
        let stream = UnixStream::connect(self.run_dir.join("control.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut answer = serde_json::Value::Null;
        let hello = serde_json::json!({"op": "hello", "args": {"protocol": 1}});
        for (id, op) in [&hello, op].into_iter().enumerate() {
            let mut request = op.clone();
            request["id"] = id.into();
            writeln!(&stream, "{request}")?;
            let mut line = String::new();
            reader.read_line(&mut line)?;
            answer = serde_json::from_str(&line).with_context(|| format!("answer {line:?}"))?;
        }
        match answer.get("ok") {
            Some(value) => Ok(value.clone()),
            None => bail!("{op}: {answer}"),
        }
    }

    /// The block device of a minor, while the node is primary and its front end makes one.
    ///
    /// # Errors
    /// When there is none.
    pub fn device(&self, minor: u32) -> Result<PathBuf> {
        let status = self.control(&serde_json::json!({"op": "status"}))?;
        let volumes = status["resources"].as_array().into_iter().flatten();
        volumes
            .flat_map(|resource| resource["volumes"].as_array().into_iter().flatten())
            .find(|volume| volume["minor"] == minor)
            .and_then(|volume| Some(PathBuf::from(volume["device"].as_str()?)))
            .with_context(|| format!("minor {minor} of {} has no device: {status}", self.name))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            // Who watches a daemon that has just been replaced would go on in its place.
            for other in self.processes().unwrap_or_default() {
                let _ = Command::new("kill")
                    .args(["-9", &other.to_string()])
                    .status();
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
