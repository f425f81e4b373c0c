//! The tests that every [`WorkerLease`] must pass. Times are arguments, so no clock is needed.

mod cases;

use std::{fmt, ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;

use super::{Options, Report, small_suite};
use crate::snowflake::WorkerLease;

/// Makes leases of one backend for the suite. Each case gets its own.
#[async_trait]
pub trait WorkerLeaseFactory: Send + Sync {
    /// The backend's name in reports.
    fn name(&self) -> String;

    /// Makes leases of the ids in `workers`, none of which was ever used, that share nothing with
    /// any other.
    ///
    /// A panic fails the case.
    async fn fresh(&self, workers: RangeInclusive<u16>) -> WorkerLeaseUnderTest;
}

/// Leases under test.
#[derive(Clone)]
pub struct WorkerLeaseUnderTest {
    /// The leases.
    pub leases: Arc<dyn WorkerLease>,
    /// Test-only access to the leases.
    pub probe: Arc<dyn WorkerLeaseTestControl>,
}

impl fmt::Debug for WorkerLeaseUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.leases.fmt(f)
    }
}

/// Test-only access to leases.
#[async_trait]
pub trait WorkerLeaseTestControl: Send + Sync {
    /// Opens the same leases as another process would, which lives until they are dropped. If that is
    /// impossible, returns those of this process.
    async fn another_process(&self) -> Arc<dyn WorkerLease>;

    /// Simulates a crash at this moment: opens the leases from what is durable. The old ones are
    /// not used again. Returns `None` if they are not durable.
    async fn restart(&self) -> Option<WorkerLeaseUnderTest>;
}

/// Runs every case on a backend's leases and prints a line for each.
///
/// # Panics
/// After the last case if one failed; inside a tokio runtime, since the suite starts its own.
pub fn run_worker_lease(factory: &Arc<dyn WorkerLeaseFactory>, options: &Options) {
    let report = examine_worker_lease(factory, options);
    println!("{report}");
    assert!(report.failures().next().is_none(), "{} does not conform, see above", report.backend);
}

/// Runs every case on a backend's leases, prints a line for each, and returns the results.
///
/// # Panics
/// If called inside a tokio runtime, since the suite starts its own.
pub fn examine_worker_lease(factory: &Arc<dyn WorkerLeaseFactory>, options: &Options) -> Report {
    let fresh = || -> small_suite::Playing<'static, _> {
        let factory = Arc::clone(factory);
        Box::pin(async move { factory.fresh(cases::WORKERS).await })
    };
    small_suite::examine("lease", factory.name(), &[cases::CASES], fresh, options)
}
