//! What the machine uses, every few seconds: processor, memory, network, disk.
//!
//! In a sandbox the figures are its own cgroup's (either version), elsewhere the system's. What cannot be read is 0, and of a system without
//! `/proc` nothing is told.

use std::path::Path;
use std::time::{Duration, Instant};

use rexec_shared::sandbox::SANDBOX_ENV;
use rexec_shared::tunnel::Sample;

/// Between two samples.
pub(super) const SAMPLE_EVERY: Duration = rexec_shared::limits::SAMPLE_EVERY;
/// Largest file of these that is read, bytes: `/proc/net/dev` of a machine with a thousand interfaces.
const FILE_MAX: usize = 256 * 1024;
/// Clock ticks a second in `/proc/stat`: fixed for user space on every architecture.
const TICKS: u64 = 100;

/// Counters as they are read; rates come from two of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    /// Processor time, microseconds.
    cpu_us: u64,
    received: u64,
    sent: u64,
}

/// Takes samples.
#[derive(Debug)]
pub(super) struct Sampler {
    in_sandbox: bool,
    last: Option<(Instant, Counters)>,
}

impl Sampler {
    /// Of this machine.
    pub(super) fn new() -> Self {
        Self { in_sandbox: std::env::var_os(SANDBOX_ENV).is_some(), last: None }
    }

    /// What was used since the last one; nothing at first, and where nothing can be read.
    pub(super) fn sample(&mut self, now: Instant) -> Option<Sample> {
        let counters = counters(self.in_sandbox)?;
        let (then, before) = self.last.replace((now, counters))?;
        let elapsed_us =
            u64::try_from(now.saturating_duration_since(then).as_micros()).ok().filter(|us| *us > 0)?;
        let (memory_kib, memory_max_kib) = memory(self.in_sandbox);
        let (disk_mib, disk_max_mib) = if self.in_sandbox { (0, 0) } else { disk() };
        let per_second = |now: u64, before: u64, unit: u64| {
            small(now.saturating_sub(before) * 1_000_000 / elapsed_us / unit)
        };
        Some(Sample {
            cpu_milli: small(counters.cpu_us.saturating_sub(before.cpu_us) * 1_000 / elapsed_us),
            cpu_max_milli: processors(self.in_sandbox),
            memory_kib,
            memory_max_kib,
            received_kib_s: per_second(counters.received, before.received, 1024),
            sent_kib_s: per_second(counters.sent, before.sent, 1024),
            disk_mib,
            disk_max_mib,
        })
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(Path::new(path)).ok()?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_MAX as u64), &mut text).ok()?;
    Some(text)
}

fn number(path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

fn counters(in_sandbox: bool) -> Option<Counters> {
    let own = || cgroup_cpu_us().filter(|_| in_sandbox);
    let cpu_us = own().or_else(|| system_cpu_us(&read("/proc/stat")?))?;
    let (received, sent) = read("/proc/net/dev").map_or((0, 0), |text| network(&text));
    Some(Counters { cpu_us, received, sent })
}

fn cgroup_cpu_us() -> Option<u64> {
    let two = || field(&read("/sys/fs/cgroup/cpu.stat")?, "usage_usec");
    let one = || number("/sys/fs/cgroup/cpuacct/cpuacct.usage").map(|nanos| nanos / 1_000);
    two().or_else(one)
}

/// Busy time of all processors: everything but idle and waiting for the disk.
fn system_cpu_us(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    // user nice system (idle iowait) irq softirq steal; a guest's time is in the user's.
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum::<u64>();
    Some(busy * 1_000_000 / TICKS)
}

/// Bytes received and sent by every interface but the loopback.
fn network(dev: &str) -> (u64, u64) {
    let counted = dev.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    counted.fold((0_u64, 0_u64), |(received, sent), (_, figures)| {
        let mut figures = figures.split_ascii_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (one, other) = (figures.next().unwrap_or(0), figures.nth(7).unwrap_or(0));
        (received.saturating_add(one), sent.saturating_add(other))
    })
}

/// Used and whole memory, KiB. Caches that can be given back at once are not used.
fn memory(in_sandbox: bool) -> (u32, u32) {
    let text = read("/proc/meminfo").unwrap_or_default();
    let kib = |name| meminfo(&text, name).unwrap_or(0);
    let whole = kib("MemTotal");
    let system = (whole.saturating_sub(kib("MemAvailable")), whole);
    let (used, most) = cgroup_memory().filter(|_| in_sandbox).unwrap_or(system);
    (small(used), small(most.min(whole)))
}

fn cgroup_memory() -> Option<(u64, u64)> {
    let of = |usage: u64, inactive: Option<u64>, most: Option<u64>| {
        (usage.saturating_sub(inactive.unwrap_or(0)) / 1024, most.unwrap_or(u64::MAX) / 1024)
    };
    if let Some(usage) = number("/sys/fs/cgroup/memory.current") {
        let inactive = read("/sys/fs/cgroup/memory.stat").and_then(|text| field(&text, "inactive_file"));
        return Some(of(usage, inactive, number("/sys/fs/cgroup/memory.max")));
    }
    let usage = number("/sys/fs/cgroup/memory/memory.usage_in_bytes")?;
    let inactive =
        read("/sys/fs/cgroup/memory/memory.stat").and_then(|text| field(&text, "total_inactive_file"));
    Some(of(usage, inactive, number("/sys/fs/cgroup/memory/memory.limit_in_bytes")))
}

/// Thousandths of processors it may use.
fn processors(in_sandbox: bool) -> u32 {
    let whole = std::thread::available_parallelism().map_or(1, |count| count.get() as u64) * 1_000;
    let quota = cgroup_quota().filter(|_| in_sandbox).unwrap_or(whole);
    small(quota.min(whole))
}

fn cgroup_quota() -> Option<u64> {
    let two = || {
        let text = read("/sys/fs/cgroup/cpu.max")?;
        let (quota, period) = text.trim().split_once(' ')?;
        Some((quota.parse().ok()?, period.parse().ok()?))
    };
    let one = || {
        let quota = number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?;
        Some((quota, number("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?))
    };
    let (quota, period): (u64, u64) = two().or_else(one)?;
    (quota * 1_000).checked_div(period)
}

/// Used and whole room of the root's file system, MiB.
fn disk() -> (u32, u32) {
    let Ok(found) = nix::sys::statvfs::statvfs("/") else { return (0, 0) };
    let (blocks, free, size) = (found.blocks(), found.blocks_free(), found.fragment_size());
    let mib = |blocks: u64| small(blocks.saturating_mul(size) / (1024 * 1024));
    (mib(blocks.saturating_sub(free)), mib(blocks))
}

/// The number behind `name` in lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number behind `name` in lines of `name: number kB`.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.trim().trim_end_matches("kB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let stat = "cpu  10 20 30 4000 500 6 7 8 9 10\ncpu0 1 2 3\nintr 5\n";
        assert_eq!(system_cpu_us(stat), Some((10 + 20 + 30 + 6 + 7 + 8) * 10_000));
        assert_eq!(system_cpu_us("cpu0 1 2 3"), None);
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 5 1 0 0 0 0 0 0 5 1\n  eth0: 100 2 0 0 0 0 0 0 200 3 0 0 0 0 0 0\n wlan0:7 1 0 0 0 0 0 0 9 1\n";
        assert_eq!(network(dev), (107, 209));
        assert_eq!(network("nonsense: x y"), (0, 0));
        let info = "MemTotal:       16384 kB\nMemAvailable:   4096 kB\n";
        assert_eq!(
            (meminfo(info, "MemTotal"), meminfo(info, "MemAvailable"), meminfo(info, "Mem")),
            (Some(16_384), Some(4_096), None)
        );
        assert_eq!(
            (field("usage_usec 42\nuser_usec 1", "usage_usec"), field("usage_usec_x 1", "usage_usec")),
            (Some(42), None)
        );
    }

    #[test]
    fn a_busy_processor_shows() {
        let mut sampler = Sampler { in_sandbox: false, last: None };
        assert_eq!(sampler.sample(Instant::now()), None, "a rate needs two");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(300) {
            std::hint::black_box(begun.elapsed());
        }
        let sample = sampler.sample(Instant::now()).expect("a second one");
        assert!(sample.cpu_milli >= 500, "{sample:?}");
        assert!((1..sample.memory_max_kib).contains(&sample.memory_kib), "{sample:?}");
        assert!((1..=sample.disk_max_mib).contains(&sample.disk_mib), "{sample:?}");
    }
}
