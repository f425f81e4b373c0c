//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors besides connections: data files, listeners, pipes, runtimes.
const OTHERS: u64 = 256;

/// Raises the process's own limit of open files as far as the system allows, and answers how many connections fit.
///
/// Systems start processes with a soft limit of 1,024 for the sake of old programs that use `select`.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // No number means no limit.
    let limit = if raised.is_ok() { maximum } else { current };
    limit.unwrap_or(u64::MAX).saturating_sub(OTHERS)
}
