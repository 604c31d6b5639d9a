//! What became of the copies of a request, and when that is enough to tell its user.
//!
//! A write has two copies, ours and the peer's; with more peers there are more, and [`is_safe`] remains the one place that says
//! when a write is done. It goes by plain values: what each copy has come to, the protocol by which the write was sent, and
//! what the two disks are worth at this moment.

use replica_proto::DpFlags;

use crate::config::Protocol;

/// The copies of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// Ours.
    pub here: Here,
    /// The peer's.
    pub there: There,
}

/// What became of our own copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    /// Not wanted.
    None,
    /// The disk has not answered.
    Pending,
    /// It is on the disk.
    Done,
    /// The disk refused it, or has been given up since.
    Failed,
}

/// What became of the peer's copy. From [`There::Sent`] to [`There::Durable`] one leads to the next, and some are left out: which
/// answers come is agreed on with each write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum There {
    /// Not wanted.
    None,
    /// The peer could not do it, or is lost.
    Failed,
    /// On its way: nothing is known of it yet.
    Sent,
    /// The local TCP stack has all of it.
    Handed,
    /// The peer has it in memory.
    Received,
    /// The peer's disk has taken it.
    Written,
    /// A barrier behind it is acknowledged.
    Durable,
}

impl There {
    /// Whether the peer's copy counts as done by this protocol.
    pub fn has_come(self, protocol: Protocol) -> bool {
        self >= match protocol {
            Protocol::A => There::Handed,
            Protocol::B => There::Received,
            Protocol::C => There::Written,
        }
    }
}

impl Copies {
    /// Of a request that has not started.
    pub const NONE: Copies = Copies {
        here: Here::None,
        there: There::None,
    };

    /// Whether something is still to be heard of a copy.
    pub fn is_open(&self, protocol: Protocol) -> bool {
        let there = self.there >= There::Sent && !self.there.has_come(protocol);
        self.here == Here::Pending || there
    }

    /// Whether both have it.
    pub fn are_both(&self, protocol: Protocol) -> bool {
        self.here == Here::Done && self.there.has_come(protocol)
    }
}

/// What the two disks are worth now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// Ours is UpToDate and stays so. What only an Inconsistent disk took is overwritten by the next resync.
    pub here: bool,
    /// The peer's is UpToDate. (L30) What it has while it is away is of an older generation than the one we go on with.
    pub there: bool,
    /// (L26) Our disk is lost or worth less than its record says, and no record says so yet: after a crash of both it would win
    /// over what only the peer has.
    pub loss_unrecorded: bool,
}

/// What the user of a write or a flush may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// Nothing before a copy has answered.
    Open,
    /// Nothing yet, though both have answered: only the peer has it, and that cannot be relied on before its barrier or a
    /// record of our loss.
    OnlyThere,
    /// It is done.
    Safe,
    /// No copy has it that is one to rely on.
    Lost,
}

fn has_good_copy_here(copies: &Copies, worth: Worth) -> bool {
    copies.here == Here::Done && worth.here
}

/// Whether a copy has it that is one to rely on now.
pub fn has_good_copy(copies: &Copies, protocol: Protocol, worth: Worth) -> bool {
    has_good_copy_here(copies, worth) || copies.there.has_come(protocol) && worth.there
}

/// When a write may be completed.
pub fn is_safe(copies: &Copies, protocol: Protocol, worth: Worth) -> Safety {
    let there_only = copies.there.has_come(protocol) && !has_good_copy_here(copies, worth);
    // (L9) By protocol A that is done which may not even have arrived. A disk about to be overwritten by a resync has nothing.
    let on_its_way = protocol == Protocol::A && copies.there < There::Durable;
    if copies.is_open(protocol) {
        Safety::Open
    } else if there_only && (on_its_way || worth.loss_unrecorded) {
        Safety::OnlyThere
    } else if has_good_copy(copies, protocol, worth) {
        Safety::Safe
    } else {
        Safety::Lost
    }
}

/// When a flush may be completed: nothing that it asked for has failed, or our own disk has it all.
pub fn is_flushed(copies: &Copies, worth: Worth) -> Safety {
    let here = has_good_copy_here(copies, worth);
    if copies.is_open(Protocol::C) {
        Safety::Open
    } else if !here && copies.there.has_come(Protocol::C) && worth.loss_unrecorded {
        Safety::OnlyThere
    } else if here || copies.here != Here::Failed && copies.there != There::Failed {
        Safety::Safe
    } else {
        Safety::Lost
    }
}

/// Which positive answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckKind {
    Received,
    Written,
    /// Written, and the mirror cleared its bits.
    InSync,
}

impl AckKind {
    /// What a write asks for that is answered so.
    pub(crate) fn is_asked_by(self) -> DpFlags {
        match self {
            AckKind::Received => DpFlags::SEND_RECEIVE_ACK,
            AckKind::Written => DpFlags::SEND_WRITE_ACK,
            AckKind::InSync => DpFlags::SEND_WRITE_ACK | DpFlags::MAY_SET_IN_SYNC,
        }
    }

    /// What has become of the peer's copy by it.
    pub(crate) fn comes_to(self) -> There {
        match self {
            AckKind::Received => There::Received,
            AckKind::Written | AckKind::InSync => There::Written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: [Here; 4] = [Here::None, Here::Pending, Here::Done, Here::Failed];
    const THERE: [There; 7] = [
        There::None,
        There::Failed,
        There::Sent,
        There::Handed,
        There::Received,
        There::Written,
        There::Durable,
    ];
    const PROTOCOLS: [Protocol; 3] = [Protocol::A, Protocol::B, Protocol::C];

    /// `worth`: what is good of "ht", and "r" if a loss is not on record.
    fn told(here: Here, there: There, worth: &str) -> [Safety; 3] {
        let worth = Worth {
            here: worth.contains('h'),
            there: worth.contains('t'),
            loss_unrecorded: worth.contains('r'),
        };
        PROTOCOLS.map(|protocol| is_safe(&Copies { here, there }, protocol, worth))
    }

    #[test]
    fn a_write_is_done_when_a_good_copy_has_it_as_its_protocol_wants() {
        use Safety::{Lost, OnlyThere, Open, Safe};
        let rows = [
            // here, there, worth: what users are told by protocols A, B and C
            (Here::Pending, There::Durable, "ht", [Open, Open, Open]),
            (Here::Done, There::None, "h", [Safe, Safe, Safe]),
            (Here::Done, There::Sent, "ht", [Open, Open, Open]),
            (Here::Done, There::Handed, "ht", [Safe, Open, Open]),
            (Here::Done, There::Received, "ht", [Safe, Safe, Open]),
            (Here::Done, There::Written, "ht", [Safe, Safe, Safe]),
            (Here::Done, There::Failed, "h", [Safe, Safe, Safe]),
            // Our own disk has not got it, or is about to be overwritten.
            (Here::Failed, There::Handed, "t", [OnlyThere, Open, Open]),
            (Here::Failed, There::Received, "t", [OnlyThere, Safe, Open]),
            (Here::None, There::Written, "t", [OnlyThere, Safe, Safe]),
            (Here::Done, There::Written, "t", [OnlyThere, Safe, Safe]),
            (Here::None, There::Durable, "t", [Safe, Safe, Safe]),
            (Here::None, There::Durable, "", [Lost, Lost, Lost]),
            // Our own disk would win after a crash of both.
            (Here::Failed, There::Durable, "tr", [OnlyThere; 3]),
            (Here::Done, There::Durable, "htr", [Safe, Safe, Safe]),
            // Neither has it.
            (Here::Failed, There::Failed, "ht", [Lost, Lost, Lost]),
            (Here::Done, There::Failed, "t", [Lost, Lost, Lost]),
            (Here::Failed, There::None, "h", [Lost, Lost, Lost]),
        ];
        for (here, there, worth, expected) in rows {
            assert_eq!(
                told(here, there, worth),
                expected,
                "{here:?} {there:?} {worth}"
            );
        }
    }

    #[test]
    fn nothing_is_called_done_that_no_good_copy_has() {
        for here in HERE {
            for there in THERE {
                for worth in ["", "h", "t", "ht", "r", "hr", "tr", "htr"] {
                    let told = told(here, there, worth);
                    let has = here == Here::Done && worth.contains('h')
                        || there >= There::Handed && worth.contains('t');
                    assert!(has || !told.contains(&Safety::Safe));
                    // Who waits longer for the peer does not hear earlier, but for what A cannot rely on by itself.
                    let [_, b, c] = told.map(|safety| safety == Safety::Open);
                    assert!(c || !b);
                }
            }
        }
    }
}
