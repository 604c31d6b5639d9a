//! Asks the daemon how it is, and listens to what happens, each on a thread of its own.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rdb_control::{Client, ClientError, GiReport, StatusReport};

use crate::model::{Input, State};

/// How often the state is asked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// What happens within so long is asked for at once.
const MOMENT: Duration = Duration::from_millis(100);
/// How long a daemon that is not there is waited for until it is looked for again.
const NOBODY: Duration = Duration::from_millis(500);
/// How long a stream is listened to without a break.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What is looked at.
#[derive(Debug, Default)]
struct Wish {
    /// The resource whose generations are asked for.
    closely: Option<String>,
    /// Something has happened since the last look.
    is_urgent: bool,
}

/// Who looks, and tells the model.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    run_dir: PathBuf,
    inputs: Sender<Input>,
    wish: Arc<(Mutex<Wish>, Condvar)>,
}

/// The model is there no more.
struct NobodyListens;

impl Watcher {
    /// Begins to look.
    ///
    /// # Errors
    /// If the system gives no threads for it.
    pub(crate) fn start(run_dir: &Path, inputs: Sender<Input>) -> io::Result<Watcher> {
        let watcher = Watcher {
            run_dir: run_dir.to_owned(),
            inputs,
            wish: Arc::default(),
        };
        let (asks, listens) = (watcher.clone(), watcher.clone());
        let start = thread::Builder::new;
        start().spawn(move || while asks.ask().is_ok() {})?;
        start().spawn(move || while listens.listen().is_ok() {})?;
        Ok(watcher)
    }

    /// Looks at a resource more closely than at the others, or at none.
    pub(crate) fn look_at(&self, name: Option<String>) {
        if let Some(name) = &name {
            self.ask_for_history(name);
        }
        self.wish().closely = name;
        self.hurry();
    }

    /// Has the state asked for at once.
    pub(crate) fn hurry(&self) {
        self.wish().is_urgent = true;
        self.wish.1.notify_all();
    }

    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, input: Input) -> Result<(), NobodyListens> {
        self.inputs.send(input).map_err(|_| NobodyListens)
    }

    /// Asks one daemon as long as it answers.
    fn ask(&self) -> Result<(), NobodyListens> {
        let mut client = match Client::connect(&self.run_dir) {
            Ok(client) => client,
            Err(error) => {
                self.send(Input::Gone(error.to_string()))?;
                thread::sleep(NOBODY);
                return Ok(());
            }
        };
        loop {
            match self.state(&mut client) {
                Ok(state) => self.send(Input::State(Box::new(state)))?,
                // Another daemon may take its place.
                Err(ClientError::Closed) => return Ok(()),
                Err(error) => {
                    self.send(Input::Gone(error.to_string()))?;
                    thread::sleep(NOBODY);
                    return Ok(());
                }
            }
            thread::sleep(MOMENT);
            let waits = |wish: &mut Wish| !wish.is_urgent;
            let rest = INTERVAL - MOMENT;
            let (mut wish, _) = self
                .wish
                .1
                .wait_timeout_while(self.wish(), rest, waits)
                .unwrap_or_else(PoisonError::into_inner);
            wish.is_urgent = false;
        }
    }

    fn state(&self, client: &mut Client) -> Result<State, ClientError> {
        let report = client.status()?;
        let closely = self.wish().closely.clone();
        let generations = match closely {
            Some(name) => generations(client, &report, &name)?,
            None => BTreeMap::new(),
        };
        Ok(State {
            version: client.hello().version.clone(),
            asks_only: client.asks_only(),
            report,
            generations,
        })
    }

    /// Listens to one daemon as long as it tells something.
    fn listen(&self) -> Result<(), NobodyListens> {
        let begun = Client::connect(&self.run_dir).and_then(|client| client.events(None, false));
        if let Ok(mut stream) = begun {
            while let Ok(told) = stream.next(PATIENCE) {
                if let Some(told) = told {
                    self.send(Input::Told(Box::new(told)))?;
                    self.hurry();
                }
            }
            self.hurry();
        }
        thread::sleep(NOBODY);
        Ok(())
    }

    /// What has happened before. If that is not told there is none.
    fn ask_for_history(&self, name: &str) {
        let (watcher, name) = (self.clone(), name.to_owned());
        // (Nor without a thread that asks.)
        let _ = thread::Builder::new().spawn(move || {
            let told = Client::connect(&watcher.run_dir).and_then(|mut c| c.evidence(&name));
            if let Ok(report) = told {
                // Who has ended listens no more.
                let _ = watcher.send(Input::History(name, report.history));
            }
        });
    }
}

/// The generations of a resource's volumes; those without a disk have none.
fn generations(
    client: &mut Client,
    report: &StatusReport,
    name: &str,
) -> Result<BTreeMap<u32, GiReport>, ClientError> {
    let mut found = BTreeMap::new();
    let resource = report.resources.iter().find(|r| r.name == name);
    for volume in resource.iter().flat_map(|r| &r.volumes) {
        match client.generation(volume.minor) {
            Ok(report) => drop(found.insert(volume.minor, report)),
            Err(ClientError::Refused(_) | ClientError::Error(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
