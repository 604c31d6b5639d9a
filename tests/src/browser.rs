//! A real browser without a screen, Debian's Chromium, told what to do by its DevTools protocol: how the page of the daemon is looked at.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::programs;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page open. It ends when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    orders: File,
    answers: Receiver<Value>,
    session: String,
    number: u64,
    events: Vec<Value>,
}

impl Browser {
    /// One with an empty page, and with its files in `directory`.
    ///
    /// # Errors
    /// When it is not installed, or does not answer.
    pub fn start(directory: &Path) -> Result<Browser> {
        let program = programs::tool("chromium-headless-shell")?;
        let fifos = ["orders", "answers"].map(|name| directory.join(name));
        let made = Command::new("mkfifo").args(&fifos).status()?;
        ensure!(made.success(), "mkfifo: {made}");
        let child = Command::new("bash")
            .args([
                "-c",
                "exec 3<\"$0\" 4>\"$1\"; exec timeout -k 5 300 \"${@:2}\"",
            ])
            .args(&fifos)
            .arg(program)
            .args(["--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            // Names are not asked for: nothing but this machine is reached.
            .args([
                "--disable-dev-shm-usage",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.*",
            ])
            .arg(format!(
                "--user-data-dir={}",
                directory.join("browser").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("browser.log"))?)
            .spawn()?;
        // In the order that the shell opens them.
        let orders = File::options().write(true).open(&fifos[0])?;
        let mut said = BufReader::new(File::open(&fifos[1])?);
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while said.read_until(0, &mut bytes).is_ok_and(|n| n > 0) {
                bytes.pop();
                let Ok(value) = serde_json::from_slice(&bytes) else {
                    return;
                };
                if sender.send(value).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let mut browser = Browser {
            child,
            orders,
            answers,
            session: String::new(),
            number: 0,
            events: Vec::new(),
        };
        let page = browser.order("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let session = browser.order("Target.attachToTarget", attach)?;
        session["sessionId"]
            .as_str()
            .context("a session")?
            .clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.order(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Gives an order, and returns what is answered.
    ///
    /// # Errors
    /// When the browser refuses it, has ended, or does not answer.
    pub fn order(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.number += 1;
        let mut order = json!({"id": self.number, "method": method, "params": parameters});
        if !self.session.is_empty() {
            order["sessionId"] = self.session.clone().into();
        }
        let mut bytes = serde_json::to_vec(&order)?;
        bytes.push(0);
        self.orders.write_all(&bytes)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let said = self
                .answers
                .recv_timeout(left)
                .with_context(|| format!("{method}: the browser does not answer"))?;
            if said["id"] == self.number {
                if let Some(error) = said.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(said["result"].clone());
            }
            self.events.push(said);
        }
    }

    /// Opens an address.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.order("Page.navigate", json!({"url": url}))?;
        ensure!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.until(
            "the page is loaded",
            &format!("document.readyState === 'complete' && location.href.startsWith({url:?})"),
        )
    }

    /// What an expression is in the page.
    ///
    /// # Errors
    /// When it throws.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let parameters = json!({"expression": expression, "returnByValue": true});
        let found = self.order("Runtime.evaluate", parameters)?;
        ensure!(
            found.get("exceptionDetails").is_none(),
            "{expression}: {found}"
        );
        Ok(found["result"]["value"].clone())
    }

    /// What the page shows, as text.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn text(&mut self) -> Result<String> {
        let text = self.value("document.body.innerText")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Errors
    /// When it does not become so, with what the page shows.
    pub fn until(&mut self, what: &str, expression: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        // One that cannot be had while a page takes the place of another is not true yet.
        while self.value(expression).ok() != Some(Value::Bool(true)) {
            if Instant::now() > end {
                bail!("{what}: never; the page shows\n{}", self.text()?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Waits until the page shows this text.
    ///
    /// # Errors
    /// When it does not, with what it shows.
    pub fn shows(&mut self, text: &str) -> Result<()> {
        self.until(text, &format!("document.body.innerText.includes({text:?})"))
    }

    /// What the browser has told of its own accord since it was asked this before; all that was told until now is among it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn events(&mut self) -> Result<Vec<Value>> {
        self.value("0")?;
        Ok(std::mem::take(&mut self.events))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // One that has ended does not hear.
        let _ = self.order("Browser.close", json!({}));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
