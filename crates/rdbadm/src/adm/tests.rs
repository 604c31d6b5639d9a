//! Plans: what `-d` prints (`docs/spec/admin.md`, section 3.3), and that `rdbsetup` understands each step as meant.

use rdb_control::{ConnectionShown, DiskShown, ResourceShown, VolumeShown};

use super::adjust::{adjust, for_next_connection};
use super::plan::Item;
use super::*;
use crate::step::{Action, MetaCommand, Query, Tool};

/// The example resource of section 3.3.
pub(super) const R1: &str = "
    global { usage-count no; }
    common { net { protocol C; } }
    resource r1 {
        disk { c-plan-ahead 0; resync-rate 33M; }
        net { use-rle yes; }
        startup { wfc-timeout 120; degr-wfc-timeout 60; outdated-wfc-timeout 30; wait-after-sb; }
        on alice { device /dev/drbd1; disk /dev/sda8; meta-disk internal; address 127.0.0.1:7790; }
        on bob { device /dev/drbd1; disk /dev/sda8; meta-disk internal; address 127.0.0.2:7790; }
    }";

const R6: &str = "
    resource r6 {
        options { cpu-mask 3; }
        net { cram-hmac-alg sha1; shared-secret \"a b\"; }
        volume 0 { device /dev/drbd6; disk /dev/vg/a; meta-disk /dev/vg/m; }
        volume 1 { device /dev/drbd7; disk /dev/vg/b; meta-disk /dev/vg/i[2]; disk { al-extents 257; } }
        on alice { address ipv6 [fd00::1]:7789; }
        on bob { address ipv6 [fd00::2]:7789; }
    }";

/// With a handler.
const R9: &str = "
    common { handlers { fence-peer \"/bin/fence --now\"; } }
    resource r9 {
        options { on-no-data-accessible suspend-io; }
        device /dev/drbd9; disk { fencing resource-and-stonith; } disk /dev/sda9; meta-disk internal;
        on alice { address 127.0.0.1:7799; }
        on bob bob2 { address 127.0.0.2:7799; }
    }";

pub(super) fn item(text: &str, name: &str) -> Item {
    let config = rdb_config::load_str("test", text).unwrap().config;
    let resource = config.resource(name).unwrap();
    let resolved = resource.for_host("alice").unwrap();
    let written = settings::written(&config, resource, &resolved, "alice");
    let peers = resolved.peer.names.clone();
    let conf = Some("/etc/drbd.conf".into());
    Item {
        handlers: HandlersShown::new(&resolved.handlers, conf, peers),
        resource: resolved,
        written,
        volume: None,
    }
}

fn lines<'a>(steps: impl IntoIterator<Item = &'a Step>) -> String {
    steps
        .into_iter()
        .map(|step| step.line(Family::Drbd) + "\n")
        .collect()
}

/// The step of a command of the table that works on one volume.
fn on_minor(item: &Item, name: &str, minor: u32, is_set: bool) -> Step {
    let verb = verbs::of_adm(name).unwrap();
    let Does::Op(op) = verb.does else {
        panic!("{name}")
    };
    item.on_minor(name, minor, verb.switch().filter(|_| is_set), op)
}

fn up_text(item: &Item) -> String {
    lines(item.up().iter().flatten())
}

#[test]
fn up_is_planned_as_drbdadm_does() {
    assert_eq!(
        up_text(&item(R1, "r1")),
        "drbdsetup new-resource r1\n\
         drbdsetup new-minor r1 1 0\n\
         drbdmeta 1 v08 /dev/sda8 internal apply-al\n\
         drbdsetup attach 1 /dev/sda8 /dev/sda8 internal --resync-rate=33M --c-plan-ahead=0\n\
         drbdsetup connect r1 ipv4:127.0.0.1:7790 ipv4:127.0.0.2:7790 --protocol=C --use-rle=yes\n"
    );
}

#[test]
fn external_metadata_volumes_and_ipv6_are_planned() {
    assert_eq!(
        up_text(&item(R6, "r6")),
        "drbdsetup new-resource r6 --cpu-mask=3\n\
         drbdsetup new-minor r6 6 0\n\
         drbdsetup new-minor r6 7 1\n\
         drbdmeta 6 v08 /dev/vg/m flex-external apply-al\n\
         drbdsetup attach 6 /dev/vg/a /dev/vg/m flexible\n\
         drbdmeta 7 v08 /dev/vg/i 2 apply-al\n\
         drbdsetup attach 7 /dev/vg/b /dev/vg/i 2 --al-extents=257\n\
         drbdsetup connect r6 ipv6:\\[fd00::1\\]:7789 ipv6:\\[fd00::2\\]:7789 --cram-hmac-alg=sha1 \
         --shared-secret=a\\ b\n"
    );
}

/// `secondary` of a resource demotes what is left of an older configuration, too; that of one volume touches no other.
#[test]
fn volumes_that_left_the_configuration_are_found() {
    let mut item = item(R1, "r1");
    let mut shown = running(&item);
    let mut left = shown.volumes[0].clone();
    (left.volume, left.minor) = (7, 17);
    shown.volumes.push(left);
    let mut other = shown.clone();
    other.name = "r2".to_owned();
    let shown = [shown, other];
    assert_eq!(item.left_minors(&shown).collect::<Vec<_>>(), [17]);
    item.volume = Some(0);
    assert_eq!(item.left_minors(&shown).count(), 0);
}

#[test]
fn each_command_is_planned_as_drbdadm_does() {
    let item = item(R1, "r1");
    let volume = &item.resource.volumes[0];
    let of = |name, is_set| on_minor(&item, name, 1, is_set);
    let given = WaitGiven {
        wfc_s: Some(5),
        ..WaitGiven::default()
    };
    for (step, line) in [
        (down("r1"), "drbdsetup down r1"),
        (item.detach(1), "drbdsetup detach 1"),
        (of("detach", true), "drbdsetup detach 1 --force"),
        (
            item.disconnect(false),
            "drbdsetup disconnect ipv4:127.0.0.1:7790 ipv4:127.0.0.2:7790",
        ),
        (of("primary", false), "drbdsetup primary 1"),
        (of("primary", true), "drbdsetup primary 1 --force"),
        (of("secondary", false), "drbdsetup secondary 1"),
        (item.query("role", volume, Query::Role), "drbdsetup role 1"),
        (
            item.query("get-gi", volume, Query::GetGi),
            "drbdsetup get-gi 1",
        ),
        (
            of("new-current-uuid", true),
            "drbdsetup new-current-uuid 1 --clear-bitmap",
        ),
        (
            item.verify(volume, VerifyPart::default()),
            "drbdsetup verify 1",
        ),
        (
            item.verify(
                volume,
                VerifyPart {
                    start: Some(8),
                    stop: Some(800),
                },
            ),
            "drbdsetup verify 1 --start=8 --stop=800",
        ),
        (
            item.net_options(false),
            "drbdsetup net-options ipv4:127.0.0.1:7790 ipv4:127.0.0.2:7790 --protocol=C --use-rle=yes",
        ),
        (
            item.disk_options(volume, true),
            "drbdsetup disk-options 1 --set-defaults --resync-rate=33M --c-plan-ahead=0",
        ),
        (
            item.connect(true, false),
            "drbdsetup connect r1 ipv4:127.0.0.1:7790 ipv4:127.0.0.2:7790 --protocol=C --use-rle=yes \
             --discard-my-data",
        ),
        (
            item.meta(volume, MetaCommand::CreateMd { force: true })
                .unwrap(),
            "drbdmeta 1 v08 /dev/sda8 internal create-md --force",
        ),
        (
            item.wait(false, volume, &WaitGiven::default()),
            "drbdsetup wait-connect 1 --wfc-timeout=120 --degr-wfc-timeout=60 --outdated-wfc-timeout=30 \
             --wait-after-sb=yes",
        ),
        (
            item.wait(true, volume, &given),
            "drbdsetup wait-sync 1 --degr-wfc-timeout=60 --outdated-wfc-timeout=30 --wait-after-sb=yes \
             --wfc-timeout=5",
        ),
    ] {
        assert_eq!(step.line(Family::Drbd), line);
    }
}

/// What a dry run prints may be typed: `rdbsetup` does the same as the step.
#[test]
fn rdbsetup_understands_every_step_as_it_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let mut executor = Executor::new("rdbsetup".to_owned(), Family::Rdb, dir.path().to_owned());
    let mut compared = 0;
    for item in [item(R1, "r1"), item(R6, "r6"), item(R9, "r9")] {
        let volume = &item.resource.volumes[0];
        let mut steps: Vec<Step> = item.up().into_iter().flatten().collect();
        steps.extend([
            item.connect(true, true),
            down(&item.resource.name),
            on_minor(&item, "primary", volume.minor, true),
            on_minor(&item, "detach", volume.minor, true),
            item.disk_options(volume, true),
            item.resource_options(true),
            on_minor(&item, "new-current-uuid", volume.minor, true),
            on_minor(&item, "suspend-io", volume.minor, false),
            on_minor(&item, "resume-io", volume.minor, false),
            item.del_minor(7),
            item.wait(false, volume, &WaitGiven::default()),
        ]);
        for step in steps.iter().filter(|step| step.tool == Tool::Setup) {
            let understood = crate::setup::step_of(&mut executor, &step.argv).unwrap();
            let mut meant = step.action.clone();
            if let Action::Run(Op::NewMinor {
                implicit, old_name, ..
            }) = &mut meant
            {
                // DRBD's words have no room for these.
                *implicit = false;
                *old_name = false;
            }
            assert_eq!(understood.action, meant, "{}", step.line(Family::Rdb));
            assert_eq!(understood.object, step.object);
            compared += 1;
        }
    }
    assert_eq!(compared, 47);
}

pub(super) fn running(item: &Item) -> ResourceShown {
    ResourceShown {
        name: item.resource.name.clone(),
        options: item.resource.options.clone(),
        handlers: item.handlers.clone(),
        connection: Some(ConnectionShown {
            local: item.resource.me.address,
            peer: item.resource.peer.address,
            net: item.resource.net.clone(),
        }),
        volumes: item
            .resource
            .volumes
            .iter()
            .map(|v| VolumeShown {
                volume: v.volume,
                minor: v.minor,
                implicit: v.implicit,
                old_name: v.old_name,
                disk: v.disk.clone().map(|data| DiskShown {
                    data,
                    meta: v.meta.clone(),
                    options: v.disk_options.clone(),
                }),
            })
            .collect(),
    }
}

/// What `adjust` does after something was changed in what runs.
fn adjusted(text: &str, name: &str, change: impl FnOnce(&mut ResourceShown)) -> String {
    let item = item(text, name);
    let mut shown = running(&item);
    change(&mut shown);
    lines(adjust(&item, Some(&shown)).iter().flatten())
}

#[test]
fn handlers_go_with_the_options_of_their_resource() {
    let words = "--on-no-data-accessible=suspend-io --handler=fence-peer=/bin/fence\\ --now \
                 --drbd-conf=/etc/drbd.conf --drbd-peers=bob\\ bob2";
    let new = item(R9, "r9").new_resource().line(Family::Drbd);
    assert_eq!(new, format!("drbdsetup new-resource r9 {words}"));
    let options = format!("drbdsetup resource-options r9 --set-defaults {words}\n");
    let none = adjusted(R9, "r9", |_| {});
    assert_eq!(none, "");
    let changed = adjusted(R9, "r9", |r| {
        let command = r.handlers.commands.get_mut("fence-peer");
        *command.expect("it is configured") = "/bin/other".to_owned();
    });
    assert_eq!(changed, options);
    // As a daemon runs it that has taken the resource over from one that knew no handlers.
    let unknown = adjusted(R9, "r9", |r| r.handlers = HandlersShown::default());
    assert_eq!(unknown, options);
}

#[test]
fn adjust_does_the_smallest_thing() {
    let attach = "drbdmeta 1 v08 /dev/sda8 internal apply-al\n\
                  drbdsetup attach 1 /dev/sda8 /dev/sda8 internal --resync-rate=33M --c-plan-ahead=0\n";
    let connect =
        "drbdsetup connect r1 ipv4:127.0.0.1:7790 ipv4:127.0.0.2:7790 --protocol=C --use-rle=yes\n";
    let r1 = |change: fn(&mut ResourceShown)| adjusted(R1, "r1", change);
    assert_eq!(r1(|_| {}), "");
    assert_eq!(r1(|r| r.connection = None), connect);
    assert_eq!(r1(|r| r.volumes[0].disk = None), attach);
    assert_eq!(
        r1(|r| r.volumes[0].disk.as_mut().unwrap().data = "/dev/sdz".into()),
        format!("drbdsetup detach 1\n{attach}")
    );
    assert_eq!(
        r1(|r| r.volumes[0].disk.as_mut().unwrap().options.resync_rate_kib = 7),
        "drbdsetup disk-options 1 --set-defaults --resync-rate=33M --c-plan-ahead=0\n"
    );
    assert_eq!(
        r1(|r| r.connection.as_mut().unwrap().net.timeout_ds = 61),
        "drbdsetup net-options ipv4:127.0.0.1:7790 ipv4:127.0.0.2:7790 --set-defaults --protocol=C --use-rle=yes\n"
    );
    assert_eq!(
        r1(|r| r.connection.as_mut().unwrap().peer.set_port(1)),
        format!("drbdsetup disconnect ipv4:127.0.0.1:7790 ipv4:127.0.0.2:1\n{connect}")
    );
    assert_eq!(
        r1(|r| r.volumes[0].minor = 9),
        format!("drbdsetup detach 9\ndrbdsetup del-minor 9\ndrbdsetup new-minor r1 1 0\n{attach}")
    );
    assert_eq!(
        adjusted(R6, "r6", |r| {
            r.options.cpu_mask = None;
            r.volumes.pop();
        }),
        "drbdsetup resource-options r6 --set-defaults --cpu-mask=3\n\
         drbdsetup new-minor r6 7 1\n\
         drbdmeta 7 v08 /dev/vg/i 2 apply-al\n\
         drbdsetup attach 7 /dev/vg/b /dev/vg/i 2 --al-extents=257\n"
    );
    let item = item(R1, "r1");
    assert_eq!(lines(adjust(&item, None).iter().flatten()), up_text(&item));
}

#[test]
fn a_query_falls_back_to_the_disk_only_where_the_disk_knows() {
    let item = item(R1, "r1");
    let volume = &item.resource.volumes[0];
    for (query, falls_back) in [
        (Query::Role, false),
        (Query::Cstate, false),
        (Query::Dstate, true),
        (Query::GetGi, true),
        (Query::ShowGi, true),
    ] {
        let is_fallback = matches!(
            item.query("x", volume, query).action,
            Action::QueryOrMeta(..)
        );
        assert_eq!(is_fallback, falls_back, "{query:?}");
    }
}

#[test]
fn one_volume_joins_a_resource_that_runs_without_it() {
    let mut item = item(R6, "r6");
    let mut shown = running(&item);
    item.volume = Some(1);
    assert!(!item.joins(&shown));
    shown.volumes.pop();
    assert!(item.joins(&shown));
    // The first volume's disk is gone, too; nobody has asked for it.
    shown.volumes[0].disk = None;
    assert_eq!(
        lines(adjust(&item, Some(&shown)).iter().flatten()),
        "drbdsetup new-minor r6 7 1\n\
         drbdmeta 7 v08 /dev/vg/i 2 apply-al\n\
         drbdsetup attach 7 /dev/vg/b /dev/vg/i 2 --al-extents=257\n"
    );
    item.volume = None;
    assert!(
        !item.joins(&shown),
        "a whole resource is brought up as a whole"
    );
}

#[test]
fn of_a_disk_option_written_twice_the_last_is_handed_on() {
    let text = R1.replace(
        "resync-rate 33M;",
        "resync-rate 33M; al-extents 300; al-extents 400;",
    );
    let item = item(&text, "r1");
    let words = item
        .disk_options(&item.resource.volumes[0], false)
        .argv
        .join(" ");
    assert_eq!(item.resource.volumes[0].disk_options.al_extents, 400);
    assert!(
        words.contains("--al-extents=400") && !words.contains("=300"),
        "{words}"
    );
}

#[test]
fn adjust_names_what_waits_for_the_next_connection() {
    let item = item(R6, "r6");
    let told = |change: fn(&mut ConnectionShown)| {
        let mut shown = running(&item);
        change(shown.connection.as_mut().unwrap());
        for_next_connection(&item, Some(&shown))
    };
    assert_eq!(told(|_| {}), Vec::<&str>::new());
    assert_eq!(told(|c| c.net.timeout_ds = 61), Vec::<&str>::new());
    let other_algorithm = |c: &mut ConnectionShown| c.net.cram_hmac_alg = Some("md5".to_owned());
    assert_eq!(told(other_algorithm), ["cram-hmac-alg"]);
    assert_eq!(told(|c| c.net.shared_secret = None), ["shared-secret"]);
    // With another peer the connection is made anew, and without one there is none to wait for the end of.
    let elsewhere = |c: &mut ConnectionShown| {
        c.net.cram_hmac_alg = None;
        c.peer.set_port(1);
    };
    assert_eq!(told(elsewhere), Vec::<&str>::new());
    assert_eq!(for_next_connection(&item, None), Vec::<&str>::new());
}

/// What `explain` advises can be typed.
#[test]
fn every_command_that_is_advised_is_one() {
    use rdb_control::{ConnState, DiskState, Role};

    let mut seen = std::collections::BTreeSet::new();
    for cstate in ConnState::ALL {
        for disk in DiskState::ALL {
            for role in ["Primary", "Secondary"] {
                let states = (disk.as_str(), "UpToDate");
                let mut volume =
                    crate::status_text::tests::volume(cstate.as_str(), (role, "Secondary"), states);
                volume.peer_role = Role::Secondary;
                let resource = crate::status_text::tests::resource(cstate.as_str(), vec![volume]);
                for choice in rdb_watch::explain(&resource).choices {
                    seen.insert(choice.command);
                }
            }
        }
    }
    assert!(seen.len() > 5);
    for typed in seen {
        for typed in typed.split(" && ") {
            let words: Vec<&str> = typed.split(' ').collect();
            let parsed = super::table::command("rdbadm").try_get_matches_from(&words);
            assert!(parsed.is_ok(), "{typed}: {parsed:?}");
        }
    }
}
