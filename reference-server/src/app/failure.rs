//! Failures that only a restart repairs.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;

use super::App;

/// How often a running process looks for a failure.
const LOOK: Duration = Duration::from_secs(1);

impl App {
    /// Returns why this process cannot work any more; `None` while it can.
    ///
    /// Only what never recovers counts. [`App::obstacles`] lists what may pass.
    pub fn failure(&self) -> Option<String> {
        match self.inspector.health() {
            Err(error) => Some(format!("ledger: {error}")),
            Ok(()) => self.failed_task.get().map(|task| (*task).to_owned()),
        }
    }

    /// Waits until this process cannot work any more, and then `grace`, so that monitors can see
    /// why. Returns the reason. Without `grace` it never returns.
    pub async fn failed(&self, grace: Option<Duration>) -> String {
        let reason = loop {
            match self.failure() {
                Some(reason) => break reason,
                None => tokio::time::sleep(LOOK).await,
            }
        };
        let seconds = grace.map(|grace| grace.as_secs());
        tracing::error!(reason, exits_after_seconds = seconds, "this process cannot work any more");
        match grace {
            Some(grace) => tokio::time::sleep(grace).await,
            None => std::future::pending().await,
        }
        reason
    }
}

/// Runs a background task without which the process cannot work. If the task panics, or its output
/// `is_failure`, the process has failed for this `reason`.
pub(super) async fn needed<T>(
    app: Arc<App>,
    reason: &'static str,
    task: impl Future<Output = T>,
    is_failure: impl FnOnce(&T) -> bool,
) -> T {
    let ended = AssertUnwindSafe(task).catch_unwind().await;
    if ended.as_ref().map_or(true, is_failure) {
        // The first failure is the cause of others.
        let _ = app.failed_task.set(reason);
    }
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}
