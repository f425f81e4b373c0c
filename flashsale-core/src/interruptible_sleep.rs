//! Waiting that a stop ends early.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// Waits for a time, or until it is to stop.
pub(crate) async fn pause(stop: &mut watch::Receiver<bool>, wait: Duration) {
    let _ = timeout(wait, stop.wait_for(|stop| *stop)).await;
}
