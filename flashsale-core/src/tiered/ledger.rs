//! The ledger trait over two tiers: which tier answers which call.

use std::sync::Arc;

use async_trait::async_trait;

use super::Tiered;
use crate::{
    domain::{ActivityId, Attribution, Capture, Order, OrderId, OrderKey, SkuId, UserId},
    ledger::{
        Adjusted, Adjustment, AdjustmentId, Advance, Advanced, Advances, Bounds, Bucket, Change, ChangeId,
        Consumer, Due, Entry, Epoch, Kept, Lane, Ledger, LedgerError, Opened, Outcome, Position, Reference,
        RefundTask, Reservations, Reserve, Stock, Terms, TimeStep, Transfer, View,
    },
};

/// The number of attempts at a negative adjustment; the gate may be rebuilt during each.
const ADJUSTMENT_ATTEMPTS: usize = 5;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Ledger for Tiered {
    fn bounds(&self) -> Bounds {
        let (gate, truth) = (self.gate.bounds(), self.truth.bounds());
        Bounds {
            max_batch: gate.max_batch.min(truth.max_batch),
            max_in_flight: gate.max_in_flight,
            is_shared: true,
            key_retention: truth.key_retention,
        }
    }

    async fn open(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError> {
        self.truth.register(&self.follow_consumer).await?;
        let opened = self.truth.open(Arc::clone(&terms)).await?;
        self.pump(terms.activity()).await?;
        Ok(opened)
    }

    async fn amend(
        &self,
        activity: ActivityId,
        id: ChangeId,
        change: Change,
        by: Attribution,
    ) -> Result<(), LedgerError> {
        self.truth.amend(activity, id, change, by).await?;
        // The pump retries if this fails; following now shortens the delay.
        if let Err(error) = self.pump(activity).await {
            tracing::warn!(%activity, %error, "the gate has not followed a change of terms yet");
            self.wake();
        }
        Ok(())
    }

    /// Applies positive deltas at the truth first. Takes negative ones from the gate, where buyers
    /// compete for the units; they reach the truth through the outbox under the gate's epoch. If
    /// the gate is rebuilt in between, the change is lost with it and retried under the same id.
    async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
        let activity = adjustment.activity;
        if adjustment.delta > 0 {
            let adjusted = self.truth.adjust(adjustment).await?;
            self.wake();
            return Ok(adjusted);
        }
        for _ in 0..ADJUSTMENT_ATTEMPTS {
            if let Some(known) = self.truth.adjustment(activity, &adjustment.id).await? {
                let same = known == (adjustment.sku, adjustment.delta);
                return Ok(if same { Adjusted::Replayed } else { Adjusted::IdReused });
            }
            let before = self.gate.epoch(activity).await?;
            let taken = match self.gate.adjust(adjustment.clone()).await {
                Err(LedgerError::NotOpen) => {
                    self.pump(activity).await?;
                    continue;
                }
                taken => taken?,
            };
            if !matches!(taken, Adjusted::Done | Adjusted::Replayed) {
                return Ok(taken);
            }
            // Wait until the truth has it, or the gate has returned or lost it.
            while self.gate.adjustment(activity, &adjustment.id).await?.is_some() {
                self.pump(activity).await?;
                if self.truth.adjustment(activity, &adjustment.id).await?.is_some() {
                    return Ok(taken);
                }
            }
            if self.gate.epoch(activity).await? == before {
                let stock = self.truth.stock(activity, adjustment.sku).await?.unwrap_or_default();
                return Ok(Adjusted::Insufficient { available: u32::try_from(stock.available).unwrap_or(0) });
            }
        }
        Err(LedgerError::Unavailable("the gate keeps being rebuilt".into()))
    }

    /// Steps the truth, whose deadlines the gate follows, and then the gate's own time.
    async fn step_time(&self, step: TimeStep) -> Result<(), LedgerError> {
        self.truth.step_time(step.clone()).await?;
        self.gate.step_time(step).await?;
        self.wake();
        Ok(())
    }

    async fn reserve(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        batch: Vec<Reserve>,
    ) -> Result<Reservations, LedgerError> {
        let expected = match epoch.or_else(|| self.epoch_of(lane.activity)) {
            Some(expected) => expected,
            None => match self.truth.epoch(lane.activity).await {
                Ok(epoch) => epoch,
                // Not open at the truth: let the gate answer that it is not ready.
                Err(LedgerError::NotOpen) => Epoch(0),
                Err(error) => return Err(error),
            },
        };
        let answer = self.gate.reserve(lane, Some(expected), batch).await?;
        if answer.outcomes.contains(&Outcome::NotReady) {
            // The epoch may have moved: use the current one for the next request.
            if let Ok(epoch) = self.truth.epoch(lane.activity).await {
                self.remember_epoch(lane.activity, epoch);
            }
        }
        self.wake();
        Ok(answer)
    }

    async fn advance(&self, lane: Lane, batch: Vec<Advance>) -> Result<Advances, LedgerError> {
        let orders: Vec<_> = batch.iter().map(Advance::order).collect();
        let mut answer = self.truth.advance(Lane::first(lane.activity), batch).await?;
        for (outcome, key) in answer.outcomes.iter_mut().zip(orders) {
            if *outcome == Advanced::NotFound
                && self.truth.order(key).await?.is_none()
                && self.gate.order(key).await?.is_some()
            {
                *outcome = Advanced::NotPersisted;
            }
        }
        self.wake();
        Ok(answer)
    }

    async fn expire_due(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError> {
        // The truth has one lane: the first lane's worker does all the work.
        let is_first = lane.bucket == 0;
        let limit = if is_first { limit } else { 0 };
        let mut due = self.truth.expire_due(Lane::first(lane.activity), limit).await?;
        due.next = due.next.filter(|_| is_first);
        self.wake();
        Ok(due)
    }

    async fn send(
        &self,
        lane: Lane,
        to: Bucket,
        sku: SkuId,
        units: u32,
    ) -> Result<Option<Transfer>, LedgerError> {
        self.gate.send(lane, to, sku, units).await
    }

    async fn receive(&self, transfer: Transfer) -> Result<bool, LedgerError> {
        self.gate.receive(transfer).await
    }

    /// Persists the arrival first: only then may the source forget the transfer.
    async fn forget(&self, transfer: Transfer) -> Result<(), LedgerError> {
        self.persist_arrival(transfer).await?;
        self.gate.forget(transfer).await
    }

    async fn transfers(&self, lane: Lane) -> Result<Vec<Transfer>, LedgerError> {
        self.gate.transfers(lane).await
    }

    async fn activities(&self) -> Result<Vec<ActivityId>, LedgerError> {
        self.truth.activities().await
    }

    async fn terms(&self, activity: ActivityId) -> Result<Option<Arc<Terms>>, LedgerError> {
        self.truth.terms(activity).await
    }

    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<Option<Stock>, LedgerError> {
        self.truth.stock(activity, sku).await
    }

    async fn view(&self, lane: Lane) -> Result<View, LedgerError> {
        self.gate.view(lane).await
    }

    async fn order(&self, key: OrderKey) -> Result<Option<Order>, LedgerError> {
        self.known(key).await
    }

    async fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, LedgerError> {
        let mut orders = self.truth.orders_of(user, after, limit).await?;
        let queued = self.gate.orders_of(user, after, limit).await?;
        orders.extend(queued.into_iter().filter(|order| !order.persisted));
        // The sort is stable: if both tiers have an order, the truth's comes first.
        orders.sort_by_key(|order| std::cmp::Reverse(order.key.id));
        orders.dedup_by_key(|order| order.key.id);
        orders.truncate(limit);
        Ok(orders)
    }

    async fn locate(&self, reference: Reference) -> Result<Option<OrderKey>, LedgerError> {
        match self.truth.locate(reference).await? {
            Some(key) => Ok(Some(key)),
            None => self.gate.locate(reference).await,
        }
    }

    async fn adjustment(
        &self,
        activity: ActivityId,
        id: &AdjustmentId,
    ) -> Result<Option<(SkuId, i64)>, LedgerError> {
        self.truth.adjustment(activity, id).await
    }

    async fn refunds_due(
        &self,
        lane: Lane,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<RefundTask>, LedgerError> {
        if lane.bucket == 0 { self.truth.refunds_due(lane, after, limit).await } else { Ok(Vec::new()) }
    }

    async fn keep_unmatched(&self, capture: Capture) -> Result<Kept, LedgerError> {
        self.truth.keep_unmatched(capture).await
    }

    async fn register(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.truth.register(consumer).await
    }

    async fn retire(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.truth.retire(consumer).await
    }

    async fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        if lane.bucket == 0 { self.truth.events(consumer, lane, from, limit).await } else { Ok(Vec::new()) }
    }

    async fn ack(&self, consumer: &Consumer, lane: Lane, position: Position) -> Result<(), LedgerError> {
        if lane.bucket == 0 { self.truth.ack(consumer, lane, position).await } else { Ok(()) }
    }
}
