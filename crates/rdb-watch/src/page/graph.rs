//! What a volume has done in the last minutes, as small pictures.

use std::fmt::Write;

use rdb_control::VolumeReport;

use super::size;
use crate::{Figure, SAMPLES, Series};

/// Columns of a graph: one for two samples.
const COLUMNS: usize = SAMPLES / 2;
/// Its height, in steps.
const HEIGHT: f64 = 24.0;

/// A graph for each figure that was not nothing all the time.
pub(super) fn of_volume(html: &mut String, volume: &VolumeReport, series: &Series) {
    let rate = |kib: f64| format!("{}/s", size(kib.round() as u64));
    let number = |value: f64| format!("{value:.0}");
    let per_second = |value: f64| format!("{value:.1}/s");
    let time = |ms: f64| format!("{ms:.2} ms");
    let sync = match volume.sync.as_ref().is_some_and(|s| s.verify.is_some()) {
        true => "verify",
        false => "resync",
    };
    type Shown<'a> = (&'a str, Figure, &'a dyn Fn(f64) -> String);
    let shown: [Shown<'_>; 10] = [
        (sync, Figure::Sync, &rate),
        ("sent", Figure::Sent, &rate),
        ("received", Figure::Received, &rate),
        ("written", Figure::Written, &rate),
        ("read", Figure::Read, &rate),
        ("requests", Figure::Requests, &number),
        ("activity log, writes", Figure::ActivityLog, &per_second),
        ("waiting", Figure::Waiting, &time),
        ("own disk", Figure::OwnDisk, &time),
        ("peer", Figure::Peer, &time),
    ];
    let mut graphs = String::new();
    for (word, figure, print) in shown {
        let peak = series.peak(figure);
        if peak > 0.0 {
            let now = series.now(figure).map_or("-".to_owned(), print);
            let (path, most) = (path(&series.columns(figure, COLUMNS), peak), print(peak));
            // A string takes everything.
            let _ = write!(
                graphs,
                "<figure><figcaption>{word} <b>{now}</b>, at most {most}</figcaption>\
                 <svg role=\"img\" aria-label=\"{word}: now {now}, at most {most}\" viewBox=\"0 0 {COLUMNS} {HEIGHT}\" \
                 preserveAspectRatio=\"none\"><path d=\"{path}\"/></svg></figure>"
            );
        }
    }
    if !graphs.is_empty() {
        let (number, minutes) = (volume.volume, SAMPLES / 60);
        let _ = write!(
            html,
            "<div class=\"g\"><h3>volume {number}, the last {minutes} min</h3>{graphs}</div>"
        );
    }
}

/// Columns as high as their value is beside the peak; none where nothing is known.
fn path(columns: &[Option<f64>], peak: f64) -> String {
    let mut path = String::new();
    for (x, value) in columns.iter().enumerate() {
        let height = value.map_or(0.0, |value| value / peak * HEIGHT);
        if height > 0.0 {
            // What is there at all is seen.
            let top = (HEIGHT - height.max(1.0)).max(0.0);
            let _ = write!(path, "M{x} {HEIGHT}V{top:.1}h1V{HEIGHT}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use rdb_control::samples::good_volume;

    use super::*;

    #[test]
    fn what_was_done_has_a_graph_and_what_was_not_has_none() {
        let mut series = Series::default();
        let mut volume = good_volume();
        volume.application_pending = 0;
        let mut html = String::new();
        for second in 0..4 {
            of_volume(&mut html, &volume, &series);
            assert_eq!(html, "");
            series.add(second * 1000, &volume);
        }
        volume.sent_kib += 2048;
        series.add(4000, &volume);
        of_volume(&mut html, &volume, &series);
        assert_eq!(html.matches("<figure>").count(), 1, "{html}");
        assert!(
            html.contains("sent <b>2.0 MiB/s</b>, at most 2.0 MiB/s"),
            "{html}"
        );
        assert!(html.contains("d=\"M89 24V0.0h1V24\""), "{html}");
    }

    #[test]
    fn a_column_is_as_high_as_its_value() {
        assert_eq!(
            path(&[None, Some(0.0), Some(1.0), Some(0.001)], 2.0),
            "M2 24V12.0h1V24M3 24V23.0h1V24"
        );
    }
}
