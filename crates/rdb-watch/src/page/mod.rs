//! The page: all resources of a node at a glance, what is wrong first. It is whole without its script, and reads itself anew then; with
//! it a browser changes what has changed, and says so if the daemon is gone.

mod graph;

use std::fmt::Write;

use rdb_control::{DiskState, HandlerReport, ResourceReport, Role, VolumeReport};

use crate::check::{Level, check};
use crate::{Courses, Seen, connection_word, troubles};

/// Seconds until a browser without scripts reads the page anew.
const REFRESH_S: u32 = 5;

const STYLE: &str = include_str!("style.css");

/// What keeps the page in a browser as the node is; the page asks for it by [`PAGE_SCRIPT`]'s path, `/page.js`.
pub const PAGE_SCRIPT: &str = include_str!("follow.js");

/// So many resources are shown whole; of more, those that are well are a line each until somebody opens them.
const WHOLE_MAX: usize = 4;

/// The page, as HTML, with graphs of what is known of the last minutes.
pub fn page(seen: Seen<'_>, courses: &Courses) -> String {
    let node = escaped(&seen.report.node);
    let mut resources: Vec<(&ResourceReport, Level)> = seen
        .report
        .resources
        .iter()
        .map(|r| (r, level_of(seen, r)))
        .collect();
    resources.sort_by(|(a, bad), (b, worse)| worse.cmp(bad).then(a.name.cmp(&b.name)));
    let worst = resources.first().map_or(Level::Ok, |(_, level)| *level);
    let title = match worst {
        Level::Ok => format!("rdb on {node}"),
        worse => format!("{worse}: rdb on {node}"),
    };
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <noscript><meta http-equiv=\"refresh\" content=\"{REFRESH_S}\"></noscript>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><link rel=\"icon\" href=\"{}\">\
         <style>{STYLE}</style><script src=\"/page.js\" defer></script></head><body>\
         <p id=\"gone\" role=\"alert\" hidden></p><main><h1>rdb on {node}</h1>",
        icon(worst)
    );
    match resources.len() {
        0 => html += "<p>No resource is up.</p>",
        1 => {}
        _ => html += &format!("<p>{}</p>", numbers(&resources)),
    }
    let is_whole = resources.len() <= WHOLE_MAX;
    for (resource, level) in resources {
        section(&mut html, resource, level, is_whole, courses);
    }
    let version = escaped(seen.version);
    // A string takes everything.
    let _ = writeln!(
        html,
        "</main><footer>rdb {version} · <a href=\"/status.json\">status.json</a> · <a href=\"/metrics\">metrics</a></footer></body></html>"
    );
    html
}

/// How many resources are how.
fn numbers(resources: &[(&ResourceReport, Level)]) -> String {
    let number = |level: Level| resources.iter().filter(|(_, of)| *of == level).count();
    let all = [Level::Critical, Level::Warning, Level::Unknown, Level::Ok];
    let words = all.into_iter().map(|level| (number(level), level));
    let words = words.filter(|(number, _)| *number > 0);
    let words = words.map(|(number, level)| format!("{number} {}", class(level)));
    words.collect::<Vec<String>>().join(", ")
}

/// How a level is called where it has a colour.
fn class(level: Level) -> String {
    level.to_string().to_lowercase()
}

/// What a browser shows beside the title: a disc in the colour of the worst.
fn icon(worst: Level) -> String {
    let colour = match worst {
        Level::Ok => "2a7d3f",
        Level::Warning => "a86500",
        Level::Critical | Level::Unknown => "b3261e",
    };
    format!(
        "data:image/svg+xml,%3Csvg xmlns=%27http://www.w3.org/2000/svg%27 viewBox=%270 0 8 8%27%3E\
         %3Ccircle cx=%274%27 cy=%274%27 r=%274%27 fill=%27%23{colour}%27/%3E%3C/svg%3E"
    )
}

fn level_of(seen: Seen<'_>, resource: &ResourceReport) -> Level {
    check(seen.report, std::slice::from_ref(&resource.name)).level
}

fn section(
    html: &mut String,
    resource: &ResourceReport,
    level: Level,
    is_whole: bool,
    courses: &Courses,
) {
    let class = class(level);
    let open = match is_whole || level != Level::Ok {
        true => " open",
        false => "",
    };
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
        "<details id=\"{name}\"{open}><summary><h2>{name} <span class=\"b {class}\">{level}</span></h2> {connection}</summary>",
        name = escaped(&resource.name)
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
        *html += "<div class=\"t\"><table><tr><th>volume<th>role<th>disk<th>state<th>out of sync<th>written, read<th>sent, received</tr>";
        resource.volumes.iter().for_each(|v| row(html, v));
        *html += "</table></div>";
    }
    for volume in &resource.volumes {
        if let Some(series) = courses.of(volume.minor) {
            graph::of_volume(html, volume, series);
        }
    }
    resource.handlers.iter().for_each(|run| handler(html, run));
    *html += "</details>";
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
        let mut courses = Courses::default();
        courses.note(0, &report);
        let seen = Seen {
            report: &report,
            version: "1.2.3",
        };
        page(seen, &courses)
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
    fn of_many_resources_those_that_are_well_are_a_line() {
        let named = |name: &str| resource(name, vec![good_volume()]);
        let few = html(vec![named("a"), named("b")]);
        assert_eq!(few.matches(" open>").count(), 2);
        assert!(few.contains("<p>2 ok</p>"), "{few}");
        assert!(few.contains("<title>rdb on alice</title>"));
        let mut broken = named("c");
        broken.connection = ConnState::StandAlone;
        let mut all: Vec<ResourceReport> = ["a", "b", "d", "e"].map(named).to_vec();
        all.push(broken);
        let many = html(all);
        assert!(many.contains("<p>1 critical, 4 ok</p>"), "{many}");
        assert!(many.contains("<title>CRITICAL: rdb on alice</title>"));
        assert_eq!(many.matches(" open>").count(), 1);
        assert!(many.contains("<details id=\"c\" open>"));
    }

    #[test]
    fn no_text_becomes_markup() {
        let name = "<script>alert('x')</script>";
        let html = html(vec![resource(name, vec![good_volume()])]);
        assert_eq!(html.matches("<script").count(), 1, "{html}");
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
