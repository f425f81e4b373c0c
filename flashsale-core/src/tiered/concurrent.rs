//! Futures that run concurrently in one task, so that dropping the caller drops all of them.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// Runs futures, at most `limit` at once, and returns their results in the same order.
pub(super) async fn at_most<F: Future>(limit: usize, futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting = futures.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut ended = Vec::new();
    poll_fn(|context| {
        loop {
            let room = limit.max(1) - running.len();
            running.extend(waiting.by_ref().take(room).map(|(index, future)| (index, Box::pin(future))));
            if running.is_empty() {
                return Poll::Ready(());
            }
            let before = ended.len();
            running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Ready(result) => {
                    ended.push((*index, result));
                    false
                }
                Poll::Pending => true,
            });
            if ended.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    ended.sort_by_key(|(index, _)| *index);
    ended.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[tokio::test]
    async fn no_more_than_the_limit_run_at_once_and_a_slow_one_holds_up_no_other() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (slow, last) = (tokio::sync::Notify::new(), AtomicUsize::new(0));
        let run = |index: usize| {
            let (running, most, slow, last) = (&running, &most, &slow, &last);
            async move {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                match index {
                    0 => slow.notified().await,
                    9 => slow.notify_one(),
                    _ => tokio::task::yield_now().await,
                }
                running.fetch_sub(1, SeqCst);
                last.store(index, SeqCst);
                index
            }
        };
        assert_eq!(at_most(3, (0..10).map(run).collect()).await, (0..10).collect::<Vec<_>>());
        assert_eq!((most.load(SeqCst), last.load(SeqCst)), (3, 0));
        assert_eq!(at_most(3, Vec::<std::future::Ready<()>>::new()).await, []);
    }
}
