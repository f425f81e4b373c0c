//! The background tasks of an application.

use std::{sync::Arc, time::Duration};

use flashsale_core::snowflake::{self, LeaseError, WorkerLease};
use futures_util::future::OptionFuture;
use tokio::{sync::watch, task::JoinHandle};

use super::{App, failure::needed};

/// The background tasks of an [`App`]; [`App::close`] stops them.
#[derive(Debug)]
pub struct Jobs {
    pub(super) stop_maintenance: watch::Sender<bool>,
    pub(super) stop_monitor: watch::Sender<bool>,
    pub(super) stop_ids: watch::Sender<bool>,
    /// `None` once it has been stopped.
    pub(super) maintenance: Option<JoinHandle<()>>,
    /// Separate from maintenance, so that it can report the effects if maintenance stops.
    pub(super) monitor: JoinHandle<()>,
    pub(super) recorder: JoinHandle<()>,
    pub(super) lease: JoinHandle<Result<(), LeaseError>>,
}

impl Jobs {
    /// Stops maintenance and waits for it to finish; the monitor keeps running. From then on no
    /// hold expires and nothing is refunded. Public for failure drills.
    pub async fn stop_upkeep(&mut self) {
        self.stop_maintenance.send_replace(true);
        if let Some(maintenance) = self.maintenance.take()
            && let Err(error) = maintenance.await
        {
            tracing::error!(%error, "the maintenance task failed");
        }
    }

    pub(super) fn start(app: &Arc<App>, leases: Arc<dyn WorkerLease>, monitored_every: Duration) -> Self {
        let (stop_maintenance, stopped) = watch::channel(false);
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
        let (storefront, mut warm_up_stopped) = (Arc::clone(&app.storefront), stopped.clone());
        let warm_up = async move {
            tokio::select! {
                () = storefront.warm_up() => {}
                _ = warm_up_stopped.wait_for(|stopped| *stopped) => {}
            }
        };
        let maintenance = Arc::clone(&app.maintenance);
        let (notifier, notifier_stopped) = (app.notifier.clone(), stopped.clone());
        let notifications = notifier.map(|notifier| {
            // A separate task, so that orders still expire if it panics.
            runtime.spawn(async move { notifier.run(notifier_stopped).await })
        });
        let timekeeper = app.timekeeper.clone().map(|timekeeper| {
            let reason = "clock: its task has panicked";
            runtime.spawn(needed(Arc::clone(app), reason, timekeeper.run(stopped.clone()), |()| false))
        });
        let (callbacks, callbacks_stopped) = (Arc::clone(&app.callbacks), stopped.clone());
        let until = async move {
            let _ = ids_stopped.wait_for(|stopped| *stopped).await;
        };
        let record = Arc::clone(app.operations.recorder()).run(stopped.clone());
        let record = needed(Arc::clone(app), "audit: the recorder has panicked", record, |()| false);
        let lease = needed(
            Arc::clone(app),
            "ids: the lease of the worker id is lost",
            snowflake::renew_lease(Arc::clone(&app.ids), leases, until),
            Result::is_err,
        );
        let (archived, archive_stopped) = (Arc::clone(app), stopped.clone());
        let maintain = {
            let reason = "maintenance: its task has panicked";
            needed(Arc::clone(app), reason, async move { maintenance.run(stopped).await }, |()| false)
        };
        Self {
            recorder: runtime.spawn(record),
            maintenance: Some(runtime.spawn(async move {
                let keys = jwt.map(|jwt| jwt.keep(keys_stopped));
                let work = async {
                    let callbacks = callbacks.worker().run(callbacks_stopped);
                    let archive = archived.operations.keep_archived(archive_stopped);
                    tokio::join!(maintain, callbacks, OptionFuture::from(keys), warm_up, archive);
                };
                let (timekeeper, notifications) =
                    (OptionFuture::from(timekeeper), OptionFuture::from(notifications));
                let ((), kept, notified) = tokio::join!(work, timekeeper, notifications);
                if let Some(Err(error)) = kept {
                    tracing::error!(%error, "the timekeeper failed");
                }
                if let Some(Err(error)) = notified {
                    tracing::error!(%error, "the notification task failed");
                }
            })),
            monitor: runtime.spawn(monitor),
            lease: runtime.spawn(lease),
            stop_maintenance,
            stop_monitor,
            stop_ids,
        }
    }
}
