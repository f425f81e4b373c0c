//! The limit of open files and sockets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors reserved for data files, listeners, pipes and runtimes.
const RESERVED: u64 = 256;

/// Raises the soft limit of open files to the hard limit. Returns how many connections fit.
///
/// The usual soft limit is 1,024, for old programs that use `select`.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // `None` means no limit.
    let limit = if raised.is_ok() { maximum } else { current };
    limit.unwrap_or(u64::MAX).saturating_sub(RESERVED)
}
