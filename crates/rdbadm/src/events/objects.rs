//! The objects of `events2`, with the words that say which they are and how they are (`docs/spec/admin.md`, section 4.9).

use rdb_control::{ConnState, ResourceReport, VolumeReport};
use rdb_watch::{may_promote, promotion_score};

use crate::status_text;

/// Which words there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// DRBD 9's words: `--full`.
    pub(super) is_full: bool,
    /// With figures: `--statistics`.
    pub(super) figures: bool,
}

/// What an object is. The order is that in which objects are made and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Resource,
    Connection,
    Device,
    PeerDevice,
    Path,
}

impl Kind {
    /// When it goes: what belongs to something before it, and connections before devices.
    pub(super) const fn goes_as(self) -> u8 {
        match self {
            Kind::Path => 0,
            Kind::PeerDevice => 1,
            Kind::Connection => 2,
            Kind::Device => 3,
            Kind::Resource => 4,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Kind::Resource => "resource",
            Kind::Connection => "connection",
            Kind::Device => "device",
            Kind::PeerDevice => "peer-device",
            Kind::Path => "path",
        }
    }
}

/// What a word says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Word(String),
    Number(u64),
    Switch(bool),
}

/// When a word is told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// When it has changed; a change of it is one of the object.
    State,
    /// When it has changed and the object has, too.
    IfChanged,
    /// Whenever the object has changed.
    Always,
}

/// One word: `key:value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) key: &'static str,
    pub(super) value: Value,
    pub(super) told: Told,
    /// What its colour goes by, if it has one: own side, or the peer's.
    pub(super) own: Option<bool>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    /// Which it is.
    pub(super) names: Vec<Word>,
    /// How it is.
    pub(super) words: Vec<Word>,
}

/// What DRBD 8.4 calls its one connection, and the number of its peer.
const CONN_NAME: &str = "peer";
const PEER_NODE_ID: u64 = 0;

fn word(key: &'static str, value: impl Into<String>) -> Word {
    Word {
        key,
        value: Value::Word(value.into()),
        told: Told::State,
        own: None,
    }
}

fn painted(key: &'static str, value: &str, own: bool) -> Word {
    Word {
        own: Some(own),
        ..word(key, value)
    }
}

fn switch(key: &'static str, value: bool) -> Word {
    Word {
        value: Value::Switch(value),
        ..word(key, "")
    }
}

fn number(key: &'static str, value: impl Into<u64>) -> Word {
    Word {
        value: Value::Number(value.into()),
        ..word(key, "")
    }
}

fn figure(key: &'static str, value: impl Into<u64>) -> Word {
    Word {
        told: Told::Always,
        ..number(key, value)
    }
}

fn now_and_then(word: Word) -> Word {
    Word {
        told: Told::IfChanged,
        ..word
    }
}

/// The words that say which connection of a resource it is; without a name while there is none.
fn connection_names(resource: &ResourceReport, view: View) -> Vec<Word> {
    let mut names = vec![
        word("name", &resource.name),
        number("peer-node-id", PEER_NODE_ID),
    ];
    if view.is_full || resource.connection != ConnState::StandAlone {
        names.push(word("conn-name", CONN_NAME));
    }
    names
}

/// The same, whatever the connection is like just now.
pub(super) fn named_connection(resource: &str) -> Vec<Word> {
    vec![
        word("name", resource),
        number("peer-node-id", PEER_NODE_ID),
        word("conn-name", CONN_NAME),
    ]
}

/// The words that say which volume of a connection it is.
pub(super) fn named_volume(volume: &VolumeReport) -> [Word; 2] {
    [
        number("volume", volume.volume),
        number("minor", volume.minor),
    ]
}

/// A resource and its devices.
pub(super) fn own_side(resource: &ResourceReport, view: View) -> Vec<Object> {
    let mut objects = vec![resource_object(resource, view)];
    objects.extend(
        resource
            .volumes
            .iter()
            .map(|volume| device(resource, volume, view)),
    );
    objects
}

/// Its connection, with all that belongs to it. `is_named`: it is there, though it may be StandAlone just now.
pub(super) fn peer_side(resource: &ResourceReport, view: View, is_named: bool) -> Vec<Object> {
    let names = match is_named {
        true => named_connection(&resource.name),
        false => connection_names(resource, view),
    };
    let mut words = vec![
        painted(
            "connection",
            status_text::connection_word(resource.connection),
            true,
        ),
        painted("role", status_text::peer_role(resource).as_str(), false),
    ];
    if view.figures {
        words.push(now_and_then(switch(
            "congested",
            status_text::is_congested(resource),
        )));
        if view.is_full {
            let sum = |of: fn(&VolumeReport) -> u64| resource.volumes.iter().map(of).sum::<u64>();
            words.push(figure("ap-in-flight", sum(|v| v.ap_in_flight_kib)));
            words.push(figure("rs-in-flight", sum(|v| v.rs_in_flight_kib)));
        }
    }
    let mut objects = vec![Object {
        kind: Kind::Connection,
        names: names.clone(),
        words,
    }];
    let volumes = resource.volumes.iter();
    objects.extend(volumes.map(|volume| peer_device(&names, volume, view)));
    if let (true, Some(local), Some(peer)) = (view.is_full, resource.local, resource.peer) {
        objects.push(path(&names, resource, local, peer));
    }
    objects
}

fn resource_object(resource: &ResourceReport, view: View) -> Object {
    let mut words = vec![
        painted("role", status_text::role_word(resource), true),
        word("suspended", status_text::suspended(resource)),
    ];
    if view.is_full {
        words.push(switch("force-io-failures", false));
    }
    if view.figures {
        let ordering = status_text::write_ordering_of(resource);
        words.push(now_and_then(word("write-ordering", ordering)));
    }
    if view.is_full {
        words.push(switch("may_promote", may_promote(resource)));
        words.push(number("promotion_score", promotion_score(resource)));
    }
    Object {
        kind: Kind::Resource,
        names: vec![word("name", &resource.name)],
        words,
    }
}

fn device(resource: &ResourceReport, volume: &VolumeReport, view: View) -> Object {
    let mut names = vec![word("name", &resource.name)];
    names.extend(named_volume(volume));
    let mut words = Vec::new();
    if view.is_full {
        let backing = volume.backing.as_ref();
        let backing = backing.map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        words.push(word("backing_dev", backing));
    }
    words.push(painted("disk", volume.disk.as_str(), true));
    if view.is_full {
        words.push(switch("client", false));
        words.push(switch("quorum", true));
    }
    if view.figures {
        words.extend([
            figure("size", volume.size_kib),
            figure("read", volume.read_kib),
            figure("written", volume.written_kib),
            figure("al-writes", volume.al_writes),
            figure("bm-writes", volume.bm_writes),
            figure("upper-pending", volume.application_pending),
            figure("lower-pending", volume.local_pending),
            now_and_then(switch("al-suspended", volume.al_suspended)),
            now_and_then(word("blocked", status_text::blocked(volume))),
        ]);
    }
    Object {
        kind: Kind::Device,
        names,
        words,
    }
}

fn peer_device(connection: &[Word], volume: &VolumeReport, view: View) -> Object {
    let mut names = connection.to_vec();
    names.push(number("volume", volume.volume));
    let mut words = vec![
        painted("replication", status_text::replication_word(volume), true),
        painted("peer-disk", volume.peer_disk.as_str(), false),
    ];
    if view.is_full {
        words.push(switch("peer-client", false));
    }
    words.push(word(
        "resync-suspended",
        status_text::resync_suspended(volume),
    ));
    if view.figures {
        words.extend([
            figure("received", volume.received_kib),
            figure("sent", volume.sent_kib),
            figure("out-of-sync", volume.out_of_sync_kib),
            figure("pending", volume.peer_pending),
            figure("unacked", volume.unacked),
        ]);
    }
    Object {
        kind: Kind::PeerDevice,
        names,
        words,
    }
}

fn path(
    connection: &[Word],
    resource: &ResourceReport,
    local: std::net::SocketAddr,
    peer: std::net::SocketAddr,
) -> Object {
    let address = |address: std::net::SocketAddr| match address.is_ipv4() {
        true => format!("ipv4:{address}"),
        false => format!("ipv6:{address}"),
    };
    let mut names = connection.to_vec();
    names.extend([word("local", address(local)), word("peer", address(peer))]);
    let is_established = resource.connection == ConnState::WFReportParams;
    Object {
        kind: Kind::Path,
        names,
        words: vec![switch("established", is_established)],
    }
}
