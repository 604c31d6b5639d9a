//! What runs, on record for the next daemon: `RUN/rdbd.state`.
//!
//! The file says how every resource is configured and which volumes are Primary. It is written anew with every change. A
//! daemon that is replaced in an orderly way also says what it hands over. The file holds the shared secrets, so it is for
//! its owner only; it counts until the machine is started again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use rdb_control::{ReasonReport, ResourceShown};
use serde::{Deserialize, Serialize};

/// The file's name in the run directory.
const NAME: &str = rdb_control::RECORD_NAME;
/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;
/// Bytes that a record may grow by between the look whether it can be written and its last word.
const CHECK_ROOM: usize = 16 * 1024;
/// What it means that the record is not written.
const UNKNOWN_TO_NEXT: &str = "a daemon that follows this one will not know what runs";

/// All that is on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// [`FORMAT`].
    format: u32,
    /// The boot that it was written in: devices do not outlive that.
    boot: String,
    /// The resources.
    pub(crate) resources: Vec<KeptResource>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptResource {
    /// How it was configured.
    pub(crate) shown: ResourceShown,
    /// It was handed over: the next daemon brings it up in any case. Otherwise it does so if a device was left.
    pub(crate) handed_over: bool,
    /// The nodes were connected.
    pub(crate) connected: bool,
    /// Its volumes that were Primary.
    pub(crate) primaries: Vec<KeptPrimary>,
    /// An administrator has suspended its I/O, and has not resumed it. (Not there in what a daemon wrote that did not keep it.)
    #[serde(default)]
    pub(crate) suspended: bool,
}

impl KeptResource {
    /// Whether it says of a resource that runs how it runs. What a daemon before has left, or is to be left for the next one, does not.
    pub(crate) fn is_of_running(&self) -> bool {
        let is_left =
            |primary: &KeptPrimary| primary.generation.is_some() || primary.paused_at_ms.is_some();
        !self.handed_over && !self.primaries.iter().any(is_left)
    }
}

/// A resource as it is on record, with its text, which is made once as long as nothing changes.
#[derive(Debug)]
pub(crate) struct OnRecord {
    pub(crate) kept: KeptResource,
    text: String,
}

impl From<KeptResource> for OnRecord {
    fn from(kept: KeptResource) -> OnRecord {
        let text = serde_json::to_string(&kept).expect("plain values with string keys");
        OnRecord { kept, text }
    }
}

/// The whole record, of resources in this order.
fn text_of(boot: &str, resources: &[Rc<OnRecord>]) -> String {
    let texts: Vec<&str> = resources.iter().map(|r| r.text.as_str()).collect();
    let boot = serde_json::Value::from(boot);
    let texts = texts.join(",");
    format!("{{\"format\":{FORMAT},\"boot\":{boot},\"resources\":[{texts}]}}")
}

fn on_record(resources: Vec<KeptResource>) -> Vec<Rc<OnRecord>> {
    let resources = resources.into_iter();
    resources.map(|kept| Rc::new(kept.into())).collect()
}

/// A volume that was Primary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptPrimary {
    /// Volume number.
    pub(crate) volume: u16,
    /// Minor number.
    pub(crate) minor: u32,
    /// The current generation identifier, if the volume was handed over cleanly: by it the next daemon knows the content
    /// that users of the device know.
    pub(crate) generation: Option<u64>,
    /// Since when requests wait, in milliseconds since 1970.
    pub(crate) paused_at_ms: Option<u64>,
}

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    #[error("can not read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("can not write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{} has format {found}; this rdbd reads format {FORMAT}", path.display())]
    Format { path: PathBuf, found: u64 },
}

/// Writes the record.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    /// Changes are written: neither taking over nor handing over is under way.
    on: Cell<bool>,
    over: Cell<bool>,
    turn: tokio::sync::Mutex<()>,
    last: RefCell<Vec<Rc<OnRecord>>>,
    missed: RefCell<Option<Missed>>,
}

/// What could not be written. Set by a write that fails, cleared by one that does not, or when what runs is what is on record.
#[derive(Debug)]
struct Missed {
    resources: Vec<Rc<OnRecord>>,
    /// Why, in words.
    error: String,
    /// When the first of a row of writes failed.
    since: SystemTime,
}

impl Keeper {
    /// For a run directory; writes nothing before [`Keeper::begin`].
    pub(crate) fn new(run_dir: &Path) -> Keeper {
        Keeper {
            path: run_dir.join(NAME),
            on: Cell::new(false),
            over: Cell::new(false),
            turn: tokio::sync::Mutex::default(),
            last: RefCell::default(),
            missed: RefCell::default(),
        }
    }

    /// From now on changes are written.
    pub(crate) fn begin(&self) {
        self.on.set(!self.over.get());
    }

    /// Changes are written no more; the last record is [`Keeper::finish`]'s.
    pub(crate) fn stop(&self) {
        self.on.set(false);
        self.over.set(true);
    }

    /// Whether changes are written.
    pub(crate) fn is_on(&self) -> bool {
        self.on.get()
    }

    /// Waits for the turn to look at what runs and to write it.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Writes these if they are not what was last written.
    ///
    /// # Errors
    /// As [`Keeper::write`].
    pub(crate) fn update(&self, resources: Vec<Rc<OnRecord>>) -> Result<(), KeptError> {
        if !self.is_on() {
            return Ok(());
        }
        let is_same = {
            let last = self.last.borrow();
            let mut pairs = last.iter().zip(&resources);
            last.len() == resources.len()
                && pairs.all(|(old, new)| Rc::ptr_eq(old, new) || old.kept == new.kept)
        };
        if !is_same {
            return self.replace(resources);
        }
        *self.missed.borrow_mut() = None;
        Ok(())
    }

    /// What is on record, by the names of the resources; nothing while it is not what it should be.
    pub(crate) fn known(&self) -> HashMap<String, Rc<OnRecord>> {
        if self.missed.borrow().is_some() {
            return HashMap::new();
        }
        let last = self.last.borrow();
        let by_name = |known: &Rc<OnRecord>| (known.kept.shown.name.clone(), Rc::clone(known));
        last.iter().map(by_name).collect()
    }

    /// Whether it is the next daemon's turn.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// The last word, for the next daemon; without resources there is no file.
    pub(crate) fn finish(&self, resources: Vec<KeptResource>) {
        self.stop();
        if resources.is_empty() {
            match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("removing {}: {error}", self.path.display());
                }
                _ => {}
            }
        } else {
            // If that fails, the record from before the resources went down stays, and is logged to be old.
            let _ = self.write(resources);
        }
    }

    /// Writes these.
    ///
    /// # Errors
    /// When that is impossible; the record is as it was then. It is logged, once for a row of failures.
    pub(crate) fn write(&self, resources: Vec<KeptResource>) -> Result<(), KeptError> {
        self.replace(on_record(resources))
    }

    fn replace(&self, resources: Vec<Rc<OnRecord>>) -> Result<(), KeptError> {
        match write(&self.path, &text_of(&boot(), &resources)) {
            Ok(()) => {
                *self.missed.borrow_mut() = None;
                *self.last.borrow_mut() = resources;
                Ok(())
            }
            Err(error) => {
                let path = self.path.clone();
                let error = KeptError::Write { path, error };
                let mut missed = self.missed.borrow_mut();
                if missed.is_none() {
                    tracing::error!("{error}; {UNKNOWN_TO_NEXT}");
                }
                let since = missed.take().map_or_else(SystemTime::now, |m| m.since);
                *missed = Some(Missed {
                    resources,
                    error: error.to_string(),
                    since,
                });
                Err(error)
            }
        }
    }

    /// Why what runs is not on record, if so.
    pub(crate) fn trouble(&self) -> Option<ReasonReport> {
        let missed = self.missed.borrow();
        let Missed { error, since, .. } = missed.as_ref()?;
        let since = since.duration_since(UNIX_EPOCH);
        Some(ReasonReport {
            word: "not-on-record".to_owned(),
            text: format!("{error}; {UNKNOWN_TO_NEXT}"),
            advice: Some("make it possible to write there; no command is needed then".to_owned()),
            since_s: since.ok().map(|since| since.as_secs()),
        })
    }

    /// Writes the record anew if somebody has removed it, or if it could not be written before.
    pub(crate) fn restore(&self) {
        let missed = {
            let missed = self.missed.borrow();
            missed.as_ref().map(|missed| missed.resources.clone())
        };
        if let Some(missed) = missed.filter(|_| self.on.get()) {
            if self.replace(missed).is_ok() {
                tracing::info!("{} is written again", self.path.display());
            }
            return;
        }
        let last = self.last.borrow().clone();
        if self.on.get() && !last.is_empty() && !self.path.exists() {
            tracing::warn!("{} was removed: written anew", self.path.display());
            let _ = self.replace(last);
        }
    }

    /// What was last written of a resource.
    pub(crate) fn last(&self, name: &str) -> Option<KeptResource> {
        let last = self.last.borrow();
        let found = last.iter().find(|known| known.kept.shown.name == name);
        found.map(|known| known.kept.clone())
    }
}

/// What the daemon before has left; nothing if there was none since the machine was started.
///
/// # Errors
/// When there is a record that cannot be used.
pub(crate) fn read(run_dir: &Path) -> Result<Vec<KeptResource>, KeptError> {
    let path = run_dir.join(NAME);
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path);
    let text = match opened.and_then(io::read_to_string) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(KeptError::Read { path, error }),
    };
    parse(&path, &text, &boot())
}

/// Whether a record can be read and written in a run directory: nothing that is there is changed.
///
/// # Errors
/// When there is a record that cannot be used, or one as large could not be written.
pub(crate) fn check(run_dir: &Path) -> Result<(), KeptError> {
    let resources = read(run_dir)?;
    let path = run_dir.join(format!("{NAME}.check-{}", std::process::id()));
    let kept = Kept {
        format: FORMAT,
        boot: boot(),
        resources,
    };
    let written = create(&path).and_then(|mut file| {
        let mut text = serde_json::to_vec(&kept).map_err(io::Error::other)?;
        text.resize(text.len() + CHECK_ROOM, b' ');
        file.write_all(&text)
    });
    let removed = std::fs::remove_file(&path);
    written
        .and(removed)
        .map_err(|error| KeptError::Write { path, error })
}

fn parse(path: &Path, text: &str, boot: &str) -> Result<Vec<KeptResource>, KeptError> {
    let damaged = |error: serde_json::Error| KeptError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let value: serde_json::Value = serde_json::from_str(text).map_err(damaged)?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(found) if found != u64::from(FORMAT) => {
            let path = path.to_owned();
            return Err(KeptError::Format { path, found });
        }
        _ => {}
    }
    let kept: Kept = serde_json::from_value(value).map_err(damaged)?;
    Ok(if kept.boot == boot {
        kept.resources
    } else {
        Vec::new()
    })
}

/// Replaces the file as a whole. What lies at the new file's name is another file of ours that was not finished, or a trap: it
/// is removed, and nothing that is there is ever opened.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("state.new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create(&new)?;
    if let Err(error) = file.write_all(text.as_bytes()) {
        // A part of a record is of no use, and takes the room of others.
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    std::fs::rename(&new, path)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(libc::O_NOFOLLOW)
        .mode(0o600)
        .open(path)
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rdb_control::ResourceOptions;

    use super::*;

    fn kept(boot: &str) -> Kept {
        Kept {
            format: FORMAT,
            boot: boot.to_owned(),
            resources: vec![KeptResource {
                shown: ResourceShown {
                    name: "r0".to_owned(),
                    options: ResourceOptions::default(),
                    handlers: rdb_control::HandlersShown::default(),
                    connection: None,
                    volumes: Vec::new(),
                },
                handed_over: true,
                connected: true,
                primaries: vec![KeptPrimary {
                    volume: 0,
                    minor: 5,
                    generation: Some(u64::MAX),
                    paused_at_ms: Some(1),
                }],
                suspended: true,
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_and_is_for_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let keeper = Keeper::new(dir.path());
        let resources = kept("").resources;
        keeper.finish(resources.clone());
        assert_eq!(read(dir.path()).unwrap(), resources);
        let mode = std::fs::metadata(dir.path().join(NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(keeper.last("r0"), Some(resources[0].clone()));
        keeper.finish(Vec::new());
        assert_eq!(read(dir.path()).unwrap(), []);
    }

    /// The text is put together of the resources' texts, and is what would be made of the whole.
    #[test]
    fn a_record_is_the_same_whoever_is_written_anew() {
        let mut whole = kept("a \"boot\"");
        let mut second = whole.resources[0].clone();
        second.shown.name = "r1".to_owned();
        whole.resources.push(second);
        let parts = on_record(whole.resources.clone());
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(text_of(&whole.boot, &parts), text);

        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(dir.path());
        keeper.begin();
        keeper.update(parts).unwrap();
        let known = keeper.known();
        let mut changed = known["r1"].kept.clone();
        // A daemon before has left it so.
        assert!(!changed.is_of_running());
        changed.handed_over = false;
        assert!(!changed.is_of_running());
        changed.primaries.clear();
        assert!(changed.is_of_running());
        let parts = vec![Rc::clone(&known["r0"]), Rc::new(changed.clone().into())];
        keeper.update(parts).unwrap();
        whole.resources[1] = changed;
        assert_eq!(read(dir.path()).unwrap(), whole.resources);
        // What is not on record as it should be is no base for the next record.
        std::fs::remove_dir_all(dir.path()).unwrap();
        keeper.update(Vec::new()).unwrap_err();
        assert!(keeper.known().is_empty());
    }

    #[test]
    fn what_could_not_be_written_is_told_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let keeper = Keeper::new(&run_dir);
        keeper.begin();
        assert_eq!(keeper.trouble(), None);
        let resources = kept("").resources;
        keeper.write(resources.clone()).unwrap_err();
        let trouble = keeper.trouble().expect("it says so");
        assert_eq!(trouble.word, "not-on-record");
        assert!(trouble.text.contains("No such file"), "{trouble:?}");
        keeper.restore();
        let again = keeper.trouble().expect("it is so still");
        assert_eq!(again.since_s, trouble.since_s);
        std::fs::create_dir(&run_dir).unwrap();
        keeper.restore();
        assert_eq!(keeper.trouble(), None);
        assert_eq!(read(&run_dir).unwrap(), resources);
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        for name in ["rdbd.state.new", NAME] {
            std::os::unix::fs::symlink(&victim, dir.path().join(name)).unwrap();
        }
        assert!(matches!(read(dir.path()), Err(KeptError::Read { .. })));
        let resources = kept("").resources;
        Keeper::new(dir.path()).finish(resources.clone());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(read(dir.path()).unwrap(), resources);
    }

    #[test]
    fn a_record_of_another_boot_is_no_more_true() {
        let text = serde_json::to_string(&kept("then")).unwrap();
        let path = Path::new("/x");
        assert_eq!(parse(path, &text, "then").unwrap().len(), 1);
        assert_eq!(parse(path, &text, "now").unwrap(), []);
    }

    #[test]
    fn a_record_from_before_there_were_handlers_is_read() {
        let mut value = serde_json::to_value(kept("then")).unwrap();
        let shown = value["resources"][0]["shown"].as_object_mut().unwrap();
        shown.remove("handlers").expect("it is written");
        let read = parse(Path::new("/x"), &value.to_string(), "then").unwrap();
        assert_eq!(read, kept("then").resources);
    }

    #[test]
    fn a_record_that_is_not_understood_is_named() {
        let path = Path::new("/run/rdb/rdbd.state");
        for (text, words) in [
            ("", "/run/rdb/rdbd.state is damaged: "),
            ("{\"format\":1}", "missing field `boot`"),
            (
                "{\"format\":7,\"more\":1}",
                "has format 7; this rdbd reads format 1",
            ),
        ] {
            let error = parse(path, text, "").unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
