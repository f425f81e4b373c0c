//! What works for an application until it is closed.

use std::{sync::Arc, time::Duration};

use flashsale_core::snowflake::{self, LeaseError, WorkerLease};
use futures_util::future::OptionFuture;
use tokio::{sync::watch, task::JoinHandle};

use super::App;

/// What works for an [`App`] until it is closed.
#[derive(Debug)]
pub struct Jobs {
    pub(super) stop_upkeep: watch::Sender<bool>,
    pub(super) stop_monitor: watch::Sender<bool>,
    pub(super) stop_ids: watch::Sender<bool>,
    /// `None` once it has been stopped.
    pub(super) upkeep: Option<JoinHandle<()>>,
    /// A task of its own: it has to say what comes of upkeep that ends early.
    pub(super) monitor: JoinHandle<()>,
    pub(super) recorder: JoinHandle<()>,
    pub(super) lease: JoinHandle<Result<(), LeaseError>>,
}

impl Jobs {
    /// Stops upkeep and waits for its end; the monitor looks on. For drills: from here on no hold expires and nothing is
    /// refunded.
    pub async fn stop_upkeep(&mut self) {
        self.stop_upkeep.send_replace(true);
        if let Some(upkeep) = self.upkeep.take()
            && let Err(error) = upkeep.await
        {
            tracing::error!(%error, "upkeep ended early");
        }
    }

    pub(super) fn start(app: &Arc<App>, leases: Arc<dyn WorkerLease>, monitored_every: Duration) -> Self {
        let (stop_upkeep, stopped) = watch::channel(false);
        let (stop_monitor, monitor_stopped) = watch::channel(false);
        let (stop_ids, mut ids_stopped) = watch::channel(false);
        let runtime = app.spawner.runtime();
        let (jwt, keys_stopped) = (app.jwt.clone(), stopped.clone());
        let monitor = Arc::clone(&app.monitor);
        let (inspector, sales, clock) =
            (Arc::clone(&app.inspector), Arc::clone(&app.sales), Arc::clone(&app.clock));
        let monitor = async move {
            monitor.run(&*inspector, &sales, || clock.now(), monitored_every, monitor_stopped).await;
        };
        let (warming, mut warming_stopped) = (Arc::clone(&app.storefront), stopped.clone());
        let warm_up = async move {
            tokio::select! {
                () = warming.warm_up() => {}
                _ = warming_stopped.wait_for(|stopped| *stopped) => {}
            }
        };
        let upkeep = Arc::clone(&app.upkeep);
        let (notifier, notifier_stopped) = (app.notifier.clone(), stopped.clone());
        let notifications = notifier.map(|notifier| {
            // A task of its own: whatever happens to it, orders expire.
            runtime.spawn(async move { notifier.run(notifier_stopped).await })
        });
        let until = async move {
            let _ = ids_stopped.wait_for(|stopped| *stopped).await;
        };
        Self {
            recorder: runtime.spawn(Arc::clone(app.operations.recorder()).run(stopped.clone())),
            upkeep: Some(runtime.spawn(async move {
                let keys = jwt.map(|jwt| jwt.keep(keys_stopped));
                let work = async {
                    tokio::join!(upkeep.run(stopped), OptionFuture::from(keys), warm_up);
                };
                let ((), told) = tokio::join!(work, OptionFuture::from(notifications));
                if let Some(Err(error)) = told {
                    tracing::error!(%error, "notifications ended early");
                }
            })),
            monitor: runtime.spawn(monitor),
            lease: runtime.spawn(snowflake::keep(Arc::clone(&app.ids), leases, until)),
            stop_upkeep,
            stop_monitor,
            stop_ids,
        }
    }
}
