//! Upkeep: what nobody asks for. Views, expiry, closing of payments, refunds, transfers.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{Front, Payments, Sales, ServiceError, collect::deliver};
use crate::ledger::Due;

/// How often a view is read again.
const VIEW_EVERY: Duration = Duration::from_millis(50);
/// How long nothing is looked at when nothing is due.
const IDLE: Duration = Duration::from_millis(500);
/// Orders and payments that one step expires at most, so that buyers are not kept waiting behind it.
const EXPIRE_AT_ONCE: usize = 256;
/// Orders whose refunds are read at once.
const REFUNDS_AT_ONCE: usize = 64;

/// The jobs of a process for its sales. One process does them for a lane at a time; twice does no harm.
#[derive(Clone, Debug)]
pub struct Upkeep {
    sales: Arc<Sales>,
    payments: Payments,
}

impl Upkeep {
    /// The jobs for these sales.
    pub fn new(sales: Arc<Sales>, payments: Payments) -> Self {
        Self { sales, payments }
    }

    /// Works until `stop` becomes true, for sales that are opened later too.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut jobs = JoinSet::new();
        let mut known = Vec::new();
        while !*stop.borrow() {
            for sale in self.sales.all() {
                for front in sale.fronts() {
                    if !known.contains(&front.lane) {
                        known.push(front.lane);
                        jobs.spawn(self.clone().renew(Arc::clone(front), stop.clone()));
                        jobs.spawn(self.clone().expire(Arc::clone(front), stop.clone()));
                        jobs.spawn(self.clone().refund(Arc::clone(front), stop.clone()));
                        jobs.spawn(self.clone().deliver(Arc::clone(front), stop.clone()));
                    }
                }
            }
            pause(&mut stop, VIEW_EVERY).await;
        }
        jobs.join_all().await;
    }

    /// Expires everything that is due, in all lanes, and waits until payments are closed: for simulations and tests that
    /// move an injected clock.
    ///
    /// # Errors
    /// Those of the ledger; what was not reached is done by the next round.
    pub async fn expire_once(&self) -> Result<(), ServiceError> {
        for front in self.sales.all().iter().flat_map(|sale| sale.fronts()) {
            let mut closing = JoinSet::new();
            while !is_done(&self.expire_lane(front, &mut closing).await?) {}
            while closing.join_next().await.is_some() {}
        }
        Ok(())
    }

    /// Tries every refund that is due once, and delivers what is on its way, in all lanes.
    ///
    /// # Errors
    /// The first lane's failure.
    pub async fn settle_once(&self) -> Result<(), ServiceError> {
        for front in self.sales.all().iter().flat_map(|sale| sale.fronts()) {
            self.refund_all(front).await?;
            self.deliver_all(front).await?;
        }
        Ok(())
    }

    async fn renew(self, front: Arc<Front>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(error) = self.sales.renew(&front).await {
                tracing::debug!(lane = ?front.lane, %error, "the view of a lane was not renewed");
            }
            pause(&mut stop, VIEW_EVERY).await;
        }
    }

    async fn expire(self, front: Arc<Front>, mut stop: watch::Receiver<bool>) {
        let mut closing = JoinSet::new();
        while !*stop.borrow() {
            while closing.try_join_next().is_some() {}
            let wait = match self.expire_lane(&front, &mut closing).await {
                Ok(due) => {
                    let now = self.sales.clock().now();
                    due.next.map_or(IDLE, |next| next.since(now).min(IDLE))
                }
                Err(error) => {
                    tracing::warn!(lane = ?front.lane, %error, "overdue orders could not be expired");
                    IDLE
                }
            };
            pause(&mut stop, wait).await;
        }
    }

    /// Expires what is due in a lane, and has payments closed whose time is over: beside the others, because a provider
    /// that does not answer must not keep units from being sold. They are handed out again after the retry time.
    async fn expire_lane(&self, front: &Front, closing: &mut JoinSet<()>) -> Result<Due, ServiceError> {
        let due = self.sales.ledger().expire_due(front.lane, EXPIRE_AT_ONCE).await?;
        for payment in due.closing.clone() {
            let payments = self.payments.clone();
            closing.spawn(async move {
                match payments.close_payment(payment.order, payment.payment, &payment.provider).await {
                    // The breaker said once that the provider is left alone.
                    Ok(_) | Err(ServiceError::ProviderUnavailable { .. }) => {}
                    Err(error) => {
                        tracing::warn!(payment = %payment.payment, %error, "a payment could not be closed; it is tried again");
                    }
                }
            });
        }
        Ok(due)
    }

    /// Sends refunds that are due.
    async fn refund(self, front: Arc<Front>, mut stop: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        while !*stop.borrow() {
            match self.refund_all(&front).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = (failures + 1).min(6);
                    tracing::warn!(lane = ?front.lane, %error, "a refund stays due and is tried again");
                }
            }
            let jitter = Duration::from_millis(fastrand::u64(0..100));
            pause(&mut stop, IDLE * 2_u32.pow(failures) + jitter).await;
        }
    }

    /// Tries every refund of a lane that is due. Answers the last failure, after all were tried.
    async fn refund_all(&self, front: &Front) -> Result<(), ServiceError> {
        let (mut result, mut after) = (Ok(()), None);
        loop {
            let tasks = self.sales.ledger().refunds_due(front.lane, after, REFUNDS_AT_ONCE).await?;
            let Some(last) = tasks.last() else { return result };
            after = Some(last.order.id);
            for task in &tasks {
                if let Err(error) = self.payments.refund(task).await {
                    result = Err(error);
                }
            }
        }
    }

    /// Brings units that are on their way to their destination.
    async fn deliver(self, front: Arc<Front>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            if let Err(error) = self.deliver_all(&front).await {
                tracing::warn!(lane = ?front.lane, %error, "units on their way stay there for now");
            }
            pause(&mut stop, IDLE).await;
        }
    }

    async fn deliver_all(&self, front: &Front) -> Result<(), ServiceError> {
        let ledger = self.sales.ledger();
        for transfer in ledger.transfers(front.lane).await? {
            deliver(ledger, transfer).await?;
        }
        Ok(())
    }
}

/// Whether a step found nothing more to do.
fn is_done(due: &Due) -> bool {
    due.expired.len() + due.closing.len() < EXPIRE_AT_ONCE
}

/// Waits for a time, or until it is to stop.
async fn pause(stop: &mut watch::Receiver<bool>, wait: Duration) {
    let _ = timeout(wait, stop.wait_for(|stop| *stop)).await;
}
