//! The volumes of the resource, by their numbers.

use alloc::vec::Vec;

use crate::ids::VolumeNr;
use crate::router::volume::Volume;

/// The volumes of the resource, by their numbers. Changed by the commands that make and remove one. Every event looks up the same
/// volume a dozen times, and nearly all resources have few, numbered from 0: so they stand in a row, and the number is tried as the
/// place first.
pub(super) struct Volumes<P>(Vec<Volume<P>>);

impl<P> Volumes<P> {
    pub(super) const fn new() -> Self {
        Volumes(Vec::new())
    }

    /// Its place, or where it would stand.
    fn place(&self, nr: VolumeNr) -> Result<usize, usize> {
        let place = usize::from(nr.0);
        if self.0.get(place).is_some_and(|v| v.nr == nr) {
            return Ok(place);
        }
        self.0.binary_search_by_key(&nr, |v| v.nr)
    }

    pub(super) fn get(&self, nr: VolumeNr) -> Option<&Volume<P>> {
        let place = self.place(nr).ok()?;
        self.0.get(place)
    }

    pub(super) fn get_mut(&mut self, nr: VolumeNr) -> Option<&mut Volume<P>> {
        let place = self.place(nr).ok()?;
        self.0.get_mut(place)
    }

    pub(super) fn contains(&self, nr: VolumeNr) -> bool {
        self.place(nr).is_ok()
    }

    /// The number after this one, or the first: to walk the volumes while changing them, without a list.
    pub(super) fn next_nr(&self, after: Option<VolumeNr>) -> Option<VolumeNr> {
        let place = match after.map(|nr| self.place(nr)) {
            None => 0,
            Some(Ok(place)) => place + 1,
            Some(Err(place)) => place, // it went meanwhile
        };
        self.0.get(place).map(|v| v.nr)
    }

    /// Puts it in, in place of one of the same number.
    pub(super) fn insert(&mut self, volume: Volume<P>) {
        match self.place(volume.nr) {
            Ok(place) => self.0[place] = volume,
            Err(place) => self.0.insert(place, volume),
        }
    }

    pub(super) fn remove(&mut self, nr: VolumeNr) {
        if let Ok(place) = self.place(nr) {
            self.0.remove(place);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> core::slice::Iter<'_, Volume<P>> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> core::slice::IterMut<'_, Volume<P>> {
        self.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(volumes: &Volumes<()>) -> Vec<u16> {
        let mut at = volumes.next_nr(None);
        core::iter::from_fn(|| {
            let now = at?;
            at = volumes.next_nr(at);
            Some(now.0)
        })
        .collect()
    }

    #[test]
    fn a_volume_is_found_by_its_number_wherever_it_stands() {
        let mut volumes = Volumes::new();
        for nr in [7, 1, 65_534, 0] {
            volumes.insert(Volume::new(VolumeNr(nr), u32::from(nr)));
        }
        assert_eq!(numbers(&volumes), [0, 1, 7, 65_534]);
        for nr in [0, 1, 7, 65_534] {
            assert_eq!(
                volumes.get(VolumeNr(nr)).map(|v| v.minor),
                Some(u32::from(nr))
            );
        }
        assert!(!volumes.contains(VolumeNr(2)) && volumes.get_mut(VolumeNr(3)).is_none());
        volumes.remove(VolumeNr(0));
        volumes.remove(VolumeNr(2));
        assert_eq!(numbers(&volumes), [1, 7, 65_534]);
        assert_eq!(volumes.next_nr(Some(VolumeNr(0))), Some(VolumeNr(1)));
        assert_eq!(volumes.next_nr(Some(VolumeNr(65_534))), None);
        volumes.insert(Volume::new(VolumeNr(7), 8));
        assert_eq!(
            (volumes.len(), volumes.get(VolumeNr(7)).map(|v| v.minor)),
            (3, Some(8))
        );
    }
}
