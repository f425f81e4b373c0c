//! Checks the invariants of open sales periodically and reports violations.
//!
//! The monitor never repairs anything: that decision is the on-call engineer's. A violation does
//! not make the process unready, because another process with the same data would fare no better.
//!
//! An activity in which nothing is open is read again only after it changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flashsale_core::{
    domain::{ActivityId, SkuId, Timestamp},
    ledger::{LedgerCalls as _, LedgerError, Stock, Terms, state_machine::Census},
    service::{ChangedLanes, Sales},
};
use tokio::{sync::watch, time::timeout};

use super::inspector::Inspector;

/// An invariant that the monitor checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// No count of units is negative, and every unit is available, held, sold or in transit.
    Units,
    /// Holds expire soon after their deadlines.
    Holds,
    /// Consumers of the outbox keep up.
    Outbox,
    /// Refunds that are due are paid.
    Refunds,
}

impl Invariant {
    /// Every invariant.
    pub const ALL: [Self; 4] = [Self::Units, Self::Holds, Self::Outbox, Self::Refunds];

    /// Returns its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Units => "units",
            Self::Holds => "holds",
            Self::Outbox => "outbox",
            Self::Refunds => "refunds",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The limits beyond which an invariant counts as broken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a hold may outlast its deadline.
    pub overdue: Duration,
    /// How many outbox entries a consumer may lag behind.
    pub outbox: u64,
    /// How long an activity may have refunds due without interruption.
    pub refund: Duration,
}

/// A violation of an invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokenInvariant {
    /// The broken invariant.
    pub invariant: Invariant,
    /// The activity.
    pub activity: ActivityId,
    /// The offer's SKU, if the violation concerns one offer.
    pub sku: Option<SkuId>,
}

/// The data of one activity that the monitor checks.
#[derive(Clone, Debug)]
pub struct ActivityReading {
    /// The activity.
    pub activity: ActivityId,
    /// The stock of each offer.
    pub stock: Vec<(SkuId, Stock)>,
    /// Order counts.
    pub census: Census,
}

/// Checks the invariants.
#[derive(Debug)]
pub struct Monitor {
    limits: Limits,
    state: Mutex<State>,
    seen: tokio::sync::Mutex<Seen>,
    looks: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    broken: BTreeSet<BrokenInvariant>,
    /// Since when each activity has refunds due.
    owing: BTreeMap<ActivityId, Timestamp>,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Seen {
    /// Which lanes changed; `None` before the first check.
    changes: Option<Arc<ChangedLanes>>,
    /// Activities that changed since they were read.
    changed: BTreeSet<ActivityId>,
    /// The last reading of each activity.
    readings: Vec<ActivityReading>,
}

impl Monitor {
    /// Creates a monitor with no known violations.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), seen: Default::default(), looks: watch::Sender::new(0) }
    }

    /// Subscribes to the number of completed checks.
    pub fn looks(&self) -> watch::Receiver<u64> {
        self.looks.subscribe()
    }

    /// Counts the violations of each invariant as of the last check.
    pub fn broken(&self) -> [(Invariant, usize); Invariant::ALL.len()] {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Invariant::ALL.map(|invariant| {
            (invariant, state.broken.iter().filter(|place| place.invariant == invariant).count())
        })
    }

    /// Checks every `period` until `stop` becomes true.
    pub async fn run(
        &self,
        inspector: &dyn Inspector,
        sales: &Sales,
        now: impl Fn() -> Timestamp,
        period: Duration,
        mut stop: watch::Receiver<bool>,
    ) {
        while timeout(period, stop.wait_for(|stop| *stop)).await.is_err() {
            if let Err(error) = self.look(inspector, sales, &now).await {
                // An unavailable ledger has its own alert. Known violations stay.
                tracing::debug!(%error, "the invariants could not be checked");
            }
        }
    }

    /// Checks once.
    ///
    /// # Errors
    /// If the ledger cannot be read; known violations stay.
    pub async fn look(
        &self,
        inspector: &dyn Inspector,
        sales: &Sales,
        now: impl Fn() -> Timestamp,
    ) -> Result<(), LedgerError> {
        let mut seen = self.seen.lock().await;
        seen.read(inspector, sales).await?;
        self.judge(&seen.readings, now());
        Ok(())
    }

    /// Compares readings with limits. Logs each violation when it begins and when it ends.
    pub fn judge(&self, readings: &[ActivityReading], now: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut broken = BTreeMap::new();
        state.owing.retain(|activity, _| readings.iter().any(|reading| reading.activity == *activity));
        for ActivityReading { activity, stock, census } in readings {
            let place = |invariant, sku| BrokenInvariant { invariant, activity: *activity, sku };
            for (sku, stock) in stock.iter().filter(|(_, stock)| !adds_up(stock)) {
                broken.insert(place(Invariant::Units, Some(*sku)), format!("{stock:?}"));
            }
            if census.overdue > self.limits.overdue {
                let seen = format!("the oldest hold is overdue by {:?}", census.overdue);
                broken.insert(place(Invariant::Holds, None), seen);
            }
            for (consumer, entries) in
                census.behind.iter().filter(|(_, entries)| *entries > self.limits.outbox)
            {
                broken.insert(
                    place(Invariant::Outbox, None),
                    format!("{} is {entries} entries behind", consumer.0),
                );
            }
            if census.refunds_due == 0 {
                state.owing.remove(activity);
                continue;
            }
            let since = *state.owing.entry(*activity).or_insert(now);
            if now.since(since) > self.limits.refund {
                let seen =
                    format!("{} orders have had refunds due for {:?}", census.refunds_due, now.since(since));
                broken.insert(place(Invariant::Refunds, None), seen);
            }
        }
        for (BrokenInvariant { invariant, activity, sku }, seen) in
            broken.iter().filter(|(place, _)| !state.broken.contains(place))
        {
            tracing::error!(%invariant, %activity, sku = sku.map(tracing::field::display), seen, "an invariant is broken");
        }
        for BrokenInvariant { invariant, activity, .. } in
            state.broken.iter().filter(|place| !broken.contains_key(place))
        {
            tracing::info!(%invariant, %activity, "an invariant holds again");
        }
        state.broken = broken.into_keys().collect();
        drop(state);
        self.looks.send_modify(|looks| *looks += 1);
    }
}

fn adds_up(stock: &Stock) -> bool {
    let Stock { units, adjusted, available, held, sold, transit, .. } = *stock;
    let parts = [available, held, sold, transit];
    parts.iter().all(|part| *part >= 0) && parts.iter().sum::<i64>() == units + adjusted
}

impl Seen {
    /// Reads the activities that changed, and those in which something is open.
    async fn read(&mut self, inspector: &dyn Inspector, sales: &Sales) -> Result<(), LedgerError> {
        let changes = self.changes.get_or_insert_with(|| sales.follow_changes());
        self.changed.extend(changes.take().iter().map(|lane| lane.activity));
        let mut quiet: BTreeMap<_, _> = std::mem::take(&mut self.readings)
            .into_iter()
            .filter(ActivityReading::is_quiet)
            .map(|reading| (reading.activity, reading))
            .collect();
        for sale in sales.all() {
            let activity = sale.terms().activity();
            let known = quiet.remove(&activity).filter(|_| !self.changed.contains(&activity));
            let reading = match known {
                Some(known) => Some(known),
                None => read(inspector, sales, sale.terms()).await?,
            };
            self.readings.extend(reading);
            self.changed.remove(&activity);
        }
        Ok(())
    }
}

impl ActivityReading {
    /// Whether nothing can break an invariant before the activity changes.
    fn is_quiet(&self) -> bool {
        let Census { waiting, refunds_due, transfers, behind, .. } = &self.census;
        let lags = behind.iter().any(|(_, entries)| *entries > 0);
        *waiting + refunds_due + transfers == 0 && !lags && self.stock.iter().all(|(_, stock)| adds_up(stock))
    }
}

async fn read(
    inspector: &dyn Inspector,
    sales: &Sales,
    terms: &Terms,
) -> Result<Option<ActivityReading>, LedgerError> {
    let activity = terms.activity();
    let Some(census) = inspector.census(activity).await? else { return Ok(None) };
    let mut stock = Vec::new();
    for offer in terms.offers() {
        stock.extend(sales.ledger().stock(activity, offer.sku()).await?.map(|stock| (offer.sku(), stock)));
    }
    Ok(Some(ActivityReading { activity, stock, census }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flashsale_core::{
        domain::{Clock, ManualClock},
        embedded::EmbeddedLedger,
        ledger::{Consumer, Epoch, LedgerRole},
        service::BatcherOptions,
    };
    use tokio::{runtime::Handle, time::Instant};

    use super::*;
    use crate::config::MonitorConfig;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn monitor() -> Monitor {
        Monitor::new(Limits { overdue: Duration::from_secs(30), outbox: 10, refund: Duration::from_secs(60) })
    }

    fn good() -> ActivityReading {
        let stock = Stock {
            units: 100,
            adjusted: -10,
            available: 60,
            held: 10,
            sold: 15,
            transit: 5,
            epoch: Epoch(1),
        };
        let mut census = Census { overdue: Duration::from_secs(30), ..Census::default() };
        census.behind = vec![(Consumer(Arc::from("audit")), 10)];
        ActivityReading {
            activity: ActivityId::new(1).unwrap(),
            stock: vec![(SkuId::new(2).unwrap(), stock)],
            census,
        }
    }

    fn broken(monitor: &Monitor) -> Vec<Invariant> {
        monitor.broken().into_iter().flat_map(|(invariant, count)| vec![invariant; count]).collect()
    }

    #[test]
    fn each_violation_is_reported_from_the_next_check_until_it_ends() {
        type Damage = fn(&mut ActivityReading);
        let breaks: [(Invariant, Damage); 8] = [
            (Invariant::Units, |reading| reading.stock[0].1.sold += 1),
            (Invariant::Units, |reading| reading.stock[0].1.available -= 1),
            (Invariant::Units, |reading| reading.stock[0].1.adjusted += 1),
            (Invariant::Units, |reading| {
                (reading.stock[0].1.available, reading.stock[0].1.held) = (-1, 71);
            }),
            (Invariant::Units, |reading| (reading.stock[0].1.held, reading.stock[0].1.sold) = (26, -1)),
            (Invariant::Units, |reading| (reading.stock[0].1.held, reading.stock[0].1.sold) = (-1, 26)),
            (Invariant::Holds, |reading| reading.census.overdue += Duration::from_millis(1)),
            (Invariant::Outbox, |reading| reading.census.behind[0].1 += 1),
        ];
        let monitor = monitor();
        for (invariant, damage) in breaks {
            monitor.judge(&[good()], NOW);
            assert_eq!(broken(&monitor), []);
            let mut bad = good();
            damage(&mut bad);
            monitor.judge(&[bad], NOW);
            assert_eq!(broken(&monitor), [invariant]);
        }
        assert_eq!(*monitor.looks().borrow(), 16);
    }

    #[test]
    fn refunds_that_stay_due_are_reported() {
        let monitor = monitor();
        let look = |due, seconds| {
            let mut reading = good();
            reading.census.refunds_due = due;
            monitor.judge(&[reading], NOW.after(Duration::from_secs(seconds)));
            broken(&monitor)
        };
        assert_eq!(look(1, 0), []);
        assert_eq!(look(2, 60), []);
        assert_eq!(look(0, 61), [], "all are paid");
        assert_eq!(look(1, 62), []);
        assert_eq!(look(1, 122), []);
        assert_eq!(look(1, 123), [Invariant::Refunds]);
        assert_eq!(look(0, 124), []);
    }

    #[tokio::test(start_paused = true)]
    async fn the_monitor_checks_once_a_period() {
        let period = MonitorConfig::default().period();
        assert!(period <= Duration::from_secs(30), "violations must show within 30 s");
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
        let engine = Arc::new(EmbeddedLedger::in_memory(LedgerRole::Single, Arc::clone(&clock)));
        let options = BatcherOptions::default();
        let sales = Sales::new(Arc::clone(&engine) as _, Arc::clone(&clock), Handle::current(), options);
        let (monitor, (stop, stopped)) = (monitor(), watch::channel(false));
        let mut looks = monitor.looks();
        let began = Instant::now();
        let watching = async {
            for look in 1..=3 {
                looks.changed().await.unwrap();
                assert_eq!(began.elapsed().as_secs(), look * period.as_secs());
            }
            stop.send_replace(true);
        };
        tokio::join!(monitor.run(&*engine, &sales, || clock.now(), period, stopped), watching);
    }
}
