//! Tracks the request that a thread is working on, so that log lines can name it.

use std::{cell::Cell, fmt, future::poll_fn, num::NonZeroU64, pin::pin};

/// A unique request id, never taken from the client. It only serves to find the request in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(pub NonZeroU64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

thread_local! {
    static CURRENT: Cell<Option<RequestId>> = const { Cell::new(None) };
}

/// Returns the request that this thread is working on.
pub fn current() -> Option<RequestId> {
    CURRENT.get()
}

/// Runs `future` on behalf of `request`: while it is polled, [`current`] returns `request`.
pub async fn within<F: Future>(request: Option<RequestId>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        // Restores the previous value even if the future panics.
        let _restore = Restore(CURRENT.replace(request));
        future.as_mut().poll(context)
    })
    .await
}

struct Restore(Option<RequestId>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_known_while_its_future_is_polled() {
        let id = |number| Some(RequestId(NonZeroU64::new(number).unwrap()));
        let (outer, inner) = (id(1), id(0xab));
        within(outer, async {
            assert_eq!(current(), outer);
            within(inner, async {
                tokio::task::yield_now().await;
                assert_eq!(current(), inner);
            })
            .await;
            assert_eq!(current(), outer);
        })
        .await;
        assert_eq!(current(), None);
        assert_eq!(inner.unwrap().to_string(), "00000000000000ab");
    }
}
