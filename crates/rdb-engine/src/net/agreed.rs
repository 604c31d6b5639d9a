//! What both nodes of a connection speak: the protocol's version, and the features of DRBD and of our own.

use replica_proto::{ConnectionFeatures, Features, Incompatible, ProtocolVersion, WireContext};

use crate::integrity::Integrity;

/// What the two nodes have agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// How packets are written and read. Set by the features and by digests that begin or end; each connection begins as the first.
    wire: WireContext,
    /// Features of our own. Set with the features; what the last peer knew holds until the next one has said.
    own: Features,
}

impl Default for Agreed {
    fn default() -> Self {
        Agreed {
            wire: WireContext::initial(),
            own: Features::empty(),
        }
    }
}

impl Agreed {
    /// What this node offers. K expects a digest in P_ZEROES, which has no place for one: with digests zeroes travel as P_TRIM,
    /// which without that feature means zeroes (`docs/spec/wire.md`, section 7.8).
    pub(crate) fn offer(digests: bool) -> ConnectionFeatures {
        let mut features = Features::all() | OWN;
        features.set(Features::WZEROES, !digests);
        ConnectionFeatures {
            features,
            min: 100,
            ..ConnectionFeatures::OURS
        }
    }

    /// A connection is opened: nothing is agreed on yet.
    pub(crate) fn begin(&mut self) -> WireContext {
        self.wire = WireContext::initial();
        self.wire
    }

    /// The peer has said what it speaks; gives back what both do.
    ///
    /// # Errors
    /// If there is no version that both speak.
    pub(crate) fn agree(
        &mut self,
        ours: &ConnectionFeatures,
        peer: &ConnectionFeatures,
    ) -> Result<(ProtocolVersion, Features), Incompatible> {
        let (version, features) = ours.agree(peer)?;
        self.own = features & OWN;
        self.wire = WireContext::agreed(version, features & Features::all());
        Ok((version, features))
    }

    /// Data carry these digests from now on. Says how packets are written and read, if that has changed.
    pub(crate) fn carry(&mut self, digests: Integrity) -> Option<WireContext> {
        let wire = digests.wire(self.wire);
        let changes = wire != self.wire;
        self.wire = wire;
        changes.then_some(wire)
    }

    /// How packets are written and read.
    pub(crate) fn wire(&self) -> &WireContext {
        &self.wire
    }

    /// The protocol's version.
    pub(crate) fn version(&self) -> ProtocolVersion {
        self.wire.version
    }

    /// Whether P_ZEROES is understood, and what else is DRBD's.
    pub(crate) fn has(&self, features: Features) -> bool {
        self.wire.features.contains(features)
    }

    /// Whether the peer marks writes that need everything before them durable.
    pub(crate) fn marks_flushes(&self) -> bool {
        self.own.contains(EXPLICIT_FLUSH)
    }

    /// Whether the peer knows what a source says of what it wrote alone. A disk's note of it outlives the connection.
    pub(crate) fn tells_lone_names(&self) -> bool {
        self.own.contains(LONE_NAMES)
    }

    /// Whether the peer takes part in snapshots: worth nothing without a connection.
    pub(crate) fn takes_snapshots(&self) -> bool {
        self.own.contains(SNAPSHOTS)
    }

    /// DRBD's driver takes over what it is told; rdb, which is known by a feature of its own, does not.
    pub(crate) fn peer_adopts(&self) -> bool {
        !self.marks_flushes()
    }
}

/// A feature of our own: the writer marks every write that must not reach the mirror's disk before all earlier ones are
/// durable ([`DpFlags::FLUSH`](replica_proto::DpFlags::FLUSH)), so the mirror need not stop at each barrier. No DRBD
/// uses this bit, and K masks it off.
const EXPLICIT_FLUSH: Features = Features::from_bits_retain(0x4000_0000);

/// Another: a source that has lost its target gives what it writes alone a generation of its own, and says in P_UUIDS whether its
/// marks can be such writes ([`WroteAlone`](crate::generation::WroteAlone)).
const LONE_NAMES: Features = Features::from_bits_retain(0x2000_0000);

/// A third: P_RDB_SNAPSHOT and its answer are understood.
const SNAPSHOTS: Features = Features::from_bits_retain(0x1000_0000);

/// All of our own.
const OWN: Features = EXPLICIT_FLUSH.union(LONE_NAMES).union(SNAPSHOTS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_knows_none_of_our_features() {
        let mut agreed = Agreed::default();
        let (version, features) = agreed
            .agree(&Agreed::offer(false), &ConnectionFeatures::OURS)
            .unwrap();
        assert_eq!(version, agreed.version());
        assert_eq!(features & OWN, Features::empty());
        assert!(!agreed.marks_flushes() && !agreed.tells_lone_names() && !agreed.takes_snapshots());
        assert!(agreed.peer_adopts() && agreed.has(Features::WZEROES));
    }

    #[test]
    fn another_rdb_knows_all_of_them_until_the_next_peer_has_said() {
        let mut agreed = Agreed::default();
        agreed
            .agree(&Agreed::offer(true), &Agreed::offer(false))
            .unwrap();
        assert!(agreed.marks_flushes() && agreed.tells_lone_names() && agreed.takes_snapshots());
        assert!(!agreed.has(Features::WZEROES), "one of the two has digests");
        assert_eq!(agreed.begin(), WireContext::initial());
        assert!(agreed.tells_lone_names());
    }
}
