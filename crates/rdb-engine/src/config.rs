//! The options a resource runs with. Names, units and defaults are DRBD's (`docs/spec/admin.md`, section 2).

use alloc::string::String;

use crate::handler::Handlers;
use crate::state::Fencing;

/// When a write counts as done at the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Handed to the local TCP stack.
    A = 1,
    /// Received by the peer.
    B = 2,
    /// On the peer's disk.
    C = 3,
}

impl Protocol {
    /// The letter.
    pub fn letter(self) -> char {
        match self {
            Protocol::A => 'A',
            Protocol::B => 'B',
            Protocol::C => 'C',
        }
    }
}

/// `after-sb-*` and `rr-conflict`, by their numbers on the wire (`docs/spec/behaviour.md`, section 1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitBrainPolicy {
    /// Drop the connection.
    Disconnect = 0,
    /// The node that became Primary last loses.
    DiscardYoungerPrimary = 1,
    /// The node that became Primary first loses.
    DiscardOlderPrimary = 2,
    /// The node without changes loses.
    DiscardZeroChanges = 3,
    /// The node with fewer changes loses.
    DiscardLeastChanges = 4,
    /// This node loses.
    DiscardLocal = 5,
    /// The peer loses.
    DiscardRemote = 6,
    /// The 0pri verdict if it hits the Secondary.
    Consensus = 7,
    /// The Secondary loses.
    DiscardSecondary = 8,
    /// The 0pri verdict; a losing Primary calls for help.
    CallPriLost = 9,
    /// The 0pri verdict, always; for rr-conflict: become target whatever happens to users.
    Violently = 10,
}

impl SplitBrainPolicy {
    /// The policy with this number.
    pub fn from_code(code: u32) -> Option<SplitBrainPolicy> {
        use SplitBrainPolicy::*;
        [
            Disconnect,
            DiscardYoungerPrimary,
            DiscardOlderPrimary,
            DiscardZeroChanges,
            DiscardLeastChanges,
            DiscardLocal,
            DiscardRemote,
            Consensus,
            DiscardSecondary,
            CallPriLost,
            Violently,
        ]
        .get(usize::try_from(code).ok()?)
        .copied()
    }
}

/// `on-io-error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnIoError {
    /// The disk becomes Inconsistent and stays.
    PassOn,
    /// The disk is given up.
    Detach,
    /// The same, after the handler `local-io-error` has been started.
    CallLocalIoError,
}

/// `on-no-data-accessible`: what a request means that no copy can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNoData {
    /// It fails.
    #[default]
    IoError,
    /// It waits until there is a copy, or the administrator resumes.
    SuspendIo,
}

/// `on-no-space`: what a write means that meets a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNoSpace {
    /// The disk is given up.
    Detach,
    /// It waits until there is space.
    #[default]
    Suspend,
    /// It fails; the disk becomes Inconsistent if another copy is good, and stays.
    PassOn,
}

/// Options of the resource as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceOptions {
    /// `on-no-data-accessible`.
    pub on_no_data: OnNoData,
    /// Which handlers are configured: no other is asked for.
    pub handlers: Handlers,
}

/// Options of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetOptions {
    /// `protocol`.
    pub protocol: Protocol,
    /// `timeout`, 0.1 s.
    pub timeout_ds: u32,
    /// `ping-int`, seconds.
    pub ping_int_s: u32,
    /// `ping-timeout`, 0.1 s.
    pub ping_timeout_ds: u32,
    /// `connect-int`, seconds.
    pub connect_int_s: u32,
    /// `ko-count`; 0 is off.
    pub ko_count: u32,
    /// `max-buffers`, 4 KiB pages.
    pub max_buffers: u32,
    /// `max-epoch-size`, writes.
    pub max_epoch_size: u32,
    /// `cram-hmac-alg` and `shared-secret`, both or none.
    pub authentication: Option<Authentication>,
    /// `after-sb-0pri`.
    pub after_sb_0pri: SplitBrainPolicy,
    /// `after-sb-1pri`.
    pub after_sb_1pri: SplitBrainPolicy,
    /// `after-sb-2pri`.
    pub after_sb_2pri: SplitBrainPolicy,
    /// `always-asbp`.
    pub always_asbp: bool,
    /// `rr-conflict`.
    pub rr_conflict: SplitBrainPolicy,
    /// `use-rle`.
    pub use_rle: bool,
    /// `data-integrity-alg`: data on the wire carry a digest, which the receiver checks.
    pub integrity_alg: Option<replica_proto::DigestAlgorithm>,
    /// `csums-alg`: a resync target asks with the digest of what it has, and is sent only what differs.
    pub csums_alg: Option<replica_proto::DigestAlgorithm>,
    /// `csums-after-crash-only`: only a target that was a crashed Primary does.
    pub csums_after_crash_only: bool,
    /// `verify-alg`, announced to the peer, which insists on an equal one; empty if none.
    pub verify_alg: String,
}

impl Default for NetOptions {
    fn default() -> Self {
        NetOptions {
            protocol: Protocol::C,
            timeout_ds: 60,
            ping_int_s: 10,
            ping_timeout_ds: 5,
            connect_int_s: 10,
            ko_count: 7,
            max_buffers: 2048,
            max_epoch_size: 2048,
            authentication: None,
            after_sb_0pri: SplitBrainPolicy::Disconnect,
            after_sb_1pri: SplitBrainPolicy::Disconnect,
            after_sb_2pri: SplitBrainPolicy::Disconnect,
            always_asbp: false,
            rr_conflict: SplitBrainPolicy::Disconnect,
            use_rle: true,
            integrity_alg: None,
            csums_alg: None,
            csums_after_crash_only: false,
            verify_alg: String::new(),
        }
    }
}

/// A peer proves that it knows a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Authentication {
    /// `cram-hmac-alg`, the kernel's name of the hash.
    pub algorithm: replica_proto::auth::HmacAlgorithm,
    /// `shared-secret`, 1..=63 bytes.
    pub secret: String,
}

impl core::fmt::Debug for Authentication {
    /// Says the algorithm, never the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Authentication")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Options of one volume's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOptions {
    /// `on-io-error`.
    pub on_io_error: OnIoError,
    /// `fencing`.
    pub fencing: Fencing,
    /// `on-no-space`, which is no option of DRBD's.
    pub on_no_space: OnNoSpace,
    /// `size`, sectors; 0 is none.
    pub size_sectors: u64,
    /// `resync-rate`, KiB/s.
    pub resync_rate_kib: u32,
    /// `c-plan-ahead`, 0.1 s; 0 is a fixed rate.
    pub c_plan_ahead_ds: u32,
    /// `c-delay-target`, 0.1 s.
    pub c_delay_target_ds: u32,
    /// `c-fill-target`, sectors.
    pub c_fill_target_sectors: u32,
    /// `c-max-rate`, KiB/s.
    pub c_max_rate_kib: u32,
    /// `c-min-rate`, KiB/s; 0 never throttles.
    pub c_min_rate_kib: u32,
    /// `al-extents`.
    pub al_extents: u32,
    /// `disk-flushes`: a received barrier is answered when the disk is flushed.
    pub disk_flushes: bool,
    /// `disk-drain`: a received barrier is answered when its writes have ended.
    pub disk_drain: bool,
    /// `md-flushes`: metadata is flushed in order.
    pub md_flushes: bool,
    /// `disk-timeout`, 0.1 s; 0 is off.
    pub disk_timeout_ds: u32,
}

impl Default for DiskOptions {
    fn default() -> Self {
        DiskOptions {
            on_io_error: OnIoError::Detach,
            fencing: Fencing::DontCare,
            on_no_space: OnNoSpace::default(),
            size_sectors: 0,
            resync_rate_kib: 250,
            c_plan_ahead_ds: 20,
            c_delay_target_ds: 10,
            c_fill_target_sectors: 100,
            c_max_rate_kib: 102_400,
            c_min_rate_kib: 250,
            al_extents: 1237,
            disk_flushes: true,
            disk_drain: true,
            md_flushes: true,
            disk_timeout_ds: 0,
        }
    }
}
