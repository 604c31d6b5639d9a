//! What there is to tell of resources, connections and volumes.

use rdb_control::{ConnState, DiskState, ResourceReport, Role, Suspension, VolumeReport};

use super::{Family, Kind, Labels};
use crate::{Seen, connection_word, is_frozen, may_promote, promotion_score, troubles};

/// The other node as `status --json` names it: a connection has one peer, and no name of its own.
const PEER: &str = "peer";
const PEER_NODE_ID: &str = "0";

const KIB: f64 = 1024.0;

/// A role that is the resource's: Primary if one volume is.
fn role(resource: &ResourceReport) -> Role {
    let roles = || resource.volumes.iter().map(|volume| volume.role);
    if roles().any(|role| role == Role::Primary) {
        Role::Primary
    } else {
        roles().next().unwrap_or(Role::Unknown)
    }
}

/// Bytes of all volumes together.
fn sum_kib(resource: &ResourceReport, kib: fn(&VolumeReport) -> u64) -> f64 {
    let all = resource.volumes.iter().map(kib);
    all.fold(0, u64::saturating_add) as f64 * KIB
}

fn number(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

pub(super) fn of_resource(resource: &ResourceReport) -> Labels {
    vec![("name", resource.name.clone())]
}

fn of_connection(resource: &ResourceReport) -> Labels {
    vec![
        ("name", resource.name.clone()),
        ("conn_name", PEER.to_owned()),
        ("peer_node_id", PEER_NODE_ID.to_owned()),
    ]
}

pub(super) fn volume_labels(volume: &VolumeReport) -> Labels {
    vec![
        ("volume", volume.volume.to_string()),
        ("minor", volume.minor.to_string()),
    ]
}

pub(super) fn with(
    mut labels: Labels,
    more: impl IntoIterator<Item = (&'static str, String)>,
) -> Labels {
    labels.extend(more);
    labels
}

/// All families of a node but those of the daemon's process.
pub(super) fn families(seen: Seen<'_>) -> Vec<Family> {
    let mut all = vec![
        Family {
            name: "rdb_info",
            help: "The version of rdb, and the name of this node",
            kind: Kind::Gauge,
            samples: vec![(
                vec![
                    ("node", seen.report.node.clone()),
                    ("version", seen.version.to_owned()),
                ],
                1.0,
            )],
        },
        Family {
            name: "drbd_resource_resources",
            help: "Number of resources",
            kind: Kind::Gauge,
            samples: vec![(Vec::new(), seen.report.resources.len() as f64)],
        },
    ];
    let resources = &seen.report.resources;
    all.extend(resource_families(resources));
    all.extend(connection_families(resources));
    all.extend(trouble_families(resources));
    all.extend(handler_families(resources));
    all.extend(device_families(resources));
    all.extend(sync_families(resources));
    all
}

fn each<'a>(
    name: &'static str,
    help: &'static str,
    resources: &'a [ResourceReport],
    samples: impl Fn(&'a ResourceReport) -> Vec<(Labels, f64)>,
) -> Family {
    Family {
        name,
        help,
        kind: Kind::Gauge,
        samples: resources.iter().flat_map(samples).collect(),
    }
}

fn resource_families(resources: &[ResourceReport]) -> Vec<Family> {
    let one = |labels, value| vec![(labels, value)];
    vec![
        each(
            "drbd_resource_role",
            "1 for the role of the resource",
            resources,
            |r| {
                let role = role(r).to_string();
                one(with(of_resource(r), [("role", role)]), 1.0)
            },
        ),
        each(
            "drbd_resource_suspended",
            "Whether users' requests wait",
            resources,
            |r| one(of_resource(r), number(is_frozen(r))),
        ),
        each(
            "drbd_resource_maypromote",
            "Whether the resource can become Primary here now without force",
            resources,
            |r| one(of_resource(r), number(may_promote(r))),
        ),
        each(
            "drbd_resource_promotionscore",
            "How good this node is to be Primary, 0 if it cannot be",
            resources,
            |r| one(of_resource(r), promotion_score(r) as f64),
        ),
        each(
            "rdb_resource_failed",
            "Whether the resource does not run though it is configured",
            resources,
            |r| one(of_resource(r), number(r.failed.is_some())),
        ),
        each(
            "rdb_io_suspended",
            "Whether users' requests wait for this reason",
            resources,
            |r| {
                let reasons = [Suspension::User, Suspension::NoData, Suspension::Fencing];
                let sample = |reason: Suspension| {
                    let is = r.volumes.iter().any(|v| v.suspended.contains(&reason));
                    let labels = [("reason", reason.as_str().to_owned())];
                    (with(of_resource(r), labels), number(is))
                };
                reasons.into_iter().map(sample).collect()
            },
        ),
    ]
}

fn connection_families(resources: &[ResourceReport]) -> Vec<Family> {
    let one = |labels, value| vec![(labels, value)];
    vec![
        each(
            "drbd_connection_state",
            "1 for the state of the connection",
            resources,
            |r| {
                let state = connection_word(r.connection).to_owned();
                one(with(of_connection(r), [("state", state)]), 1.0)
            },
        ),
        each(
            "drbd_connection_apinflight_bytes",
            "Users' writes that are on their way to the peer",
            resources,
            |r| one(of_connection(r), sum_kib(r, |v| v.ap_in_flight_kib)),
        ),
        each(
            "rdb_connection_owed_seconds",
            "For how long the peer has owed an answer to the oldest request",
            resources,
            |r| one(of_connection(r), r.owed_ms as f64 / 1e3),
        ),
        each(
            "drbd_connection_rsinflight_bytes",
            "What of a resync is between the nodes",
            resources,
            |r| one(of_connection(r), sum_kib(r, |v| v.rs_in_flight_kib)),
        ),
        each(
            "rdb_peer_role",
            "1 for the role of the peer, of each volume",
            resources,
            |r| {
                let sample = |v: &VolumeReport| {
                    let role = ("role", v.peer_role.to_string());
                    (with(with(of_resource(r), volume_labels(v)), [role]), 1.0)
                };
                r.volumes.iter().map(sample).collect()
            },
        ),
    ]
}

fn trouble_families(resources: &[ResourceReport]) -> Vec<Family> {
    let labels = |r: &ResourceReport, trouble: &crate::Trouble<'_>| {
        let volume = trouble
            .volume
            .map_or(String::new(), |v| v.volume.to_string());
        with(
            of_resource(r),
            [
                ("volume", volume),
                ("about", trouble.about.to_owned()),
                ("word", trouble.reason.word.clone()),
            ],
        )
    };
    vec![
        each(
            "rdb_trouble",
            "1 for each thing that is not as it should be, by the words of status",
            resources,
            |r| {
                let all = troubles(r);
                all.iter().map(|t| (labels(r, t), 1.0)).collect()
            },
        ),
        each(
            "rdb_trouble_since_timestamp_seconds",
            "Since when that is so, if it is known",
            resources,
            |r| {
                let since = |t: &crate::Trouble<'_>| Some((labels(r, t), t.reason.since_s? as f64));
                troubles(r).iter().filter_map(since).collect()
            },
        ),
    ]
}

fn handler_families(resources: &[ResourceReport]) -> Vec<Family> {
    let labels = |r: &ResourceReport, run: &rdb_control::HandlerReport| {
        let mut labels = with(of_resource(r), [("handler", run.name.clone())]);
        labels.extend(run.volume.map(|volume| ("volume", volume.to_string())));
        labels
    };
    vec![
        each(
            "rdb_handler_running",
            "Whether the handler runs",
            resources,
            |r| {
                let runs = r.handlers.iter();
                runs.map(|run| (labels(r, run), number(run.exit.is_none())))
                    .collect()
            },
        ),
        each(
            "rdb_handler_last_start_timestamp_seconds",
            "When the handler was started last",
            resources,
            |r| {
                let runs = r.handlers.iter();
                runs.map(|run| (labels(r, run), run.since_s as f64))
                    .collect()
            },
        ),
        each(
            "rdb_handler_last_exit_code",
            "How the last run of the handler ended",
            resources,
            |r| {
                let ended =
                    |run: &rdb_control::HandlerReport| Some((labels(r, run), f64::from(run.exit?)));
                r.handlers.iter().filter_map(ended).collect()
            },
        ),
    ]
}

/// A figure of a volume.
struct Figure {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// It is about what goes to the peer.
    of_peer: bool,
    value: fn(&VolumeReport) -> f64,
}

const FIGURES: [Figure; 15] = [
    peers(
        "drbd_peerdevice_outofsync_bytes",
        "What the peer lacks, or this node",
        |v| v.out_of_sync_kib as f64 * KIB,
    ),
    peers("drbd_peerdevice_sent_bytes", "Sent to the peer", |v| {
        v.sent_kib as f64 * KIB
    }),
    peers(
        "drbd_peerdevice_received_bytes",
        "Received from the peer",
        |v| v.received_kib as f64 * KIB,
    ),
    peers(
        "rdb_peerdevice_pending",
        "Requests that the peer has not answered",
        |v| f64::from(v.peer_pending),
    ),
    peers(
        "rdb_peerdevice_unacked",
        "Requests of the peer that are not answered",
        |v| f64::from(v.unacked),
    ),
    gauge("drbd_device_size_bytes", "The size of the device", |v| {
        v.size_kib as f64 * KIB
    }),
    counter("drbd_device_read_bytes", "Read from the own disk", |v| {
        v.read_kib as f64 * KIB
    }),
    counter(
        "drbd_device_written_bytes",
        "Written to the own disk",
        |v| v.written_kib as f64 * KIB,
    ),
    counter("drbd_device_alwrites", "Updates of the activity log", |v| {
        v.al_writes as f64
    }),
    counter("drbd_device_bmwrites", "Updates of the bitmap", |v| {
        v.bm_writes as f64
    }),
    gauge(
        "drbd_device_upperpending",
        "Users' requests that are not answered",
        |v| f64::from(v.application_pending),
    ),
    gauge(
        "drbd_device_lowerpending",
        "Requests that the own disk has not answered",
        |v| f64::from(v.local_pending),
    ),
    gauge(
        "drbd_device_alsuspended",
        "Whether updates of the activity log are suspended",
        |v| number(v.al_suspended),
    ),
    gauge(
        "drbd_device_unintentionaldiskless",
        "Whether the own disk was given up for an error",
        |v| {
            let word = v.disk_reason.as_ref().map(|reason| reason.word.as_str());
            number(v.disk == DiskState::Diskless && word == Some("failed"))
        },
    ),
    gauge(
        "rdb_device_nospace_writes",
        "Writes that wait for space on a full disk",
        |v| v.no_space.map_or(0.0, |full| f64::from(full.writes)),
    ),
];

const fn gauge(name: &'static str, help: &'static str, value: fn(&VolumeReport) -> f64) -> Figure {
    Figure {
        name,
        help,
        kind: Kind::Gauge,
        of_peer: false,
        value,
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    value: fn(&VolumeReport) -> f64,
) -> Figure {
    Figure {
        kind: Kind::Counter,
        ..gauge(name, help, value)
    }
}

const fn peers(name: &'static str, help: &'static str, value: fn(&VolumeReport) -> f64) -> Figure {
    Figure {
        of_peer: true,
        ..gauge(name, help, value)
    }
}

fn device_families(resources: &[ResourceReport]) -> Vec<Family> {
    type StateOf = fn(&VolumeReport) -> DiskState;
    let states: [(&str, &str, StateOf); 2] = [
        (
            "drbd_device_state",
            "1 for the state of the own disk",
            |v| v.disk,
        ),
        (
            "rdb_peerdevice_state",
            "1 for the state of the peer's disk",
            |v| v.peer_disk,
        ),
    ];
    let states = states.into_iter().map(|(name, help, state)| {
        each(name, help, resources, move |r| {
            let sample = |v: &VolumeReport| {
                let labels = with(of_resource(r), volume_labels(v));
                (with(labels, [("state", state(v).to_string())]), 1.0)
            };
            r.volumes.iter().map(sample).collect()
        })
    });
    let figures = FIGURES.iter().map(|figure| Family {
        kind: figure.kind,
        ..each(figure.name, figure.help, resources, |r| {
            let sample = |v: &VolumeReport| {
                let of = if figure.of_peer {
                    of_connection(r)
                } else {
                    of_resource(r)
                };
                (with(of, volume_labels(v)), (figure.value)(v))
            };
            r.volumes.iter().map(sample).collect()
        })
    });
    states.chain(figures).collect()
}

fn sync_families(resources: &[ResourceReport]) -> Vec<Family> {
    type Of = fn(&rdb_control::SyncReport) -> f64;
    let figures: [(&'static str, &'static str, Of); 5] = [
        (
            "rdb_sync_total_bytes",
            "What the resync or verify had to do at its start",
            |s| s.total_kib as f64 * KIB,
        ),
        ("rdb_sync_left_bytes", "What it has to do", |s| {
            s.left_kib as f64 * KIB
        }),
        ("rdb_sync_failed_bytes", "What it could not do", |s| {
            s.failed_kib as f64 * KIB
        }),
        (
            "rdb_sync_rate_bytes_per_second",
            "How fast it is, over the last half minute at most",
            |s| s.rate_kib as f64 * KIB,
        ),
        (
            "rdb_sync_remaining_seconds",
            "How long it takes at that rate",
            |s| s.left_s as f64,
        ),
    ];
    let of = |(name, help, value): (&'static str, &'static str, Of)| {
        each(name, help, resources, move |r| {
            let sample = |v: &VolumeReport| {
                let sync = v.sync.as_ref()?;
                let verifies = matches!(v.cstate, Some(ConnState::VerifyS | ConnState::VerifyT));
                let kind = if verifies { "verify" } else { "resync" };
                let labels = with(of_resource(r), volume_labels(v));
                Some((with(labels, [("kind", kind.to_owned())]), value(sync)))
            };
            r.volumes.iter().filter_map(sample).collect()
        })
    };
    figures.into_iter().map(of).collect()
}
