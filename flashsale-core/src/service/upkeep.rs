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
/// Refunds that are looked at in one round.
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
                        jobs.spawn(self.clone().settle(Arc::clone(front), stop.clone()));
                    }
                }
            }
            pause(&mut stop, VIEW_EVERY).await;
        }
        jobs.join_all().await;
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
        while !*stop.borrow() {
            let wait = match self.expire_once(&front).await {
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

    /// Expires what is due in a lane and closes payments whose time is over.
    ///
    /// # Errors
    /// Those of the ledger. A provider that does not answer is asked again after the retry time.
    pub async fn expire_once(&self, front: &Front) -> Result<Due, ServiceError> {
        let due = self.sales.ledger().expire_due(front.lane, EXPIRE_AT_ONCE).await?;
        for closing in &due.closing {
            let closed = self.payments.close_payment(closing.order, closing.payment, &closing.provider).await;
            if let Err(error) = closed {
                tracing::warn!(payment = %closing.payment, %error, "a payment could not be closed; it is tried again");
            }
        }
        Ok(due)
    }

    /// Sends refunds that are due, and units that are on their way.
    async fn settle(self, front: Arc<Front>, mut stop: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        while !*stop.borrow() {
            match self.settle_once(&front).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = (failures + 1).min(6);
                    tracing::warn!(lane = ?front.lane, %error, "refunds or transfers could not be settled");
                }
            }
            let jitter = Duration::from_millis(fastrand::u64(0..100));
            pause(&mut stop, IDLE * 2_u32.pow(failures) + jitter).await;
        }
    }

    /// One round of refunds and transfers of a lane.
    ///
    /// # Errors
    /// The first that failed; the rest was tried.
    pub async fn settle_once(&self, front: &Front) -> Result<(), ServiceError> {
        let ledger = self.sales.ledger();
        let mut result = Ok(());
        for task in ledger.refunds_due(front.lane, REFUNDS_AT_ONCE).await? {
            if let Err(error) = self.payments.refund(&task).await {
                result = Err(error);
            }
        }
        for transfer in ledger.transfers(front.lane).await? {
            if let Err(error) = deliver(ledger, transfer).await {
                result = Err(error.into());
            }
        }
        result
    }
}

/// Waits for a time, or until it is to stop.
async fn pause(stop: &mut watch::Receiver<bool>, wait: Duration) {
    let _ = timeout(wait, stop.wait_for(|stop| *stop)).await;
}
