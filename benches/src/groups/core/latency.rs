//! Latency of durable orders at a constant rate.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{runtime::Runtime, task::JoinSet, time::MissedTickBehavior};

use super::durable;
use crate::{
    Failure,
    report::{count, figure, progress},
};

const SPAN: Duration = Duration::from_secs(8);

/// Sends orders at a constant rate, whether earlier ones are answered or not, and prints how long the answers took.
///
/// The time of an order counts from the moment at which the rate says that it is due, not from when it was sent: an
/// order that could not be sent in time, because the machine was busy, is as late as a buyer would see it.
pub(super) fn run(runtime: &Runtime, directory: &Path, orders_per_s: f64) -> Result<(), Failure> {
    progress(format!("latency at {orders_per_s:.0} orders/s for {} s", SPAN.as_secs()));
    let micros = runtime.block_on(send(directory, orders_per_s))?;
    let (mut histogram, mut first) = (Histogram::<u32>::new(3)?, Histogram::<u32>::new(3)?);
    for (n, late) in (0_u32..).zip(micros.iter()) {
        let late = u64::from(late.load(Ordering::Relaxed));
        histogram.record(late)?;
        if f64::from(n) < orders_per_s {
            first.record(late)?;
        }
    }
    figure("embedded.rate_of_latency", orders_per_s, "orders/s");
    for (name, quantile) in
        [("embedded.p50", 0.5), ("embedded.p99", 0.99), ("embedded.p999", 0.999), ("embedded.max", 1.0)]
    {
        figure(name, count(histogram.value_at_quantile(quantile)) / 1e3, "ms");
    }
    figure("embedded.p99_of_first_second", count(first.value_at_quantile(0.99)) / 1e3, "ms");
    Ok(())
}

/// Sends the orders; answers the time that each took, in microseconds.
async fn send(directory: &Path, orders_per_s: f64) -> Result<Arc<[AtomicU32]>, Failure> {
    let gap = Duration::from_secs_f64(1.0 / orders_per_s);
    let orders = u32::try_from(SPAN.as_nanos() / gap.as_nanos())?;
    let batcher = durable::open(directory, orders.into()).await?;
    let micros: Arc<[AtomicU32]> = (0..orders).map(|_| AtomicU32::new(0)).collect();
    let (mut sent, mut buyers) = (0, JoinSet::<Result<(), Failure>>::new());
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let began = Instant::now();
    while sent < orders {
        ticks.tick().await;
        while sent < orders && began + gap * sent <= Instant::now() {
            let (batcher, micros, n) = (Arc::clone(&batcher), Arc::clone(&micros), sent);
            sent += 1;
            buyers.spawn(async move {
                let result = durable::buy(&batcher, u64::from(n)).await;
                let late = (began + gap * n).elapsed();
                micros[n as usize]
                    .store(u32::try_from(late.as_micros()).unwrap_or(u32::MAX), Ordering::Relaxed);
                result
            });
        }
        while let Some(ended) = buyers.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = buyers.join_next().await {
        ended??;
    }
    Ok(micros)
}
