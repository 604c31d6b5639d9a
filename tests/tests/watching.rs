//! What monitors read: the page, the metrics and the state over HTTP, and `rdbadm check` and `metrics`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::{Node, Pair, wait_until};
use serde_json::Value;

/// An address of this machine's own that no other test has.
fn address(number: u16) -> SocketAddr {
    let id = std::process::id();
    let [_, b, c, d] = id.to_be_bytes();
    SocketAddr::from(([127, 64 | b & 63, c, d | 1], 9900 + number))
}

/// A pair in sync whose first node serves HTTP.
fn served(name: &str, number: u16) -> Result<(Pair, SocketAddr)> {
    let address = address(number);
    let mut pair = Pair::prepare(name, Plan::default())?;
    let settings = pair.scratch.join("rdbd.toml");
    std::fs::write(&settings, format!("http = \"{address}\"\n"))?;
    pair.alice.settings = Some(settings);
    pair.begin()?;
    pair.sync_from(&pair.alice)?;
    wait_until("the http service", Duration::from_secs(30), || {
        Ok(TcpStream::connect(address).is_ok())
    })?;
    Ok((pair, address))
}

/// What is answered to these bytes, to the end. `is_all`: nothing follows them.
fn send(address: SocketAddr, request: &[u8], is_all: bool) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    if is_all {
        stream.shutdown(Shutdown::Write)?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn ask(address: SocketAddr, method: &str, path: &str, host: &str) -> Result<(u16, String)> {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = send(address, request.as_bytes(), false)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("no end of the head")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

fn get(address: SocketAddr, path: &str) -> Result<String> {
    let (status, body) = ask(address, "GET", path, &address.to_string())?;
    ensure!(status == 200, "{path}: {status}\n{body}");
    Ok(body)
}

#[test]
fn a_node_shows_itself_over_http() -> Result<()> {
    let (mut pair, address) = served("watching-http", 1)?;
    pair.alice.adm(&["primary", "r0"])?;
    pair.alice.nbd(0)?.write(0, &[1; 4096])?;
    let metrics = get(address, "/metrics")?;
    for line in [
        "rdb_request_seconds_count{name=\"r0\",volume=\"0\",minor=\"0\",request=\"write\"} 1",
        "rdb_stage_seconds_count{name=\"r0\",volume=\"0\",minor=\"0\",stage=\"peer\"} 1",
        "drbd_resource_role{name=\"r0\",role=\"Primary\"} 1.0",
        "drbd_device_state{name=\"r0\",volume=\"0\",minor=\"0\",state=\"UpToDate\"} 1.0",
        "drbd_peerdevice_outofsync_bytes{name=\"r0\",conn_name=\"peer\",peer_node_id=\"0\",volume=\"0\",minor=\"0\"} 0.0",
    ] {
        ensure!(metrics.lines().any(|l| l == line), "no {line}\n{metrics}");
    }
    ensure!(metrics.contains("\nprocess_resident_memory_bytes "));
    ensure!(metrics.ends_with("# EOF\n"));
    let state: Value = serde_json::from_str(&get(address, "/status.json")?)?;
    ensure!(state["resources"][0]["name"] == "r0", "{state}");
    let page = get(address, "/")?;
    ensure!(
        page.contains("<h2>r0 <span class=\"b ok\">OK</span></h2>"),
        "{page}"
    );
    // The peer goes: that is to be seen.
    pair.bob.kill()?;
    wait_until("the page that warns", Duration::from_secs(30), || {
        Ok(get(address, "/")?.contains("<span class=\"b warning\">"))
    })?;
    // A daemon that takes its place serves on.
    pair.alice.adm(&["restart"])?;
    wait_until(
        "the http service of the next daemon",
        Duration::from_secs(60),
        || Ok(get(address, "/metrics").is_ok()),
    )?;
    Ok(())
}

#[test]
fn nothing_but_questions_is_answered_and_nobody_holds_it_up() -> Result<()> {
    let (pair, address) = served("watching-hostile", 2)?;
    let own = address.to_string();
    for (method, path, host, status) in [
        ("POST", "/", own.as_str(), 405),
        ("DELETE", "/metrics", own.as_str(), 405),
        ("GET", "/../../etc/passwd", own.as_str(), 404),
        ("GET", "/metrics", "evil.example", 403),
        ("HEAD", "/metrics", own.as_str(), 200),
    ] {
        let (found, body) = ask(address, method, path, host)?;
        ensure!(found == status, "{method} {path} {host}: {found}\n{body}");
    }
    // What is no HTTP, or has no end, gets an error or a closed connection.
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    for bad in [
        b"\x16\x03\x01\x02\x00\x01\x00".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n\r\n\x00\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: -1\r\n\r\n",
        long.as_bytes(),
    ] {
        // Who is cut off while he still sends hears of that.
        if let Ok(answer) = send(address, bad, true) {
            ensure!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
        }
    }
    // Many that say nothing, and go one by one.
    let idle: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(address))
        .collect::<std::io::Result<_>>()?;
    for stream in &idle {
        stream.shutdown(Shutdown::Write)?;
    }
    ensure!(get(address, "/metrics")?.ends_with("# EOF\n"));
    drop(idle);
    // It does what it is there for.
    pair.alice.adm(&["primary", "r0"])?;
    Ok(())
}

/// Kilobytes of memory that the daemon of a node has in use.
fn memory_kib(node: &Node) -> Result<u64> {
    let pid = std::fs::read_to_string(node.run_dir.join("rdbd.pid"))?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("no VmRSS")?.split_whitespace().next();
    Ok(words.context("no figure")?.parse()?)
}

#[test]
fn a_storm_of_clients_costs_no_memory_and_holds_up_nobody_else() -> Result<()> {
    let (mut pair, address) = served("watching-storm", 3)?;
    pair.alice.adm(&["primary", "r0"])?;
    let own = address.to_string();
    let wave = || -> Result<()> {
        // Odd paths and hosts lead nowhere.
        for (path, host, status) in [
            ("/%6detrics", own.as_str(), 404),
            ("//metrics", own.as_str(), 404),
            ("/metrics/", own.as_str(), 404),
            ("/%2e%2e/%2e%2e/etc/passwd", own.as_str(), 404),
            ("/status.json%00", own.as_str(), 404),
            ("/metrics?x=1", own.as_str(), 200),
            ("/metrics?x=<script>", own.as_str(), 400),
            ("/", "127.0.0.1.evil.example", 403),
            ("/", "localhost\r\nHost: evil.example", 403),
            ("/", "localhost:1@evil.example", 403),
        ] {
            let (found, body) = ask(address, "GET", path, host)?;
            ensure!(found == status, "{path} {host}: {found}\n{body}");
        }
        // Many come, and go at once, or with half a head, or with a body that never ends.
        for number in 0..600 {
            let mut stream = TcpStream::connect(address)?;
            let begun = match number % 3 {
                0 => "",
                1 => "GET / HTTP/1.1\r\nHost: local",
                _ => "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\nx",
            };
            // Who is cut off hears of that.
            let _ = stream.write_all(begun.as_bytes());
        }
        // Requests behind requests, by clients that never read an answer.
        let one = format!("GET /metrics HTTP/1.1\r\nHost: {own}\r\n\r\n");
        let many = one.repeat(2000);
        let mut deaf = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nonblocking(true)?;
            let _ = stream.write(many.as_bytes());
            deaf.push(stream);
        }
        // Heads that come a byte at a time.
        let mut slow = TcpStream::connect(address)?;
        for byte in one.as_bytes().iter().take(20) {
            slow.write_all(&[*byte])?;
            std::thread::sleep(Duration::from_millis(5));
        }
        pair.alice.nbd(0)?.write(0, &[2; 4096])?;
        ensure!(get(address, "/metrics")?.ends_with("# EOF\n"));
        drop(deaf);
        Ok(())
    };
    // The first wave fills what is kept.
    wave()?;
    let before = memory_kib(&pair.alice)?;
    for _ in 0..3 {
        wave()?;
    }
    let after = memory_kib(&pair.alice)?;
    ensure!(
        after < before + 8 * 1024,
        "it grew from {before} to {after} KiB"
    );
    pair.alice.adm(&["check"])?;
    pair.are_well()
}

#[test]
fn a_check_says_how_it_is() -> Result<()> {
    let mut pair = Pair::synced("watching-check", Plan::default())?;
    let ok = pair.alice.try_adm(&["check"])?.ok()?;
    ensure!(
        ok.starts_with("RDB OK: r0 is Connected and UpToDate | 'r0/0 oos'=0B "),
        "{ok}"
    );
    ensure!(ok.trim_end().ends_with(" 'r0 lag'=0.000s"), "{ok}");
    // The plugin's own name.
    let plugin = pair.alice.run("check_rdb", &["r0"], None)?.ok()?;
    ensure!(plugin == ok, "{plugin}");
    let plugin = |words: &[&str]| pair.alice.run("check_rdb", words, None);
    let wrong = plugin(&["--nosuch"])?;
    ensure!(
        wrong.code == 3 && wrong.stdout.starts_with("RDB UNKNOWN: ") && wrong.stderr.is_empty(),
        "{wrong:?}"
    );
    ensure!(plugin(&["--help"])?.code == 0 && plugin(&["-V"])?.code == 0);
    let missing = plugin(&["r1"])?.fails_with(2)?;
    ensure!(
        missing == "RDB CRITICAL: resource r1 is not up\n",
        "{missing}"
    );
    let metrics = pair.alice.adm(&["metrics"])?;
    ensure!(metrics.contains("drbd_resource_role{name=\"r0\",role=\"Primary\"} 1.0"));
    pair.bob.kill()?;
    wait_until("the warning", Duration::from_secs(30), || {
        Ok(pair.alice.try_adm(&["check", "r0"])?.code == 1)
    })?;
    pair.alice.adm(&["disconnect", "r0"])?;
    let warned = pair.alice.try_adm(&["check"])?.fails_with(1)?;
    ensure!(
        warned.starts_with("RDB WARNING: r0: StandAlone: "),
        "{warned}"
    );
    let unknown = pair.alice.try_adm(&["check", "r1"])?.fails_with(2)?;
    ensure!(
        unknown == "RDB CRITICAL: resource r1 is not up\n",
        "{unknown}"
    );
    pair.alice.adm(&["secondary", "r0"])?;
    pair.alice.adm(&["outdate", "r0"])?;
    let bad = pair.alice.try_adm(&["check", "all"])?.fails_with(2)?;
    ensure!(
        bad.starts_with("RDB CRITICAL: r0/0: the disk here is Outdated"),
        "{bad}"
    );
    pair.alice.kill()?;
    let died = pair.alice.try_adm(&["check"])?.fails_with(2)?;
    ensure!(
        died == "RDB CRITICAL: rdbd has died, and does not run\n",
        "{died}"
    );
    pair.alice.start()?;
    pair.alice.adm(&["down", "r0"])?;
    let nothing = pair.alice.try_adm(&["check"])?.fails_with(3)?;
    ensure!(nothing == "RDB UNKNOWN: no resource is up\n", "{nothing}");
    pair.alice.terminate()?;
    let none = pair.alice.try_adm(&["check"])?.fails_with(2)?;
    ensure!(none == "RDB CRITICAL: rdbd does not run\n", "{none}");
    Ok(())
}

#[test]
fn a_state_is_explained_with_how_it_came_about() -> Result<()> {
    let mut pair = Pair::synced("watching-explain", Plan::default())?;
    let says = |text: &str, sentences: &[&str]| -> Result<()> {
        for sentence in sentences {
            ensure!(text.contains(sentence), "no {sentence}\n{text}");
        }
        Ok(())
    };
    let well = pair.alice.adm(&["explain", "r0"])?;
    says(
        &well,
        &[
            "r0 is well: both nodes have the same data.",
            "How it came about:",
            "the promotion was forced",
            "Each write is done for users when it is on both disks.",
        ],
    )?;
    pair.bob.kill()?;
    pair.alice
        .await_volume("the loss", 30, |volume| volume.cs == "WFConnection")?;
    let alone = pair.alice.adm(&["explain"])?;
    says(
        &alone,
        &[
            "r0 has no connection to its peer: nothing is mirrored.",
            "This node goes on trying to connect.",
            "rdbadm disconnect r0",
        ],
    )?;
    let refusal = pair.alice.adm(&["explain", "-2", "119"])?;
    says(
        &refusal,
        &[
            "(-2) Need access to UpToDate data",
            "(119) No valid meta-data",
        ],
    )?;
    let unknown = pair.alice.try_adm(&["explain", "7"])?.fails_with(1)?;
    says(&unknown, &["there is no refusal with the number 7"])?;
    let unknown = pair.alice.try_adm(&["explain", "r9"])?.fails_with(10)?;
    says(&unknown, &["r9 is not up"])?;
    let volume = pair.alice.try_adm(&["explain", "r0/0"])?.fails_with(1)?;
    says(&volume, &["explain operates on whole resources"])
}

#[test]
fn an_address_that_is_none_is_refused_by_its_line() -> Result<()> {
    let mut pair = Pair::prepare("watching-settings", Plan::default())?;
    let settings = pair.scratch.join("rdbd.toml");
    std::fs::write(&settings, "# a\nhttp = \"localhost:80\"\n")?;
    pair.alice.settings = Some(settings);
    ensure!(pair.alice.start().is_err(), "it starts");
    let log = pair.alice.log();
    ensure!(log.contains("rdbd.toml:2: an address is given as"), "{log}");
    Ok(())
}
