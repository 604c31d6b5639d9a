//! The snapshot that operators see.

use alloc::vec::Vec;

use crate::disk::Disk;
use crate::disk::al_gate::Writer;
use crate::event::Payload;
use crate::handling::Waits;
use crate::ids::{Time, VolumeNr};
use crate::router::Resource;
use crate::router::bounds::Counts;
use crate::router::peer_device::PeerDevice;
use crate::router::volume::Volume;
use crate::state::{ConnState, DiskState, is_target};
use crate::status::{
    ConnectionStatus, FrozenIo, Marks, PeerDeviceStatus, ResourceStatus, SnapshotStatus,
    SyncProgress, VolumeStatus,
};

impl<P: Payload> Resource<P> {
    /// The resource as it is at `now`.
    pub fn status(&self, now: Time) -> ResourceStatus {
        let volumes: Vec<VolumeStatus> = self
            .volumes
            .iter()
            .map(|v| self.volume_status(v, now))
            .collect();
        ResourceStatus {
            connection: self.connection_status(now),
            snapshot: self
                .snapshots
                .status()
                .map(|(name, is_own, since)| SnapshotStatus {
                    name,
                    is_own,
                    for_ms: now.ms_since(since),
                }),
            volumes,
        }
    }

    fn connection_status(&self, now: Time) -> ConnectionStatus {
        ConnectionStatus {
            id: self.net.session.of(),
            state: self.net.cstate,
            protocol: self.net.options.as_ref().map(|o| o.protocol),
            epochs: u32::try_from(self.net.epochs.len()).unwrap_or(u32::MAX),
            owed_ms: self
                .oldest_unanswered()
                .map_or(0, |since| now.ms_since(since)),
            trouble: self.link_trouble(now),
        }
    }

    /// At most `max` words of a volume's bitmap from word `from` on; nothing without such a volume, or without its disk. Whoever
    /// wants all of it asks piece by piece, so that nobody waits long for this one.
    pub fn marks(&self, nr: VolumeNr, from: usize, max: usize) -> Option<Marks> {
        let bitmap = self.volumes.get(nr)?.disk.get()?.marks();
        let words = bitmap.words();
        let from = from.min(words.len());
        let end = from.saturating_add(max).min(words.len());
        Some(Marks {
            size_sectors: bitmap.size_sectors(),
            words: words[from..end].to_vec(),
        })
    }

    fn volume_status(&self, volume: &Volume<P>, now: Time) -> VolumeStatus {
        let disk = volume.disk.get();
        let state = volume.state;
        let options = disk.map(Disk::options);
        VolumeStatus {
            volume: volume.nr,
            minor: volume.minor,
            state,
            size_sectors: volume.size,
            peer: self.peer_device_status(volume, now),
            written_sectors: volume.counters.written,
            read_sectors: volume.counters.read,
            al_writes: volume.counters.al_writes,
            bm_writes: volume.counters.bm_writes,
            local_pending: volume.disk.pending(),
            application_pending: volume.users.asked(),
            write_ordering: match options {
                Some(o) if !o.disk_flushes && o.disk_drain => 'd',
                Some(o) if !o.disk_flushes => 'n',
                _ => 'f',
            },
            out_of_sync_blocks: volume.bits_set(),
            blocked: match (volume.space.is_empty(), volume.has_waiting_requests()) {
                (false, _) => 'b',
                (true, true) if self.handling.decides() => 'c',
                (true, true) => 'd',
                (true, false) => '-',
            },
            al_suspended: disk.is_some_and(|d| d.is_log_suspended()),
            generation: disk.map(|d| (d.record().ids(), d.record().flags().bits())),
            frozen: volume.frozen.since().map(|since| FrozenIo {
                requests: volume.users.asked(),
                for_ms: now.ms_since(since),
            }),
            no_space: volume.space.status(now),
            disk_trouble: self.disk_trouble(volume, now),
            degraded: volume.degraded,
            latencies: volume.latencies,
        }
    }

    fn peer_device_status(&self, volume: &Volume<P>, now: Time) -> PeerDeviceStatus {
        let conn = volume.state.conn;
        let target = is_target(conn);
        let syncing = volume.state.compares_blocks();
        let PeerDevice {
            traffic,
            resync,
            verify,
            ..
        } = &volume.peer;
        PeerDeviceStatus {
            connection: self.net.session.of(),
            sent_sectors: traffic.sent(),
            received_sectors: traffic.received(),
            pending: traffic.pending(),
            unacked: traffic.unacked(),
            writes_in_flight_sectors: self.writes_in_flight_sectors(volume.nr),
            resync_in_flight_sectors: resync.in_flight_sectors(),
            sync: syncing.then(|| SyncProgress {
                limit: self.resync_limit(volume, now),
                ..match conn {
                    ConnState::VerifyS | ConnState::VerifyT => verify.progress(now),
                    _ => resync.progress(now, volume.bits_set(), target),
                }
            }),
        }
    }

    fn writes_in_flight_sectors(&self, nr: VolumeNr) -> u64 {
        let requests = self.requests.iter().map(|(_, request)| request);
        let sectors = requests
            .filter(|request| request.volume() == nr && request.is_on_its_way())
            .map(|request| request.span().sectors());
        sectors.sum()
    }

    /// Checks what must always hold; for tests and simulation.
    ///
    /// # Panics
    /// If it does not.
    pub fn check(&self) {
        let counts = Counts {
            requests: self.requests.len(),
            mirrored: self.peer_writes.len(),
            io_in_flight: self.io.len(),
            volumes: self.volumes.len(),
        };
        for volume in self.volumes.iter() {
            counts.check_volume(volume);
            volume.disk.check(|who| match who {
                Writer::Own(key) => self.requests.contains(key),
                Writer::Mirrored(key) => self.peer_writes.contains(key),
            });
            assert!(
                !volume.disk.is_preparing() || volume.state.disk < DiskState::Inconsistent,
                "a disk in use whose attach has not ended"
            );
            let is_open = |key| self.requests.contains(key);
            volume.frozen.check(volume.state.is_suspended(), is_open);
            volume.users.check(is_open);
            let sanitized =
                crate::state::sanitize(volume.state, volume.state, &self.context(volume.nr)).state;
            assert_eq!(sanitized, volume.state, "the state is no fixed point (V1)");
        }
        let requests = self.requests.iter().map(|(_, request)| request);
        let open = requests.inspect(|r| r.check()).filter(|r| r.is_in_log());
        assert_eq!(
            open.count(),
            self.net.log.len(),
            "the transfer log and its requests differ"
        );
        let flushes = self
            .requests
            .iter()
            .filter(|(_, r)| r.is_flush() && r.is_unheard());
        assert!(
            flushes.map(|(key, _)| key).eq(self.net.log.flushes()),
            "flushes wait for no barrier, or barriers for no flush"
        );
        counts.check_net(&self.net);
        self.admin.check();
        let fences = |id| self.handling.runs_for(Waits::Fence, id);
        self.net.fence.check(fences);
        let takes = |id| self.handling.runs_for(Waits::Snapshot, id);
        self.snapshots.check(takes);
    }
}
