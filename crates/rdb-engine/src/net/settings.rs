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
    AfterSb, AlgorithmName, ConnFlags, DigestAlgorithm, ProtocolParams, SyncParam, WireProtocol,
};

use crate::config::{DiskOptions, NetOptions, Protocol, SplitBrainPolicy};
use crate::effect::Level;
use crate::ids::Time;
use crate::integrity::algorithm_name;

/// The digests by which resyncs and verifies compare blocks, as one node asks for them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Digests {
    /// `csums-alg`.
    pub csums: Option<DigestAlgorithm>,
    /// `verify-alg`, if there is one and it is known.
    pub verify: Option<DigestAlgorithm>,
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
/// goes by the last word of either, in both directions: beside it the two are equal.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Comparison {
    own: Digests,
    peer: Digests,
}

impl Comparison {
    /// Whether either node may drive a verify. (For a moment, while settings change, one of them has no digest for it.)
    pub(crate) fn has_verify(&self) -> bool {
        self.own.verify.is_some() && self.peer.verify.is_some()
    }

    /// At the beginning of a connection.
    pub(crate) fn configured(options: &NetOptions) -> Comparison {
        let own = Digests::configured(options);
        Comparison { own, peer: own }
    }

    /// We announce what is configured now.
    pub(crate) fn we_announce(&mut self, options: &NetOptions, peer_adopts: bool) {
        self.own = Digests::configured(options);
        if peer_adopts {
            self.peer = self.own;
        }
    }

    /// The peer announces these. One that takes over what it is told expects the same of us.
    pub(crate) fn peer_announces(&mut self, digests: Digests, peer_adopts: bool) {
        self.peer = digests;
        if peer_adopts {
            self.own = digests;
        }
    }

    /// By which digests we ask.
    pub(crate) fn ours(&self) -> Digests {
        self.own
    }

    /// By which digests the peer asks.
    pub(crate) fn peers(&self) -> Digests {
        self.peer
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
    /// What it has told when it connected, and what it goes by then: it fits, so these are our own algorithms.
    pub(crate) fn met(params: ProtocolParams, own: &NetOptions) -> PeerSettings {
        PeerSettings {
            params,
            csums: algorithm_name(own.csums_alg),
            verify: AlgorithmName::new(&own.verify_alg).unwrap_or_default(),
            difference: None,
        }
    }

    /// By which protocol its writes go.
    pub(crate) fn protocol(&self) -> Protocol {
        match self.params.protocol {
            WireProtocol::A => Protocol::A,
            WireProtocol::B => Protocol::B,
            WireProtocol::C => Protocol::C,
        }
    }

    /// It has told of new settings.
    pub(crate) fn told_params(&mut self, params: ProtocolParams) {
        self.params = params;
    }

    /// It has told of new algorithms.
    pub(crate) fn told_algorithms(&mut self, told: &SyncParam) {
        self.csums = told.csums_alg.clone();
        self.verify = told.verify_alg.clone();
    }

    /// It takes our new settings over, but for the algorithm of its own data.
    pub(crate) fn adopt_params(&mut self, ours: ProtocolParams) {
        self.params = ProtocolParams {
            after_sb_0p: ours.after_sb_0p.convert_for_receiver(),
            after_sb_1p: ours.after_sb_1p.convert_for_receiver(),
            after_sb_2p: ours.after_sb_2p.convert_for_receiver(),
            integrity_alg: self.params.integrity_alg.clone(),
            ..ours
        };
    }

    /// It takes our new algorithms over.
    pub(crate) fn adopt_algorithms(&mut self, ours: &NetOptions) {
        self.csums = algorithm_name(ours.csums_alg);
        self.verify = AlgorithmName::new(&ours.verify_alg).unwrap_or_default();
    }

    /// Takes note of whether both nodes go by the same settings, after one of them (`whose`) has told of new ones; what the log
    /// is told, if that is another thing than before.
    pub(crate) fn compare(
        &mut self,
        own: &NetOptions,
        whose: &str,
        now: Time,
    ) -> Option<(Level, String)> {
        let comparison = comparison_differences(own, &self.verify, &self.csums);
        let difference = told(differences(own, &self.params).chain(comparison));
        let (last, since) = self.difference.take().unzip();
        self.difference = difference.clone().map(|text| (text, since.unwrap_or(now)));
        match (difference, last) {
            (Some(text), last) if last.as_ref() != Some(&text) => Some((
                Level::Warn,
                format!(
                    "{whose} has new settings; each node keeps to its own, and the next connection will be refused unless they are made equal: different {text}"
                ),
            )),
            (None, Some(_)) => {
                let text = "both nodes go by the same settings again";
                Some((Level::Info, text.into()))
            }
            _ => None,
        }
    }

    /// In what it differs from our configuration, and since when: the pair is connected, and would not connect again.
    pub(crate) fn difference(&self) -> Option<&(String, Time)> {
        self.difference.as_ref()
    }
}

/// The settings as P_PROTOCOL and P_PROTOCOL_UPDATE carry them.
pub(crate) fn params(options: &NetOptions, conn_flags: ConnFlags) -> ProtocolParams {
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

/// The settings of P_SYNC_PARAM: the pace of resyncs onto a disk, and the digests that they and verifies compare by.
pub(crate) fn sync_param(net: Option<&NetOptions>, disk: &DiskOptions) -> SyncParam {
    let verify_alg = net.map_or("", |o| o.verify_alg.as_str());
    SyncParam {
        resync_rate: disk.resync_rate_kib,
        verify_alg: AlgorithmName::new(verify_alg).unwrap_or_default(),
        csums_alg: algorithm_name(net.and_then(|o| o.csums_alg)),
        c_plan_ahead: disk.c_plan_ahead_ds,
        c_delay_target: disk.c_delay_target_ds,
        c_fill_target: disk.c_fill_target_sectors,
        c_max_rate: disk.c_max_rate_kib,
    }
}

/// In which settings of P_PROTOCOL the nodes differ, in words.
pub(crate) fn params_differ(own: &NetOptions, peer: &ProtocolParams) -> Option<String> {
    told(differences(own, peer))
}

/// In which algorithms of P_SYNC_PARAM they differ.
pub(crate) fn sync_param_differs(own: &NetOptions, peer: &SyncParam) -> Option<String> {
    told(comparison_differences(
        own,
        &peer.verify_alg,
        &peer.csums_alg,
    ))
}

/// A disk's options, with the pace of resyncs as the peer has told it: the administrator of either node may set it.
pub(crate) fn in_effect(own: &DiskOptions, told: Option<&SyncParam>) -> DiskOptions {
    let own = own.clone();
    let Some(pace) = told else {
        return own;
    };
    DiskOptions {
        resync_rate_kib: pace.resync_rate.max(1),
        c_plan_ahead_ds: pace.c_plan_ahead.min(300),
        c_delay_target_ds: pace.c_delay_target.clamp(1, 100),
        c_fill_target_sectors: pace.c_fill_target.min(1 << 20),
        c_max_rate_kib: pace.c_max_rate.clamp(250, 4 << 20),
        ..own
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_peer_that_adopts_both_ask_by_the_last_word() {
        let md5 = DigestAlgorithm::from_name("md5").ok();
        let sha1 = DigestAlgorithm::from_name("sha1").ok();
        let options = NetOptions {
            csums_alg: sha1,
            ..NetOptions::default()
        };
        let digests = Digests {
            csums: md5,
            verify: md5,
        };
        for adopts in [true, false] {
            let mut comparison = Comparison::default();
            comparison.peer_announces(digests, adopts);
            assert_eq!(comparison.peers().csums, md5);
            assert_eq!(comparison.has_verify(), adopts);
            comparison.we_announce(&options, adopts);
            assert_eq!(comparison.ours().csums, sha1);
            assert_eq!(comparison.peers().csums, if adopts { sha1 } else { md5 });
        }
    }
}
