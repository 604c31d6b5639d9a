//! What the engine wants done, and whether it may want that.

use rdb_engine::{ConnEffect, Effect, IoTag, Payload, VolumeNr, VolumeStatus};

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
            Effect::Read {
                volume,
                tag,
                sector,
                bytes,
                ..
            } => {
                let volume = self.inside(volume, sector, bytes);
                let op = Op::Read {
                    volume,
                    sector,
                    bytes,
                };
                self.pending.push((tag, op));
            }
            Effect::Write {
                volume,
                tag,
                sector,
                payload,
                fua,
            } => {
                let bytes = payload.len_bytes();
                let volume = self.inside(volume, sector, bytes);
                self.judge_write(volume, sector, bytes, before);
                let op = Op::Write {
                    volume,
                    sector,
                    data: payload.0,
                    fua,
                };
                self.pending.push((tag, op));
            }
            Effect::Discard {
                volume,
                tag,
                sector,
                bytes,
                ..
            } => {
                let volume = self.inside(volume, sector, bytes);
                self.judge_write(volume, sector, bytes, before);
                let op = Op::Zero {
                    volume,
                    sector,
                    sectors: u64::from(bytes / 512),
                };
                self.pending.push((tag, op));
            }
            Effect::Flush { volume, tag } => {
                let volume = usize::from(volume.0);
                let stamp = self.volumes[volume].disk.stamp();
                self.pending.push((tag, Op::Flush { volume, stamp }));
            }
            Effect::MetaRead {
                volume,
                tag,
                sector,
                bytes,
            } => {
                let volume = usize::from(volume.0);
                let disk = &self.volumes[volume].disk;
                let end = sector + u64::from(bytes / 512);
                assert!(end <= disk.sectors, "metadata read beyond the disk");
                let op = Op::MetaRead {
                    volume,
                    sector,
                    bytes,
                };
                self.pending.push((tag, op));
            }
            Effect::MetaWrite {
                volume,
                tag,
                sector,
                data,
                preflush,
                fua,
            } => {
                let volume = usize::from(volume.0);
                let disk = &self.volumes[volume].disk;
                let end = sector + data.len() as u64 / 512;
                let inside = sector >= disk.data_sectors && end <= disk.sectors;
                assert!(inside, "metadata is written outside of its place");
                let preflush = preflush.then(|| disk.stamp());
                let op = Op::MetaWrite {
                    volume,
                    sector,
                    data,
                    preflush,
                    fua,
                };
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
            Effect::Device { volume, device } => {
                if let Some(known) = self.volumes.get_mut(usize::from(volume.0)) {
                    known.device = device.map(|d| d.size_sectors);
                }
            }
            Effect::AdminDone { id, result } => {
                self.tell(|| format!("admin {} {result:?}", id.0));
                let known = self.commands.remove(&id.0);
                assert!(known.is_some(), "a command is answered once");
            }
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

    fn inside(&self, volume: VolumeNr, sector: u64, bytes: u32) -> usize {
        let volume = usize::from(volume.0);
        let end = sector.checked_add(u64::from(bytes / 512));
        let fits = end.is_some_and(|end| end <= self.volumes[volume].disk.data_sectors);
        assert!(
            bytes > 0 && bytes.is_multiple_of(512) && fits,
            "I/O outside the data: {bytes} bytes at sector {sector}"
        );
        volume
    }

    /// What our users write while they work on a good disk is theirs alone.
    fn judge_write(&self, v: usize, sector: u64, bytes: u32, before: &[VolumeStatus]) {
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
