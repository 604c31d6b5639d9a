//! Files of DRBD 9 for two hosts mean what they say; what needs more than two is refused by name.

use rdb_config::{Config, Loaded, MetaDisk, ResolvedResource, load_str};

fn loaded(body: &str) -> Loaded {
    let text = format!("resource r0 {{\n{body}\n}}\n");
    load_str("q.conf", &text).unwrap_or_else(|e| panic!("{body}: {e}"))
}

fn on(config: &Config, node: &str) -> ResolvedResource {
    let resource = &config.resources[0];
    resource
        .for_host(node)
        .unwrap_or_else(|e| panic!("{node}: {e}"))
}

const DISKS: &str = "device /dev/drbd3; disk /dev/vg0/a;";

#[test]
fn a_connection_says_where_its_hosts_are() {
    let addresses = "host alice address 10.0.0.1:7801; host bob address ipv4 10.0.0.2:7802;";
    for (body, ports) in [
        (
            format!("on alice {{ node-id 0; }} on bob {{ node-id 1; }} connection {{ {addresses} }}"),
            [7801, 7802],
        ),
        (
            format!(
                "on alice {{ node-id 0; }} on bob {{ node-id 1; }} connection \"x\" {{ path {{ {addresses} }} }}"
            ),
            [7801, 7802],
        ),
        // What the connection says is nearer than what the host says.
        (
            format!(
                "connection {{ {addresses} }} on alice {{ address 10.0.0.7:1; }} on bob {{ address 10.0.0.8:2; }}"
            ),
            [7801, 7802],
        ),
        (
            "on alice { address 10.0.0.1:1; } on bob { address 10.0.0.2:2; }
             connection { host alice port 7803; host bob; }"
                .to_owned(),
            [7803, 2],
        ),
        (
            "connection-mesh { hosts alice bob; }
             on alice { address 10.0.0.1:7804; node-id 1; } on bob { address 10.0.0.2:7804; node-id 2; }"
                .to_owned(),
            [7804, 7804],
        ),
    ] {
        let loaded = loaded(&format!("{DISKS} {body}"));
        let alice = on(&loaded.config, "alice");
        let bob = on(&loaded.config, "bob");
        let expected = [
            format!("10.0.0.1:{}", ports[0]),
            format!("10.0.0.2:{}", ports[1]),
        ];
        assert_eq!(alice.me.address.to_string(), expected[0], "{body}");
        assert_eq!(alice.peer.address.to_string(), expected[1], "{body}");
        assert_eq!(alice.me, bob.peer, "{body}");
        // Its metadata is internal unless it says otherwise.
        assert_eq!(alice.volumes[0].meta, MetaDisk::Internal, "{body}");
    }
}

#[test]
fn options_of_the_connection_come_before_those_of_the_resource() {
    let loaded = loaded(&format!(
        "{DISKS} net {{ timeout 50; max-buffers 4000; }} disk {{ c-max-rate 9M; c-min-rate 8M; c-fill-target 1M; }}
         on alice {{ node-id 0; }} on bob {{ node-id 1; }}
         connection {{
             host alice address 10.0.0.1:7801; host bob address 10.0.0.2:7801;
             net {{ timeout 40; protocol A; }}
             disk {{ c-max-rate 4M; c-min-rate 3M; }}
             volume 0 {{ disk {{ c-min-rate 1M; }} }}
         }}"
    ));
    let alice = on(&loaded.config, "alice");
    let disk = &alice.volumes[0].disk_options;
    assert_eq!(
        (
            alice.net.timeout_ds,
            alice.net.max_buffers,
            alice.net.protocol.as_str()
        ),
        (40, 4000, "A")
    );
    assert_eq!(
        (
            disk.c_max_rate_kib,
            disk.c_min_rate_kib,
            disk.c_fill_target_sectors
        ),
        (4096, 1024, 2048)
    );
}

#[test]
fn floating_hosts_have_node_ids_too() {
    let loaded = loaded(&format!(
        "{DISKS} floating 127.0.47.1:7706 {{ node-id 0; }} floating 10.255.255.2:7706 {{ node-id 1; }}"
    ));
    let here = on(&loaded.config, "whoever");
    assert_eq!(here.me.address.to_string(), "127.0.47.1:7706");
    assert_eq!(here.volumes[0].meta, MetaDisk::Internal);
    let ids: Vec<_> = loaded.config.resources[0]
        .hosts
        .iter()
        .map(|h| h.node_id)
        .collect();
    assert_eq!(ids, [Some(0), Some(1)]);
}

#[test]
fn what_needs_more_than_two_hosts_is_refused_by_name() {
    let three =
        "on alice { address 10.0.0.1:1; node-id 0; } on bob { address 10.0.0.2:1; node-id 1; }
                 on carol { address 10.0.0.3:1; node-id 2; }";
    let two = "on alice { address 10.0.0.1:1; } on bob { address 10.0.0.2:1; }";
    for (body, refusal) in [
        (
            format!("{three} connection-mesh {{ hosts alice bob carol; }}"),
            "'connection-mesh' (DRBD 9) of 3 hosts is not served by rdb yet",
        ),
        (
            format!(
                "{three} connection {{ host alice; host bob; }} connection {{ host bob; host carol; }}"
            ),
            "'connection' (DRBD 9) of 3 hosts is not served by rdb yet",
        ),
        (
            format!("{two} connection {{ path {{ host alice; host bob; }} path {{ host alice; host bob; }} }}"),
            "more than one 'path' of a 'connection' (DRBD 9) is not served by rdb yet",
        ),
        (
            format!(
                "{two} connection {{ host alice via proxy on alice {{ inside 10.0.0.1:2; outside 10.0.0.1:3; }}
                 host bob; }}"
            ),
            "'via proxy' (DRBD 9) is not served by rdb yet",
        ),
        (
            format!("{two} connection {{ host alice; host zoe address 10.0.0.9:1; }}"),
            "'connection' (DRBD 9) with 'zoe', which has no 'on' section, is not served by rdb yet",
        ),
        (
            "on alice { node-id 0; } on bob { node-id 1; }".to_owned(),
            "'address' keyword missing.",
        ),
    ] {
        let loaded = loaded(&format!("{DISKS} {body}"));
        let resource = &loaded.config.resources[0];
        let error = resource.for_host("alice").expect_err(&body).text();
        assert!(error.contains(refusal), "{body}: {error}");
        // It can be asked for and taken down all the same.
        let described = resource.described_for("alice", None).expect(&body);
        assert_eq!(described.volumes[0].minor, 3);
    }
}

#[test]
fn errors_are_those_of_drbd_9() {
    for (body, message) in [
        (
            "on alice { address 10.0.0.1:1; node-id 1; }\non bob { address 10.0.0.2:1; node-id 1; }",
            "q.conf:3: conflicting use of node-id 'r0:1' ...\nq.conf:2: node-id 'r0:1' first used here.",
        ),
        (
            "on alice { address 10.0.0.1:1; } on bob { address 10.0.0.2:1; } connection-mesh { hosts alice zoe; }",
            "There is no 'on' section for hostname 'zoe' named in the connection-mesh",
        ),
        (
            "connection { hosts alice; }",
            "'host | path | net | disk | volume | skip | }' expected",
        ),
        (
            "connection-mesh { host alice; }",
            "'hosts | net | disk | }' expected",
        ),
    ] {
        let text = format!("resource r0 {{ {DISKS}\n{body}\n}}\n");
        let error = load_str("q.conf", &text).expect_err(body).text();
        assert!(error.contains(message), "{body}: {error}");
    }
}

#[test]
fn options_of_9_at_their_defaults_are_no_reason_to_refuse() {
    for options in [
        "net { transport tcp; }",
        "net { transport \"tcp\"; tls no; }",
        "options { quorum off; on-no-quorum suspend-io; }",
        "net { rr-conflict retry-connect; }",
    ] {
        let hosts =
            "on alice { address 10.0.0.1:1; node-id 0; } on bob { address 10.0.0.2:1; node-id 1; }";
        let loaded = loaded(&format!("{DISKS} {hosts} {options}"));
        on(&loaded.config, "alice");
    }
}

#[test]
fn a_dump_is_read_back_as_the_same() {
    let loaded = loaded(&format!(
        "{DISKS} on alice {{ node-id 0; }} on bob {{ node-id 1; }}
         connection {{ host alice address 10.0.0.1:7801; host bob address 10.0.0.2:7801; net {{ timeout 40; }} }}"
    ));
    let printed = loaded
        .config
        .dump("alice", rdb_config::DumpStyle::default());
    let again = load_str("q.conf", &printed).unwrap_or_else(|e| panic!("{printed}\n{e}"));
    let mut first = on(&loaded.config, "alice");
    let second = on(&again.config, "alice");
    first.defined_at.1 = second.defined_at.1;
    assert_eq!(first, second, "{printed}");
}
