use rdb_control::{ConnState, DiskState, HandlerOf, Role, VolumeReport, VolumeStates};

use super::*;
use crate::status_text::tests::{resource, volume};

const PLAIN: Style = Style {
    view: View {
        is_full: false,
        figures: false,
    },
    timestamps: false,
    is_diff: false,
    color: false,
    is_json: false,
};
const FIGURES: Style = Style {
    view: View {
        is_full: false,
        figures: true,
    },
    ..PLAIN
};
const FULL: Style = Style {
    view: View {
        is_full: true,
        figures: true,
    },
    ..PLAIN
};

fn lines(style: Style, lines: &[Line]) -> Vec<String> {
    let print = |line: &Line| style.print(line, 0).trim_end().to_owned();
    lines.iter().map(print).collect()
}

/// A Primary without a peer, Connecting or StandAlone.
fn lone(cstate: &str) -> Event {
    let volume = volume(cstate, ("Primary", "Unknown"), ("UpToDate", "DUnknown"));
    let resource = Box::new(resource(cstate, vec![volume]));
    Event::Resource { resource }
}

fn states(cstate: ConnState, peer_role: Role, peer_disk: DiskState) -> VolumeStates {
    VolumeStates {
        role: Role::Primary,
        peer_role,
        cstate,
        disk: DiskState::UpToDate,
        peer_disk,
        suspended: [false; 3],
        resync_suspended: [false; 3],
    }
}

fn changed(new: VolumeStates) -> Event {
    Event::Changed {
        resource: "r0".to_owned(),
        volume: 0,
        new,
        figures: None,
    }
}

const ALONE: (Role, DiskState) = (Role::Unknown, DiskState::DUnknown);

/// A model that knows this.
fn model(style: Style, event: Event) -> Model {
    let mut model = Model::new(style, false);
    model.apply(event);
    model.apply(Event::Complete);
    model
}

/// Lines of the kernel's driver (DRBD 8.4.11, drbd-utils 9.22), with this resource's name and minor.
#[test]
fn a_connection_is_made_and_goes_as_the_drivers_does() {
    let mut model = model(PLAIN, lone("StandAlone"));
    assert_eq!(
        lines(PLAIN, &model.dump()),
        [
            "exists resource name:r0 role:Primary suspended:no",
            "exists connection name:r0 peer-node-id:0 connection:StandAlone role:Unknown",
            "exists device name:r0 volume:0 minor:0 disk:UpToDate",
            "exists peer-device name:r0 peer-node-id:0 volume:0 replication:Off peer-disk:DUnknown resync-suspended:no",
        ]
    );
    let (role, disk) = ALONE;
    let mut printed = Vec::new();
    for new in [
        states(ConnState::Unconnected, role, disk),
        states(ConnState::WFReportParams, role, disk),
        states(ConnState::WFBitMapS, Role::Secondary, DiskState::Consistent),
        states(ConnState::Disconnecting, role, disk),
        states(ConnState::StandAlone, role, disk),
    ] {
        printed.extend(lines(PLAIN, &model.apply(changed(new))));
    }
    assert_eq!(
        printed,
        [
            "create connection name:r0 peer-node-id:0 conn-name:peer connection:StandAlone role:Unknown",
            "create peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown resync-suspended:no",
            "change connection name:r0 peer-node-id:0 conn-name:peer connection:Unconnected",
            "change connection name:r0 peer-node-id:0 conn-name:peer connection:Connected",
            "change connection name:r0 peer-node-id:0 conn-name:peer role:Secondary",
            "change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:WFBitMapS peer-disk:Consistent",
            "change connection name:r0 peer-node-id:0 conn-name:peer connection:Disconnecting role:Unknown",
            "change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown",
            "change connection name:r0 peer-node-id:0 conn-name:peer connection:StandAlone",
            "destroy peer-device name:r0 peer-node-id:0 conn-name:peer volume:0",
            "destroy connection name:r0 peer-node-id:0 conn-name:peer",
        ]
    );
    // What is learned of the peer's disk without a connection has all its words, and no connection's name.
    let fenced = changed(states(ConnState::StandAlone, role, DiskState::Outdated));
    assert_eq!(
        lines(PLAIN, &model.apply(fenced)),
        [
            "change peer-device name:r0 peer-node-id:0 volume:0 replication:Off peer-disk:Outdated resync-suspended:no"
        ]
    );
}

#[test]
fn a_resource_comes_and_goes_with_what_belongs_to_it() {
    let mut model = Model::new(PLAIN, false);
    let resource = || "r0".to_owned();
    let events = [
        Event::Created {
            resource: resource(),
        },
        Event::VolumeCreated {
            resource: resource(),
            volume: 3,
            minor: 7,
        },
        Event::VolumeRemoved {
            resource: resource(),
            volume: 3,
        },
        Event::Removed {
            resource: resource(),
        },
    ];
    let printed = events.into_iter().flat_map(|event| model.apply(event));
    assert_eq!(
        lines(PLAIN, &printed.collect::<Vec<_>>()),
        [
            "create resource name:r0 role:Secondary suspended:no",
            "create device name:r0 volume:3 minor:7 disk:Diskless",
            "destroy device name:r0 volume:3 minor:7",
            "destroy resource name:r0",
        ]
    );
    // One that goes as it is takes its connection along.
    model.apply(lone("WFConnection"));
    let removed = Event::Removed {
        resource: resource(),
    };
    assert_eq!(
        lines(PLAIN, &model.apply(removed)),
        [
            "destroy peer-device name:r0 peer-node-id:0 conn-name:peer volume:0",
            "destroy connection name:r0 peer-node-id:0 conn-name:peer",
            "destroy device name:r0 volume:0 minor:0",
            "destroy resource name:r0",
        ]
    );
}

#[test]
fn figures_come_with_what_has_changed_and_words_that_stay_do_not() {
    let mut model = model(FIGURES, lone("WFConnection"));
    let (role, disk) = ALONE;
    let new = VolumeStates {
        disk: DiskState::Failed,
        ..states(ConnState::WFConnection, role, disk)
    };
    let failed = volume(
        "WFConnection",
        ("Primary", "Unknown"),
        ("Diskless", "DUnknown"),
    );
    let figures = VolumeReport {
        read_kib: 8,
        flags: "r---d-".to_owned(),
        ..failed
    };
    let event = Event::Changed {
        resource: "r0".to_owned(),
        volume: 0,
        new,
        figures: Some(Box::new(resource("WFConnection", vec![figures]))),
    };
    assert_eq!(
        lines(FIGURES, &model.apply(event)),
        [
            "change device name:r0 volume:0 minor:0 disk:Failed size:1048508 read:8 written:0 al-writes:8 bm-writes:0 \
             upper-pending:0 lower-pending:0 blocked:upper"
        ]
    );
}

#[test]
fn handlers_are_told_with_what_wait_says_of_their_end() {
    let mut model = model(PLAIN, lone("WFConnection"));
    let of = |volume| HandlerOf {
        resource: "r0".to_owned(),
        volume,
        handler: "fence-peer".to_owned(),
    };
    let mut printed = model.apply(Event::HandlerCalled(of(Some(0))));
    printed.extend(model.apply(Event::HandlerEnded {
        of: of(None),
        exit: 4,
    }));
    assert_eq!(
        lines(PLAIN, &printed),
        [
            "call helper name:r0 peer-node-id:0 conn-name:peer volume:0 minor:0 helper:fence-peer",
            "response helper name:r0 peer-node-id:0 conn-name:peer helper:fence-peer status:1024",
        ]
    );
}

/// What drbd-reactor reads.
#[test]
fn full_lines_have_the_words_of_drbd_9() {
    let mut up = volume(
        "Connected",
        ("Secondary", "Secondary"),
        ("UpToDate", "UpToDate"),
    );
    up.backing = Some("/dev/sda7".into());
    let resource = Box::new(resource("WFReportParams", vec![up]));
    let mut model = model(FULL, Event::Resource { resource });
    assert_eq!(
        lines(FULL, &model.dump()),
        [
            "exists resource name:r0 role:Secondary suspended:no force-io-failures:no write-ordering:flush may_promote:yes promotion_score:10102",
            "exists connection name:r0 peer-node-id:0 conn-name:peer connection:Connected role:Secondary congested:no ap-in-flight:0 rs-in-flight:0",
            "exists device name:r0 volume:0 minor:0 backing_dev:/dev/sda7 disk:UpToDate client:no quorum:yes size:1048508 read:0 written:0 \
             al-writes:8 bm-writes:0 upper-pending:0 lower-pending:0 al-suspended:no blocked:no",
            "exists peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:UpToDate peer-client:no \
             resync-suspended:no received:0 sent:0 out-of-sync:0 pending:0 unacked:0",
            "exists path name:r0 peer-node-id:0 conn-name:peer local:ipv4:10.9.0.1:7789 peer:ipv4:10.9.0.2:7789 established:yes",
        ]
    );
    let promoted = states(ConnState::Connected, Role::Secondary, DiskState::UpToDate);
    assert_eq!(
        lines(FULL, &model.apply(changed(promoted))),
        [
            "change resource name:r0 role:Primary suspended:no force-io-failures:no write-ordering:flush may_promote:no promotion_score:10102"
        ]
    );
    let removed = Event::VolumeRemoved {
        resource: "r0".to_owned(),
        volume: 0,
    };
    let gone = lines(FULL, &model.apply(removed));
    assert!(
        gone.contains(&"destroy device name:r0 volume:0".to_owned()),
        "{gone:?}"
    );
}

#[test]
fn a_node_without_usable_data_near_scores_nothing() {
    for (disks, score, may) in [
        (("Inconsistent", "DUnknown"), 0, "no"),
        (("Outdated", "UpToDate"), 1, "yes"),
        (("Consistent", "UpToDate"), 10_001, "yes"),
        (("Diskless", "UpToDate"), 1, "yes"),
        (("UpToDate", "DUnknown"), 10_101, "yes"),
    ] {
        let volume = volume("Connected", ("Secondary", "Secondary"), disks);
        let resource = Box::new(resource("WFReportParams", vec![volume]));
        let model = model(FULL, Event::Resource { resource });
        let line = &lines(FULL, &model.dump())[0];
        let words = format!("may_promote:{may} promotion_score:{score}");
        assert!(line.ends_with(&words), "{disks:?}: {line}");
    }
}

#[test]
fn what_was_told_anew_is_told_as_changes_and_what_is_missing_has_gone() {
    let mut model = model(PLAIN, lone("WFConnection"));
    let mut other = resource("StandAlone", Vec::new());
    other.name = "r1".to_owned();
    let resource = Box::new(other);
    assert!(model.apply(Event::Skipped { count: 5 }).is_empty());
    let created = model.apply(Event::Resource { resource });
    assert_eq!(
        lines(PLAIN, &created),
        ["create resource name:r1 role:Secondary suspended:no"]
    );
    let gone = model.apply(Event::Complete);
    assert_eq!(
        lines(PLAIN, &gone).last().map(String::as_str),
        Some("destroy resource name:r0")
    );
    assert_eq!(PLAIN.skipped(5, 0), "- skipped 5\n");
}

#[test]
fn a_diff_has_old_and_new_and_json_an_object_a_line() {
    let diff = Style {
        is_diff: true,
        ..PLAIN
    };
    let mut known = model(diff, lone("WFConnection"));
    let first = lines(diff, &known.dump());
    assert_eq!(
        first[0],
        "exists resource name:r0 role:UNKNOWN->Primary suspended:UNKNOWN->no"
    );
    let (role, disk) = ALONE;
    let demoted = || {
        changed(VolumeStates {
            role: Role::Secondary,
            ..states(ConnState::WFConnection, role, disk)
        })
    };
    assert_eq!(
        lines(diff, &known.apply(demoted())),
        ["change resource name:r0 role:Primary->Secondary"]
    );
    let json = Style {
        is_json: true,
        ..diff
    };
    let mut known = model(json, lone("WFConnection"));
    let line = &lines(json, &known.apply(demoted()))[0];
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        value,
        serde_json::json!({
            "at": "1970-01-01T00:00:00.000000+00:00", "event": "change", "object": "resource", "name": "r0",
            "role": "Secondary", "old": { "role": "Primary" },
        })
    );
}

#[test]
fn while_figures_are_polled_they_are_changes() {
    let written = |kib| {
        let volume = VolumeReport {
            written_kib: kib,
            ..volume(
                "StandAlone",
                ("Primary", "Unknown"),
                ("UpToDate", "DUnknown"),
            )
        };
        let resource = Box::new(resource("StandAlone", vec![volume]));
        Event::Resource { resource }
    };
    for (polls, count) in [(true, 1), (false, 0)] {
        let mut model = Model::new(FIGURES, polls);
        model.apply(written(0));
        let told = lines(FIGURES, &model.apply(written(8)));
        assert_eq!(told.len(), count, "{told:?}");
        assert!(
            told.iter().all(|line| line.contains(" written:8 ")),
            "{told:?}"
        );
    }
}
