//! Every option of the language: where it stands, its type, unit, range and default, and whether rdb serves it.
//!
//! Source of names and numbers: `docs/spec/admin.md`, sections 2.1 to 2.9.

use crate::model::Section;

/// What a value counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number; a suffix multiplies it.
    Count,
    /// Seconds.
    Seconds,
    /// Tenths of a second.
    Deciseconds,
    /// Bytes.
    Bytes,
    /// KiB per second.
    KibPerSecond,
    /// 512-byte sectors.
    Sectors,
}

impl Unit {
    /// How many bytes one is, for numbers with a suffix; 1 where the suffix multiplies.
    #[must_use]
    pub const fn scale(self) -> u128 {
        match self {
            Self::Count | Self::Seconds | Self::Deciseconds | Self::Bytes => 1,
            Self::KibPerSecond => 1024,
            Self::Sectors => 512,
        }
    }

    /// The letter in range messages.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Count | Self::Seconds | Self::Deciseconds | Self::Bytes => "",
            Self::KibPerSecond => "k",
            Self::Sectors => "s",
        }
    }

    /// The name in the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "s",
            Self::Deciseconds => "0.1 s",
            Self::Bytes => "bytes",
            Self::KibPerSecond => "KiB/s",
            Self::Sectors => "sectors",
        }
    }
}

/// The type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number, `min` to `max` in `unit`.
    Number {
        /// The smallest.
        min: i64,
        /// When not set.
        default: i64,
        /// The greatest.
        max: i64,
        /// What it counts in.
        unit: Unit,
    },
    /// `yes` or `no`; the bare name is `yes`.
    Bool {
        /// When not set.
        default: bool,
    },
    /// One of some words; `default` is one of them.
    Words {
        /// The words.
        words: &'static [&'static str],
        /// When not set.
        default: &'static str,
    },
    /// Any text up to a length; empty by default.
    Text {
        /// The greatest length, in bytes.
        max_len: usize,
    },
    /// Any number of host names.
    Hosts,
    /// A minor number or the name of a resource or volume.
    ResourceRef,
    /// A DRBD 9 option whose value rdb does not look at.
    Words9,
}

/// What rdb does with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It has its effect.
    Served,
    /// It is checked and has no effect, and none is missed; the reason. The user is warned once.
    Harmless(&'static str),
    /// rdb refuses to run a resource that sets it to anything but its default; the reason, or nothing.
    Refused(&'static str),
    /// It has its effect, but the listed words are refused.
    ServedExcept(&'static [&'static str]),
}

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionDef {
    /// The section it stands in.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// Its type, range and default.
    pub ty: Type,
    /// Whether rdb serves it.
    pub served: Served,
}

/// The option of this name in this section.
#[must_use]
pub fn find(section: Section, name: &str) -> Option<&'static OptionDef> {
    OPTIONS
        .iter()
        .find(|o| o.section == section && o.name == name)
}

const fn num(
    section: Section,
    name: &'static str,
    (min, default, max): (i64, i64, i64),
    unit: Unit,
    served: Served,
) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Number {
            min,
            default,
            max,
            unit,
        },
        served,
    }
}

const fn flag(section: Section, name: &'static str, default: bool, served: Served) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Bool { default },
        served,
    }
}

const fn words(
    section: Section,
    name: &'static str,
    words: &'static [&'static str],
    default: &'static str,
    served: Served,
) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Words { words, default },
        served,
    }
}

const fn text(section: Section, name: &'static str, max_len: usize, served: Served) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Text { max_len },
        served,
    }
}

const fn handler(name: &'static str) -> OptionDef {
    text(
        Section::Handlers,
        name,
        STRING_MAX,
        Harmless("rdb does not run handlers yet"),
    )
}

/// A DRBD 9 option that changes only speed or convenience.
const fn tuning9(section: Section, name: &'static str) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Words9,
        served: Harmless("it is an option of DRBD 9"),
    }
}

/// A DRBD 9 option that a user relies on.
const fn refused9(section: Section, name: &'static str) -> OptionDef {
    OptionDef {
        section,
        name,
        ty: Type::Words9,
        served: Refused("it is an option of DRBD 9"),
    }
}

const STRING_MAX: usize = 255;
/// The longest secret: the kernel's field of 64 bytes ends with a zero.
const SECRET_MAX: usize = 63;
/// The longest name of a hash; `docs/spec/admin.md` gives none, the wire has room for 63 and a zero.
const ALG_MAX: usize = 63;

use Section::{Disk, Global, Net, Options, Proxy, Startup};
use Served::{Harmless, Refused, Served as Yes, ServedExcept};
use Unit::{Bytes, Count, Deciseconds, KibPerSecond, Seconds, Sectors};

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
const NO_PROXY: Served = Harmless("rdb does not talk to a replication proxy");
const NO_CONGESTION: Served =
    Harmless("it takes effect only with on-congestion, which is not served");
const GONE: Served = Harmless("it tunes a mechanism that rdb does not have");

/// Every option, by section, in the order of the documentation.
pub const OPTIONS: &[OptionDef] = &[
    num(Global, "minor-count", (1, 32, 255), Count, NO_MODULE),
    num(
        Global,
        "dialog-refresh",
        (0, 1, 600),
        Seconds,
        Harmless("waiting commands count no seconds on the terminal"),
    ),
    flag(Global, "disable-ip-verification", false, Yes),
    words(
        Global,
        "usage-count",
        &["yes", "no", "ask"],
        "ask",
        Harmless("rdb never contacts a usage counter"),
    ),
    num(Global, "cmd-timeout-short", (0, 5, 900), Seconds, Yes),
    num(Global, "cmd-timeout-medium", (0, 121, 900), Seconds, Yes),
    num(Global, "cmd-timeout-long", (0, 600, 900), Seconds, Yes),
    flag(
        Global,
        "udev-always-use-vnr",
        false,
        Harmless("links always carry the volume number"),
    ),
    text(
        Options,
        "cpu-mask",
        32,
        Harmless("rdb does not pin its threads yet"),
    ),
    words(
        Options,
        "on-no-data-accessible",
        &["io-error", "suspend-io"],
        "io-error",
        ServedExcept(&["suspend-io"]),
    ),
    words(Net, "protocol", &["A", "B", "C"], "C", Yes),
    num(Net, "timeout", (1, 60, 600), Deciseconds, Yes),
    num(Net, "connect-int", (1, 10, 120), Seconds, Yes),
    num(Net, "ping-int", (1, 10, 120), Seconds, Yes),
    num(Net, "ping-timeout", (1, 5, 300), Deciseconds, Yes),
    num(Net, "socket-check-timeout", (0, 0, 300), Deciseconds, Yes),
    num(Net, "max-epoch-size", (1, 2048, 20000), Count, Yes),
    num(Net, "max-buffers", (32, 2048, 131_072), Count, Yes),
    num(Net, "unplug-watermark", (1, 128, 131_072), Count, GONE),
    num(Net, "sndbuf-size", (0, 0, 10_485_760), Bytes, Yes),
    num(Net, "rcvbuf-size", (0, 0, 10_485_760), Bytes, Yes),
    num(Net, "ko-count", (0, 7, 200), Count, Yes),
    flag(Net, "allow-two-primaries", false, Refused("")),
    text(Net, "cram-hmac-alg", ALG_MAX, Yes),
    text(Net, "shared-secret", SECRET_MAX, Yes),
    words(
        Net,
        "after-sb-0pri",
        crate::AfterSb0p::WORDS,
        "disconnect",
        Yes,
    ),
    words(
        Net,
        "after-sb-1pri",
        crate::AfterSb1p::WORDS,
        "disconnect",
        Yes,
    ),
    words(
        Net,
        "after-sb-2pri",
        crate::AfterSb2p::WORDS,
        "disconnect",
        Yes,
    ),
    flag(Net, "always-asbp", false, Yes),
    words(
        Net,
        "rr-conflict",
        crate::RrConflict::WORDS,
        "disconnect",
        Yes,
    ),
    text(Net, "data-integrity-alg", ALG_MAX, Yes),
    text(Net, "csums-alg", ALG_MAX, Yes),
    flag(Net, "csums-after-crash-only", false, Yes),
    text(Net, "verify-alg", ALG_MAX, Yes),
    flag(Net, "use-rle", true, Yes),
    flag(Net, "tcp-cork", true, Yes),
    words(
        Net,
        "on-congestion",
        crate::OnCongestion::WORDS,
        "block",
        Refused(""),
    ),
    num(
        Net,
        "congestion-fill",
        (0, 0, 20_971_520),
        Sectors,
        NO_CONGESTION,
    ),
    num(
        Net,
        "congestion-extents",
        (67, 1237, 65_534),
        Count,
        NO_CONGESTION,
    ),
    tuning9(Net, "load-balance-paths"),
    tuning9(Net, "allow-remote-read"),
    tuning9(Net, "rdma-ctrl-rcvbuf-size"),
    tuning9(Net, "rdma-ctrl-sndbuf-size"),
    refused9(Net, "transport"),
    refused9(Net, "tls"),
    refused9(Net, "tls-keyring"),
    refused9(Net, "tls-privkey"),
    refused9(Net, "tls-certificate"),
    num(Disk, "size", (0, 0, 2_199_023_255_552), Sectors, Yes),
    num(Disk, "max-bio-bvecs", (0, 0, 128), Count, GONE),
    words(
        Disk,
        "on-io-error",
        crate::OnIoError::WORDS,
        "detach",
        ServedExcept(&["call-local-io-error"]),
    ),
    words(
        Disk,
        "fencing",
        crate::Fencing::WORDS,
        "dont-care",
        Refused(""),
    ),
    flag(
        Disk,
        "disk-barrier",
        false,
        Harmless("Linux has no barriers any more; disk-flushes does the work"),
    ),
    flag(Disk, "disk-flushes", true, Yes),
    flag(Disk, "disk-drain", true, Yes),
    flag(Disk, "md-flushes", true, Yes),
    num(Disk, "resync-rate", (1, 250, 4_194_304), KibPerSecond, Yes),
    OptionDef {
        section: Disk,
        name: "resync-after",
        ty: Type::ResourceRef,
        served: Refused(""),
    },
    num(
        Disk,
        "al-extents",
        (AL_EXTENTS_MIN, 1237, 65_534),
        Count,
        Yes,
    ),
    flag(Disk, "al-updates", true, Refused("")),
    flag(
        Disk,
        "discard-zeroes-if-aligned",
        true,
        Harmless("discards are passed on as they come"),
    ),
    flag(Disk, "disable-write-same", false, GONE),
    num(
        Disk,
        "rs-discard-granularity",
        (0, 0, 1_048_576),
        Bytes,
        Harmless("resync writes zeroes instead of discarding"),
    ),
    num(Disk, "c-plan-ahead", (0, 20, 300), Deciseconds, Yes),
    num(Disk, "c-delay-target", (1, 10, 100), Deciseconds, Yes),
    num(Disk, "c-fill-target", (0, 100, 1_048_576), Sectors, Yes),
    num(
        Disk,
        "c-max-rate",
        (250, 102_400, 4_194_304),
        KibPerSecond,
        Yes,
    ),
    num(Disk, "c-min-rate", (0, 250, 4_194_304), KibPerSecond, Yes),
    num(Disk, "disk-timeout", (0, 0, 6000), Deciseconds, Refused("")),
    words(
        Disk,
        "read-balancing",
        READ_BALANCING,
        "prefer-local",
        Refused(""),
    ),
    tuning9(Disk, "discard-granularity"),
    tuning9(Disk, "resync-without-replication"),
    refused9(Disk, "block-size"),
    refused9(Disk, "bitmap"),
    tuning9(Disk, "peer-tiebreaker"),
    tuning9(Disk, "max-bio-size"),
    num(Startup, "wfc-timeout", (0, 0, 300_000), Seconds, Yes),
    num(Startup, "degr-wfc-timeout", (0, 0, 300_000), Seconds, Yes),
    num(
        Startup,
        "outdated-wfc-timeout",
        (0, 0, 300_000),
        Seconds,
        Yes,
    ),
    flag(Startup, "wait-after-sb", false, Yes),
    flag(
        Startup,
        "stacked-timeouts",
        false,
        Harmless("stacked resources are not served yet"),
    ),
    OptionDef {
        section: Startup,
        name: "become-primary-on",
        ty: Type::Hosts,
        served: Harmless("no host is made primary at start yet"),
    },
    text(Proxy, "memlimit", STRING_MAX, NO_PROXY),
    text(Proxy, "compression", STRING_MAX, NO_PROXY),
    text(Proxy, "bwlimit", STRING_MAX, NO_PROXY),
    text(Proxy, "sndbuf-size", STRING_MAX, NO_PROXY),
    text(Proxy, "rcvbuf-size", STRING_MAX, NO_PROXY),
    text(Proxy, "ping-timeout", STRING_MAX, NO_PROXY),
    flag(Proxy, "read-loops", false, NO_PROXY),
    handler("pri-on-incon-degr"),
    handler("pri-lost-after-sb"),
    handler("pri-lost"),
    handler("local-io-error"),
    handler("fence-peer"),
    handler("unfence-peer"),
    handler("split-brain"),
    handler("initial-split-brain"),
    handler("before-resync-target"),
    handler("after-resync-target"),
    handler("before-resync-source"),
    handler("out-of-sync"),
    handler("quorum-lost"),
    handler("disconnected"),
    tuning9(Options, "auto-promote"),
    tuning9(Options, "auto-promote-timeout"),
    tuning9(Options, "twopc-timeout"),
    tuning9(Options, "twopc-retry-timeout"),
    tuning9(Options, "peer-ack-window"),
    tuning9(Options, "peer-ack-delay"),
    tuning9(Options, "max-io-depth"),
    tuning9(Options, "on-suspended-primary-outdated"),
    tuning9(Options, "drbd8-compat-mode"),
    refused9(Options, "quorum"),
    tuning9(Options, "quorum-minimum-redundancy"),
    tuning9(Options, "on-no-quorum"),
];

/// The smallest activity log; a smaller `al-extents` is raised to it: `docs/spec/admin.md`, section 1.9.
pub const AL_EXTENTS_MIN: i64 = 67;

/// What became of an option's old name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Old {
    /// Another name, maybe in another section.
    Renamed(Section, &'static str),
    /// Presence meant that the named option is off.
    Negated(Section, &'static str),
    /// It takes its words and has no effect any more.
    Ignored,
    /// 0.6: a rate, for a resync at a fixed speed.
    FixedRate,
    /// 0.6: a number of KiB, the size of the device.
    SizeKib,
    /// 0.6: a kernel panic on an I/O error.
    Panic,
    /// 0.7: what to do when the peer is lost.
    OnDisconnect,
    /// 0.7: a group of resources that resync together.
    Group,
    /// A word that has the section's present meaning, in `syncer {}`.
    Moved(Section),
}

/// The place an old option was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OldSection {
    Now(Section),
    Syncer,
}

/// Translations of `docs/spec/admin.md`, section 1.9.
pub(crate) fn old(section: OldSection, name: &str) -> Option<Old> {
    use OldSection::{Now, Syncer};
    Some(match (section, name) {
        (Now(Disk) | Syncer, "rate") => Old::Renamed(Disk, "resync-rate"),
        (Now(Disk) | Syncer, "after") => Old::Renamed(Disk, "resync-after"),
        (Now(Disk), "no-disk-barrier") => Old::Negated(Disk, "disk-barrier"),
        (Now(Disk), "no-disk-flushes") => Old::Negated(Disk, "disk-flushes"),
        (Now(Disk), "no-disk-drain") => Old::Negated(Disk, "disk-drain"),
        (Now(Disk), "no-md-flushes") => Old::Negated(Disk, "md-flushes"),
        (Now(Disk), "do-panic") => Old::Panic,
        (Now(Disk), "disk-size") => Old::SizeKib,
        (Now(Disk | Net), "use-bmbv") => Old::Ignored,
        (Now(Net), "no-tcp-cork") => Old::Negated(Net, "tcp-cork"),
        (Now(Net), "fencing") => Old::Renamed(Disk, "fencing"),
        (Now(Net), "on-disconnect") => Old::OnDisconnect,
        (Now(Net), "sync-rate" | "sync-max") => Old::FixedRate,
        (Now(Net), "sync-min") => Old::Renamed(Disk, "c-min-rate"),
        (Now(Net), "sync-nice" | "skip-sync" | "tl-size") => Old::Ignored,
        (Now(Section::Handlers), "outdate-peer") => Old::Renamed(Section::Handlers, "fence-peer"),
        (Now(Global), "disable-io-hints") => Old::Ignored,
        (Syncer, "group") => Old::Group,
        (
            Syncer,
            "skip-sync"
            | "use-csums"
            | "delay-probe-volume"
            | "delay-probe-interval"
            | "throttle-threshold"
            | "hold-off-threshold",
        ) => Old::Ignored,
        (
            Syncer,
            "al-extents" | "c-plan-ahead" | "c-delay-target" | "c-fill-target" | "c-max-rate"
            | "c-min-rate" | "resync-rate" | "resync-after",
        ) => Old::Moved(Disk),
        (Syncer, "verify-alg" | "csums-alg" | "use-rle") => Old::Moved(Net),
        (Syncer, "cpu-mask" | "on-no-data-accessible") => Old::Moved(Options),
        (Syncer, "sync-rate" | "sync-max") => Old::FixedRate,
        (Syncer, "sync-min") => Old::Renamed(Disk, "c-min-rate"),
        (Syncer, "sync-nice" | "tl-size") => Old::Ignored,
        _ => return None,
    })
}
