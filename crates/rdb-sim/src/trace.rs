//! What happened, to be read: both nodes side by side.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::run::Outcome;
use crate::world::Line;

impl Outcome {
    /// A digest of what happened and when, and of how it ended. Two builds with the same standard library give the same one for a
    /// plan if their engines do the same in the same order: every I/O and every packet takes part in when things happen. Needs
    /// the transcript.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for line in &self.transcript {
            (line.at.0, line.node, &line.text).hash(&mut hasher);
        }
        (self.total_us, self.events).hash(&mut hasher);
        let failure = self.failure.as_ref();
        failure.map(|failure| &failure.text).hash(&mut hasher);
        hasher.finish()
    }
}

/// The last `most` lines, node a on the left and node b on the right, times in milliseconds since the start.
pub fn side_by_side(lines: &[Line], most: usize, width: usize) -> String {
    let mut out = String::new();
    let skipped = lines.len().saturating_sub(most);
    if skipped > 0 {
        let _ = writeln!(out, "({skipped} lines before these)");
    }
    let mut last = None;
    for line in &lines[skipped..] {
        // Two resources tell of the same step.
        if line.node == 2 && last == Some((line.at, &line.text)) {
            continue;
        }
        last = Some((line.at, &line.text));
        let us = (line.at.0.saturating_sub(1_000_000_000)) / 1000;
        let time = format!("{:>7}.{:03}", us / 1000, us % 1000);
        let text: Vec<char> = line.text.chars().collect();
        match line.node {
            2 => {
                let text: String = text.iter().take(2 * width).collect();
                let _ = writeln!(out, "{time} ==== {text}");
            }
            node => {
                for (n, part) in text.chunks(width).take(3).enumerate() {
                    let part: String = part.iter().collect();
                    let time = if n == 0 { time.as_str() } else { "" };
                    let (left, right) = if node == 0 {
                        (part.as_str(), "")
                    } else {
                        ("", part.as_str())
                    };
                    let row = format!("{time:>11} | {left:<width$} | {right}");
                    let _ = writeln!(out, "{}", row.trim_end());
                }
            }
        }
    }
    out
}
