//! The page: all resources of a node at a glance, what is wrong first. It has no script, and reads itself anew.

use std::fmt::Write;

use rdb_control::{DiskState, HandlerReport, ResourceReport, Role, VolumeReport};

use crate::check::{Level, check};
use crate::{Seen, connection_word, troubles};

/// Seconds until the page is read anew.
const REFRESH_S: u32 = 5;

const STYLE: &str = "\
body{font:15px/1.4 system-ui,sans-serif;margin:1.5em auto;max-width:70em;padding:0 1em;color:#222;background:#fff}\
h1{font-size:1.3em}h2{font-size:1.1em;margin:1.5em 0 .3em}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.2em .8em .2em 0;vertical-align:top}\
th{font-weight:600;color:#555;border-bottom:1px solid #ccc}\
.b{display:inline-block;padding:0 .5em;border-radius:.3em;color:#fff}\
.ok{background:#2a7d3f}.warning{background:#a86500}.critical,.unknown{background:#b3261e}\
.n{margin:.3em 0;padding:.4em .7em;border-left:4px solid #a86500;background:#fff6e5;color:#222}\
.n small{display:block;color:#555}progress{width:10em}footer{margin-top:2em;color:#777}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}.n{background:#33291a;color:#ddd}\
th{color:#aaa;border-color:#444}.n small{color:#aaa}}";

/// The page, as HTML.
pub fn page(seen: Seen<'_>) -> String {
    let node = escaped(&seen.report.node);
    let mut resources: Vec<(&ResourceReport, Level)> = seen
        .report
        .resources
        .iter()
        .map(|r| (r, level_of(seen, r)))
        .collect();
    resources.sort_by(|(a, bad), (b, worse)| worse.cmp(bad).then(a.name.cmp(&b.name)));
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>rdb on {node}</title>\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_S}\"><meta name=\"viewport\" content=\"width=device-width\">\
         <style>{STYLE}</style></head><body><h1>rdb on {node}</h1>"
    );
    if resources.is_empty() {
        html += "<p>No resource is up.</p>";
    }
    for (resource, level) in resources {
        section(&mut html, resource, level);
    }
    let version = escaped(seen.version);
    // A string takes everything.
    let _ = writeln!(
        html,
        "<footer>rdb {version} · <a href=\"/status.json\">status.json</a> · <a href=\"/metrics\">metrics</a></footer></body></html>"
    );
    html
}

fn level_of(seen: Seen<'_>, resource: &ResourceReport) -> Level {
    check(seen.report, std::slice::from_ref(&resource.name)).level
}

fn section(html: &mut String, resource: &ResourceReport, level: Level) {
    let class = level.to_string().to_lowercase();
    let connection = match (&resource.failed, resource.protocol) {
        (Some(_), _) => "does not run".to_owned(),
        (None, Some(protocol)) => format!(
            "{}, protocol {protocol}",
            connection_word(resource.connection)
        ),
        (None, None) => connection_word(resource.connection).to_owned(),
    };
    let _ = write!(
        html,
        "<h2>{} <span class=\"b {class}\">{level}</span></h2><p>{connection}</p>",
        escaped(&resource.name)
    );
    if let Some(failed) = &resource.failed {
        note(html, &failed.reason, Some(&failed.advice), None);
    }
    for trouble in troubles(resource) {
        let reason = trouble.reason;
        let of = trouble
            .volume
            .map_or(String::new(), |v| format!("volume {}: ", v.volume));
        let text = format!("{of}{}: {}", trouble.about, reason.text);
        note(html, &text, reason.advice.as_deref(), reason.since());
    }
    if !resource.volumes.is_empty() {
        *html += "<table><tr><th>volume<th>role<th>disk<th>state<th>out of sync<th>written, read<th>sent, received</tr>";
        resource.volumes.iter().for_each(|v| row(html, v));
        *html += "</table>";
    }
    resource.handlers.iter().for_each(|run| handler(html, run));
}

fn note(html: &mut String, text: &str, advice: Option<&str>, since: Option<String>) {
    let _ = write!(html, "<div class=\"n\">{}", escaped(text));
    for more in [
        since.map(|since| format!("since {since}")),
        advice.map(str::to_owned),
    ] {
        if let Some(more) = more.filter(|more| !more.is_empty()) {
            let _ = write!(html, "<small>{}</small>", escaped(&more));
        }
    }
    *html += "</div>";
}

fn row(html: &mut String, v: &VolumeReport) {
    let pair = |own: String, peer: String| format!("{own} / {peer}");
    let role = |role: Role| role.to_string();
    let disk = |disk: DiskState| disk.to_string();
    let device = match &v.device {
        Some(device) => format!("{} ({})", v.volume, escaped(&device.display().to_string())),
        None => format!("{} (minor {})", v.volume, v.minor),
    };
    let mut state = v.cstate_word().to_owned();
    if let Some(sync) = &v.sync {
        let done = sync.done_permille;
        let _ = write!(
            state,
            " <progress max=\"1000\" value=\"{done}\"></progress> {}.{}% {}/s, {} s left",
            done / 10,
            done % 10,
            size(sync.rate_kib),
            sync.left_s
        );
    }
    let _ = write!(
        html,
        "<tr><td>{device}<td>{}<td>{}<td>{state}<td>{}<td>{}<td>{}</tr>",
        pair(role(v.role), role(v.peer_role)),
        pair(disk(v.disk), disk(v.peer_disk)),
        size(v.out_of_sync_kib),
        pair(size(v.written_kib), size(v.read_kib)),
        pair(size(v.sent_kib), size(v.received_kib)),
    );
}

fn handler(html: &mut String, run: &HandlerReport) {
    let how = match run.exit {
        Some(exit) => format!("ended with {exit}"),
        None => "runs".to_owned(),
    };
    let _ = write!(
        html,
        "<p>handler {} of {}: {how}</p>",
        escaped(&run.name),
        escaped(&run.since())
    );
}

/// An amount in the unit that leaves it short.
fn size(kib: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = kib as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{kib} KiB")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// The text as HTML shows it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#39;",
            c if c.is_control() => html.push(' '),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use rdb_control::{ConnState, ResourceReport};

    use super::*;
    use rdb_control::samples::{good_volume, node, reason, resource};

    fn html(resources: Vec<ResourceReport>) -> String {
        let report = node(resources);
        page(Seen {
            report: &report,
            version: "1.2.3",
        })
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let mut broken = resource("z", vec![good_volume()]);
        broken.connection = ConnState::StandAlone;
        broken.link_reason = Some(reason("split-brain", "both wrote"));
        let html = html(vec![resource("a", vec![good_volume()]), broken]);
        let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("no {text}"));
        assert!(at("<h2>z ") < at("<h2>a "));
        assert!(html.contains("connection: both wrote"));
        assert!(html.contains("since 2026-11-28T14:52:10Z"));
        assert!(html.contains("<span class=\"b ok\">OK</span>"));
    }

    #[test]
    fn no_text_becomes_markup() {
        let name = "<script>alert('x')</script>";
        let html = html(vec![resource(name, vec![good_volume()])]);
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;"));
    }

    #[test]
    fn amounts_are_short() {
        for (kib, text) in [
            (0, "0 KiB"),
            (1023, "1023 KiB"),
            (1024, "1.0 MiB"),
            (u64::MAX, "16777216.0 PiB"),
        ] {
            assert_eq!(size(kib), text);
        }
    }
}
