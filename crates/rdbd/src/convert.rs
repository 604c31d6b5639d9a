//! Between the words of the control socket and those of the engine.

use rdb_config::options::Changed;
use rdb_config::{
    AfterSb0p, AfterSb1p, AfterSb2p, Fencing, OnIoError, OnNoDataAccessible, RrConflict,
};
use rdb_control::{
    DiskOptions, HandlersShown, HistogramReport, LatencyReport, MetaDisk, NetOptions,
    NoSpaceReport, Pause, Refusal, ResourceOptions, ResourceReport, Suspension, SyncReport,
    VerifyReport, VolumeReport, code,
};
use rdb_engine::config::{self as engine, SplitBrainPolicy as Policy};
use rdb_engine::{
    AdminError, Handler, Histogram, Latencies, ResourceStatus, SnapshotWish, SyncProgress,
    VolumeStatus,
};
use rdb_runtime::MetaLocation;
use replica_proto::auth::HmacAlgorithm;
use replica_proto::{DigestAlgorithm, SNAPSHOT_LIMIT_MAX_MS, SnapshotName};

use crate::figures::{Figures, kib};
use crate::{proc_drbd, reasons};

/// Options that rdb does not serve are refused, whoever asks: the table says which.
///
/// # Errors
/// 162 with the first one's name.
pub(crate) fn served(changed: Changed) -> Result<(), Refusal> {
    let mut refused = changed
        .into_iter()
        .filter_map(|(option, value)| option.refused(&value));
    refused.next().map_or(Ok(()), |refused| {
        let info = format!("{} is not served by rdb yet", refused.what);
        Err(Refusal::failure(code::INVALID_REQUEST, info))
    })
}

/// An algorithm that there is not: those that there are, are named.
fn unknown(code: i32, option: &str, name: &str, is_one: fn(&str) -> bool) -> Refusal {
    let all = DigestAlgorithm::ALL
        .iter()
        .map(|algorithm| algorithm.name());
    let served: Vec<_> = all.filter(|name| is_one(name)).collect();
    let info = format!(
        "{option} {name} is not served: there are {}",
        served.join(", ")
    );
    Refusal::failure(code, info)
}

/// Whether an algorithm can prove that a secret is known.
fn keyed(name: &str) -> bool {
    HmacAlgorithm::from_name(name).is_ok()
}

/// The engine's net options.
///
/// # Errors
/// 120, 141, 144 or 146 for unknown algorithms, 162 for what is not served.
pub(crate) fn net(net: &NetOptions) -> Result<engine::NetOptions, Refusal> {
    served(net.changed())?;
    let authentication = match (&net.cram_hmac_alg, &net.shared_secret) {
        (None, _) => None,
        (Some(algorithm), Some(secret)) => Some(engine::Authentication {
            algorithm: HmacAlgorithm::from_name(algorithm)
                .map_err(|_| unknown(code::AUTH_ALG, "cram-hmac-alg", algorithm, keyed))?,
            secret: secret.clone(),
        }),
        (Some(_), None) => {
            let info = "cram-hmac-alg without shared-secret";
            return Err(Refusal::failure(code::INVALID_REQUEST, info));
        }
    };
    let digest = |code, option, name: &Option<String>| {
        let name = name.as_deref();
        let found = name.map(|name| {
            DigestAlgorithm::from_name(name).map_err(|_| unknown(code, option, name, |_| true))
        });
        found.transpose()
    };
    let integrity = &net.data_integrity_alg;
    let integrity_alg = digest(code::INTEGRITY_ALG, "data-integrity-alg", integrity)?;
    let csums_alg = digest(code::CSUMS_ALG, "csums-alg", &net.csums_alg)?;
    digest(code::VERIFY_ALG, "verify-alg", &net.verify_alg)?;
    Ok(engine::NetOptions {
        protocol: match net.protocol {
            rdb_config::Protocol::A => engine::Protocol::A,
            rdb_config::Protocol::B => engine::Protocol::B,
            rdb_config::Protocol::C => engine::Protocol::C,
        },
        timeout_ds: net.timeout_ds,
        ping_int_s: net.ping_int_s,
        ping_timeout_ds: net.ping_timeout_ds,
        connect_int_s: net.connect_int_s,
        ko_count: net.ko_count,
        max_buffers: net.max_buffers,
        max_epoch_size: net.max_epoch_size,
        authentication,
        after_sb_0pri: match net.after_sb_0pri {
            AfterSb0p::Disconnect => Policy::Disconnect,
            AfterSb0p::DiscardYoungerPrimary => Policy::DiscardYoungerPrimary,
            AfterSb0p::DiscardOlderPrimary => Policy::DiscardOlderPrimary,
            AfterSb0p::DiscardZeroChanges => Policy::DiscardZeroChanges,
            AfterSb0p::DiscardLeastChanges => Policy::DiscardLeastChanges,
            AfterSb0p::DiscardLocal => Policy::DiscardLocal,
            AfterSb0p::DiscardRemote => Policy::DiscardRemote,
        },
        after_sb_1pri: match net.after_sb_1pri {
            AfterSb1p::Disconnect => Policy::Disconnect,
            AfterSb1p::Consensus => Policy::Consensus,
            AfterSb1p::DiscardSecondary => Policy::DiscardSecondary,
            AfterSb1p::CallPriLostAfterSb => Policy::CallPriLost,
            AfterSb1p::ViolentlyAs0p => Policy::Violently,
        },
        after_sb_2pri: match net.after_sb_2pri {
            AfterSb2p::Disconnect => Policy::Disconnect,
            AfterSb2p::CallPriLostAfterSb => Policy::CallPriLost,
            AfterSb2p::ViolentlyAs0p => Policy::Violently,
        },
        always_asbp: net.always_asbp,
        rr_conflict: match net.rr_conflict {
            RrConflict::Disconnect => Policy::Disconnect,
            RrConflict::CallPriLost => Policy::CallPriLost,
            RrConflict::Violently => Policy::Violently,
        },
        use_rle: net.use_rle,
        integrity_alg,
        csums_alg,
        csums_after_crash_only: net.csums_after_crash_only,
        verify_alg: net.verify_alg.clone().unwrap_or_default(),
    })
}

/// The engine's options of a resource.
///
/// # Errors
/// 162 for what is not served.
pub(crate) fn resource(
    options: &ResourceOptions,
    handlers: &HandlersShown,
) -> Result<engine::ResourceOptions, Refusal> {
    served(options.changed())?;
    let configured = handlers.commands.keys();
    let configured = configured.filter_map(|name| Handler::from_name(name));
    // A Primary that has lost gives its role up, with a handler or without one.
    let for_losers = Handler::ALL.into_iter().filter(|h| h.is_for_losers());
    Ok(engine::ResourceOptions {
        on_no_data: match options.on_no_data_accessible {
            OnNoDataAccessible::IoError => engine::OnNoData::IoError,
            OnNoDataAccessible::SuspendIo => engine::OnNoData::SuspendIo,
        },
        handlers: configured.chain(for_losers).collect(),
    })
}

/// The engine's disk options.
///
/// # Errors
/// 162 for what is not served.
pub(crate) fn disk(disk: &DiskOptions) -> Result<engine::DiskOptions, Refusal> {
    served(disk.changed())?;
    Ok(engine::DiskOptions {
        on_no_space: engine::OnNoSpace::default(),
        on_io_error: match disk.on_io_error {
            OnIoError::PassOn => engine::OnIoError::PassOn,
            OnIoError::CallLocalIoError => engine::OnIoError::CallLocalIoError,
            OnIoError::Detach => engine::OnIoError::Detach,
        },
        fencing: match disk.fencing {
            Fencing::DontCare => rdb_engine::state::Fencing::DontCare,
            Fencing::ResourceOnly => rdb_engine::state::Fencing::ResourceOnly,
            Fencing::ResourceAndStonith => rdb_engine::state::Fencing::ResourceAndStonith,
        },
        size_sectors: disk.size_sectors.unwrap_or(0),
        resync_rate_kib: disk.resync_rate_kib,
        c_plan_ahead_ds: disk.c_plan_ahead_ds,
        c_delay_target_ds: disk.c_delay_target_ds,
        c_fill_target_sectors: disk.c_fill_target_sectors,
        c_max_rate_kib: disk.c_max_rate_kib,
        c_min_rate_kib: disk.c_min_rate_kib,
        al_extents: disk.al_extents,
        disk_flushes: disk.disk_flushes,
        disk_drain: disk.disk_drain,
        md_flushes: disk.md_flushes,
        disk_timeout_ds: disk.disk_timeout_ds,
    })
}

/// Where metadata lies.
pub(crate) fn meta(meta: &MetaDisk) -> MetaLocation {
    match meta {
        MetaDisk::Internal => MetaLocation::Internal,
        MetaDisk::Flexible(path) => MetaLocation::Flexible(path.clone()),
        MetaDisk::Indexed(path, index) => MetaLocation::Indexed(path.clone(), *index),
    }
}

/// The engine's refusal with DRBD's text.
pub(crate) fn refusal(error: AdminError) -> Refusal {
    match error {
        AdminError::State(error) => Refusal::state(error.code()),
        // Nobody listens any more.
        AdminError::Withdrawn => Refusal::failure(code::INVALID_REQUEST, "taken back"),
        AdminError::Refused { code, info } => Refusal::failure(i32::from(code), info),
        AdminError::Unnumbered { info } => Refusal::unnumbered(info),
    }
}

/// A snapshot that is asked for. What is not of the right kind is refused here; the engine looks at everything else.
pub(crate) fn snapshot(
    name: &str,
    command: Option<String>,
    limit_s: u32,
    with_peer: bool,
) -> Result<SnapshotWish, Refusal> {
    let invalid = |info: String| Refusal::failure(code::INVALID_REQUEST, info);
    let name = SnapshotName::new(name).map_err(|error| invalid(format!("'{name}': {error}")))?;
    if command
        .as_ref()
        .is_some_and(|command| command.contains('\0'))
    {
        return Err(invalid("a command with a NUL can not be run".to_owned()));
    }
    let limit_ms = limit_s
        .checked_mul(1000)
        .filter(|ms| (1..=SNAPSHOT_LIMIT_MAX_MS).contains(ms));
    let limit_ms = limit_ms.ok_or_else(|| {
        let most = SNAPSHOT_LIMIT_MAX_MS / 1000;
        invalid(format!(
            "a snapshot may take 1 to {most} seconds, not {limit_s}"
        ))
    })?;
    Ok(SnapshotWish {
        name,
        command,
        limit_ms,
        with_peer,
    })
}

/// A resource's status. Addresses, device nodes and what is on record are the caller's.
pub(crate) fn report(name: &str, status: &ResourceStatus) -> ResourceReport {
    ResourceReport {
        name: name.to_owned(),
        connection: status.connection.state,
        protocol: status.connection.protocol.map(|protocol| protocol.letter()),
        local: None,
        peer: None,
        epochs: status.connection.epochs,
        owed_ms: status.connection.owed_ms,
        volumes: status
            .volumes
            .iter()
            .map(|volume| {
                let volumes = status.volumes.len();
                let name = reasons::volume_name(name, volume.volume.0, volumes);
                volume_report(&name, volume)
            })
            .collect(),
        link_reason: reasons::link(name, status),
        record_reason: None,
        daemon_reason: None,
        handlers: Vec::new(),
        io_reason: reasons::io(name, status),
        failed: None,
    }
}

/// `name`: how commands name the volume.
fn volume_report(name: &str, volume: &VolumeStatus) -> VolumeReport {
    let state = &volume.state;
    VolumeReport {
        volume: volume.volume.0,
        minor: volume.minor,
        role: state.role,
        peer_role: state.peer,
        cstate: Some(state.conn),
        disk: state.disk,
        peer_disk: state.pdsk,
        suspended: those_set([
            (state.susp, Suspension::User),
            (state.susp_nod, Suspension::NoData),
            (state.susp_fen, Suspension::Fencing),
        ]),
        resync_suspended: those_set([
            (state.user_isp, Pause::User),
            (state.peer_isp, Pause::Peer),
            (state.aftr_isp, Pause::Dependency),
        ]),
        flags: proc_drbd::flags(volume),
        device: None,
        backing: None,
        size_kib: volume.size_sectors / 2,
        sent_kib: volume.peer.sent_sectors / 2,
        received_kib: volume.peer.received_sectors / 2,
        written_kib: volume.written_sectors / 2,
        read_kib: volume.read_sectors / 2,
        al_writes: volume.al_writes,
        bm_writes: volume.bm_writes,
        local_pending: volume.local_pending,
        peer_pending: volume.peer.pending,
        unacked: volume.peer.unacked,
        application_pending: volume.application_pending,
        ap_in_flight_kib: volume.peer.writes_in_flight_sectors / 2,
        rs_in_flight_kib: volume.peer.resync_in_flight_sectors / 2,
        write_ordering: volume.write_ordering,
        al_suspended: volume.al_suspended,
        out_of_sync_kib: kib(volume.out_of_sync_blocks),
        no_space: volume.no_space.map(|wait| NoSpaceReport {
            writes: wait.writes,
            for_ms: wait.for_ms,
        }),
        disk_reason: reasons::disk(name, volume.disk_trouble.as_ref()),
        device_reason: None,
        resync_reason: reasons::resync(name, state, volume.peer.sync.as_ref()),
        sync: volume.peer.sync.map(|sync| sync_report(&sync)),
        latency: latency_report(&volume.latencies),
    }
}

fn latency_report(latencies: &Latencies) -> LatencyReport {
    let histogram = |histogram: &Histogram| {
        let mut counts = histogram.counts().to_vec();
        let used = counts.iter().rposition(|count| *count > 0);
        counts.truncate(used.map_or(0, |last| last + 1));
        HistogramReport {
            counts,
            sum_ns: histogram.sum_ns(),
        }
    };
    LatencyReport {
        read: histogram(&latencies.read),
        write: histogram(&latencies.write),
        flush: histogram(&latencies.flush),
        waiting: histogram(&latencies.waiting),
        own_disk: histogram(&latencies.own_disk),
        peer: histogram(&latencies.peer),
    }
}

fn those_set<T>(reasons: [(bool, T); 3]) -> Vec<T> {
    let set = reasons.into_iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, reason)| reason).collect()
}

fn sync_report(sync: &SyncProgress) -> SyncReport {
    let figures = Figures::of(sync);
    SyncReport {
        total_kib: kib(sync.total_blocks),
        left_kib: kib(sync.left_blocks),
        failed_kib: kib(sync.failed_blocks),
        window_ms: sync.window_ms,
        window_kib: kib(sync.window_blocks),
        recent_ms: sync.recent_ms,
        recent_kib: kib(sync.recent_blocks),
        elapsed_ms: sync.elapsed_ms,
        paused_ms: sync.paused_ms,
        equal_kib: kib(sync.equal_blocks),
        want_kib: sync.want_kib,
        done_permille: figures.done_permille,
        rate_kib: figures.rate_kib,
        average_kib: figures.average_kib,
        left_s: figures.left_s,
        verify: sync.verify.map(|verify| VerifyReport {
            start: verify.start_sector,
            stop: verify.stop_sector,
            position: verify.position_sector,
            skipped: verify.skipped_blocks * 8,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_engines_defaults() {
        assert_eq!(
            net(&NetOptions::default()),
            Ok(engine::NetOptions::default())
        );
        assert_eq!(
            disk(&DiskOptions::default()),
            Ok(engine::DiskOptions::default())
        );
        let none = HandlersShown::default();
        assert_eq!(
            resource(&ResourceOptions::default(), &none).map(|options| options.on_no_data),
            Ok(engine::OnNoData::default())
        );
    }

    #[test]
    fn histograms_are_told_of_with_the_engines_bounds() {
        assert_eq!(rdb_control::LATENCY_BOUNDS_US, rdb_engine::BOUNDS_US);
        let empty = latency_report(&Latencies::default());
        assert_eq!(empty, LatencyReport::default());
    }

    #[test]
    fn the_engine_is_told_what_it_may_call() {
        let configured = rdb_config::Handlers {
            fence_peer: Some("/bin/true".to_owned()),
            out_of_sync: Some("/bin/true".to_owned()),
            ..rdb_config::Handlers::default()
        };
        let mut handlers = HandlersShown::new(&configured, None, Vec::new());
        // From a later version's record: the engine has none of that name.
        let later = ("bored".to_owned(), "/bin/true".to_owned());
        handlers.commands.extend([later]);
        let options = ResourceOptions {
            on_no_data_accessible: OnNoDataAccessible::SuspendIo,
            ..ResourceOptions::default()
        };
        let expected = engine::ResourceOptions {
            on_no_data: engine::OnNoData::SuspendIo,
            handlers: [
                Handler::FencePeer,
                Handler::OutOfSync,
                Handler::PriLost,
                Handler::PriLostAfterSb,
            ]
            .into_iter()
            .collect(),
        };
        assert_eq!(resource(&options, &handlers), Ok(expected));
        for word in Fencing::WORDS {
            let fencing = Fencing::from_word(word).expect("one of the words");
            let options = DiskOptions {
                fencing,
                ..DiskOptions::default()
            };
            let engine = disk(&options).expect("it is served").fencing;
            assert_eq!(engine as u8, fencing as u8);
        }
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        let not_served = |what: &str| {
            let info = format!("{what} is not served by rdb yet");
            Refusal::failure(code::INVALID_REQUEST, info)
        };
        let congestion = NetOptions {
            on_congestion: rdb_config::OnCongestion::PullAhead,
            ..NetOptions::default()
        };
        assert_eq!(net(&congestion), Err(not_served("on-congestion")));
        let no_updates = DiskOptions {
            al_updates: false,
            ..DiskOptions::default()
        };
        assert_eq!(disk(&no_updates), Err(not_served("al-updates")));
    }

    #[test]
    fn algorithms_must_be_known_and_come_with_a_secret() {
        let options = |algorithm: &str, secret: Option<&str>| NetOptions {
            cram_hmac_alg: Some(algorithm.to_owned()),
            shared_secret: secret.map(str::to_owned),
            ..NetOptions::default()
        };
        assert!(
            net(&options("sha1", Some("x")))
                .unwrap()
                .authentication
                .is_some()
        );
        assert_eq!(net(&options("rot13", Some("x"))).unwrap_err().code, 120);
        assert_eq!(net(&options("sha1", None)).unwrap_err().code, 162);
        let integrity = |algorithm: &str| NetOptions {
            data_integrity_alg: Some(algorithm.to_owned()),
            ..NetOptions::default()
        };
        assert_eq!(
            net(&integrity("sha1")).unwrap().integrity_alg,
            Some(DigestAlgorithm::Sha1)
        );
        assert_eq!(net(&integrity("rot13")).unwrap_err().code, 141);
        let csums = |algorithm: &str| NetOptions {
            csums_alg: Some(algorithm.to_owned()),
            ..NetOptions::default()
        };
        assert_eq!(
            net(&csums("md5")).unwrap().csums_alg,
            Some(DigestAlgorithm::Md5)
        );
        assert_eq!(net(&csums("rot13")).unwrap_err().code, 144);
        let verify = NetOptions {
            verify_alg: Some("rot13".to_owned()),
            ..NetOptions::default()
        };
        assert_eq!(net(&verify).unwrap_err().code, 146);
        let all =
            "is not served: there are crc32c, crc32, md5, sha1, sha224, sha256, sha384, sha512";
        for (options, option) in [
            (integrity("rot13"), "data-integrity-alg"),
            (csums("rot13"), "csums-alg"),
            (verify, "verify-alg"),
        ] {
            let refusal = net(&options).unwrap_err();
            assert_eq!(refusal.info, format!("{option} rot13 {all}"));
        }
        let keyed = "cram-hmac-alg crc32c is not served: there are md5, sha1, sha224, sha256, sha384, sha512";
        assert_eq!(net(&options("crc32c", Some("x"))).unwrap_err().info, keyed);
    }
}
