//! Volumes and what stands in them: devices, disks, metadata. `docs/spec/admin.md`, section 1.5.

use super::{Parser, Step};
use crate::error::{Place, Problem, WarningKind};
use crate::lexer::{Kind, Token};
use crate::model::{Device, Disk, MetaDisk, Section, Volume};
use crate::options::OldSection;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const VOLUME_ITEMS: &str = "device | disk | meta-disk | flex-meta-disk | }";
/// The greatest minor number: 20 bits of a device number.
const MINOR_MAX: i64 = (1 << 20) - 1;
/// The greatest slot number; each slot is 128 MiB, so the limit is beyond any device.
pub(super) const META_INDEX_MAX: i64 = i32::MAX as i64;

impl Parser {
    /// `volume N {`, after the keyword.
    pub(super) fn volume(&mut self, key: &str) -> Step<Volume> {
        let place = self.place(&self.peek_raw().clone());
        let number = u16::try_from(self.integer_within("volume", 0, 65535)?).unwrap_or(0);
        self.open()?;
        let mut volume = new_volume(number, place, false);
        loop {
            let token = self.next()?;
            if token.is('}') {
                return Ok(volume);
            }
            let word = if token.kind == Kind::Word {
                token.text.as_str()
            } else {
                ""
            };
            match word {
                "device" | "disk" | "meta-disk" | "flexible-meta-disk" => {
                    let key = format!("{key}:{number}");
                    self.volume_item(&token, &mut volume, &key)?;
                }
                _ if token.is(';') => self.stray_semicolon(&token),
                "skip" => self.skip_in_resource(&token)?,
                _ => {
                    let words = ["device", "disk", "meta-disk", "flexible-meta-disk"];
                    let hint = crate::suggest::hint(word, words);
                    return self.expected(VOLUME_ITEMS, &token, &hint);
                }
            }
        }
    }

    /// Adds one to those of the owner; the volume 0 is the first of them, the others are in the file's order.
    pub(super) fn add_volume(
        &mut self,
        volumes: &mut Vec<Volume>,
        volume: Volume,
        key: &str,
        owner: &Place,
    ) {
        let key = format!("{key}:{}", volume.number);
        if let Some(first) = volumes.first()
            && (first.number, volume.number) == (0, 0)
        {
            let problem = Problem::Conflict {
                what: "volume section".to_owned(),
                key,
                first: first.place.to_string(),
            };
            self.wrong(volume.place.clone(), problem);
            return;
        }
        let owner = format!("{owner:?}");
        let place = volume.place.clone();
        if !self.only_once_in(&owner, "volume section", &key, place) {
            return;
        }
        if volume.number == 0 {
            volumes.insert(0, volume);
        } else {
            volumes.push(volume);
        }
    }

    /// `device`, `disk`, `meta-disk` or `flexible-meta-disk` of a volume, after the keyword.
    pub(super) fn volume_item(
        &mut self,
        token: &Token,
        volume: &mut Volume,
        key: &str,
    ) -> Step<()> {
        if token.text == "disk" && self.accept('{') {
            let sections = Arc::make_mut(&mut volume.sections);
            return self.option_section(OldSection::Now(Section::Disk), key, sections);
        }
        if !token.text.ends_with("meta-disk") {
            self.statement_once(token, key, &volume.place.clone());
        }
        let assigned = self.assignment(token);
        match token.text.as_str() {
            "device" => {
                let before = self.peek_raw().clone();
                volume.device = self.device(token)?;
                let name_alone =
                    self.at.checked_sub(1).and_then(|at| self.tokens.get(at)) == Some(&before);
                if name_alone && !assigned && !before.is(';') && !self.peek_raw().is(';') {
                    return self.missing_semicolon("minor | ;", Some(&before));
                }
                self.end_of_statement(assigned)
            }
            "disk" => {
                let value = self.next()?;
                if !value.is_text() {
                    return self.expected("TK_STRING | {", &value, "");
                }
                volume.disk = Some(if value.is_word("none") {
                    Disk::None
                } else {
                    Disk::Path(PathBuf::from(&value.text))
                });
                self.end_of_statement(assigned)
            }
            keyword => {
                let flexible = keyword == "flexible-meta-disk";
                let meta = self.meta_disk(flexible)?;
                self.set_again(token, &mut volume.meta, meta);
                self.end_of_statement(assigned)
            }
        }
    }

    fn meta_disk(&mut self, flexible: bool) -> Step<MetaDisk> {
        let value = self.text()?;
        // Quoted or not, it is the word: a device would be named by its path.
        if value.text == "internal" {
            return Ok(MetaDisk::Internal);
        }
        let path = PathBuf::from(&value.text);
        if flexible {
            return Ok(MetaDisk::Flexible(path));
        }
        if self.accept('[') {
            let index = self.integer_within("meta-index", 0, META_INDEX_MAX)?;
            let close = self.next()?;
            if !close.is(']') {
                return self.expected("]", &close, "");
            }
            return Ok(MetaDisk::Indexed(path, u32::try_from(index).unwrap_or(0)));
        }
        let next = self.peek_raw().clone();
        if !next.is(';') && next.line == value.line && !next.is('}') {
            return self.missing_semicolon("[ | ;", Some(&value));
        }
        Ok(MetaDisk::Flexible(path))
    }

    /// The name and the minor of a device; `None` when neither is given.
    fn device(&mut self, keyword: &Token) -> Step<Option<Device>> {
        let mut name = None;
        let mut place = self.place(keyword);
        if self.peek_raw().is_text() && !self.peek_raw().is_word("minor") {
            let token = self.next()?;
            place = self.place(&token);
            name = Some(token);
        }
        let mut explicit = None;
        if self.accept_word("minor") {
            let minor = self.integer_within("minor", 0, MINOR_MAX)?;
            explicit = Some(u32::try_from(minor).unwrap_or(0));
        }
        let Some(name) = name else {
            return Ok(explicit.map(|minor| Device {
                path: None,
                minor,
                old_name: false,
                place,
            }));
        };
        let base = name.text.strip_prefix("/dev/").unwrap_or(&name.text);
        if let Some(minor) = base.strip_prefix("nb").and_then(minor_number) {
            let text = format!(
                "/dev/nb{minor} is a name of DRBD 0.6; the device is /dev/drbd{minor}, and has that name, too"
            );
            self.warn(WarningKind::Deprecated, &name, text);
            return Ok(Some(Device {
                path: Some(format!("/dev/drbd{minor}").into()),
                minor,
                old_name: true,
                place,
            }));
        }
        let Some(rest) = base.strip_prefix("drbd") else {
            self.wrong(place.clone(), Problem::DeviceName);
            let second = if explicit.is_some() {
                Problem::ArbitraryDeviceName
            } else {
                Problem::NoMinor
            };
            self.wrong(place.clone(), second);
            return Ok(Some(Device {
                path: None,
                minor: explicit.unwrap_or(0),
                old_name: false,
                place,
            }));
        };
        let minor = match (minor_number(rest), explicit) {
            (Some(named), None) => named,
            (Some(named), Some(minor)) => {
                if named != minor {
                    self.wrong(place.clone(), Problem::MinorMismatch { minor });
                }
                minor
            }
            (None, Some(minor)) => {
                if !rest.starts_with('_') || rest.contains("..") {
                    self.wrong(place.clone(), Problem::ArbitraryDeviceName);
                }
                minor
            }
            (None, None) => {
                self.wrong(place.clone(), Problem::NoMinor);
                0
            }
        };
        Ok(Some(Device {
            path: Some(PathBuf::from(format!("/dev/{base}"))),
            minor,
            old_name: false,
            place,
        }))
    }
}

/// A minor number as the end of a device's name.
fn minor_number(digits: &str) -> Option<u32> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits
        .parse()
        .ok()
        .filter(|&minor| i64::from(minor) <= MINOR_MAX)
}

fn new_volume(number: u16, place: Place, implicit: bool) -> Volume {
    Volume {
        number,
        place,
        implicit,
        device: None,
        disk: None,
        meta: None,
        sections: Arc::default(),
    }
}

/// The volume 0 that statements outside of `volume {}` speak of. It is the first wherever there is one.
pub(super) fn implicit_volume(volumes: &mut Vec<Volume>, place: Place) -> &mut Volume {
    if volumes.first().is_none_or(|v| v.number != 0) {
        volumes.insert(0, new_volume(0, place, true));
    }
    &mut volumes[0]
}

/// Gives a host's volumes what they do not say themselves.
pub(super) fn fill(volumes: &mut Vec<Volume>, templates: &[Volume]) {
    let places: BTreeMap<u16, usize> = (volumes.iter().enumerate())
        .map(|(at, volume)| (volume.number, at))
        .collect();
    for template in templates {
        match places.get(&template.number) {
            Some(&at) => fill_one(&mut volumes[at], template),
            None => volumes.push(template.clone()),
        }
    }
}

fn fill_one(volume: &mut Volume, template: &Volume) {
    volume.device = volume.device.take().or_else(|| template.device.clone());
    volume.disk = volume.disk.take().or_else(|| template.disk.clone());
    volume.meta = volume.meta.take().or_else(|| template.meta.clone());
    if volume.sections.is_empty() {
        volume.sections = Arc::clone(&template.sections);
    } else if !template.sections.is_empty() {
        Arc::make_mut(&mut volume.sections).inherit(&template.sections);
    }
}
