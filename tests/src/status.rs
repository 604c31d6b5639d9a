//! Reading the status file (`docs/spec/admin.md`, section 5.1).

use anyhow::{Context, Result, bail};

/// The device line and counters of one volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Minor number.
    pub minor: u32,
    /// Connection state.
    pub cs: String,
    /// Own and the peer's role, `Primary/Secondary`.
    pub ro: String,
    /// Own and the peer's disk state, `UpToDate/UpToDate`.
    pub ds: String,
    /// The protocol's letter, `C`.
    pub protocol: String,
    /// The letters of what holds I/O or resync back, `r-----`; the first is `s` while I/O is suspended.
    pub held: String,
    /// KiB sent to the peer.
    pub ns: u64,
    /// KiB received from the peer.
    pub nr: u64,
    /// KiB written to the local disk.
    pub dw: u64,
    /// KiB read from the local disk.
    pub dr: u64,
    /// Writes of the activity log.
    pub al: u64,
    /// Writes of the bitmap.
    pub bm: u64,
    /// Local requests in flight.
    pub lo: u64,
    /// Answers awaited from the peer.
    pub pe: u64,
    /// Application requests in flight.
    pub ap: u64,
    /// KiB out of sync.
    pub oos: u64,
    /// Tenths of a percent, while a resync runs.
    pub synced_permille: Option<u32>,
    /// The line that follows the progress bar.
    pub finish: Option<String>,
    /// The bar itself, with its numbers.
    pub bar: Option<String>,
}

impl Volume {
    /// Users' I/O waits for something that somebody has to end.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.held.starts_with('s')
    }

    /// Connected, and both disks UpToDate.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.cs == "Connected" && self.ds == "UpToDate/UpToDate"
    }
}

/// All volumes of a status file.
///
/// # Errors
/// When a line is not of the 8.4 format.
pub fn parse(text: &str) -> Result<Vec<Volume>> {
    let mut lines = text.lines().peekable();
    let version = lines.next().unwrap_or_default();
    if !version.starts_with("version: ") {
        bail!("the status file begins with {version:?}");
    }
    let mut volumes: Vec<Volume> = Vec::new();
    for line in lines {
        if let Some((minor, rest)) = device_line(line) {
            volumes.push(volume(minor, rest).with_context(|| line.to_owned())?);
        } else if line.trim_start().starts_with("ns:") {
            let volume = volumes.last_mut().context("counters before any device")?;
            counters(volume, line).with_context(|| line.to_owned())?;
        } else if line.starts_with("\t[") {
            let volume = volumes
                .last_mut()
                .context("a progress bar before any device")?;
            volume.bar = Some(line.trim().to_owned());
            volume.synced_permille = Some(permille(line).with_context(|| line.to_owned())?);
        } else if line.starts_with("\tfinish:") {
            let volume = volumes
                .last_mut()
                .context("a progress line before any device")?;
            volume.finish = Some(line.trim().to_owned());
        }
    }
    Ok(volumes)
}

fn device_line(line: &str) -> Option<(u32, &str)> {
    let (minor, rest) = line.split_once(':')?;
    Some((minor.trim().parse().ok()?, rest))
}

fn volume(minor: u32, rest: &str) -> Result<Volume> {
    let mut volume = Volume {
        minor,
        ..Volume::default()
    };
    for word in rest.split_whitespace() {
        match word.split_once(':') {
            Some(("cs", value)) => value.clone_into(&mut volume.cs),
            Some(("ro", value)) => value.clone_into(&mut volume.ro),
            Some(("ds", value)) => value.clone_into(&mut volume.ds),
            None if word.len() == 1 => word.clone_into(&mut volume.protocol),
            None if word.len() == 6 => word.clone_into(&mut volume.held),
            _ => {}
        }
    }
    if volume.cs.is_empty() {
        bail!("no connection state");
    }
    Ok(volume)
}

fn counters(volume: &mut Volume, line: &str) -> Result<()> {
    for word in line.split_whitespace() {
        let (key, value) = word
            .split_once(':')
            .with_context(|| format!("no counter: {word}"))?;
        let field = match key {
            "ns" => &mut volume.ns,
            "nr" => &mut volume.nr,
            "dw" => &mut volume.dw,
            "dr" => &mut volume.dr,
            "al" => &mut volume.al,
            "bm" => &mut volume.bm,
            "lo" => &mut volume.lo,
            "pe" => &mut volume.pe,
            "ap" => &mut volume.ap,
            "oos" => &mut volume.oos,
            "ua" | "ep" | "wo" => continue,
            _ => bail!("unknown counter {key}"),
        };
        *field = value.parse().with_context(|| format!("{key} is {value}"))?;
    }
    Ok(())
}

/// `sync'ed: 42.0% (…)`.
fn permille(line: &str) -> Result<u32> {
    let percent = line.split('%').next().unwrap_or_default();
    let number = percent.rsplit(':').next().unwrap_or_default().trim();
    let (whole, tenth) = number.split_once('.').context("no percentage")?;
    Ok(whole.trim().parse::<u32>()? * 10 + tenth.parse::<u32>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_status_file_is_read() -> Result<()> {
        let text = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 637677C4EAFCF5D1D5446B0 \n \
0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----\n    \
ns:5 nr:1 dw:0 dr:90112 al:8 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:958396\n\
\t[>...................] sync'ed:  9.0% (958396/1048508)K\n\
\tfinish: 0:00:21 speed: 45,056 (45,056) K/sec\n 3: cs:Unconfigured\n";
        let volumes = parse(text)?;
        assert_eq!(volumes.len(), 2);
        assert_eq!(volumes[0].cs, "SyncSource");
        assert_eq!(volumes[0].ds, "UpToDate/Inconsistent");
        assert_eq!(volumes[0].protocol, "C");
        assert_eq!(volumes[0].held, "r-----");
        assert_eq!((volumes[0].ns, volumes[0].oos), (5, 958_396));
        assert_eq!(volumes[0].synced_permille, Some(90));
        assert_eq!(
            (volumes[1].minor, volumes[1].cs.as_str()),
            (3, "Unconfigured")
        );
        Ok(())
    }

    #[test]
    fn another_text_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("version: 8.4.11\n 0: ro:Primary/Secondary\n").is_err());
        assert!(parse("version: 8.4.11\n 0: cs:Connected\n    ns:1 xx:2\n").is_err());
    }
}
