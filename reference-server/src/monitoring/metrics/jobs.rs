//! The numbers of queues and of those who do their jobs.

use std::time::Duration;

use flashsale_core::queue::{Depth, QueueError, Worker};
use tokio::time::timeout;

use super::{Exposition, Labels};
use crate::app::App;

/// How long the queue is waited for: its disk may be busy.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn read(page: &mut Exposition, app: &App) {
    for worker in app.workers() {
        count(page, worker);
    }
    let depths = timeout(PATIENCE, async {
        let mut depths = app.queue.depths().await?;
        depths.extend(app.upkeep.deadlines().depths().await?);
        Ok::<_, QueueError>(depths)
    });
    let depths = depths.await;
    let help =
        "Whether the queues were read for this scrape; without it the numbers of their jobs are missing.";
    let read = matches!(depths, Ok(Ok(_)));
    page.gauge("flashsale_jobs_read", help, Labels::new(), f64::from(u8::from(read)));
    let Ok(Ok(mut depths)) = depths else { return };
    // A topic that never had a job is shown too.
    for worker in app.workers() {
        if depths.iter().all(|depth| depth.topic != *worker.topic()) {
            depths.push(Depth { topic: worker.topic().clone(), waiting: 0, dead: 0, first_ready: None });
        }
    }
    let now = app.clock.now();
    for depth in depths {
        let topic = || ("topic", depth.topic.to_string());
        for (state, jobs) in [("waiting", depth.waiting), ("dead", depth.dead)] {
            let labels = vec![topic(), ("state", state.to_owned())];
            let help = "Jobs that wait or are being done, and dead letters.";
            page.gauge("flashsale_jobs", help, labels, super::number(jobs));
        }
        // Nobody does what is left of a topic that is turned off.
        if app.workers().all(|worker| *worker.topic() != depth.topic) {
            continue;
        }
        let late = depth.first_ready.map_or(Duration::ZERO, |ready| now.since(ready));
        let help = "For how long the first job that waits has been ready.";
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
            "Jobs that were handed out, by how they ended.",
            labels,
            count,
        );
    }
}
