//! Two tiers as one ledger under test: each call settles before it returns, and returns orders as
//! the truth has them. `storms` tests faults between the tiers.

use std::sync::Arc;

use async_trait::async_trait;
use flashsale_core::{
    conformance::{Factory, LedgerUnderTest, Model, Pair, TestControl},
    domain::{ActivityId, Attribution, Capture, Order, OrderId, OrderKey, SkuId, Timestamp, UserId},
    ledger::{
        Adjusted, Adjustment, AdjustmentId, Advance, Advances, Bounds, Bucket, Change, ChangeId, Consumer,
        Due, Entry, Epoch, Fence, Kept, Lane, Ledger, LedgerError, LedgerRole, Opened, Outcome, Position,
        Reference, RefundTask, Reservations, Reserve, Stock, Terms, TimeStep, Transfer, View,
        state_machine::Inspection,
    },
    tiered::{Tiered, TieredOptions},
};

/// Makes two empty ledgers in memory for a storm.
pub(crate) fn pair() -> Pair {
    let (gate, truth) = (Model::new(LedgerRole::Gate), Model::new(LedgerRole::Truth));
    Pair { gate: gate.clone(), gate_store: gate, truth: truth.clone(), truth_store: truth }
}

/// Makes [`Tiered`] ledgers over two ledgers in memory.
pub(crate) struct TwoTiers;

#[async_trait]
impl Factory for TwoTiers {
    fn name(&self) -> String {
        "two tiers, settled".to_owned()
    }

    fn roles(&self) -> Vec<LedgerRole> {
        vec![LedgerRole::Single]
    }

    /// A truth has one stock row per offer, so several buckets would differ from a single ledger's.
    fn max_buckets(&self) -> u16 {
        1
    }

    async fn fresh(&self, _: LedgerRole) -> LedgerUnderTest {
        let (gate, truth) = (Model::new(LedgerRole::Gate), Model::new(LedgerRole::Truth));
        let tiered =
            Tiered::new(Arc::clone(&gate) as _, Arc::clone(&truth) as _, Fence(1), TieredOptions::default());
        let settled = Arc::new(Settled { tiered, gate, truth });
        LedgerUnderTest::single(Arc::clone(&settled) as _, settled)
    }
}

/// Two tiers that settle after each call.
#[derive(Debug)]
struct Settled {
    tiered: Tiered,
    gate: Arc<Model>,
    truth: Arc<Model>,
}

impl Settled {
    async fn settled<T>(
        &self,
        activity: ActivityId,
        answer: Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        match self.tiered.settle(activity).await {
            Ok(()) | Err(LedgerError::NotOpen) => answer,
            Err(error) => panic!("the tiers failed to settle: {error}"),
        }
    }
}

#[async_trait]
impl TestControl for Settled {
    async fn inspect(&self, activity: ActivityId) -> Option<Inspection> {
        self.truth.inspect(activity).await
    }

    async fn advance_time(&self, lane: Lane, to: Timestamp) {
        self.gate.advance_time(lane, to).await;
        self.truth.advance_time(lane, to).await;
    }

    async fn settle(&self) {
        for activity in self.truth.activities().await.expect("`activities` succeeds") {
            self.settled(activity, Ok(())).await.expect("settling succeeds");
        }
    }

    async fn restart(&self) -> Option<LedgerUnderTest> {
        None
    }
}

#[async_trait]
impl Ledger for Settled {
    fn bounds(&self) -> Bounds {
        self.tiered.bounds()
    }

    async fn open(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError> {
        let activity = terms.activity();
        let answer = self.tiered.open(terms).await;
        self.settled(activity, answer).await
    }

    async fn amend(
        &self,
        activity: ActivityId,
        id: ChangeId,
        change: Change,
        by: Attribution,
    ) -> Result<(), LedgerError> {
        let answer = self.tiered.amend(activity, id, change, by).await;
        self.settled(activity, answer).await
    }

    async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
        let activity = adjustment.activity;
        let answer = self.tiered.adjust(adjustment).await;
        self.settled(activity, answer).await
    }

    async fn step_time(&self, step: TimeStep) -> Result<(), LedgerError> {
        self.tiered.step_time(step).await?;
        self.settle().await;
        Ok(())
    }

    async fn reserve(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        batch: Vec<Reserve>,
    ) -> Result<Reservations, LedgerError> {
        let answer = self.tiered.reserve(lane, epoch, batch).await;
        let mut answer = self.settled(lane.activity, answer).await?;
        for outcome in &mut answer.outcomes {
            if let Outcome::Reserved { order, .. } | Outcome::Replayed(order) = outcome {
                **order = self.tiered.order(order.key).await?.expect("the truth has the order");
            }
        }
        Ok(answer)
    }

    async fn advance(&self, lane: Lane, batch: Vec<Advance>) -> Result<Advances, LedgerError> {
        let activity = lane.activity;
        let answer = self.tiered.advance(lane, batch).await;
        self.settled(activity, answer).await
    }

    async fn expire_due(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError> {
        let activity = lane.activity;
        let answer = self.tiered.expire_due(lane, limit).await;
        self.settled(activity, answer).await
    }

    async fn send(
        &self,
        lane: Lane,
        to: Bucket,
        sku: SkuId,
        units: u32,
    ) -> Result<Option<Transfer>, LedgerError> {
        self.tiered.send(lane, to, sku, units).await
    }

    async fn receive(&self, transfer: Transfer) -> Result<bool, LedgerError> {
        self.tiered.receive(transfer).await
    }

    async fn forget(&self, transfer: Transfer) -> Result<(), LedgerError> {
        self.tiered.forget(transfer).await
    }

    async fn transfers(&self, lane: Lane) -> Result<Vec<Transfer>, LedgerError> {
        self.tiered.transfers(lane).await
    }

    async fn activities(&self) -> Result<Vec<ActivityId>, LedgerError> {
        self.tiered.activities().await
    }

    async fn terms(&self, activity: ActivityId) -> Result<Option<Arc<Terms>>, LedgerError> {
        self.tiered.terms(activity).await
    }

    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<Option<Stock>, LedgerError> {
        self.tiered.stock(activity, sku).await
    }

    async fn view(&self, lane: Lane) -> Result<View, LedgerError> {
        self.tiered.view(lane).await
    }

    async fn order(&self, key: OrderKey) -> Result<Option<Order>, LedgerError> {
        self.tiered.order(key).await
    }

    async fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, LedgerError> {
        self.tiered.orders_of(user, after, limit).await
    }

    async fn locate(&self, reference: Reference) -> Result<Option<OrderKey>, LedgerError> {
        self.tiered.locate(reference).await
    }

    async fn adjustment(
        &self,
        activity: ActivityId,
        id: &AdjustmentId,
    ) -> Result<Option<(SkuId, i64)>, LedgerError> {
        self.tiered.adjustment(activity, id).await
    }

    async fn refunds_due(
        &self,
        lane: Lane,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<RefundTask>, LedgerError> {
        self.tiered.refunds_due(lane, after, limit).await
    }

    async fn keep_unmatched(&self, capture: Capture) -> Result<Kept, LedgerError> {
        self.tiered.keep_unmatched(capture).await
    }

    async fn register(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.tiered.register(consumer).await
    }

    async fn retire(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        self.tiered.retire(consumer).await
    }

    async fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        self.tiered.events(consumer, lane, from, limit).await
    }

    async fn ack(&self, consumer: &Consumer, lane: Lane, position: Position) -> Result<(), LedgerError> {
        self.tiered.ack(consumer, lane, position).await
    }
}
