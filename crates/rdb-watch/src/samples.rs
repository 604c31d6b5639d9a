//! A state of a node for the tests.

use rdb_control::{
    ConnState, DiskState, HandlerReport, ReasonReport, ResourceReport, Role, StatusReport,
    VolumeReport,
};

pub(crate) fn reason(word: &str, text: &str) -> ReasonReport {
    ReasonReport {
        word: word.to_owned(),
        text: text.to_owned(),
        advice: Some("do this".to_owned()),
        since_s: Some(1_795_877_530),
    }
}

/// A Primary, Connected, both disks good.
pub(crate) fn good_volume() -> VolumeReport {
    VolumeReport {
        volume: 0,
        minor: 3,
        role: Role::Primary,
        peer_role: Role::Secondary,
        cstate: Some(ConnState::Connected),
        disk: DiskState::UpToDate,
        peer_disk: DiskState::UpToDate,
        suspended: Vec::new(),
        resync_suspended: Vec::new(),
        flags: "r-----".to_owned(),
        device: None,
        size_kib: 1024,
        backing: None,
        ap_in_flight_kib: 0,
        rs_in_flight_kib: 0,
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
        write_ordering: 'f',
        al_suspended: false,
        out_of_sync_kib: 0,
        no_space: None,
        sync: None,
        disk_reason: None,
        resync_reason: None,
        latency: rdb_control::LatencyReport::default(),
    }
}

pub(crate) fn resource(name: &str, volumes: Vec<VolumeReport>) -> ResourceReport {
    let cstate = volumes.first().and_then(|volume| volume.cstate);
    let cstate = cstate.map(|state| state.min(ConnState::WFReportParams));
    ResourceReport {
        name: name.to_owned(),
        connection: cstate.unwrap_or(ConnState::StandAlone),
        protocol: Some('C'),
        local: None,
        peer: None,
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

pub(crate) fn node(resources: Vec<ResourceReport>) -> StatusReport {
    StatusReport {
        node: "alice".to_owned(),
        resources,
    }
}
