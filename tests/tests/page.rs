//! The page of the daemon in a real browser.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::browser::Browser;
use rdb_tests::pair::Plan;
use rdb_tests::{Conf, Pair, wait_until};
use serde_json::{Value, json};

/// A pair whose first node is to serve HTTP, and the address.
fn prepared(name: &str, number: u8, conf: Conf) -> Result<(Pair, SocketAddr)> {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    let address = SocketAddr::from(([127, 64 | b & 63, c, d | 1], 9920 + u16::from(number)));
    let plan = Plan {
        conf,
        disk_bytes: 20 << 20,
        ..Plan::default()
    };
    let mut pair = Pair::prepare(name, plan)?;
    let settings = pair.scratch.join("rdbd.toml");
    std::fs::write(&settings, format!("http = \"{address}\"\n"))?;
    pair.alice.settings = Some(settings);
    Ok((pair, address))
}

/// Opens the page, once it is served.
fn open(browser: &mut Browser, address: SocketAddr) -> Result<()> {
    wait_until("the http service", Duration::from_secs(30), || {
        Ok(TcpStream::connect(address).is_ok())
    })?;
    browser.open(&format!("http://{address}/"))
}

/// Text that is hard to read on what is behind it: less than 4.5 to 1, by the formula of WCAG 2.
const FAINT: &str = "(() => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = numbers(getComputedStyle(element).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const light = colour => {
        const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const faint = [];
    for (const element of document.body.querySelectorAll('*')) {
        const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join('').trim();
        if (!text || !element.checkVisibility()) continue;
        const both = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
        const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
        if (ratio < 4.5) faint.push(`${text}: ${ratio}`);
    }
    return faint.join('\\n');
})()";

/// Looks at it in light and in dark, wide and as narrow as a telephone.
fn is_readable(browser: &mut Browser) -> Result<()> {
    for scheme in ["dark", "light"] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.order("Emulation.setEmulatedMedia", features)?;
        let is_dark = "numbers => numbers.slice(0, 3).every(n => Number(n) < 128)";
        let back = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g)";
        let found = browser.value(&format!("({is_dark})({back})"))?;
        ensure!(found == (scheme == "dark"), "{scheme}: it is not");
        let faint = browser.value(FAINT)?;
        ensure!(faint == "", "{scheme}: hard to read:\n{faint}");
    }
    for width in [360, 1280] {
        let size = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        browser.order("Emulation.setDeviceMetricsOverride", size)?;
        let found = browser.value("document.documentElement.scrollWidth")?;
        ensure!(found == width, "{width} wide: it takes {found}");
    }
    Ok(())
}

/// Nothing was asked of anybody but the daemon, and nothing was wrong.
fn is_clean(events: &[Value], address: SocketAddr) -> Result<()> {
    let mut asked = 0;
    for event in events {
        let parameters = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                let url = parameters["request"]["url"].as_str().context("a URL")?;
                let is_own = url.starts_with(&format!("http://{address}/"));
                ensure!(is_own || url.starts_with("data:"), "it asks for {url}");
                asked += 1;
            }
            "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded" => {
                anyhow::bail!("on the console: {parameters}");
            }
            _ => {}
        }
    }
    ensure!(asked > 2, "it asked {asked} times: it does not follow");
    Ok(())
}

#[test]
fn a_browser_shows_the_node_as_it_is() -> Result<()> {
    let conf = Conf {
        rate: "resync-rate 4M; c-plan-ahead 0; c-min-rate 0;".into(),
        ..Conf::default()
    };
    let (mut pair, address) = prepared("page-follows", 1, conf)?;
    pair.begin()?;
    let mut browser = Browser::start(pair.scratch.path())?;
    open(&mut browser, address)?;
    browser.shows("No resource is up.")?;
    browser.value("window.same = true")?;
    pair.up()?;
    browser.shows("Inconsistent / Inconsistent")?;
    // A resync that goes on, with a bar and a graph.
    pair.alice.adm(&["primary", "--force", "r0"])?;
    browser.shows("SyncSource")?;
    browser.until("a bar", "document.querySelector('progress').value > 0")?;
    browser.value("window.done = document.querySelector('progress').value")?;
    browser.until(
        "progress",
        "document.querySelector('progress').value > window.done",
    )?;
    browser.until(
        "a graph of the resync",
        "/^M\\d/.test(document.querySelector('figure:has(svg[aria-label^=resync]) path').getAttribute('d'))",
    )?;
    browser.shows("WARNING")?;
    is_readable(&mut browser)?;
    pair.settle(60)?;
    browser.shows("UpToDate / UpToDate")?;
    browser.until("a title", "document.title === 'rdb on alice'")?;
    let text = browser.text()?;
    for word in ["r0 OK", "Connected, protocol C", "Primary / Secondary"] {
        ensure!(text.contains(word), "no {word}:\n{text}");
    }
    // What a reader has closed, and marked, stays so while figures change.
    browser.value("document.querySelector('summary').click()")?;
    browser.value("getSelection().selectAllChildren(document.querySelector('h1'))")?;
    pair.bob.kill()?;
    browser.shows("Connecting")?;
    browser.until(
        "a title that warns",
        "document.title === 'WARNING: rdb on alice'",
    )?;
    ensure!(browser.value("document.querySelector('details').open")? == false);
    ensure!(browser.value("getSelection().toString()")? == "rdb on alice");
    browser.value("document.querySelector('summary').click()")?;
    browser.shows("connection: ")?;
    is_readable(&mut browser)?;
    // Without its script it is read anew as a whole.
    ensure!(browser.value("window.same")? == true, "it was read anew");
    is_clean(&browser.events()?, address)?;
    pair.alice.terminate()?;
    browser.shows("rdbd has not been heard of since ")?;
    is_readable(&mut browser)?;
    browser.shows("connection: ")?;
    pair.alice.start()?;
    browser.shows("No resource is up.")?;
    browser.until("no warning", "document.getElementById('gone').hidden")?;
    ensure!(browser.value("window.same")? == true, "it was read anew");
    // A browser that runs no scripts.
    let off = json!({"value": true});
    browser.order("Emulation.setScriptExecutionDisabled", off)?;
    open(&mut browser, address)?;
    pair.alice.adm(&["up", "r0"])?;
    browser.shows("r0 WARNING")
}

#[test]
fn a_name_is_text_in_a_browser_whatever_is_in_it() -> Result<()> {
    let (mut pair, address) = prepared("page-names", 2, Conf::default())?;
    let node = "<img src=x onerror=window.hacked=1>";
    let name = "<h1>'&lt;<iframe>";
    let conf = std::fs::read_to_string(&pair.alice.conf)?;
    let conf = conf
        .replace("resource r0", &format!("resource \"{name}\""))
        .replace("on alice", &format!("on \"{node}\""));
    std::fs::write(&pair.alice.conf, conf)?;
    node.clone_into(&mut pair.alice.name);
    pair.alice.start()?;
    pair.alice.adm(&["create-md", "--force", name])?;
    pair.alice.adm(&["up", name])?;
    let mut browser = Browser::start(pair.scratch.path())?;
    open(&mut browser, address)?;
    browser.shows(&format!("rdb on {node}"))?;
    browser.shows(&format!("{name} CRITICAL"))?;
    pair.alice.adm(&["down", name])?;
    browser.shows("No resource is up.")?;
    pair.alice.adm(&["up", name])?;
    browser.shows(&format!("{name} CRITICAL"))?;
    let made = browser.value("document.querySelectorAll('img, iframe, h1 h1, h2 h1').length")?;
    ensure!(made == 0, "{made} elements of a name");
    let id = browser.value("document.querySelector('details').id")?;
    ensure!(id == name, "{id}");
    is_clean(&browser.events()?, address)
}
