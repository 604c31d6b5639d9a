//! Scripts of `tests` that make hosts of their own in namespaces, and say `ok` for each step that went well.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::programs::{bounded, directory, tool};
use crate::scratch::Scratch;

/// How long one may take, in seconds.
const LIMIT_S: u32 = 280;

/// Runs `tests/SCRIPT` with the directory of rdb's programs, a fresh one, and these words; it has to say `ok` so many times: one that
/// leaves a step out is no better than one that fails. The programs that it needs are looked for first.
///
/// # Errors
/// A program that is missing, by its name; what the script printed, if it fails or says something else.
pub fn cluster(script: &str, words: &[&str], programs: &[&str], oks: usize) -> Result<()> {
    for program in ["ip", "nsenter", "unshare"].iter().chain(programs) {
        tool(program)?;
    }
    let scratch = Scratch::new(&script.replace(['/', '.'], "-"))?;
    let output = bounded(LIMIT_S, "bash".as_ref())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
        .arg(directory()?)
        .arg(scratch.path())
        .args(words)
        .output()
        .with_context(|| format!("can not run {script}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let said = text.lines().filter(|line| line.starts_with("ok    "));
    ensure!(said.count() == oks, "{oks} steps were to go well:\n{text}");
    Ok(())
}
