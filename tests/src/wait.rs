//! Waiting for something, never for ever.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks every 20 ms until the answer is yes.
///
/// # Errors
/// When the time is over, with `what` and the last error that asking gave.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let last = match ask() {
            Ok(true) => return Ok(()),
            Ok(false) => String::new(),
            Err(error) => format!("; last: {error:#}"),
        };
        if start.elapsed() > limit {
            bail!("waited {limit:?} for {what}{last}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
