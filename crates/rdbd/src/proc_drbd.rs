//! The status file: `/proc/drbd` of DRBD 8.4 to the byte, but for the lines about the version
//! (`docs/spec/admin.md`, section 5.1).

use std::fmt::Write;

use rdb_control::FAILED;
use rdb_engine::state::ConnState;
use rdb_engine::{ResourceStatus, SyncProgress, VolumeStatus};

use crate::figures::{Figures, kib};
use crate::registry::Entry;

/// The first line names the DRBD whose format and protocol this is; the second names us, where DRBD has its build: collectd takes a
/// line that does not begin like that one for a resource, and complains. Both end with a newline.
pub(crate) const HEADER: &str = concat!(
    "version: 8.4.11 (api:1/proto:86-101)\n",
    "srcversion: rdb ",
    env!("CARGO_PKG_VERSION"),
    " in userspace\n"
);

/// Renders all volumes of all resources; `failed`: those of resources that do not answer.
pub(crate) fn render(resources: &[ResourceStatus], failed: &[FailedLine]) -> String {
    let volumes = resources
        .iter()
        .flat_map(|r| r.volumes.iter().map(move |v| (r, v)));
    let mut devices: Vec<(u32, String)> = volumes
        .map(|(resource, volume)| {
            let mut text = String::new();
            device(&mut text, resource, volume);
            (volume.minor, text)
        })
        .chain(failed.iter().map(|line| (line.minor, line.text())))
        .collect();
    devices.sort_by_key(|(minor, _)| *minor);
    let mut text = HEADER.to_owned();
    let mut next = 0;
    for (minor, lines) in devices {
        if minor != next {
            text.push('\n');
        }
        next = minor.saturating_add(1);
        text.push_str(&lines);
    }
    text
}

fn device(text: &mut String, resource: &ResourceStatus, volume: &VolumeStatus) {
    let state = &volume.state;
    // Writing to a string cannot fail.
    let _ = if state.is_unconfigured() {
        writeln!(text, "{:2}: cs:Unconfigured", volume.minor)
    } else {
        let protocol = match state.conn {
            ConnState::StandAlone => ' ',
            _ => resource.connection.protocol.map_or(' ', |p| p.letter()),
        };
        writeln!(
            text,
            "{:2}: cs:{} ro:{}/{} ds:{}/{} {protocol} {}\n    ns:{} nr:{} dw:{} dr:{} al:{} bm:{} lo:{} pe:{} \
             ua:{} ap:{} ep:{} wo:{} oos:{}",
            volume.minor,
            state.conn,
            state.role,
            state.peer,
            state.disk,
            state.pdsk,
            flags(volume),
            volume.peer.sent_sectors / 2,
            volume.peer.received_sectors / 2,
            volume.written_sectors / 2,
            volume.read_sectors / 2,
            volume.al_writes,
            volume.bm_writes,
            volume.local_pending,
            volume.peer.pending,
            volume.peer.unacked,
            volume.application_pending,
            resource.connection.epochs,
            volume.write_ordering,
            kib(volume.out_of_sync_blocks),
        )
    };
    if let Some(wait) = volume.no_space {
        let (writes, seconds) = (wait.writes, wait.for_ms / 1000);
        let _ = writeln!(
            text,
            "\tdisk full: {writes} writes wait for space, for {seconds} s"
        );
    }
    use ConnState::{SyncSource, SyncTarget, VerifyS, VerifyT};
    if let (SyncSource | SyncTarget | VerifyS | VerifyT, Some(sync)) =
        (state.conn, &volume.peer.sync)
    {
        progress(text, state.conn, sync);
    }
}

/// The six flag characters.
pub(crate) fn flags(volume: &VolumeStatus) -> String {
    let state = &volume.state;
    let letter = |set: bool, letter: char| if set { letter } else { '-' };
    [
        if state.is_suspended() { 's' } else { 'r' },
        letter(state.aftr_isp, 'a'),
        letter(state.peer_isp, 'p'),
        letter(state.user_isp, 'u'),
        volume.blocked,
        letter(volume.al_suspended, 's'),
    ]
    .into_iter()
    .collect()
}

/// The two lines of a running resync or verify.
fn progress(text: &mut String, conn: ConnState, sync: &SyncProgress) {
    let is_verify = matches!(conn, ConnState::VerifyS | ConnState::VerifyT);
    let figures = Figures::of(sync);
    let (left, permille) = (figures.left_blocks, figures.done_permille);
    let done = permille / 50;
    let bar = "=".repeat(done.saturating_sub(1) as usize);
    let dots = ".".repeat((20 - done) as usize);
    let word = if is_verify { "verified" } else { "sync'ed" };
    let _ = write!(
        text,
        "\t[{bar}>{dots}] {word}:{:3}.{}% ",
        permille / 10,
        permille % 10
    );
    let _ = if sync.total_blocks > 4 << (30 - 12) {
        writeln!(text, "({}/{})M", left >> 8, sync.total_blocks >> 8)
    } else {
        writeln!(text, "({}/{})K", kib(left), kib(sync.total_blocks))
    };

    let remaining_s = figures.left_s;
    let _ = write!(
        text,
        "\tfinish: {}:{:02}:{:02} speed: {} ({})",
        remaining_s / 3600,
        remaining_s % 3600 / 60,
        remaining_s % 60,
        commas(figures.rate_kib),
        commas(figures.average_kib),
    );
    if let (ConnState::SyncTarget | ConnState::VerifyS, Some(want)) = (conn, sync.want_kib) {
        let _ = write!(text, " want: {}", commas(u64::from(want)));
    }
    text.push_str(" K/sec");
    if figures.window_s > STALLED_S {
        text.push_str(" (stalled)");
    }
    text.push('\n');
}

/// Without progress for longer, a resync is called stalled.
const STALLED_S: u64 = 180;

/// Thousands separated by commas.
fn commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A volume of a resource that does not answer, for the status file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FailedLine {
    pub(crate) minor: u32,
    reason: String,
}

impl FailedLine {
    /// Those of a resource.
    pub(crate) fn of(entry: &Entry) -> Vec<FailedLine> {
        let reason = entry.failure.as_deref();
        let reason = reason.unwrap_or("its thread does not answer");
        let lines = entry.volumes.values().map(|volume| FailedLine {
            minor: volume.minor,
            // One line, whatever the words are.
            reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
        });
        lines.collect()
    }

    /// As the status file has it.
    pub(crate) fn text(&self) -> String {
        format!(
            "{:2}: cs:{FAILED} ro:Unknown/Unknown ds:DUnknown/DUnknown   ------\n    failed: {}\n",
            self.minor, self.reason
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rdb_engine::config::Protocol;
    use rdb_engine::state::{DiskState, Role, VolumeState};
    use rdb_engine::{ConnId, ConnectionStatus, LinkTrouble, PeerDeviceStatus, VolumeNr};

    use super::*;

    pub(crate) fn volume(minor: u32, state: VolumeState) -> VolumeStatus {
        VolumeStatus {
            volume: VolumeNr(0),
            minor,
            state,
            size_sectors: 0,
            peer: PeerDeviceStatus {
                connection: ConnId::FIRST,
                sent_sectors: 0,
                received_sectors: 0,
                pending: 0,
                unacked: 0,
                writes_in_flight_sectors: 0,
                resync_in_flight_sectors: 0,
                sync: None,
            },
            written_sectors: 0,
            read_sectors: 0,
            al_writes: 0,
            bm_writes: 0,
            local_pending: 0,
            application_pending: 0,
            write_ordering: 'f',
            out_of_sync_blocks: 0,
            blocked: '-',
            al_suspended: false,
            generation: None,
            no_space: None,
            frozen: None,
            disk_trouble: None,
            degraded: false,
            latencies: rdb_engine::Latencies::default(),
        }
    }

    fn resource(volumes: Vec<VolumeStatus>) -> ResourceStatus {
        let conn = volumes
            .first()
            .map_or(ConnState::StandAlone, |v| v.state.conn);
        let mut status = connection(conn.min(ConnState::WFReportParams), None);
        status.connection.protocol = (conn != ConnState::StandAlone).then_some(Protocol::C);
        ResourceStatus { volumes, ..status }
    }

    /// A resource without volumes.
    pub(crate) fn connection(state: ConnState, trouble: Option<LinkTrouble>) -> ResourceStatus {
        ResourceStatus {
            connection: ConnectionStatus {
                id: ConnId::FIRST,
                state,
                protocol: None,
                epochs: 1,
                owed_ms: 0,
                trouble,
            },
            snapshot: None,
            volumes: Vec::new(),
        }
    }

    fn state(conn: ConnState, roles: (Role, Role), disks: (DiskState, DiskState)) -> VolumeState {
        VolumeState {
            role: roles.0,
            peer: roles.1,
            conn,
            disk: disks.0,
            pdsk: disks.1,
            ..VolumeState::INITIAL
        }
    }

    fn body(resources: &[ResourceStatus]) -> String {
        render(resources, &[])
            .strip_prefix(HEADER)
            .expect("the header is first")
            .to_owned()
    }

    use ConnState as C;
    use DiskState as D;
    use Role as R;

    #[test]
    fn without_volumes_there_is_only_the_header() {
        assert_eq!(
            render(&[], &[]),
            format!(
                "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: rdb {} in userspace\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    /// The sample of section 5.1: blank lines where minors are missing, unconfigured, StandAlone, a sync.
    #[test]
    fn the_sample_of_the_specification_comes_out_to_the_byte() {
        let mut connected = VolumeStatus {
            written_sectors: 32,
            read_sectors: 4002,
            al_writes: 1,
            write_ordering: 'b',
            ..volume(
                0,
                state(
                    C::Connected,
                    (R::Primary, R::Secondary),
                    (D::UpToDate, D::UpToDate),
                ),
            )
        };
        (connected.peer.sent_sectors, connected.peer.received_sectors) = (16, 16);
        let mut target = VolumeStatus {
            written_sectors: 208_640,
            bm_writes: 6,
            local_pending: 1,
            out_of_sync_blocks: 148_564 / 4,
            ..volume(
                2,
                state(
                    C::SyncTarget,
                    (R::Secondary, R::Primary),
                    (D::Inconsistent, D::UpToDate),
                ),
            )
        };
        (target.peer.received_sectors, target.peer.pending) = (208_640, 2321);
        target.peer.sync = Some(SyncProgress {
            total_blocks: 252_884 / 4,
            left_blocks: 148_564 / 4,
            failed_blocks: 0,
            window_ms: 18_000,
            window_blocks: 16 * 18 + 17,
            recent_ms: 3_000,
            recent_blocks: 0,
            elapsed_ms: 4_346_000,
            paused_ms: 0,
            equal_blocks: 0,
            want_kib: Some(71_680),
            limit: None,
            verify: None,
        });
        let unconfigured = volume(3, VolumeState::INITIAL);
        let alone = VolumeStatus {
            written_sectors: 2 * 98_114,
            read_sectors: 2 * 537_665,
            al_writes: 266,
            out_of_sync_blocks: 33_818_816 / 4,
            ..volume(
                4,
                state(
                    C::StandAlone,
                    (R::Primary, R::Unknown),
                    (D::UpToDate, D::DUnknown),
                ),
            )
        };
        // Not in the order of their minors: that is sorted.
        let text = body(&[
            resource(vec![alone]),
            resource(vec![connected]),
            resource(vec![unconfigured]),
            resource(vec![target]),
        ]);
        assert_eq!(
            text,
            " 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n    \
             ns:8 nr:8 dw:16 dr:2001 al:1 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:b oos:0\n\
             \n 2: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----\n    \
             ns:0 nr:104320 dw:104320 dr:0 al:0 bm:6 lo:1 pe:2321 ua:0 ap:0 ep:1 wo:f oos:148564\n\
             \t[=======>............] sync'ed: 42.0% (148564/252884)K\n\
             \tfinish: 0:27:51 speed: 64 (24) want: 71,680 K/sec\n \
             3: cs:Unconfigured\n \
             4: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----\n    \
             ns:0 nr:0 dw:98114 dr:537665 al:266 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:33818816\n"
        );
    }

    /// From the kernel's driver, both ends of one sync (captures/transcripts/02-initial-sync).
    #[test]
    fn a_sync_reads_as_the_kernel_prints_it() {
        let sync = |left_kib: u64, window_s: u64, want_kib| SyncProgress {
            total_blocks: 262_127,
            left_blocks: left_kib / 4,
            failed_blocks: 0,
            window_ms: window_s * 1000 + 400,
            window_blocks: (1_048_508 - left_kib) / 4,
            recent_ms: 3_000,
            recent_blocks: 0,
            elapsed_ms: window_s * 1000 + 400,
            paused_ms: 0,
            equal_blocks: 0,
            want_kib,
            limit: None,
            verify: None,
        };
        for (conn, sync, lines) in [
            (
                C::SyncSource,
                sync(958_396, 2, None),
                "\t[>...................] sync'ed:  9.0% (958396/1048508)K\n\
                 \tfinish: 0:00:21 speed: 45,056 (45,056) K/sec\n",
            ),
            (
                C::SyncTarget,
                sync(946_108, 2, Some(40_960)),
                "\t[=>..................] sync'ed: 10.2% (946108/1048508)K\n\
                 \tfinish: 0:00:18 speed: 51,200 (51,200) want: 40,960 K/sec\n",
            ),
            (
                C::SyncSource,
                sync(628_668, 12, None),
                "\t[=======>............] sync'ed: 40.3% (628668/1048508)K\n\
                 \tfinish: 0:00:17 speed: 34,984 (34,984) K/sec\n",
            ),
            (
                C::SyncTarget,
                sync(604_092, 13, Some(40_960)),
                "\t[=======>............] sync'ed: 42.6% (604092/1048508)K\n\
                 \tfinish: 0:00:17 speed: 34,184 (34,184) want: 40,960 K/sec\n",
            ),
        ] {
            let mut text = String::new();
            progress(&mut text, conn, &sync);
            assert_eq!(text, lines);
        }
    }

    #[test]
    fn the_bar_has_its_corners() {
        let sync = |total_blocks, left_blocks| SyncProgress {
            total_blocks,
            left_blocks,
            failed_blocks: 0,
            window_ms: 1000,
            window_blocks: 0,
            recent_ms: 3_000,
            recent_blocks: 0,
            elapsed_ms: 0,
            paused_ms: 0,
            equal_blocks: 0,
            want_kib: None,
            limit: None,
            verify: None,
        };
        for (conn, sync, line) in [
            // x = 0: one character more than otherwise.
            (
                C::SyncSource,
                sync(1 << 20, 1 << 20),
                "\t[>....................] sync'ed:  0.1% (4194304/4194304)K\n",
            ),
            // Fewer than 1024 blocks left show 100.0 %.
            (
                C::SyncSource,
                sync(1 << 20, 1023),
                "\t[===================>] sync'ed:100.0% (4092/4194304)K\n",
            ),
            // Above 4 GiB the pair is in MiB.
            (
                C::SyncTarget,
                sync(2 << 20, 1 << 20),
                "\t[=========>..........] sync'ed: 50.1% (4096/8192)M\n",
            ),
            // Above 2^32 blocks the unit is 256 MiB.
            (
                C::SyncSource,
                sync(1 << 33, 1 << 32),
                "\t[=========>..........] sync'ed: 50.1% (16777216/33554432)M\n",
            ),
            // More left than there was: writes went out of sync meanwhile.
            (
                C::SyncSource,
                sync(1024, 2048),
                "\t[>....................] sync'ed:  0.0% (4096/4096)K\n",
            ),
            (
                C::VerifyS,
                sync(1 << 20, 1 << 19),
                "\t[=========>..........] verified: 50.1% (2097152/4194304)K\n",
            ),
        ] {
            let mut text = String::new();
            progress(&mut text, conn, &sync);
            assert_eq!(text.split_inclusive('\n').next(), Some(line));
        }
    }

    #[test]
    fn a_resync_without_progress_is_stalled_after_three_minutes() {
        let mut sync = SyncProgress {
            total_blocks: 262_144,
            left_blocks: 131_072,
            failed_blocks: 0,
            window_ms: 180_999,
            window_blocks: 0,
            recent_ms: 3_000,
            recent_blocks: 0,
            elapsed_ms: 200_000,
            paused_ms: 0,
            equal_blocks: 0,
            want_kib: None,
            limit: None,
            verify: None,
        };
        let mut text = String::new();
        progress(&mut text, C::SyncSource, &sync);
        assert!(text.ends_with("speed: 0 (2,620) K/sec\n"), "{text}");
        sync.window_ms = 181_000;
        text.clear();
        progress(&mut text, C::SyncSource, &sync);
        assert!(
            text.ends_with("\tfinish: 65:54:00 speed: 0 (2,620) K/sec (stalled)\n"),
            "{text}"
        );
    }

    #[test]
    fn progress_is_shown_only_while_blocks_move() {
        let sync = Some(SyncProgress {
            total_blocks: 10,
            left_blocks: 5,
            failed_blocks: 0,
            window_ms: 0,
            window_blocks: 5,
            recent_ms: 3_000,
            recent_blocks: 0,
            elapsed_ms: 0,
            paused_ms: 0,
            equal_blocks: 0,
            want_kib: Some(7),
            limit: None,
            verify: None,
        });
        for conn in C::ALL {
            let disks = (D::UpToDate, D::Inconsistent);
            let mut volume = volume(0, state(*conn, (R::Primary, R::Secondary), disks));
            volume.peer.sync = sync;
            let text = body(&[resource(vec![volume])]);
            let shown = matches!(
                conn,
                C::SyncSource | C::SyncTarget | C::VerifyS | C::VerifyT
            );
            assert_eq!(text.contains("\tfinish:"), shown, "{text}");
            assert_eq!(
                text.contains(" want: 7 "),
                matches!(conn, C::SyncTarget | C::VerifyS),
                "{text}"
            );
            assert_eq!(text.lines().count(), if shown { 4 } else { 2 }, "{text}");
        }
    }

    #[test]
    fn every_flag_has_its_place() {
        let plain = volume(0, VolumeState::INITIAL);
        assert_eq!(flags(&plain), "r-----");
        let all = VolumeStatus {
            state: VolumeState {
                aftr_isp: true,
                peer_isp: true,
                user_isp: true,
                susp_nod: true,
                ..VolumeState::INITIAL
            },
            blocked: 'd',
            al_suspended: true,
            ..plain
        };
        assert_eq!(flags(&all), "sapuds");
    }

    #[test]
    fn a_first_minor_above_nought_has_a_blank_line_before_it_and_wide_minors_stay_aligned() {
        let text = body(&[resource(vec![
            volume(1, VolumeState::INITIAL),
            volume(2, VolumeState::INITIAL),
            volume(100, VolumeState::INITIAL),
        ])]);
        assert_eq!(
            text,
            "\n 1: cs:Unconfigured\n 2: cs:Unconfigured\n\n100: cs:Unconfigured\n"
        );
    }

    #[test]
    fn the_protocol_letter_is_blank_without_a_net_configuration() {
        let alone = state(
            C::StandAlone,
            (R::Secondary, R::Unknown),
            (D::UpToDate, D::DUnknown),
        );
        let text = body(&[resource(vec![volume(0, alone)])]);
        assert!(
            text.starts_with(
                " 0: cs:StandAlone ro:Secondary/Unknown ds:UpToDate/DUnknown   r-----\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn thousands_are_separated() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(commas(number), text);
        }
    }

    #[test]
    fn the_status_file_has_one_line_of_reason() {
        let line = FailedLine {
            minor: 7,
            reason: "broken invariant: x".to_owned(),
        };
        assert_eq!(
            line.text(),
            " 7: cs:Failed ro:Unknown/Unknown ds:DUnknown/DUnknown   ------\n    failed: broken invariant: x\n"
        );
    }
}
