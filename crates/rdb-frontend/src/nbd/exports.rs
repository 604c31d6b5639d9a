//! The names a resource's volumes have for NBD clients.

use crate::DeviceInfo;

/// One volume, served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// DRBD's volume number.
    pub volume: u32,
    /// What it can do now.
    pub info: DeviceInfo,
}

/// The volumes of one resource, by name. Kept up to date by the caller and lent to every
/// [`advance`](super::Session::advance), so that a resize or a change to read-only is seen by open
/// connections too (the limits are checked against the new state; clients learn it when they reconnect).
///
/// A volume is called `RESOURCE/VOLUME` or `VOLUME`; `RESOURCE` and the empty name mean the lowest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exports {
    resource: String,
    /// Sorted by volume.
    list: Vec<Export>,
}

impl Exports {
    /// A resource without volumes.
    pub fn new(resource: impl Into<String>) -> Self {
        Self {
            resource: resource.into(),
            list: Vec::new(),
        }
    }

    /// The resource's name.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Adds a volume, or replaces what is known of it.
    pub fn set(&mut self, volume: u32, info: DeviceInfo) {
        match self
            .list
            .binary_search_by_key(&volume, |export| export.volume)
        {
            Ok(index) => self.list[index].info = info,
            Err(index) => self.list.insert(index, Export { volume, info }),
        }
    }

    /// Forgets a volume. Requests for it are refused from now on ([`Errno::Shutdown`](crate::Errno::Shutdown)).
    pub fn remove(&mut self, volume: u32) {
        self.list.retain(|export| export.volume != volume);
    }

    /// What is known of a volume.
    pub fn get(&self, volume: u32) -> Option<&Export> {
        // Nearly every resource has one volume, and volumes mostly count from zero.
        match self.list.first() {
            Some(first) if first.volume == volume => Some(first),
            _ => {
                let index = self
                    .list
                    .binary_search_by_key(&volume, |export| export.volume)
                    .ok()?;
                Some(&self.list[index])
            }
        }
    }

    /// The volume a client means by `name`.
    pub fn find(&self, name: &[u8]) -> Option<&Export> {
        if name.is_empty() || name == self.resource.as_bytes() && parse_volume(name).is_none() {
            return self.list.first();
        }
        let volume = match name.strip_prefix(self.resource.as_bytes()) {
            Some([b'/', volume @ ..]) => volume,
            _ => name,
        };
        self.get(parse_volume(volume)?)
    }

    /// The full name of a volume, as listed and in URIs.
    pub fn name_of(&self, export: &Export) -> String {
        format!("{}/{}", self.resource, export.volume)
    }

    /// All volumes, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Export> {
        self.list.iter()
    }
}

/// Decimal digits without sign or leading zero, so that every volume has one spelling.
fn parse_volume(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::info;
    use super::*;

    #[test]
    fn names_find_volumes() {
        let mut exports = Exports::new("r0");
        for volume in [3, 1, 2] {
            exports.set(volume, info());
        }
        for (name, volume) in [
            ("", Some(1)),
            ("r0", Some(1)),
            ("r0/1", Some(1)),
            ("r0/3", Some(3)),
            ("2", Some(2)),
            ("0", None),
            ("r0/", None),
            ("r0/01", None),
            ("r0/+1", None),
            ("r0/99999999999999999999", None),
            ("r01", None),
            ("r1/1", None),
            ("r0/1/", None),
        ] {
            let found = exports.find(name.as_bytes()).map(|export| export.volume);
            assert_eq!(found, volume, "{name:?}");
        }
        assert_eq!(exports.find(b"r0/\xff"), None);
        exports.remove(1);
        assert_eq!(exports.find(b"").map(|export| export.volume), Some(2));
        assert_eq!(exports.get(1), None);
    }

    #[test]
    fn a_resource_named_by_a_number_does_not_hide_a_volume() {
        let mut exports = Exports::new("2");
        exports.set(0, info());
        exports.set(2, info());
        assert_eq!(exports.find(b"2").map(|export| export.volume), Some(2));
        assert_eq!(exports.find(b"2/0").map(|export| export.volume), Some(0));
    }
}
