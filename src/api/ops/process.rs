//! Figures of this process, from `/proc/self` (proc(5)).

use std::fs::read_to_string;

/// Figures of this process, by the names of Prometheus' client libraries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// User and system CPU time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Maximum number of open file descriptors; `None` without a limit.
    pub max_fds: Option<u64>,
    /// Start of the process, in seconds since 1970.
    pub start_seconds: f64,
}

impl Process {
    /// Reads the figures; `None` if `/proc` is not readable.
    pub fn read() -> Option<Self> {
        let (stat, system) = (read_to_string("/proc/self/stat").ok()?, read_to_string("/proc/stat").ok()?);
        let times = Times::parse(&stat, &system)?;
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
        let seconds = |count: u64| count as f64 / ticks as f64;
        // The directory's own descriptor is among its entries.
        let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        Some(Self {
            cpu_seconds: seconds(times.cpu),
            resident_bytes: times.resident.saturating_mul(u64::try_from(page).ok()?),
            open_fds: u64::try_from(open_fds).ok()?,
            max_fds: max_fds(&read_to_string("/proc/self/limits").ok()?),
            start_seconds: times.boot as f64 + seconds(times.start),
        })
    }
}

/// Figures of `/proc/self/stat` and `/proc/stat`, in their units.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    /// CPU time, in clock ticks.
    cpu: u64,
    /// Start of the process after the system's, in clock ticks.
    start: u64,
    /// Resident memory, in pages.
    resident: u64,
    /// Start of the system, in seconds since 1970.
    boot: u64,
}

impl Times {
    fn parse(stat: &str, system: &str) -> Option<Self> {
        // The name in parentheses may hold spaces; field 3 follows it.
        let (_, fields) = stat.rsplit_once(')')?;
        let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(Self {
            cpu: field(14)?.checked_add(field(15)?)?,
            start: field(22)?,
            resident: field(24)?,
            boot: boot.trim().parse().ok()?,
        })
    }
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_parsed() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 900 0 0 0 30 12 0 0 20 0 4 0 5000 1000000 321 18446744073709551615";
        let system = "cpu  1 2 3\nbtime 1700000000\nprocesses 9\n";
        let expected = Times { cpu: 42, start: 5000, resident: 321, boot: 1_700_000_000 };
        assert_eq!(Times::parse(stat, system), Some(expected));
        assert_eq!(Times::parse("7 (a) S 1", system), None);
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(max_fds(&limits.replace("1024", "unlimited")), None);
    }

    #[test]
    fn this_process_is_read() {
        let process = Process::read().unwrap();
        assert!(process.resident_bytes > 1 << 20 && process.open_fds > 2, "{process:?}");
        assert!(process.start_seconds > 1.5e9 && process.cpu_seconds >= 0.0, "{process:?}");
    }
}
