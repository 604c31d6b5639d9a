//! The operations of a resource's ring, each with what the kernel uses meanwhile.

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use rdb_frontend::ublk::{Channel, Tag};
use socket2::SockAddr;

use crate::disk::io::DiskIo;
use crate::disk::left::LeftDisk;
use crate::ids::NodeId;
use crate::ring::{AtEnd, Operation};
use crate::stream::StreamOp;

/// An operation in flight.
pub(crate) enum Op {
    /// A read of the eventfd that messages ring.
    Wake(Box<[u8; 8]>, Rc<OwnedFd>),
    /// Cancels another one; owns nothing.
    Cancel(usize),
    /// Disk I/O.
    Disk(DiskIo),
    /// A send or a receive of the peer's or of an NBD client's socket.
    Stream(StreamOp),
    /// A connect to the peer, with its address.
    Connect(u32, Rc<OwnedFd>, Box<SockAddr>),
    /// An accept on the listening socket of a connection attempt.
    Accept(u32, Rc<OwnedFd>),
    /// The first packet of an accepted socket.
    FirstPacket(u32, Rc<OwnedFd>, Box<[u8; 8]>),
    /// An accept on the NBD socket.
    NbdAccept(u32, Rc<OwnedFd>),
    /// A command of a ublk device's tag, which completes the request before, if there was one, with this result. It ends when
    /// there is a request.
    Ublk(NodeId, Tag, Option<i32>, Rc<OwnedFd>),
    /// A wait for the kernel's FUSE client of a volume to ask something.
    FusePoll(NodeId, Rc<OwnedFd>),
}

// SAFETY: what the entries point to is in boxes, buffers of the pool and memory from the heap that the operations own; descriptors
// are held by each.
unsafe impl Operation for Op {
    type Held = LeftDisk;

    fn cancel(key: usize) -> Op {
        Op::Cancel(key)
    }

    fn entry(&mut self) -> squeue::Entry {
        match self {
            Op::Wake(bytes, bell) => {
                opcode::Read::new(types::Fd(bell.as_raw_fd()), bytes.as_mut_ptr(), 8).build()
            }
            Op::Cancel(key) => opcode::AsyncCancel::new(*key as u64).build(),
            Op::Disk(io) => io.entry(),
            Op::Stream(op) => op.entry(),
            Op::Connect(_, fd, address) => {
                let fd = types::Fd(fd.as_raw_fd());
                opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
            }
            Op::Accept(_, fd) | Op::NbdAccept(_, fd) => {
                let fd = types::Fd(fd.as_raw_fd());
                opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
                    .flags(libc::SOCK_CLOEXEC)
                    .build()
            }
            Op::FirstPacket(_, fd, bytes) => {
                let fd = types::Fd(fd.as_raw_fd());
                opcode::Recv::new(fd, bytes.as_mut_ptr(), 8)
                    .flags(libc::MSG_WAITALL)
                    .build()
            }
            Op::Ublk(_, tag, None, fd) => Channel::fetch(fd, *tag),
            Op::Ublk(_, tag, Some(result), fd) => Channel::commit_and_fetch(fd, *tag, *result),
            Op::FusePoll(_, fd) => {
                opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), libc::POLLIN as u32).build()
            }
        }
    }

    fn at_end(&self) -> AtEnd {
        match self {
            // Disk writes that run are let run: half of a block helps nobody.
            Op::Disk(_) => AtEnd::Awaited,
            Op::Ublk(..) => AtEnd::Dropped,
            _ => AtEnd::Cancelled,
        }
    }

    fn held(&self) -> Option<LeftDisk> {
        match self {
            Op::Disk(io) => Some(io.file.open.leave()),
            _ => None,
        }
    }
}

impl From<DiskIo> for Op {
    fn from(io: DiskIo) -> Op {
        Op::Disk(io)
    }
}

impl From<StreamOp> for Op {
    fn from(op: StreamOp) -> Op {
        Op::Stream(op)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use rdb_engine::VolumeNr;

    use super::*;
    use crate::disk::io::{Answer, DiskFile, Job, Memory};
    use crate::disk::left::is_left;
    use crate::disk::open::OpenFile;
    use crate::mailbox::eventfd;
    use crate::pool::{Pool, PoolSize, Reserve};
    use crate::ring::{Ring, TEARDOWN_MS};

    fn ring() -> (Ring<Op>, Rc<Pool>) {
        let pool = Pool::new(PoolSize {
            receive: 1,
            front_end: 1,
            filling: 1,
            read: 1,
            peer_read: 1,
        });
        let pool = pool.expect("memory");
        let ring = Ring::new(Rc::clone(&pool), Duration::ZERO).expect("io_uring");
        (ring, pool)
    }

    /// Goal: a disk that hangs costs whoever ends a ring a few seconds, and is free once it has answered. Method: a read of a pipe
    /// stands for it, which ends when something is written.
    #[test]
    fn a_disk_that_hangs_is_held_until_it_answers() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("disk");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo").success());
        let open = || {
            let mut both = std::fs::OpenOptions::new();
            both.read(true).write(true).open(&path).expect("a pipe")
        };
        let (pipe, mut writer) = (open(), open());

        let (mut ring, pool) = ring();
        let open = Arc::new(OpenFile::of(pipe));
        let is_open = Arc::downgrade(&open);
        let buf = pool.take(Reserve::Read, 512).expect("a buffer");
        let arena = Rc::downgrade(&pool);
        drop(pool);
        let who = (VolumeNr(0), Answer::Part(0));
        let (file, memory) = (DiskFile::new(open), Memory::Pool(buf));
        DiskIo::new(who, &file, Job::Read, (0, 512), memory).start(&mut ring);
        drop(file);

        assert!(!is_left(&path));
        let begun = Instant::now();
        let remains = ring.end().expect("nothing ends the read");
        assert!(begun.elapsed() < Duration::from_millis(2 * TEARDOWN_MS));
        assert_eq!((remains.count(), remains.held_count()), (1, 1));
        assert!(is_left(&path), "it is said who has it");
        assert!(is_open.upgrade().is_some() && arena.upgrade().is_some());

        let answering = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            std::io::Write::write_all(&mut writer, &[7; 512]).expect("the pipe has room");
        });
        remains.wait().expect("the ring works");
        answering.join().expect("it is written");
        assert!(!is_left(&path), "free");
        assert!(is_open.upgrade().is_none() && arena.upgrade().is_none());
    }

    /// Starts a read of an eventfd; it ends at once if `count` is not zero.
    fn start_read(ring: &mut Ring<Op>, count: u32) -> Rc<OwnedFd> {
        let fd = Rc::new(eventfd(count).expect("an eventfd"));
        ring.start(Op::Wake(Box::new([0; 8]), Rc::clone(&fd)));
        fd
    }

    /// Goal: a handler that panics leaves nothing in flight that has completed, and so no disk in use. Method: of three completions
    /// one is handed out, as when its handler panics, and the ring ends.
    #[test]
    fn what_has_completed_and_was_not_handed_out_is_not_awaited() {
        let (mut ring, _) = ring();
        let fds = [1, 2, 3].map(|count| start_read(&mut ring, count));
        while ring.gather() < fds.len() {
            ring.turn(true, None).expect("enter");
        }
        let (op, result) = ring.next_completed().expect("three");
        assert!(matches!(op, Op::Wake(..)));
        assert_eq!(result, 8);
        drop(op);
        assert!(ring.end().is_none(), "nothing is in flight");
        assert!(fds.iter().all(|fd| Rc::strong_count(fd) == 1));
    }

    #[test]
    fn waiting_ends_with_the_timeout_and_an_op_in_flight_is_awaited() {
        let (mut ring, _) = ring();
        let fd = start_read(&mut ring, 0);
        let start = Instant::now();
        ring.turn(true, Some(Duration::from_millis(30)))
            .expect("enter");
        assert!(start.elapsed() >= Duration::from_millis(25));
        assert_eq!(ring.gather(), 0);
        drop(ring);
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "a read that never ends is cancelled"
        );
        assert_eq!(Rc::strong_count(&fd), 1);
    }
}
