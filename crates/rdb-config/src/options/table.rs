//! The table of options. A row is all that rdb knows of one: its name, range, default and whether it is served; and, where the
//! program goes by it, the field that has it in a structure. The parser, the structures, what `show` prints and the reference in
//! `docs/configuration.md` come from here. A field's name ends with its unit.
//!
//! Source of names and numbers: `docs/spec/admin.md`, sections 2.1 to 2.9. The fields of a structure are in the order in which
//! `drbdsetup show` has them.

use serde::{Deserialize, Serialize};

use super::Served::{Harmless, Refused, Served as Yes, ServedBut};
use super::Type::{Hosts, ResourceRef};
use super::Unit::{Bytes, Count, Deciseconds, KibPerSecond, Seconds, Sectors};
use super::{Changed, OptionDef, Served, any, flag, num, refused9, text, tuning9, words};
use crate::sections::{Section, Sections};
use crate::typed::{self, *};

/// One section: the rows that have a field in a structure, and those that have none.
macro_rules! section {
    (
        $section:ident, $rows:ident;
        $(#[$meta:meta])*
        $name:ident { $($(#[$doc:meta])* $field:ident: $ty:ty = $kind:ident($option:literal $(, $arg:expr)*);)* }
        $($other:ident($($other_arg:expr),*);)*
    ) => {
        const $rows: &[OptionDef] = &[
            $($kind(Section::$section, $option $(, $arg)*),)*
            $($other(Section::$section, $($other_arg),*),)*
        ];

        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            $(#[doc = concat!("`", $option, "`.")] $(#[$doc])* pub $field: $ty),*
        }

        impl $name {
            /// What is set in the sections.
            pub(crate) fn read(sections: &Sections) -> Self {
                Self {
                    $($field: typed::read(sections, &$kind(Section::$section, $option $(, $arg)*))),*
                }
            }

            /// What is not as it is by default.
            #[must_use]
            pub fn changed(&self) -> Changed {
                let mut changed = Changed::new();
                $({
                    const DEF: &OptionDef = &$kind(Section::$section, $option $(, $arg)*);
                    typed::note(&mut changed, DEF, &self.$field);
                })*
                changed
            }
        }

        impl Default for $name {
            /// DRBD's defaults.
            fn default() -> Self {
                Self::read(&Sections::default())
            }
        }
    };
}

/// A section of which nothing has an effect.
macro_rules! ignored {
    ($section:ident, $rows:ident; $($kind:ident($($arg:expr),*);)*) => {
        const $rows: &[OptionDef] = &[$($kind(Section::$section, $($arg),*)),*];
    };
}

/// The options of a section.
pub(super) fn of(section: Section) -> &'static [OptionDef] {
    match section {
        Section::Global => GLOBAL,
        Section::Options => OPTIONS,
        Section::Net => NET,
        Section::Disk => DISK,
        Section::Startup => STARTUP,
        Section::Proxy => PROXY,
        Section::Handlers => HANDLERS,
    }
}

/// The smallest activity log; a smaller `al-extents` is raised to it: `docs/spec/admin.md`, section 1.9.
pub const AL_EXTENTS_MIN: i64 = 67;

const STRING_MAX: usize = 255;
/// The longest secret: the kernel's field of 64 bytes ends with a zero.
const SECRET_MAX: usize = 63;
/// The longest name of a hash; `docs/spec/admin.md` gives none, the wire has room for 63 and a zero.
const ALG_MAX: usize = 63;

/// The words of `read-balancing`.
const READ_BALANCING: &[&str] = &[
    "prefer-local",
    "prefer-remote",
    "round-robin",
    "least-pending",
    "when-congested-remote",
    "32K-striping",
    "64K-striping",
    "128K-striping",
    "256K-striping",
    "512K-striping",
    "1M-striping",
];

const NO_MODULE: Served = Harmless("there is no kernel module to tell");
const NO_TERMINAL: Served = Harmless("waiting commands count no seconds on the terminal");
const NO_COUNTER: Served = Harmless("rdb never contacts a usage counter");
const NOT_PINNED: Served = Harmless("rdb does not pin its threads yet");
const NO_BARRIERS: Served = Harmless("Linux has no barriers any more; disk-flushes does the work");
const AS_THEY_COME: Served = Harmless("discards are passed on as they come");
const ZEROES: Served = Harmless("resync writes zeroes instead of discarding");
const NO_STACKS: Served = Harmless("stacked resources are not served yet");
const NO_PROXY: Served = Harmless("rdb does not talk to a replication proxy");
const OF_9: Served = Harmless("it is a handler of DRBD 9, and nothing calls it");
const NO_CONGESTION: Served =
    Harmless("it takes effect only with on-congestion, which is not served");
const GONE: Served = Harmless("it tunes a mechanism that rdb does not have");
/// The last two words are DRBD 9's.
const CONFLICTS: Served = ServedBut(&[
    ("retry-connect", AS_DISCONNECT),
    ("auto-discard", AS_DISCONNECT),
]);
const AS_DISCONNECT: &str =
    "is a word of DRBD 9 and is read as 'disconnect': the connection is given up";
/// Nothing but the default, for now.
const NOT_YET: Served = Refused("");

section! { Global, GLOBAL;
    /// What holds for the commands. Times are in seconds, 0 means forever.
    GlobalOptions {
        disable_ip_verification: bool = flag("disable-ip-verification", false, Yes);
        /// Whether the link of a resource whose one volume has no section has the volume's number, too.
        udev_always_use_vnr: bool = flag("udev-always-use-vnr", false, Yes);
        /// How long questions and settings may take.
        cmd_timeout_short_s: u32 = num("cmd-timeout-short", (0, 5, 900), Seconds, Yes);
        /// How long what waits for a disk or the peer may take.
        cmd_timeout_medium_s: u32 = num("cmd-timeout-medium", (0, 121, 900), Seconds, Yes);
        /// How long work on metadata may take.
        cmd_timeout_long_s: u32 = num("cmd-timeout-long", (0, 600, 900), Seconds, Yes);
    }
    num("minor-count", (1, 32, 255), Count, NO_MODULE);
    num("dialog-refresh", (0, 1, 600), Seconds, NO_TERMINAL);
    words("usage-count", &["yes", "no", "ask"], "ask", NO_COUNTER);
}

section! { Options, OPTIONS;
    /// The `options` section: what holds for the resource as a whole.
    ResourceOptions {
        /// As written.
        cpu_mask: Option<String> = text("cpu-mask", 32, NOT_PINNED);
        on_no_data_accessible: OnNoDataAccessible = words("on-no-data-accessible", OnNoDataAccessible::WORDS, "io-error", Yes);
    }
    tuning9("auto-promote");
    tuning9("auto-promote-timeout");
    tuning9("twopc-timeout");
    tuning9("twopc-retry-timeout");
    tuning9("peer-ack-window");
    tuning9("peer-ack-delay");
    tuning9("max-io-depth");
    tuning9("on-suspended-primary-outdated");
    tuning9("drbd8-compat-mode");
    refused9("quorum");
    tuning9("quorum-minimum-redundancy");
    tuning9("on-no-quorum");
}

section! { Net, NET;
    /// The `net` options of one connection.
    NetOptions {
        protocol: Protocol = words("protocol", Protocol::WORDS, "C", Yes);
        /// In 0.1 s: the peer must answer a request within this time.
        timeout_ds: u32 = num("timeout", (1, 60, 600), Deciseconds, Yes);
        /// In requests between two barriers.
        max_epoch_size: u32 = num("max-epoch-size", (1, 2048, 20_000), Count, Yes);
        /// In 4 KiB pages.
        max_buffers: u32 = num("max-buffers", (32, 2048, 131_072), Count, Yes);
        /// In seconds: pause between connect attempts.
        connect_int_s: u32 = num("connect-int", (1, 10, 120), Seconds, Yes);
        /// In seconds: idle time before a keep-alive.
        ping_int_s: u32 = num("ping-int", (1, 10, 120), Seconds, Yes);
        /// In bytes; 0 leaves it to the operating system.
        sndbuf_bytes: u32 = num("sndbuf-size", (0, 0, 10_485_760), Bytes, Yes);
        /// In bytes; 0 leaves it to the operating system.
        rcvbuf_bytes: u32 = num("rcvbuf-size", (0, 0, 10_485_760), Bytes, Yes);
        /// This many timeouts without progress drop the peer; 0 means never.
        ko_count: u32 = num("ko-count", (0, 7, 200), Count, Yes);
        allow_two_primaries: bool = flag("allow-two-primaries", false, NOT_YET);
        /// The peer must prove that it knows the secret, with this hash.
        cram_hmac_alg: Option<String> = text("cram-hmac-alg", ALG_MAX, Yes);
        shared_secret: Option<String> = text("shared-secret", SECRET_MAX, Yes);
        after_sb_0pri: AfterSb0p = words("after-sb-0pri", AfterSb0p::WORDS, "disconnect", Yes);
        after_sb_1pri: AfterSb1p = words("after-sb-1pri", AfterSb1p::WORDS, "disconnect", Yes);
        after_sb_2pri: AfterSb2p = words("after-sb-2pri", AfterSb2p::WORDS, "disconnect", Yes);
        always_asbp: bool = flag("always-asbp", false, Yes);
        rr_conflict: RrConflict = words("rr-conflict", RrConflict::WORDS, "disconnect", CONFLICTS);
        /// In 0.1 s: wait for the keep-alive answer.
        ping_timeout_ds: u32 = num("ping-timeout", (1, 5, 300), Deciseconds, Yes);
        data_integrity_alg: Option<String> = text("data-integrity-alg", ALG_MAX, Yes);
        tcp_cork: bool = flag("tcp-cork", true, Yes);
        on_congestion: OnCongestion = words("on-congestion", OnCongestion::WORDS, "block", NOT_YET);
        /// In sectors; 0 means off.
        congestion_fill_sectors: u32 = num("congestion-fill", (0, 0, 20_971_520), Sectors, NO_CONGESTION);
        /// In activity log extents.
        congestion_extents: u32 = num("congestion-extents", (67, 1237, 65_534), Count, NO_CONGESTION);
        csums_alg: Option<String> = text("csums-alg", ALG_MAX, Yes);
        csums_after_crash_only: bool = flag("csums-after-crash-only", false, Yes);
        verify_alg: Option<String> = text("verify-alg", ALG_MAX, Yes);
        use_rle: bool = flag("use-rle", true, Yes);
        /// In 0.1 s; 0 means as long as `ping-timeout`.
        socket_check_timeout_ds: u32 = num("socket-check-timeout", (0, 0, 300), Deciseconds, Yes);
    }
    num("unplug-watermark", (1, 128, 131_072), Count, GONE);
    tuning9("load-balance-paths");
    tuning9("allow-remote-read");
    tuning9("rdma-ctrl-rcvbuf-size");
    tuning9("rdma-ctrl-sndbuf-size");
    refused9("transport");
    refused9("tls");
    refused9("tls-keyring");
    refused9("tls-privkey");
    refused9("tls-certificate");
}

section! { Disk, DISK;
    /// The `disk` options of one volume.
    DiskOptions {
        /// In 512-byte sectors; `None` means the whole device.
        size_sectors: Option<u64> = num("size", (0, 0, 2_199_023_255_552), Sectors, Yes);
        on_io_error: OnIoError = words("on-io-error", OnIoError::WORDS, "detach", Yes);
        fencing: Fencing = words("fencing", Fencing::WORDS, "dont-care", Yes);
        disk_barrier: bool = flag("disk-barrier", false, NO_BARRIERS);
        disk_flushes: bool = flag("disk-flushes", true, Yes);
        disk_drain: bool = flag("disk-drain", true, Yes);
        md_flushes: bool = flag("md-flushes", true, Yes);
        /// In KiB/s: the fixed rate, or the controller's start value.
        resync_rate_kib: u32 = num("resync-rate", (1, 250, 4_194_304), KibPerSecond, Yes);
        /// As written: the resource, volume or minor whose resync goes first.
        resync_after: Option<String> = any("resync-after", ResourceRef, NOT_YET);
        /// Extents of 4 MiB that may be hot at once.
        al_extents: u32 = num("al-extents", (AL_EXTENTS_MIN, 1237, 65_534), Count, Yes);
        al_updates: bool = flag("al-updates", true, NOT_YET);
        discard_zeroes_if_aligned: bool = flag("discard-zeroes-if-aligned", true, AS_THEY_COME);
        /// In bytes; 0 means off.
        rs_discard_granularity_bytes: u32 = num("rs-discard-granularity", (0, 0, 1_048_576), Bytes, ZEROES);
        /// In 0.1 s; 0 switches the resync controller off.
        c_plan_ahead_ds: u32 = num("c-plan-ahead", (0, 20, 300), Deciseconds, Yes);
        /// In 0.1 s; used when `c-fill-target` is 0.
        c_delay_target_ds: u32 = num("c-delay-target", (1, 10, 100), Deciseconds, Yes);
        /// In sectors: resync data in flight to aim at.
        c_fill_target_sectors: u32 = num("c-fill-target", (0, 100, 1_048_576), Sectors, Yes);
        /// In KiB/s.
        c_max_rate_kib: u32 = num("c-max-rate", (250, 102_400, 4_194_304), KibPerSecond, Yes);
        /// In KiB/s; 0 means resync is never throttled for application I/O.
        c_min_rate_kib: u32 = num("c-min-rate", (0, 250, 4_194_304), KibPerSecond, Yes);
        /// In 0.1 s; 0 means off.
        disk_timeout_ds: u32 = num("disk-timeout", (0, 0, 6000), Deciseconds, Yes);
        /// In DRBD's spelling (`prefer-local`, `32K-striping`, ...).
        read_balancing: String = words("read-balancing", READ_BALANCING, "prefer-local", NOT_YET);
    }
    num("max-bio-bvecs", (0, 0, 128), Count, GONE);
    flag("disable-write-same", false, GONE);
    tuning9("discard-granularity");
    tuning9("resync-without-replication");
    refused9("block-size");
    refused9("bitmap");
    tuning9("peer-tiebreaker");
    tuning9("max-bio-size");
}

section! { Startup, STARTUP;
    /// The `startup` section: what the start script waits for. Times are in seconds, 0 means forever.
    StartupOptions {
        wfc_timeout_s: u32 = num("wfc-timeout", (0, 0, 300_000), Seconds, Yes);
        /// Used when the cluster was degraded before.
        degr_wfc_timeout_s: u32 = num("degr-wfc-timeout", (0, 0, 300_000), Seconds, Yes);
        /// Used when the peer was outdated before.
        outdated_wfc_timeout_s: u32 = num("outdated-wfc-timeout", (0, 0, 300_000), Seconds, Yes);
        wait_after_sb: bool = flag("wait-after-sb", false, Yes);
    }
    flag("stacked-timeouts", false, NO_STACKS);
    any("become-primary-on", Hosts, Yes);
}

ignored! { Proxy, PROXY;
    text("memlimit", STRING_MAX, NO_PROXY);
    text("compression", STRING_MAX, NO_PROXY);
    text("bwlimit", STRING_MAX, NO_PROXY);
    text("sndbuf-size", STRING_MAX, NO_PROXY);
    text("rcvbuf-size", STRING_MAX, NO_PROXY);
    text("ping-timeout", STRING_MAX, NO_PROXY);
    flag("read-loops", false, NO_PROXY);
}

section! { Handlers, HANDLERS;
    /// The `handlers` section: commands for `/bin/sh`, by what they are run for.
    Handlers {
        /// Primary, and no usable data is left.
        pri_on_incon_degr: Option<String> = text("pri-on-incon-degr", STRING_MAX, Yes);
        /// This Primary has lost a split brain and can not give up its role.
        pri_lost_after_sb: Option<String> = text("pri-lost-after-sb", STRING_MAX, Yes);
        /// This Primary should become the target of a resync.
        pri_lost: Option<String> = text("pri-lost", STRING_MAX, Yes);
        /// The disk has failed.
        local_io_error: Option<String> = text("local-io-error", STRING_MAX, Yes);
        /// The peer can not be reached, and must not go on by itself.
        fence_peer: Option<String> = text("fence-peer", STRING_MAX, Yes);
        /// The peer is in sync again.
        unfence_peer: Option<String> = text("unfence-peer", STRING_MAX, Yes);
        /// A split brain stays unsolved.
        split_brain: Option<String> = text("split-brain", STRING_MAX, Yes);
        /// A split brain was found, solved or not.
        initial_split_brain: Option<String> = text("initial-split-brain", STRING_MAX, Yes);
        /// The disk is about to become the target of a resync.
        before_resync_target: Option<String> = text("before-resync-target", STRING_MAX, Yes);
        /// A resync of this disk has ended.
        after_resync_target: Option<String> = text("after-resync-target", STRING_MAX, Yes);
        /// The disk is about to become the source of a resync.
        before_resync_source: Option<String> = text("before-resync-source", STRING_MAX, Yes);
        /// A verify has found blocks that differ.
        out_of_sync: Option<String> = text("out-of-sync", STRING_MAX, Yes);
        /// A snapshot of both nodes is taken.
        snapshot: Option<String> = text("snapshot", STRING_MAX, Yes);
    }
    text("quorum-lost", STRING_MAX, OF_9);
    text("disconnected", STRING_MAX, OF_9);
}
