//! The interface between transport and routes.

use std::{future::Future, sync::Arc};

use super::{Request, Response, Traffic};

/// Answers the requests of one listener.
///
/// The future is dropped when the client disconnects or the request exceeds
/// `http.request_timeout_ms`. So run work that must not be interrupted on
/// [`Background`](crate::runtime::background::Background) and only await its outcome here. A panic
/// is answered with 500; thread and connection survive it.
///
/// The future is stored inside the connection's: box rare branches to keep it small.
pub trait Handler: Send + Sync + 'static {
    /// Returns the counters of the listener.
    fn traffic(&self) -> &Arc<Traffic>;

    /// Answers one request. Refusals are [`Problem`](super::Problem)s converted to responses.
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;
}
