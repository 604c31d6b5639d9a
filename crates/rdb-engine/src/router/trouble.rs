//! What went wrong is noted, and told.

use alloc::format;
use alloc::string::{String, ToString};

use crate::effect::{AdminError, Level};
use crate::event::{Hindrance, Payload};
use crate::ids::{Time, VolumeNr};
use crate::net::settings::PeerSettings;
use crate::router::Resource;
use crate::router::volume::Volume;
use crate::rules::disk_reason::{self, Lost};
use crate::rules::resync_reason::Limit;
use crate::rules::trouble::Trouble;
use crate::state::{ConnState, DiskState, Role, VolumeState};
use crate::status::{DiskTrouble, LinkTrouble};
use crate::trouble::DiskLost;

impl<P: Payload> Resource<P> {
    /// Remembers why there is no connection, unless more is known already.
    pub(super) fn trouble(&mut self, kind: Trouble, text: impl Into<String>) {
        self.net.troubles.note(kind, text.into(), self.now);
    }

    /// The same for a connection that breaks: what was said of it in this event says why.
    pub(super) fn trouble_of_loss(&mut self, teardown: ConnState) {
        if !self.net.link.has_sockets() {
            return;
        }
        let kind = match teardown {
            ConnState::TearDown => Trouble::DisconnectedByPeer,
            ConnState::ProtocolError => Trouble::Broken,
            _ if self.net.link.is_fruitful() => Trouble::Lost,
            _ => Trouble::RefusedByPeer,
        };
        let text = match (&self.said, kind) {
            (_, Trouble::DisconnectedByPeer) => "the peer has disconnected".to_string(),
            (Some((_, said)), _) => said.clone(),
            (None, Trouble::RefusedByPeer) => {
                "the peer ended the connection before it came to something".to_string()
            }
            (None, _) => "the peer ended the connection".to_string(),
        };
        self.trouble(kind, text);
    }

    /// The driver says what is in the way of a pair. It goes on trying; the log hears of each reason once.
    pub(super) fn on_pairing_hindered(&mut self, hindrance: Option<Hindrance>) {
        if !self.net.link.is_pairing() {
            return;
        }
        match hindrance {
            None => {
                if self.net.troubles.end(Trouble::OwnAddress) {
                    self.log(Level::Info, "the own address can be used now");
                }
            }
            Some(Hindrance::OwnAddress { reason }) => {
                if !self.net.troubles.says(Trouble::OwnAddress, &reason) {
                    let connect_int = self.net.options.as_ref().map_or(10, |o| o.connect_int_s);
                    let text =
                        format!("cannot connect: {reason}; trying again every {connect_int} s");
                    self.log(Level::Error, text);
                }
                self.trouble(Trouble::OwnAddress, reason);
            }
            Some(Hindrance::NoAnswer { reason }) => self.trouble(Trouble::NoAnswer, reason),
        }
    }

    /// There is a pair, so there was a way to it.
    pub(super) fn own_address_serves(&mut self) {
        self.net.troubles.end(Trouble::OwnAddress);
    }

    /// A state has changed: what it makes of what is remembered.
    pub(super) fn note_trouble(&mut self, nr: VolumeNr, old: VolumeState, new: VolumeState) {
        if new.conn >= ConnState::Connected {
            self.net.troubles.clear();
            self.net.link.bear_fruit();
        }
        let since = self.now;
        let said = self.said.as_ref().map(|(_, said)| said.clone());
        let fresh = self.volume(nr).is_fresh();
        let volume = self.volume_mut(nr);
        if disk_reason::is_forced(old, new, fresh) {
            volume.forced = Some((old.disk, since));
        } else if new.disk != DiskState::UpToDate {
            volume.forced = None;
        }
        if new.disk <= DiskState::Failed && old.disk > DiskState::Failed {
            // What is said of an order's consequences is not why.
            let error = said.filter(|_| !volume.detaching);
            let what = error.map_or(Lost::Detached, Lost::Error);
            volume.disk_lost = Some(DiskLost::new(what, since));
        } else if new.disk == DiskState::UpToDate
            || new.disk > DiskState::Failed && old.disk <= DiskState::Failed
        {
            volume.disk_lost = None;
        }
    }

    /// An error was passed on, and what was to be written is not there.
    pub(super) fn note_passed_on(&mut self, nr: VolumeNr) {
        let what = match &self.said {
            Some((_, said)) => Lost::Error(said.clone()),
            None => Lost::Detached,
        };
        self.note_lost(nr, what);
    }

    /// Remembers what has become of a disk.
    pub(super) fn note_lost(&mut self, nr: VolumeNr, what: Lost) {
        self.volume_mut(nr).disk_lost = Some(DiskLost::new(what, self.now));
    }

    /// A disk was refused, for this reason. One that is only older than what users have seen is what it was.
    pub(super) fn note_refused_disk(&mut self, nr: VolumeNr, error: &AdminError) {
        let now = self.now;
        let lost = &mut self.volume_mut(nr).disk_lost;
        *lost = Some(match error {
            AdminError::Refused { code: 150, info } => {
                DiskLost::refused_as_older(lost.take(), info.clone(), now)
            }
            _ => DiskLost::new(Lost::Error(error.to_string()), now),
        });
    }

    /// Why there is no connection; or why there would be none again, if it were lost.
    pub(super) fn link_trouble(&self, now: Time) -> Option<LinkTrouble> {
        let trouble = self.net.troubles.told(now);
        let settings = self.net.peer_settings.as_ref();
        let difference = settings.and_then(PeerSettings::difference);
        if let (None, Some((difference, since))) = (&trouble, difference) {
            return Some(LinkTrouble {
                kind: Trouble::Settings,
                text: format!("the next connection will be refused: different {difference}"),
                for_ms: now.ms_since(*since),
            });
        }
        trouble
    }

    /// Why the disk of a volume is not UpToDate.
    pub(super) fn disk_trouble(&self, volume: &Volume<P>, now: Time) -> Option<DiskTrouble> {
        let lost = volume.disk_lost.as_ref();
        let reason = disk_reason::reason(&disk_reason::Facts {
            state: volume.state,
            lost: lost.and_then(|lost| lost.what().cloned()),
            older: lost.and_then(|lost| lost.older().cloned()),
            forced: volume.forced.map(|(was, _)| was),
            fresh: volume.is_fresh(),
            peer_is_primary: self.volumes.iter().any(|v| v.state.peer == Role::Primary),
        })?;
        Some(DiskTrouble {
            reason,
            for_ms: lost
                .map(DiskLost::since)
                .or(volume.forced.map(|(_, at)| at))
                .map(|since| now.ms_since(since)),
        })
    }

    /// What bounds a resync onto the disk of a volume.
    pub(super) fn resync_limit(&self, volume: &Volume<P>, now: Time) -> Option<Limit> {
        if volume.state.conn != ConnState::SyncTarget {
            return None;
        }
        let options = volume.options_in_effect()?;
        let left = volume.bits_set();
        volume.peer.resync.limit(now, left, &options)
    }
}
