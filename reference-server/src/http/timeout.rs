//! Time limits of requests.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

/// Awaits `future`; returns `None` if it takes longer than `limit`.
///
/// A future that is ready at once, like most answers on the hot path, needs no timer.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        Poll::Ready(output) => Some(output),
        Poll::Pending => tokio::time::timeout(limit, future).await.ok(),
    }
}
