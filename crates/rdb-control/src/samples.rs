//! Reports for the tests of whoever reads them: of a node with these resources, of a resource with these volumes, of a volume in this
//! state. A test changes what it is about. Only with the feature `samples`.

use crate::handler::HandlerReport;
use crate::reason::ReasonReport;
use crate::report::{ResourceReport, StatusReport, VolumeReport};
use replica_proto::state::ConnState;

/// Why something is not as it should be.
pub fn reason(word: &str, text: &str) -> ReasonReport {
    ReasonReport {
        word: word.to_owned(),
        text: text.to_owned(),
        advice: Some("do this".to_owned()),
        since_s: Some(1_795_877_530),
    }
}

/// Volume 0 in this state, by DRBD's words; own role or disk first, then the peer's.
///
/// # Panics
/// On a word that is none of DRBD's.
pub fn volume(cstate: &str, roles: (&str, &str), disks: (&str, &str)) -> VolumeReport {
    let role = |word: &str| word.parse().expect("a role");
    let disk = |word: &str| word.parse().expect("a state of a disk");
    VolumeReport {
        role: role(roles.0),
        peer_role: role(roles.1),
        cstate: Some(cstate.parse().expect("a state of a connection")),
        disk: disk(disks.0),
        peer_disk: disk(disks.1),
        flags: "r-----".to_owned(),
        size_kib: 1_048_508,
        al_writes: 8,
        write_ordering: 'f',
        ..VolumeReport::unknown(0, 0)
    }
}

/// A Primary, Connected, both disks good, each of its figures another.
pub fn good_volume() -> VolumeReport {
    let roles = ("Primary", "Secondary");
    VolumeReport {
        minor: 3,
        size_kib: 1024,
        sent_kib: 10,
        received_kib: 20,
        written_kib: 30,
        read_kib: 40,
        al_writes: 5,
        bm_writes: 6,
        local_pending: 1,
        peer_pending: 2,
        unacked: 3,
        application_pending: 4,
        ..volume("Connected", roles, ("UpToDate", "UpToDate"))
    }
}

/// A resource with these volumes, whose connection is as its first volume says; one handler has been called for.
pub fn resource(name: &str, volumes: Vec<VolumeReport>) -> ResourceReport {
    let cstate = volumes.first().and_then(|volume| volume.cstate);
    let cstate = cstate.map(|state| state.min(ConnState::WFReportParams));
    let address = |last: u8| Some(([10, 9, 0, last], 7789).into());
    ResourceReport {
        name: name.to_owned(),
        connection: cstate.unwrap_or(ConnState::StandAlone),
        protocol: Some('C'),
        local: address(1),
        peer: address(2),
        epochs: 1,
        owed_ms: 0,
        volumes,
        link_reason: None,
        record_reason: None,
        daemon_reason: None,
        io_reason: None,
        handlers: vec![HandlerReport {
            name: "fence-peer".to_owned(),
            volume: None,
            since_s: 1_795_877_530,
            exit: Some(4),
            took_ms: 1_500,
            note: None,
        }],
        failed: None,
    }
}

/// The node alice with these resources.
pub fn node(resources: Vec<ResourceReport>) -> StatusReport {
    StatusReport {
        node: "alice".to_owned(),
        resources,
    }
}
