//! A handler for the time before there is an application.

use std::{
    fmt,
    future::ready,
    sync::{Arc, OnceLock},
};

use futures_util::future::Either;

use super::{Handler, Request, Response, Traffic};

/// Answers requests itself until it is given the handler that does from then on. The listener and its
/// connections stay open.
pub struct Deferred<H> {
    traffic: Arc<Traffic>,
    until_then: Box<dyn Fn(&Request) -> Response + Send + Sync>,
    handler: OnceLock<H>,
}

impl<H: Handler> Deferred<H> {
    /// Creates a handler that answers with `until_then`. `traffic` must be that of the later handler.
    pub fn new(
        traffic: Arc<Traffic>,
        until_then: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self { traffic, until_then: Box::new(until_then), handler: OnceLock::new() }
    }

    /// Passes all further requests to `handler`. Only the first call has an effect.
    pub fn hand_over(&self, handler: H) {
        let _ = self.handler.set(handler);
    }
}

impl<H: Handler> Handler for Deferred<H> {
    fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    // Not an async block, which would hold the request twice.
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send {
        match self.handler.get() {
            Some(handler) => Either::Left(handler.handle(request)),
            None => Either::Right(ready((self.until_then)(&request))),
        }
    }
}

impl<H> fmt::Debug for Deferred<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("is_over", &self.handler.get().is_some()).finish_non_exhaustive()
    }
}
