//! drbd-utils' own `drbdadm` beside ours: the commands that print what is configured, and what would be done, over every file of
//! `tests/corpus`, byte for byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rdb_tests::programs;
use rdb_tests::scratch::Scratch;

/// drbdadm of DRBD 8.4, as drbd-utils has it beside that of 9.
const DRBDADM: &str = "/lib/drbd/drbdadm-84";

/// What it calls.
const DRBDSETUP: &str = "/lib/drbd/drbdsetup-84";

/// The commands that every file is tried with; `RES` is its first resource.
const PRINTED: &[&str] = &[
    "-d dump",
    "-d dump-xml",
    "sh-nop",
    "sh-resources",
    "sh-dev all",
    "sh-ll-dev all",
    "sh-md-dev all",
    "sh-md-idx all",
    "sh-ip all",
    "sh-udev RES",
    "sh-udev RES/0",
    "sh-udev minor-0",
    "-d up all",
    "-d up RES",
    "-d down all",
    "-d attach all",
    "-d connect all",
    "-d connect --discard-my-data RES",
    "-d connect RES/0",
    "-d connect --ping-int=4 all",
    "-d net-options --timeout=50 all",
    "-d disk-options --resync-rate=5M all",
    "-d resource-options --cpu-mask=7 all",
    "-d -P bob connect RES",
    "-d disconnect all",
    "-d primary all",
    "-d adjust all",
    "-d create-md all",
    "-d dump-md all",
    "-d wait-connect all",
    "-d sh-b-pri all",
    "-d fence-peer all",
];

/// Those that go by names and numbers alone; every fifth file has them.
const BY_NAME: &[&str] = &[
    "sh-resource all",
    "sh-minor all",
    "sh-mod-parms",
    "sh-lr-of RES",
    "-d down RES/0",
    "-d detach --force all",
    "-d -- --discard-my-data connect all",
    "-d secondary RES",
    "-d role minor-0",
    "-d state RES/0",
    "-d cstate all",
    "-d dstate all",
    "-d get-gi all",
    "-d show-gi all",
    "-d status",
    "-d create-md --force RES",
    "-d wipe-md all",
    "-d apply-al all",
    "-d -- 1:2:3:4 set-gi all",
    "-d outdate all",
    "-d invalidate all",
    "-d invalidate-remote all",
    "-d -- --start=8 verify all",
    "-d pause-sync all",
    "-d resume-sync RES",
    "-d suspend-io all",
    "-d resume-io RES",
    "-d new-resource all",
    "-d new-minor all",
    "-d -- --clear-bitmap new-current-uuid RES/0",
    "-d -s /bin/true up all",
    "-d -m /bin/true create-md all",
    "-d nosuch all",
    "-d role nosuch",
    "-S sh-resources",
    "-d primary --force all",
    "-d -- --overwrite-data-of-peer primary all",
    "-d adjust-with-progress all",
    "-d before-resync-target all",
    // Whether a volume is enough.
    "-d adjust RES/0",
    "-d adjust-with-progress minor-0",
    "-d fence-peer RES/0",
    "-d unfence-peer minor-0",
    "sh-resource RES/0",
    "sh-resource minor-0",
    "sh-lr-of RES/0",
    // Whether a name is.
    "sh-nop RES",
    "sh-resources nosuch",
    "sh-mod-parms RES/0",
];

/// Those that look for the host's address on this machine: they have the files with `disable-ip-verification`.
const UNVERIFIED: &[&str] = &[
    "dump",
    "dump all",
    "dump RES",
    "dump-xml",
    "dump-xml RES",
    "-v dump",
];

/// Where the two differ, by file and command, and are meant to.
const DIFFERENT: &[(&str, &str)] = &[
    // What a volume's own section says goes before what its resource and `common` say. drbdadm does that where the volume is in
    // a host's section; of one that is in the resource's it takes only what nobody else has set, and prints none of it.
    ("volumes-disk-options", "-d up all"),
    ("volumes-disk-options", "-d up RES"),
    ("volumes-disk-options", "-d attach all"),
    ("volumes-disk-options", "-d adjust all"),
    ("volumes-disk-options", "-d adjust-with-progress all"),
    ("volumes-disk-options", "-d -s /bin/true up all"),
    ("volumes-disk-options", "-d dump"),
    ("volumes-disk-options", "-d dump-xml"),
    ("volumes-disk-options", "dump"),
    ("volumes-disk-options", "dump all"),
    ("volumes-disk-options", "dump RES"),
    ("volumes-disk-options", "dump-xml"),
    ("volumes-disk-options", "dump-xml RES"),
    ("volumes-disk-options", "-v dump"),
];

/// One command over one file, for one host.
struct Run<'a> {
    file: &'a File,
    command: &'static str,
    path: &'a Path,
}

struct File {
    name: String,
    path: PathBuf,
    /// The same with `disable-ip-verification`.
    unverified: PathBuf,
    resource: String,
    host: String,
}

/// What a program printed: standard output, the message on standard error, the exit status.
#[derive(PartialEq, Eq, Debug)]
struct Said {
    printed: String,
    code: Option<i32>,
}

/// The words behind `key`, in the order of the file.
fn words_behind<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let words: Vec<&str> = lines
        .flat_map(|line| line.split([' ', '\t', '{', '}', ';', '"']))
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .filter(|pair| pair[0] == key)
        .map(|pair| pair[1])
        .collect()
}

fn files(scratch: &Scratch) -> Result<Vec<File>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    let one = |(at, path): (usize, PathBuf)| {
        let name = path
            .file_stem()
            .context("a name")?
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path)?;
        let hosts = words_behind(&text, "on");
        let flag = "disable-ip-verification;";
        let unverified = match text.contains("global {") {
            true => text.replacen("global {", &format!("global {{ {flag}"), 1),
            false => format!("global {{ {flag} }} {text}"),
        };
        let beside = scratch.join(format!("{name}.conf"));
        fs::write(&beside, unverified)?;
        Ok(File {
            resource: words_behind(&text, "resource")
                .first()
                .unwrap_or(&"r0")
                .to_string(),
            // Each host has half of the files.
            host: hosts
                .get(at % 2)
                .or(hosts.first())
                .unwrap_or(&"alice")
                .to_string(),
            name,
            path,
            unverified: beside,
        })
    };
    paths.into_iter().enumerate().map(one).collect()
}

impl Run<'_> {
    fn say(&self, program: &Path, first: &[&str]) -> Result<Said> {
        let typed = self.command.replace("RES", &self.file.resource);
        let output = Command::new(program)
            .args(first)
            .arg("-c")
            .arg(self.path)
            .args(typed.split(' '))
            .env("__DRBD_NODE__", &self.file.host)
            .env("DRBD_DONT_WARN_ON_VERSION_MISMATCH", "1")
            .env("RDB_NODE", &self.file.host)
            .env("RDB_RUN_DIR", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .with_context(|| program.display().to_string())?;
        Ok(Said {
            printed: String::from_utf8_lossy(&output.stdout).into_owned(),
            code: output.status.code(),
        })
    }

    /// What differs, if something does.
    fn compare(&self, ours: &Path) -> Result<Option<String>> {
        let mut theirs = self.say(Path::new(DRBDADM), &[])?;
        let mut own = self.say(ours, &["drbdadm"])?;
        theirs.printed = theirs.printed.replace(DRBDSETUP, "drbdsetup");
        own.printed = own.printed.split_inclusive('\n').map(as_drbdadm).collect();
        let (name, command) = (&self.file.name, self.command);
        let is_meant = DIFFERENT.contains(&(name.as_str(), command));
        Ok(match (own == theirs, is_meant) {
            (true, true) => Some(format!(
                "{name}: {command}: is the same; the table says that it differs"
            )),
            (false, false) => Some(format!(
                "{name} on {}: {command}\n--- drbdadm, {:?}\n{}--- rdb, {:?}\n{}",
                self.file.host, theirs.code, theirs.printed, own.code, own.printed
            )),
            _ => None,
        })
    }
}

/// A line of ours without what only rdb's steps have: a resource's handlers, which DRBD's driver finds by calling drbdadm, and
/// the environment that a handler is run in.
fn as_drbdadm(line: &str) -> String {
    if let Some((_, command)) = line
        .split_once(" /bin/sh -c ")
        .filter(|_| line.starts_with("env -i "))
    {
        return format!("/bin/sh -c {command}");
    }
    let mut words: Vec<String> = Vec::new();
    for word in line.trim_end_matches('\n').split(' ') {
        match words.last_mut().filter(|last| last.ends_with('\\')) {
            // A blank that is part of the word.
            Some(last) => *last = format!("{last} {word}"),
            None => words.push(word.to_owned()),
        }
    }
    let own = ["--handler=", "--drbd-conf=", "--drbd-peers="];
    words.retain(|word| !own.iter().any(|own| word.starts_with(own)));
    let end = if line.ends_with('\n') { "\n" } else { "" };
    words.join(" ") + end
}

#[test]
fn what_is_printed_of_each_file_is_what_drbdadm_prints() -> Result<()> {
    if !Path::new(DRBDADM).is_file() {
        bail!("{DRBDADM} is missing: install the package drbd-utils");
    }
    let scratch = Scratch::new("side-by-side")?;
    let ours = programs::ours("rdbadm")?;
    let files = files(&scratch)?;
    ensure!(files.len() >= 60, "{} files", files.len());
    let runs: Vec<Run<'_>> = files
        .iter()
        .enumerate()
        .flat_map(|(at, file)| {
            let by_name = BY_NAME.iter().filter(move |_| at % 5 == 0);
            let printed = PRINTED
                .iter()
                .chain(by_name)
                .map(move |command| (command, file.path.as_path()));
            let unverified = UNVERIFIED
                .iter()
                .map(move |command| (command, file.unverified.as_path()));
            let run = move |(command, path): (&&'static str, _)| Run {
                file,
                command,
                path,
            };
            printed.chain(unverified).map(run)
        })
        .collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let differs = run.compare(&ours)?;
            found.lock().expect("no other panicked").extend(differs);
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let workers = [scope.spawn(work), scope.spawn(work)];
        for worker in workers {
            worker.join().expect("it does not panic")?;
        }
        Ok(())
    })?;
    let found = found.into_inner().expect("no other panicked");
    let first: Vec<&str> = found.iter().take(5).map(String::as_str).collect();
    ensure!(
        found.is_empty(),
        "{} of {} differ:\n{}",
        found.len(),
        runs.len(),
        first.join("\n")
    );
    Ok(())
}
