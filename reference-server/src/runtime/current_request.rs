//! Which request a thread works for, so that every line of the log can say so.

use std::{cell::Cell, fmt, future::poll_fn, num::NonZeroU64, pin::pin};

/// The number of a request: unique, and never taken from the client. It finds a request in a log and grants nothing.
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

/// The request that this thread works for at the moment.
pub fn current() -> Option<RequestId> {
    CURRENT.get()
}

/// Runs `future` for a request: while it is polled, [`current`] is `request`.
pub async fn within<F: Future>(request: Option<RequestId>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        // Put back even if the future panics.
        let _before = Before(CURRENT.replace(request));
        future.as_mut().poll(context)
    })
    .await
}

struct Before(Option<RequestId>);

impl Drop for Before {
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
