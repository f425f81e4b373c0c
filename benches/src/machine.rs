//! Readings of the machine and of this process, as Linux gives them.

use std::{fs, path::Path, time::Duration};

use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use crate::{Failure, report::info};

/// Prints what the figures depend on.
///
/// # Errors
/// The machine does not tell.
pub fn describe(directory: &Path) -> Result<(), Failure> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let memory = fs::read_to_string("/proc/meminfo")?;
    info("cpu", model.trim_start_matches([' ', '\t', ':']));
    info("cores", std::thread::available_parallelism()?);
    info("memory", memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim());
    info("kernel", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    info("load", fs::read_to_string("/proc/loadavg")?.trim());
    info("file_system", file_system(directory)?);
    Ok(())
}

/// User and system time of this process so far.
pub fn cpu_time() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// User and system time of this thread so far.
pub fn thread_time() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// Keeps this thread, and the processes that it starts, on one core.
///
/// # Errors
/// The system does not allow it, or has no such core.
pub fn stay_on(core: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// How much of this process is in memory, in bytes.
///
/// # Errors
/// The system does not tell.
pub fn resident_bytes() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
    Ok(kibibytes * 1_024)
}

/// Type, device and options of the file system that holds a directory: of all mounts, the one with the longest path.
fn file_system(directory: &Path) -> Result<String, Failure> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let found = mounts
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(' ');
            let (device, at, kind, options) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
            directory.starts_with(at).then(|| (at.len(), format!("{kind} {device} {options}")))
        })
        .max_by_key(|(length, _)| *length);
    Ok(found.ok_or("no mount holds the directory")?.1)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}
