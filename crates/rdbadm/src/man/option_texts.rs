//! A sentence on each option of the configuration that has an effect, for `rdb.conf(5)`.

use rdb_config::Section::{self, Disk, Global, Handlers, Net, Options, Startup};
use rdb_config::options::OptionDef;

/// What an option does.
pub(super) fn about(def: &OptionDef) -> Option<&'static str> {
    let is_it =
        |(section, name, _): &&(Section, &str, &str)| *section == def.section && *name == def.name;
    TEXTS.iter().find(is_it).map(|(_, _, text)| *text)
}

#[rustfmt::skip]
pub(super) const TEXTS: &[(Section, &str, &str)] = &[
    (Global, "disable-ip-verification", "Do not look whether this host has the resource's address before it is brought up."),
    (Global, "udev-always-use-vnr", "Name a volume that no section has /dev/drbd/by-res/RES/0, as those that one has, instead of /dev/drbd/by-res/RES."),
    (Global, "cmd-timeout-short", "How long questions and settings may take; 0 is for ever."),
    (Global, "cmd-timeout-medium", "How long commands may take that wait for a disk or the peer; 0 is for ever."),
    (Global, "cmd-timeout-long", "How long work on metadata may take; 0 is for ever."),
    (Options, "on-no-data-accessible", "What users' requests do while no good data can be reached: fail, or wait until they can be."),
    (Net, "protocol", "When a write is done: A, when it is on the local disk and handed to the network; B, when the peer has received it; C, when it is on the peer's disk."),
    (Net, "timeout", "How long the peer may take to answer before it counts as lost. Less than connect-int and ping-int."),
    (Net, "max-epoch-size", "How many writes may stand between two barriers."),
    (Net, "max-buffers", "How many pages of 4 KiB the peer's requests may occupy here."),
    (Net, "connect-int", "How long to wait between two attempts to connect."),
    (Net, "ping-int", "After how long without a word the peer is asked whether it is there."),
    (Net, "sndbuf-size", "The size of the socket's buffer for sending; 0 leaves it to the kernel."),
    (Net, "rcvbuf-size", "The size of the socket's buffer for receiving; 0 leaves it to the kernel."),
    (Net, "ko-count", "A peer that has not served a write for so many times `timeout` is given up; 0 never does."),
    (Net, "cram-hmac-alg", "The hash by which both nodes prove that they know `shared-secret`; without it nobody is asked."),
    (Net, "shared-secret", "What both nodes have to know."),
    (Net, "after-sb-0pri", "What to do about a split brain when no node is Primary: give up the connection, or the changes of one node."),
    (Net, "after-sb-1pri", "What to do about a split brain when one node is Primary."),
    (Net, "after-sb-2pri", "What to do about a split brain when both nodes are Primary."),
    (Net, "always-asbp", "Go by the three options before also when the history says that a third node may have been involved."),
    (Net, "rr-conflict", "What to do when the sync that is due would overwrite the data of a Primary."),
    (Net, "ping-timeout", "How long the answer to that question may take."),
    (Net, "data-integrity-alg", "The hash by which the peer finds out whether what it receives is what was sent; off without one."),
    (Net, "tcp-cork", "Collect packets before they are sent."),
    (Net, "csums-alg", "The hash by which a resync finds out which blocks are equal, and does not send them; off without one."),
    (Net, "csums-after-crash-only", "Use `csums-alg` only for the resync after a crash of the Primary."),
    (Net, "verify-alg", "The hash of an online verify."),
    (Net, "use-rle", "Send bitmaps in their packed form."),
    (Net, "socket-check-timeout", "How long to wait for a sign of life of a new connection; 0 takes `ping-timeout`."),
    (Disk, "size", "How much of the disk is used; 0 is all."),
    (Disk, "on-io-error", "What an error of the disk means: pass it on to the user, call the handler local-io-error, or give the disk up and go on through the peer."),
    (Disk, "fencing", "Whether a node that has lost its peer has to know that it is out of the way: not at all, before it is promoted, or before any write is done."),
    (Disk, "disk-flushes", "Flush the disk at the end of an epoch."),
    (Disk, "disk-drain", "Wait at the end of an epoch until its writes are done."),
    (Disk, "md-flushes", "Flush the disk of the metadata after each write to it."),
    (Disk, "resync-rate", "The pace of a resync with `c-plan-ahead 0`; else that with which it begins."),
    (Disk, "al-extents", "How many extents of 4 MiB may be written to before an older one has to leave the activity log. After a crash of a Primary these are synced."),
    (Disk, "c-plan-ahead", "How far the control of a resync's pace looks ahead; 0 switches it off."),
    (Disk, "c-delay-target", "How long a block of a resync may be under way, with `c-fill-target 0`."),
    (Disk, "c-fill-target", "How much of a resync may be under way."),
    (Disk, "c-max-rate", "The greatest pace of a resync."),
    (Disk, "c-min-rate", "The pace that a resync keeps although applications write; 0 never steps back for them."),
    (Disk, "disk-timeout", "A disk that has not answered for so long is given up; 0 never does."),
    (Startup, "wfc-timeout", "How long the start waits for the peer; 0 is for ever."),
    (Startup, "degr-wfc-timeout", "The same, if this node was alone before; 0 is for ever."),
    (Startup, "outdated-wfc-timeout", "The same, if the peer's data were Outdated; 0 is for ever."),
    (Startup, "wait-after-sb", "Wait on although a split brain was found."),
    (Startup, "become-primary-on", "Which host the start (rdb.service, also as drbd.service or /etc/init.d/drbd) makes Primary."),
    (Handlers, "pri-on-incon-degr", "Primary, alone, and its own data are no good."),
    (Handlers, "pri-lost-after-sb", "A Primary has lost the split brain that was resolved by policy, and can not be demoted."),
    (Handlers, "pri-lost", "A Primary should become the target of a resync."),
    (Handlers, "local-io-error", "The disk has failed, with `on-io-error call-local-io-error`."),
    (Handlers, "fence-peer", "The peer is lost: its exit status says whether it is out of the way."),
    (Handlers, "unfence-peer", "The peer is in sync again."),
    (Handlers, "split-brain", "A split brain was found and is not resolved."),
    (Handlers, "initial-split-brain", "A split brain was found."),
    (Handlers, "before-resync-target", "A resync is about to overwrite this disk."),
    (Handlers, "after-resync-target", "A resync of this disk has ended."),
    (Handlers, "before-resync-source", "A resync from this disk is about to begin."),
    (Handlers, "out-of-sync", "An online verify has found differences."),
    (Handlers, "snapshot", "A snapshot of both nodes' disks is to be taken: see rdbadm-snapshot(8)."),
];
