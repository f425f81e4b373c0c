//! Metrics of the job queues and their workers.

use std::time::Duration;

use flashsale_core::queue::{Depth, QueueError, Worker};
use tokio::time::timeout;

use super::{Exposition, Labels};
use crate::app::App;

/// Time limit of reading the queues: the disk may be busy.
const TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn read(page: &mut Exposition, app: &App) {
    for worker in app.workers() {
        count(page, worker);
    }
    let depths = timeout(TIMEOUT, async {
        let mut depths = app.queue.depths().await?;
        depths.extend(app.maintenance.deadlines().depths().await?);
        Ok::<_, QueueError>(depths)
    });
    let depths = depths.await;
    let help = "Whether the queues were read for this scrape; if 0, the metrics of jobs are missing.";
    let read = matches!(depths, Ok(Ok(_)));
    page.gauge("flashsale_jobs_read", help, Labels::new(), f64::from(u8::from(read)));
    let Ok(Ok(mut depths)) = depths else { return };
    // Show topics that never had a job, too.
    for worker in app.workers() {
        if depths.iter().all(|depth| depth.topic != *worker.topic()) {
            depths.push(Depth { topic: worker.topic().clone(), waiting: 0, dead: 0, first_ready: None });
        }
    }
    // Queues wait by time without steps.
    let now = app.clock.steady();
    for depth in depths {
        let topic = || ("topic", depth.topic.to_string());
        for (state, jobs) in [("waiting", depth.waiting), ("dead", depth.dead)] {
            let labels = vec![topic(), ("state", state.to_owned())];
            let help = "Jobs by state: waiting (includes running ones), or dead letters.";
            page.gauge("flashsale_jobs", help, labels, super::number(jobs));
        }
        // Jobs left over from a disabled topic have no worker, so they are not late.
        if app.workers().all(|worker| *worker.topic() != depth.topic) {
            continue;
        }
        let late = depth.first_ready.map_or(Duration::ZERO, |ready| now.since(ready));
        let help = "How long the oldest waiting job has been ready.";
        page.gauge("flashsale_job_late_seconds", help, vec![topic()], late.as_secs_f64());
    }
}

fn count(page: &mut Exposition, worker: &Worker) {
    let counts = worker.counts();
    for (outcome, count) in [
        ("done", counts.done),
        ("retried", counts.retried),
        ("postponed", counts.postponed),
        ("parked", counts.parked),
    ] {
        let labels = vec![("topic", worker.topic().to_string()), ("outcome", outcome.to_owned())];
        page.counter(
            "flashsale_job_attempts",
            "Jobs handed out to workers, by outcome; parked ones became dead letters.",
            labels,
            count,
        );
    }
}
