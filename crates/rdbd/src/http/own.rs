//! What the kernel counts of this process.

use std::fs;

use rdb_watch::Process;

/// Ticks in a second of what `/proc` counts: a constant of Linux on all machines that we run on.
const USER_HZ: f64 = 100.0;

/// The figures; nothing where /proc does not tell.
pub(super) fn figures() -> Option<Process> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let btime = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    of(&stat, &status, btime.trim().parse().ok()?, open as u64)
}

/// The figures in a line of `/proc/PID/stat` and the lines of `/proc/PID/status`.
fn of(stat: &str, status: &str, boot_s: f64, open_fds: u64) -> Option<Process> {
    // The name of the program may hold anything; what follows its last parenthesis begins with the third field.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    Some(Process {
        cpu_s: (field(14)? + field(15)?) as f64 / USER_HZ,
        threads: field(20)?,
        start_s: boot_s + field(22)? as f64 / USER_HZ,
        resident_bytes: resident.trim().parse::<u64>().ok()?.saturating_mul(1024),
        open_fds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_program_is_called() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 1000 4096 30";
        let status = "Name:\ta\nVmRSS:\t    120 kB\nThreads:\t9\n";
        let expected = Process {
            cpu_s: 3.0,
            threads: 9,
            start_s: 1_000_010.0,
            resident_bytes: 120 * 1024,
            open_fds: 5,
        };
        assert_eq!(of(line, status, 1_000_000.0, 5), Some(expected));
        assert_eq!(of("7 (a) S 1", status, 0.0, 5), None);
        assert_eq!(of(line, "", 0.0, 5), None);
        assert!(figures().is_some());
    }
}
