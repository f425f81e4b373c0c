//! Two tiers as one ledger: which tier takes which command, and answers which query.

use std::sync::Arc;

use async_trait::async_trait;

use super::Tiered;
use crate::{
    domain::{Order, OrderId, UserId},
    ledger::{
        Adjusted, Adjustment, Advance, Advanced, Advances, Answer, Bounds, Command, Due, Epoch, Lane, Ledger,
        LedgerCalls as _, LedgerError, LedgerRole, Opened, Outcome, Query, Reply, Reservations, Reserve,
        Terms, Transfer,
    },
};

/// The number of attempts at a negative adjustment; the gate may be rebuilt during each.
const ADJUSTMENT_ATTEMPTS: usize = 5;

#[async_trait]
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

    fn role(&self) -> LedgerRole {
        LedgerRole::Single
    }

    async fn step(&self, command: Command) -> Result<Answer, LedgerError> {
        match command {
            Command::Open(terms) => self.open_tiers(terms).await.map(Answer::Opened),
            Command::Adjust(adjustment) => self.adjust_tiers(adjustment).await.map(Answer::Adjusted),
            Command::Reserve { lane, epoch, requests } => {
                self.reserve_at_gate(lane, epoch, requests).await.map(Answer::Reserved)
            }
            Command::Advance { lane, steps } => {
                self.advance_at_truth(lane, steps).await.map(Answer::Advanced)
            }
            Command::ExpireDue { lane, limit } => self.expire_at_truth(lane, limit).await.map(Answer::Due),
            Command::Forget(transfer) => self.forget_persisted(transfer).await.map(|()| Answer::Done),
            Command::Amend { activity, .. } => {
                self.truth.step(command).await?;
                // The pump retries if this fails; following now shortens the delay.
                if let Err(error) = self.pump(activity).await {
                    tracing::warn!(%activity, %error, "the gate has not followed a change of terms yet");
                    self.wake();
                }
                Ok(Answer::Done)
            }
            Command::StepTime(_) => {
                // The gate follows the truth's deadlines, and then steps its own time.
                self.truth.step(command.clone()).await?;
                self.gate.step(command).await?;
                self.wake();
                Ok(Answer::Done)
            }
            Command::Send { .. } | Command::Receive(_) => self.gate.step(command).await,
            Command::KeepUnmatched(_) | Command::Register(_) | Command::Retire(_) => {
                self.truth.step(command).await
            }
            // The truth has one lane.
            Command::Ack { lane, .. } if lane.bucket > 0 => Ok(Answer::Done),
            Command::Ack { .. } => self.truth.step(command).await,
            // The gate would have to forget the activity, too.
            Command::Archive(_) => Ok(Answer::Archived(false)),
            Command::Close { .. }
            | Command::Load { .. }
            | Command::Reopen { .. }
            | Command::Follow { .. }
            | Command::Persist { .. }
            | Command::NextEpoch { .. } => Err(LedgerError::NotDeciding("steps between its tiers")),
        }
    }

    async fn read(&self, query: Query) -> Result<Reply, LedgerError> {
        match query {
            Query::Order(key) => self.known(key).await.map(Reply::Order),
            Query::OrdersOf { user, after, limit } => {
                self.orders_at_both(user, after, limit).await.map(Reply::Orders)
            }
            Query::Locate(reference) => Ok(Reply::Located(match self.truth.locate(reference).await? {
                Some(key) => Some(key),
                None => self.gate.locate(reference).await?,
            })),
            Query::Transfers(_) | Query::View(_) | Query::OpenEpoch(_) | Query::Followed(_) => {
                self.gate.read(query).await
            }
            // The truth has one lane.
            Query::RefundsDue { lane, .. } if lane.bucket > 0 => Ok(Reply::RefundsDue(Vec::new())),
            Query::Events { lane, .. } if lane.bucket > 0 => Ok(Reply::Events(Vec::new())),
            Query::Activities
            | Query::Terms(_)
            | Query::Stock { .. }
            | Query::Adjustment { .. }
            | Query::RefundsDue { .. }
            | Query::Events { .. }
            | Query::Position(_)
            | Query::Epoch(_)
            | Query::Content { .. } => self.truth.read(query).await,
        }
    }
}

impl Tiered {
    async fn open_tiers(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError> {
        self.truth.register(&self.follow_consumer).await?;
        let opened = self.truth.open(Arc::clone(&terms)).await?;
        self.pump(terms.activity()).await?;
        Ok(opened)
    }

    /// Applies positive deltas at the truth first. Takes negative ones from the gate, where buyers
    /// compete for the units; they reach the truth through the outbox under the gate's epoch. If
    /// the gate is rebuilt in between, the change is lost with it and retried under the same id.
    async fn adjust_tiers(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
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
            let before = self.gate.open_epoch(activity).await?;
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
            if self.gate.open_epoch(activity).await? == before {
                let stock = self.truth.stock(activity, adjustment.sku).await?.unwrap_or_default();
                return Ok(Adjusted::Insufficient { available: u32::try_from(stock.available).unwrap_or(0) });
            }
        }
        Err(LedgerError::Unavailable("the gate keeps being rebuilt".into()))
    }

    async fn reserve_at_gate(
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

    async fn advance_at_truth(&self, lane: Lane, batch: Vec<Advance>) -> Result<Advances, LedgerError> {
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

    async fn expire_at_truth(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError> {
        // The truth has one lane: the first lane's worker does all the work.
        let is_first = lane.bucket == 0;
        let limit = if is_first { limit } else { 0 };
        let mut due = self.truth.expire_due(Lane::first(lane.activity), limit).await?;
        due.next = due.next.filter(|_| is_first);
        self.wake();
        Ok(due)
    }

    /// Persists the arrival first: only then may the source forget the transfer.
    async fn forget_persisted(&self, transfer: Transfer) -> Result<(), LedgerError> {
        self.persist_arrival(transfer).await?;
        self.gate.forget(transfer).await
    }

    async fn orders_at_both(
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
}
