//! A sleep that a stop signal ends early.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// Sleeps for `wait`, or until `stop` becomes true.
pub(crate) async fn pause(stop: &mut watch::Receiver<bool>, wait: Duration) {
    let _ = timeout(wait, stop.wait_for(|stop| *stop)).await;
}
