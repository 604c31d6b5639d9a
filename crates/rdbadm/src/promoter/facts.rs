//! What a promoter knows of its resource, and whether it may promote it: pure functions over a report of the daemon's.

use std::fmt;

use rdb_config::Fencing;
use rdb_control::{ConnState, DiskState, ResourceReport, ResourceShown, Role, Suspension};
use rdb_watch::{Bar, Copies, bar};

/// How the resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum World {
    /// No daemon serves.
    NoDaemon,
    /// The daemon does not have the resource.
    NotUp,
    /// It has.
    Up(Facts),
}

/// A resource that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) volumes: Vec<Volume>,
    /// Users' requests wait, for data or until the peer is fenced. (Not because an administrator has them wait.)
    pub(crate) is_frozen: bool,
    /// It was Primary under the daemon before, and is to be so again: its users wait for that.
    pub(crate) is_returning: bool,
    /// A promotion without the peer asks `fence-peer`.
    pub(crate) fences: bool,
    /// Users have a device, which waits for the next daemon if this one dies.
    pub(crate) has_device: bool,
}

/// One of its volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) role: Role,
    pub(crate) peer_role: Role,
    pub(crate) link: Link,
    pub(crate) disk: DiskState,
    pub(crate) peer_disk: DiskState,
}

/// The connection, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// The nodes have told each other how they are.
    Connected,
    /// The peer is awaited.
    Awaited,
    /// It comes or goes just now.
    Changing,
    /// It was given up: by an administrator, or after a split brain.
    GivenUp,
}

/// Why a resource is not promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    NoVolumes,
    PeerIsPrimary,
    NoData,
    LinkChanges,
    LinkGivenUp,
    /// Nobody knows whether the peer is Primary.
    NotFenced,
    Frozen,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Obstacle::NoVolumes => "it has no volume",
            Obstacle::PeerIsPrimary => "the peer is Primary",
            Obstacle::NoData => "there are no UpToDate data here",
            Obstacle::LinkChanges => "the connection to the peer is being made, or ends",
            Obstacle::LinkGivenUp => {
                "it is StandAlone: an administrator has to connect it, or to solve a split brain"
            }
            Obstacle::NotFenced => {
                "the peer is not connected and may be Primary, for no fencing is configured"
            }
            Obstacle::Frozen => "I/O is suspended",
        })
    }
}

impl Volume {
    fn is_connected(&self) -> bool {
        self.link == Link::Connected
    }

    /// Its copies; that of a peer that is not connected is out of reach.
    fn copies(&self) -> Copies {
        Copies {
            role: self.role,
            peer_role: self.peer_role,
            disk: self.disk,
            peer_disk: match self.link {
                Link::Connected => self.peer_disk,
                _ => DiskState::DUnknown,
            },
        }
    }

    fn has_data(&self) -> bool {
        self.copies().good() > 0
    }

    fn peer_is_good(&self) -> bool {
        self.peer_disk == DiskState::UpToDate
    }

    /// It was said of the peer that it can not go on with its data.
    fn is_peer_fenced(&self) -> bool {
        matches!(
            self.peer_disk,
            DiskState::Inconsistent | DiskState::Outdated
        )
    }
}

impl Facts {
    /// Those of a resource as the daemon reports it, and as it is configured there.
    pub(crate) fn of(report: &ResourceReport, shown: Option<&ResourceShown>) -> Facts {
        let volumes: Vec<Volume> = report.volumes.iter().map(volume).collect();
        let fences = shown.is_some_and(|shown| {
            let mut disks = shown.volumes.iter().filter_map(|v| v.disk.as_ref());
            disks.any(|disk| disk.options.fencing != Fencing::DontCare)
        });
        let is_primary = volumes.iter().any(|v| v.role == Role::Primary);
        let is_awaited = report
            .io_reason
            .as_ref()
            .is_some_and(|reason| reason.word == "takeover");
        let waits =
            |v: &rdb_control::VolumeReport| v.suspended.iter().any(|why| *why != Suspension::User);
        Facts {
            is_frozen: report.volumes.iter().any(waits),
            is_returning: !is_primary && is_awaited,
            has_device: report.volumes.iter().any(|v| v.device.is_some()),
            fences,
            volumes,
        }
    }

    pub(crate) fn is_primary(&self) -> bool {
        !self.volumes.is_empty() && self.volumes.iter().all(|v| v.role == Role::Primary)
    }

    pub(crate) fn is_partly_primary(&self) -> bool {
        self.volumes.iter().any(|v| v.role == Role::Primary)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.volumes.iter().all(Volume::is_connected)
    }

    /// Whether UpToDate data can be reached.
    pub(crate) fn has_data(&self) -> bool {
        self.volumes.iter().all(Volume::has_data)
    }

    /// Whether a disk of this node has failed, or was taken away.
    pub(crate) fn has_lost_disk(&self) -> bool {
        self.volumes.iter().any(|v| v.disk <= DiskState::Failed)
    }

    /// Whether the peer is there, with all data.
    pub(crate) fn is_peer_good(&self) -> bool {
        self.is_connected() && self.volumes.iter().all(Volume::peer_is_good)
    }

    /// Whether it is known of each volume that the peer can not be promoted with it.
    pub(crate) fn is_peer_fenced(&self) -> bool {
        self.volumes
            .iter()
            .all(|v| v.is_connected() || v.is_peer_fenced())
    }

    /// Whether nobody knows what the peer is, and nobody would be asked.
    pub(crate) fn is_unwarranted(&self, accepts_split_brain: bool) -> bool {
        !self.fences && !accepts_split_brain && !self.is_peer_fenced()
    }

    /// Why it may not be promoted here, if so.
    pub(crate) fn obstacle(&self, accepts_split_brain: bool) -> Option<Obstacle> {
        let volumes = &self.volumes;
        let has = |link| volumes.iter().any(|v| v.link == link);
        // Only if it is Consistent, `fence-peer` says whether these are the last data.
        let asks = |v: &Volume| self.fences && v.disk == DiskState::Consistent;
        let copies: Vec<Copies> = volumes.iter().map(Volume::copies).collect();
        let bar = bar(&copies);
        Some(if bar == Some(Bar::NoVolumes) {
            Obstacle::NoVolumes
        } else if bar == Some(Bar::PrimaryThere) {
            Obstacle::PeerIsPrimary
        } else if has(Link::GivenUp) && !self.is_peer_fenced() {
            Obstacle::LinkGivenUp
        } else if has(Link::Changing) {
            Obstacle::LinkChanges
        } else if !volumes.iter().all(|v| v.has_data() || asks(v)) {
            Obstacle::NoData
        } else if self.is_frozen || self.is_returning {
            Obstacle::Frozen
        } else if self.is_unwarranted(accepts_split_brain) {
            Obstacle::NotFenced
        } else {
            return None;
        })
    }

    /// How long a node with such disks lets others go first, in milliseconds: drbd-reactor's times.
    pub(crate) fn handicap_ms(&self) -> u64 {
        let of = |v: &Volume| match v.disk {
            DiskState::UpToDate => 0,
            DiskState::Consistent => 1000,
            DiskState::Outdated => 2000,
            DiskState::Inconsistent => 3000,
            _ => 6000,
        };
        self.volumes.iter().map(of).max().unwrap_or(0)
    }
}

fn volume(report: &rdb_control::VolumeReport) -> Volume {
    let link = match report.cstate {
        None | Some(ConnState::StandAlone) => Link::GivenUp,
        Some(ConnState::WFConnection) => Link::Awaited,
        Some(state) if state >= ConnState::Connected => Link::Connected,
        Some(_) => Link::Changing,
    };
    Volume {
        role: report.role,
        peer_role: report.peer_role,
        link,
        disk: report.disk,
        peer_disk: report.peer_disk,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use DiskState::{Consistent, DUnknown, Diskless, Inconsistent, Outdated, UpToDate};
    use Link::{Awaited, Changing, Connected, GivenUp};
    use Role::{Primary, Secondary};

    pub(crate) fn facts(link: Link, roles: (Role, Role), disks: (DiskState, DiskState)) -> Facts {
        Facts {
            volumes: vec![Volume {
                role: roles.0,
                peer_role: roles.1,
                link,
                disk: disks.0,
                peer_disk: disks.1,
            }],
            is_frozen: false,
            is_returning: false,
            fences: false,
            has_device: true,
        }
    }

    /// Who may be promoted: connection, the peer's role, both disks; why not without fencing, and why not with it.
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table: who may be promoted")]
    fn a_resource_is_promoted_where_it_can_and_nobody_else_may_be() {
        use Obstacle::{LinkChanges, LinkGivenUp, NoData, NotFenced, PeerIsPrimary};
        for (link, peer, disks, without, with) in [
            (Connected, Secondary, (UpToDate, UpToDate), None, None),
            (Connected, Secondary, (UpToDate, Diskless), None, None),
            (Connected, Secondary, (Inconsistent, UpToDate), None, None),
            (Connected, Secondary, (Diskless, UpToDate), None, None),
            (
                Connected,
                Primary,
                (UpToDate, UpToDate),
                Some(PeerIsPrimary),
                Some(PeerIsPrimary),
            ),
            (
                Connected,
                Secondary,
                (Inconsistent, Inconsistent),
                Some(NoData),
                Some(NoData),
            ),
            (
                Connected,
                Secondary,
                (Consistent, Diskless),
                Some(NoData),
                None,
            ),
            (
                Awaited,
                Role::Unknown,
                (UpToDate, DUnknown),
                Some(NotFenced),
                None,
            ),
            (Awaited, Role::Unknown, (UpToDate, Outdated), None, None),
            (Awaited, Role::Unknown, (UpToDate, Inconsistent), None, None),
            (
                Awaited,
                Role::Unknown,
                (Consistent, DUnknown),
                Some(NoData),
                None,
            ),
            (
                Awaited,
                Role::Unknown,
                (Outdated, DUnknown),
                Some(NoData),
                Some(NoData),
            ),
            (
                Awaited,
                Role::Unknown,
                (Inconsistent, DUnknown),
                Some(NoData),
                Some(NoData),
            ),
            // What was known of the peer's disk serves nobody while it is away.
            (
                Awaited,
                Role::Unknown,
                (Diskless, UpToDate),
                Some(NoData),
                Some(NoData),
            ),
            (
                Changing,
                Role::Unknown,
                (UpToDate, DUnknown),
                Some(LinkChanges),
                Some(LinkChanges),
            ),
            (
                GivenUp,
                Role::Unknown,
                (UpToDate, DUnknown),
                Some(LinkGivenUp),
                Some(LinkGivenUp),
            ),
            (GivenUp, Role::Unknown, (UpToDate, Outdated), None, None),
        ] {
            let mut facts = facts(link, (Secondary, peer), disks);
            let text = format!("{facts:?}");
            assert_eq!(facts.obstacle(false), without, "{text}");
            if without == Some(NotFenced) {
                assert_eq!(facts.obstacle(true), None, "{text}");
            }
            facts.fences = true;
            assert_eq!(facts.obstacle(false), with, "{text}");
        }
    }

    #[test]
    fn one_bad_volume_is_enough() {
        let mut two = facts(Connected, (Secondary, Secondary), (UpToDate, UpToDate));
        two.volumes.push(Volume {
            disk: Diskless,
            peer_disk: Inconsistent,
            ..two.volumes[0]
        });
        assert_eq!(two.obstacle(false), Some(Obstacle::NoData));
        assert!(two.has_lost_disk() && !two.has_data() && !two.is_peer_good());
        assert_eq!(two.handicap_ms(), 6000);
        two.volumes[0].role = Primary;
        assert!(two.is_partly_primary() && !two.is_primary());
        two.volumes.clear();
        assert_eq!(two.obstacle(false), Some(Obstacle::NoVolumes));
        assert!(!two.is_primary());
    }
}
