//! The seam between transport and routes.

use std::{future::Future, sync::Arc};

use super::{Request, Response, Traffic};

/// Answers the requests of one listener.
///
/// The future is dropped when the client disconnects and when the request takes longer than `http.request_timeout_ms`.
/// Work that must not stop half-way therefore runs on [`Background`](crate::runtime::background::Background), and the handler
/// only awaits its outcome. A panic is answered with 500 and ends neither thread nor connection.
///
/// The future is kept inside the connection: box the rarely taken branches, so that the hot ones stay small.
pub trait Handler: Send + Sync + 'static {
    /// Where requests and answers are counted.
    fn traffic(&self) -> &Arc<Traffic>;

    /// Answers one request. Refusals are [`Problem`](super::Problem)s turned into responses.
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;
}
