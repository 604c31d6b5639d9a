//! What the engine wants done, and whether it may want that.

use rdb_engine::{ConnEffect, Effect, IoTag, Payload, VolumeStatus};

use super::{Open, Siege, nr};
use crate::hostile::watch;
use crate::node::{Data, Op};

impl Siege {
    fn take_kept(&mut self, tag: IoTag, retry: bool) {
        let mut kept = self.kept.iter();
        let at = kept.position(|(kept, _)| *kept == tag);
        let (tag, op) = self
            .kept
            .remove(at.expect("only what is kept is tried again, or given up"));
        let op = if retry { op } else { Op::GivenUp(Box::new(op)) };
        self.pending.push((tag, op));
    }

    pub(super) fn apply(&mut self, effect: Effect<Data>, before: &[VolumeStatus]) {
        match effect {
            Effect::Read { .. }
            | Effect::Write { .. }
            | Effect::Flush { .. }
            | Effect::Discard { .. }
            | Effect::MetaRead { .. }
            | Effect::MetaWrite { .. } => {
                let (tag, op) = Op::of(effect, &self.disks);
                self.judge_write(&op, before);
                self.pending.push((tag, op));
            }
            Effect::RetryIo { tag } => self.take_kept(tag, true),
            Effect::GiveUpIo { tag } => self.take_kept(tag, false),
            Effect::CloseDisk { volume } => {
                let volume = usize::from(volume.0);
                let mut all = self.pending.iter().chain(&self.kept);
                // (A read of an attach that was given up by force changes nothing.)
                let busy = all.any(|p| p.1.volume() == Some(volume) && !p.1.is_meta_read());
                assert!(!busy, "a disk is closed with I/O outstanding");
            }
            Effect::Connection(_, ConnEffect::Open) => self.wanted = true,
            Effect::Connection(_, ConnEffect::Close) => {
                (self.wanted, self.connected) = (false, false);
                self.sent.clear();
            }
            Effect::Connection(_, ConnEffect::SetWire(wire)) => {
                self.wire = wire;
                self.foe.wire = wire;
            }
            Effect::Connection(
                _,
                ConnEffect::Send {
                    volume,
                    packet,
                    digest,
                    payload,
                    notify,
                },
            ) => {
                assert!(self.connected, "a packet without a connection");
                self.tell(|| format!("> {volume} {packet:?}"));
                let bytes = payload.as_ref().map_or(0, Payload::len_bytes);
                let mut out = Vec::new();
                packet.encode(&self.wire, volume.0, digest.as_ref(), bytes, &mut out);
                if !self.deaf || self.foe.is_question_of_identity(&packet) {
                    self.foe.hear(volume.0, &packet, bytes);
                }
                self.sent.extend(notify);
            }
            Effect::Complete { request, result } => {
                self.tell(|| format!("request {} {}", request.0, result.is_ok()));
                let open = self.requests.remove(&request.0);
                let open = open.expect("a request is completed once");
                let volume = &mut self.volumes[open.volume];
                volume.model.forked |= !volume.whole;
                if let Err(text) = volume.model.on_complete(0, request.0, &result) {
                    panic!("{text}");
                }
            }
            Effect::Device { .. } => {}
            Effect::AdminDone { id, result } => {
                self.tell(|| format!("admin {} {result:?}", id.0));
                let known = self.commands.remove(&id.0);
                assert!(known.is_some(), "a command is answered once");
            }
            Effect::RunHandler { .. } | Effect::EndHandler { .. } | Effect::Milestone { .. } => {}
            Effect::SetTimer { timer, at } => {
                self.timers.insert(timer, at);
            }
            Effect::ClearTimer { timer } => {
                self.timers.remove(&timer);
            }
            Effect::Log { text, .. } => {
                self.lines += 1;
                self.tell(|| text.clone());
                assert!(!text.contains("impossible state change"), "{text}");
            }
            Effect::StateChanged { volume, new, .. } => self.tell(|| format!("{volume} {new}")),
        }
    }

    /// What our users write while they work on a good disk is theirs alone.
    fn judge_write(&self, op: &Op, before: &[VolumeStatus]) {
        let (v, sector, bytes) = match op {
            Op::Write {
                volume,
                sector,
                data,
                ..
            } => (*volume, *sector, data.len() as u32),
            Op::Zero {
                volume,
                sector,
                sectors,
            } => (*volume, *sector, (sectors * 512) as u32),
            _ => return,
        };
        let protected = before.iter().find(|s| s.volume == nr(v));
        if !protected.is_some_and(watch::is_protected) {
            return;
        }
        let own = |open: &Open| {
            open.writes && open.volume == v && open.sector == sector && open.bytes == bytes
        };
        let peers = self.volumes[v].mirrored.contains(&(sector, bytes));
        assert!(
            peers || self.requests.values().any(own),
            "the disk of a Primary is written by its peer: {bytes} bytes at sector {sector}"
        );
    }
}
