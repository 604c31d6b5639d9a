//! What a refusal means, by its number: DRBD's text, why it comes, and what to do.

use rdb_control::{failure_text, state_text};

/// A number's meaning.
struct Meaning {
    code: i32,
    why: &'static str,
    what: &'static str,
}

/// The text for a number; nothing if there is no such refusal. (`docs/spec/admin.md`, sections 4.3 and 4.4.)
pub(crate) fn explain(code: i32) -> Option<String> {
    let Meaning { why, what, .. } = MEANINGS.iter().find(|m| m.code == code)?;
    let (kind, text) = if code < 0 {
        ("State change failed", state_text(code))
    } else {
        ("Failure", failure_text(code))
    };
    let first = text.lines().next().unwrap_or_default();
    Some(format!(
        "{kind}: ({code}) {first}\n\nWhy: {why}\nWhat to do: {what}\n"
    ))
}

const fn of(code: i32, why: &'static str, what: &'static str) -> Meaning {
    Meaning { code, why, what }
}

#[rustfmt::skip]
const MEANINGS: &[Meaning] = &[
    of(-1, "the peer is Primary, and only one node may be.", "'secondary' there first; then 'primary' here."),
    of(-2, "neither disk that this node can reach is UpToDate: users would get old data, or none.", "connect to the node with the good data, or attach its disk; 'rdbadm explain RES' says what there is. 'primary --force' makes what is here the good data."),
    of(-4, "a resync or verify needs a disk here, and none is attached.", "'rdbadm attach RES'."),
    of(-5, "a resync or verify needs a disk at the peer, and it has none.", "'rdbadm attach RES' on the peer."),
    of(-6, "a disk can not be called Outdated while both nodes are connected and it is as good as the peer's.", "'rdbadm disconnect RES' first."),
    of(-7, "'fencing' is set, the peer is away, and nobody has said that it cannot go on by itself.", "see what the handler fence-peer says (docs/handlers.md); 'primary --force' only if the peer is known to be down."),
    of(-8, "a resync or verify runs already.", "wait for its end ('rdbadm wait-sync RES'), or 'disconnect' and 'connect'."),
    of(-9, "there is no connection to be ended.", "nothing; 'rdbadm connect RES' makes one."),
    of(-10, "the peer was asked, and its own rules forbid the change.", "the peer's log has the reason; 'rdbadm status RES' there."),
    of(-11, "the command is about this node's disk, and none is attached.", "'rdbadm attach RES'."),
    of(-12, "somebody has the device open: a mount, a volume group, a virtual machine.", "unmount it, or end who uses it ('fuser -vm DEVICE'); then once more."),
    of(-13, "the resource has no network configuration.", "'rdbadm adjust RES' or 'rdbadm up RES'."),
    of(-14, "no 'verify-alg' is configured.", "set it in the net section on both nodes, and 'rdbadm adjust RES'."),
    of(-15, "a verify or resync needs the peer.", "'rdbadm connect RES', and see why there is no connection."),
    of(-16, "the disk is Inconsistent or worse: to call it Outdated would make it look better.", "nothing is to be done; a resync makes it good."),
    of(-17, "the peer is too old for what was asked.", "use what both versions have (docs/peers.md)."),
    of(-18, "something else is under way: a handshake, the end of a connection, a resync that begins.", "try again in a moment."),
    of(-19, "both nodes have asked for a change at the same time, and neither was made.", "try again."),
    of(-20, "the peer is Primary with another volume of the resource, and roles go together.", "'secondary' there first."),
    of(-21, "the peer can not be told: there is no connection.", "'rdbadm disconnect --force RES', if it is not to be told."),
    of(101, "DRBD has no better words for it.", "see the log of rdbd."),
    of(102, "another resource of this node listens at this address and port.", "give each resource a port of its own."),
    of(103, "another resource of this node has this peer's address and port.", "give each resource a port of its own, on both nodes."),
    of(104, "the backing disk can not be opened: it is not there, or not ours to open.", "check the path under 'disk' in the configuration, and its permissions."),
    of(105, "the device for external metadata can not be opened.", "check the path under 'meta-disk' in the configuration."),
    of(106, "another resource uses this disk.", "give each volume a disk of its own."),
    of(107, "the backing disk is no block device.", "check the path under 'disk'."),
    of(108, "the device for metadata is no block device.", "check the path under 'meta-disk'."),
    of(109, "the backing disk can not be opened.", "check the path under 'disk', and the kernel's log for its errors."),
    of(110, "the device for metadata can not be opened.", "check the path under 'meta-disk', and the kernel's log for its errors."),
    of(111, "the disk is smaller than 'size' says, or than the device was before: an attach would cut data off.", "attach the right disk, or one that is as large."),
    of(112, "the device for metadata is too small for this disk.", "make it larger: 'rdbadm create-md' says how large it has to be."),
    of(113, "the command needs a disk configuration first.", "'rdbadm attach RES'."),
    of(114, "the backing disk is in use: mounted, part of a volume group, or another resource's.", "unmount it; it is used through the device of rdb alone."),
    of(115, "the device for metadata is in use.", "see who has it: 'lsof DEVICE', 'mount'."),
    of(116, "backing disk, metadata and index do not go together: two resources share an index, or internal metadata is on another disk.", "check 'meta-disk' and its index."),
    of(118, "the disk gave errors when its metadata were read.", "check the disk ('smartctl', the kernel's log); do not run 'create-md' on it: that would take its generations away."),
    of(119, "there are no metadata on this disk: it is new, or it is the wrong one.", "is it the right disk? If it is new: 'rdbadm create-md RES'."),
    of(120, "the name under 'cram-hmac-alg' is no digest that is known here.", "sha1, sha256 and others are (docs/configuration.md)."),
    of(121, "the name under 'cram-hmac-alg' is no digest.", "see docs/configuration.md."),
    of(122, "there was no memory.", "see what uses it."),
    of(123, "a Primary would throw away what its users work with.", "'rdbadm secondary RES' first; think about which node's data are to go."),
    of(124, "a disk is attached already.", "nothing, or 'rdbadm detach RES' first."),
    of(125, "there is a connection already, or another resource has its addresses.", "nothing, or 'rdbadm disconnect RES' first."),
    of(126, "the request has a part that this version does not know, and must not ignore.", "use commands and daemon of one version."),
    of(127, "no volume with this minor number is up.", "'rdbadm up RES'; 'rdbadm status' says what is."),
    of(128, "the state that was asked for can not be.", "'rdbadm explain RES' says what it is now."),
    of(129, "the command was interrupted.", "try again."),
    of(130, "the size can not change during a resync.", "wait for its end."),
    of(131, "a size is changed where users are.", "'rdbadm primary RES' on one node first."),
    of(132, "'resync-after' names a minor that is not there.", "check the configuration."),
    of(133, "resources wait for each other by 'resync-after'.", "take one of them out of the circle."),
    of(134, "the resync is paused by this node already.", "nothing."),
    of(135, "the resync is not paused by this node.", "if it waits: 'rdbadm status RES' has 'resync-reason'."),
    of(136, "the disk is worse than Outdated already.", "nothing."),
    of(137, "the daemon does not know the request.", "use commands and daemon of one version: 'rdbadm restart' puts the new daemon in place."),
    of(138, "the volume has no disk.", "'rdbadm attach RES'."),
    of(139, "two Primaries need protocol C.", "set 'protocol C'."),
    of(140, "there was no memory.", "see what uses it."),
    of(141, "the name under 'data-integrity-alg' is no digest that is known here.", "see docs/configuration.md."),
    of(142, "the name under 'data-integrity-alg' is no digest.", "see docs/configuration.md."),
    of(143, "'cpu-mask' is no hexadecimal mask.", "see docs/configuration.md."),
    of(144, "the name under 'csums-alg' is no digest that is known here.", "see docs/configuration.md."),
    of(145, "the name under 'csums-alg' is no digest.", "see docs/configuration.md."),
    of(146, "the name under 'verify-alg' is no digest that is known here.", "see docs/configuration.md."),
    of(147, "the name under 'verify-alg' is no digest.", "see docs/configuration.md."),
    of(148, "'csums-alg' counts for a whole resync.", "wait for its end."),
    of(149, "'verify-alg' counts for a whole verify.", "wait for its end."),
    of(150, "users have seen other data than this disk has: they would go back in time.", "attach the disk that they were on, or connect to the peer that has it; or take the users away ('rdbadm secondary RES') first."),
    of(151, "that is for a resource without a connection.", "'rdbadm disconnect RES' first."),
    of(152, "only root may do that.", "run it as root."),
    of(153, "the peer is too old for that.", "see docs/peers.md."),
    of(154, "with protocol A a write is done before the peer has it: who goes on at the peer would not know it.", "'protocol B' or 'C', or another 'fencing'."),
    of(155, "'pull-ahead' is for protocol A.", "'protocol A', or 'on-congestion block'."),
    of(156, "the resync waits for another one, by 'resync-after'.", "wait, or change 'resync-after'."),
    of(157, "the peer has paused the resync.", "'rdbadm resume-sync RES' on the peer."),
    of(158, "no such resource is up here.", "'rdbadm up RES'; 'rdbadm status' says what is."),
    of(159, "the resource has volumes.", "'rdbadm down RES' takes them down with it."),
    of(160, "the volume has a disk or a connection.", "'rdbadm down RES'."),
    of(161, "the minor, or the volume's number, is another's.", "give each volume a minor of its own."),
    of(162, "what was asked for does not fit how the resource is.", "the text that came with it says what; 'rdbadm explain RES'."),
    of(163, "the peer is too old for options that change while it is connected.", "'disconnect', change them on both nodes, 'connect'."),
    of(164, "both nodes are Primary.", "'secondary' on one of them first."),
    of(165, "the node has crashed, and its activity log was not applied.", "'rdbadm apply-al RES'; 'up' does it by itself."),
    of(166, "the layout of metadata changes on both nodes at once.", "connect first."),
    of(167, "the activity log is larger than there is room for.", "see 'al-extents' in docs/configuration.md."),
    of(168, "the activity log is too small.", "see 'al-extents' in docs/configuration.md."),
    of(169, "there is no room for activity log and bitmap.", "use external metadata, or a larger device for them."),
    of(170, "the device would become smaller than it was, and what is at its end would be gone.", "attach a disk that is large enough on both nodes."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_with_a_text_has_a_meaning() {
        for code in -30..300 {
            let is_known = match code {
                ..0 => state_text(code) != state_text(-1000),
                _ => failure_text(code) != failure_text(1000),
            };
            assert_eq!(explain(code).is_some(), is_known, "{code}");
        }
    }

    #[test]
    fn it_begins_with_drbds_text() {
        let text = explain(-2).expect("a refusal");
        assert!(
            text.starts_with("State change failed: (-2) Need access to UpToDate data\n\nWhy: "),
            "{text}"
        );
    }
}
