//! Latency of durable orders at a constant rate.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use flashsale_core::service::Batcher;
use futures_util::{StreamExt, stream::FuturesUnordered};
use hdrhistogram::Histogram;
use tokio::{runtime::Runtime, task::JoinSet, time::MissedTickBehavior};

use super::durable;
use crate::{
    Failure,
    report::{count, figure, progress},
};

const SPAN: Duration = Duration::from_secs(8);

/// The number of sending tasks.
const SENDERS: u32 = 2;

/// Sends orders at a constant rate without waiting for answers, and prints latencies; `name` is the
/// suffix of the figures.
///
/// Latency counts from when the order was due at this rate, not from when it was sent. If the
/// machine was too busy to send in time, the delay counts, as it would for a buyer.
pub(super) fn run(runtime: &Runtime, directory: &Path, orders_per_s: f64, name: &str) -> Result<(), Failure> {
    progress(format!("latency at {orders_per_s:.0} orders/s for {} s", SPAN.as_secs()));
    let micros = runtime.block_on(async {
        let batcher = durable::open(directory, orders_at(orders_per_s)?).await?;
        send(&batcher, orders_per_s).await
    })?;
    let (mut histogram, mut first) = (Histogram::<u32>::new(3)?, Histogram::<u32>::new(3)?);
    for (n, late) in (0_u32..).zip(micros.iter()) {
        let late = u64::from(late.load(Ordering::Relaxed));
        histogram.record(late)?;
        if f64::from(n) < orders_per_s {
            first.record(late)?;
        }
    }
    figure(&format!("embedded.rate_of_latency{name}"), orders_per_s, "orders/s");
    for (quantile, value) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
        let late = count(histogram.value_at_quantile(value)) / 1e3;
        figure(&format!("embedded.{quantile}{name}"), late, "ms");
    }
    let late = count(first.value_at_quantile(0.99)) / 1e3;
    figure(&format!("embedded.p99_of_first_second{name}"), late, "ms");
    Ok(())
}

/// How many orders are sent at this rate.
pub(super) fn orders_at(orders_per_s: f64) -> Result<u64, Failure> {
    Ok(u64::try_from(SPAN.as_nanos() / gap(orders_per_s).as_nanos())?)
}

fn gap(orders_per_s: f64) -> Duration {
    Duration::from_secs_f64(1.0 / orders_per_s)
}

/// Sends the orders, drains the batcher, and returns the latency of each order, in microseconds.
pub(super) async fn send(batcher: &Arc<Batcher>, orders_per_s: f64) -> Result<Arc<[AtomicU32]>, Failure> {
    let (gap, orders) = (gap(orders_per_s), u32::try_from(orders_at(orders_per_s)?)?);
    let micros: Arc<[AtomicU32]> = (0..orders).map(|_| AtomicU32::new(0)).collect();
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for first in 0..SENDERS {
        let (batcher, micros) = (Arc::clone(batcher), Arc::clone(&micros));
        senders.spawn(async move {
            let mut due = (first..orders).step_by(SENDERS as usize).peekable();
            let mut waiting = FuturesUnordered::new();
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            while due.peek().is_some() || !waiting.is_empty() {
                tokio::select! {
                    _ = ticks.tick(), if due.peek().is_some() => {
                        while let Some(n) = due.next_if(|n| began + gap * *n <= Instant::now()) {
                            let (batcher, micros) = (&batcher, &micros);
                            waiting.push(async move {
                                durable::buy(batcher, u64::from(n)).await?;
                                let late = (began + gap * n).elapsed().as_micros();
                                micros[n as usize].store(u32::try_from(late).unwrap_or(u32::MAX), Ordering::Relaxed);
                                Ok::<_, Failure>(())
                            });
                        }
                    }
                    Some(bought) = waiting.next(), if !waiting.is_empty() => bought?,
                }
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    batcher.drain().await;
    Ok(micros)
}
