//! Time limits of requests.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

/// The output of `future`, or `None` once it has taken longer than `limit`.
///
/// A future that is ready at once costs no timer: most answers on the hot path are.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        Poll::Ready(output) => Some(output),
        Poll::Pending => tokio::time::timeout(limit, future).await.ok(),
    }
}
