//! The ledger traits. Each method is one call of the state machine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{archive, engine::EmbeddedLedger};
use crate::{
    domain::{ActivityId, Attribution, Capture, Invalid, Order, OrderId, OrderKey, SkuId, UserId},
    ledger::{
        Adjusted, Adjustment, AdjustmentId, Advance, Advances, BatchId, Bounds, Bucket, Change, ChangeId,
        Chunk, Consumer, Due, Entry, Epoch, Fence, Gate, Kept, Lane, Ledger, LedgerError, NextEpoch, Opened,
        PersistMode, Position, Reference, RefundTask, Reservations, Reserve, Stock, Terms, TimeStep,
        Transfer, Truth, Verdict, View, state_machine::Batch,
    },
};

#[async_trait]
impl Ledger for EmbeddedLedger {
    fn bounds(&self) -> Bounds {
        EmbeddedLedger::bounds(self)
    }

    async fn open(&self, terms: Arc<Terms>) -> Result<Opened, LedgerError> {
        let known = Arc::clone(&terms);
        if let Some(opened) = self.call_of(terms.activity(), move |machine, _| machine.opened(&known)).await?
        {
            return Ok(opened);
        }
        let prepared = self.prepare(terms).await?;
        self.call(move |machine, batch| machine.open_prepared(batch, prepared)).await
    }

    async fn amend(
        &self,
        activity: ActivityId,
        id: ChangeId,
        change: Change,
        by: Attribution,
    ) -> Result<(), LedgerError> {
        self.call_of(activity, move |machine, batch| machine.amend(batch, activity, id, &change, &by)).await
    }

    async fn adjust(&self, adjustment: Adjustment) -> Result<Adjusted, LedgerError> {
        self.call_of(adjustment.activity, move |machine, batch| machine.adjust(batch, &adjustment)).await
    }

    async fn step_time(&self, step: TimeStep) -> Result<(), LedgerError> {
        self.call(move |machine, batch| machine.step_time(batch, &step).map(drop)).await
    }

    async fn reserve(
        &self,
        lane: Lane,
        epoch: Option<Epoch>,
        requests: Vec<Reserve>,
    ) -> Result<Reservations, LedgerError> {
        self.check_batch(requests.len())?;
        self.call_of(lane.activity, move |machine, batch| machine.reserve(batch, lane, epoch, &requests))
            .await
    }

    async fn advance(&self, lane: Lane, steps: Vec<Advance>) -> Result<Advances, LedgerError> {
        self.check_batch(steps.len())?;
        self.call_of(lane.activity, move |machine, batch| machine.advance(batch, lane, &steps)).await
    }

    async fn expire_due(&self, lane: Lane, limit: usize) -> Result<Due, LedgerError> {
        self.call_of(lane.activity, move |machine, batch| machine.expire_due(batch, lane, limit)).await
    }

    async fn send(
        &self,
        lane: Lane,
        to: Bucket,
        sku: SkuId,
        units: u32,
    ) -> Result<Option<Transfer>, LedgerError> {
        self.call_of(lane.activity, move |machine, batch| machine.send(batch, lane, to, sku, units)).await
    }

    async fn receive(&self, transfer: Transfer) -> Result<bool, LedgerError> {
        self.call_of(transfer.activity, move |machine, batch| machine.receive(batch, transfer)).await
    }

    async fn forget(&self, transfer: Transfer) -> Result<(), LedgerError> {
        self.call_of(transfer.activity, move |machine, batch| machine.forget(batch, transfer)).await
    }

    async fn transfers(&self, lane: Lane) -> Result<Vec<Transfer>, LedgerError> {
        self.call_of(lane.activity, move |machine, _| machine.transfers(lane)).await
    }

    async fn activities(&self) -> Result<Vec<ActivityId>, LedgerError> {
        self.call(|machine, _| Ok(machine.activities())).await
    }

    async fn terms(&self, activity: ActivityId) -> Result<Option<Arc<Terms>>, LedgerError> {
        self.read_of(
            activity,
            move |machine| machine.terms(activity),
            move |archive| Ok(archive.content(activity)?.map(|(_, content)| Arc::clone(content.terms()))),
        )
        .await
    }

    async fn stock(&self, activity: ActivityId, sku: SkuId) -> Result<Option<Stock>, LedgerError> {
        self.read_of(
            activity,
            move |machine| machine.stock(activity, sku),
            move |archive| Ok(archive.content(activity)?.and_then(|(_, content)| content.stock(sku))),
        )
        .await
    }

    async fn view(&self, lane: Lane) -> Result<View, LedgerError> {
        self.call_of(lane.activity, move |machine, batch| machine.view(batch.now, lane)).await
    }

    async fn order(&self, key: OrderKey) -> Result<Option<Order>, LedgerError> {
        self.read_of(key.activity, move |machine| machine.order(key), move |archive| archive.order(key)).await
    }

    async fn orders_of(
        &self,
        user: UserId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<Order>, LedgerError> {
        self.all_orders_of(user, after, limit).await
    }

    async fn locate(&self, reference: Reference) -> Result<Option<OrderKey>, LedgerError> {
        let (known, stored) = self
            .read_all(move |machine| machine.locate(reference), move |archive| archive.locate(reference))
            .await?;
        Ok(known.or(stored.flatten()))
    }

    async fn adjustment(
        &self,
        activity: ActivityId,
        id: &AdjustmentId,
    ) -> Result<Option<(SkuId, i64)>, LedgerError> {
        let id = id.clone();
        self.call_of(activity, move |machine, _| machine.adjustment(activity, &id)).await
    }

    async fn refunds_due(
        &self,
        lane: Lane,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Vec<RefundTask>, LedgerError> {
        self.call_of(lane.activity, move |machine, _| Ok(machine.refunds_due(lane, after, limit))).await
    }

    async fn keep_unmatched(&self, capture: Capture) -> Result<Kept, LedgerError> {
        // No order with this payment may move out of memory in between.
        let _still = self.moving.read().await;
        let (payment, archive) = (Reference::Payment(capture.payment), self.archived()?);
        if let Some(order) = archive::on_disk(move || archive.locate(payment)).await? {
            return Ok(Kept::Known(order));
        }
        self.call(move |machine, _| machine.keep_unmatched(&capture)).await
    }

    async fn archive(&self, activity: ActivityId) -> Result<bool, LedgerError> {
        self.move_out(activity).await
    }

    async fn register(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        let consumer = consumer.clone();
        self.call(move |machine, _| {
            machine.register(&consumer);
            Ok(())
        })
        .await
    }

    async fn retire(&self, consumer: &Consumer) -> Result<(), LedgerError> {
        let consumer = consumer.clone();
        self.call(move |machine, _| {
            machine.retire(&consumer);
            Ok(())
        })
        .await
    }

    async fn events(
        &self,
        consumer: &Consumer,
        lane: Lane,
        from: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        let consumer = consumer.clone();
        self.call_of(lane.activity, move |machine, _| machine.events(&consumer, lane, from, limit)).await
    }

    async fn ack(&self, consumer: &Consumer, lane: Lane, position: Position) -> Result<(), LedgerError> {
        let consumer = consumer.clone();
        self.call_of(lane.activity, move |machine, _| machine.ack(&consumer, lane, position)).await
    }
}

#[async_trait]
impl Gate for EmbeddedLedger {
    async fn epoch(&self, activity: ActivityId) -> Result<Option<Epoch>, LedgerError> {
        self.call(move |machine, _| Ok(machine.open_epoch(activity))).await
    }

    async fn close(&self, activity: ActivityId, epoch: Epoch) -> Result<(), LedgerError> {
        self.call(move |machine, _| {
            machine.close(activity, epoch);
            Ok(())
        })
        .await
    }

    async fn load(&self, activity: ActivityId, epoch: Epoch, chunk: Chunk) -> Result<(), LedgerError> {
        self.call(move |machine, _| machine.load(activity, epoch, chunk)).await
    }

    async fn reopen(&self, activity: ActivityId, epoch: Epoch, batch: BatchId) -> Result<(), LedgerError> {
        self.call(move |machine, Batch { now, .. }| machine.reopen(Batch { id: batch, now }, activity, epoch))
            .await
    }

    async fn follow(&self, lane: Lane, entries: Vec<Entry>) -> Result<(), LedgerError> {
        self.call(move |machine, _| machine.follow(lane, &entries)).await
    }

    async fn followed(&self, lane: Lane) -> Result<Position, LedgerError> {
        self.call(move |machine, _| machine.followed(lane)).await
    }
}

#[async_trait]
impl Truth for EmbeddedLedger {
    async fn persist(
        &self,
        lane: Lane,
        fence: Fence,
        mode: PersistMode,
        entries: Vec<Entry>,
    ) -> Result<Vec<Verdict>, LedgerError> {
        self.call(move |machine, batch| machine.persist(batch, lane, fence, mode, &entries)).await
    }

    async fn position(&self, lane: Lane) -> Result<Position, LedgerError> {
        self.call(move |machine, _| machine.position(lane)).await
    }

    async fn epoch(&self, activity: ActivityId) -> Result<Epoch, LedgerError> {
        self.call(move |machine, _| machine.epoch(activity)).await
    }

    async fn next_epoch(&self, activity: ActivityId, expected: Epoch) -> Result<NextEpoch, LedgerError> {
        self.call(move |machine, batch| machine.next_epoch(batch, activity, expected)).await
    }

    async fn content(
        &self,
        activity: ActivityId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<Chunk, LedgerError> {
        self.call(move |machine, _| machine.content(activity, after, limit)).await
    }
}

impl EmbeddedLedger {
    fn check_batch(&self, items: usize) -> Result<(), LedgerError> {
        let most = EmbeddedLedger::bounds(self).max_batch;
        if items <= most {
            return Ok(());
        }
        Err(Invalid::new("batch", format!("has {items} items, but the ledger accepts at most {most}")).into())
    }
}
