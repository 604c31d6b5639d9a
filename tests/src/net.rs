//! Two hosts on one machine: network namespaces with a cable between them.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::programs::{run_tool, tool};

/// Two namespaces, `.1` and `.2` of a private network, joined by a veth pair.
#[derive(Debug)]
pub struct Cable {
    namespaces: [String; 2],
}

/// How a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The cable is pulled: the interface goes down.
    LinkDown,
    /// Packets vanish in both directions.
    Silent,
    /// Packets from the first node to the second vanish.
    OneWay,
}

impl Cable {
    /// The address of the first (0) or second (1) node.
    #[must_use]
    pub fn address(&self, node: usize) -> String {
        format!("10.77.0.{}:7789", node + 1)
    }

    /// The namespace of the first (0) or second (1) node.
    #[must_use]
    pub fn namespace(&self, node: usize) -> &str {
        &self.namespaces[node]
    }

    /// Makes namespaces and cable.
    ///
    /// # Errors
    /// When `ip` or `nft` is missing or fails; needs root.
    pub fn new() -> Result<Self> {
        tool("nft")?;
        remove_forsaken();
        let id = std::process::id();
        let unique = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |age| age.subsec_micros());
        let cable = Self {
            namespaces: [
                format!("rdb-a-{id}-{unique}"),
                format!("rdb-b-{id}-{unique}"),
            ],
        };
        let [a, b] = &cable.namespaces;
        for namespace in [a, b] {
            run_tool(30, "ip", &["netns", "add", namespace])?;
            run_tool(30, "ip", &["-n", namespace, "link", "set", "lo", "up"])?;
        }
        let veth = [
            "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b,
        ];
        run_tool(30, "ip", &[&["-n", a.as_str()], &veth[..]].concat())?;
        for (index, namespace) in [a, b].into_iter().enumerate() {
            let address = format!("10.77.0.{}/24", index + 1);
            run_tool(
                30,
                "ip",
                &["-n", namespace, "addr", "add", &address, "dev", "eth0"],
            )?;
            run_tool(30, "ip", &["-n", namespace, "link", "set", "eth0", "up"])?;
        }
        Ok(cable)
    }

    /// Cuts the link.
    ///
    /// # Errors
    /// When `ip` or `nft` fails.
    pub fn cut(&self, how: Cut) -> Result<()> {
        let [a, b] = &self.namespaces;
        match how {
            Cut::LinkDown => {
                run_tool(30, "ip", &["-n", b, "link", "set", "eth0", "down"])?;
            }
            Cut::Silent => {
                drop_all(a, "input")?;
                drop_all(b, "input")?;
            }
            Cut::OneWay => drop_all(b, "input")?,
        }
        Ok(())
    }

    /// Takes every cut back.
    ///
    /// # Errors
    /// When `ip` or `nft` fails.
    pub fn heal(&self) -> Result<()> {
        for namespace in &self.namespaces {
            run_tool(
                30,
                "ip",
                &["netns", "exec", namespace, "nft", "flush", "ruleset"],
            )?;
            run_tool(30, "ip", &["-n", namespace, "link", "set", "eth0", "up"])?;
        }
        Ok(())
    }
}

/// Removes the namespaces of tests that were killed: their process is no more.
fn remove_forsaken() {
    for entry in std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut words = name.split('-');
        let ours = words.next() == Some("rdb") && matches!(words.next(), Some("a" | "b"));
        let Some(Ok(pid)) = words.next().map(str::parse::<u32>) else {
            continue;
        };
        if ours && !Path::new(&format!("/proc/{pid}")).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

fn drop_all(namespace: &str, hook: &str) -> Result<()> {
    let rules = format!(
        "add table inet cut; add chain inet cut c {{ type filter hook {hook} priority 0; }}; \
         add rule inet cut c iifname eth0 drop"
    );
    let status = Command::new("ip")
        .args(["netns", "exec", namespace, "nft", &rules])
        .output()?;
    if !status.status.success() {
        bail!(
            "nft in {namespace}: {}",
            String::from_utf8_lossy(&status.stderr)
        );
    }
    Ok(())
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .output();
        }
    }
}

/// Two addresses of the loopback network that no other test uses: `127.X.Y.1` and `127.X.Y.2`; of further pairs of the
/// same test `127.X.Y.3` and `127.X.Y.4`, and so on.
#[must_use]
pub fn loopback_pair(number: u8) -> [String; 2] {
    let id = std::process::id();
    let (x, y) = (id >> 8 & 0xff, id & 0xff);
    // 127.0.0.0/24 is left to others.
    let x = if x == 0 { 200 } else { x };
    [1, 2].map(|node| format!("127.{x}.{y}.{}:7789", 2 * u16::from(number) + node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_until;
    use std::time::Duration;

    fn ping(cable: &Cable) -> bool {
        // No ping program is asked for: a connection to a closed port is refused at once where
        // the link works, and times out where it does not.
        let probe = "import socket,sys\ns=socket.socket();s.settimeout(0.5)\n\
try: s.connect(('10.77.0.2',9))\nexcept ConnectionRefusedError: sys.exit(0)\n\
except OSError: sys.exit(1)";
        Command::new("ip")
            .args(["netns", "exec", cable.namespace(0), "python3", "-c", probe])
            .output()
            .is_ok_and(|output| output.status.success())
    }

    #[test]
    fn a_cable_can_be_cut_and_healed_in_every_way() -> Result<()> {
        let cable = Cable::new()?;
        let limit = Duration::from_secs(10);
        wait_until("the link", limit, || Ok(ping(&cable)))?;
        for how in [Cut::LinkDown, Cut::Silent, Cut::OneWay] {
            cable.cut(how)?;
            assert!(!ping(&cable), "{how:?}");
            cable.heal()?;
            wait_until("the link", limit, || Ok(ping(&cable)))?;
        }
        Ok(())
    }
}
