//! Which of the streams that claim to be the peer's make the pair: the decision, without sockets.
//!
//! Nothing in an accepted stream says who has opened it, but its address, and every process of that host has that. A
//! stream that *this* node opens ends at whoever listens at the peer's address and port, and that is the peer as long as
//! it runs. So accepted streams are taken as long as nobody contests them; two live ones that claim the same seat cannot
//! both be the peer's, and from then on only own streams count ([`Trust::OwnOnly`]), as when many call and say
//! nothing. The peer, whose streams we close, takes ours. A connection that came to nothing is a hint only: the next time own streams are tried first, and what
//! was accepted waits ([`Trust::OwnFirst`]).
//!
//! Between two right nodes the one with the higher address keeps what it opened, whatever it trusts, and the other one
//! gives way: they never both insist, unless streams of both are contested at the same time.

use replica_proto::Socket;

/// Who may take a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// An accepted stream is as good as an own one.
    Anyone,
    /// Accepted streams wait until an own one has failed, or for too long.
    OwnFirst,
    /// Accepted streams are closed, as long as own ones can be opened.
    OwnOnly,
}

/// A stream in its seat.
#[derive(Debug)]
pub(super) struct Half<S> {
    pub(super) stream: S,
    /// This node has opened it.
    pub(super) opened: bool,
}

#[derive(Debug)]
struct Seat<S> {
    taken: Option<Half<S>>,
    /// Accepted, and waiting.
    spare: Option<S>,
}

/// Both seats.
#[derive(Debug)]
pub(super) struct Claims<S> {
    trust: Trust,
    /// Of two streams that cross, ours stays: our address is the higher one.
    keeps_own: bool,
    data: Seat<S>,
    meta: Seat<S>,
}

/// What became of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged<S> {
    /// To be closed.
    pub(super) close: Vec<S>,
    /// Two streams claimed one seat: from now on only own ones count.
    pub(super) contested: bool,
    /// A seat has another stream now: the pair has to settle anew.
    pub(super) reseated: bool,
}

impl<S> Claims<S> {
    pub(super) fn new(trust: Trust, keeps_own: bool) -> Claims<S> {
        let seat = || Seat {
            taken: None,
            spare: None,
        };
        Claims {
            trust,
            keeps_own,
            data: seat(),
            meta: seat(),
        }
    }

    fn seat(&mut self, socket: Socket) -> &mut Seat<S> {
        match socket {
            Socket::Data => &mut self.data,
            Socket::Meta => &mut self.meta,
        }
    }

    /// Whether accepted streams are closed without a look at them.
    pub(super) fn hears_nobody(&self, own_fails: bool) -> bool {
        self.trust == Trust::OwnOnly && !own_fails
    }

    pub(super) fn trust(&self) -> Trust {
        self.trust
    }

    /// The seat that is empty, data first.
    pub(super) fn missing(&self) -> Option<Socket> {
        match (&self.data.taken, &self.meta.taken) {
            (None, _) => Some(Socket::Data),
            (_, None) => Some(Socket::Meta),
            _ => None,
        }
    }

    /// Whether this node has something to open: for an empty seat, or in place of an accepted stream that it does not trust.
    pub(super) fn wants_own(&self) -> bool {
        let accepted = |seat: &Seat<S>| seat.taken.as_ref().is_some_and(|half| !half.opened);
        self.missing().is_some()
            || self.trust == Trust::OwnOnly && (accepted(&self.data) || accepted(&self.meta))
    }

    /// Whether no seat is taken and nobody waits for one.
    pub(super) fn is_empty(&self) -> bool {
        [&self.data, &self.meta]
            .iter()
            .all(|seat| seat.taken.is_none() && seat.spare.is_none())
    }

    /// A stream that this node has opened takes the seat, which is empty.
    pub(super) fn opened(&mut self, socket: Socket, stream: S) {
        self.seat(socket).taken = Some(Half {
            stream,
            opened: true,
        });
    }

    /// An accepted stream says that it is the peer's `socket`. `own_fails`: the last attempt to open one failed.
    pub(super) fn accepted(&mut self, socket: Socket, stream: S, own_fails: bool) -> Judged<S> {
        let (trust, keeps_own) = (self.trust, self.keeps_own);
        let hears_nobody = self.hears_nobody(own_fails);
        let seat = self.seat(socket);
        let opened = seat.taken.as_ref().is_some_and(|half| half.opened);
        if opened && keeps_own || hears_nobody {
            return Judged {
                close: vec![stream],
                contested: false,
                reseated: false,
            };
        }
        let half = Half {
            stream,
            opened: false,
        };
        let waits = trust == Trust::OwnFirst && (opened || seat.taken.is_none());
        let (before, contested) = if waits {
            let before = seat.spare.replace(half.stream);
            let contested = before.is_some();
            (before, contested)
        } else {
            let before = seat.taken.replace(half);
            let contested = before.as_ref().is_some_and(|half| !half.opened);
            (before.map(|half| half.stream), contested)
        };
        let mut close: Vec<S> = before.into_iter().collect();
        if contested {
            // Nobody knows which of the two is the peer's, nor whose any other accepted one is.
            close.extend(self.distrust(own_fails));
        }
        Judged {
            close,
            contested,
            reseated: !waits,
        }
    }

    /// Strangers are about: from now on only own streams count, if they can be opened. Comes with what is to be closed.
    pub(super) fn distrust(&mut self, own_fails: bool) -> Vec<S> {
        self.trust = Trust::OwnOnly;
        if own_fails {
            self.seat_spares();
            return Vec::new();
        }
        self.evict_accepted()
    }

    /// Takes the seats from accepted streams; they are to be closed.
    fn evict_accepted(&mut self) -> Vec<S> {
        let mut close = Vec::new();
        for seat in [&mut self.data, &mut self.meta] {
            close.extend(seat.spare.take());
            if seat.taken.as_ref().is_some_and(|half| !half.opened) {
                close.extend(seat.taken.take().map(|half| half.stream));
            }
        }
        close
    }

    /// An own stream could be opened: where only these count, others leave their seats and are to be closed.
    pub(super) fn own_succeeds(&mut self) -> Vec<S> {
        match self.trust {
            Trust::OwnOnly => self.evict_accepted(),
            Trust::Anyone | Trust::OwnFirst => Vec::new(),
        }
    }

    fn seat_spares(&mut self) {
        for seat in [&mut self.data, &mut self.meta] {
            if seat.taken.is_none() {
                seat.taken = seat.spare.take().map(|stream| Half {
                    stream,
                    opened: false,
                });
            }
        }
    }

    /// Own streams have failed, or take too long: what waits is as good as they.
    pub(super) fn give_way(&mut self) {
        if self.trust != Trust::OwnFirst {
            return;
        }
        self.trust = Trust::Anyone;
        self.seat_spares();
    }

    /// Lets go of streams that the other side has closed; whether one of them had a seat, and whether one of those was
    /// ours. If it was an own stream that the peer does not want, what waits takes its place.
    pub(super) fn drop_dead(&mut self, is_alive: impl Fn(&S) -> bool) -> (bool, bool) {
        let (mut lost, mut lost_own) = (false, false);
        for seat in [&mut self.data, &mut self.meta] {
            seat.spare = seat.spare.take().filter(&is_alive);
            if let Some(dead) = seat.taken.take_if(|half| !is_alive(&half.stream)) {
                lost = true;
                lost_own |= dead.opened;
            }
        }
        let waits = |seat: &Seat<S>| seat.taken.is_none() && seat.spare.is_some();
        if lost && (waits(&self.data) || waits(&self.meta)) {
            self.give_way();
        }
        (lost, lost_own)
    }

    /// The pair, if both seats are taken.
    pub(super) fn take_pair(&mut self) -> Option<(Half<S>, Half<S>)> {
        match (self.data.taken.take(), self.meta.taken.take()) {
            (Some(data), Some(meta)) => Some((data, meta)),
            (data, meta) => {
                (self.data.taken, self.meta.taken) = (data, meta);
                None
            }
        }
    }

    /// All streams that are left.
    pub(super) fn into_streams(self) -> impl Iterator<Item = S> {
        [self.data, self.meta].into_iter().flat_map(|seat| {
            let taken = seat.taken.map(|half| half.stream);
            taken.into_iter().chain(seat.spare)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIKED: bool = false;
    const FAILS: bool = true;

    fn data_of(claims: &Claims<u32>) -> Option<(u32, bool)> {
        let half = claims.data.taken.as_ref()?;
        Some((half.stream, half.opened))
    }

    #[test]
    fn an_uncontested_stream_is_taken_and_of_two_neither() {
        let mut claims = Claims::new(Trust::Anyone, true);
        assert_eq!(claims.accepted(Socket::Data, 1, LIKED).close, [0; 0]);
        assert_eq!(data_of(&claims), Some((1, false)));
        let judged = claims.accepted(Socket::Data, 2, LIKED);
        assert!(judged.contested);
        assert_eq!((judged.close, data_of(&claims)), (vec![1, 2], None));
        assert_eq!(claims.trust(), Trust::OwnOnly);
        for stranger in 3..100 {
            let judged = claims.accepted(Socket::Data, stranger, LIKED);
            assert_eq!((judged.close, judged.contested), (vec![stranger], false));
        }
        claims.opened(Socket::Data, 100);
        claims.accepted(Socket::Data, 101, LIKED);
        assert_eq!(data_of(&claims), Some((100, true)));
    }

    #[test]
    fn a_contest_takes_the_other_seat_from_who_was_accepted_too() {
        let mut claims = Claims::new(Trust::Anyone, false);
        claims.accepted(Socket::Data, 1, LIKED);
        claims.accepted(Socket::Meta, 2, LIKED);
        let judged = claims.accepted(Socket::Meta, 3, LIKED);
        let mut closed = judged.close;
        closed.sort_unstable();
        assert_eq!((closed, judged.contested), (vec![1, 2, 3], true));
        assert!(claims.is_empty());
    }

    #[test]
    fn of_two_that_cross_the_higher_address_decides() {
        for (keeps_own, seat, closed) in [(true, (1, true), 2), (false, (2, false), 1)] {
            let mut claims = Claims::new(Trust::Anyone, keeps_own);
            claims.opened(Socket::Data, 1);
            let judged = claims.accepted(Socket::Data, 2, LIKED);
            assert_eq!((judged.close, judged.contested), (vec![closed], false));
            assert_eq!(data_of(&claims), Some(seat));
        }
    }

    #[test]
    fn own_first_lets_others_wait_until_the_peer_does_not_want_ours() {
        let mut claims = Claims::new(Trust::OwnFirst, false);
        assert!(claims.accepted(Socket::Data, 1, LIKED).close.is_empty());
        assert_eq!(claims.missing(), Some(Socket::Data));
        claims.opened(Socket::Data, 2);
        assert_eq!(data_of(&claims), Some((2, true)));
        assert_eq!(claims.drop_dead(|&stream| stream != 2), (true, true));
        assert_eq!(data_of(&claims), Some((1, false)));
        assert_eq!(claims.trust(), Trust::Anyone);
    }

    #[test]
    fn own_first_gives_way_when_own_streams_fail() {
        let mut claims = Claims::new(Trust::OwnFirst, true);
        claims.accepted(Socket::Data, 1, FAILS);
        claims.accepted(Socket::Meta, 2, FAILS);
        assert_eq!(claims.missing(), Some(Socket::Data));
        claims.give_way();
        assert_eq!(claims.missing(), None);
    }

    #[test]
    fn two_that_wait_are_contested_as_well() {
        let mut claims = Claims::new(Trust::OwnFirst, true);
        claims.accepted(Socket::Meta, 1, LIKED);
        assert!(claims.accepted(Socket::Meta, 2, LIKED).contested);
        assert!(claims.is_empty());
    }

    #[test]
    fn where_nothing_can_be_opened_the_newest_is_taken_until_something_can() {
        for trust in [Trust::Anyone, Trust::OwnOnly] {
            let mut claims = Claims::new(trust, true);
            claims.accepted(Socket::Data, 1, FAILS);
            claims.accepted(Socket::Meta, 2, FAILS);
            let judged = claims.accepted(Socket::Data, 3, FAILS);
            assert_eq!((judged.close, judged.contested), (vec![1], true));
            assert_eq!(data_of(&claims), Some((3, false)));
            assert_eq!(claims.own_succeeds(), [3, 2]);
            assert!(claims.is_empty());
        }
    }

    /// Two right nodes, whatever they trust but for both insisting, agree within a few rounds.
    #[test]
    fn two_right_nodes_meet() {
        use Trust::*;
        for low in [Anyone, OwnFirst, OwnOnly] {
            for high in [Anyone, OwnFirst, OwnOnly] {
                if (low, high) != (OwnOnly, OwnOnly) {
                    assert!(meet(low, high), "{low:?} {high:?}");
                }
            }
        }
    }

    /// In a round each opens what it lacks, and if both do, their streams cross. Pauses of random length between two
    /// attempts let one begin alone before long: the higher one does not in odd rounds.
    fn meet(low: Trust, high: Trust) -> bool {
        let mut nodes = [Claims::new(low, false), Claims::new(high, true)];
        let mut closed = std::collections::BTreeSet::new();
        for round in 0..10_u32 {
            let opens: Vec<_> = nodes.iter().map(Claims::missing).collect();
            // The lower one lets the other one begin, unless it trusts own streams more.
            let begins = |node: usize| match node {
                0 => nodes[0].trust() != Trust::Anyone || round % 2 == 1,
                _ => round % 2 == 0,
            };
            let begins = [begins(0), begins(1)];
            for node in 0..2 {
                if let (Some(socket), true) = (opens[node], begins[node]) {
                    nodes[node].opened(socket, round * 2 + node as u32);
                }
            }
            for (node, claims) in nodes.iter_mut().enumerate() {
                let other = 1 - node;
                if let (Some(socket), true) = (opens[other], begins[other]) {
                    let stream = round * 2 + other as u32;
                    if !closed.contains(&stream) {
                        closed.extend(claims.accepted(socket, stream, false).close);
                    }
                }
            }
            for node in &mut nodes {
                node.drop_dead(|stream| !closed.contains(stream));
            }
            let seats = nodes.each_ref().map(|node| {
                [&node.data, &node.meta].map(|seat| seat.taken.as_ref().map(|half| half.stream))
            });
            if seats[0] == seats[1] && !seats[0].contains(&None) {
                return true;
            }
        }
        false
    }
}
