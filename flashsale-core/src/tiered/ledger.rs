//! Two tiers as one ledger: which tier takes which command, and answers which query.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Tiered, notes::Lanes, pump::Pumped};
use crate::{
    domain::{Order, OrderId, OrderKey, UserId},
    ledger::{
        Advance, Advanced, Advances, Answer, Bounds, Command, Due, Lane, Ledger, LedgerCalls as _,
        LedgerError, LedgerRole, Opened, PaymentRef, Query, Reply, Terms,
    },
};

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
            Command::Adjust(adjustment) => self.adjust_units(adjustment).await.map(Answer::Adjusted),
            Command::Reserve { lane, epoch, requests } => {
                self.admit(lane, epoch, requests).await.map(Answer::Reserved)
            }
            Command::Advance { lane, steps } => {
                self.advance_at_truth(lane, steps).await.map(Answer::Advanced)
            }
            Command::ExpireDue { lane, limit } => self.expire_at_truth(lane, limit).await.map(Answer::Due),
            Command::Forget(transfer) => self.forget_persisted(transfer).await.map(|()| Answer::Done),
            Command::Amend { activity, .. } => {
                self.truth.step(command).await?;
                // The pump retries if this fails; following now shortens the delay.
                self.notes.add(activity, Lanes::none());
                if let Err(error) = self.pump(activity).await {
                    tracing::warn!(%activity, %error, "the gate has not followed a change of terms yet");
                }
                Ok(Answer::Done)
            }
            Command::StepTime(_) => {
                // The gate follows the truth's deadlines, and then steps its own time.
                self.truth.step(command.clone()).await?;
                self.gate.step(command).await
            }
            Command::Send { .. } | Command::Receive(_) => self.gate.step(command).await,
            // The truth has one lane.
            Command::KeepUnmatched { lane, capture } => {
                let lane = Lane::first(lane.activity);
                self.truth.step(Command::KeepUnmatched { lane, capture }).await
            }
            Command::Register(_) | Command::Retire(_) => self.truth.step(command).await,
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
            Query::OrderOfPayment(payment) => {
                self.order_of_payment_at_truth(payment).await.map(Reply::Located)
            }
            Query::Locate { activity, order } => {
                Ok(Reply::Located(match self.truth.locate(activity, order).await? {
                    Some(key) => Some(key),
                    None => self.gate.locate(activity, order).await?,
                }))
            }
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
        while self.round_or_wait(terms.activity(), &Lanes::All).await? == Pumped::Waiting {}
        Ok(opened)
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
        self.notes.add(lane.activity, Lanes::none());
        Ok(answer)
    }

    async fn expire_at_truth(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError> {
        // The truth has one lane: the first lane's worker does all the work.
        let is_first = lane.bucket == 0;
        let limit = if is_first { limit } else { 0 };
        let mut due = self.truth.expire_due(Lane::first(lane.activity), limit).await?;
        due.next = due.next.filter(|_| is_first);
        if !due.expired.is_empty() || !due.closing.is_empty() {
            self.notes.add(lane.activity, Lanes::none());
        }
        Ok(due)
    }

    /// The truth has one lane, but a reference names the lane of the buyer.
    async fn order_of_payment_at_truth(&self, payment: PaymentRef) -> Result<Option<OrderKey>, LedgerError> {
        let PaymentRef { lane, payment } = payment;
        let at_truth = PaymentRef { lane: Lane::first(lane.activity), payment };
        let Some(order) = self.truth.order_of_payment(at_truth).await? else { return Ok(None) };
        let terms = self.truth.terms(lane.activity).await?;
        let is_it = |terms: &Arc<Terms>| Lane::of(lane.activity, order.user, terms.buckets()) == lane;
        Ok(terms.filter(is_it).map(|_| order))
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
