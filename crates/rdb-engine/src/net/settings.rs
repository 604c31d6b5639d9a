//! The settings that both nodes tell each other: those that must agree when they connect (P_PROTOCOL, P_SYNC_PARAM), and what
//! changes of them while they are connected (P_PROTOCOL_UPDATE, P_SYNC_PARAM; `docs/spec/behaviour.md`, section 7.8).
//!
//! A change is announced, not asked for. DRBD's driver takes over what the peer announces, its own configuration included. Here
//! the configuration is the administrator's: what our users were promised does not change by a word of the peer. Each node's
//! writes go by its own protocol, as each write says by its flags which answers it wants; data carry the digest of their
//! sender; and who asks for a block by its digest, the target of a resync or the driver of a verify, says which digest that is.

use alloc::format;
use alloc::string::{String, ToString};

use replica_proto::{
    AfterSb, AlgorithmName, ConnFlags, DigestAlgorithm, Packet, ProtocolParams, SyncParam,
    WireProtocol,
};

use super::refusal::Refusal;
use crate::config::{DiskOptions, NetOptions, Protocol, SplitBrainPolicy};
use crate::effect::Level;
use crate::event::Payload;
use crate::ids::{Time, VolumeNr};
use crate::integrity::{algorithm_name, algorithm_named};
use crate::resource::Resource;
use crate::rules::trouble::Trouble;
use crate::state::ConnState;

/// The digests by which resyncs and verifies compare blocks, as one node asks for them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Digests {
    /// `csums-alg`.
    pub(crate) csums: Option<DigestAlgorithm>,
    /// `verify-alg`, if there is one and it is known.
    pub(crate) verify: Option<DigestAlgorithm>,
}

impl Digests {
    fn configured(options: &NetOptions) -> Digests {
        Digests {
            csums: options.csums_alg,
            verify: DigestAlgorithm::from_name(&options.verify_alg).ok(),
        }
    }
}

/// Which digests each node asks by on this connection: the target of a resync, and whoever drives a verify. Set from the
/// configuration, which is the same on both nodes, when the connection begins; then by what each node announces. DRBD's driver
/// goes by the last word of either, in both directions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Comparison {
    /// Ours.
    pub(crate) own: Digests,
    /// The peer's.
    pub(crate) peer: Digests,
}

impl Comparison {
    /// Whether either node may drive a verify. (For a moment, while settings change, one of them has no digest for it.)
    pub(crate) fn has_verify(&self) -> bool {
        self.own.verify.is_some() && self.peer.verify.is_some()
    }

    /// At the beginning of a connection.
    pub(super) fn configured(options: &NetOptions) -> Comparison {
        let own = Digests::configured(options);
        Comparison { own, peer: own }
    }
}

/// What the peer goes by. Set when its settings have come and fit, changed by its announcements, and by ours where it takes them
/// over; forgotten with the connection.
#[derive(Debug, Clone)]
pub(crate) struct PeerSettings {
    params: ProtocolParams,
    csums: AlgorithmName,
    verify: AlgorithmName,
    /// What differs from ours, and since when, if anything does.
    difference: Option<(String, Time)>,
}

impl PeerSettings {
    /// By which protocol its writes go.
    pub(crate) fn protocol(&self) -> Protocol {
        match self.params.protocol {
            WireProtocol::A => Protocol::A,
            WireProtocol::B => Protocol::B,
            WireProtocol::C => Protocol::C,
        }
    }
}

impl<P: Payload> Resource<P> {
    /// The settings as P_PROTOCOL and P_PROTOCOL_UPDATE carry them.
    pub(super) fn own_params(options: &NetOptions, conn_flags: ConnFlags) -> ProtocolParams {
        ProtocolParams {
            protocol: wire_protocol(options.protocol),
            after_sb_0p: after_sb(options.after_sb_0pri),
            after_sb_1p: after_sb(options.after_sb_1pri),
            after_sb_2p: after_sb(options.after_sb_2pri),
            conn_flags,
            two_primaries: false,
            integrity_alg: algorithm_name(options.integrity_alg),
        }
    }

    /// Announces the pace of resyncs and the digests that they and verifies compare by.
    pub(crate) fn send_sync_param(&mut self, nr: VolumeNr) {
        let verify_alg = self
            .net
            .options
            .as_ref()
            .map_or("", |o| o.verify_alg.as_str());
        let verify_alg = AlgorithmName::new(verify_alg).unwrap_or_default();
        let options = self
            .volume(nr)
            .disk
            .get()
            .map(|d| d.options.clone())
            .unwrap_or_default();
        let params = SyncParam {
            resync_rate: options.resync_rate_kib,
            verify_alg,
            csums_alg: algorithm_name(self.net.options.as_ref().and_then(|o| o.csums_alg)),
            c_plan_ahead: options.c_plan_ahead_ds,
            c_delay_target: options.c_delay_target_ds,
            c_fill_target: options.c_fill_target_sectors,
            c_max_rate: options.c_max_rate_kib,
        };
        self.send(nr, Packet::SyncParam(params), None);
    }

    /// P_PROTOCOL: settings must match, or nothing can be agreed (`docs/spec/behaviour.md`, section 7.4).
    pub(crate) fn on_protocol(&mut self, peer: &ProtocolParams) {
        let Some(own) = self.net.options.clone() else {
            return;
        };
        let discards = peer.conn_flags.contains(ConnFlags::DISCARD_MY_DATA);
        if discards && self.net.discard_my_data {
            let text = "incompatible discard-my-data settings: both nodes ask for it";
            self.refuse(Refusal::Settings, text);
            return;
        }
        if let Some(difference) = told(differences(&own, peer)) {
            self.refuse(Refusal::Settings, format!("incompatible {difference}"));
            return;
        }
        self.net.link.greet();
        self.net.peer_settings = Some(PeerSettings {
            params: peer.clone(),
            csums: algorithm_name(own.csums_alg),
            verify: AlgorithmName::new(&own.verify_alg).unwrap_or_default(),
            difference: None,
        });
        self.use_peer_integrity(own.integrity_alg);
        if peer.conn_flags.contains(ConnFlags::DRY_RUN) {
            self.net.peer_dry_run = true;
        }
    }

    /// P_PROTOCOL_UPDATE: the peer's settings have changed. That they differ now is said in the log and by `status`: the next
    /// handshake would find it.
    pub(crate) fn on_protocol_update(&mut self, peer: &ProtocolParams) {
        let Some(integrity) = algorithm_named(&peer.integrity_alg) else {
            // Its data could not be told from their digests any more.
            self.settings_unknown("data-integrity-alg");
            return;
        };
        // What the peer's data carry from its next packet on; ours go on with our own algorithm.
        self.use_peer_integrity(integrity);
        if let Some(known) = &mut self.net.peer_settings {
            known.params = peer.clone();
        }
        self.compare_settings("the peer");
    }

    /// P_SYNC_PARAM: the pace holds as long as the peer is connected, and so do algorithms that are announced later; when the
    /// connection is made they must match.
    pub(crate) fn on_sync_param(&mut self, nr: VolumeNr, peer: &SyncParam) {
        let Some(own) = self.net.options.clone() else {
            return;
        };
        if self.volume(nr).state.conn == ConnState::WFReportParams {
            if let Some(difference) = told(comparison_differences(
                &own,
                &peer.verify_alg,
                &peer.csums_alg,
            )) {
                self.refuse_volume(Refusal::Settings, nr, difference);
                return;
            }
        } else {
            let Some(csums) = algorithm_named(&peer.csums_alg) else {
                self.settings_unknown("csums-alg");
                return;
            };
            let verify = algorithm_named(&peer.verify_alg).flatten();
            self.net.comparison.peer = Digests { csums, verify };
            if self.peer_adopts() {
                self.net.comparison.own = self.net.comparison.peer;
            }
            if let Some(known) = &mut self.net.peer_settings {
                known.csums = peer.csums_alg.clone();
                known.verify = peer.verify_alg.clone();
            }
            self.compare_settings("the peer");
        }
        self.volume_mut(nr).peer.pace = Some(peer.clone());
    }

    /// The peer goes by an algorithm that is not known here: nothing can be made of what it will say.
    fn settings_unknown(&mut self, what: &str) {
        let text = format!("the peer's new {what} is not known here");
        self.log(Level::Error, text.clone());
        self.trouble(Trouble::Settings, text);
        self.lose_connection(ConnState::ProtocolError);
    }

    /// Takes note of whether both nodes go by the same settings, after one of them (`whose`) has told of new ones.
    fn compare_settings(&mut self, whose: &str) {
        let now = self.now;
        let difference = self.settings_difference();
        let Some(known) = &mut self.net.peer_settings else {
            return;
        };
        let (last, since) = known.difference.take().unzip();
        known.difference = difference.clone().map(|text| (text, since.unwrap_or(now)));
        match (difference, last) {
            (Some(text), last) if last.as_ref() != Some(&text) => {
                let text = format!(
                    "{whose} has new settings; each node keeps to its own, and the next connection will be refused unless they are made equal: different {text}"
                );
                self.log(Level::Warn, text);
            }
            (None, Some(_)) => {
                self.log(Level::Info, "both nodes go by the same settings again");
            }
            _ => {}
        }
    }

    /// DRBD's driver takes over what it is told; rdb, which is known by a feature of its own, does not.
    fn peer_adopts(&self) -> bool {
        !self.net.explicit_flush
    }

    /// What differs between our configuration and what the peer goes by.
    fn settings_difference(&self) -> Option<String> {
        let own = self.net.options.as_ref()?;
        let peer = self.net.peer_settings.as_ref()?;
        let comparison = comparison_differences(own, &peer.verify, &peer.csums);
        told(differences(own, &peer.params).chain(comparison))
    }

    /// The same, and since when, for `status`: the pair is connected, and would not connect again.
    pub(crate) fn differing_settings(&self) -> Option<(&str, Time)> {
        let (text, since) = self.net.peer_settings.as_ref()?.difference.as_ref()?;
        Some((text, *since))
    }

    /// Our settings have changed while the peer knows the old ones: it is told.
    pub(crate) fn announce_settings(&mut self, old: &NetOptions, new: &NetOptions) {
        let params = Self::own_params(new, ConnFlags::empty());
        let adopts = self.peer_adopts();
        self.log(Level::Info, "the peer is told of new settings");
        if params != Self::own_params(old, ConnFlags::empty()) {
            self.send(VolumeNr(0), Packet::ProtocolUpdate(params.clone()), None);
            self.use_own_integrity(new.integrity_alg);
            if let Some(peer) = self.net.peer_settings.as_mut().filter(|_| adopts) {
                let integrity_alg = peer.params.integrity_alg.clone();
                peer.params = ProtocolParams {
                    after_sb_0p: params.after_sb_0p.convert_for_receiver(),
                    after_sb_1p: params.after_sb_1p.convert_for_receiver(),
                    after_sb_2p: params.after_sb_2p.convert_for_receiver(),
                    integrity_alg,
                    ..params
                };
            }
        }
        if (old.csums_alg, &old.verify_alg) != (new.csums_alg, &new.verify_alg) {
            self.net.comparison.own = Digests::configured(new);
            if adopts {
                self.net.comparison.peer = self.net.comparison.own;
            }
            for nr in self.volume_numbers() {
                if self.volume(nr).state.conn >= ConnState::Connected {
                    self.send_sync_param(nr);
                }
            }
            if let Some(peer) = self.net.peer_settings.as_mut().filter(|_| adopts) {
                peer.csums = algorithm_name(new.csums_alg);
                peer.verify = AlgorithmName::new(&new.verify_alg).unwrap_or_default();
            }
        }
        self.compare_settings("this node");
    }

    /// The disk's options, with the pace of resyncs as the peer has told it: the administrator of either node may set it.
    pub(crate) fn options_in_effect(&self, nr: VolumeNr) -> Option<DiskOptions> {
        let volume = self.volume(nr);
        let options = volume.disk.get()?.options.clone();
        let Some(pace) = &volume.peer.pace else {
            return Some(options);
        };
        Some(DiskOptions {
            resync_rate_kib: pace.resync_rate.max(1),
            c_plan_ahead_ds: pace.c_plan_ahead.min(300),
            c_delay_target_ds: pace.c_delay_target.clamp(1, 100),
            c_fill_target_sectors: pace.c_fill_target.min(1 << 20),
            c_max_rate_kib: pace.c_max_rate.clamp(250, 4 << 20),
            ..options
        })
    }
}

/// A setting in which the nodes differ: its name, what it is here, and on the peer.
type Difference = (&'static str, String, String);

/// The settings of P_PROTOCOL in which the nodes differ.
fn differences(own: &NetOptions, peer: &ProtocolParams) -> impl Iterator<Item = Difference> {
    let policy = |name, ours, theirs: AfterSb| {
        let mirrored = theirs.convert_for_receiver();
        (name, after_sb(ours).to_string(), mirrored.to_string())
    };
    let yes = |set: bool| String::from(if set { "yes" } else { "no" });
    let integrity = algorithm_name(own.integrity_alg);
    let settings = [
        (
            "protocol",
            letter(wire_protocol(own.protocol)),
            letter(peer.protocol),
        ),
        policy("after-sb-0pri", own.after_sb_0pri, peer.after_sb_0p),
        policy("after-sb-1pri", own.after_sb_1pri, peer.after_sb_1p),
        policy("after-sb-2pri", own.after_sb_2pri, peer.after_sb_2p),
        ("allow-two-primaries", yes(false), yes(peer.two_primaries)),
        (
            "data-integrity-alg",
            named(integrity.as_str()),
            named(peer.integrity_alg.as_str()),
        ),
    ];
    settings
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
}

/// The algorithms of P_SYNC_PARAM in which the nodes differ.
fn comparison_differences(
    own: &NetOptions,
    verify: &AlgorithmName,
    csums: &AlgorithmName,
) -> impl Iterator<Item = Difference> {
    let own_csums = algorithm_name(own.csums_alg);
    let algorithms = [
        ("verify-alg", named(&own.verify_alg), named(verify.as_str())),
        (
            "csums-alg",
            named(own_csums.as_str()),
            named(csums.as_str()),
        ),
    ];
    algorithms
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
}

/// All differences in words, if there are any.
fn told(differences: impl Iterator<Item = Difference>) -> Option<String> {
    let mut text = String::new();
    for (what, ours, theirs) in differences {
        if !text.is_empty() {
            text.push_str("; ");
        }
        // (A name can be anything that fits.)
        let theirs = theirs.escape_debug();
        text.push_str(&format!(
            "{what} settings: here {ours}, on the peer {theirs}"
        ));
    }
    (!text.is_empty()).then_some(text)
}

fn named(algorithm: &str) -> String {
    match algorithm {
        "" => String::from("none"),
        algorithm => algorithm.to_string(),
    }
}

fn letter(protocol: WireProtocol) -> String {
    let letter = match protocol {
        WireProtocol::A => "A",
        WireProtocol::B => "B",
        WireProtocol::C => "C",
    };
    letter.to_string()
}

fn wire_protocol(protocol: Protocol) -> WireProtocol {
    match protocol {
        Protocol::A => WireProtocol::A,
        Protocol::B => WireProtocol::B,
        Protocol::C => WireProtocol::C,
    }
}

fn after_sb(policy: SplitBrainPolicy) -> AfterSb {
    AfterSb::from_code(policy as u32).unwrap_or(AfterSb::Disconnect)
}
