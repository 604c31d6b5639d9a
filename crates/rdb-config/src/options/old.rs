//! What became of the names and words of older configurations: `docs/spec/admin.md`, section 1.9.

use crate::sections::Section::{self, Disk, Global, Net, Options};

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
