//! Background work that survives a client's disconnect.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{runtime, sync::Notify};

use crate::runtime::current_request;

/// A multi-threaded runtime for everything that touches a store: batchers, timers, spawned tasks.
///
/// A handler's future is dropped when its client disconnects; work on this runtime continues, even
/// if the future that [`Spawner::run`] returns is dropped. [`Spawner::drain`] waits for it.
#[derive(Debug)]
pub struct Background {
    runtime: runtime::Runtime,
    spawner: Spawner,
}

/// Starts work on a [`Background`] runtime; cheap to clone.
#[derive(Clone, Debug)]
pub struct Spawner {
    runtime: runtime::Handle,
    running: Arc<Running>,
}

/// The task ended without a result because it panicked or the runtime shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task was lost; it is unknown whether it took effect")]
pub struct TaskLost;

impl Background {
    /// Starts the runtime.
    ///
    /// # Errors
    /// If its threads or its event queue cannot be created.
    pub fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread().thread_name("background").enable_all().build()?;
        let spawner = Spawner { runtime: runtime.handle().clone(), running: Arc::default() };
        Ok(Self { runtime, spawner })
    }

    /// Returns the handle that starts work on this runtime.
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Runs `future` to completion on this runtime. Call it from outside any runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

impl Spawner {
    /// Starts `work`. It runs to completion whether or not the returned future is awaited.
    ///
    /// # Errors
    /// The future returns [`TaskLost`] if the work panicked or the runtime shut down.
    pub fn run<F>(&self, work: F) -> impl Future<Output = Result<F::Output, TaskLost>> + Send + use<F>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let guard = Guard::enter(&self.running);
        // Attribute its log lines to the request that started it.
        let task = self.runtime.spawn(current_request::within(current_request::current(), async move {
            let _guard = guard;
            work.await
        }));
        async move { task.await.map_err(|_| TaskLost) }
    }

    /// Returns the runtime, for tasks with their own way to stop (a batcher, a listener).
    pub fn runtime(&self) -> &runtime::Handle {
        &self.runtime
    }

    /// Waits up to `limit` for work started by [`Spawner::run`]; returns how many tasks still run.
    pub async fn drain(&self, limit: Duration) -> usize {
        let idle = async {
            loop {
                let ended = self.running.ended.notified();
                if self.running.count.load(Ordering::SeqCst) == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(limit, idle).await;
        self.running.count.load(Ordering::SeqCst)
    }
}

#[derive(Debug, Default)]
struct Running {
    count: AtomicUsize,
    ended: Notify,
}

struct Guard(Arc<Running>);

impl Guard {
    fn enter(running: &Arc<Running>) -> Self {
        running.count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(running))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn work_continues_without_a_waiter_and_draining_waits_for_it() {
        let background = Background::start().unwrap();
        let (release, released) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        drop(background.spawner().run(async move {
            released.await.unwrap();
            done.send(7).unwrap();
        }));
        background.block_on(async {
            assert_eq!(background.spawner().drain(Duration::ZERO).await, 1);
            release.send(()).unwrap();
            assert_eq!(finished.await, Ok(7));
            assert_eq!(background.spawner().drain(Duration::from_secs(60)).await, 0);
        });
    }

    #[test]
    fn a_panic_is_reported_as_a_lost_task() {
        let background = Background::start().unwrap();
        let work = background.spawner().run(async { panic!("expected by a test") });
        assert_eq!(background.block_on(work), Err::<(), _>(TaskLost));
    }
}
