//! Machine and process readings on Linux.

use std::{fs, path::Path, time::Duration};

use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use crate::{Failure, report::info};

/// Prints the facts about the machine that the figures depend on.
///
/// # Errors
/// If a fact cannot be read.
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

/// The user and system time of this process so far.
pub fn cpu_time() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// The user and system time of this thread so far.
pub fn thread_time() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// Pins this thread, and processes that it starts, to one core.
///
/// # Errors
/// If the system does not allow that, or has no such core.
pub fn stay_on(core: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// The resident memory of this process, in bytes.
///
/// # Errors
/// If it cannot be read.
pub fn resident_bytes() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
    Ok(kibibytes * 1_024)
}

/// Type, device and options of the file system of a directory: the mount with the longest path.
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
    Ok(found.ok_or("no mount contains the directory")?.1)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}
