//! What the runs reached: packets, state transitions, rules of the generation comparison, faults.

use std::collections::BTreeMap;
use std::fmt;

use rdb_engine::state::{ConnState, DiskState, Role, VolumeState};
use replica_proto::Command;

/// Counts, by what was reached. Adding two gives what either reached.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    packets: BTreeMap<(u8, u16), u64>,
    conns: BTreeMap<(u8, u8), u64>,
    disks: BTreeMap<(u8, u8), u64>,
    peers: BTreeMap<(u8, u8), u64>,
    roles: BTreeMap<(u8, u8), u64>,
    rules: BTreeMap<u32, u64>,
    names: BTreeMap<&'static str, u64>,
}

/// What is counted, how often by pair, and the name of each half.
type CountedPairs<'a> = (
    &'a str,
    &'a BTreeMap<(u8, u8), u64>,
    &'a dyn Fn(u8) -> &'static str,
);

impl Coverage {
    pub(crate) fn packet(&mut self, node: usize, command: Command) {
        *self
            .packets
            .entry((node as u8, command as u16))
            .or_default() += 1;
    }

    pub(crate) fn transition(&mut self, old: VolumeState, new: VolumeState) {
        let pairs = [
            (&mut self.conns, old.conn as u8, new.conn as u8),
            (&mut self.disks, old.disk as u8, new.disk as u8),
            (&mut self.peers, old.pdsk as u8, new.pdsk as u8),
            (&mut self.roles, old.role as u8, new.role as u8),
        ];
        for (map, old, new) in pairs {
            if old != new {
                *map.entry((old, new)).or_default() += 1;
            }
        }
    }

    /// Looks for `uuid_compare()=… by rule N`.
    pub(crate) fn log_line(&mut self, text: &str) {
        if let Some(rule) = text.strip_prefix("uuid_compare()=")
            && let Some((_, rule)) = rule.rsplit_once(' ')
            && let Ok(rule) = rule.parse()
        {
            *self.rules.entry(rule).or_default() += 1;
        }
    }

    /// A fault, a command, or something else with a name.
    pub(crate) fn hit(&mut self, name: &'static str) {
        *self.names.entry(name).or_default() += 1;
    }

    /// Counts of both.
    pub fn add(&mut self, other: &Coverage) {
        fn sum<K: Ord + Copy>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
            for (&key, count) in from {
                *to.entry(key).or_default() += count;
            }
        }
        sum(&mut self.packets, &other.packets);
        sum(&mut self.conns, &other.conns);
        sum(&mut self.disks, &other.disks);
        sum(&mut self.peers, &other.peers);
        sum(&mut self.roles, &other.roles);
        sum(&mut self.rules, &other.rules);
        sum(&mut self.names, &other.names);
    }

    /// How often a thing was reached, by the name under which [`Coverage`] prints it.
    pub fn count(&self, name: &str) -> u64 {
        let lines = self.lines();
        lines.iter().find(|(n, _)| n == name).map_or(0, |(_, c)| *c)
    }

    /// Everything reached, by name.
    pub fn lines(&self) -> Vec<(String, u64)> {
        let mut out = Vec::new();
        for (&(node, code), &count) in &self.packets {
            let name = Command::from_code(code).map_or("?", Command::name);
            out.push((
                format!("packet {} {name}", ["a", "b"][usize::from(node)]),
                count,
            ));
        }
        let conn = |n: u8| ConnState::from_number(n.into()).map_or("?", ConnState::as_str);
        let disk = |n: u8| DiskState::from_number(n.into()).map_or("?", DiskState::as_str);
        let role = |n: u8| Role::from_number(n.into()).map_or("?", Role::as_str);
        let maps: [CountedPairs<'_>; 4] = [
            ("conn", &self.conns, &conn),
            ("disk", &self.disks, &disk),
            ("pdsk", &self.peers, &disk),
            ("role", &self.roles, &role),
        ];
        for (what, map, name) in maps {
            for (&(old, new), &count) in map {
                out.push((format!("{what} {} -> {}", name(old), name(new)), count));
            }
        }
        for (rule, &count) in &self.rules {
            out.push((format!("rule {rule}"), count));
        }
        for (name, &count) in &self.names {
            out.push(((*name).to_string(), count));
        }
        out
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.lines() {
            writeln!(f, "{count:>12}  {name}")?;
        }
        Ok(())
    }
}
