//! Metrics of the ledger, its queues, and the sales.

use std::time::Duration;

use flashsale_core::{
    domain::{OrderStatus, Timestamp},
    ledger::{Advanced, LedgerCalls as _, LedgerError, Outcome, state_machine::Census},
    service::{BatcherMetrics, Sale},
};
use tokio::time::timeout;

use super::{Exposition, Labels, MICROS, number};
use crate::app::App;

/// Time limit of reading the ledger: its thread may be busy with an fsync, or stopped.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long an activity has metrics after its end.
const SHOWN_AFTER_END: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn read(page: &mut Exposition, app: &App) {
    let now = app.clock.now();
    let up = app.inspector.health().is_ok();
    page.gauge("flashsale_ledger_up", "Whether the ledger runs.", Labels::new(), f64::from(u8::from(up)));
    let obstacles = app.obstacles().len();
    let help = "Reasons why this process is not ready to sell; /readyz lists them.";
    page.gauge("flashsale_obstacles", help, Labels::new(), number(obstacles));
    let left = app.ids.lease_left();
    let help = "Time until the lease of the worker id expires if it is not renewed.";
    page.gauge("flashsale_id_lease_seconds", help, Labels::new(), left.as_secs_f64());
    commits(page, app);
    for count in app.guards.counts() {
        let labels =
            vec![("rule", count.rule.as_str().to_owned()), ("verdict", count.verdict.as_str().to_owned())];
        page.counter("flashsale_guard_verdicts", "Verdicts of the guards by rule.", labels, count.count);
    }

    for (invariant, places) in app.monitor.broken() {
        let labels = vec![("invariant", invariant.as_str().to_owned())];
        let help = "Violations of an invariant as of the last check; the log has the details.";
        page.gauge("flashsale_invariant_violations", help, labels, number(places));
    }
    let looks = *app.monitor.looks().borrow();
    page.counter("flashsale_monitor_looks", "Completed checks of the invariants.", Labels::new(), looks);

    let mut sales = app.sales.all();
    sales.sort_by_key(|sale| sale.terms().activity());
    let help = "Activities in memory: all that were published, but no archived ones at rest.";
    page.gauge("flashsale_activities_in_memory", help, Labels::new(), number(sales.len()));
    queues(page, app, &sales);
    sales.retain(|sale| sale.terms().window().ends_at().after(SHOWN_AFTER_END) > now);
    let read = timeout(TIMEOUT, ledger(page, app, &sales, now)).await;
    let answered = matches!(read, Ok(Ok(())));
    let help = "Whether the ledger was read for this scrape; if 0, orders and units are missing.";
    page.gauge("flashsale_ledger_read", help, Labels::new(), f64::from(u8::from(answered)));
}

fn commits(page: &mut Exposition, app: &App) {
    let Some(commits) = app.inspector.commits() else { return };
    let help = "Duration of a journal commit, including fsync.";
    page.histogram("flashsale_commit_seconds", help, Labels::new(), commits.micros.read(), MICROS);
    let help = "Journal bytes per commit.";
    page.histogram("flashsale_commit_bytes", help, Labels::new(), commits.bytes.read(), 1.0);
}

/// Sums all lanes, without activity labels, so that the counters outlive an activity's metrics.
fn queues(page: &mut Exposition, app: &App, sales: &[std::sync::Arc<Sale>]) {
    let BatcherMetrics { reserves, advances, round_trips, failed, reserved, advanced } =
        app.sales.batcher_metrics();
    let waiting: usize =
        sales.iter().flat_map(|sale| sale.fronts()).map(|front| front.batcher.waiting()).sum();
    for (kind, sizes) in [("reserve", reserves.read()), ("advance", advances.read())] {
        let labels = vec![("kind", kind.to_owned())];
        page.histogram("flashsale_batch_items", "Items per ledger batch.", labels, sizes, 1.0);
    }
    let help = "Time that the ledger takes for a batch.";
    page.histogram("flashsale_batch_seconds", help, Labels::new(), round_trips.read(), MICROS);
    page.counter(
        "flashsale_batch_failures",
        "Batches that failed because the ledger did not answer.",
        Labels::new(),
        failed.into_inner(),
    );
    let help = "Requests waiting in the queues in front of the ledger.";
    page.gauge("flashsale_queue_waiting", help, Labels::new(), number(waiting));
    let reserved = Outcome::NAMES.iter().zip(reserved).map(|(word, count)| ("reserve", word, count));
    let advanced = Advanced::NAMES.iter().zip(advanced).map(|(word, count)| ("advance", word, count));
    for (kind, word, count) in reserved.chain(advanced) {
        let labels = vec![("kind", kind.to_owned()), ("outcome", (*word).to_owned())];
        page.counter("flashsale_outcomes", "Ledger decisions by outcome.", labels, count.into_inner());
    }
}

async fn ledger(
    page: &mut Exposition,
    app: &App,
    sales: &[std::sync::Arc<Sale>],
    now: Timestamp,
) -> Result<(), LedgerError> {
    for sale in sales {
        let terms = sale.terms();
        let activity = || ("activity", terms.activity().to_string());
        if let Some(census) = app.inspector.census(terms.activity()).await? {
            show(page, &activity, &census);
        }
        for offer in terms.offers() {
            let Some(stock) = app.sales.ledger().stock(terms.activity(), offer.sku()).await? else {
                continue;
            };
            for (state, units) in [
                ("all", stock.units + stock.adjusted),
                ("available", stock.available),
                ("held", stock.held),
                ("sold", stock.sold),
                ("transit", stock.transit),
            ] {
                let labels = vec![activity(), ("sku", offer.sku().to_string()), ("state", state.to_owned())];
                page.gauge("flashsale_units", "Units of an offer by state.", labels, number(units));
            }
        }
        let fresh = f64::from(u8::from(sale.is_warm(now)));
        let help = "Whether the stock views are fresh; stale ones send sold-out requests to the ledger, too.";
        page.gauge("flashsale_views_fresh", help, vec![activity()], fresh);
    }
    Ok(())
}

fn show(page: &mut Exposition, activity: &impl Fn() -> (&'static str, String), census: &Census) {
    for (status, count) in OrderStatus::ALL.iter().zip(census.orders) {
        let labels = vec![activity(), ("status", status.as_str().to_owned())];
        page.gauge("flashsale_orders", "Orders by status.", labels, number(count));
    }
    let bounds = Census::AGES.map(|age| format!("up to {} s", age.as_secs()));
    for (age, count) in bounds.into_iter().chain(["older".to_owned()]).zip(census.ages) {
        let help = "Orders waiting for a deadline, by age; covers the 4096 per lane that are due first.";
        page.gauge("flashsale_holds", help, vec![activity(), ("age", age)], number(count));
    }
    let help = "Orders waiting for a deadline.";
    page.gauge("flashsale_holds_waiting", help, vec![activity()], number(census.waiting));
    let help = "How long the oldest hold has outlasted its deadline.";
    page.gauge("flashsale_hold_overdue_seconds", help, vec![activity()], census.overdue.as_secs_f64());
    page.gauge(
        "flashsale_refunds_due",
        "Orders with a refund due.",
        vec![activity()],
        number(census.refunds_due),
    );
    let help = "Transfers of units between buckets that are not settled.";
    page.gauge("flashsale_transfers", help, vec![activity()], number(census.transfers));
    for (consumer, entries) in &census.behind {
        let labels = vec![activity(), ("consumer", consumer.0.to_string())];
        let help = "Outbox entries that a consumer has not acknowledged.";
        page.gauge("flashsale_outbox_lag_entries", help, labels, number(*entries));
    }
}
