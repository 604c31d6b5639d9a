//! The effective options of one resource, as typed values with DRBD's defaults.
//!
//! Units end the field names. Names, ranges and defaults: `docs/spec/admin.md`, section 2.

use serde::{Deserialize, Serialize};

/// An option value that is one word of a fixed set; prints and parses DRBD's spelling.
macro_rules! word_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every word that stands for a value, in the order of the documentation.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word as it stands in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value a word of the configuration stands for.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

word_enum! {
    /// When a write is complete towards the application (`protocol`).
    Protocol {
        /// Local disk and the send buffer.
        A = "A",
        /// Local disk and receipt by the peer.
        B = "B",
        /// Both disks.
        C = "C",
    }
}

word_enum! {
    /// Split brain found, neither node was primary (`after-sb-0pri`).
    AfterSb0p {
        /// Give up the connection.
        Disconnect = "disconnect",
        /// Discard the changes of the node that became primary last.
        DiscardYoungerPrimary = "discard-younger-primary",
        /// Discard the changes of the node that was primary first.
        DiscardOlderPrimary = "discard-older-primary",
        /// The node without changes takes over the other's.
        DiscardZeroChanges = "discard-zero-changes",
        /// The node with fewer changes takes over the other's.
        DiscardLeastChanges = "discard-least-changes",
        /// Discard this node's changes.
        DiscardLocal = "discard-local",
        /// Discard the peer's changes.
        DiscardRemote = "discard-remote",
    }
}

word_enum! {
    /// Split brain found, one node was primary (`after-sb-1pri`).
    AfterSb1p {
        /// Give up the connection.
        Disconnect = "disconnect",
        /// Follow the 0pri decision if it discards the secondary, else disconnect.
        Consensus = "consensus",
        /// Discard the secondary's changes.
        DiscardSecondary = "discard-secondary",
        /// Follow the 0pri decision; a primary that loses runs the pri-lost-after-sb handler.
        CallPriLostAfterSb = "call-pri-lost-after-sb",
        /// Follow the 0pri decision even if that changes data under a primary.
        ViolentlyAs0p = "violently-as0p",
    }
}

word_enum! {
    /// Split brain found, both nodes were primary (`after-sb-2pri`).
    AfterSb2p {
        /// Give up the connection.
        Disconnect = "disconnect",
        /// Follow the 0pri decision; the loser runs the pri-lost-after-sb handler.
        CallPriLostAfterSb = "call-pri-lost-after-sb",
        /// Follow the 0pri decision even if that changes data under a primary.
        ViolentlyAs0p = "violently-as0p",
    }
}

word_enum! {
    /// The resync direction contradicts the roles (`rr-conflict`).
    RrConflict {
        /// Give up the connection.
        Disconnect = "disconnect",
        /// Run the pri-lost handler on the primary that should become sync target.
        CallPriLost = "call-pri-lost",
        /// Sync to the primary.
        Violently = "violently",
    }
}

word_enum! {
    /// The lower disk reports an error (`on-io-error`).
    OnIoError {
        /// Report the error upward on the primary, ignore it on the secondary.
        PassOn = "pass_on",
        /// Run the local-io-error handler.
        CallLocalIoError = "call-local-io-error",
        /// Drop the disk and go on diskless.
        Detach = "detach",
    }
}

word_enum! {
    /// No up-to-date data is reachable (`on-no-data-accessible`).
    OnNoDataAccessible {
        /// Fail the requests.
        IoError = "io-error",
        /// Hold the requests until data is reachable again.
        SuspendIo = "suspend-io",
    }
}

word_enum! {
    /// What a primary does when it loses its peer (`fencing`).
    Fencing {
        /// Nothing.
        DontCare = "dont-care",
        /// Run the fence-peer handler.
        ResourceOnly = "resource-only",
        /// Suspend I/O and run the fence-peer handler.
        ResourceAndStonith = "resource-and-stonith",
    }
}

word_enum! {
    /// What happens when the send queue fills up (`on-congestion`).
    OnCongestion {
        /// Wait.
        Block = "block",
        /// Stop mirroring and resync later.
        PullAhead = "pull-ahead",
        /// Drop the connection.
        Disconnect = "disconnect",
    }
}

/// The `net` options of one connection, and `verify-alg` as what a verify run would use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetOptions {
    /// `protocol`.
    pub protocol: Protocol,
    /// `timeout`, in 0.1 s: the peer must answer a request within this time.
    pub timeout_ds: u32,
    /// `connect-int`, in seconds: pause between connect attempts.
    pub connect_int_s: u32,
    /// `ping-int`, in seconds: idle time before a keep-alive.
    pub ping_int_s: u32,
    /// `ping-timeout`, in 0.1 s: wait for the keep-alive answer.
    pub ping_timeout_ds: u32,
    /// `socket-check-timeout`, in 0.1 s; 0 means `ping_timeout_ds`.
    pub socket_check_timeout_ds: u32,
    /// `ko-count`: this many timeouts without progress drop the peer; 0 means never.
    pub ko_count: u32,
    /// `max-buffers`, in 4 KiB pages.
    pub max_buffers: u32,
    /// `max-epoch-size`, in requests between two barriers.
    pub max_epoch_size: u32,
    /// `sndbuf-size`, in bytes; 0 leaves it to the operating system.
    pub sndbuf_bytes: u32,
    /// `rcvbuf-size`, in bytes; 0 leaves it to the operating system.
    pub rcvbuf_bytes: u32,
    /// `tcp-cork`.
    pub tcp_cork: bool,
    /// `cram-hmac-alg`: the peer must prove that it knows the secret, with this hash.
    pub cram_hmac_alg: Option<String>,
    /// `shared-secret`.
    pub shared_secret: Option<String>,
    /// `after-sb-0pri`.
    pub after_sb_0pri: AfterSb0p,
    /// `after-sb-1pri`.
    pub after_sb_1pri: AfterSb1p,
    /// `after-sb-2pri`.
    pub after_sb_2pri: AfterSb2p,
    /// `always-asbp`.
    pub always_asbp: bool,
    /// `rr-conflict`.
    pub rr_conflict: RrConflict,
    /// `use-rle`.
    pub use_rle: bool,
    /// `verify-alg`.
    pub verify_alg: Option<String>,
    /// `csums-alg`.
    pub csums_alg: Option<String>,
    /// `csums-after-crash-only`.
    pub csums_after_crash_only: bool,
    /// `data-integrity-alg`.
    pub data_integrity_alg: Option<String>,
    /// `allow-two-primaries`.
    pub allow_two_primaries: bool,
    /// `on-congestion`.
    pub on_congestion: OnCongestion,
    /// `congestion-fill`, in sectors; 0 means off.
    pub congestion_fill_sectors: u32,
    /// `congestion-extents`, in activity log extents.
    pub congestion_extents: u32,
}

impl Default for NetOptions {
    /// DRBD's defaults: `docs/spec/admin.md`, section 2.3.
    fn default() -> Self {
        Self {
            protocol: Protocol::C,
            timeout_ds: 60,
            connect_int_s: 10,
            ping_int_s: 10,
            ping_timeout_ds: 5,
            socket_check_timeout_ds: 0,
            ko_count: 7,
            max_buffers: 2048,
            max_epoch_size: 2048,
            sndbuf_bytes: 0,
            rcvbuf_bytes: 0,
            tcp_cork: true,
            cram_hmac_alg: None,
            shared_secret: None,
            after_sb_0pri: AfterSb0p::Disconnect,
            after_sb_1pri: AfterSb1p::Disconnect,
            after_sb_2pri: AfterSb2p::Disconnect,
            always_asbp: false,
            rr_conflict: RrConflict::Disconnect,
            use_rle: true,
            verify_alg: None,
            csums_alg: None,
            csums_after_crash_only: false,
            data_integrity_alg: None,
            allow_two_primaries: false,
            on_congestion: OnCongestion::Block,
            congestion_fill_sectors: 0,
            congestion_extents: 1237,
        }
    }
}

/// The `disk` options of one volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskOptions {
    /// `size`, in 512-byte sectors; `None` means the whole device.
    pub size_sectors: Option<u64>,
    /// `on-io-error`.
    pub on_io_error: OnIoError,
    /// `fencing`.
    pub fencing: Fencing,
    /// `disk-barrier`.
    pub disk_barrier: bool,
    /// `disk-flushes`.
    pub disk_flushes: bool,
    /// `disk-drain`.
    pub disk_drain: bool,
    /// `md-flushes`.
    pub md_flushes: bool,
    /// `resync-rate`, in KiB/s: the fixed rate, or the controller's start value.
    pub resync_rate_kib: u32,
    /// `resync-after`, as written: the resource, volume or minor whose resync goes first.
    pub resync_after: Option<String>,
    /// `al-extents`: extents of 4 MiB that may be hot at once.
    pub al_extents: u32,
    /// `al-updates`.
    pub al_updates: bool,
    /// `c-plan-ahead`, in 0.1 s; 0 switches the resync controller off.
    pub c_plan_ahead_ds: u32,
    /// `c-delay-target`, in 0.1 s; used when `c_fill_target_sectors` is 0.
    pub c_delay_target_ds: u32,
    /// `c-fill-target`, in sectors: resync data in flight to aim at.
    pub c_fill_target_sectors: u32,
    /// `c-max-rate`, in KiB/s.
    pub c_max_rate_kib: u32,
    /// `c-min-rate`, in KiB/s; 0 means resync is never throttled for application I/O.
    pub c_min_rate_kib: u32,
    /// `disk-timeout`, in 0.1 s; 0 means off.
    pub disk_timeout_ds: u32,
    /// `read-balancing`, in DRBD's spelling (`prefer-local`, `32K-striping`, ...).
    pub read_balancing: String,
    /// `discard-zeroes-if-aligned`.
    pub discard_zeroes_if_aligned: bool,
    /// `rs-discard-granularity`, in bytes; 0 means off.
    pub rs_discard_granularity_bytes: u32,
}

impl Default for DiskOptions {
    /// DRBD's defaults: `docs/spec/admin.md`, section 2.4.
    fn default() -> Self {
        Self {
            size_sectors: None,
            on_io_error: OnIoError::Detach,
            fencing: Fencing::DontCare,
            disk_barrier: false,
            disk_flushes: true,
            disk_drain: true,
            md_flushes: true,
            resync_rate_kib: 250,
            resync_after: None,
            al_extents: 1237,
            al_updates: true,
            c_plan_ahead_ds: 20,
            c_delay_target_ds: 10,
            c_fill_target_sectors: 100,
            c_max_rate_kib: 102_400,
            c_min_rate_kib: 250,
            disk_timeout_ds: 0,
            read_balancing: "prefer-local".to_owned(),
            discard_zeroes_if_aligned: true,
            rs_discard_granularity_bytes: 0,
        }
    }
}

/// The `options` section: what holds for the resource as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceOptions {
    /// `cpu-mask`, as written.
    pub cpu_mask: Option<String>,
    /// `on-no-data-accessible`.
    pub on_no_data_accessible: OnNoDataAccessible,
}

impl Default for ResourceOptions {
    /// DRBD's defaults: `docs/spec/admin.md`, section 2.2.
    fn default() -> Self {
        Self {
            cpu_mask: None,
            on_no_data_accessible: OnNoDataAccessible::IoError,
        }
    }
}

/// The `startup` section: what the start script waits for. Times are in seconds, 0 means forever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartupOptions {
    /// `wfc-timeout`.
    pub wfc_timeout_s: u32,
    /// `degr-wfc-timeout`: used when the cluster was degraded before.
    pub degr_wfc_timeout_s: u32,
    /// `outdated-wfc-timeout`: used when the peer was outdated before.
    pub outdated_wfc_timeout_s: u32,
    /// `wait-after-sb`.
    pub wait_after_sb: bool,
    /// `stacked-timeouts`.
    pub stacked_timeouts: bool,
    /// `become-primary-on`: host names, or `both`.
    pub become_primary_on: Vec<String>,
}
